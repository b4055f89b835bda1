"""People of simple shapes: proportions, joints, gait, and who sits where."""
from __future__ import annotations

from random import Random

import numpy as np
import pytest

from lsm_ros.world import figures, things
from lsm_ros.world.figures import HIP, Body, bystander, sitter, standing, walker, walking
from lsm_ros.world.materials import MaterialPool
from lsm_ros.world.movers import POSES
from lsm_ros.world.parts import Assembly, Maker, Piece, Top, label_indices
from lsm_ros.world.rooms import make_scene
from lsm_ros.world.scene import CYLINDER, ELLIPSOID, Scene

SEATS = (Top(-.2, .2, -.2, .22, .46), Top(-.3, .3, -.25, .4, .38), Top(-.8, .8, -.2, .45, .42),
         Top(-.18, .18, -.18, .18, .75))
LEFT_SHOE, RIGHT_SHOE, HIPS = 2, 5, 6            # among a figure's parts
SEAT_LABELS = [label_indices()[name] for name in ("chair", "armchair", "sofa", "stool")]
PERSON = label_indices()["person"]


def maker(seed: int) -> Maker:
    rng = Random(seed)
    return Maker(rng, MaterialPool(rng))


def scene_of(piece: Piece) -> Scene:
    m, assembly = maker(0), Assembly()
    m.mat("wood")
    assembly.add(Piece(piece.label, parts=[(part[0], 0, *part[2:]) for part in piece.parts]))
    return assembly.scene(m.pool, np.zeros((1, 8)), np.zeros(6))


def heights(piece: Piece) -> np.ndarray:
    """(P, 2): the lowest and the highest point of each part."""
    scene = scene_of(piece)
    assert np.isin(scene.shape, (ELLIPSOID, CYLINDER)).all()
    x, y, z = abs(scene.T_world_prim[:, 2, :3]).T
    reach = np.where(scene.shape == CYLINDER, np.hypot(x, y) + z, np.sqrt(x * x + y * y + z * z))
    return scene.T_world_prim[:, 2, 3, None] + reach[:, None] * (-1, 1)


def everybody(seed: int) -> list[Piece]:
    return [bystander(maker(seed)), *walker(maker(seed)), *(sitter(maker(seed), seat)[0] for seat in SEATS)]


def test_figures_are_as_high_as_people_and_stand_on_the_floor():
    tall = []
    for seed in range(60):
        m = maker(seed)
        body = Body.random(m)
        low, high = heights(body.piece(standing(m, body))).T
        assert -1e-6 < low.min() < .01, seed
        assert .97 * body.height < high.max() < 1.05 * body.height
        tall.append(body.height)
        for phase in np.linspace(0, 1, 9):
            low, high = heights(body.piece(walking(body, phase))).T
            assert -1e-6 < low.min() < .01 and .9 * body.height < high.max() < 1.05 * body.height
    assert min(tall) > 1.0 and max(tall) < 1.96 and 1.55 < np.median(tall) < 1.85
    assert 0 < np.mean(np.array(tall) < 1.5) < .2                                        # children


def test_hips_hands_and_head_are_where_those_of_people_are():
    body = next(body for body in (Body.random(maker(seed)) for seed in range(99))
                if body.holds == (None, None) and body.height > 1.5 and not body.skirt and not body.bag)
    piece = body.piece(standing(maker(0), body))
    parts = {}
    for part, span in zip(piece.parts, heights(piece) / body.height, strict=True):
        parts.setdefault(part[1], []).append(span)
    skin = np.array(parts[body.skin])
    head, hands = skin[skin[:, 1].argmax()], skin[skin[:, 1] < .55]
    assert head[1] - head[0] == pytest.approx(.13, abs=.01)
    assert len(hands) == 2 and (abs(hands.mean(axis=1) - .43) < .06).all()
    top = np.array(parts[body.top])
    assert abs(top[:, 1].max() - .83) < .04                                              # shoulders
    assert abs(np.array(parts[body.bottom])[:, 1].max() - HIP) < .11


def test_a_figure_hangs_together():
    """Each part reaches into another, and so on to all of them: no limb is off."""
    ball = np.random.default_rng(0).normal(size=(400, 3))
    ball *= np.random.default_rng(1).uniform(0, 1, (400, 1)) ** (1 / 3) / np.linalg.norm(ball, axis=1, keepdims=True)
    for seed in range(25):
        for piece in everybody(seed):
            scene = scene_of(piece)
            T = scene.T_world_prim.astype(np.float64)
            points = ball @ T[:, :, :3].swapaxes(1, 2) + T[:, None, :, 3]                # (P, 400, 3)
            local = np.einsum("qij,pnqj->pqni", np.linalg.inv(T[:, :, :3]), points[:, :, None] - T[None, None, :, :, 3])
            meets = (np.linalg.norm(local, axis=-1) < 1).any(axis=2)
            meets |= meets.T
            assert np.linalg.matrix_power(meets.astype(float), len(T)).all(), seed


def test_a_walker_steps_with_either_leg():
    for seed in range(40):
        stands, *steps = walker(maker(seed))
        assert len(steps) + 1 == POSES
        ahead = [piece.parts[RIGHT_SHOE][4] - piece.parts[LEFT_SHOE][4] for piece in (stands, *steps)]
        assert abs(ahead[0]) < .12
        assert ahead[1] > .17 * stands.height and ahead[1] == pytest.approx(-ahead[2], abs=1e-6)
        for piece in steps:                                          # in the same clothes
            assert [part[:2] for part in piece.parts] == [part[:2] for part in stands.parts]


def test_who_sits_is_on_his_seat_with_his_feet_on_the_floor():
    dangling = 0
    for seed in range(40):
        for seat in SEATS:
            piece, x, y = sitter(maker(seed), seat)
            low, high = heights(piece).T
            assert low.min() > -.03
            dangling += low.min() > .05
            assert seat.x0 <= x <= seat.x1 and seat.y0 < y < seat.y1 + .1
            assert .45 < high.max() - seat.z < 1.1                                       # sitting height
            assert seat.z - .05 < low[HIPS] < seat.z + .03
            shins = [y + piece.parts[shoe - 1][4] for shoe in (LEFT_SHOE, RIGHT_SHOE)]
            assert min(shins) > seat.y1                                                # before the edge, not inside
    assert .2 < dangling / 160 < .4                                                      # from a bar stool; children


def test_few_seats_are_taken_and_those_who_sit_are_over_a_seat():
    seats = sitters = worlds = 0
    for seed in range(120):
        scene = make_scene(seed)
        seats += len(np.unique(scene.instance[np.isin(scene.label, SEAT_LABELS)]))
        before = sitters
        for name in np.unique(scene.instance[scene.label == PERSON]):
            parts = scene.T_world_prim[scene.instance == name]
            if abs(parts[0, 2, 2]) > .7 * np.linalg.norm(parts[0, :, 2]):                # whose thigh hangs down
                continue
            sitters += 1
            x, y = parts[HIPS, :2, 3]
            near = [np.hypot(*(scene.T_world_prim[scene.instance == other, :2, 3] - (x, y)).T).min()
                    for other in np.unique(scene.instance[np.isin(scene.label, SEAT_LABELS)])]
            assert min(near) < .6
        worlds += sitters > before
    assert .01 < sitters / seats < .08 and worlds < .2 * 120


def test_who_sits_changes_nothing_else_in_the_world(without_and_with_sitters):
    added = 0
    for seed in range(8):
        empty, full = without_and_with_sitters(seed, "home")
        P = len(empty.shape)
        for name in ("shape", "T_world_prim", "label", "instance", "material"):
            assert np.array_equal(getattr(full, name)[:P], getattr(empty, name)), name
        assert np.array_equal(full.lights, empty.lights)
        assert (full.label[P:] == PERSON).all() and (full.instance[P:] > empty.instance.max()).all()
        added += len(np.unique(full.instance[P:]))
    assert added > 4


def test_people_differ_and_take_one_number_of_the_worlds():
    looks = {tuple(part[:2] + part[6:9] for part in things.person(maker(seed)).parts) for seed in range(30)}
    assert len(looks) == 30
    assert len({Body.random(maker(seed)).hair for seed in range(30)}) == 4
    for seed in range(10):
        m, rng = maker(seed), Random(seed)
        things.person(m)
        rng.random()
        assert m.rng.random() == rng.random()


def test_a_figure_is_few_primitives():
    counts = [piece.count() for seed in range(60) for piece in everybody(seed)]
    assert max(counts) <= 20 and np.mean(counts) < 19 and figures.GAIT[-1] == 1
