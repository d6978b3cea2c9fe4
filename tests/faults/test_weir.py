# SPDX-License-Identifier: Apache-2.0
"""weir itself is short of something: descriptors, memory, room for the log, the right time."""

from __future__ import annotations

import contextlib
import itertools
import os
import resource
import socket
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path

import pytest
import raw
import weir
from crowd import Crowd, until, write, written

APPS = 16


# --- descriptors ----------------------------------------------------------------------------------


@contextlib.contextmanager
def no_more_descriptors(proxy, left: int = 0):
    """Within, it can open that many more than it has, and no others."""
    limits = resource.prlimit(proxy.pid, resource.RLIMIT_NOFILE)
    used = {int(name) for name in os.listdir(f"/proc/{proxy.pid}/fd")}
    free = itertools.islice((i for i in range(limits[1]) if i not in used), left + 1)
    resource.prlimit(proxy.pid, resource.RLIMIT_NOFILE, (list(free)[left], limits[1]))
    yield
    resource.prlimit(proxy.pid, resource.RLIMIT_NOFILE, limits)


def test_no_descriptors_for_clients(secantus):
    """Those that are there are served; those that come wait until there is one for them."""
    with weir.Weir(secantus.uri, "--max-wait", "60s") as proxy:
        with Crowd(proxy.address, 4) as there:
            there.wait_for("ok", 50)
            with no_more_descriptors(proxy, left=3):
                late = Crowd(proxy.address, APPS)
                proxy.wait_for("client_refused", reason="out of file descriptors")
                there.wait_for_more("ok", 100)
                late.wait_for_more("ok", 100)
                assert proxy.state()["clients"] < 4 + APPS
            until(lambda: proxy.state()["clients"] == 4 + APPS)
            late.wait_for_more("ok", 100)
            late.stop()
        there.assert_saw("ok")
        late.assert_saw("ok")
        there.assert_truthful(secantus)
        late.assert_truthful(secantus)
        proxy.wait_until_at_rest()


def test_no_descriptors_for_upstreams(secantus):
    """There is one upstream at least, or there will be: nobody is told an error for it."""
    with weir.Weir(secantus.uri, "--max-wait", "60s", "--server-wait", "60s") as proxy:
        apps = [raw.Connection.to(proxy.address) for _ in range(APPS)]
        for app in apps:
            app.hello()
        proxy.wait_for("server_up")
        with no_more_descriptors(proxy):
            asked = [app.post(write("starved", f"app{i}")) for i, app in enumerate(apps)]
            proxy.wait_for("upstream_down", **{"while": "opening"})
        for i, app in enumerate(apps):
            assert app.reply_to(asked[i])["value"] == written(f"app{i}")
            app.stream.close()
        proxy.wait_until_at_rest()


# --- memory ---------------------------------------------------------------------------------------

LARGE = bytes(15_000_000)
BUDGET = 128 << 20  # the least that can be configured
READERS = 16

# Without the guard against what is slow: those that do not read would have all it leaves them.
SMALL_BUDGET = ("--max-buffered", "128MB", "--max-wait", "60s", "--slow-share", "1")


def test_no_buffers_for_replies(secantus):
    """Apps that do not read fill the budget; others are served; when they read, all is right."""
    secantus.client().large.replies.insert_one({"_id": 1, "content": LARGE})
    with weir.Weir(secantus.uri, *SMALL_BUDGET, cap=READERS + 4) as proxy:
        with Crowd(proxy.address, 4, large=False) as others:
            slow = [raw.Connection.to(proxy.address) for _ in range(READERS)]
            asked = [
                app.post(
                    {"find": "replies", "projection": {"content": 1, "mine": {"$literal": i}}},
                    db="large",
                )
                for i, app in enumerate(slow)
            ]
            until(lambda: proxy.state()["buffered_bytes"] >= BUDGET)
            assert proxy.state()["buffered_bytes"] < BUDGET + (READERS + 4) * 65536
            others.wait_for_more("ok", 100)
            for i, app in enumerate(slow):
                found = app.reply_to(asked[i])["cursor"]["firstBatch"]
                assert found == [{"_id": 1, "content": LARGE, "mine": i}]
                app.stream.close()
        others.assert_saw("ok")
        others.assert_truthful(secantus)
        proxy.wait_until_at_rest()


def fill_the_budget(proxy: weir.Weir) -> list[raw.Connection]:
    """Two whose large requests have begun and do not go on."""
    stuck = [raw.Connection.to(proxy.address) for _ in range(2)]
    for connection in stuck:
        connection.hello()
        connection.send(raw.header(2 * len(LARGE) + 1000) + bytes(100))
    until(lambda: proxy.state()["buffered_bytes"] > 4 * len(LARGE))
    return stuck


def test_no_memory_for_a_request_in_time(secantus):
    """It is refused as overload, its connection goes on, and what wants no answer gets none."""
    insert = raw.body({"insert": "none", "$db": "large"})
    documents = raw.sequence(b"documents", {"content": LARGE})
    with weir.Weir(secantus.uri, "--max-buffered", "128MB", "--max-wait", "100ms") as proxy:
        stuck = fill_the_budget(proxy)
        with raw.Connection.to(proxy.address) as app:
            app.hello()
            app.stream.settimeout(60)
            for flags in (0, raw.MORE_TO_COME):
                app.send(raw.op_msg(insert, documents, flags=flags))
                if flags == 0:
                    refused = app.receive().document
                    assert refused["code"] == 462 and "maxBufferedBytes" in refused["errmsg"]
                    assert "SystemOverloadedError" in refused["errorLabels"]
                assert app.ask({"ping": 1})["ok"] == 1
        for connection in stuck:
            connection.stream.close()
        proxy.wait_until_at_rest()
    assert secantus.client().large.none.find_one() is None


def test_replies_taken_too_slowly(secantus):
    """Who takes some of a reply now and then is closed: others wait for the memory."""
    secantus.client().large.slowly.insert_one({"_id": 1, "content": LARGE})
    with weir.Weir(secantus.uri, "--message-timeout", "5s") as proxy, socket.socket() as stream:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 500)  # keeps weir's buffer small
        stream.connect(proxy.address)
        app = raw.Connection(stream)
        app.hello()
        app.post({"find": "slowly"}, db="large")
        closed = threading.Event()

        def take() -> None:
            while not closed.wait(0.25) and stream.recv(8192):
                pass

        with ThreadPoolExecutor(1) as taker:
            taking = taker.submit(take)
            try:
                assert proxy.wait_for("client_closed", timeout=20)["reason"] == (
                    "reply not taken in time"
                )
            finally:
                closed.set()
            with contextlib.suppress(ConnectionError):
                taking.result()
        proxy.wait_until_at_rest()


def test_no_buffers_for_requests(secantus):
    """Two that began and do not go on hold what there is for requests; a third large one waits
    until they are given up, small ones do not."""
    documents = [{"_id": i, "content": LARGE} for i in range(2)]
    with weir.Weir(secantus.uri, *SMALL_BUDGET, "--message-timeout", "2s") as proxy:
        with Crowd(proxy.address, 4, large=False) as others:
            stuck = fill_the_budget(proxy)
            with raw.Connection.to(proxy.address) as app:
                app.stream.settimeout(60)
                asked = app.post({"insert": "requests", "documents": documents}, db="large")
                # It was read to its end, so the others must have been given up before.
                assert all(connection.is_ended(within=1) for connection in stuck)
                assert app.reply_to(asked)["n"] == 2
            proxy.wait_for("bad_input", what="message not complete in time")
            others.wait_for_more("ok", 100)
        others.assert_saw("ok")
        others.assert_truthful(secantus)
        assert list(secantus.client().large.requests.find()) == documents
        proxy.wait_until_at_rest()


# --- the log --------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "weir-small-disk", str(tmp_path)]
    done = subprocess.run(mount, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"no small disk to be had: {done.stderr.strip()}")
    yield tmp_path
    subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


def fill(disk: Path) -> Path:
    """Until not one byte more can be written there."""
    ballast = disk / "ballast"
    with open(ballast, "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    return ballast


def spoil(proxy) -> None:
    """What weir logs a line of, before it ends the connection."""
    with raw.Connection.to(proxy.address) as connection:
        connection.send(b"GET / HTTP/1.1\r\n\r\n")
        assert connection.is_ended()


def test_disk_of_the_log_is_full(secantus, small_disk):
    """Lines are lost, and told of when there is room again; nothing else is."""
    log = small_disk / "log"
    with weir.Weir(secantus.uri, "--max-wait", "60s", log=log) as proxy:
        with Crowd(proxy.address, APPS) as crowd:
            crowd.wait_for("ok", 50)
            with open(log, "ab", buffering=0) as padding:  # the next line will be torn
                padding.write(b"#" * (4095 - log.stat().st_size % 4096 - 50) + b"\n")
            ballast = fill(small_disk)
            for _ in range(3):
                spoil(proxy)
            crowd.wait_for_more("ok", 100)
            assert log.stat().st_size % 4096 == 0, "there was room"
            ballast.unlink()
            spoil(proxy)
            told = proxy.wait_for("bad_input")
            assert int(told["lost"]) >= 3, "one at least was torn, the others not written at all"
            crowd.wait_for_more("ok", 100)
        crowd.assert_saw("ok")
        crowd.assert_truthful(secantus)
        proxy.wait_until_at_rest()


# --- the time -------------------------------------------------------------------------------------


def days_off(proxy) -> int:
    """How far from ours the time is that it writes to the log."""
    proxy.state()
    told = datetime.fromisoformat(proxy.events[-1]["ts"].rstrip("Z")).replace(tzinfo=timezone.utc)
    return round((told - datetime.now(timezone.utc)).total_seconds() / 86400)


def test_clock_jumps(secantus, tmp_path):
    """The day is another one, forth and back. weir goes by the clock that cannot be set, so nothing
    runs out and nothing hangs; only the log tells the new time."""
    faketime = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
    if not faketime:
        pytest.skip("no libfaketime")
    offset = tmp_path / "offset"
    offset.write_text("+0\n")
    environment = {
        "LD_PRELOAD": str(faketime), "FAKETIME_TIMESTAMP_FILE": str(offset),
        "FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "ASAN_OPTIONS": "verify_asan_link_order=0",
    }  # fmt: skip
    with weir.Weir(secantus.uri, "--max-wait", "10s", env=environment) as proxy:
        with Crowd(proxy.address, APPS) as crowd:
            for jump in ("+40d", "-40d", "+0"):
                crowd.wait_for_more("ok", 100)
                offset.write_text(jump + "\n")
                until(lambda: days_off(proxy) == int(jump.rstrip("d")))
                crowd.wait_for_more("ok", 100)
        crowd.assert_saw("ok")
        crowd.assert_truthful(secantus)
        assert proxy.count("upstream_down") == proxy.count("server_down") == 0
        proxy.wait_until_at_rest()


# --- the end --------------------------------------------------------------------------------------


def test_ends_under_load_and_is_started_again(secantus):
    """What it took it finishes; what it did not take it does not answer."""
    with weir.Weir(secantus.uri, "--max-wait", "10s") as proxy:
        with Crowd(proxy.address, APPS) as crowd:
            for _ in range(3):
                crowd.wait_for_more("ok", 100)
                assert proxy.stop() == 0
                assert proxy.events[-1]["event"] == "ended"
                crowd.wait_for_more("refused", 1)
                proxy = weir.Weir(secantus.uri, "--max-wait", "10s", port=proxy.port)
            crowd.wait_for_more("ok", 100)
        crowd.assert_saw("ok", "ended", "refused")
        crowd.assert_truthful(secantus)
        proxy.wait_until_at_rest()
        assert proxy.stop() == 0
