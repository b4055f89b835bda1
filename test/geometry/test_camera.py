import numpy as np
import pytest
from room import pixel_centres

from lsm_ros.errors import InputError
from lsm_ros.geometry.camera import (
    check_intrinsics,
    crop_intrinsics,
    intrinsics,
    project,
    scale_intrinsics,
    unproject,
)

K = intrinsics(200.0, 210.0, 63.0, 49.0)


def test_unproject_is_undone_by_project():
    depth = np.random.default_rng(0).uniform(0.5, 5.0, (2, 96, 128)).astype(np.float32)
    both = np.stack([K, scale_intrinsics(K, (4, 4), (5, 4))])
    points = unproject(depth, both)
    pixels, z = project(points.reshape(2, -1, 3), both)
    assert points.dtype == np.float32
    np.testing.assert_allclose(pixels.reshape(2, 96, 128, 2), np.broadcast_to(pixel_centres(96, 128), (2, 96, 128, 2)),
                               atol=1e-3)
    np.testing.assert_allclose(z.reshape(2, 96, 128), depth)


def test_unproject_by_hand():
    point = unproject(np.full((1, 1), 2.0), np.array([[4.0, 1.0, 0.0], [0, 2.0, 0], [0, 0, 1]]))[0, 0]
    np.testing.assert_allclose(point, 2.0 * np.linalg.inv([[4.0, 1.0, 0.0], [0, 2.0, 0], [0, 0, 1]]) @ [0.5, 0.5, 1.0])


@pytest.mark.parametrize("skew", [0.0, 3.0])
def test_unproject_some_rows_and_columns(skew):
    depth = np.random.default_rng(0).uniform(0.5, 5.0, (2, 96, 128)).astype(np.float32)
    both = np.stack([K, scale_intrinsics(K, (4, 4), (5, 4))])
    both[1, 0, 1] = skew
    rows, columns = np.array([3, 50, 95]), np.array([0, 127])
    np.testing.assert_array_equal(unproject(depth[:, rows[:, None], columns], both, rows, columns),
                                  unproject(depth, both)[:, rows[:, None], columns])


def test_points_behind_the_camera_have_no_pixel():
    pixels, z = project(np.array([[0.1, 0.1, -1.0], [0.1, 0.1, 1.0]]), K)
    assert np.isnan(pixels[0]).all() and np.isfinite(pixels[1]).all() and z[0] == -1


def test_a_resized_and_cropped_image_sees_the_same_point():
    point = np.array([[0.2, -0.1, 1.5]])
    pixel = project(point, K)[0]
    small = scale_intrinsics(K, (640, 480), (256, 192))
    np.testing.assert_allclose(project(point, small)[0], pixel * 0.4)
    np.testing.assert_allclose(project(point, crop_intrinsics(K, 10, 4))[0], pixel - (10, 4))


@pytest.mark.parametrize("value, told", [
    (np.full((3, 3), np.nan), "not finite"),
    (np.diag([-5.0, 5.0, 1.0]), "fx = -5"),
    (np.diag([5.0, 0.0, 1.0]), "fy = 0"),
    (np.eye(4), r"\(4, 4\)"),
    (np.diag([5.0, 5.0, 2.0]), r"\[0.0, 0.0, 2.0\]"),
])
def test_bad_intrinsics_are_named(value, told):
    with pytest.raises(InputError, match=told):
        check_intrinsics(value)
