"""A recording of the node, drawn over time: its map, path, camera, objects and pose graph.

rerun opens an MCAP of ROS 2 itself, but shows as tables what this is about: it draws neither MarkerArray nor Path nor
Odometry, knows no class colours, takes the two CameraInfos of one frame for an error, and opens no .db3.
"""
from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from lsm_ros.contracts import Cloud
from lsm_ros.data.calibration import from_opencv
from lsm_ros.data.messages import BOX, EDGES, LOOPS, NAME, cloud
from lsm_ros.data.recording import (
    RecordingSequence,
    camera_topics,
    pose_matrix,
    read_messages,
    recording_topics,
)
from lsm_ros.errors import InputError
from lsm_ros.geometry.camera import scale_intrinsics
from lsm_ros.geometry.sim3 import transform
from lsm_ros.labels import LabelSet, spread_color
from lsm_ros.viewing.drawing import Boxes, Drawing, Legend

MAP_CLOUD, LEGEND, ODOMETRY, DEPTH_INFO = "map_cloud", "label_legend", "odometry", "depth/camera_info"
VIEW_CLOUD, PATH, OBJECTS, GRAPH = "semantic_cloud", "path", "label_markers", "pose_graph"
DELETE, DELETE_ALL = 2, 3       # visualization_msgs/Marker


def draw_recording(path: Path, labels: LabelSet, save: Path | None = None, namespace: str | None = None,
                   image_topic: str | None = None) -> None:
    """Draws what a node of this package said in a recording (MCAP, .db3); topics that it does not hold are left out.

    `labels` are those of a recording without label_legend. Raises InputError, OutputError.
    """
    topics = recording_topics(path)
    root = find_namespace(topics, namespace, path)
    poses, grids = survey(path, root)
    positions = np.array([T_map_cam[:3, 3] for T_map_cam in poses.values()]).reshape(-1, 3)
    drawing = Drawing(path.resolve().stem, save)

    last_map, objects = None, Objects()
    new_legend = Legend(labels.names, labels.colors)
    for topic, stamp_ns, message in read_messages(
            path, [f"{root}/{name}" for name in (LEGEND, MAP_CLOUD, VIEW_CLOUD, PATH, OBJECTS, GRAPH)]):
        name = topic.removeprefix(f"{root}/")
        if name == LEGEND:
            new_legend = legend_of(message)         # its stamp is the node's clock, so it counts from the next image on
            continue
        if not getattr(message, "markers", True):   # nothing changes, and without a marker there is no stamp
            continue
        drawing.at(stamp_ns)
        if new_legend is not None:
            drawing.label(new_legend)
            new_legend = None
        if name == MAP_CLOUD:
            last_map = cloud(message)
            drawing.cloud(last_map, positions)
        elif name == VIEW_CLOUD and stamp_ns in poses:
            points = cloud(message)
            drawing.view(Cloud(transform(poses[stamp_ns], points.points), points.colors, points.labels,
                               points.confidence))
        elif name == PATH:
            drawing.path(np.array([pose_matrix(item.pose)[:3, 3] for item in message.poses]).reshape(-1, 3))
        elif name == OBJECTS:
            drawing.objects(objects.updated(message))
        elif name == GRAPH:
            drawing.graph(lines_of(message, EDGES), lines_of(message, LOOPS))
    for stamp_ns, T_map_cam in poses.items():
        drawing.at(stamp_ns)
        drawing.camera(T_map_cam)
    draw_images(drawing, path, topics, grids, set(poses), image_topic)
    drawing.finish(last_map, positions)


def find_namespace(topics: dict[str, str], asked: str | None, path: Path) -> str:
    """The namespace of the node: that which has a map_cloud. Raises InputError, which lists what there is."""
    found = sorted(topic.removesuffix(f"/{MAP_CLOUD}") for topic in topics if topic.endswith(f"/{MAP_CLOUD}"))
    if asked is not None:
        asked = f"/{asked.strip('/')}".rstrip("/")
        if asked not in found:
            raise InputError(f"{path} has no topic {asked}/{MAP_CLOUD}; its topics: {', '.join(sorted(topics))}")
        return asked
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(f"several maps in {path}, choose one with --namespace: {', '.join(found)}")
    raise InputError(f"{path} holds no topic {MAP_CLOUD}, so no map to look at; `lsm map {path}` makes one where a "
                     f"camera was recorded. Its topics: {', '.join(sorted(topics)) or 'none'}")


def survey(path: Path, root: str) -> tuple[dict[int, np.ndarray], dict[int, tuple[np.ndarray, tuple[int, int]]]]:
    """Known beforehand: stamp_ns -> T_map_cam of the odometry; stamp_ns -> K and (width, height) of the depth."""
    poses, grids = {}, {}
    for topic, stamp_ns, message in read_messages(path, [f"{root}/{name}" for name in (ODOMETRY, DEPTH_INFO)]):
        if topic.endswith(ODOMETRY):
            poses[stamp_ns] = pose_matrix(message.pose.pose)
        else:
            grids[stamp_ns] = from_opencv(message.k.reshape(3, 3)), (message.width, message.height)
    return poses, grids


def legend_of(message: Any) -> Legend:
    """A LabelLegend as a table; numbers that it leaves out have a name of their own."""
    count = int(max(message.ids, default=-1)) + 1
    names = [f"label {i}" for i in range(count)]
    colors = np.array([spread_color(i) for i in range(count)], np.uint8).reshape(-1, 3)
    for index, name, color in zip(message.ids, message.names, message.colors, strict=True):
        names[index], colors[index] = name, in_bytes(color)
    return Legend(tuple(names), colors)


def draw_images(drawing: Drawing, path: Path, topics: dict[str, str],
                grids: dict[int, tuple[np.ndarray, tuple[int, int]]], stamps: set[int],
                image_topic: str | None) -> None:
    """The camera's images of these stamps. An uncalibrated camera has the K that the network says, of `grids`."""
    if image_topic is None and not camera_topics(topics):
        return
    for item in RecordingSequence(path, image_topic=image_topic):
        frame = item.frame
        if frame.stamp_ns not in stamps:
            continue
        K = frame.K
        if K is None and frame.stamp_ns in grids:
            K_grid, size = grids[frame.stamp_ns]
            K = scale_intrinsics(K_grid, size, frame.image.shape[1::-1])
        drawing.at(frame.stamp_ns)
        drawing.image(frame.image, K)


class Objects:
    """The boxes that stand after the label markers so far: markers add, change and delete single ones by their ids."""

    def __init__(self):
        self._boxes: dict[int, Any] = {}
        self._names: dict[int, str] = {}

    def updated(self, message: Any) -> Boxes:
        """All boxes after one more MarkerArray."""
        for marker in message.markers:
            if marker.action == DELETE_ALL:
                self._boxes.clear()
            elif marker.action == DELETE:
                self._boxes.pop(marker.id, None)
            elif marker.ns == BOX:
                self._boxes[marker.id] = marker
            elif marker.ns == NAME:
                self._names[marker.id] = marker.text
        boxes = list(self._boxes.values())
        turns = [box.pose.orientation for box in boxes]
        return Boxes(np.array([pose_matrix(box.pose)[:3, 3] for box in boxes]).reshape(-1, 3),
                     np.array([(box.scale.x, box.scale.y, box.scale.z) for box in boxes]).reshape(-1, 3),
                     np.array([2 * np.arctan2(turn.z, turn.w) for turn in turns]),
                     [self._names.get(number, "") for number in self._boxes],
                     np.array([in_bytes(box.color) for box in boxes], np.uint8).reshape(-1, 3))


def lines_of(message: Any, namespace: str) -> np.ndarray:
    """(E, 2, 3): the ends of the lines in one namespace of a MarkerArray."""
    return np.array([(point.x, point.y, point.z) for marker in message.markers if marker.ns == namespace
                     for point in marker.points]).reshape(-1, 2, 3)


def in_bytes(color: Any) -> np.ndarray:
    """A ColorRGBA as (3,) uint8."""
    return np.rint(255 * np.clip([color.r, color.g, color.b], 0, 1)).astype(np.uint8)
