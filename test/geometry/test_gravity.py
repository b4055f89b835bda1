"""The up direction of an IMU that is tipped, shaken and turned."""
from __future__ import annotations

import numpy as np
import pytest

from lsm_ros.errors import InputError
from lsm_ros.geometry.gravity import STANDARD_GRAVITY, GravityFilter
from lsm_ros.geometry.sim3 import exp_so3, quaternion_from_matrix

STEP_NS = 10_000_000            # 100 Hz
UP = np.array([0.0, 0.0, 1.0])


def angle_deg(a: np.ndarray, b: np.ndarray) -> float:
    return np.degrees(np.arccos(np.clip(a @ b, -1, 1)))


def test_at_rest_it_is_where_the_acceleration_points():
    gravity, tipped = GravityFilter(), exp_so3(np.array([0.3, -0.2, 0.0])) @ UP
    gravity.add(0, STANDARD_GRAVITY * tipped)
    np.testing.assert_allclose(gravity.at(STEP_NS), tipped, atol=1e-12)


def test_vibration_averages_out_and_a_blow_is_gated():
    gravity, rng = GravityFilter(), np.random.default_rng(0)
    for n in range(1000):
        blow = np.array([30.0, 0.0, 0.0]) if n % 50 == 49 else 0.0
        used = gravity.add(n * STEP_NS, STANDARD_GRAVITY * UP + rng.normal(size=3) * 0.3 + blow)
        assert used == (n % 50 != 49)
    assert angle_deg(gravity.at(999 * STEP_NS), UP) < 1.0


def test_the_gyroscope_carries_it_along_a_turn():
    """Tipped by 90 degrees in half a second; the accelerometer alone would follow with its time constant."""
    rate = np.array([np.pi, 0.0, 0.0])
    with_gyro, without = GravityFilter(), GravityFilter()
    for n in range(51):
        up = exp_so3(-rate * n * STEP_NS * 1e-9) @ UP
        with_gyro.add(n * STEP_NS, STANDARD_GRAVITY * up, rate)
        without.add(n * STEP_NS, STANDARD_GRAVITY * up)
    assert angle_deg(with_gyro.at(50 * STEP_NS), up) < 0.01
    assert angle_deg(without.at(50 * STEP_NS), up) > 20


def test_an_orientation_is_taken_as_it_is():
    gravity, R_world_imu = GravityFilter(), exp_so3(np.array([0.3, -0.2, 1.0]))
    gravity.add(0, np.zeros(3), orientation=quaternion_from_matrix(R_world_imu))
    np.testing.assert_allclose(R_world_imu @ gravity.at(0), UP, atol=1e-12)


def test_an_acceleration_in_g_is_named():
    with pytest.raises(InputError, match=r"1.00 m/s\^2 is not gravity's 9.81 \+- 1.0"):
        GravityFilter().add(0, UP)


def test_a_moment_is_answered_by_the_nearest_sample():
    gravity, tipped = GravityFilter(), exp_so3(np.array([0.3, 0.0, 0.0])) @ UP
    gravity.add(0, np.zeros(3), orientation=np.array([0.0, 0, 0, 1]))
    gravity.add(10 * STEP_NS, np.zeros(3), orientation=quaternion_from_matrix(exp_so3(np.array([-0.3, 0.0, 0.0]))))
    np.testing.assert_array_equal(gravity.at(4 * STEP_NS), UP)
    np.testing.assert_allclose(gravity.at(6 * STEP_NS), tipped, atol=1e-12)
    assert gravity.at(40 * STEP_NS) is None
    assert GravityFilter().at(0) is None


def test_time_that_jumps_back_starts_it_again():
    gravity = GravityFilter()
    gravity.add(100 * STEP_NS, STANDARD_GRAVITY * UP)
    gravity.add(0, STANDARD_GRAVITY * np.array([1.0, 0.0, 0.0]))
    np.testing.assert_allclose(gravity.at(0), [1, 0, 0])
    assert gravity.at(100 * STEP_NS) is None
