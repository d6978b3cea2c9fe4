# SPDX-License-Identifier: Apache-2.0
"""Compression, of which each side of weir has its own agreement.

    driver == compressed ==> Relay, counts ==> weir == compressed ==> Relay, inflates ==> server

No server that can be had here compresses: a relay does it in its place (relay.py). First what goes
well, by real drivers; then what is broken or hostile, from either side.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time

import pymongo
import pytest
import raw
import servers
import weir
from bystander import Bystander
from drivers import DRIVERS
from packed import IDS, SNAPPY, ZLIB, ZSTD, compressed, deflate
from relay import Relay
from stub_server import HELLO, Asked, StubServer, fine
from test_drivers import CHECKS, WEIR_ADDS, fill, finish, parse

ALL = "snappy,zlib,zstd"
LARGEST_COMPRESSED = 1 << 20  # PACKING_MAX_BYTES of proxy/packing.h
AT_MOST_5_A_SECOND = 0.22  # lines of one kind that weir logs
ZLIB_ONLY = "its driver takes snappy and zstd from packages that compile at installation"

DRIVER_CASES = [
    pytest.param(
        (kind, name, compressor), id=f"{kind}-{name}-{compressor}",
        marks=[pytest.mark.skip(ZLIB_ONLY)] if "node" in name and compressor != "zlib" else [],
    )
    for kind in servers.available()
    for name in ("pymongo", "node", "node-6", "go", "libmongoc")
    for compressor in IDS
    if not DRIVERS[name].why_not() and (kind == "secantus" or name == "pymongo")
]  # fmt: skip


# --- what goes well -------------------------------------------------------------------------------


@contextlib.contextmanager
def way(server, app: str | None, upstream: str | None, *arguments: str):
    """weir between two relays; what compressors the app's side and the server's side allow."""
    with Relay(server.port, compressors=upstream.split(",") if upstream else []) as behind:
        asks = f"&compressors={upstream}" if upstream else ""
        uri = f"mongodb://127.0.0.1:{behind.port}/?directConnection=true{asks}"
        allowed = ("--compressors", app or "disabled", "--max-wait", "30s", *arguments)
        with weir.Weir(uri, *allowed, cap=4) as proxy, Relay(proxy.port) as before:
            before.uri = f"mongodb://127.0.0.1:{before.port}/"
            yield proxy, before, behind
            assert before.broken == [] and behind.broken == []
            assert proxy.count("bad_input") == proxy.count("upstream_down") == 0


@pytest.fixture(scope="module")
def filled():
    """Servers with what the checks read, each started when it is first asked for, and what each
    driver's program says straight at it."""
    with contextlib.ExitStack() as stack:
        started, straight = {}, {}

        def get(kind: str, name: str):
            if kind not in started:
                started[kind] = stack.enter_context(servers.start(kind))
                fill(started[kind])
            server = started[kind]
            if (kind, name) not in straight:
                program = DRIVERS[name].start("checks", server.uri, server.features)
                straight[kind, name] = parse(finish(program)[0])
            return server, straight[kind, name]

        yield get


@pytest.mark.parametrize("case", DRIVER_CASES)
def test_driver_sees_no_difference(filled, case):
    kind, name, compressor = case
    server, straight = filled(kind, name)
    with way(server, ALL, compressor) as (_, before, behind):
        uri = f"{before.uri}?compressors={compressor}&heartbeatFrequencyMS=500"
        program = DRIVERS[name].start("checks", uri, server.features | WEIR_ADDS)
        output, status = finish(program)
    assert status == 0, output
    outcomes = parse(output)
    for check in CHECKS:
        outcome, expected = outcomes[check], straight[check]
        assert outcome.verdict != "not ok", f"{check}: {outcome.text}"
        assert expected.verdict != "ok" or outcome.facts == expected.facts, check
    used = IDS[compressor]
    for side in (before, behind):
        assert set(side.up) == {"plain", used} == set(side.down)
        assert side.up[used] > 100 and side.down[used] > 100
        assert side.up[used] > side.up["plain"]


SIZES = (1, 1_000, 65_000, 66_000, 1_000_000, 1_100_000, 5_000_000)
NAMES = (None, "snappy", "zlib", "zstd")


@pytest.mark.parametrize("app, upstream", list(itertools.product(NAMES, NAMES)))
def test_each_side_has_its_own(secantus, app, upstream):
    with way(secantus, app, upstream) as (_, before, behind):
        asks = f"?compressors={app}" if app else ""
        with pymongo.MongoClient(before.uri + asks) as client:
            things = client.test.get_collection("things")
            things.drop()
            for size in SIZES:  # half of it noise
                thing = {"_id": size, "text": "x" * (size // 2), "noise": os.urandom(size // 2)}
                things.insert_one(thing)
                assert things.find_one({"_id": size}) == thing
            assert [thing["_id"] for thing in things.find(projection=["_id"])] == list(SIZES)
    for side, compressor in ((before, app), (behind, upstream)):
        expected = {"plain", IDS[compressor]} if compressor else {"plain"}
        assert set(side.up) == set(side.down) == expected


def test_large_replies_come_as_they_are(secantus):
    """What is larger than a worker should compress at one go; all else is compressed."""
    with way(secantus, "zlib", None) as (_, before, _), pymongo.MongoClient(
        f"{before.uri}?compressors=zlib"
    ) as client:
        things = client.test.get_collection("things")
        things.drop()
        things.insert_many({"_id": size, "text": "x" * size} for size in (1_000_000, 1_100_000))
        before.largest_plain_down = 0
        things.find_one(1_000_000)
        assert before.largest_plain_down == 0
        things.find_one(1_100_000)
        assert before.largest_plain_down > LARGEST_COMPRESSED


def test_bytes_are_saved(secantus):
    spent = {}
    for name in NAMES:
        with way(secantus, name, name) as (_, before, behind):
            asks = f"?compressors={name}" if name else ""
            with pymongo.MongoClient(before.uri + asks) as client:
                things = client.test.get_collection("things")
                things.drop()
                things.insert_many({"_id": i, "text": "the same again " * 50} for i in range(500))
                assert len(list(things.find(batch_size=250))) == 500
            spent[name] = (before.bytes, behind.bytes)
    for name in NAMES[1:]:
        assert spent[name][0] < spent[None][0] / 4 and spent[name][1] < spent[None][1] / 4


def hello(proxy, **more: object) -> list[str] | None:
    with raw.Connection.to((proxy.host, proxy.port)) as connection:
        return connection.ask({"hello": 1, **more}, db="admin").get("compression")


def test_what_is_agreed_on(secantus):
    with weir.Weir(secantus.uri, "--compressors", "zstd,zlib") as proxy:
        assert hello(proxy) is None
        assert hello(proxy, compression=[]) is None
        assert hello(proxy, compression=["snappy", "lz4", 5]) is None
        assert hello(proxy, compression="zlib") is None
        assert hello(proxy, compression=["zlib", "snappy", "zstd", "zlib"]) == ["zlib", "zstd"]
        with raw.Connection.to((proxy.host, proxy.port)) as connection:
            asked = connection.ask({"ismaster": 1, "compression": ["zstd"]}, db="admin")
            assert asked["compression"] == ["zstd"] == connection.hello()["compression"]
            again = connection.ask({"hello": 1, "compression": ["zlib"]}, db="admin")
            assert again["compression"] == ["zlib"]


@pytest.mark.parametrize("arguments", [(), ("--compressors", "disabled")])
def test_apps_on_this_machine_are_offered_none_unless_it_is_said(secantus, arguments):
    with weir.Weir(secantus.uri, *arguments) as proxy:
        assert hello(proxy, compression=["zlib", "snappy", "zstd"]) is None
        with pymongo.MongoClient(proxy.uri + "?compressors=zlib") as client:
            assert client.test.command("ping")["ok"] == 1


def test_nothing_is_offered_unless_the_uri_says_so(secantus):
    with way(secantus, "zlib", None) as (proxy, before, behind):
        with pymongo.MongoClient(before.uri + "?compressors=zlib") as client:
            client.test.command("ping")
        assert set(behind.up) == {"plain"} and ZLIB in before.up


# --- apps that are broken or hostile --------------------------------------------------------------

PING = raw.op_msg(raw.body({"ping": 1, "$db": "test"}), request_id=77)
BODY = PING[16:]
BOMB = deflate(ZLIB, bytes(40_000_000))


def lie(compressor: int = ZLIB, message: bytes = PING, **lies: object) -> bytes:
    return compressed(message, compressor, **lies)


def secret(**command: object) -> bytes:
    return lie(message=raw.op_msg(raw.body({**command, "$db": "admin"})))


EACH = [("snappy", SNAPPY), ("zlib", ZLIB), ("zstd", ZSTD)]
BROKEN = {
    **{f"{name} claims a byte more": lie(id, claim=len(BODY) + 1) for name, id in EACH},
    **{f"{name} claims a byte less": lie(id, claim=len(BODY) - 1) for name, id in EACH},
    **{f"{name} claims nothing": lie(id, claim=0) for name, id in EACH},
    **{f"{name} claims 47 MB": lie(id, claim=47_000_000) for name, id in EACH},
    **{f"{name} is cut": lie(id, packed=deflate(id, BODY)[:-2]) for name, id in EACH},
    **{f"{name} goes on": lie(id, packed=deflate(id, BODY) + b"\0\0") for name, id in EACH},
    **{f"{name} is nothing": lie(id, packed=b"") for name, id in EACH},
    **{f"{name} is noise": lie(id, packed=b"\xa5" * 500) for name, id in EACH},
    "claims a little, is a bomb": lie(packed=BOMB),
}
HEADERS = {
    "claims 48 MB": (lie(claim=48_000_000 - 15), "impossible length"),
    "claims 2 GB": (lie(claim=2**31 - 1), "impossible length"),
    "claims a negative length": (lie(claim=-1), "impossible length"),
    "compressor noop": (lie(0, packed=BODY), "not agreed"),
    "compressor unknown": (lie(4, packed=BODY), "not agreed"),
    "compressor 255": (lie(255, packed=BODY), "not agreed"),
    "in itself": (lie(message=lie(), opcode=raw.OP_COMPRESSED), "something else"),
    "a query": (lie(message=raw.op_query({"hello": 1}), opcode=raw.OP_QUERY), "something else"),
    "a reply": (lie(opcode=raw.OP_REPLY), "something else"),
    "shorter than its header": (raw.message(b"\xdd\7\0\0", raw.OP_COMPRESSED), "too short"),
}
SECRETS = {
    "saslStart": secret(saslStart=1, mechanism="PLAIN", payload=b"\0user\0secret"),
    "authenticate": secret(authenticate=1),
    "createUser": secret(createUser="me", pwd="secret", roles=[]),
    "updateUser": secret(updateUser="me", pwd="secret"),
}


@pytest.fixture(scope="module")
def proxy(secantus):
    with weir.Weir(secantus.uri, "--max-wait", "60s", "--compressors", ALL, cap=4) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def _bystander(proxy):
    def step(client, number: int) -> None:
        client.test.counters.update_one({"_id": 1}, {"$set": {"n": number}}, upsert=True)
        assert client.test.counters.find_one(1)["n"] == number

    bystander = Bystander(proxy.uri + "?compressors=zstd", step)
    yield bystander
    bystander.stop()


@pytest.fixture
def hostile(proxy, _bystander):
    """A connection with all compressors agreed on; nobody else may notice what it does."""
    _bystander.assert_untouched()
    with raw.Connection.to((proxy.host, proxy.port)) as connection:
        connection.ask({"hello": 1, "compression": ALL.split(",")}, db="admin")
        yield connection
    _bystander.assert_untouched()
    time.sleep(AT_MOST_5_A_SECOND)


def assert_logged_once(proxy, connection, says: str) -> None:
    host, port = connection.stream.getsockname()
    line = proxy.wait_for("bad_input", peer=f"{host}:{port}")
    assert says in line["what"]
    lines = [event for event in list(proxy.events) if event.get("peer") == f"{host}:{port}"]
    assert len(lines) == 1, lines


@pytest.mark.parametrize("case", BROKEN)
def test_what_cannot_be_inflated_ends_the_connection(proxy, hostile, case):
    hostile.send(BROKEN[case])
    assert hostile.receive() is None
    assert_logged_once(proxy, hostile, "does not inflate to the length it claims")


@pytest.mark.parametrize("case", HEADERS)
def test_a_header_that_must_not_be_ends_the_connection(proxy, hostile, case):
    message, says = HEADERS[case]
    hostile.send(message)
    assert hostile.receive() is None
    assert_logged_once(proxy, hostile, says)


@pytest.mark.parametrize("case", SECRETS)
def test_what_must_be_plain_is_refused(proxy, hostile, case):
    hostile.send(SECRETS[case])
    reply = hostile.receive()
    assert (reply.opcode, reply.document["ok"], reply.document["code"]) == (raw.OP_MSG, 0, 17)
    assert hostile.is_ended()
    assert_logged_once(proxy, hostile, "must never be compressed")


def test_a_compressed_hello_is_answered_plain(hostile):
    """Servers take it, and the monitors of Node's driver 6 send it."""
    hostile.send(secret(hello=1))
    reply = hostile.receive()
    assert (reply.opcode, reply.document["ok"]) == (raw.OP_MSG, 1)
    assert hostile.ask({"ping": 1})["ok"] == 1


def test_a_compressor_that_was_not_agreed_on(proxy, _bystander):
    with raw.Connection.to((proxy.host, proxy.port)) as connection:
        connection.ask({"hello": 1, "compression": ["zlib"]}, db="admin")
        connection.send(lie(SNAPPY))
        assert connection.receive() is None
        assert_logged_once(proxy, connection, "not agreed")
    with raw.Connection.to((proxy.host, proxy.port)) as connection:
        connection.send(lie(ZLIB))  # before anything
        assert connection.receive() is None
        assert_logged_once(proxy, connection, "not agreed")
    _bystander.assert_untouched()


def test_a_truncated_message_is_nobodys(proxy, hostile):
    hostile.send(lie()[:30])
    hostile.stream.close()


def test_byte_by_byte_is_understood(hostile):
    for byte in lie(SNAPPY) + lie(ZSTD):
        hostile.send(bytes([byte]))
    for _ in range(2):
        reply = hostile.receive()
        assert reply.response_to == 77


def test_an_unacknowledged_write_may_be_compressed(hostile):
    command = {"insert": "w0", "documents": [{}], "writeConcern": {"w": 0}, "$db": "test"}
    before = hostile.ask({"count": "w0"})["n"]
    hostile.send(lie(message=raw.op_msg(raw.body(command), flags=raw.MORE_TO_COME)) + lie())
    assert hostile.receive().response_to == 77  # the ping's: the write had no reply
    assert hostile.ask({"count": "w0"})["n"] == before + 1


# --- servers that are broken or hostile -----------------------------------------------------------

VICTIM = "victim"


MALFORMED = "malformed compressed"


def reply(asked: Asked, compressor: int = ZLIB, **lies: object) -> bytes:
    return compressed(asked.fine(), compressor, **lies)


def packed_reply(asked: Asked, spoil) -> bytes:
    return reply(asked, packed=spoil(deflate(ZLIB, asked.fine()[16:])))


REPLY_BODY = len(raw.op_msg(raw.body({"ok": 1.0, "echo": VICTIM}))) - 16
MISCHIEF = {
    "claims a byte more": (lambda asked: reply(asked, claim=REPLY_BODY + 1), MALFORMED),
    "claims a byte less": (lambda asked: reply(asked, claim=REPLY_BODY - 1), MALFORMED),
    "claims 47 MB": (lambda asked: reply(asked, claim=47_000_000), MALFORMED),
    "claims 2 GB": (lambda asked: reply(asked, claim=2**31 - 1), MALFORMED),
    "claims a negative length": (lambda asked: reply(asked, claim=-5), MALFORMED),
    "is cut": (lambda asked: packed_reply(asked, lambda data: data[:-1]), MALFORMED),
    "goes on": (lambda asked: packed_reply(asked, lambda data: data + b"?"), MALFORMED),
    "is a bomb": (lambda asked: packed_reply(asked, lambda _: BOMB), MALFORMED),
    "compressor not agreed": (lambda asked: reply(asked, SNAPPY), MALFORMED),
    "compressor noop": (
        lambda asked: reply(asked, 0, packed=asked.fine()[16:]), MALFORMED
    ),
    "in itself": (
        lambda asked: compressed(reply(asked), ZLIB, opcode=raw.OP_COMPRESSED),
        MALFORMED,
    ),
    "an old reply": (
        lambda asked: compressed(raw.op_reply({"ok": 1.0}, asked.message.request_id), ZLIB),
        MALFORMED,
    ),
    "no reply when inflated": (
        lambda asked: compressed(asked.answer(b"\0" * 9), ZLIB), "malformed"
    ),
    "to another request": (
        lambda asked: compressed(
            raw.op_msg(raw.body({"ok": 1.0}), response_to=asked.message.request_id + 1), ZLIB
        ),
        "answered something else",
    ),
    "length above 48 MB": (
        lambda asked: raw.header(48_000_001, raw.OP_COMPRESSED) + bytes(20), "malformed"
    ),
    "shorter than its header": (
        lambda asked: raw.message(b"\xdd\7\0\0", raw.OP_COMPRESSED), MALFORMED
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def stub():
    with StubServer() as stub:
        stub.hello = {**HELLO, "compression": ["zlib"]}
        yield stub


@pytest.fixture(scope="module")
def before_stub(stub):
    uri = stub.uri + "?compressors=zlib"
    arguments = ("--message-timeout", "1s", "--max-wait", "60s")
    with weir.Weir(uri, *arguments, cap=3) as proxy:
        yield proxy


@pytest.fixture
def victim(stub, before_stub):
    """A connection whose commands the stub may spoil; others are answered well meanwhile."""

    def step(client, number: int) -> None:
        assert client.test.command("count", "things", comment=number)["echo"] == number

    bystander = Bystander(before_stub.uri, step)
    with raw.Connection.to((before_stub.host, before_stub.port)) as connection:
        connection.hello()
        yield connection
    stub.script = fine
    bystander.assert_untouched()
    bystander.stop()
    time.sleep(AT_MOST_5_A_SECOND)


def answer_victim(stub, make) -> None:
    def script(asked: Asked) -> None:
        if asked.document.get("comment") == VICTIM:
            asked.connection.send(make(asked))
        else:
            asked.connection.send(reply(asked))

    stub.script = script


def reasons(proxy) -> list[str]:
    return [event["reason"] for event in list(proxy.events) if event["event"] == "upstream_down"]


def new_reason(proxy, before: int) -> str:
    """Why the one upstream went that went since then."""
    deadline = time.monotonic() + servers.HANG_S
    while len(reasons(proxy)) == before and time.monotonic() < deadline:
        time.sleep(0.01)
    (reason,) = reasons(proxy)[before:]
    return reason


@pytest.mark.parametrize("case", MISCHIEF)
def test_a_wrong_reply_ends_the_upstream_alone(stub, before_stub, victim, case):
    make, says = MISCHIEF[case]
    answer_victim(stub, make)
    before = len(reasons(before_stub))
    error = victim.ask({"insert": "things", "documents": [], "comment": VICTIM})
    assert (error["ok"], error["code"], error["codeName"]) == (0, 6, "HostUnreachable")
    assert says in new_reason(before_stub, before)
    assert victim.ask({"ping": 1, "comment": "next"})["echo"] == "next"


def test_a_reply_cut_off_is_told_in_time(stub, before_stub, victim):
    answer_victim(stub, lambda asked: reply(asked)[:-3])
    before = len(reasons(before_stub))
    insert = {"insert": "things", "documents": [], "comment": VICTIM}
    assert victim.ask(insert)["code"] == 6
    assert new_reason(before_stub, before) == "reply not complete in time"


def test_something_behind_a_good_reply(stub, before_stub, victim):
    answer_victim(stub, lambda asked: reply(asked) + reply(asked))
    before = len(reasons(before_stub))
    assert victim.ask({"find": "things", "comment": VICTIM})["echo"] == VICTIM
    assert victim.ask({"ping": 1, "comment": "next"})["echo"] == "next"
    assert new_reason(before_stub, before) == "sent what nobody asked for"


def test_a_server_may_answer_plain_and_in_pieces(stub, before_stub, victim):
    def in_pieces(make):
        def script(asked: Asked) -> None:
            message = make(asked)
            for at in range(0, len(message), 3):
                asked.connection.send(message[at : at + 3])

        return script

    for make in (Asked.fine, reply, Asked.fine):
        stub.script = in_pieces(make)
        assert victim.ask({"find": "things", "comment": VICTIM})["echo"] == VICTIM
