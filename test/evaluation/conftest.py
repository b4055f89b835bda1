"""A small sequence with truth, and a predictor that knows it."""
from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from lsm_ros.contracts import Window, WindowPrediction
from lsm_ros.data.sequences import FolderSequence
from lsm_ros.evaluation.metrics import at_grid
from lsm_ros.geometry.camera import scale_intrinsics
from lsm_ros.geometry.sim3 import exp_so3, sim3
from lsm_ros.labels import LabelSet

FRAMES, WIDTH, HEIGHT = 12, 80, 60


@pytest.fixture
def folder(tmp_path) -> Path:
    """12 frames of 80x60 in the truth layout; frame 7 has lost its pose."""
    root = tmp_path / "sequence"
    for kind in ("color", "depth", "pose", "label"):
        (root / kind).mkdir(parents=True)
    rng = np.random.default_rng(0)
    np.savetxt(root / "intrinsics.txt", [[70, 0, 39.5], [0, 70, 29.5], [0, 0, 1]])
    for i in range(FRAMES):
        cv2.imwrite(str(root / f"color/{i:06}.jpg"), rng.integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8))
        depth = rng.integers(1000, 4000, (HEIGHT, WIDTH), np.uint16)
        depth[:5] = 0
        cv2.imwrite(str(root / f"depth/{i:06}.png"), depth)
        cv2.imwrite(str(root / f"label/{i:06}.png"), rng.integers(0, 40, (HEIGHT, WIDTH), np.uint8))
        pose = sim3(exp_so3(rng.normal(size=3)), rng.normal(size=3))
        np.savetxt(root / f"pose/{i:06}.txt", np.full((4, 4), -np.inf) if i == 7 else pose)
    return root


class TruthPredictor:
    """Predicts what is true of the frames of a folder, with lengths multiplied by `scale`."""

    def __init__(self, folder: Path, scale: float = 1.0):
        self.frames, self.scale = FolderSequence(folder), scale
        self.labels, self.device = LabelSet.load(), torch.device("cpu")
        self.shown_K: list[bool] = []

    def reset(self) -> None:
        pass

    def predict_batch(self, windows: list[Window]) -> list[WindowPrediction]:
        return [self(window) for window in windows]

    def __call__(self, window: Window) -> WindowPrediction:
        self.shown_K += [keyframe.frame.K is not None for keyframe in window.keyframes]
        truth = [self.frames[keyframe.id] for keyframe in window.keyframes]
        T = np.stack([frame.T_world_cam for frame in truth])
        T = np.linalg.inv(T[0]) @ T
        T[:, :3, 3] *= self.scale
        h, w = HEIGHT // 2, WIDTH // 2
        depth = np.stack([at_grid(frame.depth, h, w) for frame in truth]) * np.float32(self.scale)
        classes = np.stack([at_grid(frame.labels, h // 2, w // 2) for frame in truth])
        K = scale_intrinsics(self.frames.K, (WIDTH, HEIGHT), (w, h))
        return WindowPrediction(depth=np.nan_to_num(depth, nan=9.0), confidence=np.ones_like(depth),
                                K=np.stack([K] * len(truth)), T_window_cam=T, scale=self.scale,
                                semantics=self.labels.embeddings[classes])


@pytest.fixture
def truth_predictor() -> type[TruthPredictor]:
    return TruthPredictor
