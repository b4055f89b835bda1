"""Pictures of the scored windows: images, predicted and true depth and labels, and how wrong they are."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from lsm_ros.contracts import Matches, WindowPrediction
from lsm_ros.data.pictures import MISSING, PAPER, contact_sheet, depth_picture, label_picture
from lsm_ros.errors import OutputError
from lsm_ros.evaluation.datasets import TruthWindow, in_labels
from lsm_ros.evaluation.scores import WindowScore
from lsm_ros.labels import LabelSet
from lsm_ros.mapping.views import enlarged

PANEL_WIDTH = 320
MONTAGE_WIDTH = 264         # of a panel
DRAWN_MATCHES = 120         # of a pair of views
MONTAGE_BYTES = 500_000     # a picture of the documentation stays below


@dataclass(frozen=True)
class Example:
    """A scored window that is worth looking at."""
    set: str
    rank: str                  # best, median, worst
    truth: TruthWindow
    prediction: WindowPrediction
    score: WindowScore


class Gallery:
    """Keeps the examples of each set: a PNG for each in `folder`, and all medians in the picture `montage`."""

    def __init__(self, labels: LabelSet, folder: Path | None = None, montage: Path | None = None):
        self.labels, self.folder, self.montage, self.medians = labels, folder, montage, []

    def add(self, name: str, scores: Sequence[WindowScore],
            predict: Callable[[int], tuple[TruthWindow, WindowPrediction]]) -> None:
        """The best, the median and the worst window of a set by AbsRel; `predict` gives a window by its number."""
        order = np.argsort([score.depth.absrel if score.depth else np.inf for score in scores], kind="stable")
        for rank, index in {"best": order[0], "median": order[len(order) // 2], "worst": order[-1]}.items():
            if self.folder is None and rank != "median":
                continue
            example = Example(name, rank, *predict(int(index)), scores[index])
            if self.folder is not None:
                save(self.folder / f"{name} {rank}.png".replace(", ", "-").replace(" ", "-"),
                     window_picture(example, self.labels))
            if rank == "median":
                self.medians.append(example)

    def close(self) -> None:
        """Writes the montage. Raises OutputError."""
        if self.montage is not None and self.medians:
            save(self.montage, montage(self.medians, self.labels), MONTAGE_BYTES)


def window_picture(example: Example, labels: LabelSet) -> np.ndarray:
    """(H, W, 3) uint8: a column for each view; the images, predicted and true depth, predicted and true labels."""
    rows = zip(*(view_panels(example, view, labels) for view in range(len(example.truth.K))), strict=True)
    panels, captions = zip(*(panel for row in rows for panel in row), strict=True)
    views = len(example.truth.K)
    return contact_sheet(panels, captions, columns=views, cell_width=max(PANEL_WIDTH, 3 * PANEL_WIDTH // views),
                         title=f"{example.set}: {example.rank}")


def montage(examples: Sequence[Example], labels: LabelSet) -> np.ndarray:
    """(H, W, 3) uint8: a row for each window; its first and last image, then depth and labels of the first."""
    panels: list[np.ndarray] = []
    captions: list[str] = []
    for example in examples:
        first = view_panels(example, 0, labels)
        last = view_panels(example, len(example.truth.K) - 1, labels)[0]
        row = [(first[0][0], example.set), last, *first[1:]]
        if len(row) < 6:                                         # a real set has no true labels
            row.append((np.full_like(first[0][0], PAPER), ""))
        panels += [picture for picture, _ in row]
        captions += [caption for _, caption in row]
    return contact_sheet(panels, captions, columns=6, cell_width=MONTAGE_WIDTH)


def view_panels(example: Example, view: int, labels: LabelSet) -> list[tuple[np.ndarray, str]]:
    """(picture, caption) of a view: image, predicted depth, true depth, predicted labels, and true ones if known."""
    truth, prediction, score = example.truth, example.prediction, example.score
    image = truth.window.keyframes[view].frame.image
    true_depth, near, far = depth_picture(truth.depth[view])
    scale = score.depth.scale if score.depth else 1.0
    none = np.isnan(near)                                       # no depth is true of this view
    depth, *_ = depth_picture(prediction.depth[view] / scale, *() if none else (near, far))
    size = image.shape[1::-1]
    tell_depth = f"depth, AbsRel {score.depth.absrel:.3f}, scale {scale:.2f}" if score.depth else "depth"
    tell_labels = "labels" if score.confusion is None else f"labels, {100 * score.confusion.accuracy:.0f} % right"
    scores = enlarged(labels.log_probabilities(prediction.semantics[view]), image.shape[:2])
    panels = [(with_matches(image, prediction.matches, view), tell_view(example, view)),
              (cv2.resize(depth, size, interpolation=cv2.INTER_LINEAR), tell_depth),
              (cv2.resize(true_depth, size, interpolation=cv2.INTER_NEAREST),
               "no true depth" if none else f"true depth, {near:.1f} to {far:.1f} m"),
              (label_picture(image, scores.argmax(-1).astype(np.uint16), labels), tell_labels)]
    if truth.labels is not None:
        known = replace(labels, names=(*labels.names, "none of them"), colors=np.vstack([labels.colors, [MISSING]])
                        .astype(np.uint8))
        classes = np.minimum(in_labels(truth.labels[view], labels), len(labels))
        panels.append((label_picture(image, classes, known), "true labels"))
    return panels


def with_matches(image: np.ndarray, matches: Matches | None, view: int) -> np.ndarray:
    """The image with the surest points that the window's first view and this one share (the first: and any other), each
    in the colour of its place in the first: the same point has the same colour in both."""
    if matches is None:
        return image
    picture, (height, width) = image.copy(), image.shape[:2]
    for other in np.unique(np.concatenate([matches.a, matches.b])):
        if other == 0 or view not in (0, other):
            continue
        forth, back = (matches.a == 0) & (matches.b == other), (matches.b == 0) & (matches.a == other)
        first = np.concatenate([matches.shares_a[forth], matches.shares_b[back]])
        there = np.concatenate([matches.shares_b[forth], matches.shares_a[back]])
        surest = np.argsort(-np.concatenate([matches.confidence[forth], matches.confidence[back]]))[:DRAWN_MATCHES]
        places = (there if view else first)[surest] * (width, height)
        for (hue, level), place in zip(first[surest], places, strict=True):
            hsv = np.array([[[179 * hue, 230, 255 - 120 * level]]]).clip(0, 255).astype(np.uint8)
            color = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0].tolist()
            x, y = (int(value) for value in place)
            cv2.circle(picture, (x, y), max(1, width // 120), color, -1, cv2.LINE_AA)
    return picture


def tell_view(example: Example, view: int) -> str:
    """How wrong the camera of a view is."""
    if view == 0:
        return "first view"
    turn, shift = example.score.first.rotation[view - 1], example.score.first.translation[view - 1]
    return f"rotation {turn:.1f}°" + (f", translation {shift:.0f}° wrong" if np.isfinite(shift) else " wrong")


def check_picture(path: Path) -> None:
    """Raises OutputError where `path` has no suffix of a kind of picture that `save` can write."""
    if Image.registered_extensions().get(path.suffix.lower()) not in Image.SAVE:
        raise OutputError(f"the picture {path} cannot be written: {path.suffix!r} is none of a picture, as .png and "
                          ".jpg are")


def save(path: Path, picture: np.ndarray, most_bytes: int | None = None) -> None:
    """Writes a picture; a JPEG with the best quality that stays below `most_bytes`. Raises OutputError."""
    image = Image.fromarray(picture)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix.lower() not in (".jpg", ".jpeg"):
            image.save(path)
            return
        for quality in range(90, 20, -6):
            image.save(path, quality=quality, optimize=True)
            if most_bytes is None or path.stat().st_size <= most_bytes:
                return
    except (OSError, ValueError) as error:
        raise OutputError(f"the picture {path} cannot be written: {error}") from error
