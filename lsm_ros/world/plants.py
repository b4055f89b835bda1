"""Plants grown leaf by leaf, as models of the library: what simple shapes and few bought models do not show.

Every plant is made of straps, strips of triangles that begin somewhere, rise, bend and narrow: leaves, the leaflets of
fronds, stalks and stems. Frame and origin of a model as in parts.py: z up, the pot stands on z = 0.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import pi

import numpy as np

from lsm_ros.world.meshes import Model, Part

POT, SOIL, STEM, LEAF, YOUNG = range(5)
FINISHES = ("pot", "soil", "wood", "leaves", "leaves")
POTS = ((.70, .40, .28), (.88, .87, .84), (.25, .25, .26), (.45, .46, .48), (.30, .36, .44))
GREENS = ((.12, .26, .10), (.17, .34, .12), (.24, .42, .16), (.10, .20, .10), (.33, .46, .20), (.06, .12, .05))
WIDEST, WIDEST_TALL = 1.1, 1.5        # metres, of a model
TALL = (1.2, 2.2)              # metres, of plants as high as people
SECTORS = 14                   # of a pot
CREDIT = "lsm_ros.world.plants"


@dataclass
class Growth:
    """The triangles of one plant so far."""
    vertices: list[np.ndarray] = field(default_factory=list)
    faces: list[np.ndarray] = field(default_factory=list)
    part: list[np.ndarray] = field(default_factory=list)
    count: int = 0

    def add(self, vertices: np.ndarray, faces: np.ndarray, part: int | np.ndarray) -> None:
        self.vertices.append(vertices)
        self.faces.append(faces + self.count)
        self.part.append(np.broadcast_to(np.asarray(part, np.uint8), len(faces)))
        self.count += len(vertices)


def straps(growth: Growth, part: int | np.ndarray, base, azimuth, rise, length, width, bend, steps: int = 4,
           shape: Callable[[np.ndarray], np.ndarray] | None = None, roll=0.0) -> np.ndarray:
    """Adds N straps; each argument is a number or (N,), `base` (N, 3).

    They start at `base` towards `azimuth`, `rise` radians above the horizon, and sink by `bend` radians on their way.
    `shape` gives the share of `width` at the shares 0..1 of the length; `roll` turns them about their own axis. Returns
    the middle line (N, steps + 1, 3).
    """
    base = np.atleast_2d(np.asarray(base, float))
    azimuth, rise, length, width, bend, roll = (np.broadcast_to(np.asarray(v, float), len(base)) for v in
                                                (azimuth, rise, length, width, bend, roll))
    share = np.linspace(0, 1, steps + 1)
    height = rise[:, None] - bend[:, None] * (share[:-1] + share[1:]) / 2
    ahead = np.stack([np.cos(azimuth)[:, None] * np.cos(height), np.sin(azimuth)[:, None] * np.cos(height),
                      np.sin(height)], axis=-1)
    middle = base[:, None] + np.concatenate([np.zeros((len(base), 1, 3)), np.cumsum(
        ahead * (length / steps)[:, None, None], axis=1)], axis=1)
    level = np.stack([-np.sin(azimuth), np.cos(azimuth), np.zeros(len(base))], axis=-1)[:, None]
    along = np.concatenate([ahead, ahead[:, -1:]], axis=1)
    side = level * np.cos(roll)[:, None, None] + np.cross(along, np.broadcast_to(level, along.shape)) * \
        np.sin(roll)[:, None, None]
    wide = (pointed if shape is None else shape)(share)[None, :, None] * width[:, None, None] / 2
    vertices = np.stack([middle - side * wide, middle + side * wide], axis=2).reshape(-1, 3)
    step = 2 * np.arange(steps)[:, None]
    quad = np.concatenate([step + (0, 1, 2), step + (1, 3, 2)], axis=0)
    faces = (quad[None] + (2 * (steps + 1) * np.arange(len(base)))[:, None, None]).reshape(-1, 3)
    growth.add(vertices, faces, np.repeat(np.broadcast_to(np.asarray(part), len(base)), 2 * steps))
    return middle


def pointed(share: np.ndarray) -> np.ndarray:
    """A leaf that is widest before its middle and ends in a point."""
    return np.maximum(np.sin(pi * share ** .7) ** .8, .04)


def sword(share: np.ndarray) -> np.ndarray:
    """A leaf as wide as at its foot until it narrows near its end."""
    return np.clip(np.minimum(.7 + share, 3 * (1 - share)), .04, 1)


def stalk(share: np.ndarray) -> np.ndarray:
    return 1 - .5 * share


def stem(growth: Growth, foot: np.ndarray, top: np.ndarray, thick: float) -> None:
    """A prism of five sides."""
    angle = 2 * pi * np.arange(5) / 5
    ring = np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1) * thick / 2
    k = np.arange(5)
    after = (k + 1) % 5
    faces = np.concatenate([np.stack([k, after, k + 5], axis=1), np.stack([after, after + 5, k + 5], axis=1)])
    growth.add(np.concatenate([foot + ring, top + ring * .7]), faces, STEM)


def pot(growth: Growth, rng: np.random.Generator, diameter: float, height: float) -> None:
    """Round or square, upright or narrower at its foot, filled with soil."""
    sectors = SECTORS if rng.random() < .75 else 4
    angle = 2 * pi * (np.arange(sectors) + .5) / sectors
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1) * diameter / 2
    narrow = rng.uniform(.6, 1.0)
    k = np.arange(sectors)
    after = (k + 1) % sectors
    walls = np.concatenate([np.stack([k, after, k + sectors], axis=1),
                            np.stack([after, after + sectors, k + sectors], axis=1)])
    lower, upper = np.c_[circle * narrow, 0 * k], np.c_[circle, 0 * k + height]
    growth.add(np.concatenate([lower, upper]), walls, POT)
    growth.add(np.concatenate([np.c_[circle * .97, 0 * k + height * .93], [[0, 0, height * .93]]]),
               np.stack([k, after, np.full(sectors, sectors)], axis=1), SOIL)


# ---- kinds; each grows from `z`, the top of its soil, in a pot of radius r, to about `high` metres. A plant twice as
# high has more leaves, not larger ones: how large they look tells how far away it is.

def shades(rng: np.random.Generator, n: int) -> np.ndarray:
    return np.where(rng.random(n) < rng.uniform(0, .5), YOUNG, LEAF)


def dragon_tree(growth: Growth, rng: np.random.Generator, r: float, z: float, high: float) -> None:
    """Bare stems, each with a head or several tufts of long hanging leaves."""
    straight, room = rng.uniform(0, .4), max(high - z - .25, .3)
    for _ in range(rng.integers(1, 5)):
        foot = np.r_[rng.uniform(-.6, .6, 2) * r, z]
        top = foot + np.r_[rng.normal(0, .1, 2), rng.uniform(.25, 1) * room]
        stem(growth, foot, top, rng.uniform(.02, .05))
        tufts = int(rng.integers(1, 2 + max(2, room * 4)))
        low = .35 if room < .9 else rng.uniform(.3, .9)
        for k in range(tufts):
            at, n = top + (foot - top) * low * k / tufts, int(rng.integers(30, 85))
            straps(growth, shades(rng, n), at + rng.normal(0, .02, (n, 3)), rng.uniform(0, 2 * pi, n),
                   rng.uniform(-.2, 1.5, n), rng.uniform(.25, .5) * rng.uniform(.7, 1.1, n), rng.uniform(.018, .055),
                   rng.uniform(.8, 2.2, n) * (1 - straight), 4, sword, rng.normal(0, .3, n))


def palm(growth: Growth, rng: np.random.Generator, r: float, z: float, high: float) -> None:
    """Fronds that rise from the soil or a stem, bow outwards and carry leaflets on either side."""
    more, trunk, tall = high ** .5, rng.random() < .4, high >= TALL[0]
    n, leaflets = int(rng.integers(9, 20) * more), int(rng.integers(11, 22) * more)
    foot = np.r_[0, 0, z]
    top = foot + np.r_[rng.normal(0, .03, 2), rng.uniform(.2, .7) * high if trunk else 0]
    if trunk:
        stem(growth, foot, top, rng.uniform(.03, .08))
    azimuth = 2 * pi * (np.arange(n) + rng.uniform(-.3, .3, n)) / n * rng.integers(1, 3)
    long = rng.uniform(.6, 1.0) * (more if trunk else high)
    middle = straps(growth, STEM, top + np.c_[np.cos(azimuth), np.sin(azimuth), 0 * azimuth] * r * .3, azimuth,
                    rng.uniform(1.15 if tall else .7, 1.5, n), long * rng.uniform(.7, 1.1, n), .012,
                    rng.uniform(.5, 1.4 if tall else 1.9, n), 6, stalk)
    at = np.linspace(.25, 1, leaflets)
    where = at * 6
    low = np.minimum(where.astype(int), 5)
    points = middle[:, low] + (middle[:, low + 1] - middle[:, low]) * (where - low)[:, None]      # (n, leaflets, 3)
    heading = np.arctan2(*(middle[:, low + 1] - middle[:, low])[..., [1, 0]].transpose(2, 0, 1))
    heading = np.where(np.isfinite(heading), heading, 0)
    for side in (-1, 1):
        total = n * leaflets
        straps(growth, shades(rng, total), points.reshape(-1, 3), (heading + side * rng.uniform(.6, 1.2)).ravel(),
               rng.normal(.1, .15, total), rng.uniform(.16, .32) * np.tile(np.sin(pi * (.15 + .75 * at)), n),
               rng.uniform(.02, .045), rng.uniform(.3, 1.2), 2, pointed, rng.normal(0, .3, total))


def broad(growth: Growth, rng: np.random.Generator, r: float, z: float, high: float) -> None:
    """Broad leaves on stalks out of the soil, as of a peace lily, or off stems, as of a rubber plant."""
    n, tall = int(rng.integers(30, 95) * max(high, 1)), high >= TALL[0]
    azimuth, rise = rng.uniform(0, 2 * pi, n), rng.uniform(.5, 1.5, n)
    base = np.r_[0, 0, z] + np.c_[np.cos(azimuth), np.sin(azimuth), 0 * azimuth] * r * .4
    if tall:
        stems = int(rng.integers(1, 5))
        foot = np.c_[rng.uniform(-.5, .5, (stems, 2)) * r, np.full(stems, z)]
        top = foot + np.c_[rng.normal(0, .12, (stems, 2)), rng.uniform(.6, .95, stems) * (high - z)]
        for ends in zip(foot, top, strict=True):
            stem(growth, *ends, rng.uniform(.012, .03))
        of = rng.integers(0, stems, n)
        base = foot[of] + (top - foot)[of] * rng.uniform(.1, 1, (n, 1))
        rise = rng.uniform(-.1, 1.2, n)
    middle = straps(growth, YOUNG, base, azimuth, rise, rng.uniform(.2, .6, n) * (.4 if tall else 1), .01,
                    rng.uniform(.1, .5, n), 3, stalk)
    long = rng.uniform(.12 if tall else .18, .36)
    straps(growth, shades(rng, n), middle[:, -1], azimuth + rng.normal(0, .4, n), rise - rng.uniform(.3, .9, n),
           long * rng.uniform(.7, 1.15, n), long * rng.uniform(.3, .75), rng.uniform(.3, 1.6, n), 4, pointed,
           rng.normal(0, .35, n))


def tree(growth: Growth, rng: np.random.Generator, r: float, z: float, high: float) -> None:
    """A stem, branches and a crown of many small leaves."""
    height, wide = rng.uniform(.75, 1.0) * (high - z), rng.uniform(.2, .4) * max(high, 1) ** .5
    clear = height * rng.uniform(.1, .55)
    foot = np.r_[0, 0, z]
    top = foot + np.r_[rng.normal(0, .05, 2), height * .9]
    stem(growth, foot, top, rng.uniform(.015, .04))
    n = int(rng.integers(8, 18) * max(high, 1))
    share = rng.uniform(clear / height, 1, n)
    azimuth = rng.uniform(0, 2 * pi, n)
    middle = straps(growth, STEM, foot + (top - foot) * share[:, None], azimuth, rng.uniform(0, 1, n),
                    wide * rng.uniform(.6, 1.2, n), .012, rng.uniform(-.4, .8, n), 3, stalk)
    leaves = int(rng.integers(250, 700) * max(high, 1) ** 1.5)
    branch, step = rng.integers(0, n, leaves), rng.integers(0, 4, leaves)
    long = rng.uniform(.07, .17)
    straps(growth, shades(rng, leaves), middle[branch, step] + rng.normal(0, .05, (leaves, 3)),
           rng.uniform(0, 2 * pi, leaves), rng.uniform(-.6, 1.0, leaves), long * rng.uniform(.7, 1.2, leaves),
           long * rng.uniform(.25, .6), rng.uniform(0, 1.2, leaves), 2, pointed, rng.normal(0, .5, leaves))


def blades(growth: Growth, rng: np.random.Generator, r: float, z: float, high: float) -> None:
    """Stiff leaves straight out of the soil, or soft ones that bow all around."""
    stiff = rng.random() < .5
    n = int((rng.integers(10, 30) if stiff else rng.integers(40, 110)) * max(high, 1))
    base = np.c_[rng.uniform(-.6, .6, (n, 2)) * r, np.full(n, z)]
    straps(growth, shades(rng, n), base, rng.uniform(0, 2 * pi, n),
           rng.uniform(1.2, 1.55, n) if stiff else rng.uniform(.5, 1.5, n),
           rng.uniform(.4, .9) * min(high, 1.4) * rng.uniform(.5, 1.1, n),
           rng.uniform(.04, .08) if stiff else rng.uniform(.01, .03), 0.1 if stiff else rng.uniform(.8, 2.4, n),
           4, sword, rng.normal(0, .5, n))


KINDS = (dragon_tree, dragon_tree, palm, palm, broad, broad, tree, blades)


def grow(seed: int, small: bool = False, tall: bool = False) -> tuple[Growth, tuple[Part, ...]]:
    """One plant in its pot and the colours of its parts; the same seed always grows the same one."""
    rng = np.random.default_rng((seed, 77))
    growth = Growth()
    diameter, height = (rng.uniform(.3, .5), rng.uniform(.15, .35)) if small else (
        rng.uniform(.22, .42), rng.uniform(.2, .42))
    pot(growth, rng, diameter, height)
    KINDS[seed % len(KINDS)](growth, rng, diameter / 2, height * .93, rng.uniform(*TALL) if tall else 1.0)
    green = np.array(GREENS[rng.integers(len(GREENS))]) * rng.uniform(.7, 1.2)
    colors = {POT: POTS[rng.integers(len(POTS))], SOIL: (.2, .15, .11), STEM: (.36, .30, .20), LEAF: green,
              YOUNG: np.clip(green * rng.uniform(1.0, 1.5) + (.04, .05, 0), 0, 1)}
    return growth, tuple(Part(tuple(np.round(colors[k], 4).tolist()), FINISHES[k]) for k in range(len(FINISHES)))


def grown_models(first: int, large: int = 32, small: int = 16, tall: int = 32):
    """Plants as models of a library, numbered from `first`: (Model, vertices (v, 3) uint16, triangles, parts) of each.

    Small ones are the same kinds at a third of the size; tall ones are as high as people.
    """
    for k in range(large + small + tall):
        little, high = large <= k < large + small, k >= large + small
        growth, parts = grow(k, little, high)
        vertices = np.concatenate(growth.vertices)
        faces, part = np.concatenate(growth.faces), np.concatenate(growth.part)
        vertices[:, 2] = np.maximum(vertices[:, 2], 0)                # leaves lie down on the floor
        reach = abs(vertices[:, :2]).max(axis=0)                         # the pot stays in the middle
        scale = min(1.0, (WIDEST_TALL if high else WIDEST) / (2 * reach.max())) * (1 / 3 if little else 1)
        vertices, reach = vertices * scale, reach * scale
        low, top = np.r_[-reach, 0], np.r_[reach, vertices[:, 2].max()]
        quantised = np.round((vertices - low) / (top - low) * 65535).astype(np.uint16)
        yield Model(first + k, KINDS[k % len(KINDS)].__name__.replace("_", " "), "small plant" if little else "plant",
                    "plant", tuple((top - low).tolist()), 0.0, (), parts, CREDIT), quantised, faces, part
