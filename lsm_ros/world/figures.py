"""People of simple shapes: a body and its clothes, which take any pose that the angles of their joints tell.

Lengths of the body are shares of its height (Drillis and Contini, Body Segment Parameters, 1966); the angles of the
gait are those of level walking (Winter, Biomechanics and Motor Control of Human Movement, 2009). Frame as in parts.py:
a figure faces +y and has its right hand at +x. Metres and radians.
"""
from __future__ import annotations

from dataclasses import dataclass
from math import acos, asin, atan2, cos, hypot, sin

import numpy as np

from lsm_ros.world.parts import Maker, Piece, Top
from lsm_ros.world.scene import CYLINDER, ELLIPSOID

ANKLE, HIP, NECK = .039, .530, .052              # heights over the floor, and of the chin over the shoulders
THIGH, SHIN, UPPER_ARM, FOREARM = .245, .246, .186, .146
SHOULDERS, HIPS = .110, .052                     # of a joint from the middle
FOOT = .052, .160, .048                          # width, length, height of a shoe
HEAD, CHILD_HEAD_M = .130, .2                    # chin to crown; children's heads are nearly as large as their parents'
CHILD_SHARE = .08
SEAT = .058                                      # of the hips over what somebody sits on
KNEES = -.45, .6                                 # cosines of the angles to which the thighs of who sits are kept
GAIT = np.linspace(0, 1, 11)                     # of the time between two touches of a heel, the first of them at 0
HIP_FLEXION = np.radians((25, 22, 14, 5, -5, -11, -4, 12, 24, 27, 25))
KNEE_FLEXION = np.radians((5, 16, 15, 8, 7, 17, 42, 60, 47, 16, 5))

Point = tuple[float, float, float]


@dataclass(frozen=True)
class Limb:
    """The joints of an arm or a leg, radians: its upper part is forward and outward of straight down; elbow or knee is
    bent, an elbow not only forward but inward."""
    forward: float = 0.0
    outward: float = 0.0
    bend: float = 0.0
    inward: float = 0.0


Pair = tuple[Limb, Limb]


@dataclass(frozen=True)
class Pose:
    """The left and the right one of each, and how far the body leans forward from the hips."""
    legs: Pair
    arms: Pair
    lean: float = 0.0


@dataclass(frozen=True)
class Body:
    """Somebody and what he wears: metres, shares, and indices of materials."""
    height: float
    head: float            # chin to crown
    girth: float           # 1 for a slim grown-up
    broad: float           # shoulders, 1 for most
    skirt: float           # how far a skirt or a coat reaches down from the hips to the floor, 0 for none
    hair: str              # "short", "long", "bun", "none"
    bag: str               # "backpack", "shoulder", ""; of what the shoes are
    holds: tuple[Limb | None, Limb | None]     # what his arms do; None: one hangs, and swings as he walks
    skin: int
    hair_color: int
    top: int
    bottom: int
    upper_arm: int
    forearm: int
    shin: int
    shoe: int

    @classmethod
    def random(cls, m: Maker) -> Body:
        child = m.chance(CHILD_SHARE)
        height = m.between(1.05, 1.5) if child else m.between(1.5, 1.95)
        skirt = m.pick((0, 0, 0, 0, m.between(.4, .55), m.between(.4, .85)))
        coat = skirt > 0 and m.chance(.5)
        skin, top = m.mat("skin"), m.mat(m.pick(("fabric", "shirt", "shirt", "shirt", "leather")))
        bottom = top if coat or m.chance(.06) else m.mat("shirt" if skirt else "trousers")
        bare = m.chance(.5 if skirt and not coat else .08)
        shin = bottom if skirt > .6 else skin if bare else m.mat("trousers") if skirt else bottom
        sleeves = "long" if coat else m.pick(("long", "long", "long", "short", "short", "none"))
        return cls(height, CHILD_HEAD_M if child else HEAD * height, m.between(.9, 1.25), m.between(.92, 1.08), skirt,
                   m.pick(("short", "short", "short", "long", "long", "bun", "none")),
                   m.pick(("",) * 7 + ("backpack", "backpack", "shoulder")), holding(m), skin,
                   m.mat("hair" if m.chance(.9) else "fabric"), top, bottom,        # some wear hats and scarves
                   skin if sleeves == "none" else top, top if sleeves == "long" else skin, shin,
                   m.mat(m.pick(("leather", "dark plastic", "plastic"))))

    def piece(self, pose: Pose, seat: float | None = None) -> Piece:
        """In a pose: the hips over the origin, and the lower foot on the floor or the body on a seat of that height."""
        h, w = self.height, self.height * self.girth
        legs = [leg(side, limb, h) for side, limb in zip((-1, 1), pose.legs, strict=True)]
        hip = -min(ankle[2] - sole(slope, h) for _, _, ankle, slope in legs) if seat is None else seat + SEAT * h
        piece, ends = Piece("person"), []
        for start, knee, ankle, slope in legs:
            start, knee, ankle = ((x, y, z + hip) for x, y, z in (start, knee, ankle))
            rod(piece, ELLIPSOID, self.bottom, start, knee, (.10 if seat is None else .105) * w, 1.3)
            rod(piece, CYLINDER, self.shin, knee, ankle, (.056 if self.shin == self.skin else .066) * w, 1.06)
            width, length, high = (share * h for share in FOOT)
            toe = turned((ankle[0], .27 * length, high / 2 - ANKLE * h), slope)
            piece.add(ELLIPSOID, self.shoe, toe[0], ankle[1] + toe[1], ankle[2] + toe[2], width, length, high, rx=slope)
            ends += [knee, (toe[0], ankle[1] + 2 * toe[1], 0)]
        if not self.skirt or seat is not None:
            piece.add(ELLIPSOID, self.bottom, 0, -.004 * h, hip + .012 * h, .185 * (h + w) / 2, .13 * w, .17 * h)
        else:
            reach = max(abs(point[1]) for _, *points, _ in legs for point in points[:1 + (self.skirt > .6)])
            low, high = hip - self.skirt * HIP * h, hip + .07 * h
            piece.add(CYLINDER, self.bottom, 0, 0, (low + high) / 2, .21 * (h + w) / 2, max(.15 * w, 2 * reach),
                      high - low)
        ends += self._upper(piece, pose, hip, sits=seat is not None)
        piece.width, piece.depth = (2 * max(abs(end[axis]) for end in ends) + .05 * h for axis in (0, 1))
        piece.height = hip + (h - HIP * h) * cos(pose.lean)
        return piece

    def _upper(self, piece: Piece, pose: Pose, hip: float, sits: bool) -> list[Point]:
        """What is above the hips; returns elbows and hands."""
        h, w, head = self.height, self.height * self.girth, self.head
        lean, ends = -pose.lean, []
        shoulder = h - head - (NECK + HIP) * h

        def up(x: float, y: float, z: float) -> Point:
            """From the frame of the trunk, its origin between the hips."""
            x, y, z = turned((x, y, z), lean)
            return x, y, z + hip

        piece.add(CYLINDER, self.top, *up(0, 0, .105 * h), .165 * w, .118 * w, .19 * h, rx=lean)
        piece.add(ELLIPSOID, self.top, *up(0, 0, shoulder * .65), .235 * h * self.broad + .02 * w, .142 * w,
                  shoulder * .93, rx=lean)
        piece.add(CYLINDER, self.skin, *up(0, -.004 * h, shoulder + .02 * h), .066 * w, .07 * w, .1 * h, rx=lean)
        nod = lean * .5
        middle = up(0, .008 * h, shoulder + NECK * h + head / 2)
        piece.add(ELLIPSOID, self.skin, *middle, .68 * head, .84 * head, head, rx=nod)

        def about(y: float, z: float) -> Point:
            """From the middle of the head, in heads."""
            _, y, z = turned((0, y * head, z * head), nod)
            return middle[0], middle[1] + y, middle[2] + z

        if self.hair != "none":
            piece.add(ELLIPSOID, self.hair_color, *about(-.12, .1), .76 * head, .83 * head, .9 * head, rx=nod)
        if self.hair == "long":
            piece.add(ELLIPSOID, self.hair_color, *about(-.25, -.25), .8 * head, .5 * head, 1.4 * head, rx=nod)
        elif self.hair == "bun":
            piece.add(ELLIPSOID, self.hair_color, *about(-.46, .22), .4 * head, .4 * head, .4 * head)
        for side, limb in zip((-1, 1), pose.arms, strict=True):
            upper, fore = arm(side, limb)
            start = np.array((side * SHOULDERS * h * self.broad, 0, shoulder - .025 * h))
            elbow = start + upper * UPPER_ARM * h
            start, elbow, wrist, hand, tip = (up(*point.tolist()) for point in (
                start, elbow, *(elbow + fore * share * h for share in (FOREARM, FOREARM + .035, FOREARM + .08))))
            rod(piece, ELLIPSOID, self.upper_arm, start, elbow, .066 * w, 1.22)
            rod(piece, CYLINDER, self.forearm, elbow, wrist, (.042 if self.forearm == self.skin else .05) * w, 1.06)
            rod(piece, ELLIPSOID, self.skin, wrist, hand, .05 * h, 2.6)
            ends += [elbow, tip]
        if self.bag == "backpack" and not sits:
            piece.add(ELLIPSOID, self.shoe, *up(0, -.07 * w - .045 * h, shoulder * .62), .19 * h, .13 * h, .3 * h,
                      rx=lean)
        elif self.bag == "shoulder" and not sits:
            piece.add(ELLIPSOID, self.shoe, *up(.12 * h, -.03 * h, -.01 * h), .08 * h, .21 * h, .17 * h)
        return ends


def leg(side: int, limb: Limb, height: float) -> tuple[Point, Point, Point, float]:
    """Hip, knee and ankle from between the hips, metres, and how far the toes are up, radians."""
    shin = limb.forward - limb.bend
    start = np.array((side * HIPS * height, 0, 0))
    knee = start + THIGH * height * downward(side * limb.outward, limb.forward)
    # The shin of a bent leg is upright in the picture from ahead.
    ankle = knee + SHIN * height * downward(side * limb.outward * cos(limb.bend), shin)
    return tuple(start.tolist()), tuple(knee.tolist()), tuple(ankle.tolist()), tilt(shin)


def tilt(shin: float) -> float:
    """Of a shoe under a shin that is so far forward: its heel rises behind, and touches the floor first ahead."""
    return .7 * (shin + .25) if shin < -.25 else .6 * max(shin - .1, 0)


def sole(slope: float, height: float) -> float:
    """How far the lowest point of a shoe is below the ankle, metres."""
    _, length, high = (share * height for share in FOOT)
    middle = turned((0, .27 * length, high / 2 - ANKLE * height), slope)[2]
    return hypot(length * sin(slope), high * cos(slope)) / 2 - middle


def arm(side: int, limb: Limb) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors along the upper arm and the forearm, in the frame of the trunk."""
    upper = downward(side * limb.outward, limb.forward)
    ahead = np.array((-side * sin(limb.inward), cos(limb.inward) * cos(limb.forward),
                      cos(limb.inward) * sin(limb.forward)))
    ahead -= (ahead @ upper) * upper
    return upper, cos(limb.bend) * upper + sin(limb.bend) * ahead / np.linalg.norm(ahead)


def downward(aside: float, forward: float) -> np.ndarray:
    """(3,) the unit vector that points down, turned to +x and forward."""
    return np.array((sin(aside), cos(aside) * sin(forward), -cos(aside) * cos(forward)))


def turned(point: Point, angle: float) -> Point:
    """About x."""
    x, y, z = point
    c, s = cos(angle), sin(angle)
    return x, c * y - s * z, s * y + c * z


def rod(piece: Piece, shape: int, material: int, start: Point, end: Point, width: float, longer: float) -> None:
    """A part from one point to another, or so many times as long."""
    x, y, z = (b - a for a, b in zip(start, end, strict=True))
    length = hypot(x, y, z)
    middle = ((a + b) / 2 for a, b in zip(start, end, strict=True))
    piece.add(shape, material, *middle, width, width, length * longer, rx=-asin(y / length), ry=atan2(x, z))


# ---- poses

def holding(m: Maker) -> tuple[Limb | None, Limb | None]:
    """What arms do while their owner stands or walks."""
    design = m.pick(("nothing",) * 6 + ("phone", "phone", "folded", "hips", "pockets", "carries", "points", "calls"))
    if design == "nothing":
        return None, None
    one = {"phone": Limb(.35, .1, 2.0, .3), "folded": Limb(.35, .2, 1.6, 1.25), "hips": Limb(-.35, .75, 1.5, 1.3),
           "pockets": Limb(-.25, .3, .75, .7), "carries": Limb(.15, .1, 1.35, .2),
           "points": Limb(m.between(.7, 1.8), .2, m.between(0, .6), 0), "calls": Limb(.5, .6, 2.5, .5)}[design]
    if design in ("folded", "carries") or design in ("hips", "pockets") and m.chance(.6):
        return one, one
    return (one, None) if m.chance(.5) else (None, one)


def arms(body: Body, hanging: Pair) -> Pair:
    return tuple(held or free for held, free in zip(body.holds, hanging, strict=True))


def standing(m: Maker, body: Body) -> Pose:
    bends = m.between(0, .12), m.between(0, .12)
    hanging = tuple(Limb(m.between(-.1, .12), m.between(.06, .2), m.between(.1, .4), .4) for _ in range(2))
    return Pose(tuple(Limb(bend / 2, m.between(0, .1), bend) for bend in bends), arms(body, hanging),
                m.between(-.03, .06))


def walking(body: Body, phase: float) -> Pose:
    """At a phase of the gait, 0 and 1 when the right heel touches the floor."""
    legs = tuple(Limb(float(np.interp(at % 1, GAIT, HIP_FLEXION)), .0, float(np.interp(at % 1, GAIT, KNEE_FLEXION)))
                 for at in (phase + .5, phase))
    swings = [.05 - .75 * (limb.forward - .12) for limb in legs]                 # against the leg of its side
    return Pose(legs, arms(body, tuple(Limb(swing, .12, .3 + max(swing, 0), .3) for swing in swings)), .05)


# ---- people

def bystander(m: Maker) -> Piece:
    """Somebody who stands, or has stopped in the middle of a step."""
    body = Body.random(m)
    return body.piece(standing(m, body) if m.chance(.7) else walking(body, m.between(0, 1)))


def sitter(m: Maker, seat: Top) -> tuple[Piece, float, float]:
    """Somebody for a seat, whose back begins at y0 and whose front edge is at y1, and where on it he sits, x and y."""
    body = Body.random(m)
    h = body.height
    hip = seat.z + SEAT * h
    legs = []
    for _ in range(2):
        shin, outward = m.between(-.1, .45), m.between(.02, .2)
        cosine = (hip - SHIN * h * cos(shin) - sole(tilt(shin), h)) / (THIGH * h * cos(outward))
        forward = acos(min(max(cosine, KNEES[0]), KNEES[1]))
        legs.append(Limb(forward, outward, forward - shin))
    y = max(seat.y0 + .075 * h, seat.y1 + .04 * h - THIGH * h * min(sin(limb.forward) for limb in legs))
    back = (y - seat.y0 - .075 * h) / (.25 * h)
    lean = m.between(.05, .4) if m.chance(.25) else -atan2(min(back, .6), 1) - m.between(0, .15)
    design = m.pick(("lap", "lap", "lap", "table", "table", "phone", "folded"))
    one = {"lap": Limb(.45, .12, .8, .3), "table": Limb(.65, .1, 1.15, .3), "phone": Limb(.4, .1, 1.9, .5),
           "folded": Limb(.35, .2, 1.6, 1.25)}[design]
    piece = body.piece(Pose(tuple(legs), (one, one), lean), seat.z)
    return piece, m.between(seat.x0 + .2, seat.x1 - .2) if seat.x1 - seat.x0 > .5 else (seat.x0 + seat.x1) / 2, y


def walker(m: Maker) -> list[Piece]:
    """Somebody as he stands, and in two steps of his gait, half of it apart."""
    body, phase = Body.random(m), m.between(-.12, .12)
    return [body.piece(pose) for pose in (standing(m, body), walking(body, phase), walking(body, phase + .5))]
