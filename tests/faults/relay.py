# SPDX-License-Identifier: Apache-2.0
"""A relay between two peers that does to their bytes what networks do: between weir and the server,
or between an app and weir.

    with Relay(server.address) as relay:
        relay.set(Cut(10))              # each connection ends at its 10th byte from now on
        relay.wait_for_hits(1)          # one has
        relay.set(Stall(), UP)          # only what goes to the server
        relay.heal()

A fault holds for connections that are open and for those to come. A connection has a thread for
each direction.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from dataclasses import dataclass

UP, DOWN = "up", "down"  # towards the server, towards who connected
RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER: on, no time


class Fault:
    """What is done with bytes that came; this one passes them on, as all is well."""

    def carry(self, pump: _Pump, data: bytes) -> None:
        pump.send(data)


@dataclass(frozen=True)
class Cut(Fault):
    """The first `at` bytes are passed on; then the connection ends: for both peers in good order
    ("close") or by RST ("reset"), or only in this direction ("half")."""

    at: int = 0
    how: str = "close"

    def carry(self, pump: _Pump, data: bytes) -> None:
        left = self.at - pump.passed
        pump.send(data[:left])
        if len(data) >= left:
            pump.relay.hit()
            pump.link.end(self.how, pump)


class Stall(Fault):
    """Nothing is read on, so that senders come to wait; healed, all of it is passed on."""

    def carry(self, pump: _Pump, data: bytes) -> None:
        pump.relay.hit()
        pump.relay.wait_while(pump.direction, self, pump.link)
        pump.relay.fault(pump.direction).carry(pump, data)


class BlackHole(Fault):
    """All is taken and nothing passed on. What fell in stays lost: such a connection is no good
    when others are healed, and its peers are not told before reset_swallowed()."""

    def carry(self, pump: _Pump, data: bytes) -> None:
        pump.relay.hit()
        pump.link.swallows = True


@dataclass(frozen=True)
class Latency(Fault):
    seconds: float = 0.2

    def carry(self, pump: _Pump, data: bytes) -> None:
        time.sleep(self.seconds)
        pump.relay.hit()
        pump.send(data)


class Trickle(Fault):
    """One byte at a time, each a segment of its own."""

    def carry(self, pump: _Pump, data: bytes) -> None:
        for i in range(len(data)):
            pump.send(data[i : i + 1])
        pump.relay.hit()


class _Link:
    """A connection that came, and the one made for it."""

    def __init__(self, relay: Relay, client: socket.socket, server: socket.socket):
        self.streams = (client, server)
        self.swallows = False
        self.ended = False
        self._pumps = 2
        self._relay = relay
        for stream in self.streams:
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for direction, source, sink in ((UP, client, server), (DOWN, server, client)):
            pump = _Pump(relay, self, direction, source, sink)
            threading.Thread(target=pump.run, daemon=True).start()

    def end(self, how: str, pump: _Pump | None = None) -> None:
        if how == "half":
            pump.is_over = True
            with contextlib.suppress(OSError):
                pump.sink.shutdown(socket.SHUT_WR)
            return
        self.ended = True
        for stream in self.streams:
            with contextlib.suppress(OSError):
                if how == "reset":  # when the last pump closes it; for now only wakes the pumps
                    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
                    stream.shutdown(socket.SHUT_RD)
                else:
                    stream.shutdown(socket.SHUT_RDWR)

    def pump_ended(self) -> None:
        with self._relay.changed:
            self._pumps -= 1
            if self._pumps > 0:
                return
            self._relay.links.discard(self)
        for stream in self.streams:
            stream.close()


@dataclass(eq=False)
class _Pump:
    """One direction of a connection."""

    relay: Relay
    link: _Link
    direction: str
    source: socket.socket
    sink: socket.socket
    passed: int = 0  # bytes since the fault was set
    is_over: bool = False
    _fault: Fault | None = None

    def send(self, data: bytes) -> None:
        self.sink.sendall(data)
        self.passed += len(data)

    def run(self) -> None:
        try:
            while not self.is_over and (data := self.source.recv(65536)):
                self._take(data)
            self._pass_end_on()
        except OSError:
            self.link.end("reset")
        finally:
            self.link.pump_ended()

    def _take(self, data: bytes) -> None:
        fault = self.relay.fault(self.direction)
        if fault is not self._fault:
            self._fault, self.passed = fault, 0
        if not self.link.ended and not self.link.swallows:
            fault.carry(self, data)

    def _pass_end_on(self) -> None:
        if self.link.ended or self.is_over:
            return
        fault = self.relay.fault(self.direction)
        if isinstance(fault, Stall):
            self.relay.wait_while(self.direction, fault, self.link)
        if not self.link.swallows and not isinstance(fault, BlackHole):
            self.sink.shutdown(socket.SHUT_WR)


class Relay:
    """`limit`: how many connections there may be; one more is accepted and closed at once, as by a
    server that has too many. None: any number."""

    def __init__(self, target: tuple[str, int]):
        self.target = target
        self.limit: int | None = None
        self.changed = threading.Condition()
        self.links: set[_Link] = set()
        self.hits = 0
        self._faults: dict[str, Fault] = {UP: Fault(), DOWN: Fault()}
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.address = self._listener.getsockname()
        self.host, self.port = self.address
        threading.Thread(target=self._accept, daemon=True).start()

    def set(self, fault: Fault, *directions: str) -> None:
        with self.changed:
            self.hits = 0
            for direction in directions or (UP, DOWN):
                self._faults[direction] = fault
            self.changed.notify_all()

    def heal(self) -> None:
        self.set(Fault())

    def reset_swallowed(self) -> None:
        """Resets the connections that something of fell into a black hole."""
        with self.changed:
            swallowed = [link for link in self.links if link.swallows]
        for link in swallowed:
            link.end("reset")

    def fault(self, direction: str) -> Fault:
        return self._faults[direction]

    def hit(self) -> None:
        """Counts what a fault was done to."""
        with self.changed:
            self.hits += 1
            self.changed.notify_all()

    def wait_for_hits(self, count: int, timeout: float = 20.0) -> None:
        with self.changed:
            there = self.changed.wait_for(lambda: self.hits >= count, timeout)
        assert there, f"{self.hits} hits instead of {count} by {self._faults}"

    def wait_while(self, direction: str, fault: Fault, link: _Link) -> None:
        with self.changed:
            self.changed.wait_for(lambda: self.fault(direction) is not fault or link.ended)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._connect(client)

    def _connect(self, client: socket.socket) -> None:
        if self.limit is not None and len(self.links) >= self.limit:
            client.close()
            return
        try:
            server = socket.create_connection(self.target)
        except OSError:
            client.close()
            return
        with self.changed:
            self.links.add(_Link(self, client, server))

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self.changed:
            links = list(self.links)
        for link in links:
            link.end("close")
        self.heal()


def direct(relay: Relay) -> str:
    """The URI of the server behind it: a set's own names for its members would lead past it."""
    return f"mongodb://{relay.host}:{relay.port}/?directConnection=true"
