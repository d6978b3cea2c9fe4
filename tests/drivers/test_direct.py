# SPDX-License-Identifier: Apache-2.0
"""directConnection=true in the URI of the deployment: one member, whatever it is."""

from __future__ import annotations

import json

import pymongo
import pytest
from deployments import (
    StubSet,
    hello,
    members_asked,
    passed_on,
    speaking_to,
    wait_for_members,
    wait_for_news,
    weir_before,
)
from drivers import DRIVERS
from pymongo.errors import NotPrimaryError
from pymongo.read_preferences import Nearest, Secondary

LOOSE = {"mode": "primaryPreferred"}


def direct_to(stub: StubSet, index: int) -> str:
    return f"mongodb://{stub.members[index].host}/?directConnection=true"


def weir_to(stub: StubSet, index: int, *arguments: str, **named):
    return weir_before(stub, *arguments, uri=direct_to(stub, index), **named)


def preferences(stub: StubSet, *names: str) -> list:
    return [command.read_preference for command in passed_on(stub, *names)]


def test_a_secondary_is_read_from_as_by_a_driver_that_is_connected_to_it():
    stub = StubSet()
    with weir_to(stub, 1) as proxy, pymongo.MongoClient(proxy.uri) as client:
        wait_for_members(stub, proxy, 1)
        with pymongo.MongoClient(direct_to(stub, 0)) as writer:
            writer.test.things.insert_many([{"_id": number} for number in range(5)])
        things = client.test.things
        assert len(list(things.find(batch_size=2))) == 5  # and its getMores
        assert things.count_documents({}) == 5 and client.test.list_collection_names() == ["things"]
        for preference in (Secondary(tag_sets=[{"dc": "mars"}]), Nearest()):
            client.get_database("test", read_preference=preference).things.find_one()
        assert members_asked(stub) == {1}
        assert preferences(stub, "find") == [
            LOOSE, {"mode": "secondary", "tags": [{"dc": "mars"}]}, {"mode": "nearest"}
        ]  # fmt: skip
        with speaking_to(proxy) as connection:  # as some tools do
            asked = {"find": "things", "$readPreference": {"mode": "primary"}}
            assert connection.ask(asked)["ok"] == 1
            assert preferences(stub, "find")[-1] == LOOSE


def test_writes_get_what_the_member_itself_says():
    stub = StubSet()
    with weir_to(stub, 1, rejects=True) as proxy:
        wait_for_members(stub, proxy, 1)
        for uri in (direct_to(stub, 1), proxy.uri):  # the same without weir and with it
            with pymongo.MongoClient(uri, retryWrites=False) as client:
                with pytest.raises(NotPrimaryError) as refused:
                    client.test.things.insert_one({})
                assert refused.value.details["code"] == 10107, uri
                assert client.test.things.find_one() is None
        with speaking_to(proxy) as connection:
            reply = connection.ask({"insert": "things", "documents": [{}]})
            assert reply["code"] == 10107 and "topologyVersion" not in reply
        assert "preference" not in str(passed_on(stub, "insert")[-1].body).lower()


@pytest.mark.parametrize(
    "index, writable, secondary",
    ((0, True, None), (1, False, True), (3, False, False)),
    ids=("primary", "secondary", "arbiter"),
)
def test_hello_says_what_the_member_is(index, writable, secondary):
    stub = StubSet(arbiters=1)
    with weir_to(stub, index) as proxy:
        wait_for_members(stub, proxy, index)
        said = hello(proxy)
        assert (said["isWritablePrimary"], said.get("secondary")) == (writable, secondary)
        assert said["msg"] == "isdbgrid" and "setName" not in said


def test_a_member_that_changes_is_followed():
    """A primary that steps down was taken for one: what it refuses then waits for what it is."""
    stub = StubSet(elects=False)
    with weir_to(stub, 0) as proxy, pymongo.MongoClient(proxy.uri) as client:
        wait_for_members(stub, proxy, 0)
        client.test.things.insert_one({"_id": 1})
        stub.step_down(elects=False)
        assert client.test.things.find_one() == {"_id": 1}
        with pytest.raises(NotPrimaryError) as refused:
            client.test.things.insert_one({"_id": 2})
        assert refused.value.details["code"] == 10107
        stub.elect(0)
        wait_for_news(proxy, "server_changed", server=stub.members[0].host, kind="primary")
        client.test.things.insert_one({"_id": 2})


def test_a_recovering_member_says_so_itself():
    stub = StubSet()
    with weir_to(stub, 1, rejects=True) as proxy:
        wait_for_members(stub, proxy, 1)
        stub.recovering(1)
        wait_for_news(proxy, "server_changed", server=stub.members[1].host, kind="other")
        with speaking_to(proxy) as connection:
            reply = connection.ask({"find": "things"})
            assert "recovering" in reply["errmsg"]


def test_nodes_driver_reads_there():
    driver = DRIVERS["node"] if not DRIVERS["node"].why_not() else DRIVERS["node-6"]
    if driver.why_not():
        pytest.skip(driver.why_not())
    stub = StubSet()
    with weir_to(stub, 1, rejects=True) as proxy:
        wait_for_members(stub, proxy, 1)
        process = driver.start("direct", proxy.uri, frozenset())
        said = process.communicate(timeout=60)[0]
        assert json.loads(said.splitlines()[-1]) == {"first": [], "refused": 10107, "second": []}
        assert preferences(stub, "find") == [LOOSE, LOOSE]
