"""The real node as a robot's eyes: pictures and TF go to it over DDS, and the drive waits for its clouds."""
from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import rclpy
from harness import CAMERA, Process, node_command
from home import Home, View, camera_info, motion, mounting, picture_of
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
from rclpy.signals import SignalHandlerOptions
from robot import Robot
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from tf2_msgs.msg import TFMessage

from lsm_ros.ros.conversions import stamp_ns

TOPICS = {"obstacles": "/lsm/obstacle_cloud", "ground": "/lsm/ground_cloud", "free": "/lsm/free_cloud"}
PATIENCE_S = 30.0           # for the clouds of a picture; without them the robot goes on with the last ones
LISTENING_S = 180.0         # the network is loaded first
SETTLED_S = 2.0             # the node, too, must have heard of our subscriptions: it publishes what is read

# Each picture is looked at: the simulated robot stands still until the node has spoken.
PARAMETERS = ("mapper.keyframe_motion:=0.005", "tf_mode:=none")


class Eyes(Node):
    """Answers `drive.Sense` with what the node says. Best effort, as Nav2 reads."""

    def __init__(self, executor: SingleThreadedExecutor, home: Home):
        super().__init__("robot")
        self._executor, self._home = executor, home
        self.silent, self._listening = 0, False          # pictures without all clouds
        self._clouds: dict[str, PointCloud2] = {}
        self._image = self.create_publisher(Image, "/camera/image_raw", 10)
        self._info = self.create_publisher(CameraInfo, "/camera/camera_info", 10)
        self._tf = self.create_publisher(TFMessage, "/tf", 100)
        self._mounting = self.create_publisher(
            TFMessage, "/tf_static", QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL))
        self._mounting.publish(mounting())
        for name, topic in TOPICS.items():
            self.create_subscription(PointCloud2, topic, partial(self._clouds.__setitem__, name),
                                     qos_profile_sensor_data)

    def __call__(self, view: View, robot: Robot, stamp: int) -> dict[str, PointCloud2]:
        """Raises AssertionError where the node doesn't begin to listen."""
        if not self._listening:
            self._listening = self._wait(
                lambda: all(sent.get_subscription_count() for sent in (self._image, self._info, self._tf)), LISTENING_S)
            assert self._listening, f"the node doesn't listen after {LISTENING_S} s"
            self._wait(lambda: False, SETTLED_S)
        self._tf.publish(motion(robot, stamp))
        self._info.publish(camera_info(self._home.K, stamp))
        self._image.publish(picture_of(view, stamp))
        self.silent += not self._wait(lambda: len(self._of(stamp)) == len(TOPICS), PATIENCE_S)
        return self._of(stamp)

    def _of(self, stamp: int) -> dict[str, PointCloud2]:
        return {name: message for name, message in self._clouds.items() if stamp_ns(message.header.stamp) == stamp}

    def _wait(self, condition, seconds: float) -> bool:
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                return False
            self._executor.spin_once(timeout_sec=0.05)
        return True


@contextmanager
def eyes(home: Home, log: Path) -> Iterator[Eyes]:
    """The node with the shipped weights in its own process, and the robot's side of it in this one."""
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    executor = SingleThreadedExecutor()
    node = Eyes(executor, home)
    executor.add_node(node)
    process = Process(node_command(*PARAMETERS, remap=(CAMERA,), fake=False), log)
    try:
        yield node
    finally:
        process.stop()
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown()
