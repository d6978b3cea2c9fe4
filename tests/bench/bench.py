#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures weir beside HAProxy, a raw relay, mongobetween and no proxy at all.

    bench_loadgen  --->  the contestant  --->  bench_stub      all on loopback and on this machine

Only figures of one run compare with each other: in each round every contestant has its turn at
every point, and what is printed are medians over the rounds. README.md says how to read it. The
exit status tells whether everything that is there could be measured, never what the figures were.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BUILD = Path(os.environ.get("BUILD", ROOT / "build"))
PARTS = ("cpu", "routing", "mem", "goodput")

UPSTREAMS = 16  # of weir and mongobetween; HAProxy and the relay have one per client
TLS_CLIENTS = (64, 512)
ROUTING_CLIENTS = 64
MEMBERS = {"standalone": 1, "three members": 3}
MODES = ("primary", "secondary", "nearest")  # of the finds that are routed
IDLE_CLIENTS = 4000
IDLE_SETTLE_S = 1.0
GOODPUT_CAP = 16
GOODPUT_CLIENTS = 4 * GOODPUT_CAP
SERVICE_US = 10_000  # long beside a round trip on a busy machine: 1,600 operations a second at most
READY_S = 15.0


class Failed(Exception):
    """A contestant did not start, or a measurement of it could not be made."""


# --- processes


@dataclass
class Contestant:
    """One way from the load generator to the stub. No command: straight, there is no process."""

    name: str
    command: Callable[[int, Running, int], list[str]] | None = None  # port, stub, cap
    tls: bool = False
    env: dict[str, str] = field(default_factory=dict)


@dataclass
class Running:
    name: str
    port: int
    process: subprocess.Popen | None = None
    log: Path | None = None
    tls: bool = False
    uri: str = ""  # of a stub

    def log_tail(self) -> str:
        text = self.log.read_text(errors="replace").strip() if self.log else ""
        return "\n".join(text.splitlines()[-5:])

    def check(self) -> None:
        if self.process and self.process.poll() is not None:
            status = self.process.returncode
            raise Failed(f"{self.name} ended with status {status}\n{self.log_tail()}")

    def rss_bytes(self) -> int:
        assert self.process
        for line in Path(f"/proc/{self.process.pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Rss:"):
                return int(line.split()[1]) * 1024
        raise Failed(f"no resident size of {self.name}")

    def stop(self) -> None:
        if not self.process or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def accepts(port: int) -> bool:
    with socket.socket() as s:
        s.settimeout(1)
        return s.connect_ex(("127.0.0.1", port)) == 0


class Lab:
    """The tools, the contestants that are there, and what was noted on the way."""

    def __init__(self, options: argparse.Namespace, directory: Path):
        self.options = options
        self.directory = directory
        self.notes: list[str] = []
        self.failures: list[str] = []
        self.certificate = directory / "server.pem"
        self.contestants = {c.name: c for c in self._find_contestants()}

    def note(self, text: str) -> None:
        print(f"  note: {text}", file=sys.stderr)
        self.notes.append(text)

    def fail(self, text: str) -> None:
        print(f"  FAILED: {text}", file=sys.stderr)
        self.failures.append(text)

    def tool(self, name: str) -> str:
        return str(self.options.tools / name)

    def _find_contestants(self) -> Iterable[Contestant]:
        yield Contestant("direct")
        yield Contestant("relay", self._relay)
        if haproxy := shutil.which("haproxy") or shutil.which("/usr/sbin/haproxy"):
            command = [haproxy, "-db", "-f", str(HERE / "haproxy.cfg")]
            tls = {"BENCH_PEM": str(self.certificate)}
            yield Contestant("haproxy", lambda *_: command)
            yield Contestant("haproxy tls", lambda *_: command, tls=True, env=tls)
        else:
            self.note("haproxy is not installed: nothing is compared with it")
        if self.options.weir.exists():
            yield Contestant("weir", self._weir)
            yield Contestant("weir tls", self._weir_tls, tls=True)
        else:
            self.note(f"{self.options.weir} is not there: weir is not measured")
        mongobetween = os.environ.get("MONGOBETWEEN", "")
        if mongobetween and shutil.which(mongobetween):
            yield Contestant("mongobetween", self._mongobetween)
        else:
            why = f"{mongobetween} is no program" if mongobetween else "$MONGOBETWEEN is not set"
            self.note(f"{why}: nothing is compared with mongobetween")

    def _relay(self, port: int, stub: Running, _cap: int) -> list[str]:
        return [self.tool("bench_relay"), f"--port={port}", f"--upstream-port={stub.port}"]

    def _weir(self, port: int, stub: Running, cap: int) -> list[str]:
        return [
            str(self.options.weir), stub.uri, "--port", str(port),
            "--max-connections", str(cap), "--threads", "1",
        ]

    def _weir_tls(self, port: int, stub: Running, cap: int) -> list[str]:
        tls = ["--tls-mode", "requireTLS", "--tls-certificate-key-file", str(self.certificate)]
        return self._weir(port, stub, cap) + tls

    def _mongobetween(self, port: int, stub: Running, cap: int) -> list[str]:
        uri = f"{stub.uri}?maxPoolSize={cap}"
        return [os.environ["MONGOBETWEEN"], "-loglevel", "error", f"127.0.0.1:{port}={uri}"]

    def make_certificate(self) -> None:
        key, cert = self.directory / "key.pem", self.directory / "cert.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
             "-nodes", "-days", "2", "-subj", "/CN=localhost",
             "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
             "-keyout", str(key), "-out", str(cert)],
            check=True, capture_output=True,
        )
        self.certificate.write_text(cert.read_text() + key.read_text())

    @contextlib.contextmanager
    def _process(self, name: str, argv: list[str], port: int, env: dict[str, str], tls: bool):
        log = self.directory / f"{name.replace(' ', '-')}-{port}.log"
        with log.open("w") as output:
            process = subprocess.Popen(argv, stdout=output, stderr=output, env=os.environ | env)
        running = Running(name, port, process, log, tls)
        try:
            yield running
        finally:
            running.stop()

    @contextlib.contextmanager
    def stub(self, delay_us: int = 0, members: int = 1):
        ports = [free_port() for _ in range(members)]
        argv = [self.tool("bench_stub"), *(f"--port={port}" for port in ports)]
        argv.append(f"--delay-us={delay_us}")
        with self._process("stub", argv, ports[0], {}, False) as running:
            running.uri = "mongodb://" + ",".join(f"127.0.0.1:{port}" for port in ports) + "/"
            running.uri += "?replicaSet=bench" if members > 1 else ""
            port = ports[-1]
            deadline = time.monotonic() + READY_S
            while not accepts(port):
                running.check()
                if time.monotonic() > deadline:
                    raise Failed("the stub does not listen")
                time.sleep(0.02)
            yield running

    @contextlib.contextmanager
    def running(self, contestant: Contestant, stub: Running, cap: int = UPSTREAMS):
        if not contestant.command:
            yield Running(contestant.name, stub.port)
            return
        port = free_port()
        argv = contestant.command(port, stub, cap)
        env = {"BENCH_PORT": str(port), "BENCH_UPSTREAM_PORT": str(stub.port)} | contestant.env
        with self._process(contestant.name, argv, port, env, contestant.tls) as running:
            self._wait_ready(running)
            yield running

    def _wait_ready(self, running: Running) -> None:
        deadline = time.monotonic() + READY_S
        why = "it does not listen"
        while time.monotonic() < deadline:
            running.check()
            if accepts(running.port):
                probe = self.load(running, clients=1, seconds=0.1, warmup=0)
                if probe["ops"] and not probe["errors_in_all"]:
                    return
                why = f"errors {error_text(probe)}"
            time.sleep(0.05)
        raise Failed(f"{running.name} is not ready after {READY_S} s: {why}\n{running.log_tail()}")

    def _loadgen(self, running: Running, clients: int) -> list[str]:
        argv = [self.tool("bench_loadgen"), f"--port={running.port}", f"--clients={clients}"]
        return argv + (["--tls"] if running.tls else [])

    def load(
        self, running: Running, clients: int, seconds: float, warmup: float, find: str = ""
    ) -> dict:
        """One run of the load generator: its report."""
        argv = self._loadgen(running, clients) + [f"--seconds={seconds}", f"--warmup={warmup}"]
        argv += [f"--find={find}"] if find else []
        if running.process:
            argv.append(f"--cpu-pid={running.process.pid}")
        done = subprocess.run(argv, capture_output=True, text=True)
        running.check()
        if done.returncode:
            raise Failed(f"load on {running.name}: {done.stderr.strip()}")
        return json.loads(done.stdout)

    @contextlib.contextmanager
    def idle_clients(self, running: Running, clients: int):
        argv = self._loadgen(running, clients) + ["--idle"]
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        try:
            line = process.stdout.readline()
            if not line or json.loads(line)["idle"] != clients:
                raise Failed(f"{running.name}: not all of {clients} clients came up: {line}")
            yield
        finally:
            Running("loadgen", 0, process).stop()


def error_text(report: dict) -> str:
    return ", ".join(f"{kind} {n}" for kind, n in report["errors"].items() if n)


# --- measurements: each is a list of dicts that name contestant, clients and round


def measure_cpu(lab: Lab) -> list[dict]:
    """Throughput, latency and processor time at every number of clients."""
    options = lab.options
    runs: list[dict] = []
    with contextlib.ExitStack() as stack:
        stub = stack.enter_context(lab.stub())
        running = start_all(lab, stack, stub)
        for number in range(options.rounds):
            for clients in options.clients:
                for name in turns(running, number):
                    if running[name].tls and clients not in TLS_CLIENTS:
                        continue
                    progress("cpu", number, f"{clients} clients, {name}")
                    run = one_load(lab, running, name, clients, options.seconds)
                    if run:
                        runs.append({"round": number, "contestant": name} | run)
    return runs


def start_all(lab: Lab, stack: contextlib.ExitStack, stub: Running) -> dict[str, Running]:
    running = {}
    for contestant in lab.contestants.values():
        try:
            running[contestant.name] = stack.enter_context(lab.running(contestant, stub))
        except Failed as failure:
            lab.fail(str(failure))
    return running


def turns(running: dict[str, Running], number: int) -> list[str]:
    """Everybody once; who begins changes from round to round."""
    names = list(running)
    first = number % max(1, len(names))
    return names[first:] + names[:first]


def one_load(
    lab: Lab, running: dict, name: str, clients: int, seconds: float, find: str = ""
) -> dict | None:
    try:
        report = lab.load(running[name], clients, seconds, min(0.5, seconds / 2), find)
        time.sleep(0.1)  # for connections to be gone
    except Failed as failure:
        lab.fail(f"{failure}\n{name} is left out from here on")
        running.pop(name).stop()
        return None
    if report["errors_in_all"]:
        lab.note(f"{name} with {clients} clients had errors: {error_text(report)}")
    return report


def measure_routing(lab: Lab) -> list[dict]:
    """Finds through weir, to a standalone and to a set of three, by several read preferences."""
    runs: list[dict] = []
    if "weir" not in lab.contestants:
        return runs
    with contextlib.ExitStack() as stack:
        running = {}
        for name, members in MEMBERS.items():
            stub = stack.enter_context(lab.stub(members=members))
            running[name] = stack.enter_context(lab.running(lab.contestants["weir"], stub))
        for number in range(lab.options.rounds):
            for mode in MODES:
                for name in turns(running, number):
                    progress("routing", number, f"{mode}, {name}")
                    clients, seconds = ROUTING_CLIENTS, lab.options.seconds
                    if run := one_load(lab, running, name, clients, seconds, mode):
                        runs.append({"round": number, "contestant": f"{name}, {mode}"} | run)
    return runs


def measure_memory(lab: Lab) -> list[dict]:
    """Resident memory of a fresh process before and with many clients that do nothing."""
    runs = []
    for number in range(lab.options.rounds):
        for contestant in list(lab.contestants.values()):
            if not contestant.command:
                continue
            progress("memory", number, contestant.name)
            try:
                runs.append({"round": number} | idle_memory(lab, contestant))
            except Failed as failure:
                lab.fail(str(failure))
    return runs


def idle_memory(lab: Lab, contestant: Contestant) -> dict:
    with lab.stub() as stub, lab.running(contestant, stub) as running:
        time.sleep(0.2)
        before = running.rss_bytes()
        with lab.idle_clients(running, IDLE_CLIENTS):
            time.sleep(IDLE_SETTLE_S)
            running.check()
            after = running.rss_bytes()
    return {
        "contestant": contestant.name, "clients": IDLE_CLIENTS, "rss_before_bytes": before,
        "rss_after_bytes": after, "bytes_per_client": (after - before) / IDLE_CLIENTS,
    }


def measure_goodput(lab: Lab) -> list[dict]:
    """Four times more clients than the cap, before a server that takes a constant time."""
    runs = []
    names = [n for n in ("direct", "weir", "mongobetween") if n in lab.contestants]
    for number in range(lab.options.rounds):
        for name in names:
            progress("goodput", number, name)
            try:
                runs.append({"round": number} | overload(lab, lab.contestants[name]))
            except Failed as failure:
                lab.fail(str(failure))
    return runs


def overload(lab: Lab, contestant: Contestant) -> dict:
    # Straight there is no cap: as many clients as the cap show what this machine can make of it.
    clients = GOODPUT_CLIENTS if contestant.command else GOODPUT_CAP
    capacity = GOODPUT_CAP * 1e6 / SERVICE_US
    with lab.stub(SERVICE_US) as stub:
        with lab.running(contestant, stub, GOODPUT_CAP) as running:
            report = lab.load(running, clients, lab.options.goodput_seconds, warmup=0.5)
        stub.stop()
        counts = json.loads(stub.log.read_text().splitlines()[-1])
    if report["errors_in_all"]:
        lab.note(f"{contestant.name} in overload had errors: {error_text(report)}")
    return report | {
        "contestant": contestant.name, "goodput": report["ops_per_s"] / capacity,
        "p99_by_p50": report["p99_us"] / report["p50_us"] if report["p50_us"] else None,
        "server": counts,
    }


def progress(part: str, number: int, text: str) -> None:
    print(f"  {part}, round {number + 1}: {text}", file=sys.stderr)


# --- what must be


@dataclass
class Must:
    """One line of the table of what must be: a value for each round, and how they are judged."""

    at: str
    what: str
    bound: str  # "<= 1.0"
    measured: float | None = None
    rounds: list[float] = field(default_factory=list)
    why_not: str = ""

    @property
    def verdict(self) -> str:
        if self.why_not:
            return self.why_not
        sign, limit = self.bound.split()
        assert self.measured is not None
        met = self.measured <= Fraction(limit) if sign == "<=" else self.measured >= Fraction(limit)
        return "met" if met else "NOT MET"


class Figures:
    """Looks figures up in the runs of one part."""

    def __init__(self, runs: list[dict]):
        self.runs = runs

    def at(self, contestant: str, clients: int) -> list[dict]:
        return [r for r in self.runs
                if r["contestant"] == contestant and r["clients"] == clients]

    def by_round(self, contestant: str, clients: int, key: str) -> dict[int, float]:
        return {r["round"]: r[key] for r in self.at(contestant, clients) if r.get(key) is not None}

    def median(self, contestant: str, clients: int, key: str) -> float | None:
        values = self.by_round(contestant, clients, key).values()
        return statistics.median(values) if values else None

    def total(self, contestant: str, clients: int, key: str) -> int:
        return sum(r.get(key, 0) for r in self.at(contestant, clients))

    def problem(self, contestants: Iterable[str], clients: int) -> str:
        for contestant in contestants:
            if not any(r["contestant"] == contestant for r in self.runs):
                return f"not measured: no {contestant}"
            if not self.at(contestant, clients):
                return f"not measured: {contestant} with {clients} clients"
            if errors := self.total(contestant, clients, "errors_in_all"):
                return f"not judged: {errors} errors of {contestant}"
        return ""


def ratio(cpu: Figures, clients: int, key: str, ours: str, theirs: str, must: Must) -> Must:
    must.why_not = cpu.problem((ours, theirs), clients)
    if not must.why_not:
        a, b = cpu.by_round(ours, clients, key), cpu.by_round(theirs, clients, key)
        must.rounds = [a[n] / b[n] for n in a if b.get(n)]
        if must.rounds:
            must.measured = statistics.median(must.rounds)
        else:
            must.why_not = "not measured: no round has both"
    return must


def added_latency(cpu: Figures) -> Must:
    # A small difference of two times can be nothing in one round: of this, the ratio of medians.
    must = Must("1 client", "added p50 latency / HAProxy's", "<= 1.1")
    must.why_not = cpu.problem(("direct", "weir", "haproxy"), 1)
    if must.why_not:
        return must
    direct = cpu.by_round("direct", 1, "p50_us")
    added = {
        name: {n: p50 - direct[n] for n, p50 in cpu.by_round(name, 1, "p50_us").items()
               if n in direct}
        for name in ("weir", "haproxy")
    }
    must.rounds = [added["weir"][n] / added["haproxy"][n]
                   for n in added["weir"] if added["haproxy"].get(n)]
    ours, theirs = (statistics.median(added[name].values()) for name in ("weir", "haproxy"))
    if theirs > 0:
        must.measured = ours / theirs
    else:
        must.why_not = "not judged: HAProxy added nothing measurable"
    return must


def of_weir(runs: list[dict], contestant: str, clients: int, key: str, must: Must) -> Must:
    figures = Figures(runs)
    must.why_not = figures.problem((contestant,), clients)
    if not must.why_not:
        must.rounds = list(figures.by_round(contestant, clients, key).values())
        must.measured = statistics.median(must.rounds)
    return must


def cpu_musts(runs: list[dict]) -> list[Must]:
    cpu = Figures(runs)
    per_op, rate = "cpu_us_per_op", "ops_per_s"
    musts = []

    def add(clients: int, key: str, what: str, bound: str, theirs: str, ours: str = "weir"):
        at = f"{clients} clients" + (", TLS" if ours.endswith("tls") else "")
        musts.append(ratio(cpu, clients, key, ours, theirs, Must(at, what, bound)))

    for clients in (64, 512):
        add(clients, per_op, "CPU per operation / HAProxy's", "<= 1.0", "haproxy")
        add(clients, per_op, "CPU per operation / raw relay's", "<= 1.2", "relay")
        add(clients, rate, "throughput / HAProxy's", ">= 1.0", "haproxy")
        add(clients, per_op, "CPU per operation / mongobetween's", "<= 1/7", "mongobetween")
        add(clients, rate, "throughput / mongobetween's", ">= 4", "mongobetween")
    musts.append(added_latency(cpu))
    add(64, per_op, "CPU per operation / HAProxy's with TLS", "<= 1.0", "haproxy tls", "weir tls")
    return musts


def routing_musts(runs: list[dict]) -> list[Must]:
    figures, (alone, members) = Figures(runs), MEMBERS
    return [
        ratio(figures, ROUTING_CLIENTS, "cpu_us_per_op", f"{members}, {mode}", f"{alone}, {mode}",
              Must(f"{ROUTING_CLIENTS} clients, {mode}", f"CPU per operation, {members} / {alone}",
                   "<= 1.05"))
        for mode in MODES
    ]


def memory_musts(runs: list[dict]) -> list[Must]:
    kib = [r | {"kib_per_client": r["bytes_per_client"] / 1024} for r in runs]
    at, what = f"{IDLE_CLIENTS} idle clients", "KiB resident per client"
    return [
        of_weir(kib, "weir", IDLE_CLIENTS, "kib_per_client", Must(at, f"{what}, plain", "<= 2")),
        of_weir(kib, "weir tls", IDLE_CLIENTS, "kib_per_client", Must(at, f"{what}, TLS", "<= 16")),
    ]


def goodput_musts(runs: list[dict]) -> list[Must]:
    flat = [r | {"in_service_max": r["server"]["in_service_max"]} for r in runs]
    at = f"{GOODPUT_CLIENTS} clients, cap {GOODPUT_CAP}"
    rows = [
        ("goodput", Must(at, "goodput / the cap's capacity", ">= 0.97")),
        ("p99_by_p50", Must(at, "p99 / p50 of those served", "<= 3")),
        ("in_service_max", Must(at, "most operations at once at the server", f"<= {GOODPUT_CAP}")),
    ]
    musts = [of_weir(flat, "weir", GOODPUT_CLIENTS, key, must) for key, must in rows]
    if musts[-1].rounds:
        musts[-1].measured = max(musts[-1].rounds)  # a cap that holds in the median does not hold
    return musts


# --- what is printed


def print_table(title: str, head: list[str], rows: list[list[str]], left: tuple = (0, 1)) -> None:
    widths = [max(len(r[i]) for r in [head, *rows]) for i in range(len(head))]
    print(f"\n{title}\n")
    for row in [head, ["-" * w for w in widths], *rows]:
        cells = [f"{c:<{w}}" if i in left else f"{c:>{w}}"
                 for i, (c, w) in enumerate(zip(row, widths))]
        print("  " + "  ".join(cells).rstrip())


def number(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


CPU_HEAD = ["ops/s", "CPU us/op", "p50 us", "p99 us", "p99.9 us", "shed", "errors"]


def print_cpu(runs: list[dict], options: argparse.Namespace) -> None:
    cpu = Figures(runs)
    names = list(dict.fromkeys(r["contestant"] for r in runs))
    names.sort(key=lambda n: n.endswith("tls"))
    rows = []
    for tls in (False, True):
        for clients in options.clients:
            for name in names:
                if name.endswith("tls") == tls and cpu.at(name, clients):
                    rows.append(cpu_row(cpu, name, clients))
    print_table(
        f"Closed loop of ping, medians of {options.rounds} rounds of {options.seconds:g} s. "
        f"Upstreams: weir and mongobetween {UPSTREAMS}, HAProxy and the relay one per client.",
        ["clients", "through", *CPU_HEAD], rows,
    )
    ciphers = sorted({f"{r['contestant']}: {r['tls']}" for r in runs if r["tls"]})
    if ciphers:
        print("\n  " + "; ".join(ciphers))


def cpu_row(cpu: Figures, name: str, clients: int) -> list[str]:
    return [
        str(clients), name,
        number(cpu.median(name, clients, "ops_per_s"), 0),
        number(cpu.median(name, clients, "cpu_us_per_op"), 2),
        *(number(cpu.median(name, clients, key)) for key in ("p50_us", "p99_us", "p999_us")),
        str(cpu.total(name, clients, "shed")), str(cpu.total(name, clients, "errors_in_all")),
    ]


def print_routing(runs: list[dict], options: argparse.Namespace) -> None:
    figures = Figures(runs)
    names = [f"{name}, {mode}" for mode in MODES for name in MEMBERS]
    rows = [cpu_row(figures, name, ROUTING_CLIENTS) for name in names]
    print_table(
        f"Closed loop of find through weir, by the deployment behind it and the read preference; "
        f"medians of {options.rounds} rounds of {options.seconds:g} s, {UPSTREAMS} upstreams to a "
        "server.",
        ["clients", "to", *CPU_HEAD], rows,
    )


def print_memory(runs: list[dict], options: argparse.Namespace) -> None:
    figures = Figures(runs)
    rows = []
    for name in dict.fromkeys(r["contestant"] for r in runs):
        median = {key: figures.median(name, IDLE_CLIENTS, key)
                  for key in ("rss_before_bytes", "rss_after_bytes", "bytes_per_client")}
        rows.append([str(IDLE_CLIENTS), name, *(number(v / 1024, d) for v, d in
                                                zip(median.values(), (0, 0, 2)))])
    print_table(
        f"Resident memory with idle clients, medians of {options.rounds} fresh processes",
        ["clients", "through", "KiB before", "KiB with them", "KiB per client"],
        rows,
    )


def print_goodput(runs: list[dict], options: argparse.Namespace) -> None:
    figures = Figures(runs)
    rows = []
    for name, clients in dict.fromkeys((r["contestant"], r["clients"]) for r in runs):
        here = figures.at(name, clients)
        at_once = max(r["server"]["in_service_max"] for r in here)
        rows.append([
            str(clients), name,
            *(number(figures.median(name, clients, key), digits) for key, digits in
              (("ops_per_s", 0), ("goodput", 3), ("p50_us", 0), ("p99_us", 0),
               ("p99_by_p50", 2))),
            str(figures.total(name, clients, "shed")),
            str(figures.total(name, clients, "errors_in_all")), str(at_once),
            number(statistics.median(r["server"]["service_mean_us"] for r in here), 0),
        ])
    print_table(
        f"Overload: {GOODPUT_CLIENTS} clients, a cap of {GOODPUT_CAP}, {SERVICE_US / 1000:g} ms an "
        f"operation; medians of {options.rounds} rounds of {options.goodput_seconds:g} s.\n"
        f"Straight, {GOODPUT_CAP} clients: the most that {GOODPUT_CAP} connections carry here.",
        ["clients", "through", "ops/s", "of capacity", "p50 us", "p99 us", "p99/p50", "shed",
         "errors", "most at once", "served in us"],
        rows,
    )


def print_musts(musts: list[Must]) -> None:
    rows = []
    for m in musts:
        spread = f"{min(m.rounds):.3f} .. {max(m.rounds):.3f}" if m.rounds else ""
        measured = number(m.measured, 3) if not m.why_not else "-"
        rows.append([m.at, m.what, m.bound, measured, spread, m.verdict])
    print_table("What must be (the median of the rounds; then the least and the greatest of them)",
                ["at", "weir's", "must be", "measured", "rounds", "verdict"], rows, (0, 1, 5))


# --- the whole


def machine() -> dict:
    cpuinfo = Path("/proc/cpuinfo").read_text()
    models = [line.split(":", 1)[1].strip() for line in cpuinfo.splitlines()
              if line.startswith("model name")]
    return {
        "cores": os.cpu_count(), "cpu": models[0] if models else platform.machine(),
        "kernel": platform.release(), "load_before": os.getloadavg()[0],
    }


def raise_file_limit(lab: Lab) -> None:
    need = 4 * max([IDLE_CLIENTS, *lab.options.clients])
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    want = max(hard, need)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (want, want))
    except (ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        lab.note(f"only {hard} open files are allowed, {need} are wanted: 4000 clients may fail")


def comma_list(convert: Callable) -> Callable[[str], list]:
    return lambda text: [convert(part) for part in text.split(",")]


def part_name(text: str) -> str:
    if text not in PARTS:
        raise argparse.ArgumentTypeError(f"{text} is none of {', '.join(PARTS)}")
    return text


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--weir", type=Path, default=BUILD / "weir", help="the binary (build/weir)")
    add("--tools", type=Path, default=BUILD / "tests/bench",
        help="where bench_stub, bench_loadgen and bench_relay are (build/tests/bench)")
    add("--json", type=Path, default=BUILD / "bench.json", help="written (build/bench.json)")
    add("--rounds", type=int, default=5, help="of everything (5)")
    add("--seconds", type=float, default=2, help="per point of cpu (2)")
    add("--goodput-seconds", type=float, default=10, help="per run of goodput (10)")
    add("--clients", type=comma_list(int), default=[1, 16, 64, 512, 4000],
        help="numbers of clients, for cpu (1,16,64,512,4000)")
    add("--only", type=comma_list(part_name), default=list(PARTS),
        help=f"some of {','.join(PARTS)} (all)")
    return parser.parse_args()


def run(lab: Lab) -> dict:
    options = lab.options
    result: dict = {"machine": machine(), "must": []}
    parts = (
        ("cpu", measure_cpu, print_cpu, cpu_musts),
        ("routing", measure_routing, print_routing, routing_musts),
        ("mem", measure_memory, print_memory, memory_musts),
        ("goodput", measure_goodput, print_goodput, goodput_musts),
    )
    printers = []
    musts: list[Must] = []
    for part, measure, show, must in parts:
        if part in options.only:
            runs = result[part] = measure(lab)
            printers.append((show, runs))
            musts += must(runs)
    result["machine"]["load_after"] = os.getloadavg()[0]
    m = result["machine"]
    print(f"\n{m['cores']} cores of {m['cpu']}, kernel {m['kernel']}; "
          f"load before {m['load_before']:.2f}, after {m['load_after']:.2f}")
    for show, runs in printers:
        show(runs, options)
    print_musts(musts)
    result["must"] = [vars(m) | {"verdict": m.verdict} for m in musts]
    return result


def main() -> int:
    options = read_options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    missing = [n for n in ("bench_stub", "bench_loadgen", "bench_relay")
               if not (options.tools / n).exists()]
    if missing:
        print(f"bench.py: {', '.join(missing)} not in {options.tools}: build them first",
              file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="weir-bench-") as directory:
        lab = Lab(options, Path(directory))
        raise_file_limit(lab)
        lab.make_certificate()
        if options.rounds < 5:
            lab.note(f"{options.rounds} rounds: too few to judge by, 5 are the least")
        result = run(lab)
    result |= {"notes": lab.notes, "failures": lab.failures,
               "options": {k: str(v) for k, v in vars(options).items()}}
    for text in [*lab.notes, *(f"FAILED: {f}" for f in lab.failures)]:
        print(f"\n  {text}")
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(result, indent=1) + "\n")
    print(f"\nAll runs: {options.json}")
    return 1 if lab.failures else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
