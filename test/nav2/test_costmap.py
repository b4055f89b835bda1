"""The costmap of the drive tests reads clouds as Nav2 does, and the robot goes where it says."""
from __future__ import annotations

import numpy as np
import pytest
import yaml
from costmap import Costmap, Tf, xyz
from home import cloud_of, edge
from robot import RADIUS_M, Robot, plan, steer

from lsm_ros.geometry.sim3 import R_ROS_CV, sim3
from lsm_ros.resources import resource

LAYER = yaml.safe_load(resource("config/nav2/voxel_layer.yaml").read_text())[
    "local_costmap"]["local_costmap"]["ros__parameters"]["voxel_layer"]
STAMP = 5_000_000_007


@pytest.fixture
def costmap() -> Costmap:
    """About a robot at (1, 2) of odom that looks along y, its camera 0.5 m up and 0.1 m ahead of its middle."""
    tf = Tf()
    tf.hear(edge("base_footprint", "camera", sim3(R_ROS_CV, np.array([0.1, 0, 0.5])), 0), static=True)
    tf.hear(edge("odom", "base_footprint", sim3(np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1.0]]),
                                                np.array([1.0, 2, 0])), STAMP))
    return Costmap(tf, LAYER, 6.0, 0.05)


def seen(costmap: Costmap, *points: tuple[float, float, float], source: str = "obstacles", at=(1.0, 2.0)) -> None:
    """Points of the robot's base (x ahead, y left, z up), as its camera sees them, and one cycle."""
    in_cam = (np.array(points).reshape(-1, 3) - (0.1, 0, 0.5)) @ R_ROS_CV
    costmap.hear(source, cloud_of(in_cam, STAMP, "camera"))
    costmap.update(np.array(at))


def marked(costmap: Costmap) -> list[list[float]]:
    """Middles of the obstacle cells in odom."""
    return costmap.place(np.argwhere(costmap.obstacles)).round(3).tolist()


def test_fields_are_found_by_name():
    points = np.array([[1.5, -2, 3], [4, 5, -6]], np.float32)
    message = cloud_of(points, STAMP)
    assert [field.name for field in message.fields] == ["intensity", "z", "x", "y"]
    assert np.array_equal(xyz(message), points)


def test_tf_at_the_stamp_takes_points_into_odom(costmap):
    seen(costmap, (1.02, 0.52, 0.3))                     # ahead and left of a robot that looks along odom's y
    assert marked(costmap) == [[0.475, 3.025]]
    with pytest.raises(LookupError, match="odom -> base_footprint"):
        costmap.hear("obstacles", cloud_of(np.zeros((1, 3)), STAMP + 1, "camera"))


def test_heights_are_those_of_odom(costmap):
    seen(costmap, (1.02, 0.02, 0.04), (1.12, 0.02, 0.06), (1.22, 0.02, 1.49), (1.32, 0.02, 1.51))
    assert [y for _, y in marked(costmap)] == [3.125, 3.225]
    seen(costmap, (1.02, 0.02, np.nan))
    assert len(marked(costmap)) == 2


def test_marks_reach_as_far_as_the_source_says(costmap):
    seen(costmap, (2.55, 0.02, 0.5), (2.65, 0.02, 0.5))      # 2.45 and 2.55 m from the camera
    assert [y for _, y in marked(costmap)] == [4.575]


def test_a_ray_clears_up_to_two_cells_before_its_end_and_not_behind_it(costmap):
    seen(costmap, (0.82, 0.02, 0.5), (1.72, 0.02, 0.5))
    assert [y for _, y in marked(costmap)] == [2.825, 3.725]
    seen(costmap, (1.32, 0.02, 0.5))                         # level with the camera, nothing before 1.32 any more
    assert [y for _, y in marked(costmap)] == [3.325, 3.725]
    seen(costmap, (1.37, 0.02, 0.5))                         # the mark at 1.32 is nearer to the end than two cells
    assert [y for _, y in marked(costmap)] == [3.325, 3.375, 3.725]


def test_a_ray_over_a_low_thing_leaves_it(costmap):
    """Nav2's plain obstacle layer, in two dimensions, would free the stool, and the robot would run into it."""
    seen(costmap, (0.82, 0.02, 0.25))
    seen(costmap, (2.02, 0.02, 0.75))
    assert [y for _, y in marked(costmap)] == [2.825, 4.025]


def test_ground_clears_and_does_not_mark(costmap):
    seen(costmap, (0.82, 0.02, 0.08), (2.32, 0.02, 0.5))
    seen(costmap, source="obstacles")
    assert [y for _, y in marked(costmap)] == [2.825, 4.325]
    seen(costmap, (1.02, 0.02, -0.02), source="ground")      # its ray goes down through the mark at 0.82, 0.08 high
    assert [y for _, y in marked(costmap)] == [4.325]


def test_who_walks_away_leaves_no_mark(costmap):
    """Behind a chest is a wall where it is higher than the robot."""
    seen(costmap, (1.52, 0.02, 1.2))
    assert [y for _, y in marked(costmap)] == [3.525]
    behind = (4.36, 0.06, 2.6)                               # on the same ray, three times as far from the camera
    seen(costmap, behind)
    seen(costmap, behind, source="ground")
    assert [y for _, y in marked(costmap)] == [3.525]        # neither source lets that through
    seen(costmap, behind, source="free")
    assert marked(costmap) == []


def test_rays_clear_no_farther_than_the_source_says(costmap):
    seen(costmap, (2.55, 0.02, 0.5))
    seen(costmap, (5.9, 0.02, 0.5))                          # beyond the range of marks
    assert marked(costmap) == []
    costmap.marked[:] = True
    seen(costmap, (5.9, 0.02, 0.5))
    line = costmap.marked[costmap.cell((0.98, 2.0))[0], :, 5]
    free = costmap.place(np.stack([np.zeros_like(np.flatnonzero(~line)), np.flatnonzero(~line)], 1))[:, 1]
    assert free.min() == pytest.approx(2.125) and free.max() == pytest.approx(4.975)      # x = 5: beyond the window


def test_the_window_rolls_and_forgets(costmap):
    seen(costmap, (2.52, 0.02, 0.5))
    costmap._newest.clear()
    costmap.update(np.array([1.0, 3.0]))
    assert marked(costmap) == [[0.975, 4.525]]               # the same place of odom
    costmap.update(np.array([1.0, 8.0]))
    costmap.update(np.array([1.0, 2.0]))
    assert marked(costmap) == []


def test_a_way_keeps_the_robot_s_width_and_goes_round():
    obstacles = np.zeros((60, 40), bool)
    obstacles[:, 20] = True
    obstacles[10:13, 20] = False                             # too narrow a door: 15 cm
    obstacles[40:53, 20] = False                             # 65 cm
    way = np.array(plan(obstacles, 0.05, (10, 10), (10, 30)))
    assert 40 <= way[way[:, 1] == 20, 0].min() and way[way[:, 1] == 20, 0].max() < 53
    gaps = np.linalg.norm(way[:, None] - np.argwhere(obstacles), axis=2).min() * 0.05
    assert gaps > RADIUS_M
    obstacles[40:53, 20] = True
    assert plan(obstacles, 0.05, (10, 10), (10, 30)) is None


def test_a_robot_follows_a_bend_and_turns_to_what_is_behind():
    way = np.stack([np.linspace(0, 2, 80), np.sin(np.linspace(0, 2, 80))], axis=1)
    robot = Robot(np.zeros(2), np.pi, drift=0.0)
    assert steer(robot.xy, robot.yaw, way) == (0.0, pytest.approx(-0.25))
    for _ in range(60):
        robot.move(*steer(robot.xy, robot.yaw, way))
        assert np.linalg.norm(way - robot.xy, axis=1).min() < 0.1
    assert np.linalg.norm(way[-1] - robot.xy) < 0.02


def test_wheels_that_drift_tell_another_way():
    robot = Robot(np.array([3.0, 4.0]), np.pi / 2, drift=0.02)
    for _ in range(10):
        robot.move(0.1, 0.0)
    assert robot.xy == pytest.approx([3, 5]) and robot.odom_xy == pytest.approx([1.02, 0])
    robot.move(0.0, 1.0)
    assert robot.yaw == pytest.approx(np.pi / 2 + 1) and robot.odom_yaw == pytest.approx(0.99)
