"""Long walks mapped as a robot would map them: the trajectory, the map, its objects and its loops beside the truth.

    lsm eval walks --walks 2 --textures FOLDER --meshes FILE --cache FOLDER --odometry     rendered drives of robots
    lsm eval walks --people 2 --cache FOLDER                drives through buildings in which people walk about
    lsm eval walk FOLDER --omit 4                           a real sequence: color/ depth/ pose/ intrinsics.txt

Ten walks take hours: with --cache every finished walk is kept, and an interrupted command goes on after it.
"""
from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from lsm_ros.config import MapperConfig
from lsm_ros.contracts import Frame, Keyframe, Predictor
from lsm_ros.data.files import replacing
from lsm_ros.data.sequences import FolderSequence, SequenceFrame
from lsm_ros.data.turning import turn
from lsm_ros.errors import ConfigError, InputError, OutputError
from lsm_ros.evaluation.datasets import in_labels, turned_frame
from lsm_ros.evaluation.metrics import at_grid
from lsm_ros.evaluation.report import Line, cell, table, write_json
from lsm_ros.evaluation.scans import Scans
from lsm_ros.evaluation.walk_scores import (
    FoundLoops,
    Walk,
    positions,
    score_cloud,
    score_ghosts,
    score_loops,
    score_objects,
    score_trajectory,
    true_points,
)
from lsm_ros.geometry.alignment import align_trajectory
from lsm_ros.geometry.camera import scale_intrinsics
from lsm_ros.labels import LabelSet
from lsm_ros.mapping.graph import PoseGraph
from lsm_ros.mapping.mapper import Mapper
from lsm_ros.model.engine import NetworkPredictor, open_device
from lsm_ros.model.weights import SHIPPED, read_header
from lsm_ros.resources import resource

WALKS = (("apartment", 3_000_000_058), ("home", 3_000_000_010), ("apartment", 3_000_000_045),
         ("office", 3_000_000_012), ("apartment", 3_000_000_059), ("home", 3_000_000_038),
         ("office", 3_000_000_010), ("home", 3_000_000_050), ("apartment", 3_000_000_005), ("office", 3_000_000_053))
"""The largest buildings with room to drive among the first sixty seeds from 3e9 on: far from those of WorldWindows, and
as much held out."""

LENGTH_M = 60.0
HEIGHTS_M = (.35, .9)          # of the cameras over the floor
GRID = (96, 128)               # rows, columns of the truth that is read from a folder


class ChainedMapper(Mapper):
    """The baseline: each window is put where it fits the one before, and nothing is ever moved again."""

    def _start(self) -> None:
        super()._start()
        self._graph = Chain()


class Chain(PoseGraph):
    """Poses as they came."""

    def optimise(self, free: Collection[int] | None = None, loop: bool = False) -> None:
        pass


def rendered_walk(kind: str, seed: int, length_m: float = LENGTH_M, *, odometry: bool = False, mount: bool = False,
                  textures: str | None = None, meshes: str | None = None, cache: Path | None = None,
                  size: tuple[int, int] | None = None, people: int = 0, height_m: float | None = None) -> Walk:
    """A robot's drive through the building of a held-out seed; every frame tells its K.

    Args:
        odometry: frames tell T_odom_cam as wheels would (world/drives.py), drift and all.
        mount: frames tell which way is up and how high the camera is.
        textures, meshes: as for WorldStyle.
        cache: a folder where drives are kept, by what they were asked to be and by the code of lsm_ros/world.
        size: (width, height) of the pictures; None: the network's.
        people: who walk about before the camera; the drive is the same with them and without.
        height_m: of a level camera over the floor; None: as HEIGHTS_M and the seed say, and looking a little down.
    """
    from lsm_ros.world import drives  # compiles its kernel; the real walks do without
    from lsm_ros.world.stream import HELD_OUT_SEEDS
    if seed not in HELD_OUT_SEEDS:
        raise InputError(f"seed = {seed}; walks have held-out seeds, 0 to {HELD_OUT_SEEDS[-1]}")
    size = size or drives.SIZE
    camera = (drives.Mount(float(np.random.default_rng(seed).uniform(*HEIGHTS_M))) if height_m is None else
              drives.Mount(height_m, pitch=0.0))
    name = f"{kind}_{seed}_{length_m:g}m" + "".join(f"_{what}-{digest(Path(source))[:8]}" for what, source in
                                                    (("textures", textures), ("meshes", meshes)) if source)
    name += (f"_{people}people" if people else "") + ("" if height_m is None else f"_{height_m:g}high")
    file = cache and Path(cache) / f"{name}_{size[0]}x{size[1]}_world-{digest_of_code('world')[:8]}.npz"
    if file and file.exists():
        drive = drives.load_drive(file)
    else:
        drive = drives.render_drive(seed, kind, length_m, camera, textures, meshes, size, str(open_device("auto")),
                                    people)
        if file:
            drives.save_drive(file, drive)
            if people:                   # runs that are compared see the same pictures, the first one too: the file's
                drive = drives.load_drive(file)
    T_odom_cam = drives.wheel_odometry(drive.T_world_cam, camera, seed) if odometry else [None] * len(drive.images)
    told = {"up_cam": camera.T_base_cam[2, :3], "height_m": camera.height_m} if mount else {}
    frames = [Frame(round(k * 1e9 / drives.RATE_HZ), image, drive.K, T, **told)
              for k, (image, T) in enumerate(zip(drive.images, T_odom_cam, strict=True))]
    moving = None if drive.people is None else np.isin(drive.instances, drive.people)
    return Walk(walk_name(kind, seed, people, height_m), frames, drive.T_world_cam, drive.K_truth, drive.depth,
                drive.labels, drive.instances, moving=moving)


def walk_name(kind: str, seed: int, people: int, height_m: float | None) -> str:
    return (f"{kind} {seed}" + (f", {people} people" if people else "") +
            ("" if height_m is None else f", from {100 * height_m:g} cm"))


def folder_walk(folder: str | Path, turned: int = 0, mount: bool = False) -> Walk:
    """A real sequence with truth.

    Args:
        turned: quarters by which the camera is turned clockwise, as one on its side or upside down.
        mount: frames tell which way is up, as an IMU would.

    Raises InputError for a folder without poses, depth or intrinsics, or with a file that is damaged.
    """
    if not Path(folder).is_dir():
        raise InputError(f"there is no folder {folder}")
    sequence = FolderSequence(Path(folder))
    if sequence.K is None:
        raise InputError(f"{folder} has no intrinsics.txt; its walk has no truth")
    grid = GRID[::-1] if turned % 2 else GRID
    frames, poses, depth = [], [], []
    for index in range(len(sequence)):          # not by iteration, which does without truth that can't be read
        frame = turned_frame(sequence[index], turned)
        frames.append(frame.frame)
        poses.append(true_pose(frame))
        depth.append(np.full(grid, np.nan, np.float32) if frame.depth is None else at_grid(frame.depth, *grid))
    if np.isnan(poses).all():
        raise InputError(f"{folder} has no poses; its walk has no truth")
    if np.isnan(depth).all():
        raise InputError(f"{folder} has no depth; its walk has no truth")
    T_world_cam, K = np.stack(poses), scale_intrinsics(frames[0].K, frames[0].image.shape[1::-1], grid[::-1])
    if mount:
        up = up_of(T_world_cam @ turn(-turned))
        frames = [frame if np.isnan(T).any() else replace(frame, up_cam=T[:3, :3].T @ up)
                  for frame, T in zip(frames, T_world_cam, strict=True)]
    return Walk(Path(folder).name, frames, T_world_cam, K, np.stack(depth), upright=False)


def up_of(T_world_cam: np.ndarray) -> np.ndarray:
    """(3,) unit vector up in the world of poses (N, 4, 4), NaN where unknown, of a camera that looks about and is not
    rolled: what its x axes lie across, on the side of their images' tops."""
    known = T_world_cam[np.isfinite(T_world_cam).all(axis=(1, 2)), :3, :3]
    across = np.linalg.eigh(np.einsum("ni,nj->ij", known[:, :, 0], known[:, :, 0]))[1][:, 0]
    return across * np.sign(across @ -known[:, :, 1].sum(axis=0))


def without(walk: Walk, k: int, n: int, name: str) -> Walk:
    """The walk without the frames k, k + n, k + 2 n, ... counted from 0, under a name of its own."""
    left = np.flatnonzero(np.arange(len(walk.frames)) % n != k)
    truth = {name: None if (whole := getattr(walk, name)) is None else whole[left]
             for name in ("T_world_cam", "depth", "labels", "instances", "moving")}
    return replace(walk, name=name, frames=[walk.frames[i] for i in left], **truth)


def true_pose(frame: SequenceFrame) -> np.ndarray:
    """T_world_cam (4, 4), NaN where unknown."""
    return np.full((4, 4), np.nan) if frame.T_world_cam is None else frame.T_world_cam


def map_walk(walk: Walk, predict: Predictor, labels: LabelSet, config: MapperConfig = MapperConfig(), *,
             describe: Callable[[Keyframe], np.ndarray] | None = None, chain: bool = False,
             progress: bool = True) -> Line:
    """Maps a walk and scores the map at its end; `describe` is the mapper's, `chain` the baseline without graph and
    loops.

    Raises AlignmentError where fewer than two keyframes become part of the map.
    """
    if walk.labels is not None:
        walk = replace(walk, labels=in_labels(walk.labels, labels))
    kind, config = (ChainedMapper, replace(config, loops=False)) if chain else (Mapper, config)
    mapper = kind(predict, labels, config, describe)
    live, seconds, scans, loops = [], [], Scans(labels, config.max_depth_m), FoundLoops()
    index = {frame.stamp_ns: k for k, frame in enumerate(walk.frames)}
    title = titled(walk.name, chain, config)
    for frame in tqdm(walk.frames, desc=title, unit="frame", disable=not progress):
        start, before = time.perf_counter(), mapper.counters.keyframes
        update = mapper.push(frame)
        if mapper.counters.keyframes > before:
            seconds.append(time.perf_counter() - start)
        if update is not None:
            k = index[update.stamp_ns]
            live.append((k, update.T_map_cam))
            loops.look(update.keyframe_id, k, mapper.pose_graph())
            if walk.upright and walk.labels is not None:
                scans.add(update, walk.depth[k], walk.labels[k], walk.K, walk.T_world_cam[k])
    mapper.settle()
    count = mapper.counters
    line: Line = {"set": title, "intrinsics": walk.frames[0].K is not None,
                  "frames": len(walk.frames), "keyframes": count.keyframes, "refused": count.refused_windows,
                  "unsupported": count.unsupported_windows, "restarts": count.restarts,
                  "seconds_per_keyframe": float(np.median(seconds))}
    trajectory = [(index[stamp], T) for stamp, T in mapper.trajectory()]
    poses, S_world_map = score_trajectory(walk, trajectory)
    _, live_m = align_trajectory(*positions(walk.T_world_cam, live))
    truth = true_points(walk, config.max_depth_m)
    line |= poses | {"ate_live_m": live_m}
    cloud = mapper.map_cloud()
    line |= scans.score() | score_cloud(cloud, S_world_map, truth, labels)
    if walk.moving is not None:
        line |= score_ghosts(cloud, S_world_map, walk, truth, config.max_depth_m)
    if truth.instances is not None:
        line |= score_objects(mapper.objects(), S_world_map, truth, labels, config.voxel_size_m)
    return line | score_loops(walk, loops.T_i_j, loops.frames.values(), poses["scale"])


def titled(name: str, chain: bool, config: MapperConfig) -> str:
    """The name of a line: of what walk, and how it was mapped."""
    return name + ("" if config.leave_out_moving else ", moving kept") + \
        (", chained" if chain else "" if config.loops else ", no loops")


ROWS = {"path_m": "path, m", "frames": "frames", "keyframes": "keyframes", "mapped": "of them in the map",
        "refused": "windows refused", "unsupported": "windows that no match backs", "restarts": "restarts",
        "ate_m": "ATE, Sim(3), m", "ate_percent": "... % of the path", "ate_se3_m": "ATE, SE(3), m",
        "ate_se3_percent": "... % of the path", "ate_live_m": "ATE, Sim(3), of the poses as first told, m",
        "odometry_ate_m": "ATE, SE(3), of the odometry alone, m", "rotation_deg": "rotation, degrees",
        "scale": "map metres a true metre", "upright_deg": "map's z off the vertical, degrees",
        "floor_m": "height of the floor in the map, m", "floor_spread_m": "... half of the range of 80 %",
        "points": "points of the map", "accuracy": "of them within 5 cm of the truth", "accuracy_m": "... median, m",
        "completeness": "of the truth within 5 cm of the map", "completeness_m": "... median, m",
        "astray": "points farther than 20 cm from all that stays", "ghosts": "... where somebody walked, points",
        "person_points": "points labelled person", "in_view": "frames with somebody in view",
        "obstacle_missed": "beams to an obstacle within 3 m that find none, or one 20 cm behind it",
        "obstacle_false": "beams to a found one where the way is free", "obstacle_m": "error of the others, median, m",
        "label_accuracy": "labels right", "miou": "mIoU", "objects": "objects", "objects_true": "true objects",
        "object_precision": "object precision, IoU .25", "object_recall": "object recall", "loops": "loop edges",
        "loop_precision": "loop precision", "revisits": "keyframes that revisit", "loop_recall": "loop recall",
        "seconds_per_keyframe": "seconds a keyframe"}


def walks_markdown(lines: Sequence[Line]) -> str:
    """A row a figure and a column a walk; figures that no walk has are left out."""
    rows = [[title, *(cell(line.get(key)) for line in lines)] for key, title in ROWS.items()
            if any(line.get(key) is not None for line in lines)]
    return table(["", *(line["set"] for line in lines)], rows)


OVERVIEW = {"path_m": "path, m", "ate_percent": "ATE, % of the path", "ate_se3_percent": "SE(3)", "scale": "scale",
            "upright_deg": "up, °", "loop_precision": "loops right", "loop_recall": "found", "accuracy": "map right",
            "completeness": "complete", "miou": "mIoU", "object_precision": "objects right", "object_recall": "found"}


def overview_markdown(lines: Sequence[Line]) -> str:
    """A row a walk, with the main figures."""
    keys = [key for key in OVERVIEW if any(line.get(key) is not None for line in lines)]
    return table(["walk", *(OVERVIEW[key] for key in keys)],
                 [[line["set"], *(cell(line.get(key)) for key in keys)] for line in lines])


def median_line(lines: Sequence[Line], name: str) -> Line:
    """The medians of the figures over walks, of those that have them."""
    numbers = {key: [line[key] for line in lines if line.get(key) is not None] for key in ROWS}
    return {"set": name, "intrinsics": lines[0]["intrinsics"]} | {
        key: float(np.median(values)) for key, values in numbers.items() if values}


@dataclass(frozen=True)
class Order:
    """A walk that is asked for: how it is made, and all that its figures depend on but the code."""
    make: Callable[[], Walk]
    name: str
    asked: tuple = ()


def digest(path: Path) -> str:
    """Of what is in a file; of a folder, of what its files are called and how long they are, and of what is in its
    texts: poses that were put right are as long as before. Raises InputError."""
    try:
        content = path.read_bytes() if not path.is_dir() else json.dumps(sorted(
            (str(file.relative_to(path)), digest(file) if file.suffix == ".txt" else file.stat().st_size)
            for file in path.rglob("*") if file.is_file())).encode()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    return hashlib.sha256(content).hexdigest()


def sources(*rooms: str) -> list[Path]:
    """The files of code, Python, CUDA and what C++ was compiled to, in rooms of the package; "." is what lies beside
    these."""
    package, kinds = Path(__file__).parents[1], (".py", ".cu", ".so")
    return [file for room in rooms for file in sorted((package / room).iterdir()) if file.suffix in kinds]


def digest_of_code(*rooms: str) -> str:
    """Of what is in their `sources`."""
    return hashlib.sha256("".join(map(digest, sources(*rooms))).encode()).hexdigest()


class Kept:
    """The figures of finished walks in a folder, a file each; they hold for one state of weights and code."""

    def __init__(self, folder: Path, weights: str | Path, precision: str = ""):
        """`weights` "" are the shipped ones."""
        self._folder = folder
        self._state = [read_header(Path(weights or SHIPPED))[0]["__metadata__"].get("sha256"), precision,
                       digest(resource("config/labels/indoor.yaml")),
                       digest_of_code(".", "data", "evaluation", "geometry", "mapping", "model", "world")]

    def _file(self, order: Order, title: str) -> Path:
        state = hashlib.sha256(json.dumps([self._state, order.asked, title]).encode()).hexdigest()
        return self._folder / f"{title.replace(', ', '_').replace(' ', '_')}_{state[:16]}.json"

    def get(self, order: Order, title: str) -> Line | None:
        file = self._file(order, title)
        return json.loads(file.read_text("utf8")) if file.exists() else None

    def put(self, order: Order, title: str, line: Line) -> None:
        """Raises OutputError."""
        file = self._file(order, title)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"the folder {self._folder} cannot be made: {error}") from error
        with replacing(file) as part:
            write_json(part, line)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("walks")
    group.add_argument("--walks", type=int, default=2, help=f"rendered walks, 1 to {len(WALKS)} (default 2)")
    group.add_argument("--seeds", nargs="+", metavar="KIND:SEED", help="other buildings, such as apartment:3000000058")
    group.add_argument("--length", type=float, default=LENGTH_M, help="metres of a walk (default %(default)g)")
    group.add_argument("--mount", action="store_true", help="tell the mapper how high the camera is, and which way up; "
                       "of `walk` the latter, as far as its camera is not rolled in the mean")
    group.add_argument("--height", type=float, metavar="M", help="metres of level cameras over the floor, .05 to 1.5; "
                       f"without it {HEIGHTS_M[0]:g} to {HEIGHTS_M[1]:g}, by the seed, and they look a little down")
    group.add_argument("--chain", action="store_true", help="map each walk without graph and loops, too")
    group.add_argument("--no-loops", action="store_true",
                       help="map each walk without recognising places: how far it drifts on the way")
    group.add_argument("--people", type=int, default=0, metavar="N", help="people, 1 to 4, who walk about in the "
                       "building before the robot's camera (default 0); the drive is the same with them and without")
    group.add_argument("--keep-moving", action="store_true",
                       help="map what moves as if it stood still (leave_out_moving: false)")
    group.add_argument("--omit", type=int, default=0, metavar="N", help="map the sequence of `walk` N more times, "
                       "each time without another one of every N frames; the spread is what is chance in a figure")
    group.add_argument("--cache", type=Path, help="a folder where rendered walks are kept for the next time, and the "
                       "figures of finished ones, which hold as long as weights and code stay the same: an interrupted "
                       "command goes on, and several can share the work")


def walks_of(arguments: argparse.Namespace) -> Iterator[Order]:
    """The walks that the arguments ask for; one is held at a time."""
    if arguments.target == "walk":
        if arguments.people:
            raise ConfigError("--people is for `lsm eval walks`")
        if arguments.height is not None:
            raise ConfigError("--height is for `lsm eval walks`")
        if arguments.folder is None:
            raise ConfigError("`lsm eval walk` wants a FOLDER")
        if arguments.omit == 1 or arguments.omit < 0:
            raise ConfigError(f"--omit {arguments.omit}; 0 leaves no frame out, 2 or more one of so many")
        make = partial(folder_walk, arguments.folder, turned=arguments.turned // 90, mount=arguments.mount)
        name = Path(arguments.folder).name + (f", turned {arguments.turned}" if arguments.turned else "")
        asked = (digest(Path(arguments.folder)), digest(Path(arguments.labels)) if arguments.labels else "",
                 arguments.turned, arguments.mount)
        yield Order(make, name, asked)
        for k in range(arguments.omit):
            part = f"{name} without {k + 1} of {arguments.omit}"
            yield Order(lambda k=k, part=part: without(make(), k, arguments.omit, part), part, asked)
        return
    if arguments.omit:
        raise ConfigError("--omit is for `lsm eval walk FOLDER`")
    if not 1 <= arguments.length < np.inf:
        raise ConfigError(f"--length {arguments.length:g}; a walk has a metre at least")
    if not 1 <= arguments.walks <= len(WALKS):
        raise ConfigError(f"--walks {arguments.walks}; there are 1 to {len(WALKS)}")
    if arguments.height is not None and not .05 <= arguments.height <= 1.5:
        raise ConfigError(f"--height {arguments.height:g}; it must lie in .05..1.5")
    made_of = [digest(Path(source)) if source else "" for source in
               (arguments.textures, arguments.meshes, arguments.labels)]
    asked = (arguments.length, arguments.odometry, arguments.mount, *made_of)
    for kind, seed in [read_seed(text) for text in arguments.seeds] if arguments.seeds else WALKS[:arguments.walks]:
        yield Order(lambda kind=kind, seed=seed: rendered_walk(
            kind, seed, arguments.length, odometry=arguments.odometry, mount=arguments.mount,
            textures=arguments.textures, meshes=arguments.meshes, cache=arguments.cache, people=arguments.people,
            height_m=arguments.height), walk_name(kind, seed, arguments.people, arguments.height), asked)


def read_seed(text: str) -> tuple[str, int]:
    """("apartment", 12) of apartment:12. Raises ConfigError."""
    kind, colon, seed = text.partition(":")
    if not (colon and seed.isdigit()):
        raise ConfigError(f"--seeds {text}; it must be KIND:SEED, such as apartment:3000000058")
    return kind, int(seed)


def score_walks(predictor: NetworkPredictor, orders: Iterator[Order], *, chain: bool = False, kept: Kept | None = None,
                config: MapperConfig = MapperConfig(), progress: bool = True) -> list[Line]:
    """A line a walk, with `chain` another of the baseline; of several walks their medians as well.

    What is `kept` is not mapped again.
    """
    lines, chained = [], []
    for order in orders:
        walk = None
        for baseline, part in ((False, lines), (True, chained)):
            if baseline and not chain:
                continue
            title = titled(order.name, baseline, config)
            line = kept.get(order, title) if kept else None
            if line is None:
                walk = walk or order.make()
                predictor.reset()            # a new mapper begins its keyframe ids anew
                line = map_walk(walk, predictor, predictor.labels, config, describe=predictor.describe,
                                chain=baseline, progress=progress)
                if kept:
                    kept.put(order, title, line)
                if progress:
                    tqdm.write(f"{title}: ATE {line['ate_m']:.3f} m of {line['path_m']:.1f} m, scale "
                               f"{line['scale']:.3f}", file=sys.stderr)
            part.append(line)
    medians = [median_line(part, titled("median", baseline, config)) for baseline, part in
               ((False, lines), (True, chained)) if len(part) > 1]
    return lines + chained + medians
