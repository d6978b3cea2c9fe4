# SPDX-License-Identifier: Apache-2.0
"""The server that most tests want. What they import is in servers/ (pytest.ini)."""

from __future__ import annotations

import os

import pytest
import servers

# libmongoc says so on stderr when it finds the shared memory of a process that was killed and had
# the same id: with many killed ones that happens.
os.environ["MONGOC_DISABLE_SHM"] = "1"


@pytest.fixture(scope="module")
def secantus():
    """The server that can be had everywhere and has failpoints."""
    reason = servers.why_not("secantus")
    if reason:
        pytest.skip(f"secantus: {reason}")
    with servers.start("secantus") as server:
        yield server
