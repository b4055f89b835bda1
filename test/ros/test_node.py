"""The real node in its own process, over real DDS, with a fake network. The tests share the node, in this order."""
from __future__ import annotations

import importlib.util
import json
import resource
import time

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import TransformStamped
from harness import CAMERA, FRAME_ID, PATIENCE_S, STEP_NS, Camera, Process, node_command
from lsm_ros.msg import LabelLegend
from lsm_ros.srv import SaveMap
from nav_msgs.msg import Odometry
from nav_msgs.msg import Path as PathMessage
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from room import ROOM, SIZE
from sensor_msgs.msg import Image, PointCloud2
from std_srvs.srv import SetBool, Trigger
from tf2_msgs.msg import TFMessage
from visualization_msgs.msg import MarkerArray

from lsm_ros.data.messages import cloud
from lsm_ros.geometry.sim3 import transform
from lsm_ros.labels import LabelSet
from lsm_ros.ros.conversions import stamp_ns
from lsm_ros.ros.qos import LATCHED

HAS_VISION_MSGS = importlib.util.find_spec("vision_msgs") is not None


@pytest.fixture(scope="module")
def node(camera: Camera, tmp_path_factory) -> Process:
    process = Process(node_command("map_period_s:=0.2", remap=(CAMERA,)), tmp_path_factory.mktemp("node") / "log")
    camera.connect()
    yield process
    process.stop()


@pytest.fixture(scope="module")
def heard(node, camera: Camera) -> dict[str, list]:
    """What the node published during a walk of three seconds."""
    topics = {"odometry": (Odometry, 10), "map_cloud": (PointCloud2, LATCHED),
              "path": (PathMessage, LATCHED), "label_markers": (MarkerArray, LATCHED),
              "label_legend": (LabelLegend, LATCHED)}
    if HAS_VISION_MSGS:
        from vision_msgs.msg import Detection3DArray, LabelInfo
        topics |= {"objects": (Detection3DArray, LATCHED), "label_info": (LabelInfo, LATCHED)}
    messages = {name: camera.keep(kind, f"/lsm/{name}", qos) for name, (kind, qos) in topics.items()}
    messages["semantic_cloud"] = camera.clouds
    messages["tf"] = camera.keep(TFMessage, "/tf", 100)
    messages["sent"] = camera.walk(30)
    camera.spin_until(lambda: messages["semantic_cloud"] and messages["label_markers"] and messages["path"][-1].poses)
    camera.spin(1.5)
    return messages


def test_every_image_is_received(heard, camera):
    assert camera.counter("images_received") == len(heard["sent"]) == 30


def test_window_clouds_carry_the_images_stamp_and_frame(heard):
    sent = {stamp_ns(image.header.stamp) for image in heard["sent"]}
    assert len(heard["semantic_cloud"]) >= 3
    for message in heard["semantic_cloud"]:
        assert stamp_ns(message.header.stamp) in sent
        assert message.header.stamp.nanosec % 1000 == 7, "a float64 loses these nanoseconds"
        assert message.header.frame_id == FRAME_ID


def test_window_clouds_lie_where_the_room_is(heard, camera):
    """The points, taken into the room by the true pose, are on its walls, and carry their names."""
    message = heard["semantic_cloud"][-1]
    points = cloud(message)
    in_room = transform(camera.place(stamp_ns(message.header.stamp) // STEP_NS), points.points)
    low, high = ROOM
    assert ((in_room > low - 0.4) & (in_room < high + 0.4)).all()
    floor = points.labels == LabelSet.load().index("floor")
    assert floor.sum() > 50
    assert abs(np.median(in_room[floor, 2])) < 0.15


def test_the_camera_walks_as_it_was_carried(heard, camera):
    """TF against the truth of the room: distances, which need no alignment."""
    edges: list[TransformStamped] = [edge for message in heard["tf"] for edge in message.transforms]
    assert {edge.header.frame_id for edge in edges} == {"lsm_map"}
    estimated = {stamp_ns(edge.header.stamp): edge.transform.translation for edge in edges
                 if edge.child_frame_id == "lsm_camera"}
    assert set(estimated) == {stamp_ns(message.header.stamp) for message in heard["odometry"]}
    first, last = min(estimated), max(estimated)
    true = [camera.place(stamp // STEP_NS)[:3, 3] for stamp in (first, last)]
    walked = np.array([[estimated[stamp].x, estimated[stamp].y, estimated[stamp].z] for stamp in (first, last)])
    assert np.linalg.norm(walked[1] - walked[0]) == pytest.approx(np.linalg.norm(true[1] - true[0]), rel=0.15)
    assert any(edge.child_frame_id == "lsm_keyframe_0" for edge in edges)


def test_the_map_its_path_its_objects_and_their_names(heard):
    world = cloud(heard["map_cloud"][-1])
    assert heard["map_cloud"][-1].header.frame_id == "lsm_map"
    assert 500 < len(world) < 20000
    assert np.ptp(world.points[:, 2]) < 4.5, "a room is not higher"
    path = heard["path"][-1]
    stamps = [stamp_ns(pose.header.stamp) for pose in path.poses]
    assert len(stamps) >= 3
    assert stamps == sorted(stamps)
    texts = {marker.text.split()[0] for marker in heard["label_markers"][-1].markers if marker.ns == "name"}
    assert texts <= {"table", "sofa", "cabinet", "box"}
    assert texts
    assert len(heard["label_legend"]) == 1
    assert "sofa" in heard["label_legend"][0].names


@pytest.mark.skipif(not HAS_VISION_MSGS, reason="vision_msgs is not installed")
def test_objects_and_class_names_as_vision_msgs(heard):
    [info] = heard["label_info"]
    names = {item.class_id: item.class_name for item in info.class_map}
    boxes = {(marker.id, marker.pose.position.x) for marker in heard["label_markers"][-1].markers if marker.ns == "box"}
    found = heard["objects"][-1].detections
    assert {(int(item.id), item.bbox.center.position.x) for item in found} == boxes
    assert {names[int(item.results[0].hypothesis.class_id)] for item in found} <= {"table", "sofa", "cabinet", "box"}


def test_diagnostics_tell_rates_latencies_and_memory(heard, camera):
    camera.spin_until(lambda: float(camera.diagnostics["lsm/lsm: latency"].get("image_to_cloud_ms", 0)) > 0)
    camera.spin_until(lambda: camera.levels["lsm/lsm: mapping"][0] == DiagnosticStatus.OK,
                      what="for a busy machine's warnings, which are shown for a while, to pass")
    assert camera.levels["lsm/lsm: mapping"][1] in ("tracking", "still"), "the walk has ended"
    shown = camera.diagnostics["lsm/lsm: camera"]
    assert (shown["size"], shown["encoding"], shown["intrinsics"]) == (f"{SIZE[0]}x{SIZE[1]}", "rgb8", "camera_info")
    assert shown["topic"] == "/camera/image_raw"
    assert {"wait_ms", "decode_ms", "network_ms", "publish_ms"} <= set(camera.diagnostics["lsm/lsm: latency"])
    assert float(camera.diagnostics["lsm/lsm: process"]["peak_mb"]) > 50


def test_save_map_writes_while_images_keep_coming(heard, camera, tmp_path):
    before = camera.counter("images_received")
    client = camera.client(SaveMap, "/lsm/save_map")
    answer, sent = client.call_async(SaveMap.Request(folder=str(tmp_path / "map"))), 0
    while not answer.done() and sent < 600:
        camera.send()
        camera.spin(0.1)
        sent += 1
    assert answer.result().success, answer.result().message
    assert answer.result().message == str(tmp_path / "map")
    names = {str(file.relative_to(tmp_path / "map")) for file in (tmp_path / "map").rglob("*") if file.is_file()}
    assert {"cloud.ply", "trajectory.txt", "objects.json", "summary.json", "pictures/map_by_class.png"} <= names
    assert json.loads((tmp_path / "map/summary.json").read_text())["counters"]["images_received"] >= before
    camera.spin_until(lambda: camera.counter("images_received") >= before + sent, what="for all images to be counted")


def test_a_full_disk_costs_the_new_map_alone(heard, camera, node, tmp_path):
    """For a while no file of the node may grow beyond some bytes, which it is told as it would be of a full disk."""
    assert camera.call(SaveMap, "/lsm/save_map", SaveMap.Request(folder=str(tmp_path))).success
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    unlimited = resource.prlimit(node.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(node.process.pid, resource.RLIMIT_FSIZE, (4096, unlimited[1]))
    answer = camera.call(SaveMap, "/lsm/save_map", SaveMap.Request(folder=str(tmp_path)))
    resource.prlimit(node.process.pid, resource.RLIMIT_FSIZE, unlimited)
    assert (answer.success, answer.message) == (False, f"the map can't be written into {tmp_path}: File too large")
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before


def test_save_map_says_why_it_cannot_write(heard, camera):
    answer = camera.call(SaveMap, "/lsm/save_map", SaveMap.Request(folder="/dev/null/map"))
    assert not answer.success
    assert "/dev/null/map" in answer.message


def test_parameters_change_while_running_within_their_range(heard, camera):
    def set_parameter(name: str, value):
        request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
        return camera.call(SetParameters, "/lsm/lsm/set_parameters", request).results[0]

    assert set_parameter("mapper.min_observations", 1).successful
    assert not set_parameter("mapper.min_observations", 0).successful
    assert "when the node is configured" in set_parameter("predictor.device", "cuda").reason
    assert set_parameter("tf_mode", "leaf").successful
    edges = camera.keep(TFMessage, "/tf", 100)
    camera.walk(8)
    camera.spin_until(lambda: edges and edges[-1].transforms[0].header.frame_id == FRAME_ID)
    assert edges[-1].transforms[0].child_frame_id == "lsm_map"


def test_pause(heard, camera):
    assert camera.call(SetBool, "/lsm/pause", SetBool.Request(data=True)).message == "paused"
    camera.walk(3)
    camera.spin_until(lambda: camera.counter("images_while_paused") == 3)
    assert camera.call(SetBool, "/lsm/pause", SetBool.Request(data=False)).message == "running"


def test_reset_empties_the_map_and_takes_its_markers_away(heard, camera):
    assert camera.call(Trigger, "/lsm/reset", Trigger.Request()).success
    camera.spin_until(lambda: heard["map_cloud"][-1].width == 0)
    camera.spin_until(lambda: {marker.action for marker in heard["label_markers"][-1].markers} == {3})       # DELETEALL
    camera.walk(8)
    camera.spin_until(lambda: heard["map_cloud"][-1].width > 0)


def goes_on(camera: Camera) -> None:
    """The node still makes clouds. (The camera goes slower and slower, for a busy machine to see enough of its way.)"""
    clouds, end, pause_s = len(camera.clouds), time.monotonic() + PATIENCE_S, 0.1
    while len(camera.clouds) == clouds:
        assert time.monotonic() < end, f"no cloud any more; {camera.diagnostics}"
        camera.walk(1, pause_s)
        pause_s *= 1.02


@pytest.mark.parametrize(("change", "words"), [
    ({"encoding": "32FC1"}, "image encoding '32FC1'"),
    ({"width": 0, "height": 0, "data": []}, "image of size 0x0"),
    ({"data": [1, 2, 3]}, "image data of 3 bytes is too short")])
def test_an_unusable_image_is_named_counted_and_survived(node, camera, change, words):
    before, image = camera.counter("images_refused"), camera.image()
    for name, value in change.items():
        setattr(image, name, value)
    camera.number += 1
    camera.send(image)
    camera.spin_until(lambda: camera.counter("images_refused") > before)
    assert words in camera.levels["lsm/lsm: mapping"][1]
    assert camera.levels["lsm/lsm: mapping"][0] == DiagnosticStatus.WARN
    goes_on(camera)


def test_a_stamp_out_of_order_costs_one_image(node, camera):
    camera.walk(2)
    camera.spin(2.0)            # on a busy machine the newer one may still wait, and would give way
    camera.number -= 2
    before = camera.counter("images_refused")
    camera.send()
    camera.spin_until(lambda: camera.counter("images_refused") == before + 1)
    assert "is not after" in camera.levels["lsm/lsm: mapping"][1]
    assert camera.counter("mapper.bad_stamps") == 1
    goes_on(camera)


def test_a_jump_back_in_time_starts_the_map_again(node, camera):
    camera.spin(1.2)            # until the diagnostics have counted what came before
    before = camera.counter("images_refused")
    camera.number -= 60
    camera.send()
    camera.spin_until(lambda: camera.counter("images_refused") == before + 1)
    assert "jumped back by" in camera.levels["lsm/lsm: mapping"][1] and not camera.counter("time_jumps_back")
    camera.send()
    camera.spin_until(lambda: camera.counter("time_jumps_back") == 1)
    assert "jumped back by" in camera.levels["lsm/lsm: mapping"][1]
    goes_on(camera)


def test_another_resolution_starts_the_map_again(node, camera):
    camera.spin(1.2)
    before = camera.counter("images_refused")
    for count in (0, 1):
        camera.number += 1
        camera.send(Image(header=camera.header(), width=80, height=60, step=240, encoding="rgb8",
                          data=bytes(80 * 60 * 3)))
        camera.spin_until(lambda count=count: (camera.counter("images_refused"), camera.counter("resolution_changes"))
                          == (before + 1, count))
    assert "from 160x120 to 80x60" in camera.levels["lsm/lsm: mapping"][1]
    assert camera.counter("camera_info_refused") >= 1, "camera_info is still that of the larger image"
    goes_on(camera)
    camera.spin_until(lambda: camera.counter("resolution_changes") == 2)


def test_black_images_make_no_keyframes(node, camera):
    before = camera.counter("mapper.dark_frames")
    for _ in range(3):
        camera.number += 1
        camera.send(Image(header=camera.header(), width=SIZE[0], height=SIZE[1], step=3 * SIZE[0], encoding="rgb8",
                          data=bytes(SIZE[0] * SIZE[1] * 3)))
        camera.spin(0.1)
    camera.spin_until(lambda: camera.counter("mapper.dark_frames") == before + 3)
    assert camera.diagnostics["lsm/lsm: mapping"]["state"] == "dark"
    goes_on(camera)


def test_a_still_camera_makes_no_keyframes(node, camera):
    still = camera.send()
    camera.spin(1.2)            # until the diagnostics have counted what came before
    before = camera.counter("mapper.static_frames")
    for count in (1, 2, 3):
        camera.number += 1
        still.header = camera.header()
        camera.send(still)
        camera.spin_until(lambda count=count: camera.counter("mapper.static_frames") == before + count)
    goes_on(camera)


def test_nan_intrinsics_are_refused_and_done_without(node, camera):
    before = camera.counter("camera_info_refused")
    info = camera.info()
    info.k[0] = float("nan")
    camera.info_publisher.publish(info)
    camera.spin_until(lambda: camera.counter("camera_info_refused") == before + 1)
    assert "nan" in camera.levels["lsm/lsm: mapping"][1]
    camera.number += 1
    camera.image_publisher.publish(camera.image())
    camera.spin_until(lambda: camera.diagnostics["lsm/lsm: camera"]["intrinsics"] == "estimated")
    goes_on(camera)


def test_one_interrupt_ends_it_cleanly(node):
    assert node.stop() == 0
    assert "Traceback" not in node.output()
