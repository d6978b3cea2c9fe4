# SPDX-License-Identifier: Apache-2.0
"""A clean root file system, and the same booted: with systemd as its first process."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import subprocess
import time
from pathlib import Path

import pytest

BOOT_TIMEOUT_S = 60
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive"}


def why_not() -> str | None:
    if os.geteuid() != 0:
        return "a clean root takes root"
    if platform.freedesktop_os_release().get("ID") != "debian":
        return "the package is for Debian"
    if not shutil.which("mmdebstrap"):
        return "no mmdebstrap on PATH"
    return None


@contextlib.contextmanager
def in_memory(path: Path):
    """A directory for roots: their tens of thousands of small files are made and removed in no time."""
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "roots", path], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)


class Root:
    """A directory to go into with chroot."""

    def __init__(self, path: Path):
        self.path = path

    def inside(self) -> list[str]:
        return ["chroot", str(self.path)]

    def run(self, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.inside(), *command], env={**ENVIRONMENT, **env},
            stdin=subprocess.DEVNULL, capture_output=True, text=True,
        )  # fmt: skip

    def must(self, *command: str, **env: str) -> str:
        done = self.run(*command, **env)
        assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
        return done.stdout

    def number_of(self, database: str, name: str) -> int:
        return int(self.must("getent", database, name).split(":")[2])

    def files_of(self, word: str) -> set[str]:
        """What is called so or is in a directory that is, but for the package manager's memory."""
        found = self.must("find", "/", "-xdev", "-path", f"*{word}*", "-print")
        return {line for line in found.splitlines() if not line.startswith("/var/lib/systemd/")}


def make_root(path: Path, *packages: str) -> Root:
    suite = platform.freedesktop_os_release()["VERSION_CODENAME"]
    done = subprocess.run(
        ["mmdebstrap", "--variant=apt", "--skip=cleanup/apt/lists", "--dpkgopt=force-unsafe-io",
         "--dpkgopt=path-exclude=/usr/share/locale/*", "--aptopt=Acquire::Languages \"none\"",
         f"--include={','.join(packages)}", suite, str(path)],
        stdin=subprocess.DEVNULL, capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode != 0:
        pytest.skip(f"no clean root can be had here: {done.stderr.strip().splitlines()[-1]}")
    return Root(path)


class Machine(Root):
    """A root that runs, on this machine's network. Its commands are run beside its processes."""

    def __enter__(self) -> Machine:
        log = self.path.with_suffix(".log")
        self._nspawn = subprocess.Popen(
            ["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--boot",
             "--console=read-only", "--timezone=off", f"--directory={self.path}"],
            stdin=subprocess.DEVNULL, stdout=open(log, "wb"), stderr=subprocess.STDOUT,
        )  # fmt: skip
        until = time.monotonic() + BOOT_TIMEOUT_S
        while not self._is_up():
            if self._nspawn.poll() is not None or time.monotonic() > until:
                self.__exit__()
                said = log.read_text(errors="replace").strip().splitlines()
                pytest.skip(f"systemd cannot be booted here: {said[-1:]}")
            time.sleep(0.1)
        return self

    def __exit__(self, *_: object) -> None:
        self._nspawn.terminate()  # an orderly shutdown
        try:
            self._nspawn.wait(30)
        except subprocess.TimeoutExpired:
            self._nspawn.kill()
            self._nspawn.wait()

    def inside(self) -> list[str]:
        nspawn = self._nspawn.pid
        first = Path(f"/proc/{nspawn}/task/{nspawn}/children").read_text().split()[0]
        return ["nsenter", "--all", f"--target={first}"]

    def _is_up(self) -> bool:
        try:
            return self.run("systemctl", "is-system-running", "--wait").stdout == "running\n"
        except (OSError, IndexError):  # it has no process yet
            return False
