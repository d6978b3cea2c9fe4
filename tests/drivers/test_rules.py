# SPDX-License-Identifier: Apache-2.0
"""Rules and emergencies: what they do to operations, and when they end. test_control_socket.py has
the socket itself, and what is refused there."""

from __future__ import annotations

import contextlib
import threading
import time

import pymongo
import pytest
import raw
import servers
import weir
from deployments import StubSet, weir_before
from pymongo.errors import OperationFailure, PyMongoError
from stub_server import StubServer, fine

OVERLOADED = "SystemOverloadedError"
RETRYABLE = "RetryableError"
CAP = 4


@pytest.fixture(scope="module")
def shared(secantus):
    with weir.Weir(secantus.uri, "--slow-op-threshold", "1ms", cap=CAP) as proxy:
        yield proxy


@pytest.fixture
def proxy(shared):
    """Without any rule."""
    yield shared
    for rule in shared.order("rule", "list")["rules"]:
        shared.order("rule", "remove", str(rule["id"]))


@pytest.fixture
def client(proxy):
    with pymongo.MongoClient(proxy.uri, appName="web.1", retryReads=False) as client:
        yield client


def add(proxy: weir.Weir, *fields: str) -> int:
    return proxy.order("rule", "add", *fields)["id"]


def rule(proxy: weir.Weir, number: int) -> dict:
    return next(one for one in proxy.order("rule", "list")["rules"] if one["id"] == number)


def is_refused(client, collection: str = "things", *, comment: object = None, **query) -> bool:
    try:
        client.test[collection].find_one(query, comment=comment)
    except OperationFailure as failure:
        assert "nothing was executed" in str(failure)
        return True
    return False


def wait_until(condition, what: str, within: float = servers.HANG_S) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


# --- denying --------------------------------------------------------------------------------------


def test_denied_for_a_time(proxy, client):
    number = add(proxy, "--namespace", "test.things", "--deny", "--why", "no index", "--by", "ann")
    with pytest.raises(OperationFailure) as caught:
        client.test.things.find_one()
    reply = caught.value.details
    assert (reply["code"], reply["errorLabels"]) == (462, [OVERLOADED])
    assert "baseBackoffMS" not in reply
    assert f"denied by rule {number} (no index; ends in 15m)" in reply["errmsg"]
    client.test.others.find_one()
    seen = rule(proxy, number)
    assert (seen["hits"], seen["refused"], seen["by"]) == (1, 1, "ann")
    proxy.order("rule", "remove", str(number))
    client.test.things.find_one()
    proxy.wait_for("rule_added", rule=str(number), by="ann", why="no index")
    proxy.wait_for("rule_removed", rule=str(number), hits="1", refused="1")


def test_denied_for_good_by_the_file(secantus, tmp_path):
    file = tmp_path / "weir.yaml"
    file.write_text("rules:\n  - {namespace: test.things, command: find, deny: true, why: moved}\n")
    with weir.Weir(secantus.uri, "--config", str(file)) as proxy:
        with raw.Connection.to(proxy.address) as connection:
            reply = connection.ask({"find": "things"})
            assert (reply["code"], reply["codeName"]) == (411, "QueryRejectedBySettings")
            assert "errorLabels" not in reply
            assert "(moved; without end)" in reply["errmsg"]
            assert connection.ask({"count": "things"})["ok"] == 1
        assert rule(proxy, 1)["by"] == str(file)


def test_unacknowledged_write_is_dropped_without_a_word(proxy, client):
    number = add(proxy, "--namespace", "test.silent", "--kind", "write", "--deny")
    with raw.Connection.to(proxy.address) as connection:
        silent = {"insert": "silent", "documents": [{"_id": 1}], "writeConcern": {"w": 0}}
        connection.post(silent, flags=raw.MORE_TO_COME)
        assert connection.ask({"find": "silent"})["cursor"]["firstBatch"] == []
    assert rule(proxy, number)["refused"] == 1


def test_what_finishes_things_goes_on(proxy, secantus):
    secantus.client().test.many.insert_many({"_id": i} for i in range(10))
    with raw.Connection.to(proxy.address) as connection:
        first = connection.ask({"find": "many", "filter": {}, "batchSize": 2})["cursor"]["id"]
        second = connection.ask({"find": "many", "filter": {}, "batchSize": 2})["cursor"]["id"]
        add(proxy, "--all", "--deny")
        more = connection.ask({"getMore": first, "collection": "many"})
        assert len(more["cursor"]["nextBatch"]) == 8
        assert connection.ask({"ping": 1})["code"] == 462
        assert connection.hello()["ok"] == 1
        add(proxy, "--command", "getMore", "--deny")
        assert connection.ask({"getMore": second, "collection": "many"})["code"] == 462
        assert connection.ask({"killCursors": "many", "cursors": [second]})["ok"] == 1


def test_a_transaction_goes_on(proxy, secantus, client):
    secantus.client().test.create_collection("ledger")
    with client.start_session() as session, session.start_transaction():
        client.test.ledger.insert_one({"_id": 1}, session=session)
        add(proxy, "--namespace", "test.ledger", "--deny")
        client.test.ledger.insert_one({"_id": 2}, session=session)
    with client.start_session() as session:
        session.start_transaction()
        with pytest.raises(OperationFailure):
            client.test.ledger.insert_one({"_id": 3}, session=session)
        session.abort_transaction()
    assert secantus.client().test.ledger.count_documents({}) == 2


# --- matching -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "denied"),
    [
        (["--app", "web.1"], True),
        (["--app", "web.*"], True),
        (["--app", "worker"], False),
        (["--client", "127.0.0.1"], True),
        (["--client", "127.0.0.0/8"], True),
        (["--client", "10.0.0.0/8"], False),
        (["--kind", "read"], True),
        (["--kind", "write"], False),
        (["--command", "find", "--app", "web.*"], True),
        (["--command", "find", "--app", "worker"], False),
        (["--namespace", "test.*"], True),
        (["--namespace", "test.th*"], True),
        (["--namespace", "other.*"], False),
    ],
)
def test_matches(proxy, client, fields, denied):
    add(proxy, *fields, "--deny")
    assert is_refused(client) == denied


@pytest.mark.parametrize(
    ("comment", "denied"),
    [("batch:7", True), ("batch:", True), ("web", False), ({"of": "batch:7"}, False), (None, False)],
)
def test_matches_a_comment(proxy, client, comment, denied):
    """Found on a dry run first; whatever else a comment is, it is passed on."""
    number = add(proxy, "--comment", "batch:*", "--deny", "--dry-run")
    client.test.things.find_one(comment=comment)
    assert rule(proxy, number)["hits"] == denied
    add(proxy, "--comment", "batch:*", "--deny")
    assert is_refused(client, comment=comment) == denied
    assert not is_refused(client)


def test_matches_a_shape_that_the_log_names(proxy, client, secantus):
    secantus.client().test.things.insert_many({"n": i} for i in range(20000))
    client.test.things.find_one({"owner": "kanarienvogel"})
    line = proxy.wait_for("slow_operation", shape="find test.things {owner} limit")
    add(proxy, "--shape", line["shape_id"], "--deny")
    assert is_refused(client, owner="somebody else")
    assert not is_refused(client, n=1)


def test_not_through_a_unix_socket(secantus):
    with weir.Weir(secantus.uri, unix=True) as proxy:
        add(proxy, "--client", "0.0.0.0/1", "--deny")
        add(proxy, "--client", "128.0.0.0/1", "--deny")
        with pymongo.MongoClient(proxy.unix_uri) as client:
            assert not is_refused(client)
        with pymongo.MongoClient(proxy.uri) as client:
            assert is_refused(client)


def test_the_first_match_wins(proxy, client):
    denies = add(proxy, "--namespace", "test.*", "--deny")
    spares = add(proxy, "--app", "web.*", "--priority", "normal")
    assert [one["id"] for one in proxy.order("rule", "list")["rules"]] == [spares, denies]
    assert not is_refused(client)
    with pymongo.MongoClient(proxy.uri, appName="worker", retryReads=False) as other:
        assert is_refused(other)
    proxy.order("rule", "remove", str(spares))
    spares = add(proxy, "--app", "web.*", "--priority", "normal", "--last")
    assert [one["id"] for one in proxy.order("rule", "list")["rules"]] == [denies, spares]
    assert is_refused(client)


def test_a_dry_run_only_counts(proxy, client):
    number = add(proxy, "--namespace", "test.things", "--deny", "--dry-run")
    assert not is_refused(client)
    seen = rule(proxy, number)
    assert (seen["hits"], seen["refused"], seen["dryRun"]) == (1, 0, True)


def test_it_ends(proxy, client):
    number = add(proxy, "--namespace", "test.things", "--deny", "--for", "1s")
    proxy.wait_for("rule_ended", rule=str(number))
    assert not is_refused(client)
    assert number not in [one["id"] for one in proxy.order("rule", "list")["rules"]]


# --- throttling -----------------------------------------------------------------------------------


def test_so_many_at_once(proxy, secantus, client):
    number = add(proxy, "--namespace", "test.busy", "--at-once", "1")
    slow = {"blockConnection": True, "blockTimeMS": 1000}
    with (
        secantus.failing(["count"], {"times": 1}, **slow),
        raw.Connection.to(proxy.address) as holder,
        raw.Connection.to(proxy.address) as other,
    ):
        held = holder.post({"count": "busy"})
        wait_until(lambda: rule(proxy, number)["atOnce"] == 1, "it is not counted")
        reply = other.ask({"count": "busy"})
        assert (reply["code"], sorted(reply["errorLabels"])) == (462, [RETRYABLE, OVERLOADED])
        assert f"throttled by rule {number}" in reply["errmsg"]
        assert other.ask({"count": "idle"})["ok"] == 1
        assert holder.reply_to(held)["ok"] == 1
        wait_until(lambda: rule(proxy, number)["atOnce"] == 0, "it is counted for ever")
        assert other.ask({"count": "busy"})["ok"] == 1


def test_who_leaves_gives_its_place_back(proxy, secantus):
    number = add(proxy, "--namespace", "test.busy", "--at-once", "1")
    slow = {"blockConnection": True, "blockTimeMS": 1000}
    with secantus.failing(["count"], {"times": 1}, **slow):
        with raw.Connection.to(proxy.address) as holder:
            holder.post({"count": "busy"})
            wait_until(lambda: rule(proxy, number)["atOnce"] == 1, "it is not counted")
        wait_until(lambda: rule(proxy, number)["atOnce"] == 0, "it is counted for ever")


def test_so_many_a_second(proxy):
    add(proxy, "--namespace", "test.paced", "--per-second", "2")
    with raw.Connection.to(proxy.address) as connection:
        replies = [connection.ask({"count": "paced"}) for _ in range(20)]
        passed = [reply for reply in replies if reply["ok"]]
        refused = [reply for reply in replies if not reply["ok"]]
        assert 1 <= len(passed) and refused
        for reply in refused:
            assert (reply["code"], sorted(reply["errorLabels"])) == (462, [RETRYABLE, OVERLOADED])
            assert 100 <= reply["baseBackoffMS"] <= 500
        wait_until(lambda: connection.ask({"count": "paced"})["ok"], "none passes any more")


# --- times ----------------------------------------------------------------------------------------


@pytest.fixture
def stub():
    with StubServer() as stub:
        stub.asked = []

        def take(asked) -> None:
            stub.asked.append(asked.document)
            fine(asked)

        stub.script = take
        yield stub


def test_times_are_bounded(stub):
    with weir.Weir(stub.uri) as proxy, raw.Connection.to(proxy.address) as connection:
        add(proxy, "--namespace", "test.things", "--max-time", "5s", "--default-time", "2s")

        def goes_up_as(collection: str, **more: object) -> object:
            connection.ask({"find": collection, **more})
            return stub.asked[-1].get("maxTimeMS")

        assert goes_up_as("things", maxTimeMS=9000) in range(4900, 5001)
        assert goes_up_as("things", maxTimeMS=3000) in range(2900, 3001)
        assert goes_up_as("things") in range(1900, 2001)
        assert goes_up_as("others", maxTimeMS=9000) in range(8900, 9001)
        assert goes_up_as("others") is None
        proxy.order("emergency", "on")
        assert goes_up_as("others") in range(4900, 5001)
        proxy.order("emergency", "off")
        assert goes_up_as("others") is None


def test_the_servers_take_it_so(proxy, client, secantus):
    add(proxy, "--namespace", "test.things", "--max-time", "5s")
    client.test.things.insert_one({"_id": "timed"})
    assert client.test.things.find_one({"_id": "timed"})
    assert client.test.things.update_one({"_id": "timed"}, {"$set": {"n": 1}}).matched_count == 1
    assert list(client.test.things.aggregate([{"$match": {"_id": "timed"}}]))


# --- runaways -------------------------------------------------------------------------------------


def killed(client: pymongo.MongoClient, collection: str) -> bool:
    try:
        client.test[collection].find_one()
    except OperationFailure as failure:
        assert failure.code == 11601 and failure.details["codeName"] == "Interrupted"
        return True
    return False


def test_what_a_rule_names_is_killed():
    stub = StubSet(members=1)
    with weir_before(stub) as proxy, pymongo.MongoClient(proxy.uri) as client:
        add(proxy, "--namespace", "test.reports", "--kill-after", "300ms")
        stub.fail("find", delay_s=60, when=lambda body: body["find"] == "reports")
        stub.fail("find", delay_s=1, when=lambda body: body["find"] == "things")
        assert not killed(client, "things")
        assert killed(client, "reports")
        said = proxy.wait_for("killed", ns="test.reports")
        assert said["why"] == "killAfter of a rule"
        assert proxy.count("killed") == 1


def test_runaways_are_killed_in_an_emergency():
    stub = StubSet(members=1)
    arguments = ("--emergency-kill-after", "300ms", "--emergency-max-time", "0")
    with weir_before(stub, *arguments) as proxy, pymongo.MongoClient(proxy.uri) as client:
        stub.fail("find", delay_s=1)
        assert not killed(client, "things")
        proxy.order("emergency", "on")
        stub.fail("find", delay_s=60)
        assert killed(client, "things")
        assert proxy.wait_for("killed")["why"] == "emergency.killAfter"
        proxy.order("emergency", "off")
        stub.fail("find", delay_s=1)
        assert not killed(client, "things")


def test_what_was_under_way_is_killed_as_well():
    stub = StubSet(members=1)
    early = ("--emergency-kill-after", "300ms")
    with weir_before(stub, *early) as proxy, raw.Connection.to(proxy.address) as connection:
        stub.fail("find", delay_s=60)
        held = connection.post({"find": "things"})
        stub.wait_until(lambda: the_server(proxy)["inFlight"] == 1)
        proxy.order("emergency", "on")
        assert connection.reply_to(held)["code"] == 11601


# --- lanes ----------------------------------------------------------------------------------------


def test_a_lane_by_rule(stub):
    """Of four permits one is for the slow lane; the others stay free for what no rule names."""
    go_on = threading.Event()
    came = threading.Semaphore(0)

    def take(asked) -> None:
        if asked.document.get("count") == "reports":
            came.release()
            assert go_on.wait(servers.HANG_S)
        fine(asked)

    stub.script = take
    with (
        weir.Weir(stub.uri, "--slow-op-threshold", "1h", "--max-wait", "50ms", cap=4) as proxy,
        contextlib.ExitStack() as stack,
    ):
        add(proxy, "--namespace", "test.reports", "--lane", "slow")
        first, second, third = (
            stack.enter_context(raw.Connection.to(proxy.address)) for _ in range(3)
        )
        held = first.post({"count": "reports"})
        assert came.acquire(timeout=servers.HANG_S)
        assert second.ask({"count": "reports"})["code"] == 462
        assert third.ask({"count": "things"})["ok"] == 1
        go_on.set()
        assert first.reply_to(held)["ok"] == 1


# --- emergencies ----------------------------------------------------------------------------------


class Load:
    """Operations without end, by threads; what failed, but for what was refused as overload."""

    def __init__(self, uri: str, threads: int):
        self.done = 0
        self.refused = 0
        self.failures: list[PyMongoError] = []
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(uri,)) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def _run(self, uri: str) -> None:
        with pymongo.MongoClient(uri, retryReads=False, retryWrites=False) as client:
            while not self._ended.is_set():
                try:
                    client.test.load.update_one({"_id": 1}, {"$inc": {"n": 1}}, upsert=False)
                    client.test.load.find_one({"_id": 1})
                    self.done += 1
                except OperationFailure as failure:
                    if failure.code == 462 and failure.has_error_label(RETRYABLE):
                        self.refused += 1
                    else:
                        self.failures.append(failure)
                except PyMongoError as failure:
                    self.failures.append(failure)

    def goes_on(self, proxy) -> None:
        before = self.done
        wait_until(lambda: self.done > before + 20 or self.failures, "nothing is served")
        assert not self.failures, f"{self.failures[:3]}{proxy.tail()}"

    def end(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()


def the_server(proxy: weir.Weir) -> dict:
    servers = proxy.order("status")["servers"]
    return next(one for one in servers if one["server"] != "(none that suits)")


def test_an_emergency_under_load(secantus):
    with weir.Weir(secantus.uri, "--max-wait", "2s", cap=8) as proxy:
        load = Load(proxy.uri, 16)
        try:
            wait_until(lambda: the_server(proxy)["upstreamsOpen"] == 8, "not all are open")
            for _ in range(3):
                proxy.order("emergency", "on", "--why", "a drill")
                wait_until(
                    lambda: the_server(proxy)["upstreamsOpen"] <= 4
                    and the_server(proxy)["inFlight"] <= 4,
                    "it does not come down",
                )
                assert the_server(proxy)["cap"] == 4
                load.goes_on(proxy)
                assert the_server(proxy)["upstreamsOpen"] <= 4
                proxy.order("emergency", "off")
                assert the_server(proxy)["cap"] == 8
                wait_until(lambda: the_server(proxy)["upstreamsOpen"] == 8, "it stays small")
                load.goes_on(proxy)
        finally:
            load.end()
        assert not load.failures
        proxy.wait_for("emergency_on", why="a drill")
        proxy.wait_for("emergency_off")
        proxy.wait_until_at_rest()


def test_idle_connections_go_in_an_emergency(secantus):
    with weir.Weir(secantus.uri, cap=4) as proxy:
        load = Load(proxy.uri, 8)
        wait_until(lambda: the_server(proxy)["upstreamsOpen"] == 4, "not all are open")
        load.end()
        assert not load.failures
        proxy.order("emergency", "on")
        wait_until(lambda: the_server(proxy)["upstreamsOpen"] == 2, "they stay open")


def test_an_emergency_fails_fast(secantus):
    """maxWait is a minute, and emergency.maxWait 20 ms: who had to wait is refused."""
    slow = {"blockConnection": True, "blockTimeMS": 1500}
    with (
        weir.Weir(secantus.uri, "--max-wait", "1m", cap=2) as proxy,
        raw.Connection.to(proxy.address) as holder,
        raw.Connection.to(proxy.address) as other,
    ):
        assert proxy.order("emergency", "on")["emergency"]["on"]
        with secantus.failing(["count"], {"times": 1}, **slow):
            held = holder.post({"count": "busy"})
            wait_until(lambda: the_server(proxy)["inFlight"] == 1, "it does not run")
            assert other.ask({"find": "things"})["code"] == 462
            assert holder.reply_to(held)["ok"] == 1


def test_an_emergency_ends_by_itself(secantus):
    with weir.Weir(secantus.uri, cap=4) as proxy:
        proxy.order("emergency", "on", "--for", "1s")
        assert the_server(proxy)["cap"] == 2
        proxy.wait_for("emergency_off", by="its time is over")
        assert not proxy.order("emergency", "status")["emergency"]["on"]
        assert the_server(proxy)["cap"] == 4


def test_rules_outlast_an_emergency(secantus):
    with weir.Weir(secantus.uri, cap=4) as proxy, pymongo.MongoClient(proxy.uri) as client:
        number = add(proxy, "--namespace", "test.things", "--deny")
        proxy.order("emergency", "on")
        assert is_refused(client)
        proxy.order("emergency", "off")
        assert is_refused(client)
        assert rule(proxy, number)["refused"] == 2


def test_a_server_that_joins_in_an_emergency_has_its_cap():
    with weir_before(stub := StubSet(members=2), cap=4) as proxy:
        proxy.order("emergency", "on")
        before = len(proxy.order("status")["servers"])
        stub.add_member()
        stub.wait_until(lambda: len(proxy.order("status")["servers"]) > before)
        lobby, *servers = proxy.order("status")["servers"]
        assert [one["cap"] for one in servers] == [2, 2, 2]
