"""Objects: connected voxels of one class, with a box and an id that lasts."""
from __future__ import annotations

from itertools import product

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from lsm_ros.contracts import MapObject
from lsm_ros.labels import LabelSet
from lsm_ros.mapping.semantic_map import Voxels, pack, unpack

HALF_NEIGHBOURS = np.array([d for d in product((-1, 0, 1), repeat=3) if d > (0, 0, 0)])     # 13 of 26, each pair once
LINK = 2                   # voxels
TRIM = 4.0                 # per cent of the voxels at either end of an axis that a box leaves out: strays
YAWS = np.radians(np.arange(0, 90, 3))
FOR_YAW = 2000             # points that say how a box is turned; more gain nothing
REMEMBERED = 10            # calls after which an object that is not found any more loses its id


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

    def update(self, voxels: Voxels) -> list[MapObject]:
        """The objects of now, those of an earlier call under the same id, by id."""
        known = {i: (thing, age + 1) for i, (thing, age) in self._known.items() if age < REMEMBERED}
        free = set(known)
        found = []
        for members in sorted(components(voxels, self._labels.things, self.min_voxels), key=len, reverse=True):
            label = int(voxels.cloud.labels[members[0]])
            center, size, yaw = upright_box(voxels.cloud.points[members])
            same = [i for i in free if known[i][0].label == label]
            gaps = {i: float(np.linalg.norm(known[i][0].center - center)) for i in same
                    if np.linalg.norm(known[i][0].center - center) < 0.5 * max(np.linalg.norm(size),
                                                                              np.linalg.norm(known[i][0].size))}
            number = min(gaps, key=gaps.get) if gaps else self._next_id
            self._next_id = max(self._next_id, number + 1)
            free.discard(number)
            found.append(MapObject(id=number, label=label, name=self._labels.names[label], center=center, size=size,
                                   yaw=yaw, confidence=float(voxels.certainty[members].mean()), points=len(members)))
        self._known = known | {thing.id: (thing, 0) for thing in found}
        return sorted(found, key=lambda thing: thing.id)


def components(voxels: Voxels, things: np.ndarray, min_voxels: int) -> list[np.ndarray]:
    """Index arrays of the connected voxels of each class that is wanted, `things` (C,) bool.

    Voxels hang together if their cells of LINK voxels are the same or touch, by face, edge or corner: a surface that
    was seen from afar has holes.
    """
    groups = []
    for label in np.unique(voxels.cloud.labels[things[voxels.cloud.labels]]):
        members = np.flatnonzero(voxels.cloud.labels == label)
        keys, cell = np.unique(pack(voxels.cells[members] // LINK), return_inverse=True)
        cells = unpack(keys)
        ends = []
        for step in HALF_NEIGHBOURS:
            neighbour = pack(cells + step)
            place = np.minimum(np.searchsorted(keys, neighbour), len(keys) - 1)
            touching = np.flatnonzero(keys[place] == neighbour)
            ends.append(np.stack([touching, place[touching]]))
        i, j = np.concatenate(ends, axis=1)
        links = coo_array((np.ones(len(i), bool), (i, j)), (len(keys), len(keys)))
        component = connected_components(links, directed=False)[1][cell]
        order = np.argsort(component, kind="stable")
        parts = np.split(members[order], np.cumsum(np.bincount(component))[:-1])
        groups += [part for part in parts if len(part) >= min_voxels]
    return groups


def upright_box(points: np.ndarray, trim: float = TRIM) -> tuple[np.ndarray, np.ndarray, float]:
    """Centre (3,), full extents (3,) and yaw of the box about points (N, 3), z up.

    Along each axis the outermost `trim` per cent of the points at either end may stick out. The yaw, to 3 degrees, is
    that of the rectangle of least area about the others: about all of them a few strays would turn it. The longer side
    is along the box's x and -pi/2 <= yaw < pi/2.
    """
    some = points[::-(-len(points) // FOR_YAW), :2]
    sides = np.stack([np.cos(YAWS), np.sin(YAWS)]), np.stack([-np.sin(YAWS), np.cos(YAWS)])
    spans = [np.subtract(*np.percentile(some @ side, [100 - trim, trim], axis=0)) for side in sides]
    angle = YAWS[np.argmin(spans[0] * spans[1])]
    axes = np.array([[np.cos(angle), np.sin(angle), 0], [-np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    low, high = np.percentile(points @ axes.T, [trim, 100 - trim], axis=0)
    center, size = axes.T @ (low + high) / 2, high - low
    if size[1] > size[0]:
        size, angle = size[[1, 0, 2]], angle + np.pi / 2
    return center, size, float((angle + np.pi / 2) % np.pi - np.pi / 2)


def distance_m(thing: MapObject, place: np.ndarray) -> float:
    """From a place (3,) in the map to the nearest point of the object's box; 0 inside of it."""
    cos, sin = np.cos(thing.yaw), np.sin(thing.yaw)
    x, y, z = place - thing.center
    beyond = np.abs([cos * x + sin * y, cos * y - sin * x, z]) - thing.size / 2
    return float(np.linalg.norm(beyond.clip(0)))
