# SPDX-License-Identifier: Apache-2.0
"""A set to play with:  PYTHONPATH=tests build/venv/bin/python -m stubset [KIND] [--members N] …

It prints its URI, then takes orders from standard input, a line each: `step_down`, `elect 1`,
`kill 0`, `restart 0`, `black_hole 2`, `black_hole 2 off`, `refuse_above 0 10`, `shut_down 1`, and
`show`. It ends with its input.
"""

from __future__ import annotations

import argparse
import collections
import sys

from . import StubSet, User
from .stub_set import KINDS

ORDERS = "step_down elect kill restart black_hole recovering refuse_above shut_down heal".split()


def show(stub: StubSet) -> None:
    asked = collections.Counter((command.member, command.name) for command in stub.asked())
    for member in stub.members:
        tally = member.tally()
        print(f"{member.index} {member.host} {member.role if member.is_running else 'down'}", tally)
        for (index, name), count in sorted(asked.items()):
            if index == member.index:
                print(f"    {name} {count}")
    for rejection in stub.rejections:
        print(rejection)


def obey(stub: StubSet, line: str) -> None:
    name, *arguments = line.split()
    values = [{"on": True, "off": False}.get(word, word) for word in arguments]
    values = [int(value) if isinstance(value, str) else value for value in values]
    if name == "show":
        show(stub)
    elif name in ORDERS:
        getattr(stub, name)(*values)
    else:
        print(f"there is: show {' '.join(ORDERS)}", file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(prog="stubset", description=__doc__.partition("\n")[0])
    parser.add_argument("kind", nargs="?", choices=KINDS, default="replica_set")
    parser.add_argument("--members", type=int)
    parser.add_argument("--arbiters", type=int, default=0)
    parser.add_argument("--wire", type=int, default=21, help="the maximal wire version")
    parser.add_argument("--election", type=float, default=0.05, help="how many seconds one takes")
    parser.add_argument("--compressors", default="", help="zlib,snappy,zstd")
    parser.add_argument("--user", help="NAME:PASSWORD")
    given = parser.parse_args()
    users = [User(*given.user.split(":", 1))] if given.user else []
    with StubSet(
        given.kind, given.members, arbiters=given.arbiters, wire=(0, given.wire), users=users,
        election_s=given.election, compressors=filter(None, given.compressors.split(",")),
        keeps_records=1000,
    ) as stub:  # fmt: skip
        print(stub.uri, flush=True)
        for line in filter(str.strip, sys.stdin):
            try:
                obey(stub, line)
            except (TypeError, ValueError, IndexError) as failure:
                print(failure, file=sys.stderr)


if __name__ == "__main__":
    main()
