"""A drive from above: what is there, what the costmap shows, and the way that was taken."""
from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from drive import Drive
from home import Home
from robot import RADIUS_M

from lsm_ros.geometry.sim3 import inverse, transform
from lsm_ros.world.space import Space

PIXELS = 90                # a metre
FLOOR, TRUTH, COSTMAP, TRACK, GOAL = (236, 232, 225), (60, 60, 66), (205, 120, 40), (30, 110, 220), (40, 150, 60)


def from_above(home: Home, drive: Drive) -> np.ndarray:
    """(H, W, 3) uint8 RGB: the plan in grey, the costmap's obstacles in orange, the track in blue, goal in green."""
    rooms = Space(home.scene).floors
    low, high = rooms[:, [0, 2]].min(0) - 0.3, rooms[:, [1, 3]].max(0) + 0.3
    width, height = np.ceil((high - low) * PIXELS).astype(int)
    image = np.full((height, width, 3), 255, np.uint8)

    def pixel(xy: np.ndarray) -> np.ndarray:
        return np.rint((np.asarray(xy) - low) * (1, -1) * PIXELS + (0, height)).astype(int)

    for x0, x1, y0, y1 in rooms:
        cv2.rectangle(image, pixel((x0, y0)).tolist(), pixel((x1, y1)).tolist(), FLOOR, -1)
    T_world_odom = drive.robot.T_world_base @ inverse(drive.robot.T_odom_base)
    cells = drive.costmap.place(np.argwhere(drive.costmap.obstacles))
    cells = transform(T_world_odom, np.concatenate([cells, np.zeros((len(cells), 1))], axis=1))[:, :2]
    for corner in pixel(cells):
        cv2.circle(image, corner.tolist(), 3, COSTMAP, -1)
    for xy in drive.track[::12]:
        for hit in pixel(home.scan(xy)):
            cv2.circle(image, hit.tolist(), 1, TRUTH, -1)
    cv2.polylines(image, [pixel(drive.track)], False, TRACK, 3, cv2.LINE_AA)
    for xy in (drive.track[0], drive.track[-1]):
        cv2.circle(image, pixel(xy).tolist(), round(RADIUS_M * PIXELS), TRACK, 2, cv2.LINE_AA)
    cv2.drawMarker(image, pixel(drive.goal).tolist(), GOAL, cv2.MARKER_CROSS, 18, 3)
    return image


def save(image: np.ndarray, path: Path) -> None:
    cv2.imwrite(str(path), image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
