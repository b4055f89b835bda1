"""The pose graph: where every keyframe is, and how long its unit of depth is, so that all windows agree best.

A node is S_map_cam, a Sim(3), of one keyframe. An edge is what one window says about two of its views. More kinds of
knowledge (loops, gravity, metric sources) are more edges and more priors in the same sum.
"""
from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.linalg import splu

from lsm_ros.errors import AlignmentError
from lsm_ros.geometry.sim3 import adjoint, exp, inverse, log, scale_of, sim3

CAUCHY = 3.0               # residuals beyond this many sigmas count less and less (Barron 2019, alpha = 0)
SCALE_SIGMA = 0.1          # trust in one keyframe's own metre, as a log: what holds the scale of a long walk
GAUGE_SIGMA = 1e-6         # the first keyframe stays where it is
STEPS = 5


@dataclass(frozen=True)
class Edge:
    """A measured S_i_j between the keyframes with ids i and j, each in its own unit."""
    i: int
    j: int
    S_i_j: np.ndarray          # (4, 4) float64
    sigma: np.ndarray          # (7,) float64: translation in the units of i (3), rotation in radians (3), log of scale


class PoseGraph:
    """Nodes by keyframe id, edges, and their optimum."""

    def __init__(self):
        self._index: dict[int, int] = {}
        self._S = np.empty((0, 4, 4))
        self._ends: list[tuple[int, int]] = []
        self._S_j_i: list[np.ndarray] = []
        self._weights: list[np.ndarray] = []

    def __len__(self) -> int:
        return len(self._index)

    def __contains__(self, keyframe_id: int) -> bool:
        return keyframe_id in self._index

    @property
    def ids(self) -> list[int]:
        """Keyframe ids, oldest first."""
        return list(self._index)

    def pose(self, keyframe_id: int) -> np.ndarray:
        """S_map_cam (4, 4)."""
        return self._S[self._index[keyframe_id]]

    def poses(self, ids: Iterable[int] | None = None) -> np.ndarray:
        """S_map_cam (N, 4, 4) of the ids, or of all."""
        return self._S if ids is None else self._S[[self._index[i] for i in ids]]

    def add(self, keyframe_id: int, S_map_cam: np.ndarray) -> None:
        """A new keyframe and the first estimate of its pose."""
        self._index[keyframe_id] = len(self._index)
        self._S = np.concatenate([self._S, S_map_cam[None]])

    def connect(self, edges: Iterable[Edge]) -> None:
        for edge in edges:
            self._ends.append((self._index[edge.i], self._index[edge.j]))
            self._S_j_i.append(inverse(edge.S_i_j))
            self._weights.append(edge.sigma ** -2.0)

    def rotate(self, R: np.ndarray) -> None:
        """Turns the whole map by R (3, 3) about its origin."""
        self._S = sim3(R, np.zeros(3)) @ self._S

    def optimise(self, free: Collection[int] | None = None) -> None:
        """Moves the keyframes with the ids `free` (None: all) to the least robust cost; the others stay.

        Iteratively reweighted Gauss-Newton with steps on the right, S <- S exp(delta). The residual of an edge is
        log(S_j_i S_map_i^-1 S_map_j), and its Jacobians are taken at a small residual: the identity for j and
        -Ad(S_map_j^-1 S_map_i) for i (Strasdat 2012, section 2.4). Raises AlignmentError if the system is singular.
        """
        nodes = np.arange(len(self)) if free is None else np.array(sorted(self._index[i] for i in free))
        column = np.full(len(self), -1)
        column[nodes] = np.arange(len(nodes))
        ends = np.array(self._ends, dtype=int).reshape(-1, 2)
        used = (column[ends] >= 0).any(axis=1)
        ends = ends[used]
        S_j_i = np.array(self._S_j_i).reshape(-1, 4, 4)[used]
        weights = np.array(self._weights).reshape(-1, 7)[used]

        best, best_cost = self._S, np.inf
        for _ in range(STEPS + 1):
            residuals = log(S_j_i @ inverse(self._S[ends[:, 0]]) @ self._S[ends[:, 1]])
            squares = np.einsum("ek,ek->e", residuals * residuals, weights)
            drift = np.log(scale_of(self._S[nodes])) / SCALE_SIGMA
            cost = CAUCHY ** 2 * np.log1p(squares / CAUCHY ** 2).sum() + drift @ drift
            if not cost < best_cost:
                break
            converged = best_cost - cost < 1e-4 * cost
            best, best_cost = self._S, cost
            if converged:
                break
            robust = weights / (1 + squares / CAUCHY ** 2)[:, None]
            step = self._step(ends, column, nodes, residuals, robust)
            self._S = self._S.copy()
            self._S[nodes] = self._S[nodes] @ exp(step)
        self._S = best

    def _step(self, ends, column, nodes, residuals, weights) -> np.ndarray:
        """(n, 7) solution of the normal equations."""
        i, j = ends.T
        J_i = -adjoint(inverse(self._S[j]) @ self._S[i])
        WJ_i = weights[:, :, None] * J_i
        blocks = [(i, i, np.swapaxes(J_i, 1, 2) @ WJ_i), (j, i, WJ_i), (i, j, np.swapaxes(WJ_i, 1, 2)),
                  (j, j, weights[:, :, None] * np.eye(7))]
        gradient = np.zeros((len(nodes), 7))
        for end, pull in ((i, np.einsum("eki,ek->ei", WJ_i, residuals)), (j, weights * residuals)):
            np.add.at(gradient, column[end][column[end] >= 0], pull[column[end] >= 0])

        prior = np.zeros((len(nodes), 7))
        prior[:, 6] = SCALE_SIGMA ** -2
        gradient[:, 6] += prior[:, 6] * np.log(scale_of(self._S[nodes]))
        prior[nodes == 0, :6] = GAUGE_SIGMA ** -2
        blocks.append((nodes, nodes, prior[:, :, None] * np.eye(7)))

        size = 7 * len(nodes)
        rows, columns, values = [], [], []
        for a, b, block in blocks:
            kept = (column[a] >= 0) & (column[b] >= 0)
            row = 7 * column[a][kept, None, None] + np.arange(7)[:, None]
            col = 7 * column[b][kept, None, None] + np.arange(7)
            rows.append(np.broadcast_to(row, (len(row), 7, 7)).ravel())
            columns.append(np.broadcast_to(col, (len(col), 7, 7)).ravel())
            values.append(block[kept].ravel())
        system = coo_matrix((np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), (size, size))
        try:
            factors = splu(system.tocsc(), permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0,
                           options={"SymmetricMode": True})
        except RuntimeError as error:
            raise AlignmentError(f"the pose graph of {len(nodes)} free keyframes is not determined: {error}") from error
        return factors.solve(-gradient.ravel()).reshape(-1, 7)


@dataclass(frozen=True)
class GraphPicture:
    """The graph as it is shown."""
    ids: list[int]             # of the N keyframes
    T_map_cam: np.ndarray      # (N, 4, 4) float64
    edges: np.ndarray          # (E, 2) int64, indices into ids
    loop: np.ndarray           # (E,) bool: the edge recognises a place, it is not of a window
