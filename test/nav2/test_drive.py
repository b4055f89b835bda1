"""A robot drives through a rendered home on its costmap alone, from A to B, and touches nothing."""
from __future__ import annotations

import numpy as np
import pytest
import torch
from drive import drive
from home import Home, touched, true_clouds
from lsm import eyes
from picture import from_above, save
from robot import ARRIVED_M

SEED, KIND = 3_000_000_058, "apartment"
WAY = 8             # of the ways through it: 6 m, through two doors


@pytest.fixture(scope="module")
def small() -> tuple[Home, np.ndarray]:
    """The home in small pictures, and a way of 3 m in it."""
    home = Home(SEED, KIND, (96, 72))
    return home, home.way(3.0, np.random.default_rng(2))


def test_with_clouds_of_the_true_depth(small):
    """Without the node: costmap, planner, robot and home by themselves are good for a drive."""
    home, way = small
    result = drive(home, way, lambda view, robot, stamp: true_clouds(home, view, stamp))
    assert result.arrived, result.stuck
    assert np.linalg.norm(result.track[-1] - way[-1]) < 0.3          # its wheels tell 2 % too much
    assert touched(home, result.track) == []


def test_a_robot_that_sees_nothing_runs_into_something(small):
    """So that the test above can fail: the straight way from A to B is not free."""
    home, way = small
    assert touched(home, list(np.linspace(way[0], way[-1], 60))) != []


@pytest.mark.slow
def test_with_the_node(tmp_path):
    """The real node with the shipped weights, in its own process, over DDS, through two doors. A minute or two."""
    torch.set_num_threads(1)                     # the views are small: more threads wait for each other
    home = Home(SEED, KIND)
    way = home.way(3.0, np.random.default_rng(WAY))
    with eyes(home, tmp_path / "node.log") as node:
        result = drive(home, way, node)
    save(from_above(home, result), tmp_path / "drive.jpg")
    assert result.arrived, f"{result.stuck}; {tmp_path}"
    driven_m = np.linalg.norm(np.diff(result.track, axis=0), axis=1).sum()
    assert np.linalg.norm(result.track[-1] - way[-1]) < ARRIVED_M + 0.025 * driven_m      # its wheels tell 2 % too much
    assert touched(home, result.track) == [], f"{tmp_path}"
    assert node.silent <= 3
