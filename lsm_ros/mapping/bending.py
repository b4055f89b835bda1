"""Depth that bends to the points that a window's images triangulate.

The errors of predicted depth go together: a wall that recedes too slowly, a table that stands too near. What several
images show at places that are known to a fraction of a pixel says how deep some hundred points of a view are. Between
them the error of the depth's logarithm is taken for smooth over the image and over depth, so that the table does not
bend with the wall behind it: a bilateral grid (Chen, Paris and Durand 2007) of errors under a Gaussian prior. Its loops
are compiled, src/bending.cpp.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from lsm_ros.mapping.kernels import COUNT, NUMBER, array, check_shapes, kernel

NODES = (3, 4, 5)          # of the grid: across the image, down it, and in the log of depth
NODE_SIGMA = 0.10          # error of predicted depth where it goes together, as a log,
STEP_SIGMA = 0.04          # and by how much it differs from one node to the next one
POINT_SIGMA = 0.02         # what is a point's own
GATE = 2.0                 # sigmas; beyond it an error counts less and less (Cauchy)
ROUNDS = 3                 # of the fit, each with the weights that the one before gives
MOST = 0.25                # the log of depth changes by no more
MIN_POINTS = 12            # fewer bend nothing

_NODES = COUNT, COUNT, COUNT
_FIT = kernel("fit_grid", None, array(np.float64, 2), *[array(np.float64, 1)] * 3, COUNT, *_NODES, array(np.float64, 2),
              NUMBER, COUNT, array(np.float64, 2), array(np.float64, 1))
_READ = kernel("read_grid", None, array(np.float64, 1), *_NODES, array(np.float32, 2), COUNT, COUNT,
               array(np.float32, 2))


@dataclass(frozen=True)
class Soundings:
    """N points of one view, whose depth other views tell."""
    shares: np.ndarray         # (N, 2) of width and height
    depth: np.ndarray          # (N,) as predicted
    error: np.ndarray          # (N,) log of what it should be over what it is
    sigma: np.ndarray          # (N,) of that
    confidence: np.ndarray     # (N,) 0..1

    @classmethod
    def joined(cls, parts: Sequence[Soundings]) -> Soundings:
        """All of them; none of none."""
        none = cls(np.empty((0, 2)), *(np.empty(0) for _ in range(4)))
        return cls(*(np.concatenate([getattr(part, item.name) for part in (none, *parts)]) for item in fields(cls)))


def bent(depth: np.ndarray, soundings: Soundings) -> np.ndarray:
    """The depth (h, w) of a view, bent to what its soundings say; as it is where these are few."""
    if len(soundings.error) < MIN_POINTS:
        return depth
    logs = np.log(depth, dtype=np.float32)
    near, far = np.quantile(logs[::4, ::4], (0.02, 0.98)).tolist()
    columns, rows, layers = NODES
    per_log = (layers - 1) / max(far - near, 0.2)
    x, y = soundings.shares.T
    places = np.column_stack([x * columns - 0.5, y * rows - 0.5, (np.log(soundings.depth) - near) * per_log])
    grid, work, change = np.empty(len(PRIOR)), np.empty((len(PRIOR) + 1, len(PRIOR))), np.empty_like(logs)
    check_shapes(**{name: (getattr(soundings, name), (len(places),)) for name in ("error", "sigma", "confidence")})
    _FIT(places, soundings.error, soundings.sigma ** 2 + POINT_SIGMA ** 2, soundings.confidence, len(places), *NODES,
         PRIOR, GATE, ROUNDS, work, grid)
    _READ(grid, *NODES, (logs - near) * per_log, *logs.shape, change)
    return (depth * np.exp(np.clip(change, -MOST, MOST))).astype(np.float32)


def _prior() -> np.ndarray:
    """The inverse covariance of the grid's nodes, layers first."""
    prior = np.eye(np.prod(NODES)) / NODE_SIGMA ** 2
    for axis in range(3):
        factors = [np.eye(count) for count in NODES[::-1]]
        steps = np.diff(factors[axis], axis=0)
        factors[axis] = steps.T @ steps
        prior += np.kron(np.kron(*factors[:2]), factors[2]) / STEP_SIGMA ** 2
    return prior


PRIOR = _prior()
