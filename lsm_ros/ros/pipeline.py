"""Message -> Frame -> Mapper -> topics: what the worker's thread does with one image."""
from __future__ import annotations

import time
import traceback
from dataclasses import asdict, replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rclpy.clock import Clock

from lsm_ros.contracts import Frame, MapUpdate, elongated
from lsm_ros.data.images import Levels
from lsm_ros.data.outputs import Run, RunLog, save_run
from lsm_ros.errors import InputError, LsmError
from lsm_ros.geometry.frame_tree import JUMP_BACK_NS
from lsm_ros.labels import LabelSet, embed, read_entry
from lsm_ros.mapping.counters import Counters
from lsm_ros.mapping.mapper import Mapper
from lsm_ros.mapping.odometry import FASTEST
from lsm_ros.mapping.query import QueryResult
from lsm_ros.mapping.saved_map import FILE, read_map, write_map
from lsm_ros.memory import give_back, memory_mb
from lsm_ros.model.engine import NetworkPredictor
from lsm_ros.ros.conversions import image_to_array, stamp_ns
from lsm_ros.ros.diagnostics import Health, map_values
from lsm_ros.ros.inputs import Inputs
from lsm_ros.ros.intake import Work
from lsm_ros.ros.parameters import NodeOptions
from lsm_ros.ros.publishers import Publishers
from lsm_ros.ros.queries import QueryPublisher
from lsm_ros.ros.transforms import MapOdomPublisher

JUMP_AHEAD_NS = 3600 * 10**9    # one image that far ahead may have a wrong stamp; two agree that it was a pause
FEWEST_VIEWS = 2                # of a window
LONGEST_PATH = 4096             # Linux's own limit
MOST_CLASSES = 1000             # of set_classes; a million voxels then take 4 GB
QUERY_THRESHOLD = 0.5           # of a query that names none
GIVE_BACK_EVERY = 64            # windows; it takes 4 ms, and in an hour the node gains a hundred MB without it
PLAUSIBLE_AGE_S = 60.0          # an older image has a stamp of another clock, so its age says nothing
WIDE_BORDER = 0.125             # of the image; narrower ones cost next to nothing


class Pipeline:
    """Owns the mapper. Every method but `__init__` runs on the worker's thread."""

    def __init__(self, predictor: NetworkPredictor, inputs: Inputs, publishers: Publishers,
                 map_odom: MapOdomPublisher, answers: QueryPublisher, health: Health, clock: Clock,
                 options: NodeOptions):
        self.mapper = Mapper(predictor, predictor.labels, options.mapper, predictor.describe)
        self.options = options
        self.state = "waiting"                          # waiting, tracking, weak, still, dark, refused or lost
        self.matches: int | None = None                 # behind the last window's pose
        self.camera: dict[str, str] = {}                # the input as the diagnostics show it
        self.world: dict[str, Any] = {}                 # and the map
        self._predictor, self._inputs, self._health, self._clock = predictor, inputs, health, clock
        self._publishers, self._map_odom, self._answers = publishers, map_odom, answers
        self._levels = Levels()
        self._log = RunLog()
        self._map_id: int | None = None                 # of the newest window, or of a map that was taken up since
        self._T_map_cam: np.ndarray | None = None       # of the newest keyframe; None where it has no place in the map
        self._shape: tuple[int, ...] | None = None      # of the images in the map
        self._camera_shape: tuple[int, ...] | None = None       # of the newest image, whatever became of the map
        self._stamp: int | None = None                  # of the newest image, and of the one before it
        self._stamp_before: int | None = None
        self._odd: tuple[tuple[int, ...], int] | None = None    # shape and stamp of the last image, refused for them
        self._most_views = options.mapper.window_views  # fewer than wanted once the device was out of memory

    def handle(self, work: Work) -> None:
        """Maps one image. Whatever goes wrong with it is counted, told and over: the next image comes."""
        try:
            self._map(work)
        except InputError as error:
            self._health.problem("images_refused", str(error))
        except LsmError as error:
            self._health.problem("windows_failed", str(error))
        except (torch.cuda.OutOfMemoryError, MemoryError) as error:
            self._spare_memory(error)
        except Exception as error:          # noqa: BLE001 the node outlives it
            self._health.problem("worker_exceptions", repr(error), traceback.format_exc())

    def configure(self, options: NodeOptions) -> None:
        """Takes parameters that were changed while running; what the map's topics latch follows them."""
        if options != self.options:
            self._publishers.map_changed(self._stamp)
        if options.mapper.window_views != self.options.mapper.window_views:
            self._most_views = options.mapper.window_views
        self.options = options
        self.mapper.configure(replace(options.mapper, window_views=min(self._most_views, options.mapper.window_views)))

    @property
    def views(self) -> str:
        """In a window, for the diagnostics."""
        wanted, used = self.options.mapper.window_views, self.mapper.config.window_views
        return str(used) if used == wanted else f"{used} instead of {wanted}: out of memory"

    def _spare_memory(self, error: Exception) -> None:
        """Windows of a view less from now on. What the network keeps of frames it makes anew when it needs them."""
        used = self.mapper.config.window_views
        self._most_views = max(FEWEST_VIEWS, used - 1)
        self._predictor.reset()
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()
        self.configure(self.options)
        then = f"windows have {self._most_views} views instead of {used} from now on" if self._most_views < used else \
            f"windows have {used} views already, the fewest there are"
        self._health.problem("out_of_memory", f"{then}: {str(error).splitlines()[0] if str(error) else repr(error)}")

    def reset(self) -> None:
        """Forgets the map and starts again with the next image."""
        self.mapper.reset()
        self._begin_anew()

    def _begin_anew(self) -> None:
        """The mapper has another map, or none, and knows nothing of the images to come."""
        self._predictor.reset()
        self._show_no_map(self._stamp)
        self._log, self._T_map_cam = RunLog(), None
        self._shape, self._stamp, self._stamp_before, self._odd = None, None, None, None
        self.state, self.matches = "waiting", None

    def _show_no_map(self, stamp: int | None) -> None:
        """The map of before is gone; the next window begins another."""
        self._publishers.map_changed(stamp, anew=True)
        self._map_odom.forget()
        self._answers.forget()
        self.world = {}

    def publish_map(self) -> None:
        """The fused map, its path and its objects, where they are read and have changed."""
        try:
            start = time.perf_counter()
            self._publishers.publish_map(self.mapper, self.options)
            self._health.timed({"map_publication": time.perf_counter() - start})
        except InputError as error:
            self._health.problem("maps_unpublished", str(error))
        except Exception as error:          # noqa: BLE001 the node outlives it
            self._health.problem("worker_exceptions", repr(error), traceback.format_exc())

    def save(self, folder: str) -> str:
        """Writes the map: the files of `lsm map`, and the one that `load` reads. Returns the folder's absolute path.

        A camera that was given up and has not begun another map goes back to the largest of those that wait for it.

        Raises OutputError where nothing is mapped yet or the folder can't be written, InputError for what is no path.
        """
        path = _path(folder or f"lsm_map_{datetime.now(timezone.utc):%Y%m%d_%H%M%S}")
        mapper = self.mapper
        gone_back = not mapper.keyframes and mapper.take_largest()
        mapper.settle()
        self._publishers.map_changed(self._stamp, anew=gone_back)
        if gone_back:
            self.state, self.world, self._map_id = "lost", map_values(mapper), mapper.map_id
        elif mapper.waiting_keyframes > mapper.keyframes:
            self._health.problem("maps_unsaved", f"the map of now is saved, {mapper.keyframes} keyframes; one of "
                                 f"{mapper.waiting_keyframes} is not, and waits until the camera sees its place again")
        save_run(path, Run(
            mapper.map_cloud(), mapper.trajectory(), mapper.objects(), mapper.labels, title=path.name,
            samples=self._log.samples(),
            summary={"counters": {**self._health.snapshot()["counts"], **asdict(mapper.counters)},
                     "latency_s": self._log.latency(), "memory": memory_mb()}),
            also={FILE: partial(write_map, state=mapper.state())})
        return str(path)

    def load(self, folder: str) -> str:
        """Takes a map that `save` wrote in place of the present one. Returns what was loaded.

        Raises InputError where there is none that can be read, or where the camera's images have another size than the
        map's, AlignmentError where it lies beyond all voxels, and the present map stays.
        """
        if not folder:
            raise InputError("folder is empty; it must name the folder of a saved map")
        state = read_map(_path(folder), self.mapper.labels)
        if self._camera_shape not in (None, state.image_shape):
            raise InputError(f"the map's images are {_size(state.image_shape)}, the camera's "
                             f"{_size(self._camera_shape)}; it can only go on with images of its own size")
        self.mapper.restore(state)
        self._begin_anew()
        self._shape = state.image_shape
        self.state = "lost"                             # until the camera recognises where it is
        self.world, self._map_id = map_values(self.mapper), self.mapper.map_id
        self._publishers.map_changed(max(stamp for stamp, _ in self.mapper.trajectory()), anew=True)
        most = self.options.mapper.max_keyframes
        return (f"{len(state.views)} keyframes, {len(self.mapper.map_cloud())} voxels, {len(self.mapper.labels)} labels"
                + f"; as soon as mapping goes on all but mapper.max_keyframes = {most} of them are forgotten"
                * (len(state.views) > most))

    def set_classes(self, names: list[str]) -> str:
        """Labels the map in other words; none: those that the node was started with. Returns what they are.

        Raises InputError for a word without embedding and ConfigError for one that stands twice; nothing changes then.
        """
        own = self._predictor.labels
        if len(names) > MOST_CLASSES:
            raise InputError(f"{len(names)} classes; at most {MOST_CLASSES} are taken, each costs 4 bytes a voxel")
        labels = LabelSet.from_entries([_entry(name, own) for name in names]) if names else own
        self._publishers.relabel(labels)
        self.mapper.relabel(labels)
        self._log = RunLog()                            # the frames that it keeps show the labels of before
        self._publishers.map_changed(self._stamp)
        return f"{len(labels)} classes: {', '.join(labels.names)}"

    def query(self, text: str, threshold: float) -> QueryResult:
        """Where in the map the words are meant; also goes out on query_cloud. `threshold` 0 takes the usual one.

        Raises InputError for words without embedding, or that all labels mean, a threshold that is no probability, and
        an empty map.
        """
        if not text.strip():
            raise InputError("text is empty; it must say what is looked for")
        if not 0 <= threshold <= 1:
            raise InputError(f"threshold {threshold:g} is no probability, 0 to 1")
        if not self.mapper.trajectory():
            raise InputError("nothing is mapped yet")
        result = self.mapper.query(embed([text]), threshold or QUERY_THRESHOLD)
        self._answers.publish(result, self._stamp or max(stamp for stamp, _ in self.mapper.trajectory()),
                              self.options.node.map_frame)
        return result

    def _map(self, work: Work) -> None:
        started_s = time.perf_counter()
        stamp = stamp_ns(work.message.header.stamp)
        frame = self._frame(work, stamp)
        decoded_s = time.perf_counter()
        if not elongated(frame.image.shape):            # the mapper refuses it, whatever else is odd about it
            self._follow_stream(frame.image.shape, stamp)
        before, unwatched = replace(self.mapper.counters), self.mapper.unwatched
        seconds = {"wait": started_s - work.received_s, "decode": decoded_s - started_s}

        def publish(update: MapUpdate) -> None:
            mapped_s = time.perf_counter()
            if not work.frame_id:
                self._health.problem("frame_ids_missing", "the images have no frame_id, so TF can't place the clouds; "
                                     "the driver must name the camera's optical frame (x right, y down, z forward)")
            if update.map_id != self._map_id:           # nothing ties what was told of the map before to this one
                self._map_odom.forget()
                self._answers.forget()
                self._map_id = update.map_id
            self._map_odom.correct(update.T_map_cam, frame.T_odom_cam)
            self._publishers.publish_update(update, work.frame_id, self._options_for_update())
            seconds.update(mapper=mapped_s - decoded_s, image_to_cloud=time.perf_counter() - work.received_s)
            age_s = (self._clock.now().nanoseconds - stamp) * 1e-9
            if abs(age_s) < PLAUSIBLE_AGE_S:
                seconds["stamp_to_cloud"] = age_s

        mapped = self.mapper.map_id
        standing, self._T_map_cam = self._T_map_cam, None
        try:
            update = self.mapper.push(frame, publish)
        except InputError:                              # of an image that was not looked at
            self._T_map_cam = standing
            raise
        jumped = self.mapper.counters.odometry_jumps > before.odometry_jumps
        if jumped:
            self._health.problem("odometry_jumps", "odometry moved by more than {:g} m/s or {:g} rad/s off its speed "
                                 "before, or otherwise than the images after a pause, so it is taken to have begun "
                                 "anew: what it told until then is left out".format(*FASTEST))
        self._tell_of_border()
        if self.mapper.turned:
            self.camera["turned"] = f"{self.mapper.turned} degrees clockwise; the network sees its images upright"
        if update is None:
            self.state = self._state_without_update(before)
            if self.mapper.map_id != mapped:            # given up
                self._show_no_map(stamp)
                self._map_id = self.mapper.map_id
            if self.state in ("still", "dark"):         # still that keyframe's view, or none
                self._T_map_cam = standing
            if self.state == "still" and standing is not None:
                # Where odometry begins anew under a robot that stands, no window says so until it moves.
                anew = jumped or (self.mapper.unwatched and not unwatched)
                (self._map_odom.correct if anew else self._map_odom.begin)(standing, frame.T_odom_cam)
            elif jumped:                                # what tied the map to the odometry of before ties it to nothing
                self._map_odom.forget()
            return
        self._T_map_cam = update.T_map_cam
        self.matches, self.world = update.matches, map_values(self.mapper)
        self.state = "weak" if update.matches == 0 else "tracking"
        self._publishers.map_changed(update.stamp_ns)
        seconds |= update.seconds
        self._health.mapped(seconds)
        self._log.add(frame, replace(update, seconds=seconds))
        if self.mapper.counters.windows % GIVE_BACK_EVERY == 0:
            give_back()

    def _options_for_update(self) -> NodeOptions:
        """The camera's estimate is not sent where its frame is somebody else's: a frame has one parent."""
        node = self.options.node
        parent = self._inputs.parent(node.camera_frame) if node.tf_mode == "estimates" else None
        if parent is None:
            return self.options
        self._health.problem("camera_frame_refused", f"{node.map_frame} -> {node.camera_frame} is not sent: somebody "
                             f"else publishes {parent} -> {node.camera_frame}; camera_frame is the estimate's own, "
                             "and must be a new one")
        return replace(self.options, node=replace(node, tf_mode="none"))

    def _tell_of_border(self) -> None:
        share = self.mapper.border
        if share:
            self.camera["border"] = f"{share:.0%} of the image"
        if share > WIDE_BORDER:
            self._health.problem("borders", f"a border of one colour fills {share:.0%} of the images; "
                                 "so much of it costs accuracy: cut it off before, and out of the camera_info")

    def _state_without_update(self, before: Counters) -> str:
        now = self.mapper.counters
        if now.refused_windows > before.refused_windows:
            self._health.problem("windows_refused", self.mapper.last_refusal)
            return "lost" if self.mapper.lost else "refused"
        if now.dark_frames > before.dark_frames:
            return "dark"
        return "lost" if self.mapper.lost else "still"  # a camera that stands and is lost has no place, all the same

    def _frame(self, work: Work, stamp: int) -> Frame:
        image, K = image_to_array(work.message, self._levels), None
        if work.rectify is not None:
            try:
                image, K = work.rectify(image)
            except InputError as error:
                self._health.problem("camera_info_refused", f"{error}; the network estimates the intrinsics")
        frame = self._inputs.complete(Frame(stamp, image, K), work.frame_id,
                                      None if K is None else work.rectify, self.options.node.input_wait_s)
        height, width = image.shape[:2]
        self.camera = {"size": f"{width}x{height}", "frame_id": work.frame_id,
                       "encoding": getattr(work.message, "encoding", None) or work.message.format,
                       "intrinsics": "estimated" if K is None else "camera_info", **self._inputs.shown}
        return frame

    def _follow_stream(self, shape: tuple[int, ...], stamp: int) -> None:
        """Begins the map anew where the images are another stream's: of another size, or with stamps that jumped back.

        One such image may be a mistake, as may one whose stamp is far ahead, so it is left out (InputError); it counts
        once the next one goes on from there. Stamps that jumped ahead were a pause, and the map goes on; so it does
        where they go on from before such a jump, which then was one image's mistake.
        """
        if self._stamp_before is not None and self._stamp_before < stamp < self._stamp - JUMP_BACK_NS:
            ahead_s = (self._stamp - stamp) * 1e-9
            self._health.problem("stray_stamps", f"the stamp of the image before was {ahead_s:.3f} s ahead, of that "
                                 "image alone; the map goes on")
            self._stamp = self._stamp_before
            self.mapper.step_back(self._stamp)
        change, counter = self._change(shape, stamp)
        if change and not (self._odd and self._odd[0] == shape and 0 < stamp - self._odd[1] <= JUMP_AHEAD_NS):
            self._odd = shape, stamp
            raise InputError(f"{change}; the image is left out, and the map "
                             f"{'starts again' if counter else 'goes on'} if the next one says so too")
        if counter:
            self._health.problem(counter, f"{change}; the map starts again, and a saved one stays in its folder")
            self.reset()
        self._odd = None
        self._shape = self._camera_shape = shape
        if self._stamp is None or stamp > self._stamp:
            self._stamp_before, self._stamp = self._stamp, stamp

    def _change(self, shape: tuple[int, ...], stamp: int) -> tuple[str, str]:
        """What is another stream's about an image, and the counter of what begins the map anew; empty: nothing is."""
        if self._shape not in (None, shape):
            return f"the images changed from {_size(self._shape)} to {_size(shape)}", "resolution_changes"
        if self._stamp is None:
            return "", ""
        if stamp < self._stamp - JUMP_BACK_NS:
            return f"the stamps jumped back by {(self._stamp - stamp) * 1e-9:.3f} s to {stamp} ns", "time_jumps_back"
        if stamp > self._stamp + JUMP_AHEAD_NS:
            return f"the stamps jumped ahead by {(stamp - self._stamp) * 1e-9:.0f} s to {stamp} ns", ""
        return "", ""


def _entry(name: str, known: LabelSet) -> dict[str, Any]:
    """A class of set_classes; one that the node was started with keeps its colour, its kind and its synonyms."""
    if name not in known.names:
        return read_entry(name, Path("set_classes"))
    i = known.index(name)
    return {"name": name, "color": known.colors[i].tolist(), "thing": bool(known.things[i]),
            "synonyms": list(known.words[i][1:])}


def _path(name: str) -> Path:
    """Raises InputError for a name that is no path."""
    if len(name) > LONGEST_PATH:
        raise InputError(f"a path of {len(name)} letters, {name[:40]!r} ...; {LONGEST_PATH} are the most")
    try:
        return Path(name).expanduser().absolute()
    except (RuntimeError, ValueError, OSError) as error:        # ~nobody, a NUL
        raise InputError(f"{name!r} is no path: {error}") from error


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]}"
