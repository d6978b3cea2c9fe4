# SPDX-License-Identifier: Apache-2.0
"""Behind a load balancer nobody knows which server a connection leads to: a cursor or a transaction
keeps its connection, and these may only be a part of all."""

from __future__ import annotations

import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import bson
import pymongo
import pytest
import raw
import weir

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from stubset import StubSet  # noqa: E402

CAP = 6
PINNED = CAP // 2
MOST_CLIENTS = 100  # connections of drivers that stay open


@pytest.fixture
def stub():
    with StubSet("load_balanced", 3) as stub:
        yield stub


@pytest.fixture
def proxy(stub):
    with weir.Weir(stub.uri, cap=CAP) as proxy:
        yield proxy


@pytest.fixture
def client(proxy):
    with pymongo.MongoClient(proxy.uri) as client:
        client.test.things.insert_many([{"_id": number} for number in range(20)])
        yield client


def open_cursor(connection) -> bson.Int64 | None:
    reply = connection.ask({"find": "things", "batchSize": 2})
    return bson.Int64(reply["cursor"]["id"]) if reply["ok"] else None


def test_cursors_and_transactions_find_their_server(stub, proxy, client):
    things = client.test.things
    cursors = [things.find(batch_size=3) for _ in range(PINNED)]
    assert all(len(row) == PINNED for row in zip(*cursors, strict=True))
    with client.start_session() as session:
        for number in range(20, 25):
            session.with_transaction(
                lambda session, _id=number: (
                    things.insert_one({"_id": _id}, session=session),
                    things.find_one({"_id": _id}, session=session),
                )
            )
    assert things.count_documents({}) == 25
    assert not stub.rejections
    proxy.wait_until_at_rest(clients=MOST_CLIENTS)


def test_from_many_threads(stub, proxy, client):
    failed = []

    def work():
        for _ in range(30):
            try:
                assert len(list(client.test.things.find(batch_size=7))) == 20
            except pymongo.errors.OperationFailure as error:
                if error.code != 462:
                    failed.append(error)
            except BaseException as error:
                failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed and not stub.rejections
    assert sum(stub.tally(member.index, "weir").peak for member in stub.members) <= CAP
    proxy.wait_until_at_rest(clients=MOST_CLIENTS)


def test_pinned_connections_are_a_part_of_the_cap(stub, proxy, client):
    with raw.Connection.to((proxy.host, proxy.port)) as connection:
        connection.hello()
        cursors = [open_cursor(connection) for _ in range(PINNED)]
        reply = connection.ask({"find": "things", "batchSize": 2})
        assert reply["code"] == 462 and "keep a connection" in reply["errmsg"]
        client.test.things.update_one({"_id": 1}, {"$set": {"a": 1}})  # what keeps nothing goes on
        reply = connection.ask({"killCursors": "things", "cursors": cursors[:1]})
        assert reply["cursorsKilled"] == cursors[:1]
        assert open_cursor(connection)


def test_more_reads_at_once_than_may_keep_one_have_their_turns(stub):
    """Each might leave a cursor; none does, so all are served. Writes go on beside them."""
    with weir.Weir(stub.uri, "--max-wait", "60s", cap=CAP) as proxy:
        with pymongo.MongoClient(proxy.uri, retryReads=False) as client:
            things = client.test.things
            things.insert_one({"_id": 0})
            held = stub.fail("find", delay_s=60, executes=True, times=None)
            with ThreadPoolExecutor(4 * CAP) as pool:
                found = [pool.submit(things.find_one, {"_id": 0}) for _ in range(4 * CAP)]
                stub.wait_until(lambda: proxy.state()["queued"] == 4 * CAP - PINNED)
                things.insert_one({"_id": 1})
                stub.let_go(held)
            assert all(future.result() for future in found)


def test_what_is_refused_for_want_of_a_place_is_an_exhaustion(stub):
    """A refusal has somebody look, also where nothing else does: the server is not asked how it is,
    no deadline of a connection is near, no exhaustion is going on."""
    uri = f"{stub.uri}&heartbeatFrequencyMS=600000"
    with weir.Weir(uri, "--connect-timeout", "10m", cap=CAP) as proxy:
        with raw.Connection.to(proxy.address) as connection:
            connection.hello()
            connection.ask({"insert": "things", "documents": [{"_id": n} for n in range(20)]})
            assert all(open_cursor(connection) for _ in range(PINNED))
            assert open_cursor(connection) is None  # what came before has somebody look, perhaps
            first = proxy.wait_for("exhaustion_begin")
            proxy.wait_for("exhaustion_end", id=first["id"])
            assert open_cursor(connection) is None
            stub.wait_until(lambda: proxy.count("exhaustion_begin") == 2)


def test_what_a_client_left_is_killed(stub, proxy, client):
    with raw.Connection.to((proxy.host, proxy.port)) as connection:
        connection.hello()
        assert all(open_cursor(connection) for _ in range(PINNED))
    proxy.wait_until_at_rest(clients=MOST_CLIENTS)
    assert len(stub.asked("killCursors", driver="weir")) == PINNED
    assert len(list(client.test.things.find(batch_size=3))) == 20
    assert not stub.rejections


def test_a_cursor_whose_connection_is_gone(stub, proxy, client):
    with raw.Connection.to((proxy.host, proxy.port)) as connection:
        connection.hello()
        cursor = open_cursor(connection)
        stub.fail("getMore", close=True)
        assert connection.ask({"getMore": cursor, "collection": "things"})["code"] == 43
        assert connection.ask({"getMore": cursor, "collection": "things"})["code"] == 43
        lsid = {"id": bson.Binary.from_uuid(uuid.uuid4())}
        of_transaction = {"lsid": lsid, "txnNumber": bson.Int64(1), "autocommit": False}
        connection.ask({"find": "things", "startTransaction": True} | of_transaction)
        stub.fail("find", close=True)
        reply = connection.ask({"find": "things"} | of_transaction)
        assert reply["errorLabels"] == ["TransientTransactionError"]
        reply = connection.ask({"find": "things"} | of_transaction)
        assert reply["code"] == 251 and reply["errorLabels"] == ["TransientTransactionError"]


def test_a_session_keeps_no_former_connection(stub, proxy, client):
    """A transaction is where its first statement went, wherever the session's last one was."""
    lsid = {"id": bson.Binary.from_uuid(uuid.uuid4())}
    with raw.Connection.to((proxy.host, proxy.port)) as connection:
        connection.hello()

        def statement(number: int, **more) -> dict:
            of_transaction = {"lsid": lsid, "txnNumber": bson.Int64(number), "autocommit": False}
            return connection.ask({"find": "things"} | of_transaction | more)

        def begin(number: int) -> None:  # the former connection is anybody's soon
            deadline = time.monotonic() + 10
            while not (reply := statement(number, startTransaction=True))["ok"]:
                assert reply["code"] == 462 and time.monotonic() < deadline, reply

        for number in range(1, 2 * CAP):  # the former is given up without a word
            begin(number)
            assert statement(number)["ok"]
        stub.fail("find", close=True)
        assert statement(number)["errorLabels"] == ["TransientTransactionError"]
        begin(number + 1)
        assert statement(number + 1)["ok"]


def test_what_is_no_load_balancer_is_said():
    with StubSet("standalone") as stub:
        uri = stub.uri.split("?")[0] + "?loadBalanced=true"
        with weir.Weir(uri, "--server-wait", "200ms", cap=CAP) as proxy:
            with raw.Connection.to((proxy.host, proxy.port)) as connection:
                connection.hello()
                assert connection.ask({"ping": 1})["code"] == 6
            assert "serviceId" in proxy.wait_for("upstream_down")["reason"]
