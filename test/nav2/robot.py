"""A differential-drive robot that knows the way from its costmap alone: A*, pure pursuit, and wheels that drift."""
from __future__ import annotations

import heapq
from dataclasses import dataclass, field

import cv2
import numpy as np

from lsm_ros.geometry.sim3 import exp_so3, sim3

RADIUS_M = 0.18
MARGIN_M = 0.10            # kept between the footprint and what the costmap shows
SHY_M = 0.35               # beyond the footprint: nearer to obstacles a way costs more
LOOKAHEAD_M = 0.35
STEP_M, STEP_RAD = 0.12, 0.25
AHEAD_RAD = 0.5            # what lies farther aside is turned to on the spot
ARRIVED_M = 0.15

NEIGHBOURS = [(dx, dy, float(np.hypot(dx, dy))) for dx in (-1, 0, 1) for dy in (-1, 0, 1) if dx or dy]


def clearance(obstacles: np.ndarray, resolution_m: float) -> np.ndarray:
    """(X, Y) metres from the middle of each cell to that of the nearest obstacle (X, Y) bool."""
    if not obstacles.any():
        return np.full(obstacles.shape, np.inf, np.float32)
    return cv2.distanceTransform((~obstacles).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE) * resolution_m


def plan(obstacles: np.ndarray, resolution_m: float, start: tuple[int, int], goal: tuple[int, int],
         needed_m: float = RADIUS_M + MARGIN_M) -> list[tuple[int, int]] | None:
    """The cells of the cheapest way (A*, Hart 1968) that keeps `needed_m` clear; None where there is none.

    The start may be nearer to an obstacle: one may always go away from it.
    """
    clear = clearance(obstacles, resolution_m)
    blocked = clear < min(needed_m, float(clear[start]))
    dear = 1 + 3 * np.clip(1 - (clear - needed_m) / SHY_M, 0, 1)
    cost, before, done = {start: 0.0}, {start: start}, set()
    queue = [(0.0, start)]
    while queue:
        _, cell = heapq.heappop(queue)
        if cell == goal:
            way = [goal]
            while way[-1] != start:
                way.append(before[way[-1]])
            return way[::-1]
        if cell in done:
            continue
        done.add(cell)
        for dx, dy, length in NEIGHBOURS:
            there = (cell[0] + dx, cell[1] + dy)
            if not (0 <= there[0] < blocked.shape[0] and 0 <= there[1] < blocked.shape[1]) or blocked[there]:
                continue
            total = cost[cell] + length * float(dear[there])
            if total < cost.get(there, np.inf):
                cost[there], before[there] = total, cell
                heapq.heappush(queue, (total + np.hypot(there[0] - goal[0], there[1] - goal[1]), there))
    return None


def steer(xy: np.ndarray, yaw: float, way: np.ndarray) -> tuple[float, float]:
    """(metres ahead, radians to the left) of the next step along the way (N, 2): pure pursuit (Coulter 1992)."""
    gaps = np.linalg.norm(way - xy, axis=1)
    nearest = int(gaps.argmin())
    far = nearest + np.flatnonzero(gaps[nearest:] >= LOOKAHEAD_M)
    target = way[far[0]] if len(far) else way[-1]
    aside = (np.arctan2(*(target - xy)[::-1]) - yaw + np.pi) % (2 * np.pi) - np.pi
    if abs(aside) > AHEAD_RAD:
        return 0.0, float(np.clip(aside, -STEP_RAD, STEP_RAD))
    distance = float(np.linalg.norm(target - xy))
    ahead = min(STEP_M, distance)
    return ahead, float(2 * np.sin(aside) / max(distance, 1e-6) * ahead)


@dataclass
class Robot:
    """Where the robot truly is, and where its wheels say that it is."""
    xy: np.ndarray                       # (2,) metres, world
    yaw: float                           # radians
    drift: float = 0.02                  # share by which the wheels tell too much
    odom_xy: np.ndarray = field(default_factory=lambda: np.zeros(2))
    odom_yaw: float = 0.0

    def move(self, ahead_m: float, turn: float) -> list[np.ndarray]:
        """Drives an arc; returns the true positions (2,) on it."""
        track, parts = [], max(1, int(np.ceil(ahead_m / 0.03)))
        for _ in range(parts):
            self.xy, self.yaw = advanced(self.xy, self.yaw, ahead_m / parts, turn / parts)
            told = (1 + self.drift) * ahead_m / parts, (1 - self.drift / 2) * turn / parts
            self.odom_xy, self.odom_yaw = advanced(self.odom_xy, self.odom_yaw, *told)
            track.append(self.xy)
        return track

    @property
    def T_world_base(self) -> np.ndarray:
        return in_plane(self.xy, self.yaw)

    @property
    def T_odom_base(self) -> np.ndarray:
        return in_plane(self.odom_xy, self.odom_yaw)


def advanced(xy: np.ndarray, yaw: float, ahead: float, turn: float) -> tuple[np.ndarray, float]:
    middle = yaw + turn / 2
    return xy + ahead * np.array([np.cos(middle), np.sin(middle)]), yaw + turn


def in_plane(xy: np.ndarray, yaw: float) -> np.ndarray:
    """(4, 4) pose on the floor."""
    return sim3(exp_so3(np.array([0, 0, yaw])), np.array([*xy, 0.0]))
