"""Drives of a wheeled robot, and what its wheels say."""
from __future__ import annotations

import numpy as np
import pytest

from lsm_ros.errors import InputError
from lsm_ros.geometry.sim3 import inverse, rotation_angle
from lsm_ros.world.drives import (
    RATE_HZ,
    SPEED_MPS,
    TURN_RADPS,
    Mount,
    load_drive,
    render_drive,
    save_drive,
    way_of_wheels,
    wheel_odometry,
)
from lsm_ros.world.rooms import make_scene
from lsm_ros.world.space import Space

MOUNT = Mount(.5, -.2)


@pytest.fixture(scope="module")
def way() -> np.ndarray:
    return way_of_wheels(make_scene(5, "apartment"), np.random.default_rng(5), 25.0, MOUNT)


def test_a_mount_says_where_the_camera_is():
    T = MOUNT.T_base_cam
    assert T[:3, 3] == pytest.approx([0, 0, .5])
    assert T[:3, 2] == pytest.approx([np.cos(.2), 0, -np.sin(.2)])      # ahead and down
    assert T[:3, 0] == pytest.approx([0, -1, 0])                        # the image's right is the robot's right


def test_a_robot_drives_forward_level_and_at_its_pace(way):
    T_world_base = way @ inverse(MOUNT.T_base_cam)
    assert T_world_base[:, 2, 3] == pytest.approx(0, abs=1e-9) and T_world_base[:, 2, 2] == pytest.approx(1)
    steps = inverse(T_world_base[:-1]) @ T_world_base[1:]
    assert steps[:, 0, 3].min() > -1e-6                                 # never backwards
    assert np.linalg.norm(steps[:, :2, 3], axis=1).max() <= SPEED_MPS / RATE_HZ + 1e-9
    assert rotation_angle(way[:-1, :3, :3], way[1:, :3, :3]).max() <= TURN_RADPS / RATE_HZ + 1e-6
    assert np.linalg.norm(steps[:, :2, 3], axis=1).sum() == pytest.approx(25.0, abs=.5)
    assert abs(steps[:, 1, 3]).max() < .7 * SPEED_MPS / RATE_HZ         # bends, but no sideways slide


def test_a_drive_keeps_clear_and_comes_back(way):
    space = Space(make_scene(5, "apartment"))
    assert space.clearance(way[:, :3, 3]).min() > .1
    late, early = way[len(way) // 2:, :2, 3], way[:len(way) // 4, :2, 3]
    assert np.linalg.norm(late[:, None] - early, axis=2).min() < .3


@pytest.mark.parametrize("height_m", [.07, .12, .2])
def test_a_small_robot_keeps_its_camera_out_of_things(height_m):
    scene = make_scene(5, "apartment")
    way = way_of_wheels(scene, np.random.default_rng(5), 15.0, Mount(height_m, .2))
    position, space = way[:, :3, 3], Space(scene)
    assert space.clearance(position).min() > .5 * height_m              # the floor is as near as its height
    assert space.clearance(position + (0, 0, .5 - height_m)).min() > .1       # nor does it drive through walls


def test_wheels_drift_as_they_are_said_to(way):
    T_odom_cam = wheel_odometry(way, MOUNT, 3)
    assert T_odom_cam[0] == pytest.approx(MOUNT.T_base_cam)
    assert T_odom_cam[:, 2, 3] == pytest.approx(.5) and T_odom_cam[:, 2] == pytest.approx(way[:, 2])    # upright
    told, true = (np.linalg.norm(np.diff((T @ inverse(MOUNT.T_base_cam))[:, :2, 3], axis=0), axis=1).sum()
                  for T in (T_odom_cam, way))
    assert .015 < abs(told / true - 1) < .035
    assert wheel_odometry(way, MOUNT, 3) == pytest.approx(T_odom_cam)
    assert abs(wheel_odometry(way, MOUNT, 4) - T_odom_cam).max() > .01


def test_a_drive_is_kept_in_a_file(tmp_path):
    drive = render_drive(5, "apartment", .5, MOUNT, size=(64, 48))
    views = len(drive.images)
    assert drive.images.shape == (views, 48, 64, 3) and drive.depth.shape == drive.labels.shape == (views, 24, 32)
    save_drive(tmp_path / "new" / "drive.npz", drive)
    again = load_drive(tmp_path / "new" / "drive.npz")
    for name in ("K", "T_world_cam", "K_truth", "depth", "labels", "instances"):
        assert np.array_equal(getattr(again, name), getattr(drive, name)), name
    assert abs(again.images.astype(int) - drive.images).mean() < 4           # JPEG
    assert list(tmp_path.glob("new/*")) == [tmp_path / "new" / "drive.npz"]
    (tmp_path / "none.npz").write_bytes(b"no drive")
    with pytest.raises(InputError, match="none.npz"):
        load_drive(tmp_path / "none.npz")


def test_the_grid_of_the_truth_lies_on_the_picture():
    fine, coarse = (render_drive(5, "apartment", .3, MOUNT, size=size) for size in ((128, 96), (64, 48)))
    # Ray of grid pixel (3, 5), from its own K, against that of the picture's pixel (6, 10) of the full size.
    ray = np.linalg.inv(fine.K_truth) @ (3.5, 5.5, 1)
    assert ray == pytest.approx(np.linalg.inv(fine.K) @ (6.5, 10.5, 1))
    assert coarse.K_truth[0, 0] == pytest.approx(fine.K_truth[0, 0] / 2)
