import numpy as np
import pytest
from scipy.linalg import expm

from lsm_ros.geometry import sim3


def tangents(size=1.0, count=50, seed=0):
    return np.random.default_rng(seed).normal(size=(count, 7)) * size


@pytest.mark.parametrize("size", [1.0, 1e-3, 1e-8, 0.0])
def test_exp_is_the_matrix_exponential_and_log_undoes_it(size):
    xi = tangents(size)
    generators = np.zeros((len(xi), 4, 4))
    generators[:, :3, :3] = sim3.hat(xi[:, 3:6]) + xi[:, 6, None, None] * np.eye(3)
    generators[:, :3, 3] = xi[:, :3]
    np.testing.assert_allclose(sim3.exp(xi), [expm(g) for g in generators], atol=1e-12)
    inside = np.linalg.norm(xi[:, 3:6], axis=1) < np.pi
    np.testing.assert_allclose(sim3.log(sim3.exp(xi))[inside], xi[inside], atol=1e-12)


def test_log_at_half_a_turn():
    for axis in np.eye(3):
        np.testing.assert_allclose(np.abs(sim3.log_so3(sim3.exp_so3(np.pi * axis))), np.pi * axis, atol=1e-7)


def test_inverse_parts_and_adjoint():
    S, xi = sim3.exp(tangents()), tangents(0.3, seed=1)
    np.testing.assert_allclose(sim3.inverse(S) @ S, np.broadcast_to(np.eye(4), S.shape), atol=1e-12)
    np.testing.assert_allclose(sim3.rigid_of(S) @ sim3.scaling(sim3.scale_of(S)), S, atol=1e-12)
    np.testing.assert_allclose(S @ sim3.exp(xi) @ sim3.inverse(S),
                               sim3.exp((sim3.adjoint(S) @ xi[..., None])[..., 0]), atol=1e-9)


def test_tf_transformations_means_the_same_by_a_quaternion():
    tf_transformations = pytest.importorskip("tf_transformations", reason="tf_transformations is not installed")
    for R in sim3.exp_so3(tangents()[:, 3:6]):
        quaternion = sim3.quaternion_from_matrix(R)
        np.testing.assert_allclose(tf_transformations.quaternion_matrix(quaternion)[:3, :3], R, atol=1e-9)
        theirs = tf_transformations.quaternion_from_matrix(sim3.sim3(R, np.zeros(3)))
        np.testing.assert_allclose(sim3.matrix_from_quaternion(np.array(theirs)), R, atol=1e-9)


def test_transform_keeps_the_dtype_and_equals_the_homogeneous_product():
    S, points = sim3.exp(tangents(count=4)), np.random.default_rng(2).normal(size=(4, 9, 3)).astype(np.float32)
    moved = sim3.transform(S, points)
    homogeneous = np.concatenate([points, np.ones((4, 9, 1))], axis=2)
    assert moved.dtype == np.float32
    np.testing.assert_allclose(moved, (homogeneous @ np.swapaxes(S, 1, 2))[..., :3], atol=1e-5)


def test_quaternions():
    q = np.random.default_rng(3).normal(size=(100, 4))
    q = q / np.linalg.norm(q, axis=1, keepdims=True) * np.where(q[:, 3:] < 0, -1, 1)
    np.testing.assert_allclose(sim3.quaternion_from_matrix(sim3.matrix_from_quaternion(q)), q, atol=1e-12)
    quarter = np.array([0, 0, np.sqrt(0.5), np.sqrt(0.5)])       # 90 degrees about z, written by hand
    np.testing.assert_allclose(sim3.matrix_from_quaternion(quarter), [[0, -1, 0], [1, 0, 0], [0, 0, 1]], atol=1e-12)
    for half in np.diag([1.0, 1.0, 1.0]):                        # w = 0: the badly conditioned case of naive formulae
        np.testing.assert_allclose(sim3.quaternion_from_matrix(2 * np.outer(half, half) - np.eye(3)), [*half, 0])


def test_a_level_camera_maps_to_ros_axes():
    np.testing.assert_allclose(sim3.upright(sim3.UP_CV), sim3.R_ROS_CV)
    np.testing.assert_allclose(sim3.R_ROS_CV @ [0, 0, 1], [1, 0, 0])         # forward is x
    np.testing.assert_allclose(sim3.R_ROS_CV @ [0, -1, 0], [0, 0, 1])        # up is z


@pytest.mark.parametrize("up, heading", [((0.3, -0.9, 0.2), None), ((0, 0, -1), (0, -1, 0)), ((0, 0, 1), (0, 1, 0))])
def test_upright(up, heading):
    R = sim3.upright(np.array(up))
    np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(R) > 0
    np.testing.assert_allclose(R @ up / np.linalg.norm(up), [0, 0, 1], atol=1e-12)
    if heading is not None:
        np.testing.assert_allclose(R @ heading, [1, 0, 0], atol=1e-12)


def test_rotation_angle():
    R = sim3.exp_so3(np.array([0.0, 0.4, 0.0]))
    assert sim3.rotation_angle(np.eye(3), R) == pytest.approx(0.4)
