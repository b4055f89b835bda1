"""Whether the network knows how sure it may be: of its depth, and of what two views share."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SHARED = 0.1       # two views that share this much of their pixels are worth aligning
BINS = 10


@dataclass(frozen=True)
class Halves:
    """AbsRel of a window's pixels (scaled by their median as in metrics.DepthErrors), by confidence."""
    sure: float        # among the most confident half
    unsure: float      # among the rest


def confidence_halves(depth: np.ndarray, confidence: np.ndarray, truth: np.ndarray) -> Halves | None:
    """Of depth and confidence (S, h, w) against the truth, NaN where unknown. None where less than two pixels are."""
    known = np.isfinite(truth) & (truth > 0)
    if known.sum() < 2:
        return None
    ratio = depth[known].astype(np.float64) / truth[known]
    error = np.abs(ratio / np.median(ratio) - 1)
    order = np.argsort(-confidence[known], kind="stable")
    half = len(order) // 2
    return Halves(float(error[order[:half]].mean()), float(error[order[half:]].mean()))


def auroc(scores: np.ndarray, positive: np.ndarray) -> float:
    """Area under the receiver operating characteristic (Fawcett, 2006), by the ranks of Mann and Whitney (1947).

    It is how often a positive scores above a negative, ties counting half. scores (N,), positive (N,) bool; NaN without
    both kinds.
    """
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]              # from 1; those of ties are averaged
    n, m = int(positive.sum()), int((~positive).sum())
    return float((ranks[positive].sum() - n * (n + 1) / 2) / (n * m)) if n and m else float("nan")


def calibration_error(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Expected calibration error of shares 0..1 (N,): |mean predicted - mean true| over bins of the predicted share,
    each weighed by its entries (Guo et al., 2017)."""
    bins = np.clip((predicted * BINS).astype(int), 0, BINS - 1)
    return float(sum(abs(np.sum((predicted - truth)[bins == b])) for b in range(BINS)) / max(len(predicted), 1))


def overlap_calibration(predicted: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Figures of predicted against true overlaps (N,): is it known which views share at least SHARED, and how much?"""
    positive = truth >= SHARED
    figures = {"overlap_ece": calibration_error(predicted, truth)}
    if positive.any() and not positive.all():
        figures["overlap_auroc"] = auroc(predicted, positive)
    return figures
