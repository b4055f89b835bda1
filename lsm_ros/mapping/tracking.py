"""Corners of one image, found in another one to a fraction of a pixel, where depth and pose say about where they are.

Two views of a place differ by turn, zoom and slant, which defeats a comparison of square patches. But with the depth of
one view and the pose between them the other image can be drawn as that view would see it, and what is left is a few
pixels for Lucas and Kanade's method (1981; in pyramids, Bouguet 2000).
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from lsm_ros.mapping.keyframes import narrowed

WORK_WIDTH = 320           # pixels; larger images are reduced
CORNER_CELL = 12           # pixels; at most one corner in each
MOST = 120                 # corners that are looked for in another image
CORNER_BLOCK = 7           # pixels, over which the gradients of a corner are summed
MIN_CONTRAST = 1e-4        # of a corner: OpenCV's smaller eigenvalue of the covariance of gradients
EDGE = 5                   # pixels at the borders of images where no corner is taken or found
BLUR = 33                  # pixels, width of the neighbourhood over which contrast is evened out
NOISE = 4.0                # grey levels; contrast far below it isn't drawn out
CONTRAST = 40.0            # grey levels to which contrast (its standard deviation) is evened
STEP = 4                   # pixels of the depth between those that are drawn exactly, others are interpolated
NEAR = 0.05                # of a point's depth, as it is nearest to the other camera
WINDOW = 13                # pixels, of the patches
LEVELS = 1                 # of the pyramid above the image itself: corners start a few pixels off
ROUNDS = 5
MIN_GRADIENT = 3e-4        # the same over a patch
REACH = 8.0                # pixels; a patch that moves farther has found something else
RETURN = 0.5               # pixels, by which the way back may miss
DIFFERENCE = 20.0          # grey levels on average, by which patches may differ


@dataclass(frozen=True)
class Picture:
    """An image as corners are tracked in it."""
    grey: np.ndarray       # (H, W) uint8, its contrast evened out
    corners: np.ndarray    # (N, 2) float32 pixels, x and y, counted from the centre of the first; the strongest first


def picture_of(image: np.ndarray) -> Picture:
    """(H, W, 3) uint8 RGB -> a picture at most WORK_WIDTH wide."""
    grey = narrowed(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), WORK_WIDTH).astype(np.float32)
    mean = cv2.blur(grey, (BLUR, BLUR))
    variance = cv2.blur(grey * grey, (BLUR, BLUR)) - mean * mean
    even = CONTRAST * (grey - mean) / (np.sqrt(np.maximum(variance, 0)) + NOISE)
    grey = np.clip(128 + even, 0, 255).astype(np.uint8)     # exposure differs from image to image, and vignettes
    return Picture(grey, _corners(grey))


def _corners(grey: np.ndarray) -> np.ndarray:
    """(N, 2) float32: the best corner (Shi and Tomasi 1994) of each cell, the strongest first."""
    strength = np.zeros(grey.shape, np.float32)
    strength[EDGE:-EDGE, EDGE:-EDGE] = cv2.cornerMinEigenVal(grey, CORNER_BLOCK)[EDGE:-EDGE, EDGE:-EDGE]
    rows, columns = (size // CORNER_CELL for size in grey.shape)
    cells = strength[:rows * CORNER_CELL, :columns * CORNER_CELL].reshape(rows, CORNER_CELL, columns, CORNER_CELL)
    cells = cells.swapaxes(1, 2).reshape(rows * columns, CORNER_CELL ** 2)
    place = cells.argmax(axis=1)
    row, column = np.divmod(np.arange(rows * columns), max(columns, 1))
    corners = np.stack([column * CORNER_CELL + place % CORNER_CELL, row * CORNER_CELL + place // CORNER_CELL], axis=1)
    best = cells[np.arange(len(cells)), place]
    order = np.argsort(-best)
    return corners[order[best[order] > MIN_CONTRAST]].astype(np.float32)


def track(pairs: Sequence[tuple[Picture, Picture]], T_a_b: np.ndarray, K_a: np.ndarray, K_b: np.ndarray,
          depth_b: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where the two pictures of P pairs, a and b, show the same points: corners of b, found in a. Of all pairs: the
    numbers of the pairs (N,), ascending, and the places in a and in b (N, 2), as shares of width and height.

    OpenCV's work on one pair uses all cores; what numpy does is done for all pairs at once.

    Args:
        T_a_b: (P, 4, 4), in the unit of the depth; right to a few pixels.
        K_a, K_b: (P, 3, 3) on the grid of the depth.
        depth_b: (P, h, w) z depth of b.
    """
    sizes_a, sizes_b = (np.array([picture.grey.shape[::-1] for picture in side]) for side in zip(*pairs, strict=True))
    grids = _grids(T_a_b, K_a, K_b, depth_b, sizes_a)
    starts, parts = [], []
    for (a, b), grid, size_a in zip(pairs, grids, sizes_a, strict=True):
        places = cv2.resize(grid, b.grey.shape[::-1])                # in a, of each pixel of b
        column, row = b.corners.astype(int).T
        start = b.corners[_inside(places[row, column], size_a)][:MOST]
        starts.append(start)
        if len(start):
            drawn = cv2.remap(a.grey, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            found, kept, difference = _lucas_kanade(b.grey, drawn, start, start, LEVELS)
            back, kept_back, _ = _lucas_kanade(drawn, b.grey, found, start, 0)      # what is right, is back already
            parts.append(np.column_stack([found, back, kept, kept_back, difference]))
    start, number = np.concatenate(starts), np.repeat(np.arange(len(pairs)), [len(start) for start in starts])
    found, back, kept, kept_back, difference = np.split(np.concatenate([np.empty((0, 7), np.float32), *parts]),
                                                        [2, 4, 5, 6], axis=1)
    good = ((kept > 0) & (kept_back > 0) & (difference < DIFFERENCE))[:, 0] & _inside(found, sizes_b[number])
    good &= (np.abs(found - start) < REACH).all(axis=1) & (np.square(back - start).sum(axis=1) < RETURN ** 2)
    start, found, number = start[good], found[good], number[good]
    seen = _between(grids, number, (found + 0.5) / sizes_b[number])
    inside = _inside(seen, sizes_a[number])
    start, seen, number = start[inside], seen[inside], number[inside]
    return number, (seen + 0.5) / sizes_a[number], (start.astype(np.float64) + 0.5) / sizes_b[number]


def _grids(T_a_b: np.ndarray, K_a: np.ndarray, K_b: np.ndarray, depth_b: np.ndarray, sizes_a: np.ndarray) -> np.ndarray:
    """(P, rows, columns, 2) float32: the pixel, x and y, of a's picture of `sizes_a` (P, 2), at which a shows what b's
    shows; at every STEP-th pixel of b's depth, both ways."""
    P, h, w = depth_b.shape
    rows, columns = max(h // STEP, 1), max(w // STEP, 1)
    v, u = (np.arange(rows) + 0.5) * h / rows, (np.arange(columns) + 0.5) * w / columns
    depth = depth_b[:, v.astype(int)[:, None], u.astype(int)].astype(np.float64).reshape(P, 1, -1)
    rays = np.linalg.inv(K_b) @ np.stack([np.tile(u, rows), np.repeat(v, columns), np.ones(rows * columns)])
    seen = T_a_b[:, :3, :3] @ (rays * depth) + T_a_b[:, :3, 3:]
    pixels = (K_a @ seen)[:, :2] / np.maximum(seen[:, 2:], NEAR * depth)
    pixels = pixels * (sizes_a / (w, h))[:, :, None] - 0.5           # OpenCV's, from the first one's centre
    return np.ascontiguousarray(pixels.swapaxes(1, 2), np.float32).reshape(P, rows, columns, 2)


def _between(grids: np.ndarray, number: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """(N, 2) float64: what the grids (P, rows, columns, 2) with those numbers (N,) say at places (N, 2) between their
    nodes, as shares of width and height: OpenCV's `resize`, at single places."""
    last = np.array(grids.shape[2:0:-1]) - 1
    at = np.clip(shares * (last + 1) - 0.5, 0, last)
    low = np.minimum(at.astype(int), np.maximum(last - 1, 0))
    (x, y), (right, below) = low.T, np.minimum(low + 1, last).T
    of_right, of_below = (at - low).T[..., None]
    above = (1 - of_right) * grids[number, y, x] + of_right * grids[number, y, right]
    beneath = (1 - of_right) * grids[number, below, x] + of_right * grids[number, below, right]
    return (1 - of_below) * above + of_below * beneath


def _inside(places: np.ndarray, size: np.ndarray) -> np.ndarray:
    """(N,) bool: places (N, 2) that aren't at the borders of images of `size` (2,) or (N, 2), width and height."""
    return ((places >= EDGE) & (places < size - EDGE)).all(axis=1)


def _lucas_kanade(image: np.ndarray, other: np.ndarray, places: np.ndarray, start: np.ndarray,
                  levels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where `other` shows the patches of `image` about `places` (N, 2), from `start` on, in a pyramid of that many
    `levels` above the image; (N, 1) whether it does, and how they differ."""
    return cv2.calcOpticalFlowPyrLK(image, other, places, start.copy(), None, None, (WINDOW, WINDOW), levels,
                                    (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, ROUNDS, 0.02),
                                    cv2.OPTFLOW_USE_INITIAL_FLOW, MIN_GRADIENT)
