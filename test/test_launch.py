"""The launch files, run with stand-ins for ROS 2's `launch`, which no package registry has."""
from __future__ import annotations

import runpy
import sys
from collections import defaultdict
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import yaml

ROOT = Path(__file__).parents[1]


class Recorded:
    """Stands in for every class of launch and launch_ros: it keeps what it is made with."""

    def __init__(self, *values, **named):
        self.values, self.named = values, named


def recorded(name: str) -> type[Recorded]:
    return type(name, (Recorded,), {})


@pytest.fixture
def load(monkeypatch):
    """Runs a launch file; returns its LaunchDescription's entities, by the name of their class."""
    classes = {
        "launch": ["LaunchContext", "LaunchDescription"],
        "launch.actions": ["DeclareLaunchArgument", "IncludeLaunchDescription", "OpaqueFunction",
                           "SetEnvironmentVariable"],
        "launch.launch_description_sources": ["PythonLaunchDescriptionSource"],
        "launch.substitutions": ["LaunchConfiguration"],
        "launch_ros": [],
        "launch_ros.actions": ["Node"],
        "launch_ros.parameter_descriptions": ["ParameterValue"],
    }
    for name, members in classes.items():
        module = ModuleType(name)
        vars(module).update({member: recorded(member) for member in members})
        monkeypatch.setitem(sys.modules, name, module)
    index = ModuleType("ament_index_python.packages")
    index.get_package_share_directory = {"lsm_ros": str(ROOT)}.__getitem__
    monkeypatch.setitem(sys.modules, "ament_index_python", ModuleType("ament_index_python"))
    monkeypatch.setitem(sys.modules, "ament_index_python.packages", index)

    def run(name: str) -> dict[str, list[Recorded]]:
        kinds = defaultdict(list)
        for entity in runpy.run_path(str(ROOT / "launch" / name))["generate_launch_description"]().values[0]:
            kinds[type(entity).__name__].append(entity)
        return kinds
    return run


def arguments(entities) -> dict[str, str]:
    return {item.values[0]: item.named["default_value"] for item in entities["DeclareLaunchArgument"]}


def started(entities, **given: str) -> list[dict]:
    """What the nodes of lsm.launch.py are started with."""
    assert set(given) <= set(arguments(entities)), "an argument that the launch file doesn't declare"
    context = SimpleNamespace(launch_configurations=arguments(entities) | given)
    return [node.named for node in entities["OpaqueFunction"][0].named["function"](context)]


def test_left_alone_it_starts_the_node_with_its_parameter_file(load):
    node, = started(load("lsm.launch.py"))
    assert (node["package"], node["executable"], node["namespace"]) == ("lsm_ros", "lsm_node", "/lsm")
    assert node["parameters"] == [str(ROOT / "config" / "lsm.yaml"), {}]


def test_what_is_given_wins_over_the_file(load, tmp_path):
    mine = tmp_path / "my.yaml"
    mine.touch()
    node, = started(load("lsm.launch.py"), image_topic="/cam/image", image_transport="compressed", device="cuda:1",
                    params_file=str(mine), namespace="robot/lsm", use_sim_time="True", autostart="false")
    assert node["namespace"] == "/robot/lsm"
    assert node["parameters"] == [str(mine), {
        "image_topic": "/cam/image", "image_transport": "compressed", "predictor.device": "cuda:1",
        "use_sim_time": True, "autostart": False}]


@pytest.mark.parametrize("params_file", ["/tmp/nobody's.yaml", "/tmp"])
def test_a_parameter_file_that_is_none_starts_nothing(load, params_file):
    with pytest.raises(FileNotFoundError, match=f"params_file .{params_file}. is no file"):
        started(load("lsm.launch.py"), params_file=params_file)


@pytest.mark.parametrize("namespace, full", [("lsm", "/robot1/lsm"), ("", "/robot1"), ("/lsm", "/lsm")])
def test_a_namespace_that_was_pushed_goes_before_it(load, namespace, full):
    """As launch_ros has it: PushRosNamespace leaves its word in the launch configurations."""
    entities = load("lsm.launch.py")
    context = SimpleNamespace(launch_configurations=arguments(entities) | {
        "ros_namespace": "/robot1", "namespace": namespace, "rviz": "true"})
    node, rviz = (node.named for node in entities["OpaqueFunction"][0].named["function"](context))
    assert node["namespace"] == full
    assert ("/lsm/map_cloud", f"{full}/map_cloud") in rviz["remappings"]


@pytest.mark.parametrize("namespace, topic", [("lsm", "/lsm/map_cloud"), ("/robot/", "/robot/map_cloud"),
                                              ("", "/map_cloud")])
def test_rviz_follows_the_namespace(load, namespace, topic):
    _, rviz = started(load("lsm.launch.py"), rviz="true", namespace=namespace)
    assert ("/lsm/map_cloud", topic) in rviz["remappings"]
    shown = yaml.safe_load(Path(rviz["arguments"][1]).read_text())["Visualization Manager"]
    topics = {display["Topic"]["Value"] for display in shown["Displays"] if "Topic" in display}
    assert topics == {before for before, _ in rviz["remappings"]}


def test_rviz_looks_from_the_map_s_frame(load):
    default = yaml.safe_load((ROOT / "config/rviz/lsm.rviz").read_text())["Visualization Manager"]["Global Options"]
    assert default["Fixed Frame"] == yaml.safe_load((ROOT / "config/lsm.yaml").read_text())["/**"]["ros__parameters"][
        "map_frame"]
    assert "-f" not in started(load("lsm.launch.py"), rviz="true")[1]["arguments"]
    assert started(load("lsm.launch.py"), rviz="true", map_frame="map")[1]["arguments"][2:] == ["-f", "map"]


def test_parameters_and_topics_are_the_nodes(load):
    parameters = pytest.importorskip("lsm_ros.ros.parameters", reason="no ROS 2 on this machine")
    entities = load("lsm.launch.py")
    node, rviz = started(entities, **{name: "true" for name, default in arguments(entities).items() if not default},
                         rviz="true")
    assert set(node["parameters"][1]) <= {*parameters.TABLE, "use_sim_time"}
    publishers = "".join((ROOT / f"lsm_ros/ros/{name}.py").read_text() for name in ("publishers", "window_topics"))
    for topic, _ in rviz["remappings"]:
        assert f'"{topic.removeprefix("/lsm/")}"' in publishers


def test_the_demo_plays_what_the_node_listens_to(load):
    player_module = pytest.importorskip("lsm_ros.ros.player", reason="no ROS 2 on this machine")
    entities = load("demo.launch.py")
    include, = entities["IncludeLaunchDescription"]
    assert include.values[0].values[0] == str(ROOT / "launch" / "lsm.launch.py")
    passed = dict(include.named["launch_arguments"])
    assert set(passed) <= set(arguments(load("lsm.launch.py")))
    player, = entities["Node"]
    parameters, config = player.named["parameters"][0], player_module.PlayerConfig()
    assert set(parameters) <= set(vars(config))
    for name in ("image_topic", "image_transport"):
        assert passed[name].values == parameters[name].values[0].values == (name,)
    # Where both are, a relative image_topic is one topic.
    assert passed["namespace"].values == player.named["namespace"].values == ("namespace",)
    given = arguments(entities)
    assert given["namespace"] == arguments(load("lsm.launch.py"))["namespace"]
    assert (given["image_topic"] + "/compressed", given["image_transport"]) == (config.topic, config.image_transport)
    recording = Path(arguments(entities)["source"]) / "metadata.yaml"
    bag = yaml.safe_load(recording.read_text())["rosbag2_bagfile_information"]
    topics = {item["topic_metadata"]["name"] for item in bag["topics_with_message_count"]}
    assert config.topic in topics


def test_the_demo_has_room_for_raw_images_unless_profiles_are_chosen(load, monkeypatch):
    names = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
    for name in names:
        monkeypatch.delenv(name, raising=False)
    profiles = str(ROOT / "config" / "fastdds_large_messages.xml")
    assert [entity.values for entity in load("demo.launch.py")["SetEnvironmentVariable"]] == [
        (name, profiles) for name in names]
    for name in names:
        with monkeypatch.context() as own:
            own.setenv(name, "/home/me/profiles.xml")
            assert not load("demo.launch.py")["SetEnvironmentVariable"]
