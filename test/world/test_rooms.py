"""Worlds: the same for the same seed, within their limits, closed, furnished without collisions, doors kept free."""
from __future__ import annotations

from functools import partial
from itertools import pairwise
from random import Random

import numpy as np
import pytest
from PIL import Image

from lsm_ros.errors import InputError, OutputError
from lsm_ros.labels import LabelSet
from lsm_ros.world import fixtures, furniture, pictures, things
from lsm_ros.world.clutter import litter
from lsm_ros.world.layout import Layout, overlap
from lsm_ros.world.lighting import light_room
from lsm_ros.world.materials import (
    FINISHES,
    MAX_MATERIALS,
    UPRIGHT,
    WIDE,
    MaterialPool,
    TextureCatalogue,
    load_textures,
    pack_textures,
)
from lsm_ros.world.packing import MAX_LIGHTS, parts_of
from lsm_ros.world.parts import MAX_PRIMITIVES, Assembly, Maker, Piece
from lsm_ros.world.pictures import add_pictures
from lsm_ros.world.plan import Opening, Room, make_plan, shared_side
from lsm_ros.world.rooms import KINDS, RECIPES, make_scene
from lsm_ros.world.scene import BOX, CONE, SUN
from lsm_ros.world.space import Space

SEEDS = range(-6, 24)
FURNITURE = (furniture.chair, furniture.stool, furniture.armchair, furniture.sofa, furniture.table,
             furniture.coffee_table,
             furniture.desk, furniture.bed, furniture.wardrobe, furniture.cabinet, furniture.drawers,
             furniture.bookshelf,
             furniture.rack, fixtures.oven, fixtures.refrigerator, fixtures.toilet, fixtures.washbasin,
             fixtures.bathtub,
             fixtures.microwave, things.floor_lamp, things.table_lamp, things.plant, things.person, things.television,
             things.monitor, things.cardboard_box, things.books, things.bag, things.bottle, things.toy,
             partial(fixtures.larder, front=0))


def maker(seed: int) -> Maker:
    rng = Random(seed)
    return Maker(rng, MaterialPool(rng))


def extents(piece: Piece) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest corner of a piece without what stands on it, in its own frame."""
    alone, m = Assembly(), maker(0)
    m.mat("wood")
    alone.add(Piece(piece.label, parts=[(part[0], 0, *part[2:]) for part in piece.parts]))
    scene = alone.scene(m.pool, np.zeros((1, 8)), np.zeros(6))
    reach = abs(scene.T_world_prim[:, :, :3]).sum(axis=2)
    middle = scene.T_world_prim[:, :, 3]
    return (middle - reach).min(axis=0), (middle + reach).max(axis=0)


def test_a_seed_makes_the_same_world_again_and_another_seed_another():
    first, again, other = make_scene(7), make_scene(7), make_scene(8)
    for mine, yours in zip(parts_of(first), parts_of(again), strict=True):
        for name in set(vars(mine)) - {"visitors"}:
            assert np.array_equal(getattr(mine, name), getattr(yours, name)), name
    assert first.T_world_prim.shape != other.T_world_prim.shape or not np.allclose(first.T_world_prim,
                                                                                   other.T_world_prim)


def test_an_unknown_kind_is_named():
    with pytest.raises(InputError, match="'castle'.*apartment"):
        make_scene(0, "castle")


@pytest.mark.parametrize("kind", KINDS)
def test_scenes_are_valid(kind):
    labels = LabelSet.load()
    for seed in SEEDS:
        scene = make_scene(seed, kind)
        count, materials, lights = len(scene.shape), len(scene.materials), len(scene.lights)
        assert count <= MAX_PRIMITIVES and materials <= MAX_MATERIALS and 2 <= lights <= MAX_LIGHTS
        assert scene.T_world_prim.shape == (count, 3, 4) and scene.T_world_prim.dtype == np.float32
        assert np.isfinite(scene.T_world_prim).all() and np.isfinite(scene.materials).all()
        assert BOX <= scene.shape.min() and scene.shape.max() <= CONE
        assert 0 <= scene.label.min() and scene.label.max() < len(labels)
        assert 0 <= scene.material.min() and scene.material.max() < materials
        assert (scene.materials[:, :6] >= 0).all() and (scene.materials[:, :6] <= 1).all()
        assert (scene.materials[:, 10] == -1).all(), "no catalogue was given"
        suns = scene.lights[scene.lights[:, 6] == SUN]
        assert (np.abs(suns[:, 7]) < .05).all() and (scene.lights[scene.lights[:, 6] != SUN, 7] != 0).all()
        *_, back = scene.lights
        assert back[2] < 0 and back[7] < 0 and (back[3:6] > 0).all(), "what the floor throws back casts no shadows"
        assert np.allclose(np.linalg.norm(suns[:, :3], axis=1), 1, atol=1e-5)
        axes = scene.T_world_prim[:, :, :3]
        scale = np.linalg.norm(axes, axis=1)
        gram = np.einsum("pji,pjk->pik", axes / scale[:, None], axes / scale[:, None])
        assert np.allclose(gram, np.eye(3), atol=1e-4), "axes are at right angles"


def test_every_label_occurs_and_the_kinds_hold_what_they_are_named_for():
    names = LabelSet.load().names
    seen = {kind: set() for kind in KINDS}
    for kind in KINDS:
        for seed in range(40):
            seen[kind] |= {names[label] for label in np.unique(make_scene(seed, kind).label)}
    assert set.union(*seen.values()) == set(names)
    assert {"sofa", "coffee table", "television"} <= seen["home"]
    assert {"counter", "sink", "oven", "refrigerator"} <= seen["kitchen"]
    assert {"bed", "pillow", "wardrobe"} <= seen["bedroom"]
    assert {"toilet", "bathtub", "sink", "mirror"} <= seen["bath"]
    assert {"desk", "monitor", "chair"} <= seen["office"]


@pytest.mark.parametrize("kind", KINDS)
def test_rooms_are_closed(kind):
    """From the middle of each room no ray gets out: walls, lintels, sills, panes, closed doors."""
    directions = np.random.default_rng(0).normal(size=(2000, 3))
    for seed in range(8):
        space = Space(make_scene(seed, kind))
        for x0, x1, y0, y1 in space.floors:
            origin = np.array([(x0 + x1) / 2, (y0 + y1) / 2, 1.7])
            distance, _ = space.cast(np.broadcast_to(origin, directions.shape), directions)
            assert np.isfinite(distance).all()


@pytest.mark.parametrize("make", FURNITURE)
def test_furniture_keeps_to_its_footprint_and_stands_on_the_floor(make):
    labels = LabelSet.load().names
    for seed in range(30):
        piece = make(maker(seed))
        assert piece.parts and piece.label in labels and piece.width > 0 and piece.depth > 0 and piece.height > 0
        low, high = extents(piece)
        slack = .12 + .12 * max(piece.width, piece.depth)
        if piece.label not in ("plant", "lamp"):                    # leaves and arms hang over what they stand on
            assert low[0] > -piece.width / 2 - slack and high[0] < piece.width / 2 + slack
            assert low[1] > -piece.depth / 2 - slack and high[1] < piece.depth / 2 + slack
        assert high[2] < piece.height * 1.6 + .15
        for top in piece.tops:
            assert top.x0 < top.x1 and top.y0 < top.y1 and 0 <= top.z <= piece.height + .1


def test_furniture_of_one_class_differs():
    """Different designs, not only different sizes."""
    for make in (furniture.chair, furniture.table, furniture.sofa, furniture.bed, things.plant, furniture.cabinet):
        assert len({tuple(part[0] for part in make(maker(seed)).parts) for seed in range(40)}) >= 8


@pytest.mark.parametrize("make", [things.picture, things.poster, things.notices, things.whiteboard, things.mirror])
def test_what_hangs_on_a_wall_does_not_reach_into_it_or_over_its_frame(make):
    for seed in range(30):
        piece = make(maker(seed))
        low, high = extents(piece)
        assert -.01 < low[1] and high[1] < .12 and -.03 < low[2] and high[2] < piece.height + .03
        assert abs(low[0]) < piece.width / 2 + .03 and high[0] < piece.width / 2 + .03


def test_large_rooms_have_long_tables_rows_of_desks_and_rows_of_lamps():
    names = LabelSet.load().names
    chairs, desks, lamps = [], [], []
    for seed in range(60):
        for use in ("office", "kitchen"):
            m, room = maker(seed), Room(use, 0, 10, 0, 6, 3.0)
            layout = Layout(m, room, Assembly(), budget=250)
            light_room(layout)
            RECIPES[use](layout)
            objects = {(row[12], row[2]) for row in layout.assembly.rows}
            count = {name: sum(names[label] == name for _, label in objects) for name in ("chair", "desk", "lamp")}
            (chairs if use == "kitchen" else desks).append(count["chair" if use == "kitchen" else "desk"])
            lamps.append(count["lamp"])
    assert np.percentile(chairs, 75) >= 6 and np.percentile(desks, 75) >= 6 and max(lamps) >= 6


def test_things_on_a_table_stand_on_it_apart_from_each_other():
    placed = 0
    for seed in range(40):
        m = maker(seed)
        table = litter(m, furniture.table(m), "table", 5)
        top = table.tops[0]
        for k, (thing, x, y, z, _) in enumerate(table.children):
            placed += 1
            assert z == top.z and top.x0 <= x <= top.x1 and top.y0 <= y <= top.y1
            for other, a, b, *_ in table.children[:k]:
                reach = (max(thing.width, thing.depth) + max(other.width, other.depth)) / 2
                assert np.hypot(x - a, y - b) > .8 * reach
    assert placed > 40


def layouts(count: int):
    """Furnished rooms with what their Layout noted."""
    for seed in range(count):
        m = maker(seed)
        use = tuple(RECIPES)[seed % len(RECIPES)]
        room = Room(use, 0, 3.0 + seed % 4, 0, 4.0, 2.6)
        room.openings[0].append(Opening("door", 1.0, .9, 0, 2.0))
        room.openings[2].append(Opening("window", 1.5, 1.2, .9, 2.1))
        layout = Layout(m, room, Assembly(), budget=250)
        reserved = len(layout.taken)
        RECIPES[use](layout)
        yield layout, layout.taken[:reserved], layout.taken[reserved:]


def test_objects_do_not_meet_and_leave_doors_free():
    objects = pairs = 0
    for _, reserved, placed in layouts(60):
        objects += len(placed)
        for k, one in enumerate(placed):
            assert not any(overlap(one, clear) for clear in reserved), "a door or a window is blocked"
            pairs += sum(overlap(one, other) for other in placed[:k])
    assert objects > 200
    assert pairs < .12 * objects, "only chairs pushed under tables may"


def test_objects_stay_in_the_room():
    for layout, _, placed in layouts(60):
        for x, y, hw, hd, c, s, *_ in placed:
            ex, ey = abs(c) * hw + abs(s) * hd, abs(s) * hw + abs(c) * hd
            assert -.2 < x - ex and x + ex < layout.room.x1 + .2 and -.2 < y - ey and y + ey < layout.room.y1 + .2


@pytest.mark.parametrize("one, other, meet", [
    ((0, 0, 1, 1, 1, 0, 0, 1), (1.9, 0, 1, 1, 1, 0, 0, 1), True),
    ((0, 0, 1, 1, 1, 0, 0, 1), (2.1, 0, 1, 1, 1, 0, 0, 1), False),
    ((0, 0, 1, 1, 1, 0, 0, 1), (0, 0, 1, 1, 1, 0, 1.1, 2), False),                    # one over the other
    ((0, 0, 1, 1, 1, 0, 0, 1), (2.2, 0, 1, 1, .5 ** .5, .5 ** .5, 0, 1), True),        # a corner reaches in
    # turned by 45 degrees beside a corner
    ((0, 0, 1, 1, 1, 0, 0, 1), (1.8, 1.8, 1, 1, .5 ** .5, .5 ** .5, 0, 1), False),
])
def test_footprints_overlap(one, other, meet):
    assert overlap(one, other) == overlap(other, one) == meet


def test_rooms_of_a_plan_touch_wall_to_wall_and_are_joined():
    for seed in range(60):
        rooms = make_plan(maker(seed), "apartment")
        assert 2 <= len(rooms) <= 4
        joined, stack = {0}, [0]
        while stack:
            k = stack.pop()
            for opening in (o for side in rooms[k].openings for o in side):
                if opening.other >= 0 and opening.other not in joined:
                    joined.add(opening.other)
                    stack.append(opening.other)
        assert joined == set(range(len(rooms)))
        for k, a in enumerate(rooms):
            for b in rooms[:k]:
                apart = max(b.x0 - a.x1, a.x0 - b.x1, b.y0 - a.y1, a.y0 - b.y1)
                assert apart > .05, "rooms lie in each other"


def test_a_door_is_at_the_same_place_seen_from_both_rooms():
    doors = 0
    for seed in range(30):
        rooms = make_plan(maker(seed), "apartment")
        for k, room in enumerate(rooms):
            for side in range(4):
                for o in room.openings[side]:
                    if o.other < 0:
                        continue
                    doors += 1
                    x, y, _ = room.wall_pose(side, o.at)
                    back = [rooms[o.other].wall_pose((side + 2) % 4,
                                                     p.at) for p in rooms[o.other].openings[(side + 2) % 4]
                            if p.other == k]
                    assert len(back) == 1
                    assert min(abs(x - back[0][0]), abs(y - back[0][1])) < 1e-6
                    assert max(abs(x - back[0][0]), abs(y - back[0][1])) < .5
    assert doors > 30


def test_some_walls_have_doors_side_by_side():
    rows = 0
    for seed in range(60):
        for room in make_plan(maker(seed), "office"):
            for side in range(4):
                doors = sorted((o for o in room.openings[side] if o.kind == "door" and o.other < 0), key=lambda o: o.at)
                rows += len(doors) > 1 and len({o.width for o in doors}) == 1
                for one, next_ in pairwise(sorted(room.openings[side], key=lambda o: o.at)):
                    assert next_.at - one.at > (one.width + next_.width) / 2 + .1
                assert all(0 < o.at - o.width / 2 and o.at + o.width / 2 < room.side_length(side) for o in doors)
    assert 4 < rows < 25


def test_neighbours_share_a_side():
    a, b = Room("office", 0, 3, 0, 4, 2.5), Room("office", 3.2, 6, 1, 3, 2.5)
    assert shared_side(a, b, .2) == (1, 1, 3)
    assert shared_side(b, a, .2) == (3, 1, 3)
    assert shared_side(a, Room("office", 3.2, 6, 3, 5, 2.5), .2) is None      # only a metre in common


def test_some_floors_have_a_second_finish_that_is_no_room_of_its_own():
    floor, worlds = LabelSet.load().names.index("floor"), 0
    for seed in range(60):
        scene = make_scene(seed)
        low, high = (scene.T_world_prim[:, :, 3] + side * abs(scene.T_world_prim[:, :, :3]).sum(axis=2)
                     for side in (-1, 1))
        slabs = (scene.label == floor) & (low[:, 2] < -.1)
        carpets = (scene.label == floor) & ~slabs
        worlds += carpets.any()
        assert len(Space(scene).floors) == slabs.sum()
        for k in np.flatnonzero(carpets):
            assert abs(low[k, 2]) < 1e-6 and high[k, 2] < .005
            assert scene.instance[k] == 0
            assert ((low[slabs, :2] < low[k, :2] + 1e-3) & (high[slabs, :2] > high[k, :2] - 1e-3)).all(axis=1).any()
            assert not (scene.material[slabs] == scene.material[k]).all()
    assert 15 < worlds < 40


def test_materials_carry_textures_of_their_kind(tmp_path):
    folder = tmp_path / "textures"
    for k, category in enumerate(("Wood", "Fabric", "Plaster")):
        (folder / category).mkdir(parents=True)
        for n in range(2):
            Image.fromarray(np.full((32, 48, 3), 40 * k + 10 * n + 20, np.uint8)).save(folder / category / f"{n}.png")
    catalogue, atlas = load_textures(folder, size=32)
    assert atlas.shape == (6, 32, 32, 3) and atlas.dtype == np.uint8
    assert {name: len(items) for name, items in catalogue.categories.items()} == {"Wood": 2, "Fabric": 2, "Plaster": 2}
    for category, items in catalogue.categories.items():
        level = 20 + 40 * ("Wood", "Fabric", "Plaster").index(category)
        assert sorted(atlas[i].mean() for i in items) == [level, level + 10]

    assert pack_textures(folder, tmp_path / "packed.npz") == 6
    packed, packed_atlas = load_textures(tmp_path / "packed.npz", size=32)
    assert packed == catalogue
    assert abs(packed_atlas.astype(int) - atlas).max() <= 3               # JPEG

    textures = np.concatenate([make_scene(seed, textures=catalogue).materials[:, 10] for seed in range(20)])
    assert .2 < (textures >= 0).mean() < .5 and textures.max() < 6
    pool = MaterialPool(Random(0), catalogue)
    wood = [pool.rows[pool.draw("wood")][10] for _ in range(90)]
    own = [texture in catalogue.categories["Wood"] for texture in wood if texture >= 0]
    assert len(own) > 15 and np.mean(own) > .8


def test_pictures_hang_whole_and_only_where_pictures_hang():
    catalogue = TextureCatalogue({"Plaster": (0, 1), UPRIGHT: (2, 3), WIDE: (4,)})
    assert catalogue.everything == (0, 1)
    shown = 0
    for seed in range(12):
        scene = make_scene(seed, textures=catalogue)
        whole = scene.materials[:, 11] == 0
        pictures = whole & (scene.materials[:, 10] >= 0)
        assert (scene.materials[pictures, 10] >= 2).all() and (scene.materials[~pictures, 10] < 2).all()
        labels = {LabelSet.load().names[i] for i in scene.label[np.isin(scene.material, np.flatnonzero(pictures))]}
        assert labels <= {"picture", "television", "monitor"}
        shown += pictures.sum()
    assert shown > 12


def test_pictures_are_added_to_textures(tmp_path):
    folder = tmp_path / "textures" / "Wood"
    folder.mkdir(parents=True)
    Image.new("RGB", (32, 32), (150, 100, 50)).save(folder / "a.png")
    assert add_pictures(tmp_path / "textures", tmp_path / "one.npz", count=3) == 6
    catalogue, atlas = load_textures(tmp_path / "one.npz")
    assert {name: len(items) for name, items in catalogue.categories.items()} == {"Wood": 1, UPRIGHT: 3, WIDE: 3}
    assert len({picture.tobytes() for picture in atlas}) == 7 and (atlas[1:].std(axis=(1, 2, 3)) > 10).all()
    assert add_pictures(tmp_path / "one.npz", tmp_path / "two.npz", count=2) == 4         # instead of those there
    assert len(load_textures(tmp_path / "two.npz")[0].categories[WIDE]) == 2


def test_pictures_that_have_nowhere_to_go_are_not_made(tmp_path, monkeypatch):
    monkeypatch.setattr("lsm_ros.world.pictures.photograph_worlds", lambda *_: pytest.fail("two minutes for nothing"))
    with pytest.raises(OutputError, match="no folder .*nowhere"):
        add_pictures(tmp_path, tmp_path / "nowhere" / "out.npz")


@pytest.mark.parametrize("count", [0, -3])
def test_no_pictures_are_none_to_add(tmp_path, monkeypatch, capsys, count):
    monkeypatch.setattr("sys.argv", ["pictures", str(tmp_path), str(tmp_path / "out.npz"), "--count", str(count)])
    assert pictures.main() == 2
    assert f"error: count = {count}; " in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_textures_may_have_any_suffix_of_their_kind(tmp_path):
    (tmp_path / "Wood").mkdir()
    for k, name in enumerate(("a.JPG", "b.jpeg", "c.JPEG", "d.PNG", "e.jpg")):
        Image.new("RGB", (16, 16), (40 * k + 20,) * 3).save(tmp_path / "Wood" / name)
    (tmp_path / "Wood" / "._e.jpg").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X")
    (tmp_path / "Wood" / "README.txt").write_text("no picture")
    for source in (tmp_path, tmp_path / "packed.npz"):
        catalogue, atlas = load_textures(source, size=16)
        assert catalogue.categories == {"Wood": (0, 1, 2, 3, 4)}
        assert abs(atlas.mean(axis=(1, 2, 3)) - [20, 60, 100, 140, 180]).max() < 3
        pack_textures(tmp_path, tmp_path / "packed.npz")


def test_a_texture_of_16_bits_is_as_bright_as_one_of_8(tmp_path):
    (tmp_path / "Concrete").mkdir()
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(grey).save(tmp_path / "Concrete" / "a.png")
    Image.fromarray(257 * grey.astype(np.uint16)).save(tmp_path / "Concrete" / "b.png")
    _, (of_8, of_16) = load_textures(tmp_path, size=16)
    assert np.array_equal(of_8, of_16)


def test_a_texture_that_is_a_folder_is_told_in_one_line(tmp_path, monkeypatch, capsys):
    (tmp_path / "Wood" / "a.jpg").mkdir(parents=True)
    monkeypatch.setattr("sys.argv", ["pictures", str(tmp_path), str(tmp_path / "out.npz")])
    assert pictures.main() == 2
    assert "a.jpg" in capsys.readouterr().err


def test_textures_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(InputError, match="nowhere"):
        load_textures(tmp_path / "nowhere")
    (tmp_path / "Wood").mkdir()
    with pytest.raises(InputError, match="holds no textures"):
        load_textures(tmp_path)
    with pytest.raises(InputError, match="holds no textures"):
        pack_textures(tmp_path, tmp_path / "packed.npz")
    assert not (tmp_path / "packed.npz").exists()
    (tmp_path / "Wood" / "bad.jpg").write_bytes(b"not a picture")
    for read in (load_textures, lambda folder: pack_textures(folder, tmp_path / "packed.npz")):
        with pytest.raises(InputError, match=f"texture Wood/bad.jpg of {tmp_path}"):
            read(tmp_path)


def test_a_full_pool_hands_out_old_materials():
    pool = MaterialPool(Random(0), None)
    assert len({pool.draw("wood", limit=3) for _ in range(20)}) == 3
    indices = [pool.draw(finish) for _ in range(10) for finish in FINISHES]
    assert len(pool.rows) == MAX_MATERIALS and max(indices) < MAX_MATERIALS


def test_a_catalogue_without_textures_is_like_none():
    materials = make_scene(3, textures=TextureCatalogue({})).materials
    assert (materials[:, 10] == -1).all()
