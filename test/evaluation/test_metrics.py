import numpy as np
import pytest

from lsm_ros.errors import InputError
from lsm_ros.evaluation.metrics import (
    ClassBox,
    Confusion,
    PoseErrors,
    accepted_labels,
    at_grid,
    auc,
    box_score,
    box_shares,
    depth_errors,
    from_first,
    of_pairs,
    pose_errors,
)
from lsm_ros.geometry.sim3 import exp_so3, sim3
from lsm_ros.labels import LabelSet


def pose(rotation_deg=(0, 0, 0), translation=(0, 0, 0)) -> np.ndarray:
    return sim3(exp_so3(np.deg2rad(np.array(rotation_deg, float))), np.array(translation, float))


def random_poses(count: int) -> np.ndarray:
    rng = np.random.default_rng(count)
    return sim3(exp_so3(rng.normal(size=(count, 3))), rng.normal(size=(count, 3)))


def test_relative_poses():
    T_world_cam = random_poses(4)
    T_first = from_first(T_world_cam)
    np.testing.assert_allclose(T_world_cam[0] @ T_first[2], T_world_cam[3], atol=1e-12)
    T_pairs = of_pairs(T_world_cam)
    assert len(T_pairs) == 6
    np.testing.assert_allclose(T_pairs[:3], T_first, atol=1e-12)           # pairs with the first view come first
    np.testing.assert_allclose(T_world_cam[2] @ T_pairs[5], T_world_cam[3], atol=1e-12)


def test_pose_errors_of_known_angles():
    truth = np.stack([pose((0, 0, 0), (1, 0, 0))] * 3)
    estimate = np.stack([pose((0, 10, 0), (5, 0, 0)), pose((0, 0, 3), (1, 1, 0)), pose((0, 0, 0), (-2, 0, 0))])
    errors = pose_errors(estimate, truth)
    np.testing.assert_allclose(errors.rotation, (10, 3, 0), atol=1e-6)
    np.testing.assert_allclose(errors.translation, (0, 45, 180), atol=1e-6)
    np.testing.assert_allclose(errors.worse, (10, 45, 180), atol=1e-6)
    np.testing.assert_allclose(pose_errors(estimate, truth, signed=False).translation, (0, 45, 0), atol=1e-6)


def test_pose_errors_do_not_depend_on_world_or_scale():
    T_a, T_b = random_poses(5), random_poses(6)[1:]
    moved = pose((20, 30, 40), (3, 2, 1)) @ T_a
    moved_scaled = moved.copy()
    moved_scaled[:, :3, 3] *= 7
    before = pose_errors(from_first(T_a), from_first(T_b))
    after = pose_errors(from_first(moved_scaled), from_first(T_b))
    np.testing.assert_allclose(before.rotation, after.rotation, atol=1e-6)
    np.testing.assert_allclose(before.translation, after.translation, atol=1e-6)


def test_a_pose_that_was_not_found_is_wrong_and_a_turn_on_the_spot_has_no_direction():
    truth = np.stack([pose((0, 0, 0), (1, 0, 0)), pose((0, 30, 0), (0.001, 0, 0))])
    errors = pose_errors(np.stack([np.full((4, 4), np.nan), pose((0, 31, 0), (-1, 0, 0))]), truth)
    assert errors.rotation[0] == errors.translation[0] == 180
    assert np.isnan(errors.translation[1])
    np.testing.assert_allclose(errors.worse, (180, 1), atol=1e-6)


def test_a_camera_said_to_stand_still_gets_no_credit_for_its_direction():
    assert pose_errors(np.eye(4)[None], pose((0, 0, 0), (1, 0, 0))[None]).translation[0] == 180


def auc_by_histogram(errors: np.ndarray, threshold: int) -> float:
    """As the literature writes it: the mean of the cumulative histogram in bins of a degree."""
    histogram, _ = np.histogram(errors, bins=np.arange(threshold + 1))
    return float(np.mean(np.cumsum(histogram / len(errors))))


def test_auc():
    assert auc(np.array([0.0]), 30) == 1
    assert auc(np.array([30.0, 180.0]), 30) == 0
    assert auc(np.array([14.5]), 30) == pytest.approx(16 / 30)      # right for k = 15 .. 30
    errors = np.random.default_rng(0).uniform(0, 50, 1000)
    for threshold in (5, 15, 30):
        assert auc(errors, threshold) == pytest.approx(auc_by_histogram(errors, threshold))
        assert auc(errors, threshold) == pytest.approx(np.mean([(errors < k).mean() for k in range(1, threshold + 1)]))


def test_depth_errors_with_and_without_scale():
    truth = np.full((2, 4, 5), 2.0, np.float32)
    truth[0, 0] = np.nan
    exact = depth_errors(np.full_like(truth, 4.0), truth)
    assert exact.absrel == exact.delta125_metric == 0 and exact.delta125 == 1
    assert exact.absrel_metric == 1 and exact.scale == 2
    depth = np.full((2, 4, 5), 2.0)
    depth[1, 3] = 3.0                              # 5 of 35 known pixels are half too far
    errors = depth_errors(depth, truth)
    assert errors.scale == 1
    assert errors.absrel == pytest.approx(0.5 * 5 / 35)
    assert errors.delta125 == pytest.approx(30 / 35)


def test_depth_without_truth():
    assert depth_errors(np.ones((2, 2)), np.full((2, 2), np.nan)) is None


def test_at_grid_takes_the_pixel_under_the_centre():
    plane = np.arange(48).reshape(6, 8)
    np.testing.assert_array_equal(at_grid(plane, 3, 4), plane[1::2, 1::2])
    np.testing.assert_array_equal(at_grid(plane, 6, 8), plane)
    np.testing.assert_array_equal(at_grid(plane[None, :4], 1, 2), plane[None, 2:3, 2::4])


def test_confusion():
    confusion = Confusion(3)
    confusion.add(np.array([0, 0, 1, 1]), np.array([0, 0, 0, 1]))
    confusion.add(np.array([[2]]), np.array([[255]]))                 # nobody knows
    np.testing.assert_array_equal(confusion.counts, [[2, 1, 0], [0, 1, 0], [0, 0, 0]])
    np.testing.assert_allclose(confusion.iou, [2 / 3, 1 / 2, np.nan])
    assert confusion.miou == pytest.approx(7 / 12)
    assert confusion.accuracy == 3 / 4
    assert np.isnan(Confusion(3).miou) and np.isnan(Confusion(3).accuracy)


def test_grouped_confusion_counts_an_answer_without_counterpart_as_wrong():
    confusion = Confusion(4)
    confusion.add(np.array([0, 1, 2, 3, 0]), np.array([0, 0, 2, 0, 3]))
    merged = confusion.grouped(np.array([0, 0, 1, -1]))               # 0 and 1 are one class, 3 is none
    np.testing.assert_array_equal(merged.counts, [[2, 0, 1], [0, 1, 0], [0, 0, 0]])
    np.testing.assert_allclose(merged.iou[:2], (2 / 3, 1))


@pytest.fixture(scope="module")
def labels() -> LabelSet:
    return LabelSet.load()


def test_box_shares_and_score(labels):
    image = np.full((48, 64), labels.index("wall"))
    image[:, 32:] = labels.index("desk")
    image[24:, 32:] = labels.index("chair")
    boxes = [ClassBox("wall", (0.0, 0.0, 0.5, 1.0)), ClassBox("table", (0.5, 0.0, 1.0, 1.0)),
             ClassBox("table", (0.5, 0.0, 1.0, 0.5)), ClassBox("ottoman", (0.99, 0.99, 1.0, 1.0))]
    shares = box_shares(image, boxes, labels)
    np.testing.assert_allclose(shares, (1, 0.5, 1, 1))               # a desk is a right table, a chair a right ottoman
    score = box_score([box.name for box in boxes], shares)
    assert score.score == pytest.approx(3.5 / 4)
    assert score.class_score == pytest.approx((1 + 0.75 + 1) / 3)
    assert score.by_class == {"ottoman": 1.0, "table": 0.75, "wall": 1.0}


def test_accepted_labels(labels):
    assert accepted_labels("tv", labels) == labels.index("television")
    assert accepted_labels("poster", labels) == labels.index("picture")
    assert accepted_labels("monitor", labels).tolist() == [labels.index("monitor"), labels.index("television")]
    assert not len(accepted_labels("dragon", labels))


def test_every_rectangle_counts(labels):
    """One thinner than any cell, one in a corner, and one of a class that nobody can say."""
    image = np.full((48, 64), labels.index("wall"))
    boxes = [ClassBox("wall", (0.5, 0.5, 0.5005, 0.9)), ClassBox("wall", (0.9999, 0.9999, 1.0, 1.0)),
             ClassBox("dragon", (0.0, 0.0, 1.0, 1.0))]
    assert box_shares(image, boxes, labels) == [1, 1, 0]
    assert box_shares(image, boxes, labels, np.arange(len(labels))) == [1, 1, 0]


def test_impossible_rectangle(labels):
    with pytest.raises(InputError, match="1.2"):
        box_shares(np.zeros((4, 4), int), [ClassBox("wall", (0.5, 0, 1.2, 1))], labels)


def test_worse_of_the_two_angles_ignores_a_missing_direction():
    np.testing.assert_array_equal(PoseErrors(np.array([1.0, 5.0]), np.array([np.nan, 2.0])).worse, [1, 5])
