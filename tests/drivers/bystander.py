# SPDX-License-Identifier: Apache-2.0
"""An innocent client beside a misbehaving peer: it asks in a tight loop and must meet no error."""

from __future__ import annotations

import threading
import time
from typing import Callable

import pymongo

PATIENCE_S = 3.0  # far above what an operation takes, far below any deadline of weir's


class Bystander:
    """Calls `step(client, number)` over and over; the step asserts that its answer is its own."""

    def __init__(
        self,
        uri: str,
        step: Callable[[pymongo.MongoClient, int], None],
        patience_s: float = PATIENCE_S,
    ):
        self._patience_s = patience_s
        self._client = pymongo.MongoClient(uri, maxPoolSize=1, retryReads=False, retryWrites=False)
        self._step = step
        self._done = 0
        self._longest = 0.0
        self._failure: BaseException | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended.is_set():
            before = time.monotonic()
            try:
                self._step(self._client, self._done)
            except BaseException as failure:
                self._failure = failure
                return
            self._longest = max(self._longest, time.monotonic() - before)
            self._done += 1

    def assert_untouched(self) -> None:
        """It has met no error until now, was never kept waiting, and goes on."""
        done, deadline = self._done, time.monotonic() + self._patience_s
        while self._done < done + 2 and time.monotonic() < deadline and not self._failure:
            time.sleep(0.01)
        assert self._failure is None, f"the bystander met {self._failure!r}"
        assert self._done >= done + 2, "the bystander gets no answers"
        assert self._longest < self._patience_s, f"the bystander waited {self._longest:.1f} s"

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()
        self._client.close()
