# SPDX-License-Identifier: Apache-2.0
"""The tests that may end worse through weir than directly, and why that is as it should be.

A pattern is a regular expression for the whole of "file Class.test". One that matches nothing is no
fault: what ends differently depends on the server too. What weir's sending it again explains must
have ended just so, too: by success, or after fewer commands of the driver.
"""

from __future__ import annotations

import re

LOST = (
    "the server closes a connection; a client connected to it drops the session then, one of weir"
    " does not: weir sends the command again or answers with code 6, as a mongos does"
)
STATE_CHANGE = (
    "a code that says the server changed its state is passed on as 6, as from a mongos, or the"
    " driver would give up weir itself"
)
SENT_AGAIN = (
    "weir itself sends a read or a retryable write again, so the driver need not, and the failpoint"
    " is used up before the driver gives up"
)
NO_CLUSTER_TIME = "the runner looks for $clusterTime in hello, where weir says none"
NOT_SHARDED = "for a sharded cluster, and behind weir is a replica set: "
NO_RECOVERY_TOKEN = NOT_SHARDED + "its transactions have no recoveryToken"
ONE_SERVER = NOT_SHARDED + "the other router finds the transaction, since both have one server"
NO_COMMAND = NOT_SHARDED + "it does not know the command"

DIFFERENCES = (
    (r"test_sessions_unified .*\.test_Dirty_.*_session_is_discarded_.*", LOST),
    (r"test_crud_unified .*\.test_a_write_concern_error_occurs_during_a_bulkWrite", STATE_CHANGE),
    (r"test_retryable_writes_unified .*_fails_after_retryable_(top-level_e|writeConcernE)rror",
     STATE_CHANGE),
    (r"test_retryable_writes_unified .*ServerErrors\..*_with_retryWrites:_false_does_not_retry",
     STATE_CHANGE),
    (r"test_session TestClusterTime\.test_cluster_time(_not_used_by_sdam)?", NO_CLUSTER_TIME),
    (r"test_transactions_unified .*\.test_abortTransaction_sends_recoveryToken",
     NO_RECOVERY_TOKEN),
    (r"test_transactions_unified .*_explicit_retries_include_recoveryToken", NO_RECOVERY_TOKEN),
    (r"test_transactions_unified .*_retry_succeeds_on_new_mongos", NO_RECOVERY_TOKEN),
    (r"test_transactions_unified .*_after_transient_error_within_a_transaction",
     NO_RECOVERY_TOKEN),
    (r"test_transactions_unified .*_after_non-transient_Interrupted_error_on_insertOne",
     NO_RECOVERY_TOKEN),
    (r"test_transactions_unified .*_retry_fails_on_new_mongos", ONE_SERVER),
    (r"test_transactions_unified .*_after_transient_error_within_a_transaction_and_commit",
     ONE_SERVER),
    (r"test_change_stream .*,_shardCollection_events_are_reported", NO_COMMAND),
    (r"test_run_command .*_executes_checkMetadataConsistency_cursor_creating_command", NO_COMMAND),
)  # fmt: skip


STATE_CHANGES = (
    "InterruptedAtShutdown|InterruptedDueToReplStateChange|NotPrimaryNoSecondaryOk"
    "|NotPrimaryOrSecondary|NotWritablePrimary|PrimarySteppedDown|ShutdownInProgress"
)
TESTS_OF_RETRIES = (
    rf"test_retryable_reads_unified .*_succeeds_after_({STATE_CHANGES})",
    r"test_retryable_reads_unified .*_succeeds_on_second_attempt(_with_explicit_clientOptions)?",
    r"test_retryable_reads_unified .*_fails_after_NotWritablePrimary_when_retryReads_is_false",
    r"test_retryable_reads_unified .*_fails_after_two_NotWritablePrimary_errors",
    r"test_retryable_reads_unified .*_fails_on_(first|second)_attempt",
    r"test_retryable_writes_unified .*_succeeds_after_retryable_writeConcernError",
    r"test_retryable_writes_unified .*_succeeds_after_retryable_writeConcernError_in_first_batch",
    r"test_retryable_writes_unified .*_succeeds_after_retryable_top-level_error",
    r"test_retryable_writes_unified .*_with_one_network_error_succeeds_after_retry",
    r"test_retryable_writes_unified .*_with_two_network_errors_fails_after_retry",
    r"test_retryable_writes_unified .*_label_after_two_connection_failures",
    r"test_retryable_writes_unified .*_fails_if_server_does_not_return_RetryableWriteError",
    r"test_sessions_unified .*_is_not_sent_on_retried_read_in_implicit_session_.*",
    r"test_crud_unified .*\.test_estimatedDocumentCount_errors_correctly--socket_error",
    r"test_run_command .*\.test_does_not_retry_retryable_errors_on_given_command",
)
NEEDED_LESS = (
    r"AssertionError: (1 != 2|2 != 3) : expected events:",
    r"AssertionError: Expected error .* but .* succeeded",
)


def reason(file: str, test: str, said: str) -> str | None:
    """Why this one may end worse, having said that. None: it may not."""
    name = f"{file} {test}"
    for pattern, why in DIFFERENCES:
        if re.fullmatch(pattern, name):
            return why
    needed_less = any(re.match(pattern, said, re.DOTALL) for pattern in NEEDED_LESS)
    if needed_less and any(re.fullmatch(pattern, name) for pattern in TESTS_OF_RETRIES):
        return SENT_AGAIN
    return None
