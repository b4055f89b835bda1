"""The obstacle clouds as scans: a known corner, and what is wrong with it."""
from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from lsm_ros.contracts import Cloud
from lsm_ros.evaluation.scans import Scans, scan
from lsm_ros.labels import LabelSet

LABELS = LabelSet.load()
WALL, FLOOR = LABELS.index("wall"), LABELS.index("floor")
K = np.array([[60.0, 0, 40], [0, 60, 30], [0, 0, 1]])
T_WORLD_CAM = np.array([[0, 0, 1, 2], [-1, 0, 0, 1], [0, -1, 0, .8], [0, 0, 0, 1.0]])     # level, along x, 80 cm up


def wall(distance_m: float) -> tuple[np.ndarray, np.ndarray]:
    """Depth and labels (60, 80) of a wall across, and of the floor before it."""
    down = (np.arange(60) + .5 - K[1, 2]) / K[1, 1]
    floor = np.where(down > 0, T_WORLD_CAM[2, 3] / np.maximum(down, 1e-6), np.inf)
    depth = np.minimum(floor, distance_m)[:, None].repeat(80, 1)
    return depth, np.where(floor < distance_m, FLOOR, WALL)[:, None].repeat(80, 1)


def told(depth: np.ndarray, labels: np.ndarray) -> SimpleNamespace:
    nothing = Cloud(np.empty((0, 3), np.float32), np.empty((0, 3), np.uint8), np.empty(0, np.uint16),
                    np.empty(0, np.uint8))
    return SimpleNamespace(T_map_cam=T_WORLD_CAM, on_floor=True, window_cloud=nothing, depth=depth.astype(np.float32),
                           confidence=np.ones(depth.shape, np.float32),
                           labels=labels.astype(np.uint16), K=K)


def score(found: tuple[np.ndarray, np.ndarray], true: tuple[np.ndarray, np.ndarray]) -> dict:
    scans = Scans(LABELS, 8.0)
    scans.add(told(*found), *true, K, T_WORLD_CAM)
    return scans.score()


def test_a_scan_is_level_and_starts_straight_ahead():
    points = np.array([[-.01, 0, 1.0], [1, 0, 1.01], [-1.01, 5, 1], [-.01, 0, 3]])   # ahead, right, left, ahead
    distances = scan(points, T_WORLD_CAM)
    assert np.flatnonzero(np.isfinite(distances)).tolist() == [180 - 45, 180, 180 + 45]     # counterclockwise
    assert distances[[180 - 45, 180, 180 + 45]] == pytest.approx([2 ** .5, 1, 2 ** .5], abs=.01)    # however deep it is


def test_the_truth_is_right():
    assert score(wall(2.0), wall(2.0)) == {"obstacle_missed": 0, "obstacle_false": 0, "obstacle_m": pytest.approx(0)}


def test_a_wall_that_is_found_too_far_or_not_at_all_is_missed():
    line = score(wall(2.3), wall(2.0))
    assert line["obstacle_missed"] == 1 and line["obstacle_false"] == 0 and line["obstacle_m"] > .25
    line = score(wall(6.0), wall(2.0))
    assert line["obstacle_missed"] == 1 and "obstacle_false" not in line


def test_a_phantom_is_false_and_nothing_is_missed():
    depth, labels = wall(6.0)
    depth[:, 30:50], labels[:, 30:50] = (plane[:, 30:50] for plane in wall(1.5))
    assert score((depth, labels), wall(6.0)) == {"obstacle_false": 1}
    line = score((depth, labels), wall(2.5))
    assert line["obstacle_false"] > .9 and 0 < line["obstacle_missed"] < .8


def test_what_was_not_looked_at_says_nothing():
    depth, labels = wall(2.0)
    unknown = np.where(np.arange(80) < 40, np.nan, depth), labels
    everywhere, half = score(wall(2.0), (depth, labels)), score(wall(2.0), unknown)
    assert everywhere == half
    assert score(wall(2.0), (depth, np.full_like(labels, len(LABELS)))) == {}
