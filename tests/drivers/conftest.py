# SPDX-License-Identifier: Apache-2.0
"""Finds ../servers, and starts the server that most tests beside this file want."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "servers"))

import servers  # noqa: E402


@pytest.fixture(scope="module")
def secantus():
    """The server that can be had everywhere and has failpoints."""
    reason = servers.why_not("secantus")
    if reason:
        pytest.skip(f"secantus: {reason}")
    with servers.start("secantus") as server:
        yield server
