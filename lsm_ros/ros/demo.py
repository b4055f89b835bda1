"""`lsm demo`: the real node, a player and a recorder as processes over real DDS, and what came of it in a folder."""
from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from tqdm import tqdm

from lsm_ros.data.messages import cloud
from lsm_ros.data.outputs import read_ply
from lsm_ros.data.recording import RecordingSequence
from lsm_ros.data.sequences import open_sequence
from lsm_ros.data.topics import raw_topic, transported
from lsm_ros.errors import AlignmentError, InputError, OutputError
from lsm_ros.evaluation.run import RunScore, read_trajectory, score_run
from lsm_ros.labels import LabelSet
from lsm_ros.resources import resource
from lsm_ros.ros.doctor import PROFILES
from lsm_ros.ros.player import PlayerConfig, RecordedMessages, SequenceMessages
from lsm_ros.srv import SaveMap

START_S, SAVE_S, STOP_S = 60.0, 300.0, 10.0     # how long the node may take to start, to save, to stop
IDLE_S = 2.5                                    # no window for this long after the last image: the node is done
EXIT_TERMINATED = 143
LAST_DOMAIN = 232                               # beyond it DDS has no ports
SETTLE_S = 2.0                                  # for the map's last publication to reach the recorder


@dataclass(frozen=True)
class Source:
    """What is played and on which topics it comes."""
    path: Path
    image_topic: str            # the raw topic, without /compressed
    transport: str
    topics: tuple[str, ...]     # of the camera and the truth, to be recorded too
    images: int | None


def main(argv: list[str] | None = None) -> int:
    arguments = build_parser().parse_args(argv)
    source = open_source(arguments.recording, arguments.image_topic)
    folder = arguments.output.absolute()
    prepare(folder, source.path)
    corner = own_corner_of_dds(arguments.domain)
    print("to look on:", *(f"{name}={value}" for name, value in corner.items()), "rviz2", flush=True)
    try:
        play(source, folder, arguments)
        report(folder, source, score_recording(folder, source))
    except ExternalShutdownException:           # SIGTERM; what it had started has ended by now
        return EXIT_TERMINATED
    return 0


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lsm demo", description="Plays a recording into the real ROS 2 node, in processes of their own over DDS, "
        "and leaves the map, the trajectory, the objects, pictures and a rosbag2 of all that it published in a folder.")
    parser.add_argument("-o", "--output", type=Path, default=Path("lsm_demo"),
                        help="folder of the results (%(default)s)")
    parser.add_argument("--recording", type=Path, default=None,
                        help="a rosbag2, a folder of images or a video, instead of the shipped apartment")
    parser.add_argument("--image-topic", metavar="TOPIC", help="the camera, in a rosbag2 that has several")
    parser.add_argument("--rate", type=float, default=PlayerConfig().rate, help="speed of the player (%(default)s)")
    parser.add_argument("--device", default=None, help="where the network runs: auto, cpu, cuda or cuda:N")
    parser.add_argument("--domain", metavar="N", type=domain_id, default=None,
                        help="the DDS domain (ROS_DOMAIN_ID) of the demo [default: one of its own, so that no running "
                             "node takes its images for a camera's]")
    parser.add_argument("--params", type=Path, default=None,
                        help="a parameter file for the node (config/lsm.yaml shows all)")
    return parser


def domain_id(text: str) -> int:
    value = int(text)
    if not 0 <= value <= LAST_DOMAIN:
        raise argparse.ArgumentTypeError(f"{value} is no DDS domain; there are 0 to {LAST_DOMAIN}")
    return value


def open_source(recording: Path | None, image_topic: str | None = None) -> Source:
    """Raises InputError where a recording has several image topics and none of them is asked for, or what is asked for
    is a topic of no recording."""
    path = Path(recording or resource("recordings/apartment")).absolute()
    sequence = open_sequence(path, image_topic=image_topic)
    if not isinstance(sequence, RecordingSequence):
        if image_topic:
            raise InputError(f"{path} is no rosbag2, so it has no topic {image_topic}")
        config = PlayerConfig()
        return Source(path, raw_topic(config.topic), config.image_transport,
                      tuple(SequenceMessages(sequence, config).types), sequence.length)
    compressed = sequence.topics[sequence.image_topic].endswith("/CompressedImage")
    return Source(path, raw_topic(sequence.image_topic), "compressed" if compressed else "raw",
                  tuple(sequence.topics), sequence.length)


def prepare(folder: Path, source: Path) -> None:
    """Makes the folder; what an earlier demo recorded and scored in it goes, since a rosbag2 can't be written over.

    Raises OutputError where a recording lies there that no demo has made, or that is the source.
    """
    recording, log = folder / "recording", folder / "logs" / "recorder.log"
    if recording.exists() and (not log.exists() or recording in (source, *source.parents)):
        raise OutputError(f"{recording} would be overwritten; choose another folder for the results")
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        if recording.exists():
            shutil.rmtree(recording)
        (folder / "score.json").unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"the demo can't write into {folder}: {error.strerror or error}") from error


def own_corner_of_dds(domain: int | None = None) -> dict[str, str]:
    """Keeps this process and those that it starts apart from other ROS systems: in a domain that is not the shell's,
    where a robot may be listening, and from ROS 2 Iron on, which has a variable for that, on this machine alone. With
    `domain` they are in that one, and discover as far as the shell says. Returns the variables of the environment that
    say so."""
    reach = "LOCALHOST"
    if domain is None:
        domain = 1 + os.getpid() % 100
        if str(domain) == os.environ.get("ROS_DOMAIN_ID"):
            domain = 1 + domain % 100
    else:
        reach = os.environ.get("ROS_AUTOMATIC_DISCOVERY_RANGE", reach)
    corner = {"ROS_DOMAIN_ID": str(domain), "ROS_AUTOMATIC_DISCOVERY_RANGE": reach}
    os.environ.update(corner)
    return corner


def play(source: Source, folder: Path, arguments: argparse.Namespace) -> None:
    """Runs the three processes until the recording is played, mapped and saved. Raises InputError where one fails."""
    device = {"predictor.device": arguments.device} if arguments.device else {}
    with (program("recorder", folder, {"folder": folder / "recording", "topics": ",".join(source.topics)}) as recorder,
          program("node", folder, {"image_topic": source.image_topic, "image_transport": source.transport, **device},
                  arguments.params) as node,
          program("player", folder, {"source": source.path, "image_topic": source.image_topic,
                                     "image_transport": source.transport, "rate": arguments.rate,
                                     "wait_for_subscribers": 2}) as player,
          watching() as watcher):
        watcher.follow(player, node, source.images)
        watcher.save(folder)
        watcher.spin(SETTLE_S)
        recorder.ended()        # raises, if there is no recording or but half of one


@dataclass(frozen=True)
class Program:
    name: str
    process: subprocess.Popen
    log: Path

    def ended(self) -> bool:
        """Raises InputError with the end of its log if it failed."""
        status = self.process.poll()
        if status:
            raise InputError(f"{self.name} ended with status {status}; the end of {self.log}:\n"
                             + "\n".join(self.log.read_text("utf8", "replace").splitlines()[-10:]))
        return status is not None

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


@contextmanager
def program(name: str, folder: Path, parameters: dict, file: Path | None = None) -> Iterator[Program]:
    """One of this package's ROS executables with its output in logs/NAME.log; interrupted at the end.

    Args:
        parameters: name to a number, text or path.
    """
    command = [sys.executable, "-m", f"lsm_ros.ros.{name}", "--ros-args"]
    command += ["--params-file", str(file.absolute())] if file else []
    command += [part for key, value in parameters.items() for part in ("-p", f"{key}:={in_yaml(value)}")]
    environment = os.environ | room_for_images()
    log = folder / "logs" / f"{name}.log"
    with log.open("w") as output:
        # From a folder that holds no source tree of lsm_ros, which would hide the installed package's messages.
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT)
    running = Program(name, process, log)
    try:
        yield running
    finally:
        running.stop()


def room_for_images() -> dict[str, str]:
    """The variables of the environment by which Fast DDS has room for raw images, most of which it loses otherwise;
    none where the caller has chosen profiles for it."""
    if any(name in os.environ for name in PROFILES):
        return {}
    return dict.fromkeys(PROFILES, str(resource("config/fastdds_large_messages.xml")))


def in_yaml(value: float | str | Path) -> str:
    """As rcl reads it back, which takes 'a #2' for 'a', and '0' for a number."""
    return json.dumps(str(value) if isinstance(value, Path) else value, ensure_ascii=False)


@contextmanager
def watching() -> Iterator[Watcher]:
    rclpy.init(args=[])
    watcher = Watcher()
    try:
        yield watcher
    finally:
        watcher.destroy_node()
        rclpy.try_shutdown()


class Watcher(Node):
    """Follows the node by its diagnostics and asks it to save."""

    def __init__(self):
        super().__init__("lsm_demo")
        self.told: dict[str, dict[str, str]] = {}           # status -> its values: mapping, latency, process, ...
        self.fault = ""
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            name = status.name.removeprefix("lsm/lsm: ")
            self.told[name] = {pair.key: pair.value for pair in status.values}
            if name == "mapping":
                self.fault = status.message if self.mapping["state"] == "unconfigured" else ""

    @property
    def mapping(self) -> dict[str, str]:
        return self.told.get("mapping", {})

    def follow(self, player: Program, node: Program, images: int | None) -> None:
        """Shows the progress until the source is played and the node has nothing left to do."""
        with tqdm(total=images, unit="image", desc="mapping", dynamic_ncols=True, mininterval=0.5) as bar:
            def advance() -> None:
                bar.update(int(self.mapping.get("images_received", 0)) - bar.n)
                bar.set_postfix(windows=self.mapping.get("mapper.windows", 0),
                                state=self.mapping.get("state", "starting"), refresh=False)

            self.wait(lambda: self.mapping.get("images_received"), START_S, "for the first image", node, player,
                      advance)
            while not player.ended() and not node.ended():
                self.spin(0.2)
                advance()
            # The last window is published before the diagnostics call it old.
            self.wait(lambda: float(self.mapping.get("window_age_s", 0)) > IDLE_S, START_S, "for the last window", node,
                      player, advance)

    def save(self, folder: Path) -> None:
        client = self.create_client(SaveMap, "/lsm/save_map")
        self.wait(client.service_is_ready, START_S, "for the service save_map")
        answer = client.call_async(SaveMap.Request(folder=str(folder)))
        self.wait(answer.done, SAVE_S, "for the map to be saved")
        if not answer.result().success:
            raise OutputError(answer.result().message)

    def wait(self, condition: Callable[[], object], timeout_s: float, what: str, node: Program | None = None,
             player: Program | None = None, advance: Callable[[], None] = lambda: None) -> None:
        end = time.monotonic() + timeout_s
        while not condition():
            if self.fault:
                raise InputError(f"the node can't start: {self.fault}")
            for running in filter(None, (node, player)):
                running.ended()
            if time.monotonic() > end:
                raise InputError(f"waited {timeout_s:.0f} s {what}, in vain; the node said: {self.mapping}")
            self.spin(0.1)
            advance()

    def spin(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            rclpy.spin_once(self, timeout_sec=left)


def score_recording(folder: Path, source: Source) -> RunScore | str:
    """Compares what the node published with the truth that was recorded beside it; or says why that can't be done,
    which takes nothing from the run.

    The truth's labels are those of the shipped set, so a run with others has no label scores.
    """
    labels = LabelSet.load()
    try:
        recorded = open_sequence(folder / "recording", image_topic=transported(source.image_topic, source.transport))
        clouds = {stamp: cloud(message) for _, stamp, _, message in
                  RecordedMessages(recorded, only="/lsm/semantic_cloud")}
        _, names = read_ply(folder / "cloud.ply")
        truth = recorded if names == labels.names else (replace(item, labels=None) for item in recorded)
        return score_run(read_trajectory(folder / "trajectory.txt"), clouds, truth, labels)
    except AlignmentError:
        return "too few of the mapped images have a true pose"
    except InputError as error:
        return str(error)


def report(folder: Path, source: Source, score: RunScore | str) -> None:
    """Prints the table and writes score.json."""
    summary = json.loads((folder / "summary.json").read_text("utf8"))
    counters, latency = summary["counters"], summary["latency_s"]
    total, network = latency["stamp_to_cloud"]["median"], latency["network"]["median"]
    replaced, unreadable = (counters.get(name, 0) for name in ("images_replaced_by_newer", "images_refused"))
    objects = sum(summary["objects"].values())
    rows = {
        "frames": f"{source.images} sent, {counters['images_received']} received; of these {replaced} gave way to a "
                  f"newer one, {unreadable} unreadable",
        "windows": f"{counters['windows']} mapped, {counters['refused_windows']} refused",
        "latency": f"{total:.2f} s from an image's stamp to its cloud (median), {network / total:.0%} of it network",
        "memory": f"{summary['memory']['peak_mb']:.0f} MB, the node's peak",
        "map": f"{summary['points']:,} points, {len(summary['class_shares'])} classes, {objects} objects",
    }
    if isinstance(score, str):
        rows["errors"] = f"unknown: {score}"
    else:
        rows["trajectory"] = (f"ATE {score.ate_sim3_m:.3f} m over {score.path_length_m:.1f} m after a Sim(3) "
                              f"alignment, {score.ate_se3_m:.3f} m after SE(3); scale {score.scale:.2f}")
        if score.absrel is not None:
            rows["depth"] = (f"AbsRel {score.absrel:.3f} ({score.absrel_metric:.3f} in metres), "
                             f"{score.delta125:.0%} within a factor of 1.25; {score.frames} of the clouds have a truth")
        if score.miou is not None:
            rows["labels"] = f"{score.label_accuracy:.0%} of the points right, mIoU {score.miou:.2f}"
        (folder / "score.json").write_text(json.dumps(asdict(score), indent=2) + "\n", "utf8")
    rows["results"] = str(folder)
    print("\n" + "\n".join(f"  {name:<11} {text}" for name, text in rows.items()))
