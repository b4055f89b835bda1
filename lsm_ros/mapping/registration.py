"""A predicted window finds its place in the map, or is refused."""
from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from lsm_ros.config import MapperConfig
from lsm_ros.contracts import WindowPrediction
from lsm_ros.errors import AlignmentError
from lsm_ros.geometry.alignment import align_robust
from lsm_ros.geometry.camera import unproject
from lsm_ros.geometry.sim3 import inverse, scale_of, scaling, transform
from lsm_ros.mapping.graph import Edge, PoseGraph
from lsm_ros.mapping.loops import SEEN, SURE, matches_right, recognised
from lsm_ros.mapping.refinement import Refinement
from lsm_ros.mapping.views import View, coarse_points, confident, on_outline, sight

POINTS = 4000              # correspondences of all shared keyframes together: more gain nothing
MIN_SEEN = 0.1             # share of the newest view's points that an earlier view must see to have a say about it
MOST_ERROR = 0.3           # of the newest view's pose, as the network expects it (WindowPrediction.pose_error), where
                           # no match backs it. Of 231 such windows, most of a real walk with 12 to 25 frames between
                           # the views, the 20 below it are right to 21 degrees; of 20 whose overlap was predicted to
                           # be half or more, and whose depth agreed, 12 were wrong by 50 to 170
MOSTLY_WRONG = 0.35        # share of the matches that the network expects to be right. Of 356 windows of real frames,
                           # which matches back, most with 12 to 20 frames between the views, 6 are wrong by 20 degrees
                           # or more; of 5 with less than this share and a pose as doubtful as above, one by 177: two
                           # sides of a thing may look alike
SCALE_SIGMA = 0.05         # log of scale between two views


@dataclass(frozen=True)
class PoseSigma:
    """The error expected of the pose between two views."""
    rotation: float            # radians about each axis,
    parallax: float            # and as many more for a distance between the cameras as long as the scene is deep
    depth: float               # of the translation along each axis, as a share of the depth of the scene,
    baseline: float            # and as a share of the distance between the cameras


# Measured on real recordings with the first network that matches. An error falls with the root of the matches.
MATCHED = PoseSigma(rotation=0.002, parallax=0.1, depth=0.003, baseline=0.2)       # of two views with so many matches:
MATCHES = 100
PREDICTED = PoseSigma(rotation=0.1, parallax=0.0, depth=0.1, baseline=0.5)         # of two views that share everything


@dataclass(frozen=True)
class Registration:
    """Where a window lies, and what it says about its keyframes."""
    S_map_window: np.ndarray       # (4, 4) float64
    units: dict[int, float]        # keyframe -> its own units per unit of the window; the newest and those that fit
    refused: tuple[int, ...]       # mapped keyframes of the window that do not fit where the map has them
    edges: tuple[Edge, ...]
    loops: tuple[Edge, ...] = ()   # from keyframes of the past that match the newest view, not yet believed,
    sure: frozenset[int] = frozenset()     # and those of these keyframes that match beyond doubt


def check_prediction(prediction: WindowPrediction, views: int) -> None:
    """Raises AlignmentError if the numbers are no geometry: not finite, depth not positive, poses that are none."""
    if len(prediction.depth) != views or len(prediction.T_window_cam) != views:
        raise AlignmentError(f"prediction of {len(prediction.depth)} views for a window of {views}")
    for name in ("depth", "confidence", "K", "T_window_cam", "semantics", "pose_error", "moving"):
        values = getattr(prediction, name)
        if values is None:                             # what a predictor need not tell
            continue
        bad = int(np.count_nonzero(~np.isfinite(values)))
        if bad:
            raise AlignmentError(f"{bad} values of the predicted {name} are not finite")
    if prediction.depth.min() <= 0:
        raise AlignmentError(f"predicted depth {prediction.depth.min():g} m is not positive")
    R = prediction.T_window_cam[:, :3, :3]
    crooked = np.abs(R @ np.swapaxes(R, 1, 2) - np.eye(3)).max()
    if crooked > 1e-3:
        raise AlignmentError(f"predicted rotations are off orthonormal by {crooked:.3g}")


def register(ids: list[int], refinement: Refinement, views: dict[int, View], graph: PoseGraph,
             config: MapperConfig, old: frozenset[int] = frozenset(), lost: bool = False) -> Registration:
    """Aligns a window (keyframe `ids`, the newest last, the others mapped) with the map by what they share.

    The same pixel of a shared keyframe is one point in the window and one in the map; those of all keyframes that are
    of one opinion give one robust Sim(3). Where the newest image has points in common with some keyframes, only those
    are asked: the others' poses beside it are merely predicted. Keyframes of the past (`old`) are not asked, as the map
    may have drifted since; what they say of the newest view is told as a loop. Raises AlignmentError, with the number,
    where nothing holds the window: too few points fit, the scale jumps, or no matches support the newest view and the
    network is not sure of its pose, or it shares too little with the others or contradicts what they see. So it is with
    matches that the network takes for wrong ones. A `lost` camera is asked for more: it must recognise the place, if
    the network can.
    """
    prediction, last = refinement.prediction, len(ids) - 1
    present = [n for n in range(last) if ids[n] not in old]
    # Without refinement nobody has looked which matches agree with a pose: how sure the network is must do.
    least = SURE if config.refine_poses else (0, SURE[1])
    if lost and prediction.matches is not None and not any(
            recognised(prediction, refinement.support, n, last, least) for n in range(last)):
        raise AlignmentError("the camera is lost, and nothing that looks like its image matches it")
    matched = [n for n in present if refinement.support[n, last]]
    asked = matched or present
    found = {n: _correspondences(n, prediction, views[ids[n]], graph.pose(ids[n]), config.confidence_drop,
                                 POINTS // len(asked)) for n in asked}
    pairs = {n: pair for n, pair in found.items() if pair}
    if not pairs:
        raise AlignmentError(f"no reliable pixel in keyframe {', '.join(str(ids[n]) for n in asked)}: the depth is all "
                             "outlines")
    tied = refinement.support[:last, last].astype(float)
    if prediction.overlap is not None:                  # near views all have as many matches as are taken
        tied *= prediction.overlap[last, :last]
    holding = _consensus(pairs, tied, config)
    S_map_window = _fit([pairs[n] for n in holding], config)
    scale = float(scale_of(S_map_window)) / graph.metric         # of the network's metre, which the map's need not be
    if not 1 / config.max_scale_change <= scale <= config.max_scale_change:
        raise AlignmentError(f"the window is off by a scale of {scale:.3g}, beyond a factor "
                             f"{config.max_scale_change:g}")

    seen, fits = co_visibility(prediction, config.alignment_tolerance)
    error = 0.0 if prediction.pose_error is None else prediction.pose_error[last]
    if error > MOST_ERROR and (
            right := max((matches_right(prediction, n, last) for n in matched), default=0.0)) < MOSTLY_WRONG:
        raise AlignmentError((f"{right:.0%} of the matches are expected to be right" if matched else "no matches")
                             + f", and the newest view's pose is expected to be wrong by {error:.2g}, at most "
                             f"{MOST_ERROR:g} may be")
    if not matched:
        judges = [n for n in holding if seen[last, n] >= MIN_SEEN]
        if not judges:
            raise AlignmentError(f"no mapped view of the window sees {MIN_SEEN:.0%} of the newest one")
        agreement = max(fits[last, n] / seen[last, n] for n in judges)
        if agreement < config.min_agreement:
            raise AlignmentError(f"{agreement:.0%} of the newest view's points agree with the others, at least "
                                 f"{config.min_agreement:.0%} must")

    units = {ids[n]: views[ids[n]].unit_ratio(prediction.depth[n], pairs[n].pixels) for n in holding}
    units[ids[last]] = 1.0
    return Registration(S_map_window=S_map_window, units=units,
                        refused=tuple(ids[n] for n in present if n not in holding),
                        edges=_edges(ids, refinement, units, seen),
                        loops=_loops(ids, refinement, views, old, config),
                        sure=frozenset(ids[n] for n in range(last)
                                       if ids[n] in old and recognised(prediction, refinement.support, n, last)))


@dataclass(frozen=True)
class _Pairs:
    """Points of one shared keyframe."""
    window: np.ndarray         # (N, 3) float64 in the window's frame
    map: np.ndarray            # (N, 3) float64 in the map's
    depth: np.ndarray          # (N,) their depth in map units, but no less than half the median
    weight: np.ndarray         # (N,) confidence in both
    pixels: np.ndarray         # (N,) flat indices into the grid


def _correspondences(index: int, prediction: WindowPrediction, view: View, S_map_cam: np.ndarray, drop: float,
                     count: int) -> _Pairs | None:
    """None: no pixel of it is reliable both in the window and in the map."""
    depth, confidence = prediction.depth[index], prediction.confidence[index]
    if depth.shape != view.depth.shape:
        raise AlignmentError(f"prediction of {depth.shape[::-1]} pixels for a keyframe of {view.depth.shape[::-1]}")
    good = confident(confidence, drop) & ~on_outline(depth) & view.reliable(drop)
    pixels = np.flatnonzero(good)
    pixels = pixels[::max(1, -(-len(pixels) // count))]
    if not len(pixels):
        return None
    window = transform(prediction.T_window_cam[index], unproject(depth, prediction.K[index]).reshape(-1, 3)[pixels])
    in_map = transform(S_map_cam, view.points.reshape(-1, 3)[pixels])
    # The error expected of a point grows with its depth; without a floor a few wildly near points would outweigh all.
    view_depth = view.depth.ravel()[pixels]
    return _Pairs(window.astype(np.float64), in_map.astype(np.float64),
                  np.maximum(view_depth, np.median(view_depth) / 2) * float(scale_of(S_map_cam)),
                  np.sqrt(confidence.ravel()[pixels] * view.confidence.ravel()[pixels]), pixels)


def _consensus(pairs: dict[int, _Pairs], tied: np.ndarray, config: MapperConfig) -> list[int]:
    """The keyframes of one opinion on where the window lies: those that fit where one of them says.

    It is the one that most matches (`tied`, one number a view) tie to the newest view: an old keyframe of something
    that looks alike may outvote the true neighbours, but has not more in common with the newest image than they. With
    no matches it is the one with which most points fit. Raises AlignmentError if not even the points of one keyframe
    fit.
    """
    best, best_score = [], (-1, 0.0)
    for name, candidate in pairs.items():
        S_map_window = _fit([candidate], config)
        shares = {n: _share(pair, S_map_window, config) for n, pair in pairs.items()}
        fitting = [n for n, share in shares.items() if share >= config.min_inliers]
        score = (tied[name] if name in fitting else -1, sum(shares.values()))
        if score > best_score:
            best, best_score = fitting, score
    if not best:
        raise AlignmentError(f"{best_score[1] / len(pairs):.0%} of the keyframes' points fit the map, at least "
                             f"{config.min_inliers:.0%} must")
    return best


def _fit(pairs: list[_Pairs], config: MapperConfig) -> np.ndarray:
    """S_map_window (4, 4)."""
    return align_robust(np.concatenate([p.window for p in pairs]), np.concatenate([p.map for p in pairs]),
                        np.concatenate([p.weight for p in pairs]),
                        sigma=config.alignment_tolerance * np.concatenate([p.depth for p in pairs])).S_target_source


def _share(pairs: _Pairs, S_map_window: np.ndarray, config: MapperConfig) -> float:
    """The share of a keyframe's points that fit the map."""
    gaps = np.linalg.norm(transform(S_map_window, pairs.window) - pairs.map, axis=1)
    return float((gaps < config.alignment_tolerance * pairs.depth).mean())


def co_visibility(prediction: WindowPrediction, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """(S, S) shares of view a's points that view b frames, and that lie on the surface which b sees: [a, b]."""
    samples = coarse_points(prediction.depth, prediction.K)
    T = inverse(prediction.T_window_cam)[None] @ prediction.T_window_cam[:, None]      # [a, b] = T_b_a
    inside, fits = sight(samples[:, None], T, prediction.depth, prediction.K, tolerance)
    return inside.mean(axis=2), fits.mean(axis=2)


def _edges(ids: list[int], refinement: Refinement, units: dict[int, float], seen: np.ndarray) -> tuple[Edge, ...]:
    """One edge for each pair of views that see each other: far more certain where matches support it than where the
    network stands alone, and the less certain the fewer they are and the less their places tell, or the less the views
    share.

    S views have S - 1 independent poses but S (S - 1) / 2 pairs, so each pair's variance is S / 2 times its own.
    """
    places = [n for n, i in enumerate(ids) if i in units]
    share = np.maximum(seen, seen.T)
    pairs = [(a, b) for m, a in enumerate(places) for b in places[m + 1:]
             if share[a, b] >= MIN_SEEN or refinement.support[a, b]]
    return tuple(_edge(ids, refinement, units, a, b, share[a, b], len(places) / 2) for a, b in pairs)


def _edge(ids: list[int], refinement: Refinement, units: dict[int, float], a: int, b: int, share: float,
          factor: float = 1.0) -> Edge:
    """What the window says about its views a and b, which share `share`; its variance grows by `factor`."""
    prediction, matches = refinement.prediction, refinement.support[a, b]
    T_a_b = inverse(prediction.T_window_cam[a]) @ prediction.T_window_cam[b]
    S_a_b = scaling(units[ids[a]]) @ T_a_b @ scaling(1 / units[ids[b]])
    depth, distance = float(np.median(prediction.depth[a])), float(np.linalg.norm(T_a_b[:3, 3]))
    error, variance = (MATCHED, MATCHES / matches) if matches else (PREDICTED, 1 / share)
    shift, turn = error.depth * depth + error.baseline * distance, error.rotation + error.parallax * distance / depth
    sigma = np.sqrt(variance) * np.repeat([shift, turn], 3)
    if matches:
        sigma = np.hypot(sigma, refinement.pose_sigma[a, b])
    sigma[:3] *= units[ids[b]]
    return Edge(ids[a], ids[b], S_a_b, np.sqrt(factor) * np.append(sigma, SCALE_SIGMA * np.sqrt(variance)))


def _loops(ids: list[int], refinement: Refinement, views: dict[int, View], old: frozenset[int],
           config: MapperConfig) -> tuple[Edge, ...]:
    """Edges between the keyframes of the past that match the newest view, and that view."""
    prediction, last = refinement.prediction, len(ids) - 1
    loops = []
    for n in range(last):
        if ids[n] in old and recognised(prediction, refinement.support, n, last, SEEN):
            view = views[ids[n]]
            good = np.flatnonzero(view.reliable(config.confidence_drop) & ~on_outline(prediction.depth[n]))
            unit = view.unit_ratio(prediction.depth[n], good) if len(good) else 1.0
            edge = _edge(ids, refinement, {ids[n]: unit, ids[last]: 1.0}, n, last, 1.0)
            loops.append(replace(edge, loop=True))
    return tuple(loops)
