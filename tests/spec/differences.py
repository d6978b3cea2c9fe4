# SPDX-License-Identifier: Apache-2.0
"""The tests that may end worse through weir than directly, and why that is as it should be.

A pattern is a regular expression for the whole of "file Class.test". One that matches nothing is no
fault: what ends differently depends on the server too.
"""

from __future__ import annotations

import re

LOST = (
    "the server closes a connection; a client connected to it sees that, one of weir gets code 6"
    " in its place, as from a mongos, and keeps its connection and its session"
)
STATE_CHANGE = (
    "a code that says the server changed its state is passed on as 6, as from a mongos, or the"
    " driver would give up weir itself"
)
NO_CLUSTER_TIME = "the runner looks for $clusterTime in hello, where weir says none"
NOT_SHARDED = "for a sharded cluster, and behind weir is a replica set: "
NO_RECOVERY_TOKEN = NOT_SHARDED + "its transactions have no recoveryToken"
ONE_SERVER = NOT_SHARDED + "the other router finds the transaction, since both have one server"
NO_COMMAND = NOT_SHARDED + "it does not know the command"

DIFFERENCES = (
    (r"test_retryable_reads_unified .*\.test_EstimatedDocumentCount_fails_on_.*_attempt", LOST),
    (r"test_crud_unified .*\.test_estimatedDocumentCount_errors_correctly--socket_error", LOST),
    (r"test_retryable_writes_unified .*_with_two_network_errors_fails_after_retry", LOST),
    (r"test_sessions_unified .*\.test_Dirty_.*_session_is_discarded_.*", LOST),
    (r"test_run_command .*\.test_does_not_retry_retryable_errors_on_given_command", LOST),
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


def reason(file: str, test: str) -> str | None:
    for pattern, why in DIFFERENCES:
        if re.fullmatch(pattern, f"{file} {test}"):
            return why
    return None
