"""Cameras on their side or upside down: what they see, by quarters of a turn about the optical axis.

Clockwise is as the camera turns, seen from behind it; what it shows turns the other way.
"""
from __future__ import annotations

from dataclasses import replace

import numpy as np

from lsm_ros.contracts import Frame, Matches, WindowPrediction

NEAR_VERTICAL = 0.5     # what is left of up in the plane of the image says nothing below it: 30 degrees from the zenith


def quarters_of(up_cam: np.ndarray) -> float | None:
    """By how many quarters, -2 to 2, a camera is turned in which up is `up_cam` (3,); None where it looks up or
    down."""
    x, y = up_cam[:2]
    return None if np.hypot(x, y) < NEAR_VERTICAL else float(np.arctan2(-x, -y) / (np.pi / 2))


def turned(frame: Frame, quarters: int) -> Frame:
    """What the camera would have shown, and told, had it been turned by so many quarters more."""
    if quarters % 4 == 0:
        return frame
    T = turn(quarters)
    image, depth, unseen = (None if plane is None else turned_plane(plane, quarters)
                            for plane in (frame.image, frame.depth, frame.unseen))
    K = None if frame.K is None else turned_intrinsics(frame.K, frame.image.shape[1::-1], quarters)
    return replace(frame, image=image, K=K, depth=depth, unseen=unseen,
                   T_odom_cam=None if frame.T_odom_cam is None else frame.T_odom_cam @ T,
                   up_cam=None if frame.up_cam is None else T[:3, :3].T @ frame.up_cam)


def turned_prediction(prediction: WindowPrediction, quarters: int) -> WindowPrediction:
    """What is predicted of a window, as it is of one whose cameras are all turned by so many quarters more."""
    if quarters % 4 == 0:
        return prediction
    T = turn(quarters)
    depth, confidence, semantics = (turned_plane(planes, quarters, axes=(1, 2)) for planes in
                                    (prediction.depth, prediction.confidence, prediction.semantics))
    moving = None if prediction.moving is None else turned_plane(prediction.moving, quarters, axes=(1, 2))
    K = np.stack([turned_intrinsics(K, prediction.depth.shape[:0:-1], quarters) for K in prediction.K])
    return replace(prediction, depth=depth, confidence=confidence, semantics=semantics, K=K, moving=moving,
                   T_window_cam=T.T @ prediction.T_window_cam @ T, matches=turned_matches(prediction.matches, quarters))


def turned_matches(matches: Matches | None, quarters: int) -> Matches | None:
    """The same places as shares of turned images."""
    if matches is None:
        return None
    a, b = matches.shares_a, matches.shares_b
    for _ in range(quarters % 4):
        a, b = (np.stack([shares[:, 1], 1 - shares[:, 0]], axis=1) for shares in (a, b))
    return replace(matches, shares_a=a, shares_b=b)


def turn(quarters: int) -> np.ndarray:
    """(4, 4) pose of the turned camera in the one that it was."""
    cosine, sine = ((1, 0), (0, 1), (-1, 0), (0, -1))[quarters % 4]
    T = np.eye(4)
    T[:2, :2] = [[cosine, -sine], [sine, cosine]]
    return T


def turned_plane(plane: np.ndarray, quarters: int, axes: tuple[int, int] = (0, 1)) -> np.ndarray:
    """Pixels (H, W, ...) as the turned camera shows them; `axes` are those of the rows and the columns."""
    return np.ascontiguousarray(np.rot90(plane, quarters, axes))


def turned_intrinsics(K: np.ndarray, size: tuple[int, int], quarters: int) -> np.ndarray:
    """(3, 3) of the turned camera; `size` (width, height) is that of the images before."""
    width, height = size
    for _ in range(quarters % 4):
        K = np.array([[K[1, 1], 0, K[1, 2]], [0, K[0, 0], width - K[0, 2]], [0, 0, 1]])
        width, height = height, width
    return K
