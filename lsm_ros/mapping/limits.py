"""What a map of bounded memory forgets."""
from __future__ import annotations

import numpy as np

from lsm_ros.config import MapperConfig

NEVER_FORGOTTEN = 16       # newest keyframes: the next windows need them
FORGOTTEN_SHARE = 0.05     # of max_keyframes that are forgotten at once, so that it is not done with every keyframe


def beyond_limits(ids: list[int], positions: np.ndarray, config: MapperConfig) -> set[int]:
    """The keyframes, of `ids` in their order at (N, 3), that go: too far from the newest, or one too many."""
    if len(ids) <= NEVER_FORGOTTEN:
        return set()
    distance = np.linalg.norm(positions - positions[-1], axis=1)
    settled = np.arange(len(ids) - NEVER_FORGOTTEN)
    gone = set(settled[distance[settled] > config.map_radius_m].tolist()) if config.map_radius_m else set()
    if len(ids) - len(gone) > config.max_keyframes:
        first = settled if config.forget == "oldest" else settled[np.argsort(-distance[settled], kind="stable")]
        excess = len(ids) - config.max_keyframes + int(FORGOTTEN_SHARE * config.max_keyframes)
        gone |= set(first[:excess].tolist())
    return {ids[n] for n in gone}
