"""The parts of a camera's images that never show the world, and what the network is shown there instead.

Rectification leaves a black edge, letterboxes leave bars, lenses leave dark corners. The network takes them for what
they look like, the frame of a picture or of a window: a black edge 3 % wide takes half of the poses. So they are found
once a camera, filled with what is nearest to them, and nothing that is seen there enters the map.
"""
from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import cv2
import numpy as np

from lsm_ros.contracts import Frame, Window, WindowPrediction

TOLERANCE = 10             # levels by which the pixels of a border differ from its colour, by compression
AROUND = 0.75              # share of each side that a border covers; of any colour, for so do few things that are seen
BLACK = 20                 # levels; up to there bars at two opposite sides will do, and dark corners:
ALONG = 0.6                # share of the sides with bars. White walls left and right are those of a corridor
NOTHING = 5                # levels; up to there one side will do, if it is covered wholly:
WHOLLY = 0.9               # a camera in the dark sees noise
MOST = 0.5                 # share of an image; more is an image that shows nothing
GROWN = 2                  # pixels beside it that are mixed with it


class Borders:
    """Finds the border of one camera: pixels joined to the edge of its first image that have one colour, black if they
    do not go all around, and have it in every later image. All images have one size; another begins anew."""

    def __init__(self):
        self.share = 0.0       # of the image that shows nothing
        self._shape: tuple[int, ...] | None = None

    @classmethod
    def of(cls, images: Iterable[np.ndarray]) -> Borders:
        """What images (H, W, 3) of one camera leave of the border of the first."""
        borders = cls()
        for image in images:
            borders.look(image)
        return borders

    def look(self, image: np.ndarray) -> None:
        """Learns from one more image, (H, W, 3) uint8 RGB."""
        if self._shape != image.shape:
            found = _constant_edge(image)
            if found is None:
                return
            self._shape, (core, self._color) = image.shape, found
        elif self.share:
            core = self._core.copy()
            core[core] = _alike(image[core], self._color)
            if np.array_equal(core, self._core):
                return
        else:
            return
        self._core = core
        self._unseen = cv2.dilate(core.astype(np.uint8), np.ones((2 * GROWN + 1, 2 * GROWN + 1), np.uint8)) > 0
        self._nearest, self.share = nearest_seen(self._unseen), float(self._unseen.mean())

    def filled(self, frame: Frame) -> Frame:
        """The frame with the nearest seen pixels in place of the border, which is `unseen`; itself if there is none."""
        if not self.share or frame.image.shape != self._shape:
            return frame
        image = frame.image.copy()
        image[self._unseen] = image.reshape(-1, 3)[self._nearest]
        return replace(frame, image=image, unseen=self._unseen)


def without_borders(prediction: WindowPrediction, window: Window) -> WindowPrediction:
    """The prediction with a confidence of 0 where the images of its window are `unseen`."""
    unseen = [keyframe.frame.unseen for keyframe in window.keyframes]
    if all(mask is None for mask in unseen):
        return prediction
    confidence = prediction.confidence.copy()
    for plane, mask in zip(confidence, unseen, strict=True):
        if mask is not None:
            plane[cv2.resize(mask.astype(np.float32), plane.shape[::-1], interpolation=cv2.INTER_AREA) > 0] = 0
    return replace(prediction, confidence=confidence)


def _constant_edge(image: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """(H, W) bool, none set where there is no border, and its colour (3,); None: the image shows nothing."""
    sides = image[0], image[-1], image[:, 0], image[:, -1]
    ring = np.concatenate(sides)
    _, kind, count = np.unique((ring >> 4).astype(int) @ (1, 16, 256), return_inverse=True, return_counts=True)
    color = np.median(ring[kind == count.argmax()], axis=0)
    alike = _alike(image, color)
    if alike.mean() > 1 - 1e-3:
        return None
    _, pieces = cv2.connectedComponents(alike.astype(np.uint8))
    touching = np.unique(np.concatenate([pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1]]))
    border = np.isin(pieces, touching[touching > 0])
    if border.mean() > MOST:
        return None
    covered = top, bottom, left, right = [side.mean() for side in (border[0], border[-1], border[:, 0], border[:, -1])]
    is_one = min(covered) > AROUND or color.max() <= NOTHING and max(covered) > WHOLLY
    if color.max() <= BLACK:
        is_one |= max(min(top, bottom), min(left, right)) > ALONG or border[[0, 0, -1, -1], [0, -1, 0, -1]].all()
    return (border if is_one else np.zeros_like(border)), color


def _alike(pixels: np.ndarray, color: np.ndarray) -> np.ndarray:
    return (np.abs(pixels.astype(np.int16) - color.astype(np.int16)) <= TOLERANCE).all(axis=-1)


def nearest_seen(unseen: np.ndarray) -> np.ndarray:
    """The flat index of the nearest seen pixel, of each unseen one."""
    _, label = cv2.distanceTransformWithLabels(unseen.astype(np.uint8), cv2.DIST_L2, 3,
                                               labelType=cv2.DIST_LABEL_PIXEL)
    index = np.zeros(label.max() + 1, np.int64)
    index[label[~unseen]] = np.flatnonzero(~unseen)
    return index[label[unseen]]
