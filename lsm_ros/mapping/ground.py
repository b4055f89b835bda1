"""Which way is up and where the floor is, from what the network calls floor, ceiling and wall, and from the robot."""
from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import cv2
import numpy as np

from lsm_ros.contracts import Frame
from lsm_ros.geometry.sim3 import STRAIGHT, UP_CV, rotation_of, scale_of, sim3, upright
from lsm_ros.labels import LabelSet
from lsm_ros.mapping.graph import PoseGraph, Stance
from lsm_ros.mapping.views import View

GATES_DEG = (45.0, 25.0, 12.0)     # how far a normal may be from what it should be, round by round
PRIOR = 0.02                       # weight of the level first camera beside all pixels: decides where they are silent
FLAT = ("floor", "rug", "ceiling")
STEEP = ("wall", "door", "window", "wardrobe", "refrigerator")
FLOOR = ("floor", "rug")
MOST_VIEWS = 64            # of a map that are asked which way is up: more take longer and know no better
MIN_FLOOR = 0.02           # share of a view's pixels that must show the floor to say something about it
FLOOR_GATE_DEG = 15.0      # how far the normal of a floor pixel may be from what is up so far
MEASURED_UP_SIGMA = np.radians(1.5)     # of an IMU at rest in the mean, or of a robot on a floor that is flat
SEEN_UP_SIGMA = np.radians(3.0)         # of the normals of one view's floor
HEIGHT_SIGMA = 0.05        # of the camera's height over the floor that it sees, as a share
MOUNT_SIGMA = np.radians(0.7)           # of the up that was measured, the same in every image: TF's, or an IMU's mount
HEIGHT_M_SIGMA = 0.02      # m, of the height that the robot's model tells
STEEP_LOOK = 0.9           # cosine of up and the camera's axis; beyond, its image's top edge tells its heading
MAX_SPREAD = 0.15          # of the heights of a floor's pixels, as a share: more is no floor


def find_up(views: Iterable[View], R_first_cam: Iterable[np.ndarray], labels: LabelSet,
            level_up_cam: np.ndarray = UP_CV) -> np.ndarray:
    """(3,) unit vector up in the first camera (OpenCV axes), from views whose cameras R_first_cam (3, 3) turns into it.

    Up is along the normals of flat classes and across those of steep ones: the least eigenvector of their scatter,
    found in rounds that leave out normals that do not fit. A level first camera, in which up is `level_up_cam`
    (3,), is the weak prior and the start.
    """
    flat, steep, pixels = [np.empty((0, 3))], [np.empty((0, 3))], 0
    classes = {name: n for n, name in enumerate(labels.names)}
    flat_classes = [classes[name] for name in FLAT if name in classes]
    steep_classes = [classes[name] for name in STEEP if name in classes]
    for view, R in zip(views, R_first_cam, strict=True):
        normals = surface_normals(view.points) @ rotation_of(R).T
        label, good = view.labels, view.reliable(0.25)
        flat.append(normals[good & np.isin(label, flat_classes)])
        steep.append(normals[good & np.isin(label, steep_classes)])
        pixels += label.size
    flat, steep = np.concatenate(flat), np.concatenate(steep)

    up = level_up_cam
    for gate in np.radians(GATES_DEG):
        along = flat[np.abs(flat @ up) > np.cos(gate)]
        across = steep[np.abs(steep @ up) < np.sin(gate)]
        scatter = (across.T @ across - along.T @ along) / pixels - PRIOR * np.outer(level_up_cam, level_up_cam)
        up = np.linalg.eigh(scatter)[1][:, 0]
        up = up * np.sign(up @ level_up_cam)
    return up


def stand_upright(graph: PoseGraph, views: dict[int, View], labels: LabelSet, camera_height_m: float = 0.0,
                  level_up_cam: np.ndarray = UP_CV) -> None:
    """Turns a map upright, by what was measured or by what its views call floors and walls, and puts the floor that
    they see, or stand on, to z = 0. Its oldest keyframe keeps its x, y and heading: it need not be the first one, which
    may be forgotten. Keyframes get their stances in that: in a large map MOST_VIEWS of them, from its oldest to its
    newest; the others keep those that they had. `camera_height_m` is for those that had none, `level_up_cam` for
    `find_up`."""
    ids = graph.ids
    asked = ids[::-(-len(ids) // MOST_VIEWS)]
    R, stays = rotation_of(graph.poses(asked)), graph.poses()[0, :3, 3]
    R_first_cam = R[0].T @ R
    told = [(turn, views[i].keyframe.frame.up_cam) for i, turn in zip(asked, R_first_cam, strict=True)]
    measured = [turn @ up_cam for turn, up_cam in told if up_cam is not None]
    up = np.mean(measured, axis=0) if measured else find_up([views[i] for i in asked], R_first_cam, labels,
                                                                   level_up_cam)
    # Of a camera that looks down or up, both by the same side of it: else the map turns by a quarter at once.
    straight = STEEP_LOOK if min(abs(R[0][2, 2]), abs(up[2])) > STEEP_LOOK else STRAIGHT
    heading = R[0] @ upright(R[0][2], straight).T
    turn = heading @ upright(up, straight) @ R[0].T
    graph.move(sim3(turn, stays - turn @ stays))
    for keyframe_id in asked:
        before = graph.stance(keyframe_id)             # in a map that was loaded another robot's height, maybe
        height_m = camera_height_m if before is None else before.height_m if np.isfinite(before.height_m) else 0.0
        graph.stand(keyframe_id, find_stance(views[keyframe_id], graph.pose(keyframe_id), labels, height_m))
    floors = []
    for keyframe_id, S_map_cam in zip(ids, graph.poses(), strict=True):
        stance = graph.stance(keyframe_id)
        if stance is None:
            continue
        seen = float(scale_of(S_map_cam)) * stance.height
        height = stance.height_m if np.isfinite(stance.height_m) else seen
        floors += [S_map_cam[2, 3] - height] if np.isfinite(height) else []
    if floors:
        graph.move(sim3(np.eye(3), np.array([0.0, 0.0, -np.median(floors)])))
    graph.grounded = bool(floors)


def find_stance(view: View, S_map_cam: np.ndarray, labels: LabelSet, camera_height_m: float = 0.0) -> Stance:
    """How the camera of a view, at S_map_cam (4, 4) in a map that is more or less upright, stands over the floor.

    What the frame was told of itself, by an IMU or the robot's model, goes before what is seen. `camera_height_m` is
    for frames that do not know theirs; 0: nobody does.
    """
    frame = view.keyframe.frame
    measured_up = frame.up_cam is not None
    up_cam = frame.up_cam if measured_up else rotation_of(S_map_cam)[2]
    points = view.points
    normals = surface_normals(points)
    level = np.abs(normals @ up_cam) > np.cos(np.radians(FLOOR_GATE_DEG))
    floor = floor_pixels(view, points, level, up_cam, labels)
    up_sigma = MEASURED_UP_SIGMA if measured_up else np.inf
    height = height_sigma = np.inf
    if np.count_nonzero(floor) >= MIN_FLOOR * floor.size:
        # At the foot of a wall normals lean: by little, but who looks up from near the floor sees a flat strip of it.
        inner = floor & (cv2.erode(level.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0)
        if not measured_up and inner.any():
            up_cam, up_sigma = mean_direction(normals[inner], up_cam), SEEN_UP_SIGMA
        heights = -(points[floor] @ up_cam)
        middle = float(np.median(heights))
        if middle > 0 and np.median(np.abs(heights - middle)) < MAX_SPREAD * middle:
            height, height_sigma = middle, HEIGHT_SIGMA * middle
            if measured_up:            # a floor that lies at a distance rises or falls by as much when up leans
                away = np.median(points[floor] + heights[:, None] * up_cam, axis=0)
                height_sigma = float(np.hypot(height_sigma, MOUNT_SIGMA * np.linalg.norm(away)))
    return with_height(Stance(up_cam, float(up_sigma), height, height_sigma, np.inf, np.inf), frame, camera_height_m)


def mount_sigma(stance: Stance) -> float:
    """The part of the error of the height over the floor that is seen, as a share, that MOUNT_SIGMA makes: no number of
    images makes it less."""
    return float(np.sqrt(max((stance.height_sigma / stance.height) ** 2 - HEIGHT_SIGMA ** 2, 0.0)))


def with_height(stance: Stance, frame: Frame, camera_height_m: float) -> Stance:
    """With the height that the frame knows of its camera, or else `camera_height_m`; 0: nobody knows it."""
    height_m = frame.height_m or camera_height_m
    return replace(stance, height_m=height_m or np.inf, height_m_sigma=HEIGHT_M_SIGMA if height_m else np.inf)


def correct_heights(graph: PoseGraph, views: dict[int, View], wrong_m: float, camera_height_m: float) -> bool:
    """Another height is told of cameras whose frames do not know theirs, and counts from the first keyframe on; returns
    whether it changes any stance. Those of whom something else than `wrong_m` was told are another robot's."""
    changed = False
    for keyframe_id, view in views.items():
        before = graph.stance(keyframe_id)
        if before is not None and before.height_m == (wrong_m or np.inf):
            stance = with_height(before, view.keyframe.frame, camera_height_m)
            if stance.height_m != before.height_m:
                graph.stand(keyframe_id, stance)
                changed = True
    return changed


def floor_pixels(view: View, points: np.ndarray, level: np.ndarray, up_cam: np.ndarray, labels: LabelSet) -> np.ndarray:
    """(h, w) bool: reliable pixels that are called floor, are `level` (h, w) bool, and lie below the camera by its
    points (h, w, 3)."""
    classes = [n for n, name in enumerate(labels.names) if name in FLOOR]
    return np.isin(view.labels, classes) & view.reliable(0.25) & level & (points @ up_cam < 0)


def mean_direction(normals: np.ndarray, toward: np.ndarray) -> np.ndarray:
    """(3,) unit vector: the main direction of normals (N, 3) of either sign, on the side of `toward`."""
    main = np.linalg.eigh(normals.T @ normals)[1][:, -1]
    return main * np.sign(main @ toward)


def surface_normals(points: np.ndarray) -> np.ndarray:
    """(h, w, 3) unit normals of a grid of points, from central differences; either side, NaN-free."""
    planes = np.moveaxis(points, 2, 0).astype(np.float64)            # numpy is slow with rows of three
    (x, y, z), (u, v, w) = np.gradient(planes, axis=2), np.gradient(planes, axis=1)
    normals = np.stack([y * w - z * v, z * u - x * w, x * v - y * u], axis=2)
    return normals / np.maximum(np.sqrt(np.einsum("hwk,hwk->hw", normals, normals)), 1e-12)[..., None]
