# SPDX-License-Identifier: Apache-2.0
"""What a refusal tells whom: clients that say in hello that they back off each have a turn of their
own to come back at; the others, which do not come back, are counted apart; connections over the
limit are greeted, and only what they ask for is refused."""

from __future__ import annotations

import contextlib
import threading
import time

import pymongo
import pytest
import raw
import weir
from pymongo.errors import OperationFailure
from pymongo.monitoring import ConnectionPoolListener, ServerListener
from stub_server import StubServer, fine

CROWD = 20
HELD_S = 0.2


@pytest.fixture
def stub():
    with StubServer() as stub:
        yield stub


class Disturbances(ConnectionPoolListener, ServerListener):
    """What happens to a driver's pool and server that should not."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def pool_cleared(self, _) -> None:
        self.seen.append("pool cleared")

    def description_changed(self, event) -> None:
        if event.previous_description.is_server_type_known:
            self.seen.append(event.new_description.server_type_name)

    def _ignore(self, _) -> None:
        pass

    pool_created = pool_ready = pool_closed = connection_created = connection_ready = _ignore
    connection_closed = connection_check_out_started = connection_check_out_failed = _ignore
    connection_checked_out = connection_checked_in = opened = closed = _ignore


@contextlib.contextmanager
def all_permits_held(stub, proxy):
    """By one command, for HELD_S already."""
    came, let_go = threading.Event(), threading.Event()

    def script(asked) -> None:
        if asked.document.get("comment") == "hold":
            came.set()
            assert let_go.wait(60)
        fine(asked)

    stub.script = script
    with raw.Connection.to(proxy.address) as holder:
        held = holder.post({"count": "things", "comment": "hold"})
        assert came.wait(60)
        time.sleep(HELD_S)
        yield
        let_go.set()
        assert holder.reply_to(held)["ok"] == 1


def refused(proxy, hello: dict) -> int:
    """Asks on a connection that began with this hello; what it is told to wait."""
    with raw.Connection.to(proxy.address) as connection:
        assert connection.ask({"hello": 1, **hello}, db="admin")["ok"] == 1
        reply = connection.ask({"find": "things"})
        assert (reply["ok"], reply["code"]) == (0, 462)
        assert sorted(reply["errorLabels"]) == ["RetryableError", "SystemOverloadedError"]
        return reply["baseBackoffMS"]


def greeted(stack, proxy) -> raw.Connection:
    connection = stack.enter_context(raw.Connection.to(proxy.address))
    assert connection.hello()["ok"] == 1
    return connection


def wait_for_clients(proxy, most: int) -> None:
    deadline = time.monotonic() + 60
    while proxy.state()["clients"] > most:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_connections_over_the_limit_are_greeted_and_wait_for_a_place(stub):
    with (
        weir.Weir(stub.uri, "--max-incoming-connections", "4") as proxy,
        contextlib.ExitStack() as stack,
    ):
        served = [greeted(stack, proxy) for _ in range(4)]
        one_more = greeted(stack, proxy)
        proxy.wait_for("client_without_place")
        refusal = one_more.ask({"find": "things"})
        assert (refusal["ok"], refusal["code"]) == (0, 462)
        assert sorted(refusal["errorLabels"]) == ["RetryableError", "SystemOverloadedError"]
        assert refusal["baseBackoffMS"] > 0
        assert one_more.hello()["ok"] == 1, "it is not closed, and can go on asking"
        assert all(connection.ask({"ping": 1})["ok"] == 1 for connection in served)
        with raw.Connection.to(proxy.address) as two_more:
            assert two_more.is_ended(), "a quarter of four is one"
        proxy.wait_for("client_refused")
        served.pop().stream.close()
        wait_for_clients(proxy, 4)
        assert one_more.ask({"find": "things"})["ok"] == 1, "a place came free"
        last = greeted(stack, proxy)
        assert last.ask({"find": "things"})["code"] == 462
        assert one_more.ask({"find": "things"})["ok"] == 1, "a place is kept"


def test_a_driver_over_the_limit_keeps_its_pool(secantus):
    """Its operation is refused; nothing is cleared, no server marked unknown, and then it goes on."""
    disturbances = Disturbances()
    with (
        weir.Weir(secantus.uri, "--max-incoming-connections", "12") as proxy,
        contextlib.ExitStack() as stack,
    ):
        served = [greeted(stack, proxy) for _ in range(12)]
        client = stack.enter_context(
            pymongo.MongoClient(proxy.uri, event_listeners=[disturbances], maxPoolSize=1)
        )
        with pytest.raises(OperationFailure) as refusal:
            client.test.things.find_one()
        assert refusal.value.code == 462
        for connection in served:
            connection.stream.close()
        wait_for_clients(proxy, 3)
        client.test.things.find_one()
        assert disturbances.seen == []


@pytest.mark.parametrize("says", ["2", True], ids=["text", "bool"])
def test_a_crowd_does_not_come_back_as_one_wave(stub, says):
    arguments = ("--max-wait", "0", "--slow-op-threshold", "1h")  # all are in one lane
    with weir.Weir(stub.uri, *arguments, cap=1) as proxy, all_permits_held(stub, proxy):
        turns = [refused(proxy, {"backpressure": says}) for _ in range(CROWD)]
        silent = refused(proxy, {})
        denies = refused(proxy, {"backpressure": False})
    assert turns == sorted(turns) and turns[-1] <= 10_000
    assert turns[-1] >= min(10_000, CROWD * HELD_S * 1000)
    assert max(silent, denies) <= turns[-1] / 2, "a turn of its own, and it does not come back"


def test_clients_that_do_not_back_off_are_counted_apart(stub):
    with weir.Weir(stub.uri, "--max-wait", "0", cap=1) as proxy:
        with all_permits_held(stub, proxy):
            for _ in range(3):
                refused(proxy, {})
            for _ in range(2):
                refused(proxy, {"backpressure": "2"})
        end = proxy.wait_for("exhaustion_end")
        assert (end["shed_max_wait"], end["shed_without_backoff"]) == ("5", "3")
        # The next one counts from the beginning.
        with all_permits_held(stub, proxy):
            refused(proxy, {"backpressure": "2"})
        end = proxy.wait_for("exhaustion_end", shed_max_wait="1")
        assert end["shed_without_backoff"] == "0"


def test_state_tells_how_many_they_are(stub):
    with weir.Weir(stub.uri) as proxy, contextlib.ExitStack() as stack:
        for hello in [{}, {}, {"backpressure": "2"}]:
            connection = stack.enter_context(raw.Connection.to(proxy.address))
            connection.ask({"hello": 1, **hello}, db="admin")
        silent = stack.enter_context(raw.Connection.to(proxy.address))
        deadline = time.monotonic() + 60
        while (state := proxy.state())["clients"] < 4:
            assert time.monotonic() < deadline
        assert (state["clients"], state["clients_without_backoff"]) == (4, 2)
        silent.ask({"hello": 1}, db="admin")
        assert proxy.state()["clients_without_backoff"] == 3


def test_a_servers_own_refusal_is_passed_on(stub):
    """But for the label on which some drivers report success."""
    labels = ["SystemOverloadedError", "RetryableError", "NoWritesPerformed"]
    error = {"ok": 0.0, "code": 462, "codeName": "IngressRequestRateLimitExceeded", "errmsg": "no"}
    stub.script = lambda asked: asked.connection.send(
        asked.answer({**error, "errorLabels": labels, "baseBackoffMS": 250})
    )
    with weir.Weir(stub.uri) as proxy, raw.Connection.to(proxy.address) as connection:
        reply = connection.ask({"insert": "things", "documents": [{}]})
        assert reply.pop("errorLabels") == labels[:2]
        assert reply == {**error, "baseBackoffMS": 250}
