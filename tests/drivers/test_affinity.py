# SPDX-License-Identifier: Apache-2.0
"""Cursors and transactions find the server that has them; or are told that it is gone."""

from __future__ import annotations

import contextlib
import gc

import bson
import pymongo
import pytest
from bson.int64 import Int64
from deployments import (
    StubSet,
    members_asked,
    passed_on,
    speaking_to,
    wait_for_members,
    wait_for_news,
    wait_until_seen_as,
    weir_before,
)
from pymongo.errors import OperationFailure
from pymongo.read_preferences import Nearest, Secondary

DOCUMENTS = 20
PATIENT = ("--server-wait", "10m")
PROMPT_S = 60  # much less than that
BRIEF = ("--server-wait", "1s")  # so long a cursor's member may be away


@contextlib.contextmanager
def things(stub: StubSet, *arguments: str, **named):
    """weir, and a client of it, with some documents in test.things."""
    with (
        weir_before(stub, *arguments, **named) as proxy,
        pymongo.MongoClient(proxy.uri, retryReads=False) as client,
    ):
        wait_for_members(stub, proxy)
        client.test.things.insert_many([{"_id": number} for number in range(DOCUMENTS)])
        yield proxy, client


def secondary(index: int) -> dict:
    """Only that member has it (with MEMBERS as its tags)."""
    return {"$readPreference": {"mode": "nearest", "tags": [{"member": str(index)}]}}


MEMBERS = {index: {"member": str(index)} for index in range(3)}


def find(connection, index: int, **more) -> int:
    """Opens a cursor at that member."""
    reply = connection.ask({"find": "things", "batchSize": 2, **secondary(index), **more})
    return reply["cursor"]["id"]


def get_more(connection, cursor: int, **more) -> dict:
    command = {"getMore": Int64(cursor), "collection": "things", "batchSize": 2, **more}
    return connection.ask(command)


def lsid(number: int) -> dict:
    return {"lsid": {"id": bson.Binary(bytes([number] * 16), 4)}}


def open_cursors(stub: StubSet) -> list[int]:
    return [len(member.cursors) for member in stub.members]


# --- cursors ------------------------------------------------------------------------------------


@pytest.mark.parametrize("collide", (False, True), ids=("ids of their own", "the same ids"))
def test_many_cursors_on_all_members_at_once(collide):
    stub = StubSet(collide_cursor_ids=collide)
    with things(stub) as (proxy, client):
        near = client.get_database("test", read_preference=Nearest()).things
        cursors = [near.find(batch_size=3) for _ in range(30)]
        rows = list(zip(*cursors, strict=True))
        assert len(rows) == DOCUMENTS and all(len({doc["_id"] for doc in row}) == 1 for row in rows)
        assert members_asked(stub, "find") == members_asked(stub, "getMore") == {0, 1, 2}
        assert open_cursors(stub) == [0, 0, 0]
        proxy.wait_until_at_rest(clients=proxy.state()["clients"])


def test_any_connection_may_go_on_with_a_cursor():
    stub = StubSet(tags=MEMBERS)
    with things(stub) as (proxy, _):
        with speaking_to(proxy) as opener, speaking_to(proxy) as heir:
            cursors = [find(opener, index) for index in range(3)]
            for _ in range(3):
                for cursor in cursors:
                    assert len(get_more(heir, cursor)["cursor"]["nextBatch"]) == 2
            opener.stream.close()
            for cursor in cursors:
                assert len(get_more(heir, cursor)["cursor"]["nextBatch"]) == 2
                killed = heir.ask({"killCursors": "things", "cursors": [Int64(cursor)]})
                assert killed["cursorsKilled"] == [cursor]
        assert open_cursors(stub) == [0, 0, 0]


def test_cursors_that_an_app_drops_are_killed_on_all_members():
    """Its driver kills them by one command, without their sessions; one member gets it, weir sees
    to the others. (That member is asked for cursors that it has not: a rejection.)"""
    stub = StubSet()
    with things(stub, rejects=True) as (proxy, client):
        near = client.get_database("test", read_preference=Nearest()).things
        cursors = [near.find(batch_size=2) for _ in range(12)]
        for cursor in cursors:
            next(cursor)
        assert all(open_cursors(stub)) and proxy.state()["pins"] == 12
        del cursors, cursor
        gc.collect()
        stub.wait_until(lambda: open_cursors(stub) == [0, 0, 0])
        assert len(passed_on(stub, "killCursors")) < 12
        stub.wait_until(lambda: proxy.state()["pins"] == 0)


@pytest.mark.parametrize("how", ("killed", "removed", "killed, and back"))
def test_a_cursor_whose_member_is_gone_is_not_found(how):
    stub = StubSet(tags=MEMBERS)
    with things(stub, *BRIEF) as (proxy, _), speaking_to(proxy) as connection:
        cursor = find(connection, 2)
        if how == "removed":
            stub.remove_member(2)
            wait_for_news(proxy, "server_removed")
        else:
            stub.kill(2)
            wait_for_news(proxy, "server_down")
        if how == "killed, and back":
            stub.restart(2)
        reply = get_more(connection, cursor)
        assert (reply["ok"], reply["code"]) == (0, 43), reply


def test_a_cursor_survives_what_happens_to_other_members():
    stub = StubSet(tags=MEMBERS)
    with things(stub) as (proxy, _), speaking_to(proxy) as connection:
        cursor = find(connection, 1)
        stub.kill(2)
        stub.step_down()
        stub.wait_until(lambda: stub.primary)
        while cursor:
            reply = get_more(connection, cursor)
            assert reply["ok"] == 1, reply
            cursor = reply["cursor"]["id"]


def test_a_cursor_on_a_former_primary_goes_on_there():
    stub = StubSet(tags=MEMBERS)
    with things(stub) as (proxy, _), speaking_to(proxy) as connection:
        reply = connection.ask({"find": "things", "batchSize": 2})
        stub.elect(1)
        wait_until_seen_as(stub, proxy, 0, "secondary")
        cursor = reply["cursor"]["id"]
        assert len(get_more(connection, cursor)["cursor"]["nextBatch"]) == 2
        connection.ask({"killCursors": "things", "cursors": [Int64(cursor)]})
        assert open_cursors(stub) == [0, 0, 0]


def test_a_cursor_that_nobody_knows_is_looked_for_at_the_primary():
    stub = StubSet()
    with things(stub, rejects=True) as (proxy, _), speaking_to(proxy) as connection:
        assert get_more(connection, 4711)["code"] == 43


def test_cursors_that_an_app_leaves_behind_are_killed_at_their_members():
    stub = StubSet(tags=MEMBERS)
    with things(stub) as (proxy, _):
        with speaking_to(proxy) as goner:
            for index in range(3):
                for _ in range(50):
                    find(goner, index)
        stub.wait_until(lambda: open_cursors(stub) == [0, 0, 0])
        assert proxy.state()["pins"] == 0
        assert len(stub.asked("killCursors", driver="weir")) == 3  # by as few commands as may be


# --- transactions -------------------------------------------------------------------------------

MISHAPS = {
    "step_down": lambda stub: stub.step_down(),
    "kill": lambda stub: stub.kill(stub.primary.index),
    "shut_down": lambda stub: stub.shut_down(stub.primary.index),
    "elect": lambda stub: stub.elect(1),
}


@pytest.mark.parametrize("mishap", MISHAPS)
def test_a_transaction_that_lost_its_primary_is_run_again(mishap):
    stub = StubSet()
    with things(stub, *PATIENT) as (proxy, client):
        runs = []

        def work(session):
            runs.append(session)
            client.test.things.insert_one({"_id": "a"}, session=session)
            if len(runs) == 1:
                MISHAPS[mishap](stub)
                stub.wait_until(lambda: stub.primary and stub.primary.index != 0)
            client.test.things.insert_one({"_id": "b"}, session=session)

        with client.start_session() as session, pymongo.timeout(PROMPT_S):
            session.with_transaction(work)
        assert len(runs) >= 2
        assert proxy.state()["pins"] == 0
        assert client.test.things.count_documents({"_id": {"$in": ["a", "b"]}}) == 2


@pytest.mark.parametrize("mishap", MISHAPS)
def test_a_statement_is_told_that_its_transaction_is_lost(mishap):
    stub = StubSet()
    with things(stub, *PATIENT) as (proxy, client), client.start_session() as session:
        session.start_transaction()
        client.test.things.insert_one({"_id": "a"}, session=session)
        MISHAPS[mishap](stub)
        stub.wait_until(lambda: stub.primary and stub.primary.index != 0)
        with pytest.raises(OperationFailure) as lost, pymongo.timeout(PROMPT_S):
            client.test.things.insert_one({"_id": "b"}, session=session)
        assert lost.value.has_error_label("TransientTransactionError")
        assert lost.value.code in (6, 251)
        session.abort_transaction()
        assert client.test.things.count_documents({"_id": {"$in": ["a", "b"]}}) == 0


@pytest.mark.parametrize("mishap", MISHAPS)
def test_a_commit_that_lost_its_primary_is_run_again(mishap):
    stub = StubSet()
    with things(stub, *PATIENT) as (proxy, client):
        runs = []

        def work(session):
            runs.append(session)
            client.test.things.insert_one({"_id": "a"}, session=session)
            if len(runs) == 1:
                MISHAPS[mishap](stub)
                stub.wait_until(lambda: stub.primary and stub.primary.index != 0)

        with client.start_session() as session, pymongo.timeout(PROMPT_S):
            session.with_transaction(work)
        assert len(runs) == 2
        assert client.test.things.count_documents({"_id": "a"}) == 1


@pytest.mark.parametrize("executed", (True, False))
def test_a_commit_whose_reply_was_lost_ends_well(executed):
    stub = StubSet()
    with things(stub) as (_, client):
        fault = stub.fail("commitTransaction", close=True, executes=executed)
        with client.start_session() as session:
            session.with_transaction(
                lambda session: client.test.things.insert_one({"_id": "a"}, session=session)
            )
        assert fault.hits == 1
        assert client.test.things.count_documents({"_id": "a"}) == 1


def test_a_commit_after_the_failover_of_a_committed_transaction_says_so():
    stub = StubSet()
    with things(stub) as (_, client), client.start_session() as session:
        session.start_transaction()
        client.test.things.insert_one({"_id": "a"}, session=session)
        session.commit_transaction()
        stub.kill(0)
        session.commit_transaction()
        assert members_asked(stub, "commitTransaction") in ({0, 1}, {0, 2})


def test_transactions_of_several_clients_at_once():
    stub = StubSet()
    with things(stub) as (proxy, client):
        with contextlib.ExitStack() as stack:
            sessions = [stack.enter_context(client.start_session()) for _ in range(12)]
            for number, session in enumerate(sessions):
                session.start_transaction()
                client.test.things.insert_one({"_id": f"t{number}"}, session=session)
            assert proxy.state()["pins"] == 12 and proxy.state()["in_flight"] == 0
            for number, session in enumerate(sessions):
                if number % 2:
                    session.commit_transaction()
                else:
                    session.abort_transaction()
        assert client.test.things.count_documents({}) == DOCUMENTS + 6
        proxy.wait_until_at_rest(clients=proxy.state()["clients"])


def test_a_cursor_in_a_transaction_stays_with_it():
    stub = StubSet("sharded", 3)
    with things(stub) as (proxy, client):
        for _ in range(6):
            stub.commands.clear()
            with client.start_session() as session, session.start_transaction():
                found = client.test.things.find(session=session, batch_size=3)
                assert len(list(found)) == DOCUMENTS
            assert len(members_asked(stub, "find", "getMore", "commitTransaction")) == 1


# --- change streams -----------------------------------------------------------------------------


@pytest.mark.parametrize("mishap", MISHAPS)
@pytest.mark.parametrize("preference", (None, Secondary()), ids=("primary", "secondary"))
def test_a_change_stream_misses_nothing_in_a_failover(mishap, preference):
    stub = StubSet()
    with things(stub, *BRIEF) as (proxy, client):
        watched = client.get_database("test", read_preference=preference).things
        with watched.watch(max_await_time_ms=50) as stream:
            for number in range(30):
                if number == 10:
                    MISHAPS[mishap](stub)
                    stub.wait_until(lambda: stub.primary and stub.primary.index != 0)
                client.test.things.insert_one({"_id": f"new{number}"})
            seen = [next(stream)["documentKey"]["_id"] for _ in range(30)]
        assert seen == [f"new{number}" for number in range(30)]
