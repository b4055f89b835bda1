import numpy as np
import pytest

from lsm_ros.evaluation.distances import by_distance, distances, true_overlap
from lsm_ros.evaluation.metrics import PoseErrors
from lsm_ros.geometry.sim3 import exp_so3, sim3

K = np.array([[64.0, 0, 32], [0, 64, 24], [0, 0, 1]])


def wall(poses: list[np.ndarray], z: float = 4.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Depth, intrinsics and poses of cameras that look along z at the plane `z`."""
    return (np.stack([np.full((48, 64), z - T[2, 3], np.float32) for T in poses]), np.stack([K] * len(poses)),
            np.stack(poses))


def test_a_shift_along_a_wall_leaves_the_rest_in_view():
    """One metre at 4 m and 64 pixels of focal length is 16 of 64 pixels."""
    depth, intrinsics, T = wall([np.eye(4), sim3(np.eye(3), np.array([1.0, 0, 0]))])
    np.testing.assert_allclose(true_overlap(depth, intrinsics, T), [[1, 0.75], [0.75, 1]], atol=1e-9)
    assert distances(depth, intrinsics, T).baseline == pytest.approx(0.25)


def test_a_step_forward_is_not_symmetric():
    """From twice as near everything that one sees is seen from afar, but not the other way round."""
    depth, intrinsics, T = wall([np.eye(4), sim3(np.eye(3), np.array([0, 0, 2.0]))])
    overlap = true_overlap(depth, intrinsics, T)
    assert overlap[0, 1] == pytest.approx(0.25) and overlap[1, 0] == 1


def test_a_view_turned_away_and_a_hidden_one_share_nothing():
    depth, intrinsics, T = wall([np.eye(4), sim3(exp_so3(np.array([0, np.pi, 0])), np.zeros(3)), np.eye(4)])
    depth[2] = 2.0                                           # something stands before the wall
    np.testing.assert_array_equal(true_overlap(depth, intrinsics, T), np.eye(3))


def test_what_nobody_knows_does_not_count():
    depth, intrinsics, T = wall([np.eye(4), np.eye(4)])
    depth[0, :24] = np.nan
    np.testing.assert_array_equal(true_overlap(depth, intrinsics, T), np.ones((2, 2)))
    depth[0] = np.nan
    assert np.isnan(true_overlap(depth, intrinsics, T)[0]).all()
    assert np.isnan(distances(depth, intrinsics, T).baseline).all()


def test_errors_by_distance():
    errors = PoseErrors(np.array([1.0, 3, 40, 2]), np.array([2.0, 4, 50, np.nan]))
    alone = PoseErrors(np.full(4, 180.0), np.full(4, 180.0))
    low, high = by_distance(np.array([0.05, 0.09, 1.0, np.nan]), (0, 0.1, 0.5, 1.0), errors, alone)
    assert low == {"from": 0, "to": 0.1, "pairs": 2, "rotation_deg_median": 2, "translation_deg_median": 3,
                   "auc30": pytest.approx((28 + 26) / 60), "auc30_alone": 0}
    assert high["from"] == 0.5 and high["pairs"] == 1 and high["auc30"] == 0          # the last bin holds its end
    assert by_distance(np.array([3.0]), (0, np.inf), errors.of(np.arange(4) == 0), None)[0]["to"] is None
