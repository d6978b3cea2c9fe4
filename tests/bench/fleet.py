# SPDX-License-Identifier: Apache-2.0
"""How fast a fleet follows a load that moves from one weir to another, what that costs the store, and
what static shares of the same cap come to.

A real Redis, and a stub of a server that takes 0.3 s. Some more apps than the cap ask one weir, then
another. 3 weirs with a cap of 60, and 20 with one of 400.
"""

from __future__ import annotations

import contextlib
import re
import signal
import sys
import time
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS / part) for part in ("faults", "servers", "drivers")]

import stores  # noqa: E402
import test_fleet as fleet  # noqa: E402
from stub_server import StubServer  # noqa: E402
from weir import Weir  # noqa: E402

SHIFTS = 5
HOLD_S = 0.3
STEADY_S = 3


class Counted:
    """A server that takes its time, and counts what it has answered."""

    def __init__(self) -> None:
        self.answers = 0

    def __call__(self, asked) -> None:
        time.sleep(HOLD_S)
        self.answers += 1
        asked.connection.send(asked.fine())


def commands(store: stores.Redis) -> int:
    return int(re.search(r"cmdstat_evalsha:calls=(\d+)", store.ask("INFO commandstats"))[1])


@contextlib.contextmanager
def world(cap: int, instances: int, leased: bool):
    with contextlib.ExitStack() as stack:
        stub = stack.enter_context(StubServer())
        stub.script = Counted()
        store = stack.enter_context(stores.Redis())
        if leased:
            weirs = [fleet.start(stub, store.address, cap, instances) for _ in range(instances)]
        else:
            weirs = [fleet.start_alone(stub, cap // instances) for _ in range(instances)]
        yield stub, store, weirs
        for proxy in weirs:
            proxy._child.send_signal(signal.SIGINT)
        for proxy in weirs:
            proxy.stop()


def load(proxy: Weir, cap: int):
    return fleet.load(proxy, apps=cap + 10)


def served(stub: StubServer) -> float:
    before = stub.script.answers
    time.sleep(STEADY_S)
    return (stub.script.answers - before) / STEADY_S


def leased(cap: int, instances: int) -> None:
    full = cap - (instances - 1)
    with world(cap, instances, leased=True) as (stub, store, weirs):
        time.sleep(8)  # a new epoch is mature
        before, began = commands(store), time.monotonic()
        ending = load(weirs[0], cap)
        fleet.wait_until(lambda: fleet.open_at(stub) >= full, "the first has its share")
        print(f"leased, {instances} weirs: {fleet.open_at(stub)} of {cap} in use, "
              f"{served(stub):.0f} requests/s", flush=True)  # fmt: skip
        for i in range(1, SHIFTS + 1):
            ending.set()
            ending, since = load(weirs[i % 2], cap), time.monotonic()
            moved = lambda: weirs[i % 2].state()["upstreams_open"] >= full  # noqa: B023
            fleet.wait_until(moved, "the next has it")
            print(f"  shift {i}: {time.monotonic() - since:.2f} s", flush=True)
            time.sleep(STEADY_S)
        passed = time.monotonic() - began
        ending.set()
        rate = (commands(store) - before) / passed / instances
        print(f"  {rate:.2f} commands a second and instance")
        print(f"  at most {stub.most_upstreams} of {cap} open")


def static(cap: int, instances: int) -> None:
    with world(cap, instances, leased=False) as (stub, _, weirs):
        ending = load(weirs[0], cap)
        share = cap // instances
        fleet.wait_until(lambda: fleet.open_at(stub) >= share, "it has its share")
        print(f"static, {instances} weirs: {fleet.open_at(stub)} of {cap} in use, "
              f"{served(stub):.0f} requests/s")  # fmt: skip
        ending.set()


def main() -> None:
    for cap, instances in [(60, 3), (400, 20)]:
        leased(cap, instances)
        static(cap, instances)


if __name__ == "__main__":
    main()
