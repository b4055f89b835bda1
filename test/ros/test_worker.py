"""The thread behind the node, without ROS."""
from __future__ import annotations

import threading
import time

import pytest

from lsm_ros.ros.worker import Worker


class Gate:
    """A handler that waits to be let go on, and remembers what it was given."""

    def __init__(self):
        self.handled, self.busy, self.go = [], threading.Event(), threading.Event()

    def __call__(self, item):
        self.handled.append(item)
        self.busy.set()
        self.go.wait(5)


def test_the_newest_waiting_item_wins():
    gate = Gate()
    worker = Worker(gate)
    assert not worker.offer(1)
    assert gate.busy.wait(5)
    assert [worker.offer(item) for item in (2, 3, 4)] == [False, True, True]
    gate.go.set()
    worker.run(lambda: None).result(5)
    while len(gate.handled) < 2:
        time.sleep(0.001)
    assert worker.stop(5)
    assert gate.handled == [1, 4]


def test_jobs_run_on_the_thread_and_hand_back_results_and_errors():
    worker = Worker(lambda item: None, name="the worker")
    assert worker.run(lambda: threading.current_thread().name).result(5) == "the worker"
    with pytest.raises(ZeroDivisionError):
        worker.run(lambda: 1 / 0).result(5)
    assert worker.run(lambda: "alive").result(5) == "alive"
    assert worker.stop(5)
    assert worker.run(lambda: None).cancelled()


def test_stop_drops_what_waits_and_says_if_work_goes_on():
    gate = Gate()
    worker = Worker(gate)
    worker.offer(1)
    assert gate.busy.wait(5)
    worker.offer(2)
    job = worker.run(lambda: None)
    assert not worker.stop(0.01)
    assert job.cancelled()
    gate.go.set()
    assert worker.stop(5)
    assert gate.handled == [1]
