"""The services that ask the map, name it anew, and take up an old one; the tests share the node, in this order."""
from __future__ import annotations

import numpy as np
import pytest
from harness import CAMERA, Camera, Process, node_command
from lsm_ros.msg import LabelLegend
from lsm_ros.srv import LoadMap, Query, SaveMap, SetClasses
from nav_msgs.msg import OccupancyGrid
from sensor_msgs.msg import PointCloud2
from std_srvs.srv import Trigger
from visualization_msgs.msg import MarkerArray

from lsm_ros.data.messages import cloud
from lsm_ros.ros.conversions import stamp_ns
from lsm_ros.ros.qos import LATCHED


@pytest.fixture(scope="module")
def node(camera: Camera, tmp_path_factory) -> Process:
    """A node that has seen the room all around."""
    process = Process(node_command("map_period_s:=0.2", remap=(CAMERA,)), tmp_path_factory.mktemp("node") / "log")
    camera.connect()
    while camera.counter("mapper.windows") < 12:
        camera.walk(3, pause_s=0.3)
    yield process
    process.stop()


@pytest.fixture(scope="module")
def heard(camera: Camera) -> dict[str, list]:
    return {name: camera.keep(kind, f"/lsm/{name}", LATCHED) for name, kind in
            {"query_cloud": PointCloud2, "map_cloud": PointCloud2, "label_legend": LabelLegend,
             "label_markers": MarkerArray}.items()}


def ask(camera: Camera, text: str, threshold: float = 0.0) -> Query.Response:
    return camera.call(Query, "/lsm/query", Query.Request(text=text, threshold=threshold))


def test_a_query_finds_what_the_markers_show(node, heard, camera: Camera):
    camera.spin_until(lambda: heard["label_markers"] and any(m.text for m in heard["label_markers"][-1].markers))
    box, name = [marker for marker in heard["label_markers"][-1].markers if marker.ns in ("box", "name")][:2]
    answer = ask(camera, name.text.rsplit(maxsplit=2)[0])           # "sofa 2.1 m"
    assert answer.success, answer.message
    assert list(answer.scores) == sorted(answer.scores, reverse=True)
    there = box.pose.position
    distances = [np.linalg.norm([place.x - there.x, place.y - there.y, place.z - there.z]) for place in answer.centers]
    assert min(distances) < 0.3
    camera.spin_until(lambda: heard["query_cloud"] and heard["query_cloud"][-1].width)
    assert heard["query_cloud"][-1].header.frame_id == "lsm_map"
    assert answer.message == f"{len(answer.scores)} places, {heard['query_cloud'][-1].width} points"


@pytest.mark.parametrize(("text", "threshold", "words"), [
    ("", 0.0, "text is empty"), ("sofa", 1.5, "threshold 1.5 is no probability")])
def test_a_query_that_makes_no_sense_is_named(node, camera: Camera, text, threshold, words):
    answer = ask(camera, text, threshold)
    assert not answer.success and words in answer.message


def test_other_classes_and_back(node, heard, camera: Camera):
    def set_classes(*names: str) -> SetClasses.Response:
        return camera.call(SetClasses, "/lsm/set_classes", SetClasses.Request(classes=names))

    camera.spin_until(lambda: heard["label_legend"])
    first = heard["label_legend"][-1]
    answer = set_classes("floor", "wall", "sofa")
    assert (answer.success, answer.message) == (True, "3 classes: floor, wall, sofa")
    camera.spin_until(lambda: list(heard["label_legend"][-1].names) == ["floor", "wall", "sofa"])
    assert heard["label_legend"][-1].colors[2] == first.colors[first.names.index("sofa")]
    camera.spin_until(lambda: {0, 1} <= set(cloud(heard["map_cloud"][-1]).labels) <= {0, 1, 2})
    twice = set_classes("floor", "floor")
    assert not twice.success and "'floor' is given more than once" in twice.message
    assert set_classes().success
    camera.spin_until(lambda: heard["label_legend"][-1].names == first.names)


def test_who_wants_one_map_gets_the_newest(node, camera: Camera):
    """As nav2_map_server's map_saver does, and `ros2 topic echo --once`."""
    def first() -> int:
        """The stamp of the first message, nanoseconds."""
        messages: list[OccupancyGrid] = []
        subscription = camera.create_subscription(OccupancyGrid, "/lsm/occupancy", messages.append, LATCHED)
        camera.spin_until(lambda: messages, what="for a map")
        camera.destroy_subscription(subscription)
        camera.spin(1.0)                                # the node has noticed
        return stamp_ns(messages[0].header.stamp)

    before, windows = first(), camera.counter("mapper.windows")
    while camera.counter("mapper.windows") < windows + 3:
        camera.walk(3, pause_s=0.3)
    camera.spin(1.0)
    assert first() > before


def test_a_saved_map_is_taken_up_again(node, heard, camera: Camera, tmp_path):
    assert camera.call(SaveMap, "/lsm/save_map", SaveMap.Request(folder=str(tmp_path))).success
    camera.spin(1.0)
    before = cloud(heard["map_cloud"][-1])
    assert camera.call(Trigger, "/lsm/reset", Trigger.Request()).success
    assert "nothing is mapped yet" in ask(camera, "sofa").message
    answer = camera.call(LoadMap, "/lsm/load_map", LoadMap.Request(folder=str(tmp_path)))
    assert answer.success, answer.message
    camera.spin_until(lambda: abs(heard["map_cloud"][-1].width - len(before)) < 0.05 * len(before))
    camera.spin_until(lambda: camera.diagnostics["lsm/lsm: mapping"]["state"] == "lost")
    assert ask(camera, "floor").scores


@pytest.mark.parametrize(("folder", "words"), [("/nowhere/map", "/nowhere/map"), ("", "folder is empty")])
def test_a_folder_without_a_map_is_named_and_the_present_map_stays(node, heard, camera: Camera, folder, words):
    answer = camera.call(LoadMap, "/lsm/load_map", LoadMap.Request(folder=folder))
    assert not answer.success and words in answer.message
    assert heard["map_cloud"][-1].width
