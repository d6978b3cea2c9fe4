# SPDX-License-Identifier: Apache-2.0
"""A server whose monitor is content, and that serves nobody: requests do not wait for it for long."""

from __future__ import annotations

import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import bson
import pytest
import raw
import servers
import weir

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from stubset import StubSet, User  # noqa: E402

WITHIN_S = 30  # until something shows; it takes a fraction of that
FIND = {"find": "things", "filter": {}}
NEAREST = {**FIND, "$readPreference": {"mode": "secondaryPreferred"}}


def connect(proxy) -> raw.Connection:
    connection = raw.Connection.to((proxy.host, proxy.port))
    connection.hello()
    return connection


def ask_until(proxy, connection, event: str, command: dict = FIND) -> list[dict]:
    """What it was answered until weir logs the event."""
    replies = []
    deadline = time.monotonic() + WITHIN_S
    while not proxy.count(event):
        assert time.monotonic() < deadline, f"no {event}{proxy.tail()}"
        replies.append(connection.ask(command))
    return replies


def is_ok(reply: dict) -> bool:
    return reply["ok"] == 1


def test_what_only_loses_connections_is_left_alone_until_it_is_well():
    with StubSet("standalone") as stub, weir.Weir(stub.uri) as proxy:
        with connect(proxy) as app:
            assert is_ok(app.ask(FIND))
            fault = stub.fail("find", close=True, times=None)
            lost = ask_until(proxy, app, "breaker_open")
            assert {reply["code"] for reply in lost} == {6}
            assert "connections are lost" in proxy.wait_for("breaker_open")["reason"]
            hits = fault.hits
            refused = [app.ask(FIND) for _ in range(200)]
            assert fault.hits - hits <= 3  # one to a pause is let try, and perhaps sent once more
            assert sum("nothing was sent" in reply["errmsg"] for reply in refused) >= 198
            stub.heal()
            ask_until(proxy, app, "breaker_closed")
            assert all(is_ok(app.ask(FIND)) for _ in range(20))
        proxy.wait_until_at_rest()


def test_reads_go_elsewhere_meanwhile():
    with StubSet(members=2) as stub, weir.Weir(stub.uri) as proxy:
        stub.fail("find", close=True, times=None, member=1)
        with connect(proxy) as app:
            ask_until(proxy, app, "breaker_open", NEAREST)
            stub.forget()
            replies = [app.ask(NEAREST) for _ in range(100)]
            assert all(is_ok(reply) for reply in replies)
            assert len(stub.asked("find", member=0)) == 100
            stub.heal()
            ask_until(proxy, app, "breaker_closed", NEAREST)
        assert not stub.rejections


def test_a_server_that_is_silent_to_all_is_given_up():
    with StubSet("standalone") as stub, weir.Weir(stub.uri, "--response-timeout", "1s") as proxy:
        slow = stub.fail("find", "ping", "insert", times=None, delay_s=60)
        with connect(proxy) as one, connect(proxy) as another:
            one.post(FIND)
            another.post({"insert": "things", "documents": [{"_id": 1}]})
            found, inserted = one.receive().document, another.receive().document
            assert found["code"] == 6 and "nothing was sent" not in inserted["errmsg"]
            assert inserted["code"] == 6 and "outcome unknown" in inserted["errmsg"]
            assert "responseTimeout" in proxy.wait_for("breaker_open")["reason"]
            assert slow.hits >= 2
            stub.heal()
            ask_until(proxy, one, "breaker_closed")
        proxy.wait_until_at_rest()


def test_one_that_answers_somebody_is_not_silent():
    """Slow operations may take longer than the timeout, while others are answered."""
    with StubSet("standalone") as stub, weir.Weir(stub.uri, "--response-timeout", "2s") as proxy:
        stub.fail("find", times=2, delay_s=5)
        done = threading.Event()

        def ping() -> None:
            with connect(proxy) as other:
                while not done.is_set():
                    assert is_ok(other.ask({"ping": 1}))

        pinging = threading.Thread(target=ping)
        pinging.start()
        try:
            with connect(proxy) as one, connect(proxy) as another:
                one.post(FIND)
                another.post(FIND)
                assert is_ok(one.receive().document) and is_ok(another.receive().document)
        finally:
            done.set()
            pinging.join()
        assert proxy.count("breaker_open") == 0 and proxy.count("upstream_down") == 0


def test_one_request_alone_proves_no_silence():
    with StubSet("standalone") as stub, weir.Weir(stub.uri, "--response-timeout", "300ms") as proxy:
        stub.fail("find", delay_s=1.5)
        with connect(proxy) as app:
            assert is_ok(app.ask(FIND))
        assert proxy.count("breaker_open") == 0


def test_nobody_can_log_in():
    """Known from the start, and nobody waits; and so is that it goes again, though nobody asks."""
    with StubSet("standalone", users=[User("app", "secret")]) as stub:
        uri = stub.uri.replace("mongodb://", "mongodb://app:wrong@")
        port = servers.free_port()
        with weir.Weir(uri, "--server-wait", "10m", "--http-port", str(port)) as proxy:
            assert "refused user app" in proxy.wait_for("ready")["trouble"]
            ready = f"http://127.0.0.1:{port}/readyz"
            with pytest.raises(urllib.error.HTTPError, match="503"):
                urllib.request.urlopen(ready)
            with connect(proxy) as app:
                for reply in [app.ask(FIND) for _ in range(20)]:
                    assert reply["code"] == 6 and "cannot log in" in reply["errmsg"]
                stub.users = (User("app", "wrong"),)
                proxy.wait_for("upstream_up", timeout=WITHIN_S)
                assert urllib.request.urlopen(ready).status == 200
                assert is_ok(app.ask(FIND))


@pytest.mark.parametrize("kind", ("errors", "overload"))
def test_what_is_no_failure_of_the_server(kind):
    with StubSet("standalone") as stub, weir.Weir(stub.uri, "--max-wait", "0", cap=1) as proxy:
        if kind == "errors":
            stub.fail("find", code=96, times=None)
            with connect(proxy) as app:
                replies = [app.ask(FIND) for _ in range(50)]
            assert {reply["code"] for reply in replies} == {96}
        else:
            slow = stub.fail("find", delay_s=7)
            with connect(proxy) as holder, connect(proxy) as app:
                holder.post(FIND)
                stub.wait_until(lambda: slow.delayed == 1)
                shed = set()
                while slow.delayed:
                    shed.add(app.ask(FIND).get("code"))
                    time.sleep(0.02)
                assert 462 in shed
                assert is_ok(holder.receive().document)
        assert proxy.count("breaker_open") == 0


def test_connections_that_are_cut_at_once_do_not_open_it():
    no_lanes = ("--slow-share", "1", "--limit", "fixed")
    with StubSet("standalone") as stub, weir.Weir(stub.uri, *no_lanes, cap=8) as proxy:
        for _ in range(7):  # for longer than a window, if they were counted one by one
            slow = stub.fail("find", times=8, delay_s=60)
            apps = [connect(proxy) for _ in range(8)]
            for app in apps:
                app.post({**FIND, "comment": bson.Int64(1)})
            stub.wait_until(lambda: slow.delayed == 8)  # noqa: B023
            stub.heal()
            stub.cut("weir")
            assert all(is_ok(app.receive().document) for app in apps)  # reads are sent once more
            for app in apps:
                app.stream.close()
        assert proxy.count("breaker_open") == 0
