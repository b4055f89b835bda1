from dataclasses import replace

import numpy as np
import pytest

from lsm_ros.contracts import Cloud, Frame
from lsm_ros.data.frames import SequenceFrame
from lsm_ros.data.outputs import write_trajectory
from lsm_ros.errors import AlignmentError, InputError
from lsm_ros.evaluation.run import read_trajectory, score_run
from lsm_ros.geometry.camera import unproject
from lsm_ros.geometry.sim3 import exp_so3, sim3
from lsm_ros.labels import LabelSet

K = np.array([[60.0, 0, 32], [0, 60, 24], [0, 0, 1]])
STAMPS = [10**18 + 123456789 * i for i in range(6)]


@pytest.fixture
def truth() -> list[SequenceFrame]:
    rng = np.random.default_rng(0)
    image = np.zeros((48, 64, 3), np.uint8)
    return [SequenceFrame(Frame(stamp_ns, image, K), rng.uniform(1, 4, (24, 32)).astype(np.float32),
                          sim3(exp_so3(rng.normal(size=3)), rng.normal(size=3)),
                          rng.integers(0, 5, (24, 32)).astype(np.uint16)) for stamp_ns in STAMPS]


def cloud_of(frame: SequenceFrame, scale: float = 1.0) -> Cloud:
    half = K.copy()
    half[:2] /= 2
    points = unproject(frame.depth, half).reshape(-1, 3) * np.float32(scale)
    return Cloud(points, np.zeros((len(points), 3), np.uint8), frame.labels.ravel(),
                 np.full(len(points), 255, np.uint8))


def test_a_run_that_is_right_but_for_frame_and_scale(truth):
    S_map_true = sim3(exp_so3(np.array([0.3, 0.2, 1.0])), np.array([5.0, -2, 1]), 1.25)
    trajectory = []
    for frame in truth[:5]:
        T = S_map_true @ frame.T_world_cam
        T[:3, :3] /= 1.25
        trajectory.append((frame.frame.stamp_ns, T))
    score = score_run(trajectory, {STAMPS[2]: cloud_of(truth[2], 1.25)}, truth, LabelSet.load())
    positions = np.array([frame.T_world_cam[:3, 3] for frame in truth[:5]])
    spread = np.sqrt(np.square(positions - positions.mean(0)).sum(1).mean())
    assert score.keyframes == 5 and score.frames == 1 and score.points == 24 * 32
    assert score.ate_sim3_m < 1e-9 and score.rotation_deg_median < 1e-6
    assert score.ate_se3_m == pytest.approx(0.25 * spread, rel=1e-6)
    assert score.scale == pytest.approx(1.25)
    assert score.absrel == pytest.approx(0, abs=1e-6) and score.absrel_metric == pytest.approx(0.25, abs=1e-6)
    assert score.label_accuracy == score.miou == 1


def test_wrong_labels_and_points_outside_of_the_image(truth):
    cloud = cloud_of(truth[1])
    labels = cloud.labels.copy()
    labels[labels == 4] = 3
    outside = np.array([[9.0, 0, 1], [0, 0, -2]], np.float32)
    cloud = replace(cloud, points=np.concatenate([cloud.points, outside]), labels=np.append(labels, [0, 0]))
    trajectory = [(frame.frame.stamp_ns, frame.T_world_cam) for frame in truth]
    score = score_run(trajectory, {STAMPS[1]: cloud}, truth, LabelSet.load())
    assert score.points == 24 * 32 and score.absrel == pytest.approx(0, abs=1e-6)
    counts = np.bincount(truth[1].labels.ravel())
    assert score.label_accuracy == pytest.approx(1 - counts[4] / counts.sum())
    assert score.miou == pytest.approx((3 + counts[3] / (counts[3] + counts[4]) + 0) / 5)


def test_a_recording_without_depth_and_labels(truth):
    bare = [SequenceFrame(frame.frame, None, frame.T_world_cam) for frame in truth]
    trajectory = [(frame.frame.stamp_ns, frame.T_world_cam) for frame in truth]
    score = score_run(trajectory, {STAMPS[0]: cloud_of(truth[0])}, bare, LabelSet.load())
    assert score.ate_sim3_m < 1e-9 and score.absrel is None and score.miou is None


def test_a_run_of_another_recording(truth):
    with pytest.raises(AlignmentError, match="0 points"):
        score_run([(1, np.eye(4))], {}, truth, LabelSet.load())


def test_trajectory_comes_back_with_its_stamps(tmp_path, truth):
    trajectory = [(frame.frame.stamp_ns, frame.T_world_cam) for frame in truth]
    write_trajectory(tmp_path / "trajectory.txt", trajectory)
    for (stamp_ns, T), (read_ns, T_read) in zip(trajectory, read_trajectory(tmp_path / "trajectory.txt"), strict=True):
        assert stamp_ns == read_ns
        np.testing.assert_allclose(T, T_read, atol=3e-6)


def test_stamps_before_0_are_read_as_others_read_them(tmp_path):
    """Of who counts from a moment of his own."""
    write_trajectory(tmp_path / "trajectory.txt", [(-500_000_000, np.eye(4)), (-1, np.eye(4))])
    assert np.loadtxt(tmp_path / "trajectory.txt")[:, 0].tolist() == [-0.5, -1e-9]
    assert [stamp_ns for stamp_ns, _ in read_trajectory(tmp_path / "trajectory.txt")] == [-500_000_000, -1]


@pytest.mark.parametrize("line", ["1.5 0 0 0 0 0 1", "now 0 0 0 0 0 0 1", "1.5 0 0 0 0 0 0 0", "1.5 nan 0 0 0 0 0 1"])
def test_damaged_trajectory(tmp_path, line):
    (tmp_path / "trajectory.txt").write_text(line + "\n")
    with pytest.raises(InputError, match="trajectory.txt"):
        read_trajectory(tmp_path / "trajectory.txt")
