# SPDX-License-Identifier: Apache-2.0
"""Who is primary. All of it runs on the set's loop."""

from __future__ import annotations

import asyncio


class Election:
    def __init__(self, stub, delay_s: float):
        self._stub = stub
        self.delay_s = delay_s
        self._pending: asyncio.TimerHandle | None = None

    def elect(self, member) -> None:
        """At once, with a new term; who was primary before is a secondary."""
        stub = self._stub
        assert member.is_up and stub.kind == "replica_set", "it cannot be primary"
        self._forget_pending()
        if stub.primary and stub.primary is not member:
            stub.primary.demote(11602)
        stub.term += 1
        stub.primary = member
        member.become("primary")
        self.announce()

    def step_down(self, code: int = 11602, *, elects: bool = True) -> None:
        stub = self._stub
        old, stub.primary = stub.primary, None
        if old is None:
            return
        old.demote(code)
        self.announce()
        if elects:
            self.seek(but=old)

    def lost(self, member) -> None:
        """That member is away. Without it there may be no primary, or no majority for one."""
        stub = self._stub
        primary = stub.primary
        if primary is member or primary and stub.elects and not self._has_majority():
            stub.primary = None
            primary.demote(11602)
        self.announce()
        self.seek()

    def _has_majority(self) -> bool:
        return 2 * sum(member.is_up for member in self._stub.members) > len(self._stub.members)

    def announce(self) -> None:
        for member in self._stub.members:
            if member.is_running and not member.is_silent:
                member.topology_changed()

    def seek(self, but=None) -> None:
        """Elects, after a moment, the member of the highest priority, if a majority is there."""
        stub = self._stub
        if stub.kind != "replica_set" or stub.primary or self._pending or not stub.elects:
            return

        def decide() -> None:
            self._pending = None
            able = [member for member in stub.members if member.is_up and member.priority]
            able = [member for member in able if member is not but] or able
            if self._has_majority() and able:
                self.elect(max(able, key=lambda member: (member.priority, -member.index)))

        self._pending = stub.loop.call_later(self.delay_s, decide)

    def _forget_pending(self) -> None:
        if self._pending:
            self._pending.cancel()
            self._pending = None
