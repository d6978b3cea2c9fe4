# SPDX-License-Identifier: Apache-2.0
"""Who may be asked for what."""

from __future__ import annotations

import pytest
import raw
from pymongo.errors import NotPrimaryError
from pymongo.read_preferences import Nearest, Primary, Secondary


def ask(stub, index: int, document: dict) -> dict:
    with raw.Connection.to(("127.0.0.1", stub.members[index].port)) as connection:
        return connection.ask(document)


def test_reads_go_where_the_read_preference_says(stubs, connect):
    stub = stubs(tags={1: {"dc": "east"}, 2: {"dc": "west"}})
    client = connect(stub.uri)
    client.test.things.insert_one({"_id": 1})
    for preference, members in (
        (Primary(), {0}),
        (Secondary(), {1, 2}),
        (Nearest(), {0, 1, 2}),
        (Secondary(tag_sets=[{"dc": "west"}]), {2}),
    ):
        stub.commands.clear()
        database = client.get_database("test", read_preference=preference)
        stub.wait_until(lambda: database.things.find_one() and _asked_members(stub) == members)


def _asked_members(stub) -> set[int]:
    return {command.member for command in stub.asked("find")}


def test_added_round_trip_time_moves_reads_away(stubs, connect):
    stub = stubs()
    stub.alter(1, rtt_s=0.3)
    client = connect(stub.uri)
    client.test.things.insert_one({})
    stub.wait_until(lambda: len(client.secondaries) == 2)
    database = client.get_database("test", read_preference=Secondary())
    for _ in range(20):
        database.things.find_one()
    assert _asked_members(stub) == {2}


def test_a_write_on_a_secondary_is_rejected(stubs):
    stub = stubs(rejects=True)
    reply = ask(stub, 1, {"insert": "things", "documents": [{}]})
    assert reply["code"] == 10107 and reply["topologyVersion"] and "errorLabels" not in reply
    lsid = {"id": raw.bson.Binary(bytes(16), 4)}
    retryable = {"lsid": lsid, "txnNumber": raw.bson.Int64(1)}
    reply = ask(stub, 1, {"insert": "things", "documents": [{}], **retryable})
    assert reply["errorLabels"] == ["RetryableWriteError"]


def test_a_read_on_a_secondary_needs_a_read_preference(stubs):
    stub = stubs(rejects=True)
    assert ask(stub, 1, {"find": "things"})["code"] == 13435
    assert ask(stub, 1, {"find": "things", "$readPreference": {"mode": "primary"}})["code"] == 13435
    assert ask(stub, 1, {"find": "things", "$readPreference": {"mode": "nearest"}})["ok"]
    assert ask(stub, 1, {"find": "things", "$readPreference": {"mode": "wherever"}})["code"] == 9
    stub.recovering(1)
    reply = ask(stub, 1, {"find": "things", "$readPreference": {"mode": "nearest"}})
    assert reply["code"] == 13436


def test_what_is_rejected_is_recorded_with_who_asked(stubs):
    stub = stubs(rejects=True)
    ask(stub, 2, {"find": "things"})
    (rejection,) = stub.excused + stub.rejections
    assert (rejection.member, rejection.name, rejection.code) == (2, "find", 13435)


def test_a_driver_that_goes_to_a_secondary_by_force_is_told(stubs, connect):
    stub = stubs(rejects=True)
    client = connect(f"mongodb://{stub.members[1].host}/", directConnection=True)
    with pytest.raises(NotPrimaryError):
        client.test.things.insert_one({})


def test_causal_reads_and_foreign_cluster_times(stubs, connect):
    stub, other = stubs(rejects=True), stubs(rejects=True)
    client = connect(stub.uri)
    with client.start_session(causal_consistency=True) as session:
        client.test.things.insert_one({"_id": 1}, session=session)
        assert client.test.things.find_one(session=session) == {"_id": 1}
        after = stub.asked("find")[-1].body["readConcern"]["afterClusterTime"]
        assert after == session.operation_time
        foreign = session.cluster_time
    assert not stub.rejections
    assert ask(other, 0, {"ping": 1, "$clusterTime": foreign})["code"] == 211
    forged = {**foreign, "signature": {**foreign["signature"], "hash": bytes(20)}}
    assert ask(stub, 0, {"ping": 1, "$clusterTime": forged})["code"] == 204
    ahead = raw.bson.Timestamp(after.time + 1000, 1)
    reply = ask(stub, 0, {"find": "things", "readConcern": {"afterClusterTime": ahead}})
    assert reply["code"] == 72
