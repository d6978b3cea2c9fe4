# SPDX-License-Identifier: Apache-2.0
"""Apps that log in at weir: real drivers as users of its file, and what each may do there."""

from __future__ import annotations

import contextlib
import json
import subprocess

import pymongo
import pytest
import raw
import scram
import servers
import users
import weir
from deployments import StubSet, weir_before
from drivers import DRIVERS
from pymongo.errors import OperationFailure
from test_drivers import fill, finish, parse

PASSWORD = "p@ss:w/rd%"
SUBJECT = "CN=weir-development-client,O=weir development"
EVERYTHING = ("--may", "read,write,admin", "--databases", "*")


@pytest.fixture(scope="module")
def server():
    with servers.start() as server:
        fill(server)
        yield server


@pytest.fixture(scope="module")
def file():
    return users.file(
        users.add("both", PASSWORD, "--scram-sha-1", *EVERYTHING),
        users.add("new", PASSWORD, *EVERYTHING),
        users.add("elsewhere", PASSWORD, "--db", "staff", *EVERYTHING),
        users.add("shop", PASSWORD, "--may", "read,write", "--databases", "shop"),
        users.add("reader", PASSWORD, "--may", "read", "--databases", "shop"),
        users.add("nothing", PASSWORD),
        users.add("narrow", PASSWORD, "--max-in-flight", "1", *EVERYTHING),
        users.certificate(SUBJECT, "may: [read, write]", "databases: [shop]"),
    )


@pytest.fixture(scope="module")
def proxy(server, file):
    certificates = servers.certificates()
    with weir.Weir(
        server.uri, "--config", str(file), "--tls-ca-file", str(certificates / "ca.pem"),
        "--tls-allow-connections-without-certificates", "--max-wait", "30s", tls=True,
    ) as proxy:  # fmt: skip
        yield proxy


def client_for(proxy, name: str, **options) -> pymongo.MongoClient:
    return pymongo.MongoClient(users.uri_for(proxy.uri, name, PASSWORD), **options)


WAYS = {
    "as it comes": ("both", {}),
    "SCRAM-SHA-256": ("both", {"authMechanism": "SCRAM-SHA-256"}),
    "SCRAM-SHA-1": ("both", {"authMechanism": "SCRAM-SHA-1"}),
    "authSource": ("elsewhere", {"authSource": "staff"}),
}
DRIVERS_HERE = [
    pytest.param(name, marks=pytest.mark.skipif(bool(why := driver.why_not()), reason=str(why)))
    for name, driver in DRIVERS.items()
]


def run(name: str, server, uri: str) -> dict:
    process = DRIVERS[name].start("checks", uri, server.features)
    output, status = finish(process)
    assert status == 0, output
    return parse(output)


@pytest.mark.parametrize("driver", DRIVERS_HERE)
def test_every_driver_does_as_a_user_what_it_does_without(server, proxy, driver):
    uri = users.uri_for(proxy.uri, "both", PASSWORD)
    bad = {check: one for check, one in run(driver, server, uri).items() if one.verdict == "not ok"}
    assert not bad


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_pymongo_logs_in(proxy, way, tls):
    name, options = WAYS[way]
    uri = users.uri_for(proxy.tls_uri if tls else proxy.uri, name, PASSWORD, **options)
    with pymongo.MongoClient(uri) as client:
        assert client.corpus.numbers.find_one({"_id": 7})["n"] == 7
        (user,) = client.admin.command("connectionStatus")["authInfo"]["authenticatedUsers"]
        assert user["user"] == name


def test_a_certificate_logs_in(proxy):
    key = str(servers.certificates() / "client.pem")
    options = {"authMechanism": "MONGODB-X509", "tlsCertificateKeyFile": key}
    with pymongo.MongoClient(proxy.tls_uri, **options) as client:
        client.shop.certified.insert_one({})
        (user,) = client.admin.command("connectionStatus")["authInfo"]["authenticatedUsers"]
        assert user == {"user": SUBJECT, "db": "$external"}
        with pytest.raises(OperationFailure, match="not the user's"):
            client.other.things.find_one()


def test_no_certificate_is_nobody(proxy):
    with pymongo.MongoClient(proxy.tls_uri, authMechanism="MONGODB-X509") as client:
        with pytest.raises(OperationFailure) as failed:
            client.shop.things.find_one()
    assert failed.value.code == 18


def test_a_revoked_certificate_is_refused(server, file, tmp_path):
    """By the TLS handshake, whatever it wants."""
    certificates = servers.certificates()
    crl = revoke(certificates, tmp_path)
    with weir.Weir(
        server.uri, "--config", str(file), "--tls-ca-file", str(certificates / "ca.pem"),
        "--tls-crl-file", str(crl), tls=True,
    ) as proxy:  # fmt: skip
        key = str(certificates / "client.pem")
        with pymongo.MongoClient(
            proxy.tls_uri, tlsCertificateKeyFile=key, serverSelectionTimeoutMS=1000
        ) as client:
            with pytest.raises(pymongo.errors.ServerSelectionTimeoutError):
                client.admin.command("ping")
        assert "revoked" in proxy.wait_for("bad_input")["what"]


def revoke(certificates, directory, *more_of_list):
    """A revocation list of the CA's, with the client's certificate on it."""
    (directory / "index.txt").touch()
    (directory / "crlnumber").write_text("01\n")
    config = directory / "ca.cnf"
    config.write_text(
        "[ca]\ndefault_ca = this\n[this]\n"
        f"database = {directory}/index.txt\ncrlnumber = {directory}/crlnumber\n"
        "default_md = sha256\ndefault_crl_days = 1\n"
    )
    ca = ["openssl", "ca", "-config", config, "-keyfile", certificates / "ca.key"]
    ca += ["-cert", certificates / "ca.pem"]
    crl = directory / "crl.pem"
    for more in (["-revoke", certificates / "client.pem"], ["-gencrl", *more_of_list, "-out", crl]):
        subprocess.run([*ca, *more], check=True, capture_output=True)
    return crl


# --- what each may do ---------------------------------------------------------------------------

DENIED = {
    "read elsewhere": ("shop", lambda c: c.other.things.find_one()),
    "write elsewhere": ("shop", lambda c: c.other.things.insert_one({})),
    "$out elsewhere": ("shop", lambda c: c.shop.x.aggregate([{"$out": {"db": "o", "coll": "x"}}])),
    "serverStatus": ("shop", lambda c: c.admin.command("serverStatus")),
    "drop the database": ("shop", lambda c: c.drop_database("shop")),
    "list databases": ("shop", lambda c: c.list_database_names()),
    "make a user": ("shop", lambda c: c.shop.command("createUser", "x", pwd="y", roles=[])),
    "write as a reader": ("reader", lambda c: c.shop.things.insert_one({})),
    "$out as a reader": ("reader", lambda c: c.shop.things.aggregate([{"$out": "y"}])),
    "anything as nobody much": ("nothing", lambda c: c.shop.things.find_one()),
}


@pytest.mark.parametrize("what", DENIED)
def test_what_is_not_said_is_not_allowed(proxy, what):
    name, act = DENIED[what]
    with client_for(proxy, name, retryWrites=False) as client:
        with pytest.raises(OperationFailure) as denied:
            act(client)
    assert denied.value.code == 13


def test_what_is_said_is_allowed(proxy):
    with client_for(proxy, "shop") as client:
        client.shop.things.insert_many({"n": n} for n in range(10))
        client.shop.things.create_index("n")
        assert client.shop.things.count_documents({"n": {"$gte": 5}}) == 5
        assert "things" in client.shop.list_collection_names()
        client.shop.things.drop()


def test_more_at_once_than_a_user_may_is_refused_as_overload():
    """Only that user's: others have room."""
    file = users.file(
        users.add("narrow", PASSWORD, "--max-in-flight", "2", *EVERYTHING),
        users.add("wide", PASSWORD, *EVERYTHING),
    )
    stub = StubSet()
    with weir_before(stub, "--config", str(file), cap=8) as proxy:
        slow = stub.fail("find", delay_s=60, times=2)
        with logged_in(proxy, "narrow") as one, logged_in(proxy, "narrow") as two:
            asked = [connection.post({"find": "things"}) for connection in (one, two)]
            stub.wait_until(lambda: slow.delayed == 2)
            with logged_in(proxy, "narrow") as third, logged_in(proxy, "wide") as other:
                refused = third.ask({"count": "things"})
                assert refused["code"] == 462 and "RetryableError" in refused["errorLabels"]
                assert other.ask({"count": "things"})["ok"] == 1
            stub.let_go(slow)
            for connection, number in zip((one, two), asked):
                assert connection.reply_to(number)["ok"] == 1
            assert two.ask({"find": "things"})["ok"] == 1


@contextlib.contextmanager
def logged_in(proxy, name: str):
    with raw.Connection.to(proxy.address) as connection:
        assert scram.log_in(connection, name, PASSWORD)["ok"] == 1
        yield connection


def test_a_user_is_of_its_tenant_whatever_the_app_calls_itself():
    """Until it logs out."""
    file = users.file(
        users.add("paid", PASSWORD, "--tenant", "gold", "--weight", "3", *EVERYTHING),
        users.add("other", PASSWORD, *EVERYTHING),
    )
    stub = StubSet()
    arguments = ("--config", str(file), "--slow-op-threshold", "1ms")
    with weir_before(stub, *arguments) as proxy:
        stub.fail("find", delay_s=0.01, times=None)
        client = {"application": {"name": "gilded"}}
        for name, tenant in (("paid", "gold"), ("other", "gilded")):
            with raw.Connection.to(proxy.address) as connection:
                connection.ask({"hello": 1, "client": client}, db="admin")
                scram.log_in(connection, name, PASSWORD)
                assert connection.ask({"find": "things"})["ok"] == 1
            assert proxy.wait_for("slow_operation", tenant=tenant)["app"] == "gilded"


# --- weir user ----------------------------------------------------------------------------------


def test_users_of_a_deployment_are_taken_over(server):
    """With their passwords: the document is what a server keeps of a password."""
    made = users.add("imported", PASSWORD, "--scram-sha-1")
    keys = dict(line.strip(" -").split(": ", 1) for line in made.splitlines())
    credentials = {}
    for field, mechanism in (("scramSha256", "SCRAM-SHA-256"), ("scramSha1", "SCRAM-SHA-1")):
        iterations, salt, stored, secret = json.loads(keys[field]).split(":")
        credentials[mechanism] = {
            "iterationCount": int(iterations), "salt": salt,
            "storedKey": stored, "serverKey": secret,
        }  # fmt: skip
    document = {"_id": "shop.imported", "user": "imported", "db": "shop", "roles": []}
    imported = subprocess.run(
        [weir.default_binary(), "user", "import", "--may", "read", "--databases", "shop"],
        input=json.dumps({**document, "credentials": credentials}),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    with weir.Weir(server.uri, "--config", str(users.file(imported.stdout))) as proxy:
        uri = users.uri_for(proxy.uri, "imported", PASSWORD, authSource="shop")
        for mechanism in credentials:
            with pymongo.MongoClient(uri, authMechanism=mechanism) as client:
                client.shop.things.find_one()


def test_a_password_is_no_argument_and_in_no_entry():
    entry = users.add("app", "very-secret")
    assert "very-secret" not in entry
    refused = subprocess.run(
        [weir.default_binary(), "user", "add", "app", "very-secret"],
        input="", capture_output=True, text=True,
    )  # fmt: skip
    assert refused.returncode == 2 and "very-secret" in refused.stderr


REFUSED = {
    "nobody could log in": ((), ("--authorization", "enabled"), "needs users in the file"),
    "a user who is nobody": (("  - name: x\n    may: read",), (), "needs databases"),
    "a public address": ((), ("--bind-ip", "0.0.0.0"), "allow-remote-without-auth"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_wrong_is_refused_at_the_start(what):
    entries, flags, says = REFUSED[what]
    config = ["--config", str(users.file(*entries))] if entries else []
    ended = subprocess.run(
        [weir.default_binary(), "mongodb://127.0.0.1:1/", "--port", "0", *config, *flags],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert ended.returncode == 2 and says in ended.stderr


def test_an_open_door_is_said_at_every_start(file):
    """And not where everybody logs in."""
    forced = ("--allow-remote-without-auth",)
    for more, says in ((forced, True), (("--config", str(file)), False)):
        started = subprocess.Popen(
            [weir.default_binary(), "mongodb://127.0.0.1:1/", "--bind-ip", "0.0.0.0", "--port", "0",
             *more], stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        events = []
        for line in started.stderr:
            events.append(weir.parse_line(line).get("event"))
            if events[-1] == "ready":
                started.terminate()
        assert started.wait() == 0 and ("open_to_everybody" in events) == says


def test_a_rule_for_a_user(proxy):
    number = proxy.order("rule", "add", "--user", "bo*", "--deny")["id"]
    try:
        for name, refused in (("both", True), ("new", False)):
            with client_for(proxy, name) as client:
                try:
                    client.shop.things.find_one()
                    assert not refused
                except OperationFailure as failure:
                    assert refused and f"rule {number}" in str(failure)
    finally:
        proxy.order("rule", "remove", str(number))
