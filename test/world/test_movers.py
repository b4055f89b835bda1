from contextlib import closing
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from lsm_ros.world import reference
from lsm_ros.world.cameras import camera_path
from lsm_ros.world.factory import make_parcel
from lsm_ros.world.movers import AWAY_M, BODIES, VISITORS, Motions
from lsm_ros.world.packing import pack
from lsm_ros.world.parts import label_indices
from lsm_ros.world.renderer import Renderer, Rendering, SceneBank
from lsm_ros.world.rooms import make_scene
from lsm_ros.world.scene import Scene
from lsm_ros.world.space import Space
from lsm_ros.world.stream import WorldStream, fixed_batch

SIZE = (48, 64)


@pytest.fixture(scope="module")
def parcel():
    return make_parcel(range(12), 2, 8, None)


def placed(scene: Scene, instance: np.ndarray, T_world_rest: np.ndarray) -> Scene:
    """The scene with its visitors, after some objects have moved."""
    parts = scene, scene.visitors
    joined = {name: np.concatenate([getattr(part, name) for part in parts])
              for name in ("shape", "T_world_prim", "label", "instance", "material")}
    T_world_prim = joined["T_world_prim"].astype(np.float64)
    for name, T in zip(instance, T_world_rest, strict=True):
        mine = joined["instance"] == name
        T_world_prim[mine] = T[:, :3] @ T_world_prim[mine]
        T_world_prim[mine, :, 3] += T[:, 3]
    return replace(scene, **joined | {"T_world_prim": T_world_prim.astype(np.float32)}, visitors=None)


def test_what_moves_is_drawn_where_it_is():
    scene = make_scene(3)
    path = camera_path(scene, np.random.default_rng(3), views=3)
    motions = Motions.random(scene, [path], np.random.default_rng(1))
    bank = SceneBank.empty(1 + 3, "cpu")
    bank.put(0, pack([scene]))
    slots = bank.move(1, torch.zeros(1, dtype=torch.int64), torch.from_numpy(motions.instance),
                      torch.from_numpy(motions.T_world_rest()))
    T = torch.from_numpy(path.T_world_cam).float()
    K = torch.tensor([[60.0, 0, 32], [0, 60, 24], [0, 0, 1]])
    drawn = Renderer("cpu", samples=1, light_radius_m=0).render(bank, slots, T[None], K.expand(1, 3, 3, 3), SIZE)
    for view in range(3):
        now = placed(scene, motions.instance[0], motions.T_world_rest()[0, view])
        mine = Rendering(*(getattr(drawn, field.name)[:, view:view + 1] for field in fields(drawn)))
        agreement = reference.compare(mine, reference.render(now, T[view], K, SIZE))
        assert agreement.good(), agreement
        still = reference.compare(mine, reference.render(scene, T[view], K, SIZE))
        assert still.identity < 0.99, still


def test_what_is_at_rest_or_away_is_not_drawn_elsewhere(parcel):
    scene = make_scene(0)
    bank = SceneBank.empty(2, "cpu")
    bank.put(0, pack([scene]))
    away = np.full((1, 1, VISITORS, 4), (0, 0, AWAY_M, 0), np.float32)
    names = np.unique(scene.visitors.instance)[None].astype(np.int32)
    away = Motions(names, np.zeros((1, names.shape[1], 2), np.float32), away[:, :, :names.shape[1]])
    scene = torch.zeros(1, dtype=torch.int64)
    slots = bank.move(1, scene, torch.from_numpy(names), torch.from_numpy(away.T_world_rest()))
    T = torch.from_numpy(parcel.T_world_cam[:1, 0, :1])
    K = torch.tensor([[60.0, 0, 32], [0, 60, 24], [0, 0, 1]]).expand(1, 1, 3, 3)
    renderer = Renderer("cpu", samples=1, light_radius_m=0)
    with_them, without = (renderer.render(bank, chosen, T, K, SIZE) for chosen in (slots, scene))
    assert bank.counts[1, 0] > bank.counts[0, 0]
    for field in fields(with_them):
        assert torch.equal(getattr(with_them, field.name), getattr(without, field.name))


def test_walkers_walk_on_free_floor_before_the_camera(parcel):
    walks = 0
    for seed in range(12):
        space = Space(make_scene(seed))
        for path, names in zip(parcel.motions.pose[seed], parcel.motions.instance[seed], strict=True):
            for walk, name in zip(path[:, :VISITORS].transpose(1, 0, 2), names, strict=False):
                if name < 0 or walk[0, 2] == AWAY_M:
                    continue
                walks += 1
                assert (walk[:, 2] == 0).all()
                assert (space.clearance(walk[:, :3] + (0, 0, 1.2)) > .2).all()
                steps = np.linalg.norm(np.diff(walk[:, :2], axis=0), axis=1)
                assert steps.max() <= 1.01
                assert steps.max() < 1e-3 or np.ptp(steps[steps > 1e-3]) < 1e-3          # straight on, or it stands
    assert walks > 12                                              # of 24 paths, some with two


def test_how_far_a_thing_is_elsewhere():
    motions = Motions.empty(1, views=3)
    motions.instance[0, 1] = 7
    motions.pose[0, :, 1] = [(0, 0, 0, 0), (3, 4, 0, 0), (3, 4, 0, 2 * np.pi + 1)]
    motions.pose[0, :, 2] = [(0, 0, 0, 0), (9, 9, 9, 9), (0, 0, 0, 0)]                    # of nothing
    apart = motions.displacements()
    assert apart.shape == (1, 3, 3, 1 + BODIES)
    assert apart[0, 0, 1, 2] == pytest.approx(5) == apart[0, 1, 0, 2]
    assert apart[0, 1, 2, 2] == pytest.approx(.25)
    assert not apart[..., [0, 1, 3, 4]].any()


def test_a_batch_tells_what_moves():
    batch, still = (fixed_batch(range(8), (48, 64), 4, "cpu", moving=moving) for moving in (True, False))
    assert still.body is None and still.displaced is None
    assert torch.equal(batch.T_world_cam, still.T_world_cam)
    moved = (batch.displaced > .05).any(dim=2).gather(2, batch.body.flatten(2).long()).view_as(batch.body)
    assert .005 < moved.float().mean() < .3
    changed = (batch.depth - still.depth).abs() > .01
    assert (changed & ~moved).float().mean() < .1 * moved.float().mean() + .01      # where a thing was, and its shadow
    person = label_indices()["person"]
    assert (batch.label[batch.body == 1] == person).float().mean() > .5
    assert ((batch.label == person) & (batch.body == 0)).float().mean() < .01       # who stands there anyway


def test_a_stream_moves_a_share_of_its_windows():
    stream = WorldStream((24, 32), 4, 8, "cpu", seed=5, workers=1, bank=8, moving=.5)
    with closing(stream):
        batches = [stream.next() for _ in range(4)]
    moving = torch.cat([batch.displaced.flatten(1).amax(1) > 0 for batch in batches]).float().mean()
    assert .1 < moving < .8
    bodies = torch.cat([batch.body.flatten(1).amax(1) for batch in batches])
    named = torch.cat([batch.displaced.flatten(1).amax(1) for batch in batches]) > 0
    assert bodies[named].bool().float().mean() > .5                       # most of what moves is seen
    assert stream.bank.counts.shape[0] == 8 + 4 * 6                       # room for 1.5 times the share of 8 windows
