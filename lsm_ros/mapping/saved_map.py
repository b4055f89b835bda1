"""A map in one file, from which mapping goes on: keyframes with what was predicted of them, and the pose graph.

The file is safetensors, tensors and a header of JSON, so that reading it runs nothing. Its arrays, for N keyframes with
images of H x W pixels and dense outputs of h x w and hs x ws, E edges, Q travels:

    ids, stamps_ns (N,) int64 · S_map_cam (N, 4, 4) · K_image, K (N, 3, 3) · image_bytes (total,) uint8, JPEG after
    JPEG, image_ends (N,) · depth (N, h, w) float16, in the keyframe's unit · confidence (N, h, w) uint8 · semantics
    (N, hs, ws, D) int8 · averaged (N,) · places (N, P), or empty · T_odom_cam (N, 4, 4), NaN where unknown · stances
    (N, 8): up (3), its sigma, height, its sigma, height in metres, its sigma; NaN where there is none · edge_ends
    (E, 2) ids, edge_S (E, 4, 4), edge_sigma (E, 7), edge_loop (E,) · travel_ends (Q, 2), travel_T (Q, 4, 4),
    travel_sigma (Q, 6)

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
from lsm_ros.errors import InputError
from lsm_ros.labels import LabelSet
from lsm_ros.mapping.graph import Edge, PoseGraph, Stance, Travel
from lsm_ros.mapping.views import View

FILE = "map.safetensors"
FORMAT, VERSION = "lsm_ros map", 1
QUALITY = 92               # of the JPEG images


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
    """Raises OSError where the file cannot be written."""
    graph, ids = state.graph, state.graph.ids
    views = [state.views[i] for i in ids]
    frames = [view.keyframe.frame for view in views]
    jpegs = [cv2.imencode(".jpg", frame.image[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, QUALITY))[1] for frame in frames]
    unknown = np.full((4, 4), np.nan)
    vectors = dict(state.places)
    stances = [graph.stance(i) for i in ids]
    edges, travels = graph.edges, graph.travels
    arrays = {
        "ids": np.array(ids, np.int64), "stamps_ns": np.array([frame.stamp_ns for frame in frames], np.int64),
        "S_map_cam": graph.poses(), "K": np.stack([view.K for view in views]),
        "K_image": np.stack([np.full((3, 3), np.nan) if frame.K is None else frame.K for frame in frames]),
        "image_bytes": np.concatenate([jpeg.ravel() for jpeg in jpegs]),
        "image_ends": np.cumsum([jpeg.size for jpeg in jpegs]).astype(np.int64),
        "depth": np.stack([view.depth for view in views]).astype(np.float16),
        "confidence": np.rint(255 * np.stack([view.confidence for view in views])).clip(0, 255).astype(np.uint8),
        "semantics": np.stack([view.semantics for view in views]),
        "averaged": np.array([view.averaged for view in views], np.int64),
        "places": np.stack([vectors[i] for i in ids]).astype(np.float32) if vectors else np.empty((0, 0), np.float32),
        "T_odom_cam": np.stack([unknown if frame.T_odom_cam is None else frame.T_odom_cam for frame in frames]),
        "stances": np.array([np.full(8, np.nan) if stance is None else
                             [*stance.up_cam, stance.up_sigma, stance.height, stance.height_sigma, stance.height_m,
                              stance.height_m_sigma] for stance in stances]),
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
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path,
              metadata={"map": json.dumps(header)})


def read_map(path: str | Path, labels: LabelSet) -> MapState:
    """The map in a file, or in the folder that holds it. Raises InputError for one that is none, naming what is off."""
    path = Path(path)
    try:
        path = path / FILE if path.is_dir() else path
        with safe_open(path, framework="numpy") as file:
            header = json.loads((file.metadata() or {}).get("map", "{}"))
            if header.get("format") != FORMAT or header.get("version") != VERSION:
                raise InputError(f"{path} is no {FORMAT} of version {VERSION}, but "
                                 f"{header.get('format')!r} {header.get('version')!r}")
            arrays = {name: file.get_tensor(name) for name in file.keys()}
        return _state(header, arrays, labels)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, IndexError, cv2.error) as error:
        raise InputError(f"the map {path} cannot be read: {error}") from error


def _state(header: dict, arrays: dict[str, np.ndarray], labels: LabelSet) -> MapState:
    """Raises InputError, ValueError, KeyError ... for arrays that do not belong together."""
    ids = [int(i) for i in arrays["ids"]]
    count = len(ids)
    if not count or len(set(ids)) != count:
        raise InputError(f"a map of {count} keyframes, {len(set(ids))} of them distinct")
    for name in ("stamps_ns", "S_map_cam", "K", "K_image", "image_ends", "depth", "confidence", "semantics", "averaged",
                 "T_odom_cam", "stances"):
        if len(arrays[name]) != count:
            raise InputError(f"{name} of {len(arrays[name])} keyframes in a map of {count}")
    for name in ("S_map_cam", "K", "depth", "places", "edge_S", "edge_sigma", "travel_T", "travel_sigma"):
        if not np.isfinite(arrays[name]).all():
            raise InputError(f"{name} of a map holds numbers that are not finite")
    if (arrays["depth"] <= 0).any():
        raise InputError(f"a map with a depth of {arrays['depth'].min():g}")
    dimensions = labels.embeddings.shape[1]
    if arrays["semantics"].ndim != 4 or arrays["semantics"].shape[3] != dimensions:
        raise InputError(f"semantics of shape {arrays['semantics'].shape}; this network's have {dimensions} components")

    graph = PoseGraph()
    graph.metric, graph.grounded = float(header["metric"]), bool(header["grounded"])
    views: dict[int, View] = {}
    starts = np.concatenate([[0], arrays["image_ends"][:-1]])
    for n, keyframe_id in enumerate(ids):
        image = cv2.imdecode(arrays["image_bytes"][starts[n]:arrays["image_ends"][n]], cv2.IMREAD_COLOR)
        if image is None:
            raise InputError(f"the image of keyframe {keyframe_id} cannot be decoded")
        depth = arrays["depth"][n].astype(np.float32)
        frame = Frame(int(arrays["stamps_ns"][n]), np.ascontiguousarray(image[..., ::-1]), _known(arrays["K_image"][n]),
                      _known(arrays["T_odom_cam"][n]))
        views[keyframe_id] = View(
            Keyframe(keyframe_id, frame), depth, arrays["confidence"][n].astype(np.float32) / 255, arrays["K"][n],
            arrays["semantics"][n], cv2.resize(frame.image, depth.shape[::-1], interpolation=cv2.INTER_AREA), labels,
            int(arrays["averaged"][n]))
        stance = arrays["stances"][n]
        graph.add(keyframe_id, arrays["S_map_cam"][n],
                  None if np.isnan(stance[3]) else Stance(stance[:3].copy(), *map(float, stance[3:])))
    known = set(ids)
    for name in ("edge_ends", "travel_ends"):
        if not set(arrays[name].ravel().tolist()) <= known:
            raise InputError(f"{name} of a map names keyframes that it does not hold")
    graph.connect(Edge(int(i), int(j), S, sigma, bool(loop)) for (i, j), S, sigma, loop in zip(
        arrays["edge_ends"], arrays["edge_S"], arrays["edge_sigma"], arrays["edge_loop"], strict=True))
    graph.connect(Travel(int(i), int(j), T, sigma) for (i, j), T, sigma in zip(
        arrays["travel_ends"], arrays["travel_T"], arrays["travel_sigma"], strict=True))
    places = list(zip(ids, arrays["places"], strict=True)) if len(arrays["places"]) else []
    return MapState(graph, views, places, tuple(int(side) for side in header["image_shape"]))


def _known(matrix: np.ndarray) -> np.ndarray | None:
    return None if np.isnan(matrix).any() else matrix
