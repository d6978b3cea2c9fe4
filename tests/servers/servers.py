# SPDX-License-Identifier: Apache-2.0
"""Starts a real server: for the tests, the benchmarks and the story.

    with servers.start() as server:              # whichever comes first of those below
        pymongo.MongoClient(server.uri)

    kind       what it is                                          taken by start() if
    external   what $MONGODB_URI names; never started or stopped   the variable is set
    mongod     `mongod` on PATH, a replica set of one              it is there
    secantus   SecantusDB, a replica set of one                    neither is
    ferretdb   FerretDB with SQLite files, a standalone            asked for by name only

Each listens on a free port of 127.0.0.1, keeps its data in a temporary directory and is gone after
stop(). `server.features` says what it can do, so that a test skips what it lacks and says why.
"""

from __future__ import annotations

import atexit
import base64
import contextlib
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote_plus

import pymongo
from pymongo.errors import ConfigurationError, PyMongoError

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("BUILD") or ROOT / "build").resolve()

USER = "weir"
PASSWORD = "p@ss:w/rd%"  # every character that a URI has to escape

KINDS = ("external", "mongod", "secantus", "ferretdb")

#   free_cursors               a cursor outlives the connection that opened it
#   unacknowledged_writes      a write with w:0 gets no reply
#   server_status_connections  serverStatus tells how many connections there are
SECANTUS = frozenset(
    "change_streams exhaust explain failpoints free_cursors max_time_ms replica_set"
    " retryable_writes scram server_status_connections tls transactions"
    " unacknowledged_writes".split()
)
MONGOD = SECANTUS | {"compression", "current_op", "kill_op"}
FERRETDB = frozenset({"max_time_ms", "tls"})
NEEDS_REPLICA_SET = {"change_streams", "replica_set", "retryable_writes", "transactions"}

SET_NAMES = {"mongod": "weir", "secantus": "secantus"}
START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 15
HANG_S = 60  # of what has no reason to take long: only a hang lasts longer, whatever else runs here
GO_NEEDED = (1, 24)


class Unavailable(Exception):
    """This server cannot run here, or not in the way asked for; the message says why."""


class Server:
    """A running server. `uri` is what an app (or weir) is given to reach it."""

    def __init__(self, kind: str, uri: str, host: str, port: int, features: frozenset[str]):
        self.kind = kind
        self.uri = uri
        self.host = host
        self.port = port
        self.features = features
        self._process: _Process | None = None
        self._way: _Way | None = None
        self._observer: pymongo.MongoClient | None = None

    @property
    def address(self) -> tuple[str, int]:
        return self.host, self.port

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<{self.kind} at {self.host}:{self.port}>"

    @contextlib.contextmanager
    def failing(self, commands: list[str], mode: str | dict, **how: object):
        """Within, a failpoint: `how` is what the failCommand does to such commands."""
        admin = self.client().admin
        data = {"failCommands": commands, **how}
        admin.command("configureFailPoint", "failCommand", mode=mode, data=data)
        try:
            yield
        finally:
            admin.command("configureFailPoint", "failCommand", mode="off")

    def client(self) -> pymongo.MongoClient:
        """One client straight to the server, shared by all who look at it; closed by stop()."""
        if self._observer is None:
            self._observer = pymongo.MongoClient(self.uri, appname="observer", maxPoolSize=1)
        return self._observer

    def connections(self) -> int:
        """How many connections the server has now, as it says itself where it can, else by the
        kernel's table. Includes everybody's: also those of the client that asks here (2 or 3)."""
        if "server_status_connections" in self.features:
            return self.client().admin.command("serverStatus")["connections"]["current"]
        return established_at(self.port)

    def kill(self) -> None:
        """As a crash: SIGKILL. restart() brings it back."""
        self._process.signal(signal.SIGKILL)
        self._process.wait()

    def pause(self) -> None:
        """It does nothing any more (SIGSTOP); the kernel goes on to take in what it is sent."""
        self._process.signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._process.signal(signal.SIGCONT)

    def restart(self) -> None:
        """Starts it again after kill(), at the same port, with the data that is there."""
        _run(self, self._process, self._way)

    def stop(self) -> None:
        """Ends the server, unless it was there before us. A second call does nothing."""
        if self._observer is not None:
            self._observer.close()
            self._observer = None
        if self._process is not None:
            self._process.stop()
            self._process = None


class _Process:
    """A server's process, its temporary directory, and in there a file with all it said."""

    def __init__(self, directory: Path):
        self.directory = directory
        self._log = directory / "output"
        self._child: subprocess.Popen | None = None
        atexit.register(self.stop)

    def run(self, arguments: list[str]) -> None:
        with open(self._log, "ab") as log:
            # A session of its own: Ctrl-C at the terminal is for us, and we stop it in good order.
            self._child = subprocess.Popen(
                arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.directory,
                start_new_session=True,
            )  # fmt: skip

    def check(self) -> None:
        status = self._child.poll()
        if status is not None:
            raise Unavailable(f"{self._child.args[0]} ended with status {status}{self.output()}")

    def output(self) -> str:
        lines = self._log.read_text(errors="replace").splitlines()[-20:]
        return "; its last output:\n  " + "\n  ".join(lines) if lines else " and said nothing"

    def signal(self, number: int) -> None:
        os.killpg(self._child.pid, number)

    def wait(self) -> None:
        self._child.wait(STOP_TIMEOUT_S)

    def end(self) -> None:
        """Ends the process and leaves the directory."""
        if self._child is not None and self._child.poll() is None:
            self._child.send_signal(signal.SIGTERM)
            self._child.send_signal(signal.SIGCONT)  # in case it is paused
            try:
                self._child.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()

    def stop(self) -> None:
        self.end()
        shutil.rmtree(self.directory, ignore_errors=True)
        atexit.unregister(self.stop)


def start(
    kind: str | None = None,
    *,
    tls: bool | Path = False,
    auth: bool = False,
    standalone: bool = False,
    durable: bool = False,
) -> Server:
    """Starts a server and returns when it answers and takes writes.

    tls: it speaks TLS, with a certificate of certificates() or the one in the directory named.
    auth: it demands USER and PASSWORD, by SCRAM. standalone: it is no replica set. durable: what it
    acknowledged survives its being killed, which SecantusDB otherwise promises for single writes
    with j:true only. Raises Unavailable, with the reason.
    """
    kind = kind or default_kind()
    reason = why_not(kind, tls=tls, auth=auth, standalone=standalone)
    if reason:
        raise Unavailable(f"{kind}: {reason}")
    if kind == "external":
        return _external(os.environ["MONGODB_URI"])
    return _start(kind, tls, auth, standalone or kind == "ferretdb", durable)


def default_kind() -> str:
    return next(kind for kind in KINDS if kind == "secantus" or not why_not(kind))


def available() -> list[str]:
    """The kinds that can run here; why_not() says why another cannot."""
    return [kind for kind in KINDS if not why_not(kind)]


def why_not(
    kind: str, *, tls: bool = False, auth: bool = False, standalone: bool = False
) -> str | None:
    """Why start() with these arguments cannot work here; None if it can."""
    if kind not in KINDS:
        return f"no such kind; there are {', '.join(KINDS)}"
    if kind == "external":
        if not os.environ.get("MONGODB_URI"):
            return "$MONGODB_URI is not set"
        asked = tls or auth or standalone
        return "the server of $MONGODB_URI runs the way it runs" if asked else None
    if kind == "mongod":
        return None if shutil.which("mongod") else "no mongod on PATH"
    if kind == "secantus":
        missing = f"SecantusDB is neither in this Python nor in {BUILD / 'venv'}"
        return None if _secantus_program() else missing
    if auth:
        return "has no authentication when embedded"
    return None if _ferretdb_program().exists() else _why_no_go()


def certificates(directory: Path = BUILD / "certs") -> Path:
    """The directory of the development certificates, made if they are not there."""
    subprocess.run([ROOT / "certs" / "make.sh", directory], check=True)
    return directory


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass
class _Way:
    """How one is to be started."""

    kind: str
    port: int
    data: Path
    certs: Path | None
    auth: bool
    standalone: bool
    durable: bool


def _start(kind: str, tls: bool | Path, auth: bool, standalone: bool, durable: bool) -> Server:
    process = _Process(Path(tempfile.mkdtemp(prefix=f"weir-{kind}-")))
    try:
        data = process.directory / "data"
        data.mkdir()
        certs = certificates() if tls is True else tls or None
        way = _Way(kind, free_port(), data, certs, False, standalone, durable)
        server = _launch(process, way)
        if auth:
            server.client().admin.command("createUser", USER, pwd=PASSWORD, roles=["root"])
            server.client().close()
            process.end()
            way.auth = True
            server = _launch(process, way)
        return server
    except BaseException:
        process.stop()
        raise


def _launch(process: _Process, way: _Way) -> Server:
    features = {"mongod": MONGOD, "secantus": SECANTUS, "ferretdb": FERRETDB}[way.kind]
    if way.standalone:
        features = features - NEEDS_REPLICA_SET
    server = Server(way.kind, _uri(way), "127.0.0.1", way.port, features)
    server._process, server._way = process, way
    _run(server, process, way)
    return server


def _run(server: Server, process: _Process, way: _Way) -> None:
    process.run(ARGUMENTS[way.kind](way))
    _wait_until_writable(server, initiate=way.kind == "mongod" and not way.standalone)


def _secantus_arguments(way: _Way) -> list[str]:
    arguments = [
        str(_secantus_program()), "--host", "127.0.0.1", "--port", str(way.port),
        "--storage-path", str(way.data), "--enable-test-commands",
    ]  # fmt: skip
    if way.certs:
        pem = str(way.certs / "server.pem")
        arguments += ["--tls-cert-file", pem, "--tls-key-file", pem]
    if way.auth:
        arguments.append("--auth")
    if way.standalone:
        arguments.append("--standalone")
    if way.durable:
        arguments.append("--sync-on-commit")
    return arguments


def _mongod_arguments(way: _Way) -> list[str]:
    arguments = [
        "mongod", "--bind_ip", "127.0.0.1", "--port", str(way.port), "--dbpath", str(way.data),
        "--nounixsocket", "--setParameter", "enableTestCommands=1",
    ]  # fmt: skip
    if not way.standalone:
        arguments += ["--replSet", SET_NAMES["mongod"]]
    if way.certs:
        arguments += ["--tlsMode", "allowTLS", "--tlsAllowConnectionsWithoutCertificates"]
        arguments += ["--tlsCertificateKeyFile", str(way.certs / "server.pem")]
        arguments += ["--tlsCAFile", str(way.certs / "ca.pem")]
    if way.auth:
        arguments.append("--auth")
        if not way.standalone:
            arguments += ["--keyFile", str(_key_file(way.data.parent))]
    return arguments


def _ferretdb_arguments(way: _Way) -> list[str]:
    arguments = [str(_built_ferretdb())]
    arguments += ["-address", f"127.0.0.1:{way.port}", "-directory", str(way.data)]
    return arguments + (["-tls", str(way.certs / "server.pem")] if way.certs else [])


ARGUMENTS = {
    "secantus": _secantus_arguments,
    "mongod": _mongod_arguments,
    "ferretdb": _ferretdb_arguments,
}


def _key_file(directory: Path) -> Path:
    """mongod wants a replica set with --auth to have one, also a set of one."""
    path = directory / "key"
    path.touch(mode=0o600)
    path.write_bytes(base64.b64encode(secrets.token_bytes(96)))
    return path


def _uri(way: _Way) -> str:
    user = f"{quote_plus(USER)}:{quote_plus(PASSWORD)}@" if way.auth else ""
    options = []
    if not way.standalone:
        options.append(f"replicaSet={SET_NAMES[way.kind]}")
    if way.certs:
        options.append(f"tls=true&tlsCAFile={quote_plus(str(way.certs / 'ca.pem'))}")
    return f"mongodb://{user}127.0.0.1:{way.port}/" + ("?" + "&".join(options) if options else "")


def _wait_until_writable(server: Server, initiate: bool) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    # Direct, whatever the URI says of a set: a mongod that was never initiated is in none yet.
    uri = re.sub(r"replicaSet=\w+", "directConnection=true", server.uri)
    last = "nothing"
    # Whatever its certificate says: one that is wrong may be what is wanted.
    lenient = {"tlsAllowInvalidCertificates": True} if server._way.certs else {}
    with pymongo.MongoClient(uri, serverSelectionTimeoutMS=500, **lenient) as client:
        while time.monotonic() < deadline:
            server._process.check()
            try:
                hello = client.admin.command("hello")
                if hello.get("isWritablePrimary"):
                    return
                last = str(hello)
                if initiate and not hello.get("setName"):
                    member = {"_id": 0, "host": f"127.0.0.1:{server.port}"}
                    config = {"_id": "weir", "members": [member]}
                    client.admin.command("replSetInitiate", config)
            except PyMongoError as error:
                last = str(error)
            time.sleep(0.05)
    raise Unavailable(
        f"{server} takes no writes after {START_TIMEOUT_S} s; it answered {last}"
        + server._process.output()
    )


def _external(uri: str) -> Server:
    """The server that is there already; what it can do is asked for."""
    try:
        with pymongo.MongoClient(uri, serverSelectionTimeoutMS=10_000) as client:
            hello = client.admin.command("hello")
            host, port = client.address
            features = frozenset(_ask_features(client, hello))
    except (PyMongoError, ConfigurationError) as error:
        raise Unavailable(f"$MONGODB_URI: {error}") from error
    return Server("external", uri, host, port, features)


def _ask_features(client: pymongo.MongoClient, hello: dict):
    yield from ("explain", "free_cursors", "max_time_ms", "unacknowledged_writes")
    if hello.get("setName"):
        yield from NEEDS_REPLICA_SET
    if hello.get("msg") == "isdbgrid":
        yield from NEEDS_REPLICA_SET - {"replica_set"}

    def accepts(*command: object, **more: object) -> bool:
        try:
            client.admin.command(*command, **more)
            return True
        except PyMongoError:
            return False

    if accepts("configureFailPoint", "failCommand", mode="off"):
        yield "failpoints"
    if accepts("serverStatus") and "connections" in client.admin.command("serverStatus"):
        yield "server_status_connections"


def _secantus_program() -> Path | None:
    for place in (Path(sys.executable).parent, BUILD / "venv" / "bin"):
        if (place / "secantusd-py").exists():
            return place / "secantusd-py"
    return None


def _ferretdb_program() -> Path:
    return BUILD / "ferretdb" / "ferretdb"


def _why_no_go() -> str | None:
    if not shutil.which("go"):
        return "no Go on PATH to build it"
    said = subprocess.run(["go", "env", "GOVERSION"], capture_output=True, text=True).stdout
    version = re.match(r"go(\d+)\.(\d+)", said)
    if not version or (int(version[1]), int(version[2])) < GO_NEEDED:
        return f"it needs Go {GO_NEEDED[0]}.{GO_NEEDED[1]}, and this is {said.strip() or 'older'}"
    return None


def _built_ferretdb() -> Path:
    """Builds it once; takes a minute. Another source or go.mod builds it anew."""
    source = Path(__file__).resolve().parent / "ferretdb"
    program = _ferretdb_program()
    newest = max(path.stat().st_mtime for path in source.iterdir())
    if program.exists() and program.stat().st_mtime >= newest:
        return program
    print("Building FerretDB, once; this takes a minute", file=sys.stderr, flush=True)
    program.parent.mkdir(parents=True, exist_ok=True)
    made = program.with_name(f"ferretdb.{os.getpid()}")
    build = ["go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", str(made), "."]
    done = subprocess.run(build, cwd=source, capture_output=True, text=True)
    if done.returncode != 0:
        raise Unavailable(f"FerretDB does not build:\n{done.stderr}")
    made.rename(program)
    return program


def established_at(port: int) -> int:
    """Established TCP connections whose local end is the port, from the kernel's tables.

    A table that changes while it is read may show a connection twice.
    """
    ends = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        if not os.path.exists(table):
            continue
        with open(table) as lines:
            next(lines)
            for line in lines:
                local, remote, state = line.split()[1:4]
                if state == "01" and int(local.rpartition(":")[2], 16) == port:
                    ends.add((local, remote))
    return len(ends)


if __name__ == "__main__":
    for each in KINDS:
        print(f"{each:10} {why_not(each) or 'can run here'}")
