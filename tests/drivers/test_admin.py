# SPDX-License-Identifier: Apache-2.0
"""What people and machines look at: the database `weir`, and HTTP."""

from __future__ import annotations

import calendar
import contextlib
import json
import re
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request

import bson
import pymongo
import pytest
import raw
import servers
import weir
from drivers import DRIVERS
from pymongo.errors import OperationFailure
from test_shedding import ALL_MAY_BE_HELD, overload

CAP = 2
HTTP_TIMEOUT_S = 10  # of weir, for a connection on which nothing moves
HOSTILE = [
    'a"b', "a\\", "a\nb 1", '"} 1\nevil 2', "\x1b[2J\x01", "café 🦫", "</script><img src=x>",
    "{{7*7}}${jndi:ldap://x}", "' OR 1=1 --", "%s%n%p", "../../etc/passwd", "\u202eabc", "=1+1",
]  # fmt: skip


class Observed(weir.Weir):
    """A weir with HTTP."""

    def __init__(self, uri: str, *arguments: str, **more: object):
        self.http_port = servers.free_port()
        super().__init__(uri, "--http-port", str(self.http_port), *arguments, **more)

    def get(self, path: str, timeout: float = servers.HANG_S) -> bytes:
        url = f"http://{self.host}:{self.http_port}{path}"
        with urllib.request.urlopen(url, timeout=timeout) as reply:
            return reply.read()

    def status(self, path: str, **request: object) -> int:
        url = f"http://{self.host}:{self.http_port}{path}"
        try:
            with urllib.request.urlopen(urllib.request.Request(url, **request), timeout=60) as reply:
                return reply.status
        except urllib.error.HTTPError as error:
            return error.code

    def metrics(self) -> dict[str, float]:
        """Of each line that is no comment, what stands before the last space, and the value."""
        lines = self.get("/metrics").decode().split("\n")
        pairs = [line.rpartition(" ") for line in lines if line and not line.startswith("# ")]
        return {name: float(value) for name, _, value in pairs}


@pytest.fixture(scope="module")
def proxy(secantus):
    with Observed(secantus.uri, *ALL_MAY_BE_HELD, cap=CAP, unix=True) as proxy:
        yield proxy


@pytest.fixture
def database(proxy):
    with pymongo.MongoClient(proxy.uri, appName="reader") as client:
        yield client.weir


def wait_until(true: object, what: str, timeout: float = servers.HANG_S) -> None:
    deadline = time.monotonic() + timeout
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def check_metrics(text: bytes) -> None:
    if not shutil.which("promtool"):
        pytest.skip("no promtool on PATH")
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b""), done


def one(database, server: servers.Server) -> dict:
    """The document of the server."""
    return database.servers.find_one({"_id": f"{server.host}:{server.port}"})


# --- the database weir ----------------------------------------------------------------------------


def test_every_collection_has_the_fields_that_help_names(database, secantus, proxy):
    others = pymongo.MongoClient(proxy.uri).test
    others.many.insert_many({"_id": i} for i in range(10))
    cursor = others.many.find(batch_size=2)
    next(cursor)
    described = database.command("help")["collections"]
    assert sorted(described) == sorted(database.list_collection_names())
    for name, fields in described.items():
        wanted = [field for field in fields if field != "(document)"]
        documents = list(database[name].find())
        assert documents or name in ("exhaustions", "fleet", "transactions", "rules"), name
        for document in documents:
            assert list(document) == wanted
        identities = [document["_id"] for document in documents]
        assert len(set(identities)) == len(identities), name
    others.client.close()


def test_it_tells_what_is_so(database, secantus, proxy):
    before = one(database, secantus)
    with pymongo.MongoClient(proxy.uri, appName="worker-7") as client:
        client.test.told.insert_one({"a": 1})
        for _ in range(5):
            client.test.told.find_one({"a": {"$gt": 0}}, sort=[("b", 1)])
        after = one(database, secantus)
        # weir's own may be among them: what an earlier client has left open is closed.
        assert after["granted"] - before["granted"] >= 6
        assert (after["cap"], after["usable"], after["waiting"]) == (CAP, True, 0)
        shape = database.shapes.find_one({"shape": "find test.told {a:{$gt}} sort{b} limit"})
        assert (shape["requests"], shape["slow"], shape["now"]) == (5, False, 0)
        assert 0 < shape["held"] < 60
        assert database.clients.count_documents({"app": "worker-7", "state": "idle"}) >= 1
    wait_until(lambda: database.clients.count_documents({"app": "worker-7"}) == 0, "still there")


def test_node_reads_it(proxy, secantus):
    driver = DRIVERS["node"] if not DRIVERS["node"].why_not() else DRIVERS["node-6"]
    if driver.why_not():
        pytest.skip(driver.why_not())
    process = driver.start("weir_database", proxy.uri, secantus.features)
    said = process.communicate(timeout=60)[0]
    seen = json.loads(said.splitlines()[-1])
    assert {"servers", "clients", "requests", "config"} <= set(seen["names"])
    assert seen["mine"] >= 1
    assert len(seen["byBatches"]) == seen["settings"] > 20
    assert seen["byBatches"] == sorted(seen["byBatches"], reverse=True)
    assert seen["one"] == {"_id": "upstream.maxConnections", "value": str(CAP)}
    assert seen["projected"] == [{"value": str(proxy.port)}]
    assert seen["refused"] == 115


def test_it_is_read_while_all_permits_are_held(database, secantus, proxy):
    with overload(secantus, proxy):
        held = list(database.requests.find({"held": {"$gt": 0}}))
        server = one(database, secantus)
        assert proxy.status("/metrics") == 200
    assert len(held) == CAP
    for request in held:
        assert (request["command"], request["state"]) == ("count", "served")
        assert re.fullmatch(r"count test\.slow\d+ \{owner\}", request["shape"])
        assert "kanarienvogel" not in str(request)
        assert database.upstreams.find_one({"_id": request["upstream"]})
    assert (server["inFlight"], server["exhausted"]) == (CAP, True)
    assert server["refused"]["max_wait"] > 0


def test_open_cursors_and_who_has_them(database, secantus, proxy):
    secantus.client().test.pinned.insert_many({} for _ in range(10))
    with pymongo.MongoClient(proxy.uri, appName="holder") as client:
        cursor = client.test.pinned.find(batch_size=2)
        next(cursor)
        seen = database.cursors.find_one({"cursor": cursor.cursor_id})
        assert (seen["ns"], seen["streams"]) == ("test.pinned", False)
        assert database.clients.find_one({"_id": seen["client"]})["app"] == "holder"
        cursor.close()
        assert not database.cursors.find_one({"cursor": seen["cursor"]})


def ask_as(proxy, app: str, command: dict) -> dict:
    """The reply to one command of an app, on a connection of its own."""
    with raw.Connection.to(proxy.address) as connection:
        assert connection.ask({"hello": 1, "client": {"application": {"name": app}}}, db="admin")["ok"]
        return connection.ask(command)


def test_what_a_tenant_uses(database, secantus, proxy):
    for _ in range(5):
        assert ask_as(proxy, "shop", {"find": "told"})["ok"] == 1
    with overload(secantus, proxy):
        assert ask_as(proxy, "shop", {"find": "told"})["ok"] == 0
        seen = list(database.tenants.find({"server": f"{secantus.host}:{secantus.port}"}))
        metrics = proxy.metrics()
    shop = next(each for each in seen if each["tenant"] == "shop")
    assert (shop["inFlight"], shop["waiting"], shop["served"], shop["shed"]) == (0, 0, 5, 1)
    assert 0 < shop["held"] < 60
    assert sum(each["inFlight"] for each in seen) == CAP
    labels = f'{{server="{shop["server"]}",tenant="shop"}}'
    assert metrics["weir_tenant_requests_served_total" + labels] == 5
    assert metrics["weir_tenant_requests_shed_total" + labels] == 1
    assert metrics["weir_tenant_held_seconds_total" + labels] == shop["held"]
    busy = {"$or": [{"inFlight": {"$ne": 0}}, {"waiting": {"$ne": 0}}]}
    wait_until(lambda: not database.tenants.find_one(busy), "they are still under way")


def test_there_is_an_end_of_tenants(secantus):
    """A name that each request makes up takes no place of one that is there, and nothing is lost."""
    with Observed(secantus.uri) as proxy:
        assert ask_as(proxy, "other", {"find": "told"})["ok"] == 1
        assert ask_as(proxy, "shop", {"find": "told"})["ok"] == 1
        for i in range(400):
            assert ask_as(proxy, f"made up {i}", {"find": "told"})["ok"] == 1
        assert ask_as(proxy, "shop", {"find": "told"})["ok"] == 1
        state = json.loads(proxy.get("/state"))
        metrics = proxy.get("/metrics")
    server = f"{secantus.host}:{secantus.port}"
    served = {each["tenant"]: each["served"] for each in state["tenants"] if each["server"] == server}
    names = len(re.findall(rb"^weir_tenant_requests_served_total.*tenant=", metrics, re.M))
    assert names == len(state["tenants"])
    assert 100 < len(served) <= 129
    assert served["shop"] == 2
    assert served["other"] > 250
    assert sum(served.values()) == 403
    check_metrics(metrics)


def test_rules_in_force(database, proxy):
    about_closed = ["--namespace", "test.closed", "--deny", "--why", "it is closed"]
    number = str(proxy.order("rule", "add", *about_closed)["id"])
    with raw.Connection.to(proxy.address) as connection:
        assert connection.ask({"find": "closed"})["ok"] == 0
    rule = database.rules.find_one({"_id": number})
    assert (rule["why"], rule["dryRun"], rule["hits"], rule["refused"]) == ("it is closed", False, 1, 1)
    assert proxy.metrics()[f'weir_rule_refused_total{{rule="{number}"}}'] == 1
    check_metrics(proxy.get("/metrics"))
    proxy.order("rule", "remove", number)
    assert not database.rules.find_one()
    assert database.totals.find_one()["emergency"] is False
    proxy.order("emergency", "on", "--why", "a test")
    assert database.totals.find_one()["emergency"] is True
    proxy.order("emergency", "off")


def test_secrets_are_not_told(secantus, proxy):
    plain = f"mongodb://{secantus.host}:{secantus.port}/?appName=x"
    secret = "tlsCertificateKeyFilePassword=grosses-geheimnis"
    with Observed(f"{plain}&{secret}") as other, pymongo.MongoClient(other.uri) as client:
        everything = str(list(client.weir.config.find())).encode() + other.get("/state")
    assert b"appName=x" in everything
    assert b"geheimnis" not in everything


def test_a_cursor_goes_with_its_client(proxy):
    with raw.Connection.to(proxy.address) as first:
        opened = first.ask({"find": "config", "batchSize": 1}, db="weir")["cursor"]
        more = {"getMore": opened["id"], "collection": "config", "batchSize": 1}
        with raw.Connection.to(proxy.address) as second:
            assert second.ask(more, db="weir")["ok"] == 1  # as a driver's pool does
            assert first.ask({"ping": 1}, db="weir")["ok"] == 1
        wait_until(lambda: first.ask(more, db="weir").get("code") == 43, "the cursor lives on")


def test_who_leaves_before_the_answer_disturbs_nobody(proxy, database):
    for _ in range(200):
        with raw.Connection.to(proxy.address) as connection:
            connection.post({"find": "clients", "batchSize": 0}, db="weir")
    assert database.command("ping")["ok"] == 1
    proxy.wait_until_at_rest(clients=4)


def test_bad_commands(proxy):
    with raw.Connection.to(proxy.address) as connection:
        for command, code in (
            ({"insert": "config", "documents": [{}]}, 115),
            ({"find": "config", "filter": {"value": {"$regex": "x"}}}, 2),
            ({"find": "config", "filter": {"x": "y" * 20000}}, 2),
            ({"find": "nope"}, 26),
            ({"find": bson.Regex("x")}, 2),
            ({"getMore": bson.Int64(7), "collection": "config"}, 43),
            ({"a" * 5000: 1}, 115),
            ({"": 1}, 115),
        ):
            reply = connection.ask(command, db="weir")
            assert (reply["ok"], reply["code"]) == (0, code), command
        connection.post({"find": "config"}, db="weir", flags=raw.MORE_TO_COME)
        assert connection.ask({"ping": 1}, db="weir")["ok"] == 1  # in step
        assert connection.ask({"ping": 1}, db="weirder")["ok"] == 1  # the server's


def test_the_unix_socket(proxy):
    with pymongo.MongoClient(proxy.unix_uri) as client:
        assert client.weir.clients.count_documents({"peer": "unix"}) >= 1


def own_address() -> str | None:
    """An address of this machine that is not loopback."""
    with contextlib.suppress(OSError), socket.socket(type=socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing
        return probe.getsockname()[0]
    return None


def test_from_elsewhere_it_cannot_be_read(secantus):
    address = own_address()
    if not address or address.startswith("127."):
        pytest.skip("this machine has no address but loopback")
    with weir.Weir(secantus.uri, "--allow-remote-without-auth", host=address) as proxy:
        with raw.Connection.to(proxy.address) as connection:
            assert connection.ask({"ping": 1})["ok"] == 1
            for command in ({"find": "clients"}, {"help": 1}, {"listCollections": 1}):
                assert connection.ask(command, db="weir")["code"] == 13


# --- HTTP -----------------------------------------------------------------------------------------


def test_metrics_are_what_prometheus_reads(proxy):
    check_metrics(proxy.get("/metrics"))


def test_metrics_count(secantus, proxy):
    server = f'{{server="{secantus.host}:{secantus.port}"}}'
    reads = server.replace("}", ',class="read"}')
    with pymongo.MongoClient(proxy.uri) as client:
        before = proxy.metrics()
        for _ in range(7):
            client.test.told.find_one()
        after = proxy.metrics()
    for name in ("weir_request_wait_seconds_count", "weir_request_duration_seconds_count"):
        assert after[name + reads] - before[name + reads] == 7
    granted = "weir_server_requests_granted_total" + server
    assert after[granted] - before[granted] >= 7  # weir may have asked, as above
    assert after["weir_server_connections_max" + server] == CAP
    bucket = f'weir_request_service_seconds_bucket{reads[:-1]},le="+Inf"}}'
    assert after[bucket] == after["weir_request_service_seconds_count" + reads]


def test_state_says_what_the_database_says(proxy, database):
    state = json.loads(proxy.get("/state"))
    assert sorted([*state, "log"]) == sorted(database.list_collection_names())
    assert state["config"] == list(database.config.find())
    found = list(database.servers.find())
    later = json.loads(proxy.get("/state"))["servers"]
    for before, between, after in zip(state["servers"], found, later, strict=True):
        for name in ("_id", "cap", "kind"):
            assert before[name] == between[name] == after[name]
        for name in ("granted", "opened"):  # weir itself may ask, of what an earlier test has left
            assert before[name] <= between[name] <= after[name]


def test_the_log_is_what_was_written(proxy, database):
    written = list(proxy.events)
    lines = list(database.log.find({"_id": {"$lte": len(written)}}))
    assert lines
    for line in lines:
        told = written[line["_id"] - 1]
        fields = {name: value for name, value in told.items() if name not in ("ts", "level", "event")}
        assert (line["level"], line["event"]) == (told["level"], told["event"])
        assert line["fields"].keys() == fields.keys()
    listening = database.log.find_one({"event": "http_listening"})
    assert listening["fields"]["address"] == proxy.wait_for("http_listening")["address"]
    assert database.log.count_documents({"time": {"$gt": listening["time"]}}) > 0


def test_paths_and_methods(proxy):
    assert proxy.get("/healthz") == b"alive\n"
    assert proxy.get("/readyz") == b"ready\n"
    assert proxy.status("/nope") == 404
    assert proxy.status("/metrics/../../etc/passwd") == 404
    assert proxy.status("/metrics", method="POST", data=b"x" * 1000000) == 405
    assert proxy.status("/state", method="HEAD") == 200
    assert proxy.status("/metrics", headers={"X": "y" * 20000}) in (413, 431)


HOSTS = {
    "127.0.0.1": 200, "127.0.0.1:1": 200, "[::1]": 200, "[::1]:27080": 200, "192.0.2.7": 200,
    "localhost": 200, "LocalHost:27080": 200, "weir.internal": 200, "weir.internal:80": 200,
    "evil.example": 421, "evil.example:27080": 421, "localhost.evil.example": 421,
    "127.0.0.1.evil.example": 421, "evil.example:127.0.0.1": 421, "[evil.example]": 421,
    "127.0.0.1@evil.example": 421, "": 421, ":27080": 421, "[::1": 421, "x" * 300: 421,
}  # fmt: skip


def test_no_name_of_others_leads_here(secantus):
    """Or a page from elsewhere would read, in a browser here, all that is told."""
    with Observed(secantus.uri, "--http-hosts", "weir.internal,other.internal") as proxy:
        for path in ("/", "/state", "/metrics", "/healthz", "/events", "/nope"):
            assert proxy.status(path, headers={"Host": "evil.example"}) == 421, path
        seen = {host: proxy.status("/metrics", headers={"Host": host}) for host in HOSTS}
        assert seen == HOSTS
        with socket.create_connection((proxy.host, proxy.http_port), timeout=60) as connection:
            connection.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
            assert b" 200 " in connection.recv(100)


@pytest.mark.parametrize(
    "sent", [b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", b"\0" * 100, b"GET / HTTP/9.9\r\n\r\n"]
)
def test_what_is_no_http(proxy, sent):
    with socket.create_connection((proxy.host, proxy.http_port), timeout=60) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass
    assert proxy.status("/healthz") == 200


def test_hostile_names(proxy, database):
    """In metrics, JSON and documents, what apps call themselves and their collections is text."""
    with contextlib.ExitStack() as stack:
        for name in [*HOSTILE, b"\xff\xfe\xc3", b"cut in the middle of a letter: 123456789012345\xc3\xa9"]:
            connection = stack.enter_context(raw.Connection.to(proxy.address))
            text = name if isinstance(name, bytes) else name.encode()
            application = b"\x02name\0" + len(text + b"\0").to_bytes(4, "little") + text + b"\0"
            application = (len(application) + 5).to_bytes(4, "little") + application + b"\0"
            client = b"\x03application\0" + application
            client = (len(client) + 5).to_bytes(4, "little") + client + b"\0"
            hello = b"\x10hello\0\x01\0\0\0" + b"\x02$db\0\x06\0\0\0admin\0" + b"\x03client\0" + client
            hello = (len(hello) + 5).to_bytes(4, "little") + hello + b"\0"
            connection.send(raw.op_msg(raw.body(hello)))
            assert connection.receive().document["ok"] == 1
            text = name if isinstance(name, str) else "plain"
            connection.ask({"find": text, "filter": {text: 1}})
        check_metrics(proxy.get("/metrics"))
        apps = {client["app"] for client in database.clients.find()}
        told = {client["app"] for client in json.loads(proxy.get("/state"))["clients"]}
        assert apps == told
        assert set(HOSTILE) <= apps
        assert "\ufffd\ufffd\ufffd" in apps
        assert not database.tenants.find_one({"tenant": "\ufffd\ufffd\ufffd"})  # could be another's
        shapes = [shape["shape"] for shape in database.shapes.find()]
        assert not any(re.search(r"[\x00-\x1f\x7f]", shape) for shape in shapes)


def test_two_hundred_scrapes_at_once(proxy):
    got = []

    def scrape(path: str) -> None:
        got.append(proxy.get(path, timeout=60))

    paths = ["/metrics", "/state", "/readyz", "/healthz"] * 50
    threads = [threading.Thread(target=scrape, args=(path,)) for path in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 200


def test_scrapes_that_never_read(proxy, database):
    """They hold up nobody, and are ended."""
    with contextlib.ExitStack() as stack:
        for _ in range(500):
            connection = raw.Connection.to(proxy.address)
            stack.callback(connection.stream.close)
            connection.hello()
        silent = []
        for _ in range(50):
            connection = socket.socket()
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect((proxy.host, proxy.http_port))
            stack.callback(connection.close)
            connection.sendall(b"GET /state HTTP/1.1\r\nHost: localhost\r\n\r\n" * 50)
            silent.append(connection)
        assert len(json.loads(proxy.get("/state"))["clients"]) >= 500
        assert database.clients.count_documents({}) >= 500
        check_metrics(proxy.get("/metrics"))
        ended = f"established with HTTP {proxy.http_port}"
        others = servers.established_at(proxy.http_port)
        assert others >= len(silent), f"only when some were given up: {others} {ended}"
        wait_until(
            lambda: servers.established_at(proxy.http_port) <= 1, ended, 6 * HTTP_TIMEOUT_S
        )


def test_many_clients_are_all_shown(proxy, database):
    with contextlib.ExitStack() as stack:
        for _ in range(3000):
            connection = stack.enter_context(raw.Connection.to(proxy.address))
            connection.hello()
        assert database.clients.count_documents({}) >= 3000
        shown = [client["_id"] for client in database.clients.find(batch_size=500)]
        assert len(set(shown)) == len(shown) >= 3000


def test_ready_is_whoever_has_a_server(secantus):
    nobody = f"mongodb://127.0.0.1:{servers.free_port()}/"
    with Observed(nobody) as proxy:
        assert proxy.status("/readyz") == 503
        assert proxy.status("/healthz") == 200
        check_metrics(proxy.get("/metrics"))


def test_when_the_certificate_expires(secantus):
    with Observed(secantus.uri, tls=True) as proxy:
        asked = subprocess.run(
            ["openssl", "x509", "-noout", "-enddate", "-dateopt", "iso_8601", "-in",
             proxy.certs / "server.pem"], capture_output=True, text=True, check=True,
        )  # fmt: skip
        said = asked.stdout.strip().removeprefix("notAfter=").rstrip("Z")
        seconds = calendar.timegm(time.strptime(said, "%Y-%m-%d %H:%M:%S"))
        assert proxy.metrics()["weir_tls_certificate_expiry_timestamp_seconds"] == seconds


@pytest.mark.parametrize("format", ["logfmt", "json"])
def test_key_figures_in_the_log(secantus, format):
    with weir.Weir(secantus.uri, "--log-metrics", "100ms", "--log-format", format) as proxy:
        with pymongo.MongoClient(proxy.uri) as client:
            for _ in range(19):
                client.test.told.find_one()
            slow = {"blockConnection": True, "blockTimeMS": 1100}
            with secantus.failing(["find"], {"times": 1}, **slow):
                client.test.told.find_one()
            wait_until(
                lambda: sum(int(line["count#weir.requests"]) for line in list(proxy.events)
                            if line["event"] == "metrics") == 20,
                f"not counted{proxy.tail()}",
            )  # fmt: skip
            lines = [line for line in list(proxy.events) if line["event"] == "metrics"]
    served = [line["measure#weir.service.p99"] for line in lines]
    assert all(re.fullmatch(r"\d+\.\d+ms", value) for value in served), "Heroku reads no 1e+03"
    assert max(float(value.removesuffix("ms")) for value in served) >= 1000
    assert int(lines[-1]["sample#weir.connections"]) >= 1


def test_a_port_that_is_taken_is_refused(secantus, proxy):
    taken = ["--http-port", str(proxy.http_port)]
    done = subprocess.run(
        [weir.default_binary(), secantus.uri, "--port", "0", *taken],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert f"127.0.0.1:{proxy.http_port}: address already in use" in done.stderr


def test_it_ends_well_while_many_look(secantus):
    proxy = Observed(secantus.uri, cap=CAP)
    ended = threading.Event()

    def scrape() -> None:
        while not ended.is_set():
            with contextlib.suppress(OSError):
                proxy.get("/state")

    def read() -> None:
        with pymongo.MongoClient(proxy.uri, serverSelectionTimeoutMS=500) as client:
            while not ended.is_set():
                with contextlib.suppress(pymongo.errors.PyMongoError):
                    list(client.weir.clients.find(batch_size=1))

    threads = [threading.Thread(target=work) for work in [scrape, read] * 8]
    for thread in threads:
        thread.start()
    wait_until(lambda: proxy.metrics()["weir_clients"] > 0, "nobody looks")
    try:
        assert proxy.stop() == 0, proxy.tail()
    finally:
        ended.set()
        for thread in threads:
            thread.join()


# --- deploy ---------------------------------------------------------------------------------------


def promtool(*arguments: str) -> None:
    if not shutil.which("promtool"):
        pytest.skip("no promtool on PATH")
    root = weir.Path(__file__).resolve().parents[2] / "deploy" / "prometheus"
    done = subprocess.run(["promtool", *arguments], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_alert_rules_are_sound():
    promtool("check", "rules", "alerts.yml")


def test_alerts_fire_when_they_should():
    promtool("test", "rules", "alerts_test.yml")


def metrics_named_in(text: str) -> set[str]:
    names = set(re.findall(r"\b(?:weir|process)_[a-z_]+\b", text))
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in names}


@pytest.mark.parametrize("path", ["prometheus/alerts.yml", "grafana/dashboard.json"])
def test_rules_and_dashboard_name_metrics_that_exist(proxy, path):
    deploy = weir.Path(__file__).resolve().parents[2] / "deploy"
    text = (deploy / path).read_text()
    if path.endswith(".json"):
        text = json.dumps([
            target["expr"] for panel in json.loads(text)["panels"]
            for target in panel.get("targets", [])
        ])  # fmt: skip
    else:
        text = "\n".join(re.findall(r"expr: (.*(?:\n {10}.*)*)", text))
    there = set(re.findall(r"^# TYPE (\S+)", proxy.get("/metrics").decode(), re.M))
    assert metrics_named_in(text)
    assert metrics_named_in(text) <= there
