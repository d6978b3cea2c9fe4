# SPDX-License-Identifier: Apache-2.0
"""endSessions is answered at once, whatever the deployment is at, and passed on later."""

from __future__ import annotations

import sys
import uuid
from pathlib import Path

import bson
import raw
import weir

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from stubset import StubSet  # noqa: E402


def connect(proxy) -> raw.Connection:
    connection = raw.Connection.to((proxy.host, proxy.port))
    connection.hello()
    return connection


def lsids(count: int) -> list[dict]:
    return [{"id": bson.Binary.from_uuid(uuid.uuid4())} for _ in range(count)]


def end(connection, sessions: list[dict]) -> dict:
    return connection.ask({"endSessions": sessions}, db="admin")


def told(stub) -> list[bytes]:
    """Which sessions the deployment was told of."""
    commands = stub.asked("endSessions", driver="weir")
    sessions = [lsid for command in commands for lsid in command.body["endSessions"]]
    return [bytes(lsid["id"]) for lsid in sessions if isinstance(lsid, dict)]


def ids(sessions: list[dict]) -> list[bytes]:
    return [bytes(lsid["id"]) for lsid in sessions]


def test_neither_queues_nor_fails_while_all_connections_are_in_use():
    with StubSet("standalone") as stub, weir.Weir(stub.uri, "--max-wait", "0", cap=1) as proxy:
        slow = stub.fail("find", delay_s=60)
        with connect(proxy) as holder, connect(proxy) as app:
            holder.post({"find": "things"})
            stub.wait_until(lambda: slow.delayed == 1)
            sessions = lsids(3)
            assert end(app, sessions)["ok"] == 1
            assert slow.delayed == 1 and told(stub) == []
            stub.cut("weir")  # the find is sent once more, and served
            assert holder.receive().document["ok"] == 1
            stub.wait_until(lambda: told(stub) == ids(sessions))


def test_does_not_wait_for_a_deployment_that_is_away():
    patient = ("--server-wait", "10m")
    with StubSet() as stub, weir.Weir(stub.uri, *patient) as proxy, connect(proxy) as app:
        assert app.ask({"insert": "things", "documents": [{}]})["ok"] == 1
        for index in range(3):
            stub.kill(index)
        proxy.wait_for("server_down")
        sessions = lsids(10)
        assert all(end(app, [lsid])["ok"] == 1 for lsid in sessions)
        for index in range(3):
            stub.restart(index)
        stub.wait_until(lambda: sorted(told(stub)) == sorted(ids(sessions)))


def test_many_go_together():
    with StubSet("standalone") as stub, weir.Weir(stub.uri, "--threads", "1") as proxy:
        sessions = lsids(300)
        with connect(proxy) as app:
            for lsid in sessions:
                assert end(app, [lsid])["ok"] == 1
        stub.wait_until(lambda: sorted(told(stub)) == sorted(ids(sessions)))
        assert len(stub.asked("endSessions")) < 100


def test_so_many_as_a_server_takes():
    with StubSet("standalone") as stub, weir.Weir(stub.uri, "--threads", "1") as proxy:
        with connect(proxy) as app:
            for _ in range(3):
                assert end(app, lsids(10_000))["ok"] == 1
            stub.wait_until(lambda: len(told(stub)) >= 10_000)
        proxy.wait_until_at_rest()
        assert max(len(c.body["endSessions"]) for c in stub.asked("endSessions")) == 10_000


def test_what_is_none_is_for_the_server_to_refuse():
    with StubSet("standalone") as stub, weir.Weir(stub.uri) as proxy, connect(proxy) as app:
        for nonsense in ([{"id": b""}], [*lsids(1), 7]):
            stub.fail("endSessions", code=14)
            assert end(app, nonsense)["code"] == 14
        sessions = lsids(1)
        assert end(app, sessions)["ok"] == 1
        stub.wait_until(lambda: len(stub.asked("endSessions")) == 3)
        assert told(stub)[-1:] == ids(sessions)  # and nothing of the nonsense with it
        assert len(stub.asked("endSessions")[-1].body["endSessions"]) == 1


def test_a_cursor_of_a_member_that_is_gone_is_not_waited_for():
    """43 as soon as what was sent there is given up, not after serverWait."""
    with StubSet(members=3) as stub, weir.Weir(stub.uri, "--server-wait", "5m") as proxy:
        with connect(proxy) as app:
            documents = [{"_id": number} for number in range(10)]
            assert app.ask({"insert": "things", "documents": documents})["ok"] == 1
            find = {"find": "things", "batchSize": 2, "lsid": lsids(1)[0]}
            opened = app.ask(find | {"$readPreference": {"mode": "secondary"}})["cursor"]["id"]
            (member,) = stub.members_with_cursor(opened)
            stub.kill(member)
            more = {"getMore": bson.Int64(opened), "collection": "things", "lsid": find["lsid"]}
            early, late = app.ask(more), app.ask(more)
            assert (early["code"], late["code"]) == (43, 43)
            assert "nothing was sent" in late["errmsg"]
        assert not stub.rejections
