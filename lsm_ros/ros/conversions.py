"""ROS messages to records and back. Stamps pass through untouched: as integers, never through a float64."""
from __future__ import annotations

import array
import importlib

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point, Pose, PoseStamped, Quaternion, TransformStamped, Vector3
from nav_msgs.msg import MapMetaData, OccupancyGrid, Odometry, Path
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2, PointField
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from lsm_ros.contracts import Cloud, MapObject, MapUpdate
from lsm_ros.data.calibration import to_opencv
from lsm_ros.data.images import ENCODINGS, Levels, decode_compressed, decode_image
from lsm_ros.data.messages import BOX, EDGES, KEYFRAMES, LOOPS, NAME, POINT
from lsm_ros.errors import InputError
from lsm_ros.geometry.sim3 import quaternion_from_matrix
from lsm_ros.labels import LabelSet
from lsm_ros.mapping.graph import GraphPicture
from lsm_ros.mapping.objects import distance_m
from lsm_ros.mapping.occupancy import Grid
from lsm_ros.msg import LabelLegend

POINT_FIELDS = [
    PointField(name="x", offset=0, datatype=PointField.FLOAT32, count=1),
    PointField(name="y", offset=4, datatype=PointField.FLOAT32, count=1),
    PointField(name="z", offset=8, datatype=PointField.FLOAT32, count=1),
    PointField(name="rgb", offset=12, datatype=PointField.FLOAT32, count=1),
    PointField(name="label", offset=16, datatype=PointField.UINT16, count=1),
    PointField(name="confidence", offset=18, datatype=PointField.UINT8, count=1),
]
# A point of the clouds that Nav2 reads: 16 bytes, x y z alone, aligned as PCL has it.
XYZ = np.dtype([("xyz", "<f4", 3), ("pad", "<u4")])
AXIS_M = 0.1                        # length of a keyframe's axes
UNKNOWN_VARIANCE = 1e6              # (m/s)^2, (rad/s)^2: velocities aren't estimated


def stamp_ns(stamp: Time) -> int:
    return stamp.sec * 1_000_000_000 + stamp.nanosec


def time(stamp: int) -> Time:
    """Raises InputError for a stamp that doesn't fit into builtin_interfaces/Time (int32 seconds)."""
    sec, nanosec = divmod(stamp, 1_000_000_000)
    if not -2**31 <= sec < 2**31:
        raise InputError(f"stamp {stamp} ns is outside of what a ROS message can hold")
    return Time(sec=sec, nanosec=nanosec)


def header(stamp: int, frame_id: str) -> Header:
    return Header(stamp=time(stamp), frame_id=frame_id)


def image_to_array(message: Image | CompressedImage, levels: Levels | None = None) -> np.ndarray:
    """(H, W, 3) uint8 RGB; `levels` are those of the camera so far, for images of 16 bits.

    Raises InputError naming the encoding or the size that can't be used.
    """
    if isinstance(message, CompressedImage):
        return decode_compressed(message.data, levels, message.format)
    if message.encoding not in ENCODINGS:
        return _decode_with_cv_bridge(message)
    return decode_image(message.data, message.encoding, message.width, message.height, message.step,
                        bool(message.is_bigendian), levels)


def image_message(image: np.ndarray, header: Header) -> Image:
    """(H, W, 3) uint8 RGB to rgb8."""
    height, width = image.shape[:2]
    return Image(header=header, height=height, width=width, encoding="rgb8", step=3 * width, data=_bytes(image))


def mono8_message(values: np.ndarray, header: Header) -> Image:
    """(h, w) uint8 to mono8."""
    height, width = values.shape
    return Image(header=header, height=height, width=width, encoding="mono8", step=width, data=_bytes(values))


def depth_message(depth: np.ndarray, header: Header) -> Image:
    """(h, w) float32 in metres to 32FC1 (REP 118)."""
    height, width = depth.shape
    return Image(header=header, height=height, width=width, encoding="32FC1", step=4 * width,
                 data=_bytes(depth.astype("<f4", copy=False)))


def camera_info(K: np.ndarray, shape: tuple[int, int], header: Header) -> CameraInfo:
    """An undistorted camera of K (3, 3), ours, and of images of `shape` (h, w)."""
    k = to_opencv(K)
    return CameraInfo(header=header, height=shape[0], width=shape[1], distortion_model="plumb_bob", d=[0.0] * 5,
                      k=k.ravel(), r=np.eye(3).ravel(), p=np.column_stack([k, np.zeros(3)]).ravel())


def compressed_message(data: bytes | np.ndarray, format: str, header: Header) -> CompressedImage:
    return CompressedImage(header=header, format=format, data=_bytes(np.frombuffer(data, np.uint8)))


def cloud_message(cloud: Cloud, header: Header) -> PointCloud2:
    """An unorganised cloud of `POINT`s in the frame of the header."""
    points = np.zeros(len(cloud), POINT)
    points["xyz"] = cloud.points
    red, green, blue = cloud.colors.astype(np.uint32).T
    points["rgb"] = red << 16 | green << 8 | blue
    points["label"] = cloud.labels
    points["confidence"] = cloud.confidence
    return PointCloud2(header=header, height=1, width=len(cloud), fields=POINT_FIELDS, is_bigendian=False,
                       point_step=POINT.itemsize, row_step=POINT.itemsize * len(cloud), data=_bytes(points),
                       is_dense=bool(np.isfinite(cloud.points).all()))


def xyz_message(points: np.ndarray, header: Header) -> PointCloud2:
    """Points (N, 3), or (h, w, 3) with NaN where there is none, to a cloud of `XYZ`, the second kind organised."""
    height, width = points.shape[:2] if points.ndim == 3 else (1, len(points))
    packed = np.zeros((height, width), XYZ)
    packed["xyz"] = points
    return PointCloud2(header=header, height=height, width=width, fields=POINT_FIELDS[:3], is_bigendian=False,
                       point_step=XYZ.itemsize, row_step=XYZ.itemsize * width, data=_bytes(packed),
                       is_dense=points.ndim == 2)


def grid_message(grid: Grid, stamp: int, map_frame: str) -> OccupancyGrid:
    """-1 unknown, 0 free, 100 occupied."""
    message = OccupancyGrid(header=header(stamp, map_frame))
    rows, columns = grid.cells.shape
    message.info = MapMetaData(map_load_time=message.header.stamp, resolution=grid.resolution_m, width=columns,
                               height=rows)
    message.info.origin.position = Point(x=float(grid.origin[0]), y=float(grid.origin[1]))
    data = array.array("b")
    data.frombytes(memoryview(np.ascontiguousarray(grid.cells)).cast("B"))
    message.data = data
    return message


def pose(T: np.ndarray) -> Pose:
    return poses(T[None])[0]


def poses(T: np.ndarray) -> list[Pose]:
    """Of (N, 4, 4), at once: numpy takes as long for one quaternion as for a thousand."""
    turns = quaternion_from_matrix(T[:, :3, :3]).tolist()
    return [Pose(position=Point(x=x, y=y, z=z), orientation=Quaternion(**dict(zip("xyzw", turn))))
            for (x, y, z), turn in zip(T[:, :3, 3].tolist(), turns, strict=True)]


def transform(T_parent_child: np.ndarray, stamp: int, parent: str, child: str) -> TransformStamped:
    message = TransformStamped(header=header(stamp, parent), child_frame_id=child)
    x, y, z = map(float, T_parent_child[:3, 3])
    message.transform.translation = Vector3(x=x, y=y, z=z)
    message.transform.rotation = pose(T_parent_child).orientation
    return message


def odometry(update: MapUpdate, map_frame: str, camera_frame: str) -> Odometry:
    """The newest pose. A covariance of zeros means that none is known; the velocity is declared unknown."""
    message = Odometry(header=header(update.stamp_ns, map_frame), child_frame_id=camera_frame)
    message.pose.pose = pose(update.T_map_cam)
    if update.covariance is not None:
        message.pose.covariance = update.covariance.ravel()
    message.twist.covariance = (np.eye(6) * UNKNOWN_VARIANCE).ravel().tolist()
    return message


def path(trajectory: list[tuple[int, np.ndarray]], stamp: int, map_frame: str) -> Path:
    """Keyframe poses (stamp_ns, T_map_cam), each with the stamp of its own image."""
    T_map_cam = np.array([T for _, T in trajectory]).reshape(-1, 4, 4)
    return Path(header=header(stamp, map_frame),
                poses=[PoseStamped(header=header(ns, map_frame), pose=at)
                       for (ns, _), at in zip(trajectory, poses(T_map_cam), strict=True)])


def object_markers(objects: list[MapObject], colors: np.ndarray, camera_map: np.ndarray | None, stamp: int,
                   map_frame: str) -> MarkerArray:
    """A box and a name an object, under the object's own id, and first all that stood there goes: who missed a message,
    or read another node before, would keep what is gone.

    Args:
        colors: (C, 3) uint8, the label set's.
        camera_map: (3,) where the camera is in the map, metres; the name then tells how far from it the box begins.
    """
    at = header(stamp, map_frame)
    markers = [Marker(header=at, action=Marker.DELETEALL)]
    for item in objects:
        red, green, blue = (float(c) / 255 for c in colors[item.label])
        x, y, z = map(float, item.center)
        box = Marker(header=at, ns=BOX, id=item.id, type=Marker.CUBE, action=Marker.ADD,
                     color=ColorRGBA(r=red, g=green, b=blue, a=0.35))
        box.pose = Pose(position=Point(x=x, y=y, z=z), orientation=turned(item.yaw))
        box.scale = Vector3(**dict(zip("xyz", map(float, item.size))))
        text = item.name if camera_map is None else f"{item.name} {distance_m(item, camera_map):.1f} m"
        name = Marker(header=at, ns=NAME, id=item.id, type=Marker.TEXT_VIEW_FACING, action=Marker.ADD, text=text,
                      color=ColorRGBA(r=1.0, g=1.0, b=1.0, a=1.0))
        name.pose.position = Point(x=x, y=y, z=z + float(item.size[2]) / 2 + 0.1)
        name.scale.z = 0.15
        markers += [box, name]
    return MarkerArray(markers=markers)


def graph_markers(graph: GraphPicture, stamp: int, map_frame: str) -> MarkerArray:
    """Three lists of lines: the axes of the keyframes' cameras, the edges, and the edges that close loops."""
    places = graph.T_map_cam[:, :3, 3]
    tips = places[:, None] + AXIS_M * np.swapaxes(graph.T_map_cam[:, :3, :3], 1, 2)         # (N, axis, 3)
    axes = np.stack([np.broadcast_to(places[:, None], tips.shape), tips], axis=2)
    lines = places[graph.edges]                                                             # (E, end, 3)
    at = header(stamp, map_frame)
    return MarkerArray(markers=[
        _lines(at, KEYFRAMES, axes, 0.01, [ColorRGBA(**{axis: 1.0, "a": 1.0}) for axis in "rgb" for _ in range(2)]),
        _lines(at, EDGES, lines[~graph.loop], 0.005, [ColorRGBA(r=0.5, g=0.6, b=0.7, a=0.6)]),
        _lines(at, LOOPS, lines[graph.loop], 0.02, [ColorRGBA(r=1.0, g=0.4, b=0.1, a=1.0)])])


def _lines(at: Header, ns: str, ends: np.ndarray, width_m: float, colors: list[ColorRGBA]) -> Marker:
    """A marker of lines, each from an even point of `ends` (..., 3) to the next; no lines delete it.

    Args:
        colors: one for all, or a run of colours of points that repeats.
    """
    points = [Point(x=x, y=y, z=z) for x, y, z in ends.reshape(-1, 3).tolist()]
    marker = Marker(header=at, ns=ns, type=Marker.LINE_LIST, action=Marker.ADD if points else Marker.DELETE,
                    points=points, color=colors[0])
    if len(colors) > 1:
        marker.colors = colors * (len(points) // len(colors))
    marker.scale.x = width_m
    return marker


def turned(yaw: float) -> Quaternion:
    """A turn about z, in radians."""
    return Quaternion(z=float(np.sin(yaw / 2)), w=float(np.cos(yaw / 2)))


def label_legend(labels: LabelSet, stamp: int) -> LabelLegend:
    return LabelLegend(header=header(stamp, ""), ids=list(range(len(labels.names))), names=list(labels.names),
                       colors=[ColorRGBA(r=float(r) / 255, g=float(g) / 255, b=float(b) / 255, a=1.0)
                               for r, g, b in labels.colors])


def restamp(message, stamp: int) -> None:
    """Sets the stamp of a message with a header, in place."""
    message.header.stamp = time(stamp)


def message_type(name: str) -> type:
    """The class of "package/msg/Name". Raises InputError if that package is not installed."""
    package, _, kind = name.split("/")
    try:
        return getattr(importlib.import_module(f"{package}.msg"), kind)
    except (ImportError, AttributeError) as error:
        raise InputError(f"message type {name} is not installed here: {error}") from error


def _decode_with_cv_bridge(message: Image) -> np.ndarray:
    """(H, W, 3) uint8 RGB of an encoding that is not ours. Raises InputError."""
    encoding = f"image encoding {message.encoding!r}"
    # Imported here: the usual encodings do without it, and a build of it for another numpy breaks whoever imports it.
    try:
        from cv_bridge import CvBridge
    except Exception as error:          # noqa: BLE001 ImportError, AttributeError, as numpy has it
        raise InputError(f"{encoding} is not supported without cv_bridge, which knows more of them ({error}); "
                         f"supported: {', '.join(ENCODINGS)}") from error
    try:
        return np.ascontiguousarray(CvBridge().imgmsg_to_cv2(message, "rgb8"))
    except Exception as error:          # noqa: BLE001 CvBridgeError, TypeError of short data, cv2.error ...
        raise InputError(f"{encoding} can't be decoded by cv_bridge: {error}") from error


def _bytes(values: np.ndarray) -> array.array:
    """What a uint8[] field takes without checking every byte: 0.3 ms for 5 MB, where `bytes` costs 868 ms."""
    data = array.array("B")
    data.frombytes(memoryview(np.ascontiguousarray(values).reshape(-1)).cast("B"))
    return data
