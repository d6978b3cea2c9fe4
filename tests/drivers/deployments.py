# SPDX-License-Identifier: Apache-2.0
"""weir before a stub of a whole deployment, for the tests of routing, affinity and failover."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pymongo
import raw
import weir

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from stubset import StubSet, User  # noqa: E402, F401

CAP = 4
OWN = {"hello", "isMaster", "saslStart", "saslContinue", "authenticate"}  # weir's own


_ending: list[tuple[weir.Weir, Future]] = []
_enders = ThreadPoolExecutor()


def _with_wide_window(uri: str) -> str:
    """On a busy machine one member may seem to be farther away than another."""
    if "localThresholdMS" in uri or "loadBalanced" in uri:
        return uri
    return f"{uri}{'&' if '?' in uri else '?'}localThresholdMS=10000"


@contextlib.contextmanager
def weir_before(
    stub: StubSet,
    *arguments: str,
    cap: int = CAP,
    uri: str | None = None,
    rejects: bool = False,
    binary: Path | None = None,
) -> Iterator[weir.Weir]:
    """weir, which at the end must have asked for nothing wrong and have kept to its cap. It is not
    waited for: ending takes half a second, and there are a hundred of them (conftest.py)."""
    proxy = weir.Weir(_with_wide_window(uri or stub.uri), *arguments, cap=cap, binary=binary)
    try:
        with stub:
            yield proxy
            assert rejects or not stub.rejections
            for member in stub.members:
                assert stub.tally(member.index, "weir").peak <= cap
    except BaseException:
        print("weir", proxy.tail().lstrip("; "))  # pytest shows it beside what failed
        raise
    finally:
        _ending.append((proxy, _enders.submit(proxy.stop)))


def wait_for_ends() -> None:
    """Until all have ended, without a complaint."""
    while _ending:
        proxy, status = _ending.pop()
        assert status.result() == 0, f"weir ended with status {status.result()}{proxy.tail()}"


def settle(proxy: weir.Weir) -> None:
    """Until each worker goes by what weir has said of servers: it is asked after it was told."""
    proxy.order("state")


def wait_for_news(proxy: weir.Weir, event: str, **fields: str) -> dict[str, str]:
    """Until weir has said so of a server, and goes by it."""
    said = proxy.wait_for(event, **fields)
    settle(proxy)
    return said


def wait_for_members(stub: StubSet, proxy: weir.Weir, *indexes: int) -> None:
    """Until weir has seen these members up; all that are not arbiters, if none is named."""
    for index in indexes or [m.index for m in stub.members if not m.is_arbiter]:
        proxy.wait_for("server_up", server=stub.members[index].host)
    settle(proxy)


def wait_until_seen_as(stub: StubSet, proxy: weir.Weir, index: int, kind: str) -> None:
    """Until weir goes by that member's being of this kind; on the way there it may be unknown."""
    host = stub.members[index].host

    def last_kind() -> str | None:
        said = [event for event in list(proxy.events) if event.get("server") == host]
        kinds = [event.get("kind") for event in said if event["event"].startswith("server_")]
        return kinds[-1] if kinds else None

    stub.wait_until(lambda: last_kind() == kind)
    settle(proxy)


@contextlib.contextmanager
def speaking_to(proxy: weir.Weir) -> Iterator[raw.Connection]:
    with raw.Connection.to(proxy.address) as connection:
        connection.hello()
        yield connection


def hello(proxy: weir.Weir) -> dict:
    with raw.Connection.to(proxy.address) as connection:
        return connection.hello()


def passed_on(stub: StubSet, *names: str) -> list:
    """The commands (of these names, if any) that weir brought from apps."""
    return [c for c in stub.asked(*names, driver="weir") if c.name not in OWN]


def members_asked(stub: StubSet, *names: str) -> set[int]:
    return {command.member for command in passed_on(stub, *names)}


def read_from(stub: StubSet, client: pymongo.MongoClient, preference, reads: int = 40) -> set[int]:
    """The members that so many reads by this preference went to."""
    stub.commands.clear()
    things = client.get_database("test", read_preference=preference).things
    for _ in range(reads):
        things.find_one()
    return members_asked(stub, "find")


def wait_until_read_from(stub: StubSet, client, preference, members: set[int]) -> None:
    """Until such reads are spread over exactly these members."""
    stub.wait_until(lambda: read_from(stub, client, preference) == members)


class Crowd:
    """Threads that each do the same, in their own turn, until told to stop; what an app saw of
    errors is in `errors`. `work` is called with the client, the thread's number and its turn."""

    def __init__(self, uri: str, work: Callable, *, threads: int = 8, **options):
        self.client = pymongo.MongoClient(uri, **options)
        self.errors: list[Exception] = []
        self.done = [0] * threads
        self._work = work
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(threads)]

    def _run(self, number: int) -> None:
        while not self._stopping.is_set():
            try:
                self._work(self.client, number, self.done[number])
            except Exception as error:
                self.errors.append(error)
            self.done[number] += 1

    def wait_for_turns(self, turns: int = 3) -> None:
        """Until each thread has done so many more."""
        wanted = [done + turns for done in self.done]
        StubSet.wait_until(lambda: all(d >= w for d, w in zip(self.done, wanted)))

    def __enter__(self) -> Crowd:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        self.client.close()
