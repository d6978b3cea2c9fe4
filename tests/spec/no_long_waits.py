# SPDX-License-Identifier: Apache-2.0
"""A plugin for pytest, for all runs of pymongo's tests: who waits for a secondary that a set of one
will never have gives up after 3 s instead of 30."""

from __future__ import annotations

from pymongo import common

common.SERVER_SELECTION_TIMEOUT = 3
