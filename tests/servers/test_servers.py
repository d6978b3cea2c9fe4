# SPDX-License-Identifier: Apache-2.0
"""What servers.py says of a server is what that server does; weir.py reads logs as written."""

from __future__ import annotations

import time

import pymongo
import pytest
from bson.int64 import Int64
from pymongo.errors import PyMongoError

import servers
import weir


@pytest.fixture(scope="module", params=[kind for kind in servers.KINDS if kind != "external"])
def server(request):
    reason = servers.why_not(request.param)
    if reason:
        pytest.skip(f"{request.param}: {reason}")
    with servers.start(request.param) as running:
        yield running


@pytest.fixture
def things(server):
    collection = server.client()["checks"]["things"]
    collection.drop()
    collection.insert_many({"_id": i, "n": i} for i in range(20))
    return collection


def has_transactions(server, things):
    with server.client().start_session() as session, session.start_transaction():
        things.insert_one({"_id": "in a transaction"}, session=session)
        session.abort_transaction()
    return things.find_one({"_id": "in a transaction"}) is None


def has_change_streams(server, things):
    with things.watch(max_await_time_ms=500) as stream:
        things.insert_one({"_id": "watched"})
        return stream.next()["documentKey"] == {"_id": "watched"}


def has_retryable_writes(server, things):
    with server.client().start_session() as session:
        insert = {"insert": things.name, "documents": [{"n": -1}], "txnNumber": Int64(1)}
        for _ in range(2):
            things.database.command(insert, session=session)
    return things.count_documents({"n": -1}) == 1


def has_failpoints(server, things):
    fail = {"failCommands": ["distinct"], "errorCode": 11601}
    server.client().admin.command("configureFailPoint", "failCommand", mode={"times": 1}, data=fail)
    with pytest.raises(PyMongoError, match="11601|failpoint"):
        things.database.command("distinct", things.name, key="n")
    return True


def has_explain(server, things):
    things.create_index("n")
    return "IXSCAN" in str(things.find({"n": 3}).explain())


def has_free_cursors(server, things):
    """Each getMore comes by a connection of its own: those before it were idle for too long."""
    with pymongo.MongoClient(server.uri, maxPoolSize=1, maxIdleTimeMS=1) as client:
        seen = 0
        for _ in client["checks"]["things"].find(batch_size=5):
            seen += 1
            time.sleep(0.01)
    return seen == 20


def has_unacknowledged_writes(server, things):
    """A reply to the write would be taken for that of the ping after it."""
    with pymongo.MongoClient(server.uri, maxPoolSize=1) as client:
        silent = pymongo.WriteConcern(w=0)
        collection = client["checks"].get_collection("things", write_concern=silent)
        for i in range(3):
            collection.insert_one({"_id": f"unacknowledged {i}"})
            client.admin.command("ping")
    return True


def has_max_time_ms(server, things):
    # A millisecond is over before 20,000 documents are sorted.
    things.insert_many({"_id": 100 + i, "n": i % 977} for i in range(20_000))
    with pytest.raises(pymongo.errors.ExecutionTimeout):
        list(things.find({}, max_time_ms=1).sort("n"))
    return True


def has_server_status_connections(server, things):
    return server.client().admin.command("serverStatus")["connections"]["current"] > 0


CHECKS = {name[4:]: check for name, check in globals().items() if name.startswith("has_")}


@pytest.mark.parametrize("feature", CHECKS)
def test_feature_is_as_claimed(server, things, feature):
    try:
        found = CHECKS[feature](server, things)
    except (PyMongoError, KeyError):
        found = False
    assert found == (feature in server.features)


def test_connections_counts_those_of_everybody(server):
    before = server.connections()
    clients = [pymongo.MongoClient(server.host, server.port, directConnection=True) for _ in "123"]
    for client in clients:
        client.admin.command("ping")
    assert server.connections() >= before + len(clients)
    for client in clients:
        client.close()


@pytest.mark.parametrize("way", [{"tls": True}, {"auth": True}, {"standalone": True}])
def test_starts_in_every_way(server, way):
    reason = servers.why_not(server.kind, **way)
    if reason:
        pytest.skip(f"{server.kind}: {reason}")
    with servers.start(server.kind, **way) as other:
        assert other.client()["checks"]["ways"].insert_one({}).acknowledged
        if "auth" in way:
            without_user = "mongodb://" + other.uri.partition("@")[2]
            with pymongo.MongoClient(without_user) as stranger, pytest.raises(PyMongoError):
                stranger["checks"]["ways"].find_one()


def test_external_is_never_restarted(monkeypatch):
    monkeypatch.setenv("MONGODB_URI", "mongodb://127.0.0.1:1/")
    assert servers.default_kind() == "external"
    assert servers.why_not("external") is None
    assert servers.why_not("external", tls=True)
    monkeypatch.delenv("MONGODB_URI")
    assert servers.why_not("external") == "$MONGODB_URI is not set"


def test_external_is_asked_what_it_can(server, monkeypatch):
    monkeypatch.setenv("MONGODB_URI", server.uri)
    with servers.start() as external:
        assert external.kind == "external"
        assert external.port == server.port
        known = {"failpoints", "server_status_connections", *servers.NEEDS_REPLICA_SET}
        assert external.features & known == server.features & known
    server.client().admin.command("ping")


def test_a_server_that_cannot_start_says_why(monkeypatch):
    def doomed(way):
        return ["sh", "-c", "echo no room for data >&2; exit 3"]

    monkeypatch.setitem(servers.ARGUMENTS, "secantus", doomed)
    if servers.why_not("secantus"):
        pytest.skip(servers.why_not("secantus"))
    with pytest.raises(servers.Unavailable, match="(?s)status 3.*no room for data"):
        servers.start("secantus")


@pytest.mark.parametrize(
    "line, fields",
    [
        ("ts=2026-01-01 event=ready port=1\n", {"ts": "2026-01-01", "event": "ready", "port": "1"}),
        (r'event=x why="a \"b\" = c" y=', {"event": "x", "why": 'a "b" = c', "y": ""}),
        ('{"event": "ready", "port": 1}', {"event": "ready", "port": 1}),
        ('{"event": "rea', {}),
        ("==1==ERROR: AddressSanitizer: heap-use-after-free x=1", {}),
    ],
)
def test_log_lines(line, fields):
    assert weir.parse_line(line) == fields
