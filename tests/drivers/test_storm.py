# SPDX-License-Identifier: Apache-2.0
"""Thousands of connections that come at once, as after a deployment of an app: all are served, and
who was there before notices nothing. How little, tests/bench/door.py measures."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import subprocess
from pathlib import Path

import pytest
import raw
import scram
import servers
import users
import weir
from bystander import Bystander

STORM = Path(os.environ.get("BENCH_TOOLS") or servers.BUILD / "tests/bench") / "bench_storm"
WANTED = 5000
OTHERS = 100  # descriptors for everything else
IDLE = 20
LOGINS = 300
PATIENCE_S = 240  # only a hang lasts longer


def guests() -> int:
    """As many as weir and the storm may have descriptors for, each of its own."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return min(WANTED, hard - OTHERS)


@contextlib.contextmanager
def storm(port: int, count: int, tls: bool):
    """So many connections, which stay within; what came of them."""
    if not STORM.exists():
        pytest.skip(f"no {STORM}: build tests/bench, or set $BENCH_TOOLS")
    argv = [STORM, f"--port={port}", f"--clients={count}", *(["--tls"] if tls else [])]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(argv, text=True, **pipes) as process:
        yield json.loads(process.stdout.readline())
        process.stdin.close()


def count_in(client, number: int) -> None:
    assert client.test.command("count", "things")["n"] == 0


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
def test_all_are_served_and_nobody_is_disturbed(secantus, tls):
    count = guests()
    arguments = ("--handshake-timeout", f"{PATIENCE_S}s")  # both sides share this machine
    with (
        weir.Weir(secantus.uri, *arguments, tls=tls) as proxy,
        contextlib.ExitStack() as stack,
    ):
        idle = [stack.enter_context(raw.Connection.to(proxy.address)) for _ in range(IDLE)]
        for connection in idle:
            connection.hello()
        bystander = Bystander(proxy.uri, count_in, PATIENCE_S)
        with storm(proxy.port, count, tls) as told:
            assert (told["served"], told["failed"]) == (count, 0)
            assert proxy.state()["clients"] >= count + IDLE
            bystander.assert_untouched()
        bystander.stop()
        assert all(connection.ask({"ping": 1})["ok"] == 1 for connection in idle)
        proxy.wait_until_at_rest(clients=IDLE + 10)


def test_who_says_nothing_does_not_bar_the_door(secantus):
    """Half-open handshakes wait for their peers, not for weir, so that new ones are let in."""
    with (
        weir.Weir(secantus.uri, "--max-handshakes", "1", tls=True) as proxy,
        contextlib.ExitStack() as stack,
    ):
        for _ in range(50):
            silent = stack.enter_context(raw.Connection.to(proxy.address))
            silent.send(b"\x16\x03\x01\x02\x00\x01")  # the beginning of a ClientHello
        with raw.Connection.to(proxy.address) as connection:
            assert connection.hello()["ok"] == 1


def test_many_who_log_in_at_once(secantus):
    """All proofs come at once: nobody else waits for them."""
    password = "secret-of-all"
    rights = ("--may", "read,write", "--databases", "test")
    file = users.file(*(users.add(name, password, *rights) for name in ("app", "bystander")))
    with (
        weir.Weir(secantus.uri, "--config", str(file)) as proxy,
        contextlib.ExitStack() as stack,
    ):
        begun = []
        for _ in range(LOGINS):
            connection = stack.enter_context(raw.Connection.to(proxy.address))
            login = scram.Scram("app", password)
            challenge = connection.ask(login.start(), db="admin")["payload"]
            begun.append((connection, scram.proceed(login.final(challenge))))
        bystander = Bystander(users.uri_for(proxy.uri, "bystander", password), count_in, PATIENCE_S)
        asked = [(connection, connection.post(proof, db="admin")) for connection, proof in begun]
        replies = [connection.reply_to(number) for connection, number in asked]
        assert [reply["ok"] for reply in replies] == [1] * LOGINS
        bystander.assert_untouched()
        bystander.stop()
