# SPDX-License-Identifier: Apache-2.0
"""The cap, counted by a stub of a server that sees each connection come and go."""

from __future__ import annotations

import itertools
import threading
import time

import pytest
import raw
import weir
from stub_server import Asked, StubServer

CLIENTS = 64
ROUNDS = 20
SERVICE_S = 0.001


def ask_all(proxy) -> list[dict]:
    """Many clients at once; their replies."""
    replies: list[dict] = []

    def work() -> None:
        with raw.Connection.to((proxy.host, proxy.port)) as connection:
            for _ in range(ROUNDS):
                replies.append(connection.ask({"ping": 1}))

    threads = [threading.Thread(target=work) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return replies


@pytest.mark.parametrize("threads", ("1", "4"))
@pytest.mark.parametrize("cap", (1, 4))
def test_never_more_upstreams_than_the_cap(cap, threads):
    def script(asked: Asked) -> None:
        time.sleep(SERVICE_S)
        asked.connection.send(asked.fine())

    with StubServer() as stub:
        stub.script = script
        with weir.Weir(stub.uri, "--max-wait", "30s", "--threads", threads, cap=cap) as proxy:
            replies = ask_all(proxy)
        assert [reply["ok"] for reply in replies] == [1.0] * CLIENTS * ROUNDS
        assert stub.most_upstreams == cap


def test_nor_when_they_keep_breaking():
    """Every tenth request loses its upstream, and another is opened for it."""
    turns = itertools.count(1)

    def script(asked: Asked) -> None:
        time.sleep(SERVICE_S)
        if next(turns) % 10 == 0:
            asked.hang_up()
        else:
            asked.connection.send(asked.fine())

    with StubServer() as stub:
        stub.script = script
        with weir.Weir(stub.uri, "--max-wait", "30s", cap=4) as proxy:
            replies = ask_all(proxy)
        codes = {reply.get("code") for reply in replies}
        assert next(turns) > 10 and codes <= {None, 6}  # most are sent again, once
        assert 2 <= stub.most_upstreams <= 4
