"""What a robot can drive on and what stands in its way, by label and by height over the floor.

A label alone is wrong now and then, and one false obstacle stops a robot. A height alone takes a rug's edge for a wall
where the map is a little off. So each is asked where the other says little.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lsm_ros.contracts import MapUpdate
from lsm_ros.errors import ConfigError
from lsm_ros.geometry.camera import unproject
from lsm_ros.labels import LabelSet, alike
from lsm_ros.mapping.views import on_outline

GROUND = ("floor", "rug", "carpet")     # what is driven on and what is never in the way where nobody says otherwise
IGNORED = ("ceiling",)
MIN_HEIGHT_M, MAX_HEIGHT_M = 0.1, 1.5   # of obstacles, likewise
LABELLED_GROUND = 3.0                   # ground by its label may be off the floor by so many times the least height


@dataclass(frozen=True)
class Robot:
    """What is ground to a robot, and what stands in its way."""
    ground: np.ndarray          # (C,) bool, classes that it drives on
    ignored: np.ndarray         # (C,) bool, classes that are never in its way
    min_height_m: float         # it drives over what is no higher over the floor
    max_height_m: float         # it passes below what is higher

    def judge(self, labels: np.ndarray, heights_m: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """(ground, obstacle), both (N,) bool and never both true, of points with these labels and heights, both (N,).

        Close to the floor everything is ground, whatever its label; ground by its label is believed a little farther,
        since depth is the less sure the flatter a floor is seen. Farther up it is an obstacle like anything else, and
        above the robot or well below the floor a point is neither. Where no floor is known (None), labels alone decide.
        """
        ground, ignored = self.ground[labels], self.ignored[labels]
        if heights_m is None:
            return ground, ~ground & ~ignored
        ground = np.abs(heights_m) <= np.where(ground, LABELLED_GROUND * self.min_height_m, self.min_height_m)
        return ground, ~ground & ~ignored & (heights_m > 0) & (heights_m <= self.max_height_m)


def chosen(labels: LabelSet, names: str, default: tuple[str, ...] = ()) -> np.ndarray:
    """(C,) bool: the classes of a list like "rug, coffee table"; of an empty one, those of `default` that there are.

    Raises ConfigError that names what is no label.
    """
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    unknown = [f"{name!r}{alike(name, labels.names)}" for name in wanted if name not in labels.names]
    if unknown:
        raise ConfigError(f"no label {' and no label '.join(unknown)} (in {names!r})")
    return np.array([name in (wanted or default) for name in labels.names])


def obstacles(update: MapUpdate, robot: Robot, max_depth_m: float) -> tuple[np.ndarray, np.ndarray]:
    """Points (N, 3) float32 of the ground and of obstacles in the newest view, both in the camera's frame, metres.

    The ground is what the map trusts, for it clears a costmap. Of obstacles all are told but for outlines: the network
    is least sure of things, and without its least confident quarter three times as many are missed (docs/topics.md).
    """
    cloud, good = update.window_cloud, sound(update, max_depth_m)
    points = unproject(update.depth, update.K)[good]

    def judged(points: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        heights_m = points @ update.T_map_cam[2, :3] + update.T_map_cam[2, 3] if update.on_floor else None
        return robot.judge(labels, heights_m)

    return cloud.points[judged(cloud.points, cloud.labels)[0]], points[judged(points, update.labels[good])[1]]


def free_ends(update: MapUpdate, max_depth_m: float) -> np.ndarray:
    """Points (N, 3) float32 of the newest view in the camera's frame, metres: up to there its rays meet nothing.

    Near by it is what the map trusts, at any height. What is farther than `max_depth_m` is drawn in to it: how far it
    is nobody needs to know, and where it is not told, whoever has walked away before it stays in a costmap.
    """
    far = sound(update, np.inf) & (update.depth > max_depth_m)
    points = unproject(np.where(far, np.float32(max_depth_m), update.depth), update.K)
    return np.concatenate([update.window_cloud.points, points[far]])


def sound(update: MapUpdate, max_depth_m: float) -> np.ndarray:
    """(h, w) bool: pixels of the newest view that show something, not too far, and not between two things on an
    outline."""
    return (update.confidence > 0) & ~on_outline(update.depth) & (update.depth <= max_depth_m)


def thinned(points: np.ndarray, most: int) -> np.ndarray:
    """At most so many of the points (N, 3), spread evenly over their order."""
    return points if len(points) <= most else points[np.linspace(0, len(points) - 1, most).astype(int)]


def organised(update: MapUpdate, max_depth_m: float, most: int) -> tuple[np.ndarray, ...]:
    """The newest view as a grid of at most so many pixels: every second row and column, or third, where it has more.

    Returns points (h, w, 3) float32 in the camera's frame, metres, NaN on outlines and beyond `max_depth_m`; labels
    (h, w) uint16; the confidence in the depth, (h, w) uint8; and (h, w) uint8, 255 where something moves, else 0.
    """
    points = unproject(np.where(sound(update, max_depth_m), update.depth, np.float32(np.nan)), update.K)
    step = 1
    while update.depth[::step, ::step].size > most:
        step += 1
    confidence = np.rint(255 * update.confidence[::step, ::step]).clip(0, 255).astype(np.uint8)
    moving = np.where(update.still[::step, ::step], np.uint8(0), np.uint8(255))
    return points[::step, ::step], update.labels[::step, ::step], confidence, moving
