"""How long the network's metre is, by each source."""
import numpy as np
import pytest

from lsm_ros.config import MapperConfig
from lsm_ros.contracts import Frame, Keyframe
from lsm_ros.geometry.camera import intrinsics
from lsm_ros.geometry.sim3 import exp, sim3
from lsm_ros.labels import LabelSet
from lsm_ros.mapping.scale import ENOUGH, MetricEstimator, depth_scale, odometry_scales, robust_mean
from lsm_ros.mapping.views import View

IMAGE = np.zeros((6, 8, 3), np.uint8)


def test_the_mean_is_robust_and_knows_its_error():
    rng = np.random.default_rng(0)
    values = 0.2 + 0.05 * rng.normal(size=200)
    values[:40] += 2.0                                          # a fifth is wild
    mean, error = robust_mean(values, np.full(200, 0.05))
    assert abs(mean - 0.2) < 0.02 and 0.003 < error < 0.01
    assert robust_mean(np.array([1.0, 1.0]), np.array([0.1, 0.1])) == pytest.approx((1.0, 0.1 / np.sqrt(2)))


def test_auto_takes_the_best_source_that_has_enough_and_a_named_one_waits_for_it():
    estimator = MetricEstimator()
    auto, height = MapperConfig(), MapperConfig(scale_source="height")
    assert estimator.estimate(auto).source == "network" and estimator.estimate(auto).scale == 1.0
    for n in range(ENOUGH):
        estimator.measure("odometry", 1.25, 0.1)
        assert (estimator.estimate(auto).source == "odometry") == (n == ENOUGH - 1)
    estimate = estimator.estimate(auto)
    assert estimate.scale == pytest.approx(1.25) and 0.02 < estimate.sigma < 0.1 and estimate.samples == ENOUGH
    assert estimator.estimate(height).source == "network"
    for _ in range(ENOUGH):
        estimator.measure("depth", 1.5, 0.02)
    assert estimator.estimate(auto).source == "depth"
    fixed = estimator.estimate(MapperConfig(scale_source="fixed", scale_factor=0.8))
    assert (fixed.scale, fixed.source) == (0.8, "fixed")
    estimator.measure("depth", float("nan"), 0.1)
    estimator.measure("depth", -1.0, 0.1)
    assert estimator.estimate(auto).samples == ENOUGH


def test_odometry_compares_what_matches_tie():
    """The window's metre is 0.8 m long; the second keyframe's unit is half of the window's metre."""
    T_odom_cam = np.stack([exp(np.array([0.3 * n, 0, 0.1 * n, 0, 0.05 * n, 0])) for n in range(3)])
    frames = [Frame(n, IMAGE, T_odom_cam=T) for n, T in enumerate(T_odom_cam)]
    T_window_cam = np.linalg.inv(T_odom_cam[0]) @ T_odom_cam
    T_window_cam[:, :3, 3] /= 0.8
    support = np.ones((3, 3), int)
    found = odometry_scales(frames, T_window_cam, [1.0, 2.0, None], 2.0, support)
    assert [value for value, _ in found] == pytest.approx([0.8, 0.8, 0.4])
    assert found[0][1] > found[1][1], "a longer way says more"
    assert odometry_scales(frames, T_window_cam, [None] * 3, 2.0, support) == []
    assert odometry_scales(frames, T_window_cam, [1.0] * 3, 2.0, 0 * support) == []
    assert odometry_scales([Frame(0, IMAGE)] * 3, T_window_cam, [1.0] * 3, 2.0, support) == []
    still = [Frame(n, IMAGE, T_odom_cam=sim3(np.eye(3), np.array([0.01 * n, 0, 0]))) for n in range(3)]
    assert odometry_scales(still, T_window_cam, [1.0] * 3, 2.0, support) == []


def test_measured_depth_is_compared_where_it_is_known():
    labels = LabelSet.load()
    predicted = np.linspace(1, 3, 48 * 64).reshape(48, 64).astype(np.float32)

    def of(measured):
        return depth_scale(View(Keyframe(0, Frame(0, IMAGE, depth=measured)), predicted, np.ones_like(predicted),
                                intrinsics(60, 60, 32, 24), np.zeros((24, 32, 64), np.int8),
                                np.zeros((48, 64, 3), np.uint8), labels), 0.25)

    sparse = np.where(np.random.default_rng(0).random((96, 128)) < 0.3, np.kron(predicted, np.ones((2, 2))) * 1.3, 0)
    value, sigma = of(sparse.astype(np.float32))
    assert value == pytest.approx(1.3, rel=0.01) and sigma < 0.05
    assert of(None) is None and of(np.full((48, 64), np.nan, np.float32)) is None
    wild = predicted * np.exp(np.random.default_rng(0).normal(size=predicted.shape))
    assert of(wild.astype(np.float32)) is None, "nothing of this fits"


