# SPDX-License-Identifier: Apache-2.0
"""Another upstream.uri, and other passwords of the deployment, taken over under load."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote_plus

import pymongo
import pytest
import servers
import users
import weir
from deployments import Crowd, StubSet, User
from pymongo.errors import OperationFailure

CAP = 3
ANEW = "connections to the deployment are opened anew"


class Proxy:
    """A weir that has its settings from a file, which can be written anew."""

    def __init__(self, directory: Path, more: str = ""):
        self.port = servers.free_port()
        self.more = more
        self.file = directory / "weir.yaml"
        self.weir: weir.Weir

    def write(self, uri: str, more: str = "") -> None:
        settings = {
            "upstream": {"uri": uri, "maxConnections": CAP},
            "net": {"port": self.port},
            "admission": {"maxWait": "10s"},
        }
        text = "".join(f"{json.dumps(key)}: {json.dumps(settings[key])}\n" for key in settings)
        fresh = self.file.with_suffix(".fresh")
        fresh.write_text(text + self.more)
        os.replace(fresh, self.file)

    @contextlib.contextmanager
    def before(self, uri: str) -> Iterator[weir.Weir]:
        self.write(uri)
        with weir.Weir("", file=self.file, port=self.port) as self.weir:
            yield self.weir

    def load(self, uri: str) -> str:
        """What was said of it."""
        self.write(uri)
        done = self.weir.ctl("reload")
        assert done.returncode == 0, done.stderr
        return done.stdout

    def load_in_vain(self, uri: str) -> str:
        self.write(uri)
        done = self.weir.ctl("reload")
        assert done.returncode == 1, done.stdout
        return done.stderr


@pytest.fixture
def proxy(tmp_path):
    return Proxy(tmp_path)


def everything(client: pymongo.MongoClient, number: int, turn: int) -> None:
    """What a connection matters for most, among others."""
    things = client.test.things
    key = f"{number}-{turn}"
    things.insert_many([{"_id": f"{key}-{n}", "of": key} for n in range(4)])
    assert len(list(things.find({"of": key}, batch_size=2))) == 4
    with client.start_session() as session, session.start_transaction():
        things.update_one({"_id": f"{key}-0"}, {"$set": {"seen": True}}, session=session)


def failed_logins(stub: StubSet) -> int:
    return sum(member.logins.failed for member in stub.members)


def with_password(stub: StubSet, password: str) -> str:
    return users.uri_for(stub.uri, "weir", password, localThresholdMS="10000")


def test_a_password_is_rotated_under_load(proxy):
    with StubSet(users=[User("weir", "old-secret")]) as stub:
        with proxy.before(with_password(stub, "old-secret")) as running:
            with Crowd(running.uri, everything) as crowd:
                crowd.wait_for_turns()
                said = proxy.load_in_vain(with_password(stub, "wrong-secret"))
                assert "Authentication failed" in said
                crowd.wait_for_turns()
                stub.users = (User("weir", "new-secret"),)  # who is logged in stays so
                failed = failed_logins(stub)
                assert ANEW in proxy.load(with_password(stub, "new-secret"))
                running.wait_for("former_login_unused", 20)
                crowd.wait_for_turns()
            assert crowd.errors == []
            stub.cut("weir")  # so all have to log in once more
            with pymongo.MongoClient(running.uri) as client:
                client.test.things.find_one()
            assert failed_logins(stub) == failed
            for member in stub.members:
                assert stub.tally(member.index, "weir").peak <= CAP
            assert not [line for line in running.lines if "-secret" in line]
            running.wait_until_at_rest()


def test_another_user_takes_over_at_a_real_server(proxy):
    with servers.start(auth=True) as server:
        old = f"{quote_plus(servers.USER)}:{quote_plus(servers.PASSWORD)}@"
        with proxy.before(server.uri) as running:
            with Crowd(running.uri, everything, threads=4) as crowd:
                crowd.wait_for_turns()
                server.client().admin.command(
                    "createUser", "weir2", pwd="other:p@ss", roles=["root"]
                )
                new = f"weir2:{quote_plus('other:p@ss')}@"
                assert ANEW in proxy.load(server.uri.replace(old, new))
                running.wait_for("former_login_unused", 20)
                crowd.wait_for_turns()
            assert crowd.errors == []
            with pymongo.MongoClient(running.uri) as client:
                status = client.admin.command("connectionStatus")
                assert status["authInfo"]["authenticatedUsers"][0]["user"] == "weir2"


def test_the_password_of_an_identity_is_rotated(proxy, tmp_path):
    deployed = [User("weir", "secret"), User("reports", "old-secret")]
    password = tmp_path / "reports"
    password.write_text("old-secret\n")
    entry = users.add("app", "app-secret", "--may", "read,write", "--databases", "test",
                      "--identity", "reports")
    identity = f"identities: [{{name: reports, username: reports, passwordFile: {password}}}]\n"
    proxy.more = f"{identity}users:\n{entry}"
    with StubSet("standalone", users=deployed) as stub:
        uri = with_password(stub, "secret")
        with proxy.before(uri) as running:
            app = users.uri_for(running.uri, "app", "app-secret")
            read = lambda client, *_: client.test.things.find_one()  # noqa: E731
            with Crowd(app, read, threads=4) as crowd:
                crowd.wait_for_turns()
                stub.users = (deployed[0], User("reports", "new-secret"))
                assert ANEW not in proxy.load(uri)
                password.write_text("new-secret\n")
                assert ANEW in proxy.load(uri)
                running.wait_for("former_login_unused", 20)
                crowd.wait_for_turns()
            assert crowd.errors == []
            assert failed_logins(stub) == 0


def count(client: pymongo.MongoClient, *_: int) -> None:
    client.test.things.count_documents({})


def test_another_server(proxy):
    """What is open on the former one ends with it; whatever begins later is the new one's."""
    with StubSet("standalone") as former, StubSet("standalone") as other:
        with proxy.before(former.uri) as running, pymongo.MongoClient(running.uri) as client:
            client.test.things.insert_many({"_id": n} for n in range(4))
            cursor = client.test.things.find(batch_size=2)
            next(cursor)
            with Crowd(running.uri, count) as crowd:
                crowd.wait_for_turns()
                proxy.load(other.uri)
                assert client.test.things.count_documents({}) == 0
                crowd.wait_for_turns()
            assert crowd.errors == []
            with pytest.raises(OperationFailure) as raised:
                list(cursor)
            assert raised.value.code == 43
            former.wait_until(lambda: former.tally(0).open == 0, within=20)  # monitors', too


def test_another_seed_and_another_replica_set(proxy):
    with StubSet() as stub, StubSet(name="other") as other:
        with proxy.before(stub.seed(0)) as running, Crowd(running.uri, count) as crowd:
            crowd.wait_for_turns()
            assert ANEW in proxy.load(stub.seed(1))
            crowd.wait_for_turns()
            assert "another replica set" in proxy.load_in_vain(other.uri)
            crowd.wait_for_turns()
            assert crowd.errors == []


def test_one_that_cannot_be_reached_is_refused(proxy):
    with StubSet("standalone") as stub, proxy.before(stub.uri) as running:
        said = proxy.load_in_vain(f"mongodb://127.0.0.1:{servers.free_port()}/")
        assert "upstream.uri: " in said and "No suitable servers" in said
        with pymongo.MongoClient(running.uri) as client:
            client.test.things.find_one()
        assert "setting_changed" not in {event["event"] for event in running.events}
