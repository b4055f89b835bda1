"""Furniture models of a mesh library in place of furniture assembled of parts.

`modelled` wraps the furniture functions: where the scene has a library, most of their pieces are models of the same
role, in a size and with materials of their own. Frames as in parts.py.
"""
from __future__ import annotations

from collections.abc import Callable
from functools import wraps

from lsm_ros.world.materials import FINISHES, PICTURED, has_pictures, jittered, random_material, shaded
from lsm_ros.world.meshes import Model
from lsm_ros.world.parts import Maker, Piece, Top, label_indices

MODEL_SHARE = .72
REDRESSED = .5                 # share of the models that get materials of other colours
SCALES = {                     # of a model, all axes together; the others: SCALE
    "chair": (.92, 1.08), "office chair": (.92, 1.08), "person": (.93, 1.06), "box": (.35, .9), "toilet": (.93, 1.07),
    "desk": (.9, 1.1), "bed": (.92, 1.1), "television": (.9, 1.8), "hung television": (.8, 1.4), "monitor": (.9, 1.25),
    "floor lamp": (1.0, 1.15), "bottle": (.85, 1.25), "plant": (.85, 1.3), "small plant": (.6, 1.1), "book": (.7, 1.0),
    "small object": (.6, 1.2), "refrigerator": (.9, 1.12), "bathtub": (.92, 1.05)}
SCALE = (.87, 1.16)
HEIGHTS = {"table": (.66, .80), "desk": (.68, .80), "coffee table": (.30, .52), "chair": (.70, 1.12),
           "stool": (.36, .56), "floor lamp": (1.25, 1.9), "ceiling lamp": (.05, .8), "small object": (.05, .45),
           "small plant": (.1, .5), "small drawers": (.38, .7), "bar stool": (.65, 1.1), "box": (.08, .5),
           "bag": (.2, .55)}
"""Metres in which a model's height must end up, whatever it was made for."""
SCREENS_ON = "screen on", "screen picture"
STANDS = {"plant": .6}         # share of its width on which a model stands; its leaves hang over others and touch walls
PROPORTION = (.94, 1.06)       # of one axis against the others
SEATS = {"chair": (.4, -.25, .42, .46), "office chair": (.36, -.22, .36, .47)}
"""Where people sit on a model: half of its width, from the back to the edge in shares of its depth, and how high, in
metres: chairs vary less than the models' level surfaces, which backs and arms hide."""
LOW_SEAT = .58                 # of the height of a chair its seat is no higher
SOFT_SEATS = "armchair", "sofa"       # on whose level surface they sit
NEEDS_TOP = {"table": (.3, .25), "desk": (.7, .38), "coffee table": (.3, .2), "low cabinet": (.4, .2),
             "small drawers": (.2, .2), "drawers": (.4, .2)}
"""Metres of level surface, across and deep, without which a model does not do."""


def modelled(role: str | Callable[..., str | None], then: Callable[[Maker, Piece], None] | None = None,
             share: float = MODEL_SHARE, **fixed):
    """Lets a furniture function return a model of `role` instead, a name or what a function of its arguments says
    (None: never). Its arguments `w` and `d`, a width and a depth, are kept to where they are given. `then` puts
    things on it. `share` of the pieces are models.
    """
    def wrap(make: Callable[..., Piece]) -> Callable[..., Piece]:
        @wraps(make)
        def piece(m: Maker, *args, **options) -> Piece:
            if m.models is not None and m.chance(share):
                name = role(m, *args, **options) if callable(role) else role
                model = model_piece(m, name, options.get("w"), options.get("d"), **fixed) if name else None
                if model is not None:
                    if then:
                        then(m, model)
                    return model
            return make(m, *args, **options)
        return piece
    return wrap


def model_piece(m: Maker, role: str, w: float | None = None, d: float | None = None, hung: bool = False,
                below: bool = False) -> Piece | None:
    """A model of the library as a piece; None where there is none of that size or no room for its materials.

    `hung`: its back is at y = 0. `below`: it hangs from z = 0 downwards.
    """
    fitting = [model for model in m.models.by_role.get(role, ()) if close(w, model.size[0]) and close(d, model.size[1])
               and level_enough(model, role)]
    if not fitting:
        return None
    model = m.pick(fitting)
    scale = m.between(*SCALES.get(role, SCALE))
    size = [extent * scale * m.between(*PROPORTION) for extent in model.size]
    if role in HEIGHTS:
        low, high = HEIGHTS[role]
        factor = 1.0 if low <= size[2] <= high else m.between(low, high) / size[2]
        flat = role in ("table", "desk", "coffee table")       # boards keep their size
        size = [size[0] * (1 if flat else factor), size[1] * (1 if flat else factor), size[2] * factor]
    size = [w or size[0], d or size[1], size[2]]
    first = dress(m, model)
    if first is None:
        return None
    z = -size[2] if below else model.elevation if role == "washbasin" else 0.0
    stands = STANDS.get(role, 1.0)
    piece = Piece(model.label, size[0] * stands, size[1] * stands, size[2] + max(z, 0))
    piece.parts.append((model.shape, first, label_indices()[model.label], 0.0, size[1] / 2 if hung else 0.0,
                        z + size[2] / 2, size[0] / 2, size[1] / 2, size[2] / 2, 0.0, 0.0, 0.0))
    inset = .02
    for x0, x1, y0, y1, level, clear in model.tops:
        piece.tops.append(Top((x0 - .5) * size[0] + inset, (x1 - .5) * size[0] - inset, (y0 - .5) * size[1] + inset,
                              (y1 - .5) * size[1] - inset, z + level * size[2], clear * size[2] / model.size[2]))
    if role in SEATS:
        x, y0, y1, level = SEATS[role]
        z = min(level * size[2] / model.size[2], LOW_SEAT * size[2])
        piece.seats.append(Top(-x * size[0], x * size[0], y0 * size[1], y1 * size[1], z))
    elif role in SOFT_SEATS:
        piece.seats += piece.tops[:1]
    return piece


def row_of_models(m: Maker, role: str, w: float) -> Piece | None:
    """Copies of one model side by side that fill the width w."""
    one = model_piece(m, role)
    if one is None:
        return None
    n = max(1, round(w / one.width))
    row = Piece(one.label, w, one.depth, one.height)
    shape, first, label, _, y, z, _, *rest = one.parts[0]
    for k in range(n):
        row.parts.append((shape, first, label, w * ((k + .5) / n - .5), y, z, w / n / 2, *rest))
    return row


def close(wanted: float | None, there: float) -> bool:
    return wanted is None or .75 < wanted / there < 1.3


def level_enough(model: Model, role: str) -> bool:
    if role not in NEEDS_TOP:
        return True
    across, deep = NEEDS_TOP[role]
    return any((x1 - x0) * model.size[0] >= across and (y1 - y0) * model.size[1] >= deep
               for x0, x1, y0, y1, *_ in model.tops[:1])


def dress(m: Maker, model: Model) -> int | None:
    """Materials for a model's parts, one after the other: its own colours a little changed, or new ones of the same
    finish. Returns the index of the first, None where the scene has no room for them."""
    rng, anew, shared, rows = m.rng, m.chance(REDRESSED), {}, []
    for part in model.parts:
        finish = part.finish
        if finish == "screen off" and m.chance(.4):
            finish = screen_on(m)
        if finish and (anew or finish in SCREENS_ON):
            if finish not in shared or m.chance(.4):
                shared[finish] = random_material(FINISHES[finish], rng, m.pool.textures)
            rows.append(shared[finish])
        else:
            rows.append(original(part, rng))
    return m.pool.place(rows)


def screen_on(m: Maker) -> str:
    """The finish of a screen that shows something."""
    return pictured(m, *SCREENS_ON)


def pictured(m: Maker, plain: str, picture: str) -> str:
    """The finish `picture` for the most part, where the textures have such pictures; or `plain`."""
    return picture if has_pictures(FINISHES[picture], m.pool.textures) and m.chance(PICTURED) else plain


def original(part, rng) -> tuple[float, ...]:
    """The part's own colour under the pattern of its finish."""
    row = list(random_material(FINISHES[part.finish or "plastic"], rng, None))
    color = jittered(part.color, rng)
    row[0:3], row[3:6] = color, shaded(color, rng.uniform(.6, 1.1))
    row[9] *= .6                               # contrast
    row[13] = 0.0                              # nothing of a model glows by itself
    return tuple(row)
