"""The network has seen rooms as people see them, so it is shown upright images; the map never learns of it.

Which way is up the frames know, or else the network: it is hardly sure of anything in images that it is shown on their
side. A look costs as much as a few windows, and here and there it is sure of a wrong way. So it is asked only where it
has been unsure for long, and believed once two groups of images that have none in common say the same.
"""
from __future__ import annotations

from collections import deque
from dataclasses import replace

import numpy as np

from lsm_ros.contracts import Frame, Keyframe, Predictor, Window, WindowPrediction
from lsm_ros.data.turning import quarters_of, turn, turned, turned_prediction
from lsm_ros.geometry.sim3 import UP_CV

LEANS = 2 / 3           # of a quarter: a camera that leans by more is shown otherwise; more than half, so that one
                        # that is held at 45 degrees is not turned to and fro
APART = 1 << 48         # between the ids of a keyframe's four ways to be shown: more than there will be keyframes

# Of mean confidences. On a real walk the mean of the last windows' newest views is .39 in the middle, and of the same
# walk turned .00 to .03. Two looks in a row were never both wrong there, from whichever keyframe on; one was in 3 %.
UNSURE = 0.1            # below, the network may see images that are not upright,
MEMORY = 8              # in the mean of so many windows, the last ones counting most
HOPE = 0.15             # what the mean begins with: four windows of which nothing is understood are enough then
GROUP = 4               # keyframes of one look, in each way in one window, and windows from a sure look to the next
CLEAR, TIMES = 0.1, 3.0     # a way is sure with so much, and with so many times what any other has
PATIENCE = 32           # windows, at most, from a look that told nothing to the next; they double up to there


class Upright:
    """Turns images of a camera that is on its side, or upside down, and what the network says of them back, by
    quarters."""

    def __init__(self):
        self._quarters = 0
        self._shape: tuple[int, ...] | None = None     # of the last image
        self.forget()

    def forget(self) -> None:
        """Images to come may be another camera's, or the same one's held as it was."""
        self._told = False             # whether any frame knew its up: then nobody needs to guess
        self._recent: deque[Keyframe] = deque(maxlen=GROUP)
        self._doubt_anew()

    def _doubt_anew(self) -> None:
        self._confidence, self._wait, self._patience = HOPE, 0, GROUP
        self._suspected: int | None = None             # quarters, by a sure look that awaits another

    @property
    def degrees(self) -> int:
        """How far the camera is turned clockwise, seen from behind it: 0, 90, 180 or 270."""
        return 90 * self._quarters

    @property
    def level_up_cam(self) -> np.ndarray:
        """(3,) unit vector up in the camera, if it is level."""
        return turn(self._quarters)[:3, :3].T @ UP_CV

    def hear(self, frame: Frame) -> None:
        """How the camera is held from now on: another one, whose images have another size, upright unless it tells."""
        if frame.image.shape != self._shape:
            self._shape, self._quarters = frame.image.shape, 0
            self.forget()
        self._told |= frame.up_cam is not None
        quarters = None if frame.up_cam is None else quarters_of(frame.up_cam)
        if quarters is not None and abs((quarters - self._quarters + 2) % 4 - 2) > LEANS:
            self._quarters = round(quarters) % 4

    def note(self, keyframe: Keyframe, confidence: float) -> None:
        """How sure the network is of what the newest keyframe shows, in the mean, as it was shown."""
        self._recent.append(keyframe)
        self._confidence += (confidence - self._confidence) / MEMORY
        self._wait -= 1
        if self._confidence >= UNSURE:
            self._suspected, self._patience = None, GROUP

    def reconsider(self, predict: Predictor) -> bool:
        """Looks at the last keyframes in all four ways if nobody tells up and it is time. True: the camera is turned
        otherwise than it seemed, which holds from now on."""
        if self._told or self._confidence >= UNSURE or self._wait > 0 or len(self._recent) < GROUP:
            return False
        self._wait, self._patience = self._patience, min(2 * self._patience, PATIENCE)     # also if the network fails
        sure = [float(predict(Window(tuple(shown(keyframe, way) for keyframe in self._recent))).confidence.mean())
                for way in range(4)]
        *_, second, first = map(int, np.argsort(sure))
        if first == self._quarters:
            self._suspected = None
        if first == self._quarters or not sure[first] > max(CLEAR, TIMES * sure[second]):
            return False
        if first != self._suspected:
            self._suspected, self._wait, self._patience = first, GROUP, GROUP
            return False
        self._quarters = first
        self._doubt_anew()
        return True

    def shown(self, keyframe: Keyframe) -> Keyframe:
        return shown(keyframe, self._quarters)

    def shown_window(self, window: Window) -> Window:
        return replace(window, keyframes=tuple(map(self.shown, window.keyframes)))

    def back(self, prediction: WindowPrediction) -> WindowPrediction:
        """What is predicted of a shown window, of the cameras as they are."""
        return turned_prediction(prediction, self._quarters)


def shown(keyframe: Keyframe, quarters: int) -> Keyframe:
    """As the network gets it of a camera that is turned so: under another id for each way, for tokens are kept by
    ids."""
    return Keyframe(keyframe.id + quarters * APART, turned(keyframe.frame, -quarters))
