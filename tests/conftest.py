# SPDX-License-Identifier: Apache-2.0
"""The server that most tests want. What they import is in servers/ (pytest.ini)."""

from __future__ import annotations

import os

import pytest
import servers
import weir

# libmongoc says so on stderr when it finds the shared memory of a process that was killed and had
# the same id: with many killed ones that happens.
os.environ["MONGOC_DISABLE_SHM"] = "1"

# Nobody is refused or sent away because the machine was busy with something else for a moment; what
# is about refusals and deadlines says how long these are.
weir.usual |= {"--max-wait": "60s", "--handshake-timeout": "60s"}


@pytest.fixture(scope="module")
def secantus():
    """The server that can be had everywhere and has failpoints."""
    reason = servers.why_not("secantus")
    if reason:
        pytest.skip(f"secantus: {reason}")
    with servers.start("secantus") as server:
        yield server
