# SPDX-License-Identifier: Apache-2.0
"""maxTimeMS on its way up: less what was spent waiting, and within admission.maxTimeLimit and
admission.maxTimeDefault. What a server is asked for is seen by a stub of one; that real ones take it
so, by each that there is."""

from __future__ import annotations

import threading
import time

import bson
import pymongo
import pytest
import raw
import servers
import weir
from bson.int64 import Int64
from pymongo.errors import PyMongoError
from stub_server import StubServer, fine

WAITED_S = 0.1


class Holding:
    """Scripts the stub: keeps what has the comment "hold" until it is let go, and every command."""

    def __init__(self, stub: StubServer):
        self.asked: list[dict] = []
        self.came = threading.Event()
        self.let_go = threading.Event()
        stub.script = self._take

    def _take(self, asked) -> None:
        self.asked.append(asked.document)
        if asked.document.get("comment") == "hold":
            self.came.set()
            assert self.let_go.wait(servers.HANG_S)
        fine(asked)

    def seen(self, comment: str) -> dict:
        return next(one for one in self.asked if one.get("comment") == comment)


@pytest.fixture
def stub():
    with StubServer() as stub:
        yield stub


def wait_until_queued(proxy: weir.Weir, count: int) -> None:
    deadline = time.monotonic() + servers.HANG_S
    while proxy.state()["queued"] < count:
        assert time.monotonic() < deadline, "nothing waits"


def ask_behind_another(stub, document: dict) -> dict:
    """Asks for it while somebody else has the one permit for a while; what came to the server."""
    holding = Holding(stub)
    with (
        weir.Weir(stub.uri, "--max-wait", "60s", cap=1) as proxy,
        raw.Connection.to(proxy.address) as holder,
        raw.Connection.to(proxy.address) as waiter,
    ):
        held = holder.post({"count": "things", "comment": "hold"})
        assert holding.came.wait(servers.HANG_S)
        waiting = waiter.post({**document, "comment": "mine"})
        wait_until_queued(proxy, 1)
        time.sleep(WAITED_S)
        holding.let_go.set()
        assert waiter.reply_to(waiting)["ok"] == holder.reply_to(held)["ok"] == 1
    return holding.seen("mine")


@pytest.mark.parametrize("value", [20000, Int64(20000), 20000.0], ids=["int32", "int64", "double"])
def test_waiting_is_taken_off(stub, value):
    seen = ask_behind_another(stub, {"find": "things", "maxTimeMS": value})
    assert type(seen["maxTimeMS"]) is type(value)
    assert 1 <= seen["maxTimeMS"] <= 20000 - WAITED_S * 1000


def test_how_long_a_get_more_waits_for_data_stays(stub):
    asked = {"getMore": Int64(5), "collection": "things", "maxTimeMS": 20000}
    assert ask_behind_another(stub, asked)["maxTimeMS"] == 20000


def test_what_did_not_wait_goes_up_as_it_came(stub):
    holding = Holding(stub)
    with weir.Weir(stub.uri, cap=1) as proxy, raw.Connection.to(proxy.address) as connection:
        connection.ask({"ping": 1})  # an upstream is there now
        connection.ask({"find": "things", "maxTimeMS": 10_000_000, "comment": "mine"})
    assert holding.seen("mine")["maxTimeMS"] >= 10_000_000 - 1000


def asked_for(stub, arguments: tuple[str, ...], *sections: bytes) -> raw.Message:
    """What came to the server of a message of these sections."""
    came = []

    def script(asked) -> None:
        came.append(asked.message)
        fine(asked)

    stub.script = script
    with (
        weir.Weir(stub.uri, *arguments, cap=1) as proxy,
        raw.Connection.to(proxy.address) as connection,
    ):
        connection.send(raw.op_msg(*sections, request_id=99))
        assert connection.reply_to(99)["ok"] == 1
    return came[0]


BOUNDS = ("--max-time-limit", "40s", "--max-time-default", "30s")


@pytest.mark.parametrize(
    "document, expected",
    [
        ({"find": "things"}, 30_000),
        ({"find": "things", "maxTimeMS": 5_000_000}, 40_000),
        ({"find": "things", "maxTimeMS": 0}, 40_000),
        ({"update": "things", "updates": []}, 30_000),
        ({"getMore": Int64(5), "collection": "things", "maxTimeMS": 90_000}, 90_000),
        ({"getMore": Int64(5), "collection": "things"}, None),
        ({"createIndexes": "things", "indexes": []}, None),
        ({"ping": 1}, None),
    ],
    ids=str,
)
def test_bounds(stub, document, expected):
    message = asked_for(stub, BOUNDS, raw.body({**document, "$db": "test"}))
    seen = message.document
    if expected and expected < 90_000:  # some of it may have been spent opening a connection
        assert 1 <= seen.pop("maxTimeMS") <= expected
    else:
        assert seen.pop("maxTimeMS", None) == expected
    document = {key: value for key, value in document.items() if key != "maxTimeMS"}
    assert seen == {**document, "$db": "test"}


def test_sequences_stay_behind_what_is_inserted(stub):
    before = raw.sequence(b"ops", {"insert": 0, "document": {"_id": 1}})
    body = raw.body({"bulkWrite": 1, "$db": "admin"})
    after = raw.sequence(b"nsInfo", {"ns": "test.things"})
    message = asked_for(stub, ("--max-time-default", "1h"), before, body, after)
    sections = message.payload[4:]
    assert sections.startswith(before) and sections.endswith(after)
    seen = sections[len(before) : len(sections) - len(after)]
    grown = bson.decode(seen[1:])
    assert 0 < grown.pop("maxTimeMS") <= 3600_000
    assert grown == {"bulkWrite": 1, "$db": "admin"}


@pytest.mark.parametrize("kind", servers.available())
def test_servers_take_what_is_inserted(kind):
    with (
        servers.start(kind) as server,
        weir.Weir(server.uri, "--max-time-default", "30s", "--max-time-limit", "60s") as proxy,
        pymongo.MongoClient(proxy.uri) as client,
    ):
        things = client.test.bounded
        things.drop()
        assert len(things.insert_many({"_id": i, "n": i % 3} for i in range(10)).inserted_ids) == 10
        assert [one["_id"] for one in things.find({}, batch_size=3, sort=["_id"])] == [*range(10)]
        assert things.count_documents({"n": 1}) == 3
        if kind != "ferretdb":  # whose distinct rejects every maxTimeMS, an app's own too
            assert sorted(things.distinct("n")) == [0, 1, 2]
        assert things.update_many({"n": 2}, {"$set": {"n": 5}}).modified_count == 3
        assert things.find_one_and_update({"_id": 1}, {"$inc": {"n": 1}})["n"] == 1
        assert things.delete_one({"_id": 0}).deleted_count == 1
        assert "bounded" in client.test.list_collection_names()
        with pytest.raises(PyMongoError):
            things.insert_one({"_id": 1})
