# SPDX-License-Identifier: Apache-2.0
"""The package of `make deb` on a clean machine with systemd: installed, started before a real server in
the unit's sandbox, brought back when it hangs or crashes, given certificates by certbot, upgraded without
dropping anybody, purged."""

from __future__ import annotations

import contextlib
import re
import shutil
import ssl
import stat
import threading
import time
import urllib.request

import acme
import pymongo
import pytest
import roots
import servers
from pymongo.errors import PyMongoError
from pymongo.monitoring import ConnectionPoolListener

WEIR_YAML = "etc/weir/weir.yaml"
CAP = 4
PATIENCE_S = 30


class Service(roots.Machine):
    """The machine, with its weir."""

    def configure(self, uri: str, **more: str) -> None:
        self.port, self.http = servers.free_port(), servers.free_port()
        self.uri = f"mongodb://127.0.0.1:{self.port}/"
        settings = {"URI": uri, "PORT": self.port, "HTTP_PORT": self.http, "MAX_CONNECTIONS": CAP,
                    "MAX_WAIT": "50ms", "EVENTS_PATH": "/var/lib/weir", **more}  # fmt: skip
        lines = [f"WEIR_{name}={value}\n" for name, value in settings.items()]
        file = self.path / "etc/weir/environment"
        file.touch(mode=0o600)
        file.write_text("".join(lines))

    def show(self, name: str) -> str:
        return self.must("systemctl", "show", "--value", "-p", name, "weir").strip()

    def signal(self, name: str) -> None:
        self.must("systemctl", "kill", f"--signal={name}", "--kill-whom=main", "weir")

    @contextlib.contextmanager
    def unit_with(self, *lines: str):
        """Within, the unit has these lines too, [Service]'s."""
        drop_in = self.path / "etc/systemd/system/weir.service.d/test.conf"
        drop_in.parent.mkdir()
        drop_in.write_text("\n".join(["[Service]", *lines]) + "\n")
        self.must("systemctl", "daemon-reload")
        try:
            yield
        finally:
            shutil.rmtree(drop_in.parent)
            self.must("systemctl", "daemon-reload")

    def wait_until(self, what) -> None:
        until = time.monotonic() + PATIENCE_S
        while not what():
            assert time.monotonic() < until, self.log()
            time.sleep(0.05)

    def log(self) -> str:
        return self.must("journalctl", "--no-pager", "-o", "cat", "-u", "weir")

    def serves(self) -> bool:
        with contextlib.suppress(PyMongoError), pymongo.MongoClient(self.uri) as client:
            return client.clean.root.find_one() == {"_id": 1}
        return False


@pytest.fixture(scope="module")
def machine(tmp_path_factory, secantus):
    """With the package installed by apt, so with what it depends on and nothing else."""
    if reason := roots.why_not():
        pytest.skip(reason)
    packages = list((servers.BUILD / "deb").glob("weir_*.deb"))
    assert len(packages) == 1, f"make deb made {packages}"
    with roots.in_memory(tmp_path_factory.mktemp("clean") / "memory") as memory:
        path = memory / "root"
        roots.make_root(path, "systemd-sysv")
        (path / "etc/hosts").write_text("127.0.0.1 localhost\n")
        shutil.copy(packages[0], path / "package.deb")
        with Service(path) as machine:
            assert machine.files_of("weir") == set()
            machine.must("apt-get", "-q", "-y", "install", "--no-install-recommends", "/package.deb")
            machine.configure(secantus.uri)
            yield machine


def test_is_built_from_what_the_build_installs():
    """packages.sh and the package name the same libraries."""
    deploy = servers.ROOT / "deploy"
    script = (deploy / "packages.sh").read_text().split("build)")[1].split(";;")[0]
    installed = set(re.findall(r"[a-z0-9.]+-dev", script)) - {"libc6-dev"}
    control = (deploy / "debian/control").read_text().split("\n\n")[0]
    assert set(re.findall(r"[a-z0-9.]+-dev", control)) == installed


def test_configuration_is_weirs_and_roots_alone(machine):
    status = (machine.path / WEIR_YAML).stat()
    assert stat.S_IMODE(status.st_mode) == 0o640
    assert (status.st_uid, status.st_gid) == (0, machine.number_of("group", "weir"))
    conffiles = machine.must("dpkg-query", "-W", "-f=${Conffiles}", "weir")
    assert conffiles.split()[0] == f"/{WEIR_YAML}"


def test_is_not_enabled_and_says_what_is_missing(machine):
    assert machine.run("systemctl", "is-enabled", "weir").stdout == "disabled\n"
    assert machine.run("systemctl", "is-active", "weir").stdout == "inactive\n"
    done = machine.run("weir", "--config", f"/{WEIR_YAML}")
    assert done.returncode == 2 and "WEIR_URI" in done.stderr.splitlines()[-1]


def exhaust(server, uri: str) -> None:
    """Lets slow requests hold all connections while somebody else asks and is refused."""

    def hold() -> None:
        with contextlib.suppress(PyMongoError), pymongo.MongoClient(uri, retryReads=False) as one:
            one.clean.command("count", "orders", query={"owner": 1})

    with (
        pymongo.MongoClient(uri, retryReads=False) as app,
        server.failing(["count"], {"times": CAP}, blockConnection=True, blockTimeMS=1000),
    ):
        holders = [threading.Thread(target=hold) for _ in range(CAP)]
        for holder in holders:
            holder.start()
        while any(holder.is_alive() for holder in holders):
            with contextlib.suppress(PyMongoError):
                app.clean.root.find_one()


def test_serves_in_its_sandbox(machine, secantus):
    """All that it does is let through, also what it does seldom: a forbidden call would end it."""
    machine.must("systemctl", "enable", "--now", "weir")
    with pymongo.MongoClient(machine.uri) as client:
        client.clean.root.insert_one({"_id": 1})
        assert client.clean.root.find_one() == {"_id": 1}
    for path in ("readyz", "metrics", "state"):
        address = f"http://127.0.0.1:{machine.http}/{path}"
        assert urllib.request.urlopen(address, timeout=10).status == 200
    exhaust(secantus, machine.uri)
    records = machine.path / "var/lib/private/weir"
    machine.wait_until(lambda: list(records.glob("*.json")))
    for command in (["ctl", "status"], ["ctl", "kill", "--over", "1h"], ["top", "--once"]):
        machine.must("weir", *command)
    machine.must("systemctl", "reload", "weir")

    process = machine.show("MainPID")
    status = machine.must("cat", f"/proc/{process}/status")
    assert re.search(r"Seccomp:\s2\n", status) and re.search(r"NoNewPrivs:\s1\n", status)
    assert re.search(r"CapBnd:\s0+\n", status)
    assert f"Uid:\t{machine.number_of('passwd', 'weir')}\t" in status
    assert machine.show("NRestarts") == "0"


def test_reload_says_that_it_failed(machine):
    file = machine.path / WEIR_YAML
    good = file.read_text()
    file.write_text(good + "nonsense: 1\n")
    assert machine.run("systemctl", "reload", "weir").returncode != 0
    assert "nonsense: unknown key" in machine.log()
    file.write_text(good)
    machine.must("systemctl", "reload", "weir")
    assert machine.serves()


def test_another_takes_its_place(machine):
    """To systemd as well: it is the service's process then, which obeys and is watched."""
    before = machine.show("MainPID")
    machine.must("weir", "ctl", "upgrade", "--within", "1s")
    machine.wait_until(lambda: machine.show("MainPID") not in (before, "0"))
    machine.wait_until(lambda: "event=predecessor_gone" in machine.log())
    assert machine.serves()
    machine.must("systemctl", "reload", "weir")
    assert (machine.show("ActiveState"), machine.show("NRestarts")) == ("active", "0")


SIGSYS = "31"


@pytest.mark.parametrize(
    "command, status",
    [
        ("/usr/bin/touch /var/lib/weir/x /run/weir/x", "0"),
        ("/usr/bin/touch /etc/weir/x", "1"),
        ("/usr/bin/touch /var/lib/x", "1"),
        ("/usr/bin/cat /etc/weir/environment", "1"),
        ("/usr/sbin/chroot /", SIGSYS),
        ("/usr/bin/unshare --user true", "1"),
        ("/usr/bin/dmesg", SIGSYS),
    ],
)
def test_what_its_sandbox_refuses(machine, command, status):
    """Other programs in weir's place."""
    machine.must("systemctl", "stop", "weir")
    with machine.unit_with("Type=oneshot", "Restart=no", "ExecStart=", f"ExecStart={command}"):
        machine.run("systemctl", "start", "weir")
        assert machine.show("ExecMainStatus") == status, machine.log()


def test_comes_back(machine):
    with machine.unit_with("WatchdogSec=1"):
        machine.must("systemctl", "restart", "weir")
        machine.signal("STOP")
        machine.wait_until(lambda: machine.show("NRestarts") == "1" and machine.serves())
        assert "Failed with result 'watchdog'" in machine.log()
    machine.signal("SEGV")
    machine.wait_until(lambda: machine.show("NRestarts") == "2" and machine.serves())


class Connections(ConnectionPoolListener):
    """Of one client: how many it has lost."""

    def __init__(self) -> None:
        self.closed = 0

    def connection_closed(self, event) -> None:
        self.closed += 1

    def ignore(self, event) -> None:
        pass

    pool_created = pool_ready = pool_cleared = pool_closed = ignore
    connection_created = connection_ready = ignore
    connection_check_out_started = connection_check_out_failed = ignore
    connection_checked_out = connection_checked_in = ignore


def shown_certificate(port: int) -> str:
    return ssl.get_server_certificate(("127.0.0.1", port))


def test_certificates_come_from_an_authority_and_are_renewed(machine, secantus, tmp_path):
    """As docs/deploy/certificates.md says; nobody is dropped when the new one comes."""
    machine.must("apt-get", "-q", "-y", "install", "--no-install-recommends", "certbot")
    with acme.Pebble(tmp_path) as authority:
        (machine.path / "etc/ssl/pebble.pem").write_text(authority.ca)
        where = ["--server", authority.url, "--http-01-port", str(authority.http_port)]
        trust = {"REQUESTS_CA_BUNDLE": "/etc/ssl/pebble.pem"}
        who = ["--register-unsafely-without-email", "--agree-tos", "--non-interactive"]
        hook = ["--deploy-hook", "/usr/share/weir/certificate-hook"]
        ask = ["certbot", "certonly", "--standalone", "-d", "localhost"]
        machine.must(*ask, *hook, *where, *who, **trust)
        tls = {"TLS_MODE": "requireTLS", "TLS_CERTIFICATE_KEY_FILE": "/etc/weir/weir.pem"}
        machine.configure(secantus.uri, **tls)
        machine.must("systemctl", "restart", "weir")
        (tmp_path / "root.pem").write_text(authority.root)
        uri = f"mongodb://localhost:{machine.port}/?tls=true&tlsCAFile={tmp_path}/root.pem"
        losses = Connections()
        with pymongo.MongoClient(uri, event_listeners=[losses]) as client:
            client.admin.command("ping")
            before = shown_certificate(machine.port)
            now = ["--force-renewal", "--no-random-sleep-on-renew"]
            machine.must("certbot", "renew", *now, *where, **trust)
            machine.wait_until(lambda: shown_certificate(machine.port) != before)
            client.admin.command("ping")
            assert losses.closed == 0
        with pymongo.MongoClient(uri) as client:
            client.admin.command("ping")
    machine.configure(secantus.uri)
    machine.must("systemctl", "restart", "weir")


UNIT = "lib/systemd/system/weir.service"
REINSTALL = ("apt-get", "-q", "-y", "install", "--reinstall", "/package.deb")


def test_upgrade_of_the_package_drops_nobody(machine):
    """An app asks all the while; then it is the service's process."""
    before, replaced = machine.show("MainPID"), machine.log().count("event=replaced")
    ended, failed = threading.Event(), []
    uri = f"{machine.uri}?heartbeatFrequencyMS=500"

    def ask() -> None:
        with pymongo.MongoClient(uri, retryReads=False) as app:
            while not ended.is_set():
                try:
                    app.clean.root.find_one()
                except PyMongoError as error:
                    failed.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    machine.must(*REINSTALL)
    assert machine.log().count("event=replaced") == replaced + 1
    machine.wait_until(lambda: machine.show("MainPID") not in (before, "0"))
    assert machine.serves()
    ended.set()
    asking.join()
    assert failed == [] and machine.show("NRestarts") == "0"


def test_upgrade_to_another_unit_restarts_it(machine):
    before, replaced = machine.show("MainPID"), machine.log().count("event=replaced")
    with open(machine.path / UNIT, "a") as unit:
        unit.write("# another\n")
    machine.must(*REINSTALL)
    assert machine.log().count("event=replaced") == replaced
    assert machine.show("MainPID") not in (before, "0")
    assert machine.serves()


def test_zz_purge_leaves_nothing_but_the_user(machine):
    """The last: what the administrator changed stays when it is removed, and goes when it is purged."""
    with open(machine.path / WEIR_YAML, "a") as file:
        file.write("# mine\n")
    machine.must("apt-get", "-q", "-y", "remove", "weir")
    assert "event=ended" in machine.log() and machine.show("MainPID") == "0"
    assert not (machine.path / "usr/bin/weir").exists()
    assert (machine.path / WEIR_YAML).read_text().endswith("# mine\n")
    for name in ("environment", "weir.pem"):
        (machine.path / "etc/weir" / name).unlink()
    machine.must("apt-get", "-q", "-y", "purge", "weir")
    assert machine.files_of("weir") == set()
    assert machine.number_of("passwd", "weir")
