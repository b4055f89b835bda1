"""The fused map: voxels with position, colour and evidence for every class.

The evidence of a voxel is the sum, over the keyframes that saw it, of their log-probabilities of each class times
their confidence: Bayes' rule for independent sightings with equal priors (SemanticFusion, McCormac 2017), in log-space.
All that a voxel holds is sums, so what a keyframe has brought can be taken out again when its pose moves.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array

from lsm_ros.contracts import Cloud
from lsm_ros.errors import AlignmentError
from lsm_ros.geometry.sim3 import scale_of, transform
from lsm_ros.mapping.views import View

BITS = 21                          # of a cell index along each axis; a key packs three
OFFSET = 1 << (BITS - 1)
BLOCK = 1 << 15                    # rows are added in blocks: growing one array would copy it, which takes a second
INSIDE = 0.49                      # of a voxel's edge: how far from the centre of its cell a voxel's point may be
LOG_FLOOR = -7.0                   # no single sighting may exclude a class for good

# Columns of a voxel's row; the classes follow.
SIGHTINGS, POINTS, WEIGHT, EVIDENCE_WEIGHT = 0, 1, 2, 3
POSITION, COLOR, CLASSES = slice(4, 7), slice(7, 10), 10


@dataclass(frozen=True)
class Voxels:
    """The voxels that were seen often enough, V of them."""
    cells: np.ndarray              # (V, 3) int64, index of the cell along x, y, z
    cloud: Cloud                   # their mean points, colours, most likely class and mean confidence in the depth
    certainty: np.ndarray          # (V,) float32, probability of that class in a typical sighting, 0..1


@dataclass(frozen=True)
class Changes:
    """What makes the map of an earlier call of `take_changes` the map of now."""
    anew: bool                     # the map was cleared in between: whatever was in it is gone
    cloud: Cloud                   # new voxels, voxels with another value, and with confidence 0 those that are gone


@dataclass(frozen=True)
class _Fused:
    """A keyframe as it is in the voxels."""
    view: View
    S_map_cam: np.ndarray
    confidence_drop: float
    max_depth_m: float


class SemanticMap:
    """Voxels of `voxel_size_m` in the map frame, from the views of keyframes."""

    def __init__(self, classes: int, voxel_size_m: float, confidence_drop: float, max_depth_m: float):
        self._classes, self._size = classes, voxel_size_m
        self.configure(confidence_drop, max_depth_m)
        self.clear()

    def configure(self, confidence_drop: float, max_depth_m: float) -> None:
        """Other limits for the views that are fused from now on."""
        self._drop, self._max_depth = confidence_drop, max_depth_m

    def clear(self) -> None:
        self._keys = np.empty(0, np.int64)         # sorted
        self._rows = np.empty(0, np.int64)         # of each key
        self._blocks: list[np.ndarray] = []        # (BLOCK, columns) float32
        self._fused: dict[int, _Fused] = {}
        self._emptied = 0                          # times that a row lost its last sighting since the last `_compact`
        # By row, as long as the blocks together: what `take_changes` needs.
        self._key_of = np.empty(0, np.int64)
        self._changed = np.empty(0, bool)          # since it was last called
        self._taken = np.empty(0, bool)            # was in the map when it was last called
        self._anew = True

    def __len__(self) -> int:
        """Voxels that take up room, empty ones among them."""
        return len(self._keys)

    def fuse(self, view: View, S_map_cam: np.ndarray) -> None:
        """Adds a view at a pose; an earlier version of the same keyframe is taken out first."""
        before = self._fused.get(view.keyframe.id)
        if before is not None:
            self._add(*self._sums(before), sign=-1)
        now = _Fused(view, S_map_cam.copy(), self._drop, self._max_depth)
        self._add(*self._sums(now), sign=1)
        self._fused[view.keyframe.id] = now
        self._compact_if_worth_it()

    def forget(self, keyframe_id: int) -> None:
        """Takes out what a keyframe has brought."""
        before = self._fused.pop(keyframe_id, None)
        if before is not None:
            self._add(*self._sums(before), sign=-1)
            self._compact_if_worth_it()

    def displacement(self, views: list[View], S_map_cam: np.ndarray) -> np.ndarray:
        """(n,) metres that the points of views have moved, in the mean, since they were fused; S_map_cam (n, 4, 4)."""
        before = [self._fused[view.keyframe.id] for view in views]
        now = transform(S_map_cam, np.stack([view.samples for view in views]))
        then = transform(np.stack([b.S_map_cam for b in before]), np.stack([b.view.samples for b in before]))
        return np.linalg.norm(now - then, axis=2).mean(axis=1)

    def voxels(self, min_observations: int) -> Voxels:
        """Those that at least so many keyframes saw, in the order of their keys."""
        parts, count = [], len(self._keys)
        for first in range(0, count, BLOCK):
            rows = self._blocks[first // BLOCK][:count - first]
            parts.append(_means(rows[rows[:, SIGHTINGS] >= min_observations]))
        if not parts:
            empty = np.empty((0, 3))
            return Voxels(empty.astype(np.int64), Cloud(empty.astype(np.float32), empty.astype(np.uint8),
                          np.empty(0, np.uint16), np.empty(0, np.uint8)), np.empty(0, np.float32))
        means = _Means(*(np.concatenate(column) for column in zip(*parts, strict=True)))

        seen = self._sightings() >= min_observations       # by row, as above; now put into the order of the keys
        place = np.cumsum(seen) - 1
        kept = seen[self._rows]
        return self._voxels(self._keys[kept], _Means(*(column[place[self._rows[kept]]] for column in means)))

    def take_changes(self, min_observations: int) -> Changes:
        """What has changed since the last call, the values as `voxels` would show them.

        A voxel that is part of the map no more is at the centre of its cell and has the confidence 0, as no other has.
        The cost is that of the voxels that changed, but for a look at one byte of each.
        """
        rows = np.flatnonzero(self._changed)
        self._changed[rows] = False
        sums = np.empty((len(rows), CLASSES + self._classes), np.float32)
        for number in np.unique(rows // BLOCK):
            mine = rows // BLOCK == number
            sums[mine] = self._blocks[number][rows[mine] % BLOCK]
        seen = sums[:, SIGHTINGS] >= min_observations
        gone = rows[~seen & self._taken[rows]]
        self._taken[rows] = seen
        now = self._voxels(self._key_of[rows[seen]], _means(sums[seen])).cloud
        centres = ((unpack(self._key_of[gone]) + 0.5) * self._size).astype(np.float32)
        anew, self._anew = self._anew, False
        return Changes(anew, Cloud(points=np.concatenate([now.points, centres]),
                                   colors=np.concatenate([now.colors, np.zeros((len(gone), 3), np.uint8)]),
                                   labels=np.concatenate([now.labels, np.zeros(len(gone), np.uint16)]),
                                   confidence=np.concatenate([now.confidence, np.zeros(len(gone), np.uint8)])))

    def _voxels(self, keys: np.ndarray, means: _Means) -> Voxels:
        cells = unpack(keys)
        # Never quite on the border, so that a reader who rounds a point down finds its cell in spite of float32.
        points = (cells + 0.5) * self._size + means.offsets.clip(-INSIDE * self._size, INSIDE * self._size)
        return Voxels(cells, Cloud(points=points.astype(np.float32),
                                   colors=np.rint(means.colors).clip(0, 255).astype(np.uint8),
                                   labels=means.labels.astype(np.uint16),
                                   confidence=np.rint(255 * means.confidence).clip(1, 255).astype(np.uint8)),
                      means.certainty.astype(np.float32))

    def _sightings(self) -> np.ndarray:
        columns = [block[:, SIGHTINGS] for block in self._blocks]
        return np.concatenate(columns)[:len(self._keys)]

    def _sums(self, fused: _Fused) -> tuple[np.ndarray, np.ndarray]:
        """Keys (n,) sorted and rows (n, columns) of one keyframe."""
        view = fused.view
        points = transform(fused.S_map_cam, view.points)
        depth = view.depth * float(scale_of(fused.S_map_cam))
        good = view.reliable(fused.confidence_drop) & (depth <= fused.max_depth_m)
        points, weight = points[good], np.maximum(view.confidence[good][:, None], 1e-3)
        cells = np.floor(points / self._size).astype(np.int64)
        keys, voxel = np.unique(pack(cells), return_inverse=True)
        columns = np.empty((len(points), CLASSES), np.float32)
        columns[:, [SIGHTINGS, POINTS]] = 1
        columns[:, [WEIGHT, EVIDENCE_WEIGHT]] = weight
        columns[:, POSITION] = weight * (points - (cells + 0.5) * self._size)
        columns[:, COLOR] = weight * view.colors[good]
        sums = np.empty((len(keys), CLASSES + self._classes), np.float32)
        evidence = np.maximum(view.log_probabilities.reshape(-1, self._classes), LOG_FLOOR)
        # Summing pixels into voxels is a sparse product; classes go there from their own coarser grid, 4 times smaller.
        of_pixels = csr_array((np.ones_like(weight[:, 0]), (voxel, np.arange(len(points)))), (len(keys), len(points)))
        of_classes = csr_array((weight[:, 0], (voxel, view.semantic_cells()[good])), (len(keys), len(evidence)))
        sums[:, :CLASSES], sums[:, CLASSES:] = of_pixels @ columns, of_classes @ evidence
        # The pixels of one image are one sighting, not many independent ones: their evidence is averaged.
        sums[:, EVIDENCE_WEIGHT] /= sums[:, POINTS]
        sums[:, CLASSES:] /= sums[:, POINTS, None]
        sums[:, SIGHTINGS] = 1
        return keys, sums

    def _add(self, keys: np.ndarray, sums: np.ndarray, sign: int) -> None:
        rows = self._rows_of(keys)
        self._changed[rows] = True
        for number in np.unique(rows // BLOCK):
            mine = rows // BLOCK == number
            block, place = self._blocks[number], rows[mine] % BLOCK
            block[place] += sign * sums[mine]
            if sign < 0:
                empty = place[block[place, SIGHTINGS] < 0.5]
                block[empty] = 0                                     # nobody left: no rounding residue either
                self._emptied += len(empty)

    def _compact_if_worth_it(self) -> None:
        """Gives the room of empty voxels back once they may be half of all: a map that moves or forgets stays small."""
        if self._emptied < max(len(self._keys) // 2, BLOCK):
            return
        self._emptied = 0
        count = len(self._keys)
        alive = (self._sightings() >= 0.5) | self._taken[:count]     # what a reader still has must yet be told as gone
        rows = np.concatenate(self._blocks)[:count][alive] if count else np.empty((0, CLASSES + self._classes))
        kept = alive[self._rows]
        self._keys, self._rows = self._keys[kept], (np.cumsum(alive) - 1)[self._rows[kept]]
        room = -(-len(rows) // BLOCK) * BLOCK - len(rows)
        rows = np.concatenate([rows, np.zeros((room, rows.shape[1]))]).astype(np.float32)
        self._blocks = [rows[first:first + BLOCK].copy() for first in range(0, len(rows), BLOCK)]
        for name in ("_key_of", "_changed", "_taken"):
            values = getattr(self, name)[:count][alive]
            setattr(self, name, np.concatenate([values, np.zeros(room, values.dtype)]))

    def _rows_of(self, keys: np.ndarray) -> np.ndarray:
        """(n,) rows of sorted, distinct keys; new ones get a row."""
        place = np.searchsorted(self._keys, keys)
        known = np.zeros(len(keys), bool)
        inside = place < len(self._keys)
        known[inside] = self._keys[place[inside]] == keys[inside]
        rows = np.empty(len(keys), np.int64)
        rows[known] = self._rows[place[known]]
        rows[~known] = len(self._keys) + np.arange(np.count_nonzero(~known))
        self._keys = np.insert(self._keys, place[~known], keys[~known])
        self._rows = np.insert(self._rows, place[~known], rows[~known])
        while len(self._blocks) * BLOCK < len(self._keys):
            self._blocks.append(np.zeros((BLOCK, CLASSES + self._classes), np.float32))
            self._key_of = np.concatenate([self._key_of, np.zeros(BLOCK, np.int64)])
            self._changed = np.concatenate([self._changed, np.zeros(BLOCK, bool)])
            self._taken = np.concatenate([self._taken, np.zeros(BLOCK, bool)])
        self._key_of[rows[~known]] = keys[~known]
        return rows


class _Means(NamedTuple):
    """What rows (n, columns) say."""
    offsets: np.ndarray            # (n, 3) from the centres of the cells, metres
    colors: np.ndarray             # (n, 3) 0..255
    labels: np.ndarray             # (n,)
    confidence: np.ndarray         # (n,) 0..1
    certainty: np.ndarray          # (n,) 0..1


def _means(rows: np.ndarray) -> _Means:
    weight = rows[:, WEIGHT, None]
    mean = rows[:, CLASSES:] / rows[:, EVIDENCE_WEIGHT, None]
    mean = np.exp(mean - mean.max(axis=1, keepdims=True))
    return _Means(rows[:, POSITION] / weight, rows[:, COLOR] / weight, rows[:, CLASSES:].argmax(axis=1),
                  rows[:, WEIGHT] / rows[:, POINTS], 1 / mean.sum(axis=1))


def pack(cells: np.ndarray) -> np.ndarray:
    """Cells (N, 3) int64 -> keys (N,) int64, in the order of x, then y, then z.

    Raises AlignmentError for a cell beyond 21 bits an axis: at 5 cm, 52 km from the origin.
    """
    if len(cells) and np.abs(cells).max() >= OFFSET:
        raise AlignmentError(f"a point lies {np.abs(cells).max()} voxels from the map's origin, beyond {OFFSET}")
    shifted = cells + OFFSET
    return (shifted[:, 0] << 2 * BITS) | (shifted[:, 1] << BITS) | shifted[:, 2]


def unpack(keys: np.ndarray) -> np.ndarray:
    """Keys (N,) -> cells (N, 3)."""
    mask = (1 << BITS) - 1
    return np.stack([keys >> 2 * BITS, keys >> BITS & mask, keys & mask], axis=1) - OFFSET
