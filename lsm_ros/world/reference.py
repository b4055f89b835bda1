"""The ray caster in plain torch: every ray against every primitive, no tiles, no lists, float64.

Slow and simple: raycast.cu is tested against it. One sample a pixel, hard shadows.
"""
from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lsm_ros.world.meshes import MeshLibrary, corner_normals
from lsm_ros.world.renderer import NO_INSTANCE, NO_LABEL, Rendering, TextureAtlas
from lsm_ros.world.scene import BOX, CONE, CYLINDER, ELLIPSOID, MESH, SUN, Scene

FAR, LIFT, SUN_DISTANCE = 1e6, 1e-3, 100.0
TAP_NEAR, TAP_FAR = 0.06, 0.25
MESH_LIFT, MESH_SHARE = 2e-3, 0.5
GLOSS, EMISSION, MIRROR = 12, 13, 14      # columns of a material


@dataclass(frozen=True)
class _World:
    """A Scene as float64 tensors."""
    shape: Tensor           # (P,)
    axes: Tensor            # (P, 3, 3) half axes in the columns
    center: Tensor          # (P, 3)
    to_unit: Tensor         # (P, 3, 3) inverse of `axes`
    half: Tensor            # (P, 3) lengths of the half axes
    material: Tensor        # (P, 16)
    first_material: Tensor  # (P,) index of it
    lights: Tensor          # (L, 8)
    above: Tensor           # (3,)
    below: Tensor           # (3,)
    textures: TextureAtlas | None
    meshes: dict[int, _Mesh]    # of the primitives that are meshes
    materials: Tensor       # (M, 16) all of the scene; `material` are those of the primitives


@dataclass(frozen=True)
class _Mesh:
    """One model in its unit frame."""
    corners: Tensor         # (F, 3, 3) triangle, corner, xyz
    normals: Tensor         # (F, 3, 3) at the corners
    part: Tensor            # (F,) is added to the index of the primitive's material


@dataclass(frozen=True)
class _Surfaces:
    """Where R rays met something. `primitive` is -1 for those that did not; the rest of their row means nothing."""
    t: Tensor               # (R,) in units of the ray's direction
    primitive: Tensor       # (R,)
    x: Tensor               # (R, 3) world
    n: Tensor               # (R, 3) world, unit length
    local: Tensor           # (R, 3) in the primitive's own metric frame
    face: Tensor            # (R,) local axis along which flat patterns are projected
    pixel: Tensor           # (R,) metres that one pixel covers
    material: Tensor        # (R, 16)


def render(scene: Scene, T_world_cam: Tensor, K: Tensor, size: tuple[int, int], textures: TextureAtlas | None = None,
           distortion: Tensor | None = None, meshes: MeshLibrary | None = None,
           shutter: Tensor | None = None) -> Rendering:
    """One view, (1, 1, ...) as Renderer.render would draw it with samples=1 and soft_shadows=False."""
    H, W = size
    T_world_cam, K = T_world_cam.double(), K.double()
    world = _world(scene, textures, meshes, K.device)
    v, u = torch.meshgrid(torch.arange(H).to(K) + 0.5, torch.arange(W).to(K) + 0.5, indexing="ij")
    slopes = torch.stack([(u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1]], dim=-1).reshape(-1, 2)
    if distortion is not None:
        r2 = slopes.square().sum(dim=-1, keepdim=True)
        slopes = slopes * (1 + distortion[0] * r2 + distortion[1] * r2 * r2)
    along_cam = torch.cat([slopes, torch.ones_like(slopes[:, :1])], dim=-1)
    start_cam = torch.zeros_like(along_cam)
    if shutter is not None:
        time, (shift, turn) = (v / H - 0.5).reshape(-1, 1), shutter.to(K).split(3)
        start_cam = time * shift
        along_cam = along_cam + time * torch.linalg.cross(turn.expand_as(along_cam), along_cam)
        along_cam = along_cam / along_cam[:, 2:]
    along, origin = along_cam @ T_world_cam[:3, :3].T, start_cam @ T_world_cam[:3, :3].T + T_world_cam[:3, 3]
    view = torch.nn.functional.normalize(along, dim=-1)

    seen = _first_surfaces(world, origin, along, LIFT, 1 / K[0, 0])
    radiance = _shade(world, seen, view, shadows=True)
    mirror = seen.material[:, MIRROR, None]
    reflected = view - 2 * (view * seen.n).sum(-1, keepdim=True) * seen.n
    glimpsed = _first_surfaces(world, seen.x + LIFT * seen.n, reflected, 1e-4, 1 / K[0, 0])
    glimpse = torch.where(glimpsed.primitive[:, None] >= 0, _shade(world, glimpsed, reflected, shadows=False),
                          _sky(world, reflected))
    hit = seen.primitive >= 0
    radiance = torch.where(hit[:, None], torch.lerp(radiance, glimpse, mirror), _sky(world, view))
    label = torch.as_tensor(scene.label, device=K.device)[seen.primitive].masked_fill(~hit, NO_LABEL)
    instance = torch.as_tensor(scene.instance, device=K.device)[seen.primitive].masked_fill(~hit, NO_INSTANCE)
    return Rendering(radiance=radiance.T.reshape(1, 1, 3, H, W).float(),
                     depth=(seen.t + start_cam[:, 2]).masked_fill(~hit, 0).reshape(1, 1, H, W).float(),
                     label=label.reshape(1, 1, H, W).to(torch.uint8),
                     instance=instance.reshape(1, 1, H, W).to(torch.int16))


def _world(scene: Scene, textures: TextureAtlas | None, meshes: MeshLibrary | None, device: torch.device) -> _World:
    def tensor(array):
        return torch.as_tensor(array, device=device)
    def mesh(model: int) -> _Mesh:
        vertices, faces, part = meshes.model(model)
        return _Mesh(tensor(vertices[faces]), tensor(corner_normals(vertices, faces, meshes.size[model] / 2)),
                     tensor(part).long())
    T_world_prim = tensor(scene.T_world_prim).double()
    materials, material = tensor(scene.materials).double(), tensor(scene.material).long()
    axes = T_world_prim[:, :, :3]
    return _World(shape=tensor(scene.shape), axes=axes, center=T_world_prim[:, :, 3], to_unit=torch.linalg.inv(axes),
                  half=axes.norm(dim=1), material=materials[material], first_material=material, materials=materials,
                  meshes={i: mesh(shape - MESH) for i, shape in enumerate(scene.shape.tolist()) if shape >= MESH},
                  lights=tensor(scene.lights).double(), above=tensor(scene.ambient[:3]).double(),
                  below=tensor(scene.ambient[3:]).double(), textures=textures)


# ------------------------------------------------------------------------------------------------------- intersection
def _spans(world: _World, origin: Tensor, along: Tensor, start: float) -> tuple[Tensor, Tensor, Tensor]:
    """(R, P) the ray parameters at which rays enter and leave each primitive; enter >= leave where they miss it.

    A mesh is entered at its first triangle behind `start`, which stands in the third result, and never left.
    """
    o = torch.einsum("pij,rpj->rpi", world.to_unit, origin[:, None] - world.center)
    d = torch.einsum("pij,rj->rpi", world.to_unit, along)
    d = torch.where(d.abs() < 1e-12, 1e-12, d)
    a, b = (-1 - o) / d, (1 - o) / d
    slab_in, slab_out = torch.minimum(a, b), torch.maximum(a, b)
    shape = world.shape.expand(o.shape[:2])
    enter, leave = slab_in.amax(dim=-1), slab_out.amin(dim=-1)
    ball_in, ball_out = _quadric(o, d, torch.tensor([1.0, 1.0, 1.0]), -1.0)
    tube_in, tube_out = _quadric(o, d, torch.tensor([1.0, 1.0, 0.0]), -1.0)
    cone_in, cone_out = _cone_side(o, d)
    for kind, side_in, side_out in ((CYLINDER, tube_in, tube_out), (CONE, cone_in, cone_out)):
        enter = torch.where(shape == kind, torch.maximum(side_in, slab_in[..., 2]), enter)
        leave = torch.where(shape == kind, torch.minimum(side_out, slab_out[..., 2]), leave)
    enter, leave = torch.where(shape == ELLIPSOID, ball_in, enter), torch.where(shape == ELLIPSOID, ball_out, leave)
    triangle = torch.zeros_like(enter, dtype=torch.long)
    for i, mesh in world.meshes.items():
        near = (enter[:, i] <= leave[:, i] + 1e-3).nonzero()[:, 0]           # of the box
        t, _, _ = _touches(mesh.corners, o[near, None, i], d[near, None, i])
        enter[:, i] = FAR
        enter[near, i], triangle[near, i] = torch.where(t > start, t, FAR).min(dim=1)
        leave[:, i] = torch.where(enter[:, i] < FAR, FAR, -FAR)
    return enter, leave, triangle


def _touches(corners: Tensor, o: Tensor, d: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Where rays o + t d meet triangles (..., 3, 3): t, or FAR, and the weights of the second and third corner (Moeller
    & Trumbore, 1997)."""
    a, e1, e2 = corners[..., 0, :], corners[..., 1, :] - corners[..., 0, :], corners[..., 2, :] - corners[..., 0, :]
    d = d.expand(*torch.broadcast_shapes(d.shape, a.shape))
    p, s = torch.linalg.cross(d, e2.expand_as(d)), o - a
    det = (e1 * p).sum(-1)
    inverse = 1 / torch.where(det.abs() < 1e-14, 1e-14, det)
    q = torch.linalg.cross(s, e1.expand_as(s))
    u, v, t = (s * p).sum(-1) * inverse, (d * q).sum(-1) * inverse, (e2 * q).sum(-1) * inverse
    hit = (u >= 0) & (v >= 0) & (u + v <= 1) & (det.abs() >= 1e-14)
    return torch.where(hit, t, FAR), u, v


def _quadric(o: Tensor, d: Tensor, weights: Tensor, constant: float) -> tuple[Tensor, Tensor]:
    """Roots of sum weights (o + t d)^2 + constant = 0, in order; an empty span where there are none."""
    weights = weights.to(o)
    a, b, c = (weights * d * d).sum(-1), (weights * o * d).sum(-1), (weights * o * o).sum(-1) + constant
    room = b * b - a * c
    root = room.clamp_min(0).sqrt()
    t0, t1 = (-b - root) / a, (-b + root) / a
    return torch.where(room > 0, torch.minimum(t0, t1), FAR), torch.where(room > 0, torch.maximum(t0, t1), -FAR)


def _cone_side(o: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    """The span inside x^2 + y^2 <= w^2 with w = (1 - z) / 2 >= 0; the upper nappe is left to the slab of z to drop."""
    o = torch.cat([o[..., :2], (1 - o[..., 2:]) / 2], dim=-1)
    d = torch.cat([d[..., :2], -d[..., 2:] / 2], dim=-1)
    near, far = _quadric(o, d, torch.tensor([1.0, 1.0, -1.0]), 0.0)
    opens = d[..., :2].square().sum(-1) < d[..., 2].square()           # steeper than the side: one nappe each way
    rising = d[..., 2] > 0
    enter, leave = torch.where(rising, far, -FAR), torch.where(rising, FAR, near)
    return torch.where(opens, enter, near), torch.where(opens, leave, far)


def _first_surfaces(world: _World, origin: Tensor, along: Tensor, start: float, pixel_angle: Tensor) -> _Surfaces:
    """What R rays meet first behind `start`."""
    enter, leave, triangle = _spans(world, origin, along, start)
    enter = torch.where((enter < leave) & (enter > start), enter, FAR)
    t, primitive = enter.min(dim=1)
    to_unit, half, shape = world.to_unit[primitive], world.half[primitive], world.shape[primitive]
    o = torch.einsum("rij,rj->ri", to_unit, origin - world.center[primitive])
    d = torch.einsum("rij,rj->ri", to_unit, along)
    q = o + t[:, None] * d
    normal = _unit_normals(shape, q)
    x, material = origin + t[:, None] * along, world.material[primitive]
    for i, mesh in world.meshes.items():
        mine = ((primitive == i) & (t < FAR)).nonzero()[:, 0]
        faces = triangle[mine, i]
        corners = mesh.corners[faces]
        _, u, v = _touches(corners, o[mine], d[mine])
        smooth = (mesh.normals[faces] * torch.stack([1 - u - v, u, v], dim=-1)[..., None]).sum(dim=1)
        flat = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        flat = flat * -(flat * d[mine]).sum(-1, keepdim=True).sign()         # both sides of a triangle can be seen
        normal[mine] = smooth * (flat * smooth).sum(-1, keepdim=True).sign()
        x[mine] += MESH_LIFT * torch.nn.functional.normalize(flat @ world.to_unit[i], dim=-1)
        material[mine] = world.materials[world.first_material[i] + mesh.part[faces]]
    n = torch.nn.functional.normalize(torch.einsum("rij,ri->rj", to_unit, normal), dim=-1)
    facing = -(n * along).sum(-1) / along.norm(dim=-1)
    return _Surfaces(t=t, primitive=torch.where(t < FAR, primitive, -1), x=x, n=n, material=material,
                     local=q * half, face=(normal.abs() / half).argmax(dim=-1),
                     pixel=t * pixel_angle / facing.clamp_min(0.3))


def _unit_normals(shape: Tensor, q: Tensor) -> Tensor:
    """Outward normals in the unit frame at points q of the shapes' surfaces."""
    r = q[:, :2].norm(dim=-1)
    up = torch.tensor([0.0, 0.0, 1.0]).to(q)
    flat = q * torch.tensor([1.0, 1.0, 0.0]).to(q)
    box = torch.nn.functional.one_hot(q.abs().argmax(dim=-1), 3) * q.sign()
    tube = torch.where((q[:, 2].abs() >= r)[:, None], up * q[:, 2:].sign(), flat)
    base = ((q[:, 2] + 1).abs() <= ((1 - q[:, 2]) / 2 - r).abs())[:, None]
    cone = torch.where(base, -up, flat + up * r[:, None] / 2)
    normal = torch.where((shape == BOX)[:, None], box, q)
    normal = torch.where((shape == CYLINDER)[:, None], tube, normal)
    return torch.where((shape == CONE)[:, None], cone, normal)


# ------------------------------------------------------------------------------------------------------------ shading
def _shade(world: _World, s: _Surfaces, view: Tensor, shadows: bool) -> Tensor:
    """(R, 3) the light that leaves the surfaces against `view`; contact darkening and shadows where asked for."""
    material = s.material
    base = _albedo(world, s)
    shines = world.material[:, EMISSION] > 0
    openness = _openness(world, s, shines) if shadows else 1.0
    ambient = torch.lerp(world.below, world.above, 0.5 + 0.5 * s.n[:, 2:]) * openness
    out = base * (ambient + material[:, EMISSION, None])
    gloss = material[:, GLOSS, None]
    sharp = 8 + 120 * gloss ** 2
    for light in world.lights:
        sun = light[6] == SUN
        to = light[:3].expand_as(s.x) if sun else light[:3] - s.x
        far2 = 1.0 if sun else to.square().sum(-1, keepdim=True)
        direction = torch.nn.functional.normalize(to, dim=-1)
        facing = (direction * s.n).sum(-1, keepdim=True).clamp_min(0)
        shine = gloss * (torch.nn.functional.normalize(direction - view, dim=-1) * s.n).sum(-1, keepdim=True) \
            .clamp_min(0) ** sharp * 0.02 * (sharp + 8)
        far2 = torch.as_tensor(far2) + (0 if sun else light[7] ** 2)
        lit = facing * (base + shine) * light[3:6] / far2.clamp_min(0.05)
        if light[7] < 0:
            lit = lit * openness
        elif shadows:
            enter, leave, _ = _spans(world, s.x + LIFT * s.n, to * SUN_DISTANCE if sun else to, 0.0)
            blocked = ((enter < leave) & (leave > 0) & (enter < 1) & ~shines).any(dim=1)
            lit = lit.masked_fill(blocked[:, None], 0)
        out = out + lit
    return out


def _sky(world: _World, view: Tensor) -> Tensor:
    return 2 * torch.lerp(world.below, world.above, (0.5 + 2 * view[:, 2:]).clamp(0, 1))


def _openness(world: _World, s: _Surfaces, shines: Tensor) -> Tensor:
    """(R, 1) how much of the room above a surface is free, from the distances at two heights (Evans, SIGGRAPH 2006)."""
    others = (torch.arange(len(shines), device=shines.device) != s.primitive[:, None]) & ~shines
    free = []
    for height in (TAP_NEAR, TAP_FAR):
        distance = _distances(world, s.x + height * s.n)
        distance = torch.where(world.shape >= MESH, torch.lerp(torch.full_like(distance, height), distance, MESH_SHARE),
                               distance).masked_fill(~others, height).amin(dim=1)
        free.append(distance.clamp_max(height) / height)
    return (1 - 0.35 * (1 - free[0]) - 0.45 * (1 - free[1]))[:, None]


def _distances(world: _World, x: Tensor) -> Tensor:
    """(R, P) metres from points to primitives."""
    q = torch.einsum("pij,rpj->rpi", world.to_unit, x[:, None] - world.center)
    outside = (q.abs() - 1).clamp_min(0) * world.half
    wide = torch.where(world.shape == CONE, (1 - q[..., 2].clamp(-1, 1)) / 2, 1.0)
    round_side = (q[..., :2].norm(dim=-1) - wide).clamp_min(0) * world.half[:, :2].mean(dim=-1)
    k = q.norm(dim=-1)
    away = (q * world.half).norm(dim=-1)
    least = away - (q * world.half ** 2).norm(dim=-1) / away.clamp_min(1e-9)    # of the plane across the way
    ball = torch.maximum(k * (k - 1) / (q / world.half).norm(dim=-1).clamp_min(1e-9), least).clamp_min(0)
    boxed = (world.shape == BOX) | (world.shape >= MESH)
    distance = torch.where(boxed, outside.norm(dim=-1), torch.hypot(round_side, outside[..., 2]))
    return torch.where(world.shape == ELLIPSOID, ball, distance)


# ----------------------------------------------------------------------------------------------------------- surfaces
def _albedo(world: _World, s: _Surfaces) -> Tensor:
    """(R, 3) linear reflectance: the first colour times the texture, or the two colours mixed by the pattern."""
    material, half = s.material, world.half[s.primitive]
    first, second = torch.where(s.face == 0, 1, 0)[:, None], torch.where(s.face == 2, 1, 2)[:, None]
    across, up = half.gather(1, first)[:, 0], half.gather(1, second)[:, 0]
    whole_u = 0.5 - 0.5 * s.local.gather(1, first)[:, 0] / across
    whole_v = 0.5 - 0.5 * s.local.gather(1, second)[:, 0] / up
    swap = (across > up)[:, None]                                    # v runs along the longer side of the face
    first, second = torch.where(swap, second, first), torch.where(swap, first, second)
    u, v = s.local.gather(1, first)[:, 0], s.local.gather(1, second)[:, 0]
    share = (material[:, 9] * _pattern(material, s, u, v, half.argmax(dim=-1)))[:, None]
    plain = torch.lerp(material[:, :3], material[:, 3:6], share)
    if world.textures is None:
        return plain
    shift = _cell(material[:, 15].long(), s.primitive, torch.zeros_like(s.primitive), 77)
    scale = material[:, 11]
    whole = scale <= 0                                               # a picture, once over the face, upright
    photo = _texture(world.textures, material[:, 10].long().clamp_min(0),
                     torch.where(whole, whole_u, u * scale + _chance(shift)),
                     torch.where(whole, whole_v, v * scale + _chance(_scramble(shift))),
                     torch.where(whole, 0.5 * s.pixel / torch.maximum(across, up), s.pixel * scale))
    return torch.where(material[:, 10, None] >= 0, material[:, :3] * photo, plain)


def _pattern(material: Tensor, s: _Surfaces, u: Tensor, v: Tensor, grain: Tensor) -> Tensor:
    """(R,) share of the second colour."""
    kind, frequency, stretch, seed = material[:, 6], material[:, 7], material[:, 8].clamp_min(1), material[:, 15].long()
    width = s.pixel * frequency
    p = s.local * frequency[:, None]
    p = torch.where(torch.arange(3, device=p.device) == grain[:, None], p / stretch[:, None], p)
    a, b = u * frequency, v * frequency / stretch
    cross = torch.where(grain == 0, p[:, 1], p[:, 0]) + 0.4 * torch.where(grain == 2, p[:, 1], p[:, 2])
    wobble = _fractal_noise(p / 2, seed, width / 2)
    row = a.floor()
    bricks = torch.maximum(_line(a, 0.08, width), _line(b / 2 + (row - 2 * (row / 2).floor()) / 2, 0.05, width / 2))
    q = (4 * p).floor().long()
    spots = (_chance(_cell(q[:, 0], q[:, 1], q[:, 2], seed)) > 0.8).to(p)
    values = [torch.zeros_like(a), _fractal_noise(p, seed, width),
              0.5 + 0.5 * _square_wave(a, width) * _square_wave(b, width), 0.5 + 0.5 * _square_wave(a, width),
              0.5 + 0.5 * torch.sin(2 * torch.pi * (cross + 2 * wobble)) * _visible(width), bricks,
              torch.lerp(torch.full_like(a, 0.2), spots, _visible(4 * width))]
    return torch.stack(values).gather(0, kind.long()[None])[0]


def _visible(width: Tensor) -> Tensor:
    """What of a pattern with cells of size 1 is left where a pixel covers `width` of them."""
    return (1.5 * (1 - width)).clamp(0, 1)


def _fractal_noise(p: Tensor, seed: Tensor, width: Tensor) -> Tensor:
    total = torch.full_like(width, 0.5)
    for octave in range(4):
        noise = _value_noise(p * 2.03 ** octave, seed + octave)
        total = total + 0.5 ** (octave + 1) * _visible(width * 2.03 ** octave) * (noise - 0.5) * 1.6
    return total.clamp(0, 1)


def _value_noise(p: Tensor, seed: Tensor) -> Tensor:
    corner = p.floor()
    f = p - corner
    f = f * f * (3 - 2 * f)
    x, y, z = corner.long().unbind(-1)
    total = torch.zeros_like(f[:, 0])
    for i in (0, 1):
        for j in (0, 1):
            for k in (0, 1):
                weight = torch.where(torch.tensor([i, j, k], dtype=torch.bool, device=f.device), f, 1 - f).prod(dim=-1)
                total = total + weight * _chance(_cell(x + i, y + j, z + k, seed))
    return total


def _square_wave(x: Tensor, width: Tensor) -> Tensor:
    phase = (x / 2 - (x / 2).floor()) * 2
    edge = (phase - (phase + 0.5).floor()).abs()
    return torch.where(phase < 1, 1.0, -1.0) * (2 * edge / width.clamp_min(1e-3)).clamp_max(1) * _visible(width)


def _line(x: Tensor, thick: float, width: Tensor) -> Tensor:
    soft = width.clamp_min(1e-3)
    edge = (x - (x + 0.5).floor()).abs()
    return ((0.5 * (thick + soft) - edge) / soft).clamp(0, 1) * (thick / soft + _visible(width)).clamp_max(1)


def _scramble(h: Tensor) -> Tensor:
    """The 32-bit integer mixer of raycast.cu in int64."""
    mask = 0xFFFFFFFF
    h = h ^ (h >> 16)
    h = (h * 0x7FEB352D) & mask
    h = h ^ (h >> 15)
    h = (h * 0x846CA68B) & mask
    return h ^ (h >> 16)


def _cell(x: Tensor, y: Tensor, z: Tensor, seed: Tensor | int) -> Tensor:
    mixed = (x * 0x9E3779B1) ^ (y * 0x85EBCA77) ^ (z * 0xC2B2AE3D) ^ (seed * 0x27D4EB2F)
    return _scramble(mixed & 0xFFFFFFFF)


def _chance(h: Tensor) -> Tensor:
    return (h >> 8).double() / 16777216


def _texture(atlas: TextureAtlas, index: Tensor, u: Tensor, v: Tensor, width: Tensor) -> Tensor:
    """(R, 3) bilinear lookup in the mip level whose texels are about as large as the pixel; textures repeat."""
    wanted = ((width * atlas.size).clamp_min(1e-6).log2() + 0.5).clamp(0, atlas.levels - 1).long()
    color = torch.zeros(len(u), 3, dtype=u.dtype, device=u.device)
    start = 0
    for level in range(atlas.levels):
        size = atlas.size >> level
        packed = atlas.texels[start:start + atlas.count * size * size].reshape(atlas.count, size, size)
        start += packed.numel()
        x, y = u * size - 0.5, v * size - 0.5
        for j in (0, 1):
            for i in (0, 1):
                column, row = x.floor() + i, y.floor() + j
                weight = (1 - (x - column).abs()) * (1 - (y - row).abs()) * (wanted == level)
                texel = packed[index, row.long() % size, column.long() % size]
                channels = torch.stack([texel & 255, (texel >> 8) & 255, (texel >> 16) & 255], dim=-1)
                color = color + weight[:, None] * (channels.to(u) / 255) ** 2
    return color


# --------------------------------------------------------------------------------------------------------- comparison
@dataclass(frozen=True)
class Agreement:
    """How far the kernel's pictures are from the reference's."""
    identity: float         # share of pixels with the same label and instance
    depth: float            # 99.9th percentile of the relative depth error over those
    radiance: float         # share of those whose radiance differs by less than 1 % of the brightest pixel's

    def good(self) -> bool:
        """Float32 decides the last hair of an outline or of a shadow's edge otherwise; no more than that may differ."""
        return self.identity > 0.999 and self.depth < 1e-3 and self.radiance > 0.99


def compare(drawn: Rendering, expected: Rendering) -> Agreement:
    same = (drawn.label == expected.label) & (drawn.instance == expected.instance)
    depth = ((drawn.depth - expected.depth).abs() / expected.depth.clamp_min(1e-6))[same & (expected.depth > 0)]
    error = (drawn.radiance - expected.radiance).abs().amax(dim=2)
    peak = expected.radiance.amax(dim=(2, 3, 4), keepdim=True)[:, :, 0]
    return Agreement(identity=same.double().mean().item(), depth=depth.double().quantile(0.999).item(),
                     radiance=(error < 0.01 * peak)[same].double().mean().item())
