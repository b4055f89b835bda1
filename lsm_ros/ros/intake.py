"""The node's ears: the image and camera_info subscriptions, and the words for a silence."""
from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:                     # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks

from lsm_ros.data.calibration import Rectifier, calibration
from lsm_ros.data.topics import info_topic, is_compressed, is_rectified, transported
from lsm_ros.errors import InputError
from lsm_ros.ros.diagnostics import SILENCE_S, Health
from lsm_ros.ros.parameters import NodeConfig
from lsm_ros.ros.qos import LATCHED

REPEAT_WARNING_S = 30.0
CAMERA_INFO_WAIT_S = 2.0        # from the first image on, they wait this long for a camera_info that somebody publishes
IMAGE_DEPTH = 5                 # the callback only swaps a reference; a few more outlast a pause of this thread


@dataclass(frozen=True)
class Work:
    """An image on its way to the mapper."""
    message: Image | CompressedImage
    rectify: Rectifier | None       # None where the intrinsics are unknown
    received_s: float               # time.perf_counter() at its arrival

    @property
    def frame_id(self) -> str:
        """The camera's frame, without the leading slash of ROS 1, which tf2 refuses."""
        return self.message.header.frame_id.lstrip("/")


class Intake:
    """Subscribes to the camera and hands every image on; says so if none comes."""

    def __init__(self, node: Node, config: NodeConfig, health: Health, hand_on: Callable[[Work], None]):
        self._node, self._health, self._hand_on = node, health, hand_on
        self.topic, self.info_topic = topics(node, config)
        # A compressed one may be remapped to a name that does not say so.
        compressed = config.image_transport == "compressed" or is_compressed(self.topic)
        self._type = CompressedImage if compressed else Image
        self._rectify: Rectifier | None = None
        self._rectified = config.image_rectified
        self._info_key: tuple | None = None         # the camera_info in use, to notice another one
        self._uses_info = config.use_camera_info
        self._asks_for_kept = self._info_missed = False
        self._began: float | None = None            # time.monotonic() at the first image
        self._heard = time.monotonic()
        self.expect_images()
        # camera_info first: of two messages that wait, rclpy takes that of the older subscription first.
        self._subscriptions = []
        if self._uses_info:
            self._subscriptions.append(node.create_subscription(CameraInfo, self.info_topic, self._on_info,
                                                                sensor_qos("best_effort", 1)))
        self._subscriptions.append(node.create_subscription(
            self._type, self.topic, self._on_image, sensor_qos(config.image_reliability, IMAGE_DEPTH),
            event_callbacks=SubscriptionEventCallbacks(incompatible_qos=self._on_incompatible_qos)))
        self._timer = node.create_timer(1.0, self._on_timer, clock=Clock(clock_type=ClockType.STEADY_TIME))
        node.get_logger().info(f"listening to {self.topic} ({self._type.__name__}) and "
                               f"{self.info_topic if self._uses_info else 'no camera_info'}")

    def destroy(self) -> None:
        self._node.destroy_timer(self._timer)
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)

    def expect_images(self) -> None:
        """From now on it counts as a silence if no image comes for some seconds."""
        self._warn_at = time.monotonic() + SILENCE_S

    def _on_image(self, message: Image | CompressedImage) -> None:
        self._heard = time.monotonic()
        self._warn_at = self._heard + SILENCE_S
        if self._began is None:
            self._began = self._heard
        self._health.arrived()
        if self._waits_for_info():
            self._health.count("images_before_camera_info")
            return
        self._hand_on(Work(message, self._rectify, time.perf_counter()))

    def _waits_for_info(self) -> bool:
        return (self._uses_info and self._info_key is None and self._heard - self._began < CAMERA_INFO_WAIT_S
                and self._node.count_publishers(self.info_topic) > 0)

    def _on_info(self, info: CameraInfo) -> None:
        # The message comes with every image and hardly ever changes; NaN, which equals nothing, is compared as text.
        roi = info.roi
        key = (info.k.tobytes(), info.p.tobytes(), tuple(map(str, info.d)), info.distortion_model, info.width,
               info.height, info.binning_x, info.binning_y, roi.x_offset, roi.y_offset, roi.width, roi.height)
        if key == self._info_key:
            return
        self._info_key = key
        try:
            camera = calibration(info, self._rectified)
            self._rectify = Rectifier(camera) if camera else None
            if camera and camera.distorted and is_rectified(self.topic):
                self._health.problem("rectified_twice", f"{self.topic} is called rectified, and the distortion of "
                                     f"{self.info_topic} is taken out of it once more; set image_rectified to true")
        except InputError as error:
            self._rectify = None
            self._health.problem("camera_info_refused",
                                 f"{self.info_topic}: {error}; the network estimates the intrinsics")

    def _on_incompatible_qos(self, event) -> None:
        self._health.problem("qos_incompatible", f"{self.topic}: a publisher's QoS does not fit "
                             f"({event.last_policy_kind}); {self._publishers()}")

    def _on_timer(self) -> None:
        now = time.monotonic()
        if self._uses_info and self._info_key is None:
            self._miss_info(now)
        if now < self._warn_at:
            return
        self._warn_at = now + REPEAT_WARNING_S
        silent_s = now - self._heard
        self._health.problem("silences", f"no image on {self.topic} for {silent_s:.0f} s; {self._publishers()}")

    def _miss_info(self, now: float) -> None:
        """A CameraInfo that was sent once, and is kept for those who ask for that, is asked for. One that is published
        and does not come is told of, once."""
        found = self._node.get_publishers_info_by_topic(self.info_topic)
        if not self._asks_for_kept and any(info.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL
                                           for info in found):
            self._asks_for_kept = True
            self._subscriptions.append(self._node.create_subscription(CameraInfo, self.info_topic, self._on_info,
                                                                      LATCHED))
        if found and not self._info_missed and self._began is not None and now - self._began > CAMERA_INFO_WAIT_S:
            self._info_missed = True
            self._health.problem("camera_info_missing", f"none came on {self.info_topic}, though "
                                 f"{_join(found[0].node_namespace, found[0].node_name)} publishes it; until one comes "
                                 "the network estimates the intrinsics")

    def _publishers(self) -> str:
        """Who publishes the topic, as what and how; or which image topics there are instead."""
        wanted = f"sensor_msgs/msg/{self._type.__name__}"
        found = self._node.get_publishers_info_by_topic(self.topic)
        if found:
            return "published by " + ", ".join(
                f"{_join(info.node_namespace, info.node_name)} as {info.topic_type} "
                f"({info.qos_profile.reliability.name.lower()}, {info.qos_profile.durability.name.lower()})"
                for info in found) + f"; wanted: {wanted}"
        images = sorted(f"{name} ({types[0].split('/')[-1]})" for name, types in self._node.get_topic_names_and_types()
                        if types[0].startswith("sensor_msgs/msg/") and types[0].endswith("Image")
                        and self._others_publish(name))
        return "nobody publishes it" + (f"; published images: {', '.join(images)}" if images else "")

    def _others_publish(self, topic: str) -> bool:
        """Not this node: its depth and its masks are images, too."""
        own = self._node.get_namespace(), self._node.get_name()
        return any((info.node_namespace, info.node_name) != own
                   for info in self._node.get_publishers_info_by_topic(topic))


def topics(node: Node, config: NodeConfig) -> tuple[str, str]:
    """The full names of the image and the camera_info topic, remappings applied.

    A compressed image goes where its own name is remapped to, or beside the raw one. Where no parameter names the
    camera_info, a remapping of its own counts more than its place beside the image, which may be remapped, too.
    """
    expanded = transported(node.resolve_topic_name(config.image_topic, only_expand=True), config.image_transport)
    image, beside = node.resolve_topic_name(expanded), info_topic(expanded)
    if image == expanded:
        image = transported(node.resolve_topic_name(config.image_topic), config.image_transport)
    own = node.resolve_topic_name(config.camera_info_topic or beside)
    if not config.camera_info_topic and own == beside:
        own = node.resolve_topic_name(info_topic(image))
    return image, own


def sensor_qos(reliability: str, depth: int) -> QoSProfile:
    """Of a subscription to a sensor; `reliability` as the parameter image_reliability has it."""
    return QoSProfile(depth=depth, reliability=ReliabilityPolicy[reliability.upper()],
                      durability=DurabilityPolicy.VOLATILE)


def _join(namespace: str, name: str) -> str:
    return f"{namespace.rstrip('/')}/{name}"
