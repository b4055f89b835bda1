"""How topics are published, and whether anybody reads them."""
from __future__ import annotations

import threading
from functools import partial
from typing import Any

from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

# Reliable and volatile fits Nav2's best-effort readers and RViz's reliable ones; maps and legends also reach whoever
# comes late (REP 2003).
STREAM = QoSProfile(depth=2, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.VOLATILE)
LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
# A reader who misses an increment is wrong until the whole comes again, so some wait for it.
INCREMENTS = QoSProfile(depth=20, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.VOLATILE)


class Latched:
    """A publisher whose last message reaches who comes late, as long as it is right: `forget` takes it back."""

    def __init__(self, node: Node, kind: type, name: str):
        self._node, self._make = node, partial(node.create_publisher, kind, name, LATCHED)
        self._publisher = self._make()
        self._holds = False
        self._lock = threading.Lock()       # one thread publishes, another one asks and forgets

    def publish(self, message: Any) -> None:
        with self._lock:
            self._publisher.publish(message)
            self._holds = True

    def get_subscription_count(self) -> int:
        with self._lock:
            return self._publisher.get_subscription_count()

    def forget(self) -> None:
        """Who comes gets nothing until the next message. A publisher can't take one back, so it is made anew; for the
        executor's thread."""
        with self._lock:
            if self._holds:
                self._node.destroy_publisher(self._publisher)
                self._publisher, self._holds = self._make(), False

    def destroy(self) -> None:
        self._node.destroy_publisher(self._publisher)


class Topics:
    """Publishers of a node that go together."""

    def __init__(self, node: Node):
        self._node = node
        self._made: list[Publisher | Latched] = []

    def add(self, kind: type, name: str, qos: QoSProfile) -> Publisher | Latched:
        self._made.append(Latched(self._node, kind, name) if qos is LATCHED
                          else self._node.create_publisher(kind, name, qos))
        return self._made[-1]

    def destroy(self) -> None:
        for publisher in self._made:
            if isinstance(publisher, Latched):
                publisher.destroy()
            else:
                self._node.destroy_publisher(publisher)


def is_read(publisher: Publisher | Latched) -> bool:
    return publisher.get_subscription_count() > 0
