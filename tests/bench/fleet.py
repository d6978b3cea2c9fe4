# SPDX-License-Identifier: Apache-2.0
"""How fast a fleet follows a load that moves from one weir to another, and what that costs the store.

Three weirs, a real Redis, a stub of a server that takes 20 ms. 70 apps ask one weir, then another.
Static shares of the same cap would let them have a third of it.
"""

from __future__ import annotations

import contextlib
import re
import socket
import sys
import threading
import time
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS / part) for part in ("servers", "drivers", "faults")]

import test_fleet as fleet  # noqa: E402
from stub_server import StubServer  # noqa: E402

CAP, INSTANCES, APPS, SHIFTS = 60, 3, 70, 5
FULL = CAP - (INSTANCES - 1)


def asked(store) -> int:
    with socket.socket(socket.AF_UNIX) as stream:
        stream.connect(str(store.path))
        stream.sendall(b"INFO commandstats\r\n")
        time.sleep(0.2)
        found = re.search(r"cmdstat_evalsha:calls=(\d+)", stream.recv(1 << 16).decode())
        return int(found[1])


def load(proxy) -> threading.Event:
    ending = threading.Event()
    for _ in range(APPS):
        fleet.App(proxy.address, ending)
    return ending


def main() -> None:
    fleet.INSTANCES = INSTANCES
    with contextlib.ExitStack() as stack:
        stub = stack.enter_context(StubServer())
        stub.script = fleet.slow
        store = stack.enter_context(fleet.redis())
        weirs = [stack.enter_context(fleet.start(stub, store, CAP)) for _ in range(INSTANCES)]
        before, began = asked_after_start(store), time.monotonic()
        ending = load(weirs[0])
        fleet.wait_until(lambda: fleet.open_at(stub) >= FULL, "the first has its share")
        for i in range(1, SHIFTS + 1):
            time.sleep(3)
            ending.set()
            ending, since = load(weirs[i % 2]), time.monotonic()
            fleet.wait_until(lambda: fleet.open_at(stub) < FULL - 10, "the former lets go")
            fleet.wait_until(lambda: fleet.open_at(stub) >= FULL, "the next has it")
            print(f"shift {i}: {time.monotonic() - since:.2f} s, {fleet.open_at(stub)} of {CAP} in use")
        passed = time.monotonic() - began
        ending.set()
        print(f"{(asked(store) - before) / passed / INSTANCES:.2f} commands a second and instance")
        print(f"at most {stub.most_upstreams} of {CAP} open")


def asked_after_start(store) -> int:
    time.sleep(8)  # a new epoch is mature
    return asked(store)


if __name__ == "__main__":
    main()
