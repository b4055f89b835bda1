"""Chains of frames, to the digit."""
from __future__ import annotations

import numpy as np
import pytest

from lsm_ros.errors import TooEarlyError, TransformError
from lsm_ros.geometry.frame_tree import FORGOTTEN_AFTER_S, FrameTree, slerp
from lsm_ros.geometry.sim3 import exp_so3, inverse, quaternion_from_matrix, sim3

SECOND = 1_000_000_000
T0 = 1_700_000_000 * SECOND + 7         # nanoseconds that a float64 of seconds would lose
LEVEL = np.array([0.0, 0.0, 0.0, 1.0])


def pose(x: float, yaw: float = 0.0) -> np.ndarray:
    return sim3(exp_so3(np.array([0.0, 0.0, yaw])), np.array([x, 0.0, 0.0]))


def put(tree: FrameTree, parent: str, child: str, stamp_ns: int, T: np.ndarray, static: bool = False) -> None:
    tree.set(parent, child, stamp_ns, T[:3, 3], quaternion_from_matrix(T[:3, :3]), static)


@pytest.fixture
def robot() -> FrameTree:
    """odom -> base moves by 1 m and turns by 1 rad in a second; base -> camera and base -> lidar are fixed."""
    tree = FrameTree()
    put(tree, "base", "camera", 0, pose(0.5, 0.3), static=True)
    put(tree, "base", "lidar", 0, pose(-0.2), static=True)
    put(tree, "odom", "base", T0, pose(1.0, 0.0))
    put(tree, "odom", "base", T0 + SECOND, pose(2.0, 1.0))
    return tree


def test_a_chain_at_a_sample_is_that_sample(robot):
    np.testing.assert_allclose(robot.lookup("odom", "camera", T0 + SECOND), pose(2.0, 1.0) @ pose(0.5, 0.3), atol=1e-12)
    np.testing.assert_allclose(robot.lookup("camera", "odom", T0), inverse(pose(1.0) @ pose(0.5, 0.3)), atol=1e-12)


def test_between_two_samples_it_moves_and_turns_evenly(robot):
    np.testing.assert_allclose(robot.lookup("odom", "base", T0 + SECOND // 4), pose(1.25, 0.25), atol=1e-9)


def test_siblings_meet_at_their_parent_at_any_time(robot):
    """The moving edge above them isn't asked: its history says nothing of this moment."""
    np.testing.assert_allclose(robot.lookup("lidar", "camera", 5), pose(0.7, 0.3), atol=1e-12)


def test_a_frame_is_where_it_is_whether_or_not_anybody_tells_of_it(robot):
    for frame in ("camera", "/nobody"):
        np.testing.assert_array_equal(robot.lookup(frame, frame.lstrip("/"), 5), np.eye(4))
    with pytest.raises(TransformError, match="knows no frame ''"):
        robot.lookup("", "", 5)


def test_names_with_a_leading_slash_are_the_same(robot):
    np.testing.assert_array_equal(robot.lookup("/odom", "/camera", T0), robot.lookup("odom", "camera", T0))


def test_samples_may_come_out_of_order(robot):
    put(robot, "odom", "base", T0 + SECOND // 2, pose(1.9, 0.5))
    assert robot.lookup("odom", "base", T0 + SECOND // 4)[0, 3] == pytest.approx(1.45)
    assert robot.lookup("odom", "base", T0 + SECOND)[0, 3] == 2.0


def test_the_shorter_way_round_is_taken():
    half = slerp(LEVEL, -np.array([0.0, 0.0, np.sin(0.1), np.cos(0.1)]), 0.5)
    np.testing.assert_allclose(half, [0.0, 0.0, np.sin(0.05), np.cos(0.05)], atol=1e-12)
    np.testing.assert_array_equal(slerp(LEVEL, LEVEL, 0.5), LEVEL)


@pytest.mark.parametrize(("target", "source", "stamp", "words"), [
    ("odom", "kamera", T0, "TF knows no frame 'kamera'"),
    ("odom", "hand", T0, "does not connect 'hand' with 'odom': the one hangs on 'arm', the other on 'odom'"),
    ("odom", "camera", T0 - SECOND // 4, r"odom -> base from .*; .* is 0.250 s before the oldest")])
def test_what_it_cannot_tell_is_named(robot, target, source, stamp, words):
    put(robot, "arm", "hand", T0, pose(0.0))
    with pytest.raises(TransformError, match=words) as error:
        robot.lookup(target, source, stamp)
    assert not isinstance(error.value, TooEarlyError), "nothing to wait for"


def test_what_may_still_come_is_another_error_and_says_how_far_it_is_behind(robot):
    with pytest.raises(TooEarlyError, match="0.250 s after the newest") as error:
        robot.lookup("odom", "camera", T0 + SECOND * 5 // 4)
    assert error.value.behind_s == pytest.approx(0.25)


def test_the_history_is_ten_seconds(robot):
    for tenth in range(10, 200):
        put(robot, "odom", "base", T0 + tenth * SECOND // 10, pose(tenth / 10))
    assert robot.lookup("odom", "base", T0 + 10 * SECOND)[0, 3] == 10.0
    with pytest.raises(TransformError, match="before the oldest"):
        robot.lookup("odom", "base", T0 + 9 * SECOND)


def test_a_jump_back_empties_the_edge_but_a_late_sample_does_not(robot):
    put(robot, "odom", "base", T0 + SECOND * 3 // 4, pose(1.75))
    robot.lookup("odom", "base", T0 + SECOND)
    put(robot, "odom", "base", T0, pose(7.0))
    with pytest.raises(TooEarlyError):
        robot.lookup("odom", "base", T0 + SECOND)
    assert robot.lookup("odom", "base", T0)[0, 3] == 7.0


def test_clearing_keeps_what_is_fixed(robot):
    robot.clear()
    np.testing.assert_allclose(robot.lookup("base", "camera", T0), pose(0.5, 0.3), atol=1e-12)
    with pytest.raises(TransformError, match="does not|knows no frame 'odom'"):
        robot.lookup("odom", "camera", T0)


def test_another_parent_takes_the_frame_away(robot):
    put(robot, "map", "base", T0 + SECOND, pose(3.0))
    assert robot.parent("base") == "map"
    with pytest.raises(TransformError):
        robot.lookup("odom", "base", T0 + SECOND)


def test_a_parent_that_has_fallen_silent_is_none_unless_it_is_fixed():
    now = [0.0]
    tree = FrameTree(lambda: now[0])
    put(tree, "base", "camera", 0, pose(0.5), static=True)
    put(tree, "odom", "base", T0, pose(1.0))
    assert tree.parent("base", 5.0) == tree.parent("base") == "odom"
    now[0] = 6.0
    assert tree.parent("base", 5.0) is None and tree.parent("base") == "odom" and tree.parent("camera", 5.0) == "base"


def test_a_ring_is_an_error_and_no_hang():
    tree = FrameTree()
    put(tree, "a", "b", T0, pose(1.0))
    put(tree, "b", "a", T0, pose(1.0))
    put(tree, "c", "d", T0, pose(1.0))
    with pytest.raises(TransformError, match="ring: a -> b -> a"):
        tree.lookup("a", "d", T0)


@pytest.mark.parametrize(("translation", "quaternion"), [
    ([np.nan, 0, 0], LEVEL), ([0, 0, 0], np.zeros(4)), ([0, 0, 0], 2 * LEVEL)])
def test_what_is_no_transform_is_refused(translation, quaternion):
    with pytest.raises(TransformError, match="a -> b has the translation"):
        FrameTree().set("a", "b", T0, np.array(translation, float), quaternion)


def test_frames_under_ever_new_names_are_forgotten():
    now = [0.0]
    tree = FrameTree(lambda: now[0])
    put(tree, "base", "camera", 0, pose(0.5), static=True)
    put(tree, "map", "keyframe_0", T0, pose(0.0))
    now[0] = FORGOTTEN_AFTER_S + 1
    put(tree, "map", "keyframe_1", T0, pose(0.0))
    assert tree.frames() == ["base", "camera", "keyframe_1", "map"]
