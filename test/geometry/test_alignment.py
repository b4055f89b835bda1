import numpy as np
import pytest

from lsm_ros.errors import AlignmentError
from lsm_ros.geometry.alignment import align_robust, align_trajectory, rmse, umeyama
from lsm_ros.geometry.sim3 import exp, inverse, log, scale_of, transform

S_TRUE = exp(np.array([0.4, -1.0, 2.0, 0.5, -0.7, 1.1, 0.6]))


def cloud(count=500, seed=0):
    return np.random.default_rng(seed).normal(size=(count, 3)) * (2.0, 1.0, 0.5)


def test_umeyama_is_exact_and_weights_count():
    source = cloud()
    target = transform(S_TRUE, source)
    np.testing.assert_allclose(umeyama(source, target), S_TRUE, atol=1e-10)
    target[:100] += 50.0
    np.testing.assert_allclose(umeyama(source, target, np.arange(500) >= 100), S_TRUE, atol=1e-10)


def test_umeyama_without_scale_and_on_a_plane():
    source = cloud() * (1, 1, 0)
    np.testing.assert_allclose(umeyama(source, transform(S_TRUE, source)), S_TRUE, atol=1e-10)
    assert scale_of(umeyama(source, transform(S_TRUE, source), with_scale=False)) == pytest.approx(1.0)


def test_umeyama_never_mirrors():
    source = cloud()
    assert np.linalg.det(umeyama(source, source * (1, 1, -1))[:3, :3]) > 0


@pytest.mark.parametrize("source, told", [
    (np.zeros((2, 3)), "2 points"),
    (np.ones((10, 3)), "one place"),
    (np.outer(np.arange(10.0), [1, 2, 3]), "one line"),
    (np.full((10, 3), np.nan), "not finite"),
    (np.zeros((10, 2)), r"\(10, 2\)"),
])
def test_degenerate_points_are_named(source, told):
    with pytest.raises(AlignmentError, match=told):
        umeyama(source, source)


@pytest.mark.parametrize("share", [0.2, 0.4])
def test_robust_alignment_forgets_outliers(share):
    rng = np.random.default_rng(1)
    source = cloud(2000)
    target = transform(S_TRUE, source) + rng.normal(scale=0.01, size=source.shape)
    wild = rng.random(2000) < share
    target[wild] += rng.normal(scale=3.0, size=(wild.sum(), 3)) + 1.0
    found = align_robust(source, target, sigma=0.02)
    error = log(inverse(S_TRUE) @ found.S_target_source)
    assert np.abs(error).max() < 0.004
    assert np.abs(log(inverse(S_TRUE) @ umeyama(source, target))).max() > 0.05      # what it is worth
    assert (found.residuals[~wild] < 3).mean() > 0.99


def test_trajectory_error():
    truth = np.cumsum(cloud(60), axis=0)
    S, error = align_trajectory(transform(S_TRUE, truth), truth)
    assert error < 1e-9
    np.testing.assert_allclose(S, inverse(S_TRUE), atol=1e-9)
    line = np.outer(np.arange(4.0), [1, 0, 0])
    _, error = align_trajectory(line + [[0, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 0]], line, with_scale=False)
    assert 0.5 < error < np.sqrt(0.5) + 1e-9
    assert align_trajectory(2 * line, line)[1] < 1e-9                                # a straight path is allowed


def test_rmse():
    assert rmse(np.zeros((4, 3)), np.array([[3.0, 4, 0]] * 4)) == 5
