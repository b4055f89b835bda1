"""One long walk of a camera through a building: what a recording is made of."""
from __future__ import annotations

import heapq

import numpy as np
from scipy.ndimage import distance_transform_edt

from lsm_ros.errors import InputError
from lsm_ros.world.cameras import LOW_CLEARANCE, poses, random_focal
from lsm_ros.world.scene import CameraPath, Scene
from lsm_ros.world.space import Space, glimpse

CELL_M = .1
BODY_M = .30                   # how far the walker's middle keeps from things
STRIDE_HZ = 1.7
ATTEMPTS = 12

Cell = tuple[int, int]


def smooth_walk(scene: Scene, rng: np.random.Generator, seconds: float, rate: float, *, height_m: float = 1.25,
                speed_mps: float = .5, turn_radps: float = .6, focal: float | None = None) -> CameraPath:
    """A steady walk from room to room, through the doors, looking where it goes and a little around.

    Of several walks it is the one that sees most.

    Args:
        rate: views a second.
        height_m: of the camera over the floor.
        speed_mps, turn_radps: neither is exceeded by more than a swaying hand adds; tight turns are walked slowly.
        focal: focal length / image width, None: random.
    Raises InputError where the scene has no place to walk.
    """
    space = Space(scene)
    free, focal = FreeFloor(space, height_m), random_focal(rng) if focal is None else focal
    walks = [walk(free.tour(rng, 1.3 * seconds * speed_mps), rng, seconds, rate, height_m, speed_mps, turn_radps)
             for _ in range(ATTEMPTS)]
    T_world_cam = max(walks, key=lambda T: interest(space, T[::max(1, round(rate / 2))], focal))
    return CameraPath(T_world_cam, focal, "walk")


def interest(space: Space, T_world_cam: np.ndarray, focal: float) -> float:
    """How much the views of a walk (V, 4, 4) show: objects in the picture, and no wall that fills it."""
    seen = glimpse(space, T_world_cam[None], focal)
    return float(np.mean(np.minimum(seen.objects, 5)) + np.mean(np.minimum(np.median(seen.depth, axis=2), 2.0)))


def walk(way: np.ndarray, rng: np.random.Generator, seconds: float, rate: float, height_m: float, speed_mps: float,
         turn_radps: float) -> np.ndarray:
    """The poses T_world_cam (V, 4, 4) of somebody who follows a way over the floor (N, 2) of FreeFloor.spacing_m."""
    spacing = FreeFloor.spacing_m
    way = smooth(way, .22)
    step = np.linalg.norm(np.diff(way, axis=0), axis=1)
    ahead = way[np.minimum(np.arange(len(way)) + round(.5 / spacing), len(way) - 1)] - way
    known = np.flatnonzero(np.linalg.norm(ahead, axis=1) > .1)      # not where the way turns back, nor at its end
    yaw = np.interp(np.arange(len(way)), known, np.unwrap(np.arctan2(ahead[known, 1], ahead[known, 0])))
    yaw = smooth(yaw[:, None], .35)[:, 0]
    glance = smooth(rng.normal(0, 1, (len(way), 1)), .9)[:, 0]
    yaw = yaw + .35 * glance / max(abs(glance).max(), 1e-9)

    clock = np.concatenate([[0], np.cumsum(np.maximum(step / speed_mps, abs(np.diff(yaw)) / turn_radps))])
    if clock[-1] < seconds:
        raise InputError(f"the way through this scene takes {clock[-1]:.1f} s at {speed_mps} m/s, not {seconds} s")
    t = np.arange(round(seconds * rate)) / rate
    pace = 2 * np.pi * STRIDE_HZ * t
    x, y, yaw = (np.interp(t, clock, values) for values in (way[:, 0], way[:, 1], yaw))
    phase = rng.uniform(0, 2 * np.pi, 4)
    z = height_m + .010 * np.sin(pace + phase[0])
    pitch = -.13 + .05 * np.sin(.5 * t + phase[1]) + .006 * np.sin(pace + phase[2])
    roll = .012 * np.sin(pace / 2 + phase[3])
    return poses(np.stack([x, y, z], axis=-1), np.stack([yaw, pitch, roll], axis=-1))


def smooth(values: np.ndarray, sigma_m: float) -> np.ndarray:
    """Gaussian along the way; (N, D) at FreeFloor.spacing_m. The ends stay where they are."""
    reach = int(3 * sigma_m / FreeFloor.spacing_m)
    weights = np.exp(-.5 * (np.arange(-reach, reach + 1) * FreeFloor.spacing_m / sigma_m) ** 2)
    padded = np.concatenate([np.repeat(values[:1], reach, axis=0), values, np.repeat(values[-1:], reach, axis=0)])
    return np.stack([np.convolve(column, weights / weights.sum(), "valid") for column in padded.T], axis=1)


class FreeFloor:
    """Where a walker of a given height can stand: a grid of cells with their distance to the nearest thing."""
    spacing_m = .02            # of the points of a tour

    def __init__(self, space: Space, height_m: float):
        low, high = space.floors[:, [0, 2]].min(axis=0), space.floors[:, [1, 3]].max(axis=0)
        self.origin = low
        self.shape = tuple(np.ceil((high - low) / CELL_M).astype(int))
        xy = low + (np.indices(self.shape).reshape(2, -1).T + .5) * CELL_M
        clear = np.full(len(xy), np.inf)
        for z in np.arange(.5, max(height_m, BODY_M) + .3, .3):     # what is flat can be stepped over
            clear = np.minimum(clear, clearance(space, xy, z))
        self.clear = clear.reshape(self.shape)
        if height_m < .5 - BODY_M:                                  # but not by a camera that is no higher
            free = (clearance(space, xy, height_m) > LOW_CLEARANCE * height_m).reshape(self.shape)
            self.clear = np.minimum(self.clear, CELL_M * distance_transform_edt(free))
        self.room = np.full(self.shape, -1)
        for k, (x0, x1, y0, y1) in enumerate(space.floors):
            inside = (xy[:, 0] > x0) & (xy[:, 0] < x1) & (xy[:, 1] > y0) & (xy[:, 1] < y1)
            self.room[inside.reshape(self.shape)] = k

    def tour(self, rng: np.random.Generator, length_m: float) -> np.ndarray:
        """(N, 2) world points, spacing_m apart, at least `length_m` long: from room to room as far as doors lead."""
        return self.even([cell for leg in self.routes(rng, length_m) for cell in leg])

    def legs(self, rng: np.random.Generator, length_m: float) -> list[np.ndarray]:
        """The same tour in its parts from goal to goal; each begins where the one before ends."""
        routes = self.routes(rng, length_m)
        return [self.even([before[-1], *route]) for before, route in zip(routes, routes[1:], strict=False)]

    def even(self, cells: list[Cell]) -> np.ndarray:
        """(N, 2) world points, spacing_m apart, along the middles of the cells."""
        points = self.origin + (np.array(cells) + .5) * CELL_M
        at = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
        even = np.arange(0, at[-1], self.spacing_m)
        return np.stack([np.interp(even, at, points[:, k]) for k in (0, 1)], axis=1)

    def routes(self, rng: np.random.Generator, length_m: float) -> list[list[Cell]]:
        """The first cell of a tour, and then the cells from one goal to the next."""
        cells = np.argwhere(self.clear > BODY_M + .1)
        if not len(cells):
            raise InputError("this scene has no free floor to walk on")
        reached = self.ways(tuple(cells[rng.integers(len(cells))]))
        start = max(reached, key=lambda cell: (self.room[cell] == self.room[tuple(cells[0])], self.clear[cell]))
        routes, here, visited = [[start]], start, {int(self.room[start])}
        while sum(map(len, routes)) * CELL_M < length_m + CELL_M:
            before = self.ways(here)
            goals = [cell for cell in before if self.clear[cell] > BODY_M + .05 and far(cell, here) > 1.5 / CELL_M]
            goals = goals or list(before)
            fresh = [cell for cell in goals if int(self.room[cell]) not in visited] or goals
            goal = fresh[rng.integers(len(fresh))]
            visited = visited | {int(self.room[goal])} if fresh is not goals else {int(self.room[goal])}
            leg = [goal]
            while leg[-1] != here:
                leg.append(before[leg[-1]])
            if len(leg) < 2:
                raise InputError("the free floor of this scene is too small to walk on")
            routes.append(leg[-2::-1])
            here = goal
        return routes

    def ways(self, start: Cell) -> dict[Cell, Cell]:
        """Dijkstra: each cell that can be reached -> the one before it, on ways that like to keep clear of things."""
        cost, before, queue, done = {start: 0.0}, {start: start}, [(0.0, start)], set()
        while queue:
            so_far, cell = heapq.heappop(queue)
            if cell in done:
                continue
            done.add(cell)
            for dx, dy, length in ((1, 0, 1), (-1, 0, 1), (0, 1, 1), (0, -1, 1), (1, 1, 1.414), (1, -1, 1.414),
                                   (-1, 1, 1.414),
                                   (-1, -1, 1.414)):
                there = (cell[0] + dx, cell[1] + dy)
                if not (0 <= there[0] < self.shape[0] and 0 <= there[1] < self.shape[1]) or self.clear[there] < BODY_M:
                    continue
                total = so_far + length * (1 + .6 / self.clear[there])
                if total < cost.get(there, np.inf):
                    cost[there], before[there] = total, cell
                    heapq.heappush(queue, (total, there))
        return before


def clearance(space: Space, xy: np.ndarray, z: float) -> np.ndarray:
    """(N,): of the points (N, 2) at one height, in parts: all at once they would take gigabytes."""
    points = np.concatenate([xy, np.full((len(xy), 1), z)], axis=1)
    return np.concatenate([space.clearance(part) for part in np.array_split(points, 64)])


def far(a: Cell, b: Cell) -> float:
    return max(abs(a[0] - b[0]), abs(a[1] - b[1]))
