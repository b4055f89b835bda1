import numpy as np
import pytest

from lsm_ros.contracts import Cloud
from lsm_ros.errors import InputError
from lsm_ros.labels import LabelSet
from lsm_ros.mapping.obstacles import GROUND, IGNORED, Robot, chosen
from lsm_ros.mapping.occupancy import FREE, OCCUPIED, UNKNOWN, keepout, occupancy

LABELS = LabelSet.load()
ROBOT = Robot(chosen(LABELS, "", GROUND), chosen(LABELS, "", IGNORED), min_height_m=0.1, max_height_m=1.5)


def voxels(*parts):
    """A cloud of (name, points): the map's voxels as far as a grid looks at them."""
    points = np.concatenate([np.atleast_2d(np.array(p, np.float32)) for _, p in parts])
    labels = np.concatenate([np.full(len(np.atleast_2d(p)), LABELS.index(name), np.uint16) for name, p in parts])
    return Cloud(points, np.zeros((len(points), 3), np.uint8), labels, np.ones(len(points), np.uint8))


def floor(x, y, size=0.1):
    """Points on the middles of the cells from 0 to x and from 0 to y."""
    a, b = np.meshgrid(np.arange(round(x / size)), np.arange(round(y / size)))
    return np.stack([(a + 0.5) * size, (b + 0.5) * size, 0 * a], axis=-1).reshape(-1, 3)


def at(grid, x, y):
    column, row = np.floor((np.array([x, y]) - grid.origin) / grid.resolution_m + 1e-6).astype(int)
    return grid.cells[row, column]


def test_free_where_the_floor_is_and_occupied_where_something_stands():
    cloud = voxels(("floor", floor(1.0, 0.5)), ("chair", (0.35, 0.25, 0.4)), ("ceiling", (0.55, 0.25, 1.2)),
                   ("lamp", (0.65, 0.25, 1.8)), ("wall", (-0.75, 0.25, 0.5)))
    grid = occupancy(cloud, ROBOT, True, 0.1)
    assert grid.cells.shape == (5, 18) and grid.cells.dtype == np.int8
    np.testing.assert_allclose(grid.origin, (-0.8, 0.0))
    assert (at(grid, 0.35, 0.25), at(grid, 0.55, 0.25), at(grid, 0.65, 0.25)) == (OCCUPIED, FREE, FREE)
    assert (at(grid, -0.75, 0.25), at(grid, -0.35, 0.25)) == (OCCUPIED, UNKNOWN)
    assert np.count_nonzero(grid.cells == OCCUPIED) == 2 and np.count_nonzero(grid.cells == FREE) == 49


def test_without_a_floor_the_labels_decide():
    cloud = voxels(("floor", (0.05, 0.05, -1.3)), ("chair", (0.15, 0.05, -1.28)), ("ceiling", (0.25, 0.05, 1.0)))
    assert occupancy(cloud, ROBOT, False, 0.1).cells.tolist() == [[FREE, OCCUPIED]]
    assert occupancy(cloud, ROBOT, True, 0.1).cells.tolist() == [[UNKNOWN]]         # all of it is below the floor


def test_a_cell_between_seen_floor_is_floor_and_a_gap_is_not():
    seen = floor(1.2, 0.5)
    hole = np.isclose(seen[:, 0], 0.25) & np.isclose(seen[:, 1], 0.25)
    gap = (seen[:, 0] > 0.6) & (seen[:, 0] < 0.9)
    grid = occupancy(voxels(("floor", seen[~hole & ~gap])), ROBOT, True, 0.1)
    assert at(grid, 0.25, 0.25) == FREE
    assert at(grid, 0.75, 0.25) == UNKNOWN


def test_keepout_has_a_margin_and_forgives_a_wrong_label():
    rug = floor(0.2, 0.2) + np.array([1.0, 1.0, 0])
    cloud = voxels(("floor", floor(2.0, 2.0)), ("rug", rug), ("rug", (0.25, 0.25, 0.0)), ("rug", rug + (0, 0.7, 3.0)))
    grid = keepout(cloud, chosen(LABELS, "rug"), ROBOT, True, margin_m=0.22, resolution_m=0.1)
    np.testing.assert_allclose(grid.origin, (-0.2, -0.2))
    assert grid.cells.shape == (24, 24)
    assert (at(grid, 1.05, 1.05), at(grid, 0.85, 1.05), at(grid, 0.75, 1.05)) == (OCCUPIED, OCCUPIED, FREE)
    assert at(grid, 0.85, 0.85) == FREE, "the corner of the margin is round"
    assert at(grid, 1.05, 1.75) == FREE, "that hangs over the robot"
    assert at(grid, 0.25, 0.25) == FREE, "a single cell of .01 m^2 is a wrong label"
    assert np.count_nonzero(grid.cells == OCCUPIED) == 4 + 4 * 4 + 4
    assert at(grid, -0.15, 1.05) == UNKNOWN, "beside the floor: a costmap filter would make it free"
    nothing = keepout(cloud, chosen(LABELS, "bed"), ROBOT, True, 0.22, 0.1)
    assert nothing.cells.shape == grid.cells.shape and OCCUPIED not in nothing.cells
    assert np.array_equal(nothing.cells[2:-2, 2:-2], occupancy(cloud, ROBOT, True, 0.1).cells), "it knows no more"


def test_an_empty_map_is_one_unknown_cell():
    empty = voxels(("floor", np.empty((0, 3))))
    assert occupancy(empty, ROBOT, True, 0.1).cells.tolist() == [[UNKNOWN]]
    assert keepout(empty, chosen(LABELS, "rug"), ROBOT, True, 0.2, 0.1).cells.tolist() == [[UNKNOWN]]


def test_a_grid_that_no_message_should_hold_is_refused():
    far = voxels(("wall", [(0, 0, 1.0), (5000, 400, 1.0)]))
    with pytest.raises(InputError, match="50001 x 4001 cells of 0.1 m"):
        occupancy(far, ROBOT, True, 0.1)
