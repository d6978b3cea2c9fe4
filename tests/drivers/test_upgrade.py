# SPDX-License-Identifier: Apache-2.0
"""One weir takes another's place, under load and under one cap; and what fails changes nothing."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pymongo
import pytest
import raw
import servers
import users
import weir
from bson.int64 import Int64
from deployments import StubSet, wait_for_members, weir_before
from pymongo.read_preferences import Nearest
from stub_server import Asked, StubServer

sys.path.append(str(Path(__file__).resolve().parents[1] / "soak"))

import traffic  # noqa: E402

BEAT = "heartbeatFrequencyMS=500"  # a monitor's; by it an app learns that it is to go
EVERYTHING = ("--may", "read,write,admin", "--databases", "*")
PATIENT = ("--max-wait", "30s", "--drain-within", "60s")
# What drivers retry. What they do not, as a getMore, may meet the moment in which a driver has
# thrown its connections away and has no new ones yet: it refuses that itself.
RETRIED = "echo own_document left_cursor large_document"


class Load:
    """Threads of one app that ask, each without a pause, and never again if it fails."""

    def __init__(self, uri: str, threads: int):
        self.client = pymongo.MongoClient(uri, retryReads=False, retryWrites=False)
        self.done = 0
        self.failed: list[str] = []
        self._changed = threading.Condition()
        self._ending = False
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        while not self._ending:
            failure = None
            try:
                self.client.admin.command("ping")
            except Exception as error:
                failure = repr(error)
            with self._changed:
                self.done += 1
                self.failed += [failure] if failure else []
                self._changed.notify_all()

    def wait_for_more(self, count: int) -> None:
        with self._changed:
            wanted = self.done + count
            assert self._changed.wait_for(lambda: self.done >= wanted, 30), self.failed[:3]

    def __enter__(self) -> Load:
        return self

    def __exit__(self, *_: object) -> None:
        self._ending = True
        for thread in self._threads:
            thread.join(30)
        self.client.close()


CAP = 8
BOUNDS = {
    "each": (CAP, (), ()),
    "total": (6, ("--max-total-connections", "6"), ()),
    "live": (5, (), ("setCap", "5")),
}


@pytest.mark.parametrize("most, flags, order", BOUNDS.values(), ids=BOUNDS.keys())
def test_the_two_together_stay_below_the_cap(most, flags, order):
    """By a stub that sees each connection come and go; apps come over TLS and log in."""
    flags = (*PATIENT, *flags, "--config", str(users.file(users.add("app", "pw", *EVERYTHING))))
    with StubServer() as stub, weir.Weir(stub.uri, *flags, tls=True, cap=CAP) as proxy:
        uri = users.uri_for(proxy.tls_uri, "app", "pw")
        if order:
            proxy.order(*order)
        with contextlib.ExitStack() as stack:
            apps = [stack.enter_context(Load(f"{uri}&{BEAT}", 4)) for _ in range(5)]
            for _ in range(2):
                for app in apps:
                    app.wait_for_more(100)
                former = proxy.upgrade()
                assert former.wait(60) == 0
            for app in apps:
                app.wait_for_more(100)
        assert [app.failed for app in apps] == [[]] * len(apps)
        assert stub.most_upstreams == most
        assert proxy.count("drained") == 2


def test_drivers_notice_nothing():
    """All languages, over TLS and logged in, on both sides."""
    if reason := servers.why_not("secantus"):
        pytest.skip(f"secantus: {reason}")
    start = (*PATIENT, "--limit", "fixed")
    start = (*start, "--config", str(users.file(users.add("app", "pw", *EVERYTHING))))
    with servers.start("secantus", tls=True, auth=True) as server:
        with server.client() as client:
            client.checks.numbers.insert_many({"_id": i, "n": i % 10} for i in range(1000))
        with weir.Weir(server.uri, *start, tls=True, cap=12) as proxy, contextlib.ExitStack() as ends:
            uri = f"{users.uri_for(proxy.tls_uri, 'app', 'pw')}&{BEAT}"
            programs = [
                traffic.Program(driver, uri, server.features, RETRIED)
                for driver in traffic.drivers_here()
            ]
            for program in programs:
                ends.callback(program.stop)
            for _ in range(2):
                for program in programs:
                    program.wait_for_more(20, 60)
                assert proxy.upgrade().wait(60) == 0
            for program in programs:
                program.wait_for_more(20, 60)
                program.end()
    assert {program.name: program.count("errors") for program in programs} == {
        program.name: {} for program in programs
    }
    assert [program.wrong() for program in programs] == [[]] * len(programs)
    begun = [one for one in proxy.events if one["event"] == "draining"]
    assert sum(int(one["left_ms"]) > 55_500 for one in begun) == 2  # said again after 5 s


@pytest.mark.parametrize("logs_in", (False, True), ids=("nobody", "users"))
def test_what_is_open_at_one_goes_on_at_the_other(logs_in):
    """On the member that has it, which nobody but the former knew; and as whom it was opened."""
    entries = [users.add(name, "pw", *EVERYTHING) for name in ("other", "app")]
    stub = StubSet(members=3, tags={index: {"member": str(index)} for index in range(3)})
    start = ("--config", str(users.file(*entries))) if logs_in else ()
    with weir_before(stub, *PATIENT, *start) as proxy:
        uri = f"{proxy.uri}?{BEAT}"
        uri = users.uri_for(uri, "app", "pw") if logs_in else uri
        with pymongo.MongoClient(uri, retryReads=False) as client:
            wait_for_members(stub, proxy)
            things = client.test.things
            things.insert_many([{"_id": number} for number in range(20)])
            far = things.with_options(read_preference=Nearest([{"member": "2"}]))
            cursors = [far.find(batch_size=2) for _ in range(5)]
            assert [next(cursor)["_id"] for cursor in cursors] == [0] * 5
            with client.start_session() as session:
                session.start_transaction()
                things.insert_one({"_id": 20}, session=session)
                former = proxy.upgrade()
                until(lambda: proxy.order("status")["clients"] > 0)
                cursors.append(far.find(batch_size=2, limit=20))
                assert next(cursors[-1])["_id"] == 0
                session.commit_transaction()
            assert [len(list(cursor)) for cursor in cursors] == [19] * 6
            assert former.wait(60) == 0
            assert things.count_documents({}) == 21


def test_what_one_is_at_is_no_leak_to_the_other():
    """The successor sees nothing of its statements; it kills what is idle at itself."""
    idle = ("--idle-cursor-after", "2s", "--kill-idle")
    with StubSet(members=1) as stub, weir.Weir(stub.uri, *PATIENT, *idle) as proxy:
        with raw.Connection.to(proxy.address) as client:
            many = [{"_id": number} for number in range(3000)]
            for name in ("things", "others"):
                client.ask({"insert": name, "documents": many, "$db": "test"})
            find = {"batchSize": 1, "$db": "test"}
            cursor = client.ask({"find": "things", **find})["cursor"]["id"]
            ended, failed = threading.Event(), []

            def go_on() -> None:
                while not ended.wait(0.05):
                    more = {"getMore": cursor, "collection": "things", **find}
                    failed.extend([] if (reply := client.ask(more))["ok"] else [reply])

            thread = threading.Thread(target=go_on)
            thread.start()
            former = proxy.upgrade()
            with raw.Connection.to(proxy.address) as late:
                assert late.ask({"find": "others", **find})["ok"] == 1.0
                leak = proxy.wait_for("leak")
            ended.set()
            thread.join()
        assert (leak["ns"], proxy.count("leak"), failed) == ("test.others", 1, [])
        assert former.wait(60) == 0


@contextlib.contextmanager
def cursors(killed: threading.Event | None = None):
    """A stub whose cursors have the numbers from 77 on; tells of the first that is killed."""
    ids = itertools.count(77)

    def script(asked: Asked) -> None:
        if "find" in asked.document:
            cursor = {"id": Int64(next(ids)), "ns": "shop.orders", "firstBatch": []}
            return asked.connection.send(asked.answer({"ok": 1.0, "cursor": cursor}))
        if killed and asked.document.get("cursors") == [77]:
            killed.set()
        asked.connection.send(asked.fine())

    with StubServer() as stub:
        stub.script = script
        yield stub


def test_nothing_is_lost_on_one_that_stands_still():
    """What the socket between them does not take, and more than is kept for it: nobody waits for
    that, and the successor learns of it when it goes on."""
    many = 6000
    with cursors() as stub, weir.Weir(stub.uri, *PATIENT) as proxy:
        with raw.Connection.to(proxy.address) as client:
            assert client.ask({"ping": 1})["ok"] == 1.0
            former = proxy.upgrade()
            os.kill(proxy.pid, signal.SIGSTOP)
            for _ in range(many):
                assert client.ask({"find": "orders"}, db="shop")["ok"] == 1.0
            os.kill(proxy.pid, signal.SIGCONT)
            until(lambda: proxy.order("status")["pins"] == many)
        former.kill()


def test_what_the_former_leaves_open_is_ended():
    """An app that is gone with it goes on with nothing."""
    killed = threading.Event()
    with cursors(killed) as stub, weir.Weir(stub.uri, *PATIENT) as proxy:
        with raw.Connection.to(proxy.address) as client:
            assert client.ask({"find": "orders"}, db="shop")["cursor"]["id"] == 77
            former = proxy.upgrade()
            former.kill()
            proxy.wait_for("predecessor_gone")
            assert killed.wait(20)


# --- what was ordered live ----------------------------------------------------------------------


def ordered(proxy: weir.Weir) -> dict:
    status = proxy.order("status")
    rules = [[rule[key] for key in ("says", "by", "why", "dryRun")] for rule in status["rules"]]
    state = proxy.order("state")["state"]
    server = next(one for one in state["servers"] if one["kind"] == "standalone")
    return {
        "rules": rules,
        "emergency": {key: status["emergency"].get(key) for key in ("on", "by", "why")},
        "bounds": (server["cap"], server["limit"], state["totals"][0]["paused"]),
    }


def test_what_was_ordered_live_goes_over(tmp_path):
    """With the time that is left of it, beside what the file says then; and so to the next."""
    file = tmp_path / "weir.yaml"
    file.write_text("rules:\n  - {namespace: a.b, maxTime: 5s}\n")
    with StubServer() as stub:
        with weir.Weir(stub.uri, "--config", str(file), *PATIENT, cap=8) as proxy:
            match = ("--namespace", "shop.*", "--kind", "read", "--app", "a, b: *", "--by", "me")
            proxy.order("rule", "add", *match, "--max-time", "1500ms", "--why", "of: a, b")
            proxy.order("rule", "add", "--all", "--at-once", "7", "--dry-run", "--for", "720h")
            proxy.order("rule", "add", "--client", "10.0.0.0/8", "--deny", "--last")
            proxy.order("rule", "add", "--command", "find", "--priority", "high")
            proxy.order("emergency", "on", "--for", "1h", "--why", "drowns")
            proxy.order("setCap", "6")
            proxy.order("setLimit", "2")
            proxy.order("pause")
            before = ordered(proxy)
            assert before["bounds"] == (3, 2, True) and len(before["rules"]) == 5
            file.write_text("rules:\n  - {namespace: a.b, maxTime: 9s}\n")
            for times in (1, 2):
                assert proxy.upgrade().wait(60) == 0
                until(lambda times=times: proxy.count("predecessor_gone") == times)
                after = ordered(proxy)
                changed = [rule for rule in after["rules"] if rule not in before["rules"]]
                assert [rule[0] for rule in changed] == ["namespace a.b: maxTime 9s"]
                of_file = after["rules"].index(changed[0])
                assert after["rules"].pop(of_file) and before["rules"][of_file][0].endswith("5s")
                assert after == before | {
                    "rules": before["rules"][:of_file] + before["rules"][of_file + 1 :]
                }
            proxy.order("emergency", "on", "--for", "2s")
            proxy.order("rule", "add", "--all", "--at-once", "9", "--for", "2s")
            proxy.upgrade()
            until(lambda: not proxy.order("status")["emergency"]["on"])
            until(lambda: len(proxy.order("status")["rules"]) == 5)


def test_one_that_is_slow_to_start_is_waited_for():
    """By who ordered it, and by nobody else."""
    with StubSet("standalone") as stub, weir.Weir(stub.uri, *PATIENT) as proxy:
        slow = [stub.fail(name, delay_s=6, times=None) for name in ("hello", "isMaster", "ismaster")]
        done = []
        ordering = threading.Thread(target=lambda: done.append(proxy.upgrade()))
        ordering.start()
        proxy.wait_for("upgrade_begun")
        assert proxy.order("status")["ok"] and not done
        refused = subprocess.run(
            [weir.default_binary(), "ctl", "--port", str(proxy.port), "upgrade"],
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert "another one is taking over already" in refused.stderr and not done
        stub.wait_until(lambda: sum(one.delayed for one in slow) > 0)
        ordering.join(60)
        assert done[0].wait(60) == 0


def test_who_cannot_be_replaced_says_what_to_do():
    with StubServer() as stub, weir.Weir(stub.uri) as proxy:
        proxy.order("setCap", "1")
        done = proxy.ctl("upgrade")
        assert done.returncode == 1 and "share a cap of 1: restart it" in done.stderr, done


# --- what fails ---------------------------------------------------------------------------------


@pytest.fixture
def held(tmp_path):
    """A weir whose successors wait to begin while held.exists(): a script is the binary."""
    hold, script = tmp_path / "hold", tmp_path / "weir"
    script.write_text(
        f'#!/bin/bash\nwhile [ "$1" != ctl -a -e {hold} ]; do sleep 0.02; done\n'
        f'exec -a "$0" {weir.default_binary()} "$@"\n'
    )
    script.chmod(0o755)
    return hold, script


def until(truth, timeout: float = 20.0) -> None:
    deadline = time.monotonic() + timeout
    while not truth():
        assert time.monotonic() < deadline, "it does not come to be so"
        time.sleep(0.02)


@contextlib.contextmanager
def begun(proxy: weir.Weir):
    """An upgrade that has begun: its process. Leaves when the order was answered."""
    before = proxy.count("upgrade_begun")
    order = threading.Thread(target=proxy.ctl, args=("upgrade",))
    order.start()
    until(lambda: proxy.count("upgrade_begun") > before)
    yield int(proxy.last("upgrade_begun")["pid"])
    order.join()


def test_what_cannot_start_changes_nothing(tmp_path, held):
    """A configuration with a mistake; no binary; one that dies before it is ready. Then it can."""
    hold, binary = held
    config = tmp_path / "weir.yaml"
    config.write_text("drain:\n  within: 60s\n")
    with StubServer() as stub:
        with weir.Weir(stub.uri, "--config", str(config), binary=binary) as proxy:
            with Load(f"{proxy.uri}?{BEAT}", 2) as app:
                config.write_text("drain:\n  within: soon\n")
                done = proxy.ctl("upgrade")
                assert done.returncode == 1 and "drain.within" in done.stderr, done
                config.write_text("drain:\n  within: 60s\n")

                away = binary.rename(tmp_path / "away")
                done = subprocess.run(
                    [weir.default_binary(), "ctl", "--port", str(proxy.port), "upgrade"],
                    capture_output=True, text=True, timeout=60,
                )  # fmt: skip
                assert done.returncode == 1 and "No such file" in done.stderr, done
                away.rename(binary)

                hold.touch()
                with begun(proxy) as pid:
                    os.kill(pid, signal.SIGKILL)
                hold.unlink()
                why = proxy.wait_for("upgrade_failed", pid=str(pid))["why"]
                assert "signal 9" in why

                app.wait_for_more(20)
                assert proxy.is_running() and proxy.count("draining") == 0
                assert proxy.upgrade().wait(60) == 0
                app.wait_for_more(20)
            assert app.failed == []


def test_a_successor_that_dies_gives_everything_back():
    """Its clients fail, the others do not; who comes after that is served by the former."""
    with StubServer() as stub, weir.Weir(stub.uri, *PATIENT, cap=4) as proxy:
        with raw.Connection.to(proxy.address) as client:
            assert client.ask({"ping": 1})["ok"] == 1.0
            former = proxy.upgrade()
            with raw.Connection.to(proxy.address) as other:
                assert other.ask({"ping": 1})["ok"] == 1.0
                proxy._child.kill()
                assert other.is_ended()
            proxy._child = former
            proxy.wait_for("upgrade_failed")
            for _ in range(2):  # what stood in the queue between them is served as well
                with raw.Connection.to(proxy.address) as third:
                    assert third.ask({"ping": 1})["ok"] == 1.0
            status = proxy.order("status")
            assert not status["draining"] and status["servers"][1]["cap"] == 4
            assert client.ask({"ping": 1})["ok"] == 1.0
            assert proxy.upgrade() is former  # and it may be tried again
            client.stream.close()
            assert former.wait(60) == 0


def test_a_former_that_dies_leaves_everything(held):
    """In the middle, and while its successor has not begun yet."""
    hold, binary = held
    with StubServer() as stub, weir.Weir(stub.uri, *PATIENT, cap=4, binary=binary) as proxy:
        with raw.Connection.to(proxy.address) as client:
            assert client.ask({"ping": 1})["ok"] == 1.0
            former = proxy.upgrade()
            assert proxy.order("status")["servers"][1]["cap"] < 4
            former.kill()
            proxy.wait_for("predecessor_gone", pid=str(former.pid))
            assert proxy.order("status")["servers"][1]["cap"] == 4

        hold.touch()
        with begun(proxy) as pid:
            proxy._child.kill()
            with raw.Connection.to(proxy.address) as early:  # the kernel has it
                sent = early.post({"ping": 1})
                hold.unlink()
                assert early.reply_to(sent)["ok"] == 1.0
            proxy._child.wait()
            proxy._child = weir.Adopted(pid)


# --- what it is started with --------------------------------------------------------------------


def test_what_listens_goes_over_and_the_service_manager_is_told(tmp_path):
    """HTTP and a Unix socket as well; and which process is the main one."""
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(str(tmp_path / "notify"))
    manager.settimeout(30)
    http = servers.free_port()
    environment = {"NOTIFY_SOCKET": str(tmp_path / "notify")}
    with StubServer() as stub:
        start = ("--http-port", str(http), *PATIENT)
        with weir.Weir(stub.uri, *start, unix=True, env=environment) as proxy:
            assert manager.recv(100) == b"READY=1"
            idle = [raw.Connection.to(proxy.address) for _ in range(10)]
            assert all(one.ask({"ping": 1})["ok"] == 1.0 for one in idle)
            former = proxy.upgrade()
            ready = urllib.request.urlopen(f"http://127.0.0.1:{http}/readyz")
            assert ready.status == 200  # the former is draining, and would say so
            with pymongo.MongoClient(proxy.unix_uri) as client:
                assert client.admin.command("ping")["ok"] == 1.0
            assert all(one.is_ended() for one in idle)
            assert former.wait(60) == 0
            assert manager.recv(100) == f"MAINPID={proxy.pid}".encode()
            assert manager.recv(100) == b"READY=1"
            with pymongo.MongoClient(proxy.unix_uri) as client:  # its file is there yet
                assert client.admin.command("ping")["ok"] == 1.0
            assert proxy.order("status")["clients"] >= 0
        opened = [event for event in proxy.events if event["event"] == "control_socket"]
        assert len(opened) == 2 and not Path(opened[-1]["path"]).exists()


def activated(tmp_path: Path, *addresses: tuple[str, int]) -> Path:
    """The binary, started as by a service manager that listens on these."""
    script = tmp_path / "weir"
    script.write_text(
        f"#!{sys.executable}\n"
        "import os, socket, sys\n"
        f"sockets = [socket.create_server(address) for address in {addresses!r}]\n"
        "for i, one in enumerate([os.dup(one.fileno()) for one in sockets]):\n"
        "    os.dup2(one, 3 + i)\n"
        f"os.environ |= {{'LISTEN_PID': str(os.getpid()), 'LISTEN_FDS': '{len(addresses)}'}}\n"
        f"os.execv('{weir.default_binary()}', sys.argv)\n"
    )
    script.chmod(0o755)
    return script


def test_sockets_of_a_service_manager_are_listened_on(tmp_path):
    """One of them would not be free for weir itself: it is bound already."""
    port, http = servers.free_port(), servers.free_port()
    binary = activated(tmp_path, ("127.0.0.1", http), ("127.0.0.1", port))
    with StubServer() as stub:
        start = ("--http-port", str(http), *PATIENT)
        with weir.Weir(stub.uri, *start, port=port, binary=binary) as proxy:
            with raw.Connection.to(proxy.address) as client:
                assert client.ask({"ping": 1})["ok"] == 1.0
            assert urllib.request.urlopen(f"http://127.0.0.1:{http}/healthz").status == 200


def test_one_that_nothing_is_configured_for_is_refused(tmp_path):
    other = servers.free_port()
    binary = activated(tmp_path, ("127.0.0.1", other))
    with StubServer() as stub, pytest.raises(AssertionError, match=f"127.0.0.1:{other} is none of"):
        weir.Weir(stub.uri, binary=binary)
