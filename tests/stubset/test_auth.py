# SPDX-License-Identifier: Apache-2.0
"""Logging in."""

from __future__ import annotations

from pathlib import Path

import pytest
import raw
import servers
from pymongo.errors import OperationFailure

from . import User

APP = User("app", "secret,=1")


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "SCRAM-SHA-1", None])
def test_scram(stubs, connect, mechanism):
    stub = stubs("standalone", users=[APP])
    options = {"authMechanism": mechanism} if mechanism else {}
    client = connect(stub.uri, username=APP.name, password=APP.password, **options)
    client.test.things.insert_one({})
    logins = stub.members[0].logins
    assert logins.by_mechanism == {mechanism or "SCRAM-SHA-256": 1}
    assert (logins.speculative, logins.succeeded, logins.failed) == (1, 1, 0)


def test_scram_1_is_found_where_a_user_has_no_other(stubs, connect):
    old = User("old", "secret", db="app", mechanisms=("SCRAM-SHA-1",))
    stub = stubs("standalone", users=[old])
    client = connect(stub.uri, username="old", password="secret", authSource="app")
    client.test.things.insert_one({})
    assert stub.members[0].logins.by_mechanism == {"SCRAM-SHA-1": 1}


@pytest.mark.parametrize("name, password", [("app", "wrong"), ("nobody", "secret")])
def test_who_is_not_known_is_told_nothing(stubs, connect, name, password):
    stub = stubs("standalone", users=[APP])
    client = connect(stub.uri, username=name, password=password)
    with pytest.raises(OperationFailure) as raised:
        client.test.things.find_one()
    assert raised.value.code == 18
    assert stub.members[0].logins.succeeded == 0


def test_before_the_login_there_is_hello_and_little_else(stubs):
    stub = stubs("standalone", users=[APP], rejects=True)
    with raw.Connection.to(("127.0.0.1", stub.members[0].port)) as connection:
        assert connection.hello()["ok"]
        assert connection.ask({"find": "things"})["code"] == 13
    assert stub.rejections


def test_plain(stubs, connect):
    ldap = User("ldap", "secret", db="$external", mechanisms=("PLAIN",))
    stub = stubs("standalone", users=[ldap])
    client = connect(stub.uri, username="ldap", password="secret", authMechanism="PLAIN")
    client.test.things.insert_one({})
    assert stub.members[0].logins.by_mechanism == {"PLAIN": 1}


@pytest.fixture(scope="module")
def certificates() -> Path:
    return servers.certificates()


def test_x509(stubs, connect, certificates):
    name = "CN=weir-development-client,O=weir development"
    user = User(name, db="$external", mechanisms=("MONGODB-X509",))
    stub = stubs("standalone", users=[user], tls=certificates)
    tls = {"tls": True, "tlsCAFile": str(certificates / "ca.pem")}
    key = {"tlsCertificateKeyFile": str(certificates / "client.pem")}
    client = connect(stub.uri, authMechanism="MONGODB-X509", **tls, **key)
    client.test.things.insert_one({})
    logins = stub.members[0].logins
    assert logins.by_mechanism == {"MONGODB-X509": 1} and logins.speculative == 1


def test_another_users_cursor_is_not_given(stubs, connect):
    other = User("other", "secret")
    stub = stubs("standalone", users=[APP, other], rejects=True)
    mine = connect(stub.uri, username=APP.name, password=APP.password)
    theirs = connect(stub.uri, username=other.name, password=other.password)
    mine.test.things.insert_many([{}, {}])
    opened = mine.test.command("find", "things", batchSize=1)["cursor"]["id"]
    with pytest.raises(OperationFailure) as raised:
        theirs.test.command("getMore", opened, collection="things")
    assert raised.value.code == 13
