# SPDX-License-Identifier: Apache-2.0
"""A stub of a server: it stores nothing and says what a test scripts.

    with StubServer() as stub:
        stub.script = lambda asked: asked.connection.send(b"nonsense")

It answers hello as a standalone does, so that weir and its monitors connect, and each other command
by `script`; without one as `fine` does. Every connection has a thread.

`most_upstreams` is how many connections there ever were at one time, but for the monitors': exact,
as no server that is asked now and then can tell it.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from dataclasses import dataclass
from typing import Callable

import packed
import raw

HELLO = {
    "helloOk": True, "ismaster": True, "isWritablePrimary": True, "maxBsonObjectSize": 16777216,
    "maxMessageSizeBytes": 48000000, "maxWriteBatchSize": 100000, "minWireVersion": 0,
    "maxWireVersion": 21, "logicalSessionTimeoutMinutes": 30, "readOnly": False, "ok": 1.0,
}  # fmt: skip
TCP_ESTABLISHED = 1  # include/net/tcp_states.h
HELLOS = ("hello", "isMaster", "ismaster")


@dataclass(frozen=True)
class Asked:
    """A command that came, and where."""

    stub: StubServer
    connection: raw.Connection
    message: raw.Message

    @property
    def document(self) -> dict:
        return self.message.document

    def answer(self, document: dict) -> bytes:
        """The right reply with that document, to be sent or spoilt."""
        return raw.op_msg(raw.body(document), response_to=self.message.request_id)

    def fine(self) -> bytes:
        """The reply if all is well: it has the command's comment, to know it again."""
        return self.answer({"ok": 1.0, "echo": self.document.get("comment")})

    def hang_up(self) -> None:
        """Ends the connection; it counts no more from before its peer can know."""
        self.stub.count_out(self.connection)
        self.connection.stream.shutdown(socket.SHUT_RDWR)


class StubServer:
    def __init__(self) -> None:
        self.script: Callable[[Asked], None] = fine
        self.hello = HELLO
        self.most_upstreams = 0
        self.is_mute = False  # towards new upstreams; monitors are greeted
        self._upstreams: set[raw.Connection] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.uri = f"mongodb://127.0.0.1:{self.port}/"
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                stream, _ = self._listener.accept()
            except OSError:
                return
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._open.add(stream)
            threading.Thread(target=self._serve, args=(stream,), daemon=True).start()

    def _serve(self, stream: socket.socket) -> None:
        connection = raw.Connection(stream)
        stream.settimeout(None)
        with contextlib.suppress(OSError), connection:
            while message := connection.receive():
                if message.opcode == raw.OP_COMPRESSED:
                    message = packed.inflated(message)
                asked = Asked(self, connection, message)
                if next(iter(asked.document)) in HELLOS:
                    self._greet(asked)
                else:
                    self.script(asked)
        self.count_out(connection)
        self._open.discard(stream)

    def count_out(self, connection: raw.Connection) -> None:
        with self._lock:
            self._upstreams.discard(connection)

    def _count_open(self) -> int:
        """Without those that weir has closed and whose thread here has not come to see it."""
        states = [
            one.stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
            for one in self._upstreams
        ]
        return states.count(TCP_ESTABLISHED)

    def _greet(self, asked: Asked) -> None:
        if is_of_an_upstream(asked.document):
            if self.is_mute:
                return
            with self._lock:
                self._upstreams.add(asked.connection)
                if len(self._upstreams) > self.most_upstreams:
                    self.most_upstreams = max(self.most_upstreams, self._count_open())
        if asked.message.opcode == raw.OP_QUERY:
            asked.connection.send(raw.op_reply(self.hello, asked.message.request_id))
        else:
            asked.connection.send(asked.answer(self.hello))

    def __enter__(self) -> StubServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        for stream in list(self._open):
            with contextlib.suppress(OSError):
                stream.shutdown(socket.SHUT_RDWR)


def is_of_an_upstream(hello: dict) -> bool:
    """Whether this is the first hello of an upstream; a monitor's is libmongoc's and says so."""
    return hello.get("client", {}).get("driver", {}).get("name") == "weir"


def fine(asked: Asked) -> None:
    asked.connection.send(asked.fine())
