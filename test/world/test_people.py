"""People who walk about before the camera of a robot."""
from __future__ import annotations

from random import Random

import numpy as np
import pytest

from lsm_ros.errors import InputError
from lsm_ros.world.drives import RATE_HZ, Mount, load_drive, render_drive, save_drive, way_of_wheels
from lsm_ros.world.movers import AWAY_M, NEAR_M, POSES, Motions
from lsm_ros.world.parts import label_indices
from lsm_ros.world.people import MOST_PEOPLE, Watch, safe_cells, stroll, walk_about, with_people
from lsm_ros.world.rooms import make_scene
from lsm_ros.world.scene import CameraPath, Scene
from lsm_ros.world.space import Space

MOUNT, PERSON = Mount(.5), label_indices()["person"]


@pytest.fixture(scope="module")
def scene() -> Scene:
    return with_people(make_scene(5, "apartment"), 2, Random(0))


@pytest.fixture(scope="module")
def path(scene) -> CameraPath:
    return CameraPath(way_of_wheels(scene, np.random.default_rng(5), 12.0, MOUNT), .82, "drive")


@pytest.fixture(scope="module")
def motions(scene, path) -> Motions:
    return walk_about(scene, path, RATE_HZ, np.random.default_rng(1))


def test_a_full_building_has_room_for_people_too():
    alone = make_scene(3_000_000_058, "apartment")
    for count in (1, MOST_PEOPLE):
        scene = with_people(alone, count, Random(0))
        people = scene.visitors
        assert (people.label == PERSON).all() and len(np.unique(people.instance)) == count * POSES
        assert np.array_equal(people.poses.ravel(), np.unique(people.instance)) and people.poses.shape == (count, POSES)
        assert people.instance.min() > alone.instance.max() and people.material.min() >= len(alone.materials)
        assert np.array_equal(scene.materials[:len(alone.materials)], alone.materials)
        assert np.array_equal(scene.T_world_prim, alone.T_world_prim) and people.materials is scene.materials
    for count in (0, MOST_PEOPLE + 1):
        with pytest.raises(InputError, match=str(count)):
            with_people(alone, count, Random(0))


def test_people_walk_on_free_floor_and_keep_their_distance(scene, path, motions):
    space, camera = Space(scene), path.T_world_cam[:, :2, 3]
    assert motions.instance.tolist() == [np.unique(scene.visitors.instance).tolist()]
    ways = motions.pose[0, :, ::POSES, :2].swapaxes(0, 1)
    for way in ways:
        assert np.linalg.norm(way - camera, axis=1).min() > NEAR_M
        assert space.clearance(np.insert(way, 2, 1.1, axis=1)).min() > .2
        speed = np.linalg.norm(np.diff(way, axis=0), axis=1) * RATE_HZ
        assert speed.max() < 1.3 and .2 < speed.mean()
        assert np.ptp(way, axis=0).max() > 1.5
    assert np.linalg.norm(ways[0] - ways[1], axis=1).min() > .5


def test_people_stand_and_take_steps_as_they_walk(motions):
    poses = motions.pose[0].reshape(len(motions.pose[0]), -1, POSES, 4)
    there = poses[..., 2] == 0
    assert (there.sum(axis=2) == 1).all() and (poses[~there][:, 2] == AWAY_M).all()
    assert (poses[:, :, :1, :2] == poses[..., :2]).all()
    turn = there.argmax(axis=2)
    for mine, way in zip(turn.T, poses[:, :, 0, :2].swapaxes(0, 1), strict=True):
        goes = np.linalg.norm(np.diff(way, axis=0), axis=1) > .1
        assert all((mine[1:][goes] == pose).mean() > .15 for pose in range(POSES))
        steps = mine[mine > 0]
        assert (np.diff(steps) != 0).sum() > 4                        # now with one leg, now with the other


def test_people_look_where_they_go(motions):
    for walk in motions.pose[0].swapaxes(0, 1):
        step = np.gradient(walk[:, :2], axis=0)
        goes = np.linalg.norm(step, axis=1) > .3 / RATE_HZ
        faces = np.stack([-np.sin(walk[:, 3]), np.cos(walk[:, 3])], axis=1)                    # y of who is turned
        along = (step * faces).sum(axis=1) / np.linalg.norm(step, axis=1).clip(1e-9)
        assert np.median(along[goes]) > .95


def test_the_same_seed_gives_the_same_walks(scene, path, motions):
    again, other = (walk_about(scene, path, RATE_HZ, np.random.default_rng(seed)) for seed in (1, 2))
    assert np.array_equal(again.pose, motions.pose) and not np.array_equal(other.pose, motions.pose)


def test_where_nobody_can_give_way_nobody_walks(scene, path):
    watch, steps = Watch(Space(scene), path, RATE_HZ), np.arange(8) / 8
    camera = path.T_world_cam[:8, :2, 3]
    safe = safe_cells(watch, [(camera, 1.0)], 8)
    assert (np.linalg.norm(watch.at(np.argwhere(safe[0])) - camera[0], axis=1) > 1).all()
    assert (safe[0] & ~safe[-1]).sum() < safe[0].sum() < (watch.parts > 0).sum()
    with pytest.raises(InputError, match="too little free floor"):
        stroll(watch, [(camera, 50.0)], steps, np.random.default_rng(0))


def test_a_drive_among_people_is_the_same_drive(tmp_path):
    alone, among = (render_drive(5, "apartment", 1.5, MOUNT, size=(64, 48), people=people) for people in (0, 2))
    assert alone.people is None and len(among.people) == 2 * POSES
    assert np.array_equal(among.T_world_cam, alone.T_world_cam)
    on_them = np.isin(among.instances, among.people)
    assert .01 < on_them.mean() < .5 and (among.labels[on_them] == PERSON).all()
    for name in ("depth", "labels", "instances"):
        assert np.array_equal(getattr(among, name)[~on_them], getattr(alone, name)[~on_them]), name
    assert (among.depth[on_them] <= alone.depth[on_them]).all()
    assert (on_them[1:] != on_them[:-1]).any()
    for drive in (alone, among):
        save_drive(tmp_path / "drive.npz", drive)
        assert np.array_equal(load_drive(tmp_path / "drive.npz").people, drive.people)
        assert ("people" in np.load(tmp_path / "drive.npz")) == (drive is among)
