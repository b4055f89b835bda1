"""The pose graph: where every keyframe is, and how long its unit of depth is, so that all knowledge agrees best.

A node is S_map_cam, a Sim(3), of one keyframe. What ties nodes is one sum of robust squares: edges, what a window says
about two of its views; travels, what odometry says in metres; stances, how a camera stands over the floor; and the
prior that the network's metre is, in the mean, as long as the map's metric source says.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.csgraph import connected_components, dijkstra

from lsm_ros.errors import AlignmentError
from lsm_ros.geometry.sim3 import adjoint, exp, hat, inverse, log, rigid_of, rotation_of, scale_of
from lsm_ros.mapping.equations import Equations

CAUCHY = 3.0               # residuals beyond this many sigmas count less and less (Barron 2019, alpha = 0)
ANNEALED = (100.0, 20.0, CAUCHY)      # after a loop: true ones may be many sigmas off before the map has moved
SCALE_SIGMA = 0.1          # trust in one keyframe's own metre, as a log: what holds the scale of a long walk
GAUGE_SIGMA = 1e-6         # the first keyframe stays where it is
BRIDGE_SIGMA = np.array([0.02] * 3 + [0.01] * 3 + [0.02])     # of an edge over one forgotten keyframe, as of a window
MOST_LOOPS = 8             # of a keyframe, beyond which none is handed on to it: the graph of an hour stays as small
HEIR_M = 1.0               # how far from a forgotten keyframe the one may be that its loops are handed on to
STEPS = 5
CONVERGED = 1e-3           # decrease, as a share of the cost, after which another step would gain a thousandth of that


@dataclass(frozen=True)
class Edge:
    """A measured S_i_j between the keyframes with ids i and j, each in its own unit."""
    i: int
    j: int
    S_i_j: np.ndarray          # (4, 4) float64
    sigma: np.ndarray          # (7,) float64: along the axes of j: shift in its units (3), radians (3), log of scale
    loop: bool = False         # whether it ties the present to a place that was seen long before


@dataclass(frozen=True)
class Travel:
    """How the camera went from keyframe i to j, in metres, by odometry."""
    i: int
    j: int
    T_i_j: np.ndarray          # (4, 4) float64
    sigma: np.ndarray          # (6,) float64: metres (3), radians (3)


@dataclass(frozen=True)
class Stance:
    """How a keyframe's camera stands over the floor z = 0; a part that is not known has an infinite sigma."""
    up_cam: np.ndarray         # (3,) float64 unit vector up, in the camera
    up_sigma: float            # radians
    height: float              # of the camera over the floor that it sees, in the keyframe's own unit
    height_sigma: float        # likewise
    height_m: float            # of the camera over the floor, as the robot's model has it
    height_m_sigma: float


@dataclass(frozen=True)
class GraphPicture:
    """The graph as it is drawn."""
    ids: list[int]             # N keyframe ids
    T_map_cam: np.ndarray      # (N, 4, 4) float64, metres
    edges: np.ndarray          # (E, 2) int64 indices into `ids`
    loop: np.ndarray           # (E,) bool
    T_i_j: np.ndarray          # (E, 4, 4) float64, metres: what each edge says, which the map need not fulfil


class PoseGraph:
    """Nodes by keyframe id, what ties them, and their optimum."""

    def __init__(self):
        self.metric = 1.0          # map metres per metre of the network, in the mean
        self.grounded = False      # whether z = 0 is the floor, so that stances count
        self._index: dict[int, int] = {}
        self._S = np.empty((0, 4, 4))
        self.edges: list[Edge] = []
        self.travels: list[Travel] = []
        self._stances: dict[int, Stance] = {}
        self._solved: tuple[Equations, np.ndarray] | None = None    # those solved last, and whose they are (N,)

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

    def stance(self, keyframe_id: int) -> Stance | None:
        return self._stances.get(keyframe_id)

    def add(self, keyframe_id: int, S_map_cam: np.ndarray, stance: Stance | None = None) -> None:
        """A new keyframe and the first estimate of its pose."""
        self._index[keyframe_id] = len(self._index)
        self._S = np.concatenate([self._S, S_map_cam[None]])
        if stance is not None:
            self._stances[keyframe_id] = stance

    def stand(self, keyframe_id: int, stance: Stance) -> None:
        """Another opinion on how a keyframe's camera stands."""
        self._stances[keyframe_id] = stance

    def connect(self, ties: Iterable[Edge | Travel]) -> None:
        for tie in ties:
            (self.edges if isinstance(tie, Edge) else self.travels).append(tie)

    def move(self, S_new_map: np.ndarray) -> None:
        """Puts the whole map into another frame (4, 4): turned, shifted, scaled."""
        self._S = S_new_map @ self._S

    def copy(self) -> PoseGraph:
        """Another graph of the same keyframes and ties, which are never changed themselves."""
        twin = PoseGraph()
        twin.metric, twin.grounded = self.metric, self.grounded
        twin.absorb(self, np.eye(4))
        return twin

    def absorb(self, other: PoseGraph, S_map_other: np.ndarray) -> None:
        """Takes in the keyframes of another map, and what ties them; S_map_other (4, 4) says where that map lies."""
        ids, S = [*self._index, *other._index], np.concatenate([self._S, S_map_other @ other._S])
        order = np.argsort(ids)                # by age: a map that waited may have begun after parts of the present one
        self._index = {ids[n]: place for place, n in enumerate(order.tolist())}
        self._S = S[order]
        self.connect([*other.edges, *other.travels])
        self._stances |= other._stances
        self._solved = None

    def forget(self, ids: Collection[int]) -> None:
        """Takes keyframes out. Those before and after a gap are tied as they are now, and so is what only one that has
        gone tied to the rest: nothing falls apart. Loops are handed on to the neighbours of those that have gone."""
        gone = set(ids)
        self.edges = [edge for edge in self.edges if not {edge.i, edge.j} & gone] + self._handed_on(gone)
        self.travels = [travel for travel in self.travels if not {travel.i, travel.j} & gone]
        part = dict(zip(self._index, self._parts(), strict=True))
        last, missing = None, 0
        for keyframe_id in self._index:
            if keyframe_id in gone:
                missing += 1
                continue
            if last is not None and (missing or part[keyframe_id] != part[last]):
                self.edges.append(Edge(last, keyframe_id, inverse(self.pose(last)) @ self.pose(keyframe_id),
                                       BRIDGE_SIGMA * np.sqrt(max(missing, 1))))
            last, missing = keyframe_id, 0
        self._stances = {i: stance for i, stance in self._stances.items() if i not in gone}
        kept = [i for i in self._index if i not in gone]
        self._S = self.poses(kept)
        self._index = {keyframe_id: n for n, keyframe_id in enumerate(kept)}
        self._solved = None

    def _handed_on(self, gone: set[int]) -> list[Edge]:
        """The loops of those that go, each between their nearest neighbours in time that stay, one for a pair."""
        ids, where = list(self._index), self._S[:, :3, 3]
        stays = np.flatnonzero([i not in gone for i in ids])
        heirs = {}
        for n, keyframe_id in enumerate(ids):
            around = stays[max(0, np.searchsorted(stays, n, "right") - 1):][:2]        # at or before, and after
            gaps = np.linalg.norm(where[around] - where[n], axis=1)
            if len(around) and gaps.min() <= HEIR_M:
                heirs[keyframe_id] = ids[around[gaps.argmin()]]
        loops = [edge for edge in self.edges if edge.loop]
        tied = {(edge.i, edge.j) for edge in loops if not {edge.i, edge.j} & gone}
        loops_of = Counter(chain.from_iterable(tied))
        handed = []
        for edge in loops:
            i, j = heirs.get(edge.i), heirs.get(edge.j)
            if {edge.i, edge.j} & gone and None not in (i, j) and i != j and (i, j) not in tied and \
                    max(loops_of[i], loops_of[j]) < MOST_LOOPS:
                tied.add((i, j))
                loops_of.update((i, j))
                S_i_gone = inverse(self.pose(i)) @ self.pose(edge.i)
                S_gone_j = inverse(self.pose(edge.j)) @ self.pose(j)
                handed.append(replace(edge, i=i, j=j, S_i_j=S_i_gone @ edge.S_i_j @ S_gone_j,
                                      sigma=np.hypot(edge.sigma, BRIDGE_SIGMA)))
        return handed

    def _parts(self) -> np.ndarray:
        """(N,) the number of the connected part of the graph that each keyframe is in."""
        ends = np.array([(self._index[tie.i], self._index[tie.j]) for tie in (*self.edges, *self.travels)], int)
        ties = coo_matrix((np.ones(len(ends)), ends.reshape(-1, 2).T), (len(self), len(self)))
        return connected_components(ties, directed=False)[1]

    def picture(self) -> GraphPicture:
        """For whoever draws it; all windows' edges and the loops."""
        ends = np.array([(self._index[edge.i], self._index[edge.j]) for edge in self.edges], np.int64).reshape(-1, 2)
        S_i_j = np.array([edge.S_i_j for edge in self.edges]).reshape(-1, 4, 4)
        S_i_j[:, :3] *= scale_of(self._S)[ends[:, 0], None, None]          # from the unit of i to metres
        return GraphPicture(self.ids, rigid_of(self._S), ends, np.array([edge.loop for edge in self.edges], bool),
                            rigid_of(S_i_j))

    def loops(self) -> int:
        """Edges that tie the present to the past."""
        return sum(edge.loop for edge in self.edges)

    def turn_sigma(self, first: int, last: int, loops: Iterable[Edge] = ()) -> float:
        """Radians: the turn errors of the windows' edges, each as often as the keyframes that it spans, and of these
        `loops`, added up on the way from one id to another that is least in doubt, as if all were wrong the same way.
        Infinite where there is no way: a camera that was carried, or lost and found, may be anywhere. One that windows
        did not understand for a while, and then tied to what was before, was not."""
        links: dict[tuple[int, int], float] = {}
        for edge in chain((edge for edge in self.edges if not edge.loop), loops):
            ends = self._index[edge.i], self._index[edge.j]
            spanned = 1 if edge.loop else abs(ends[0] - ends[1])
            links[ends] = min(links.get(ends, np.inf), spanned * edge.sigma[3:6].max())
        ways = csr_matrix((list(links.values()), np.array(list(links), int).reshape(-1, 2).T), (len(self), len(self)))
        return float(dijkstra(ways, directed=False, indices=self._index[first])[self._index[last]])

    def optimise(self, free: Collection[int] | None = None, loop: bool = False) -> None:
        """Moves the keyframes with the ids `free` (None: all) to the least robust cost; the others stay.

        Iteratively reweighted Gauss-Newton with steps on the right, S <- S exp(delta). With a new `loop` the robust
        kernel is wide at first and then narrowed, so that a true loop closes from afar, and what remains a
        contradiction is left out in the end (graduated non-convexity, Yang 2020). Raises AlignmentError if the system
        is singular.
        """
        free = self._index.keys() if free is None else set(free)
        nodes = np.array(sorted(self._index[i] for i in free), int)
        terms = self._terms(free)
        column = np.full(len(self), -1)
        column[nodes] = np.arange(len(nodes))
        held = np.append(column[nodes], column[0])           # by the prior, and by the gauge
        ends = [column[term.ends] for term in terms] + [np.stack([held, np.full_like(held, -1)], axis=1)]
        equations = Equations(len(nodes), np.concatenate(ends))
        for kernel in ANNEALED if loop else (CAUCHY,):
            self._descend(nodes, terms, equations, kernel)

    def covariance(self, keyframe_id: int) -> np.ndarray | None:
        """(6, 6) of T_map_cam as of the last `optimise`: position (m^2), turn (rad^2), about the map's axes.

        It is relative to the keyframes that stood still then. None for a keyframe that was not free.
        """
        if self._solved is None:
            return None
        equations, nodes = self._solved
        node = self._index[keyframe_id]
        if node not in nodes:
            return None
        S = self._S[node]
        axes = np.zeros((6, 7))
        axes[:3, :3], axes[3:, 3:6] = S[:3, :3], rotation_of(S)
        return axes @ equations.covariance(int(np.searchsorted(nodes, node))) @ axes.T

    def _descend(self, nodes: np.ndarray, terms: list[_Terms], equations: Equations, kernel: float) -> None:
        best, best_cost = self._S, np.inf
        for _ in range(STEPS + 1):
            residuals = [term.residuals(self._S) for term in terms]
            squares = [np.einsum("ek,ek->e", r * r, term.weights) for r, term in zip(residuals, terms, strict=True)]
            drift = np.log(scale_of(self._S[nodes]) / self.metric) / SCALE_SIGMA
            cost = sum(kernel ** 2 * np.log1p(square / kernel ** 2).sum() for square in squares) + drift @ drift
            if not cost < best_cost:
                break
            converged = best_cost - cost < CONVERGED * cost
            best, best_cost = self._S, cost
            if converged:
                break
            robust = [term.weights / (1 + square / kernel ** 2)[:, None]
                      for square, term in zip(squares, terms, strict=True)]
            step = self._step(nodes, terms, equations, residuals, robust)
            self._S = self._S.copy()
            self._S[nodes] = self._S[nodes] @ exp(step)
        self._S = best

    def _terms(self, free: Collection[int]) -> list[_Terms]:
        """What ties any of the keyframes with these ids, kind by kind."""
        at = self._index
        edges = [edge for edge in self.edges if edge.i in free or edge.j in free]
        travels = [travel for travel in self.travels if travel.i in free or travel.j in free]
        stances = [(at[i], stance) for i, stance in self._stances.items() if i in free] if self.grounded else []
        kinds = []
        if edges:
            kinds.append(_Terms(_edge, [(at[e.i], at[e.j]) for e in edges],
                                inverse(np.stack([e.S_i_j for e in edges])), [e.sigma for e in edges]))
        if travels:
            kinds.append(_Terms(_travel, [(at[t.i], at[t.j]) for t in travels],
                                inverse(np.stack([t.T_i_j for t in travels])), [(*t.sigma, np.inf) for t in travels]))
        for kind, value, sigma in ((_up, lambda s: s.up_cam, lambda s: s.up_sigma),
                                   (_floor, lambda s: s.height, lambda s: s.height_sigma),
                                   (_height, lambda s: s.height_m, lambda s: s.height_m_sigma)):
            known = [(node, stance) for node, stance in stances if np.isfinite(sigma(stance))]
            if known:
                kinds.append(_Terms(kind, [(node, node) for node, _ in known], np.array([value(s) for _, s in known]),
                                    [[sigma(s)] * 7 for _, s in known]))
        return kinds

    def _step(self, nodes: np.ndarray, terms: list[_Terms], equations: Equations, residuals: list[np.ndarray],
              weights: list[np.ndarray]) -> np.ndarray:
        """(n, 7) solution of the normal equations."""
        J_prior, weight, residual = self._prior(nodes)
        J_i, J_j = zip(*(term.jacobians(self._S) for term in terms), (J_prior, J_prior), strict=True)
        self._solved = None
        try:
            gradient = equations.decompose(*(np.concatenate(parts) for parts in (J_i, J_j, [*weights, weight],
                                                                                 [*residuals, residual])))
        except np.linalg.LinAlgError as error:
            raise AlignmentError(f"the pose graph of {len(nodes)} free keyframes is not determined: {error}") from error
        self._solved = equations, nodes
        return equations.solve(-gradient)

    def _prior(self, nodes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Jacobians (n + 1, 7, 7), weights and residuals (n + 1, 7) of what holds each node's scale, and the first
        keyframe: its place and its turn; over a floor its x, y and heading alone, and the rest but faintly, where
        nothing else says it."""
        n, S = len(nodes), self._S[0]
        J, weights, residuals = np.zeros((n + 1, 7, 7)), np.zeros((n + 1, 7)), np.zeros((n + 1, 7))
        J[:n, 6, 6], weights[:n, 6] = 1, SCALE_SIGMA ** -2
        residuals[:n, 6] = np.log(scale_of(self._S[nodes]) / self.metric)
        firm, faint = GAUGE_SIGMA ** -2, 1.0 if self.grounded else GAUGE_SIGMA ** -2
        J[n, :3, :3], J[n, 3:6, 3:6] = S[:3, :3], rotation_of(S)
        weights[n, :6] = firm, firm, faint, faint, faint, firm
        return J, weights, residuals


class _Terms:
    """E terms of one kind, as arrays: residuals (E, 7) and their Jacobians by the steps of both ends."""

    def __init__(self, kind: Callable, ends: list, measured: np.ndarray, sigma: list):
        self._kind, self._measured = kind, measured
        self.ends = np.array(ends, dtype=int)
        self.weights = np.array(sigma, dtype=float) ** -2.0

    def residuals(self, S: np.ndarray) -> np.ndarray:
        return self._kind(self._measured, S[self.ends[:, 0]], S[self.ends[:, 1]], False)

    def jacobians(self, S: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self._kind(self._measured, S[self.ends[:, 0]], S[self.ends[:, 1]], True)


# The kinds: (measured, S_i, S_j (E, 4, 4), jacobian) -> residuals (E, 7), or the Jacobians (E, 7, 7) by i and by j.

def _edge(S_j_i: np.ndarray, S_i: np.ndarray, S_j: np.ndarray, jacobian: bool):
    """log(S_j_i S_map_i^-1 S_map_j); the Jacobians at a small residual: the identity for j, -Ad(S_map_j^-1 S_map_i)
    for i (Strasdat 2012, section 2.4)."""
    if jacobian:
        return -adjoint(inverse(S_j) @ S_i), np.tile(np.eye(7), (len(S_i), 1, 1))
    return log(S_j_i @ inverse(S_i) @ S_j)


def _travel(T_j_i: np.ndarray, S_i: np.ndarray, S_j: np.ndarray, jacobian: bool):
    """The same between the cameras in metres, whatever their units: a step on the right moves a camera by its unit."""
    T_i, T_j = rigid_of(S_i), rigid_of(S_j)
    if jacobian:
        return -adjoint(inverse(T_j) @ T_i) @ _in_metres(S_i), _in_metres(S_j)
    return log(T_j_i @ inverse(T_i) @ T_j)


def _in_metres(S: np.ndarray) -> np.ndarray:
    steps = np.zeros((len(S), 7, 7))
    steps[:, [0, 1, 2], [0, 1, 2]] = scale_of(S)[:, None]
    steps[:, [3, 4, 5], [3, 4, 5]] = 1
    return steps


def _up(up_cam: np.ndarray, S: np.ndarray, _: np.ndarray, jacobian: bool):
    """The map's z in the camera against what the camera holds for up."""
    z_cam = rotation_of(S)[:, 2]
    if jacobian:
        J = np.zeros((len(S), 7, 7))
        J[:, :3, 3:6] = hat(z_cam)
        return J, np.zeros_like(J)
    return _padded(z_cam - up_cam)


def _floor(height: np.ndarray, S: np.ndarray, _: np.ndarray, jacobian: bool):
    """The camera's z against its height over the floor that it sees, in its own unit, whose error that is told in."""
    s = scale_of(S)
    z = S[:, 2, 3] / s
    if jacobian:
        J = np.zeros((len(S), 7, 7))
        J[:, 0, :3], J[:, 0, 6] = S[:, 2, :3] / s[:, None], -z
        return J, np.zeros_like(J)
    return _padded((z - height)[:, None])


def _height(height_m: np.ndarray, S: np.ndarray, _: np.ndarray, jacobian: bool):
    """The camera's z against its height over the floor in metres."""
    if jacobian:
        J = np.zeros((len(S), 7, 7))
        J[:, 0, :3] = S[:, 2, :3]
        return J, np.zeros_like(J)
    return _padded((S[:, 2, 3] - height_m)[:, None])


def _padded(residuals: np.ndarray) -> np.ndarray:
    return np.concatenate([residuals, np.zeros((len(residuals), 7 - residuals.shape[1]))], axis=1)
