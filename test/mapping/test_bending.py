"""Depth bends to the points that are known, smoothly, and no further."""
import numpy as np
import pytest

from lsm_ros.mapping.bending import MIN_POINTS, MOST, Soundings, bent

SHAPE = (96, 128)
V, U = (np.mgrid[:96, :128] + 0.5) / [[[96]], [[128]]]
ROOM = 2.0 + 2 * U + 0.5 * V                       # a wall that recedes,
TABLE = (V > 0.6) & (U > 0.3) & (U < 0.7)          # and before it a table
TRUTH = np.where(TABLE, 1.0, ROOM)


def soundings(depth, truth, points=200, wrong=0.0, noise=0.01, seed=0):
    random = np.random.default_rng(seed)
    row, column = random.integers(0, SHAPE[0], points), random.integers(0, SHAPE[1], points)
    error = np.log(truth / depth)[row, column] + noise * random.normal(size=points)
    error = np.where(random.random(points) < wrong, random.uniform(-1, 1, points), error)
    shares = (np.stack([column, row], axis=1) + 0.5) / SHAPE[::-1]
    return Soundings(shares, depth[row, column], error, np.full(points, noise), np.full(points, 0.8))


def off(depth, where=slice(None)):
    return float(np.abs(np.log(depth / TRUTH))[where].mean())


@pytest.mark.parametrize("wrong", [0.0, 0.2])
def test_a_slanted_wall_is_set_right(wrong):
    depth = TRUTH * np.exp(0.12 * (U - 0.5) + 0.06 * np.sin(4 * V))
    assert off(bent(depth, soundings(depth, TRUTH, wrong=wrong))) < 0.4 * off(depth)


def test_a_table_does_not_bend_with_the_wall_behind_it():
    depth = TRUTH * np.where(TABLE, 1.1, 0.95)
    better = bent(depth, soundings(depth, TRUTH))
    assert off(better, TABLE) < 0.3 * off(depth, TABLE) and off(better, ~TABLE) < 0.3 * off(depth, ~TABLE)


def test_what_is_known_badly_or_by_few_bends_nothing():
    few = soundings(TRUTH, 1.1 * TRUTH, points=MIN_POINTS - 1)
    assert bent(TRUTH, few) is TRUTH
    vague = soundings(TRUTH, TRUTH, noise=5.0)
    assert off(bent(TRUTH, vague)) < 0.01
    assert len(Soundings.joined([]).error) == 0 and len(Soundings.joined([few, vague]).error) == MIN_POINTS + 199


def test_no_depth_changes_beyond_a_bound():
    better = bent(TRUTH, soundings(TRUTH, 1.5 * TRUTH, points=2000))
    assert better.shape == SHAPE and better.dtype == np.float32
    assert np.abs(np.log(better / TRUTH)).max() == pytest.approx(MOST, abs=1e-3)


def test_a_depth_that_is_no_number_stays_one_pixel():
    """The compiled loops look up nodes by it."""
    depth = (TRUTH * np.exp(0.12 * (U - 0.5))).astype(np.float32)
    told = soundings(depth, TRUTH)
    expected = bent(depth, told)
    depth[5, 7] = np.nan                                   # none of every fourth pixel, which say how deep the grid is
    found = bent(depth, told)
    assert np.isnan(found[5, 7])
    found[5, 7] = expected[5, 7]
    np.testing.assert_array_equal(found, expected)
