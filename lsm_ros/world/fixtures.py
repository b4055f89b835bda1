"""Kitchens and bathrooms: counters with sink and oven, refrigerators, toilets, basins, bathtubs."""
from __future__ import annotations

from math import pi

from lsm_ros.world.furniture import fronts, handle, plinth
from lsm_ros.world.models import MODEL_SHARE, modelled, row_of_models
from lsm_ros.world.parts import Maker, Piece, Top
from lsm_ros.world.scene import BOX, CYLINDER, ELLIPSOID


def tap(m: Maker, piece: Piece, x: float, y: float, z: float) -> None:
    """A tap whose spout points forward."""
    metal, h, reach = m.mat("metal", 3), m.between(.12, .32), m.between(.1, .2)
    piece.cylinder(metal, x, y, z, .03, h)
    piece.add(CYLINDER, metal, x, y + reach / 2, z + h, .022, .022, reach, rx=pi / 2 + m.between(-.3, .1))
    if m.chance(.4):
        piece.add(BOX, metal, x, y + .02, z + h + .02, .02, .08, .015)


def sink_bowl(m: Maker, w: float, d: float) -> Piece:
    """A sink let into a worktop: its rim stands on z = 0, its well is dark glass-like metal or ceramic."""
    piece = Piece("sink", w, d, .02)
    metal = m.mat(m.pick(("metal", "ceramic")))
    rim = .03
    for side in (-1, 1):
        piece.box(metal, side * (w - rim) / 2, 0, 0, rim, d, .014)
        piece.box(metal, 0, side * (d - rim) / 2, 0, w, rim, .014)
    piece.box(m.mat("metal", 3) if m.chance(.5) else metal, 0, 0, -.002, w - rim, d - rim, .006)
    if m.chance(.5):
        piece.cylinder(m.mat("dark plastic", 2), 0, 0, .003, .06, .003)
    tap(m, piece, 0, -d / 2 + .015, .01)
    return piece


def hob(m: Maker, w: float, d: float) -> Piece:
    piece = Piece("oven", w, d, .02)
    piece.box(m.mat(m.pick(("screen off", "metal"))), 0, 0, 0, w, d, .012)
    if m.chance(.7):
        iron = m.mat("dark plastic", 2)
        for sx in (-1, 1):
            for sy in (-1, 1):
                piece.cylinder(iron, sx * w * .24, sy * d * .24, .01, m.between(.13, .2), .012)
    return piece


@modelled(lambda m, *size, stove=True: "oven" if stove and not size else None)       # not where it is built in
def oven(m: Maker, w: float = .6, d: float = .58, h: float | None = None, stove: bool = True) -> Piece:
    """A free-standing stove, or an oven front of the same make to build in."""
    h = h or m.between(.82, .92)
    piece = Piece("oven", w, d + .04, h)
    body = m.mat("appliance")
    piece.box(body, 0, -.02, 0, w, d, h)
    face, low, high = d / 2 - .02, h * .16, h * .72
    piece.box(m.mat("screen off", 3), 0, face, low + .05, w * .8, .02, high - low - .12)
    piece.box(body, 0, face, low, w * .94, .014, high - low)
    handle(piece, m.mat("metal", 3), "rod", 0, face + .01, high - .03, w * .75, upright=False)
    if m.chance(.8):
        knobs, dark = m.count(2, 5), m.mat("dark plastic", 2)
        for k in range(knobs):
            piece.add(CYLINDER, dark, w * .8 * ((k + .5) / knobs - .5), face + .015, h * .88, .045, .045, .03,
                      rx=pi / 2)
    if stove:
        piece.put(hob(m, w * .92, d * .86), 0, 0, h)
        piece.tops.append(Top(-w * .4, w * .4, -d * .35, d * .3, h + .025))
    return piece


@modelled("microwave")
def microwave(m: Maker) -> Piece:
    w, d, h = m.between(.42, .55), m.between(.3, .4), m.between(.25, .32)
    piece = Piece("oven", w, d, h)
    body = m.mat("appliance")
    piece.box(body, 0, 0, 0, w, d, h)
    piece.box(m.mat("screen off", 3), -w * .12, d / 2, .03, w * .68, .012, h - .06)
    piece.box(m.mat("dark plastic", 2), w * .37, d / 2, .03, w * .18, .01, h - .06)
    return piece


@modelled("refrigerator")
def refrigerator(m: Maker) -> Piece:
    w, d = m.between(.55, .9), m.between(.58, .72)
    h = m.between(1.4, 2.0) if m.chance(.8) else m.between(.82, .95)
    piece = Piece("refrigerator", w, d + .05, h)
    body = m.mat("appliance")
    piece.box(m.mat("dark plastic", 2), 0, -.03, 0, w * .95, d * .9, .05)
    piece.box(body, 0, -.025, .04, w, d, h - .04)
    face, style, metal = d / 2 - .025, m.pick(("bar", "rod", "rod")), m.mat("metal", 3)
    if w > .78 and m.chance(.6):                                    # side by side
        for side in (-1, 1):
            piece.box(body, side * w / 4, face + .02, .07, w / 2 - .008, .05, h - .09)
            handle(piece, metal, style, side * .05, face + .045, h * .55, h * .4, upright=True)
    else:
        split = h * (m.pick((.35, .62, .68)) if h > 1.2 else 1.0)
        side = m.pick((-1, 1)) * (w / 2 - .06)
        piece.box(body, 0, face + .02, .07, w - .006, .05, split - .075)
        handle(piece, metal, style, side, face + .045, split - .25, .3, upright=True)
        if split < h:
            piece.box(body, 0, face + .02, split + .005, w - .006, .05, h - split - .02)
            handle(piece, metal, style, side, face + .045, split + (h - split) * .45, min(.35, (h - split) * .5),
                   upright=True)
    if m.chance(.3):
        for _ in range(m.count(1, 3)):                              # notes and magnets
            piece.box(m.mat("paper", 3), m.between(-.3, .3) * w, face + .046, h * m.between(.6, .85), .12, .004, .14,
                      label="picture")
    piece.tops.append(Top(-w / 2 + .05, w / 2 - .05, -d / 2, d / 2 - .1, h, .35))
    return piece


def counter(m: Maker, w: float, front: int | None = None) -> Piece:
    """A kitchen run, w wide, with sink and oven where they fit; `front` is the material of its fronts."""
    d, h, t = m.between(.56, .66), m.between(.84, .95), m.between(.025, .05)
    piece = Piece("counter", w, d + .03, h)
    body, stone = m.mat(m.pick(("wood", "lacquer", "lacquer"))) if front is None else front, m.mat("stone")
    base = .09
    piece.box(m.mat("dark plastic", 2), 0, -.03, 0, w, d - .08, base)
    modules = max(1, round(w / .6))
    mw = w / modules
    oven_at = m.count(0, modules - 1) if modules > 1 and m.chance(.8) else -1
    sink_at = m.pick([k for k in range(modules) if k != oven_at]) if m.chance(.85) else -1
    piece.box(body, 0, -.015, base, w, d, h - t - base)
    piece.box(stone, 0, 0, h - t, w + .02, d + .03, t)
    face, start = d / 2 - .015, 0
    for k in range(modules + 1):                                    # fronts between the ovens, run by run
        if k in (oven_at, modules):
            if k > start:
                length = (k - start) * mw
                run = Piece("counter")
                fronts(m, run, body, length, 0, 0, h - t - base - .01, k - start, m.pick((1, 1, 2, 3)),
                       drawers=m.chance(.3))
                piece.parts += [(s, a, b, x + start * mw + length / 2 - w / 2, y + face, z + base, *rest)
                                for s, a, b, x, y, z, *rest in run.parts]
            start = k + 1
    if oven_at >= 0:
        x = (oven_at + .5) * mw - w / 2
        built_in = oven(m, mw - .01, d - .02, h - t - base - .005, stove=False)
        piece.put(built_in, x, .012, base)
        piece.put(hob(m, mw * .92, d * .8), x, 0, h)
        if m.chance(.35):
            piece.put(pot_on_hob(m), x + .12, m.between(-.1, .1), h + .02)
    if sink_at >= 0:
        x = (sink_at + .5) * mw - w / 2
        piece.put(sink_bowl(m, min(mw * .9, m.between(.42, .6)), d * m.between(.6, .75)), x, 0, h)
    for k in range(modules):
        if k not in (oven_at, sink_at):
            piece.tops.append(Top(k * mw - w / 2 + .04, (k + 1) * mw - w / 2 - .04, -d / 2 + .05, d / 2 - .08, h, .45))
    if m.chance(.25):
        piece.box(m.mat("wall tiles"), 0, -d / 2 - .005, h, w, .012, m.between(.3, .55), label="wall")
    return piece


def wall_cupboards(m: Maker, w: float, front: int | None = None) -> Piece:
    """Hung above a counter; z = 0 is their underside. `front` is the material of their fronts."""
    by_models = m.models is not None and front is None and m.chance(MODEL_SHARE)
    row = row_of_models(m, "wall cupboard", w) if by_models else None
    if row is not None:
        return row
    d, h, n = m.between(.3, .38), m.between(.5, .8), max(1, round(w / m.between(.45, .65)))
    piece = Piece("cabinet", w, d, h)
    body = m.mat(m.pick(("wood", "lacquer", "lacquer"))) if front is None else front
    piece.box(body, 0, -.01, 0, w, d, h)
    fronts(m, piece, body if m.chance(.7) else m.mat("glass"), w - .01, d / 2 - .01, .005, h - .01, n, 1, drawers=False)
    return piece


def larder(m: Maker, front: int) -> Piece:
    """Cupboards as high as doors, beside a counter and of the material of its fronts."""
    n = m.pick((1, 1, 2, 2, 3))
    w, d, h = n * m.between(.4, .62), m.between(.56, .66), m.between(1.95, 2.3)
    piece = Piece("cabinet", w, d + .03, h)
    piece.box(m.mat("dark plastic", 2), 0, -.03, 0, w, d - .08, .09)
    piece.box(front, 0, -.015, .09, w, d, h - .09)
    low = m.pick((0, 0, .7, 1.3))                                   # where it is two doors high
    face = d / 2 - .015
    if low:
        fronts(m, piece, front, w, face, .1, low - .1, n, 1, drawers=False)
    fronts(m, piece, front, w, face, max(low, .09) + .01, h - max(low, .09) - .02, n, 1, drawers=False)
    return piece


def hood(m: Maker) -> Piece:
    piece = Piece("object", .6, .5, .5)
    metal = m.mat(m.pick(("metal", "appliance")))
    piece.box(metal, 0, 0, 0, .6, .5, m.between(.05, .12))
    piece.box(metal, 0, -.1, .05, .28, .26, .6)
    return piece


@modelled("pot")
def pot_on_hob(m: Maker) -> Piece:
    piece = Piece("object", .2, .2, .15)
    metal, w, h = m.mat(m.pick(("metal", "ceramic", "dark plastic"))), m.between(.16, .24), m.between(.06, .16)
    piece.cylinder(metal, 0, 0, 0, w, h)
    if m.chance(.6):
        piece.add(CYLINDER, m.mat("dark plastic", 2), -w * .9, 0, h * .85, .02, .02, .16, ry=pi / 2)
    else:
        piece.ellipsoid(m.mat("glass", 2), 0, 0, h - .02, w * .95, w * .95, .05)
    return piece


@modelled("toilet")
def toilet(m: Maker) -> Piece:
    w, d, h = m.between(.34, .4), m.between(.56, .72), m.between(.38, .44)
    tank = m.chance(.7)
    piece = Piece("toilet", w + .04, d, h + (.38 if tank else .02))
    white = m.mat("ceramic", 2)
    bowl = d * .66
    front = d / 2 - bowl / 2
    if tank or m.chance(.3):
        piece.cylinder(white, 0, front - .06, 0, w * .62, h * .6, bowl * .7)
        piece.box(white, 0, -d / 2 + (d - bowl) / 2, 0, w * .55, d - bowl, h * .8)
        piece.ellipsoid(white, 0, front, h * .22, w, bowl, h * 1.2)
    else:                                                           # hung from the wall
        piece.ellipsoid(white, 0, front - .05, h * .3, w, bowl * 1.15, h * 1.1)
        piece.box(white, 0, -d / 2 + .12, h * .45, w * .85, .24, h * .5)
    piece.cylinder(m.mat("ceramic", 2) if m.chance(.7) else m.mat("wood", 4), 0, front, h, w * 1.02, .03, bowl * 1.04)
    if m.chance(.45):                                               # the lid stands open
        piece.add(ELLIPSOID, white, 0, -d / 2 + (.22 if tank else .06), h + .2, w, .035, .44, rx=.12)
    else:
        piece.cylinder(white, 0, front, h + .03, w, .015, bowl)
    if tank:
        piece.box(white, 0, -d / 2 + .09, h, w + .03, .17, .34)
        piece.box(white, 0, -d / 2 + .09, h + .34, w + .05, .19, .03)
    else:
        piece.box(m.mat("plastic", 4), 0, -d / 2 + .006, h + .55, .24, .012, .16)
        piece.height = h + .71
    return piece


@modelled("washbasin")
def washbasin(m: Maker) -> Piece:
    w, d, h = m.between(.42, .75), m.between(.36, .5), m.between(.78, .9)
    piece = Piece("sink", w, d, h)
    white = m.mat("ceramic", 2)
    design = m.pick(("pedestal", "pedestal", "wall", "vanity", "vanity", "bowl"))
    if design in ("vanity", "bowl"):
        wood = m.mat(m.pick(("wood", "lacquer")))
        under = Piece("cabinet", w, d, h)
        base = plinth(m, under, wood, w, d)
        under.box(wood, 0, -.015, base, w, d, h - base - (.12 if design == "bowl" else .06))
        fronts(m, under, wood, w - .02, d / 2 - .015, base + .01, h - base - .16, m.pick((1, 2)), m.pick((1, 2)),
               m.chance(.4))
        piece.parts += under.parts
    elif design == "pedestal":
        piece.cylinder(white, 0, -.04, 0, m.between(.14, .2), h - .1)
    if design == "bowl":
        piece.ellipsoid(white, 0, .02, h - .14, w * .62, d * .75, .2)
        piece.cylinder(m.mat("glass", 2), 0, .02, h - .06, w * .54, .034, d * .66)
    else:
        piece.box(white, 0, 0, h - .07, w, d, .07)
        if design != "vanity":
            piece.ellipsoid(white, 0, .02, h - .22, w * .9, d * .85, .3 if m.chance(.3) else .26)
        inner = m.mat("ceramic", 2) if m.chance(.5) else m.mat("metal", 3)
        piece.cylinder(inner, 0, .03, h, w * .66, .004, d * .6)
    tap(m, piece, 0, -d * .36, h)
    piece.tops.append(Top(w * .28, w * .46, -d * .4, d * .3, h, .4))
    return piece


@modelled("bathtub")
def bathtub(m: Maker) -> Piece:
    w, d, h, t = m.between(1.45, 1.85), m.between(.68, .85), m.between(.48, .62), m.between(.04, .08)
    piece = Piece("bathtub", w, d, h)
    white = m.mat("ceramic", 2)
    side = white if m.chance(.6) else m.mat(m.pick(("wall tiles", "wood")))
    if m.chance(.25):                                               # free-standing: an oval shell with a darker well
        piece.ellipsoid(white, 0, 0, 0, w, d, h * 1.5)
        piece.cylinder(white, 0, 0, h - .04, w, .05, d)
        piece.cylinder(m.mat("ceramic", 2), 0, 0, h, w * .88, .012, d * .8)
    else:
        piece.box(side, 0, d / 2 - t / 2, 0, w, t, h)
        piece.box(side, 0, -d / 2 + t / 2, 0, w, t, h)
        for end in (-1, 1):
            piece.box(side, end * (w - t) / 2, 0, 0, t, d, h)
        piece.box(white, 0, 0, .02, w - t, d - t, m.between(.08, .14))
        if side != white:
            for end in (-1, 1):
                piece.box(white, 0, end * (d - t) / 2, h, w, t + .02, .02)
                piece.box(white, end * (w - t) / 2, 0, h, t + .02, d, .02)
    tap(m, piece, m.pick((-1, 1)) * m.between(0, .4) * w, -d / 2 + .03, h)
    return piece
