"""What the map remembers of one keyframe, and how much two views share."""
from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import cv2
import numpy as np

from lsm_ros.contracts import MOVING, Keyframe, WindowPrediction
from lsm_ros.geometry.camera import project, unproject
from lsm_ros.geometry.sim3 import transform
from lsm_ros.labels import LabelSet

SAMPLES = (12, 16)         # rows and columns of the points that stand for a view in overlaps and displacements
EDGE_SHARE = 0.15          # depth that changes by more than this share from pixel to pixel is steep, and an outline
BENT = 0.5                 # if inverse depth changes three times as much to one side as to the other near by
WANTED_DROP = 0.2          # half of the pixels of things are in the least confident quarter, their depth 4 to 8 % off
MAX_AVERAGED = 8           # predictions of one view that are averaged; later ones replace the earliest's weight
CHANNELS = 64              # that OpenCV is given at once
NEIGHBOURS = np.ones((3, 3), np.uint8)
STEPS = 127                # of a component of the semantics as it is kept, in a byte: the logits are off by .05


@dataclass(frozen=True)
class View:
    """A keyframe and its dense prediction, on a grid of h x w pixels.

    `depth` is in the keyframe's own unit: the metre as the network saw it when the keyframe was new. The pose graph's
    Sim(3) S_map_cam says how long that is in the map. A view never changes; `refined` makes the next version.
    """
    keyframe: Keyframe
    depth: np.ndarray               # (h, w) float32
    confidence: np.ndarray          # (h, w) float32, 0..1
    K: np.ndarray                   # (3, 3) float64, of the grid
    semantics: np.ndarray           # (hs, ws, D) int8, unit vectors in the label space times STEPS
    colors: np.ndarray              # (h, w, 3) uint8 RGB
    label_set: LabelSet             # C classes, in which it is asked
    averaged: int = 1               # predictions in it
    moving: np.ndarray | None = None    # (hs, ws) float32 in 0..1, as in WindowPrediction

    @classmethod
    def from_prediction(cls, keyframe: Keyframe, prediction: WindowPrediction, index: int, labels: LabelSet) -> View:
        h, w = prediction.depth.shape[1:]
        return cls(keyframe=keyframe, depth=prediction.depth[index], confidence=prediction.confidence[index],
                   K=prediction.K[index], semantics=in_bytes(prediction.semantics[index]),
                   moving=None if prediction.moving is None else prediction.moving[index],
                   colors=cv2.resize(keyframe.frame.image, (w, h), interpolation=cv2.INTER_AREA), label_set=labels)

    def refined(self, prediction: WindowPrediction, index: int, unit: float) -> View:
        """The mean with another prediction of the same keyframe, `unit` of our units long in its own unit of depth.

        Depths are averaged as logarithms with their confidences as weights, semantics and K plainly: these are several
        opinions on one image, not independent sightings. A confidence of 0 stays: nothing is seen there.
        """
        n = min(self.averaged, MAX_AVERAGED - 1)
        mine, yours = n * self.confidence, np.where(self.confidence > 0, prediction.confidence[index], 0)
        share = yours / np.maximum(mine + yours, 1e-6)
        depth = np.exp((1 - share) * np.log(self.depth) + share * np.log(unit * prediction.depth[index]))
        semantics = n * self.semantics.astype(np.float32) + np.rint(STEPS * prediction.semantics[index])
        moving = self.moving
        if moving is not None and prediction.moving is not None:
            moving = (n * moving + prediction.moving[index]) / (n + 1)
        return replace(self, depth=depth.astype(np.float32), confidence=((mine + yours) / (n + 1)).astype(np.float32),
                       K=(n * self.K + prediction.K[index]) / (n + 1), semantics=in_bytes(semantics), moving=moving,
                       averaged=n + 1)

    def without_odometry(self) -> View:
        """As if odometry had known nothing of the keyframe."""
        frame = replace(self.keyframe.frame, T_odom_cam=None)
        return replace(self, keyframe=replace(self.keyframe, frame=frame))

    @property
    def _vectors(self) -> np.ndarray:
        """(hs, ws, D) float32 of length 1."""
        return np.multiply(self.semantics, np.float32(1 / STEPS), dtype=np.float32)

    @property
    def log_probabilities(self) -> np.ndarray:
        """(hs, ws, C) float32, of the classes."""
        return self.label_set.log_probabilities(self._vectors)

    @property
    def points(self) -> np.ndarray:
        """(h, w, 3) float32 in the camera, in the keyframe's unit."""
        return unproject(self.depth, self.K)

    @cached_property
    def samples(self) -> np.ndarray:
        """(N, 3) float32: a coarse grid of `points`."""
        return coarse_points(self.depth, self.K)

    @cached_property
    def thumbnail(self) -> np.ndarray:
        """(N,) float32 of mean 0 and length 1: see `thumbnail`."""
        return thumbnail(self.colors)

    @property
    def semantic_cells(self) -> np.ndarray:
        """(h, w) int64: the flat index of the class scores' own, coarser pixel that covers each pixel."""
        return _covering(self.depth.shape, self.semantics.shape[:2])

    @cached_property
    def labels(self) -> np.ndarray:
        """(h, w) uint16, the most likely class; between coarser pixels logits are interpolated, which has the same
        highest class as their log-softmax."""
        h, w = self.depth.shape
        return enlarged(self.label_set.logits(self._vectors), (h, w)).argmax(axis=2).astype(np.uint16)

    def unit_ratio(self, depth: np.ndarray, pixels: np.ndarray | slice = slice(None)) -> float:
        """Our units per unit of another depth map (h, w) of this keyframe: the median over `pixels` (flat indices)."""
        return float(np.median(self.depth.ravel()[pixels] / depth.ravel()[pixels]))

    @cached_property
    def still(self) -> np.ndarray:
        """(h, w) bool: what does not move."""
        return still(self.moving, self.depth.shape)

    def reliable(self, confidence_drop: float, wanted: np.ndarray | None = None) -> np.ndarray:
        """(h, w) bool: not among the share `confidence_drop` of least confident pixels, nor of confidence 0, not on an
        outline in depth.

        Of the pixels `wanted` (h, w) bool only the least confident of all, a share WANTED_DROP of the share, are out.
        """
        drops = [confidence_drop] if wanted is None else [confidence_drop, WANTED_DROP * confidence_drop]
        least = least_confidence(self.confidence, drops)
        good = self.confidence >= (least[0] if wanted is None else np.where(wanted, least[1], least[0]))
        return good & (self.confidence > 0) & ~on_outline(self.depth)


def still(moving: np.ndarray | None, shape: tuple[int, int]) -> np.ndarray:
    """(h, w) bool of `shape`: pixels that neither show what moves nor touch it, by their probability `moving` (hs, ws);
    all where nobody tells."""
    if moving is None:
        return np.ones(shape, bool)
    there = cv2.dilate((moving > MOVING).astype(np.uint8), np.ones((3, 3), np.uint8))
    return cv2.resize(there, shape[::-1], interpolation=cv2.INTER_NEAREST) == 0


def enlarged(scores: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Scores of classes (hs, ws, C), interpolated to (h, w, C) for `shape` (h, w): OpenCV 5 takes 128 channels at
    most, and all of them leave out the axis of a single one."""
    parts = np.split(scores, range(CHANNELS, scores.shape[2], CHANNELS), axis=2)
    return np.concatenate([cv2.resize(np.ascontiguousarray(part), shape[::-1], interpolation=cv2.INTER_LINEAR)
                           .reshape(*shape, -1) for part in parts], axis=2)


def in_bytes(semantics: np.ndarray) -> np.ndarray:
    """(..., D) vectors of any length -> int8 unit vectors times STEPS."""
    length = np.sqrt(np.einsum("...d,...d->...", semantics, semantics))[..., None]        # a third of `norm`'s time
    return np.rint(semantics * (STEPS / np.maximum(length, 1e-6))).astype(np.int8)


def thumbnail(image: np.ndarray) -> np.ndarray:
    """(N,) float32 of mean 0 and length 1: the image (H, W, 3), small, grey and blurred; a dot product is a likeness.

    Small blurry images find back the place of a lost camera (Klein and Murray 2008, section 4).
    """
    small = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (40, 30), interpolation=cv2.INTER_AREA)
    blurred = cv2.GaussianBlur(small, (0, 0), 2.5).astype(np.float32).ravel()
    blurred -= blurred.mean()
    return blurred / max(float(np.linalg.norm(blurred)), 1e-6)


def confident(confidence: np.ndarray, drop: float) -> np.ndarray:
    """(h, w) bool: all but the share `drop` of the pixels with the lowest confidence; ties stay."""
    return confidence >= least_confidence(confidence, [drop])[0]


def least_confidence(confidence: np.ndarray, drops: list[float]) -> np.ndarray:
    """(n,) of the pixels that stay when each of these shares of the least confident ones is dropped."""
    ranks = [int(np.ceil(drop * (confidence.size - 1))) for drop in drops]
    return np.partition(confidence, ranks, axis=None)[ranks]                   # as np.quantile, in half its time


def steep(depth: np.ndarray) -> np.ndarray:
    """(h, w) bool: where depth changes so fast, on an outline or a surface that is seen flat, that it is another one a
    fraction of a pixel away."""
    far, near = _extremes(depth)
    return far - near > 2 * EDGE_SHARE * depth


def on_outline(depth: np.ndarray) -> np.ndarray:
    """(h, w) bool: where the 3 x 3 neighbourhood holds two surfaces, and a point would float between them.

    Depth is as steep on the floor far before a camera that is near it. But the inverse depth of a plane is linear in
    the image: as far below its greatest near by as above its least. That is asked of all pixels around one, too, for
    the network draws some outlines as a ramp.
    """
    far, near = _extremes(depth)
    gap = far - near
    # |1 / near + 1 / far - 2 / depth| > BENT (1 / near - 1 / far), times all three
    bent = np.abs(depth * (near + far) - 2 * near * far) > BENT * depth * gap
    return (gap > 2 * EDGE_SHARE * depth) & (cv2.dilate(bent.astype(np.uint8), NEIGHBOURS) > 0)


def _extremes(depth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The greatest and the least depth near each pixel, both (h, w)."""
    return cv2.dilate(depth, NEIGHBOURS), cv2.erode(depth, NEIGHBOURS)


@lru_cache(maxsize=4)                # all views of a map have the same two shapes
def _covering(shape: tuple[int, int], coarse: tuple[int, int]) -> np.ndarray:
    """(h, w) int64 for `shape` (h, w), not to be written: the flat index of the pixel of `coarse` that covers each."""
    (h, w), (hs, ws) = shape, coarse
    cells = (np.arange(h) * hs // h)[:, None] * ws + np.arange(w) * ws // w
    cells.flags.writeable = False
    return cells


def coarse_points(depth: np.ndarray, K: np.ndarray) -> np.ndarray:
    """Depth (..., h, w) and K (..., 3, 3) -> (..., N, 3): the points at the centres of SAMPLES rows and columns of
    cells."""
    rows, columns = (((np.arange(n) + 0.5) * size / n).astype(int)
                     for n, size in zip(SAMPLES, depth.shape[-2:], strict=True))
    return unproject(depth[..., rows[:, None], columns], K, rows, columns).reshape(*depth.shape[:-2], -1, 3)


def in_frame(pixels: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """(..., N) bool: pixels (..., N, 2) that fall into an image of `shape` (h, w); NaN, behind the camera, does not."""
    return ((pixels >= 0) & (pixels < shape[::-1])).all(axis=-1)


def sight(points: np.ndarray, T_cam_points: np.ndarray, depth: np.ndarray, K: np.ndarray,
          tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """How cameras with depth maps (..., h, w) see the points (..., N, 3) of other frames, all in the unit of `depth`;
    T_cam_points (..., 4, 4), K (..., 3, 3).

    Returns (inside, fits), both (..., N) bool: the point falls into the image; and it lies on the surface that the
    camera sees there, within the share `tolerance` of its depth.
    """
    pixels, z = project(transform(T_cam_points, points.astype(np.float64)), K)
    inside = in_frame(pixels, depth.shape[-2:])
    *cameras, _ = np.nonzero(inside)
    u, v = pixels[inside].astype(int).T
    surface = np.broadcast_to(depth, (*inside.shape[:-1], *depth.shape[-2:]))[(*cameras, v, u)]
    fits = np.zeros(inside.shape, bool)
    fits[inside] = np.abs(np.log(z[inside] / surface)) < tolerance
    return inside, fits
