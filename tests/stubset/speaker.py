# SPDX-License-Identifier: Apache-2.0
"""Statements of one session by hand, for what no driver would send."""

from __future__ import annotations

import os

import bson
import raw


def lsid() -> dict:
    return {"id": bson.Binary(os.urandom(16), 4)}


class Speaker:
    """Sends statements of one session by hand."""

    def __init__(self, stub, index: int = 0, session: dict | None = None):
        self.connection = raw.Connection.to(("127.0.0.1", stub.members[index].port))
        self.session = session or lsid()

    def ask(self, document: dict, number: int | None = None, *, db: str = "test", **more) -> dict:
        numbered = {} if number is None else {"txnNumber": bson.Int64(number)}
        return self.connection.ask({**document, "lsid": self.session, **numbered, **more}, db=db)

    def begin(self, number: int, document: dict | None = None) -> dict:
        document = document or {"insert": "things", "documents": [{}]}
        return self.ask(document, number, autocommit=False, startTransaction=True)

    def go_on(self, number: int, document: dict) -> dict:
        return self.ask(document, number, autocommit=False)

    def end(self, number: int, name: str = "commitTransaction", **more) -> dict:
        return self.ask({name: 1}, number, autocommit=False, db="admin", **more)
