"""A saved map, drawn: what `lsm map` and the service save_map leave in a folder."""
from __future__ import annotations

from pathlib import Path

import numpy as np

from lsm_ros.contracts import MapObject
from lsm_ros.data.outputs import read_objects, read_ply
from lsm_ros.evaluation.run import read_trajectory
from lsm_ros.geometry.camera import scale_intrinsics
from lsm_ros.labels import LabelSet, spread_color
from lsm_ros.mapping.saved_map import FILE, MapState, read_map
from lsm_ros.viewing.drawing import Boxes, Drawing, Legend

CLOUD, TRAJECTORY, OBJECTS = "cloud.ply", "trajectory.txt", "objects.json"


def is_saved_map(path: Path) -> bool:
    return (path / CLOUD).is_file()


def draw_saved_map(folder: Path, labels: LabelSet, save: Path | None = None) -> None:
    """Draws the map in `folder`; colours are those of the labels of the same names. Raises InputError, OutputError.

    Keyframes with their images and the pose graph are in map.safetensors; where that is missing, the camera is drawn
    as axes along the trajectory.
    """
    cloud, names = read_ply(folder / CLOUD)
    trajectory = read_trajectory(folder / TRAJECTORY)
    objects = read_objects(folder / OBJECTS)
    state = read_map(folder, labels) if (folder / FILE).is_file() else None
    legend = Legend(names, np.array([labels.colors[labels.names.index(name)] if name in labels.names else
                                     spread_color(i) for i, name in enumerate(names)], np.uint8).reshape(-1, 3))
    positions = np.array([T_map_cam[:3, 3] for _, T_map_cam in trajectory]).reshape(-1, 3)

    drawing = Drawing(folder.resolve().name, save)
    drawing.label(legend, static=True)
    drawing.cloud(cloud, positions, static=True)
    drawing.path(positions, static=True)
    drawing.objects(boxes_of(objects, legend), static=True)
    if state is None:
        for stamp_ns, T_map_cam in trajectory:
            drawing.at(stamp_ns)
            drawing.camera(T_map_cam)
    else:
        draw_graph(drawing, state)
    drawing.finish(cloud, positions)


def draw_graph(drawing: Drawing, state: MapState) -> None:
    """The keyframes' cameras and images, and what ties them."""
    graph = state.graph.picture()
    lines = graph.T_map_cam[graph.edges][:, :, :3, 3]
    drawing.graph(lines[~graph.loop], lines[graph.loop], static=True)
    for keyframe_id, T_map_cam in zip(graph.ids, graph.T_map_cam, strict=True):
        view = state.views[keyframe_id]
        frame = view.keyframe.frame
        size = frame.image.shape[1::-1]
        K = scale_intrinsics(view.K, view.depth.shape[::-1], size)
        drawing.keyframe(keyframe_id, T_map_cam, K, size)
        drawing.at(frame.stamp_ns)
        drawing.camera(T_map_cam)
        drawing.image(frame.image, K)


def boxes_of(objects: list[MapObject], legend: Legend) -> Boxes:
    index = {name: i for i, name in enumerate(legend.names)}
    return Boxes(np.array([item.center for item in objects]).reshape(-1, 3),
                 np.array([item.size for item in objects]).reshape(-1, 3), np.array([item.yaw for item in objects]),
                 [item.name for item in objects],
                 np.array([legend.colors[index[item.name]] if item.name in index else spread_color(item.label)
                           for item in objects], np.uint8).reshape(-1, 3))
