"""How topics are published, and whether anybody reads them."""
from __future__ import annotations

from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

# Reliable and volatile fits Nav2's best-effort readers and RViz's reliable ones; maps and legends also reach whoever
# comes late (REP 2003).
STREAM = QoSProfile(depth=2, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.VOLATILE)
LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
# A reader who misses an increment is wrong until the whole comes again, so some wait for it.
INCREMENTS = QoSProfile(depth=20, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.VOLATILE)


class Topics:
    """Publishers of a node that go together."""

    def __init__(self, node: Node):
        self._node = node
        self._made: list[Publisher] = []

    def add(self, kind: type, name: str, qos: QoSProfile) -> Publisher:
        self._made.append(self._node.create_publisher(kind, name, qos))
        return self._made[-1]

    def destroy(self) -> None:
        for publisher in self._made:
            self._node.destroy_publisher(publisher)


def is_read(publisher: Publisher) -> bool:
    return publisher.get_subscription_count() > 0
