"""CameraInfo, as its .msg defines it."""
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from lsm_ros.data.calibration import Rectifier, calibration, to_opencv
from lsm_ros.errors import InputError

K = np.array([[500.0, 0, 319.5], [0, 510, 239.5], [0, 0, 1]])


def camera_info(**changes):
    roi = SimpleNamespace(x_offset=0, y_offset=0, width=0, height=0)
    fields = {"width": 640, "height": 480, "distortion_model": "plumb_bob", "d": [0.0] * 5, "k": K.ravel(),
              "p": np.c_[np.diag([2.0, 2, 1]) @ K, np.zeros(3)].ravel(), "binning_x": 0, "binning_y": 0, "roi": roi}
    return SimpleNamespace(**{**fields, **changes})


def test_pixel_centres_move_by_a_half():
    camera = calibration(camera_info())
    assert camera.K[:2, 2].tolist() == [320, 240]          # the exact middle of 640x480
    np.testing.assert_allclose(to_opencv(camera.K), K)


def test_binning_and_region_of_interest():
    roi = SimpleNamespace(x_offset=100, y_offset=40, width=400, height=400)
    camera = calibration(camera_info(binning_x=2, binning_y=4, roi=roi))
    assert (camera.width, camera.height) == (200, 100)
    np.testing.assert_allclose(camera.K, [[250, 0, 110], [0, 127.5, 50], [0, 0, 1]])


@pytest.mark.parametrize("D", [[0.0] * 5, [-0.05, 0, 0, 0, 0]])
def test_a_region_of_interest_need_not_hold_the_principal_point(D):
    roi = SimpleNamespace(x_offset=400, y_offset=0, width=240, height=160)
    camera = calibration(camera_info(roi=roi, d=D))
    assert camera.K[:2, 2].tolist() == [-80, 240]
    _, K_image = Rectifier(camera)(np.zeros((160, 240, 3), np.uint8))
    assert K_image[0, 2] < 0 and K_image[1, 2] > 160
    with pytest.raises(InputError, match="outside of the 300x480 sensor"):
        calibration(camera_info(width=300, roi=roi))


def test_the_principal_point_of_an_image_that_was_cut_without_a_word_lies_anywhere_in_it():
    assert calibration(camera_info(width=340, height=480)).K[:2, 2].tolist() == [320, 240]


def test_rectified_images_use_p():
    camera = calibration(camera_info(d=[0.1, 0, 0, 0, 0]), rectified=True)
    assert camera.K[0, 0] == 1000 and not camera.distorted


def test_uncalibrated_is_none():
    assert calibration(camera_info(k=np.zeros(9))) is None
    assert calibration(camera_info(k=np.zeros(9), p=np.zeros(12)), rectified=True) is None


def test_a_calibration_without_p_is_no_uncalibrated_camera():
    with pytest.raises(InputError, match="P is zero although K is not"):
        calibration(camera_info(p=np.zeros(12)), rectified=True)


@pytest.mark.parametrize(("changes", "said"), [
    ({"k": np.where(K == 500, np.nan, K).ravel()}, "not finite"),
    ({"k": np.where(K == 500, -500, K).ravel()}, "-500"),
    ({"d": [np.nan, 0, 0, 0, 0]}, "not finite"),
    ({"d": [0.1, 0, 0]}, "with 3 numbers"),
    ({"d": [0.1] * 5, "distortion_model": "magic"}, "'magic'"),
    ({"width": 200, "height": 200}, "principal point"),
])
def test_bad_values_are_named(changes, said):
    with pytest.raises(InputError, match=said):
        calibration(camera_info(**changes))


@pytest.mark.parametrize(("model", "D"), [("plumb_bob", [-0.3, 0.1, 0.001, -0.002, 0.0]),
                                          ("rational_polynomial", [-0.3, 0.1, 0, 0, 0, 0.01, 0, 0]),
                                          ("equidistant", [0.05, -0.01, 0.002, 0.0])])
def test_a_straight_line_is_straight_again(model, D):
    """A dot is drawn where the lens sees a point; rectified, it is where the pinhole camera with the new K sees it."""
    rectify = Rectifier(calibration(camera_info(distortion_model=model, d=D)))
    for point in ([0.4, 0.3, 1.0], [-0.5, 0.2, 1.0], [0.1, -0.35, 1.0]):
        point = np.array(point)
        project = cv2.fisheye.projectPoints if model == "equidistant" else cv2.projectPoints
        seen = project(point[None, None], np.zeros(3), np.zeros(3), K, np.array(D))[0].ravel()
        image = np.zeros((480, 640, 3), np.uint8)
        cv2.circle(image, tuple(int(c) for c in np.rint(seen * 16)), 4 * 16, (255, 255, 255), -1, cv2.LINE_AA, 4)
        flat, K_flat = rectify(image)
        weights = flat[..., 0].astype(float)
        v, u = np.mgrid[:480, :640] + 0.5
        found = np.array([(u * weights).sum(), (v * weights).sum()]) / weights.sum()
        np.testing.assert_allclose(found, (K_flat @ point)[:2], atol=0.5)


def test_another_image_size_is_an_error():
    with pytest.raises(InputError, match="640x480 image, but the image is 320x240"):
        Rectifier(calibration(camera_info()))(np.zeros((240, 320, 3), np.uint8))


def test_depth_is_undistorted_as_its_image_and_no_edge_is_blended():
    """A depth at half the size; where the rectified image is white the depth is far."""
    rectify = Rectifier(calibration(camera_info(d=[-0.3, 0.1, 0.001, -0.002, 0.0])))
    far = np.zeros((480, 640), bool)
    far[100:300, 50:400] = True
    flat, _ = rectify(np.repeat(far[..., None], 3, axis=2).astype(np.uint8) * 255)
    depth = rectify.depth(np.where(far, np.float32(5), np.float32(1))[::2, ::2], (640, 480))
    assert set(np.unique(depth[np.isfinite(depth)])) == {1, 5}
    assert ((depth == 5) == (flat[..., 0] > 127)).mean() > 0.99


def test_depth_of_a_lens_without_distortion_stays_as_it_is():
    depth = np.ones((24, 32), np.float32)
    assert Rectifier(calibration(camera_info())).depth(depth, (640, 480)) is depth
