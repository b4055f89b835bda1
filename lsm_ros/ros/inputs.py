"""What a robot knows beside the image: odometry, up and height from TF, gravity of an IMU, a measured depth.

Each of them is optional. What is configured but missing for an image is counted, and the image goes on without it.
"""
from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
from geometry_msgs.msg import TransformStamped
from rclpy.node import Node
from sensor_msgs.msg import Image, Imu

from lsm_ros.contracts import Frame
from lsm_ros.data.calibration import Rectifier
from lsm_ros.data.frames import check_same_shape
from lsm_ros.data.images import FARTHEST_M, NEAREST_M, decode_depth
from lsm_ros.errors import InputError, TransformError
from lsm_ros.geometry.gravity import GravityFilter
from lsm_ros.geometry.sim3 import rotation_angle
from lsm_ros.ros.conversions import stamp_ns
from lsm_ros.ros.diagnostics import Health
from lsm_ros.ros.intake import sensor_qos
from lsm_ros.ros.parameters import NodeConfig
from lsm_ros.ros.tf_buffer import TfBuffer
from lsm_ros.ros.transforms import RIVAL_S

STALE_S = 1.0                       # what is farther behind an image than this has stopped, and isn't waited for
DEPTH_TOLERANCE_NS = 17_000_000     # half a frame at 30 Hz
DEPTH_QUEUE = 15                    # half a second at 30 Hz: an image waits for the worker for about that long
IMU_DEPTH = 20
BESIDE_M, BESIDE_RAD = 0.003, 0.01  # from the image's camera: farther, and depth is not registered to the image


class Inputs:
    """Listens from `listen` to `stop`; what was heard before stays known.

    Args:
        heard: called with every edge of TF and whether it is static.
    """

    def __init__(self, node: Node, config: NodeConfig, health: Health,
                 heard: Callable[[TransformStamped, bool], None]):
        self.shown: dict[str, str] = {}             # of the newest image, for the diagnostics
        self._node, self._config, self._health, self._heard = node, config, health, heard
        self._changed = threading.Condition()       # guards what the executor's thread writes and the worker's reads
        self._tf: TfBuffer | None = None
        self._subscriptions: list = []
        self._gravity, self._imu_frame = GravityFilter(), ""
        self._depths: deque[Image] = deque(maxlen=DEPTH_QUEUE)

    def listen(self) -> None:
        config = self._config
        self._tf = TfBuffer(self._node, self._health, self._changed, self._heard, config.map_frame,
                            config.camera_frame)
        if config.imu_topic:
            self._subscriptions.append(self._node.create_subscription(
                Imu, config.imu_topic, self._on_imu, sensor_qos("best_effort", IMU_DEPTH)))
        if config.depth_topic:
            self._subscriptions.append(self._node.create_subscription(
                Image, config.depth_topic, self._on_depth, sensor_qos(config.image_reliability, DEPTH_QUEUE)))

    def parent(self, frame: str) -> str | None:
        """The frame that somebody else lets `frame` hang on, and hasn't fallen silent."""
        return self._tf.parent(frame, RIVAL_S) if self._tf else None

    def stop(self) -> None:
        if self._tf:
            self._tf.destroy()
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions = []

    def complete(self, frame: Frame, camera: str, rectify: Rectifier | None, wait_s: float) -> Frame:
        """The frame with all that is known of its moment. Takes at most `wait_s` longer than it needs.

        Args:
            camera: frame_id of the image, its optical frame.
            rectify: what the image was freed from distortion with, and the depth is to be, if so.
        """
        until_s = time.monotonic() + wait_s
        stamp = frame.stamp_ns
        T_odom_cam = self._odometry(camera, stamp, until_s)
        up_cam, height_m = self._upright(camera, stamp, until_s)
        depth = self._depth(frame, camera, rectify, until_s)
        self.shown["odometry"] = self._config.odom_frame if T_odom_cam is not None else "none"
        self.shown["depth"] = self._config.depth_topic if depth is not None else "none"
        return replace(frame, T_odom_cam=T_odom_cam, up_cam=up_cam, height_m=height_m, depth=depth)

    def _odometry(self, camera: str, stamp: int, until_s: float) -> np.ndarray | None:
        """T_odom_cam. A robot without the frame has no odometry, which is no problem."""
        odom = self._config.odom_frame
        if not odom or not self._tf.knows(odom):
            return None
        try:
            return self._lookup(odom, camera, stamp, until_s)
        except TransformError as error:
            self._health.problem("odometry_missing", f"no odometry of this image: {error}")
            return None

    def _upright(self, camera: str, stamp: int, until_s: float) -> tuple[np.ndarray | None, float | None]:
        """(3,) unit vector up in the camera, and its height over the floor, metres."""
        up_cam, height_m, source = None, None, "none"
        for frame in (self._config.floor_frame, self._config.base_frame):
            if up_cam is not None or not frame or not self._tf.knows(frame):
                continue
            try:
                T_robot_cam = self._lookup(frame, camera, stamp, until_s)
            except TransformError as error:
                self._health.problem("upright_missing", f"the robot does not tell how its camera is held: {error}")
                continue
            up_cam, source = T_robot_cam[2, :3], frame
            if frame == self._config.floor_frame:
                height_m = self._height(T_robot_cam)
        if self._config.imu_topic:
            try:
                up_cam, source = self._gravity_in(camera, stamp, until_s), self._config.imu_topic
            except (TransformError, InputError) as error:
                self._health.problem("gravity_missing", f"no gravity for this image: {error}")
        self.shown["up"] = source
        self.shown["height_m"] = "unknown" if height_m is None else f"{height_m:.3f}"
        return up_cam, height_m

    def _height(self, T_floor_cam: np.ndarray) -> float | None:
        height_m = float(T_floor_cam[2, 3])
        if height_m > 0:
            return height_m
        self._health.problem("heights_refused", f"the camera is {height_m:.3f} m above {self._config.floor_frame!r}; "
                             f"floor_frame must lie on the floor")
        return None

    def _gravity_in(self, camera: str, stamp: int, until_s: float) -> np.ndarray:
        """(3,) unit vector up in the camera, of the IMU. Raises InputError or TransformError."""
        with self._changed:
            up_imu, imu = self._gravity.at(stamp), self._imu_frame
        if up_imu is None:
            raise InputError(f"nothing near its time came on {self._config.imu_topic}")
        return self._lookup(camera, imu, stamp, until_s)[:3, :3] @ up_imu

    def _depth(self, frame: Frame, camera: str, rectify: Rectifier | None, until_s: float) -> np.ndarray | None:
        """(h, w) float32 metres of the depth image that is nearest in time."""
        if not self._config.depth_topic:
            return None
        stamp = frame.stamp_ns
        self._wait(lambda: self._depth_behind_s(stamp), until_s)
        with self._changed:
            gaps = [(abs(stamp_ns(message.header.stamp) - stamp), message) for message in self._depths]
        try:
            gap, message = min(gaps, key=lambda item: item[0], default=(None, None))
            if gap is None or gap > DEPTH_TOLERANCE_NS:
                raise InputError("none has come" if gap is None else f"the nearest is {gap * 1e-6:.0f} ms off")
            depth = decode_depth(message.data, message.encoding, message.width, message.height, message.step,
                                 bool(message.is_bigendian))
            if not np.isfinite(depth).any():
                raise InputError(f"no pixel of it is between {NEAREST_M:g} m and {FARTHEST_M:g} m; 16UC1 is in "
                                 "millimetres, 32FC1 in metres")
            check_same_shape(depth, frame.image, "it")
            self._check_registered(message.header.frame_id, camera, stamp)
        except InputError as error:
            self._health.problem("depth_missing", f"no depth of this image on {self._config.depth_topic}: {error}")
            return None
        return rectify.depth(depth, frame.image.shape[1::-1]) if rectify else depth

    def _check_registered(self, frame: str, camera: str, stamp: int) -> None:
        """Raises InputError if TF has the camera that depth was taken by, or drawn for, elsewhere than the image's."""
        if frame in ("", camera):
            return
        try:
            T_camera_depth = self._tf.lookup(camera, frame, stamp)
        except TransformError:
            return                              # nobody knows
        apart_m = float(np.linalg.norm(T_camera_depth[:3, 3]))
        turned = float(rotation_angle(T_camera_depth[:3, :3], np.eye(3)))
        if apart_m > BESIDE_M or turned > BESIDE_RAD:
            raise InputError(f"its frame {frame!r} is {1e3 * apart_m:.0f} mm and {np.degrees(turned):.1f} degrees off "
                             f"the image's {camera!r}; it must be registered to the image (a RealSense's "
                             "aligned_depth_to_color)")

    def _depth_behind_s(self, stamp: int) -> float:
        """How far the newest depth image is behind the image; a nearer one may come until then."""
        return (stamp - stamp_ns(self._depths[-1].header.stamp)) * 1e-9 if self._depths else 0.0

    def _lookup(self, target: str, source: str, stamp: int, until_s: float) -> np.ndarray:
        self._wait(partial(self._tf.behind_s, target, source, stamp), until_s)
        return self._tf.lookup(target, source, stamp)

    def _wait(self, behind_s: Callable[[], float], until_s: float) -> None:
        """Until nothing is behind any more, but not beyond a time, and not for what has stopped."""
        with self._changed:
            while 0 < behind_s() <= STALE_S and (left_s := until_s - time.monotonic()) > 0:
                self._changed.wait(left_s)

    def _on_imu(self, message: Imu) -> None:
        rate = message.angular_velocity if message.angular_velocity_covariance[0] != -1 else None
        q = message.orientation
        # A driver that estimates no orientation should say so (REP 145); many leave the identity, or zeros, instead.
        oriented = message.orientation_covariance[0] != -1 and any((q.x, q.y, q.z))
        try:
            with self._changed:
                self._imu_frame = message.header.frame_id
                used = self._gravity.add(stamp_ns(message.header.stamp), _vector(message.linear_acceleration),
                                         None if rate is None else _vector(rate),
                                         np.array([q.x, q.y, q.z, q.w]) if oriented else None)
        except InputError as error:
            self._health.problem("imu_refused", f"{self._config.imu_topic}: {error}")
            return
        if not used:
            self._health.count("imu_while_shaken")

    def _on_depth(self, message: Image) -> None:
        with self._changed:
            if self._depths and stamp_ns(message.header.stamp) < stamp_ns(self._depths[-1].header.stamp):
                self._depths.clear()            # time has jumped back
            self._depths.append(message)
            self._changed.notify_all()


def _vector(message) -> np.ndarray:
    return np.array([message.x, message.y, message.z])
