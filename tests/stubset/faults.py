# SPDX-License-Identifier: Apache-2.0
"""Faults by script: what the next commands of a name meet."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import Callable

from .dispatch import HELLOS
from .errors import error

NEVER_BY_DEFAULT = frozenset((*HELLOS, "configureFailPoint", "endSessions"))


@dataclass
class Fault:
    """The first that fits a command is used up by it.

    names: of commands; empty for all but hello and the like. member: its index, or any. times: how
    often, None for ever. when: a further test of the command's body.

    The command waits for `delay_s`, or until StubSet.let_go, and is then executed, but not if there is a `code` or `close`;
    with `executes` it is executed first in any case. Then `close` ends the connection, or `code`
    is the reply, or `write_concern_error` is added to it, either with `labels` or, if there are
    none given, with those that mongod would add.
    """

    names: frozenset[str] = frozenset()
    member: int | None = None
    times: int | None = 1
    when: Callable[[dict], bool] | None = None
    code: int | None = None
    message: str = "failed by script"
    labels: list[str] | None = None
    write_concern_error: dict | None = None
    close: bool = False
    delay_s: float = 0.0
    executes: bool = False
    app: str | None = None
    is_fail_point: bool = False
    hits: int = 0
    delayed: int = 0  # just now
    most_delayed: int = 0
    let_go: asyncio.Event = field(default_factory=asyncio.Event)

    def fits(self, member: int, name: str, body: dict, app: str) -> bool:
        return (
            (self.times is None or self.hits < self.times)
            and self.member in (None, member)
            and (name in self.names if self.names else name not in NEVER_BY_DEFAULT)
            and self.app in (None, app)
            and (self.when is None or self.when(body))
        )

    async def delay(self) -> None:
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self.let_go.wait(), self.delay_s)

    @property
    def prevents(self) -> bool:
        """Whether the command is not executed at all."""
        return not self.executes and (self.code is not None or self.close)

    def document(self) -> dict:
        reply = error(self.code, self.message)
        if self.labels is not None:
            reply["errorLabels"] = self.labels
        return reply


class Faults:
    def __init__(self) -> None:
        self._all: list[Fault] = []

    def add(self, fault: Fault) -> Fault:
        self._all.append(fault)
        return fault

    def take(self, member: int, name: str, body: dict, app: str) -> Fault | None:
        for fault in self._all:
            if fault.fits(member, name, body, app):
                fault.hits += 1
                return fault
        return None

    def clear(self, of_fail_point: int | None = None) -> None:
        """All, or those that configureFailPoint set on that member."""
        self._all = [
            fault
            for fault in self._all
            if of_fail_point is not None
            and not (fault.is_fail_point and fault.member == of_fail_point)
        ]
