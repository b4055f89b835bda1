"""The classical answer to the same question, to be honest about: SIFT, five points, RANSAC, intrinsics known.

Lowe 2004; Nister 2004; Fischler and Bolles 1981, as OpenCV has them.
"""
from __future__ import annotations

import cv2
import numpy as np

from lsm_ros.data.calibration import to_opencv
from lsm_ros.evaluation.datasets import TruthWindow

RATIO = 0.8           # of the distances to the nearest and the second nearest descriptor
INLIER_PX = 1.0
FEATURES = 4000


class SiftBaseline:
    """Relative poses of two views, the translation of unit length. Features of a frame are found once."""

    def __init__(self):
        self.sift = cv2.SIFT_create(nfeatures=FEATURES)
        self.matcher = cv2.BFMatcher(cv2.NORM_L2)
        self.features: dict[int, tuple[np.ndarray, np.ndarray | None]] = {}

    def __call__(self, truth: TruthWindow, pairs: np.ndarray) -> np.ndarray:
        """T_a_b (P, 4, 4) of the pairs (P, 2) of a window's views; NaN where none is found."""
        return np.array([self.relative_pose(truth, a, b) for a, b in pairs]).reshape(-1, 4, 4)

    def relative_pose(self, truth: TruthWindow, a: int, b: int) -> np.ndarray:
        points_a, points_b = self.matches(truth, a, b)
        T_a_b = np.full((4, 4), np.nan)
        if len(points_a) < 8:
            return T_a_b
        E, inliers = cv2.findEssentialMat(points_a, points_b, np.eye(3), method=cv2.RANSAC, prob=0.999,
                                          threshold=INLIER_PX / truth.K[a, 0, 0])
        if E is None or E.shape != (3, 3):
            return T_a_b
        found, R_b_a, t_b_a, _ = cv2.recoverPose(E, points_a, points_b, np.eye(3), mask=inliers)
        if found:
            T_a_b[:] = np.eye(4)
            T_a_b[:3, :3], T_a_b[:3, 3] = R_b_a.T, -(R_b_a.T @ t_b_a)[:, 0]
        return T_a_b

    def matches(self, truth: TruthWindow, a: int, b: int) -> tuple[np.ndarray, np.ndarray]:
        """Corresponding points (M, 2) of both views on the plane z = 1."""
        (points_a, described_a), (points_b, described_b) = (self.describe(truth, view) for view in (a, b))
        if described_a is None or described_b is None or len(described_b) < 2:
            return np.empty((0, 2)), np.empty((0, 2))
        pairs = self.matcher.knnMatch(described_a, described_b, k=2)
        good = np.array([(first.queryIdx, first.trainIdx) for first, second in pairs
                         if first.distance < RATIO * second.distance], int).reshape(-1, 2)
        return points_a[good[:, 0]], points_b[good[:, 1]]

    def describe(self, truth: TruthWindow, view: int) -> tuple[np.ndarray, np.ndarray | None]:
        keyframe = truth.window.keyframes[view]
        if keyframe.id not in self.features:
            grey = cv2.cvtColor(keyframe.frame.image, cv2.COLOR_RGB2GRAY)
            keypoints, descriptors = self.sift.detectAndCompute(grey, None)
            pixels = np.array([keypoint.pt for keypoint in keypoints], np.float64).reshape(-1, 1, 2)
            points = cv2.undistortPoints(pixels, to_opencv(truth.K[view]), None)[:, 0] if len(pixels) else pixels[:, 0]
            self.features[keyframe.id] = points, descriptors
        return self.features[keyframe.id]
