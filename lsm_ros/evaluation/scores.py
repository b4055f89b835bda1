"""What a set of windows comes to: errors of each window, and the line of the scoreboard that they add up to."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lsm_ros.contracts import WindowPrediction
from lsm_ros.evaluation import metrics
from lsm_ros.evaluation.datasets import TruthWindow
from lsm_ros.evaluation.metrics import Confusion, DepthErrors, PoseErrors
from lsm_ros.labels import LabelSet


@dataclass(frozen=True)
class WindowScore:
    """How far one prediction is from the truth."""
    first: PoseErrors              # of the other views against the first
    pairs: PoseErrors              # of all pairs of views, translation without sign: the literature's definition
    depth: DepthErrors | None      # None where the truth holds no depth
    focal_error: float             # |predicted / true - 1|, mean over the views
    confusion: Confusion | None    # None where the truth holds no labels


def score_window(prediction: WindowPrediction, truth: TruthWindow, labels: LabelSet) -> WindowScore:
    height, width = prediction.depth.shape[1:]
    focal = prediction.K[:, 0, 0] / width
    focal_true = truth.K[:, 0, 0] / np.array([keyframe.frame.image.shape[1] for keyframe in truth.window.keyframes])
    confusion = None
    if truth.labels is not None:
        classes = classify(prediction, labels)
        confusion = Confusion(len(labels))
        confusion.add(classes, metrics.at_grid(truth.labels, *classes.shape[1:]))
    return WindowScore(
        first=metrics.pose_errors(metrics.from_first(prediction.T_window_cam), metrics.from_first(truth.T_world_cam)),
        pairs=metrics.pose_errors(metrics.of_pairs(prediction.T_window_cam), metrics.of_pairs(truth.T_world_cam),
                                  signed=False),
        depth=metrics.depth_errors(prediction.depth, metrics.at_grid(truth.depth, height, width)),
        focal_error=float(np.abs(focal / focal_true - 1).mean()), confusion=confusion)


def classify(prediction: WindowPrediction, labels: LabelSet) -> np.ndarray:
    """(S, hs, ws) the likeliest class of each pixel."""
    return labels.log_probabilities(prediction.semantics).argmax(-1)


def pose_summary(first: Sequence[PoseErrors], pairs: Sequence[PoseErrors]) -> dict[str, float]:
    """Medians and areas under the curve over the pose errors of all windows of a set."""
    rotation = np.concatenate([errors.rotation for errors in first])
    translation = np.concatenate([errors.translation for errors in first])
    if not len(rotation):              # windows of one view
        return {}
    worse, worse_of_pairs = (np.concatenate([errors.worse for errors in part]) for part in (first, pairs))
    translation = translation[np.isfinite(translation)]      # the others' truth has no direction
    return {"rotation_deg_median": float(np.median(rotation)),
            **({"translation_deg_median": float(np.median(translation))} if len(translation) else {}),
            **{f"auc{k}": metrics.auc(worse, k) for k in (5, 15, 30)},
            **{f"auc{k}_pairs": metrics.auc(worse_of_pairs, k) for k in (5, 15, 30)}}


def summarise(scores: Sequence[WindowScore], labels: LabelSet) -> dict[str, float]:
    """A line of the scoreboard; a figure that the set cannot give is left out."""
    line: dict[str, float] = {"windows": len(scores)}
    line |= pose_summary([score.first for score in scores], [score.pairs for score in scores])
    depths = [score.depth for score in scores if score.depth is not None]
    if depths:
        for name in ("absrel", "delta125", "absrel_metric", "delta125_metric"):
            line[name] = float(np.mean([getattr(depth, name) for depth in depths]))
        line["scale_err_median"] = float(np.median([abs(depth.scale - 1) for depth in depths]))
    line["focal_err_median"] = float(np.median([score.focal_error for score in scores]))
    confusions = [score.confusion for score in scores if score.confusion is not None]
    if confusions:
        total = Confusion(len(labels))
        total.counts = np.sum([confusion.counts for confusion in confusions], axis=0)
        line |= {"miou": total.miou, "accuracy": total.accuracy}
        line |= {f"miou_{name}": total.grouped(group).miou
                 for name, group in labels.groups.items() if (group >= 0).any()}
    return line
