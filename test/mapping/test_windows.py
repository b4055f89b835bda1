import numpy as np
import pytest
from room import DENSE, SIZE, K, camera, cast, paint

from lsm_ros.contracts import Frame, Keyframe
from lsm_ros.geometry.camera import scale_intrinsics
from lsm_ros.labels import LabelSet
from lsm_ros.mapping.graph import PoseGraph
from lsm_ros.mapping.views import View
from lsm_ros.mapping.windows import select_window

LABELS = LabelSet.load()


def mapped(poses):
    """Views and graph of keyframes 0, 1, ... at known poses."""
    views, graph = {}, PoseGraph()
    for n, T in enumerate(poses):
        depth, _, points = cast(T, DENSE)
        views[n] = View(Keyframe(n, Frame(n, paint(cast(T, SIZE)[2]))), depth, np.ones_like(depth),
                        scale_intrinsics(K, SIZE, DENSE), np.zeros((24, 32, 64), np.int8), paint(points), LABELS)
        graph.add(n, T)
    return views, graph


def chosen(poses, size, newest=None, lost=False):
    views, graph = mapped(poses)
    where = newest if newest is not None else poses[-1] if poses else camera(0, 0, 1.3, 0.0)
    image = paint(cast(where, SIZE)[2])
    window = select_window(Keyframe(99, Frame(99, image)), views, graph, size, lost).window
    assert window.keyframes[-1].id == 99
    return [k.id for k in window.keyframes[:-1]]


@pytest.mark.parametrize("known, ids", [(0, []), (1, [0]), (2, [1, 0]), (3, [2, 0, 1]), (9, [8, 6, 2])])
def test_the_previous_keyframe_first_then_dilated(known, ids):
    assert chosen([camera(-1 + 0.02 * n, 0, 1.3, 0.0) for n in range(known)], 4) == ids


@pytest.mark.parametrize("size, ids", [(2, [19]), (3, [19, 17]), (8, [19, 17, 13, 8, 2, 18, 16])])
def test_every_size(size, ids):
    assert chosen([camera(-1 + 0.02 * n, 0, 1.3, 0.0) for n in range(20)], size) == ids


def test_keyframes_that_see_something_else_are_left_out():
    turning = [camera(0, 0, 1.3, 0.35 * n) for n in range(9)]      # by 20 degrees, 67 wide: 7 back is opposite
    ids = chosen(turning, 4)
    assert ids[:2] == [8, 6] and 2 not in ids


def test_a_place_seen_long_ago_comes_back_into_the_window():
    out_and_back = [camera(0, 0, 1.3, np.pi * np.sin(np.pi * n / 40)) for n in range(41)]
    ids = chosen(out_and_back, 4)
    assert ids[0] == 40 and ids[-1] < 5


@pytest.mark.parametrize("size, period, known", [(4, 16, 35), (5, 16, 33)])
def test_a_keyframe_of_the_past_that_is_a_dilated_one_too_is_shown_once(size, period, known):
    to_and_fro = [camera(0, 0, 1.3, np.pi * np.sin(np.pi * n / period)) for n in range(known)]
    ids = chosen(to_and_fro, size)
    assert len(set(ids)) == len(ids) == size - 1


@pytest.mark.parametrize("likeness, found", [(0.7, 2), (0.72, 2), (0.95, 15), (0.5, 2)])
def test_of_places_that_look_alike_the_map_knows_which(likeness, found):
    out_and_back = [camera(0, 0, 1.3, np.pi * np.sin(np.pi * n / 40)) for n in range(41)]
    views, graph = mapped(out_and_back)
    here = Keyframe(99, Frame(99, paint(cast(out_and_back[-1], SIZE)[2])))
    alike = sorted([(15, likeness), (2, 0.7), (3, 0.55)], key=lambda pair: -pair[1])    # 15 looks the other way
    selection = select_window(here, views, graph, 4, alike=alike)
    assert selection.old == {found}


def test_a_lost_camera_is_looked_for_by_its_image():
    turning = [camera(0, 0, 1.3, 0.3 * n) for n in range(20)]
    assert chosen(turning, 4, newest=camera(0.05, 0, 1.3, 0.3 * 5 + 0.03), lost=True)[0] == 5
