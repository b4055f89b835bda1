"""TF as TFMessage on /tf, so that tf2_ros need not be installed. One mode is chosen; see `tf_mode` in parameters.py."""
from __future__ import annotations

import numpy as np
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from tf2_msgs.msg import TFMessage

from lsm_ros.contracts import MapUpdate
from lsm_ros.geometry.sim3 import inverse
from lsm_ros.ros.conversions import transform
from lsm_ros.ros.parameters import NodeConfig

MOST_KEYFRAMES = 8          # frames of keyframes that are re-sent with a window; a window has at most 8 views


class TransformPublisher:
    """Publishes the edges of a MapUpdate. Every edge has its own child, so no frame of others is re-parented."""

    def __init__(self, node: Node):
        self._node = node
        qos = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.VOLATILE)
        self._publisher = node.create_publisher(TFMessage, "/tf", qos)     # the QoS of tf2_ros's broadcaster

    def publish(self, update: MapUpdate, image_frame: str, config: NodeConfig) -> None:
        edges = transforms(update, image_frame, config)
        if edges:
            self._publisher.publish(TFMessage(transforms=edges))

    def destroy(self) -> None:
        self._node.destroy_publisher(self._publisher)


def transforms(update: MapUpdate, image_frame: str, config: NodeConfig) -> list:
    """The TransformStamped of a window, all at the stamp of its newest image.

    Args:
        image_frame: frame_id of the image, the child of nothing of ours; the parent of the map in the mode `leaf`.
    """
    stamp = update.stamp_ns
    if config.tf_mode == "none":
        return []
    if config.tf_mode == "leaf":
        return [transform(inverse(update.T_map_cam), stamp, image_frame, config.map_frame)]
    newest = sorted(update.T_map_keyframes)[-MOST_KEYFRAMES:]
    poses: list[tuple[str, np.ndarray]] = [(config.camera_frame, update.T_map_cam)]
    poses += [(f"lsm_keyframe_{id}", update.T_map_keyframes[id]) for id in newest]
    return [transform(T_map_cam, stamp, config.map_frame, name) for name, T_map_cam in poses]
