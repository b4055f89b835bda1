"""Messages against bytes and numbers written by hand."""
from __future__ import annotations

import struct
import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Quaternion
from sensor_msgs.msg import CompressedImage, Image, PointCloud2
from visualization_msgs.msg import Marker

from lsm_ros.contracts import Cloud, MapObject, MapUpdate
from lsm_ros.errors import InputError
from lsm_ros.geometry.sim3 import exp_so3, inverse, sim3
from lsm_ros.labels import LabelSet
from lsm_ros.ros import conversions
from lsm_ros.ros.parameters import NodeConfig
from lsm_ros.ros.transforms import keyframe_frame, transforms

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
    cloud, back = small_cloud(), conversions.cloud(conversions.cloud_message(small_cloud(), conversions.header(0, "")))
    for name in ("points", "colors", "labels", "confidence"):
        np.testing.assert_array_equal(getattr(back, name), getattr(cloud, name))


def test_a_cloud_of_others_is_refused():
    with pytest.raises(InputError, match="16 bytes a point"):
        conversions.cloud(PointCloud2(point_step=16))


def test_an_empty_cloud_is_a_message():
    empty = Cloud(*(array[:0] for array in vars(small_cloud()).values()))
    message = conversions.cloud_message(empty, conversions.header(0, ""))
    assert (message.width, len(message.data), message.is_dense) == (0, 0, True)


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
    message = conversions.odometry(T, STAMP, "map", "cam")
    assert (message.header.frame_id, message.child_frame_id) == ("map", "cam")
    assert message.twist.covariance[0] == 1e6


def update(T_map_cam: np.ndarray, moved: range) -> MapUpdate:
    return MapUpdate(stamp_ns=STAMP, keyframe_id=moved[-1], T_map_cam=T_map_cam,
                     T_map_keyframes=dict.fromkeys(moved, T_map_cam), window_cloud=small_cloud(), K=np.eye(3),
                     depth=np.ones((1, 1)), labels=np.zeros((1, 1)), confidence=np.ones((1, 1)), scale=1.0,
                     seconds={})


def test_estimates_touch_no_frame_of_others():
    T_map_cam = sim3(exp_so3(np.array([0.1, 0.2, 0.3])), np.array([1.0, 2.0, 3.0]))
    edges = transforms(update(T_map_cam, range(3, 23)), "camera_optical", NodeConfig())
    assert {edge.header.frame_id for edge in edges} == {"lsm_map"}
    assert [edge.child_frame_id for edge in edges] == ["lsm_camera", *(f"lsm_keyframe_{n}" for n in range(15, 23))]
    assert {conversions.stamp_ns(edge.header.stamp) for edge in edges} == {STAMP}


def test_leaf_hangs_the_map_below_the_camera():
    T_map_cam = sim3(exp_so3(np.array([0.1, 0.2, 0.3])), np.array([1.0, 2.0, 3.0]))
    [edge] = transforms(update(T_map_cam, range(1)), "camera_optical", NodeConfig(tf_mode="leaf"))
    assert (edge.header.frame_id, edge.child_frame_id) == ("camera_optical", "lsm_map")
    t = edge.transform.translation
    np.testing.assert_allclose((t.x, t.y, t.z), inverse(T_map_cam)[:3, 3])
    for mode in ("none", "map_odom"):
        assert transforms(update(T_map_cam, range(1)), "camera_optical", NodeConfig(tf_mode=mode)) == []


@pytest.mark.parametrize(("camera", "keyframe"), [("lsm_camera", "lsm_keyframe_7"),
                                                  ("robot1/camera", "robot1/keyframe_7"),
                                                  ("robot1/eye", "robot1/eye_keyframe_7")])
def test_keyframes_are_named_after_the_camera(camera, keyframe):
    assert keyframe_frame(NodeConfig(camera_frame=camera), 7) == keyframe


def test_markers_keep_their_ids_and_go_when_told():
    labels = LabelSet.load()
    chair = MapObject(id=7, label=labels.index("chair"), name="chair", center=np.array([1.0, 2.0, 0.5]),
                      size=np.array([0.5, 0.6, 1.0]), yaw=np.pi / 2, confidence=0.9, points=40)
    markers = conversions.object_markers([chair], {3}, labels.colors, STAMP, "lsm_map").markers
    assert [(m.ns, m.id, m.action) for m in markers] == [
        ("box", 3, Marker.DELETE), ("name", 3, Marker.DELETE), ("box", 7, Marker.ADD), ("name", 7, Marker.ADD)]
    box, name = markers[2:]
    assert (box.scale.x, box.scale.y, box.scale.z) == (0.5, 0.6, 1.0)
    assert box.pose.orientation == Quaternion(z=float(np.sin(np.pi / 4)), w=float(np.cos(np.pi / 4)))
    assert name.text == "chair"
    assert name.pose.position.z > 1.0
    assert {m.header.frame_id for m in markers} == {"lsm_map"}


def test_the_legend_names_every_class():
    labels = LabelSet.load()
    legend = conversions.label_legend(labels, STAMP)
    assert list(legend.ids) == list(range(len(labels)))
    assert tuple(legend.names) == labels.names
    np.testing.assert_allclose([[c.r * 255, c.g * 255, c.b * 255] for c in legend.colors], labels.colors, atol=1e-3)
    assert legend.header.stamp == Time(sec=1_700_000_000, nanosec=123_456_789)
