"""Draws a cloud into an image: orthographic, each point a disc, nearest wins, with shading from the depth alone."""
from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.spatial import cKDTree

REACHES = 2, 7              # pixels from one that is shaded to those beside it
BAND = 128                  # rows that are shaded at once: all of them took 150 MB of a node that saves its map


@dataclass(frozen=True)
class OrthographicView:
    """A camera infinitely far away. View axes: x right, y down, z away from the eye."""
    R_view_map: np.ndarray          # (3, 3)
    centre_map: np.ndarray          # (3,) what the middle of the image shows
    metres_per_pixel: float
    size: tuple[int, int]           # width, height in pixels

    def project(self, points_map: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pixels (N, 2) and depth (N,) in metres from the middle of the view, of points (N, 3)."""
        points_view = (points_map - self.centre_map) @ self.R_view_map.T
        return points_view[:, :2] / self.metres_per_pixel + np.array(self.size) / 2, points_view[:, 2]


def fit_view(points_map: np.ndarray, path_map: np.ndarray, heading_map: np.ndarray, elevation: float,
             size: tuple[int, int], margin: int) -> OrthographicView:
    """The view that fills an image with the points, their longest side lying across.

    Args:
        points_map: (N, 3); 1 in 200 may fall off.
        path_map: (M, 3); all are seen.
        heading_map: (3,) where the cameras looked; the view looks that way rather than back.
        elevation: radians of the eye above the horizon; pi / 2 looks straight down.
        margin: pixels around them.
    """
    level = points_map[:, :2] - np.median(points_map[:, :2], axis=0)
    across = np.linalg.eigh(level.T @ level)[1][:, 1]
    ahead = np.array([-across[1], across[0]])
    if ahead @ heading_map[:2] < 0:
        across, ahead = -across, -ahead
    right = np.array([across[0], across[1], 0.0])
    down = np.array([-ahead[0] * np.sin(elevation), -ahead[1] * np.sin(elevation), -np.cos(elevation)])
    R_view_map = np.stack([right, down, np.cross(right, down)])
    low, high = np.percentile(points_map @ R_view_map.T, (0.25, 99.75), axis=0)
    low, high = (np.concatenate([corner[None], path_map @ R_view_map.T]) for corner in (low, high))
    disc_m = spacing(points_map)
    low, high = low.min(0) - disc_m, high.max(0) + disc_m
    metres = (high - low)[:2] / (np.array(size) - 2 * margin)
    return OrthographicView(R_view_map, R_view_map.T @ ((low + high) / 2), max(float(metres.max()), 1e-4), size)


def render(points_map: np.ndarray, colors: np.ndarray, view: OrthographicView,
           background: tuple[int, int, int]) -> np.ndarray:
    """(H, W, 3) uint8 of points (N, 3) with colours (N, 3) uint8. Discs are as large as the points are apart."""
    nearest, depth = _nearest_points(points_map, view, 0.95 * spacing(points_map))
    image = np.full((*nearest.shape, 3), background, np.uint8)
    for top in range(0, len(nearest), BAND):
        band, above = slice(top, top + BAND), min(top, REACHES[-1])
        shade = _shade(depth[top - above:top + BAND + REACHES[-1]], view.metres_per_pixel)[above:][:BAND]
        drawn = nearest[band] >= 0
        image[band][drawn] = colors[nearest[band][drawn]] * shade[drawn, None]
    return image


def spacing(points: np.ndarray, samples: int = 2000) -> float:
    """The usual distance in metres from a point to its nearest neighbour."""
    if len(points) < 2:
        return 0.05
    chosen = points[np.linspace(0, len(points) - 1, min(samples, len(points))).astype(int)]
    distances, _ = cKDTree(points).query(chosen, k=2)
    return max(float(np.median(distances[:, 1])), 1e-3)


def _nearest_points(points_map: np.ndarray, view: OrthographicView,
                    radius_m: float) -> tuple[np.ndarray, np.ndarray]:
    """For every pixel the index of the nearest point whose disc covers it (-1: none) and its depth (inf: none)."""
    width, height = view.size
    pixels, depth = view.project(points_map)
    x, y = np.floor(pixels).astype(np.int64).T
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    order = np.flatnonzero(inside)[np.argsort(-depth[inside], kind="stable")]       # far to near, so the last one stays
    # Discs are of one size, so of the points that fall into a pixel only the nearest can be seen.
    owner = np.full(height * width, -1, np.int32)
    owner[y[order] * width + x[order]] = order
    order = order[owner[y[order] * width + x[order]] == order]
    nearest = np.full((height, width), -1, np.int32)
    radius = min(round(radius_m / view.metres_per_pixel), 100)
    for index, u, v in zip(order.tolist(), x[order].tolist(), y[order].tolist(), strict=True):
        cv2.circle(nearest, (u, v), radius, index, cv2.FILLED)
    seen = depth.astype(np.float32)[nearest]
    seen[nearest < 0] = np.inf
    return nearest, seen


def _shade(depth: np.ndarray, metres_per_pixel: float) -> np.ndarray:
    """(H, W) brightness: pixels beside something nearer are darker (eye-dome lighting, Boucheny 2009)."""
    shade = np.ones_like(depth)
    for reach in REACHES:
        obscured = np.zeros_like(depth)
        for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1)):
            shift = np.float32([[1, 0, dx * reach], [0, 1, dy * reach]])
            beside = cv2.warpAffine(depth, shift, depth.shape[::-1], flags=cv2.INTER_NEAREST,
                                    borderMode=cv2.BORDER_CONSTANT, borderValue=np.inf)
            both = np.isfinite(depth) & np.isfinite(beside)
            rise = np.subtract(depth, beside, out=np.zeros_like(depth), where=both)
            obscured += np.clip(rise / (reach * metres_per_pixel) - 1, 0, 6)
        shade *= np.exp(-0.035 * obscured)
    return shade
