# SPDX-License-Identifier: Apache-2.0
"""Runs the weir binary before a server, for tests and for the story.

    with servers.start() as server, weir.Weir(server.uri, cap=4, tls=True) as proxy:
        pymongo.MongoClient(proxy.tls_uri)
        proxy.wait_for("exhaustion_begin", 2.0)

The binary is $WEIR, else `weir` in the build directory.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import quote, quote_plus

import servers

START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 60

# What a weir is started with unless its arguments say otherwise (tests/conftest.py).
usual: dict[str, str] = {}

# Fields of event=state that are 0 when nothing is under way.
HELD = (
    "requests", "queued", "in_flight", "waiting_for_upstream", "upstreams_opening", "pins",
    "buffered_bytes",
)  # fmt: skip

FIELD = re.compile(r'([^\s="]+)=("(?:[^"\\]|\\.)*"|\S*)')


def default_binary() -> Path:
    return Path(os.environ.get("WEIR") or servers.BUILD / "weir").resolve()


def parse_line(line: str) -> dict[str, str]:
    """One line of the log, logfmt or JSON, as fields; empty for anything else."""
    try:
        if line.startswith("{"):
            fields = json.loads(line)
        else:
            fields = {key: _plain(value) for key, value in FIELD.findall(line)}
    except ValueError:
        return {}
    return fields if "event" in fields else {}


def _plain(value: str) -> str:
    return json.loads(value) if value.startswith('"') else value


class Adopted:
    """A process that a child of ours has started, as far as we need it to be like a Popen: with the
    end of its parent it is our child, as nearest subreaper."""

    def __init__(self, pid: int):
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            with contextlib.suppress(ChildProcessError):  # it has its parent yet
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self, timeout: float = STOP_TIMEOUT_S) -> int:
        deadline = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("weir", timeout)
            time.sleep(0.01)
        return self.returncode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def adopt_orphans() -> None:
    """What our children leave behind when they end is ours from now on."""
    PR_SET_CHILD_SUBREAPER = 36
    assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0


class Weir:
    """A running weir. Takes the deployment's URI and, verbatim, further arguments for weir.

    cap: --max-connections. tls: TLS and plain on the one port (another mode: name it in the
    arguments). unix: a Unix socket too. host: the address to listen on. port: a free one unless
    said. env: more environment.
    file: its configuration, in the place of all these; port is the one that it says.
    log: a file that it logs to, as it may be in production, instead of a pipe to us.
    echo: passes the log on to our own standard error; can be set at any time.

    `lines` is all it said, `events` the same as fields where a line is an event. On leaving a
    `with` block that raised nothing, an exit status other than 0 is an AssertionError: that is
    also how a sanitizer's report at the end comes to light.
    """

    def __init__(
        self,
        uri: str,
        *arguments: str,
        cap: int = 4,
        tls: bool = False,
        unix: bool = False,
        host: str = "127.0.0.1",
        port: int | None = None,
        binary: str | Path | None = None,
        env: dict[str, str] | None = None,
        file: Path | None = None,
        log: Path | None = None,
        echo: bool = False,
    ):
        self.host = host
        self.port = port or servers.free_port()
        self.certs = servers.certificates() if tls else None
        self._directory = tempfile.TemporaryDirectory(prefix="weir-") if unix else None
        self.socket_path = Path(self._directory.name) / "weir.sock" if unix else None
        self.lines: list[str] = []
        self.events: list[dict[str, str]] = []
        self.echo = echo
        self._changed = threading.Condition()
        self._binary = binary or default_binary()
        said = ["--config", str(file)] if file else [uri, *self._arguments(cap), *arguments]
        if not file:
            said += [word for flag in usual if flag not in arguments for word in (flag, usual[flag])]
        self._child = subprocess.Popen(
            [str(self._binary), *said],
            stdin=subprocess.DEVNULL, stderr=open(log, "ab") if log else subprocess.PIPE,
            env={**os.environ, **(env or {})}, start_new_session=True,
        )  # fmt: skip
        self._log = log
        atexit.register(self.stop)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            self.wait_for("ready", START_TIMEOUT_S)
        except BaseException:
            self.stop()
            raise

    def _arguments(self, cap: int) -> list[str]:
        arguments = ["--max-connections", str(cap), "--bind-ip", self.host]
        arguments += ["--port", str(self.port)]
        if self.socket_path:
            arguments += ["--unix-socket", str(self.socket_path)]
        if self.certs:
            arguments += ["--tls-mode", "preferTLS"]
            arguments += ["--tls-certificate-key-file", str(self.certs / "server.pem")]
        return arguments

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def address(self) -> tuple[str, int]:
        return self.host, self.port

    @property
    def uri(self) -> str:
        return f"mongodb://{self.host}:{self.port}/"

    @property
    def tls_uri(self) -> str:
        return f"mongodb://localhost:{self.port}/?tls=true&tlsCAFile={quote(self._ca())}"

    @property
    def unix_uri(self) -> str:
        return f"mongodb://{quote_plus(str(self.socket_path))}/"

    def _ca(self) -> str:
        return str(self.certs / "ca.pem")

    def _lines(self):
        """What it says, as it comes. A line of a file that is not ended yet is waited for."""
        if not self._log:
            for line in self._child.stderr:
                yield line.decode(errors="replace")
            return
        line = b""
        with open(self._log, "rb") as log:
            while (piece := log.readline()) or self.is_running():
                line += piece
                if line.endswith(b"\n"):
                    yield line.decode(errors="replace")
                    line = b""
                elif not piece:
                    time.sleep(0.02)

    def _read(self) -> None:
        for line in self._lines():
            if self.echo:
                sys.stderr.write(line)
            with self._changed:
                self.lines.append(line.rstrip("\n"))
                event = parse_line(line)
                if event:
                    self.events.append(event)
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    def wait_for(self, event: str, timeout: float = servers.HANG_S, **fields: str) -> dict[str, str]:
        """The first such event, also one that is past already; AssertionError if none comes."""
        deadline = time.monotonic() + timeout
        seen = 0
        with self._changed:
            while True:
                for one in self.events[seen:]:
                    if one["event"] == event and fields.items() <= one.items():
                        return one
                seen = len(self.events)
                left = deadline - time.monotonic()
                if left <= 0 or not self._reader.is_alive():
                    break
                self._changed.wait(min(left, 0.2))
        status = self._child.poll()
        state = "runs on" if status is None else f"ended with status {status}"
        raise AssertionError(f"weir logged no {event} {fields or ''} and {state}{self.tail()}")

    def count(self, event: str) -> int:
        """How many such events there were until now."""
        return sum(one["event"] == event for one in list(self.events))

    def state(self) -> dict[str, int]:
        """What weir holds just now, as it logs it when asked by SIGUSR1."""
        before = self.count("state")
        self._child.send_signal(signal.SIGUSR1)
        with self._changed:
            asked = self._changed.wait_for(lambda: self.count("state") > before, servers.HANG_S)
        assert asked, f"weir logged no state{self.tail()}"
        state = [one for one in list(self.events) if one["event"] == "state"][-1]
        return {key: int(value) for key, value in state.items() if value.isdecimal()}

    def ctl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Asks it by `weir ctl`."""
        command = [str(self._binary), "ctl", "--port", str(self.port), *arguments]
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=servers.HANG_S
        )

    def order(self, *arguments: str) -> dict:
        """The same for what must succeed: the answer."""
        done = self.ctl("--json", *arguments)
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}{self.tail()}"
        return json.loads(done.stdout)

    def upgrade(self, *arguments: str) -> subprocess.Popen | Adopted:
        """Has another process take over, which is the one that this is about from then on. Returns
        the former, which drains."""
        adopt_orphans()
        before = self.count("took_over")
        former = self._child
        done = self.ctl("upgrade", *arguments)
        assert done.returncode == 0, f"{done}{self.tail()}"
        with self._changed:
            self._changed.wait_for(lambda: self.count("took_over") > before, START_TIMEOUT_S)
        assert self.count("took_over") > before, f"{done}{self.tail()}"
        self._child = Adopted(int(self.last("replaced")["pid"]))
        return former

    def last(self, event: str) -> dict[str, str]:
        return [one for one in list(self.events) if one["event"] == event][-1]

    def wait_until_at_rest(self, timeout: float = servers.HANG_S, clients: int = 0) -> dict[str, int]:
        """Until nothing is held for anybody, but for so many connections of clients at most."""
        deadline = time.monotonic() + timeout
        while True:
            state = self.state()
            held = {key: state[key] for key in HELD}
            held["upstreams in use"] = state["upstreams_open"] - state["upstreams_idle"]
            held["clients too many"] = max(0, state["clients"] - clients)
            if not any(held.values()):
                return state
            if time.monotonic() > deadline:
                kernels = servers.established_at(self.port)
                raise AssertionError(f"not at rest: {held}, connections {kernels}{self.tail()}")
            time.sleep(0.05)

    def tail(self) -> str:
        return "; its last lines:\n  " + "\n  ".join(self.lines[-20:] or ["(none)"])

    def is_running(self) -> bool:
        return self._child.poll() is None

    def stop(self) -> int:
        """Sends SIGINT, waits, and returns the exit status; negative for a signal's number. (After
        SIGTERM it would wait for its clients.)"""
        if self.is_running():
            self._child.send_signal(signal.SIGINT)
            try:
                self._child.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()
        self._reader.join(STOP_TIMEOUT_S)
        if self._directory:
            self._directory.cleanup()
        atexit.unregister(self.stop)
        return self._child.returncode

    def __enter__(self) -> Weir:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        status = self.stop()
        if kind is not None:
            print("weir", self.tail().lstrip("; "))  # pytest shows it beside what failed
        assert kind is not None or status == 0, f"weir ended with status {status}{self.tail()}"
