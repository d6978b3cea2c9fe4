# SPDX-License-Identifier: Apache-2.0
"""A server that is broken or hostile, by a stub of one: the app gets a clean error and never what
was meant for another, the log says why the upstream went, and the next request is served."""

from __future__ import annotations

import itertools
import struct
import threading
import time

import bson
import pytest
import raw
import servers
import weir
from bson.int64 import Int64
from bystander import Bystander
from stub_server import Asked, StubServer, fine

MESSAGE_TIMEOUT_S = 1.0
LATE_S = 0.03
LARGE_BYTES = 4_000_000
CAP = 3
VICTIM = "victim"  # the comment by which the stub knows whom it wrongs


@pytest.fixture(scope="module")
def stub():
    with StubServer() as stub:
        yield stub


@pytest.fixture(scope="module")
def proxy(stub):
    arguments = ("--message-timeout", "1s", "--max-wait", "60s")
    with weir.Weir(stub.uri, *arguments, cap=CAP) as proxy:
        yield proxy


def ask_for_own(client, number: int) -> None:
    assert client.test.command("count", "things", comment=number)["echo"] == number


@pytest.fixture(autouse=True)
def bystander(proxy):
    bystander = Bystander(proxy.uri, ask_for_own)
    yield
    bystander.assert_untouched()
    bystander.stop()
    time.sleep(0.22)  # weir logs no more than 5 lines of a kind in a second


@pytest.fixture
def wrong(stub):
    """Sets what the stub does to the victim's commands; all others are answered well."""

    def set_script(mischief) -> None:
        def script(asked: Asked) -> None:
            (mischief if asked.document.get("comment") == VICTIM else fine)(asked)

        stub.script = script

    yield set_script
    stub.script = fine


@pytest.fixture
def victim(proxy):
    with raw.Connection.to((proxy.host, proxy.port)) as connection:
        connection.hello()
        yield connection


def upstreams_down(proxy) -> list[str]:
    return [event["reason"] for event in list(proxy.events) if event["event"] == "upstream_down"]


def wait_for_down(proxy, before: list[str], count: int = 1) -> str:
    """The reason of the upstreams that went since then."""
    deadline = time.monotonic() + servers.HANG_S
    while len(upstreams_down(proxy)) < len(before) + count and time.monotonic() < deadline:
        time.sleep(0.01)
    new = upstreams_down(proxy)[len(before) :]
    assert len(new) == count and len(set(new)) == 1, new
    return new[0]


def with_length(reply: bytes, length: int) -> bytes:
    return struct.pack("<i", length) + reply[4:]


def send(make):
    """A script that sends what is made of the command."""
    return lambda asked: asked.connection.send(make(asked))


def send_and_close(make):
    def script(asked: Asked) -> None:
        asked.connection.send(make(asked))
        asked.hang_up()

    return script


def reply_to(asked: Asked, response_to: int) -> bytes:
    return raw.op_msg(raw.body({"ok": 1.0, "of": "another"}), response_to=response_to)


def lying_document(asked: Asked) -> bytes:
    document = bytearray(bson.encode({"ok": 1.0, "cursor": {"id": Int64(0), "firstBatch": []}}))
    struct.pack_into("<i", document, document.index(b"cursor\0") + 7, 1000)
    return asked.answer(bytes(document))


#   what the stub does                                      what the log says
MISCHIEF = {
    "reply to another request": (
        send(lambda asked: reply_to(asked, asked.message.request_id + 1)), "answered something else"
    ),
    "reply to nothing": (send(lambda asked: reply_to(asked, 0)), "answered something else"),
    "length 15": (send(lambda asked: with_length(asked.fine(), 15)), "malformed"),
    "length 0": (send(lambda asked: with_length(asked.fine(), 0)), "malformed"),
    "length negative": (send(lambda asked: with_length(asked.fine(), -1)), "malformed"),
    "length above 48 MB": (send(lambda asked: with_length(asked.fine(), 48_000_001)), "malformed"),
    "no message at all": (send(lambda asked: b"HTTP/1.1 400 Bad Request\r\n\r\n"), ""),
    "opcode of an old reply": (
        send(lambda asked: raw.op_reply({"ok": 1.0}, asked.message.request_id)), "malformed"
    ),
    "more to come": (
        send(lambda asked: raw.op_msg(raw.body({"ok": 1.0}), flags=raw.MORE_TO_COME,
                                      response_to=asked.message.request_id)), "malformed"
    ),
    "unknown flag": (
        send(lambda asked: raw.op_msg(raw.body({"ok": 1.0}), flags=1 << 5,
                                      response_to=asked.message.request_id)), "malformed"
    ),
    "no body": (
        send(lambda asked: raw.op_msg(response_to=asked.message.request_id)), "malformed"
    ),
    "document that lies": (send(lying_document), "malformed"),
    "close before the reply": (send_and_close(lambda asked: b""), "closed by the server"),
    "close in the header": (send_and_close(lambda asked: asked.fine()[:7]), "closed by the server"),
    "close in the middle": (
        send_and_close(lambda asked: asked.fine()[:-5]), "closed by the server"
    ),
    "length beyond the document": (
        send(lambda asked: with_length(asked.fine(), 500)), "malformed"
    ),
    "half a reply, then silence": (
        send(lambda asked: asked.fine()[:-5]), "reply not complete in time"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", MISCHIEF)
def test_wronged_request_gets_an_error_of_its_own(stub, proxy, wrong, victim, case):
    mischief, reason = MISCHIEF[case]
    wrong(mischief)
    before = upstreams_down(proxy)
    reply = victim.ask({"insert": "things", "documents": [], "comment": VICTIM})
    assert (reply["ok"], reply["code"], reply["codeName"]) == (0, 6, "HostUnreachable")
    assert "outcome unknown" in reply["errmsg"]
    assert "errorLabels" not in reply
    assert reason in wait_for_down(proxy, before)
    assert victim.ask({"ping": 1, "comment": "next"})["echo"] == "next"


SESSION = {"lsid": {"id": bson.Binary(bytes(16), 4)}, "txnNumber": Int64(1)}
IN_TRANSACTION = {**SESSION, "autocommit": False}
LOST = {
    "read": ({"find": "things"}, 6, None),
    "write": ({"update": "things", "updates": []}, 6, None),
    "retryable write": ({"insert": "things", **SESSION}, 6, ["RetryableWriteError"]),
    "getMore": ({"getMore": Int64(5), "collection": "things"}, 43, None),
    "first statement of a transaction": (
        {"insert": "things", **IN_TRANSACTION, "startTransaction": True}, 6,
        ["TransientTransactionError"],
    ),
    "statement of a transaction": (
        {"find": "things", **IN_TRANSACTION}, 6, ["TransientTransactionError"]
    ),
    "commit": ({"commitTransaction": 1, **IN_TRANSACTION}, 6, ["RetryableWriteError"]),
    "abort": ({"abortTransaction": 1, **IN_TRANSACTION}, 6, ["RetryableWriteError"]),
    "unknown command": ({"noSuchCommand": 1}, 6, None),
}  # fmt: skip


SENT_TWICE = ("read", "retryable write")
LINES_A_SECOND = 5  # weir logs no more of one kind


@pytest.mark.parametrize("case", LOST)
def test_what_a_lost_request_is_answered(proxy, wrong, victim, case):
    command, code, labels = LOST[case]
    wrong(send_and_close(lambda asked: b""))
    before = upstreams_down(proxy)
    reply = victim.ask({**command, "comment": VICTIM})
    assert (reply["ok"], reply["code"], reply.get("errorLabels")) == (0, code, labels)
    wait_for_down(proxy, before, 2 if case in SENT_TWICE else 1)
    time.sleep(2 / LINES_A_SECOND)


def late(asked: Asked) -> None:
    """The right reply, and the same again a little later."""
    asked.connection.send(asked.fine())
    time.sleep(LATE_S)
    asked.connection.send(asked.fine())


def test_unacknowledged_write_whose_reply_is_wrong(proxy, wrong, victim):
    wrong(send(lambda asked: reply_to(asked, asked.message.request_id + 1)))
    before = upstreams_down(proxy)
    victim.post({"insert": "things", "comment": VICTIM}, flags=raw.MORE_TO_COME)
    assert victim.ask({"ping": 1, "comment": "next"})["echo"] == "next"
    wait_for_down(proxy, before)


def test_reply_nobody_asked_for_behind_a_good_one(proxy, wrong, victim):
    wrong(send(lambda asked: asked.fine() + reply_to(asked, asked.message.request_id + 1)))
    before = upstreams_down(proxy)
    assert victim.ask({"find": "things", "comment": VICTIM})["echo"] == VICTIM
    assert "nobody asked" in wait_for_down(proxy, before)
    assert victim.ask({"ping": 1, "comment": "next"})["echo"] == "next"


def test_reply_nobody_asked_for_while_idle():
    """Away from the bystander: whoever had that upstream by then would get an error."""
    with StubServer() as stub, weir.Weir(stub.uri, cap=1) as proxy:
        with raw.Connection.to((proxy.host, proxy.port)) as connection:
            connection.ask({"ping": 1})
            stub.script = late
            for number in range(5):
                assert connection.ask({"ping": 1, "comment": number})["echo"] == number
                time.sleep(3 * LATE_S)
            # Without the pause it cannot be told from the reply: an error, and nothing else's data.
            for number in range(5):
                reply = connection.ask({"ping": 1, "comment": number})
                assert reply["echo"] == number if reply["ok"] else reply["code"] == 6


def test_large_reply_that_breaks_off(proxy, wrong, victim):
    """Its beginning was passed on already: all that is left is to end the victim's connection."""

    def large(asked: Asked) -> bytes:
        return asked.answer({"ok": 1.0, "content": b"x" * LARGE_BYTES})[: LARGE_BYTES // 2]

    wrong(send_and_close(large))
    before = upstreams_down(proxy)
    victim.post({"find": "things", "comment": VICTIM})
    assert victim.receive() is None
    wait_for_down(proxy, before)


def test_server_that_takes_its_time_holds_up_only_who_asked(proxy, wrong, victim):
    """No deadline of weir's ends an operation that is long."""
    held = []
    wrong(held.append)
    victim.post({"find": "things", "comment": VICTIM})
    assert not victim.is_ended(within=2 * MESSAGE_TIMEOUT_S)
    held[0].connection.send(held[0].fine())
    assert victim.receive().document["echo"] == VICTIM


def test_nobody_ever_sees_anothers_data(proxy, wrong):
    """Every third reply is wrong in one way or another, and many clients ask at once. How many of
    the requests that are repeated meet a second wrong reply is chance: no share is asked for."""
    ways = [mischief for case, (mischief, _) in MISCHIEF.items() if "silence" not in case]
    turns = itertools.count()

    def now_and_then(asked: Asked) -> None:
        turn = next(turns)
        if turn % 3 == 0:
            ways[turn // 3 % len(ways)](asked)
        else:
            asked.connection.send(asked.answer({"ok": 1.0, "mine": asked.document["mine"]}))

    served, failures = [], []

    def work(name: int) -> None:
        try:
            with raw.Connection.to((proxy.host, proxy.port)) as connection:
                for i in range(20):
                    mine = [name, i]
                    reply = connection.ask({"find": "things", "comment": VICTIM, "mine": mine})
                    assert reply.get("mine") == mine if reply["ok"] else reply["code"] == 6, reply
                    served.append(reply["ok"])
        except (AssertionError, OSError) as failure:
            failures.append(failure)

    wrong(now_and_then)
    threads = [threading.Thread(target=work, args=(name,)) for name in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(served) == 16 * 20 and any(served) and next(turns) // 3 > len(ways)


STATES = {
    10107: "NotWritablePrimary", 13435: "NotPrimaryNoSecondaryOk", 10058: "LegacyNotPrimary",
    189: "PrimarySteppedDown", 11602: "InterruptedDueToReplStateChange",
    13436: "NotPrimaryOrSecondary", 91: "ShutdownInProgress", 11600: "InterruptedAtShutdown",
}  # fmt: skip


@pytest.mark.parametrize("code", STATES)
def test_change_of_state_is_told_as_a_mongos_tells_it(wrong, victim, code):
    """With the server's own code a driver would give up weir's address, which is fine."""
    version = {"processId": bson.ObjectId(), "counter": Int64(7)}
    said = {
        "ok": 0.0, "code": code, "codeName": STATES[code], "errmsg": "state has changed",
        "errorLabels": ["RetryableWriteError"], "topologyVersion": version,
    }  # fmt: skip
    concern = {"ok": 1.0, "n": 1, "writeConcernError": {"code": code, "errmsg": "has changed"}}
    for document in (said, concern):
        wrong(send(lambda asked, document=document: asked.answer(document)))
        reply = victim.ask({"insert": "things", "comment": VICTIM, **SESSION})
        assert "topologyVersion" not in reply
        assert reply.get("errorLabels") == document.get("errorLabels")
        assert reply.get("writeConcernError", reply)["code"] == 6


def test_label_that_makes_drivers_lie_is_dropped(wrong, victim):
    """Go's driver reports success where it does not retry an error labelled NoWritesPerformed."""
    labels = ["NoWritesPerformed", "RetryableWriteError", "Other"]
    said = {"ok": 0.0, "code": 462, "errmsg": "no", "errorLabels": labels}
    wrong(send(lambda asked: asked.answer(said)))
    plain = victim.ask({"insert": "things", "comment": VICTIM})
    assert plain["errorLabels"] == ["RetryableWriteError", "Other"]
    retryable = victim.ask({"insert": "things", "comment": VICTIM, **SESSION})
    assert retryable["errorLabels"] == labels
