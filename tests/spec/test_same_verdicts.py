# SPDX-License-Identifier: Apache-2.0
"""What passes directly passes through weir too."""

from __future__ import annotations

import pymongo.uri_parser
import pytest

import differences
import servers
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
    return None


@pytest.mark.parametrize("file", FILES)
def test_what_passes_directly_passes_through_weir(by_file, file):
    direct, through = by_file[file]["direct"], by_file[file]["weir"]
    assert any(one.word == "pass" for one in direct.values()), "nothing passes directly"
    unexpected = [
        f"{test}: {through[test].word}: {through[test].why}"
        for test, one in direct.items()
        if one.word == "pass"
        and through[test].word != "pass"
        and not differences.reason(file, test)
    ]
    assert not unexpected, "\n\n".join(["", *unexpected])
