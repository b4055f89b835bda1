"""What a rendered world is: arrays of primitives, materials and lights. World frame: z up, metres, floor at z = 0."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BOX, ELLIPSOID, CYLINDER, CONE, MESH = range(5)
"""Shapes in their own unit frame: the box [-1,1]^3; the unit ball; the cylinder x^2 + y^2 <= 1, |z| <= 1; the cone with
its base (radius 1) at z = -1 and its tip at z = 1. MESH + i is model i of a mesh library (meshes.py), in the box; its
part k has the material `material` + k."""

POINT, SUN = range(2)

MATERIAL_COLUMNS = ("red", "green", "blue",              # 0-2 first colour, linear light, 0..1
                    "red2", "green2", "blue2",           # 3-5 second colour of the pattern
                    "pattern",                           # 6 plain, noise, checks, stripes, wood, bricks, speckle: 0-6
                    "frequency",                         # 7 pattern cells a metre
                    "stretch",                           # 8 >= 1: the pattern is that much longer along one axis
                    "contrast",                          # 9 0..1 share of the second colour
                    "texture",                           # 10 index into the texture atlas, -1 none
                    "texture_scale",                     # 11 texture repeats a metre; 0: once over the face, upright
                    "gloss",                             # 12 0..1 strength of the specular highlight
                    "emission",                          # 13 added radiance, times the first colour (lamps, sky)
                    "mirror",                            # 14 0..1 share of one mirror bounce (mirrors, screens, floors)
                    "seed")                              # 15 integer that makes two equal materials look different
LIGHT_COLUMNS = ("x", "y", "z",                          # 0-2 position, or for a sun the unit direction TO it
                 "red", "green", "blue",                 # 3-5 intensity: radiance at 1 m (point), irradiance (sun)
                 "kind",                                 # 6 POINT or SUN
                 "radius")                               # 7 of its disc, metres; a sun's: tangent of half its angle.
                                                         # Below 0: no shadows, darkened as ambient light is


@dataclass(frozen=True)
class Scene:
    """One furnished apartment, office or corridor.

    P primitives, M materials, L lights. A primitive of `material` -1 is never made; every index is valid.
    """
    shape: np.ndarray          # (P,) int32
    T_world_prim: np.ndarray   # (P, 3, 4) float32: unit frame of the shape -> world (columns: half axes, centre)
    label: np.ndarray          # (P,) int32, index into the shipped label set
    instance: np.ndarray       # (P,) int32, 0 for the building itself, one number an object
    material: np.ndarray       # (P,) int32
    materials: np.ndarray      # (M, 16) float32, MATERIAL_COLUMNS
    lights: np.ndarray         # (L, 8) float32, LIGHT_COLUMNS
    ambient: np.ndarray        # (6,) float32: light from above rgb, light from below rgb
    visitors: Scene | None = None   # objects that wait at the origin, unseen, until they are placed (movers.py); their
                                    # instances go on from the scene's, and their materials are the scene's
    poses: np.ndarray | None = None     # (N, POSES) int32, of visitors: the instances of each, one a pose, -1 for none


@dataclass(frozen=True)
class CameraPath:
    """V views of one camera in a scene, in the order in which they were taken."""
    T_world_cam: np.ndarray    # (V, 4, 4) float64, OpenCV camera axes
    focal: float               # focal length / image width
    kind: str                  # how the camera moves: "drive", "turn", "hand", "orbit", ...
