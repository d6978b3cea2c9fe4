# SPDX-License-Identifier: Apache-2.0
"""What `make run` does: a server, weir before it, the story, and then weir goes on serving.

$URI names a server to storm in place of one that is started for it. $MONGODB_URI alone does not:
whoever has it set to use their deployment did not ask for a storm in it. STAY=0 ends it after the
story.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from urllib.parse import quote_plus

from pymongo.errors import PyMongoError

import story
from story import say, servers, weir

CAP = 40
USUAL_PORT = 27017
USUAL_PAGE_PORT = 27080
NAMES = {
    "external": "yours",
    "mongod": "mongod, started for this",
    "secantus": "SecantusDB, started for this",
}


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    os.environ["MONGODB_URI"] = os.environ.get("URI", "")
    try:
        with servers.start() as server:
            serve(server)
    except servers.Unavailable as reason:
        sys.exit(f"No server to run before: {reason}")
    except PyMongoError as error:
        sys.exit(f"The server failed: {error}")
    except KeyboardInterrupt:
        say("\nBye.")


def serve(server: servers.Server) -> None:
    say(f"Server:  {NAMES[server.kind]}, at {server.host}:{server.port}")
    port, page_port = port_to_use(USUAL_PORT), port_to_use(USUAL_PAGE_PORT)
    path = f"/tmp/weir-{port}.sock"
    more = ("--unix-socket", path, "--http-port", str(page_port))
    with weir.Weir(server.uri, *more, cap=CAP, tls=True, port=port) as proxy:
        say(f"weir:    before it, with at most {CAP} connections. Connect by any of")
        for uri in uris(proxy, path):
            say(f"         {uri}")
        say(f"Look on: http://127.0.0.1:{page_port}/\n")
        runs = story.tell(server, proxy.uri, CAP, story.Phases())
        log = story.exhaustions(proxy)
        (servers.BUILD / "story.log").write_text("\n".join(proxy.lines) + "\n")
        story.show(runs, log, servers.BUILD / "story.png", servers.BUILD / "story.json")
        if os.environ.get("STAY") != "0":
            stay(proxy, path)


def stay(proxy: weir.Weir, path: str) -> None:
    event = next((event for event in proxy.events if event["event"] == "exhaustion_end"), None)
    say("\nweir goes on serving until Ctrl-C; from here on its log. For example")
    for uri in uris(proxy, path):
        say(f'    mongosh "{uri}"')
    say(f"    build/weir top --port {proxy.port}")
    if event:
        say(f"    build/weir explain-event --port {proxy.port} {event['id']}")
    proxy.echo = True
    while proxy.is_running():
        time.sleep(0.5)


def uris(proxy: weir.Weir, path: str) -> tuple[str, str, str]:
    return proxy.tls_uri, proxy.uri, f"mongodb://{quote_plus(path)}/"


def port_to_use(usual: int) -> int:
    """The usual one, unless somebody has it already."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", usual))
        except OSError:
            return servers.free_port()
    return usual


if __name__ == "__main__":
    main()
