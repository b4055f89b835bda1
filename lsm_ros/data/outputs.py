"""What a run leaves behind: cloud.ply, trajectory.txt, objects.json, summary.json and pictures/."""
from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from types import MappingProxyType
from typing import Any

import cv2
import numpy as np
from PIL import Image

from lsm_ros.contracts import Cloud, Frame, MapObject, MapUpdate
from lsm_ros.data.pictures import FrameSample, class_shares, frames_picture, map_picture, path_length
from lsm_ros.errors import InputError, OutputError
from lsm_ros.geometry.sim3 import quaternion_from_matrix
from lsm_ros.labels import LabelSet

SAMPLE_WIDTH = 480              # pixels of an image that is kept for the pictures
PICTURED_SAMPLES = 6
PICTURES = "pictures"
FRAMES = f"{PICTURES}/frames.png"
STAGING, LEFT_S = ".writing-", 3600.0       # the folder of files that are not whole yet; nobody writes for an hour
TIMED_WINDOWS = 10_000          # the newest ones; a run has no end
PLY_VERTEX = np.dtype([("xyz", "<f4", 3), ("rgb", "u1", 3), ("label", "<u2"), ("confidence", "u1")])
PLY_PROPERTIES = [*(("float", axis) for axis in "xyz"), *(("uchar", color) for color in ("red", "green", "blue")),
                  ("uint16", "label"), ("uchar", "confidence")]


@dataclass(frozen=True)
class Run:
    """A finished map, as it is written. Map frame: z up, metres; the floor is z = 0 where it was found."""
    cloud: Cloud
    trajectory: list[tuple[int, np.ndarray]]            # stamp_ns, T_map_cam (4, 4) of the keyframes
    objects: list[MapObject]
    labels: LabelSet
    title: str = "Map"
    samples: tuple[FrameSample, ...] = ()
    summary: dict[str, Any] = field(default_factory=dict)   # what the caller adds to summary.json


class RunLog:
    """Keeps of a run what the pictures and the summary need: a few frames, and the times of the newest windows."""

    def __init__(self):
        self.windows = 0
        self.seconds: dict[str, deque[float]] = {}
        self._samples: list[FrameSample] = []
        self._every = 1

    def add(self, frame: Frame, update: MapUpdate) -> None:
        """Takes note of the update that `frame` gave."""
        for stage, seconds in update.seconds.items():
            self.seconds.setdefault(stage, deque(maxlen=TIMED_WINDOWS)).append(seconds)
        if self.windows % self._every == 0:
            size = (SAMPLE_WIDTH, round(SAMPLE_WIDTH * frame.image.shape[0] / frame.image.shape[1]))
            image = cv2.resize(frame.image, size, interpolation=cv2.INTER_AREA)
            self._samples.append(FrameSample(update.stamp_ns, image, update.depth, update.labels))
            if len(self._samples) == 4 * PICTURED_SAMPLES:      # so that a long run is covered evenly
                self._samples, self._every = self._samples[::2], 2 * self._every
        self.windows += 1

    def samples(self, count: int = PICTURED_SAMPLES) -> tuple[FrameSample, ...]:
        """At most `count` frames, evenly over the run."""
        chosen = np.unique(np.linspace(0, len(self._samples) - 1, min(count, len(self._samples))).astype(int))
        return tuple(self._samples[index] for index in chosen)

    def latency(self) -> dict[str, dict[str, float]]:
        """stage -> median and 90th percentile in seconds."""
        return {stage: {"median": round(float(np.median(values)), 5), "p90": round(float(np.percentile(values, 90)), 5)}
                for stage, values in self.seconds.items()}


def save_run(folder: str | Path, run: Run, also: Mapping[str, Callable[[Path], None]] = MappingProxyType({})
             ) -> list[Path]:
    """Writes a run into `folder`, which is made, and returns the files; `also` are more of them, with what writes each.

    All or nothing: every file is written beside the old ones first and then renamed over them, so that a full disk or a
    crash leaves the old ones whole. (Killed between two renames it leaves whole files of both; `also` come last.)

    Raises OutputError naming the folder and the reason, also for a map without points.
    """
    if len(run.cloud) == 0:
        raise OutputError(f"nothing to write into {folder}: the map has no points yet")
    folder, staging, files = Path(folder), None, {**_files(run), **also}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _clear(folder)
        staging = Path(tempfile.mkdtemp(prefix=STAGING, dir=folder))        # the same disk, so that a rename is enough
        for name, write in files.items():
            (staging / name).parent.mkdir(exist_ok=True)
            write(staging / name)
            _to_disk(staging / name)
        for name in files:                  # a file in the way of a folder is found before anything is renamed
            (folder / name).parent.mkdir(exist_ok=True)
        for name in files:
            os.replace(staging / name, folder / name)
        if FRAMES not in files:             # that of an earlier run shows another map's frames, or other labels
            (folder / FRAMES).unlink(missing_ok=True)
        _to_disk(folder)
    except OSError as error:
        raise OutputError(f"the map can't be written into {folder}: {error.strerror or error}") from error
    finally:
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)
    return [folder / name for name in files]


def check_output(folder: Path) -> None:
    """Raises OutputError, as `save_run` would after all the work, where nothing can be written into `folder`."""
    # A link that leads nowhere, to a disk that is not mounted say, is there: no folder can be made in its place.
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(path))
    try:
        if os.path.lexists(folder / PICTURES) and not (folder / PICTURES).is_dir():
            raise NotADirectoryError(errno.ENOTDIR, f"{PICTURES} is no folder")
        tempfile.TemporaryDirectory(prefix=STAGING, dir=there).cleanup()
    except OSError as error:
        raise OutputError(f"the map can't be written into {folder}: {there}: {error.strerror or error}") from error


def summarize(run: Run) -> dict[str, Any]:
    """What summary.json says: sizes, shares and counts of the map, and what the caller knows of the run."""
    positions = np.array([T_map_cam[:3, 3] for _, T_map_cam in run.trajectory]).reshape(-1, 3)
    stamps = [stamp_ns for stamp_ns, _ in run.trajectory]
    return {
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        **run.summary,
        "duration_s": round((max(stamps) - min(stamps)) * 1e-9, 3) if stamps else 0.0,
        "path_length_m": round(path_length(positions), 3),
        "points": len(run.cloud),
        "extent_m": np.ptp(run.cloud.points, axis=0).astype(float).round(3).tolist(),
        "class_shares": {name: round(share, 5) for name, share in class_shares(run.cloud, run.labels).items()},
        "objects": dict(Counter(item.name for item in run.objects).most_common()),
    }


def write_ply(path: Path, cloud: Cloud, labels: LabelSet) -> None:
    """Binary PLY: x y z, red green blue, label, confidence. The label names are told in its comments.

    PLY has two names for every type; Open3D knows "float" and "uchar", but of 16 bits only "uint16", not "ushort".
    """
    vertices = np.zeros(len(cloud), PLY_VERTEX)
    vertices["xyz"], vertices["rgb"] = cloud.points, cloud.colors
    vertices["label"], vertices["confidence"] = cloud.labels, cloud.confidence
    header = ["ply", "format binary_little_endian 1.0", "comment lsm_ros map: z up, metres, floor at z = 0",
              *(f"comment label {index} {name}" for index, name in enumerate(labels.names)),
              f"element vertex {len(cloud)}", *(f"property {kind} {name}" for kind, name in PLY_PROPERTIES),
              "end_header"]
    path.write_bytes("\n".join(header).encode() + b"\n" + vertices.tobytes())


def read_ply(path: Path) -> tuple[Cloud, tuple[str, ...]]:
    """A cloud as `write_ply` writes it, and the names of its labels. Raises InputError for any other file."""
    try:
        header, end, body = path.read_bytes().partition(b"end_header\n")
        lines = header.decode("utf8", "replace").splitlines()
        properties = [tuple(line.split()[1:]) for line in lines if line.startswith("property ")]
        if not end or lines[:2] != ["ply", "format binary_little_endian 1.0"] or properties != PLY_PROPERTIES:
            raise InputError(f"{path} is no cloud of lsm_ros: a binary PLY with the properties "
                             + ", ".join(" ".join(known) for known in PLY_PROPERTIES))
        count = next(int(line.split()[2]) for line in lines if line.startswith("element vertex "))
        vertices = np.frombuffer(body, PLY_VERTEX, count)
        names = tuple(line.split(maxsplit=3)[3] for line in lines if line.startswith("comment label "))
    except (OSError, ValueError, IndexError, StopIteration) as error:
        raise InputError(f"the cloud {path} cannot be read: {error}") from error
    if count and vertices["label"].max() >= len(names):
        raise InputError(f"the cloud {path} has the label {vertices['label'].max()}, but names only {len(names)}")
    return Cloud(vertices["xyz"], vertices["rgb"], vertices["label"], vertices["confidence"]), names


def write_trajectory(path: Path, trajectory: list[tuple[int, np.ndarray]]) -> None:
    """TUM format, as evo reads it: seconds x y z qx qy qz qw of T_map_cam, OpenCV camera axes."""
    lines = ["# seconds x y z qx qy qz qw; camera to map, metres; camera axes x right, y down, z forward"]
    for stamp_ns, T_map_cam in trajectory:
        numbers = [*T_map_cam[:3, 3], *quaternion_from_matrix(T_map_cam[:3, :3])]
        seconds, rest = divmod(abs(stamp_ns), 10**9)
        lines.append(f"{'-' * (stamp_ns < 0)}{seconds}.{rest:09d} " + " ".join(f"{number:.6f}" for number in numbers))
    path.write_text("\n".join(lines) + "\n")


def write_objects(path: Path, objects: list[MapObject]) -> None:
    """JSON: frame, and a list of objects with the fields of contracts.MapObject."""
    rows = [replace(item, center=item.center.round(4).tolist(), size=item.size.round(4).tolist(),
                    yaw=round(float(item.yaw), 4), confidence=round(float(item.confidence), 4)) for item in objects]
    write_json(path, {"frame": "map: z up, metres, floor at z = 0; yaw in radians about z",
                      "objects": [asdict(row) for row in rows]})


def read_objects(path: Path) -> list[MapObject]:
    """Objects as `write_objects` writes them. Raises InputError for any other file."""
    try:
        rows = json.loads(path.read_text("utf8"))["objects"]
        return [MapObject(**{**row, "center": np.array(row["center"], np.float64).reshape(3),
                             "size": np.array(row["size"], np.float64).reshape(3)}) for row in rows]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"the objects {path} cannot be read: {error!r}") from error


def write_json(path: Path, content: Any) -> None:
    """UTF-8; the bytes of file names that are not in it are escaped as JSON has it, so that they are read back."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf8", "backslashreplace")


def write_picture(path: Path, picture: np.ndarray) -> None:
    """(H, W, 3) uint8 RGB as PNG."""
    Image.fromarray(picture).save(path)


def _files(run: Run) -> dict[str, Callable[[Path], None]]:
    """name -> what writes it."""
    files = {
        "cloud.ply": lambda path: write_ply(path, run.cloud, run.labels),
        "trajectory.txt": lambda path: write_trajectory(path, run.trajectory),
        "objects.json": lambda path: write_objects(path, run.objects),
        "summary.json": lambda path: write_json(path, summarize(run)),
        f"{PICTURES}/map_by_colour.png": lambda path: write_picture(path, _map(run, by_class=False)),
        f"{PICTURES}/map_by_class.png": lambda path: write_picture(path, _map(run, by_class=True)),
    }
    if run.samples:
        files[FRAMES] = lambda path: write_picture(
            path, frames_picture(run.samples, run.labels, run.title))
    return files


def _map(run: Run, by_class: bool) -> np.ndarray:
    return map_picture(run.cloud, run.trajectory, run.labels, by_class=by_class, title=run.title)


def _clear(folder: Path) -> None:
    """Removes what a process that was killed while it wrote has left."""
    for left in folder.glob(f"{STAGING}*"):
        if time.time() - left.stat().st_mtime > LEFT_S:
            shutil.rmtree(left, ignore_errors=True)


def _to_disk(path: Path) -> None:
    """A rename is only as safe as the bytes behind it."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
