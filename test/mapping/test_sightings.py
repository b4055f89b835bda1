"""The compiled loops against plain numpy, one match after another, with derivatives by small steps."""
from ctypes import ArgumentError
from dataclasses import replace

import numpy as np
import pytest

from lsm_ros.geometry.sim3 import exp, exp_so3, inverse, sim3
from lsm_ros.mapping.refinement import FOCAL_SIGMA, VIEW_SIGMA, adjust
from lsm_ros.mapping.sightings import GATE, NEAR, Sightings

ZOOM, SCALES = 1.06, np.array([1.0, 0.93, 1.08])               # of all views and of each one
TINY = 1e-5


@pytest.fixture
def poses():
    """T_window_cam of three views."""
    return exp(np.array([[0.0] * 6, [0.3, 0.02, 0.1, 0.03, -0.15, 0.02], [0.6, -0.1, 0.2, -0.05, -0.3, 0.1]]))


@pytest.fixture
def sightings(poses):
    """Of five pairs: 40 points each, some off by many sigmas, but none of one pair."""
    random, parts = np.random.default_rng(0), []
    for a, b, count in ((0, 1, 40), (1, 0, 40), (0, 2, 0), (2, 1, 40), (1, 2, 40)):
        z = random.uniform(1.5, 4, count)
        points = np.stack([*random.uniform(-0.5, 0.5, (2, count)) * z, z], axis=1)
        sigma, depth_sigma = random.uniform(0.001, 0.01, count), random.uniform(0.01, 0.1, count)
        rays = np.array([place(point, T(poses, a, b), SCALES[a], ZOOM) for point in points]).reshape(-1, 2)
        rays += random.normal(size=(count, 2)) * random.choice([0.003, 0.05], (count, 1))
        rows = np.column_stack([points, rays, sigma, depth_sigma, random.uniform(0.3, 1, count)])
        parts.append((a, b, count, rows))
    a, b, counts, rows = zip(*parts, strict=True)
    return Sightings(np.array(a), np.array(b), np.array(counts), np.concatenate(rows))


def T(T_window_cam, a, b):
    return inverse(T_window_cam[b]) @ T_window_cam[a]


def place(point, T_b_a, scale, zoom):
    """Where b shows a point (3,) of a, on the plane z = 1 of its camera as it was before the zoom."""
    seen = T_b_a[:3, :3] @ (point * scale / [zoom, zoom, 1]) + T_b_a[:3, 3]
    return zoom * seen[:2] / seen[2]


def derivative(function, count):
    """(2, count) of a function of `count` numbers, all 0."""
    return np.stack([(function(step) - function(-step)) / (2 * TINY) for step in TINY * np.eye(count)], axis=1)


def each(sightings, T_window_cam):
    """For each sighting: pair, point, T_b_a, residual (2,) and its inverse covariance (2, 2), and how it moves with the
    log of the depth (2,)."""
    pairs = np.repeat(np.arange(len(sightings.counts)), sightings.counts)
    for pair, point, ray, sigma, depth_sigma in zip(pairs, sightings.points, sightings.rays, sightings.sigma,
                                                    sightings.depth_sigma, strict=True):
        a, b = sightings.a[pair], sightings.b[pair]
        T_b_a, scale = T(T_window_cam, a, b), SCALES[a]
        by_depth = derivative(lambda step: place(point * np.exp(step), T_b_a, scale, ZOOM), 1)[:, 0]
        W = np.linalg.inv(sigma ** 2 * np.eye(2) + depth_sigma ** 2 * np.outer(by_depth, by_depth))
        yield pair, point, T_b_a, place(point, T_b_a, scale, ZOOM) - ray, W, by_depth


def arguments(sightings, T_window_cam):
    return T(T_window_cam, sightings.a, sightings.b), SCALES[sightings.a], ZOOM


def adjusted(sightings, T_window_cam):
    """What one step of the adjustment makes of poses, scales, zoom, and the matrix of its normal equations."""
    return adjust(T_window_cam, SCALES, ZOOM, sightings, False, T_window_cam, None, 1)


@pytest.mark.parametrize("told", [False, True])
def test_a_step_of_the_adjustment(sightings, poses, told):
    """From poses, depth scales and a zoom that are not the right ones, all unknowns at once."""
    a, b, size = sightings.a, sightings.b, 7 * 3 + 1
    T_predicted, pose_sigma = poses, None
    prior = np.append(np.tile([1e-3] * 6 + [VIEW_SIGMA ** -2], 3), FOCAL_SIGMA ** -2)
    prior[:6] = 1e12
    logs = np.zeros(size)
    logs[6::7], logs[-1] = np.log(SCALES), np.log(ZOOM)
    A, gradient = np.diag(prior), prior * logs
    for row, (pair, point, _, r, W, _) in enumerate(each(sightings, poses)):
        def moved(step):
            steps, view = step[:-1].reshape(3, 7), a[pair]
            T_window_cam = poses @ exp(steps[:, :6])
            scale, zoom = SCALES[view] * np.exp(steps[view, 6]), ZOOM * np.exp(step[-1])
            return place(point, T(T_window_cam, view, b[pair]), scale, zoom)

        J = derivative(moved, size)
        weight = sightings.confidence[row] / (1 + r @ W @ r / GATE ** 2)
        A, gradient = A + weight * J.T @ W @ J, gradient + weight * J.T @ W @ r
    if told:                                               # predicted poses pull, those far off less
        T_predicted = poses @ exp(np.random.default_rng(1).normal(0, [[0.05], [0.1], [3]], (3, 6)))
        pose_sigma = np.random.default_rng(2).uniform(0.03, 0.2, (3, 6))
        for view in range(3):
            near = inverse(T_predicted[view]) @ poses[view]
            turn = near[:3, :3] - near[:3, :3].T
            off = np.append(near[:3, 3], np.array([turn[2, 1], turn[0, 2], turn[1, 0]])
                            / np.sqrt(1 + np.trace(near[:3, :3])))
            weight = 1 / pose_sigma[view] ** 2 / (1 + np.square(off / pose_sigma[view]).sum() / GATE ** 2)
            places = slice(7 * view, 7 * view + 6)
            A[places, places] += np.diag(weight)
            gradient[places] += weight * off
    step = np.linalg.solve(A, -gradient)
    T_window_cam, scales, zoom, normal = adjust(poses, SCALES, ZOOM, sightings, False, T_predicted, pose_sigma, 1)
    np.testing.assert_allclose(normal, A, rtol=1e-5, atol=1e-6 * np.abs(A[7:, 7:]).max())
    steps = step[:-1].reshape(3, 7)
    np.testing.assert_allclose(T_window_cam, poses @ sim3(exp_so3(steps[:, 3:6]), steps[:, :3]), atol=1e-6)
    np.testing.assert_allclose(np.append(scales, zoom), np.exp(logs + step)[[6, 13, 20, 21]], rtol=1e-6)
    assert np.abs(step[7:]).max() > 1e-3


def test_agreement(sightings, poses):
    expected = [r @ W @ r < GATE ** 2 for _, _, _, r, W, _ in each(sightings, poses)]
    assert 40 < sum(expected) < 120
    np.testing.assert_array_equal(sightings.agreement(*arguments(sightings, poses)), expected)


def test_depth_errors(sightings, poses):
    error, sigma, agree = sightings.depth_errors(*arguments(sightings, poses))
    for row, (_, _, _, r, _, by_depth) in enumerate(each(sightings, poses)):
        length = np.linalg.norm(by_depth)
        across = (by_depth[0] * r[1] - by_depth[1] * r[0]) / length
        assert agree[row] == (abs(across) < GATE * sightings.sigma[row])
        if agree[row]:
            assert error[row] == pytest.approx(-by_depth @ r / length ** 2, rel=1e-5, abs=1e-6)
            assert sigma[row] == pytest.approx(sightings.sigma[row] / length, rel=1e-5)
        else:
            assert error[row] == sigma[row] == 0
    assert 40 < agree.sum() < 140


def test_points_at_the_other_lens_or_behind_it_say_nothing(sightings, poses):
    T_b_a, scales, zoom = arguments(sightings, poses)
    rows = sightings.rows.copy()
    for row, z in enumerate((-1.0, 0.0, 1e-9, 0.9 * NEAR * 0.11, np.nan)):          # before b, which is 0.1 before a
        rows[row, :3] = (inverse(T_b_a[0]) @ [0, 0, z, 1])[:3] / SCALES[0] * [ZOOM, ZOOM, 1]
    near = replace(sightings, rows=rows)
    without = Sightings(sightings.a, sightings.b, sightings.counts - [5, 0, 0, 0, 0], rows[5:])
    for ours, theirs in zip(adjusted(near, poses), adjusted(without, poses), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert not near.agreement(T_b_a, scales, zoom)[:5].any()
    assert not np.any(near.depth_errors(T_b_a, scales, zoom), axis=0)[:5].any()


@pytest.mark.parametrize("baseline", [0.0, 1e-12])
def test_views_from_one_place_know_no_depth(sightings, baseline):
    still = np.tile(np.eye(4), (5, 1, 1))
    still[:, 0, 3] = baseline
    from_one = exp(baseline * np.eye(3, 6))
    for found in (*adjusted(sightings, from_one), *sightings.depth_errors(still, np.ones(5), 1.0)[:2]):
        assert np.isfinite(found).all()


def test_what_is_not_as_the_compiled_loops_need_it_is_an_error(sightings, poses):
    T_b_a, scales, zoom = arguments(sightings, poses)
    double = np.repeat(sightings.rows, 2, axis=1)[:, ::2]                                       # with gaps
    for rows in (sightings.rows.astype(np.float32), double, np.asfortranarray(sightings.rows)):
        with pytest.raises(ArgumentError):
            replace(sightings, rows=rows).agreement(T_b_a, scales, zoom)
    with pytest.raises(ArgumentError):
        adjusted(replace(sightings, counts=sightings.counts.astype(np.int32)), poses)
    for wrong in ((T_b_a.astype(np.float32), scales), (T_b_a.swapaxes(1, 2), scales), (T_b_a, scales.astype(int))):
        with pytest.raises(ArgumentError):
            sightings.depth_errors(*wrong, zoom)
    for wrong in ((T_b_a[:4], scales), (T_b_a, scales[:4]), (T_b_a[:, :3], scales), (T_b_a[0], scales)):
        with pytest.raises(ValueError):
            sightings.agreement(*wrong, zoom)
    for wrong in ({"rows": sightings.rows[:-1]}, {"rows": sightings.rows[:, :7]}, {"rows": sightings.rows.ravel()},
                  {"counts": sightings.counts + 1}, {"counts": np.array([160, -40, 0, 0, 40])},
                  {"counts": sightings.counts[:4]}, {"a": sightings.a[:4]}):
        with pytest.raises(ValueError):
            replace(sightings, **wrong)


def test_an_adjustment_of_other_views_or_shapes_is_an_error(sightings, poses):
    right = [poses, np.zeros(22), np.ones(22), poses, np.zeros((3, 6)), 1]
    sightings.adjusted(*right)
    for place, wrong in ((0, poses[:2]), (1, np.zeros(21)), (2, np.ones(21)), (3, poses[:2]), (4, np.zeros((2, 6)))):
        with pytest.raises(ValueError):
            sightings.adjusted(*right[:place], wrong, *right[place + 1:])
    with pytest.raises(ValueError):
        replace(sightings, b=sightings.b + 2).adjusted(*right)


def test_what_says_nothing_moves_nothing(poses):
    nothing = Sightings(np.array([0]), np.array([1]), np.array([0]), np.empty((0, 8)))
    T_window_cam, logs, normal = nothing.adjusted(poses, np.zeros(22), np.zeros(22), poses, np.zeros((3, 6)), 3)
    np.testing.assert_array_equal(T_window_cam, poses)
    assert not logs.any() and not normal.any()
