"""What goes wrong around the node while it maps. The tests share a node, in this order."""
from __future__ import annotations

import sys

import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from harness import CAMERA, HERE, START_NS, Camera, Process, node_command
from nav_msgs.msg import Odometry
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image, PointCloud2
from std_srvs.srv import SetBool
from test_node import goes_on
from test_soak import usage
from tf2_msgs.msg import TFMessage
from visualization_msgs.msg import MarkerArray

from lsm_ros.ros.conversions import time as ros_time
from lsm_ros.ros.qos import LATCHED

MAPPING = "lsm/lsm: mapping"
LAP = 60                            # images after which the camera is where it was


@pytest.fixture(scope="module")
def node(camera: Camera, tmp_path_factory) -> Process:
    process = Process(node_command("use_sim_time:=true", "imu_topic:=/imu", "map_period_s:=0.2", remap=(CAMERA,)),
                      tmp_path_factory.mktemp("node") / "log")
    camera.connect()
    goes_on(camera)
    yield process
    assert process.stop() == 0
    camera.diagnostics.clear()
    camera.levels.clear()


def exceptions(camera: Camera) -> set[str]:
    return {name for name in camera.diagnostics[MAPPING] if name.endswith("exceptions")}


def test_a_publisher_that_dies_and_comes_back(node, camera: Camera):
    camera.destroy_publisher(camera.image_publisher)
    camera.spin_until(lambda: camera.counter("silences"), what="for the silence to be noticed")
    assert camera.levels["lsm/lsm: camera"][0] == DiagnosticStatus.ERROR
    camera.image_publisher = camera.create_publisher(Image, "/camera/image_raw", 10)
    goes_on(camera)
    assert not camera.counter("time_jumps_back"), "it is the same map"


def test_stamps_that_jump_ahead_and_one_that_is_wrong(node, camera: Camera):
    camera.number += 10 * LAP
    goes_on(camera)
    refused = camera.counter("images_refused")
    camera.number += 1000 * LAP
    camera.send()
    camera.spin_until(lambda: camera.counter("images_refused") > refused)
    assert "the stamps jumped ahead by 60" in camera.levels[MAPPING][1]
    camera.number -= 1000 * LAP
    goes_on(camera)
    assert not camera.counter("time_jumps_back"), "it is the same map"


def test_a_clock_that_jumps_ahead_and_back_and_stands_still(node, camera: Camera):
    clock = camera.create_publisher(Clock, "/clock", 10)
    for seconds in (0, 1, 10**6, 5, 5):
        for _ in range(5):
            clock.publish(Clock(clock=ros_time(START_NS + seconds * 10**9)))
            camera.spin(0.05)
        goes_on(camera)
    camera.diagnostics.clear()
    camera.spin_until(lambda: camera.diagnostics.get(MAPPING), what="for diagnostics while the clock stands still")
    assert not exceptions(camera)
    camera.destroy_publisher(clock)


def test_a_peer_that_floods(node, camera: Camera, tmp_path):
    before = usage(node.process.pid)
    flood = Process([sys.executable, str(HERE / "flood.py"), "6"], tmp_path / "flood.log")
    while flood.process.poll() is None:
        camera.walk(1)
        camera.call(SetBool, "/lsm/pause", SetBool.Request(data=False))
    assert flood.process.returncode == 0, flood.output()
    assert int(flood.output()) > 100
    goes_on(camera)
    assert camera.counter("images_refused")
    assert not exceptions(camera)
    assert usage(node.process.pid)["rss_mb"] < before["rss_mb"] + 150


def test_parameters_that_change_all_the_time(node, camera: Camera):
    client = camera.client(SetParameters, "/lsm/lsm/set_parameters")
    for n in range(20):
        values = {"mapper.window_views": 2 + n % 5, "mapper.confidence_drop": 0.05 * (n % 10), "tf_rate_hz": 10.0 + n,
                  "tf_mode": ("estimates", "map_odom", "leaf", "none")[n % 4], "mapper.max_keyframes": 20 + n,
                  "mapper.loops": bool(n % 2), "map_period_s": 0.1 + n % 2}
        answer = client.call_async(SetParameters.Request(parameters=[
            Parameter(name, value=value).to_parameter_msg() for name, value in values.items()]))
        camera.walk(1)
        camera.spin_until(answer.done)
        assert all(result.successful for result in answer.result().results)
    camera.destroy_client(client)
    goes_on(camera)
    assert not exceptions(camera)
    camera.spin_until(lambda: camera.diagnostics[MAPPING]["window_views"] == "6")


def test_fifty_subscribers_that_come_and_go(node, camera: Camera):
    topics = ((PointCloud2, "semantic_cloud", 10), (PointCloud2, "obstacle_cloud", 10), (Image, "depth/image", 10),
              (PointCloud2, "map_cloud", LATCHED), (PointCloud2, "map_cloud_updates", 10), (Odometry, "odometry", 10),
              (MarkerArray, "label_markers", LATCHED), (MarkerArray, "pose_graph", LATCHED), (TFMessage, "/tf", 10),
              (Image, "segmentation/mask", 10))
    used = []
    for _ in range(3):
        readers = [camera.create_subscription(kind, topic if topic.startswith("/") else f"/lsm/{topic}",
                                              lambda message: None, qos) for kind, topic, qos in topics * 5]
        camera.walk(5)
        for reader in readers:
            camera.destroy_subscription(reader)
        camera.walk(2)
        used.append(usage(node.process.pid))
    goes_on(camera)
    assert not exceptions(camera)
    assert used[2]["files"] <= used[0]["files"] and used[2]["threads"] <= used[0]["threads"], used
