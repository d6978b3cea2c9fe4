# SPDX-License-Identifier: Apache-2.0
"""What a driver makes of being refused, by pymongo: the program behind test_shedding.py."""

from __future__ import annotations

import json
import os
from collections import Counter

import pymongo
from pymongo import monitoring
from pymongo.errors import OperationFailure


class Listener(
    monitoring.CommandListener, monitoring.ConnectionPoolListener, monitoring.ServerListener
):
    """Counts attempts at commands, and what a driver does to a server that it thinks is broken."""

    def __init__(self) -> None:
        self.attempts = Counter()
        self.disturbed = Counter(cleared=0, unknown=0)

    def started(self, event):
        self.attempts[event.command_name] += 1

    def succeeded(self, event):
        pass

    failed = opened = closed = succeeded

    def pool_cleared(self, event):
        self.disturbed["cleared"] += 1

    def description_changed(self, event):
        self.disturbed["unknown"] += event.new_description.server_type_name == "Unknown"

    pool_created = pool_ready = pool_closed = succeeded
    connection_created = connection_ready = connection_closed = succeeded
    connection_check_out_started = connection_check_out_failed = succeeded
    connection_checked_out = connection_checked_in = succeeded


def error_of(call) -> dict | None:
    try:
        call()
    except OperationFailure as error:
        labels = sorted(getattr(error, "_error_labels", []))
        return {"code": error.code, "codeName": error.details.get("codeName"), "labels": labels}


def main() -> None:
    listener = Listener()
    with pymongo.MongoClient(os.environ["URI"], event_listeners=[listener]) as client:
        shed = client[os.environ["DATABASE"]].shed
        operations = {
            "find": lambda: shed.find_one({"_id": 0}),
            "insert": lambda: shed.insert_one({"_id": 1}),
            "update": lambda: shed.update_many({}, {"$inc": {"n": 1}}),
        }
        shed.drop()
        shed.insert_one({"_id": 0, "n": 0})
        listener.attempts.clear()
        listener.disturbed = Counter(cleared=0, unknown=0)
        print("ready", flush=True)
        input()
        seen = {}
        for name, call in operations.items():
            error = error_of(call)
            seen[name] = {"error": error, "attempts": listener.attempts[name]}
        print("ok refused", json.dumps(seen), flush=True)
        input()
        counts = {"documents": shed.count_documents({}), "n": shed.find_one({"_id": 0})["n"]}
        shed.insert_one({"_id": 2})
        print("ok recovered", json.dumps(counts))
        print("ok undisturbed", json.dumps(listener.disturbed), flush=True)


if __name__ == "__main__":
    main()
