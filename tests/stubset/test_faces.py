# SPDX-License-Identifier: Apache-2.0
"""What is no replica set: mongos, a standalone, and what stands behind a load balancer."""

from __future__ import annotations

import pytest
import raw
from pymongo.errors import OperationFailure

from .speaker import Speaker


def test_several_mongos_share_the_work(stubs, connect):
    stub = stubs("sharded", 3)
    client = connect(stub.uri)
    stub.wait_until(lambda: len(client.nodes) == 3)
    things = client.test.things
    things.insert_many([{"_id": n} for n in range(10)])
    stub.wait_until(
        lambda: things.find_one() and {c.member for c in stub.asked("find")} == {0, 1, 2}
    )
    for _ in range(10):
        assert len(list(things.find(batch_size=2))) == 10


def test_a_transaction_stays_at_its_mongos(stubs, connect):
    stub = stubs("sharded", 3)
    client = connect(stub.uri)
    client.test.things.insert_one({"_id": 0})
    stub.wait_until(lambda: len(client.nodes) == 3)
    for number in range(1, 10):
        stub.commands.clear()
        with client.start_session() as session, session.start_transaction():
            client.test.things.insert_one({"_id": number}, session=session)
            client.test.things.find_one({"_id": number}, session=session)
        members = {c.member for c in stub.asked("insert", "find", "commitTransaction")}
        assert len(members) == 1
    assert stub.asked("commitTransaction")[0].body["recoveryToken"]


def test_a_commit_is_recovered_at_another_mongos(stubs):
    stub = stubs("sharded", rejects=True)
    here = Speaker(stub, 0)
    there = Speaker(stub, 1, here.session)
    token = here.begin(1)["recoveryToken"]
    assert here.end(1)["ok"]
    assert there.end(1, recoveryToken=token)["ok"]
    token = here.begin(2)["recoveryToken"]
    lost = there.end(2, recoveryToken=token)
    assert lost["code"] == 251 and lost["errorLabels"] == ["TransientTransactionError"]
    here.begin(3)
    assert there.end(3)["code"] == 251
    assert [rejection.code for rejection in stub.rejections] == [251]


def test_a_mongos_that_dies_is_done_without(stubs, connect):
    stub = stubs("sharded")
    client = connect(stub.uri)
    for number in range(20):
        if number == 10:
            stub.kill(0)
        client.test.things.insert_one({"_id": number})
    assert client.test.things.count_documents({}) == 20


def test_a_standalone_is_one(stubs, connect):
    stub = stubs("standalone")
    client = connect(stub.uri)
    client.test.things.insert_one({"_id": 1})
    assert client.test.things.find_one() == {"_id": 1}
    assert client.topology_description.topology_type_name == "Single"
    assert "txnNumber" not in stub.asked("insert")[0].body
    with pytest.raises(OperationFailure):
        client.test.things.watch()
    stub.rejections.clear()


def test_behind_a_load_balancer_all_belongs_to_the_connection(stubs, connect):
    stub = stubs("load_balanced")
    client = connect(stub.uri)
    things = client.test.things
    things.insert_many([{"_id": n} for n in range(10)])
    one, two = things.find(batch_size=2), things.find(batch_size=2)
    assert list(zip(one, two)) == [({"_id": n}, {"_id": n}) for n in range(10)]
    with client.start_session() as session, session.start_transaction():
        things.insert_one({"_id": 10}, session=session)
        assert things.find_one({"_id": 11}) is None
        things.insert_one({"_id": 11}, session=session)
    assert things.count_documents({}) == 12
    assert {command.member for command in stub.commands} == {0, 1}


def test_a_load_balancer_does_without_a_backend_that_died(stubs, connect):
    stub = stubs("load_balanced")
    things = connect(stub.uri).test.things
    for number in range(20):
        if number == 10:
            stub.kill(0)
        things.insert_one({"_id": number})
    assert {command.member for command in stub.asked("insert")[-9:]} == {1}
    stub.restart(0)
    stub.kill(1)
    assert things.count_documents({}) == 20


def test_behind_a_load_balancer_hello_must_say_so(stubs):
    stub = stubs("load_balanced", rejects=True)
    with raw.Connection.to(("127.0.0.1", stub.members[0].port)) as connection:
        assert connection.hello()["code"] == 354
        assert connection.ask({"hello": 1, "loadBalanced": True}, db="admin")["serviceId"]


def test_behind_a_load_balancer_cursors_end_with_the_connection(stubs):
    stub = stubs("load_balanced", 1, rejects=True)
    first, second = Speaker(stub), Speaker(stub)
    second.session = first.session
    first.ask({"insert": "things", "documents": [{}, {}]})
    opened = first.ask({"find": "things", "batchSize": 1})["cursor"]["id"]
    more = {"getMore": opened, "collection": "things"}
    assert second.ask(more)["code"] == 43
    assert first.begin(1)["ok"]
    assert second.go_on(1, {"find": "things"})["code"] == 251
    first.connection.stream.close()
    stub.wait_until(lambda: not len(stub.members[0].cursors))
    stub.wait_until(lambda: not len(stub.members[0].transactions))
