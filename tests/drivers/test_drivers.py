# SPDX-License-Identifier: Apache-2.0
"""Every driver does through weir what it does straight at the server, and the cap holds.

Each driver's program runs straight at each server, then through weir in each way; what a check says
of itself (its verdict and its facts, such as an error's code, name, text and labels) must be what
it said straight.
"""

from __future__ import annotations

import json
import subprocess
import threading
import time
from dataclasses import dataclass

import pytest
import servers
import weir
from drivers import DRIVERS, Driver

CHECKS = (
    "crud bulk_10000 document_15mb cursor_100000 aggregation indexes duplicate_key bad_command"
    " transaction_commit transaction_abort change_stream unacknowledged_write killed_cursor"
    " parallel_sessions"
).split()

NUMBERS = 100_000
FEW = 1_000
PROGRAM_TIMEOUT_S = 600
SAMPLE_EVERY_S = 0.02
# weir's own: libmongoc's pool has a monitor and one that measures round trips; one more asks the
# server about itself when permits have run out.
MONITORING = 2 + 1
# What works through weir also where the server fails at it: weir asks for a reply and drops it.
WEIR_ADDS = {"unacknowledged_writes"}


@dataclass(frozen=True)
class Way:
    """How a driver reaches the server; cap 0: straight."""

    face: str
    cap: int

    def __str__(self) -> str:
        return f"{self.face}-cap{self.cap}" if self.cap else self.face


STRAIGHT = Way("straight", 0)
WAYS = (STRAIGHT, Way("plain", 1), Way("plain", 4), Way("tls", 1), Way("tls", 4), Way("unix", 4))
# A server that is slow at this gets the two ways that differ most, and no old drivers.
FEWER = {"ferretdb": (STRAIGHT, Way("plain", 1), Way("tls", 4))}


@dataclass(frozen=True)
class Outcome:
    verdict: str  # "ok", "not ok", "skip"
    text: str  # why not, why skipped
    facts: object  # JSON that a check gave with its ok


@dataclass(frozen=True)
class Run:
    outcomes: dict[str, Outcome]
    output: str
    status: int
    most_connections: int = 0  # of weir's that the server had meanwhile
    log: str = ""  # the end of weir's


def parse(output: str) -> dict[str, Outcome]:
    outcomes = {}
    for line in output.splitlines():
        for verdict in ("ok", "not ok", "skip"):
            if line.startswith(verdict + " "):
                name, _, rest = line[len(verdict) + 1 :].partition(" ")
                facts = json.loads(rest) if verdict == "ok" and rest else None
                text = "" if verdict == "ok" else rest
                outcomes[name.rstrip(":")] = Outcome(verdict, text, facts)
    return outcomes


class Sampler:
    """Asks the server, while a program runs, how many connections it has."""

    def __init__(self, server: servers.Server):
        self.most = 0
        self._server = server
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample)

    def _sample(self) -> None:
        while not self._ended.wait(SAMPLE_EVERY_S):
            self.most = max(self.most, self._server.connections())

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


def fill(server: servers.Server) -> None:
    """Makes what the checks read."""
    corpus = server.client().corpus
    for start in range(0, NUMBERS, FEW):
        numbers = [{"_id": i, "n": i % 10} for i in range(start, start + FEW)]
        corpus.numbers.insert_many(numbers)
    corpus.few.insert_many({"_id": i, "n": i % 10} for i in range(FEW))


class Place:
    """A server with the data the checks read, and the weir before it, if any."""

    def __init__(self, kind: str, way: Way):
        self._way = way
        self._server = servers.start(kind)
        self._weir: weir.Weir | None = None
        try:
            fill(self._server)
            self._observers = min(self._watch(0.5))
            if way.cap:
                wait = ("--max-wait", "30s")
                self._weir = weir.Weir(self._server.uri, *wait, cap=way.cap, tls=True, unix=True)
        except BaseException:
            self._server.stop()
            raise

    def _watch(self, seconds: float):
        """Counts connections for a while."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            yield self._server.connections()
            time.sleep(SAMPLE_EVERY_S)

    def run(self, driver: Driver, straight: bool) -> Run:
        features = self._server.features
        if straight:
            output, status = finish(driver.start("checks", self._server.uri, features))
            return Run(parse(output), output, status)
        face = {"plain": "uri", "tls": "tls_uri", "unix": "unix_uri"}[self._way.face]
        uri = getattr(self._weir, face)
        with Sampler(self._server) as sampler:
            output, status = finish(driver.start("checks", uri, features | WEIR_ADDS))
        most = sampler.most - self._observers
        return Run(parse(output), output, status, most, self._weir.tail())

    def close(self) -> None:
        try:
            if self._weir:
                self._weir.__exit__(None)
        finally:
            self._server.stop()


def finish(process: subprocess.Popen) -> tuple[str, int]:
    try:
        return process.communicate(timeout=PROGRAM_TIMEOUT_S)[0], process.returncode
    except subprocess.TimeoutExpired:
        process.kill()
        return process.communicate()[0] + f"killed after {PROGRAM_TIMEOUT_S} s", -9


class Places:
    """The place in use, and what programs said straight at servers. Each way has a server of its
    own: SecantusDB gets slower with each retryable write it has ever seen."""

    def __init__(self) -> None:
        self._place: Place | None = None
        self._key = ()
        self._straight: dict[tuple[str, str], Run] = {}

    def _at(self, kind: str, way: Way) -> Place:
        if self._key != (kind, way):
            self.close()
            self._place = Place(kind, way)
            self._key = (kind, way)
        return self._place

    def runs(self, kind: str, way: Way, driver: Driver) -> tuple[Run, Run]:
        key = (kind, driver.name)
        if key not in self._straight:
            self._straight[key] = self._at(kind, way).run(driver, straight=True)
        straight = self._straight[key]
        if way == STRAIGHT:
            return straight, straight
        return straight, self._at(kind, way).run(driver, straight=False)

    def close(self) -> None:
        if self._place:
            place, self._place, self._key = self._place, None, ()
            place.close()


@pytest.fixture(scope="module")
def places():
    places = Places()
    yield places
    places.close()


CASES = [
    pytest.param((kind, way, driver), id=f"{kind}-{way}-{driver.name}")
    for kind in servers.available()
    for way in FEWER.get(kind, WAYS)
    for driver in DRIVERS.values()
    if not driver.why_not() and not (kind in FEWER and driver.is_old)
]


@pytest.fixture(scope="module", params=CASES)
def runs(request: pytest.FixtureRequest, places: Places) -> tuple[Run, Run]:
    """What the driver's program said straight at the server, and what it said this way."""
    kind, way, driver = request.param
    return places.runs(kind, way, driver)


@pytest.mark.parametrize("name", [*servers.KINDS, *DRIVERS])
def test_is_here(name: str):
    """A visible skip for each server and driver that is not among the cases below."""
    reason = DRIVERS[name].why_not() if name in DRIVERS else servers.why_not(name)
    if reason:
        pytest.skip(f"{name}: {reason}")


@pytest.mark.parametrize("check", CHECKS)
def test_check(runs: tuple[Run, Run], check: str):
    straight, run = runs
    assert check in run.outcomes, run.output
    outcome, expected = run.outcomes[check], straight.outcomes[check]
    if outcome.verdict == "skip":
        pytest.skip(outcome.text)
    assert outcome.verdict == "ok", outcome.text
    assert outcome.facts == (expected.facts if expected.verdict == "ok" else outcome.facts)


def test_program_ends_well(runs: tuple[Run, Run]):
    run = runs[1]
    assert run.status == 0, run.output
    others = [name for name in run.outcomes if name not in CHECKS]
    assert all(run.outcomes[name].verdict == "ok" for name in others), run.output


def test_connections_stay_within_the_cap(runs: tuple[Run, Run], request):
    way = request.node.callspec.params["runs"][1]
    if way == STRAIGHT:
        pytest.skip("there is no cap straight at the server")
    assert 0 < runs[1].most_connections <= way.cap + MONITORING, runs[1].log
