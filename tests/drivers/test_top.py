# SPDX-License-Identifier: Apache-2.0
"""weir top, in a terminal that pyte plays: what it shows, does, and says when there is no weir."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Callable

import pymongo
import pyte
import pytest
import weir
from test_control_socket import ask
from test_shedding import ALL_MAY_BE_HELD, CAP, overload

BINARY = str(weir.default_binary())
DOWN = b"\x1bOB"
# With LINES and COLUMNS, as pytest's workers have them, curses would not look at the window.
SIZELESS = {name: value for name, value in os.environ.items() if name not in ("LINES", "COLUMNS")}
HOSTILE = "evil\x1b[2J\u202e"


@pytest.fixture(scope="module")
def proxy(secantus):
    with weir.Weir(secantus.uri, *ALL_MAY_BE_HELD, cap=CAP) as proxy:
        yield proxy


class Terminal:
    """weir top in a window of that size."""

    def __init__(self, proxy: weir.Weir, columns: int = 80, rows: int = 24, term: str = "xterm"):
        self.screen = pyte.Screen(columns, rows)
        self.stream = pyte.ByteStream(self.screen)
        self.window, ours = pty.openpty()
        self._set_size(ours, columns, rows)
        self.child = subprocess.Popen(
            [BINARY, "top", "--port", str(proxy.port), "--interval", "0.2"],
            stdin=ours, stdout=ours, stderr=ours, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            env={**SIZELESS, "TERM": term, "LC_ALL": "C.UTF-8"},
        )  # fmt: skip
        os.close(ours)

    @staticmethod
    def _set_size(descriptor: int, columns: int, rows: int) -> None:
        fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def resize(self, columns: int, rows: int) -> None:
        self.screen.resize(rows, columns)
        self._set_size(self.window, columns, rows)

    def press(self, keys: bytes) -> None:
        os.write(self.window, keys)

    @property
    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self.screen.display)

    def wait_until(self, true: Callable[[], object], what: str, timeout: float = 15.0) -> None:
        deadline = time.monotonic() + timeout
        while not true():
            assert time.monotonic() < deadline, f"no {what} in\n{self.text}"
            if select.select([self.window], [], [], 0.1)[0]:
                with contextlib.suppress(OSError):  # it has ended
                    self.stream.feed(os.read(self.window, 65536))

    def wait_for(self, pattern: str) -> re.Match[str]:
        self.wait_until(lambda: re.search(pattern, self.text, re.M), pattern)
        return re.search(pattern, self.text, re.M)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.child.kill()
        self.child.wait()
        os.close(self.window)


def once(proxy: weir.Weir, *arguments: str) -> str:
    command = [BINARY, "top", "--port", str(proxy.port), "--once", "--interval", "0.1"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize(("columns", "rows", "term"), [(80, 24, "vt100"), (200, 50, "xterm")])
def test_the_screen_says_what_once_says(secantus, proxy, columns, rows, term):
    with overload(secantus, proxy, 8), Terminal(proxy, columns, rows, term) as top:
        shown = top.wait_for(r"^in flight .*\] (\d+) of (\d+),")
        top.wait_for(r"EXHAUSTED")
        top.wait_for(r"served +\w+ +count test\.slow\d+ \{owner\}" if columns < 120 else
                     r"served .* count test\.slow\d+ \{owner\}")  # fmt: skip
        figures = json.loads(once(proxy, "--json"))
        assert [int(number) for number in shown.groups()] == [figures["inFlight"], figures["limit"]]
        assert (figures["inFlight"], figures["cap"], figures["exhausted"]) == (CAP, CAP, 1)
        assert top.wait_for(r"^cap .*\] (\d+) of (\d+) open")[2] == str(figures["cap"])
        held = [one for one in figures["requests"] if one["held"] > 0]
        assert len(held) == CAP
        for one in held:
            top.wait_for(rf"^.* {one['client']} served ")
        count = next(one for one in figures["shapes"] if one["shape"].startswith("count test.slow"))
        assert count["connections"] > 0
        text = once(proxy)
        assert f"{CAP} of {CAP}, " in text and "count test.slow" in text and "\x1b" not in text


def test_the_record_of_an_exhaustion(secantus, proxy):
    with Terminal(proxy) as top:
        top.wait_for(r"^exhausted ")
        with overload(secantus, proxy):
            top.wait_for(r"^EXHAUSTED +for \S+ \(e\): \w+")
        top.wait_for(r"^exhausted +\S+, \S+ ago \(e\): \w+")
        with pymongo.MongoClient(proxy.uri) as client:
            *_, before, record = client.weir.exhaustions.find()
        figures = json.loads(once(proxy, "--json"))["exhaustion"]
        assert figures.pop("endedAgo") > 0
        assert figures == {
            "goingOn": False, **{key: record[key] for key in ("_id", "server", "duration", "cause", "verdict")},
        }  # fmt: skip
        top.press(b"e")
        top.wait_for(rf"^Exhaustion {record['_id']} of ")
        top.wait_for(r"^Verdict")
        top.press(b"\x1b[6~" * 9)
        top.wait_for(r"transactions$")
        top.press(b"\x1bOD")
        top.wait_for(rf"^Exhaustion {before['_id']} of ")
        top.press(b"\x1bOC")
        top.wait_for(rf"^Exhaustion {record['_id']} of ")
        top.press(b"eq")
        assert top.child.wait(15) == 0


def test_deny_asks_first(secantus, proxy):
    with Terminal(proxy) as top, overload(secantus, proxy):
        top.wait_for(r"served .*count test")
        top.press(b"d")
        top.wait_for("choose a row first")
        top.press(DOWN + b"d")
        top.wait_for(r"deny this shape for 15 minutes \(y/N\)\? count test")
        top.press(b"n")
        top.wait_for("nothing was done")
        assert proxy.order("rule", "list")["rules"] == []
        top.press(b"d")
        top.wait_for(r"\(y/N\)")
        top.press(b"y")
        top.wait_for("done: deny")
        rules = proxy.order("rule", "list")["rules"]
        assert [rule["why"] for rule in rules] == ["by weir top"]
        assert re.fullmatch(r"shape [0-9a-f]{16}: deny", rules[0]["says"])
        proxy.order("rule", "remove", str(rules[0]["id"]))


def test_the_window_changes_its_size(proxy):
    with Terminal(proxy) as top:
        top.wait_for(r"q quit")
        for columns, rows in ((200, 50), (40, 10), (132, 30)):
            top.resize(columns, rows)
            top.wait_until(
                lambda rows=rows: "q quit" in top.screen.display[-1]
                and top.screen.display[2].startswith("limit"), f"screen of {rows} lines"
            )  # fmt: skip
        top.press(b"?")
        top.wait_for("Any key goes back")
        top.press(b"xq")
        assert top.child.wait(15) == 0


def test_it_goes_on_when_weir_is_started_anew(secantus):
    proxy = weir.Weir(secantus.uri)
    with Terminal(proxy) as top:
        top.wait_for(rf"pid {proxy.pid} ")
        proxy.stop()
        top.wait_for("weir is away, trying again")
        with weir.Weir(secantus.uri, port=proxy.port) as again:
            top.wait_for(rf"pid {again.pid} ")
            top.wait_until(lambda: "away" not in top.text, "end of the alarm")
            top.press(b"q")
            assert top.child.wait(15) == 0


def test_a_weir_that_stands_still_is_said_to(secantus, proxy):
    with Terminal(proxy) as top:
        top.wait_for(rf"pid {proxy.pid} ")
        os.kill(proxy.pid, signal.SIGSTOP)
        try:
            top.wait_for("weir is away, trying again: it gives no answer")
        finally:
            os.kill(proxy.pid, signal.SIGCONT)
        top.wait_until(lambda: "away" not in top.text, "end of the alarm")


@pytest.fixture
def held(secantus, proxy):
    """A request of an app with a hostile name that its server works on; what its app gets of it."""
    got: list[object] = []

    def hold() -> None:
        with pymongo.MongoClient(proxy.uri, appName=HOSTILE) as client:
            try:
                got.append(client.test.command("count", "held", query={"a": 1}))
            except pymongo.errors.OperationFailure as error:
                got.append(error.code)

    with secantus.failing(["count"], {"times": 1}, blockConnection=True, blockTimeMS=5000):
        holder = threading.Thread(target=hold)
        holder.start()
        yield got
        holder.join()


def test_hostile_names_are_text(proxy, held):
    with Terminal(proxy, 200, 50) as top:
        top.wait_for(r"evil\\x1b\[2J\\u202e")
        assert json.loads(once(proxy, "--json"))["requests"][0]["app"] == HOSTILE


def test_kill_asks_first(proxy, held):
    if "unknown order" in ask(proxy, {"order": "kill"}).get("error", ""):
        pytest.skip("this weir has no order to kill")
    with Terminal(proxy) as top:
        top.wait_for(r"served .*count test\.held")
        top.press(DOWN + b"k")
        top.wait_for(r"kill this request \(y/N\)\? count test\.held")
        assert not held
        top.press(b"y")
        top.wait_for("done: kill")
        top.wait_until(lambda: held == [11601], "error 11601")


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["--port", "1"], 2, "this is no terminal: --once prints it once"),
        (["--port", "1", "--once"], 1, "no weir of yours runs on port 1 ("),
        (["--socket", "/nowhere/x.sock", "--once"], 1, "/nowhere/x.sock: no weir listens there"),
        (["--json"], 2, "--json: only with --once"),
        (["--interval", "0"], 2, "--interval 0: must be 0.1 to 60 seconds"),
        (["--interval"], 2, "--interval: needs a value"),
        (["--port", "x", "--once"], 2, "--port x: must be a port"),
        (["--nope"], 2, "--nope: unknown flag"),
    ],
)
def test_what_is_refused(arguments, status, says):
    done = subprocess.run(
        [BINARY, "top", *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr.startswith("weir top: ") and says in done.stderr
