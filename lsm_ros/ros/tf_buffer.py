"""Hears /tf and /tf_static into a tree of frames.

Always ours, never tf2_ros: that one is missing where the node comes from wheels, and two behaviours would have to be
tested. What is needed of it, chains and interpolation, is lsm_ros/geometry/frame_tree.py.
"""
from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
from geometry_msgs.msg import TransformStamped
from rclpy.clock import JumpThreshold, TimeJump
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from tf2_msgs.msg import TFMessage

from lsm_ros.errors import TooEarlyError, TransformError
from lsm_ros.geometry.frame_tree import FrameTree
from lsm_ros.ros.conversions import stamp_ns
from lsm_ros.ros.diagnostics import Health

# The QoS of tf2_ros's listener.
MOVING = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.VOLATILE)
STATIC = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class TfBuffer:
    """Filled by the executor's thread, read by the worker's.

    Args:
        changed: held while the tree is touched, and told whenever it has grown.
        heard: called with every edge and whether it is static.
        map_frame, camera_frame: of the map and the estimated camera, which come back to us, and are no news of the
            robot. A map that hung on the camera while tf_mode was leaf would close a ring once it carries odom.
    """

    def __init__(self, node: Node, health: Health, changed: threading.Condition,
                 heard: Callable[[TransformStamped, bool], None], map_frame: str, camera_frame: str):
        self._node, self._health, self._changed, self._heard = node, health, changed, heard
        self._map_frame, self._camera_frame = map_frame, camera_frame
        self._tree = FrameTree()
        self._subscriptions = [
            node.create_subscription(TFMessage, "/tf", lambda message: self._on_edges(message, False), MOVING),
            node.create_subscription(TFMessage, "/tf_static", lambda message: self._on_edges(message, True), STATIC)]
        self._jump = node.get_clock().create_jump_callback(
            JumpThreshold(min_forward=None, min_backward=Duration(nanoseconds=-1), on_clock_change=True),
            post_callback=self._on_jump)

    def destroy(self) -> None:
        self._jump.unregister()
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)

    def knows(self, frame: str) -> bool:
        with self._changed:
            return self._tree.knows(frame)

    def parent(self, frame: str, silent_s: float) -> str | None:
        """As FrameTree.parent."""
        with self._changed:
            return self._tree.parent(frame, silent_s)

    def lookup(self, target: str, source: str, stamp: int) -> np.ndarray:
        """T_target_source (4, 4) at a stamp in nanoseconds. Raises TransformError, see FrameTree.lookup."""
        with self._changed:
            return self._tree.lookup(target, source, stamp)

    def behind_s(self, target: str, source: str, stamp: int) -> float:
        """How much TF lacks to tell that; 0 where it can or never will."""
        try:
            self.lookup(target, source, stamp)
        except TooEarlyError as error:
            return error.behind_s
        except TransformError:
            pass
        return 0.0

    def _on_edges(self, message: TFMessage, static: bool) -> None:
        with self._changed:
            for edge in message.transforms:
                self._heard(edge, static)
                if self._is_estimate(edge):
                    continue
                t, q = edge.transform.translation, edge.transform.rotation
                try:
                    self._tree.set(edge.header.frame_id, edge.child_frame_id, stamp_ns(edge.header.stamp),
                                   np.array([t.x, t.y, t.z]), np.array([q.x, q.y, q.z, q.w]), static)
                except TransformError as error:
                    self._health.problem("transforms_refused", str(error))
            self._changed.notify_all()

    def _is_estimate(self, edge: TransformStamped) -> bool:
        return edge.child_frame_id == self._map_frame or \
            (edge.header.frame_id, edge.child_frame_id) == (self._map_frame, self._camera_frame)

    def _on_jump(self, jump: TimeJump) -> None:
        """The node's clock went back: a recording or a simulation starts again."""
        with self._changed:
            self._tree.clear()
