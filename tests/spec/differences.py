# SPDX-License-Identifier: Apache-2.0
"""The tests that pass directly and not through weir, and why that is meant to be so.

A pattern is a regular expression for the whole of "file Class.test". One that matches nothing on
this server is no fault: another server may have a test of that kind.
"""

from __future__ import annotations

import re

DIFFERENCES = (
)


def reason(file: str, test: str) -> str | None:
    for pattern, why in DIFFERENCES:
        if re.fullmatch(pattern, f"{file} {test}"):
            return why
    return None
