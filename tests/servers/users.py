# SPDX-License-Identifier: Apache-2.0
"""Users of weir, as `weir user add` makes them, in a file that weir is started with."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from urllib.parse import quote_plus

import weir


def add(name: str, password: str, *flags: str) -> str:
    """The entry for the file, by weir itself."""
    made = subprocess.run(
        [weir.default_binary(), "user", "add", name, *flags],
        input=password + "\n", capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    return made.stdout


def certificate(subject: str, *lines: str) -> str:
    """The entry of a user who shows a certificate."""
    return "\n    ".join([f'  - name: "{subject}"', "db: $external", *lines, ""])


def file(*entries: str, more: str = "") -> Path:
    """A configuration with these users, kept until the tests end."""
    path = Path(tempfile.mkdtemp(prefix="weir-users-")) / "weir.yaml"
    path.write_text("users:\n" + "\n".join(entries) + "\n" + more)
    path.chmod(0o600)
    return path


def uri_for(uri: str, name: str, password: str, **options: str) -> str:
    """The same URI, for that user."""
    uri = uri.replace("//", f"//{quote_plus(name)}:{quote_plus(password)}@", 1)
    words = "&".join(f"{key}={quote_plus(value)}" for key, value in options.items())
    if not words:
        return uri
    return f"{uri}{'&' if '?' in uri else '?'}{words}"
