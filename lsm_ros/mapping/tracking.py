"""Corners of one image, found in another one to a fraction of a pixel, where depth and pose say about where they are.

Two views of a place differ by turn, zoom and slant, which defeats a comparison of square patches. But with the depth of
one view and the pose between them patches of the other image can be drawn as that view would see them, and what is left
is a few pixels for Lucas and Kanade's method (1981; in pyramids, Bouguet 2000), there and back. Its loops are compiled,
src/tracking.cpp.
"""
from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from lsm_ros.mapping.kernels import COUNT, NUMBER, array, check_shapes, kernel
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
STEP = 4                   # pixels of the depth between those that are placed exactly, others are interpolated
NEAR = 0.05                # of a point's depth, as it is nearest to the other camera
ROUNDS = 5                 # of each search, at most
MIN_GRADIENT = 0.3         # of a patch: the smaller eigenvalue of the mean product of gradients, grey levels a pixel
RETURN = 0.5               # pixels, by which the way back may miss
DIFFERENCE = 20.0          # grey levels on average, by which patches may differ

_BYTES, _FLOATS = array(np.uint8, 2), array(np.float32, 2)
_PICTURE = _BYTES, _BYTES, COUNT, COUNT
_FOLLOW = kernel("follow", COUNT, *_PICTURE, *_PICTURE, _FLOATS, COUNT, _FLOATS, _FLOATS, *[COUNT] * 4, *[NUMBER] * 4,
                 _FLOATS, _FLOATS)


@dataclass(frozen=True)
class Picture:
    """An image as corners are tracked in it."""
    grey: np.ndarray       # (H, W) uint8, its contrast evened out
    half: np.ndarray       # ((H + 1) // 2, (W + 1) // 2) uint8, of half the size
    corners: np.ndarray    # (N, 2) float32 pixels, x and y, counted from the centre of the first; the strongest first


def picture_of(image: np.ndarray) -> Picture:
    """(H, W, 3) uint8 RGB -> a picture at most WORK_WIDTH wide."""
    grey = narrowed(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), WORK_WIDTH).astype(np.float32)
    mean = cv2.blur(grey, (BLUR, BLUR))
    variance = cv2.blur(grey * grey, (BLUR, BLUR)) - mean * mean
    even = CONTRAST * (grey - mean) / (np.sqrt(np.maximum(variance, 0)) + NOISE)
    grey = np.clip(128 + even, 0, 255).astype(np.uint8)     # exposure differs from image to image, and vignettes
    return Picture(grey, cv2.pyrDown(grey), _corners(grey))


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
    map_x, map_y = _places_in(a.grey.shape, T_a_b, K_a, K_b, depth_b)
    in_a, in_b = np.empty((MOST, 2), np.float32), np.empty((MOST, 2), np.float32)
    for name, picture in (("a", a), ("b", b)):
        height, width = picture.grey.shape
        check_shapes(**{f"{name}.half": (picture.half, ((height + 1) // 2, (width + 1) // 2)),
                        f"{name}.corners": (picture.corners, (len(picture.corners), 2))})
    found = _FOLLOW(a.grey, a.half, *a.grey.shape, b.grey, b.half, *b.grey.shape, b.corners, len(b.corners), map_x,
                    map_y, *map_x.shape, MOST, ROUNDS, EDGE, MIN_GRADIENT, RETURN, DIFFERENCE, in_a, in_b)
    size_a, size_b = np.array(a.grey.shape[::-1]), np.array(b.grey.shape[::-1])
    return (in_a[:found].astype(np.float64) + 0.5) / size_a, (in_b[:found].astype(np.float64) + 0.5) / size_b


def _places_in(shape_a: tuple[int, int], T_a_b: np.ndarray, K_a: np.ndarray, K_b: np.ndarray,
               depth_b: np.ndarray) -> list[np.ndarray]:
    """Columns and rows of a's picture, float32, where a shows what b shows, on a grid that lies all over b."""
    h, w = depth_b.shape
    rows, columns = max(h // STEP, 2), max(w // STEP, 2)
    v, u = (np.arange(rows) + 0.5) * h / rows, (np.arange(columns) + 0.5) * w / columns
    depth = depth_b[v.astype(int)[:, None], u.astype(int)].astype(np.float64).ravel()
    rays = np.linalg.inv(K_b) @ np.stack([np.tile(u, rows), np.repeat(v, columns), np.ones(rows * columns)])
    seen = T_a_b[:3, :3] @ (rays * depth) + T_a_b[:3, 3:]
    pixels = (K_a @ seen)[:2] / np.maximum(seen[2], NEAR * depth)
    pixels = pixels / [[w], [h]] * [[shape_a[1]], [shape_a[0]]] - 0.5          # OpenCV's, from the first one's centre
    return [np.ascontiguousarray(plane.reshape(rows, columns), np.float32) for plane in pixels]
