# SPDX-License-Identifier: Apache-2.0
"""A noisy app and a polite one share a connection: whose turn it is does not depend on how much
either asks for.

The server is a stub that keeps each reply until the test lets it go, so that the test knows who
waits; the order in which commands reach it is the order in which weir let them go.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import time

import pytest
import raw
import weir
from stub_server import StubServer

NOISY = 6
WAIT_S = 10


class Held:
    """A stub whose replies wait for `let_one_go`."""

    def __init__(self, stub: StubServer):
        self._came: queue.Queue = queue.Queue()
        stub.script = self._came.put

    def let_one_go(self) -> str:
        """Answers the next command that came; its comment."""
        asked = self._came.get(timeout=WAIT_S)
        asked.connection.send(asked.fine())
        return asked.document["comment"]


class App:
    """Connections of one app, each with one command under way at most."""

    def __init__(self, proxy: weir.Weir, stack: contextlib.ExitStack, name: str, source: str):
        self._to = lambda: stack.enter_context(
            raw.Connection(socket.create_connection(proxy.address, source_address=(source, 0)))
        )
        self.name = name
        self.posted: list[tuple[raw.Connection, int]] = []

    def post(self, comment: str) -> None:
        connection = self._to()
        hello = {"hello": 1}
        if self.name:
            hello["client"] = {"application": {"name": self.name}}
        assert connection.ask(hello, db="admin")["ok"] == 1
        request = connection.post({"find": "things", "comment": comment, "filter": {}})
        self.posted.append((connection, request))

    def replies(self) -> list[dict]:
        return [connection.reply_to(request) for connection, request in self.posted]


def wait_until(proxy: weir.Weir, **holds: int) -> None:
    deadline = time.monotonic() + WAIT_S
    while not holds.items() <= proxy.state().items():
        assert time.monotonic() < deadline, f"{holds} did not come to hold"


@pytest.fixture
def stage():
    """Makes a weir with one connection, which a command of the noisy app's holds."""
    with contextlib.ExitStack() as stack:

        def begin(noisy: str, polite: str, source: str, *arguments: str):
            stub = stack.enter_context(StubServer())
            held = Held(stub)
            proxy = stack.enter_context(
                weir.Weir(stub.uri, "--max-wait", f"{WAIT_S}s", *arguments, cap=1)
            )
            apps = App(proxy, stack, noisy, "127.0.0.1"), App(proxy, stack, polite, source)
            apps[0].post("held")
            wait_until(proxy, in_flight=1)
            return held, proxy, *apps

        yield begin


def order_of_service(held: Held, noisy: App, polite: App, proxy: weir.Weir) -> list[str]:
    """NOISY commands of the one wait, then two of the other; as they come to the server."""
    for i in range(NOISY):
        noisy.post(f"noisy {i}")
    wait_until(proxy, queued=NOISY)
    for i in range(2):
        polite.post(f"polite {i}")
        wait_until(proxy, queued=NOISY + i + 1)
    served = [held.let_one_go() for _ in range(NOISY + 3)]
    assert all(reply["ok"] == 1 for reply in noisy.replies() + polite.replies())
    assert served[0] == "held"
    return served[1:]


@pytest.mark.parametrize(
    "noisy, polite, source, arguments",
    [
        ("noisy", "polite", "127.0.0.1", ()),
        ("same", "same", "127.0.0.2", ("--tenant-by", "address")),
        ("", "", "127.0.0.2", ()),
    ],
    ids=["by app", "by address", "without a name"],
)
def test_a_polite_tenant_has_its_turn(stage, noisy, polite, source, arguments):
    held, proxy, *apps = stage(noisy, polite, source, *arguments)
    served = order_of_service(held, *apps, proxy)
    # One after the other, but that what they are charged is what it took, which is not even.
    assert served.index("polite 0") <= 1
    assert served.index("polite 1") < NOISY


def test_a_tenant_of_more_weight_has_more_turns(stage):
    held, proxy, *apps = stage("noisy", "polite", "127.0.0.1", "--tenant-weights", "polite=1000")
    served = order_of_service(held, *apps, proxy)
    assert served.index("polite 1") <= 2


def test_connections_of_one_app_are_one_tenant(stage):
    held, proxy, *apps = stage("app", "app", "127.0.0.2")
    served = order_of_service(held, *apps, proxy)
    assert served[-2:] == ["polite 0", "polite 1"]


def test_a_polite_tenant_gets_into_a_full_queue(stage):
    held, proxy, noisy, polite = stage("noisy", "polite", "127.0.0.1", "--max-queue", "3")
    for i in range(3):
        noisy.post(f"noisy {i}")
        wait_until(proxy, queued=i + 1)
    polite.post("polite")
    refused = noisy.posted[-1][0].receive().document
    assert (refused["ok"], refused["code"]) == (0, 462)
    assert proxy.state()["queued"] == 3
    noisy.post("noisy 3")
    assert noisy.posted[-1][0].receive().document["code"] == 462
    assert held.let_one_go() == "held"
    assert sorted(held.let_one_go() for _ in range(3)) == ["noisy 0", "noisy 1", "polite"]


def test_a_slow_operation_names_the_tenant(stage):
    held, proxy, noisy, _ = stage("", "", "127.0.0.1", "--slow-op-threshold", "1ms")
    time.sleep(0.002)
    held.let_one_go()
    assert proxy.wait_for("slow_operation")["tenant"] == "127.0.0.1"
    noisy.replies()
