# SPDX-License-Identifier: Apache-2.0
"""From a command to its reply: what is refused before the command's own function is asked.

The order is mongod's: authentication, whether there is such a command, the generic arguments, the
member's state, the read concern, then the session.
"""

from __future__ import annotations

from dataclasses import dataclass

from bson import Binary, Int64

from . import errors
from .cursors import Owner
from .errors import ServerError
from .sessions import IN_TRANSACTIONS, RETRYABLE_WRITES, TRANSACTION_ENDS
from .sessions import PlainWriter, Session, Transaction

HELLOS = ("hello", "isMaster", "ismaster")
NEVER_COMPRESSED = frozenset((*HELLOS, "saslStart", "saslContinue", "authenticate"))
READ_MODES = ("primary", "primaryPreferred", "secondary", "secondaryPreferred", "nearest")

# What a command needs of the member. ANYWHERE: also of a recovering one.
WRITE, READ, DATA, ANYWHERE = "write", "read", "data", "anywhere"


@dataclass(frozen=True)
class Spec:
    run: callable
    needs: str
    before_login: bool


COMMANDS: dict[str, Spec] = {}


def command(*names: str, needs: str = ANYWHERE, before_login: bool = False):
    """Registers a function(context) as these commands. It returns the reply, or an async function
    without arguments that will: nothing is under way before that is called."""

    def register(run):
        COMMANDS.update(dict.fromkeys(names, Spec(run, needs, before_login)))
        return run

    return register


class Context:
    """One command, while it is executed."""

    def __init__(self, member, connection, request):
        self.member = member
        self.stub = member.stub
        self.store = member.stub.store
        self.connection = connection
        self.request = request
        self.body: dict = request.body
        self.name: str = next(iter(request.body))
        self.session: Session | None = None
        self.transaction: Transaction | None = None
        self.is_retryable_write = False
        self.retried: list[int] = []
        self.collection: str | None = None  # for who works on several, one after the other

    @property
    def database(self) -> str:
        return self.body["$db"]

    @property
    def namespace(self) -> str:
        if self.collection:
            return self.collection
        name = self.body[self.name]
        if not isinstance(name, str):
            name = "$cmd." + self.name
        return f"{self.database}.{name}"

    @property
    def data(self):
        """Where to read and write: the transaction, if there is one, else the store."""
        return self.transaction or PlainWriter(self.store)

    @property
    def owner(self) -> Owner:
        number = self.transaction.number if self.transaction else None
        key = self.session.key if self.session else None
        return Owner(key, number, self.connection.user, self.connection)

    @property
    def session_key(self) -> tuple | None:
        """Whose session it is, also before it was entered."""
        lsid = self.body.get("lsid")
        return lsid and (bytes(lsid["id"]), self.connection.user)

    @property
    def of_change_stream(self) -> bool:
        if self.name == "aggregate":
            pipeline = self.body.get("pipeline")
            return bool(pipeline) and "$changeStream" in pipeline[0]
        return self.name == "getMore" and self.member.cursors.is_change_stream(self.body["getMore"])

    def once(self, number: int, write) -> dict:
        """A retryable write's statement: executed now, or answered as it was before."""
        if not self.is_retryable_write:
            return write()
        number = self.body.get("stmtId", 0) + number
        done = self.session.statements
        if number in done:
            self.retried.append(number)
        else:
            done[number] = write()
        return done[number]


def answer(context: Context):
    """The reply, or an async function of it; neither raises ServerError."""
    try:
        result = _run(context)
    except ServerError as failure:
        return refuse(context, failure)
    except KeyError as missing:
        what = f"BSON field '{context.name}.{missing.args[0]}' is missing but a required field"
        return refuse(context, ServerError(40414, what))
    if not callable(result):
        return finish(context, result)

    async def later() -> dict:
        try:
            return finish(context, await result())
        except ServerError as failure:
            return refuse(context, failure)

    return later


def finish(context: Context, reply: dict) -> dict:
    reply = {**reply, "ok": reply.get("ok", 1.0)}
    if context.retried:
        reply["retriedStmtIds"] = context.retried
    if context.transaction:
        if "writeErrors" in reply:
            context.member.transactions.drop(context.session.key)
        if context.member.is_mongos:
            shard = {"recoveryShardId": "stub"} if context.transaction.has_written else {}
            reply["recoveryToken"] = shard
    return stamp(context, reply)


def refuse(context: Context, failure: ServerError) -> dict:
    member = context.member
    if failure.misuse:
        member.reject(context, failure)
    if context.transaction and context.name not in TRANSACTION_ENDS:
        member.transactions.drop(context.session.key)  # any error ends a transaction
    return stamp(context, label(context, failure.document()))


def label(context: Context, reply: dict) -> dict:
    """Adds what mongod adds to an error reply, unless labels are there already."""
    code, member = reply["code"], context.member
    if "errorLabels" not in reply and member.wire[1] >= errors.LABELS_SINCE_WIRE:
        found = errors.labels(code, context.body, context.name, context.of_change_stream)
        if found:
            reply["errorLabels"] = found
    if code in errors.STATE_CHANGES and member.topology_version:
        reply.setdefault("topologyVersion", member.topology_version)
    return reply


def stamp(context: Context, reply: dict) -> dict:
    if context.stub.kind != "standalone":
        clock = context.store.clock
        reply["operationTime"] = clock.now
        reply["$clusterTime"] = clock.signed()
    return reply


def _run(context: Context):
    spec = COMMANDS.get(context.name)
    if not context.connection.is_let_in and not (spec and spec.before_login):
        raise ServerError(13, f"Command {context.name} requires authentication")
    if spec is None:
        raise ServerError(59, f"no such command: '{context.name}'", misuse=False)
    body = context.body
    if "$clusterTime" in body and not spec.before_login and context.stub.kind != "standalone":
        context.store.clock.check(body["$clusterTime"])
    _check_generic(context)
    _check_state(context, spec.needs)
    if "readConcern" in body:
        _check_read_concern(context)
    if "lsid" in body:
        _enter_session(context)
    return spec.run(context)


def _check_generic(context: Context) -> None:
    body = context.body
    if preference := body.get("$readPreference"):
        if preference.get("mode") not in READ_MODES:
            raise ServerError(9, f"Unknown read preference mode {preference.get('mode')!r}")
        if preference["mode"] == "primary" and ("tags" in preference or len(preference) > 1):
            raise ServerError(2, "Only empty tags are allowed with primary read preference")
    if "lsid" in body:
        identity = body["lsid"].get("id")
        if not isinstance(identity, Binary) or identity.subtype != 4 or len(identity) != 16:
            raise ServerError(14, "lsid.id is not a UUID")
    elif "txnNumber" in body:
        raise ServerError(72, "Transaction number requires a session ID to also be specified")
    if "autocommit" in body and (body["autocommit"] is not False or "txnNumber" not in body):
        raise ServerError(72, "autocommit must be false and come with a txnNumber")
    if "startTransaction" in body and body.get("startTransaction") is not True:
        raise ServerError(72, "startTransaction must be true")
    if body.get("startTransaction") and "autocommit" not in body:
        raise ServerError(72, "startTransaction needs autocommit: false")


def _check_state(context: Context, needs: str) -> None:
    member = context.member
    if needs == ANYWHERE or member.role in ("primary", "mongos", "standalone"):
        return
    if member.role != "secondary":
        raise ServerError(13436, "node is not in primary or recovering state")
    if needs == WRITE or context.body.get("autocommit") is False:
        raise ServerError(10107, "not primary")
    mode = context.body.get("$readPreference", {}).get("mode", "primary")
    if needs == READ and mode == "primary":
        raise ServerError(13435, "not primary and secondaryOk=false")


def _check_read_concern(context: Context) -> None:
    body = context.body
    if body.get("autocommit") is False and not body.get("startTransaction"):
        raise ServerError(72, "only the first command in a transaction may specify a readConcern")
    moment = body["readConcern"].get("afterClusterTime")
    if moment is not None and moment > context.store.clock.now:
        raise ServerError(
            72, "readConcern afterClusterTime must not be greater than the current clusterTime"
        )


def _enter_session(context: Context) -> None:
    body, member = context.body, context.member
    context.session = context.stub.session((bytes(body["lsid"]["id"]), context.connection.user))
    if "txnNumber" not in body:
        return
    number = body["txnNumber"]
    if not isinstance(number, Int64):
        raise ServerError(14, "txnNumber must be a long")
    if context.stub.kind == "standalone":
        raise ServerError(
            20, "Transaction numbers are only allowed on a replica set member or mongos"
        )
    if body.get("autocommit") is False:
        _enter_transaction(context, number)
    elif context.name not in RETRYABLE_WRITES:
        raise ServerError(
            50768,
            "txnNumber may only be provided for multi-document transactions and retryable write "
            f"commands. autocommit:false was not provided, and {context.name} is not a retryable "
            "write command.",
        )
    else:
        _enter_retryable_write(context, number)
        member.transactions.drop(context.session.key)


def _enter_retryable_write(context: Context, number: int) -> None:
    session = context.session
    session.refuse_older(number)
    if number > session.number:
        session.advance(number, is_transaction=False)
    elif session.is_transaction:
        raise ServerError(50767, f"txnNumber {number} is that of a transaction")
    context.is_retryable_write = True


def _enter_transaction(context: Context, number: int) -> None:
    if context.name not in IN_TRANSACTIONS:
        raise ServerError(263, f"Cannot run '{context.name}' in a multi-document transaction.")
    if context.name not in TRANSACTION_ENDS and "writeConcern" in context.body:
        raise ServerError(72, "writeConcern is not allowed within a multi-statement transaction")
    transactions = context.member.transactions
    if context.body.get("startTransaction"):
        connection = context.connection
        context.transaction = transactions.begin(context.session, number, connection)
    elif context.name not in TRANSACTION_ENDS:
        context.transaction = transactions.find(
            context.session, number, context.member.bound_connection(context.connection)
        )
