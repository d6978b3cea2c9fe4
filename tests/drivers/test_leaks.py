# SPDX-License-Identifier: Apache-2.0
"""Cursors and transactions that an app leaves open and idle are told, and killed if configured."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pymongo
import pytest
import raw
import weir
from pymongo.errors import OperationFailure

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from stubset import StubSet  # noqa: E402

LIMITS = ("--idle-cursor-after", "1s", "--idle-transaction-after", "1s")


@pytest.fixture
def stub():
    with StubSet(members=1) as stub:
        yield stub
        assert not stub.rejections


def connect(proxy) -> pymongo.MongoClient:
    return pymongo.MongoClient(proxy.uri, appname="shop")


def fill(client) -> None:
    client.test.things.insert_many({"_id": number} for number in range(10))


def test_a_cursor_is_told_and_left_open(stub):
    with weir.Weir(stub.uri, *LIMITS) as proxy, connect(proxy) as client:
        fill(client)
        cursor = client.test.things.find({"_id": {"$gte": 0}}, batch_size=2)
        next(cursor)
        told = proxy.wait_for("leak")
        assert (told["kind"], told["killed"]) == ("cursor", "false")
        assert told["app"] == "shop" and told["peer"].startswith("127.0.0.1:")
        assert told["ns"] == "test.things" and told["shape"] == "find test.things {_id:{$gte}}"
        assert int(told["idle_us"]) >= 1_000_000
        assert len(list(cursor)) == 9
        assert proxy.count("leak") == 1


def test_a_cursor_is_killed(stub):
    with weir.Weir(stub.uri, *LIMITS, "--kill-idle") as proxy, connect(proxy) as client:
        fill(client)
        cursor = client.test.things.find(batch_size=2)
        next(cursor)
        assert proxy.wait_for("leak")["killed"] == "true"
        stub.wait_until(lambda: not len(stub.members[0].cursors))
        with pytest.raises(OperationFailure) as failure:
            list(cursor)
        assert failure.value.code == 43
        stub.forget()  # a driver cannot know


@pytest.mark.parametrize("kills", (False, True))
def test_a_transaction(stub, kills):
    flags = ("--kill-idle",) if kills else ()
    with weir.Weir(stub.uri, *LIMITS, *flags) as proxy, connect(proxy) as client:
        fill(client)
        with client.start_session() as session:
            session.start_transaction()
            client.test.things.update_one({"_id": 1}, {"$set": {"n": 1}}, session=session)
            told = proxy.wait_for("leak")
            assert told["kind"] == "transaction" and told["app"] == "shop"
            assert told["shape"].startswith("update test.things")
            if kills:
                stub.wait_until(lambda: not len(stub.members[0].transactions))
                with pytest.raises(OperationFailure) as failure:
                    session.commit_transaction()
                assert failure.value.code == 251
            else:
                session.commit_transaction()
        assert client.test.things.count_documents({"n": 1}) == (0 if kills else 1)


def test_what_is_at_work_is_none(stub):
    """However long its statement, or its getMore, takes."""
    with weir.Weir(stub.uri, *LIMITS, "--kill-idle") as proxy, connect(proxy) as client:
        fill(client)
        stub.fail("getMore", "update", times=2, delay_s=2.5)

        def transact() -> None:
            with client.start_session() as session, session.start_transaction():
                client.test.things.insert_one({"_id": 11}, session=session)
                client.test.things.update_one({"_id": 1}, {"$set": {"n": 1}}, session=session)

        thread = threading.Thread(target=transact)
        thread.start()
        assert len(list(client.test.things.find({"_id": {"$lt": 10}}, batch_size=9))) == 10
        thread.join()
        assert client.test.things.count_documents({"n": 1}) == 1
        assert proxy.count("leak") == 0


def test_one_that_was_refused_its_next_batch_is_idle_from_then_on(stub):
    with weir.Weir(stub.uri, *LIMITS) as proxy, connect(proxy) as client:
        fill(client)
        stub.fail("getMore", code=96)
        with client.start_session() as session:
            reply = client.test.command({"find": "things", "batchSize": 2}, session=session)
            more = {"getMore": reply["cursor"]["id"], "collection": "things"}
            with pytest.raises(OperationFailure):
                client.test.command(more, session=session)
            proxy.wait_for("leak")


def test_killing_that_fails_is_tried_again(stub):
    """Of what an app has left; its connection breaks under the killCursors."""
    with weir.Weir(stub.uri) as proxy:
        with connect(proxy) as client:
            fill(client)
        with raw.Connection.to((proxy.host, proxy.port)) as goner:
            goner.hello()
            assert goner.ask({"find": "things", "batchSize": 2})["cursor"]["id"]
            stub.fail("killCursors", close=True)
        stub.wait_until(lambda: not len(stub.members[0].cursors))
        assert len(stub.asked("killCursors")) == 2
        proxy.wait_until_at_rest()
