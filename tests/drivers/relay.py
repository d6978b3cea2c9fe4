# SPDX-License-Identifier: Apache-2.0
"""A relay of messages that counts what goes through, and can speak for a server that compresses:
none of those that can be had here does.

    with Relay(server.port) as relay: ...                       counts, changes nothing
    with Relay(server.port, compressors=["zlib"]) as relay: ... takes and sends OP_COMPRESSED

With `compressors` it answers hello with those of them that were offered, inflates what comes, and
compresses the reply to what came compressed, as a server does. What no server would take ends
the connection and is kept in `broken`.
"""

from __future__ import annotations

import collections
import contextlib
import socket
import threading

import bson
import raw
from packed import HELLOS, IDS, PLAIN, compressed, inflated


class Relay:
    """`up` and `down` count messages: by "plain" and, compressed, by the compressor's id; `bytes`
    is what both came to on the side of whoever connects."""

    def __init__(self, port: int, compressors: list[str] | None = None):
        self.up: collections.Counter = collections.Counter()
        self.down: collections.Counter = collections.Counter()
        self.bytes = 0
        self.largest_plain_down = 0
        self.broken: list[str] = []
        self._compressors = compressors
        self._target = ("127.0.0.1", port)
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._target)
                Pair(self, near, far).start()

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        for stream in list(self._open):
            with contextlib.suppress(OSError):
                stream.shutdown(socket.SHUT_RDWR)


class Pair:
    """One connection and its other end."""

    def __init__(self, relay: Relay, near: socket.socket, far: socket.socket):
        self._relay = relay
        self._near, self._far = raw.Connection(near), raw.Connection(far)
        self._agreed: list[str] = []
        self._hello: dict[int, list[str]] = {}  # what it offered, by its request's id
        self._packed: dict[int, int] = {}  # the compressor, by the request's id

    def start(self) -> None:
        for pump, source in ((self._go_up, self._near), (self._go_down, self._far)):
            threading.Thread(target=self._pump, args=(pump, source), daemon=True).start()

    def _pump(self, move, source: raw.Connection) -> None:
        streams = [self._near.stream, self._far.stream]
        for stream in streams:
            stream.settimeout(None)
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._relay._open.add(stream)
        try:
            while message := source.receive():
                move(message)
        except OSError:
            pass
        except Exception as broken:
            self._relay.broken.append(repr(broken))
        for stream in streams:
            with contextlib.suppress(OSError):
                stream.shutdown(socket.SHUT_RDWR)
            self._relay._open.discard(stream)

    def _count(self, counter: collections.Counter, message: raw.Message) -> None:
        packed = message.opcode == raw.OP_COMPRESSED
        counter[message.payload[8] if packed else "plain"] += 1
        self._relay.bytes += 16 + len(message.payload)

    def _go_up(self, message: raw.Message) -> None:
        self._count(self._relay.up, message)
        if self._relay._compressors is not None:
            if message.opcode == raw.OP_COMPRESSED:
                message = self._unpack(message)
            elif message.opcode == raw.OP_QUERY or next(iter(message.document)) in HELLOS:
                self._hello[message.request_id] = message.document.get("compression")
        self._far.send(bytes_of(message))

    def _unpack(self, message: raw.Message) -> raw.Message:
        compressor = message.payload[8]
        assert compressor in map(IDS.get, self._agreed), f"{compressor} was not agreed on"
        message = inflated(message)
        name = next(iter(message.document))
        assert name not in PLAIN, f"{name} came compressed"
        self._packed[message.request_id] = compressor
        return message

    def _go_down(self, message: raw.Message) -> None:
        if message.response_to in self._hello:
            message = self._agree(message, self._hello.pop(message.response_to))
        compressor = self._packed.pop(message.response_to, None)
        data = bytes_of(message)
        if compressor:
            data = compressed(data, compressor)
            message = raw.Message(
                message.request_id, message.response_to, raw.OP_COMPRESSED, data[16:]
            )
        elif message.opcode == raw.OP_MSG:
            self._relay.largest_plain_down = max(self._relay.largest_plain_down, len(data))
        self._count(self._relay.down, message)
        self._near.send(data)

    def _agree(self, message: raw.Message, offered: list[str] | None) -> raw.Message:
        if offered is None:
            return message
        self._agreed = [name for name in offered if name in self._relay._compressors]
        document = {**message.document, "compression": self._agreed}
        head = message.payload[: 5 if message.opcode == raw.OP_MSG else 20]
        payload = head + bson.encode(document)
        return raw.Message(message.request_id, message.response_to, message.opcode, payload)


def bytes_of(message: raw.Message) -> bytes:
    return raw.message(message.payload, message.opcode, message.request_id, message.response_to)
