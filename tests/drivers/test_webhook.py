# SPDX-License-Identifier: Apache-2.0
"""events.webhook: a receiver over TLS is told of each exhaustion, whatever it and the network do."""

from __future__ import annotations

import http.server
import json
import os
import signal
import socket
import ssl
import subprocess
import threading

import pymongo
import pytest
import servers
import weir
from exhausted import Exhausted

CERTIFICATES = servers.certificates()
SECRET = "/hooks/T0pS3cret?token=s3same"


class Receiver:
    """An HTTPS server on this machine. `script` says how each POST is met, in order: a status,
    "hang" (until it is over) or "hang up"; what comes after that is met with 200. `taken` is what was."""

    def __init__(self, *script: int | str):
        self.taken: list[dict] = []
        self._script = list(script)
        self._over = threading.Event()
        self._changed = threading.Condition()
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                assert self.path == SECRET and self.headers["Content-Type"] == "application/json"
                answer = receiver._script.pop(0) if receiver._script else 200
                if answer == "hang":
                    receiver._over.wait(60)
                elif answer == "hang up":
                    self.connection.shutdown(socket.SHUT_RDWR)
                else:
                    receiver._take(json.loads(body), answer)
                    self.send_response(answer)
                    self.send_header("Content-Length", "0")
                    self.send_header("Location", "https://elsewhere.example/")
                    self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CERTIFICATES / "server.pem")
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"https://localhost:{self._server.server_port}{SECRET}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def _take(self, record: dict, status: int) -> None:
        with self._changed:
            if status == 200:
                self.taken.append(record)
            self._changed.notify_all()

    def __enter__(self) -> Receiver:
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._server.shutdown()
        self._server.server_close()

    def wait_for(self, count: int) -> list[dict]:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.taken) >= count, timeout=40), self.taken
        return self.taken


def exhausted_telling(url: str, *arguments: str, trusted: bool = True, cap: int = 1) -> Exhausted:
    trust = ["--events-webhook-ca-file", str(CERTIFICATES / "ca.pem")] if trusted else []
    return Exhausted("--events-webhook", url, *trust, *arguments, cap=cap)


def says_nothing_secret(proxy: weir.Weir) -> bool:
    return not any("T0pS3cret" in line or "s3same" in line for line in proxy.lines)


def test_it_is_told_whatever_happens_on_the_way():
    """One try hangs, one is answered with 503, one connection is lost: begin and end come, in order."""
    with Receiver("hang", 503, 200, "hang up") as receiver, exhausted_telling(receiver.url) as exhausted:
        exhausted.release()
        begin, end = receiver.wait_for(2)
        proxy = exhausted.proxy
        proxy.wait_for("exhaustion_end")
        with pymongo.MongoClient(proxy.uri) as client:
            (record,) = client.weir.exhaustions.find()
        assert begin["_id"] == end["_id"] == record["_id"] == exhausted.begin["id"]
        assert begin["end"] == 0 and begin["holders"][0]["shape"] == "count test.orders {n}"
        assert end == record and end["end"] > 0 and end["ended"] == "calm" and end["shed"]["max_wait"] == 1
        tries = [one["reason"] for one in proxy.events if one["event"] == "webhook_tries_again"]
        assert len(tries) == 3 and "503" in tries[1], tries
        proxy.wait_for("webhook_told", id=record["_id"])
        assert says_nothing_secret(proxy)
        (shown,) = client_config(proxy, "events.webhook")
        assert shown == receiver.url.partition("/hooks")[0] + "/***"


def client_config(proxy: weir.Weir, name: str) -> list[str]:
    with pymongo.MongoClient(proxy.uri) as client:
        return [one["value"] for one in client.weir.config.find({"_id": name})]


@pytest.mark.parametrize("status", (400, 302))
def test_what_is_refused_for_good_is_not_sent_again(status):
    with Receiver(status) as receiver, exhausted_telling(receiver.url) as exhausted:
        failed = exhausted.proxy.wait_for("webhook_not_told")
        assert failed["reason"] == f"answered with {status}"
        assert exhausted.proxy.count("webhook_tries_again") == 0 and not receiver.taken


def test_a_receiver_that_cannot_be_trusted_gets_nothing():
    with Receiver() as receiver, exhausted_telling(receiver.url, trusted=False) as exhausted:
        failed = exhausted.proxy.wait_for("webhook_not_told")
        assert "certificate" in failed["reason"] and not receiver.taken
        assert exhausted.proxy.count("webhook_tries_again") == 0


def test_weir_ends_although_the_receiver_hangs():
    with Receiver("hang", "hang", "hang") as receiver, exhausted_telling(receiver.url) as exhausted:
        exhausted.release()
        assert exhausted.proxy.stop() == 0
        assert exhausted.proxy.count("webhook_not_told") > 0


def end_at_once(exhausted: Exhausted) -> None:
    """Although a request is under way."""
    os.kill(exhausted.proxy.pid, signal.SIGTERM)
    exhausted.proxy.wait_for("draining")
    os.kill(exhausted.proxy.pid, signal.SIGTERM)


def end_by_a_successor(exhausted: Exhausted) -> None:
    exhausted.proxy.upgrade("--within", "1s")


@pytest.mark.parametrize("end", (end_at_once, end_by_a_successor), ids=lambda end: end.__name__)
def test_what_goes_on_when_weir_ends_has_an_end(tmp_path, end):
    """For who is told, in the log, and as a file."""
    arguments = ["--events-path", str(tmp_path), "--limit", "fixed", "--slow-share", "1"]
    with Receiver() as receiver, exhausted_telling(receiver.url, *arguments, cap=2) as exhausted:
        begun = exhausted.begin["id"]
        end(exhausted)
        (_, told) = receiver.wait_for(2)
        line = exhausted.proxy.wait_for("exhaustion_end", id=begun)
        exhausted.proxy.wait_for("webhook_told", id=begun)
        exhausted.proxy.wait_for("exhaustion_kept", id=begun)
        exhausted.proxy.wait_for("ended_with_requests_under_way", timeout=20)
        assert json.loads((tmp_path / f"{begun}.json").read_text()) == told
    assert told["_id"] == begun and told["ended"] == line["ended"] == "weir stopped"
    assert told["end"] > told["begin"] and told["shed"]["max_wait"] == 1
    assert told["holders"][0]["shape"] == "count test.orders {n}"


def test_nobody_listens():
    url = f"http://127.0.0.1:{servers.free_port()}/"
    with exhausted_telling(url) as exhausted:
        failed = exhausted.proxy.wait_for("webhook_tries_again")
        assert "Failed to connect" in failed["reason"] or "Connection refused" in failed["reason"]


@pytest.mark.parametrize(
    "url, says",
    (
        ("hooks.example.net/x", "must be a URL"),
        ("http://hooks.example.net/s3same", "must be https://, or http:// on this machine"),
        ("ftp://localhost/s3same", "must be https://"),
        ("file:///etc/passwd", "must be a URL"),
        ("https://", "must be a URL"),
        ("https://hooks.example.net:99999/s3same", "must be a URL"),
        ("https://hooks example net/s3same", "must be a URL"),
        ("s3same", "must be a URL"),
    ),
)
def test_what_is_no_url_is_refused_and_not_shown(url, says):
    command = [str(weir.default_binary()), "mongodb://127.0.0.1:1", "--port", "0"]
    done = subprocess.run(
        [*command, "--events-webhook", url],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20,
    )  # fmt: skip
    assert done.returncode == 2
    assert "--events-webhook" in done.stderr and says in done.stderr
    assert "s3same" not in done.stderr
