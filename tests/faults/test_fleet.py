# SPDX-License-Identifier: Apache-2.0
"""Several weirs under one cap, with a real Redis that fails, before a stub that counts connections."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import pytest
import raw
from stub_server import StubServer
from weir import Weir

pytestmark = pytest.mark.skipif(not shutil.which("redis-server"), reason="no redis-server here")

CAP, FLOOR, INSTANCES = 24, 1, 6
HANG_S = 60
HOLD_S = 0.02


class Redis:
    def __init__(self, directory: Path) -> None:
        self.path = directory / "redis.sock"
        self._directory = directory
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            ["redis-server", "--port", "0", "--unixsocket", self.path, "--save", "", "--dir",
             self._directory], stdout=subprocess.DEVNULL,
        )  # fmt: skip

    def end(self) -> None:
        self.process.kill()
        self.process.wait()

    def do(self, command: str) -> None:
        with socket.socket(socket.AF_UNIX) as stream:
            stream.connect(str(self.path))
            stream.sendall(command.encode() + b"\r\n")
            assert stream.recv(100).startswith(b"+OK")


@contextlib.contextmanager
def redis():
    with tempfile.TemporaryDirectory(prefix="weir-") as directory:
        server = Redis(Path(directory))
        try:
            yield server
        finally:
            server.end()


class App(threading.Thread):
    """Asks on one connection, as fast as it is answered, until it is ended or its weir is."""

    def __init__(self, address: tuple[str, int], ending: threading.Event) -> None:
        super().__init__(daemon=True)
        self._address, self._ending = address, ending
        self.start()

    def run(self) -> None:
        with contextlib.suppress(OSError, AssertionError), raw.Connection.to(self._address) as it:
            it.hello()
            while not self._ending.is_set():
                it.ask({"ping": 1, "comment": "x"})


def slow(asked) -> None:
    time.sleep(HOLD_S)
    asked.connection.send(asked.fine())


def wait_until(condition, what: str) -> None:
    until = time.monotonic() + HANG_S
    while not condition():
        assert time.monotonic() < until, what
        time.sleep(0.01)


def start(stub, store, cap: int = CAP) -> Weir:
    return Weir(
        stub.uri, "--fleet-redis", str(store.path), "--fleet-cap", str(cap), "--fleet-floor",
        str(FLOOR), "--fleet-instances", str(INSTANCES), "--fleet-lease", "4s", "--limit", "fixed",
        "--control-socket", "disabled", cap=100,
    )  # fmt: skip


def open_at(stub) -> int:
    return len(stub._upstreams)


def test_cap_holds_whatever_becomes_of_the_store_and_of_one(record_property):
    with contextlib.ExitStack() as stack:
        stub = stack.enter_context(StubServer())
        stub.script = slow
        store = stack.enter_context(redis())
        weirs = [stack.enter_context(start(stub, store)) for _ in range(INSTANCES - 1)]
        frozen = start(stub, store)
        ending = threading.Event()
        stack.callback(ending.set)
        for proxy in [*weirs[:2], frozen]:
            for _ in range(CAP):
                App(proxy.address, ending)
        full = CAP - (INSTANCES - 3) * FLOOR  # three have nothing to do
        wait_until(lambda: open_at(stub) >= full, "the cap is used")

        store.do("FLUSHALL")
        os.kill(frozen.pid, signal.SIGSTOP)
        wait_until(lambda: frozen._child.poll() is not None, "its kernel ends who is frozen")
        assert frozen._child.returncode == -signal.SIGKILL
        wait_until(lambda: open_at(stub) >= full - FLOOR, "what it had is the others'")

        store.end()
        wait_until(lambda: open_at(stub) <= 2 * FLOOR, "all are down to their floors")
        store.start()
        wait_until(lambda: open_at(stub) >= full - FLOOR, "they have leases again")

        os.kill(store.process.pid, signal.SIGSTOP)
        wait_until(lambda: open_at(stub) <= 2 * FLOOR, "as if it were gone")
        os.kill(store.process.pid, signal.SIGCONT)
        wait_until(lambda: open_at(stub) >= full - FLOOR, "and again")
        ending.set()
        record_property("most", stub.most_upstreams)
        assert stub.most_upstreams <= CAP


def test_who_goes_by_other_terms_gets_nothing():
    with StubServer() as stub, redis() as store, start(stub, store) as first:
        first.wait_for("fleet_store_found")
        with start(stub, store, cap=CAP + 6) as other:
            other.wait_for("fleet_refused")
