# SPDX-License-Identifier: Apache-2.0
"""The package of `make deb` in a clean root: installed, started before a real server, purged.

A root has no systemd: weir is started by hand, as the unit does it: as the user, with the directory of
its socket. What the unit says beyond that, its sandbox for one, is not tried here.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pymongo
import pytest
import servers
import weir

WEIR_YAML = "etc/weir/weir.yaml"


class Root:
    """A directory to chroot into."""

    def __init__(self, path: Path):
        self.path = path

    def run(self, *command: str, as_user: str | None = None, **env: str):
        who = [f"--userspec={as_user}"] if as_user else []
        return subprocess.run(
            ["chroot", *who, str(self.path), *command],
            stdin=subprocess.DEVNULL, capture_output=True, text=True,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive", **env},
        )  # fmt: skip

    def must(self, *command: str, **more: str) -> str:
        done = self.run(*command, **more)
        assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
        return done.stdout

    def number_of(self, database: str, name: str) -> int:
        return int(self.must("getent", database, name).split(":")[2])

    def files_of_weir(self) -> set[str]:
        """What is called weir or is in a directory that is, but for dpkg's memory of its conffiles."""
        found = self.must("find", "/", "-xdev", "-path", "*weir*", "-print")
        return {line for line in found.splitlines() if not line.startswith("/var/lib/systemd/")}


def why_not() -> str | None:
    if os.geteuid() != 0:
        return "a clean root takes root"
    if platform.freedesktop_os_release().get("ID") != "debian":
        return "the package is for Debian"
    if not shutil.which("mmdebstrap"):
        return "no mmdebstrap on PATH"
    return None


def make_root(path: Path) -> Root:
    suite = platform.freedesktop_os_release()["VERSION_CODENAME"]
    done = subprocess.run(
        ["mmdebstrap", "--variant=apt", "--skip=cleanup/apt/lists", "--dpkgopt=force-unsafe-io",
         "--dpkgopt=path-exclude=/usr/share/locale/*", "--aptopt=Acquire::Languages \"none\"",
         suite, str(path)],
        stdin=subprocess.DEVNULL, capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode != 0:
        pytest.skip(f"no clean root can be had here: {done.stderr.strip().splitlines()[-1]}")
    return Root(path)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A clean root with the package installed by apt, so with what it depends on and nothing else."""
    if reason := why_not():
        pytest.skip(reason)
    packages = list((servers.BUILD / "deb").glob("weir_*.deb"))
    assert len(packages) == 1, f"make deb made {packages}"
    path = tmp_path_factory.mktemp("clean") / "root"
    try:
        root = make_root(path)
        assert root.files_of_weir() == set()
        shutil.copy(packages[0], path / "package.deb")
        root.must("apt-get", "-q", "-y", "install", "--no-install-recommends", "/package.deb")
        yield root
    finally:
        shutil.rmtree(path, ignore_errors=True)


def test_is_built_from_what_the_build_installs():
    """packages.sh and the package name the same libraries."""
    deploy = servers.ROOT / "deploy"
    script = (deploy / "packages.sh").read_text().split("build)")[1].split(";;")[0]
    installed = set(re.findall(r"[a-z0-9.]+-dev", script)) - {"libc6-dev"}
    control = (deploy / "debian/control").read_text().split("\n\n")[0]
    assert set(re.findall(r"[a-z0-9.]+-dev", control)) == installed


def test_configuration_is_weirs_and_roots_alone(root):
    status = (root.path / WEIR_YAML).stat()
    assert stat.S_IMODE(status.st_mode) == 0o640
    assert (status.st_uid, status.st_gid) == (0, root.number_of("group", "weir"))
    assert root.must("dpkg-query", "-W", "-f=${Conffiles}", "weir").split()[0] == f"/{WEIR_YAML}"


def test_is_not_enabled_and_says_what_is_missing(root):
    assert list((root.path / "etc/systemd/system").rglob("weir.service")) == []
    done = root.run("weir", "--config", f"/{WEIR_YAML}", as_user="weir:weir")
    assert done.returncode == 2 and "WEIR_URI" in done.stderr.splitlines()[-1]


def test_runs_as_its_user(root, secantus, tmp_path):
    user, group = root.number_of("passwd", "weir"), root.number_of("group", "weir")
    assert user != 0 and group != 0
    run = root.path / "run/weir"  # RuntimeDirectory=
    run.mkdir(mode=0o700)
    os.chown(run, user, group)
    wrapper = tmp_path / "weir"
    wrapper.write_text(f'#!/bin/sh\nexec chroot --userspec=weir:weir {root.path} weir "$@"\n')
    wrapper.chmod(0o755)
    uri = {"env": {"XDG_RUNTIME_DIR": "/run"}, "binary": wrapper}
    with weir.Weir(secantus.uri, "--config", f"/{WEIR_YAML}", "--http-port", "0", **uri) as proxy:
        assert os.stat(f"/proc/{proxy.pid}").st_uid == user
        with pymongo.MongoClient(proxy.uri) as client:
            client.clean.root.insert_one({"_id": 1})
            assert client.clean.root.find_one() == {"_id": 1}
        # The image's HEALTHCHECK, and root's way in.
        root.must("weir", "ctl", "status", as_user="weir:weir", XDG_RUNTIME_DIR="/run")
        root.must("weir", "ctl", "--port", str(proxy.port), "status")
    assert root.run("weir", "ctl", "status").returncode != 0
    run.rmdir()


def test_zz_purge_leaves_nothing_but_the_user(root):
    """The last: what the administrator changed stays when it is removed, and goes when it is purged."""
    with open(root.path / WEIR_YAML, "a") as file:
        file.write("# mine\n")
    root.must("apt-get", "-q", "-y", "remove", "weir")
    assert not (root.path / "usr/bin/weir").exists()
    assert (root.path / WEIR_YAML).read_text().endswith("# mine\n")
    root.must("apt-get", "-q", "-y", "purge", "weir")
    assert root.files_of_weir() == set()
    assert root.number_of("passwd", "weir")
