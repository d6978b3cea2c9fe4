# SPDX-License-Identifier: Apache-2.0
"""How weir logs in to a deployment: as a driver would that was given the same URI."""

from __future__ import annotations

import subprocess
from urllib.parse import quote, quote_plus

import pymongo
import pytest
import servers
import weir
from deployments import Crowd, StubSet, User, wait_for_members, weir_before
from pymongo.read_preferences import Nearest

PASSWORD = "p@ss:w/rd?"


def uri_for(stub: StubSet, name: str, password: str | None, *options: str) -> str:
    secret = "" if password is None else f":{quote_plus(password)}"
    uri = stub.uri.replace("//", f"//{quote_plus(name)}{secret}@")
    return "&".join([uri, *options])


def use(stub: StubSet, uri: str) -> None:
    """Reads from all members through weir; what is wrong is an error here. Nobody waits for a permit:
    of an exhaustion weir asks the server by a connection of its own, which would be counted, too."""
    with weir_before(stub, "--limit", "fixed", "--slow-share", "1", uri=uri) as proxy:
        wait_for_members(stub, proxy)
        with Crowd(proxy.uri, read, threads=4) as crowd:
            crowd.wait_for_turns(5)
        assert crowd.errors == []
        stub.wait_until(lambda: proxy.state()["upstreams_opening"] == 0)


def read(client: pymongo.MongoClient, number: int, turn: int) -> None:
    client.get_database("test", read_preference=Nearest()).things.find_one()


def assert_logged_in(stub: StubSet, mechanism: str, *, speculative: bool) -> None:
    """Each connection has logged in once, at the first attempt."""
    for member in stub.members:
        logins, opened = member.logins, stub.tally(member.index, "weir").opened
        assert logins.by_mechanism == {mechanism: opened} and opened > 0
        assert logins.failed == 0 and logins.started in (0, opened)  # 0: certificates need none
        assert logins.speculative == (opened if speculative else 0)


SCRAM = {
    "the best that the user has": (("SCRAM-SHA-1", "SCRAM-SHA-256"), None, "SCRAM-SHA-256"),
    "SHA-256 by name": (("SCRAM-SHA-1", "SCRAM-SHA-256"), "SCRAM-SHA-256", "SCRAM-SHA-256"),
    "SHA-1 by name": (("SCRAM-SHA-1", "SCRAM-SHA-256"), "SCRAM-SHA-1", "SCRAM-SHA-1"),
}


@pytest.mark.parametrize("name", SCRAM)
def test_scram(name):
    has, asked, used = SCRAM[name]
    stub = StubSet(users=[User("app=,x", PASSWORD, mechanisms=has)])
    options = [f"authMechanism={asked}"] if asked else []
    use(stub, uri_for(stub, "app=,x", PASSWORD, *options))
    assert_logged_in(stub, used, speculative=True)


def test_a_user_who_has_sha_1_alone():
    """The guess that comes along with the first hello is wrong; what the server lists is right."""
    stub = StubSet(users=[User("old", PASSWORD, mechanisms=("SCRAM-SHA-1",))])
    use(stub, uri_for(stub, "old", PASSWORD))
    for member in stub.members:
        opened = stub.tally(member.index, "weir").opened
        assert member.logins.by_mechanism == {"SCRAM-SHA-1": opened}


def test_plain():
    stub = StubSet(users=[User("ldap", PASSWORD, db="$external", mechanisms=("PLAIN",))])
    use(stub, uri_for(stub, "ldap", PASSWORD, "authMechanism=PLAIN", "authSource=$external"))
    assert_logged_in(stub, "PLAIN", speculative=False)


def test_plain_is_of_external_by_itself():
    stub = StubSet(users=[User("ldap", PASSWORD, db="$external", mechanisms=("PLAIN",))])
    use(stub, uri_for(stub, "ldap", PASSWORD, "authMechanism=PLAIN"))
    assert_logged_in(stub, "PLAIN", speculative=False)


def test_x509():
    certificates = servers.certificates()
    name = "CN=weir-development-client,O=weir development"
    user = User(name, db="$external", mechanisms=("MONGODB-X509",))
    stub = StubSet(users=[user], tls=certificates)
    ca, key = (quote(str(certificates / name)) for name in ("ca.pem", "client.pem"))
    options = f"&tls=true&tlsCAFile={ca}&tlsCertificateKeyFile={key}&authMechanism=MONGODB-X509"
    use(stub, stub.uri + options)
    assert_logged_in(stub, "MONGODB-X509", speculative=True)


# Where the user is looked for: authSource, else the URI's database, else admin.
SOURCES = {
    "admin": ("/", "", "admin"),
    "the URI's database": ("/shop", "", "shop"),
    "authSource": ("/shop", "&authSource=staff", "staff"),
}


@pytest.mark.parametrize("name", SOURCES)
def test_the_database_of_the_user(name):
    path, option, db = SOURCES[name]
    stub = StubSet(users=[User("app", PASSWORD, db=db)])
    uri = uri_for(stub, "app", PASSWORD).replace("/?", f"{path}?")
    use(stub, uri + option)
    assert_logged_in(stub, "SCRAM-SHA-256", speculative=True)


def test_a_wrong_password_is_said_and_not_tried_at_full_speed():
    stub = StubSet(users=[User("app", PASSWORD)])
    uri = uri_for(stub, "app", "wrong")
    with weir_before(stub, "--server-wait", "1s", uri=uri) as proxy:
        with pymongo.MongoClient(proxy.uri, retryWrites=False) as client:
            with pytest.raises(pymongo.errors.OperationFailure) as failed:
                client.test.things.insert_one({})
        assert failed.value.code == 6
        assert "uthentication failed" in proxy.wait_for("upstream_down")["reason"]
        assert "wrong" not in "\n".join(proxy.lines)
        logins = stub.members[0].logins
        assert (logins.succeeded, stub.asked("insert")) == (0, []) and 1 <= logins.failed <= 10


REFUSED = {
    "MONGODB-AWS": "mongodb://key:secret@127.0.0.1:1/?authMechanism=MONGODB-AWS",
    "MONGODB-OIDC": "mongodb://127.0.0.1:1/?authMechanism=MONGODB-OIDC",
    "GSSAPI": "mongodb://user@127.0.0.1:1/?authMechanism=GSSAPI",
}


@pytest.mark.parametrize("mechanism", REFUSED)
def test_what_weir_does_not_have_is_refused_at_the_start(mechanism):
    ended = subprocess.run(
        [weir.default_binary(), REFUSED[mechanism], "--port", "0"],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert ended.returncode != 0
    (line,) = ended.stderr.splitlines()
    assert mechanism in line and "secret" not in line
