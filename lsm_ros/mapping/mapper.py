"""The algorithm: frames in, one consistent labelled map out."""
from __future__ import annotations

import time
from dataclasses import dataclass, fields

import numpy as np

from lsm_ros.config import MapperConfig
from lsm_ros.contracts import Cloud, Frame, Keyframe, MapObject, MapUpdate, Predictor, Window, WindowPrediction
from lsm_ros.errors import AlignmentError, ConfigError, InputError
from lsm_ros.geometry.camera import check_intrinsics
from lsm_ros.geometry.sim3 import UP_CV, rigid_of, rotation_of, scale_of, sim3, upright
from lsm_ros.labels import LabelSet
from lsm_ros.mapping.graph import PoseGraph
from lsm_ros.mapping.ground import find_up
from lsm_ros.mapping.keyframes import KeyframeSelector, Verdict, reduced
from lsm_ros.mapping.objects import ObjectTracker
from lsm_ros.mapping.refinement import PoseRefiner, Refinement, unrefined
from lsm_ros.mapping.registration import Registration, check_prediction, register
from lsm_ros.mapping.semantic_map import SemanticMap
from lsm_ros.mapping.views import View
from lsm_ros.mapping.windows import select_window

LEVEL_AT = 8               # keyframes after which the vertical, first taken from one view, is found anew and then kept
GLOBAL_EVERY = 16          # keyframes between two optimisations of the whole graph
LOST_AFTER = 3             # refused windows in a row after which the camera is looked for in the whole map
YOUNG = 4                  # a map of fewer keyframes is begun anew instead
MOVED_M, MOVED_RAD = 1e-3, 1e-3        # a pose that moved less than that is not reported again


@dataclass
class Counters:
    """What became of the frames. Every frame is a keyframe or counted under exactly one cause."""
    frames: int = 0
    keyframes: int = 0             # frames that the network was asked about
    static_frames: int = 0         # too little image motion since the last keyframe
    dark_frames: int = 0           # black, or nothing to see
    bad_images: int = 0            # InputError: no (H, W, 3) uint8 image
    bad_intrinsics: int = 0        # InputError: K is no pinhole matrix
    bad_resolutions: int = 0       # InputError: another size than the frames before
    bad_stamps: int = 0            # InputError: not later than the frame before
    windows: int = 0               # keyframes that became part of the map
    unsupported_windows: int = 0   # those of them whose pose no match backs: it is merely predicted, and may be wrong
    refused_windows: int = 0       # keyframes whose window could not be aligned, and was left out
    refused_views: int = 0         # earlier keyframes that a good window contradicted; they got no edge from it
    restarts: int = 0              # maps of a few keyframes that nothing could be aligned with, and that were given up


class Mapper:
    """Pushes frames through keyframes, windows, network, pose graph and voxels. For one thread at a time.

    `predict` is the network; `labels` belong to its semantics. The map frame is z up, in metres, its origin at the
    first keyframe's camera and its x axis along that camera's level heading.
    """

    def __init__(self, predict: Predictor, labels: LabelSet, config: MapperConfig | None = None):
        self.config = config = config or MapperConfig()
        self.labels = labels
        self.counters = Counters()
        self.last_refusal = ""         # why the last refused window was refused
        self._predict = predict
        self._refine = PoseRefiner()
        self._next_id = 0
        self._selector = KeyframeSelector(config.keyframe_motion, config.keyframe_tracks)
        self._map = SemanticMap(len(labels), config.voxel_size_m, config.confidence_drop, config.max_depth_m)
        self._objects = ObjectTracker(labels, config.object_min_voxels)
        self._start()

    def configure(self, config: MapperConfig) -> None:
        """Takes other options from the next frame on; what is in the voxels stays as it was fused.

        Raises ConfigError for an option that needs a new mapper.
        """
        fixed = [item.name for item in fields(config) if item.metadata["read_only"]
                 and getattr(config, item.name) != getattr(self.config, item.name)]
        if fixed:
            raise ConfigError(f"{', '.join(fixed)} of a mapper is fixed when it is made")
        self.config = config
        self._selector.configure(config.keyframe_motion, config.keyframe_tracks)
        self._map.configure(config.confidence_drop, config.max_depth_m)
        self._objects.min_voxels = config.object_min_voxels

    def reset(self) -> None:
        """Forgets the map. Keyframe and object ids go on, and so do the counters."""
        self._selector.reset()
        self._map.clear()
        self._objects.clear()
        self._start()

    def _start(self) -> None:
        self._stamp_ns: int | None = None
        self._shape: tuple[int, ...] | None = None
        self._graph = PoseGraph()
        self._views: dict[int, View] = {}
        self._reported: dict[int, np.ndarray] = {}     # T_map_cam as last told to the user
        self._unsettled: set[int] = set()              # keyframes that may have moved since they were fused
        self._refused_in_a_row = 0

    @property
    def lost(self) -> bool:
        """True while the last windows were all refused. It ends when the camera sees again what the map knows."""
        return self._refused_in_a_row >= LOST_AFTER

    def push(self, frame: Frame) -> MapUpdate | None:
        """One step. None: the frame made no keyframe, or its window was refused; `counters` tell which.

        Raises InputError for a frame that cannot be used, after counting it.
        """
        clock = Stopwatch()
        self._check(frame)
        keyframe = self._keep(frame)
        clock.lap("keyframe")
        if keyframe is None:
            return None
        window = select_window(keyframe, self._views, self._graph, self.config.window_views, self.lost)
        clock.lap("window")
        prediction = self._predict(window)
        clock.lap("network")
        try:
            check_prediction(prediction, len(window.keyframes))
            refinement = self._refine(window, prediction) if self.config.refine_poses else unrefined(prediction)
            clock.lap("refinement")
            registration = self._register(window, refinement)
        except AlignmentError as refusal:
            self._refuse(str(refusal))
            return None
        clock.lap("alignment")
        matches = int(refinement.support[-1].max()) if len(window.keyframes) > 1 else None
        self.counters.unsupported_windows += matches == 0
        self._remember(window, refinement.prediction, registration)
        self._optimise(window)
        clock.lap("graph")
        self._fuse(keyframe.id)
        clock.lap("fusion")
        return self._update(keyframe, matches, clock.seconds)

    def settle(self) -> None:
        """Optimises the whole graph and fuses anew whatever moved: the best map so far, in unbounded time.

        Worth calling before the map is saved; between pushes only a few keyframes are fused anew each time.
        """
        if self._views:
            self._graph.optimise()
            self._unsettled.update(self._graph.ids)
            for keyframe_id in self._moved():
                self._map.fuse(self._views[keyframe_id], self._graph.pose(keyframe_id))

    def map_cloud(self) -> Cloud:
        """The fused voxels, in the map frame."""
        return self._map.voxels(self.config.min_observations).cloud

    def objects(self) -> list[MapObject]:
        """The objects in the fused voxels, by id; an object found in an earlier call keeps its id."""
        return self._objects.update(self._map.voxels(self.config.min_observations))

    def trajectory(self) -> list[tuple[int, np.ndarray]]:
        """(stamp_ns, T_map_cam (4, 4)) of every mapped keyframe, newest estimates, oldest first."""
        return [(self._views[i].keyframe.frame.stamp_ns, T)
                for i, T in zip(self._graph.ids, rigid_of(self._graph.poses()), strict=True)]

    def _check(self, frame: Frame) -> None:
        """Raises InputError, naming the value, for a frame that cannot be used."""
        count = self.counters
        count.frames += 1
        image = frame.image
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 \
                or not image.size:
            count.bad_images += 1
            what = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
            raise InputError(f"image is {what}; it must be uint8 (H, W, 3)")
        if self._shape is not None and image.shape != self._shape:
            count.bad_resolutions += 1
            raise InputError(f"image is {image.shape[1]} x {image.shape[0]} pixels, but the map was begun with "
                             f"{self._shape[1]} x {self._shape[0]}; reset the map to change the resolution")
        if frame.K is not None:
            try:
                check_intrinsics(frame.K)
            except InputError:
                count.bad_intrinsics += 1
                raise
        if self._stamp_ns is not None and frame.stamp_ns <= self._stamp_ns:
            count.bad_stamps += 1
            raise InputError(f"stamp {frame.stamp_ns} ns is not after {self._stamp_ns} ns, that of the frame before; "
                             "reset the map to begin anew")
        self._stamp_ns, self._shape = frame.stamp_ns, image.shape

    def _keep(self, frame: Frame) -> Keyframe | None:
        verdict = self._selector.judge(frame.image)
        if verdict is Verdict.STATIC:
            self.counters.static_frames += 1
            return None
        if verdict is Verdict.DARK:
            self.counters.dark_frames += 1
            return None
        self.counters.keyframes += 1
        self._next_id += 1
        return Keyframe(self._next_id - 1, reduced(frame))

    def _register(self, window: Window, refinement: Refinement) -> Registration:
        """Raises AlignmentError if the window has no place in the map."""
        ids = [keyframe.id for keyframe in window.keyframes]
        if len(ids) > 1:
            return register(ids, refinement, self._views, self._graph, self.config)
        up = UP_CV
        if self.config.level:
            view = View.from_prediction(window.keyframes[0], refinement.prediction, 0, self.labels)
            up = find_up([view], [np.eye(3)], self.labels)
        return Registration(S_map_window=sim3(upright(up), np.zeros(3)), units={ids[0]: 1.0}, refused=(), edges=())

    def _refuse(self, why: str) -> None:
        self.counters.refused_windows += 1
        self.last_refusal = why
        self._refused_in_a_row += 1
        if self.lost and 0 < len(self._views) < YOUNG:
            self.counters.restarts += 1
            self.reset()

    def _remember(self, window: Window, prediction: WindowPrediction, registration: Registration) -> None:
        """The newest keyframe joins the graph; the views that hold the window get its opinion on them too."""
        for index, keyframe in enumerate(window.keyframes):
            if keyframe.id not in registration.units:
                continue
            view = View.from_prediction(keyframe, prediction, index, self.labels)
            if keyframe.id in self._views:
                view = self._views[keyframe.id].refined(view, registration.units[keyframe.id])
            self._views[keyframe.id] = view
        self._graph.add(keyframe.id, registration.S_map_window @ prediction.T_window_cam[-1])
        self._graph.connect(registration.edges)
        self._refused_in_a_row = 0
        self.counters.windows += 1
        self.counters.refused_views += len(registration.refused)

    def _optimise(self, window: Window) -> None:
        """The newest keyframes and the window's move to where all edges agree best; now and then all of them do."""
        ids = self._graph.ids
        free = {*ids[-self.config.optimised_keyframes:], *(k.id for k in window.keyframes)} & set(ids)
        if len(ids) % GLOBAL_EVERY == 0:
            free = set(ids)
        self._graph.optimise(free)
        if self.config.level and len(ids) == LEVEL_AT:
            self._level()
            free = set(ids)
        self._unsettled |= free

    def _level(self) -> None:
        """Turns the map so that what its first views call floors and walls is level and upright."""
        R = rotation_of(self._graph.poses())
        up = find_up(self._views.values(), R[0].T @ R, self.labels)
        self._graph.rotate(upright(up) @ R[0].T)

    def _fuse(self, newest: int) -> None:
        """The newest view into the voxels, and a few of those again that have moved most."""
        self._map.fuse(self._views[newest], self._graph.pose(newest))
        for keyframe_id in self._moved()[:self.config.fused_again]:
            self._map.fuse(self._views[keyframe_id], self._graph.pose(keyframe_id))
            self._unsettled.discard(keyframe_id)

    def _moved(self) -> list[int]:
        """Keyframes whose points are off their place in the voxels by half a voxel or more, the farthest first."""
        ids = sorted(self._unsettled)
        if not ids:
            return []
        gaps = self._map.displacement([self._views[i] for i in ids], self._graph.poses(ids))
        self._unsettled = {i for i, gap in zip(ids, gaps, strict=True) if gap >= self.config.voxel_size_m / 2}
        return [ids[n] for n in np.argsort(-gaps) if ids[n] in self._unsettled]

    def _update(self, keyframe: Keyframe, matches: int | None, seconds: dict[str, float]) -> MapUpdate:
        view, S_map_cam = self._views[keyframe.id], self._graph.pose(keyframe.id)
        scale = np.float32(scale_of(S_map_cam))
        depth, labels = view.depth * scale, view.labels()
        good = view.reliable(self.config.confidence_drop) & (depth <= self.config.max_depth_m)
        cloud = Cloud(points=view.points[good] * scale, colors=view.colors[good], labels=labels[good],
                      confidence=np.rint(255 * view.confidence[good]).clip(0, 255).astype(np.uint8))
        return MapUpdate(stamp_ns=keyframe.frame.stamp_ns, keyframe_id=keyframe.id, T_map_cam=rigid_of(S_map_cam),
                         T_map_keyframes=self._news(), window_cloud=cloud, K=view.K, depth=depth, labels=labels,
                         confidence=view.confidence, scale=float(scale), seconds=seconds, matches=matches)

    def _news(self) -> dict[int, np.ndarray]:
        """T_map_cam of the keyframes that have moved since they were last reported."""
        ids, poses = self._graph.ids, rigid_of(self._graph.poses())
        known = np.array([self._reported.get(i, np.full((4, 4), np.inf)) for i in ids])
        change = np.abs(poses - known)
        moved = (change[:, :3, 3].max(axis=1) > MOVED_M) | (change[:, :3, :3].max(axis=(1, 2)) > MOVED_RAD)
        news = {i: T for i, T, new in zip(ids, poses, moved, strict=True) if new}
        self._reported.update(news)
        return news


class Stopwatch:
    """Seconds of each stage."""

    def __init__(self):
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage] = now - self._last
        self._last = now
