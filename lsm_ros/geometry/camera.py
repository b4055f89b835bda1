"""The pinhole camera: pixels, depth and points. OpenCV axes (x right, y down, z forward).

Pixel (u, v) covers [u, u+1) x [v, v+1), so its centre is (u + 0.5, v + 0.5) in the units of K, and resizing an image is
a plain multiplication of K. OpenCV and ROS calibrations put the centre of the first pixel at (0, 0) instead: turn
theirs into ours with `crop_intrinsics(K, -0.5, -0.5)`.
"""
from __future__ import annotations

import numpy as np

from lsm_ros.errors import InputError


def check_intrinsics(K: np.ndarray) -> np.ndarray:
    """K as (3, 3) float64. Raises InputError if it is no pinhole matrix: wrong shape, not finite, focal <= 0."""
    K = np.asarray(K, dtype=np.float64)
    if K.shape != (3, 3):
        raise InputError(f"intrinsics have shape {K.shape}; they must be (3, 3)")
    if not np.isfinite(K).all():
        raise InputError(f"intrinsics are not finite: {K.tolist()}")
    if K[0, 0] <= 0 or K[1, 1] <= 0:
        raise InputError(f"focal lengths fx = {K[0, 0]:g}, fy = {K[1, 1]:g} pixels; both must be positive")
    if not np.allclose(K[2], (0, 0, 1)):
        raise InputError(f"the last row of the intrinsics is {K[2].tolist()}; it must be [0, 0, 1]")
    return K


def intrinsics(fx: float, fy: float, cx: float, cy: float) -> np.ndarray:
    """(3, 3) float64, checked."""
    return check_intrinsics(np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], dtype=np.float64))


def scale_intrinsics(K: np.ndarray, from_size: tuple[int, int], to_size: tuple[int, int]) -> np.ndarray:
    """K (..., 3, 3) of an image of `from_size` (width, height), after it was resized to `to_size`."""
    factor = np.array([to_size[0] / from_size[0], to_size[1] / from_size[1], 1.0])
    return np.asarray(K, dtype=np.float64) * factor[:, None]


def crop_intrinsics(K: np.ndarray, left: float, top: float) -> np.ndarray:
    """K (..., 3, 3) after `left` columns and `top` rows were cut away (negative: padded), pixels."""
    K = np.array(K, dtype=np.float64)
    K[..., :2, 2] -= (left, top)
    return K


def unproject(depth: np.ndarray, K: np.ndarray, rows: np.ndarray | None = None,
              columns: np.ndarray | None = None) -> np.ndarray:
    """Points (..., h, w, 3) in the camera, in the units of `depth` (..., h, w), the z depth; K (..., 3, 3) of its grid.

    Where `depth` holds only some `rows` (h,) and `columns` (w,) of that grid these are their numbers. The result has
    the dtype of `depth`.
    """
    h, w = depth.shape[-2:]
    v, u = (np.arange(n) if given is None else given for n, given in ((h, rows), (w, columns)))
    K = np.asarray(K, dtype=np.float64)
    y = ((v + 0.5 - K[..., 1, 2, None]) / K[..., 1, 1, None])[..., None]                     # (..., h, 1)
    x = ((u + 0.5 - K[..., 0, 2, None]) / K[..., 0, 0, None])[..., None, :]                  # (..., 1, w)
    if (K[..., 0, 1] != 0).any():
        x = x - (K[..., 0, 1] / K[..., 0, 0])[..., None, None] * y                           # (..., h, w), with skew
    points = np.empty((*depth.shape, 3), dtype=depth.dtype)
    np.multiply(x.astype(depth.dtype, copy=False), depth, out=points[..., 0])
    np.multiply(y.astype(depth.dtype, copy=False), depth, out=points[..., 1])
    points[..., 2] = depth
    return points


def project(points_cam: np.ndarray, K: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (..., N, 2) and z depth (..., N) of points (..., N, 3) in the camera. Behind it, pixels are NaN."""
    z = points_cam[..., 2]
    safe = np.where(z > 0, z, np.nan)
    rays = points_cam / safe[..., None]
    return (rays @ np.swapaxes(np.asarray(K, dtype=np.float64), -1, -2))[..., :2], z
