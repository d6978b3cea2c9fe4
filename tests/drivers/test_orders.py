# SPDX-License-Identifier: Apache-2.0
"""The commands of the database `weir` that change something: the other door to weir ctl's orders."""

from __future__ import annotations

import json
import re
import sys
import threading
from pathlib import Path

import bson
import pymongo
import pytest
import raw
import users
import weir
from pymongo.errors import OperationFailure

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from stubset import StubSet  # noqa: E402

CAP = 8
BUSY = 4  # of a shape that nobody knows: half of the limit


@pytest.fixture(scope="module")
def stub():
    with StubSet(members=1) as stub:
        yield stub


@pytest.fixture(scope="module", params=("socket", "no socket"))
def proxy(stub, request):
    """Also where the other door is shut."""
    arguments = ("--control-socket", "disabled") if request.param == "no socket" else ()
    with weir.Weir(stub.uri, "--max-wait", "60s", "--limit", "fixed", *arguments, cap=CAP) as proxy:
        yield proxy


@pytest.fixture
def database(proxy):
    with pymongo.MongoClient(proxy.uri) as client:
        yield client.weir


def wait_for(true) -> None:
    for _ in range(1000):
        if true():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it never came")


def test_the_help_has_an_example_of_each_that_is_right(database):
    """But for those that end weir, or need what is not there."""
    commands = database.command("help")["commands"]
    assert {"setCap", "setLimit", "pause", "resume", "rule", "emergency", "kill"} <= set(commands)
    shown = re.findall(r"(?:runCommand\(|; )(\{[^{}]*\})", " ".join(commands.values()))
    quoted = [re.sub(r"(\w+): ", r'"\1": ', one).replace("'", '"') for one in shown]
    assert len(shown) > 10
    for order in map(json.loads, quoted):
        if "drain" in order or "reload" in order:
            continue
        try:
            database.command(bson.SON(order))
        except OperationFailure as failure:
            assert "there is no rule 3" in str(failure), order
    database.command("emergency", "off")
    for rule in database.command("rule", "list")["rules"]:
        database.command("rule", "remove", id=rule["id"])


def test_rules_and_emergency(database, proxy):
    fields = {"namespace": "test.shut", "deny": True, "for": "5m", "why": "closed"}
    added = database.command("rule", "add", **fields)
    assert added["says"] == "namespace test.shut: deny"
    with pytest.raises(OperationFailure, match="closed"):
        database.client.test.shut.find_one()
    assert [rule["id"] for rule in database.command("rule", "list")["rules"]] == [added["id"]]
    said = proxy.wait_for("rule_added", rule=str(added["id"]))
    assert said["by"].startswith("127.0.0.1:")
    database.command("rule", "remove", id=added["id"])
    assert database.client.test.shut.find_one() is None

    assert database.command("emergency", "on", **{"for": "5m"})["emergency"]["on"]
    wait_for(lambda: database.servers.find_one({"kind": "primary"})["cap"] < CAP)
    database.command("emergency", "off")
    wait_for(lambda: database.servers.find_one({"kind": "primary"})["cap"] == CAP)


def test_cap_and_limit_shrink_by_draining(database, proxy, stub):
    """What is under way ends in its own time; what is open above the cap closes then."""
    slow = stub.fail("find", times=BUSY, delay_s=60)
    clients = [raw.Connection.to(proxy.address) for _ in range(BUSY)]
    asked = [client.post({"find": "things"}) for client in clients]
    stub.wait_until(lambda: slow.delayed == BUSY)
    database.command("setCap", 2)
    database.command("setLimit", 1)
    server = lambda: database.servers.find_one({"kind": "primary"})  # noqa: E731
    wait_for(lambda: server()["cap"] == 2)
    assert server()["open"] >= BUSY and slow.delayed == BUSY
    stub.let_go(slow)
    for client, number in zip(clients, asked):
        assert client.reply_to(number)["ok"] == 1
        client.stream.close()
    wait_for(lambda: server()["open"] <= 2)
    assert server()["limit"] == 1
    database.command("setCap", "default")
    database.command("setLimit", "default")
    wait_for(lambda: server()["cap"] == CAP)
    assert proxy.wait_for("cap_set", to="2")["by"] and proxy.wait_for("limit_set", to="1")


def test_kill(database, stub):
    slow = stub.fail("find", delay_s=60)
    failures = []

    def read() -> None:
        try:
            database.client.test.things.find_one()
        except OperationFailure as failure:
            failures.append(failure.code)

    reader = threading.Thread(target=read)
    reader.start()
    stub.wait_until(lambda: slow.delayed == 1)
    running = database.requests.find_one({"state": "served"})
    assert database.command("kill", 1, request=running["_id"], why="a test")["ended"] == 1
    reader.join(timeout=60)
    assert failures == [11601]


def test_what_is_new_waits_in_a_pause(database, proxy, stub):
    """What is open is let finish meanwhile."""
    things = database.client.test.paused
    things.drop()
    things.insert_many([{} for _ in range(5)])
    cursor = things.find(batch_size=2)
    next(cursor)
    database.command("pause")
    assert database.totals.find_one()["paused"] is True
    stub.commands.clear()
    with raw.Connection.to(proxy.address) as connection:
        number = connection.post({"find": "paused"})
        wait_for(lambda: database.requests.find_one({"state": "queued"}))
        assert len(list(cursor)) == 4
        assert database.requests.find_one({"state": "queued"}) and not stub.asked("find")
        database.command("resume")
        assert connection.reply_to(number)["ok"] == 1
    assert database.totals.find_one()["paused"] is False
    assert proxy.wait_for("paused")["by"] and proxy.wait_for("resumed")["by"]


def test_who_may(stub):
    """Whoever may look may not act; the log has who did."""
    may = ("--may", "read", "--databases", "*")
    file = users.file(
        users.add("actor", "pencil", *may, "--weir", "act"),
        users.add("looker", "pencil", *may, "--weir", "read"),
        users.add("app", "pencil", *may),
    )
    with weir.Weir(stub.uri, "--config", str(file), cap=CAP) as proxy:
        for name in ("looker", "app"):
            with pymongo.MongoClient(users.uri_for(proxy.uri, name, "pencil")) as client:
                for order in ({"setCap": 1}, {"kill": 1, "over": "10ms"}, {"emergency": "on"},
                              {"rule": "add", "all": True, "deny": True}):  # fmt: skip
                    with pytest.raises(OperationFailure) as failure:
                        client.weir.command(order)
                    assert failure.value.code == 13
        with pymongo.MongoClient(users.uri_for(proxy.uri, "actor", "pencil")) as client:
            client.weir.command("setCap", 3)
            wait_for(lambda: client.weir.servers.find_one({"kind": "primary"})["cap"] == 3)
        assert proxy.wait_for("cap_set", to="3")["by"].startswith("actor@127.0.0.1:")
        assert proxy.count("cap_set") == 1 and proxy.count("emergency_on") == 0


@pytest.mark.parametrize(
    ("order", "says"),
    [
        ({"setCap": 0}, "setCap: must be 1 to 100000, or default"),
        ({"setCap": -1}, "setCap: must be 1 to 100000"),
        ({"setCap": 1 << 40}, "setCap: must be 1 to 100000"),
        ({"setCap": 1.5}, "must be a text or a whole number"),
        ({"setCap": None}, "must be a text or a whole number"),
        ({"setCap": "many"}, "setCap many: needs a number, or default"),
        ({"pause": 0}, "'pause' must be a text, or 1"),
        ({"pause": False}, "'pause' must be a text, or 1"),
        ({"resume": 2}, "'resume' must be a text, or 1"),
        ({"setCap": 5, "why": "x"}, "why: setCap has no such field"),
        ({"setLimit": "\x00"}, ": needs a number, or default"),
        ({"kill": 1}, "kill: needs one of"),
        ({"kill": 1, "over": {"$gt": 1}}, "'over' must be a text"),
        ({"kill": 1, "over": "a\x00b"}, "over: must be a text"),
        ({"kill": 1, "client": -1}, "client: must be a number"),
        ({"kill": 1, "request": 1, "by": "the boss"}, "'by' is whoever asks"),
        ({"rule": "add", "deny": True}, "it matches every operation"),
        ({"rule": "add", "nmespace": "a.b"}, "did you mean namespace?"),
        ({"rule": "remove"}, "rule remove: needs an id"),
        ({"rule": "remove", "id": "1"}, "'id' must be a whole number"),
        ({"emergency": "off"}, "there is no emergency"),
        ({"emergency": "x" * 5000}, ": needs on, off or status"),
        ({"rule": 1}, "rule: needs add, list or remove"),
        ({"verdict": 1, "x": 1}, "'x': ping, verdict and help have no fields"),
        ({"help": 1, "of": "kill"}, "'of': ping, verdict and help have no fields"),
        ({"setcap": 1}, "'setcap' is not supported on the database weir (did you mean setCap?)"),
        ({"status": 1}, "'status' is not supported"),
    ],
)
def test_what_is_refused(proxy, order, says):
    with raw.Connection.to(proxy.address) as connection:
        reply = connection.ask(order, db="weir")
        assert reply["ok"] == 0 and says in reply["errmsg"] and reply["code"] in (2, 115)
        assert connection.ask({"ping": 1}, db="weir")["ok"] == 1


def test_bytes_that_are_no_text(proxy):
    with raw.Connection.to(proxy.address) as connection:
        for order in ({"rule": "add", "app": "AAAA", "deny": "true"}, {"setCap": "AAAA"}):
            body = bson.encode({**order, "$db": "weir"}).replace(b"AAAA", b"\xff\xfe\xfdA")
            connection.send(raw.op_msg(b"\x00" + body, request_id=7))
            assert connection.reply_to(7)["ok"] == 0
        assert connection.ask({"rule": "list"}, db="weir")["rules"] == []
