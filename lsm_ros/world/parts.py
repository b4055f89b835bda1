"""How objects are assembled: parts in an object's own frame, objects in the world, one vectorised step to a Scene.

An object's frame: origin on the floor under its middle, x to its right as it faces you, y forward (a wardrobe's back is
at -y, against the wall), z up. Metres and radians.
"""
from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from math import cos, sin
from random import Random

import numpy as np

from lsm_ros.labels import LabelSet
from lsm_ros.world.materials import MaterialPool
from lsm_ros.world.meshes import MeshCatalogue
from lsm_ros.world.scene import BOX, CONE, CYLINDER, ELLIPSOID, Scene

MAX_PRIMITIVES = 256


@lru_cache(maxsize=1)
def label_indices() -> dict[str, int]:
    return {name: index for index, name in enumerate(LabelSet.load().names)}


@dataclass(frozen=True)
class Top:
    """A level surface of an object on which things may stand, in the object's frame."""
    x0: float
    x1: float
    y0: float
    y1: float
    z: float
    clear: float = 2.0         # room above it, metres


@dataclass
class Piece:
    """One object: its parts, the surfaces it offers, and what stands on it."""
    label: str
    width: float = 0.0         # footprint along x
    depth: float = 0.0         # footprint along y
    height: float = 0.0
    parts: list[tuple] = field(default_factory=list)
    tops: list[Top] = field(default_factory=list)
    seats: list[Top] = field(default_factory=list)     # on which people may sit, from the back to the front edge
    children: list[tuple[Piece, float, float, float, float]] = field(default_factory=list)   # piece, x, y, z, yaw

    def add(self, shape: int, material: int, x, y, z, w, d, h, rx=0.0, ry=0.0, rz=0.0,
            label: str | None = None) -> None:
        """A part with its middle at (x, y, z) and the full extents w, d, h, turned by Rz(rz) Ry(ry) Rx(rx)."""
        self.parts.append((shape, material, label_indices()[label or self.label], x, y, z, w / 2, d / 2, h / 2, rx, ry,
                           rz))

    def box(self, material: int, x, y, z, w, d, h, rz=0.0, label: str | None = None) -> None:
        """A box that stands on height z."""
        self.add(BOX, material, x, y, z + h / 2, w, d, h, rz=rz, label=label)

    def cylinder(self, material: int, x, y, z, diameter, h, depth=None, label: str | None = None) -> None:
        """An upright cylinder that stands on height z; `depth` makes it oval."""
        self.add(CYLINDER, material, x, y, z + h / 2, diameter, depth or diameter, h, label=label)

    def ellipsoid(self, material: int, x, y, z, w, d, h, rz=0.0, label: str | None = None) -> None:
        """An ellipsoid whose lowest point is at height z."""
        self.add(ELLIPSOID, material, x, y, z + h / 2, w, d, h, rz=rz, label=label)

    def cone(self, material: int, x, y, z, diameter, h, down=False, label: str | None = None) -> None:
        """A cone that stands on height z, its tip up, or down."""
        self.add(CONE, material, x, y, z + h / 2, diameter, diameter, h, rx=np.pi if down else 0.0, label=label)

    def put(self, child: Piece, x, y, z, yaw=0.0) -> None:
        self.children.append((child, x, y, z, yaw))

    def count(self) -> int:
        """Primitives of this object and of all that stands on it."""
        return len(self.parts) + sum(child.count() for child, *_ in self.children)


class Maker:
    """What every furniture function draws from: random numbers, the scene's materials, and models if there are any."""

    def __init__(self, rng: Random, pool: MaterialPool, models: MeshCatalogue | None = None):
        self.rng, self.pool, self.models = rng, pool, models
        self.between, self.pick, self.mat = rng.uniform, rng.choice, pool.draw

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def count(self, low: int, high: int) -> int:
        return self.rng.randint(low, high)


class Assembly:
    """The objects of a scene in the world frame, a row a part: its twelve numbers, the instance, the object's pose."""

    def __init__(self, instances: int = 0, room: int = MAX_PRIMITIVES):
        """`instances` are there already; `room` for so many primitives is left."""
        self.rows: list[tuple] = []
        self.instances, self.room = instances, room

    def left(self) -> int:
        return self.room - len(self.rows)

    def add(self, piece: Piece, x=0.0, y=0.0, z=0.0, yaw=0.0, building: bool = False) -> None:
        """`building`: the parts belong to instance 0."""
        if not building:
            self.instances += 1
        pose = (0 if building else self.instances, x, y, z, yaw)
        self.rows.extend(part + pose for part in piece.parts)
        c, s = cos(yaw), sin(yaw)
        for child, cx, cy, cz, cyaw in piece.children:
            self.add(child, x + c * cx - s * cy, y + s * cx + c * cy, z + cz, yaw + cyaw)

    def scene(self, pool: MaterialPool, lights: np.ndarray, ambient: np.ndarray) -> Scene:
        rows = np.asarray(self.rows, np.float64)
        half, turn, yaw = rows[:, 6:9], rows[:, 9:12], rows[:, 16]
        R_world_prim = turn_z(yaw + turn[:, 2]) @ turn_y(turn[:, 1]) @ turn_x(turn[:, 0])
        T_world_prim = np.empty((len(rows), 3, 4), np.float32)
        T_world_prim[:, :, :3] = R_world_prim * np.maximum(half, 5e-4)[:, None, :]
        T_world_prim[:, :, 3] = rows[:, 13:16] + (turn_z(yaw) @ rows[:, 3:6, None])[..., 0]
        index = rows[:, [0, 1, 2, 12]].astype(np.int32)
        return Scene(shape=index[:, 0].copy(), T_world_prim=T_world_prim, label=index[:, 2].copy(),
                     instance=index[:, 3].copy(), material=index[:, 1].copy(), materials=pool.array(),
                     lights=np.asarray(lights, np.float32), ambient=np.asarray(ambient, np.float32))


def turn_x(angle: np.ndarray) -> np.ndarray:
    return rotations(angle, 1, 2)


def turn_y(angle: np.ndarray) -> np.ndarray:
    return rotations(angle, 2, 0)


def turn_z(angle: np.ndarray) -> np.ndarray:
    return rotations(angle, 0, 1)


def rotations(angle: np.ndarray, i: int, j: int) -> np.ndarray:
    """(N,) -> (N, 3, 3): rotations that take axis i towards axis j."""
    R = np.broadcast_to(np.eye(3), (len(angle), 3, 3)).copy()
    R[:, i, i] = R[:, j, j] = np.cos(angle)
    R[:, j, i] = np.sin(angle)
    R[:, i, j] = -R[:, j, i]
    return R
