"""The node `lsm_recorder`: writes everything that another node publishes, and the topics named, into a rosbag2 (MCAP).

Messages are kept serialized, as they came over DDS, so nothing is lost or changed on the way to the disk.
"""
from __future__ import annotations

import importlib
import re
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

from lsm_ros.config import Options, option
from lsm_ros.data.recording import RecordingWriter
from lsm_ros.data.topics import split_node
from lsm_ros.errors import ConfigError, InputError, LsmError
from lsm_ros.ros.conversions import message_type
from lsm_ros.ros.parameters import check_topic, declare_options
from lsm_ros.ros.process import spin, spinning

DISCOVERY_PERIOD_S = 0.2
DEPTH = 100


@dataclass(frozen=True)
class RecorderConfig(Options):
    """What is recorded, and where to."""
    folder: str = option("", "The rosbag2 folder to make; it must not exist.")
    node: str = option("/lsm/lsm", "Everything that this node publishes is recorded.")
    topics: str = option("", "More topics, separated by commas.")


class Recorder(Node):
    """Finds topics as they appear and writes them until it is destroyed."""

    def __init__(self):
        super().__init__("lsm_recorder", automatically_declare_parameters_from_overrides=True)
        self.config = declare_options(self, RecorderConfig)
        if not self.config.folder:
            raise ConfigError("folder is empty: lsm_recorder needs the folder to record into")
        names = [name.strip() for name in self.config.topics.split(",") if name.strip()]
        for name in names:
            check_topic("topics", name)
        self._topics = set(map(self.resolve_topic_name, names))         # as ROS lists them: with their first slash
        self._known: set[str] = set()
        self.writer = RecordingWriter(self.config.folder)
        self.create_timer(DISCOVERY_PERIOD_S, self._discover)

    def _discover(self) -> None:
        found = [(topic, types) for topic, types in self.get_topic_names_and_types() if topic in self._topics]
        namespace, name = split_node(self.config.node)
        if (name, namespace) in self.get_node_names_and_namespaces():
            found += self.get_publisher_names_and_types_by_node(name, namespace)
        for topic, types in found:
            endpoints = self.get_publishers_info_by_topic(topic)
            if topic not in self._known and endpoints:
                self._known.add(topic)
                self._subscribe(topic, types[0], endpoints[0].qos_profile)

    def _subscribe(self, topic: str, type_name: str, offered: QoSProfile) -> None:
        """With what the publisher offers, so that latched messages come and best-effort ones are not refused."""
        latched = offered.durability == DurabilityPolicy.TRANSIENT_LOCAL
        qos = QoSProfile(depth=DEPTH, durability=offered.durability if latched else DurabilityPolicy.VOLATILE,
                         reliability=offered.reliability if offered.reliability == ReliabilityPolicy.RELIABLE
                         else ReliabilityPolicy.BEST_EFFORT)
        self._tell_type(type_name)
        self.writer.add_topic(topic, type_name, latched=latched)
        self.create_subscription(message_type(type_name), topic, partial(self._write, topic), qos, raw=True)

    def _tell_type(self, name: str) -> None:
        """A recording holds the definitions of its messages; the writer knows those of ROS 2's common packages."""
        if not self.writer.knows(name):
            self.writer.register_type(name, definition(name))
            for inner in messages_in(name):
                self._tell_type(inner)

    def _write(self, topic: str, data: bytes) -> None:
        self.writer.write(topic, self.get_clock().now().nanoseconds, data)


def definition(name: str) -> str:
    """The text of the .msg file of "package/msg/Name". Raises InputError if it is not installed."""
    package, _, kind = name.split("/")
    folders = [prefix / "share" / package / "msg" for prefix in Path(importlib.import_module(package).__file__).parents]
    for folder in folders:
        if (folder / f"{kind}.msg").is_file():
            return (folder / f"{kind}.msg").read_text("utf8")
    raise InputError(f"the definition of {name} is not installed: no {kind}.msg in share/{package}/msg of any prefix "
                     f"above {folders[0].parents[2]}")


def messages_in(name: str) -> set[str]:
    """The types of the messages that are fields of the message type "package/msg/Name"."""
    fields = message_type(name).get_fields_and_field_types().values()       # "sequence<std_msgs/ColorRGBA>"
    return {f"{package}/msg/{kind}" for field in fields for package, kind in re.findall(r"(\w+)/(\w+)", field)}


def main(args: list[str] | None = None) -> int:
    """`python -m lsm_ros.ros.recorder --ros-args -p folder:=NAME`"""
    try:
        with spinning(Recorder, args) as (recorder, executor, stop), recorder.writer:
            spin(executor, stop)
        print(f"{recorder.writer.messages} messages in {recorder.config.folder}")
    except LsmError as error:
        print(f"lsm_recorder: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
