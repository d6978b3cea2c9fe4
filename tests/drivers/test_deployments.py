# SPDX-License-Identifier: Apache-2.0
"""weir before a stub of a whole deployment, which tells of every request that went wrong."""

from __future__ import annotations

import sys
from pathlib import Path

import pymongo
import pytest
import weir

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from stubset import StubSet, User  # noqa: E402

CAP = 4
DEPLOYMENTS = {
    "one member": lambda: StubSet(members=1),
    "replica set": lambda: StubSet(members=3, arbiters=1, collide_cursor_ids=True),
    "mongos": lambda: StubSet("sharded", 1),
    "users": lambda: StubSet(users=[User("app", "secret")]),
}
FAILOVERS = {
    "step_down": lambda stub, primary: stub.step_down(),
    "kill": lambda stub, primary: stub.kill(primary),
    "shut_down": lambda stub, primary: stub.shut_down(primary),
}


def uri_of(stub: StubSet) -> str:
    for user in stub.users:
        return stub.uri.replace("//", f"//{user.name}:{user.password}@")
    return stub.uri


@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_nothing_is_rejected_and_the_cap_holds(deployment):
    with (
        DEPLOYMENTS[deployment]() as stub,
        weir.Weir(uri_of(stub), cap=CAP) as proxy,
        pymongo.MongoClient(proxy.uri) as client,
    ):
        things = client.test.things
        things.insert_many([{"_id": number} for number in range(20)])
        cursors = [things.find(batch_size=3) for _ in range(2 * CAP)]
        assert all(len(row) == 2 * CAP for row in zip(*cursors, strict=True))
        with client.start_session() as session:
            session.with_transaction(
                lambda session: things.insert_one({"_id": 20}, session=session)
            )
        with things.watch(max_await_time_ms=100) as stream:
            things.update_one({"_id": 20}, {"$set": {"a": 1}})
            assert stream.next()["documentKey"] == {"_id": 20}
        assert things.count_documents({}) == 21
        assert not stub.rejections
        assert all(stub.tally(member.index, "weir").peak <= CAP for member in stub.members)


@pytest.mark.parametrize("how", FAILOVERS)
def test_a_failover_costs_no_error_and_writes_happen_once(how):
    with (
        StubSet() as stub,
        weir.Weir(stub.uri, cap=CAP) as proxy,
        pymongo.MongoClient(proxy.uri) as client,
    ):
        things = client.test.things
        things.insert_one({"_id": 1, "n": 0})
        for done in range(1, 40):
            if done == 20:
                FAILOVERS[how](stub, stub.primary.index)
            things.update_one({"_id": 1}, {"$inc": {"n": 1}})
            assert things.find_one() == {"_id": 1, "n": done}
        assert not stub.rejections
