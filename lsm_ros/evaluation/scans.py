"""The obstacle clouds of a walk as a robot feels them: as scans of a level laser, beam by beam beside the truth."""
from __future__ import annotations

import numpy as np

from lsm_ros.contracts import MapUpdate
from lsm_ros.evaluation.report import Line
from lsm_ros.geometry.camera import unproject
from lsm_ros.labels import LabelSet
from lsm_ros.mapping.obstacles import GROUND, IGNORED, MAX_HEIGHT_M, MIN_HEIGHT_M, Robot, chosen, obstacles

BEAM_DEG = 1.0
RANGE_M = 3.0              # what is farther is not asked about
GAP_M = 0.2                # a beam that ends as near to the true obstacle is right


class Scans:
    """Compares the newest view of each update with what its camera truly saw."""

    def __init__(self, labels: LabelSet, max_depth_m: float):
        self._max_depth_m = max_depth_m
        self._robot = Robot(chosen(labels, "", GROUND), chosen(labels, "", IGNORED), MIN_HEIGHT_M, MAX_HEIGHT_M)
        self._unknown = len(labels)
        self._beams: list[np.ndarray] = []

    def add(self, update: MapUpdate, depth: np.ndarray, labels: np.ndarray, K: np.ndarray, T_world_cam: np.ndarray
            ) -> None:
        """The truth: z depth (h, w) in metres, 0 or NaN where unknown; labels (h, w), len(labels) or more where they
        are none of the set; K (3, 3) of that grid; the pose (4, 4) in a world that is z up with its floor at 0."""
        known = (depth > 0) & (labels < self._unknown)
        points, names = unproject(depth.astype(np.float32), K)[known], labels[known]
        _, obstacle = self._robot.judge(names, points @ T_world_cam[2, :3] + T_world_cam[2, 3])
        true = scan(points[obstacle], T_world_cam)
        looked_at = np.isfinite(scan(points, T_world_cam))
        found = scan(obstacles(update, self._robot, self._max_depth_m)[1], update.T_map_cam)
        self._beams.append(np.stack([true, found], axis=1)[looked_at])

    def score(self) -> Line:
        """Shares of beams: `obstacle_missed` of those with a true obstacle within RANGE_M, where none is found or one
        that is more than GAP_M behind it; `obstacle_false` of those with a found one, where the way is free for more
        than GAP_M beyond it. `obstacle_m` is the median error in metres where both see one."""
        true, found = np.concatenate([np.empty((0, 2)), *self._beams]).T
        there, told = true <= RANGE_M, found <= RANGE_M
        both = there & told
        line: Line = {}
        if there.any():
            line["obstacle_missed"] = float((found > true + GAP_M)[there].mean())
        if told.any():
            line["obstacle_false"] = float((true > found + GAP_M)[told].mean())
        if both.any():
            line["obstacle_m"] = float(np.median(np.abs(found[both] - true[both])))
        return line


def scan(points: np.ndarray, T_up_cam: np.ndarray) -> np.ndarray:
    """(360 / BEAM_DEG,) level distances in metres from the camera to the nearest of the points (N, 3) in each
    direction, counterclockwise from behind; infinite where there are none. The points are in the camera's frame, and
    the pose (4, 4) is in a frame that is z up."""
    ahead = np.arctan2(T_up_cam[1, 2], T_up_cam[0, 2])
    east, north = T_up_cam[:2, :3] @ points.T
    bearing = (np.arctan2(north, east) - ahead + np.pi) % (2 * np.pi)
    distances = np.full(round(360 / BEAM_DEG), np.inf)
    beam = np.minimum((np.degrees(bearing) / BEAM_DEG).astype(int), len(distances) - 1)
    np.minimum.at(distances, beam, np.hypot(east, north))
    return distances
