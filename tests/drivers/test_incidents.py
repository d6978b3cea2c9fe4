# SPDX-License-Identifier: Apache-2.0
"""Incidents whose cause is known, on real servers (and on the stub set, where no real one does it to
order): what the verdict of the record says. What is usual comes first, for as long as it takes weir
to know it; then what goes wrong. A slow shape: test_exhaustions.py."""

from __future__ import annotations

import concurrent.futures
import contextlib
import threading
import time

import pymongo
import pytest
import raw
import servers
import weir
from stubset import StubSet

USUAL_S = 6  # the verdict wants three, and leaves out the last two before the begin
GOES_ON_S = 5  # so long it lasts: until the onset (3 s) is past
ARGUMENTS = ["--max-wait", "40ms", "--limit", "fixed", "--threads", "1"]


class Crowd:
    """Apps on one connection each, which ask, take the answer whatever it is, and think."""

    def __init__(self, proxy: weir.Weir):
        self._proxy = proxy
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []
        self.think_s = 0.05

    def add(self, count: int, ask, app: str = "shop") -> None:
        for number in range(count):
            thread = threading.Thread(target=self._live, args=(ask, app, number), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _live(self, ask, app: str, number: int) -> None:
        with raw.Connection.to(self._proxy.address) as connection, contextlib.suppress(raw.Ended):
            connection.ask({"hello": 1, "client": {"application": {"name": app}}}, db="admin")
            turn = number
            self._over.wait(number * 0.02)  # they come one after the other
            while not self._over.wait(self.think_s):
                ask(connection, turn)
                turn += 1

    def __enter__(self) -> Crowd:
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(20)


SHAPES = (
    {"find": "orders", "filter": {"a": 1}, "limit": 1},
    {"count": "orders", "query": {"b": 1}},
    {"distinct": "orders", "key": "c"},
)


def find(connection: raw.Connection, turn: int) -> None:
    connection.ask(SHAPES[0])


def mixed(connection: raw.Connection, turn: int) -> None:
    connection.ask(SHAPES[turn % len(SHAPES)])


def slow(server, ms: int):
    commands = [next(iter(shape)) for shape in SHAPES]
    return server.failing(commands, "alwaysOn", blockConnection=True, blockTimeMS=ms)


def live_as_usual(proxy: weir.Weir) -> int:
    """Until weir knows what is usual; how many exhaustions there were until then. There should be
    none, but a machine that stands still for a moment makes one."""
    while True:
        begun = proxy.count("exhaustion_begin")
        time.sleep(USUAL_S)  # no event tells it: what is usual is a matter of time
        if begun == proxy.count("exhaustion_begin") == proxy.count("exhaustion_end"):
            return begun


def go_on(proxy: weir.Weir, usual: int) -> None:
    """Until an exhaustion that has begun now has lasted."""
    StubSet.wait_until(lambda: proxy.count("exhaustion_begin") > usual, within=30)
    StubSet.wait_until(
        lambda: (now := record_of_now(proxy))["_id"] == "now" or now["duration"] >= GOES_ON_S, within=30
    )


def record_of_now(proxy: weir.Weir) -> dict:
    (verdict,) = proxy.order("verdict")["state"]["verdicts"]
    return verdict


def check(proxy: weir.Weir, usual: int, cause: str) -> dict:
    """That the longest of those that have begun since is said to be of that cause; its record."""
    StubSet.wait_until(
        lambda: proxy.count("exhaustion_begin") == proxy.count("exhaustion_end") > usual, within=30
    )
    with pymongo.MongoClient(proxy.uri) as client:
        found = max([*client.weir.exhaustions.find()][usual:], key=lambda one: one["duration"])
    scores = [(one["cause"], round(one["score"], 2)) for one in found["causes"]]
    assert found["cause"] == cause, (scores, found["verdict"], found["duration"], found["shapes"])
    assert found["remedies"]
    return found


@contextlib.contextmanager
def orders():
    with servers.start("secantus") as server:
        server.client().test.orders.insert_one({"a": 1, "b": 1, "c": 1})
        yield server


def a_traffic_spike():
    """Everybody who thought between requests asks without a pause."""
    with orders() as server, slow(server, 10), weir.Weir(server.uri, *ARGUMENTS, cap=2) as proxy:
        with Crowd(proxy) as crowd:
            crowd.think_s = 0.8
            crowd.add(20, find, app="shop")
            usual = live_as_usual(proxy)
            crowd.think_s = 0
            go_on(proxy, usual)
        found = check(proxy, usual, "traffic_spike")
        assert "shop asked" in found["verdict"]


def more_dynos_than_the_cap_can_serve():
    """Three times the apps, each of which asks as much as before."""
    with orders() as server, slow(server, 10), weir.Weir(server.uri, *ARGUMENTS, cap=3) as proxy:
        with Crowd(proxy) as crowd:
            crowd.add(8, find)
            usual = live_as_usual(proxy)
            crowd.add(24, find)
            go_on(proxy, usual)
        check(proxy, usual, "pools_too_large")


def a_deployment_that_is_slow_as_a_whole():
    with orders() as server, contextlib.ExitStack() as stack:
        proxy = stack.enter_context(weir.Weir(server.uri, *ARGUMENTS, cap=3))
        stack.enter_context(slow(server, 5))
        with Crowd(proxy) as crowd:
            crowd.add(8, mixed)
            usual = live_as_usual(proxy)
            stack.enter_context(slow(server, 60))
            go_on(proxy, usual)
        found = check(proxy, usual, "slow_deployment")
        assert found["deployment"]["state"] == "answered"


def delay(stub: StubSet, s: float):
    return stub.fail(*(next(iter(shape)) for shape in SHAPES), times=None, delay_s=s)


def a_server_that_dies_and_comes_back():
    """More have waited for it than there are permits, and it is slow until that was seen: so they
    run out, as they do for nobody else."""
    arguments = ["--max-wait", "60s", "--server-wait", "60s", "--limit", "fixed", "--slow-share", "1"]
    with StubSet(members=1) as stub, weir.Weir(stub.uri, *arguments, cap=4) as proxy:
        with contextlib.ExitStack() as stack, Crowd(proxy) as crowd:
            late = [stack.enter_context(raw.Connection.to(proxy.address)) for _ in range(12)]
            delay(stub, 0.02)
            crowd.add(3, mixed)
            usual = live_as_usual(proxy)
            stub.kill(0)
            proxy.wait_for("server_down")
            for connection in late:
                connection.post(SHAPES[0])
            StubSet.wait_until(lambda: proxy.state()["queued"] >= len(late))
            time.sleep(2)  # no event tells it: for so long it is away at least
            stub.heal()
            held = delay(stub, 60)
            stub.restart(0)
            StubSet.wait_until(lambda: proxy.count("exhaustion_begin") > usual, within=30)
            stub.heal()
            delay(stub, 0.02)
            stub.let_go(held)
            for connection in late:
                assert connection.receive()
        check(proxy, usual, "member_lost")


def a_server_at_its_own_limit_of_connections():
    """It takes no more than it has, or nearly; weir's cap allows more. There are always more who ask
    than the cap has permits."""
    with StubSet(members=1) as stub, weir.Weir(stub.uri, *ARGUMENTS, cap=20) as proxy:
        delay(stub, 0.02)
        with Crowd(proxy) as crowd:
            crowd.add(4, mixed)
            usual = live_as_usual(proxy)
            stub.refuse_above(0, stub.tally(0).open + 4)
            crowd.think_s = 0
            crowd.add(28, mixed)
            go_on(proxy, usual)
        found = check(proxy, usual, "connection_limit")
        assert found["upstreams"]["openFailures"] > 0
        assert proxy.count("server_down") == 0  # nor does who asks it about itself make it so


def leak(connection: raw.Connection, turn: int) -> None:
    """Opens a cursor, and goes on without it."""
    connection.ask({"find": "things", "batchSize": 2})


def cursors_that_an_app_leaves_open():
    """Behind a load balancer each keeps its connection, so that soon nobody can open one more."""
    with StubSet("load_balanced", 1) as stub, weir.Weir(stub.uri, *ARGUMENTS, cap=8) as proxy:
        with pymongo.MongoClient(proxy.uri) as client:
            client.test.things.insert_many([{"_id": number} for number in range(20)])
        with Crowd(proxy) as crowd:
            crowd.add(4, find)
            usual = live_as_usual(proxy)
            crowd.add(4, leak, app="leaky")
            go_on(proxy, usual)
            found = record_of_now(proxy)
        assert found["cause"] == "leak", found["causes"]
        (leaky,) = [one for one in found["left"]["owners"] if one["app"] == "leaky"]
        assert leaky["cursors"] == 4 and leaky["shape"].startswith("find test.things")
        check(proxy, usual, "leak")


def an_app_that_opens_a_connection_for_each_request():
    def come(proxy: weir.Weir) -> None:
        with raw.Connection.to(proxy.address) as connection, contextlib.suppress(raw.Ended):
            connection.ask({"hello": 1, "client": {"application": {"name": "php"}}}, db="admin")
            find(connection, 0)

    with orders() as server, slow(server, 20), weir.Weir(server.uri, *ARGUMENTS, cap=2) as proxy:
        with Crowd(proxy) as crowd:
            crowd.add(4, find)
            usual = live_as_usual(proxy)
            crowd.add(16, lambda _connection, _turn: come(proxy))
            go_on(proxy, usual)
        check(proxy, usual, "connection_storm")


INCIDENTS = (
    a_traffic_spike,
    more_dynos_than_the_cap_can_serve,
    a_deployment_that_is_slow_as_a_whole,
    a_server_that_dies_and_comes_back,
    a_server_at_its_own_limit_of_connections,
    cursors_that_an_app_leaves_open,
    an_app_that_opens_a_connection_for_each_request,
)


@pytest.fixture(scope="module")
def played():
    """They mostly wait: three at a time."""
    if reason := servers.why_not("secantus"):
        pytest.skip(f"secantus: {reason}")
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        yield {incident: pool.submit(incident) for incident in INCIDENTS}


@pytest.mark.parametrize("incident", INCIDENTS, ids=lambda incident: incident.__name__)
def test_incident(played, incident):
    first = played.pop(incident, None)
    if first:
        first.result()
    else:  # repeated, as CONTRIBUTING.md says
        incident()
