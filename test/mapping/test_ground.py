from dataclasses import replace

import numpy as np
import pytest
from room import DENSE, SEMANTIC, SIZE, K, camera, cast

from lsm_ros.contracts import Frame, Keyframe
from lsm_ros.geometry.camera import scale_intrinsics
from lsm_ros.labels import LabelSet
from lsm_ros.mapping.ground import find_up
from lsm_ros.mapping.views import View, in_bytes

LABELS = LabelSet.load()


def view(T_room_cam, wrong=0.0):
    depth, _, _ = cast(T_room_cam, DENSE)
    names = cast(T_room_cam, SEMANTIC)[1]
    rng = np.random.default_rng(0)
    classes = np.array([[LABELS.index(name) for name in row] for row in names])
    mixed = rng.permutation(classes.ravel()).reshape(classes.shape)
    classes = np.where(rng.random(classes.shape) < wrong, mixed, classes)
    return View(Keyframe(0, Frame(0, np.zeros((12, 16, 3), np.uint8))), depth, np.ones_like(depth),
                scale_intrinsics(K, SIZE, DENSE), in_bytes(LABELS.embeddings[classes]),
                np.zeros((*depth.shape, 3), np.uint8), LABELS)


@pytest.mark.parametrize("wrong", [0.0, 0.2])
@pytest.mark.parametrize("pitch, roll", [(0.0, 0.0), (0.5, 0.0), (-0.2, 0.2), (0.3, -0.3)])
def test_up_is_found_for_a_tipped_camera(pitch, roll, wrong):
    T = camera(-1, 0.3, 1.4, 0.5, pitch, roll)
    up = find_up([view(T, wrong)], [np.eye(3)], LABELS)
    assert np.degrees(np.arccos(up @ T[2, :3])) < 2.0


def test_several_cameras():
    poses = [camera(0, 0, 1.4, 0.4 * n, 0.3, 0.1) for n in range(4)]
    R_first_cam = [poses[0][:3, :3].T @ T[:3, :3] for T in poses]
    up = find_up([view(T) for T in poses], R_first_cam, LABELS)
    assert np.degrees(np.arccos(up @ poses[0][2, :3])) < 1.0


def test_without_floors_and_walls_the_camera_counts_as_level():
    seen = view(camera(0, 0, 1.4, 0.4, 0.3, 0.1))
    chairs = np.tile(in_bytes(LABELS.embeddings[LABELS.index("chair")]), (24, 32, 1))
    up = find_up([replace(seen, semantics=chairs)], [np.eye(3)], LABELS)
    np.testing.assert_allclose(up, (0, -1, 0), atol=1e-9)
