import numpy as np
import pytest

from lsm_ros.contracts import Frame, Keyframe
from lsm_ros.geometry.sim3 import exp_so3, sim3
from lsm_ros.mapping.graph import Edge
from lsm_ros.mapping.odometry import FASTEST, UNWATCHED_S, OdometryWatch, contradicts, travelled

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
