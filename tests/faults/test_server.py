# SPDX-License-Identifier: Apache-2.0
"""The server fails, in earnest: it is killed, paused, full, or has the wrong certificate."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path
from urllib.parse import quote_plus

import pytest
import raw
import servers
import weir
from crowd import Crowd, until
from relay import Relay, direct

APPS = 16


def with_options(uri: str, **options: object) -> str:
    separator = "&" if "?" in uri else "?"
    return uri + separator + "&".join(f"{key}={value}" for key, value in options.items())


@pytest.mark.parametrize("kind", ("secantus", "ferretdb"))
def test_killed_under_load_and_restarted(kind):
    if reason := servers.why_not(kind):
        pytest.skip(f"{kind}: {reason}")
    with servers.start(kind) as server, weir.Weir(server.uri, "--server-wait", "60s") as proxy:
        with Crowd(proxy.address, APPS, reads=False) as crowd:
            crowd.wait_for_more("ok", 200)
            server.kill()
            crowd.wait_for("lost")
            proxy.wait_for("upstream_down")
            server.restart()
            crowd.wait_for_more("ok", 200)
        crowd.assert_saw("ok", "lost")
        crowd.assert_truthful(server, forgets=kind == "secantus")  # its data is not on disk yet
        proxy.wait_until_at_rest()


def test_stalls_and_goes_on(secantus):
    """Any time: what notices is told in milliseconds here, so that it need not be 30 s."""
    patience = ("--max-wait", "10s", "--server-wait", "1s")
    with weir.Weir(with_options(secantus.uri, connectTimeoutMS=1000), *patience) as proxy:
        with Crowd(proxy.address, APPS) as crowd:
            crowd.wait_for_more("ok", 200)
            secantus.pause()
            proxy.wait_for("no_writable_server")
            crowd.wait_for("not sent")
            secantus.resume()
            crowd.wait_for_more("ok", 200)
        crowd.assert_saw("ok", "not sent", may=("lost",))  # what was under way, after serverWait
        crowd.assert_truthful(secantus)
        proxy.wait_until_at_rest()


def test_accepts_and_says_nothing(secantus):
    """It greets its monitors, and nobody else."""
    uri = with_options(secantus.uri, appName="shop")
    patience = ("--connect-timeout", "500ms", "--max-wait", "10s", "--server-wait", "1s")
    silence = {"appName": "shop", "blockConnection": True, "blockTimeMS": 2000}
    with contextlib.ExitStack() as held:
        held.enter_context(secantus.failing(["isMaster"], "alwaysOn", **silence))
        with weir.Weir(uri, *patience) as proxy:
            with Crowd(proxy.address, APPS) as crowd:
                proxy.wait_for("upstream_down", reason="not ready in time")
                crowd.wait_for("not sent")
            crowd.assert_saw("not sent")
            held.close()
            with Crowd(proxy.address, APPS) as crowd:
                crowd.wait_for_more("ok", 200)
            crowd.assert_truthful(secantus)
            proxy.wait_until_at_rest()


def test_is_at_its_connection_limit(secantus):
    """It closes what is one too many before a word is said; weir makes do with what it has."""
    with Relay(secantus.address) as relay:
        relay.limit = 5
        with weir.Weir(direct(relay), "--max-wait", "10s", cap=8) as proxy:
            with Crowd(proxy.address, APPS) as crowd:
                proxy.wait_for("upstream_down", **{"while": "opening"})
                crowd.wait_for_more("ok", 200)
                assert 1 <= proxy.state()["upstreams_open"] <= 5
                relay.limit = None
                until(lambda: proxy.state()["upstreams_open"] == 8)
                crowd.wait_for_more("ok", 200)
            crowd.assert_saw("ok")
            crowd.assert_truthful(secantus)
            proxy.wait_until_at_rest()


# --- who it says it is, and who we say we are -----------------------------------------------------


def reissue(certs: Path, days: int, names: str) -> None:
    """Another server.pem of the same CA."""
    server = certs / "server.pem"
    shell = (
        "openssl req -new -newkey rsa:2048 -nodes -keyout key -subj /CN=server -out request &&"
        f"openssl x509 -req -in request -days {days} -CA ca.pem -CAkey ca.key -set_serial 7"
        f" -extfile names -out certificate && cat key certificate > {server}"
    )
    (certs / "names").write_text(f"subjectAltName = {names}\n")
    subprocess.run(shell, shell=True, check=True, cwd=certs, capture_output=True)


def expire(certs: Path) -> None:
    reissue(certs, -1, "IP:127.0.0.1")


def name_another_host(certs: Path) -> None:
    reissue(certs, 1, "DNS:elsewhere.example")


def take_another_ca(certs: Path) -> None:
    trusted = (certs / "ca.pem").read_bytes()
    (certs / "ca.pem").unlink()
    (certs / "ca.key").unlink()
    servers.certificates(certs)
    (certs / "ca.pem").write_bytes(trusted)


@pytest.mark.parametrize(
    "spoil, says",
    ((expire, "expired"), (name_another_host, "IP address mismatch"),
     (take_another_ca, "unable to get local issuer")),
)  # fmt: skip
def test_has_the_wrong_certificate_until_it_is_replaced(tmp_path, spoil, says):
    if reason := servers.why_not("secantus", tls=True):
        pytest.skip(reason)
    servers.certificates(tmp_path)
    good = {name: (tmp_path / name).read_bytes() for name in ("ca.pem", "server.pem")}
    spoil(tmp_path)
    with servers.start("secantus", tls=tmp_path) as server:
        with weir.Weir(server.uri, "--server-wait", "500ms") as proxy:
            with Crowd(proxy.address, APPS) as crowd:
                down = proxy.wait_for("no_writable_server")
                crowd.wait_for("not sent")
            crowd.assert_saw("not sent")
            assert says in down["reason"]
            (tmp_path / "server.pem").write_bytes(good["server.pem"])
            server.kill()
            server.restart()
            with Crowd(proxy.address, APPS) as crowd:
                crowd.wait_for_more("ok", 200)
            crowd.assert_truthful(server)
            proxy.wait_until_at_rest()


def test_password_is_wrong_until_it_is_the_users():
    if reason := servers.why_not("secantus", auth=True):
        pytest.skip(reason)
    with servers.start("secantus", auth=True) as server:
        uri = server.uri.replace(quote_plus(servers.PASSWORD), "new")
        with weir.Weir(uri, "--max-wait", "10s", "--server-wait", "500ms") as proxy:
            with Crowd(proxy.address, APPS) as crowd:
                down = proxy.wait_for("upstream_down", **{"while": "opening"})
                crowd.wait_for("not sent")
            crowd.assert_saw("not sent")
            assert "uthentication" in down["reason"]
            server.client().admin.command("updateUser", servers.USER, pwd="new")
            with Crowd(proxy.address, APPS) as crowd:
                crowd.wait_for_more("ok", 200)
            crowd.assert_saw("ok", may=("not sent",))  # until weir tries again
            crowd.assert_truthful(server)
            proxy.wait_until_at_rest()


# --- its failpoints -------------------------------------------------------------------------------


def test_closes_connections(secantus):
    with weir.Weir(secantus.uri, "--max-wait", "10s") as proxy:
        with Crowd(proxy.address, APPS) as crowd:
            with secantus.failing(["findAndModify"], {"times": 20}, closeConnection=True):
                crowd.wait_for("lost", 20)
                crowd.wait_for_more("ok", 200)
        assert crowd.seen["lost"] == 20
        crowd.assert_saw("ok", "lost")
        crowd.assert_truthful(secantus)
        proxy.wait_until_at_rest()


def test_closes_a_connection_under_a_read(secantus):
    """The read is sent once more, and nobody sees anything of it."""
    with weir.Weir(secantus.uri, "--max-wait", "10s") as proxy:
        with Crowd(proxy.address, APPS) as crowd:
            with secantus.failing(["find"], {"times": 1}, closeConnection=True):
                proxy.wait_for("upstream_down", **{"while": "open"})
                crowd.wait_for_more("ok", 200)
        crowd.assert_saw("ok")
        crowd.assert_truthful(secantus)
        proxy.wait_until_at_rest()


def test_refuses_with_labels(secantus):
    labels = ["TransientTransactionError", "RetryableWriteError"]
    refuse = {"errorCode": 112, "errorLabels": labels}
    with weir.Weir(secantus.uri, "--max-wait", "10s") as proxy:
        with Crowd(proxy.address, APPS) as crowd:
            with secantus.failing(["findAndModify"], {"times": 20}, **refuse):
                crowd.wait_for("112", 20)
                crowd.wait_for_more("ok", 200)
            with raw.Connection.to((proxy.host, proxy.port)) as app:
                with secantus.failing(["insert"], {"times": 1}, **refuse):
                    reply = app.ask({"insert": "refused", "documents": [{}]})
        assert (reply["code"], reply["errorLabels"]) == (112, labels)
        crowd.assert_saw("ok", "112")
        crowd.assert_truthful(secantus)
        assert proxy.count("upstream_down") == 0
        proxy.wait_until_at_rest()


def test_blocks(secantus):
    """Those that are blocked are waited for, those that find no room are shed, and none is lost."""
    block = {"blockConnection": True, "blockTimeMS": 1000}
    with weir.Weir(secantus.uri, "--max-wait", "50ms", cap=4) as proxy:
        with Crowd(proxy.address, APPS) as crowd:
            crowd.wait_for_more("ok", 200)
            with secantus.failing(["findAndModify"], {"times": 8}, **block):
                proxy.wait_for("exhaustion_begin")
                crowd.wait_for("shed")
                crowd.wait_for_more("ok", 200)
        crowd.assert_saw("ok", "shed")
        crowd.assert_truthful(secantus)
        proxy.wait_for("exhaustion_end")
        proxy.wait_until_at_rest()
