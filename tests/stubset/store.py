# SPDX-License-Identifier: Apache-2.0
"""The data of a set: one copy that all members share, its oplog, and its cluster time.

Nothing here waits, so each change is atomic. A document in a collection is never changed, it is
replaced: who holds one may keep it.
"""

from __future__ import annotations

import asyncio
import bisect
import hashlib
import hmac
import os
import time
from typing import NamedTuple

from bson import Binary, Int64, ObjectId, Timestamp

from .errors import ServerError


class Change(NamedTuple):
    """An entry of the oplog, near enough to what a change stream shows."""

    time: Timestamp
    kind: str  # insert, update, replace, delete, drop
    namespace: str
    identity: object
    document: dict | None


class Clock:
    """The cluster time, signed with a key that no other set has."""

    def __init__(self) -> None:
        self._key = os.urandom(20)
        self._key_id = Int64(int.from_bytes(os.urandom(7), "big") + 1)
        self.now = Timestamp(int(time.time()), 1)
        self._signed: dict | None = None

    def tick(self) -> Timestamp:
        seconds = max(int(time.time()), self.now.time)
        self.now = Timestamp(seconds, self.now.inc + 1 if seconds == self.now.time else 1)
        self._signed = None
        return self.now

    def _signature(self, moment: Timestamp) -> bytes:
        data = moment.time.to_bytes(4, "big") + moment.inc.to_bytes(4, "big")
        return hmac.new(self._key, data, hashlib.sha1).digest()

    def signed(self) -> dict:
        if self._signed is None:
            signature = {"hash": Binary(self._signature(self.now)), "keyId": self._key_id}
            self._signed = {"clusterTime": self.now, "signature": signature}
        return self._signed

    def check(self, gossiped: dict) -> None:
        if gossiped == self._signed:
            return
        moment, signature = gossiped.get("clusterTime"), gossiped.get("signature", {})
        if signature.get("keyId") != self._key_id:
            raise ServerError(211, f"No keys found for HMAC with keyId {signature.get('keyId')}")
        if bytes(signature.get("hash", b"")) != self._signature(moment):
            raise ServerError(204, "Proof does not match the cluster time")


class Collection:
    def __init__(self, **options) -> None:
        self.documents: dict[object, dict] = {}
        self.indexes = [{"v": 2, "key": {"_id": 1}, "name": "_id_"}]
        self.options = options
        self.uuid = Binary(os.urandom(16), 4)


class Store:
    def __init__(self) -> None:
        self.clock = Clock()
        self.collections: dict[str, Collection] = {}
        self.oplog: list[Change] = []
        self.locks: dict[
            tuple[str, object], object
        ] = {}  # document -> the transaction that wrote it
        self._changed: asyncio.Event = asyncio.Event()

    def documents(self, namespace: str) -> dict[object, dict]:
        collection = self.collections.get(namespace)
        return collection.documents if collection else {}

    def put(self, namespace: str, key: object, kind: str, identity, document: dict | None) -> None:
        """Writes a document, or removes it; the only place that changes data."""
        collection = self.collections.get(namespace) or self.create(namespace)
        if document is None:
            collection.documents.pop(key, None)
        else:
            collection.documents[key] = document
        self.log(kind, namespace, identity, document)

    def log(self, kind: str, namespace: str, identity=None, document: dict | None = None) -> None:
        self.oplog.append(Change(self.clock.tick(), kind, namespace, identity, document))
        self._changed.set()
        self._changed = asyncio.Event()

    def create(self, namespace: str, **options) -> Collection:
        self.collections[namespace] = Collection(**options)
        self.clock.tick()
        return self.collections[namespace]

    def drop(self, namespace: str) -> bool:
        if self.collections.pop(namespace, None) is None:
            return False
        self.log("drop", namespace)
        return True

    def names(self, database: str) -> list[str]:
        prefix = database + "."
        return [name[len(prefix) :] for name in self.collections if name.startswith(prefix)]

    def position_after(self, moment: Timestamp) -> int:
        """The place in the oplog of the first change later than that."""
        return bisect.bisect_right(self.oplog, moment, key=lambda change: change.time)

    def position_at(self, moment: Timestamp) -> int:
        return bisect.bisect_left(self.oplog, moment, key=lambda change: change.time)

    async def wait_for_change(self) -> None:
        await self._changed.wait()


def token(moment: Timestamp) -> dict:
    return {"_data": f"{moment.time:08X}{moment.inc:08X}"}


def moment_of(resume_token: dict) -> Timestamp:
    try:
        data = resume_token["_data"]
        return Timestamp(int(data[:8], 16), int(data[8:16], 16))
    except (KeyError, TypeError, ValueError):
        raise ServerError(260, "Bad resume token", misuse=False) from None


def election_id(term: int) -> ObjectId:
    """As mongod makes them: greater with every election."""
    return ObjectId(f"7fffffff{term:016x}")
