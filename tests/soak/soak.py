# SPDX-License-Identifier: Apache-2.0
"""The soak: several drivers' mixed traffic through weir for long, with a fault every few seconds;
half of the time under AddressSanitizer and UndefinedBehaviorSanitizer, half under ThreadSanitizer.

    python soak.py [--seconds 600] [--seed N]

One weir lives through rounds: traffic and faults; recovery; all clients end; rest. Asserted: no
report of a sanitizer; no wrong answer and no write done twice; never more upstreams than the cap;
after the faults each driver gets on; at rest, what is in use is back where it was, and memory is
where it was after the first round. The faults follow from the seed; what they meet does not.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import random
import sys
import threading
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "servers"), str(HERE.parent / "drivers")]

import servers  # noqa: E402
import weir  # noqa: E402

import faults  # noqa: E402
import picture  # noqa: E402
import traffic  # noqa: E402

OUT = servers.BUILD / "soak"
CAP = 6
NUMBERS = 1000
ROUND_S = 60
SAMPLE_EVERY_S = 0.5
RECOVERY_S = 60
REST_S = 30
GROWTH = 1.3  # of memory at rest after the first round; 1.2 was seen under AddressSanitizer
WATCHING = 2  # connections by which weir watches the server; perhaps not there at first
AT_REST = (*weir.HELD, "clients", "cursors")
# Writes are not tried again by drivers, so that one done twice comes to light: SecantusDB does not
# know after a crash what it has done before.
OPTIONS = "retryWrites=false&serverSelectionTimeoutMS=5000"
SANITIZERS = {
    "asan": {"ASAN_OPTIONS": "detect_leaks=1:quarantine_size_mb=8",
             "UBSAN_OPTIONS": "print_stacktrace=1"},
    "tsan": {"TSAN_OPTIONS": f"halt_on_error=1:suppressions={HERE / 'tsan.txt'}"},
}  # fmt: skip


@dataclass
class Run:
    """What was seen of one weir. `memory` and `rests` have (at_s, MB), `faults` (at_s, name)."""

    name: str
    began: float = field(default_factory=time.monotonic)
    memory: list[tuple[float, float]] = field(default_factory=list)
    rests: list[tuple[float, float]] = field(default_factory=list)
    faults: list[tuple[float, str]] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    errors: defaultdict[str, Counter] = field(default_factory=lambda: defaultdict(Counter))
    descriptors: int | None = None  # at rest, before the first round
    most_upstreams: int = 0

    def now(self) -> float:
        return time.monotonic() - self.began

    def memory_now(self, pid: int) -> tuple[float, float]:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return self.now(), pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@contextlib.contextmanager
def sampled(run: Run, proxy: weir.Weir):
    ended = threading.Event()

    def sample() -> None:
        while not ended.wait(SAMPLE_EVERY_S) and proxy.is_running():
            run.memory.append(run.memory_now(proxy.pid))

    thread = threading.Thread(target=sample)
    thread.start()
    yield
    ended.set()
    thread.join()


def check(run: Run, world: faults.World) -> dict[str, int]:
    """What must hold at any time; returns what is in use."""
    wrong = [line for program in world.programs for line in program.wrong()]
    assert not wrong, "wrong answers:\n  " + "\n  ".join(wrong[:20])
    assert world.proxy.is_running(), f"weir has ended{world.proxy.tail()}"
    used = world.proxy.state()
    run.most_upstreams = max(run.most_upstreams, used["upstreams_open"] + used["upstreams_opening"])
    assert run.most_upstreams <= CAP, used
    return used


def make_trouble(run: Run, world: faults.World, seconds: float) -> None:
    """A crash, which takes most memory, so that rounds can be compared; then each fault once in a
    random order, and again, until the time is over."""
    end, left = time.monotonic() + seconds, [faults.kill_server]
    while time.monotonic() < end:
        world.sleep(3)
        left = left or world.random.sample(faults.FAULTS, len(faults.FAULTS))
        fault = left.pop()
        run.faults.append((run.now(), fault.__name__))
        fault(world)
        check(run, world)
    world.admin("configureFailPoint", "failCommand", mode="off")


def rest(run: Run, world: faults.World) -> None:
    """Waits until all is back where it was before the first round."""
    deadline = time.monotonic() + REST_S
    while True:
        used = check(run, world)
        used["cursors"] = world.admin("serverStatus")["metrics"]["cursor"]["open"]["total"]
        descriptors = len(os.listdir(f"/proc/{world.proxy.pid}/fd")) - used["upstreams_open"]
        if run.descriptors is None:
            run.descriptors = descriptors
        more = descriptors - run.descriptors
        if more <= WATCHING and not any(used[name] for name in AT_REST):
            break
        assert time.monotonic() < deadline, f"not at rest: {used}, {more} more descriptors"
        time.sleep(SAMPLE_EVERY_S)
    run.rests.append(run.memory_now(world.proxy.pid))


def one_round(run: Run, world: faults.World, uris: list[tuple], seconds: float) -> None:
    world.programs = [
        traffic.Program(driver, uri + OPTIONS, world.server.features) for driver, uri in uris
    ]
    for program in world.programs:
        program.wait_for_more(20, RECOVERY_S)
    make_trouble(run, world, seconds)
    for program in world.programs:
        program.wait_for_more(50, RECOVERY_S)
    for program in world.programs:
        program.end()
        run.done[program.name] += program.count("done").total()
        run.errors[program.name] += program.count("errors")
    rest(run, world)


def soak(run: Run, proxy: weir.Weir, server: servers.Server, seconds: float, seed: int) -> None:
    # In turn over TLS and without.
    in_turn = itertools.cycle((f"{proxy.tls_uri}&", f"{proxy.uri}?"))
    uris = list(zip(traffic.drivers_here(), in_turn))
    world = faults.World(server, proxy, [], random.Random(f"{seed}-{run.name}"))
    rounds = max(2, round(seconds / ROUND_S))
    try:
        with sampled(run, proxy):
            rest(run, world)
            for _ in range(rounds):
                one_round(run, world, uris, seconds / rounds)
    finally:
        for program in world.programs:
            program.stop()
    after_first, last = run.rests[1][1], run.rests[-1][1]
    assert last <= after_first * GROWTH, f"memory at rest grew from {after_first} to {last} MB"


def run_under(run: Run, seconds: float, seed: int) -> None:
    kind = "secantus" if servers.why_not("mongod") else "mongod"
    how = {"tls": True, "binary": servers.BUILD / run.name / "weir", "env": SANITIZERS[run.name]}
    with servers.start(kind, tls=True, auth=True, durable=True) as server:
        numbers = ({"_id": i, "n": i % 10} for i in range(NUMBERS))
        server.client().checks.numbers.insert_many(numbers)
        proxy = weir.Weir(server.uri, cap=CAP, **how)
        try:
            with proxy:
                soak(run, proxy, server, seconds, seed)
        finally:
            (OUT / f"{run.name}.log").write_text("\n".join(proxy.lines) + "\n")


def report(run: Run) -> None:
    most = max((mb for _, mb in run.memory), default=0)
    rests = ", ".join(f"{mb:.0f}" for _, mb in run.rests)
    print(f"{run.name}: resident at rest {rests} MB, at most {most:.0f} MB;", end=" ")
    print(f"upstreams at most {run.most_upstreams} of {CAP}")
    for name, done in run.done.items():
        print(f"  {name}: {done} operations; errors: {dict(run.errors[name].most_common())}")
    print(f"  faults: {dict(Counter(name for _, name in run.faults))}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    given = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    print(f"{given.seconds:g} s and what recovery takes, with --seed {given.seed}", flush=True)
    runs = []
    for name in SANITIZERS:
        runs.append(Run(name))
        try:
            run_under(runs[-1], given.seconds / len(SANITIZERS), given.seed)
        finally:
            report(runs[-1])
            picture.draw(runs, OUT / "memory.png")


if __name__ == "__main__":
    main()
