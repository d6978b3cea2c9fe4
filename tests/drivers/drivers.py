# SPDX-License-Identifier: Apache-2.0
"""The drivers weir is tested with, each as a program that is built on first use.

All take the same environment and print the same lines (README.md), so that one test file asks the
same of all of them.
"""

from __future__ import annotations

import fcntl
import functools
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

import servers

HERE = Path(__file__).resolve().parent
BUILD = servers.BUILD / "drivers"
OLD_PYMONGO = "4.7.3"
NODE_NEEDED = (20, 19)  # by version 7 of its driver


@dataclass(frozen=True)
class Driver:
    """One driver. `backs_off`: it knows the labels of an overloaded server and retries by itself.
    `is_old`: there is a newer one of the same language here."""

    name: str
    backs_off: bool
    is_old: bool
    why_not: Callable[[], str | None]
    command: Callable[[str], list[str]]  # of a program's name: "checks" or "shedding"
    environment: dict[str, str] = field(default_factory=dict)

    def start(
        self,
        program: str,
        uri: str,
        features: frozenset[str],
        threads: int = 64,
        work: str = "",
        **more: object,
    ):
        environment = {
            "URI": uri, "FEATURES": " ".join(sorted(features)), "DATABASE": "checks",
            "THREADS": str(threads), "WORK": work, "PYTHONPATH": "", **self.environment,
        }  # fmt: skip
        return subprocess.Popen(
            self.command(program), env={**os.environ, **environment}, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **more,
        )  # fmt: skip


def _run(arguments: list[object], directory: Path) -> None:
    done = subprocess.run(
        [str(argument) for argument in arguments], cwd=directory, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, f"{arguments} failed:\n{done.stdout}"


def _once(directory: Path, wanted: str, make: Callable[[], None]) -> None:
    """Makes a directory of BUILD anew unless what it was made of is what is wanted now. Others that
    test at the same time want it, too, and run what is in it."""
    BUILD.mkdir(parents=True, exist_ok=True)
    stamp = directory / "made-of"
    with open(f"{directory}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if stamp.exists() and stamp.read_text() == wanted:
            return
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
        make()
        stamp.write_text(wanted)


def _text_of(*paths: Path) -> str:
    """Of all that a program is made of."""
    return "\n".join(f"{path}\n{path.read_text()}" for path in sorted(paths))


def _is_missing(*programs: str) -> str | None:
    missing = [program for program in programs if not shutil.which(program)]
    return f"no {' and no '.join(missing)} on PATH" if missing else None


def _always() -> None:
    return None


def _pymongo(program: str) -> list[str]:
    return [sys.executable, str(HERE / "python" / f"{program}.py")]


def python_with_pymongo(version: str) -> str:
    """A Python that has this version."""
    directory = BUILD / f"pymongo-{version}"
    python = directory / "bin" / "python"

    def make() -> None:
        _run([sys.executable, "-m", "venv", directory], HERE)
        _run([python, "-m", "pip", "install", "--quiet", f"pymongo=={version}"], HERE)

    _once(directory, version, make)
    return str(python)


def _old_pymongo(program: str) -> list[str]:
    return [python_with_pymongo(OLD_PYMONGO), str(HERE / "python" / f"{program}.py")]


def _why_no_new_node() -> str | None:
    missing = _is_missing("node", "npm")
    if missing:
        return missing
    said = subprocess.run(["node", "--version"], capture_output=True, text=True).stdout
    version = tuple(int(part) for part in re.findall(r"\d+", said)[:2])
    wanted = ".".join(map(str, NODE_NEEDED))
    return None if version >= NODE_NEEDED else f"it needs Node {wanted}, this is {said.strip()}"


def _node_modules() -> Path:
    directory = BUILD / "node"
    lock = HERE / "node" / "package-lock.json"

    def make() -> None:
        shutil.copy(lock, directory)
        shutil.copy(lock.with_name("package.json"), directory)
        _run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], directory)

    _once(directory, lock.read_text(), make)
    return directory / "node_modules"


def _node(program: str) -> list[str]:
    _node_modules()
    return ["node", str(HERE / "node" / f"{program}.js")]


def _why_no_go(version: str) -> str | None:
    missing = _is_missing("go")
    if missing:
        return missing
    # Asked where go.mod is: that is where a Go that is too old says so, or fetches a newer one.
    asked = subprocess.run(
        ["go", "env", "GOVERSION"], cwd=HERE / "go" / version, capture_output=True, text=True
    )
    wanted = re.search(r"^go (.*)", (HERE / "go" / version / "go.mod").read_text(), re.M)[1]
    if asked.returncode != 0:
        return f"it needs Go {wanted}: {asked.stderr.strip()}"
    numbers = [tuple(map(int, re.findall(r"\d+", text)[:2])) for text in (asked.stdout, wanted)]
    return None if numbers[0] >= numbers[1] else f"it needs Go {wanted}, this is {asked.stdout}"


@functools.cache
def _go_program(version: str) -> Path:
    """Version 1 is built from version 2's program, but for driver.go and the import paths."""
    source = BUILD / f"go-{version}"

    def make() -> None:
        shutil.copytree(HERE / "go" / "v2", source, dirs_exist_ok=True)
        if version == "v1":
            for path in source.glob("*.go"):
                path.write_text(path.read_text().replace("mongo-driver/v2/", "mongo-driver/"))
            shutil.copytree(HERE / "go" / "v1", source, dirs_exist_ok=True)
        _run(["go", "build", "-trimpath", "-buildvcs=false", "-o", "program", "."], source)

    _once(source, _text_of(*(HERE / "go").glob("v*/*")), make)
    return source / "program"


def _go(version: str, program: str) -> list[str]:
    return [str(_go_program(version)), program]


def _why_no_libmongoc() -> str | None:
    missing = _is_missing("cc", "pkg-config")
    if missing:
        return missing
    there = subprocess.run(["pkg-config", "--exists", "libmongoc-1.0"]).returncode == 0
    return None if there else "pkg-config knows no libmongoc-1.0"


@functools.cache
def _libmongoc_program() -> Path:
    asked = ["pkg-config", "--cflags", "--libs", "libmongoc-1.0"]
    flags = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    sources = sorted((HERE / "libmongoc").glob("*.c"))
    program = BUILD / "libmongoc" / "program"
    warnings = ["-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Werror"]
    command = ["cc", "-std=gnu11", "-D_GNU_SOURCE", "-O1", *warnings, "-pthread", "-o", program]
    command += [*sources, *flags.replace("-I", "-isystem").split()]
    wanted = _text_of(*(HERE / "libmongoc").iterdir()) + flags
    _once(program.parent, wanted, lambda: _run(command, HERE))
    return program


def _libmongoc(program: str) -> list[str]:
    return [str(_libmongoc_program()), program]


def _node_environment(package: str) -> dict[str, str]:
    return {"DRIVER": package, "NODE_PATH": str(BUILD / "node" / "node_modules")}


DRIVERS = {
    driver.name: driver
    for driver in (
        Driver("pymongo", True, False, _always, _pymongo),
        Driver("pymongo-4.7", False, True, _always, _old_pymongo),
        Driver("node", True, False, _why_no_new_node, _node, _node_environment("mongodb")),
        Driver(
            "node-6", False, True, lambda: _is_missing("node", "npm"), _node,
            _node_environment("mongodb-old"),
        ),
        Driver("go", True, False, lambda: _why_no_go("v2"), functools.partial(_go, "v2")),
        Driver("go-1", False, True, lambda: _why_no_go("v1"), functools.partial(_go, "v1")),
        Driver("libmongoc", False, False, _why_no_libmongoc, _libmongoc),
    )
}  # fmt: skip
