"""The map from above, as a robot drives it: free, occupied, unknown; and where it is told not to go."""
from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from lsm_ros.contracts import Cloud
from lsm_ros.errors import InputError
from lsm_ros.mapping.obstacles import Robot

UNKNOWN, FREE, OCCUPIED = -1, 0, 100
MOST_CELLS = 1 << 24            # 16 MB a message; 200 m x 200 m in cells of 5 cm
LEAST_PATCH_M2 = 0.02           # a smaller patch of a class that is kept out of is a wrong label, not a place


@dataclass(frozen=True)
class Grid:
    """Square cells along the map's x (columns) and y (rows)."""
    cells: np.ndarray           # (rows, columns) int8: UNKNOWN, FREE or OCCUPIED
    origin: np.ndarray          # (2,) float64, x and y of the outer corner of cell (0, 0), metres, map frame
    resolution_m: float


def occupancy(cloud: Cloud, robot: Robot, on_floor: bool, resolution_m: float) -> Grid:
    """Occupied where a voxel stands in the robot's way, free where the ground was seen and nothing stands on it.

    A cell between cells of seen ground counts as ground: far away the points of a floor lie farther apart than voxels.

    Args:
        cloud: the voxels of the map.
        on_floor: whether z = 0 is the floor; if not, labels alone decide.
        resolution_m: edge of a cell; no smaller than a voxel's, or the grid has holes.

    Raises InputError for a map of more than MOST_CELLS cells.
    """
    ground, obstacle = robot.judge(cloud.labels, cloud.points[:, 2] if on_floor else None)
    frame = _Frame.around(cloud.points[ground | obstacle], resolution_m)
    cells = np.where(frame.paint_ground(cloud.points[ground]) > 0, FREE, UNKNOWN).astype(np.int8)
    cells[frame.paint(cloud.points[obstacle]) > 0] = OCCUPIED
    return frame.grid(cells)


def keepout(cloud: Cloud, kept_out: np.ndarray, robot: Robot, on_floor: bool, margin_m: float, resolution_m: float
            ) -> Grid:
    """OCCUPIED within the margin of voxels of the classes `kept_out` (C,) bool, no higher than the robot; else FREE
    where `occupancy` knows something, and UNKNOWN where it does not.

    Nav2's keepout filter writes a FREE of its mask over what the costmap doesn't know: the robot would plan through
    walls that nobody has seen. The grid covers the whole map, since a costmap filter doesn't act beside its mask.
    Raises InputError as `occupancy` does.
    """
    ground, obstacle = robot.judge(cloud.labels, cloud.points[:, 2] if on_floor else None)
    frame = _Frame.around(cloud.points, resolution_m, margin_m)
    known = frame.paint_ground(cloud.points[ground]) | frame.paint(cloud.points[obstacle])
    mine = kept_out[cloud.labels]
    if on_floor:
        mine &= cloud.points[:, 2] <= robot.max_height_m
    patches, number, stats, _ = cv2.connectedComponentsWithStats(frame.paint(cloud.points[mine]), connectivity=8)
    large = stats[:, cv2.CC_STAT_AREA] * resolution_m ** 2 >= LEAST_PATCH_M2
    large[0] = False            # the rest, where there is no patch
    cells = np.where(known > 0, FREE, UNKNOWN).astype(np.int8)
    if large.any():
        distance = cv2.distanceTransform((~large[number]).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        cells[distance * resolution_m <= margin_m] = OCCUPIED
    return frame.grid(cells)


@dataclass(frozen=True)
class _Frame:
    """Where the cells of a grid are."""
    low: np.ndarray             # (2,) int64, index along x and y of the first cell, counted from the map's origin
    shape: tuple[int, int]      # rows and columns
    resolution_m: float

    @classmethod
    def around(cls, points: np.ndarray, resolution_m: float, margin_m: float = 0.0) -> _Frame:
        """The cells of points (N, 3) and of a margin; a single cell where there are none, since a grid needs one."""
        if not len(points):
            return cls(np.zeros(2, np.int64), (1, 1), resolution_m)
        low = np.floor((points[:, :2].min(axis=0) - margin_m) / resolution_m).astype(np.int64)
        columns, rows = np.floor((points[:, :2].max(axis=0) + margin_m) / resolution_m).astype(np.int64) - low + 1
        if rows * columns > MOST_CELLS:
            raise InputError(f"a grid of {columns} x {rows} cells of {resolution_m:g} m is larger than {MOST_CELLS} "
                             "cells; choose a larger occupancy_resolution_m")
        return cls(low, (int(rows), int(columns)), resolution_m)

    def paint(self, points: np.ndarray) -> np.ndarray:
        """(rows, columns) uint8: 1 in the cells that hold some of the points (N, 3)."""
        image = np.zeros(self.shape, np.uint8)
        column, row = (np.floor(points[:, :2] / self.resolution_m).astype(np.int64) - self.low).T
        image[row, column] = 1
        return image

    def paint_ground(self, points: np.ndarray) -> np.ndarray:
        """The same of ground, with the cells between others of it."""
        return cv2.morphologyEx(self.paint(points), cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))

    def grid(self, cells: np.ndarray) -> Grid:
        return Grid(cells, self.low * self.resolution_m, self.resolution_m)
