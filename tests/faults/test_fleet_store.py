# SPDX-License-Identifier: Apache-2.0
"""How weir reaches the store of a fleet: TLS, logins, Sentinels; and stores that are none."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
from pathlib import Path

import pytest
import servers
import stores
from pymongo import MongoClient
from stub_server import StubServer
from weir import Weir, default_binary

pytestmark = pytest.mark.skipif(bool(stores.why_not()), reason=str(stores.why_not()))

USER = "user", "weir", "on", ">s3cret", "~weir:*", "+evalsha", "+script|load", "+info"
USER += "+hgetall", "+hset", "+hdel", "+del"


@pytest.fixture(scope="module")
def server():
    with StubServer() as stub:
        yield stub


def in_fleet(server: StubServer, address: str, *arguments: str, **more) -> Weir:
    return Weir(
        server.uri, "--fleet-redis", address, "--fleet-cap", "9", "--fleet-instances", "3",
        "--fleet-lease", "4s", "--control-socket", "disabled", *map(str, arguments),
        **more,
    )  # fmt: skip


def password_file(directory, password: str):
    path = directory / "password"
    path.write_text(password + "\n")
    return path


def tls_options() -> list[str]:
    certificates = servers.certificates()
    return [
        "--fleet-tls-ca-file", certificates / "ca.pem",
        "--fleet-tls-certificate-key-file", certificates / "client.pem",
    ]  # fmt: skip


def test_by_tls_with_a_user_that_may_no_more_than_is_said(server, tmp_path):
    login = ["--fleet-user", "weir", "--fleet-password-file", password_file(tmp_path, "s3cret")]
    with stores.Redis("--" + USER[0], *USER[1:], tls=True) as store:
        address = f"rediss://localhost:{store.port}"
        with in_fleet(server, address, *tls_options(), *login) as proxy:
            proxy.wait_for("fleet_store_found", address=store.address)
        with in_fleet(server, address, *tls_options()[:2], *login) as proxy:
            proxy.wait_for("fleet_store_lost")  # it asks for a certificate
        with in_fleet(server, address.replace("localhost", "127.0.0.2"), *tls_options()) as proxy:
            proxy.wait_for("fleet_store_lost", why="connection refused")
        login[3] = password_file(tmp_path, "wrong")
        with in_fleet(server, address, *tls_options(), *login) as proxy:
            lost = proxy.wait_for("fleet_store_lost")
            assert lost["why"].startswith("WRONGPASS")
            password_file(tmp_path, "s3cret")  # is read anew
            proxy.wait_for("fleet_store_found")
            assert not any("s3cret" in line or "wrong\n" in line for line in proxy.lines)


def test_sentinels_tell_who_is_the_master(server, tmp_path):
    login = ["--fleet-password-file", password_file(tmp_path, "s3cret")]
    with contextlib.ExitStack() as stack:
        master = stack.enter_context(stores.Redis(tls=True, password="s3cret"))
        replica = stack.enter_context(
            stores.Redis("--replicaof", "127.0.0.1", str(master.port), tls=True, password="s3cret")
        )
        stores.wait_until(master.has_a_replica, "there is one to fail over to")
        sentinel = stack.enter_context(stores.Sentinel(master, tls=True))
        address = f"rediss+sentinel://127.0.0.1:1,127.0.0.1:{sentinel.port}/shop"
        proxy = stack.enter_context(in_fleet(server, address, *tls_options(), *login))
        proxy.wait_for("fleet_store_found", address=master.address)
        master.end()
        proxy.wait_for("fleet_store_found", stores.HANG_S, address=replica.address)


def answers(chunks: list[bytes]):
    """A store that says this, whatever is asked, one after the other, the last for ever."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                stream, _ = listener.accept()
                with stream, contextlib.suppress(OSError):
                    for chunk in chunks:
                        assert stream.recv(1 << 16)
                        stream.sendall(chunk)

    threading.Thread(target=serve, daemon=True).start()
    return listener


LOADED = b"$40\r\n" + 40 * b"a" + b"\r\n"
GRANTED = b"*5\r\n$7\r\ngranted\r\n$1\r\ne\r\n$1\r\n1\r\n"


@pytest.mark.parametrize(
    "chunks",
    [
        [b"HTTP/1.1 400 Bad Request\r\n\r\n"],
        [b"$-1\r\n"],
        [b"*2147483647\r\n"],
        [b"$300000\r\n" + 300000 * b"x"],
        [LOADED, b"*0\r\n"],
        [LOADED, b"+OK\r\n"],
        [LOADED, b"*1\r\n$6\r\ntiring\r\n"],
        [LOADED, GRANTED + b":7\r\n:7\r\n"],
        [LOADED, GRANTED + b":-1\r\n:0\r\n"],
        [LOADED, GRANTED + b":6\r\n:6\r\n+more\r\n"],
    ],
)
def test_nonsense_is_no_answer(server, chunks):
    with answers(chunks) as listener:
        with in_fleet(server, "127.0.0.1:%d" % listener.getsockname()[1]) as proxy:
            proxy.wait_for("fleet_store_lost")
            assert not proxy.count("fleet_store_found")


def test_an_answer_has_an_end(server):
    part = b"*32\r\n" + 32 * b":0\r\n"
    with answers([LOADED, b"*4096\r\n" + 4000 * part]) as listener:
        with in_fleet(server, "127.0.0.1:%d" % listener.getsockname()[1]) as proxy:
            proxy.wait_for("fleet_store_lost", why="nonsense: too long an answer")


def test_a_password_that_is_sent_back_is_not_told(server, tmp_path):
    login = ["--fleet-password-file", password_file(tmp_path, "s3cret")]
    unknown = b"-ERR unknown command 'AUTH', with args beginning with: 's3cret' \r\n"
    with answers([unknown]) as listener:
        with in_fleet(server, "127.0.0.1:%d" % listener.getsockname()[1], *login) as proxy:
            proxy.wait_for("fleet_store_lost", why="ERR: it refuses the login")
            assert not any("s3cret" in line for line in proxy.lines)


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--fleet-redis", "redis://u@h"], "a login belongs in fleet.user"),
        (["--fleet-redis", "redis+sentinel://h"], "must end in /MASTER"),
        (["--fleet-redis", "redis://h/3"], "no database but 0"),
        (["--fleet-redis", "http://h"], "is no URI of redis://"),
        (["--fleet-redis", "a b"], "must have HOST or HOST:PORT"),
        (["--fleet-redis", "h:x"], "must have HOST or HOST:PORT"),
        (["--fleet-redis", "h", "--fleet-cap", "9"], "must be at least fleet.instances times"),
        (["--fleet-redis", "h", "--fleet-password-file", "/nonexistent"], "cannot be read"),
        (["--fleet-redis", "rediss://h", "--fleet-tls-ca-file", "/nonexistent"], "/nonexistent"),
    ],
)
def test_bad_settings_are_refused_with_what_is_wrong(server, arguments, words):
    for begin in [["check", "/dev/null"], []]:
        said = subprocess.run(
            [default_binary(), *begin, server.uri, "--port", "0", *arguments],
            capture_output=True, text=True, timeout=stores.HANG_S,
        )  # fmt: skip
        assert said.returncode == 2 and words in said.stderr, said


# A resolver that never answers for one name.
HANGING = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <string.h>
#include <unistd.h>

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                struct addrinfo **ret)
{
    while (node && strcmp(node, "hangs.invalid") == 0) {
        pause();
    }
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **) =
        (int (*)(const char *, const char *, const struct addrinfo *, struct addrinfo **))dlsym(
            RTLD_NEXT, "getaddrinfo");
    return real(node, service, hints, ret);
}
"""


def test_names_that_are_looked_up_for_ever_take_few_threads(server, tmp_path):
    library = tmp_path / "hanging.so"
    build = ["cc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(library), "-ldl"]
    subprocess.run(build, input=HANGING, text=True, check=True)
    env = {"LD_PRELOAD": str(library)}

    def threads() -> int:
        return len(list(Path(f"/proc/{proxy.pid}/task").iterdir()))

    with in_fleet(server, "hangs.invalid:6379", env=env) as proxy, MongoClient(proxy.uri) as client:
        error = lambda: client.weir.fleet.find_one()["error"]  # noqa: E731
        proxy.wait_for("fleet_store_lost", why="its name could not be looked up in time")
        before = threads()
        stores.wait_until(lambda: error() == "name lookups hang", "no more are begun")
        assert threads() - before < 4
