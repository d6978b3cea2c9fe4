# SPDX-License-Identifier: Apache-2.0
"""Traffic without end, by pymongo: the program of ../../soak. Any error may come and is counted; an
answer that is not the one to its question may not.

Ends when its standard input does. WORK: the names of what is to be done; else all of it.
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading
import time
from collections import Counter

import pymongo
from pymongo.errors import DuplicateKeyError, OperationFailure, PyMongoError
from pymongo.write_concern import WriteConcern

NUMBERS = 1000
LARGE_BYTES = 300_000
TALLY_EVERY_S = 0.5


class Wrong(Exception):
    """An answer that cannot be to this question."""


def equal(seen: object, wanted: object) -> None:
    if seen != wanted:
        raise Wrong(f"{seen!r:.200} instead of {wanted!r:.200}")


def echo(db, token: str) -> None:
    number = random.randrange(NUMBERS)
    found = db.numbers.find_one({"_id": number}, {"token": {"$literal": token}})
    equal(found, {"_id": number, "token": token})


def own_document(db, token: str) -> None:
    key = {"_id": token}
    equal(db.things.insert_one({**key, "n": 1}).inserted_id, token)
    try:
        db.things.insert_one(key)
        raise Wrong("no error for a key that is there")
    except DuplicateKeyError as error:
        equal(token in str(error), True)
    equal(db.things.find_one(key), {**key, "n": 1})
    equal(db.things.find_one_and_update(key, {"$set": {"n": 2}}), {**key, "n": 1})
    equal(db.things.find_one(key), {**key, "n": 2})
    db.things.delete_one(key)
    equal(db.things.find_one(key), None)


def cursor(db, token: str) -> None:
    n = random.randrange(10)
    wanted = [{"_id": i, "token": token} for i in range(n, NUMBERS, 10)]
    found = db.numbers.find({"n": n}, {"token": {"$literal": token}}, batch_size=17)
    equal(list(found.sort("_id")), wanted)


def left_cursor(db, token: str) -> None:
    with db.numbers.find({}, {"token": {"$literal": token}}, batch_size=2) as found:
        equal(next(found)["token"], token)


def large_document(db, token: str) -> None:
    document = {"_id": token, "content": os.urandom(1000) * (LARGE_BYTES // 1000)}
    db.things.insert_one(document)
    equal(db.things.find_one({"_id": token}), document)
    db.things.delete_one({"_id": token})


def transaction(db, token: str) -> None:
    commit = random.random() < 0.5
    with db.client.start_session() as session:
        with session.start_transaction():
            for i in range(2):
                document = {"_id": f"{token}-{i}", "by": token}
                db.things.insert_one(document, session=session)
            equal(db.things.count_documents({"by": token}, session=session), 2)
            if not commit:
                session.abort_transaction()
    equal(db.things.count_documents({"by": token}), 2 if commit else 0)
    db.things.delete_many({"by": token})


def unacknowledged(db, token: str) -> None:
    silent = db.get_collection("silent", write_concern=WriteConcern(w=0))
    equal(silent.insert_one({"_id": token}).acknowledged, False)
    echo(db, token)


WORK = (echo, echo, echo, own_document, cursor, left_cursor, large_document, transaction,
        unacknowledged)  # fmt: skip


class Tally:
    def __init__(self) -> None:
        self.ended = threading.Event()
        self._lock = threading.Lock()
        self._done: Counter[str] = Counter()
        self._errors: Counter[str] = Counter()

    def note(self, name: str, error: PyMongoError | None) -> None:
        with self._lock:
            if error is None:
                self._done[name] += 1
            elif isinstance(error, OperationFailure):
                self._errors[str(error.code)] += 1
            else:
                self._errors[type(error).__name__] += 1

    def tell(self) -> None:
        with self._lock:
            print("tally", json.dumps({"done": self._done, "errors": self._errors}), flush=True)


def work(db, tally: Tally, name: str) -> None:
    number = 0
    wanted = os.environ.get("WORK", "").split()
    steps = [step for step in WORK if not wanted or step.__name__ in wanted]
    while not tally.ended.is_set():
        number += 1
        step = random.choice(steps)
        try:
            step(db, f"{name}-{number}")
            tally.note(step.__name__, None)
        except PyMongoError as error:
            tally.note(step.__name__, error)
        except Exception as error:
            print(f"not ok {step.__name__}: {error!r}".replace("\n", " "), flush=True)


def tell_all_along(tally: Tally) -> None:
    while not tally.ended.wait(TALLY_EVERY_S):
        tally.tell()


def main() -> None:
    tally = Tally()
    with pymongo.MongoClient(os.environ["URI"], appname="soak-pymongo") as client:
        db = client[os.environ["DATABASE"]]
        name = f"python-{os.getpid()}-{time.time_ns()}"
        threads = [
            threading.Thread(target=work, args=(db, tally, f"{name}-{i}"))
            for i in range(int(os.environ["THREADS"]))
        ]
        threads.append(threading.Thread(target=tell_all_along, args=(tally,)))
        for thread in threads:
            thread.start()
        sys.stdin.read()
        tally.ended.set()
        for thread in threads:
            thread.join()
    tally.tell()


if __name__ == "__main__":
    main()
