"""Furniture: one function a class, each with several designs and random proportions, assembled of parts.

Every function returns a Piece in the frame of lsm_ros/world/parts.py: its back at -y, standing on z = 0.
"""
from __future__ import annotations

from math import pi

from lsm_ros.world.models import modelled
from lsm_ros.world.parts import Maker, Piece, Top
from lsm_ros.world.scene import BOX, CYLINDER, ELLIPSOID

# ---- shared parts

def legs(m: Maker, piece: Piece, mat: int, w: float, d: float, h: float, style: str | None = None) -> None:
    """What carries a w x d board whose underside is at height h."""
    style = style or m.pick(("square", "square", "round", "tapered", "splayed", "sled"))
    t = m.between(.025, .07) if style == "square" else m.between(.02, .05)
    x, y = w / 2 - t / 2 - m.between(0, .03), d / 2 - t / 2 - m.between(0, .03)
    if style == "pedestal":
        piece.cylinder(mat, 0, 0, 0, min(w, d) * m.between(.4, .7), .03)
        piece.cylinder(mat, 0, 0, .02, m.between(.05, .14), h - .02)
    elif style == "star":
        reach = min(w, d) * m.between(.75, .95)
        for angle in (0, pi / 3, 2 * pi / 3):
            piece.box(mat, 0, 0, .02, reach, .045, .035, rz=angle)
        piece.cylinder(mat, 0, 0, .04, .055, h - .04)
    elif style == "panels":
        for side in (-1, 1):
            piece.box(mat, side * (w / 2 - .015), 0, 0, .03, d * .94, h)
    elif style == "sled":
        for side in (-1, 1):
            for end in (-1, 1):
                piece.box(mat, side * x, end * y, 0, t, t, h)
            piece.box(mat, side * x, 0, 0, t, 2 * y, t)
    else:
        for sx in (-1, 1):
            for sy in (-1, 1):
                if style == "square":
                    piece.box(mat, sx * x, sy * y, 0, t, t, h)
                elif style == "round":
                    piece.cylinder(mat, sx * x, sy * y, 0, t, h)
                elif style == "tapered":
                    piece.cone(mat, sx * x, sy * y, -h * .7, t * 1.5, h * 1.7, down=True)
                else:
                    piece.add(CYLINDER, mat, sx * x, sy * y, h / 2, t, t, h * 1.02, rx=sy * .14, ry=-sx * .14)


def plinth(m: Maker, piece: Piece, mat: int, w: float, d: float) -> float:
    """A base under a body; returns its height."""
    if m.chance(.35):
        height = m.between(.08, .2)
        legs(m, piece, m.mat("metal") if m.chance(.5) else mat, w, d, height, m.pick(("square", "round", "tapered")))
        return height
    height = m.between(.02, .09)
    piece.box(mat, 0, -.02, 0, w * .97, d - .05, height)
    return height


def handle(piece: Piece, mat: int, style: str, x: float, y: float, z: float, length: float, upright: bool) -> None:
    """On a front at depth y."""
    if style == "bar":
        piece.add(BOX, mat, x, y + .015, z, .014 if upright else length, .016, length if upright else .014)
    elif style == "rod":
        piece.add(CYLINDER, mat, x, y + .022, z, .014, .014, length, ry=0 if upright else pi / 2)
    elif style == "knob":
        piece.add(ELLIPSOID, mat, x, y + .012, z, .034, .034, .034)


def fronts(m: Maker, piece: Piece, mat: int, w: float, y: float, z: float, h: float, columns: int, rows: int,
           drawers: bool) -> None:
    """A grid of doors or drawers on the face at depth y, from height z."""
    gap, style = m.between(.004, .012), m.pick(("bar", "rod", "knob", "knob", "none"))
    metal = m.mat("metal", 4) if style != "none" else 0
    cw, ch = w / columns, h / rows
    for i in range(columns):
        for j in range(rows):
            x, low = -w / 2 + (i + .5) * cw, z + j * ch
            piece.box(mat, x, y, low + gap, cw - 2 * gap, .022, ch - 2 * gap)
            if style == "none":
                continue
            if drawers:
                handle(piece, metal, style, x, y + .011, low + ch * .6, cw * .4, upright=False)
            else:
                edge = x + (cw / 2 - .05) * (1 if i % 2 == 0 and columns > 1 else -1)
                handle(piece, metal, style, edge, y + .011, low + ch * (.5 if ch < 1.2 else .45), min(.3, ch * .3),
                       upright=True)


def backrest(m: Maker, piece: Piece, mat: int, soft: int, w: float, y: float, z: float, h: float,
             designs: tuple) -> None:
    """A chair's back above height z at depth y, leaning backwards a little."""
    design, lean, t = m.pick(designs), m.between(.03, .22), m.between(.018, .04)
    middle, y = z + h / 2, y - h / 2 * lean
    if design == "panel":
        low = m.between(0, .45) * h
        piece.add(BOX, soft, 0, y, middle + low / 2, w, t * m.between(1, 2.2), h - low, rx=lean)
        if low > .02:
            for side in (-1, 1):
                piece.add(BOX, mat, side * w * .42, y + .02, z + low / 2, .03, .02, low * 1.3, rx=lean)
    elif design == "round":
        piece.add(ELLIPSOID, soft, 0, y, middle + .03, w, t * 2.5, h, rx=lean)
    elif design == "slats":
        for side in (-1, 1):
            piece.add(BOX, mat, side * (w / 2 - .02), y, middle, .032, .03, h, rx=lean)
        if m.chance(.5):
            for k in range(m.count(2, 4)):
                at = .95 - .28 * k
                piece.add(BOX, mat, 0, y - (at - .5) * h * lean, z + h * at - .03, w * .92, .018, m.between(.04, .08),
                          rx=lean)
        else:
            piece.add(BOX, mat, 0, y - .46 * h * lean, z + h - .03, w, .025, .06, rx=lean)
            n = m.count(2, 5)
            for k in range(n):
                piece.add(BOX, mat, w * .8 * ((k + .5) / n - .5), y, middle, .02, .014, h * .95, rx=lean)
    elif design == "rails":
        for side in (-1, 1):
            piece.add(CYLINDER, mat, side * (w / 2 - .02), y, middle, .028, .028, h, rx=lean)
        piece.add(BOX, soft, 0, y - .3 * h * lean, z + h * .75, w * .95, t, h * .4, rx=lean)


def cushions(m: Maker, piece: Piece, mat: int, n: int, w: float, y: float, z: float, d: float, h: float) -> None:
    for k in range(n):
        x = w * ((k + .5) / n - .5)
        piece.box(mat, x, y, z, w / n - .012, d, h)
        if m.chance(.4):
            piece.ellipsoid(mat, x, y, z + h * .35, w / n * .96, d * .96, h)


def pillow(m: Maker, w: float | None = None) -> Piece:
    w = w or m.between(.35, .6)
    d, h = w * m.between(.6, 1.0), m.between(.09, .17)
    piece = Piece("pillow", w, d, h)
    mat = m.mat(m.pick(("linen", "fabric")), 6)
    if m.chance(.7):
        piece.ellipsoid(mat, 0, 0, 0, w * 1.08, d * 1.08, h)
    if not piece.parts or m.chance(.3):
        piece.box(mat, 0, 0, h * .22, w * .85, d * .85, h * .56)
    return piece


def pillows(most: int):
    """Puts some on the level part of a sofa, an armchair or a bed that is a model."""
    def put(m: Maker, piece: Piece) -> None:
        for top in piece.tops[:1]:
            for _ in range(m.count(0, most)):
                cushion = pillow(m, m.between(.32, .5))
                x, y = m.between(.8 * top.x0, .8 * top.x1), top.y0 + m.between(.1, .3)
                piece.put(cushion, x, y, top.z - .01, m.between(-.6, .6))
        piece.tops.clear()                                         # nothing else stands there
    return put


# ---- seats

@modelled(lambda m, office=False: "office chair" if office else "chair")
def chair(m: Maker, office: bool = False) -> Piece:
    w, d, seat = m.between(.38, .52), m.between(.38, .50), m.between(.42, .50)
    back = m.between(.32, .60)
    piece = Piece("chair", w + .03, d + .06, seat + back)
    frame = m.mat(m.pick(("wood", "wood", "metal", "lacquer", "plastic")), 5)
    soft = frame if m.chance(.4) else m.mat(m.pick(("fabric", "leather", "plastic")), 6)
    t = m.between(.02, .05) if not office else m.between(.05, .09)
    if office:
        frame = m.mat(m.pick(("dark plastic", "metal")), 3)
        soft = m.mat(m.pick(("fabric", "leather", "dark plastic")), 6)
        legs(m, piece, frame, w * 1.3, w * 1.3, seat - t, "star")
        piece.width = piece.depth = max(w * 1.25, d + .06)
    else:
        legs(m, piece, frame, w * .94, d * .94, seat - t,
             m.pick(("square", "square", "round", "tapered", "splayed", "sled", "pedestal")))
    if m.chance(.15):
        piece.cylinder(soft, 0, 0, seat - t, w, t, d)
    else:
        piece.box(soft, 0, 0, seat - t, w, d, t)
    if m.chance(.3) and not office:
        piece.ellipsoid(soft, 0, 0, seat - .02, w * .92, d * .92, m.between(.05, .09))
    gap = m.between(.06, .14) if office else 0.0
    if gap:
        piece.box(frame, 0, -d / 2, seat - t, .05, .03, gap + .2)
    backrest(m, piece, frame, soft, w * m.between(.85, 1.0), -d / 2 + .02, seat + gap, back,
             ("panel", "panel", "round") if office else ("panel", "slats", "slats", "rails", "round"))
    if m.chance(.6 if office else .2):
        for side in (-1, 1):
            height = m.between(.19, .22)
            piece.box(frame, side * (w / 2 + .015), .02, seat + height, .045, d * .6, .025)
            piece.box(frame, side * (w / 2 + .015), .05, seat - t, .03, .04, height + t)
        piece.width += .06
    piece.seats.append(Top(-w / 2, w / 2, -d / 2 + .05, d / 2, seat))
    return piece


@modelled(lambda m: m.pick(("stool", "stool", "bar stool")))
def stool(m: Maker) -> Piece:
    bar = m.chance(.35)
    seat, w = (m.between(.62, .80), m.between(.3, .4)) if bar else (m.between(.38, .5), m.between(.28, .45))
    piece = Piece("stool", w + .06, w + .06, seat)
    frame = m.mat(m.pick(("wood", "metal", "lacquer")), 5)
    soft = frame if m.chance(.4) else m.mat(m.pick(("fabric", "leather", "plastic")), 6)
    if not bar and m.chance(.2):                                    # a pouf
        if m.chance(.5):
            piece.cylinder(soft, 0, 0, 0, w * 1.2, seat)
        else:
            piece.ellipsoid(soft, 0, 0, 0, w * 1.5, w * 1.5, seat)
        piece.width = piece.depth = w * 1.5
        return piece
    t = m.between(.025, .08)
    legs(m, piece, frame, w * .9, w * .9, seat - t, m.pick(("square", "round", "splayed", "splayed", "pedestal")))
    if m.chance(.6):
        piece.cylinder(soft, 0, 0, seat - t, w, t)
    else:
        piece.box(soft, 0, 0, seat - t, w, w * m.between(.7, 1), t)
    if bar:
        piece.add(CYLINDER, frame, 0, 0, seat * .35, w, w, .02)
    piece.seats.append(Top(-w / 2, w / 2, -w / 2, w / 2, seat))
    return piece


@modelled("armchair", pillows(1))
def armchair(m: Maker) -> Piece:
    w, d, seat, back = m.between(.65, .95), m.between(.68, .92), m.between(.36, .46), m.between(.35, .65)
    piece = Piece("armchair", w, d, seat + back)
    soft = m.mat(m.pick(("fabric", "fabric", "leather")), 8)
    arm, base = m.between(.07, .18), m.between(.05, .16)
    frame = m.mat(m.pick(("wood", "metal")), 5)
    if m.chance(.3):                                                # an open wooden frame with cushions
        legs(m, piece, frame, w, d * .9, seat - .12, m.pick(("square", "splayed", "round")))
        for side in (-1, 1):
            piece.box(frame, side * (w / 2 - .03), .02, seat + .18, .06, d * .8, .03)
            piece.box(frame, side * (w / 2 - .03), d * .32, seat - .12, .04, .04, .3)
            piece.box(frame, side * (w / 2 - .03), -d * .32, seat - .12, .04, .04, .3)
        arm = .07
    else:
        legs(m, piece, frame, w * .92, d * .92, base, m.pick(("square", "round", "tapered")))
        piece.box(soft, 0, 0, base, w, d, seat - base - .1)
        sofa_arms(m, piece, soft, w, d, base, seat, arm)
    cushions(m, piece, soft if m.chance(.7) else m.mat("fabric", 8), 1, w - 2 * arm, .06, seat - .11, d - .16, .14)
    lean, thick = m.between(.08, .25), m.between(.12, .2)
    piece.add(BOX, soft, 0, -d / 2 + thick / 2 + .02, seat + back / 2 - .05, w - (2 * arm if m.chance(.5) else 0),
              thick,
              back + .1, rx=lean)
    if m.chance(.4):
        piece.put(pillow(m, m.between(.35, .45)), 0, -d * .12, seat + .18, m.between(-.4, .4))
    piece.seats.append(Top(arm - w / 2, w / 2 - arm, thick + .03 - d / 2, d / 2, seat + .03))
    return piece


def sofa_arms(m: Maker, piece: Piece, mat: int, w, d, base, seat, arm) -> None:
    high = m.between(.1, .28)
    rolled = m.chance(.35)
    for side in (-1, 1):
        piece.box(mat, side * (w - arm) / 2, 0, base, arm, d, seat + high - base)
        if rolled:
            piece.add(CYLINDER, mat, side * (w - arm) / 2, 0, seat + high, arm * 1.2, arm * 1.2, d, rx=pi / 2)


@modelled("sofa", pillows(4))
def sofa(m: Maker) -> Piece:
    seats = m.pick((2, 2, 3, 3, 3, 4))
    arm, d = m.between(.08, .24), m.between(.78, 1.0)
    w = seats * m.between(.52, .72) + 2 * arm
    seat, back, base = m.between(.36, .46), m.between(.30, .5), m.between(.03, .15)
    piece = Piece("sofa", w, d, seat + back)
    soft = m.mat(m.pick(("fabric", "fabric", "fabric", "leather")), 8)
    other = soft if m.chance(.75) else m.mat("fabric", 8)
    if base > .06:
        legs(m, piece, m.mat(m.pick(("wood", "metal")), 5), w * .96, d * .9, base,
             m.pick(("square", "round", "tapered")))
    piece.box(soft, 0, 0, base, w, d, seat - base - .11)
    sofa_arms(m, piece, soft, w, d, base, seat, arm)
    inner, thick = w - 2 * arm, m.between(.12, .24)
    piece.box(soft, 0, -d / 2 + thick / 2, base, w if m.chance(.5) else inner, thick, seat + back - base - .04)
    n = m.pick((1, seats, seats))
    cushions(m, piece, other, n, inner, thick / 2, seat - .12, d - thick, .14)
    if m.chance(.65):
        lean = m.between(.1, .3)
        for k in range(seats):
            x = inner * ((k + .5) / seats - .5)
            piece.add(m.pick((BOX, BOX, ELLIPSOID)), other, x, -d / 2 + thick + .08, seat + back * .48,
                      inner / seats - .015, .16,
                      back * m.between(.8, 1.1), rx=lean)
    if m.chance(.25) and w > 1.7:                                   # a chaise: one end runs forward
        side, reach = m.pick((-1, 1)), m.between(.4, .7)
        x = side * (inner / 2 - .33)
        piece.box(soft, x, d / 2 + reach / 2, base, .66, reach, seat - base - .11)
        piece.box(other, x, d / 2 + reach / 2, seat - .12, .64, reach, .13)
        for k, (shape, mat, label, px, py, *rest) in enumerate(piece.parts):
            piece.parts[k] = (shape, mat, label, px, py - reach / 2, *rest)
        piece.depth += reach
        back_y = -piece.depth / 2
    else:
        back_y = -d / 2
    for _ in range(m.pick((0, 0, 1, 2, 2, 3, 4))):
        piece.put(pillow(m, m.between(.32, .5)), m.between(-.45, .45) * inner, back_y + thick + m.between(.15, .4),
                  seat + .02, m.between(-1, 1))
    piece.seats.append(Top(-inner / 2, inner / 2, back_y + thick + .1, back_y + d, seat + .02))
    return piece


# ---- tables

def board(m: Maker, piece: Piece, mat: int, w, d, z, t, shape: str) -> None:
    if shape == "round":
        piece.cylinder(mat, 0, 0, z, w, t, d)
        piece.tops.append(Top(-w * .34, w * .34, -d * .34, d * .34, z + t))
    else:
        piece.box(mat, 0, 0, z, w, d, t)
        piece.tops.append(Top(-w / 2 + .03, w / 2 - .03, -d / 2 + .03, d / 2 - .03, z + t))


@modelled("table")
def table(m: Maker, w: float | None = None, d: float | None = None) -> Piece:
    shape = m.pick(("rectangle", "rectangle", "rectangle", "round"))
    d = d or m.between(.65, 1.05)
    w = w or (d * m.between(1.0, 1.3) if shape == "round" else d * m.between(1.0, 2.1))
    h, t = m.between(.70, .78), m.between(.018, .06)
    piece = Piece("table", w, d, h)
    top = m.mat(m.pick(("wood", "wood", "lacquer", "stone", "glass")), 8)
    frame = top if m.chance(.4) else m.mat(m.pick(("wood", "metal", "lacquer")), 8)
    board(m, piece, top, w, d, h - t, t, shape)
    style = m.pick(("square", "square", "round", "tapered", "splayed", "sled", "panels", "pedestal"))
    inset = .62 if shape == "round" and style != "pedestal" else .97
    legs(m, piece, frame, w * inset, d * inset, h - t, style)
    if m.chance(.3) and style in ("square", "round") and shape != "round":
        for side in (-1, 1):
            piece.box(frame, 0, side * (d / 2 - .06), h - t - .08, w - .12, .02, .08)
    if m.chance(.08) and shape != "round":                          # a table cloth
        piece.box(m.mat("linen"), 0, 0, h - m.between(.12, .3), w + .02, d + .02, .31)
    return piece


@modelled("coffee table")
def coffee_table(m: Maker) -> Piece:
    shape = m.pick(("rectangle", "rectangle", "round"))
    d = m.between(.45, .8)
    w = d * (m.between(1.0, 1.2) if shape == "round" else m.between(1.0, 2.0))
    h, t = m.between(.30, .5), m.between(.02, .08)
    piece = Piece("coffee table", w, d, h)
    top = m.mat(m.pick(("wood", "wood", "lacquer", "glass", "stone")), 8)
    board(m, piece, top, w, d, h - t, t, shape)
    style = m.pick(("square", "round", "tapered", "splayed", "sled", "panels", "pedestal", "block"))
    frame = top if m.chance(.5) else m.mat(m.pick(("wood", "metal")), 8)
    if style == "block":
        piece.box(frame, 0, 0, 0, w * .8, d * .8, h - t)
    else:
        inset = .62 if shape == "round" and style != "pedestal" else .96
        legs(m, piece, frame, w * inset, d * inset, h - t, style)
        if m.chance(.35) and shape != "round":
            piece.box(top, 0, 0, h * .3, w * .85, d * .85, .02)
    return piece


@modelled("desk")
def desk(m: Maker) -> Piece:
    w, d, h, t = m.between(1.0, 1.8), m.between(.55, .85), m.between(.70, .78), m.between(.02, .045)
    piece = Piece("desk", w, d, h)
    top = m.mat(m.pick(("wood", "wood", "lacquer")), 8)
    frame = top if m.chance(.4) else m.mat(m.pick(("metal", "wood", "lacquer")), 8)
    board(m, piece, top, w, d, h - t, t, "rectangle")
    design = m.pick(("legs", "legs", "panels", "one pedestal", "one pedestal", "two pedestals", "standing"))
    if design == "standing":
        for side in (-1, 1):
            piece.box(frame, side * w * .36, 0, 0, .07, d * .85, .04)
            piece.box(frame, side * w * .36, 0, .04, .08, .06, h - t - .04)
        piece.box(frame, 0, 0, h - t - .05, w * .7, .04, .05)
    elif design in ("legs", "panels"):
        legs(m, piece, frame, w * .98, d * .96, h - t, "panels" if design == "panels" else None)
    for side in {"one pedestal": (m.pick((-1, 1)),), "two pedestals": (-1, 1)}.get(design, ()):
        pw = m.between(.34, .45)
        x = side * (w / 2 - pw / 2 - .01)
        piece.box(frame, x, 0, .03, pw, d * .92, h - t - .03)
        for k in range(rows := m.count(2, 3)):
            ch = (h - t - .05) / rows
            piece.box(top, x, d * .46, .035 + k * ch, pw - .02, .022, ch - .012)
            handle(piece, frame, "bar", x, d * .47, .04 + (k + .6) * ch, pw * .4, upright=False)
        if design == "one pedestal":
            piece.box(frame, -side * (w / 2 - .02), 0, 0, .04, d * .92, h - t)
    if m.chance(.4):
        piece.box(frame, 0, -d / 2 + .04, h * .35, w * .9, .018, h * .5)
    return piece


# ---- beds and storage

@modelled("bed", pillows(3))
def bed(m: Maker) -> Piece:
    double = m.chance(.6)
    w, d = m.between(1.35, 1.85) if double else m.between(.82, 1.1), m.between(1.9, 2.15)
    low, thick = m.between(.14, .34), m.between(.14, .28)
    top = low + thick
    piece = Piece("bed", w + .06, d + .08, top)
    frame = m.mat(m.pick(("wood", "wood", "lacquer", "metal", "fabric")))
    sheet, cover = m.mat("linen"), m.mat(m.pick(("linen", "fabric")))
    if m.chance(.5):
        legs(m, piece, frame, w, d, low - .1 if low > .2 else low, m.pick(("square", "round", "tapered")))
        piece.box(frame, 0, 0, max(.02, low - .12), w + .04, d + .04, .13)
    else:
        piece.box(frame, 0, 0, .01, w + .05, d + .05, low)
    piece.box(sheet, 0, 0, low, w, d, thick)
    if m.chance(.85):                                               # a blanket over the lower part
        length, drop = d * m.between(.5, .78), m.between(.05, thick)
        piece.box(cover, m.between(-.03, .03), d / 2 - length / 2 + .02, top - drop, w + .05, length, drop + .04,
                  rz=m.between(-.03, .03))
        if m.chance(.2):
            piece.ellipsoid(cover, m.between(-.2, .2) * w, d * .1, top - .05, w * .8, length * .7, m.between(.14, .24))
        if m.chance(.35):
            piece.box(m.mat("fabric"), 0, d * m.between(.3, .4), top - .03, w + .07, m.between(.3, .6), .09)
    design = m.pick(("panel", "panel", "cushioned", "slats", "rails", "none"))
    high = top + m.between(.2, .75)
    piece.height = top if design == "none" else high
    if design == "panel":
        piece.box(frame, 0, -d / 2 - .02, 0, w + m.between(.05, .3), .05, high)
    elif design == "cushioned":
        n = m.count(1, 4)
        for k in range(n):
            piece.box(m.mat("fabric", 8) if k == 0 else piece.parts[-1][1], (w + .06) * ((k + .5) / n - .5),
                      -d / 2 - .02, .1,
                      (w + .06) / n - .006, .11, high - .1)
    elif design != "none":
        n = 2 if design == "rails" else m.count(4, 7)
        for side in (-1, 1):
            piece.box(frame, side * (w / 2), -d / 2 - .02, 0, .06, .05, high)
        piece.box(frame, 0, -d / 2 - .02, high - .08, w, .04, .08)
        for k in range(n):
            if design == "rails":
                piece.box(frame, 0, -d / 2 - .02, top + k * (high - top) / 2, w, .025, .07)
            else:
                piece.box(frame, w * ((k + .5) / n - .5), -d / 2 - .02, low, .03, .025, high - low - .04)
    if m.chance(.3):
        piece.box(frame, 0, d / 2 + .02, 0, w + .05, .05, top + m.between(-.05, .2))
    for k in range(n := m.pick((2, 2, 4)) if double else m.pick((1, 1, 2))):
        x = (k % 2 - .5) * w * .48 if n > 1 and double else m.between(-.05, .05)
        cushion = pillow(m, min(.68, w * m.between(.38, .44) if double else w * .65))
        piece.put(cushion, x, -d / 2 + .28 + (.2 if k > 1 else 0), top, m.between(-.1, .1))
    return piece


@modelled("wardrobe")
def wardrobe(m: Maker) -> Piece:
    n = m.pick((2, 2, 3, 4))
    w, d, h = n * m.between(.4, .6), m.between(.5, .66), m.between(1.75, 2.35)
    piece = Piece("wardrobe", w, d + .04, h)
    body = m.mat(m.pick(("wood", "wood", "lacquer")))
    face = body if m.chance(.5) else m.mat(m.pick(("wood", "lacquer", "lacquer")))
    base = plinth(m, piece, body, w, d)
    drawers = m.between(.2, .45) if m.chance(.25) else 0.0
    piece.box(body, 0, -.02, base, w, d, h - base)
    front = d / 2 - .02
    if drawers:
        fronts(m, piece, face, w - .02, front, base + .01, drawers, n // 2 or 1, 1, drawers=True)
    fronts(m, piece, face, w - .02, front, base + drawers + .01, h - base - drawers - .02, n, 1, drawers=False)
    if m.chance(.2):
        piece.box(m.mat("mirror", 3), (m.count(0, n - 1) + .5) * w / n - w / 2, front + .012, base + drawers + .1,
                  w / n * .8, .006,
                  h - base - drawers - .25)
    if m.chance(.4):
        piece.box(body, 0, 0, h, w + .04, d + .04, .03)
    piece.tops.append(Top(-w / 2, w / 2, -d / 2, d / 2 - .05, h + .03, .4))
    return piece


@modelled(lambda m, w=None, low=None: "low cabinet" if low or low is None and m.chance(.6) else "tall cabinet")
def cabinet(m: Maker, w: float | None = None, low: bool | None = None) -> Piece:
    low = m.chance(.6) if low is None else low
    w, d = w or m.between(.5, 1.7), m.between(.32, .5)
    h = m.between(.4, 1.0) if low else m.between(1.2, 2.0)
    piece = Piece("cabinet", w, d + .03, h)
    body = m.mat(m.pick(("wood", "wood", "lacquer", "metal")))
    face = body if m.chance(.5) else m.mat(m.pick(("wood", "lacquer")))
    base = plinth(m, piece, body, w, d)
    piece.box(body, 0, -.015, base, w, d, h - base)
    columns = max(1, round(w / m.between(.38, .65)))
    rows = 1 if low else m.pick((1, 2, 2))
    if m.chance(.25) and columns > 1:                               # one part of it open
        open_w = w / columns
        piece.box(m.mat("dark plastic", 2), -w / 2 + open_w / 2, d / 2 - .018, base + .03, open_w - .05, .012,
                  h - base - .06)
        piece.box(body, -w / 2 + open_w / 2, d / 2 - .015, base + (h - base) * .5, open_w, .014, .02)
    fronts(m, piece, face, w - .02, d / 2 - .015, base + .01, h - base - .03, columns, rows, drawers=m.chance(.15))
    if m.chance(.4):
        piece.box(m.mat(m.pick(("wood", "stone"))), 0, 0, h, w + .03, d + .03, .025)
    piece.tops.append(Top(-w / 2 + .02, w / 2 - .02, -d / 2, d / 2 - .04, h + .025 * (len(piece.parts) > 0)))
    return piece


@modelled(lambda m, small=None: "small drawers" if small or small is None and m.chance(.4) else "drawers")
def drawers(m: Maker, small: bool | None = None) -> Piece:
    small = m.chance(.4) if small is None else small
    w, d = (m.between(.35, .55), m.between(.32, .45)) if small else (m.between(.6, 1.4), m.between(.38, .52))
    h = m.between(.38, .65) if small else m.between(.65, 1.3)
    piece = Piece("drawers", w, d + .03, h)
    body = m.mat(m.pick(("wood", "wood", "lacquer", "metal")))
    base = plinth(m, piece, body, w, d)
    piece.box(body, 0, -.015, base, w, d, h - base)
    rows = m.count(1, 3) if small else m.count(3, 5)
    fronts(m, piece, body if m.chance(.6) else m.mat(m.pick(("wood", "lacquer"))), w - .03, d / 2 - .015, base + .01,
           h - base - .03, 2 if w > .9 and m.chance(.4) else 1, rows, drawers=True)
    piece.tops.append(Top(-w / 2 + .02, w / 2 - .02, -d / 2, d / 2 - .04, h))
    return piece


def book_row(m: Maker, w: float, d: float, h: float) -> Piece:
    """Books that stand side by side, w wide: a striped block, or a few blocks of different heights."""
    piece = Piece("book", w, d, h)
    n = 1 if w < .12 else m.count(1, 3)
    at = -w / 2
    for k in range(n):
        part = w / n
        piece.box(m.mat("book", 6), at + part / 2, 0, 0, part - .004, d * m.between(.75, 1), h * m.between(.65, 1))
        at += part
    return piece


@modelled("bookshelf")
def bookshelf(m: Maker) -> Piece:
    w, d, h = m.between(.45, 1.3), m.between(.22, .38), m.between(.8, 2.2)
    rows = max(2, round(h / m.between(.32, .45)))
    piece = Piece("bookshelf", w, d, h)
    wood, t = m.mat(m.pick(("wood", "wood", "lacquer", "metal"))), m.between(.016, .035)
    back = m.chance(.7)
    if m.chance(.8):
        for side in (-1, 1):
            piece.box(wood, side * (w - t) / 2, 0, 0, t, d, h)
    else:                                                           # posts
        for sx in (-1, 1):
            for sy in (-1, 1):
                piece.box(wood, sx * (w - .03) / 2, sy * (d - .03) / 2, 0, .03, .03, h)
    if back:
        piece.box(wood if m.chance(.7) else m.mat("lacquer"), 0, -d / 2 + .006, 0, w, .012, h)
    pitch, low = (h - t - .06) / rows, .06
    for k in range(rows + 1):
        piece.box(wood, 0, 0, low + k * pitch, w - t, d - .01, t)
    if w > .8 and m.chance(.4):
        piece.box(wood, 0, 0, low, t, d - .01, h - low)
    fill = m.between(.3, .95)
    for k in range(rows):
        if not m.chance(fill):
            continue
        width = (w - 2 * t) * m.between(.25, .95)
        tall = min(.34, pitch - t - .02) * m.between(.6, 1)
        x = m.between(-.5, .5) * (w - 2 * t - width)
        piece.put(book_row(m, width, d * m.between(.6, .85), tall), x, 0, low + k * pitch + t)
    piece.tops.append(Top(-w / 2 + .02, w / 2 - .02, -d / 2, d / 2, h))
    return piece


@modelled("rack")
def rack(m: Maker) -> Piece:
    """A standing open shelf; wall shelves are in things.py."""
    w, d, h = m.between(.5, 1.3), m.between(.28, .5), m.between(.7, 2.0)
    piece = Piece("shelf", w, d, h)
    post, deck = m.mat(m.pick(("metal", "metal", "wood"))), m.mat(m.pick(("wood", "metal", "lacquer")))
    for sx in (-1, 1):
        for sy in (-1, 1):
            piece.cylinder(post, sx * (w / 2 - .02), sy * (d / 2 - .02), 0, .03, h)
    n = m.count(2, 5)
    for k in range(n):
        z = .08 + (h - .1) * k / (n - 1)
        piece.box(deck, 0, 0, z, w, d, .02)
        piece.tops.append(Top(-w / 2 + .05, w / 2 - .05, -d / 2 + .03, d / 2 - .03, z + .02, (h - .1) / (n - 1) - .05))
    return piece
