"""From the same frames to a labelled cloud three ways: structure from motion and a segmenter, two-view windows in a
chain, and the mapper.

Structure from motion is COLMAP (Schoenberger and Frahm, 2016) through pycolmap: SIFT on the CPU, every pair matched,
incremental mapping. Its sparse points are labelled by a 2-D segmenter at the pixels that observe them. That segmenter
is our own network on single views: LSM's comparison takes a large one, which would be slower and label better.
"""
from __future__ import annotations

import importlib.util
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from lsm_ros.bench.machine import seconds
from lsm_ros.config import MapperConfig
from lsm_ros.contracts import Keyframe, Window
from lsm_ros.data.sequences import FolderSequence, SequenceFrame
from lsm_ros.errors import AlignmentError, ConfigError, InputError
from lsm_ros.evaluation.report import Line
from lsm_ros.evaluation.walk_scores import positions
from lsm_ros.evaluation.walks import ChainedMapper, true_pose
from lsm_ros.geometry.alignment import align_trajectory
from lsm_ros.mapping.mapper import Mapper
from lsm_ros.model.engine import NetworkPredictor


@dataclass(frozen=True)
class Sparse:
    """What structure from motion found; N points, O observations of them."""
    poses: dict[int, np.ndarray]       # index of the frame -> (4, 4) camera to its world
    point: np.ndarray                  # (O,) int64, which point
    frame: np.ndarray                  # (O,) int64, in which frame it is observed
    shares: np.ndarray                 # (O, 2) where, as shares of width and height
    points: int                        # N


def compare(predictor: NetworkPredictor, frames: Sequence[SequenceFrame], progress: bool = True) -> list[Line]:
    """A line a way, of what `read_frames` gives."""
    predictor.predict_batch([Window((Keyframe(0, frames[0].frame),))])            # the first call prepares the kernels
    ways = {"SfM (COLMAP) + 2-D labels": structure_from_motion,
            "two-view windows, chained": chained,
            "this package": mapped}
    lines = []
    for name, way in tqdm(ways.items(), desc=f"SfM, {len(frames)} frames", unit="way",
                          disable=not progress):
        found: list[tuple[dict[int, np.ndarray], int, Line]] = []
        wall, cost = seconds(lambda way=way, found=found: found.append(way(predictor, frames)), predictor.device)
        poses, points, stages = found[0]
        lines.append({"way": name, "seconds": wall, "cost": cost, "frames": len(frames),
                      "registered": len(poses), "ate_m": ate_m(poses, frames), "labelled_points": points,
                      "stages": stages})
    for line in lines:
        line["times_ours"] = line["cost"] / lines[-1]["cost"]
    return lines


def require() -> None:
    """Raises ConfigError without pycolmap."""
    if importlib.util.find_spec("pycolmap") is None:
        raise ConfigError("--sfm needs pycolmap: pip install 'lsm_ros[sfm]', or pip install pycolmap")


def read_frames(folder: str | Path, count: int, gap: int) -> list[SequenceFrame]:
    """`count` frames of a sequence, every gap-th. Raises InputError for a folder without poses or intrinsics."""
    if count < 3 or gap < 1:
        raise InputError(f"--frames {count} --gap {gap}; 3 frames are needed, at least 1 apart")
    if not Path(folder).is_dir():
        raise InputError(f"there is no folder {folder}")
    sequence = FolderSequence(Path(folder), gap)
    if sequence.K is None:
        raise InputError(f"{folder} has no intrinsics.txt")
    frames = [sequence[index] for index in range(min(count, len(sequence)))]
    if len(frames) < 3 or all(frame.T_world_cam is None for frame in frames):
        raise InputError(f"{folder} gives {len(frames)} frames {gap} apart; 3 are needed, with true poses in pose/")
    return frames


def ate_m(poses: dict[int, np.ndarray], frames: Sequence[SequenceFrame]) -> float | None:
    """RMSE of the cameras' positions after a Sim(3) alignment, over the frames whose true pose is known."""
    try:
        return align_trajectory(*positions([true_pose(frame) for frame in frames], poses.items()))[1]
    except AlignmentError:
        return None


# ------------------------------------------------------------------------------------------------------ three ways

def structure_from_motion(predictor: NetworkPredictor, frames: Sequence[SequenceFrame]
                          ) -> tuple[dict[int, np.ndarray], int, Line]:
    """Poses by index of the frame, number of labelled points, seconds by stage."""
    with tempfile.TemporaryDirectory() as folder, quiet():
        sparse, stages = reconstruct([frame.frame.image for frame in frames], frames[0].frame.K, Path(folder))
    start = time.perf_counter()
    labels = lift(predictor, frames, sparse)
    return sparse.poses, int((labels >= 0).sum()), stages | {"labels": time.perf_counter() - start}


def mapped(predictor: NetworkPredictor, frames: Sequence[SequenceFrame], kind: type[Mapper] = Mapper,
           config: MapperConfig = MapperConfig()) -> tuple[dict[int, np.ndarray], int, Line]:
    """As above, by the mapper."""
    predictor.reset()
    mapper = kind(predictor, predictor.labels, config, predictor.describe)
    stages: Line = {}
    for frame in frames:
        update = mapper.push(frame.frame)
        for stage, taken in update.seconds.items() if update else ():
            stages[stage] = stages.get(stage, 0.0) + taken
    mapper.settle()
    index = {frame.frame.stamp_ns: number for number, frame in enumerate(frames)}
    return {index[stamp]: T for stamp, T in mapper.trajectory()}, len(mapper.map_cloud()), stages


def chained(predictor: NetworkPredictor, frames: Sequence[SequenceFrame]) -> tuple[dict[int, np.ndarray], int, Line]:
    """As above, by pairs of views that are put where they fit the one before: LSM's own way, with our network."""
    return mapped(predictor, frames, ChainedMapper, replace(MapperConfig(), window_views=2, loops=False))


# --------------------------------------------------------------------------------------------- structure from motion

def reconstruct(images: Sequence[np.ndarray], K: np.ndarray, folder: Path) -> tuple[Sparse, Line]:
    """COLMAP's largest model of the images (H, W, 3), all of one camera with intrinsics K, and seconds by stage."""
    import pycolmap

    height, width = images[0].shape[:2]
    for number, image in enumerate(images):
        cv2.imwrite(str(folder / f"{number:06}.png"), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    database, stages, clock = folder / "database.db", {}, time.perf_counter()

    def lap(stage: str) -> None:
        nonlocal clock
        stages[stage], clock = time.perf_counter() - clock, time.perf_counter()

    reader = pycolmap.ImageReaderOptions()
    reader.camera_model = "PINHOLE"
    reader.camera_params = ",".join(f"{K[i, j]:.6f}" for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))
    pycolmap.extract_features(database, folder, camera_mode=pycolmap.CameraMode.SINGLE, reader_options=reader,
                              device=pycolmap.Device.cpu)
    lap("features")
    pycolmap.match_exhaustive(database, device=pycolmap.Device.cpu)
    lap("matching")
    options = pycolmap.IncrementalPipelineOptions()
    options.ba_refine_focal_length = False                # the camera is calibrated, as it is for the other ways
    models = pycolmap.incremental_mapping(database, folder, folder / "models", options)
    lap("mapping")
    if not models:
        none = np.empty(0, np.int64)
        return Sparse({}, none, none, np.empty((0, 2)), 0), stages
    model = max(models.values(), key=lambda model: model.num_reg_images())
    poses, seen = {}, []
    numbers = {name: number for number, name in enumerate(sorted(model.points3D))}
    for image in (model.image(name) for name in model.reg_image_ids()):
        index = int(Path(image.name).stem)
        poses[index] = np.vstack([image.cam_from_world().inverse().matrix(), [0, 0, 0, 1]])
        seen += [(numbers[point.point3D_id], index, *point.xy) for point in image.get_observation_points2D()]
    seen = np.array(seen).reshape(-1, 4)
    return Sparse(poses, seen[:, 0].astype(np.int64), seen[:, 1].astype(np.int64), seen[:, 2:] / (width, height),
                  len(numbers)), stages


def lift(predictor: NetworkPredictor, frames: Sequence[SequenceFrame], sparse: Sparse) -> np.ndarray:
    """(N,) label of each point, -1 where no frame observes it: the class whose log-probabilities, summed over the
    observations, are the highest."""
    votes = np.zeros((sparse.points, len(predictor.labels)))
    predictor.reset()
    for index in sparse.poses:
        semantics = predictor(Window((Keyframe(index, frames[index].frame),))).semantics[0]
        scores = predictor.labels.log_probabilities(semantics)
        mine = np.flatnonzero(sparse.frame == index)
        rows, columns = (np.minimum((sparse.shares[mine, axis] * size).astype(int), size - 1)
                         for axis, size in ((1, scores.shape[0]), (0, scores.shape[1])))
        np.add.at(votes, sparse.point[mine], scores[rows, columns])
    labels = votes.argmax(axis=1)
    labels[~np.isin(np.arange(sparse.points), sparse.point)] = -1
    return labels


@contextmanager
def quiet() -> Iterator[None]:
    """COLMAP tells its progress at length."""
    import pycolmap

    before, pycolmap.logging.minloglevel = pycolmap.logging.minloglevel, pycolmap.logging.Level.ERROR.value
    try:
        yield
    finally:
        pycolmap.logging.minloglevel = before
