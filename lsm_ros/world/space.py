"""The free space of a scene: where a camera or a robot can be, how far it sees, and what."""
from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lsm_ros.world.parts import label_indices
from lsm_ros.world.scene import Scene

CLEARANCE_M = .25
OPTIONS = 8                    # directions that are tried at a place
FAR_M = 30.0                   # farther than any wall
WALL = -1 - label_indices()["wall"]     # its kind in a Space


class Space:
    """The free space of a scene: a primitive is taken for the box around it, and what is under 20 cm does not count."""

    def __init__(self, scene: Scene):
        half = np.linalg.norm(scene.T_world_prim[:, :, :3], axis=1)  # (P, 3)
        large = half.max(axis=1) > .1
        half, T_world_prim = half[large], scene.T_world_prim[large]
        label, instance = scene.label[large], scene.instance[large]
        axes = T_world_prim[:, :, :3] / half[:, None]
        # Blocks of x, y, z rather than triples: numpy is slow along an axis of three.
        self.half = half.T.ravel()  # (3P,)
        self.axes = axes.transpose(1, 2, 0).reshape(3, -1)  # (3, 3P): world -> boxes
        self.centre = np.einsum("pji,pj->ip", axes, T_world_prim[:, :, 3]).ravel()
        self.middle = T_world_prim[:, :, 3].astype(np.float64)
        self.kind = np.where(instance > 0, instance, -1 - label)  # (P,) one number an object
        self.things = np.flatnonzero((instance > 0) & (half.max(axis=1) > .12) & (self.middle[:, 2] < 1.8))
        floor, ceiling = (label == label_indices()[name] for name in ("floor", "ceiling"))
        floor &= half[:, 2] > .05                                    # a carpet that is laid on it is no other room
        size = abs(T_world_prim[floor, :, :3]).sum(axis=2)
        self.floors = np.concatenate([self.middle[floor] - size, self.middle[floor] + size], axis=1)[:, [0, 3, 1, 4]]
        self.height = float(self.middle[ceiling, 2].min()) - .1
        self.area = (self.floors[:, 1] - self.floors[:, 0]) * (self.floors[:, 3] - self.floors[:, 2])

    def clearance(self, points: np.ndarray) -> np.ndarray:
        """(N, 3) -> (N,): distance to the nearest surface, 0 within one and outside the building."""
        local = abs(points.astype(np.float32) @ self.axes - self.centre) - self.half
        np.maximum(local, 0, out=local)
        np.square(local, out=local)
        P = len(self.middle)
        distance = np.sqrt((local[:, :P] + local[:, P:2 * P] + local[:, 2 * P:]).min(axis=1))
        x, y, (x0, x1, y0, y1) = points[:, 0, None], points[:, 1, None], self.floors.T
        indoors = ((x > x0) & (x < x1) & (y > y0) & (y < y1)).any(axis=1)
        return np.where(indoors & (points[:, 2] > 0) & (points[:, 2] < self.height), distance, 0)

    def cast(self, origins: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(N, 3) rays -> (N,) the multiple of the direction at which each meets something, infinite where nothing, and
        (N,) what it meets."""
        o = origins.astype(np.float32) @ self.axes - self.centre
        d = directions.astype(np.float32) @ self.axes
        inverse = 1 / np.where(d == 0, np.float32(1e-9), d)
        middle, reach = o * inverse, self.half * abs(inverse)  # slabs: -middle +- reach
        before, after, P = middle + reach, reach - middle, len(self.middle)
        enter = -np.minimum(np.minimum(before[:, :P], before[:, P:2 * P]), before[:, 2 * P:])
        leave = np.minimum(np.minimum(after[:, :P], after[:, P:2 * P]), after[:, 2 * P:])
        distance = np.where((enter < leave) & (leave > 0), np.maximum(enter, 0), np.inf)
        first = distance.argmin(axis=1)
        return distance[np.arange(len(o)), first], first

    @cached_property
    def doors(self) -> np.ndarray:
        """(N, 4): points x, y in the openings between two rooms, and the unit vector that leads through."""
        found = []
        for i, (x0, x1, y0, y1) in enumerate(self.floors):
            for a0, a1, b0, b1 in self.floors[:i]:
                low, high = np.maximum((x0, y0), (a0, b0)), np.minimum((x1, y1), (a1, b1))
                axis = int((high - low).argmin())                    # they touch along the other one
                if abs(high - low)[axis] < .02 and high[1 - axis] - low[1 - axis] > .8:
                    line = np.arange(low[1 - axis] + .4, high[1 - axis] - .35, .04)
                    points = np.full((len(line), 3), (low + high)[axis] / 2 + .005)  # on a floor, not its edge
                    points[:, 1 - axis], points[:, 2] = line, 1.0
                    points = points[self.clearance(points) > CLEARANCE_M + .02, :2]
                    found.append(np.concatenate([points, np.tile(np.eye(2)[axis], (len(points), 1))], axis=1))
        return np.concatenate(found) if found else np.zeros((0, 4))

    def room_centre(self, points: np.ndarray) -> np.ndarray:
        """(N, 3) -> (N, 3): at the same height, the middle of the room that each is in, or of the nearest one."""
        x, y, (x0, x1, y0, y1) = points[:, 0, None], points[:, 1, None], self.floors.T
        outside = np.maximum(abs(x - (x0 + x1) / 2) - (x1 - x0) / 2, abs(y - (y0 + y1) / 2) - (y1 - y0) / 2)
        middle = self.floors[outside.argmin(axis=1)].reshape(-1, 2, 2).mean(axis=2)
        return np.concatenate([middle, points[:, 2:]], axis=1)

    def open_course(self, rng: np.random.Generator, points: np.ndarray) -> np.ndarray:
        """(K, 3) -> (K,): a direction about z, the likelier the farther one can go there."""
        yaw = rng.uniform(-np.pi, np.pi, (len(points), OPTIONS))
        ahead = np.stack([np.cos(yaw), np.sin(yaw), np.zeros_like(yaw)], axis=-1).reshape(-1, 3)
        distance, _ = self.cast(points.repeat(OPTIONS, axis=0), ahead)
        chosen = (np.minimum(distance, 8).reshape(yaw.shape) * rng.random(yaw.shape)).argmax(axis=1)
        return yaw[np.arange(len(points)), chosen]

    def worth_a_look(self, rng: np.random.Generator, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(K, 3) -> yaw (K,) and pitch (K,) from each point to some thing a few steps away, be it behind a wall; to the
        middle of the room that it is in where there is none."""
        if not len(self.things):
            return towards(points, self.room_centre(points))
        middle = self.middle[self.things]
        distance = np.linalg.norm(middle - points[:, None], axis=2)
        near = (distance > .8) & (distance < 4.5)
        chosen = (near + rng.random(distance.shape)).argmax(axis=1)
        return towards(points, middle[chosen])

    def places(self, rng: np.random.Generator, count: int, low: float, high: float) -> np.ndarray:
        """(count, 3): the freest of a handful of random places each, between two heights."""
        tries = 6
        room = rng.choice(len(self.floors), count * tries, p=self.area / self.area.sum())
        share = rng.random((count * tries, 2))
        rect = self.floors[room]
        xy = rect[:, [0, 2]] + share * (rect[:, [1, 3]] - rect[:, [0, 2]])
        z = rng.uniform(low, min(high, self.height - .3), (count, 1)).repeat(tries, axis=1).reshape(-1, 1)
        points = np.concatenate([xy, z], axis=1)
        clear = self.clearance(points).reshape(count, tries)
        enough = np.where(clear > CLEARANCE_M + .1, rng.random(clear.shape) + 1, clear)  # any that is free will do
        return points.reshape(count, tries, 3)[np.arange(count), enough.argmax(axis=1)]


@dataclass(frozen=True)
class Glimpse:
    """What R rays of each view of K paths of V views meet."""
    points: np.ndarray     # (K, V, R, 3) in the world
    depth: np.ndarray      # (K, V, R) metres, infinite where they meet nothing
    objects: np.ndarray    # (K, V) how many different ones they are
    walls: np.ndarray      # (K, V) the part of the rays that meet a wall


def glimpse(space: Space, T_world_cam: np.ndarray, focal: float) -> Glimpse:
    """A dozen rays of each 4:3 view (K, V, 4, 4)."""
    u, v = np.meshgrid((np.arange(4) + .5) / 4 - .5, ((np.arange(3) + .5) / 3 - .5) * .75)
    rays = np.stack([u.ravel() / focal, v.ravel() / focal, np.ones(u.size)], axis=-1)  # (R, 3), z = 1
    directions = rays @ np.swapaxes(T_world_cam[..., :3, :3], -1, -2)  # (K, V, R, 3)
    origins = np.broadcast_to(T_world_cam[..., None, :3, 3], directions.shape)
    depth, hit = space.cast(origins.reshape(-1, 3), directions.reshape(-1, 3))
    depth, kinds = depth.reshape(directions.shape[:3]), np.sort(space.kind[hit].reshape(directions.shape[:3]), axis=-1)
    points = origins + directions * np.minimum(depth, FAR_M)[..., None]
    return Glimpse(points, depth, 1 + (np.diff(kinds, axis=-1) != 0).sum(axis=-1), (kinds == WALL).mean(axis=-1))


def towards(position: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Yaw and pitch of the way from one to the other."""
    way = target - position
    return np.arctan2(way[..., 1], way[..., 0]), np.arctan2(way[..., 2], np.hypot(way[..., 0], way[..., 1]))
