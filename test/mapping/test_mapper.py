"""The whole mapper, with a network whose errors the tests choose."""
import dataclasses
import gc
import time

import numpy as np
import pytest
from room import FURNITURE, FakeNetwork, K, frames, walk

from lsm_ros.config import MapperConfig
from lsm_ros.contracts import Frame
from lsm_ros.errors import ConfigError, InputError
from lsm_ros.geometry.alignment import align_trajectory
from lsm_ros.geometry.sim3 import inverse, rigid_of, rotation_of, scale_of, sim3, transform
from lsm_ros.labels import LabelSet
from lsm_ros.mapping import registration
from lsm_ros.mapping.mapper import Mapper
from lsm_ros.mapping.saved_map import FILE, read_map, write_map

LABELS = LabelSet.load()
POSES = walk(100)
# Without matched points the errors are those of the network, as chosen, and a doubtful window is all that there is.
ALONE = MapperConfig(refine_poses=False, min_agreement=0.3)
HARSH = {"scale": 0.3, "depth": 0.08, "pose": 0.03}       # 3 degrees, 15 % of the baseline, depth off by 11 %


@pytest.fixture(scope="module", autouse=True)
def a_good_network():
    """The fake network's poses are better than those of the first weights, so the graph is told to trust them more."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registration, "PREDICTED", registration.PoseSigma(rotation=0.03, parallax=0.0, depth=0.03,
                                                                         baseline=0.1))
        yield


@pytest.fixture(scope="module")
def film():
    return frames(POSES)


def run(film, config=None, **errors):
    mapper = Mapper(FakeNetwork(POSES, LABELS, **errors), LABELS, config or ALONE)
    return mapper, [update for frame in film if (update := mapper.push(frame)) is not None]


@pytest.mark.parametrize("factor", [0.1, 8.0])
def test_a_map_whose_metre_is_far_from_the_networks_goes_on(film, factor):
    """As of a robot whose camera is a hand over the floor: what a window is off by counts from the map's metre."""
    config = dataclasses.replace(ALONE, scale_source="fixed", scale_factor=factor)
    mapper, updates = run(film[:20], config, outliers=0.0)
    assert mapper.counters.refused_windows == mapper.counters.restarts == 0 and len(updates) > 8
    S_room_map, _ = trajectory_error(mapper)
    assert scale_of(S_room_map) * factor == pytest.approx(1, abs=0.2)


def test_a_camera_that_leaves_what_voxels_can_number_begins_another_map(film):
    mapper, _ = run(film[:20], dataclasses.replace(ALONE, voxel_size_m=0.01, level=False))
    limit_m = 10_485.75                                          # of 21 bits along an axis
    mapper._graph.move(sim3(np.eye(3), np.array([limit_m - 1.0, 0, 0])))
    known = mapper.keyframes
    while not mapper.counters.new_maps:
        assert mapper.push(film[mapper.counters.frames]) is None and mapper.keyframes in (known, 0)
    assert "from the map's origin" in mapper.last_refusal
    for frame in film[mapper.counters.frames:]:
        mapper.push(frame)
    mapper.settle()
    assert mapper.keyframes > 1 and mapper.voxels > 1000


def trajectory_error(mapper):
    stamps, poses = zip(*mapper.trajectory(), strict=True)
    truth = np.stack([POSES[stamp // 100_000_000] for stamp in stamps])
    S_room_map, error = align_trajectory(np.stack(poses)[:, :3, 3], truth[:, :3, 3])
    return S_room_map, error


@pytest.fixture(scope="module")
def walked(film):
    """The mapper and its updates, whose seconds are the processor's: what else the machine does adds nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "perf_counter", time.process_time)
        return run(film)


def test_the_trajectory_is_right_though_every_window_has_another_scale(walked):
    mapper, updates = walked
    S_room_map, error = trajectory_error(mapper)
    assert error < 0.05                                          # of a walk of 6 m, chained over some 35 windows
    assert abs(np.log(scale_of(S_room_map))) < 0.06              # the mean of windows that are off by 10 % each
    assert rotation_of(S_room_map)[2, 2] > np.cos(np.radians(2))     # z is up though the first camera looked down
    np.testing.assert_allclose(mapper.trajectory()[0][1][:2, 3], 0, atol=1e-3)
    assert mapper.trajectory()[0][1][2, 3] == pytest.approx(POSES[0][2, 3], abs=0.1), "the floor is z = 0"
    count = mapper.counters
    assert count.windows == len(updates) == count.keyframes and count.refused_windows == 0
    assert count.frames == 100 == count.keyframes + count.static_frames


def test_matched_points_put_poor_poses_right(film):
    poor = {"pose": 0.1}                                         # 6 degrees and half of the baseline
    (alone, _), (refined, _) = run(film[:60], **poor), run(film[:60], MapperConfig(), matches=True, **poor)
    assert trajectory_error(refined)[1] < 0.15
    assert trajectory_error(refined)[1] < trajectory_error(alone)[1] / 2


def test_a_window_that_no_match_backs_is_counted(film, walked):
    mapper, updates = walked                                     # without refinement no pose is backed by anything
    assert mapper.counters.unsupported_windows == len(updates) - 1
    assert [update.matches for update in updates] == [None] + [0] * (len(updates) - 1)
    mapper, updates = run(film[:20], MapperConfig(), matches=True)
    assert mapper.counters.unsupported_windows == 0
    assert all(update.matches >= 16 for update in updates[1:])


def test_a_view_without_matches_of_whose_pose_the_network_is_unsure_is_refused(film):
    network = FakeNetwork(POSES, LABELS)

    def told(error):
        def predict(window):
            errors = np.full(len(window.keyframes), error, np.float32)
            errors[:-1] = 0.05                                   # of the others, which the map knows
            return dataclasses.replace(network(window), pose_error=errors)
        return predict

    mapper = Mapper(told(0.1), LABELS, ALONE)
    for frame in film[:20]:
        mapper.push(frame)
    assert mapper.counters.windows > 4 and not mapper.counters.refused_windows
    mapper._locator._predict = told(0.5)
    for frame in film[20:30]:
        mapper.push(frame)
    assert mapper.counters.refused_windows >= 2 and "expected to be wrong by 0.5" in mapper.last_refusal


@pytest.mark.parametrize("right, error, refused", [(0.3, 0.5, True), (0.3, 0.1, False), (0.6, 0.5, False)])
def test_matches_that_the_network_takes_for_wrong_back_no_pose_of_which_it_is_unsure(film, right, error, refused):
    network = FakeNetwork(POSES, LABELS, matches=True)

    def doubt(window):
        prediction = network(window)
        confidence = np.full_like(prediction.matches.confidence, right / 2)
        confidence[::2] *= 3                                     # refinement looks at the better ones
        return dataclasses.replace(prediction, matches=dataclasses.replace(prediction.matches, confidence=confidence),
                                   pose_error=np.full(len(window.keyframes), error, np.float32))

    mapper = Mapper(network, LABELS, MapperConfig())
    for frame in film[:20]:
        mapper.push(frame)
    assert mapper.counters.windows > 4 and not mapper.counters.refused_windows
    mapper._locator._predict = doubt
    for frame in film[20:26]:
        mapper.push(frame)
        if mapper.counters.refused_windows:
            break
    assert bool(mapper.counters.refused_windows) == refused
    if refused:
        assert "30% of the matches are expected to be right" in mapper.last_refusal


def test_the_neighbour_that_most_matches_tie_outvotes_two_lookalikes():
    def pairs(shift):
        points = np.random.default_rng(0).uniform(-1, 1, (200, 3)) + [0, 0, 3]
        return registration._Pairs(points, points + shift, points[:, 2], np.ones(200), np.arange(200))

    seen = {0: pairs([0.0, 0, 0]), 1: pairs([2.0, 0, 0]), 2: pairs([2.0, 0, 0])}
    assert registration._consensus(seen, np.array([140, 81, 81]), MapperConfig()) == [0]
    assert registration._consensus(seen, np.array([0, 0, 0]), MapperConfig()) == [1, 2]
    assert registration._consensus(seen, np.array([81, 81, 140]), MapperConfig()) == [1, 2]


def test_the_updates_are_in_their_frames(walked):
    mapper, updates = walked
    last = updates[-1]
    assert last.stamp_ns == mapper.trajectory()[-1][0]
    np.testing.assert_array_equal(last.T_map_keyframes[last.keyframe_id], last.T_map_cam)
    np.testing.assert_allclose(rigid_of(last.T_map_cam), last.T_map_cam)
    assert last.depth.shape == last.labels.shape and last.labels.dtype == np.uint16
    in_map = transform(last.T_map_cam, last.window_cloud.points)
    fused = mapper.map_cloud().points
    sample = in_map[:: max(1, len(in_map) // 200)]
    gaps = np.sqrt(((sample[:, None] - fused[None]) ** 2).sum(axis=2)).min(axis=1)
    assert np.median(gaps) < 0.12                                # the camera's cloud, moved by its TF, lies on the map
    assert set(last.seconds) == {"keyframe", "window", "network", "refinement", "alignment", "graph", "update",
                                 "fusion"}


def test_a_listener_hears_of_a_view_before_it_is_fused_and_cannot_keep_it_from_being(film):
    mapper, heard = Mapper(FakeNetwork(POSES, LABELS), LABELS, ALONE), []

    def listen(update):
        heard.append((update, mapper.voxels))
        raise RuntimeError("the listener's own trouble")

    for frame in film[:30]:
        before, voxels = len(heard), mapper.voxels
        try:
            assert mapper.push(frame, listen) is None
        except RuntimeError:
            assert heard[-1][0].stamp_ns == frame.stamp_ns and heard[-1][1] == voxels
        assert len(heard) - before == mapper.counters.windows - before
    assert len(heard) > 3 and mapper.voxels > heard[0][1] == 0
    undisturbed, _ = run(film[:30])
    np.testing.assert_array_equal(mapper.map_cloud().points, undisturbed.map_cloud().points)


def test_every_pose_that_moved_is_told(film):
    mapper = Mapper(FakeNetwork(POSES, LABELS), LABELS)
    told = {}
    for frame in film[:60]:
        update = mapper.push(frame)
        told.update(update.T_map_keyframes if update else {})
    assert len(told) == mapper.counters.windows
    for (_, T), heard in zip(mapper.trajectory(), told.values(), strict=True):
        np.testing.assert_allclose(heard, T, atol=2e-3)


def test_the_furniture_is_where_it_is(walked):
    mapper, _ = walked
    mapper.settle()
    S_room_map, _ = trajectory_error(mapper)
    things = {t.name: t for t in sorted(mapper.objects(), key=lambda t: t.points)}       # the largest of a name
    for name, low, high in FURNITURE[:3]:
        center = transform(S_room_map, things[name].center[None])[0]
        assert (center > np.array(low) - 0.25).all() and (center < np.array(high) + 0.25).all(), name
    cloud = mapper.map_cloud()
    points = transform(S_room_map, cloud.points)
    floor = points[cloud.labels == LABELS.index("floor")]
    assert len(floor) > 500 and np.abs(np.median(floor[:, 2])) < 0.05
    assert [t.id for t in mapper.objects()] == [t.id for t in mapper.objects()]


@pytest.mark.parametrize("seed", [0, 1])
def test_a_bad_network_still_gives_a_map(film, seed):
    mapper, _ = run(film, seed=seed, **HARSH)
    assert mapper.counters.windows > 0.8 * mapper.counters.keyframes
    assert trajectory_error(mapper)[1] < 0.3


def test_options_change_between_frames(film):
    mapper, _ = run(film[:20])
    mapper.configure(dataclasses.replace(ALONE, keyframe_motion=1.0, keyframe_tracks=0.0, object_min_voxels=10**5,
                                         max_depth_m=2.0))
    before = mapper.counters.keyframes
    assert mapper.objects() == []
    for frame in film[20:40]:
        mapper.push(frame)
    assert mapper.counters.keyframes == before
    with pytest.raises(ConfigError, match="voxel_size_m of a mapper"):
        mapper.configure(dataclasses.replace(ALONE, voxel_size_m=0.1))


def test_a_view_that_was_fused_under_other_limits_is_taken_out_completely(film):
    mapper, _ = run(film[:20])
    mapper.configure(dataclasses.replace(ALONE, confidence_drop=0.5, max_depth_m=0.5))
    assert len(mapper.map_cloud()) > 1000
    for keyframe_id, view in mapper._views.items():
        mapper._map.fuse(view, mapper._graph.pose(keyframe_id))
    assert len(mapper.map_cloud()) < 10                          # nothing true is so near


def test_a_height_that_is_corrected_counts_as_if_it_had_always_been_known(film):
    config = dataclasses.replace(ALONE, camera_height_m=0.65)
    mapper = Mapper(FakeNetwork(POSES, LABELS), LABELS, config)
    for frame in film[:40]:
        mapper.push(frame)
    assert mapper.metric.source == "height" and mapper.metric.scale < 0.6
    mapper.configure(dataclasses.replace(config, camera_height_m=1.3))
    for frame in film[40:]:
        if mapper.push(frame) is not None:
            break
    samples = mapper.metric.samples
    assert abs(np.log(mapper.metric.scale)) < 0.15 and samples == mapper.keyframes
    mapper.configure(dataclasses.replace(config, camera_height_m=0.0))
    assert next(update for frame in film[60:] if (update := mapper.push(frame))).metric.source == "network"


def test_a_height_that_is_corrected_leaves_those_that_frames_know(film):
    """TF begins to tell the height after the first images, which take the configured one."""
    config = dataclasses.replace(ALONE, camera_height_m=0.65)
    mapper = Mapper(FakeNetwork(POSES, LABELS), LABELS, config)
    told = [dataclasses.replace(frame, height_m=float(T[2, 3])) for frame, T in zip(film, POSES, strict=True)]
    for frame in [*film[:6], *told[6:40]]:
        mapper.push(frame)
    known = mapper.metric.samples
    mapper.configure(dataclasses.replace(config, camera_height_m=1.3))
    update = next(update for frame in told[40:] if (update := mapper.push(frame)))
    assert update.metric.source == "height" and update.metric.samples == known + 1


def test_a_map_without_a_floor_stays_where_it_is_when_its_first_keyframes_are_forgotten(film):
    names = ("wall", "ceiling", "table", "sofa", "cabinet", "box")
    labels = LabelSet.from_entries([{"name": name, "color": [1, 2, 3], "thing": False} for name in names])
    config = MapperConfig(keyframe_motion=0.02, max_keyframes=20, forget="oldest")
    mapper = Mapper(FakeNetwork(POSES, LABELS, scale=0.01, depth=0.005, pose=0.002, outliers=0.0, matches=True), labels,
                    config)
    before, moved = {}, []
    for frame in film[:60]:
        if mapper.push(frame) is not None:
            now = dict(mapper.trajectory())
            moved += [inverse(before[stamp]) @ now[stamp] for stamp in now.keys() & before.keys()]
            before = now
    turns = np.degrees(np.arccos(np.clip((np.trace(np.stack(moved)[:, :3, :3], axis1=1, axis2=2) - 1) / 2, -1, 1)))
    assert mapper.counters.forgotten_keyframes > 10
    assert np.linalg.norm(np.stack(moved)[:, :3, 3], axis=1).max() < 0.05 and turns.max() < 2


def test_nonsense_is_refused_counted_and_survived(film):
    mapper, updates = run(film, nonsense=(6, 14, 15))
    assert mapper.counters.refused_windows == 3
    assert mapper.counters.windows == mapper.counters.keyframes - 3 == len(updates) == len(mapper.trajectory())
    assert mapper.last_refusal and not mapper.lost
    assert trajectory_error(mapper)[1] < 0.04


def test_nothing_waits_for_the_garbage_collector(film):
    """What is held by a cycle of references stays for minutes; an error that a frame remembers holds the whole map."""
    gc.collect()
    gc.disable()
    try:
        mapper, _ = run(film[:30], nonsense=(6, 9))
        assert mapper.counters.refused_windows == 2
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        held = {type(thing).__qualname__ for thing in gc.garbage if type(thing).__module__.startswith("lsm_ros")}
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert not held


def test_a_keyframe_without_a_reliable_pixel_leaves_its_window_to_the_others(film):
    mapper, _ = run(film[:30])
    windows, reference = mapper.counters.windows, max(mapper._views)
    view = mapper._views[reference]
    jagged = np.where(np.indices(view.depth.shape).sum(axis=0) % 2, view.depth, 3 * view.depth)
    mapper._views[reference] = dataclasses.replace(view, depth=jagged)           # outlines everywhere
    for frame in film[30:40]:
        if (update := mapper.push(frame)) is not None:
            break
    assert mapper.counters.windows == windows + 1 and not mapper.counters.refused_windows
    assert np.linalg.norm(update.T_map_cam[:3, 3] - mapper.trajectory()[-2][1][:3, 3]) < 1


@pytest.mark.parametrize("refine", [True, False])
def test_a_lost_camera_whose_images_match_finds_itself_whether_or_not_poses_are_refined(film, refine):
    mapper, _ = run(film[:30], dataclasses.replace(ALONE, refine_poses=refine), matches=True)
    state = mapper.state()
    again, _ = run([], mapper.config, matches=True)
    again.restore(state)
    for frame in film[10:20]:
        again.push(frame)
    assert not again.lost and again.counters.windows > 2 and again.keyframes > mapper.keyframes


def test_a_lost_camera_finds_itself_again(film):
    mapper, _ = run(film[:60])
    for frame in film[60:80]:                                    # a stretch where every window is nonsense
        mapper._locator._predict._nonsense = range(10_000)
        mapper.push(frame)
    assert mapper.lost and mapper.counters.refused_windows >= 3
    before = mapper.counters.windows
    mapper._locator._predict._nonsense = ()
    for n, frame in enumerate(film[:60]):                        # then it is carried back to the beginning
        mapper._locator._predict._poses = POSES * 3
        mapper.push(dataclasses.replace(frame, stamp_ns=(100 + n) * 100_000_000))
    assert not mapper.lost and mapper.counters.windows > before + 10
    found = dict(mapper.trajectory())
    truth = {stamp: (POSES * 3)[stamp // 100_000_000][:3, 3] for stamp in found}
    assert align_trajectory(np.stack([T[:3, 3] for T in found.values()]), np.stack(list(truth.values())))[1] < 0.06


def test_a_first_keyframe_that_nothing_fits_is_given_up(film):
    mapper, _ = run(film[:60], nonsense=(0,))
    assert mapper.counters.restarts == 1 and mapper.counters.windows > 5
    assert trajectory_error(mapper)[1] < 0.04


@pytest.mark.parametrize("field, value, told", [
    ("depth", np.nan, "1 values of the predicted depth are not finite"),
    ("depth", -1.0, "-1 m is not positive"),
    ("confidence", np.inf, "confidence"),
    ("T_window_cam", 5.0, "orthonormal"),
    ("pose_error", np.nan, "1 values of the predicted pose_error are not finite"),
])
def test_numbers_that_are_no_geometry_are_refused(film, field, value, told):
    network = FakeNetwork(POSES, LABELS)

    def broken(window):
        prediction = dataclasses.replace(network(window), pose_error=np.ones(len(window.keyframes), np.float32))
        getattr(prediction, field).flat[0] = value
        return prediction

    mapper = Mapper(broken, LABELS)
    assert mapper.push(film[0]) is None
    assert mapper.counters.refused_windows == 1 and told in mapper.last_refusal


def image(width=160, height=120):
    return np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("bad, counter, told", [
    ({"image": np.empty((0, 160, 3), np.uint8)}, "bad_images", r"uint8 \(0, 160, 3\)"),
    ({"image": image().astype(np.float32)}, "bad_images", "float32"),
    ({"image": image()[..., 0]}, "bad_images", r"\(120, 160\)"),
    ({"image": None}, "bad_images", "NoneType"),
    ({"image": image(2000, 20)}, "bad_images", "2000 x 20 pixels; its sides .* factor of 3"),
    ({"image": image(80, 60)}, "bad_resolutions", "80 x 60 .* 160 x 120"),
    ({"K": np.full((3, 3), np.nan)}, "bad_intrinsics", "not finite"),
    ({"K": K * (-1, 1, 1)}, "bad_intrinsics", "fx = -120"),
    ({"stamp_ns": 999}, "bad_stamps", "999 ns .* 1000 ns"),
    ({"stamp_ns": 1000}, "bad_stamps", "1000 ns .* 1000 ns"),
    ({"stamp_ns": 1001.5}, "bad_stamps", "1001.5 is no whole number"),
    ({"stamp_ns": float("nan")}, "bad_stamps", "nan is no whole number"),
    ({"K": K / [[160], [120], [1]]}, "bad_intrinsics", r"focal lengths \(0.75, 1\) .* no lens of a 160x120 image"),
    ({"T_odom_cam": np.full((4, 4), np.nan)}, "bad_priors", "T_odom_cam is no pose"),
    ({"T_odom_cam": np.zeros((4, 4))}, "bad_priors", "T_odom_cam is no pose"),
    ({"T_odom_cam": np.eye(4)[:3]}, "bad_priors", "T_odom_cam is no pose"),
    ({"depth": np.full((120, 160), 1500, np.uint16)}, "bad_priors", r"uint16 \(120, 160\); .* metres"),
    ({"depth": np.full((120, 160), 1500, np.float32)}, "bad_priors", "1500 to 1500 m; .* metres"),
    ({"depth": np.ones((120, 160, 1), np.float32)}, "bad_priors", r"\(120, 160, 1\)"),
    ({"depth": np.ones((0, 0), np.float32)}, "bad_priors", r"\(0, 0\)"),
    ({"depth": np.ones((120, 80), np.float32)}, "bad_priors", "depth is 80x120"),
    ({"up_cam": np.zeros(3)}, "bad_priors", "unit vector"),
    ({"up_cam": np.array([0, -9.81, 0])}, "bad_priors", "-9.81.* unit vector"),
    ({"up_cam": np.array([0, np.nan, 0])}, "bad_priors", "unit vector"),
    ({"height_m": -1.2}, "bad_priors", "height_m is -1.2"),
    ({"height_m": float("nan")}, "bad_priors", "height_m is nan"),
])
def test_a_bad_frame_is_named_and_counted_and_the_next_one_is_fine(film, bad, counter, told):
    mapper = Mapper(FakeNetwork(POSES, LABELS), LABELS)
    good = dataclasses.replace(film[0], stamp_ns=1000)
    mapper.push(good)
    with pytest.raises(InputError, match=told):
        mapper.push(dataclasses.replace(good, **({"stamp_ns": 2000} | bad)))
    assert getattr(mapper.counters, counter) == 1
    assert mapper.push(dataclasses.replace(good, stamp_ns=1001)) is None
    assert mapper.counters.static_frames == 1 and mapper.counters.frames == 3


def test_whoever_pushes_frames_may_write_the_next_one_over_the_last(film):
    """As who reads images into one buffer, or adds each step of his wheels to one matrix."""
    image, T_odom_cam = np.empty_like(film[0].image), np.eye(4)
    mapper = Mapper(FakeNetwork(POSES, LABELS), LABELS, ALONE)
    for frame, T in zip(film[:20], POSES, strict=False):
        image[:], T_odom_cam[:] = frame.image, T
        mapper.push(dataclasses.replace(frame, image=image, T_odom_cam=T_odom_cam))
    views = mapper.state().views.values()
    assert len(views) > 4
    for view in views:
        frame, n = view.keyframe.frame, view.keyframe.frame.stamp_ns // 100_000_000
        assert np.array_equal(frame.image, film[n].image) and np.array_equal(frame.T_odom_cam, POSES[n])


def test_the_state_of_a_map_is_that_of_its_moment(film):
    mapper, _ = run(film[:15])
    state, known, poses = mapper.state(), mapper.keyframes, dict(mapper.trajectory())
    for frame in film[15:30]:
        mapper.push(frame)
    assert mapper.keyframes > known == len(state.graph) == len(state.views)
    mapper.restore(state)
    assert mapper.keyframes == known
    for stamp_ns, T_map_cam in mapper.trajectory():
        np.testing.assert_array_equal(T_map_cam, poses[stamp_ns])


def test_dark_frames_are_counted():
    mapper = Mapper(FakeNetwork(POSES, LABELS), LABELS)
    assert mapper.push(Frame(0, np.zeros((120, 160, 3), np.uint8))) is None
    assert mapper.counters.dark_frames == 1 and mapper.counters.keyframes == 0
    assert mapper.trajectory() == [] and len(mapper.map_cloud()) == 0 and mapper.objects() == []
    mapper.settle()


def test_reset_begins_a_new_map_and_uses_no_id_twice(film):
    mapper, updates = run(film[:30])
    mapper.reset()
    assert mapper.trajectory() == [] and len(mapper.map_cloud()) == 0
    again = [update for frame in film[:30] if (update := mapper.push(frame)) is not None]
    assert again[0].keyframe_id == updates[-1].keyframe_id + 1
    np.testing.assert_allclose(again[0].T_map_cam[:2, 3], 0, atol=1e-12)
    assert mapper.counters.frames == 60


def test_a_push_takes_bounded_time(walked):
    _, updates = walked
    ours = [sum(update.seconds.values()) - update.seconds["network"] for update in updates]
    assert np.median(ours[-10:]) < 0.5                           # 50 ms on an idle core
    mapper = walked[0]
    start = time.process_time()
    mapper.map_cloud()
    assert time.process_time() - start < 0.5


def test_what_moves_is_shown_but_not_mapped(film, tmp_path):
    """Somebody pushes the sofa about: the newest view shows it, the map does not, nor does it once it is saved."""
    sofa = LABELS.index("sofa")
    mapper, updates = run(film[:50], moving="sofa")
    plain, _ = run(film[:50])
    kept, _ = run(film[:50], dataclasses.replace(ALONE, leave_out_moving=False), moving="sofa")
    sofas = [int((each.map_cloud().labels == sofa).sum()) for each in (mapper, plain, kept)]
    assert sofas[0] < 0.02 * sofas[1] and sofas[2] == sofas[1] > 300
    seen = [update for update in updates if (update.window_cloud.labels == sofa).sum() > 50]
    assert len(seen) > 3
    for update in seen:
        mine = update.labels == sofa
        assert (~update.still & mine).sum() > 0.9 * mine.sum() and update.confidence[mine].min() > 0
    write_map(tmp_path / FILE, mapper.state())
    loaded = Mapper(FakeNetwork(POSES, LABELS), LABELS, ALONE)
    loaded.restore(read_map(tmp_path, LABELS))
    assert (loaded.map_cloud().labels == sofa).sum() < 0.02 * sofas[1]
