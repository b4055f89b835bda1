"""Furnished rooms: a plan, its walls, and furniture placed as people place it."""
from __future__ import annotations

from dataclasses import replace
from math import cos, pi, sin
from random import Random

from lsm_ros.errors import InputError
from lsm_ros.world import figures, fixtures, furniture, things
from lsm_ros.world.clutter import litter, workplace
from lsm_ros.world.layout import Layout
from lsm_ros.world.lighting import illumination, light_room
from lsm_ros.world.materials import MaterialPool, TextureCatalogue
from lsm_ros.world.meshes import MeshCatalogue
from lsm_ros.world.models import model_piece
from lsm_ros.world.movers import VISITORS, Visitors
from lsm_ros.world.parts import Assembly, Maker
from lsm_ros.world.plan import build_walls, lay_carpets, make_plan
from lsm_ros.world.scene import Scene

KINDS = ("home", "office", "kitchen", "bedroom", "bath", "corridor", "apartment", "hall")
MATERIALS_WITH_MESHES = 256     # as many as packing.py takes: a model has up to six of its own
SITTING = .15                   # of the rooms are those in which somebody sits, if they have seats
SOFA_M = 1.1                    # a seat that is so wide is for two
KIND_WEIGHTS = (.20, .16, .13, .15, .07, .07, .13, .09)


def make_scene(seed: int, kind: str | None = None, textures: TextureCatalogue | None = None,
               meshes: MeshCatalogue | None = None) -> Scene:
    """The furnished world of a seed; the same seed always makes the same one.

    Args:
        seed: any integer, negative ones too.
        kind: one of KINDS, or None to let the seed choose.
        textures: what photo textures there are; None: patterns only.
        meshes: what furniture models there are; None: everything is assembled of simple shapes.
    Raises InputError for a kind that does not exist.
    """
    if kind is not None and kind not in KINDS:
        raise InputError(f"no kind of world {kind!r}; there are {', '.join(KINDS)}")
    rng = Random(f"world {seed}")
    chosen = rng.choices(KINDS, KIND_WEIGHTS)[0]
    pool = MaterialPool(rng, textures) if meshes is None else MaterialPool(rng, textures, MATERIALS_WITH_MESHES)
    assembly, m = Assembly(), Maker(rng, pool, meshes)
    rooms = make_plan(m, kind or chosen)
    build_walls(m, rooms, assembly)
    lights, layouts = [], []
    for left, room in zip(range(len(rooms), 0, -1), rooms):
        layout = Layout(m, room, assembly, budget=assembly.left() // left)
        lights.append(light_room(layout))
        RECIPES[room.use](layout)
        decorate(layout)
        layouts.append(layout)
    light = illumination(m, Random(f"light {seed}"), rooms, lights)
    for layout in layouts:                         # drawn last: a world without these is the one that it was before
        if layout.room.use != "hall":
            greenery(layout)
            left_chairs(layout)
        lay_carpets(m, layout.room, assembly)
    own = Random(f"sitters {seed}")                # a world in which nobody sits is the one that it was before, too
    for layout in layouts:
        sit_down(Maker(own, pool.by(own), meshes), layout)
    visitors = invite(m, assembly)
    scene = assembly.scene(pool, *light)
    return replace(scene, visitors=visitors.scene(pool, *light)) if visitors.rows else scene


def sit_down(m: Maker, layout: Layout) -> None:
    """People on some of the seats, in few of the rooms."""
    if not m.chance(SITTING):
        return
    for seat, of in layout.seats:
        for _ in range(m.pick((0, 1)) if seat.x1 - seat.x0 < SOFA_M else m.pick((0, 1, 1, 2))):
            layout.sit(seat, of, *figures.sitter(m, seat))


def invite(m: Maker, assembly: Assembly) -> Visitors:
    """Who may come along, each at the origin: mostly people, now and then a chair or a box that is pushed."""
    visitors = Visitors(assembly.instances, assembly.left())
    makes = (things.walker,) * 8 + (lambda m: [furniture.chair(m, office=True)], lambda m: [things.cardboard_box(m)])
    visitors.invite([m.pick(makes)(m) for _ in range(VISITORS)])
    return visitors


# ---- groups of furniture

def seating(layout: Layout) -> None:
    """A sofa with a coffee table, a rug, a television opposite, armchairs."""
    m = layout.m
    couch = furniture.sofa(m)
    pose = layout.at_wall(couch, sides=[k for k in range(4) if layout.room.side_length(k) > couch.width + .2] or None)
    if pose is None:
        pose = layout.free(couch, square=True)
    if pose is None:
        return
    reach = couch.depth / 2
    if m.chance(.6):
        rug = things.rug(m, couch.width * m.between(.8, 1.15), m.between(1.2, 2.0))
        layout.beside(pose, rug, m.between(-.2, .2), reach + rug.depth * .3)
    if m.chance(.85):
        table = litter(m, furniture.coffee_table(m), "table", 3)
        layout.beside(pose, table, m.between(-.25, .25), reach + table.depth / 2 + m.between(.25, .45))
    if m.chance(.75) and len(pose) > 3:
        television_set(layout, (pose[3] + 2) % 4 if m.chance(.7) else None)
    for side in (-1, 1):
        if m.chance(.3):
            seat = furniture.armchair(m)
            layout.beside(pose, seat, side * (couch.width / 2 + m.between(.3, .6)), reach + m.between(.4, .9),
                          side * m.between(.9, 1.8))
        elif m.chance(.4):
            table = m.pick((lambda: furniture.drawers(m, small=True), lambda: furniture.stool(m),
                            lambda: things.floor_lamp(m)))()
            layout.beside(pose, litter(m, table, "any", 1, [things.table_lamp] if m.chance(.5) else []),
                     side * (couch.width / 2 + table.width / 2 + .06), -reach + table.depth / 2)
    if m.chance(.6) and len(pose) > 3:
        along = m.between(.3, .7) * layout.room.side_length(pose[3])
        for k in range(m.pick((1, 1, 2, 3))):
            layout.on_wall(things.picture(m), 1.15, 1.7, tries=2, side=pose[3], at=along + k * m.between(.5, .9))


def television_set(layout: Layout, side: int | None) -> None:
    m = layout.m
    low = furniture.cabinet(m, w=m.between(1.0, 1.9), low=True) if m.chance(.8) else furniture.drawers(m, small=False)
    hung = m.chance(.3)
    if not hung and low.height < 1.1:
        low.put(things.television(m), 0, 0, low.tops[0].z, m.between(-.08, .08))
        low.height += .6
    pose = layout.at_wall(low, sides=None if side is None else [side])
    if pose and hung:
        layout.above(pose, things.television(m, hung=True), low.height + .2, low.height + .5)


def dining(layout: Layout, long: bool = False) -> None:
    """A table in the room or at a wall, with chairs pushed under it more or less; `long`: for six to twelve."""
    m = layout.m
    table = furniture.table(m, w=m.between(1.9, 3.6), d=m.between(.8, 1.25)) if long else furniture.table(m)
    litter(m, table, "table", 10 if long else 6)
    if layout.room.use == "kitchen" and not long and m.chance(.5):
        pose = layout.at_wall(table, gap=.02)
    else:
        pose = layout.free(table, tries=14, margin=.02, square=True, around=.35)
    if pose is None:
        return
    at_work = m.chance(.4 if layout.room.use == "office" else .05)
    seat = furniture.stool(m) if m.chance(.12) else furniture.chair(m, at_work)      # all alike
    per_side = 1 if table.width < 1.1 else 2 if table.width < 1.9 else int(table.width / max(.6, seat.width + .04))
    places = [((k + .5) / per_side - .5, side) for side in (-1, 1) for k in range(per_side)] + \
        [(end, 0) for end in (-1, 1) if m.chance(.4)]
    for x, side in places:
        if not m.chance(.88):
            continue
        tuck, turn = m.between(-.15, .22), m.between(-.25, .25)
        if side:
            under = tuck > 0 and clear_behind(layout, pose, x * table.width, side * (table.depth / 2 + .45))
            layout.beside(pose, seat, x * table.width, side * (table.depth / 2 + seat.depth / 2 - tuck),
                          (pi if side > 0 else 0) + turn, force=under)
        else:
            layout.beside(pose, seat, x * (table.width / 2 + seat.depth / 2 + .03), 0, x * pi / 2 + turn)


def clear_behind(layout: Layout, pose, dx: float, dy: float) -> bool:
    """Whether a chair that is pushed under a table, which the footprints would not allow, has air behind it."""
    x, y, yaw = pose[:3]
    c, s = cos(yaw), sin(yaw)
    return layout.fits((x + c * dx - s * dy, y + s * dx + c * dy, .2, .12, c, s, .05, .9))


def desk_place(layout: Layout, tries: int = 8) -> bool:
    m = layout.m
    table = litter(m, workplace(m, furniture.desk(m)), "desk", m.pick((0, 2, 5)))
    back_to_wall = m.chance(.85)
    pose = layout.at_wall(table, tries=tries) if back_to_wall else \
        layout.free(table, square=True, margin=.02, around=.3)
    if pose is None:
        return False
    if m.chance(.92):
        seat = furniture.chair(m, office=m.chance(.7))
        layout.beside(pose, seat, m.between(-.2, .2), table.depth / 2 + seat.depth / 2 + m.between(.02, .35),
                      pi + m.between(-.9, .9))
    if m.chance(.3):
        layout.beside(pose, furniture.drawers(m, small=True), m.pick((-1, 1)) * (table.width / 2 + .3), -.05)
    if m.chance(.3):
        layout.beside(pose, m.pick((things.bin_, things.bag, things.cardboard_box))(m),
                      m.pick((-1, 1)) * (table.width / 2 + .22), .1)
    return True


def benches(layout: Layout) -> bool:
    """Desks of one make side by side in the room, most of them in two rows face to face."""
    m, room = layout.m, layout.room
    one, seat = furniture.desk(m), furniture.chair(m, office=m.chance(.8))
    across, rows = m.count(2, 4 if room.area > 40 else 3), m.pick((1, 2, 2))
    width, depth = across * (one.width + .01), rows * (one.depth + .01)
    for _ in range(10):
        x, y, yaw = m.between(room.x0, room.x1), m.between(room.y0, room.y1), m.count(0, 3) * pi / 2
        c, s = cos(yaw), sin(yaw)
        if layout.fits((x, y, width / 2 + .1, depth / 2 + .8, c, s, .05, 1.3)):
            break
    else:
        return False
    for k in range(across * rows):
        side = 1 if k < across else -1
        dx, dy = (k % across + .5) * (one.width + .01) - width / 2, side * (one.depth + .01) / 2 * (rows - 1)
        here = x + c * dx - s * dy, y + s * dx + c * dy, yaw + (0 if side > 0 else pi)
        desk = litter(m, workplace(m, replace(one, children=[])), "desk", m.pick((1, 3, 5)))
        if layout.place(desk, *here[:2], 0, here[2], margin=0) and m.chance(.9):
            layout.beside(here, seat, m.between(-.2, .2), one.depth / 2 + seat.depth / 2 + m.between(.02, .3),
                          pi + m.between(-.9, .9))
    return True


def sleeping(layout: Layout) -> None:
    m = layout.m
    bed = furniture.bed(m)
    pose = layout.at_wall(bed, tries=12)
    if pose is None:
        return
    for side in (-1, 1):
        if m.chance(.65):
            table = furniture.drawers(m, small=True) if m.chance(.7) else furniture.stool(m)
            litter(m, table, "any", 1, [things.table_lamp] if m.chance(.7) else [])
            layout.beside(pose, table, side * (bed.width / 2 + table.width / 2 + .05),
                          -bed.depth / 2 + table.depth / 2 + .02)
    if m.chance(.5):
        rug = things.rug(m, m.between(.8, 2.2), m.between(.6, 1.4))
        layout.beside(pose, rug, m.pick((-1, 0, 1)) * bed.width * .5, bed.depth * m.between(.2, .5))
    if m.chance(.5):
        layout.on_wall(things.picture(m), 1.3, 1.7, side=pose[3])


def kitchen_run(layout: Layout) -> None:
    """A counter along a wall, cupboards over it, the refrigerator at one end, sometimes a second arm."""
    m, room = layout.m, layout.room
    sides = sorted(range(4), key=lambda k: (any(o.kind != "window" for o in room.openings[k]), -room.side_length(k),
                                            m.rng.random()))
    side = sides[0] if m.chance(.7) else sides[1]
    length = room.side_length(side)
    fridge = fixtures.refrigerator(m)
    at_start = m.chance(.5)
    with_fridge = m.chance(.8) and length > fridge.width + 1.2
    span = length - (fridge.width + .06 if with_fridge else 0)
    w = min(span - .02, m.between(1.4, 3.6))
    front = m.mat("dark front", 1) if m.chance(.3) else None      # all of one make, as dark as shadows
    run = litter(m, fixtures.counter(m, w, front), "kitchen", m.pick((2, 3, 4)))
    beside = fridge.width + .05 if with_fridge else 0
    start = beside if at_start else length - w - beside
    middle = start + w / 2
    if layout.at_wall(run, gap=.02, sides=[side], at=middle, tries=1) is None:
        layout.at_wall(litter(m, fixtures.counter(m, min(w, 1.8), front), "kitchen", 2), gap=.02, tries=10)
        layout.at_wall(fridge)
    else:
        if with_fridge:
            layout.at_wall(fridge, gap=.03, sides=[side], tries=1, at=fridge.width / 2 + .03 if at_start
                      else length - fridge.width / 2 - .03)
        hood_w = .62 if m.chance(.35) else 0
        if m.chance(.75):
            over = fixtures.wall_cupboards(m, w - hood_w, front)
            x, y, yaw = room.wall_pose(side, middle - hood_w / 2, over.depth / 2 + .01)
            if layout.place(over, x, y, m.between(1.35, 1.5), yaw, margin=0) and hood_w:
                x, y, yaw = room.wall_pose(side, middle + w / 2 - .31, .26)
                layout.place(fixtures.hood(m), x, y, m.between(1.5, 1.65), yaw, margin=0)
        elif m.chance(.7):
            layout.on_wall(litter(m, things.wall_shelf(m), "kitchen", 3), 1.35, 1.6, side=side, at=middle)
    other = (side + m.pick((1, 3))) % 4
    if m.chance(.4):
        layout.at_wall(litter(m, fixtures.counter(m, m.between(.6, 1.8), front), "kitchen", 2), gap=.02, sides=[other])
    if front is not None and m.chance(.5):
        layout.at_wall(fixtures.larder(m, front), gap=.02, sides=[side, other], tries=12)
    if m.chance(.15):
        layout.at_wall(fixtures.oven(m))


def storage(layout: Layout, n: int) -> None:
    m = layout.m
    for _ in range(n):
        if layout.crowded():
            return
        make = m.pick((furniture.cabinet, furniture.cabinet, furniture.bookshelf, furniture.bookshelf,
                       furniture.drawers, furniture.rack,
                       furniture.rack))
        layout.at_wall(litter(m, make(m), "any", m.pick((2, 2, 4))))


def extras(layout: Layout, n: int) -> None:
    """What stands about in any room."""
    m = layout.m
    n += int(layout.room.area / 20)
    if m.models is not None:                       # a model is one primitive: there is room for more
        storage(layout, m.count(0, 3))
        n += m.count(1, 5)
        for _ in range(m.pick((0, 0, 1, 1))):
            piece = model_piece(m, "large object")
            if piece is not None and not layout.crowded():
                layout.at_wall(piece)
    for _ in range(n):
        if layout.crowded():
            return
        p = m.rng.random()
        if p < .22:
            layout.at_wall(things.plant(m, small=False))
        elif p < .34:
            layout.at_wall(things.floor_lamp(m, lit=m.chance(.4)))
        elif p < .46:
            layout.at_wall(m.pick((things.bin_, things.toy, things.bag))(m))
        elif p < .58:
            box = things.cardboard_box(m)
            if m.chance(.4):
                box.put(things.cardboard_box(m), 0, 0, box.height, m.between(-.4, .4))
                box.height *= 2
            layout.at_wall(box)
        elif p < .66:
            layout.free(m.pick((furniture.stool, furniture.chair, things.bag, things.cardboard_box, things.toy))(m))
        elif p < .74:
            layout.at_wall(furniture.chair(m) if m.chance(.6) else furniture.armchair(m))
        elif p < .82:
            layout.free(things.rug(m, m.between(.6, 2.4), m.between(.5, 1.8)), square=True)
        elif p < .88:
            layout.at_wall(litter(m, furniture.table(m, d=m.between(.3, .55), w=m.between(.7, 1.3)), "any", 3))
        elif p < .92:
            layout.free(things.person(m), margin=.2)
        else:
            storage(layout, 1)


def greenery(layout: Layout) -> None:
    """Rooms that are full of plants as high as people."""
    m = layout.m
    for _ in range(m.count(1, 4) if m.chance(.3) else 0):
        if not layout.crowded():
            plant = things.plant(m, small=False)
            layout.at_wall(plant) if m.chance(.6) else layout.free(plant)


def left_chairs(layout: Layout) -> None:
    """Chairs and armchairs that nobody put back, all about the room, where a camera passes close by."""
    m = layout.m
    if not m.chance(.45):
        return
    alike = furniture.chair(m) if m.chance(.7) else furniture.chair(m, office=True)
    for _ in range(m.count(1, 3) + int(layout.room.area / 12)):
        if not layout.crowded():
            layout.free(alike if m.chance(.75) else furniture.armchair(m))


def decorate(layout: Layout) -> None:
    """What hangs on the walls."""
    m = layout.m
    busy = m.between(.2, 1.0)
    board = things.whiteboard if layout.room.use == "office" else things.picture
    makers = [things.picture, things.picture, things.poster, things.poster, things.notices,
              lambda m: litter(m, things.wall_shelf(m), "any", 3), things.clock, things.mirror, board, things.hooks]
    for _ in range(7 + min(int(layout.room.area / 10), 5)):
        if layout.crowded() or not m.chance(busy):
            continue
        make = m.pick(makers)
        piece = make(m)
        low, high = (.75, .95) if make is things.hooks else (.9, 1.1) if make is things.whiteboard else (1.0, 1.65)
        layout.on_wall(piece, min(low, max(.15, 2.1 - piece.height)), high, tries=3)
    if m.chance(.45) and not layout.crowded():
        for side in range(4):
            for o in layout.room.openings[side]:
                if o.kind == "window" and o.low > .7 and m.chance(.6):
                    layout.on_wall(things.radiator(m), .08, .12, side=side, at=o.at, tries=1)


# ---- rooms

def living(layout: Layout) -> None:
    m = layout.m
    seating(layout)
    if layout.room.area > 16 and m.chance(.6):
        dining(layout, long=layout.room.area > 24 and m.chance(.5))
    if layout.room.area > 34 and m.chance(.6):
        seating(layout)
    if m.chance(.25):
        desk_place(layout)
    storage(layout, m.count(1, 3))
    extras(layout, m.count(1, 6))


def bedroom(layout: Layout) -> None:
    m = layout.m
    sleeping(layout)
    if m.chance(.85):
        layout.at_wall(furniture.wardrobe(m), tries=12)
    if m.chance(.5):
        dresser = furniture.drawers(m, small=False)
        pose = layout.at_wall(litter(m, dresser, "any", 3))
        if pose and m.chance(.5):
            layout.above(pose, things.mirror(m), dresser.height + .15, dresser.height + .4)
    if m.chance(.4):
        desk_place(layout)
    if layout.room.area > 14 and m.chance(.35):
        sleeping(layout)
    storage(layout, m.count(0, 2))
    extras(layout, m.count(0, 4))


def kitchen(layout: Layout) -> None:
    m = layout.m
    kitchen_run(layout)
    if m.chance(.8):
        dining(layout, long=layout.room.area > 14 and m.chance(.6))
    storage(layout, m.count(0, 2))
    extras(layout, m.count(1, 5))


def bath(layout: Layout) -> None:
    m = layout.m
    if m.chance(.75):
        layout.at_wall(fixtures.bathtub(m), gap=.01, tries=14)
    basin = litter(m, fixtures.washbasin(m), "kitchen", 1, [things.bottle])
    pose = layout.at_wall(basin, gap=.01, tries=14)
    if pose and m.chance(.85):
        layout.above(pose, things.mirror(m), 1.1, 1.25)
    if m.chance(.92):
        layout.at_wall(fixtures.toilet(m), gap=.01, tries=14)
    if m.chance(.5):
        layout.at_wall(litter(m, furniture.cabinet(m, w=m.between(.35, .8)), "kitchen", 2))
    if m.chance(.5):
        layout.free(things.rug(m, m.between(.5, .9), m.between(.4, .6)), square=True)
    if m.chance(.4):
        layout.on_wall(litter(m, things.wall_shelf(m), "kitchen", 3), 1.1, 1.6)
    extras(layout, m.count(0, 3))


def office(layout: Layout) -> None:
    m = layout.m
    meeting = m.chance(.3)
    if meeting:
        dining(layout, long=layout.room.area > 14 and m.chance(.7))
        layout.on_wall(things.whiteboard(m) if m.chance(.6) else things.television(m, hung=True), .9, 1.1)
    for _ in range(int(layout.room.area / 25) if m.chance(.75) else 0):
        if not layout.crowded():
            benches(layout)
    for _ in range(m.count(1, 3 if layout.room.area < 18 else 5)):
        if not layout.crowded():
            desk_place(layout)
    storage(layout, m.count(1, 4))
    if m.chance(.3):
        seating(layout)
    extras(layout, m.count(1, 5))


def corridor(layout: Layout) -> None:
    m = layout.m
    if m.chance(.5):
        layout.at_wall(litter(m, furniture.cabinet(m, low=True), "any", 3))
    storage(layout, m.count(0, 2))
    extras(layout, m.count(1, 4))
    if m.chance(.5):
        layout.on_wall(things.hooks(m), .75, .9)


def hall(layout: Layout) -> None:
    """A wide floor, most of it bare: some things stand free on it, as in a lobby, a workshop or a laboratory."""
    m = layout.m
    makes = (furniture.cabinet, lambda m: furniture.cabinet(m, low=True), lambda m: furniture.drawers(m, small=True),
             lambda m: furniture.drawers(m, small=False), furniture.bookshelf, furniture.rack, furniture.table,
             furniture.desk, furniture.chair, furniture.armchair, furniture.sofa, things.cardboard_box, things.person,
             fixtures.refrigerator, lambda m: things.plant(m, small=False))
    for _ in range(m.pick((1, 1, 2, 3, 5, 8))):
        layout.free(litter(m, m.pick(makes)(m), "any", m.pick((0, 1, 3))), margin=.2, around=.6)
    if m.chance(.5):
        storage(layout, m.count(1, 4))
    if m.chance(.35):
        extras(layout, m.count(0, 3))


def mixed(layout: Layout) -> None:
    """Anything with anything, so that no class leans on its company."""
    m = layout.m
    groups = [seating, dining, desk_place, sleeping, lambda layout: storage(layout, 2),
              lambda layout: extras(layout, 3),
              lambda layout: layout.at_wall(furniture.wardrobe(m)),
              lambda layout: layout.at_wall(fixtures.refrigerator(m)),
              lambda layout: layout.at_wall(fixtures.oven(m)),
              lambda layout: layout.at_wall(litter(m, fixtures.counter(m, m.between(.6, 2)), "any", 2)),
              lambda layout: layout.at_wall(fixtures.toilet(m)), lambda layout: layout.at_wall(fixtures.washbasin(m)),
              lambda layout: layout.at_wall(fixtures.bathtub(m)), lambda layout: television_set(layout, None),
              lambda layout: layout.free(furniture.armchair(m)), lambda layout: layout.free(things.person(m))]
    for group in m.rng.sample(groups, min(len(groups), m.count(4, 9) + int(layout.room.area / 14))):
        if not layout.crowded():
            group(layout)


RECIPES = {"living": living, "bedroom": bedroom, "kitchen": kitchen, "bath": bath, "office": office,
           "corridor": corridor, "hall": hall, "mixed": mixed}
