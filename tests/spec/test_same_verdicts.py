# SPDX-License-Identifier: Apache-2.0
"""What passes directly passes through weir too, and what only runs through weir passes as well."""

from __future__ import annotations

import os

import pytest
from pymongo.uri_parser import parse_uri

import differences
import verdicts

FILES = (
    "test_retryable_reads_unified",
    "test_transactions_unified",
    "test_crud_unified",
    "test_change_stream",
    "test_retryable_writes_unified",
    "test_transactions",
    "test_session",
    "test_sessions_unified",
    "test_causal_consistency",
    "test_gridfs_spec",
    "test_run_command",
    "test_versioned_api",
)  # the slow ones first, since several run at a time


@pytest.fixture(scope="session")
def by_file():
    reason = _why_not()
    if reason:
        pytest.skip(reason)
    return verdicts.run_all(FILES)


def _why_not() -> str | None:
    if not (verdicts.SPEC / "test").exists():
        return "pymongo's tests are not there; `make test-spec` gets them"
    uri = os.environ.get("MONGODB_URI")
    if not uri:
        return None
    parts = parse_uri(uri)
    if parts["username"] or parts["options"].get("tls"):
        return "pymongo's tests find their own way to log in and to TLS, not that of $MONGODB_URI"
    return None


@pytest.mark.parametrize("file", FILES)
def test_no_verdict_is_worse_through_weir(by_file, file):
    by_way = by_file[file]
    assert any(one.word == "pass" for one in by_way["direct"].values()), "nothing passes directly"
    unexpected = [
        f"{name}: {by_way['direct'][name].word} directly, {by_way['weir'][name].word} through weir:"
        f" {by_way['weir'][name].why}"
        for name in verdicts.worse(by_way)
        if not differences.reason(file, name, by_way["weir"][name].why)
    ]
    assert not unexpected, "\n\n".join(["", *unexpected])
