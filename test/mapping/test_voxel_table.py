"""The compiled part of the map, against a slow one that is written here a second time, numbers and all."""
import ctypes
import gc
from dataclasses import replace

import numpy as np
import pytest

from lsm_ros.contracts import Frame, Keyframe
from lsm_ros.errors import AlignmentError
from lsm_ros.geometry.camera import intrinsics
from lsm_ros.geometry.sim3 import exp, scaling
from lsm_ros.mapping import voxel_table
from lsm_ros.mapping.semantic_map import SemanticMap
from lsm_ros.mapping.views import View
from lsm_ros.mapping.voxel_table import VoxelTable
from lsm_ros.memory import give_back, memory_mb

H, W, C, SIZE = 22, 31, 5, 0.05
K = intrinsics(25.0, 26.0, 15.0, 10.0)


class Told:
    """A label set that has fixed scores (hs, ws, C) for its one view."""
    things = np.array([False, True, False, True, False])

    def __init__(self, scores):
        self._scores = scores

    def log_probabilities(self, semantics):
        return self._scores


def random_view(rng, number=0):
    """A slanted wall, near or far, with holes: pixels of no confidence, outlines, and what moves."""
    far = (7, 0.3)[number % 2]
    slope = np.linspace(*rng.uniform(-0.1 * far, 0.1 * far, 2), H)[:, None] + np.linspace(*rng.uniform(0, far, 2), W)
    confidence = rng.uniform(0, 1, (H, W)).astype(np.float32)
    confidence[rng.random((H, W)) < 0.1] = 0
    scores = np.log(rng.dirichlet(np.full(C, 0.1), (6, 8)) + 1e-6)               # many below exp(-7)
    return View(Keyframe(number, Frame(number, np.zeros((H, W, 3), np.uint8))), np.abs(slope).astype(np.float32) + 0.02,
                confidence, K, np.zeros((6, 8, 1), np.int8), rng.integers(0, 256, (H, W, 3), dtype=np.uint8),
                Told(scores.astype(np.float32)), moving=rng.random((6, 8)).astype(np.float32) ** 4)


def random_pose(rng):
    """A Sim(3) of a scale between a half and two."""
    return exp(rng.normal(size=7) * (3, 3, 3, 1, 1, 1, 0.3))


def slowly(view, S, drop, max_depth):
    """What a view says: seen, cell -> the row of a voxel without its first column, and through, cell -> weight."""
    scores = view.label_set.log_probabilities(view.semantics)
    scale = np.cbrt(np.linalg.det(S[:3, :3]))
    rows, columns = (np.arange(n) * coarse // n for n, coarse in ((H, 6), (W, 8)))
    best = scores.argmax(axis=2)[rows[:, None], columns]
    good = view.reliable(drop, Told.things[best]) & view.still & (scale * view.depth <= max_depth)
    seen, through = {}, {}
    for v, u in np.argwhere(good):
        p = S[:3, :3] @ view.points[v, u].astype(float) + S[:3, 3]
        cell = tuple(np.floor(p / SIZE).astype(int))
        weight, depth = max(view.confidence[v, u], 1e-3), scale * view.depth[v, u]
        row = seen.setdefault(cell, np.zeros(11 + C))
        row[[0, 2, 3, 4]] += 1000 / max(depth, 0.1) ** 2, 1, weight, weight
        row[5:8] += weight * (p - (np.array(cell) + 0.5) * SIZE)
        row[8:11] += weight * view.colors[v, u]
        row[11:] += weight * np.maximum(scores[rows[v], columns[u]], -7)
    for row in seen.values():
        row[[0, 4, *range(11, 11 + C)]] /= row[2]
        row[1] = 1
    for v, u in np.argwhere(good):
        depth = scale * view.depth[v, u]
        if v % 2 or u % 2 or 0.9 - 7 * SIZE / depth <= 0:
            continue
        p = S[:3, :3] @ view.points[v, u].astype(float)
        for steps in range(3, 8):
            cell = tuple(np.floor((S[:3, 3] + (0.9 - steps * SIZE / depth) * p) / SIZE).astype(int))
            if cell not in seen:
                through.setdefault(cell, round(1000 / max(depth, 0.1) ** 2))
    return seen, through


def key(cell):
    x, y, z = (int(index) + (1 << 20) for index in cell)
    return x << 42 | y << 21 | z


def rows_of(table):
    """key -> its row, of those that a keyframe sees."""
    return {k: row for block in table.blocks for k, row in zip(block.keys.tolist(), block.rows) if row[2] > 0.5}


@pytest.mark.parametrize("seed", range(6))
def test_a_map_of_random_views_is_what_it_is_by_hand(seed):
    rng = np.random.default_rng(seed)
    voxels, seen, through = SemanticMap(C, SIZE, 0.3, 6.0), {}, {}
    for number in range(5):
        view, S = random_view(rng, number), random_pose(rng) if number % 2 else scaling(rng.uniform(0.5, 2))
        voxels.fuse(view, S)
        saw, cleared = slowly(view, S, 0.3, 6.0)
        for cell, row in saw.items():
            seen[key(cell)] = seen.get(key(cell), 0) + row
        for cell, weight in cleared.items():
            through[key(cell)] = through.get(key(cell), 0) + weight
    found = rows_of(voxels._table)
    assert len(seen) > 100 and found.keys() == seen.keys()
    names = sorted(seen)
    np.testing.assert_allclose(np.stack([found[name][1:] for name in names]), np.stack([seen[name] for name in names]),
                               rtol=1e-4, atol=1e-4)
    assert [found[name][0] for name in names] == [through.get(name, 0) for name in names]
    # A voxel that comes where nobody has seen one is told of who sees through its cell.
    others = np.array(sorted(through.keys() - seen.keys()))
    once = np.zeros((len(others), 12 + C), np.float32)
    once[:, 2] = 1
    voxels._table.add(others, once, 1)
    found = rows_of(voxels._table)
    assert len(others) > 100 and [found[name][0] for name in others] == [through[name] for name in others]


def test_a_view_that_moves_or_is_told_other_limits_is_looked_at_again():
    """What is kept of the last view depends on no pose, and on nothing else but the limits."""
    rng = np.random.default_rng(0)
    view, voxels = random_view(rng), SemanticMap(C, SIZE, 0.3, 6.0)
    voxels.fuse(view, np.eye(4))
    for S, drop, far in ((random_pose(rng), 0.3, 6.0), (np.eye(4), 0.6, 6.0), (np.eye(4), 0.3, 1.0)):
        voxels.configure(drop, far)
        voxels.fuse(view, S)
        assert rows_of(voxels._table).keys() == {key(cell) for cell in slowly(view, S, drop, far)[0]}


def test_arrays_of_another_form_are_refused():
    view = random_view(np.random.default_rng(0))
    voxels = SemanticMap(C, SIZE, 0.3, 6.0)
    for name, values, error in (("colors", view.colors[:-1], ValueError),
                                ("colors", view.colors.astype(np.float32), ctypes.ArgumentError),
                                ("colors", view.colors[..., 0], ValueError),
                                ("confidence", view.confidence[:-1], ValueError),
                                ("depth", view.depth.astype(np.float64), ctypes.ArgumentError),
                                ("semantics", np.zeros((3, 8, 1), np.int8), ValueError),
                                ("label_set", Told(np.zeros((6, 8, C + 1), np.float32)), ValueError)):
        with pytest.raises(error):
            voxels.fuse(replace(view, **{name: values}), np.eye(4))
    with pytest.raises((ValueError, IndexError)):
        voxels.fuse(view, np.eye(3))
    with pytest.raises(ctypes.ArgumentError):
        voxels.fuse(view, np.eye(4, dtype=np.float32))
    assert len(voxels) == 0
    table, keys, sums = VoxelTable(3, 8), np.arange(4), np.zeros((4, 3), np.float32)
    for values, error in (((keys[:3], sums), ValueError), ((keys, sums[:, :2]), ValueError),
                          ((keys.astype(np.int32), sums), ctypes.ArgumentError),
                          ((keys[::2], sums[::2]), ctypes.ArgumentError),
                          ((keys, sums.astype(float)), ctypes.ArgumentError)):
        with pytest.raises(error):
            table.add(*values, 1)
    for values, error in (((keys, np.zeros(3, np.int32)), ValueError), ((keys, keys), ctypes.ArgumentError)):
        with pytest.raises(error):
            table.clear(*values, 1)
    assert len(table) == 0


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_what_is_no_number_or_too_far_is_no_crash():
    """Points, the pose, and the way from a camera that no key can tell to a wall that one can."""
    view = random_view(np.random.default_rng(0))
    voxels = SemanticMap(C, SIZE, 0.0, np.inf)
    infinite, nowhere, wild = view.depth.copy(), np.eye(4), K.copy()
    infinite[5:9, 5:9], nowhere[0, 3], wild[0, 2] = np.inf, np.nan, np.nan
    still = replace(view, confidence=np.ones((H, W), np.float32), moving=None)
    wall = replace(still, depth=np.full((H, W), 0.5, np.float32))
    for each, S in ((replace(still, depth=infinite), np.eye(4)), (replace(still, K=wild), np.eye(4)), (still, nowhere),
                    (still, scaling(1e100)), (wall, exp(np.array([0, 0, -52429.0, 0, 0, 0])))):
        with pytest.raises(AlignmentError, match="beyond"):
            voxels.fuse(each, S)
    voxels.fuse(replace(still, depth=np.full((H, W), np.nan, np.float32)), np.eye(4))      # shows nothing
    voxels.fuse(still, np.full((4, 4), np.nan))
    assert len(voxels) == 0 and len(voxels.voxels(1).cells) == 0


def test_a_row_that_is_told_as_gone_twice_is_given_back_once():
    table, keys, once = VoxelTable(13, 8), np.arange(2), np.zeros((2, 13), np.float32)
    once[:, 2] = 1
    table.add(keys, once, 1)                                               # two of one cube
    table.blocks[0].taken[:] = True
    table.add(keys[:1], once[:1], -1)
    table.reclaim()
    assert len(table) == 2, "a reader still has it"
    table.blocks[0].taken[0] = False
    table.told_as_gone(np.zeros(2, np.int64))
    table.told_as_gone(np.zeros(1, np.int64))
    table.reclaim()
    assert len(table) == 1
    table.add(far_apart(3)[1:], once, 1)
    assert len(table) == 3 and rows_of(table).keys() == {1, *far_apart(3)[1:].tolist()}


def far_apart(n):
    """n keys, no two in one cube: 4 kB each."""
    return np.arange(n) * 8 << 21


def test_a_table_that_nobody_has_any_more_is_freed(monkeypatch):
    freed, delete = [], voxel_table._delete
    monkeypatch.setattr(voxel_table, "_delete", lambda handle: (freed.append(handle), delete(handle)))
    before = None
    for n in range(12):
        table = VoxelTable(3, 1024)
        table.clear(far_apart(5000), np.ones(5000, np.int32), 1)           # 20 MB
        assert len(freed) == n
        del table
        gc.collect()
        give_back()
        before = memory_mb()["resident_mb"] if before is None else before
    assert len(freed) == 12 and memory_mb()["resident_mb"] < before + 60


def test_cubes_that_are_empty_again_are_freed():
    """Of voxels that come and go, and of those that are only seen through."""
    table, sums = VoxelTable(13, 1024), np.zeros((2500, 13), np.float32)
    sums[:, 2] = 1
    resident = []
    for n in range(8):
        keys = far_apart(5000) + (n * 8 << 42)
        for sign in (1, -1):
            table.add(keys[:2500], sums, sign)
            table.clear(keys[1250:], np.full(3750, 7, np.int32), sign)
        table.reclaim()
        assert len(table) == 0
        resident.append(memory_mb()["resident_mb"])
    assert resident[-1] < resident[0] + 40                                 # 20 MB a round otherwise
    assert len(table.blocks) <= 5                                          # 2500 rows, and room for as many
