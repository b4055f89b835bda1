"""Cameras on their side or upside down: the network sees upright images, the map is that of the camera as it is."""
from dataclasses import replace

import numpy as np
import pytest
from room import FakeNetwork, frames, walk

from lsm_ros.config import MapperConfig
from lsm_ros.contracts import Frame, Keyframe, Matches, Window, WindowPrediction
from lsm_ros.data.turning import quarters_of, turn, turned, turned_prediction
from lsm_ros.errors import InputError
from lsm_ros.geometry.alignment import align_trajectory
from lsm_ros.geometry.camera import unproject
from lsm_ros.geometry.sim3 import UP_CV, exp, inverse, rotation_of, transform
from lsm_ros.labels import LabelSet
from lsm_ros.mapping.mapper import Mapper
from lsm_ros.mapping.upright import GROUP, PATIENCE, Upright

RNG = np.random.default_rng(0)
K = np.array([[50.0, 0, 33], [0, 52, 25], [0, 0, 1]])


def up_of(degrees: float, pitch: float = 0.3) -> np.ndarray:
    """Up in a camera that looks down by `pitch` and is turned clockwise, seen from behind it."""
    angle = np.radians(degrees)
    x, y = -np.sin(angle), -np.cos(angle)
    return np.array([x * np.cos(pitch), y * np.cos(pitch), -np.sin(pitch)])


def frame(**told) -> Frame:
    image = RNG.integers(0, 255, (48, 64, 3), dtype=np.uint8)
    return replace(Frame(7, image, K, T_odom_cam=exp(RNG.normal(size=6)), up_cam=up_of(20.0), height_m=1.2,
                         depth=RNG.random((24, 32), dtype=np.float32), unseen=RNG.random((48, 64)) < .1), **told)


def prediction(views: int = 3) -> WindowPrediction:
    T = np.stack([np.eye(4), *(exp(RNG.normal(size=6)) for _ in range(views - 1))])
    ends = RNG.random((2, 5, 2), dtype=np.float32)
    return WindowPrediction(depth=RNG.uniform(1, 3, (views, 12, 16)).astype(np.float32),
                            confidence=RNG.random((views, 12, 16), dtype=np.float32), K=np.stack([K] * views),
                            T_window_cam=T, scale=2.0, semantics=RNG.random((views, 6, 8, 4), dtype=np.float32),
                            matches=Matches(np.zeros(5, int), np.ones(5, int), *ends, np.ones(5, np.float32)),
                            moving=RNG.random((views, 6, 8), dtype=np.float32))


@pytest.mark.parametrize("degrees", [0, 90, 180, 270, 30, -30, 200])
def test_up_tells_how_a_camera_is_turned(degrees):
    off = (quarters_of(up_of(degrees)) - degrees / 90 + 2) % 4 - 2
    assert abs(off) < 1e-9
    assert quarters_of(np.array([0.2, -0.3, 0.93])) is None


def test_four_quarters_are_a_whole_turn_and_each_is_a_pixel_s_way():
    before = frame()
    assert turned(before, 4) is before is turned(before, 0)
    once, again = turned(before, 1), turned(turned(before, 1), 3)
    for name in ("image", "K", "T_odom_cam", "up_cam", "depth", "unseen"):
        np.testing.assert_allclose(getattr(again, name), getattr(before, name), atol=1e-12)
    assert once.image.shape == (64, 48, 3) and once.unseen.shape == (64, 48) and once.depth.shape == (32, 24)
    assert (once.stamp_ns, once.height_m) == (before.stamp_ns, before.height_m)
    # The right edge is above, and a ray through a pixel is the same in the world.
    np.testing.assert_array_equal(once.image[0], before.image[:, -1])
    ray = np.linalg.inv(before.K) @ (63.5, 10.5, 1)
    np.testing.assert_allclose(turn(1)[:3, :3] @ np.linalg.inv(once.K) @ (10.5, 0.5, 1), ray, atol=1e-12)
    assert quarters_of(once.up_cam) == pytest.approx(quarters_of(before.up_cam) + 1)
    nothing = turned(Frame(1, before.image), 2)
    assert (nothing.K, nothing.depth, nothing.up_cam, nothing.T_odom_cam, nothing.unseen) == (None,) * 5


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_turned_prediction_is_the_same_geometry(quarters):
    plain = prediction()
    other = turned_prediction(plain, quarters)
    camera = turn(quarters)
    for view in range(3):
        points, moved = (transform(T, unproject(each.depth[view], each.K[view])) for each, T in
                         ((plain, plain.T_window_cam[view]), (other, camera @ other.T_window_cam[view])))
        np.testing.assert_allclose(np.rot90(points, quarters), moved, atol=1e-5)
        np.testing.assert_array_equal(np.rot90(plain.semantics[view], quarters), other.semantics[view])
        np.testing.assert_array_equal(np.rot90(plain.moving[view], quarters), other.moving[view])
    np.testing.assert_array_equal(other.T_window_cam[0], np.eye(4))
    for name in ("shares_a", "shares_b"):           # a match shows the pixel that it showed
        marked = [np.zeros(each.depth.shape[1:]) for each in (plain, other)]
        for each, plane in zip((plain, other), marked, strict=True):
            columns, rows = (getattr(each.matches, name) * plane.shape[::-1]).astype(int).T
            plane[rows, columns] = np.arange(1, 6)
        np.testing.assert_array_equal(np.rot90(marked[0], quarters), marked[1])
    assert turned_prediction(replace(plain, matches=None), quarters).matches is None
    assert turned_prediction(plain, 0) is plain


def test_a_camera_that_leans_is_turned_once_and_not_to_and_fro():
    upright, seen = Upright(), []
    for degrees in (0, 50, 65, 40, 35, 20, -50, -65, -120, -170, 170, 125, 110):
        upright.hear(frame(up_cam=up_of(degrees)))
        seen.append(upright.degrees)
    assert seen == [0, 0, 90, 90, 90, 0, 0, 270, 270, 180, 180, 180, 90]
    upright.hear(frame(up_cam=None))
    upright.hear(frame(up_cam=np.array([0.0, -0.3, -0.95])))
    assert upright.degrees == 90


def test_what_is_shown_is_upright_and_what_is_said_comes_back():
    upright, keyframe = Upright(), Keyframe(5, frame(up_cam=UP_CV))
    assert upright.shown(keyframe) == keyframe
    camera = [Keyframe(n, turned(frame(up_cam=UP_CV), 3)) for n in range(3)]
    upright.hear(camera[0].frame)
    assert upright.degrees == 270
    shown = upright.shown_window(Window(tuple(camera))).keyframes
    assert len({k.id for k in (*camera, *shown)}) == 6, "tokens are kept by ids, and these are of other images"
    assert all(k.frame.image.shape == (48, 64, 3) for k in shown)
    np.testing.assert_allclose(shown[0].frame.up_cam, UP_CV, atol=1e-12)
    said = prediction()
    back = upright.back(said)
    assert back.depth.shape == (3, 16, 12)
    np.testing.assert_allclose(inverse(turn(3)) @ said.T_window_cam[1] @ turn(3), back.T_window_cam[1], atol=1e-12)


# ------------------------------------------------------------------------------------------- where nobody tells up

SKY = np.zeros((48, 64, 3), np.uint8)
SKY[:12] = 255


def sure_of(*confidences: float, default: float = 0.0):
    """A network that is so sure of images that are shown turned clockwise by 0, 1, ... quarters."""
    def predict(window: Window) -> WindowPrediction:
        views = [keyframe.frame.image for keyframe in window.keyframes]
        ways = [next(q for q in range(4) if np.rot90(image, -q)[:12].min() == 255) for image in views]
        predict.looks += 1
        confidence = np.array([(*confidences, *4 * [default])[way] for way in ways], np.float32)
        return replace(prediction(len(views)), confidence=np.tile(confidence[:, None, None], (1, 12, 16)))
    predict.looks = 0
    return predict


def held(quarters: int, count: int, start: int = 0, **told) -> list[Keyframe]:
    """Keyframes of a camera that is turned so."""
    return [Keyframe(start + n, turned(Frame(start + n, SKY, K, **told), quarters)) for n in range(count)]


def see(upright: Upright, network, keyframes: list[Keyframe]) -> list[int]:
    """The numbers of the keyframes, from 1 on, after which the camera turned out to be turned otherwise."""
    turns = []
    for n, keyframe in enumerate(keyframes, 1):
        upright.hear(keyframe.frame)
        looks = network.looks
        confidence = network(upright.shown_window(Window((keyframe,)))).confidence
        network.looks = looks
        upright.note(keyframe, float(confidence.mean()))
        if upright.reconsider(network):
            turns.append(n)
    return turns


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_two_looks_that_have_no_image_in_common_tell_how_the_camera_is_held(quarters):
    upright, network = Upright(), sure_of(0.4, 0.01)
    assert see(upright, network, held(quarters, 20)) == [2 * GROUP]
    assert upright.degrees == 90 * quarters and network.looks == 8, "four ways, twice"
    assert quarters_of(upright.level_up_cam) % 4 == pytest.approx(quarters)
    assert see(upright, network, held(quarters, 20, 20)) == [] and network.looks == 8
    turned_back = see(upright, network, held((quarters + 2) % 4, 30, 40))
    assert len(turned_back) == 1 and turned_back[0] > 2 * GROUP, "what was understood for long is doubted for longer"
    assert upright.degrees == 90 * ((quarters + 2) % 4)


@pytest.mark.parametrize("confidences", [(0, 0, 0, 0), (.05, .02, .09, 0), (.08, .5, .4, .1)])
def test_images_that_are_understood_in_no_way_or_in_several_turn_nothing_and_are_looked_at_less_and_less(confidences):
    upright, network = Upright(), sure_of(*confidences)
    assert see(upright, network, held(0, 30)) == [] and upright.degrees == 0
    assert network.looks == 4 * 3, "after 4, 8 and 16"
    assert see(upright, network, held(0, 10 * PATIENCE, 30)) == [] and network.looks <= 4 * (4 + 10)
    see(upright, sure_of(0.6), held(0, 8, 1000))
    network.looks = 0
    see(upright, network, held(0, 40, 2000))
    assert network.looks > 4, "once something was understood, patience is short again"


def test_one_sure_look_is_not_believed_nor_are_two_that_contradict_each_other():
    upright, wrong, other = Upright(), sure_of(0, 0.4), sure_of(0, 0, 0.4)
    assert see(upright, wrong, held(0, 5)) == [] == see(upright, other, held(0, 3, 5))
    assert wrong.looks == other.looks == 4
    assert see(upright, sure_of(0.6), held(0, 10, 10)) == []
    assert see(upright, other, held(0, 20, 20)) != [], "the look of before the clear images counts no more"
    fresh = Upright()
    see(fresh, wrong, held(0, 5))
    see(fresh, sure_of(0.9), held(0, 3, 5))
    assert see(fresh, wrong, held(0, 12, 8)) == [], "it was understood in between"

    doubted = Upright()
    see(doubted, wrong, held(0, 5))
    see(doubted, sure_of(.05), held(0, 4, 5))
    assert see(doubted, wrong, held(0, 5, 9)) == [], "a look said that it is held as it seemed"


def test_a_network_that_fails_is_not_asked_again_at_once():
    upright, network = Upright(), sure_of(0.0)
    see(upright, network, held(0, 3))

    def fails(window):
        raise MemoryError

    upright.note(held(0, 1, 3)[0], 0.0)
    with pytest.raises(MemoryError):
        upright.reconsider(fails)
    assert not upright.reconsider(fails)


def test_where_a_frame_knew_its_up_the_network_is_not_asked():
    upright, network = Upright(), sure_of(0, 0, 0.6)
    assert see(upright, network, held(0, 1, up_cam=UP_CV) + held(0, 40, 1)) == []
    assert network.looks == 0 and upright.degrees == 0


def test_images_of_another_size_are_not_looked_at_together_with_those_before():
    upright, network = Upright(), sure_of(0.4)
    assert see(upright, network, held(2, 3) + held(1, 3, 3)) == [] and network.looks == 0
    assert see(upright, network, held(1, 5, 6)) == [5]


def test_another_camera_is_upright_until_it_tells_or_is_understood_otherwise():
    upright, network = Upright(), sure_of(0.6)
    upright.hear(Frame(0, SKY, K, up_cam=np.array([1.0, 0, 0])))
    assert upright.degrees == 270
    assert see(upright, network, held(1, 1)) == [] and upright.degrees == 0        # another size of image
    assert see(upright, network, held(1, 12, 1)) == [7] and upright.degrees == 90


def test_what_is_forgotten_is_whether_up_was_ever_told_but_not_how_the_camera_is_held():
    upright, network = Upright(), sure_of(0.6)
    upright.hear(Frame(0, SKY, K, up_cam=np.array([0, 1.0, 0])))
    upright.forget()
    assert upright.degrees == 180
    assert see(upright, network, held(0, 20)) != [] and upright.degrees == 0


POSES, LABELS = walk(100), LabelSet.load()
FILM = frames(POSES)


def mapper_of_upright_images(quarters: dict[int, int]) -> tuple[Mapper, list[Frame]]:
    """A mapper whose network is sure of upright images alone, and FILM of a camera that from each of these frames on is
    held so."""
    way = [quarters[max(start for start in quarters if start <= n)] for n in range(len(FILM))]
    network = FakeNetwork(POSES, LABELS, matches=True)

    def predict(window: Window) -> WindowPrediction:
        newest = window.keyframes[-1].frame
        n = newest.stamp_ns // 100_000_000
        shown = next(q for q in range(4) if np.array_equal(turned(FILM[n], q).image, newest.image))
        said = turned_prediction(network(window), shown)
        return said if shown == 0 else replace(said, confidence=1e-4 * said.confidence)

    return Mapper(predict, LABELS, MapperConfig(), network.describe), [turned(frame, q) for frame, q in
                                                                      zip(FILM, way, strict=True)]


@pytest.mark.parametrize("quarters", [0, 2, 3])
def test_the_map_of_a_camera_that_turns_out_to_be_turned_is_begun_anew(quarters):
    mapper, film = mapper_of_upright_images({0: quarters})
    updates = [update for frame in film[:50] if (update := mapper.push(frame)) is not None]
    assert mapper.turned == 90 * quarters and mapper.counters.turns == bool(quarters)
    assert mapper.counters.new_maps == 0 == len(mapper._atlas) and mapper.counters.refused_windows == 0
    assert mapper.keyframes == len(updates) - 2 * GROUP * bool(quarters)
    assert {update.map_id for update in updates[2 * GROUP:]} == {int(quarters > 0)}
    true = np.stack([POSES[stamp // 100_000_000] for stamp, _ in mapper.trajectory()]) @ turn(quarters)
    found = np.stack([T for _, T in mapper.trajectory()])
    S_room_map, error = align_trajectory(found[:, :3, 3], true[:, :3, 3])
    assert error < 0.05 and rotation_of(S_room_map)[2, 2] > np.cos(np.radians(3))
    np.testing.assert_allclose(rotation_of(S_room_map) @ found[:, :3, :3], true[:, :3, :3], atol=0.1)


def test_frames_are_checked_as_before_when_the_map_is_begun_anew():
    mapper, film = mapper_of_upright_images({0: 2})
    n = 0
    while not mapper.counters.turns:
        mapper.push(film[n])
        n += 1
    with pytest.raises(InputError, match="is not after"):
        mapper.push(film[n - 2])
    with pytest.raises(InputError, match="pixels, but the map was begun"):
        mapper.push(turned(film[n], 1))


def test_the_map_of_before_a_camera_was_turned_over_waits():
    mapper, film = mapper_of_upright_images({0: 0, 40: 2})
    for frame in film:
        mapper.push(frame)
    assert mapper.turned == 180 and mapper.counters.turns == mapper.counters.new_maps == 1
    assert len(mapper._atlas) == 1 or mapper.counters.joined_maps == 1
