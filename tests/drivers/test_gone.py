# SPDX-License-Identifier: Apache-2.0
"""A client that goes away leaves nothing behind: no place in the queue, no upstream, no cursor, no
transaction."""

from __future__ import annotations

import itertools
import time

import bson
import pytest
import raw
import weir
from bson.int64 import Int64

GRACE_S = 5  # how long weir waits for somebody to go on with what a client left (ORPHAN_GRACE_US)
SLOW_S = 2.0


@pytest.fixture(scope="module")
def proxy(secantus):
    with weir.Weir(secantus.uri, "--max-wait", "30s", cap=1) as proxy:
        yield proxy


def connect(proxy) -> raw.Connection:
    connection = raw.Connection.to((proxy.host, proxy.port))
    connection.hello()
    return connection


def slow(secantus, command: str):
    """The next such command takes SLOW_S."""
    block = {"blockConnection": True, "blockTimeMS": int(SLOW_S * 1000)}
    return secantus.failing([command], {"times": 1}, **block)


def until(truth, within: float) -> bool:
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        if truth():
            return True
        time.sleep(0.1)
    return bool(truth())


def open_cursors(secantus) -> int:
    return secantus.client().admin.command("serverStatus")["metrics"]["cursor"]["open"]["total"]


def opened_ever(proxy) -> int:
    """How many connections to the server weir has opened until now."""
    with connect(proxy) as connection:
        rows = connection.ask({"find": "servers"}, db="weir")["cursor"]["firstBatch"]
    return sum(row["opened"] for row in rows)


def test_its_place_in_the_queue_is_left(secantus, proxy):
    with slow(secantus, "count"), connect(proxy) as holder, connect(proxy) as other:
        waiting = connect(proxy)
        holder.post({"count": "queue"})
        assert until(lambda: proxy.state()["in_flight"] == 1, SLOW_S), "the count does not run"
        for number, (connection, name) in enumerate(((waiting, "never"), (other, "after")), 1):
            connection.post({"insert": "queue", "documents": [{"_id": name}]})
            queued = lambda number=number: proxy.state()["queued"] == number
            assert until(queued, SLOW_S), "the insert does not queue"
        waiting.stream.close()
        assert holder.receive().document["ok"] == 1
        assert other.receive().document["n"] == 1  # it waited behind the one that went away
    assert [found["_id"] for found in secantus.client().test.queue.find()] == ["after"]


def test_what_it_had_in_use_is_in_use_no_more(secantus, proxy):
    with slow(secantus, "insert"):
        goner = connect(proxy)
        waiting = connect(proxy)
        goner.post({"insert": "used", "documents": [{"_id": 1}]})
        assert until(lambda: proxy.state()["in_flight"] == 1, SLOW_S), "the insert does not run"
        waiting.post({"find": "used"})
        assert until(lambda: proxy.state()["queued"] == 1, SLOW_S), "the find does not queue"
        used = proxy.state()
        assert (used["clients"], used["in_flight"], used["upstreams_open"]) == (2, 1, 1)
        goner.stream.close()
        waiting.stream.close()
    rest = {"clients": 0, "queued": 0, "in_flight": 0, "upstreams_open": 1, "buffered_bytes": 0}
    assert until(lambda: rest.items() <= proxy.state().items(), GRACE_S + 5), proxy.state()


def test_its_running_request_finishes_and_the_upstream_is_used_on(secantus, proxy):
    with connect(proxy) as other:
        other.ask({"ping": 1})
        opened = opened_ever(proxy)
        with slow(secantus, "insert"):
            goner = connect(proxy)
            goner.post({"insert": "running", "documents": [{"_id": 1}]})
            assert until(lambda: proxy.state()["in_flight"] == 1, SLOW_S), "it does not run"
            goner.stream.close()
            assert other.ask({"find": "running"})["cursor"]["firstBatch"] == [{"_id": 1}]
        assert opened_ever(proxy) == opened
    assert proxy.count("upstream_down") == 0


def test_its_cursors_are_killed_unless_somebody_goes_on_with_them(secantus, proxy):
    secantus.client().test.many.insert_many({"_id": i} for i in range(100))
    before = open_cursors(secantus)
    with connect(proxy) as goner, connect(proxy) as heir:
        find = {"find": "many", "filter": {}, "batchSize": 2}
        left, taken = (goner.ask(find)["cursor"]["id"] for _ in range(2))
        gone_since = time.monotonic()
        goner.stream.close()
        more = {"getMore": Int64(taken), "collection": "many", "batchSize": 2}
        assert len(heir.ask(more)["cursor"]["nextBatch"]) == 2
        assert open_cursors(secantus) == before + 2
        assert until(lambda: open_cursors(secantus) == before + 1, GRACE_S + 5), "it lingers"
        assert time.monotonic() - gone_since > GRACE_S / 2, "nobody had time to go on with it"
        time.sleep(0.5)
        assert len(heir.ask(more)["cursor"]["nextBatch"]) == 2
        lost = heir.ask({**more, "getMore": Int64(left)})
        assert (lost["ok"], lost["code"]) == (0, 43)
    assert until(lambda: open_cursors(secantus) == before, GRACE_S + 5), "the heir's lingers"


def insert_in_transaction(connection: raw.Connection, session: int, number: int) -> dict:
    """Begins a transaction with the insert that all of them want to make."""
    return connection.ask({
        "insert": "pending", "documents": [{"_id": 1, "by": session}],
        "lsid": {"id": bson.Binary(bytes([session] * 16), 4)}, "txnNumber": Int64(number),
        "startTransaction": True, "autocommit": False,
    })  # fmt: skip


def end_transaction(connection: raw.Connection, how: str, session: int, number: int) -> dict:
    lsid = {"id": bson.Binary(bytes([session] * 16), 4)}
    command = {how: 1, "lsid": lsid, "txnNumber": Int64(number), "autocommit": False}
    return connection.ask(command, db="admin")


def test_its_transaction_is_aborted(secantus, proxy):
    secantus.client().test.create_collection("pending")
    with connect(proxy) as goner, connect(proxy) as other:
        assert insert_in_transaction(goner, session=1, number=1)["ok"] == 1
        numbers = itertools.count(1)

        def is_free() -> bool:
            number = next(numbers)
            reply = insert_in_transaction(other, session=2, number=number)
            if reply["ok"] == 1:
                return end_transaction(other, "commitTransaction", 2, number)["ok"] == 1
            assert reply["code"] == 112, reply
            end_transaction(other, "abortTransaction", 2, number)
            return False

        assert not is_free(), "the transaction does not hold its document"
        goner.stream.close()
        assert until(is_free, GRACE_S + 5), "it lingers"
    assert secantus.client().test.pending.find_one() == {"_id": 1, "by": 2}


def test_its_transaction_can_be_gone_on_with_from_another_connection(secantus, proxy):
    secantus.client().test.pending.drop()
    secantus.client().test.create_collection("pending")
    with connect(proxy) as goner:
        assert insert_in_transaction(goner, session=3, number=1)["ok"] == 1
    with connect(proxy) as heir:
        assert end_transaction(heir, "commitTransaction", session=3, number=1)["ok"] == 1
    assert secantus.client().test.pending.find_one() == {"_id": 1, "by": 3}
