// SPDX-License-Identifier: Apache-2.0
//
// The error codes that weir knows or answers with, by their names in src/mongo/base/error_codes.yml
// of the server, which calls the nameless ones Location.

#ifndef WIRE_ERROR_CODE_H
#define WIRE_ERROR_CODE_H

#define ERROR_CODES(X)                                                                             \
    X(CODE_INTERNAL_ERROR, 1, "InternalError")                                                     \
    X(CODE_BAD_VALUE, 2, "BadValue")                                                               \
    X(CODE_HOST_UNREACHABLE, 6, "HostUnreachable")                                                 \
    X(CODE_HOST_NOT_FOUND, 7, "HostNotFound")                                                      \
    X(CODE_FAILED_TO_PARSE, 9, "FailedToParse")                                                    \
    X(CODE_USER_NOT_FOUND, 11, "UserNotFound")                                                     \
    X(CODE_UNAUTHORIZED, 13, "Unauthorized")                                                       \
    X(CODE_TYPE_MISMATCH, 14, "TypeMismatch")                                                      \
    X(CODE_PROTOCOL_ERROR, 17, "ProtocolError")                                                    \
    X(CODE_AUTHENTICATION_FAILED, 18, "AuthenticationFailed")                                      \
    X(CODE_ILLEGAL_OPERATION, 20, "IllegalOperation")                                              \
    X(CODE_INVALID_BSON, 22, "InvalidBSON")                                                        \
    X(CODE_NAMESPACE_NOT_FOUND, 26, "NamespaceNotFound")                                           \
    X(CODE_CURSOR_NOT_FOUND, 43, "CursorNotFound")                                                 \
    X(CODE_MAX_TIME_MS_EXPIRED, 50, "MaxTimeMSExpired")                                            \
    X(CODE_COMMAND_NOT_FOUND, 59, "CommandNotFound")                                               \
    X(CODE_INVALID_NAMESPACE, 73, "InvalidNamespace")                                              \
    X(CODE_SHUTDOWN_IN_PROGRESS, 91, "ShutdownInProgress")                                         \
    X(CODE_COMMAND_NOT_SUPPORTED, 115, "CommandNotSupported")                                      \
    X(CODE_FAILED_TO_SATISFY_READ_PREFERENCE, 133, "FailedToSatisfyReadPreference")                \
    X(CODE_MAX_STALENESS_OUT_OF_RANGE, 160, "MaxStalenessOutOfRange")                              \
    X(CODE_CLIENT_METADATA_MISSING_FIELD, 183, "ClientMetadataMissingField")                       \
    X(CODE_CLIENT_METADATA_APP_NAME_TOO_LARGE, 184, "ClientMetadataAppNameTooLarge")               \
    X(CODE_CLIENT_METADATA_DOCUMENT_TOO_LARGE, 185, "ClientMetadataDocumentTooLarge")              \
    X(CODE_CLIENT_METADATA_CANNOT_BE_MUTATED, 186, "ClientMetadataCannotBeMutated")                \
    X(CODE_PRIMARY_STEPPED_DOWN, 189, "PrimarySteppedDown")                                        \
    X(CODE_ILLEGAL_OP_MSG_FLAG, 223, "IllegalOpMsgFlag")                                           \
    X(CODE_TOO_MANY_DOCUMENT_SEQUENCES, 233, "TooManyDocumentSequences")                           \
    X(CODE_NOT_IMPLEMENTED, 238, "NotImplemented")                                                 \
    X(CODE_NO_SUCH_TRANSACTION, 251, "NoSuchTransaction")                                          \
    X(CODE_CHECKSUM_MISMATCH, 288, "ChecksumMismatch")                                             \
    X(CODE_MECHANISM_UNAVAILABLE, 334, "MechanismUnavailable")                                     \
    X(CODE_UNSUPPORTED_OP_QUERY_COMMAND, 352, "UnsupportedOpQueryCommand")                         \
    X(CODE_LOAD_BALANCER_SUPPORT_MISMATCH, 354, "LoadBalancerSupportMismatch")                     \
    X(CODE_QUERY_REJECTED_BY_SETTINGS, 411, "QueryRejectedBySettings")                             \
    X(CODE_INGRESS_REQUEST_RATE_LIMIT_EXCEEDED, 462, "IngressRequestRateLimitExceeded")            \
    X(CODE_LEGACY_NOT_PRIMARY, 10058, "LegacyNotPrimary")                                          \
    X(CODE_NOT_WRITABLE_PRIMARY, 10107, "NotWritablePrimary")                                      \
    X(CODE_BSON_OBJECT_TOO_LARGE, 10334, "BSONObjectTooLarge")                                     \
    X(CODE_INTERRUPTED_AT_SHUTDOWN, 11600, "InterruptedAtShutdown")                                \
    X(CODE_INTERRUPTED, 11601, "Interrupted")                                                      \
    X(CODE_INTERRUPTED_DUE_TO_REPL_STATE_CHANGE, 11602, "InterruptedDueToReplStateChange")         \
    X(CODE_NOT_PRIMARY_NO_SECONDARY_OK, 13435, "NotPrimaryNoSecondaryOk")                          \
    X(CODE_NOT_PRIMARY_OR_SECONDARY, 13436, "NotPrimaryOrSecondary")                               \
    X(CODE_IDL_UNKNOWN_FIELD, 40415, "IDLUnknownField")                                            \
    X(CODE_TWO_BODIES, 40430, "Location40430")                                                     \
    X(CODE_DUPLICATE_SEQUENCE, 40431, "Location40431")                                             \
    X(CODE_UNKNOWN_SECTION, 40432, "Location40432")                                                \
    X(CODE_FIELD_TWICE, 40433, "Location40433")                                                    \
    X(CODE_NO_DB, 40571, "Location40571")                                                          \
    X(CODE_NO_BODY, 40587, "Location40587")                                                        \
    X(CODE_DB_IN_QUERY, 40621, "Location40621")

enum error_code {
#define X(name, code, text) name = code,
    ERROR_CODES(X)
#undef X
};

#endif
