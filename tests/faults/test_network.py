# SPDX-License-Identifier: Apache-2.0
"""The network fails, on the way to the server or on the way to the app: a relay stands there."""

from __future__ import annotations

import itertools

import pytest
import weir
from crowd import Crowd
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
PLACES = (0, 7, 50, 5000)
CUTS = list(itertools.product((UP, DOWN), ("close", "reset", "half"), PLACES))


@pytest.mark.parametrize("direction, how, at", CUTS)
def test_connections_to_the_server_end(secantus, upstream, direction, how, at):
    """Of writes, that is: a read is sent again."""
    relay, proxy = upstream
    with Crowd(proxy.address, APPS, reads=False) as crowd:
        crowd.wait_for_more("ok", 50)
        relay.set(Cut(at, how), direction)
        proxy.wait_for("upstream_down", **{"while": "open"})
        relay.heal()
        crowd.wait_for_more("ok", 50)
    crowd.assert_saw("ok", may=("lost",))
    crowd.assert_truthful(secantus)
    proxy.wait_until_at_rest()


@pytest.mark.parametrize("direction, how, at", CUTS)
def test_connections_to_the_app_end(secantus, downstream, direction, how, at):
    relay, proxy = downstream
    with Crowd(relay.address, APPS) as crowd:
        crowd.wait_for_more("ok", 50)
        relay.set(Cut(at, how), direction)
        crowd.wait_for("ended", APPS)
        relay.heal()
        crowd.wait_for_more("ok", 50)
    crowd.assert_saw("ok", "ended")
    crowd.assert_truthful(secantus)
    assert proxy.count("upstream_down") == 0
    proxy.wait_until_at_rest()


# What is slow is not broken: nobody sees anything but good answers.
SLOW = {"one byte at a time": Trickle(), "200 ms": Latency(0.2), "stall": Stall()}


@pytest.mark.parametrize("case", SLOW)
@pytest.mark.parametrize("direction", (UP, DOWN))
@pytest.mark.parametrize("side", ("upstream", "downstream"))
def test_the_way_is_slow(secantus, request, side, direction, case):
    relay, proxy = request.getfixturevalue(side)
    with Crowd((relay if side == "downstream" else proxy).address, APPS) as crowd:
        crowd.wait_for_more("ok", 50)
        relay.set(SLOW[case], direction)
        relay.wait_for_hits(CAP)
        relay.heal()
        crowd.wait_for_more("ok", 50)
    crowd.assert_saw("ok")
    crowd.assert_truthful(secantus)
    assert proxy.count("upstream_down") == 0
    proxy.wait_until_at_rest()


def test_the_way_to_the_server_is_a_black_hole(secantus):
    """What fell in is waited for until the connections are known to be dead. A kernel that gets no
    acknowledgements knows that after 30 s; the relay acknowledges, so it has to say so."""
    patience = ("--max-wait", "20s", "--server-wait", "500ms")
    with Relay(secantus.address) as relay:
        with weir.Weir(f"{direct(relay)}&connectTimeoutMS=1000", *patience, cap=CAP) as proxy:
            with Crowd(proxy.address, APPS, reads=False) as crowd:
                crowd.wait_for_more("ok", 50)
                relay.set(BlackHole())
                proxy.wait_for("no_writable_server")
                crowd.wait_for("not sent")
                relay.heal()
                relay.reset_swallowed()
                proxy.wait_for("upstream_down", **{"while": "open"})
                crowd.wait_for_more("ok", 50)
            crowd.assert_saw("ok", "not sent", may=("lost",))
            crowd.assert_truthful(secantus)
            proxy.wait_until_at_rest()


@pytest.mark.parametrize("direction", (UP, DOWN))
def test_the_way_to_some_apps_is_a_black_hole(secantus, downstream, direction):
    """Others are served as before."""
    relay, proxy = downstream
    with Crowd(relay.address, APPS) as lost, Crowd(proxy.address, APPS) as crowd:
        lost.wait_for_more("ok", 50)
        relay.set(BlackHole(), direction)
        relay.wait_for_hits(APPS)
        crowd.wait_for_more("ok", 200)
        relay.heal()
        relay.reset_swallowed()
        lost.wait_for("ended", APPS)
        lost.wait_for_more("ok", 50)
    lost.assert_saw("ok", "ended")
    crowd.assert_saw("ok")
    lost.assert_truthful(secantus)
    crowd.assert_truthful(secantus)
    proxy.wait_until_at_rest()
