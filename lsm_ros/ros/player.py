"""The node `lsm_player`: plays a recording, a folder of images or a video as if it were a camera.

A recording's messages go out as they are, TF and truth topics included; folders and videos become Image or
CompressedImage, with CameraInfo where the intrinsics are known. By default the stamps are moved to the present, so that
latencies and TF are those of a live camera; where they are 0 or jump back, when the message was recorded takes their
place.
"""
from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
from rclpy.duration import Duration
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from tf2_msgs.msg import TFMessage

from lsm_ros.config import Options, option
from lsm_ros.data.frames import DEFAULT_RATE_HZ
from lsm_ros.data.messages import LEGEND_TYPE
from lsm_ros.data.recording import RecordingSequence, encode_image, serialized_messages
from lsm_ros.data.sequences import CameraSequence, FolderSequence, VideoSequence, open_sequence
from lsm_ros.data.topics import info_topic, is_compressed, transported
from lsm_ros.errors import InputError, LsmError
from lsm_ros.geometry.frame_tree import HISTORY_NS, JUMP_BACK_NS
from lsm_ros.resources import resource
from lsm_ros.ros.conversions import (
    camera_info,
    compressed_message,
    header,
    image_message,
    message_type,
    restamp,
    stamp_ns,
)
from lsm_ros.ros.parameters import NodeConfig, check_topic, declare_options
from lsm_ros.ros.process import StopSignal, spinning
from lsm_ros.ros.tf_buffer import MOVING, STATIC

logger = logging.getLogger(__name__)

JPEG_QUALITY = 90
QOS = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
IN_THE_MAP = ("odometry", "path", "occupancy", "map_cloud")     # topics of the node that name its map's frame
MATCH_S = 0.5                   # DDS matches the two ends one after the other; a first message in between is lost
ACKNOWLEDGE_S = 2.0             # at the end, reliable readers get this long to take the last messages,
LINGER_S = 0.5                  # and best-effort ones, which don't acknowledge, this long


@dataclass(frozen=True)
class PlayerConfig(Options):
    """What is played, and how."""
    source: str = option("", "A rosbag2, a folder of images, a video or a camera (/dev/video0); empty for the shipped "
                             "recording.")
    rate: float = option(1.0, "Speed: 2.0 plays twice as fast. With stamps of now the robot drives twice as fast, too; "
                         "stamps recorded keeps its speed.",
                         minimum=0.01, maximum=100.0)
    loop: bool = option(False, "Starts again at the end.")
    stamps: str = option("now", "now: stamps are moved to the present; recorded: they are left as they are.",
                         choices=("now", "recorded"))
    wait_for_subscribers: int = option(1, "The first image waits for this many subscribers.", minimum=0, maximum=100)
    image_topic: str = option("", "The camera of a rosbag2 that has several; where the images of a folder or a video "
                                  "are sent (camera_info beside them, if known), /camera/image_raw if empty.")
    image_transport: str = option("compressed", "How they lie in the rosbag2 or are sent: on image_topic itself, or on "
                                                "image_topic/compressed.", choices=("raw", "compressed"))
    frame_id: str = option("camera_optical_frame", "Frame of the images of a folder or a video.")

    @property
    def topic(self) -> str:
        """The full name of the image topic."""
        return transported(self.image_topic or "/camera/image_raw", self.image_transport)


class RecordedMessages:
    """The messages of a rosbag2 that have a header, and its TF, of `only` one topic or all.

    What a node of this package said is left out, for the node that maps the recording says it anew. Of TF that is what
    hangs on its map's frame or carries it: that frame is called lsm_map, or as the node's own topics name it. With a
    warning are left out topics without a header, whose messages have no stamp to be moved, and those whose message type
    is not installed. Raises InputError if `only` is one of the latter.
    """

    def __init__(self, sequence: RecordingSequence, only: str | None = None):
        self._path = sequence.path
        self.image_topic = sequence.image_topic
        self.types, unknown, stampless = {}, [], []
        said = said_by_nodes(sequence.topics) - {self.image_topic, info_topic(self.image_topic)}
        for topic, name in sequence.topics.items():
            if only not in (None, topic) or (only is None and topic in said):
                continue
            try:
                kind = message_type(name)
            except InputError:
                if topic == only:
                    raise
                unknown.append(f"{topic} ({name})")
                continue
            if hasattr(kind, "header") or kind is TFMessage:
                self.types[topic] = kind
            else:
                stampless.append(f"{topic} ({name})")
        self._map_frames = self._read_map_frames(said, sequence.topics) if TFMessage in self.types.values() else set()
        for topics, why in ((unknown, "their message types are not installed here"),
                            (stampless, "their messages have no header")):
            if topics:
                logger.warning("%s: left out, for %s: %s", self._path, why, ", ".join(topics))

    def __iter__(self) -> Iterator[tuple[str, int | None, int, Any]]:
        """(topic, its stamp in ns or None where it has none, when it was recorded in ns, message).

        Raises InputError where the file is damaged.
        """
        for topic, logged_ns, data in serialized_messages(self._path, self.types):
            message = self._read(topic, data, self.types[topic])
            if not isinstance(message, TFMessage):
                yield topic, stamp_ns(message.header.stamp) or None, logged_ns, message
                continue
            message.transforms = [edge for edge in message.transforms if self._map_frames.isdisjoint(
                (edge.header.frame_id.lstrip("/"), edge.child_frame_id.lstrip("/")))]
            if message.transforms:
                yield topic, None, logged_ns, message

    def _read_map_frames(self, said: set[str], types: dict[str, str]) -> set[str]:
        """Those of the nodes that `said` something: the default one, and what their first messages in it name."""
        frames = {NodeConfig().map_frame}
        for topic in said:
            if topic.rpartition("/")[2] in IN_THE_MAP:
                first = next(serialized_messages(self._path, [topic]), None)
                if first is not None:
                    frames.add(self._read(topic, first[2], message_type(types[topic])).header.frame_id)
        return frames

    def _read(self, topic: str, data: bytes, kind: type) -> Any:
        """Raises InputError where the bytes are no such message."""
        try:
            return deserialize_message(data, kind)
        except Exception as error:          # noqa: BLE001 rclpy has a type of its own for it
            raise InputError(f"{self._path} is damaged: a message on {topic} is none: {error}") from error


def said_by_nodes(topics: dict[str, str]) -> set[str]:
    """What nodes of this package published: all in the namespaces that have a LabelLegend, and the diagnostics."""
    spaces = {topic.rpartition("/")[0] + "/" for topic, name in topics.items() if name == LEGEND_TYPE} - {"/"}
    return {topic for topic in topics if topic.startswith(tuple(spaces)) or (spaces and topic == "/diagnostics")}


class SequenceMessages:
    """The frames of a folder or a video as messages."""

    def __init__(self, sequence: FolderSequence | VideoSequence | CameraSequence, config: PlayerConfig):
        self._sequence, self._config = sequence, config
        self.image_topic = config.topic
        self._info_topic = info_topic(self.image_topic)
        self.types = {self.image_topic: CompressedImage if is_compressed(self.image_topic) else Image}
        if sequence.K is not None:      # else nothing comes there, and the node would wait for it
            self.types[self._info_topic] = CameraInfo

    def __iter__(self) -> Iterator[tuple[str, int, int, Any]]:
        """(topic, its stamp in ns, which begins at 0 where images have no time, the same, message)."""
        for item in self._sequence:
            frame = item.frame
            at = (frame.stamp_ns, self._config.frame_id)
            if frame.K is not None:
                info = camera_info(frame.K, frame.image.shape[:2], header(*at))
                yield self._info_topic, frame.stamp_ns, frame.stamp_ns, info
            if not is_compressed(self.image_topic):
                message = image_message(frame.image, header(*at))
            else:
                jpeg = encode_image(".jpg", cv2.cvtColor(frame.image, cv2.COLOR_RGB2BGR),
                                    [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
                message = compressed_message(jpeg, "rgb8; jpeg compressed bgr8", header(*at))
            yield self.image_topic, frame.stamp_ns, frame.stamp_ns, message


class Timeline:
    """When messages are due, in ns after the first one: by their stamps, as long as these are times that go on, or else
    by when they were recorded."""

    def __init__(self):
        self._furthest: tuple[int, int] | None = None       # recorded, due: of the message that is due last so far
        self._shift_ns: int | None = None                   # from stamps to what is due, since the newest jump
        self._topics: dict[str, tuple[int, int]] = {}       # topic -> its newest stamp, and the shift of its stamps

    def due_ns(self, topic: str, stamp_ns: int | None, logged_ns: int) -> int:
        """Of the next message."""
        logged_before, due_before = self._furthest = self._furthest or (logged_ns, 0)
        by_log_ns = due_before + logged_ns - logged_before
        if stamp_ns is None:
            if self._shift_ns is None:      # the stamps to come go on from here
                self._furthest = max(self._furthest, (logged_ns, by_log_ns))
            return by_log_ns
        if self._shift_ns is None:
            self._shift_ns = due_before - stamp_ns
        before_ns, shift_ns = self._topics.get(topic, (stamp_ns, self._shift_ns))
        if stamp_ns < before_ns - JUMP_BACK_NS:
            # Where another topic has jumped already this one follows it: what belongs to one image stays together.
            if abs(stamp_ns + self._shift_ns - by_log_ns) > JUMP_BACK_NS:
                self._shift_ns = by_log_ns - stamp_ns
            shift_ns = self._shift_ns
        self._topics[topic] = stamp_ns, shift_ns
        due_ns = stamp_ns + shift_ns
        if due_ns >= due_before:
            self._furthest = logged_ns, due_ns
        return due_ns

    def moved_ns(self, stamp_ns: int, due_ns: int) -> int:
        """The stamp of a transform, on the same scale, where its message is due by when it was recorded.

        It tells of no jump and sets no time, for localisers stamp theirs up to a second ahead. One that is farther off
        than TF reaches is of another clock, or has jumped before the images have.
        """
        moved_ns = due_ns if self._shift_ns is None or not stamp_ns else stamp_ns + self._shift_ns
        return moved_ns if abs(moved_ns - due_ns) < HISTORY_NS else due_ns


class Player(Node):
    """Raises ConfigError or InputError at construction for a parameter or a source that can't be used."""

    def __init__(self):
        super().__init__("lsm_player", automatically_declare_parameters_from_overrides=True)
        self.config = declare_options(self, PlayerConfig)
        check_topic("image_topic", self.config.image_topic)
        # In the player's namespace, where a node beside it listens; remapped is what is sent, not what was recorded.
        asked = self.resolve_topic_name(self.config.topic, only_expand=True) if self.config.image_topic else None
        sequence = open_sequence(self.config.source or resource("recordings/apartment"), image_topic=asked)
        self.messages = RecordedMessages(sequence) if isinstance(sequence, RecordingSequence) else \
            SequenceMessages(sequence, self.config)
        self._publishers_by_topic: dict[str, Publisher] = {
            topic: self.create_publisher(kind, topic, _qos(topic, kind))
            for topic, kind in self.messages.types.items()}
        self.images = 0             # sent so far

    def play(self, executor: SingleThreadedExecutor, stop: StopSignal) -> None:
        """Plays to the end, or until told to stop. Raises InputError where the source is damaged."""
        self._wait_for_subscribers(executor, stop)
        while not stop.is_set():
            period_s = self._play_once(executor, stop)
            if not self.config.loop:
                break
            _spin_until(time.monotonic() + period_s, executor, stop)
        for publisher in self._publishers_by_topic.values():
            publisher.wait_for_all_acked(Duration(seconds=ACKNOWLEDGE_S))
        _spin_until(time.monotonic() + LINGER_S, executor, stop)
        self.get_logger().info(f"sent {self.images} images on {self.messages.image_topic}")

    def _play_once(self, executor: SingleThreadedExecutor, stop: StopSignal) -> float:
        """Every message is sent when the timeline says, so messages of one image stay together.

        Returns the seconds from one image to the next.
        """
        timeline, start_ns, start_s = Timeline(), None, 0.0
        images_ns = []              # when they were due
        for topic, recorded_ns, logged_ns, message in self.messages:
            if start_ns is None:    # here, for the first message may take a while to be read
                start_ns, start_s = self.get_clock().now().nanoseconds, time.monotonic()
            parts = _stamped_parts(topic, message, timeline, timeline.due_ns(topic, recorded_ns, logged_ns))
            elapsed_ns = round(min(due_ns for _, due_ns in parts) / self.config.rate)
            _spin_until(start_s + elapsed_ns * 1e-9, executor, stop)
            if self.config.stamps == "now":
                for part, due_ns in parts:
                    restamp(part, start_ns + round(due_ns / self.config.rate))
            if stop.is_set():
                break
            self._publishers_by_topic[topic].publish(message)
            if topic == self.messages.image_topic:
                images_ns.append(elapsed_ns)
        self.images += len(images_ns)
        span_s = (images_ns[-1] - images_ns[0]) * 1e-9 if images_ns else 0.0
        return span_s / (len(images_ns) - 1) if span_s > 0 else 1 / (DEFAULT_RATE_HZ * self.config.rate)

    def _wait_for_subscribers(self, executor: SingleThreadedExecutor, stop: StopSignal) -> None:
        publisher, wanted = self._publishers_by_topic[self.messages.image_topic], self.config.wait_for_subscribers
        if publisher.get_subscription_count() < wanted:
            self.get_logger().info(f"waiting for {wanted} subscriber(s) of {self.messages.image_topic}")
        while not stop.is_set() and publisher.get_subscription_count() < wanted:
            executor.spin_once(timeout_sec=0.1)
        _spin_until(time.monotonic() + MATCH_S, executor, stop)


def _qos(topic: str, kind: type) -> QoSProfile:
    if kind is not TFMessage:
        return QOS
    return STATIC if _is_static(topic) else MOVING


def _is_static(topic: str) -> bool:
    """Whether TF on it holds for all times."""
    return topic.endswith("/tf_static")


def _stamped_parts(topic: str, message: Any, timeline: Timeline, due_ns: int) -> list[tuple[Any, int]]:
    """What has a header in a message, and when each is due; the message is with the first of them, and by `due_ns`."""
    if not isinstance(message, TFMessage):
        return [(message, due_ns)]
    return [(edge, due_ns if _is_static(topic) else timeline.moved_ns(stamp_ns(edge.header.stamp), due_ns))
            for edge in message.transforms]


def _spin_until(time_s: float, executor: SingleThreadedExecutor, stop: StopSignal) -> None:
    """Until time.monotonic() is `time_s`, or the signal."""
    while not stop.is_set() and (ahead_s := time_s - time.monotonic()) > 0:
        executor.spin_once(timeout_sec=min(ahead_s, 0.1))


def main(args: list[str] | None = None) -> int:
    """The executable lsm_player."""
    try:
        with spinning(Player, args) as (player, executor, stop):
            player.play(executor, stop)
    except LsmError as error:
        print(f"lsm_player: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
