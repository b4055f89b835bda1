"""Which earlier keyframes the newest is seen together with."""
from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from lsm_ros.contracts import Keyframe, Window
from lsm_ros.geometry.camera import project
from lsm_ros.geometry.sim3 import inverse, transform
from lsm_ros.mapping.graph import PoseGraph
from lsm_ros.mapping.loops import ALIKE
from lsm_ros.mapping.views import View, in_frame, sight, thumbnail

DILATION = (1, 3, 7, 12, 18, 25, 33)   # keyframes back: wider and wider baselines, hence edges that stiffen the chain
MIN_OVERLAP = 0.2          # share of the latest view that an earlier one must see to be of use to it
PAST = 2                   # times as far back as the chain reaches begins the past
REVISIT_OVERLAP = 0.5      # an old keyframe that sees this much is worth a place: it ties the present to the past
EXPECTED = 0.1             # likeness that an old keyframe gains if by the map it sees all of the place: of rooms that
                           # look alike the map knows which it is, unless it has drifted; then the looks must say it
CANDIDATES = 12            # old keyframes whose overlap is checked against their depth
OCCLUSION_TOLERANCE = 0.25     # log of depth: generous, for poses are only predicted


@dataclass(frozen=True)
class Selection:
    """A window, and which of its keyframes belong to the past: they have no say in where it lies."""
    window: Window
    old: frozenset[int]            # keyframe ids
    lost: bool = False             # whether the newest may be anywhere

    def asked(self, odometry: bool = True) -> Window:
        """As the network gets it: without odometry where the views lie far apart in time, for wheels drift further
        than the network has seen in training, and it would believe them; or where the caller wants none."""
        if odometry and not (self.old or self.lost):
            return self.window
        return Window(tuple(replace(keyframe, frame=replace(keyframe.frame, T_odom_cam=None))
                            for keyframe in self.window.keyframes))


def select_window(newest: Keyframe, views: dict[int, View], graph: PoseGraph, size: int, lost: bool = False,
                  alike: list[tuple[int, float]] | None = None) -> Selection:
    """The newest keyframe and up to `size` - 1 mapped ones; the mapped keyframe before it is the reference.

    The reference is the view that shares most with the newest one, so the network predicts the one unknown pose
    directly from the known one that is nearest to it. The other views are keyframes 3, 7, ... back (in a simulation
    this chain drifts least at four views), left out where they no longer see the place; the last view is an old
    keyframe if the camera has come back to what it saw: one that looks like the newest, or that must see the same if
    the newest camera is where the reference is. A `lost` camera may be anywhere: its reference is the keyframe that
    looks most like its image.

    Args:
        alike: mapped keyframes with their likeness to the newest image, the most alike first; None: nobody knows.
    """
    if not views:
        return Selection(Window((newest,)), frozenset())
    ids = graph.ids
    if lost:
        here = thumbnail(newest.frame.image)
        found = alike[0][0] if alike else ids[int(np.argmax([views[i].thumbnail @ here for i in ids]))]
        at = ids.index(found) + 1
        ids = ids[at:] + ids[:at]
    reference = ids[-1]
    dilated = [ids[-back] for back in DILATION[1:] if back <= len(ids)]
    places = size - 2
    past = ids[:-reach(size)] if not lost else []
    revisited = _revisited(reference, past, views, graph, alike) if places > 1 else []
    useful = _most_seen(reference, dilated, views, graph, MIN_OVERLAP)
    chosen = [i for i in dilated if i in useful and i not in revisited][:places - len(revisited)] + revisited
    near = [i for i in reversed(ids[:-1]) if i not in chosen]
    chosen += near[:places - len(chosen)]
    window = Window(tuple(views[i].keyframe for i in (reference, *chosen)) + (newest,))
    return Selection(window, frozenset(past) & set(chosen), lost)


def reach(size: int) -> int:
    """How many keyframes back the present of a window of `size` views reaches; what is older is the past."""
    return PAST * DILATION[size - 2]


def _revisited(reference: int, past: list[int], views: dict[int, View], graph: PoseGraph,
               alike: list[tuple[int, float]] | None) -> list[int]:
    """At most one keyframe of the past that shows this place, by its looks and by the map."""
    old = set(past)
    by_looks = {i: likeness for i, likeness in alike or () if i in old and likeness >= ALIKE}
    if by_looks:
        seen = _overlaps(reference, list(by_looks), views, graph, MIN_OVERLAP)
        return [max(by_looks, key=lambda i: by_looks[i] + EXPECTED * seen.get(i, 0))]
    return _most_seen(reference, past, views, graph, REVISIT_OVERLAP)[:1]


def _most_seen(reference: int, candidates: list[int], views: dict[int, View], graph: PoseGraph,
               min_overlap: float) -> list[int]:
    """The candidates that see at least that share of the reference's points, those that see most first."""
    overlaps = _overlaps(reference, candidates, views, graph, min_overlap)
    return sorted(overlaps, key=overlaps.get, reverse=True)


def _overlaps(reference: int, candidates: list[int], views: dict[int, View], graph: PoseGraph,
              min_overlap: float) -> dict[int, float]:
    """The share of the reference's points that each candidate sees, of those that see at least `min_overlap`; looked up
    for the CANDIDATES that frame most of them."""
    if not candidates:
        return {}
    T_cam_ref = inverse(graph.poses(candidates)) @ graph.pose(reference)
    points = views[reference].samples
    in_cams = transform(T_cam_ref, np.broadcast_to(points, (len(candidates), *points.shape)))
    pixels, _ = project(in_cams, np.stack([views[i].K for i in candidates]))
    framed = in_frame(pixels, views[reference].depth.shape).mean(axis=1)

    # The dearer check, against what hides what, only where the cheap one passes.
    likely = [n for n in np.argsort(-framed, kind="stable")[:CANDIDATES] if framed[n] >= min_overlap]
    if not likely:
        return {}
    chosen = [views[candidates[n]] for n in likely]
    fits = sight(points, T_cam_ref[likely], np.stack([view.depth for view in chosen]),
                 np.stack([view.K for view in chosen]), OCCLUSION_TOLERANCE)[1].mean(axis=1)
    return {candidates[n]: overlap for n, overlap in zip(likely, fits, strict=True) if overlap >= min_overlap}
