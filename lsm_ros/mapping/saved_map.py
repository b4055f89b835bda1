"""A map in one file, from which mapping goes on: keyframes with what was predicted of them, and the pose graph.

The file is safetensors, tensors and a header of JSON, so that reading it runs nothing. Its arrays, for N keyframes with
images of H x W pixels and dense outputs of h x w and hs x ws, E edges, Q travels:

    ids, stamps_ns (N,) int64 · S_map_cam (N, 4, 4) · K_image, K (N, 3, 3) · image_bytes (total,) uint8, JPEG after
    JPEG, image_ends (N,) · depth (N, h, w) float16, in the keyframe's unit · confidence (N, h, w) float16 (in files of
    before uint8, 255 times as much) · semantics (N, hs, ws, D) int8 · averaged (N,) · places (N, P), zeros where
    unknown, or empty · T_odom_cam (N, 4, 4), NaN where unknown · stances (N, 8): up (3), its sigma, height, its sigma,
    height in metres, its sigma; NaN where there is none · height_m (N,), as the frame itself knew it, NaN where it was
    told by `camera_height_m` or not at all (older files lack it) · edge_ends (E, 2) ids, edge_S (E, 4, 4),
    edge_sigma (E, 7), edge_loop (E,) · travel_ends (Q, 2), travel_T (Q, 4, 4), travel_sigma (Q, 6)

and its header: format, version, metric, grounded, image_shape (of the camera's images), labels (their names).
"""
from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from lsm_ros.contracts import Frame, Keyframe
from lsm_ros.data.images import decode_compressed
from lsm_ros.errors import InputError, OutputError
from lsm_ros.geometry.camera import check_intrinsics
from lsm_ros.labels import LabelSet
from lsm_ros.mapping.graph import Edge, PoseGraph, Stance, Travel
from lsm_ros.mapping.ground import SEEN_UP_SIGMA
from lsm_ros.mapping.views import View

FILE = "map.safetensors"
FORMAT, VERSION = "lsm_ros map", 1
QUALITY = 92               # of the JPEG images
FARTHEST_M = 1e5           # of a keyframe from the origin

# Arrays whose items have a fixed shape.
LAYOUT = {"ids": ("int64", ()), "stamps_ns": ("int64", ()), "S_map_cam": ("float64", (4, 4)), "K": ("float64", (3, 3)),
          "K_image": ("float64", (3, 3)), "image_bytes": ("uint8", ()), "image_ends": ("int64", ()),
          "averaged": ("int64", ()), "T_odom_cam": ("float64", (4, 4)), "stances": ("float64", (8,)),
          "height_m": ("float64", ()),
          "edge_ends": ("int64", (2,)), "edge_S": ("float64", (4, 4)), "edge_sigma": ("float64", (7,)),
          "edge_loop": ("uint8", ()), "travel_ends": ("int64", (2,)), "travel_T": ("float64", (4, 4)),
          "travel_sigma": ("float64", (6,))}


@dataclass(frozen=True)
class MapState:
    """All that a mapper knows of one map, but its voxels, which follow from it."""
    graph: PoseGraph
    views: dict[int, View]
    places: list[tuple[int, np.ndarray]]       # keyframe id, vector
    image_shape: tuple[int, ...]

    def numbered_from(self, first: int) -> MapState:
        """The same with other keyframe ids, so that it meets no keyframe that the process has seen already."""
        new = {i: first + n for n, i in enumerate(self.graph.ids)}
        graph = PoseGraph()
        graph.metric, graph.grounded = self.graph.metric, self.graph.grounded
        for i, number in new.items():
            graph.add(number, self.graph.pose(i), self.graph.stance(i))
        graph.connect(replace(tie, i=new[tie.i], j=new[tie.j]) for tie in (*self.graph.edges, *self.graph.travels))
        views = {new[i]: replace(view, keyframe=replace(view.keyframe, id=new[i])) for i, view in self.views.items()}
        return MapState(graph, views, [(new[i], vector) for i, vector in self.places], self.image_shape)


def write_map(path: Path, state: MapState) -> None:
    """Raises OutputError where the file cannot be written."""
    graph, ids = state.graph, state.graph.ids
    views = [state.views[i] for i in ids]
    frames = [view.keyframe.frame for view in views]
    jpegs = [cv2.imencode(".jpg", frame.image[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, QUALITY))[1] for frame in frames]
    unknown = np.full((4, 4), np.nan)
    vectors = dict(state.places)
    unknown_place = np.zeros_like(next(iter(vectors.values()), np.empty(0)))      # of those mapped without `loops`
    stances = [graph.stance(i) for i in ids]
    edges, travels = graph.edges, graph.travels
    arrays = {
        "ids": np.array(ids, np.int64), "stamps_ns": np.array([frame.stamp_ns for frame in frames], np.int64),
        "S_map_cam": graph.poses(), "K": np.stack([view.K for view in views]),
        "K_image": np.stack([np.full((3, 3), np.nan) if frame.K is None else frame.K for frame in frames]),
        "image_bytes": np.concatenate([jpeg.ravel() for jpeg in jpegs]),
        "image_ends": np.cumsum([jpeg.size for jpeg in jpegs]).astype(np.int64),
        "depth": np.stack([view.depth for view in views]).astype(np.float16),
        # What moved is gone by the time that a map is loaded. Not in bytes: of much that is right, things above all,
        # the network is less than a thousandth sure, and 0 would mean that nothing is seen there.
        "confidence": np.stack([(view.confidence * view.still).astype(np.float16) for view in views]),
        "semantics": np.stack([view.semantics for view in views]),
        "averaged": np.array([view.averaged for view in views], np.int64),
        "places": np.stack([vectors.get(i, unknown_place) for i in ids]).astype(np.float32) if vectors
        else np.empty((0, 0), np.float32),
        "T_odom_cam": np.stack([unknown if frame.T_odom_cam is None else frame.T_odom_cam for frame in frames]),
        "stances": np.array([np.full(8, np.nan) if stance is None else
                             [*stance.up_cam, stance.up_sigma, stance.height, stance.height_sigma, stance.height_m,
                              stance.height_m_sigma] for stance in stances]),
        "height_m": np.array([np.nan if frame.height_m is None else frame.height_m for frame in frames], np.float64),
        "edge_ends": np.array([(edge.i, edge.j) for edge in edges], np.int64).reshape(-1, 2),
        "edge_S": np.array([edge.S_i_j for edge in edges]).reshape(-1, 4, 4),
        "edge_sigma": np.array([edge.sigma for edge in edges]).reshape(-1, 7),
        "edge_loop": np.array([edge.loop for edge in edges], np.uint8),
        "travel_ends": np.array([(travel.i, travel.j) for travel in travels], np.int64).reshape(-1, 2),
        "travel_T": np.array([travel.T_i_j for travel in travels]).reshape(-1, 4, 4),
        "travel_sigma": np.array([travel.sigma for travel in travels]).reshape(-1, 6),
    }
    header = {"format": FORMAT, "version": VERSION, "metric": graph.metric, "grounded": graph.grounded,
              "image_shape": list(state.image_shape), "labels": list(views[0].label_set.names)}
    try:
        # save_file makes a file that is its owner's alone; `save` would hold all of the map in memory once more.
        path.touch()
        mode = path.stat().st_mode
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path,
                  metadata={"map": json.dumps(header)})
        path.chmod(mode)
    except (OSError, SafetensorError) as error:     # a full disk, among others
        raise OutputError(f"the map can't be written into {path}: {error}") from error


def read_map(path: str | Path, labels: LabelSet) -> MapState:
    """The map in a file, or in the folder that holds it. Raises InputError for one that is none, naming what is off."""
    path = Path(path)
    try:
        path = path / FILE if path.is_dir() else path
        with safe_open(path, framework="numpy") as file:
            header = json.loads((file.metadata() or {}).get("map", "{}"))
            if not isinstance(header, dict):
                raise InputError(f"{path} has a header that is a {type(header).__name__}")
            if header.get("format") != FORMAT or header.get("version") != VERSION:
                raise InputError(f"{path} is no {FORMAT} of version {VERSION}, but "
                                 f"{header.get('format')!r} {header.get('version')!r}")
            arrays = {name: file.get_tensor(name) for name in file.keys()}
        return _state(header, arrays, labels)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, IndexError, OverflowError, RecursionError,
            MemoryError, cv2.error, InputError) as error:
        raise InputError(f"the map {path} cannot be read: {error}") from error


def _state(header: dict, arrays: dict[str, np.ndarray], labels: LabelSet) -> MapState:
    """Raises InputError, ValueError, KeyError ... for arrays that do not belong together."""
    ids = [int(i) for i in arrays["ids"]]
    count = len(ids)
    if not count or len(set(ids)) != count:
        raise InputError(f"a map of {count} keyframes, {len(set(ids))} of them distinct")
    if "height_m" not in arrays:       # of before: whatever was told of a camera counts as known by its frame
        arrays["height_m"] = np.where(np.isfinite(arrays["stances"][:, 7]), arrays["stances"][:, 6], np.nan)
    for name in ("stamps_ns", "S_map_cam", "K", "K_image", "image_ends", "depth", "confidence", "semantics", "averaged",
                 "T_odom_cam", "stances", "height_m"):
        if len(arrays[name]) != count:
            raise InputError(f"{name} of {len(arrays[name])} keyframes in a map of {count}")
    for name, (kind, shape) in LAYOUT.items():
        if arrays[name].dtype != kind or arrays[name].shape[1:] != shape:
            raise InputError(f"{name} of a map is {arrays[name].dtype} {arrays[name].shape}; it must be {kind} of "
                             f"{shape} each")
    for name in ("S_map_cam", "K", "depth", "places", "edge_S", "edge_sigma", "travel_T", "travel_sigma"):
        if not np.isfinite(arrays[name]).all():
            raise InputError(f"{name} of a map holds numbers that are not finite")
    if arrays["confidence"].dtype == np.uint8:
        arrays["confidence"] = (arrays["confidence"] / 255).astype(np.float16)
    for name, kind, sides in (("depth", "float16", 3), ("confidence", "float16", 3), ("semantics", "int8", 4)):
        if arrays[name].dtype != kind or arrays[name].ndim != sides or not arrays[name].size:
            raise InputError(f"{name} of a map is {arrays[name].dtype} {arrays[name].shape}")
    if (arrays["depth"] <= 0).any():
        raise InputError(f"a map with a depth of {arrays['depth'].min():g}")
    if not ((arrays["confidence"] >= 0) & (arrays["confidence"] <= 1)).all():
        raise InputError("confidence of a map holds what is no share")
    if arrays["confidence"].shape != arrays["depth"].shape:
        raise InputError(f"confidence of shape {arrays['confidence'].shape}, depth of {arrays['depth'].shape}")
    known_odometry = ~np.isnan(arrays["T_odom_cam"]).any(axis=(1, 2))
    _check_poses("T_odom_cam", arrays["T_odom_cam"][known_odometry], np.inf)      # it may count from the equator
    for name in ("S_map_cam", "edge_S", "travel_T"):
        _check_poses(name, arrays[name])
    _check_stances(arrays["stances"][~np.isnan(arrays["stances"][:, 3])])
    heights_m = arrays["height_m"][~np.isnan(arrays["height_m"])]
    if not ((heights_m > 0) & np.isfinite(heights_m)).all():
        raise InputError(f"height_m of a map holds {heights_m.min():g}")
    for name in ("edge_sigma", "travel_sigma"):
        if (arrays[name] <= 0).any():
            raise InputError(f"{name} of a map holds {arrays[name].min():g}")
    if not 0 < header["metric"] < np.inf:
        raise InputError(f"a map whose metre is {header['metric']}")
    dimensions = labels.embeddings.shape[1]
    if arrays["semantics"].shape[3] != dimensions:
        raise InputError(f"semantics of shape {arrays['semantics'].shape}; this network's have {dimensions} components")

    graph = PoseGraph()
    graph.metric, graph.grounded = float(header["metric"]), bool(header["grounded"])
    views: dict[int, View] = {}
    starts, shapes = np.concatenate([[0], arrays["image_ends"][:-1]]), set()
    for n, keyframe_id in enumerate(ids):
        try:
            image = decode_compressed(arrays["image_bytes"][starts[n]:arrays["image_ends"][n]])
        except InputError as error:
            raise InputError(f"the image of keyframe {keyframe_id} cannot be decoded: {error}") from error
        for K in (arrays["K"][n], *([] if np.isnan(arrays["K_image"][n]).any() else [arrays["K_image"][n]])):
            check_intrinsics(K)
        shapes.add(image.shape)
        depth = arrays["depth"][n].astype(np.float32)
        stance = arrays["stances"][n]
        up_cam = stance[:3].copy() if stance[3] < SEEN_UP_SIGMA else None      # an IMU's or the robot's model's
        height_m = None if np.isnan(arrays["height_m"][n]) else float(arrays["height_m"][n])
        frame = Frame(int(arrays["stamps_ns"][n]), image, _known(arrays["K_image"][n]), _known(arrays["T_odom_cam"][n]),
                      up_cam=up_cam, height_m=height_m)
        views[keyframe_id] = View(
            Keyframe(keyframe_id, frame), depth, arrays["confidence"][n].astype(np.float32), arrays["K"][n],
            arrays["semantics"][n], cv2.resize(frame.image, depth.shape[::-1], interpolation=cv2.INTER_AREA), labels,
            int(arrays["averaged"][n]))
        graph.add(keyframe_id, arrays["S_map_cam"][n],
                  None if np.isnan(stance[3]) else Stance(stance[:3].copy(), *map(float, stance[3:])))
    if len(shapes) > 1:
        raise InputError(f"a map with images of the shapes {sorted(shapes)}")
    known = set(ids)
    for name in ("edge_ends", "travel_ends"):
        if not set(arrays[name].ravel().tolist()) <= known:
            raise InputError(f"{name} of a map names keyframes that it does not hold")
    graph.connect(Edge(int(i), int(j), S, sigma, bool(loop)) for (i, j), S, sigma, loop in zip(
        arrays["edge_ends"], arrays["edge_S"], arrays["edge_sigma"], arrays["edge_loop"], strict=True))
    graph.connect(Travel(int(i), int(j), T, sigma) for (i, j), T, sigma in zip(
        arrays["travel_ends"], arrays["travel_T"], arrays["travel_sigma"], strict=True))
    places = list(zip(ids, arrays["places"], strict=True)) if len(arrays["places"]) else []
    places = [(i, vector) for i, vector in places if vector.any()]
    height, width, channels = (int(side) for side in header["image_shape"])
    return MapState(graph, views, places, (height, width, channels))


def _check_poses(name: str, poses: np.ndarray, farthest_m: float = FARTHEST_M) -> None:
    """(N, 4, 4). Raises InputError for what is no Sim(3) of a place that a robot comes to."""
    R = poses[:, :3, :3]
    scale = np.cbrt(np.linalg.det(R))
    good = (scale > 1e-6) & (scale < 1e6) & (np.abs(poses[:, :3, 3]).max(axis=1) < farthest_m)
    with np.errstate(all="ignore"):
        crooked = np.abs(R @ np.swapaxes(R, 1, 2) / scale[:, None, None] ** 2 - np.eye(3)).max(axis=(1, 2))
    good &= (crooked < 1e-3) & (poses[:, 3] == (0, 0, 0, 1)).all(axis=1)
    if not good.all():
        raise InputError(f"{name} of a map holds what is no pose: {poses[np.argmin(good)].tolist()}")


def _check_stances(stances: np.ndarray) -> None:
    """(N, 8). Raises InputError for numbers that no camera stands by; an infinite sigma says that nothing is known."""
    told, sigma = stances[:, (2, 4, 6)], stances[:, (3, 5, 7)]
    good = (sigma > 0) & (np.isfinite(told) | np.isinf(sigma))
    if not good.all() or not np.allclose(np.linalg.norm(stances[:, :3], axis=1), 1, atol=1e-3):
        raise InputError("stances of a map hold what is none")


def _known(matrix: np.ndarray) -> np.ndarray | None:
    return None if np.isnan(matrix).any() else matrix
