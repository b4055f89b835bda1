"""Places that were seen before: found by how an image looks, believed when several windows say the same.

A false loop bends the whole map, so what would move it must come with two proofs. The images match beyond doubt: many
of the places that the network looks for in the old view are found, and one pose between the views explains them. And a
second window, of another image, asks for the same correction of the map; what looks alike by chance does not move on as
the camera does. Things that look the same from two sides do, though: so no loop is believed that turns the map by more
than the windows since, and the loops in between, can be wrong. What the map says already needs far less: chance would
not hit upon it.
"""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import compress

import numpy as np

from lsm_ros.contracts import WindowPrediction
from lsm_ros.geometry.sim3 import inverse, log, rotation_angle, rotation_of, scale_of, transform
from lsm_ros.mapping.graph import Edge, PoseGraph

ALIKE = 0.6                # likeness of two images of one place: on a real walk 2 of 3 such pairs share a view
# Matches that agree with the pose between two views, and matches that the network expects to be right. On two rendered
# walks 529 of 544 windows with an old view that truly shared three tenths of the newest pass the first bars, and so do
# 4 of 68 with one that shared less than one; 438 and none pass the second.
SEEN = (60, 60.0)          # for an edge that the map fulfils
SURE = (180, 300.0)        # for one that moves it, or that tells a lost camera where it is
CLOSE_SIGMAS, CLOSE_M, CLOSE_RAD = 5.0, 0.4, np.radians(12.0)     # an edge that the map nearly fulfils needs no witness
WITNESS_WITHIN = 25        # keyframes within which the second window must come
SAME_M, SAME_RAD, SAME_LOG = 0.35, np.radians(8.0), 0.2     # how far the corrections of two windows may differ

# Sigmas by which every link on the way, and the loop itself, would have to turn wrong, all the same way, for the loop
# to be true. True loops ask for .1 to 1.9, after a false step for 2.3; the far side of a symmetric cabinet for 5 to 6,
# a room that looks the same from both ends, after 150 keyframes and 77 loops, for 6.3 to 7.4 (1.9 without the loops).
STRAIN = 3.5


class Places:
    """What the keyframes look like, as vectors: alike for images of one place."""

    def __init__(self, items: Iterable[tuple[int, np.ndarray]] = ()):
        """`items` as `items` gives them."""
        self._ids: list[int] = []
        self._vectors: list[np.ndarray] = []
        for keyframe_id, vector in items:
            self.add(keyframe_id, vector)

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, keyframe_id: int, vector: np.ndarray) -> None:
        """`vector` (D,) of length 1."""
        self._ids.append(keyframe_id)
        self._vectors.append(vector)

    def forget(self, ids: set[int]) -> None:
        kept = [n for n, i in enumerate(self._ids) if i not in ids]
        self._ids, self._vectors = [self._ids[n] for n in kept], [self._vectors[n] for n in kept]

    def most_alike(self, vector: np.ndarray, among: list[int]) -> list[tuple[int, float]]:
        """The keyframes of `among` with their likeness, -1 to 1, the most alike first."""
        wanted = set(among)
        chosen = [n for n, i in enumerate(self._ids) if i in wanted]
        if not chosen:
            return []
        likeness = np.stack([self._vectors[n] for n in chosen]) @ vector
        return [(self._ids[chosen[n]], float(likeness[n])) for n in np.argsort(-likeness, kind="stable")]

    def items(self) -> list[tuple[int, np.ndarray]]:
        return list(zip(self._ids, self._vectors, strict=True))


def recognised(prediction: WindowPrediction, support: np.ndarray, old: int, newest: int,
               least: tuple[int, float] = SURE) -> bool:
    """Whether two views of a window match so well that they show one place; `support` as in Refinement."""
    if prediction.matches is None or support[old, newest] < least[0]:
        return False
    return float(_confidences(prediction, old, newest).sum()) >= least[1]


def matches_right(prediction: WindowPrediction, a: int, b: int) -> float:
    """The share of the matches between two views of a window that the network expects to be right; 1 where it does not
    tell, 0 where there are none."""
    if prediction.matches is None:
        return 1.0
    confidences = _confidences(prediction, a, b)
    return float(confidences.mean()) if len(confidences) else 0.0


def _confidences(prediction: WindowPrediction, a: int, b: int) -> np.ndarray:
    """(M,) of the matches between two views."""
    matches = prediction.matches
    return matches.confidence[(matches.a == a) & (matches.b == b) | (matches.a == b) & (matches.b == a)]


class LoopCloser:
    """Edges from the present to the past wait here until they are believed."""

    def __init__(self):
        self._waiting: list[Edge] = []

    def believed(self, edge: Edge, graph: PoseGraph, sure: bool = True) -> list[Edge]:
        """The edges, this one and earlier ones, that can go into the graph; of an edge j is the newer keyframe.

        It is what the map says already; or the images are `sure` to match, the way since can have drifted so far, and
        it has a witness or has waited until other loops have moved the map there.
        """
        ids = graph.ids
        oldest = ids[-WITNESS_WITHIN] if len(ids) >= WITNESS_WITHIN else ids[0]
        waiting, self._waiting, close = self._waiting, [], []
        waiting = [other for other in waiting if other.j >= oldest and other.i in graph and other.j in graph]
        *fits, fitting = fulfilled([*waiting, edge], graph)
        for other, fit in zip(waiting, fits, strict=True):
            (close if fit else self._waiting).append(other)
        if fitting:
            return [edge, *close]
        if not sure or tears(edge, graph):
            return close
        witnesses = [other for other in self._waiting if other.j != edge.j and same_correction(edge, other, graph)]
        if not witnesses:
            self._waiting.append(edge)
            return close
        self._waiting = [other for other in self._waiting if all(other is not witness for witness in witnesses)]
        return [edge, *close, *witnesses]


def fulfilled(edges: Sequence[Edge], graph: PoseGraph) -> np.ndarray:
    """(n,) bool: whether the map says the same as each edge: within its sigmas, which of a weak one may be wide, and in
    metres. All at once, for a map may have thousands of loops."""
    S_i, S_j = (graph.poses([getattr(edge, end) for edge in edges]) for end in "ij")
    S_i_j = np.array([edge.S_i_j for edge in edges]).reshape(-1, 4, 4)
    sigma = np.array([edge.sigma for edge in edges]).reshape(-1, 7)
    residual = log(inverse(S_i_j) @ inverse(S_i) @ S_j)
    C, cameras = corrections(edges, graph), S_j[:, :3, 3]
    return ((np.linalg.norm(residual / sigma, axis=1) < CLOSE_SIGMAS)
            & (np.linalg.norm(transform(C, cameras[:, None])[:, 0] - cameras, axis=1) < CLOSE_M)
            & (rotation_angle(rotation_of(C), np.eye(3)) < CLOSE_RAD))


def tears(edge: Edge, graph: PoseGraph) -> bool:
    """Whether an edge turns the map by more than the way between its keyframes can have drifted. Loops that the map
    fulfils shorten the way; those that wait to move it say nothing of where it is now."""
    turn = rotation_angle(rotation_of(corrections([edge], graph)[0]), np.eye(3))
    loops = [other for other in graph.edges if other.loop]
    loops = list(compress(loops, fulfilled(loops, graph)))
    return bool(turn > STRAIN * (graph.turn_sigma(edge.i, edge.j, loops) + edge.sigma[3:6].max()))


def corrections(edges: Sequence[Edge], graph: PoseGraph) -> np.ndarray:
    """(n, 4, 4) that move the map about keyframe j of each edge to where it says it is."""
    S_i, S_j = (graph.poses([getattr(edge, end) for edge in edges]) for end in "ij")
    return S_i @ np.array([edge.S_i_j for edge in edges]).reshape(-1, 4, 4) @ inverse(S_j)


def same_correction(a: Edge, b: Edge, graph: PoseGraph) -> bool:
    """Whether two edges would move the newest cameras alike."""
    C_a, C_b = corrections([a, b], graph)
    cameras = graph.poses([a.j, b.j])[:, :3, 3]
    gap = np.linalg.norm(transform(C_a, cameras) - transform(C_b, cameras), axis=1).max()
    return bool(gap < SAME_M and rotation_angle(rotation_of(C_a), rotation_of(C_b)) < SAME_RAD
                and abs(np.log(scale_of(C_a) / scale_of(C_b))) < SAME_LOG)
