# SPDX-License-Identifier: Apache-2.0
"""Apps fail, or come all at once."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import socket
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import crowd as crowd_program
import pytest
import raw
import weir
from crowd import Crowd, until, write, written

MANY = 5000
HALF = 50
HASTY = 4000
PIDFD_GETFD = 438  # the number of the system call


@pytest.fixture
def descriptors():
    """As many as there can be, also for what is started meanwhile."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2 * MANY:
        pytest.skip(f"the hard limit on open files is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_5000_connect_at_once(secantus, descriptors):
    """As fast as one process can: in less than a second if it is quiet. Each wants something."""
    with weir.Weir(secantus.uri, "--max-wait", "60s") as proxy, contextlib.ExitStack() as opened:
        with Crowd(proxy.address, 4) as others:
            others.wait_for("ok", 50)
            apps = [opened.enter_context(raw.Connection.to(proxy.address)) for _ in range(MANY)]
            asked = [app.post(write("many", f"app{i}")) for i, app in enumerate(apps)]
            for i, app in enumerate(apps):
                app.stream.settimeout(60)
                assert app.reply_to(asked[i])["value"] == written(f"app{i}")
            assert proxy.state()["clients"] == MANY + 4
            others.wait_for_more("ok", 50)
        others.assert_saw("ok")
        others.assert_truthful(secantus)
        opened.close()
        proxy.wait_until_at_rest()


def start_doomed(proxy, name: str) -> subprocess.Popen:
    """A process of apps, to be killed."""
    program = [sys.executable, crowd_program.__file__, *map(str, proxy.address), str(HALF), name]
    return subprocess.Popen(program)


def kill(process: subprocess.Popen) -> None:
    process.kill()
    process.wait()


def test_half_of_all_are_killed_in_the_middle_of_their_requests(secantus):
    with weir.Weir(secantus.uri, "--max-wait", "60s") as proxy:
        with Crowd(proxy.address, HALF) as others:
            for name in ("doomed0", "doomed1", "doomed2"):
                doomed = start_doomed(proxy, name)
                documents = secantus.client().test[name]
                until(lambda: documents.find_one() and proxy.state()["clients"] == 2 * HALF)
                until(lambda: proxy.state()["queued"] > HALF)
                kill(doomed)
                until(lambda: proxy.state()["clients"] == HALF)
                others.wait_for_more("ok", 200)
                assert documents.distinct("times") == [1]
        others.assert_saw("ok")
        others.assert_truthful(secantus)
        assert proxy.count("upstream_down") == 0
        proxy.wait_until_at_rest()


def test_all_are_killed_while_they_wait_for_the_server(secantus):
    """They have permits and queue, and the server takes its time to greet weir, from the first."""
    delay = {"appName": "shop", "blockConnection": True, "blockTimeMS": 8000}
    late = secantus.failing(["isMaster"], "alwaysOn", **delay)
    patience = ("--max-wait", "60s", "--connect-timeout", "60s")
    with contextlib.ExitStack() as held:
        held.enter_context(late)
        with weir.Weir(secantus.uri + "&appName=shop", *patience) as proxy:
            doomed = start_doomed(proxy, "too_early")
            until(lambda: proxy.state()["clients"] == HALF)
            until(lambda: proxy.state()["waiting_for_upstream"] > 0)
            kill(doomed)
            until(lambda: proxy.state()["clients"] == 0)
            assert proxy.state()["waiting_for_upstream"] == proxy.state()["queued"] == 0
            held.close()
            check_the_others(secantus, proxy)


def check_the_others(secantus, proxy) -> None:
    with Crowd(proxy.address, HALF) as others:
        others.wait_for("ok", 100)
    others.assert_saw("ok")
    others.assert_truthful(secantus)
    assert secantus.client().test.too_early.find_one() is None
    proxy.wait_until_at_rest()


def socket_of(proxy, app: raw.Connection) -> socket.socket:
    """weir's end of that connection, as it is in its own process."""
    libc = ctypes.CDLL(None, use_errno=True)
    process = os.pidfd_open(proxy.pid)
    try:
        for number in map(int, os.listdir(f"/proc/{proxy.pid}/fd")):
            if (fd := libc.syscall(PIDFD_GETFD, process, number, 0)) < 0:
                pytest.skip(f"nobody may look at its sockets: {os.strerror(ctypes.get_errno())}")
            if stat.S_ISSOCK(os.fstat(fd).st_mode):
                end = socket.socket(fileno=fd)
                with contextlib.suppress(OSError):  # one that listens has no peer
                    if end.getpeername() == app.stream.getsockname():
                        return end
                end.close()
            else:
                os.close(fd)
    finally:
        os.close(process)
    raise AssertionError("weir has no end of it")


@pytest.mark.parametrize("timeout_s", (20, 60, 3600))
def test_the_kernel_does_not_end_who_may_read_slowly_yet(secantus, timeout_s):
    """Else a reader that pauses was ended after 30 s, whatever net.messageTimeout said."""
    with weir.Weir(secantus.uri, "--message-timeout", f"{timeout_s}s") as proxy:
        with raw.Connection.to(proxy.address) as app:
            app.hello()
            with socket_of(proxy, app) as end:
                ends_ms = end.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
    assert ends_ms >= 30_000 and ends_ms > timeout_s * 1000


def test_apps_ask_and_leave(secantus):
    """Each goes away as soon as it has asked, thousands of times beside others that stay."""

    def ask_and_leave(name: int) -> None:
        for i in range(HASTY // 8):
            with raw.Connection.to(proxy.address) as app:
                app.post(write("hasty", f"{name} {i}"))

    with weir.Weir(secantus.uri, "--max-wait", "60s") as proxy:
        with Crowd(proxy.address, 16) as others, ThreadPoolExecutor(8) as threads:
            others.wait_for("ok", 50)
            for left in [threads.submit(ask_and_leave, i) for i in range(8)]:
                left.result()
            others.wait_for_more("ok", 100)
        others.assert_saw("ok")
        others.assert_truthful(secantus)
        assert secantus.client().test.hasty.distinct("times") in ([], [1])
        assert proxy.count("upstream_down") == 0
        proxy.wait_until_at_rest()
