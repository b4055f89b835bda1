"""The kernel against its plain reference, and against scenes whose pictures are known by hand."""
from __future__ import annotations

import numpy as np
import pytest
import torch

from lsm_ros.errors import InputError
from lsm_ros.world import benchmark, native, reference
from lsm_ros.world.renderer import NO_INSTANCE, NO_LABEL, Renderer, SceneBank, TextureAtlas, pack
from lsm_ros.world.scene import BOX, CONE, CYLINDER, ELLIPSOID, MATERIAL_COLUMNS, POINT, SUN, Scene

DEVICES = ["cpu"] + ["cuda"] * torch.cuda.is_available()
SIZE = (50, 68)             # no multiple of a tile


def rotation(rng: np.random.Generator) -> np.ndarray:
    q = rng.normal(size=4)
    w, x, y, z = q / np.linalg.norm(q)
    return np.array([[1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
                     [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
                     [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)]])


def random_scene(seed: int, primitives: int = 60, textures: int = 0) -> Scene:
    """Shapes of all kinds and materials of all patterns afloat in a room of 6 x 6 x 3 m, a lamp and a sun."""
    rng = np.random.default_rng(seed)
    T_world_prim = np.empty((primitives, 3, 4), np.float32)
    for i in range(primitives):
        shear = np.eye(3) + 0.2 * rng.normal(size=(3, 3)) * (i % 3 == 0)
        T_world_prim[i, :, :3] = rotation(rng) @ shear @ np.diag(np.exp(rng.uniform(np.log(0.03), np.log(0.6), 3)))
        T_world_prim[i, :, 3] = rng.uniform([-3, -3, 0], [3, 3, 3])
    walls = [((0, 0, -.1), (3.2, 3.2, .1)), ((0, 0, 3.1), (3.2, 3.2, .1)), ((0, 3.1, 1.5), (3.2, .1, 1.5)),
             ((-3.1, 0, 1.5), (.1, 3.2, 1.5)), ((0, -3.1, 1.5), (3.2, .1, 1.5))]
    for i, (center, half) in enumerate(walls):
        T_world_prim[i] = np.column_stack([np.diag(half), center])
    shape = rng.integers(0, 4, primitives).astype(np.int32)
    shape[:len(walls)] = BOX
    materials = np.zeros((24, len(MATERIAL_COLUMNS)), np.float32)
    materials[:, :6] = rng.uniform(0.05, 0.95, (24, 6))
    materials[:, 6] = np.arange(24) % 7
    materials[:, 7] = rng.uniform(0.5, 12, 24)
    materials[:, 8] = rng.uniform(1, 4, 24)
    materials[:, 9] = rng.uniform(0, 1, 24)
    materials[:, 10] = rng.integers(-1, textures, 24) if textures else -1
    materials[:, 11] = rng.uniform(0.5, 4, 24) * (np.arange(24) % 3 > 0)
    materials[:, 12] = rng.uniform(0, 1, 24) * (rng.random(24) < 0.5)
    materials[:, 13] = rng.uniform(0.5, 2, 24) * (rng.random(24) < 0.1)
    materials[:, 14] = rng.uniform(0, 1, 24) * (rng.random(24) < 0.2)
    materials[:, 15] = rng.integers(0, 10000, 24)
    toward = np.array([0.8, 0.3, 0.5]) / np.linalg.norm([0.8, 0.3, 0.5])
    lights = np.array([[*rng.uniform([-1, -1, 2], [1, 1, 2.8]), 2, 1.9, 1.7, POINT, .3], [*toward, 1, 1, .9, SUN, .02],
                       [*rng.uniform([-2, -2, 1], [2, 2, 2.5]), .5, .6, .9, POINT, -.8]], np.float32)
    return Scene(shape=shape, T_world_prim=T_world_prim, label=rng.integers(0, 40, primitives).astype(np.int32),
                 instance=np.arange(primitives, dtype=np.int32),
                 material=rng.integers(0, 24, primitives).astype(np.int32), materials=materials, lights=lights,
                 ambient=rng.uniform(0.1, 0.4, 6).astype(np.float32))


def random_camera(rng: np.random.Generator, size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """In a corner of that room, looking across it, a little rolled: T_world_cam and K."""
    corner = rng.uniform(0, 2 * np.pi)
    center = np.array([2.6 * np.cos(corner), 2.6 * np.sin(corner), rng.uniform(0.6, 2.2)])
    forward = rng.uniform([-0.8, -0.8, 1.0], [0.8, 0.8, 1.6]) - center
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, [0, 0, 1])
    right /= np.linalg.norm(right)
    down, roll = np.cross(forward, right), rng.uniform(-0.1, 0.1)
    T = np.eye(4)
    T[:3, 0], T[:3, 1] = np.cos(roll) * right + np.sin(roll) * down, np.cos(roll) * down - np.sin(roll) * right
    T[:3, 2], T[:3, 3] = forward, center
    focal = rng.uniform(0.5, 1.0) * size[1]
    K = np.array([[focal, 0, 0.48 * size[1]], [0, focal * 1.02, 0.53 * size[0]], [0, 0, 1]])
    return torch.from_numpy(T).float(), torch.from_numpy(K).float()


def draw(scene: Scene, T_world_cam, K, size, device="cpu", textures=None, distortion=None, shutter=None, **options):
    """One view of one scene."""
    renderer = Renderer(device, textures, **({"samples": 1, "soft_shadows": False} | options))
    return renderer.render(SceneBank.of([scene], device), torch.zeros(1, dtype=torch.int64, device=device),
                           T_world_cam[None, None], K[None, None], size,
                           *(None if each is None else each[None, None] for each in (distortion, shutter)))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("seed", range(3))
def test_kernel_agrees_with_the_reference(seed, device):
    rng = np.random.default_rng(100 + seed)
    images = rng.integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    textures = TextureAtlas(images, device) if seed > 0 else None
    scene = random_scene(seed, textures=5 if seed > 0 else 0)
    T_world_cam, K = (tensor.to(device) for tensor in random_camera(rng, SIZE))
    distortion = torch.tensor([-0.1, 0.03], device=device) if seed > 1 else None
    drawn = draw(scene, T_world_cam, K, SIZE, device, textures, distortion)
    agreement = reference.compare(drawn, reference.render(scene, T_world_cam, K, SIZE, textures, distortion))
    assert agreement.good(), agreement
    assert drawn.label.unique().numel() > 8      # a picture of many things, not of one wall


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("seed", range(2))
def test_kernel_agrees_with_the_reference_while_the_shutter_rolls(seed, device):
    rng = np.random.default_rng(200 + seed)
    scene = random_scene(seed)
    T_world_cam, K = (tensor.to(device) for tensor in random_camera(rng, SIZE))
    shutter = torch.from_numpy(rng.choice((-1, 1), 6) * (.2, .2, .2, .05, .05, .05)).float().to(device)
    distortion = torch.tensor([-0.1, 0.03], device=device) if seed > 0 else None
    still, drawn = (draw(scene, T_world_cam, K, SIZE, device, None, distortion, each) for each in (None, shutter))
    agreement = reference.compare(drawn, reference.render(scene, T_world_cam, K, SIZE, None, distortion,
                                                          shutter=shutter))
    assert agreement.good(), agreement
    assert reference.compare(still, drawn).identity < 0.95


def one_shape(shape: int, half=(1.0, 1.0, 1.0), center=(0.0, 0.0, 0.0), **material) -> Scene:
    """A single white thing under light that comes evenly from everywhere, unless the material says otherwise."""
    row = {"red": 1, "green": 1, "blue": 1, "texture": -1} | material
    return Scene(shape=np.array([shape], np.int32), label=np.array([7], np.int32), instance=np.array([3], np.int32),
                 T_world_prim=np.column_stack([np.diag(half), center])[None].astype(np.float32),
                 material=np.zeros(1, np.int32), lights=np.zeros((0, 8), np.float32), ambient=np.ones(6, np.float32),
                 materials=np.array([[row.get(name, 0) for name in MATERIAL_COLUMNS]], np.float32))


def joined(*scenes: Scene) -> Scene:
    """Things of several scenes under the light of the first."""
    offsets = np.cumsum([0] + [len(scene.materials) for scene in scenes[:-1]], dtype=np.int32)
    return Scene(**{name: np.concatenate([getattr(scene, name) for scene in scenes])
                    for name in ("shape", "T_world_prim", "label", "instance", "materials")},
                 material=np.concatenate([scene.material + i for scene, i in zip(scenes, offsets, strict=True)]),
                 lights=scenes[0].lights, ambient=scenes[0].ambient)


LEVEL = torch.tensor([[1.0, 0, 0, 0], [0, 0, 1, -5], [0, -1, 0, 0], [0, 0, 0, 1]])      # at (0, -5, 0), looks along +y
DOWN = torch.tensor([[1.0, 0, 0, 0], [0, -1, 0, 0], [0, 0, -1, 4], [0, 0, 0, 1]])       # at (0, 0, 4), looks along -z
CAMERA = torch.tensor([[32.0, 0, 16.5], [0, 32, 16.5], [0, 0, 1]])                      # axis through pixel (16, 16)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("shape", "T_world_cam", "depth"), [
    (BOX, LEVEL, 4.0), (ELLIPSOID, LEVEL, 4.0), (CYLINDER, LEVEL, 4.0), (CONE, LEVEL, 4.5),
    (BOX, DOWN, 3.0), (ELLIPSOID, DOWN, 3.0), (CYLINDER, DOWN, 3.0)])
def test_depth_along_the_axis(shape, T_world_cam, depth, device):
    drawn = draw(one_shape(shape), T_world_cam.to(device), CAMERA.to(device), (33, 33), device)
    assert drawn.depth[0, 0, 16, 16].item() == pytest.approx(depth, rel=1e-6)
    assert (drawn.label[0, 0, 16, 16], drawn.instance[0, 0, 16, 16]) == (7, 3)
    assert (drawn.depth[0, 0, 0, 0], drawn.label[0, 0, 0, 0], drawn.instance[0, 0, 0, 0]) == (0, NO_LABEL, NO_INSTANCE)


def test_depth_is_z_and_not_distance():
    drawn = draw(one_shape(BOX, half=(9, 1, 9)), LEVEL, CAMERA, (33, 33))
    assert torch.allclose(drawn.depth, torch.full((1, 1, 33, 33), 4.0))


def test_a_camera_at_rest_has_no_shutter():
    scene, (T_world_cam, K) = random_scene(0), random_camera(np.random.default_rng(0), SIZE)
    still, resting = (draw(scene, T_world_cam, K, SIZE, shutter=shutter) for shutter in (None, torch.zeros(6)))
    assert torch.allclose(still.depth, resting.depth, rtol=1e-5) and torch.equal(still.label, resting.label)


@pytest.mark.parametrize(("shutter", "slant"), [((0, 0, 0, 0, .05, 0), .05), ((.1, 0, 0, 0, 0, 0), .1 / 5)])
def test_an_upright_edge_slants_as_the_camera_turns_or_moves_sideways(shutter, slant):
    K = torch.tensor([[2000, 0, 128.25], [0, 2000, 32], [0, 0, 1]])
    board = one_shape(BOX, half=(9, .005, 9), center=(9, 0, 0))
    drawn = draw(board, LEVEL, K, (64, 256), shutter=torch.tensor(shutter))
    v, u = np.mgrid[:64, :256] + 0.5
    edge = 128.25 - 2000 * slant * (v / 64 - 0.5)                      # it is at x = 0, 5 m away; -50 .. 50 pixels
    assert np.array_equal(drawn.label[0, 0].numpy() == 7, u > edge)


def test_depth_stays_that_of_the_middle_row_while_the_shutter_rolls():
    shutter = torch.tensor([0, 0, .2, 0, 0, 0.05])                     # forwards, and rolls about the optical axis
    drawn = draw(one_shape(BOX, half=(9, 1, 9)), LEVEL, CAMERA, (33, 33), shutter=shutter)
    assert torch.allclose(drawn.depth, torch.full((1, 1, 33, 33), 4.0))


def test_a_sphere_covers_the_pixels_that_it_should():
    drawn = draw(one_shape(ELLIPSOID), LEVEL, CAMERA, (33, 33))
    slope = 1 / np.sqrt(5 ** 2 - 1)                                    # tangent of its angular radius
    v, u = np.mgrid[:33, :33] - 16.0
    assert np.array_equal(drawn.label[0, 0].numpy() == 7, np.hypot(u, v) / 32 < slope)


def test_light_falls_with_the_square_and_the_cosine():
    scene = one_shape(BOX, half=(9, 9, 1), center=(0, 0, -1))
    lamp = np.array([[0, 0, 2, 8, 4, 2, POINT, 0]], np.float32)
    scene = Scene(**{**scene.__dict__, "lights": lamp, "ambient": np.zeros(6, np.float32)})
    drawn = draw(scene, DOWN, CAMERA, (33, 33))
    assert drawn.radiance[0, 0, :, 16, 16].tolist() == pytest.approx([2, 1, 0.5], rel=1e-5)
    x = 16 / 32 * 4                                                    # where the ray of pixel (32, 16) meets the floor
    expected = 8 / (x * x + 4) * 2 / np.sqrt(x * x + 4)
    assert drawn.radiance[0, 0, 0, 16, 32].item() == pytest.approx(expected, rel=1e-4)


def test_a_shadow_is_as_soft_as_its_lamp_is_large():
    """The edge of a roof half way up to a lamp: the floor sees the lamp's disc rise over as much as it is wide."""
    floor = one_shape(BOX, half=(9, 9, 1), center=(0, 0, -1))
    roof = one_shape(BOX, half=(4, 4, 1e-3), center=(-4, 0, 2))

    def profile(radius: float, **options) -> np.ndarray:
        lamp = np.array([[0, 0, 4, 1, 1, 1, POINT, radius]], np.float32)
        world = Scene(**{**floor.__dict__, "lights": lamp, "ambient": np.zeros(6, np.float32)})
        below = DOWN.clone()
        below[2, 3] = 1.9                                       # under the roof
        seen = draw(joined(world, roof), below, CAMERA, (33, 33), samples=4, **options).radiance[0, 0, 0].numpy()
        free = draw(world, below, CAMERA, (33, 33)).radiance[0, 0, 0].numpy()
        return (seen / free).mean(axis=0)                       # along x, over lines that are alike
    x = (np.arange(33) - 16) / 32 * 1.9
    hard, soft = profile(0.4, soft_shadows=False), profile(0.4, soft_shadows=True)
    across = np.clip(x / 0.4, -1, 1)                            # the lamp's edge crosses its disc: a segment's area
    expected = 0.5 + (across * np.sqrt(1 - across ** 2) + np.arcsin(across)) / np.pi
    assert np.abs(soft - expected).max() < 0.15 and abs(soft[16] - 0.5) < 0.05      # steeper: where two rays agree no
    assert (np.abs(soft - expected) > 0.05).mean() < 0.3                            # more are cast
    assert set(np.round(np.delete(hard, 16), 3)) == {0, 1}
    assert np.array_equal(profile(0.0, soft_shadows=True), profile(0.0, soft_shadows=False))


def test_a_roof_shades_the_floor_and_a_lamp_does_not():
    floor = one_shape(BOX, half=(9, 9, 1), center=(0, 0, -1))
    sun = np.array([[0, 0.6, 0.8, 1, 1, 1, SUN, 0]], np.float32)
    floor = Scene(**{**floor.__dict__, "lights": sun, "ambient": np.zeros(6, np.float32)})
    roof = one_shape(BOX, half=(1, 1, 0.05), center=(0, 3 * 0.6 / 0.8, 3))            # its shadow falls on the origin
    light = [draw(joined(floor, thing), DOWN, CAMERA, (33, 33)).radiance[0, 0, 0, 16, 16].item()
             for thing in (roof, one_shape(BOX, half=(1, 1, 0.05), center=(0, 2.25, 3), emission=1.0))]
    assert light == pytest.approx([0, 0.8], abs=1e-5)


def test_a_mirror_shows_what_stands_before_it():
    mirror = one_shape(BOX, half=(3, 1, 3), center=(0, 1, 0), mirror=1.0)
    behind = one_shape(BOX, half=(9, 1, 9), center=(0, -9, 0), red=0.25, green=0.5, blue=0.75)
    drawn = draw(joined(mirror, behind), LEVEL, CAMERA, (33, 33))
    assert drawn.radiance[0, 0, :, 16, 16].tolist() == pytest.approx([0.25, 0.5, 0.75], rel=1e-5)
    assert drawn.depth[0, 0, 16, 16] == 5                              # depth stays that of the mirror


def test_corners_are_darker_than_open_floor():
    floor, block = (one_shape(BOX, half, center)
                    for half, center in (((9, 9, 1), (0, 0, -1)), ((1, 9, 1), (-1.05, 0, 1))))
    row = draw(joined(floor, block), DOWN, CAMERA, (33, 33)).radiance[0, 0, 0, 16]
    assert row[30] == 1 and row[16] < 0.6 < row[17] < 0.9 and (row[16:].diff() >= 0).all()


def test_fine_patterns_and_textures_fade_to_their_mean_far_away():
    images = np.zeros((1, 64, 64, 3), np.uint8)
    images[0, ::2] = 255
    checks = {"pattern": 2, "frequency": 200, "stretch": 1, "contrast": 1}
    for material, mean in ((checks, 0.5), ({"texture": 0, "texture_scale": 20.0}, 0.5)):
        scene = one_shape(BOX, half=(9, 1, 9), **material)
        color = draw(scene, LEVEL, CAMERA, (33, 33), textures=TextureAtlas(images, "cpu")).radiance
        assert (color - mean).abs().max() < 0.01


def test_a_picture_is_shown_once_upright_and_not_mirrored():
    image = np.zeros((1, 64, 64, 3), np.uint8)
    image[0, :32, :32], image[0, :32, 32:], image[0, 32:, :32] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    sheet = one_shape(BOX, half=(2, .01, 1), texture=0, texture_scale=0, seed=5)
    facing = torch.tensor([[-1.0, 0, 0, 0], [0, 0, -1, 5], [0, -1, 0, 0], [0, 0, 0, 1]])  # at (0, 5, 0), sees its front
    seen = draw(sheet, facing, CAMERA, (33, 33), textures=TextureAtlas(image, "cpu")).radiance[0, 0].permute(1, 2, 0)
    for row, column, color in ((12, 6, (1, 0, 0)), (12, 26, (0, 1, 0)), (20, 6, (0, 0, 1)), (20, 26, (0, 0, 0))):
        assert seen[row, column].tolist() == pytest.approx(color, abs=.01)


def test_more_samples_soften_outlines_and_leave_depth_alone():
    once, often = (draw(one_shape(ELLIPSOID), LEVEL, CAMERA, (33, 33), samples=samples) for samples in (1, 16))
    assert torch.equal(once.depth, often.depth) and torch.equal(once.label, often.label)
    assert set(once.radiance.unique().tolist()) == {1, 2}              # the ball, the sky (twice the ambient light)
    assert often.radiance.unique().numel() > 10 and 1 <= often.radiance.min() <= often.radiance.max() <= 2


def test_a_bank_draws_many_scenes_as_it_draws_one():
    scenes = [random_scene(seed, 30) for seed in range(3)]
    T_world_cam, K = random_camera(np.random.default_rng(0), (40, 56))
    bank, renderer = SceneBank.of(scenes, "cpu"), Renderer("cpu", samples=1, soft_shadows=False)
    together = renderer.render(bank, torch.tensor([2, 0]), T_world_cam.expand(2, 2, 4, 4), K.expand(2, 2, 3, 3),
                               (40, 56))
    alone = draw(scenes[2], T_world_cam, K, (40, 56))
    assert torch.equal(together.depth[0, 1], alone.depth[0, 0])
    assert torch.equal(together.radiance[0, 1], alone.radiance[0, 0])
    assert not torch.equal(together.radiance[1], together.radiance[0])


@pytest.mark.parametrize("shape", [BOX, ELLIPSOID, CYLINDER, CONE])
def test_occupied_knows_inside_from_outside(shape):
    bank = SceneBank.of([one_shape(shape, half=(0.5, 1, 2), center=(1, 2, 3))], "cpu")
    points = torch.tensor([[[1, 2, 2.5], [1.9, 2, 3], [1, 2, 5.1], [1.45, 2.9, 4.9]]])
    assert bank.occupied(torch.tensor([0]), points).tolist() == [[True, False, False, shape == BOX]]


def test_bad_input_is_named():
    scene = random_scene(0, 20)
    with pytest.raises(InputError, match="257 primitives"):
        pack([random_scene(0, 257)])
    with pytest.raises(InputError, match="material 0 to 24"):
        pack([Scene(**{**scene.__dict__, "material": np.append(np.zeros(19, np.int32), 24).astype(np.int32)})])
    with pytest.raises(InputError, match="without volume"):
        pack([Scene(**{**scene.__dict__, "T_world_prim": 0 * scene.T_world_prim})])
    with pytest.raises(InputError, match=r"scene has the shape \(1,\), not \(2,\)"):
        Renderer("cpu").render(SceneBank.of([scene], "cpu"), torch.zeros(1, dtype=torch.int64),
                               LEVEL.expand(2, 1, 4, 4), CAMERA.expand(2, 1, 3, 3), (8, 8))
    with pytest.raises(InputError, match=r"shutter has the shape \(1, 1, 3\), not \(1, 1, 6\)"):
        draw(scene, LEVEL, CAMERA, (8, 8), shutter=torch.zeros(3))
    with pytest.raises(InputError, match="scene 1 to 1; the bank has 1"):
        Renderer("cpu").render(SceneBank.of([scene], "cpu"), torch.ones(1, dtype=torch.int64), LEVEL[None, None],
                               CAMERA[None, None], (8, 8))
    with pytest.raises(InputError, match="samples = 0"):
        Renderer("cpu", samples=0)
    with pytest.raises(InputError, match="power of two"):
        TextureAtlas(np.zeros((1, 60, 60, 3), np.uint8), "cpu")


def test_a_missing_or_failing_compiler_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    native.raycaster.cache_clear()
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(native.CompilerError, match="no-such-compiler"):
        native.raycaster("cpu")
    monkeypatch.setenv("CXX", "false")
    with pytest.raises(native.CompilerError, match="exit code 1"):
        native.raycaster("cpu")
    assert not list(tmp_path.rglob("*.so"))                            # no half-made library is left behind
    native.raycaster.cache_clear()


@pytest.mark.parametrize("worlds, batch", [(2, 3), (3, 2)])
def test_fewer_worlds_or_samples_than_are_checked_are_all_checked(worlds, batch, monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "CHECKED_SIZE", SIZE)
    checked = []
    compare = reference.compare
    monkeypatch.setattr(reference, "compare", lambda *drawn: checked.append(1) or compare(*drawn))
    T_world_cam, K = random_camera(np.random.default_rng(0), SIZE)
    T_world_cam, K = T_world_cam.expand(batch, 1, 4, 4), K.expand(batch, 1, 3, 3)
    bank = SceneBank.of([random_scene(seed, 20) for seed in range(worlds)], "cpu")
    assert benchmark.check(bank, T_world_cam, K, torch.zeros(batch, 1, 2), lambda seed: random_scene(seed, 20), None,
                           None, None)
    assert len(checked) == 2 and "agrees" in capsys.readouterr().out
