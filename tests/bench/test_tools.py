# SPDX-License-Identifier: Apache-2.0
"""The tools that bench.py measures with must count right: a wrong reply that the load generator
took for a right one would be a figure too good to be true.

$BENCH_TOOLS names the directory of the tools, default build/tests/bench.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOLS = Path(os.environ.get("BENCH_TOOLS", ROOT / "build/tests/bench"))
OP_REPLY, OP_QUERY, OP_MSG = 1, 2004, 2013


@pytest.fixture(autouse=True, scope="module")
def tools_are_built():
    if not (TOOLS / "bench_loadgen").exists():
        pytest.skip(f"no bench_loadgen in {TOOLS}: build it, or set $BENCH_TOOLS")


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


# --- the wire


def bson(**fields) -> bytes:
    body = b""
    for name, value in fields.items():
        key = name.encode() + b"\0"
        if isinstance(value, float):
            body += b"\x01" + key + struct.pack("<d", value)
        elif isinstance(value, int):
            body += b"\x10" + key + struct.pack("<i", value)
        else:
            text = value.encode() + b"\0"
            body += b"\x02" + key + struct.pack("<i", len(text)) + text
    return struct.pack("<i", len(body) + 5) + body + b"\0"


def message(opcode: int, rest: bytes, request_id: int = 1, response_to: int = 0) -> bytes:
    return struct.pack("<iiii", 16 + len(rest), request_id, response_to, opcode) + rest


def op_msg(document: bytes, flags: int = 0, before: bytes = b"", **ids) -> bytes:
    return message(OP_MSG, struct.pack("<I", flags) + before + b"\0" + document, **ids)


def op_query_hello(request_id: int = 1) -> bytes:
    rest = struct.pack("<i", 0) + b"admin.$cmd\0" + struct.pack("<ii", 0, -1) + bson(isMaster=1)
    return message(OP_QUERY, rest, request_id)


def op_reply(document: bytes, response_to: int) -> bytes:
    return message(OP_REPLY, struct.pack("<iqii", 8, 0, 0, 1) + document, response_to=response_to)


def read_exactly(s: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = s.recv(count - len(data))
        if not more:
            raise EOFError
        data += more
    return data


def read_message(s: socket.socket) -> tuple[int, int, bytes]:
    """Opcode, responseTo (of a request: its own id) and the rest of the next message."""
    length, request_id, response_to, opcode = struct.unpack("<iiii", read_exactly(s, 16))
    rest = read_exactly(s, length - 16)
    return opcode, response_to or request_id, rest


# --- processes


@contextlib.contextmanager
def tool(name: str, port: int, *argv: str):
    process = subprocess.Popen([str(TOOLS / name), f"--port={port}", *argv],
                               stdout=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 10
        while True:
            with socket.socket() as s:
                if s.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.02)
        yield process
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()


@contextlib.contextmanager
def stub(*argv: str):
    port = free_port()
    with tool("bench_stub", port, *argv) as process:
        yield port, process


def load(port: int, *argv: str) -> dict:
    done = subprocess.run([str(TOOLS / "bench_loadgen"), f"--port={port}", *argv],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def errors(report: dict) -> dict:
    assert report["errors_in_all"] == sum(report["errors"].values())
    return {kind: n for kind, n in report["errors"].items() if n}


@contextlib.contextmanager
def server(answer: Callable[[socket.socket, int, int], None]):
    """Answers hellos; what happens with the nth ping of a connection is up to `answer`."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(s: socket.socket) -> None:
        with s, contextlib.suppress(EOFError, OSError):
            pings = 0
            while True:
                opcode, request_id, _ = read_message(s)
                if opcode == OP_QUERY:
                    s.sendall(op_reply(bson(ok=1.0), request_id))
                else:
                    answer(s, request_id, pings)
                    pings += 1

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=listener.accept()[:1], daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def good(s: socket.socket, request_id: int) -> None:
    s.sendall(op_msg(bson(ok=1.0), response_to=request_id))


# --- the stub


def test_stub_answers_both_hellos_as_a_standalone():
    with stub() as (port, _), socket.create_connection(("127.0.0.1", port), 5) as s:
        s.sendall(op_query_hello(request_id=7))
        opcode, response_to, rest = read_message(s)
        assert (opcode, response_to) == (OP_REPLY, 7)
        s.sendall(op_msg(bson(hello=1), request_id=8))
        opcode, response_to, again = read_message(s)
        assert (opcode, response_to) == (OP_MSG, 8)
        for reply in (rest, again):
            assert b"ismaster\0\x01" in reply and b"maxWireVersion\0\x15\0\0\0" in reply
            assert b"msg\0" not in reply and b"setName" not in reply
            assert b"topologyVersion" not in reply


def test_stub_answers_commands_however_their_bytes_are_split():
    sequence = b"\x01" + struct.pack("<i", 4 + 10 + 5) + b"documents\0" + bson()
    requests = (op_msg(bson(ping=1), request_id=1) + op_msg(bson(insert="c"), request_id=2,
                                                            before=sequence)
                + op_msg(bson(insert="c"), flags=2, request_id=3)  # wants no reply
                + op_msg(bson(ping=1), request_id=4))
    with stub() as (port, _):
        for step in (1, 3, 17, len(requests)):
            with socket.create_connection(("127.0.0.1", port), 5) as s:
                s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for at in range(0, len(requests), step):
                    s.sendall(requests[at:at + step])
                answered = [read_message(s) for _ in range(3)]
                assert [r[1] for r in answered] == [1, 2, 4]
                assert all(r[2] == b"\0" * 5 + bson(ok=1.0) for r in answered)


def test_stub_on_several_ports_is_a_replica_set():
    ports = [free_port(), free_port()]
    with tool("bench_stub", ports[0], f"--port={ports[1]}"):
        for is_primary, port in ((b"\1", ports[0]), (b"\0", ports[1])):
            with socket.create_connection(("127.0.0.1", port), 5) as s:
                s.sendall(op_query_hello())
                hello = read_message(s)[2]
                assert b"\x08isWritablePrimary\0" + is_primary in hello
                assert all(f"127.0.0.1:{port}\0".encode() in hello for port in ports)


@pytest.mark.parametrize("bytes_", [
    struct.pack("<iiii", 15, 1, 0, OP_MSG), struct.pack("<iiii", -1, 1, 0, OP_MSG),
    message(2010, b"\0" * 20), message(OP_MSG, b""), op_msg(b"\xff\xff\xff\x7f\x10a\0"),
    message(OP_MSG, b"\0" * 4 + b"\x02" + bson(ping=1)), b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
])
def test_stub_ends_only_the_connection_that_talks_nonsense(bytes_):
    with stub() as (port, process):
        with socket.create_connection(("127.0.0.1", port), 5) as s:
            s.sendall(bytes_)
            assert s.recv(1) == b""
        assert errors(load(port, "--clients=1", "--seconds=0.1")) == {}
        process.send_signal(signal.SIGUSR1)
        assert json.loads(process.stdout.readline())["bad_input"] == 1


def test_stub_takes_its_time_and_counts():
    with stub("--delay-us=30000") as (port, process):
        report = load(port, "--clients=8", "--seconds=1", "--warmup=0.2")
        process.send_signal(signal.SIGUSR1)
        counts = json.loads(process.stdout.readline())
    assert errors(report) == {}
    assert 30_000 <= report["p50_us"] < 60_000
    assert report["ops_per_s"] <= 8 / 0.030
    assert counts["in_service_max"] == counts["carrying_max"] == 8
    assert counts["operations"] >= report["ops"]


def test_long_replies_pass_the_relay():
    port = free_port()
    with (stub("--reply-bytes=3000000") as (upstream, _),
          tool("bench_relay", port, f"--upstream-port={upstream}"),
          socket.create_connection(("127.0.0.1", port), 10) as s):
        for request_id in (1, 2, 3):
            s.sendall(op_msg(bson(ping=1), request_id=request_id))
        time.sleep(0.3)  # the relay and the stub are left with what does not fit
        for request_id in (1, 2, 3):
            opcode, response_to, rest = read_message(s)
            assert (opcode, response_to, len(rest) + 16) == (OP_MSG, request_id, 3_000_000)
        assert errors(load(port, "--clients=4", "--seconds=0.5")) == {}


# --- the load generator


def test_every_good_reply_is_one_operation():
    answered = []

    def answer(s, request_id, n):
        answered.append(1)
        time.sleep(0.01)
        good(s, request_id)

    with server(answer) as port:
        report = load(port, "--clients=3", "--seconds=0.5", "--warmup=0")
    assert errors(report) == {} and report["shed"] == 0
    assert 0 < report["ops"] <= len(answered) <= report["ops"] + 2 * 3
    assert 10_000 <= report["p50_us"] <= report["p99_us"] <= report["max_us"]
    assert report["ops_per_s"] == pytest.approx(report["ops"] / report["seconds"], rel=0.01)


@pytest.mark.parametrize("kind, answer", [
    ("wrong_response_to", lambda s, i: good(s, i + 1)),
    ("malformed", lambda s, i: s.sendall(struct.pack("<iiii", 3, 1, i, OP_MSG))),
    ("malformed", lambda s, i: s.sendall(op_msg(bson(n=1), response_to=i))),
    ("unasked", lambda s, i: (s.sendall(op_msg(bson(ok=1.0), response_to=i) * 2))),
    ("closed", lambda s, i: s.shutdown(socket.SHUT_RDWR)),
    ("unanswered", lambda s, i: None),
])
def test_a_bad_third_reply_is_counted_as_what_it_is(kind, answer):
    with server(lambda s, i, n: answer(s, i) if n == 2 else good(s, i)) as port:
        report = load(port, "--clients=2", "--seconds=0.3", "--warmup=0")
    assert errors(report) == {kind: 2}
    assert report["ops"] == 4


def test_shed_is_no_error_and_no_operation_and_is_followed_by_a_pause():
    def answer(s, request_id, n):
        reply = bson(ok=0.0, code=462, baseBackoffMS=50) if n % 2 else bson(ok=1.0)
        s.sendall(op_msg(reply, response_to=request_id))

    with server(answer) as port:
        report = load(port, "--clients=4", "--seconds=1", "--warmup=0")
    assert errors(report) == {}
    assert 4 <= report["shed"] <= report["ops"] <= report["shed"] + 4
    assert report["shed"] < 4 * 1 / 0.050 * 2  # the mean pause is 50 ms: half of 2 x 50


def test_other_errors_are_errors():
    with server(lambda s, i, n: s.sendall(op_msg(bson(ok=0.0, code=6), response_to=i))) as port:
        report = load(port, "--clients=1", "--seconds=0.2", "--warmup=0")
    assert report["ops"] == 0 and set(errors(report)) == {"not_ok"}


def test_nobody_there():
    assert errors(load(free_port(), "--clients=5", "--seconds=0.1")) == {"connect": 5}


def test_idle_clients_have_done_something_and_stay():
    with stub() as (port, process):
        argv = [str(TOOLS / "bench_loadgen"), f"--port={port}", "--clients=100", "--idle"]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as loadgen:
            assert json.loads(loadgen.stdout.readline())["idle"] == 100
            process.send_signal(signal.SIGUSR1)
            counts = json.loads(process.stdout.readline())
            assert counts["operations"] == counts["carrying_max"] == 100
            loadgen.terminate()
            assert errors(json.loads(loadgen.stdout.readline())) == {}


def test_cpu_time_is_that_of_the_process_and_the_window():
    with stub() as (port, process):
        def used_s() -> float:
            fields = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

        before = used_s()
        report = load(port, "--clients=16", "--seconds=1", "--warmup=0",
                      f"--cpu-pid={process.pid}")
        in_window = report["cpu_us_per_op"] * report["ops"] / 1e6
        assert in_window == pytest.approx(used_s() - before, rel=0.1, abs=0.03)
