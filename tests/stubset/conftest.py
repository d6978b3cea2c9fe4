# SPDX-License-Identifier: Apache-2.0
"""Sets for the tests of the stub itself. A right driver, pymongo, must never be rejected."""

from __future__ import annotations

import contextlib

import pymongo
import pytest

from . import StubSet


@pytest.fixture
def stubs():
    """Makes sets, ends them, and looks whether they rejected anything unless told to expect it."""
    with contextlib.ExitStack() as stack:

        def make(*arguments, rejects: bool = False, **named) -> StubSet:
            stub = stack.enter_context(StubSet(*arguments, **named))
            if not rejects:
                stack.callback(lambda: _assert_none(stub))
            return stub

        yield make


def _assert_none(stub: StubSet) -> None:
    assert not stub.rejections


@pytest.fixture
def connect():
    with contextlib.ExitStack() as stack:

        def open_client(uri: str, **options) -> pymongo.MongoClient:
            options = {"serverSelectionTimeoutMS": 10_000, "heartbeatFrequencyMS": 1000} | options
            return stack.enter_context(pymongo.MongoClient(uri, **options))

        yield open_client
