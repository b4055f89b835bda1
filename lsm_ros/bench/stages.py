"""The rest of the chain: what each stage of mapping costs beside the network."""
from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from tqdm import tqdm

from lsm_ros.contracts import Frame
from lsm_ros.errors import InputError
from lsm_ros.evaluation.report import Line
from lsm_ros.mapping.mapper import Mapper
from lsm_ros.model.engine import NetworkPredictor

NAMES = {"decoding": "decoding an image", "frame": "judging a frame that makes no keyframe",
         "keyframe": "judging one that does", "network": "network", "window": "choosing the window",
         "refinement": "refinement by matches", "alignment": "alignment with the map", "graph": "pose graph",
         "update": "cloud of the newest view", "fusion": "fusion into voxels",
         "changes": "cloud of the changed voxels", "cloud": "cloud of the whole map", "objects": "objects"}


def read_frames(source: str | Path, most: int | None = None) -> tuple[list[Frame], list[float]]:
    """The frames of a recording and the seconds that each took to be read and decoded. Raises InputError."""
    from lsm_ros.data.sequences import open_sequence  # needs rosbags, which a machine that trains need not have
    frames, times, start = [], [], time.perf_counter()
    for item in islice(open_sequence(source), most):
        times.append(time.perf_counter() - start)
        frames.append(item.frame)
        start = time.perf_counter()
    if not frames:
        raise InputError(f"{source} holds no images")
    return frames, times


def stages(predictor: NetworkPredictor, frames: Sequence[Frame], decoding: Sequence[float],
           progress: bool = True) -> list[Line]:
    """A line a stage, over the windows of `frames` mapped as the node does. Raises InputError where nothing is mapped.

    The network's includes the vector by which a place is recognised.
    """
    predictor.reset()
    mapper = Mapper(predictor, predictor.labels, describe=predictor.describe)
    times: dict[str, list[float]] = {"decoding": list(decoding)}

    def add(stage: str, seconds: float) -> None:
        times.setdefault(stage, []).append(seconds)

    for frame in tqdm(frames, desc="stages", unit="frame", disable=not progress):
        start, before = time.perf_counter(), mapper.counters.keyframes
        update = mapper.push(frame)
        if mapper.counters.keyframes == before:
            add("frame", time.perf_counter() - start)
        if update is None:
            continue
        for stage, seconds in update.seconds.items():
            add(stage, seconds)
        for stage, call in (("changes", mapper.take_changes), ("cloud", mapper.map_cloud), ("objects", mapper.objects)):
            start = time.perf_counter()
            call()
            add(stage, time.perf_counter() - start)
    if "network" not in times:
        raise InputError(f"nothing of the {len(frames)} frames could be mapped: {mapper.last_refusal}")
    network = np.median(times["network"])
    return [{"stage": stage, "ms": 1e3 * float(np.median(times[stage])), "worst_ms": 1e3 * float(np.max(times[stage])),
              "of_network": float(np.median(times[stage]) / network), "times": len(times[stage])}
             for stage in NAMES if stage in times]
