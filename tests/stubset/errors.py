# SPDX-License-Identifier: Apache-2.0
"""What a server answers when it refuses, with the labels that it adds."""

from __future__ import annotations

NAMES = {
    2: "BadValue", 6: "HostUnreachable", 7: "HostNotFound", 9: "FailedToParse", 13: "Unauthorized",
    14: "TypeMismatch", 17: "ProtocolError", 18: "AuthenticationFailed", 20: "IllegalOperation",
    22: "InvalidBSON", 26: "NamespaceNotFound", 43: "CursorNotFound", 48: "NamespaceExists",
    50: "MaxTimeMSExpired", 59: "CommandNotFound", 72: "InvalidOptions", 73: "InvalidNamespace",
    89: "NetworkTimeout", 91: "ShutdownInProgress", 100: "CannotSatisfyWriteConcern",
    112: "WriteConflict", 117: "ConflictingOperationInProgress",
    134: "ReadConcernMajorityNotAvailableYet", 186: "ClientMetadataCannotBeMutated",
    189: "PrimarySteppedDown", 204: "TimeProofMismatch", 211: "KeyNotFound",
    223: "IllegalOpMsgFlag", 225: "TransactionTooOld", 233: "TooManyDocumentSequences",
    238: "NotImplemented", 251: "NoSuchTransaction", 256: "TransactionCommitted",
    260: "InvalidResumeToken", 262: "ExceededTimeLimit", 263: "OperationNotSupportedInTransaction",
    288: "ChecksumMismatch", 334: "MechanismUnavailable", 352: "UnsupportedOpQueryCommand",
    354: "LoadBalancerSupportMismatch", 462: "IngressRequestRateLimitExceeded",
    9001: "SocketException", 10107: "NotWritablePrimary", 10334: "BSONObjectTooLarge",
    11000: "DuplicateKey", 11600: "InterruptedAtShutdown", 11601: "Interrupted",
    11602: "InterruptedDueToReplStateChange", 13435: "NotPrimaryNoSecondaryOk",
    13436: "NotPrimaryOrSecondary",
}  # fmt: skip

NOT_PRIMARY = frozenset((10107, 13435, 10058))
RECOVERING = frozenset((189, 11602, 13436))
SHUTDOWN = frozenset((91, 11600))
STATE_CHANGES = NOT_PRIMARY | RECOVERING | SHUTDOWN
RETRYABLE = STATE_CHANGES | {6, 7, 89, 262, 9001}
TRANSIENT = RETRYABLE | {112, 246, 251}
RESUMABLE = RETRYABLE | {63, 133, 150, 234, 13388}
CLOSES_AFTER = frozenset((223, 233, 288))  # the stream cannot be trusted any more

LABELS_SINCE_WIRE = 9


class ServerError(Exception):
    """An error reply. `misuse`: no right client gets it, so it belongs into StubSet.rejections."""

    def __init__(self, code: int, message: str, *, misuse: bool = True, **fields):
        super().__init__(message)
        self.code = code
        self.misuse = misuse
        self.fields = fields

    def document(self) -> dict:
        return error(self.code, str(self)) | self.fields


def error(code: int, message: str) -> dict:
    return {
        "ok": 0.0,
        "errmsg": message,
        "code": code,
        "codeName": NAMES.get(code, f"Location{code}"),
    }


def labels(code: int, body: dict, name: str, of_change_stream: bool) -> list[str]:
    """What mongod labels a command's failure with that code. `body` is the command."""
    found = []
    ends_transaction = name in ("commitTransaction", "abortTransaction")
    in_transaction = body.get("autocommit") is False
    if code in RETRYABLE and (ends_transaction or ("txnNumber" in body and not in_transaction)):
        found.append("RetryableWriteError")
    if in_transaction and (code == 251 if name == "commitTransaction" else code in TRANSIENT):
        if name != "abortTransaction":
            found.append("TransientTransactionError")
    if of_change_stream and code in RESUMABLE:
        found.append("ResumableChangeStreamError")
    return found
