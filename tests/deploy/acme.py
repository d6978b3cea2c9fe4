# SPDX-License-Identifier: Apache-2.0
"""Pebble, the certificate authority that Let's Encrypt tests with, on loopback."""

from __future__ import annotations

import json
import os
import shutil
import ssl
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest
import servers

MODULE = "github.com/letsencrypt/pebble/v2"
VERSION = "v2.10.3"
START_TIMEOUT_S = 20


def _go(*arguments: str, **env: str) -> str:
    done = subprocess.run(
        ["go", *arguments], cwd="/", env={**os.environ, **env}, capture_output=True, text=True
    )
    if done.returncode != 0:
        pytest.skip(f"pebble does not build: {done.stderr.strip().splitlines()[-1]}")
    return done.stdout


class Pebble:
    """Issues what is asked for, once it has looked at `http_port` whether whoever asks has the name."""

    def __init__(self, directory: Path):
        if not shutil.which("go"):
            pytest.skip("no Go on PATH to build pebble")
        _go("install", f"{MODULE}/cmd/pebble@{VERSION}", GOBIN=str(servers.BUILD / "pebble"))
        source = Path(json.loads(_go("mod", "download", "-json", f"{MODULE}@{VERSION}"))["Dir"])
        port, self._management, self.http_port = (servers.free_port() for _ in range(3))
        self.certificates = source / "test/certs"
        config = {
            "listenAddress": f"127.0.0.1:{port}",
            "managementListenAddress": f"127.0.0.1:{self._management}",
            "certificate": str(self.certificates / "localhost/cert.pem"),
            "privateKey": str(self.certificates / "localhost/key.pem"),
            "httpPort": self.http_port,
            "retryAfter": {"authz": 1, "order": 1},
            "profiles": {"default": {"description": "", "validityPeriod": 7776000}},
        }
        file = directory / "pebble.json"
        file.write_text(json.dumps({"pebble": config}))
        self.url = f"https://localhost:{port}/dir"
        self.ca = (self.certificates / "pebble.minica.pem").read_text()
        self._child = subprocess.Popen(
            [servers.BUILD / "pebble/pebble", "-config", file], env={**os.environ, "PEBBLE_VA_NOSLEEP": "1"},
            stdin=subprocess.DEVNULL, stdout=open(directory / "pebble.log", "wb"), stderr=subprocess.STDOUT,
        )  # fmt: skip

    def __enter__(self) -> Pebble:
        until = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                self.root = self._ask("roots/0")
                return self
            except OSError:
                assert self._child.poll() is None and time.monotonic() < until
                time.sleep(0.05)

    def __exit__(self, *_: object) -> None:
        self._child.terminate()
        self._child.wait()

    def _ask(self, path: str) -> str:
        trust = ssl.create_default_context(cadata=self.ca)
        url = f"https://localhost:{self._management}/{path}"
        return urllib.request.urlopen(url, context=trust, timeout=10).read().decode()
