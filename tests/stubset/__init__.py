# SPDX-License-Identifier: Apache-2.0
"""A stub of a whole deployment, with the server's rules; see README.md."""

import sys
from pathlib import Path

for directory in ("drivers", "servers"):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / directory))

from .auth import User  # noqa: E402
from .stub_set import StubSet  # noqa: E402

__all__ = ["StubSet", "User"]
