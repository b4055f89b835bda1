"""Objects: voxels that hang together and show one thing, with a box and an id that lasts."""
from __future__ import annotations

from itertools import product

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from lsm_ros.contracts import MapObject
from lsm_ros.labels import LabelSet
from lsm_ros.mapping.semantic_map import Voxels

HALF_NEIGHBOURS = np.array([d for d in product((-1, 0, 1), repeat=3) if d > (0, 0, 0)])     # 13 of 26, each pair once
LINK = 2                   # voxels
INSIDE = 0.5               # share of a part's voxels in the box of a larger part, from which on it may belong to it
LIKELY = 1.2               # nats: the larger part's class may be 3.3 times less likely in the smaller than its own
TRIM = 2.0                 # per cent of the pixels at either end of an axis that a box leaves out: strays
YAWS = np.radians(np.arange(0, 90, 3))
DRAWN = 1500               # points that stand for the pixels of an object
FOR_YAW = 500              # points that say how a box is turned; more gain nothing
REMEMBERED = 10            # calls after which an object that is not found any more loses its id

Upright = tuple[np.ndarray, np.ndarray, float]         # centre (3,), full extents (3,) and yaw of a box with z up


class ObjectTracker:
    """Finds the objects among voxels, and gives an object found again the id that it had."""

    def __init__(self, labels: LabelSet, min_voxels: int):
        self.min_voxels = min_voxels
        self._labels = labels
        self._next_id = 0
        self._known: dict[int, tuple[MapObject, int]] = {}     # id -> the object as last found, calls since

    def clear(self) -> None:
        """Forgets the objects; ids go on."""
        self._known.clear()

    def relabel(self, labels: LabelSet) -> None:
        """Objects are found anew, in other words and under other ids."""
        self.clear()
        self._labels = labels

    def update(self, voxels: Voxels, evidence: np.ndarray) -> list[MapObject]:
        """The objects of now, those of an earlier call under the same id, by id.

        `evidence` (V, C) are the log-probabilities of the classes in each voxel (`SemanticMap.things`).
        """
        known = {i: (thing, age + 1) for i, (thing, age) in self._known.items() if age < REMEMBERED}
        free = set(known)
        found = []
        parts = components(voxels, self._labels.things, self.min_voxels)
        for label, members, (center, size, yaw) in joined(parts, voxels, evidence):
            same = [i for i in free if known[i][0].label == label]
            gaps = {i: float(np.linalg.norm(known[i][0].center - center)) for i in same
                    if np.linalg.norm(known[i][0].center - center) < 0.5 * max(np.linalg.norm(size),
                                                                              np.linalg.norm(known[i][0].size))}
            number = min(gaps, key=gaps.get) if gaps else self._next_id
            self._next_id = max(self._next_id, number + 1)
            free.discard(number)
            found.append(MapObject(id=number, label=label, name=self._labels.names[label], center=center, size=size,
                                   yaw=yaw, confidence=float(np.exp(evidence[members, label]).mean()),
                                   points=len(members)))
        self._known = known | {thing.id: (thing, 0) for thing in found}
        return sorted(found, key=lambda thing: thing.id)


def components(voxels: Voxels, things: np.ndarray, min_voxels: int) -> list[np.ndarray]:
    """Index arrays of the connected voxels of each class that is wanted, `things` (C,) bool.

    Voxels hang together if their cells of LINK voxels are the same or touch, by face, edge or corner: a surface that
    was seen from afar has holes.
    """
    members = np.flatnonzero(things[voxels.cloud.labels])
    if not len(members):
        return []
    # A number a cell and class to which the step to a neighbour adds a constant: nothing lies on the border.
    cells = voxels.cells[members] // LINK
    cells -= cells.min(axis=0) - 1
    nx, ny, nz = (cells.max(axis=0) + 2).tolist()
    weights = np.array([ny * nz, nz, 1])
    keys = voxels.cloud.labels[members].astype(np.int64) * (nx * ny * nz) + cells @ weights
    keys, cell = np.unique(keys, return_inverse=True)
    ends = []
    for step in HALF_NEIGHBOURS @ weights:
        place = np.minimum(np.searchsorted(keys, keys + step), len(keys) - 1)
        touching = np.flatnonzero(keys[place] == keys + step)
        ends.append(np.stack([touching, place[touching]]))
    i, j = np.concatenate(ends, axis=1)
    links = coo_array((np.ones(len(i), bool), (i, j)), (len(keys), len(keys)))
    component = connected_components(links, directed=False)[1][cell]
    order = np.argsort(component, kind="stable")
    parts = np.split(members[order], np.cumsum(np.bincount(component))[:-1])
    return [part for part in parts if len(part) >= min_voxels]


def joined(parts: list[np.ndarray], voxels: Voxels, evidence: np.ndarray) -> list[tuple[int, np.ndarray, Upright]]:
    """(label, index array, box) of the objects that the parts (`components`) make, the one of the largest part first.

    What looks like a cabinet from here and like drawers from there comes as several parts in one place. A part that
    lies in the box of a larger one and may well be of its class belongs to it, and the whole is of the class that all
    its voxels together say. A pillow on a sofa stays a pillow: its voxels are no sofa's.
    """
    parts = sorted(parts, key=len, reverse=True)
    labels = [int(voxels.cloud.labels[part[0]]) for part in parts]
    sums = [evidence[part].sum(axis=0) for part in parts]
    boxes = [box_of(voxels, part) for part in parts]
    groups = [[n] for n in range(len(parts))]
    for small in reversed(range(1, len(parts))):
        own = sums[small][labels[small]]
        shares = {large: float(inside(voxels.cloud.points[parts[small]], *boxes[large]).mean())
                  for large in range(small) if own - sums[small][labels[large]] < LIKELY * len(parts[small])}
        large = max(shares, key=shares.get, default=None)
        if large is not None and shares[large] >= INSIDE:
            groups[large] += groups[small]
            groups[small] = []
    objects = []
    for group in filter(None, groups):
        said = sum(sums[n] for n in group)
        members = np.concatenate([parts[n] for n in group])
        objects.append((max((labels[n] for n in group), key=lambda label: said[label]), members,
                        box_of(voxels, members) if len(group) > 1 else boxes[group[0]]))
    return objects


def box_of(voxels: Voxels, members: np.ndarray) -> Upright:
    """The box about the pixels of those voxels.

    About the pixels, not the voxels: depth is the better the nearer a surface is, and there more pixels fall into a
    voxel. What was seen from afar strays over as many voxels, but few pixels.
    """
    ends = np.cumsum(voxels.pixels[members], dtype=np.float64)
    drawn = np.searchsorted(ends, (np.arange(DRAWN) + 0.5) * (ends[-1] / DRAWN))       # systematic resampling
    return upright_box(voxels.cloud.points[members[drawn]], TRIM)


def inside(points: np.ndarray, center: np.ndarray, size: np.ndarray, yaw: float) -> np.ndarray:
    """(N,) bool: the points (N, 3) that lie in an upright box."""
    return (np.abs((points - center) @ axes_of(yaw).T) <= size / 2).all(axis=1)


def axes_of(yaw: float) -> np.ndarray:
    """(3, 3): the axes of an upright box in its rows."""
    cos, sin = np.cos(yaw), np.sin(yaw)
    return np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])


def upright_box(points: np.ndarray, trim: float) -> Upright:
    """Centre (3,), full extents (3,) and yaw of the box about points (N, 3), z up.

    Along each axis the outermost `trim` per cent of the points at either end may stick out. The yaw, to 3 degrees, is
    that of the rectangle of least area about the others: about all of them a few strays would turn it. The longer side
    is along the box's x and -pi/2 <= yaw < pi/2.
    """
    some = points[::-(-len(points) // FOR_YAW), :2]
    sides = np.stack([np.cos(YAWS), np.sin(YAWS)]), np.stack([-np.sin(YAWS), np.cos(YAWS)])
    spans = [np.subtract(*between(some @ side, trim)) for side in sides]
    angle = YAWS[np.argmin(spans[0] * spans[1])]
    axes = axes_of(angle)
    high, low = between(points @ axes.T, trim)
    center, size = axes.T @ (low + high) / 2, high - low
    if size[1] > size[0]:
        size, angle = size[[1, 0, 2]], angle + np.pi / 2
    return center, size, float((angle + np.pi / 2) % np.pi - np.pi / 2)


def between(values: np.ndarray, trim: float) -> tuple[np.ndarray, np.ndarray]:
    """(K,), (K,): the highest and the lowest of each column of (N, K), but for `trim` per cent at either end.

    The values at the nearest ranks; of a thousand points np.percentile takes five times as long.
    """
    last = len(values) - 1
    low, high = round(last * trim / 100), round(last * (100 - trim) / 100)
    values = np.partition(values, (low, high), axis=0)
    return values[high], values[low]


def distance_m(thing: MapObject, place: np.ndarray) -> float:
    """From a place (3,) in the map to the nearest point of the object's box; 0 inside of it."""
    beyond = np.abs(axes_of(thing.yaw) @ (place - thing.center)) - thing.size / 2
    return float(np.linalg.norm(beyond.clip(0)))
