"""What Nav2 and RViz read of the real node, over real DDS, with a fake network; read as they read it, best effort."""
from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from harness import CAMERA, FRAME_ID, STEP_NS, Camera, Process, node_command
from nav_msgs.msg import OccupancyGrid
from rclpy.qos import QoSProfile, ReliabilityPolicy
from room import DENSE, FURNITURE, ROOM, SIZE, K
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from visualization_msgs.msg import MarkerArray

from lsm_ros.data.messages import cloud
from lsm_ros.geometry.camera import project, scale_intrinsics, unproject
from lsm_ros.geometry.sim3 import transform
from lsm_ros.labels import LabelSet
from lsm_ros.ros.conversions import stamp_ns
from lsm_ros.ros.qos import INCREMENTS, LATCHED

SENSOR = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
STREAMS = {"obstacle_cloud": PointCloud2, "ground_cloud": PointCloud2, "free_cloud": PointCloud2,
           "segmentation/points": PointCloud2, "segmentation/mask": Image, "segmentation/confidence": Image,
           "segmentation/moving": Image, "depth/image": Image, "depth/camera_info": CameraInfo}
MAPS = {"map_cloud": PointCloud2, "pose_graph": MarkerArray, "occupancy": OccupancyGrid, "keepout_mask": OccupancyGrid,
        "label_markers": MarkerArray}
NEAR_M = 0.3                # of the truth: the fake network is wrong by some cm, and an outline by more


@pytest.fixture(scope="module")
def heard(camera: Camera, tmp_path_factory) -> dict[str, list]:
    """What a node published during a walk of three seconds."""
    node = Process(node_command("map_period_s:=0.2", "costmap_points:=1000", "keepout_labels:=table",
                                "mapper.min_observations:=1", remap=(CAMERA,)), tmp_path_factory.mktemp("node") / "log")
    messages = {name: camera.keep(kind, f"/lsm/{name}", SENSOR) for name, kind in STREAMS.items()}
    messages |= {name: camera.keep(kind, f"/lsm/{name}", LATCHED) for name, kind in MAPS.items()}
    messages["map_cloud_updates"] = camera.keep(PointCloud2, "/lsm/map_cloud_updates", INCREMENTS)
    if importlib.util.find_spec("vision_msgs"):
        from vision_msgs.msg import LabelInfo
        messages["segmentation/label_info"] = camera.keep(LabelInfo, "/lsm/segmentation/label_info", LATCHED)
    camera.connect()
    camera.walk(40)
    camera.spin_until(lambda: all(messages.values()), what="for every topic")
    camera.spin(1.5)
    yield messages
    assert camera.counter("worker_exceptions") == 0, camera.levels
    assert node.stop() == 0


def xyz(message: PointCloud2) -> np.ndarray:
    """(h, w, 3)"""
    assert message.point_step == 16 and message.row_step == 16 * message.width
    return np.ndarray((message.height, message.width, 3), "<f4", bytes(message.data), strides=(message.row_step, 16, 4))


def in_room(camera: Camera, message: PointCloud2) -> np.ndarray:
    """(N, 3) the points where they are in the room, by the true pose of their image."""
    points = xyz(message).reshape(-1, 3)
    return transform(camera.place(stamp_ns(message.header.stamp) // STEP_NS), points[np.isfinite(points[:, 2])])


def test_windows_are_in_the_images_frame_with_its_stamp(heard):
    for name in STREAMS:
        for message in heard[name]:
            assert message.header.frame_id == FRAME_ID
            assert message.header.stamp.nanosec % STEP_NS == 7


def test_obstacles_stand_and_the_ground_lies(heard, camera):
    """By labels alone, since the map doesn't know its floor yet."""
    for name in ("obstacle_cloud", "ground_cloud", "free_cloud"):
        assert {(message.height, message.is_dense) for message in heard[name]} == {(1, True)}
        assert max(message.width for message in heard[name]) <= 1000
    ground = np.concatenate([in_room(camera, message) for message in heard["ground_cloud"]])
    assert len(ground) > 500
    assert np.abs(np.quantile(ground[:, 2], [0.1, 0.9])).max() < NEAR_M
    obstacles = np.concatenate([in_room(camera, message) for message in heard["obstacle_cloud"]])
    low, high = ROOM
    assert np.count_nonzero(obstacles[:, 2] > 0.5) > 500
    assert ((obstacles > low - NEAR_M) & (obstacles < high + NEAR_M)).all()


def test_the_segmentation_is_four_equal_grids(heard, camera):
    by_stamp = [{stamp_ns(m.header.stamp): m for m in heard[f"segmentation/{name}"]}
                for name in ("points", "mask", "confidence", "moving")]
    together = set.intersection(*map(set, by_stamp))
    assert len(together) >= 3
    floor = LabelSet.load().index("floor")
    for stamp in together:
        points, mask, confidence, moving = (messages[stamp] for messages in by_stamp)
        # 64 x 48 are more than 1000: every second row and column is left.
        assert {(m.width, m.height) for m in (points, mask, confidence, moving)} == {(DENSE[0] // 2, DENSE[1] // 2)}
        assert not points.is_dense
        place = xyz(points)
        known = np.isfinite(place).all(axis=2)
        assert known.mean() > 0.8                   # all but outlines, where there are any
        labels = np.frombuffer(mask.data, np.uint8).reshape(mask.height, mask.width)
        on_floor = transform(camera.place(stamp // STEP_NS), place[known & (labels == floor)])
        assert np.abs(np.median(on_floor[:, 2])) < NEAR_M if len(on_floor) > 20 else True
        # A point lies on the ray of its pixel.
        pixels, _ = project(place[known].astype(float), scale_intrinsics(K, SIZE, DENSE))
        rows, columns = np.nonzero(known)
        np.testing.assert_allclose(pixels, np.stack([2 * columns + 0.5, 2 * rows + 0.5], axis=1), atol=1e-3)


def test_class_numbers_have_names_beside_the_mask(heard):
    if "segmentation/label_info" not in heard:
        pytest.skip("vision_msgs is not installed")
    [info] = heard["segmentation/label_info"]
    assert {item.class_id: item.class_name for item in info.class_map} == dict(enumerate(LabelSet.load().names))


def test_depth_and_its_camera_make_points_of_the_room(heard, camera):
    infos = {stamp_ns(message.header.stamp): message for message in heard["depth/camera_info"]}
    image = next(message for message in heard["depth/image"] if stamp_ns(message.header.stamp) in infos)
    info = infos[stamp_ns(image.header.stamp)]
    assert (image.encoding, image.width, image.height) == ("32FC1", *DENSE)
    assert (info.width, info.height) == DENSE
    depth = np.frombuffer(image.data, "<f4").reshape(image.height, image.width)
    k = info.k.reshape(3, 3) + [[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]]       # in ROS the centres are at whole numbers
    points = transform(camera.place(stamp_ns(image.header.stamp) // STEP_NS), unproject(depth, k).reshape(-1, 3))
    assert ((points > ROOM[0] - NEAR_M) & (points < ROOM[1] + NEAR_M)).all(axis=1).mean() > 0.99


def apply(voxels: dict[tuple, bytes], message: PointCloud2, size: float = 0.05) -> None:
    """An increment, as docs/topics.md has it: none clears the map, and a point without confidence its cell."""
    if not message.width:
        voxels.clear()
    data, points = bytes(message.data), cloud(message)
    for number, cell in enumerate(np.floor(points.points / size).astype(int)):
        voxels[tuple(cell)] = data[20 * number:20 * number + 20]
        if not points.confidence[number]:
            del voxels[tuple(cell)]


def test_the_increments_add_up_to_the_map(heard):
    increments, whole, voxels, expected = heard["map_cloud_updates"], heard["map_cloud"][-1], {}, {}
    assert [message.width == 0 for message in increments][:2] == [True, False], "the map begins empty"
    assert len(increments) >= 4
    assert {message.header.frame_id for message in increments} == {"lsm_map"}
    assert stamp_ns(increments[-1].header.stamp) == stamp_ns(whole.header.stamp)
    for message in increments:
        apply(voxels, message)
    apply(expected, whole)
    assert voxels == expected
    assert len(expected) > 500


def test_another_reader_gets_the_map_while_the_camera_stands(heard, camera: Camera):
    late, voxels, expected = camera.keep(PointCloud2, "/lsm/map_cloud_updates", INCREMENTS), {}, {}
    camera.spin_until(lambda: len(late) >= 2, what="for the map")
    assert [message.width == 0 for message in late] == [True, False]
    for message in late:
        apply(voxels, message)
    apply(expected, heard["map_cloud"][-1])
    assert voxels == expected


def test_the_graph_is_where_the_path_is(heard):
    keyframes, edges, loops = heard["pose_graph"][-1].markers
    assert (keyframes.ns, edges.ns, loops.ns) == ("keyframes", "edges", "loops")
    places = {(p.x, p.y, p.z) for p in keyframes.points[::6]}
    assert len(places) == len(keyframes.points) / 6 >= 3
    assert {(p.x, p.y, p.z) for p in edges.points} <= places
    assert len(edges.points) >= 2 * (len(places) - 1)


def cells(message: OccupancyGrid) -> np.ndarray:
    return np.array(message.data, np.int8).reshape(message.info.height, message.info.width)


def test_occupancy_is_the_room_from_above(heard):
    message = heard["occupancy"][-1]
    assert (message.header.frame_id, message.info.resolution) == ("lsm_map", pytest.approx(0.05))
    grid = cells(message)
    assert set(np.unique(grid)) == {-1, 0, 100}
    floor_m2 = 0.05 ** 2 * np.count_nonzero(grid == 0)
    assert 3 < floor_m2 < np.prod(ROOM[1][:2] - ROOM[0][:2])
    assert 0.05 * max(grid.shape) < 2 * NEAR_M + np.linalg.norm(ROOM[1][:2] - ROOM[0][:2])


def test_keepout_is_the_table_and_its_margin(heard):
    message = heard["keepout_mask"][-1]
    grid = cells(message)
    assert set(np.unique(grid)) == {-1, 0, 100}
    [(_, low, high)] = [item for item in FURNITURE if item[0] == "table"]
    size = np.subtract(high, low)[:2] + 2 * 0.2
    assert 0.2 * size.prod() < 0.05 ** 2 * np.count_nonzero(grid == 100) < 2 * size.prod()


def test_names_tell_the_distance(heard):
    texts = [marker.text for marker in heard["label_markers"][-1].markers if marker.ns == "name"]
    assert texts
    for text in texts:
        name, distance, unit = text.rsplit(" ", 2)
        assert name in {item[0] for item in FURNITURE} and unit == "m"
        assert 0 <= float(distance) < np.linalg.norm(ROOM[1] - ROOM[0])
