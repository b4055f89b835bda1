"""Scenes as the ray caster reads them: arrays of a fixed size. Free of torch, so that workers start fast."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lsm_ros.errors import InputError
from lsm_ros.world.scene import LIGHT_COLUMNS, MATERIAL_COLUMNS, MESH, Scene

MAX_PRIMITIVES, MAX_MATERIALS, MAX_LIGHTS = 256, 256, 4
"""What one scene of a bank can hold, unless it is made for more."""
MAX_MODELS = 1 << 16
MAX_LABELS, MAX_INSTANCES = 255, 1 << 15
"""What fits into a pixel of a rendering: uint8 with one value for "nothing", int16."""
PRIMITIVE_COLUMNS = 32
EMISSION = MATERIAL_COLUMNS.index("emission")
CASTS_NO_SHADOW = 1 << 16


@dataclass(frozen=True)
class PackedScenes:
    """N scenes; numpy arrays on the way to a bank, tensors inside it."""
    primitives: Any   # (N, P, 32) float32, the last four columns are the bits of int32
    materials: Any    # (N, M, 16) float32, scene.MATERIAL_COLUMNS
    lights: Any       # (N, L, 8) float32, scene.LIGHT_COLUMNS
    ambient: Any      # (N, 6) float32, linear light from above and below
    counts: Any       # (N, 3) int32: primitives, lights, and primitives of visitors, which follow the others

    def __len__(self) -> int:
        return len(self.counts)


def pack(scenes: Sequence[Scene], primitives: int = MAX_PRIMITIVES, materials: int = MAX_MATERIALS) -> PackedScenes:
    """Arrays for a bank whose scenes hold so many primitives and materials. Raises InputError for a scene that is too
    large or has indices that point nowhere."""
    count = len(scenes)
    packed = PackedScenes(primitives=np.zeros((count, primitives, PRIMITIVE_COLUMNS), np.float32),
                          materials=np.zeros((count, materials, len(MATERIAL_COLUMNS)), np.float32),
                          lights=np.zeros((count, MAX_LIGHTS, len(LIGHT_COLUMNS)), np.float32),
                          ambient=np.zeros((count, 6), np.float32), counts=np.zeros((count, 3), np.int32))
    for i, scene in enumerate(scenes):
        _check(scene, primitives, materials)
        rows = [_primitives(part) for part in parts_of(scene)]
        packed.primitives[i, :sum(map(len, rows))] = np.concatenate(rows)
        packed.materials[i, :len(scene.materials)] = scene.materials
        packed.lights[i, :len(scene.lights)] = scene.lights
        packed.ambient[i] = scene.ambient
        packed.counts[i] = len(scene.shape), len(scene.lights), sum(map(len, rows[1:]))
    return packed


def parts_of(scene: Scene) -> list[Scene]:
    """The scene and, where it has some, its visitors."""
    return [scene] if scene.visitors is None else [scene, scene.visitors]


def _check(scene: Scene, primitives: int, materials: int) -> None:
    for name, length, limit in (("primitives", sum(len(part.shape) for part in parts_of(scene)), primitives),
                                ("materials", len(scene.materials), materials),
                                ("lights", len(scene.lights), MAX_LIGHTS)):
        if length > limit:
            raise InputError(f"a scene has {length} {name}; at most {limit} fit")
    for part in parts_of(scene):
        for name, values, end in (("shape", part.shape, MESH + MAX_MODELS),
                                  ("material", part.material, len(scene.materials)),
                                  ("label", part.label, MAX_LABELS), ("instance", part.instance, MAX_INSTANCES)):
            if len(values) and not 0 <= values.min() <= values.max() < end:
                raise InputError(f"a scene has {name} {values.min()} to {values.max()}; they must lie in 0..{end - 1}")
        if len(part.shape) and not (np.abs(np.linalg.det(part.T_world_prim[:, :, :3].astype(np.float64))) > 0).all():
            raise InputError("a scene has a primitive without volume or with NaN in its transform")


def _primitives(scene: Scene) -> np.ndarray:
    """(P, 32) rows of struct Primitive in raycast.cu."""
    T_world_prim = scene.T_world_prim.astype(np.float64)
    axes, center = T_world_prim[:, :, :3], T_world_prim[:, :, 3]
    to_unit = np.linalg.inv(axes)
    corners = np.array([[1, 1, 1], [1, 1, -1], [1, -1, 1], [1, -1, -1]], np.float64)    # the others are their opposites
    rows = np.empty((len(axes), PRIMITIVE_COLUMNS), np.float32)
    rows[:, :12] = np.concatenate([to_unit, -to_unit @ center[:, :, None]], axis=2).reshape(-1, 12)
    rows[:, 12:21] = axes.transpose(0, 2, 1).reshape(-1, 9)
    rows[:, 21:24] = center
    rows[:, 24:27] = np.linalg.norm(axes, axis=1)
    rows[:, 27] = np.linalg.norm(axes @ corners.T, axis=1).max(axis=1, initial=0)
    shines = scene.materials[scene.material, EMISSION] > 0    # lamps and sky let light through
    integers = rows.view(np.int32)
    integers[:, 28], integers[:, 29], integers[:, 30] = scene.shape, scene.label, scene.instance
    integers[:, 31] = scene.material + CASTS_NO_SHADOW * shines
    return rows


