"""The figures of the scoreboard, each with the definition that the literature gives it. Letters as in contracts.py.

Errors keep one entry a measurement, so that medians and curves are taken once, over all windows of a set.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lsm_ros.errors import InputError
from lsm_ros.geometry.sim3 import rotation_angle
from lsm_ros.labels import LabelSet

SHORTEST_BASELINE_M = 0.01
"""Two views closer than this have no direction of translation to be right or wrong about."""


# ---------------------------------------------------------------------------------------------------------- poses

def from_first(T_world_cam: np.ndarray) -> np.ndarray:
    """(S, 4, 4) poses -> (S - 1, 4, 4) poses of the others in the first camera's frame."""
    return np.linalg.inv(T_world_cam[0]) @ T_world_cam[1:]


def of_pairs(T_world_cam: np.ndarray) -> np.ndarray:
    """(S, 4, 4) poses -> (S (S - 1) / 2, 4, 4): T_a_b of every pair a < b."""
    a, b = np.triu_indices(len(T_world_cam), 1)
    return np.linalg.inv(T_world_cam[a]) @ T_world_cam[b]


@dataclass(frozen=True)
class PoseErrors:
    """Of P relative poses, degrees."""
    rotation: np.ndarray      # (P,) angle between the rotations
    translation: np.ndarray   # (P,) angle between the directions of translation, NaN where the truth has none

    @property
    def worse(self) -> np.ndarray:
        """(P,) the larger of the two angles."""
        return np.fmax(self.rotation, self.translation)

    def of(self, chosen: np.ndarray) -> PoseErrors:
        """Of some of the poses; `chosen` (P,) bool."""
        return PoseErrors(self.rotation[chosen], self.translation[chosen])


def pose_errors(T_a_b: np.ndarray, truth: np.ndarray, *, signed: bool = True) -> PoseErrors:
    """Errors of relative poses (P, 4, 4). A pose with NaN in it (none was found) counts as 180 degrees wrong.

    `signed=False` takes a translation and its opposite for the same, as the evaluations of PoseDiffusion (Wang et al.,
    2023) and of its successors do; it is for comparison with their tables only.
    """
    found = np.isfinite(T_a_b).all((-2, -1))
    estimate = np.where(found[:, None, None], T_a_b, np.eye(4))
    rotation = np.where(found, np.rad2deg(rotation_angle(estimate[:, :3, :3], truth[:, :3, :3])), 180.0)
    t, t_true = estimate[:, :3, 3], truth[:, :3, 3]
    sine, cosine = np.linalg.norm(np.cross(t, t_true), axis=1), np.einsum("pi,pi->p", t, t_true)
    translation = np.rad2deg(np.arctan2(sine, cosine if signed else np.abs(cosine)))
    translation = np.where(np.linalg.norm(t, axis=1) > 0, translation, 180.0 if signed else 90.0)   # no direction given
    translation = np.where(np.linalg.norm(t_true, axis=1) >= SHORTEST_BASELINE_M, translation, np.nan)
    return PoseErrors(rotation, translation)


def auc(errors: np.ndarray, threshold: int) -> float:
    """Area under the curve of accuracy over the threshold, 0..1, in bins of one degree (Wang et al., VGGT, 2025).

    The mean over k = 1..threshold of the share of errors (P,) below k degrees.
    """
    return float(np.mean(np.clip(threshold - np.floor(errors), 0, threshold)) / threshold)


# ---------------------------------------------------------------------------------------------------------- depth

@dataclass(frozen=True)
class DepthErrors:
    """Of the views of one window together (Eigen et al., 2014)."""
    absrel: float          # mean of |d - d*| / d* after the window was scaled by the median of d* / d
    delta125: float        # share of max(d / d*, d* / d) < 1.25, likewise scaled
    absrel_metric: float   # the same in metres, as predicted
    delta125_metric: float
    scale: float           # predicted over true, 1 is right


def depth_errors(depth: np.ndarray, truth: np.ndarray) -> DepthErrors | None:
    """Errors of depth (..., h, w) against the truth of the same shape, NaN where unknown; None where all of it is."""
    known = np.isfinite(truth) & (truth > 0)
    if not known.any():
        return None
    d, d_true = depth[known].astype(np.float64), truth[known].astype(np.float64)
    correction = float(np.median(d_true / d))
    ratio, ratio_metric = correction * d / d_true, d / d_true
    return DepthErrors(absrel=float(np.abs(ratio - 1).mean()),
                       delta125=float((np.maximum(ratio, 1 / ratio) < 1.25).mean()),
                       absrel_metric=float(np.abs(ratio_metric - 1).mean()),
                       delta125_metric=float((np.maximum(ratio_metric, 1 / ratio_metric) < 1.25).mean()),
                       scale=1 / correction)


def at_grid(plane: np.ndarray, height: int, width: int) -> np.ndarray:
    """(..., H, W) -> (..., height, width): the pixel under the centre of each cell; no edge is averaged over."""
    rows = ((np.arange(height) + 0.5) * plane.shape[-2] / height).astype(int)
    columns = ((np.arange(width) + 0.5) * plane.shape[-1] / width).astype(int)
    return plane[..., rows[:, None], columns]


# --------------------------------------------------------------------------------------------------------- classes

class Confusion:
    """Counts of (true class, predicted class) over any number of images."""

    def __init__(self, classes: int):
        self.counts = np.zeros((classes, classes), np.int64)

    def add(self, labels: np.ndarray, truth: np.ndarray) -> None:
        """Predicted and true indices of one shape; a pixel whose truth is no class (255, say) is left out."""
        classes = len(self.counts)
        known = truth < classes
        pairs = truth[known].astype(np.int64) * classes + labels[known]
        self.counts += np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)

    def grouped(self, group: np.ndarray) -> Confusion:
        """The same in a coarser label set: `group` (C,) gives each class its index there, -1 for none.

        Pixels whose true class has no counterpart are left out; an answer without one is wrong (the last column).
        """
        none = int(group.max()) + 1
        merged, group = Confusion(none + 1), np.where(group < 0, none, group)
        np.add.at(merged.counts, (group[:, None], group), self.counts)
        merged.counts[none] = 0
        return merged

    @property
    def iou(self) -> np.ndarray:
        """(C,) intersection over union, NaN for a class that the truth doesn't show."""
        hits, shown = self.counts.diagonal(), self.counts.sum(1)
        union = shown + self.counts.sum(0) - hits
        return np.where(shown > 0, hits / np.maximum(union, 1), np.nan)

    @property
    def miou(self) -> float:
        """Mean over the classes that the truth shows; NaN where it shows none."""
        shown = self.counts.sum(1) > 0
        return float(self.iou[shown].mean()) if shown.any() else float("nan")

    @property
    def accuracy(self) -> float:
        """Share of the pixels that have the right class."""
        total = int(self.counts.sum())
        return float(self.counts.trace() / total) if total else float("nan")


# ----------------------------------------------------------------------------------------------- rectangles of a class

SAME_WORD = {"tv": "television", "poster": "picture"}
ALSO_RIGHT = {
    "table": ("desk", "coffee table"), "monitor": ("television",), "armchair": ("chair", "sofa"),
    "ottoman": ("chair", "sofa", "armchair"), "curtain": ("blind",), "cabinet": ("drawers", "wardrobe"),
    "counter": ("table", "cabinet"),
}
"""Answers that a rectangle's class accepts beside itself, where the words of a home leave it open."""

BOX_GRID = (480, 640)   # rows, columns on which rectangles are counted, finer than any of them


@dataclass(frozen=True)
class ClassBox:
    """A rectangle of an image that lies inside one class."""
    name: str                                # of the class
    box: tuple[float, float, float, float]   # left, top, right, bottom as shares of width and height


@dataclass(frozen=True)
class BoxScore:
    score: float                     # mean over the rectangles of the share of right pixels
    class_score: float               # mean over the classes of the mean over their rectangles
    by_class: Mapping[str, float]


def accepted_labels(name: str, labels: LabelSet) -> np.ndarray:
    """The classes that are right in a rectangle of class `name`; none where the label set has none."""
    name = SAME_WORD.get(name, name)
    return np.array([labels.index(word) for word in (name, *ALSO_RIGHT.get(name, ())) if word in labels.names], int)


def box_shares(image_labels: np.ndarray, boxes: Sequence[ClassBox], labels: LabelSet,
               group: np.ndarray | None = None) -> list[float]:
    """For each rectangle the share of its pixels in (h, w) `image_labels` that have an accepted class.

    Where `image_labels` are in another label set, `group` (C,) gives each class of `labels` its index there. No answer
    is right in a rectangle whose class `labels` does not have.
    """
    height, width = BOX_GRID
    image_labels = at_grid(image_labels, height, width)
    shares = []
    for box in boxes:
        left, top, right, bottom = box.box
        if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
            raise InputError(f"the rectangle {box.box} of {box.name!r} is not left < right, top < bottom within 0..1")
        rows, columns = span(top, bottom, height), span(left, right, width)
        accepted = accepted_labels(box.name, labels)
        right = np.isin(image_labels[rows, columns], accepted if group is None else group[accepted])
        shares.append(float(right.mean()))
    return shares


def span(low: float, high: float, length: int) -> slice:
    """The cells of `length` between two shares of it, at least one."""
    first = min(round(low * length), length - 1)
    return slice(first, max(round(high * length), first + 1))


def box_score(names: Sequence[str], shares: Sequence[float]) -> BoxScore:
    """The score of a set of rectangles, given the class and the share of right pixels of each."""
    by_class = {name: float(np.mean([share for other, share in zip(names, shares, strict=True) if other == name]))
                for name in sorted(set(names))}
    return BoxScore(float(np.mean(shares)), float(np.mean(list(by_class.values()))), by_class)
