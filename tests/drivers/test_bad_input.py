# SPDX-License-Identifier: Apache-2.0
"""What comes from clients that are broken or hostile. Each gets the answer a server would give,
where there is one; the log has a line of it; its connection ends where it must; no other one is
touched."""

from __future__ import annotations

import contextlib
import resource
import socket
import ssl
import struct
import time

import bson
import pytest
import raw
import servers
import weir
from bystander import Bystander

MESSAGE_TIMEOUT_S = 1.0
HANDSHAKE_TIMEOUT_S = 1.0
LINES_A_SECOND = 5  # weir logs no more of one kind
DEPTH = 200  # levels of nesting that a server takes, the command's own included
SILENT = 10_000

DEADLINES = ("--message-timeout", "1s", "--handshake-timeout", "1s", "--max-wait", "60s")
MAX_TIME = ("--max-time-default", "10m")


@pytest.fixture(scope="module")
def proxy(secantus):
    with weir.Weir(secantus.uri, *DEADLINES, *MAX_TIME, cap=4) as proxy:
        yield proxy


def start_bystander(proxy) -> Bystander:
    """It writes numbers to a document of its own and reads them back."""
    mine = {"_id": proxy.port}

    def step(client, number: int) -> None:
        client.test.counters.update_one(mine, {"$set": {"n": number}}, upsert=True)
        assert client.test.counters.find_one(mine)["n"] == number

    return Bystander(proxy.uri, step)


@pytest.fixture(scope="module")
def _bystander(proxy):
    bystander = start_bystander(proxy)
    yield bystander
    bystander.stop()


@pytest.fixture(autouse=True)
def bystander(_bystander):
    """All the time there is one; and bad input comes no faster than weir logs it."""
    _bystander.assert_untouched()
    yield _bystander
    _bystander.assert_untouched()
    time.sleep(1 / LINES_A_SECOND + 0.02)


@contextlib.contextmanager
def connected(proxy, greet: bool = True):
    before = len(proxy.events)
    with raw.Connection.to((proxy.host, proxy.port)) as connection:
        connection.events_before = before
        if greet:
            connection.hello()
        yield connection


def lines_of(proxy, connection) -> list[dict]:
    """Not those of an earlier connection, which may have had the same port."""
    host, port = connection.stream.getsockname()
    events = list(proxy.events)[connection.events_before :]
    return [event for event in events if event.get("peer") == f"{host}:{port}"]


def assert_logged(proxy, connection, event: str = "bad_input", says: str = "") -> None:
    """The log has one line of this connection."""
    deadline = time.monotonic() + servers.HANG_S
    while not lines_of(proxy, connection) and time.monotonic() < deadline:
        time.sleep(0.01)
    lines = lines_of(proxy, connection)
    assert [line["event"] for line in lines] == [event], lines
    assert says in str(lines[0]), lines


def assert_goes_on(connection) -> None:
    assert connection.ask({"ping": 1})["ok"] == 1


def nested(levels: int) -> bytes:
    """{ping: 1, $db: "test", x: {x: … {}}} with so many levels, the outermost included."""
    inner = [b"\5\0\0\0\0"]
    length = 5
    for _ in range(levels - 2):
        length += 8
        inner.append(struct.pack("<i", length) + b"\3x\0")
    opening = b"".join(reversed(inner[1:])) + inner[0]
    nest = opening + b"\0" * (levels - 2)
    head = bson.encode({"ping": 1, "$db": "test"})[4:-1] + b"\3x\0"
    return struct.pack("<i", 4 + len(head) + len(nest) + 1) + head + nest + b"\0"


def document(*elements: bytes, length: int | None = None) -> bytes:
    """A ping whose further elements, and whose length, are not checked by anybody here."""
    content = bson.encode({"ping": 1, "$db": "test"})[4:-1] + b"".join(elements) + b"\0"
    return struct.pack("<i", 4 + len(content) if length is None else length) + content


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def with_checksum(spoil: int) -> bytes:
    payload = struct.pack("<I", raw.CHECKSUM_PRESENT) + PING
    sealed = raw.header(16 + len(payload) + 4) + payload
    return sealed + struct.pack("<I", crc32c(sealed) ^ spoil)


PING = raw.body({"ping": 1, "$db": "test"})
INSERT = raw.body({"insert": "things", "$db": "test"})
ONE = raw.sequence(b"documents", {"_id": 1})
STRING = b"\2x\0"  # the beginning of an element of type string
GOOD = document()


def op_msg(*sections: bytes, flags: int = 0) -> bytes:
    return raw.op_msg(*sections, flags=flags)


# The stream cannot be followed any further: no answer.
UNFOLLOWABLE = {
    "length 15": raw.header(15),
    "length 0": raw.header(0),
    "length negative": raw.header(-1),
    "length least": raw.header(-(2**31)),
    "length above 48 MB": raw.header(48_000_001),
    "length most": raw.header(2**31 - 1),
    "unknown opcode": raw.message(PING, opcode=9999),
    "opcode of a reply": raw.message(PING, opcode=raw.OP_REPLY),
    "opcode OP_INSERT": raw.message(PING, opcode=2002),
    "opcode OP_COMPRESSED": raw.message(PING, opcode=2012),
    "HTTP": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "TLS where there is none": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 500,
    "text": b"hello, is anybody there? " * 4,
}

# Answered with the code, after which the connection ends.
FATAL = {
    "unknown required flag": (op_msg(PING, flags=1 << 2), 223),
    "all required flags": (op_msg(PING, flags=0xFFFC), 223),
    "unknown section": (op_msg(b"\2" + GOOD), 40432),
    "unknown section after the body": (op_msg(PING, b"\xff"), 40432),
    "three sequences": (
        op_msg(INSERT, *(raw.sequence(name, {}) for name in (b"a", b"b", b"c"))), 233
    ),
    "wrong checksum": (with_checksum(spoil=1), 288),
    "sequence longer than the message": (op_msg(PING, b"\1" + struct.pack("<i", 999)), 22),
    "sequence of negative length": (op_msg(PING, b"\1" + struct.pack("<i", -4)), 22),
    "sequence name without end": (op_msg(PING, b"\1" + struct.pack("<i", 8) + b"name"), 22),
    "document longer than the message": (op_msg(b"\0" + document(length=len(GOOD) + 1)), 22),
    "no flags": (raw.message(b"\0\0"), 22),
    "query that is no hello": (raw.op_query({"find": "things"}), 352),
    "query of a collection": (raw.op_query({}, namespace=b"test.things"), 352),
}  # fmt: skip

# Answered with the code; then the connection goes on.
MENDABLE = {
    "two bodies": (op_msg(PING, PING), 40430),
    "sequence twice": (op_msg(INSERT, ONE, ONE), 40431),
    "sequence that is a field, too": (
        op_msg(raw.body({"insert": "t", "documents": [], "$db": "test"}), ONE), 40433
    ),
    "sequence that weir might put into the body": (
        op_msg(raw.body({"find": "t", "$db": "test"}), raw.sequence(b"maxTimeMS", {})), 40415
    ),
    "no section": (op_msg(), 40587),
    "no body": (op_msg(ONE), 40587),
    "no $db": (op_msg(raw.body({"ping": 1})), 40571),
    "$db no string": (op_msg(raw.body({"ping": 1, "$db": 5})), 40571),
    "empty body": (op_msg(raw.body({})), 59),
    "document shorter than it is": (op_msg(b"\0" + document(length=len(GOOD) - 1)), 22),
    "document of length 4": (op_msg(b"\0" + document(length=4)), 22),
    "document of length 0": (op_msg(b"\0" + document(length=0)), 22),
    "document of negative length": (op_msg(b"\0" + document(length=-1)), 22),
    "document without end": (op_msg(b"\0" + GOOD[:-1] + b"\1"), 22),
    "string longer than its document": (
        op_msg(b"\0" + document(STRING + struct.pack("<i", 10_000) + b"a\0")), 22
    ),
    "string of length 0": (op_msg(b"\0" + document(STRING + struct.pack("<i", 0) + b"\0")), 22),
    "string of negative length": (
        op_msg(b"\0" + document(STRING + struct.pack("<i", -1) + b"\0")), 22
    ),
    "string without end": (op_msg(b"\0" + document(STRING + struct.pack("<i", 2) + b"ab")), 22),
    "inner document longer than the outer": (
        op_msg(b"\0" + document(b"\3x\0" + struct.pack("<i", 1000) + b"\0")), 22
    ),
    "binary of negative length": (
        op_msg(b"\0" + document(b"\5x\0" + struct.pack("<i", -5) + b"\0")), 22
    ),
    "unknown type": (op_msg(b"\0" + document(b"\x99x\0")), 22),
    "key without end": (op_msg(b"\0" + document(b"\x0aabc")[:-1] + b"x"), 22),
    "201 levels": (op_msg(b"\0" + nested(DEPTH + 1)), 22),
    "100,000 levels": (op_msg(b"\0" + nested(100_000)), 22),
    "sequence with a document that lies": (
        op_msg(INSERT, b"\1" + struct.pack("<i", 18) + b"documents\0" + struct.pack("<i", 99)), 22
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", UNFOLLOWABLE)
def test_what_cannot_be_followed_ends_the_connection(proxy, case):
    with connected(proxy, greet=False) as connection:
        connection.send(UNFOLLOWABLE[case])
        assert connection.receive() is None
        assert_logged(proxy, connection, says="HTTP" if case == "HTTP" else "")


@pytest.mark.parametrize("case", FATAL)
def test_what_breaks_the_framing_is_answered_and_ends_the_connection(proxy, case):
    sent, code = FATAL[case]
    with connected(proxy) as connection:
        connection.send(sent)
        reply = connection.receive()
        assert (reply.response_to, reply.document["ok"], reply.document["code"]) == (1, 0, code)
        assert connection.is_ended()
        assert_logged(proxy, connection)


@pytest.mark.parametrize("case", MENDABLE)
def test_what_is_only_wrong_is_answered(proxy, case):
    sent, code = MENDABLE[case]
    with connected(proxy) as connection:
        connection.send(sent)
        reply = connection.receive()
        assert (reply.response_to, reply.document["ok"], reply.document["code"]) == (1, 0, code)
        assert_goes_on(connection)
        assert_logged(proxy, connection)


def test_what_looks_odd_and_is_right_is_served(proxy):
    served = {
        "200 levels": op_msg(b"\0" + nested(DEPTH)),
        "unknown optional flag": op_msg(PING, flags=1 << 17),
        "checksum": with_checksum(spoil=0),
        "body last": op_msg(raw.sequence(b"unused"), PING),
    }
    with connected(proxy) as connection:
        for case, sent in served.items():
            connection.send(sent)
            assert connection.receive().document["ok"] == 1, case
        assert lines_of(proxy, connection) == []


def test_embedded_nuls_are_answered_as_by_the_server(secantus, proxy):
    questions = (
        {"find": "a\0b", "filter": {}},
        {"find": "things", "filter": {}, "$db": "te\0st"},
        {"find": "things", "filter": {"text": "a\0b"}, "comment": "c\0d"},
        {"getMore": 5, "collection": "a\0b"},
    )
    with connected(proxy) as through, raw.Connection.to((secantus.host, secantus.port)) as straight:
        for question in questions:
            document = {"$db": "test", **question}
            replies = []
            for connection in (straight, through):
                connection.send(op_msg(raw.body(document)))
                reply = connection.receive().document
                replies.append({key: reply.get(key) for key in ("ok", "code", "errmsg", "cursor")})
            assert replies[0] == replies[1], question


def test_unacknowledged_nonsense_is_not_answered(proxy):
    with connected(proxy) as connection:
        connection.send(op_msg(raw.body({"ping": 1}), flags=raw.MORE_TO_COME))
        assert_goes_on(connection)
        assert_logged(proxy, connection)


@pytest.mark.parametrize("greet", (False, True), ids=("first message", "later message"))
@pytest.mark.parametrize("part", (1, 16, 30), ids="{} bytes".format)
def test_truncated_message_then_silence(proxy, part, greet):
    with connected(proxy, greet) as connection:
        connection.send(op_msg(PING)[:part])
        assert connection.is_ended()
        assert_logged(proxy, connection)


def test_a_byte_now_and_then_is_not_enough(proxy):
    """A deadline is for the whole message, not for its next byte."""
    with connected(proxy) as connection:
        message = op_msg(PING)
        with contextlib.suppress(ConnectionError):
            for i in range(len(message) - 1):
                connection.send(message[i : i + 1])
                if connection.is_ended(within=0.2):
                    break
            else:
                raise AssertionError("it is still listened to")
        assert_logged(proxy, connection)


def test_end_in_the_middle_of_a_message(proxy):
    with connected(proxy) as connection:
        connection.send(op_msg(PING)[:20])


def test_nothing_said_at_all(proxy):
    with connected(proxy, greet=False) as connection:
        assert connection.is_ended()
        assert_logged(proxy, connection, says="in time")


def test_greeted_and_idle_is_fine(proxy):
    with connected(proxy) as connection:
        assert not connection.is_ended(within=3 * HANDSHAKE_TIMEOUT_S)
        assert_goes_on(connection)


def test_sends_and_never_reads(secantus, proxy):
    """Replies of 1 MB pile up, more than socket buffers take: in the end the client loses."""
    secantus.client().test.heavy.insert_one({"_id": 1, "content": b"x" * 1_000_000})
    find = op_msg(raw.body({"find": "heavy", "filter": {}, "$db": "test"}))
    with connected(proxy) as connection:
        connection.stream.settimeout(0.2)
        deadline = time.monotonic() + servers.HANG_S
        with contextlib.suppress(ConnectionError):
            while time.monotonic() < deadline and not lines_of(proxy, connection):
                with contextlib.suppress(TimeoutError):
                    connection.send(find)
                time.sleep(0.01)
        assert_logged(proxy, connection, event="client_closed", says="not taken in time")


def test_tls_and_plain_mistaken_for_each_other(secantus, proxy):
    """TLS on a plain port is among the cases above; here a port that demands TLS."""
    certs = servers.certificates()
    demand = ("--tls-mode", "requireTLS", "--tls-certificate-key-file", str(certs / "server.pem"))
    with weir.Weir(secantus.uri, *DEADLINES, *demand) as strict:
        with connected(strict, greet=False) as connection:
            connection.send(op_msg(raw.body({"hello": 1, "$db": "admin"})))
            assert connection.is_ended()
            assert_logged(strict, connection)
        with connected(strict, greet=False) as connection:
            connection.send(b"\x16\x03\x01\x00\x05hello")
            assert connection.is_ended()
            assert_logged(strict, connection)
        with connected(strict, greet=False) as connection:
            connection.send(b"\x16\x03")
            assert connection.is_ended()
        trusting = ssl.create_default_context(cafile=str(certs / "ca.pem"))
        with socket.create_connection((strict.host, strict.port)) as stream:
            with trusting.wrap_socket(stream, server_hostname="localhost") as encrypted:
                assert raw.Connection(encrypted).hello()["ok"] == 1


def test_10000_connections_that_say_nothing(secantus, bystander):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    count = min(SILENT, hard - 1000)
    if count < SILENT:
        print(f"only {count}: the hard limit on open files is {hard}")
    silent: list[socket.socket] = []
    try:
        with weir.Weir(secantus.uri, "--handshake-timeout", "6s") as proxy:
            beside = start_bystander(proxy)
            for _ in range(count):
                silent.append(socket.create_connection((proxy.host, proxy.port)))
            beside.assert_untouched()
            proxy.wait_for("bad_input")
            assert raw.Connection(silent[-1]).is_ended()
            beside.assert_untouched()
            beside.stop()
    finally:
        for stream in silent:
            stream.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
