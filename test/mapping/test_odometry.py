import numpy as np
import pytest

from lsm_ros.contracts import Frame, Keyframe
from lsm_ros.geometry.sim3 import exp_so3, sim3
from lsm_ros.mapping.graph import Edge
from lsm_ros.mapping.odometry import FAST_FOR_S, FASTEST, UNWATCHED_S, OdometryWatch, contradicts, travelled

S = 10**9
HERE = np.eye(4)


def at(x, yaw=0.0):
    return sim3(exp_so3(np.array([0, 0, yaw])), np.array([x, 0.0, 0.0]))


@pytest.mark.parametrize("T, anew", [(at(.9 * FASTEST[0]), False), (at(1.2 * FASTEST[0]), True),
                                     (at(0, 3.0), False), (at(0, 3.0) @ at(0.3), False), (at(-5), True)])
def test_odometry_that_is_where_no_robot_comes_to_in_a_second_has_begun_anew(T, anew):
    watch = OdometryWatch()
    assert not watch.hear(5 * S, at(100) @ HERE)               # wherever it begins
    assert watch.hear(6 * S, at(100) @ T) == anew
    assert not watch.hear(7 * S, at(100) @ T) and not watch.unwatched


def jumps(poses, every_s=0.1):
    watch = OdometryWatch()
    return [watch.hear(round(n * every_s * S), T) for n, T in enumerate(poses)]


@pytest.mark.parametrize("every_s", [1 / 30, 0.1, 0.5])
def test_a_fast_robot_s_odometry_goes_on(every_s):
    """From standing to 6 m/s and back by 3 m/s^2, around bends of 1 rad/s."""
    t = np.arange(0, 10, every_s)
    speed = np.minimum(3 * t, 6.0) * (t < 8) + (30 - 3 * t) * (t >= 8)
    T, poses = HERE, []
    for s, v in zip(t, speed, strict=True):
        T = T @ at(v * every_s, np.sin(s) * every_s)
        poses.append(T)
    assert not any(jumps(poses, every_s))


def test_odometry_that_is_first_heard_of_a_fast_robot_is_believed_after_a_while_and_its_jumps_are_seen():
    poses = [at(4.0 * 0.1 * n) for n in range(40)]
    anew = [at(0.1 * n * 4.0 + 1.0) @ at(0, 0.2) for n in range(20)]
    seen = np.array(jumps(poses + anew))
    doubted = round(10 * FAST_FOR_S)
    assert seen[1:doubted + 1].all() and not seen[doubted + 1:40].any()
    assert seen[40]


def test_a_jump_that_tf_tells_as_a_speed_between_its_transforms_is_one():
    """Ten images between the transforms before and after it; and there and back again."""
    stand, between = [HERE] * 20, [at(-.5 * n) for n in range(1, 11)]
    seen = jumps(stand + between + [at(-5)] * 10)
    assert not any(seen[:20]) and all(seen[20:30]) and not any(seen[30:])
    assert jumps(stand + [at(5)] + stand)[20:23] == [True, True, False]


def test_a_gap_is_remembered_until_a_keyframe_has_its_place():
    watch = OdometryWatch()
    for stamp_s in (0, 1, 1 + UNWATCHED_S, 2 + 2 * UNWATCHED_S, 3 + 2 * UNWATCHED_S):
        watch.hear(int(stamp_s * S), HERE)
        assert watch.unwatched == (stamp_s > 1 + UNWATCHED_S)
    watch.watched_again()
    watch.hear(int((4 + 2 * UNWATCHED_S) * S), HERE)
    assert not watch.unwatched


def test_what_a_stamp_that_was_wrong_said_is_compared_with_nothing():
    watch = OdometryWatch()
    watch.hear(100 * S, at(50))
    watch.step_back(2 * S)
    assert not watch.hear(3 * S, HERE) and not watch.unwatched
    watch.step_back(4 * S)                                     # after the newest: nothing was wrong
    assert watch.hear(5 * S, at(50))


def test_an_edge_that_no_wheels_would_have_done_contradicts_a_travel():
    a, b = (Keyframe(i, Frame(i, np.zeros((2, 2, 3), np.uint8), T_odom_cam=T)) for i, T in enumerate((HERE, at(1))))
    travel = travelled(a, b)
    assert np.allclose(travel.T_i_j, at(1)) and travelled(a, Keyframe(2, Frame(2, b.frame.image))) is None
    unit = sim3(np.eye(3), np.zeros(3)) * np.array([2, 2, 2, 1])[:, None]           # of two metres
    for way, off in ((.5, False), (.45, False), (1.0, True), (-.5, True)):
        assert contradicts(Edge(0, 1, at(way), np.ones(7)), travel, unit, unit) == off
