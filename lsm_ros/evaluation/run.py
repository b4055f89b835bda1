"""A finished run beside the truth of its recording: the trajectory, and the depth and labels of its clouds."""
from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lsm_ros.contracts import Cloud
from lsm_ros.data.frames import SequenceFrame
from lsm_ros.errors import InputError
from lsm_ros.evaluation.metrics import Confusion, DepthErrors, depth_errors
from lsm_ros.geometry.alignment import align_trajectory
from lsm_ros.geometry.camera import project, scale_intrinsics
from lsm_ros.geometry.sim3 import matrix_from_quaternion, rotation_angle, rotation_of, scale_of, sim3
from lsm_ros.labels import LabelSet


@dataclass(frozen=True)
class RunScore:
    """Lengths in true metres. A figure is None where the recording lacks its truth."""
    keyframes: int                     # poses of the run whose true pose is known
    path_length_m: float               # of the truth, from keyframe to keyframe
    ate_sim3_m: float                  # absolute trajectory error (RMSE) after a Sim(3) alignment (Sturm et al., 2012)
    ate_se3_m: float                   # after an SE(3) alignment: errors of the metric scale count
    scale: float                       # map metres per true metre
    rotation_deg_median: float         # of the keyframes after the Sim(3) alignment
    frames: int                        # clouds whose true depth is known
    points: int                        # of them, within the image
    absrel: float | None               # as in metrics.DepthErrors, a cloud scaled by its median; mean over the clouds
    delta125: float | None
    absrel_metric: float | None        # in metres, as published
    label_accuracy: float | None       # share of the points that have the true class
    miou: float | None                 # over the classes that the truth shows


def score_run(trajectory: Iterable[tuple[int, np.ndarray]], clouds: Mapping[int, Cloud], truth: Iterable[SequenceFrame],
              labels: LabelSet) -> RunScore:
    """Compares a run with the recording that it was made from.

    Args:
        trajectory: stamp_ns and T_map_cam (4, 4) of the keyframes.
        clouds: stamp_ns -> the points of that frame in its camera's frame (MapUpdate.window_cloud).
        truth: the recording's frames, matched by their stamps.

    Raises AlignmentError where fewer than two keyframes have a true pose.
    """
    estimated, poses, poses_true = dict(trajectory), [], []
    depths: list[DepthErrors] = []
    confusion, points = Confusion(len(labels)), 0
    for frame in truth:
        stamp_ns = frame.frame.stamp_ns
        if stamp_ns in estimated and frame.T_world_cam is not None:
            poses.append(estimated[stamp_ns])
            poses_true.append(frame.T_world_cam)
        if stamp_ns in clouds and frame.depth is not None and frame.frame.K is not None:
            errors, seen = score_cloud(clouds[stamp_ns], frame, confusion)
            points += seen
            if errors is not None:
                depths.append(errors)
    T_map_cam, T_true_cam = np.array(poses).reshape(-1, 4, 4), np.array(poses_true).reshape(-1, 4, 4)
    S_true_map, ate_sim3_m = align_trajectory(T_map_cam[:, :3, 3], T_true_cam[:, :3, 3])
    _, ate_se3_m = align_trajectory(T_map_cam[:, :3, 3], T_true_cam[:, :3, 3], with_scale=False)
    turned = rotation_of(S_true_map) @ T_map_cam[:, :3, :3]

    def mean(name: str) -> float | None:
        return float(np.mean([getattr(errors, name) for errors in depths])) if depths else None

    labelled = confusion.counts.any()
    return RunScore(
        keyframes=len(poses), path_length_m=float(np.linalg.norm(np.diff(T_true_cam[:, :3, 3], axis=0), axis=1).sum()),
        ate_sim3_m=ate_sim3_m, ate_se3_m=ate_se3_m, scale=float(1 / scale_of(S_true_map)),
        rotation_deg_median=float(np.rad2deg(np.median(rotation_angle(turned, T_true_cam[:, :3, :3])))),
        frames=len(depths), points=points, absrel=mean("absrel"), delta125=mean("delta125"),
        absrel_metric=mean("absrel_metric"), label_accuracy=confusion.accuracy if labelled else None,
        miou=confusion.miou if labelled else None)


def score_cloud(cloud: Cloud, frame: SequenceFrame, confusion: Confusion) -> tuple[DepthErrors | None, int]:
    """Depth errors of a cloud (camera frame) against the true depth under its points, and how many points that are.

    Where the recording has labels too, the points' labels are added to `confusion`.
    """
    height, width = frame.depth.shape
    pixels, z = project(cloud.points.astype(np.float64),
                        scale_intrinsics(frame.frame.K, frame.frame.image.shape[1::-1], (width, height)))
    inside = (z > 0) & (pixels >= 0).all(1) & (pixels < (width, height)).all(1)
    shares = pixels[inside] / (width, height)
    if frame.labels is not None:
        confusion.add(cloud.labels[inside], look_up(frame.labels, shares))
    return depth_errors(z[inside], look_up(frame.depth, shares)), int(inside.sum())


def look_up(plane: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """The pixels of (H, W) at (N, 2) places, given as shares 0..1 of width and height."""
    size = np.array(plane.shape[::-1])
    columns, rows = np.minimum((shares * size).astype(int), size - 1).T
    return plane[rows, columns]


def read_trajectory(path: str | Path) -> list[tuple[int, np.ndarray]]:
    """stamp_ns and T_map_cam (4, 4) from a file in the TUM format: seconds x y z qx qy qz qw. Raises InputError."""
    trajectory = []
    try:
        lines = Path(path).read_text("utf8").splitlines()
        for line in (line for line in lines if line.strip() and not line.startswith("#")):
            stamp, *numbers = line.split()
            x, y, z, *quaternion = map(float, numbers)
            if not np.isfinite([x, y, z, *quaternion]).all() or not any(quaternion):
                raise ValueError(f"{line!r} is no pose")
            seconds, _, fraction = stamp.removeprefix("-").partition(".")
            stamp_ns = int(seconds) * 10**9 + int(fraction[:9].ljust(9, "0"))    # a float would round it
            stamp_ns = -stamp_ns if stamp.startswith("-") else stamp_ns
            R_map_cam = matrix_from_quaternion(np.array(quaternion).reshape(4))
            trajectory.append((stamp_ns, sim3(R_map_cam, np.array([x, y, z]))))
    except (OSError, ValueError) as error:
        raise InputError(f"the trajectory {path} cannot be read: {error}") from error
    return trajectory
