"""Pictures: what is near covers what is far, and lengths and shares are true."""
import tracemalloc

import numpy as np
import pytest

from lsm_ros.contracts import Cloud
from lsm_ros.data import splat
from lsm_ros.data.pictures import class_shares, contact_sheet, depth_picture, label_picture, map_picture, path_length
from lsm_ros.data.splat import OrthographicView, fit_view, render, spacing
from lsm_ros.errors import InputError
from lsm_ros.labels import LabelSet

LABELS = LabelSet.load()
WHITE = (255, 255, 255)


def grid(side=20, step=0.1, z=0.0):
    x, y = np.meshgrid(np.arange(side) * step, np.arange(side) * step)
    return np.stack([x.ravel(), y.ravel(), np.full(side * side, z)], axis=1)


def test_the_nearest_point_wins():
    """Seen from straight above, a red point over a blue floor covers it."""
    above = OrthographicView(np.diag([1.0, -1, -1]), np.array([0.95, 0.95, 0]), 0.04, (100, 100))
    points = np.concatenate([grid(), [[0.95, 0.95, 1.0]]])
    colors = np.array([[0, 0, 255]] * 400 + [[255, 0, 0]], np.uint8)
    for order in (slice(None), slice(None, None, -1)):
        image = render(points[order], colors[order], above, WHITE)
        assert image[50, 50].tolist() == [255, 0, 0]
        assert image[35, 35].argmax() == 2 and image[0, 0].tolist() == list(WHITE)


def test_shading_in_bands_has_no_seams(monkeypatch):
    """Steps of all heights, rows of them across the borders of the bands."""
    above = OrthographicView(np.diag([1.0, -1, -1]), np.array([0.95, 0.95, 0]), 0.008, (250, 3 * splat.BAND + 5))
    points = grid(step=0.1) + np.random.default_rng(0).uniform(0, 0.3, (400, 1)) * [0, 0, 1]
    colors = np.full((400, 3), 200, np.uint8)
    banded = render(points, colors, above, WHITE)
    monkeypatch.setattr(splat, "BAND", 10_000)
    np.testing.assert_array_equal(banded, render(points, colors, above, WHITE))
    assert len(np.unique(banded)) > 20


def test_a_large_picture_takes_little_memory():
    """A node draws it as it saves its map."""
    width, height = 2000, 1800
    above = OrthographicView(np.diag([1.0, -1, -1]), np.array([0.95, 0.95, 0]), 0.001, (width, height))
    tracemalloc.start()
    try:
        render(grid(), np.full((400, 3), 200, np.uint8), above, WHITE)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20 * width * height                   # bytes: four arrays of float32 and the picture


@pytest.mark.parametrize("elevation", [np.pi / 2, 0.9])
def test_a_view_holds_all_and_is_to_scale(elevation):
    points = np.concatenate([grid(), grid() + [4, 0, 0]])      # long in x
    path = np.array([[9.0, 1, 0.5]])
    view = fit_view(points, path, np.array([0.0, 1, 0]), elevation, (400, 300), margin=10)
    np.testing.assert_allclose(view.R_view_map @ view.R_view_map.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(view.R_view_map) == pytest.approx(1)
    pixels, _ = view.project(np.concatenate([points, path]))
    assert (pixels > 5).all() and (pixels < [395, 295]).all()
    (a, b), _ = view.project(np.array([[0, 0, 0], [1, 0, 0.0]]))
    assert np.linalg.norm(b - a) * view.metres_per_pixel == pytest.approx(1, rel=0.02)
    (low, high), _ = view.project(np.array([[0, 0, 0], [0, 1, 0.0]]))
    assert high[1] < low[1]                                       # what lies ahead of the cameras is higher up


def test_spacing():
    assert spacing(grid(step=0.05)) == pytest.approx(0.05)
    assert spacing(np.zeros((1, 3))) > 0


def test_the_ceiling_does_not_hide_the_room():
    floor, ceiling = grid(z=0.0), grid(z=2.5)
    points = np.concatenate([floor, ceiling]).astype(np.float32)
    names = [LABELS.index("floor")] * 400 + [LABELS.index("ceiling")] * 400
    cloud = Cloud(points, np.array([[0, 200, 0]] * 400 + [[255, 0, 255]] * 400, np.uint8), np.array(names, np.uint16),
                  np.full(800, 255, np.uint8))
    pose = np.eye(4)
    pose[2, 3] = 1.5
    picture = map_picture(cloud, [(0, pose)], LABELS, by_class=False, size=(800, 450)).reshape(-1, 3).astype(int)
    green, magenta = picture[:, 1] - picture[:, 0] > 100, picture[:, 0] - picture[:, 1] > 200
    assert green.sum() > 10_000 and magenta.sum() < 50
    nothing = Cloud(points[:0], cloud.colors[:0], cloud.labels[:0], cloud.confidence[:0])
    with pytest.raises(InputError, match="without points"):
        map_picture(nothing, [], LABELS, by_class=True)


@pytest.mark.parametrize("points", [1, 2, 5])
def test_a_map_of_a_few_points_is_drawn(points):
    cloud = Cloud(np.random.default_rng(0).normal(size=(points, 3)).astype(np.float32),
                  np.zeros((points, 3), np.uint8), np.zeros(points, np.uint16), np.zeros(points, np.uint8))
    assert map_picture(cloud, [(0, np.eye(4))], LABELS, by_class=True, size=(800, 450)).shape == (450, 800, 3)


def test_depth_is_brighter_the_nearer():
    depth = np.array([[1.0, 2.0, 4.0, np.nan]], np.float32)
    picture, near, far = depth_picture(depth, 1.0, 4.0)
    light = picture.astype(int).sum(-1)[0]
    assert light[0] > light[1] > light[2] and len(set(picture[0, 3])) > 1 and (near, far) == (1.0, 4.0)
    nothing, near, _ = depth_picture(np.full((4, 4), np.nan, np.float32))
    assert nothing.shape == (4, 4, 3) and np.isnan(near)


def test_labels_tint_the_image():
    image = np.full((120, 160, 3), 128, np.uint8)
    classes = np.zeros((30, 40), np.uint16)
    classes[:, 20:] = LABELS.index("plant")
    picture = label_picture(image, classes, LABELS, names=False).astype(int)
    assert picture[60, 120].argmax() == LABELS.colors[LABELS.index("plant")].argmax()
    assert picture[60, 80].tolist() == [255, 255, 255]                  # the border
    named = label_picture(image, classes, LABELS).astype(int)
    assert (named == 255).all(-1).sum() > (picture == 255).all(-1).sum() + 200


def test_contact_sheet():
    images = [np.full((30, 40, 3), 10, np.uint8), np.full((60, 40), 200, np.uint8), np.zeros((30, 40, 3), np.uint8)]
    sheet = contact_sheet(images, ["a", "b", "c"], columns=2, cell_width=100, title="three")
    assert sheet.dtype == np.uint8 and sheet.shape[1] == 2 * 100 + 12 + 56
    assert contact_sheet(images, columns=1, cell_width=100).shape == (75 + 150 + 75 + 2 * 12 + 56, 156, 3)
    with pytest.raises(InputError, match="no images"):
        contact_sheet([])


def test_shares_and_lengths():
    cloud = Cloud(np.zeros((4, 3), np.float32), np.zeros((4, 3), np.uint8), np.array([1, 13, 13, 13], np.uint16),
                  np.zeros(4, np.uint8))
    assert list(class_shares(cloud, LABELS).items()) == [("chair", 0.75), ("floor", 0.25)]
    assert path_length(np.array([[0, 0, 0], [3, 4, 0], [3, 4, 1]])) == 6
