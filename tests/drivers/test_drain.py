# SPDX-License-Identifier: Apache-2.0
"""weir drains: nobody new, nothing cut off, and it ends with its last client or in time."""

from __future__ import annotations

import os
import signal
import threading
import urllib.error
import urllib.request

import pymongo
import pytest
import raw
import servers
import weir
from stub_server import Asked, StubServer

LONG = ("--drain-within", "60s")


def ended(proxy) -> int:
    return proxy._child.wait(60)


def test_clients_on_this_machine_are_served_until_they_go(secantus):
    with weir.Weir(secantus.uri, *LONG) as proxy:
        client = pymongo.MongoClient(proxy.uri, maxPoolSize=1)
        client.shop.orders.insert_one({"_id": 1})
        os.kill(proxy.pid, signal.SIGTERM)
        proxy.wait_for("draining")
        assert client.shop.orders.find_one({"_id": 1}) == {"_id": 1}
        with pymongo.MongoClient(proxy.uri) as late:  # an app may need one more as it ends
            assert late.shop.orders.find_one({"_id": 1}) == {"_id": 1}
        client.close()
        assert ended(proxy) == 0
        assert proxy.wait_for("drained")["clients"] == "0"


def test_ctl_drain_sends_idle_ones_away_and_finishes_what_is_open():
    """A request under way and an open cursor keep their clients; the idle one goes."""
    asked_slow, let_go = threading.Event(), threading.Event()

    def script(asked: Asked) -> None:
        if asked.document.get("comment") == "slow":
            asked_slow.set()
            let_go.wait(60)
        if "find" in asked.document:
            cursor = {"id": 77, "ns": "shop.orders", "firstBatch": []}
            return asked.connection.send(asked.answer({"ok": 1.0, "cursor": cursor}))
        if "getMore" in asked.document:
            cursor = {"id": 0, "ns": "shop.orders", "nextBatch": []}
            return asked.connection.send(asked.answer({"ok": 1.0, "cursor": cursor}))
        asked.connection.send(asked.fine())

    with StubServer() as stub:
        stub.script = script
        port = str(servers.free_port())
        with weir.Weir(stub.uri, *LONG, "--http-port", port) as proxy:
            idle, slow, reads = (raw.Connection.to(proxy.address) for _ in range(3))
            assert idle.ask({"ping": 1})["ok"] == 1.0
            reply = reads.ask({"find": "orders"}, db="shop")
            assert reply["cursor"]["id"] == 77
            sent = slow.post({"ping": 1, "comment": "slow"})
            assert asked_slow.wait(60)
            assert urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz").status == 200

            assert proxy.ctl("drain", "--within", "60s").returncode == 0
            assert idle.is_ended()
            with pytest.raises(ConnectionRefusedError):
                raw.Connection.to(proxy.address)
            with pytest.raises(urllib.error.HTTPError, match="503"):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz")
            status = proxy.order("status")
            assert status["draining"] and status["clients"] == 2

            let_go.set()
            assert slow.reply_to(sent)["echo"] == "slow"
            more = reads.ask({"getMore": 77, "collection": "orders"}, db="shop")
            assert more["cursor"]["id"] == 0
            slow.stream.close()
            reads.stream.close()
            assert ended(proxy) == 0
            assert proxy.wait_for("drained")["clients"] == "0"


@pytest.mark.parametrize("drains", [False, True], ids=["", "that drains"])
def test_a_second_signal_ends_it_at_once(drains):
    """Not the first, also where weir ctl had it drain before."""
    script = lambda asked: asked.connection.send(  # noqa: E731
        asked.answer({"ok": 1.0, "cursor": {"id": 77, "ns": "shop.orders", "firstBatch": []}})
    )
    with StubServer() as stub, weir.Weir(stub.uri, *LONG) as proxy:
        stub.script = script
        with raw.Connection.to(proxy.address) as client:
            assert client.ask({"find": "orders"}, db="shop")["cursor"]["id"] == 77  # keeps it open
            if drains:
                assert proxy.ctl("drain", "--within", "60s").returncode == 0
                proxy.wait_for("draining")
            os.kill(proxy.pid, signal.SIGTERM)
            assert proxy.ctl("reload").returncode == 0  # by when the signal was heard
            assert client.ask({"find": "orders"}, db="shop")["ok"] == 1.0
            os.kill(proxy.pid, signal.SIGTERM)
            assert ended(proxy) == 0
