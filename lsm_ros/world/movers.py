"""What moves while a camera looks: people who walk through, and things that are put elsewhere between two views.

A scene has visitors, objects that stand nowhere until they are placed, and things that could be moved. Along each
camera path some of them get a pose for each view. Free of torch, as the processes that make worlds are.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from lsm_ros.world.parts import label_indices
from lsm_ros.world.scene import CameraPath, Scene
from lsm_ros.world.space import Space

VISITORS = 2                # of a scene, at most
MOVED = 2                   # things that are moved along a path, at most
BODIES = VISITORS + MOVED
MOVABLE = ("chair", "armchair", "stool", "box", "bag", "person", "object")
MOVED_M = .05               # what is elsewhere by less stands still
AWAY_M = -100.0             # the height of who is not there: below all floors
STEP_M = (.05, 1.0)         # that a walker goes between two views, log-uniform
STANDING = .2               # of the visitors only turn on the spot
NEAR_M = .6                 # walkers keep so far from the camera
WIDTH_M = .22               # half of a walker's, who gets through where so much is clear
HEIGHTS_M = (.4, 1.2)       # at which it has to be
REACH_M = .25               # a turn by so many radians shifts a thing by its angle times this, in the mean


@dataclass(frozen=True)
class Motions:
    """How up to BODIES objects of a scene move along its camera paths, (..., C) of V views; those that are -1 are none.

    An object is moved from where it rests, `pivot`, to `pose` x, y, lifted by z, and turned about the vertical there.
    """
    instance: np.ndarray    # (..., C, BODIES) int32
    pivot: np.ndarray       # (..., C, BODIES, 2) float32, metres
    pose: np.ndarray        # (..., C, V, BODIES, 4) float32: x, y, z in metres, yaw

    @classmethod
    def random(cls, scene: Scene, paths: list[CameraPath], rng: np.random.Generator) -> Motions:
        """Of the C paths of a scene: visitors walk where the camera sees them, if there is room; along half of them a
        thing that it sees is moved, or two."""
        space = Space(scene)
        visitors = [] if scene.visitors is None else np.unique(scene.visitors.instance).tolist()
        things = movable(scene)
        C, V = len(paths), len(paths[0].T_world_cam)
        instance = np.full((C, BODIES), -1, np.int32)
        pivot = np.zeros((C, BODIES, 2), np.float32)
        pose = np.zeros((C, V, BODIES, 4), np.float32)
        for path, names, rests, moves in zip(paths, instance, pivot, pose, strict=True):
            names[:len(visitors)] = visitors
            for body in range(len(visitors)):
                walk = random_walk(space, path, rng) if rng.random() < (.85, .5)[body > 0] else None
                moves[:, body] = (0, 0, AWAY_M, 0) if walk is None else walk
            seen = [thing for thing in things if in_sight(path, thing[1])]
            count = int(rng.choice((0, 1, MOVED), p=(.5, .3, .2)))
            for body in range(VISITORS, VISITORS + min(count, len(seen))):
                names[body], rests[body] = seen.pop(int(rng.integers(len(seen))))
                moves[:, body] = random_shift(space, rests[body], V, rng)
        return cls(instance, pivot, pose)

    @classmethod
    def empty(cls, *shape: int, views: int) -> Motions:
        """Nothing moves along paths of that shape."""
        return cls(np.full((*shape, BODIES), -1, np.int32), np.zeros((*shape, BODIES, 2), np.float32),
                   np.zeros((*shape, views, BODIES, 4), np.float32))

    @classmethod
    def stacked(cls, motions: Sequence[Motions]) -> Motions:
        """Those of several scenes as one."""
        return cls(*(np.stack([getattr(each, field.name) for each in motions]) for field in fields(cls)))

    def of(self, *chosen: np.ndarray) -> Motions:
        """Some paths, by their indices."""
        return Motions(self.instance[chosen], self.pivot[chosen], self.pose[chosen])

    def put(self, places: slice | np.ndarray, others: Motions) -> None:
        """Overwrites those at some places."""
        for field in fields(self):
            getattr(self, field.name)[places] = getattr(others, field.name)

    def T_world_rest(self) -> np.ndarray:
        """(..., V, BODIES, 3, 4) float32: from where things rest to where they are."""
        c, s = np.cos(self.pose[..., 3]), np.sin(self.pose[..., 3])
        T = np.zeros((*c.shape, 3, 4), np.float32)
        T[..., 0, 0], T[..., 0, 1], T[..., 1, 0], T[..., 1, 1], T[..., 2, 2] = c, -s, s, c, 1
        rest = np.concatenate([self.pivot, np.zeros_like(self.pivot[..., :1])], axis=-1)[..., None, :, :]
        T[..., 3] = self.pose[..., :3] - (T[..., :3] @ rest[..., None])[..., 0]
        return T

    def displacements(self) -> np.ndarray:
        """(..., V, V, 1 + BODIES) float32 metres: how far each is elsewhere in one view than in another; the first, the
        world, is never."""
        apart = self.pose[..., :, None, :, :] - self.pose[..., None, :, :, :]
        turn = abs((apart[..., 3] + np.pi) % (2 * np.pi) - np.pi)
        moved = np.linalg.norm(apart[..., :3], axis=-1) + REACH_M * turn
        moved = np.where(self.instance[..., None, None, :] >= 0, moved, 0)
        return np.concatenate([np.zeros_like(moved[..., :1]), moved], axis=-1).astype(np.float32)


def movable(scene: Scene) -> list[tuple[int, np.ndarray]]:
    """The instances that somebody could carry or push, with the middle (2,) of each."""
    names = label_indices()
    labels = [names[name] for name in MOVABLE]
    found = []
    for instance in np.unique(scene.instance[np.isin(scene.label, labels) & (scene.instance > 0)]):
        parts = scene.T_world_prim[scene.instance == instance].astype(np.float64)
        extent = abs(parts[:, :, :3]).sum(axis=2)
        low, high = (parts[:, :, 3] - extent).min(axis=0), (parts[:, :, 3] + extent).max(axis=0)
        if low[2] < .1 and (high - low)[:2].max() < 1.2:
            found.append((int(instance), (low + high)[:2] / 2))
    return found


def in_sight(path: CameraPath, place: np.ndarray) -> bool:
    """Whether two views or more look towards the place (2,) from less than five metres."""
    way = np.append(place, .5) - path.T_world_cam[:, :3, 3]
    distance = np.linalg.norm(way, axis=1)
    ahead = (way * path.T_world_cam[:, :3, 2]).sum(axis=1)
    return bool(((ahead > .8 * distance) & (distance < 5)).sum() >= min(2, len(way)))


def random_shift(space: Space, rest: np.ndarray, views: int, rng: np.random.Generator) -> np.ndarray:
    """(V, 4): it stands where it was up to some view and elsewhere from then on, or is pushed there view by view."""
    ways = rng.uniform(.1, .9, (6, 1)) * [(np.cos(a), np.sin(a)) for a in rng.uniform(-np.pi, np.pi, 6)]
    points = np.concatenate([rest + ways, np.full((6, 1), .5)], axis=1)
    way = ways[space.clearance(points).argmax()]
    turn = rng.normal(0, .8)
    done = np.linspace(0, 1, views) if rng.random() < .4 else (np.arange(views) >= rng.integers(1, max(views, 2))) * 1.0
    return np.concatenate([rest + done[:, None] * way, np.zeros((views, 1)), done[:, None] * turn], axis=1)


def random_walk(space: Space, path: CameraPath, rng: np.random.Generator, tries: int = 24) -> np.ndarray | None:
    """(V, 4) poses of somebody who goes straight on through what one of the views shows; None where nobody fits."""
    T = path.T_world_cam
    view = rng.integers(len(T), size=tries)
    forward = T[view, :3, 2]
    reach = np.arctan(.5 / path.focal)
    yaw = np.arctan2(forward[:, 1], forward[:, 0]) + rng.uniform(-.9, .9, tries) * reach
    distance = np.exp(rng.uniform(np.log(.9), np.log(5.0), tries))
    ahead = np.stack([np.cos(yaw), np.sin(yaw), np.zeros(tries)], axis=1)
    start = T[view, :3, 3] + distance[:, None] * ahead
    to_chest = start * (1, 1, 0) + (0, 0, 1.1) - T[view, :3, 3]
    free, _ = space.cast(T[view, :3, 3], to_chest)
    good = np.flatnonzero(clear(space, start[:, :2]) & (free > 1) & (distance > NEAR_M))
    if not len(good):
        return None
    view, start = int(view[good[0]]), start[good[0], :2]
    stands = rng.random() < STANDING
    step = 0.0 if stands else np.exp(rng.uniform(*np.log(STEP_M)))
    course = rng.uniform(-np.pi, np.pi, 8)
    ways = np.stack([np.cos(course), np.sin(course)], axis=1)
    since = np.arange(len(T)) - view
    places = start + since[:, None] * step * ways[:, None]                                    # (8, V, 2)
    apart = np.linalg.norm(places - T[:, :2, 3], axis=2) > NEAR_M
    free = clear(space, places.reshape(-1, 2)).reshape(apart.shape) & apart
    free[:, view] = True
    # The first and the last view up to which the way is free.
    before = view - np.cumprod(free[:, :view][:, ::-1], axis=1).sum(axis=1)
    after = view + np.cumprod(free[:, view + 1:], axis=1).sum(axis=1)
    chosen = int((after - before + rng.uniform(0, 1.5, 8)).argmax())
    places = places[chosen, np.clip(np.arange(len(T)), before[chosen], after[chosen])]
    facing = course[chosen] - np.pi / 2 if rng.random() < .75 else rng.uniform(-np.pi, np.pi)
    turning = rng.normal(0, .3) * np.arange(len(T)) if stands else rng.normal(0, .1, len(T))
    return np.concatenate([places, np.zeros((len(T), 1)), (facing + turning)[:, None]], axis=1)


def clear(space: Space, places: np.ndarray) -> np.ndarray:
    """(N, 2) -> (N,) bool: somebody could stand there."""
    points = np.concatenate([np.insert(places, 2, height, axis=1) for height in HEIGHTS_M])
    return (space.clearance(points).reshape(len(HEIGHTS_M), -1) > WIDTH_M).all(axis=0)
