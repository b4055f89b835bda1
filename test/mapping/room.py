"""A furnished box of a room with known geometry, and a network that sees it as badly as a test wants."""
from __future__ import annotations

from functools import lru_cache
from itertools import permutations

import cv2
import numpy as np

from lsm_ros.contracts import Frame, Keyframe, Matches, Window, WindowPrediction
from lsm_ros.geometry.camera import intrinsics, project, scale_intrinsics
from lsm_ros.geometry.sim3 import R_ROS_CV, exp_so3, inverse, sim3, transform
from lsm_ros.labels import LabelSet

SIZE, DENSE, SEMANTIC = (160, 120), (64, 48), (32, 24)          # (width, height)
K = intrinsics(120.0, 120.0, 80.0, 60.0)
ROOM = (np.array([-3.0, -2.5, 0.0]), np.array([3.0, 2.5, 2.6]))
FURNITURE = (("table", (1.2, 0.8, 0.0), (2.2, 1.8, 0.8)), ("sofa", (-2.9, -1.2, 0.0), (-2.1, 0.8, 0.9)),
             ("cabinet", (0.0, -2.4, 0.0), (1.0, -1.9, 1.8)), ("box", (-1.2, 1.6, 0.0), (-0.6, 2.2, 0.6)))


def pixel_centres(height: int, width: int) -> np.ndarray:
    """(height, width, 2) float64: (u + 0.5, v + 0.5)."""
    u, v = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    return np.stack([u, v], axis=-1)


def camera(x: float, y: float, z: float, heading: float, pitch: float = 0.0, roll: float = 0.0) -> np.ndarray:
    """T_room_cam (4, 4) of a camera that looks along `heading` (radians about z), tipped down by `pitch`."""
    turn = exp_so3(np.array([0, 0, heading])) @ exp_so3(np.array([0, pitch, 0])) @ exp_so3(np.array([roll, 0, 0]))
    return sim3(turn @ R_ROS_CV, np.array([x, y, z]))


def walk(count: int, turns: float = 1.0, pitch: float = 0.15) -> list[np.ndarray]:
    """An oval walk about the room, looking ahead and inwards."""
    angles = np.linspace(0, 2 * np.pi * turns, count)
    return [camera(1.3 * np.cos(a), 1.0 * np.sin(a), 1.3 + 0.1 * np.sin(3 * a), a + np.pi * 0.8, pitch) for a in angles]


def cast(T_room_cam: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Depth (h, w), class names (h, w) and points in the room (h, w, 3) of one view."""
    return _cast(T_room_cam.tobytes(), size)


@lru_cache(maxsize=1000)
def _cast(pose: bytes, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    T_room_cam = np.frombuffer(pose).reshape(4, 4)
    pixels = pixel_centres(size[1], size[0])
    K_inverse = np.linalg.inv(scale_intrinsics(K, SIZE, size))
    rays_cam = np.concatenate([pixels, np.ones((*pixels.shape[:2], 1))], axis=2) @ K_inverse.T
    rays, origin = rays_cam @ T_room_cam[:3, :3].T, T_room_cam[:3, 3]
    with np.errstate(divide="ignore", invalid="ignore"):
        leave = np.maximum((ROOM[0] - origin) / rays, (ROOM[1] - origin) / rays)
        depth, axis = leave.min(axis=2), leave.argmin(axis=2)
        names = np.where(axis < 2, "wall", np.where(rays[..., 2] < 0, "floor", "ceiling")).astype("<U8")
        for name, low, high in FURNITURE:
            near, far = (np.array(low) - origin) / rays, (np.array(high) - origin) / rays
            enter, exit_ = np.minimum(near, far).max(axis=2), np.maximum(near, far).min(axis=2)
            hit = (enter < exit_) & (enter > 0) & (enter < depth)
            depth, names = np.where(hit, enter, depth), np.where(hit, name, names)
    return depth.astype(np.float32), names, origin + depth[..., None] * rays


def paint(points: np.ndarray) -> np.ndarray:
    """A colour for every point: blobs of some 20 cm, so that there are corners to track."""
    cells = np.floor(points / 0.2 + 1e-4).astype(np.int64)
    value = (cells @ np.array([73856093, 19349663, 83492791])) % 997
    return np.stack([value * k % 200 + 40 for k in (1, 3, 7)], axis=-1).astype(np.uint8)


def frames(poses: list[np.ndarray], with_K: bool = True) -> list[Frame]:
    """What the camera records, at 10 Hz."""
    return [Frame(stamp_ns=n * 100_000_000, image=paint(cast(T, SIZE)[2]), K=K if with_K else None)
            for n, T in enumerate(poses)]


def smooth(coarse: np.ndarray, how: int = cv2.INTER_CUBIC) -> np.ndarray:
    """(S, rows, columns) random numbers -> (S, h, w): errors of a network hang together."""
    return np.stack([cv2.resize(c.astype(np.float32), DENSE, interpolation=how) for c in coarse])


class FakeNetwork:
    """Truth with errors: of each window's scale, of its poses, of depth, and a share of wild depths with confidence.

    `nonsense` are numbers of calls whose window is garbage: random poses, random depth. With `matches` it says which
    places of its views show the same point, and is right. `moving` is what it says moves.
    """

    def __init__(self, poses: list[np.ndarray], labels: LabelSet, *, scale: float = 0.1, depth: float = 0.02,
                 pose: float = 0.01, outliers: float = 0.2, nonsense: tuple[int, ...] = (), seed: int = 0,
                 matches: bool = False, moving: str | None = None):
        self._poses, self._labels = poses, labels
        self._scale, self._depth, self._pose, self._outliers, self._nonsense = scale, depth, pose, outliers, nonsense
        self._rng, self._matches, self._moving = np.random.default_rng(seed), matches, moving
        self._bias = 1.0           # of all windows' scale: how long a metre of the network is
        self.calls: list[Window] = []

    def describe(self, keyframe: Keyframe) -> np.ndarray:
        """Alike for cameras that are within half a metre and 30 degrees (random Fourier features of the pose)."""
        T = self._poses[keyframe.frame.stamp_ns // 100_000_000]
        phase = np.random.default_rng(0).normal(size=(256, 6)) @ np.concatenate([1.5 * T[:3, 3], 1.5 * T[:3, 2]])
        return np.concatenate([np.cos(phase), np.sin(phase)]) / 16

    def __call__(self, window: Window) -> WindowPrediction:
        rng, S = self._rng, len(window.keyframes)
        T_room_cam = np.stack([self._poses[k.frame.stamp_ns // 100_000_000] for k in window.keyframes])
        T = inverse(T_room_cam[0]) @ T_room_cam
        depth = np.stack([cast(T_room, DENSE)[0] for T_room in T_room_cam])
        depth *= np.exp(self._depth * (rng.normal(size=(S, 1, 1)) + smooth(rng.normal(size=(S, 6, 8)))))
        wild = smooth(rng.random((S, 12, 16)) < self._outliers, cv2.INTER_NEAREST) > 0
        depth[wild] *= np.exp(smooth(rng.normal(size=(S, 12, 16)), cv2.INTER_NEAREST)[wild])
        factor = self._bias * np.exp(self._scale * rng.normal())
        if len(self.calls) in self._nonsense:
            T = sim3(exp_so3(rng.normal(size=(S, 3)) * 2), rng.normal(size=(S, 3)) * 2)
            depth = rng.uniform(0.3, 6.0, depth.shape)
        else:
            noise = rng.normal(size=(S, 6)) * self._pose
            T = sim3(T[:, :3, :3] @ exp_so3(noise[:, 3:]), T[:, :3, 3] * (1 + 5 * noise[:, :1]) + noise[:, :3])
        T[:, :3, 3] *= factor
        T[0] = np.eye(4)
        self.calls.append(window)
        names = np.stack([cast(T_room, SEMANTIC)[1] for T_room in T_room_cam])
        semantics = np.zeros((*names.shape, self._labels.embeddings.shape[1]), np.float32)
        for name in np.unique(names):
            semantics[names == name] = self._labels.embeddings[self._labels.index(name)]
        matches, overlap = self._match(T_room_cam) if self._matches else (None, None)
        return WindowPrediction(depth=(depth * factor).astype(np.float32),
                                confidence=np.where(wild, 0.6, rng.uniform(0.5, 1.0, depth.shape)).astype(np.float32),
                                K=np.stack([scale_intrinsics(K, SIZE, DENSE)] * S), T_window_cam=T, scale=float(factor),
                                semantics=semantics, matches=matches, overlap=overlap,
                                moving=None if self._moving is None else (names == self._moving).astype(np.float32))

    def _match(self, T_room_cam: np.ndarray) -> tuple[Matches, np.ndarray]:
        """Points on a grid of every view, in each of the others that sees them, and the share (S, S) of them that it
        sees."""
        K_dense, found, overlap = scale_intrinsics(K, SIZE, DENSE), [], np.eye(len(T_room_cam), dtype=np.float32)
        for a, b in permutations(range(len(T_room_cam)), 2):
            points = cast(T_room_cam[a], DENSE)[2][1::2, 1::2].reshape(-1, 3)
            start = pixel_centres(DENSE[1], DENSE[0])[1::2, 1::2].reshape(-1, 2)
            pixels, z = project(transform(inverse(T_room_cam[b]), points), K_dense)
            inside = (z > 0) & (pixels >= 0).all(axis=1) & (pixels < DENSE).all(axis=1)
            column, row = np.where(inside[:, None], pixels, 0).astype(int).T
            inside &= np.abs(cast(T_room_cam[b], DENSE)[0][row, column] / z - 1) < 0.02
            n, overlap[a, b] = int(inside.sum()), inside.mean()
            found.append((np.full(n, a), np.full(n, b), start[inside] / DENSE, pixels[inside] / DENSE, np.full(n, 0.9)))
        none = [(*(np.empty(0, int),) * 2, *(np.empty((0, 2)),) * 2, np.empty(0))]
        return Matches(*(np.concatenate(part) for part in zip(*found or none))), overlap
