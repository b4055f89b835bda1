"""What a map of bounded memory forgets."""
from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from lsm_ros.config import MapperConfig

NEVER_FORGOTTEN = 16       # newest keyframes: the next windows need them
FORGOTTEN_SHARE = 0.05     # of max_keyframes that are forgotten at once, so that it is not done with every keyframe
TURN_M = 2.0               # a turn of a radian shows as much else as so much way does in a room
REDUNDANT_M = 0.5          # a keyframe that is as near to another, turns counted in, shows little else


def beyond_limits(ids: list[int], S_map_cam: np.ndarray, config: MapperConfig) -> set[int]:
    """The keyframes, of `ids` in their order at (N, 4, 4), that go: too far from the newest, or one too many."""
    if len(ids) <= NEVER_FORGOTTEN:
        return set()
    positions = S_map_cam[:, :3, 3]
    distance = np.linalg.norm(positions - positions[-1], axis=1)
    settled = np.arange(len(ids) - NEVER_FORGOTTEN)
    gone = set(settled[distance[settled] > config.map_radius_m].tolist()) if config.map_radius_m else set()
    if len(ids) - len(gone) > config.max_keyframes:
        excess = len(ids) - config.max_keyframes + int(FORGOTTEN_SHARE * config.max_keyframes)
        order = settled if config.forget == "oldest" else settled[np.argsort(-distance[settled], kind="stable")]
        if config.forget == "redundant":
            order = np.concatenate([redundant(S_map_cam, len(settled), excess), order])
        for n in order.tolist():
            if len(gone) < excess:
                gone.add(n)
    return {ids[n] for n in gone}


def redundant(S_map_cam: np.ndarray, settled: int, count: int) -> np.ndarray:
    """(n,) int, up to `count` of the first `settled` keyframes, S_map_cam (N, 4, 4): of the two that are nearest to
    each other the older one, again and again. What it saw, the other sees, and no place is left without a view."""
    axes = S_map_cam[:, :3, 2] / np.linalg.norm(S_map_cam[:, :3, 2], axis=1, keepdims=True)
    places = np.hstack([S_map_cam[:, :3, 3], TURN_M * axes])
    pairs = cKDTree(places).query_pairs(REDUNDANT_M, output_type="ndarray")              # (P, 2), the older one first
    pairs = pairs[pairs[:, 0] < settled]
    gaps = np.linalg.norm(places[pairs[:, 0]] - places[pairs[:, 1]], axis=1)
    gone: dict[int, None] = {}
    for older, newer in pairs[np.lexsort((*pairs.T[::-1], gaps))].tolist():
        if len(gone) == count:
            break
        if older not in gone and newer not in gone:
            gone[older] = None
    return np.array(list(gone), int)
