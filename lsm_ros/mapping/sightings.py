"""What the matches between views say of their poses, and of the depth of their points.

A point that view a shows is placed by a's depth and projected into view b; how far that lies from where b shows it is
the residual. The point's depth is not exact, which moves it along its epipolar line; that error joins the covariance of
the residual, so along the line a match says little and across it all that the image knows. It is what remains of a
bundle adjustment where every point has its own depth under a prior, once those depths are eliminated.

The loops over matches are compiled, src/adjustment.cpp; in float64, for float32 would save a tenth of their time.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lsm_ros.mapping.kernels import COUNT, NUMBER, array, check_shapes, kernel

NEAR = 0.1                 # of a point's depth: a pose that brings it nearer to the other camera is not believed
GATE = 2.0                 # sigmas; a match that is farther off does not support a pose, and counts less and less

_POSES = (array(np.float64, 2), array(np.int64, 1), COUNT, array(np.float64, 3), array(np.float64, 1), NUMBER, NUMBER,
          NUMBER)          # what all of them begin with
_AGREEMENT = kernel("agreement", None, *_POSES, array(np.bool_, 1))
_ADJUST = kernel("adjust", None, *_POSES[:3], *[array(np.int64, 1)] * 2, COUNT, array(np.float64, 1),
                 array(np.float64, 3), array(np.float64, 2), COUNT, NUMBER, NUMBER, array(np.float64, 3),
                 *[array(np.float64, 1)] * 2, array(np.float64, 2))
_DEPTH_ERRORS = kernel("depth_errors", None, *_POSES, array(np.float64, 1), array(np.float64, 1), array(np.bool_, 1))


@dataclass(frozen=True)
class Sightings:
    """N points of P views `a`, placed by their depth, as views `b` see them."""
    a: np.ndarray              # (P,) int64
    b: np.ndarray              # (P,) int64
    counts: np.ndarray         # (P,) int64, how many each pair has; its rows follow those of the pair before
    rows: np.ndarray           # (N, 8) float64 without gaps: what the properties below say

    def __post_init__(self):
        if not len(self.a) == len(self.b) == len(self.counts):
            raise ValueError(f"{len(self.a)}, {len(self.b)} and {len(self.counts)} views and counts of as many pairs")
        if (self.counts < 0).any() or self.rows.shape != (self.counts.sum(), 8):
            raise ValueError(f"rows {self.rows.shape} of {self.counts} sightings")

    def only(self, chosen: np.ndarray) -> Sightings:
        """Those of the pairs that are `chosen` (P,) bool."""
        return Sightings(self.a[chosen], self.b[chosen], self.counts[chosen], self.rows[chosen[self.pair]])

    def of(self, number: int) -> Sightings:
        """Those of one pair."""
        end = self.counts[:number + 1].sum()
        one = slice(number, number + 1)
        return Sightings(self.a[one], self.b[one], self.counts[one], self.rows[end - self.counts[number]:end])

    @property
    def pair(self) -> np.ndarray:
        """(N,) int64 the number of the pair."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    @property
    def points(self) -> np.ndarray:
        """(N, 3) in the camera of a."""
        return self.rows[:, :3]

    @property
    def rays(self) -> np.ndarray:
        """(N, 2) where b sees them, on its plane z = 1."""
        return self.rows[:, 3:5]

    @property
    def sigma(self) -> np.ndarray:
        """(N,) error of the rays."""
        return self.rows[:, 5]

    @property
    def depth_sigma(self) -> np.ndarray:
        """(N,) error of the log of the points' depth."""
        return self.rows[:, 6]

    @property
    def confidence(self) -> np.ndarray:
        """(N,) probability that it is a match at all."""
        return self.rows[:, 7]

    def agreement(self, T_b_a: np.ndarray, scales: np.ndarray, zoom: float) -> np.ndarray:
        """(N,) bool: matches within the gate.

        Args:
            T_b_a: (P, 4, 4) float64.
            scales: of the depth of a, (P,) float64.
            zoom: multiplies the focal lengths of all views.
        """
        agree = np.empty(len(self.rows), bool)
        _AGREEMENT(*self._poses(T_b_a, scales, zoom), agree)
        return agree

    def depth_errors(self, T_b_a: np.ndarray, scales: np.ndarray,
                     zoom: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """For poses as above, the log of what the depth of each point should be over what it is (N,), the error of that
        (N,), and whether the match lies within the gate of the point's epipolar line (N,): else it is another point."""
        error, sigma, agree = np.empty(len(self.rows)), np.empty(len(self.rows)), np.empty(len(self.rows), bool)
        _DEPTH_ERRORS(*self._poses(T_b_a, scales, zoom), error, sigma, agree)
        return error, sigma, agree

    def adjusted(self, T_window_cam: np.ndarray, logs: np.ndarray, prior: np.ndarray, T_predicted: np.ndarray,
                 sure: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Poses (S, 4, 4) and logs (7 S + 1,) after some steps of Gauss and Newton from those given on, and the matrix
        (7 S + 1, 7 S + 1) of their normal equations.

        Of each view there are seven unknowns, the step of its pose and the log of its depth's scale; the last one is
        the log of the zoom. The `logs` of poses are 0.

        Args:
            prior: (7 S + 1,), the inverse variance of each; of a pose that of its step.
            T_predicted, sure: (S, 4, 4), where poses are held under Cauchy's kernel, and one over the errors (S, 6) of
                that along their axes and about them; 0: they are not.
        """
        S, P = len(T_window_cam), len(self.counts)
        n = 7 * S + 1
        check_shapes(T_window_cam=(T_window_cam, (S, 4, 4)), logs=(logs, (n,)), prior=(prior, (n,)),
                     sure=(sure, (S, 6)), T_predicted=(T_predicted, (S, 4, 4)))
        if P and not 0 <= min(self.a.min(), self.b.min()) <= max(self.a.max(), self.b.max()) < S:
            raise ValueError(f"sightings of other views than the {S} that have a pose")
        T_window_cam, logs, normal = T_window_cam.copy(), logs.copy(), np.empty((n, n))
        work = np.empty(n * n + n + P * (16 + 1 + 7 * 8))
        _ADJUST(self.rows, self.counts, P, self.a, self.b, S, prior, T_predicted, sure, steps, NEAR, GATE, T_window_cam,
                logs, work, normal)
        return T_window_cam, logs, normal

    def _poses(self, T_b_a: np.ndarray, scales: np.ndarray, zoom: float) -> tuple:
        P = len(self.counts)
        check_shapes(T_b_a=(T_b_a, (P, 4, 4)), scales=(scales, (P,)))
        return self.rows, self.counts, P, T_b_a, scales, zoom, NEAR, GATE
