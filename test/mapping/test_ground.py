from dataclasses import replace

import numpy as np
import pytest
from room import DENSE, SEMANTIC, SIZE, K, camera, cast

from lsm_ros.config import MapperConfig
from lsm_ros.contracts import Frame, Keyframe
from lsm_ros.geometry.camera import scale_intrinsics
from lsm_ros.geometry.sim3 import exp_so3, inverse, rotation_angle, sim3, upright
from lsm_ros.labels import LabelSet
from lsm_ros.mapping.graph import PoseGraph
from lsm_ros.mapping.ground import MOST_VIEWS, correct_heights, find_stance, find_up, stand_upright
from lsm_ros.mapping.scale import MetricEstimator
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
    on_its_side = find_up([replace(seen, semantics=chairs)], [np.eye(3)], LABELS, np.array([1.0, 0, 0]))
    np.testing.assert_allclose(on_its_side, (1, 0, 0), atol=1e-9)


def test_a_large_map_is_put_upright_on_its_floor_by_some_of_its_views():
    class Views(dict):
        def __getitem__(self, keyframe_id):
            asked.add(keyframe_id)
            return super().__getitem__(keyframe_id)

    poses = [camera(0.5 * np.cos(n), 0.5 * np.sin(n), 1.4, 0.4 * n, 0.3, 0.1) for n in range(8)]
    seen, asked, graph = [view(T) for T in poses], set(), PoseGraph()
    for n in range(300):
        graph.add(n, inverse(poses[0]) @ poses[n % 8])
    stand_upright(graph, Views({n: seen[n % 8] for n in range(300)}), LABELS)
    assert graph.grounded and len(asked) <= MOST_VIEWS
    assert np.degrees(np.arccos(graph.pose(299)[2, :3] @ poses[299 % 8][2, :3])) < 1.0
    assert abs(graph.pose(299)[2, 3] - 1.4) < 0.05


@pytest.mark.parametrize("tilt_deg", [5, 8, 8.2, 12, 25, 27])
def test_a_camera_that_looks_down_keeps_its_heading(tilt_deg):
    """At 8.1 degrees aside another side of it tells where ahead is; an IMU's noise must not turn the map by that."""
    tilt = np.radians(tilt_deg)
    looked, measured = (upright(np.array([np.sin(t), 0, -np.cos(t)])) for t in (tilt, tilt + 0.005))
    graph, seen = PoseGraph(), view(camera(0, 0, 1.4, 0.0, 0.3))
    graph.add(0, sim3(looked, np.zeros(3)))
    frame = replace(seen.keyframe.frame, up_cam=measured[2])
    stand_upright(graph, {0: replace(seen, keyframe=replace(seen.keyframe, frame=frame))}, LABELS)
    np.testing.assert_allclose(graph.pose(0)[2, :3], measured[2], atol=1e-9)
    assert np.degrees(rotation_angle(graph.pose(0)[:3, :3], looked)) < 2.0


def test_another_height_counts_for_all_cameras_whose_frames_do_not_know_theirs():
    poses = [camera(0.1 * n, 0, 1.3, 0.2 * n, 0.4) for n in range(3)]
    seen = {n: view(pose) for n, pose in enumerate(poses)}
    seen[2] = replace(seen[2], keyframe=replace(seen[2].keyframe, frame=replace(seen[2].keyframe.frame, height_m=1.3)))
    graph = PoseGraph()
    for n, pose in enumerate(poses):
        graph.add(n, pose, find_stance(seen[n], pose, LABELS, 0.65))
    assert [graph.stance(n).height_m for n in range(3)] == [0.65, 0.65, 1.3]
    assert correct_heights(graph, seen, 0.65, 1.2)
    assert [graph.stance(n).height_m for n in range(3)] == [1.2, 1.2, 1.3]
    assert all(graph.stance(n).height == pytest.approx(1.3, rel=0.05) for n in range(3))
    assert not correct_heights(graph, seen, 1.2, 1.2)
    assert not correct_heights(graph, seen, 0.2, 0.3), "what was told of another robot's stays"


@pytest.mark.parametrize("height_m, pitch, off_deg, least, most", [
    (0.1, 0.0, 1.0, 0.045, 0.06), (0.15, -0.2, 1.0, 0.055, 0.12), (0.2, -0.1, -1.0, 0.045, 0.1),
    (1.0, 0.25, 0.0, 0.03, 0.041), (1.3, 0.3, 0.0, 0.03, 0.04)])
def test_the_metre_by_a_camera_s_height_is_no_surer_than_its_mount_s_pitch(height_m, pitch, off_deg, least, most):
    """TF's pitch is off in all images alike, so many of them help nothing; what it costs goes by how flat the floor is
    looked at. A camera at 1 m that looks down is hardly less sure than where nobody tells up."""
    estimator, blind = MetricEstimator(), MetricEstimator()
    for n in range(40):
        T = camera(-1.8 + 0.01 * n, 0.3, height_m, 0.3, pitch)
        seen = view(T)
        told = exp_so3(np.array([np.radians(off_deg), 0, 0])) @ T[2, :3]
        frame = replace(seen.keyframe.frame, up_cam=told, height_m=height_m)
        estimator.hear_of_height(find_stance(replace(seen, keyframe=replace(seen.keyframe, frame=frame)), T, LABELS))
        blind.hear_of_height(find_stance(seen, T, LABELS, height_m))
    metric = estimator.estimate(MapperConfig())
    assert metric.source == "height" and least < metric.sigma < most
    assert abs(np.log(metric.scale)) < 1.5 * metric.sigma
    assert blind.estimate(MapperConfig()).sigma < 0.032


@pytest.mark.parametrize("height_m, pitch", [(0.07, 0.0), (0.07, -0.35), (0.12, -0.3), (0.24, -0.35), (0.4, -0.2)])
def test_a_small_robot_s_camera_that_looks_up_knows_how_high_it_stands(height_m, pitch):
    """The floor that it sees is far, and ends at the foot of a wall: normals there lean."""
    T = camera(-1.8, 0.3, height_m, 0.3, pitch)
    stance = find_stance(view(T), T, LABELS)
    assert np.degrees(np.arccos(stance.up_cam @ T[2, :3])) < 0.5
    assert abs(stance.height / height_m - 1) < 0.05
