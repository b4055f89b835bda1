"""Messages against bytes and numbers written by hand."""
from __future__ import annotations

import struct
import sys
from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point, Quaternion
from sensor_msgs.msg import CompressedImage, Image, PointCloud2
from visualization_msgs.msg import Marker

from lsm_ros.contracts import Cloud, MapObject, MapUpdate
from lsm_ros.data import messages
from lsm_ros.errors import InputError
from lsm_ros.geometry.camera import intrinsics
from lsm_ros.geometry.sim3 import exp_so3, inverse, quaternion_from_matrix, sim3
from lsm_ros.labels import LabelSet
from lsm_ros.mapping.graph import GraphPicture
from lsm_ros.mapping.occupancy import Grid
from lsm_ros.ros import conversions
from lsm_ros.ros.parameters import NodeConfig
from lsm_ros.ros.transforms import TransformPublisher, keyframe_frame, transforms

STAMP = 1_700_000_000_123_456_789       # as a float64 of seconds it would end in ...457


def small_cloud() -> Cloud:
    return Cloud(points=np.array([[1.0, -2.0, 3.5], [0.25, 0.0, 100.0]], np.float32),
                 colors=np.array([[255, 128, 1], [0, 7, 200]], np.uint8), labels=np.array([3, 65535], np.uint16),
                 confidence=np.array([0, 255], np.uint8))


def test_stamps_pass_through_untouched():
    time = conversions.time(STAMP)
    assert (time.sec, time.nanosec) == (1_700_000_000, 123_456_789)
    assert conversions.stamp_ns(time) == STAMP
    assert conversions.stamp_ns(conversions.time(-1)) == -1


def test_a_stamp_that_no_message_can_hold_is_refused():
    with pytest.raises(InputError, match=str(2**31 * 10**9)):
        conversions.time(2**31 * 10**9)


def test_a_cloud_is_20_bytes_a_point():
    message = conversions.cloud_message(small_cloud(), conversions.header(STAMP, "camera"))
    expected = (struct.pack("<fffIHBx", 1.0, -2.0, 3.5, 0x00FF8001, 3, 0)
                + struct.pack("<fffIHBx", 0.25, 0.0, 100.0, 0x000007C8, 65535, 255))
    assert bytes(message.data) == expected
    assert (message.point_step, message.row_step, message.width, message.height) == (20, 40, 2, 1)
    assert [(f.name, f.offset, f.datatype, f.count) for f in message.fields] == [
        ("x", 0, 7, 1), ("y", 4, 7, 1), ("z", 8, 7, 1), ("rgb", 12, 7, 1), ("label", 16, 4, 1),
        ("confidence", 18, 2, 1)]
    assert message.is_dense
    assert not message.is_bigendian
    rgb = struct.unpack_from("<f", bytes(message.data), 12)[0]
    assert rgb == rgb, "an alpha of 255 would make a NaN of it"


def test_a_cloud_comes_back_as_it_went():
    cloud, back = small_cloud(), messages.cloud(conversions.cloud_message(small_cloud(), conversions.header(0, "")))
    for name in ("points", "colors", "labels", "confidence"):
        np.testing.assert_array_equal(getattr(back, name), getattr(cloud, name))


def test_a_cloud_of_others_is_refused():
    with pytest.raises(InputError, match="16 bytes a point"):
        messages.cloud(PointCloud2(point_step=16))


def test_an_empty_cloud_is_a_message():
    empty = Cloud(*(array[:0] for array in vars(small_cloud()).values()))
    message = conversions.cloud_message(empty, conversions.header(0, ""))
    assert (message.width, len(message.data), message.is_dense) == (0, 0, True)
    message = conversions.xyz_message(empty.points, conversions.header(0, ""))
    assert (message.width, message.height, len(message.data)) == (0, 1, 0)


def test_what_nav2_reads_is_16_bytes_a_point():
    points = np.array([[1.0, -2.0, 3.5], [0.25, 0.0, 8.0]], np.float32)
    message = conversions.xyz_message(points, conversions.header(STAMP, "camera"))
    assert bytes(message.data) == struct.pack("<fff4xfff4x", 1.0, -2.0, 3.5, 0.25, 0.0, 8.0)
    assert (message.width, message.height, message.point_step, message.row_step) == (2, 1, 16, 32)
    assert [(f.name, f.offset, f.datatype) for f in message.fields] == [("x", 0, 7), ("y", 4, 7), ("z", 8, 7)]
    assert message.is_dense


def test_an_organised_cloud_has_rows_and_holes():
    points = np.arange(18, dtype=np.float32).reshape(2, 3, 3)
    points[1, 0] = np.nan
    message = conversions.xyz_message(points, conversions.header(STAMP, "camera"))
    assert (message.width, message.height, message.point_step, message.row_step) == (3, 2, 16, 48)
    assert not message.is_dense
    assert struct.unpack_from("<fff", bytes(message.data), 16) == (3.0, 4.0, 5.0)
    assert np.isnan(struct.unpack_from("<fff", bytes(message.data), 48)).all()


def test_masks_and_depths_and_their_camera():
    at = conversions.header(STAMP, "camera")
    mask = conversions.mono8_message(np.array([[1, 2, 3], [4, 5, 255]], np.uint8), at)
    assert (mask.encoding, mask.width, mask.height, mask.step) == ("mono8", 3, 2, 3)
    assert bytes(mask.data) == bytes([1, 2, 3, 4, 5, 255])
    depth = conversions.depth_message(np.array([[0.5, 2.0]], np.float32), at)
    assert (depth.encoding, depth.width, depth.height, depth.step, depth.is_bigendian) == ("32FC1", 2, 1, 8, 0)
    assert bytes(depth.data) == struct.pack("<ff", 0.5, 2.0)
    info = conversions.camera_info(intrinsics(100.0, 110.0, 32.0, 24.0), (48, 64), at)
    assert (info.width, info.height, info.distortion_model, list(info.d)) == (64, 48, "plumb_bob", [0.0] * 5)
    assert info.k.tolist() == [100.0, 0, 31.5, 0, 110.0, 23.5, 0, 0, 1]
    assert info.p.tolist() == [100.0, 0, 31.5, 0, 0, 110.0, 23.5, 0, 0, 0, 1, 0]
    assert info.r.tolist() == np.eye(3).ravel().tolist()
    assert {conversions.stamp_ns(message.header.stamp) for message in (mask, depth, info)} == {STAMP}


def test_a_grid_is_row_by_row_from_its_lower_corner():
    grid = Grid(np.array([[0, 100, -1], [-1, -1, 0]], np.int8), np.array([-1.5, 2.0]), 0.05)
    message = conversions.grid_message(grid, STAMP, "lsm_map")
    assert list(message.data) == [0, 100, -1, -1, -1, 0]
    assert (message.info.width, message.info.height, message.header.frame_id) == (3, 2, "lsm_map")
    assert message.info.resolution == pytest.approx(0.05)
    assert message.info.origin.position == Point(x=-1.5, y=2.0)
    assert message.info.origin.orientation.w == 1.0


def test_image_messages():
    image = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    message = conversions.image_message(image, conversions.header(STAMP, "camera"))
    assert (message.width, message.height, message.step, message.encoding) == (3, 2, 9, "rgb8")
    np.testing.assert_array_equal(conversions.image_to_array(message), image)
    swapped = Image(width=3, height=2, step=12, encoding="bgr8", data=b"".join(row.tobytes() + b"pad" for row in image))
    np.testing.assert_array_equal(conversions.image_to_array(swapped), image[..., ::-1])


def test_compressed_images():
    image = np.full((8, 8, 3), (200, 100, 50), np.uint8)
    png = cv2.imencode(".png", image[..., ::-1])[1].tobytes()
    message = conversions.compressed_message(png, "png", conversions.header(STAMP, "camera"))
    np.testing.assert_array_equal(conversions.image_to_array(message), image)
    mosaic = cv2.imencode(".png", np.tile(np.array([[200, 100], [100, 50]], np.uint8), (4, 4)))[1].tobytes()
    message = conversions.compressed_message(mosaic, "bayer_rggb8; png compressed ", message.header)
    np.testing.assert_array_equal(conversions.image_to_array(message), image)
    jpeg = cv2.imencode(".jpg", image)[1].tobytes()
    with pytest.raises(InputError, match="truncated"):
        conversions.image_to_array(CompressedImage(format="jpeg", data=jpeg[:-20]))


@pytest.mark.parametrize(("message", "words"), [
    (Image(width=2, height=2, step=2, encoding="32FC1", data=bytes(4)), "32FC1"),
    (Image(width=0, height=0, encoding="rgb8"), "0x0"),
    (Image(width=4, height=4, step=12, encoding="rgb8", data=bytes(40)), "40 bytes"),
    (CompressedImage(format="jpeg", data=b""), "0 bytes"),
    (CompressedImage(format="jpeg", data=b"no image at all"), "15 bytes")])
def test_images_that_cannot_be_used_are_named(message, words):
    with pytest.raises(InputError, match=words):
        conversions.image_to_array(message)


def bridge(monkeypatch, decode) -> None:
    """Puts a cv_bridge whose `imgmsg_to_cv2` is `decode` into place; None takes it away."""
    stand_in = decode and SimpleNamespace(CvBridge=lambda: SimpleNamespace(imgmsg_to_cv2=decode))
    monkeypatch.setitem(sys.modules, "cv_bridge", stand_in)


def test_encodings_that_are_not_ours_go_to_cv_bridge(monkeypatch):
    image, asked = np.arange(12, dtype=np.uint8).reshape(2, 2, 3), []

    def decode(message, encoding):
        asked.append((message.encoding, encoding))
        return image

    bridge(monkeypatch, decode)
    np.testing.assert_array_equal(conversions.image_to_array(Image(width=2, height=2, encoding="nv21")), image)
    conversions.image_to_array(conversions.image_message(image, conversions.header(0, "")))
    assert asked == [("nv21", "rgb8")], "rgb8 is ours"


def test_what_cv_bridge_refuses_is_named(monkeypatch):
    def decode(message, encoding):
        raise TypeError("[32FC1] is not a color format")

    bridge(monkeypatch, decode)
    with pytest.raises(InputError, match="'32FC1' can't be decoded by cv_bridge: .32FC1. is not a color format"):
        conversions.image_to_array(Image(width=2, height=2, encoding="32FC1"))


def test_without_cv_bridge_it_is_named_as_the_way_out(monkeypatch):
    bridge(monkeypatch, None)
    with pytest.raises(InputError, match="image encoding 'nv21' is not supported without cv_bridge.*; supported: rgb8"):
        conversions.image_to_array(Image(width=2, height=2, encoding="nv21"))


def test_sensor_msgs_py_reads_our_clouds():
    point_cloud2 = pytest.importorskip("sensor_msgs_py.point_cloud2", reason="sensor_msgs_py is not installed")
    cloud = small_cloud()
    points = point_cloud2.read_points(conversions.cloud_message(cloud, conversions.header(STAMP, "camera")))
    np.testing.assert_array_equal(np.stack([points[axis] for axis in "xyz"], axis=1), cloud.points)
    np.testing.assert_array_equal(points["label"], cloud.labels)
    np.testing.assert_array_equal(points["confidence"], cloud.confidence)
    np.testing.assert_array_equal(np.ascontiguousarray(points["rgb"]).view(np.uint32), [0xFF8001, 0x0007C8])


def test_poses():
    T = sim3(exp_so3(np.array([0.0, 0.0, np.pi / 2])), np.array([1.0, 2.0, 3.0]))
    pose = conversions.pose(T)
    assert (pose.position.x, pose.position.y, pose.position.z) == (1.0, 2.0, 3.0)
    assert (pose.orientation.z, pose.orientation.w) == pytest.approx((np.sqrt(0.5), np.sqrt(0.5)))


def test_the_path_of_a_large_map_is_told_at_once(monkeypatch):
    """A quaternion each took .1 s of the mapper's time a second, for a path of 600 keyframes."""
    T = sim3(exp_so3(np.random.default_rng(0).normal(size=(50, 3))), np.arange(150.0).reshape(50, 3))
    expected, calls = [conversions.pose(T_map_cam) for T_map_cam in T], []
    monkeypatch.setattr(conversions, "quaternion_from_matrix", lambda R: calls.append(R) or quaternion_from_matrix(R))
    told = conversions.path([(STAMP + n, T_map_cam) for n, T_map_cam in enumerate(T)], STAMP, "map").poses
    assert [at.pose for at in told] == expected and len(calls) == 1
    assert [conversions.stamp_ns(at.header.stamp) for at in told] == list(range(STAMP, STAMP + 50))
    assert conversions.path([], STAMP, "map").poses == []


def update(T_map_cam: np.ndarray, moved: range, **others) -> MapUpdate:
    return MapUpdate(stamp_ns=STAMP, keyframe_id=moved[-1], T_map_cam=T_map_cam,
                     T_map_keyframes=dict.fromkeys(moved, T_map_cam), window_cloud=small_cloud(), K=np.eye(3),
                     depth=np.ones((1, 1)), labels=np.zeros((1, 1)), confidence=np.ones((1, 1)),
                     still=np.ones((1, 1), bool), scale=1.0,
                     seconds={}, **others)


def test_odometry_has_the_covariance_that_is_known():
    covariance = np.arange(36.0).reshape(6, 6)
    message = conversions.odometry(update(np.eye(4), range(1), covariance=covariance), "map", "cam")
    assert (message.header.frame_id, message.child_frame_id) == ("map", "cam")
    np.testing.assert_array_equal(message.pose.covariance, np.arange(36.0))
    assert message.twist.covariance[0] == 1e6, "a large variance says that the velocity is unknown"
    assert not conversions.odometry(update(np.eye(4), range(1)), "map", "cam").pose.covariance.any()


def test_estimates_touch_no_frame_of_others():
    T_map_cam = sim3(exp_so3(np.array([0.1, 0.2, 0.3])), np.array([1.0, 2.0, 3.0]))
    edges = transforms(update(T_map_cam, range(3, 23)), [np.eye(4)] * 8, "camera_optical", NodeConfig())
    assert {edge.header.frame_id for edge in edges} == {"lsm_map"}
    assert [edge.child_frame_id for edge in edges] == ["lsm_camera", *(f"lsm_keyframe_{n}" for n in range(8))]
    assert {conversions.stamp_ns(edge.header.stamp) for edge in edges} == {STAMP}


def test_leaf_hangs_the_map_below_the_camera():
    T_map_cam = sim3(exp_so3(np.array([0.1, 0.2, 0.3])), np.array([1.0, 2.0, 3.0]))
    [edge] = transforms(update(T_map_cam, range(1)), [T_map_cam], "camera_optical", NodeConfig(tf_mode="leaf"))
    assert (edge.header.frame_id, edge.child_frame_id) == ("camera_optical", "lsm_map")
    t = edge.transform.translation
    np.testing.assert_allclose((t.x, t.y, t.z), inverse(T_map_cam)[:3, 3])
    assert transforms(update(T_map_cam, range(1)), [], "", NodeConfig(tf_mode="leaf")) == [], "images without a frame"
    for mode in ("none", "map_odom"):
        assert transforms(update(T_map_cam, range(1)), [], "camera_optical", NodeConfig(tf_mode=mode)) == []


def test_the_newest_keyframes_have_the_same_few_names():
    """tf2 keeps every name that it has ever heard; and an update tells only of the keyframes that have moved."""
    said = []
    publisher = TransformPublisher(SimpleNamespace(create_publisher=lambda *_: SimpleNamespace(publish=said.append)))

    def frames(map_id: int, *moved: int) -> dict[str, float]:
        T = {n: sim3(np.eye(3), np.array([n, 0.0, 0.0])) for n in moved}
        publisher.publish(replace(update(np.eye(4), range(1)), T_map_keyframes=T, map_id=map_id), "image", NodeConfig())
        return {edge.child_frame_id: edge.transform.translation.x for edge in said[-1].transforms[1:]}

    for n in range(30):
        seen = frames(0, n)
    assert seen == {f"lsm_keyframe_{age}": 29 - age for age in range(8)}
    assert frames(0, 3, 30) == {f"lsm_keyframe_{age}": 30 - age for age in range(8)}
    assert frames(1, 40) == {"lsm_keyframe_0": 40}, "of another map"


@pytest.mark.parametrize(("camera", "keyframe"), [("lsm_camera", "lsm_keyframe_7"),
                                                  ("robot1/camera", "robot1/keyframe_7"),
                                                  ("robot1/eye", "robot1/eye_keyframe_7")])
def test_keyframes_are_named_after_the_camera(camera, keyframe):
    assert keyframe_frame(NodeConfig(camera_frame=camera), 7) == keyframe


def test_markers_keep_their_ids_and_go_when_told():
    labels = LabelSet.load()
    chair = MapObject(id=7, label=labels.index("chair"), name="chair", center=np.array([1.0, 2.0, 0.5]),
                      size=np.array([0.5, 0.6, 1.0]), yaw=np.pi / 2, confidence=0.9, points=40)
    place = np.array([1.0, 4.35, 0.5])
    markers = conversions.object_markers([chair], labels.colors, place, STAMP, "lsm_map").markers
    assert [(m.ns, m.id, m.action) for m in markers] == [
        ("", 0, Marker.DELETEALL), ("box", 7, Marker.ADD), ("name", 7, Marker.ADD)]
    box, name = markers[1:]
    assert (box.scale.x, box.scale.y, box.scale.z) == (0.5, 0.6, 1.0)
    assert box.pose.orientation == Quaternion(z=float(np.sin(np.pi / 4)), w=float(np.cos(np.pi / 4)))
    assert name.text == "chair 2.1 m"
    assert name.pose.position.z > 1.0
    assert {m.header.frame_id for m in markers} == {"lsm_map"}
    unseen = conversions.object_markers([chair], labels.colors, None, STAMP, "lsm_map").markers
    assert unseen[2].text == "chair"


def test_the_graph_is_lines():
    T_map_cam = sim3(exp_so3(np.array([[0, 0, 0], [0, 0, np.pi / 2], [0, 0, 0]])),
                     np.array([[0.0, 0, 0], [1, 2, 3], [4, 0, 0]]))
    graph = GraphPicture([5, 7, 9], T_map_cam, np.array([[0, 1], [1, 2], [0, 2]]), np.array([False, False, True]),
                         np.tile(np.eye(4), (3, 1, 1)))
    keyframes, edges, loops = conversions.graph_markers(graph, STAMP, "lsm_map").markers
    assert [m.ns for m in (keyframes, edges, loops)] == ["keyframes", "edges", "loops"]
    assert {(m.type, m.action, m.header.frame_id) for m in (keyframes, edges, loops)} == {
        (Marker.LINE_LIST, Marker.ADD, "lsm_map")}
    assert loops.points == [Point(), Point(x=4.0)]
    assert edges.points == [Point(), Point(x=1.0, y=2.0, z=3.0), Point(x=1.0, y=2.0, z=3.0), Point(x=4.0)]
    assert loops.color != edges.color
    assert (len(keyframes.points), len(keyframes.colors)) == (18, 18)
    # The second camera is turned by a quarter about z: its x axis is along y.
    start, tip = keyframes.points[6:8]
    np.testing.assert_allclose((tip.x - start.x, tip.y - start.y, tip.z - start.z), (0, 0.1, 0), atol=1e-12)
    assert (keyframes.colors[6].r, keyframes.colors[8].g, keyframes.colors[11].b) == (1.0, 1.0, 1.0)


def test_an_empty_graph_takes_its_markers_away():
    nothing = GraphPicture([], np.empty((0, 4, 4)), np.empty((0, 2), np.int64), np.empty(0, bool),
                           np.empty((0, 4, 4)))
    assert {m.action for m in conversions.graph_markers(nothing, STAMP, "lsm_map").markers} == {Marker.DELETE}


def test_the_legend_names_every_class():
    labels = LabelSet.load()
    legend = conversions.label_legend(labels, STAMP)
    assert list(legend.ids) == list(range(len(labels)))
    assert tuple(legend.names) == labels.names
    np.testing.assert_allclose([[c.r * 255, c.g * 255, c.b * 255] for c in legend.colors], labels.colors, atol=1e-3)
    assert legend.header.stamp == Time(sec=1_700_000_000, nanosec=123_456_789)
