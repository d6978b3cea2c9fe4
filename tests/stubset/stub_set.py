# SPDX-License-Identifier: Apache-2.0
"""The set as a test sees it: it runs in a thread of its own, and every method may be called from
any other. README.md shows how to script it."""

from __future__ import annotations

import asyncio
import collections
import itertools
import threading
import time
from pathlib import Path
from typing import Callable, Iterable

from . import admin, crud, hello  # noqa: F401, they register their commands
from .auth import User
from .election import Election
from .faults import Fault, Faults
from .member import Command, Member, Rejection, Tally
from .sessions import Session
from .store import Store

KINDS = ("replica_set", "sharded", "standalone", "load_balanced")
CALL_TIMEOUT_S = 10


class StubSet:
    """
    kind: one of KINDS. members: how many hold data (or are mongos); the first begins as primary.
    arbiters: how many more. hidden: the indexes of hidden members. tags, priorities: by index.
    wire: (min, max). elects: whether a lost primary is followed by an election, `election_s` later.
    users: who may log in; without any nobody has to. compressors: offered in hello.
    collide_cursor_ids: every member numbers its cursors 1, 2, 3 …. tls: the directory of
    certs/make.sh. keeps_records: how many of the newest commands are kept; all, if not said.
    """

    def __init__(
        self,
        kind: str = "replica_set",
        members: int | None = None,
        *,
        arbiters: int = 0,
        hidden: Iterable[int] = (),
        tags: dict[int, dict] | None = None,
        priorities: dict[int, float] | None = None,
        name: str = "stub",
        hostname: str = "127.0.0.1",
        wire: tuple[int, int] = (0, 21),
        elects: bool = True,
        election_s: float = 0.05,
        users: Iterable[User] = (),
        compressors: Iterable[str] = (),
        collide_cursor_ids: bool = False,
        tls: Path | None = None,
        keeps_records: int | None = None,
    ):
        assert kind in KINDS, kind
        self.kind, self.name, self.hostname, self.wire, self.tls = kind, name, hostname, wire, tls
        self.elects = elects
        self.users, self.compressors = tuple(users), tuple(compressors)
        self.collide_cursor_ids = collide_cursor_ids
        self.term, self.set_version = 0, 1
        self.faults = Faults()
        self.commands: collections.deque[Command] = collections.deque(maxlen=keeps_records)
        self.rejections: list[Rejection] = []
        self.excused: list[Rejection] = []  # asked of who was primary a moment ago
        self.failures: list[BaseException] = []  # bugs of the stub itself
        self._sessions: dict[tuple, Session] = {}
        self._connection_numbers = itertools.count(1)
        self._turns = itertools.count()

        self.loop = asyncio.new_event_loop()
        self.store = Store()
        self.election = Election(self, election_s)
        self.primary: Member | None = None
        count = {"replica_set": 3, "sharded": 2, "load_balanced": 2, "standalone": 1}[kind]
        self.members = self._make(members or count, arbiters)
        for index in hidden:
            self.members[index].hidden, self.members[index].priority = True, 0
        for index, priority in (priorities or {}).items():
            self.members[index].priority = priority
        for index, its in (tags or {}).items():
            self.members[index].tags = its
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self._call(self._start)

    def _make(self, count: int, arbiters: int) -> list[Member]:
        role = {"replica_set": "secondary", "standalone": "standalone"}.get(self.kind, "mongos")
        roles = [role] * count + ["arbiter"] * arbiters
        return [Member(self, index, role) for index, role in enumerate(roles)]

    async def _start(self) -> None:
        listening = self.members[:1] if self.kind == "load_balanced" else self.members
        for member in listening:
            await member.start()
        for member in self.members:
            member.is_running = True
        if self.kind == "replica_set":
            self.election.elect(self.members[0])

    def _call(self, function: Callable, *arguments, **named):
        """Calls it on the loop and waits."""

        async def call():
            result = function(*arguments, **named)
            return await result if asyncio.iscoroutine(result) else result

        return asyncio.run_coroutine_threadsafe(call(), self.loop).result(CALL_TIMEOUT_S)

    def __enter__(self) -> StubSet:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Ends all; a second call does nothing. Raises what went wrong in the stub itself."""
        if self.loop.is_closed():
            return
        self._call(self._stop)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()
        if self.failures:
            raise self.failures[0]

    async def _stop(self) -> None:
        self.elects = False
        for member in self.members:
            member.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    # Where it is

    @property
    def uri(self) -> str:
        if self.kind == "load_balanced":
            return f"mongodb://{self.members[0].host}/?loadBalanced=true"
        hosts = ",".join(member.host for member in self.members if not member.is_arbiter)
        options = f"?replicaSet={self.name}" if self.kind == "replica_set" else ""
        return f"mongodb://{hosts}/{options}"

    def seed(self, index: int) -> str:
        """A URI that names that member alone."""
        options = f"?replicaSet={self.name}" if self.kind == "replica_set" else ""
        return f"mongodb://{self.members[index].host}/{options}"

    def hosts(self, category: str) -> list[str]:
        """What hello lists as `hosts`, `passives` or `arbiters`."""

        def fits(member: Member) -> bool:
            if member.is_removed:
                return False
            if member.hidden or member.is_arbiter:
                return category == "arbiters" and member.is_arbiter
            return category == ("hosts" if member.priority else "passives")

        return [member.host for member in self.members if fits(member)]

    # What happens to it

    def step_down(self, code: int = 11602, *, elects: bool = True) -> None:
        """The primary gives up; writes that it is at are interrupted with that code."""
        self._call(self.election.step_down, code, elects=elects)

    def elect(self, index: int) -> None:
        """That member is primary, at once."""
        self._call(self.election.elect, self.members[index])

    def kill(self, index: int) -> None:
        """Its connections end, its port refuses, its cursors and transactions are gone."""
        self._call(self._kill, self.members[index])

    def _kill(self, member: Member) -> None:
        member.kill()
        self._lost(member)

    def cut(self, driver: str) -> None:
        """All connections of that driver end at once."""
        self._call(self._cut, driver)

    def _cut(self, driver: str) -> None:
        for member in self.members:
            for connection in [c for c in member.connections if c.driver == driver]:
                connection.hang_up()

    def _lost(self, member: Member) -> None:
        if self.kind == "replica_set":
            self.election.lost(member)

    def restart(self, index: int) -> None:
        """Starts a member that was killed; it comes back as a secondary."""
        self._call(self._restart, self.members[index])

    async def _restart(self, member: Member) -> None:
        if self.kind != "load_balanced":
            await member.start()
        member.is_running = True
        self.election.announce()
        self.election.seek()

    def shut_down(self, index: int) -> None:
        """As by SIGTERM: hello gets 91, what is under way 11600, then it is gone."""
        self._call(self._shut_down, self.members[index])

    async def _shut_down(self, member: Member) -> None:
        if self.primary is member:
            self.election.step_down()
        member.is_quiescing = True
        member.topology_changed()
        member.interrupt(11600)
        await asyncio.sleep(0.05)  # for the replies to be written
        self._kill(member)

    def black_hole(self, index: int, on: bool = True) -> None:
        """It takes connections and bytes and says nothing, until on=False: then it answers all."""
        self._call(self._black_hole, self.members[index], on)

    def _black_hole(self, member: Member, on: bool) -> None:
        if on:
            member.is_silent = True
            self._lost(member)
        else:
            member.speak()
            self.election.announce()
            self.election.seek()

    def recovering(self, index: int, on: bool = True) -> None:
        """It is neither primary nor secondary; reads get 13436."""
        self._call(self._recovering, self.members[index], on)

    def _recovering(self, member: Member, on: bool) -> None:
        if self.primary is member:
            self.election.step_down()
        member.become("recovering" if on else "secondary")
        self.election.announce()

    def refuse_above(self, index: int, connections: int | None) -> None:
        """A connection over that many is closed before it can say hello."""
        self.members[index].refuse_above = connections

    def alter(self, index: int, **attributes) -> None:
        """Sets attributes of a member (tags, priority, hidden, lag_s, rtt_s, wire, advertised,
        hello_overrides …) and lets everybody who listens know."""
        self._call(self._alter, self.members[index], attributes)

    def _alter(self, member: Member, attributes: dict) -> None:
        for name, value in attributes.items():
            assert hasattr(member, name), name
            setattr(member, name, value)
        self.set_version += 1
        self.election.announce()

    def add_member(self) -> int:
        """One more, a secondary (or a mongos); its index."""
        return self._call(self._add_member)

    async def _add_member(self) -> int:
        member = Member(self, len(self.members), self.members[0].role)
        member.role = "secondary" if self.kind == "replica_set" else member.role
        self.members.append(member)
        await member.start()
        self.set_version += 1
        self.election.announce()
        return member.index

    def remove_member(self, index: int) -> None:
        """The others' hello does not have it any more, and it is gone."""
        self._call(self._remove_member, self.members[index])

    def _remove_member(self, member: Member) -> None:
        member.is_removed = True
        self.set_version += 1
        self._kill(member)

    def fail(self, *names: str, **fault) -> Fault:
        """The next commands of these names fail; see Fault. Its `hits` says how many did."""
        return self._call(self.faults.add, Fault(names=frozenset(names), **fault))

    def let_go(self, fault: Fault) -> None:
        """Nobody waits any longer for the end of its delay."""
        self._call(fault.let_go.set)

    def heal(self) -> None:
        """No more scripted faults."""
        self._call(self.faults.clear)

    # What it saw

    def asked(self, *names: str, member: int | None = None, driver: str | None = None):
        """The commands of these names that came, to that member, from that driver."""
        return [
            command
            for command in list(self.commands)
            if (not names or command.name in names)
            and member in (None, command.member)
            and driver in (None, command.driver)
        ]

    def tally(self, member: int, driver: str | None = None) -> Tally:
        """Connections open, opened ever and at most at a time; exact, if a driver is named."""
        return self.members[member].tally(driver)

    def forget(self) -> None:
        """Empties the records."""
        for record in (self.commands, self.rejections, self.excused):
            record.clear()

    @staticmethod
    def wait_until(holds: Callable[[], object], within: float = 60.0) -> None:
        deadline = time.monotonic() + within
        while not holds():
            assert time.monotonic() < deadline, "this did not come to hold"
            time.sleep(0.002)

    # For its own parts

    def session(self, key: tuple) -> Session:
        return self._sessions.setdefault(key, Session(key))

    def next_connection_number(self) -> int:
        return next(self._connection_numbers)

    def backend_for(self, member: Member) -> Member:
        """A load balancer gives each connection to the next one that is there."""
        if self.kind != "load_balanced":
            return member
        there = [member for member in self.members if member.is_running] or [member]
        return there[next(self._turns) % len(there)]

    def members_with_cursor(self, number: int) -> list[int]:
        return [member.index for member in self.members if number in member.cursors]

    def abort_everywhere(self, key: tuple) -> None:
        for member in self.members:
            member.transactions.drop(key)
