"""The algorithm: frames in, one consistent labelled map out."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

import numpy as np

from lsm_ros.config import MapperConfig
from lsm_ros.contracts import (
    MOST_ELONGATED,
    Cloud,
    Frame,
    Keyframe,
    MapObject,
    MapUpdate,
    Predictor,
    Window,
    elongated,
)
from lsm_ros.data.borders import Borders
from lsm_ros.data.calibration import check_lens
from lsm_ros.errors import AlignmentError, ConfigError, InputError, OutputError
from lsm_ros.geometry.camera import check_intrinsics
from lsm_ros.geometry.sim3 import rigid_of, scale_of, scaling
from lsm_ros.labels import LabelSet
from lsm_ros.mapping.atlas import Atlas
from lsm_ros.mapping.counters import Counters, Stopwatch
from lsm_ros.mapping.graph import GraphPicture, PoseGraph
from lsm_ros.mapping.ground import correct_heights, find_stance, stand_upright
from lsm_ros.mapping.keyframes import KeyframeSelector, Verdict, check_priors, owned, reduced
from lsm_ros.mapping.limits import beyond_limits
from lsm_ros.mapping.locating import Known, Located, Locator
from lsm_ros.mapping.loops import LoopCloser, Places, fulfilled
from lsm_ros.mapping.objects import ObjectTracker
from lsm_ros.mapping.odometry import OdometryWatch
from lsm_ros.mapping.query import QueryResult, ask
from lsm_ros.mapping.registration import Registration
from lsm_ros.mapping.saved_map import MapState
from lsm_ros.mapping.scale import MetricEstimator
from lsm_ros.mapping.semantic_map import Changes, SemanticMap
from lsm_ros.mapping.upright import UNSURE, Upright
from lsm_ros.mapping.views import View

LEVEL_AT = 8               # keyframes after which the vertical and the floor, first taken from one view, are found anew
GLOBAL_EVERY = 64          # keyframes between two optimisations of the whole graph; a loop has one of its own
RESCALED = 0.01            # change of the metric scale, as a log, that is worth moving the map
LOST_AFTER = 3             # refused windows in a row after which the camera is looked for in the whole map
YOUNG = 4                  # a map of fewer keyframes is begun anew instead
UNDERSTOOD = 0.25          # share of the views that make a map of a camera that turns out to be turned: on real walks
                           # that were turned from the start it is below .1; and that one is turned over is noted late
GIVE_UP_AFTER = 25         # refused windows in a row after which another map is begun
LOOK_BACK_EVERY = 3        # keyframes between two looks whether a waiting map is in sight
TAKEN_OUT = 2              # forgotten keyframes whose voxels one push takes out: forgetting many holds up no frame
MOVED_M, MOVED_RAD = 1e-3, 1e-3        # a pose that moved less than that is not reported again


class Mapper:
    """Pushes frames through keyframes, windows, network, pose graph and voxels. For one thread at a time.

    `predict` is the network; `labels` belong to its semantics. `describe` gives a keyframe's image as a vector (D,) of
    length 1 that is alike for images of one place; without it no place is recognised. The map frame is z up, in metres,
    its x axis along the first camera's level heading, and its origin on the floor below that camera, or at the camera
    as long as no floor is found.
    """

    def __init__(self, predict: Predictor, labels: LabelSet, config: MapperConfig | None = None,
                 describe: Callable[[Keyframe], np.ndarray] | None = None):
        self.config = config = config or MapperConfig()
        self.labels = labels
        self.counters = Counters()
        self.last_refusal = ""         # why the last refused window was refused
        self._describe = describe
        self._upright = Upright()
        self._locator = Locator(predict, config, self.counters, self._upright)
        self._next_id = self._next_map_id = 0
        self._atlas = Atlas(config.max_keyframes)
        self._selector = KeyframeSelector(config.keyframe_motion, config.keyframe_tracks)
        self._map = self._new_voxels()
        self._objects = ObjectTracker(labels, config.object_min_voxels)
        self._await_stream()
        self._start()

    def configure(self, config: MapperConfig) -> None:
        """Takes other options from the next frame on; what is in the voxels stays as it was fused.

        Raises ConfigError for an option that needs a new mapper.
        """
        fixed = [item.name for item in fields(config) if item.metadata["read_only"]
                 and getattr(config, item.name) != getattr(self.config, item.name)]
        if fixed:
            raise ConfigError(f"{', '.join(fixed)} of a mapper is fixed when it is made")
        wrong_m = self.config.camera_height_m
        self.config = config
        if config.camera_height_m != wrong_m:
            self._stand_anew(wrong_m)
        self._selector.configure(config.keyframe_motion, config.keyframe_tracks)
        self._map.configure(config.confidence_drop, config.max_depth_m)
        self._locator.configure(config)
        self._atlas.configure(config.max_keyframes)
        self._objects.min_voxels = config.object_min_voxels

    def reset(self) -> None:
        """Forgets the map, and those that wait. Keyframe and object ids go on, and so do the counters."""
        self._atlas.clear()
        self._upright.forget()
        self._begin()

    def step_back(self, stamp_ns: int) -> None:
        """The stamp of the newest frame was wrong, too late: frames go on from this one."""
        if self._stamp_ns is not None:
            self._stamp_ns = min(self._stamp_ns, stamp_ns)
        self._odometry.step_back(stamp_ns)

    def _begin(self) -> None:
        """An empty map; the next image that shows anything is its first keyframe."""
        self._selector.reset()
        self._await_stream()
        self._begin_map()

    def _await_stream(self) -> None:
        """Nothing is known of images to come."""
        self._stamp_ns: int | None = None
        self._odometry = OdometryWatch()
        self._shape: tuple[int, ...] | None = None
        self._borders = Borders()

    def _begin_map(self) -> None:
        """An empty map, of the same images."""
        self._map.clear()
        self._objects.clear()
        self._start()

    def _start(self) -> None:
        self.map_id = self._next_map_id                # another number is another map: nothing ties it to this one
        self._next_map_id += 1
        self._graph = PoseGraph()
        self._places, self._closer, self._scale = Places(), LoopCloser(), MetricEstimator()
        self.metric = self._scale.estimate(self.config)
        self._views: dict[int, View] = {}
        self._reported: dict[int, np.ndarray] = {}     # T_map_cam as last told to the user
        self._unsettled: set[int] = set()              # keyframes that may have moved since they were fused
        self._leaving: list[int] = []                  # forgotten ones whose voxels are still there, the oldest first
        self._refused_in_a_row = 0
        self._locator.reset()

    @property
    def lost(self) -> bool:
        """True while the last windows were all refused. It ends when the camera sees again what the map knows."""
        return self._refused_in_a_row >= LOST_AFTER

    @property
    def unwatched(self) -> bool:
        """Whether odometry was unknown for long since the newest keyframe, so that it may have begun anew meanwhile."""
        return self._odometry.unwatched

    def push(self, frame: Frame, tell: Callable[[MapUpdate], None] | None = None) -> MapUpdate | None:
        """One step. None: the frame made no keyframe, or its window was refused; `counters` tell which.

        `tell` hears of the update as soon as the pose is known, before the voxels are; and once more in the rare case
        that a map which waits is joined then. Raises InputError for a frame that cannot be used, after counting it.
        """
        clock = Stopwatch()
        self._check(frame)
        keyframe = self._keep(frame)
        clock.lap("keyframe")
        if keyframe is None:
            return None
        self._locator.expect(keyframe)
        self._upright.hear(keyframe.frame)
        if self._locator.reconsider(clock):
            self._turn()
        place = self._describe(self._upright.shown(keyframe)) if self._describe and self.config.loops else None
        clock.lap("network")
        try:
            located = self._locator.locate(keyframe, self._known(place), clock)
            self._check_reach(located)
        except AlignmentError as refusal:
            self._refuse(str(refusal))
            return None
        located = self._watch_again(located)
        matches = int(located.refinement.support[-1].max()) if len(located.window.keyframes) > 1 else None
        self.counters.unsupported_windows += matches == 0
        self._remember(located, place)
        loop = self._close_loops(located.registration)
        self._measure(located)
        self._optimise(located.window, loop)
        clock.lap("graph")
        update = self._update(keyframe, matches, clock.seconds)
        clock.lap("update")
        try:
            if tell:
                tell(update)
                clock.lap("publish")
        finally:                                       # whatever comes of that, the voxels follow the graph
            self._hear(located)
            self._fuse(keyframe.id)
            self._forget()
            self._take_out(TAKEN_OUT)
            clock.lap("fusion")
        joined = self._look_back(keyframe, place, clock)
        clock.lap("graph")
        if joined:
            update = self._update(keyframe, matches, clock.seconds)
            if tell:
                tell(update)
        return update

    def settle(self) -> None:
        """Optimises the whole graph, fuses anew whatever moved and takes out what was forgotten: the best map so far,
        in unbounded time.

        Worth calling before the map is saved; between pushes only a few keyframes are fused anew each time. A graph
        without a solution is counted, and keeps its poses.
        """
        if self._views:
            self._solve()
            self._unsettled.update(self._graph.ids)
            for keyframe_id in self._moved():
                self._map.fuse(self._views[keyframe_id], self._graph.pose(keyframe_id))
            self._take_out(len(self._leaving))

    def map_cloud(self) -> Cloud:
        """The fused voxels, in the map frame."""
        return self._map.voxels(self.config.min_observations).cloud

    def take_changes(self, anew: bool = False) -> Changes:
        """What has changed in the fused voxels since the last call; `anew`: all of them."""
        return self._map.take_changes(self.config.min_observations, anew)

    @property
    def on_floor(self) -> bool:
        """Whether z = 0 is the floor; a map that was loaded knows it before the camera has found itself."""
        return self._graph.grounded

    @property
    def border(self) -> float:
        """Share of the camera's images that never shows the world (data/borders.py)."""
        return self._borders.share

    @property
    def turned(self) -> int:
        """By how many degrees, 0, 90, 180 or 270, the camera is turned clockwise, seen from behind it: as an IMU
        or the robot's model tell, or, where no frame knew its up, as the network understands its images. These are
        shown to it upright."""
        return self._upright.degrees

    @property
    def keyframes(self) -> int:
        """Those in the map."""
        return len(self._graph)

    @property
    def waiting_keyframes(self) -> int:
        """Those of the largest map that waits to be seen again; 0: none does."""
        return self._atlas.most_keyframes

    @property
    def loops(self) -> int:
        """Places that were recognised in the map so far."""
        return self._graph.loops()

    @property
    def voxels(self) -> int:
        """Those that the map has touched, the ones with too few sightings to be shown included."""
        return len(self._map)

    def objects(self) -> list[MapObject]:
        """The objects in the fused voxels, by id; an object found in an earlier call keeps its id."""
        return self._objects.update(*self._map.things(self.config.min_observations, self.labels.things))

    def trajectory(self) -> list[tuple[int, np.ndarray]]:
        """(stamp_ns, T_map_cam (4, 4)) of every mapped keyframe, newest estimates, oldest first."""
        return [(self._views[i].keyframe.frame.stamp_ns, T)
                for i, T in zip(self._graph.ids, rigid_of(self._graph.poses()), strict=True)]

    def relabel(self, labels: LabelSet) -> None:
        """Asks what was seen in other words, all of it: the voxels are made anew, which takes 20 ms a keyframe."""
        self.labels = labels
        self._objects.relabel(labels)
        self._map = self._new_voxels()
        self._views = self._in_words_of_now(self._views)
        self._fuse_all()

    def query(self, embedding: np.ndarray, threshold: float = 0.5) -> QueryResult:
        """Where in the map that is: `embedding` (D,) of length 1, of words, in the space of the labels."""
        config = self.config
        views = ((self._views[i], self._graph.pose(i)) for i in self._graph.ids)
        return ask(views, embedding, self.labels, threshold, config.voxel_size_m, config.confidence_drop,
                   config.max_depth_m, config.min_observations, config.object_min_voxels)

    def state(self) -> MapState:
        """What `restore` takes: the map of now, whatever is pushed later. Raises OutputError where nothing is mapped
        yet."""
        if not self._views:
            raise OutputError("there is no map to save yet")
        return MapState(self._graph.copy(), dict(self._views), self._places.items(), self._shape)

    def restore(self, state: MapState) -> None:
        """Takes a saved map in place of the present one. The camera is lost until it recognises where it is.

        Raises AlignmentError where it lies too far away for the voxels, and the present map stays.
        """
        state = state.numbered_from(self._next_id)
        state = replace(state, views=self._in_words_of_now(state.views))
        voxels = self._new_voxels()
        for keyframe_id in state.graph.ids:            # raises before anything has changed
            voxels.fuse(state.views[keyframe_id], state.graph.pose(keyframe_id))
        self.reset()
        self._next_id += len(state.views)
        self._take_up(state, voxels)

    def take_largest(self) -> bool:
        """Goes back to the map that waits if it has more keyframes than the present one, which waits then; for the end
        of a run. The camera is lost then, until it recognises where it is."""
        found = self._atlas.take_larger(len(self._views))
        if found is None:
            return False
        if self._views:
            self._atlas.put_away(self.map_id, self.state())
        self._begin()
        self.map_id = found.map_id
        self._take_up(found.state)
        return True

    def _take_up(self, state: MapState, voxels: SemanticMap | None = None) -> None:
        """A map of another time. Whoever was carried since turned no wheel, and another session's began elsewhere."""
        self._adopt(state, voxels)
        self._forget_odometry()
        self._refused_in_a_row = LOST_AFTER

    def _adopt(self, state: MapState, voxels: SemanticMap | None = None) -> None:
        """`voxels` are its own, where they are known already."""
        self._graph, self._shape = state.graph, state.image_shape
        self._views = self._in_words_of_now(state.views)
        self._places = Places(state.places)
        self.metric = replace(self.metric, scale=state.graph.metric)
        self._scale = MetricEstimator(self.metric)
        self._reported.clear()
        if voxels is None:
            self._fuse_all()
        else:
            self._map = voxels

    def _in_words_of_now(self, views: dict[int, View]) -> dict[int, View]:
        return {i: view if view.label_set is self.labels else replace(view, label_set=self.labels)
                for i, view in views.items()}

    def _new_voxels(self) -> SemanticMap:
        return SemanticMap(len(self.labels), self.config.voxel_size_m, self.config.confidence_drop,
                           self.config.max_depth_m)

    def _look_back(self, keyframe: Keyframe, place: np.ndarray | None, clock: Stopwatch) -> bool:
        """If a map that waits is in sight, this one becomes a part of it."""
        if place is None or not len(self._atlas) or self.counters.windows % LOOK_BACK_EVERY:
            return False
        found = self._atlas.join(self.state(), keyframe, place, self._locator, clock)
        if found is not None:
            self.counters.joined_maps += 1
            self.map_id = found.map_id
            self._map.clear()
            self._objects.clear()
            self._adopt(found.state)
        return found is not None

    def _fuse_all(self) -> None:
        for keyframe_id in self._graph.ids:
            self._map.fuse(self._views[keyframe_id], self._graph.pose(keyframe_id))
        self._unsettled.clear()

    def pose_graph(self) -> GraphPicture:
        """The keyframes and what ties them, to be drawn."""
        return self._graph.picture()

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
        if elongated(image.shape):
            count.bad_images += 1
            raise InputError(f"image is {image.shape[1]} x {image.shape[0]} pixels; its sides may differ by a factor "
                             f"of {MOST_ELONGATED} at most")
        if self._shape is not None and image.shape != self._shape:
            count.bad_resolutions += 1
            raise InputError(f"image is {image.shape[1]} x {image.shape[0]} pixels, but the map was begun with "
                             f"{self._shape[1]} x {self._shape[0]}")
        if frame.K is not None:
            try:
                check_lens(check_intrinsics(frame.K), image.shape[1::-1], "the frame's intrinsics")
            except InputError:
                count.bad_intrinsics += 1
                raise
        try:
            check_priors(frame)
        except InputError:
            count.bad_priors += 1
            raise
        if not isinstance(frame.stamp_ns, (int, np.integer)):
            count.bad_stamps += 1
            raise InputError(f"stamp {frame.stamp_ns!r} is no whole number of nanoseconds")
        if self._stamp_ns is not None and frame.stamp_ns <= self._stamp_ns:
            count.bad_stamps += 1
            raise InputError(f"stamp {frame.stamp_ns} ns is not after {self._stamp_ns} ns, that of the frame before"
                             + "; whoever sends the images must stamp them" * (frame.stamp_ns == self._stamp_ns == 0))
        if frame.T_odom_cam is not None and self._odometry.hear(frame.stamp_ns, frame.T_odom_cam.copy()):
            self.counters.odometry_jumps += 1
            self._forget_odometry()
        self._stamp_ns, self._shape = frame.stamp_ns, image.shape

    def _check_reach(self, located: Located) -> None:
        """Raises AlignmentError for a camera that is so far from the origin that no voxels are there."""
        if (farthest_m := np.abs(located.S_map_newest[:3, 3]).max()) > self._map.reach_m:
            raise AlignmentError(f"the camera is {farthest_m:.0f} m from the map's origin; voxels of "
                                 f"{self.config.voxel_size_m:g} m reach {self._map.reach_m:.0f} m")

    def _forget_odometry(self) -> None:
        """What it told so far compares with nothing that it will tell."""
        self._views = {i: view.without_odometry() for i, view in self._views.items()}

    def _watch_again(self, located: Located) -> Located:
        """A window after odometry was unknown for long; where it doesn't say how the camera came there, nothing says
        that it goes on from where it was, and it tells nothing of the way since the earlier views."""
        if self.unwatched and located.travel is None:
            self._forget_odometry()
            *earlier, newest = located.window.keyframes
            known = tuple(self._views[keyframe.id].keyframe for keyframe in earlier)
            located = located._replace(window=Window((*known, newest)))
        self._odometry.watched_again()
        return located

    def _keep(self, frame: Frame) -> Keyframe | None:
        frame = reduced(frame)
        self._borders.look(frame.image)
        frame = self._borders.filled(frame)
        verdict = self._selector.judge(frame.image)
        if verdict is Verdict.STATIC:
            self.counters.static_frames += 1
            return None
        if verdict is Verdict.DARK:
            self.counters.dark_frames += 1
            return None
        self.counters.keyframes += 1
        self._next_id += 1
        return Keyframe(self._next_id - 1, owned(frame))

    def _refuse(self, why: str) -> None:
        self.counters.refused_windows += 1
        self.last_refusal = why
        self._refused_in_a_row += 1
        lost_now = self._refused_in_a_row == LOST_AFTER          # not as in a map that was loaded, from the first on
        if lost_now:
            self._forget_odometry()                    # whoever was carried away turned no wheel
        if lost_now and 0 < len(self._views) < YOUNG:
            self.counters.restarts += 1
            self._begin()
        elif self._views and self._refused_in_a_row >= GIVE_UP_AFTER:
            self.counters.new_maps += 1
            self._atlas.put_away(self.map_id, self.state())
            self._begin()

    def _turn(self) -> None:
        """The camera is held otherwise than it seemed. What the network did not understand is no map; one that it
        understood before the camera was turned over waits."""
        self.counters.turns += 1
        understood = [view.confidence.mean() >= UNSURE for view in self._views.values()]
        if understood and np.mean(understood) >= UNDERSTOOD:
            self.counters.new_maps += 1
            self._atlas.put_away(self.map_id, self.state())
        self._begin_map()

    def _known(self, place: np.ndarray | None) -> Known:
        """The map as the locator needs it, to find what looks like `place`."""
        alike = [] if place is None else self._places.most_alike(place, self._graph.ids)
        return Known(self._graph, self._views, alike, self.metric.scale, self.lost, self.unwatched)

    def _remember(self, located: Located, place: np.ndarray | None) -> None:
        """The newest keyframe joins the graph."""
        window, refinement, registration, travel = located
        keyframe, prediction = window.keyframes[-1], refinement.prediction
        self._views[keyframe.id] = View.from_prediction(keyframe, prediction, len(window.keyframes) - 1, self.labels)
        S_map_cam = located.S_map_newest
        self._graph.add(keyframe.id, S_map_cam)
        if self.config.level:
            self._graph.stand(keyframe.id, find_stance(self._views[keyframe.id], S_map_cam, self.labels,
                                                       self.config.camera_height_m))
        self._graph.connect(registration.edges)
        if travel is not None:
            self._graph.connect([travel])
        if place is not None:
            self._places.add(keyframe.id, place)
        self._refused_in_a_row = 0
        self.counters.windows += 1
        self.counters.refused_views += len(registration.refused)

    def _hear(self, located: Located) -> None:
        """The views that hold the window get its opinion on them. Only windows to come and voxels want to know."""
        for index, keyframe in enumerate(located.window.keyframes[:-1]):
            unit = located.registration.units.get(keyframe.id)
            if unit is not None:
                view = self._views[keyframe.id]
                self._views[keyframe.id] = view.refined(located.refinement.prediction, index, unit)

    def _close_loops(self, registration: Registration) -> bool:
        """Whether the window, with the ones before it, makes the map move to close a loop."""
        moves = False
        for loop in registration.loops if self.config.loops else ():
            believed = self._closer.believed(loop, self._graph, loop.i in registration.sure)
            moves |= not fulfilled(believed, self._graph).all()
            self._graph.connect(believed)
            self.counters.recognitions += 1
            self.counters.loops += len(believed)
        return moves

    def _stand_anew(self, wrong_m: float) -> None:
        """Another height of the camera is told: that of before was wrong from the first keyframe on."""
        self._atlas.correct_heights(wrong_m, self.config.camera_height_m)
        if correct_heights(self._graph, self._views, wrong_m, self.config.camera_height_m):
            self._scale.forget_heights()
            for keyframe_id in self._graph.ids:        # those that frames know were right
                self._scale.hear_of_height(self._graph.stance(keyframe_id))

    def _measure(self, located: Located) -> None:
        """The newest window's say on how long the network's metre is; the map is drawn out or in if it is news."""
        newest = located.window.keyframes[-1].id
        self._scale.hear(located.window, located.refinement, located.registration.units)
        self._scale.hear_of_depth(self._views[newest], self.config.confidence_drop)
        self._scale.hear_of_height(self._graph.stance(newest))
        self.metric = self._scale.estimate(self.config)
        change = self.metric.scale / self._graph.metric
        if abs(np.log(change)) > RESCALED:
            self._graph.move(scaling(change))
            self._graph.metric = self.metric.scale
            self._unsettled |= set(self._graph.ids)

    def _optimise(self, window: Window, loop: bool) -> None:
        """The newest keyframes and the window's move to where all knowledge agrees best; now and then all do."""
        ids, count = self._graph.ids, self.counters.windows      # a full map's own size says nothing
        free = {*ids[-self.config.optimised_keyframes:], *(k.id for k in window.keyframes)} & set(ids)
        if loop or count % GLOBAL_EVERY == 0:
            free = set(ids)
        if self.config.level and (len(ids) in (1, LEVEL_AT) or count % LEVEL_AT == 0 and not self._graph.grounded):
            stand_upright(self._graph, self._views, self.labels, self.config.camera_height_m,
                          self._upright.level_up_cam)
            free = set(ids)
        self._solve(free, loop)
        self._unsettled |= free

    def _solve(self, free: set[int] | None = None, loop: bool = False) -> None:
        """As PoseGraph.optimise. Where there is no solution the keyframes have their places already, only not the best
        ones."""
        try:
            self._graph.optimise(free, loop)
        except AlignmentError:
            self.counters.unsolved_graphs += 1

    def _fuse(self, newest: int) -> None:
        """The newest view into the voxels, and a few of those again that have moved most."""
        self._map.fuse(self._views[newest], self._graph.pose(newest))
        for keyframe_id in self._moved()[:self.config.fused_again]:
            self._map.fuse(self._views[keyframe_id], self._graph.pose(keyframe_id))
            self._unsettled.discard(keyframe_id)

    def _forget(self) -> None:
        """Keyframes beyond the limits go; what they brought follows, push by push."""
        names = beyond_limits(self._graph.ids, self._graph.poses(), self.config)
        if not names:
            return
        self._graph.forget(names)
        self._places.forget(names)
        for keyframe_id in names:
            del self._views[keyframe_id]
            self._reported.pop(keyframe_id, None)
        self._unsettled -= names
        self._leaving += sorted(names)
        self.counters.forgotten_keyframes += len(names)

    def _take_out(self, count: int) -> None:
        """The voxels lose what forgotten keyframes brought, `count` of these."""
        for keyframe_id in self._leaving[:count]:
            self._map.forget(keyframe_id)
        del self._leaving[:count]

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
        depth, labels = view.depth * scale, view.labels
        # As in the map, but what moves is there.
        good = view.reliable(self.config.confidence_drop, self.labels.things[labels])
        good &= depth <= self.config.max_depth_m
        cloud = Cloud(points=view.points[good] * scale, colors=view.colors[good], labels=labels[good],
                      confidence=np.rint(255 * view.confidence[good]).clip(0, 255).astype(np.uint8))
        return MapUpdate(stamp_ns=keyframe.frame.stamp_ns, keyframe_id=keyframe.id, T_map_cam=rigid_of(S_map_cam),
                         T_map_keyframes=self._news(), window_cloud=cloud, K=view.K, depth=depth, labels=labels,
                         confidence=view.confidence, still=view.still, scale=float(scale), seconds=seconds,
                         matches=matches, covariance=self._graph.covariance(keyframe.id), metric=self.metric,
                         map_id=self.map_id, loops=self._graph.loops(), on_floor=self._graph.grounded)

    def _news(self) -> dict[int, np.ndarray]:
        """T_map_cam of the keyframes that have moved since they were last reported."""
        ids, poses = self._graph.ids, rigid_of(self._graph.poses())
        known = np.array([self._reported.get(i, np.full((4, 4), np.inf)) for i in ids])
        change = np.abs(poses - known)
        moved = (change[:, :3, 3].max(axis=1) > MOVED_M) | (change[:, :3, :3].max(axis=(1, 2)) > MOVED_RAD)
        news = {i: T for i, T, new in zip(ids, poses, moved, strict=True) if new}
        self._reported.update(news)
        return news
