"""The processes that make worlds without stopping: scenes with camera paths, in parcels, for a bank to draw from.

Free of torch: a worker starts in a moment and stays small.
"""
from __future__ import annotations

import os
import queue
import signal
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count, islice
from multiprocessing import get_context

import numpy as np

from lsm_ros.errors import InputError, LsmError
from lsm_ros.world.cameras import camera_path
from lsm_ros.world.materials import TextureCatalogue
from lsm_ros.world.packing import PackedScenes, pack
from lsm_ros.world.rooms import make_scene

PARCEL = 8            # scenes that travel together
PATHS = 8             # camera paths a scene
WAITING = 4           # parcels a worker that may wait to be taken; the workers pause while nobody takes any
PATIENCE_S = 120      # how long a parcel may take before something must be wrong

HELD_OUT_SEEDS = range(1 << 32)
"""Worlds for evaluation and recordings. Training takes its seeds from above this range."""
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class FactoryError(LsmError):
    """A worker that died or went silent."""


@dataclass(frozen=True)
class Parcel:
    """N worlds with C camera paths of V views each."""
    scenes: PackedScenes
    T_world_cam: np.ndarray    # (N, C, V, 4, 4) float32
    focal: np.ndarray          # (N, C) float32, focal length / image width


def training_seeds(stream: int, worker: int) -> Iterable[int]:
    """An endless run of seeds that no other stream or worker has, none of them held out."""
    return count(((1 + stream) << 12 | worker) << 32)


def make_parcel(seeds: Iterable[int], paths: int, views: int, textures: TextureCatalogue | None) -> Parcel:
    """One world a seed; the same seed gives the same world and the same paths."""
    scenes, poses, focal = [], [], []
    for seed in seeds:
        scene, rng = make_scene(seed, textures=textures), np.random.default_rng(seed)
        found = [camera_path(scene, rng, views=views) for _ in range(paths)]
        scenes.append(scene)
        poses.append([path.T_world_cam for path in found])
        focal.append([path.focal for path in found])
    return Parcel(scenes=pack(scenes), T_world_cam=np.array(poses, np.float32), focal=np.array(focal, np.float32))


class Factory:
    """Worker processes that fill a queue of parcels until `close`."""

    def __init__(self, stream: int, workers: int, views: int, textures: TextureCatalogue | None):
        if not 1 <= workers < 1 << 12:
            raise InputError(f"workers = {workers}; it must lie in 1..{(1 << 12) - 1}")
        context = get_context("spawn")               # forking a process that holds a GPU breaks both
        self._parcels = context.Queue(WAITING * workers)
        self._workers = [context.Process(target=_work, daemon=True, name=f"worlds-{worker}",
                                         args=(self._parcels, stream, worker, views, textures, os.getpid()))
                         for worker in range(workers)]
        before = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
        os.environ.update({name: "1" for name in _THREAD_VARIABLES})    # numpy of a worker reads them when it starts
        try:
            for process in self._workers:
                process.start()
        finally:
            for name, value in before.items():
                os.environ.pop(name, None) if value is None else os.environ.update({name: value})

    def take(self, wait: bool) -> Parcel | None:
        """The next parcel; None where there is none and `wait` is false. Raises FactoryError where a worker died."""
        for _ in range(PATIENCE_S):
            try:
                return self._parcels.get(timeout=1.0) if wait else self._parcels.get_nowait()
            except queue.Empty:
                dead = [process for process in self._workers if not process.is_alive()]
                if dead:
                    raise FactoryError(f"{dead[0].name} ended with exit code {dead[0].exitcode}; "
                                       "what it said stands above") from None
                if not wait:
                    return None
        raise FactoryError(f"no world in {PATIENCE_S} s from {len(self._workers)} workers")

    def close(self) -> None:
        for process in self._workers:
            process.terminate()
        for process in self._workers:
            process.join()
        self._parcels.close()
        self._parcels.cancel_join_thread()


def _work(parcels, stream: int, worker: int, views: int, textures: TextureCatalogue | None, parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)     # Ctrl-C is the parent's to handle; it terminates its workers
    seeds = training_seeds(stream, worker)
    parcel = None
    while os.getppid() == parent:
        parcel = parcel or make_parcel(islice(seeds, PARCEL), PATHS, views, textures)
        try:
            parcels.put(parcel, timeout=5.0)
            parcel = None
        except queue.Full:
            pass                                     # nobody has taken any for a while: look whether the parent lives
    parcels.cancel_join_thread()                     # it does not, so nobody will read the rest
