"""What a keyframe costs in a small and in a large map, side by side."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from tqdm import tqdm

from lsm_ros.bench.machine import seconds
from lsm_ros.config import MapperConfig
from lsm_ros.contracts import Keyframe
from lsm_ros.evaluation.report import Line
from lsm_ros.geometry.sim3 import exp
from lsm_ros.mapping.semantic_map import SemanticMap
from lsm_ros.mapping.views import View

SIZES = (10_000, 1_000_000)          # voxels
APART_M = 30.0                       # between the views that fill a map: none touches another
STEP = np.array([.06, .02, .03, 0, .02, .01])           # motion from keyframe to keyframe: metres, radians
KEPT = 3                             # of the keyframes that are timed; older ones are forgotten, so the size stays


def map_updates(view: View, updates: int, sizes: tuple[int, ...] = SIZES, progress: bool = True) -> list[Line]:
    """A line a size: milliseconds of `fuse` and `take_changes` together for a keyframe after another, which sees what
    the ones before saw and something new. The maps take turns, so that they share whatever else the machine does."""
    config = MapperConfig()
    maps = [filled(view, size, config) for size in sizes]
    held = [len(voxels) for voxels in maps]
    times: list[list[tuple[float, float]]] = [[] for _ in maps]
    for number in tqdm(range(updates), desc="map updates", unit="update", disable=not progress):
        T_map_cam = exp(STEP * number)
        moved = replace(view, keyframe=Keyframe(number, view.keyframe.frame))
        for voxels, taken in zip(maps, times, strict=True):
            def update(voxels=voxels) -> None:
                voxels.fuse(moved, T_map_cam)
                voxels.take_changes(config.min_observations)

            taken.append(seconds(update, torch.device("cpu")))
            voxels.forget(number - KEPT)
    wall, cost = np.array(times).transpose(2, 0, 1)                      # (sizes, updates)
    return [{"voxels": held[size], "median_ms": 1e3 * float(np.median(wall[size])),
             "worst_ms": 1e3 * float(wall[size].max()),
             "against_smallest": float(np.median(cost[size] / cost[0])),
             "worst_against_worst": float(cost[size].max() / cost[0].max())} for size in range(len(sizes))]


def filled(view: View, size: int, config: MapperConfig) -> SemanticMap:
    """A map of at least `size` voxels, made of copies of the view that lie far from the origin."""
    voxels = SemanticMap(len(view.label_set), config.voxel_size_m, config.confidence_drop, config.max_depth_m)
    number = 0
    while len(voxels) < size:
        number += 1
        place = np.array([number % 16, number // 16 % 16 + 1, number // 256]) * APART_M
        voxels.fuse(replace(view, keyframe=Keyframe(-number, view.keyframe.frame)),
                    exp(np.array([*place, 0, .1 * number, 0])))
    voxels.take_changes(config.min_observations)
    return voxels
