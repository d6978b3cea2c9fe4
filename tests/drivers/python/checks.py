# SPDX-License-Identifier: Apache-2.0
"""What a driver must be able to do, by pymongo: the program behind test_drivers.py.

Prints one line a check (../README.md has the format). Runs with the pymongo of whoever starts it.
"""

from __future__ import annotations

import json
import os
import re
import threading
import time
from typing import Callable

import pymongo
from bson.int64 import Int64
from pymongo.errors import OperationFailure, PyMongoError
from pymongo.write_concern import WriteConcern

URI = os.environ["URI"]
FEATURES = os.environ["FEATURES"].split()
THREADS = int(os.environ["THREADS"])
ROUNDS = 5
DOCUMENTS = 100_000
LARGE_BYTES = 15_000_000


class Lacking(Exception):
    """The server has no such thing; the message names it."""


def need(feature: str) -> None:
    if feature not in FEATURES:
        raise Lacking(f"the server has no {feature}")


def equal(seen: object, wanted: object) -> None:
    if seen != wanted:
        raise AssertionError(f"{seen!r} instead of {wanted!r}")


def error_of(call: Callable[[], object]) -> dict:
    """What an app can tell of the error that the call must end in."""
    try:
        result = call()
    except OperationFailure as error:
        details = error.details or {}
        labels = sorted(getattr(error, "_error_labels", []))
        return {"code": error.code, "codeName": details.get("codeName"),
                "message": details.get("errmsg"), "labels": labels}  # fmt: skip
    raise AssertionError(f"no error but {result!r}")


def crud(client, db):
    things = db.things
    equal(things.insert_one({"_id": 1, "n": 1}).inserted_id, 1)
    equal(things.find_one({"_id": 1}), {"_id": 1, "n": 1})
    equal(things.update_one({"_id": 1}, {"$inc": {"n": 1}}).modified_count, 1)
    equal(things.update_one({"_id": 2}, {"$set": {"n": 5}}, upsert=True).upserted_id, 2)
    equal(things.find_one_and_update({"_id": 2}, {"$inc": {"n": 1}})["n"], 5)
    equal(things.replace_one({"_id": 2}, {"n": 7}).matched_count, 1)
    equal([found["n"] for found in things.find(sort=[("_id", 1)])], [2, 7])
    equal(things.delete_one({"_id": 1}).deleted_count, 1)
    equal(things.count_documents({}), 1)
    equal(sorted(things.distinct("n")), [7])


def bulk_10000(client, db):
    documents = [{"_id": i, "text": "x" * 100} for i in range(10_000)]
    equal(len(db.bulk.insert_many(documents).inserted_ids), 10_000)
    equal(db.bulk.count_documents({}), 10_000)


def document_15mb(client, db):
    content = os.urandom(1_000) * (LARGE_BYTES // 1_000)
    db.large.insert_one({"_id": 1, "content": content})
    equal(db.large.find_one({"_id": 1})["content"] == content, True)


def cursor_100000(client, db):
    seen = bytearray(DOCUMENTS)
    for document in client.corpus.numbers.find():
        seen[document["_id"]] += 1
    equal(seen == b"\x01" * DOCUMENTS, True)


def aggregation(client, db):
    stages = [
        {"$match": {"_id": {"$lt": 500}}},
        {"$group": {"_id": "$n", "sum": {"$sum": "$_id"}}},
        {"$sort": {"_id": 1}},
    ]
    groups = list(client.corpus.few.aggregate(stages))
    equal([group["sum"] for group in groups], [12250 + 50 * n for n in range(10)])


def indexes(client, db):
    db.indexed.insert_one({"a": 1})
    equal(db.indexed.create_index([("a", 1), ("b", -1)], name="by_a"), "by_a")
    equal(sorted(index["name"] for index in db.indexed.list_indexes()), ["_id_", "by_a"])
    db.indexed.drop_index("by_a")
    equal(list(db.indexed.index_information()), ["_id_"])


def duplicate_key(client, db):
    db.unique.insert_one({"_id": 1})
    return error_of(lambda: db.unique.insert_one({"_id": 1}))


def bad_command(client, db):
    return [error_of(lambda: db.command("noSuchCommand")),
            error_of(lambda: db.things.find_one({"n": {"$noSuchOperator": 1}})),
            error_of(lambda: list(db.things.aggregate([{"$noSuchStage": {}}])))]  # fmt: skip


def transaction_commit(client, db):
    need("transactions")
    db.create_collection("committed")
    with client.start_session() as session:
        with session.start_transaction():
            db.committed.insert_one({"_id": 1}, session=session)
            db.committed.insert_one({"_id": 2}, session=session)
            equal(db.committed.count_documents({}), 0)
            equal(db.committed.count_documents({}, session=session), 2)
    equal(db.committed.count_documents({}), 2)


def transaction_abort(client, db):
    need("transactions")
    db.aborted.insert_one({"_id": 1, "n": 0})
    with client.start_session() as session, client.start_session() as other:
        session.start_transaction()
        db.aborted.update_one({"_id": 1}, {"$set": {"n": 1}}, session=session)
        other.start_transaction()
        conflict = error_of(
            lambda: db.aborted.update_one({"_id": 1}, {"$set": {"n": 2}}, session=other)
        )
        other.abort_transaction()
        session.abort_transaction()
    equal(db.aborted.find_one({"_id": 1}), {"_id": 1, "n": 0})
    return {"code": conflict["code"], "labels": conflict["labels"]}


def change_stream(client, db):
    need("change_streams")
    db.create_collection("watched")
    with db.watched.watch(max_await_time_ms=500) as stream:
        db.watched.insert_one({"_id": 1, "text": "seen"})
        change = stream.next()
    equal((change["operationType"], change["fullDocument"]),
          ("insert", {"_id": 1, "text": "seen"}))  # fmt: skip


def unacknowledged_write(client, db):
    need("unacknowledged_writes")
    with pymongo.MongoClient(URI, maxPoolSize=1) as alone:
        silent = alone[db.name].get_collection("silent", write_concern=WriteConcern(w=0))
        for i in (1, 2, 2, 3):  # the second 2 is an error that nobody hears of
            equal(silent.insert_one({"_id": i}).acknowledged, False)
        deadline = time.monotonic() + 5
        while silent.count_documents({}) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        for i in (1, 2, 3) * 5:
            equal(silent.find_one({"_id": i}), {"_id": i})


def killed_cursor(client, db):
    cursor = client.corpus.few.find(batch_size=2)
    next(cursor)
    get_more = {"getMore": Int64(cursor.cursor_id), "collection": "few", "batchSize": 2}
    cursor.close()
    error = error_of(lambda: client.corpus.command(get_more))
    equal(error["code"], 43)
    error["message"] = re.sub(r"\d{5,}", "N", error["message"])
    return error


def parallel_sessions(client, db):
    """As many threads as the client has connections, each reading its own writes."""
    failures = []

    def work(number: int) -> None:
        try:
            with client.start_session(causal_consistency=True) as session:
                for i in range(ROUNDS):
                    key = {"_id": number * ROUNDS + i}
                    db.parallel.insert_one({**key, "n": 0}, session=session)
                    db.parallel.update_one(key, {"$inc": {"n": 1}}, session=session)
                    equal(db.parallel.find_one(key, session=session), {**key, "n": 1})
        except (PyMongoError, AssertionError) as error:
            failures.append(f"thread {number}: {error!r}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    equal(failures[:3], [])
    equal(db.parallel.count_documents({}), THREADS * ROUNDS)


CHECKS = (
    crud, bulk_10000, document_15mb, cursor_100000, aggregation, indexes, duplicate_key,
    bad_command, transaction_commit, transaction_abort, change_stream, unacknowledged_write,
    killed_cursor, parallel_sessions,
)  # fmt: skip


def run(check: Callable, client: pymongo.MongoClient) -> str:
    try:
        facts = check(client, client[os.environ["DATABASE"]])
    except Lacking as lacking:
        return f"skip {check.__name__}: {lacking}"
    except Exception as error:
        return f"not ok {check.__name__}: " + repr(error).replace("\n", " ")
    return f"ok {check.__name__} " + (json.dumps(facts) if facts else "")


def main() -> None:
    with pymongo.MongoClient(URI, maxPoolSize=THREADS, appname="checks") as client:
        client.drop_database(os.environ["DATABASE"])
        for check in CHECKS:
            print(run(check, client), flush=True)
        client.drop_database(os.environ["DATABASE"])


if __name__ == "__main__":
    main()
