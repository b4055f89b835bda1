"""The processes that make worlds without stopping: scenes with camera paths, in parcels, for a bank to draw from.

Free of torch: a worker starts in a moment and stays small.
"""
from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from itertools import count, islice
from multiprocessing import connection, get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

import numpy as np

from lsm_ros.errors import InputError, LsmError
from lsm_ros.world.cameras import camera_path
from lsm_ros.world.materials import TextureCatalogue
from lsm_ros.world.meshes import MeshCatalogue
from lsm_ros.world.movers import Motions
from lsm_ros.world.packing import PackedScenes, pack
from lsm_ros.world.rooms import make_scene

PARCEL = 8            # scenes that travel together
PATHS = 8             # camera paths a scene
PIPE_BYTES = 1 << 20  # room for two parcels of a worker that wait to be taken; it pauses while nobody takes any
MOVERS, LOW = 5, 6    # the streams of random numbers of a seed from which they come
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
    motions: Motions           # of each world


def training_seeds(stream: int, worker: int) -> Iterable[int]:
    """An endless run of seeds that no other stream or worker has, none of them held out."""
    return count(((1 + stream) << 12 | worker) << 32)


def make_parcel(seeds: Iterable[int], paths: int, views: int, textures: TextureCatalogue | None,
                meshes: MeshCatalogue | None = None, kind: str | None = None, low: float = 0.0) -> Parcel:
    """One world a seed, all of one `kind` where one is given; the same seed gives the same world and the same paths,
    but for the share of them that is `low`, those of small robots."""
    scenes, poses, focal, motions = [], [], [], []
    for seed in seeds:
        scene, rng = make_scene(seed, kind, textures, meshes), np.random.default_rng(seed)
        lows = np.random.default_rng((seed, LOW)).random(paths) < low
        found = [camera_path(scene, rng, views=views, kind="low" if each else None) for each in lows]
        scenes.append(scene)
        poses.append([path.T_world_cam for path in found])
        focal.append([path.focal for path in found])
        motions.append(Motions.random(scene, found, np.random.default_rng((seed, MOVERS))))
    return Parcel(scenes=pack(scenes), T_world_cam=np.array(poses, np.float32), focal=np.array(focal, np.float32),
                  motions=Motions.stacked(motions))


class Factory:
    """Worker processes that make parcels until `close`, each with a pipe of its own.

    A queue that all of them share would hang its reader for good when a worker is killed while it writes.
    """

    def __init__(self, stream: int, workers: int, views: int, textures: TextureCatalogue | None,
                 meshes: MeshCatalogue | None = None, low: float = 0.0):
        if not 1 <= workers < 1 << 12:
            raise InputError(f"workers = {workers}; it must lie in 1..{(1 << 12) - 1}")
        context = get_context("spawn")               # forking a process that holds a GPU breaks both
        self._workers: dict[Connection, BaseProcess] = {}
        before = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
        os.environ.update({name: "1" for name in _THREAD_VARIABLES})    # numpy of a worker reads them when it starts
        try:
            for worker in range(workers):
                parcels, end = context.Pipe(duplex=False)
                with suppress(OSError):              # a kernel that grants less room makes workers wait more, no worse
                    fcntl.fcntl(end.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)
                process = context.Process(target=_work, daemon=True, name=f"worlds-{worker}",
                                          args=(end, stream, worker, views, textures, meshes, low))
                process.start()
                end.close()                          # the worker alone holds it now: its death ends what we read
                self._workers[parcels] = process
        finally:
            for name, value in before.items():
                os.environ.pop(name, None) if value is None else os.environ.update({name: value})

    def take(self, wait: bool) -> Parcel | None:
        """The next parcel; None where there is none and `wait` is false. Raises FactoryError where a worker died."""
        ready = connection.wait(list(self._workers), PATIENCE_S if wait else 0)
        if not ready:
            if wait:
                raise FactoryError(f"no world in {PATIENCE_S} s from {len(self._workers)} workers")
            return None
        process = self._workers.pop(ready[0])
        self._workers[ready[0]] = process            # last in the order, so that each has its turn
        try:
            return ready[0].recv()
        except (EOFError, OSError) as error:
            process.join()
            raise FactoryError(f"{process.name} ended with exit code {process.exitcode}; "
                               "what it said stands above") from error

    def close(self) -> None:
        for process in self._workers.values():
            process.terminate()
        for parcels, process in self._workers.items():
            process.join()
            parcels.close()


def _work(parcels: Connection, stream: int, worker: int, views: int, textures: TextureCatalogue | None,
          meshes: MeshCatalogue | None, low: float) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)     # Ctrl-C is the parent's to handle; it terminates its workers
    os.setpgid(0, 0)                                 # as is a SIGTERM for its whole group, torchrun's
    seeds = training_seeds(stream, worker)
    with suppress(BrokenPipeError):                  # the parent is gone
        while True:
            parcels.send(make_parcel(islice(seeds, PARCEL), PATHS, views, textures, meshes, low=low))
