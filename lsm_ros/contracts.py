"""What crosses from room to room. Arrays are numpy, C-contiguous; cameras are OpenCV (x right, y down, z forward).

Letters: S views, H W image pixels, h w pixels of the dense outputs, D embedding, C classes, N points.
`T_a_b` takes coordinates in frame b to frame a: p_a = T_a_b @ p_b. `S_a_b` is the same with a scale (Sim(3)).
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

MOVING = 0.5               # what is so likely to move is not taken for the world that stands still
MOST_ELONGATED = 3         # how many times an image may be as long as it is wide; the network has seen no such strips


@dataclass(frozen=True)
class Frame:
    """One image of the camera, as it came."""
    stamp_ns: int                          # the camera's own clock; passed through untouched
    image: np.ndarray                      # (H, W, 3) uint8 RGB
    K: np.ndarray | None = None            # (3, 3) float64 pixel intrinsics of `image`, or None where unknown
    T_odom_cam: np.ndarray | None = None   # (4, 4) float64 odometry of the camera at `stamp_ns`, metres, or None
    depth: np.ndarray | None = None        # (h, w) float32 measured z depth of the image, m; 0 or NaN where unknown
    up_cam: np.ndarray | None = None       # (3,) float64 unit vector up in the camera, of an IMU or a robot's model
    height_m: float | None = None          # the camera's height over the floor, where the robot's model tells it
    unseen: np.ndarray | None = None       # (H, W) bool, pixels that show nothing of the world (data/borders.py)


@dataclass(frozen=True)
class Keyframe:
    """A frame that the map keeps. `id` counts from 0 and is never used twice by one mapper, so that encoder tokens are
    kept by it."""
    id: int
    frame: Frame


@dataclass(frozen=True)
class Window:
    """1 to 8 keyframes that are seen together; the first is the reference, whose camera is the window's frame."""
    keyframes: tuple[Keyframe, ...]


@dataclass(frozen=True)
class Matches:
    """N pairs of places in two views of a window that show the same point. Places are shares of width and height."""
    a: np.ndarray               # (N,) int64, index of a view
    b: np.ndarray               # (N,) int64, of another one
    shares_a: np.ndarray        # (N, 2) float32
    shares_b: np.ndarray        # (N, 2) float32
    confidence: np.ndarray      # (N,) float32 in 0..1, probability that b shows the point there


@dataclass(frozen=True)
class WindowPrediction:
    """What the network says about a window. One entry a view, in the window's order.

    Pixel (u, v) of the dense outputs has its centre at (u + 0.5, v + 0.5) in the units of K, which belongs to the
    dense grid: point_cam = depth * inv(K) @ (u + 0.5, v + 0.5, 1).
    """
    depth: np.ndarray           # (S, h, w) float32, z depth in metres (metric scale applied)
    confidence: np.ndarray      # (S, h, w) float32 in 0..1, higher is better
    K: np.ndarray               # (S, 3, 3) float64, intrinsics of the dense grid
    T_window_cam: np.ndarray    # (S, 4, 4) float64, metres; the first is the identity
    scale: float                # metres per network unit, as predicted (already applied above)
    semantics: np.ndarray       # (S, hs, ws, D) float32 unit vectors in the label space; hs <= h
    matches: Matches | None = None        # places that two views share; None: the predictor does not match
    overlap: np.ndarray | None = None     # (S, S) float32: [a, b] is the expected share of a's points that b sees
    pose_error: np.ndarray | None = None  # (S,) float32, expected error of each pose: of the translation in
                                          # units of `scale` plus of the rotation, 1.4 times its angle in radians
    moving: np.ndarray | None = None      # (S, hs, ws) float32 in 0..1, probability that a pixel shows something that
                                          # is elsewhere in another view; None: the predictor does not tell


class Predictor(Protocol):
    """The network as the mapper sees it."""

    def __call__(self, window: Window) -> WindowPrediction: ...


@dataclass(frozen=True)
class Cloud:
    """Labelled points. Written to PointCloud2 and PLY as they are."""
    points: np.ndarray          # (N, 3) float32, metres
    colors: np.ndarray          # (N, 3) uint8 RGB
    labels: np.ndarray          # (N,) uint16, index into the label set
    confidence: np.ndarray      # (N,) uint8, 0..255

    def __len__(self) -> int:
        return len(self.points)


@dataclass(frozen=True)
class MapObject:
    """A connected set of voxels of one class. The box is upright in the map (z up): yaw about z only."""
    id: int                     # stable while the object is tracked
    label: int                  # index into the label set
    name: str
    center: np.ndarray          # (3,) float64, metres, map frame
    size: np.ndarray            # (3,) float64, full extents along the box's own axes, metres
    yaw: float                  # radians about map z
    confidence: float           # 0..1
    points: int                 # voxels


@dataclass(frozen=True)
class MetricScale:
    """How long the network's metre is in the map, and who says so."""
    scale: float                # map metres per metre as the network sees it
    sigma: float                # its error, as a log
    source: str                 # "network", "odometry", "height", "depth" or "fixed"
    samples: int                # measurements behind it; 0 where it is merely believed


@dataclass(frozen=True)
class MapUpdate:
    """What one push changed. Map frame: z up, metres; the floor is z = 0 once it is found (`level`)."""
    stamp_ns: int                               # stamp of the newest keyframe of the window
    keyframe_id: int
    T_map_cam: np.ndarray                       # (4, 4) float64, the newest keyframe's pose
    T_map_keyframes: dict[int, np.ndarray]      # keyframe id -> (4, 4): every pose that moved, the newest included
    window_cloud: Cloud                         # the newest keyframe's points in its CAMERA frame (OpenCV axes), m
    K: np.ndarray                               # (3, 3) float64, the newest keyframe's intrinsics, of the dense grid
    depth: np.ndarray                           # (h, w) float32, the newest keyframe's depth, metres
    labels: np.ndarray                          # (h, w) uint16, its labels
    confidence: np.ndarray                      # (h, w) float32 in 0..1, of its depth; 0 where nothing is seen
    still: np.ndarray                           # (h, w) bool: not what the network sees move, which the map leaves out
    scale: float                                # map metres per predicted metre of this window (1: uncorrected)
    seconds: dict[str, float]                   # stage -> seconds: "network", "alignment", "fusion", ...
    matches: int | None = None                  # that back the newest pose; 0: only predicted; None: first view
    covariance: np.ndarray | None = None        # (6, 6) of T_map_cam: position, m^2, and turn, rad^2, about map axes
    metric: MetricScale = MetricScale(1.0, 0.2, "network", 0)
    map_id: int = 0                             # another number is another map, which nothing ties to the one before
    loops: int = 0                              # places that were recognised in this map so far
    on_floor: bool = False                      # whether z = 0 is the floor; until then it is the first camera's height


def elongated(shape: tuple[int, ...]) -> bool:
    """Whether an image (H, W, ...) is a strip, which nobody maps."""
    return max(shape[:2]) > MOST_ELONGATED * min(shape[:2])
