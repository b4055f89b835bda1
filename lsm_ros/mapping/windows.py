"""Which earlier keyframes the newest is seen together with."""
from __future__ import annotations

import numpy as np

from lsm_ros.contracts import Keyframe, Window
from lsm_ros.geometry.camera import project
from lsm_ros.geometry.sim3 import inverse, transform
from lsm_ros.mapping.graph import PoseGraph
from lsm_ros.mapping.views import View, in_frame, sight, thumbnail

DILATION = (1, 3, 7, 12, 18, 25, 33)   # keyframes back: wider and wider baselines, hence edges that stiffen the chain
MIN_OVERLAP = 0.2          # share of the latest view that an earlier one must see to be of use to it
REVISIT_OVERLAP = 0.5      # an old keyframe that sees this much is worth a place: it ties the present to the past
CANDIDATES = 12            # old keyframes whose overlap is checked against their depth
OCCLUSION_TOLERANCE = 0.25     # log of depth: generous, for poses are only predicted


def select_window(newest: Keyframe, views: dict[int, View], graph: PoseGraph, size: int, lost: bool = False) -> Window:
    """The newest keyframe and up to `size` - 1 mapped ones; the mapped keyframe before it is the reference.

    The reference is the view that shares most with the newest one, so the network predicts the one unknown pose
    directly from the known one that is nearest to it. The other views are keyframes 3, 7, ... back (in a simulation
    this chain drifts least at four views), left out where they no longer see the place; the last view is an old
    keyframe if the camera has come back to what it saw. The newest camera is taken to be where the reference is.
    A `lost` camera may be anywhere: its reference is the keyframe that looks most like its image.
    """
    if not views:
        return Window((newest,))
    ids = graph.ids
    if lost:
        here = thumbnail(newest.frame.image)
        at = int(np.argmax([views[i].thumbnail @ here for i in ids])) + 1
        ids = ids[at:] + ids[:at]
    reference = ids[-1]
    dilated = [ids[-back] for back in DILATION[1:] if back <= len(ids)]
    places = size - 2
    old = ids[:-2 * DILATION[size - 2]]
    revisited = _most_seen(reference, old, views, graph, REVISIT_OVERLAP)[:1] if places > 1 else []
    useful = _most_seen(reference, dilated, views, graph, MIN_OVERLAP)
    chosen = [i for i in dilated if i in useful][:places - len(revisited)] + revisited
    near = [i for i in reversed(ids[:-1]) if i not in chosen]
    chosen += near[:places - len(chosen)]
    return Window(tuple(views[i].keyframe for i in (reference, *chosen)) + (newest,))


def _most_seen(reference: int, candidates: list[int], views: dict[int, View], graph: PoseGraph,
               min_overlap: float) -> list[int]:
    """The candidates that see at least that share of the reference's points, those that see most first."""
    if not candidates:
        return []
    T_cam_ref = inverse(graph.poses(candidates)) @ graph.pose(reference)
    points = views[reference].samples
    in_cams = transform(T_cam_ref, np.broadcast_to(points, (len(candidates), *points.shape)))
    pixels, _ = project(in_cams, np.stack([views[i].K for i in candidates]))
    framed = in_frame(pixels, views[reference].depth.shape).mean(axis=1)

    overlaps = {}
    for n in np.argsort(-framed, kind="stable")[:CANDIDATES]:
        if framed[n] >= min_overlap:     # the dearer check, against what hides what, only where the cheap one passes
            view = views[candidates[n]]
            overlap = sight(points, T_cam_ref[n], view.depth, view.K, OCCLUSION_TOLERANCE)[1].mean()
            if overlap >= min_overlap:
                overlaps[candidates[n]] = overlap
    return sorted(overlaps, key=overlaps.get, reverse=True)
