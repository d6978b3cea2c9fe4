# SPDX-License-Identifier: Apache-2.0
"""The story with several drivers and both ways of being slow: the table of docs/story.md.

    python matrix.py [--seconds-scale 0.5] [--drivers go,pymongo] [--docs DIRECTORY]

Drivers that announce that they back off when a server is overloaded, and ones that do not; queries
that are slow because a failpoint holds them, which costs the server nothing but a connection, and
because they scan, which takes the processors that the fast ones need as well (on a mongod only).
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import story
from story import Phases, Run, say, servers, weir

sys.path.insert(0, str(story.HERE.parent / "drivers"))

import drivers  # noqa: E402

CAP = 40
PYMONGO_WITHOUT_BACK_OFF = "4.13.2"
BEGIN, END = "<!-- make bench-story: begin -->\n", "<!-- make bench-story: end -->\n"


def start_python(python: str, plan: dict) -> subprocess.Popen:
    return subprocess.Popen(
        [python, str(story.HERE / "app.py"), json.dumps(plan)], stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, "PYTHONPATH": ""},
    )  # fmt: skip


def start_go(version: str, plan: dict) -> subprocess.Popen:
    return subprocess.Popen(
        drivers.DRIVERS[version].command("story"), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, "PLAN": json.dumps(plan)},
    )  # fmt: skip


def starters() -> dict[str, tuple[str, story.Starter]]:
    """By name: what the driver does when refused, and how a process of the app is started."""
    old = drivers.python_with_pymongo(PYMONGO_WITHOUT_BACK_OFF)
    for version in ("go", "go-1"):
        drivers.DRIVERS[version].command("story")  # builds it, before anything is timed
    return {
        "pymongo 4.20": ("backs off", functools.partial(start_python, sys.executable)),
        f"pymongo {PYMONGO_WITHOUT_BACK_OFF}": ("tells the app", functools.partial(start_python, old)),
        "Go 2": ("backs off", functools.partial(start_go, "go")),
        "Go 1": ("tells the app", functools.partial(start_go, "go-1")),
    }  # fmt: skip


def play(start_app: story.Starter, phases: Phases, *, scans: bool) -> tuple[Run, Run, list[str]]:
    """Straight and through weir, each at a server of its own; and how weir's log ends on it."""
    with servers.start() as alone, story.prepared(alone, scans=scans, ends=True) as slow:
        straight = story.run_story("straight", alone, alone.uri, phases, slow, start_app)
    with servers.start() as server, story.prepared(server, scans=scans, ends=True) as slow:
        with weir.Weir(server.uri, cap=CAP) as proxy:
            through = story.run_story("weir", server, proxy.uri, phases, slow, start_app)
            return straight, through, story.exhaustions(proxy)


def kept(run: Run) -> float:
    """The part of its rate before the storm that the fast operations keep in it."""
    spans = run.phases.spans()
    return run.served_a_second(*spans["storm"]) / run.served_a_second(*spans["before"])


def cells(run: Run) -> list[str]:
    storm = run.phases.spans()["storm"]
    failed = run.errors("fast").total()
    p99 = run.latency_ms(99, *storm)
    return [f"{kept(run):.2f}", str(failed), "-" if p99 is None else f"{p99:.0f}"]


def row(driver: str, does: str, runs: tuple[Run, Run], log: list[str]) -> str:
    straight, through = runs
    connections = f"{straight.most_connections()} / {through.most_connections()}"
    named = "yes" if any("distinct" in line or "aggregate" in line for line in log) else "no"
    texts = [driver, does, straight.slow_is, *cells(straight), *cells(through), connections, named]
    return "| " + " | ".join(texts) + " |"


WAYS = ("failpoint", "scan")


def ways() -> list[str]:
    """SecantusDB does nothing else while it scans, nor does FerretDB: whatever is let through, a
    single scan of 4 s stops every other operation for 4 s. Only a mongod shows more than that."""
    if servers.available()[0] in ("external", "mongod"):
        return list(WAYS)
    say("Skipped: queries that are slow by scanning. There is no mongod, and this server stands\n"
        "still while it scans, whoever may or may not ask besides.\n")  # fmt: skip
    return ["failpoint"]


HEAD = """\
| driver | when refused | slow ones | straight: kept | failed | p99, ms | weir: kept | failed | p99, ms | connections | named |
|---|---|---|---:|---:|---:|---:|---:|---:|---:|---|
"""  # noqa: E501


def publish(path: Path, table: str) -> None:
    before, rest = path.read_text().split(BEGIN)
    path.write_text(before + BEGIN + "\n" + table + "\n" + END + rest.split(END)[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds-scale", type=float, default=1.0, help="0.1: a tenth as long")
    parser.add_argument("--drivers", help="these alone, by parts of their names: pymongo,Go 1")
    parser.add_argument("--slow", choices=WAYS, help="slow in this way alone")
    parser.add_argument("--docs", type=Path, help="put the table into story.md there")
    options = parser.parse_args()
    wanted = options.drivers.split(",") if options.drivers else [""]
    phases = Phases().scaled(options.seconds_scale)
    table = HEAD
    for way in [options.slow] if options.slow else ways():
        for name, (does, start_app) in starters().items():
            if any(part in name for part in wanted):
                straight, through, log = play(start_app, phases, scans=way == "scan")
                table += row(name, does, (straight, through), log) + "\n"
                say(story.table([straight, through]) + "\n\n" + "\n".join(log) + "\n\n" + table)
    if options.docs:
        publish(options.docs / "story.md", table)


if __name__ == "__main__":
    main()
