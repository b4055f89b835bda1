"""The maps that wait: a camera that stays lost begins another, and the one before is kept until it is seen again."""
from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from lsm_ros.contracts import Keyframe
from lsm_ros.errors import AlignmentError
from lsm_ros.geometry.sim3 import inverse, scaling
from lsm_ros.mapping.counters import Stopwatch
from lsm_ros.mapping.ground import correct_heights
from lsm_ros.mapping.locating import Known, Locator
from lsm_ros.mapping.loops import ALIKE, Places
from lsm_ros.mapping.saved_map import MapState

MOST = 4                   # maps that wait, if no more than max_keyframes wait in them; the oldest one goes


@dataclass(frozen=True)
class Waiting:
    """A map that was put away."""
    map_id: int
    state: MapState
    places: Places


class Atlas:
    """The waiting maps, and whether a keyframe of the present one shows a place of theirs."""

    def __init__(self, max_keyframes: int):
        self._maps: list[Waiting] = []
        self.configure(max_keyframes)

    def __len__(self) -> int:
        return len(self._maps)

    @property
    def most_keyframes(self) -> int:
        """Of the largest map that waits; 0: none does."""
        return max((len(waiting.state.views) for waiting in self._maps), default=0)

    def configure(self, max_keyframes: int) -> None:
        """So many keyframes wait at most, all maps together; the newest map waits whole in any case."""
        self._max_keyframes = max_keyframes
        self._bound()

    def clear(self) -> None:
        self._maps.clear()

    def correct_heights(self, wrong_m: float, camera_height_m: float) -> None:
        """Of cameras whose frames do not know theirs."""
        for waiting in self._maps:
            correct_heights(waiting.state.graph, waiting.state.views, wrong_m, camera_height_m)

    def put_away(self, map_id: int, state: MapState) -> None:
        self._maps.append(Waiting(map_id, state, Places(state.places)))
        self._bound()

    def take_larger(self, keyframes: int) -> Waiting | None:
        """The largest one, which waits no longer; None: none has more than so many keyframes."""
        if self.most_keyframes <= keyframes:
            return None
        largest = max(self._maps, key=lambda waiting: len(waiting.state.views))
        self._maps.remove(largest)
        return largest

    def _bound(self) -> None:
        """The oldest maps go."""
        while len(self._maps) > MOST or len(self._maps) > 1 and \
                sum(len(waiting.state.views) for waiting in self._maps) > self._max_keyframes:
            del self._maps[0]

    def join(self, present: MapState, keyframe: Keyframe, place: np.ndarray, locator: Locator, clock: Stopwatch
             ) -> Waiting | None:
        """The waiting map whose place a mapped keyframe shows, with the `present` map put into it; None: there is none.

        The network is asked once for each map that has a keyframe like it. A window's images have one size: a map of
        others waits on.
        """
        for waiting in self._maps:
            if waiting.state.image_shape != present.image_shape:
                continue
            graph, views = waiting.state.graph, waiting.state.views
            alike = waiting.places.most_alike(place, graph.ids)
            if not alike or alike[0][1] < ALIKE:
                continue
            known = Known(graph, views, alike, lost=True)
            try:
                selection, refinement = locator.ask(keyframe, known, True, clock)
                found = locator.register(selection, refinement, known)
            except AlignmentError:
                continue
            prediction = refinement.prediction
            if prediction.matches is None:         # then nothing but the depth agrees, which is not enough to join maps
                continue
            ratio = present.views[keyframe.id].unit_ratio(prediction.depth[-1])
            S_map_cam = found.S_map_window @ prediction.T_window_cam[-1] @ scaling(1 / ratio)
            in_its_unit = np.repeat([ratio, 1], [3, 4])         # its shifts; the window has a unit of its own
            ties = [replace(edge, S_i_j=edge.S_i_j @ scaling(1 / ratio), sigma=edge.sigma * in_its_unit, loop=True)
                    for edge in found.edges if edge.j == keyframe.id]
            joined = graph.copy()                  # the one that waits stays whole if there is no solution
            joined.absorb(present.graph, S_map_cam @ inverse(present.graph.pose(keyframe.id)))
            joined.connect(ties)
            try:
                joined.optimise(loop=True)
            except AlignmentError:
                continue
            self._maps.remove(waiting)
            return replace(waiting, state=replace(waiting.state, graph=joined, views=views | present.views,
                                                  places=[*waiting.places.items(), *present.places]))
        return None
