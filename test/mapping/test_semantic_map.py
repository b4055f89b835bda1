import dataclasses

import numpy as np
import pytest

from lsm_ros.contracts import Frame, Keyframe, WindowPrediction
from lsm_ros.errors import AlignmentError
from lsm_ros.geometry.camera import intrinsics
from lsm_ros.geometry.sim3 import exp, scaling
from lsm_ros.mapping import semantic_map
from lsm_ros.mapping.semantic_map import SemanticMap, pack, unpack
from lsm_ros.mapping.views import View

K = intrinsics(8.0, 8.0, 4.0, 3.0)


def view(number, probabilities, depth=2.0, confidence=1.0, color=100):
    """A wall seen head on, 6 x 8 pixels at `depth`, all of it of one opinion about the classes."""
    return View(Keyframe(number, Frame(number, np.zeros((6, 8, 3), np.uint8))), np.full((6, 8), depth, np.float32),
                np.full((6, 8), confidence, np.float32), K, np.zeros((3, 4, 1), np.int8),
                np.full((6, 8, 3), color, np.uint8), Told(np.log(probabilities)))


class Told:
    """A label set of any number of classes that says the same of whatever it is shown."""

    def __init__(self, scores, things=False):
        self._scores = scores
        self.things = np.broadcast_to(things, len(scores))

    def log_probabilities(self, semantics):
        return np.broadcast_to(self._scores, (*semantics.shape[:2], len(self._scores)))


def fused(*views, classes=2, size=0.05):
    voxels = SemanticMap(classes, size, confidence_drop=0.25, max_depth_m=8.0)
    for v in views:
        voxels.fuse(v, np.eye(4))
    return voxels


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


def test_bayes_rule_by_hand():
    """(.6, .4) and (.3, .7) and (.8, .2): the product is (.144, .056), so the first class holds .72."""
    voxels = fused(view(0, (0.6, 0.4)), view(1, (0.3, 0.7)), view(2, (0.8, 0.2)))
    row = voxels._table.blocks[0].rows[0]
    np.testing.assert_allclose(softmax(row[semantic_map.CLASSES:]), (0.72, 0.28), atol=1e-3)      # kept as float16
    assert (voxels.voxels(3).cloud.labels == 0).all() and len(voxels.voxels(4).cells) == 0


def test_a_less_confident_sighting_counts_less_and_none_is_a_veto():
    sure, unsure = view(0, (0.3, 0.7), confidence=0.9), view(1, (0.7, 0.3), confidence=0.2)
    assert (fused(sure, unsure).voxels(2).cloud.labels == 1).all()
    never = view(0, (1e-6, 1 - 1e-6))
    others = [view(n, (0.9, 0.1)) for n in range(1, 6)]
    assert (fused(never, *others).voxels(1).cloud.labels == 0).all()


def test_many_pixels_of_one_image_are_one_sighting():
    coarse = fused(view(0, (0.6, 0.4)), size=1.0)
    np.testing.assert_allclose(softmax(coarse._table.blocks[0].rows[0, semantic_map.CLASSES:]), (0.6, 0.4), atol=1e-3)


def test_positions_colours_and_confidence_are_means():
    near = view(0, (0.5, 0.5), depth=2.01, confidence=0.9, color=50)
    far = view(1, (0.5, 0.5), depth=2.03, confidence=0.3, color=90)
    cloud = fused(near, far, size=1.0).voxels(2).cloud
    np.testing.assert_allclose(cloud.points[:, 2], 2.015, atol=1e-5)
    assert (cloud.colors == 60).all() and (cloud.confidence == 153).all()
    assert cloud.points.dtype == np.float32 and cloud.labels.dtype == np.uint16 and cloud.confidence.dtype == np.uint8


def test_a_moved_keyframe_is_taken_out_completely():
    moved = exp(np.array([0.4, -0.3, 1.0, 0.2, 0.5, -0.1, 0.1]))
    voxels = fused(view(0, (0.6, 0.4)), view(1, (0.3, 0.7)))
    assert voxels.displacement([view(0, (0.6, 0.4))], np.eye(4)[None])[0] == 0
    assert voxels.displacement([view(0, (0.6, 0.4))], moved[None])[0] > 0.5
    voxels.fuse(view(0, (0.6, 0.4)), moved)
    voxels.fuse(view(1, (0.3, 0.7)), moved)
    straight = SemanticMap(2, 0.05, 0.25, 8.0)
    for v in (view(0, (0.6, 0.4)), view(1, (0.3, 0.7))):
        straight.fuse(v, moved)
    a, b = voxels.voxels(1), straight.voxels(1)
    np.testing.assert_array_equal(a.cells, b.cells)
    np.testing.assert_allclose(a.cloud.points, b.cloud.points, atol=1e-5)
    np.testing.assert_allclose(a.certainty, b.certainty, atol=1e-5)


def test_a_keyframe_beyond_all_keys_changes_nothing():
    voxels, beyond = fused(view(0, (0.6, 0.4))), exp(np.array([60e3, 0, 0, 0, 0, 0]))
    before = voxels.voxels(1)
    for number in (0, 1):
        with pytest.raises(AlignmentError, match="beyond"):
            voxels.fuse(view(number, (0.3, 0.7)), beyond)
    np.testing.assert_array_equal(voxels.voxels(1).cloud.points, before.cloud.points)
    gaps = voxels.displacement([view(0, (0.6, 0.4)), view(1, (0.3, 0.7))], np.stack([np.eye(4)] * 2))
    np.testing.assert_array_equal(gaps, [0, np.inf])
    voxels.forget(0)
    assert len(voxels.voxels(1).cells) == 0


def test_far_and_unreliable_points_stay_out():
    assert len(fused(view(0, (0.5, 0.5), depth=9.0)).voxels(1).cells) == 0
    voxels = SemanticMap(2, 0.05, 0.25, 8.0)
    voxels.fuse(view(0, (0.5, 0.5), depth=5.0), scaling(2.0))              # 10 m in the map
    assert len(voxels.voxels(1).cells) == 0
    step = view(1, (0.5, 0.5))
    step.depth[:, 4:] = 4.0                                                # two surfaces: columns 3 and 4 are outlines
    points = fused(step).voxels(1).cloud.points
    assert len(points) == 6 * 6


def test_thousands_of_voxels_cross_blocks_and_keep_their_order():
    rng = np.random.default_rng(0)
    voxels = SemanticMap(3, 0.001, 0.0, 8.0)
    for n in range(1200):                                                  # none sees through another
        voxels.fuse(view(n, rng.dirichlet(np.ones(3)), depth=1.0005 + n / 500, color=n % 200),
                    exp(np.array([5.0 * (n % 35), 5.0 * (n // 35), 0, 0, 0, 0])))
    found = voxels.voxels(1)
    assert len(voxels._table.blocks) > 1 and len(found.cells) == len(voxels)
    assert np.abs(found.cloud.points / 0.001 - (found.cells + 0.5)).max() < 0.51
    expected = np.rint((found.cloud.points[:, 2] - 1.0005) * 500) % 200
    np.testing.assert_array_equal(found.cloud.colors[:, 0], expected)


def test_keys():
    cells = np.array([[0, 0, 0], [-1, 5, -7], [1 << 19, -(1 << 19), 3]])
    np.testing.assert_array_equal(unpack(pack(cells)), cells)
    with pytest.raises(AlignmentError, match="1048576 voxels"):
        pack(np.array([[1 << 20, 0, 0]]))


def test_an_empty_map():
    found = SemanticMap(2, 0.05, 0.25, 8.0).voxels(1)
    assert len(found.cloud) == 0 and found.cells.shape == (0, 3)


class Reader:
    """Keeps a map by the changes alone, as docs/topics.md tells it: cell -> (point, colour, label, confidence)."""

    def __init__(self, size):
        self.size, self.voxels = size, {}

    def read(self, changes):
        cloud = changes.cloud
        if changes.anew:
            self.voxels.clear()
        for point, color, label, confidence in zip(cloud.points, cloud.colors, cloud.labels, cloud.confidence):
            cell = tuple(np.floor(point / self.size).astype(int))
            self.voxels[cell] = (*point, *color, label, confidence)
            if confidence == 0:
                del self.voxels[cell]

    def has(self, found):
        cloud = found.cloud
        columns = np.column_stack([cloud.points, cloud.colors, cloud.labels, cloud.confidence])
        return self.voxels == {tuple(cell): tuple(row) for cell, row in zip(found.cells, columns.tolist())}


def test_whoever_reads_the_changes_has_the_map():
    rng = np.random.default_rng(1)
    voxels, reader = SemanticMap(3, 0.05, 0.25, 8.0), Reader(0.05)
    for n in range(30):
        moved = exp(rng.normal(size=7) * (0.05, 0.05, 0.05, 0.02, 0.02, 0.02, 0.01))
        voxels.fuse(view(n % 7, rng.dirichlet(np.ones(3)), depth=1.0, confidence=rng.uniform(0, 1), color=n), moved)
        if n == 20:
            voxels.clear()
        if n % 2:
            reader.read(voxels.take_changes(2))
            assert reader.has(voxels.voxels(2))
    assert len(reader.voxels) > 20


def test_only_what_changed_is_told():
    voxels = fused(view(0, (0.6, 0.4)), view(1, (0.6, 0.4)), view(2, (0.6, 0.4), depth=1.0))
    first = voxels.take_changes(2)
    assert first.anew and (first.cloud.confidence > 0).all() and len(first.cloud) == len(voxels.voxels(2).cells)
    nothing = voxels.take_changes(2)
    assert not nothing.anew and len(nothing.cloud) == 0
    voxels.fuse(view(3, (0.6, 0.4), depth=1.0), np.eye(4))
    assert (voxels.take_changes(2).cloud.points[:, 2] < 1.1).all()         # the wall behind is as it was
    voxels.fuse(view(3, (0.6, 0.4), depth=6.0), np.eye(4))
    gone = voxels.take_changes(2).cloud
    assert len(gone) and (gone.confidence == 0).all()                      # of the far voxels nobody has been told yet
    np.testing.assert_allclose(gone.points[:, 2], 1.025)


def test_who_has_heard_nothing_is_told_all_that_is_there():
    voxels, reader = fused(view(0, (0.6, 0.4)), view(1, (0.6, 0.4)), view(2, (0.6, 0.4), depth=1.0)), Reader(0.05)
    voxels.take_changes(1)
    voxels.forget(2)                                                       # of which another reader was told
    everything = voxels.take_changes(1, anew=True)
    assert everything.anew and (everything.cloud.confidence > 0).all()
    reader.read(everything)
    assert reader.has(voxels.voxels(1)) and len(voxels) == len(everything.cloud), "rows that nobody has are given back"
    assert len(voxels.take_changes(1).cloud) == 0
    voxels.fuse(view(3, (0.6, 0.4), depth=1.0), np.eye(4))
    reader.read(voxels.take_changes(1))
    assert reader.has(voxels.voxels(1))


def test_points_lie_well_inside_their_cells():
    voxels = fused(view(0, (0.6, 0.4), depth=2.0, confidence=0.001))       # exactly on the border of two cells
    cloud = voxels.voxels(1).cloud
    np.testing.assert_allclose(cloud.points[:, 2], 2.0005)
    assert (cloud.confidence == 1).all()                                   # 0 is kept for what is gone


def test_room_of_empty_voxels_is_given_back_and_nothing_else_changes(monkeypatch):
    """A hundred walls come and go; a reader of changes who looks in now and then ends with the same map."""
    monkeypatch.setattr(semantic_map, "BLOCK", 64)
    voxels, always, told = SemanticMap(2, 0.05, 0.25, 8.0), SemanticMap(2, 0.05, 0.25, 8.0), {}
    monkeypatch.setattr(always._table, "reclaim", lambda: None)
    for n in range(100):
        for each in (voxels, always):
            each.fuse(view(n, (0.6, 0.4)), exp(np.array([0.2 * n, 0, 0, 0, 0, 0])))
            if n >= 3:
                each.forget(n - 3)
        if n % 7 == 0:
            changes = voxels.take_changes(1)
            told = {} if changes.anew else told
            for cell, sure in zip(np.floor(changes.cloud.points / 0.05).astype(int), changes.cloud.confidence):
                told[tuple(cell)] = sure
    assert len(voxels) < len(always) / 4
    now, then = voxels.voxels(1), always.voxels(1)
    np.testing.assert_array_equal(now.cells, then.cells)
    np.testing.assert_allclose(now.cloud.points, then.cloud.points)
    changes = voxels.take_changes(1)
    for cell, sure in zip(np.floor(changes.cloud.points / 0.05).astype(int), changes.cloud.confidence):
        told[tuple(cell)] = sure
    assert {cell for cell, sure in told.items() if sure} == set(map(tuple, now.cells.tolist()))


def check_things(voxels):
    """Those of the second of two classes are the same as among all voxels."""
    found, evidence = voxels.things(2, np.array([False, True]))
    every = voxels.voxels(2)
    mine = every.cloud.labels == 1
    np.testing.assert_array_equal(found.cells, every.cells[mine])
    np.testing.assert_array_equal(found.cloud.points, every.cloud.points[mine])
    np.testing.assert_allclose(np.exp(evidence).sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(np.exp(evidence[:, 1]), every.certainty[mine], atol=1e-5)


@pytest.mark.parametrize("things, columns", [((False, False), 6), ((False, True), 6), ((True, False), 8)])
def test_unsure_pixels_of_things_are_kept(things, columns):
    unsure = view(0, (0.6, 0.4))
    unsure.confidence[:, :2] = 0.1
    unsure = dataclasses.replace(unsure, label_set=Told(np.log((0.6, 0.4)), things))
    voxels = SemanticMap(2, 0.01, confidence_drop=0.5, max_depth_m=8.0)
    voxels.fuse(unsure, np.eye(4))
    assert len(voxels.voxels(1).cells) == 6 * columns


def seen_through(voxels, keys):
    """key -> weight of the views that see through its cell, whether it has a row or not."""
    table, keys = voxels._table, np.array(sorted(keys))
    once = np.zeros((len(keys), semantic_map.CLASSES + 2), np.float32)
    once[:, semantic_map.SIGHTINGS] = 1
    table.add(keys, once, 1)
    found = {key: weight for block in table.blocks
             for key, weight, sightings in zip(block.keys.tolist(), *block.rows[:, :3:2].T.tolist()) if sightings > 0.5}
    table.add(keys, once, -1)
    table.reclaim()
    return {key: found[key] for key in keys.tolist()}


def test_rows_are_used_again_and_found_again_whatever_comes_and_goes(monkeypatch):
    """After walls have come, moved and gone at random the map is the one that has only seen those that are left, for
    a reader, too, who wants now more sightings and now fewer."""
    monkeypatch.setattr(semantic_map, "BLOCK", 64)
    rng = np.random.default_rng(3)
    voxels, reader, left = SemanticMap(2, 0.05, 0.25, 8.0), Reader(0.05), {}
    cleared, clear = set(), voxels._table.clear
    monkeypatch.setattr(voxels._table, "clear", lambda keys, *more: (cleared.update(keys.tolist()), clear(keys, *more)))
    for _ in range(300):
        number = int(rng.integers(12))
        if rng.random() < 0.3:
            voxels.forget(number)
            left.pop(number, None)
        else:
            left[number] = (view(number, rng.dirichlet(np.ones(2)), color=int(rng.integers(255))),
                            exp(rng.normal(size=6) * (2, 2, 2, 0.3, 0.3, 0.3)))
            voxels.fuse(*left[number])
        if rng.random() < 0.2:
            wanted = int(rng.integers(1, 4))
            reader.read(voxels.take_changes(wanted))
            assert reader.has(voxels.voxels(wanted))
        if rng.random() < 0.2:
            check_things(voxels)
    straight = SemanticMap(2, 0.05, 0.25, 8.0)
    for each, pose in left.values():
        straight.fuse(each, pose)
    now, then = voxels.voxels(1), straight.voxels(1)
    np.testing.assert_array_equal(now.cells, then.cells)
    np.testing.assert_allclose(now.cloud.points, then.cloud.points, atol=1e-5)
    check_things(voxels)
    np.testing.assert_array_equal(now.cloud.labels, then.cloud.labels)
    reader.read(voxels.take_changes(1))
    assert reader.has(now)
    assert len(voxels) == len(now.cells) and len(voxels._table.blocks) * 64 < 3 * len(straight) + 256
    through = seen_through(voxels, cleared)
    assert through == seen_through(straight, cleared) and len(cleared) > sum(map(bool, through.values())) > 100
    reader.read(voxels.take_changes(1))
    assert reader.has(now) and len(voxels) == len(now.cells), "to look is no change"
    for number in left:
        voxels.forget(number)
    reader.read(voxels.take_changes(1))
    assert len(voxels) == 0 and not reader.voxels
    assert not any(seen_through(voxels, cleared).values())


def test_a_growing_map_leaves_its_rows_where_they_are(monkeypatch):
    """What moved them would take the longer, the larger the map."""
    monkeypatch.setattr(semantic_map, "BLOCK", 64)
    voxels = SemanticMap(2, 0.05, 0.25, 8.0)
    voxels.fuse(view(0, (0.6, 0.4)), np.eye(4))
    block, rows = voxels._table.blocks[0], len(voxels)
    before, keys = block.rows[:rows].copy(), block.keys[:rows].copy()
    for n in range(1, 40):
        voxels.fuse(view(n, (0.6, 0.4)), exp(np.array([2 * n, 0, 0, 0, 0, 0])))
    assert len(voxels._table.blocks) > 10 and voxels._table.blocks[0] is block
    np.testing.assert_array_equal(block.keys[:rows], keys)
    np.testing.assert_array_equal(block.rows[:rows], before)


NARROW = intrinsics(80.0, 80.0, 4.0, 3.0)
BACK = exp(np.array([0, 0, -4.0, 0, 0, 0]))        # 4 m behind the others: sees three times as much of a wall


def wall(number, z, pose):
    """A view from `pose` of a wall across at `z` metres of the map, and the pose."""
    return dataclasses.replace(view(number, (0.6, 0.4), depth=z - pose[2, 3]), K=NARROW), pose


def ahead(voxels):
    """The depths of the voxels straight ahead, and of those around."""
    points = voxels.voxels(2).cloud.points.astype(np.float64).round(2)
    inside = (np.abs(points[:, :2]) < 0.05).all(axis=1)
    return set(points[inside, 2].tolist()), set(points[~inside, 2].tolist())


@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4), (4, 3, 2, 1, 0), (2, 0, 3, 1, 4)])
def test_what_nearer_views_see_through_is_no_part_of_the_map(order):
    """Three views from afar see a wall 50 cm too near; two from near know better, whoever comes first. It is back
    once those are forgotten; beside what they see it always is."""
    walls = [wall(0, 2.02, np.eye(4)), wall(1, 2.02, np.eye(4)), *(wall(n, 1.52, BACK) for n in (2, 3, 4))]
    voxels, reader = SemanticMap(2, 0.05, 0.25, 8.0), Reader(0.05)
    for number in order:
        voxels.fuse(*walls[number])
        reader.read(voxels.take_changes(2))
        assert reader.has(voxels.voxels(2))
    inside, beside = ahead(voxels)
    assert inside == {2.02} and 1.52 in beside
    np.testing.assert_array_equal(voxels.things(2, np.array([True, True]))[0].cells, voxels.voxels(2).cells)
    for number in (0, 1):
        voxels.forget(number)
        reader.read(voxels.take_changes(2))
        assert reader.has(voxels.voxels(2))
    assert ahead(voxels) == ({1.52}, {1.52})


@pytest.mark.parametrize("near, far", [(1.22, 2.02), (2.02, 2.3), (2.02, 1.92), (2.02, 1.2)])
def test_a_voxel_stays_that_only_farther_views_see_through_or_that_nobody_does(near, far):
    """A thing that is seen from near before a wall that is seen from afar; what is behind a surface; what is as good as
    on it; and what stands free, as through a doorway."""
    voxels = SemanticMap(2, 0.05, 0.25, 8.0)
    for each in (*(wall(n, near, np.eye(4)) for n in (0, 1)), *(wall(n, far, BACK) for n in (2, 3, 4))):
        voxels.fuse(*each)
    assert ahead(voxels)[0] == {near, far}


def test_a_voxel_that_comes_again_is_seen_through_at_once():
    """Its row waits until its end is told, at first; then it is another row. What looks through its cell counts."""
    voxels = SemanticMap(2, 0.05, 0.25, 8.0)
    far, near = [wall(n, 1.52, BACK) for n in (2, 3)], [wall(n, 2.02, np.eye(4)) for n in (0, 1)]
    for each in far:
        voxels.fuse(*each)
    voxels.take_changes(2)
    for each in near:
        voxels.fuse(*each)
    for _ in range(2):
        for n in (2, 3):
            voxels.forget(n)
        for each in far:
            voxels.fuse(*each)
        assert ahead(voxels)[0] == {2.02}
        voxels.take_changes(2)


def test_what_moves_leaves_nothing_behind_and_clears_nothing():
    """The left half of the view moves: no voxel of it comes, and what it hides is not seen through."""
    moving = np.zeros((3, 4), np.float32)
    moving[:, 0] = 0.9
    whole, half = view(0, (0.6, 0.4)), dataclasses.replace(view(1, (0.6, 0.4)), moving=moving)
    everything = fused(whole).voxels(1)
    cells = fused(half).voxels(1).cells
    # Half of the pixels: a column of the coarse grid that moves, and the one beside it, which it may touch.
    assert 0 < len(cells) <= len(everything.cells) / 2 and cells[:, 0].min() >= 0
    assert fused(dataclasses.replace(half, moving=0.4 * moving)).voxels(1).cells.shape == everything.cells.shape
    near = [view(n, (0.6, 0.4), depth=1.0) for n in (0, 1)]
    far = [dataclasses.replace(view(n, (0.6, 0.4), depth=1.0001 + 0.9), moving=np.ones((3, 4))) for n in range(2, 6)]
    assert len(fused(*near, *far).voxels(2).cells) == len(fused(*near).voxels(2).cells) > 0


def test_the_opinions_of_windows_on_what_moves_are_averaged():
    first = dataclasses.replace(view(0, (0.6, 0.4)), moving=np.full((3, 4), 0.9, np.float32))
    prediction = WindowPrediction(depth=first.depth[None], confidence=first.confidence[None], K=K[None],
                                  T_window_cam=np.eye(4)[None], scale=1.0, semantics=np.ones((1, 3, 4, 1), np.float32),
                                  moving=np.zeros((1, 3, 4), np.float32))
    assert not first.still.any()
    second = first.refined(prediction, 0, 1.0)
    assert second.moving == pytest.approx(np.full((3, 4), 0.45)) and second.still.all()
    assert dataclasses.replace(first, moving=None).refined(prediction, 0, 1.0).moving is None
