# SPDX-License-Identifier: Apache-2.0
"""The client's side of SCRAM by hand (RFC 5802), for what no driver would say."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os

import raw

MECHANISMS = {"SCRAM-SHA-256": "sha256", "SCRAM-SHA-1": "sha1"}


class Scram:
    """One conversation, message by message; each can be changed before it is sent."""

    def __init__(self, name: str, password: str, mechanism: str = "SCRAM-SHA-256"):
        self.mechanism, self.digest = mechanism, MECHANISMS[mechanism]
        self.nonce = base64.b64encode(os.urandom(18)).decode()
        self.bare = f"n={name},r={self.nonce}"
        if self.digest == "sha1":
            password = hashlib.md5(f"{name}:mongo:{password}".encode()).hexdigest()
        self.password = password.encode()
        self.challenge = ""

    def start(self) -> dict:
        return {
            "saslStart": 1, "mechanism": self.mechanism, "payload": f"n,,{self.bare}".encode(),
            "options": {"skipEmptyExchange": True},
        }  # fmt: skip

    def _hmac(self, key: bytes, text: bytes) -> bytes:
        return hmac.new(key, text, self.digest).digest()

    def final(self, challenge: bytes) -> bytes:
        """The proof, from the server's first message."""
        self.challenge = challenge.decode()
        said = dict(part.split("=", 1) for part in self.challenge.split(","))
        salt, iterations = base64.b64decode(said["s"]), int(said["i"])
        salted = hashlib.pbkdf2_hmac(self.digest, self.password, salt, iterations)
        client_key = self._hmac(salted, b"Client Key")
        stored = hashlib.new(self.digest, client_key).digest()
        without = f"c=biws,r={said['r']}"
        self.auth_message = f"{self.bare},{self.challenge},{without}".encode()
        signature = self._hmac(stored, self.auth_message)
        proof = bytes(a ^ b for a, b in zip(client_key, signature))
        self.server_signature = self._hmac(self._hmac(salted, b"Server Key"), self.auth_message)
        return f"{without},p={base64.b64encode(proof).decode()}".encode()


def proceed(payload: bytes) -> dict:
    return {"saslContinue": 1, "conversationId": 1, "payload": payload}


def log_in(connection: raw.Connection, name: str, password: str, db: str = "admin") -> dict:
    """The last reply: ok is 1 if it went well."""
    scram = Scram(name, password)
    first = connection.ask(scram.start(), db=db)
    if not first["ok"]:
        return first
    return connection.ask(proceed(scram.final(first["payload"])), db=db)
