import numpy as np
import pytest

from lsm_ros.geometry.camera import intrinsics
from lsm_ros.mapping.views import on_outline, steep

H, W, F = 96, 128, 85.0
K = intrinsics(F, F, 64.0, 48.0)
LOW_M = 0.1                # of the camera over the floor
WALL_M = 6.0


def room(roll_deg=0.0, things=()):
    """Depth (H, W) of a level camera before a wall; and of boxes before it: (nearest, left, right, lowest, highest), in
    metres from the camera and from the floor."""
    v, u = np.mgrid[:H, :W] + 0.5
    x, y = (u - K[0, 2]) / F, (v - K[1, 2]) / F
    down = np.cos(np.radians(roll_deg)) * y + np.sin(np.radians(roll_deg)) * x
    floor = np.where(down > 1e-6, LOW_M / np.maximum(down, 1e-6), np.inf)
    depth = np.minimum(floor, WALL_M)
    for near, left, right, low, high in things:
        there = (x * near > left) & (x * near < right) & (down * near < LOW_M - low) & (down * near > LOW_M - high)
        depth = np.where(there & (near < depth), near, depth)
    return depth.astype(np.float32)


@pytest.mark.parametrize("roll_deg", [0, 3, -20])
def test_a_floor_seen_flat_is_no_outline(roll_deg):
    """Seen from a hand above it, it changes by a third from row to row 1.2 m away already."""
    depth = room(roll_deg)
    floor = (depth < 2.5)[:, 2:-2]                      # it ends at 6 m; a roll bends its first and last columns
    assert (steep(depth)[:, 2:-2] & floor & (depth[:, 2:-2] > 1.5)).sum() > W
    assert not on_outline(depth)[:, 2:-2][floor].any()


def test_a_floor_is_no_outline_where_the_network_is_a_little_off():
    depth = room() * np.exp(np.random.default_rng(0).normal(0, 0.02, (H, W))).astype(np.float32)
    floor = (depth > 1.2) & (depth < 2)
    assert steep(depth)[floor].mean() > 0.6 and on_outline(depth)[floor].mean() < 0.1


@pytest.mark.parametrize("thing", [
    (1.0, -.3, .3, 0.0, .3),        # a box on the floor
    (3.0, -1.0, 1.0, 0.0, .9),      # before the wall
    (1.0, -.3, .3, .5, .55),        # a shelf
    (.8, -.005, .005, 0.0, 1.0)])   # a pole, a pixel wide
def test_where_a_thing_ends_is_an_outline(thing):
    depth = room(things=[thing])
    added = steep(depth) & ~steep(room())               # those that the thing makes
    assert added.sum() > 20
    assert on_outline(depth)[added].all()


def test_an_outline_that_is_drawn_as_a_ramp_is_one():
    depth = np.full((H, W), 2.0, np.float32)
    depth[:, 70:] = 5.0
    depth[:, 69] = 2 / (1 / 2 + 1 / 5)                  # halfway: with its neighbours linear, but not with theirs
    np.testing.assert_array_equal(on_outline(depth), steep(depth))
    assert on_outline(depth)[:, 69].all()
