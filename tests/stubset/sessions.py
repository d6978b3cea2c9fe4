# SPDX-License-Identifier: Apache-2.0
"""Sessions: which statements of a retryable write were executed, and transactions.

A Session is what the set remembers of an lsid, on all members, through elections. A Transaction in
progress is in the memory of one member alone and dies with its term as primary.

    statement      no txnNumber                                              plain
                   txnNumber                                                 retryable write
                   txnNumber, autocommit: false [, startTransaction: true]   transaction
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from .errors import ServerError

RETRYABLE_WRITES = frozenset(("insert", "update", "delete", "findAndModify", "bulkWrite"))
TRANSACTION_ENDS = frozenset(("commitTransaction", "abortTransaction"))
IN_TRANSACTIONS = RETRYABLE_WRITES | TRANSACTION_ENDS | {
    "find", "aggregate", "getMore", "killCursors", "distinct", "create", "createIndexes",
}  # fmt: skip
LIFETIME_S = 60.0  # transactionLifetimeLimitSeconds


@dataclass
class Session:
    key: tuple
    number: int = -1  # the newest txnNumber
    is_transaction: bool = False
    state: str = ""  # of a transaction: in progress, committed, aborted
    statements: dict[int, dict] = field(default_factory=dict)  # what each was answered

    def advance(self, number: int, is_transaction: bool) -> None:
        self.number, self.is_transaction, self.statements = number, is_transaction, {}
        self.state = "in progress" if is_transaction else ""

    def refuse_older(self, number: int) -> None:
        if number < self.number:
            raise ServerError(
                225,
                f"Cannot start transaction {number} on session {self.key[0].hex()} because a newer "
                f"transaction {self.number} has already started",
            )


class Transaction:
    """Reads a copy of each collection made when it first looked, writes aside until the commit."""

    def __init__(self, store, session: Session, number: int, connection, cursors) -> None:
        self._store = store
        self._cursors = cursors
        self.session = session
        self.number = number
        self.connection = connection
        self.began = time.monotonic()
        self._seen: dict[str, dict] = {}
        self._writes: list[tuple] = []

    @property
    def has_written(self) -> bool:
        return bool(self._writes)

    def documents(self, namespace: str) -> dict[object, dict]:
        if namespace not in self._seen:
            self._seen[namespace] = dict(self._store.documents(namespace))
        return self._seen[namespace]

    def put(self, namespace: str, key: object, kind: str, identity, document: dict | None) -> None:
        documents = self.documents(namespace)
        if self._store.locks.setdefault((namespace, key), self) is not self:
            raise conflict()
        written = any(write[:2] == (namespace, key) for write in self._writes)
        if not written and self._store.documents(namespace).get(key) is not documents.get(key):
            raise conflict()
        if document is None:
            documents.pop(key, None)
        else:
            documents[key] = document
        self._writes.append((namespace, key, kind, identity, document))

    def commit(self) -> None:
        self._end("committed")
        for write in self._writes:
            self._store.put(*write)

    def abort(self) -> None:
        self._end("aborted")

    def _end(self, state: str) -> None:
        if self.session.number == self.number:
            self.session.state = state
        for namespace, key, *_ in self._writes:
            if self._store.locks.get((namespace, key)) is self:
                del self._store.locks[namespace, key]
        mine = (self.session.key, self.number)
        self._cursors.kill_if(lambda owner: (owner.session, owner.txn_number) == mine)


class PlainWriter:
    """The same face as a transaction's, for writes outside of one."""

    def __init__(self, store) -> None:
        self._store = store
        self.documents = store.documents

    def put(self, namespace: str, key: object, *write) -> None:
        if (namespace, key) in self._store.locks:
            raise conflict()  # mongod waits here for the transaction's end
        self._store.put(namespace, key, *write)


def conflict() -> ServerError:
    return ServerError(112, "Write conflict during plan execution.", misuse=False)


class Transactions:
    """Those in progress on one member."""

    def __init__(self, store, cursors) -> None:
        self._store = store
        self._cursors = cursors
        self._open: dict[tuple, Transaction] = {}
        self._lost: set[tuple] = set()  # whose loss is the server's doing, not their app's

    def __len__(self) -> int:
        return len(self._open)

    def begin(self, session: Session, number: int, connection) -> Transaction:
        session.refuse_older(number)
        if number == session.number:
            raise ServerError(
                50911,
                f"Cannot start a transaction at given transaction number {number} a transaction "
                f"with the same number is in state {session.state or 'retryable write'}",
            )
        self.drop(session.key)
        session.advance(number, is_transaction=True)
        begun = Transaction(self._store, session, number, connection, self._cursors)
        self._open[session.key] = begun
        return begun

    def find(self, session: Session, number: int, connection=None) -> Transaction:
        session.refuse_older(number)
        found = self._open.get(session.key)
        if found and time.monotonic() - found.began > LIFETIME_S:
            self.lose(session.key)
            found = None
        if found is None or found.number != number or connection not in (None, found.connection):
            raise ServerError(
                251,
                f"Given transaction number {number} does not match any in-progress transactions. "
                f"The active transaction number is {session.number}",
                misuse=(session.key, number) not in self._lost and session.state != "aborted",
            )
        return found

    def has(self, key: tuple, number: int) -> bool:
        return key in self._open and self._open[key].number == number

    def inherit_losses(self, other: Transactions) -> None:
        self._lost |= other._lost

    def drop_all(self) -> None:
        for key in list(self._open):
            self.drop(key)

    def end(self, transaction: Transaction) -> None:
        if self._open.get(transaction.session.key) is transaction:
            del self._open[transaction.session.key]

    def drop(self, key: tuple) -> None:
        """Aborts what that session has open here, if anything."""
        if found := self._open.pop(key, None):
            found.abort()

    def lose(self, key: tuple) -> None:
        if found := self._open.get(key):
            self._lost.add((key, found.number))
            self.drop(key)

    def lose_all(self) -> None:
        for key in list(self._open):
            self.lose(key)

    def lose_of(self, connection) -> None:
        for key, found in list(self._open.items()):
            if found.connection is connection:
                self.lose(key)
