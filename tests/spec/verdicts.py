# SPDX-License-Identifier: Apache-2.0
"""Runs pymongo's own specification tests, straight at a server and through weir.

Runner and tests are those of pymongo's source package, which `make test-spec` unpacks into
build/spec; each file gets a process, a server and, for its run through weir, two weirs of its own,
because the failpoints that the tests set are the server's and hit whoever comes first.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import differences
import servers
import weir

HERE = Path(__file__).resolve().parent
SPEC = servers.BUILD / "spec"
TABLE = SPEC / "verdicts.txt"

WAYS = ("direct", "weir")
VERDICTS = ("pass", "fail", "skip")
WORSE = {("pass", "fail"), ("pass", "skip"), ("skip", "fail")}  # directly, through weir
RUN_TIMEOUT_S = 400  # of one file one way; catches a hang
AT_ONCE = 6  # the tests mostly wait: for heartbeats, for change streams

# Holds two measured times against each other; on a busy machine that says nothing.
TIMED = "test/test_transactions.py::TestTransactionsConvenientAPI::test_4_retry_backoff_is_enforced"


@dataclass(frozen=True)
class Verdict:
    """How one test ended. `why` is what it said if it did not pass."""

    word: str
    why: str


Verdicts = dict[str, Verdict]  # by Class.test


def run_all(files: tuple[str, ...]) -> dict[str, dict[str, Verdicts]]:
    """By file and way. Also writes them to SPEC, as JSON and as TABLE."""
    runs = [(file, way) for file in files for way in WAYS]
    shared = servers.default_kind() == "external"
    with ThreadPoolExecutor(1 if shared else AT_ONCE) as pool:
        found = dict(zip(runs, pool.map(lambda run: _run(*run), runs)))
    by_file = {file: {way: found[file, way] for way in WAYS} for file in files}
    for file, by_way in by_file.items():
        assert by_way["direct"].keys() == by_way["weir"].keys(), f"{file}: not the same tests"
    (SPEC / "verdicts.json").write_text(json.dumps(by_file, default=vars, indent=1))
    TABLE.write_text(table(by_file))
    return by_file


def _run(file: str, way: str) -> Verdicts:
    with ExitStack() as stack:
        server = stack.enter_context(servers.start())
        if way == "direct":
            return _pytest(file, way, server.host, server.port, [])
        proxies = _two_weirs(server)
        for i, proxy in enumerate(proxies):
            stack.enter_context(proxy)
            stack.callback(_keep_log, proxy, SPEC / f"{file}.weir{i}.log")
        return _pytest(file, way, proxies[0].host, proxies[0].port, ["-p", "through_weir"])


def _two_weirs(server: servers.Server) -> tuple[weir.Weir, weir.Weir]:
    """On ports that follow each other: the runner takes a mongos on the next port for one more of
    the same cluster, and gives both to the tests that want several."""
    for _ in range(5):
        first = weir.Weir(server.uri, cap=20)
        try:
            return first, weir.Weir(server.uri, cap=20, port=first.port + 1)
        except AssertionError:  # that port is somebody's
            first.stop()
    raise AssertionError("no two free ports in a row")


def _keep_log(proxy: weir.Weir, path: Path) -> None:
    path.write_text("\n".join(proxy.lines))


def _pytest(file: str, way: str, host: str, port: int, plugins: list[str]) -> Verdicts:
    report = SPEC / f"{file}.{way}.xml"
    report.unlink(missing_ok=True)
    arguments = [
        sys.executable, "-m", "pytest", "-c", os.devnull, "--rootdir", SPEC, "-q", "-p", "no_long_waits",
        *plugins, "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestUnknownMarkWarning",
        f"--junitxml={report}", "--deselect", TIMED, f"test/{file}.py",
    ]  # fmt: skip
    environment = {**os.environ, "DB_IP": host, "DB_PORT": str(port), "PYTHONPATH": str(HERE)}
    with open(SPEC / f"{file}.{way}.output", "w") as output:
        subprocess.run(
            arguments, cwd=SPEC, env=environment, stdin=subprocess.DEVNULL, stdout=output,
            stderr=output, timeout=RUN_TIMEOUT_S,
        )  # fmt: skip
    return _read(report)


def _read(report: Path) -> Verdicts:
    assert report.exists(), f"no test ran; see {report.with_suffix('.output')}"
    verdicts = {}
    for case in ElementTree.parse(report).iter("testcase"):
        name = f"{case.get('classname').rpartition('.')[2]}.{case.get('name')}"
        verdicts[name] = _verdict(case)
    return verdicts


def _verdict(case: ElementTree.Element) -> Verdict:
    """What pymongo expects to fail and does, counts as skipped: it proves nothing."""
    for part in case:
        word = {"failure": "fail", "error": "fail", "skipped": "skip"}.get(part.tag)
        if word:
            return Verdict(word, part.get("message") or "")
    return Verdict("pass", "")


def table(by_file: dict[str, dict[str, Verdicts]]) -> str:
    row = "{:32}" + "{:>8}" * 6
    lines = [
        row.format("", "direct", "", "", "weir", "", "").rstrip(),
        row.format("file", *VERDICTS, *VERDICTS),
    ]
    total: Counter[tuple[str, str]] = Counter()
    for file, by_way in by_file.items():
        count = Counter((way, one.word) for way in WAYS for one in by_way[way].values())
        total += count
        lines.append(_row(row, file, count))
    return "\n".join([*lines, _row(row, "all", total), *_worse_by_reason(by_file)]) + "\n"


def _row(row: str, name: str, count: Counter[tuple[str, str]]) -> str:
    return row.format(name, *(count[way, word] for way in WAYS for word in VERDICTS))


def _worse_by_reason(by_file: dict[str, dict[str, Verdicts]]) -> Iterator[str]:
    tests = defaultdict(list)
    for file, by_way in by_file.items():
        for name in worse(by_way):
            why = differences.reason(file, name, by_way["weir"][name].why)
            tests[why or "NOT EXPECTED"].append(f"  {file} {name}")
    for why, names in tests.items():
        yield from ("", f"worse through weir, {len(names)}: {why}", *names)


def worse(by_way: dict[str, Verdicts]) -> list[str]:
    direct, through = by_way["direct"], by_way["weir"]
    return [name for name, one in through.items() if (direct[name].word, one.word) in WORSE]
