"""Renders the recording that the package ships: a walk through an apartment that no training has seen.

    python -m lsm_ros.world.recording recordings/apartment --textures TEXTURES

Negative seeds are kept for recordings: training and evaluation draw theirs from 0 on (HELD_OUT_SEEDS in factory.py).
Without --textures the surfaces carry patterns only; those of the shipped recording are CC0 photographs of ambientCG.
"""
from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import torch

from lsm_ros.data.recording import RecordingWriter
from lsm_ros.errors import InputError, LsmError
from lsm_ros.geometry.camera import intrinsics, scale_intrinsics
from lsm_ros.world.materials import load_textures
from lsm_ros.world.meshes import load_meshes
from lsm_ros.world.movers import Motions
from lsm_ros.world.packing import pack
from lsm_ros.world.people import with_people
from lsm_ros.world.renderer import MeshAtlas, Renderer, Rendering, SceneBank, TextureAtlas
from lsm_ros.world.rooms import make_scene
from lsm_ros.world.scene import CameraPath, Scene
from lsm_ros.world.sensor import Look, develop, mean_tone
from lsm_ros.world.walks import smooth_walk

SEED = -93
SIZE = (640, 480)              # width, height
TRUTH_SIZE = (192, 144)
TRUTH_EVERY = 5                # depth and labels of each n-th frame
FOCAL = .82                    # / width: 63 degrees, a depth camera's or a phone's
SHUTTER_S = .006
FEWEST_IMAGES = 2              # how the camera turns is the difference of two
ADAPTATION_S = .5              # of the automatic exposure
START_NS = 1_767_225_600_000_000_000


def record(folder: Path, seed: int = SEED, textures: Path | None = None, seconds: float = 14.0, rate: float = 15.0,
           quality: int = 76, meshes: Path | None = None) -> int:
    """Writes a rosbag2 with images, CameraInfo, true poses, and for some frames true depth and labels.

    Raises InputError for a seed that training may use and for a time or a rate that makes no walk, OutputError where
    the folder exists. Returns the images written.
    """
    if seed >= 0:
        raise InputError(f"seed = {seed}; recordings have negative seeds, the others belong to training and evaluation")
    if not (0 < seconds < np.inf and 0 < rate < np.inf and seconds * rate >= FEWEST_IMAGES):
        raise InputError(f"seconds = {seconds:g}, rate = {rate:g}; a walk has {FEWEST_IMAGES} images at least")
    scene, bank, renderer = furnish(seed, "apartment", textures, meshes, samples=4)
    path = smooth_walk(scene, np.random.default_rng(-seed), seconds, rate, focal=FOCAL)
    K = intrinsics(FOCAL * SIZE[0], FOCAL * SIZE[0], SIZE[0] / 2, SIZE[1] / 2)
    camera = Camera(path, rate)
    with RecordingWriter(folder) as writer:
        for k, T_world_cam in enumerate(path.T_world_cam):
            stamp_ns = START_NS + round(k * 1e9 / rate)
            writer.write_image(stamp_ns, camera.picture(k, draw(renderer, bank, T_world_cam, K, SIZE).radiance),
                               quality)
            writer.write_camera_info(stamp_ns, K, *SIZE)
            writer.write_truth_pose(stamp_ns, T_world_cam)
            if k % TRUTH_EVERY == 0:
                truth = draw(renderer, bank, T_world_cam, scale_intrinsics(K, SIZE, TRUTH_SIZE), TRUTH_SIZE)
                depth = truth.depth[0, 0].numpy()
                writer.write_truth_depth(stamp_ns, np.where(depth > 0, depth, np.nan))
                writer.write_truth_labels(stamp_ns, truth.label[0, 0].numpy())
    return len(path.T_world_cam)


def furnish(seed: int, kind: str, textures: str | Path | None, meshes: str | Path | None, *, samples: int,
            device: str = "cpu", people: int = 0) -> tuple[Scene, SceneBank, Renderer]:
    """The building of a seed and a kind (rooms.KINDS), and what draws it on `device`, with `samples` as in Renderer.

    textures, meshes: as for load_textures and load_meshes; None for none.
    people: who are the visitors of the scene; with some the bank has a second slot, for the scene of a moment.
    """
    catalogue, atlas = load_textures(textures) if textures else (None, None)
    models, library = load_meshes(meshes) if meshes else (None, None)
    scene = make_scene(seed, kind, catalogue, models)
    if people:
        scene = with_people(scene, people, Random(f"people {seed}"), catalogue)
    renderer = Renderer(device, TextureAtlas(atlas, device) if textures else None, samples=samples,
                        meshes=MeshAtlas(library, device) if meshes else None)
    return scene, moving_bank(scene, device) if people else SceneBank.of([scene], device), renderer


def moving_bank(scene: Scene, device: str) -> SceneBank:
    """A bank of two slots: the scene, and a copy of it at some moment, see `place`."""
    sizes = len(scene.shape) + len(scene.visitors.shape), len(scene.materials)
    bank = SceneBank.empty(2, device, *sizes)
    bank.put(0, pack([scene], *sizes))
    return bank


def place(bank: SceneBank, motions: Motions, view: int) -> int:
    """Moves the copy in a `moving_bank` to where things are in a view of the only path of `motions`, (1,); returns its
    slot."""
    now = replace(motions, pose=motions.pose[:, view:view + 1])
    device = bank.counts.device
    scene, instance, T = (torch.from_numpy(values).to(device)
                          for values in (np.zeros(1, np.int64), now.instance, now.T_world_rest()))
    return int(bank.move(1, scene, instance, T)[0, 0])


def draw(renderer: Renderer, bank: SceneBank, T_world_cam: np.ndarray, K: np.ndarray,
         size: tuple[int, int], slot: int = 0) -> Rendering:
    """One view of a scene of the bank; `size` is (width, height)."""
    scene, T_world_cam, K = (torch.from_numpy(np.asarray(values)).to(renderer.device)
                             for values in (np.full(1, slot, np.int64), T_world_cam[None, None], K[None, None]))
    return renderer.render(bank, scene, T_world_cam, K, size[::-1])


class Camera:
    """One ordinary camera over a whole walk: its exposure follows the light slowly, its pictures smear as it turns."""

    def __init__(self, path: CameraPath, rate: float, width: int = SIZE[0]):
        self.generator = torch.Generator().manual_seed(0)
        self.adaptation = 1 - np.exp(-1 / (ADAPTATION_S * rate))
        self.tone = 0.0
        forward = path.T_world_cam[:, :3, 2]
        # Where the optical axis goes, in camera axes and radians a frame; the picture moves the other way.
        ahead = np.einsum("vji,vj->vi", path.T_world_cam[:, :3, :3], np.gradient(forward, axis=0))
        self.smear = -ahead[:, :2] * rate * SHUTTER_S * path.focal * width
        values = dict(key=[[.17]], drift=[[1]], balance=[[[1.02, 1, .98]]], vignette=[.18], defocus=[[.5]],
                      motion=[[[0, 0]]],
                      shot=[.00025], read=[.0018], shoulder=[3], gamma=[[1 / 2.2]], contrast=[.1], saturation=[.95],
                      quality=[0], sharpening=[0], metering=[0], whitening=[0], veil=[0], veiled=[0])
        self.look = Look(**{name: np.float32(value) for name, value in values.items()})

    def picture(self, k: int, radiance: torch.Tensor) -> np.ndarray:
        """Linear light (1, 1, 3, H, W) of view k -> (H, W, 3) uint8."""
        tone = float(mean_tone(radiance)[0])
        self.tone = self.tone * (tone / self.tone) ** self.adaptation if k else tone
        look = replace(self.look, drift=np.float32([[tone / self.tone]]), motion=np.float32(self.smear[k])[None, None])
        image = develop(radiance, look, self.generator)[0, 0]
        return np.ascontiguousarray((image.permute(1, 2, 0) * 255).round().byte().numpy())


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m lsm_ros.world.recording", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the rosbag2 goes; must not exist")
    parser.add_argument("--textures", type=Path, help="folder or packed file of photo textures")
    parser.add_argument("--meshes", type=Path, help="file of furniture models")
    parser.add_argument("--seed", type=int, default=SEED, help="a negative number (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=14.0)
    parser.add_argument("--rate", type=float, default=15.0, help="images a second")
    parser.add_argument("--quality", type=int, default=76, help="of the JPEG images, 1..100")
    options = parser.parse_args()
    try:
        images = record(**vars(options))
    except LsmError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    size = sum(file.stat().st_size for file in options.folder.iterdir())
    print(f"{options.folder}: {images} images, {size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
