"""The fused map: voxels with position, colour and evidence for every class.

The evidence of a voxel is the sum, over the keyframes that saw it, of their log-probabilities of each class times
their confidence: Bayes' rule for independent sightings with equal priors (SemanticFusion, McCormac 2017), in log-space.
All that a voxel holds is sums, so what a keyframe has brought can be taken out again when its pose moves.

Depth errs the more, the farther it is: what was seen from afar strays, and who comes near looks through it. A voxel is
therefore part of the map only as long as the keyframes that see through it weigh no more than those that see it, each
by the inverse square of its depth there: votes for free and occupied as in Moravec and Elfes (1985). Only the last part
of the way to a surface counts as seen through, and nothing behind it, so what was only seen from afar stays.
"""
from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from lsm_ros.contracts import Cloud
from lsm_ros.errors import AlignmentError
from lsm_ros.geometry.sim3 import scale_of
from lsm_ros.mapping.kernels import COUNT, NUMBER, array, check_shapes, kernel
from lsm_ros.mapping.views import View
from lsm_ros.mapping.voxel_table import Block, VoxelTable

BITS = 21                          # of a cell index along each axis; a key packs three, as in src/voxels.cpp
OFFSET = 1 << (BITS - 1)
REACH = 0.9                        # share of the cells along an axis that cameras may lie in: they see into the others
BLOCK = 1 << 15                    # rows are added in blocks: growing one array would copy it, which takes a second
INSIDE = 0.49                      # of a voxel's edge: how far from the centre of its cell a voxel's point may be
LATEST = 40                        # keyframes of which is kept what they have brought, a megabyte or two each

# Columns of a voxel's row, as in src/voxels.cpp; the classes follow.
THROUGH, SEEN, SIGHTINGS, POINTS, WEIGHT, EVIDENCE_WEIGHT = range(6)
POSITION, COLOR, CLASSES = slice(6, 9), slice(9, 12), 12

CLEAR_STEPS = 5                    # most cells that a pixel sees through, as in src/voxels.cpp
_view_voxels = kernel(
    "view_voxels", COUNT, COUNT, COUNT, array(np.float64, 2), array(np.float32, 3), array(np.float32, 2),
    array(np.uint8, 3), array(np.int64, 2), COUNT, array(np.float32, 2), NUMBER, array(np.int64, 1),
    array(np.float32, 2), array(np.int64, 1), array(np.int32, 1), array(np.int64, 1))


@dataclass(frozen=True)
class Voxels:
    """The voxels that are part of the map, V of them."""
    cells: np.ndarray              # (V, 3) int64, index of the cell along x, y, z
    cloud: Cloud                   # their mean points, colours, most likely class and mean confidence in the depth
    certainty: np.ndarray          # (V,) float32, probability of that class in a typical sighting, 0..1
    pixels: np.ndarray             # (V,) float32, of all keyframes, that fell into each


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


class _Brought(NamedTuple):
    """What a keyframe brings: n cells that it sees, m that it sees through."""
    keys: np.ndarray               # (n,) distinct
    sums: np.ndarray               # (n, columns) float32
    clear: np.ndarray              # (m,) distinct keys, none of the others
    weights: np.ndarray            # (m,) int32


_Chosen = tuple[Block, np.ndarray]       # and the rows in it that are meant


class _Pixels(NamedTuple):
    """A view of h x w pixels as it is in itself, wherever its pose lies."""
    points: np.ndarray             # (h, w, 3) float32 in the camera, in the keyframe's unit
    weight: np.ndarray             # (h, w) float32, 0 where a pixel is not to be believed
    cell: np.ndarray               # (h, w) int64, the row of `evidence` that covers the pixel
    evidence: np.ndarray           # (hs * ws, classes) float32


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
        self._table = VoxelTable(CLASSES + self._classes, BLOCK)
        self._fused: dict[int, _Fused] = {}
        self._latest: OrderedDict[int, _Brought] = OrderedDict()   # of keyframes that were fused last, as they are
        self._asked = 0                            # the sightings that the last `take_changes` wanted
        self._anew = True
        self._looked_at: tuple[View, float, _Pixels] | None = None
        self._room = _Brought(*np.empty((4, 0)))

    @property
    def reach_m(self) -> float:
        """How far from the origin, along each axis, a camera may be whose view is to be fused."""
        return REACH * OFFSET * self._size

    def __len__(self) -> int:
        """Voxels that take up room, empty ones among them."""
        return len(self._table)

    def fuse(self, view: View, S_map_cam: np.ndarray) -> None:
        """Adds a view at a pose; an earlier version of the same keyframe is taken out first. Raises AlignmentError, and
        leaves all as it is, where a point lies too far away for a key."""
        before = self._fused.get(view.keyframe.id)
        now = _Fused(view, S_map_cam.copy(), self._drop, self._max_depth)
        brought = self._brought(now)                   # raises before anything has changed
        if before is not None:
            self._add(self._brought_by(before), sign=-1)
        self._add(brought, sign=1)
        self._fused[view.keyframe.id] = now
        self._latest[view.keyframe.id] = brought
        while len(self._latest) > LATEST:
            self._latest.popitem(last=False)
        self._table.reclaim()

    def forget(self, keyframe_id: int) -> None:
        """Takes out what a keyframe has brought."""
        before = self._fused.pop(keyframe_id, None)
        if before is not None:
            self._add(self._brought_by(before), sign=-1)
            self._table.reclaim()

    def _brought_by(self, before: _Fused) -> _Brought:
        """What a keyframe that is to be taken out has brought; those that were fused last are the likeliest."""
        brought = self._latest.pop(before.view.keyframe.id, None)
        return self._brought(before) if brought is None else brought

    def displacement(self, views: list[View], S_map_cam: np.ndarray) -> np.ndarray:
        """(n,) metres that the points of views have moved, in the mean, since they were fused, infinite for those that
        never were; S_map_cam (n, 4, 4)."""
        gaps = np.full(len(views), np.inf)
        known = [n for n, view in enumerate(views) if view.keyframe.id in self._fused]
        if known:
            before = [self._fused[views[n].keyframe.id] for n in known]
            now = _samples(S_map_cam[known], [views[n] for n in known])
            then = _samples(np.stack([b.S_map_cam for b in before]), [b.view for b in before])
            gaps[known] = np.sqrt(np.square(now - then).sum(axis=1)).mean(axis=1)
        return gaps

    def voxels(self, min_observations: int) -> Voxels:
        """Those that at least so many keyframes saw, and that are not seen through, in the order of their keys."""
        self._refresh()
        chosen = [(block, np.flatnonzero(_shown(block, slice(None), min_observations))) for block in self._table.blocks]
        return self._voxels(chosen, _order(chosen))

    def things(self, min_observations: int, things: np.ndarray) -> tuple[Voxels, np.ndarray]:
        """Those voxels of `voxels` whose most likely class is one of `things` (C,) bool, and (V, C) float32, the
        log-probability of each class in a typical sighting.

        The cost is that of these voxels and of what has changed since their last readers, but for a look at three bytes
        of the others.
        """
        self._refresh()
        chosen = [(block, np.flatnonzero(things[block.labels])) for block in self._table.blocks]
        chosen = [(block, rows[_shown(block, rows, max(min_observations, 1))]) for block, rows in chosen]
        order = _order(chosen)
        voxels = self._voxels(chosen, order)
        evidence = _gathered(chosen, lambda block: block.rows[:, EVIDENCE_WEIGHT:])[order]
        evidence = evidence[:, CLASSES - EVIDENCE_WEIGHT:] / evidence[:, :1]
        evidence += (np.log(voxels.certainty) - evidence.max(axis=1))[:, None]
        return voxels, evidence

    def _refresh(self) -> None:
        """What the classes of the rows that have changed say."""
        for block in self._table.blocks:
            if not block.stale.any():                  # most of a large map
                continue
            rows = np.flatnonzero(block.stale)
            block.stale[rows] = False
            rows = rows[block.rows[rows, SIGHTINGS] > 0.5]
            mean = block.rows[rows, CLASSES:] / block.rows[rows, EVIDENCE_WEIGHT, None]
            block.labels[rows] = likeliest = mean.argmax(axis=1)
            mean -= np.take_along_axis(mean, likeliest[:, None], axis=1)
            block.certainty[rows] = 1 / (np.exp(mean) @ np.ones(self._classes, np.float32))  # `sum` goes row by row

    def take_changes(self, min_observations: int, anew: bool = False) -> Changes:
        """What has changed since the last call, or with `anew` since there was nothing, the values as `voxels` would
        show them.

        A voxel that is part of the map no more is at the centre of its cell and has the confidence 0, as no other has.
        The cost is that of the voxels that changed, but for a look at one byte of each; it is that of all voxels where
        the last call wanted another number of sightings, and `anew`.
        """
        if anew or min_observations != self._asked:
            self._look_again()
            self._asked = min_observations
        if anew:
            self._anew = True
            for block in self._table.blocks:
                block.taken[:] = False
        self._refresh()
        chosen, gone = [], []
        for number in [n for n, block in enumerate(self._table.blocks) if block.changed.any()] or [0]:
            block = self._table.blocks[number]
            rows = np.flatnonzero(block.changed)
            block.changed[rows] = False
            seen = _shown(block, rows, min_observations)
            chosen.append((block, rows[seen]))
            gone.append(block.keys[rows[~seen & block.taken[rows]]])
            block.taken[rows] = seen
            self._table.told_as_gone(number * BLOCK + rows[block.rows[rows, SIGHTINGS] < 0.5])
        now = self._voxels(chosen).cloud
        self._table.reclaim()
        centres = ((unpack(np.concatenate(gone)) + 0.5) * self._size).astype(np.float32)
        anew, self._anew = self._anew, False
        return Changes(anew, Cloud(points=np.concatenate([now.points, centres]),
                                   colors=np.concatenate([now.colors, np.zeros((len(centres), 3), np.uint8)]),
                                   labels=np.concatenate([now.labels, np.zeros(len(centres), np.uint16)]),
                                   confidence=np.concatenate([now.confidence, np.zeros(len(centres), np.uint8)])))

    def _look_again(self) -> None:
        """All voxels count as changed. Not the rows that no voxel has."""
        for block in self._table.blocks:
            block.changed[block.rows[:, SIGHTINGS] > 0.5] = True

    def _voxels(self, chosen: list[_Chosen], order: np.ndarray | slice = slice(None)) -> Voxels:
        """Those voxels, in this order of them, or as they come."""
        cells = unpack(_gathered(chosen, lambda block: block.keys)[order])
        sums = _gathered(chosen, lambda block: block.rows[:, :CLASSES])[order]
        # Never quite on the border, so that a reader who rounds a point down finds its cell in spite of float32.
        offsets = (sums[:, POSITION] / sums[:, WEIGHT, None]).clip(-INSIDE * self._size, INSIDE * self._size)
        colors, confidence = sums[:, COLOR] / sums[:, WEIGHT, None], sums[:, WEIGHT] / sums[:, POINTS]
        return Voxels(cells, Cloud(points=((cells + 0.5) * self._size + offsets).astype(np.float32),
                                   colors=np.rint(colors).clip(0, 255).astype(np.uint8),
                                   labels=_gathered(chosen, lambda block: block.labels)[order],
                                   confidence=np.rint(255 * confidence).clip(1, 255).astype(np.uint8)),
                      _gathered(chosen, lambda block: block.certainty)[order], sums[:, POINTS])

    def _brought(self, fused: _Fused) -> _Brought:
        view, S = fused.view, np.ascontiguousarray(fused.S_map_cam)
        (h, w), (hs, ws) = view.depth.shape, view.semantics.shape[:2]
        pixels, room = self._pixels_of(view, fused.confidence_drop), self._room_for(h * w)
        weight = np.where(view.depth <= fused.max_depth_m / float(scale_of(S)), pixels.weight, np.float32(0))
        check_shapes(pose=(S, (4, 4)), points=(pixels.points, (h, w, 3)), colors=(view.colors, (h, w, 3)),
                     weight=(weight, (h, w)), cell=(pixels.cell, (h, w)),
                     evidence=(pixels.evidence, (hs * ws, self._classes)))
        counts = np.empty(2, np.int64)
        beyond = _view_voxels(h, w, S, pixels.points, weight, view.colors, pixels.cell, self._classes, pixels.evidence,
                              self._size, *room, counts)
        if beyond:
            raise _too_far(beyond)
        n, m = counts
        return _Brought(room.keys[:n].copy(), room.sums[:n].copy(), room.clear[:m].copy(), room.weights[:m].copy())

    def _pixels_of(self, view: View, confidence_drop: float) -> _Pixels:
        """The last one is kept: a keyframe that moves is often taken out and added with the same view, which never
        changes."""
        if self._looked_at is None or self._looked_at[0] is not view or self._looked_at[1] != confidence_drop:
            evidence = np.ascontiguousarray(view.log_probabilities, np.float32).reshape(-1, self._classes)
            cell = view.semantic_cells
            reliable = view.reliable(confidence_drop, view.label_set.things[evidence.argmax(axis=1)][cell]) & view.still
            weight = np.where(reliable, np.maximum(view.confidence, 1e-3), np.float32(0))
            self._looked_at = view, confidence_drop, _Pixels(view.points, weight, cell, evidence)
        return self._looked_at[2]

    def _room_for(self, pixels: int) -> _Brought:
        """What a view of so many pixels may bring at most, not filled. Kept: to get its memory from the system takes
        longer than to fill it."""
        if len(self._room.keys) < pixels:
            self._room = _Brought(np.empty(pixels, np.int64), np.empty((pixels, CLASSES + self._classes), np.float32),
                                  np.empty(CLEAR_STEPS * pixels, np.int64), np.empty(CLEAR_STEPS * pixels, np.int32))
        return self._room

    def _add(self, brought: _Brought, sign: int) -> None:
        self._table.add(brought.keys, brought.sums, sign)
        self._table.clear(brought.clear, brought.weights, sign)


def _samples(S_map_cam: np.ndarray, views: list[View]) -> np.ndarray:
    """(n, 3, N) in the map, from cameras at S_map_cam (n, 4, 4): planes, for numpy is slow with rows of three."""
    S, samples = S_map_cam.astype(np.float32), np.stack([view.samples.T for view in views])
    return S[:, :3, :3] @ samples + S[:, :3, 3:]


def _shown(block: Block, rows: np.ndarray | slice, min_observations: int) -> np.ndarray:
    """Bool: those rows that are part of the map."""
    values = block.rows
    return (values[rows, SIGHTINGS] >= min_observations) & (values[rows, THROUGH] <= values[rows, SEEN])


def _gathered(chosen: list[_Chosen], of: Callable[[Block], np.ndarray]) -> np.ndarray:
    """(V, ...): what `of` (R, ...) says of the chosen rows, one block after another."""
    return np.concatenate([of(block)[rows] for block, rows in chosen])


def _order(chosen: list[_Chosen]) -> np.ndarray:
    """(V,): which comes first by the order of keys."""
    return np.argsort(_gathered(chosen, lambda block: block.keys))


def pack(cells: np.ndarray) -> np.ndarray:
    """Cells (N, 3) int64 -> keys (N,) int64, in the order of x, then y, then z.

    Raises AlignmentError for a cell beyond 21 bits an axis: at 5 cm, 52 km from the origin.
    """
    if len(cells) and np.abs(cells).max() >= OFFSET:
        raise _too_far(np.abs(cells).max())
    shifted = cells + OFFSET
    return (shifted[:, 0] << 2 * BITS) | (shifted[:, 1] << BITS) | shifted[:, 2]


def _too_far(index: int) -> AlignmentError:
    return AlignmentError(f"a point lies {index} voxels from the map's origin, beyond {OFFSET}")


def unpack(keys: np.ndarray) -> np.ndarray:
    """Keys (N,) -> cells (N, 3)."""
    mask = (1 << BITS) - 1
    return np.stack([keys >> 2 * BITS, keys >> BITS & mask, keys & mask], axis=1) - OFFSET
