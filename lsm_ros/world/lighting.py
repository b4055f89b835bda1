"""Lamps, daylight and sun."""
from __future__ import annotations

from math import cos, exp, log, pi, sin
from random import Random

import numpy as np

from lsm_ros.world.layout import Layout
from lsm_ros.world.packing import MAX_LIGHTS
from lsm_ros.world.parts import Maker
from lsm_ros.world.plan import Room
from lsm_ros.world.scene import POINT, SUN
from lsm_ros.world.things import ceiling_lamp

LARGE_M2 = 30                  # a room from here on has rows of lamps, and may be lit from two places

Place = tuple[float, float, float]


def light_room(layout: Layout) -> list[Place]:
    """Hangs the ceiling lamps; returns where their light comes from: one place, two in large rooms."""
    m, room = layout.m, layout.room
    if room.area > LARGE_M2 and layout.assembly.left() - layout.spare > 60 and m.chance(.6):
        return rows_of_lamps(layout)
    x = room.x0 + room.width * m.between(.35, .65)
    y = room.y0 + room.depth * m.between(.35, .65)
    lit, low = m.chance(.7), room.height - .1
    n = 0 if m.chance(.12) else 2 if room.area > 20 and m.chance(.4) else 1
    lamp = ceiling_lamp(m, lit)
    for k in range(n):
        at = x if n == 1 else room.x0 + room.width * (.3 + .4 * k)
        layout.assembly.add(lamp, at, y, room.height, m.pick((0, pi / 2)) if n == 1 else 0)
        x, low = at, room.height - lamp.height
    return [(x, y, low - .12)]


def rows_of_lamps(layout: Layout) -> list[Place]:
    """All alike, in a grid."""
    m, room = layout.m, layout.room
    lamp, turn = ceiling_lamp(m, m.chance(.7)), m.pick((0, pi / 2))
    across, deep = (min(3, max(1, round(side / m.between(2.2, 3.5)))) for side in (room.width, room.depth))
    for i in range(across):
        for j in range(deep):
            layout.assembly.add(lamp, room.x0 + room.width * (i + .5) / across, room.y0 + room.depth * (j + .5) / deep,
                                room.height, turn)
    z = room.height - lamp.height - .12
    if not m.chance(.25):
        return [((room.x0 + room.x1) / 2, (room.y0 + room.y1) / 2, z)]
    wide = room.width > room.depth
    return [(room.x0 + room.width * (part if wide else .5), room.y0 + room.depth * (.5 if wide else part), z)
            for part in (.25, .75)]


def illumination(m: Maker, soft: Random, rooms: list[Room], lamps: list[list[Place]]
                 ) -> tuple[np.ndarray, np.ndarray]:
    """Lights (L, 8) and ambient (6,): a lamp or a window in each room, the larger rooms first, at times the sun, and
    what a floor throws back. `soft` gives how large lights are and how much comes back: what `m` makes after them is
    the same whatever it gives."""
    rows = []
    for room, lamp in sorted(zip(rooms, lamps), key=lambda pair: -pair[0].area):
        panes = [(side, o) for side in range(4) for o in room.openings[side] if o.kind == "window"]
        kinds = ["lamp"] if not panes else m.pick((["lamp"], ["window"], ["window", "lamp"], ["window", "sun"]))
        warmth = m.between(-.28, .35)
        color = np.array([1 + warmth * .5, 1.0, 1 - warmth])
        size = (room.area / 12) ** .5
        for kind in kinds:
            side, o = m.pick(panes) if panes else (0, None)
            if kind == "lamp":
                elsewhere = (m.between(room.x0 + .4, room.x1 - .4), m.between(room.y0 + .4, room.y1 - .4),
                             room.height * m.between(.6, .95))
                glow = color * m.between(1.2, 5.0) * size / len(lamp)
                radius = exp(soft.uniform(log(.04), log(.4)))
                rows.extend((*at, *glow, POINT, radius if m.chance(.92) else -radius)
                            for at in (lamp if m.chance(.85) else [elsewhere]))
            elif kind == "window":
                x, y, _ = room.wall_pose(side, o.at, m.pick((-.7, -.5, .45)))    # daylight comes through the panes
                rows.append((x, y, (o.low + o.high) / 2 + .3, *np.array([.9, .97, 1.08]) * m.between(2.5, 9.0) * size,
                             POINT, .4 * min(o.width, o.high - o.low)))
            elif not any(row[6] == SUN for row in rows):
                yaw, rise = side * pi / 2 - pi / 2 + m.between(-.9, .9), m.between(.25, .9)
                rows.append((cos(yaw) * cos(rise), sin(yaw) * cos(rise), sin(rise),
                             *np.array([1.1, 1.0, .86]) * m.between(1.5, 5.0),
                             SUN, exp(soft.uniform(log(.004), log(.03)))))
    tint = np.array([m.between(.85, 1.1), 1.0, m.between(.85, 1.15)])
    above = exp(m.between(log(.06), log(.5)) + soft.uniform(0, 1.1))
    ambient = np.concatenate([tint * above, tint * above * m.between(.4, 1.0)])
    rows = rows[:MAX_LIGHTS - 1]
    return np.array([*rows, thrown_back(soft, max(rooms, key=lambda room: room.area), rows)]), ambient


def thrown_back(soft: Random, room: Room, rows: list[tuple[float, ...]]) -> tuple[float, ...]:
    """The light (8,) that a lit floor throws at ceiling and walls, as if from below it: half way from the room's first
    light to its middle (virtual point lights: Keller, SIGGRAPH 1997)."""
    x, y = ((at + middle) / 2 for at, middle in zip(rows[0], (room.x0 + room.width / 2, room.y0 + room.depth / 2)))
    falling = sum((np.array(row[3:6]) * (1 if row[6] == SUN else .5) for row in rows[:2]), np.zeros(3))
    warmth = soft.uniform(0, .3)
    back = falling * np.array([1 + .5 * warmth, 1, 1 - warmth]) * exp(soft.uniform(log(.15), log(1)))
    return x, y, -soft.uniform(.3, .8), *back, POINT, -soft.uniform(.8, 1.6)
