"""Finding places for the objects of a room."""
from __future__ import annotations

from collections.abc import Sequence
from math import atan2, cos, pi, sin

from lsm_ros.world.parts import Assembly, Maker, Piece, Top
from lsm_ros.world.plan import Room, along

Footprint = tuple[float, float, float, float, float, float, float, float]
"""Middle x, y; half extents; cosine, sine of the yaw; lowest and highest z."""

BODY_M, LEGS_M = .2, .32       # half of what somebody who sits takes, and of how far his legs reach forward


class Layout:
    """Finds places for the objects of one room so that they neither meet nor block doors and windows."""

    def __init__(self, m: Maker, room: Room, assembly: Assembly, budget: int):
        self.m, self.room, self.assembly = m, room, assembly
        self.spare = max(assembly.left() - budget, 0)      # primitives that are kept for the rooms still to come
        self.taken: list[Footprint] = []
        self.tables: list[Footprint] = []                  # of those, under which legs go
        self.seats: list[tuple[Top, Footprint]] = []       # with what they belong to
        self.ground = 0.0                                  # floor area that is taken, square metres
        for side in range(4):
            for o in room.openings[side]:
                x, y, yaw = room.wall_pose(side, o.at, .5 if o.kind != "window" else .1)
                reach = .55 if o.kind != "window" else .13
                self.taken.append((x, y, o.width / 2 + (.1 if o.kind == "window" else .02), reach, cos(yaw), sin(yaw),
                                   max(o.low, .05), o.high))

    def fits(self, footprint: Footprint, besides: Sequence[Footprint] = ()) -> bool:
        """Inside the room and clear of everything that is there, `besides` some."""
        x, y, hw, hd, c, s, *_ = footprint
        ex, ey = abs(c) * hw + abs(s) * hd, abs(s) * hw + abs(c) * hd
        room = self.room
        if x - ex < room.x0 - 1e-3 or x + ex > room.x1 + 1e-3 or y - ey < room.y0 - 1e-3 or y + ey > room.y1 + 1e-3:
            return False
        return not any(overlap(footprint, other) and other not in besides for other in self.taken)

    def place(self, piece: Piece, x, y, z, yaw, margin: float = .02, force: bool = False, around: float = 0.0) -> bool:
        """Puts it there if it fits and primitives are left. `around`: what must be free on all sides, for chairs that
        come later, and is not taken."""
        # people stand things on rugs
        low, high = (-.1, 0.0) if piece.label == "rug" else (z, z + max(piece.height, .01))
        shape = (x, y, piece.width / 2 + margin, piece.depth / 2 + margin / 2, cos(yaw), sin(yaw), low, high)
        wide = (x, y, shape[2] + around, shape[3] + around, *shape[4:])
        if piece.count() > self.assembly.left() - self.spare or not (force or self.fits(wide)):
            return False
        self.taken.append(shape)
        self.seats += [(seat, shape) for seat in piece.seats]
        if piece.label in ("table", "desk"):
            self.tables.append(shape)
        if z < .1 < piece.height:
            self.ground += piece.width * piece.depth
        self.assembly.add(piece, x, y, z, yaw)
        return True

    def at_wall(self, piece: Piece, z: float = 0.0, gap: float | None = None, sides=None, tries: int = 8,
                at: float | None = None) -> tuple[float, float, float, int] | None:
        """With its back to a wall. Returns x, y, yaw, side, or None where there is no place."""
        m, room = self.m, self.room
        gap = m.between(.01, .06) if gap is None else gap
        for _ in range(tries):
            side = m.pick(sides or (0, 1, 2, 3))
            length, half = room.side_length(side), piece.width / 2 + .03
            if length < 2 * half:
                continue
            place = at if at is not None else m.pick((m.between(half, length - half), half, length - half))
            x, y, yaw = room.wall_pose(side, place, piece.depth / 2 + gap)
            if self.place(piece, x, y, z, yaw):
                return x, y, yaw, side
        return None

    def on_wall(self, piece: Piece, low: float, high: float, tries: int = 6, side: int | None = None,
                at: float | None = None) -> bool:
        """Hangs a piece whose back is at y = 0 with its lowest point between two heights."""
        m, room = self.m, self.room
        for _ in range(tries):
            k = m.count(0, 3) if side is None else side
            length, half = room.side_length(k), piece.width / 2 + .03
            if length < 2 * half or low + piece.height > room.height:
                continue
            z = m.between(low, max(low, min(high, room.height - piece.height - .05)))
            x, y, yaw = room.wall_pose(k, m.between(half, length - half) if at is None else at)
            t = max(piece.depth / 2, .02)
            shape = (x - sin(yaw) * t, y + cos(yaw) * t, piece.width / 2, t, cos(yaw), sin(yaw), z, z + piece.height)
            if piece.count() <= self.assembly.left() - self.spare and self.fits(shape):
                self.taken.append(shape)
                self.assembly.add(piece, x, y, z, yaw)
                return True
        return False

    def free(self, piece: Piece, tries: int = 8, margin: float = .1, square: bool = False,
             around: float = 0.0) -> tuple[float, float, float] | None:
        """Anywhere on the floor."""
        m, room = self.m, self.room
        hw, hd = piece.width / 2 + margin + around, piece.depth / 2 + margin / 2 + around
        for _ in range(tries):
            yaw = m.count(0, 3) * pi / 2 + (m.between(-.1, .1) if square else m.between(-.8, .8))
            c, s = abs(cos(yaw)), abs(sin(yaw))
            ex, ey = c * hw + s * hd, s * hw + c * hd
            if 2 * ex >= room.width or 2 * ey >= room.depth:
                continue
            x, y = m.between(room.x0 + ex, room.x1 - ex), m.between(room.y0 + ey, room.y1 - ey)
            if self.place(piece, x, y, 0, yaw, margin, around=around):
                return x, y, yaw
        return None

    def beside(self, pose, piece: Piece, dx: float, dy: float, turn: float = 0.0, force: bool = False) -> bool:
        """At (dx, dy) in the frame of an object that stands at `pose`."""
        x, y, yaw = pose[:3]
        c, s = cos(yaw), sin(yaw)
        return self.place(piece, x + c * dx - s * dy, y + s * dx + c * dy, 0, yaw + turn, margin=.01, force=force)

    def above(self, pose: tuple[float, float, float, int], piece: Piece, low: float, high: float) -> bool:
        """On the wall over an object that stands there at `pose`, between two heights."""
        side = pose[3]
        return self.on_wall(piece, low, high, tries=2, side=side, at=along(self.room, side, pose[side % 2]))

    def sit(self, seat: Top, of: Footprint, piece: Piece, dx: float, dy: float) -> bool:
        """Puts somebody on a seat of what stands on a footprint, at (dx, dy) in its frame, if there is room for a body
        and, be it under a table, for legs."""
        x, y, _, _, c, s, *_ = of
        bodies = [(x + c * dx - s * ahead, y + s * dx + c * ahead, BODY_M, half, c, s, low, high)
                  for ahead, half, low, high in ((dy, BODY_M, seat.z + .2, piece.height),
                                                 (dy + LEGS_M, LEGS_M, .05, seat.z + .15))]
        if piece.count() > self.assembly.left() or not (self.fits(bodies[0], [of])
                                                        and self.fits(bodies[1], [of, *self.tables])):
            return False
        self.taken += bodies
        self.assembly.add(piece, *bodies[0][:2], 0, atan2(s, c))
        return True

    def crowded(self) -> bool:
        most = .42 if self.m.models is None else .5        # of the floor
        return self.ground > most * self.room.area or self.assembly.left() - self.spare < 8


def overlap(a: Footprint, b: Footprint) -> bool:
    """Separating axes of two upright boxes."""
    ax, ay, aw, ad, ac, as_, a0, a1 = a
    bx, by, bw, bd, bc, bs, b0, b1 = b
    if a1 <= b0 or b1 <= a0:
        return False
    dx, dy = bx - ax, by - ay
    c, s = abs(ac * bc + as_ * bs), abs(ac * bs - as_ * bc)
    return abs(dx * ac + dy * as_) < aw + bw * c + bd * s and abs(dy * ac - dx * as_) < ad + bw * s + bd * c and \
        abs(dx * bc + dy * bs) < bw + aw * c + ad * s and abs(dy * bc - dx * bs) < bd + aw * s + ad * c
