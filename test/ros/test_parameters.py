"""The table of parameters, on a node of this process."""
from __future__ import annotations

import pytest
import rclpy
from rclpy.node import Node
from rclpy.parameter import Parameter

from lsm_ros.errors import ConfigError
from lsm_ros.resources import resource
from lsm_ros.ros.parameters import TABLE, NodeOptions, as_yaml, checked_update, declare, declare_options
from lsm_ros.ros.player import PlayerConfig


@pytest.fixture
def declared():
    """declared(name=value, ...) -> the node and its options."""
    nodes = []
    rclpy.init(args=[])

    def make(given: dict) -> tuple[Node, NodeOptions]:
        node = Node("parameters", automatically_declare_parameters_from_overrides=True, parameter_overrides=[
            Parameter(name, value=value) for name, value in given.items()])
        nodes.append(node)
        return node, declare(node)

    yield make
    for node in nodes:
        node.destroy_node()
    rclpy.shutdown()


def test_the_shipped_file_is_the_table():
    assert resource("config/lsm.yaml").read_text("utf8") == as_yaml(), \
        "python -m lsm_ros.ros.parameters > config/lsm.yaml makes it anew"


def test_every_parameter_has_a_description_and_its_range(declared):
    node, options = declared({})
    assert options == NodeOptions()
    for name in TABLE:
        assert node.describe_parameter(name).description, name
    [span] = node.describe_parameter("mapper.voxel_size_m").floating_point_range
    assert (span.from_value, span.to_value) == (0.005, 1.0)
    [span] = node.describe_parameter("mapper.window_views").integer_range
    assert (span.from_value, span.to_value) == (2, 8)
    assert "compressed" in node.describe_parameter("image_transport").additional_constraints


def test_what_is_given_counts(declared):
    node, options = declared({"mapper.window_views": 3, "map_period_s": 2.5, "image_topic": "/cam/image"})
    assert (options.mapper.window_views, options.node.map_period_s, options.node.image_topic) == (3, 2.5, "/cam/image")
    assert node.get_parameter("mapper.window_views").value == 3


def test_what_a_program_reads_once_cannot_be_changed(declared):
    """`ros2 param set /lsm_player rate 3.0` was a success that changed nothing."""
    node = Node("player", automatically_declare_parameters_from_overrides=True,
                parameter_overrides=[Parameter("rate", value=2.0)])
    assert declare_options(node, PlayerConfig).rate == 2.0
    for change in (Parameter("rate", value=3.0), Parameter("loop", value=True)):
        [result] = node.set_parameters([change])
        assert not result.successful and "read-only" in result.reason
    assert node.get_parameter("rate").value == 2.0
    node.destroy_node()


def test_a_whole_number_is_good_for_a_double(declared):
    node, options = declared({"map_period_s": 2})
    assert options.node.map_period_s == 2.0
    assert node.get_parameter("map_period_s").type_ == Parameter.Type.DOUBLE


@pytest.mark.parametrize(("given", "words"), [
    ({"mapper.voxel_size": 0.1}, "mapper.voxel_size_m"),                                   # the right name is proposed
    ({"mapper.window_views": 9}, "window_views = 9 is above its maximum 8"),
    ({"mapper.window_views": 3.5}, "mapper.window_views = 3.5 is of type float"),
    ({"tf_mode": "odom"}, "'estimates', 'leaf', 'map_odom', 'none'"),
    ({"tf_mode": "map_odom", "odom_frame": ""}, "'map_odom' needs an odom_frame that is not the map's; it is ''"),
    ({"tf_mode": "map_odom", "odom_frame": "map", "map_frame": "map"}, "it is 'map', map_frame is 'map'"),
    ({"map_frame": "lsm_camera"}, "both 'lsm_camera'"),
    ({"camera_frame": "odom"}, "camera_frame and odom_frame are both 'odom'"),
    ({"obstacle_min_height_m": 1.5}, "obstacle_min_height_m = 1.5 is not below obstacle_max_height_m = 1.5"),
    ({"image_topic": ""}, "image_topic is empty"),
    ({"image_topic": "/camera/image-raw"}, "image_topic: .*characters other than alphanumerics.*'/camera/image-raw'"),
    ({"depth_topic": "/camera//depth"}, "depth_topic is '/camera//depth'"),
    ({"image_topic": "{robot}/image"}, "image_topic: .*'{robot}/image' is invalid: unknown substitution: {robot}"),
    ({"imu_topic": "/imu/"}, "imu_topic: .*must not end with a forward slash: '/imu/'"),
    ({"odom_frame": "/odom"}, "odom_frame is '/odom'; tf2 refuses frames that begin with a slash")])
def test_mistakes_are_named(declared, given, words):
    with pytest.raises(ConfigError, match=words):
        declared(given)


def test_changes_while_running():
    options = NodeOptions()
    changed, result = checked_update(options, [Parameter("mapper.min_observations", value=3)], configured=True)
    assert result.successful
    assert changed.mapper.min_observations == 3
    same, result = checked_update(options, [Parameter("mapper.min_observations", value=0)], configured=True)
    assert (same, result.successful) == (options, False)
    assert "below its minimum" in result.reason


def test_what_is_read_at_configuration_changes_only_before_it():
    change = [Parameter("predictor.device", value="cpu")]
    assert not checked_update(NodeOptions(), change, configured=True)[1].successful
    options, result = checked_update(NodeOptions(), change, configured=False)
    assert (options.predictor.device, result.successful) == ("cpu", True)
    assert checked_update(options, change, configured=True)[1].successful, "the value that it has already"
