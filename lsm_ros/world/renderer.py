"""Draws batches of views of rendered worlds: colour, depth, class and instance, on a GPU or on the CPU.

Scenes are packed into a bank of fixed-size arrays on the device; a call of `Renderer.render` draws any views of any
scenes of the bank with one kernel (raycast.cu).
"""
from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch

from lsm_ros.errors import InputError
from lsm_ros.world.materials import srgb_to_linear
from lsm_ros.world.meshes import MeshLibrary, build
from lsm_ros.world.native import CompilerError, architecture_of, raycaster
from lsm_ros.world.packing import MAX_MATERIALS, MAX_PRIMITIVES, PackedScenes, pack
from lsm_ros.world.scene import BOX, CONE, ELLIPSOID, MESH, Scene

NO_LABEL, NO_INSTANCE = 255, -1
"""Label and instance of a pixel whose ray meets nothing; its depth is 0."""


@dataclass(frozen=True)
class Rendering:
    """What B x V cameras see."""
    radiance: torch.Tensor    # (B, V, 3, H, W) float32, linear light, before any exposure
    depth: torch.Tensor       # (B, V, H, W) float32, z in metres at the pixel's centre, 0 where there is nothing
    label: torch.Tensor       # (B, V, H, W) uint8, NO_LABEL where there is nothing
    instance: torch.Tensor    # (B, V, H, W) int16, NO_INSTANCE where there is nothing


class SceneBank(PackedScenes):
    """Packed scenes on a device, replaced slot by slot while views of the others are drawn."""

    @classmethod
    def empty(cls, slots: int, device: torch.device | str, primitives: int = MAX_PRIMITIVES,
              materials: int = MAX_MATERIALS) -> SceneBank:
        """`primitives` and `materials` of each slot at most; raycast.cu takes 512 primitives."""
        nothing = pack([], primitives, materials)
        return cls(*(torch.zeros(slots, *array.shape[1:], dtype=torch.from_numpy(array).dtype, device=device)
                     for array in (getattr(nothing, field.name) for field in fields(PackedScenes))))

    @classmethod
    def of(cls, scenes: Sequence[Scene], device: torch.device | str) -> SceneBank:
        bank = cls.empty(len(scenes), device)
        bank.put(0, pack(scenes))
        return bank

    def put(self, first: int, scenes: PackedScenes) -> None:
        """Overwrites the slots from `first` on; ordered with the drawing that is already on the stream."""
        for field in fields(PackedScenes):
            slots = getattr(self, field.name)[first:first + len(scenes)]
            slots.copy_(staged(getattr(scenes, field.name), slots.device), non_blocking=True)

    @property
    def shape(self) -> torch.Tensor:
        """(N, P) int32"""
        return self.primitives.view(torch.int32)[..., 28]

    @property
    def instance(self) -> torch.Tensor:
        """(N, P) int32"""
        return self.primitives.view(torch.int32)[..., 30]

    def move(self, first: int, scene: torch.Tensor, instance: torch.Tensor, T_world_rest: torch.Tensor) -> torch.Tensor:
        """Writes a copy of its scene for each of V views of M windows into the slots from `first` on, with its
        visitors and with some objects moved.

        Args:
            scene: (M,) slots.
            instance: (M, K) the objects, -1 for none.
            T_world_rest: (M, V, K, 3, 4) from where each is in its scene to where it is in each view: rotation about z
                and metres.

        Returns:
            (M, V) the slots.
        """
        M, V = T_world_rest.shape[:2]
        slots = torch.arange(first, first + M * V, device=scene.device).unflatten(0, (M, V))
        source = scene.repeat_interleave(V)
        for field in fields(PackedScenes):
            values = getattr(self, field.name)
            values[first:first + M * V] = values[source]
        copies = slice(first, first + M * V)
        self.counts[copies, 0] += self.counts[copies, 2]
        body = ((self.instance[scene][:, :, None] == instance[:, None]) & (instance[:, None] >= 0)).int()
        body = torch.where(body.any(-1), body.argmax(-1) + 1, 0)[:, None]          # (M, 1, P), 0: what stays
        rests = torch.eye(3, 4, device=scene.device).expand(M, V, 1, 3, 4)
        T = torch.cat([rests, T_world_rest], dim=2)
        T = T.gather(2, body[..., None, None].expand(-1, V, -1, 3, 4)).flatten(0, 1)       # (MV, P, 3, 4)
        R, t = T[..., :3], T[..., 3:]
        rows = self.primitives[copies]
        to_unit = rows[..., :12].unflatten(-1, (3, 4))
        turned = to_unit[..., :3] @ R.mT
        axes = rows[..., 12:21].unflatten(-1, (3, 3)) @ R.mT                                  # one axis a row
        centre = R @ rows[..., 21:24, None] + t
        rows[..., :12] = torch.cat([turned, to_unit[..., 3:] - turned @ t], dim=-1).flatten(-2)
        rows[..., 12:21], rows[..., 21:24] = axes.flatten(-2), centre[..., 0]
        return slots

    def occupied(self, scene: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
        """(B, V) bool: which of the points (B, V, 3), world frame, lie inside a primitive of the scenes (B,);
        a mesh is taken for its box."""
        rows = self.primitives[scene]
        to_unit = rows[..., :12].unflatten(-1, (3, 4))
        q = torch.einsum("bpij,bvj->bvpi", to_unit[..., :3], points) + to_unit[:, None, ..., 3]
        shape, counts = self.shape[scene][:, None], self.counts[scene, 0]
        r, height = q[..., :2].norm(dim=-1), q[..., 2].abs()
        inside = torch.where((shape == BOX) | (shape >= MESH), q.abs().amax(dim=-1) < 1,
                             torch.where(shape == ELLIPSOID, q.norm(dim=-1) < 1,
                                         (height < 1) & (r < torch.where(shape == CONE, (1 - q[..., 2]) / 2, 1.0))))
        used = torch.arange(rows.shape[1], device=rows.device) < counts[:, None, None]
        return (inside & used).any(dim=-1)


def staged(array: np.ndarray, device: torch.device) -> torch.Tensor:
    """The array where a copy to the device can read it without anybody waiting: in pinned memory for a GPU."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory() if device.type == "cuda" else tensor


class TextureAtlas:
    """Square photographs of surfaces with their mip levels on a device, as 8-bit square roots of linear light."""

    def __init__(self, images: np.ndarray, device: torch.device | str):
        """`images`: (N, S, S, 3) uint8 sRGB with S a power of two. Raises InputError for anything else."""
        if images.ndim != 4 or images.dtype != np.uint8 or images.shape[1] != images.shape[2] or images.shape[3] != 3 \
                or images.shape[1] & (images.shape[1] - 1):
            raise InputError(f"a texture atlas is (N, S, S, 3) uint8 with S a power of two, not {images.shape} "
                             f"{images.dtype}")
        self.count, self.size = images.shape[:2]
        self.levels = self.size.bit_length()
        curve = torch.from_numpy(srgb_to_linear(np.arange(256) / 255)).float().to(device)
        linear = curve[torch.from_numpy(images).to(device).int()]
        levels = []
        for _ in range(self.levels):
            channels = linear.sqrt().mul(255).round().to(torch.int32)
            levels.append((channels[..., 0] | channels[..., 1] << 8 | channels[..., 2] << 16).flatten())
            if linear.shape[1] > 1:
                linear = linear.unflatten(2, (-1, 2)).unflatten(1, (-1, 2)).mean(dim=(2, 4))
        self.texels = torch.cat(levels)      # int32, level by level, each (N, S >> level, S >> level)


class MeshAtlas:
    """A library of furniture models on a device, as raycast.cu reads it; one copy serves all scenes."""

    def __init__(self, library: MeshLibrary, device: torch.device | str):
        trees = build(library)
        self.count = len(library)
        self.nodes, self.triangles, self.models = (torch.from_numpy(array).to(device) for array in
                                                   (trees.nodes, trees.triangles, trees.models))


class _Arguments(ctypes.Structure):
    """struct Arguments of raycast.cu."""
    _fields_ = [(name, ctypes.c_void_p) for name in
                ("primitives", "materials", "lights", "ambient", "counts", "nodes", "triangles", "models", "texels",
                 "scene", "T_world_cam", "K", "distortion", "shutter", "radiance", "depth", "label", "instance",
                 "stream")] + \
               [(name, ctypes.c_int32) for name in
                ("images", "views", "height", "width", "max_primitives", "max_materials", "max_lights", "textures",
                 "texture_size", "texture_levels", "samples", "threads", "soft")]


class Renderer:
    """Draws views of a bank's scenes on one device.

    Args:
        device: "cpu", "cuda" or "cuda:N"; the kernel is compiled for it at the first use.
        textures: the atlas that the materials' texture indices point into; without one they show their pattern alone.
        samples: rays a pixel for the colour. Depth and labels always belong to the pixel's centre.
        meshes: the furniture models that shapes from MESH on point into.
        soft_shadows: whether lights are as large as scene.py says when they cast shadows, or points.
    """

    def __init__(self, device: torch.device | str, textures: TextureAtlas | None = None, samples: int = 2,
                 soft_shadows: bool = True, meshes: MeshAtlas | None = None):
        if not 1 <= samples <= 256:
            raise InputError(f"samples = {samples}; it must lie in 1..256")
        self.device = torch.device(device)
        self.textures, self.meshes, self.samples, self.soft_shadows = textures, meshes, samples, soft_shadows
        self._library = raycaster(architecture_of(self.device))
        if self._library.raycast_arguments_bytes() != ctypes.sizeof(_Arguments):
            raise CompilerError(f"raycast.cu takes {self._library.raycast_arguments_bytes()} bytes of arguments, "
                                f"renderer.py gives {ctypes.sizeof(_Arguments)}")

    def render(self, bank: SceneBank, scene: torch.Tensor, T_world_cam: torch.Tensor, K: torch.Tensor,
               size: tuple[int, int], distortion: torch.Tensor | None = None,
               shutter: torch.Tensor | None = None) -> Rendering:
        """Draws B x V views.

        Args:
            scene: (B,) which slot of the bank, or (B, V) of each view; not checked on a GPU, which would make it wait.
            T_world_cam: (B, V, 4, 4) metres, OpenCV camera axes.
            K: (B, V, 3, 3) pixels of `size`; pixel (u, v) has its centre at (u + 0.5, v + 0.5).
            size: (H, W) pixels.
            distortion: (B, V, 2) k1, k2: the ray of normalised image coordinates p is p (1 + k1 |p|^2 + k2 |p|^4).
            shutter: (B, V, 6) how the camera moves from the first row to the last while they are read out: metres (3)
                and radians (3) in its own frame. T_world_cam holds in the middle, at s = 0; the row with its centre at
                v is exposed at s = v / H - 0.5, and its ray d starts at s * metres and goes along
                d + s * radians x d, which is exact enough for turns up to 0.05 rad. Depth is z in the frame of
                T_world_cam; unprojecting it with K alone is off by what the camera moved, as with a real one.
        """
        (B, V), (H, W) = T_world_cam.shape[:2], size
        expected = {"scene": (scene, (B, V)[:max(scene.dim(), 1)]), "T_world_cam": (T_world_cam, (B, V, 4, 4)),
                    "K": (K, (B, V, 3, 3))}
        if distortion is not None:
            expected["distortion"] = (distortion, (B, V, 2))
        if shutter is not None:
            expected["shutter"] = (shutter, (B, V, 6))
        for name, (tensor, shape) in expected.items():
            if tuple(tensor.shape) != shape:
                raise InputError(f"{name} has the shape {tuple(tensor.shape)}, not {shape}")
        if scene.device.type == "cpu" and B and not 0 <= scene.min() <= scene.max() < len(bank):
            raise InputError(f"scene {scene.min()} to {scene.max()}; the bank has {len(bank)}")
        models = self.meshes.count if self.meshes else 0
        if scene.device.type == "cpu" and len(bank) and bank.shape.max() >= MESH + models:
            raise InputError(f"a scene has the furniture model {bank.shape.max() - MESH}; the renderer has {models}")
        if bank.counts.device.type != self.device.type:
            raise InputError(f"the bank is on {bank.counts.device}, the renderer on {self.device}")

        # These stay referenced until the kernel is queued; after that the stream keeps their memory in order.
        scene = scene.to(self.device, torch.int64)
        scene = (scene if scene.dim() == 2 else scene[:, None].expand(B, V)).contiguous()
        T_world_cam = T_world_cam.to(self.device, torch.float32).contiguous()
        K = K.to(self.device, torch.float32).contiguous()
        distortion, shutter = (None if given is None else given.to(self.device, torch.float32).contiguous()
                               for given in (distortion, shutter))
        drawn = Rendering(radiance=torch.empty(B, V, 3, H, W, device=self.device),
                          depth=torch.empty(B, V, H, W, device=self.device),
                          label=torch.empty(B, V, H, W, dtype=torch.uint8, device=self.device),
                          instance=torch.empty(B, V, H, W, dtype=torch.int16, device=self.device))
        atlas = self.textures
        cuda = self.device.type == "cuda"
        arguments = _Arguments(
            **{field.name: getattr(bank, field.name).data_ptr() for field in fields(PackedScenes)},
            **{field.name: getattr(drawn, field.name).data_ptr() for field in fields(Rendering)},
            scene=scene.data_ptr(), T_world_cam=T_world_cam.data_ptr(), K=K.data_ptr(),
            distortion=None if distortion is None else distortion.data_ptr(),
            shutter=None if shutter is None else shutter.data_ptr(),
            **{name: getattr(self.meshes, name).data_ptr() if self.meshes else None
               for name in ("nodes", "triangles", "models")},
            texels=atlas.texels.data_ptr() if atlas else None, textures=atlas.count if atlas else 0,
            texture_size=atlas.size if atlas else 0, texture_levels=atlas.levels if atlas else 0,
            stream=torch.cuda.current_stream(self.device).cuda_stream if cuda else None,
            images=B * V, views=V, height=H, width=W, max_primitives=bank.primitives.shape[1],
            max_materials=bank.materials.shape[1], max_lights=bank.lights.shape[1], samples=self.samples,
            threads=torch.get_num_threads(), soft=self.soft_shadows)
        with torch.cuda.device(self.device if cuda else -1):
            problem = self._library.raycast(ctypes.byref(arguments))
        if problem:
            raise CompilerError(f"the ray caster could not start on {self.device}: {problem.decode()}")
        return drawn
