"""Worlds that break the rules by which rooms are built: what may change in them, and what may not."""
from __future__ import annotations

from random import Random

import numpy as np
import pytest

from lsm_ros.world.factory import make_parcel
from lsm_ros.world.irregular import LEAN, SHEAR, Irregularity, out_of_square
from lsm_ros.world.parts import label_indices
from lsm_ros.world.rooms import make_scene
from lsm_ros.world.scene import POINT, SUN
from lsm_ros.world.space import Space

UNRULY = Irregularity(turn_rad=0.6, lean=0.15, odd=1.0)


def angles(scene) -> np.ndarray:
    """Of the edges of each primitive, from a right angle."""
    axes = scene.T_world_prim[:, :, :3] / np.linalg.norm(scene.T_world_prim[:, :, :3], axis=1, keepdims=True)
    return abs(axes.transpose(0, 2, 1) @ axes - np.eye(3)).max(axis=(1, 2))


def test_irregularities_are_drawn_within_their_bounds_and_some_rules_are_kept():
    drawn = [Irregularity.random(Random(seed)) for seed in range(300)]
    shear = abs(np.array([each.shear for each in drawn]))
    assert ((shear == 0) | (shear >= SHEAR[0]) & (shear <= SHEAR[1])).all() and (shear.min(axis=1) == 0).all()
    for share in ((shear.max(axis=1) > 0), *(np.array([getattr(each, name) for each in drawn]) > 0
                                             for name in ("turn_rad", "lean", "odd"))):
        assert 0.4 < share.mean() < 0.7


def test_only_what_stands_loose_departs_from_the_rules():
    for seed in range(6):
        straight, unruly = make_scene(seed), make_scene(seed, irregular=UNRULY)
        building = straight.instance == 0
        moved = abs(unruly.T_world_prim - straight.T_world_prim).max(axis=(1, 2)) > 1e-4
        assert not moved[building].any() and moved[~building].mean() > 0.3
        fixed = np.isin(straight.label, [label_indices()[name] for name in ("door", "window", "curtain")])
        assert not moved[fixed].any()
        assert angles(straight).max() < 1e-3 < angles(unruly)[moved].max()
        for name in ("shape", "label", "instance", "material", "materials", "lights"):
            assert np.array_equal(getattr(unruly, name), getattr(straight, name))


def test_what_stands_on_a_table_stays_on_it():
    """The gap between the parts of a group that touch is what becomes of it: one matrix takes all of a group along."""
    unruly = Irregularity(lean=0.2, turn_rad=1.0)
    for seed in range(4):
        straight, moved = make_scene(seed, "office"), make_scene(seed, "office", irregular=unruly)
        scene = straight.T_world_prim.astype(np.float64)
        change = moved.T_world_prim[:, :, :3] @ np.linalg.inv(scene[:, :, :3])
        offset = moved.T_world_prim[:, :, 3] - (change @ scene[:, :, 3:])[..., 0]
        assert np.allclose(change[:, 2], (0, 0, 1), atol=1e-3) and np.allclose(offset[:, 2], 0, atol=1e-3)
        changes = np.concatenate([change[:, :2].reshape(len(change), -1), offset], axis=1)
        groups = {tuple(row) for row in changes.round(2)}
        assert 1 < len(groups) < len(np.unique(straight.instance))       # fewer than objects: some stand on others
    lean = UNRULY.of_objects(np.random.default_rng(0), 500)
    assert abs(lean[:, :2, 2]).max() <= 1.5 * LEAN[1] * np.exp(0.2) * 2 ** 0.5


def test_a_plan_out_of_square_keeps_areas_heights_and_what_cameras_look_at():
    scene = make_scene(5, "apartment")
    scene.lights[:, 6] = [POINT, SUN, POINT][:len(scene.lights)]
    yaw = np.linspace(0, 6, 12)
    T_world_cam = np.tile(np.eye(4), (3, 4, 1, 1))
    ahead = np.stack([np.cos(yaw), np.sin(yaw), -0.3 + 0 * yaw], axis=-1).reshape(3, 4, 3)
    right = np.cross(ahead, (0, 0, 1.0))
    right /= np.linalg.norm(right, axis=-1, keepdims=True)
    ahead /= np.linalg.norm(ahead, axis=-1, keepdims=True)
    T_world_cam[..., :3, :3] = np.stack([right, np.cross(ahead, right), ahead], axis=-1)
    T_world_cam[..., :3, 3] = (1.0, 2.0, 1.4)
    for shear in ((0.5, 0.0), (0.0, -0.4)):
        sheared, poses = out_of_square(scene, T_world_cam, shear)
        before, after = (np.linalg.det(each.T_world_prim[:, :, :3]) for each in (scene, sheared))
        assert np.allclose(before, after, rtol=1e-3)
        assert np.array_equal(sheared.T_world_prim[:, 2], scene.T_world_prim[:, 2])
        target = T_world_cam[..., :3, 3] + 3 * T_world_cam[..., :3, 2]
        plan = np.array(((1, shear[0]), (shear[1], 1)))
        target[..., :2] = target[..., :2] @ plan.T
        seen = np.einsum("...ji,...j->...i", poses[..., :3, :3], target - poses[..., :3, 3])
        assert abs(seen[..., 0]).max() < 1e-6 and seen[..., 2].min() > 0         # still in the middle column
        assert np.allclose(np.linalg.norm(sheared.lights[sheared.lights[:, 6] == SUN, :3], axis=1), 1)
    same, poses = out_of_square(scene, T_world_cam, (0.0, 0.0))
    assert np.array_equal(same.T_world_prim, scene.T_world_prim) and np.allclose(poses, T_world_cam)


def test_leaning_things_are_kept_clear_of():
    """The free space takes them for the upright box around them: no camera stands in them."""
    for seed in range(3):
        scene = make_scene(seed, irregular=UNRULY)
        space = Space(scene)
        T = scene.T_world_prim.astype(np.float64)
        leaning = T[(angles(scene) > 0.05) & (np.linalg.norm(T[:, :, :3], axis=1).max(axis=1) > 0.15)]
        rng = np.random.default_rng(seed)
        for each in leaning[:40]:
            inside = each[:, :3] @ rng.uniform(-0.99, 0.99, 3) + each[:, 3]
            assert space.clearance(inside[None])[0] == pytest.approx(0, abs=1e-5)


def test_a_share_of_the_worlds_is_irregular_and_the_others_are_as_they_were():
    seeds = range(12)
    none, some = (make_parcel(seeds, 1, 3, None, irregular=share) for share in (0.0, 0.5))
    same = [np.array_equal(none.scenes.primitives[i], some.scenes.primitives[i]) and
            np.array_equal(none.T_world_cam[i], some.T_world_cam[i]) for i in seeds]
    assert 0.2 < np.mean(same) < 0.8
    assert np.isfinite(some.T_world_cam).all()
    R = some.T_world_cam[..., :3, :3].astype(np.float64)
    assert np.allclose(R @ np.swapaxes(R, -1, -2), np.eye(3), atol=1e-5)
