"""Every ROS parameter of the node in one table, made from the option dataclasses, so that a default has one home.

The node's own knobs are `NodeConfig`; those of the mapper and the network come from config.py under `mapper.` and
`predictor.`. Each gets a descriptor with its text and range. An unknown key in a parameter file is an error.
"""
from __future__ import annotations

import difflib
import json
import sys
import textwrap
from collections.abc import Iterable
from dataclasses import Field, dataclass, field, fields, replace
from typing import Any, TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.exceptions import InvalidTopicNameException
from rclpy.expand_topic_name import expand_topic_name
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.validate_topic_name import validate_topic_name

from lsm_ros.config import MapperConfig, Options, PredictorConfig, option
from lsm_ros.errors import ConfigError
from lsm_ros.mapping.obstacles import MAX_HEIGHT_M, MIN_HEIGHT_M


@dataclass(frozen=True)
class NodeConfig(Options):
    """Topics, frames and rates of the node."""
    autostart: bool = option(True, "Configure and activate at the start, without a lifecycle manager.", read_only=True)
    image_topic: str = option("image", "The camera's image topic (relative to the namespace unless it starts with /).",
                              read_only=True)
    image_transport: str = option("raw", "raw: sensor_msgs/Image on image_topic; compressed: "
                                  "sensor_msgs/CompressedImage (JPEG, PNG) on image_topic/compressed, as for any "
                                  "image_topic that ends so.",
                                  choices=("raw", "compressed"), read_only=True)
    image_reliability: str = option("best_effort", "QoS of the image subscription. best_effort fits every publisher; "
                                    "reliable loses no large raw image over shared memory, but needs a reliable "
                                    "publisher.", choices=("best_effort", "reliable"), read_only=True)
    camera_info_topic: str = option("", "sensor_msgs/CameraInfo of the image; empty for the camera_info beside the "
                                    "image topic. The map is better with it and works without it.", read_only=True)
    use_camera_info: bool = option(True, "False ignores the intrinsics and the distortion of CameraInfo, so that the "
                                   "network estimates them.", read_only=True)
    image_rectified: bool = option(False, "True where the images are rectified already (image_rect topics): then P of "
                                   "CameraInfo is their camera, not K.", read_only=True)
    tf_mode: str = option("estimates", "estimates: map_frame -> camera_frame and the eight newest keyframes; leaf: the "
                          "image's frame_id -> map_frame; map_odom: map_frame -> odom_frame, as a localiser has it "
                          "(REP 105); none: no TF.", choices=("estimates", "leaf", "map_odom", "none"))
    map_frame: str = option("lsm_map", "Frame of the map: z up, metres, the floor at z = 0 once it is found, the first "
                            "camera above the origin.", read_only=True)
    camera_frame: str = option("lsm_camera", "Frame of the estimated camera, optical axes (x right, y down, z "
                               "forward).", read_only=True)
    odom_frame: str = option("odom", "Frame of the odometry: where TF ties the image's frame_id to it, the map takes "
                             "its metre and its path from there. Empty: no odometry.", read_only=True)
    base_frame: str = option("base_link", "Frame of the robot whose z axis is up; empty: none.", read_only=True)
    floor_frame: str = option("base_footprint", "Frame of the robot that lies on the floor, z up: tells the camera's "
                              "height. base_link is above it on most robots. Empty: none.", read_only=True)
    imu_topic: str = option("", "sensor_msgs/Imu, for a camera that is not on a level robot: gravity says which way is "
                            "up. Empty: none.", read_only=True)
    depth_topic: str = option("", "sensor_msgs/Image of measured depth (16UC1 in mm, 32FC1 in m) registered to the "
                              "image, of any size with the same view. Empty: none.", read_only=True)
    input_wait_s: float = option(0.1, "An image waits at most this long for the TF and the depth of its moment, "
                                 "seconds.", minimum=0.0, maximum=1.0)
    tf_rate_hz: float = option(20.0, "How often tf_mode map_odom sends its transform, Hz.", minimum=1.0, maximum=200.0)
    transform_tolerance_s: float = option(0.2, "tf_mode map_odom stamps its transform this far ahead, so that it is "
                                          "good until the next, seconds.", minimum=0.0, maximum=10.0)
    map_period_s: float = option(1.0, "Least time between two publications of a topic of the map (map_cloud, path, "
                                 "occupancy, label_markers ...), seconds.", minimum=0.1, maximum=3600.0)
    # What Nav2 reads (docs/topics.md).
    costmap_points: int = option(30000, "Most points of obstacle_cloud, ground_cloud, free_cloud and "
                                 "segmentation/points each, 16 bytes a point. Nav2 reads best effort, and of a message "
                                 "above 0.5 MB that mostly loses parts over Fast DDS as it comes.", minimum=1000,
                                 maximum=1000000)
    ground_labels: str = option("", "Classes that the robot drives on, separated by commas; empty for floor, rug and "
                                "carpet, where the label set has them.", read_only=True)
    ignored_labels: str = option("", "Classes that are never in the way, separated by commas; empty for ceiling.",
                                 read_only=True)
    obstacle_min_height_m: float = option(MIN_HEIGHT_M, "What is no higher over the floor is ground, whatever its "
                                          "label, metres.", minimum=0.01, maximum=2.0)
    obstacle_max_height_m: float = option(MAX_HEIGHT_M, "What is higher over the floor is no obstacle, metres: the "
                                          "robot's height.", minimum=0.05, maximum=10.0)
    occupancy_resolution_m: float = option(0.05, "Edge of a cell of occupancy and keepout_mask, metres; at least that "
                                           "of a voxel is taken.", minimum=0.01, maximum=2.0)
    keepout_labels: str = option("", "Classes that keepout_mask keeps the robot out of, separated by commas; where it "
                                 "is empty there is no such topic.", read_only=True)
    keepout_margin_m: float = option(0.2, "How far around them it keeps out, metres. At least the robot's radius: "
                                     "Nav2 does not inflate what a filter adds.", minimum=0.0, maximum=5.0)


@dataclass(frozen=True)
class NodeOptions:
    """All of the node's parameters, checked."""
    node: NodeConfig = field(default_factory=NodeConfig)
    mapper: MapperConfig = field(default_factory=MapperConfig)
    predictor: PredictorConfig = field(default_factory=PredictorConfig)

    def __post_init__(self):
        node = self.node
        if node.map_frame == node.camera_frame:
            raise ConfigError(f"map_frame and camera_frame are both {node.map_frame!r}; a frame is not its own parent")
        for name in ("odom_frame", "base_frame", "floor_frame"):
            if getattr(node, name) == node.camera_frame:
                raise ConfigError(f"camera_frame and {name} are both {node.camera_frame!r}; the robot's frames have "
                                  "their parents, and the estimated camera is a frame of its own")
        for name in ("image_topic", "map_frame", "camera_frame"):
            if not getattr(node, name):
                raise ConfigError(f"{name} is empty")
        for name in ("image_topic", "camera_info_topic", "imu_topic", "depth_topic"):
            check_topic(name, getattr(node, name))
        for name in ("map_frame", "camera_frame", "odom_frame", "base_frame", "floor_frame"):
            if getattr(node, name).startswith("/"):
                raise ConfigError(f"{name} is {getattr(node, name)!r}; tf2 refuses frames that begin with a slash")
        if node.tf_mode == "map_odom" and node.odom_frame in ("", node.map_frame):
            raise ConfigError(f"tf_mode 'map_odom' needs an odom_frame that is not the map's; it is "
                              f"{node.odom_frame!r}, map_frame is {node.map_frame!r}")
        if node.obstacle_min_height_m >= node.obstacle_max_height_m:
            raise ConfigError(f"obstacle_min_height_m = {node.obstacle_min_height_m:g} is not below "
                              f"obstacle_max_height_m = {node.obstacle_max_height_m:g}")
        if self.mapper.window_views > self.predictor.token_cache:
            raise ConfigError(f"mapper.window_views = {self.mapper.window_views} is more than predictor.token_cache = "
                              f"{self.predictor.token_cache}; a window's frames must fit into the cache")


def check_topic(parameter: str, topic: str) -> None:
    """Raises ConfigError for what is no topic's name; an empty one is none at all."""
    if "//" in topic:
        raise ConfigError(f"{parameter} is {topic!r}; a topic's name has no repeated slashes")
    try:
        if topic:
            validate_topic_name(topic)
            expand_topic_name(topic, "lsm", "/lsm")     # {node} and {ns} are known, others are a ValueError
    except (InvalidTopicNameException, ValueError) as error:
        raise ConfigError(f"{parameter}: {' '.join(str(error).split())}") from error


SECTIONS = {"": ("node", NodeConfig), "mapper.": ("mapper", MapperConfig), "predictor.": ("predictor", PredictorConfig)}
TABLE: dict[str, tuple[str, Field]] = {prefix + item.name: (section, item)
                                       for prefix, (section, options) in SECTIONS.items() for item in fields(options)}
OWNED_BY_ROS = ("use_sim_time", "start_type_description_service", "qos_overrides.")

AnyOptions = TypeVar("AnyOptions", bound=Options)


def declare(node: Node) -> NodeOptions:
    """Declares the table on a node that was made with `automatically_declare_parameters_from_overrides=True`.

    Raises ConfigError for an unknown key, a wrong type or a value out of range.
    """
    given = _given(node, TABLE)
    options = updated(NodeOptions(), given)
    for name, (_, item) in TABLE.items():
        _redeclare(node, name, _value(options, name), item)
    return options


def declare_options(node: Node, kind: type[AnyOptions]) -> AnyOptions:
    """The same for a node whose parameters are one flat dataclass, read once: ROS refuses every change."""
    table = {item.name: item for item in fields(kind)}
    options = kind.from_dict({name: _as_declared(value, table[name]) for name, value in _given(node, table).items()})
    for name, item in table.items():
        _redeclare(node, name, getattr(options, name), item, read_only=True)
    return options


def _given(node: Node, known: Iterable[str]) -> dict[str, Any]:
    """What files and command line say. Raises ConfigError for a key that is none of `known`."""
    given = {name: parameter.value for name, parameter in node.get_parameters_by_prefix("").items()
             if not name.startswith(OWNED_BY_ROS)}
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise ConfigError("unknown parameter " + "; ".join(_with_hint(name, known) for name in unknown))
    return given


def _redeclare(node: Node, name: str, value: Any, item: Field, read_only: bool = False) -> None:
    """Declares a parameter with its descriptor; rclpy has declared what was given, but without one."""
    if node.has_parameter(name):
        node.undeclare_parameter(name)
    descriptor = _descriptor(item)
    descriptor.read_only = read_only
    node.declare_parameter(name, value, descriptor, ignore_override=True)


def _as_declared(value: Any, item: Field) -> Any:
    """`voxel_size_m: 1` in a YAML file means 1.0."""
    return float(value) if isinstance(item.default, float) and type(value) is int else value


def updated(options: NodeOptions, values: dict[str, Any]) -> NodeOptions:
    """`options` with some parameters changed. Raises ConfigError if the result is not allowed."""
    by_section: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        section, item = TABLE[name]
        by_section.setdefault(section, {})[item.name] = _as_declared(value, item)
    sections = {}
    for section, changed in by_section.items():
        try:
            sections[section] = replace(getattr(options, section), **changed)
        except ConfigError as error:           # it begins with the option's name
            raise ConfigError(f"{'' if section == 'node' else section + '.'}{error}") from error
    return replace(options, **sections)


def checked_update(options: NodeOptions, parameters: list[Parameter], configured: bool
                   ) -> tuple[NodeOptions, SetParametersResult]:
    """What the set-parameters callback answers: the new options, or the old ones and the reason of the refusal.

    A parameter marked `read_only` in its option is read when the node is configured, so it changes only before that.
    """
    values = {p.name: p.value for p in parameters if p.name in TABLE}
    fixed = sorted(name for name in values if configured and TABLE[name][1].metadata["read_only"]
                   and values[name] != _value(options, name))
    if fixed:
        reason = f"{', '.join(fixed)} is read when the node is configured: clean the node up first, then set it"
        return options, SetParametersResult(successful=False, reason=reason)
    try:
        return updated(options, values), SetParametersResult(successful=True)
    except ConfigError as error:
        return options, SetParametersResult(successful=False, reason=str(error))


def _value(options: NodeOptions, name: str) -> Any:
    section, item = TABLE[name]
    return getattr(getattr(options, section), item.name)


def _with_hint(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"{name!r}" + (f" (did you mean {close[0]!r}?)" if close else "")


def _descriptor(item: Field) -> ParameterDescriptor:
    meta = item.metadata
    constraints = []
    if meta["choices"]:
        constraints.append("one of: " + ", ".join(map(str, meta["choices"])))
    if meta["read_only"]:
        constraints.append("changes only while the node is unconfigured")
    descriptor = ParameterDescriptor(description=meta["text"], additional_constraints="; ".join(constraints))
    low, high = meta["minimum"], meta["maximum"]
    if low is None and high is None:
        return descriptor
    if isinstance(item.default, float):
        descriptor.floating_point_range = [FloatingPointRange(
            from_value=float(-sys.float_info.max if low is None else low),
            to_value=float(sys.float_info.max if high is None else high))]
    else:
        descriptor.integer_range = [IntegerRange(from_value=int(-2**63 if low is None else low),
                                                 to_value=int(2**63 - 1 if high is None else high), step=1)]
    return descriptor


def as_yaml() -> str:
    """The table as a commented parameter file: `python -m lsm_ros.ros.parameters > config/lsm.yaml` writes it anew."""
    lines = ["# Every parameter of the node with its default. This file is made from the code:",
             "# python -m lsm_ros.ros.parameters > config/lsm.yaml",
             "# `ros2 param describe /lsm/lsm NAME` says the same. An unknown key is an error that stops the node.",
             "# Keep the name /**, which fits every node: what stands below another one, such as lsm, ROS leaves out",
             "# without a word.",
             "/**:", "  ros__parameters:"]
    for prefix, (_, options) in SECTIONS.items():
        indent = "    "
        if prefix:
            lines += ["", f"    # {options.__doc__}", f"    {prefix.removesuffix('.')}:"]
            indent += "  "
        for item in fields(options):
            lines += ["", *textwrap.wrap(_explained(item), 120, initial_indent=f"{indent}# ",
                                         subsequent_indent=f"{indent}# ")]
            lines.append(f"{indent}{item.name}: {json.dumps(item.default)}")
    return "\n".join(lines) + "\n"


def _explained(item: Field) -> str:
    low, high, choices = (item.metadata[key] for key in ("minimum", "maximum", "choices"))
    span = f" One of: {', '.join(choices)}." if choices else f" {low} to {high}." if low is not None else ""
    return item.metadata["text"] + span + (" Read at configuration." if item.metadata["read_only"] else "")


if __name__ == "__main__":
    print(as_yaml(), end="")
