"""A map that is saved, read again, asked in other words and asked for words."""
import dataclasses
import json
import resource

import numpy as np
import pytest
from room import FURNITURE, FakeNetwork, frames, walk
from safetensors import safe_open
from safetensors.numpy import save_file

from lsm_ros.config import MapperConfig
from lsm_ros.errors import InputError, OutputError
from lsm_ros.geometry.alignment import align_trajectory
from lsm_ros.geometry.sim3 import exp_so3, sim3, transform
from lsm_ros.labels import LabelSet, embed, noun_embeddings
from lsm_ros.mapping.ground import stand_upright
from lsm_ros.mapping.mapper import GIVE_UP_AFTER, LOST_AFTER, YOUNG, Mapper
from lsm_ros.mapping.saved_map import FILE, read_map, write_map

LABELS = LabelSet.load()
POSES = walk(60)
ALONE = MapperConfig(refine_poses=False, min_agreement=0.3)


@pytest.fixture(scope="module")
def film():
    return frames(POSES)


@pytest.fixture(scope="module")
def mapper(film):
    mapper = Mapper(FakeNetwork(POSES, LABELS), LABELS, ALONE)
    for frame in film:
        mapper.push(frame)
    mapper.settle()
    return mapper


@pytest.fixture
def saved(mapper, tmp_path):
    write_map(tmp_path / FILE, mapper.state())
    return tmp_path


def room_point(mapper, point):
    """A point of the map, in the room."""
    stamps, poses = zip(*mapper.trajectory(), strict=True)
    truth = np.stack([POSES[stamp // 100_000_000][:3, 3] for stamp in stamps])
    return transform(align_trajectory(np.stack(poses)[:, :3, 3], truth)[0], point[None])[0]


def test_a_saved_map_is_the_same_and_mapping_goes_on_in_it(mapper, film, saved):
    state = read_map(saved, LABELS)                              # the folder, or the file in it
    assert state.graph.ids == mapper._graph.ids and state.graph.grounded
    np.testing.assert_allclose(state.graph.poses(), mapper._graph.poses())
    assert len(state.graph.edges) == len(mapper._graph.edges) > 50
    again = Mapper(FakeNetwork(POSES * 2, LABELS), LABELS, ALONE)
    again.restore(state)
    assert again.lost and again.map_id == 1
    ours, theirs = again.map_cloud(), mapper.map_cloud()
    assert len(ours) == pytest.approx(len(theirs), rel=0.02)
    windows, last = again.counters.windows, max(state.graph.ids)
    updates = [u for n, frame in enumerate(film[20:40]) if (u := again.push(
        type(frame)(6_000_000_000 + 100_000_000 * (20 + n), frame.image, frame.K))) is not None]
    assert again.counters.windows > windows and not again.lost and updates[0].keyframe_id > last
    for update in updates:                                       # found again where it was before
        before = dict(mapper.trajectory())
        near = min(before, key=lambda stamp: abs(stamp + 6_000_000_000 - update.stamp_ns))
        assert np.linalg.norm(before[near][:3, 3] - update.T_map_cam[:3, 3]) < 0.4


def test_what_the_network_was_hardly_sure_of_is_not_lost(film, tmp_path):
    """It is right about much of that, and things are kept in the map for it. What it saw nothing of stays unseen."""
    class Unsure(FakeNetwork):
        def __call__(self, window):
            seen = super().__call__(window)
            confidence = 1e-4 * seen.confidence
            confidence[:, :2] = 0
            return dataclasses.replace(seen, confidence=confidence)

    mapper, again = (Mapper(Unsure(POSES, LABELS, outliers=0.0), LABELS, ALONE) for _ in range(2))
    for frame in film[:12]:
        mapper.push(frame)
    write_map(tmp_path / FILE, mapper.state())
    again.restore(read_map(tmp_path, LABELS))
    mapper.relabel(LABELS)                                       # all of it as it is by now
    assert len(again.map_cloud()) == pytest.approx(len(mapper.map_cloud()), rel=0.02) and len(mapper.map_cloud()) > 500
    for ours, theirs in zip(again.state().views.values(), mapper.state().views.values(), strict=True):
        np.testing.assert_allclose(ours.confidence, theirs.confidence, rtol=2e-3)
        assert (ours.confidence[:2] == 0).all()


def test_a_file_of_confidences_in_bytes_is_read(saved):
    before = [view.confidence for view in read_map(saved, LABELS).views.values()]
    rewritten(saved, lambda a: a.update(confidence=np.rint(255.0 * a["confidence"]).astype(np.uint8)))
    after = [view.confidence for view in read_map(saved, LABELS).views.values()]
    np.testing.assert_allclose(after, before, atol=3e-3)


def test_a_map_whose_loops_were_off_for_a_while_is_saved(film, tmp_path):
    """Keyframes of that time have no vector to be recognised by."""
    network = FakeNetwork(POSES, LABELS)
    mapper = Mapper(network, LABELS, ALONE, network.describe)
    for loops, part in ((True, film[:10]), (False, film[10:20]), (True, film[20:30])):
        mapper.configure(dataclasses.replace(ALONE, loops=loops))
        for frame in part:
            mapper.push(frame)
    places = dict(mapper.state().places)
    assert 0 < len(places) < mapper.keyframes
    write_map(tmp_path / FILE, mapper.state())
    again = dict(read_map(tmp_path, LABELS).places)
    assert again.keys() == places.keys()
    np.testing.assert_allclose([again[i] for i in places], list(places.values()), atol=1e-6)


def test_a_loaded_map_keeps_the_up_that_an_imu_told(tmp_path):
    """Nothing but tables is seen, the camera is rolled by 20 degrees, and the new session has no IMU."""
    poses = [T @ sim3(exp_so3(np.array([0.35, 0, 0])), np.zeros(3)) for T in walk(60, turns=2.0)]
    film = frames(poses)

    class Tables(FakeNetwork):
        def __call__(self, window):
            seen = super().__call__(window)
            table = LABELS.embeddings[LABELS.index("table")]
            return dataclasses.replace(seen, semantics=np.broadcast_to(table, seen.semantics.shape))

    def start():
        network = Tables(poses * 2, LABELS, matches=True, outliers=0.0)
        return Mapper(network, LABELS, describe=network.describe)

    def tilts(mapper):
        return [np.degrees(np.arccos(np.clip(T[2, :3] @ (poses * 2)[stamp // 100_000_000][2, :3], -1, 1)))
                for stamp, T in mapper.trajectory()]

    mapper, again = start(), start()
    for frame, T in zip(film[:30], poses, strict=False):
        mapper.push(dataclasses.replace(frame, up_cam=T[2, :3].copy()))
    write_map(tmp_path / FILE, mapper.state())
    again.restore(read_map(tmp_path, LABELS))
    known = again.keyframes
    for frame in film[30:50]:
        again.push(dataclasses.replace(frame, stamp_ns=frame.stamp_ns + 6_000_000_000))
    assert again.keyframes >= known + 8 and not again.on_floor
    assert max(tilts(mapper)) < 1 and max(tilts(again)) < 1


def test_a_loaded_map_keeps_the_height_that_the_robot_told(film, tmp_path):
    """On another robot, or with another `camera_height_m`, it is still where those images were taken from."""
    mapper = Mapper(FakeNetwork(POSES, LABELS), LABELS, ALONE)
    for frame in film[:10]:
        mapper.push(dataclasses.replace(frame, height_m=0.31 if frame.stamp_ns else None))
    write_map(tmp_path / FILE, mapper.state())
    heights = [view.keyframe.frame.height_m for view in read_map(tmp_path, LABELS).views.values()]
    assert heights == [view.keyframe.frame.height_m for view in mapper.state().views.values()]
    assert set(heights) == {0.31, None}


def told(mapper):
    return {mapper.state().graph.stance(i).height_m for i in mapper.state().graph.ids}


def test_a_loaded_map_takes_a_corrected_height_for_its_own_robot_s_alone(film, tmp_path):
    """What the parameter told of a session's cameras is corrected like that of this one; another robot's stays."""
    def start(height_m):
        return Mapper(FakeNetwork(POSES * 2, LABELS), LABELS, dataclasses.replace(ALONE, camera_height_m=height_m))

    def correct(mapper, height_m):
        mapper.configure(dataclasses.replace(ALONE, camera_height_m=height_m))

    def saved_by(height_m, frames):
        mapper = start(height_m)
        for frame in frames:
            mapper.push(frame)
        write_map(tmp_path / FILE, mapper.state())
        return read_map(tmp_path, LABELS)

    wrong, unknown = saved_by(0.65, film[:10]), saved_by(0.0, film[:10])
    same, another, third = start(0.65), start(0.2), start(0.2)
    for mapper, state in ((same, wrong), (another, wrong), (third, unknown)):
        mapper.restore(state)
    before = told(another), told(third)
    assert told(same) == before[0] == {0.65} and before[1] == {np.inf}
    correct(same, 1.3)
    assert told(same) == {1.3}
    write_map(tmp_path / FILE, same.state())
    assert {view.keyframe.frame.height_m for view in read_map(tmp_path, LABELS).views.values()} == {None}
    correct(another, 0.25)
    correct(third, 0.25)
    assert (told(another), told(third)) == before


def test_a_map_of_few_keyframes_that_is_levelled_after_it_was_loaded_keeps_its_heights(film, tmp_path):
    mapper, again = (Mapper(FakeNetwork(POSES * 2, LABELS, outliers=0.0), LABELS,
                            dataclasses.replace(ALONE, camera_height_m=height_m)) for height_m in (1.3, 0.2))
    for frame in film[:5]:
        mapper.push(frame)
    write_map(tmp_path / FILE, mapper.state())
    again.restore(read_map(tmp_path, LABELS))
    stand_upright(again._graph, again._views, LABELS, again.config.camera_height_m)
    assert told(again) == {1.3}


def test_in_files_of_before_each_frame_knows_the_height_that_was_told_of_it(film, tmp_path):
    mapper = Mapper(FakeNetwork(POSES, LABELS), LABELS, ALONE)
    for frame in film[:10]:
        mapper.push(dataclasses.replace(frame, height_m=0.31 if frame.stamp_ns else None))
    write_map(tmp_path / FILE, mapper.state())
    rewritten(tmp_path, lambda arrays: arrays.pop("height_m"))
    assert {view.keyframe.frame.height_m for view in read_map(tmp_path, LABELS).views.values()} == {0.31, None}


def test_a_map_can_be_read_by_whoever_may_read_a_file_beside_it(mapper, tmp_path):
    write_map(tmp_path / FILE, mapper.state())
    (tmp_path / "beside").touch()
    assert (tmp_path / FILE).stat().st_mode == (tmp_path / "beside").stat().st_mode


def test_a_map_whose_odometry_counts_from_far_away_is_read_again(film, tmp_path):
    utm = np.array([455_000.0, 5_411_000.0, 250.0])              # of a filter that knows GPS
    poses = [sim3(T[:3, :3], T[:3, 3] + utm) for T in POSES]
    mapper = Mapper(FakeNetwork(POSES, LABELS), LABELS, ALONE)
    for frame, T_odom_cam in zip(film[:12], poses, strict=False):
        mapper.push(dataclasses.replace(frame, T_odom_cam=T_odom_cam))
    write_map(tmp_path / FILE, mapper.state())
    state = read_map(tmp_path, LABELS)
    np.testing.assert_array_equal(state.views[0].keyframe.frame.T_odom_cam, poses[0])


def test_other_words_keep_the_map(film):
    every = dataclasses.replace(ALONE, confidence_drop=0.0)      # else the words say which unsure pixels are in it
    mapper = Mapper(FakeNetwork(POSES, LABELS), LABELS, every)
    for frame in film[:30]:
        mapper.push(frame)
    mapper.relabel(LABELS)                                       # all of it where it is by now
    before, found = mapper.map_cloud(), mapper.objects()
    assert found
    words = LabelSet.from_entries([{"name": "couch"}, {"name": "floor"}, {"name": "wall"}, {"name": "cupboard"},
                                   {"name": "table"}, {"name": "ceiling"}])
    mapper.relabel(words)
    cloud = mapper.map_cloud()
    assert len(cloud) == len(before)
    np.testing.assert_allclose(cloud.points, before.points, atol=1e-5)
    floor = before.labels == LABELS.index("floor")
    assert (cloud.labels[floor] == words.index("floor")).mean() > 0.95
    things = mapper.objects()
    assert things and {thing.name for thing in things} <= set(words.names)
    assert min(thing.id for thing in things) > max(thing.id for thing in found), "another thing has another number"
    for frame in film[30:]:
        mapper.push(frame)
    assert mapper.map_cloud().labels.max() < len(words)
    mapper.relabel(LABELS)
    sofa = mapper.map_cloud().labels == LABELS.index("sofa")
    assert sofa.sum() > 50


def test_a_small_map_that_is_loaded_stays_while_the_camera_looks_for_itself(film, tmp_path):
    """One that has just begun gives way to another as soon as the camera is lost."""
    mapper, again = (Mapper(FakeNetwork(POSES, LABELS, outliers=0.0), LABELS, ALONE) for _ in range(2))
    for frame in film[:3]:
        mapper.push(frame)
    write_map(tmp_path / FILE, mapper.state())
    again.restore(read_map(tmp_path, LABELS))
    assert 0 < again.keyframes == mapper.keyframes < YOUNG
    for _ in range(LOST_AFTER):
        again._refuse("it shows another room")
        mapper._refuse("it shows another room")
    assert again.keyframes and again.counters.restarts == 0
    assert not mapper.keyframes and mapper.counters.restarts == 1
    for _ in range(GIVE_UP_AFTER):
        again._refuse("it shows another room")
    assert not again.keyframes and again.waiting_keyframes


@pytest.mark.parametrize("names", [["sofa"], [*LABELS.names, *sorted({*noun_embeddings()} - {*LABELS.names})[:560]]],
                         ids=len)
def test_a_map_of_one_class_and_of_hundreds(film, names):
    """OpenCV knows no axis of one class, and no image of hundreds of channels."""
    words = LabelSet.from_entries([{"name": name} for name in names])
    mapper = Mapper(FakeNetwork(POSES, LABELS), words, ALONE)
    updates = [update for frame in film[:12] if (update := mapper.push(frame)) is not None]
    assert updates and len(mapper.map_cloud()) and mapper.map_cloud().labels.max() < len(names)
    shown = {words.names[label] for label in np.unique(updates[-1].labels)}
    assert shown == {"sofa"} if len(names) == 1 else {"wall", "floor"} <= shown


def test_a_query_finds_the_place_and_nothing_else(mapper):
    name, low, high = FURNITURE[1]
    found = mapper.query(embed(["couch"]), 0.5)                  # another word than the label's
    assert len(found.scores) and found.scores[0] > 0.5 and (np.diff(found.scores) <= 0).all()
    center = room_point(mapper, found.centers[0])
    assert (center > np.array(low) - 0.3).all() and (center < np.array(high) + 0.3).all()
    assert found.cloud.labels.max() == len(found.scores) - 1 and (found.sizes >= 0).all()
    assert found.cloud.confidence.min() >= 127
    nothing = mapper.query(embed(["bicycle"]), 0.5)
    assert len(nothing.scores) == len(nothing.cloud) == 0


def test_what_all_labels_mean_cannot_be_told_from_the_rest(film):
    """Everything would be a sofa, with the score 1."""
    mapper = Mapper(FakeNetwork(POSES, LABELS), LabelSet.from_entries([{"name": "sofa"}]), ALONE)
    for frame in film[:8]:
        mapper.push(frame)
    assert len(mapper.map_cloud())
    with pytest.raises(InputError, match="all labels of the map mean what is asked for: sofa"):
        mapper.query(embed(["sofa"]))
    assert not len(mapper.query(embed(["bicycle"])).scores)


def test_a_disk_that_takes_no_more_is_told_with_the_file(mapper, tmp_path):
    with pytest.raises(OutputError, match="no folder/map.safetensors"):
        write_map(tmp_path / "no folder" / FILE, mapper.state())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(OutputError, match="map.safetensors"):
            write_map(tmp_path / FILE, mapper.state())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_an_empty_map_cannot_be_saved():
    with pytest.raises(OutputError, match="no map to save"):
        Mapper(FakeNetwork(POSES, LABELS), LABELS).state()


def rewritten(folder, change, header_change=lambda header: None):
    with safe_open(folder / FILE, framework="numpy") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}
        header = json.loads(file.metadata()["map"])
    change(arrays)
    header_change(header)
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, folder / FILE,
              metadata={"map": json.dumps(header)})


@pytest.mark.parametrize("change, told", [
    (lambda a: a.pop("edge_S"), "edge_S"),
    (lambda a: a.update(height_m=0 * np.ones(len(a["ids"]))), "height_m of a map holds 0"),
    (lambda a: a.update(height_m=a["height_m"][:-1]), "in a map of"),
    (lambda a: a.update(ids=a["ids"][:-1]), "in a map of"),
    (lambda a: a.update(ids=0 * a["ids"]), "1 of them distinct"),
    (lambda a: a.update(depth=a["depth"] * np.float16(np.nan)), "depth .* not finite"),
    (lambda a: a.update(depth=a["depth"] * 0), "a depth of 0"),
    (lambda a: a.update(confidence=a["confidence"] * np.float16(np.nan)), "no share"),
    (lambda a: a.update(confidence=a["confidence"] + np.float16(1)), "no share"),
    (lambda a: a.update(image_bytes=0 * a["image_bytes"]), "image of keyframe 0 cannot be decoded"),
    (lambda a: a.update(edge_ends=a["edge_ends"] + 1000), "keyframes that it does not hold"),
    (lambda a: a.update(semantics=a["semantics"][..., :7]), "have 64 components"),
])
def test_a_file_that_lies_is_named_and_refused(saved, change, told):
    rewritten(saved, change)
    with pytest.raises(InputError, match=told):
        read_map(saved, LABELS)


def test_what_is_no_map_is_named(saved, tmp_path):
    rewritten(saved, lambda arrays: None, lambda header: header.update(version=99))
    with pytest.raises(InputError, match="version 1, but .* 99"):
        read_map(saved / FILE, LABELS)
    (saved / FILE).write_bytes(b"no map at all")
    with pytest.raises(InputError, match="cannot be read"):
        read_map(saved, LABELS)
    with pytest.raises(InputError, match="nowhere"):
        read_map(tmp_path / "nowhere", LABELS)
