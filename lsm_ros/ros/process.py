"""How a ROS process of this package starts, spins and ends."""
from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

POLL_S = 0.1                # how soon a signal is seen

AnyNode = TypeVar("AnyNode", bound=Node)


class StopSignal:
    """The first SIGINT or SIGTERM asks for an orderly end, the second ends the process at once."""

    def __init__(self):
        self._asked = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)

    def is_set(self) -> bool:
        return self._asked.is_set()

    def _on_signal(self, number: int, _) -> None:
        if self._asked.is_set():
            os._exit(128 + number)
        self._asked.set()


@contextmanager
def spinning(make: Callable[[], AnyNode], args: list[str] | None = None
             ) -> Iterator[tuple[AnyNode, SingleThreadedExecutor, StopSignal]]:
    """A node in an executor, to be spun by the caller until the signal is set; all of it is closed at the end.

    rclpy's own signal handler would end the context at the first signal, before the node could say goodbye.
    """
    stop = StopSignal()
    rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    try:
        node = make()
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        try:
            yield node, executor, stop
        finally:
            executor.remove_node(node)
            executor.shutdown(timeout_sec=POLL_S)
            node.destroy_node()
    finally:
        rclpy.try_shutdown()


def spin(executor: SingleThreadedExecutor, stop: StopSignal) -> None:
    while not stop.is_set():
        executor.spin_once(timeout_sec=POLL_S)
