"""Points that can be found again in another image."""
from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

WORK_WIDTH = 320           # larger images are reduced: a fifth of the time of VGA, and on noisy ones more matches hold
FEATURES = 800
LAYERS = 2                 # of an octave: one less than usual saves a fifth of the time, and no score is lower
CONTRAST = 0.01            # a quarter of OpenCV's default: bare walls have faint corners, and matching sorts them out
RATIO = 0.85               # of the distances to the nearest and the second nearest descriptor


@dataclass(frozen=True)
class Features:
    """N points of one image."""
    shares: np.ndarray         # (N, 2) float64, place in the image as shares of its width and height
    descriptors: np.ndarray    # (N, 128) float32, unit vectors


def work_image(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 RGB -> (h, w) uint8 grey, w <= WORK_WIDTH: what points and corners are looked for in."""
    height, width = image.shape[:2]
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    if width <= WORK_WIDTH:
        return grey
    return cv2.resize(grey, (WORK_WIDTH, max(round(height * WORK_WIDTH / width), 1)), interpolation=cv2.INTER_AREA)


def find_features(grey: np.ndarray) -> Features:
    """SIFT points (Lowe 2004) of a `work_image`, their descriptors as square roots (Arandjelovic 2012)."""
    keypoints, descriptors = cv2.SIFT_create(FEATURES, LAYERS, CONTRAST).detectAndCompute(grey, None)
    if descriptors is None:
        return Features(np.empty((0, 2)), np.empty((0, 128), np.float32))
    # OpenCV counts pixels from the centre of the first one, shares are counted from its corner.
    shares = (np.array([point.pt for point in keypoints]) + 0.5) / grey.shape[::-1]
    roots = np.sqrt(descriptors / np.maximum(descriptors.sum(axis=1, keepdims=True), 1e-9))
    return Features(shares, roots.astype(np.float32))


def match(a: Features, b: Features) -> np.ndarray:
    """(M, 2) indices of the points of both images that are each other's nearest, clearly nearer than the next one."""
    if len(a.shares) < 2 or len(b.shares) < 2:
        return np.empty((0, 2), np.int64)
    likeness = a.descriptors @ b.descriptors.T
    rows = np.arange(len(likeness))
    nearest = likeness.argmax(axis=1)
    first = likeness[rows, nearest]
    mutual = likeness.max(axis=0)[nearest] == first         # argmax along columns takes three times as long
    likeness[rows, nearest] = -np.inf
    second = likeness.max(axis=1)
    distinct = 1 - first < RATIO ** 2 * (1 - second)       # squared distances of unit vectors are 2 - 2 likeness
    chosen = np.flatnonzero(mutual & distinct)
    return np.stack([chosen, nearest[chosen]], axis=1)
