"""The `lsm` command: the map without ROS, the evaluation, the training, the demo."""
from __future__ import annotations

import lsm_ros.threads  # noqa: F401  (before numpy and torch)

# isort: split
import argparse
import io
import os
import re
import signal
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from importlib import metadata
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lsm_ros.arguments import add_options, read_options
from lsm_ros.config import MapperConfig, PredictorConfig
from lsm_ros.data.frames import DEFAULT_RATE_HZ
from lsm_ros.errors import AlignmentError, InputError, LsmError
from lsm_ros.memory import tune_allocator
from lsm_ros.ros.presence import check_ros

if TYPE_CHECKING:       # torch and OpenCV take a second to load, which --help need not wait for
    from lsm_ros.data.frames import Sequence, SequenceFrame
    from lsm_ros.data.outputs import RunLog
    from lsm_ros.mapping.mapper import Mapper

EXIT_BAD_INPUT, EXIT_INTERRUPTED, EXIT_UNREAD = 2, 130, 141
FROM_PIP_ALONE = ("torch", "safetensors", "rosbags")        # no rosdep keys: a shell without the environment lacks them
NO_IMAGE = np.empty((0, 0, 3), np.uint8)
TRAJECTORY_ERRORS = ("path_length_m", "ate_sim3_m", "ate_se3_m", "scale", "rotation_deg_median")

DESCRIPTION = """\
From one camera to a labelled map: lsm looks at a few frames at a time with one small network, and joins what it sees
into a cloud whose points know their class, the camera's path, and the objects.
"""

EXAMPLES = """\
examples:
  lsm map walk.mp4 -o walk                      a video; the results in the folder walk/
  lsm map photos/ --intrinsics 525,525,320,240  a folder of images of a calibrated camera (fx,fy,cx,cy)
  lsm map bag/ --image-topic /left/image_raw    a rosbag2 of several cameras
  lsm map 0                                     the first camera of this machine; Ctrl-C ends it and saves
  lsm view walk                                 the map that lsm map wrote, in 3-D
  lsm demo                                      the whole ROS 2 node on the shipped recording
  lsm eval FOLDER --views 4                     errors on a folder with the truth beside the images
  lsm bench                                     what mapping costs on this machine, stage by stage
  lsm doctor                                    what is wrong with the running node, its camera, its TF
  lsm labels                                    the classes that the map tells apart

Each command has its own --help. Exit code: 0 all good, 1 the doctor found a problem or a section of the bench failed,
2 unusable input or option (one line says which; what lsm map had mapped before that is saved), 130 Ctrl-C.
"""

MAP_DESCRIPTION = """\
Maps a camera without ROS: the same mapper as the node's.

SOURCE is one of
  a video file            anything that OpenCV opens
  a folder of images      in the natural order of their names, or by time where these are times (1305031102.175304 in
                          seconds; milli-, micro- or nanoseconds since 1970); with color/, depth/, pose/,
                          intrinsics.txt inside it is read as a data set
  a rosbag2               a folder, or its .mcap or .db3 file; Image or CompressedImage, CameraInfo where there is one
  a camera                0, 1, ... or /dev/video0, or a stream such as rtsp://...

DIR gets
  cloud.ply               points with colour, label (a number, named in the file's comments) and confidence; for Open3D,
                          CloudCompare, MeshLab
  trajectory.txt          the camera at every keyframe, TUM format: seconds x y z qx qy qz qw
  objects.json            name, centre, size, yaw and confidence of every object
  summary.json            counts, shares of the classes, time of every stage, the options of this run
  pictures/               the map by colour and by class, frames with depth and labels
  map.safetensors         all of it, for the node's service load_map

The map is z up, in metres, the floor at z = 0 once it is found, the first camera above the origin. Where the camera was
lost and nothing ties what came then to what was before, the larger map is saved.

A source that fails half-way, or a camera or stream that gives no more frames, ends the map: what there is is saved, and
the exit code is 2. Ctrl-C saves, too; twice gives it up.
"""

VIEW_DESCRIPTION = """\
Shows a map in 3-D with rerun (rerun.io), which is installed by `pip install 'rerun-sdk>=0.39'`.

PATH is one of
  a saved map             a folder of `lsm map` or of the node's service save_map; keyframes with their images and the
                          pose graph are there if it holds map.safetensors
  a recording             a rosbag2 of what the node published: a folder, or its .mcap or .db3 file; map, path, camera,
                          objects and pose graph change over time

The ceiling is hidden; the entities cloud/class/ceiling and cloud/colour/ceiling in the left panel show it. rerun's
viewer reports anonymous usage statistics to its makers; `rerun analytics disable` turns that off.
"""


def main(argv: list[str] | None = None) -> int:
    """Runs the command line and returns its exit code."""
    argv = sys.argv[1:] if argv is None else argv
    tune_allocator()
    escape_unprintable()
    try:
        code = dispatch(argv)
        sys.stdout.flush()                      # here, for an error at exit would be nobody's
        return code
    except BrokenPipeError:                     # whoever read it, `head` say, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_UNREAD
    except (LsmError, OSError) as error:        # an OSError is of the system: no permission, a disk that is gone, ...
        print(f"lsm: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except ModuleNotFoundError as error:
        if error.name not in FROM_PIP_ALONE:
            raise
        print(f"lsm: {sys.executable} has no {error.name}; activate the environment of README.md",
              file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def dispatch(argv: list[str]) -> int:
    if argv and argv[0] in DELEGATES:           # these have parsers of their own
        return DELEGATES[argv[0]](argv[1:]) or 0
    arguments = make_parser().parse_args(argv)
    return arguments.run(arguments)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lsm", description=DESCRIPTION, epilog=EXAMPLES,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--version", action="version", version=f"lsm {version()}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    map_parser = commands.add_parser("map", help="map a video, a folder of images, a rosbag2 or a camera",
                                     description=MAP_DESCRIPTION,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    map_parser.add_argument("source", metavar="SOURCE", help="what to map, see above")
    map_parser.add_argument("-o", "--output", metavar="DIR", default="lsm_map", type=Path,
                            help="folder for the results; files of an earlier run are replaced [default %(default)s]")
    map_parser.add_argument("--stride", metavar="N", type=positive, default=1,
                            help="take every N-th image [default %(default)s]")
    map_parser.add_argument("--max-frames", metavar="N", type=positive, help="stop after N images")
    map_parser.add_argument("--intrinsics", metavar="FX,FY,CX,CY|none|source", type=read_intrinsics, default="source",
                            help="the camera's calibration in pixels of the source's images, as OpenCV gives it; none "
                                 "lets the network estimate it even where the source knows it [default %(default)s: "
                                 "what that says, if anything]")
    map_parser.add_argument("--rate", metavar="HZ", type=positive_number, default=DEFAULT_RATE_HZ,
                            help="images a second of a folder whose names are no times [default %(default)s]")
    map_parser.add_argument("--image-topic", metavar="TOPIC", help="the camera, in a rosbag2 that has several")
    add_options(map_parser, PredictorConfig, "network")
    add_options(map_parser, MapperConfig, "map", aliases={"window_views": "--views", "voxel_size_m": "--voxel"})
    map_parser.set_defaults(run=run_map)

    view_parser = commands.add_parser("view", help="look at a saved map or a recording of the node in 3-D",
                                      description=VIEW_DESCRIPTION,
                                      formatter_class=argparse.RawDescriptionHelpFormatter)
    view_parser.add_argument("path", metavar="PATH", type=Path, help="what to look at, see above")
    view_parser.add_argument("--save", metavar="FILE.rrd", type=Path,
                             help="write a file for `rerun FILE.rrd` instead of opening a window; needs no screen")
    view_parser.add_argument("--labels", metavar="FILE",
                             help="label file (YAML) with the colours [default: the shipped indoor set]")
    view_parser.add_argument("--namespace", metavar="NS", help="the node's, in a recording of several, such as /lsm")
    view_parser.add_argument("--image-topic", metavar="TOPIC", help="the camera, in a recording that has several")
    view_parser.set_defaults(run=run_view)

    labels_parser = commands.add_parser("labels", help="print the classes",
                                        description="Prints the classes of a label set: number, colour, name.")
    labels_parser.add_argument("--labels", metavar="FILE", help="label file (YAML) [default: the shipped indoor set]")
    labels_parser.set_defaults(run=run_labels)

    for name, text in (("demo", "run the real ROS 2 node on the shipped recording and look at its results"),
                       ("doctor", "look at the running ROS 2 system and say what is wrong"),
                       ("eval", "measure the network on recordings with truth, or on rendered rooms"),
                       ("bench", "measure what mapping costs on this machine"),
                       ("train", "train the network on rendered rooms")):
        commands.add_parser(name, help=text, add_help=False)
    return parser


def run_map(arguments: argparse.Namespace) -> int:
    """Maps a source, with a progress bar, and writes the results. Ctrl-C ends the source and saves; twice doesn't.

    Returns EXIT_BAD_INPUT, too, where the source failed after something was mapped, which is saved.
    """
    from lsm_ros.data.outputs import Run, RunLog, check_output, save_run, summarize
    from lsm_ros.data.recording import RecordingSequence
    from lsm_ros.data.sequences import open_sequence
    from lsm_ros.mapping.mapper import Mapper
    from lsm_ros.mapping.saved_map import FILE, write_map
    from lsm_ros.model.engine import NetworkPredictor

    predictor_config, mapper_config = (read_options(arguments, kind) for kind in (PredictorConfig, MapperConfig))
    sequence = open_sequence(arguments.source, stride=arguments.stride, intrinsics=arguments.intrinsics,
                             image_topic=arguments.image_topic, rate_hz=arguments.rate)
    if arguments.image_topic and not isinstance(sequence, RecordingSequence):
        raise InputError(f"{arguments.source} is no rosbag2, so it has no topic {arguments.image_topic}")
    check_output(arguments.output)          # before hours are spent
    predictor = NetworkPredictor(predictor_config)
    mapper = Mapper(predictor, predictor.labels, mapper_config, predictor.describe)
    log, started_s = RunLog(), time.monotonic()
    with stop_on_interrupt() as stopped:
        truth, refused, failed = push_all(sequence, mapper, log, stopped, arguments.max_frames)
        if not log.windows:
            raise InputError(f"nothing of {arguments.source} could be mapped: {tell_counters(mapper.counters)}"
                             + (f"; {refused or mapper.last_refusal}" if refused or mapper.last_refusal else ""))
        if mapper.counters.new_maps > mapper.counters.joined_maps:
            mapper.take_largest()
            print("lsm: the camera was lost on the way; of its maps, which nothing ties to each other, the largest is "
                  "saved", file=sys.stderr)
        mapper.settle()
        if mapper_config.scale_source not in ("auto", mapper.metric.source):
            print(f"lsm: --scale-source {mapper_config.scale_source}: too little told it; the map's metre is that of "
                  f"{mapper.metric.source}", file=sys.stderr)
        cloud = mapper.map_cloud()
        if not len(cloud):
            raise InputError(f"nothing of {arguments.source} could be mapped: {tell_counters(mapper.counters)}; a "
                             f"point is shown once {mapper_config.min_observations} keyframes have seen it "
                             "(--min-observations), and a camera that stands makes one")
        run = Run(cloud, mapper.trajectory(), mapper.objects(), predictor.labels,
                  title=sequence.name, samples=log.samples(), summary={
                      "source": str(arguments.source), "version": version(),
                      "wall_s": round(time.monotonic() - started_s, 2), "unreadable": sequence.skipped,
                      "counters": asdict(mapper.counters), "latency_s": log.latency(),
                      "trajectory_errors": score_path(mapper, truth),
                      "options": {"network": asdict(predictor_config), "map": asdict(mapper_config)}})
        files = save_run(arguments.output, run, also={FILE: partial(write_map, state=mapper.state())})
    print_summary(summarize(run), files)
    if stopped.is_set():
        return EXIT_INTERRUPTED
    return EXIT_BAD_INPUT if failed else 0


def push_all(sequence: Sequence, mapper: Mapper, log: RunLog, stopped: threading.Event,
             max_frames: int | None) -> tuple[list[SequenceFrame], str, bool]:
    """Pushes the frames of a sequence until it ends or fails, or `stopped` is set.

    A frame that can't be used is left out; each kind of trouble is told once, and in the end how many there were.
    Returns the mapped frames whose true pose is known, without their images, what was wrong with the last frame that
    was left out, and whether the sequence failed, which is told. Raises InputError where it failed before anything was
    mapped.
    """
    from tqdm import tqdm

    truth, refused, failed, told, left_out = [], "", False, set(), 0
    total = min(filter(None, (sequence.length, max_frames)), default=None)
    with tqdm(total=total, unit="frame", desc=sequence.name, disable=None, dynamic_ncols=True) as bar:
        try:
            for item in islice(sequence, max_frames):
                if stopped.is_set():
                    break
                bar.update()
                try:
                    update = mapper.push(item.frame)
                except InputError as error:
                    refused = str(error)
                    kind = re.sub(r"\d+", "", refused)          # but for the stamp or the size in it
                    if kind not in told:
                        bar.write(f"frame left out: {error}", file=sys.stderr)
                    told.add(kind)
                    left_out += 1
                    continue
                if update is None:
                    continue
                log.add(item.frame, update)
                if item.T_world_cam is not None:
                    truth.append(replace(item, frame=replace(item.frame, image=NO_IMAGE), depth=None, labels=None))
                if not bar.disable and log.windows % 5 == 1:
                    bar.set_postfix(windows=log.windows, voxels=f"{mapper.voxels:,}",
                                    latency=f"{sum(update.seconds.values()):.2f} s", refresh=False)
        except InputError as error:
            if not log.windows:
                raise
            failed = True
            bar.write(f"lsm: {error}; what was mapped before is saved", file=sys.stderr)
    if left_out:
        print(f"lsm: {left_out} of {mapper.counters.frames} frames were left out", file=sys.stderr)
    return truth, refused, failed


def score_path(mapper: Mapper, truth: list[SequenceFrame]) -> dict[str, float] | None:
    """Errors of the trajectory, None where the source's poses don't tell any."""
    from lsm_ros.evaluation.run import score_run

    try:
        score = score_run(mapper.trajectory(), {}, truth, mapper.labels)
    except AlignmentError:
        return None
    return {name: getattr(score, name) for name in TRAJECTORY_ERRORS}


def run_view(arguments: argparse.Namespace) -> int:
    from lsm_ros.data.recording import is_recording
    from lsm_ros.labels import LabelSet
    from lsm_ros.viewing.recorded import draw_recording
    from lsm_ros.viewing.saved import draw_saved_map, is_saved_map

    path, labels = arguments.path, LabelSet.load(arguments.labels)
    if not path.exists():
        raise InputError(f"{path} does not exist")
    if is_saved_map(path):
        draw_saved_map(path, labels, arguments.save)
    elif is_recording(path):
        draw_recording(path, labels, arguments.save, arguments.namespace, arguments.image_topic)
    else:
        raise InputError(f"{path} is neither a saved map (a folder with cloud.ply) nor a recording (.mcap, .db3)")
    if arguments.save:
        print(f"{arguments.save}: {arguments.save.stat().st_size / 1e6:.1f} MB; `rerun {arguments.save}` shows it")
    return 0


def run_labels(arguments: argparse.Namespace) -> int:
    from lsm_ros.labels import LabelSet

    labels = LabelSet.load(arguments.labels)
    for index, (name, (red, green, blue)) in enumerate(zip(labels.names, labels.colors, strict=True)):
        patch = f"\x1b[48;2;{red};{green};{blue}m    \x1b[0m  " if sys.stdout.isatty() else ""
        print(f"{index:3}  {patch}#{red:02x}{green:02x}{blue:02x}  {name}")
    return 0


def run_eval(argv: list[str]) -> int | None:
    from lsm_ros.evaluation.benchmark import main as evaluate
    return evaluate(argv)


def run_bench(argv: list[str]) -> int | None:
    from lsm_ros.bench.command import main as bench
    return bench(argv)


def run_train(argv: list[str]) -> int | None:
    from lsm_ros.training.train import main as train
    return train(argv)


def run_demo(argv: list[str]) -> int | None:
    check_ros("lsm demo runs")
    from lsm_ros.ros.demo import main as demo
    return demo(argv)


def run_doctor(argv: list[str]) -> int | None:
    check_ros("lsm doctor looks at")
    from lsm_ros.ros.doctor import main as doctor
    return doctor(argv)


DELEGATES: dict[str, Callable[[list[str]], int | None]] = {"eval": run_eval, "bench": run_bench, "train": run_train,
                                                           "demo": run_demo, "doctor": run_doctor}


def escape_unprintable() -> None:
    """What the encoding of the output lacks, δ in Latin-1 or a file name that is no UTF-8, is escaped, as on stderr: a
    table is not worth the minutes behind it."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


@contextmanager
def stop_on_interrupt() -> Iterator[threading.Event]:
    """The event is set by the first Ctrl-C; the second one raises KeyboardInterrupt as usual."""
    stopped = threading.Event()

    def handle(number, frame):
        if stopped.is_set():
            raise KeyboardInterrupt
        stopped.set()
        print("\nstopping: the map is finished and saved; Ctrl-C again gives it up", file=sys.stderr)

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield stopped
    finally:
        signal.signal(signal.SIGINT, before)


def print_summary(summary: dict, files: list[Path]) -> None:
    """The table at the end of a run."""
    latency, shares = summary["latency_s"], summary["class_shares"]
    network = latency["network"]["median"]
    total = sum(stage["median"] for stage in latency.values())
    rows = {
        "input": f"{tell_counters(summary['counters'])}, {summary['unreadable']} unreadable",
        "latency": f"{total:.3f} s a window (network {network:.3f} s); {summary['wall_s']:.1f} s in all "
                   f"for {summary['duration_s']:.1f} s of camera",
        "path": f"{summary['path_length_m']:.1f} m" + tell_errors(summary["trajectory_errors"]),
        "map": f"{summary['points']:,} points, {' x '.join(f'{side:.1f}' for side in summary['extent_m'])} m",
        "classes": ", ".join(f"{name} {100 * share:.0f} %" for name, share in shares.items() if share >= 0.005),
        "objects": ", ".join(f"{count} {name}" for name, count in summary["objects"].items()) or "none",
        "written": ", ".join(str(file) for file in files),
    }
    for name, text in rows.items():
        print(textwrap.fill(text, 110, initial_indent=f"{name:9} ", subsequent_indent=" " * 10, break_on_hyphens=False))


def tell_counters(counters) -> str:
    """frames 10, keyframes 3, ...: the counters that are not zero."""
    counts = counters if isinstance(counters, dict) else asdict(counters)
    return ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items() if count)


def tell_errors(errors: dict | None) -> str:
    """The trajectory beside the truth of the source, or nothing where that has none."""
    if errors is None:
        return ""
    return (f"; the source's truth: {errors['path_length_m']:.1f} m, ATE {errors['ate_sim3_m']:.3f} m (Sim(3)), "
            f"{errors['ate_se3_m']:.3f} m (SE(3)), scale {errors['scale']:.2f}")


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is below 1")
    return value


def positive_number(text: str) -> float:
    value = float(text)
    if not 0 < value < np.inf:
        raise argparse.ArgumentTypeError(f"{text} is no positive number")
    return value


def read_intrinsics(text: str) -> np.ndarray | str | None:
    """"fx,fy,cx,cy" -> (3, 3), "none" -> None, "source" as it is."""
    if text in ("none", "source"):
        return None if text == "none" else text
    try:
        fx, fy, cx, cy = (float(number) for number in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither fx,fy,cx,cy nor none nor source") from None
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])


def version() -> str:
    try:
        return metadata.version("lsm_ros")
    except metadata.PackageNotFoundError:       # built by colcon, or run from the source tree
        from xml.etree import ElementTree

        from lsm_ros.resources import resource
        return ElementTree.parse(resource("package.xml")).findtext("version")


if __name__ == "__main__":
    sys.exit(main())
