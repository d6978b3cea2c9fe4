# SPDX-License-Identifier: Apache-2.0
"""Elections and faults, under an app that writes and reads."""

from __future__ import annotations

import select
import threading

import pytest
from pymongo.errors import (
    AutoReconnect,
    ConnectionFailure,
    NotPrimaryError,
    OperationFailure,
    WriteConcernError,
)

from .speaker import Speaker

FAILOVERS = {
    "step_down": lambda stub, primary: stub.step_down(),
    "kill": lambda stub, primary: stub.kill(primary),
    "shut_down": lambda stub, primary: stub.shut_down(primary),
    "elect": lambda stub, primary: stub.elect((primary + 1) % 3),
    "black_hole": lambda stub, primary: stub.black_hole(primary),
}
BACK = {"kill": "restart", "shut_down": "restart"}


@pytest.mark.parametrize("how", FAILOVERS)
def test_retryable_writes_survive_and_happen_once(stubs, connect, how):
    stub = stubs()
    timeouts = {"socketTimeoutMS": 1000, "connectTimeoutMS": 1000} if how == "black_hole" else {}
    client = connect(stub.uri, **timeouts)
    things = client.test.things
    things.insert_one({"_id": 1, "n": 0})
    for done in range(1, 60):
        if done % 20 == 10:
            primary = stub.primary.index
            FAILOVERS[how](stub, primary)
        things.update_one({"_id": 1}, {"$inc": {"n": 1}})
        assert things.find_one() == {"_id": 1, "n": done}
        if done % 20 == 19 and how in BACK:
            getattr(stub, BACK[how])(primary)
        elif done % 20 == 19 and how == "black_hole":
            stub.black_hole(primary, on=False)


def test_a_black_hole_keeps_connections_and_answers_when_it_ends(stubs):
    stub = stubs("standalone")
    first, second = Speaker(stub), Speaker(stub)
    assert first.ask({"ping": 1})["ok"]
    stub.black_hole(0)
    first.connection.post({"ping": 1})
    second.connection.post({"ping": 1})
    assert not first.connection.is_ended(0.05)
    assert stub.tally(0).open == 2 and len(stub.asked("ping")) == 1
    stub.black_hole(0, on=False)
    for speaker in (first, second):
        assert speaker.connection.receive().document["ok"]


def test_a_reply_that_is_due_in_a_black_hole_comes_after_it(stubs):
    stub = stubs()
    speaker, writer = Speaker(stub, 1), Speaker(stub, 0)
    watch = {"aggregate": "things", "pipeline": [{"$changeStream": {}}], "cursor": {}}
    opened = speaker.ask({**watch, "$readPreference": {"mode": "nearest"}})["cursor"]["id"]
    more = {"getMore": opened, "collection": "things", "maxTimeMS": 60_000}
    speaker.connection.post({**more, "lsid": speaker.session})
    stub.wait_until(lambda: stub.asked("getMore"))
    stub.black_hole(1)
    writer.ask({"insert": "things", "documents": [{}]})
    assert not select.select([speaker.connection.stream], [], [], 0.15)[0]
    stub.black_hole(1, on=False)
    assert len(speaker.connection.receive().document["cursor"]["nextBatch"]) == 1


def test_executed_and_then_closed_is_executed_once(stubs, connect):
    stub = stubs()
    things = connect(stub.uri).test.things
    fault = stub.fail("insert", close=True, executes=True)
    things.insert_one({"_id": 1})
    assert fault.hits == 1 and things.count_documents({}) == 1
    first, second = stub.asked("insert")
    assert (first.lsid, first.txn_number) == (second.lsid, second.txn_number)


def test_a_write_without_a_number_is_executed_twice_if_sent_twice(stubs, connect):
    stub = stubs()
    things = connect(stub.uri, retryWrites=False).test.things
    things.insert_one({"_id": 1, "n": 0})
    stub.fail("update", close=True, executes=True)
    with pytest.raises(AutoReconnect):
        things.update_one({"_id": 1}, {"$inc": {"n": 1}})
    things.update_one({"_id": 1}, {"$inc": {"n": 1}})
    assert things.find_one()["n"] == 2


@pytest.mark.parametrize("code", [10107, 13435, 11602, 189, 91, 11600])
def test_scripted_state_change_errors_are_labelled_as_by_mongod(stubs, connect, code):
    stub = stubs()
    things = connect(stub.uri).test.things
    stub.fail("insert", code=code)
    things.insert_one({"_id": 1})
    assert len(stub.asked("insert")) == 2
    stub.fail("insert", code=code)
    unlabelled = connect(stub.uri, retryWrites=False).test.things
    with pytest.raises(NotPrimaryError) as raised:
        unlabelled.insert_one({"_id": 2})
    assert not raised.value.has_error_label("RetryableWriteError")
    assert raised.value.details["topologyVersion"]


def test_a_write_under_way_is_interrupted_by_a_stepdown(stubs, connect):
    stub = stubs()
    things = connect(stub.uri, retryWrites=False).test.things
    things.insert_one({"_id": 1})
    for executes, raised in ((False, NotPrimaryError), (True, WriteConcernError)):
        fault = stub.fail("insert", delay_s=60, executes=executes)
        stepping = threading.Thread(
            target=lambda: (stub.wait_until(lambda: fault.hits), stub.step_down())
        )
        stepping.start()
        with pytest.raises((raised, NotPrimaryError)) as got:
            things.insert_one({"_id": 2})
        stepping.join()
        assert got.value.code == 11602 if executes else got.value.details["code"] == 11602
        stub.wait_until(lambda: stub.primary)
    assert things.count_documents({}) == 2


def test_a_fault_is_for_whom_it_names_and_as_often_as_it_says(stubs, connect):
    stub = stubs()
    client = connect(stub.uri, retryReads=False)
    fault = stub.fail(
        "find", member=0, times=2, code=50, labels=["Odd"], when=lambda b: b["find"] == "a"
    )
    client.test.b.find_one()
    for _ in range(2):
        with pytest.raises(OperationFailure) as raised:
            client.test.a.find_one()
        assert raised.value.has_error_label("Odd")
    client.test.a.find_one()
    assert fault.hits == 2


def test_a_full_server_closes_before_hello(stubs, connect):
    stub = stubs("standalone")
    stub.refuse_above(0, 0)
    client = connect(stub.uri, serverSelectionTimeoutMS=200)
    with pytest.raises(ConnectionFailure):
        client.admin.command("ping")
    assert stub.members[0].refused and not stub.asked()
    stub.refuse_above(0, None)
    connect(stub.uri).admin.command("ping")


def test_an_executed_write_learns_of_the_stepdown_and_is_sent_again(stubs, connect):
    stub = stubs()
    things = connect(stub.uri).test.things
    fault = stub.fail("insert", delay_s=60, executes=True)

    def step_down() -> None:
        stub.wait_until(lambda: fault.hits)
        stub.step_down()

    stepping = threading.Thread(target=step_down)
    stepping.start()
    assert things.insert_one({"_id": 1}).inserted_id == 1
    stepping.join()
    assert len(stub.asked("insert")) == 2 and things.count_documents({}) == 1


def test_all_members_restart_one_after_the_other(stubs, connect):
    stub = stubs()
    things = connect(stub.uri).test.things
    for index in range(3):
        stub.shut_down(index)
        things.insert_one({"_id": index})
        stub.restart(index)
    assert things.count_documents({}) == 3


def test_a_whole_set_goes_down_and_comes_back(stubs, connect):
    stub = stubs()
    things = connect(stub.uri).test.things
    things.insert_one({"_id": 1})
    for index in range(3):
        stub.kill(index)
    with pytest.raises(ConnectionFailure):
        connect(stub.uri, serverSelectionTimeoutMS=100).test.things.find_one()
    for index in range(3):
        stub.restart(index)
    things.insert_one({"_id": 2})
    assert things.count_documents({}) == 2


@pytest.mark.parametrize("lost", [(1, 0), (1, 2)])
def test_no_majority_no_primary(stubs, connect, lost):
    stub = stubs()
    for index in lost:
        stub.kill(index)
    impatient = connect(stub.uri, serverSelectionTimeoutMS=300)
    with pytest.raises(ConnectionFailure):
        impatient.test.things.insert_one({})
    stub.restart(1)
    connect(stub.uri).test.things.insert_one({})
