# SPDX-License-Identifier: Apache-2.0
"""Requests that run for too long, or for nobody, are ended on their server."""

from __future__ import annotations

import contextlib
import sys
import threading
from pathlib import Path

import pymongo
import pytest
import raw
import weir
from pymongo.errors import OperationFailure
from pymongo.read_preferences import Primary, Secondary

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from stubset import StubSet  # noqa: E402

KILLS = ("--kill-after", "500ms")


@pytest.fixture
def stub():
    with StubSet(members=3) as stub:
        yield stub
        assert not stub.rejections


def connect(proxy) -> raw.Connection:
    connection = raw.Connection.to((proxy.host, proxy.port))
    connection.hello()
    return connection


def refuse_current_op(stub):
    """As a user has it who may not, or a server that has no such stage."""
    refused = lambda body: "$currentOp" in body["pipeline"][0]  # noqa: E731
    return stub.fail("aggregate", times=None, when=refused, code=13)


def refuse_kill_sessions(stub):
    return stub.fail("killSessions", times=None, code=13)


@pytest.mark.parametrize("mode", (Primary(), Secondary()), ids=("primary", "secondary"))
def test_is_killed_and_its_app_told_what_the_server_says(stub, mode):
    slow = stub.fail("find", delay_s=60)
    with weir.Weir(stub.uri, *KILLS) as proxy, pymongo.MongoClient(proxy.uri) as client:
        things = client.test.get_collection("things", read_preference=mode)
        with pytest.raises(OperationFailure) as failure:
            list(things.find({"n": 1}))
        assert failure.value.code == 11601 and failure.value.details["codeName"] == "Interrupted"
        assert "weir" not in str(failure.value)  # the server's own words
        assert slow.delayed == 0
        said = proxy.wait_for("killed")
        assert said["how"] == "killOp" and said["why"] == "admission.killAfter"
        assert said["ns"] == "test.things" and said["shape"] == "find test.things {n}"
        assert int(said["age_us"]) >= 500_000
        assert list(things.find({"n": 1})) == []
        assert proxy.count("killed") == 1 and proxy.count("upstream_down") == 0


def test_nothing_is_killed_unless_configured(stub):
    stub.fail("find", delay_s=1.5)
    with weir.Weir(stub.uri) as proxy, pymongo.MongoClient(proxy.uri) as client:
        assert list(client.test.things.find()) == []
        assert proxy.count("killed") == 0
    assert not stub.asked("killOp") and not stub.asked("killSessions")


def test_a_neighbour_in_time_is_not_hit(stub):
    """Only what has run for so long is; the next one on its connection is not."""
    stub.fail("find", delay_s=60, when=lambda body: body["filter"].get("slow"))
    with weir.Weir(stub.uri, *KILLS, cap=1) as proxy, pymongo.MongoClient(proxy.uri) as client:
        with pytest.raises(OperationFailure):
            list(client.test.things.find({"slow": True}))
        for _ in range(50):
            assert list(client.test.things.find({"slow": False})) == []
        assert proxy.count("killed") == 1


def test_weirs_own_connections_are_four_beside_the_cap(stub):
    """While it asks why connections ran out, and kills; and only where that is so."""
    stub.fail("find", times=None, delay_s=60)
    asked = stub.fail("serverStatus", times=None, delay_s=60)
    arguments = ("--kill-after", "1s", "--max-wait", "50ms", "--limit", "fixed", "--slow-share", "1")
    with weir.Weir(stub.uri, *arguments, cap=2) as proxy, contextlib.ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(connect(proxy)).post({"find": "things"})
        stub.wait_until(lambda: asked.delayed)
        proxy.wait_for("killed", how="killOp")
        stub.wait_until(lambda: stub.tally(0).peak == 2 + 4)
        assert stub.tally(0, "weir").peak == 2
        for other in (1, 2):  # one of which may have been tried to log in to
            assert stub.tally(other).peak - stub.tally(other, "weir").peak <= 2
        stub.heal()
        stub.let_go(asked)


def test_a_full_server_is_not_unknown_for_who_would_kill(stub):
    slow = stub.fail("find", delay_s=60)
    with weir.Weir(stub.uri, *KILLS) as proxy, connect(proxy) as app:
        app.post({"find": "things"})
        stub.wait_until(lambda: slow.delayed)
        stub.refuse_above(0, stub.tally(0).open)
        proxy.wait_for("kill_failed")
        assert app.receive().document["code"] == 11601
        assert proxy.count("server_down") == 0


def test_is_killed_with_its_session_where_there_is_no_kill_op(stub):
    slow = stub.fail("update", delay_s=60)
    refuse_current_op(stub)
    with weir.Weir(stub.uri, *KILLS) as proxy, pymongo.MongoClient(proxy.uri) as client:
        with pytest.raises(OperationFailure) as failure:
            client.test.things.update_one({"_id": 1}, {"$set": {"n": 1}})
        assert failure.value.code == 11601
        assert proxy.wait_for("killed")["how"] == "killSessions"
        assert slow.hits == 1 and slow.delayed == 0  # and was not tried again


def test_loses_its_connection_where_nothing_else_works(stub):
    slow = stub.fail("find", delay_s=60)
    refuse_current_op(stub)
    refuse_kill_sessions(stub)
    with weir.Weir(stub.uri, *KILLS) as proxy, pymongo.MongoClient(proxy.uri) as client:
        with pytest.raises(OperationFailure) as failure:
            list(client.test.things.find())
        assert failure.value.code == 11601 and "weir: " in str(failure.value)
        assert "nothing was" not in str(failure.value)
        assert proxy.wait_for("kill_failed")["why"] == "admission.killAfter"
        assert proxy.wait_for("killed")["how"] == "close"
        stub.wait_until(lambda: slow.delayed == 0)
        assert slow.hits == 1
        assert list(client.test.things.find()) == []


def test_a_real_server_without_such_means(secantus):
    with weir.Weir(secantus.uri, *KILLS) as proxy, pymongo.MongoClient(proxy.uri) as client:
        client.test.things.insert_one({})
        with secantus.failing(["find"], {"times": 1}, blockConnection=True, blockTimeMS=10_000):
            with pytest.raises(OperationFailure) as failure:
                list(client.test.things.find())
        assert failure.value.code == 11601
        assert len(list(client.test.things.find())) == 1


def test_a_transaction_ends_with_its_statement(stub):
    with weir.Weir(stub.uri, *KILLS) as proxy, pymongo.MongoClient(proxy.uri) as client:
        things = client.test.things
        with client.start_session() as session, session.start_transaction():
            things.insert_one({"_id": 1}, session=session)
            stub.fail("find", delay_s=60)
            with pytest.raises(OperationFailure) as failure:
                things.find_one({}, session=session)
            assert failure.value.code == 11601
            session.abort_transaction()
        assert things.count_documents({}) == 0


def test_what_waits_for_events_is_let_wait(stub):
    with weir.Weir(stub.uri, "--kill-after", "100ms") as proxy:
        with pymongo.MongoClient(proxy.uri) as client:
            with client.test.things.watch(max_await_time_ms=1500) as stream:
                assert stream.try_next() is None
                timer = threading.Timer(1.0, client.test.things.insert_one, ({"_id": 1},))
                timer.start()
                assert stream.next()["documentKey"] == {"_id": 1}
                timer.join()
        assert proxy.count("killed") == 0


def test_index_builds_are_let_finish(stub):
    stub.fail("createIndexes", delay_s=1.5)
    with weir.Weir(stub.uri, "--kill-after", "100ms") as proxy:
        with pymongo.MongoClient(proxy.uri) as client:
            client.test.things.create_index("n")
        assert proxy.count("killed") == 0


# --- by an operator -------------------------------------------------------------------------------


def test_an_operator_kills(stub):
    """What was sent is ended there, what waits is refused at once, a client loses its connection."""
    slow = stub.fail("find", times=None, delay_s=60)
    write = {"update": "things", "updates": [{"q": {}, "u": {"$set": {"n": 1}}}]}
    with weir.Weir(stub.uri, "--max-wait", "60s", cap=1) as proxy, connect(proxy) as watcher:
        seen = lambda state: watcher.ask({"find": "requests", "filter": {"state": state}}, db="weir")  # noqa: E731
        mine = lambda state: seen(state)["cursor"]["firstBatch"]  # noqa: E731
        with connect(proxy) as one, connect(proxy) as another:
            read = one.post({"find": "things"})
            stub.wait_until(lambda: slow.delayed == 1)
            queued = another.post(write)
            stub.wait_until(lambda: mine("queued"))
            assert proxy.order("kill", "--request", str(mine("queued")[0]["_id"]))["refused"] == 1
            refused = another.reply_to(queued)
            assert refused["code"] == 11601 and "nothing was executed" in refused["errmsg"]
            assert "errorLabels" not in refused and not stub.asked("update")

            running = mine("served")[0]
            assert proxy.order("kill", "--over", "1h")["ended"] == 0
            assert proxy.order("kill", "--request", str(running["_id"]), "--why", "x")["ended"] == 1
            assert one.reply_to(read)["code"] == 11601
            done = proxy.ctl("kill", "--request", str(running["_id"]))
            assert done.returncode == 1 and "there is no such request any more" in done.stderr

            read = one.post({"find": "things"})
            stub.wait_until(lambda: slow.delayed == 1)
            shape = proxy.order("kill", "--shape", "0123456789abcdef")
            assert (shape["ended"], shape["spared"]) == (0, 0)
            assert proxy.order("kill", "--over", "10ms")["ended"] == 1
            assert one.reply_to(read)["code"] == 11601

            one.post({"find": "things"})
            stub.wait_until(lambda: slow.delayed == 1)
            client = str(mine("served")[0]["client"])
            assert proxy.order("kill", "--client", client)["closed"] == 1
            assert one.is_ended()
            stub.wait_until(lambda: slow.delayed == 0)
        said = proxy.wait_for("kill_ordered", why="x")
        assert said["by"] and said["ended"] == "1"
        assert proxy.wait_for("killed")["why"] == "an operator"
        proxy.wait_until_at_rest(clients=1)


# --- for nobody -----------------------------------------------------------------------------------


def test_reads_whose_apps_have_gone_are_killed(stub):
    """Also when they hold all connections that there may be."""
    slow = stub.fail("find", times=2, delay_s=60)
    with weir.Weir(stub.uri, "--kill-abandoned-after", "200ms", cap=2) as proxy:
        with connect(proxy) as one, connect(proxy) as another:
            one.post({"find": "things"})
            another.post({"find": "things"})
            stub.wait_until(lambda: slow.delayed == 2)
        stub.wait_until(lambda: slow.delayed == 0)
        assert proxy.wait_for("killed")["why"] == "its client has gone"
        proxy.wait_until_at_rest()
        assert proxy.count("killed") == 2 and proxy.count("upstream_down") == 0


def test_a_write_whose_app_has_gone_is_let_finish(stub):
    slow = stub.fail("insert", delay_s=1.5)
    with weir.Weir(stub.uri, "--kill-abandoned-after", "100ms") as proxy:
        with connect(proxy) as goner:
            goner.post({"insert": "things", "documents": [{"_id": 1}]})
            stub.wait_until(lambda: slow.delayed == 1)
        stub.wait_until(lambda: slow.delayed == 0)
        proxy.wait_until_at_rest()
        with connect(proxy) as other:
            assert other.ask({"count": "things"})["n"] == 1
        assert proxy.count("killed") == 0
