# SPDX-License-Identifier: Apache-2.0
"""Operations under way: listed, and killed by number or with their session."""

from __future__ import annotations

import threading

import pytest
import raw
from bson import Int64

from .speaker import Speaker, lsid

CURRENT = {"aggregate": 1, "pipeline": [{"$currentOp": {}}], "cursor": {}}


class Slow:
    """A find that takes its time, by hand; what it is answered."""

    def __init__(self, stub, index: int = 0):
        self.fault = stub.fail("find", delay_s=30)
        self.speaker = Speaker(stub, index)
        self.number = self.speaker.connection.hello()["connectionId"]
        self.reply: dict = {}
        self._thread = threading.Thread(target=self._ask)
        self._thread.start()
        stub.wait_until(lambda: self.fault.delayed == 1)

    def _ask(self) -> None:
        find = {"find": "things", "$readPreference": {"mode": "nearest"}}
        self.reply = self.speaker.ask(find)

    def ended(self) -> dict:
        self._thread.join(10)
        return self.reply


def admin(connection: raw.Connection, command: dict) -> dict:
    return connection.ask(command, db="admin")


@pytest.fixture
def stub(stubs):
    return stubs(members=2)


def connect(stub, index: int = 0) -> raw.Connection:
    connection = raw.Connection.to(("127.0.0.1", stub.members[index].port))
    connection.hello()
    return connection


def test_by_its_number(stub):
    slow = Slow(stub)
    with connect(stub) as other:
        (found,) = admin(other, CURRENT)["cursor"]["firstBatch"]
        assert found["connectionId"] == slow.number and found["microsecs_running"] > 0
        assert admin(other, {"killOp": 1, "op": found["opid"]})["ok"] == 1
        assert slow.ended()["code"] == 11601
        assert admin(other, CURRENT)["cursor"]["firstBatch"] == []
        assert admin(other, {"killOp": 1, "op": 4711})["ok"] == 1  # as of one that has ended


def test_with_its_session(stub):
    slow = Slow(stub, 1)
    with connect(stub) as elsewhere, connect(stub, 1) as here:
        everything = {"killSessions": [slow.speaker.session]}
        assert admin(elsewhere, everything)["ok"] == 1  # a member kills what it has itself
        assert admin(here, {"killSessions": [lsid()]})["ok"] == 1
        assert slow.fault.delayed == 1
        assert admin(here, everything)["ok"] == 1
    assert slow.ended()["code"] == 11601


@pytest.mark.parametrize(
    "command, db, code",
    (
        ({"killOp": 1, "op": 1}, "test", 13),
        ({"killOp": 1, "op": "1"}, "admin", 14),
        ({"killOp": 1}, "admin", 40414),
        (CURRENT, "test", 73),
        ({**CURRENT, "aggregate": "things"}, "admin", 73),
    ),
)
def test_asked_wrongly(stubs, command, db, code):
    with connect(stubs(rejects=True)) as connection:
        assert connection.ask(command, db=db)["code"] == code


def test_a_secondary_lists_them_to_who_may_read_there(stubs):
    stub = stubs(members=2, rejects=True)
    with connect(stub, 1) as connection:
        assert admin(connection, CURRENT)["code"] == 13435
        nearest = {"$readPreference": {"mode": "nearest"}}
        assert admin(connection, CURRENT | nearest)["ok"] == 1


def test_a_mongos_lists_its_own_when_asked_for_them(stubs):
    stub = stubs("sharded")
    slow = Slow(stub)
    with connect(stub) as other:
        assert admin(other, CURRENT)["cursor"]["firstBatch"] == []
        local = [{"$currentOp": {"localOps": True}}, {"$match": {"connectionId": Int64(slow.number)}}]
        (found,) = admin(other, CURRENT | {"pipeline": local})["cursor"]["firstBatch"]
        admin(other, {"killOp": 1, "op": found["opid"]})
    assert slow.ended()["code"] == 11601
