# SPDX-License-Identifier: Apache-2.0
"""The record of an exhaustion, on a real server: what held the connections is named, with what to do."""

from __future__ import annotations

import contextlib
import threading

import pymongo
import pytest
import weir
from pymongo.errors import PyMongoError

CAP = 4
BLOCK_S = 2.0


@pytest.fixture
def proxy(secantus):
    with weir.Weir(secantus.uri, "--max-wait", "50ms", cap=CAP) as proxy:
        yield proxy


def hold_one(uri: str) -> None:
    with (
        contextlib.suppress(PyMongoError),
        pymongo.MongoClient(uri, retryReads=False, appName="re\x1bport") as client,
    ):
        client.test.command("count", "orders", query={"owner": "kanarienvogel"})


def exhaust(secantus, proxy) -> dict[str, str]:
    """Lets a slow count hold all permits while somebody else asks; the line of the end."""
    slow = {"blockConnection": True, "blockTimeMS": int(BLOCK_S * 1000)}
    with pymongo.MongoClient(proxy.uri, appName="web", retryReads=False) as app:
        for i in range(50):
            app.test.things.find_one({"a": i})
        with secantus.failing(["count"], {"times": CAP}, **slow):
            holders = [threading.Thread(target=hold_one, args=(proxy.uri,)) for _ in range(CAP)]
            for holder in holders:
                holder.start()
            while any(holder.is_alive() for holder in holders):
                with contextlib.suppress(PyMongoError):
                    app.test.things.find_one({"a": 1})
    return proxy.wait_for("exhaustion_end", timeout=10)


def test_a_slow_shape_is_named_with_evidence_and_remedy(secantus, proxy):
    end = exhaust(secantus, proxy)
    begin = proxy.wait_for("exhaustion_begin")
    with pymongo.MongoClient(proxy.uri) as client:
        (record,) = client.weir.exhaustions.find()
    assert begin["id"] == end["id"] == record["_id"]
    assert record["end"] >= record["begin"] > 1.7e9
    assert (record["cause"], record["cap"]) == ("slow_shape", CAP)
    assert "count test.orders {owner}" in record["verdict"] == end["verdict"]
    assert "kanarienvogel" not in str(record)
    assert record["causes"][0]["says"] == record["verdict"]
    deny = f"weir ctl rule add --deny --shape {record['shapes'][0]['id']}"
    assert deny in [remedy["type"] for remedy in record["remedies"]]
    assert record["holders"][0]["shape"] == "count test.orders {owner}"
    assert record["holders"][0]["app"] == "re\x1bport"
    assert record["shed"]["max_wait"] + record["shed"]["queue_full"] > 0
    assert record["shapes"][0]["shape"] == "count test.orders {owner}"
    assert record["shapes"][0]["change"] > 1
    assert sum(waiter["shed"] for waiter in record["waiters"]) > 0
    assert record["deployment"] == "absent"
