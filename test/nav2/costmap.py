"""A small costmap that reads PointCloud2 as Nav2's voxel layer does (nav2_costmap_2d, Jazzy), for robots in tests.

As there: x, y and z alone are read, wherever the message puts them; the origin of the cloud's frame is the sensor, and
TF at the cloud's stamp takes both into the global frame; a source drops what is outside of its heights there, before
it clears or marks; all clearing comes before all marking; and the newest cloud of a source is used until the next one.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sensor_msgs.msg import PointCloud2, PointField
from tf2_msgs.msg import TFMessage

from lsm_ros.geometry.sim3 import inverse, matrix_from_quaternion, sim3, transform
from lsm_ros.ros.conversions import stamp_ns


class Tf:
    """Frames as /tf and /tf_static tell them; a moving one is known at the stamps that were sent, and not between."""

    def __init__(self):
        self._edges: dict[str, tuple[str, dict[int | None, np.ndarray]]] = {}      # child -> parent, stamp -> pose

    def hear(self, message: TFMessage, static: bool = False) -> None:
        for edge in message.transforms:
            t, q = edge.transform.translation, edge.transform.rotation
            T = sim3(matrix_from_quaternion(np.array([q.x, q.y, q.z, q.w])), np.array([t.x, t.y, t.z]))
            _, poses = self._edges.setdefault(edge.child_frame_id, (edge.header.frame_id, {}))
            poses[None if static else stamp_ns(edge.header.stamp)] = T

    def lookup(self, target: str, source: str, stamp: int) -> np.ndarray:
        """T_target_source (4, 4). Raises LookupError naming what is unknown."""
        return inverse(self._from_root(target, stamp)) @ self._from_root(source, stamp)

    def _from_root(self, frame: str, stamp: int) -> np.ndarray:
        T_root_frame = np.eye(4)
        while frame in self._edges:
            parent, poses = self._edges[frame]
            if None not in poses and stamp not in poses:
                raise LookupError(f"{parent} -> {frame} is not known at {stamp} ns")
            T_root_frame = poses.get(stamp, poses.get(None)) @ T_root_frame
            frame = parent
        return T_root_frame


@dataclass(frozen=True)
class Source:
    """One of a layer's observation_sources, under the names of Nav2's parameters. Metres."""
    topic: str
    marking: bool
    clearing: bool
    min_obstacle_height: float
    max_obstacle_height: float
    obstacle_max_range: float
    raytrace_max_range: float

    @classmethod
    def of(cls, layer: dict[str, Any]) -> dict[str, Source]:
        """The sources of a layer's parameters, by name."""
        return {name: cls(**{key: layer[name][key] for key in cls.__dataclass_fields__})
                for name in layer["observation_sources"].split()}


@dataclass(frozen=True)
class Observation:
    """A cloud in the global frame."""
    origin: np.ndarray         # (3,) metres
    points: np.ndarray         # (N, 3) float64
    source: Source


class Costmap:
    """Columns of voxels about the robot; a column with a marked voxel is an obstacle.

    Args:
        layer: the parameters of the voxel layer, as in config/nav2/voxel_layer.yaml.
        size_m, resolution_m: of the square window, which rolls with the robot.
    """

    def __init__(self, tf: Tf, layer: dict[str, Any], size_m: float, resolution_m: float, global_frame: str = "odom"):
        self.tf, self.sources, self.global_frame = tf, Source.of(layer), global_frame
        self.resolution_m, self.origin_z, self.z_resolution = resolution_m, layer["origin_z"], layer["z_resolution"]
        cells = round(size_m / resolution_m)
        self.marked = np.zeros((cells, cells, layer["z_voxels"]), bool)       # x, y, z
        self.corner = np.array([-(cells // 2), -(cells // 2)])                 # of the window, in cells
        self._newest: dict[str, Observation] = {}

    def hear(self, name: str, message: PointCloud2) -> None:
        """A cloud of the source of that name. Raises LookupError where TF doesn't know its frame at its stamp."""
        source = self.sources[name]
        T_global_cloud = self.tf.lookup(self.global_frame, message.header.frame_id, stamp_ns(message.header.stamp))
        points = transform(T_global_cloud, xyz(message).astype(np.float64))
        with np.errstate(invalid="ignore"):
            kept = (points[:, 2] >= source.min_obstacle_height) & (points[:, 2] <= source.max_obstacle_height)
        self._newest[name] = Observation(T_global_cloud[:3, 3], points[kept], source)

    def update(self, robot_xy: np.ndarray) -> None:
        """One cycle of Nav2 with the robot at (2,), global frame: rolls the window, clears, marks."""
        self._roll(np.floor(robot_xy / self.resolution_m).astype(int) - np.array(self.marked.shape[:2]) // 2)
        for observation in self._newest.values():
            if observation.source.clearing:
                self._clear(observation)
        for observation in self._newest.values():
            if observation.source.marking:
                distance = np.linalg.norm(observation.points - observation.origin, axis=1)
                x, y, z = self._voxels(observation.points[distance < observation.source.obstacle_max_range])
                self.marked[x, y, z] = True

    @property
    def obstacles(self) -> np.ndarray:
        """(X, Y) bool: the cells that Nav2 calls lethal."""
        return self.marked.any(axis=2)

    def cell(self, xy: np.ndarray) -> np.ndarray:
        """(..., 2) points of the global frame -> cells of `obstacles`, which may lie outside of it."""
        return np.floor(np.asarray(xy) / self.resolution_m).astype(int) - self.corner

    def place(self, cell: np.ndarray) -> np.ndarray:
        """(..., 2) cells -> their middles in the global frame."""
        return (np.asarray(cell) + self.corner + 0.5) * self.resolution_m

    def _roll(self, corner: np.ndarray) -> None:
        """Moves the window; what leaves it is forgotten."""
        shift, size = corner - self.corner, np.array(self.marked.shape[:2])
        rolled = np.zeros_like(self.marked)
        if (abs(shift) < size).all():
            low, high = np.maximum(shift, 0), np.minimum(size + shift, size)
            (x0, y0), (x1, y1) = low - shift, high - shift
            rolled[x0:x1, y0:y1] = self.marked[low[0]:high[0], low[1]:high[1]]
        self.marked, self.corner = rolled, corner

    def _clear(self, observation: Observation) -> None:
        """Frees what the rays go through, up to two cells before their ends and as far as the source may."""
        origin, points = observation.origin, observation.points
        top = self.origin_z + self.marked.shape[2] * self.z_resolution
        if not len(points) or not self.origin_z <= origin[2] < top:        # Nav2 clears nothing for such a sensor
            return
        way = points - origin
        length = np.linalg.norm(way, axis=1)
        reach = np.minimum(length - 2 * self.resolution_m, observation.source.raytrace_max_range)
        steps = np.arange(0, max(reach.max(), 0.0), self.resolution_m / 2)
        for part in np.array_split(np.arange(len(points)), max(1, len(points) // 2000)):      # bounds the memory
            on_ray = origin + steps[None, :, None] * (way[part] / length[part, None])[:, None]
            x, y, z = self._voxels(on_ray[steps[None] < reach[part, None]])
            self.marked[x, y, z] = False

    def _voxels(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Indices of the voxels of points (N, 3) in the window; what is below the grid belongs to its lowest."""
        x, y = self.cell(points[:, :2]).T
        z = np.maximum(np.floor((points[:, 2] - self.origin_z) / self.z_resolution).astype(int), 0)
        size = self.marked.shape
        inside = (x >= 0) & (x < size[0]) & (y >= 0) & (y < size[1]) & (z < size[2])
        return x[inside], y[inside], z[inside]


def xyz(message: PointCloud2) -> np.ndarray:
    """(N, 3) float32 of any cloud with fields x, y, z of FLOAT32, as sensor_msgs' iterators read them."""
    offsets = {}
    for field in message.fields:
        if field.name in ("x", "y", "z"):
            assert field.datatype == PointField.FLOAT32, f"{field.name} has the type {field.datatype}"
            offsets[field.name] = field.offset
    order = ">" if message.is_bigendian else "<"
    record = np.dtype({"names": ["x", "y", "z"], "formats": [f"{order}f4"] * 3,
                       "offsets": [offsets[name] for name in "xyz"], "itemsize": message.point_step})
    points = np.frombuffer(message.data, record, message.width * message.height)
    return np.stack([points[name] for name in "xyz"], axis=1).astype(np.float32)
