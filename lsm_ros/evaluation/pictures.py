"""A picture of one window: its images, their predicted and true depth, their labels, and how wrong they are."""
from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from lsm_ros.contracts import WindowPrediction
from lsm_ros.data.pictures import contact_sheet, depth_picture, label_picture
from lsm_ros.errors import OutputError
from lsm_ros.evaluation.datasets import TruthWindow
from lsm_ros.evaluation.scores import WindowScore, classify
from lsm_ros.labels import LabelSet


def save_pictures(path: Path, truth: TruthWindow, prediction: WindowPrediction, score: WindowScore, labels: LabelSet,
                  title: str) -> None:
    """Writes a PNG with one row a view. Raises OutputError."""
    panels, captions = [], []
    for view, classes in enumerate(classify(prediction, labels)):
        image = truth.window.keyframes[view].frame.image
        true_depth, near, far = depth_picture(truth.depth[view])
        scale = score.depth.scale if score.depth else 1.0
        depth, *_ = depth_picture(prediction.depth[view] / scale, near, far)
        panels += [image, depth, true_depth, label_picture(image, classes.astype(np.uint16), labels)]
        error = "reference" if view == 0 else (f"rotation {score.first.rotation[view - 1]:.1f}°, "
                                               f"translation {score.first.translation[view - 1]:.0f}° wrong")
        captions += [f"view {view + 1}: {error}", "depth, scaled by its median", f"truth, {near:.1f} to {far:.1f} m",
                     "labels"]
    if score.depth:
        title += f" (AbsRel {score.depth.absrel:.3f}, metric {score.depth.absrel_metric:.3f})"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(contact_sheet(panels, captions, columns=4, title=title)).save(path)
    except OSError as error:
        raise OutputError(f"the picture {path} cannot be written: {error}") from error
