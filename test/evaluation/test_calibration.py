import numpy as np
import pytest

from lsm_ros.evaluation.calibration import auroc, calibration_error, confidence_halves, overlap_calibration


def test_halves_by_confidence():
    truth = np.full((1, 2, 4), 2.0, np.float32)
    truth[0, 0, 0] = np.nan
    depth = np.array([[[9, 2, 2, 2], [2, 2.2, 1.8, 2.4]]], np.float32)
    sure = np.where(np.abs(depth - 2) < 0.1, 0.9, 0.1)
    halves = confidence_halves(depth, sure, truth)                   # 7 are known: 3 are sure, 4 are the rest
    assert halves.sure == pytest.approx(0, abs=1e-6) and halves.unsure == pytest.approx((0.1 + 0.1 + 0.2) / 4)
    wrong = confidence_halves(depth, -sure, truth)
    assert wrong.sure == pytest.approx(0.4 / 3) and wrong.unsure == pytest.approx(0, abs=1e-6)
    assert confidence_halves(depth, sure, np.full_like(truth, np.nan)) is None


def test_auroc():
    positive = np.array([True, True, False, False])
    assert auroc(np.array([0.9, 0.8, 0.2, 0.1]), positive) == 1
    assert auroc(np.array([0.9, 0.1, 0.8, 0.2]), positive) == 0.5
    assert auroc(np.ones(4), positive) == 0.5                        # ties
    assert np.isnan(auroc(np.ones(2), np.ones(2, bool)))
    rng = np.random.default_rng(0)
    scores, positive = rng.integers(0, 20, 200), rng.random(200) < 0.3
    above = scores[positive][:, None] - scores[~positive]
    assert auroc(scores, positive) == pytest.approx(np.mean((above > 0) + 0.5 * (above == 0)))


def test_calibration_error():
    predicted = np.array([0.05, 0.05, 0.55, 0.55])
    assert calibration_error(predicted, np.array([0, 0.1, 1, 0.1])) == pytest.approx(0)    # right on average, by bin
    assert calibration_error(predicted, predicted + np.array([0.2, 0.2, -0.2, -0.2])) == pytest.approx(0.2)
    assert calibration_error(np.array([1.0]), np.array([0.25])) == 0.75


def test_overlap_without_both_kinds_has_no_auroc():
    assert "overlap_auroc" not in overlap_calibration(np.array([0.5, 0.6]), np.array([0.5, 0.7]))
    assert overlap_calibration(np.array([0.5, 0.0]), np.array([0.5, 0.05]))["overlap_auroc"] == 1
