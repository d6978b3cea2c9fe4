# SPDX-License-Identifier: Apache-2.0
"""What goes wrong meanwhile: each is a function that does it, waits it out and mends it. One more
is one more function in FAULTS."""

from __future__ import annotations

import random
import signal
import socket
import struct
import time
from dataclasses import dataclass

import pymongo

import raw
import servers
import traffic
import weir

# Not killCursors: weir kills once what a client has left, and if that fails leaves it to the server's
# own timeout, which a soak does not wait for. It may be slow.
WORK = ["find", "getMore", "aggregate", "insert", "update", "findAndModify", "delete",
        "commitTransaction", "abortTransaction"]  # fmt: skip


@dataclass
class World:
    server: servers.Server
    proxy: weir.Weir
    programs: list[traffic.Program]
    random: random.Random

    def sleep(self, most_s: float) -> None:
        time.sleep(self.random.uniform(0, most_s))

    def admin(self, *command: str, **how: object) -> dict:
        """Straight to the server, on a connection that no crash has met."""
        with pymongo.MongoClient(self.server.uri) as client:
            return client.admin.command(*command, **how)

    def fail_point(self, times: int, **how: object) -> None:
        data = {"failCommands": WORK, **how}
        self.admin("configureFailPoint", "failCommand", mode={"times": times}, data=data)

    def connect(self) -> socket.socket:
        return socket.create_connection((self.proxy.host, self.proxy.port))


def kill_server(world: World) -> None:
    world.server.kill()
    world.sleep(3)
    world.server.restart()


def stall_server(world: World) -> None:
    world.server.pause()
    world.sleep(3)
    world.server.resume()


def cut_upstreams(world: World) -> None:
    world.fail_point(world.random.randint(1, 20), closeConnection=True)


def slow_commands(world: World) -> None:
    block = {"blockConnection": True, "blockTimeMS": world.random.randint(100, 1000)}
    world.fail_point(40, failCommands=[*WORK, "killCursors"], **block)
    world.sleep(2)


def step_down(world: World) -> None:
    code = world.random.choice([91, 189, 10107, 11600])
    world.fail_point(world.random.randint(1, 10), errorCode=code)


def kill_clients(world: World) -> None:
    program = world.random.choice(world.programs)
    program.kill()
    world.sleep(1)
    program.begin()


def stall_clients(world: World) -> None:
    program = world.random.choice(world.programs)
    program.signal(signal.SIGSTOP)
    world.sleep(3)
    program.signal(signal.SIGCONT)


def bad_bytes(world: World) -> None:
    """From clients: no message at all, or one that breaks what it says of itself."""
    good = bytearray(raw.op_msg(raw.body({"find": "numbers", "$db": "checks"})))
    for _ in range(50):
        bad = bytearray(world.random.randbytes(200))
        if world.random.random() < 0.7:
            bad = bytearray(good)
            bad[world.random.randrange(len(bad))] ^= world.random.randrange(1, 256)
        with world.connect() as stream:
            stream.sendall(bad)


def cut_requests(world: World) -> None:
    """Clients that end, by FIN or RST, within a request or before its reply."""
    good = raw.op_msg(raw.body({"find": "numbers", "$db": "checks"}))
    for _ in range(50):
        with world.connect() as stream:
            stream.sendall(good[: world.random.randint(0, len(good))])
            if world.random.random() < 0.5:
                now = struct.pack("ii", 1, 0)
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, now)


def many_clients(world: World) -> None:
    streams = [world.connect() for _ in range(300)]
    for stream in streams:
        stream.sendall(raw.op_msg(raw.body({"hello": 1, "$db": "admin"})))
    world.sleep(1)
    for stream in streams:
        stream.close()


FAULTS = (kill_server, stall_server, cut_upstreams, slow_commands, step_down, kill_clients,
          stall_clients, bad_bytes, cut_requests, many_clients)  # fmt: skip
