# SPDX-License-Identifier: Apache-2.0
"""One member of a set, or one mongos, or the standalone: what it has for itself."""

from __future__ import annotations

import asyncio
import itertools
import socket
import ssl
import time
from dataclasses import dataclass
from typing import NamedTuple

from bson import Int64, ObjectId

from .auth import Logins
from .connection import Connection
from .cursors import Cursors
from .errors import STATE_CHANGES, ServerError
from .sessions import Transactions

EXCUSED_S = 5.0


class Command(NamedTuple):
    """What was asked, as tests want to know it; `body` has the rest."""

    member: int
    connection: int
    driver: str  # the name in the connection's hello
    name: str
    namespace: str
    lsid: bytes | None
    txn_number: int | None
    read_preference: dict | None
    body: dict
    user: str  # "name@db", "" if nobody has logged in


@dataclass(eq=False)
class Operation:
    """One that is under way, and can be interrupted."""

    number: int
    context: object
    is_write: bool
    began: float
    interrupted: asyncio.Future

    def interrupt(self, code: int) -> None:
        if not self.interrupted.done():
            message = "operation was interrupted"
            self.interrupted.set_exception(ServerError(code, message, misuse=False))


class Rejection(NamedTuple):
    """What no right client would have asked."""

    member: int
    connection: int
    name: str
    code: int
    message: str


@dataclass
class Tally:
    open: int = 0
    opened: int = 0
    peak: int = 0

    def came(self) -> None:
        self.open += 1
        self.opened += 1
        self.peak = max(self.peak, self.open)

    def went(self) -> None:
        self.open -= 1


class Member:
    def __init__(self, stub, index: int, role: str):
        self.stub = stub
        self.index = index
        self.role = role  # primary, secondary, arbiter, recovering, mongos, standalone
        self.is_mongos = role == "mongos"
        self.is_arbiter = role == "arbiter"
        self.role_since = 0.0
        self.hidden = False
        self.priority = 0 if self.is_arbiter else 1
        self.tags: dict = {}
        self.wire = stub.wire
        self.rtt_s = 0.0
        self.lag_s = 0.0
        self.hello_overrides: dict = {}  # laid over its hello; None leaves a field out
        self.refuse_above: int | None = None
        self.refused = 0
        self.advertised: str | None = None
        self.service_id = ObjectId()

        self.is_running = False
        self.is_silent = False
        self.is_quiescing = False
        self.is_removed = False
        self.logins = Logins()
        self.connections: set[Connection] = set()
        self._tallies: dict[str | None, Tally] = {}
        self.operations: dict[int, Operation] = {}
        self._operation_numbers = itertools.count(1)
        self._server: asyncio.Server | None = None
        self._place = socket.socket()  # keeps the port ours while nobody listens
        self._place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._place.bind(("127.0.0.1", 0))
        self.port = self._place.getsockname()[1]
        self._begin()

    def _begin(self) -> None:
        """A new process knows nothing of the one before it."""
        self.process_id = ObjectId()
        self.counter = 0
        self.cursors = Cursors(self.stub.store, self.stub.collide_cursor_ids)
        self.transactions = Transactions(self.stub.store, self.cursors)
        self.changed: asyncio.Future = self.stub.loop.create_future()

    @property
    def host(self) -> str:
        return self.advertised or f"{self.stub.hostname}:{self.port}"

    @property
    def is_up(self) -> bool:
        return self.is_running and not self.is_silent and self.role != "recovering"

    # Its life

    async def start(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(512)
        listener.setblocking(False)
        context = tls_context(self.stub.tls) if self.stub.tls else None
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._accept, sock=listener, ssl=context)
        self.is_running = True

    def _accept(self) -> Connection:
        return Connection(self.stub.backend_for(self))

    def kill(self) -> None:
        """As by SIGKILL: connections end, what was in memory is gone."""
        self.is_running = self.is_silent = self.is_quiescing = False
        if self._server and self.stub.kind != "load_balanced":
            self._server.close()
        for connection in list(self.connections):
            connection.hang_up()
        self.transactions.lose_all()
        self.cursors.lose_all()
        lost = self.cursors, self.transactions
        self._begin()
        self.cursors.inherit_losses(lost[0])
        self.transactions.inherit_losses(lost[1])

    def close(self) -> None:
        self.kill()
        if self._server:
            self._server.close()
        self._place.close()

    def topology_changed(self) -> None:
        self.counter += 1
        changed, self.changed = self.changed, self.stub.loop.create_future()
        changed.set_result(None)

    @property
    def topology_version(self) -> dict | None:
        """Servers since 4.4 have it."""
        if self.wire[1] < 9:
            return None
        return {"processId": self.process_id, "counter": Int64(self.counter)}

    def become(self, role: str) -> None:
        self.role, self.role_since = role, time.monotonic()

    def demote(self, code: int) -> None:
        """It is primary no more: transactions end, writes that are under way are interrupted."""
        self.become("secondary")
        self.transactions.lose_all()
        self.interrupt(code, writes_only=True)

    def speak(self) -> None:
        """Ends the silence; what was held back goes on."""
        self.is_silent = False
        for connection in list(self.connections):
            connection.resume()

    # What is under way

    async def interruptible(self, context, work, *, is_write: bool = False):
        task = asyncio.ensure_future(work)
        interrupted = asyncio.get_running_loop().create_future()
        number = next(self._operation_numbers)
        self.operations[number] = Operation(
            number, context, is_write, time.monotonic(), interrupted
        )
        try:
            await asyncio.wait((task, interrupted), return_when=asyncio.FIRST_COMPLETED)
            return task.result() if task.done() else interrupted.result()
        finally:
            del self.operations[number]
            if not interrupted.cancel():
                interrupted.exception()  # else asyncio complains where the task was done as well
            task.cancel()

    def interrupt(self, code: int, *, writes_only: bool = False) -> None:
        for operation in self.operations.values():
            if operation.is_write or not writes_only:
                operation.interrupt(code)

    def bound_connection(self, connection: Connection) -> Connection | None:
        """The connection that cursors and transactions are bound to, if they are."""
        return connection if self.stub.kind == "load_balanced" else None

    def end_session(self, key: tuple) -> None:
        self.transactions.drop(key)
        self.cursors.kill_if(lambda owner: owner.session == key)

    def kill_session(self, key: tuple) -> None:
        for operation in self.operations.values():
            session = operation.context.session_key
            if session == key:
                operation.interrupt(11601)
        self.end_session(key)

    # What is remembered

    def tally(self, driver: str | None = None) -> Tally:
        """Of the connections of that driver, or of all."""
        return self._tallies.setdefault(driver, Tally())

    def record(self, context) -> None:
        body, connection = context.body, context.connection
        value = body[context.name]
        self.stub.commands.append(
            Command(
                self.index,
                connection.number,
                connection.driver,
                context.name,
                f"{body['$db']}.{value}" if isinstance(value, str) else body["$db"],
                bytes(body["lsid"]["id"]) if "lsid" in body else None,
                body.get("txnNumber"),
                body.get("$readPreference"),
                body,
                connection.user,
            )
        )

    def reject(self, context, failure: ServerError) -> None:
        """A client cannot know at once of an election; for that moment it is excused."""
        is_late = failure.code in STATE_CHANGES
        excused = is_late and time.monotonic() - self.role_since < EXCUSED_S
        to = self.stub.excused if excused else self.stub.rejections
        self.note(context.connection, context.name, failure.code, str(failure), to)

    def note(self, connection, name: str, code: int, message: str, to: list | None = None) -> None:
        to = self.stub.rejections if to is None else to
        to.append(Rejection(self.index, connection.number, name, code, message))


def tls_context(certificates) -> ssl.SSLContext:
    """With the server's certificate of certs/make.sh; clients may show theirs."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "server.pem")
    context.load_verify_locations(certificates / "ca.pem")
    context.verify_mode = ssl.CERT_OPTIONAL
    return context
