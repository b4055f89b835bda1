"""A node under test in its own process, and a camera and readers in this one, over real DDS."""
from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.client import Client
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.signals import SignalHandlerOptions
from room import SIZE, K, cast, paint
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_msgs.msg import Header

from lsm_ros.ros.conversions import image_message
from lsm_ros.ros.conversions import time as ros_time

HERE = Path(__file__).parent
CAMERA = "image:=/camera/image_raw"
PATIENCE_S = 60.0           # for things that take seconds on a quiet machine
MEETING_S = 0.4             # two processes see each other, but for the busiest machine
STEP_NS = 100_000_000
FRAME_ID = "camera_color_optical_frame"
START_NS = 1_700_000_000 * 10**9


class Process:
    """A command whose output is collected in a file."""

    def __init__(self, command: list[str], log: Path):
        self.log = log
        with log.open("w") as output:
            self.process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=log.parent)

    def output(self) -> str:
        return self.log.read_text()

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def stop(self) -> int:
        """The exit status after one SIGINT."""
        if self.process.poll() is None:
            self.interrupt()
        try:
            return self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise


def node_command(*parameters: str, remap: tuple[str, ...] = (), fake: bool = True) -> list[str]:
    """The node with `name:=value` parameters; `fake` puts the fake network into it."""
    program = [str(HERE / "fake_node.py")] if fake else ["-m", "lsm_ros.ros.node"]
    arguments = [part for parameter in parameters for part in ("-p", parameter)]
    arguments += [part for rule in remap for part in ("-r", rule)]
    return [sys.executable, *program, "--ros-args", *arguments]


class Camera(Node):
    """Sends images of the room and keeps what the node publishes."""

    def __init__(self, executor: SingleThreadedExecutor, poses: list):
        super().__init__("test_camera")
        self.poses, self._executor = poses, executor
        self.number = START_NS // STEP_NS
        self.diagnostics: dict[str, dict[str, str]] = {}
        self.levels: dict[str, tuple[bytes, str]] = {}
        self.image_publisher = self.create_publisher(Image, "/camera/image_raw", 10)
        self.info_publisher = self.create_publisher(CameraInfo, "/camera/camera_info", 10)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self.clouds = self.keep(PointCloud2, "/lsm/semantic_cloud")

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self.levels[status.name] = status.level, status.message
            self.diagnostics[status.name] = {pair.key: pair.value for pair in status.values}

    def keep(self, kind: type, topic: str, qos: QoSProfile | int = 10) -> list:
        """A list that the messages of a topic will be appended to."""
        messages: list = []
        self.create_subscription(kind, topic, messages.append, qos)
        return messages

    def header(self) -> Header:
        """Stamps end in 7 ns, which a float64 of seconds would lose."""
        return Header(stamp=ros_time(self.number * STEP_NS + 7), frame_id=FRAME_ID)

    def place(self, number: int) -> np.ndarray:
        """T_room_cam (4, 4) at the image of this number."""
        return self.poses[number % len(self.poses)]

    def image(self) -> Image:
        """The view at the camera's current place."""
        return image_message(paint(cast(self.place(self.number), SIZE)[2]), self.header())

    def info(self) -> CameraInfo:
        k = K.copy()
        k[:2, 2] -= 0.5
        return CameraInfo(header=self.header(), width=SIZE[0], height=SIZE[1], distortion_model="plumb_bob",
                          d=[0.0] * 5, k=k.ravel(), r=[1.0, 0, 0, 0, 1, 0, 0, 0, 1], p=[0.0] * 12)

    def send(self, message: Image | None = None) -> Image:
        """Sends the image, by default that of the next place."""
        if message is None:
            self.number += 1
            message = self.image()
        self.info_publisher.publish(self.info())
        self.image_publisher.publish(message)
        return message

    def counter(self, name: str) -> int:
        """A counter of the node as its diagnostics show it."""
        return int(self.diagnostics.get("lsm/lsm: mapping", {}).get(name, 0))

    def connect(self) -> None:
        """Waits until the node says that it listens. (DDS also counts subscribers of a node that was just killed.)"""
        self.spin_until(lambda: "topic" in self.diagnostics.get("lsm/lsm: camera", {}), what="for the node to listen")
        self.spin(0.5)

    def walk(self, images: int, pause_s: float = 0.1) -> list[Image]:
        """Sends the next images of the walk."""
        sent = []
        for _ in range(images):
            sent.append(self.send())
            self.spin(pause_s)
        return sent

    def spin(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._executor.spin_once(timeout_sec=0.02)

    def spin_until(self, condition: Callable[[], object], timeout_s: float = PATIENCE_S, what: str = "") -> object:
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            if value := condition():
                return value
            self._executor.spin_once(timeout_sec=0.05)
        raise AssertionError(f"timed out after {timeout_s} s {what}; diagnostics: {self.diagnostics}, {self.levels}")

    def client(self, kind: type, name: str) -> Client:
        """One that its service has met too: on a busy machine that comes later, and till then answers are dropped."""
        client = self.create_client(kind, name)
        self.spin_until(client.service_is_ready, what=f"waiting for {name}")
        self.spin(MEETING_S)
        return client

    def call(self, kind: type, name: str, request, timeout_s: float = PATIENCE_S):
        client = self.client(kind, name)
        future = client.call_async(request)
        self.spin_until(future.done, timeout_s, f"waiting for the answer of {name}")
        self.destroy_client(client)
        return future.result()


@contextmanager
def ros(poses: list) -> Iterator[Camera]:
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)      # a signal ends the tests, not their context alone
    executor = SingleThreadedExecutor()
    camera = Camera(executor, poses)
    executor.add_node(camera)
    try:
        yield camera
    finally:
        executor.shutdown()
        camera.destroy_node()
        rclpy.try_shutdown()


def isolate() -> None:
    """A DDS domain of this test process's own, on this machine alone."""
    os.environ["ROS_DOMAIN_ID"] = str(1 + os.getpid() % 100)
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
