"""A library of furniture models: triangle meshes that primitives of the shape MESH point to.

One npz file of `import_meshes.py` holds them all. A model's vertices lie in its box; MESH + i as a primitive's shape is
model i, whose box is that primitive's unit frame [-1, 1]^3 (x to its right as it faces you, front at +y, z up).

The catalogue is what furnishing needs, small enough to travel to worker processes; `build` makes the trees that the ray
caster walks.
"""
from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np

from lsm_ros.data.packed import read_npz, write_npz
from lsm_ros.errors import InputError
from lsm_ros.world.scene import MESH

FORMAT = 1
MAX_PARTS = 6
LEAF = 4                       # triangles a leaf of a tree holds at most
CREASE_COS = np.cos(np.radians(50.0))


@dataclass(frozen=True)
class Part:
    """The triangles of a model that share a material."""
    color: tuple[float, float, float]    # sRGB, 0..1
    finish: str                          # of materials.FINISHES, or "" where only the model's own colour will do


@dataclass(frozen=True)
class Model:
    """What furnishing knows of one model. Metres; frame and origin as parts.Piece."""
    index: int
    name: str                            # words of the source's catalogue, "office chair"
    role: str                            # of import_meshes.ROLES: what it can stand in for
    label: str
    size: tuple[float, float, float]     # width, depth, height
    elevation: float                     # height above the floor at which it hangs
    tops: tuple[tuple[float, ...], ...]  # level surfaces, shares of the box: x0, x1, y0, y1, z in 0..1; metres clear
    parts: tuple[Part, ...]
    credit: str                          # author and licence

    @property
    def shape(self) -> int:
        return MESH + self.index


@dataclass(frozen=True)
class MeshCatalogue:
    """The models, and which of them play a role."""
    models: tuple[Model, ...]
    by_role: dict[str, tuple[Model, ...]] = field(init=False)

    def __post_init__(self):
        roles: dict[str, list[Model]] = {}
        for model in self.models:
            roles.setdefault(model.role, []).append(model)
        object.__setattr__(self, "by_role", {role: tuple(models) for role, models in roles.items()})


@dataclass(frozen=True)
class MeshLibrary:
    """All models' triangles. N models, V vertices and F triangles in all, one model after the other."""
    vertices: np.ndarray       # (V, 3) uint16: 0..65535 over the model's box
    triangles: np.ndarray      # (F, 3) uint16: vertices of the same model
    part: np.ndarray           # (F,) uint8: which of the model's parts
    vertex_end: np.ndarray     # (N,) int64: where each model's vertices end
    triangle_end: np.ndarray   # (N,) int64
    size: np.ndarray           # (N, 3) float32 metres

    def __len__(self) -> int:
        return len(self.size)

    def model(self, i: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Vertices (v, 3) float64 in the unit frame, triangles (f, 3) int64, parts (f,) of one model."""
        v0, f0 = (int(ends[i - 1]) if i else 0 for ends in (self.vertex_end, self.triangle_end))
        v1, f1 = int(self.vertex_end[i]), int(self.triangle_end[i])
        return self.vertices[v0:v1] / 32767.5 - 1.0, self.triangles[f0:f1].astype(np.int64), self.part[f0:f1]


@dataclass(frozen=True)
class MeshTrees:
    """The library as raycast.cu reads it. Every model has a complete binary tree in heap order whose leaf k of 2^d
    holds its triangles [k f / 2^d, (k + 1) f / 2^d); d is the depth, the root is node 1 of 2^(d + 1)."""
    nodes: np.ndarray          # (T, 8) float32: lowest corner, bits of the axis that splits it, highest corner, 0
    triangles: np.ndarray      # (F, 12) float32: corner, normal 0; edge 1, normal 1; edge 2, normal 2 (bits, see below)
    models: np.ndarray         # (N, 4) int32: first node, first triangle, triangles, depth
    # A normal is octahedral, 14 bits a coordinate; the four bits above those of normal 0 are the part.


def save_meshes(file: str | Path, library: MeshLibrary, models: tuple[Model, ...]) -> None:
    parts = [part for model in models for part in model.parts]
    tops = [(model.index, *top) for model in models for top in model.tops]
    write_npz(file, {
        "format": np.array(FORMAT), **{name: getattr(library, name) for name in MeshLibrary.__dataclass_fields__},
        **{name: np.array([getattr(model, name) for model in models]) for name in ("name", "role", "label", "credit")},
        "elevation": np.array([model.elevation for model in models], np.float32),
        "tops": np.array(tops, np.float32).reshape(-1, 7),
        "part_count": np.array([len(model.parts) for model in models]),
        "part_color": np.array([part.color for part in parts], np.float32).reshape(-1, 3),
        "part_finish": np.array([part.finish for part in parts])}, compressed=True)


def load_meshes(file: str | Path) -> tuple[MeshCatalogue, MeshLibrary]:
    """Reads a file of `save_meshes`. Raises InputError where it is missing, damaged, or of another format."""
    data = read_npz(file)
    if not np.array_equal(data.get("format", -1), FORMAT):
        raise InputError(f"{file} is no file of furniture models of format {FORMAT}")
    try:
        library = MeshLibrary(**{name: data[name] for name in MeshLibrary.__dataclass_fields__})
        colors, finishes = data["part_color"].tolist(), data["part_finish"].tolist()
        ends = np.cumsum(data["part_count"]).tolist()
        models = []
        for i, (name, role, label, credit, end) in enumerate(zip(
                *(data[key].tolist() for key in ("name", "role", "label", "credit")), ends, strict=True)):
            parts = tuple(Part(tuple(colors[k]), finishes[k]) for k in range(ends[i - 1] if i else 0, end))
            tops = tuple(tuple(top[1:]) for top in data["tops"].tolist() if top[0] == i)
            size, elevation = tuple(library.size[i].tolist()), float(data["elevation"][i])
            models.append(Model(i, name, role, label, size, elevation, tops, parts, credit))
        _check(file, library, models)
    except (KeyError, IndexError, ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{file} is damaged: {error!r}") from error
    return MeshCatalogue(tuple(models)), library


def _check(file: str | Path, library: MeshLibrary, models: list[Model]) -> None:
    """Nothing looks at indices and ends again: the ray caster reads where they point."""
    N, V, F = len(models), len(library.vertices), len(library.triangles)
    wanted = {"vertices": (np.uint16, (V, 3)), "triangles": (np.uint16, (F, 3)), "part": (np.uint8, (F,)),
              "vertex_end": (np.int64, (N,)), "triangle_end": (np.int64, (N,)), "size": (np.float32, (N, 3))}
    for name, (kind, shape) in wanted.items():
        array = getattr(library, name)
        if array.dtype != kind or array.shape != shape:
            raise InputError(f"{file} is damaged: {name} is {array.dtype} {array.shape}, not {np.dtype(kind)} {shape}")
    for name, count, fewest in (("vertex_end", V, 3), ("triangle_end", F, 1)):
        ends = getattr(library, name)
        # The limits first: a difference of numbers without any can come round to a good one.
        if not N or ends.min() < 0 or ends.max() > count or ends[-1] != count or \
                (np.diff(ends, prepend=0) < fewest).any():
            raise InputError(f"{file} is damaged: by {name} its models don't share {count} with {fewest} each at least")
    vertices, triangles = (np.diff(ends, prepend=0) for ends in (library.vertex_end, library.triangle_end))
    parts = np.array([len(model.parts) for model in models])
    if (parts > MAX_PARTS).any() or (library.triangles >= np.repeat(vertices, triangles)[:, None]).any() or \
            (library.part >= np.repeat(parts, triangles)).any():
        raise InputError(f"{file} is damaged: a model has too many parts, or indices that point nowhere")
    if not ((library.size > 0) & (library.size < np.inf)).all():
        raise InputError(f"{file} is damaged: a model has no size")
    for model in models:
        numbers = (model.elevation, *chain(*model.tops, *(part.color for part in model.parts)))
        if not np.isfinite(numbers).all() or {len(top) for top in model.tops} - {6} or \
                {len(part.color) for part in model.parts} - {3}:
            raise InputError(f"{file} is damaged: the height, the tops or the colours of {model.name!r} are none")


# ---- trees

def build(library: MeshLibrary) -> MeshTrees:
    """The trees of all models: triangles are split at the median of the longest axis, level by level."""
    nodes, triangles, models = [], [], []
    first_node = first_triangle = 0
    for i in range(len(library)):
        vertices, faces, part = library.model(i)
        corners = vertices[faces]                                         # (f, 3, 3)
        normals = corner_normals(vertices, faces, library.size[i] / 2)
        count = len(faces)
        depth = max(0, int(np.ceil(np.log2(count / LEAF))))
        order, tree = _tree(corners, depth)
        corners, normals, part = corners[order], normals[order], part[order]
        rows = np.zeros((count, 12), np.float32)
        rows[:, 0:3] = corners[:, 0]
        rows[:, 4:7], rows[:, 8:11] = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
        bits = octahedral(normals)
        bits[:, 0] |= part.astype(np.uint32) << 28
        rows.view(np.uint32)[:, 3::4] = bits
        nodes.append(tree)
        triangles.append(rows)
        models.append((first_node, first_triangle, count, depth))
        first_node, first_triangle = first_node + len(tree), first_triangle + count
    return MeshTrees(np.concatenate(nodes), np.concatenate(triangles), np.array(models, np.int32))


def _tree(corners: np.ndarray, depth: int) -> tuple[np.ndarray, np.ndarray]:
    """Triangles (f, 3, 3) -> the order (f,) that gives every leaf its triangles, and the nodes (2^(depth + 1), 8)."""
    count = len(corners)
    low, high, middle = corners.min(axis=1), corners.max(axis=1), corners.mean(axis=1)
    order, axes = np.arange(count), []
    for level in range(depth):
        ends = (np.arange(1 << level) + 1) * count >> level
        node = np.repeat(np.arange(1 << level), np.diff(ends, prepend=0))
        starts = np.concatenate([[0], ends[:-1]])
        spread = np.maximum.reduceat(middle[order], starts) - np.minimum.reduceat(middle[order], starts)
        axis = spread.argmax(axis=1)
        axes.append(axis)
        order = order[np.lexsort((middle[order, axis[node]], node))]
    nodes = np.zeros((2 << depth, 8), np.float32)
    ends = (np.arange(1 << depth) + 1) * count >> depth
    starts = np.concatenate([[0], ends[:-1]])
    margin = 1e-5                                                         # flat boxes need some thickness in float32
    nodes[1 << depth:, 0:3] = np.minimum.reduceat(low[order], starts) - margin
    nodes[1 << depth:, 4:7] = np.maximum.reduceat(high[order], starts) + margin
    for level in reversed(range(depth)):
        here, below = slice(1 << level, 2 << level), slice(2 << level, 4 << level)
        nodes[here, 0:3] = nodes[below, 0:3].reshape(-1, 2, 3).min(axis=1)
        nodes[here, 4:7] = nodes[below, 4:7].reshape(-1, 2, 3).max(axis=1)
        nodes.view(np.int32)[here, 3] = axes[level]
    return order, nodes


def corner_normals(vertices: np.ndarray, faces: np.ndarray, half: np.ndarray) -> np.ndarray:
    """(f, 3, 3) normals at the triangles' corners, in the unit frame: smooth but across creases and between parts that
    only touch. `half` (3,) are the half extents in metres."""
    metric = vertices * half
    a, b, c = (metric[faces[:, k]] for k in range(3))
    flat = np.cross(b - a, c - a)                                         # as long as twice the area
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    plain = flat / np.maximum(length, 1e-20)
    corner_vertex, corner_face = faces.ravel(), np.repeat(np.arange(len(faces)), 3)
    order = np.argsort(corner_vertex, kind="stable")
    count = np.bincount(corner_vertex, minlength=len(vertices))
    start = np.cumsum(count) - count
    mine = np.repeat(np.arange(len(corner_vertex)), count[corner_vertex])  # every corner with all corners of its vertex
    step = np.arange(len(mine)) - np.repeat(np.cumsum(count[corner_vertex]) - count[corner_vertex],
                                            count[corner_vertex])
    other = order[start[corner_vertex[mine]] + step]
    cosine = np.einsum("ij,ij->i", plain[corner_face[mine]], plain[corner_face[other]])
    weight = (abs(cosine) > CREASE_COS) * np.sign(cosine)                 # the winding of many models is arbitrary
    smooth = np.zeros((len(corner_vertex), 3))
    for k in range(3):
        smooth[:, k] = np.bincount(mine, weight * flat[corner_face[other], k], minlength=len(corner_vertex))
    unit_frame = smooth * half
    unit_frame /= np.maximum(np.linalg.norm(unit_frame, axis=1, keepdims=True), 1e-20)
    return unit_frame.reshape(-1, 3, 3)


def octahedral(normals: np.ndarray) -> np.ndarray:
    """(..., 3) unit vectors -> (...) uint32, 14 bits a coordinate (Cigolle et al., JCGT 2014)."""
    p = normals[..., :2] / np.maximum(abs(normals).sum(axis=-1, keepdims=True), 1e-20)
    folded = (1 - abs(p[..., ::-1])) * np.where(p >= 0, 1.0, -1.0)
    p = np.where(normals[..., 2:] < 0, folded, p)
    quantised = np.round((p * .5 + .5) * 16383).astype(np.uint32)
    return quantised[..., 0] | quantised[..., 1] << 14
