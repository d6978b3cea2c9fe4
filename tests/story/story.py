# SPDX-License-Identifier: Apache-2.0
"""The story: an app's storm of slow queries, straight at a server and then through weir.

Two processes of an app, each with a driver's pool of 150, send 300 small operations a second with a
deadline of 1 s. For 20 s there come 200 slow queries a second as well, 5 s each, that the app gives
up on after 15 s. Then calm. Prints one table with both runs side by side; writes one picture.

    python story.py [--cap 40] [--png FILE] [--json FILE] [--log FILE] [--seconds-scale 0.1]

Each run has a server of its own, started fresh; one named by $MONGODB_URI serves both. The database
`weir_story` in it is dropped before and after.

    seconds   0 ........ 10 .................... 30 .................... 50
              before     storm: slow ones too    after
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "servers"))

import pymongo  # noqa: E402
from pymongo.errors import PyMongoError  # noqa: E402

import app  # noqa: E402
import servers  # noqa: E402
import weir  # noqa: E402

DATABASE = "weir_story"
PROCESSES = 2
POOL = 150
FAST_RATE = 300
FAST_DEADLINE_S = 1.0
SLOW_RATE = 200
SLOW_S = 5.0
SLOW_DEADLINE_S = 15.0
SAMPLE_EVERY_S = 0.25
PATIENCE_S = 2.0  # with a server that is asked how many connections it has
NORMAL = 0.95
SCAN_DOCUMENTS = 50_000


@dataclass(frozen=True)
class Phases:
    """Where the storm and the calm after it begin, and the end; in seconds from the start."""

    storm: float = 10.0
    calm: float = 30.0
    end: float = 50.0

    def scaled(self, by: float) -> Phases:
        return Phases(self.storm * by, self.calm * by, self.end * by)

    def spans(self) -> dict[str, tuple[float, float]]:
        return {
            "before": (0.0, self.storm),
            "storm": (self.storm, self.calm),
            "after": (self.calm, self.end),
        }


@dataclass
class Run:
    """One run as it was measured. `done` has (kind, due_s, took_s, outcome) per operation and
    `connections` (at_s, how many the server had); all times from the start of the run."""

    name: str
    phases: Phases
    slow_is: str
    done: list[tuple[str, float, float, str]]
    connections: list[tuple[float, int]] = field(default_factory=list)
    late: int = 0

    def of(self, kind: str, begin: float, end: float) -> list[tuple[float, str]]:
        return [
            (took_s, what)
            for its_kind, due_s, took_s, what in self.done
            if its_kind == kind and begin <= due_s < end
        ]

    def served_a_second(self, begin: float, end: float) -> float:
        return sum(what == "ok" for _, what in self.of("fast", begin, end)) / (end - begin)

    def latency_ms(self, percent: int, begin: float, end: float) -> float | None:
        """Of the fast operations that succeeded; None if there were fewer than 5."""
        took = [1000 * took for took, what in self.of("fast", begin, end) if what == "ok"]
        if len(took) < 5:
            return None
        return statistics.quantiles(took, n=100, method="inclusive")[percent - 1]

    def errors(self, kind: str) -> Counter[str]:
        return Counter(what for _, what in self.of(kind, 0, self.phases.end) if what != "ok")

    def most_connections(self) -> int | None:
        return max((count for _, count in self.connections), default=None)

    def until_normal_s(self) -> float | None:
        """Seconds after the storm until the fast operations of every later second succeed at 95 %
        of the rate before it; None if they did not until the end."""
        phases = self.phases
        usual = self.served_a_second(0, phases.storm)
        normal_from = None
        second = phases.calm
        while second + 1 <= phases.end:
            if self.served_a_second(second, second + 1) < NORMAL * usual:
                normal_from = None
            elif normal_from is None:
                normal_from = second
            second += 1
        return None if normal_from is None else normal_from - phases.calm


Starter = Callable[[dict], subprocess.Popen]  # of one process of the app, by its plan


def run_story(
    name: str,
    server: servers.Server,
    uri: str,
    phases: Phases,
    slow: SlowQuery,
    start_app: Starter | None = None,
) -> Run:
    """Runs the app against `uri` while watching the server from its own side."""
    zero = time.monotonic() + 2.0
    plans = [_plan(number, uri, zero, phases, slow) for number in range(PROCESSES)]
    children = [(start_app or _start_app)(plan) for plan in plans]
    run = Run(name, phases, slow.text, [])
    stop = threading.Event()
    watcher = threading.Thread(target=_watch, args=(server, zero, stop, run.connections))
    watcher.start()
    try:
        for child in children:
            output, _ = child.communicate()
            if child.returncode != 0:
                raise SystemExit(f"story: the app ended with status {child.returncode}")
            said = json.loads(output)
            run.done += [tuple(each) for each in said["done"]]
            run.late += said["late"]
    finally:
        stop.set()
        watcher.join()
        for child in children:
            child.kill()
            child.wait()
    return run


def _plan(number: int, uri: str, zero: float, phases: Phases, slow: SlowQuery) -> dict:
    return {
        "name": f"web.{number + 1}",
        "uri": uri,
        "database": DATABASE,
        "pool": POOL,
        "zero": zero,
        "zero_unix": zero - time.monotonic() + time.time(),
        **asdict(phases),
        "phase": number / PROCESSES,
        "fast_rate": FAST_RATE / PROCESSES,
        "fast_deadline_s": FAST_DEADLINE_S,
        "slow_rate": SLOW_RATE / PROCESSES,
        "slow_deadline_s": SLOW_DEADLINE_S,
        "slow_pipeline": slow.pipeline,
    }


def _start_app(plan: dict) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, str(HERE / "app.py"), json.dumps(plan)],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def _watch(
    server: servers.Server, zero: float, stop: threading.Event, ret: list[tuple[float, int]]
) -> None:
    while not stop.wait(SAMPLE_EVERY_S):
        try:
            with pymongo.timeout(PATIENCE_S):
                count = server.connections()
        except PyMongoError:
            continue  # A server too busy to answer leaves a gap in the picture.
        at_s = time.monotonic() - zero
        if at_s >= 0:
            ret.append((at_s, count))


@dataclass
class SlowQuery:
    """How a query is slow on this server: `distinct` held up by a failpoint, or a scan."""

    text: str
    pipeline: list[dict] | None = None


@contextmanager
def prepared(
    server: servers.Server, *, scans: bool = False, ends: bool = False
) -> Iterator[SlowQuery]:
    """The story's database, new, and what a slow query is there: held up by a failpoint where there
    are any, unless `scans`. Nothing of it stays, unless the server ends now anyway: it may still be
    scanning for minutes what the app gave up on."""
    client = server.client()
    client.drop_database(DATABASE)
    orders = client[DATABASE]["orders"]
    orders.create_index("customer")
    orders.insert_many(
        {"_id": i, "customer": i % app.CUSTOMERS, "status": f"s{i % 7}"} for i in range(app.ORDERS)
    )
    try:
        if "failpoints" in server.features and not scans:
            milliseconds = round(SLOW_S * 1000)
            held = {"failCommands": ["distinct"], "blockConnection": True}
            _fail_command(client, "alwaysOn", data={**held, "blockTimeMS": milliseconds})
            yield SlowQuery(f"distinct, held {SLOW_S:g} s by a failpoint")
        else:
            yield _slow_scan(orders)
    finally:
        if not ends:
            _clean(server, client)


def _clean(server: servers.Server, client: pymongo.MongoClient) -> None:
    if "failpoints" in server.features:
        _fail_command(client, "off")
    client.drop_database(DATABASE)


def _fail_command(client: pymongo.MongoClient, mode: str, **more: object) -> None:
    client.admin.command("configureFailPoint", "failCommand", mode=mode, **more)


def _slow_scan(orders: pymongo.collection.Collection) -> SlowQuery:
    """A scan of the collection without an index, dear enough to take about SLOW_S when alone."""
    orders.insert_many(
        {"_id": i, "n": i, "status": "old"} for i in range(app.ORDERS, SCAN_DOCUMENTS)
    )
    errors = []
    for scan in (_scan_with_sums, _scan_with_groups):
        size, took_s = 500, 0.0
        try:
            while took_s < SLOW_S * 0.7 and size < 5_000_000:
                size = int(size * (2 if took_s < 1 else 1.4))
                began = time.monotonic()
                list(orders.aggregate(scan(size)))
                took_s = time.monotonic() - began
            return SlowQuery(f"collection scan, {took_s:.1f} s when alone", scan(size))
        except PyMongoError as error:
            errors.append(str(error)[:200])
    raise SystemExit("story: this server has no way to be slow: " + "; ".join(errors))


def _scan_with_sums(size: int) -> list[dict]:
    """Adds up numbers for each document: MongoDB's expressions."""
    numbers = {"$range": [0, max(1, size // 500)]}
    total = {"$reduce": {"input": numbers, "initialValue": 0, "in": {"$add": ["$$value", 1]}}}
    return [{"$match": {"$expr": {"$lt": [total, 0]}}}]


def _scan_with_groups(size: int) -> list[dict]:
    """A group per document: for FerretDB, where that is quadratic."""
    return [{"$limit": min(size, SCAN_DOCUMENTS)}, {"$group": {"_id": "$n"}}, {"$count": "k"}]


def tell(server: servers.Server, proxy_uri: str, cap: int, phases: Phases) -> list[Run]:
    """Both runs: straight at a server of its own, then through the weir that stands before
    `server`; says so as it goes."""
    usual = server.connections()
    say(f"The story, straight at the server ({phases.end:g} s) ...")
    with servers.start() as alone, prepared(alone) as slow:
        straight = run_story("straight", alone, alone.uri, phases, slow)
    _wait_until_left(server, usual)
    say(f"... and through weir, cap {cap} ({phases.end:g} s) ...")
    with prepared(server) as slow:
        return [straight, run_story(f"weir, cap {cap}", server, proxy_uri, phases, slow)]


def _wait_until_left(server: servers.Server, usual: int) -> None:
    """Where both runs have the same server: until what the first gave up on is gone."""
    deadline = time.monotonic() + 60
    while server.connections() > usual + 5 and time.monotonic() < deadline:
        time.sleep(0.5)


def say(text: str) -> None:
    print(text, flush=True)


def table(runs: list[Run]) -> str:
    spans = runs[0].phases.spans()
    rows: list[tuple[str, list[str]]] = [("", [run.name for run in runs])]

    def row(label: str, cells: list[str]) -> None:
        rows.append((label, cells))

    row(f"fast operations served a second, of {FAST_RATE}", [])
    for phase, span in spans.items():
        row(f"  {phase}", [f"{run.served_a_second(*span):.1f}" for run in runs])
    row("latency of those, p50 / p99 in ms", [])
    for phase, span in spans.items():
        both = [(run.latency_ms(50, *span), run.latency_ms(99, *span)) for run in runs]
        row(f"  {phase}", [f"{_number(p50)} / {_number(p99)}" for p50, p99 in both])
    for kind, text in (("fast", "fast operations"), ("slow", "slow queries")):
        counts = [run.errors(kind) for run in runs]
        totals = [len(run.of(kind, 0, run.phases.end)) for run in runs]
        of_all = [f"{count.total()} of {total}" for count, total in zip(counts, totals)]
        row(f"{text} that failed", of_all)
        for what in sorted(set().union(*counts)):
            row(f"  {what}", [str(count[what]) for count in counts])
    row("most connections the server had", [_number(run.most_connections()) for run in runs])
    row("seconds from the storm's end until normal", [_until_normal(run) for run in runs])

    label_width = max(len(label) for label, _ in rows)
    width = max(len(cell) for _, cells in rows for cell in cells)
    return "\n".join(
        (f"{label:<{label_width}}" + "".join(f"  {cell:>{width}}" for cell in cells)).rstrip()
        for label, cells in rows
    )


def footnotes(run: Run) -> str:
    """What one has to know to read the table."""
    return (
        f"Slow queries: {run.slow_is}; given up by the app after {SLOW_DEADLINE_S:g} s.\n"
        f"Normal: {NORMAL:.0%} of the rate before the storm, in every second from then on.\n"
        "The server's connections: also those of monitoring, our own 3, and those that the app\n"
        "gave up on, until the server is done with them."
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _until_normal(run: Run) -> str:
    seconds = run.until_normal_s()
    left = run.phases.end - run.phases.calm
    return f"not within {left:g}" if seconds is None else f"{seconds:g}"


def as_json(runs: list[Run]) -> dict:
    def phase(run: Run, span: tuple[float, float]) -> dict:
        return {
            "fast_served_a_second": run.served_a_second(*span),
            "p50_ms": run.latency_ms(50, *span),
            "p99_ms": run.latency_ms(99, *span),
        }

    return {
        run.name: {
            "phases": {name: phase(run, span) for name, span in run.phases.spans().items()},
            "fast_errors": run.errors("fast"),
            "slow_errors": run.errors("slow"),
            "slow_begun": len(run.of("slow", 0, run.phases.end)),
            "slow_is": run.slow_is,
            "most_connections": run.most_connections(),
            "until_normal_s": run.until_normal_s(),
            "operations": len(run.done),
            "begun_late": run.late,
        }
        for run in runs
    }


def show(runs: list[Run], log: list[str], png: Path | None, json_path: Path | None) -> None:
    """Prints the table, and what weir logged of it; writes the picture and the figures."""
    say("\n" + table(runs) + "\n\n" + footnotes(runs[0]))
    if log:
        say("\nWhat weir logged of it:")
        for line in log:
            say(textwrap.fill(line, 100, initial_indent="  ", subsequent_indent="      "))
    for run in runs:
        if run.late > 0.02 * len(run.done):
            say(
                f"Beware: this machine was too busy for its load. In the run '{run.name}', "
                f"{run.late} of {len(run.done)} operations began over {app.LATE_S:g} s late."
            )
    if json_path:
        json_path.write_text(json.dumps(as_json(runs), indent=2) + "\n")
    if png:
        import picture

        picture.draw(runs, png)
        say(f"The picture of it: {png}")


def exhaustions(proxy: weir.Weir) -> list[str]:
    """The log's first lines about running out of connections, without those in between."""
    ends = ("exhaustion_begin", "exhaustion_end")
    return [line for line in proxy.lines if weir.parse_line(line).get("event") in ends][:6]


def main() -> None:
    parser = argparse.ArgumentParser(description="The story, straight and through weir.")
    parser.add_argument("--cap", type=int, default=40, help="weir's cap (default: 40)")
    parser.add_argument("--seconds-scale", type=float, default=1.0, help="0.1: a tenth as long")
    parser.add_argument("--png", type=Path, help="write the picture here")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--log", type=Path, help="write weir's log here")
    parser.add_argument("--weir", type=Path, help="the binary (default: $WEIR, build/weir)")
    options = parser.parse_args()
    if options.weir:
        os.environ["WEIR"] = str(options.weir)
    phases = Phases().scaled(options.seconds_scale)
    with servers.start() as server, weir.Weir(server.uri, cap=options.cap) as proxy:
        runs = tell(server, proxy.uri, options.cap, phases)
        if options.log:
            options.log.write_text("\n".join(proxy.lines) + "\n")
        show(runs, exhaustions(proxy), options.png, options.json)


if __name__ == "__main__":
    main()
