"""The building: a plan of rooms, their walls with doors and windows, floors and ceilings."""
from __future__ import annotations

from dataclasses import dataclass, field
from math import atan2, cos, pi, sin

from lsm_ros.world.parts import Assembly, Maker, Piece
from lsm_ros.world.scene import BOX
from lsm_ros.world.things import blind, curtains

SMALLEST_ROOM = 2.4


@dataclass(frozen=True)
class Opening:
    """A hole in one side of a room, in the frame of that wall."""
    kind: str                  # "door", "arch" or "window"
    at: float                  # its middle along the wall
    width: float
    low: float
    high: float
    other: int = -1            # the room behind it, -1: outside


@dataclass
class Room:
    """An upright box of air. Side k of its walls has the outward normal -y, +x, +y, -x for k = 0..3.

    A wall's frame: origin at the corner where the side begins, x along the wall, y into the room; yaw k * 90 degrees.
    """
    use: str                   # living, bedroom, kitchen, bath, office, corridor, hall, mixed
    x0: float
    x1: float
    y0: float
    y1: float
    height: float
    openings: tuple[list[Opening], ...] = field(default_factory=lambda: ([], [], [], []))

    @property
    def width(self) -> float:
        return self.x1 - self.x0

    @property
    def depth(self) -> float:
        return self.y1 - self.y0

    @property
    def area(self) -> float:
        return self.width * self.depth

    def side_length(self, side: int) -> float:
        return self.width if side % 2 == 0 else self.depth

    def wall_pose(self, side: int, along: float = 0.0, away: float = 0.0) -> tuple[float, float, float]:
        """World x, y and yaw of the point `along` the wall and `away` from it."""
        x, y = ((self.x0, self.y0), (self.x1, self.y0), (self.x1, self.y1), (self.x0, self.y1))[side]
        yaw = side * pi / 2
        return x + cos(yaw) * along - sin(yaw) * away, y + sin(yaw) * along + cos(yaw) * away, yaw


USES = {"home": ("living",), "office": ("office",), "kitchen": ("kitchen",), "bedroom": ("bedroom",), "bath": ("bath",),
        "hall": ("hall",), "corridor": ("corridor", "office", "mixed"),
        "apartment": ("living", "bedroom", "kitchen", "bath", "corridor", "mixed")}
SIDES = {"living": (3.2, 8.0), "office": (2.8, 8.0), "kitchen": (2.4, 5.5), "bedroom": (2.6, 5.5), "bath": (2.4, 4.0),
         "corridor": (1.4, 2.4), "hall": (6.0, 14.0), "mixed": (2.4, 7.0)}
LARGE = {"living": ((6.0, 10.0), (4.5, 7.5)), "office": ((7.0, 13.0), (5.0, 9.0)), "kitchen": ((5.0, 8.0), (3.5, 6.0))}
"""Lofts, open-plan offices, kitchens that are lived in; metres along x and y."""


def make_plan(m: Maker, kind: str) -> list[Room]:
    """One to four rooms that touch wall to wall, with the doors between them."""
    height, wall = m.between(2.3, 2.9) if m.chance(.65) else m.between(2.9, 3.7), m.between(.07, .24)
    if kind == "apartment":
        rooms = split_plan(m, m.pick((2, 2, 3, 3, 4)), height, wall)
    elif kind == "corridor":
        rooms = corridor_plan(m, height, wall)
    else:
        use = USES[kind][0]
        long, short = LARGE[use] if use in LARGE and m.chance(.3) else (SIDES[use], SIDES[use])
        w, d = m.between(*long), m.between(*short)
        if use == "hall":
            height = max(height, m.between(2.6, 5.0))
        rooms = [Room(use, 0, w, 0, min(d, 2.2 * w), height)]
        if m.chance(.3):                                            # a second one behind a door or a wide opening
            d = rooms[0].depth
            rooms.append(Room(m.pick(("living", "corridor", "mixed", "kitchen")), w + wall,
                              w + wall + m.between(2.4, 6), 0,
                              d, height))
    connect(m, rooms, wall)
    for room in rooms:
        windows_and_doors(m, room, rooms, wall)
    return rooms


def split_plan(m: Maker, n: int, height: float, wall: float) -> list[Room]:
    """A rectangle cut in two until there are n rooms; the largest is cut next, across its longer side."""
    long = m.between(1.9, 2.5) if n < 4 else m.between(2.3, 2.8)
    w, d = m.between(2.7, 4.3) * long * (n / 3) ** .5, m.between(2.7, 4.8) * (n / 3) ** .5
    cells = [(0.0, max(w, 2 * SMALLEST_ROOM + .5), 0.0, max(d, SMALLEST_ROOM))]
    while len(cells) < n:
        x0, x1, y0, y1 = cell = max(cells, key=lambda c: (c[1] - c[0]) * (c[3] - c[2]))
        along_x = x1 - x0 > y1 - y0
        low, high = (x0, x1) if along_x else (y0, y1)
        if high - low < 2 * SMALLEST_ROOM + wall:
            break
        cut = low + max(SMALLEST_ROOM, min(high - low - SMALLEST_ROOM - wall,
                                           (high - low) * m.between(.33, .67) - wall / 2))
        cells.remove(cell)
        if along_x:
            cells += [(x0, cut, y0, y1), (cut + wall, x1, y0, y1)]
        else:
            cells += [(x0, x1, y0, cut), (x0, x1, cut + wall, y1)]
    cells.sort(key=lambda c: -(c[1] - c[0]) * (c[3] - c[2]))
    first = m.pick(("living", "living", "office", "mixed"))
    uses = [first, *m.rng.sample(("bedroom", "kitchen", "bath", "mixed", "bedroom"), 3)]
    return [Room(use, *cell, height) for use, cell in zip(uses, cells)]


def corridor_plan(m: Maker, height: float, wall: float) -> list[Room]:
    w, d = m.between(1.4, 2.4), m.between(4.0, 8.0)
    rooms = [Room("corridor", 0, d, 0, w, height)]
    if m.chance(.5):
        x0 = m.between(0, d - SMALLEST_ROOM)
        x1 = min(x0 + m.between(SMALLEST_ROOM, 5), d)
        rooms.append(Room(m.pick(("office", "mixed", "bedroom", "bath")), x0, x1, w + wall,
                          w + wall + m.between(2.4, 4.5), height))
    return rooms


def shared_side(a: Room, b: Room, wall: float) -> tuple[int, float, float] | None:
    """Side of `a` behind which `b` lies, and the stretch they share in world x or y."""
    for side, (edge, other, lo, hi) in enumerate(((a.y0, b.y1, max(a.x0, b.x0), min(a.x1, b.x1)),
                                                  (b.x0, a.x1, max(a.y0, b.y0), min(a.y1, b.y1)),
                                                  (b.y0, a.y1, max(a.x0, b.x0), min(a.x1, b.x1)),
                                                  (a.x0, b.x1, max(a.y0, b.y0), min(a.y1, b.y1)))):
        if abs(edge - other - wall) < 1e-6 and hi - lo > 1.3:
            return side, lo, hi
    return None


def along(room: Room, side: int, world: float) -> float:
    """World x or y of a point on a side -> its place along that wall's frame."""
    return (world - room.x0, world - room.y0, room.x1 - world, room.y1 - world)[side]


def connect(m: Maker, rooms: list[Room], wall: float) -> None:
    """A door or a wide opening between neighbours: first those that join every room, then some more."""
    joined = {0}
    pairs = [(i, j) for i in range(len(rooms)) for j in range(i)]
    m.rng.shuffle(pairs)
    for extra in (False, False, False, True):
        for i, j in pairs:
            reaches_new = (i in joined) != (j in joined)
            if reaches_new if extra else not reaches_new:
                continue
            if extra and not m.chance(.25):
                continue
            a, b = rooms[i], rooms[j]
            if any(o.other == j for side in a.openings for o in side) or (touch := shared_side(a, b, wall)) is None:
                continue
            side, lo, hi = touch
            wide = m.chance(.35) and "bath" not in (a.use, b.use)
            width = min(m.between(1.2, 4.0), hi - lo - .3) if wide else m.between(.76, .95)
            high = min(a.height - .12, m.between(2.1, 2.6)) if wide else m.between(1.97, 2.12)
            middle = m.between(lo + width / 2 + .12, hi - width / 2 - .12)
            kind = "arch" if wide or m.chance(.15) else "door"
            a.openings[side].append(Opening(kind, along(a, side, middle), width, 0, high, j))
            b.openings[(side + 2) % 4].append(Opening(kind, along(b, (side + 2) % 4, middle), width, 0, high, i))
            joined |= {i, j}


def free_of(room: Room, side: int, at: float, width: float) -> bool:
    """True where an opening of that width keeps clear of the others and of the corners."""
    return width / 2 + .08 < at < room.side_length(side) - width / 2 - .08 and \
        all(abs(at - o.at) > (width + o.width) / 2 + .15 for o in room.openings[side])


def windows_and_doors(m: Maker, room: Room, rooms: list[Room], wall: float) -> None:
    """Windows in outer walls, and closed doors."""
    outer = [side for side in range(4)
             if not any(shared_side(room, other, wall) and shared_side(room, other, wall)[0] == side
                        for other in rooms if other is not room)]
    share = {"corridor": .15, "bath": .35}.get(room.use, .5)
    high = min(room.height - .12, m.between(1.95, 2.4) + max(0, room.height - 2.9) * m.between(0, 1))
    low = m.between(.75, 1.2) if m.chance(.85) else m.between(.03, .4)
    for side in outer:
        if not m.chance(share):
            continue
        for _ in range(m.pick((1, 1, 2)) + (room.side_length(side) > 7)):
            width = m.between(.7, min(2.4, .6 * room.side_length(side)))
            at = m.between(.2, .8) * room.side_length(side)
            if free_of(room, side, at, width):
                room.openings[side].append(Opening("window", at, width, low, high))
    closed = m.count(1, 3) if room.use == "corridor" else m.pick((0, 1, 1))
    for _ in range(closed):
        side, width = m.pick(range(4)), m.between(.76, .98)
        at = m.between(.08, .92) * room.side_length(side)
        if free_of(room, side, at, width) and side in outer:
            room.openings[side].append(Opening("door", at, width, 0, m.between(1.97, 2.15)))
    if outer and m.chance({"corridor": .4, "bath": 0}.get(room.use, .15)):
        row_of_doors(m, room, max(outer, key=room.side_length))


def row_of_doors(m: Maker, room: Room, side: int) -> None:
    """Closed doors side by side, as many as find a place: store rooms, lavatories, lockers as high as people."""
    width, high, apart = m.between(.76, .98), m.between(1.97, 2.15), m.between(.2, .8)
    first = m.between(.05, .6) * room.side_length(side)
    for k in range(m.pick((2, 2, 3, 4))):
        at = first + k * (width + apart)
        if free_of(room, side, at, width):
            room.openings[side].append(Opening("door", at, width, 0, high))


@dataclass(frozen=True)
class Style:
    """What a building has in common from room to room."""
    wall: float                # thickness of the slab on one room's side
    trim: int
    door: int
    skirting: float            # height, 0 none


def build_walls(m: Maker, rooms: list[Room], assembly: Assembly) -> None:
    """Adds floors, ceilings, walls, doors, windows with their curtains; a wall seen from two rooms has two slabs."""
    gap = min((abs(b.x0 - a.x1) for a in rooms for b in rooms if b.x0 > a.x1), default=.2)
    gap = min((abs(b.y0 - a.y1) for a in rooms for b in rooms if b.y0 > a.y1), default=gap)
    skirting = m.between(.05, .13) if m.chance(.65 if len(rooms) < 3 else .3) else 0.0
    # A dark door is not a dark cupboard: frames and walls that are light around it tell how far away it is.
    dark = m.chance(.25)
    trim = m.mat("light trim" if dark and m.chance(.7) else "trim")
    style = Style(gap / 2, trim, m.mat("dark door" if dark else "door"), skirting)
    papers = [m.pick(("wall paint", "wall paint", "wall paint", "wallpaper", "masonry")) for _ in rooms]
    for index, room in enumerate(rooms):
        finish = "wall tiles" if room.use == "bath" and m.chance(.7) else papers[0] if m.chance(.5) else papers[index]
        paint = m.mat(finish, 3)
        accent = m.mat(m.pick(("wall paint", "wallpaper", "masonry"))) if m.chance(.2) else paint
        floor = {"bath": ("tile floor",), "kitchen": ("tile floor", "wood floor"),
                 "office": ("carpet floor", "carpet floor", "wood floor", "concrete")}.get(
                     room.use, ("wood floor", "wood floor", "tile floor", "carpet floor", "concrete"))
        slab(assembly, room, style.wall, "floor", m.mat(m.pick(floor), 2))
        slab(assembly, room, style.wall, "ceiling", m.mat("ceiling", 2))
        odd = m.count(0, 3)
        for side in range(4):
            build_wall(m, room, index, side, accent if side == odd else paint, style, assembly)


def slab(assembly: Assembly, room: Room, t: float, label: str, mat: int) -> None:
    piece = Piece(label)
    low = -.2 if label == "floor" else room.height
    piece.box(mat, 0, 0, low, room.width + 2 * t, room.depth + 2 * t, .2)
    assembly.add(piece, (room.x0 + room.x1) / 2, (room.y0 + room.y1) / 2, building=True)


def lay_carpets(m: Maker, room: Room, assembly: Assembly) -> None:
    """Some floors have a second finish: along a lane, in a part of the room, or all but a border. To a network that
    has not seen any, a coloured lane through a room of wood is a bench."""
    if not m.chance(.35):
        return
    mat = m.mat(m.pick(("carpet floor", "carpet floor", "rug", "tile floor", "wood floor", "concrete")), 5)
    x0, x1, y0, y1 = room.x0, room.x1, room.y0, room.y1
    kind = m.pick(("lane", "lane", "lane", "cross", "part", "part", "field"))
    areas = []
    for along_x in (True, False) if kind == "cross" else (m.chance(.5),):
        low, high = (y0, y1) if along_x else (x0, x1)
        if kind == "field":
            edge = m.between(.2, .4) * min(room.width, room.depth)
            areas.append((x0 + edge, x1 - edge, y0 + edge, y1 - edge))
            continue
        if kind == "part":
            cut = m.between(.25, .75) * (high - low) + low
            low, high = (low, cut) if m.chance(.5) else (cut, high)
        else:
            wide = min(m.between(.4, 2.0), .6 * (high - low))
            low = m.between(low, high - wide) if m.chance(.7) else m.pick((low, high - wide))
            high = low + wide
        areas.append((x0, x1, low, high) if along_x else (low, high, y0, y1))
    carpet = Piece("floor")
    for ax0, ax1, ay0, ay1 in areas[:assembly.left()]:
        carpet.box(mat, (ax0 + ax1) / 2, (ay0 + ay1) / 2, 0, ax1 - ax0, ay1 - ay0, .003)
    assembly.add(carpet, building=True)


def build_wall(m: Maker, room: Room, index: int, side: int, mat: int, style: Style, assembly: Assembly) -> None:
    t, length, height = style.wall, room.side_length(side), room.height
    wall = Piece("wall")
    start = -t
    for o in sorted(room.openings[side], key=lambda o: o.at) + [None]:
        end = o.at - o.width / 2 if o else length + t
        wall.box(mat, (start + end) / 2, -t / 2, 0, end - start, t, height)
        if style.skirting and end - start > .2:
            lo, hi = max(start, 0), min(end, length)
            wall.box(style.trim, (lo + hi) / 2, .006, 0, hi - lo, .014, style.skirting)
        if o:
            wall.box(mat, o.at, -t / 2, o.high, o.width, t, height - o.high)
            if o.low > 0:
                wall.box(mat, o.at, -t / 2, 0, o.width, t, o.low)
            start = o.at + o.width / 2
    pose = room.wall_pose(side)
    x, y, yaw = pose
    assembly.add(wall, x, y, 0, yaw, building=True)
    for o in room.openings[side]:
        if o.kind == "window":
            assembly.add(window(m, o, t, style), x, y, 0, yaw)
            dressing = dress(m, room, o)
            if dressing is not None:
                assembly.add(dressing, *room.wall_pose(side, o.at)[:2], 0, yaw)
        elif o.kind == "door" and index > o.other:                  # a door between two rooms is made once
            assembly.add(door(m, o, t, style), x, y, 0, yaw)


def window(m: Maker, o: Opening, t: float, style: Style) -> Piece:
    """Frame, panes that shine like the sky, and a sill, in the frame of the wall."""
    piece, w, h = Piece("window"), o.width, o.high - o.low
    frame = m.mat("trim", 3) if m.chance(.6) else style.trim
    y = -t * m.between(.3, .9)
    edge = m.between(.03, .07)
    piece.box(m.mat("outside", 3), o.at, y, o.low, w, .02, h)
    columns, rows = (m.count(1, 2) if w < 1.3 else m.count(2, 3)), m.pick((1, 1, 1, 2))
    for i in range(columns + 1):
        piece.box(frame, o.at + (w - edge) * (i / columns - .5), y, o.low, edge, .06, h)
    for j in range(rows + 1):
        piece.box(frame, o.at, y, o.low + (h - edge) * j / rows, w, .055, edge)
    if o.low > .3 and m.chance(.7):
        piece.box(frame, o.at, -t / 2 + .06, o.low - .03, w + .08, t + .1, .03)
    return piece


def dress(m: Maker, room: Room, o: Opening) -> Piece | None:
    p = m.rng.random()
    if p < .42 and room.use != "bath":
        return curtains(m, o.width, o.low, min(o.high, room.height - .1))
    if p < .65:
        return blind(m, o.width + .04, o.low, min(o.high + .03, room.height - .02))
    return None


def door(m: Maker, o: Opening, t: float, style: Style) -> Piece:
    """Frame and leaf, in the frame of the wall; a door to the outside is closed."""
    piece, w, h = Piece("door"), o.width, o.high
    y, deep = (-t, 2 * t + .03) if o.other >= 0 else (-t / 2, t + .03)
    for side in (-1, 1):
        piece.box(style.trim if m.chance(.5) else style.door, o.at + side * (w / 2 + .015), y, 0, .09, deep, h + .04)
    piece.box(style.trim, o.at, y, h - .02, w + .1, deep, .07)
    leaf = w - .06
    hinge, into = m.pick((-1, 1)), m.pick((-1, 1)) if o.other >= 0 else 1
    swing = 0.0 if o.other < 0 else m.between(1.1, 1.75) if m.chance(.85) else 0.3
    if o.other >= 0 and m.chance(.12):
        return piece                                                # the leaf has been taken off
    hx, hy = o.at + hinge * leaf / 2, -.03 if o.other < 0 else 0.0 if into > 0 else -2 * t
    ax, ay = -hinge * cos(swing), into * sin(swing)                 # the leaf's direction, from its hinge

    def on_leaf(mat, along, out, z, w, d, h):
        piece.add(BOX, mat, hx + ax * along - ay * out, hy + ay * along + ax * out, z, w, d, h, rz=atan2(ay, ax))

    on_leaf(style.door, leaf / 2, 0, h / 2, leaf, .042, h - .02)
    metal = m.mat("metal", 3)
    for out in (-.045, .045):
        on_leaf(metal, leaf - .07, out, 1.02, .12, .02, .022)
    panels = m.pick((0, 0, 1, 2, 2))
    for k in range(panels):
        tall = (h - .3) / panels
        inset = m.mat("glass", 2) if m.chance(.15) and k == panels - 1 else style.door
        on_leaf(inset, leaf / 2, 0, .12 + (k + .5) * tall, leaf * .68, .058, tall - .14)
    return piece
