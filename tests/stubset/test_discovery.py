# SPDX-License-Identifier: Apache-2.0
"""What a driver finds out about a set."""

from __future__ import annotations

import pymongo
import pytest
import raw
from pymongo.errors import ConfigurationError, ServerSelectionTimeoutError


def types(client: pymongo.MongoClient) -> dict[int, str]:
    """Port -> kind of server. (pymongo's own events are up to a second late.)"""
    servers = client.topology_description.server_descriptions().items()
    return {address[1]: server.server_type_name for address, server in servers}


def test_a_set_is_found_from_one_seed(stubs, connect):
    stub = stubs(members=3, arbiters=1, hidden=[2], tags={1: {"dc": "west"}})
    client = connect(stub.seed(1))
    ports = [member.port for member in stub.members]
    expected = {ports[0]: "RSPrimary", ports[1]: "RSSecondary", ports[3]: "RSArbiter"}
    stub.wait_until(lambda: types(client) == expected)
    assert client.primary == ("127.0.0.1", ports[0])
    servers = client.topology_description.server_descriptions()
    assert servers["127.0.0.1", ports[1]].tags == {"dc": "west"}


def test_hello_lists_each_kind_of_member_in_its_place(stubs, connect):
    stub = stubs(members=4, arbiters=1, hidden=[2], priorities={3: 0})
    hosts = [member.host for member in stub.members]
    hello = connect(stub.seed(2), directConnection=True).admin.command("hello")
    assert hello["hosts"] == hosts[:2]
    assert hello["passives"] == [hosts[3]]
    assert hello["arbiters"] == [hosts[4]]
    assert hello["primary"] == hosts[0]
    assert hello["hidden"] and hello["secondary"] and hello["me"] == hosts[2]


def test_an_election_is_seen_at_once_not_at_the_next_heartbeat(stubs, connect):
    stub = stubs()
    client = connect(stub.uri, heartbeatFrequencyMS=600_000)
    ports = [member.port for member in stub.members]
    terms = []
    for primary in (0, 2, 1):
        stub.elect(primary)
        expected = {port: "RSSecondary" for port in ports} | {ports[primary]: "RSPrimary"}
        stub.wait_until(lambda: types(client) == expected)
        servers = client.topology_description.server_descriptions()
        terms.append(servers["127.0.0.1", ports[primary]].election_id)
    assert terms == sorted(set(terms))


def test_a_member_comes_and_a_member_goes(stubs, connect):
    stub = stubs()
    client = connect(stub.uri)
    client.admin.command("ping")
    added = stub.add_member()
    stub.wait_until(lambda: ("127.0.0.1", stub.members[added].port) in client.nodes)
    stub.kill(2)
    stub.wait_until(lambda: ("127.0.0.1", stub.members[2].port) not in client.nodes)
    stub.restart(2)
    stub.wait_until(lambda: ("127.0.0.1", stub.members[2].port) in client.nodes)


def test_a_set_of_another_name_is_not_used(stubs, connect):
    stub = stubs(name="theirs")
    uri = stub.uri.replace("theirs", "ours")
    with pytest.raises(ServerSelectionTimeoutError):
        connect(uri, serverSelectionTimeoutMS=200).admin.command("ping")


@pytest.mark.parametrize("newest", [8, 9, 21, 27])
def test_wire_versions_can_be_set(stubs, connect, newest):
    stub = stubs(wire=(0, newest))
    with raw.Connection.to(("127.0.0.1", stub.members[0].port)) as connection:
        hello = connection.hello()
    assert (hello["minWireVersion"], hello["maxWireVersion"]) == (0, newest)
    assert ("topologyVersion" in hello) == (newest >= 9)
    if newest >= 9:  # older ones pymongo refuses
        connect(stub.uri).test.things.insert_one({})


def test_versions_that_no_driver_speaks_are_refused_by_the_driver(stubs, connect):
    stub = stubs(wire=(90, 99))
    with pytest.raises(ConfigurationError):
        connect(stub.uri).admin.command("ping")


def test_what_a_member_says_can_be_overridden(stubs, connect):
    stub = stubs()
    stub.alter(1, hello_overrides={"setName": "liar"})
    client = connect(stub.uri)
    client.admin.command("ping")
    stub.wait_until(lambda: ("127.0.0.1", stub.members[1].port) not in client.nodes)


def test_lag_is_what_a_driver_measures(stubs, connect):
    stub = stubs(members=2)
    stub.alter(1, lag_s=200.0)
    fresh = pymongo.read_preferences.Secondary(max_staleness=100)
    client = connect(stub.uri, serverSelectionTimeoutMS=300)
    client.admin.command("ping")  # staleness is against the primary, once that is known
    with pytest.raises(ServerSelectionTimeoutError):
        client.get_database("test", read_preference=fresh).things.find_one()
    stub.alter(1, lag_s=0.0)
    client = connect(stub.uri)
    client.get_database("test", read_preference=fresh).things.find_one()
