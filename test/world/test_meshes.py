"""Furniture models: the importer, the file, the trees, the kernel's pictures of meshes, and worlds that use them."""
from __future__ import annotations

import re
from pathlib import PurePosixPath
from random import Random

import numpy as np
import pytest
import torch

from lsm_ros.data.packed import read_npz, write_npz
from lsm_ros.errors import InputError, OutputError
from lsm_ros.labels import LabelSet
from lsm_ros.world import plants, reference
from lsm_ros.world.import_meshes import clusters, import_meshes, largest_rectangle
from lsm_ros.world.materials import MaterialPool
from lsm_ros.world.meshes import (
    LEAF,
    MeshCatalogue,
    MeshLibrary,
    Model,
    Part,
    build,
    corner_normals,
    load_meshes,
    octahedral,
    save_meshes,
)
from lsm_ros.world.models import model_piece
from lsm_ros.world.packing import MAX_MATERIALS, MAX_PRIMITIVES
from lsm_ros.world.parts import Maker
from lsm_ros.world.renderer import MeshAtlas, Renderer, SceneBank
from lsm_ros.world.rooms import MATERIALS_WITH_MESHES, make_scene
from lsm_ros.world.scene import BOX, ELLIPSOID, MATERIAL_COLUMNS, MESH, POINT, Scene
from lsm_ros.world.simplification import fewer, simplify
from lsm_ros.world.stream import fixed_batch
from lsm_ros.world.wavefront import Material, read_mtl

DEVICES = ["cpu"] + ["cuda"] * torch.cuda.is_available()
LABELS = LabelSet.load().names
CUBE = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)
CUBE_FACES = np.array([[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1], [2, 3, 7], [2, 7, 6],
                       [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]])


def library(*models: tuple[np.ndarray, np.ndarray, np.ndarray], size=(1.0, 1.0, 1.0)) -> MeshLibrary:
    """Of (vertices in the unit frame, faces, parts) each."""
    return MeshLibrary(vertices=np.concatenate([np.round((v + 1) * 32767.5) for v, _, _ in models]).astype(np.uint16),
                       triangles=np.concatenate([f for _, f, _ in models]).astype(np.uint16),
                       part=np.concatenate([p for _, _, p in models]).astype(np.uint8),
                       vertex_end=np.cumsum([len(v) for v, _, _ in models]),
                       triangle_end=np.cumsum([len(f) for _, f, _ in models]),
                       size=np.tile(np.float32(size), (len(models), 1)))


def cube() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return CUBE, CUBE_FACES, np.zeros(12, int)


def shards(seed: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Loose triangles of three parts, all over the box."""
    rng = np.random.default_rng(seed)
    middle = rng.uniform(-.8, .8, (count, 1, 3))
    return (np.clip(middle + rng.uniform(-.35, .35, (count, 3, 3)), -1, 1).reshape(-1, 3),
            np.arange(3 * count).reshape(-1, 3), rng.integers(0, 3, count))


def ball(n: int = 10) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A closed round mesh of 2 n (n - 1) faces."""
    theta, phi = np.linspace(0, np.pi, n + 1)[1:-1], np.arange(n) * 2 * np.pi / n
    rings = [(np.sin(t) * np.cos(p), np.sin(t) * np.sin(p), np.cos(t)) for t in theta for p in phi]
    vertices = np.array([*rings, (0, 0, 1), (0, 0, -1)])
    faces = []
    for k in range(n):
        j = (k + 1) % n
        faces += [(len(rings), k, j), (len(rings) + 1, len(rings) - n + j, len(rings) - n + k)]
        faces += [face for i in range(n - 2) for face in
                  ((i * n + k, (i + 1) * n + k, (i + 1) * n + j), (i * n + k, (i + 1) * n + j, i * n + j))]
    return vertices, np.array(faces), np.zeros(len(faces), int)


def catalogue(*roles: tuple[str, str], size=(.5, .5, .9)) -> MeshCatalogue:
    return MeshCatalogue(tuple(
        Model(i, role, role, label, size, 0.0, ((.05, .95, .05, .95, 1.0, 2.0),),
              (Part((.8, .2, .1), "wood"), Part((.1, .2, .8), "fabric"), Part((.5, .5, .5), "")), "nobody")
        for i, (role, label) in enumerate(roles)))


ROOM = (("chair", "chair"), ("table", "table"), ("sofa", "sofa"), ("bed", "bed"), ("desk", "desk"), ("plant", "plant"),
        ("rack", "shelf"), ("low cabinet", "cabinet"), ("small object", "object"), ("wall cupboard", "cabinet"))


# ---- trees and normals

@pytest.mark.parametrize("count", [1, 4, 5, 33, 250])
def test_the_tree_holds_every_triangle_once(count):
    trees = build(library(shards(count, count)))
    (node, first, triangles, depth), = trees.models.tolist()
    assert (node, first, triangles, len(trees.nodes)) == (0, 0, count, 2 << depth)
    leaves = 1 << depth
    ends = [(k + 1) * count >> depth for k in range(leaves)]
    assert ends[-1] == count and max(np.diff([0, *ends])) <= LEAF and min(np.diff([0, *ends])) >= 1
    corner, edges = trees.triangles[:, 0:3], (trees.triangles[:, 4:7], trees.triangles[:, 8:11])
    points = np.stack([corner, corner + edges[0], corner + edges[1]], axis=1)
    for k, (start, end) in enumerate(zip([0, *ends], ends)):
        at = leaves + k
        while at:                                          # inside the leaf's box and inside all boxes above it
            assert (points[start:end] >= trees.nodes[at, 0:3]).all()
            assert (points[start:end] <= trees.nodes[at, 4:7]).all()
            at //= 2
    expected = library(shards(count, count)).model(0)[0].reshape(-1, 9)
    points = points.reshape(-1, 9)
    key = np.arange(1.0, 10.0) ** .5                       # puts both into one order
    assert np.allclose(points[(points @ key).argsort()], expected[(expected @ key).argsort()], atol=1e-5)


def from_octahedral(bits: np.ndarray) -> np.ndarray:
    """(...) uint32 -> (..., 3) float64, unit length."""
    p = np.stack([bits & 16383, bits >> 14 & 16383], axis=-1) / 16383 * 2 - 1
    z = 1 - abs(p).sum(axis=-1, keepdims=True)
    p = np.where(z < 0, (1 - abs(p[..., ::-1])) * np.where(p >= 0, 1.0, -1.0), p)
    normal = np.concatenate([p, z], axis=-1)
    return normal / np.linalg.norm(normal, axis=-1, keepdims=True)


def test_normals_are_kept_to_a_hundredth_of_a_degree():
    normals = np.random.default_rng(0).normal(size=(2000, 3))
    normals[:6] = [[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]]
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    assert np.linalg.norm(from_octahedral(octahedral(normals)) - normals, axis=1).max() < 4e-4


def test_a_ball_is_smooth_and_a_cube_has_edges_whatever_the_winding():
    vertices, faces, _ = ball(16)
    flipped = np.where(np.arange(len(faces))[:, None] % 2, faces[:, ::-1], faces)
    normals = corner_normals(vertices, flipped, np.ones(3))
    assert (abs((normals * vertices[flipped]).sum(axis=-1)) > .98).all()
    flat = corner_normals(CUBE, CUBE_FACES, np.ones(3))
    assert (abs(flat).max(axis=-1) > .999).all()


# ---- pictures

def scene_of(*shapes: int, half=(.7, .5, .9), materials: int = 3) -> Scene:
    """Things side by side on a floor under a lamp, the materials of each of another colour."""
    count = len(shapes) + 1
    T_world_prim = np.zeros((count, 3, 4), np.float32)
    T_world_prim[0] = np.column_stack([np.diag([9, 9, .1]), [0, 0, -.1]])
    for i in range(1, count):
        c, s = np.cos(.4 * i), np.sin(.4 * i)
        T_world_prim[i, :, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) * half
        T_world_prim[i, :, 3] = (1.9 * (i - count / 2), 0, half[2] + .05)
    rng = np.random.default_rng(0)
    rows = np.zeros((materials * count, len(MATERIAL_COLUMNS)), np.float32)
    rows[:, :6], rows[:, 10], rows[:, 12] = rng.uniform(.1, .9, (len(rows), 6)), -1, .3
    rows[:, 6], rows[:, 7], rows[:, 8], rows[:, 9] = rng.integers(0, 7, len(rows)), 5, 1, .6
    rows[0, 14] = .3                                                       # the floor mirrors
    return Scene(shape=np.array([BOX, *shapes], np.int32), T_world_prim=T_world_prim,
                 label=np.arange(count, dtype=np.int32), instance=np.arange(count, dtype=np.int32),
                 material=materials * np.arange(count, dtype=np.int32), materials=rows,
                 lights=np.array([[.5, 2.5, 3.2, 9, 9, 8, POINT, .05]], np.float32), ambient=np.full(6, .3, np.float32))


def camera(size: tuple[int, int], device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """At (0.4, 3.6, 2.2), looking down at the row of things."""
    center, target = np.array([.4, 3.6, 2.2]), np.array([0, 0, .5])
    forward = (target - center) / np.linalg.norm(target - center)
    right = np.cross(forward, [0, 0, 1])
    right /= np.linalg.norm(right)
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = np.column_stack([right, np.cross(forward, right), forward]), center
    K = np.array([[.7 * size[1], 0, size[1] / 2], [0, .7 * size[1], size[0] / 2], [0, 0, 1]])
    return torch.tensor(T, device=device).float(), torch.tensor(K, device=device).float()


def draw(scene: Scene, meshes: MeshLibrary | None, size=(60, 90), device="cpu"):
    T_world_cam, K = camera(size, device)
    renderer = Renderer(device, samples=1, soft_shadows=False, meshes=meshes and MeshAtlas(meshes, device))
    return renderer.render(SceneBank.of([scene], device), torch.zeros(1, dtype=torch.int64, device=device),
                           T_world_cam[None, None], K[None, None], size)


@pytest.mark.parametrize("device", DEVICES)
def test_the_kernel_draws_meshes_as_the_reference_does(device):
    meshes, scene = library(shards(1, 70), ball(), cube()), scene_of(MESH, MESH + 1, MESH + 2, ELLIPSOID)
    drawn = draw(scene, meshes, device=device)
    expected = reference.render(scene, *camera((60, 90), device), (60, 90), meshes=meshes)
    agreement = reference.compare(drawn, expected)
    assert agreement.good(), agreement
    assert set(drawn.instance.unique().tolist()) >= {0, 1, 2, 3, 4}
    colors = drawn.radiance[0, 0][:, drawn.instance[0, 0] == 1].T
    assert len(torch.unique((colors / colors.norm(dim=1, keepdim=True)).mul(8).round(), dim=0)) > 3      # parts differ


def test_a_cube_of_triangles_is_a_box():
    flipped = np.where(np.arange(12)[:, None] % 2, CUBE_FACES[:, ::-1], CUBE_FACES)       # windings do not matter
    box, mesh = draw(scene_of(BOX), None), draw(scene_of(MESH), library((CUBE, flipped, np.zeros(12, int))))
    same = box.instance == mesh.instance
    assert same.float().mean() > .998
    assert torch.allclose(box.depth[same], mesh.depth[same], rtol=1e-4)
    assert torch.equal(box.label[same], mesh.label[same])
    faces = same & (box.instance == 1)
    error = (box.radiance - mesh.radiance).abs().amax(dim=2)[faces]
    assert error.quantile(.95) < .02 * box.radiance.max()
    assert torch.quantile((box.radiance - mesh.radiance).abs(), .95) < .12 * box.radiance.max()     # contact


def test_light_falls_between_the_legs_of_a_table():
    board = CUBE * (1, 1, .05) + (0, 0, .95)
    leg = CUBE * (.06, .06, .9)
    parts = [board, *(leg + (x, y, 0) for x in (-.9, .9) for y in (-.9, .9))]
    faces = np.concatenate([CUBE_FACES + 8 * k for k in range(5)])
    table = library((np.clip(np.concatenate(parts), -1, 1), faces, np.zeros(len(faces), int)))
    seen = draw(scene_of(MESH), table)
    box = draw(scene_of(BOX), None)
    through = (box.instance == 1) & (seen.instance == 0)
    assert through.sum() > 100 and (seen.depth[through] > box.depth[through]).all()
    assert (seen.radiance[:, :, :, 40:] > 0).any()


def test_a_model_that_the_renderer_does_not_have():
    with pytest.raises(InputError, match="model 2; the renderer has 1"):
        draw(scene_of(MESH + 2), library(cube()))
    with pytest.raises(InputError, match="model 0; the renderer has 0"):
        draw(scene_of(MESH), None)


# ---- worlds

def test_the_same_seed_makes_the_same_world_with_models():
    models = catalogue(*ROOM)
    for seed in range(6):
        one, two = (make_scene(seed, "home", None, models) for _ in range(2))
        plain = make_scene(seed, "home")
        assert all(np.array_equal(getattr(one, name), getattr(two, name))
                   for name in set(Scene.__dataclass_fields__) - {"visitors"})
        assert (plain.shape < MESH).all() and (one.shape >= MESH).any()
        mesh = one.shape >= MESH
        assert (one.material[mesh] + 3 <= len(one.materials)).all()
        assert (one.shape[mesh] - MESH < len(models.models)).all()
        assert len(one.shape) <= MAX_PRIMITIVES and len(one.materials) <= MAX_MATERIALS
        for shape, label in zip(one.shape[mesh] - MESH, one.label[mesh]):
            assert LABELS[label] == models.models[shape].label
    assert MATERIALS_WITH_MESHES <= MAX_MATERIALS


def test_a_piece_stands_on_the_floor_and_keeps_its_parts_together():
    m = Maker(Random(1), MaterialPool(Random(2), None, 256), catalogue(("table", "table"), size=(1.4, .8, .75)))
    piece = model_piece(m, "table")
    (shape, material, _, x, y, z, *half, _, _, _), = piece.parts
    assert (shape, x, y) == (MESH, 0, 0) and z == half[2] and len(m.pool.rows) == material + 3
    top, = piece.tops
    assert top.z == pytest.approx(piece.height) and -piece.width / 2 < top.x0 < top.x1 < piece.width / 2
    assert model_piece(m, "table", w=4.0) is None and model_piece(m, "throne") is None
    full = Maker(Random(1), MaterialPool(Random(2), None, 2), m.models)
    assert model_piece(full, "table") is None                              # no room for its three materials


def test_windows_of_one_kind_with_models(tmp_path):
    file = save(tmp_path / "models.npz")
    batch = fixed_batch(range(4), (24, 32), 2, "cpu", meshes=file, kind="bedroom")
    again = fixed_batch(range(4), (24, 32), 2, "cpu", meshes=file, kind="bedroom")
    other = fixed_batch(range(4), (24, 32), 2, "cpu", kind="bedroom")
    assert torch.equal(batch.image, again.image) and torch.equal(batch.label, again.label)
    assert not torch.equal(batch.depth, other.depth)


# ---- the file

ENDS = np.arange(40, 401, 40)          # of the models' triangles


def save(file):
    models = catalogue(*ROOM)
    save_meshes(file, library(*(shards(i, 40) for i in range(len(ROOM))), size=models.models[0].size), models.models)
    return file


def test_what_is_saved_is_loaded(tmp_path):
    models, whole = load_meshes(save(tmp_path / "m.npz"))
    assert [model.role for model in models.models] == [role for role, _ in ROOM]
    assert models.models[3].parts[1] == Part((pytest.approx(.1), pytest.approx(.2), pytest.approx(.8)), "fabric")
    assert models.models[0].tops[0] == pytest.approx((.05, .95, .05, .95, 1.0, 2.0))
    vertices, faces, part = whole.model(2)
    expected = shards(2, 40)
    assert np.allclose(vertices, expected[0], atol=2e-5) and np.array_equal(faces, expected[1])
    assert np.array_equal(part, expected[2])


def test_files_that_are_no_models(tmp_path):
    with pytest.raises(InputError, match="absent.npz"):
        load_meshes(tmp_path / "absent.npz")
    whole = save(tmp_path / "m.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[:len(whole) // 2])
    (tmp_path / "text.npz").write_text("chair")
    np.savez(tmp_path / "other.npz", names=np.array(["x"]))
    for name in ("cut.npz", "text.npz", "other.npz"):
        with pytest.raises(InputError, match=name):
            load_meshes(tmp_path / name)


@pytest.mark.parametrize("changes", [{"triangles": np.full((400, 3), 999, np.uint16)},
                                     {"part": np.full(400, 3, np.uint8)}, {"size": np.zeros((10, 3), np.float32)},
                                     {"size": np.ones((9, 3), np.float32)},
                                     {"vertex_end": np.arange(10) * 3 + 3}, {"part": np.zeros(7, np.uint8)},
                                     {"triangles": np.full((400, 3), -1, np.int16)},
                                     {"triangles": np.full((400, 3), np.nan)},
                                     {"triangles": np.zeros((400, 4), np.uint16)},
                                     {"part": np.full(400, -1, np.int8)}, {"part": np.zeros(400)},
                                     {"vertices": np.full((1200, 3), np.inf)},
                                     {"size": np.full((10, 3), np.inf, np.float32)},
                                     {"triangle_end": ENDS.astype(np.uint64)}, {"triangle_end": ENDS[:, None]},
                                     {"triangle_end": np.where(np.arange(10) == 4, 1 << 62, ENDS)},
                                     {"triangle_end": np.where(np.arange(10) == 4, 0, ENDS)},
                                     # Each is some way beyond the one before, if the differences come round.
                                     {"triangle_end": np.r_[ENDS[:7], -1 << 63, -5, 400]},
                                     {"elevation": np.full(10, np.nan, np.float32)},
                                     {"elevation": np.zeros(9, np.float32)}, {"elevation": np.array(["high"] * 10)},
                                     {"tops": np.zeros((10, 3), np.float32)}, {"tops": np.array([[0, *[np.nan] * 6]])},
                                     {"part_color": np.zeros((30, 2), np.float32)},
                                     {"part_color": np.zeros(30, np.float32)},
                                     {"part_color": np.full((30, 3), np.nan)}, {"part_count": np.full(10, -3)},
                                     {"part_count": np.full(10, 4)}, {"name": np.array("chair")}])
def test_a_damaged_file_is_named(changes, tmp_path):
    file = save(tmp_path / "m.npz")
    write_npz(file, read_npz(file) | changes)
    with pytest.raises(InputError, match="m.npz is damaged"):
        load_meshes(file)


# ---- the importer

CATALOGUE = """license=Creative Commons Attribution 3.0
id#1=Mine#oakTable
name#1=Oak table
model#1=/mine/table.obj
width#1=120
depth#1=60
height#1=75
creator#1=Ada
id#2=Mine#rocket
name#2=Rocket
model#2=/mine/none.obj
width#2=1
depth#2=1
height#2=1
id#3=Mine#thonet
name#3=Chair
license#3=all rights reserved
model#3=/mine/none.obj
width#3=1
depth#3=1
height#3=1
"""


def write_source(folder):
    """A table in inches, y up, whose front edge (+z) is red."""
    (folder / "a" / "mine").mkdir(parents=True)
    (folder / "a" / "PluginFurnitureCatalog.properties").write_text(CATALOGUE, "latin-1")
    (folder / "a" / "mine" / "table.mtl").write_text("newmtl Oak wood\nKd .6 .4 .2\nnewmtl paint\nKd .9 .1 .1\n")
    lines, count = ["mtllib table.mtl", "usemtl Oak wood"], 0

    def block(x0, x1, y0, y1, z0, z1):
        nonlocal count
        corners = [(x, y, z) for x in (x0, x1) for y in (y0, y1) for z in (z0, z1)]
        lines.extend("v {} {} {}".format(*corner) for corner in corners)
        lines.extend("f " + " ".join(f"{count + 1 + k}//" for k in quad) for quad in
                     ((0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)))
        count += 8
    block(-20, 20, 24, 25, -10, 10)
    for x in (-19, 18):
        for z in (-9, 8):
            block(x, x + 1, 0, 24, z, z + 1)
    lines.append("usemtl paint")
    block(-20, 20, 22, 24, 9.5, 10)
    (folder / "a" / "mine" / "table.obj").write_text("\n".join(lines))


def test_a_catalogue_becomes_a_file(tmp_path):
    write_source(tmp_path / "in")
    made = import_meshes(tmp_path / "in", tmp_path / "out.npz")
    models, whole = load_meshes(tmp_path / "out.npz")
    model, (vertices, faces, part) = models.models[0], whole.model(0)
    assert {other.credit for other in made[1:]} == {plants.CREDIT}
    assert (model.name, model.role, model.label) == ("oak table", "table", "table")
    assert model.size == pytest.approx((1.2, .6, .75)) and model.credit.startswith("Ada (Mine): Creative Commons")
    assert {part.finish for part in model.parts} == {"wood"} or model.parts[0].finish == "wood"
    red = int(np.argmax([p.color[0] - p.color[1] for p in model.parts]))
    assert model.parts[red].color == pytest.approx((.9, .1, .1), abs=.01)
    assert vertices[faces[part == red]][:, :, 1].min() > .85                # the red edge is in front, at +y
    assert abs(vertices).max(axis=0) == pytest.approx((1, 1, 1))
    (x0, x1, y0, y1, z, _), = model.tops
    assert x1 - x0 > .9 and y1 - y0 > .9 and z == pytest.approx(1, abs=.01)


def test_plants_stand_in_their_pots():
    models = list(plants.grown_models(3, large=16, small=8, tall=16))
    assert [model.index for model, *_ in models] == list(range(3, 43))
    for n, (model, vertices, faces, part) in enumerate(models):
        metric = (vertices / 65535 - (.5, .5, 0)) * model.size
        leaves, pot = np.isin(part, (plants.LEAF, plants.YOUNG)), metric[faces[part == plants.POT]]
        assert faces.max() < len(vertices) and leaves.sum() > 60 and len(model.parts) > part.max()
        assert abs(pot[..., :2]).max() < .26 and abs(pot.min(axis=(0, 1))[:2] + pot.max(axis=(0, 1))[:2]).max() < .03
        assert pot[..., 2].min() == 0 and metric[faces[leaves]][..., 2].max() > .9 * model.size[2]
        widest = plants.WIDEST_TALL if n >= 24 else plants.WIDEST
        assert max(model.size[:2]) < (widest + .01) / (3 if model.role == "small plant" else 1)
    again = next(plants.grown_models(0))
    assert np.array_equal(again[1], models[0][1]) and not np.array_equal(models[0][1].shape, models[8][1].shape)


def test_a_plant_twice_as_high_has_more_leaves_not_larger_ones():
    def edges(model, vertices, faces, part):
        """Metres, of the leaves' triangles."""
        corners = ((vertices / 65535 - (.5, .5, 0)) * model.size)[faces[np.isin(part, (plants.LEAF, plants.YOUNG))]]
        return np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2).ravel()

    models = list(plants.grown_models(0, large=16, small=0, tall=16))
    large, tall = (sorted(model.size[2] for model, *_ in part) for part in (models[:16], models[16:]))
    assert np.median(tall) > 1.6 * np.median(large)
    large, tall = (np.concatenate([edges(*each) for each in part]) for part in (models[:16], models[16:]))
    assert len(tall) > 1.3 * len(large) and .85 < np.median(tall) / np.median(large) < 1.25


def test_sources_that_hold_nothing(tmp_path):
    with pytest.raises(InputError, match="no furniture libraries"):
        import_meshes(tmp_path, tmp_path / "out.npz")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "PluginFurnitureCatalog.properties").write_text("license=CC0\n")
    with pytest.raises(InputError, match="none of the models"):
        import_meshes(tmp_path, tmp_path / "out.npz")


@pytest.mark.parametrize(("change", "told"), [
    (lambda row: row.replace("/mine/table.obj", "/mine/none.obj"), "/mine/none.obj cannot be read: .*No such file"),
    (lambda row: row.replace("table.obj", "short.obj"), "short.obj has a face with corner 9 of 2"),
    (lambda row: row.replace("table.obj", "letters.obj"), "letters.obj cannot be read: .*could not convert"),
    (lambda row: row.replace("width", "breadth"), r"number 4 of .*/a: KeyError\('width'\)"),
    (lambda row: row.replace("width#4=120", "width#4=wide"), "number 4 of .*/a: ValueError"),
    (lambda row: row.replace("width#4=120", "width#4=0"), "number 4 of .*/a: ValueError.*size"),
])
def test_a_model_that_cannot_be_read_is_left_out_and_named(tmp_path, capsys, change, told):
    write_source(tmp_path / "in")
    (tmp_path / "in" / "a" / "mine" / "short.obj").write_text("v 0 0 0\nv 1 0 0\nf 1 2 9\n")
    (tmp_path / "in" / "a" / "mine" / "letters.obj").write_text("v 0 0 x\nf 1 1 1\n")
    first, *_ = CATALOGUE.partition("\nid#2")
    row = change(first.partition("\n")[2].replace("#1", "#4").replace("oakTable", "table"))
    (tmp_path / "in" / "a" / "PluginFurnitureCatalog.properties").write_text(f"{CATALOGUE}\n{row}\n", "latin-1")
    made = import_meshes(tmp_path / "in", tmp_path / "out.npz")
    assert [model.role for model in made if not model.role.endswith("plant")] == ["table"]
    assert re.search(f"left out: .*{told}", capsys.readouterr().err)


def test_a_library_that_is_no_archive_is_named(tmp_path):
    (tmp_path / "a.sh3f").write_text("no archive")
    with pytest.raises(InputError, match="a.sh3f is no furniture library"):
        import_meshes(tmp_path, tmp_path / "out.npz")


def test_models_are_written_under_the_name_that_was_given(tmp_path):
    write_source(tmp_path / "in")
    with pytest.raises(OutputError, match="no folder .*nowhere"):
        import_meshes(tmp_path / "in", tmp_path / "nowhere" / "models")
    import_meshes(tmp_path / "in", tmp_path / "models")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "models"]


def test_materials_and_their_paths():
    found = read_mtl("newmtl a b\nKd 1 0.5 2\nd 0.25\nmap_Kd my wood.jpg\n", PurePosixPath("/x"))
    assert found == {"a b": Material("a b", (1.0, .5, 1.0), "/x/my wood.jpg", .25)}


def test_clusters_are_few_and_follow_colour_and_kind():
    colors = np.repeat([[.9, .1, .1], [.1, .1, .9], [.12, .1, .88]], 30, axis=0)
    part, centres = clusters(colors, np.zeros(90, int), np.ones(90))
    assert len(centres) == 2 and part[0] != part[30] == part[60]
    part, centres = clusters(np.full((40, 3), .5), np.arange(40) // 20, np.ones(40))
    assert len(centres) == 2 and part[0] != part[39]
    assert len(clusters(np.random.default_rng(0).random((200, 3)), np.zeros(200, int), np.ones(200))[1]) <= 6


def test_fewer_triangles_of_the_same_shape():
    pytest.importorskip("fast_simplification")
    vertices, faces, _ = ball(40)
    part = (vertices[faces].mean(axis=1)[:, 2] > 0).astype(int)
    v, f, p = simplify(vertices, faces, np.zeros(len(faces), int), part, np.ones(len(faces)), 400)
    assert 200 < len(f) <= 420 and len(p) == len(f)
    assert (abs(np.linalg.norm(v, axis=1) - 1) < .03).all()
    middle = v[f].mean(axis=1)[:, 2]
    assert ((middle > 0) == (p == 1))[abs(middle) > .1].all()


def test_loose_leaves_become_fewer_and_larger():
    vertices, faces, _ = shards(0, 900)
    v, f = fewer(vertices[faces] * .5, 1.0, 300)

    def area(v, f):
        return np.linalg.norm(np.cross(v[f[:, 1]] - v[f[:, 0]], v[f[:, 2]] - v[f[:, 0]]), axis=1).sum()
    assert len(f) == 300
    assert area(v, f) == pytest.approx(area(vertices * .5, faces), rel=.15)


def test_the_largest_rectangle():
    mask = np.zeros((6, 8), bool)
    mask[1:5, 2:7], mask[0, :] = True, True
    assert largest_rectangle(mask) == (0, 5, 2, 7)
    assert largest_rectangle(np.zeros((3, 3), bool)) == (0, 0, 0, 0)
