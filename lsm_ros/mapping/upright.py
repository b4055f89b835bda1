"""The network has seen rooms as people see them, so it is shown upright images; the map never learns of it."""
from __future__ import annotations

from dataclasses import replace

from lsm_ros.contracts import Frame, Keyframe, Window, WindowPrediction
from lsm_ros.data.turning import quarters_of, turned, turned_prediction

LEANS = 2 / 3           # of a quarter: a camera that leans by more is shown otherwise; more than half, so that one
                        # that is held at 45 degrees is not turned to and fro
APART = 1 << 48         # between the ids of a keyframe's four ways to be shown: more than there will be keyframes


class Upright:
    """Turns images of a camera that is on its side, or upside down, and what the network says of them back, by quarters
    and as far as the frames know their up."""

    def __init__(self):
        self._quarters = 0

    @property
    def degrees(self) -> int:
        """How far the camera is turned clockwise, seen from behind it: 0, 90, 180 or 270."""
        return 90 * self._quarters

    def hear(self, frame: Frame) -> None:
        """How the camera is held from now on."""
        quarters = None if frame.up_cam is None else quarters_of(frame.up_cam)
        if quarters is not None and abs((quarters - self._quarters + 2) % 4 - 2) > LEANS:
            self._quarters = round(quarters) % 4

    def shown(self, keyframe: Keyframe) -> Keyframe:
        """As the network gets it: under another id for each way that it is turned, for tokens are kept by ids."""
        return Keyframe(keyframe.id + self._quarters * APART, turned(keyframe.frame, -self._quarters))

    def shown_window(self, window: Window) -> Window:
        return replace(window, keyframes=tuple(map(self.shown, window.keyframes)))

    def back(self, prediction: WindowPrediction) -> WindowPrediction:
        """What is predicted of a shown window, of the cameras as they are."""
        return turned_prediction(prediction, self._quarters)
