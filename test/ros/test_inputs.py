"""What a robot knows beside the image, heard over real DDS by a node of this process."""
from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from geometry_msgs.msg import Quaternion, TransformStamped, Vector3
from harness import FRAME_ID, START_NS, STEP_NS, Camera
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, Imu
from tf2_msgs.msg import TFMessage

from lsm_ros.contracts import Frame
from lsm_ros.geometry.sim3 import R_ROS_CV, exp_so3, inverse, sim3
from lsm_ros.ros import intake
from lsm_ros.ros.conversions import header, transform
from lsm_ros.ros.conversions import time as ros_time
from lsm_ros.ros.diagnostics import Health
from lsm_ros.ros.inputs import Inputs
from lsm_ros.ros.parameters import NodeConfig
from lsm_ros.ros.qos import LATCHED
from lsm_ros.ros.tf_buffer import MOVING, STATIC

MS = 1_000_000
NOW = START_NS
PITCH = 0.2
T_base_cam = sim3(exp_so3(np.array([0.0, PITCH, 0.0])) @ R_ROS_CV, np.array([0.1, 0.0, 0.25]))
T_footprint_base = sim3(np.eye(3), np.array([0.0, 0.0, 0.05]))
UP_CAM = (exp_so3(np.array([0.0, PITCH, 0.0])) @ R_ROS_CV).T @ [0.0, 0.0, 1.0]
IMAGE = np.zeros((120, 160, 3), np.uint8)


def driven(x: float) -> np.ndarray:
    return sim3(exp_so3(np.array([0.0, 0.0, x])), np.array([x, 0.0, 0.0]))


class Robot:
    """Publishes what the inputs hear."""

    def __init__(self, node: Node):
        self._tf = node.create_publisher(TFMessage, "/tf", MOVING)
        self._static = node.create_publisher(TFMessage, "/tf_static", STATIC)
        self.imu = node.create_publisher(Imu, "/imu", 10)
        self.depth = node.create_publisher(Image, "/depth", 10)
        self._static.publish(TFMessage(transforms=[
            transform(T_base_cam, 0, "base_link", FRAME_ID),
            transform(T_footprint_base, 0, "base_footprint", "base_link"),
            transform(np.eye(4), 0, "base_link", "imu")]))

    def drive(self, stamp: int, x: float) -> None:
        """odom -> base_footprint."""
        self._tf.publish(TFMessage(transforms=[transform(driven(x), stamp, "odom", "base_footprint")]))

    def tell(self, edge: TransformStamped) -> None:
        self._tf.publish(TFMessage(transforms=[edge]))

    def fix(self, *edges: TransformStamped) -> None:
        self._static.publish(TFMessage(transforms=list(edges)))

    def measure(self, stamp: int, depth_mm: int) -> None:
        self.depth.publish(Image(header=header(stamp, FRAME_ID), width=8, height=6, step=16, encoding="16UC1",
                                 data=np.full((6, 8), depth_mm, "<u2").tobytes()))


class Listener:
    """Inputs in a node whose executor runs in a thread, as the node has it."""

    def __init__(self, sim_time: bool = False, **config):
        self.config = NodeConfig(**config)
        self._node = Node("listener", parameter_overrides=[Parameter("use_sim_time", value=sim_time)])
        self._executor = SingleThreadedExecutor()
        self.health = Health(self._node.get_logger())
        self.inputs = Inputs(self._node, self.config, self.health, lambda edge, static: None)
        self.inputs.listen()
        self._executor.add_node(self._node)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._spin)
        self._thread.start()

    def _spin(self) -> None:
        while not self._ended.is_set():
            self._executor.spin_once(timeout_sec=0.05)

    def look(self, stamp: int = NOW, wait_s: float = 0.1, camera: str = FRAME_ID) -> Frame:
        return self.inputs.complete(Frame(stamp, IMAGE), camera, None, wait_s)

    def until(self, condition, patience_s: float = 20.0) -> Frame:
        """Looks again and again, since DDS takes its time to match the two ends."""
        end = time.monotonic() + patience_s
        while time.monotonic() < end:
            if condition(frame := self.look()):
                return frame
            time.sleep(0.05)
        raise AssertionError(f"in vain; {self.inputs.shown}, {self.counts()}")

    def now_ns(self) -> int:
        return self._node.get_clock().now().nanoseconds

    def counts(self) -> dict[str, int]:
        return self.health.snapshot()["counts"]

    def close(self) -> None:
        self._ended.set()
        self._thread.join()
        self.inputs.stop()
        self._executor.shutdown()
        self._node.destroy_node()


@pytest.fixture
def listen(camera: Camera):
    """listen(parameter=value, ...) -> a Listener."""
    opened = []

    def make(**config) -> Listener:
        opened.append(Listener(**config))
        return opened[-1]
    yield make
    for listener in opened:
        listener.close()


@pytest.fixture
def robot(camera: Camera):
    return Robot(camera)


def drive_until_heard(robot: Robot, listener: Listener) -> None:
    """odom is known from a tenth of a second before NOW to NOW, where x = 1."""
    end = time.monotonic() + 20
    while listener.look(wait_s=0).T_odom_cam is None and time.monotonic() < end:
        robot.drive(NOW - 100 * MS, 0.0)
        robot.drive(NOW, 1.0)
        time.sleep(0.05)


def test_without_any_of_it_nothing_is_waited_for_or_counted(listen):
    listener = listen()
    start = time.monotonic()
    frame = listener.look(wait_s=1.0)
    assert time.monotonic() - start < 0.1
    assert (frame.T_odom_cam, frame.up_cam, frame.height_m, frame.depth) == (None,) * 4
    assert not listener.counts()


def test_odometry_up_and_height_of_a_robot(listen, robot):
    listener = listen()
    drive_until_heard(robot, listener)
    frame = listener.look(NOW - 50 * MS)
    np.testing.assert_allclose(frame.T_odom_cam, driven(0.5) @ T_footprint_base @ T_base_cam, atol=1e-9)
    np.testing.assert_allclose(frame.up_cam, UP_CAM, atol=1e-9)
    assert frame.height_m == pytest.approx(0.3)
    assert listener.inputs.shown == {"odometry": "odom", "up": "base_footprint", "height_m": "0.300", "depth": "none"}


def test_late_odometry_is_waited_for_a_little(listen, robot):
    listener = listen()
    drive_until_heard(robot, listener)
    threading.Timer(0.2, robot.drive, (NOW + 40 * MS, 2.0)).start()
    start = time.monotonic()
    frame = listener.look(NOW + 20 * MS, wait_s=1.0)
    assert 0.15 < time.monotonic() - start < 0.9
    np.testing.assert_allclose(frame.T_odom_cam, driven(1.5) @ T_footprint_base @ T_base_cam, atol=1e-9)


def test_odometry_that_is_too_late_is_counted_and_said(listen, robot):
    listener = listen()
    drive_until_heard(robot, listener)
    before, start = listener.counts().get("odometry_missing", 0), time.monotonic()
    assert listener.look(NOW + 20 * MS, wait_s=0.1).T_odom_cam is None
    assert 0.08 < time.monotonic() - start < 0.5
    assert listener.counts()["odometry_missing"] == before + 1
    assert "odom -> base_footprint" in listener.health.snapshot()["problem"]
    assert "0.020 s after the newest" in listener.health.snapshot()["problem"]


def test_odometry_that_has_stopped_is_not_waited_for(listen, robot):
    listener = listen()
    drive_until_heard(robot, listener)
    start = time.monotonic()
    assert listener.look(NOW + 5000 * MS, wait_s=1.0).T_odom_cam is None
    assert time.monotonic() - start < 0.2


def test_a_simulation_that_starts_again_empties_it(listen, robot, camera: Camera):
    listener, clock = listen(sim_time=True), camera.create_publisher(Clock, "/clock", 10)
    end = time.monotonic() + 20
    while listener.now_ns() != NOW and time.monotonic() < end:
        clock.publish(Clock(clock=ros_time(NOW)))
        time.sleep(0.05)
    drive_until_heard(robot, listener)
    while listener.look(wait_s=0).T_odom_cam is not None and time.monotonic() < end:
        clock.publish(Clock(clock=ros_time(NOW - 100 * MS)))        # no edge has jumped, and no less is out of date
        time.sleep(0.05)
    frame = listener.look()
    assert frame.T_odom_cam is None
    np.testing.assert_allclose(frame.up_cam, UP_CAM, atol=1e-9, err_msg="what is fixed stays")


def test_an_image_in_a_frame_that_tf_does_not_know_is_said(listen, robot):
    listener = listen()
    drive_until_heard(robot, listener)
    assert listener.look(camera="usb_cam").T_odom_cam is None
    assert "TF knows no frame 'usb_cam'" in listener.health.snapshot()["problem"]


def test_base_link_says_up_but_not_how_high(listen, robot):
    """On most robots it lies on the axle, not on the floor."""
    frame = listen(floor_frame="").until(lambda frame: frame.up_cam is not None)
    np.testing.assert_allclose(frame.up_cam, UP_CAM, atol=1e-9)
    assert frame.height_m is None


def test_a_floor_above_the_camera_is_refused(listen, robot):
    listener = listen(floor_frame="ceiling")
    while not listener.inputs._tf.knows("ceiling"):
        robot.tell(transform(sim3(np.eye(3), np.array([0.0, 0.0, -2.0])), NOW, "ceiling", "base_footprint"))
        time.sleep(0.05)
    frame = listener.until(lambda frame: frame.up_cam is not None)
    assert frame.height_m is None
    assert "the camera is -1.700 m above 'ceiling'; floor_frame must lie on the floor" \
        in listener.health.snapshot()["problem"]


def test_a_camera_that_does_not_hang_on_the_robot_is_said(listen, robot):
    listener = listen(odom_frame="")
    listener.until(lambda frame: frame.up_cam is not None)
    assert listener.look(camera="misspelt").up_cam is None
    assert listener.health.snapshot()["problem"] == \
        "the robot does not tell how its camera is held: TF knows no frame 'misspelt'"


@pytest.mark.parametrize(("message", "rolled"), [
    (Imu(linear_acceleration=Vector3(x=0.0, y=9.81 * np.sin(0.3), z=9.81 * np.cos(0.3))), True),
    (Imu(orientation=Quaternion(x=np.sin(0.15), w=np.cos(0.15))), True),
    # A driver that estimates no orientation, and says the opposite.
    (Imu(orientation=Quaternion(w=1.0), linear_acceleration=Vector3(y=9.81 * np.sin(0.3), z=9.81 * np.cos(0.3))), True),
    (Imu(linear_acceleration=Vector3(z=1.0)), False)], ids=["acceleration", "orientation", "identity", "in g"])
def test_gravity_of_an_imu_goes_before_the_robots_model(listen, robot, message, rolled):
    """The robot is rolled by 0.3 rad, of which its own frames know nothing."""
    listener = listen(imu_topic="/imu")
    message.header = header(NOW, "imu")
    wanted = inverse(T_base_cam)[:3, :3] @ exp_so3(np.array([-0.3, 0.0, 0.0])) @ [0.0, 0.0, 1.0]
    end = time.monotonic() + 20
    while time.monotonic() < end and not (listener.look().up_cam is not None and (
            listener.inputs.shown["up"] == "/imu" if rolled else listener.counts().get("imu_refused"))):
        robot.imu.publish(message)
        time.sleep(0.05)
    np.testing.assert_allclose(listener.look().up_cam, wanted if rolled else UP_CAM, atol=1e-9)


def test_an_imu_in_the_images_own_frame_needs_no_tf(listen, camera: Camera):
    listener, imu = listen(imu_topic="/imu"), camera.create_publisher(Imu, "/imu", 10)
    end = time.monotonic() + 20
    while listener.look(camera="phone").up_cam is None and time.monotonic() < end:
        imu.publish(Imu(header=header(NOW, "phone"), linear_acceleration=Vector3(y=-9.81)))
        time.sleep(0.05)
    np.testing.assert_allclose(listener.look(camera="phone").up_cam, [0.0, -1.0, 0.0], atol=1e-9)


def test_the_depth_image_that_is_nearest_in_time(listen, robot):
    listener = listen(depth_topic="/depth")
    end = time.monotonic() + 20
    while listener.look(NOW + 33 * MS).depth is None and time.monotonic() < end:
        robot.measure(NOW, 1000)
        robot.measure(NOW + 33 * MS, 1033)
        time.sleep(0.05)
    for off, metres in ((0, 1.0), (10, 1.0), (30, 1.033)):
        depth = listener.look(NOW + off * MS).depth
        assert depth.shape == (6, 8)
        assert depth[0, 0] == np.float32(metres)
    before = listener.counts().get("depth_missing", 0)
    assert listener.look(NOW + 60 * MS).depth is None
    assert listener.counts()["depth_missing"] == before + 1
    assert "/depth: the nearest is 27 ms off" in listener.health.snapshot()["problem"]


def test_depth_that_comes_after_its_image_is_waited_for(listen, robot):
    listener = listen(depth_topic="/depth")
    end = time.monotonic() + 20
    while listener.look().depth is None and time.monotonic() < end:
        robot.measure(NOW, 1000)
        time.sleep(0.05)
    threading.Timer(0.1, robot.measure, (NOW + 33 * MS, 2000)).start()
    assert listener.look(NOW + 33 * MS, wait_s=1.0).depth[0, 0] == 2.0


def test_depth_in_another_unit_than_its_encoding_says_is_no_depth_and_told(listen, robot):
    """Millimetres in 32FC1 would make the map a thousand times too large."""
    listener = listen(depth_topic="/depth")
    millimetres = np.full((6, 8), 400, "<f4")
    millimetres[0] = np.nan
    message = Image(header=header(NOW, FRAME_ID), width=8, height=6, step=32, encoding="32FC1",
                    data=millimetres.tobytes())
    end = time.monotonic() + 20
    while "no pixel of it" not in (listener.health.snapshot()["problem"] or "") and time.monotonic() < end:
        robot.depth.publish(message)
        assert listener.look().depth is None
        time.sleep(0.05)
    assert "between 0.001 m and 200 m; 16UC1 is in millimetres" in listener.health.snapshot()["problem"]


def test_depth_that_is_not_registered_to_the_image_is_no_depth_of_it(listen, robot, camera: Camera):
    listener = listen(depth_topic="/depth")

    def refused(frame_id: str, height: int = 6) -> str:
        """Why the depth image is not taken; empty: it is."""
        camera.number += 1
        stamp = camera.number * STEP_NS
        for _ in range(100):
            robot.depth.publish(Image(header=header(stamp, frame_id), width=8, height=height, step=16, encoding="16UC1",
                                      data=np.full((height, 8), 1000, "<u2").tobytes()))
            if listener.look(stamp).depth is not None:
                return ""
            if "none has come" not in (why := listener.health.snapshot()["problem"]) and " ms off" not in why:
                return why
            time.sleep(0.05)
        raise AssertionError(listener.health.snapshot()["problem"])

    assert refused(FRAME_ID) == refused("a frame that nobody knows") == ""
    assert "it is 8x3, which is not the shape of its 160x120 image" in refused(FRAME_ID, height=3)
    beside = sim3(np.eye(3), np.array([0.015, 0.0, 0.0]))
    robot.fix(transform(np.eye(4), 0, FRAME_ID, "same"), transform(beside, 0, FRAME_ID, "ir"))
    listener.until(lambda _: listener.inputs.parent("ir"))
    assert refused("same") == ""
    assert "its frame 'ir' is 15 mm and 0.0 degrees off the image's" in refused("ir")


def test_the_estimate_of_the_camera_is_no_news_of_the_robot(listen, robot):
    listener = listen(camera_frame=FRAME_ID)
    drive_until_heard(robot, listener)
    robot.tell(transform(np.eye(4), NOW, "lsm_map", FRAME_ID))
    robot.tell(transform(np.eye(4), NOW, "lsm_map", "something after it"))
    listener.until(lambda _: listener.inputs.parent("something after it"))
    assert listener.inputs.parent(FRAME_ID) == "base_link" and listener.look().T_odom_cam is not None


def test_a_map_that_hung_on_the_camera_may_carry_odom_later(listen, robot):
    """tf_mode changes from leaf to map_odom while running: tf2 forgets the one edge, and here it is never known."""
    listener = listen()
    drive_until_heard(robot, listener)
    robot.tell(transform(np.eye(4), NOW, FRAME_ID, "lsm_map"))
    robot.tell(transform(np.eye(4), NOW, "lsm_map", "odom"))
    listener.until(lambda _: listener.inputs.parent("odom"))
    assert listener.look().T_odom_cam is not None


def test_a_camera_info_that_was_sent_once_is_asked_for(camera: Camera, monkeypatch):
    kept = camera.create_publisher(CameraInfo, "/once/camera_info", LATCHED)
    kept.publish(camera.info())
    handed, health = [], Health(camera.get_logger())
    ears = intake.Intake(camera, NodeConfig(image_topic="/once/image_raw"), health, handed.append)
    camera.spin_until(lambda: ears._info_key is not None, what="for the camera_info")
    ears._on_image(camera.image())
    assert handed[-1].rectify is not None and not health.snapshot()["counts"].get("camera_info_missing")
    ears.destroy()


def test_a_camera_info_that_is_published_and_never_comes_is_said_once(camera: Camera, monkeypatch):
    silent = camera.create_publisher(CameraInfo, "/silent/camera_info", 10)
    monkeypatch.setattr(intake, "CAMERA_INFO_WAIT_S", 0.5)
    health = Health(camera.get_logger())
    ears = intake.Intake(camera, NodeConfig(image_topic="/silent/image_raw"), health, lambda work: None)
    ears._on_image(camera.image())
    camera.spin_until(lambda: health.snapshot()["counts"].get("camera_info_missing"))
    assert "none came on /silent/camera_info, though /test_camera publishes it" in health.snapshot()["problem"]
    camera.spin(2.5)
    assert health.snapshot()["counts"]["camera_info_missing"] == 1
    ears.destroy()
    camera.destroy_publisher(silent)


def test_a_camera_that_starts_late_is_still_waited_for_to_tell_its_intrinsics(camera: Camera, monkeypatch):
    handed, now = [], [100.0]
    monkeypatch.setattr(intake.time, "monotonic", lambda: now[0])
    health = Health(camera.get_logger())
    ears = intake.Intake(camera, NodeConfig(image_topic="/camera/image_raw"), health, handed.append)
    for now[0] in (160.0, 161.9, 162.1):
        ears._on_image(camera.image())
    ears.destroy()
    assert len(handed) == 1 and health.snapshot()["counts"]["images_before_camera_info"] == 2


@pytest.mark.parametrize(("name", "lens", "rectified", "told"), [
    ("/cam/image_rect", -0.3, False, 1), ("/cam/image_rect_color/compressed", -0.3, False, 1),
    ("/cam/image_rect", -0.3, True, 0), ("/cam/image_rect", 0.0, False, 0), ("/director/image_raw", -0.3, False, 0)])
def test_a_rectified_image_that_is_undistorted_once_more_is_told_of_once(camera: Camera, name, lens, rectified, told):
    health, info = Health(camera.get_logger()), camera.info()
    info.d = [lens, lens / 3, 0.0, 0.0, 0.0]
    info.p = [info.k[0], 0.0, info.k[2], 0.0, 0.0, info.k[4], info.k[5], 0.0, 0.0, 0.0, 1.0, 0.0]
    ears = intake.Intake(camera, NodeConfig(image_topic=name, image_rectified=rectified), health, None)
    for _ in range(2):
        ears._on_info(info)
    ears.destroy()
    assert health.snapshot()["counts"].get("rectified_twice", 0) == told
    assert not told or health.snapshot()["problem"] == (
        f"{name} is called rectified, and the distortion of /cam/camera_info is taken out of it once more; set "
        "image_rectified to true")


@pytest.mark.parametrize(("name", "transport", "topic", "kind"), [
    ("/cam/image_raw", "raw", "/cam/image_raw", Image),
    ("/cam/image_raw", "compressed", "/cam/image_raw/compressed", CompressedImage),
    ("/cam/image_raw/compressed", "compressed", "/cam/image_raw/compressed", CompressedImage),
    ("/cam/image_raw/compressed", "raw", "/cam/image_raw/compressed", CompressedImage)])      # raw is the default
def test_a_name_that_says_compressed_is_meant_so(camera: Camera, name, transport, topic, kind):
    ears = intake.Intake(camera, NodeConfig(image_topic=name, image_transport=transport), Health(camera.get_logger()),
                         None)
    heard = ears._subscriptions[1].topic_name, ears._subscriptions[1].msg_type
    ears.destroy()
    assert heard == (topic, kind) and ears.info_topic == "/cam/camera_info"


@pytest.mark.parametrize(("rules", "config", "names"), [
    (["image:=/cam/raw"], {}, ("/cam/raw", "/cam/camera_info")),
    (["image:=/cam/raw", "camera_info:=/cam/my_info"], {}, ("/cam/raw", "/cam/my_info")),
    (["image:=/cam/raw", "/cam/camera_info:=/cam/my_info"], {}, ("/cam/raw", "/cam/my_info")),
    (["camera_info:=/cam/my_info"], {}, ("/remapped/image", "/cam/my_info")),
    (["image:=/cam/raw", "camera_info:=/cam/my_info"], {"camera_info_topic": "/told"}, ("/cam/raw", "/told")),
    (["image:=/cam/raw"], {"image_transport": "compressed"}, ("/cam/raw/compressed", "/cam/camera_info")),
    (["image/compressed:=/cam/raw/compressed"], {"image_transport": "compressed"},
     ("/cam/raw/compressed", "/cam/camera_info")),
    (["image/compressed:=/cam/jpeg", "camera_info:=/cam/my_info"], {"image_transport": "compressed"},
     ("/cam/jpeg", "/cam/my_info")),
    (["/cam/camera_info:=/cam/my_info"], {"image_topic": "/cam/raw"}, ("/cam/raw", "/cam/my_info"))])
def test_image_and_camera_info_are_remapped_each_for_itself(camera: Camera, rules, config, names):
    node = Node("ears", namespace="remapped",
                cli_args=["--ros-args", *(part for rule in rules for part in ("-r", rule))])
    assert intake.topics(node, NodeConfig(**config)) == names
    node.destroy_node()


def test_a_compressed_image_that_is_remapped_alone_stays_compressed(camera: Camera):
    node = Node("ears", namespace="remapped", cli_args=["--ros-args", "-r", "image/compressed:=/cam/jpeg"])
    ears = intake.Intake(node, NodeConfig(image_transport="compressed"), Health(node.get_logger()), None)
    heard = ears._subscriptions[1].topic_name, ears._subscriptions[1].msg_type
    ears.destroy()
    node.destroy_node()
    assert heard == ("/cam/jpeg", CompressedImage)
    assert (ears.topic, ears.info_topic) == ("/cam/jpeg", "/cam/camera_info")
