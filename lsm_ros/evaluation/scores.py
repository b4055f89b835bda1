"""What a set of windows comes to: errors of each window, and the line of the scoreboard that they add up to."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lsm_ros.contracts import MOVING, WindowPrediction
from lsm_ros.evaluation import metrics
from lsm_ros.evaluation.calibration import Halves, confidence_halves, overlap_calibration
from lsm_ros.evaluation.datasets import TruthWindow, in_labels
from lsm_ros.evaluation.distances import BASELINE_BINS, OVERLAP_BINS, Distances, by_distance, distances
from lsm_ros.evaluation.metrics import Confusion, DepthErrors, PoseErrors
from lsm_ros.evaluation.report import Line
from lsm_ros.geometry.camera import scale_intrinsics
from lsm_ros.labels import LabelSet


@dataclass(frozen=True)
class WindowScore:
    """How far one prediction is from the truth."""
    first: PoseErrors              # of the other views against the first
    pairs: PoseErrors              # of all pairs of views, translation without sign: the literature's definition
    depth: DepthErrors | None      # None where the truth holds no depth
    halves: Halves | None          # the same
    focal_error: float             # |predicted / true - 1|, mean over the views
    confusion: Confusion | None    # None where the truth holds no labels
    distances: Distances
    overlap: np.ndarray | None     # (S, S) as predicted, None where the network doesn't tell
    moving: np.ndarray | None = None    # (3,) pixels that move and are told, that move and aren't, that don't and are


def score_window(prediction: WindowPrediction, truth: TruthWindow, labels: LabelSet) -> WindowScore:
    height, width = prediction.depth.shape[1:]
    focal = prediction.K[:, 0, 0] / width
    image_size = truth.window.keyframes[0].frame.image.shape[1::-1]
    focal_true = truth.K[:, 0, 0] / image_size[0]
    K_depth = scale_intrinsics(truth.K, image_size, truth.depth.shape[:0:-1])
    confusion = None
    if truth.labels is not None:
        classes = classify(prediction, labels)
        confusion = Confusion(len(labels))
        confusion.add(classes, metrics.at_grid(in_labels(truth.labels, labels), *classes.shape[1:]))
    depth_true = metrics.at_grid(truth.depth, height, width)
    return WindowScore(
        first=metrics.pose_errors(metrics.from_first(prediction.T_window_cam), metrics.from_first(truth.T_world_cam)),
        pairs=metrics.pose_errors(metrics.of_pairs(prediction.T_window_cam), metrics.of_pairs(truth.T_world_cam),
                                  signed=False),
        depth=metrics.depth_errors(prediction.depth, depth_true),
        halves=confidence_halves(prediction.depth, prediction.confidence, depth_true),
        focal_error=float(np.abs(focal / focal_true - 1).mean()), confusion=confusion,
        distances=distances(truth.depth, K_depth, truth.T_world_cam), overlap=prediction.overlap,
        moving=moving_pixels(prediction, truth))


def moving_pixels(prediction: WindowPrediction, truth: TruthWindow) -> np.ndarray | None:
    """WindowScore.moving; None where the truth or the prediction does not tell."""
    if truth.moving is None or prediction.moving is None or len(truth.K) < 2:
        return None
    told = prediction.moving > MOVING
    true = metrics.at_grid(truth.moving, *told.shape[1:])
    return np.array([(told & true).sum(), (~told & true).sum(), (told & ~true).sum()])


def classify(prediction: WindowPrediction, labels: LabelSet) -> np.ndarray:
    """(S, hs, ws) the likeliest class of each pixel."""
    return labels.log_probabilities(prediction.semantics).argmax(-1)


def pose_summary(first: Sequence[PoseErrors], pairs: Sequence[PoseErrors]) -> Line:
    """Medians and areas under the curve over the pose errors of all windows of a set."""
    all_first, all_pairs = joined(first), joined(pairs)
    if not len(all_first.rotation):              # windows of one view
        return {}
    translation = all_first.translation[np.isfinite(all_first.translation)]      # the others' truth has no direction
    return {"rotation_deg_median": float(np.median(all_first.rotation)),
            **({"translation_deg_median": float(np.median(translation))} if len(translation) else {}),
            **{f"auc{k}": metrics.auc(all_first.worse, k) for k in (5, 15, 30)},
            **{f"auc{k}_pairs": metrics.auc(all_pairs.worse, k) for k in (5, 15, 30)}}


def joined(errors: Sequence[PoseErrors]) -> PoseErrors:
    return PoseErrors(*(np.concatenate([getattr(part, name) for part in errors])
                        for name in ("rotation", "translation")))


def summarise(scores: Sequence[WindowScore], labels: LabelSet) -> Line:
    """A line of the scoreboard; a figure that the set cannot give is left out."""
    line: Line = {"windows": len(scores)}
    line |= pose_summary([score.first for score in scores], [score.pairs for score in scores])
    depths = [score.depth for score in scores if score.depth is not None]
    if depths:
        for name in ("absrel", "delta125", "absrel_metric", "delta125_metric"):
            line[name] = float(np.mean([getattr(depth, name) for depth in depths]))
        line["scale_err_median"] = float(np.median([abs(depth.scale - 1) for depth in depths]))
    line["focal_err_median"] = float(np.median([score.focal_error for score in scores]))
    line |= calibration(scores)
    confusions = [score.confusion for score in scores if score.confusion is not None]
    if confusions:
        total = Confusion(len(labels))
        total.counts = np.sum([confusion.counts for confusion in confusions], axis=0)
        figures = {"miou": total.miou, "accuracy": total.accuracy}
        figures |= {f"miou_{name}": total.grouped(group).miou
                    for name, group in labels.groups.items() if (group >= 0).any()}
        line |= {name: figure for name, figure in figures.items() if np.isfinite(figure)}     # else nothing is shown
    moving = [score.moving for score in scores if score.moving is not None]
    if moving:
        both, missed, false = np.sum(moving, axis=0)
        line |= {"moving_iou": float(both / max(both + missed + false, 1)),
                 "moving_recall": float(both / max(both + missed, 1))}
    return line


def calibration(scores: Sequence[WindowScore]) -> Line:
    """`confidence_ratio`: depth error of the most confident half over that of the rest. And figures of the overlap."""
    line: Line = {}
    halves = [score.halves for score in scores if score.halves is not None]
    unsure = sum(half.unsure for half in halves)
    if unsure > 0:
        line["confidence_ratio"] = sum(half.sure for half in halves) / unsure
    told = [(score.overlap[others], score.distances.overlap[others]) for score in scores if score.overlap is not None
            for others in [~np.eye(len(score.overlap), dtype=bool)]]
    if told:
        predicted, truth = (np.concatenate(part) for part in zip(*told, strict=True))
        known = np.isfinite(truth)
        if known.any():
            line |= overlap_calibration(predicted[known], truth[known])
    return line


def distance_rows(scores: Sequence[WindowScore], alone: Sequence[WindowScore] | None) -> Line:
    """`by_overlap` and `by_baseline`: the pose errors of the other views against the first, by their distance from it.

    `alone` are the scores of the network alone where `scores` are of refined poses. Empty for windows of one view.
    """
    errors = joined([score.first for score in scores])
    if not len(errors.rotation):
        return {}
    errors_alone = joined([score.first for score in alone]) if alone else None
    overlap = np.concatenate([score.distances.overlap[0, 1:] for score in scores])
    baseline = np.concatenate([score.distances.baseline for score in scores])
    return {"by_overlap": by_distance(overlap, OVERLAP_BINS, errors, errors_alone),
            "by_baseline": by_distance(baseline, BASELINE_BINS, errors, errors_alone)}
