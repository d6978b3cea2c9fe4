# SPDX-License-Identifier: Apache-2.0
"""weir doctor, on real servers and on a stub that is ill."""

import datetime
import json
import os
import re
import subprocess

import bson
import pytest
import servers
import weir
from stubset import StubSet, User, dispatch

FINE, WARNING, CRITICAL, NOTHING_ASKED = 0, 1, 2, 3
NOW = datetime.datetime.now(datetime.timezone.utc)


def doctor(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(weir.default_binary()), "doctor", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def found(uri: str, *arguments: str) -> tuple[int, list[dict]]:
    done = doctor(uri, *arguments, "--json")
    assert done.stdout, done.stderr
    answer = json.loads(done.stdout)
    assert answer["status"] == done.returncode
    return done.returncode, answer["findings"]


def of(findings: list[dict], check: str, severity: str) -> str:
    """All that is said of it, as one text."""
    return " ".join(
        f"{one['subject']} {one['found']} {one['evidence']} {one['remedy']}"
        for one in findings
        if one["check"] == check and one["severity"] == severity
    )


def fits_a_terminal(text: str) -> bool:
    return all(len(line) <= 80 and line.isprintable() and line.isascii() for line in text.split("\n"))


# --- real servers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ("secantus", "ferretdb"))
def test_real_servers(kind):
    if reason := servers.why_not(kind):
        pytest.skip(f"{kind}: {reason}")
    with servers.start(kind) as server:
        orders = server.client().shop.orders
        orders.insert_one({"a": 1})
        orders.create_index("a")
        orders.create_index([("a", 1), ("b", 1)])
        status, findings = found(server.uri)
        assert "superfluous: a_1_b_1" in of(findings, "indexes", "note")
        assert of(findings, "servers", "fine")
        if kind == "ferretdb":  # what it does not have is said, not passed over
            assert of(findings, "replication", "unseen") and of(findings, "operations", "unseen")
        done = doctor(server.uri)
        assert done.returncode == status and fits_a_terminal(done.stdout)


def test_what_the_record_of_an_exhaustion_asks():
    program = servers.BUILD / "checked" / "tests" / "test_questions"
    if not program.exists():
        pytest.skip(f"no {program}: make test-c builds it")
    with servers.start() as server:
        if "explain" not in server.features:
            pytest.skip(f"{server.kind} has no explain")
        server.client().shop.orders.insert_one({"a": 1})
        server.client().shop.orders.create_index("a")
        environment = {**os.environ, "WEIR_TEST_URI": server.uri}
        done = subprocess.run([program], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "SKIPPED" not in done.stdout + done.stderr, done.stdout + done.stderr


def test_the_shapes_of_a_running_weir():
    with servers.start() as server:
        if "failpoints" not in server.features:
            pytest.skip(f"{server.kind} has no failpoints to be slow by")
        with weir.Weir(server.uri) as proxy, server.failing(
            ["find"], {"times": 2}, blockConnection=True, blockTimeMS=300
        ):
            import pymongo

            with pymongo.MongoClient(proxy.uri) as client:
                client.shop.orders.insert_one({"n": 1})
                query = client.shop.orders.find({"day": {"$gt": 3}, "state": "secret"})
                list(query.sort("at", -1))
            _, findings = found(server.uri, "--weir", str(proxy.port))
        plan = of(findings, "plans", "critical") + of(findings, "plans", "warning")
        assert "createIndex({state: 1, at: 1, day: 1})" in plan
        assert "a running weir" in plan and "secret" not in plan


# --- a stub that is ill ---------------------------------------------------------------------------


def answers(monkeypatch, name: str, answer):
    before = dispatch.COMMANDS.get(name)

    def run(context):
        reply = answer(context)
        return before.run(context) if reply is None else reply

    monkeypatch.setitem(dispatch.COMMANDS, name, dispatch.Spec(run, dispatch.ANYWHERE, False))


def batch(*documents: dict) -> dict:
    return {"cursor": {"id": bson.Int64(0), "ns": "admin.$cmd.aggregate", "firstBatch": [*documents]}}


OPERATION = {
    "type": "op", "active": True, "opid": 4711, "connectionId": bson.Int64(9),
    "microsecs_running": bson.Int64(7_300_000), "op": "command", "ns": "shop.orders",
    "appName": "web\x1b[2J\r\nWARNING <b>", "client": "10.1.2.3:999", "planSummary": "COLLSCAN",
    "clientMetadata": {"driver": {"name": "mongo-go-driver", "version": "2.5.0"}},
    "command": {"find": "orders", "filter": {"state": "secret"}, "sort": {"at": -1}, "$db": "shop"},
}  # fmt: skip
IDLE = {"type": "idleSession", "transaction": {"timeInactiveMicros": bson.Int64(9_000_000)}}


def ill_status(context) -> dict:
    return {
        "version": "8.0.4", "process": "mongod", "uptime": 1000.0,
        "connections": {"current": 1450, "available": 50, "totalCreated": 90000, "rejected": 7},
        "metrics": {"cursor": {"open": {"total": 3, "noTimeout": 2}}},
        "transactions": {"currentOpen": 1, "currentInactive": 1},
    }  # fmt: skip


def ill_aggregate(context) -> dict | None:
    first = context.body["pipeline"][0]
    if "$currentOp" in first:
        return batch(OPERATION, IDLE)
    if "$indexStats" in first:
        since = NOW - datetime.timedelta(days=40)
        uses = {"ops": bson.Int64(0), "since": since}
        return batch({"name": "old_1", "key": {"old": 1}, "accesses": uses})
    return None


def ill_set(context) -> dict:
    states = [("PRIMARY", 0, 1), ("SECONDARY", 5, 1), ("(not reachable/healthy)", 0, 0)]
    members = [
        {"name": f"m{i}:1", "stateStr": s, "health": h,
         "optimeDate": NOW - datetime.timedelta(seconds=lag)}
        for i, (s, lag, h) in enumerate(states)
    ]  # fmt: skip
    return {"set": "stub", "members": members}


def test_an_ill_deployment(monkeypatch):
    answers(monkeypatch, "serverStatus", ill_status)
    answers(monkeypatch, "aggregate", ill_aggregate)
    answers(monkeypatch, "replSetGetStatus", ill_set)
    answers(monkeypatch, "profile", lambda context: {"was": 2, "slowms": 100, "sampleRate": 1.0})
    scan = {"queryPlanner": {"winningPlan": {"stage": "SORT", "inputStage": {"stage": "COLLSCAN"}}}}
    answers(monkeypatch, "explain", lambda context: scan)
    with StubSet(members=2) as stub:
        import pymongo

        with pymongo.MongoClient(stub.uri) as client:
            client.shop.orders.insert_one({"a": 1})
        status, findings = found(stub.uri, "--tier", "M20", "--dynos", "20")
        text = doctor(stub.uri).stdout
    assert status == CRITICAL
    assert "1450 of 1500 connections" in of(findings, "connections", "critical")
    assert "an Atlas M10" in of(findings, "connections", "critical")
    assert "a server of M20 takes 3000" in of(findings, "connections", "note")
    assert "90 connections a second" in of(findings, "connections", "warning")
    assert "refused 7 connections" in of(findings, "connections", "warning")
    assert "20 dynos may open 2040 connections" in of(findings, "pools", "critical")
    assert "db.killOp(4711)" in of(findings, "operations", "critical")
    assert "createIndex({state: 1, at: -1})" in of(findings, "plans", "critical")
    assert "old_1 was not used for 40 days" in of(findings, "indexes", "note")
    assert "2 of them without a timeout" in of(findings, "cursors", "warning")
    assert "Idle for longest: 9 s" in of(findings, "transactions", "warning")
    assert "m1:1 Is 5.0 s behind" in of(findings, "replication", "warning")
    assert "m2:1 Is not healthy" in of(findings, "replication", "warning")
    assert "level is 2" in of(findings, "profiler", "warning")
    assert "2.9.3 or later" in of(findings, "drivers", "warning")
    assert "secret" not in json.dumps(findings)
    assert fits_a_terminal(text)
    assert not re.search(r"^WARNING <b>", text, re.MULTILINE)


def test_without_privileges_it_says_what_it_could_not_see():
    with StubSet(members=1) as stub:
        for name in ("serverStatus", "aggregate", "replSetGetStatus", "listDatabases"):
            stub.fail(name, code=13, times=None)
        status, findings = found(stub.uri)
    assert status == FINE
    for check in ("connections", "operations", "replication", "drivers", "indexes"):
        assert "may not see it" in of(findings, check, "unseen"), check
    assert "clusterMonitor" in of(findings, "connections", "unseen")


def test_a_password_that_is_wrong_is_critical():
    with StubSet(members=1, users=[User("app", "secret")]) as stub:
        uri = stub.uri.replace("mongodb://", "mongodb://app:s3cret@")
        status, findings = found(uri)
    assert status == CRITICAL
    assert "does not let the URI's user in" in of(findings, "servers", "critical")
    assert "s3cret" not in json.dumps(findings)


def test_pools_by_the_tier_where_the_server_tells_no_limit(monkeypatch):
    answers(monkeypatch, "serverStatus", lambda context: {"version": "8.0.4"})
    many = ("--dynos", "12", "--pool", "150")
    with StubSet(members=1) as stub:
        status, findings = found(stub.uri, *many, "--tier", "M10")
        assert status == CRITICAL
        assert "may open 1824 connections, of 1500" in of(findings, "pools", "critical")
        assert of(found(stub.uri, *many)[1], "pools", "unseen")


NONSENSE = (
    {"connections": 3, "uptime": "x", "metrics": [], "transactions": {"currentOpen": {}}},
    {"connections": {"current": bson.Int64(2**63 - 1), "available": bson.Int64(2**63 - 1)}},
    {"connections": {"current": float("nan"), "available": float("inf")}, "version": 8},
    {"cursor": {"id": "x", "firstBatch": {"a": 1}}, "members": 7, "databases": 1, "was": "x"},
    {"cursor": {"id": bson.Int64(0), "firstBatch": [1, {"active": 1, "command": 3}]},
     "members": [{}, 3, {"stateStr": 5}], "databases": [{"name": 3}, 7]},
)  # fmt: skip


@pytest.mark.parametrize("number", range(len(NONSENSE)))
def test_nonsense_is_not_taken_for_an_answer(monkeypatch, number):
    asked = "serverStatus aggregate replSetGetStatus profile listDatabases listCollections".split()
    for name in asked:
        answers(monkeypatch, name, lambda context: NONSENSE[number])
    with StubSet(members=1) as stub:
        done = doctor(stub.uri)
    assert done.returncode in (FINE, WARNING, CRITICAL), done.stderr
    assert "NOT SEEN  connections" in done.stdout


def test_a_list_without_an_end_has_one(monkeypatch):
    """Of a server that always has one more batch."""
    ns = {"ns": "admin.$cmd.aggregate", "id": bson.Int64(7)}
    answers(monkeypatch, "aggregate", lambda context: {"cursor": {**ns, "firstBatch": []}})
    answers(monkeypatch, "getMore", lambda context: {"cursor": {**ns, "nextBatch": []}})
    with StubSet(members=1) as stub:
        done = doctor(stub.uri)
        assert done.returncode in (FINE, WARNING, CRITICAL), done.stderr
        assert "NOT SEEN  operations" in done.stdout and "the list has no end" in done.stdout
        assert stub.asked("killCursors")


# --- wrong questions ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments, complaint",
    (
        (("--json",), "needs a URI"),
        (("http://x",), "begins with mongodb://"),
        (("mongodb://u:s3cret@h:bad@/",), "has an @"),
        (("mongodb://h", "--tier", "M11"), "--tier M11"),
        (("mongodb://h", "--dynos", "0"), "--dynos 0: must be"),
        (("mongodb://127.0.0.1:1/",), "No suitable servers"),
    ),
)
def test_wrong_questions_are_told_why(arguments, complaint):
    done = doctor(*arguments)
    assert done.returncode == NOTHING_ASKED
    assert complaint in done.stdout + done.stderr
    assert "s3cret" not in done.stdout + done.stderr


def test_the_reference_is_that_of_the_program():
    page = (servers.ROOT / "docs" / "doctor.md").read_text()
    assert doctor("--print-reference").stdout == page
