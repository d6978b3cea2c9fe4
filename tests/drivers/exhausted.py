# SPDX-License-Identifier: Apache-2.0
"""A weir whose permits have run out, before a stub of a server, since it must be slow to order.

    with Exhausted() as exhausted:
        exhausted.proxy.ctl("verdict")
"""

from __future__ import annotations

import contextlib
import threading

import pymongo
import weir
from pymongo.errors import PyMongoError
from stub_server import Asked, StubServer, fine


class Exhausted:
    """`proxy` has a small cap, which requests hold until `release`; another one is refused."""

    def __init__(self, *arguments: str, cap: int = 1):
        self._stack = contextlib.ExitStack()
        self._released = threading.Event()
        self._held = threading.Semaphore(0)
        stub = self._stack.enter_context(StubServer())
        stub.script = self._answer
        self.proxy = self._stack.enter_context(
            weir.Weir(stub.uri, "--max-wait", "0", *arguments, cap=cap)
        )
        self._holders = [
            threading.Thread(target=self._find, args=("hold",), daemon=True) for _ in range(cap)
        ]

    def _answer(self, asked: Asked) -> None:
        if asked.document.get("comment") == "hold":
            self._held.release()
            self._released.wait(60)
        fine(asked)

    def _find(self, comment: str) -> None:
        with (
            contextlib.suppress(PyMongoError),
            pymongo.MongoClient(self.proxy.uri, retryReads=False, appName="web") as client,
        ):
            client.test.command("count", "orders", query={"n": 1}, comment=comment)

    def __enter__(self) -> Exhausted:
        for holder in self._holders:
            holder.start()
        assert all(self._held.acquire(timeout=10) for _ in self._holders)
        self._find("refused")
        self.begin = self.proxy.wait_for("exhaustion_begin")
        return self

    def release(self) -> None:
        self._released.set()
        for holder in self._holders:
            holder.join()

    def __exit__(self, *error: object) -> None:
        self.release()
        self._stack.__exit__(*error)
