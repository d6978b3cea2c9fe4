# SPDX-License-Identifier: Apache-2.0
"""The server fails, in earnest: it is killed, paused, full, or has the wrong certificate."""

from __future__ import annotations

import pytest
import servers
import weir
from crowd import Crowd

APPS = 16


@pytest.mark.parametrize("kind", ("secantus", "ferretdb"))
def test_killed_under_load_and_restarted(kind):
    if reason := servers.why_not(kind):
        pytest.skip(f"{kind}: {reason}")
    with servers.start(kind) as server, weir.Weir(server.uri, "--max-wait", "5s") as proxy:
        with Crowd(proxy, APPS, reads=False) as crowd:
            crowd.wait_for("ok", 200)
            server.kill()
            crowd.wait_for("lost")
            proxy.wait_for("upstream_down", reason="closed by the server")
            server.restart()
            crowd.wait_for("ok", 200)
        crowd.assert_saw("ok", "lost")
        crowd.assert_truthful(server, forgets=kind == "secantus")  # its data is not on disk yet
        proxy.wait_until_at_rest()
