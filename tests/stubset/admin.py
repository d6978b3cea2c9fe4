# SPDX-License-Identifier: Apache-2.0
"""The commands about everything but documents: collections, sessions, the server, its faults."""

from __future__ import annotations

import time

from bson import Int64

from .cursors import Cursor
from .dispatch import READ, WRITE, Context, command
from .errors import ServerError
from .faults import Fault

VERSIONS = {
    8: "4.2.25",
    9: "4.4.29",
    13: "5.0.31",
    17: "6.0.20",
    21: "7.0.16",
    25: "8.0.4",
    27: "8.2.0",
}


@command("ping")
def ping(context: Context) -> dict:
    return {}


@command("buildInfo", "buildinfo", before_login=True)
def build_info(context: Context) -> dict:
    newest = context.member.wire[1]
    version = VERSIONS[max(wire for wire in VERSIONS if wire <= max(newest, 8))]
    numbers = [int(part) for part in version.split(".")] + [0]
    return {"version": version, "versionArray": numbers, "modules": ["stub"]}


@command("serverStatus")
def server_status(context: Context) -> dict:
    tally = context.member.tally()
    counts = {"current": tally.open, "available": 1000, "totalCreated": tally.opened}
    return {"host": context.member.host, "process": "mongod", "connections": counts}


@command("connectionStatus", before_login=True)
def connection_status(context: Context) -> dict:
    name, _, db = context.connection.user.partition("@")
    users = [{"user": name, "db": db}] if name else []
    return {"authInfo": {"authenticatedUsers": users, "authenticatedUserRoles": []}}


@command("getParameter")
def get_parameter(context: Context) -> dict:
    return {"featureCompatibilityVersion": {"version": "7.0"}}


@command("replSetStepDown")
def step_down(context: Context) -> dict:
    if context.member.role != "primary":
        raise ServerError(10107, "not primary so can't step down")
    context.stub.election.step_down()
    return {}


# Collections


@command("create", needs=WRITE)
def create(context: Context) -> dict:
    if context.namespace in context.store.collections:
        raise ServerError(48, f"Collection {context.namespace} already exists.", misuse=False)
    options = {
        name: context.body[name] for name in ("capped", "size", "max") if name in context.body
    }
    context.store.create(context.namespace, **options)
    return {}


@command("drop", needs=WRITE)
def drop(context: Context) -> dict:
    if not context.store.drop(context.namespace) and context.member.wire[1] < 21:
        raise ServerError(26, "ns not found", misuse=False)
    return {"nIndexesWas": 1, "ns": context.namespace}


@command("dropDatabase", needs=WRITE)
def drop_database(context: Context) -> dict:
    for name in context.store.names(context.database):
        context.store.drop(f"{context.database}.{name}")
    return {"dropped": context.database}


@command("listDatabases", needs=READ)
def list_databases(context: Context) -> dict:
    names = sorted({name.partition(".")[0] for name in context.store.collections})
    return {
        "databases": [{"name": n, "sizeOnDisk": 0, "empty": False} for n in names],
        "totalSize": 0,
    }


@command("listCollections", needs=READ)
def list_collections(context: Context) -> dict:
    wanted = context.body.get("filter", {}).get("name")
    found = []
    for name in context.store.names(context.database):
        if wanted in (None, name):
            collection = context.store.collections[f"{context.database}.{name}"]
            info = {"readOnly": False, "uuid": collection.uuid}
            found.append(
                {"name": name, "type": "collection", "options": collection.options, "info": info}
            )
    return _listed(context, f"{context.database}.$cmd.listCollections", found)


@command("listIndexes", needs=READ)
def list_indexes(context: Context) -> dict:
    collection = context.store.collections.get(context.namespace)
    if collection is None:
        raise ServerError(26, f"ns does not exist: {context.namespace}", misuse=False)
    return _listed(context, context.namespace, collection.indexes)


def _listed(context: Context, namespace: str, found: list[dict]) -> dict:
    size = context.body.get("cursor", {}).get("batchSize")
    return context.member.cursors.first(Cursor(namespace, list(found), context.owner), size)


@command("createIndexes", needs=WRITE)
def create_indexes(context: Context) -> dict:
    store = context.store
    collection = store.collections.get(context.namespace) or store.create(context.namespace)
    before = len(collection.indexes)
    known = {index["name"] for index in collection.indexes}
    collection.indexes += [i for i in context.body["indexes"] if i["name"] not in known]
    return {"numIndexesBefore": before, "numIndexesAfter": len(collection.indexes)}


@command("dropIndexes", needs=WRITE)
def drop_indexes(context: Context) -> dict:
    collection = context.store.collections.get(context.namespace)
    if collection is None:
        raise ServerError(26, "ns not found", misuse=False)
    was = len(collection.indexes)
    name = context.body["index"]
    collection.indexes = [
        i for i in collection.indexes if i["name"] == "_id_" or name not in ("*", i["name"])
    ]
    return {"nIndexesWas": was}


# Sessions


@command("endSessions")
def end_sessions(context: Context) -> dict:
    for lsid in context.body["endSessions"]:
        context.member.end_session((bytes(lsid["id"]), context.connection.user))
    return {}


@command("killSessions")
def kill_sessions(context: Context) -> dict:
    for lsid in context.body["killSessions"]:
        context.member.kill_session((bytes(lsid["id"]), context.connection.user))
    return {}


@command("killOp")
def kill_op(context: Context) -> dict:
    if context.database != "admin":
        raise ServerError(13, "killOp may only be run against the admin database.")
    number = context.body["op"]
    if not isinstance(number, int) or isinstance(number, bool):
        raise ServerError(14, "Expected field \"op\" to be of numeric type")
    operation = context.member.operations.get(number)
    if operation and operation.context.connection.user == context.connection.user:
        operation.interrupt(11601)
    return {"info": "attempting to kill op"}


def current_operations(context: Context) -> list[dict]:
    """What the stage $currentOp finds: those of the user's own."""
    options = context.body["pipeline"][0]["$currentOp"]
    if context.body["aggregate"] != 1 or context.database != "admin":
        raise ServerError(73, "$currentOp must be run against the 'admin' database with {aggregate: 1}")
    if context.member.is_mongos and not options.get("localOps"):
        return []  # the shards' operations, whose connections are the mongos's
    user = context.connection.user
    return [
        {
            "type": "op", "active": True, "opid": operation.number,
            "connectionId": Int64(operation.context.connection.number),
            "microsecs_running": Int64((time.monotonic() - operation.began) * 1e6),
            "op": "command", "ns": operation.context.namespace,
        }
        for operation in context.member.operations.values()
        if operation.context.connection.user == user
    ]  # fmt: skip


@command("killAllSessions")
def kill_all_sessions(context: Context) -> dict:
    context.member.transactions.drop_all()
    context.member.cursors.kill_if(lambda owner: owner.session is not None)
    return {}


@command("refreshSessions")
def refresh_sessions(context: Context) -> dict:
    return {}


# Faults, for those who script a server by its own means


@command("configureFailPoint")
def configure_fail_point(context: Context) -> dict:
    if context.body["configureFailPoint"] != "failCommand":
        raise ServerError(2, "the stub has the fail point failCommand alone", misuse=False)
    faults, mode = context.stub.faults, context.body["mode"]
    faults.clear(of_fail_point=context.member.index)
    if mode == "off":
        return {}
    data = context.body.get("data", {})
    faults.add(
        Fault(
            names=frozenset(data.get("failCommands", ())),
            member=context.member.index,
            times=mode["times"] if isinstance(mode, dict) and "times" in mode else None,
            code=data.get("errorCode"),
            labels=data.get("errorLabels"),
            write_concern_error=data.get("writeConcernError"),
            close=data.get("closeConnection", False),
            delay_s=data.get("blockTimeMS", 0) / 1000 if data.get("blockConnection") else 0,
            app=data.get("appName"),
            is_fail_point=True,
        )
    )
    return {}
