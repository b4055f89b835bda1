"""How long the network's metre is: measurements from odometry, camera height or depth, and one robust estimate.

The network sees scale up to some 20 %, and the error is the same all over a place: it is one number a map. Whoever
knows better says, keyframe by keyframe, how many metres a keyframe's own unit has.
"""
from __future__ import annotations

from collections import deque
from itertools import combinations

import numpy as np

from lsm_ros.config import MapperConfig
from lsm_ros.contracts import Frame, MetricScale, Window
from lsm_ros.geometry.sim3 import inverse
from lsm_ros.mapping.graph import Stance
from lsm_ros.mapping.ground import mount_sigma
from lsm_ros.mapping.refinement import Refinement
from lsm_ros.mapping.views import View

KEPT = 400                 # measurements of a source: the latest ones count
ENOUGH = 6                 # measurements from which on a source is believed
NETWORK_SIGMA = 0.2        # of the network's metre, as a log, on real rooms
SIGMA = {"odometry": 0.02, "height": 0.03, "depth": 0.01}     # that no number of measurements makes better
MIN_TRAVEL_M = 0.1         # odometry of less says nothing about length
PARALLAX_SIGMA = 0.02      # error of a distance between two cameras, as a share of the depth of the scene
MIN_DEPTHS = 50            # measured depths of a keyframe
MAX_SPREAD = 0.25          # of the measurements in one keyframe, as a log


class MetricEstimator:
    """Collects measurements of one map. The source is the one asked for, or of all there are the best."""

    ORDER = ("depth", "odometry", "height")

    def __init__(self, known: MetricScale = MetricScale(1.0, NETWORK_SIGMA, "network", 0)):
        """`known` is what holds until there are measurements."""
        self._known = known
        self._logs: dict[str, deque[tuple[float, float, float]]] = {name: deque(maxlen=KEPT) for name in self.ORDER}

    def measure(self, source: str, metres_per_unit: float, sigma: float, shared: float = 0.0) -> None:
        """One measurement; `sigma` is its error as a log, and `shared` the part of it that others have as well."""
        if np.isfinite(metres_per_unit) and metres_per_unit > 0:
            self._logs[source].append((float(np.log(metres_per_unit)), sigma, shared))

    def hear(self, window: Window, refinement: Refinement, units: dict[int, float]) -> None:
        """What odometry says of the views of a window; `units` as in Registration."""
        prediction, keyframes = refinement.prediction, window.keyframes
        for measured in odometry_scales([keyframe.frame for keyframe in keyframes], prediction.T_window_cam,
                                        [units.get(keyframe.id) for keyframe in keyframes],
                                        float(np.median(prediction.depth)), refinement.support):
            self.measure("odometry", *measured)

    def hear_of_depth(self, view: View, confidence_drop: float) -> None:
        """What the measured depth of a keyframe's frame says."""
        if (measured := depth_scale(view, confidence_drop)) is not None:
            self.measure("depth", *measured)

    def hear_of_height(self, stance: Stance | None) -> None:
        """What a keyframe's known height over the floor says."""
        if stance and np.isfinite(stance.height) and np.isfinite(stance.height_m):
            self.measure("height", stance.height_m / stance.height, stance.height_sigma / stance.height,
                         mount_sigma(stance))

    def forget_heights(self) -> None:
        """What known heights said was wrong, of some keyframes at least; the others are to be heard again."""
        self._logs["height"].clear()

    def estimate(self, config: MapperConfig) -> MetricScale:
        """The source's robust mean, with its error; until there is enough, what was known before."""
        if config.scale_source == "fixed":
            return MetricScale(config.scale_factor, 0.0, "fixed", 0)
        wanted = self.ORDER if config.scale_source == "auto" else (config.scale_source,)
        for source in wanted:
            logs = self._logs.get(source, ())
            if len(logs) >= ENOUGH:
                values, sigmas, shared = np.array(logs).T
                mean, error = robust_mean(values, sigmas)
                sigma = float(np.linalg.norm([error, SIGMA[source], np.median(shared)]))
                return MetricScale(float(np.exp(mean)), sigma, source, len(logs))
        return self._known


def robust_mean(values: np.ndarray, sigmas: np.ndarray, gate: float = 2.0) -> tuple[float, float]:
    """The mean of (N,) values with errors `sigmas` under Cauchy's kernel (iterated weights from the median on), and its
    error, no less than the scatter tells."""
    mean = float(np.median(values))
    for _ in range(10):
        pull = np.abs(values - mean) / sigmas
        weights = 1 / (1 + (pull / gate) ** 2) / sigmas ** 2
        mean = float((weights * values).sum() / weights.sum())
    scatter = 1.4826 * float(np.median(np.abs(values - mean))) / np.sqrt(len(values))
    return mean, max(float(weights.sum() ** -0.5), scatter)


def odometry_scales(frames: list[Frame], T_window_cam: np.ndarray, units: list[float | None], depth: float,
                    support: np.ndarray) -> list[tuple[float, float]]:
    """(metres per unit, sigma) from each pair of views of a window that matches tie and of which odometry knows.

    Args:
        frames: S, of the views.
        T_window_cam: (S, 4, 4), lengths in the window's metre.
        units: S, each keyframe's own units per metre of the window; None for views that do not fit.
        depth: of the scene, in the window's metre.
        support: (S, S) matches behind the pose between two views.
    """
    found = []
    for a, b in combinations(range(len(frames)), 2):
        T_a, T_b = frames[a].T_odom_cam, frames[b].T_odom_cam
        if T_a is None or T_b is None or units[a] is None or not support[a, b]:
            continue
        travel_m = float(np.linalg.norm((inverse(T_a) @ T_b)[:3, 3]))
        seen = float(np.linalg.norm((inverse(T_window_cam[a]) @ T_window_cam[b])[:3, 3]))
        if travel_m >= MIN_TRAVEL_M and seen > 0:
            found.append((travel_m / (seen * units[a]), 0.05 + PARALLAX_SIGMA * depth / seen))
    return found


def depth_scale(view: View, confidence_drop: float) -> tuple[float, float] | None:
    """(metres per unit, sigma) by the measured depth of the keyframe's frame, or None where there is too little."""
    measured = view.keyframe.frame.depth
    if measured is None:
        return None
    (h, w), (rows, columns) = view.depth.shape, measured.shape
    v, u = (np.arange(h) + 0.5) * rows / h, (np.arange(w) + 0.5) * columns / w
    there = measured[v.astype(int)[:, None], u.astype(int)]
    known = np.isfinite(there) & (there > 0) & view.reliable(confidence_drop)
    if known.sum() < MIN_DEPTHS:
        return None
    logs = np.log(there[known] / view.depth[known])
    middle = float(np.median(logs))
    spread = 1.4826 * float(np.median(np.abs(logs - middle)))
    return (float(np.exp(middle)), max(spread, 0.01)) if spread < MAX_SPREAD else None
