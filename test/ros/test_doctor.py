"""`lsm doctor` before running nodes, and its judgement of what came."""
from __future__ import annotations

import json
import subprocess
import sys
import time

import numpy as np
import pytest
import rclpy
from harness import FRAME_ID, START_NS, STEP_NS, Camera
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import serialize_message
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage

from lsm_ros.errors import InputError
from lsm_ros.mapping.counters import Counters
from lsm_ros.resources import resource
from lsm_ros.ros import doctor
from lsm_ros.ros.conversions import header, transform
from lsm_ros.ros.diagnostics import Health, diagnostic_array
from lsm_ros.ros.doctor import NOTE, OK, PROBLEM, Images, check_images
from lsm_ros.ros.tf_buffer import MOVING, STATIC

SECOND = 1_000_000_000


class Visit:
    """A doctor in a process of its own."""

    def __init__(self, *arguments: str):
        # Elsewhere, so that the installed package is looked at; python -P does that, too, but not in 3.10.
        self._process = subprocess.Popen([sys.executable, "-m", "lsm_ros.cli", "doctor", "--json", *arguments],
                                         stdout=subprocess.PIPE, text=True, cwd="/")
        self.ended = False

    def findings(self, camera: Camera, meanwhile=lambda: None) -> list[dict]:
        """What it says in the end."""
        while self._process.poll() is None:
            meanwhile()
            camera.spin(0.1)
        found = json.loads(self._process.stdout.read())
        assert self._process.returncode == any(item["level"] == PROBLEM for item in found)
        return found


def said(found: list[dict], level: str, about: str) -> str:
    return "; ".join(item["text"] for item in found if (item["level"], item["about"]) == (level, about))


def test_where_nothing_runs_it_says_so(camera: Camera):
    found = Visit("--seconds", "4", "--node", "/nobody/lsm").findings(camera)
    assert said(found, PROBLEM, "node") == "there is no /nobody/lsm"
    assert "rmw_" in said(found, OK, "environment")
    assert f"numpy {np.__version__}" in said(found, OK, "versions")
    assert said(found, NOTE, "images") == "published here: /camera/image_raw (Image)"


@pytest.mark.parametrize(("name", "full"), [("robot1/lsm", "/robot1/lsm"), ("/robot1/lsm", "/robot1/lsm"),
                                            ("lsm", "/lsm")])
def test_a_name_without_its_first_slash_is_the_same_node(camera: Camera, name, full):
    examiner = doctor.Examiner(name)
    assert (examiner.full_name, examiner._namespace) == (full, full.removesuffix("/lsm") or "/")
    examiner.destroy_node()


@pytest.mark.parametrize("name", ["", "/", "a b", "/lsm/", "/lsm//lsm"])
def test_what_is_no_nodes_name_is_said(capsys, name):
    with pytest.raises(SystemExit) as ended:
        doctor.main(["--node", name])
    assert ended.value.code == 2
    assert f"argument --node: {name!r} is no node's full name: " in capsys.readouterr().err


def test_a_healthy_node_and_a_frame_with_two_parents(start, camera: Camera):
    start()
    camera.connect()
    tf = camera.create_publisher(TFMessage, "/tf", MOVING)

    def walk() -> None:
        camera.walk(1)
        at = camera.number * STEP_NS + 7
        tf.publish(TFMessage(transforms=[transform(np.eye(4), at, "odom", FRAME_ID),
                                         transform(np.eye(4), at, "one_map", "odom"),
                                         transform(np.eye(4), at, "another_map", "odom")]))

    found = Visit().findings(camera, walk)
    assert "/lsm/lsm is active" in said(found, OK, "node") + said(found, NOTE, "node")
    assert said(found, PROBLEM, "TF") == "'odom' has 2 parents: another_map, one_map"
    assert said(found, OK, "TF") == f"odom -> {FRAME_ID} is known at the images' stamps"
    assert "nobody publishes 'base_footprint'" in said(found, NOTE, "TF")
    assert "1 publisher(s), reliable, volatile; the node reads best_effort, volatile; " in \
        said(found, OK, "/camera/image_raw") + "; "
    assert "of 0.06 MB, 0% of them missing" in said(found, OK, "/camera/image_raw")
    assert "s old by this clock" in said(found, NOTE, "/camera/image_raw"), "the harness's stamps are of 2023"
    assert said(found, OK, "/camera/camera_info").endswith("the intrinsics are used")
    assert "images/s in" in said(found, OK, "rates")


def test_a_robot_that_has_a_tf_of_its_own(start, camera: Camera):
    """Another one's is on /tf, where the doctor listened; and that nobody told what is fixed was a problem."""
    start(remap=("image:=/camera/image_raw", "/tf:=/robot1/tf", "/tf_static:=/robot1/tf_static"))
    camera.connect()
    own, others = (camera.create_publisher(TFMessage, topic, MOVING) for topic in ("/robot1/tf", "/tf"))

    def walk() -> None:
        camera.walk(1)
        at = camera.number * STEP_NS + 7
        own.publish(TFMessage(transforms=[transform(np.eye(4), at, "odom", FRAME_ID)]))
        others.publish(TFMessage(transforms=[transform(np.eye(4), at, "other_map", "odom"),
                                             transform(np.eye(4), at, "another_map", "odom")]))

    found = Visit().findings(camera, walk)
    assert said(found, OK, "TF") == f"odom -> {FRAME_ID} is known at the images' stamps"
    assert not [item for item in found if item["level"] == PROBLEM], found


def test_what_is_fixed_on_a_robot_is_still_known_where_only_its_moving_tf_has_another_topic(camera: Camera):
    """Or where that is discovered a moment later. Static TF is told once."""
    fixed = camera.create_publisher(TFMessage, "/tf_static", STATIC)
    fixed.publish(TFMessage(transforms=[transform(OPTICAL, 0, "base_link", "camera")]))
    examiner = doctor.Examiner("/lsm/lsm")

    def waits_for_camera() -> bool:
        end = time.monotonic() + 10
        while not examiner.tree.knows("camera") and time.monotonic() < end:
            rclpy.spin_once(examiner, timeout_sec=0.05)
        return examiner.tree.knows("camera")

    assert waits_for_camera()
    examiner._on_edges(TFMessage(transforms=[transform(np.eye(4), 0, "others_odom", "base_link")]), static=False)
    examiner._hear_tf("/robot1/tf", static=False)
    assert not examiner.parents and waits_for_camera()
    examiner.destroy_node()
    camera.destroy_publisher(fixed)


def test_a_publisher_whose_qos_does_not_fit(start, camera: Camera):
    lossy = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    publisher = camera.create_publisher(Image, "/lossy/image", lossy)
    start("image_reliability:=reliable", remap=("image:=/lossy/image",))
    camera.connect()
    found = Visit("--seconds", "4").findings(camera, lambda: publisher.publish(camera.image()))
    camera.destroy_publisher(publisher)
    assert "the QoS of /test_camera does not fit" in said(found, PROBLEM, "/lossy/image")
    [mend] = [item["mend"] for item in found if item["about"] == "/lossy/image" and "does not fit" in item["text"]]
    assert mend == "image_reliability: best_effort"


def test_a_topic_of_another_type_and_nobody_on_the_depth(start, camera: Camera):
    start("image_transport:=compressed", "depth_topic:=/no/depth", remap=("image/compressed:=/camera/image_raw",))
    camera.connect()
    found = Visit("--seconds", "4").findings(camera)
    assert "/test_camera has it as sensor_msgs/msg/Image, the node as sensor_msgs/msg/CompressedImage" \
        in said(found, PROBLEM, "/camera/image_raw")
    assert said(found, PROBLEM, "/no/depth") == "nobody publishes it"


def test_a_simulation_whose_clock_nobody_publishes(start, camera: Camera):
    start("use_sim_time:=true")
    camera.connect()
    found = Visit().findings(camera, lambda: camera.walk(1))
    assert said(found, PROBLEM, "/clock") == "nobody publishes it, and the node has use_sim_time", found
    texts = [item["text"] for item in found if item["about"] == "/camera/image_raw"]
    assert not any(word in text for text in texts for word in ("old", "future")), "by no clock are they that"
    assert "stamps in order" in texts, found


def test_a_node_that_is_not_configured(start, camera: Camera):
    start("autostart:=false")
    camera.spin_until(lambda: camera.diagnostics)
    found = Visit("--seconds", "4").findings(camera)
    assert said(found, PROBLEM, "node") == "/lsm/lsm is unconfigured"
    [mend] = [item["mend"] for item in found if item["about"] == "node"]
    assert mend == "ros2 lifecycle set /lsm/lsm configure"


@pytest.mark.parametrize(("dark", "counted"), [(0, []), (2, ["mapper.dark_frames 2"])])
def test_only_losses_are_counted(camera: Camera, dark, counted):
    health = Health(camera.get_logger())
    health.arrived()
    counters = Counters(frames=9, static_frames=4, keyframes=5, windows=5, recognitions=2, loops=1, joined_maps=1,
                        dark_frames=dark)
    examiner = doctor.Examiner("/lsm/lsm")
    examiner._on_diagnostics(diagnostic_array(Header(), "lsm/lsm", health, counters, "tracking", {}, None, matches=200,
                                              views="4"))
    found = examiner._check_diagnostics()
    examiner.destroy_node()
    assert [item.text for item in found if item.about == "counts"] == counted


OPTICAL = np.array([[0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1.0]])     # T_base_cam, looking forward


@pytest.mark.parametrize(("frame_id", "T_base_cam", "problem"), [
    ("camera_optical", OPTICAL, ""),
    ("camera_link", np.eye(4), "by TF 'camera_link' looks straight up from 'base_link'"),
    ("", None, "the images have no frame_id")])
def test_the_frame_of_the_images_is_an_optical_one(camera: Camera, frame_id, T_base_cam, problem):
    examiner = doctor.Examiner("/lsm/lsm")
    examiner.parameters = {"odom_frame": "odom", "base_frame": "base_link", "floor_frame": "base_footprint"}
    examiner.images = Images(stream(), [0.02] * 60, [60_000] * 60, frame_id)
    if T_base_cam is not None:
        examiner._on_edges(TFMessage(transforms=[transform(T_base_cam, 0, "base_link", frame_id)]), static=True)
    found = examiner._check_tf()
    examiner.destroy_node()
    assert problem in "; ".join(item.text for item in found if item.level == PROBLEM)
    assert bool(problem) == any(item.level == PROBLEM for item in found)
    heard = [item.text for item in found if item.level == NOTE]
    assert not frame_id or any("'odom'" in text for text in heard) and any("'base_footprint'" in text for text in heard)


@pytest.mark.parametrize("odometry", [True, False])
def test_a_camera_that_does_not_hang_on_the_robot_is_one_problem(camera: Camera, odometry):
    examiner = doctor.Examiner("/lsm/lsm")
    examiner.parameters = {"odom_frame": "odom", "base_frame": "base_link", "floor_frame": "base_footprint"}
    examiner.images = images(stream())
    pairs = [("base_footprint", "base_link"), *[("odom", "base_footprint")] * odometry]
    examiner._on_edges(TFMessage(transforms=[transform(np.eye(4), 0, *pair) for pair in pairs]), static=True)
    found = examiner._check_tf()
    examiner.destroy_node()
    assert [item.text for item in found if item.level == PROBLEM] == ["TF knows no frame 'camera'"]


def test_every_ring_of_tf_is_told_once_and_how_to_open_it(camera: Camera):
    examiner = doctor.Examiner("/lsm/lsm")
    examiner.parameters = {"odom_frame": "odom", "base_frame": "base_link", "floor_frame": "base_footprint"}
    examiner.images = images(stream())
    pairs = 2 * [("odom", "base_footprint"), ("base_footprint", "odom"), ("base_link", "camera"),
                 ("camera", "base_link"), ("camera", "lamp")]
    examiner._on_edges(TFMessage(transforms=[transform(np.eye(4), 0, *pair) for pair in pairs]), static=True)
    found = examiner._check_tf()
    examiner.destroy_node()
    assert [(item.level, item.text) for item in found] == [
        (PROBLEM, "TF is a ring: base_footprint -> odom -> base_footprint"),
        (PROBLEM, "TF is a ring: base_link -> camera -> base_link")]
    assert all("stop the publisher of one of these transforms" in item.mend for item in found)


def test_static_transforms_of_two_values_are_told_with_who_may_have_sent_them(camera: Camera):
    examiner = doctor.Examiner("/lsm/lsm")
    aside = OPTICAL.copy()
    aside[0, 3] = 0.02
    others = [rclpy.create_node(name) for name in ("urdf", "mount")]
    publishers = [other.create_publisher(TFMessage, "/tf_static", STATIC) for other in others]
    same = transform(OPTICAL, 0, "base_link", "camera")
    turned = transform(OPTICAL, 0, "base_link", "camera")
    q = turned.transform.rotation
    q.x, q.y, q.z, q.w = -q.x, -q.y, -q.z, -q.w         # is the same
    loose = transform(np.eye(4), 0, "/lamp", "lamp")
    publishers[0].publish(TFMessage(transforms=[same, loose, transform(np.eye(4), 0, "base_link", "lidar")]))
    publishers[1].publish(TFMessage(transforms=[turned, transform(np.eye(4), 0, "base_link", "lidar")]))
    until = time.monotonic() + 5
    while time.monotonic() < until and not (examiner.loose and examiner.count_publishers("/tf_static") == 2):
        rclpy.spin_once(examiner, timeout_sec=0.05)
    before = examiner._check_tf()
    publishers[1].publish(TFMessage(transforms=[transform(aside, 0, "base_link", "camera")]))
    while time.monotonic() < until and len(examiner.fixed["base_link", "camera"]) < 2:
        rclpy.spin_once(examiner, timeout_sec=0.05)
    after = examiner._check_tf()
    for node in (examiner, *others):
        node.destroy_node()
    assert [(item.level, item.text) for item in before] == [
        (PROBLEM, "'lamp' is said to hang on itself, on /tf_static by /mount, /urdf")]
    assert [(item.level, item.text) for item in after[1:]] == [
        (PROBLEM, "static base_link -> camera has more than one value: xyz 0 0 0, quaternion -0.5 0.5 -0.5 0.5; "
                  "xyz 0.02 0 0, quaternion -0.5 0.5 -0.5 0.5; static TF is told by /mount, /urdf")]


def test_a_frame_that_hangs_on_itself_too_has_one_parent(camera: Camera):
    examiner = doctor.Examiner("/lsm/lsm")
    pairs = [("odom", "base_link"), ("base_link", "/base_link")]
    examiner._on_edges(TFMessage(transforms=[transform(np.eye(4), 0, *pair) for pair in pairs]), static=False)
    found = examiner._check_tf()
    examiner.destroy_node()
    told, = (item.text for item in found)
    assert told.startswith("'base_link' is said to hang on itself, on /tf by ")


@pytest.mark.parametrize(("height_m", "told"), [(0.0, ["nobody publishes 'base_footprint', so the camera's height is "
                                                        "unknown"]), (0.25, [])])
def test_a_height_that_was_set_is_not_asked_for(camera: Camera, height_m, told):
    examiner = doctor.Examiner("/lsm/lsm")
    assert "mapper.camera_height_m" in doctor.PARAMETERS
    examiner.parameters = {"floor_frame": "base_footprint", "base_frame": "", "mapper.camera_height_m": height_m}
    examiner.images = images(stream())
    found = examiner._check_mount()
    examiner.destroy_node()
    assert [item.text for item in found] == told


def images(stamps, size: int = 60_000, age_s: float = 0.02) -> Images:
    return Images(list(stamps), [age_s] * len(stamps), [size] * len(stamps), "camera")


def stream(count: int = 60, arrive: float = 1.0, jitter_ns: int = 0) -> list[int]:
    """Stamps at 30 Hz; `arrive` is the share of the images that do."""
    rng = np.random.default_rng(0)
    return [START_NS + n * SECOND // 30 + int(rng.integers(-jitter_ns, jitter_ns + 1)) for n in range(count)
            if rng.random() < arrive]


@pytest.mark.parametrize(("seen", "rmw", "profile", "level", "words"), [
    (images(stream()), "rmw_fastrtps_cpp", False, OK, "30.0 images/s of 0.06 MB, 0% of them missing"),
    (images(stream(jitter_ns=5_000_000)), "rmw_fastrtps_cpp", False, OK, "0% of them missing"),
    (images(stream(), 920_000), "rmw_fastrtps_cpp", True, OK, "of 0.92 MB"),
    (images(stream(), 920_000), "rmw_fastrtps_cpp", False, NOTE, "of 0.92 MB, 0% of them missing"),
    (images(stream(arrive=0.4), 920_000), "rmw_fastrtps_cpp", False, PROBLEM, "does not fit Fast DDS's shared memory"),
    (images(stream(arrive=0.4), 920_000), "rmw_cyclonedds_cpp", False, NOTE, "of 0.92 MB"),
    (images([]), "rmw_fastrtps_cpp", False, PROBLEM, "no image came"),
    (images([0] * 9), "rmw_fastrtps_cpp", False, PROBLEM, "9 images have the stamp 0"),
    (images(stream(9) * 2), "rmw_fastrtps_cpp", False, PROBLEM, "go back or stand still 1 times, by up to 0.267 s"),
    (images(stream(), age_s=-0.4), "rmw_fastrtps_cpp", False, PROBLEM, "0.400 s in the future"),
    (images(stream(), age_s=2.5), "rmw_fastrtps_cpp", False, NOTE, "2.50 s old when they come"),
    (images(stream()), "rmw_fastrtps_cpp", False, OK, "stamps in order, 20 ms old"),
    (Images(stream(), [], [60_000] * 60, "camera"), "rmw_fastrtps_cpp", False, OK, "stamps in order")])
def test_what_is_said_of_images(seen, rmw, profile, level, words):
    found = check_images("/image", seen, rmw, profile)
    assert [item.level for item in found if words in item.text] == [level], found
    assert all(item.mend for item in found if item.level == PROBLEM)


def test_the_header_of_a_serialized_message():
    message = Image(header=header(START_NS + 7, "some_camera"), data=[1, 2, 3])
    assert doctor.read_header(serialize_message(message)) == (START_NS + 7, "some_camera")
    with pytest.raises(InputError, match="6 bytes hold no header"):
        doctor.read_header(bytes(6))


def test_the_shipped_profile_is_recognised(monkeypatch):
    for name in doctor.PROFILES:
        monkeypatch.delenv(name, raising=False)
    assert not doctor.large_profile()
    monkeypatch.setenv("FASTDDS_DEFAULT_PROFILES_FILE", str(resource("config/fastdds_large_messages.xml")))
    assert doctor.large_profile()
