# SPDX-License-Identifier: Apache-2.0
"""The network fails, on the way to the server or on the way to the app: a relay stands there."""

from __future__ import annotations

import pytest
import weir
from crowd import Crowd, until
from relay import DOWN, UP, BlackHole, Cut, Latency, Relay, Stall, Trickle, direct

APPS = 16
CAP = 4
ENOUGH = ("--max-wait", "20s")


@pytest.fixture
def upstream(secantus):
    """weir, a relay, the server."""
    with Relay(secantus.address) as relay:
        with weir.Weir(direct(relay), *ENOUGH, cap=CAP) as proxy:
            yield relay, proxy


@pytest.fixture
def downstream(secantus):
    """The apps, a relay, weir."""
    with weir.Weir(secantus.uri, *ENOUGH, cap=CAP) as proxy, Relay(proxy.address) as relay:
        yield relay, proxy


# Where in a message it ends: before it, in its header, in its body, far behind it.
@pytest.mark.parametrize("at", (0, 7, 50, 5000))
@pytest.mark.parametrize("how", ("close", "reset", "half"))
@pytest.mark.parametrize("direction", (UP, DOWN))
def test_connections_to_the_server_end(secantus, upstream, direction, how, at):
    relay, proxy = upstream
    with Crowd(proxy, APPS) as crowd:
        crowd.wait_for("ok", 50)
        relay.set(Cut(at, how), direction)
        proxy.wait_for("upstream_down")
        crowd.wait_for("lost")
        relay.heal()
        crowd.wait_for("ok", 50)
    crowd.assert_saw("ok", "lost")
    crowd.assert_truthful(secantus)
    proxy.wait_until_at_rest()


@pytest.mark.parametrize("at", (0, 7, 50, 5000))
@pytest.mark.parametrize("how", ("close", "reset", "half"))
@pytest.mark.parametrize("direction", (UP, DOWN))
def test_connections_to_the_app_end(secantus, downstream, direction, how, at):
    relay, proxy = downstream
    with Crowd(relay, APPS) as crowd:
        crowd.wait_for("ok", 50)
        relay.set(Cut(at, how), direction)
        crowd.wait_for("ended", APPS)
        relay.heal()
        crowd.wait_for("ok", 50)
    crowd.assert_saw("ok", "ended")
    crowd.assert_truthful(secantus)
    assert proxy.count("upstream_down") == 0
    proxy.wait_until_at_rest()
