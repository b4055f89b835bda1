"""Lamps, plants, screens, people, what hangs on walls, and the small things that lie about. Frames as in parts.py; what
hangs on a wall has its back at y = 0 and its lowest point at z = 0."""
from __future__ import annotations

from math import cos, pi, sin
from random import Random

from lsm_ros.world import figures
from lsm_ros.world.furniture import book_row
from lsm_ros.world.models import MODEL_SHARE, model_piece, modelled, pictured, screen_on
from lsm_ros.world.parts import Maker, Piece, Top
from lsm_ros.world.scene import BOX, CONE, CYLINDER, ELLIPSOID

PERSON_MODELS = .5             # of the people where there are models: their legs do not move

# ---- lamps

def shade(m: Maker, piece: Piece, lit: bool, x: float, y: float, z: float, w: float, h: float) -> None:
    mat = m.mat("lamp shade" if lit else "shade off", 4)
    design = m.pick(("drum", "drum", "cone", "ball", "bell"))
    if design == "drum":
        piece.cylinder(mat, x, y, z, w, h)
    elif design == "cone":
        piece.cone(mat, x, y, z, w, h * 1.5)
    elif design == "ball":
        piece.ellipsoid(mat, x, y, z, w, w, h * 1.1)
    else:
        piece.cone(mat, x, y, z, w, h)
        piece.cylinder(mat, x, y, z + h * .4, w * .55, h * .6)


@modelled(lambda m, lit=False: None if lit else "floor lamp")
def floor_lamp(m: Maker, lit: bool = False) -> Piece:
    h, w = m.between(1.3, 1.85), m.between(.25, .5)
    piece = Piece("lamp", w, w, h)
    metal = m.mat(m.pick(("metal", "wood", "dark plastic")), 5)
    design = m.pick(("pole", "pole", "arc", "tripod"))
    if design == "tripod":
        for k in range(3):
            a = 2 * pi * k / 3
            piece.add(CYLINDER, metal, .13 * cos(a), .13 * sin(a), h * .37, .025, .025, h * .77, rx=.34 * sin(a),
                      ry=-.34 * cos(a))
    else:
        piece.cylinder(metal, 0, 0, 0, m.between(.2, .32), .025)
        piece.cylinder(metal, 0, 0, .02, m.between(.02, .035), h - .2)
    if design == "arc":
        reach = m.between(.3, .6)
        piece.add(CYLINDER, metal, 0, reach / 2, h - .12, .025, .025, reach * 1.1, rx=pi / 2 - .25)
        shade(m, piece, lit, 0, reach, h - .4, w * .7, .2)
    else:
        shade(m, piece, lit, 0, 0, h - .3, w, m.between(.2, .35))
    return piece


@modelled("table lamp")
def table_lamp(m: Maker) -> Piece:
    h, w = m.between(.32, .62), m.between(.16, .34)
    piece = Piece("lamp", w, w, h)
    foot = m.mat(m.pick(("metal", "ceramic", "wood", "pot")), 6)
    lit = m.chance(.4)
    if m.chance(.35):                                               # a desk lamp with an arm
        piece.cylinder(foot, 0, 0, 0, .16, .02)
        piece.add(CYLINDER, foot, 0, .06, h * .4, .018, .018, h * .85, rx=-.35)
        piece.add(CYLINDER, foot, 0, .1, h * .85, .018, .018, h * .6, rx=1.1)
        piece.add(m.pick((CONE, CYLINDER)), m.mat("lamp shade" if lit else "metal", 4), 0, .24, h * .75, .14, .14, .13,
                  rx=-.4)
        return piece
    if m.chance(.5):
        piece.ellipsoid(foot, 0, 0, 0, w * .55, w * .55, h * .6)
    else:
        piece.cylinder(foot, 0, 0, 0, w * .5, .02)
        piece.cylinder(foot, 0, 0, .01, .03, h * .7)
    shade(m, piece, lit, 0, 0, h * .52, w, h * .45)
    return piece


@modelled(lambda m, lit: None if lit else "ceiling lamp", below=True)
def ceiling_lamp(m: Maker, lit: bool) -> Piece:
    """Hangs from z = 0 downwards."""
    piece = Piece("lamp")
    glow = m.mat("light" if lit else "shade off", 3)
    design = m.pick(("disc", "disc", "panel", "pendant", "pendant", "ball", "tube", "spots"))
    if design == "disc":
        w, h = m.between(.25, .6), m.between(.05, .12)
        piece.cylinder(glow, 0, 0, -h, w, h)
    elif design == "panel":
        w, h = m.pick(((.6, .6), (1.2, .3), (1.2, .6))), m.between(.01, .08)
        piece.box(glow, 0, 0, -h, *w, h)
    elif design == "tube":
        for k in range(m.pick((1, 1, 2))):
            piece.add(CYLINDER, glow, 0, .12 * k, -.07, .05, .05, 1.2, ry=pi / 2)
    elif design == "ball":
        w = m.between(.2, .45)
        piece.ellipsoid(glow, 0, 0, -w, w, w, w)
    elif design == "spots":
        piece.box(m.mat("metal", 4), 0, 0, -.03, m.between(.5, .9), .05, .03)
        for k in (-1, 0, 1):
            piece.add(CYLINDER, glow, k * .25, 0, -.1, .08, .08, .12, rx=m.between(-.6, .6), ry=m.between(-.4, .4))
    else:
        drop = m.between(.3, .8)
        piece.cylinder(m.mat("dark plastic", 2), 0, 0, -drop, .012, drop)
        shade(m, piece, lit, 0, 0, -drop - .2, m.between(.25, .5), .22)
    piece.height = -min(part[5] - part[8] for part in piece.parts)
    return piece


# ---- plants and people

@modelled(lambda m, small=None: "small plant" if small or small is None and m.chance(.4) else "plant")
def plant(m: Maker, small: bool | None = None) -> Piece:
    small = m.chance(.4) if small is None else small
    r, h = (m.between(.04, .09), m.between(.07, .16)) if small else (m.between(.11, .24), m.between(.2, .5))
    size = m.between(2.0, 4.5) * r if small or m.chance(.6) else m.between(.9, 1.9)
    piece = Piece("plant", 2.4 * r, 2.4 * r, h + size)
    pot = m.mat(m.pick(("pot", "pot", "basket", "ceramic")), 5)
    shape = m.pick(("cylinder", "cone", "box", "ball"))
    if shape == "cylinder":
        piece.cylinder(pot, 0, 0, 0, 2 * r, h)
    elif shape == "cone":
        piece.cone(pot, 0, 0, -h * 1.2, 2 * r * 1.05, h * 2.2, down=True)
        piece.cylinder(pot, 0, 0, 0, 1.2 * r, h * .6)
    elif shape == "box":
        piece.box(pot, 0, 0, 0, 1.8 * r, 1.8 * r, h)
    else:
        piece.ellipsoid(pot, 0, 0, 0, 2.2 * r, 2.2 * r, h)
    if not small:
        piece.cylinder(m.mat("soil", 1), 0, 0, h - .01, 1.6 * r, .014)
    leaf = m.mat("leaves", 4)
    second = m.mat("leaves", 4) if m.chance(.3) else leaf
    design = m.pick(("bush", "fronds", "fronds", "blades", "tree", "stem"))
    n = m.count(4, 7) if small else m.count(6, 12)
    if design in ("tree", "stem"):
        trunk = size * m.between(.4, .8)
        piece.cylinder(m.mat("wood", 6), 0, 0, h, .02 + .1 * r, trunk)
        h += trunk * (.85 if design == "tree" else .3)
    for k in range(n):
        a, mat = 2 * pi * (k + m.between(-.3, .3)) / n, m.pick((leaf, leaf, second))
        if design in ("bush", "tree"):
            w = size * m.between(.35, .7)
            reach = size * m.between(.05, .35)
            piece.add(ELLIPSOID, mat, reach * cos(a), reach * sin(a), h + size * m.between(.15, .6), w,
                      w * m.between(.6, 1),
                      w * m.between(.5, .9), m.between(-.5, .5), m.between(-.5, .5), a)
        else:                                                       # long leaves that lean outwards
            lean = m.between(.15, .5) if design == "blades" else m.between(.4, 1.3)
            length = size * m.between(.7, 1.2)
            wide = size * (m.between(.06, .12) if design == "blades" else m.between(.15, .35))
            z = h + (m.between(0, .5) * size if design == "stem" else 0) + length / 2 * cos(lean)
            piece.add(ELLIPSOID, mat, length / 2 * sin(lean) * cos(a), length / 2 * sin(lean) * sin(a), z,
                      wide * .25 + .006, wide,
                      length, 0.0, lean, a)
    return piece


@modelled("person", share=PERSON_MODELS)
def person(m: Maker) -> Piece:
    return figures.bystander(apart(m))


def walker(m: Maker) -> list[Piece]:
    """Somebody in each of the poses that he takes in turn; a model has one."""
    model = model_piece(m, "person") if m.models is not None and m.chance(PERSON_MODELS) else None
    return figures.walker(apart(m)) if model is None else [model]


def apart(m: Maker) -> Maker:
    """One that takes a single random number of the world's, whatever it makes."""
    rng = Random(m.rng.random())
    return Maker(rng, m.pool.by(rng), m.models)


# ---- screens

def screen(m: Maker) -> int:
    return m.mat("screen off" if m.chance(.6) else screen_on(m), 4)


def television(m: Maker, hung: bool = False) -> Piece:
    if m.models is not None and m.chance(MODEL_SHARE):
        model = model_piece(m, "hung television" if hung else "television", hung=hung)
        if model is not None:
            return model
    w = m.between(.75, 1.5)
    h = w * m.between(.55, .62)
    piece = Piece("television", w, .06 if hung else .25, h + (0 if hung else .08))
    body, y, z = m.mat("dark plastic", 2), .03 if hung else 0, 0 if hung else .07
    piece.box(body, 0, y, z, w, .05, h)
    piece.box(screen(m), 0, y + .026, z + .015, w - .03, .006, h - .03)
    if not hung:
        if m.chance(.5):
            piece.box(body, 0, -.01, 0, .08, .05, .1)
            piece.box(body, 0, 0, 0, w * .4, .2, .02)
        else:
            for side in (-1, 1):
                piece.box(body, side * w * .36, 0, 0, .04, .22, .075)
    return piece


@modelled("monitor")
def monitor(m: Maker) -> Piece:
    w = m.between(.42, .75)
    h = w * m.between(.5, .66)
    stand = m.between(.08, .18)
    piece = Piece("monitor", w, .2, h + stand)
    body = m.mat(m.pick(("dark plastic", "dark plastic", "plastic", "metal")), 5)
    piece.box(body, 0, 0, stand, w, .035, h)
    piece.box(screen(m), 0, .018, stand + .015, w - .025, .005, h - .03)
    piece.box(body, 0, -.03, 0, .06, .03, stand + h * .3)
    if m.chance(.5):
        piece.box(body, 0, 0, 0, w * .4, .19, .014)
    else:
        piece.cylinder(body, 0, 0, 0, .22, .014)
    return piece


@modelled("laptop")
def laptop(m: Maker) -> Piece:
    w, d = m.between(.28, .38), m.between(.2, .26)
    piece = Piece("monitor", w, d, d)
    body = m.mat(m.pick(("metal", "dark plastic")), 5)
    piece.box(body, 0, .03, 0, w, d, .016)
    piece.box(m.mat("dark plastic", 2), 0, 0, .016, w * .85, d * .45, .003)
    lean = m.between(.15, .5)
    piece.add(BOX, body, 0, -d / 2 + .03 - d / 2 * sin(lean), d / 2 * cos(lean), w, .01, d, rx=lean)
    piece.add(BOX, screen(m), 0, -d / 2 + .036 - d / 2 * sin(lean), d / 2 * cos(lean), w * .94, .006, d * .92, rx=lean)
    return piece


def keyboard(m: Maker) -> Piece:
    piece = Piece("object", .44, .14, .025)
    mat = m.mat(m.pick(("dark plastic", "plastic")), 4)
    piece.box(mat, 0, 0, 0, m.between(.3, .46), .14, .02)
    if m.chance(.6):
        piece.ellipsoid(mat, .3, .02, 0, .06, .1, .035)
    return piece


# ---- small things

@modelled("box")
def cardboard_box(m: Maker) -> Piece:
    w, d, h = m.between(.14, .55), m.between(.14, .45), m.between(.08, .45)
    piece = Piece("box", w, d, h)
    mat = m.mat(m.pick(("cardboard", "cardboard", "plastic", "basket", "wood")), 6)
    piece.box(mat, 0, 0, 0, w, d, h)
    design = m.pick(("closed", "closed", "lid", "flaps", "tape"))
    if design == "lid":
        piece.box(m.mat(m.pick(("cardboard", "plastic", "lacquer")), 6), 0, 0, h - .04, w + .012, d + .012, .05)
    elif design == "flaps":
        for side in (-1, 1):
            a = m.between(.5, 1.5)
            piece.add(BOX, mat, side * (w / 2 + .06 * cos(a)), 0, h + .06 * sin(a), .006, d, .13,
                      ry=side * (pi / 2 - a))
    elif design == "tape":
        piece.box(m.mat("paper", 2), 0, 0, h - .05, .05, d + .003, .053)
    return piece


@modelled(lambda m: "book" if m.chance(.15) else None)
def books(m: Maker) -> Piece:
    """Lying in a pile, or one alone."""
    n = m.pick((1, 1, 2, 3, 4))
    piece, z = Piece("book", .24, .18), 0.0
    for _ in range(n):
        t = m.between(.012, .045)
        piece.box(m.mat("book", 6), m.between(-.015, .015), m.between(-.015, .015), z, m.between(.16, .26),
                  m.between(.12, .2), t,
                  rz=m.between(-.25, .25))
        z += t
    piece.height = z
    return piece


@modelled("bag")
def bag(m: Maker) -> Piece:
    w, d, h = m.between(.25, .45), m.between(.1, .22), m.between(.25, .48)
    piece = Piece("bag", w, d, h)
    mat = m.mat(m.pick(("fabric", "leather", "leather", "paper", "plastic")), 8)
    design = m.pick(("backpack", "hand", "shopping", "suitcase"))
    if design == "backpack":
        piece.ellipsoid(mat, 0, 0, -h * .05, w * 1.05, d * 1.3, h * 1.1)
        piece.ellipsoid(m.mat("fabric", 8), 0, d * .45, h * .05, w * .75, d * .7, h * .5)
        for side in (-1, 1):
            piece.add(BOX, mat, side * w * .25, -d * .6, h * .5, .05, .02, h * .7)
    elif design == "suitcase":
        piece.box(mat, 0, 0, .04, w, d, h * 1.3)
        for side in (-1, 1):
            piece.add(CYLINDER, m.mat("metal", 3), side * w * .3, -d * .3, h * 1.45, .014, .014, h * .6)
        piece.box(m.mat("dark plastic", 2), 0, -d * .3, h * 1.75, w * .65, .025, .03)
        piece.height = h * 1.8
    else:
        piece.box(mat, 0, 0, 0, w, d, h * .7)
        if design == "hand":
            piece.ellipsoid(mat, 0, 0, h * .4, w, d, h * .4)
        for side in (-1, 1):
            piece.add(BOX, mat, side * w * .22, 0, h * .82, .016, .016, h * .3)
        piece.add(BOX, mat, 0, 0, h * .97, w * .46, .016, .016)
    return piece


@modelled("bottle")
def bottle(m: Maker) -> Piece:
    w, h = m.between(.055, .095), m.between(.14, .34)
    piece = Piece("bottle", w, w, h)
    mat = m.mat(m.pick(("glass", "plastic", "ceramic")), 5)
    body = h * m.between(.55, .75)
    piece.cylinder(mat, 0, 0, 0, w, body)
    piece.ellipsoid(mat, 0, 0, body - w * .45, w, w, w * .9)
    piece.cylinder(mat, 0, 0, body, w * .38, h - body)
    piece.cylinder(m.mat("plastic", 5), 0, 0, h - .02, w * .45, .025)
    if m.chance(.5):
        piece.cylinder(m.mat("paper", 3), 0, 0, body * .25, w * 1.02, body * .45)
    return piece


@modelled("cup")
def cup(m: Maker) -> Piece:
    w, h = m.between(.07, .1), m.between(.07, .13)
    piece = Piece("object", w, w, h)
    mat = m.mat(m.pick(("ceramic", "plastic", "glass")), 5)
    piece.cylinder(mat, 0, 0, 0, w, h)
    if m.chance(.5):
        piece.add(BOX, mat, w * .6, 0, h * .5, w * .4, .014, h * .55)
    return piece


@modelled("bowl")
def bowl(m: Maker) -> Piece:
    w = m.between(.14, .32)
    piece = Piece("object", w, w, w * .3)
    mat = m.mat(m.pick(("ceramic", "wood", "metal", "glass")), 5)
    piece.ellipsoid(mat, 0, 0, 0, w, w, w * .45)
    piece.cylinder(mat, 0, 0, w * .2, w, w * .03)
    for _ in range(m.pick((0, 0, 2, 3))):
        a = m.between(0, 2 * pi)
        piece.ellipsoid(m.mat("plastic", 6), w * .2 * cos(a), w * .2 * sin(a), w * .2, .08, .08, .08)
    return piece


@modelled("vase")
def vase(m: Maker) -> Piece:
    w, h = m.between(.08, .2), m.between(.14, .4)
    piece = Piece("object", w, w, h)
    mat = m.mat(m.pick(("ceramic", "pot", "glass", "metal")), 5)
    piece.ellipsoid(mat, 0, 0, -h * .05, w, w, h * .9)
    piece.cylinder(mat, 0, 0, h * .7, w * .45, h * .3)
    return piece


@modelled("bin")
def bin_(m: Maker) -> Piece:
    w, h = m.between(.22, .36), m.between(.25, .6)
    piece = Piece("object", w, w, h)
    mat = m.mat(m.pick(("plastic", "metal", "basket", "dark plastic")), 5)
    if m.chance(.6):
        piece.cylinder(mat, 0, 0, 0, w, h)
        piece.cylinder(m.mat("dark plastic", 2), 0, 0, h, w * .9, .004)
    else:
        piece.box(mat, 0, 0, 0, w, w * .7, h)
        piece.box(m.mat("dark plastic", 2), 0, 0, h, w * .95, w * .66, .03)
    return piece


@modelled("small object")
def toy(m: Maker) -> Piece:
    """Something that has no name in the label set: a ball, a toy, a speaker, a fan, folded cloth."""
    w = m.between(.1, .3)
    piece = Piece("object", w, w, w)
    finish = m.pick(("plastic", "fabric", "metal", "wood", "leather"))
    design = m.pick(("ball", "animal", "speaker", "fan", "cloth", "blocks"))
    mat = m.mat(finish, 8)
    if design == "ball":
        piece.ellipsoid(mat, 0, 0, 0, w, w, w)
    elif design == "animal":
        piece.ellipsoid(mat, 0, 0, 0, w, w * 1.2, w)
        piece.ellipsoid(mat, 0, w * .4, w * .6, w * .6, w * .6, w * .6)
        for side in (-1, 1):
            piece.ellipsoid(mat, side * w * .2, w * .4, w * 1.05, w * .2, w * .15, w * .3)
    elif design == "speaker":
        piece.box(mat, 0, 0, 0, w, w * .9, w * 1.6)
        piece.add(CYLINDER, m.mat("dark plastic", 2), 0, w * .45, w * .55, w * .7, w * .7, .02, rx=pi / 2)
    elif design == "fan":
        piece.cylinder(mat, 0, 0, 0, w * .8, .03)
        piece.cylinder(mat, 0, 0, .02, .03, w)
        piece.add(CYLINDER, mat, 0, .05, w * 1.5, w * 1.3, w * 1.3, .07, rx=pi / 2)
    elif design == "cloth":
        for k in range(m.count(1, 3)):
            piece.box(m.mat("linen", 6), 0, 0, k * .05, w * 1.2, w, .048, rz=m.between(-.1, .1))
    else:
        for k in range(m.count(2, 4)):
            s = w * m.between(.25, .5)
            piece.box(m.mat("plastic", 6), m.between(-.4, .4) * w, m.between(-.4, .4) * w, 0, s, s, s,
                      rz=m.between(0, 1.5))
    return piece


# ---- on walls, windows and floors

def printed(m: Maker, finish: str, w: float, h: float) -> int:
    """The material of a sheet of that size and finish; most art is a picture, where the textures have any."""
    if finish == "art":
        finish = pictured(m, finish, "upright picture" if h > w else "wide picture")
    return m.mat(finish, 24 if "picture" in finish else 14)


def picture(m: Maker) -> Piece:
    w, h = m.between(.2, 1.1), m.between(.2, .9)
    piece = Piece("picture", w, .03, h)
    t = m.between(.015, .05)
    if m.chance(.75):
        piece.box(m.mat(m.pick(("wood", "lacquer", "metal")), 6), 0, t / 2, 0, w, t, h)
        edge = m.between(.015, .06)
        if m.chance(.4):
            piece.box(m.mat("paper", 3), 0, t, edge, w - 2 * edge, .004, h - 2 * edge)
            edge += m.between(.03, .1) * min(w, h)
        piece.box(printed(m, "art", w, h), 0, t, edge, w - 2 * edge, .008, h - 2 * edge)
    else:
        piece.box(printed(m, "art", w, h), 0, t / 4, 0, w, t / 2, h)
    return piece


def poster(m: Maker) -> Piece:
    """A sheet without a frame, up to the height of a person."""
    h = m.between(.55, 1.65)
    piece = Piece("picture", h * m.between(.55, .8), .012, h)
    piece.box(printed(m, "art", piece.width, h), 0, .004, 0, piece.width, .008, h)
    return piece


def notices(m: Maker) -> Piece:
    """Sheets of paper in loose rows, on a board or on the bare wall."""
    w, h, columns, rows = m.between(.2, .32), m.between(.2, .42), m.count(2, 4), m.pick((1, 2))
    piece = Piece("picture", columns * (w + .05), .03, rows * (h + .05))
    if m.chance(.3):
        piece.box(m.mat(m.pick(("cardboard", "paper", "fabric")), 6), 0, .008, 0, piece.width, .016, piece.height)
    for i in range(columns):
        for j in range(rows):
            if m.chance(.75):
                x, z = (i + .5) * (w + .05) - piece.width / 2, j * (h + .05) + m.between(0, .05)
                piece.box(printed(m, m.pick(("paper", "art", "book")), w, h), x, .016, z, w * m.between(.7, 1), .006,
                          h * m.between(.7, 1))
    if not piece.parts:
        piece.box(m.mat("paper", 14), 0, .008, 0, w, .008, h)
    return piece


def whiteboard(m: Maker) -> Piece:
    w, h = m.between(1.0, 2.2), m.between(.8, 1.2)
    piece = Piece("picture", w, .04, h)
    piece.box(m.mat("metal", 4), 0, .01, 0, w, .02, h)
    piece.box(m.mat(m.pick(("paper", "ceramic", "art")), 6), 0, .02, .02, w - .04, .006, h - .04)
    piece.box(m.mat("metal", 4), 0, .04, 0, w * .6, .07, .015)
    return piece


def mirror(m: Maker) -> Piece:
    w, h = m.between(.4, .9), m.between(.5, 1.1)
    piece = Piece("mirror", w, .03, h)
    frame, glass = m.mat(m.pick(("wood", "metal", "lacquer")), 6), m.mat("mirror", 2)
    if m.chance(.25):
        piece.add(CYLINDER, frame, 0, .012, h / 2, w, h, .024, rx=pi / 2)
        piece.add(CYLINDER, glass, 0, .022, h / 2, w - .06, h - .06, .01, rx=pi / 2)
    else:
        edge = m.between(.01, .06)
        piece.box(frame, 0, .012, 0, w, .024, h)
        piece.box(glass, 0, .022, edge, w - 2 * edge, .008, h - 2 * edge)
    return piece


def wall_shelf(m: Maker) -> Piece:
    w, d = m.between(.4, 1.2), m.between(.15, .28)
    n = m.pick((1, 1, 2, 3))
    piece = Piece("shelf", w, d, .3 * n)
    wood = m.mat(m.pick(("wood", "lacquer", "metal")), 6)
    for k in range(n):
        piece.box(wood, 0, d / 2, .32 * k, w, d, .025)
        piece.tops.append(Top(-w / 2 + .04, w / 2 - .04, .03, d - .02, .32 * k + .025, .28))
    if n > 1 and m.chance(.5):
        for side in (-1, 1):
            piece.box(wood, side * w / 2, d / 2, 0, .02, d, .32 * (n - 1) + .02)
    if m.chance(.5):
        width = w * m.between(.3, .8)
        piece.put(book_row(m, width, d * .8, m.between(.17, .26)), m.between(-.5, .5) * (w - width), d * .45, .025)
    return piece


def hooks(m: Maker) -> Piece:
    """A rail with coats, which are objects."""
    n = m.count(2, 5)
    piece = Piece("object", .2 * n, .15, 1.1)
    piece.box(m.mat("wood", 6), 0, .01, 1.0, .2 * n, .02, .1)
    for k in range(n):
        if m.chance(.7):
            long, x = m.between(.55, 1.05), .2 * (k + .5 - n / 2)
            piece.add(m.pick((ELLIPSOID, CONE, CYLINDER)), m.mat("fabric", 10), x, .09, 1.06 - long / 2,
                      m.between(.18, .3), .16, long)
    return piece


def clock(m: Maker) -> Piece:
    w = m.between(.2, .4)
    piece = Piece("object", w, .04, w)
    piece.add(CYLINDER, m.mat(m.pick(("plastic", "metal", "wood")), 6), 0, .015, w / 2, w, w, .03, rx=pi / 2)
    piece.add(CYLINDER, m.mat("paper", 3), 0, .028, w / 2, w * .88, w * .88, .008, rx=pi / 2)
    return piece


@modelled("radiator", hung=True)
def radiator(m: Maker) -> Piece:
    w, h = m.between(.5, 1.4), m.between(.4, .7)
    piece = Piece("object", w, .12, h)
    mat = m.mat(m.pick(("lacquer", "appliance")), 4)
    n = m.pick((1, 1, 5, 7))
    for k in range(n):
        piece.box(mat, w * ((k + .5) / n - .5), .07, 0, w / n * (1 if n == 1 else .8), .08, h)
    return piece


def curtains(m: Maker, w: float, low: float, high: float) -> Piece:
    """For a window w wide; z = 0 is the floor here."""
    bottom = .03 if m.chance(.6) else max(.03, low - m.between(.05, .25))
    piece = Piece("curtain", w + .5, .14, high)
    cloth = m.mat("curtain", 3)
    top = high + m.between(.05, .18)
    piece.add(CYLINDER, m.mat(m.pick(("wood", "metal")), 6), 0, .08, top, .03, .03, w + .5, ry=pi / 2)
    share, design = m.between(.15, .5), m.pick(("flat", "folds", "folds"))
    for side in m.pick(((-1, 1), (-1, 1), (-1, 1), (1,))):
        width = (w / 2 + .2) * share * 1.2
        x = side * (w / 2 + .2 - width / 2)
        n = 1 if design == "flat" else m.count(2, 4)
        for k in range(n):
            at = x + width * ((k + .5) / n - .5)
            if n == 1:
                piece.box(cloth, at, .08, bottom, width, .05, top - bottom)
            else:
                piece.cylinder(cloth, at, .085, bottom, width / n * 1.15, top - bottom, depth=.08)
    return piece


def blind(m: Maker, w: float, low: float, high: float) -> Piece:
    """z = 0 is the floor here."""
    drop = (high - low) * m.between(.25, 1.0)
    piece = Piece("blind", w, .06, high)
    mat = m.mat(m.pick(("curtain", "plastic", "basket", "lacquer")), 4)
    piece.box(mat, 0, .05, high - .02, w + .06, .06, .06)
    if m.chance(.5):
        piece.box(mat, 0, .05, high - drop, w, .012, drop)
        piece.box(mat, 0, .05, high - drop, w, .025, .03)
    else:
        n = m.count(4, 8)
        for k in range(n):
            piece.add(BOX, mat, 0, .05, high - drop * (k + .5) / n, w, .012, drop / n * .82, rx=.35)
    return piece


def rug(m: Maker, w: float, d: float) -> Piece:
    piece = Piece("rug", w, d, .015)
    mat, t = m.mat("rug"), m.between(.006, .022)
    if m.chance(.25):
        piece.cylinder(mat, 0, 0, 0, min(w, d), t)
        piece.width = piece.depth = min(w, d)
    else:
        piece.box(mat, 0, 0, 0, w, d, t)
        if m.chance(.4):
            piece.box(m.mat("rug"), 0, 0, 0, w * .85, d * .85, t + .002)
    return piece
