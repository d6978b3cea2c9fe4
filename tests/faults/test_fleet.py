# SPDX-License-Identifier: Apache-2.0
"""Several weirs under one cap, with real stores that fail, before a stub that counts connections."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import threading
import time
import urllib.request
import warnings
from pathlib import Path

import pytest
import raw
import servers
import stores
from relay import BlackHole, Relay
from stores import wait_until
from stub_server import StubServer
from weir import Weir, default_binary

pytestmark = pytest.mark.skipif(bool(stores.why_not()), reason=str(stores.why_not()))

CAP, FLOOR, INSTANCES = 60, 1, 20
LEASED = CAP - INSTANCES * FLOOR
APPS = 30  # of a busy weir
HOLD_S = 0.2


class App(threading.Thread):
    """Asks on one connection, as fast as it is answered, until it is ended or its weir is."""

    def __init__(self, address: tuple[str, int], ending: threading.Event) -> None:
        super().__init__(daemon=True)
        self._address, self._ending = address, ending
        self.start()

    def run(self) -> None:
        with contextlib.suppress(OSError, AssertionError), raw.Connection.to(self._address) as it:
            it.hello()
            while not self._ending.is_set():
                it.ask({"ping": 1, "comment": "x"})


def load(*weirs: Weir, apps: int = APPS) -> threading.Event:
    ending = threading.Event()
    for proxy in weirs:
        for _ in range(apps):
            App(proxy.address, ending)
    return ending


def slow(asked) -> None:
    time.sleep(HOLD_S)
    asked.connection.send(asked.fine())


def start_alone(stub, cap: int, *arguments: str, **options) -> Weir:
    return Weir(
        stub.uri, "--limit", "fixed", "--max-wait", "2s", "--slow-op-threshold", "1m", "--threads",
        "1", "--upstream-max-idle-time", "1s", *arguments, cap=cap, **options,
    )  # fmt: skip


def start(
    stub, address: str, cap: int = CAP, instances: int = INSTANCES, *arguments: str, **options
) -> Weir:
    return start_alone(
        stub, 1000, "--fleet-redis", address, "--fleet-cap", str(cap), "--fleet-floor", str(FLOOR),
        "--fleet-instances", str(instances), "--fleet-lease", "4s", *arguments, **options,
    )  # fmt: skip


def open_at(stub) -> int:
    return len(stub._upstreams)


# --- clocks ---------------------------------------------------------------------------------------


def a_day_ahead(directory: Path) -> Path:
    """weir where the machine seems to have been up for a day longer, as after another start."""
    script = directory / "weir-ahead"
    ahead = "unshare --time --boottime 86400 --monotonic 86400"
    if subprocess.run([*ahead.split(), "true"], capture_output=True).returncode != 0:
        warnings.warn("no time namespaces here: all go by one clock", stacklevel=2)
        return default_binary()
    script.write_text(f'#!/bin/sh\nexec {ahead} {default_binary()} "$@"\n')
    script.chmod(0o755)
    return script


def wall_clock(offset: Path) -> dict[str, str]:
    """The environment of a weir whose wall clock is off by what the file says."""
    faketime = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
    offset.write_text("+0\n")
    if not faketime:
        warnings.warn("no libfaketime: no clock jumps", stacklevel=2)
        return {}
    return {
        "LD_PRELOAD": str(faketime), "FAKETIME_TIMESTAMP_FILE": str(offset),
        "FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "ASAN_OPTIONS": "verify_asan_link_order=0",
    }  # fmt: skip


# --- the fleet ------------------------------------------------------------------------------------


class Fleet:
    """20 weirs at one store with a replica and a Sentinel; `direct` goes to the store itself,
    through a relay."""

    def __init__(self, stack: contextlib.ExitStack, directory: Path) -> None:
        self.offset = directory / "offset"
        self.stub = stack.enter_context(StubServer())
        self.stub.script = slow
        self.master = stack.enter_context(stores.Redis())
        self.replica = stack.enter_context(
            stores.Redis("--replicaof", "127.0.0.1", str(self.master.port))
        )
        wait_until(self.master.has_a_replica, "there is one to fail over to")
        sentinel = stack.enter_context(stores.Sentinel(self.master))
        relay = Relay(("127.0.0.1", self.master.port))
        self.relay = stack.enter_context(relay)
        shop = f"redis+sentinel://{sentinel.address}/shop"
        self.direct = start(self.stub, "%s:%d" % relay.address)
        self.ahead = start(self.stub, shop, binary=a_day_ahead(directory))
        self.jumping = start(self.stub, shop, env=wall_clock(self.offset))
        self.frozen = start(self.stub, shop)
        self.others = [start(self.stub, shop) for _ in range(INSTANCES - 4)]
        stack.callback(self.end)
        wait_until(lambda: open_at(self.stub) == 0, "what tried the login has gone")

    def end(self) -> None:
        weirs = [self.direct, self.ahead, self.jumping, self.frozen, *self.others]
        for proxy in weirs:
            proxy._child.send_signal(signal.SIGINT)
        for proxy in weirs:
            status = proxy.stop()
            assert status == 0 or proxy is self.frozen, f"{status}{proxy.tail()}"

    def wait_for_use(self, busy: int, when: str) -> None:
        """Until the busy ones, with the floors of all others set aside, use the cap."""
        wait_until(lambda: open_at(self.stub) >= LEASED + busy * FLOOR, f"used: {when}")
        self.look(when)

    def wait_for_floors(self, busy: int, when: str) -> None:
        wait_until(lambda: open_at(self.stub) <= busy * FLOOR, f"floors: {when}")
        self.look(when)

    def look(self, when: str) -> None:
        assert self.stub.most_upstreams <= CAP, when


def test_cap_holds_whatever_becomes_of_the_store_and_of_some(tmp_path, record_property):
    with contextlib.ExitStack() as stack:
        fleet = Fleet(stack, tmp_path)
        frozen = fleet.frozen
        fourth, fifth = fleet.others[:2]
        before = load(fleet.direct, fleet.ahead, fleet.jumping, frozen)
        stack.callback(before.set)
        fleet.wait_for_use(4, "at first")

        fleet.offset.write_text("+1h\n")
        os.kill(frozen.pid, signal.SIGSTOP)
        fleet.relay.set(BlackHole())
        assert fleet.master.ask("FLUSHALL") == "+OK"
        wait_until(lambda: not frozen.is_running(), "its kernel ends who is frozen")
        assert frozen._child.returncode == -signal.SIGKILL
        floor = lambda: fleet.direct.state()["upstreams_open"] <= FLOOR
        wait_until(floor, "who is cut off is down to its floor")
        fleet.wait_for_use(3, "the store has forgotten, one was frozen, one is cut off")

        fleet.offset.write_text("-1h\n")
        fleet.replica.freeze()
        before.set()
        after = load(fleet.direct, fourth, fifth)
        stack.callback(after.set)
        wait_until(lambda: fifth.state()["upstreams_open"] > FLOOR, "leases move")
        fleet.master.end()
        fleet.replica.thaw()
        fleet.wait_for_use(3, "the store is another, which was behind")

        fleet.replica.end()
        fleet.wait_for_floors(5, "the store is away")
        fleet.replica.start("--replicaof", "no", "one")
        fleet.wait_for_use(3, "the store was away, and is empty")

        fleet.replica.freeze()
        fleet.wait_for_floors(5, "the store is frozen")
        fleet.replica.thaw()
        fleet.wait_for_use(3, "the store was frozen")
        record_property("most", fleet.stub.most_upstreams)


def test_who_goes_by_other_terms_gets_nothing():
    """Two fleets by one name, by mistake: the second has no connection and says why."""
    with StubServer() as stub, stores.Redis() as store:
        with start(stub, store.address) as first:
            first.wait_for("fleet_store_found")
            with start(stub, store.address, cap=CAP + 6) as other:
                other.wait_for("fleet_refused")
                load(first, other, apps=1)
                wait_until(lambda: first.state()["upstreams_open"] == 1, "one serves")
                assert other.state()["upstreams_open"] == 0
                assert seen(other)["state"] == "refused" and seen(other)["allowed"] == 0


# --- what is to be seen ---------------------------------------------------------------------------


def seen(proxy: Weir) -> dict:
    with raw.Connection.to(proxy.address) as it:
        [fleet] = it.ask({"find": "fleet"}, db="weir")["cursor"]["firstBatch"]
    return fleet


def held_by(proxy: Weir) -> dict[str, int]:
    """Who holds what, as it knows."""
    return {member["id"]: member["held"] for member in seen(proxy)["members"]}


def metric(proxy: Weir, port: int, name: str) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
        return float(re.search(rf"^weir_fleet_{name}{{.*}} (\S+)$", answer.read().decode(), re.M)[1])


def test_who_holds_what_is_to_be_seen_and_nobody_dies_of_a_store_that_is_away():
    port = servers.free_port()
    valkey = stores.valkey()
    if not valkey:
        warnings.warn("no Valkey here: on Redis", stacklevel=2)
    options = "--http-port", str(port)
    with StubServer() as stub, stores.Redis(program=valkey) as store:
        stub.script = slow
        with start(stub, store.address, 20, 2, *options) as busy, start(
            stub, store.address, 20, 2
        ) as idle:
            ending = load(busy)
            wait_until(lambda: seen(busy)["held"] == 18, "it has all but the floors")
            wait_until(lambda: sorted(held_by(idle).values()) == [0, 18], "the other sees it")
            fleet = seen(busy)
            assert (fleet["_id"], fleet["store"], fleet["up"]) == ("default", store.address, True)
            assert (fleet["state"], fleet["allowed"], fleet["need"]) == ("leased", 19, 29)
            assert fleet["mature"] and fleet["epoch"] and 0 < fleet["leaseEnds"] <= 4
            [own] = [member["id"] for member in fleet["members"] if member["self"]]
            assert held_by(idle)[own] == held_by(busy)[own] == 18
            assert metric(busy, port, "leased") == 18 and metric(busy, port, "store_up") == 1
            top = subprocess.run(
                [default_binary(), "top", "--once", "--json", "--port", str(busy.port)],
                capture_output=True, text=True, check=True, timeout=60,
            )  # fmt: skip
            assert json.loads(top.stdout)["fleet"]["heldByAll"] == 18
            busy.order("setCap", "9")
            wait_until(lambda: seen(busy)["held"] == 8, "it leases no more than its cap")
            busy.order("setCap", "default")
            wait_until(lambda: seen(busy)["held"] == 18, "it may have all again")

            store.end()
            wait_until(lambda: seen(busy)["state"] in ("draining", "cut"), "it gives up")
            wait_until(lambda: seen(busy)["state"] == "floor", "it has")
            wait_until(lambda: seen(busy)["lastAnswer"] > 4.5, "its lease would be over")
            assert seen(busy)["allowed"] == 1 and "refused" in seen(busy)["error"]
            assert metric(busy, port, "store_up") == 0
            ending.set()


def test_who_takes_another_weirs_place_is_one_more():
    """Without room for it nothing changes; with room, the two stay below the cap."""
    with StubServer() as stub, stores.Redis() as store:
        with start(stub, store.address, instances=1) as alone:
            alone.ctl("upgrade")  # which does not wait for as long
            assert "fleet.instances" in alone.wait_for("upgrade_failed")["why"]
            with raw.Connection.to(alone.address) as client:
                assert client.ask({"ping": 1})["ok"] == 1.0
    with StubServer() as stub, stores.Redis() as store:
        with start(stub, store.address, instances=2) as proxy:
            ending = load(proxy)
            former = proxy.upgrade("--within", "2s")
            assert former.wait(60) == 0
            ending.set()
            assert stub.most_upstreams <= CAP
