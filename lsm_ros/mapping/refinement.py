"""The poses of a window, made sharper by points that its images share.

The network knows depth better than direction: a single image tells how far things are, but a camera's motion is read
most exactly from how a few hundred points move. So points that two views share are placed in space by the predicted
depth, and the poses moved to where they project best. Two kinds of points are used: those that the network matches
itself, everywhere and across wide baselines, to a pixel or two; and corners of the images (mapping/features.py), where
there are any, to a fraction of a pixel. Where nothing matches, the network's pose stands alone.
"""
from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import combinations

import cv2
import numpy as np

from lsm_ros.contracts import Matches, Window, WindowPrediction
from lsm_ros.geometry.sim3 import exp, hat, inverse, transform
from lsm_ros.mapping.features import Features, find_features, match
from lsm_ros.mapping.views import on_outline

CACHED = 96                # keyframes whose features are kept, 0.4 MB each
CORNER_SIGMA = 0.002       # error of a corner's place in the image, as a share of the focal length
MATCH_SIGMA = 0.003        # of a place that the network is sure of; it grows with its doubt
CORNER_CONFIDENCE = 0.7    # of a matched corner: what the network calls as sure is right as often
MIN_CONFIDENCE = 0.3       # the network's matches below it are wrong more often than not
MATCHES = 80               # most of them that two views give each other, the surest ones
DEPTH_SIGMA = 0.15         # error of the depth of one point, as a log
VIEW_SIGMA = 0.05          # error of the depth of a whole view beside the others', as a log
GATE = 3.0                 # sigmas; a match that is farther off does not support a pose
MIN_MATCHES = 8            # fewer are not worth a try
MIN_SUPPORT = 40           # matches within the gate that a pose between two views needs,
MIN_SHARE = 0.3            # and as a share of all their matches,
MIN_SPREAD = 0.04          # and their standard deviation along the narrower side of the cloud, in focal lengths
RANSAC_ERROR = 0.012       # focal lengths; wide, for here the depth is taken as if it were exact
RANSAC_ROUNDS = 100
EPIPOLAR_ERROR = 0.006
EPIPOLAR_ROUNDS = 200      # a fifth of OpenCV's default: nothing is lost on real windows, and it is the dearest step
CLEAR = 0.8                # share of all matches that makes further hypotheses needless
NEAR = 0.1                 # of a point's depth: a pose that brings it nearer to the other camera is not believed
STEPS = 6


@dataclass(frozen=True)
class Refinement:
    """A window after its images have been heard."""
    prediction: WindowPrediction   # with moved poses and, view by view, scaled depths
    support: np.ndarray            # (S, S) int, matches behind the pose between two views; 0: it is predicted


def unrefined(prediction: WindowPrediction) -> Refinement:
    """The prediction as it is."""
    return Refinement(prediction, np.zeros((len(prediction.depth),) * 2, int))


@dataclass(frozen=True)
class _Sightings:
    """N points of view `a`, placed by its depth, as view `b` sees them."""
    a: np.ndarray              # (N,) int
    b: np.ndarray              # (N,) int
    points: np.ndarray         # (N, 3) float64 in camera a
    rays: np.ndarray           # (N, 2) float64, where b sees them, on its plane z = 1
    sigma: np.ndarray          # (N,) float64, error of the rays
    confidence: np.ndarray     # (N,) float64, probability that it is a match at all

    def of(self, chosen: np.ndarray) -> _Sightings:
        return _Sightings(*(values[chosen] for values in vars(self).values()))


class PoseRefiner:
    """Remembers the features of keyframes, by their ids."""

    def __init__(self):
        self._features: OrderedDict[int, Features] = OrderedDict()

    def __call__(self, window: Window, prediction: WindowPrediction) -> Refinement:
        return refine(prediction, [self._features_of(keyframe) for keyframe in window.keyframes])

    def _features_of(self, keyframe) -> Features:
        if keyframe.id not in self._features:
            self._features[keyframe.id] = find_features(keyframe.frame.image)
        self._features.move_to_end(keyframe.id)
        while len(self._features) > CACHED:
            self._features.popitem(last=False)
        return self._features[keyframe.id]


def refine(prediction: WindowPrediction, features: list[Features]) -> Refinement:
    """Moves the views of a window to where their matches agree.

    Each pair of views with enough matches gets a pose of its own: by PnP and RANSAC (Fischler and Bolles 1981) on the
    predicted depth, or by epipolar geometry, whichever more matches agree with. The strongest of them, and predicted
    ones where there are none, join the views; then all matches that agree move all poses together.
    """
    S = len(prediction.depth)
    predicted = inverse(prediction.T_window_cam)[:, None] @ prediction.T_window_cam     # [a, b] = T_a_b
    relative, support, kept = predicted.copy(), np.zeros((S, S), int), []
    for a, b in combinations(range(S), 2):
        forth, back = _sightings(a, b, prediction, features)
        T_a_b, agree = _best_pose(forth, _hypotheses(forth, back))
        if T_a_b is None or not _holds(forth, agree):
            continue
        _, agree_predicted = _best_pose(forth, [predicted[a, b]])
        if forth.confidence[agree].sum() > forth.confidence[agree_predicted].sum():
            relative[a, b], relative[b, a] = T_a_b, inverse(T_a_b)
            support[a, b] = support[b, a] = agree.sum()
            kept += [forth, back]
    if not kept:
        return unrefined(prediction)
    sightings = _Sightings(*(np.concatenate([getattr(k, name) for k in kept]) for name in vars(kept[0])))
    T_window_cam, support = _chain(relative, support)
    T_window_cam, scales = adjust(T_window_cam, sightings)
    return Refinement(replace(prediction, T_window_cam=T_window_cam,
                              depth=(prediction.depth * scales[:, None, None]).astype(np.float32)), support)


def _sightings(a: int, b: int, prediction: WindowPrediction, features: list[Features]) -> tuple[_Sightings, _Sightings]:
    """The matches of two views as points of a seen by b, and as points of b seen by a; none on an outline in depth."""
    places_a, places_b, confidence, sigma = _places(a, b, prediction.matches, features)
    size = np.array(prediction.depth.shape[:0:-1])
    ends = []
    for view, places in ((a, places_a), (b, places_b)):
        pixels = places * size
        rays = np.concatenate([pixels, np.ones((len(pixels), 1))], axis=1) @ np.linalg.inv(prediction.K[view]).T
        column, row = np.clip(pixels.astype(int), 0, size - 1).T
        depth = prediction.depth[view]
        ends.append((rays, depth[row, column].astype(np.float64), ~on_outline(depth)[row, column]))

    def seen(view: int, other: int, rays: np.ndarray, depth: np.ndarray, rays_other: np.ndarray, sound) -> _Sightings:
        n = len(rays)
        return _Sightings(np.full(n, view), np.full(n, other), rays * depth[:, None], rays_other[:, :2], sigma,
                          confidence).of(sound)

    (rays_a, depth_a, sound_a), (rays_b, depth_b, sound_b) = ends
    return seen(a, b, rays_a, depth_a, rays_b, sound_a), seen(b, a, rays_b, depth_b, rays_a, sound_b)


def _places(a: int, b: int, matches: Matches | None,
            features: list[Features]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Where a and b show the same points (N, 2), as shares of width and height; confidence and error (N,) of that."""
    corners = match(features[a], features[b])
    found = [(features[a].shares[corners[:, 0]], features[b].shares[corners[:, 1]],
              np.full(len(corners), CORNER_CONFIDENCE), np.full(len(corners), CORNER_SIGMA))]
    if matches is not None:
        for there, back in ((a, b), (b, a)):
            chosen = np.flatnonzero((matches.a == there) & (matches.b == back) & (matches.confidence > MIN_CONFIDENCE))
            chosen = chosen[np.argsort(-matches.confidence[chosen])[:MATCHES]]
            ends = matches.shares_a[chosen], matches.shares_b[chosen]
            confidence = matches.confidence[chosen].astype(np.float64)
            found.append((*(ends if there == a else ends[::-1]), confidence, MATCH_SIGMA / confidence))
    return tuple(np.concatenate(part).astype(np.float64) for part in zip(*found))


def _hypotheses(forth: _Sightings, back: _Sightings) -> Iterator[np.ndarray]:
    """Poses T_a_b (4, 4) of two views under outliers: from points of a seen by b, of b seen by a, and from the
    directions alone, which a wrong depth does not mislead where the views lie far apart."""
    for sightings, turned in ((forth, False), (back, True)):
        T = _resection(sightings)
        if T is not None:
            yield inverse(T) if turned else T
    T = _epipolar(forth)
    if T is not None:
        yield T


def _resection(sightings: _Sightings) -> np.ndarray | None:
    """T_a_b by PnP, or None."""
    if len(sightings.points) < MIN_MATCHES:
        return None
    found, turn, shift, _ = cv2.solvePnPRansac(sightings.points, sightings.rays, np.eye(3), None,
                                               iterationsCount=RANSAC_ROUNDS, reprojectionError=RANSAC_ERROR,
                                               flags=cv2.SOLVEPNP_AP3P)
    if not found or not (np.isfinite(turn).all() and np.isfinite(shift).all()):
        return None
    T_b_a = np.eye(4)
    T_b_a[:3, :3], T_b_a[:3, 3] = cv2.Rodrigues(turn)[0], shift[:, 0]
    return inverse(T_b_a)


def _epipolar(sightings: _Sightings) -> np.ndarray | None:
    """T_a_b by five points (Nister 2004) with MAGSAC++ (Barath et al. 2020), its length from the depth; or None."""
    if len(sightings.points) < MIN_MATCHES:
        return None
    from_a = sightings.points[:, :2] / sightings.points[:, 2:]
    E, inliers = cv2.findEssentialMat(from_a, sightings.rays, np.eye(3), cv2.USAC_MAGSAC, 0.999, EPIPOLAR_ERROR,
                                      maxIters=EPIPOLAR_ROUNDS)
    if E is None or E.shape != (3, 3):
        return None
    _, R, t, inliers = cv2.recoverPose(E, from_a, sightings.rays, np.eye(3), mask=inliers)
    chosen = inliers[:, 0] > 0
    if chosen.sum() < MIN_MATCHES:
        return None
    rays = np.concatenate([sightings.rays[chosen], np.ones((chosen.sum(), 1))], axis=1)
    apart = np.cross(rays, t[:, 0])                     # ray x (R point + length t) = 0
    length = -(np.cross(rays, sightings.points[chosen] @ R.T) * apart).sum(1) / np.maximum((apart ** 2).sum(1), 1e-12)
    T_b_a = np.eye(4)
    T_b_a[:3, :3], T_b_a[:3, 3] = R, max(np.median(length), 0.0) * t[:, 0]
    return inverse(T_b_a)


def _best_pose(sightings: _Sightings, hypotheses: Iterable[np.ndarray]) -> tuple[np.ndarray | None, np.ndarray]:
    """The pose T_a_b with which most matches agree, weighed by their confidence, and which (N,) do.

    The first that nearly all agree with is taken: a hypothesis costs milliseconds.
    """
    best, most = None, np.zeros(len(sightings.sigma), bool)
    poses = np.tile(np.eye(4), (1 + max(sightings.a.max(initial=0), sightings.b.max(initial=0)), 1, 1))
    for T_a_b in hypotheses:
        if len(sightings.b):
            poses[sightings.a[0]], poses[sightings.b[0]] = np.eye(4), T_a_b
        agree = _agree(sightings, poses)
        if best is None or sightings.confidence[agree].sum() > sightings.confidence[most].sum():
            best, most = T_a_b, agree
        if sightings.confidence[most].sum() > CLEAR * sightings.confidence.sum():
            break
    return best, most


def _holds(sightings: _Sightings, agree: np.ndarray) -> bool:
    """Whether enough matches agree, spread over enough of the image to tell a turn from a shift."""
    if agree.sum() < MIN_SUPPORT or sightings.confidence[agree].sum() < MIN_SHARE * sightings.confidence.sum():
        return False
    narrow = np.linalg.eigvalsh(np.cov(sightings.rays[agree].T))[0]
    return bool(narrow > MIN_SPREAD ** 2)


def _chain(relative: np.ndarray, support: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """T_window_cam (S, 4, 4) by the poses (S, S, 4, 4) between the views, joined where most matches support them.

    The second result is the support (S, S) of every pair of views by the weakest link between them: the tree of
    strongest links (Prim 1957) is the one where that is largest.
    """
    S = len(relative)
    T_window_cam, joint = np.tile(np.eye(4), (S, 1, 1)), np.zeros_like(support)
    placed = [0]
    while len(placed) < S:
        waiting = [v for v in range(S) if v not in placed]
        links = support[np.ix_(placed, waiting)]
        place, view = np.unravel_index(links.argmax(), links.shape)
        parent, view = placed[place], waiting[view]
        T_window_cam[view] = T_window_cam[parent] @ relative[parent, view]
        joint[view, placed] = joint[placed, view] = np.minimum(
            np.where(np.array(placed) == parent, support[parent, view], joint[parent, placed]), support[parent, view])
        placed.append(view)
    return T_window_cam, joint


def _agree(sightings: _Sightings, T_window_cam: np.ndarray) -> np.ndarray:
    """(N,) bool: matches within the gate."""
    residuals, _, good = _residuals(sightings, T_window_cam, np.ones(len(T_window_cam)), jacobian=False)
    return good & (np.square(residuals).sum(axis=1) < GATE ** 2)


def _residuals(sightings: _Sightings, T_window_cam: np.ndarray, scales: np.ndarray,
               jacobian: bool = True) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """How far off the matches are, in sigmas (N, 2), their Jacobian (N, 2, 2, 7) and whether they are seen (N,).

    The Jacobian is by the steps of a and of b: T_window_cam <- T_window_cam exp(step) and the log of the depth scale.
    A point's depth is not exact, which moves it along its epipolar line; that error joins the covariance of the
    residual, so along the line a match says little and across it all that the image knows. It is what remains of a
    bundle adjustment where every point has its own depth under a prior, once those depths are eliminated.
    """
    a, b = sightings.a, sightings.b
    points = sightings.points * scales[a, None]
    T_b_a = (inverse(T_window_cam)[:, None] @ T_window_cam)[b, a]
    seen = transform(T_b_a, points[:, None])[:, 0]
    nearest = NEAR * points[:, 2]
    good = seen[:, 2] > nearest
    z = np.maximum(seen[:, 2], nearest)
    projection = np.zeros((len(z), 2, 3))
    projection[:, 0, 0] = projection[:, 1, 1] = 1 / z
    projection[:, :, 2] = -seen[:, :2] / np.square(z)[:, None]

    turned = projection @ T_b_a[:, :3, :3]
    by_depth = turned @ points[:, :, None]

    # (sigma^2 I + d d^T)^-1/2 in closed form: near b's lens d is so long that no Cholesky factor is left.
    d = DEPTH_SIGMA * by_depth
    length2 = np.square(d).sum(axis=1, keepdims=True)
    sigma = sightings.sigma[:, None, None]
    shrink = (1 - 1 / np.sqrt(1 + length2 / sigma ** 2)) / np.maximum(length2, 1e-12)
    whitening = (np.eye(2) - shrink * d @ np.swapaxes(d, 1, 2)) / sigma
    residuals = (whitening @ (seen[:, :2] / z[:, None] - sightings.rays)[:, :, None])[..., 0]
    if not jacobian:
        return residuals, None, good
    J = np.zeros((len(z), 2, 2, 7))
    J[:, :, 0] = np.concatenate([turned, -turned @ hat(points), by_depth], axis=2)
    J[:, :, 1, :6] = np.concatenate([-projection, projection @ hat(seen)], axis=2)
    return residuals, (whitening @ J.reshape(-1, 2, 14)).reshape(J.shape), good


def adjust(T_window_cam: np.ndarray, sightings: _Sightings) -> tuple[np.ndarray, np.ndarray]:
    """The poses (S, 4, 4) and depth scales (S,) that all matches agree with best; the first pose stays.

    Gauss-Newton under Cauchy's kernel, which forgets outliers; the depth scales are held near 1.
    """
    S = len(T_window_cam)
    scales = np.ones(S)
    for _ in range(STEPS):
        residuals, J, good = _residuals(sightings, T_window_cam, scales)
        weights = good * sightings.confidence / (1 + np.square(residuals).sum(axis=1) / GATE ** 2)
        rows = np.zeros((len(residuals), 2, S, 7))
        index = np.arange(len(residuals))
        rows[index, :, sightings.a] = J[:, :, 0]
        rows[index, :, sightings.b] += J[:, :, 1]
        rows = rows.reshape(-1, 7 * S)
        weighted = np.repeat(weights, 2)[:, None] * rows
        prior = np.tile([1e-3] * 6 + [VIEW_SIGMA ** -2], S)      # faint on the poses: a view without matches stays
        prior[:6] = 1e12
        gradient = weighted.T @ residuals.ravel()
        gradient[6::7] += np.log(scales) / VIEW_SIGMA ** 2
        step = np.linalg.solve(weighted.T @ rows + np.diag(prior), -gradient).reshape(S, 7)
        T_window_cam = T_window_cam @ exp(step[:, :6])
        scales = scales * np.exp(step[:, 6])
    return T_window_cam, scales
