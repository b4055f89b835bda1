import time

import cv2
import numpy as np
import pytest

from lsm_ros.contracts import Frame
from lsm_ros.geometry.camera import intrinsics
from lsm_ros.mapping.keyframes import KEPT_WIDTH, KeyframeSelector, Verdict, reduced


def texture(width=900, height=500, seed=0):
    noise = np.random.default_rng(seed).integers(0, 255, (height // 10, width // 10, 3), dtype=np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)


TEXTURE = texture()


def shifted(pixels, image=TEXTURE):
    return np.ascontiguousarray(image[10:490, pixels:pixels + 640])


@pytest.fixture
def selector():
    return KeyframeSelector(motion=0.08, tracks=0.5)


def test_a_keyframe_each_time_the_image_has_moved_by_the_share_of_its_width(selector):
    verdicts = [selector.judge(shifted(x)) for x in range(0, 170, 10)]      # 8 % of 640 is 51.2 pixels
    assert [10 * n for n, v in enumerate(verdicts) if v is Verdict.KEYFRAME] == [0, 60, 120]


def test_a_noisy_static_camera_and_one_that_trembles_make_one_keyframe(selector):
    rng = np.random.default_rng(1)
    verdicts = []
    for n in range(20):
        noisy = shifted(20 + 15 * (n % 2)).astype(int) + rng.normal(scale=6, size=(480, 640, 3))
        verdicts.append(selector.judge(noisy.clip(0, 255).astype(np.uint8)))
    assert verdicts == [Verdict.KEYFRAME] + [Verdict.STATIC] * 19


def test_a_cut_makes_a_keyframe(selector):
    selector.judge(shifted(0))
    assert selector.judge(shifted(0, texture(seed=9))) is Verdict.KEYFRAME


@pytest.mark.parametrize("level", [0, 3, 128, 255])
def test_an_image_without_anything_is_dark_and_does_not_disturb(selector, level):
    assert selector.judge(np.full((480, 640, 3), level, np.uint8)) is Verdict.DARK
    assert selector.judge(shifted(0)) is Verdict.KEYFRAME
    assert selector.judge(np.full((480, 640, 3), level, np.uint8)) is Verdict.DARK
    assert selector.judge(shifted(3)) is Verdict.STATIC


def test_a_ramp_without_corners_goes_by_brightness(selector):
    ramp = np.repeat(np.linspace(40, 120, 640)[None, :, None], 480, axis=0).repeat(3, axis=2)
    assert selector.judge(ramp.astype(np.uint8)) is Verdict.KEYFRAME
    assert selector.judge((ramp + 2).astype(np.uint8)) is Verdict.STATIC
    assert selector.judge((ramp + 60).astype(np.uint8)) is Verdict.KEYFRAME


def test_it_is_cheap(selector):
    selector.judge(shifted(0))
    times = []
    for n in range(1, 20):
        start = time.process_time()
        selector.judge(shifted(2 * (n % 5)))
        times.append(time.process_time() - start)
    assert np.median(times) < 0.03      # 2 ms on an idle core


def test_large_images_are_kept_smaller_with_their_intrinsics():
    frame = Frame(7, np.zeros((1080, 1920, 3), np.uint8), intrinsics(1500, 1500, 960, 540))
    kept = reduced(frame)
    assert kept.image.shape == (KEPT_WIDTH * 9 // 16, KEPT_WIDTH, 3) and kept.stamp_ns == 7
    np.testing.assert_allclose(kept.K, intrinsics(250, 250, 160, 90))
    assert reduced(kept) is kept


def test_a_measured_depth_is_kept_with_as_many_pixels_as_the_image():
    depth = np.arange(480 * 848, dtype=np.float32).reshape(480, 848)
    for image in (shifted(0), shifted(0)[:160, :160]):
        kept = reduced(Frame(0, image, depth=depth)).depth
        assert kept.shape == (160, 283) and kept.base is None, "not a view that holds all of it"
        assert kept[0, 0] == depth[1, 1] and kept[-1, -1] == depth[478, 847]
