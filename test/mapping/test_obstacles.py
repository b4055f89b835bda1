from types import SimpleNamespace

import numpy as np
import pytest

from lsm_ros.contracts import Cloud
from lsm_ros.errors import ConfigError
from lsm_ros.geometry.camera import intrinsics, unproject
from lsm_ros.geometry.sim3 import transform
from lsm_ros.labels import LabelSet
from lsm_ros.mapping.obstacles import GROUND, IGNORED, Robot, chosen, free_ends, obstacles, organised, thinned

LABELS = LabelSet.load()
ROBOT = Robot(chosen(LABELS, "", GROUND), chosen(LABELS, "", IGNORED), min_height_m=0.1, max_height_m=1.5)


def verdict(name, height_m):
    heights = None if height_m is None else np.array([height_m])
    ground, obstacle = ROBOT.judge(np.array([LABELS.index(name)], np.uint16), heights)
    return {(True, False): "ground", (False, True): "obstacle", (False, False): "neither"}[ground[0], obstacle[0]]


@pytest.mark.parametrize("name, height_m, expected", [
    ("floor", 0.0, "ground"), ("rug", 0.02, "ground"), ("chair", 0.5, "obstacle"), ("wall", 1.4, "obstacle"),
    ("sofa", 0.09, "ground"),           # a wrong label, or what the robot drives over
    ("sofa", 0.11, "obstacle"),
    ("floor", 0.25, "ground"),          # depth is less sure far away, and the label says what it is
    ("floor", 0.35, "obstacle"),        # a table of the colour of the floor
    ("ceiling", 0.05, "ground"), ("ceiling", 1.2, "neither"), ("lamp", 1.6, "neither"), ("floor", 2.4, "neither"),
    ("floor", -0.25, "ground"), ("chair", -0.05, "ground"), ("chair", -0.5, "neither"), ("floor", -0.5, "neither"),
    ("floor", None, "ground"), ("chair", None, "obstacle"), ("ceiling", None, "neither")])
def test_labels_and_heights_are_asked_together(name, height_m, expected):
    assert verdict(name, height_m) == expected


def test_labels_are_chosen_by_name():
    assert [LABELS.names[i] for i in np.flatnonzero(chosen(LABELS, "chair, coffee table,"))] == ["coffee table",
                                                                                                 "chair"]
    assert not chosen(LABELS, "").any()
    others = LabelSet.from_entries([{"name": "floor"}, {"name": "teapot"}])         # has no rug, which is no error
    assert chosen(others, "", GROUND).tolist() == [True, False]
    with pytest.raises(ConfigError, match="no label 'rugg'; did you mean 'rug'. and no label 'teapot'"):
        chosen(LABELS, "rugg, floor, teapot")


T_MAP_CAM = np.array([[0, 0, 1, 2], [-1, 0, 0, 1], [0, -1, 0, 1.0], [0, 0, 0, 1]])     # level, 1 m up, along x


def view(on_floor=True):
    """A wall 2 m ahead with its lowest row called floor, something on the right edge too far away; and the four points
    of the view that the map trusts. The rows are 1.63, 1.38, 1.13, .88, .63 and .38 m over the floor."""
    depth = np.full((6, 8), 2.0, np.float32)
    depth[:, 6:] = 9.0
    labels = np.full((6, 8), LABELS.index("wall"), np.uint16)
    labels[5], labels[2, 0] = LABELS.index("floor"), LABELS.index("ceiling")
    points = np.array([[0, .99, 2], [0, .4, 2], [1, 1.02, 3], [0, 0, 2]], np.float32)       # .01, .6, -.02 and 1 m up
    names = ("chair", "chair", "floor", "wall")                                             # the first is wrong
    cloud = Cloud(points, np.zeros((4, 3), np.uint8), np.array([LABELS.index(name) for name in names], np.uint16),
                  np.zeros(4, np.uint8))
    return SimpleNamespace(T_map_cam=T_MAP_CAM, on_floor=on_floor, window_cloud=cloud, depth=depth, labels=labels,
                           confidence=np.full((6, 8), .01, np.float32), still=np.ones((6, 8), bool),
                           K=intrinsics(8.0, 8.0, 4.0, 3.0))


def test_heights_are_measured_in_the_map():
    update = view()
    ground, obstacle = obstacles(update, ROBOT, 8.0)
    np.testing.assert_array_equal(ground, update.window_cloud.points[[0, 2]])
    heights = transform(T_MAP_CAM, obstacle)[:, 2]
    np.testing.assert_allclose(np.unique(heights), [.375, .625, .875, 1.125, 1.375])    # the floor too: it is too high


def test_obstacles_are_told_where_the_map_trusts_nothing_but_not_on_outlines():
    """A robot that waits for certainty drives into what it was unsure of."""
    _, obstacle = obstacles(view(), ROBOT, 8.0)
    assert len(obstacle) == 5 * 5 - 1 and (obstacle[:, 2] == 2).all()           # columns 5 and 6 are an outline
    assert len(obstacles(view(), ROBOT, 9.5)[1]) == 5 * 5 - 1 + 1               # and one pixel at 9 m


def test_nothing_stands_where_a_border_hides_the_view():
    update = view()
    update.confidence[:, :2] = 0
    assert len(obstacles(update, ROBOT, 8.0)[1]) == 3 * 5
    points, *_ = organised(update, 8.0, most=48)
    assert np.isnan(points[:, :2]).all() and np.isfinite(points[:, 2:5]).all()


def test_the_way_is_free_up_to_what_is_too_far_to_be_told():
    """Who walked away before it would stay in a costmap."""
    update = view()
    ends = free_ends(update, 8.0)
    np.testing.assert_array_equal(ends[:4], update.window_cloud.points)
    np.testing.assert_allclose(ends[4:], unproject(update.depth, update.K)[:, 7] * 8 / 9)       # 6 is an outline
    assert len(free_ends(update, 9.5)) == 4
    update.confidence[:, 7] = 0                                 # a border hides it
    assert len(free_ends(update, 8.0)) == 4


def test_without_a_floor_labels_decide():
    ground, obstacle = obstacles(view(on_floor=False), ROBOT, 8.0)
    assert len(ground) == 1 and len(obstacle) == 5 * 5 - 1


def test_thinning_keeps_the_ends_and_the_order():
    points = np.arange(30).reshape(10, 3)
    assert thinned(points, 10) is points
    np.testing.assert_array_equal(thinned(points, 4)[:, 0], [0, 9, 18, 27])


def test_a_view_becomes_a_grid_with_holes():
    depth = np.full((6, 8), 2.0, np.float32)
    depth[:, 6:] = 9.0                                          # too far, and columns 5 and 6 are an outline
    confidence = np.full((6, 8), 0.8, np.float32)
    confidence[:2] = 0.1
    labels = np.arange(48, dtype=np.uint16).reshape(6, 8)
    still = np.ones((6, 8), bool)
    still[4, 2:4] = False
    update = SimpleNamespace(depth=depth, confidence=confidence, labels=labels, still=still,
                             K=intrinsics(8.0, 8.0, 4.0, 3.0))
    points, numbers, sure, moving = organised(update, 8.0, most=48)
    known = np.isfinite(points).all(axis=2)
    expected = np.ones((6, 8), bool)
    expected[:, 5:] = False
    np.testing.assert_array_equal(known, expected)
    assert np.isnan(points[~expected]).all()
    np.testing.assert_allclose(points[5, 0], (-3.5 / 8 * 2, 2.5 / 8 * 2, 2.0))
    np.testing.assert_array_equal(numbers, labels)
    assert sure[3, 3] == 204 and sure[0, 0] == 26
    np.testing.assert_array_equal(moving, np.where(still, 0, 255))
    points, numbers, sure, moving = organised(update, 8.0, most=12)
    assert points.shape == (3, 4, 3) and sure.shape == (3, 4) and moving.tolist()[2] == [0, 255, 0, 0]
    np.testing.assert_array_equal(numbers, labels[::2, ::2])
    assert organised(update, 8.0, most=11)[0].shape == (2, 3, 3)
