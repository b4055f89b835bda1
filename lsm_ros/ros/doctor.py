"""`lsm doctor`: looks at the running system for a few seconds and says what is right or odd, and how to mend it."""
from __future__ import annotations

import argparse
import importlib
import json
import os
import re
import struct
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.srv import GetState
from rcl_interfaces.srv import GetParameters
from rclpy.exceptions import InvalidTopicNameException
from rclpy.node import Node
from rclpy.parameter import parameter_value_to_python
from rclpy.qos import DurabilityPolicy, QoSCompatibility, qos_check_compatible
from rclpy.subscription import Subscription
from rclpy.validate_full_topic_name import validate_full_topic_name
from tf2_msgs.msg import TFMessage

from lsm_ros.data.topics import split_node
from lsm_ros.errors import InputError, TooEarlyError, TransformError
from lsm_ros.geometry.frame_tree import FrameTree
from lsm_ros.resources import resource
from lsm_ros.ros.conversions import message_type, stamp_ns
from lsm_ros.ros.intake import sensor_qos
from lsm_ros.ros.tf_buffer import MOVING, STATIC

OK, NOTE, PROBLEM = "OK", "note", "PROBLEM"
FAST_DDS_LIMIT = 500_000            # bytes; larger best-effort messages don't fit a plain Fast DDS's shared memory
LOST = 0.2                          # share of the images that may be missing
AHEAD_S, OLD_S = 0.05, 1.0          # a live image is not from the future, and not older than this
OTHER_CLOCK_S = 60.0                # beyond this it is not late but of another clock
ANSWER_S = 10.0                     # a node that is there gets this much longer to answer
PROFILES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")     # up to Jazzy (Fast DDS 2), and since
ENVIRONMENT = ("ROS_DISTRO", "ROS_DOMAIN_ID", "ROS_AUTOMATIC_DISCOVERY_RANGE", "ROS_LOCALHOST_ONLY", *PROFILES)
PARAMETERS = ("odom_frame", "base_frame", "floor_frame", "tf_mode", "map_frame", "input_wait_s", "use_sim_time",
              "mapper.camera_height_m")
EVERYONES = ("/rosout", "/parameter_events", "/diagnostics", "/clock")      # and TF, whatever it is called
TF_TYPE = "tf2_msgs/msg/TFMessage"
IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
LOOKS_UP = 0.9                  # z component of the direction of view in the robot: within 26 degrees of the vertical
SAME_M, SAME_RAD = 1e-3, 2e-3    # static transforms that differ by less are one: by rounding, say
AWAITED = 3                     # images back whose TF must be there: odometry comes a little after its image
PLACE_CAMERA = "publish the camera's place on the robot (robot_state_publisher, static_transform_publisher)"
GOOD = ("images_received", "window_views", "window_matches",                # no losses
        *(f"mapper.{name}" for name in ("frames", "static_frames", "keyframes", "windows", "recognitions", "loops",
                                        "joined_maps")))
ODD_STATES = {                      # of an active node -> what to do
    "paused": "ros2 service call {space}/pause std_srvs/srv/SetBool '{{data: false}}'",
    "disabled": "ros2 service call {space}/enable std_srvs/srv/SetBool '{{data: true}}'",
    "lost": "let the camera see again what the map knows",
    "refused": "the last window could not be aligned; move on slowly",
    "weak": "no match backs the last window; slower turns, more to see",
    "dark": "the images are black, or show nothing"}


@dataclass(frozen=True)
class Finding:
    level: str          # OK, note or PROBLEM
    about: str
    text: str
    mend: str = ""      # what to do about it


@dataclass
class Images:
    """What came on the image topic."""
    stamps: list[int] = field(default_factory=list)     # ns, in the order of their coming
    ages_s: list[float] = field(default_factory=list)   # by this machine's clock, or the simulation's once that came
    sizes: list[int] = field(default_factory=list)      # bytes on the wire
    frame_id: str = ""


def main(argv: list[str] | None = None) -> int:
    arguments = build_parser().parse_args(argv)
    with examining(arguments.node) as examiner:
        examiner.watch(arguments.seconds)
        findings = [*check_environment(), *examiner.findings()]
    if arguments.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        for finding in findings:
            mend = f" -> {finding.mend}" if finding.mend else ""
            print(f"{finding.level:<8} {finding.about}: {finding.text}{mend}")
    return int(any(finding.level == PROBLEM for finding in findings))


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lsm doctor", description="Looks at the running system for a few seconds, from the shell's own ROS "
        "environment, and prints one line a finding: OK, note or PROBLEM with how to mend it. Exit code 1 if there is "
        "a problem. Start it with the same environment variables as the node.")
    parser.add_argument("--node", type=node_name, default="/lsm/lsm", help="full name of the node (%(default)s)")
    parser.add_argument("--seconds", type=float, default=6.0, help="how long to look (%(default)s)")
    parser.add_argument("--json", action="store_true", help="a JSON list of level, about, text and mend instead")
    return parser


def node_name(text: str) -> str:
    try:
        validate_full_topic_name(f"/{text.lstrip('/')}")        # the same rules
    except InvalidTopicNameException as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no node's full name: {str(error).split(':')[1].strip()}"
                                         ) from error
    return text


@contextmanager
def examining(name: str) -> Iterator[Examiner]:
    rclpy.init(args=[])
    examiner = Examiner(name)
    try:
        yield examiner
    finally:
        examiner.destroy_node()
        rclpy.try_shutdown()


class Examiner(Node):
    """Listens to what the node listens to, and asks the node itself."""

    def __init__(self, name: str):
        super().__init__("lsm_doctor")
        self._namespace, self._name = split_node(name)
        self.full_name = f"{self._namespace.rstrip('/')}/{self._name}"
        self.images = Images()
        self._forget_tf()
        self.statuses: dict[str, DiagnosticStatus] = {}
        self.state: str | None = None
        self.parameters: dict[str, Any] = {}
        self._image_subscription = None
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self._tf: dict[bool, Subscription] = {}         # static or not -> whence
        self._hear_tf("/tf", static=False)
        self._hear_tf("/tf_static", static=True)

    def watch(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        state = self._ask(GetState, "get_state", GetState.Request())
        values = self._ask(GetParameters, "get_parameters", GetParameters.Request(names=list(PARAMETERS)))
        while time.monotonic() < end or (self._is_silent() and time.monotonic() < end + ANSWER_S):
            rclpy.spin_once(self, timeout_sec=0.05)
            if state() and self.state is None:
                self.state = state().current_state.label
            if values() and not self.parameters:
                self.parameters = dict(zip(PARAMETERS, map(parameter_value_to_python, values().values), strict=False))
                if self.parameters.get("use_sim_time"):
                    self.set_parameters([rclpy.parameter.Parameter("use_sim_time", value=True)])
                    self.images.ages_s.clear()          # by the other clock
            self._follow_tf()
            if self._image_subscription is None and self.image_topic:
                self._listen(self.image_topic)

    def _is_silent(self) -> bool:
        """The node is there but hasn't answered yet; on a busy machine, services are found late."""
        return self.state is None and (self._name, self._namespace) in self.get_node_names_and_namespaces()

    @property
    def image_topic(self) -> str:
        """As the active node's diagnostics name it; empty otherwise."""
        return self.status("camera").get("topic", "")

    def status(self, part: str) -> dict[str, str]:
        """The values of a status of the node: camera, mapping ..."""
        status = self.statuses.get(f"{self.full_name.lstrip('/')}: {part}")
        return {pair.key: pair.value for pair in status.values} if status else {}

    def findings(self) -> list[Finding]:
        found = self._check_node()
        if self.state is not None:
            found += [*self._check_topics(), *self._check_clock(), *self._check_diagnostics()]
        if self.image_topic:
            found += [*check_images(self.image_topic, self.images, rclpy.get_rmw_implementation_identifier(),
                                    large_profile()), *self._check_camera_info()]
        return found + self._check_tf()

    # What is heard.

    def _ask(self, kind: type, name: str, request) -> Callable[[], Any]:
        """A function that returns the answer once it has come. The request waits until the service is there."""
        client, futures = self.create_client(kind, f"{self.full_name}/{name}"), []

        def answer():
            if not futures and client.service_is_ready():
                futures.append(client.call_async(request))
            return futures[0].result() if futures and futures[0].done() else None
        return answer

    def _listen(self, topic: str) -> None:
        publishers = self.get_publishers_info_by_topic(topic)
        if publishers and publishers[0].topic_type in IMAGE_TYPES:
            self._image_subscription = self.create_subscription(message_type(publishers[0].topic_type), topic,
                                                                self._on_image, sensor_qos("best_effort", 5), raw=True)

    def _follow_tf(self) -> None:
        """Hears TF where the node does, for whom it may be remapped: some robots have one each."""
        of_node = (self._name, self._namespace)
        if of_node not in self.get_node_names_and_namespaces():
            return
        for topic, types in self.get_subscriber_names_and_types_by_node(*of_node):
            for info in self._own(topic, self.get_subscriptions_info_by_topic) if TF_TYPE in types else ():
                self._hear_tf(topic, info.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL)

    def _hear_tf(self, topic: str, static: bool) -> None:
        """From there on alone; what was heard elsewhere is another robot's. Both kinds are subscribed to anew: what is
        static is told once, and would be missing."""
        topics = {kind: subscription.topic_name for kind, subscription in self._tf.items()}
        if topics.get(static) == topic:
            return
        for subscription in self._tf.values():
            self.destroy_subscription(subscription)
        self._forget_tf()
        self._tf = {kind: self.create_subscription(TFMessage, name, partial(self._on_edges, static=kind),
                                                   STATIC if kind else MOVING)
                    for kind, name in (topics | {static: topic}).items()}

    def _forget_tf(self) -> None:
        self.tree, self.parents = FrameTree(), defaultdict(set)
        self.loose: set[tuple[str, bool]] = set()       # frames that are said to hang on themselves, static or not
        # (parent, child) -> translation (3,) and unit quaternion (4,); the first that differs beside it, and no more
        self.fixed: dict[tuple[str, str], list[tuple[np.ndarray, np.ndarray]]] = defaultdict(list)

    def _on_image(self, data: bytes) -> None:
        stamp, frame_id = read_header(data)
        self.images.stamps.append(stamp)
        now = self.get_clock().now().nanoseconds
        if now:                         # a simulation's time has come
            self.images.ages_s.append((now - stamp) * 1e-9)
        self.images.sizes.append(len(data))
        self.images.frame_id = frame_id

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        self.statuses.update({status.name: status for status in message.status})

    def _on_edges(self, message: TFMessage, static: bool) -> None:
        for edge in message.transforms:
            t, q = edge.transform.translation, edge.transform.rotation
            translation, quaternion = np.array([t.x, t.y, t.z]), np.array([q.x, q.y, q.z, q.w])
            parent, child = edge.header.frame_id.lstrip("/"), edge.child_frame_id.lstrip("/")
            if parent == child:
                self.loose.add((child, static))
                continue
            self.parents[child].add(parent)
            try:
                self.tree.set(parent, child, stamp_ns(edge.header.stamp), translation, quaternion, static)
            except TransformError:
                continue                # the node counts those
            told = self.fixed[parent, child] if static else []
            pose = translation, quaternion / np.linalg.norm(quaternion)
            if static and len(told) < 2 and not any(is_same(pose, other) for other in told):
                told.append(pose)

    # What is made of it.

    def _check_node(self) -> list[Finding]:
        known = self.get_node_names_and_namespaces()
        count = known.count((self._name, self._namespace))
        others = sorted(f"{space.rstrip('/')}/{name}" for name, space in known
                        if name == "lsm" and (name, space) != (self._name, self._namespace))
        if not count:
            mend = f"look with --node {others[0]}" if others else \
                "ros2 launch lsm_ros lsm.launch.py image_topic:=..., with the same ROS_DOMAIN_ID and RMW as here"
            return [Finding(PROBLEM, "node", f"there is no {self.full_name}", mend), *self._check_published_images()]
        found = [] if count == 1 else [Finding(PROBLEM, "node", f"{count} nodes are called {self.full_name}",
                                               "give each a namespace of its own")]
        if self.state is None:
            return [*found, Finding(PROBLEM, "node", f"{self.full_name} does not answer", "look at its output")]
        if self.state != "active":
            mapping = self.statuses.get(f"{self.full_name.lstrip('/')}: mapping")
            why = f": {mapping.message}" if mapping and mapping.level == DiagnosticStatus.ERROR else ""
            return [*found, Finding(PROBLEM, "node", f"{self.full_name} is {self.state}{why}",
                                    f"ros2 lifecycle set {self.full_name} "
                                    f"{'configure' if self.state == 'unconfigured' else 'activate'}")]
        doing = self.status("mapping").get("state", "active")
        return [*found, Finding(NOTE if doing in ODD_STATES else OK, "node", f"{self.full_name} is active, {doing}",
                                ODD_STATES.get(doing, "").format(space=self._namespace.rstrip("/")))]

    def _check_published_images(self) -> list[Finding]:
        topics = sorted(f"{name} ({types[0].split('/')[-1]})" for name, types in self.get_topic_names_and_types()
                        if types[0] in IMAGE_TYPES and self.count_publishers(name) > len(
                            self._own(name, self.get_publishers_info_by_topic)))
        return [Finding(NOTE, "images", f"published here: {', '.join(topics) or 'none'}")]

    def _check_topics(self) -> list[Finding]:
        """Publishers and readers of all that the node hears and says."""
        found = []
        of_node = (self._name, self._namespace)
        for topic, types in self.get_subscriber_names_and_types_by_node(*of_node):
            if topic not in EVERYONES and TF_TYPE not in types:
                found += self._check_pairs(topic, types[0], self._endpoints(topic, self.get_publishers_info_by_topic),
                                           self._own(topic, self.get_subscriptions_info_by_topic), heard=True)
        for topic, types in self.get_publisher_names_and_types_by_node(*of_node):
            if topic not in EVERYONES and TF_TYPE not in types:
                found += self._check_pairs(topic, types[0], self._own(topic, self.get_publishers_info_by_topic),
                                           self._endpoints(topic, self.get_subscriptions_info_by_topic), heard=False)
        return found

    def _check_clock(self) -> list[Finding]:
        if not self.parameters.get("use_sim_time") or self.count_publishers("/clock"):
            return []
        return [Finding(PROBLEM, "/clock", "nobody publishes it, and the node has use_sim_time", "start the simulator, "
                        "play the recording with --clock, or set use_sim_time to false")]

    def _endpoints(self, topic: str, of: Callable) -> list:
        return [info for info in of(topic) if info.node_name != self.get_name()]

    def _own(self, topic: str, of: Callable) -> list:
        return [info for info in of(topic) if (info.node_name, info.node_namespace) == (self._name, self._namespace)]

    def _check_pairs(self, topic: str, kind: str, publishers: list, readers: list, heard: bool) -> list[Finding]:
        if heard and not publishers and kind.endswith("/CameraInfo"):
            return []                   # told apart, see _check_camera_info
        if heard and not publishers and topic == self.image_topic and self.images.stamps:
            return [Finding(NOTE, topic, "its publisher has just gone")]
        if heard and not publishers:
            return [Finding(PROBLEM, topic, "nobody publishes it", "start the driver, or set the topic's parameter"),
                    *(self._check_published_images() if kind in IMAGE_TYPES else [])]
        found = []
        for publisher in publishers:
            for reader in readers:
                other = publisher if heard else reader
                name = full_name(other)
                if publisher.topic_type != reader.topic_type:
                    found.append(Finding(PROBLEM, topic, f"{name} has it as {other.topic_type}, the node as {kind}",
                                         "image_transport, or another topic" if kind in IMAGE_TYPES else ""))
                    continue
                fits, why = qos_check_compatible(publisher.qos_profile, reader.qos_profile)
                if fits == QoSCompatibility.ERROR:
                    found.append(Finding(PROBLEM, topic, f"the QoS of {name} does not fit: {why.strip()}",
                                         "image_reliability: best_effort" if heard and kind in IMAGE_TYPES else
                                         f"change the QoS of {name}"))
        if heard and not found:
            found.append(Finding(OK, topic, f"{len(publishers)} publisher(s), {tell_qos(publishers[0].qos_profile)}; "
                                 f"the node reads {tell_qos(readers[0].qos_profile) if readers else 'it'}"))
        return found

    def _check_camera_info(self) -> list[Finding]:
        camera = self.status("camera")
        topic = camera.get("camera_info_topic", "")
        if camera.get("intrinsics") == "camera_info":
            return [Finding(OK, topic, "the intrinsics are used")]
        if self.count_publishers(topic):
            return [Finding(NOTE, topic, "it is published, but the intrinsics are estimated by the network",
                            "calibrate the camera if its K is all zeros; else camera_info_refused in the diagnostics "
                            "says why; use_camera_info")]
        return [Finding(NOTE, topic, "nobody publishes it, so the network estimates the intrinsics",
                        "calibrate the camera, or set camera_info_topic")]

    def _check_diagnostics(self) -> list[Finding]:
        camera, mapping = self.status("camera"), self.status("mapping")
        if not mapping:
            return [Finding(NOTE, "/diagnostics", f"nothing of {self.full_name} came", "look longer: --seconds 10")]
        found = [Finding(OK, "rates", f"{float(camera.get('image_rate_hz', 0)):.1f} images/s in, "
                         f"{float(mapping.get('window_rate_hz', 0)):.2f} windows/s out")]
        drops = {key: value for key, value in mapping.items() if value.isdigit() and value != "0" and key not in GOOD}
        if drops:
            found.append(Finding(NOTE, "counts", ", ".join(f"{key} {value}" for key, value in drops.items())))
        for part in ("camera", "mapping"):
            status = self.statuses.get(f"{self.full_name.lstrip('/')}: {part}")
            if status and self.state == "active" and status.level in (DiagnosticStatus.WARN, DiagnosticStatus.ERROR):
                found.append(Finding(PROBLEM if status.level == DiagnosticStatus.ERROR else NOTE, part, status.message))
        return found

    def _check_tf(self) -> list[Finding]:
        found = [Finding(PROBLEM, "TF", f"{child!r} has {len(parents)} parents: {', '.join(sorted(parents))}",
                         "a frame has one; stop one of the publishers, or change tf_mode")
                 for child, parents in sorted(self.parents.items()) if len(parents) > 1]
        found += [Finding(PROBLEM, "TF", f"{frame!r} is said to hang on itself, on {self._tf[static].topic_name} by "
                          f"{self._tellers(static)}", "name the parent and the child that are meant")
                  for frame, static in sorted(self.loose)]
        found += [Finding(PROBLEM, "TF", f"static {parent} -> {child} has more than one value: "
                          f"{'; '.join(tell_pose(*pose) for pose in poses)}; static TF is told by "
                          f"{self._tellers(static=True)}", "stop one of the publishers; each listener keeps the value "
                          "that comes last")
                  for (parent, child), poses in sorted(self.fixed.items()) if len(poses) > 1]
        if rings := self.tree.rings():          # which every look-up would name, one of them, and mend otherwise
            return found + [Finding(PROBLEM, "TF", f"TF is a ring: {' -> '.join([*ring, ring[0]])}",
                                    "each hangs on the next one; stop the publisher of one of these transforms")
                            for ring in rings]
        if self.images.stamps and not self.images.frame_id:
            return [*found, Finding(PROBLEM, "TF", "the images have no frame_id", "set that of the driver to the "
                                    "camera's optical frame (x right, y down, z forward)")]
        return [*found, *self._check_odometry(), *self._check_mount()] if self.images.frame_id else found

    def _tellers(self, static: bool) -> str:
        """Who publishes that TF; a message does not say which of them it is from."""
        publishers = self.get_publishers_info_by_topic(self._tf[static].topic_name)
        return ", ".join(sorted({full_name(publisher) for publisher in publishers})) or "nobody who is still there"

    def _check_odometry(self) -> list[Finding]:
        odom, camera = self.parameters.get("odom_frame"), self.images.frame_id
        if not odom:
            return []
        if not self.tree.knows(odom):
            level = PROBLEM if self.parameters.get("tf_mode") == "map_odom" else NOTE
            return [Finding(level, "TF", f"nobody publishes {odom!r}, so the map goes without odometry",
                            "set odom_frame, or start the odometry")]
        try:
            self.tree.lookup(odom, camera, self.images.stamps[-AWAITED:][0])
            return [Finding(OK, "TF", f"{odom} -> {camera} is known at the images' stamps")]
        except TooEarlyError as error:
            wait_s = self.parameters.get("input_wait_s", 0.0)
            level = PROBLEM if error.behind_s > OLD_S else NOTE
            return [Finding(level, "TF", f"{odom} -> {camera} is behind the newest image: {error}",
                            f"input_wait_s is {wait_s:g}; are the clocks of camera and odometry one?")]
        except TransformError as error:
            return [Finding(PROBLEM, "TF", str(error), f"{PLACE_CAMERA}, or set odom_frame to ''")]

    def _check_mount(self) -> list[Finding]:
        """Which way the camera looks by TF, and whether its height is known."""
        floor, found = self.parameters.get("floor_frame"), []
        if floor and not self.tree.knows(floor) and not self.parameters.get("mapper.camera_height_m"):
            found.append(Finding(NOTE, "TF", f"nobody publishes {floor!r}, so the camera's height is unknown",
                                 "set floor_frame, or mapper.camera_height_m"))
        for frame in filter(None, (floor, self.parameters.get("base_frame"))):
            try:
                T_robot_cam = self.tree.lookup(frame, self.images.frame_id, self.images.stamps[-AWAITED:][0])
            except TransformError as error:
                # Where there is odometry, that has said so.
                if self.tree.knows(frame) and not self.tree.knows(self.parameters.get("odom_frame") or ""):
                    return [*found, Finding(PROBLEM, "TF", str(error), PLACE_CAMERA)]
                continue
            if T_robot_cam[2, 2] > LOOKS_UP:
                found.append(Finding(PROBLEM, "TF", f"by TF {self.images.frame_id!r} looks straight up from {frame!r}, "
                                     "as a frame with x forward does", "the frame_id of the images must be the "
                                     "camera's optical frame: x right, y down, z forward"))
            break
        return found


def check_environment() -> list[Finding]:
    """Middleware, versions, and the variables that decide who sees whom."""
    given = [f"{name}={os.environ[name]}" for name in ENVIRONMENT if name in os.environ]
    found = [Finding(OK, "environment", ", ".join([rclpy.get_rmw_implementation_identifier(), *given]))]
    found += [Finding(PROBLEM, "environment", f"{name} is {os.environ[name]}, which is no file", "correct or unset it")
              for name in PROFILES if name in os.environ and not Path(os.environ[name]).is_file()]
    import torch  # takes a second, which --help need not wait for
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no CUDA device, so the CPU maps"
    found.append(Finding(OK, "versions", f"numpy {np.__version__}, torch {torch.__version__}; {device}"))
    try:
        importlib.import_module("cv_bridge")
        found.append(Finding(OK, "cv_bridge", "installed"))
    except ModuleNotFoundError:
        found.append(Finding(OK, "cv_bridge", "not installed; only unusual image encodings need it"))
    except Exception as error:          # noqa: BLE001 a build for another numpy raises what it likes
        found.append(Finding(NOTE, "cv_bridge", f"installed, but broken: {error}", "only unusual encodings need it"))
    return found


def check_images(topic: str, images: Images, rmw: str, has_profile: bool) -> list[Finding]:
    """Rate, size and stamps of what came."""
    if not images.stamps:
        return [Finding(PROBLEM, topic, "no image came", "see the publishers and their QoS above")]
    if len(images.stamps) < 3:
        return [Finding(NOTE, topic, f"only {len(images.stamps)} image(s) came", "look longer: --seconds 20")]
    gaps_s = np.diff(images.stamps) * 1e-9
    return [*_check_size(topic, images.sizes, gaps_s, rmw, has_profile), *_check_stamps(topic, images, gaps_s)]


def _check_size(topic: str, sizes: Sequence[int], gaps_s: np.ndarray, rmw: str, has_profile: bool) -> list[Finding]:
    forward = gaps_s[gaps_s > 0]
    period_s = float(np.percentile(forward, 20)) if forward.size else np.inf    # lost images make the long gaps
    lost = 1 - forward.size / np.maximum(1, np.rint(forward / period_s)).sum() if forward.size else 0.0
    told = f"{1 / period_s:.1f} images/s of {max(sizes) / 1e6:.2f} MB, {lost:.0%} of them missing"
    if max(sizes) <= FAST_DDS_LIMIT or "fastrtps" not in rmw:
        return [Finding(OK if lost <= LOST else NOTE, topic, told)]
    mend = (f"start the camera with {PROFILES[0]} (after Jazzy {PROFILES[1]})="
            f"{resource('config/fastdds_large_messages.xml')}, or use compressed images")
    if lost > LOST:
        return [Finding(PROBLEM, topic, f"{told}; more than 0.5 MB does not fit Fast DDS's shared memory", mend)]
    return [Finding(OK if has_profile else NOTE, topic, told, "" if has_profile else mend)]


def _check_stamps(topic: str, images: Images, gaps_s: np.ndarray) -> list[Finding]:
    found = []
    if not all(images.stamps):
        found.append(Finding(PROBLEM, topic, f"{images.stamps.count(0)} images have the stamp 0",
                             "the driver must stamp them; odometry and order hang on it"))
    elif (gaps_s <= 0).any():
        found.append(Finding(PROBLEM, topic, f"the stamps go back or stand still {int((gaps_s <= 0).sum())} times, by "
                             f"up to {-gaps_s.min():.3f} s", "two publishers on one topic, or a recording that loops"))
    if not images.ages_s:
        return found or [Finding(OK, topic, "stamps in order")]
    age_s = float(np.median(images.ages_s))
    if abs(age_s) > OTHER_CLOCK_S:
        found.append(Finding(NOTE, topic, f"the images are {age_s:.0f} s old by this clock",
                             "a recording or a simulation: use_sim_time; or set the camera's clock"))
    elif age_s < -AHEAD_S:
        found.append(Finding(PROBLEM, topic, f"the stamps are {-age_s:.3f} s in the future",
                             "set the machines' clocks"))
    elif age_s > OLD_S:
        found.append(Finding(NOTE, topic, f"the images are {age_s:.2f} s old when they come",
                             "the driver or the network is slow"))
    return found or [Finding(OK, topic, f"stamps in order, {age_s * 1e3:.0f} ms old when they come")]


def large_profile() -> bool:
    """Whether this shell's Fast DDS has a shared memory that holds more than the default."""
    paths = [Path(os.environ[name]) for name in PROFILES if name in os.environ]
    texts = [path.read_text("utf8", "replace") for path in paths if path.is_file()]
    return any(int(size) > FAST_DDS_LIMIT for text in texts for size in re.findall(r"<segment_size>(\d+)", text))


def read_header(data: bytes) -> tuple[int, str]:
    """Stamp in ns and frame_id of a serialized message that begins with a std_msgs/Header (CDR).

    Raises InputError for fewer bytes.
    """
    order = "<" if data[1:2] == b"\x01" else ">"
    try:
        sec, nanosec, length = struct.unpack_from(f"{order}iII", data, 4)
    except struct.error as error:
        raise InputError(f"{len(data)} bytes hold no header") from error
    return sec * 1_000_000_000 + nanosec, bytes(data[16:16 + length - 1]).decode("utf8", "replace")


def full_name(endpoint) -> str:
    """Of the node that a publisher or reader belongs to."""
    return f"{endpoint.node_namespace.rstrip('/')}/{endpoint.node_name}"


def is_same(pose: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray]) -> bool:
    """Whether two poses, translation (3,) in metres and unit quaternion (4,), are one; a quaternion has two signs."""
    (t_a, q_a), (t_b, q_b) = pose, other
    turn = 2 * min(np.linalg.norm(q_a - q_b), np.linalg.norm(q_a + q_b))        # radians, where it is small
    return bool(np.linalg.norm(t_a - t_b) <= SAME_M and turn <= SAME_RAD)


def tell_pose(translation: np.ndarray, quaternion: np.ndarray) -> str:
    """As static_transform_publisher takes it: x y z, qx qy qz qw."""
    xyz, xyzw = (" ".join(f"{value:.4g}" for value in values) for values in (translation, quaternion))
    return f"xyz {xyz}, quaternion {xyzw}"


def tell_qos(profile) -> str:
    return f"{profile.reliability.name.lower()}, {profile.durability.name.lower()}"
