"""What is true of a walk, and how far a map is from it: the trajectory, points and labels, objects, loops."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from scipy.spatial import cKDTree

from lsm_ros.contracts import Cloud, Frame, MapObject
from lsm_ros.evaluation.datasets import FARTHEST_M
from lsm_ros.evaluation.distances import seen_share
from lsm_ros.evaluation.metrics import Confusion, at_grid
from lsm_ros.evaluation.report import Line
from lsm_ros.geometry.alignment import align_trajectory
from lsm_ros.geometry.camera import scale_intrinsics, unproject
from lsm_ros.geometry.sim3 import inverse, rotation_angle, rotation_of, scale_of, transform
from lsm_ros.labels import LabelSet
from lsm_ros.mapping.graph import GraphPicture
from lsm_ros.mapping.limits import NEVER_FORGOTTEN
from lsm_ros.mapping.objects import upright_box
from lsm_ros.mapping.semantic_map import pack

TRUTH_M = .025                 # edge of the cells in which one true point is kept
NEAR_M = .05                   # a point of the map is right where the truth is as near as that
ASTRAY_M = .2                  # and astray where no surface that stays is as near as that
BOX_IOU = .25
TRUE_VOXELS = 30               # that an object fills at least which counts as true, whatever the map asks of its own
REVISIT_M, REVISIT_SHARE = 10.0, .3    # a place is seen again after so much way, where so much of the view is shared
LOOP_M, LOOP_DEG = .5, 15.0    # a loop edge is right where what it says is off by no more than that


@dataclass(frozen=True)
class Walk:
    """V frames in the order in which they are mapped, and what is true of them."""
    name: str
    frames: Sequence[Frame]
    T_world_cam: np.ndarray              # (V, 4, 4) float64; NaN where unknown
    K: np.ndarray                        # (3, 3) float64 pixels of the grid of `depth`
    depth: np.ndarray                    # (V, h, w) float z depth in metres, 0 or NaN where unknown
    labels: np.ndarray | None = None     # (V, h, w) index into the shipped labels, or none of them
    instances: np.ndarray | None = None  # (V, h, w), 0 for the building
    upright: bool = True                 # whether the world's z is up
    moving: np.ndarray | None = None     # (V, h, w) bool: on somebody who walks about; None: all stands still


@dataclass(frozen=True)
class TruePoints:
    """The surfaces that a walk has seen and that stay where they are, one point a cell."""
    points: np.ndarray                   # (N, 3) float32 metres, world frame
    labels: np.ndarray | None            # (N,)
    instances: np.ndarray | None         # (N,)


# ------------------------------------------------------------------------------------------------------ trajectory

def positions(T_world_cam: np.ndarray, trajectory: Iterable[tuple[int, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """(N, 3), (N, 3): estimated and true camera positions of (frame index, T_map_cam), where the truth, T_world_cam
    (V, 4, 4), is known."""
    known = [(T, T_world_cam[k]) for k, T in trajectory if np.isfinite(T_world_cam[k]).all()]
    estimated, true = np.array(known).reshape(-1, 2, 4, 4).swapaxes(0, 1)
    return estimated[:, :3, 3], true[:, :3, 3]


def score_trajectory(walk: Walk, trajectory: Sequence[tuple[int, np.ndarray]]) -> tuple[Line, np.ndarray]:
    """The figures of (frame index, T_map_cam) of the keyframes, and S_world_map (4, 4), the best Sim(3) between both.

    Uprightness is measured camera by camera, for a path in one plane says nothing of a tilt about itself.
    """
    trajectory = [(k, T) for k, T in trajectory if np.isfinite(walk.T_world_cam[k]).all()]
    estimated, true = positions(walk.T_world_cam, trajectory)
    S_world_map, ate_m = align_trajectory(estimated, true)
    _, ate_se3_m = align_trajectory(estimated, true, with_scale=False)
    R_map_cam = np.array([T[:3, :3] for _, T in trajectory])
    R_world_cam = np.array([walk.T_world_cam[k][:3, :3] for k, _ in trajectory])
    turned = rotation_of(S_world_map) @ R_map_cam
    up_cosine = np.einsum("vi,vi->v", R_map_cam[:, 2], R_world_cam[:, 2])      # both z axes as the camera has them
    way = walk.T_world_cam[np.isfinite(walk.T_world_cam).all(axis=(1, 2)), :3, 3]
    length_m = float(np.linalg.norm(np.diff(way, axis=0), axis=1).sum())
    line: Line = {"path_m": length_m, "mapped": len(trajectory),
                  "ate_m": ate_m, "ate_percent": 100 * ate_m / length_m,
                  "ate_se3_m": ate_se3_m, "ate_se3_percent": 100 * ate_se3_m / length_m,
                  "rotation_deg": float(np.degrees(np.median(rotation_angle(turned, R_world_cam)))),
                  "scale": float(1 / scale_of(S_world_map))}
    if walk.upright:
        line["upright_deg"] = float(np.degrees(np.median(np.arccos(np.clip(up_cosine, -1, 1)))))
    if walk.frames[0].T_odom_cam is not None:
        odometry = np.array([walk.frames[k].T_odom_cam[:3, 3] for k, _ in trajectory])
        line["odometry_ate_m"] = align_trajectory(odometry, true, with_scale=False)[1]
    return line, S_world_map


# ------------------------------------------------------------------------------------------------------------- map

def true_points(walk: Walk, farthest_m: float) -> TruePoints:
    """The surfaces that stay and that the cameras of a walk saw within `farthest_m`, thinned to a point in each
    TRUTH_M."""
    farthest_m = min(farthest_m, FARTHEST_M)
    layers = [layer for layer in (walk.labels, walk.instances) if layer is not None]
    keys, found = np.empty(0, np.int64), [np.empty((0, 3), np.float32), *(np.empty(0, layer.dtype) for layer in layers)]
    for chunk in np.array_split(np.arange(len(walk.depth)), max(1, len(walk.depth) // 32)):
        depth = walk.depth[chunk].astype(np.float32)
        points = transform(walk.T_world_cam[chunk], unproject(depth, walk.K).reshape(len(chunk), -1, 3))
        known = np.isfinite(walk.T_world_cam[chunk]).all(axis=(1, 2))
        good = (depth > 0) & (depth <= farthest_m) & known[:, None, None]
        if walk.moving is not None:
            good &= ~walk.moving[chunk]
        points = points.reshape(-1, 3)[good.ravel()]
        keys = np.concatenate([keys, pack(np.floor(points / TRUTH_M).astype(np.int64))])
        found = [np.concatenate([known, new]) for known, new in
                 zip(found, (points, *(layer[chunk][good] for layer in layers)), strict=True)]
        keys, first = np.unique(keys, return_index=True)
        found = [values[first] for values in found]
    points, *rest = found
    return TruePoints(points, *(rest.pop(0) if layer is not None else None for layer in (walk.labels, walk.instances)))


def score_cloud(cloud: Cloud, S_world_map: np.ndarray, truth: TruePoints, labels: LabelSet) -> Line:
    """How near the map is to the truth and the truth to the map, and whether its labels are those of the places."""
    if not len(cloud):
        return {"points": 0}
    points = transform(S_world_map, cloud.points.astype(np.float64))
    gaps, nearest = cKDTree(truth.points).query(points, workers=-1)
    back, _ = cKDTree(points).query(truth.points, workers=-1)
    line: Line = {"points": len(cloud), "accuracy": float((gaps < NEAR_M).mean()),
                  "accuracy_m": float(np.median(gaps)), "completeness": float((back < NEAR_M).mean()),
                  "completeness_m": float(np.median(back)), "astray": float((gaps > ASTRAY_M).mean())}
    if truth.labels is not None:
        true = truth.labels[nearest]
        confusion = Confusion(len(labels))
        confusion.add(cloud.labels, true)
        line |= {"label_accuracy": confusion.accuracy, "miou": confusion.miou}
        if "person" in labels.names:
            line["person_points"] = int((cloud.labels == labels.index("person")).sum())
        floor = cloud.points[true == labels.index("floor"), 2] if "floor" in labels.names else ()
        if len(floor):
            low, middle, high = np.percentile(floor, (10, 50, 90))
            line |= {"floor_m": float(middle), "floor_spread_m": float(high - low) / 2}
    return line


def score_ghosts(cloud: Cloud, S_world_map: np.ndarray, walk: Walk, truth: TruePoints, farthest_m: float) -> Line:
    """What the people who walk about in a walk left in its map: `ghosts`, the points that are astray and lie within
    ASTRAY_M of where one of them was seen. `in_view` is the share of frames that show somebody."""
    people = true_points(replace(walk, moving=~walk.moving), farthest_m)
    points = transform(S_world_map, cloud.points.astype(np.float64))
    stays, passed = (np.isfinite(cKDTree(seen.points).query(points, distance_upper_bound=ASTRAY_M, workers=-1)[0])
                     if len(seen.points) and len(points) else np.zeros(len(points), bool) for seen in (truth, people))
    return {"ghosts": int((passed & ~stays).sum()), "in_view": float(walk.moving.any(axis=(1, 2)).mean())}


# --------------------------------------------------------------------------------------------------------- objects

@dataclass(frozen=True)
class Box:
    """An upright box of a class in the world frame."""
    label: int
    center: np.ndarray         # (3,) metres
    size: np.ndarray           # (3,) full extents along its own axes, metres
    yaw: float                 # radians about z


def true_boxes(truth: TruePoints, labels: LabelSet, voxel_size_m: float) -> list[Box]:
    """The boxes about what was seen of each countable object, of those that fill TRUE_VOXELS."""
    boxes = []
    for instance in np.unique(truth.instances[truth.instances > 0]):
        mine = np.flatnonzero(truth.instances == instance)
        counts = np.bincount(truth.labels[mine], minlength=len(labels))[:len(labels)]      # a bed's pillow is one too
        if not counts.any():                     # none of the classes that were asked for
            continue
        label = int(counts.argmax())
        voxels = np.unique(pack(np.floor(truth.points[mine] / voxel_size_m).astype(np.int64)))
        if labels.things[label] and len(voxels) >= TRUE_VOXELS:
            boxes.append(Box(label, *upright_box(truth.points[mine], trim=0)))     # the truth has no strays
    return boxes


def score_objects(objects: Sequence[MapObject], S_world_map: np.ndarray, truth: TruePoints, labels: LabelSet,
                  voxel_size_m: float) -> Line:
    """Precision and recall of the map's objects at a 3-D overlap of BOX_IOU with a true object of the same class.

    A true object that is thinner than a voxel, such as a picture, counts neither way, and nor does one object of its
    class that is found there, its centre within half of the true box's diagonal: a share of a volume that no voxel
    resolves says nothing.
    """
    R, s = rotation_of(S_world_map), float(scale_of(S_world_map))
    turn = float(np.arctan2(R[1, 0], R[0, 0]))
    found = [Box(thing.label, transform(S_world_map, thing.center[None])[0], s * thing.size, thing.yaw + turn)
             for thing in objects]
    boxes = true_boxes(truth, labels, voxel_size_m)
    flat = [box for box in boxes if box.size.min() < voxel_size_m]
    true = [box for box in boxes if box.size.min() >= voxel_size_m]
    right = paired(found, true, lambda a, b: overlap(a, b) - BOX_IOU)
    rest = [box for i, box in enumerate(found) if i not in right]
    left_out = paired(rest, flat, lambda a, b: np.linalg.norm(b.size) / 2 - np.linalg.norm(a.center - b.center))
    counted = len(found) - len(left_out)
    return {"objects": counted, "objects_true": len(true),
            "object_precision": len(right) / counted if counted else None,
            "object_recall": len(right) / len(true) if true else None}


def paired(found: Sequence[Box], true: Sequence[Box], fits: Callable[[Box, Box], float]) -> dict[int, int]:
    """Indices of found boxes -> those of true ones of the same class, each in one pair, the best `fits` first; below 0
    two do not fit."""
    pairs = sorted(((float(fits(a, b)), i, j) for i, a in enumerate(found) for j, b in enumerate(true)
                    if a.label == b.label), reverse=True)
    partner = {}
    for fit, i, j in pairs:
        if fit >= 0 and i not in partner and j not in partner.values():
            partner[i] = j
    return partner


def overlap(a: Box, b: Box) -> float:
    """Intersection over union of two upright boxes."""
    low = np.maximum(a.center[2] - a.size[2] / 2, b.center[2] - b.size[2] / 2)
    high = np.minimum(a.center[2] + a.size[2] / 2, b.center[2] + b.size[2] / 2)
    # OpenCV's polygons are float32: about their own middle the coordinates keep their digits.
    plans = [((box.center[:2] - a.center[:2]).tolist(), box.size[:2].tolist(), float(np.degrees(box.yaw)))
             for box in (a, b)]
    kind, polygon = cv2.rotatedRectangleIntersection(*plans)
    if high <= low or kind == cv2.INTERSECT_NONE:
        return 0.0
    shared = cv2.contourArea(cv2.convexHull(polygon)) * float(high - low)
    return shared / (float(np.prod(a.size) + np.prod(b.size)) - shared)


# ----------------------------------------------------------------------------------------------------------- loops

class FoundLoops:
    """The loops of a map as they were found: a bounded map forgets keyframes, and their loops with them."""

    def __init__(self):
        self.frames: dict[int, int] = {}                       # keyframe id -> frame
        self.T_i_j: dict[tuple[int, int], np.ndarray] = {}     # frames -> (4, 4), as long as the map holds it
        self._handed_on: set[tuple[int, int]] = set()          # others
        self._held: set[int] = set()                           # keyframes in the map

    def look(self, keyframe_id: int, frame: int, picture: GraphPicture) -> None:
        """To be called with each new keyframe. Loops between older ones that turn up as others are forgotten were
        handed on by these; loops that the map believed late turn up without that."""
        self.frames[keyframe_id] = frame
        held = set(picture.ids)
        forgot, self._held = not self._held <= held, held
        oldest = len(picture.ids) - NEVER_FORGOTTEN if forgot else 0
        for (i, j), T_i_j in zip(picture.edges[picture.loop], picture.T_i_j[picture.loop], strict=True):
            ends = self.frames[picture.ids[i]], self.frames[picture.ids[j]]
            if ends not in self.T_i_j and max(i, j) < oldest:
                self._handed_on.add(ends)
            if ends not in self._handed_on:
                self.T_i_j[ends] = T_i_j


def score_loops(walk: Walk, loops: Mapping[tuple[int, int], np.ndarray], frames: Iterable[int],
                metre: float = 1.0) -> Line:
    """Precision and recall of `loops`, T_i_j (4, 4) of two frames each; `frames` are those that were mapped, in order.

    An edge is right by the pose between its ends that it tells, whatever the map makes of it; the map has `metre` of
    its own metres to a true one, which is scored elsewhere. A keyframe is revisiting where one from REVISIT_M of way
    before sees REVISIT_SHARE of its view, and recalled if it has a right loop to an earlier one. What has no true pose
    counts for nothing.
    """
    known = np.isfinite(walk.T_world_cam).all(axis=(1, 2))
    loops = {ends: T_i_j for ends, T_i_j in loops.items() if known[list(ends)].all()}
    frames = [frame for frame in frames if known[frame]]
    T_true, depth = walk.T_world_cam[frames], walk.depth[frames]
    way = np.zeros(len(known))
    steps = np.linalg.norm(np.diff(walk.T_world_cam[known, :3, 3], axis=0), axis=1)
    way[known] = np.concatenate([[0], np.cumsum(steps)])
    way = way[frames]
    looped: list[tuple[int, int]] = []
    for (i, j), T_i_j in loops.items():
        told = T_i_j.copy()
        told[:3, 3] /= metre
        error = inverse(inverse(walk.T_world_cam[i]) @ walk.T_world_cam[j]) @ told
        turn_deg = np.degrees(rotation_angle(error[:3, :3], np.eye(3)))
        if np.linalg.norm(error[:3, 3]) < LOOP_M and turn_deg < LOOP_DEG:
            looped.append((i, j))
    recalled = {max(ends) for ends in looped}
    revisiting = []
    for k in range(len(frames)):
        gaps = np.linalg.norm(T_true[:k, :3, 3] - T_true[k, :3, 3], axis=1)
        facing = T_true[:k, :3, 2] @ T_true[k, :3, 2]
        old = np.flatnonzero((way[:k] < way[k] - REVISIT_M) & (gaps < 4.0) & (facing > .3))
        if len(old) and max(shared(depth, walk.K, T_true, k, old)) > REVISIT_SHARE:
            revisiting.append(frames[k])
    return {"loops": len(loops), "loop_precision": len(looped) / len(loops) if loops else None,
            "revisits": len(revisiting),
            "loop_recall": float(np.mean([k in recalled for k in revisiting])) if revisiting else None}


def shared(depth: np.ndarray, K: np.ndarray, T_world_cam: np.ndarray, a: int, others: Sequence[int]) -> list[float]:
    """The share of view a's pixels that each of `others` sees, of depth (V, h, w)."""
    plane = np.where(depth[a] > 0, depth[a], np.nan).astype(np.float32)
    rows, columns = plane.shape[0] // 4, plane.shape[1] // 4
    points = unproject(at_grid(plane, rows, columns), scale_intrinsics(K, plane.shape[::-1], (columns, rows)))
    points = points.reshape(-1, 3)
    points = points[np.isfinite(points).all(axis=1)].astype(np.float64)
    return [seen_share(points, inverse(T_world_cam[b]) @ T_world_cam[a], np.where(depth[b] > 0, depth[b], np.nan), K)
            for b in others]
