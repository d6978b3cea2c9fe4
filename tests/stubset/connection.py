# SPDX-License-Identifier: Apache-2.0
"""One connection to a member: messages in, replies out, one at a time."""

from __future__ import annotations

import asyncio

import raw

from . import dispatch, errors, hello, wire
from .dispatch import WRITE, Context
from .errors import ServerError
from .faults import Fault

OP_QUERY_COMMANDS = dispatch.NEVER_COMPRESSED | {"buildInfo", "buildinfo"}


class Connection(asyncio.Protocol):
    def __init__(self, member):
        self.member = member
        self.number = member.stub.next_connection_number()
        self.client: dict | None = None  # the metadata of its hello
        self.driver = ""
        self.app = ""
        self.user = ""
        self.conversation = None
        self.compressors: tuple[str, ...] = ()
        self.is_load_balanced = False
        self._buffer = bytearray()
        self._task: asyncio.Task | None = None
        self._is_busy = False
        self._held: list[bytes] = []  # replies of a member that is silent
        self._counted: list = []
        self._transport: asyncio.Transport | None = None

    # Its life

    def connection_made(self, transport) -> None:
        self._transport = transport
        member = self.member
        if not member.is_running:
            transport.abort()
            return
        if member.refuse_above is not None and len(member.connections) >= member.refuse_above:
            member.refused += 1
            transport.abort()
            return
        member.connections.add(self)
        self._count(None)

    def _count(self, driver: str | None) -> None:
        tally = self.member.tally(driver)
        tally.came()
        self._counted.append(tally)

    def _introduce(self, client: dict) -> None:
        self.client = client
        self.driver = client.get("driver", {}).get("name", "")
        self.app = client.get("application", {}).get("name", "")
        self._count(self.driver)

    @property
    def is_let_in(self) -> bool:
        return bool(self.user) or not self.member.stub.users

    @property
    def peer_name(self) -> str | None:
        """The subject of the client's certificate, as RFC 2253 writes it."""
        certificate = self._transport.get_extra_info("peercert")
        if not certificate:
            return None
        short = {"commonName": "CN", "organizationName": "O", "organizationalUnitName": "OU"}
        parts = [pair for group in certificate["subject"] for pair in group]
        return ",".join(f"{short.get(name, name)}={value}" for name, value in reversed(parts))

    def hang_up(self) -> None:
        """Ends it; it counts no more from before its peer can know."""
        self._forget()
        self._transport.abort()

    def connection_lost(self, failure) -> None:
        self._forget()

    def _forget(self) -> None:
        member = self.member
        if self not in member.connections:
            return
        member.connections.discard(self)
        for tally in self._counted:
            tally.went()
        if self._task:
            self._task.cancel()
        if member.bound_connection(self):
            member.cursors.lose_of(self)
            member.transactions.lose_of(self)

    # In

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._go_on()

    def resume(self) -> None:
        for data in self._held:
            self._transport.write(data)
        self._held.clear()
        self._go_on()

    def _go_on(self) -> None:
        buffer = self._buffer
        while len(buffer) >= 16 and not self._is_busy and self._is_heard:
            length = int.from_bytes(buffer[:4], "little", signed=True)
            if not 16 <= length <= wire.MAX_MESSAGE:
                self._break_off(f"a message of length {length}")
                return
            if len(buffer) < length:
                return
            message = bytes(buffer[:length])
            del buffer[:length]
            self._take(message)

    @property
    def _is_heard(self) -> bool:
        return self in self.member.connections and not self.member.is_silent

    def _break_off(self, why: str) -> None:
        self.member.note(self, "", 0, why)
        self.hang_up()

    def _take(self, message: bytes) -> None:
        try:
            request = wire.parse(message, self.compressors)
        except wire.BrokenStream as failure:
            self._break_off(str(failure))
            return
        except ServerError as failure:
            self._answer_malformed(failure)
            return
        context = Context(self.member, self, request)
        if request.compressor and context.name in dispatch.NEVER_COMPRESSED:
            self._break_off(f"{context.name} came compressed")
            return
        if self.client is None and context.name in dispatch.HELLOS and "client" in context.body:
            self._introduce(context.body["client"])
        self.member.record(context)
        fault = self.member.stub.faults.take(
            self.member.index, context.name, context.body, self.app
        )
        if fault:
            self._later(self._with_fault, context, fault)
            return
        try:
            reply = _answer(context)
        except Exception as failure:
            self._fail(failure)
            return
        if callable(reply):
            self._later(self._with_wait, context, reply)
        else:
            self._reply(context, reply)

    def _fail(self, failure: BaseException) -> None:
        """A bug of the stub: nobody is answered, and the test is told."""
        self.member.stub.failures.append(failure)
        self.hang_up()

    def _answer_malformed(self, failure: ServerError) -> None:
        self.member.note(self, "", failure.code, str(failure))
        request = wire.Request(failure.request_id, raw.OP_MSG, 0, {}, None)
        self._send(wire.reply(request, failure.document())[0])
        if failure.code in errors.CLOSES_AFTER:
            self._forget()
            self._transport.close()

    # What takes time

    def _later(self, work, *arguments) -> None:
        self._is_busy = True
        self._task = asyncio.get_running_loop().create_task(work(*arguments))
        self._task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task) -> None:
        self._task = None
        self._is_busy = False
        if not task.cancelled():
            if task.exception():
                self._fail(task.exception())
            self._go_on()

    async def _with_wait(self, context: Context, answering) -> None:
        reply = await answering()
        if hello.is_stream(context) and reply["ok"]:
            await hello.stream(context, reply, self._send_part(context))
        else:
            self._reply(context, reply)

    def _send_part(self, context: Context):
        def send(document: dict, flags: int, response_to: int) -> int:
            data, number = wire.reply(
                context.request, document, flags=flags, response_to=response_to
            )
            self._send(data)
            return number

        return send

    async def _with_fault(self, context: Context, fault: Fault) -> None:
        reply: dict = {}
        try:
            if fault.executes:
                reply = await _await(_answer(context))
            await self._delay(context, fault)
            if not fault.executes and not fault.prevents:
                reply = await _await(_answer(context))
        except ServerError as failure:
            reply = _interrupted(context, reply, failure)
        else:
            if fault.close:
                self.hang_up()
                return
            if fault.code is not None:
                reply = dispatch.stamp(context, dispatch.label(context, fault.document()))
            if fault.write_concern_error:
                reply = _with_write_concern_error(
                    context, reply, fault.write_concern_error, fault.labels
                )
        self._reply(context, reply)

    async def _delay(self, context: Context, fault: Fault) -> None:
        if not fault.delay_s:
            return
        spec = dispatch.COMMANDS.get(context.name)
        is_write = bool(spec and spec.needs == WRITE)
        fault.delayed += 1
        fault.most_delayed = max(fault.most_delayed, fault.delayed)
        try:
            await self.member.interruptible(context, fault.delay(), is_write=is_write)
        finally:
            fault.delayed -= 1

    # Out

    def _reply(self, context: Context, document: dict) -> None:
        if not context.request.wants_reply:
            if document.get("code") in errors.STATE_CHANGES:
                self.hang_up()
            return
        self._send(wire.reply(context.request, document)[0])

    def _send(self, data: bytes) -> None:
        if self.member.rtt_s:
            asyncio.get_running_loop().call_later(self.member.rtt_s, self._write, data)
        else:
            self._write(data)

    def _write(self, data: bytes) -> None:
        if self.member.is_silent:
            self._held.append(data)
        else:
            self._transport.write(data)


def _answer(context: Context):
    if context.request.opcode == raw.OP_QUERY and context.name not in OP_QUERY_COMMANDS:
        message = f"Unsupported OP_QUERY command: {context.name}"
        return dispatch.refuse(context, ServerError(352, message))
    return dispatch.answer(context)


async def _await(reply) -> dict:
    return await reply() if callable(reply) else reply


def _interrupted(context: Context, reply: dict, failure: ServerError) -> dict:
    """A write that was executed already is told so, as if it waited for its write concern."""
    if not reply.get("ok"):
        return dispatch.refuse(context, failure)
    what = {"code": failure.code, "codeName": errors.NAMES[failure.code], "errmsg": str(failure)}
    return _with_write_concern_error(context, reply, what, None)


def _with_write_concern_error(
    context: Context, reply: dict, what: dict, labels: list[str] | None
) -> dict:
    reply = {**reply, "writeConcernError": what}
    if labels is None and context.member.wire[1] >= errors.LABELS_SINCE_WIRE:
        labels = errors.labels(what["code"], context.body, context.name, of_change_stream=False)
    return reply | ({"errorLabels": labels} if labels else {})
