# SPDX-License-Identifier: Apache-2.0
"""Finds ../servers, and prints the table of verdicts under pytest's own summary."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "servers"))

import verdicts  # noqa: E402


def pytest_terminal_summary(terminalreporter):
    if verdicts.TABLE.exists():
        terminalreporter.section("specification tests, directly and through weir")
        terminalreporter.write_line(verdicts.TABLE.read_text())


def pytest_sessionstart():
    verdicts.TABLE.unlink(missing_ok=True)
