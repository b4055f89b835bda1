"""How far apart the views of a window are, and how wrong their poses are at each distance.

Two measures, because each hides what the other shows: the baseline as a share of the scene's depth (parallax), and the
share of one image that the other one sees as well (what is left to match).
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lsm_ros.evaluation.metrics import PoseErrors, at_grid, auc
from lsm_ros.geometry.camera import project, scale_intrinsics, unproject
from lsm_ros.geometry.sim3 import inverse, transform

SAMPLES = (24, 32)       # rows and columns of the pixels that stand for a view
SAME_SURFACE = 0.1       # a point is seen where the other view's depth agrees within this share; sensors are noisy
OVERLAP_BINS = (0.0, 0.1, 0.3, 0.5, 0.7, 1.0)
BASELINE_BINS = (0.0, 0.1, 0.2, 0.4, 0.8, np.inf)

Row = dict[str, float]
"""One bin: from, to, pairs, and its figures."""


@dataclass(frozen=True)
class Distances:
    """What is true of the views of one window."""
    baseline: np.ndarray      # (S - 1,) of the other views from the first, over the mean depth of the first
    overlap: np.ndarray       # (S, S) share of view a's pixels that view b sees; NaN where a has no depth


def distances(depth: np.ndarray, K: np.ndarray, T_world_cam: np.ndarray) -> Distances:
    """Of views with the true depth (S, H, W) in metres, NaN where unknown, its intrinsics K (S, 3, 3) and poses."""
    known = np.isfinite(depth[0])
    mean_depth = depth[0][known].mean(dtype=np.float64) if known.any() else np.nan
    baseline = np.linalg.norm(T_world_cam[1:, :3, 3] - T_world_cam[0, :3, 3], axis=1) / mean_depth
    return Distances(baseline, true_overlap(depth, K, T_world_cam))


def true_overlap(depth: np.ndarray, K: np.ndarray, T_world_cam: np.ndarray) -> np.ndarray:
    """(S, S) the share of view a's pixels that view b sees, arguments as in `distances`.

    Pixels without depth count for nothing, nor do those that fall on a pixel without depth: nobody knows about them.
    """
    S, H, W = depth.shape
    points = unproject(at_grid(depth, *SAMPLES), scale_intrinsics(K, (W, H), SAMPLES[::-1])).reshape(S, -1, 3)
    overlap = np.eye(S)
    for a in range(S):
        points_a = points[a][np.isfinite(points[a]).all(1)].astype(np.float64)
        if not len(points_a):
            overlap[a] = np.nan
            continue
        for b in set(range(S)) - {a}:
            overlap[a, b] = seen_share(points_a, inverse(T_world_cam[b]) @ T_world_cam[a], depth[b], K[b])
    return overlap


def seen_share(points_a: np.ndarray, T_b_a: np.ndarray, depth_b: np.ndarray, K_b: np.ndarray) -> float:
    """The share of points (N, 3) of camera a that camera b sees, by its true depth (H, W), NaN where unknown."""
    pixels, z = project(transform(T_b_a, points_a), K_b)
    inside = ((pixels >= 0) & (pixels < depth_b.shape[::-1])).all(1)          # NaN, behind the camera, is not
    columns, rows = pixels[inside].astype(int).T
    there = depth_b[rows, columns]
    seen, unknown = np.abs(z[inside] / there - 1) < SAME_SURFACE, np.isnan(there).sum()
    return float(seen.sum() / max(len(points_a) - unknown, 1))


def by_distance(values: np.ndarray, bins: Sequence[float], errors: PoseErrors, alone: PoseErrors | None) -> list[Row]:
    """The pose errors of P relative poses in `bins` of their distances `values` (P,); an empty bin is left out.

    `alone` are the errors of the network alone, where `errors` are those of refined poses.
    """
    rows = []
    for low, high in zip(bins, bins[1:], strict=False):
        inside = (values >= low) & ((values < high) | (high == bins[-1]) & (values <= high))
        if not inside.any():
            continue
        part = errors.of(inside)
        row: Row = {"from": low, "to": None if np.isinf(high) else high, "pairs": int(inside.sum()),
                    "rotation_deg_median": float(np.median(part.rotation))}
        if np.isfinite(part.translation).any():
            row["translation_deg_median"] = float(np.nanmedian(part.translation))
        row["auc30"] = auc(part.worse, 30)
        if alone is not None:
            row["auc30_alone"] = auc(alone.of(inside).worse, 30)
        rows.append(row)
    return rows
