import dataclasses

import numpy as np
import pytest

from lsm_ros.contracts import Cloud, MapObject
from lsm_ros.labels import LabelSet
from lsm_ros.mapping.objects import ObjectTracker, distance_m, upright_box
from lsm_ros.mapping.semantic_map import Voxels, pack

LABELS = LabelSet.load()


def block(name, low, high):
    cells = np.argwhere(np.ones(np.subtract(high, low), bool)) + low
    return cells, np.full(len(cells), LABELS.index(name), np.uint16)


def voxels(*blocks):
    cells, labels = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    order = np.argsort(pack(cells))
    cells, labels = cells[order], labels[order]
    cloud = Cloud(((cells + 0.5) * 0.1).astype(np.float32), np.zeros((len(cells), 3), np.uint8), labels,
                  np.full(len(cells), 255, np.uint8))
    return Voxels(cells, cloud, np.full(len(cells), 0.8, np.float32), np.ones(len(cells), np.float32))


def objects(tracker, scene, **doubts):
    """`doubts`: of the voxels of a class, the class that is nearly as likely, and its share of the rest of 0.8."""
    evidence = np.full((len(scene.cells), len(LABELS)), 0.2 / (len(LABELS) - 1))
    evidence[np.arange(len(evidence)), scene.cloud.labels] = 0.8
    for name, (other, share) in doubts.items():
        mine = scene.cloud.labels == LABELS.index(name)
        evidence[mine, LABELS.index(other)] = share * 0.8
        evidence[mine, LABELS.index(name)] = (1 - share) * 0.8
    return tracker.update(scene, np.log(evidence).astype(np.float32))


def test_classes_touching_and_apart():
    scene = voxels(block("floor", (-30, -30, -1), (30, 30, 0)), block("table", (5, 0, 0), (8, 5, 8)),
                   block("chair", (0, 0, 0), (5, 5, 10)), block("chair", (12, 0, 0), (17, 5, 10)),
                   block("bottle", (0, 20, 0), (2, 22, 2)))
    things = objects(ObjectTracker(LABELS, min_voxels=30), scene)
    found = sorted(things, key=lambda t: (t.name, t.center[0]))
    # No floor, no speck.
    assert [(t.name, t.points) for t in found] == [("chair", 250), ("chair", 250), ("table", 120)]
    np.testing.assert_allclose(found[0].center, (0.25, 0.25, 0.5), atol=1e-6)
    assert found[0].confidence == pytest.approx(0.8)


def test_what_is_seen_as_two_things_in_one_place_is_one():
    front, rest = block("drawers", (0, 0, 0), (10, 1, 5)), block("cabinet", (0, 1, 0), (10, 6, 10))
    top = block("cabinet", (0, 0, 5), (10, 1, 10))
    pair = voxels(front, rest, top)

    def found(**doubts):
        return [(t.name, t.points) for t in objects(ObjectTracker(LABELS, min_voxels=30), pair, **doubts)]

    assert found() == [("cabinet", 550), ("drawers", 50)]                       # the voxels are sure of both
    assert found(drawers=("cabinet", 0.4)) == [("cabinet", 600)]
    assert found(drawers=("cabinet", 0.2)) == [("cabinet", 550), ("drawers", 50)]
    assert found(drawers=("cabinet", 0.4), cabinet=("drawers", 0.5)) == [("drawers", 600)]
    beside = voxels(rest, block("drawers", (12, 1, 0), (22, 2, 5)))
    assert len(objects(ObjectTracker(LABELS, 30), beside, drawers=("cabinet", 0.4))) == 2


def chairs(*places):
    return voxels(*(block("chair", (x, y, 0), (x + 5, y + 5, 10)) for x, y in places))


def test_ids_last_and_new_things_get_new_ones():
    tracker = ObjectTracker(LABELS, min_voxels=30)
    first = {t.id: t.center for t in objects(tracker, chairs((0, 0), (20, 0)))}
    moved = {t.id: t.center for t in objects(tracker, chairs((1, 1), (21, 1), (40, 0)))}
    assert set(first) == {0, 1} and set(moved) == {0, 1, 2}
    for number, center in first.items():
        np.testing.assert_allclose(moved[number] - center, (0.1, 0.1, 0), atol=1e-6)
    gone = objects(tracker, chairs((40, 0)))
    assert [t.id for t in gone] == [2]
    back = objects(tracker, chairs((0, 0)))       # away for a call, but remembered
    assert back[0].id in (0, 1)
    tracker.clear()
    assert objects(tracker, chairs((0, 0)))[0].id == 3


@pytest.mark.parametrize("yaw", [-1.5, -0.6, 0.0, 0.7, 1.5])
def test_a_turned_box(yaw):
    rng = np.random.default_rng(0)
    local = rng.uniform(-0.5, 0.5, (20000, 3)) * (2.0, 0.8, 0.5)
    R = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    strays = rng.uniform(-2, 2, (400, 3)) + (0.5, 0.5, 0)                     # 2 %, most of them to one side
    center, size, found = upright_box(np.concatenate([local, strays]) @ R.T + (3.0, -1.0, 0.4), trim=4)
    np.testing.assert_allclose(center, (3.0, -1.0, 0.4), atol=0.03)
    np.testing.assert_allclose(size, (2.0 * 0.93, 0.8 * 0.93, 0.5 * 0.93), atol=0.03)
    assert abs((found - yaw + np.pi / 2) % np.pi - np.pi / 2) < np.radians(2)
    center, size, _ = upright_box(local @ R.T, trim=0)
    np.testing.assert_allclose(center, 0, atol=0.01)
    np.testing.assert_allclose(size, (2.0, 0.8, 0.5), atol=0.06)              # the yaw is to 3 degrees


def test_what_was_seen_from_afar_does_not_stretch_the_box():
    chair, behind = block("chair", (0, 0, 0), (5, 5, 10)), block("chair", (5, 0, 2), (11, 5, 8))
    scene = voxels(chair, behind)
    stray = scene.cells[:, 0] >= 5                                            # 42 % of the voxels, 1.8 % of the pixels
    near = dataclasses.replace(scene, pixels=np.where(stray, 1.0, 40.0).astype(np.float32))
    thing, = objects(ObjectTracker(LABELS, 30), near)
    np.testing.assert_allclose(thing.size, (0.4, 0.4, 0.9), atol=1e-6)         # from centre to centre of the voxels
    np.testing.assert_allclose(thing.center, (0.25, 0.25, 0.5), atol=0.05)
    assert thing.points == 250 + 180
    assert objects(ObjectTracker(LABELS, 30), scene)[0].size[0] > 0.9


def test_nothing():
    assert objects(ObjectTracker(LABELS, 1), voxels(block("wall", (0, 0, 0), (3, 3, 3)))) == []


@pytest.mark.parametrize("place, expected", [
    ((1.0, 5.0, 0.5), 2.0),             # the long side lies along y
    ((2.4, 2.0, 0.5), 1.0),
    ((2.4, 6.0, 0.5), np.hypot(1, 3)),
    ((1.0, 2.0, 3.0), 2.0), ((1.1, 2.5, 0.9), 0.0)])
def test_the_distance_is_that_of_the_box(place, expected):
    chair = MapObject(id=0, label=0, name="chair", center=np.array([1.0, 2.0, 0.5]), size=np.array([2.0, 0.8, 1.0]),
                      yaw=np.pi / 2, confidence=1.0, points=9)
    assert distance_m(chair, np.array(place)) == pytest.approx(expected)
