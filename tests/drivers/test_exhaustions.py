# SPDX-License-Identifier: Apache-2.0
"""The record of an exhaustion, on a real server: what held the connections is named, with what to do."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import threading

import pymongo
import pytest
import raw
import servers
import weir
from exhausted import Exhausted
from pymongo.errors import PyMongoError
from stubset import StubSet

CAP = 4
BLOCK_S = 2.0


@pytest.fixture(scope="module")
def locked():
    """A real server, by TLS and with a login: also for what asks it about itself."""
    if reason := servers.why_not("secantus", tls=True, auth=True):
        pytest.skip(f"secantus: {reason}")
    with servers.start("secantus", tls=True, auth=True) as server:
        yield server


@pytest.fixture
def proxy(locked, tmp_path):
    arguments = ["--max-wait", "50ms", "--events-path", str(tmp_path)]
    with weir.Weir(locked.uri, *arguments, cap=CAP) as proxy:
        yield proxy


def reports(uri: str) -> pymongo.MongoClient:
    return pymongo.MongoClient(uri, retryReads=False, appName="re\x1bport")


def count_one(client: pymongo.MongoClient) -> None:
    with contextlib.suppress(PyMongoError):
        client.test.command("count", "orders", query={"owner": "kanarienvogel"})


def hold_one(uri: str) -> None:
    with reports(uri) as client:
        count_one(client)


def exhaust(slow, proxy) -> dict[str, str]:
    """Lets counts, which `slow` makes so, hold all permits that slow ones may while somebody else
    asks for the same, and for other things; the line of the end."""
    web = pymongo.MongoClient(proxy.uri, appName="web", retryReads=False)
    with web as app, reports(proxy.uri) as another:
        app.test.orders.insert_one({"owner": 1})
        for i in range(50):
            app.test.things.find_one({"a": i})
        with slow:
            holders = [threading.Thread(target=hold_one, args=(proxy.uri,)) for _ in range(CAP)]
            for holder in holders:
                holder.start()
            while any(holder.is_alive() for holder in holders):
                with contextlib.suppress(PyMongoError):
                    app.test.things.find_one({"a": 1})
                count_one(another)
    return proxy.wait_for("exhaustion_end")


def slow_counts(server):
    slow = {"blockConnection": True, "blockTimeMS": int(BLOCK_S * 1000)}
    return server.failing(["count"], {"times": CAP}, **slow)


def explain(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(weir.default_binary()), "explain-event", *arguments]
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
    )


def check_explanation(done: subprocess.CompletedProcess[str], record: dict) -> None:
    assert done.returncode == 0, done.stderr
    assert record["_id"] in done.stdout
    assert "count test.orders {owner}" in done.stdout
    assert record["shapes"][0]["id"] in done.stdout
    assert "app re\\x1bport" in done.stdout
    assert all(len(line) <= 80 for line in done.stdout.splitlines())
    assert all(c.isprintable() or c == "\n" for c in done.stdout)


def check_evidence(record: dict) -> None:
    said = record["deployment"]
    assert said["state"] == "answered" and record["begin"] < said["at"] < record["end"] + 60
    assert said["connections"]["current"] > 0
    assert said["plan"]["shape"] == "count test.orders {owner}"
    assert said["plan"]["scans"] and said["index"] == {"wanted": "{owner: 1}", "there": ""}
    assert record["verdict"].endswith("; it scans the collection")
    make = 'db.getSiblingDB("test").getCollection("orders").createIndex({owner: 1})'
    assert record["remedies"][0]["type"] == make


def check_refusal(done: subprocess.CompletedProcess[str], says: str) -> None:
    assert (done.returncode, done.stdout) == (1, "")
    assert says in done.stderr


def test_a_slow_shape_is_named_with_evidence_and_remedy(locked, proxy, tmp_path):
    end = exhaust(slow_counts(locked), proxy)
    begin = proxy.wait_for("exhaustion_begin")
    with pymongo.MongoClient(proxy.uri) as client:
        (record,) = client.weir.exhaustions.find()
    assert begin["id"] == end["id"] == record["_id"]
    assert record["end"] >= record["begin"] > 1.7e9
    assert (record["cause"], record["cap"]) == ("slow_shape", CAP)
    assert "count test.orders {owner}" in record["verdict"] == end["verdict"]
    assert "kanarienvogel" not in str(record)
    assert record["causes"][0]["says"] == record["verdict"]
    deny = f"weir ctl rule add --deny --shape {record['shapes'][0]['id']}"
    assert deny in [remedy["type"] for remedy in record["remedies"]]
    assert record["holders"][0]["shape"] == "count test.orders {owner}"
    holder = record["holders"][0]
    assert (holder["app"], holder["namespace"], holder["user"]) == ("re\x1bport", "test.orders", "")
    assert holder["peer"].startswith("127.0.0.1:")
    assert 0 <= record["upstreams"]["meanLogin"] <= record["upstreams"]["meanOpening"]
    assert record["shed"]["max_wait"] + record["shed"]["queue_full"] > 0
    assert record["shapes"][0]["shape"] == "count test.orders {owner}"
    assert record["shapes"][0]["change"] > 1
    assert sum(waiter["shed"] for waiter in record["waiters"]) > 0
    assert all(waiter["p99"] <= record["longestWait"] for waiter in record["waiters"])
    check_evidence(record)
    check_explanation(explain("--port", str(proxy.port), record["_id"]), record)
    assert proxy.wait_for("exhaustion_kept")["id"] == record["_id"]
    (file,) = tmp_path.iterdir()
    assert file.name == f"{record['_id']}.json"
    assert json.loads(file.read_text()) == record
    check_explanation(explain(str(file)), record)
    check_refusal(
        explain("--port", str(proxy.port), "nothing"),
        f"nothing: no such event; there are: {record['_id']}",
    )


def test_a_server_that_tells_little_and_late(tmp_path):
    """What may not be seen, and what is not answered, is in the record as such; the file waits."""
    arguments = ["--max-wait", "50ms", "--events-path", str(tmp_path)]
    with StubSet(members=1) as stub, weir.Weir(stub.uri, *arguments, cap=CAP) as proxy:
        stub.fail("count", times=CAP, delay_s=BLOCK_S)
        stub.fail("serverStatus", times=None, code=13, message="not authorized")
        stub.fail("aggregate", times=None, delay_s=60, when=lambda body: body["$db"] == "admin")
        exhaust(contextlib.nullcontext(), proxy)
        proxy.wait_for("exhaustion_kept")
        stub.heal()
    (file,) = tmp_path.iterdir()
    said = json.loads(file.read_text())["deployment"]
    why = {gap["what"]: gap["why"] for gap in said["unanswered"]}
    assert said["state"] == "answered" and "connections" not in said
    assert "clusterMonitor" in why["serverStatus"] and why["$currentOp"] == "it failed"


def test_it_ends_when_its_server_leaves():
    """Of which nobody hears any more."""
    with StubSet(members=3, tags={1: {"at": "there"}}) as stub:
        stub.fail("find", member=1, times=None, delay_s=60)
        arguments = ("--max-wait", "50ms", "--limit", "fixed", "--slow-share", "1")
        with weir.Weir(stub.uri, *arguments, cap=CAP) as proxy:
            find = {"find": "x", "$readPreference": {"mode": "secondary", "tags": [{"at": "there"}]}}
            readers = [raw.Connection.to(proxy.address) for _ in range(CAP + 2)]
            for reader in readers:
                reader.post(find)
            begin = proxy.wait_for("exhaustion_begin")
            stub.remove_member(1)
            assert proxy.wait_for("exhaustion_end")["id"] == begin["id"]
            with pymongo.MongoClient(proxy.uri) as client:
                (record,) = client.weir.exhaustions.find()
            assert record["end"] >= record["begin"] and record["server"] == begin["server"]
            for reader in readers:
                reader.stream.close()


def verdicts(proxy) -> list[dict]:
    """Of now, by both doors, which must say the same."""
    with pymongo.MongoClient(proxy.uri) as client:
        (one,) = client.weir.command("verdict")["verdicts"]
        (other,) = proxy.order("verdict")["state"]["verdicts"]
        (later,) = client.weir.command("verdict")["verdicts"]  # the longer, the clearer
    assert one.keys() == other.keys() and one["_id"] == other["_id"]
    assert other["cause"] in (one["cause"], later["cause"])
    return [one, other]


def test_the_verdict_of_now():
    with Exhausted() as exhausted:
        proxy = exhausted.proxy
        for verdict in verdicts(proxy):
            assert verdict["_id"] == exhausted.begin["id"] and verdict["end"] == 0
            assert verdict["holders"][0]["shape"] == "count test.orders {n}"
            assert verdict["cause"] != "none"
        done = proxy.ctl("verdict")
        assert done.returncode == 0 and f"Exhaustion {exhausted.begin['id']} of" in done.stdout
        assert " so far; cap 1" in done.stdout and "count test.orders {n}" in done.stdout
        status = " ".join(proxy.ctl("status").stdout.split())
        assert re.match(
            r"EXHAUSTED for \d+ s, 127.0.0.1:\d+: all permits are held \(1 of 1\); \w", status
        )
        assert "in flight 1 (slow " in status and " shed since start 1," in status
        exhausted.release()
        proxy.wait_for("exhaustion_end")
        assert proxy.ctl("status").stdout.startswith("ok\n")
        started = proxy.order("state")["state"]["totals"][0]["startTime"]
        for verdict in verdicts(proxy):
            assert (verdict["_id"], verdict["cause"], verdict["remedies"]) == ("now", "none", [])
            says = "nothing has run out: 0 of 1 permits are in use, 0 requests wait"
            assert verdict["verdict"] == says
            assert verdict["begin"] >= started
        assert "Now, at 127.0.0.1:" in proxy.ctl("verdict").stdout
        assert proxy.ctl("verdict", "--why", "x").returncode == 1


def test_a_deployment_that_is_not_there_is_named_everywhere():
    """With since when, and why."""
    address = f"127.0.0.1:{servers.free_port()}"
    with weir.Weir(f"mongodb://{address}/") as proxy:
        proxy.wait_for("server_down", server=address)
        says = re.compile(
            r"cannot be reached since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC: \w+"
        )
        with pymongo.MongoClient(proxy.uri) as client:
            server = client.weir.servers.find_one({"_id": address})
            (verdict,) = client.weir.command("verdict")["verdicts"]
        assert says.match(server["trouble"]) and not server["usable"]
        assert verdict["verdict"] == f"{address}: {server['trouble']}"
        for command in (("status",), ("verdict",)):
            told = " ".join(proxy.ctl(*command).stdout.split())
            assert f"{address}: {server['trouble']}" in told, told
        assert proxy.ctl("status").stdout.startswith(f"NOT USABLE, {address}: ")
        top = [str(weir.default_binary()), "top", "--port", str(proxy.port), "--once"]
        shown = subprocess.run(top, capture_output=True, text=True, timeout=20).stdout
        assert f"TROUBLE    {address}: cannot be reached since" in shown, shown


def test_what_cannot_be_explained(proxy, tmp_path):
    port = str(proxy.port)
    check_refusal(explain("--port", port, "nothing"), "no such event, nor any other")
    check_refusal(explain("--socket", str(tmp_path / "none.sock"), "nothing"), "No such file")
    check_refusal(explain(str(tmp_path / "none.json")), "No such file")
    file = tmp_path / "other.json"
    file.write_text("{}")
    check_refusal(explain(str(file)), "is not the record of an exhaustion")
    file.write_text("exhaustion")
    check_refusal(explain(str(file)), "is not JSON")


def test_a_directory_that_cannot_be_written_to_is_refused(secantus, tmp_path):
    command = [str(weir.default_binary()), secantus.uri, "--port", "0"]
    done = subprocess.run(
        [*command, "--events-path", str(tmp_path / "none")],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert "--events-path" in done.stderr
    assert "none: cannot be written to: No such file or directory" in done.stderr
