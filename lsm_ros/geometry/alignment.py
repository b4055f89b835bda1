"""The similarity between two sets of corresponding points: closed form, robust, and of trajectories."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lsm_ros.errors import AlignmentError
from lsm_ros.geometry.sim3 import sim3, transform


def umeyama(source: np.ndarray, target: np.ndarray, weights: np.ndarray | None = None, *, with_scale: bool = True,
            unique: bool = True) -> np.ndarray:
    """S_target_source (4, 4): the least-squares Sim(3), or SE(3), with target = S @ source (Umeyama 1991, eq. 40-43).

    Args:
        source, target: (N, 3) corresponding points.
        weights: (N,) not negative, or None for equal ones.
        unique: False accepts points on one line, where the turn about the line is arbitrary: good for residuals only.

    Raises AlignmentError, naming the value, where the points do not determine the transform.
    """
    return _closed_form(*_columns(source, target, weights, unique), with_scale, unique)


def _columns(source: np.ndarray, target: np.ndarray, weights: np.ndarray | None,
             unique: bool = True) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`umeyama`'s points, checked, as columns (3, N), and their weights (N,); numpy is slow with rows of three."""
    source, target = np.asarray(source, dtype=np.float64), np.asarray(target, dtype=np.float64)
    if source.shape != target.shape or source.ndim != 2 or source.shape[1] != 3:
        raise AlignmentError(f"points of shapes {source.shape} and {target.shape} do not correspond; "
                             "both must be (N, 3)")
    w = np.ones(len(source)) if weights is None else np.asarray(weights, dtype=np.float64)
    used = int(np.count_nonzero(w))
    if used < (3 if unique else 2):
        raise AlignmentError(f"{used} points with a weight; an alignment needs at least {3 if unique else 2}")
    if not (np.isfinite(source).all() and np.isfinite(target).all() and np.isfinite(w).all()):
        raise AlignmentError("points or weights to align are not finite")
    return source.T.copy(), target.T.copy(), w


def _closed_form(source: np.ndarray, target: np.ndarray, w: np.ndarray, with_scale: bool, unique: bool) -> np.ndarray:
    """`umeyama` of `_columns`."""
    w = w / w.sum()
    mean_source, mean_target = source @ w, target @ w
    centred_source, centred_target = source - mean_source[:, None], target - mean_target[:, None]
    weighted = w * centred_source
    covariance = centred_target @ weighted.T
    variance_source = np.vdot(weighted, centred_source)
    variance_target = np.vdot(w * centred_target, centred_target)
    spread = np.sqrt(min(variance_source, variance_target))
    if spread <= 1e-9 * max(1.0, np.abs(mean_source).max(), np.abs(mean_target).max()):
        raise AlignmentError(f"points to align are all in one place (spread {spread:.3g})")
    U, D, Vt = np.linalg.svd(covariance)
    if unique and D[1] <= 1e-6 * variance_source ** 0.5 * variance_target ** 0.5:
        raise AlignmentError(f"points to align lie on one line (second singular value {D[1]:.3g} beside {D[0]:.3g})")
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(U) * np.linalg.det(Vt))])
    R = (U * sign) @ Vt
    s = (D @ sign) / variance_source if with_scale else 1.0
    if s <= 0:
        raise AlignmentError(f"the best scale between the points is {s:.3g}; they do not correspond")
    return sim3(R, mean_target - s * (R @ mean_source), s)


@dataclass(frozen=True)
class RobustAlignment:
    """What `align_robust` found."""
    S_target_source: np.ndarray    # (4, 4) float64
    residuals: np.ndarray          # (N,) float64, distances after alignment, in units of `sigma`


def align_robust(source: np.ndarray, target: np.ndarray, weights: np.ndarray | None = None, *,
                 sigma: np.ndarray | float = 1.0, rounds: int = 6, with_scale: bool = True) -> RobustAlignment:
    """Sim(3) under outliers: iteratively reweighted least squares, Huber rounds first, Cauchy ones last.

    Args:
        source, target: (N, 3) corresponding points.
        weights: (N,) confidence of each, or None.
        sigma: (N,) or one number: the error expected of a point, in the units of `target`.
        rounds: half of them use Huber's kernel, whose cost is convex and leads in from afar; the others Cauchy's, which
            forgets outliers instead of only taming them (Zhang 1997). The kernel is as wide as sigma or as the median
            residual, whichever is larger, so it narrows while the fit gets better.

    Raises AlignmentError as `umeyama` does.
    """
    weights = np.ones(len(source)) if weights is None else np.asarray(weights, dtype=np.float64)
    sigma = np.broadcast_to(np.asarray(sigma, dtype=np.float64), weights.shape)
    source, target, weights = _columns(source, target, weights / np.square(sigma))
    kernel = np.ones(len(weights))
    for number in range(rounds):
        S = _closed_form(source, target, weights * kernel, with_scale, unique=True)
        residuals = np.sqrt(np.square(S[:3, :3] @ source + S[:3, 3:] - target).sum(axis=0)) / sigma
        width = max(1.0, float(np.median(residuals)))
        if 2 * number < rounds:
            kernel = width / np.maximum(residuals, width)
        else:
            kernel = 1 / (1 + np.square(residuals / width))
    return RobustAlignment(S, residuals)


def rmse(source: np.ndarray, target: np.ndarray) -> float:
    """Root of the mean squared distance of corresponding points (N, 3)."""
    return float(np.sqrt(np.mean(np.sum(np.square(np.asarray(source) - np.asarray(target)), axis=1))))


def align_trajectory(estimate: np.ndarray, truth: np.ndarray, *, with_scale: bool = True) -> tuple[np.ndarray, float]:
    """S_truth_estimate (4, 4) and the absolute trajectory error (RMSE, in the units of `truth`) of positions (N, 3).

    The error of Sturm et al. 2012, after a Sim(3) or an SE(3) alignment. A straight path is fine: the turn about it,
    which is then arbitrary, moves no position.
    """
    estimate, truth = np.asarray(estimate, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    S = umeyama(estimate, truth, with_scale=with_scale, unique=False)
    return S, rmse(transform(S, estimate), truth)
