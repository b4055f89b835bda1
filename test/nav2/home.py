"""A rendered home to drive in: what a robot's camera sees there, and how near the robot is to touching something."""
from __future__ import annotations

import array
from dataclasses import dataclass

import numpy as np
import torch
from geometry_msgs.msg import Quaternion, Transform, TransformStamped, Vector3
from robot import RADIUS_M, Robot, in_plane
from sensor_msgs.msg import CameraInfo, Image, PointCloud2, PointField
from tf2_msgs.msg import TFMessage

from lsm_ros.geometry.camera import crop_intrinsics, intrinsics, unproject
from lsm_ros.geometry.sim3 import quaternion_from_matrix, transform
from lsm_ros.ros.conversions import header, image_message
from lsm_ros.world.drives import Mount
from lsm_ros.world.recording import Camera, draw
from lsm_ros.world.renderer import Renderer, SceneBank
from lsm_ros.world.rooms import make_scene
from lsm_ros.world.scene import CameraPath
from lsm_ros.world.space import Space
from lsm_ros.world.walks import FreeFloor

SIZE, FOCAL = (256, 192), 0.62           # width, height; focal length / width: 78 degrees
MOUNT = Mount(0.45, -0.25)
HEIGHTS_M = (0.06, 0.15, 0.3, 0.45)      # at which the body could touch something
CAMERA_FRAME, BASE_FRAME = "camera_optical_frame", "base_footprint"


@dataclass(frozen=True)
class View:
    """One picture and its truth."""
    image: np.ndarray          # (H, W, 3) uint8 RGB
    depth: np.ndarray          # (H, W) float32 metres, 0 where there is nothing


class Home:
    """The building of a seed, seen on the CPU in pictures of `size` (width, height)."""

    def __init__(self, seed: int, kind: str, size: tuple[int, int] = SIZE):
        self.scene, self.size = make_scene(seed, kind), size
        self.K = intrinsics(FOCAL * size[0], FOCAL * size[0], size[0] / 2, size[1] / 2)
        self._bank, self._renderer = SceneBank.of([self.scene], "cpu"), Renderer("cpu", samples=2)
        self._scanner = Renderer("cpu", samples=1, soft_shadows=False)        # of which depth alone is wanted
        self._camera, self._views = Camera(CameraPath(np.eye(4)[None].repeat(2, 0), FOCAL, "drive"), 4.0, size[0]), 0

    def view(self, T_world_base: np.ndarray) -> View:
        drawn = draw(self._renderer, self._bank, T_world_base @ MOUNT.T_base_cam, self.K, self.size)
        image = self._camera.picture(min(self._views, 1), drawn.radiance)
        self._views += 1
        return View(image, drawn.depth[0, 0].numpy())

    def scan(self, xy: np.ndarray) -> np.ndarray:
        """(N, 2) world: what level rays from the robot's axis at HEIGHTS_M meet, 360 about each."""
        turns = np.radians([0, 90, 180, 270])
        poses = np.stack([in_plane(xy, turn) @ Mount(height, 0.0).T_base_cam
                          for height in HEIGHTS_M for turn in turns])
        K = intrinsics(45.0, 45.0, 45.0, 0.5)
        drawn = self._scanner.render(self._bank, torch.zeros(len(poses), dtype=torch.int64),
                                     torch.tensor(poses)[:, None], torch.tensor(K).expand(len(poses), 1, 3, 3),
                                     (1, 90))
        depth = drawn.depth[:, 0].numpy()
        points = transform(poses, unproject(depth, K)[:, 0].astype(np.float64))
        return points[depth[:, 0] > 0][:, :2]

    def clearance(self, xy: np.ndarray) -> float:
        """Metres from the robot's axis to the nearest thing at its height."""
        return float(np.linalg.norm(self.scan(xy) - xy, axis=1).min())

    def way(self, least_m: float, rng: np.random.Generator) -> np.ndarray:
        """(N, 2) world points of some way between two places that is at least so long and wide enough."""
        free = FreeFloor(Space(self.scene), MOUNT.height_m)
        return next(leg for leg in free.legs(rng, 40 * least_m) if len(leg) * free.spacing_m > least_m)


def camera_info(K: np.ndarray, stamp: int) -> CameraInfo:
    """ROS calibrations have the centre of the first pixel at 0, 0."""
    k = crop_intrinsics(K, 0.5, 0.5)
    return CameraInfo(header=header(stamp, CAMERA_FRAME), width=SIZE[0], height=SIZE[1], distortion_model="plumb_bob",
                      d=[0.0] * 5, k=k.ravel(), r=np.eye(3).ravel(), p=np.eye(3, 4).ravel())


def picture_of(view: View, stamp: int) -> Image:
    return image_message(view.image, header(stamp, CAMERA_FRAME))


def edge(parent: str, child: str, T_parent_child: np.ndarray, stamp: int) -> TFMessage:
    x, y, z = T_parent_child[:3, 3].tolist()
    q = quaternion_from_matrix(T_parent_child[:3, :3]).tolist()
    return TFMessage(transforms=[TransformStamped(
        header=header(stamp, parent), child_frame_id=child,
        transform=Transform(translation=Vector3(x=x, y=y, z=z), rotation=Quaternion(x=q[0], y=q[1], z=q[2], w=q[3])))])


def mounting() -> TFMessage:
    return edge(BASE_FRAME, CAMERA_FRAME, MOUNT.T_base_cam, 0)


def motion(robot: Robot, stamp: int) -> TFMessage:
    return edge("odom", BASE_FRAME, robot.T_odom_base, stamp)


def cloud_of(points: np.ndarray, stamp: int, frame: str = CAMERA_FRAME) -> PointCloud2:
    """A cloud of points (N, 3) with its fields in an order of its own, as a stranger's might be."""
    record = np.dtype([("intensity", "<f4"), ("z", "<f4"), ("x", "<f4"), ("y", "<f4")])
    rows = np.zeros(len(points), record)
    for k, name in enumerate("xyz"):
        rows[name] = points[:, k]
    fields = [PointField(name=name, offset=record.fields[name][1], datatype=PointField.FLOAT32, count=1)
              for name in record.names]
    return PointCloud2(header=header(stamp, frame), height=1, width=len(points), fields=fields, is_bigendian=False,
                       point_step=record.itemsize, row_step=record.itemsize * len(points), is_dense=True,
                       data=array.array("B", rows.tobytes()))


def true_clouds(home: Home, view: View, stamp: int) -> dict[str, PointCloud2]:
    """What lsm_ros would publish if its network made no errors."""
    points = unproject(view.depth, home.K)[view.depth > 0]
    height = transform(MOUNT.T_base_cam, points)[:, 2]
    return {"obstacles": cloud_of(points[(height > 0.1) & (height < 1.5)], stamp),
            "ground": cloud_of(points[height <= 0.1], stamp), "free": cloud_of(points, stamp)}


def touched(home: Home, track: list[np.ndarray]) -> list[np.ndarray]:
    """The positions of a track where the footprint of RADIUS_M meets something."""
    return [xy for xy in track[::2] if home.clearance(xy) < RADIUS_M]        # every 6 cm
