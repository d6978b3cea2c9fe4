# SPDX-License-Identifier: Apache-2.0
"""The buildpack, and a dyno that is started by its bin/start-weir before a real server.

`make test-heroku` ($WHOLE_BUILDPACK) runs all of it as the platform does: bin/compile in a root that has
what the stack's build image has, by somebody who is not root; then the slug in another root, which has
what the run image has. That takes minutes. Else the slug is laid out as bin/compile does, with the weir
that is built already.

The roots are Debian's, the stacks are Ubuntu's: which packages are there is as on heroku-24, their
versions are not.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pymongo
import pytest
import roots
import servers
import weir

WHOLE = bool(os.environ.get("WHOLE_BUILDPACK"))
PACK = servers.ROOT / "deploy/heroku"
USER = 1000
CAP = 20

# Of what heroku-24 has, what concerns weir, an app in Python, and who looks into a dyno.
RUN_IMAGE = [
    "bash", "ca-certificates", "libev4", "libgnutls30", "libicu72", "libidn12", "libncursesw6",
    "libsasl2-2", "libssl3", "libyaml-0-2", "libzstd1", "openssl", "procps", "python3", "zlib1g",
]  # fmt: skip
BUILD_IMAGE = [
    "build-essential", "cmake", "git", "libev-dev", "libssl-dev", "libyaml-dev", "libzstd-dev",
    "pkgconf", "zlib1g-dev",
]  # fmt: skip

APP = """
import os, pymongo, signal, sys, time
print("uri", os.environ["MONGODB_URI"], flush=True)
client = pymongo.MongoClient(os.environ["MONGODB_URI"])
orders = client.get_default_database().orders
orders.insert_one({"_id": os.environ["ORDER"]})
told = []
signal.signal(signal.SIGTERM, lambda *_: told.append(1))
print("ready", flush=True)
while not told:
    time.sleep(0.01)
for _ in range(50):  # what is to be finished yet
    assert orders.find_one({"_id": os.environ["ORDER"]})
print("finished", len(told), flush=True)
sys.exit(7)
"""


def lay_out(slug: Path) -> None:
    """What bin/compile makes, of the weir that is there."""
    (slug / ".weir/bin").mkdir(parents=True)
    (slug / ".weir/bin/weir").symlink_to(weir.default_binary())
    (slug / "bin").mkdir()
    shutil.copy(PACK / "bin/start-weir", slug / "bin")


class Image(roots.Root):
    """A root with /proc: without it a program's libraries are not found beside it."""

    def inside(self) -> list[str]:
        space = ["unshare", "--fork", "--kill-child", "--pid", f"--mount-proc={self.path}/proc"]
        return [*space, *super().inside()]


def as_user(root: roots.Root, *command: str, **env: str) -> str:
    who = [f"--reuid={USER}", f"--regid={USER}", "--clear-groups"]
    return root.must("setpriv", *who, *command, STACK="debian-12", HOME="/app", **env)


def compile_slug(slug: Path, directory: Path) -> roots.Root:
    """The slug, made in a root of its own; returns one that is as the run image."""
    if reason := roots.why_not():
        pytest.skip(reason)
    run = roots.make_root(directory / "run", *RUN_IMAGE)
    build = Image(directory / "build")
    subprocess.run(["cp", "-a", run.path, build.path], check=True)
    build.must("apt-get", "-q", "-y", "install", "--no-install-recommends", *BUILD_IMAGE)
    for name in ("buildpack", "app", "cache", "env"):
        (build.path / "tmp" / name).mkdir()
        os.chown(build.path / "tmp" / name, USER, USER)
    (build.path / "tmp/env/WEIR_MAX_CONNECTIONS").write_text(f"{CAP}\n")
    pack = build.path / "tmp/buildpack"
    subprocess.run(["tar", "-xzf", servers.BUILD / "weir-buildpack.tgz", "-C", pack], check=True)
    assert as_user(build, "/tmp/buildpack/bin/detect", "/tmp/app") == "weir\n"
    line = ["/tmp/buildpack/bin/compile", "/tmp/app", "/tmp/cache", "/tmp/env"]
    assert "Building weir" in as_user(build, *line)
    assert "as it was built before" in as_user(build, *line)
    assert as_user(build, "/tmp/buildpack/bin/release", "/tmp/app") == "--- {}\n"
    subprocess.run(["cp", "-a", f"{build.path}/tmp/app/.", slug], check=True)
    return run


class Dyno:
    """Runs commands as a dyno does, in namespaces of their own, in the directory of the app."""

    def __init__(self, slug: Path, root: roots.Root | None):
        self.slug = slug
        self.root = root
        self.home = Path("/app") if root else slug
        self.port = servers.free_port()
        self.python = "python3" if root else sys.executable

    def line(self, command: str) -> list[str]:
        """The shell is the first process and stays, as the platform's own does."""
        go = f'cd "{self.home}"; {command}; exit $?'
        proc = self.root.path / "proc" if self.root else "/proc"
        space = ["unshare", "--fork", "--kill-child", "--pid", f"--mount-proc={proc}"]
        inside = ["chroot", f"--userspec={USER}:{USER}", str(self.root.path)] if self.root else []
        return [*space, *inside, "bash", "-c", go]

    def environment(self, **more: str) -> dict[str, str]:
        """As the platform's is: nothing is inherited."""
        return {
            "PATH": roots.ENVIRONMENT["PATH"], "HOME": str(self.home), "DYNO": "web.1", "PORT": "5000",
            "PYTHONPATH": str(self.home / "vendor"), "WEIR_MAX_CONNECTIONS": str(CAP),
            "WEIR_PORT": str(self.port), **more,
        }  # fmt: skip

    def start(self, command: str, **env: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.line(command), env=self.environment(**env),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def look(self, command: str) -> str:
        """What somebody types who has come by `heroku ps:exec`."""
        return subprocess.run(
            self.line(command), env=self.environment(),
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip


@pytest.fixture(scope="module")
def dyno(tmp_path_factory) -> Iterator[Dyno]:
    if os.geteuid() != 0:
        pytest.skip("namespaces of one's own take root")
    with roots.in_memory(tmp_path_factory.mktemp("heroku") / "memory") as directory:
        slug, root = directory / "slug", None
        slug.mkdir()
        if WHOLE:
            root = compile_slug(slug, directory)
        else:
            lay_out(slug)
        (slug / "app.py").write_text(APP)
        if root:
            vendor = ["--target", str(slug / "vendor"), f"pymongo=={pymongo.version}"]
            subprocess.run([sys.executable, "-m", "pip", "install", "-q", *vendor], check=True)
            shutil.move(slug, root.path / "app")
            slug = root.path / "app"
        yield Dyno(slug, root)


def processes_beside(child: subprocess.Popen[str]) -> list[int]:
    """All in the namespace that was made."""
    first = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()[0]
    space = os.readlink(f"/proc/{first}/ns/pid")
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(process / "ns/pid") == space:
                found.append(int(process.name))
        except OSError:  # it has ended
            continue
    return found


def said_first(child: subprocess.Popen[str]) -> str:
    """Where the app was sent, once it has written there."""
    first, second = child.stdout.readline(), child.stdout.readline()
    assert second == "ready\n", child.communicate(timeout=10)
    return first.split()[1]


def deployment(secantus) -> str:
    return secantus.uri.split("?")[0].rstrip("/") + "/shop?directConnection=true&retryWrites=false"


def test_sigterm_to_all_processes_at_once_breaks_nothing(dyno, secantus):
    uri = deployment(secantus)
    command = f"bin/start-weir {dyno.python} app.py"
    child = dyno.start(command, MONGODB_URI=uri, ORDER="through weir")
    assert said_first(child) == f"mongodb://127.0.0.1:{dyno.port}/shop?retryWrites=false"
    assert "clients" in dyno.look(f".weir/bin/weir ctl status --port {dyno.port}")
    for process in processes_beside(child):
        os.kill(process, signal.SIGTERM)
    out, log = child.communicate(timeout=40)
    assert out == "finished 1\n", log  # it was told once
    assert child.returncode == 7 and log.rstrip().endswith("event=ended"), log
    assert secantus.client().shop.orders.count_documents({"_id": "through weir"}) == 1


def test_bypass_goes_to_the_deployment_itself(dyno, secantus):
    uri = deployment(secantus)
    command = f"bin/start-weir --variable MONGODB_URI -- {dyno.python} app.py"
    child = dyno.start(command, MONGODB_URI=uri, ORDER="past it", WEIR_BYPASS="1")
    assert said_first(child) == uri
    for process in processes_beside(child):
        os.kill(process, signal.SIGTERM)
    out, log = child.communicate(timeout=40)
    assert (child.returncode, out) == (7, "finished 1\n"), log


def test_says_what_is_missing(dyno):
    child = dyno.start("bin/start-weir --variable SHOP_URL -- true")
    _, log = child.communicate(timeout=20)
    assert child.returncode == 2 and "missing; SHOP_URL," in log
