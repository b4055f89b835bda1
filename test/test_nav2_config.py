"""The files for Nav2: what each layer must be told, or else its costmap stays empty without a word."""
from __future__ import annotations

import math
import re

import pytest
import yaml

from lsm_ros.labels import LabelSet
from lsm_ros.resources import resource

FILES = ("voxel_layer", "stvl", "semantic_layer", "keepout_filter", "collision_monitor")


def text_of(name: str) -> str:
    return resource(f"config/nav2/{name}.yaml").read_text("utf8")


def parameters(name: str, node: str = "local_costmap") -> dict:
    return yaml.safe_load(text_of(name))[node][node]["ros__parameters"]


def layer_of(name: str) -> dict:
    """The layer that reads our topics."""
    found = parameters(name)
    others = {"voxel_layer", "inflation_layer"}            # semantic_layer.yaml leaves those to voxel_layer.yaml
    assert set(found["plugins"]) <= {*found, *others}
    layer, = (value for value in found.values() if isinstance(value, dict) and "observation_sources" in value)
    return layer


def sources_of(layer: dict) -> list[dict]:
    """Those that the layer is told to listen to; a source that is only written down is never read."""
    names = layer["observation_sources"].split()
    assert names == [name for name, value in layer.items() if isinstance(value, dict)]
    return [layer[name] for name in names]


@pytest.mark.parametrize("name", ["voxel_layer", "stvl", "semantic_layer"])
def test_a_rolling_costmap_in_the_odometry_s_frame(name):
    found = parameters(name)
    assert found["rolling_window"] is True and found["global_frame"] == "odom"
    assert type(found["width"]) is type(found["height"]) is int       # Nav2 declares them as integers
    assert found["plugins"][-1] == "inflation_layer"
    for source in sources_of(layer_of(name)):
        reach = source.get("obstacle_max_range") or source.get("obstacle_range") or source.get("max_obstacle_distance")
        assert reach is None or 2 * reach <= found["width"]


@pytest.mark.parametrize("name", FILES)
def test_topics_are_absolute_and_ours(name):
    topics = re.findall(r"^\s*\w*topic: (\S+)$", text_of(name), re.M)
    assert topics and all(topic.startswith("/lsm/") for topic in topics)


@pytest.mark.parametrize("name", FILES)
def test_numbers_are_of_the_type_that_nav2_declares(name):
    """ROS 2 rejects an integer for a double: 3 for raytrace_max_range ends the costmap."""
    def numbers(tree: dict):
        for key, value in tree.items():
            if isinstance(value, dict):
                yield from numbers(value)
            elif isinstance(value, (int, float)) and not isinstance(value, bool):
                yield key, value

    whole = {"width", "height", "z_voxels", "mark_threshold", "unknown_threshold", "combination_method", "decay_model",
             "voxel_min_points", "model_type", "base_cost", "max_cost", "mark_confidence", "samples_to_max_cost",
             "type"}
    for key, value in numbers(yaml.safe_load(text_of(name))):
        assert type(value) is (int if key in whole else float), key


@pytest.mark.parametrize("name", ["voxel_layer", "stvl"])
def test_clouds_are_read_as_clouds_and_silence_is_no_fault(name):
    marking, clearing = set(), set()
    for source in sources_of(layer_of(name)):
        assert source["data_type"] == "PointCloud2"                   # LaserScan by default
        assert source["sensor_frame"] == ""                           # rays begin at the camera
        assert source["observation_persistence"] == source["expected_update_rate"] == 0.0
        marking |= {source["topic"]} if source["marking"] else set()
        clearing |= {source["topic"]} if source["clearing"] else set()
    assert marking == {"/lsm/obstacle_cloud"} and "/lsm/ground_cloud" in clearing
    assert name == "stvl" or "/lsm/free_cloud" in clearing        # a frustum clears whatever is seen in it


def test_heights_of_the_voxel_layer():
    layer = layer_of("voxel_layer")
    obstacles, ground, free = sources_of(layer)
    top = layer["origin_z"] + layer["z_voxels"] * layer["z_resolution"]
    assert layer["z_voxels"] <= 16 and top >= layer["max_obstacle_height"] > 0
    assert 0 < obstacles["min_obstacle_height"] < obstacles["max_obstacle_height"] <= layer["max_obstacle_height"]
    assert ground["min_obstacle_height"] < 0 < ground["max_obstacle_height"]      # the floor itself must pass
    assert free["min_obstacle_height"] < 0 and free["max_obstacle_height"] > 10 and not free["marking"]
    for source in (obstacles, ground, free):
        assert source["raytrace_max_range"] > source["obstacle_max_range"] > 0


def test_the_frustum_of_stvl_is_one():
    layer = layer_of("stvl")
    mark, clear = sources_of(layer)
    # DepthCameraFrustum measures along the rays of the corners, so its far plane is nearer than max_z.
    far_m = clear["max_z"] * math.cos(clear["vertical_fov_angle"] / 2) * math.cos(clear["horizontal_fov_angle"] / 2)
    assert 0 < clear["min_z"] < clear["max_z"] and far_m > mark["obstacle_range"]
    assert clear["model_type"] == 0 and clear["decay_acceleration"] > 0
    assert 0.5 < clear["vertical_fov_angle"] < clear["horizontal_fov_angle"] < 1.6       # radians, not degrees
    assert 0 < mark["min_obstacle_height"] < mark["max_obstacle_height"]
    assert mark["clear_after_reading"] and mark["filter"] in ("voxel", "passthrough")
    assert layer["voxel_decay"] >= 60                                 # a robot that waits hears nothing new


def test_the_semantic_layer_knows_every_class_once():
    source, = sources_of(layer_of("semantic_layer"))
    classes = [name for kind in source["class_types"] for name in source[kind]["classes"]]
    assert sorted(classes) == sorted(LabelSet.load().names)
    assert {key: source[key] for key in source if key.endswith("_topic")} == {
        "segmentation_topic": "/lsm/segmentation/mask", "confidence_topic": "/lsm/segmentation/confidence",
        "pointcloud_topic": "/lsm/segmentation/points", "labels_topic": "/lsm/segmentation/label_info"}
    for kind in source["class_types"]:
        assert 0 <= source[kind]["base_cost"] <= source[kind]["max_cost"] <= 254
        assert 0 <= source[kind]["mark_confidence"] <= 255
    assert source["driven_on"]["max_cost"] == 0 and source["expected_update_rate"] == 0.0


def test_the_collision_monitor_does_not_stop_a_robot_without_a_laser():
    found = yaml.safe_load(text_of("collision_monitor"))["collision_monitor"]["ros__parameters"]
    assert found["observation_sources"] == ["lsm"]                    # a list, and no scan
    source = found["lsm"]
    assert (source["type"], source["topic"]) == ("pointcloud", "/lsm/obstacle_cloud")
    assert source["source_timeout"] == 0.0                            # else silence stops it
    # Some releases of Nav2 compare the camera's z axis, the distance, with these (navigation2#5794).
    assert 0 < source["min_height"] <= 0.1 and source["max_height"] >= 1.5


def test_the_keepout_filter_finds_its_mask():
    server = yaml.safe_load(text_of("keepout_filter"))["costmap_filter_info_server"]["ros__parameters"]
    found = parameters("keepout_filter", "global_costmap")
    layer = found[found["filters"][0]]
    assert (server["type"], server["base"], server["multiplier"]) == (0, 0.0, 1.0)       # others are refused by Nav2
    assert server["mask_topic"] == "/lsm/keepout_mask"
    assert layer["filter_info_topic"] == server["filter_info_topic"] and "plugins" not in found
