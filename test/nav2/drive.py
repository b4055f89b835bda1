"""The drive itself: look, hear the clouds, plan, take a step; until the robot is there or gives up."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import yaml
from costmap import Costmap, Tf
from home import Home, View, motion, mounting
from robot import ARRIVED_M, LOOKAHEAD_M, MARGIN_M, RADIUS_M, STEP_RAD, Robot, clearance, plan, steer
from sensor_msgs.msg import PointCloud2

from lsm_ros.resources import resource

STEP_NS = 250_000_000
WINDOW_M = 14.0            # wider than Nav2's local costmap: there is no global one here
MOST_STEPS = 220

Sense = Callable[[View, Robot, int], dict[str, PointCloud2]]
"""The clouds of a view, robot and stamp by the names of the layer's sources; none where nothing is new."""


@dataclass
class Drive:
    """What became of it. Positions are true ones, metres in the world."""
    start: np.ndarray                  # (2,)
    goal: np.ndarray                   # (2,)
    track: list[np.ndarray] = field(default_factory=list)
    arrived: bool = False
    stuck: str = ""
    costmap: Costmap | None = None
    robot: Robot | None = None


def drive(home: Home, way: np.ndarray, sense: Sense) -> Drive:
    """From the first to the last point of a way (N, 2), which the robot doesn't know, on its costmap alone."""
    start, goal = way[0], way[-1]
    yaw = float(np.arctan2(*(way[20] - start)[::-1]))
    robot, result = Robot(start.copy(), yaw), Drive(start, goal, [start])
    layer = yaml.safe_load(resource("config/nav2/voxel_layer.yaml").read_text("utf8"))[
        "local_costmap"]["local_costmap"]["ros__parameters"]
    tf = Tf()
    tf.hear(mounting(), static=True)
    costmap = Costmap(tf, layer["voxel_layer"], WINDOW_M, layer["resolution"])
    result.costmap, result.robot = costmap, robot
    c, s = np.cos(yaw), np.sin(yaw)
    goal_odom = np.array([[c, s], [-s, c]]) @ (goal - start)      # odom is where the robot began
    looked = 0
    for step in range(1, MOST_STEPS):
        stamp = step * STEP_NS
        tf.hear(motion(robot, stamp))
        for name, message in sense(home.view(robot.T_world_base), robot, stamp).items():
            costmap.hear(name, message)
        costmap.update(robot.odom_xy)
        if np.linalg.norm(robot.odom_xy - goal_odom) < ARRIVED_M:
            result.arrived = True
            return result
        ahead, turn = next_step(costmap, robot, goal_odom)
        looked = 0 if ahead else looked + 1
        if looked * STEP_RAD > 4 * np.pi:
            result.stuck = f"no way from {robot.odom_xy} to {goal_odom} (odom) after two turns on the spot"
            return result
        result.track += robot.move(ahead, turn)
    result.stuck = f"not there after {MOST_STEPS} steps"
    return result


def next_step(costmap: Costmap, robot: Robot, goal_odom: np.ndarray) -> tuple[float, float]:
    """Metres ahead and radians to the left; a turn on the spot where no way is known, to see more."""
    obstacles = costmap.obstacles
    start, goal = (tuple(costmap.cell(xy).tolist()) for xy in (robot.odom_xy, goal_odom))
    for margin_m in (MARGIN_M, MARGIN_M / 2):
        if (cells := plan(obstacles, costmap.resolution_m, start, goal, RADIUS_M + margin_m)) is not None:
            break
    else:
        return 0.0, STEP_RAD
    ahead, turn = steer(robot.odom_xy, robot.odom_yaw, costmap.place(np.array(cells)))
    if ahead and near(costmap, robot, ahead, turn) < RADIUS_M + 0.02:
        target = costmap.place(np.array(cells[min(len(cells) - 1, round(LOOKAHEAD_M / 2 / costmap.resolution_m))]))
        aside = (np.arctan2(*(target - robot.odom_xy)[::-1]) - robot.odom_yaw + np.pi) % (2 * np.pi) - np.pi
        if abs(aside) > 0.05:
            return 0.0, float(np.clip(aside, -STEP_RAD, STEP_RAD))
        ahead, turn = 0.04, 0.0              # straight along the way, which keeps clear
    return ahead, turn


def near(costmap: Costmap, robot: Robot, ahead: float, turn: float) -> float:
    """Metres from the end of a step to the nearest obstacle, or infinity where it leads away from one."""
    clear = clearance(costmap.obstacles, costmap.resolution_m)
    there = Robot(robot.odom_xy, robot.odom_yaw)
    end, = there.move(ahead, turn)[-1:]
    here, then = (float(clear[tuple(costmap.cell(xy))]) for xy in (robot.odom_xy, end))
    return then if then < here else np.inf
