# SPDX-License-Identifier: Apache-2.0
"""The cursors of one member. Ids are unique there and nowhere else."""

from __future__ import annotations

import asyncio
import itertools
import random
from dataclasses import dataclass

from bson import Int64

from . import documents
from .errors import ServerError
from .store import Change, Store, moment_of, token

DEFAULT_FIRST_BATCH = 101


@dataclass
class Owner:
    """Who opened a cursor and may use it."""

    session: tuple | None
    txn_number: int | None  # of a transaction
    user: str
    connection: object


class Cursor:
    """A plain one: what it found, once and for all."""

    is_tailable = False

    def __init__(self, namespace: str, found: list[dict], owner: Owner):
        self.namespace = namespace
        self.owner = owner
        self.id = 0
        self._found = found
        self._at = 0

    def take(self, count: int) -> list[dict]:
        batch = self._found[self._at : self._at + count]
        self._at += len(batch)
        return batch

    @property
    def is_exhausted(self) -> bool:
        return self._at >= len(self._found)

    def more(self) -> dict:
        """What its replies say beyond the batch."""
        return {}


class TailableCursor(Cursor):
    """On a capped collection, in the order of insertion."""

    is_tailable = True
    is_exhausted = False

    def __init__(self, store: Store, namespace: str, query: dict, owner: Owner):
        super().__init__(namespace, [], owner)
        self._store = store
        self._query = query

    def take(self, count: int) -> list[dict]:
        everything = list(self._store.documents(self.namespace).values())
        batch = []
        while self._at < len(everything) and len(batch) < count:
            if documents.matches(everything[self._at], self._query):
                batch.append(everything[self._at])
            self._at += 1
        return batch


class ChangeStream(Cursor):
    is_tailable = True
    is_exhausted = False

    def __init__(self, store: Store, namespace: str, pipeline: list[dict], owner: Owner):
        super().__init__(namespace, [], owner)
        self._store = store
        self._options = pipeline[0]["$changeStream"]
        self._rest = pipeline[1:]
        self._at = self._start()
        self._token = self._options.get("resumeAfter") or token(store.clock.now)

    def _start(self) -> int:
        for option in ("resumeAfter", "startAfter"):
            if option in self._options:
                return self._store.position_after(moment_of(self._options[option]))
        moment = self._options.get("startAtOperationTime")
        return self._store.position_at(moment) if moment else len(self._store.oplog)

    def take(self, count: int) -> list[dict]:
        batch: list[dict] = []
        oplog = self._store.oplog
        while self._at < len(oplog) and len(batch) < count:
            change, self._at = oplog[self._at], self._at + 1
            self._token = token(change.time)
            if self._concerns(change):
                batch += documents.aggregate([self._event(change)], self._rest)
        return batch

    def _concerns(self, change: Change) -> bool:
        if self._options.get("allChangesForCluster"):
            return True
        database, _, collection = self.namespace.partition(".")
        if collection == "$cmd.aggregate":
            return change.namespace.startswith(database + ".")
        return change.namespace == self.namespace

    def _event(self, change: Change) -> dict:
        database, _, collection = change.namespace.partition(".")
        event = {
            "_id": token(change.time), "operationType": change.kind, "clusterTime": change.time,
            "ns": {"db": database, "coll": collection},
        }  # fmt: skip
        if change.kind != "drop":
            event["documentKey"] = {"_id": change.identity}
        if change.document is not None and (
            change.kind != "update" or self._options.get("fullDocument") == "updateLookup"
        ):
            event["fullDocument"] = change.document
        if change.kind == "update":
            event["updateDescription"] = {"updatedFields": {}, "removedFields": []}
        return event

    def more(self) -> dict:
        return {"postBatchResumeToken": self._token}


class Cursors:
    """`collide`: numbers them from 1 up, so that the members' ids are the same ones."""

    def __init__(self, store: Store, collide: bool) -> None:
        self._store = store
        self._open: dict[int, Cursor] = {}
        self._lost: set[int] = set()
        self._numbers = itertools.count(1) if collide else None

    def __len__(self) -> int:
        return len(self._open)

    def __contains__(self, number: int) -> bool:
        return number in self._open

    def first(self, cursor: Cursor, count: int | None, *, single: bool = False) -> dict:
        """The reply to what opened the cursor, which stays open if there is more."""
        batch = cursor.take(DEFAULT_FIRST_BATCH if count is None else count)
        if not single and (cursor.is_tailable or not cursor.is_exhausted):
            cursor.id = self._new_id()
            self._open[cursor.id] = cursor
        return _reply(cursor, "firstBatch", batch)

    def _new_id(self) -> int:
        if self._numbers:
            return next(self._numbers)
        return random.getrandbits(62) + 1

    def get(self, number: int, namespace: str, asker: Owner, *, of_connection: bool) -> Cursor:
        cursor = self._open.get(number)
        if cursor is None or of_connection and cursor.owner.connection is not asker.connection:
            lost = cursor is None and number in self._lost
            raise ServerError(43, f"cursor id {number} not found", misuse=not lost)
        if cursor.namespace != namespace:
            raise ServerError(
                13,
                f"Requested getMore on namespace '{namespace}', but cursor belongs to a different "
                f"namespace {cursor.namespace}",
            )
        _check_owner(cursor, asker)
        return cursor

    def pass_on(self, cursor: Cursor, batch: list[dict]) -> dict:
        if cursor.is_exhausted:
            self._open.pop(cursor.id, None)
            cursor.id = 0
        return _reply(cursor, "nextBatch", batch)

    async def await_more(self, cursor: Cursor, count: int, wait_s: float) -> dict:
        """Of a tailable cursor: something, or nothing after that time."""
        batch: list[dict] = []
        try:
            async with asyncio.timeout(wait_s):
                while not (batch := cursor.take(count)):
                    await self._store.wait_for_change()
                    if cursor.id not in self._open:
                        raise ServerError(237, "cursor killed while waiting", misuse=False)
        except TimeoutError:
            pass
        return self.pass_on(cursor, batch)

    def is_change_stream(self, number: int) -> bool:
        return isinstance(self._open.get(number), ChangeStream)

    def inherit_losses(self, other: Cursors) -> None:
        self._lost |= other._lost

    def kill(self, number: int) -> bool:
        return self._open.pop(number, None) is not None

    def kill_if(self, owned: callable) -> None:
        for number, cursor in list(self._open.items()):
            if owned(cursor.owner):
                del self._open[number]

    def lose_all(self) -> None:
        self._lost |= self._open.keys()
        self._open.clear()

    def lose_of(self, connection) -> None:
        lost = {n for n, cursor in self._open.items() if cursor.owner.connection is connection}
        self._lost |= lost
        for number in lost:
            del self._open[number]


def _check_owner(cursor: Cursor, asker: Owner) -> None:
    owner = cursor.owner
    if owner.user != asker.user:
        raise ServerError(13, f"cursor id {cursor.id} was not created by the authenticated user")
    what = f"Cannot run getMore on cursor {cursor.id}, which was"
    if asker.session and not owner.session:
        raise ServerError(50736, f"{what} not created in a session, in a session")
    if owner.session and not asker.session:
        raise ServerError(50737, f"{what} created in a session, without an lsid")
    if owner.session != asker.session:
        raise ServerError(50738, f"{what} created in another session")
    if asker.txn_number is not None and owner.txn_number is None:
        raise ServerError(50739, f"{what} not created in a transaction, in a transaction")
    if owner.txn_number is not None and asker.txn_number is None:
        raise ServerError(50740, f"{what} created in a transaction, without a txnNumber")
    if owner.txn_number != asker.txn_number:
        raise ServerError(50741, f"{what} created in another transaction")


def _reply(cursor: Cursor, name: str, batch: list[dict]) -> dict:
    inner = {name: batch, "id": Int64(cursor.id), "ns": cursor.namespace, **cursor.more()}
    return {"cursor": inner}
