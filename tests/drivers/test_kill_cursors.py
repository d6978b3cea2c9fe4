# SPDX-License-Identifier: Apache-2.0
"""One killCursors for cursors of several servers: each kills its own, and the app has one answer."""

from __future__ import annotations

import sys
import uuid
from pathlib import Path

import bson
import pytest
import raw
import weir

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from stubset import StubSet  # noqa: E402

UNKNOWN = bson.Int64(4711)


@pytest.fixture
def stub():
    with StubSet(members=3) as stub:
        yield stub


@pytest.fixture
def connection(stub):
    with weir.Weir(stub.uri) as proxy:
        with raw.Connection.to((proxy.host, proxy.port)) as connection:
            connection.hello()
            connection.ask({"insert": "things", "documents": [{"_id": i} for i in range(9)]})
            yield connection


def open_cursor(connection, lsid: dict, mode: str) -> bson.Int64:
    reply = connection.ask(
        {"find": "things", "batchSize": 2, "lsid": lsid, "$readPreference": {"mode": mode}}
    )
    assert reply["ok"] and reply["cursor"]["id"], reply
    return bson.Int64(reply["cursor"]["id"])


def kill(connection, lsid: dict, cursors: list) -> dict:
    return connection.ask({"killCursors": "things", "cursors": cursors, "lsid": lsid})


def test_each_server_is_asked_for_its_own(stub, connection):
    lsid = {"id": bson.Binary.from_uuid(uuid.uuid4())}
    here = open_cursor(connection, lsid, "primary")
    there = open_cursor(connection, lsid, "secondary")
    reply = kill(connection, lsid, [here, there, UNKNOWN])
    assert reply["ok"] and sorted(reply["cursorsKilled"]) == sorted([here, there])
    assert reply["cursorsNotFound"] == [UNKNOWN]
    assert reply["cursorsAlive"] == reply["cursorsUnknown"] == []
    for cursor in (here, there):
        assert connection.ask({"getMore": cursor, "collection": "things", "lsid": lsid})["code"] == 43
    assert sorted(command.member for command in stub.asked("killCursors")) == sorted(
        command.member for command in stub.asked("find")
    )


def test_an_error_of_one_is_the_answer(stub, connection):
    lsid = {"id": bson.Binary.from_uuid(uuid.uuid4())}
    cursors = [open_cursor(connection, lsid, mode) for mode in ("primary", "secondary")]
    stub.fail("killCursors", times=1, code=13)
    assert kill(connection, lsid, cursors)["code"] == 13
    reply = kill(connection, lsid, cursors)
    assert sorted(reply["cursorsKilled"]) == sorted(cursors)
