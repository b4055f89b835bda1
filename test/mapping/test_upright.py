"""Cameras on their side or upside down: the network sees upright images, the map is that of the camera as it is."""
from dataclasses import replace

import numpy as np
import pytest

from lsm_ros.contracts import Frame, Keyframe, Matches, Window, WindowPrediction
from lsm_ros.data.turning import quarters_of, turn, turned, turned_prediction
from lsm_ros.geometry.camera import unproject
from lsm_ros.geometry.sim3 import UP_CV, exp, inverse, transform
from lsm_ros.mapping.upright import Upright

RNG = np.random.default_rng(0)
K = np.array([[50.0, 0, 33], [0, 52, 25], [0, 0, 1]])


def up_of(degrees: float, pitch: float = 0.3) -> np.ndarray:
    """Up in a camera that looks down by `pitch` and is turned clockwise, seen from behind it."""
    angle = np.radians(degrees)
    x, y = -np.sin(angle), -np.cos(angle)
    return np.array([x * np.cos(pitch), y * np.cos(pitch), -np.sin(pitch)])


def frame(**told) -> Frame:
    image = RNG.integers(0, 255, (48, 64, 3), dtype=np.uint8)
    return replace(Frame(7, image, K, T_odom_cam=exp(RNG.normal(size=6)), up_cam=up_of(20.0), height_m=1.2,
                         depth=RNG.random((24, 32), dtype=np.float32), unseen=RNG.random((48, 64)) < .1), **told)


def prediction(views: int = 3) -> WindowPrediction:
    T = np.stack([np.eye(4), *(exp(RNG.normal(size=6)) for _ in range(views - 1))])
    ends = RNG.random((2, 5, 2), dtype=np.float32)
    return WindowPrediction(depth=RNG.uniform(1, 3, (views, 12, 16)).astype(np.float32),
                            confidence=RNG.random((views, 12, 16), dtype=np.float32), K=np.stack([K] * views),
                            T_window_cam=T, scale=2.0, semantics=RNG.random((views, 6, 8, 4), dtype=np.float32),
                            matches=Matches(np.zeros(5, int), np.ones(5, int), *ends, np.ones(5, np.float32)))


@pytest.mark.parametrize("degrees", [0, 90, 180, 270, 30, -30, 200])
def test_up_tells_how_a_camera_is_turned(degrees):
    off = (quarters_of(up_of(degrees)) - degrees / 90 + 2) % 4 - 2
    assert abs(off) < 1e-9
    assert quarters_of(np.array([0.2, -0.3, 0.93])) is None


def test_four_quarters_are_a_whole_turn_and_each_is_a_pixel_s_way():
    before = frame()
    assert turned(before, 4) is before is turned(before, 0)
    once, again = turned(before, 1), turned(turned(before, 1), 3)
    for name in ("image", "K", "T_odom_cam", "up_cam", "depth", "unseen"):
        np.testing.assert_allclose(getattr(again, name), getattr(before, name), atol=1e-12)
    assert once.image.shape == (64, 48, 3) and once.unseen.shape == (64, 48) and once.depth.shape == (32, 24)
    assert (once.stamp_ns, once.height_m) == (before.stamp_ns, before.height_m)
    # The right edge is above, and a ray through a pixel is the same in the world.
    np.testing.assert_array_equal(once.image[0], before.image[:, -1])
    ray = np.linalg.inv(before.K) @ (63.5, 10.5, 1)
    np.testing.assert_allclose(turn(1)[:3, :3] @ np.linalg.inv(once.K) @ (10.5, 0.5, 1), ray, atol=1e-12)
    assert quarters_of(once.up_cam) == pytest.approx(quarters_of(before.up_cam) + 1)
    nothing = turned(Frame(1, before.image), 2)
    assert (nothing.K, nothing.depth, nothing.up_cam, nothing.T_odom_cam, nothing.unseen) == (None,) * 5


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_turned_prediction_is_the_same_geometry(quarters):
    plain = prediction()
    other = turned_prediction(plain, quarters)
    camera = turn(quarters)
    for view in range(3):
        points, moved = (transform(T, unproject(each.depth[view], each.K[view])) for each, T in
                         ((plain, plain.T_window_cam[view]), (other, camera @ other.T_window_cam[view])))
        np.testing.assert_allclose(np.rot90(points, quarters), moved, atol=1e-5)
        np.testing.assert_array_equal(np.rot90(plain.semantics[view], quarters), other.semantics[view])
    np.testing.assert_array_equal(other.T_window_cam[0], np.eye(4))
    for name in ("shares_a", "shares_b"):           # a match shows the pixel that it showed
        marked = [np.zeros(each.depth.shape[1:]) for each in (plain, other)]
        for each, plane in zip((plain, other), marked, strict=True):
            columns, rows = (getattr(each.matches, name) * plane.shape[::-1]).astype(int).T
            plane[rows, columns] = np.arange(1, 6)
        np.testing.assert_array_equal(np.rot90(marked[0], quarters), marked[1])
    assert turned_prediction(replace(plain, matches=None), quarters).matches is None
    assert turned_prediction(plain, 0) is plain


def test_a_camera_that_leans_is_turned_once_and_not_to_and_fro():
    upright, seen = Upright(), []
    for degrees in (0, 50, 65, 40, 35, 20, -50, -65, -120, -170, 170, 125, 110):
        upright.hear(frame(up_cam=up_of(degrees)))
        seen.append(upright.degrees)
    assert seen == [0, 0, 90, 90, 90, 0, 0, 270, 270, 180, 180, 180, 90]
    upright.hear(frame(up_cam=None))
    upright.hear(frame(up_cam=np.array([0.0, -0.3, -0.95])))
    assert upright.degrees == 90


def test_what_is_shown_is_upright_and_what_is_said_comes_back():
    upright, keyframe = Upright(), Keyframe(5, frame(up_cam=UP_CV))
    assert upright.shown(keyframe) == keyframe
    camera = [Keyframe(n, turned(frame(up_cam=UP_CV), 3)) for n in range(3)]
    upright.hear(camera[0].frame)
    assert upright.degrees == 270
    shown = upright.shown_window(Window(tuple(camera))).keyframes
    assert len({k.id for k in (*camera, *shown)}) == 6, "tokens are kept by ids, and these are of other images"
    assert all(k.frame.image.shape == (48, 64, 3) for k in shown)
    np.testing.assert_allclose(shown[0].frame.up_cam, UP_CV, atol=1e-12)
    said = prediction()
    back = upright.back(said)
    assert back.depth.shape == (3, 16, 12)
    np.testing.assert_allclose(inverse(turn(3)) @ said.T_window_cam[1] @ turn(3), back.T_window_cam[1], atol=1e-12)
