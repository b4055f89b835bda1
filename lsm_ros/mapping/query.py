"""Where in the map is that? Words against what the network saw, without labels in between."""
from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from lsm_ros.contracts import Cloud
from lsm_ros.errors import InputError
from lsm_ros.labels import LabelSet
from lsm_ros.mapping.objects import components
from lsm_ros.mapping.semantic_map import SemanticMap
from lsm_ros.mapping.views import View

SYNONYM = 0.8              # cosine from which on a label means what is asked for, so that it is no rival to it
MEANT, OTHER = 0, 1        # the classes of a question


@dataclass(frozen=True)
class QueryResult:
    """N connected places, the best first, and the points of all of them. Map frame, metres."""
    cloud: Cloud               # confidence: 255 times the probability that a point is meant; label: the place, 0..N-1
    scores: np.ndarray         # (N,) float64, mean probability
    centers: np.ndarray        # (N, 3) float64
    sizes: np.ndarray          # (N, 3) float64, extents along the map's axes


class Question:
    """A label set of two: what is asked for, and all else, for which the labels of the map stand."""

    def __init__(self, embedding: np.ndarray, labels: LabelSet):
        """Raises InputError where no label means something else: all of the map would be what is asked for."""
        rivals = labels.embeddings[labels.embeddings @ embedding < SYNONYM]
        if not len(rivals):
            raise InputError(f"all labels of the map mean what is asked for: {', '.join(labels.names)}; it is told "
                             "from labels that mean something else, which set_classes can add")
        self._words = np.concatenate([embedding[None], rivals]).astype(np.float32)
        self._logit_scale = labels.logit_scale
        self.things = np.array([True, False])        # what is asked for is fused where the network is unsure, too

    def log_probabilities(self, semantics: np.ndarray) -> np.ndarray:
        """Unit vectors (..., D) -> (..., 2) float32."""
        logits = np.float32(self._logit_scale) * (semantics @ self._words.T)
        logits -= logits.max(axis=-1, keepdims=True)
        odds = np.exp(logits)
        meant = np.clip(odds[..., 0] / odds.sum(axis=-1), 1e-6, 1 - 1e-6)
        return np.log(np.stack([meant, 1 - meant], axis=-1))


def ask(views: Iterable[tuple[View, np.ndarray]], embedding: np.ndarray, labels: LabelSet, threshold: float,
        voxel_size_m: float, confidence_drop: float, max_depth_m: float, min_observations: int,
        min_voxels: int) -> QueryResult:
    """Fuses the answers of all views (View, S_map_cam) as the map fuses labels. `embedding` (D,) is of length 1.

    Raises InputError as `Question` does.
    """
    answers = SemanticMap(2, voxel_size_m, confidence_drop, max_depth_m)
    question = Question(embedding, labels)
    for view, S_map_cam in views:
        answers.fuse(replace(view, label_set=question), S_map_cam)
    voxels = answers.voxels(min_observations)
    meant = np.where(voxels.cloud.labels == MEANT, voxels.certainty, 1 - voxels.certainty)
    good = meant >= threshold
    told = replace(voxels, cloud=replace(voxels.cloud, labels=np.where(good, MEANT, OTHER).astype(np.uint16)))
    places = sorted(components(told, np.array([True, False]), min_voxels), key=lambda n: -meant[n].mean())
    members = np.concatenate(places) if places else np.empty(0, np.int64)
    cloud = voxels.cloud
    number = np.repeat(np.arange(len(places)), [len(place) for place in places]).astype(np.uint16)
    bounds = np.array([[cloud.points[place].min(axis=0), cloud.points[place].max(axis=0)] for place in places])
    bounds = bounds.reshape(-1, 2, 3).astype(np.float64)
    return QueryResult(
        cloud=Cloud(cloud.points[members], cloud.colors[members], number,
                    np.rint(255 * meant[members]).astype(np.uint8)),
        scores=np.array([float(meant[place].mean()) for place in places]),
        centers=bounds.mean(axis=1), sizes=bounds[:, 1] - bounds[:, 0])
