"""What moves while a camera looks: people who walk through, and things that are put elsewhere between two views.

A scene has visitors, objects that stand nowhere until they are placed, and things that could be moved. Along each
camera path some of them get a pose for each view. Free of torch, as the processes that make worlds are.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from lsm_ros.world.materials import MaterialPool
from lsm_ros.world.parts import MAX_PRIMITIVES, Assembly, Piece, label_indices
from lsm_ros.world.scene import CameraPath, Scene
from lsm_ros.world.space import Space

VISITORS = 2                # of a scene, at most
MOVED = 2                   # things that are moved along a path, at most
POSES = 3                   # of a visitor who walks: he stands, and takes a step with either leg
BODIES = VISITORS * POSES + MOVED
MOVABLE = ("chair", "armchair", "stool", "box", "bag", "person", "object")
SEATS = ("sofa",)           # besides those of them on which people sit
MOVED_M = .05               # what is elsewhere by less stands still
AWAY_M = -100.0             # the height of who is not there: below all floors
STEP_M = (.05, 1.0)         # that a walker goes between two views, log-uniform
STANDING = .2               # of the visitors only turn on the spot
NEAR_M = .6                 # walkers keep so far from the camera
WIDTH_M = .22               # half of a walker's, who gets through where so much is clear
HEIGHTS_M = (.4, 1.2)       # at which it has to be
STRIDE_M = 1.3              # of two steps
TURNS = 1, 0, 2, 0          # the poses in which he takes them; between the steps his legs pass each other
GOING_M = .02               # who has gone less since the view before, and goes less to the next, stands
REACH_M = .25               # a turn by so many radians shifts a thing by its angle times this, in the mean


class Visitors(Assembly):
    """Who may come along: each at the origin, in one pose or in POSES, every one of them an instance."""

    def __init__(self, instances: int, room: int = MAX_PRIMITIVES):
        super().__init__(instances, room)
        self.poses: list[list[int]] = []

    def invite(self, guests: list[list[Piece]]) -> None:
        """Each of them, somebody in his poses or an object: in the first pose where there is room for it, and then in
        the others where there still is."""
        left, come = self.left(), []
        for pieces in guests:
            if len(pieces[0].parts) == pieces[0].count() <= left:
                come.append(pieces)
                left -= pieces[0].count()
        for pieces in come:
            if sum(piece.count() for piece in pieces[1:]) > left:
                pieces = pieces[:1]
            left -= sum(piece.count() for piece in pieces[1:])
            names = range(self.instances + 1, self.instances + 1 + len(pieces))
            self.poses.append([*names, *[-1] * (POSES - len(pieces))])
            for piece in pieces:
                self.add(piece)

    def scene(self, pool: MaterialPool, lights: np.ndarray, ambient: np.ndarray) -> Scene:
        return replace(super().scene(pool, lights, ambient), poses=np.array(self.poses, np.int32))


@dataclass(frozen=True)
class Motions:
    """How up to BODIES objects of a scene move along its camera paths, (..., C) of V views; those that are -1 are none.

    An object is moved from where it rests, `pivot`, to `pose` x, y, lifted by z, and turned about the vertical there.
    Each pose of a visitor is an object, all but one of which are away in a view: his legs move as he walks.
    """
    instance: np.ndarray    # (..., C, BODIES) int32
    pivot: np.ndarray       # (..., C, BODIES, 2) float32, metres
    pose: np.ndarray        # (..., C, V, BODIES, 4) float32: x, y, z in metres, yaw

    @classmethod
    def random(cls, scene: Scene, paths: list[CameraPath], rng: np.random.Generator) -> Motions:
        """Of the C paths of a scene: visitors walk where the camera sees them, if there is room; along half of them a
        thing that it sees is moved, or two."""
        space = Space(scene)
        visitors = np.empty((0, POSES), np.int32) if scene.visitors is None else scene.visitors.poses
        gait = rng.spawn(1)[0]                          # leaves what rng gives next as it is
        things = movable(scene)
        C, V = len(paths), len(paths[0].T_world_cam)
        instance = np.full((C, BODIES), -1, np.int32)
        pivot = np.zeros((C, BODIES, 2), np.float32)
        pose = np.zeros((C, V, BODIES, 4), np.float32)
        for path, names, rests, moves in zip(paths, instance, pivot, pose, strict=True):
            names[:visitors.size] = visitors.ravel()
            moves[:, :visitors.size, 2] = AWAY_M
            for body, figures in enumerate(visitors):
                walk = random_walk(space, path, rng) if rng.random() < (.85, .5)[body > 0] else None
                if walk is not None:
                    moves[:, POSES * body:][:, :POSES] = in_turns(walk, figures, gait.random())
            seen = [thing for thing in things if in_sight(path, thing[1])]
            count = int(rng.choice((0, 1, MOVED), p=(.5, .3, .2)))
            for body in range(BODIES - MOVED, BODIES - MOVED + min(count, len(seen))):
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
    """The instances that somebody could carry or push, with the middle (2,) of each; who sits stays where he is, and so
    does what he sits on."""
    names = label_indices()
    labels = [names[name] for name in (*MOVABLE, *SEATS)]
    boxes = {}
    for instance in np.unique(scene.instance[np.isin(scene.label, labels) & (scene.instance > 0)]).tolist():
        mine = scene.instance == instance
        parts = scene.T_world_prim[mine].astype(np.float64)
        extent = abs(parts[:, :, :3]).sum(axis=2)
        boxes[instance] = (scene.label[mine][0], (parts[:, :, 3] - extent).min(axis=0),
                           (parts[:, :, 3] + extent).max(axis=0))
    people = [box for box in boxes.items() if box[1][0] == names["person"]]
    seated = set()
    for person, (_, low, high) in people:
        for other, (_, bottom, top) in boxes.items():
            if other != person and (low < top).all() and (bottom < high).all():
                seated |= {person, other}
    return [(instance, (low + high)[:2] / 2) for instance, (label, low, high) in boxes.items()
            if instance not in seated and label in labels[:len(MOVABLE)]
            and low[2] < .1 and (high - low)[:2].max() < 1.2]


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


def in_turns(walk: np.ndarray, figures: np.ndarray, start: float) -> np.ndarray:
    """Where somebody's `figures` (P,), -1 for none, are in V views of his walk (V, 4): (V, P, 4), the one whose turn it
    is on the floor and the others far below. `start`: the share of a stride that is behind him in the first view."""
    step = np.linalg.norm(np.diff(walk[:, :2], axis=0), axis=1)
    goes = np.maximum(np.append(step, 0), np.insert(step, 0, 0)) > GOING_M
    strides = start + np.insert(np.cumsum(step), 0, 0) / STRIDE_M
    turn = np.where(goes & (figures >= 0).all(), np.take(TURNS, (strides * len(TURNS)).astype(int), mode="wrap"), 0)
    poses = walk[:, None].repeat(len(figures), axis=1)
    poses[..., 2] += AWAY_M * (np.arange(len(figures)) != turn[:, None])
    return poses


def clear(space: Space, places: np.ndarray) -> np.ndarray:
    """(N, 2) -> (N,) bool: somebody could stand there."""
    points = np.concatenate([np.insert(places, 2, height, axis=1) for height in HEIGHTS_M])
    return (space.clearance(points).reshape(len(HEIGHTS_M), -1) > WIDTH_M).all(axis=0)
