"""The poses of a window, made sharper by points that its images share.

The network knows depth better than direction: a single image tells how far things are, but a camera's motion is read
most exactly from how a few hundred points move. So points that two views share are placed in space by the predicted
depth, and the poses moved to where they project best, in two turns. The first finds poses among wrong matches, those of
the network itself: everywhere and across wide baselines, right to a pixel or two. In the second, corners of one image
are followed into the other from where these poses say that they are, to a quarter of a pixel (mapping/tracking.py), and
take the place of the network's matches where they are many. Where nothing matches, the network's pose stands alone.
What the views then triangulate bends their depth (mapping/bending.py).
"""
from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from itertools import chain, combinations

import cv2
import numpy as np

from lsm_ros.contracts import Keyframe, Matches, Window, WindowPrediction
from lsm_ros.geometry.sim3 import adjoint, inverse
from lsm_ros.mapping.bending import Soundings, bent
from lsm_ros.mapping.sightings import Sightings
from lsm_ros.mapping.tracking import Picture, picture_of, track
from lsm_ros.mapping.views import steep, still

CACHED = 96                # keyframes whose pictures are kept, 0.1 MB each
MATCH_SIGMA = 0.003        # error of a matched place that the network is sure of, as a share of the focal length; it
                           # grows with its doubt
TRACKED_SIGMA = 0.001      # of a corner that was followed from one image into the other, a quarter of a pixel
TRACKED_CONFIDENCE = 0.8   # of it; what the network calls as sure is right as often
MIN_CONFIDENCE = 0.3       # the network's matches below it are wrong more often than not
MATCHES = 120              # most of them that two views give each other, the surest ones
DEPTH_SIGMA = 0.01         # error of the depth of one point, as a log,
DEPTH_DOUBT = 0.1          # and how it grows with 1 - confidence: half of the error that the loss takes this for
TURN_SIGMA = 0.25          # error of a predicted pose about each axis, radians, as a share of the error that it expects
SHIFT_SIGMA = 0.35         # of itself, and along each axis, in units of the window; measured on rendered windows
VIEW_SIGMA = 0.05          # error of the depth of a whole view beside the others', as a log
FOCAL_SIGMA = 0.02         # of a predicted focal length, as a log: it is three times as much, but so many matches seem
                           # to know it far better than they do, for errors of depth go together over a surface
MIN_MATCHES = 8            # fewer are not worth a try
MIN_SUPPORT = 30           # matches within the gate that a pose between two views needs,
MIN_SHARE = 0.3            # and as a share of all their matches,
MIN_SPREAD = 0.04          # and their standard deviation along the narrower side of the cloud, in focal lengths
STAYS = 0.5                # share of them that must still agree once the poses of all pairs are adjusted together
RANSAC_ERROR = 0.012       # focal lengths; wide, for here the depth is taken as if it were exact
RANSAC_ROUNDS = 100
EPIPOLAR_ERROR = 0.006
EPIPOLAR_ROUNDS = 200      # a fifth of OpenCV's default: nothing is lost on real windows, and it is the dearest step
CLEAR = 0.6                # share of all matches that ends the search for a better pose; of right ones 86 % agree
FIRST_STEPS = 3            # of the adjustment from which corners are followed: it need only be right to a few pixels
LAST_STEPS = 4             # of the last one, which starts near its end
TOGETHER = 6.0             # how much farther off poses are than so many matches would leave them if their errors were
                           # independent: those of depth go together over a surface; 5 to 9 on real windows
THREADS = 2                # that look at images, doubtful pairs and depths
POOL = ThreadPoolExecutor(THREADS, "refinement")    # they begin with the first image and stay: none a window


@dataclass(frozen=True)
class Refinement:
    """A window after its images have been heard."""
    prediction: WindowPrediction   # with moved poses, bent depths, and focal lengths that were unknown
    support: np.ndarray            # (S, S) int, matches behind the pose between two views; 0: it is predicted
    pose_sigma: np.ndarray         # (S, S, 6) float64: [a, b] are the errors of T_a_b as matches leave it, along the
                                   # axes of b, in the window's metre (3), and about them, in radians (3)


def unrefined(prediction: WindowPrediction) -> Refinement:
    """The prediction as it is."""
    S = len(prediction.depth)
    return Refinement(prediction, np.zeros((S, S), int), np.full((S, S, 6), np.inf))


@dataclass(frozen=True)
class _Places:
    """Where both views of each pair show the same points: N of all pairs, one pair's after those of the pair before."""
    pair: np.ndarray           # (N,) int64, the pair's number
    a: np.ndarray              # (N, 2) float64, in its first view, as shares of width and height
    b: np.ndarray              # (N, 2) float64, in its second
    confidence: np.ndarray     # (N,) float64, probability that they do
    sigma: np.ndarray          # (N,) float64, error of the places as a share of the focal length

    @classmethod
    def joined(cls, parts: Sequence[_Places]) -> _Places:
        """All of them, in their order."""
        return cls(*(np.concatenate([getattr(part, item.name) for part in parts]) for item in fields(cls)))

    def only(self, chosen: np.ndarray) -> _Places:
        """The `chosen` ones, (N,) bool or their numbers."""
        return _Places(*(getattr(self, item.name)[chosen] for item in fields(self)))


class PoseRefiner:
    """Remembers the pictures of keyframes, by their ids."""

    def __init__(self):
        self._begun: OrderedDict[int, Future[Picture]] = OrderedDict()

    def __call__(self, window: Window, prediction: WindowPrediction) -> Refinement:
        K_known = any(keyframe.frame.K is not None for keyframe in window.keyframes)
        pictures = [begun.result() for begun in list(map(self.look_at, window.keyframes))]
        return refine(prediction, pictures, K_known)

    def look_at(self, keyframe: Keyframe) -> Future[Picture]:
        """Begins with what a keyframe's image alone tells. A call before the network's hides it behind the network,
        which cannot keep all cores busy all the time."""
        if keyframe.id not in self._begun:
            self._begun[keyframe.id] = POOL.submit(picture_of, keyframe.frame.image)
        self._begun.move_to_end(keyframe.id)
        while len(self._begun) > CACHED:
            self._begun.popitem(last=False)
        return self._begun[keyframe.id]


def refine(prediction: WindowPrediction, pictures: Sequence[Picture], K_known: bool = True) -> Refinement:
    """Moves the views of a window to where their matches agree; and the focal length of all, unless one is `K_known`.

    Each pair of views with enough matches gets the pose that most of them agree with: the one to which all matches of
    the window together move the prediction, which is right for nine of ten pairs and the cheapest; the predicted one;
    one by PnP and RANSAC (Fischler and Bolles 1981) on the predicted depth, or by epipolar geometry. The strongest
    pairs, and predicted poses where there are none, join the views; then their matches move all poses together. Where
    they say little, as between views a few centimetres apart, the predicted pose has its say, as it trusts itself.
    A pair most of whose matches no longer agree then contradicts the others: it is left out, and the rest begins anew.
    Finally corners of the `pictures` are followed between the views of the other pairs, and move all poses once more;
    what they then tell of the depth bends it.
    """
    S = len(prediction.depth)
    pairs = np.array(list(combinations(range(S), 2)), np.int64).reshape(-1, 2)
    # Not what is steep: the depth of a match, which is a fraction of a pixel off, is not sure enough there.
    sound = np.stack([~steep(depth) & (trust > 0) for depth, trust in zip(prediction.depth, prediction.confidence,
                                                                          strict=True)])
    if prediction.moving is not None:
        sound &= np.stack([still(moving, sound.shape[1:]) for moving in prediction.moving])
    matched = _matched(pairs, prediction.matches, S)
    seen = _sightings(pairs, matched, prediction, sound)
    if not len(seen.rows):
        return unrefined(prediction)

    def adjusted(T_window_cam: np.ndarray, scales: np.ndarray, zoom: float, sightings: Sightings,
                 steps: int) -> tuple[np.ndarray, np.ndarray, float, np.ndarray]:
        return adjust(T_window_cam, scales, zoom, sightings, K_known, prediction.T_window_cam, _pose_sigma(prediction),
                      steps)

    T_window_cam, scales, zoom, _ = adjusted(prediction.T_window_cam, np.ones(S), 1.0, seen, FIRST_STEPS)
    predicted, near = (inverse(T)[:, None] @ T for T in (prediction.T_window_cam, T_window_cam))    # [a, b] = T_a_b
    relative, support = predicted.copy(), np.zeros((S, S), int)
    T_a_b, agreeing = _pair_poses(pairs, seen, near, predicted, scales, zoom)
    held = agreeing > 0
    a, b = pairs[held].T
    relative[a, b], relative[b, a] = T_a_b[held], inverse(T_a_b[held])
    support[a, b] = support[b, a] = agreeing[held]
    if not held.any():
        return unrefined(prediction)
    while True:
        T_window_cam, joint = _chain(relative, support)
        *first, _ = adjusted(T_window_cam, np.ones(S), 1.0, seen.only(np.tile(held, 2)), FIRST_STEPS)
        wrong = _contradicting(pairs, held, seen, support, *first)
        if wrong is None:
            break
        a, b = pairs[wrong]
        relative[a, b], relative[b, a] = predicted[a, b], predicted[b, a]
        support[a, b] = support[b, a] = 0
        held[wrong] = False
    moved = _moved(prediction, *first)

    followed = _followed(pairs, np.flatnonzero(held), moved, pictures)
    few = held & (np.bincount(followed.pair, minlength=len(pairs)) < MIN_SUPPORT)
    places = _Places.joined([followed, matched.only(few[matched.pair])])        # where few, the network's stay beside
    sightings = _sightings(pairs, places.only(np.argsort(places.pair, kind="stable")), prediction, sound)
    *last, normal = adjusted(*first, sightings, LAST_STEPS)
    told = _soundings(prediction, sightings, *last)
    moved = _moved(prediction, *last)
    depth = np.stack(list(POOL.map(bent, moved.depth, told)))
    return Refinement(replace(moved, depth=depth), joint, _errors(last[0], normal))


def _moved(prediction: WindowPrediction, T_window_cam: np.ndarray, scales: np.ndarray, zoom: float) -> WindowPrediction:
    """With other poses (S, 4, 4), depths times `scales` (S,), focal lengths times `zoom`."""
    K = prediction.K.copy()
    K[:, :2, :2] *= zoom
    depth = (prediction.depth * scales[:, None, None]).astype(np.float32)
    return replace(prediction, depth=depth, K=K, T_window_cam=T_window_cam)


def _sightings(pairs: np.ndarray, places: _Places, prediction: WindowPrediction, sound: np.ndarray) -> Sightings:
    """What P pairs (P, 2) of views share: of each the points of its first view as the second sees them; then, again of
    each, those of the second as the first does. Only where the depth of the view is `sound` (S, h, w)."""
    size = np.array(prediction.depth.shape[:0:-1])
    N, number = len(places.pair), np.concatenate([places.pair, places.pair + len(pairs)])
    view = pairs[places.pair].T.ravel()
    pixels = np.concatenate([places.a, places.b]) * size
    column, row = np.clip(pixels.astype(int), 0, size - 1).T
    to_rays = np.linalg.inv(prediction.K)[view]
    rays = to_rays[:, :, 2] + pixels[:, :1] * to_rays[:, :, 0] + pixels[:, 1:] * to_rays[:, :, 1]
    points = rays * prediction.depth[view, row, column, None]
    doubt = 1 - prediction.confidence[view, row, column].astype(np.float64)
    rows = np.column_stack([points, np.roll(rays[:, :2], N, axis=0), np.tile(places.sigma, 2),
                            DEPTH_SIGMA + DEPTH_DOUBT * doubt, np.tile(places.confidence, 2)])
    good = sound[view, row, column]
    a, b = pairs.T
    counts = np.bincount(number[good], minlength=2 * len(pairs))
    return Sightings(np.concatenate([a, b]), np.concatenate([b, a]), counts, rows[good])


def _matched(pairs: np.ndarray, matches: Matches | None, S: int) -> _Places:
    """The surest matches of the network, between P pairs (P, 2) of S views, the first of which has the lower number."""
    if matches is None:
        return _Places(np.empty(0, np.int64), np.empty((0, 2)), np.empty((0, 2)), np.empty(0), np.empty(0))
    numbers = np.full((S, S), -1)
    numbers[pairs[:, 0], pairs[:, 1]] = numbers[pairs[:, 1], pairs[:, 0]] = np.arange(len(pairs))
    sure = np.flatnonzero(matches.confidence > MIN_CONFIDENCE)
    way = (2 * numbers[matches.a, matches.b] + (matches.a > matches.b))[sure]
    order = np.argsort(way - 0.5 * matches.confidence[sure], kind="stable")     # by way, the surest of each first
    order, way = sure[order], way[order]
    counts = np.bincount(way)
    surest = np.arange(len(way)) - np.repeat(np.cumsum(counts) - counts, counts) < MATCHES
    order, way = order[surest], way[surest]
    ends = np.stack([matches.shares_a[order], matches.shares_b[order]]).astype(np.float64)
    turned = way % 2 == 1
    ends[:, turned] = ends[::-1, turned]
    confidence = matches.confidence[order].astype(np.float64)
    return _Places(way // 2, *ends, confidence, MATCH_SIGMA / confidence)


def _followed(pairs: np.ndarray, numbers: np.ndarray, prediction: WindowPrediction,
              pictures: Sequence[Picture]) -> _Places:
    """Of the pairs (P, 2) with those `numbers`, a and b: by corners of b, from where a shows them as far as
    `prediction` knows; if few are found, also by those of a."""
    a, b = pairs[numbers].T
    K, depth = prediction.K, prediction.depth
    T_a_b = inverse(prediction.T_window_cam[a]) @ prediction.T_window_cam[b]
    which, in_a, in_b = track([(pictures[i], pictures[j]) for i, j in zip(a, b, strict=True)], T_a_b, K[a], K[b],
                              depth[b])
    few = np.flatnonzero(np.bincount(which, minlength=len(numbers)) < MIN_SUPPORT)
    if len(few):
        a, b = a[few], b[few]
        more, more_b, more_a = track([(pictures[j], pictures[i]) for i, j in zip(a, b, strict=True)],
                                     inverse(T_a_b[few]), K[b], K[a], depth[a])
        which, in_a, in_b = (np.concatenate(both) for both in ((which, few[more]), (in_a, more_a), (in_b, more_b)))
    N = len(which)
    return _Places(numbers[which], in_a, in_b, np.full(N, TRACKED_CONFIDENCE), np.full(N, TRACKED_SIGMA))


def _pair_poses(pairs: np.ndarray, seen: Sightings, near: np.ndarray, predicted: np.ndarray, scales: np.ndarray,
                zoom: float) -> tuple[np.ndarray, np.ndarray]:
    """T_a_b (P, 4, 4) of the pairs (P, 2) of views, and how many matches stand behind it (P,); 0: it doesn't hold.

    Args:
        near, predicted: (S, S, 4, 4), [a, b] = T_a_b: those that are tried first, the one with `scales` and `zoom`.
    """
    P, (a, b) = len(pairs), pairs.T
    forth = seen.only(np.arange(2 * P) < P)
    T_a_b, agree = near[a, b], forth.agreement(near[b, a], scales[a], zoom)

    def better(number: int) -> tuple[np.ndarray, np.ndarray]:
        one, back = seen.of(number), seen.of(P + number)
        return _better_pose(one, T_a_b[number], agree[forth.pair == number],
                            chain([predicted[a[number], b[number]]], _hypotheses(one, back)))

    agreeing, all_of_them = (np.bincount(forth.pair, forth.confidence * x, P) for x in (agree, 1.0))
    doubtful = np.flatnonzero(agreeing <= CLEAR * all_of_them)
    # Most of that is OpenCV's work, which needs no Python lock.
    for number, (T, fits) in zip(doubtful, POOL.map(better, doubtful), strict=True):
        T_a_b[number], agree[forth.pair == number] = T, fits
    return T_a_b, np.where(_hold(forth, agree), np.bincount(forth.pair, agree, P), 0).astype(int)


def _hypotheses(forth: Sightings, back: Sightings) -> Iterator[np.ndarray]:
    """Poses T_a_b (4, 4) of two views under outliers: from points of a seen by b, of b seen by a, and from the
    directions alone, which a wrong depth does not mislead where the views lie far apart. None where so few would agree
    that they wouldn't hold."""
    if len(forth.rows) < MIN_SUPPORT:
        return
    for sightings, turned in ((forth, False), (back, True)):
        T = _resection(sightings)
        if T is not None:
            yield inverse(T) if turned else T
    T = _epipolar(forth)
    if T is not None:
        yield T


def _resection(sightings: Sightings) -> np.ndarray | None:
    """T_a_b by PnP, or None."""
    if len(sightings.rows) < MIN_MATCHES:
        return None
    found, turn, shift, _ = cv2.solvePnPRansac(sightings.points.copy(), sightings.rays.copy(), np.eye(3), None,
                                               iterationsCount=RANSAC_ROUNDS, reprojectionError=RANSAC_ERROR,
                                               flags=cv2.SOLVEPNP_AP3P)
    if not found or not (np.isfinite(turn).all() and np.isfinite(shift).all()):
        return None
    T_b_a = np.eye(4)
    T_b_a[:3, :3], T_b_a[:3, 3] = cv2.Rodrigues(turn)[0], shift[:, 0]
    return inverse(T_b_a)


def _epipolar(sightings: Sightings) -> np.ndarray | None:
    """T_a_b by five points (Nister 2004) with MAGSAC++ (Barath et al. 2020), its length from the depth; or None."""
    if len(sightings.rows) < MIN_MATCHES:
        return None
    from_a, from_b = sightings.points[:, :2] / sightings.points[:, 2:], sightings.rays.copy()
    E, inliers = cv2.findEssentialMat(from_a, from_b, np.eye(3), cv2.USAC_MAGSAC, 0.999, EPIPOLAR_ERROR,
                                      maxIters=EPIPOLAR_ROUNDS)
    if E is None or E.shape != (3, 3):
        return None
    _, R, t, inliers = cv2.recoverPose(E, from_a, from_b, np.eye(3), mask=inliers)
    chosen = inliers[:, 0] > 0
    if chosen.sum() < MIN_MATCHES:
        return None
    rays = np.concatenate([from_b[chosen], np.ones((chosen.sum(), 1))], axis=1)
    apart = np.cross(rays, t[:, 0])                     # ray x (R point + length t) = 0
    points = sightings.points[chosen] @ R.T
    length = -(np.cross(rays, points) * apart).sum(1) / np.maximum((apart ** 2).sum(1), 1e-12)
    T_b_a = np.eye(4)
    T_b_a[:3, :3], T_b_a[:3, 3] = R, max(np.median(length), 0.0) * t[:, 0]
    return inverse(T_b_a)


def _better_pose(sightings: Sightings, T_a_b: np.ndarray, agree: np.ndarray,
                 others: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The pose with which most matches agree, weighed by their confidence, and which (N,) do: T_a_b, with which `agree`
    do, or one of some others.

    The first that nearly all agree with is taken: a hypothesis costs milliseconds.
    """
    for other in others:
        fits = sightings.agreement(inverse(other)[None], np.ones(1), 1.0)
        if sightings.confidence[fits].sum() > sightings.confidence[agree].sum():
            T_a_b, agree = other, fits
        if sightings.confidence[agree].sum() > CLEAR * sightings.confidence.sum():
            break
    return T_a_b, agree


def _hold(sightings: Sightings, agree: np.ndarray) -> np.ndarray:
    """(P,) bool: the pairs of which enough matches `agree` (N,), spread over enough of the image to tell a turn from a
    shift."""
    def of_each(values: np.ndarray) -> np.ndarray:
        return np.bincount(sightings.pair, values, len(sightings.counts))

    support, confidence = of_each(agree), sightings.confidence
    share = of_each(agree * confidence) >= MIN_SHARE * of_each(confidence)
    total = np.maximum(support, 1)
    x, y = (rays - (of_each(agree * rays) / total)[sightings.pair] for rays in sightings.rays.T)
    xx, xy, yy = (of_each(agree * product) / total for product in (x * x, x * y, y * y))
    narrow = (xx + yy - np.sqrt((xx - yy) ** 2 + 4 * xy ** 2)) / 2          # the smaller eigenvalue
    return (support >= MIN_SUPPORT) & share & (narrow > MIN_SPREAD ** 2)


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


def _contradicting(pairs: np.ndarray, held: np.ndarray, seen: Sightings, support: np.ndarray,
                   T_window_cam: np.ndarray, scales: np.ndarray, zoom: float) -> int | None:
    """The number of the pair, of those that are `held` (P,), that lost the largest share of its `support` (S, S) to
    what `adjust` made of all, if most."""
    agree = seen.agreement(inverse(T_window_cam)[seen.b] @ T_window_cam[seen.a], scales[seen.a], zoom)
    agreeing = np.bincount(seen.pair, agree, len(seen.counts))[:len(pairs)]
    left = np.where(held, agreeing / np.maximum(support[pairs[:, 0], pairs[:, 1]], 1), np.inf)
    wrong = int(left.argmin())
    return wrong if left[wrong] < STAYS and held.sum() > 1 else None


def _pose_sigma(prediction: WindowPrediction) -> np.ndarray | None:
    """(S, 6) errors of the predicted poses along their axes, metres, and about them, radians; None: not told."""
    if prediction.pose_error is None:
        return None
    sigma = np.repeat([SHIFT_SIGMA * prediction.scale, TURN_SIGMA], 3)
    return np.maximum(prediction.pose_error, 1e-3)[:, None] * sigma


def adjust(T_window_cam: np.ndarray, scales: np.ndarray, zoom: float, sightings: Sightings, K_known: bool,
           T_predicted: np.ndarray, pose_sigma: np.ndarray | None,
           steps: int) -> tuple[np.ndarray, np.ndarray, float, np.ndarray]:
    """The poses (S, 4, 4), depth scales (S,) and zoom that all matches agree with best, from those given on, and the
    matrix of the normal equations (7 S + 1, 7 S + 1): of each view its pose's step and the log of its scale; of all the
    log of the zoom. The first pose stays.

    Gauss-Newton under Cauchy's kernel, which forgets outliers; depth scales and zoom are held near 1, and under the
    same kernel poses near `T_predicted` (S, 4, 4), as far as their errors `pose_sigma` (S, 6) are told.
    """
    S = len(T_window_cam)
    logs = np.zeros(7 * S + 1)                                   # of scales and zoom, in their places
    logs[6::7], logs[-1] = np.log(scales), np.log(zoom)
    prior = np.tile([1e-3] * 6 + [VIEW_SIGMA ** -2], S)          # faint on the poses: a view without matches stays
    prior[:6] = 1e12
    prior = np.append(prior, 1e12 if K_known else FOCAL_SIGMA ** -2)
    sure = np.zeros((S, 6)) if pose_sigma is None else 1 / pose_sigma
    T_window_cam, logs, normal = sightings.adjusted(T_window_cam, logs, prior, T_predicted, sure, steps)
    return T_window_cam, np.exp(logs[6::7]), float(np.exp(logs[-1])), normal


def _soundings(prediction: WindowPrediction, sightings: Sightings, T_window_cam: np.ndarray, scales: np.ndarray,
               zoom: float) -> list[Soundings]:
    """What the views tell of each other's depth once they lie where `adjust` has put them: a point moves along its
    epipolar line as its depth changes, and one that is not near that line is another point."""
    size = np.array(prediction.depth.shape[:0:-1])
    a, b = sightings.a, sightings.b
    error, sigma, good = sightings.depth_errors(inverse(T_window_cam)[b] @ T_window_cam[a], scales[a], zoom)
    views, found = a[sightings.pair], []
    for view, (K, scale) in enumerate(zip(prediction.K, scales, strict=True)):
        told = good & (views == view)
        points = sightings.points[told]
        pixels = (points / points[:, 2:] @ K.T)[:, :2]
        found.append(Soundings(pixels / size, points[:, 2] * scale, error[told], sigma[told],
                               sightings.confidence[told]))
    return found


def _errors(T_window_cam: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """(S, S, 6) `pose_sigma` of a Refinement: the marginal covariance of each pair, by the normal equations (7 S + 1,
    7 S + 1) of the poses (S, 4, 4). Points on one plane, or in a part of the image, say less than as many all over it.
    """
    S = len(T_window_cam)
    poses = 7 * np.arange(S)[:, None] + np.arange(6)
    covariance = np.linalg.inv(normal)[poses[:, None, :, None], poses[:, None]]        # (S, S, 6, 6)
    own = covariance[np.arange(S), np.arange(S)]
    turned = -adjoint(inverse(T_window_cam)[None] @ T_window_cam[:, None])[..., :6, :6]    # b's step by that of a
    across = turned @ covariance
    variance = own[None] + turned @ own[:, None] @ np.swapaxes(turned, -1, -2) + across + np.swapaxes(across, -1, -2)
    return TOGETHER * np.sqrt(np.maximum(np.diagonal(variance, axis1=-2, axis2=-1), 0))
