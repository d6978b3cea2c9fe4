# SPDX-License-Identifier: Apache-2.0
"""One operation every 10 ms, by pymongo: the program behind ../../bench/failover.py."""

from __future__ import annotations

import os
import sys
import threading
import time

import pymongo
from pymongo.errors import PyMongoError

EVERY_S = 0.01


def main() -> None:
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    with pymongo.MongoClient(os.environ["URI"]) as client:
        things = client[os.environ["DATABASE"]].pacing
        mine = {"_id": os.getpid()}
        operations = {
            "write": lambda: things.update_one(mine, {"$inc": {"n": 1}}),
            "read": lambda: things.find_one(mine),
        }
        things.insert_one({**mine, "n": 0})
        start = due = time.monotonic()
        while not ended.is_set():
            for name, operate in operations.items():
                time.sleep(max(0.0, due - time.monotonic()))
                due = time.monotonic() + EVERY_S
                said = "ok"
                try:
                    operate()
                except PyMongoError as error:
                    said = repr(error)
                print(name, round(1e6 * (time.monotonic() - start)), said, flush=True)
        print("n", things.find_one(mine)["n"], "ok", flush=True)


if __name__ == "__main__":
    main()
