# SPDX-License-Identifier: Apache-2.0
"""The programs of drivers that make the traffic, and what they told."""

from __future__ import annotations

import json
import signal
import threading
from collections import Counter

import drivers

LANGUAGES = (("pymongo",), ("node", "node-6"), ("go", "go-1"))  # the first that can run here
THREADS = 8
END_TIMEOUT_S = 90  # far above what weir, the server and the driver may take for one operation


class Program:
    """A driver's `soak`, which can be killed and begun again."""

    def __init__(
        self, driver: drivers.Driver, uri: str, features: frozenset[str], work: str = ""
    ):
        self.name = driver.name
        self._start = lambda: driver.start("soak", uri, features, threads=THREADS, work=work)
        self._said: list[str] = []
        self._before = {"done": Counter(), "errors": Counter()}  # of those that were killed
        self._changed = threading.Condition()
        self.begin()

    def begin(self) -> None:
        self._now = {"done": Counter(), "errors": Counter()}
        self._child = self._start()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self._child.stdout:
            with self._changed:
                if line.startswith("tally "):
                    told = json.loads(line.removeprefix("tally "))
                    self._now = {kind: Counter(counts) for kind, counts in told.items()}
                else:  # a wrong answer; or what it should not have said at all
                    self._said.append(f"{self.name}: {line.rstrip()}")
                self._changed.notify_all()

    def count(self, kind: str) -> Counter[str]:
        return self._before[kind] + self._now[kind]

    def wrong(self) -> list[str]:
        twice = "11000" in self.count("errors")
        return self._said + ([f"{self.name}: a write was done twice"] if twice else [])

    def signal(self, number: int) -> None:
        self._child.send_signal(number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self._child.wait()
        self._reader.join()
        self._before = {kind: self.count(kind) for kind in self._before}

    stop = kill  # also one that stands still or has ended

    def wait_for_more(self, done: int, within_s: float) -> None:
        """Until it has done so many more operations."""
        wanted = self.count("done").total() + done
        with self._changed:
            there = self._changed.wait_for(lambda: self.count("done").total() >= wanted, within_s)
        assert there, f"{self.name} does not get on: {self.count('errors')} {self._said}"

    def end(self) -> None:
        """Lets each operation that is under way come to its end."""
        self._child.stdin.close()
        status = self._child.wait(END_TIMEOUT_S)
        self._reader.join()
        assert status == 0, f"{self.name} ended with status {status}; it said {self._said}"


def drivers_here() -> list[drivers.Driver]:
    """One for each language, built; what cannot run here is named, with the reason."""
    here = []
    for names in LANGUAGES:
        reasons = {name: drivers.DRIVERS[name].why_not() for name in names}
        able = [name for name in names if not reasons[name]]
        if able:
            here.append(drivers.DRIVERS[able[0]])
            here[-1].command("soak")
        else:
            print(f"skip {names[0]}: {reasons}", flush=True)
    return here
