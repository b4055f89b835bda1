import json

import cv2
import numpy as np
import pytest

from lsm_ros.errors import InputError
from lsm_ros.evaluation.datasets import (
    KINDS,
    NO_LABEL,
    FolderWindows,
    WorldStyle,
    WorldWindows,
    boxed_frames,
    in_labels,
)
from lsm_ros.geometry.camera import scale_intrinsics, unproject
from lsm_ros.geometry.sim3 import transform
from lsm_ros.labels import LabelSet
from lsm_ros.world import rooms, stream
from lsm_ros.world.edges import BORDER_KINDS, seen_inside


def test_windows_skip_frames_without_a_pose(folder):
    windows = FolderWindows(folder, views=3, gap=2, stride=1)
    ids = [[keyframe.id for keyframe in windows[i].window.keyframes] for i in range(len(windows))]
    assert ids == [[0, 2, 4], [1, 3, 5], [2, 4, 6], [4, 6, 8], [6, 8, 10]]


def test_a_window_starts_every_second_frame(folder):
    assert FolderWindows(folder, views=2, gap=1).indices == [[0, 1], [2, 3], [4, 5], [8, 9], [10, 11]]


def test_truth_of_a_window(folder):
    truth = FolderWindows(folder, views=2, gap=1)[1]
    np.testing.assert_allclose(truth.T_world_cam[1], np.loadtxt(folder / "pose/000003.txt"))
    np.testing.assert_allclose(truth.K[0], [[70, 0, 40], [0, 70, 30], [0, 0, 1]])      # centres at .5, not at 0
    assert truth.depth.shape == truth.labels.shape == (2, 60, 80)
    assert np.isnan(truth.depth[:, :5]).all() and np.isfinite(truth.depth[:, 5:]).all()


def test_intrinsics_are_withheld_unless_asked_for(folder):
    for intrinsics in (False, True):
        window = FolderWindows(folder, views=2, gap=1, intrinsics=intrinsics)[0].window
        assert all((keyframe.frame.K is not None) == intrinsics for keyframe in window.keyframes)


def test_odometry_and_depth_are_withheld_unless_asked_for(folder):
    plain = FolderWindows(folder, views=2, gap=1)[0].window
    assert all(keyframe.frame.T_odom_cam is None and keyframe.frame.depth is None for keyframe in plain.keyframes)
    truth = FolderWindows(folder, views=2, gap=1, odometry=True, depth=True)[0]
    first, second = (keyframe.frame for keyframe in truth.window.keyframes)
    np.testing.assert_array_equal(second.depth, truth.depth[1])
    moved = np.linalg.inv(truth.T_world_cam[0]) @ truth.T_world_cam[1]
    told = np.linalg.inv(first.T_odom_cam) @ second.T_odom_cam
    assert 0 < np.abs(told - moved).max() < 0.1
    np.testing.assert_allclose(told[:3, :3] @ told[:3, :3].T, np.eye(3), atol=1e-12)


@pytest.mark.parametrize("kind", BORDER_KINDS)
def test_a_border_around_a_folder_is_filled_and_what_it_hides_has_no_truth(folder, kind):
    cv2.imwrite(str(folder / "depth/000001.png"), np.full((30, 40), 2000, np.uint16))
    plain, bordered = (FolderWindows(folder, 2, 1, depth=True, border=each) for each in (None, kind))
    seen = seen_inside(60, 80, **BORDER_KINDS[kind])
    assert .03 < 1 - seen.mean() < .31
    for one, other in list(zip(plain, bordered, strict=True))[1:]:
        np.testing.assert_array_equal(other.depth, np.where(seen, one.depth, np.nan))
        np.testing.assert_array_equal(other.labels, np.where(seen, one.labels, NO_LABEL))
        for before, after in zip(one.window.keyframes, other.window.keyframes, strict=True):
            image, unseen = after.frame.image, after.frame.unseen
            assert unseen[~seen].all() and unseen.mean() < 1 - seen.mean() + .25
            np.testing.assert_array_equal(image[~unseen], before.frame.image[~unseen])
            assert {pixel.tobytes() for pixel in image[unseen]} <= {pixel.tobytes() for pixel in image[~unseen]}
    coarse = bordered[0].window.keyframes[1].frame.depth                # as it is told to the network
    assert coarse.shape == (30, 40)
    np.testing.assert_array_equal(np.isnan(coarse), ~seen[1::2, 1::2])


@pytest.mark.parametrize(("views", "gap", "message"), [(4, 5, "no window of 4 frames 5 apart"), (0, 1, "views = 0"),
                                                       (2, 0, "gap = 0")])
def test_impossible_windows(folder, views, gap, message):
    with pytest.raises(InputError, match=message):
        FolderWindows(folder, views, gap)


def test_a_turned_folder_shows_the_same_places(folder):
    plain, *others = (FolderWindows(folder, 2, 1, intrinsics=True, turned=quarters)[1] for quarters in range(4))

    def places(truth, view):
        image, K = truth.window.keyframes[view].frame.image, truth.window.keyframes[view].frame.K
        points = unproject(truth.depth[view], scale_intrinsics(K, image.shape[1::-1], truth.depth[view].shape[::-1]))
        return transform(truth.T_world_cam[view], points).reshape(-1, 3)

    for quarters, turned in enumerate(others, 1):
        assert turned.window.keyframes[0].frame.image.shape == ((80, 60, 3) if quarters % 2 else (60, 80, 3))
        np.testing.assert_array_equal(turned.K[0], turned.window.keyframes[0].frame.K)
        for view in range(2):
            order = np.rot90(np.arange(turned.depth[view].size).reshape(plain.depth[view].shape), quarters).ravel()
            np.testing.assert_array_equal(turned.depth[view].ravel(), plain.depth[view].ravel()[order])
            np.testing.assert_allclose(places(turned, view), places(plain, view)[order], atol=1e-5)
            pixels = [truth.window.keyframes[view].frame.image for truth in (plain, turned)]
            np.testing.assert_array_equal(np.rot90(pixels[0], quarters), pixels[1])
    with pytest.raises(InputError, match="turned = 4"):
        FolderWindows(folder, turned=4)


def test_a_border_of_no_kind(folder):
    with pytest.raises(InputError, match="'oval'; there are frame, bars, bowed, corners"):
        FolderWindows(folder, border="oval")


def test_a_folder_without_intrinsics(folder):
    (folder / "intrinsics.txt").unlink()
    with pytest.raises(InputError, match="no intrinsics.txt"):
        FolderWindows(folder)


def test_intrinsics_of_another_size(folder):
    np.savetxt(folder / "intrinsics.txt", [[140, 0, 79.5], [0, 140, 59.5], [0, 0, 1]])
    with pytest.raises(InputError, match=r"principal point \(80, 60\) of .*/intrinsics.txt .* 80x60 image"):
        FolderWindows(folder, 2, 1)[0]


def write_boxes(folder, entries):
    path = folder.parent / "boxes" / "boxes.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(entries))
    return path


def test_the_truth_may_be_coarser_than_the_images_and_differ_in_size(folder):
    fine = FolderWindows(folder, 2, 1)[0]
    for kind, number in (("depth", 0), ("depth", 1), ("label", 1)):
        file = str(folder / f"{kind}/{number:06}.png")
        cv2.imwrite(file, cv2.imread(file, cv2.IMREAD_UNCHANGED)[1::2, 1::2])
    coarse = FolderWindows(folder, 2, 1)[0]
    assert coarse.depth.shape == coarse.labels.shape == (2, 30, 40)
    np.testing.assert_array_equal(coarse.depth, fine.depth[:, 1::2, 1::2])
    np.testing.assert_array_equal(coarse.labels, fine.labels[:, 1::2, 1::2])


def test_true_labels_by_name():
    shipped = LabelSet.load()
    shown = np.array([[shipped.index("wall"), shipped.index("chair"), 255]], np.uint16)
    assert in_labels(shown, shipped) is shown
    own = LabelSet.from_entries([{"name": "chair"}, {"name": "table"}])
    assert in_labels(shown, own).tolist() == [[NO_LABEL, 0, NO_LABEL]]


def test_boxed_frames(folder, monkeypatch):
    boxes = [{"cls": "wall", "box": [0, 0, 0.5, 1]}, {"cls": "chair", "box": [0.5, 0, 1, 1]}]
    path = write_boxes(folder, {"sequence/color/000003.jpg": boxes, "sequence/color/000009.jpg": boxes[:1]})
    found = list(boxed_frames(path))
    assert [boxed.keyframe.id for boxed in found] == [3, 9]
    assert [box.name for box in found[0].boxes] == ["wall", "chair"] and found[0].boxes[1].box == (0.5, 0, 1, 1)
    assert found[0].keyframe.frame.K is None and found[0].keyframe.frame.image.shape == (60, 80, 3)
    assert len(list(boxed_frames(path, folder, intrinsics=True))) == 2
    monkeypatch.chdir(folder)
    assert len(list(boxed_frames(path, "."))) == 2 and FolderWindows(".", 2, 1).name == "sequence"


def test_bad_boxes(folder):
    with pytest.raises(InputError, match="boxes.json"):
        list(boxed_frames(write_boxes(folder, {"sequence/color/000003.jpg": [{"class": "wall"}]})))
    with pytest.raises(InputError, match="no rectangle for the sequence 'sequence'"):
        list(boxed_frames(write_boxes(folder, {"other/color/000003.jpg": []}), folder))
    with pytest.raises(InputError, match="no rectangle for the sequence 'sequence'"):
        list(boxed_frames(write_boxes(folder, {"sequence/color/000003.jpg": []}), folder))
    with pytest.raises(InputError, match="000099.jpg"):
        list(boxed_frames(write_boxes(folder, {"sequence/color/000099.jpg": []})))


def test_worlds_are_cut_into_windows_of_the_same_images():
    four, single = (WorldWindows(2, (48, 64), views=views) for views in (4, 1))
    assert len(four) % 2 == 0 and len(single) == 4 * len(four) > 0
    window, image = four[1], single[6]
    np.testing.assert_array_equal(window.window.keyframes[2].frame.image, image.window.keyframes[0].frame.image)
    np.testing.assert_array_equal(window.T_world_cam[2], image.T_world_cam[0])
    assert window.window.keyframes[2].id == image.window.keyframes[0].id == 6
    assert window.depth.shape == (4, 48, 64) and np.nanmin(window.depth) > 0
    image = window.window.keyframes[0].frame.image
    assert image.dtype == np.uint8 and image.std() > 5
    assert len(np.unique(window.labels)) > 2
    with pytest.raises(IndexError):
        four[len(four)]


def test_automatic_cameras_see_the_same_worlds_in_other_tones():
    plain, automatic = (WorldWindows(2, (48, 64), style=WorldStyle(automatic=each)) for each in (False, True))
    assert automatic.name == "rendered worlds and automatic cameras, 4 views" and len(automatic) == len(plain)
    for one, other in zip(plain, automatic, strict=True):
        np.testing.assert_array_equal(one.depth, other.depth)
        np.testing.assert_array_equal(one.T_world_cam, other.T_world_cam)
        tones = np.log([[keyframe.frame.image.mean() for keyframe in truth.window.keyframes] for truth in (one, other)])
        assert np.ptp(tones[1] - tones[0]) > 0.1


def test_borders_hide_a_part_of_the_same_worlds_and_are_filled_where_they_are_found():
    plain, bordered = (WorldWindows(4, (96, 128), style=WorldStyle(borders=each)) for each in (False, True))
    assert bordered.name == "rendered worlds and borders, 4 views" and len(bordered) == len(plain) == 8
    masks, found = set(), 0
    for one, other in zip(plain, bordered, strict=True):
        known, left = np.isfinite(one.depth), np.isfinite(other.depth)
        seen = left[0] | ~known[0]
        assert .5 < seen.mean() < .99 and (left == known & seen).all()
        np.testing.assert_array_equal(other.depth[left], one.depth[left])
        np.testing.assert_array_equal(other.labels, np.where(seen, one.labels, NO_LABEL))
        masks.add(seen.tobytes())
        for before, after in zip(one.window.keyframes, other.window.keyframes, strict=True):
            image, unseen = after.frame.image, after.frame.unseen
            if unseen is None:                                      # small corners may pass for a part of the scene
                assert (image == np.where(seen[..., None], before.frame.image, 0)).all()
            else:
                assert unseen[~seen].all() and (image[~unseen] == before.frame.image[~unseen]).all()
                assert np.median(image[~seen]) > 20
                found += 1
    assert len(masks) == 4 and found >= 24                          # one for each path, in 8 windows of 4 views


def test_rolled_cameras_flat_pictures_and_tall_images_show_the_same_worlds():
    plain, rolled, flat = (WorldWindows(2, (48, 64), style=WorldStyle(**style)) for style in
                           ({}, {"rolled": True}, {"flat": True}))
    tall = WorldWindows(2, (64, 48))
    assert [windows.name for windows in (rolled, flat, tall)] == [
        "rendered worlds and rolled cameras, 4 views", "rendered worlds and flat pictures, 4 views",
        "rendered worlds, tall, 4 views"]
    for one, turned, pale, high in zip(plain, rolled, flat, tall, strict=True):
        for other in (turned, pale, high):
            np.testing.assert_array_equal(other.T_world_cam[..., 2:], one.T_world_cam[..., 2:])
        np.testing.assert_array_equal(one.depth, pale.depth)
        assert (abs(turned.T_world_cam[:, :3, 0] - one.T_world_cam[:, :3, 0]).max(axis=1) > .01).all()
        ranges = [np.mean([k.frame.image.std() for k in truth.window.keyframes]) for truth in (one, pale)]
        assert ranges[1] < ranges[0]
        assert high.depth.shape == (4, 64, 48)


def test_worlds_of_a_kind_take_turns(monkeypatch):
    """A kind of the scoreboard shares its seeds among the kinds of rooms that it stands for."""
    asked, drawn = [], stream.fixed_batch

    def fixed_batch(seeds, *args, **options):
        asked.append((list(seeds), options))
        return drawn(seeds, *args, **options)

    monkeypatch.setattr(stream, "fixed_batch", fixed_batch)
    windows = WorldWindows(5, (48, 64), views=8, style=WorldStyle(kind="home"))
    assert windows.name == "rendered home, 8 views" and 0 < len(windows) <= 5
    made_of = {"textures": None, "meshes": None, "automatic": 0.0, "rolled": 0.0, "flat": 0.0,
               "moving": False, "low": 0.0}
    assert asked == [([0, 4], made_of | {"kind": "home"}), ([1], made_of | {"kind": "bedroom"}),
                     ([2], made_of | {"kind": "apartment"}), ([3], made_of | {"kind": "bath"})]


def test_every_kind_of_world_is_scored_once():
    assert sorted(kind for kinds in KINDS.values() for kind in kinds) == sorted(rooms.KINDS)
    with pytest.raises(InputError, match="'cellar'"):
        WorldStyle(kind="cellar")


def test_impossible_worlds():
    with pytest.raises(InputError, match="views = 3"):
        WorldWindows(1, views=3)
    with pytest.raises(InputError, match="worlds = 0"):
        WorldWindows(0)


@pytest.mark.parametrize("entries", [{"sequence/color/000002.jpg": [{"cls": "wall", "box": [0, 0, 1]}]},
                                     {"sequence/color/000002.jpg": [{"cls": "wall", "box": ["0", 0, 1, 1]}]},
                                     {"sequence/color/000002.jpg": [{"cls": 3, "box": [0, 0, 1, 1]}]},
                                     {"": [{"cls": "wall", "box": [0, 0, 1, 1]}]}])
def test_what_is_no_rectangle_is_named_with_its_file(folder, entries):
    with pytest.raises(InputError, match="boxes.json cannot be read: .*(four shares|empty)"):
        list(boxed_frames(write_boxes(folder, entries)))
