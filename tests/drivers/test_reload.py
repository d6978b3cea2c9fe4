# SPDX-License-Identifier: Apache-2.0
"""SIGHUP, `weir ctl reload`, and certificates that are replaced: whole or nothing."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import ssl
import subprocess
import threading

import raw
import servers
import weir
from stub_server import Asked, StubServer
from test_cap import ask_all

CONFIG = """
upstream: {maxConnections: 4}
admission: {maxWait: 30s, limit: fixed, slowShare: 1}
"""


def test_the_cap_changes_live_and_shrinks_by_draining(tmp_path):
    held = threading.Semaphore(0)
    busy = threading.Semaphore(0)

    def script(asked: Asked) -> None:
        if asked.document.get("comment") == "hold":
            busy.release()
            held.acquire(timeout=30)
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
            return subprocess.run(line, capture_output=True, text=True, timeout=20)

        wait_for("ready")
        apps = [raw.Connection.to(("127.0.0.1", int(port))) for _ in range(4)]
        sent = [app.post({"ping": 1, "comment": "hold"}) for app in apps]
        for _ in apps:
            assert busy.acquire(timeout=10)

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
        assert child.wait(20) == 0
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
            proxy.wait_for("reload_refused", 10)
            assert serial(proxy.address) == former
            shutil.copy(certs / "client.pem", tmp_path / "other.pem")
            os.replace(tmp_path / "other.pem", pem)
            proxy.wait_for("reloaded", 10)
            assert serial(proxy.address) != former


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
        proxy.wait_for("reloaded", 10)
        now = serial(proxy.address)
        assert now != was
        later.write_text("no certificate")  # it is looked at from now on, and the former is not
        proxy.wait_for("reload_refused", 10)
        assert serial(proxy.address) == now
