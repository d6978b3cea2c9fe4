# SPDX-License-Identifier: Apache-2.0
"""The server that most tests want. What they import is in servers/ (pytest.ini)."""

from __future__ import annotations

import pytest
import servers


@pytest.fixture(scope="module")
def secantus():
    """The server that can be had everywhere and has failpoints."""
    reason = servers.why_not("secantus")
    if reason:
        pytest.skip(f"secantus: {reason}")
    with servers.start("secantus") as server:
        yield server
