"""Wavefront OBJ and MTL files, as far as furniture models use them: faces, their colours and textures."""
from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath
from zipfile import BadZipFile

import numpy as np

from lsm_ros.errors import InputError


@dataclass(frozen=True)
class Material:
    name: str = ""
    color: tuple[float, float, float] = (.8, .8, .8)
    texture: str = ""          # path in the library
    opacity: float = 1.0


@dataclass(frozen=True)
class Soup:
    """What an OBJ file says, triangulated."""
    vertices: np.ndarray       # (v, 3)
    faces: np.ndarray          # (f, 3)
    uv: np.ndarray             # (f, 3, 2), NaN where there is none
    material: np.ndarray       # (f,) index into `materials`
    materials: tuple[Material, ...]


def read_obj(read: Callable[[str], bytes], path: str) -> Soup:
    """The OBJ file at `path`, with the MTL files that it names; `read` gives the bytes at a path, or raises OSError or
    KeyError. A missing MTL file leaves its materials as they are. Raises InputError for a file without faces and for
    one that is damaged."""
    try:
        return parse_obj(read, path)
    except (OSError, KeyError, ValueError, IndexError, BadZipFile, zlib.error) as error:
        raise InputError(f"{path} cannot be read: {error!r}") from error


def parse_obj(read: Callable[[str], bytes], path: str) -> Soup:
    """As read_obj, but what is damaged raises what Python makes of it."""
    folder = PurePosixPath(path).parent
    points, coordinates, faces, uv, material = [], [], [], [], []
    names: dict[str, int] = {}
    known: dict[str, Material] = {}
    current = 0
    for line in read(path).decode("latin-1").replace("\\\n", " ").splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "v":
            points.append([float(x) for x in rest.split()[:3]])
        elif word == "vt":
            coordinates.append([float(x) for x in rest.split()[:2]])
        elif word == "f":
            corners = [corner.split("/") for corner in rest.split()]
            v = [int(c[0]) - 1 if int(c[0]) > 0 else len(points) + int(c[0]) for c in corners]
            t = [(int(c[1]) - 1 if int(c[1]) > 0 else len(coordinates) + int(c[1])) if len(c) > 1 and c[1] else -1
                 for c in corners]
            for k in range(1, len(v) - 1):
                faces.append((v[0], v[k], v[k + 1]))
                uv.append((t[0], t[k], t[k + 1]))
                material.append(current)
        elif word == "usemtl":
            current = names.setdefault(rest.strip(), len(names) + 1)
        elif word == "mtllib":
            try:
                known |= read_mtl(read(str(folder / rest.strip())).decode("latin-1"), folder)
            except (OSError, KeyError):
                pass
    if not faces:
        raise InputError(f"{path} has no faces")
    if not 0 <= np.min(faces) <= np.max(faces) < len(points):
        raise InputError(f"{path} has a face with corner {np.max(faces) + 1} of {len(points)}, or one before the first")
    coordinates = np.array(coordinates + [[np.nan, np.nan]]).reshape(-1, 2)       # -1 is the last: none
    materials = [Material()] + [known.get(name, Material(name)) for name in names]
    return Soup(np.array(points, float), np.array(faces), coordinates[np.array(uv)], np.array(material),
                tuple(materials))


def read_mtl(text: str, folder: PurePosixPath) -> dict[str, Material]:
    """The materials of an MTL file in `folder`, by name."""
    rows: dict[str, dict] = {}
    row: dict = {}
    for line in text.splitlines():
        word, _, rest = line.strip().partition(" ")
        rest = rest.strip()
        if word == "newmtl":
            row = rows.setdefault(rest, {"name": rest})
        elif word == "Kd":
            row["color"] = tuple(min(1.0, max(0.0, float(x))) for x in rest.split()[:3])
        elif word == "d":
            row["opacity"] = float(rest.split()[-1])
        elif word == "map_Kd":
            row["texture"] = str(folder / rest.split()[-1] if " -" in f" {rest}" else folder / rest)
    return {name: Material(**row) for name, row in rows.items()}
