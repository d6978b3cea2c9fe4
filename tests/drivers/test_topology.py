# SPDX-License-Identifier: Apache-2.0
"""What weir finds out of a deployment, and what it says of it to apps."""

from __future__ import annotations

import threading
from urllib.parse import quote

import bson
import pymongo
import pytest
import raw
import servers
from deployments import (
    StubSet,
    hello,
    members_asked,
    wait_for_members,
    wait_for_news,
    wait_until_read_from,
    weir_before,
)
from pymongo.errors import ServerSelectionTimeoutError
from pymongo.read_preferences import Nearest, Secondary
from stubset.store import election_id

NO_WAIT = ("--server-wait", "100ms")


# --- who is there -------------------------------------------------------------------------------


def test_one_seed_leads_to_all_members():
    stub = StubSet()
    with weir_before(stub, uri=stub.seed(1)) as proxy, pymongo.MongoClient(proxy.uri) as client:
        wait_for_members(stub, proxy)
        client.test.things.insert_one({"_id": 1})
        assert members_asked(stub, "insert") == {0}
        wait_until_read_from(stub, client, Secondary(), {1, 2})


def test_hidden_members_and_arbiters_are_never_used():
    stub = StubSet(members=3, hidden=[2], arbiters=1)
    with weir_before(stub) as proxy, pymongo.MongoClient(proxy.uri) as client:
        wait_for_members(stub, proxy, 0, 1)
        things = client.get_database("test", read_preference=Nearest()).things
        for _ in range(50):
            things.find_one()
        assert members_asked(stub) == {0, 1}
        assert [stub.tally(index, "weir").opened for index in (2, 3)] == [0, 0]


def test_a_passive_member_is_read_from():
    stub = StubSet(members=2, priorities={1: 0})
    with weir_before(stub) as proxy, pymongo.MongoClient(proxy.uri) as client:
        wait_for_members(stub, proxy)
        wait_until_read_from(stub, client, Secondary(), {1})


def test_members_join_and_leave():
    stub = StubSet()
    with weir_before(stub) as proxy, pymongo.MongoClient(proxy.uri) as client:
        wait_for_members(stub, proxy)
        joined = stub.add_member()
        wait_for_members(stub, proxy, joined)
        wait_until_read_from(stub, client, Secondary(), {1, 2, joined})
        stub.remove_member(1)
        wait_for_news(proxy, "server_removed", server=stub.members[1].host)
        left = {"(none)", *(stub.members[index].host for index in (0, 2, joined))}
        assert {server["_id"] for server in client.weir.servers.find()} == left
        stub.commands.clear()
        wait_until_read_from(stub, client, Secondary(), {2, joined})


def test_a_member_with_no_setname_of_ours_is_left_out():
    stub = StubSet()
    with stub:
        stub.alter(2, hello_overrides={"setName": "stranger"})
        with weir_before(stub) as proxy, pymongo.MongoClient(proxy.uri) as client:
            wait_for_members(stub, proxy, 0, 1)
            wait_for_news(proxy, "server_removed", server=stub.members[2].host)
            wait_until_read_from(stub, client, Secondary(), {1})


def test_a_recovering_member_is_left_alone_until_it_is_well():
    stub = StubSet()
    with weir_before(stub) as proxy, pymongo.MongoClient(proxy.uri) as client:
        wait_for_members(stub, proxy)
        stub.recovering(2)
        wait_for_news(proxy, "server_changed", server=stub.members[2].host, kind="other")
        wait_until_read_from(stub, client, Secondary(), {1})
        stub.recovering(2, on=False)
        wait_until_read_from(stub, client, Secondary(), {1, 2})


@pytest.mark.parametrize(
    ("options", "says"),
    (("replicaSet=other", "replicaSet"), ("replicaSet=stub&tls=true", "no server has answered yet")),
)
def test_what_is_wrong_in_the_uri_is_named_in_the_log(options, says):
    stub = StubSet()
    uri = stub.uri.replace("replicaSet=stub", options)
    with weir_before(stub, *NO_WAIT, uri=uri) as proxy:
        assert says in proxy.wait_for("no_writable_server")["reason"]
        with raw.Connection.to(proxy.address) as connection:
            assert connection.ask({"find": "things"})["code"] == 6
        assert members_asked(stub, "find") == set()


# --- who is not there ---------------------------------------------------------------------------


def test_all_seeds_may_be_down_at_the_start():
    stub = StubSet()
    for index in range(3):
        stub.kill(index)
    with weir_before(stub) as proxy, raw.Connection.to(proxy.address) as connection:
        insert = connection.post({"insert": "things", "documents": [{"_id": 1}]})
        proxy.wait_for("no_writable_server")
        for index in range(3):
            stub.restart(index)
        assert connection.reply_to(insert)["n"] == 1


@pytest.mark.parametrize("how", ("killed", "black_hole"))
def test_a_dead_seed_holds_nobody_up(how):
    """Who waited for what is dead would wait for ten minutes."""
    stub = StubSet()
    uri = stub.uri.replace(stub.members[0].host, stub.members[2].host, 1)  # the dead one first
    uri += "&connectTimeoutMS=600000"
    {"killed": stub.kill, "black_hole": stub.black_hole}[how](2)
    with weir_before(stub, uri=uri) as proxy, raw.Connection.to(proxy.address) as connection:
        assert connection.ask({"insert": "things", "documents": [{"_id": 1}]})["n"] == 1


def test_a_member_that_falls_silent_holds_nobody_up():
    stub = StubSet()
    with weir_before(stub) as proxy, pymongo.MongoClient(proxy.uri) as client:
        wait_for_members(stub, proxy)
        wait_until_read_from(stub, client, Secondary(), {1, 2})
        stub.black_hole(2)
        stub.commands.clear()
        slow = threading.Thread(  # some of them may be sent there before anybody can know
            target=client.get_database("test", read_preference=Secondary()).things.find_one
        )
        slow.start()
        for number in range(50):
            client.test.things.insert_one({"_id": number})
        stub.black_hole(2, on=False)
        slow.join()


# --- what weir says of them ---------------------------------------------------------------------

RANGES = {
    "all alike": ((0, 21), (0, 21), (0, 21), 21),
    "a rolling upgrade": ((0, 25), (0, 21), (0, 25), 21),
    "the oldest and the newest": ((0, 27), (0, 8), (0, 25), 8),
    "newer than what weir knows": ((0, 29), (0, 29), (0, 28), 27),
}


@pytest.mark.parametrize("name", RANGES)
def test_the_wire_version_is_what_all_members_have(name):
    *ranges, wanted = RANGES[name]
    stub = StubSet()
    for index, wire in enumerate(ranges):
        stub.alter(index, wire=wire)
    with weir_before(stub) as proxy:
        wait_for_members(stub, proxy)
        stub.wait_until(lambda: hello(proxy)["maxWireVersion"] == wanted)
        assert hello(proxy)["minWireVersion"] == 0
        with raw.Connection.to((proxy.host, proxy.port)) as connection:  # no driver knows them all
            assert connection.ask({"insert": "things", "documents": [{"_id": 1}]})["ok"]


def test_the_wire_version_rises_when_the_last_old_member_is_gone():
    stub = StubSet(wire=(0, 25))
    stub.alter(2, wire=(0, 17))
    with weir_before(stub) as proxy:
        wait_for_members(stub, proxy)
        stub.wait_until(lambda: hello(proxy)["maxWireVersion"] == 17)
        stub.remove_member(2)
        stub.wait_until(lambda: hello(proxy)["maxWireVersion"] == 25)


def test_limits_are_the_least_of_all_members():
    stub = StubSet()
    least = {
        "maxBsonObjectSize": 8_000_000, "maxMessageSizeBytes": 24_000_000,
        "maxWriteBatchSize": 500, "logicalSessionTimeoutMinutes": 7,
    }  # fmt: skip
    for index, (name, value) in enumerate(least.items()):
        member = stub.members[index % 3]
        stub.alter(index % 3, hello_overrides={**member.hello_overrides, name: value})
    with weir_before(stub) as proxy:
        wait_for_members(stub, proxy)
        stub.wait_until(lambda: least.items() <= hello(proxy).items())


def test_no_sessions_if_a_member_has_none():
    stub = StubSet()
    stub.alter(1, hello_overrides={"logicalSessionTimeoutMinutes": None})
    with weir_before(stub) as proxy, pymongo.MongoClient(proxy.uri) as client:
        wait_for_members(stub, proxy)
        stub.wait_until(lambda: "logicalSessionTimeoutMinutes" not in hello(proxy))
        client.test.things.insert_one({})
        assert [command.lsid for command in stub.asked("insert")] == [None]


@pytest.mark.parametrize("kind", ("replica_set", "sharded"))
def test_it_looks_like_a_mongos(kind):
    stub = StubSet(kind)
    with weir_before(stub) as proxy, pymongo.MongoClient(proxy.uri) as client:
        wait_for_members(stub, proxy)
        said = hello(proxy)
        assert said["msg"] == "isdbgrid" and said["isWritablePrimary"]
        assert not {"setName", "hosts", "primary", "me", "topologyVersion"} & said.keys()
        client.test.things.insert_one({})
        assert [command.txn_number for command in stub.asked("insert")] == [1]


def test_before_a_standalone_it_looks_like_one():
    """A standalone takes no txnNumber, so no driver may think of a mongos."""
    stub = StubSet("standalone")
    with weir_before(stub) as proxy:
        wait_for_members(stub, proxy)
        stub.wait_until(lambda: "msg" not in hello(proxy))
        with pymongo.MongoClient(proxy.uri) as client:
            client.test.things.insert_one({"_id": 1})
            client.test.things.update_one({"_id": 1}, {"$set": {"a": 1}})
            assert client.test.things.find_one() == {"_id": 1, "a": 1}
        assert {command.txn_number for command in stub.asked("insert", "update")} == {None}


def test_before_anything_is_known_no_driver_is_put_off():
    """No placeholder that a driver would call incompatible, or a deployment without sessions."""
    stub = StubSet(wire=(0, 25))
    for index in range(3):
        stub.kill(index)
    with weir_before(stub) as proxy, pymongo.MongoClient(proxy.uri) as client:
        said = hello(proxy)
        assert said["msg"] == "isdbgrid" and said["isWritablePrimary"]
        assert (said["minWireVersion"], said["logicalSessionTimeoutMinutes"]) == (0, 30)
        assert 8 <= said["maxWireVersion"] <= 25
        writing = threading.Thread(target=client.test.things.insert_one, args=({"_id": 1},))
        writing.start()
        for index in range(3):
            stub.restart(index)
        writing.join()
        assert client.test.things.find_one() == {"_id": 1}


def test_during_an_election_it_says_what_it_said():
    stub = StubSet(elects=False, wire=(0, 25))
    with weir_before(stub) as proxy:
        wait_for_members(stub, proxy)
        stub.wait_until(lambda: hello(proxy)["maxWireVersion"] == 25)
        for index in range(3):
            stub.kill(index)
            wait_for_news(proxy, "server_down", server=stub.members[index].host)
        said = hello(proxy)
        assert said["isWritablePrimary"] and said["maxWireVersion"] == 25


# --- bad input ----------------------------------------------------------------------------------


def test_a_uri_that_names_members_of_two_sets_leads_to_the_set_it_names():
    ours, strangers = StubSet(), StubSet(name="strangers")
    uri = f"mongodb://{strangers.members[0].host},{ours.members[1].host}/?replicaSet=stub"
    with (
        strangers,
        weir_before(ours, uri=uri) as proxy,
        pymongo.MongoClient(proxy.uri) as client,
    ):
        wait_for_news(proxy, "server_removed", server=strangers.members[0].host)
        wait_for_members(ours, proxy)
        wait_until_read_from(ours, client, Nearest(), {0, 1, 2})
        assert not members_asked(strangers)


def test_without_a_set_s_name_it_never_mixes_two_sets():
    sets = StubSet(), StubSet(name="strangers")
    uri = f"mongodb://{sets[0].members[0].host},{sets[1].members[0].host}/"
    with sets[1], weir_before(sets[0], uri=uri) as proxy:
        with pymongo.MongoClient(proxy.uri) as client:
            wait_for_news(proxy, "server_removed")
            near = client.get_database("test", read_preference=Nearest()).things
            for number in range(20):
                client.test.things.insert_one({"_id": number})
                near.find_one()
        assert [bool(members_asked(stub)) for stub in sets].count(True) == 1
        assert not sets[1].rejections


def test_names_that_cannot_be_resolved_are_said_with_what_to_do():
    """The seed can be reached; the names by which the set calls its members cannot."""
    stub = StubSet(hostname="no.such.host.invalid")
    uri = f"mongodb://127.0.0.1:{stub.members[0].port}/?replicaSet=stub"
    with weir_before(stub, *NO_WAIT, uri=uri) as proxy:
        for member in stub.members:
            down = proxy.wait_for("server_down", server=member.host)
            assert "resolve" in down["reason"] and "rs.conf()" in down["advice"]
        assert "rs.conf()" in proxy.wait_for("no_writable_server")["advice"]


def test_a_member_whose_certificate_is_another_s_is_left_out_and_said():
    """The certificate is for 127.0.0.1; 127.1 is the same address by another name."""
    certificates = servers.certificates()
    stub = StubSet(tls=certificates)
    ca = quote(str(certificates / "ca.pem"))
    wrong = stub.members[2]
    stub.alter(2, advertised=f"127.1:{wrong.port}")
    uri = f"{stub.seed(0)}&tls=true&tlsCAFile={ca}"
    with weir_before(stub, uri=uri) as proxy, pymongo.MongoClient(proxy.uri) as client:
        wait_for_members(stub, proxy, 0, 1)
        down = proxy.wait_for("server_down", server=wrong.host)
        assert "certificate" in down["reason"].lower() or "hostname" in down["reason"].lower()
        wait_until_read_from(stub, client, Nearest(), {0, 1})


def test_a_secondary_that_says_it_is_primary():
    """It is believed, as drivers would; it is not stormed with what it refuses, and no app waits
    for it longer than serverWait."""
    stub = StubSet()
    liar = stub.members[1]
    with weir_before(stub, "--server-wait", "1s", rejects=True) as proxy:
        wait_for_members(stub, proxy)
        lie = {"isWritablePrimary": True, "ismaster": True, "secondary": False}
        stub.alter(1, hello_overrides={**lie, "electionId": election_id(stub.term + 1)})
        wait_for_news(proxy, "server_changed", server=liar.host, kind="primary")
        with raw.Connection.to(proxy.address) as connection:
            session = {"lsid": {"id": bson.Binary(bytes(16), 4)}, "txnNumber": bson.Int64(1)}
            reply = connection.ask({"insert": "things", "documents": [{"_id": 1}], **session})
            assert reply["code"] == 6 and "NoWritesPerformed" not in reply["errorLabels"]
            assert 1 <= len(stub.asked("insert", member=1)) <= 5
        stub.alter(1, hello_overrides={})
        stub.elect(2)
        stub.elect(0)
        with pymongo.MongoClient(proxy.uri) as client:
            client.test.things.insert_one({"_id": 2})
        assert stub.asked("insert")[-1].member in (0, 2)


def test_replica_set_in_the_app_s_uri_fails_by_name():
    """The driver says what it looked for; weir cannot see it, no hello names the option."""
    stub = StubSet()
    with weir_before(stub) as proxy:
        with pymongo.MongoClient(
            proxy.uri, replicaSet="stub", serverSelectionTimeoutMS=500
        ) as client:
            with pytest.raises(ServerSelectionTimeoutError, match='replica set name "stub"'):
                client.test.things.find_one()
