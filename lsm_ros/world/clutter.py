"""The small things that stand on tables, desks and shelves."""
from __future__ import annotations

from collections.abc import Callable
from math import pi

from lsm_ros.world import fixtures, things
from lsm_ros.world.models import model_piece
from lsm_ros.world.parts import Maker, Piece, Top

SMALL: dict[str, tuple[Callable, ...]] = {
    "desk": (things.books, things.books, things.cup, things.bottle, things.table_lamp, things.cardboard_box, things.toy,
             lambda m: things.plant(m, small=True), things.laptop),
    "kitchen": (things.bowl, things.bottle, things.bottle, things.cup, fixtures.pot_on_hob, fixtures.microwave,
                things.vase,
                things.cardboard_box, lambda m: things.plant(m, small=True)),
    "table": (things.bowl, things.cup, things.cup, things.bottle, things.vase, things.books, things.laptop,
              lambda m: things.plant(m, small=True), things.toy),
    "any": (things.books, things.books, things.vase, things.table_lamp, things.toy, things.cardboard_box, things.bottle,
            things.bag, things.bowl, lambda m: things.plant(m, small=True)),
}


def litter(m: Maker, piece: Piece, of: str, most: int, made: list[Callable] = ()) -> Piece:
    """Puts things on the tops of a piece, clear of each other and of what stands there."""
    for top in piece.tops:
        taken = [(x, y, max(child.width, child.depth) / 2) for child, x, y, z, _ in piece.children if z == top.z]
        wanted = list(made) + [small(m, of) for _ in range(m.count(0, most))]
        for make in wanted:
            thing = make(m)
            if thing.height > top.clear or thing.count() > 10:
                continue
            r = max(thing.width, thing.depth) / 2
            xs = (top.x0 + thing.width / 2, top.x1 - thing.width / 2)
            ys = (top.y0 + thing.depth / 2, top.y1 - thing.depth / 2)
            if xs[0] > xs[1] or ys[0] > ys[1]:
                continue
            x, y = m.between(*xs), m.between(*ys)
            if all((x - a) ** 2 + (y - b) ** 2 > (r + q) ** 2 * .7 for a, b, q in taken):
                taken.append((x, y, r))
                piece.put(thing, x, y, top.z, m.between(-.5, .5))
    return piece


def small(m: Maker, of: str) -> Callable[[Maker], Piece]:
    """What makes one of the things that belong there."""
    if m.models is not None and m.chance(.2):
        role = "kitchen object" if of == "kitchen" else "small object"
        return lambda m: model_piece(m, role) or things.toy(m)
    return m.pick(SMALL[of])


def workplace(m: Maker, desk: Piece) -> Piece:
    """Screens and keyboard on a desk."""
    top: Top = desk.tops[0]
    n, back, front = m.pick((1, 1, 2)), top.y0 + .15, top.y1 - .15
    if m.chance(.2):
        desk.put(things.laptop(m), m.between(-.2, .2), 0, top.z, pi)
        return desk
    for k in range(n):
        x = (k - (n - 1) / 2) * .62 + m.between(-.08, .08)
        desk.put(things.monitor(m), x, back, top.z, -(k - (n - 1) / 2) * .3 + m.between(-.15, .15))
    if m.chance(.8):
        desk.put(things.keyboard(m), m.between(-.1, .1), front - .05, top.z, m.between(-.1, .1))
    for side in (-1, 1):
        if m.chance(.5) and top.x1 > .35 + .3 * n:
            desk.put(m.pick(SMALL["desk"])(m), side * (top.x1 - .12), m.between(-.1, .1), top.z, m.between(-.5, .5))
    return desk
