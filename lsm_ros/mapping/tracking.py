"""Corners of one image, found in another one to a fraction of a pixel, where depth and pose say about where they are.

Two views of a place differ by turn, zoom and slant, which defeats a comparison of square patches. But with the depth of
one view and the pose between them the other image can be drawn as that view would see it, and what is left is a few
pixels for Lucas and Kanade's method (1981; in pyramids, Bouguet 2000).
"""
from __future__ import annotations

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


def track(a: Picture, b: Picture, T_a_b: np.ndarray, K_a: np.ndarray, K_b: np.ndarray,
          depth_b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where a and b show the same points, (N, 2) each, as shares of width and height: corners of b, found in a.

    Args:
        T_a_b: (4, 4), in the unit of the depth; right to a few pixels.
        K_a, K_b: (3, 3) on the grid of the depth.
        depth_b: (h, w) z depth of b.
    """
    place_x, place_y = _places_in(a.grey.shape, b.grey.shape, T_a_b, K_a, K_b, depth_b)
    size_a, size_b = np.array(a.grey.shape[::-1]), np.array(b.grey.shape[::-1])
    column, row = b.corners.astype(int).T
    there = np.stack([place_x[row, column], place_y[row, column]], axis=1)
    start = b.corners[_inside(there, size_a)][:MOST, None]
    if not len(start):
        return np.empty((0, 2)), np.empty((0, 2))
    drawn = cv2.remap(a.grey, place_x, place_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    found, kept, difference = _lucas_kanade(b.grey, drawn, start, start, LEVELS)
    back, kept_back, _ = _lucas_kanade(drawn, b.grey, found, start, 0)         # what is right, is back already
    good = ((kept > 0) & (kept_back > 0) & (difference < DIFFERENCE))[:, 0]
    good &= (np.abs(found - start) < REACH).all((1, 2)) & (np.linalg.norm(back - start, axis=2)[:, 0] < RETURN)
    good &= _inside(found[:, 0], size_b)
    if not good.any():
        return np.empty((0, 2)), np.empty((0, 2))
    x, y = np.ascontiguousarray(found[good].transpose(2, 0, 1))
    seen = np.concatenate([cv2.remap(place, x, y, cv2.INTER_LINEAR) for place in (place_x, place_y)], axis=1)
    good[good] = inside = _inside(seen, size_a)
    return (seen[inside].astype(np.float64) + 0.5) / size_a, (start[good, 0].astype(np.float64) + 0.5) / size_b


def _places_in(shape_a: tuple[int, int], shape_b: tuple[int, int], T_a_b: np.ndarray, K_a: np.ndarray, K_b: np.ndarray,
               depth_b: np.ndarray) -> list[np.ndarray]:
    """Columns and rows of a's picture, float32 of `shape_b`, where a shows what each pixel of b's picture shows."""
    h, w = depth_b.shape
    rows, columns = max(h // STEP, 1), max(w // STEP, 1)
    v, u = (np.arange(rows) + 0.5) * h / rows, (np.arange(columns) + 0.5) * w / columns
    depth = depth_b[v.astype(int)[:, None], u.astype(int)].astype(np.float64).ravel()
    rays = np.linalg.inv(K_b) @ np.stack([np.tile(u, rows), np.repeat(v, columns), np.ones(rows * columns)])
    seen = T_a_b[:3, :3] @ (rays * depth) + T_a_b[:3, 3:]
    pixels = (K_a @ seen)[:2] / np.maximum(seen[2], NEAR * depth)
    pixels = pixels / [[w], [h]] * [[shape_a[1]], [shape_a[0]]] - 0.5          # OpenCV's, from the first one's centre
    return [cv2.resize(plane.reshape(rows, columns).astype(np.float32), shape_b[::-1]) for plane in pixels]


def _inside(places: np.ndarray, size: np.ndarray) -> np.ndarray:
    """(N,) bool: places (N, 2) that aren't at the borders of an image of `size` (width, height)."""
    return ((places >= EDGE) & (places < size - EDGE)).all(axis=1)


def _lucas_kanade(image: np.ndarray, other: np.ndarray, places: np.ndarray, start: np.ndarray,
                  levels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where `other` shows the patches of `image` about `places` (N, 1, 2), from `start` on, in a pyramid of that many
    `levels` above the image; (N, 1) whether it does, and how they differ."""
    return cv2.calcOpticalFlowPyrLK(image, other, places, start.copy(), None, None, (WINDOW, WINDOW), levels,
                                    (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, ROUNDS, 0.02),
                                    cv2.OPTFLOW_USE_INITIAL_FLOW, MIN_GRADIENT)
