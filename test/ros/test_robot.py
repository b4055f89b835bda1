"""The node on a robot: its odometry, map_odom, rest, and two of them in one DDS graph."""
from __future__ import annotations

import time

import numpy as np
import pytest
import rclpy
from harness import FRAME_ID, STEP_NS, Camera
from nav_msgs.msg import Odometry
from rclpy.clock import ClockType
from rclpy.parameter import Parameter
from std_srvs.srv import SetBool
from tf2_msgs.msg import TFMessage

from lsm_ros.geometry.sim3 import exp_so3, matrix_from_quaternion, sim3
from lsm_ros.ros import transforms
from lsm_ros.ros.conversions import stamp_ns, transform
from lsm_ros.ros.conversions import time as ros_time
from lsm_ros.ros.diagnostics import Health
from lsm_ros.ros.parameters import NodeConfig
from lsm_ros.ros.tf_buffer import MOVING

T_odom_room = sim3(exp_so3(np.array([0.0, 0.0, 0.7])), np.array([3.0, -2.0, 0.1]))      # odometry starts anywhere
IMAGE_NS = 7                                                                            # what the stamps end in


class Odometer:
    """Tells odom -> camera at every image of the walk, and keeps what the node tells of odom."""

    def __init__(self, camera: Camera):
        self._camera = camera
        self._tf = camera.create_publisher(TFMessage, "/tf", MOVING)
        self.edges: list = []
        camera.create_subscription(TFMessage, "/tf", lambda m: self.edges.extend(
            (time.time_ns(), edge) for edge in m.transforms if edge.child_frame_id == "odom"), MOVING)
        self.odometry = camera.keep(Odometry, "/lsm/odometry")

    def T_odom_cam(self, stamp: int) -> np.ndarray:
        return T_odom_room @ self._camera.place(stamp // STEP_NS)

    def tell(self, parent: str, child: str, stamp: int, T: np.ndarray) -> None:
        self._tf.publish(TFMessage(transforms=[transform(T, stamp, parent, child)]))

    def walk(self, images: int) -> None:
        for _ in range(images):
            stamp = (self._camera.number + 1) * STEP_NS + IMAGE_NS
            self.tell("odom", FRAME_ID, stamp, self.T_odom_cam(stamp))
            self._camera.walk(1)

    def wait_for(self, condition, what: str) -> None:
        """Walks on until it holds."""
        end = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < end, f"in vain: {what}; {self._camera.diagnostics} {self._camera.levels}"
            self.walk(1)


@pytest.fixture
def odometer(camera: Camera) -> Odometer:
    return Odometer(camera)


def matrix(message) -> np.ndarray:
    """(4, 4) of a Pose or a Transform."""
    t = getattr(message, "position", None) or message.translation
    q = getattr(message, "orientation", None) or message.rotation
    return sim3(matrix_from_quaternion(np.array([q.x, q.y, q.z, q.w])), np.array([t.x, t.y, t.z]))


def test_map_odom_corrects_the_odometry_until_another_localiser_comes(start, camera: Camera, odometer: Odometer):
    node = start("tf_mode:=map_odom", "map_frame:=map", "transform_tolerance_s:=0.5", "tf_rate_hz:=20.0")
    camera.connect()
    odometer.wait_for(lambda: odometer.edges and len(odometer.odometry) > 3, "map -> odom")
    assert camera.diagnostics["lsm/lsm: camera"]["odometry"] == "odom"
    camera.spin(1.0)                                 # the last window is through
    odometer.edges.clear()
    camera.spin(2.0)                                 # no image comes, and it goes on
    assert 20 < len(odometer.edges) < 45, "20 Hz for two seconds"
    heard_ns, edge = odometer.edges[-1]
    assert edge.header.frame_id == "map"
    assert 0 < stamp_ns(edge.header.stamp) - heard_ns <= 0.5e9, "good until later than now"
    window = odometer.odometry[-1]
    np.testing.assert_allclose(matrix(edge.transform) @ odometer.T_odom_cam(stamp_ns(window.header.stamp)),
                               matrix(window.pose.pose), atol=1e-6)
    odometer.tell("other_map", "odom", time.time_ns(), np.eye(4))
    odometer.wait_for(lambda: camera.counter("map_odom_refused"), "the other one is noticed")
    assert "somebody else publishes other_map -> odom" in node.output()
    assert camera.diagnostics["lsm/lsm: camera"]["map_odom"].startswith("refused: other_map -> odom")
    # Disabled it hears no TF, and the other one goes on: a frame has one parent.
    assert camera.call(SetBool, "/lsm/enable", SetBool.Request(data=False)).message == "disabled"
    odometer.edges.clear()
    end = time.monotonic() + transforms.RIVAL_S + 2.0
    while time.monotonic() < end:
        odometer.tell("other_map", "odom", time.time_ns(), np.eye(4))
        camera.spin(0.2)
    assert {edge.header.frame_id for _, edge in odometer.edges} == {"other_map"}


def test_the_robots_own_camera_keeps_its_parent(start, camera: Camera, odometer: Odometer):
    """Whoever takes camera_frame for the name of the camera that there is."""
    children: set[tuple[str, str]] = set()
    camera.create_subscription(TFMessage, "/tf", lambda m: children.update(
        (edge.header.frame_id, edge.child_frame_id) for edge in m.transforms), MOVING)
    start(f"camera_frame:={FRAME_ID}")
    camera.connect()
    odometer.wait_for(lambda: camera.counter("camera_frame_refused") > 1, "it is noticed")
    assert ("lsm_map", FRAME_ID) not in children and ("odom", FRAME_ID) in children
    missing = camera.counter("odometry_missing")
    odometer.walk(3)
    camera.spin(1.2)
    assert camera.counter("odometry_missing") == missing
    assert camera.diagnostics["lsm/lsm: camera"]["odometry"] == "odom"


def test_the_estimate_is_sent_again_when_who_placed_its_frame_has_fallen_silent(start, camera: Camera,
                                                                               odometer: Odometer):
    """As another node does that has the same camera_frame: each would be silent for ever because of the other."""
    parents: list[str] = []
    camera.create_subscription(TFMessage, "/tf", lambda m: parents.extend(
        edge.header.frame_id for edge in m.transforms if edge.child_frame_id == "lsm_camera"), MOVING)
    start()
    camera.connect()
    odometer.wait_for(lambda: "lsm_map" in parents, "the estimate")
    odometer.tell("other_map", "lsm_camera", time.time_ns(), np.eye(4))
    odometer.wait_for(lambda: camera.counter("camera_frame_refused"), "it is noticed")
    refused_s = time.monotonic()
    parents.clear()
    odometer.wait_for(lambda: "lsm_map" in parents, "it is sent again")
    assert time.monotonic() - refused_s > 2.0


def test_two_nodes_with_the_same_frames_are_told_of(start, camera: Camera, odometer: Odometer):
    start()
    camera.connect()
    end = time.monotonic() + 60
    while len(odometer.odometry) < 3 and time.monotonic() < end:
        camera.walk(1)
    camera.spin(1.2)
    assert odometer.odometry and not camera.counter("frames_shared"), "its own transforms come back to it"
    odometer.tell("lsm_map", "lsm_camera", time.time_ns(), np.eye(4))
    camera.spin_until(lambda: camera.counter("frames_shared") == 1)
    assert camera.levels["lsm/lsm: mapping"][1] == "somebody else publishes lsm_map -> lsm_camera, too; each node " \
        "needs a map_frame and a camera_frame of its own"


def test_a_simulation_without_a_clock_is_said(start, camera: Camera, odometer: Odometer):
    start("tf_mode:=map_odom", "map_frame:=map", "use_sim_time:=true")
    camera.connect()
    odometer.wait_for(lambda: camera.counter("clock_missing"), "it is noticed")
    camera.spin(1.2)
    assert camera.diagnostics["lsm/lsm: camera"]["map_odom"] == "waits for /clock" and not odometer.edges


def test_without_odometry_map_odom_sends_nothing_and_says_so(start, camera: Camera, odometer: Odometer):
    start("tf_mode:=map_odom", "map_frame:=map")
    camera.connect()
    while not camera.counter("map_odom_without_odometry"):
        camera.walk(1)
    camera.spin(1.0)
    assert not odometer.edges
    assert camera.diagnostics["lsm/lsm: camera"]["map_odom"] == "waits for a window with odometry"


def test_a_robot_that_stands_has_a_map_though_its_first_image_had_no_odometry(start, camera: Camera,
                                                                              odometer: Odometer):
    start("tf_mode:=map_odom", "map_frame:=map")
    camera.connect()
    view = camera.image()
    stamp = stamp_ns(view.header.stamp)

    def send() -> None:
        nonlocal stamp
        stamp += STEP_NS
        view.header.stamp = ros_time(stamp)
        camera.send(view)
        camera.spin(0.1)

    end = time.monotonic() + 60
    while not odometer.odometry and time.monotonic() < end:
        send()
    assert camera.counter("odometry_missing") == 0 and not odometer.edges
    while not odometer.edges and time.monotonic() < end:
        odometer.tell("odom", FRAME_ID, stamp + STEP_NS, T_odom_room)
        send()
    assert len(odometer.edges) and len(odometer.odometry) == 1, "the robot has not moved"
    np.testing.assert_allclose(matrix(odometer.edges[-1][1].transform) @ T_odom_room,
                               matrix(odometer.odometry[0].pose.pose), atol=1e-6)


def test_disabled_it_hears_no_image_and_enabled_again_it_goes_on(start, camera: Camera):
    start()
    camera.connect()

    def enable(yes: bool):
        return camera.call(SetBool, "/lsm/enable", SetBool.Request(data=yes))

    assert (enable(False).message, enable(False).message) == ("disabled", "disabled")
    camera.spin_until(lambda: camera.image_publisher.get_subscription_count() == 0)
    camera.spin_until(lambda: camera.diagnostics["lsm/lsm: mapping"]["state"] == "disabled")
    received = camera.counter("images_received")
    camera.walk(3)
    camera.spin(1.2)
    assert camera.counter("images_received") == received
    assert enable(True).message == "running"
    camera.spin_until(lambda: camera.image_publisher.get_subscription_count() == 1)
    clouds = len(camera.clouds)
    while len(camera.clouds) == clouds:
        camera.walk(1)


def diagnosed(camera: Camera, name: str) -> dict[str, str]:
    return camera.diagnostics.get(f"{name}: camera", {})


def test_two_robots_in_one_graph_stay_apart(start, camera: Camera):
    """One sees the room, the other one nothing; topics, frames and diagnostics are their own."""
    robots = ("robot1", "robot2")
    for robot in robots:
        start(f"map_frame:={robot}/map", f"camera_frame:={robot}/camera", f"odom_frame:={robot}/odom",
              remap=(f"__ns:=/{robot}/lsm", "image:=/camera/image_raw" if robot == "robot1" else "image:=/none/image"))
    odometry = {robot: camera.keep(Odometry, f"/{robot}/lsm/odometry") for robot in robots}
    frames: set[tuple[str, str]] = set()
    camera.create_subscription(TFMessage, "/tf", lambda m: frames.update(
        (edge.header.frame_id, edge.child_frame_id) for edge in m.transforms), MOVING)
    camera.spin_until(lambda: all("topic" in diagnosed(camera, f"{robot}/lsm/lsm") for robot in robots))
    camera.spin(0.5)
    end = time.monotonic() + 60
    while len(odometry["robot1"]) < 3 and time.monotonic() < end:
        camera.walk(1)
    camera.spin(1.5)
    assert odometry["robot1"] and not odometry["robot2"]
    assert ("robot1/map", "robot1/camera") in frames and ("robot1/map", "robot1/keyframe_0") in frames
    assert not {edge for edge in frames if "robot2" in "".join(edge) or "lsm" in "".join(edge)}
    assert int(camera.diagnostics["robot1/lsm/lsm: mapping"]["images_received"]) > 0
    assert "images_received" not in camera.diagnostics["robot2/lsm/lsm: mapping"]
    assert diagnosed(camera, "robot2/lsm/lsm")["topic"] == "/none/image"


def test_a_static_rival_that_is_gone_is_forgotten_when_the_node_listens_anew(camera: Camera, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(transforms.time, "monotonic", lambda: now[0])
    publisher = transforms.MapOdomPublisher(camera, NodeConfig(tf_mode="map_odom"), Health(camera.get_logger()))
    edge = transform(np.eye(4), 0, "world", "odom")
    publisher.heard(edge, static=True)
    now[0] = 1000.0
    assert publisher.state.startswith("refused: world -> odom")
    publisher.listen_anew()
    assert publisher.state.startswith("refused"), "the latched message is still on its way"
    now[0] += transforms.RIVAL_S + 1
    assert publisher.state == "waits for a window with odometry"
    publisher.heard(edge, static=True)
    assert publisher.state.startswith("refused")
    publisher.destroy()


def test_a_system_clock_that_is_set_back_does_not_silence_map_odom(camera: Camera):
    """Timers of ROS wait until it is again as late as it was; a simulation's time is to be followed all the same."""
    node = rclpy.create_node("test_clocks")
    publisher = transforms.MapOdomPublisher(node, NodeConfig(tf_mode="map_odom"), Health(camera.get_logger()))
    clocks = []
    publisher.start(NodeConfig(tf_mode="map_odom"))
    for simulated in (False, True, False):
        node.set_parameters([Parameter("use_sim_time", value=simulated)])
        clocks += [timer.clock.clock_type for timer in node.timers]
    assert clocks == [ClockType.STEADY_TIME, ClockType.ROS_TIME, ClockType.STEADY_TIME]
    publisher.destroy()
    node.destroy_node()
