# SPDX-License-Identifier: Apache-2.0
"""The commands that read and write documents, their cursors and their transactions."""

from __future__ import annotations

from bson import ObjectId

from . import admin, documents
from .cursors import ChangeStream, Cursor, TailableCursor
from .dispatch import DATA, READ, WRITE, Context, command
from .errors import ServerError
from .sessions import Transaction

EVERYTHING = 1 << 31
DEFAULT_AWAIT_S = 1.0


def _found(context: Context, query: dict, namespace: str | None = None) -> list[dict]:
    everything = context.data.documents(namespace or context.namespace)
    identity = query.get("_id", documents.MISSING)
    if identity is not documents.MISSING and not isinstance(identity, dict | list):
        candidate = everything.get(documents.key_of(identity))
        return [candidate] if candidate and documents.matches(candidate, query) else []
    return [document for document in everything.values() if documents.matches(document, query)]


# Reading


@command("find", needs=READ)
def find(context: Context) -> dict:
    body, query = context.body, context.body.get("filter", {})
    cursors = context.member.cursors
    if body.get("tailable"):
        collection = context.store.collections.get(context.namespace)
        if not collection or not collection.options.get("capped"):
            raise ServerError(2, "tailable cursor requested on non capped collection")
        tail = TailableCursor(context.store, context.namespace, query, context.owner)
        return cursors.first(tail, body.get("batchSize"))
    found = documents.sort(_found(context, query), body.get("sort", {}))
    found = found[body.get("skip", 0) :]
    if body.get("limit"):
        found = found[: abs(body["limit"])]
    if body.get("projection"):
        found = [documents.project(document, body["projection"]) for document in found]
    cursor = Cursor(context.namespace, found, context.owner)
    return cursors.first(cursor, body.get("batchSize"), single=bool(body.get("singleBatch")))


@command("aggregate", needs=READ)
def aggregate(context: Context) -> dict:
    body, cursors = context.body, context.member.cursors
    pipeline = body["pipeline"]
    size = body.get("cursor", {}).get("batchSize")
    if context.of_change_stream:
        if context.stub.kind == "standalone":
            raise ServerError(40573, "The $changeStream stage is only supported on replica sets")
        stream = ChangeStream(context.store, context.namespace, pipeline, context.owner)
        return cursors.first(stream, size)
    if pipeline and (target := _target_of(pipeline[-1])):
        return _write_out(context, pipeline, target)
    if pipeline and "$currentOp" in pipeline[0]:
        found = documents.aggregate(admin.current_operations(context), pipeline[1:])
        return cursors.first(Cursor(context.namespace, found, context.owner), size)
    if pipeline and "$match" in pipeline[0]:
        found, rest = _found(context, pipeline[0]["$match"]), pipeline[1:]
    else:
        found, rest = list(context.data.documents(context.namespace).values()), pipeline
    found = documents.aggregate(found, rest)
    return cursors.first(Cursor(context.namespace, found, context.owner), size)


def _target_of(stage: dict) -> str | None:
    """The collection that a last stage of $out or $merge writes to."""
    target = stage.get("$out") or stage.get("$merge", {})
    target = target if isinstance(target, str) else target.get("into", target.get("coll"))
    return target if isinstance(target, str | None) else target["coll"]


def _write_out(context: Context, pipeline: list[dict], target: str) -> dict:
    if context.member.role == "secondary":
        raise ServerError(10107, "not primary")
    found = list(context.data.documents(context.namespace).values())
    namespace = f"{context.database}.{target}"
    for document in documents.aggregate(found, pipeline[:-1]):
        key = documents.key_of(document["_id"])
        context.data.put(namespace, key, "replace", document["_id"], document)
    return context.member.cursors.first(Cursor(context.namespace, [], context.owner), None)


@command("count", needs=READ)
def count(context: Context) -> dict:
    return {"n": len(_found(context, context.body.get("query", {})))}


@command("distinct", needs=READ)
def distinct(context: Context) -> dict:
    values: list = []
    for document in _found(context, context.body.get("query", {})):
        value = documents.get(document, context.body["key"])
        if value is not documents.MISSING and value not in values:
            values.append(value)
    return {"values": values}


@command("getMore", needs=DATA)
def get_more(context: Context):
    body, member = context.body, context.member
    namespace = f"{context.database}.{body['collection']}"
    of_connection = member.bound_connection(context.connection) is not None
    cursor = member.cursors.get(
        body["getMore"], namespace, context.owner, of_connection=of_connection
    )
    wait_s = body.get("maxTimeMS")
    if wait_s is not None and not cursor.is_tailable:
        raise ServerError(2, "cannot set maxTimeMS on getMore command for a non-awaitData cursor")
    count = body.get("batchSize") or EVERYTHING
    if not cursor.is_tailable:
        return member.cursors.pass_on(cursor, cursor.take(count))
    wait_s = DEFAULT_AWAIT_S if wait_s is None else wait_s / 1000
    return lambda: member.interruptible(context, member.cursors.await_more(cursor, count, wait_s))


@command("killCursors")
def kill_cursors(context: Context) -> dict:
    killed, missing = [], []
    for number in context.body["cursors"]:
        if context.member.cursors.kill(number):
            killed.append(number)
            continue
        missing.append(number)
        if owners := context.stub.members_with_cursor(number):
            message = f"killCursors of cursor {number}, which is on member {owners}"
            context.member.reject(context, ServerError(43, message))
    return {
        "cursorsKilled": killed, "cursorsNotFound": missing,
        "cursorsAlive": [], "cursorsUnknown": [],
    }  # fmt: skip


# Writing


def _each(context: Context, items: list[dict], write) -> dict:
    """Executes a write command's statements and sums up."""
    sums: dict = {"n": 0}
    failures = []
    for index, item in enumerate(items):
        try:
            done = context.once(index, lambda: write(context, item))
        except ServerError as failure:
            if failure.code != 11000:
                raise
            failures.append({"index": index, "code": 11000, "errmsg": str(failure)})
            if context.body.get("ordered", True):
                break
            continue
        for name, value in done.items():
            if name == "upserted":
                sums.setdefault(name, []).append({"index": index, "_id": value})
            else:
                sums[name] = sums.get(name, 0) + value
    return sums | ({"writeErrors": failures} if failures else {})


@command("insert", needs=WRITE)
def insert(context: Context) -> dict:
    return _each(context, context.body["documents"], _insert_one)


def _insert_one(context: Context, document: dict) -> dict:
    document = document if "_id" in document else {"_id": ObjectId(), **document}
    _put_new(context, document)
    return {"n": 1}


def _put_new(context: Context, document: dict) -> None:
    namespace, key = context.namespace, documents.key_of(document["_id"])
    if key in context.data.documents(namespace):
        message = f"E11000 duplicate key error collection: {namespace} index: _id_"
        raise ServerError(11000, f"{message} dup key: {{ _id: {document['_id']!r} }}", misuse=False)
    context.data.put(namespace, key, "insert", document["_id"], document)


@command("update", needs=WRITE)
def update(context: Context) -> dict:
    _refuse_retryable_multi(context, any(one.get("multi") for one in context.body["updates"]))
    return {"nModified": 0} | _each(context, context.body["updates"], _update_one)


def _refuse_retryable_multi(context: Context, is_multi: bool) -> None:
    if context.is_retryable_write and is_multi:
        raise ServerError(72, "Cannot use retryable writes with multi=true")


def _update_one(context: Context, one: dict) -> dict:
    found = _found(context, one["q"])
    if not found and one.get("upsert"):
        document = _upserted(context, one["q"], one["u"])
        return {"n": 1, "nModified": 0, "upserted": document["_id"]}
    found = found if one.get("multi") else found[:1]
    modified = sum(_replace(context, document, one["u"]) is not document for document in found)
    return {"n": len(found), "nModified": modified}


def _upserted(context: Context, query: dict, change: dict) -> dict:
    document = documents.updated(documents.seed_of(query), change, is_insert=True)
    document = document if "_id" in document else {"_id": ObjectId(), **document}
    _put_new(context, document)
    return document


def _replace(context: Context, document: dict, change: dict) -> dict:
    """Writes the changed document and returns it; the given one if there was nothing to change."""
    new = documents.updated(document, change)
    if new == document:
        return document
    kind = "update" if next(iter(change), "").startswith("$") else "replace"
    key = documents.key_of(document["_id"])
    context.data.put(context.namespace, key, kind, document["_id"], new)
    return new


@command("delete", needs=WRITE)
def delete(context: Context) -> dict:
    _refuse_retryable_multi(context, any(not one["limit"] for one in context.body["deletes"]))
    return _each(context, context.body["deletes"], _delete_one)


def _delete_one(context: Context, one: dict) -> dict:
    found = _found(context, one["q"])
    found = found[:1] if one["limit"] else found
    for document in found:
        _remove(context, document)
    return {"n": len(found)}


def _remove(context: Context, document: dict) -> None:
    key = documents.key_of(document["_id"])
    context.data.put(context.namespace, key, "delete", document["_id"], None)


@command("bulkWrite", needs=WRITE)
def bulk_write(context: Context) -> dict:
    """Each operation as the command it stands for would do it."""
    body, results, failed = context.body, [], 0
    sums = dict.fromkeys(("nInserted", "nMatched", "nModified", "nUpserted", "nDeleted"), 0)
    for index, operation in enumerate(body["ops"]):
        kind = next(iter(operation))
        context.collection = body["nsInfo"][operation[kind]]["ns"]
        _refuse_retryable_multi(context, bool(operation.get("multi")))
        result = {"ok": 1.0, "idx": index}
        try:
            result |= context.once(index, lambda: BULK[kind](context, operation, sums))
        except ServerError as failure:
            if failure.code != 11000:
                raise
            failed += 1
            result |= {"ok": 0.0, "code": 11000, "errmsg": str(failure), "n": 0}
        if not (result["ok"] and body.get("errorsOnly")):
            results.append(result)
        if failed and body.get("ordered", True):
            break
    cursor = Cursor("admin.$cmd.bulkWrite", results, context.owner)
    size = body.get("cursor", {}).get("batchSize")
    return context.member.cursors.first(cursor, size) | sums | {"nErrors": failed}


def _bulk_insert(context: Context, operation: dict, sums: dict) -> dict:
    done = _insert_one(context, operation["document"])
    sums["nInserted"] += 1
    return done


def _bulk_update(context: Context, operation: dict, sums: dict) -> dict:
    one = {**operation, "q": operation["filter"], "u": operation["updateMods"]}
    done = _update_one(context, one)
    if "upserted" in done:
        done["upserted"] = {"_id": done["upserted"]}
    sums["nUpserted" if "upserted" in done else "nMatched"] += done["n"]
    sums["nModified"] += done["nModified"]
    return done


def _bulk_delete(context: Context, operation: dict, sums: dict) -> dict:
    limit = 0 if operation.get("multi") else 1
    done = _delete_one(context, {"q": operation["filter"], "limit": limit})
    sums["nDeleted"] += done["n"]
    return done


BULK = {"insert": _bulk_insert, "update": _bulk_update, "delete": _bulk_delete}


@command("findAndModify", "findandmodify", needs=WRITE)
def find_and_modify(context: Context) -> dict:
    return dict(context.once(0, lambda: _find_and_modify(context)))


def _find_and_modify(context: Context) -> dict:
    body = context.body
    found = documents.sort(_found(context, body.get("query", {})), body.get("sort") or {})
    old = found[0] if found else None
    last = {"n": int(old is not None)}
    value = old
    if body.get("remove"):
        if old:
            _remove(context, old)
    elif old:
        new = _replace(context, old, body["update"])
        value, last["updatedExisting"] = (new if body.get("new") else old), True
    else:
        last["updatedExisting"] = False
        if body.get("upsert"):
            new = _upserted(context, body.get("query", {}), body["update"])
            last |= {"n": 1, "upserted": new["_id"]}
            value = new if body.get("new") else None
    if value and body.get("fields"):
        value = documents.project(value, body["fields"])
    return {"lastErrorObject": last, "value": value}


# The ends of transactions


@command("commitTransaction", needs=WRITE)
def commit_transaction(context: Context) -> dict:
    number = _number(context)
    if context.session.number == number and context.session.state == "committed":
        return _with_token(context)
    if "recoveryToken" in context.body and not _is_open_here(context, number):
        return _recover(context, number)
    transaction = _ending(context, number)
    transaction.commit()
    return _with_token(context)


@command("abortTransaction", needs=WRITE)
def abort_transaction(context: Context) -> dict:
    number = _number(context)
    if context.session.number == number and context.session.state == "committed":
        raise ServerError(256, f"Transaction {number} has been committed")
    _ending(context, number).abort()
    return _with_token(context)


def _number(context: Context) -> int:
    if "autocommit" not in context.body or context.session is None:
        raise ServerError(251, f"{context.name} must be run within a transaction")
    if context.database != "admin":
        raise ServerError(13, f"{context.name} may only be run against the admin database.")
    return context.body["txnNumber"]


def _ending(context: Context, number: int) -> Transaction:
    member = context.member
    bound = member.bound_connection(context.connection)
    transaction = member.transactions.find(context.session, number, bound)
    member.transactions.end(transaction)
    return transaction


def _is_open_here(context: Context, number: int) -> bool:
    return context.member.transactions.has(context.session.key, number)


def _recover(context: Context, number: int) -> dict:
    """Another mongos began it: what is still open is aborted, as its coordinator would."""
    if not context.member.is_mongos or not context.body["recoveryToken"]:
        raise ServerError(
            251, "Recovery token is empty, meaning the transaction only performed reads"
        )
    if context.session.number == number:
        context.stub.abort_everywhere(context.session.key)
    raise ServerError(251, f"Transaction {number} has been aborted", misuse=False)


def _with_token(context: Context) -> dict:
    return {"recoveryToken": {"recoveryShardId": "stub"}} if context.member.is_mongos else {}
