# SPDX-License-Identifier: Apache-2.0
"""What an app sends arrives byte for byte, whatever is in it, but for what ARCHITECTURE.md says."""

from __future__ import annotations

import datetime
import queue
import struct

import bson
import pytest
import raw
import weir
from bson import Binary, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from stub_server import Asked, StubServer

LSID = {"id": Binary(bytes(range(16)), 4)}
STABLE = {"apiVersion": "1", "apiStrict": True, "apiDeprecationErrors": False}
EXHAUST_ALLOWED = 1 << 16
OF_EVERY_TYPE = {
    "text": "Grüße", "nul": "a\0b", "number": 1.5, "nan": float("nan"), "null": None, "no": False,
    "int": -1, "long": Int64(2**62), "decimal": Decimal128("1E-6176"), "id": ObjectId(),
    "date": datetime.datetime(1969, 1, 1), "stamp": Timestamp(7, 8), "least": MinKey(),
    "most": MaxKey(), "regex": Regex("^a", "i"), "bytes": Binary(b"\0\xff", 0), "old": Binary(b"x", 2),
    "code": bson.Code("f()"), "scoped": bson.Code("f()", {"a": 1}), "deep": {"a": [[], {"b": {}}]},
    "": "no key", "$dollar.dot": 1, "reference": bson.DBRef("c", 1),
}  # fmt: skip
FIND = {"find": "things", "filter": {}}


def command(document: dict, db: str = "test", **more) -> bytes:
    return raw.body({**document, "$db": db, **more})


# The sections of messages that arrive as they are.
SAME = {
    "the Stable API": command(FIND, **STABLE),
    "apiStrict alone": command(FIND, apiStrict=True),
    "a comment of every type": command(FIND, comment=OF_EVERY_TYPE),
    "a comment that is a number": command(FIND, comment=5),
    "rawData": command(FIND, rawData=True),
    "unknown fields": command(FIND, soundTrack=OF_EVERY_TYPE, **{"$future": [1]}),
    "an unknown command": command({"frobnicate": OF_EVERY_TYPE, "rawData": True, "comment": "c"}),
    "$db in the middle": raw.body({"find": "things", "$db": "test", "filter": {}}),
    "a key twice": raw.body(
        (lambda elements: struct.pack("<i", 5 + len(elements)) + elements + b"\0")(
            b"\x10u\0\1\0\0\0" b"\x10u\0\2\0\0\0" b"\x02$db\0\3\0\0\0ab\0"
        )
    ),
    "read and write concerns, times": command(
        FIND, readConcern={"level": "local", "afterClusterTime": Timestamp(1, 2)}, maxTimeMS=60000,
        **{"$clusterTime": {"clusterTime": Timestamp(9, 9), "signature": {"keyId": Int64(0)}}},
    ),
    "a read preference": command(FIND, **{"$readPreference": {"mode": "nearest", "hedge": {}}}),
    "a retryable write": command(
        {"insert": "things", "documents": [OF_EVERY_TYPE], "ordered": False},
        lsid=LSID, txnNumber=Int64(3), stmtIds=[1], writeConcern={"w": "majority", "j": True},
    ),
    "a transaction's first": command(
        FIND, lsid=LSID, txnNumber=Int64(4), autocommit=False, startTransaction=True, **STABLE
    ),
    "its commit": command(
        {"commitTransaction": 1}, "admin", lsid=LSID, txnNumber=Int64(4), autocommit=False,
        recoveryToken={"shard": OF_EVERY_TYPE}, **STABLE,
    ),
    "a getMore": command({"getMore": Int64(77), "collection": "things"}, comment="c", **STABLE),
    "a killCursors": command({"killCursors": "things", "cursors": [Int64(77)]}, comment="c"),
    "a change stream": command(
        {"aggregate": 1, "pipeline": [{"$changeStream": {"resumeAfter": {"_data": "82"}}}],
         "cursor": {}}
    ),
    "a sequence before the body": raw.sequence(b"documents", OF_EVERY_TYPE, {})
    + command({"insert": "things"}, comment="c"),
    "two sequences around it": raw.sequence(b"ops", {"insert": 0, "document": OF_EVERY_TYPE})
    + command({"bulkWrite": 1, "errorsOnly": True}, "admin", **STABLE)
    + raw.sequence(b"nsInfo", {"ns": "test.things"}),
    "100,000 small documents": command({"insert": "things"}, **STABLE)
    + raw.sequence(b"documents", *({"_id": number} for number in range(100_000))),
    "45 MB in three documents": command({"insert": "things"}, comment="large")
    + raw.sequence(b"documents", *({"_id": n, "b": bytes(15_000_000)} for n in range(3))),
}  # fmt: skip

ZERO = {"insert": "things", "documents": [{}]}
# What is changed, and only that: flags and sections as sent, and as they arrive.
CHANGED = {
    "flags that ask for more replies": (EXHAUST_ALLOWED, command(FIND), 0, command(FIND)),
    "an optional flag is kept": (1 << 20, command(FIND), 1 << 20, command(FIND)),
    "w: 0": (
        raw.MORE_TO_COME, command(ZERO, writeConcern={"w": 0}, **STABLE),
        0, command(ZERO, writeConcern={"w": 1}, **STABLE),
    ),
    "w: 0.0": (
        raw.MORE_TO_COME, command(ZERO, comment="c", writeConcern={"j": False, "w": 0.0}),
        0, command(ZERO, comment="c", writeConcern={"j": False, "w": 1.0}),
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def came():
    """weir before a stub that keeps each message and says ok: its connection and that queue."""
    kept = queue.Queue()

    def keep(asked: Asked) -> None:
        kept.put(asked.message)
        asked.connection.send(asked.answer({"ok": 1.0}))

    with StubServer() as stub:
        stub.script = keep
        with weir.Weir(stub.uri, cap=2) as proxy, raw.Connection.to(proxy.address) as connection:
            connection.hello()
            connection.stream.settimeout(30)
            yield connection, kept


def sent_and_came(came, flags: int, sections: bytes, request_id: int) -> bytes:
    """The payload that the server was sent; of the ids, the request's is the app's own."""
    connection, kept = came
    connection.send(raw.op_msg(sections, flags=flags, request_id=request_id))
    if not flags & raw.MORE_TO_COME:
        assert connection.receive().response_to == request_id
    message = kept.get(timeout=60)
    assert (message.opcode, message.response_to) == (raw.OP_MSG, 0)
    return message.payload


@pytest.mark.parametrize("case", SAME)
def test_arrives_byte_for_byte(came, case):
    sections = SAME[case]
    arrived = sent_and_came(came, 0, sections, 11)
    is_same = arrived == struct.pack("<I", 0) + sections
    assert is_same  # nobody wants to be shown 45 MB


@pytest.mark.parametrize("case", CHANGED)
def test_what_is_changed_and_only_that(came, case):
    flags, sections, wanted_flags, wanted = CHANGED[case]
    assert sent_and_came(came, flags, sections, 12) == struct.pack("<I", wanted_flags) + wanted


def test_the_stable_api_of_a_hello_is_no_app_s_command(came):
    """Drivers with it send OP_MSG hellos with apiVersion, which weir answers itself."""
    connection, kept = came
    assert connection.ask({"hello": 1, **STABLE}, db="admin")["ok"] == 1 and kept.empty()
