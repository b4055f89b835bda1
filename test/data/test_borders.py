"""Borders of a camera's images: found, filled, and kept out of the map."""
from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from room import FakeNetwork, frames, walk

from lsm_ros.config import MapperConfig
from lsm_ros.contracts import Frame, Keyframe, Window
from lsm_ros.data.borders import GROWN, Borders, without_borders
from lsm_ros.data.images import decode_compressed
from lsm_ros.labels import LabelSet
from lsm_ros.mapping.mapper import Mapper

H, W = 120, 160
V, U = np.mgrid[-1:1:H * 1j, -1:1:W * 1j]
SEEN = {"thin edge": (abs(U) < .96) & (abs(V) < .95), "letterbox": abs(V) < .8, "pillars": abs(U) < .7,
        "rectified": (abs(U) < .88 + .1 * V ** 2) & (abs(V) < .88 + .1 * U ** 2), "lens": U ** 2 + V ** 2 < 1.5}


def pictures(seen: np.ndarray, color=(0, 0, 0), count: int = 3, jpeg: bool = False) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    images = []
    for _ in range(count):
        image = cv2.resize(rng.integers(30, 226, (12, 16, 3), np.uint8), (W, H), interpolation=cv2.INTER_CUBIC)
        image[~seen] = color
        if jpeg:
            image = decode_compressed(cv2.imencode(".jpg", image, (cv2.IMWRITE_JPEG_QUALITY, 85))[1])
        images.append(image)
    return images


@pytest.mark.parametrize("jpeg", (False, True))
@pytest.mark.parametrize("kind, color", [*((kind, (0, 0, 0)) for kind in SEEN), *(
    (kind, color) for kind in ("thin edge", "rectified") for color in ((255, 255, 255), (90, 20, 160)))])
def test_a_border_is_found_and_filled_with_what_is_next_to_it(kind, color, jpeg):
    seen, images = SEEN[kind], pictures(SEEN[kind], color, jpeg=jpeg)
    borders = Borders.of(images)
    frame = borders.filled(Frame(0, images[-1]))
    inner = cv2.erode(seen.astype(np.uint8), np.ones((4 * GROWN + 1,) * 2), borderValue=1) > 0
    assert frame.unseen[~seen].mean() > .9 and not frame.unseen[inner].any()
    assert abs(borders.share - (~seen).mean()) < .12
    assert np.array_equal(frame.image[~frame.unseen], images[-1][~frame.unseen])
    far = np.abs(frame.image[~seen].astype(int) - color).max(axis=1)
    assert np.median(far) > 25                                                # nothing of its colour is left


def test_the_nearest_row_fills_a_letterbox():
    image = pictures(SEEN["letterbox"])[0]
    frame = Borders.of([image]).filled(Frame(0, image))
    first, last = np.flatnonzero(~frame.unseen.any(axis=1))[[0, -1]]
    assert (frame.image[:first] == image[first]).all() and (frame.image[last + 1:] == image[last]).all()


def test_what_is_dark_only_now_is_no_border():
    first, *later = pictures(np.ones((H, W), bool), count=3)
    first[:20], first[-20:] = 0, 0                       # dark above and below, as if it were a letterbox
    borders = Borders.of([first])
    assert borders.share > .3
    borders.look(later[0])
    assert borders.share == 0
    frame = Frame(0, later[1])
    assert borders.filled(frame) is frame
    first[:20], first[-20:] = 8, 200
    assert Borders.of([first]).share == 0                # one side alone may be the scene's, unless it is wholly black:
    first[:20] = 2
    assert Borders.of([first]).share > .15


@pytest.mark.parametrize("kind", ("letterbox", "pillars", "lens"))
def test_the_white_walls_of_a_corridor_are_no_border(kind):
    assert Borders.of(pictures(SEEN[kind], (235, 232, 228))).share == 0


def test_images_that_show_nothing_decide_nothing():
    borders = Borders.of([np.zeros((H, W, 3), np.uint8)] * 2)
    assert borders.share == 0
    for image in pictures(SEEN["letterbox"]):
        borders.look(image)
    assert borders.share == pytest.approx(.2, abs=.05)
    borders.look(pictures(np.ones((H, W), bool))[0][:60])                     # another size: another camera
    assert borders.share == 0


def test_nothing_of_a_border_enters_the_map():
    poses, labels = walk(24), LabelSet.load()
    film = [replace(frame, image=np.array(frame.image)) for frame in frames(poses)]
    height = film[0].image.shape[0]
    for frame in film:
        frame.image[:height // 6] = frame.image[-height // 6:] = 0
    mapper = Mapper(FakeNetwork(poses, labels), labels, MapperConfig(refine_poses=False, min_agreement=.3))
    updates = [update for frame in film if (update := mapper.push(frame)) is not None]
    assert len(updates) > 4
    for update in updates:
        points = update.window_cloud.points.astype(float) @ update.K.T
        row = points[:, 1] / points[:, 2] / len(update.depth)
        assert .16 < row.min() and row.max() < .84 and len(points) > 500
        rows = np.flatnonzero((update.confidence > 0).any(axis=1)) / len(update.depth)
        assert .15 < rows.min() and rows.max() < .85 and (update.depth > 0).all()
    assert len(mapper.map_cloud()) > 500 and mapper.map_cloud().colors.max(axis=1).min() > 20


def test_a_window_without_borders_is_left_alone():
    poses, labels = walk(2), LabelSet.load()
    window = Window(tuple(Keyframe(i, frame) for i, frame in enumerate(frames(poses))))
    prediction = FakeNetwork(poses, labels)(window)
    assert without_borders(prediction, window) is prediction
