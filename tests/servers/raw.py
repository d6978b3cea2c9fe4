# SPDX-License-Identifier: Apache-2.0
"""The wire protocol by hand, for what no driver would send. Its facts are OP_MSG.md of the
specifications; nothing here is checked that a test may want wrong."""

from __future__ import annotations

import itertools
import select
import socket
import struct
import time
from dataclasses import dataclass

import bson
import servers

OP_REPLY = 1
OP_QUERY = 2004
OP_COMPRESSED = 2012
OP_MSG = 2013
CHECKSUM_PRESENT = 1
MORE_TO_COME = 2
HEADER = struct.Struct("<iiii")

_request_ids = itertools.count(1)


def header(length: int, opcode: int = OP_MSG, request_id: int = 1, response_to: int = 0) -> bytes:
    return HEADER.pack(length, request_id, response_to, opcode)


def message(payload: bytes, opcode: int = OP_MSG, request_id: int = 1, response_to: int = 0):
    return header(16 + len(payload), opcode, request_id, response_to) + payload


def body(document: dict | bytes) -> bytes:
    """A section of kind 0."""
    return b"\0" + (document if isinstance(document, bytes) else bson.encode(document))


def sequence(name: bytes, *documents: dict) -> bytes:
    """A section of kind 1."""
    content = name + b"\0" + b"".join(bson.encode(document) for document in documents)
    return b"\1" + struct.pack("<i", 4 + len(content)) + content


def op_msg(*sections: bytes, flags: int = 0, request_id: int = 1, response_to: int = 0) -> bytes:
    payload = struct.pack("<I", flags) + b"".join(sections)
    return message(payload, OP_MSG, request_id, response_to)


def op_query(document: dict, namespace: bytes = b"admin.$cmd", request_id: int = 1) -> bytes:
    payload = struct.pack("<I", 0) + namespace + b"\0" + struct.pack("<ii", 0, -1)
    return message(payload + bson.encode(document), OP_QUERY, request_id)


def op_reply(document: dict, response_to: int) -> bytes:
    payload = struct.pack("<iqii", 8, 0, 0, 1) + bson.encode(document)
    return message(payload, OP_REPLY, 1, response_to)


@dataclass(frozen=True)
class Message:
    request_id: int
    response_to: int
    opcode: int
    payload: bytes

    @property
    def document(self) -> dict:
        """The body of an OP_MSG without sequences, the query of an OP_QUERY, or an OP_REPLY's."""
        if self.opcode == OP_MSG:
            return bson.decode(_first_body(self.payload[4:]))
        if self.opcode == OP_REPLY:
            return bson.decode(self.payload[20:])
        return bson.decode(self.payload[self.payload.index(b"\0", 4) + 9 :])


def _first_body(sections: bytes) -> bytes:
    while sections[0] == 1:
        sections = sections[1 + struct.unpack_from("<i", sections, 1)[0] :]
    return sections[1 : 1 + struct.unpack_from("<i", sections, 1)[0]]


class Ended(AssertionError):
    """The peer ended the connection where a reply was due."""


class Connection:
    """A socket that speaks in messages."""

    def __init__(self, stream: socket.socket):
        self.stream = stream
        self.stream.settimeout(servers.HANG_S)

    @classmethod
    def to(cls, address: tuple[str, int]) -> Connection:
        return cls(socket.create_connection(address))

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.stream.close()

    def send(self, data: bytes) -> None:
        self.stream.sendall(data)

    def _exactly(self, count: int) -> bytes | None:
        got = bytearray()
        while len(got) < count:
            try:
                piece = self.stream.recv(count - len(got))
            except ConnectionResetError:
                return None
            if not piece:
                return None
            got += piece
        return bytes(got)

    def receive(self) -> Message | None:
        """The next whole message, None if the peer ends the connection before it."""
        head = self._exactly(16)
        if head is None:
            return None
        length, request_id, response_to, opcode = HEADER.unpack(head)
        payload = self._exactly(length - 16)
        return None if payload is None else Message(request_id, response_to, opcode, payload)

    def ask(self, document: dict, *, db: str = "test", flags: int = 0) -> dict:
        """One command and its reply."""
        return self.reply_to(self.post(document, db=db, flags=flags))

    def post(self, document: dict, *, db: str = "test", flags: int = 0) -> int:
        """One command, without waiting for a reply; its request id."""
        request_id = next(_request_ids)
        self.send(op_msg(body({**document, "$db": db}), flags=flags, request_id=request_id))
        return request_id

    def reply_to(self, request_id: int) -> dict:
        reply = self.receive()
        if reply is None:
            raise Ended("the connection was ended instead of a reply")
        assert reply.response_to == request_id, "this is the reply to another request"
        return reply.document

    def hello(self) -> dict:
        return self.ask({"hello": 1}, db="admin")

    def is_ended(self, within: float = servers.HANG_S) -> bool:
        """Whether the peer ends the connection in that time; what it still sends is read away."""
        deadline = time.monotonic() + within
        poll = select.poll()  # select() takes no descriptors above 1023
        poll.register(self.stream, select.POLLIN)
        while (left := deadline - time.monotonic()) > 0:
            try:
                if poll.poll(left * 1000) and not self.stream.recv(65536):
                    return True
            except ConnectionError:
                return True
        return False
