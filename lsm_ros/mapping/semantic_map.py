"""The fused map: voxels with position, colour and evidence for every class.

The evidence of a voxel is the sum, over the keyframes that saw it, of their log-probabilities of each class times
their confidence: Bayes' rule for independent sightings with equal priors (SemanticFusion, McCormac 2017), in log-space.
All that a voxel holds is sums, so what a keyframe has brought can be taken out again when its pose moves.

Depth errs the more, the farther it is: what was seen from afar strays, and who comes near looks through it. A voxel is
therefore part of the map only as long as the keyframes that see through it weigh no more than those that see it, each
by the inverse square of its depth there: votes for free and occupied as in Moravec and Elfes (1985). Only the last part
of the way to a surface counts as seen through, and nothing behind it, so what was only seen from afar stays.

The rows of the voxels lie in blocks as they came; a hash table finds them by cubes of 8 x 8 x 8 cells (Niessner et
al., 2013). Nothing is ever moved or sorted as the map grows, so a keyframe costs what it shows, however large the map.
"""
from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array

from lsm_ros.contracts import Cloud
from lsm_ros.errors import AlignmentError
from lsm_ros.geometry.sim3 import scale_of, transform
from lsm_ros.mapping.grouping import grouped
from lsm_ros.mapping.views import View

BITS = 21                          # of a cell index along each axis; a key packs three
OFFSET = 1 << (BITS - 1)
BLOCK = 1 << 15                    # rows are added in blocks: growing one array would copy it, which takes a second
CUBE_BITS = 3                      # of a cell's index that tell where in its cube it lies, along each axis
INSIDE = 0.49                      # of a voxel's edge: how far from the centre of its cell a voxel's point may be
LOG_FLOOR = -7.0                   # no single sighting may exclude a class for good

LATEST = 16                        # keyframes of which is kept what they have brought, a megabyte or two each
NEAREST_M = 0.1                    # depths below it weigh no more
UNIT = 1000.0                      # weight of a view that sees, or sees through, at a depth of one metre: 16 at 8 m
CLEAR_FROM = (3.0, 0.10)           # a view sees through what lies so many voxels and such a share of its depth before
CLEAR = 5                          # its surface, and through so many voxels; twice as many gain next to nothing
CLEAR_STEP = 2                     # of the pixels along rows and columns; at 2 m their rays are a voxel apart

# Columns of a voxel's row; the classes follow.
THROUGH, SEEN, SIGHTINGS, POINTS, WEIGHT, EVIDENCE_WEIGHT = range(6)
POSITION, COLOR, CLASSES = slice(6, 9), slice(9, 12), 12
NO_ROWS, NOTHING = np.full(1 << 3 * CUBE_BITS, -1, np.int32), np.zeros(1 << 3 * CUBE_BITS, np.int32)


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
    keys: np.ndarray               # (n,) sorted
    sums: np.ndarray               # (n, columns) float32
    clear: np.ndarray              # (m,) keys, sorted, none of the others
    weights: np.ndarray            # (m,) int32


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
        self._cubes: dict[int, np.ndarray] = {}    # key of a cube -> (512,) int32 rows of its cells, -1: none
        self._through: dict[int, np.ndarray] = {}  # the same -> (512,) int32 weights of who sees through its cells
        self._blocks: list[np.ndarray] = []        # (BLOCK, columns) float32, the rows
        self._fused: dict[int, _Fused] = {}
        self._latest: OrderedDict[int, _Brought] = OrderedDict()   # of keyframes that were fused last, as they are
        self._asked = 0                            # the sightings that the last `take_changes` wanted
        self._used = 0                             # rows that were ever given to a voxel ...
        self._free = np.empty(0, np.int64)         # ... of these, the ones that were given back
        self._emptied: list[np.ndarray] = []       # rows that have lost their last sighting since the last `_reclaim`
        # Beside each block, what `take_changes` needs of its rows.
        self._keys: list[np.ndarray] = []          # (BLOCK,) int64
        self._changed: list[np.ndarray] = []       # (BLOCK,) bool, since it was last called
        self._taken: list[np.ndarray] = []         # (BLOCK,) bool, was in the map when it was last called
        self._anew = True
        # And what `things` needs: the most likely class of a row, and whether the row has changed since that was so.
        self._labels: list[np.ndarray] = []        # (BLOCK,) uint16
        self._stale: list[np.ndarray] = []         # (BLOCK,) bool

    def __len__(self) -> int:
        """Voxels that take up room, empty ones among them."""
        return self._used - len(self._free)

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
        self._reclaim()

    def forget(self, keyframe_id: int) -> None:
        """Takes out what a keyframe has brought."""
        before = self._fused.pop(keyframe_id, None)
        if before is not None:
            self._add(self._brought_by(before), sign=-1)
            self._reclaim()

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
            now = transform(S_map_cam[known], np.stack([views[n].samples for n in known]))
            then = transform(np.stack([b.S_map_cam for b in before]), np.stack([b.view.samples for b in before]))
            gaps[known] = np.linalg.norm(now - then, axis=2).mean(axis=1)
        return gaps

    def voxels(self, min_observations: int) -> Voxels:
        """Those that at least so many keyframes saw, and that are not seen through, in the order of their keys."""
        keys, parts = [np.empty(0, np.int64)], [_means(np.empty((0, CLASSES + self._classes), np.float32))]
        for block, names in zip(self._blocks, self._keys, strict=True):
            seen = _shown(block, slice(None), min_observations)
            keys.append(names[seen])
            parts.append(_means(block[seen]))
        names = np.concatenate(keys)
        means = _Means(*(np.concatenate(column) for column in zip(*parts, strict=True)))
        order = np.argsort(names)
        return self._voxels(names[order], _Means(*(column[order] for column in means)))

    def things(self, min_observations: int, things: np.ndarray) -> tuple[Voxels, np.ndarray]:
        """Those voxels of `voxels` whose most likely class is one of `things` (C,) bool, and (V, C) float32, the
        log-probability of each class in a typical sighting.

        The cost is that of these voxels and of what has changed since the last call, but for a look at three bytes of
        the others.
        """
        keys, parts = [np.empty(0, np.int64)], [np.empty((0, CLASSES + self._classes), np.float32)]
        for block, names, labels, stale in zip(self._blocks, self._keys, self._labels, self._stale, strict=True):
            rows = np.flatnonzero(stale)
            labels[rows], stale[rows] = block[rows, CLASSES:].argmax(axis=1), False
            rows = np.flatnonzero(things[labels])
            rows = rows[_shown(block, rows, max(min_observations, 1))]
            keys.append(names[rows])
            parts.append(block[rows])
        names = np.concatenate(keys)
        order = np.argsort(names)
        rows = np.concatenate(parts)[order]
        voxels = self._voxels(names[order], _means(rows))
        evidence = rows[:, CLASSES:] / rows[:, EVIDENCE_WEIGHT, None]
        evidence += (np.log(voxels.certainty) - evidence.max(axis=1, initial=-np.inf))[:, None]
        return voxels, evidence

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
            for taken in self._taken:
                taken[:] = False
        keys, sums, gone = [], [], []
        for number, changed in enumerate(self._changed):
            rows = np.flatnonzero(changed)
            if not len(rows):
                continue
            changed[rows] = False
            values, taken = self._blocks[number][rows], self._taken[number]
            seen = _shown(values, slice(None), min_observations)
            keys.append(self._keys[number][rows[seen]])
            sums.append(values[seen])
            gone.append(self._keys[number][rows[~seen & taken[rows]]])
            taken[rows] = seen
            self._emptied.append(number * BLOCK + rows[values[:, SIGHTINGS] < 0.5])
        self._reclaim()
        nothing = np.empty(0, np.int64)
        now = self._voxels(np.concatenate([nothing, *keys]), _means(np.concatenate(
            [np.empty((0, CLASSES + self._classes), np.float32), *sums]))).cloud
        centres = ((unpack(np.concatenate([nothing, *gone])) + 0.5) * self._size).astype(np.float32)
        anew, self._anew = self._anew, False
        return Changes(anew, Cloud(points=np.concatenate([now.points, centres]),
                                   colors=np.concatenate([now.colors, np.zeros((len(centres), 3), np.uint8)]),
                                   labels=np.concatenate([now.labels, np.zeros(len(centres), np.uint16)]),
                                   confidence=np.concatenate([now.confidence, np.zeros(len(centres), np.uint8)])))

    def _look_again(self) -> None:
        """All voxels count as changed. Not the rows that no voxel has: `take_changes` would give them back twice."""
        for block, changed in zip(self._blocks, self._changed, strict=True):
            changed |= block[:, SIGHTINGS] > 0.5

    def _voxels(self, keys: np.ndarray, means: _Means) -> Voxels:
        cells = unpack(keys)
        # Never quite on the border, so that a reader who rounds a point down finds its cell in spite of float32.
        points = (cells + 0.5) * self._size + means.offsets.clip(-INSIDE * self._size, INSIDE * self._size)
        return Voxels(cells, Cloud(points=points.astype(np.float32),
                                   colors=np.rint(means.colors).clip(0, 255).astype(np.uint8),
                                   labels=means.labels.astype(np.uint16),
                                   confidence=np.rint(255 * means.confidence).clip(1, 255).astype(np.uint8)),
                      means.certainty.astype(np.float32), means.pixels)

    def _brought(self, fused: _Fused) -> _Brought:
        view = fused.view
        points = transform(fused.S_map_cam, view.points)
        depth = view.depth * float(scale_of(fused.S_map_cam))
        evidence = np.maximum(view.log_probabilities.reshape(-1, self._classes), LOG_FLOOR)
        coarse = view.semantic_cells()
        thing = view.label_set.things[evidence.argmax(axis=1)][coarse]
        reliable = view.reliable(fused.confidence_drop, thing) & view.still & (depth <= fused.max_depth_m)
        every = (slice(None, None, CLEAR_STEP),) * 2
        some = reliable[every]
        clear, through = self._clear(points[every][some], depth[every][some], fused.S_map_cam[:3, 3])
        good = np.flatnonzero(reliable)
        points, colors = (values.reshape(-1, 3).take(good, 0) for values in (points, view.colors))
        weight, coarse = np.maximum(view.confidence.take(good)[:, None], 1e-3), coarse.take(good)
        cells = np.floor(points / self._size).astype(np.int64)
        keys = pack(cells)
        order, first = grouped(keys)
        keys, ends = keys[order[first]], np.append(first, len(order))
        columns = np.empty((len(points), CLASSES), np.float32)
        columns[:, THROUGH] = 0
        columns[:, SEEN] = _weight(depth.take(good))
        columns[:, [SIGHTINGS, POINTS]] = 1
        columns[:, [WEIGHT, EVIDENCE_WEIGHT]] = weight
        columns[:, POSITION] = weight * (points - (cells + 0.5) * self._size)
        columns[:, COLOR] = weight * colors
        sums = np.empty((len(keys), CLASSES + self._classes), np.float32)
        # Summing pixels into voxels is a sparse product; classes go there from their own coarser grid, 4 times smaller.
        of_pixels = csr_array((np.ones(len(order), np.float32), order, ends), (len(keys), len(points)))
        of_classes = csr_array((weight[order, 0], coarse[order], ends), (len(keys), len(evidence)))
        sums[:, :CLASSES], sums[:, CLASSES:] = of_pixels @ columns, of_classes @ evidence
        # The pixels of one image are one sighting, not many independent ones: their evidence is averaged.
        sums[:, SEEN] /= sums[:, POINTS]
        sums[:, EVIDENCE_WEIGHT] /= sums[:, POINTS]
        sums[:, CLASSES:] /= sums[:, POINTS, None]
        sums[:, SIGHTINGS] = 1
        others = ~np.isin(clear, keys, assume_unique=True)
        return _Brought(keys, sums, clear[others], through[others])

    def _clear(self, points: np.ndarray, depth: np.ndarray, origin: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Keys (m,), sorted, of the cells before the surface points (N, 3) of a view at `origin` (3,), map frame, where
        nothing is in its way, and int32 weights (m,); `depth` (N,) metres."""
        steps = CLEAR_FROM[0] + np.arange(CLEAR, dtype=np.float32)[:, None]
        share = 1 - CLEAR_FROM[1] - self._size * steps / depth           # (CLEAR, N) of the way to the surface
        far = share[-1] > 0
        ways = (points - origin.astype(np.float32))[far] * share[:, far, None]
        cells = np.floor((ways.reshape(-1, 3) + origin) / self._size).astype(np.int64)
        keys, first = np.unique(pack(cells), return_index=True)
        return keys, np.rint(_weight(np.tile(depth[far], CLEAR)[first])).astype(np.int32)

    def _add(self, brought: _Brought, sign: int) -> None:
        self._add_sums(brought.keys, brought.sums, sign)
        self._add_through(brought.clear, sign * brought.weights)

    def _add_through(self, keys: np.ndarray, weights: np.ndarray) -> None:
        """Integers, so nothing is left of what is taken out. Cells need no row: a voxel may come there later."""
        names, which, cells = in_cubes(keys)
        if not names:
            return
        sums = np.stack([self._through.get(name, NOTHING) for name in names])
        sums[which, cells] += weights
        for name, cube, some in zip(names, sums, sums.any(axis=1), strict=True):
            if not some:
                self._through.pop(name, None)
            elif name in self._through:
                self._through[name][:] = cube
            else:
                self._through[name] = cube.copy()      # a view would hold the cubes of its neighbours
        rows = np.stack([self._cubes.get(name, NO_ROWS) for name in names])[which, cells]
        voxels = np.flatnonzero(rows >= 0)
        for number, mine, place in in_blocks(rows[voxels]):
            block, mine = self._blocks[number], voxels[mine]
            before = _shown(block, place, 0)
            block[place, THROUGH] = sums[which[mine], cells[mine]]
            self._changed[number][place] |= _shown(block, place, 0) != before

    def _add_sums(self, keys: np.ndarray, sums: np.ndarray, sign: int) -> None:
        rows = self._rows_of(keys)
        for number, mine, place in in_blocks(rows):
            block = self._blocks[number]
            now = block[place] + sign * sums[mine]
            if sign < 0:
                empty = now[:, SIGHTINGS] < 0.5
                now[empty, SEEN:] = 0                                # nobody left: no rounding residue either
                self._emptied.append(rows[mine][empty])
            block[place] = now
            self._changed[number][place] = self._stale[number][place] = True

    def _rows_of(self, keys: np.ndarray) -> np.ndarray:
        """(n,) rows of distinct keys; new ones get a row."""
        names, which, cells = in_cubes(keys)
        for name in names:
            if name not in self._cubes:
                self._cubes[name] = np.full(1 << 3 * CUBE_BITS, -1, np.int32)
        cubes = [self._cubes[name] for name in names]
        table = np.stack(cubes) if cubes else np.empty((0, 1 << 3 * CUBE_BITS), np.int32)
        rows = table[which, cells].astype(np.int64)
        new = np.flatnonzero(rows < 0)
        rows[new] = self._new_rows(len(new))
        table[which[new], cells[new]] = rows[new]
        for number in np.unique(which[new]):
            cubes[number][:] = table[number]
        through = np.stack([self._through.get(name, NOTHING) for name in names]) if names else table
        for number, mine, place in in_blocks(rows[new]):
            self._keys[number][place] = keys[new[mine]]
            self._blocks[number][place, THROUGH] = through[which[new[mine]], cells[new[mine]]]
        return rows

    def _new_rows(self, count: int) -> np.ndarray:
        """(count,) rows without a voxel: those given back first, then ones that nobody has had."""
        given_back, self._free = self._free[:count], self._free[count:]
        fresh = self._used + np.arange(count - len(given_back))
        self._used += len(fresh)
        while len(self._blocks) * BLOCK < self._used:
            self._blocks.append(np.zeros((BLOCK, CLASSES + self._classes), np.float32))
            self._keys.append(np.zeros(BLOCK, np.int64))
            self._changed.append(np.zeros(BLOCK, bool))
            self._taken.append(np.zeros(BLOCK, bool))
            self._labels.append(np.zeros(BLOCK, np.uint16))
            self._stale.append(np.zeros(BLOCK, bool))
        return np.concatenate([given_back, fresh])

    def _reclaim(self) -> None:
        """Rows that lost their last sighting and got no other go to the next new voxels: a map that moves or forgets
        stays small. What a reader of the changes still has must be told as gone before."""
        emptied, self._emptied = self._emptied, []
        for number, _, place in in_blocks(np.unique(np.concatenate(emptied))) if emptied else ():
            place = place[(self._blocks[number][place, SIGHTINGS] < 0.5) & ~self._taken[number][place]]
            self._changed[number][place] = False
            names, which, cells = in_cubes(self._keys[number][place])
            order = np.argsort(which, kind="stable")
            for name, mine in zip(names, np.split(cells[order], np.cumsum(np.bincount(which))[:-1]), strict=True) \
                    if names else ():
                self._cubes[name][mine] = -1
                if (self._cubes[name] < 0).all():
                    del self._cubes[name]
            self._free = np.concatenate([self._free, number * BLOCK + place])


class _Means(NamedTuple):
    """What rows (n, columns) say."""
    offsets: np.ndarray            # (n, 3) from the centres of the cells, metres
    colors: np.ndarray             # (n, 3) 0..255
    labels: np.ndarray             # (n,)
    confidence: np.ndarray         # (n,) 0..1
    certainty: np.ndarray          # (n,) 0..1
    pixels: np.ndarray             # (n,)


def _weight(depth: np.ndarray) -> np.ndarray:
    """How much a view says of a place at `depth` metres."""
    return UNIT / np.square(np.maximum(depth, NEAREST_M))


def _shown(block: np.ndarray, rows: np.ndarray | slice, min_observations: int) -> np.ndarray:
    """Bool: those rows of a block that are part of the map."""
    return (block[rows, SIGHTINGS] >= min_observations) & (block[rows, THROUGH] <= block[rows, SEEN])


def _means(rows: np.ndarray) -> _Means:
    weight = rows[:, WEIGHT, None]
    mean = rows[:, CLASSES:] / rows[:, EVIDENCE_WEIGHT, None]
    mean = np.exp(mean - mean.max(axis=1, keepdims=True))
    return _Means(rows[:, POSITION] / weight, rows[:, COLOR] / weight, rows[:, CLASSES:].argmax(axis=1),
                  rows[:, WEIGHT] / rows[:, POINTS], 1 / mean.sum(axis=1), rows[:, POINTS])


def pack(cells: np.ndarray) -> np.ndarray:
    """Cells (N, 3) int64 -> keys (N,) int64, in the order of x, then y, then z.

    Raises AlignmentError for a cell beyond 21 bits an axis: at 5 cm, 52 km from the origin.
    """
    if len(cells) and np.abs(cells).max() >= OFFSET:
        raise AlignmentError(f"a point lies {np.abs(cells).max()} voxels from the map's origin, beyond {OFFSET}")
    shifted = cells + OFFSET
    return (shifted[:, 0] << 2 * BITS) | (shifted[:, 1] << BITS) | shifted[:, 2]


def in_cubes(keys: np.ndarray) -> tuple[list[int], np.ndarray, np.ndarray]:
    """Keys (N,) of cells -> the keys of their cubes' first cells, the index (N,) of each one's cube in that list, and
    its number (N,) in the cube, 0 to 511."""
    low = (1 << CUBE_BITS) - 1
    names, which = np.unique(keys & ~(low << 2 * BITS | low << BITS | low), return_inverse=True)
    cells = (keys >> 2 * BITS & low) << 2 * CUBE_BITS | (keys >> BITS & low) << CUBE_BITS | keys & low
    return names.tolist(), which, cells


def in_blocks(rows: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """For each block that holds some of `rows` (N,): its number, which of them (n,), and where in the block (n,)."""
    numbers, places = np.divmod(rows, BLOCK)
    order, first = grouped(numbers)
    for mine in np.split(order, first[1:]) if len(rows) else ():
        yield int(numbers[mine[0]]), mine, places[mine]


def unpack(keys: np.ndarray) -> np.ndarray:
    """Keys (N,) -> cells (N, 3)."""
    mask = (1 << BITS) - 1
    return np.stack([keys >> 2 * BITS, keys >> BITS & mask, keys & mask], axis=1) - OFFSET
