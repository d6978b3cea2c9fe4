# SPDX-License-Identifier: Apache-2.0
"""One process of the app that the story is about: a driver's pool and requests that keep coming.

Started by story.py with a plan (JSON) as its argument; prints what became of each operation (JSON).

Open loop: operations begin when they are due, whether or not earlier ones have their answer, as
requests of users do. An operation's time counts from when it was due, so a late start is in it.
Only the number begun and not yet ended is bounded; what that kept from beginning is counted, and
so is what began more than LATE_S late because this process was busy.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections.abc import Awaitable, Callable

import pymongo
from pymongo import AsyncMongoClient
from pymongo.errors import (
    AutoReconnect,
    ExecutionTimeout,
    NetworkTimeout,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WaitQueueTimeoutError,
)

MOST_OUTSTANDING = 5000
LATE_S = 0.1
CUSTOMERS = 1000
ORDERS = 5000

Operation = Callable[[], Awaitable[None]]


def kind_of(error: Exception) -> str:
    """What the app's own log would say."""
    if isinstance(error, WaitQueueTimeoutError):
        return "no connection free in time"
    if isinstance(error, ServerSelectionTimeoutError):
        return "no server in time"
    if isinstance(error, NetworkTimeout):
        return "no reply in time"
    if isinstance(error, ExecutionTimeout):
        return "stopped at its deadline (50)"
    if isinstance(error, OperationFailure):
        overloaded = error.has_error_label("SystemOverloadedError")
        return f"refused, overloaded ({error.code})" if overloaded else f"error {error.code}"
    if isinstance(error, AutoReconnect):
        return "connection lost"
    return type(error).__name__


class App:
    def __init__(self, plan: dict):
        self.plan = plan
        self.client = AsyncMongoClient(
            plan["uri"], maxPoolSize=plan["pool"], appname=plan["name"]
        )  # fmt: skip
        self.orders = self.client[plan["database"]]["orders"]
        self.random = random.Random(plan["name"])
        self.tasks: set[asyncio.Task] = set()
        self.done: list[tuple[str, float, float, str]] = []
        self.late = 0

    async def fast(self) -> None:
        """Four of five read by an index, the fifth is a small write."""
        if self.random.randrange(5):
            query = {"customer": self.random.randrange(CUSTOMERS)}
            await self.orders.find(query).limit(5).to_list()
        else:
            which = {"_id": self.random.randrange(ORDERS)}
            await self.orders.update_one(which, {"$inc": {"seen": 1}})

    async def slow(self) -> None:
        if self.plan["slow_pipeline"] is None:
            await self.orders.distinct("status", {"customer": self.random.randrange(CUSTOMERS)})
        else:
            await (await self.orders.aggregate(self.plan["slow_pipeline"])).to_list()

    async def once(self, kind: str, operation: Operation, due_s: float) -> None:
        outcome = "unfinished at the end"
        try:
            with pymongo.timeout(self.plan[f"{kind}_deadline_s"]):
                await operation()
            outcome = "ok"
        except PyMongoError as error:
            outcome = kind_of(error)
        finally:
            took_s = time.monotonic() - self.plan["zero"] - due_s
            self.done.append((kind, due_s, took_s, outcome))

    async def arrivals(self, kind: str, operation: Operation, begin: float, end: float) -> None:
        zero, gap = self.plan["zero"], 1 / self.plan[f"{kind}_rate"]
        for number in range(round((end - begin) / gap)):
            due_s = begin + gap * (number + self.plan["phase"])
            await asyncio.sleep(max(0.0, zero + due_s - time.monotonic()))
            self.late += time.monotonic() - zero - due_s > LATE_S
            if len(self.tasks) < MOST_OUTSTANDING:
                task = asyncio.create_task(self.once(kind, operation, due_s))
                self.tasks.add(task)
                task.add_done_callback(self.tasks.discard)
            else:
                self.done.append((kind, due_s, 0.0, "not begun, too many open"))

    async def run(self) -> None:
        """The whole story of this process; what is still open at the end is given up."""
        for _ in range(10):
            await self.fast()
        storm, calm, end = self.plan["storm"], self.plan["calm"], self.plan["end"]
        await asyncio.gather(
            self.arrivals("fast", self.fast, 0, end),
            self.arrivals("slow", self.slow, storm, calm),
        )
        await asyncio.sleep(self.plan["fast_deadline_s"] + 0.5)
        for task in list(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.client.close()


def main() -> None:
    app = App(json.loads(sys.argv[1]))
    asyncio.run(app.run())
    json.dump({"late": app.late, "done": app.done}, sys.stdout)


if __name__ == "__main__":
    main()
