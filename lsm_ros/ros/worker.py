"""One thread between the subscription and the mapper: the newest waiting frame wins, so the map never lags behind.

With the network in the subscription's callback most images of a 30 Hz camera are lost; here the callback only swaps a
reference. Everything that touches the mapper runs on this thread, so the mapper needs no lock.
"""
from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Worker(Generic[Item]):
    """Runs `handle(item)` for the newest offered item, and jobs in between. `handle` must not raise."""

    def __init__(self, handle: Callable[[Item], None], name: str = "worker"):
        self._handle = handle
        self._item: Item | None = None
        self._jobs: deque[tuple[Callable, Future]] = deque()
        self._stopping = False
        self._wake = threading.Condition()
        # A daemon: if a window takes longer than `stop` waits, the process ends all the same.
        self._thread = threading.Thread(target=self._loop, name=name, daemon=True)
        self._thread.start()

    def offer(self, item: Item) -> bool:
        """Puts the item in the waiting place. True if it replaced an older one."""
        with self._wake:
            replaced, self._item = self._item is not None, item
            self._wake.notify()
        return replaced

    def run(self, job: Callable) -> Future:
        """Runs the job on the thread, after the work in progress and before the waiting item."""
        future: Future = Future()
        with self._wake:
            if self._stopping:
                future.cancel()
                return future
            self._jobs.append((job, future))
            self._wake.notify()
        return future

    def discard(self) -> bool:
        """Empties the waiting place. True if something waited there."""
        with self._wake:
            waited, self._item = self._item is not None, None
        return waited

    def stop(self, timeout_s: float | None = None) -> bool:
        """Lets the work in progress end and drops the rest. False if it runs on after the timeout (None: no limit)."""
        with self._wake:
            self._stopping = True
            self._item = None
            for _, future in self._jobs:
                future.cancel()
            self._jobs.clear()
            self._wake.notify()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _loop(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._stopping or self._jobs or self._item is not None)
                if self._stopping:
                    return
                job = self._jobs.popleft() if self._jobs else None
                if job is None:
                    item, self._item = self._item, None
            if job is None:
                self._handle(item)
            else:
                _run_job(*job)


def _run_job(job: Callable, future: Future) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(job())
    except Exception as error:              # noqa: BLE001 handed to whoever waits for the future
        future.set_exception(error)
