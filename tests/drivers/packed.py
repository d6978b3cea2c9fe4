# SPDX-License-Identifier: Apache-2.0
"""OP_COMPRESSED by hand, true or lying. Its facts are OP_COMPRESSED.md of the specifications."""

from __future__ import annotations

import struct
import sys
import zlib

import raw
import snappy

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

SNAPPY, ZLIB, ZSTD = 1, 2, 3
IDS = {"snappy": SNAPPY, "zlib": ZLIB, "zstd": ZSTD}
HELLOS = ("hello", "isMaster", "ismaster")
# "Messages not allowed to be compressed", source/compression/OP_COMPRESSED.md.
PLAIN = (
    *HELLOS, "saslStart", "saslContinue", "getnonce", "authenticate", "createUser", "updateUser",
    "copydbSaslStart", "copydbgetnonce", "copydb",
)  # fmt: skip


def deflate(compressor: int, data: bytes) -> bytes:
    if compressor == ZLIB:
        return zlib.compress(data)
    if compressor == SNAPPY:
        return snappy.compress(data)
    return zstd.compress(data)


def inflate(compressor: int, data: bytes) -> bytes:
    if compressor == ZLIB:
        return zlib.decompress(data)
    if compressor == SNAPPY:
        return snappy.uncompress(data)
    return zstd.decompress(data)


def compressed(message: bytes, compressor: int, **lies: object) -> bytes:
    """A whole message as OP_COMPRESSED. `lies`: opcode, claim, packed (instead of the truth)."""
    length, request_id, response_to, opcode = raw.HEADER.unpack_from(message)
    body = message[16:]
    packed = lies.get("packed", None)
    packed = deflate(compressor, body) if packed is None else packed
    head = struct.pack("<iiB", lies.get("opcode", opcode), lies.get("claim", len(body)), compressor)
    return raw.message(head + packed, raw.OP_COMPRESSED, request_id, response_to)


def inflated(message: raw.Message) -> raw.Message:
    opcode, claim, compressor = struct.unpack_from("<iiB", message.payload)
    payload = inflate(compressor, message.payload[9:])
    assert opcode == raw.OP_MSG and len(payload) == claim
    return raw.Message(message.request_id, message.response_to, opcode, payload)
