# SPDX-License-Identifier: Apache-2.0
"""SIGHUP, `weir ctl reload`, and certificates that are replaced: whole or nothing."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import threading
from pathlib import Path

import pymongo
import pytest
import raw
import scram
import servers
import users
import weir
from deployments import Crowd
from pymongo.errors import OperationFailure, PyMongoError
from stub_server import Asked, StubServer
from test_cap import ask_all
from test_users import revoke

CONFIG = """
upstream: {maxConnections: 4}
admission: {maxWait: 30s, limit: fixed, slowShare: 1}
"""

CERTIFICATES = servers.certificates()

# Another value for each setting than its default, or than BASE says.
OTHERS = {
    "upstream.uri": None,
    "upstream.maxConnections": 5,
    "upstream.maxTotalConnections": 90,
    "upstream.pinnedShare": 0.4,
    "upstream.connectTimeout": "11s",
    "upstream.maxIdleTime": "11m",
    "upstream.maxAge": "2h",
    "upstream.serverWait": "13s",
    "upstream.responseTimeout": "1h",
    "net.bindIp": "127.0.0.2",
    "net.port": 1,
    "net.unixSocket": None,
    "net.threads": 3,
    "net.maxIncomingConnections": 60000,
    "net.handshakeTimeout": "11s",
    "net.maxHandshakes": 65,
    "net.messageTimeout": "61s",
    "net.maxBufferedBytes": "600MB",
    "net.compression.compressors": "zlib",
    "net.tls.mode": "allowTLS",
    "net.tls.certificateKeyFile": str(CERTIFICATES / "client.pem"),
    "net.tls.CAFile": "ca.pem",
    "net.tls.CRLFile": "crl.pem",
    "net.tls.allowConnectionsWithoutCertificates": False,
    "security.authorization": "enabled",
    "security.saltSecretFile": "salt",
    "security.allowRemoteWithoutAuth": True,
    "admission.maxWait": "99ms",
    "admission.maxQueue": 9999,
    "admission.maxTimeLimit": "1h",
    "admission.maxTimeDefault": "1h",
    "admission.limit": "fixed",
    "admission.minLimit": 3,
    "admission.tenantBy": "address",
    "admission.tenantWeights": "shop=2",
    "admission.slowShare": 0.2,
    "admission.streamShare": 0.4,
    "admission.killAfter": "1h",
    "admission.killAbandonedAfter": "2s",
    "admission.idleCursorAfter": "6m",
    "admission.idleTransactionAfter": "11s",
    "admission.killIdle": True,
    "operationProfiling.slowOpThreshold": "99ms",
    "emergency.share": 0.4,
    "emergency.maxWait": "21ms",
    "emergency.maxTime": "6s",
    "emergency.killAfter": "11s",
    "drain.within": "24s",
    "reload.onChange": True,
    "control.socket": "disabled",
    "events.path": str(CERTIFICATES),
    "events.webhook": "https://localhost/",
    "events.webhookCAFile": str(CERTIFICATES / "ca.pem"),
    "fleet.redis": "127.0.0.1:1",
    "fleet.user": "weir",
    "fleet.passwordFile": str(CERTIFICATES / "ca.pem"),
    "fleet.tls.CAFile": str(CERTIFICATES / "ca.pem"),
    "fleet.tls.certificateKeyFile": str(CERTIFICATES / "client.pem"),
    "fleet.name": "other",
    "fleet.cap": 99,
    "fleet.floor": 2,
    "fleet.instances": 15,
    "fleet.lease": "11s",
    "http.port": 1,
    "http.bindIp": "127.0.0.2",
    "http.hosts": "weir.internal",
    "log.metrics": "1m",
    "systemLog.format": "json",
}


def test_the_cap_changes_live_and_shrinks_by_draining(tmp_path):
    held = threading.Semaphore(0)
    busy = threading.Semaphore(0)

    def script(asked: Asked) -> None:
        if asked.document.get("comment") == "hold":
            busy.release()
            held.acquire(timeout=60)
        asked.connection.send(asked.fine())

    file = tmp_path / "weir.yaml"
    file.write_text(CONFIG)
    with StubServer() as stub:
        stub.script = script
        port = str(servers.free_port())
        command = [str(weir.default_binary()), stub.uri, "--config", str(file), "--port", port]
        child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)

        def wait_for(event: str) -> str:
            for line in child.stderr:
                if f"event={event}" in line:
                    return line
            raise AssertionError(f"no {event}")

        def ctl(order: str) -> subprocess.CompletedProcess[str]:
            line = [str(weir.default_binary()), "ctl", "--port", port, order]
            return subprocess.run(line, capture_output=True, text=True, timeout=60)

        wait_for("ready")
        apps = [raw.Connection.to(("127.0.0.1", int(port))) for _ in range(4)]
        sent = [app.post({"ping": 1, "comment": "hold"}) for app in apps]
        for _ in apps:
            assert busy.acquire(timeout=60)

        file.write_text(CONFIG.replace("4", "2") + "net: {threads: 3}\n")
        done = ctl("reload")
        assert done.returncode == 0, done.stderr
        assert "upstream.maxConnections 4 -> 2" in done.stdout
        assert "needs a restart: net.threads" in done.stdout

        file.write_text("upstream: {maxConnections: 0}\n")
        wrong = ctl("reload")
        assert wrong.returncode == 1 and "must be 1 to 100000" in wrong.stderr, wrong
        os.kill(child.pid, signal.SIGHUP)
        assert "must be 1 to 100000" in wait_for("reload_refused")

        for _ in apps:  # what was under way above the new cap is finished
            held.release()
        for app, request in zip(apps, sent):
            assert app.reply_to(request)["ok"] == 1.0
        stub.most_upstreams = 0

        class Proxy:
            host = "127.0.0.1"

        Proxy.port = int(port)
        assert {reply["ok"] for reply in ask_all(Proxy)} == {1.0}
        assert stub.most_upstreams <= 2
        child.send_signal(signal.SIGINT)
        assert child.wait(60) == 0
        child.stderr.close()


def serial(address: tuple[str, int]) -> bytes:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(address, 10) as plain, context.wrap_socket(plain) as stream:
        return stream.getpeercert(binary_form=True)


def test_certificates_whose_files_change(tmp_path):
    certs = servers.certificates()
    pem = tmp_path / "weir.pem"
    shutil.copy(certs / "server.pem", pem)
    with StubServer() as stub:
        flags = ("--tls-mode", "preferTLS", "--tls-certificate-key-file", str(pem))
        with weir.Weir(stub.uri, *flags) as proxy:
            former = serial(proxy.address)
            pem.write_text("no certificate")
            proxy.wait_for("reload_refused")
            assert serial(proxy.address) == former
            shutil.copy(certs / "client.pem", tmp_path / "other.pem")
            os.replace(tmp_path / "other.pem", pem)
            proxy.wait_for("reloaded")
            assert serial(proxy.address) != former


def test_a_certificate_that_has_expired_is_said(tmp_path):
    pem, request, expired = (tmp_path / name for name in ("weir.pem", "request", "expired"))
    ask = ["req", "-new", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost"]
    sign = ["x509", "-req", "-in", request, "-signkey", pem, "-days", "-1", "-out", expired]
    for one in ([*ask, "-keyout", pem, "-out", request], sign):
        subprocess.run(["openssl", *one], check=True, capture_output=True)
    pem.write_text(pem.read_text() + expired.read_text())
    with StubServer() as stub:
        flags = ("--tls-mode", "preferTLS", "--tls-certificate-key-file", str(pem))
        with weir.Weir(stub.uri, *flags) as proxy:
            assert proxy.wait_for("certificate_expired")["file"] == str(pem)
            former = serial(proxy.address)
            shutil.copy(servers.certificates() / "server.pem", tmp_path / "new.pem")
            os.replace(tmp_path / "new.pem", pem)
            proxy.wait_for("reloaded")
            assert serial(proxy.address) != former and proxy.count("certificate_expired") == 1


def test_a_revocation_list_that_has_expired_is_said(tmp_path):
    """All who have a certificate are refused by it."""
    crl = revoke(CERTIFICATES, tmp_path, "-crl_lastupdate", "20200101000000Z",
                 "-crl_nextupdate", "20200102000000Z")  # fmt: skip
    flags = ("--tls-mode", "preferTLS", "--tls-ca-file", str(CERTIFICATES / "ca.pem"),
             "--tls-certificate-key-file", str(CERTIFICATES / "server.pem"),
             "--tls-crl-file", str(crl))  # fmt: skip
    with StubServer() as stub, weir.Weir(stub.uri, *flags) as proxy:
        assert proxy.wait_for("revocation_list_expired")["file"] == str(crl)
        (tmp_path / "index.txt").unlink()
        revoke(CERTIFICATES, tmp_path)
        proxy.wait_for("reloaded")
        assert proxy.count("revocation_list_expired") == 1


def test_no_door_opens_that_the_running_configuration_keeps_shut(tmp_path):
    """That the new file allows it does not count before a restart."""
    file = tmp_path / "weir.yaml"
    tls = {"mode": "requireTLS", "certificateKeyFile": str(CERTIFICATES / "server.pem")}
    shut = {**tls, "CAFile": str(CERTIFICATES / "ca.pem")}
    file.write_text(json.dumps({"net": {"tls": shut}}))
    with StubServer() as stub, weir.Weir(
        stub.uri, "--config", str(file), host="0.0.0.0"
    ) as proxy:
        open_ = {"net": {"tls": tls}, "security": {"allowRemoteWithoutAuth": True}}
        file.write_text(json.dumps(open_))
        done = ctl(proxy, "reload")
        assert done.returncode == 1 and "net.tls.CAFile" in done.stderr
        context = ssl.create_default_context(cafile=CERTIFICATES / "ca.pem")
        with (
            socket.create_connection(("127.0.0.1", proxy.port), 10) as plain,
            pytest.raises(OSError),
            context.wrap_socket(plain, server_hostname="127.0.0.1") as stream,
        ):
            stream.recv(1)  # TLS 1.3 tells of the missing certificate only now


def test_certificates_that_are_files_elsewhere(tmp_path):
    certs = servers.certificates()
    former, later = tmp_path / "former.pem", tmp_path / "later.pem"
    shutil.copy(certs / "server.pem", former)
    shutil.copy(certs / "client.pem", later)
    file = tmp_path / "weir.yaml"
    config = "net: {{tls: {{mode: preferTLS, certificateKeyFile: {}}}}}\n"
    file.write_text(config.format(former))
    with StubServer() as stub, weir.Weir(stub.uri, "--config", str(file)) as proxy:
        was = serial(proxy.address)
        file.write_text(config.format(later))
        os.kill(proxy.pid, signal.SIGHUP)
        proxy.wait_for("reloaded")
        now = serial(proxy.address)
        assert now != was
        later.write_text("no certificate")  # it is looked at from now on, and the former is not
        proxy.wait_for("reload_refused")
        assert serial(proxy.address) == now


def nested(settings: dict) -> str:
    """As a file has it."""
    tree: dict = {}
    for name, value in settings.items():
        *path, last = name.split(".")
        place = tree
        for part in path:
            place = place.setdefault(part, {})
        place[last] = value
    return json.dumps(tree)


def ctl(proxy: weir.Weir, *order: str) -> subprocess.CompletedProcess[str]:
    line = [str(weir.default_binary()), "ctl", "--port", str(proxy.port), *order]
    return subprocess.run(line, capture_output=True, text=True, timeout=60)


def reload(proxy: weir.Weir) -> str:
    done = ctl(proxy, "reload")
    assert done.returncode == 0, done.stderr
    return done.stdout


def reference() -> dict[str, bool]:
    """Of each setting, whether its documentation calls it reloadable."""
    command = [weir.default_binary(), "--print-reference"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows = re.findall(r"^### `(\w+\.[\w.]+)`\n\n(.*)", text, re.MULTILINE)
    assert all(line.endswith(("; *reloadable*.", "; *needs a restart*.")) for _, line in rows)
    return {name: line.endswith("; *reloadable*.") for name, line in rows}


def test_what_is_documented_as_reloadable_is_all_that_is(tmp_path):
    crl = revoke(CERTIFICATES, tmp_path)
    shutil.copy(CERTIFICATES / "ca.pem", tmp_path / "ca.pem")
    (tmp_path / "salt").write_bytes(bytes(32))
    others = {
        **OTHERS,
        "net.tls.CAFile": str(tmp_path / "ca.pem"),
        "net.tls.CRLFile": str(crl),
        "security.saltSecretFile": str(tmp_path / "salt"),
        "net.unixSocket": str(tmp_path / "other.sock"),
    }
    expected = reference()
    assert others.keys() == expected.keys()
    file = tmp_path / "weir.yaml"
    with StubServer() as stub:
        base = {
            "upstream.uri": stub.uri,
            "net.port": servers.free_port(),
            "net.tls.mode": "preferTLS",
            "net.tls.certificateKeyFile": str(CERTIFICATES / "server.pem"),
            "net.tls.CAFile": str(CERTIFICATES / "ca.pem"),
            "net.tls.allowConnectionsWithoutCertificates": True,
            "security.authorization": "disabled",
            "users": [{"name": "cn", "db": "$external"}],
        }
        file.write_text(nested(base))
        command = [str(weir.default_binary()), "--config", str(file)]
        child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert any("event=ready" in line for line in child.stderr)

        class Proxy:
            port = base["net.port"]

        others["upstream.uri"] = f"{stub.uri}?appName=other"
        assert "restart" not in reload(Proxy)
        for name, value in others.items():
            store = {"fleet.redis": others["fleet.redis"]} if name.startswith("fleet.") else {}
            file.write_text(nested({**base, **store, name: value}))
            said = reload(Proxy).strip().partition("needs a restart: ")[2].split(", ")
            assert (name not in said) == expected[name], (name, said)
        child.send_signal(signal.SIGINT)
        assert child.wait(60) == 0
        child.stderr.close()


def resident_kib(proxy: weir.Weir) -> int:
    status = Path(f"/proc/{proxy.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1])


def test_former_configurations_are_freed(tmp_path):
    """Each has 1,500 short names, of 40 bytes each in memory, so 100 of them would be 6 MiB."""
    file = tmp_path / "weir.yaml"
    port = servers.free_port()

    def write(turn: int) -> None:
        names = [f"{turn}-{n}=2" for n in range(1500)]
        fresh = tmp_path / "fresh.yaml"
        fresh.write_text(
            nested({"upstream.uri": stub.uri, "net.port": port, "admission.tenantWeights": names})
        )
        os.replace(fresh, file)

    with StubServer() as stub:
        write(0)
        with weir.Weir("", file=file, port=port) as proxy, pymongo.MongoClient(proxy.uri) as client:
            for turn in range(1, 121):
                client.test.command("ping")
                write(turn)
                reload(proxy)
                if turn == 20:
                    before = resident_kib(proxy)
            assert resident_kib(proxy) - before < 3072


def test_rules_of_the_file_change_under_load_and_live_ones_stay(secantus, tmp_path):
    file = tmp_path / "weir.yaml"
    asked = "{namespace: test.things, command: distinct, deny: true}"
    kept = "{namespace: test.kept, atOnce: 100}"
    file.write_text(f"rules: [{kept}]\n")
    with weir.Weir(secantus.uri, "--config", str(file), cap=4) as proxy:
        proxy.order("rule", "add", "--namespace", "test.live", "--deny")
        with pymongo.MongoClient(proxy.uri) as client:
            client.test.kept.find_one()
            client.test.things.distinct("a")
            with Crowd(proxy.uri, lambda app, *_: app.test.kept.find_one(), threads=4) as crowd:
                for _ in range(10):
                    file.write_text(f"rules: [{asked}, {kept}]\n")
                    assert "rules: 2" in reload(proxy)
                    with pytest.raises(OperationFailure):
                        client.test.things.distinct("a")
                    file.write_text("rules: [{namespace: nonsense}]\n")
                    assert ctl(proxy, "reload").returncode == 1
                    with pytest.raises(OperationFailure):
                        client.test.things.distinct("a")
                    file.write_text(f"rules: [{kept}]\n")
                    assert "rules: 1" in reload(proxy)
                    client.test.things.distinct("a")
                    with pytest.raises(OperationFailure):
                        client.test.live.find_one()
                crowd.wait_for_turns()
            assert not crowd.errors
            # The one that stays goes on as it is.
            assert (proxy.count("rule_added"), proxy.count("rule_removed")) == (2 + 10, 10)


READS = ("--may", "read", "--databases", "shop")


def test_a_login_under_way_goes_on(secantus, tmp_path):
    file = tmp_path / "weir.yaml"
    entries = {name: users.add(name, "secret", *READS) for name in ("ann", "bob")}

    def write(*names: str) -> None:
        file.write_text("users:\n" + "\n".join(entries[name] for name in names))
        file.chmod(0o600)

    write("ann", "bob")
    entries["ann"] = users.add("ann", "new", *READS)
    with weir.Weir(secantus.uri, "--config", str(file)) as proxy, contextlib.ExitStack() as stack:
        begun = []
        for name in entries:
            connection = stack.enter_context(raw.Connection.to(proxy.address))
            login = scram.Scram(name, "secret")
            challenge = connection.ask(login.start(), db="admin")["payload"]
            begun.append((connection, scram.proceed(login.final(challenge))))
        write("ann")
        reload(proxy)
        (ann, proof), (bob, other) = begun
        assert ann.ask(proof, db="admin")["ok"] == 1
        assert ann.ask({"find": "things"}, db="shop")["ok"] == 1
        assert bob.ask(other, db="admin")["code"] == 18


def test_users_change_under_load_and_one_is_removed(secantus, tmp_path):
    file = tmp_path / "weir.yaml"
    ann = users.add("ann", "secret", *READS)
    writer = users.add("ann", "secret", "--may", "read,write", "--databases", "shop")
    bob = users.add("bob", "secret", *READS)

    def say(*entries: str) -> str:
        file.write_text("users:\n" + "\n".join(entries))
        file.chmod(0o600)
        return reload(proxy)

    file.write_text("users:\n" + bob + "\n" + ann)
    file.chmod(0o600)
    with weir.Weir(secantus.uri, "--config", str(file), cap=4) as proxy:
        uri = users.uri_for(proxy.uri, "ann", "secret")
        with pymongo.MongoClient(uri) as client, raw.Connection.to(proxy.address) as gone:
            gone.hello()
            with Crowd(uri, lambda app, *_: app.shop.things.find_one(), threads=4) as crowd:
                for _ in range(10):
                    assert "users: 2" in say(bob, writer)
                    client.shop.things.insert_one({})
                    say(bob, ann)
                    with pytest.raises(OperationFailure, match="more than the user may do"):
                        client.shop.things.insert_one({})
                    file.write_text("users: [{name: ann}]\n")
                    assert ctl(proxy, "reload").returncode == 1
                crowd.wait_for_turns()
                say(bob, ann)
                assert scram.log_in(gone, "bob", "secret")["ok"] == 1
                assert gone.ask({"find": "things"}, db="shop")["ok"] == 1
                assert "certificates" not in say(ann)
                assert gone.is_ended()
                with raw.Connection.to(proxy.address) as again:
                    assert scram.log_in(again, "bob", "secret")["code"] == 18
                with pymongo.MongoClient(users.uri_for(proxy.uri, "bob", "secret")) as former:
                    with pytest.raises(PyMongoError):
                        former.shop.things.find_one()
                crowd.wait_for_turns()
            assert not crowd.errors
