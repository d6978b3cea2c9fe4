# SPDX-License-Identifier: Apache-2.0
"""Messages that mongod refuses, compression, and what is counted."""

from __future__ import annotations

import struct

import pytest
import raw

from . import wire
from .speaker import Speaker

PING = {"ping": 1, "$db": "admin"}


@pytest.fixture
def stub(stubs):
    return stubs("standalone", rejects=True, compressors=("zlib", "snappy", "zstd"))


@pytest.fixture
def connection(stub):
    with raw.Connection.to(("127.0.0.1", stub.members[0].port)) as connection:
        yield connection


SECOND_BODY = raw.body(PING) + raw.body(PING)
DOUBLED = raw.body(PING) + raw.sequence(b"a") + raw.sequence(b"a")
MANY = raw.body(PING) + b"".join(raw.sequence(name) for name in (b"a", b"b", b"c"))


@pytest.mark.parametrize(
    "code, message, ends",
    [
        (223, raw.op_msg(raw.body(PING), flags=1 << 5), True),
        (288, raw.op_msg(raw.body(PING), bytes(4), flags=raw.CHECKSUM_PRESENT), True),
        (233, raw.op_msg(MANY), True),
        (40430, raw.op_msg(SECOND_BODY), False),
        (40431, raw.op_msg(DOUBLED), False),
        (40433, raw.op_msg(raw.body({**PING, "a": 1}), raw.sequence(b"a")), False),
        (40587, raw.op_msg(raw.sequence(b"a")), False),
        (40571, raw.op_msg(raw.body({"ping": 1})), False),
        (40621, raw.op_query({"isMaster": 1, "$db": "admin"}), False),
        (352, raw.op_query({"ping": 1}), False),
        (40414, raw.op_msg(raw.body({"insert": "things", "$db": "test"})), False),
        (59, raw.op_msg(raw.body({"nonsense": 1, "$db": "admin"})), False),
    ],
)
def test_a_bad_message_gets_the_servers_code(stub, connection, code, message, ends):
    connection.send(message)
    assert connection.receive().document["code"] == code
    if ends:
        assert connection.is_ended()
    else:
        assert connection.ask({"ping": 1})["ok"]
    assert len(stub.rejections) == (code != 59)


@pytest.mark.parametrize(
    "message",
    [
        raw.header(5),
        raw.header(wire.MAX_MESSAGE + 1),
        raw.message(b"", opcode=2001),
        raw.op_msg(b"\0" + struct.pack("<i", 1 << 20)),
        wire.deflate(raw.op_msg(raw.body(PING)), "zlib"),
    ],
    ids=["short", "long", "opcode", "section", "not agreed"],
)
def test_nonsense_ends_the_connection(stub, connection, message):
    connection.send(message)
    assert connection.is_ended()
    assert len(stub.rejections) == 1


def test_optional_flags_and_a_right_checksum_are_fine(connection):
    assert connection.ask({"ping": 1}, flags=1 << 20)["ok"]
    message = raw.op_msg(raw.body(PING), bytes(4), flags=raw.CHECKSUM_PRESENT)
    connection.send(message[:-4] + struct.pack("<I", wire.crc32c(message[:-4])))
    assert connection.receive().document["ok"]


def test_metadata_comes_once(stub, connection):
    hello = {"hello": 1, "client": {"driver": {"name": "weir", "version": "1"}}}
    assert connection.ask(hello, db="admin")["ok"]
    assert connection.ask(hello, db="admin")["code"] == 186
    assert stub.tally(0, "weir").open == 1


def test_an_old_hello_is_answered_in_kind(connection):
    connection.send(raw.op_query({"isMaster": 1, "helloOk": True}))
    reply = connection.receive()
    assert reply.opcode == raw.OP_REPLY
    assert reply.document["ismaster"] and reply.document["helloOk"]


@pytest.mark.parametrize("name", ["zlib", "snappy", "zstd"])
def test_compression_is_agreed_on_and_checked(stub, connection, name):
    hello = connection.ask({"hello": 1, "compression": ["odd", name]}, db="admin")
    assert hello["compression"] == [name]
    connection.send(wire.deflate(raw.op_msg(raw.body(PING)), name))
    reply = connection.receive()
    assert reply.opcode == wire.OP_COMPRESSED
    assert wire.inflate(reply.payload, (name,))[0] == raw.OP_MSG
    assert connection.ask({"ping": 1})["ok"]
    connection.send(wire.deflate(raw.op_msg(raw.body({"hello": 1, "$db": "admin"})), name))
    assert connection.is_ended()
    assert "compressed" in stub.rejections[0].message


def test_a_lie_about_the_size_ends_the_connection(connection):
    connection.ask({"hello": 1, "compression": ["zlib"]}, db="admin")
    message = bytearray(wire.deflate(raw.op_msg(raw.body(PING)), "zlib"))
    struct.pack_into("<i", message, 20, struct.unpack_from("<i", message, 20)[0] + 1)
    connection.send(bytes(message))
    assert connection.is_ended()


def test_a_driver_may_compress(stubs, connect):
    stub = stubs(compressors=("zlib",))
    things = connect(stub.uri, compressors="zlib").test.things
    things.insert_one({"_id": 1, "text": "long " * 1000})
    assert len(things.find_one()["text"]) == 5000


def test_an_unacknowledged_write_is_done_and_not_answered(stubs, connect):
    stub = stubs()
    things = connect(stub.uri, w=0).test.things
    things.insert_one({"_id": 1})
    stub.wait_until(lambda: stub.store.documents("test.things"))
    assert things.find_one() == {"_id": 1}


def test_commands_are_recorded(stub, connect):
    connect(stub.uri).test.things.insert_one({})
    (insert,) = stub.asked("insert")
    assert insert.driver.startswith("PyMongo") and insert.namespace == "test.things"
    assert insert.lsid and insert.txn_number is None


def test_connections_are_counted_by_driver(stub):
    hello = {"hello": 1, "client": {"driver": {"name": "weir", "version": "1"}}}
    speakers = [Speaker(stub) for _ in range(3)]
    for speaker in speakers[1:]:
        speaker.connection.ask(hello, db="admin")
    speakers[1].connection.stream.close()
    stub.wait_until(lambda: stub.tally(0, "weir").open == 1)
    stub.wait_until(lambda: stub.tally(0).open == 2)
    for driver, opened in (("weir", 2), (None, 3)):
        assert stub.tally(0, driver).opened == stub.tally(0, driver).peak == opened
