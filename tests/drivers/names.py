# SPDX-License-Identifier: Apache-2.0
"""A name server for mongodb+srv:// URIs, and a weir that asks it."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import weir
from dnslib import A, QTYPE, RR, SRV, TXT
from dnslib.server import BaseResolver, DNSLogger, DNSServer, UDPServer

ADDRESS = "127.0.53.53"  # of this machine's alone, and not where a resolver of the system listens
CLUSTER = "cluster.weir.test"


def why_not_here() -> str | None:
    """Why there can be no such weir on this machine: the names of one process alone are changed
    by a mount that it alone sees, and name servers listen on port 53."""
    if os.geteuid() != 0:
        return "only root may listen on port 53 and mount a resolv.conf"
    tried = subprocess.run(["unshare", "--mount", "true"], capture_output=True, text=True)
    return tried.stderr.strip() if tried.returncode else None


class _Silent(UDPServer):
    def handle_error(self, request, client_address):
        """Who ends last, a weir or its name server, does not matter."""


class Names(BaseResolver):
    """Answers for `weir.test`: the cluster's members by `ports`, which are m0, m1 … on this
    machine, and its options by `options`. Both can be changed at any time."""

    def __init__(self, ports: list[int], options: str | None = None):
        self.ports, self.options = ports, options
        self.domain = "weir.test"  # of the members
        self.asked: list[str] = []
        silent = DNSLogger(logf=lambda _: None)
        self._server = DNSServer(self, address=ADDRESS, port=53, server=_Silent, logger=silent)

    def resolve(self, request, handler):
        name, kind = str(request.q.qname).rstrip("."), QTYPE[request.q.qtype]
        self.asked.append(f"{kind} {name}")
        reply = request.reply()
        for data in self._answers(name, kind):
            reply.add_answer(RR(request.q.qname, request.q.qtype, rdata=data, ttl=1))
        return reply

    def _answers(self, name: str, kind: str) -> list:
        if kind == "SRV" and name == f"_mongodb._tcp.{CLUSTER}":
            members = enumerate(self.ports)
            return [SRV(0, 0, port, f"m{index}.{self.domain}") for index, port in members]
        if kind == "TXT" and name == CLUSTER and self.options is not None:
            return [TXT(self.options)]
        return [A("127.0.0.1")] if kind == "A" and name.endswith(self.domain) else []

    def __enter__(self) -> Names:
        self._server.start_thread()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()
        self._server.server.server_close()


def asking_weir(directory: Path) -> Path:
    """A program that is weir, but that asks our name server."""
    (directory / "resolv.conf").write_text(f"nameserver {ADDRESS}\n")
    program = directory / "weir"
    conf, binary = directory / "resolv.conf", weir.default_binary()
    within = f'mount --bind {shlex.quote(str(conf))} /etc/resolv.conf && exec "$0" "$@"'
    program.write_text(
        f"#!/bin/sh\nexec unshare --mount sh -c {shlex.quote(within)} {shlex.quote(str(binary))} "
        '"$@"\n'
    )
    program.chmod(0o755)
    return program
