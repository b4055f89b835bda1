"""Models of many triangles made into models of few, which keep their parts and how much they cover."""
from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from lsm_ros.errors import InputError, LsmError


def simplifier() -> Callable:
    try:
        from fast_simplification import simplify as by_quadrics
    except ImportError as error:
        raise LsmError("large models need the package fast-simplification (pip install fast-simplification)") from error
    return by_quadrics


def simplify(vertices: np.ndarray, faces: np.ndarray, group: np.ndarray, part: np.ndarray, area: np.ndarray,
             wanted: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """At most about `wanted` triangles; each group of faces by quadric error (Garland & Heckbert, 1997) on its own,
    with a share of the triangles by its area and by how many it has. Each triangle keeps the part of the nearest old.
    """
    size = np.ptp(vertices[faces].reshape(-1, 3), axis=0).max()
    out_v, out_f, out_p, offset = [], [], [], 0
    names = np.unique(group)
    counts = np.array([(group == g).sum() for g in names])
    share = np.array([area[group == g].sum() for g in names]) ** .5 * counts ** .5
    budget = counts.copy()
    if counts.sum() > wanted:
        budget, free, left = np.zeros(len(names)), np.ones(len(names), bool), float(wanted)
        while free.any():                                       # small groups keep all that they have
            budget[free] = left * share[free] / share[free].sum()
            full = free & (budget >= counts)
            if not full.any():
                break
            budget[full], left = counts[full], left - counts[full].sum()
            free &= ~full
        budget = np.maximum(budget, np.minimum(counts, 8)).astype(int)
    for g, target in zip(names, budget, strict=True):
        mine = group == g
        corners, old = vertices[faces[mine]], np.flatnonzero(mine)
        before = corners.mean(axis=1)
        v, f = fewer(corners, size, int(target))
        if not len(f):
            continue
        nearest = cKDTree(before).query(v[f].mean(axis=1))[1]
        out_v.append(v)
        out_f.append(f + offset)
        out_p.append(part[old[nearest]])
        offset += len(v)
    if not out_f:
        raise InputError("a model without faces")
    v, f, p = np.concatenate(out_v), np.concatenate(out_f), np.concatenate(out_p)
    used, index = np.unique(f, return_inverse=True)
    return v[used], index.reshape(-1, 3), p.astype(np.uint8)


def fewer(corners: np.ndarray, size: float, target: int) -> tuple[np.ndarray, np.ndarray]:
    """Triangles (f, 3, 3) of a model of that size -> vertices and about `target` faces."""
    v, f = weld(corners, 2e-5 * size)
    if len(f) <= target:
        return v, f
    for tolerance in (2e-5, 2e-3, 4e-3, 8e-3, 1.6e-2):           # what is in loose pieces has no edges to collapse
        v, f = weld(corners, tolerance * size)
        _, piece = connected_components(csr_array((np.ones(2 * len(f)), (f[:, [0, 1]].ravel(), f[:, [1, 2]].ravel())),
                                                  shape=(len(v), len(v))), directed=False)
        pieces = len(np.unique(piece[f[:, 0]]))
        if pieces > target / 8 and len(f) < 24 * pieces:
            return thinned(v, f, piece, target)                  # leaves
        if len(f) > target:
            v, f = simplifier()(v, f.astype(np.int32), target_count=max(target, 4), agg=6)
            v, f = np.asarray(v, float), np.asarray(f, np.int64)
        if len(f) <= 1.25 * target + 8:
            break
    return v, f


def weld(corners: np.ndarray, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """Makes one vertex of those that are so close, and drops the faces that vanish."""
    cells, index = np.unique(np.round(corners.reshape(-1, 3) / tolerance).astype(np.int64), axis=0, return_inverse=True)
    f = index.reshape(-1, 3)
    return cells * tolerance, f[(f[:, 0] != f[:, 1]) & (f[:, 1] != f[:, 2]) & (f[:, 0] != f[:, 2])]


def thinned(v: np.ndarray, f: np.ndarray, piece: np.ndarray, target: int) -> tuple[np.ndarray, np.ndarray]:
    """Some of the loose pieces, larger, so that as much is covered as by all."""
    names, counts = np.unique(piece[f[:, 0]], return_counts=True)
    order = np.random.default_rng(0).permutation(len(names))
    kept = np.zeros(piece.max() + 1, bool)
    kept[names[order[:max(1, int((np.cumsum(counts[order]) <= target).sum()))]]] = True
    f = f[kept[piece[f[:, 0]]]]
    grow = min(2.0, (counts.sum() / len(f)) ** .5)
    members = np.maximum(np.bincount(piece, minlength=len(kept)), 1)
    middle = np.stack([np.bincount(piece, v[:, k], len(kept)) / members for k in range(3)], axis=1)[piece]
    return middle + (v - middle) * grow, f
