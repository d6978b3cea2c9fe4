# SPDX-License-Identifier: Apache-2.0
"""Every setting that a reload takes over, shown to be in force after it, while weir and those who are
connected go on. What needs a restart is refused by name: test_reload.py."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import ssl
import sys
import threading
from pathlib import Path

import packed
import pymongo
import pytest
import raw
import servers
import weir
from pymongo.errors import OperationFailure
from stub_server import Asked, StubServer
from test_reload import ctl, nested, reference
from test_users import revoke
from test_webhook import Receiver

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from stubset import StubSet  # noqa: E402

CAP = 4
CERTIFICATES = servers.certificates()
TLS = {
    "net.tls.mode": "preferTLS",
    "net.tls.certificateKeyFile": str(CERTIFICATES / "server.pem"),
}
EFFECTS: dict[str, object] = {}

# What no test here can see but by the configuration in force: the collection `config` says it.
UNSEEN = {"net.maxHandshakes": (64, 65)}  # whoever knocks is let in too fast to be counted

wait_until = StubSet.wait_until


def effect(*names: str):
    """What follows shows that these settings are taken over."""

    def enter(function):
        for name in names:
            EFFECTS[name] = function
        return function

    return enter


class Bench:
    """A weir, the file that it has its settings from, and what the test has open."""

    def __init__(self, stub, directory: Path, stack: contextlib.ExitStack, base: dict):
        self.stub = stub
        self.directory = directory
        self.stack = stack
        self.base = {"upstream.uri": stub.uri, "net.port": servers.free_port(), **base}
        self.file = directory / "weir.yaml"
        self.loaded: dict = {}
        self.write({})
        self.proxy = stack.enter_context(weir.Weir("", file=self.file, port=self.base["net.port"]))
        self.client = stack.enter_context(pymongo.MongoClient(self.proxy.uri, retryReads=False))

    def write(self, values: dict) -> None:
        fresh = self.directory / "fresh.yaml"
        fresh.write_text(nested({**self.base, **values}))
        os.replace(fresh, self.file)

    def load(self, values: dict) -> str:
        """Has the base with these settings instead; what was said."""
        self.write(values)
        done = ctl(self.proxy, "reload")
        assert done.returncode == 0, done.stderr
        assert "restart" not in done.stdout
        for name in values:
            known = self.loaded.get(name) == values[name]
            assert known or f"{name} " in done.stdout, done.stdout
        self.loaded = values
        return done.stdout

    def connect(self, app: str = "", host: str = "127.0.0.1") -> raw.Connection:
        to = socket.create_connection((host, self.base["net.port"]))
        connection = self.stack.enter_context(raw.Connection(to))
        client = {"client": {"application": {"name": app}}} if app else {}
        assert connection.ask({"hello": 1, **client}, db="admin")["ok"] == 1
        return connection

    def rows(self, collection: str) -> list[dict]:
        return list(self.client.weir[collection].find())

    def server(self) -> dict:
        return next(row for row in self.rows("servers") if row["kind"] != "unknown")


class Holding:
    """Scripts the stub: keeps what has the comment "hold" until it is let go."""

    def __init__(self, stub: StubServer):
        self.asked: list[dict] = []
        self.held: list[Asked] = []
        self.is_over = False
        self._lock = threading.Lock()
        stub.script = self._take

    def _take(self, asked: Asked) -> None:
        with self._lock:
            self.asked.append(asked.document)
            if asked.document.get("comment") == "hold" and not self.is_over:
                self.held.append(asked)
                return
        if "find" in asked.document:
            cursor = {"id": 0, "ns": "test.things", "firstBatch": []}
            asked.connection.send(asked.answer({"ok": 1.0, "cursor": cursor}))
        else:
            asked.connection.send(asked.fine())

    def let_go(self, *, is_over: bool = False) -> None:
        """All that it has; with is_over also all that still comes."""
        with self._lock:
            self.is_over = is_over
            going, self.held = self.held, []
        for asked in going:
            with contextlib.suppress(OSError):
                asked.connection.send(asked.fine())


BASE = {
    "upstream.maxConnections": CAP,
    "admission.limit": "fixed",
    "admission.slowShare": 1,
    "admission.maxWait": "30s",
    "admission.killAbandonedAfter": 0,
    "emergency.maxWait": "30s",
    "emergency.killAfter": 0,
}


@pytest.fixture(scope="module")
def one_server(tmp_path_factory):
    with StubServer() as stub, contextlib.ExitStack() as stack:
        yield Bench(stub, tmp_path_factory.mktemp("one"), stack, BASE)


@pytest.fixture
def bench(one_server):
    """With a standalone that holds what it is asked to hold."""
    with contextlib.ExitStack() as stack:
        one_server.stack = stack
        one_server.holding = Holding(one_server.stub)
        one_server.stub.is_mute = False
        one_server.load({})
        for _ in range(3):  # so that weir knows the shape, and does not take it for a new one
            one_server.connect().ask({"ping": 1})
        yield one_server
        one_server.holding.let_go(is_over=True)
        ctl(one_server.proxy, "emergency", "off")
    one_server.proxy.wait_until_at_rest(clients=10)


@pytest.fixture(scope="module")
def replica_set(tmp_path_factory):
    with StubSet(members=1) as stub, contextlib.ExitStack() as stack:
        base = {"upstream.maxConnections": 100, "admission.killAbandonedAfter": 0}
        yield Bench(stub, tmp_path_factory.mktemp("set"), stack, base)


@pytest.fixture
def members(replica_set):
    """With a replica set that has cursors, transactions and killOp; and an adaptive limit."""
    with contextlib.ExitStack() as stack:
        replica_set.stack = stack
        replica_set.load({})
        yield replica_set
        replica_set.stub.heal()
        replica_set.stub.forget()
        ctl(replica_set.proxy, "emergency", "off")


def hold(bench: Bench, count: int, held: int | None = None) -> list:
    """Asks so often for what is held; so many of them come to the server."""
    asked = []
    for _ in range(count):
        connection = bench.connect()
        asked.append((connection, connection.post({"ping": 1, "comment": "hold"})))
    wait_for_held(bench, count if held is None else held)
    return asked


def wait_for_held(bench: Bench, count: int) -> None:
    wait_until(lambda: len(bench.holding.held) >= count)
    assert len(bench.holding.held) == count


def post(bench: Bench, app: str = "", **more) -> tuple[raw.Connection, int]:
    connection = bench.connect(app)
    return connection, connection.post({"ping": 1, **more})


def wait_until_queued(bench: Bench, count: int) -> None:
    wait_until(lambda: bench.proxy.state()["queued"] == count)


def ask(bench: Bench) -> dict:
    return bench.connect().ask({"ping": 1})


# --- upstream -----------------------------------------------------------------------------------


@effect("upstream.uri")  # other users, passwords, servers: test_reload_uri.py
def test_uri(members):
    members.load({"upstream.uri": f"{members.stub.uri}&appName=other"})

    def connects_as(name: str) -> bool:
        members.stub.cut("weir")
        members.client.test.things.find_one()
        hellos = members.stub.asked("isMaster", driver="weir")
        return hellos[-1].body["client"]["application"]["name"] == name

    wait_until(lambda: connects_as("other"))


@effect("upstream.maxConnections")
def test_max_connections(bench):
    hold(bench, CAP + 2, held=CAP)
    bench.load({"upstream.maxConnections": CAP + 2})
    wait_for_held(bench, CAP + 2)


@effect("upstream.maxTotalConnections")
def test_max_total_connections(bench):
    hold(bench, CAP)
    bench.holding.let_go()
    bench.load({"upstream.maxTotalConnections": 2})
    wait_until(lambda: bench.proxy.state()["upstreams_open"] == 2)
    hold(bench, 3, held=2)
    bench.load({"upstream.maxTotalConnections": 3})
    wait_for_held(bench, 3)


@effect("upstream.connectTimeout")
def test_connect_timeout(bench):
    hold(bench, CAP)
    before = bench.proxy.count("upstream_down")
    bench.stub.is_mute = True
    bench.load({"upstream.connectTimeout": "300ms", "upstream.maxConnections": CAP + 1})
    post(bench)
    wait_until(lambda: bench.proxy.count("upstream_down") > before)
    said = [event for event in bench.proxy.events if event["event"] == "upstream_down"][-1]
    assert said["reason"] == "not ready in time"


@effect("upstream.maxIdleTime")
def test_max_idle_time(bench):
    assert bench.proxy.state()["upstreams_idle"] > 0
    bench.load({"upstream.maxIdleTime": "1ms"})
    wait_until(lambda: bench.proxy.state()["upstreams_idle"] == 0)


@effect("upstream.maxAge")
def test_max_age(bench):
    assert bench.proxy.state()["upstreams_idle"] > 0
    bench.load({"upstream.maxAge": "1ms"})
    wait_until(lambda: bench.proxy.state()["upstreams_idle"] == 0)


@effect("upstream.responseTimeout")
def test_response_timeout(bench):
    asked = hold(bench, CAP)
    bench.load({"upstream.responseTimeout": "300ms"})
    for connection, number in asked:
        assert connection.reply_to(number)["code"] in (6, 91)
    bench.proxy.wait_for("breaker_open")
    bench.holding.let_go()
    wait_until(lambda: ask(bench)["ok"] == 1)


@effect("upstream.serverWait")
def test_server_wait(members):
    nobody = {"find": "things", "$readPreference": {"mode": "secondary"}}
    waiting = members.connect()
    number = waiting.post(nobody)
    wait_until_queued(members, 1)
    members.load({"upstream.serverWait": "10ms"})
    assert members.connect().ask(nobody)["code"] == 133
    assert waiting.reply_to(number)["code"] == 133


@effect("upstream.pinnedShare")
def test_pinned_share(tmp_path):
    with StubSet("load_balanced", 1) as stub, contextlib.ExitStack() as stack:
        bench = Bench(stub, tmp_path, stack, {"upstream.maxConnections": 6})
        bench.client.test.things.insert_many([{"_id": number} for number in range(20)])
        find = {"find": "things", "batchSize": 2}
        connections = [bench.connect() for _ in range(5)]
        assert [connection.ask(find)["ok"] for connection in connections[:4]] == [1, 1, 1, 0]
        bench.load({"upstream.pinnedShare": 0.9})
        assert [connection.ask(find)["ok"] for connection in connections[3:]] == [1, 1]


# --- net ----------------------------------------------------------------------------------------


@effect("net.bindIp")
def test_bind_ip(bench):
    """Whoever came in where weir listens no longer is sent away, and nobody else."""
    other = ("127.0.0.3", bench.base["net.port"])
    stays = bench.connect()
    both = {"net.bindIp": "127.0.0.1,127.0.0.3"}
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(other)
    bench.load(both)
    goes, busy = bench.connect(host="127.0.0.3"), bench.connect(host="127.0.0.3")
    assert goes.ask({"ping": 1})["ok"] == 1
    number = busy.post({"ping": 1, "comment": "hold"})
    wait_for_held(bench, 1)

    taken = socket.create_server(("127.0.0.4", bench.base["net.port"]))
    with taken:  # whole or nothing
        bench.write({"net.bindIp": "127.0.0.1,127.0.0.4", "admission.maxQueue": 7})
        done = ctl(bench.proxy, "reload")
        assert done.returncode == 1 and "127.0.0.4" in done.stderr
        assert goes.ask({"ping": 1})["ok"] == 1
        assert {row["_id"]: row["value"] for row in bench.rows("config")}[
            "admission.maxQueue"
        ] == "10000"

    bench.write({"drain.within": "2s"})
    assert ctl(bench.proxy, "reload").returncode == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(other)
    assert goes.is_ended()
    bench.holding.let_go()
    assert busy.reply_to(number)["ok"] == 1
    assert busy.is_ended()
    assert stays.ask({"ping": 1})["ok"] == 1


@effect("net.unixSocket")
def test_unix_socket(bench):
    path = bench.directory / "weir.sock"
    bench.load({"net.unixSocket": str(path)})
    with socket.socket(socket.AF_UNIX) as stream:
        stream.connect(str(path))
        assert raw.Connection(stream).hello()["ok"] == 1
    bench.load({})
    assert not path.exists()


@effect("net.maxIncomingConnections")
def test_max_incoming_connections(bench):
    bench.load({"net.maxIncomingConnections": 40})  # and as many without a place as 10
    connections = [bench.connect() for _ in range(40)]
    assert ask(bench)["code"] == 462  # the bench's own client has a place, too
    assert connections[0].ask({"ping": 1})["ok"] == 1
    bench.load({"net.maxIncomingConnections": 1000})
    assert ask(bench)["ok"] == 1


@effect("net.handshakeTimeout")
def test_handshake_timeout(bench):
    bench.load({"net.handshakeTimeout": "10m"})
    silent = bench.stack.enter_context(raw.Connection.to(bench.proxy.address))
    bench.load({"net.handshakeTimeout": "200ms"})
    assert silent.is_ended()


@effect("net.messageTimeout")
def test_message_timeout(bench):
    slow = bench.connect()
    slow.send(raw.header(100))
    bench.load({"net.messageTimeout": "200ms"})
    assert slow.is_ended()


@effect("net.maxBufferedBytes")
def test_max_buffered_bytes(bench):
    bench.load({"net.maxBufferedBytes": "200MB"})
    assert bench.rows("totals")[0]["bufferedMax"] == 200 << 20


@effect("net.compression.compressors")
def test_compressors(bench):
    hello = {"hello": 1, "compression": ["zlib", "snappy"]}
    bench.load({"net.compression.compressors": "zlib"})
    assert bench.connect().ask(hello, db="admin")["compression"] == ["zlib"]
    bench.load({"net.compression.compressors": "snappy"})
    assert bench.connect().ask(hello, db="admin")["compression"] == ["snappy"]


def greet_by_tls(bench: Bench, certificate: str | None = None) -> dict:
    context = ssl.create_default_context(cafile=CERTIFICATES / "ca.pem")
    if certificate:
        context.load_cert_chain(CERTIFICATES / certificate)
    with (
        socket.create_connection(bench.proxy.address, 10) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as stream,
    ):
        return raw.Connection(stream).hello()


@effect("net.tls.mode", "net.tls.certificateKeyFile")
def test_tls(bench):
    former = bench.connect()
    with pytest.raises(OSError):
        greet_by_tls(bench)
    bench.load(TLS)
    assert greet_by_tls(bench)["ok"] == 1 and ask(bench)["ok"] == 1
    bench.load({**TLS, "net.tls.mode": "requireTLS"})
    assert greet_by_tls(bench)["ok"] == 1
    with raw.Connection.to(bench.proxy.address) as plain, pytest.raises(AssertionError):
        plain.hello()
    assert former.ask({"ping": 1})["ok"] == 1
    bench.load({})
    with pytest.raises(OSError):
        greet_by_tls(bench)


@effect("net.tls.CAFile", "net.tls.CRLFile", "net.tls.allowConnectionsWithoutCertificates")
def test_client_certificates(bench):
    refused = pytest.raises((OSError, AssertionError))
    bench.load(TLS)
    assert greet_by_tls(bench)["ok"] == 1
    bound = {**TLS, "net.tls.CAFile": str(CERTIFICATES / "ca.pem")}
    bench.load(bound)
    assert greet_by_tls(bench, "client.pem")["ok"] == 1
    with refused:
        greet_by_tls(bench)
    bench.load({**bound, "net.tls.allowConnectionsWithoutCertificates": True})
    assert greet_by_tls(bench)["ok"] == 1
    bench.load({**bound, "net.tls.CRLFile": str(revoke(CERTIFICATES, bench.directory))})
    with refused:
        greet_by_tls(bench, "client.pem")


# --- admission ----------------------------------------------------------------------------------


@effect("admission.maxWait")
def test_max_wait(bench):
    hold(bench, CAP)
    waiting = post(bench)
    wait_until_queued(bench, 1)
    bench.load({"admission.maxWait": "10ms"})
    assert ask(bench)["code"] == 462
    bench.holding.let_go()
    assert waiting[0].reply_to(waiting[1])["ok"] == 1  # waited as long as it was told


@effect("admission.maxQueue")
def test_max_queue(bench):
    bench.load({"admission.maxQueue": 1})
    hold(bench, CAP)
    post(bench)
    wait_until_queued(bench, 1)
    assert ask(bench)["code"] == 462
    bench.load({"admission.maxQueue": 2})
    post(bench)
    wait_until_queued(bench, 2)


def max_time_of_find(bench: Bench, **more) -> int | None:
    bench.connect().ask({"find": "things", "comment": "timed", **more})
    return [one for one in bench.holding.asked if one.get("comment") == "timed"][-1].get("maxTimeMS")


@effect("admission.maxTimeLimit", "admission.maxTimeDefault")
def test_max_time(bench):
    assert max_time_of_find(bench) is None
    bench.load({"admission.maxTimeDefault": "1h"})
    assert 3_500_000 < max_time_of_find(bench) <= 3_600_000
    bench.load({"admission.maxTimeLimit": "2h"})
    assert 7_000_000 < max_time_of_find(bench, maxTimeMS=9_000_000) <= 7_200_000


@effect("admission.limit", "admission.minLimit")
def test_limit(members):
    assert members.server()["limit"] < 50
    members.load({"admission.minLimit": 50})
    assert members.server()["limit"] == 50
    members.load({"admission.limit": "fixed"})
    assert members.server()["limit"] == 100


@effect("admission.tenantBy")
def test_tenant_by(bench):
    tenants = lambda: {row["tenant"] for row in bench.rows("tenants")}  # noqa: E731
    bench.load({"admission.tenantBy": "address"})
    bench.connect("by address").ask({"ping": 1})
    bench.load({})
    bench.connect("by app").ask({"ping": 1})
    assert "by app" in tenants() and "by address" not in tenants()


@effect("admission.tenantWeights")
def test_tenant_weights(bench):
    """Also of those who are connected already."""
    bench.load({"upstream.maxConnections": 1})
    heavy = [bench.connect("heavy") for _ in range(4)]
    light = [bench.connect("light") for _ in range(4)]
    bench.load({"upstream.maxConnections": 1, "admission.tenantWeights": "heavy=1000"})
    hold(bench, 1)
    for number, connection in enumerate(light + heavy, 1):
        connection.post({"ping": 1, "comment": "hold", "of": connection in heavy})
        wait_until_queued(bench, number)
    order = []
    for _ in range(1 + len(light + heavy)):
        wait_for_held(bench, 1)
        order.append(bench.holding.held[0].document.get("of"))
        bench.holding.let_go()
    assert order[1:].index(True) <= 1 and all(order[2:5])


@effect("admission.slowShare")
def test_slow_share(bench):
    quick = {"operationProfiling.slowOpThreshold": "1ms"}
    bench.load(quick)
    for _ in range(20):  # weir learns that they are slow
        hold(bench, 1)
        threading.Event().wait(0.01)
        bench.holding.let_go()
    wait_until(lambda: any(row["slow"] for row in bench.rows("shapes")))
    bench.load({**quick, "admission.slowShare": 0.25})
    hold(bench, CAP, held=1)
    bench.load({**quick, "admission.slowShare": 0.5})
    wait_for_held(bench, 2)


@effect("admission.streamShare")
def test_stream_share(bench):
    def script(asked: Asked) -> None:
        if "getMore" in asked.document:
            bench.holding.held.append(asked)
            return
        cursor = {"id": 4711, "ns": "test.things", "firstBatch": []}
        asked.connection.send(asked.answer({"ok": 1.0, "cursor": cursor}))

    bench.load({"admission.streamShare": 0.25})
    bench.stub.script = script  # weir takes leave of the cursors when their clients go
    for _ in range(3):
        connection = bench.connect()
        find = {"find": "things", "tailable": True, "awaitData": True}
        cursor = connection.ask(find)["cursor"]["id"]
        connection.post({"getMore": cursor, "collection": "things"})
    wait_for_held(bench, 1)
    bench.load({"admission.streamShare": 0.75})
    wait_for_held(bench, 3)


@effect("admission.killAfter")
def test_kill_after(members):
    members.stub.fail("find", delay_s=60)
    members.load({"admission.killAfter": "300ms"})
    with pytest.raises(OperationFailure) as failure:
        members.client.test.things.find_one()
    assert failure.value.code == 11601
    members.proxy.wait_for("killed", why="admission.killAfter")


@effect("admission.killAbandonedAfter")
def test_kill_abandoned_after(members):
    slow = members.stub.fail("find", delay_s=60)
    connection = members.connect()
    connection.post({"find": "things"})
    wait_until(lambda: slow.delayed == 1)
    connection.stream.close()
    members.load({"admission.killAbandonedAfter": "100ms"})
    wait_until(lambda: slow.delayed == 0)


def fill(members: Bench) -> None:
    things = members.client.test.things
    things.delete_many({})
    things.insert_many({"_id": number} for number in range(10))


@effect("admission.idleCursorAfter", "admission.killIdle")
def test_idle_cursors(members):
    fill(members)
    cursor = members.client.test.things.find(batch_size=2)
    next(cursor)
    limits = {"admission.idleCursorAfter": "200ms"}
    members.load(limits)
    members.proxy.wait_for("leak", kind="cursor", killed="false")
    assert len(list(cursor)) == 9
    members.load({**limits, "admission.killIdle": True})
    another = members.client.test.things.find(batch_size=2)
    next(another)
    wait_until(lambda: not len(members.stub.members[0].cursors))


@effect("admission.idleTransactionAfter")
def test_idle_transactions(members):
    fill(members)
    with members.client.start_session() as session:
        session.start_transaction()
        members.client.test.things.update_one({"_id": 1}, {"$set": {"n": 1}}, session=session)
        members.load({"admission.idleTransactionAfter": "200ms"})
        members.proxy.wait_for("leak", kind="transaction")
        session.commit_transaction()


@effect("operationProfiling.slowOpThreshold")
def test_slow_op_threshold(bench):
    bench.load({"operationProfiling.slowOpThreshold": "1h"})
    before = bench.proxy.count("slow_operation")
    hold(bench, 1)
    threading.Event().wait(0.01)
    bench.load({"operationProfiling.slowOpThreshold": "10ms"})
    bench.holding.let_go()
    wait_until(lambda: bench.proxy.count("slow_operation") > before)


# --- emergency ----------------------------------------------------------------------------------


@effect("emergency.share")
def test_emergency_share(bench):
    bench.proxy.order("emergency", "on")
    wait_until(lambda: bench.server()["cap"] == CAP // 2)
    bench.load({"emergency.share": 0.75})
    wait_until(lambda: bench.server()["cap"] == 3)


@effect("emergency.maxWait")
def test_emergency_max_wait(bench):
    bench.proxy.order("emergency", "on")
    hold(bench, CAP // 2)
    post(bench)
    wait_until_queued(bench, 1)
    bench.load({"emergency.maxWait": "10ms"})
    assert ask(bench)["code"] == 462


@effect("emergency.maxTime")
def test_emergency_max_time(bench):
    bench.proxy.order("emergency", "on")
    assert max_time_of_find(bench) <= 5000
    bench.load({"emergency.maxTime": "1h"})
    assert max_time_of_find(bench) > 3_500_000


@effect("emergency.killAfter")
def test_emergency_kill_after(members):
    members.proxy.order("emergency", "on")
    slow = members.stub.fail("find", delay_s=60)
    members.load({"emergency.killAfter": "300ms"})
    assert members.connect().ask({"find": "things"})["code"] == 11601
    assert slow.delayed == 0


# --- weir itself --------------------------------------------------------------------------------


@effect("drain.within")
def test_drain_within(tmp_path):
    with StubServer() as stub, contextlib.ExitStack() as stack:
        bench = Bench(stub, tmp_path, stack, {})
        bench.load({"drain.within": "400ms"})
        bench.proxy.order("drain")
        assert int(bench.proxy.wait_for("draining")["left_ms"]) <= 400


@effect("reload.onChange")
def test_on_change(bench):
    bench.load({"reload.onChange": True})
    bench.file.write_text("upstream: {nonsense: 1}\n")
    bench.proxy.wait_for("reload_refused")
    bench.write({"reload.onChange": True, "admission.maxQueue": 4711})
    bench.proxy.wait_for("setting_changed", name="admission.maxQueue", to="4711")


@effect("events.path")
def test_events_path(bench):
    place = bench.directory / "events"
    place.mkdir(exist_ok=True)
    bench.load({"events.path": str(place), "admission.maxWait": "1ms"})
    hold(bench, CAP)
    assert ask(bench)["code"] == 462
    bench.holding.let_go()
    wait_until(lambda: list(place.glob("*.json")), within=30)


@effect("events.webhook", "events.webhookCAFile")
def test_webhook(bench):
    with Receiver() as receiver:
        trust = {"events.webhookCAFile": str(CERTIFICATES / "ca.pem")}
        bench.load({"events.webhook": receiver.url, **trust, "admission.maxWait": "1ms"})
        hold(bench, CAP)
        assert ask(bench)["code"] == 462
        bench.holding.let_go()
        receiver.wait_for(2)
        bench.load({})


def status(address: tuple[str, int], host: str = "localhost") -> int:
    with contextlib.closing(http.client.HTTPConnection(*address, timeout=10)) as connection:
        connection.request("GET", "/healthz", headers={"Host": host})
        return connection.getresponse().status


@effect("http.port", "http.bindIp")
def test_http(bench):
    """From none to one and on to others; one that cannot be had changes nothing."""
    first, second = servers.free_port(), servers.free_port()
    bench.load({"http.port": first})
    assert status(("127.0.0.1", first)) == 200
    bench.load({"http.port": second, "http.bindIp": "127.0.0.2"})
    assert status(("127.0.0.2", second)) == 200
    with pytest.raises(ConnectionRefusedError):
        status(("127.0.0.1", first))
    bench.write({"http.port": bench.base["net.port"]})
    assert "http.port" in ctl(bench.proxy, "reload").stderr
    assert status(("127.0.0.2", second)) == 200
    bench.load({})
    with pytest.raises(ConnectionRefusedError):
        status(("127.0.0.2", second))


@effect("http.hosts")
def test_http_hosts(bench):
    address = ("127.0.0.1", servers.free_port())
    bench.load({"http.port": address[1]})
    assert status(address, "weir.internal") == 421
    bench.load({"http.port": address[1], "http.hosts": "weir.internal"})
    assert status(address, "weir.internal") == 200


@effect("log.metrics")
def test_log_metrics(bench):
    before = bench.proxy.count("metrics")
    bench.load({"log.metrics": "200ms"})
    wait_until(lambda: bench.proxy.count("metrics") > before)


@effect("systemLog.format")
def test_log_format(bench):
    said = len(bench.proxy.lines)
    bench.load({"systemLog.format": "json"})
    wait_until(lambda: any(line.startswith("{") for line in bench.proxy.lines[said:]))
    said = len(bench.proxy.lines)
    bench.load({})
    wait_until(lambda: any(line.startswith("ts=") for line in bench.proxy.lines[said:]))


# --- all of them --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", UNSEEN)
def test_what_only_the_configuration_says(bench, name):
    former, value = UNSEEN[name]
    assert f"{name} {former} -> {value}" in bench.load({name: value})
    assert {"_id": name, "value": str(value)} in bench.rows("config")


def test_each_reloadable_setting_is_shown_here():
    reloadable = {name for name, is_so in reference().items() if is_so}
    assert EFFECTS.keys() | UNSEEN.keys() == reloadable
