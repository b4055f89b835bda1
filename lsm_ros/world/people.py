"""People who walk about in a building before the camera of a robot that drives through it, and give way to it.

Each goes from goal to goal over the free floor. The goals lie in what the camera will see in a moment, so that the
people are in its view most of the time. Free of torch.
"""
from __future__ import annotations

from dataclasses import replace
from random import Random

import cv2
import numpy as np

from lsm_ros.errors import InputError
from lsm_ros.world import things
from lsm_ros.world.materials import MaterialPool, TextureCatalogue
from lsm_ros.world.movers import Motions, Visitors, in_turns
from lsm_ros.world.parts import Maker
from lsm_ros.world.scene import CameraPath, Scene
from lsm_ros.world.space import Space
from lsm_ros.world.walks import BODY_M, CELL_M, Cell, FreeFloor

MOST_PEOPLE = 4
MATERIALS = 16                 # of one of them, at most
STEP_HZ = 8.0                  # a step is a cell: .8 m/s, or 1.1 m/s aslant
PACES = (1, 2, 3)              # who saunters takes every second or third step only: down to .27 m/s
CAMERA_M, OTHERS_M = .8, .7    # what they keep from the camera and from each other, step by step; smoothing takes some
HEIGHT_M = 1.2                 # up to .3 m above it the floor has to be free for them
SMOOTH_S = .3                  # corners are cut
SEEN_M = (1.3, 4.5)            # of the camera, where they like to go
AHEAD_S = 3.0                  # it will have gone on when they get there
PATIENCE_S = 1.5               # who has waited so long goes elsewhere
HASTE_M = 2.0                  # who has farther to go takes every step
NEARBY_M = 1.2                 # goals are no nearer, if there are others


def with_people(scene: Scene, count: int, rng: Random, textures: TextureCatalogue | None = None) -> Scene:
    """The scene with so many people as its visitors, in place of those that it has. Raises InputError for a count
    outside 1..MOST_PEOPLE."""
    if not 1 <= count <= MOST_PEOPLE:
        raise InputError(f"{count} people; there can be 1 to {MOST_PEOPLE}")
    pool = MaterialPool(rng, textures, MATERIALS * count)
    visitors = Visitors(int(scene.instance.max()))
    visitors.invite([things.walker(Maker(rng, pool)) for _ in range(count)])
    people = visitors.scene(pool, scene.lights, scene.ambient)
    materials = np.concatenate([scene.materials, people.materials])
    people = replace(people, material=people.material + np.int32(len(scene.materials)), materials=materials)
    return replace(scene, materials=materials, visitors=people)


def walk_about(scene: Scene, path: CameraPath, rate: float, rng: np.random.Generator) -> Motions:
    """How the visitors of the scene walk while a camera takes a path's V views, `rate` a second: Motions (1,) of them.

    None of them comes nearer to the camera or to another than CAMERA_M and OTHERS_M, but for what smoothing takes.
    Raises InputError where there is no such way.
    """
    times = np.arange(len(path.T_world_cam)) / rate
    steps = np.arange(0, times[-1] + 1 / STEP_HZ, 1 / STEP_HZ)
    watch = Watch(Space(scene), path, rate)
    camera = np.stack([np.interp(steps, times, column) for column in path.T_world_cam[:, :2, 3].T], axis=1)
    names, gait = scene.visitors.poses, rng.spawn(1)[0]
    tracks, poses = [(camera, CAMERA_M)], []
    for figures in names:
        way = smoothed(stroll(watch, tracks, steps, rng))
        tracks.append((way, OTHERS_M))
        pose = np.concatenate([way, np.zeros((len(way), 1)), facing(way)[:, None]], axis=1)
        walk = np.stack([np.interp(times, steps, column) for column in pose.T], axis=1)
        poses.append(in_turns(walk, figures, gait.random()))
    return Motions(names.reshape(1, -1), np.zeros((1, names.size, 2), np.float32),
                   np.concatenate(poses, axis=1)[None].astype(np.float32))


class Watch:
    """The free floor of a building, and where on it a camera on its path sees somebody."""

    def __init__(self, space: Space, path: CameraPath, rate: float):
        self.space, self.path, self.rate = space, path, rate
        self.floor = FreeFloor(space, HEIGHT_M)
        # (2, X, Y) metres: the middles of the cells.
        self.cells = self.floor.origin[:, None, None] + (np.indices(self.floor.shape) + .5) * CELL_M
        # (X, Y): the parts of the floor between which furniture leaves no way; 0 is not free.
        self.parts = cv2.connectedComponents((self.floor.clear >= BODY_M).astype(np.uint8))[1]

    def at(self, cells: np.ndarray) -> np.ndarray:
        """The middles of cells (N, 2), metres."""
        return self.cells[:, cells[:, 0], cells[:, 1]].T

    def nearest(self, cells: np.ndarray, place: np.ndarray) -> Cell:
        """The one of cells (N, 2) that is nearest to a place (2,) in metres."""
        return tuple(cells[np.linalg.norm(self.at(cells) - place, axis=1).argmin()].tolist())

    def pose(self, seconds: float) -> np.ndarray:
        """(4, 4) T_world_cam so long after it set out, or the last one."""
        return self.path.T_world_cam[min(round(seconds * self.rate), len(self.path.T_world_cam) - 1)]

    def seen(self, seconds: float, among: np.ndarray) -> np.ndarray:
        """(N, 2) cells `among` those of a mask (X, Y) where the camera sees somebody `seconds` after it set out, some
        metres away."""
        T = self.pose(seconds)
        way = self.cells - T[:2, 3, None, None]
        distance = np.linalg.norm(way, axis=0)
        ahead = np.einsum("i,ixy->xy", T[:2, 2] / np.linalg.norm(T[:2, 2]), way)
        inside = ahead > distance * np.cos(.8 * np.arctan(.5 / self.path.focal))
        cells = np.argwhere(among & inside & (distance > SEEN_M[0]) & (distance < SEEN_M[1]))
        to_chest = np.insert(way[:, cells[:, 0], cells[:, 1]].T, 2, 1.1 - T[2, 3], axis=1)
        free, _ = self.space.cast(np.tile(T[:3, 3], (len(cells), 1)), to_chest)
        return cells[free > 1]


def stroll(watch: Watch, tracks: list[tuple[np.ndarray, float]], steps: np.ndarray, rng: np.random.Generator
           ) -> np.ndarray:
    """(S, 2) metres: where somebody is at each of the S `steps` (seconds) who keeps clear of `tracks`, (S, 2) and how
    far from it."""
    safe = safe_cells(watch, tracks, len(steps))
    if not safe[0].any():
        raise InputError("this scene has too little free floor for people beside the robot")
    part = watch.parts == np.bincount(watch.parts[safe[0]]).argmax()
    here = new_goal(watch, safe[0] & part, None, 0, rng)
    goal, way, onward, pace, waited = here, [here], {here: here}, 1, 0
    for k in range(1, len(steps)):
        if goal == here or waited > PATIENCE_S * STEP_HZ or (k % STEP_HZ == 0 and goal_passed(watch, goal, steps[k])):
            goal, waited = new_goal(watch, part, here, steps[k] + AHEAD_S, rng), 0
            # Who has far to go makes haste, for the camera goes on.
            pace = 1 if np.hypot(*np.subtract(goal, here)) * CELL_M > HASTE_M else int(rng.choice(PACES))
            onward = watch.floor.ways(goal)
        there = onward[here] if k % pace == 0 else here
        if not safe[k][there]:
            there, waited = here, waited + 1
        if not safe[k][there]:
            there = aside(watch, safe[k] & part, here, tracks[0][0][k])
        here = there
        way.append(here)
    return watch.at(np.array(way))


def safe_cells(watch: Watch, tracks: list[tuple[np.ndarray, float]], count: int) -> np.ndarray:
    """(count, X, Y) bool: the cells where somebody can be at a step and still keep clear of the tracks to the end."""
    free = watch.parts > 0
    safe, later = np.empty((count, *free.shape), bool), free
    for k in reversed(range(count)):
        later = cv2.dilate(later.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool) & free
        for track, apart_m in tracks:
            later &= np.linalg.norm(watch.cells - track[k, :, None, None], axis=0) > apart_m
        safe[k] = later
    return safe


def new_goal(watch: Watch, among: np.ndarray, here: Cell | None, seconds: float, rng: np.random.Generator) -> Cell:
    """A cell `among` those of a mask (X, Y) that the camera sees `seconds` after it set out, and a little away from
    `here`; the one nearest to the camera where it sees none."""
    seen = watch.seen(seconds, among)
    if not len(seen):
        return watch.nearest(np.argwhere(among), watch.pose(seconds)[:2, 3])
    away = seen if here is None else seen[np.linalg.norm(seen - here, axis=1) * CELL_M > NEARBY_M]
    return tuple(rng.choice(away if len(away) else seen).tolist())


def goal_passed(watch: Watch, goal: Cell, seconds: float) -> bool:
    """Whether the camera will soon see nobody at a goal."""
    alone = np.zeros(watch.parts.shape, bool)
    alone[goal] = True
    return not len(watch.seen(seconds + AHEAD_S, alone))


def aside(watch: Watch, safe: np.ndarray, here: Cell, camera: np.ndarray) -> Cell:
    """The safe one, of a mask (X, Y), of the cells about `here` that is farthest from the camera (2,)."""
    cells = np.argwhere(safe)
    cells = cells[abs(cells - here).max(axis=1) <= 1]
    return tuple(cells[np.linalg.norm(watch.at(cells) - camera, axis=1).argmax()].tolist())


def smoothed(way: np.ndarray) -> np.ndarray:
    """Gaussian over time of a way (S, 2) in steps."""
    reach = int(3 * SMOOTH_S * STEP_HZ)
    return cv2.GaussianBlur(way, (1, 2 * reach + 1), sigmaX=0, sigmaY=SMOOTH_S * STEP_HZ,
                            borderType=cv2.BORDER_REPLICATE)


def facing(way: np.ndarray) -> np.ndarray:
    """(S,) radians: the yaw of somebody who looks where a way (S, 2) leads, and on as before while standing."""
    speed = np.gradient(way, axis=0) * STEP_HZ
    known = np.flatnonzero(np.linalg.norm(speed, axis=1) > .1)
    if not len(known):
        return np.zeros(len(way))
    yaw = np.unwrap(np.arctan2(speed[known, 1], speed[known, 0])) - np.pi / 2               # a person faces y
    return np.interp(np.arange(len(way)), known, yaw)
