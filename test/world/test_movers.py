from contextlib import closing
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from lsm_ros.world import reference
from lsm_ros.world.cameras import camera_path
from lsm_ros.world.factory import make_parcel
from lsm_ros.world.movers import AWAY_M, BODIES, MOVED, MOVED_M, POSES, TURNS, Motions, in_turns, movable
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
    drawn = Renderer("cpu", samples=1, soft_shadows=False).render(bank, slots, T[None], K.expand(1, 3, 3, 3), SIZE)
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
    names = scene.visitors.poses.reshape(1, -1)
    away = np.full((1, 1, names.size, 4), (0, 0, AWAY_M, 0), np.float32)
    away = Motions(names, np.zeros((1, names.size, 2), np.float32), away)
    scene = torch.zeros(1, dtype=torch.int64)
    slots = bank.move(1, scene, torch.from_numpy(names), torch.from_numpy(away.T_world_rest()))
    T = torch.from_numpy(parcel.T_world_cam[:1, 0, :1])
    K = torch.tensor([[60.0, 0, 32], [0, 60, 24], [0, 0, 1]]).expand(1, 1, 3, 3)
    renderer = Renderer("cpu", samples=1, soft_shadows=False)
    with_them, without = (renderer.render(bank, chosen, T, K, SIZE) for chosen in (slots, scene))
    assert bank.counts[1, 0] > bank.counts[0, 0]
    for field in fields(with_them):
        assert torch.equal(getattr(with_them, field.name), getattr(without, field.name))


def test_walkers_walk_on_free_floor_before_the_camera(parcel):
    walks = 0
    for seed in range(12):
        space = Space(make_scene(seed))
        for path, names in zip(parcel.motions.pose[seed], parcel.motions.instance[seed], strict=True):
            poses = path[:, :-MOVED].reshape(len(path), -1, POSES, 4).transpose(1, 2, 0, 3)
            for figures, those in zip(poses, names[:-MOVED].reshape(-1, POSES), strict=True):
                there = figures[..., 2] == 0
                if those[0] < 0 or not there.any():
                    continue
                walks += 1
                assert (there.sum(axis=0) == 1).all() and not there[those < 0].any()
                assert (figures[~there][:, 2] == AWAY_M).all()
                walk = figures[0] * (1, 1, 0, 1)                       # they all go the same way
                assert (space.clearance(walk[:, :3] + (0, 0, 1.2)) > .2).all()
                steps = np.linalg.norm(np.diff(walk[:, :2], axis=0), axis=1)
                assert steps.max() <= 1.01
                assert steps.max() < 1e-3 or np.ptp(steps[steps > 1e-3]) < 1e-3          # straight on, or it stands
    assert walks > 12                                              # of 24 paths, some with two


def test_walkers_take_steps_with_either_leg_and_who_stands_keeps_his_pose():
    walk = np.zeros((60, 4))
    walk[:, 0] = np.minimum(np.arange(60), 40) * .1                    # four metres, and two seconds' rest
    figures = in_turns(walk, np.arange(POSES), 0.0)
    turn = (figures[..., 2] == 0).argmax(axis=1)
    assert ((figures[..., 2] == 0).sum(axis=1) == 1).all()
    assert (figures[..., :2] == walk[:, None, :2]).all()
    changes = turn[np.append(True, np.diff(turn) != 0)].tolist()
    assert set(TURNS) == {0, 1, 2} == set(changes)
    assert changes[:9] == [1, 0, 2, 0, 1, 0, 2, 0, 1] and changes[-1] == 0
    assert not turn[41:].any()
    model = in_turns(walk, np.array([7, -1, -1]), 0.0)
    assert not model[:, 0, 2].any() and (model[:, 1:, 2] == AWAY_M).all()


def test_who_walks_has_moved_and_who_stands_has_not():
    walk = np.zeros((6, 4), np.float32)
    walk[:, 0] = (0, 0, 0, .4, .8, 1.2)
    motions = Motions.empty(1, views=6)
    motions.instance[0, :POSES] = range(10, 10 + POSES)
    motions.pose[0, :, :POSES] = in_turns(walk, np.arange(POSES), 0.0)
    apart = motions.displacements()[0] > MOVED_M
    body = 1 + (motions.pose[0, :, :POSES, 2] == 0).argmax(axis=1)      # that each view shows
    moved = apart[np.arange(6)[:, None], np.arange(6), body[:, None]]
    assert (body[:2] == 1).all() and body[3] != body[2]
    assert moved.tolist() == [[bool(abs(walk[i, 0] - walk[j, 0]) > 0 or body[i] != body[j]) for j in range(6)]
                              for i in range(6)]
    assert not moved[0, 1] and moved[0, 2] and moved[1, 3]              # by the step alone, and by the way


def test_a_visitor_is_there_in_all_his_poses_or_in_one():
    visitors = [scene.visitors for scene in map(make_scene, range(40)) if scene.visitors]
    poses = np.concatenate([those.poses for those in visitors])
    assert all(np.array_equal(those.poses[those.poses >= 0], np.unique(those.instance)) for those in visitors)
    assert poses.shape[1] == POSES and (poses[:, 0] > 0).all()
    whole = (poses >= 0).all(axis=1)
    assert ((poses >= 0).sum(axis=1)[~whole] == 1).all()
    assert .3 < whole.mean() < 1                                        # the others are pushed, or have no room


def test_who_sits_and_what_he_sits_on_are_not_moved(without_and_with_sitters):
    person = label_indices()["person"]
    kept = 0
    for seed in range(6):
        before, scene = without_and_with_sitters(seed, "office")
        sitters = scene.instance[len(before.shape):]
        assert (scene.label[len(before.shape):] == person).all()
        could, can = ({name for name, _ in movable(each)} for each in (before, scene))
        assert not can & set(sitters.tolist()) and can <= could
        kept += len(could - can)
    assert kept > 3


def test_how_far_a_thing_is_elsewhere():
    motions = Motions.empty(1, views=3)
    motions.instance[0, 1] = 7
    motions.pose[0, :, 1] = [(0, 0, 0, 0), (3, 4, 0, 0), (3, 4, 0, 2 * np.pi + 1)]
    motions.pose[0, :, 2] = [(0, 0, 0, 0), (9, 9, 9, 9), (0, 0, 0, 0)]                    # of nothing
    apart = motions.displacements()
    assert apart.shape == (1, 3, 3, 1 + BODIES)
    assert apart[0, 0, 1, 2] == pytest.approx(5) == apart[0, 1, 0, 2]
    assert apart[0, 1, 2, 2] == pytest.approx(.25)
    assert not apart[..., [0, 1, *range(3, 1 + BODIES)]].any()


def test_a_batch_tells_what_moves():
    # Among the first eight worlds is one in which a large thing close by is moved: what it hid is most of what changes.
    batch, still = (fixed_batch(range(32, 40), (48, 64), 4, "cpu", moving=moving) for moving in (True, False))
    assert still.body is None and still.displaced is None
    assert torch.equal(batch.T_world_cam, still.T_world_cam)
    moved = (batch.displaced > .05).any(dim=2).gather(2, batch.body.flatten(2).long()).view_as(batch.body)
    assert .005 < moved.float().mean() < .3
    changed = (batch.depth - still.depth).abs() > .01
    assert (changed & ~moved).float().mean() < .1 * moved.float().mean() + .01      # where a thing was, and its shadow
    person = label_indices()["person"]
    visitors = (batch.body > 0) & (batch.body <= BODIES - MOVED)
    assert (batch.label[visitors] == person).float().mean() > .5
    assert len(batch.body[visitors].unique()) > 2                                   # they take steps
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
