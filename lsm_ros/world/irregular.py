"""Worlds that nobody would build: plans out of square, furniture that is turned, leans and has odd proportions.

Rooms as people build them meet at right angles, and what stands in them is upright and along the walls. A network that
has seen nothing else takes camera poses from that: with the same cameras in the same worlds, but the plan sheared by .4
or the furniture leaning by .3, its poses were half as good, while without photo textures, shadows or colours they were
as good as before. Real rooms keep to those rules by halves. So a part of the training worlds breaks them.
"""
from __future__ import annotations

from dataclasses import dataclass, replace
from math import exp, log
from random import Random

import numpy as np

from lsm_ros.world.parts import turn_z
from lsm_ros.world.scene import POINT, Scene

SHEAR = (.1, .6)               # metres by which a plan is shifted sideways for each metre of its other axis
TURN_RAD = (.08, 1.0)          # standard deviations, from world to world
LEAN = (.03, .25)
WIDER, TALLER = .15, .07       # standard deviations of the logarithm of an object's width and depth, and of its height


@dataclass(frozen=True)
class Irregularity:
    """How a world departs from the rules; 0 where it keeps to one."""
    shear: tuple[float, float] = (0.0, 0.0)    # of x for each metre of y, or of y for each metre of x
    turn_rad: float = 0.0      # standard deviation of the turn of what stands on the floor
    lean: float = 0.0          # standard deviation of its tilt: metres sideways for each metre of height, in x and in y
    odd: float = 0.0           # how much its proportions vary: 1 for WIDER and TALLER

    @classmethod
    def random(cls, rng: Random) -> Irregularity:
        """One that breaks some of the rules."""
        shear = rng.uniform(*SHEAR) * rng.choice((-1, 1)) * (rng.random() < .6)
        return cls(shear=(shear, 0.0) if rng.random() < .5 else (0.0, shear),
                   turn_rad=exp(rng.uniform(log(TURN_RAD[0]), log(TURN_RAD[1]))) * (rng.random() < .6),
                   lean=rng.uniform(*LEAN) * (rng.random() < .5), odd=float(rng.random() < .5))

    def of_objects(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """(N, 3, 3): what becomes of objects, each about the middle of its foot."""
        deform = np.tile(np.eye(3), (count, 1, 1))
        deform[:, :2, 2] = np.clip(rng.normal(0, self.lean, (count, 2)), -1.5 * LEAN[1], 1.5 * LEAN[1])
        size = np.exp(np.clip(rng.normal(0, 1, (count, 3)), -2, 2) * self.odd * np.array((WIDER, WIDER, TALLER)))
        return turn_z(rng.normal(0, self.turn_rad, count)) @ deform * size[:, None, :]


def out_of_square(scene: Scene, T_world_cam: np.ndarray, shear: tuple[float, float]) -> tuple[Scene, np.ndarray]:
    """The scene with its plan sheared about the origin, area for area, and cameras (..., 4, 4) that stand and look in
    it as they did: each place moves with the plan, each camera turns about the vertical as its line of sight does."""
    plan = np.array(((1.0, shear[0]), (shear[1], 1.0))) / (1 - shear[0] * shear[1]) ** .5
    T_world_prim, lights, poses = scene.T_world_prim.copy(), scene.lights.copy(), T_world_cam.copy()
    T_world_prim[:, :2] = plan @ T_world_prim[:, :2]
    point = lights[:, 6] == POINT
    lights[:, :2] = lights[:, :2] @ plan.T
    lights[~point, :3] /= np.linalg.norm(lights[~point, :3], axis=1, keepdims=True)
    ahead = T_world_cam[..., :2, 2]
    seen = ahead @ plan.T
    turn = np.arctan2(ahead[..., 0] * seen[..., 1] - ahead[..., 1] * seen[..., 0], (ahead * seen).sum(axis=-1))
    poses[..., :3, :3] = turn_z(turn.ravel()).reshape(*turn.shape, 3, 3) @ T_world_cam[..., :3, :3]
    poses[..., :2, 3] = T_world_cam[..., :2, 3] @ plan.T
    return replace(scene, T_world_prim=T_world_prim, lights=lights), poses
