# SPDX-License-Identifier: Apache-2.0
"""Which server a request goes to, what it looks like there, and how many connections that takes."""

from __future__ import annotations

import contextlib
import threading

import bson
import pymongo
import pytest
import raw
from bson.int64 import Int64
from deployments import (
    Crowd,
    StubSet,
    members_asked,
    passed_on,
    read_from,
    speaking_to,
    wait_for_members,
    wait_for_news,
    wait_until_read_from,
    weir_before,
)
from pymongo.errors import OperationFailure
from pymongo.read_preferences import (
    Nearest,
    Primary,
    PrimaryPreferred,
    Secondary,
    SecondaryPreferred,
)

NOBODY = "nobody"  # 133: there are servers, and none of them suits
NONE = "none"  # 6: there is no primary
TAGS = {0: {"dc": "east", "disk": "ssd"}, 1: {"dc": "east"}, 2: {"dc": "west"}}
EAST, WEST, MARS = {"dc": "east"}, {"dc": "west"}, {"dc": "mars"}


def outcome(stub: StubSet, client: pymongo.MongoClient, preference) -> object:
    """Who is read from, or how that is refused."""
    try:
        return read_from(stub, client, preference)
    except OperationFailure as error:
        return {133: NOBODY, 6: NONE}[error.code]


# --- modes and tags -----------------------------------------------------------------------------

# Who is read from when there is a primary (member 0), and when there is none.
MODES = {
    "primary": (Primary(), {0}, NONE),
    "primary preferred": (PrimaryPreferred(), {0}, {0, 1, 2}),
    "secondary": (Secondary(), {1, 2}, {0, 1, 2}),
    "secondary preferred": (SecondaryPreferred(), {1, 2}, {0, 1, 2}),
    "nearest": (Nearest(), {0, 1, 2}, {0, 1, 2}),
    "a tag": (Secondary(tag_sets=[WEST]), {2}, {2}),
    "a tag of the primary, too": (Secondary(tag_sets=[EAST]), {1}, {0, 1}),
    "two tags": (Nearest(tag_sets=[{"dc": "east", "disk": "ssd"}]), {0}, {0}),
    "the first set that suits anybody": (Nearest(tag_sets=[MARS, EAST, WEST]), {0, 1}, {0, 1}),
    "any, at last": (Secondary(tag_sets=[MARS, {}]), {1, 2}, {0, 1, 2}),
    "no tags of the primary's": (PrimaryPreferred(tag_sets=[WEST]), {0}, {2}),
    "tags of nobody, then the primary": (SecondaryPreferred(tag_sets=[MARS]), {0}, NONE),
    "tags of nobody": (Secondary(tag_sets=[MARS]), NOBODY, NONE),
    "nearest with tags of nobody": (Nearest(tag_sets=[MARS]), NOBODY, NONE),
}


@pytest.mark.parametrize("primary", (True, False), ids=("primary", "no primary"))
def test_reads_go_where_mode_and_tags_say(primary):
    stub = StubSet(tags=TAGS, elects=False)
    with (
        weir_before(stub, "--server-wait", "100ms") as proxy,
        pymongo.MongoClient(proxy.uri, retryReads=False) as client,
    ):
        wait_for_members(stub, proxy)
        if not primary:
            stub.step_down(elects=False)
            former = stub.members[0].host
            wait_for_news(proxy, "server_changed", server=former, kind="secondary")
        for name, (preference, with_one, without) in MODES.items():
            wanted = with_one if primary else without
            try:
                stub.wait_until(lambda: outcome(stub, client, preference) == wanted)
            except AssertionError:
                raise AssertionError(f"{name}: {outcome(stub, client, preference)}") from None


def test_the_read_preference_stays_in_the_message():
    """A secondary refuses a read without one. What nobody asked for is not added, either."""
    stub = StubSet(tags=TAGS)
    with weir_before(stub) as proxy, pymongo.MongoClient(proxy.uri) as client:
        wait_for_members(stub, proxy)
        west = Secondary(tag_sets=[MARS, WEST], max_staleness=120)
        client.get_database("test", read_preference=west).things.find_one()
        client.test.things.find_one()
        assert [command.read_preference for command in stub.asked("find")] == [
            {"mode": "secondary", "tags": [MARS, WEST], "maxStalenessSeconds": 120},
            None,
        ]


# --- staleness and distance ---------------------------------------------------------------------


def test_members_that_lag_too_far_behind_are_left_out():
    stub = StubSet()
    with stub:
        stub.alter(1, lag_s=200)
        with weir_before(stub) as proxy, pymongo.MongoClient(proxy.uri) as client:
            wait_for_members(stub, proxy)
            for most, members in ((90, {2}), (150, {2}), (300, {1, 2})):
                wait_until_read_from(stub, client, Secondary(max_staleness=most), members)
                wait_until_read_from(stub, client, PrimaryPreferred(max_staleness=most), {0})
                wait_until_read_from(stub, client, Nearest(max_staleness=most), {0} | members)
            stub.alter(1, lag_s=0)
            wait_until_read_from(stub, client, Secondary(max_staleness=90), {1, 2})


def test_all_secondaries_lag():
    stub = StubSet()
    with stub:
        stub.alter(1, lag_s=200)
        stub.alter(2, lag_s=200)
        with (
            weir_before(stub, "--server-wait", "100ms") as proxy,
            pymongo.MongoClient(proxy.uri, retryReads=False) as client,
        ):
            wait_for_members(stub, proxy)
            for preference, wanted in (
                (Secondary(max_staleness=90), NOBODY),
                (SecondaryPreferred(max_staleness=90), {0}),
            ):
                stub.wait_until(lambda: outcome(stub, client, preference) == wanted)


def test_a_staleness_below_what_can_be_measured_is_refused():
    stub = StubSet()
    with weir_before(stub) as proxy, pymongo.MongoClient(proxy.uri) as client:
        wait_for_members(stub, proxy)
        with pytest.raises(OperationFailure) as refused:
            read_from(stub, client, Secondary(max_staleness=89))
        assert refused.value.code == 160 and not stub.asked("find")


@pytest.mark.parametrize("window_ms, members", ((15, {0, 2}), (500, {0, 1, 2})))
def test_only_members_within_the_latency_window_are_read_from(window_ms, members):
    stub = StubSet()
    with stub:
        stub.alter(1, rtt_s=0.1)
        uri = f"{stub.uri}&localThresholdMS={window_ms}"
        with weir_before(stub, uri=uri) as proxy, pymongo.MongoClient(proxy.uri) as client:
            wait_for_members(stub, proxy)
            wait_until_read_from(stub, client, Nearest(), members)


def test_the_one_with_fewer_in_flight_is_read_from():
    """Of two alike, one is busy with four reads that last."""
    stub = StubSet()
    with weir_before(stub, cap=8) as proxy, pymongo.MongoClient(proxy.uri) as client:
        wait_for_members(stub, proxy)
        lasting = stub.fail("count", member=1, delay_s=30, times=None)
        west = client.get_database("test", read_preference=Secondary())
        threads = [
            threading.Thread(target=west.things.estimated_document_count) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        stub.wait_until(lambda: lasting.delayed >= 1 and proxy.state()["queued"] == 0)
        stub.wait_until(lambda: read_from(stub, client, Secondary()) == {2})
        stub.kill(1)
        for thread in threads:
            thread.join()


# --- for the primary, whatever the preference says ----------------------------------------------

ANY = {"$readPreference": {"mode": "secondaryPreferred"}}
FOR_THE_PRIMARY = (
    {"insert": "things", "documents": [{"_id": 9}]},
    {"update": "things", "updates": [{"q": {"_id": 9}, "u": {"$set": {"a": 1}}}]},
    {"delete": "things", "deletes": [{"q": {"_id": 9}, "limit": 1}]},
    {"findAndModify": "things", "query": {"_id": 1}, "update": {"$set": {"a": 1}}},
    {"aggregate": "things", "pipeline": [{"$match": {}}, {"$out": "copy"}], "cursor": {}},
    {"aggregate": "things", "pipeline": [{"$merge": {"into": "copy"}}], "cursor": {}},
    {"create": "made"},
    {"createIndexes": "made", "indexes": [{"key": {"a": 1}, "name": "by_a"}]},
    {"listIndexes": "made"},
    {"listCollections": 1},
    {"dropIndexes": "made", "index": "by_a"},
    {"drop": "made"},
    {"dropDatabase": 1},
)


def test_these_go_to_the_primary_whatever_the_preference_says():
    stub = StubSet()
    with weir_before(stub) as proxy, speaking_to(proxy) as connection:
        wait_for_members(stub, proxy)
        for command in FOR_THE_PRIMARY:
            reply = connection.ask({**command, **ANY})
            assert reply["ok"] == 1, (command, reply)
        assert connection.ask({"listDatabases": 1, **ANY}, db="admin")["ok"] == 1
        assert members_asked(stub) == {0}


def test_these_go_where_the_preference_says():
    stub = StubSet()
    with weir_before(stub) as proxy, speaking_to(proxy) as connection:
        wait_for_members(stub, proxy)
        for command in (
            {"find": "things"},
            {"count": "things"},
            {"distinct": "things", "key": "a"},
            {"aggregate": "things", "pipeline": [{"$match": {}}], "cursor": {}},
            {"ping": 1},
        ):
            reply = connection.ask({**command, "$readPreference": {"mode": "secondary"}})
            assert reply["ok"] == 1, (command, reply)
        assert len(passed_on(stub)) == 5 and members_asked(stub) <= {1, 2}


def test_a_transaction_is_at_the_primary():
    stub = StubSet()
    with weir_before(stub) as proxy, pymongo.MongoClient(proxy.uri) as client:
        wait_for_members(stub, proxy)
        near = client.get_database("test", read_preference=Secondary())
        with client.start_session() as session, session.start_transaction():
            client.test.things.insert_one({"_id": 1}, session=session)
            in_it = client.test.things.find_one(session=session)
            assert in_it == {"_id": 1} and near.things.find_one() is None
        finds = [command.member for command in stub.asked("find")]
        assert finds[0] == 0 and finds[1] in (1, 2)
        assert members_asked(stub, "insert", "commitTransaction") == {0}


# --- several mongos -----------------------------------------------------------------------------


def test_requests_are_spread_over_several_mongos():
    stub = StubSet("sharded", 3)
    with weir_before(stub) as proxy, pymongo.MongoClient(proxy.uri) as client:
        wait_for_members(stub, proxy)
        for preference in (Primary(), Secondary(), Nearest()):
            wait_until_read_from(stub, client, preference, {0, 1, 2})
        client.test.things.insert_many([{"_id": number} for number in range(10)])
        cursors = [client.test.things.find(batch_size=2) for _ in range(9)]
        assert all(len(row) == 9 for row in zip(*cursors, strict=True))


def test_a_transaction_stays_at_its_mongos_and_its_token_is_passed():
    stub = StubSet("sharded", 3)
    with weir_before(stub) as proxy, pymongo.MongoClient(proxy.uri) as client:
        wait_for_members(stub, proxy)
        things = client.test.things
        for number in range(12):
            stub.commands.clear()
            with client.start_session() as session:
                with session.start_transaction():
                    things.insert_one({"_id": number}, session=session)
                    things.update_one({"_id": number}, {"$set": {"a": 1}}, session=session)
            assert len(members_asked(stub, "insert", "update", "commitTransaction")) == 1
            (commit,) = stub.asked("commitTransaction")
            assert commit.body["recoveryToken"] == {"recoveryShardId": "stub"}
        assert things.count_documents({"a": 1}) == 12


def test_a_commit_whose_mongos_is_gone_ends_at_another():
    stub = StubSet("sharded", 2)
    with weir_before(stub) as proxy, pymongo.MongoClient(proxy.uri) as client:
        wait_for_members(stub, proxy)
        with client.start_session() as session:
            session.start_transaction()
            client.test.things.insert_one({"_id": 1}, session=session)
            lost = stub.fail("commitTransaction", close=True, executes=True)
            (begun,) = members_asked(stub, "insert")
            session.commit_transaction()
            assert lost.hits == 1
        assert client.test.things.find_one() == {"_id": 1}
        assert begun in members_asked(stub, "commitTransaction")


def test_a_commit_whose_mongos_is_dead_ends_at_another():
    stub = StubSet("sharded", 2)
    patient = ("--server-wait", "10m")
    with weir_before(stub, *patient) as proxy, pymongo.MongoClient(proxy.uri) as client:
        wait_for_members(stub, proxy)
        with client.start_session() as session, pymongo.timeout(60):
            session.start_transaction()
            client.test.things.insert_one({"_id": 1}, session=session)
            (begun,) = members_asked(stub, "insert")
            stub.kill(begun)
            with pytest.raises(OperationFailure):  # the stub's mongos keeps it in its memory alone
                session.commit_transaction()
        assert members_asked(stub, "commitTransaction") == {1 - begun}


def test_a_mongos_that_dies_is_done_without():
    stub = StubSet("sharded", 2)
    with weir_before(stub) as proxy:
        wait_for_members(stub, proxy)
        with Crowd(proxy.uri, lambda client, *_: client.test.things.find_one()) as crowd:
            crowd.wait_for_turns()
            stub.kill(0)
            crowd.wait_for_turns(20)
            stub.restart(0)
            wait_for_news(proxy, "server_down", server=stub.members[0].host)
            stub.wait_until(lambda: members_asked(stub) == {0, 1} or stub.commands.clear())
        assert crowd.errors == []


# --- connections --------------------------------------------------------------------------------


def test_each_server_has_its_cap():
    stub = StubSet()
    stub.fail("find", delay_s=0.01, times=None)
    with weir_before(stub, "--max-wait", "30s", cap=3) as proxy:
        wait_for_members(stub, proxy)

        def read(client, number, turn):
            client.get_database("test", read_preference=Nearest()).things.find_one()

        with Crowd(proxy.uri, read, threads=24) as crowd:
            crowd.wait_for_turns(5)
        assert crowd.errors == []
        assert [stub.tally(index, "weir").peak for index in range(3)] == [3, 3, 3]


def total_open(stub: StubSet) -> int:
    return sum(stub.tally(member.index, "weir").open for member in stub.members)


@pytest.mark.parametrize("most", (1, 2, 4))
def test_all_servers_together_have_theirs_and_each_gets_a_turn(most):
    """Also with fewer connections than members: reads take them away from one another."""
    stub = StubSet()
    with weir_before(
        stub, "--max-wait", "30s", "--max-total-connections", str(most), cap=3
    ) as proxy:
        wait_for_members(stub, proxy)

        def read(client, number, turn):
            assert total_open(stub) <= most
            client.get_database("test", read_preference=Nearest()).things.find_one()
            client.test.things.update_one({"_id": number}, {"$inc": {"n": 1}}, upsert=True)

        with Crowd(proxy.uri, read, threads=8) as crowd:
            crowd.wait_for_turns(8)
        assert crowd.errors == []
        assert members_asked(stub, "find") == {0, 1, 2}


# --- byte for byte ------------------------------------------------------------------------------

SESSION = {"id": bson.Binary(bytes(range(16)), 4)}
COMMENTS = ("text", 1, 1.5, {"a": [1, {"b": None}]}, [1, 2], True, None, bson.ObjectId(bytes(12)))
UNTOUCHED = (
    {"find": "things", "apiVersion": "1", "apiStrict": True, "apiDeprecationErrors": True},
    *({"find": "things", "comment": comment} for comment in COMMENTS),
    {"find": "things", "rawData": True},
    {"find": "things", "hint": {"_id": 1}, "noSuchField": {"a": 1}, "maxTimeMS": 5000},
    {"find": "things", "readConcern": {"level": "majority"}, "lsid": SESSION},
    {"noSuchCommand": {"a": 1}, "with": "fields"},
    {
        "insert": "things", "documents": [{"_id": 77, "a": 1}], "lsid": SESSION,
        "txnNumber": Int64(1), "writeConcern": {"w": "majority", "wtimeout": 100},
        "bypassDocumentValidation": True, "comment": [{"a": 1}],
    },
)  # fmt: skip


def test_commands_arrive_as_they_were_sent():
    stub = StubSet()
    with weir_before(stub) as proxy, speaking_to(proxy) as connection:
        wait_for_members(stub, proxy)
        for command in UNTOUCHED:
            connection.ask(command)
        arrived = [command.body for command in passed_on(stub)]
        wanted = [{**command, "$db": "test"} for command in UNTOUCHED]
        assert [bson.encode(body) for body in arrived] == [bson.encode(body) for body in wanted]


def test_a_command_that_nobody_knows_gets_the_server_s_own_answer():
    stub = StubSet()
    with weir_before(stub) as proxy, speaking_to(proxy) as connection:
        assert connection.ask({"noSuchCommand": 1})["code"] == 59


def test_large_batches_arrive_whole():
    stub = StubSet()
    with weir_before(stub) as proxy, pymongo.MongoClient(proxy.uri) as client:
        wait_for_members(stub, proxy)
        documents = [{"_id": number, "text": "x" * 1000} for number in range(20_000)]
        client.test.things.insert_many(documents)
        assert list(client.test.things.find(batch_size=7_000)) == documents
        arrived = [one for command in stub.asked("insert") for one in command.body["documents"]]
        assert arrived == documents


def test_causal_reads_carry_what_the_driver_gave():
    stub = StubSet()
    with weir_before(stub) as proxy, pymongo.MongoClient(proxy.uri) as client:
        wait_for_members(stub, proxy)
        with client.start_session(causal_consistency=True) as session:
            client.test.things.insert_one({"_id": 1}, session=session)
            written, cluster_time = session.operation_time, session.cluster_time
            near = client.get_database("test", read_preference=Secondary())
            assert near.things.find_one(session=session) == {"_id": 1}
        (find,) = stub.asked("find")
        assert find.body["readConcern"] == {"afterClusterTime": written}
        assert find.body["$clusterTime"] == cluster_time
        assert find.member in (1, 2)


def test_ended_sessions_are_told_to_the_deployment():
    stub = StubSet()
    with weir_before(stub) as proxy:
        with pymongo.MongoClient(proxy.uri) as client:
            client.test.things.insert_one({})
            (insert,) = stub.asked("insert")
        stub.wait_until(lambda: stub.asked("endSessions"))  # later, many together
        (ended,) = stub.asked("endSessions")
        assert [bytes(session["id"]) for session in ended.body["endSessions"]] == [insert.lsid]


def test_with_raw_preferences_a_server_complains_of_what_makes_no_sense():
    stub = StubSet()
    with weir_before(stub, rejects=True) as proxy, raw.Connection.to(proxy.address) as connection:
        for preference in ({"mode": "farthest"}, {"mode": "primary", "tags": [WEST]}):
            reply = connection.ask({"find": "things", "$readPreference": preference})
            assert (reply["ok"], reply["code"]) in ((0, 9), (0, 2))


# --- change streams -----------------------------------------------------------------------------


def test_change_streams_do_not_own_the_connections():
    """Twenty wait for something to happen, through half of four connections; reads go on."""
    stub = StubSet(members=1)
    with weir_before(stub, "--max-wait", "60s", "--stream-share", "0.5", cap=4) as proxy:
        wait_for_members(stub, proxy)
        watch = {"aggregate": "things", "pipeline": [{"$changeStream": {}}], "cursor": {}}
        with contextlib.ExitStack() as stack:
            watchers = [stack.enter_context(speaking_to(proxy)) for _ in range(20)]
            cursors = [watcher.ask(watch)["cursor"]["id"] for watcher in watchers]
            posted = [
                watcher.post({"getMore": Int64(id), "collection": "things", "maxTimeMS": 30_000})
                for watcher, id in zip(watchers, cursors)
            ]
            stub.wait_until(lambda: proxy.state()["queued"] == 18)
            assert proxy.state()["in_flight"] == 2
            with speaking_to(proxy) as reader:
                for _ in range(50):
                    assert reader.ask({"find": "things"})["ok"] == 1
                assert reader.ask({"insert": "things", "documents": [{"_id": 1}]})["n"] == 1
            replies = [watcher.reply_to(n) for watcher, n in zip(watchers, posted)]
            assert [len(reply["cursor"]["nextBatch"]) for reply in replies] == [1] * 20
