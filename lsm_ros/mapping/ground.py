"""Which way is up, from what the network calls floor, ceiling and wall."""
from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from lsm_ros.geometry.sim3 import UP_CV, rotation_of
from lsm_ros.labels import LabelSet
from lsm_ros.mapping.views import View

GATES_DEG = (45.0, 25.0, 12.0)     # how far a normal may be from what it should be, round by round
PRIOR = 0.02                       # weight of the level first camera beside all pixels: decides where they are silent
FLAT = ("floor", "rug", "ceiling")
STEEP = ("wall", "door", "window", "wardrobe", "refrigerator")


def find_up(views: Iterable[View], R_first_cam: Iterable[np.ndarray], labels: LabelSet) -> np.ndarray:
    """(3,) unit vector up in the first camera (OpenCV axes), from views whose cameras R_first_cam (3, 3) turns into it.

    Up is along the normals of flat classes and across those of steep ones: the least eigenvector of their scatter,
    found in rounds that leave out normals that do not fit. A level first camera is the weak prior and the start.
    """
    flat, steep, pixels = [np.empty((0, 3))], [np.empty((0, 3))], 0
    classes = {name: n for n, name in enumerate(labels.names)}
    flat_classes = [classes[name] for name in FLAT if name in classes]
    steep_classes = [classes[name] for name in STEEP if name in classes]
    for view, R in zip(views, R_first_cam, strict=True):
        normals = surface_normals(view.points) @ rotation_of(R).T
        label, good = view.labels(), view.reliable(0.25)
        flat.append(normals[good & np.isin(label, flat_classes)])
        steep.append(normals[good & np.isin(label, steep_classes)])
        pixels += label.size
    flat, steep = np.concatenate(flat), np.concatenate(steep)

    up = UP_CV
    for gate in np.radians(GATES_DEG):
        along = flat[np.abs(flat @ up) > np.cos(gate)]
        across = steep[np.abs(steep @ up) < np.sin(gate)]
        scatter = (across.T @ across - along.T @ along) / pixels - PRIOR * np.outer(UP_CV, UP_CV)
        up = np.linalg.eigh(scatter)[1][:, 0]
        up = up * np.sign(up @ UP_CV)
    return up


def surface_normals(points: np.ndarray) -> np.ndarray:
    """(h, w, 3) unit normals of a grid of points, from central differences; either side, NaN-free."""
    across, down = np.gradient(points.astype(np.float64), axis=1), np.gradient(points.astype(np.float64), axis=0)
    normals = np.cross(across, down)
    return normals / np.maximum(np.linalg.norm(normals, axis=2, keepdims=True), 1e-12)
