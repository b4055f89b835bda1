"""Endless training views of rendered worlds, and fixed ones for evaluation.

Worker processes furnish worlds (factory.py) and this side keeps a few thousand of them in a bank on the device, always
replacing the oldest. Every batch picks worlds and paths from the bank at random, so drawing never waits for furnishing.
"""
from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from lsm_ros.errors import InputError
from lsm_ros.geometry.sim3 import exp_so3, sim3
from lsm_ros.world.edges import Edges
from lsm_ros.world.factory import HELD_OUT_SEEDS, PARCEL, PATHS, Factory, make_parcel
from lsm_ros.world.materials import TextureCatalogue, load_textures
from lsm_ros.world.meshes import MeshCatalogue, load_meshes
from lsm_ros.world.movers import Motions
from lsm_ros.world.renderer import NO_INSTANCE, MeshAtlas, Renderer, SceneBank, TextureAtlas, staged
from lsm_ros.world.sensor import Look, develop

__all__ = ["HELD_OUT_SEEDS", "ViewBatch", "WorldStream", "fixed_batch"]

NEAR_M = 0.2                # a view whose median depth is below this sees nothing but one surface
ROLLING_SHARE = 0.3         # of the windows are taken with a rolling shutter
MOST_MOVING = 1.5           # times as many windows of a batch as in the mean: there is room for no more
READOUT = (0.01, 0.05)      # of the time from one view to the next: 10 to 30 ms of 0.6 to 1 s
READOUT_M, READOUT_RAD = 0.02, 0.02     # most that a camera moves during a readout: 20 ms at 1 m/s and 1 rad/s
LEAN_RAD = 0.9              # most that a rolled camera leans to either side: beyond half a quarter its images are
                            # turned for the network (mapping/upright.py)
PARCELS_A_BATCH = 32        # most parcels that one batch takes in; the first batch waits for as many


@dataclass(frozen=True)
class ViewBatch:
    """B windows of V views. Cameras are OpenCV; pixel (u, v) has its centre at (u + 0.5, v + 0.5)."""
    image: torch.Tensor          # (B, V, 3, H, W) float32, 0..1 with 256 levels, gamma-encoded RGB
    depth: torch.Tensor          # (B, V, H, W) float32, z in metres, 0 where there is nothing
    label: torch.Tensor          # (B, V, H, W) uint8, renderer.NO_LABEL where there is nothing
    instance: torch.Tensor       # (B, V, H, W) int16, 0 the building, -1 nothing
    K: torch.Tensor              # (B, V, 3, 3) float32, pixels of this size
    T_world_cam: torch.Tensor    # (B, V, 4, 4) float32, metres; of the middle row, where the shutter rolls
    valid: torch.Tensor          # (B,) bool: no view inside something or with its nose to a surface
    body: torch.Tensor | None = None         # (B, V, H, W) uint8: which of what moves in its window, 0: what stays
    displaced: torch.Tensor | None = None    # (B, V, V, 1 + bodies) float32: by how many metres each is elsewhere in a
                                             # view than in another; both are None where nothing is asked to move


class WorldStream:
    """Batches of views of worlds that change all the time.

    Args:
        size: (H, W) pixels of a batch unless `next` is given another.
        views: V of every window.
        batch: B.
        device: where the bank lives and the drawing happens.
        seed: two streams with different seeds share no world; give every rank its own.
        workers: processes that furnish worlds. One makes some 25 a second.
        textures: a folder or packed file of photo textures (materials.load_textures); None for procedural surfaces.
        bank: worlds that are kept on the device, 55 kB each.
        meshes: a file of furniture models (meshes.load_meshes); None for furniture of simple shapes alone.
        automatic: share of the windows whose camera sets exposure, white balance and tones anew for each view.
        edges: share of the windows whose images have a border that shows nothing (edges.py).
        rolled: share of the windows whose camera leans to one side.
        flat: share of the windows whose camera shows little contrast, or no colour.
        moving: share of the windows in which somebody walks or something is moved (movers.py).
        low: share of the camera paths that are those of small robots, a hand or two above the floor.
    """

    def __init__(self, size: tuple[int, int], views: int = 8, batch: int = 64, device: torch.device | str = "cuda",
                 seed: int = 0, workers: int = 12, textures: str | Path | None = None, bank: int = 4096,
                 meshes: str | Path | None = None, automatic: float = 0.0, edges: float = 0.0, rolled: float = 0.0,
                 flat: float = 0.0, moving: float = 0.0, low: float = 0.0):
        if bank < PARCEL or bank % PARCEL:
            raise InputError(f"bank = {bank}; it must be a multiple of {PARCEL}")
        if seed < 0:
            raise InputError(f"seed = {seed}; the seed of a stream cannot be negative")
        self.size, self.views, self.batch, self.device = size, views, batch, torch.device(device)
        self.automatic, self.edges, self.rolled, self.flat, self.moving = automatic, edges, rolled, flat, moving
        catalogue, atlas = _textures(textures, self.device)
        models, mesh_atlas = _meshes(meshes, self.device)
        self.renderer = Renderer(self.device, atlas, meshes=mesh_atlas)
        self.rng = np.random.default_rng(seed)
        self.noise = torch.Generator(self.device).manual_seed(seed)
        self.slots = bank
        self.most_moving = min(batch, math.ceil(MOST_MOVING * moving * batch))     # windows, of a batch
        self.bank = SceneBank.empty(bank + views * self.most_moving, self.device)  # theirs are copied behind the others
        self.T_world_cam = torch.zeros(bank, PATHS, views, 4, 4, device=self.device)
        self.focal = np.zeros((bank, PATHS), np.float32)
        self.motions = Motions.empty(bank, PATHS, views=views)
        self.worlds = 0                               # taken in since the start
        self._factory = Factory(seed, workers, views, catalogue, models, low)
        self._started = time.monotonic()

    def close(self) -> None:
        """Ends the workers."""
        self._factory.close()

    @property
    def worlds_per_second(self) -> float:
        """How fast the bank is replaced."""
        return self.worlds / (time.monotonic() - self._started)

    def next(self, size: tuple[int, int] | None = None) -> ViewBatch:
        """A batch at `size` (H, W). Waits only for the first worlds. Raises FactoryError where a worker died."""
        self._take_in()
        filled = min(self.worlds, self.slots)
        scene, path = self.rng.integers(0, filled, self.batch), self.rng.integers(0, PATHS, self.batch)
        chosen = staged(np.stack([scene, path]), self.device).to(self.device, non_blocking=True)
        rolls = staged(random_rolls(self.rng, self.batch, self.rolled), self.device).to(self.device, non_blocking=True)
        look = Look.random(self.rng, self.batch, self.views)
        moving = np.flatnonzero(self.rng.random(self.batch) < self.moving)[:self.most_moving]
        motions = Motions.empty(self.batch, views=self.views)
        motions.put(moving, self.motions.of(scene[moving], path[moving]))
        return draw(self.renderer, self.bank, chosen[0], self.T_world_cam[chosen[0], chosen[1]] @ rolls[:, None],
                    Lens.random(self.rng, self.focal[scene, path]),
                    look.automatic(self.rng, self.automatic).flat(self.rng, self.flat), size or self.size, self.noise,
                    Shutter.random(self.rng, self.batch),
                    Edges.random(self.rng, self.batch, self.edges),
                    motions if self.moving else None)

    def _take_in(self) -> None:
        enough = min(PARCELS_A_BATCH * PARCEL, self.slots)
        for _ in range(PARCELS_A_BATCH):
            parcel = self._factory.take(wait=self.worlds < enough)
            if parcel is None:
                break
            slot = self.worlds % self.slots
            self.bank.put(slot, parcel.scenes)
            slots = slice(slot, slot + PARCEL)
            self.T_world_cam[slots].copy_(staged(parcel.T_world_cam, self.device), non_blocking=True)
            self.focal[slots] = parcel.focal
            self.motions.put(slots, parcel.motions)
            self.worlds += PARCEL


@dataclass(frozen=True)
class Lens:
    """The optics of B windows; float32 arrays with B first."""
    focal: np.ndarray         # (B,) focal length / the image's longer side
    aspect: np.ndarray        # (B,) fy / fx
    center: np.ndarray        # (B, 2) principal point / image size
    bend: np.ndarray          # (B, 2) relative shift of the rays at the ends of the longer side, by r^2 and r^4

    @classmethod
    def random(cls, rng: np.random.Generator, focal: np.ndarray) -> Lens:
        """Nearly ideal cameras: the pictures of most drivers are rectified, and calibration is never perfect."""
        B = len(focal)
        bent = rng.random((B, 1)) < 0.3
        return cls(focal=focal.astype(np.float32), aspect=np.exp(rng.normal(0, 0.004, B)).astype(np.float32),
                   center=(0.5 + rng.normal(0, 0.008, (B, 2))).astype(np.float32),
                   bend=(bent * rng.normal(0, 0.006, (B, 2))).astype(np.float32))

    def cameras(self, views: int, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """K (B, V, 3, 3) in pixels of `size` and the renderer's distortion (B, V, 2)."""
        H, W = size
        K = np.zeros((len(self.focal), views, 3, 3), np.float32)
        K[:, :, 0, 0] = (self.focal * max(size))[:, None]
        K[:, :, 1, 1] = (self.focal * self.aspect * max(size))[:, None]
        K[:, :, :2, 2] = (self.center * (W, H))[:, None]
        K[:, :, 2, 2] = 1
        edge2 = (0.5 / self.focal[:, None]) ** 2                  # squared slope of the ray at the edge
        distortion = self.bend / np.concatenate([edge2, edge2 ** 2], axis=1)
        return K, np.repeat(distortion[:, None], views, axis=1).astype(np.float32)


def random_rolls(rng: np.random.Generator, windows: int, share: float) -> np.ndarray:
    """(B, 4, 4) float32: turns about the optical axis, to be multiplied to the right of T_world_cam; the identity for
    all but a share of the windows."""
    roll = rng.uniform(-LEAN_RAD, LEAN_RAD, windows) * (rng.random(windows) < share)
    return sim3(exp_so3(roll[:, None] * (0, 0, 1)), np.zeros(3)).astype(np.float32)


@dataclass(frozen=True)
class Shutter:
    """How the cameras of B windows read out their rows."""
    readout: np.ndarray       # (B,) float32: its time / the time between two views; 0 for all rows at once

    @classmethod
    def random(cls, rng: np.random.Generator, windows: int) -> Shutter:
        rolling = rng.random(windows) < ROLLING_SHARE
        return cls((rolling * np.exp(rng.uniform(*np.log(READOUT), windows))).astype(np.float32))

    def motion(self, T_world_cam: torch.Tensor) -> torch.Tensor:
        """The renderer's `shutter` (B, V, 6) of poses (B, V, 4, 4): metres and radians in each camera's frame.

        A camera moves as it goes on to the next view, the last one as it came from the one before; a lone one rests.
        """
        B, V = T_world_cam.shape[:2]
        if V == 1:
            return T_world_cam.new_zeros(B, 1, 6)
        R, t = T_world_cam[..., :3, :3], T_world_cam[..., :3, 3]
        R_next = R[:, :-1].mT @ R[:, 1:]
        skew = (R_next - R_next.mT) / 2
        skew = torch.stack([skew[..., 2, 1], skew[..., 0, 2], skew[..., 1, 0]], dim=-1)    # axis times the angle's sine
        sine = skew.norm(dim=-1, keepdim=True)
        cosine = (R_next.diagonal(dim1=-2, dim2=-1).sum(dim=-1, keepdim=True) - 1) / 2
        turn = skew * torch.atan2(sine, cosine) / sine.clamp_min(1e-9)     # the same seen from either view
        step = t.diff(dim=1)
        turn, step = (torch.cat([each, each[:, -1:]], dim=1) for each in (turn, step))
        shift = (R.mT @ step[..., None])[..., 0]
        readout = staged(self.readout, T_world_cam.device).to(T_world_cam.device, non_blocking=True)[:, None, None]
        return torch.cat([_at_most(readout * shift, READOUT_M), _at_most(readout * turn, READOUT_RAD)], dim=-1)


def _at_most(vectors: torch.Tensor, length: float) -> torch.Tensor:
    return vectors * (length / vectors.norm(dim=-1, keepdim=True).clamp_min(length))


def draw(renderer: Renderer, bank: SceneBank, scene: torch.Tensor, T_world_cam: torch.Tensor, lens: Lens, look: Look,
         size: tuple[int, int], noise: torch.Generator, shutter: Shutter | None = None,
         edges: Edges | None = None, motions: Motions | None = None) -> ViewBatch:
    """Renders B windows of the bank's worlds and develops them as their cameras would. `motions` (B,) move something in
    some of them; the bank's last slots, V for each of these, are for their copies."""
    seen = scene
    if motions is not None:
        seen = move(bank, scene, motions)
    K, distortion = (staged(array, renderer.device).to(renderer.device, non_blocking=True)
                     for array in lens.cameras(T_world_cam.shape[1], size))
    drawn = renderer.render(bank, seen, T_world_cam, K, size, distortion,
                            shutter.motion(T_world_cam) if shutter else None)
    depth = drawn.depth[:, :, 3::8, 3::8].flatten(2)
    free = (depth.median(dim=2).values >= NEAR_M) & ~bank.occupied(scene, T_world_cam[:, :, :3, 3])
    image = develop(drawn.radiance, look, noise)
    if edges:
        edges.put_around(image, drawn.depth, drawn.label, drawn.instance)
    body, displaced = (None, None) if motions is None else tell_apart(drawn.instance, motions)
    return ViewBatch(image=image, depth=drawn.depth, label=drawn.label,
                     instance=drawn.instance, K=K, T_world_cam=T_world_cam, valid=free.all(dim=1), body=body,
                     displaced=displaced)


def tell_apart(instance: torch.Tensor, motions: Motions) -> tuple[torch.Tensor, torch.Tensor]:
    """`body` and `displaced` of a ViewBatch with these motions (B,)."""
    names, displaced = (staged(array, instance.device).to(instance.device, non_blocking=True)
                        for array in (motions.instance, motions.displacements()))
    body = torch.zeros_like(instance, dtype=torch.uint8)
    for number, name in enumerate(names.masked_fill(names < 0, NO_INSTANCE - 1).unbind(1)):
        body.masked_fill_(instance == name[:, None, None, None], number + 1)
    return body, displaced


def move(bank: SceneBank, scene: torch.Tensor, motions: Motions) -> torch.Tensor:
    """(B, V) slots of the windows' views: of those in which something moves, copies behind the others in the bank."""
    views, device = motions.pose.shape[1], scene.device
    windows = np.flatnonzero((motions.instance >= 0).any(axis=1))
    mine = motions.of(windows)
    index, instance, T_world_rest = (staged(array, device).to(device, non_blocking=True)
                                     for array in (windows, mine.instance, mine.T_world_rest()))
    slots = scene[:, None].repeat(1, views)
    slots[index] = bank.move(len(bank) - views * len(windows), scene[index], instance, T_world_rest)
    return slots


def fixed_batch(seeds: Sequence[int], size: tuple[int, int], views: int, device: torch.device | str,
                textures: str | Path | None = None, meshes: str | Path | None = None,
                kind: str | None = None, automatic: float = 0.0, rolled: float = 0.0,
                flat: float = 0.0, moving: bool = False, low: float = 0.0) -> ViewBatch:
    """One window a seed: the same worlds, cameras and looks wherever it runs; only pixel noise is the device's own.

    For evaluation take the seeds from HELD_OUT_SEEDS. `kind` (rooms.KINDS) makes all of them worlds of that kind;
    `automatic`, `rolled`, `flat` and `low` as in WorldStream; `moving`: in all of them somebody walks or something is
    moved, if there is room for it.
    """
    device = torch.device(device)
    catalogue, atlas = _textures(textures, device)
    models, mesh_atlas = _meshes(meshes, device)
    parcel = make_parcel(seeds, 1, views, catalogue, models, kind, low)
    bank = SceneBank.empty(len(seeds) * (1 + views * moving), device)
    bank.put(0, parcel.scenes)
    cameras = [np.random.default_rng((seed, 1)) for seed in seeds]
    lenses = [Lens.random(rng, focal) for rng, focal in zip(cameras, parcel.focal, strict=True)]
    rolls = np.concatenate([random_rolls(np.random.default_rng((seed, 3)), 1, rolled) for seed in seeds])
    return draw(Renderer(device, atlas, meshes=mesh_atlas), bank, torch.arange(len(seeds), device=device),
                torch.from_numpy(parcel.T_world_cam[:, 0] @ rolls[:, None]).to(device),
                Lens(*(np.concatenate([getattr(lens, name) for lens in lenses]) for name in Lens.__dataclass_fields__)),
                Look.joined([Look.random(rng, 1, views).automatic(np.random.default_rng((seed, 2)), automatic)
                             .flat(np.random.default_rng((seed, 4)), flat)
                             for seed, rng in zip(seeds, cameras, strict=True)]), size,
                torch.Generator(device).manual_seed(seeds[0]),
                Shutter(np.concatenate([Shutter.random(rng, 1).readout for rng in cameras])),   # drawn last
                motions=parcel.motions.of(np.arange(len(seeds)), np.zeros(len(seeds), int)) if moving else None)


@lru_cache(maxsize=1)
def _textures(source: str | Path | None, device: torch.device) -> tuple[TextureCatalogue | None, TextureAtlas | None]:
    if source is None:
        return None, None
    catalogue, images = load_textures(source)
    return catalogue, TextureAtlas(images, device)


@lru_cache(maxsize=1)
def _meshes(source: str | Path | None, device: torch.device) -> tuple[MeshCatalogue | None, MeshAtlas | None]:
    if source is None:
        return None, None
    catalogue, library = load_meshes(source)
    return catalogue, MeshAtlas(library, device)
