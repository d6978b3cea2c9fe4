# SPDX-License-Identifier: Apache-2.0
"""Messages: what came is parsed as strictly as by mongod, what goes is built by drivers/raw.py."""

from __future__ import annotations

import itertools
import struct
import zlib
from dataclasses import dataclass

import bson
import raw

from .errors import ServerError

OP_COMPRESSED = 2012
EXHAUST_ALLOWED = 1 << 16
REQUIRED_FLAGS = 0xFFFF
KNOWN_FLAGS = raw.CHECKSUM_PRESENT | raw.MORE_TO_COME
MAX_MESSAGE = 48_000_000
MAX_SEQUENCES = 2

_reply_ids = itertools.count(1)


class BrokenStream(Exception):
    """There is no answer to this: the server closes the connection."""


@dataclass
class Request:
    request_id: int
    opcode: int  # of the message, without its compression
    flags: int
    body: dict  # document sequences are in it, as lists
    compressor: str | None

    @property
    def wants_reply(self) -> bool:
        return not self.flags & raw.MORE_TO_COME


def parse(message: bytes, agreed: tuple[str, ...]) -> Request:
    """Raises ServerError with `request_id` where mongod answers an error, else BrokenStream."""
    _, request_id, _, opcode = raw.HEADER.unpack_from(message)
    payload, compressor = message[16:], None
    if opcode == OP_COMPRESSED:
        opcode, payload, compressor = inflate(payload, agreed)
    try:
        if opcode == raw.OP_MSG:
            flags, body = _op_msg(payload, message)
        elif opcode == raw.OP_QUERY:
            flags, body = 0, _op_query(payload)
        else:
            raise BrokenStream(f"opcode {opcode}")
    except ServerError as failure:
        failure.request_id = request_id
        raise
    except (bson.errors.InvalidBSON, struct.error, IndexError, ValueError) as failure:
        raise BrokenStream(f"malformed message: {failure}") from failure
    return Request(request_id, opcode, flags, body, compressor)


def _op_msg(payload: bytes, message: bytes) -> tuple[int, dict]:
    (flags,) = struct.unpack_from("<I", payload)
    if flags & REQUIRED_FLAGS & ~KNOWN_FLAGS:
        raise ServerError(223, f"Message contains illegal flags value: Ob{flags:b}")
    end = len(payload)
    if flags & raw.CHECKSUM_PRESENT:
        end -= 4
        if crc32c(message[:-4]) != struct.unpack_from("<I", payload, end)[0]:
            raise ServerError(288, "OP_MSG checksum does not match contents")
    body, sequences = _sections(payload, 4, end)
    if body is None:
        raise ServerError(40587, "OP_MSG messages must have a body")
    if both := sequences.keys() & body.keys():
        raise ServerError(40433, f"Duplicate field between body and document sequence {both.pop()}")
    if not isinstance(body.get("$db"), str):
        raise ServerError(40571, "OP_MSG requests require a $db argument")
    return flags, body | sequences


def _sections(payload: bytes, at: int, end: int) -> tuple[dict | None, dict[str, list]]:
    body, sequences = None, {}
    while at < end:
        kind, at = payload[at], at + 1
        (size,) = struct.unpack_from("<i", payload, at)
        if size < 5 or at + size > end:
            raise BrokenStream("a section's length")
        part, at = payload[at : at + size], at + size
        if kind == 0:
            if body is not None:
                raise ServerError(40430, "Multiple body sections in message")
            body = bson.decode(part)
        elif kind == 1:
            name, _, documents = part[4:].partition(b"\0")
            if name.decode() in sequences:
                raise ServerError(40431, f"Duplicate document sequence: {name.decode()}")
            if len(sequences) == MAX_SEQUENCES:
                raise ServerError(233, "Too many document sequences in OP_MSG")
            sequences[name.decode()] = bson.decode_all(documents)
        else:
            raise ServerError(40432, f"Unknown section kind {kind}")
    return body, sequences


def _op_query(payload: bytes) -> dict:
    namespace, _, rest = payload[4:].partition(b"\0")
    (size,) = struct.unpack_from("<i", rest, 8)
    query = bson.decode(rest[8 : 8 + size])
    query = query.get("$query", query)
    if "$db" in query:
        raise ServerError(40621, "$db is not allowed in OP_QUERY requests")
    return query | {"$db": namespace.decode().partition(".")[0]}


def reply(request: Request, document: dict, *, flags: int = 0, response_to: int | None = None):
    """The reply's bytes and its request id."""
    reply_id = next(_reply_ids)
    response_to = request.request_id if response_to is None else response_to
    if request.opcode == raw.OP_QUERY:
        return raw.op_reply(document, response_to), reply_id
    sections = raw.body(document)
    message = raw.op_msg(sections, flags=flags, request_id=reply_id, response_to=response_to)
    if request.compressor:
        message = deflate(message, request.compressor)
    return message, reply_id


# Compression. The order is that of preference, for nobody but the client.


def _snappy():
    import snappy

    return snappy.compress, lambda data, _: snappy.decompress(data)


def _zstd():
    import zstandard

    return (
        zstandard.ZstdCompressor().compress,
        lambda data, size: zstandard.ZstdDecompressor().decompress(data, max_output_size=size),
    )


def _zlib():
    return zlib.compress, lambda data, size: zlib.decompressobj().decompress(data, size + 1)


COMPRESSORS = {"snappy": (1, _snappy), "zlib": (2, _zlib), "zstd": (3, _zstd)}
NAMES_OF_COMPRESSORS = {number: name for name, (number, _) in COMPRESSORS.items()}


def inflate(payload: bytes, agreed: tuple[str, ...]) -> tuple[int, bytes, str]:
    opcode, size, number = struct.unpack_from("<iiB", payload)
    name = NAMES_OF_COMPRESSORS.get(number)
    if name not in agreed:
        raise BrokenStream(f"compressor {name or number} was not agreed on")
    if not 0 <= size <= MAX_MESSAGE:
        raise BrokenStream("the claimed size of a compressed message")
    inflated = COMPRESSORS[name][1]()[1](payload[9:], size)
    if len(inflated) != size:
        raise BrokenStream("a compressed message has another size than it claims")
    return opcode, inflated, name


def deflate(message: bytes, name: str) -> bytes:
    _, request_id, response_to, opcode = raw.HEADER.unpack_from(message)
    number, functions = COMPRESSORS[name]
    head = struct.pack("<iiB", opcode, len(message) - 16, number)
    return raw.message(head + functions()[0](message[16:]), OP_COMPRESSED, request_id, response_to)


def _crc32c_table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


_TABLE = _crc32c_table()


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF
