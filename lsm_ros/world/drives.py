"""Long drives of a wheeled robot through a building, with what is true of every view; what its wheels would say.

World frame as in scene.py. The robot's base is on the floor under its turning point, x forward; its camera looks ahead.
"""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from lsm_ros.data.images import decode_compressed
from lsm_ros.data.packed import read_npz, write_npz
from lsm_ros.errors import InputError, OutputError
from lsm_ros.geometry.camera import crop_intrinsics, intrinsics, scale_intrinsics
from lsm_ros.geometry.sim3 import inverse
from lsm_ros.world.cameras import poses
from lsm_ros.world.people import walk_about
from lsm_ros.world.recording import Camera, draw, furnish, place
from lsm_ros.world.scene import CameraPath, Scene
from lsm_ros.world.space import Space
from lsm_ros.world.walks import FreeFloor, smooth

SIZE = (256, 192)              # width, height of the pictures: the network's own
FOCAL = .82                    # / width
RATE_HZ = 4.0
SPEED_MPS, TURN_RADPS = .4, .5
PITCH = -.12                   # radians; a robot's camera looks a little down
CUSP_RAD = .5                  # a leg that begins farther from the robot's heading is begun with a turn on the spot
QUALITY = 92                   # of the JPEG pictures in a file


@dataclass(frozen=True)
class Mount:
    """How the camera sits on the robot: over the turning point, level in roll."""
    height_m: float
    pitch: float = PITCH       # radians upwards

    @property
    def T_base_cam(self) -> np.ndarray:
        """(4, 4), OpenCV camera axes."""
        return poses(np.array([0, 0, self.height_m]), np.array([0, self.pitch, 0]))


@dataclass(frozen=True)
class Drive:
    """V views of one drive, RATE_HZ a second. The truth is on a grid of half the pictures' size, h x w."""
    images: np.ndarray         # (V, H, W, 3) uint8 RGB
    K: np.ndarray              # (3, 3) float64 pixels of the images
    T_world_cam: np.ndarray    # (V, 4, 4) float64
    K_truth: np.ndarray        # (3, 3) float64 pixels of the grid
    depth: np.ndarray          # (V, h, w) float16 z depth in metres, 0 where there is nothing
    labels: np.ndarray         # (V, h, w) uint8 index into the shipped labels, NO_LABEL where there is nothing
    instances: np.ndarray      # (V, h, w) int16, 0 for the building itself
    people: np.ndarray | None = None     # (N,) int32 the instances that walk about, if any do


def way_of_wheels(scene: Scene, rng: np.random.Generator, length_m: float, mount: Mount) -> np.ndarray:
    """(V, 4, 4) T_world_cam, RATE_HZ a second, of a robot that drives `length_m` from room to room, and again.

    It drives forward only, along smooth bends, and turns on the spot where a way begins behind it.
    Raises InputError where the scene has no place to drive.
    """
    legs = [smooth(leg, .22) for leg in FreeFloor(Space(scene), mount.height_m).legs(rng, length_m)]
    xy, yaw = [], []
    for leg in legs:
        ahead = np.gradient(leg, axis=0)
        heading = np.unwrap(np.arctan2(ahead[:, 1], ahead[:, 0]))
        if yaw:
            turn = (heading[0] - yaw[-1][-1] + np.pi) % (2 * np.pi) - np.pi
            heading += yaw[-1][-1] + turn - heading[0]
            if abs(turn) > CUSP_RAD:
                steps = int(np.ceil(abs(turn) / .02))
                xy.append(np.repeat(leg[:1], steps, axis=0))
                yaw.append(np.linspace(yaw[-1][-1], heading[0], steps, endpoint=False))
        xy.append(leg)
        yaw.append(heading)
    xy, yaw = np.concatenate(xy), np.concatenate(yaw)
    step = np.linalg.norm(np.diff(xy, axis=0), axis=1)
    clock = np.concatenate([[0], np.cumsum(np.maximum(step / SPEED_MPS, abs(np.diff(yaw)) / TURN_RADPS))])
    end = clock[min(np.searchsorted(np.cumsum(step), length_m) + 1, len(clock) - 1)]
    t = np.arange(int(end * RATE_HZ)) / RATE_HZ
    x, y, yaw = (np.interp(t, clock, values) for values in (*xy.T, yaw))
    base = poses(np.stack([x, y, np.zeros_like(x)], axis=-1), np.stack([yaw, yaw * 0, yaw * 0], axis=-1))
    T_base_level = poses(np.zeros(3), np.zeros(3))         # `poses` are of cameras: the base's axes are x forward
    return base @ inverse(T_base_level) @ mount.T_base_cam


def wheel_odometry(T_world_cam: np.ndarray, mount: Mount, seed: int) -> np.ndarray:
    """(V, 4, 4) T_odom_cam as the wheels of the robot tell it, from the first base pose on, with errors that add up.

    Each step has 5 % noise; the wheels are 2 to 3 % larger or smaller than believed and not equal, which bends the way
    by up to 0.4 degrees a metre; turns are up to 2 % off, and the heading wanders by half a degree in the first metre.
    """
    rng = np.random.default_rng(seed)
    T_world_base = T_world_cam @ inverse(mount.T_base_cam)
    steps = inverse(T_world_base[:-1]) @ T_world_base[1:]
    way = np.linalg.norm(steps[:, :2, 3], axis=1)
    turn = np.arctan2(steps[:, 1, 0], steps[:, 0, 0])
    wheel = 1 + rng.choice((-1, 1)) * rng.uniform(.02, .03)
    gauge, bend = 1 + rng.uniform(-.02, .02), np.radians(rng.uniform(-.4, .4))
    xy = steps[:, :2, 3] * (wheel + rng.normal(0, .05, (len(steps), 1)))
    wander = np.radians(.5) * np.sqrt(way) * rng.normal(0, 1, len(way))
    turn = turn * (gauge + rng.normal(0, .02, len(turn))) + bend * way + wander
    heading = np.concatenate([[0], np.cumsum(turn)])
    c, s = np.cos(heading[:-1]), np.sin(heading[:-1])
    moved = np.stack([c * xy[:, 0] - s * xy[:, 1], s * xy[:, 0] + c * xy[:, 1]], axis=1)
    T_odom_base = np.tile(np.eye(4), (len(T_world_cam), 1, 1))
    T_odom_base[1:, :2, 3] = np.cumsum(moved, axis=0)
    T_odom_base[:, 0, 0] = T_odom_base[:, 1, 1] = np.cos(heading)
    T_odom_base[:, 1, 0] = np.sin(heading)
    T_odom_base[:, 0, 1] = -np.sin(heading)
    return T_odom_base @ mount.T_base_cam


def render_drive(seed: int, kind: str, length_m: float, mount: Mount, textures: str | Path | None = None,
                 meshes: str | Path | None = None, size: tuple[int, int] = SIZE, device: str = "cpu",
                 people: int = 0) -> Drive:
    """The drive of a seed through its building of a kind (rooms.KINDS); `size` is (width, height), even.

    `device` draws it, each to the same picture but for rounding. So many `people` walk about before the camera; the
    robot drives as it does without them, and each view and its truth are of the moment.
    """
    scene, bank, renderer = furnish(seed, kind, textures, meshes, samples=3, device=device, people=people)
    T_world_cam = way_of_wheels(scene, np.random.default_rng(seed), length_m, mount)
    path = CameraPath(T_world_cam, FOCAL, "drive")
    motions = walk_about(scene, path, RATE_HZ, np.random.default_rng([seed, people])) if people else None
    K = intrinsics(FOCAL * size[0], FOCAL * size[0], size[0] / 2, size[1] / 2)
    camera = Camera(path, RATE_HZ, size[0])
    images, depth, labels, instances = [], [], [], []
    for k, T in enumerate(T_world_cam):
        drawn = draw(renderer, bank, T, K, size, place(bank, motions, k) if motions else 0)
        images.append(camera.picture(k, drawn.radiance.cpu()))
        for planes, plane in ((depth, drawn.depth), (labels, drawn.label), (instances, drawn.instance)):
            planes.append(plane[0, 0, ::2, ::2].cpu().numpy())
    # Pixel 2u has its centre at 2u + 0.5, that of pixel u of the grid is at u + 0.5.
    K_truth = scale_intrinsics(crop_intrinsics(K, -.5, -.5), (2, 2), (1, 1))
    return Drive(np.stack(images), K, T_world_cam, K_truth, np.stack(depth).astype(np.float16), np.stack(labels),
                 np.stack(instances), motions.instance[0] if motions else None)


def save_drive(path: Path, drive: Drive) -> None:
    """Writes a drive, its pictures as JPEG. Raises OutputError."""
    jpegs = [cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1] for image in drive.images]
    ends = np.cumsum([len(jpeg) for jpeg in jpegs])
    rest = {name: array for name, array in vars(drive).items() if name != "images" and array is not None}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"the drive cannot be kept in {path}: {error}") from error
    write_npz(path, {"jpegs": np.concatenate(jpegs), "ends": ends, **rest}, compressed=True)


def load_drive(path: Path) -> Drive:
    """What `save_drive` wrote. Raises InputError for a file that is none of its."""
    arrays = read_npz(path)
    try:
        jpegs = np.split(arrays.pop("jpegs"), arrays.pop("ends")[:-1])
        images = np.stack([decode_compressed(jpeg) for jpeg in jpegs])
        return Drive(images=np.ascontiguousarray(images), **arrays)
    except (ValueError, KeyError, TypeError, IndexError, InputError) as error:
        raise InputError(f"the drive {path} cannot be read: {error!r}") from error
