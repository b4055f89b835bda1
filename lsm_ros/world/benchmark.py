"""How fast worlds are drawn, and whether they are drawn right: python -m lsm_ros.world.benchmark

First the kernel is held against the plain reference on the device; then come the speeds of drawing alone, of the
camera's part, and of the whole stream with its workers. A sample is a window of four views.
"""
from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial

import numpy as np
import torch

from lsm_ros.world import reference
from lsm_ros.world.factory import HELD_OUT_SEEDS, make_parcel
from lsm_ros.world.materials import load_textures
from lsm_ros.world.meshes import MeshLibrary, load_meshes
from lsm_ros.world.renderer import MeshAtlas, Renderer, SceneBank, TextureAtlas
from lsm_ros.world.rooms import make_scene
from lsm_ros.world.scene import Scene
from lsm_ros.world.sensor import Look, develop
from lsm_ros.world.stream import Lens, Shutter, WorldStream

VIEWS = 4                                      # of a sample
CHECKED_WORLDS, CHECKED_SIZE = 4, (48, 64)     # what is held against the reference


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cuda = torch.cuda.is_available()
    parser.add_argument("--device", default="cuda" if cuda else "cpu")
    parser.add_argument("--size", type=int, nargs=2, default=(192, 256), metavar=("H", "W"), help="pixels")
    parser.add_argument("--batch", type=int, default=192 if cuda else 4, help="samples a call")
    parser.add_argument("--worlds", type=int, default=128 if cuda else 16, help="worlds that are drawn")
    parser.add_argument("--seconds", type=float, default=3.0, help="how long each speed is measured")
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 2) - 2), help="processes of a stream")
    parser.add_argument("--textures", help="folder or packed file of photo textures")
    parser.add_argument("--meshes", help="file of furniture models")
    options = parser.parse_args()
    device, size, batch = torch.device(options.device), tuple(options.size), options.batch

    catalogue, images = load_textures(options.textures) if options.textures else (None, None)
    atlas = None if images is None else TextureAtlas(images, device)
    models, library = load_meshes(options.meshes) if options.meshes else (None, None)
    mesh_atlas = None if library is None else MeshAtlas(library, device)
    began = time.perf_counter()
    parcel = make_parcel(HELD_OUT_SEEDS[:options.worlds], 1, VIEWS, catalogue, models)
    made = time.perf_counter() - began
    bank = SceneBank.empty(options.worlds, device)
    bank.put(0, parcel.scenes)
    rng = np.random.default_rng(0)
    scene = torch.arange(batch, device=device) % options.worlds
    focal = np.resize(parcel.focal[:, 0], batch)
    T_world_cam = torch.from_numpy(parcel.T_world_cam[:, 0]).to(device)[scene]
    primitives = parcel.scenes.counts[:, 0]
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(f"device      {name}, torch {torch.__version__}")
    print(f"worlds      {primitives.mean():.0f} primitives ({primitives.min()} to {primitives.max()}), "
          f"{len(primitives) / made:.1f} a second on one core, {len(images) if atlas else 'no'} textures")

    K, bend = (torch.from_numpy(array).to(device) for array in Lens.random(rng, focal).cameras(VIEWS, CHECKED_SIZE))
    right = check(bank, T_world_cam, K, bend, partial(make_scene, textures=catalogue, meshes=models), atlas, mesh_atlas,
                  library)

    K, bend = (torch.from_numpy(array).to(device) for array in Lens.random(rng, focal).cameras(VIEWS, size))
    print(f"speed at {size[1]}x{size[0]}, {batch} samples of {VIEWS} views a call:")
    for samples in (1, 2, 4):
        renderer = Renderer(device, atlas, samples=samples, meshes=mesh_atlas)
        render = partial(renderer.render, bank, scene, T_world_cam, K, size, bend)
        report(f"draw, {samples} ray{'s' * (samples > 1)} a pixel", batch, *measure(render, device, options.seconds))
    shutter = Shutter(np.full(batch, 0.05, np.float32)).motion(T_world_cam)
    renderer = Renderer(device, atlas, meshes=mesh_atlas)
    rolling = partial(renderer.render, bank, scene, T_world_cam, K, size, bend, shutter)
    report("draw, rolling shutter", batch, *measure(rolling, device, options.seconds))
    radiance = render().radiance

    def photograph():
        develop(radiance, Look.random(rng, batch, VIEWS))
    report("camera", batch, *measure(photograph, device, options.seconds))

    stream = WorldStream(size, VIEWS, batch, device, seed=1, workers=options.workers, textures=options.textures,
                         meshes=options.meshes)
    with closing(stream):
        began = time.perf_counter()
        stream.next()
        print(f"stream      first batch after {time.perf_counter() - began:.1f} s with {options.workers} workers")
        report("stream", batch, *measure(stream.next, device, options.seconds))
        usable = torch.stack([stream.next().valid.float().mean() for _ in range(10)]).mean().item()
        print(f"            {stream.worlds_per_second:.0f} new worlds a second, {usable:.1%} of the windows are usable")
    return 0 if right else 1


def check(bank: SceneBank, T_world_cam: torch.Tensor, K: torch.Tensor, bend: torch.Tensor,
          make: Callable[[int], Scene], atlas: TextureAtlas | None, mesh_atlas: MeshAtlas | None,
          library: MeshLibrary | None) -> bool:
    """Holds the first view of the first worlds against the reference and prints the worst of each measure. Every other
    camera has a rolling shutter."""
    device = T_world_cam.device
    renderer = Renderer(device, atlas, samples=1, soft_shadows=False, meshes=mesh_atlas)
    every_other = np.arange(len(T_world_cam), dtype=np.float32) % 2
    shutter = Shutter(0.05 * every_other).motion(T_world_cam)
    found = []
    for i, seed in enumerate(HELD_OUT_SEEDS[:min(CHECKED_WORLDS, len(bank), len(T_world_cam))]):
        one = slice(i, i + 1), slice(0, 1)
        drawn = renderer.render(bank, torch.tensor([i], device=device), T_world_cam[one], K[one], CHECKED_SIZE,
                                bend[one], shutter[one])
        expected = reference.render(make(seed), T_world_cam[i, 0], K[i, 0], CHECKED_SIZE, atlas, bend[i, 0],
                                    library, shutter[i, 0])
        found.append(reference.compare(drawn, expected))
    worst = reference.Agreement(identity=min(each.identity for each in found), depth=max(each.depth for each in found),
                                radiance=min(each.radiance for each in found))
    print(f"reference   {'agrees' if worst.good() else 'DISAGREES'}: same object {worst.identity:.2%}, "
          f"depth within {worst.depth:.1e}, same light {worst.radiance:.2%} of the pixels")
    return worst.good()


def measure(work: Callable[[], object], device: torch.device, seconds: float) -> tuple[int, float]:
    """Calls and the seconds that they took, after one call to warm up."""
    def wait():
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    work()
    wait()
    calls, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        work()
        calls += 1
        if calls % 4 == 0:
            wait()
    wait()
    return calls, time.perf_counter() - began


def report(name: str, batch: int, calls: int, seconds: float) -> None:
    speed = calls * batch / seconds
    print(f"  {name:<22}{speed:>9.1f} samples/s {speed * VIEWS:>10.0f} images/s "
          f"{seconds / calls * 1e3:>9.2f} ms a call")


if __name__ == "__main__":
    sys.exit(main())
