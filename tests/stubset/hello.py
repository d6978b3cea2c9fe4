# SPDX-License-Identifier: Apache-2.0
"""hello, and its stream: how a member tells who it is, and at once when that changes."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta, timezone

from bson import Int64

from . import auth, wire
from .dispatch import HELLOS, Context, command, finish, refuse
from .errors import ServerError
from .store import election_id


@command(*HELLOS, before_login=True)
def hello(context: Context):
    connection, body = context.connection, context.body
    if ("topologyVersion" in body) != ("maxAwaitTimeMS" in body):
        raise ServerError(51758, "topologyVersion and maxAwaitTimeMS come together or not at all")
    if "client" in body and body["client"] is not connection.client:
        raise ServerError(186, "The client metadata document may only be sent in the first hello")
    if context.stub.kind == "load_balanced" and not (
        body.get("loadBalanced") or connection.is_load_balanced
    ):
        raise ServerError(354, "The server expects load balanced connections, the driver does not")
    connection.is_load_balanced |= bool(body.get("loadBalanced"))
    if "maxAwaitTimeMS" in body:
        return lambda: _when_changed(
            context, body["topologyVersion"], body["maxAwaitTimeMS"] / 1000
        )
    return describe(context)


async def _when_changed(context: Context, known: dict, wait_s: float) -> dict:
    if known == context.member.topology_version:
        await asyncio.wait([context.member.changed], timeout=wait_s)
    return describe(context)


async def stream(context: Context, first: dict, send) -> None:
    """Replies unasked, one whenever something changed or the time is up, until one is an error."""
    wait_s = context.body["maxAwaitTimeMS"] / 1000
    document, response_to = first, context.request.request_id
    while document["ok"]:
        response_to = send(document, wire.raw.MORE_TO_COME, response_to)
        member = context.member
        if document.get("topologyVersion") == member.topology_version:
            await asyncio.wait([member.changed], timeout=wait_s)
        try:
            document = finish(context, describe(context))
        except ServerError as failure:
            document = refuse(context, failure)
    send(document, 0, response_to)


def is_stream(context: Context) -> bool:
    return "maxAwaitTimeMS" in context.body and bool(context.request.flags & wire.EXHAUST_ALLOWED)


def describe(context: Context) -> dict:
    member, connection = context.member, context.connection
    if member.is_quiescing:
        raise ServerError(
            91, "The server is in quiesce mode and will shut down", misuse=False,
            remainingQuiesceTimeMillis=Int64(0),
        )  # fmt: skip
    is_writable = member.role in ("primary", "mongos", "standalone")
    reply = {
        "helloOk": True,
        "isWritablePrimary" if context.name == "hello" else "ismaster": is_writable,
        "topologyVersion": member.topology_version,
        "maxBsonObjectSize": 16777216,
        "maxMessageSizeBytes": wire.MAX_MESSAGE,
        "maxWriteBatchSize": 100000,
        "localTime": datetime.now(timezone.utc),
        "logicalSessionTimeoutMinutes": 30,
        "connectionId": connection.number,
        "minWireVersion": member.wire[0],
        "maxWireVersion": member.wire[1],
        "readOnly": False,
        **FACES[context.stub.kind](context),
        **_agree(context),
        **member.hello_overrides,
    }
    return {name: value for name, value in reply.items() if value is not None}


def _agree(context: Context) -> dict:
    """What is settled in the first hello alone: compression and authentication."""
    connection, body, agreed = context.connection, context.body, {}
    if "compression" in body:
        offered = context.stub.compressors
        connection.compressors = tuple(name for name in body["compression"] if name in offered)
        if connection.compressors:
            agreed["compression"] = list(connection.compressors)
    if "saslSupportedMechs" in body:
        agreed["saslSupportedMechs"] = auth.mechanisms_of(context)
    if "speculativeAuthenticate" in body:
        agreed["speculativeAuthenticate"] = auth.speculate(context)
    return agreed


def _face_of_member(context: Context) -> dict:
    member, stub = context.member, context.stub
    primary = stub.primary
    moment = stub.store.clock.now
    written = datetime.now(timezone.utc) - timedelta(seconds=member.lag_s)
    optime = {"ts": moment, "t": Int64(stub.term)}
    face = {
        "setName": stub.name,
        "setVersion": stub.set_version,
        "hosts": stub.hosts("hosts"),
        "passives": stub.hosts("passives") or None,
        "arbiters": stub.hosts("arbiters") or None,
        "primary": primary.host if primary else None,
        "me": member.host,
        "secondary": member.role == "secondary",
        "tags": member.tags or None,
        "lastWrite": {
            "opTime": optime, "lastWriteDate": written,
            "majorityOpTime": optime, "majorityWriteDate": written,
        },
    }  # fmt: skip
    if member.role == "primary":
        face["electionId"] = election_id(stub.term)
    if member.role == "arbiter":
        face["arbiterOnly"] = True
    if member.hidden:
        face["hidden"] = True
    if member.priority == 0 and member.role != "arbiter":
        face["passive"] = True
    return face


FACES = {
    "replica_set": _face_of_member,
    "sharded": lambda context: {"msg": "isdbgrid"},
    "load_balanced": lambda context: {"msg": "isdbgrid", "serviceId": context.member.service_id},
    "standalone": lambda context: {},
}
