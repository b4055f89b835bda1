"""How a ROS process of this package starts, spins and ends."""
from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

POLL_S = 0.1                # how soon a signal is seen

AnyNode = TypeVar("AnyNode", bound=Node)


class StopSignal:
    """The first SIGINT or SIGTERM asks for an orderly end, the second ends the process at once.

    Args:
        end_s: the process ends this long after the first in any case, with the status 0; None: when it is done.
    """

    def __init__(self, end_s: float | None = None):
        self._asked, self._end_s = threading.Event(), end_s
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)

    def is_set(self) -> bool:
        return self._asked.is_set()

    def _on_signal(self, number: int, _) -> None:
        if self._asked.is_set():
            os._exit(128 + number)
        self._asked.set()
        if self._end_s is not None:
            watchdog = threading.Timer(self._end_s, os._exit, (0,))
            watchdog.daemon = True
            watchdog.start()


@contextmanager
def spinning(make: Callable[[], AnyNode], args: list[str] | None = None, end_s: float | None = None
             ) -> Iterator[tuple[AnyNode, SingleThreadedExecutor, StopSignal]]:
    """A node in an executor, to be spun by the caller until the signal is set; all of it is closed at the end.

    rclpy's own signal handler would end the context at the first signal, before the node could say goodbye.
    """
    stop = StopSignal(end_s)
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


def spin(executor: SingleThreadedExecutor, stop: StopSignal,
         survive: Callable[[Exception], None] | None = None) -> None:
    """Until the signal. What a callback raises goes to `survive`, or ends the spinning where there is none."""
    while not stop.is_set():
        try:
            executor.spin_once(timeout_sec=POLL_S)
        except ExternalShutdownException:
            raise
        except Exception as error:          # noqa: BLE001 a node that maps outlives a bug of one callback
            if survive is None:
                raise
            survive(error)
