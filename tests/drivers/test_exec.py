# SPDX-License-Identifier: Apache-2.0
"""`weir exec -- CMD`, and what a service manager is told."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
import weir
from stub_server import StubServer

PING = "import os, pymongo; uri = os.environ['MONGODB_URI']; c = pymongo.MongoClient(uri); "


def start(uri: str, *command: str, **more: object) -> subprocess.Popen[str]:
    env = {**os.environ, "MONGODB_URI": uri, "XDG_RUNTIME_DIR": "/tmp"}
    env.pop("DYNO", None)
    env.update(more.pop("env", {}))
    flags = more.pop("flags", [])
    line = [str(weir.default_binary()), "exec", *flags, "--port", "0", "--", *command]
    return subprocess.Popen(
        line, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env=env, **more,
    )  # fmt: skip


def run(uri: str, *command: str, **more: object) -> tuple[int, str, str]:
    child = start(uri, *command, **more)
    out, log = child.communicate(timeout=60)
    return child.returncode, out, log


def test_the_app_goes_through_weir_and_its_status_is_passed_on(secantus):
    upstream = secantus.uri.split("?")[0].rstrip("/") + "/shop?retryWrites=false&directConnection=true"
    script = PING + (
        "print(uri); assert os.environ['OTHER'] == uri and 'NOTIFY_SOCKET' not in os.environ;"
        "print(len(c.weir.clients.find().to_list())); c.close(); os._exit(7)"
    )
    status, out, log = run(
        upstream, sys.executable, "-c", script,
        flags=["--variable", "OTHER"], env={"OTHER": upstream, "NOTIFY_SOCKET": "/nowhere"},
    )  # fmt: skip
    uri, clients = out.split()
    assert status == 7, log
    assert uri.startswith("mongodb://127.0.0.1:") and uri.endswith("/shop?retryWrites=false")
    assert int(clients) >= 1  # the collection `weir.clients` is weir's alone
    assert uri.split("/")[2] != upstream.split("/")[2]
    assert "event=ready deployment=found" in log
    assert "event=drained clients=0" in log and log.rstrip().endswith("event=ended")


@pytest.mark.parametrize(
    "command, expected",
    [
        (["/no/such/command"], 127),
        (["no-such-command-anywhere"], 127),
        (["/"], 126),
        (["sh", "-c", "exit 0"], 0),
        (["sh", "-c", "kill -KILL $$"], 128 + signal.SIGKILL),
    ],
)
def test_status(command, expected):
    with StubServer() as stub:
        status, _, log = run(stub.uri, *command)
        assert status == expected, log


def test_the_limit_of_cores_is_the_apps_own():
    """weir leaves none itself; its app may."""
    most = resource.getrlimit(resource.RLIMIT_CORE)[1]
    limits = (4096 * 1024, most)
    if most != resource.RLIM_INFINITY and most < limits[0]:
        pytest.skip(f"cores are limited to {most} bytes here")
    allow = lambda: resource.setrlimit(resource.RLIMIT_CORE, limits)  # noqa: E731
    with StubServer() as stub:
        script = "ulimit -c; grep core /proc/$PPID/limits"
        status, out, log = run(stub.uri, "bash", "-c", script, preexec_fn=allow)
        app, ours = out.splitlines()
        assert (status, app, ours.split()[4]) == (0, "4096", "1"), log


def test_the_log_says_when_there_is_no_deployment_yet():
    """The app is run all the same: what it asks for waits."""
    status, out, log = run("mongodb://127.0.0.1:1/", "echo", "it ran")
    assert (status, out) == (0, "it ran\n"), log
    assert "level=warn event=ready deployment=not_found" in log


def test_nothing_is_run_with_a_wrong_configuration():
    status, out, log = run("mongodb://", "echo", "it ran")
    assert (status, out) == (2, ""), log


def test_signals_are_passed_on_and_weir_outlives_the_app(secantus):
    """The app still uses weir after SIGTERM, on a connection that it opens only then."""
    script = PING + (
        "import signal, sys\n"
        "def end(*_):\n"
        "    c.shop.command('ping'); print('served'); sys.stdout.flush(); os._exit(3)\n"
        "signal.signal(signal.SIGTERM, end); print('ready'); sys.stdout.flush()\n"
        "while True: signal.pause()"
    )
    child = start(secantus.uri, sys.executable, "-c", script)
    assert child.stdout.readline() == "ready\n"
    child.send_signal(signal.SIGTERM)
    out, log = child.communicate(timeout=60)
    assert (child.returncode, out) == (3, "served\n"), log


def test_an_order_is_not_taken_for_a_signal_to_the_app(secantus, tmp_path):
    """However many of these come at the same time, and the app gets them."""
    app = "trap got=1 USR2; echo ready; while :; do sleep 0.05; test -z \"$got\" || break; done; "
    app += "echo got; while :; do sleep 1; done"
    path = str(tmp_path / "ctl.sock")
    child = start(secantus.uri, "sh", "-c", app, flags=["--control-socket", path])
    over = threading.Event()

    def shower() -> None:
        while not over.is_set():
            child.send_signal(signal.SIGUSR2)

    thread = threading.Thread(target=shower)
    try:
        assert child.stdout.readline() == "ready\n", child.stderr.read()
        thread.start()
        for _ in range(20):
            ctl = [str(weir.default_binary()), "ctl", "--socket", path, "reload"]
            done = subprocess.run(ctl, capture_output=True, text=True, timeout=60)
            assert done.returncode == 0, done.stderr
        assert child.stdout.readline() == "got\n"
    finally:
        over.set()
        thread.join()
        child.send_signal(signal.SIGTERM)
        child.communicate(timeout=60)


def test_orphans_are_reaped():
    """As the first process of a container weir has the children of those that have ended."""
    zombies = "ps -o stat= --ppid 1 | grep -q Z"
    script = f"(sh -c 'sleep 0.1' &) ; sleep 0.5; for i in $(seq 100); do {zombies} || break; sleep 0.1; "
    script += f"done; {zombies}; echo $?"
    with StubServer() as stub:
        line = ["unshare", "--fork", "--pid", "--mount-proc", str(weir.default_binary())]
        line += ["exec", "--port", "0", "--", "sh", "-c", script]
        done = subprocess.run(
            line, env={**os.environ, "MONGODB_URI": stub.uri},
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        if "unshare failed" in done.stderr:
            pytest.skip(f"no new pid namespace may be made here: {done.stderr.strip()}")
        assert done.stdout == "1\n", done.stderr


def test_a_service_manager_is_told():
    with tempfile.TemporaryDirectory() as directory, StubServer() as stub:
        path = Path(directory) / "notify"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(str(path))
            manager.settimeout(20)
            env = {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "200000"}
            with weir.Weir(stub.uri, env=env) as proxy:
                assert manager.recv(100) == b"READY=1"
                assert manager.recv(100) == b"WATCHDOG=1"
                assert manager.recv(100) == b"WATCHDOG=1"
                os.kill(proxy.pid, signal.SIGTERM)
                while (said := manager.recv(100)) == b"WATCHDOG=1":
                    pass
                assert said == b"STOPPING=1"
