#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What it costs weir to record what people look at: instructions of its worker for a ping.

    this program, by hand  -->  weir, under callgrind  -->  bench_stub

Two builds, of which one does not record (unrecorded.c); each is counted over two numbers of pings,
and the difference is what a ping takes: nothing of the start, hardly anything that goes by time.
The kernel's instructions are not in it, which would make the share smaller. Run by make
bench-recording.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "servers"))

import raw  # noqa: E402
import servers  # noqa: E402
import weir  # noqa: E402

STUB = servers.BUILD / "tests" / "bench" / "bench_stub"
NOT_RECORDED = HERE / "unrecorded.c"
WRAPPED = re.findall(
    r"__wrap_(\w+)\(void\)$|^NOTHING\((\w+)\)", NOT_RECORDED.read_text(), re.M
)
PING = raw.op_msg(raw.body({"ping": 1, "$db": "admin"}))
TURNS = (40, 120)
ROUNDS = 3

#   name                                       apps, pings of each in a turn, at once
LOADS = {
    "one app": (1, 50, 1),
    "100 apps in turn": (100, 1, 1),
    "1,000 apps in turn: not all have a place": (1000, 1, 1),
    "8 apps at once, one connection: 7 wait": (8, 6, 8),
}  # fmt: skip


def build_unrecorded() -> Path:
    directory = servers.BUILD / "unrecorded"
    directory.mkdir(parents=True, exist_ok=True)
    stubs = directory / "unrecorded.o"
    subprocess.run(["cc", "-O2", "-c", NOT_RECORDED, "-o", stubs], check=True)
    wraps = ",".join(f"--wrap={''.join(names)}" for names in WRAPPED)
    flags = f"-DCMAKE_EXE_LINKER_FLAGS={stubs} -Wl,{wraps}"
    quiet = {"check": True, "stdout": subprocess.DEVNULL}
    subprocess.run(["cmake", "-S", servers.ROOT, "-B", directory, "-G", "Ninja", flags], **quiet)
    subprocess.run(["cmake", "--build", directory, "--target", "weir"], **quiet)
    return directory / "weir"


def instructions(profile: Path) -> dict[str, int]:
    """By thread."""
    return {
        path.name: int(found[1])
        for path in profile.parent.glob(f"{profile.name}-*")
        if (found := re.search(r"^(?:totals|summary): (\d+)", path.read_text(), re.M))
    }


def ping(proxy: weir.Weir, apps: int, each: int, at_once: int, turns: int) -> int:
    connections = [raw.Connection.to(proxy.address) for _ in range(apps)]
    for number, connection in enumerate(connections):
        name = {"application": {"name": f"app-{number}"}}
        connection.ask({"hello": 1, "client": name}, db="admin")
    for _ in range(turns * each):
        for first in range(0, apps, at_once):
            some = connections[first : first + at_once]
            for connection in some:
                connection.send(PING)
            for connection in some:
                connection.receive()
    for connection in connections:
        connection.stream.close()
    return turns * each * apps


def count(
    binary: Path, stub: int, load: tuple[int, int, int], turns: int
) -> tuple[int, dict[str, int]]:
    with tempfile.TemporaryDirectory() as directory:
        profile = Path(directory) / "profile"
        under = Path(directory) / "weir"
        under.write_text(
            "#!/bin/sh\nexec valgrind -q --tool=callgrind --separate-threads=yes"
            f" --callgrind-out-file={profile} {binary} \"$@\"\n"
        )
        under.chmod(0o755)
        uri = f"mongodb://127.0.0.1:{stub}/"
        # No lines of slow ones: under callgrind all are.
        arguments = "--threads 1 --max-wait 60s --limit fixed --slow-op-threshold 1h".split()
        with weir.Weir(uri, *arguments, cap=1, binary=under) as proxy:
            pings = ping(proxy, *load, turns)
        return pings, instructions(profile)


def per_ping(binary: Path, stub: int, load: tuple[int, int, int]) -> float:
    turns = TURNS if load[0] < 100 else tuple(turns // 10 for turns in TURNS)
    (few, before), (many, after) = (count(binary, stub, load, number) for number in turns)
    # Its number is the same each time.
    worker = max(after, key=lambda thread: after[thread] - before.get(thread, 0))
    return (after[worker] - before[worker]) / (many - few)


def least(binary: Path, stub: int, load: tuple[int, int, int]) -> float:
    """How many events a turn of the loop finds is up to chance, and can only add to it."""
    return min(per_ping(binary, stub, load) for _ in range(ROUNDS))


def main() -> None:
    builds = {"not recorded": build_unrecorded(), "recorded": weir.default_binary()}
    port = servers.free_port()
    stub = subprocess.Popen([STUB, "--port", str(port)], stdout=subprocess.DEVNULL)
    print("| | " + " | ".join(builds) + " | ratio |\n|---|---:|---:|---:|")
    try:
        for name, load in LOADS.items():
            off, on = (least(binary, port, load) for binary in builds.values())
            print(f"| {name} | {off:,.0f} | {on:,.0f} | {on / off:.3f} |", flush=True)
    finally:
        stub.terminate()
        stub.wait()


if __name__ == "__main__":
    main()
