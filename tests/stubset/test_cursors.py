# SPDX-License-Identifier: Apache-2.0
"""Cursors, tailable ones, and change streams."""

from __future__ import annotations

import threading

import pytest
import raw
from pymongo.cursor import CursorType
from pymongo.read_preferences import Secondary

from .speaker import Speaker, lsid

NEAREST = {"$readPreference": {"mode": "nearest"}}


@pytest.fixture
def filled(stubs, connect):
    def make(**named):
        stub = stubs(**named)
        connect(stub.uri).test.things.insert_many([{"_id": n} for n in range(10)])
        return stub

    return make


def test_a_driver_reads_all_of_it_wherever(filled, connect):
    stub = filled(collide_cursor_ids=True)
    things = connect(stub.uri).test.things
    secondary = things.with_options(read_preference=Secondary())
    cursors = [c.find(batch_size=2).sort("_id") for c in (things, secondary, things, secondary)]
    rows = list(zip(*cursors))
    assert rows == [({"_id": n},) * 4 for n in range(10)]
    ids = {(c.member, c.body["getMore"]) for c in stub.asked("getMore")}
    assert len(ids) > len({number for _, number in ids})
    assert not any(len(member.cursors) for member in stub.members)


def test_a_cursor_is_known_to_its_member_session_and_collection_alone(filled):
    stub = filled(rejects=True)
    speaker = Speaker(stub, 1)
    opened = speaker.ask({"find": "things", "batchSize": 1}, **NEAREST)["cursor"]["id"]
    more = {"getMore": opened, "collection": "things"}
    assert Speaker(stub, 2, speaker.session).ask(more)["code"] == 43
    assert Speaker(stub, 1, lsid()).ask(more)["code"] == 50738
    assert speaker.connection.ask(more)["code"] == 50737
    assert speaker.ask({**more, "collection": "other"})["code"] == 13
    assert speaker.ask({**more, "maxTimeMS": 10})["code"] == 2
    bare = speaker.connection.ask({"find": "things", "batchSize": 1, **NEAREST})["cursor"]["id"]
    assert speaker.ask({"getMore": bare, "collection": "things"})["code"] == 50736
    assert len(speaker.ask(more)["cursor"]["nextBatch"]) == 9
    assert speaker.ask(more)["code"] == 43
    assert len(stub.rejections) == 7


def test_kill_cursors_tells_them_apart(filled):
    stub = filled(rejects=True)
    here, there = Speaker(stub, 0), Speaker(stub, 1)
    mine = here.ask({"find": "things", "batchSize": 1})["cursor"]["id"]
    other = there.ask({"find": "things", "batchSize": 1}, **NEAREST)["cursor"]["id"]
    reply = here.ask({"killCursors": "things", "cursors": [mine, other, 99]})
    assert reply["cursorsKilled"] == [mine]
    assert reply["cursorsNotFound"] == [other, 99]
    assert reply["cursorsAlive"] == reply["cursorsUnknown"] == []
    assert [rejection.name for rejection in stub.rejections] == ["killCursors"]


def test_cursors_outlive_a_stepdown_but_not_a_death(filled):
    stub = filled()
    speaker = Speaker(stub)
    opened = speaker.ask({"find": "things", "batchSize": 1})["cursor"]["id"]
    stub.step_down()
    more = {"getMore": opened, "collection": "things", "batchSize": 1}
    assert speaker.ask(more)["ok"]
    stub.kill(0)
    stub.restart(0)
    assert Speaker(stub, 0, speaker.session).ask(more)["code"] == 43


def test_a_tailable_cursor_waits(stubs, connect):
    stub = stubs()
    things = connect(stub.uri).test.create_collection("log", capped=True, size=4096)
    things.insert_one({"_id": 1})
    cursor = things.find(cursor_type=CursorType.TAILABLE_AWAIT).max_await_time_ms(5000)
    assert cursor.next() == {"_id": 1}
    _when_asked(stub, lambda: things.insert_one({"_id": 2}))
    assert cursor.next() == {"_id": 2}
    cursor.close()
    assert not len(stub.members[0].cursors)


def _when_asked(stub, act) -> None:
    """Does it in a thread, as soon as one more getMore has come."""
    before = len(stub.asked("getMore"))

    def wait_and_act():
        stub.wait_until(lambda: len(stub.asked("getMore")) > before)
        act()

    threading.Thread(target=wait_and_act, daemon=True).start()


def test_a_change_stream_tells_of_changes(stubs, connect):
    stub = stubs()
    things = connect(stub.uri).test.things
    with things.watch(full_document="updateLookup", max_await_time_ms=5000) as stream:
        _when_asked(stub, lambda: things.insert_one({"_id": 1}))
        assert stream.next()["operationType"] == "insert"
        things.update_one({"_id": 1}, {"$set": {"a": 1}})
        connect(stub.uri).test.others.insert_one({})
        things.delete_one({"_id": 1})
        updated = stream.next()
        assert (updated["operationType"], updated["fullDocument"]) == ("update", {"_id": 1, "a": 1})
        token = stream.resume_token
        assert stream.next()["documentKey"] == {"_id": 1}
    with things.watch(resume_after=token) as stream:
        assert stream.next()["operationType"] == "delete"


def _kill_and_restart(stub) -> None:
    """A member that stays away is waited for by pymongo, for serverSelectionTimeoutMS."""
    stub.kill(0)
    stub.restart(0)


FAILOVERS = {"step_down": lambda stub: stub.step_down(), "kill": _kill_and_restart}


@pytest.mark.parametrize("how", FAILOVERS)
def test_a_change_stream_is_resumed_after_a_failover(stubs, connect, how):
    stub = stubs()
    client = connect(stub.uri)
    things = client.test.things
    with things.watch(max_await_time_ms=100) as stream:
        for number in range(6):
            if number == 3:
                FAILOVERS[how](stub)
            things.insert_one({"_id": number})
            assert stream.next()["documentKey"] == {"_id": number}
    assert len(stub.asked("aggregate")) == (2 if how == "kill" else 1)


def test_a_change_stream_is_resumed_for_a_label_alone(stubs, connect):
    stub = stubs()
    things = connect(stub.uri).test.things
    with things.watch(max_await_time_ms=100) as stream:
        things.insert_one({"_id": 1})
        stub.fail("getMore", code=10107)
        assert stream.next()["documentKey"] == {"_id": 1}
    assert len(stub.asked("aggregate")) == 2


def test_shutting_down_interrupts_who_waits(stubs):
    stub = stubs()
    speaker = Speaker(stub)
    watch = {"aggregate": "things", "pipeline": [{"$changeStream": {}}], "cursor": {}}
    opened = speaker.ask(watch)["cursor"]["id"]
    more = {"getMore": opened, "collection": "things", "maxTimeMS": 60_000}
    _when_asked(stub, lambda: stub.shut_down(0))
    reply = speaker.ask(more)
    assert reply["code"] == 11600 and reply["errorLabels"] == ["ResumableChangeStreamError"]
    assert speaker.connection.is_ended()


def test_a_stream_of_hello_pushes_what_changed(stubs):
    stub = stubs()
    with raw.Connection.to(("127.0.0.1", stub.members[0].port)) as connection:
        version = connection.hello()["topologyVersion"]
        waits = {"hello": 1, "topologyVersion": version, "maxAwaitTimeMS": 60_000}
        connection.post(waits, db="admin", flags=1 << 16)
        stub.wait_until(lambda: len(stub.asked("hello")) == 2)
        stub.step_down(elects=False)
        first = connection.receive()
        stub.elect(0)
        second = connection.receive()
    assert first.payload[0] & raw.MORE_TO_COME and second.payload[0] & raw.MORE_TO_COME
    assert second.response_to == first.request_id
    assert not first.document["isWritablePrimary"] and second.document["isWritablePrimary"]
