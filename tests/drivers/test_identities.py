# SPDX-License-Identifier: Apache-2.0
"""Users whose operations weir does as other users of the deployment than its own."""

from __future__ import annotations

import subprocess

import bson
import pymongo
import pytest
import raw
import scram
import users
import weir
from bson import Int64
from deployments import Crowd, StubSet, User, weir_before

PASSWORD = "secret-of-all"
ANYTHING = ("--may", "read,write", "--databases", "test")
DEPLOYMENT = [User(name, f"{name}-password") for name in ("weir", "reports", "batch")]
APPS = {"plain": None, "reporter": "reports", "batcher": "batch"}


@pytest.fixture(scope="module")
def entries():
    identity = lambda name: ("--identity", name) if name else ()  # noqa: E731
    return [users.add(app, PASSWORD, *ANYTHING, *identity(name)) for app, name in APPS.items()]


def before(stub, entries, tmp_path, *arguments, wrong: str = "", **more):
    """weir as user weir, who may also be reports and batch."""
    lines = ["identities:"]
    for name in ("reports", "batch"):
        path = tmp_path / name
        path.write_text("wrong" if name == wrong else f"{name}-password\n")
        lines.append(f"  - {{name: {name}, username: {name}, passwordFile: {path}}}")
    file = users.file(*entries, more="\n".join(lines))
    uri = stub.uri.replace("//", "//weir:weir-password@")
    return weir_before(stub, "--config", str(file), *arguments, uri=uri, **more)


def client_for(proxy, name: str, **options) -> pymongo.MongoClient:
    return pymongo.MongoClient(users.uri_for(proxy.uri, name, PASSWORD), **options)


def done_as(stub, *names: str) -> set[str]:
    return {command.user for command in stub.asked(*names, driver="weir")}


@pytest.mark.parametrize("app", APPS)
def test_each_is_who_it_is_said_to_be(entries, tmp_path, app):
    stub = StubSet(users=DEPLOYMENT)
    with before(stub, entries, tmp_path) as proxy:
        with client_for(proxy, app) as client:
            client.test.things.insert_many({"_id": n} for n in range(10))
            with client.start_session() as session, session.start_transaction():
                client.test.things.update_one({"_id": 1}, {"$set": {"n": 1}}, session=session)
            assert len(list(client.test.things.find(batch_size=2))) == 10
        names = ("insert", "update", "commitTransaction", "find", "getMore")
        assert done_as(stub, *names) == {f"{APPS[app] or 'weir'}@admin"}


def read(client: pymongo.MongoClient, number: int, turn: int) -> None:
    client.test.things.find_one({"_id": number})


@pytest.mark.parametrize("cap", [1, 2, 5])
def test_all_share_one_cap(entries, tmp_path, cap):
    """Also fewer places than identities: idle ones make room. The cap is asserted at the end."""
    stub = StubSet(users=DEPLOYMENT)
    with before(stub, entries, tmp_path, "--max-wait", "20s", cap=cap) as proxy:
        uris = [users.uri_for(proxy.uri, app, PASSWORD) for app in APPS]
        crowds = [Crowd(uri, read, threads=4) for uri in uris]
        for crowd in crowds:
            crowd.__enter__()
        try:
            for crowd in crowds:
                crowd.wait_for_turns(5)
        finally:
            for crowd in crowds:
                crowd.__exit__(None, None, None)
        assert [crowd.errors for crowd in crowds] == [[], [], []]
        assert done_as(stub, "find") == {"weir@admin", "reports@admin", "batch@admin"}
        proxy.wait_until_at_rest()


def test_an_idle_pool_of_one_makes_room_for_another(entries, tmp_path):
    stub = StubSet(users=DEPLOYMENT)
    with before(stub, entries, tmp_path, cap=3) as proxy:
        with Crowd(users.uri_for(proxy.uri, "reporter", PASSWORD), read, threads=8) as crowd:
            crowd.wait_for_turns(5)
        with client_for(proxy, "batcher") as client:
            client.test.things.find_one()
        assert crowd.errors == [] and "batch@admin" in done_as(stub, "find")


def test_an_identity_that_cannot_log_in_is_no_harm_to_others(entries, tmp_path):
    """Its user is told; the server is not taken for one that is down."""
    stub = StubSet(users=DEPLOYMENT)
    with before(stub, entries, tmp_path, "--max-wait", "20s", wrong="batch", cap=2) as proxy:
        with Crowd(users.uri_for(proxy.uri, "plain", PASSWORD), read, threads=4) as crowd:
            crowd.wait_for_turns(2)
            with client_for(proxy, "batcher", retryReads=False) as client:
                for _ in range(3):
                    with pytest.raises(pymongo.errors.OperationFailure) as failed:
                        client.test.things.find_one()
                    assert failed.value.code == 6
            crowd.wait_for_turns(5)
        assert crowd.errors == []
        down = proxy.wait_for("upstream_down", identity="batch")
        assert "uthentication failed" in down["reason"] and "wrong" not in "\n".join(proxy.lines)
        assert proxy.count("breaker_open") == 0


def test_what_a_gone_client_leaves_is_killed_as_who_opened_it(entries, tmp_path):
    stub = StubSet(users=DEPLOYMENT)
    with before(stub, entries, tmp_path) as proxy:
        session = {"lsid": {"id": bson.Binary(bytes(16), 4)}}
        with client_for(proxy, "plain") as client:
            client.test.things.insert_many({"_id": n} for n in range(10))
        with raw.Connection.to(proxy.address) as connection:
            assert scram.log_in(connection, "reporter", PASSWORD)["ok"] == 1
            find = {"find": "things", "batchSize": 2, **session}
            assert connection.ask(find)["cursor"]["id"] != 0
            begun = {"txnNumber": Int64(1), "autocommit": False, "startTransaction": True}
            insert = {"insert": "things", "documents": [{"_id": "x"}], **session, **begun}
            assert connection.ask(insert)["ok"] == 1
        stub.wait_until(lambda: done_as(stub, "killCursors", "abortTransaction"))
        stub.wait_until(lambda: not any(member.cursors for member in stub.members))
        assert done_as(stub, "killCursors", "abortTransaction") == {"reports@admin"}


REFUSED = {
    "no password": ("{name: a, username: a}", "passwordFile: missing"),
    "no file": ("{name: a, username: a, passwordFile: /nowhere/at/all}",
                "passwordFile /nowhere/at/all: No such file"),
    "no name": ("{username: a, passwordFile: /dev/null}", "name: missing"),
    "a mechanism": ("{name: a, username: a, passwordFile: /dev/null, mechanism: X}", "SCRAM-SHA-1"),
    "unknown": ("{name: a, pasword: b}", "unknown field"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_wrong_is_refused_at_the_start(tmp_path, what):
    entry, says = REFUSED[what]
    file = tmp_path / "weir.yaml"
    file.write_text(f"upstream:\n  uri: mongodb://127.0.0.1:1/\nidentities:\n  - {entry}\n")
    ended = subprocess.run(
        [weir.default_binary(), "check", str(file)], capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 2 and says in ended.stderr and ":4: identities" in ended.stderr
