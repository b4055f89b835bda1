"""Frames that hang on each other, with the history of every edge: what tf2 keeps, in numpy.

tf2_ros is on no package registry, so the node carries this instead, everywhere: one behaviour, tested to the digit.
"""
from __future__ import annotations

import math
import time
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from lsm_ros.errors import TooEarlyError, TransformError
from lsm_ros.geometry.sim3 import inverse, matrix_from_quaternion, sim3

HISTORY_NS = 10_000_000_000
MOST_SAMPLES = 10_000           # of an edge: 1 kHz for those ten seconds
MOST_FRAMES = 10_000            # a robot has tens
FARTHEST_M = 1e7                # a translation beyond a quarter of the earth's meridian is none
# A recording that starts again goes back by seconds; less is a publisher that stamps out of order. Of images, too.
JUMP_BACK_NS = 500_000_000
FORGET_EVERY_S = 1.0
FORGOTTEN_AFTER_S = 60.0        # a moving edge that nobody has told for this long is dropped when a new one comes


@dataclass
class Edge:
    """The pose of a frame in its parent over time. One sample, for all times, where it is static."""
    parent: str
    static: bool
    heard_s: float
    stamps: list[int] = field(default_factory=list)         # ns, ascending
    poses: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)      # translation (3,), x y z w (4,)


class FrameTree:
    """The newest ten seconds of a tree of frames. Names may have a leading slash, as ROS 1 wrote them."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic):
        self._now_s = now_s
        self._edges: dict[str, Edge] = {}       # child -> edge
        self._forgot_s = -math.inf
        self._parents: set[str] = set()         # of edges that there are or were, so that a root is known too

    def set(self, parent: str, child: str, stamp_ns: int, translation: np.ndarray, quaternion: np.ndarray,
            static: bool = False) -> None:
        """Adds T_parent_child at a time; `translation` (3,) metres, `quaternion` (4,) x y z w.

        An edge whose time jumps back starts again; a frame that gets another parent forgets the one before.
        Raises TransformError for what is no transform.
        """
        parent, child = parent.lstrip("/"), child.lstrip("/")
        if parent == child or not parent or not child:
            raise TransformError(f"a transform from {parent!r} to {child!r} is none")
        length = np.linalg.norm(quaternion)
        if not (np.abs(translation).max() <= FARTHEST_M and abs(length - 1) < 0.01):
            raise TransformError(f"the transform {parent} -> {child} has the translation {np.asarray(translation)} and "
                                 f"the quaternion {np.asarray(quaternion)}")
        now_s = self._now_s()
        edge = self._edges.get(child)
        if edge is None:
            self._forget(now_s)
            if len(self._edges) >= MOST_FRAMES:
                raise TransformError(f"TF has {MOST_FRAMES} frames already; {parent} -> {child} is left out")
        if edge is None or edge.parent != parent or edge.static != static or static \
                or stamp_ns < edge.stamps[-1] - JUMP_BACK_NS:
            edge = self._edges[child] = Edge(parent, static, now_s)
            self._parents.add(parent)
        edge.heard_s = now_s
        pose = np.asarray(translation, np.float64), np.asarray(quaternion, np.float64) / length
        at = bisect_left(edge.stamps, stamp_ns)
        if at < len(edge.stamps) and edge.stamps[at] == stamp_ns:
            edge.poses[at] = pose
            return
        edge.stamps.insert(at, stamp_ns)
        edge.poses.insert(at, pose)
        old = max(bisect_left(edge.stamps, edge.stamps[-1] - HISTORY_NS), len(edge.stamps) - MOST_SAMPLES)
        del edge.stamps[:old], edge.poses[:old]

    def clear(self) -> None:
        """Forgets what moves. Static edges are told once only, so they stay, as in tf2."""
        self._edges = {child: edge for child, edge in self._edges.items() if edge.static}

    def knows(self, frame: str) -> bool:
        frame = frame.lstrip("/")
        return frame in self._edges or frame in self._parents

    def parent(self, frame: str, silent_s: float = math.inf) -> str | None:
        """The frame that `frame` hangs on, or None; nor does it hang on one that nobody has told for `silent_s`
        seconds, unless it is fixed."""
        edge = self._edges.get(frame.lstrip("/"))
        return edge.parent if edge and (edge.static or self._now_s() - edge.heard_s <= silent_s) else None

    def frames(self) -> list[str]:
        return sorted(self._edges.keys() | self._parents)

    def rings(self) -> list[list[str]]:
        """Frames that hang on each other in a circle, each on the next one; every ring once."""
        found, seen = [], set()
        for frame in sorted(self._edges):
            chain = []
            while frame in self._edges and frame not in seen:
                seen.add(frame)
                chain.append(frame)
                frame = self._edges[frame].parent
            if frame in chain:
                found.append(chain[chain.index(frame):])
        return found

    def lookup(self, target: str, source: str, stamp_ns: int) -> np.ndarray:
        """T_target_source (4, 4) at a time, interpolated between the samples on each edge of the way.

        Raises TooEarlyError where an edge isn't told up to that time yet, and TransformError for a frame that is not
        known, frames that don't hang together, or a time before the history. Nothing is extrapolated.
        """
        target, source = target.lstrip("/"), source.lstrip("/")
        if target and target == source:         # as in tf2 also of one that nobody tells of
            return np.eye(4)
        for frame in (target, source):
            if not self.knows(frame):
                raise TransformError(f"TF knows no frame {frame!r}")
        up_target, up_source = self._ancestors(target), self._ancestors(source)
        common = next((frame for frame in up_source if frame in up_target), None)
        if common is None:
            raise TransformError(f"TF does not connect {source!r} with {target!r}: the one hangs on {up_source[-1]!r}, "
                                 f"the other on {up_target[-1]!r}")
        T_common_target = self._climb(up_target[:up_target.index(common)], stamp_ns)
        T_common_source = self._climb(up_source[:up_source.index(common)], stamp_ns)
        return inverse(T_common_target) @ T_common_source

    def _ancestors(self, frame: str) -> list[str]:
        """The frame, its parent, and so on to the root. Raises TransformError for a ring."""
        chain = [frame]
        while (edge := self._edges.get(chain[-1])) is not None:
            if edge.parent in chain:
                raise TransformError(f"TF is a ring: {' -> '.join([*chain, edge.parent])}")
            chain.append(edge.parent)
        return chain

    def _climb(self, frames: list[str], stamp_ns: int) -> np.ndarray:
        """(4, 4) from the first frame to the parent of the last."""
        T = np.eye(4)
        for frame in frames:
            T = self._pose(frame, stamp_ns) @ T
        return T

    def _pose(self, child: str, stamp_ns: int) -> np.ndarray:
        """T_parent_child (4, 4) of one edge."""
        edge = self._edges[child]
        if edge.static:
            return _matrix(*edge.poses[0])
        oldest, newest = edge.stamps[0], edge.stamps[-1]
        if not oldest <= stamp_ns <= newest:
            gap_s = (stamp_ns - newest if stamp_ns > newest else oldest - stamp_ns) * 1e-9
            told = (f"TF has {edge.parent} -> {child} from {oldest * 1e-9:.3f} s to {newest * 1e-9:.3f} s; "
                    f"{stamp_ns * 1e-9:.3f} s is {gap_s:.3f} s")
            if stamp_ns > newest:
                raise TooEarlyError(f"{told} after the newest", gap_s)
            raise TransformError(f"{told} before the oldest")
        after = bisect_left(edge.stamps, stamp_ns)
        if edge.stamps[after] == stamp_ns:
            return _matrix(*edge.poses[after])
        start, end = edge.stamps[after - 1], edge.stamps[after]
        share = (stamp_ns - start) / (end - start)
        (t_a, q_a), (t_b, q_b) = edge.poses[after - 1], edge.poses[after]
        return _matrix((1 - share) * t_a + share * t_b, slerp(q_a, q_b, share))

    def _forget(self, now_s: float) -> None:
        """Keyframes and the like are told for a while under ever new names; without this the tree would only grow."""
        if now_s - self._forgot_s < FORGET_EVERY_S:
            return
        self._forgot_s = now_s
        self._edges = {child: edge for child, edge in self._edges.items()
                       if edge.static or now_s - edge.heard_s <= FORGOTTEN_AFTER_S}
        self._parents = {edge.parent for edge in self._edges.values()}


def slerp(q_a: np.ndarray, q_b: np.ndarray, share: float) -> np.ndarray:
    """(4,) the unit quaternion at `share` of the shorter way from q_a to q_b (Shoemake 1985)."""
    cosine = float(q_a @ q_b)
    if cosine < 0:
        q_b, cosine = -q_b, -cosine
    angle = np.arccos(min(cosine, 1.0))
    if angle < 1e-6:                    # the sines cancel
        return (1 - share) * q_a + share * q_b
    return (np.sin((1 - share) * angle) * q_a + np.sin(share * angle) * q_b) / np.sin(angle)


def _matrix(translation: np.ndarray, quaternion: np.ndarray) -> np.ndarray:
    return sim3(matrix_from_quaternion(quaternion), translation)
