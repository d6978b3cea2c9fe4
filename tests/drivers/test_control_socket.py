# SPDX-License-Identifier: Apache-2.0
"""The control socket: what it is asked by hand and by weir ctl, well and badly; whose it may be."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import socket
import stat
import subprocess
import threading
import time
from pathlib import Path

import pymongo
import pytest
import servers
import weir
from bystander import Bystander

LINE_BYTES = 16384
CONVERSATIONS = 16
NOBODY = 65534


@pytest.fixture(scope="module")
def proxy(secantus):
    with weir.Weir(secantus.uri, cap=4) as proxy:
        yield proxy


@pytest.fixture(autouse=True)
def bystander(proxy):
    """Whatever is said to the socket, who uses the proxy does not notice."""

    def step(client, number: int) -> None:
        client.test.counters.update_one({"_id": 7}, {"$set": {"n": number}}, upsert=True)
        assert client.test.counters.find_one({"_id": 7})["n"] == number

    bystander = Bystander(proxy.uri, step)
    yield bystander
    bystander.assert_untouched()
    bystander.stop()


def path_of(proxy: weir.Weir) -> Path:
    return Path(proxy.wait_for("control_socket")["path"])


def connect(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(10)
    connection.connect(str(path))
    return connection


def read_all(connection: socket.socket) -> bytes:
    answer = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := connection.recv(65536):
            answer += piece
    return answer


def say(proxy: weir.Weir, line: bytes) -> dict:
    with connect(path_of(proxy)) as connection:
        with contextlib.suppress(BrokenPipeError):
            connection.sendall(line)
        return json.loads(read_all(connection))


def ask(proxy: weir.Weir, order: dict) -> dict:
    return say(proxy, json.dumps(order).encode() + b"\n")


# --- weir ctl -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        ([], 2, "say what is to be done, see weir ctl --help"),
        (["frobnicate"], 1, "frobnicate: unknown order; there are rule, emergency, setCap, setLimit, re"),
        (["rule"], 1, "rule: needs add, list or remove"),
        (["rule", "frobnicate"], 1, "rule frobnicate: needs add, list or remove"),
        (["rule", "remove", "x"], 1, "rule remove x: needs an id, as rule list has it"),
        (["rule", "remove", "3", "4"], 2, "4: one number at a time"),
        (["setCap", "abc"], 1, "setCap abc: needs a number, or default"),
        (["setLimit", "-5"], 1, "setLimit -5: needs a number, or default"),
        (["drain", "now"], 1, "drain now: no word follows drain"),
        (["rule", "ad", "--deny"], 1, "rule ad: unknown order, did you mean rule add?"),
        (["emergncy", "on"], 1, "emergncy on: unknown order, did you mean emergency on?"),
        (["setcap", "5"], 1, "setcap: unknown order, did you mean setCap?"),
        (["drain", "--within", "soon"], 1, "--within: must be a time"),
        (["drain", "--within", "0"], 1, "within: must be 1s to 24h"),
        (["drain", "--for", "5s"], 1, "for: drain has no such field; it has within"),
        (["rule", "remove"], 1, "rule remove: needs an id"),
        (["rule", "remove", "999"], 1, "there is no rule 999"),
        (["rule", "list", "1"], 1, "rule list: takes no number"),
        (["rule", "list", "--deny"], 1, "deny: rule list has no such field"),
        (["rule", "add"], 1, "it matches every operation; if that is meant, say --all\n"),
        (["rule", "add", "--app", "x"], 1, "it has no effect: needs one of deny, --per-second"),
        (["rule", "add", "--app", "x", "--deny", "--lane", "slow"], 1, "--deny: contradicts lane"),
        (["rule", "add", "--app"], 2, "--app: needs a value"),
        (["rule", "add", "--app", "", "--deny"], 1, "app: must not be empty"),
        (["rule", "add", "--nmespace", "a.b"], 2, "did you mean --namespace?"),
        (["rule", "add", "--app=x", "--app=y", "--deny"], 1, "app: given twice"),
        (["rule", "add", "--app=x", "--deny", "--for", "0"], 1, "for: must be 1s to 720h"),
        (["rule", "add", "--app=x", "--deny", "--for", "-5m"], 1, "for: must be a time"),
        (["rule", "add", "--app=x", "--deny", "--for", "soon"], 1, "for: must be a time"),
        (["rule", "add", "--app=x", "--at-once", "0"], 1, "--at-once: must be 1 to 1000000"),
        (["rule", "add", "--app=x", "--deny", "--why", "a\nb"], 1, "why: must not have control"),
        (["rule", "add", "--app=x", "--deny", "--why", "x" * 121], 1, "why: must be at most 120"),
        (["rule", "add", "--app=x", "--deny", "--why", os.fsdecode(b"\xff")], 2, "is not UTF-8"),
        (["emergency", "on", "--deny"], 1, "deny: an emergency has no such field"),
        (["emergency", "off"], 1, "there is no emergency"),
        (["kill"], 1, "kill: needs one of request, client, shape, over"),
        (["kill", "5"], 1, "kill: takes no number"),
        (["kill", "--reqest", "5"], 2, "did you mean --request?"),
        (["status", "--port", "65536"], 2, "must be a port"),
        (["kill", "--client", "10.0.0.1"], 1, "client: must be a number, as the collection clients"),
        (["kill", "--client", "1", "--over", "5s"], 1, "request and client go with nothing else"),
        (["kill", "--request", "0"], 1, "request: must be a number"),
        (["kill", "--request", "99999999999999999999"], 1, "request: must be a number"),
        (["kill", "--request", "999999"], 1, "there is no such request any more"),
        (["kill", "--shape", "xyz"], 1, "shape: must be 16 hexadecimal digits"),
        (["kill", "--over", "0"], 1, "over: must be 10ms to 24h"),
        (["kill", "--app", "x"], 1, "app: kill has no such field"),
        (["word " * 20], 2, "too many words"),
    ],
)
def test_what_ctl_refuses(proxy, arguments, status, says):
    before = proxy.order("rule", "list")
    done = proxy.ctl(*arguments)
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr.startswith("weir ctl: ") and done.stderr.count("\n") == 1
    assert says in done.stderr
    assert proxy.order("rule", "list")["rules"] == before["rules"]


def test_examples_are_right(proxy):
    """Each that the help and the pages for who is on call have, but for those that end weir."""
    root = Path(__file__).resolve().parents[2]
    pages = [root / "docs/rules.md", root / "docs/deploy/emergency.md"]
    text = proxy.ctl("--help").stdout + "".join(page.read_text() for page in pages)
    lines = [shlex.split(line, comments=True)[2:]
             for line in text.splitlines() if line.strip().startswith("weir ctl ")]  # fmt: skip
    rules = [words for words in lines if words[:2] == ["rule", "add"]]
    assert len(rules) > 10 and ["kill", "--over", "30s"] in lines
    for words in lines:
        if words[0] in ("rule", "emergency", "kill", "status") and words[:2] != ["rule", "remove"]:
            done = proxy.ctl(*words)
            off = words == ["emergency", "off"] and "there is no emergency" in done.stderr
            assert done.returncode == 0 or off, (words, done.stderr)
    for rule in ask(proxy, {"order": "rule list"})["rules"]:
        assert proxy.ctl("rule", "remove", str(rule["id"])).returncode == 0


def test_what_ctl_prints(proxy):
    assert "no rules" in proxy.ctl("rule", "list").stdout
    added = proxy.ctl("rule", "add", "--app", "x", "--at-once", "3", "--why", "a test")
    number = added.stdout.split()[1].rstrip(":")
    assert added.stdout == f"rule {number}: app x: atOnce 3, ends in 15m\n"
    assert "app x: atOnce 3" in proxy.ctl("rule", "list").stdout
    status = proxy.ctl("status").stdout
    assert "clients " in status and "cap 4" in status and "no emergency" in status
    assert proxy.ctl("rule", "remove", number).stdout == "done\n"
    assert "(none that suits)" in status and status.count("cap ") == 1  # that has none
    for order, says in (("6", "cap 4 -> 6"), ("6", "cap 6, as before"), ("default", "cap 6 -> 4")):
        assert proxy.ctl("setCap", order).stdout == f"{says}\n"
    assert proxy.ctl("setLimit", "2").stdout == "limit none -> 2\n"
    assert proxy.ctl("setLimit", "default").stdout == "limit 2 -> none\n"
    proxy.ctl("emergency", "on", "--for", "1h")
    again = proxy.ctl("emergency", "on", "--why", "still").stdout  # which does not end it later
    assert again.startswith("EMERGENCY for ") and ": still], ends in 60m" in again
    assert "EMERGENCY" in proxy.ctl("status").stdout
    assert proxy.ctl("emergency", "off").stdout == "done\n"


def ctl_alone(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(weir.default_binary()), "ctl", *arguments],
        capture_output=True, text=True, timeout=60, env={**os.environ, **environment},
    )  # fmt: skip


def test_no_weir_there(tmp_path):
    done = ctl_alone("--socket", str(tmp_path / "none.sock"), "status")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"weir ctl: {tmp_path}/none.sock: no weir listens there: No such file or directory\n"
    done = ctl_alone("--port", "12x", "status")
    assert (done.returncode, done.stderr) == (2, "weir ctl: --port 12x: must be a port\n")
    done = ctl_alone("--socket", "", "status")
    assert (done.returncode, done.stderr) == (2, "weir ctl: --socket: must not be empty\n")
    done = ctl_alone("--socket", "x" * 200, "status")
    assert done.returncode == 2 and "too long a path" in done.stderr


def test_the_variable_says_which(proxy):
    done = ctl_alone("status", WEIR_CONTROL_SOCKET=str(path_of(proxy)))
    assert done.returncode == 0


def test_no_more_rules_than_there_may_be(proxy):
    try:
        for _ in range(256):
            order = {"order": "rule add", "fields": {"app": "many", "deny": "true"}}
            assert ask(proxy, order)["ok"]
        assert ask(proxy, order) == {
            "ok": False,
            "error": "there are 256 rules already: remove some first",
        }
        assert len(ask(proxy, {"order": "rule list"})["rules"]) == 256
        assert proxy.ctl("rule", "list").stdout.count("\n") == 257
    finally:
        for rule in ask(proxy, {"order": "rule list"})["rules"]:
            ask(proxy, {"order": "rule remove", "id": rule["id"]})


# --- the state ------------------------------------------------------------------------------------


def test_state_is_what_the_database_says(proxy):
    with pymongo.MongoClient(proxy.uri) as client:
        settings = list(client.weir.config.find())
        names = client.weir.list_collection_names()
    state = ask(proxy, {"order": "state"})["state"]
    assert sorted(state) == sorted(set(names) - {"log"})  # which is only told when it is asked for
    assert state["config"] == settings
    assert json.loads(proxy.ctl("state").stdout)["config"] == settings
    some = ask(proxy, {"order": "state", "collections": ["servers", "of a later weir", "totals"]})
    assert set(some["state"]) == {"totals", "servers"}
    assert some["state"]["totals"][0]["pid"] == proxy.pid


def test_who_leaves_before_the_state_comes(proxy):
    for _ in range(3 * CONVERSATIONS):
        with connect(path_of(proxy)) as connection, contextlib.suppress(BrokenPipeError):
            connection.sendall(b'{"order": "state"}\n')
    deadline = time.monotonic() + 60
    while proxy.ctl("state").returncode != 0:
        assert time.monotonic() < deadline, "nobody is answered any more"


def test_it_ends_well_while_many_ask_for_the_state(secantus):
    proxy = weir.Weir(secantus.uri)
    path = path_of(proxy)
    ended = threading.Event()

    def look() -> None:
        while not ended.is_set():
            with contextlib.suppress(OSError), connect(path) as connection:
                connection.sendall(b'{"order": "state"}\n')
                read_all(connection)

    threads = [threading.Thread(target=look) for _ in range(8)]
    for thread in threads:
        thread.start()
    try:
        assert proxy.ctl("state").returncode == 0
        assert proxy.stop() == 0, proxy.tail()
    finally:
        ended.set()
        for thread in threads:
            thread.join()


# --- bytes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b"\n", "not a JSON document"),
        (b"hello\n", "not a JSON document"),
        (b"{\n", "not a JSON document"),
        (b"[]\n", "unknown order"),
        (b"{}\n", "unknown order"),
        (b"\x00\xff\xfe\n", "not a JSON document"),
        (b"GET / HTTP/1.0\r\n\r\n", "not a JSON document"),
        (b'{"a":' * 2000 + b"\n", "not a JSON document"),
        (b'{"order": 7}\n', "order: an order has no such field"),
        (b'{"order": "status", "more": 1}\n', "more: an order has no such field"),
        (b'{"order": "status", "id": "1"}\n', "id: an order has no such field"),
        (b'{"order": "state", "collections": {}}\n', "collections: must be a list of names"),
        (b'{"order": "state", "collections": 7}\n', "collections: must be a list of names"),
        (b'{"order": "state", "collections": [7]}\n', "collections: must be a list of names"),
        (b'{"order": "state", "collections": ["x"]}\n', "there is none of these collections"),
        (b'{"order": "state", "id": 1}\n', "state: takes no number"),
        (b'{"order": "status", "collections": ["servers"]}\n', "status has no such field"),
        (b'{"order": "rule add", "fields": 7}\n', "fields: must be a document"),
        (b'{"order": "rule add", "fields": {"deny": true}}\n', "deny: must be a text"),
        (b'{"order": "rule add", "fields": {"app": "a\\u0000b"}}\n', "app: must be a text"),
        (b'{"order": "rule add", "fields": {"nope": "1"}}\n', "nope: unknown field"),
        (b'{"order": "' + b"x" * 300 + b'"}\n', "unknown order"),
        ('{"order": "' .encode() + "ü".encode() * 100 + b'"}\n', ""),
        (b"x" * (LINE_BYTES + 5000), "too long"),
        (b"x" * 1_000_000, "too long"),
    ],
)  # fmt: skip
def test_what_makes_no_sense(proxy, line, error):
    answer = say(proxy, line)
    assert answer["ok"] is False and error in answer["error"]


def test_what_is_invalid_utf8_is_not_taken(proxy):
    answer = say(proxy, b'{"order": "rule add", "fields": {"app": "a\xffb", "deny": "true"}}\n')
    assert answer["ok"] is False
    assert ask(proxy, {"order": "rule list"})["rules"] == []


def test_what_comes_in_pieces(proxy):
    with connect(path_of(proxy)) as connection:
        for byte in b'{"order": "rule list"}\n':
            connection.sendall(bytes([byte]))
        assert json.loads(read_all(connection))["ok"]


def test_who_leaves_in_the_middle(proxy):
    for line in (b"", b'{"order": "rule l', b'{"order": "status"}\n'):
        for _ in range(2 * CONVERSATIONS):
            with connect(path_of(proxy)) as connection, contextlib.suppress(BrokenPipeError):
                connection.sendall(line)  # there may be too many at once for a moment
    deadline = time.monotonic() + 60
    while proxy.ctl("status").returncode != 0:
        assert time.monotonic() < deadline, "nobody is answered any more"


def test_many_who_say_nothing(proxy):
    """They have the socket for themselves for some seconds, and not for ever."""
    idle = [connect(path_of(proxy)) for _ in range(3 * CONVERSATIONS)]
    proxy.wait_for("control_refused", reason="too many at once")
    for connection in idle:
        assert read_all(connection) == b""
        connection.close()
    assert proxy.ctl("status").returncode == 0


def test_who_does_not_read(proxy):
    """The answers are larger than what a socket keeps; others are answered meanwhile."""
    try:
        for i in range(200):
            fields = {"app": f"app{i}", "deny": "true", "why": "x" * 120}
            assert ask(proxy, {"order": "rule add", "fields": fields})["ok"]
        slow = [connect(path_of(proxy)) for _ in range(CONVERSATIONS - 4)]
        for connection in slow:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            connection.sendall(b'{"order": "status"}\n')
        assert len(proxy.order("rule", "list")["rules"]) == 200
        for connection in slow:
            connection.close()
    finally:
        for rule in ask(proxy, {"order": "rule list"})["rules"]:
            ask(proxy, {"order": "rule remove", "id": rule["id"]})


# --- whose it may be ------------------------------------------------------------------------------


def refused_start(uri: str, path: Path) -> str:
    done = subprocess.run(
        [str(weir.default_binary()), uri, "--port", "0", "--control-socket", str(path)],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    return done.stderr.splitlines()[-1]


def test_only_for_its_user(proxy):
    path = path_of(proxy)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) & 0o022 == 0


def test_the_path_is_free_again(secantus, tmp_path):
    path = tmp_path / "c.sock"
    with weir.Weir(secantus.uri, "--control-socket", str(path)):
        assert ctl_alone("--socket", str(path), "status").returncode == 0
        assert "address already in use" in refused_start(secantus.uri, path)
        assert ctl_alone("--socket", str(path), "status").returncode == 0
    assert not path.exists()


def test_a_path_that_was_left_is_taken_over(secantus, tmp_path):
    path = tmp_path / "c.sock"
    crashed = weir.Weir(secantus.uri, "--control-socket", str(path))
    os.kill(crashed.pid, signal.SIGKILL)
    crashed.stop()
    assert path.exists()
    with weir.Weir(secantus.uri, "--control-socket", str(path)):
        assert ctl_alone("--socket", str(path), "status").returncode == 0


def test_disabled(secantus):
    with weir.Weir(secantus.uri, "--control-socket", "disabled") as proxy:
        assert proxy.ctl("status").returncode == 1
        assert proxy.count("control_socket") == 0


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770])
def test_not_where_others_may_write(secantus, tmp_path, mode):
    directory = tmp_path / "open"
    directory.mkdir()
    directory.chmod(mode)
    assert "others may write to it" in refused_start(secantus.uri, directory / "c.sock")
    inner = directory / "inner"
    inner.mkdir(mode=0o700)
    if mode == 0o1777:  # like /tmp: what is ours there stays ours
        with weir.Weir(secantus.uri, "--control-socket", str(inner / "c.sock")):
            pass
    else:
        assert "others may write to it" in refused_start(secantus.uri, inner / "c.sock")


def test_not_in_place_of_a_file(secantus, tmp_path):
    path = tmp_path / "precious"
    path.write_text("precious")
    assert "is there, and no socket" in refused_start(secantus.uri, path)
    assert path.read_text() == "precious"
    assert "No such file" in refused_start(secantus.uri, tmp_path / "none" / "c.sock")


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two users")


@needs_root
def test_not_in_a_directory_of_somebody_else(secantus, tmp_path):
    directory = tmp_path / "theirs"
    directory.mkdir(mode=0o755)
    os.chown(directory, NOBODY, NOBODY)
    assert "belongs to somebody else" in refused_start(secantus.uri, directory / "c.sock")


@needs_root
def test_not_for_another_user(proxy, tmp_path_factory):
    """Not even if somebody opened the socket and its directory for all."""
    path = path_of(proxy)
    mode = stat.S_IMODE(path.parent.stat().st_mode)
    path.parent.chmod(0o711)
    path.chmod(0o666)
    try:
        child = os.fork()
        if child == 0:
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            with connect(path) as connection:
                with contextlib.suppress(BrokenPipeError):
                    connection.sendall(b'{"order": "emergency on"}\n')
                os._exit(0 if read_all(connection) == b"" else 1)
        assert os.waitpid(child, 0)[1] == 0
    finally:
        path.chmod(0o600)
        path.parent.chmod(mode)
    proxy.wait_for("control_refused", reason="another user", uid=str(NOBODY))
    assert not proxy.order("emergency", "status")["emergency"]["on"]


@needs_root
def test_a_user_without_a_runtime_directory(secantus):
    """As on a dyno: the socket is in a directory of the user's own below /tmp."""
    environment = {key: value for key, value in os.environ.items() if key != "XDG_RUNTIME_DIR"}
    binary = weir.default_binary()
    if not os.access(binary, os.X_OK) or not readable_by_all(binary):
        pytest.skip(f"another user cannot run {binary}")
    user = 54321
    child = subprocess.Popen(
        [str(binary), secantus.uri, "--port", str(port := servers.free_port())],
        stderr=subprocess.PIPE, text=True, user=user, group=user, extra_groups=[], env=environment,
    )  # fmt: skip
    try:
        line = next(line for line in child.stderr if "control_socket" in line)
        assert f"path=/tmp/weir-{user}/{port}.sock" in line
        assert stat.S_IMODE(Path(f"/tmp/weir-{user}").stat().st_mode) == 0o700
    finally:
        child.terminate()
        child.wait(60)
        Path(f"/tmp/weir-{user}").rmdir()


def readable_by_all(path: Path) -> bool:
    return all(one.stat().st_mode & 0o001 for one in [path, *path.resolve().parents])
