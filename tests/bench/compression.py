#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What compression costs weir, and what it saves: CPU per operation and bytes, on either side.

    this program, by hand  -->  weir  -->  a stub that has its reply ready     all on this machine

A closed loop of one client that sends one message again and again, compressed once beforehand; so
does the stub with its reply. In each round every way has its turn. CPU is weir's alone, all its
threads; what counts is the least of the rounds, since what else the machine does can only add to
it. Run it by the Python of tests/drivers: build/venv/bin/python tests/bench/compression.py
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import socket
import sys
import threading
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / name) for name in ("servers", "drivers")]

import raw  # noqa: E402
import weir  # noqa: E402
from packed import IDS, compressed  # noqa: E402
from stub_server import HELLO  # noqa: E402

WAYS = [(None, None)] + [
    way for name in IDS for way in ((name, None), (None, name), (name, name))
]


def customers(count: int) -> list[dict]:
    """Documents as applications have them: repeated names, few words, some chance."""
    dice = random.Random(20261126)
    words = "street avenue north south green river stone market garden hill old new upper".split()
    return [
        {
            "_id": dice.randbytes(12).hex(), "name": " ".join(dice.sample(words, 2)).title(),
            "address": {"street": " ".join(dice.sample(words, 3)), "zip": dice.randrange(10**5)},
            "status": dice.choice(["active", "closed"]), "balance": dice.random() * 1000,
            "orders": [{"sku": dice.randbytes(4).hex(), "n": dice.randrange(9)} for _ in range(9)],
        }
        for _ in range(count)
    ]  # fmt: skip


def find_reply(count: int) -> dict:
    return {"cursor": {"firstBatch": customers(count), "id": 0, "ns": "shop.customers"}, "ok": 1.0}


FIND = {"find": "customers", "filter": {"status": "active"}, "limit": 100, "$db": "shop"}
INSERT = {"insert": "customers", "documents": customers(100), "$db": "shop"}
#   name                       the command, its reply, operations in a round
LOADS = {
    "find, 1 document": (FIND, find_reply(1), 2000),
    "find, 100 documents": (FIND, find_reply(100), 300),
    "insert, 100 documents": (INSERT, {"n": 100, "ok": 1.0}, 300),
}  # fmt: skip


def maybe(message: bytes, compressor: str | None) -> bytes:
    return compressed(message, IDS[compressor]) if compressor else message


class Stub:
    """Answers hello; to all else it has one reply, of which only the id of the request changes."""

    def __init__(self, reply: dict, compressor: str | None):
        self.bytes = 0
        self._hello = {**HELLO, **({"compression": [compressor]} if compressor else {})}
        self._reply = maybe(raw.op_msg(raw.body(reply)), compressor)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                stream, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(stream,), daemon=True).start()

    def _serve(self, stream: socket.socket) -> None:
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = raw.Connection(stream)
        stream.settimeout(None)
        with contextlib.suppress(OSError), connection:
            greeted = False
            while message := connection.receive():
                to = message.request_id
                if not greeted or b"hello\0" in message.payload[:40]:
                    greeted = True
                    if message.opcode == raw.OP_QUERY:
                        connection.send(raw.op_reply(self._hello, to))
                    else:
                        connection.send(raw.op_msg(raw.body(self._hello), response_to=to))
                    continue
                self.bytes += 16 + len(message.payload) + len(self._reply)
                connection.send(self._reply[:8] + to.to_bytes(4, "little") + self._reply[12:])

    def close(self) -> None:
        self._listener.close()


def cpu_us(pid: int) -> float:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1000


def measure(load: str, app: str | None, upstream: str | None) -> tuple[float, float, float]:
    """Microseconds of CPU, and bytes on the app's and the server's side, per operation."""
    command, reply, count = LOADS[load]
    stub = Stub(reply, upstream)
    asks = f"?compressors={upstream}" if upstream else ""
    allowed = ("--compressors", app or "disabled", "--threads", "1")
    uri = f"mongodb://127.0.0.1:{stub.port}/{asks}"
    with weir.Weir(uri, *allowed, cap=1) as proxy:
        with raw.Connection.to((proxy.host, proxy.port)) as connection:
            connection.ask({"hello": 1, "compression": [app] if app else []}, db="admin")
            message = maybe(raw.op_msg(raw.body(command)), app)
            received = 0
            for number in range(-count // 10, count):
                if number == 0:
                    received, stub.bytes, before = 0, 0, cpu_us(proxy.pid)
                connection.send(message)
                answer = connection.receive()
                received += 16 + len(answer.payload)
            spent = cpu_us(proxy.pid) - before
    stub.close()
    return spent / count, len(message) + received / count, stub.bytes / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    print(f"The least of {rounds} rounds; x: beside no compression. Load before"
          f" {os.getloadavg()[0]:.2f}.")  # fmt: skip
    for load in LOADS:
        runs = {way: [] for way in WAYS}
        for number in range(rounds):
            for way in WAYS[number % len(WAYS) :] + WAYS[: number % len(WAYS)]:
                runs[way].append(measure(load, *way))
        print(f"\n{load}\n\n  app     server  CPU us/op      x   bytes, app      x   server      x")
        for way in WAYS:
            cells = []
            for part in range(3):
                value, base = (min(run[part] for run in runs[one]) for one in (way, WAYS[0]))
                cells += [value, value / base]
            print("  {:6}  {:6}  {:9,.1f}  {:5.2f}  {:11,.0f}  {:5.2f}  {:7,.0f}  {:5.2f}".format(
                way[0] or "-", way[1] or "-", *cells))  # fmt: skip


if __name__ == "__main__":
    main()
