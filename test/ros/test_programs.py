"""The other programs over real DDS: another vendor's reader, a lifecycle manager's calls, player, recorder, demo."""
from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import cv2
import numpy as np
import pytest
from harness import FRAME_ID, HERE, PATIENCE_S, START_NS, STEP_NS, Camera, Process
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from nav_msgs.msg import Path as PathMessage
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.serialization import serialize_message
from rosbags.rosbag2 import Reader
from sensor_msgs.msg import CameraInfo, CompressedImage
from std_srvs.srv import Trigger
from tf2_msgs.msg import TFMessage

from lsm_ros.contracts import Cloud
from lsm_ros.data.messages import LEGEND_FIELDS, LEGEND_TYPE
from lsm_ros.data.outputs import write_ply
from lsm_ros.data.recording import RecordingWriter
from lsm_ros.data.sequences import open_sequence
from lsm_ros.errors import InputError, OutputError
from lsm_ros.labels import LabelSet
from lsm_ros.resources import resource
from lsm_ros.ros import demo, recorder
from lsm_ros.ros.conversions import header, stamp_ns, transform
from lsm_ros.ros.doctor import PROFILES
from lsm_ros.ros.player import RecordedMessages, Timeline
from lsm_ros.ros.tf_buffer import MOVING, STATIC

MS = 1_000_000
BAGGED = "/bagged/image/compressed"


def program(name: str, log, **parameters) -> Process:
    arguments = [part for key, value in parameters.items() for part in ("-p", f"{key}:={value}")]
    return Process([sys.executable, "-m", f"lsm_ros.ros.{name}", "--ros-args", *arguments], log)


@pytest.fixture
def folder_of_images(camera: Camera, tmp_path):
    """Twelve images of the walk in the layout with the truth beside them, K in intrinsics.txt."""
    (tmp_path / "walk/color").mkdir(parents=True)
    for number in range(12):
        image = np.frombuffer(camera.image().data, np.uint8).reshape(120, 160, 3)
        cv2.imwrite(str(tmp_path / f"walk/color/{number:06d}.jpg"), image[..., ::-1])
        camera.number += 1
    np.savetxt(tmp_path / "walk/intrinsics.txt", [[120, 0, 80], [0, 120, 60], [0, 0, 1]])
    return tmp_path / "walk"


def test_another_vendors_dds_reads_the_clouds(start, camera: Camera, tmp_path):
    pytest.importorskip("cyclonedds")
    start()
    camera.connect()
    reader = Process([sys.executable, str(HERE / "cyclone_reader.py"), "/lsm/semantic_cloud", str(PATIENCE_S)],
                     tmp_path / "reader.log")
    for _ in range(300):
        camera.walk(1)
        if reader.process.poll() is not None:
            break
    assert reader.process.wait(PATIENCE_S) == 0, reader.output()
    read = json.loads(reader.output())
    assert read["frame_id"] == FRAME_ID
    ours = next(cloud for cloud in camera.clouds
                if [cloud.header.stamp.sec, cloud.header.stamp.nanosec] == read["stamp"])
    assert (read["points"], read["bytes"], read["point_step"]) == (ours.width, 20 * ours.width, 20)
    assert read["fields"] == [["x", 0, 7], ["y", 4, 7], ["z", 8, 7], ["rgb", 12, 7], ["label", 16, 4],
                              ["confidence", 18, 2]]
    xyz = np.ndarray((ours.width, 3), "<f4", bytes(ours.data), strides=(20, 4))
    np.testing.assert_allclose(read["mean"], xyz.mean(0, dtype=float), rtol=1e-9)


def test_a_lifecycle_manager_can_run_it(start, camera: Camera):
    start("autostart:=false")

    def state() -> str:
        return camera.call(GetState, "/lsm/lsm/get_state", GetState.Request()).current_state.label

    def change(transition: int) -> bool:
        request = ChangeState.Request(transition=Transition(id=transition))
        return camera.call(ChangeState, "/lsm/lsm/change_state", request).success

    assert state() == "unconfigured"
    for _ in range(2):
        assert change(Transition.TRANSITION_CONFIGURE)
        assert change(Transition.TRANSITION_ACTIVATE)
        camera.connect()
        clouds = len(camera.clouds)
        sent = len(camera.walk(12))
        camera.spin_until(lambda clouds=clouds: len(camera.clouds) > clouds)
        camera.spin_until(lambda sent=sent: camera.counter("images_received") == sent, what="for counters begun anew")
        # The second time with the services of the first, which have outlasted the clean-up.
        assert camera.call(Trigger, "/lsm/reset", Trigger.Request()).success
        assert change(Transition.TRANSITION_DEACTIVATE)
        assert state() == "inactive"
        assert change(Transition.TRANSITION_CLEANUP)
        camera.diagnostics.clear()
    assert change(Transition.TRANSITION_UNCONFIGURED_SHUTDOWN)


def test_a_folder_is_played_as_a_camera_and_recorded(camera: Camera, folder_of_images, tmp_path):
    images = camera.keep(CompressedImage, "/played/image/compressed")
    infos = camera.keep(CameraInfo, "/played/camera_info")
    recording = program("recorder", tmp_path / "recorder.log", folder=tmp_path / "bag", node="/lsm_player",
                        topics="/rosout")
    player = program("player", tmp_path / "player.log", source=folder_of_images, image_topic="/played/image",
                     wait_for_subscribers=2, rate=4)
    camera.spin_until(lambda: player.process.poll() is not None)
    assert player.process.returncode == 0, player.output()
    camera.spin(0.5)
    assert len(images) == len(infos) == 12
    stamps = np.array([stamp_ns(image.header.stamp) for image in images])
    np.testing.assert_allclose(np.diff(stamps), 0.1e9 / 4, atol=1)
    assert abs(stamps[0] - camera.get_clock().now().nanoseconds) < PATIENCE_S * 1e9, "stamps are moved to the present"
    assert infos[0].k[2] == 80.0
    assert recording.stop() == 0, recording.output()
    with Reader(tmp_path / "bag") as bag:
        counts = {connection.topic: connection.msgcount for connection in bag.connections}
    assert (counts["/played/image/compressed"], counts["/played/camera_info"]) == (12, 12)
    # What was recorded plays again, its messages as they are.
    again = list(open_sequence(tmp_path / "bag"))
    assert [frame.frame.stamp_ns for frame in again] == stamps.tolist()


def test_a_relative_topic_is_recorded(camera: Camera, folder_of_images, tmp_path):
    recording = program("recorder", tmp_path / "recorder.log", folder=tmp_path / "bag", node="/nobody",
                        topics="relative/camera_info, /relative/image/compressed")
    player = program("player", tmp_path / "player.log", source=folder_of_images, image_topic="relative/image", rate=4)
    camera.spin_until(lambda: player.process.poll() is not None)
    assert recording.stop() == 0, recording.output()
    with Reader(tmp_path / "bag") as bag:
        counts = {connection.topic: connection.msgcount for connection in bag.connections}
    assert counts["/relative/image/compressed"] == 12 and counts["/relative/camera_info"] >= 11


def test_where_no_intrinsics_are_known_nobody_waits_for_them(camera: Camera, folder_of_images, tmp_path):
    """The node drops the images of two seconds for a camera_info that somebody publishes."""
    (folder_of_images / "intrinsics.txt").unlink()
    images = camera.keep(CompressedImage, "/unknown/image/compressed")
    player = program("player", tmp_path / "player.log", source=folder_of_images, image_topic="/unknown/image", rate=4)
    camera.spin_until(lambda: images)
    assert not camera.count_publishers("/unknown/camera_info")
    assert player.stop() == 0


def test_a_single_image_is_looped_at_a_frame_s_period(camera: Camera, folder_of_images, tmp_path):
    for image in sorted((folder_of_images / "color").iterdir())[1:]:
        image.unlink()
    images = camera.keep(CompressedImage, "/looped/image/compressed")
    player = program("player", tmp_path / "player.log", source=folder_of_images, image_topic="/looped/image", loop=True)
    camera.spin_until(lambda: len(images) > 3)
    assert player.stop() == 0, player.output()
    assert np.diff([stamp_ns(image.header.stamp) for image in images]).min() >= STEP_NS


def test_the_recorder_finds_the_definitions_of_messages():
    definition, inner = recorder.definition("lsm_ros/msg/LabelLegend"), recorder.messages_in("lsm_ros/msg/LabelLegend")
    assert definition == (HERE.parents[1] / "msg/LabelLegend.msg").read_text()
    assert inner == {"std_msgs/msg/Header", "std_msgs/msg/ColorRGBA"}
    with pytest.raises(InputError, match="no Nothing.msg in share/std_msgs/msg"):
        recorder.definition("std_msgs/msg/Nothing")


@pytest.mark.parametrize("name", ["/robot1/lsm", "robot1/lsm"])
def test_the_recorder_knows_a_node_without_its_first_slash(name):
    asked = []
    found = SimpleNamespace(
        config=recorder.RecorderConfig(node=name), _topics=set(), _known=set(), get_topic_names_and_types=list,
        get_node_names_and_namespaces=lambda: [("lsm", "/robot1"), ("lsm", "/")],
        get_publisher_names_and_types_by_node=lambda *node: asked.append(node) or [])
    recorder.Recorder._discover(found)
    assert asked == [("lsm", "/robot1")]


@pytest.mark.parametrize(("source", "words"), [("nowhere", "nowhere does not exist"), ("", None)])
def test_a_source_that_cannot_be_played_is_named(tmp_path, source, words):
    if words is None:
        (tmp_path / "empty").mkdir()
        source, words = "empty", "no images in"
    player = program("player", tmp_path / "player.log", source=tmp_path / source)
    assert player.process.wait(PATIENCE_S) == 2
    assert words in player.output()


def test_one_of_several_cameras_is_played(camera: Camera, tmp_path):
    with RecordingWriter(tmp_path / "bag") as writer:
        for stamp in (1, 2, 3):
            for side in ("left", "right"):
                writer.write_image(stamp, np.zeros((48, 64, 3), np.uint8), topic=f"/{side}/image/compressed")
    with pytest.raises(InputError, match="choose one of /left/image/compressed, /right/image/compressed"):
        demo.open_source(tmp_path / "bag")
    chosen = demo.build_parser().parse_args(["--image-topic", "/right/image/compressed"]).image_topic
    source = demo.open_source(tmp_path / "bag", chosen)
    assert (source.image_topic, source.transport) == ("/right/image", "compressed")
    images = camera.keep(CompressedImage, "/right/image/compressed")
    player = program("player", tmp_path / "player.log", source=source.path, image_topic=source.image_topic)
    camera.spin_until(lambda: player.process.poll() is not None)
    assert player.process.returncode == 0, player.output()
    assert len(images) == 3 and "sent 3 images on /right/image/compressed" in player.output()


@pytest.mark.parametrize(("namespace", "topic", "problem"), [
    ("/", "right/image", ""), ("/right", "image", ""), ("/right", "/left/image", ""),
    ("/lsm", "right/image", "has no image topic '/lsm/right/image/compressed'; its topics: /left/image/compressed ("),
    ("/", "right image", "image_topic: "), ("/", "{robot}/image", "image_topic: ")])
def test_a_relative_topic_of_a_recording_is_one_in_the_player_s_namespace(tmp_path, namespace, topic, problem):
    with RecordingWriter(tmp_path / "bag") as writer:
        for side in ("left", "right"):
            writer.write_image(1, np.zeros((48, 64, 3), np.uint8), topic=f"/{side}/image/compressed")
    command = [sys.executable, "-m", "lsm_ros.ros.player", "--ros-args", "-r", f"__ns:={namespace}"]
    ended = subprocess.run([*command, "-p", f"source:={tmp_path / 'bag'}", "-p", f"image_topic:='{topic}'", "-p",
                            "wait_for_subscribers:=0"], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert problem in ended.stderr and "Traceback" not in ended.stderr
    assert ended.returncode == (2 if problem else 0)
    sent = "/left/image/compressed" if topic.startswith("/") else "/right/image/compressed"
    assert problem or f"sent 1 images on {sent}" in ended.stderr


def test_a_message_without_a_stamp_is_no_time(camera: Camera, tmp_path):
    with RecordingWriter(tmp_path / "bag") as writer:
        writer.write_camera_info(0, np.eye(3), 64, 48, topic="/stampless/camera_info")
        for stamp in (START_NS, START_NS + STEP_NS):
            writer.write_image(stamp, np.zeros((48, 64, 3), np.uint8), topic="/stampless/image/compressed")
    images = camera.keep(CompressedImage, "/stampless/image/compressed")
    infos = camera.keep(CameraInfo, "/stampless/camera_info")
    player = program("player", tmp_path / "player.log", source=tmp_path / "bag", wait_for_subscribers=1)
    camera.spin_until(lambda: len(images) == 2)
    assert player.stop() == 0, player.output()
    assert [stamp_ns(info.header.stamp) for info in infos] == [stamp_ns(images[0].header.stamp)]
    assert stamp_ns(images[1].header.stamp) - stamp_ns(images[0].header.stamp) == STEP_NS


@pytest.mark.parametrize(("stamps", "due"), [
    ([None] * 4, [0, 66, 132, 198]),                          # never stamped: as recorded
    ([0, 70, 130, 200], [0, 70, 130, 200]),                     # a folder's begin at 0
    ([5000, 5070, 5130, 5200], [0, 70, 130, 200]),              # stamped: as stamped
    ([5000, None, 5130, 5200], [0, 66, 130, 200]),
    ([5000, 5070, 100, 170], [0, 70, 136, 206]),                # begun anew: 66 ms after the one before, as recorded
    ([5000, 5070, 5060, 5200], [0, 70, 60, 200])])              # jitter stays
def test_messages_are_due_by_their_stamps_as_long_as_these_go_on(stamps, due):
    timeline = Timeline()
    assert [timeline.due_ns("/image", stamp and stamp * 1_000_000, 900_000_000 + k * 66_000_000) // 1_000_000
            for k, stamp in enumerate(stamps)] == due


def test_topics_that_jump_back_stay_together():
    timeline, due = Timeline(), {}
    for k, stamp in enumerate([50_000, 50_100, 100, 200]):
        for late, topic in enumerate(("/info", "/image")):                      # recorded 3 ms later
            due[topic, k] = timeline.due_ns(topic, stamp * 1_000_000, (100 * k + 3 * late) * 1_000_000) // 1_000_000
        due["/slow", k] = timeline.due_ns("/slow", max(stamp, 50_000) * 1_000_000, (100 * k + 5) * 1_000_000)
    assert [due["/info", k] for k in range(4)] == [due["/image", k] for k in range(4)] == [0, 100, 195, 295]
    assert due["/slow", 3] == 0, "what still has the stamps of before the jump is late, and waits for nothing"


def test_messages_whose_type_is_not_installed_are_left_out(tmp_path, caplog):
    metadata = "realsense2_camera_msgs/msg/Metadata"
    with RecordingWriter(tmp_path / "bag") as writer:
        writer.register_type(metadata, "std_msgs/Header header\nstring json_data\n")
        writer.add_topic("/camera/metadata", metadata)
        writer.write_image(1, np.zeros((48, 64, 3), np.uint8))
    sequence = open_sequence(tmp_path / "bag")
    assert [topic for topic, *_ in RecordedMessages(sequence)] == ["/camera/image_raw/compressed"]
    assert f"/camera/metadata ({metadata})" in caplog.text
    with pytest.raises(InputError, match=metadata):
        RecordedMessages(sequence, only="/camera/metadata")


def test_what_a_node_said_in_a_recording_is_not_said_again(tmp_path):
    """`lsm demo` leaves such a recording; played back it would put the old map beside the new one."""
    said = {"/lsm/label_legend": LEGEND_TYPE, "/lsm/map_cloud": "sensor_msgs/msg/PointCloud2",
            "/lsm/segmentation/mask": "sensor_msgs/msg/Image", "/diagnostics": "diagnostic_msgs/msg/DiagnosticArray"}
    with RecordingWriter(tmp_path / "bag") as writer:
        writer.register_type(LEGEND_TYPE, LEGEND_FIELDS)
        for topic, name in said.items():
            writer.add_topic(topic, name)
        writer.write_camera_info(1, np.eye(3), 64, 48, topic="/lsm/camera_info")
        writer.write_image(1, np.zeros((48, 64, 3), np.uint8), topic="/lsm/image/compressed")
        writer.write_truth_pose(1, np.eye(4))
    sequence = open_sequence(tmp_path / "bag")
    assert set(RecordedMessages(sequence).types) == {"/lsm/camera_info", "/lsm/image/compressed", "/truth/pose"}
    assert set(RecordedMessages(sequence, only="/lsm/map_cloud").types) == {"/lsm/map_cloud"}


def test_the_demo_is_in_a_domain_of_its_own_unless_it_is_told_one(monkeypatch):
    own = 1 + os.getpid() % 100
    for exported, asked, expected in ((None, [], (own, "LOCALHOST")), (str(1 + own % 100), [], (own, "LOCALHOST")),
                                      (str(own), [], (1 + own % 100, "LOCALHOST")),
                                      ("42", ["--domain", "42"], (42, "SUBNET")),
                                      (None, ["--domain", "0"], (0, "LOCALHOST"))):
        for name, value in (("ROS_DOMAIN_ID", exported), ("ROS_AUTOMATIC_DISCOVERY_RANGE", exported and "SUBNET")):
            if value:
                monkeypatch.setenv(name, value)
            else:
                monkeypatch.delenv(name, raising=False)
        corner = demo.own_corner_of_dds(demo.build_parser().parse_args(asked).domain)
        assert tuple(corner.values()) == (str(expected[0]), expected[1])
        assert corner.items() <= os.environ.items()


def test_what_is_no_domain_is_told(capsys):
    with pytest.raises(SystemExit):
        demo.build_parser().parse_args(["--domain", "233"])
    assert "233 is no DDS domain; there are 0 to 232" in capsys.readouterr().err


@pytest.mark.parametrize("chosen", [None, *PROFILES])
def test_the_demos_programs_have_room_for_raw_images_unless_profiles_are_chosen(tmp_path, monkeypatch, chosen):
    expected = dict.fromkeys(PROFILES, str(resource("config/fastdds_large_messages.xml")))
    for name in PROFILES:
        monkeypatch.delenv(name, raising=False)
    if chosen:
        expected = {chosen: "/home/me/profiles.xml"}
        monkeypatch.setenv(chosen, expected[chosen])
    (tmp_path / "logs").mkdir()
    started = []

    def start(*_, env=os.environ, **__):
        started.append({name: env[name] for name in PROFILES if name in env})
        return SimpleNamespace(poll=lambda: 0)

    monkeypatch.setattr(demo.subprocess, "Popen", start)
    with demo.program("node", tmp_path, {}):
        pass
    assert started == [expected]


def tf_bag(path: Path, edges: list[tuple[str, int, int, str, str]], images: int = 3) -> Path:
    """A rosbag2 of images a tenth of a second apart, and of transforms: topic, ms when it was recorded and that its
    stamp says, both after the first image, parent, child. Messages in the order of the clock."""
    at = [(100 * n, None) for n in range(images)]
    at += [(ms, (topic, serialize_message(TFMessage(transforms=[
        transform(np.eye(4), START_NS + stamp_ms * MS, parent, child)]))))
        for topic, ms, stamp_ms, parent, child in edges]
    with RecordingWriter(path) as writer:
        for topic in sorted({edge[0] for edge in edges}):
            writer.add_topic(topic, "tf2_msgs/msg/TFMessage", latched=topic == "/tf_static")
        writer.add_topic("/cmd_vel", "geometry_msgs/msg/Twist")
        for ms, tf in sorted(at, key=lambda item: item[0]):
            if tf is None:
                writer.write_image(START_NS + ms * MS, np.zeros((48, 64, 3), np.uint8), topic=BAGGED)
            else:
                writer.write(tf[0], START_NS + ms * MS, tf[1])
    return path


def test_the_tf_of_a_robots_recording_is_played_with_its_images(camera: Camera, tmp_path, caplog):
    bag = tf_bag(tmp_path / "bag", [
        ("/tf_static", -40, -10**7, "base_link", "camera"), ("/tf", -5, -8, "odom", "base_link"),
        ("/tf", 95, 92, "odom", "base_link"), ("/tf", 96, 1096, "map", "odom"),
        ("/tf", 195, 192, "odom", "base_link")])
    messages = RecordedMessages(open_sequence(bag))
    assert set(messages.types) == {BAGGED, "/tf", "/tf_static"}
    assert "left out, for their messages have no header: /cmd_vel (geometry_msgs/msg/Twist)" in caplog.text
    images = camera.keep(CompressedImage, BAGGED)
    moving = camera.keep(TFMessage, "/tf", MOVING)
    player = program("player", tmp_path / "player.log", source=bag, wait_for_subscribers=1, loop=True)
    camera.spin_until(lambda: len(images) >= 3 and len(moving) >= 4)
    static = camera.keep(TFMessage, "/tf_static", STATIC)           # who comes late has it, too
    camera.spin_until(lambda: static)
    assert player.stop() == 0, player.output()
    [mount] = static[0].transforms
    assert (mount.header.frame_id, mount.child_frame_id) == ("base_link", "camera")
    first = stamp_ns(images[0].header.stamp)
    edges = [edge for message in moving[:4] for edge in message.transforms]
    assert [(edge.header.frame_id, edge.child_frame_id) for edge in edges] == [
        ("odom", "base_link"), ("odom", "base_link"), ("map", "odom"), ("odom", "base_link")]
    assert [round((stamp_ns(edge.header.stamp) - first) / MS) for edge in edges] == [0, 92, 1096, 192], \
        "the first came before any image had told the time"
    assert "/cmd_vel" in player.output()


def test_transforms_of_another_clock_are_of_when_they_were_recorded():
    timeline, second = Timeline(), 10**9
    assert timeline.moved_ns(5 * second, 0) == 0, "no stamp has told yet what time it is"
    assert timeline.due_ns("/image", START_NS, START_NS + 20 * MS) == 0
    assert timeline.moved_ns(START_NS + second, 30 * MS) == second
    for stamp in (0, 5 * second, START_NS - 60 * second, START_NS + 60 * second):
        assert timeline.moved_ns(stamp, 30 * MS) == 30 * MS
    assert timeline.due_ns("/image", START_NS + 100 * MS, START_NS + 120 * MS) == 100 * MS, "nobody has waited"


@pytest.mark.parametrize("map_frame", ["lsm_map", "robot1/map"])
def test_estimates_of_a_node_in_recorded_tf_are_left_out(tmp_path, map_frame):
    """As the TF of the robot they would tie the new map to the old one, and give lsm_camera two parents."""
    estimates = [(map_frame, "lsm_camera"), (map_frame, "lsm_keyframe_0"), ("camera_optical_frame", map_frame),
                 (map_frame, "odom")]
    with RecordingWriter(tmp_path / "bag") as writer:
        writer.register_type(LEGEND_TYPE, LEGEND_FIELDS)
        writer.add_topic("/lsm/label_legend", LEGEND_TYPE)
        writer.add_topic("/lsm/path", "nav_msgs/msg/Path")
        writer.add_topic("/lsm/odometry", "nav_msgs/msg/Odometry")          # that nobody read
        writer.add_topic("/tf", "tf2_msgs/msg/TFMessage")
        writer.write_image(START_NS, np.zeros((48, 64, 3), np.uint8))
        for edges in (estimates, [*estimates[:2], ("odom", "base_link")]):
            writer.write("/tf", START_NS, serialize_message(TFMessage(transforms=[
                transform(np.eye(4), START_NS, parent, child) for parent, child in edges])))
        if map_frame != "lsm_map":
            writer.write("/lsm/path", START_NS, serialize_message(PathMessage(header=header(START_NS, map_frame))))
    [message] = [message for topic, *_, message in RecordedMessages(open_sequence(tmp_path / "bag")) if topic == "/tf"]
    assert [(edge.header.frame_id, edge.child_frame_id) for edge in message.transforms] == [("odom", "base_link")]


def test_a_simulations_player_without_a_clock_keeps_the_pace(camera: Camera, tmp_path):
    bag, heard_s = tf_bag(tmp_path / "bag", [], images=16), []
    camera.create_subscription(CompressedImage, BAGGED,
                               lambda _: heard_s.append(time.monotonic()), 10)
    player = program("player", tmp_path / "player.log", source=bag, use_sim_time=True)
    camera.spin_until(lambda: player.process.poll() is not None)
    assert len(heard_s) == 16 and heard_s[-1] - heard_s[0] < 3.0, "1.5 s"


@pytest.mark.parametrize("value", [Path("/tmp/a #2/rec"), "x: y", "0", "", 'Küche "1"', 1.0])
def test_rcl_reads_what_the_demo_hands_on(camera: Camera, value):
    node = Node("reader", cli_args=["--ros-args", "-p", f"value:={demo.in_yaml(value)}"], use_global_arguments=False,
                automatically_declare_parameters_from_overrides=True)
    read = node.get_parameter("value").value
    node.destroy_node()
    assert read == (value if isinstance(value, float) else str(value))


def test_the_demo_overwrites_only_what_a_demo_made(tmp_path):
    results = tmp_path / "results"
    (results / "recording").mkdir(parents=True)
    with pytest.raises(OutputError, match="results/recording would be overwritten"):
        demo.prepare(results, tmp_path / "bag")
    (results / "logs").mkdir()
    (results / "logs/recorder.log").touch()
    with pytest.raises(OutputError, match="results/recording would be overwritten"):
        demo.prepare(results, results / "recording/recording.mcap")
    demo.prepare(results, tmp_path / "bag")
    assert not (results / "recording").exists()


def test_a_topic_of_what_is_no_rosbag2_is_refused(tmp_path):
    cv2.imwrite(str(tmp_path / "image.png"), np.zeros((48, 64, 3), np.uint8))
    with pytest.raises(InputError, match="is no rosbag2, so it has no topic /left"):
        demo.open_source(tmp_path, "/left")


def test_a_demo_that_is_terminated_ends_with_its_own_exit_code(tmp_path, monkeypatch):
    def terminated(*_):
        raise ExternalShutdownException

    monkeypatch.setattr(demo, "own_corner_of_dds", lambda domain: {})
    monkeypatch.setattr(demo, "play", terminated)
    assert demo.main(["-o", str(tmp_path / "results")]) == 143


def test_a_recorder_that_failed_is_told(tmp_path, monkeypatch):
    (tmp_path / "logs").mkdir()

    def start(command, **_):
        return SimpleNamespace(poll=lambda: 2 if "lsm_ros.ros.recorder" in command else 0)

    monkeypatch.setattr(demo.subprocess, "Popen", start)
    monkeypatch.setattr(demo, "watching", lambda: nullcontext(MagicMock()))
    source, arguments = demo.open_source(None), demo.build_parser().parse_args([])
    with pytest.raises(InputError, match="recorder ended with status 2"):
        demo.play(source, tmp_path, arguments)


@pytest.mark.parametrize(("names", "scored"), [(LabelSet.load().names, True), (("oak", "floor"), False)])
def test_labels_are_scored_only_where_they_are_those_of_the_truth(tmp_path, monkeypatch, names, scored):
    with RecordingWriter(tmp_path / "recording") as writer:
        writer.write_image(START_NS, np.zeros((48, 64, 3), np.uint8))
        writer.write_truth_labels(START_NS, np.zeros((48, 64), np.uint16))
    point = Cloud(*(np.zeros(shape, kind) for shape, kind in (((1, 3), np.float32), ((1, 3), np.uint8), (1, np.uint16),
                                                              (1, np.uint8))))
    write_ply(tmp_path / "cloud.ply", point, SimpleNamespace(names=names))
    (tmp_path / "trajectory.txt").touch()
    monkeypatch.setattr(demo, "score_run", lambda _, clouds, truth, labels: [item.labels is not None for item in truth])
    source = demo.Source(tmp_path, "/camera/image_raw", "compressed", (), 1)
    assert demo.score_recording(tmp_path, source) == [scored]


def test_a_recording_that_cannot_be_scored_is_told_beside_the_results(tmp_path):
    summary = {"counters": {"images_received": 1, "windows": 1, "refused_windows": 0}, "objects": {}, "points": 1,
               "latency_s": {name: {"median": 1.0} for name in ("stamp_to_cloud", "network")},
               "memory": {"peak_mb": 1.0}, "class_shares": {}}
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    (tmp_path / "recording").mkdir()
    source = demo.Source(tmp_path, "/camera/image_raw", "compressed", (), 1)
    score = demo.score_recording(tmp_path, source)
    assert "no images in" in score
    demo.report(tmp_path, source, score)
    assert not (tmp_path / "score.json").exists()


@pytest.mark.slow
def test_the_demo_from_end_to_end(folder_of_images, tmp_path):
    demo = Process([sys.executable, "-c", "import sys; from lsm_ros.ros.demo import main; sys.exit(main(sys.argv[1:]))",
                    "-o", str(tmp_path / "demo"), "--recording", str(folder_of_images), "--rate", "0.5"],
                   tmp_path / "demo.log")
    assert demo.process.wait(4 * PATIENCE_S) == 0, demo.output()
    assert "12 sent, 12 received" in demo.output()
    for name in ("cloud.ply", "trajectory.txt", "objects.json", "summary.json", "pictures/frames.png",
                 "recording/metadata.yaml", "logs/node.log"):
        assert (tmp_path / "demo" / name).is_file(), name
    with Reader(tmp_path / "demo/recording") as bag:
        topics = {connection.topic: connection.msgcount for connection in bag.connections}
    assert {"/lsm/semantic_cloud", "/lsm/map_cloud", "/lsm/label_legend", "/lsm/label_markers", "/lsm/odometry",
            "/lsm/path", "/tf", "/diagnostics", "/camera/image_raw/compressed", "/camera/camera_info"} <= set(topics)
    assert min(topics[f"/lsm/{name}"] for name in ("semantic_cloud", "map_cloud", "label_legend", "path")) >= 1
