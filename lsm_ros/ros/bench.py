"""How long images travel from process to process, and how long the node takes from an image's stamp to its cloud.

Needs ROS 2 and the installed package; both parts stay in a corner of DDS of their own.
"""
from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import rclpy
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage, Image, PointCloud2

from lsm_ros.config import PredictorConfig
from lsm_ros.data.recording import encode_image
from lsm_ros.evaluation.report import Line
from lsm_ros.resources import resource
from lsm_ros.ros.conversions import compressed_message, header, image_message, restamp, stamp_ns
from lsm_ros.ros.demo import open_source, own_corner_of_dds, program, watching
from lsm_ros.ros.doctor import PROFILES
from lsm_ros.ros.intake import IMAGE_DEPTH, sensor_qos
from lsm_ros.ros.player import JPEG_QUALITY, MATCH_S, QOS

TOPIC = "/lsm_bench/image"
RATE_HZ, SIZE = 30.0, (640, 480)
START_S, LINGER_S = 20.0, .5         # for the sender to start; for the last image to arrive
RAW, LARGE, JPEG = "raw", "raw, with config/fastdds_large_messages.xml", "JPEG"


def hops(images: int) -> list[Line]:
    """A line a way to send VGA images at 30 Hz: milliseconds from the stamp, set as the image is published, to the
    callback of another process that subscribes as the node does; and how many arrived."""
    own_corner_of_dds()
    lines = []
    for way in (RAW, LARGE, JPEG):
        times = hop(way, images)
        lines.append({"way": way, "sent": images, "received": len(times),
                      "ms": 1e3 * float(np.median(times)) if times else None,
                      "p99_ms": 1e3 * float(np.percentile(times, 99)) if times else None})
    return lines


def hop(way: str, images: int) -> list[float]:
    """Seconds of each image that arrived."""
    times: list[float] = []
    with profile(resource("config/fastdds_large_messages.xml") if way == LARGE else None):
        sender = multiprocessing.get_context("spawn").Process(target=send, args=(way, images), daemon=True)
        sender.start()
    rclpy.init(args=[])
    node = Node("lsm_bench")
    try:
        def on_image(message: Image | CompressedImage) -> None:
            times.append(1e-9 * (node.get_clock().now().nanoseconds - stamp_ns(message.header.stamp)))

        node.create_subscription(CompressedImage if way == JPEG else Image, TOPIC, on_image,
                                 sensor_qos("best_effort", IMAGE_DEPTH))
        end = time.monotonic() + START_S + images / RATE_HZ
        while sender.is_alive() and time.monotonic() < end:
            rclpy.spin_once(node, timeout_sec=.1)
    finally:
        node.destroy_node()
        rclpy.try_shutdown()
        sender.terminate()
        sender.join()
    return times


def send(way: str, images: int) -> None:
    """The other process."""
    rclpy.init(args=[])
    node = Node("lsm_bench_camera")
    publisher = node.create_publisher(CompressedImage if way == JPEG else Image, TOPIC, QOS)
    picture = cv2.resize(np.random.default_rng(0).integers(0, 255, (30, 40, 3), np.uint8), SIZE)
    if way == JPEG:
        message = compressed_message(encode_image(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]),
                                     "rgb8; jpeg compressed bgr8", header(0, "camera"))
    else:
        message = image_message(picture, header(0, "camera"))
    while not publisher.get_subscription_count():
        rclpy.spin_once(node, timeout_sec=.05)
    due = time.monotonic() + MATCH_S
    for _ in range(images):
        time.sleep(max(0.0, due - time.monotonic()))
        restamp(message, node.get_clock().now().nanoseconds)
        publisher.publish(message)
        due += 1 / RATE_HZ
    time.sleep(LINGER_S)
    node.destroy_node()
    rclpy.try_shutdown()


@contextmanager
def profile(file: Path | None) -> Iterator[None]:
    """Processes that are started meanwhile use these profiles of Fast DDS; None: those of the environment."""
    before = {name: os.environ.get(name) for name in PROFILES}
    if file is not None:
        os.environ.update(dict.fromkeys(PROFILES, str(file)))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def node(source: Path | None, config: PredictorConfig) -> Line:
    """The node in a process of its own, mapping a recording that is played at its own speed: what its diagnostics say
    at the end. Raises InputError where it can't."""
    own_corner_of_dds()
    played = open_source(source)
    options = {f"predictor.{name}": value for name in ("weights", "device", "threads")
               if (value := getattr(config, name))}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "logs").mkdir()
        with (program("node", folder, {"image_topic": played.image_topic, "image_transport": played.transport,
                                       **options}) as running,
              program("player", folder, {"source": played.path}) as player, watching() as watcher):
            watcher.create_subscription(PointCloud2, "/lsm/semantic_cloud", lambda message: None, 10)
            watcher.follow(player, running, played.images)
            told = watcher.told
    latency = {stage: float(told["latency"][f"{stage}_ms"]) for stage in ("wait", "decode", "network", "mapper",
                                                                         "publish", "stamp_to_cloud")}
    return {f"{stage}_ms": value for stage, value in latency.items()} | {
        "of_network": latency["stamp_to_cloud"] / latency["network"], "sent": played.images,
        "received": int(told["mapping"]["images_received"]), "windows": int(told["mapping"]["mapper.windows"]),
        "peak_mb": float(told["process"]["peak_mb"])}
