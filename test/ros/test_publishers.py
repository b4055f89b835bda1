"""Who gets what, with a stand-in for the node: what is read is built, and nothing else."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from rclpy.time import Time as RosTime
from visualization_msgs.msg import Marker

from lsm_ros.contracts import Cloud, MapObject, MapUpdate
from lsm_ros.errors import ConfigError, InputError
from lsm_ros.geometry.camera import intrinsics
from lsm_ros.labels import LabelSet
from lsm_ros.ros.conversions import stamp_ns
from lsm_ros.ros.parameters import NodeConfig, NodeOptions
from lsm_ros.ros.publishers import Publishers

STAMP = 1_700_000_000_123_456_789
LABELS = LabelSet.load()


class Topic:
    """A publisher with so many readers, and what it said."""

    def __init__(self, readers: Callable[[], int], said: list):
        self.publish = said.append
        self.get_subscription_count = readers


class StandIn:
    """A node whose topics `readers` are read, one that is named twice by two; `said` is what came on which."""

    def __init__(self, *readers: str):
        self.readers, self.said, self.warnings = list(readers), {}, []
        self.made: list[str] = []               # topics, in the order in which they were made

    def create_publisher(self, kind: type, topic: str, qos) -> Topic:
        self.made.append(topic)
        return Topic(lambda: self.readers.count(topic), self.said.setdefault(topic, []))

    def destroy_publisher(self, publisher: Topic) -> None:
        pass

    def get_clock(self) -> SimpleNamespace:
        return SimpleNamespace(now=lambda: RosTime(nanoseconds=STAMP))

    def get_logger(self) -> SimpleNamespace:
        return SimpleNamespace(warning=self.warnings.append)

    def heard(self) -> set[str]:
        return {topic for topic, messages in self.said.items() if messages}


def update(floor: str = "floor", **others) -> MapUpdate:
    """Two by two pixels, all of one class, 2 m before a level camera that is 1 m up: two are 1.67 m over the floor, two
    .33 m; and four points that the map trusts."""
    T_map_cam = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 1], [0, 0, 0, 1]])
    label = LABELS.index(floor)
    points = np.array([[0, 1.0, 2], [0, 0.5, 2], [0, -1.0, 2], [0, 1.05, 2]], np.float32)
    return MapUpdate(stamp_ns=STAMP, keyframe_id=0, T_map_cam=T_map_cam, T_map_keyframes={0: T_map_cam},
                     window_cloud=Cloud(points, np.zeros((4, 3), np.uint8), np.full(4, label, np.uint16),
                                        np.full(4, 255, np.uint8)),
                     K=intrinsics(1.5, 1.5, 1.0, 1.0), depth=np.full((2, 2), 2, np.float32),
                     labels=np.full((2, 2), label, np.uint16), confidence=np.ones((2, 2), np.float32),
                     still=np.ones((2, 2), bool), scale=1.0,
                     seconds={}, **others)


def mapper(objects: list[MapObject]) -> SimpleNamespace:
    return SimpleNamespace(objects=lambda: objects)         # whatever else is asked for is an error


def test_depth_is_unknown_where_a_border_hides_the_view():
    node = StandIn("depth/image")
    hidden = replace(update(), confidence=np.array([[.5, 0], [.1, 1]], np.float32))
    Publishers(node, LABELS, NodeConfig(tf_mode="none")).publish_update(
        hidden, "camera", NodeOptions(NodeConfig(tf_mode="none")))
    [message] = node.said["depth/image"]
    np.testing.assert_array_equal(np.frombuffer(message.data, "<f4"), [2, np.nan, 2, 2])


@pytest.mark.parametrize("topic", ["semantic_cloud", "odometry", "obstacle_cloud", "ground_cloud", "free_cloud",
                                   "segmentation/points", "segmentation/mask", "segmentation/confidence",
                                   "segmentation/moving", "depth/image", "depth/camera_info"])
def test_a_window_is_published_where_it_is_read(topic):
    node = StandIn(topic)
    publishers = Publishers(node, LABELS, NodeConfig(tf_mode="none"))
    before = node.heard()
    publishers.publish_update(update(), "camera", NodeOptions(NodeConfig(tf_mode="none")))
    assert node.heard() - before == {topic}
    [message] = node.said[topic]
    assert message.header.stamp == Time(sec=1_700_000_000, nanosec=123_456_789)


@pytest.mark.parametrize("on_floor, counts", [(True, (2, 2)), (False, (0, 4))])
def test_obstacles_need_a_height_where_there_is_a_floor(on_floor, counts):
    """Of a chair's trusted points two are as low as the floor, of its pixels two are higher than the robot."""
    node = StandIn("obstacle_cloud", "ground_cloud")
    Publishers(node, LABELS, NodeConfig()).publish_update(update("chair", on_floor=on_floor), "camera", NodeOptions())
    assert tuple(node.said[topic][0].width for topic in ("ground_cloud", "obstacle_cloud")) == counts


def test_more_classes_than_a_mask_can_tell_apart_are_no_mask():
    node = StandIn("segmentation/mask", "semantic_cloud")
    many = LabelSet(names=tuple(f"thing {n}" for n in range(257)), colors=np.zeros((257, 3), np.uint8),
                    embeddings=np.zeros((257, 4), np.float32), things=np.ones(257, bool))
    publishers = Publishers(node, many, NodeConfig())
    assert node.warnings == ["segmentation/* stays silent: a mono8 mask tells 256 labels apart, and there are 257"]
    publishers.publish_update(update(), "camera", NodeOptions())
    assert len(node.said["semantic_cloud"]) == 1
    assert not node.said["segmentation/mask"]


def test_other_classes_get_other_names_or_none_at_all():
    node = StandIn("ground_cloud")
    publishers = Publishers(node, LABELS, NodeConfig(ground_labels="rug"))
    publishers.publish_update(update("floor"), "camera", NodeOptions())
    with pytest.raises(ConfigError, match=r"ground_labels: no label 'rug' \(in 'rug'\)"):
        publishers.relabel(LabelSet.from_entries([{"name": "floor"}, {"name": "teapot"}]))
    publishers.publish_update(update("rug"), "camera", NodeOptions())
    publishers.relabel(LabelSet.from_entries([{"name": "teapot"}, {"name": "rug"}]))        # where 1 was the floor
    publishers.publish_update(update("floor"), "camera", NodeOptions())
    assert [message.width for message in node.said["ground_cloud"]] == [0, 4, 4]
    assert [list(legend.names) for legend in node.said["label_legend"]] == [list(LABELS.names), ["teapot", "rug"]]


def test_a_map_begun_anew_knows_no_distances():
    chair = MapObject(id=7, label=LABELS.index("chair"), name="chair", center=np.array([4.0, 0, 1]),
                      size=np.array([1.0, 1, 1]), yaw=0.0, confidence=0.9, points=40)
    node = StandIn("label_markers")
    publishers = Publishers(node, LABELS, NodeConfig())
    publishers.publish_update(update(), "camera", NodeOptions())
    for anew in (False, True):
        publishers.map_changed(STAMP, anew)
        assert publishers.map_is_wanted()
        publishers.publish_map(mapper([chair]), NodeOptions())
        assert not publishers.map_is_wanted()
    first, second = (message.markers for message in node.said["label_markers"])
    for markers in (first, second):         # the newest alone is kept, so each of them must do without those before it
        assert [marker.action for marker in markers] == [Marker.DELETEALL, Marker.ADD, Marker.ADD]
    assert [markers[-1].text for markers in (first, second)] == ["chair 3.5 m", "chair"]
    assert {stamp_ns(message.markers[0].header.stamp) for message in node.said["label_markers"]} == {STAMP}


@pytest.mark.parametrize("on_floor, cells", [(True, ({0}, {0})), (False, ({100}, {100}))])
def test_a_map_without_a_view_is_judged_by_its_own_floor(on_floor, cells):
    """A floor, and over it, higher than the robot, what would stand in its way: as after load_map."""
    across = np.stack(np.meshgrid(np.arange(10), np.arange(10)), axis=-1).reshape(-1, 2) * 0.05
    points = np.concatenate([np.pad(across, ((0, 0), (0, 1)), constant_values=z) for z in (0.0, 2.0)])
    labels = np.repeat([LABELS.index("floor"), LABELS.index("cabinet")], len(across)).astype(np.uint16)
    world = Cloud(points.astype(np.float32), np.zeros((200, 3), np.uint8), labels, np.full(200, 255, np.uint8))
    node, config = StandIn("occupancy", "keepout_mask"), NodeConfig(keepout_labels="cabinet")
    publishers = Publishers(node, LABELS, config)
    publishers.map_changed(STAMP, anew=True)
    publishers.publish_map(SimpleNamespace(map_cloud=lambda: world, on_floor=on_floor), NodeOptions(config))
    assert tuple(set(node.said[topic][0].data) - {-1} for topic in ("occupancy", "keepout_mask")) == cells


def test_a_map_of_before_is_taken_back_from_who_comes_late():
    """A map saver takes the first message and goes; what stood there was the map as its last reader had left it."""
    node = StandIn("label_markers")
    publishers = Publishers(node, LABELS, NodeConfig())

    def changed(*readers: str) -> list[str]:
        """The topics that are made anew where these are read as the map changes."""
        node.made.clear()
        node.readers[:] = readers
        publishers.map_changed(STAMP)
        if publishers.map_is_wanted():
            publishers.publish_map(mapper([]), NodeOptions())
        return node.made

    assert changed("label_markers") == [] and changed("label_markers") == [], "it is read"
    node.readers.clear()
    assert not publishers.map_is_wanted() and node.made == [], "it is the newest one still"
    assert changed() == ["label_markers"] and changed() == [], "there is nothing more to take back"
    assert changed("label_markers") == [] and len(node.said["label_markers"]) == 3


def test_a_grid_that_the_map_has_outgrown_is_taken_back():
    """Who comes late would take the smaller map of before for all there is."""
    label = LABELS.index("floor")
    node, config = StandIn("map_cloud", "occupancy", "keepout_mask"), NodeConfig(keepout_labels="rug")
    publishers = Publishers(node, LABELS, config)

    def publish(*x_m: float) -> None:
        node.made.clear()
        points = np.array([[x, x, 0] for x in x_m], np.float32)
        cloud = Cloud(points, np.zeros((len(points), 3), np.uint8), np.full(len(points), label, np.uint16),
                      np.full(len(points), 255, np.uint8))
        publishers.map_changed(STAMP)
        assert publishers.map_is_wanted()
        try:
            publishers.publish_map(SimpleNamespace(map_cloud=lambda: cloud, on_floor=True), NodeOptions(config))
        finally:
            assert not publishers.map_is_wanted()

    publish(0, 1)
    assert node.made == []
    with pytest.raises(InputError, match="^occupancy is published no longer, for a grid of 18001 x 18001 .* choose a "
                                         "larger occupancy_resolution_m; keepout_mask is published no longer, for a"):
        publish(0, 900)
    assert set(node.made) == {"occupancy", "keepout_mask"} and len(node.said["map_cloud"]) == 2
    assert not publishers.map_is_wanted() and len(node.made) == 2, "there is nothing more to take back"
    publish(0, 2)
    assert node.made == [] and [len(node.said[topic]) for topic in ("occupancy", "keepout_mask")] == [2, 2]
