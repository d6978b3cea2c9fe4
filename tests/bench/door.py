#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What an app that is there feels while thousands of connections come at once, plain and TLS.

    one client: a ping every 10 ms    ---->  weir  ---->  a stub of a server
    5,000 at once: TCP, TLS, hello    ---->

Prints the times of the client's operations before and during the storm, beside those of a client
that asks the stub directly meanwhile, and how long it took until all were greeted. All of it runs on
this machine, where the storm's own half of each handshake takes as much of the processor as weir's:
it runs at the lowest priority, and the direct client shows what the machine itself does to anybody. The exit status tells whether it
could be measured, never what the figures were.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / name) for name in ("servers", "drivers")]

import raw  # noqa: E402
import servers  # noqa: E402
import weir  # noqa: E402
from bench import print_table  # noqa: E402

TOOLS = Path(os.environ.get("BENCH_TOOLS") or servers.BUILD / "tests/bench")
CALM_S = 3.0
PACE_S = 0.01


@contextmanager
def stub():
    """A server that answers at once; its port."""
    port = servers.free_port()
    process = subprocess.Popen([TOOLS / "bench_stub", f"--port={port}"], stdout=subprocess.DEVNULL)
    try:
        yield port
    finally:
        process.terminate()
        process.wait()


def storm(port: int, clients: int, tls: bool) -> subprocess.Popen:
    """Connections that come at once and stay until its standard input is closed."""
    argv = [TOOLS / "bench_storm", f"--port={port}", f"--clients={clients}"]
    argv += ["--tls"] if tls else []
    return subprocess.Popen(["nice", "-n", "19", *argv], stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE, text=True)  # fmt: skip


class Client:
    """Pings every PACE_S, or as often as it is answered; `take` is what came since the last."""

    def __init__(self, address: tuple[str, int]):
        self._connection = raw.Connection.to(address)
        self._connection.hello()
        self._times_ms: list[float] = []
        self._ended = False
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended:
            before = time.perf_counter()
            assert self._connection.ask({"ping": 1})["ok"] == 1
            took = time.perf_counter() - before
            self._times_ms.append(took * 1000)
            time.sleep(max(0.0, PACE_S - took))

    def take(self) -> list[float]:
        times, self._times_ms = self._times_ms, []
        return times

    def end(self) -> None:
        self._ended = True
        self._thread.join()


def one_run(clients: int, tls: bool) -> list[str]:
    with stub() as port, weir.Weir(f"mongodb://127.0.0.1:{port}/", tls=tls) as proxy:
        client, direct = Client(proxy.address), Client(("127.0.0.1", port))
        time.sleep(CALM_S)
        before, _ = client.take(), direct.take()
        guests = storm(proxy.port, clients, tls)
        told = json.loads(guests.stdout.readline())
        during, directly = client.take(), direct.take()
        guests.communicate()
        client.end()
        direct.end()
    if told["failed"]:
        raise SystemExit(f"{told['failed']} of {clients} were not served")
    times = [f"{q:.2f}" for times in (before, during, directly) for q in quantiles(times)]
    return ["TLS" if tls else "plain", *times, f"{told['seconds']:.1f}"]


def quantiles(times_ms: list[float]) -> tuple[float, float, float]:
    cuts = statistics.quantiles(times_ms, n=100)
    return cuts[49], cuts[98], max(times_ms)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    rows = [one_run(options.clients, tls) for tls in (False, True) for _ in range(options.rounds)]
    head = ["", "p50 before, ms", "p99", "max", "p50 during", "p99", "max", "p50 directly", "p99",
            "max", "all greeted, s"]  # fmt: skip
    print_table(f"{options.clients} connections at once", head, rows, left=(0,))


if __name__ == "__main__":
    main()
