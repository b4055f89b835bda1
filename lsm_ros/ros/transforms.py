"""TF as TFMessage on /tf, so that tf2_ros need not be installed. One mode is chosen; see `tf_mode` in parameters.py."""
from __future__ import annotations

import math
import time
from collections import deque

import numpy as np
from geometry_msgs.msg import TransformStamped
from rclpy.clock import Clock, ClockType, JumpThreshold, TimeJump
from rclpy.node import Node
from tf2_msgs.msg import TFMessage

from lsm_ros.contracts import MapUpdate
from lsm_ros.geometry.sim3 import inverse
from lsm_ros.ros.conversions import transform
from lsm_ros.ros.diagnostics import Health
from lsm_ros.ros.parameters import NodeConfig
from lsm_ros.ros.tf_buffer import MOVING

RIVAL_S = 5.0               # who else places a frame of ours is gone when silent for this long, unless it was for ever
SENT = 200                  # transforms of ours that are recognised when they come back to our own ears
KEYFRAMES = 8               # the newest ones, as many as a window has views at most; tf2 never forgets a frame's name


class TransformPublisher:
    """Publishes the edges of a MapUpdate. Every edge has its own child, so no frame of others is re-parented."""

    def __init__(self, node: Node):
        self._node = node
        self._publisher = node.create_publisher(TFMessage, "/tf", MOVING)
        self._map_id: int | None = None
        self._newest: dict[int, np.ndarray] = {}            # T_map_cam of the map's newest keyframes, by id
        self._placed = ""                                   # what the first edge of a window places: camera or map
        self._sent: tuple[tuple, ...] = ()                  # of these edges; made anew, for another thread reads it

    def publish(self, update: MapUpdate, image_frame: str, config: NodeConfig) -> None:
        """An update tells only of keyframes that have moved, so the others are remembered."""
        known = self._newest if update.map_id == self._map_id else {}
        self._map_id = update.map_id
        self._newest = dict(sorted((known | update.T_map_keyframes).items())[-KEYFRAMES:])
        edges = transforms(update, list(self._newest.values())[::-1], image_frame, config)
        self._placed = edges[0].child_frame_id if edges else ""
        if edges:
            self._sent = (*self._sent, _signature(edges[0]))[-SENT:]
            self._publisher.publish(TFMessage(transforms=edges))

    def is_foreign(self, edge: TransformStamped) -> bool:
        """Whether somebody else places the frame that a window places. For any thread."""
        return edge.child_frame_id.lstrip("/") == self._placed and _signature(edge) not in self._sent

    def destroy(self) -> None:
        self._node.destroy_publisher(self._publisher)


def transforms(update: MapUpdate, T_map_keyframes: list[np.ndarray], image_frame: str, config: NodeConfig) -> list:
    """The TransformStamped of a window, all at the stamp of its newest image.

    Args:
        T_map_keyframes: (4, 4) of the keyframes that have a frame, the newest first.
        image_frame: frame_id of the image, the child of nothing of ours; the parent of the map in the mode `leaf`.
    """
    stamp = update.stamp_ns
    if config.tf_mode in ("none", "map_odom"):
        return []
    if config.tf_mode == "leaf" and not image_frame:    # tf2 knows no frame without a name, and each listener says so
        return []
    if config.tf_mode == "leaf":
        return [transform(inverse(update.T_map_cam), stamp, image_frame, config.map_frame)]
    names = [config.camera_frame, *(keyframe_frame(config, age) for age in range(len(T_map_keyframes)))]
    return [transform(T_map_cam, stamp, config.map_frame, name)
            for name, T_map_cam in zip(names, [update.T_map_cam, *T_map_keyframes], strict=True)]


def keyframe_frame(config: NodeConfig, age: int) -> str:
    """lsm_keyframe_0 beside lsm_camera, robot1/keyframe_0 beside robot1/camera: robots that share TF stay apart.

    0 is the newest one, so the names are always the same few: a name for each keyframe would fill every tf2 buffer.
    """
    stem = config.camera_frame.removesuffix("camera")
    return f"{stem}{'_' if stem == config.camera_frame else ''}keyframe_{age}"


class MapOdomPublisher:
    """tf_mode map_odom: map_frame -> odom_frame as a localiser publishes it (REP 105), sent anew at a steady rate.

    Nav2 looks up the map at every moment, and windows are seconds apart, so what the last one said is stamped anew with
    the node's clock. A frame has one parent: where somebody else gives odom_frame one, nothing is sent.
    """

    def __init__(self, node: Node, config: NodeConfig, health: Health):
        self._node, self._config, self._health = node, config, health
        self._publisher = node.create_publisher(TFMessage, "/tf", MOVING)
        self._timer = None
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._clock_change = node.get_clock().create_jump_callback(
            JumpThreshold(min_forward=None, min_backward=None, on_clock_change=True), post_callback=self._on_clock)
        self._T_map_odom: np.ndarray | None = None
        self._sent: deque[tuple] = deque(maxlen=SENT)
        self._rival, self._rival_until_s = "", 0.0          # the parent that somebody else gives odom_frame

    def start(self, config: NodeConfig) -> None:
        """Sends from now on, if the mode says so. Called again when a parameter has changed."""
        self.stop()
        self._config = config
        if config.tf_mode == "map_odom":
            # By a simulation's time, which may stand or race. The system's may be set back, and no timer that goes by
            # it would fire for as long.
            clock = self._node.get_clock()
            self._timer = self._node.create_timer(1 / config.tf_rate_hz, self._send,
                                                  clock=clock if clock.ros_time_is_active else self._steady)

    def stop(self) -> None:
        if self._timer:
            self._node.destroy_timer(self._timer)
            self._timer = None

    def destroy(self) -> None:
        self.stop()
        self._clock_change.unregister()
        self._node.destroy_publisher(self._publisher)

    def _on_clock(self, _: TimeJump) -> None:
        """use_sim_time has changed while running."""
        if self._timer:
            self.start(self._config)

    def forget(self) -> None:
        """The map is another one, or the odometry: nothing is sent until there is a window with odometry."""
        self._T_map_odom = None

    def correct(self, T_map_cam: np.ndarray, T_odom_cam: np.ndarray | None) -> None:
        """Takes a window's pose (4, 4) and the odometry at its image's stamp; without one, what was before stays."""
        if T_odom_cam is not None:
            self._T_map_odom = T_map_cam @ inverse(T_odom_cam)
        if self._config.tf_mode != "map_odom":
            return
        edge = f"{self._config.map_frame} -> {self._config.odom_frame}"
        if self._has_rival():
            self._health.problem("map_odom_refused", f"{edge} is not sent: somebody else publishes {self._rival} -> "
                                 f"{self._config.odom_frame}; stop that localiser, or set tf_mode to estimates")
        elif T_odom_cam is None:
            self._health.problem("map_odom_without_odometry", f"{edge} is not corrected: TF does not tie "
                                 f"{self._config.odom_frame!r} to the camera at the image's stamp")
        elif not self._has_time():
            self._health.problem("clock_missing", f"{edge} is not sent: use_sim_time is true, and no time has come on "
                                 "/clock")

    def begin(self, T_map_cam: np.ndarray, T_odom_cam: np.ndarray | None) -> None:
        """The same of an image that still shows the last window's view, as long as no window has had odometry.

        The first image is mostly older than the first transform that is heard, and a robot that stands makes no second
        window; Nav2 gives up a minute without a map.
        """
        if self._T_map_odom is None and T_odom_cam is not None:
            self._T_map_odom = T_map_cam @ inverse(T_odom_cam)

    @property
    def state(self) -> str:
        """For the diagnostics."""
        if self._config.tf_mode != "map_odom":
            return "off"
        if self._has_rival():
            return f"refused: {self._rival} -> {self._config.odom_frame} is published by somebody else"
        if self._T_map_odom is None:
            return "waits for a window with odometry"
        return "sent" if self._has_time() else "waits for /clock"

    def heard(self, edge: TransformStamped, static: bool) -> None:
        """Takes note of every edge of TF, to notice another localiser. Our own come back to us too."""
        if edge.child_frame_id.lstrip("/") == self._config.odom_frame and _signature(edge) not in self._sent:
            self._rival = edge.header.frame_id
            self._rival_until_s = math.inf if static else time.monotonic() + RIVAL_S

    def stop_listening(self) -> None:
        """TF is heard no more: a rival that is there now may go on, so it counts until `listen_anew`."""
        if self._has_rival():
            self._rival_until_s = math.inf

    def listen_anew(self) -> None:
        """TF is subscribed to again: a rival that isn't heard by then is gone, a static one (latched) as well."""
        self._rival_until_s = min(self._rival_until_s, time.monotonic() + RIVAL_S)

    def _has_time(self) -> bool:
        """Whether it is any time yet: the timer that sends goes by the node's clock."""
        return self._node.get_clock().now().nanoseconds > 0

    def _has_rival(self) -> bool:
        return time.monotonic() < self._rival_until_s

    def _send(self) -> None:
        T_map_odom, config = self._T_map_odom, self._config
        if T_map_odom is None or self._has_rival():
            return
        ahead_ns = round(config.transform_tolerance_s * 1e9)
        edge = transform(T_map_odom, self._node.get_clock().now().nanoseconds + ahead_ns, config.map_frame,
                         config.odom_frame)
        self._sent.append(_signature(edge))
        self._publisher.publish(TFMessage(transforms=[edge]))


def _signature(edge: TransformStamped) -> tuple:
    """Tells transforms of different senders apart, who hardly stamp and place them alike to the last bit."""
    stamp, t = edge.header.stamp, edge.transform.translation
    return stamp.sec, stamp.nanosec, t.x, t.y, t.z
