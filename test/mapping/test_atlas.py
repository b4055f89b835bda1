"""The mapper over a long time: places seen again, maps that are joined, wheels that know better, bounded memory."""
import dataclasses

import numpy as np
import pytest
from room import FakeNetwork, frames, walk

from lsm_ros.config import MapperConfig
from lsm_ros.errors import AlignmentError
from lsm_ros.geometry.alignment import align_trajectory
from lsm_ros.geometry.sim3 import inverse, scale_of, sim3, transform
from lsm_ros.labels import LabelSet
from lsm_ros.mapping import mapper as mapper_module
from lsm_ros.mapping.atlas import Atlas
from lsm_ros.mapping.counters import Stopwatch
from lsm_ros.mapping.graph import PoseGraph
from lsm_ros.mapping.locating import MOST_CARRIED, Locator
from lsm_ros.mapping.mapper import TAKEN_OUT, Mapper
from lsm_ros.mapping.saved_map import FILE, MapState, read_map, write_map
from lsm_ros.mapping.views import View

LABELS = LabelSet.load()
POSES = walk(72, turns=2.0)                                      # two rounds of 36 frames
FILM = frames(POSES)


def start(config=MapperConfig(), poses=POSES * 3, **network):
    network = FakeNetwork(poses, LABELS, matches=True, **network)
    return Mapper(network, LABELS, config, network.describe), network


def push(mapper, film):
    return [update for frame in film if (update := mapper.push(frame)) is not None]


def later(frame, rounds=1):
    return dataclasses.replace(frame, stamp_ns=frame.stamp_ns + rounds * len(POSES) * 100_000_000)


def error(mapper, film_poses=POSES * 3):
    stamps, poses = zip(*mapper.trajectory(), strict=True)
    truth = np.stack([film_poses[stamp // 100_000_000][:3, 3] for stamp in stamps])
    return align_trajectory(np.stack(poses)[:, :3, 3], truth)[1]


@pytest.fixture(scope="module")
def two_rounds():
    mapper, _ = start()
    return mapper, push(mapper, FILM)


def test_a_second_round_is_recognised(two_rounds):
    mapper, updates = two_rounds
    assert mapper.counters.loops > 5 and updates[-1].loops == mapper.counters.loops
    graph = mapper.pose_graph()
    T_room = np.stack([POSES[update.stamp_ns // 100_000_000] for update in updates])
    i, j = graph.edges[graph.loop].T
    assert (np.linalg.norm(T_room[i, :3, 3] - T_room[j, :3, 3], axis=1) < 1.5).all()
    assert error(mapper) < 0.06
    some = next(n for n, update in enumerate(updates, 1) if update.loops > 1)
    without, _ = start(MapperConfig(loops=False))
    push(without, [frame for frame in FILM if frame.stamp_ns <= updates[some - 1].stamp_ns])
    assert without.counters.recognitions == 0


def test_a_camera_that_is_carried_away_finds_itself_at_once():
    mapper, _ = start()
    push(mapper, FILM[:36])                                      # a round, of which the second one's middle is the end
    known = mapper.counters.windows
    assert len(push(mapper, FILM[52:60])) == mapper.counters.windows - known > 4
    assert mapper.counters.refused_windows == 0 and error(mapper) < 0.06


def test_a_camera_that_is_carried_to_where_nobody_was_is_refused_as_before():
    mapper, network = start()
    push(mapper, FILM[:12])
    asked = len(network.calls)
    assert mapper.push(FILM[22]) is None and mapper.counters.refused_windows == 1 and not mapper.lost
    assert len(network.calls) == asked + 1, "nothing in the map looks like it: it is not searched"
    network._nonsense = range(10_000)
    assert mapper.push(later(FILM[12])) is None
    assert len(network.calls) == asked + 2, "it looks like where it was just now"


def test_a_camera_that_stays_lost_begins_another_map_and_comes_back_to_the_first():
    there, astray = POSES[:14], [*POSES[16:34], *POSES[16:34][::-1]]
    elsewhere, back = POSES[18:30], POSES[30:50]                 # the second round begins at 36
    film = frames([*there, *astray, *elsewhere, *back])
    ends = np.cumsum([len(there), len(astray), len(elsewhere)])
    mapper, network = start(poses=[*there, *astray, *elsewhere, *back])
    first = push(mapper, film[:ends[0]])
    network._nonsense = range(10_000)                            # whatever it sees makes no sense
    for frame in film[ends[0]:ends[1]]:
        if not mapper.counters.new_maps:
            assert mapper.push(frame) is None
    assert mapper.counters.new_maps == 1 and mapper.trajectory() == []
    network._nonsense = ()
    second = push(mapper, film[ends[1]:ends[2]])
    assert {update.map_id for update in first} == {0} and {update.map_id for update in second} == {1}
    assert len(mapper.trajectory()) == len(second), "the first map waits"
    third = push(mapper, film[ends[2]:])
    assert mapper.counters.joined_maps == 1 and third[-1].map_id == 0
    assert len(mapper.trajectory()) == len(first) + len(second) + len(third)
    told = third[[update.map_id for update in third].index(0)]
    assert len(told.T_map_keyframes) > len(first) + len(second), "every pose of the joined map is told"
    assert error(mapper, [*there, *astray, *elsewhere, *back]) < 0.1


def test_the_largest_map_is_taken_up_again_and_the_other_waits():
    mapper, network = start()
    first = push(mapper, FILM[:14])
    before = dict(mapper.trajectory())
    assert not mapper.take_largest(), "it is the only one"
    mapper._atlas.put_away(mapper.map_id, mapper.state())
    mapper._begin()
    second = push(mapper, FILM[20:26])
    assert 0 < len(mapper.trajectory()) == len(second) < len(first)
    assert mapper.take_largest() and mapper.map_id == 0 and mapper.lost
    assert dict(mapper.trajectory()).keys() == before.keys() and len(mapper.map_cloud()) > 1000
    assert not mapper.take_largest() and len(mapper._atlas) == 1
    mapper.settle()
    assert error(mapper) < 0.06


def test_maps_that_are_joined_one_after_another_stay_in_the_order_of_time():
    """The trajectory is oldest first, and `forget: oldest` goes by it. The present map has parts that are older than
    the second one that it becomes a part of."""
    mapper, _ = start()
    for film in (FILM[:14], FILM[19:30]):
        push(mapper, film)
        mapper._atlas.put_away(mapper.map_id, mapper.state())
        mapper._begin()
    updates = push(mapper, FILM[37:72])
    assert mapper.counters.joined_maps == 2 and [update.map_id for update in updates[::len(updates) - 1]] == [2, 1]
    stamps = [stamp for stamp, _ in mapper.trajectory()]
    assert stamps == sorted(stamps) and mapper.pose_graph().ids == sorted(mapper.pose_graph().ids)
    assert error(mapper) < 0.06


def test_a_map_that_is_loaded_never_meets_the_images_of_another(two_rounds):
    """Tokens and features are kept by keyframe id, so a loaded keyframe may not have the id of one that was seen."""
    mapper, _ = two_rounds
    other, network = start()
    seen = push(other, FILM[:10])
    other.restore(mapper.state())
    assert min(other.pose_graph().ids) > seen[-1].keyframe_id
    found = push(other, [later(frame) for frame in FILM[10:20]])
    assert found and not other.lost and found[0].keyframe_id > max(mapper.pose_graph().ids)
    before = dict(mapper.trajectory())
    for update in found:
        T_before = before[min(before, key=lambda stamp: abs(stamp + len(POSES) * 100_000_000 - update.stamp_ns))]
        assert np.linalg.norm(T_before[:3, 3] - update.T_map_cam[:3, 3]) < 0.3


@pytest.mark.parametrize("forget", ["redundant", "oldest", "farthest"])
def test_memory_is_bounded_and_what_is_near_stays(forget):
    limited, _ = start(MapperConfig(max_keyframes=20, forget=forget))
    updates = push(limited, FILM[:44])
    assert len(limited.trajectory()) <= 20 < len(updates)
    assert limited.counters.forgotten_keyframes == len(updates) - len(limited.trajectory())
    stamps = {stamp for stamp, _ in limited.trajectory()}
    assert {update.stamp_ns for update in updates[-10:]} <= stamps
    assert len(limited._views) == len(limited._places) == len(limited._map._fused) == len(limited.trajectory())
    assert error(limited) < 0.1


def test_a_push_takes_the_voxels_of_few_of_the_forgotten_out_and_in_the_end_all_are_gone():
    mapper, _ = start()
    push(mapper, FILM[:44])
    mapper.configure(MapperConfig(max_keyframes=20))
    for frame in FILM[44:50]:
        before = set(mapper._map._fused)
        mapped = mapper.push(frame) is not None
        assert len(before - set(mapper._map._fused)) == TAKEN_OUT * mapped
    assert mapper.keyframes <= 20 < len(mapper._map._fused)
    mapper.settle()
    assert set(mapper._map._fused) == set(mapper.pose_graph().ids)


def test_a_full_map_is_still_optimised_as_a_whole(monkeypatch):
    """Every 6 keyframes here, though it has 20 or 21 of them for ever, which is no multiple of that."""
    whole, optimise = [], PoseGraph.optimise

    def watched(self, free=None, loop=False):
        whole.append(len(free) == len(self))
        optimise(self, free, loop)

    monkeypatch.setattr(mapper_module, "GLOBAL_EVERY", 6)
    monkeypatch.setattr(PoseGraph, "optimise", watched)
    full, _ = start(MapperConfig(max_keyframes=20, optimised_keyframes=8, loops=False))
    push(full, FILM[:60])
    assert full.counters.forgotten_keyframes > 24 and sum(whole[-24:]) == 4


def unsolvable(self, free=None, loop=False):
    raise AlignmentError("the pose graph is not determined")


def test_a_graph_without_a_solution_is_settled_as_it_is(monkeypatch):
    mapper, _ = start()
    push(mapper, FILM[:6])
    monkeypatch.setattr(PoseGraph, "optimise", unsolvable)
    before = mapper._graph.poses().copy()
    mapper.settle()
    assert mapper.counters.unsolved_graphs == 1 and (mapper._graph.poses() == before).all()


def apart():
    """A mapper whose first map waits while the newest keyframe of its second one sees it; what joins them; the states
    of both maps, and that keyframe."""
    mapper, network = start()
    push(mapper, FILM[:10])
    waiting = mapper.state()
    mapper._begin()
    push(mapper, [later(frame) for frame in FILM[4:12]])
    mapper._atlas.put_away(0, waiting)
    present, newest = mapper.state(), mapper._views[mapper.pose_graph().ids[-1]].keyframe

    def join():
        return mapper._atlas.join(present, newest, network.describe(newest), mapper._locator, Stopwatch())

    return mapper, join, waiting, present, newest


def test_a_join_without_a_solution_leaves_both_maps_as_they_were(monkeypatch):
    """The next look joins them."""
    mapper, join, waiting, present, newest = apart()
    known = [(state.graph.ids, len(state.graph.edges), state.graph.poses().tobytes()) for state in (waiting, present)]

    with monkeypatch.context() as patch:
        patch.setattr(PoseGraph, "optimise", unsolvable)
        assert join() is None and len(mapper._atlas) == 1
    assert known == [(state.graph.ids, len(state.graph.edges), state.graph.poses().tobytes())
                     for state in (waiting, present)]
    found = join()
    assert len(mapper._atlas) == 0 and found.state.graph.ids == [*waiting.graph.ids, *present.graph.ids]
    assert set(found.state.views) == set(found.state.graph.ids) and found.state.graph.grounded == waiting.graph.grounded


def test_what_joins_two_maps_is_told_in_the_unit_of_the_keyframe_that_it_ties(monkeypatch):
    """The window's unit is half of the keyframe's, so its shifts and their errors are twice as many of them."""
    _, join, _, _, newest = apart()
    register, told = Locator.register, []
    monkeypatch.setattr(Locator, "register", lambda *given: told.append(register(*given)) or told[-1])
    monkeypatch.setattr(View, "unit_ratio", lambda *given: 2.0)
    found = join()
    said = {edge.i: edge for edge in told[-1].edges if edge.j == newest.id}
    ties = {edge.i: edge for edge in found.state.graph.edges if edge.j == newest.id and edge.i in said}
    assert ties and ties.keys() == said.keys()
    for i, tie in ties.items():
        np.testing.assert_allclose(tie.sigma, said[i].sigma * [2, 2, 2, 1, 1, 1, 1])
        assert scale_of(tie.S_i_j) == pytest.approx(scale_of(said[i].S_i_j) / 2)


def test_a_map_of_images_of_another_size_waits_on():
    """As of a folder of photos, some upright and some not. The network refuses windows of both."""
    mapper, join, waiting, _, _ = apart()
    mapper._atlas.clear()
    mapper._atlas.put_away(0, dataclasses.replace(waiting, image_shape=(160, 120, 3)))
    asked = len(mapper._locator._predict.calls)
    assert join() is None and len(mapper._atlas) == 1
    assert len(mapper._locator._predict.calls) == asked


def test_what_waits_is_bounded_and_the_newest_map_waits_in_any_case():
    def put_away(map_id, keyframes):
        atlas.put_away(map_id, MapState(PoseGraph(), dict.fromkeys(range(keyframes)), [], (120, 160, 3)))
        return [waiting.map_id for waiting in atlas._maps]

    atlas = Atlas(30)
    assert [put_away(n, 6) for n in range(6)][-1] == [2, 3, 4, 5], "four, however small"
    assert put_away(6, 18) == [4, 5, 6]
    assert put_away(7, 31) == [7]
    assert put_away(8, 10) == [8]
    assert put_away(9, 20) == [8, 9]
    atlas.configure(25)
    assert len(atlas) == 1
    mapper, _ = start(MapperConfig(max_keyframes=25))
    assert mapper._atlas._max_keyframes == 25
    mapper.configure(MapperConfig(max_keyframes=20))
    assert mapper._atlas._max_keyframes == 20


def test_what_is_far_is_forgotten():
    near, _ = start(MapperConfig(map_radius_m=1.0))
    push(near, FILM[:44])
    positions = np.stack([T[:3, 3] for _, T in near.trajectory()])
    assert np.linalg.norm(positions[:-16] - positions[-1], axis=1).max(initial=0) < 1.2
    assert near.counters.forgotten_keyframes > 10


def test_the_metre_comes_from_the_odometry():
    """The network sees everything 20 % too small; wheels that are 1 % off put that right."""
    odometry = [T.copy() for T in POSES]
    for T in odometry:
        T[:3, 3] *= 1.01
    film = [dataclasses.replace(frame, T_odom_cam=inverse(odometry[0]) @ T)
            for frame, T in zip(FILM, odometry, strict=True)]
    scales = {}
    for name, frames_ in (("odometry", film[:36]), ("network", FILM[:36])):
        mapper, network = start(scale=0.03, outliers=0.0)
        network._bias = 0.8
        updates = push(mapper, frames_)
        assert updates[-1].metric.source == name and mapper.metric == updates[-1].metric
        poses = np.stack([T for _, T in mapper.trajectory()])
        truth = np.stack([POSES[stamp // 100_000_000] for stamp, _ in mapper.trajectory()])
        scales[name] = float(scale_of(align_trajectory(poses[:, :3, 3], truth[:, :3, 3])[0]))
    assert scales["odometry"] == pytest.approx(1 / 1.01, abs=0.02)
    assert scales["network"] == pytest.approx(1 / 0.8, abs=0.1)
    assert updates[-1].covariance.shape == (6, 6) and (np.linalg.eigvalsh(updates[-1].covariance) > 0).all()


def test_the_floor_is_zero_and_a_known_height_gives_the_metre():
    film = [dataclasses.replace(frame, height_m=float(T[2, 3]), up_cam=T[2, :3].copy())
            for frame, T in zip(FILM[:40], POSES, strict=False)]
    mapper, network = start(scale=0.03, outliers=0.0)
    network._bias = 0.8
    updates = push(mapper, film)
    assert updates[-1].on_floor and updates[-1].metric.source == "height"
    assert updates[-1].metric.scale == pytest.approx(1 / 0.8, rel=0.05)
    for update in updates[10:]:
        T = POSES[update.stamp_ns // 100_000_000]
        assert update.T_map_cam[2, 3] == pytest.approx(T[2, 3], abs=0.06)
        assert update.T_map_cam[2, :3] @ T[2, :3] > np.cos(np.radians(1.5))
    cloud = mapper.map_cloud()
    floor = cloud.points[cloud.labels == LABELS.index("floor"), 2]
    assert abs(np.median(floor)) < 0.04


def with_wheels(film, poses=POSES):
    return [dataclasses.replace(frame, T_odom_cam=inverse(poses[0]) @ T) for frame, T in zip(film, poses, strict=False)]


def test_wheels_carry_the_map_over_windows_that_make_no_sense():
    """Nonsense that nothing refuses is the worst: a pose that is off by 90 degrees, backed by matches."""
    mapper, network = start(nonsense=(6, 7, 20), outliers=0.0)
    updates = push(mapper, with_wheels(FILM[:36]))
    assert mapper.counters.refused_windows == 0 and mapper.counters.carried_windows >= 3
    assert len(updates) == mapper.counters.keyframes and error(mapper) < 0.06
    blind, network = start(nonsense=range(4, 10_000), outliers=0.0)
    push(blind, with_wheels(FILM[:30]))
    assert blind.counters.carried_windows == MOST_CARRIED and blind.lost, "who is lifted turns no wheel"


def test_wheels_that_stand_still_while_the_images_move_are_believed_for_a_while():
    """Who is lifted and carried about: image after image matches, and none agrees with the wheels."""
    mapper, _ = start(outliers=0.0)
    film = with_wheels(FILM[:60])
    stand = film[12].T_odom_cam
    push(mapper, film[:12])
    push(mapper, [dataclasses.replace(frame, T_odom_cam=stand) for frame in film[12:60]])
    assert mapper.counters.carried_windows == MOST_CARRIED and mapper.counters.refused_windows == 0
    (one, T_one), (two, T_two) = mapper.trajectory()[-2:]
    moved, truth = (np.linalg.norm((inverse(a) @ b)[:3, 3]) for a, b in (
        (T_one, T_two), (POSES[one // 100_000_000], POSES[two // 100_000_000])))
    assert moved == pytest.approx(truth, rel=0.2)


def test_a_camera_that_is_carried_away_with_its_wheels_still_is_put_right_by_loops():
    """Until two windows agree that it is elsewhere the wheels are believed."""
    mapper, _ = start(outliers=0.0)
    film = with_wheels(FILM)
    push(mapper, film[:36])
    stand = film[35].T_odom_cam
    updates = push(mapper, [dataclasses.replace(frame, T_odom_cam=stand @ inverse(film[52].T_odom_cam) @
                                                frame.T_odom_cam) for frame in film[52:62]])
    assert mapper.counters.carried_windows == 1 and mapper.counters.refused_windows == 0
    found = np.stack([update.T_map_cam[:3, 3] for update in updates[4:]])
    before = np.stack([T[:3, 3] for _, T in mapper.trajectory()[:len(mapper.trajectory()) - len(updates)]])
    stamps = [stamp for stamp, _ in mapper.trajectory()][:len(before)]
    S_room_map, _ = align_trajectory(before, np.stack([POSES[stamp // 100_000_000][:3, 3] for stamp in stamps]))
    truth = np.stack([POSES[update.stamp_ns // 100_000_000][:3, 3] for update in updates[4:]])
    assert np.linalg.norm(transform(S_room_map, found) - truth, axis=1).max() < 0.3


def test_odometry_that_begins_anew_moves_nothing():
    """A base driver that starts again, metres from where it had begun."""
    mapper, _ = start(outliers=0.0)
    film = with_wheels(FILM[:36])
    push(mapper, film[:20])
    again = [dataclasses.replace(frame, T_odom_cam=inverse(film[20].T_odom_cam) @ frame.T_odom_cam)
             for frame in film[20:]]
    assert np.linalg.norm(film[19].T_odom_cam[:3, 3]) > 1.0
    push(mapper, again)
    assert mapper.counters.odometry_jumps == 1
    assert mapper.counters.carried_windows == 0 and mapper.counters.refused_windows == 0 and error(mapper) < 0.06


@pytest.mark.parametrize("seen", [True, False])
def test_odometry_may_begin_anew_in_a_pause_in_which_no_speed_tells(seen):
    """Camera and base are started again together, for seconds: what the images are sure of counts more. Where nothing
    of what was seen before is in sight, as after a way in a pause, odometry alone knows."""
    mapper, network = start(outliers=0.0)
    film = with_wheels(FILM[:60])
    push(mapper, film[:20])
    anew = inverse(film[20].T_odom_cam) if seen else np.eye(4)
    updates = push(mapper, [dataclasses.replace(later(frame), T_odom_cam=anew @ frame.T_odom_cam)
                            for frame in film[20 if seen else 30:50]])
    count = mapper.counters
    assert count.odometry_jumps == seen and (count.carried_windows == 0 if seen else count.carried_windows > 0)
    assert len(updates) > 8 and count.refused_windows == 0 and error(mapper) < 0.06
    first = updates[0].keyframe_id
    told = [[k.frame.T_odom_cam is None for k in w.keyframes] for w in network.calls if w.keyframes[-1].id == first]
    assert all(map(all, told)), "the network would believe the jump"
    assert abs(mapper.metric.scale - 1) < 0.04 and (not seen or min(
        i for i, view in mapper._views.items() if view.keyframe.frame.T_odom_cam is not None) == first)


def test_odometry_of_a_saved_map_compares_with_none_of_a_new_session(tmp_path):
    """The robot starts again where it had stopped, and its odometry at another place."""
    mapper, _ = start(outliers=0.0)
    film = with_wheels(FILM)
    push(mapper, film[:36])
    write_map(tmp_path / FILE, mapper.state())
    again, network = start(outliers=0.0)
    again.restore(read_map(tmp_path, LABELS))
    anew = [dataclasses.replace(later(frame), T_odom_cam=sim3(np.eye(3), np.array([5.0, 3.0, 0.0])) @ frame.T_odom_cam)
            for frame in film[34:60]]
    updates = push(again, anew)
    assert len(updates) > 8 and again.counters.carried_windows == 0
    assert all(update.metric.scale == pytest.approx(1, abs=0.1) for update in updates)
    mixed = [window for window in network.calls for told in [[k.frame.T_odom_cam for k in window.keyframes]]
             if all(T is not None for T in told) and window.keyframes[0].id < updates[0].keyframe_id]
    assert not mixed and error(again) < 0.06


def test_a_camera_that_was_lost_is_not_measured_by_the_odometry_from_before():
    """It was carried across the room while the wheels stood, and nothing could be seen on the way."""
    mapper, network = start(outliers=0.0)
    film = with_wheels(FILM)
    push(mapper, film[:36])
    metre = mapper.metric.scale
    network._nonsense = range(10_000)
    blind = [dataclasses.replace(frame, T_odom_cam=None) for frame in film[36:48]]
    for frame in blind:
        if not mapper.lost:
            mapper.push(frame)
    assert mapper.lost
    network._nonsense = ()
    stand = film[35].T_odom_cam @ inverse(film[54].T_odom_cam)
    updates = push(mapper, [dataclasses.replace(frame, T_odom_cam=stand @ frame.T_odom_cam) for frame in film[54:64]])
    assert len(updates) > 3 and mapper.counters.odometry_jumps == 0 and error(mapper) < 0.06
    known = {i for i, view in mapper._views.items() if view.keyframe.frame.T_odom_cam is not None}
    assert min(known) == updates[0].keyframe_id and mapper.metric.scale == pytest.approx(metre, rel=0.02)


def test_a_search_that_fails_leaves_nothing_behind():
    mapper, network = start()
    push(mapper, FILM[:36])
    asked = len(network.calls)

    def out_of_memory(window):
        if len(network.calls) > asked:
            raise MemoryError
        return network(window)

    mapper._locator._predict = out_of_memory
    with pytest.raises(MemoryError):
        mapper.push(FILM[52])
    assert not mapper.lost and mapper.counters.refused_windows == 0
    mapper._locator._predict = network
    assert mapper.push(FILM[53]) is not None


def test_the_network_gets_no_odometry_of_views_that_lie_far_apart_in_time():
    mapper, network = start(outliers=0.0)
    push(mapper, with_wheels(FILM[:50]))
    far = [window for window in network.calls if window.keyframes[-1].id - min(k.id for k in window.keyframes) > 14]
    near = [window for window in network.calls if window not in far]
    assert len(far) > 5 and all(k.frame.T_odom_cam is None for window in far for k in window.keyframes)
    assert len(near) > 20 and all(k.frame.T_odom_cam is not None for window in near for k in window.keyframes)
