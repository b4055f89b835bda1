"""Cameras that move through a scene like robots and like hands.

Poses are T_world_cam with OpenCV axes (x right, y down, z forward). Angles: yaw about world z from +x, pitch upwards,
roll clockwise as the camera sees it; radians.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from lsm_ros.errors import InputError
from lsm_ros.world.scene import CameraPath, Scene
from lsm_ros.world.space import CLEARANCE_M, FAR_M, OPTIONS, Space, glimpse, towards

KINDS = ("drive", "turn", "look", "hand", "roam", "door", "orbit", "back", "jump", "cut", "low")
KIND_WEIGHTS = (.12, .06, .05, .17, .16, .08, .17, .05, .06, .08, 0)    # "low" only where it is asked for
STEP_M = (.02, 1.6)            # between consecutive views, log-uniform
STEP_RAD = (.018, 1.22)
ABRUPT_RAD = 1.9               # no step turns by more, be it to get round things
ORBIT_RAD = .65                # the largest step around an object
ROAM_RAD = (.4, 1.25)           # between the views of somebody who looks about; many of them share little
HEAD_M = (1.4, 1.85)            # heights of a camera on a head, or held before a face
STEEP_RAD = .44                 # below the horizon
LOW_M = (.06, .4)               # heights of a camera on a small robot, log-uniform
LOW_CLEARANCE = .8              # of its height, which is how far it keeps clear of the floor and everything else
CANDIDATES = 6                 # drawn at once
REACH = np.array((1, 1, 1, 1, .9, .75, .6, .4))  # how much of its length a step takes in each direction that it tries
ROUNDS = 12

WHOLE = KINDS[:KINDS.index("cut")]
ALONE = np.array(KIND_WEIGHTS[:len(WHOLE)]) / sum(KIND_WEIGHTS[:len(WHOLE)])  # the parts of a cut are of these kinds

Motion = tuple[np.ndarray, np.ndarray]
"""Positions (K, V, 3) and angles (K, V, 3): yaw, pitch, roll."""


def camera_path(scene: Scene, rng: np.random.Generator, views: int = 8, kind: str | None = None) -> CameraPath:
    """A camera that moves in the free space of a scene and looks at something; of any of KINDS but "low", unless it is
    asked for.

    One path in five sees at least a tenth of each view in the next one, the others may lose sight of everything; "cut"
    goes on elsewhere. Where no path of the wanted kind is found a turn on the spot is, at the freest place that turned
    up. Raises InputError for a kind that does not exist.
    """
    if kind is not None and kind not in KINDS:
        raise InputError(f"no kind of camera path {kind!r}; there are {', '.join(KINDS)}")
    kind = kind or str(rng.choice(KINDS, p=KIND_WEIGHTS))
    space = Space(scene)
    focal = random_focal(rng)
    if kind == "cut":
        first = int(rng.integers(1, max(views, 2)))
        T_world_cam = np.concatenate([find(space, rng, str(rng.choice(WHOLE, p=ALONE)), part, focal)
                                      for part in (first, views - first) if part])
    else:
        T_world_cam = find(space, rng, kind, views, focal)
    return CameraPath(T_world_cam, focal, kind)


def random_focal(rng: np.random.Generator) -> float:
    """Focal length / image width: mostly phones and depth cameras, sometimes anything from 40 to 110 degrees."""
    degrees = rng.normal(64, 8) if rng.random() < .55 else rng.uniform(40, 110)
    return float(.5 / np.tan(np.radians(np.clip(degrees, 40, 110)) / 2))


@dataclass(frozen=True)
class Demands:
    """What the views of a path have to show. Left to chance, a camera in a room sees mostly walls at one distance."""
    focal: float           # / image width
    closest_m: float       # the median depth of no view is below it
    objects: float         # so many different ones are in a view, in the mean
    walls: float           # at most this part of the views is wall
    farthest_m: float      # so deep is the deepest part of a view, in the mean
    foreground: float      # half of the views have something nearer than this part of their median depth; 1: whatever
    held_m: float          # a camera that looks down steeply is at least so high: people hold it
    nearest_m: float = .2  # nothing in a view is nearer

    @classmethod
    def random(cls, rng: np.random.Generator, focal: float) -> Demands:
        if rng.random() < .15:      # down at a floor, however little stands on it: then the size of things is told by
                                    # nothing but how cameras are held
            return cls(focal, closest_m=rng.uniform(.8, 1.6), objects=1.0, walls=.17, farthest_m=0.0, foreground=1.0,
                       held_m=rng.choice((.6, 1.0), p=(.3, .7)))
        return cls(focal, closest_m=np.exp(rng.uniform(np.log(.4), np.log(2.0))),
                   objects=rng.choice((1.0, 3.0, 4.5), p=(.08, .47, .45)),
                   walls=rng.choice((1.0, .42, .25), p=(.3, .35, .35)),
                   farthest_m=rng.uniform(3.5, 9.0) if rng.random() < .5 else 0.0,
                   foreground=rng.choice((1.0, .5), p=(.5, .5)), held_m=rng.choice((0.0, 1.0, 1.3), p=(.25, .35, .4)))

    @classmethod
    def of_low(cls, rng: np.random.Generator, focal: float) -> Demands:
        """What a small robot sees: the floor at its feet, and things that it stands right before."""
        return cls(focal, closest_m=np.exp(rng.uniform(np.log(.3), np.log(1.2))),
                   objects=rng.choice((1.0, 2.5, 4.0), p=(.3, .4, .3)), walls=rng.choice((1.0, .5), p=(.4, .6)),
                   farthest_m=rng.uniform(2.5, 7.0) if rng.random() < .5 else 0.0, foreground=1.0, held_m=0.0,
                   nearest_m=.06)

    def eased(self, ease: float) -> Demands:
        """`ease` of 1 asks for all of it, less for less."""
        return replace(self, closest_m=self.closest_m * ease ** 2, objects=self.objects * ease, walls=self.walls / ease,
                       farthest_m=self.farthest_m * ease ** 2, foreground=min(self.foreground / ease, 1.0),
                       held_m=self.held_m * ease)

    def met(self, space: Space, T_world_cam: np.ndarray, share: tuple[float, float] | None = None) -> np.ndarray:
        """(K, V, 4, 4) -> (K,) bool: nothing fills the picture from near by, what is asked for is there, and the parts
        of the views that lie in the next view's image are larger than `share`: the smallest of them, and their mean."""
        seen = glimpse(space, T_world_cam, self.focal)
        typical = np.median(seen.depth, axis=2)
        good = (seen.depth.min(axis=(1, 2)) > self.nearest_m) & (typical.min(axis=1) > self.closest_m)
        good &= seen.objects.mean(axis=1) > self.objects
        if self.objects > 1.5:
            good &= (seen.objects < 2).mean(axis=1) < .25            # few views of nothing but a wall
        good &= seen.walls.mean(axis=1) <= self.walls
        good &= np.minimum(seen.depth.max(axis=2), FAR_M).mean(axis=1) >= self.farthest_m
        if self.foreground < 1:
            good &= (seen.depth.min(axis=2) < self.foreground * typical).mean(axis=1) >= .5
        steep = T_world_cam[..., 2, 2].mean(axis=1) < -np.sin(STEEP_RAD)
        good &= ~steep | (T_world_cam[..., 2, 3].mean(axis=1) >= self.held_m)
        if share is None or T_world_cam.shape[1] < 2:
            return good
        R, t = T_world_cam[..., :3, :3], T_world_cam[..., None, :3, 3]
        later = (seen.points[:, :-1] - t[:, 1:]) @ R[:, 1:]  # in the next view
        z = np.maximum(later[..., 2], 1e-6)
        inside = (later[..., 2] > .1) & (abs(later[..., 0] / z) < .5 / self.focal) & (
            abs(later[..., 1] / z) < .375 / self.focal)
        inside = inside.mean(axis=2)
        return good & (inside.min(axis=1) > share[0]) & (inside.mean(axis=1) > share[1])


def find(space: Space, rng: np.random.Generator, kind: str, views: int, focal: float) -> np.ndarray:
    """(V, 4, 4): the first candidate that keeps clear of everything and shows something.

    The pace is drawn once, so that fast paths, which fit into fewer places, are not rarer for that; only after several
    failures does it slow down.
    """
    pace = rng.beta(2.6, .5) if rng.random() < .85 else rng.uniform(0, .4)  # mostly far apart, sometimes like video
    turning = np.clip(pace + rng.normal(0, .2), 0, 1) if rng.random() < .6 else rng.beta(2.4, .8)
    share = None if kind in ("back", "jump") or rng.random() < .8 else (.1, .25)
    low = kind == "low"
    demands = (Demands.of_low if low else Demands.random)(rng, focal)
    fallback, best = None, -np.inf
    for attempt in range(ROUNDS):
        slower = 1 - .02 * attempt
        length = spread(rng, STEP_M, pace * slower, views)
        turn = spread(rng, STEP_RAD, turning * slower, views)
        position, angles = MOVES[kind](space, rng, length, turn)
        thirds = (position[:, :-1] + part * (position[:, 1:] - position[:, :-1]) for part in (1 / 3, 2 / 3))
        points = np.concatenate([position, *thirds], axis=1)         # closer than twice the clearance: no wall between
        clear = space.clearance(points.reshape(-1, 3)).reshape(CANDIDATES, -1).min(axis=1)
        enough = LOW_CLEARANCE * position[..., 2].min(axis=1) if low else CLEARANCE_M
        eased = demands.eased(1 - .065 * attempt)
        T_world_cam = poses(position, angles)
        forward = T_world_cam[..., :3, 2]
        steady = ((forward[:, 1:] * forward[:, :-1]).sum(axis=2) > np.cos(ABRUPT_RAD)).all(axis=1)
        T_world_cam = T_world_cam[steady & (clear > enough)]
        for k in np.flatnonzero(eased.met(space, T_world_cam[:, :1])):       # the first views first
            if eased.met(space, T_world_cam[k, None], share)[0]:
                return T_world_cam[k]
        if clear.max() > best:
            k = int(clear.argmax())
            best, fallback = clear[k], position[k, 0]
    yaw = rng.uniform(-np.pi, np.pi, (CANDIDATES, 1)) + np.arange(views) * rng.uniform(.05, .4)
    angles = np.stack([yaw, np.full_like(yaw, -.1), np.zeros_like(yaw)], axis=-1)
    T_world_cam = poses(np.broadcast_to(fallback, angles.shape), angles)
    return T_world_cam[glimpse(space, T_world_cam, focal).objects.sum(axis=1).argmax()]


def spread(rng: np.random.Generator, bounds: tuple[float, float], pace: float, views: int) -> np.ndarray:
    """(K, V - 1) amounts around the place `pace` (0..1) of a logarithmic range."""
    amount = bounds[0] * (bounds[1] / bounds[0]) ** pace * np.exp(rng.normal(0, .35, (CANDIDATES, views - 1)))
    return np.minimum(amount, bounds[1])


def poses(position: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """(..., 3), (..., 3) -> T_world_cam (..., 4, 4)."""
    yaw, pitch, roll = np.moveaxis(angles, -1, 0)
    cy, sy, cp, sp, cr, sr = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll)
    forward = np.stack([cp * cy, cp * sy, sp], axis=-1)
    right = np.stack([sy, -cy, np.zeros_like(yaw)], axis=-1)
    down = np.stack([sp * cy, sp * sy, -cp], axis=-1)  # forward x right
    T_world_cam = np.zeros((*position.shape[:-1], 4, 4))
    T_world_cam[..., :3, 0] = cr[..., None] * right + sr[..., None] * down
    T_world_cam[..., :3, 1] = cr[..., None] * down - sr[..., None] * right
    T_world_cam[..., :3, 2], T_world_cam[..., :3, 3], T_world_cam[..., 3, 3] = forward, position, 1
    return T_world_cam


# ---- how cameras move: (space, rng, lengths (K, V - 1) metres, turns (K, V - 1) radians) -> Motion

def walk(space: Space, rng: np.random.Generator, start: np.ndarray, length: np.ndarray, course: np.ndarray,
         bend: np.ndarray, climb: float = 0.0, low: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Steps of given lengths, shorter in need, from `start` (K, 3) that turn out of the way of things.

    Args:
        course: (K,) first direction about z; bend: (K, V - 1) the turn that each step would take by itself.
        climb: standard deviation of a step's slope.
        low: whether it stays as low as it starts and passes things as near by as LOW_CLEARANCE says.
    Returns positions (K, V, 3) and the course of each step (K, V - 1).
    """
    K, steps = length.shape
    positions, courses = [start], np.empty((K, steps))
    lowest, enough = (0, LOW_CLEARANCE * start[:, 2:]) if low else (.2, CLEARANCE_M)
    for v in range(steps):
        way = course[:, None] + bend[:, v, None] + rng.normal(0, 1, (K, OPTIONS)) * np.linspace(0, 1.6, OPTIONS)
        slope = climb * rng.normal(0, 1, (K, OPTIONS))
        reach = length[:, v, None] * REACH
        move = np.stack([np.cos(way) * np.cos(slope), np.sin(way) * np.cos(slope), np.sin(slope)], axis=-1)
        ends = positions[-1][:, None] + reach[..., None] * move
        ends[..., 2] = np.clip(ends[..., 2], lowest, space.height - .3)
        points = np.concatenate([ends, (ends + positions[-1][:, None]) / 2]) if length.max() > .3 else ends
        clear = space.clearance(points.reshape(-1, 3)).reshape(-1, K, OPTIONS).min(axis=0) > enough
        chosen = np.arange(K), clear.argmax(axis=1)
        positions.append(ends[chosen])
        course = courses[:, v] = way[chosen]
    return np.stack(positions, axis=1), courses


def wander(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Unit-variance noise (K, V) that changes slowly along V."""
    noise = rng.normal(0, 1, shape)
    for k in range(1, shape[1]):
        noise[:, k] = .75 * noise[:, k - 1] + .66 * noise[:, k]
    return noise


def accumulate(start: np.ndarray, change: np.ndarray) -> np.ndarray:
    """(K,) and (K, V - 1) -> (K, V): running sums that begin with `start`."""
    return np.concatenate([start[:, None], start[:, None] + np.cumsum(change, axis=1)], axis=1)


def mean(change: np.ndarray) -> np.ndarray:
    """(K, V - 1) -> (K, 1), of no change 0."""
    return change.sum(axis=1, keepdims=True) / max(change.shape[1], 1)


def swing(angle: np.ndarray, reach: np.ndarray) -> np.ndarray:
    """An angle that grows on and on -> one that goes to and fro between -reach and reach, as fast."""
    return reach - abs((angle + reach) % (4 * reach) - 2 * reach)


def either(rng: np.random.Generator, K: int, probability: float) -> np.ndarray:
    """(K, 1) bool."""
    return rng.random((K, 1)) < probability


def on_wheels(space: Space, rng: np.random.Generator, start: np.ndarray, length: np.ndarray, turn: np.ndarray, *,
              steady: float, stopping: float, aside: float, low: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Forward from `start` (K, 3), along arcs or with turns on the spot, the camera fixed: positions (K, V, 3) and yaw
    (K, V).

    Args:
        steady, stopping, aside: shares of the paths that bend one way alone, that stop to turn, and whose camera looks
            anywhere but ahead.
        low: as in `walk`.
    """
    K, n = length.shape
    sign = np.where(either(rng, K, steady), rng.choice((-1, 1), (K, 1)), rng.choice((-1, 1), (K, n)))
    stops = either(rng, K, stopping) & (rng.random((K, n)) < .5)
    sign = sign * np.where(stops | either(rng, K, .5), 1, .25)              # half of them drive nearly straight on
    heading = space.open_course(rng, start)
    backwards = np.where(either(rng, K, .08), np.pi, 0)
    position, course = walk(space, rng, start, np.where(stops, STEP_M[0], length), heading, sign * turn, low=low)
    yaw = np.concatenate([heading[:, None], course], axis=1) + backwards
    return position, yaw + np.where(either(rng, K, aside), rng.uniform(-1.6, 1.6, (K, 1)), 0)


def drive(space: Space, rng: np.random.Generator, length: np.ndarray, turn: np.ndarray) -> Motion:
    """A wheeled robot: level, its camera with a small pitch."""
    K, start = len(length), space.places(rng, CANDIDATES, .2, 1.2)
    position, yaw = on_wheels(space, rng, start, length, turn, steady=.75, stopping=.25, aside=.15)
    tilted = either(rng, K, .2)                                      # down at the floor ahead
    pitch = np.where(tilted, rng.uniform(-.5, -.1, (K, 1)), rng.normal(-.03, .1, (K, 1)))
    pitch = pitch + rng.normal(0, .004, yaw.shape)
    return position, np.stack([yaw, pitch, rng.normal(0, .006, yaw.shape)], axis=-1)


def drive_low(space: Space, rng: np.random.Generator, length: np.ndarray, turn: np.ndarray) -> Motion:
    """A small robot: its camera a hand or two above the floor, level or looking up at what is all higher than it."""
    K, start = len(length), space.places(rng, CANDIDATES, *LOW_M)
    start[:, 2] = np.exp(rng.uniform(*np.log(LOW_M), K))
    position, yaw = on_wheels(space, rng, start, length, turn, steady=.6, stopping=.3, aside=.1, low=True)
    pitch = np.where(either(rng, K, .3), rng.uniform(.1, .45, (K, 1)), rng.normal(.01, .08, (K, 1)))
    shaken = np.exp(rng.uniform(np.log(.003), np.log(.04), (K, 1)))          # wheels, tracks or legs
    pitch = pitch + shaken * rng.normal(0, 1, yaw.shape)
    return position, np.stack([yaw, pitch, shaken * rng.normal(0, 1, yaw.shape)], axis=-1)


def turn_on_spot(space: Space, rng: np.random.Generator, length: np.ndarray, turn: np.ndarray) -> Motion:
    """A robot or a person turning, the camera a little off the axis."""
    K, centre = len(length), space.places(rng, CANDIDATES, *carried(rng, .2, 1.7))
    yaw = accumulate(rng.uniform(-np.pi, np.pi, K), rng.choice((-1, 1), (K, 1)) * turn)
    arm = np.abs(rng.normal(0, .25, (K, 1)))
    position = centre[:, None] + np.stack([arm * np.cos(yaw), arm * np.sin(yaw), rng.normal(0, .004, yaw.shape)],
                                          axis=-1)
    pitch = gaze(rng, K, -.08, .14) + rng.normal(0, .01, yaw.shape)
    return position, np.stack([yaw, pitch, rng.normal(0, .02, yaw.shape)], axis=-1)


def look(space: Space, rng: np.random.Generator, length: np.ndarray, turn: np.ndarray) -> Motion:
    """Around and back again from nearly one place, as somebody who searches a room."""
    (K, n), centre = length.shape, space.places(rng, CANDIDATES, *carried(rng, .5, 1.8))
    sway = np.exp(rng.uniform(np.log(.02), np.log(.3), (K, 1, 1)))
    position = centre[:, None] + sway * rng.normal(0, 1, (K, n + 1, 3)) * (1, 1, .4)
    position[..., 2] = np.clip(position[..., 2], .2, space.height - .3)
    reach = rng.uniform(.5, 2.6, (K, 1))                             # half of the arc that is looked over
    yaw, pitch = space.worth_a_look(rng, centre)
    aimed, anywhere = either(rng, K, .5), rng.uniform(-np.pi, np.pi, (K, 1))
    yaw = np.where(aimed, yaw[:, None], anywhere) + swing(accumulate(rng.uniform(-.5, .5, K), turn), reach)
    pitch = np.where(aimed, pitch[:, None], gaze(rng, K, -.12, .15))
    pitch = np.clip(pitch + .3 * np.minimum(mean(turn), .6) * wander(rng, yaw.shape), -1, .5)
    return position, np.stack([yaw, pitch, hand_roll(rng, K, n + 1)], axis=-1)


def hand(space: Space, rng: np.random.Generator, length: np.ndarray, turn: np.ndarray) -> Motion:
    """Carried: any direction, mostly level; it keeps looking at a place, or turns as it goes."""
    (K, n), start = length.shape, space.places(rng, CANDIDATES, *carried(rng, .9, 1.8))
    course = space.open_course(rng, start)
    position, _ = walk(space, rng, start, length, course, .35 * wander(rng, (K, n)), climb=.25)
    aim_yaw, aim_pitch = space.worth_a_look(rng, start)
    aimed = rng.random(K) < .5
    yaw = np.where(rng.random(K) < .6, course + rng.normal(0, .5, K), rng.uniform(-np.pi, np.pi, K))
    yaw = np.where(aimed, aim_yaw + rng.normal(0, .25, K), yaw)
    pitch = np.where(aimed, aim_pitch + rng.normal(0, .12, K), gaze(rng, K, -.18, .2)[:, 0])
    pitch = np.clip(pitch, -1, .25)
    distance = rng.uniform(1.0, 3.5, K)
    target = start + distance[:, None] * np.stack([np.cos(yaw), np.sin(yaw), np.tan(pitch)], axis=-1)
    at_yaw, at_pitch = towards(position, target[:, None])
    sway = np.minimum(mean(turn), .35)
    nearest = np.linalg.norm(position - target[:, None], axis=2).min(axis=1, keepdims=True)
    keeps = either(rng, K, .6) & (nearest > .9)                      # or it would spin round when it passes by
    drift = turn * np.clip(rng.choice((-1, 1), (K, 1)) * either(rng, K, .7) + .8 * wander(rng, (K, n)), -1.5, 1.5)
    yaw = np.where(keeps, at_yaw + sway * rng.normal(0, .5, (K, n + 1)), accumulate(yaw, drift))
    pitch = np.where(keeps, at_pitch + sway * rng.normal(0, .3, (K, n + 1)),
                     accumulate(pitch, .25 * np.minimum(turn, .4) * wander(rng, (K, n))))
    return position, np.stack([yaw, np.clip(pitch, -1.1, .25), hand_roll(rng, K, n + 1)], axis=-1)


def roam(space: Space, rng: np.random.Generator, length: np.ndarray, turn: np.ndarray) -> Motion:
    """Carried through rooms by somebody who looks about: far on, and turned far, from each view to the next."""
    (K, n), start = length.shape, space.places(rng, CANDIDATES, *carried(rng, .9, 1.8))
    course = space.open_course(rng, start)
    position, _ = walk(space, rng, start, length, course, .5 * wander(rng, (K, n)), climb=.1)
    turn = rng.uniform(*ROAM_RAD, (K, 1)) * np.exp(rng.normal(0, .25, (K, n)))
    reach = rng.uniform(.6, 2.6, (K, 1))                             # half of the arc that is looked over
    yaw = (course + rng.normal(0, .5, K))[:, None] + swing(accumulate(rng.uniform(-.6, .6, K), turn), reach)
    pitch = np.clip(gaze(rng, K, -.1, .2) + .12 * wander(rng, yaw.shape), -1.1, .35)
    return position, np.stack([yaw, pitch, hand_roll(rng, K, n + 1)], axis=-1)


def door(space: Space, rng: np.random.Generator, length: np.ndarray, turn: np.ndarray) -> Motion:
    """Through a doorway into another room, with a turn behind it."""
    if not len(space.doors):
        return hand(space, rng, length, turn)
    K, n = length.shape
    x, y, *through = np.split(space.doors[rng.integers(len(space.doors), size=K)], 4, axis=1)
    way = np.concatenate(through, axis=1) * rng.choice((-1, 1), (K, 1))
    at = accumulate(np.zeros(K), np.minimum(length, 3.5 / max(n, 1)))
    at -= rng.uniform(.15, .85, (K, 1)) * at[:, -1:]                 # metres before (-) and behind (+) the door
    slope = np.clip(rng.normal(0, .6, (K, 2)), -1.5, 1.5)            # how the way comes and goes aside
    aside = slope[:, :1] * np.minimum(at + .3, 0) + slope[:, 1:] * np.maximum(at - .3, 0)
    xy = np.concatenate([x, y], axis=1)[:, None] + at[..., None] * way[:, None] + aside[..., None] * (
        np.stack([-way[:, 1], way[:, 0]], axis=1)[:, None])
    z = rng.uniform(*carried(rng, .2, 1.8), (K, 1)) + .01 * rng.normal(0, 1, at.shape)
    position = np.concatenate([xy, np.minimum(z, 1.85)[..., None]], axis=-1)
    bend = np.arctan(slope)
    yaw = np.arctan2(way[:, 1:], way[:, :1]) + np.where(at < 0, bend[:, :1], bend[:, 1:])
    behind = accumulate(np.zeros(K), np.where(at[:, 1:] > 0, turn, 0))
    yaw += rng.choice((-1, 1), (K, 1)) * np.minimum(behind, rng.uniform(0, 2.2, (K, 1)))
    yaw += np.minimum(mean(turn), .5) * .5 * wander(rng, yaw.shape)
    pitch = np.clip(gaze(rng, K, -.08, .12) + .02 * wander(rng, yaw.shape), -.9, .4)
    return position, np.stack([yaw, pitch, hand_roll(rng, K, n + 1)], axis=-1)


def orbit(space: Space, rng: np.random.Generator, length: np.ndarray, turn: np.ndarray) -> Motion:
    """Around an object as far as the room lets one, to and fro, looking at it."""
    if not len(space.things):
        return hand(space, rng, length, turn)
    K, n = length.shape
    target = space.middle[rng.choice(space.things, K)] + rng.normal(0, .1, (K, 3))
    radius = np.exp(rng.uniform(np.log(.7), np.log(3.0), (K, 1)))
    step = np.minimum(np.where(either(rng, K, .6), np.maximum(length / radius, .7 * turn), length / radius), ORBIT_RAD)
    open_side, _ = towards(target, space.room_centre(target))
    arc = rng.uniform(.4, np.pi, (K, 1))
    angle = (open_side + rng.normal(0, .5, K))[:, None] + swing(accumulate(rng.uniform(-np.pi, np.pi, K), step), arc)
    radius = radius * np.exp(.08 * wander(rng, angle.shape))
    z = rng.uniform(*carried(rng, .4, 1.8), (K, 1)) + accumulate(np.zeros(K), .15 * length * wander(rng, (K, n)))
    position = target[:, None] + np.stack([radius * np.cos(angle), radius * np.sin(angle), np.zeros_like(angle)],
                                          axis=-1)
    position[..., 2] = np.clip(z, .25, space.height - .3)
    yaw, pitch = towards(position, target[:, None] + rng.normal(0, .12, position.shape))
    return position, np.stack([yaw + rng.normal(0, .12, (K, 1)), pitch, hand_roll(rng, K, n + 1)], axis=-1)


def back(space: Space, rng: np.random.Generator, length: np.ndarray, turn: np.ndarray) -> Motion:
    """There and back again: home by nearly the same way, facing the other way or another one."""
    (K, n), start = length.shape, space.places(rng, CANDIDATES, *carried(rng, .3, 1.8))
    half = (n + 1) // 2
    out = int(rng.integers(half, max(n - 1, half + 1)))                      # steps before it turns round
    course = space.open_course(rng, start)
    way, _ = walk(space, rng, start, length[:, :out], course, .3 * wander(rng, (K, out)), climb=.05)
    returns = way[:, ::-1][:, 1:n - out + 1]
    home = returns + rng.normal(0, 1, returns.shape) * (.12, .12, .03)
    position = np.concatenate([way, home], axis=1)
    facing = np.where(either(rng, K, .6), towards(way[:, :1], way[:, -1:])[0], rng.uniform(-np.pi, np.pi, (K, 1)))
    yaw = facing + np.concatenate([np.zeros((K, 1)), np.minimum(turn, .5) * wander(rng, turn.shape)], axis=1)
    other = np.where(either(rng, K, .5), np.pi, rng.uniform(.6, 2.6, (K, 1))) * rng.choice((-1, 1), (K, 1))
    yaw += other * np.clip((np.arange(n + 1) - out + 1) / 2, 0, 1)           # the turn takes two steps
    pitch = np.clip(gaze(rng, K, -.1, .15) + .03 * wander(rng, yaw.shape), -1, .4)
    return position, np.stack([yaw, pitch, hand_roll(rng, K, n + 1)], axis=-1)


def jump(space: Space, rng: np.random.Generator, length: np.ndarray, turn: np.ndarray) -> Motion:
    """Single pictures from all over a part of a room, more or less of the same thing."""
    (K, n), start = length.shape, space.places(rng, CANDIDATES, *carried(rng, .5, 1.7))
    reach = rng.normal(0, 1, (K, n + 1, 3)) * mean(length)[..., None] * (1, 1, .4)
    position = start[:, None] + reach
    position[..., 2] = np.clip(position[..., 2], .3, min(1.9, space.height - .3))
    yaw = rng.uniform(-np.pi, np.pi, K)
    slope = np.tan(gaze(rng, K, -.2, .1)[:, 0])
    target = start + rng.uniform(1.5, 4, (K, 1)) * np.stack([np.cos(yaw), np.sin(yaw), slope], axis=-1)
    yaw, pitch = towards(position, target[:, None] + rng.normal(0, 1, position.shape) * (.6, .6, .3))
    return position, np.stack([yaw, np.clip(pitch, -1, .6), hand_roll(rng, K, n + 1)], axis=-1)


def hand_roll(rng: np.random.Generator, K: int, V: int) -> np.ndarray:
    return np.clip(rng.normal(0, .06, (K, 1)) + rng.normal(0, .03, (K, V)), -.26, .26)


def carried(rng: np.random.Generator, low: float, high: float) -> tuple[float, float]:
    """Between which heights a camera starts: as asked for, but half of them are where people have their eyes."""
    return HEAD_M if rng.random() < .5 else (low, high)


def gaze(rng: np.random.Generator, K: int, mean: float, deviation: float) -> np.ndarray:
    """(K, 1) pitch: mostly near the horizon, but two cameras in five look down at what is near."""
    return np.where(either(rng, K, .4), rng.normal(-.52, .17, (K, 1)), rng.normal(mean, deviation, (K, 1)))


MOVES: dict[str, Callable[[Space, np.random.Generator, np.ndarray, np.ndarray], Motion]] = {
    "drive": drive, "turn": turn_on_spot, "look": look, "hand": hand, "roam": roam, "door": door, "orbit": orbit,
    "back": back, "jump": jump, "low": drive_low}
