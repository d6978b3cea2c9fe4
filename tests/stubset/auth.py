# SPDX-License-Identifier: Apache-2.0
"""Authentication: SCRAM-SHA-256 and -1, PLAIN, and MONGODB-X509 by the name that is claimed.

Passwords need no SASLprep here: give users plain ASCII ones.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
from dataclasses import dataclass, field

from bson import Binary

from .dispatch import Context, command
from .errors import ServerError

ITERATIONS = 4096
DIGESTS = {"SCRAM-SHA-256": "sha256", "SCRAM-SHA-1": "sha1"}
ALL_MECHANISMS = ("SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN", "MONGODB-X509")


@dataclass(frozen=True)
class User:
    name: str
    password: str = ""
    db: str = "admin"
    mechanisms: tuple[str, ...] = ("SCRAM-SHA-256", "SCRAM-SHA-1")

    @property
    def principal(self) -> str:
        return f"{self.name}@{self.db}"


@dataclass
class Logins:
    """How often it was tried on a member, and how."""

    started: int = 0
    speculative: int = 0
    succeeded: int = 0
    failed: int = 0
    by_mechanism: dict[str, int] = field(default_factory=dict)


def _failed(context: Context) -> ServerError:
    context.member.logins.failed += 1
    context.connection.conversation = None
    return ServerError(18, "Authentication failed.", misuse=False)


def _find(context: Context, name: str, db: str, mechanism: str) -> User:
    for user in context.stub.users:
        if (user.name, user.db) == (name, db) and mechanism in user.mechanisms:
            return user
    raise _failed(context)


def _let_in(context: Context, user: User, mechanism: str) -> None:
    context.connection.user = user.principal
    logins = context.member.logins
    logins.succeeded += 1
    logins.by_mechanism[mechanism] = logins.by_mechanism.get(mechanism, 0) + 1


class Scram:
    """The server's side of one conversation."""

    def __init__(self, user: User, mechanism: str, first: str, skip_empty: bool):
        self.user, self.mechanism, self.skip_empty = user, mechanism, skip_empty
        self._digest = DIGESTS[mechanism]
        self._bare = first.split(",", 2)[2]
        nonce = dict(part.split("=", 1) for part in self._bare.split(","))["r"]
        self._nonce = nonce + base64.b64encode(os.urandom(18)).decode()
        bytes_ = {"sha256": 28, "sha1": 16}[self._digest]  # as mongod's: libmongoc insists on it
        salt = hashlib.new(self._digest, user.principal.encode()).digest()[:bytes_]
        salt64 = base64.b64encode(salt).decode()
        self.challenge = f"r={self._nonce},s={salt64},i={ITERATIONS}"
        self._salted = self._salt(salt)
        self.is_proven = False

    def _salt(self, salt: bytes) -> bytes:
        password = self.user.password
        if self._digest == "sha1":
            clear = f"{self.user.name}:mongo:{password}".encode()
            password = hashlib.md5(clear).hexdigest()
        key = (self._digest, password, salt)
        if key not in _salted:
            _salted[key] = hashlib.pbkdf2_hmac(self._digest, password.encode(), salt, ITERATIONS)
        return _salted[key]

    def _hmac(self, key: bytes, data: bytes) -> bytes:
        return hmac.new(key, data, self._digest).digest()

    def prove(self, final: str) -> str | None:
        """The server's signature, None if the proof is wrong."""
        without, _, proof64 = final.rpartition(",p=")
        message = f"{self._bare},{self.challenge},{without}".encode()
        client_key = self._hmac(self._salted, b"Client Key")
        signature = self._hmac(hashlib.new(self._digest, client_key).digest(), message)
        proof = bytes(a ^ b for a, b in zip(client_key, signature))
        if f"r={self._nonce}" not in without or base64.b64decode(proof64) != proof:
            return None
        self.is_proven = True
        server_key = self._hmac(self._salted, b"Server Key")
        return "v=" + base64.b64encode(self._hmac(server_key, message)).decode()


_salted: dict[tuple, bytes] = {}


def mechanisms_of(context: Context) -> list[str] | None:
    db, _, name = context.body["saslSupportedMechs"].partition(".")
    for user in context.stub.users:
        if (user.db, user.name) == (db, name):
            return [mechanism for mechanism in user.mechanisms if mechanism in DIGESTS]
    return None


def speculate(context: Context) -> dict | None:
    """The reply to what came along with hello; whatever goes wrong, the field is left out."""
    asked = context.body["speculativeAuthenticate"]
    context.member.logins.speculative += 1
    try:
        if "authenticate" in asked:
            return _x509(context, asked)
        return _start(context, asked, asked.get("db", "admin"))
    except ServerError:
        return None


@command("saslStart", before_login=True)
def sasl_start(context: Context) -> dict:
    return _start(context, context.body, context.database)


def _start(context: Context, asked: dict, db: str) -> dict:
    mechanism, payload = asked["mechanism"], bytes(asked["payload"])
    context.member.logins.started += 1
    if mechanism == "PLAIN":
        _, name, password = payload.decode().split("\0")
        user = _find(context, name, db, mechanism)
        if user.password != password:
            raise _failed(context)
        _let_in(context, user, mechanism)
        return {"conversationId": 1, "done": True, "payload": Binary(b"", 0)}
    if mechanism not in DIGESTS:
        raise ServerError(334, f"Mechanism {mechanism} is not enabled", misuse=False)
    first = payload.decode()
    name = first.split(",")[2].removeprefix("n=").replace("=2C", ",").replace("=3D", "=")
    skip_empty = bool(asked.get("options", {}).get("skipEmptyExchange"))
    talk = Scram(_find(context, name, db, mechanism), mechanism, first, skip_empty)
    context.connection.conversation = talk
    return {"conversationId": 1, "done": False, "payload": Binary(talk.challenge.encode(), 0)}


@command("saslContinue", before_login=True)
def sasl_continue(context: Context) -> dict:
    talk = context.connection.conversation
    if talk is None or context.body.get("conversationId") != 1:
        raise ServerError(17, "No SASL session state found")
    if not talk.is_proven:
        signature = talk.prove(bytes(context.body["payload"]).decode())
        if signature is None:
            raise _failed(context)
        if talk.skip_empty:
            _finish(context, talk)
        return _continued(signature, done=talk.skip_empty)
    _finish(context, talk)
    return _continued("", done=True)


def _continued(payload: str, done: bool) -> dict:
    return {"conversationId": 1, "done": done, "payload": Binary(payload.encode(), 0)}


def _finish(context: Context, talk: Scram) -> None:
    context.connection.conversation = None
    _let_in(context, talk.user, talk.mechanism)


@command("authenticate", before_login=True)
def authenticate(context: Context) -> dict:
    context.member.logins.started += 1
    return _x509(context, context.body)


def _x509(context: Context, asked: dict) -> dict:
    name = asked.get("user") or context.connection.peer_name
    user = _find(context, name or "", "$external", "MONGODB-X509")
    _let_in(context, user, "MONGODB-X509")
    return {"dbname": "$external", "user": user.name}
