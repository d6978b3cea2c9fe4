# SPDX-License-Identifier: Apache-2.0
"""Many apps that ask without a pause, and know their own answers.

    with Crowd(proxy.address, 16) as crowd:
        crowd.wait_for_more("ok", 200)
        server.kill()
        crowd.wait_for("lost")
    crowd.assert_saw("ok", "lost")
    crowd.assert_truthful(server)

Each request has an identity that nobody else uses and that its reply must have, and each write is
one that can be told if it was done twice. What an app may see instead is one of these:

    lost        error 6, sent and no answer came: done or not
    not sent    error 6, no server: not done
    shed        error 462: not done
    ended       the connection ended instead of an answer: done or not
    refused     no connection could be had
    N           another error of that code, the server's: not done
"""

from __future__ import annotations

import itertools
import sys
import threading
import time
from collections import Counter
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "servers"))

import raw  # noqa: E402
from servers import HANG_S  # noqa: E402

PAUSE_S = 0.01  # after an error
PADDING_BYTES = 20_000  # more than one read brings
crowds = itertools.count()


def kind_of(reply: dict) -> str:
    if reply["ok"]:
        return "ok"
    if reply["code"] == 6:
        return "not sent" if "nothing was sent" in reply["errmsg"] else "lost"
    return "shed" if reply["code"] == 462 else str(reply["code"])


def write(collection: str, identity: str, padding: int = 0) -> dict:
    """A command whose reply has what written() says, if it was done once."""
    return {
        "findAndModify": collection, "query": {"_id": identity}, "comment": "x" * padding,
        "update": {"$inc": {"times": 1}}, "upsert": True, "new": True,
    }  # fmt: skip


def written(identity: str) -> dict:
    return {"_id": identity, "times": 1}


def until(truth, timeout: float = HANG_S) -> None:
    """For what no event tells of."""
    deadline = time.monotonic() + timeout
    while not truth():
        assert time.monotonic() < deadline, "it does not come to be so"
        time.sleep(0.02)


class Crowd:
    """address: of weir, or of a relay before it. reads: whether every other request is a find of
    what the one before it wrote; not if the server may forget that. large: whether some requests
    are so large that they claim some of weir's memory. name: of its collection."""

    def __init__(
        self,
        address: tuple[str, int],
        count: int,
        *,
        reads: bool = True,
        large: bool = True,
        name: str = "",
    ):
        self.collection = name or f"crowd{next(crowds)}"
        self.seen: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._said: dict[str, str] = {}  # of each write
        self._address = address
        self._reads = reads
        self._large = large
        self._changed = threading.Condition()
        self._ending = False
        self._threads = [
            threading.Thread(target=self._run, args=(f"app{i}",), daemon=True)
            for i in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def _run(self, name: str) -> None:
        numbers = itertools.count()
        while not self._ending:
            try:
                with raw.Connection.to(self._address) as connection:
                    connection.stream.settimeout(HANG_S)
                    while not self._ending:
                        self._step(connection, name, next(numbers))
            except ConnectionError:
                self._note("refused")
            except raw.Ended:
                pass
            except BaseException as failure:
                self.wrong.append(f"{name}: {failure!r}")
                return self._note("wrong")
            time.sleep(PAUSE_S)

    def _step(self, connection: raw.Connection, name: str, number: int) -> None:
        identity = f"{name} {number}"
        padding = PADDING_BYTES if self._large and number % 4 == 0 else 0
        self._said[identity] = "ended"
        reply = self._ask(connection, write(self.collection, identity, padding))
        kind = self._said[identity] = kind_of(reply)
        mine = written(identity)
        if kind != "ok":
            time.sleep(PAUSE_S)
        elif reply["value"] != mine:
            self.wrong.append(f"{identity} was told {reply['value']}")
        elif self._reads:
            reply = self._ask(connection, {"find": self.collection, "filter": {"_id": identity}})
            if reply["ok"] and reply["cursor"]["firstBatch"] != [mine]:
                self.wrong.append(f"{identity} found {reply['cursor']}")

    def _ask(self, connection: raw.Connection, command: dict) -> dict:
        """The reply; ask() insists that it is the one to this request."""
        try:
            reply = connection.ask(command)
        except (ConnectionError, raw.Ended):
            self._note("ended")
            raise raw.Ended from None
        self._note(kind_of(reply))
        return reply

    def _note(self, kind: str) -> None:
        with self._changed:
            self.seen[kind] += 1
            self._changed.notify_all()

    def wait_for(self, kind: str, count: int = 1, timeout: float = HANG_S) -> None:
        """Until that has been seen so often, from the beginning on."""
        with self._changed:
            there = self._changed.wait_for(lambda: self.seen[kind] >= count or self.wrong, timeout)
        assert not self.wrong, self.wrong[:5]
        assert there, f"{kind!r} was not seen {count} times; seen were {dict(self.seen)}"

    def wait_for_more(self, kind: str, count: int, timeout: float = HANG_S) -> None:
        self.wait_for(kind, self.seen[kind] + count, timeout)

    def stop(self) -> None:
        self._ending = True
        for thread in self._threads:
            thread.join(2 * HANG_S)

    def __enter__(self) -> Crowd:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def assert_saw(self, *kinds: str, may: tuple[str, ...] = ()) -> None:
        """All of these, and nothing else; but for what may be, such as a lost connection: a read
        is sent once more then, a write is not, and which it met is chance."""
        assert not self.wrong, self.wrong[:5]
        assert set(kinds) <= set(self.seen) <= {*kinds, *may}, dict(self.seen)

    def assert_truthful(self, server, forgets: bool = False) -> None:
        """What was said to be done was done, and once; what was said not to be was not. forgets:
        the server may have lost what it had acknowledged."""
        assert not self.wrong, self.wrong[:5]
        found = server.client().test[self.collection].find()
        times = {document["_id"]: document["times"] for document in found}
        for identity, said in self._said.items():
            done = times.get(identity, 0)
            allowed = {"ok": (0, 1) if forgets else (1,), "lost": (0, 1), "ended": (0, 1)}
            assert done in allowed.get(said, (0,)), f"{identity}: {said}, and done {done} times"
        assert times.keys() <= self._said.keys()


if __name__ == "__main__":  # HOST PORT COUNT NAME: a process of apps, to be killed
    host, port, count, name = sys.argv[1:]
    Crowd((host, int(port)), int(count), name=name)
    threading.Event().wait()
