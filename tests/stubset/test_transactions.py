# SPDX-License-Identifier: Apache-2.0
"""Sessions, retryable writes and transactions, by the server's rules."""

from __future__ import annotations

import bson
import pytest
from pymongo.errors import OperationFailure

from .speaker import Speaker


def test_with_transaction_commits_or_nothing(stubs, connect):
    stub = stubs()
    client = connect(stub.uri)
    things = client.test.things
    things.insert_one({"_id": 1, "n": 0})

    def both(session):
        things.update_one({"_id": 1}, {"$inc": {"n": 1}}, session=session)
        things.insert_one({"_id": 2}, session=session)
        assert things.count_documents({}, session=session) == 2
        assert things.count_documents({}) == 1

    with client.start_session() as session:
        session.with_transaction(both)
    assert things.find_one({"_id": 1})["n"] == 1 and things.count_documents({}) == 2
    with client.start_session() as session:
        session.start_transaction()
        things.delete_many({}, session=session)
        session.abort_transaction()
    assert things.count_documents({}) == 2
    assert not stub.members[0].transactions._open


def test_a_transaction_is_lost_with_its_primary_and_run_again(stubs, connect):
    stub = stubs()
    client = connect(stub.uri)
    things = client.test.things
    things.insert_one({"_id": 1, "n": 0})
    attempts = []

    def work(session):
        attempts.append(stub.primary.index if stub.primary else None)
        things.update_one({"_id": 1}, {"$inc": {"n": 1}}, session=session)
        if len(attempts) == 1:
            stub.step_down()
        things.update_one({"_id": 1}, {"$inc": {"n": 1}}, session=session)

    with client.start_session() as session:
        session.with_transaction(work)
    assert len(attempts) > 1 and things.find_one({"_id": 1})["n"] == 2


@pytest.mark.parametrize("how", ["step_down", "black_hole"])
def test_a_transaction_is_lost_even_if_its_member_is_primary_again(stubs, how):
    stub = stubs()
    speaker = Speaker(stub)
    speaker.begin(1)
    if how == "step_down":
        stub.step_down()
    else:
        stub.black_hole(0)
        stub.black_hole(0, on=False)
    stub.elect(0)
    lost = speaker.go_on(1, {"find": "things"})
    assert lost["code"] == 251 and lost["errorLabels"] == ["TransientTransactionError"]
    assert speaker.ask({"count": "things"})["n"] == 0


def test_a_commit_that_was_executed_can_be_sent_again(stubs, connect):
    stub = stubs()
    client = connect(stub.uri)
    stub.fail("commitTransaction", close=True, executes=True)
    with client.start_session() as session, session.start_transaction():
        client.test.things.insert_one({}, session=session)
    assert len(stub.asked("commitTransaction")) == 2
    assert client.test.things.count_documents({}) == 1


def test_two_transactions_that_write_one_document_conflict(stubs, connect):
    stub = stubs()
    client = connect(stub.uri)
    things = client.test.things
    things.insert_one({"_id": 1})
    with client.start_session() as one, client.start_session() as two:
        one.start_transaction()
        two.start_transaction()
        things.update_one({"_id": 1}, {"$set": {"a": 1}}, session=one)
        with pytest.raises(OperationFailure) as raised:
            things.update_one({"_id": 1}, {"$set": {"a": 2}}, session=two)
        assert raised.value.code == 112
        assert raised.value.has_error_label("TransientTransactionError")
        one.commit_transaction()
        two.abort_transaction()
    assert things.find_one() == {"_id": 1, "a": 1}


def test_numbers_only_go_up(stubs):
    stub = stubs(rejects=True)
    speaker = Speaker(stub)
    insert = {"insert": "things", "documents": [{}]}
    assert speaker.ask(insert, 5)["n"] == 1
    again = speaker.ask(insert, 5)
    assert again["n"] == 1 and again["retriedStmtIds"] == [0]
    assert speaker.ask({"count": "things"})["n"] == 1
    assert speaker.ask(insert, 4)["code"] == 225
    assert speaker.begin(5)["code"] == 50911
    assert speaker.begin(6)["ok"]
    assert speaker.begin(6)["code"] == 50911
    assert speaker.go_on(5, insert)["code"] == 225
    assert [rejection.code for rejection in stub.rejections] == [225, 50911, 50911, 225]


def test_a_statement_finds_its_transaction_on_its_member_alone(stubs):
    stub = stubs("sharded", rejects=True)
    here = Speaker(stub, 0)
    there = Speaker(stub, 1, here.session)
    assert here.begin(1)["ok"]
    refused = there.go_on(1, {"find": "things"})
    assert refused["code"] == 251 and refused["errorLabels"] == ["TransientTransactionError"]
    assert Speaker(stub, 0).go_on(1, {"find": "things"})["code"] == 251
    assert here.go_on(1, {"find": "things"})["ok"]
    assert len(stub.rejections) == 2


def test_what_is_wrong_in_a_transaction(stubs):
    stub = stubs(rejects=True)
    speaker = Speaker(stub)
    find = {"find": "things"}
    assert speaker.ask(find, 1)["code"] == 50768
    assert speaker.ask(find, 1, autocommit=True)["code"] == 72
    assert speaker.connection.ask({**find, "txnNumber": bson.Int64(1)})["code"] == 72
    assert speaker.ask(find, autocommit=False)["code"] == 72
    assert speaker.begin(1, {"count": "things"})["code"] == 263
    assert speaker.begin(2, {**find, "writeConcern": {"w": 1}})["code"] == 72
    assert speaker.begin(3)["ok"]
    assert speaker.go_on(3, {**find, "readConcern": {"level": "majority"}})["code"] == 72
    assert speaker.end(4)["code"] == 251
    assert len(stub.rejections) == 8


def test_the_end_of_a_transaction(stubs):
    stub = stubs(rejects=True)
    speaker = Speaker(stub)
    speaker.begin(1)
    assert speaker.end(1)["ok"] and speaker.end(1)["ok"]
    assert speaker.end(1, "abortTransaction")["code"] == 256
    speaker.begin(2)
    assert speaker.end(2, "abortTransaction")["ok"]
    assert speaker.end(2)["errorLabels"] == ["TransientTransactionError"]
    assert Speaker(stub, 1, speaker.session).end(1)["code"] == 10107


def test_an_error_ends_a_transaction(stubs):
    stub = stubs(rejects=True)
    speaker = Speaker(stub)
    speaker.begin(1, {"insert": "things", "documents": [{"_id": 1}]})
    twice = speaker.go_on(1, {"insert": "things", "documents": [{"_id": 1}]})
    assert twice["writeErrors"][0]["code"] == 11000
    assert speaker.end(1)["code"] == 251
    assert speaker.ask({"count": "things"})["n"] == 0


def test_ending_a_session_aborts_and_kills_what_is_its(stubs):
    stub = stubs(rejects=True)
    speaker = Speaker(stub)
    speaker.ask({"insert": "things", "documents": [{}, {}]})
    cursor = speaker.ask({"find": "things", "batchSize": 1})["cursor"]["id"]
    speaker.begin(1)
    assert speaker.connection.ask({"endSessions": [speaker.session]}, db="admin")["ok"]
    assert speaker.end(1)["code"] == 251
    assert speaker.ask({"getMore": cursor, "collection": "things"})["code"] == 43


def test_a_standalone_has_no_transaction_numbers(stubs):
    stub = stubs("standalone", rejects=True)
    refused = Speaker(stub).ask({"insert": "things", "documents": [{}]}, 1)
    assert refused["code"] == 20 and refused["errmsg"].startswith("Transaction numbers")
    assert "$clusterTime" not in refused
