"""Whatever comes in over DDS: any field, any lie. It is counted with its cause, the node goes on, and no NaN goes out.

The real node runs in this process; the messages are handed to its callbacks. The examples are the same in every run.
"""
from __future__ import annotations

import math
from functools import partial

import cv2
import numpy as np
import pytest
import rclpy
from fake_node import FakePredictor
from geometry_msgs.msg import Quaternion, TransformStamped, Vector3
from harness import FRAME_ID, START_NS, STEP_NS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lsm_ros.srv import LoadMap, Query, SaveMap, SetClasses
from rclpy.publisher import Publisher
from rclpy.signals import SignalHandlerOptions
from room import SIZE, K, cast, paint, walk
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, Imu, RegionOfInterest
from tf2_msgs.msg import TFMessage

from lsm_ros.contracts import Frame, Keyframe, Window
from lsm_ros.data.images import DEPTH_ENCODINGS, ENCODINGS
from lsm_ros.errors import LsmError
from lsm_ros.model.engine import known_priors, network_input
from lsm_ros.ros.conversions import compressed_message, header, image_message
from lsm_ros.ros.conversions import time as ros_time
from lsm_ros.ros.intake import Work
from lsm_ros.ros.node import LsmNode

DOMAIN = 101        # harness.isolate takes 1 to 100
POSES = walk(60)
JPEG = cv2.imencode(".jpg", paint(cast(POSES[0], SIZE)[2]))[1].tobytes()
PNG = cv2.imencode(".png", paint(cast(POSES[0], SIZE)[2]))[1].tobytes()

examples = partial(settings, deadline=None, derandomize=True, database=None,
                   suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])

NAN, INF = math.nan, math.inf
# Two of three are what a sensor may say: a message in which nothing is true is refused at its first number.
number = st.sampled_from([0.0, 0.0, 1.0, -1.0, 0.5, 9.81, NAN, INF, -1e300, 1e-300]) | st.floats(-10, 10) | st.floats()
words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)     # what DDS carries
frame_id = st.sampled_from([FRAME_ID, "odom", "base_link", "base_footprint", "lsm_map", "", "/", "imu"]) | words
uint32 = st.integers(0, 2**32 - 1) | st.integers(0, 100)
stamp = st.integers(START_NS - 10**9, START_NS + 10**9).map(ros_time) | st.builds(
    lambda sec, nanosec: ros_time(sec * 10**9 + nanosec), st.integers(-2**31, 2**31 - 2), st.integers(0, 10**9))
headers = st.builds(lambda at, name: header(at.sec * 10**9 + at.nanosec, name), stamp, frame_id)
vector = st.builds(Vector3, x=number, y=number, z=number)
unit = st.sampled_from([(0.0, 0.0, 0.0, 1.0), (0.5, 0.5, 0.5, 0.5), (0.0, 0.6, 0.8, 0.0)])
quaternion = st.builds(Quaternion, x=number, y=number, z=number, w=number) | unit.map(
    lambda q: Quaternion(x=q[0], y=q[1], z=q[2], w=q[3]))


def noise(seed: int, size: int) -> bytes:
    return np.random.default_rng(seed).bytes(size)


@st.composite
def images(draw, encodings) -> Image:
    """Half of them are what they claim to be."""
    encoding = draw(st.sampled_from(sorted(encodings)) | words)
    honest = draw(st.booleans())
    side = st.integers(1, 64) if honest else st.integers(0, 64) | uint32
    width, height = draw(side), draw(side)
    step = width * draw(st.sampled_from([1, 2, 3, 4, 6])) + draw(st.integers(0, 3)) if honest else draw(uint32)
    size = step * height if honest else draw(st.integers(0, 20000))
    return Image(header=draw(headers), encoding=encoding, width=width, height=height, step=step,
                 is_bigendian=draw(st.integers(0, 255)), data=noise(draw(st.integers(0, 9)), size))


@st.composite
def damaged(draw) -> bytes:
    """A JPEG or a PNG with some bytes of another value, and cut off somewhere; or bytes of any kind."""
    data = bytearray(draw(st.sampled_from([JPEG, PNG]) | st.binary(max_size=64)))
    for _ in range(draw(st.integers(0, 4)) if data else 0):
        data[draw(st.integers(0, min(len(data) - 1, 200)) | st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data[:draw(st.none() | st.integers(0, len(data)))])


camera_infos = st.builds(
    CameraInfo, header=headers, width=st.sampled_from([0, SIZE[0]]) | uint32,
    height=st.sampled_from([0, SIZE[1]]) | uint32,
    distortion_model=st.sampled_from(["plumb_bob", "rational_polynomial", "equidistant", ""]) | words,
    d=st.lists(number, max_size=14) | st.sampled_from([0, 4, 5, 8]).flatmap(
        lambda size: st.lists(st.floats(-1, 1) | st.sampled_from([0.0, 1e6]), min_size=size, max_size=size)),
    k=st.lists(number, min_size=9, max_size=9) | st.builds(
        lambda fx, fy, cx, cy: [fx, 0.0, cx, 0.0, fy, cy, 0.0, 0.0, 1.0],
        *[st.sampled_from([1e-9, 1e-2, 60.0, 80.0, 120.0, 120.0, 1e6, 1e300]) | number] * 4),
    p=st.lists(number, min_size=12, max_size=12), binning_x=uint32 | st.just(0), binning_y=uint32 | st.just(0),
    roi=st.just(RegionOfInterest()) | st.builds(RegionOfInterest, x_offset=uint32, y_offset=uint32, height=uint32,
                                                width=uint32))
gravity = st.just(Vector3(z=9.81))
imus = st.builds(Imu, header=headers, orientation=st.just(Quaternion()) | quaternion, angular_velocity=vector,
                 linear_acceleration=gravity | vector,
                 orientation_covariance=st.just([-1.0] + [0.0] * 8) | st.lists(number, min_size=9, max_size=9))


@st.composite
def edges(draw) -> TransformStamped:
    edge = TransformStamped(header=draw(headers), child_frame_id=draw(frame_id))
    edge.transform.translation, edge.transform.rotation = draw(vector), draw(quaternion)
    return edge


def nan_in(message, name: str = "message") -> str | None:
    """The first field of an outgoing message that holds a number which is not finite, where none may be."""
    kind = type(message).__name__
    if kind == "PointCloud2":
        xyz = np.array(message.data).reshape(-1, message.point_step)[:, :12].copy().view("<f4")
        return name if message.is_dense and not np.isfinite(xyz).all() else None
    if kind == "Image":
        values = np.array(message.data).view("<f4" if message.encoding == "32FC1" else "u1")
        return None if np.isfinite(values).all() else name
    if isinstance(message, float):
        return None if math.isfinite(message) else name
    if hasattr(message, "get_fields_and_field_types"):
        return next(filter(None, (nan_in(getattr(message, field), f"{name}.{field}")
                                  for field in message.get_fields_and_field_types())), None)
    if isinstance(message, np.ndarray):
        return name if message.dtype.kind == "f" and not np.isfinite(message).all() else None
    if isinstance(message, (list, tuple)):
        return next(filter(None, (nan_in(item, f"{name}[{n}]") for n, item in enumerate(message))), None)
    return None


class Rig:
    """The active node; what it publishes is looked at instead of being sent."""

    def __init__(self):
        self.node = LsmNode(FakePredictor, parameter_overrides=[], cli_args=[
            "--ros-args", *(part for value in (
                "image_topic:=/camera/image_raw", "imu_topic:=/imu", "depth_topic:=/depth", "input_wait_s:=0.0",
                "keepout_labels:=table", "tf_mode:=map_odom") for part in ("-p", value))])
        self.node.start()
        assert self.node._stage == "active", self.node._fault
        self.handed: list[Work] = []
        self.node._intake._hand_on = self.handed.append         # in step with the test, not beside it
        self.number = START_NS // STEP_NS

    def receive(self, message: Image | CompressedImage) -> None:
        """An image on its way through the worker. It is either refused, with a cause, or a frame of the mapper."""
        before, frames = self.counts(), self.node._pipeline.mapper.counters.frames
        self.node._intake._on_image(message)
        self.call(partial(self.node._pipeline.handle, self.handed.pop()))
        now = self.counts()
        refused = sum(now.get(name, 0) - before.get(name, 0) for name in ("images_refused", "windows_failed"))
        assert refused == 1 or self.node._pipeline.mapper.counters.frames == frames + 1
        assert not now.get("worker_exceptions"), self.node._health.snapshot()["problem"]

    def look(self) -> Frame:
        """What the mapper would get with the next image: nothing in it is a NaN but depth where none is."""
        self.number += 1
        stamp = self.number * STEP_NS + 7
        frame = self.node._pipeline._frame(Work(image_message(paint(cast(POSES[0], SIZE)[2]), header(stamp, FRAME_ID)),
                                                self.node._intake._rectify, 0.0), stamp)
        for name in ("K", "T_odom_cam", "up_cam", "height_m"):
            value = getattr(frame, name)
            assert value is None or np.isfinite(value).all(), f"{name} {value}"
        if frame.T_odom_cam is not None:
            np.testing.assert_allclose(frame.T_odom_cam[:3, :3] @ frame.T_odom_cam[:3, :3].T, np.eye(3), atol=1e-6)
        assert frame.up_cam is None or np.linalg.norm(frame.up_cam) == pytest.approx(1)
        priors = known_priors([Window((Keyframe(0, frame),))], (256, 192), "cpu")
        assert all(part.isfinite().all() for part in network_input([frame], (256, 192), "cpu"))
        assert priors is None or all(part is None or part.isfinite().all() for part in vars(priors).values())
        return frame

    def walk(self, images: int) -> int:
        """Good images; the number of windows that the map took of them."""
        mapper = self.node._pipeline.mapper
        before = mapper.counters.windows
        for _ in range(images):
            self.number += 1
            self.receive(image_message(paint(cast(POSES[self.number % len(POSES)], SIZE)[2]),
                                       header(self.number * STEP_NS + 7, FRAME_ID)))
        if images > 1:
            self.call(self.node._pipeline.publish_map)
        return mapper.counters.windows - before

    def counts(self) -> dict[str, int]:
        return self.node._health.snapshot()["counts"]

    def call(self, job):
        return self.node._worker.run(job).result()


@pytest.fixture(scope="module")
def rig():
    wrong: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Publisher, "get_subscription_count", lambda self: 1)
        patch.setattr(Publisher, "publish",
                      lambda self, message: wrong.extend(filter(None, [nan_in(message, self.topic)])))
        # In a domain of its own: what its name leaves behind there would be a second node to the tests that follow.
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO, domain_id=DOMAIN)
        rig = Rig()
        yield rig
        rig.node.destroy_node()
        rclpy.try_shutdown()
    assert not wrong


@pytest.fixture(autouse=True)
def goes_on(rig: Rig):
    """After each kind of lie the camera's own images are mapped as before."""
    yield
    rig.node._intake._on_info(CameraInfo(width=SIZE[0], height=SIZE[1], k=K.ravel()))
    rig.call(rig.node._pipeline.reset)
    assert rig.walk(10) >= 2
    assert "worker_exceptions" not in rig.counts()


@examples(max_examples=60)
@given(message=images(ENCODINGS))
def test_any_image(rig: Rig, message):
    rig.receive(message)


@examples(max_examples=40)
@given(at=headers, data=damaged(), form=words)
def test_any_compressed_image(rig: Rig, at, data, form):
    rig.receive(compressed_message(data, form, at))


@examples(max_examples=50)
@given(info=camera_infos)
def test_any_camera_info(rig: Rig, info):
    """The network gets intrinsics of a lens that can be, or none."""
    rig.node._intake._on_info(info)
    seen = rig.look().K
    assert seen is None or 0.05 < seen[0, 0] / SIZE[0] < 50


@examples(max_examples=50)
@given(samples=st.lists(imus, min_size=1, max_size=4))
def test_any_imu(rig: Rig, samples):
    """What comes before was good, and TF knows where the IMU is."""
    mount = TransformStamped(header=header(0, FRAME_ID), child_frame_id="imu")
    rig.node._inputs._tf._on_edges(TFMessage(transforms=[mount]), True)
    for n, sample in enumerate([Imu(linear_acceleration=Vector3(z=9.81)), *samples]):
        sample.header = header(rig.number * STEP_NS + n * STEP_NS // 5, "imu")
        rig.node._inputs._on_imu(sample)
    assert rig.look().up_cam is not None


@examples(max_examples=25)
@given(samples=st.lists(imus, min_size=1, max_size=3))
def test_any_imu_at_any_time(rig: Rig, samples):
    for sample in samples:
        rig.node._inputs._on_imu(sample)
    rig.look()


@examples(max_examples=15)
@given(at=vector, turned=quaternion, parent=st.sampled_from(["odom", "base_link", "base_footprint"]),
       static=st.booleans())
def test_any_transform_of_the_camera(rig: Rig, at, turned, parent, static):
    edge = TransformStamped(header=header((rig.number + 1) * STEP_NS + 7, parent), child_frame_id=FRAME_ID)
    edge.transform.translation, edge.transform.rotation = at, turned
    rig.node._inputs._tf._on_edges(TFMessage(transforms=[edge]), static)
    rig.look()
    rig.walk(1)


@examples(max_examples=40)
@given(told=st.lists(edges(), min_size=1, max_size=4), static=st.booleans())
def test_any_transform(rig: Rig, told, static):
    rig.node._inputs._tf._on_edges(TFMessage(transforms=told), static)
    rig.look()


@examples(max_examples=15)
@given(message=images([*DEPTH_ENCODINGS, "8UC1"]), near=st.booleans())
def test_any_depth_image(rig: Rig, message, near):
    if near:
        message.header = header((rig.number + 1) * STEP_NS, FRAME_ID)
    rig.node._inputs._on_depth(message)
    depth = rig.look().depth
    assert depth is None or np.isnan(depth[~(depth > 0)]).all()
    rig.walk(1)


@examples(max_examples=16)
@given(text=words | st.just("chair " * 200), threshold=number,
       names=st.lists(words | st.sampled_from(["chair", "sofa"])),
       service=st.sampled_from([Query, SetClasses, LoadMap, SaveMap]))
def test_any_request(rig: Rig, tmp_path, text, threshold, names, service):
    """A clear error, or an answer; and the map stays."""
    pipeline, before = rig.node._pipeline, len(rig.node._pipeline.mapper.trajectory())
    job = {Query: partial(pipeline.query, text, threshold), SetClasses: partial(pipeline.set_classes, names),
           LoadMap: partial(pipeline.load, f"{tmp_path}/{text}"),
           SaveMap: partial(pipeline.save, f"{tmp_path}/{text}")}[service]
    try:
        rig.call(job)
    except LsmError as error:
        assert str(error) and len(str(error)) < 10_000
    if service is not LoadMap:
        assert len(pipeline.mapper.trajectory()) == before
