#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How long apps are without a successful operation in a failover, through weir and directly.

    pymongo, Go  ----------------->  one deployment, whose primary        all on this machine
    pymongo, Go  ----->  weir  --->  steps down, is killed …

All four apps live through the same failure at the same time, so both ways meet the same election.
Each does an operation every 10 ms, a retryable write and a read in turn (../drivers, `pacing`), and
the longest time between two successes is what counts, in each round for itself. Elections,
stepdowns and black holes are those of a stub (../stubset); SecantusDB is a real server, killed and
started again. The exit status tells whether it could be measured, never what the figures were.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / name) for name in ("servers", "drivers")]

import servers  # noqa: E402
import weir  # noqa: E402
from bench import print_table  # noqa: E402
from drivers import DRIVERS  # noqa: E402

WAYS = ("directly", "weir")
NAMES = ("pymongo", "go")
OPERATIONS = ("write", "read")
SETTLED = 100  # successes of an app before and after the failure
WITHIN_S = 120.0


class Failed(Exception):
    """The measurement could not be made."""


class App:
    """A driver's program that tells of each operation as it ends."""

    def __init__(self, driver: str, uri: str):
        self.ends_us: list[int] = []  # of what succeeded
        self.successes: Counter[str] = Counter()
        self.errors: list[str] = []
        self.counted: int | None = None  # what its writes have come to
        self._process = DRIVERS[driver].start("pacing", uri, frozenset())
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self._process.stdout:
            name, _, rest = line.strip().partition(" ")
            number, _, said = rest.partition(" ")
            if name == "n":
                self.counted = int(number)
            elif name not in OPERATIONS or said != "ok":
                self.errors.append(line.strip())
            else:
                self.ends_us.append(int(number))
                self.successes[name] += 1

    def wait_for_more(self, count: int) -> None:
        wanted = len(self.ends_us) + count
        deadline = time.monotonic() + WITHIN_S
        while len(self.ends_us) < wanted:
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise Failed(f"an app got no further: {self.errors[-3:]}")
            time.sleep(0.02)

    def end(self) -> None:
        self._process.stdin.close()
        try:
            self._process.wait(WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._reader.join()
        if self.counted is None:
            raise Failed(f"an app did not end: {self.errors[-3:]}")

    def longest_ms(self) -> float:
        """The first successes are of an app that comes up."""
        ends = self.ends_us[SETTLED // 2 :]
        return max(b - a for a, b in zip(ends, ends[1:])) / 1000

    def lost(self) -> int:
        """Writes that succeeded, as the app was told, and were not done."""
        return max(0, self.successes["write"] - self.counted)

    def repeated(self) -> int:
        """Writes that were done twice. One that failed may have been done."""
        failed = sum(error.startswith("write") for error in self.errors)
        return max(0, self.counted - self.successes["write"] - failed)


# --- deployments, each with the failure that it will suffer


@contextlib.contextmanager
def stub(order: str, election_s: float):
    """In a process of its own, that no app shares an interpreter with it."""
    command = [sys.executable, "-m", "stubset", "--members", "3", "--election", str(election_s)]
    process = subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": str(HERE.parent)}, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip

    def suffer() -> None:
        print(order, file=process.stdin, flush=True)

    try:
        yield process.stdout.readline().strip(), suffer
    finally:
        process.stdin.close()
        process.wait(30)


@contextlib.contextmanager
def secantus():
    with servers.start("secantus") as server:

        def suffer() -> None:
            server.kill()
            # Drivers look every half second: at random, so that none is always the first to see it.
            time.sleep(random.uniform(0, 0.5))
            server.restart()

        yield server.uri, suffer


@dataclass
class Failure:
    name: str
    deployment: Callable
    rounds: Callable[[argparse.Namespace], int]


FAILURES = (
    Failure("steps down", lambda o: stub("step_down", o.election), lambda o: o.rounds),
    Failure("is killed", lambda o: stub("kill 0", o.election), lambda o: o.rounds),
    Failure("is black-holed", lambda o: stub("black_hole 0", o.election), lambda o: o.long_rounds),
    Failure("SecantusDB restarts", lambda o: secantus(), lambda o: o.rounds),
)  # fmt: skip


def suffer(failure: Failure, options: argparse.Namespace) -> dict[tuple[str, str], App]:
    """One failure, and the apps that have been through it, by driver and way."""
    with failure.deployment(options) as (uri, happen), weir.Weir(uri, cap=16) as proxy:
        uris = {"directly": uri, "weir": proxy.uri}
        apps = {(name, way): App(name, uris[way]) for name in options.drivers for way in WAYS}
        try:
            for app in apps.values():
                app.wait_for_more(SETTLED)
            happen()
            for app in apps.values():
                app.wait_for_more(SETTLED)
        finally:
            for app in apps.values():
                app.end()
    return apps


# --- what is printed


def row(failure: Failure, driver: str, rounds: list[dict]) -> list[str]:
    gaps = {way: [apps[driver, way].longest_ms() for apps in rounds] for way in WAYS}
    ratios = [ours / theirs for ours, theirs in zip(gaps["weir"], gaps["directly"])]

    def total(count: Callable[[App], int]) -> str:
        return " / ".join(str(sum(count(apps[driver, way]) for apps in rounds)) for way in WAYS)

    return [
        failure.name, driver, str(len(rounds)),
        *(f"{statistics.median(gaps[way]):,.0f}" for way in WAYS),
        f"{statistics.median(ratios):.2f}", f"{min(ratios):.2f} .. {max(ratios):.2f}",
        total(lambda app: len(app.errors)), total(App.lost), total(App.repeated),
    ]  # fmt: skip


HEAD = [
    "the primary", "driver", "rounds", "ms directly", "by weir", "ratio", "least .. greatest",
    "errors", "lost", "repeated",
]  # fmt: skip


def measure(options: argparse.Namespace) -> tuple[list[list[str]], list[str]]:
    rows, errors = [], []
    for failure in FAILURES:
        if why := failure.name.startswith("Secantus") and servers.why_not("secantus"):
            errors.append(f"{failure.name}: not measured: {why}")
            continue
        rounds = []
        for number in range(failure.rounds(options)):
            print(f"  {failure.name}, round {number + 1}", file=sys.stderr)
            rounds.append(suffer(failure, options))
        for driver in options.drivers:
            rows.append(row(failure, driver, rounds))
            for way in WAYS:
                said = [error for apps in rounds for error in apps[driver, way].errors]
                errors += [f"{failure.name}, {driver}, {way}: {error}" for error in said]
    return rows, errors


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--long-rounds", type=int, default=3, help="of what takes half a minute")
    parser.add_argument("--election", type=float, default=0.5, help="seconds that one takes")
    options = parser.parse_args()
    options.drivers = [name for name in NAMES if not DRIVERS[name].why_not()]
    for name in set(NAMES) - set(options.drivers):
        print(f"{name} is not measured: {DRIVERS[name].why_not()}", file=sys.stderr)
    for name in options.drivers:
        DRIVERS[name].command("pacing")  # builds it
    before = os.getloadavg()[0]
    try:
        rows, errors = measure(options)
    except Failed as failure:
        print(f"failover.py: {failure}", file=sys.stderr)
        return 1
    print(f"\nLoad before {before:.2f}, after {os.getloadavg()[0]:.2f}")
    title = "The longest time without a successful operation, of one every 10 ms; medians."
    title += f"\nElections are the stub's and take {options.election:g} s. Errors that the apps saw, writes that"
    title += "\nwere lost although they succeeded, and writes that were done twice: directly / by weir."
    print_table(title, HEAD, rows)
    print("\n  " + "\n  ".join(errors) if errors else "\n  No app saw an error.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
