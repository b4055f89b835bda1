"""The real node in a process of its own, with a fake network that knows the room of test/mapping/room.py."""
from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "mapping"))

import numpy as np
import torch
from room import FakeNetwork, walk

from lsm_ros.config import PredictorConfig
from lsm_ros.contracts import Keyframe, Window, WindowPrediction
from lsm_ros.labels import LabelSet
from lsm_ros.ros.node import main

WALK = walk(60)


class Lap:
    """Poses by image number, round and round."""

    def __getitem__(self, number: int):
        return WALK[number % len(WALK)]


class FakePredictor:
    """A camera at 10 Hz whose stamps are whole tenths of a second; the tenth says where it is in the room.

    `weights` may name a trouble: "slow 0.5" takes that many seconds a window, "raise 2" raises at the first two of
    them, "memory 2" is out of it for more views than that.
    """

    def __init__(self, config: PredictorConfig):
        self.labels = LabelSet.load()
        self._network = FakeNetwork(Lap(), self.labels, scale=0.02, depth=0.005, pose=0.002, outliers=0.0,
                                    matches=True)
        self._trouble = config.weights.split()
        self._calls = 0

    def __call__(self, window: Window) -> WindowPrediction:
        if self._trouble[:1] == ["slow"]:
            time.sleep(float(self._trouble[1]))
        if self._trouble[:1] == ["raise"] and self._calls < float(self._trouble[1]):
            self._calls += 1
            raise RuntimeError("the network is on fire")
        if self._trouble[:1] == ["memory"] and len(window.keyframes) > int(self._trouble[1]):
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nSee the manual.")
        return self._network(window)

    def describe(self, keyframe: Keyframe) -> np.ndarray:
        """Alike where two images are few steps of the walk apart."""
        apart = np.abs(np.arange(len(WALK)) - keyframe.frame.stamp_ns // 100_000_000 % len(WALK))
        place = np.exp(-np.square(np.minimum(apart, len(WALK) - apart) / 2))
        return place / np.linalg.norm(place)

    def reset(self) -> None:
        pass


if __name__ == "__main__":
    sys.exit(main(make_predictor=FakePredictor))
