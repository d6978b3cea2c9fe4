# SPDX-License-Identifier: Apache-2.0
"""What weir does not let through is refused so that every driver understands it, and stays calm.

All permits are held by a slow command of somebody else's; then a driver's program does some
operations (README.md), and some more when the permits are free again.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import threading
import time

import pymongo
import pytest
import raw
import weir
from drivers import DRIVERS
from pymongo.errors import PyMongoError

CAP = 2
BLOCK_S = 2.0
# Also by what is known to be slow, or not known yet.
ALL_MAY_BE_HELD = ("--max-wait", "50ms", "--slow-share", "1")
REFUSED = {"code": 462, "codeName": "IngressRequestRateLimitExceeded"}
LABELS = ["RetryableError", "SystemOverloadedError"]
fresh = itertools.count()


@pytest.fixture(scope="module")
def proxy(secantus):
    with weir.Weir(secantus.uri, *ALL_MAY_BE_HELD, cap=CAP) as proxy:
        yield proxy


def hold_one(uri: str) -> None:
    """Holds one permit. The collection is always a new one: of a shape that nobody knows to be slow
    yet, all permits can be had."""
    with contextlib.suppress(PyMongoError), pymongo.MongoClient(uri, retryReads=False) as client:
        client.test.command("count", f"slow{next(fresh)}", query={"owner": "kanarienvogel"})


def is_refusing(proxy: weir.Weir) -> bool:
    with raw.Connection.to((proxy.host, proxy.port)) as connection:
        return connection.ask({"find": "probe", "filter": {}})["ok"] == 0


@contextlib.contextmanager
def overload(secantus, proxy, seconds: float = BLOCK_S):
    """Within, all permits are held, for so long; on leaving, it waits until they are free again."""
    slow = {"blockConnection": True, "blockTimeMS": int(seconds * 1000)}
    with secantus.failing(["count"], {"times": CAP}, **slow):
        holders = [threading.Thread(target=hold_one, args=(proxy.uri,)) for _ in range(CAP)]
        for holder in holders:
            holder.start()
        deadline = time.monotonic() + seconds
        while not is_refusing(proxy):
            assert time.monotonic() < deadline, "the permits are not held"
        yield
        for holder in holders:
            holder.join()


def next_line(process, start: str) -> str:
    """What follows `start` in the program's next line that begins with it."""
    said = ""
    for line in process.stdout:
        if line.startswith(start):
            return line[len(start) :]
        said += line
        if line.startswith("not ok"):
            break
    raise AssertionError(f"no {start!r} but {said!r}")


def go_on(process) -> None:
    process.stdin.write("\n")
    process.stdin.flush()


@pytest.fixture(params=DRIVERS)
def driver(request):
    reason = DRIVERS[request.param].why_not()
    if reason:
        pytest.skip(f"{request.param}: {reason}")
    return DRIVERS[request.param]


def test_driver_is_refused_and_recovers(driver, secantus, proxy):
    process = driver.start("shedding", proxy.uri, secantus.features)
    try:
        next_line(process, "ready")
        with overload(secantus, proxy):
            go_on(process)
            refused = json.loads(next_line(process, "ok refused "))
        go_on(process)
        recovered = json.loads(next_line(process, "ok recovered "))
        disturbed = json.loads(next_line(process, "ok undisturbed "))
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.communicate()

    for operation, seen in refused.items():
        if seen["error"]:
            assert {key: seen["error"][key] for key in REFUSED} == REFUSED, operation
            assert sorted(seen["error"]["labels"]) == LABELS, operation
    attempts = [seen["attempts"] for seen in refused.values()]
    if driver.backs_off:
        assert max(attempts) > 1, "it was refused and did not try again"
    else:
        assert attempts == [1, 1, 1]
        assert all(seen["error"] for seen in refused.values()), "it was not refused"
    # What was refused was not done, and what was not refused was done once.
    done = {operation: not seen["error"] for operation, seen in refused.items()}
    assert recovered == {"documents": 1 + done["insert"], "n": 0 + done["update"]}
    assert set(disturbed.values()) == {0}, disturbed


def test_exhaustion_is_logged(secantus, proxy):
    with overload(secantus, proxy):
        begin = proxy.wait_for("exhaustion_begin")
    end = proxy.wait_for("exhaustion_end")
    assert (begin["level"], end["level"]) == ("warn", "info")
    holder = r"count test\.slow\d+ \{owner\} shape_id=[0-9a-f]{16} app= client=\d+ held_ms=\d+ tenant="
    holder += r"127\.0\.0\.1"
    assert re.fullmatch(holder, begin["holder1"]), begin


def test_slow_operation_is_logged_by_its_shape(secantus, proxy):
    with overload(secantus, proxy):
        pass
    line = proxy.wait_for("slow_operation", command="count")
    assert re.fullmatch(r"count test\.slow\d+ \{owner\}", line["shape"]), line
    assert "kanarienvogel" not in str(line)


def test_unacknowledged_write_is_dropped_without_a_word(secantus, proxy):
    with raw.Connection.to((proxy.host, proxy.port)) as connection:
        connection.hello()
        with overload(secantus, proxy):
            silent = {"insert": "silent", "documents": [{"_id": 1}], "writeConcern": {"w": 0}}
            connection.post(silent, flags=raw.MORE_TO_COME)
            time.sleep(0.2)
        # In step: ask() insists on the reply to its own request.
        assert connection.ask({"find": "silent"})["cursor"]["firstBatch"] == []


def test_own_deadline_is_told_as_such(secantus, proxy):
    with raw.Connection.to((proxy.host, proxy.port)) as connection, overload(secantus, proxy):
        reply = connection.ask({"find": "things", "filter": {}, "maxTimeMS": 10})
        assert (reply["ok"], reply["code"], reply["codeName"]) == (0, 50, "MaxTimeMSExpired")
        assert "errorLabels" not in reply


def test_what_finishes_things_is_never_refused(secantus, proxy):
    secantus.client().test.many.insert_many({"_id": i} for i in range(10))
    with raw.Connection.to((proxy.host, proxy.port)) as connection:
        opened = connection.ask({"find": "many", "filter": {}, "batchSize": 2})["cursor"]
        with overload(secantus, proxy):
            more = connection.ask({"getMore": opened["id"], "collection": "many"})
    assert len(more["cursor"]["nextBatch"]) == 8


def test_hello_never_waits(secantus, proxy):
    with raw.Connection.to((proxy.host, proxy.port)) as connection, overload(secantus, proxy):
        assert connection.hello()["ok"] == 1
        assert is_refusing(proxy), "they are held no longer"
