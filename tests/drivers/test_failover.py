# SPDX-License-Identifier: Apache-2.0
"""What apps notice when the primary goes: nothing, or the truth."""

from __future__ import annotations

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor

import bson
import pymongo
import pytest
from bson.int64 import Int64
from deployments import (
    CAP,
    Crowd,
    StubSet,
    speaking_to,
    wait_for_members,
    wait_for_news,
    weir_before,
)
from drivers import DRIVERS
from pymongo.read_preferences import Nearest

STATE_CHANGES = (10107, 13435, 13436, 189, 91, 11600, 11602)
ONE_OF_EACH_KIND = (10107, 11602, 91)  # not primary, recovering, shutting down
THREADS = 8


# --- under load ---------------------------------------------------------------------------------


def rolling_restart(stub: StubSet) -> None:
    for index in (1, 2, 0):
        stub.shut_down(index)
        stub.restart(index)
        stub.wait_until(lambda: stub.primary)


def all_down_and_back(stub: StubSet) -> None:
    for index in range(3):
        stub.kill(index)
    for index in range(3):
        stub.restart(index)
    stub.wait_until(lambda: stub.primary)


def mend(stub: StubSet) -> None:
    """All members are there again, so that another one can be lost."""
    for member in stub.members:
        if member.is_silent:
            stub.black_hole(member.index, on=False)
        if not member.is_running:
            stub.restart(member.index)
    stub.wait_until(lambda: stub.primary)


def black_hole(stub: StubSet) -> None:
    mend(stub)
    stub.black_hole(stub.primary.index)
    stub.wait_until(lambda: stub.primary)


def kill(stub: StubSet) -> None:
    mend(stub)
    stub.kill(stub.primary.index)
    stub.wait_until(lambda: stub.primary)


def shut_down(stub: StubSet) -> None:
    mend(stub)
    stub.shut_down(stub.primary.index)


MISHAPS = {
    "step_down": lambda stub: stub.step_down(),
    "kill": kill,
    "shut_down": shut_down,
    "black_hole": black_hole,
    "rolling_restart": rolling_restart,
    "all_down_and_back": all_down_and_back,
}


def linger(stub: StubSet) -> None:
    """Updates take a moment, so that each mishap meets some: half of them before they are executed,
    half of them when they are done and not answered yet."""
    for odd in (0, 1):
        stub.fail(
            "update", delay_s=0.005, executes=bool(odd), times=None,
            when=lambda body, odd=odd: body["updates"][0]["q"]["_id"] % 2 == odd,
        )  # fmt: skip


def increment(client: pymongo.MongoClient, number: int, turn: int) -> None:
    """A retryable write and a read of what it wrote: it happened exactly once."""
    things = client.test.things
    things.update_one({"_id": number}, {"$inc": {"n": 1}}, upsert=True)
    assert things.find_one({"_id": number}) == {"_id": number, "n": turn + 1}


@pytest.mark.parametrize("mishap", MISHAPS)
def test_reads_and_retryable_writes_see_no_error_and_happen_once(mishap):
    stub = StubSet()
    linger(stub)
    with weir_before(stub) as proxy:
        wait_for_members(stub, proxy)
        with Crowd(proxy.uri, increment, threads=THREADS) as crowd:
            crowd.wait_for_turns()
            MISHAPS[mishap](stub)
            crowd.wait_for_turns()
            MISHAPS[mishap](stub)
            crowd.wait_for_turns()
        assert crowd.errors == []
        with pymongo.MongoClient(proxy.uri) as client:
            found = {document["_id"]: document["n"] for document in client.test.things.find()}
        assert found == dict(enumerate(crowd.done))


def test_reads_from_anybody_see_no_error():
    stub = StubSet()

    def read(client, number, turn):
        client.get_database("test", read_preference=Nearest()).things.find_one()

    with weir_before(stub) as proxy:
        wait_for_members(stub, proxy)
        with Crowd(proxy.uri, read, threads=THREADS) as crowd:
            for mishap in MISHAPS.values():
                crowd.wait_for_turns()
                mishap(stub)
            crowd.wait_for_turns()
        assert crowd.errors == []


@pytest.mark.parametrize("mishap", MISHAPS)
def test_writes_that_cannot_be_repeated_are_told_the_truth(mishap):
    """update_many: done once if the driver says so, at most once if it does not."""
    stub = StubSet()
    linger(stub)
    applied = [[0, 0] for _ in range(THREADS)]  # how often it said so, and how often it did not

    def add(client, number, turn):
        try:
            client.test.things.update_many({"_id": number}, {"$inc": {"n": 1}})
            applied[number][0] += 1
        except pymongo.errors.PyMongoError as error:
            applied[number][1] += 1
            assert error.code == 6 and not error.has_error_label("NoWritesPerformed")

    with weir_before(stub) as proxy, pymongo.MongoClient(proxy.uri) as client:
        wait_for_members(stub, proxy)
        client.test.things.insert_many([{"_id": number, "n": 0} for number in range(THREADS)])
        with Crowd(proxy.uri, add, threads=THREADS) as crowd:
            crowd.wait_for_turns()
            MISHAPS[mishap](stub)
            crowd.wait_for_turns()
        assert crowd.errors == []
        for document in client.test.things.find():
            sure, unsure = applied[document["_id"]]
            assert sure <= document["n"] <= sure + unsure


# --- what is passed on of a server's errors -----------------------------------------------------

SESSION = {"lsid": {"id": bson.Binary(bytes(range(16)), 4)}}
INSERT = {"insert": "things", "documents": [{"_id": 1}]}
UPDATE = {"update": "things", "updates": [{"q": {}, "u": {"$set": {"a": 1}}, "multi": True}]}
RETRYABLE = {**INSERT, **SESSION, "txnNumber": Int64(1)}
STATEMENT = {**RETRYABLE, "startTransaction": True, "autocommit": False}
COMMIT = {"commitTransaction": 1, **SESSION, "txnNumber": Int64(1), "autocommit": False}


@contextlib.contextmanager
def speaking(stub: StubSet, *arguments: str, **named):
    with weir_before(stub, *arguments, **named) as proxy, speaking_to(proxy) as connection:
        wait_for_members(stub, proxy)
        yield proxy, connection


def test_no_error_of_a_changing_server_reaches_an_app_as_such():
    stub = StubSet()
    with speaking(stub) as (_, connection):
        for code in STATE_CHANGES:
            stub.fail("update", write_concern_error={"code": code, "errmsg": "scripted"})
            reply = connection.ask(UPDATE)
            assert (reply["ok"], reply["writeConcernError"]["code"]) == (1, 6)
            assert "topologyVersion" not in reply

            stub.fail("update", code=code)
            reply = connection.ask(UPDATE)
            assert (reply["ok"], reply["code"]) == (0, 6)
            assert "topologyVersion" not in reply and "errorLabels" not in reply


def test_nor_in_a_transaction_where_its_labels_stay():
    stub = StubSet()
    with speaking(stub) as (_, connection):
        stub.fail("insert", code=11602)
        reply = connection.ask(STATEMENT)
        assert reply["code"] == 6 and reply["errorLabels"] == ["TransientTransactionError"]
        stub.fail("commitTransaction", code=11602)
        reply = connection.ask(COMMIT, db="admin")
        assert reply["code"] == 6 and reply["errorLabels"] == ["RetryableWriteError"]


def test_what_may_be_repeated_is_repeated():
    stub = StubSet()
    with speaking(stub) as (_, connection):
        for number, code in enumerate(ONE_OF_EACH_KIND):
            documents = [{"_id": number}]
            stub.fail("insert", code=code)
            reply = connection.ask(
                {**RETRYABLE, "documents": documents, "txnNumber": Int64(number)}
            )
            assert reply["n"] == 1, reply
            stub.fail("find", code=code)
            reply = connection.ask({"find": "things", "filter": documents[0]})
            assert reply["cursor"]["firstBatch"] == documents
        assert len(stub.asked("insert")) == len(stub.asked("find")) == 2 * len(ONE_OF_EACH_KIND)


def test_a_retryable_write_that_was_done_and_not_answered_is_not_done_again():
    stub = StubSet()
    with speaking(stub) as (_, connection):
        lost = stub.fail("insert", close=True, executes=True)
        reply = connection.ask(RETRYABLE)
        assert (reply["n"], reply["retriedStmtIds"], lost.hits) == (1, [0], 1)


def test_a_retryable_write_that_is_lost_twice_is_left_to_the_driver():
    stub = StubSet()
    with speaking(stub) as (_, connection):
        stub.fail("insert", close=True, times=2)
        reply = connection.ask(RETRYABLE)
        assert reply["code"] == 6 and reply["errorLabels"] == ["RetryableWriteError"]
        assert connection.ask(RETRYABLE)["n"] == 1


@pytest.mark.parametrize("executes", (True, False))
def test_the_outcome_of_a_lost_write_is_said_to_be_unknown(executes):
    stub = StubSet()
    with speaking(stub) as (_, connection):
        stub.fail("insert", close=True, executes=executes)
        reply = connection.ask(INSERT)
        assert reply["code"] == 6 and "errorLabels" not in reply
        assert "outcome unknown" in reply["errmsg"]
        assert len(stub.asked("insert")) == 1


def test_a_server_s_own_no_writes_performed_is_for_what_is_repeated_only():
    """Some Go drivers report success for a write that has it and that they do not repeat."""
    stub = StubSet()
    labels = ["NoWritesPerformed", "RetryableWriteError"]
    with speaking(stub) as (_, connection):
        for command in (INSERT, {"update": "things", "updates": [], **SESSION}):
            stub.fail(next(iter(command)), code=262, labels=labels)
            assert connection.ask(command)["errorLabels"] == ["RetryableWriteError"]
        stub.fail("insert", code=262, labels=labels)
        assert connection.ask(RETRYABLE)["errorLabels"] == labels


# --- how long it may take -----------------------------------------------------------------------


def lose_primary(stub: StubSet, proxy) -> None:
    """Nobody is elected until the test says so."""
    host = stub.primary.host
    stub.step_down(elects=False)
    wait_for_news(proxy, "server_changed", server=host, kind="secondary")


def test_server_wait_bounds_the_wait_for_a_primary():
    stub = StubSet(elects=False)
    with speaking(stub, "--server-wait", "500ms") as (proxy, connection):
        lose_primary(stub, proxy)
        labels = ["RetryableWriteError", "NoWritesPerformed"]
        for command, code, wanted in (
            (INSERT, 6, []),
            (RETRYABLE, 6, labels),
            (STATEMENT, 6, ["TransientTransactionError"]),
            ({"find": "things"}, 6, []),
        ):
            began = time.monotonic()
            reply = connection.ask(command)
            assert reply["code"] == code and time.monotonic() - began >= 0.5
            assert sorted(reply.get("errorLabels", [])) == sorted(wanted)


def test_max_time_bounds_it_too():
    stub = StubSet(elects=False)
    with speaking(stub, "--server-wait", "60s") as (proxy, connection):
        lose_primary(stub, proxy)
        assert connection.ask({**INSERT, "maxTimeMS": 200})["code"] == 50
        assert connection.ask({"find": "things", "maxTimeMS": 200})["code"] == 50
        assert not stub.asked("insert", "find")


def test_the_queue_stays_bounded_while_there_is_no_primary():
    """Who waits looks again now and then, and keeps the place."""
    stub = StubSet(elects=False)
    room, more = 5, 15
    with speaking(stub, "--max-queue", str(room), "--server-wait", "60s") as (proxy, _):
        lose_primary(stub, proxy)

        def insert() -> dict:
            with speaking_to(proxy) as connection:
                return connection.ask(INSERT)

        with ThreadPoolExecutor(room + more) as pool:
            first = [pool.submit(insert) for _ in range(room)]
            stub.wait_until(lambda: proxy.state()["queued"] == room)
            refused = [future.result() for future in [pool.submit(insert) for _ in range(more)]]
            assert {reply["code"] for reply in refused} == {462}
            assert all(
                sorted(reply["errorLabels"]) == ["RetryableError", "SystemOverloadedError"]
                for reply in refused
            )
            assert proxy.state()["queued"] == room
            stub.elect(1)
        assert [future.result()["ok"] for future in first] == [1] * room
        assert len(stub.asked("insert")) == room


def test_a_client_that_goes_while_there_is_no_primary_leaves_nothing():
    stub = StubSet(elects=False)
    with speaking(stub, "--server-wait", "60s") as (proxy, connection):
        lose_primary(stub, proxy)
        with speaking_to(proxy) as goner:
            goner.post(INSERT)
            stub.wait_until(lambda: proxy.state()["queued"] == 1)
        stub.wait_until(lambda: proxy.state()["queued"] == 0)
        stub.elect(1)
        assert connection.ask({"count": "things"})["n"] == 0


# --- reopening ----------------------------------------------------------------------------------


def from_weir(body: dict) -> bool:
    return body.get("client", {}).get("driver", {}).get("name") == "weir"


def test_a_primary_that_comes_back_is_not_stormed():
    """Never more than two connections are opening at a member, however many requests wait."""
    stub = StubSet()
    stub.fail("update", times=None, delay_s=0.02)  # so that all connections are needed
    cap = 12
    with weir_before(stub, "--limit", "fixed", "--slow-share", "1", cap=cap) as proxy:
        wait_for_members(stub, proxy)
        opening = [
            stub.fail(
                "hello", "isMaster", member=index, times=None, delay_s=0.03, when=from_weir
            )
            for index in range(3)
        ]
        with Crowd(proxy.uri, increment, threads=32) as crowd:
            crowd.wait_for_turns()
            all_down_and_back(stub)
            crowd.wait_for_turns()
            stub.wait_until(lambda: stub.tally(stub.primary.index, "weir").open == cap)
        assert crowd.errors == []
        assert max(fault.most_delayed for fault in opening) == 2


def test_a_member_that_refuses_connections_is_not_hammered():
    """The pauses between attempts grow: 50 ms at least after the first, then 100, 200 … (ledger.h).
    Nobody is told that the server is gone."""
    stub = StubSet()
    with weir_before(stub) as proxy:
        wait_for_members(stub, proxy)
        stub.refuse_above(0, 0)
        began = time.monotonic()
        with Crowd(proxy.uri, increment, threads=THREADS) as crowd:
            stub.wait_until(lambda: stub.members[0].refused >= 6)
            assert time.monotonic() - began >= 0.35
            stub.refuse_above(0, None)
            crowd.wait_for_turns()
        assert crowd.errors == []


def test_an_election_while_all_connections_are_busy():
    """More apps than connections: those who hold one are interrupted, those who wait go on."""
    stub = StubSet()
    stub.fail("update", delay_s=0.02, times=None)
    with weir_before(stub, "--max-wait", "30s", cap=CAP) as proxy:
        wait_for_members(stub, proxy)
        with Crowd(proxy.uri, increment, threads=4 * CAP) as crowd:
            for how in (kill, lambda stub: stub.step_down(), black_hole):
                crowd.wait_for_turns()
                how(stub)
            crowd.wait_for_turns()
        assert crowd.errors == []


# --- Go's driver --------------------------------------------------------------------------------

@pytest.mark.parametrize("retries", (True, False), ids=("retryable", "not retryable"))
@pytest.mark.parametrize("name", ("go", "go-1"))
def test_go_is_told_of_success_only_where_there_was_some(name, retries):
    """Some of its versions take an error with NoWritesPerformed for success."""
    driver = DRIVERS[name]
    if reason := driver.why_not():
        pytest.skip(f"{name}: {reason}")
    stub = StubSet()
    stub.fail("insert", delay_s=0.005, times=None)
    with weir_before(stub, "--server-wait", "20s", "--max-wait", "20s") as proxy:
        wait_for_members(stub, proxy)
        uri = proxy.uri + ("" if retries else "?retryWrites=false")
        program = driver.start("failover", uri, frozenset(), threads=8)
        for how in (kill, lambda stub: stub.step_down(), shut_down, black_hole):
            inserted = len(stub.asked("insert"))
            stub.wait_until(lambda: len(stub.asked("insert")) > inserted + 40)
            how(stub)
        said = [line.split(maxsplit=3) for line in program.communicate(timeout=60)[0].splitlines()]
        assert program.returncode == 0
        with pymongo.MongoClient(proxy.uri) as client:
            there = {document["_id"] for document in client.test.things.find()}
    done = {int(id) for word, id, *_ in said if word == "done"}
    failed = {int(id): rest for word, id, *rest in said if word == "failed"}
    assert len(done) > 100 and done <= there <= done | failed.keys()
    assert not (retries and failed)
    assert all(rest == ["6", "[]"] for rest in failed.values())
