"""Where a keyframe lies in the map: its window, what the network and the images say of it, and who is believed."""
from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from lsm_ros.config import MapperConfig
from lsm_ros.contracts import Keyframe, Predictor, Window
from lsm_ros.data.borders import without_borders
from lsm_ros.errors import AlignmentError
from lsm_ros.geometry.sim3 import inverse, rigid_of, scaling, sim3, upright
from lsm_ros.mapping.counters import Counters, Stopwatch
from lsm_ros.mapping.graph import PoseGraph, Travel
from lsm_ros.mapping.loops import ALIKE, recognised
from lsm_ros.mapping.odometry import contradicts, travelled
from lsm_ros.mapping.refinement import PoseRefiner, Refinement, unrefined
from lsm_ros.mapping.registration import Registration, check_prediction, register
from lsm_ros.mapping.upright import Upright
from lsm_ros.mapping.views import View
from lsm_ros.mapping.windows import Selection, reach, select_window

MOST_CARRIED = 12          # windows in a row that odometry alone may place


class Located(NamedTuple):
    """A window that lies somewhere in the map."""
    window: Window
    refinement: Refinement
    registration: Registration
    travel: Travel | None      # what odometry says of the way to it, where that is believed

    @property
    def S_map_newest(self) -> np.ndarray:
        """(4, 4) of the newest keyframe."""
        return self.registration.S_map_window @ self.refinement.prediction.T_window_cam[-1]


@dataclass(frozen=True)
class Known:
    """The map in which a keyframe is looked for."""
    graph: PoseGraph
    views: dict[int, View]
    alike: list[tuple[int, float]]     # keyframes with their likeness to the one that is looked for, the best first
    metric: float = 1.0                # metres per unit of the network
    lost: bool = False                 # whether the camera may be anywhere
    unwatched: bool = False            # whether odometry since the newest of them has a gap, in which it may begin anew


class Locator:
    """Asks the network about windows, corrects what it says by the images, and puts them where they belong."""

    def __init__(self, predict: Predictor, config: MapperConfig, counters: Counters, upright: Upright):
        self._predict, self._config, self._counters, self._upright = predict, config, counters, upright
        self._refine = PoseRefiner()
        self._carried_in_a_row = 0

    def configure(self, config: MapperConfig) -> None:
        self._config = config

    def reset(self) -> None:
        """Odometry may be believed anew: another map has begun."""
        self._carried_in_a_row = 0

    def expect(self, keyframe: Keyframe) -> None:
        """Begins with what can be done beside the network."""
        if self._config.refine_poses:
            self._refine.look_at(keyframe)

    def reconsider(self, clock: Stopwatch) -> bool:
        """Whether the camera turns out to be turned otherwise than it seemed, by what the network says."""
        turned = self._upright.reconsider(self._predict)
        clock.lap("network")
        return turned

    def locate(self, keyframe: Keyframe, known: Known, clock: Stopwatch) -> Located:
        """The keyframe's window, and where it lies: beside the keyframes before it; where these do not hold it, where
        odometry takes it; or, if there is none, in another place of the map that it looks like. Raises AlignmentError
        if it lies nowhere.
        """
        travel = self._travel(keyframe, known)
        selection, refinement = self.ask(keyframe, known, known.lost, clock)
        self._upright.note(keyframe, float(refinement.prediction.confidence[-1].mean()))
        try:
            return self._place(selection, refinement, known, travel)
        except AlignmentError as refusal:
            why = str(refusal)             # not the error itself, which would hold this frame, and in it the map
        finally:
            clock.lap("alignment")
        if travel is None and self._elsewhere(known):
            try:
                return self._place(*self.ask(keyframe, known, True, clock), known, None)
            except AlignmentError:
                pass                                   # what looks like it is another place
            finally:
                clock.lap("alignment")
        if travel is None or self._carried_in_a_row >= MOST_CARRIED:
            raise AlignmentError(why)
        return self._carry(selection.window, unrefined(refinement.prediction), known, travel)

    def ask(self, keyframe: Keyframe, known: Known, lost: bool, clock: Stopwatch) -> tuple[Selection, Refinement]:
        """The keyframe's window, and what the network and the images say of it. Raises AlignmentError for a prediction
        that is no geometry."""
        selection = select_window(keyframe, known.views, known.graph, self._config.window_views, lost, known.alike)
        clock.lap("window")
        prediction = self._upright.back(self._predict(self._upright.shown_window(selection.asked(not known.unwatched))))
        clock.lap("network")
        check_prediction(prediction, len(selection.window.keyframes))
        prediction = without_borders(prediction, selection.window)
        if not self._config.leave_out_moving:
            prediction = replace(prediction, moving=None)
        refinement = self._refine(selection.window, prediction) if self._config.refine_poses else unrefined(prediction)
        clock.lap("refinement")
        return selection, refinement

    def register(self, selection: Selection, refinement: Refinement, known: Known) -> Registration:
        """Where the window lies by what it shows; the first one of a map stands upright. Raises AlignmentError if it
        has no place in the map."""
        ids = [keyframe.id for keyframe in selection.window.keyframes]
        if len(ids) > 1:
            return register(ids, refinement, known.views, known.graph, self._config, selection.old, selection.lost)
        return Registration(S_map_window=sim3(upright(self._upright.level_up_cam), np.zeros(3)), units={ids[0]: 1.0},
                            refused=(), edges=())

    def _elsewhere(self, known: Known) -> bool:
        """Whether a camera that is not lost sees what looks like a place of the map where it was not just now."""
        recent = known.graph.ids[-reach(self._config.window_views):]
        return not known.lost and bool(known.alike) and known.alike[0][1] >= ALIKE and known.alike[0][0] not in recent

    def _place(self, selection: Selection, refinement: Refinement, known: Known, travel: Travel | None) -> Located:
        """Raises AlignmentError if the window has no place in the map, or if `travel` says otherwise and has not been
        believed too often: who is lifted turns no wheel. Nor is it believed across a gap against images that match the
        keyframe before it beyond doubt: who starts a robot's driver again sets its odometry back."""
        registration = self.register(selection, refinement, known)
        if travel is not None:
            S_map_newest = registration.S_map_window @ refinement.prediction.T_window_cam[-1]
            said = [edge for edge in registration.edges if (edge.i, edge.j) == (travel.i, travel.j)]
            if not any(contradicts(edge, travel, known.graph.pose(travel.i), S_map_newest) for edge in said):
                self._carried_in_a_row = 0
            elif known.unwatched and self._matches(selection.window, refinement, travel.i):
                self._counters.odometry_jumps += 1
                travel = None
            elif self._carried_in_a_row < MOST_CARRIED:
                raise AlignmentError("the images say something else than odometry")
            else:
                travel = None
        return Located(selection.window, refinement, registration, travel)

    def _matches(self, window: Window, refinement: Refinement, keyframe_id: int) -> bool:
        """Whether the newest view of a window shows the place of one of its keyframes beyond doubt."""
        ids = [keyframe.id for keyframe in window.keyframes]
        return recognised(refinement.prediction, refinement.support, ids.index(keyframe_id), len(ids) - 1)

    def _carry(self, window: Window, refinement: Refinement, known: Known, travel: Travel) -> Located:
        """The newest keyframe where odometry takes it, tied to nothing else."""
        self._counters.carried_windows += 1
        self._carried_in_a_row += 1
        T_window_cam = refinement.prediction.T_window_cam
        S_map_newest = rigid_of(known.graph.pose(travel.i)) @ travel.T_i_j @ scaling(known.metric)
        registration = Registration(S_map_newest @ inverse(T_window_cam[-1]), units={window.keyframes[-1].id: 1.0},
                                    refused=(), edges=())
        return Located(window, refinement, registration, travel)

    def _travel(self, newest: Keyframe, known: Known) -> Travel | None:
        """What odometry says of the way from the last mapped keyframe to the newest; None: it has no say."""
        if not known.views or known.lost or self._config.scale_source not in ("auto", "odometry"):
            return None
        return travelled(known.views[known.graph.ids[-1]].keyframe, newest)
