"""Long walks: a known room, a network that knows the truth, and every figure of the score."""
from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np
import pytest
from room import FURNITURE, SIZE, FakeNetwork, K, cast, frames, walk
from safetensors.numpy import save_file
from scipy.spatial import cKDTree

from lsm_ros.config import MapperConfig
from lsm_ros.contracts import Cloud, MapObject, Window, WindowPrediction
from lsm_ros.data.turning import turn
from lsm_ros.errors import ConfigError, InputError
from lsm_ros.evaluation import benchmark, walks
from lsm_ros.evaluation.walk_scores import (
    Box,
    FoundLoops,
    TruePoints,
    Walk,
    overlap,
    score_cloud,
    score_ghosts,
    score_loops,
    score_objects,
    score_trajectory,
    shared,
    true_boxes,
    true_points,
)
from lsm_ros.evaluation.walks import (
    folder_walk,
    map_walk,
    median_line,
    overview_markdown,
    read_seed,
    rendered_walk,
    up_of,
    walks_markdown,
)
from lsm_ros.geometry.camera import scale_intrinsics
from lsm_ros.geometry.sim3 import exp_so3, sim3, transform
from lsm_ros.labels import LabelSet
from lsm_ros.mapping.graph import GraphPicture
from lsm_ros.model.weights import FORMAT, SHIPPED

LABELS = LabelSet.load()
GRID = (64, 48)
NAMES = [name for name, *_ in FURNITURE]


def room_walk(count: int = 40, turns: float = 1.0) -> Walk:
    """About the room of test/mapping, with its truth."""
    poses = walk(count, turns)
    depth, names, _ = (np.stack(planes) for planes in zip(*(cast(T, GRID) for T in poses), strict=True))
    instances = np.select([names == name for name in NAMES], range(1, len(NAMES) + 1), 0)
    labels = np.select([names == name for name in np.unique(names)], [LABELS.index(n) for n in np.unique(names)])
    return Walk("room", frames(poses), np.stack(poses), scale_intrinsics(K, SIZE, GRID), depth, labels, instances)


@pytest.fixture(scope="module")
def room() -> Walk:
    return room_walk()


def exact(truth: Walk, **errors) -> FakeNetwork:
    return FakeNetwork(list(truth.T_world_cam), LABELS, **{"scale": 0, "depth": 0, "pose": 0, "outliers": 0} | errors)


def test_a_network_that_knows_the_truth_makes_no_error(room):
    network = exact(room)

    def modest(window: Window) -> WindowPrediction:
        """Its depth is coarse, and it says so."""
        prediction = network(window)
        return replace(prediction, confidence=0.3 * prediction.confidence)

    line = map_walk(room, modest, LABELS, MapperConfig(object_min_voxels=10), progress=False)
    assert line["set"] == "room" and line["intrinsics"] and line["frames"] == 40
    assert line["mapped"] == line["keyframes"] > 20 and line["refused"] == 0
    for name in ("ate_m", "ate_se3_m", "ate_live_m"):
        assert line[name] < .05, name
    assert line["scale"] == pytest.approx(1, abs=.03) and line["rotation_deg"] < 2 and line["upright_deg"] < 1.5
    assert line["accuracy"] > .7 and line["completeness"] > .6 and line["label_accuracy"] > .95
    assert line["object_precision"] > .4 and line["object_recall"] > .7
    assert line["path_m"] == pytest.approx(7.3, abs=.3)
    assert "odometry_ate_m" not in line


def test_the_chain_is_worse(room):
    errors = {"scale": .2, "pose": .03, "seed": 1, "matches": True}
    graph, chain = (map_walk(room, exact(room, **errors), LABELS, chain=chain, progress=False)
                    for chain in (False, True))
    assert chain["set"] == "room, chained" and chain["ate_se3_m"] > 3 * graph["ate_se3_m"]
    assert chain["ate_m"] == pytest.approx(chain["ate_live_m"], abs=1e-3)     # only levelled after it was told


def test_a_trajectory_off_by_a_known_similarity(room):
    tilt, S_map_world = np.radians(7), sim3(np.eye(3), np.array([1.0, 2, 3]), 1.25)
    S_map_world = sim3(exp_so3(np.array([tilt, 0, 0])), np.zeros(3)) @ S_map_world
    trajectory = []
    for k, T in enumerate(room.T_world_cam):
        T_map_cam = S_map_world @ T
        T_map_cam[:3, :3] /= 1.25
        trajectory.append((k, T_map_cam))
    line, S_world_map = score_trajectory(room, trajectory)
    assert S_world_map @ S_map_world == pytest.approx(np.eye(4), abs=1e-9)
    assert line["scale"] == pytest.approx(1.25) and line["upright_deg"] == pytest.approx(7)
    assert line["ate_m"] == pytest.approx(0, abs=1e-9) and line["rotation_deg"] == pytest.approx(0, abs=1e-4)
    positions = room.T_world_cam[:, :3, 3]
    spread = np.sqrt(np.square(positions - positions.mean(0)).sum(1).mean())
    assert line["ate_se3_m"] == pytest.approx(.25 * spread)
    assert line["ate_se3_percent"] == pytest.approx(100 * .25 * spread / line["path_m"])


def test_odometry_is_scored_where_frames_tell_it(room):
    T_odom = room.T_world_cam.copy()
    T_odom[:, :3, 3] *= 1.1
    told = replace(room, frames=[replace(frame, T_odom_cam=T) for frame, T in zip(room.frames, T_odom, strict=True)])
    line, _ = score_trajectory(told, list(enumerate(room.T_world_cam)))
    positions = room.T_world_cam[:, :3, 3]
    spread = np.sqrt(np.square(positions - positions.mean(0)).sum(1).mean())
    assert line["odometry_ate_m"] == pytest.approx(.1 * spread) and line["ate_m"] == pytest.approx(0, abs=1e-9)


def test_true_points_are_thinned_and_keep_their_names(room):
    truth = true_points(room, 8.0)
    assert len(np.unique(np.floor(truth.points / .025).astype(int), axis=0)) == len(truth.points) > 10_000
    assert truth.points.min() == pytest.approx(-3, abs=.01) and truth.points[:, 2].min() == pytest.approx(0, abs=.01)
    floor = truth.points[truth.labels == LABELS.index("floor")]
    assert abs(floor[:, 2]).max() < .01
    table = truth.points[truth.instances == 1]
    assert table.min(0) == pytest.approx((1.2, .8, 0), abs=.06) and table.max(0)[2] == pytest.approx(.8, abs=.01)
    assert np.linalg.norm(true_points(room, 2.0).points, axis=1).max() < 4      # nothing from far away


def test_a_cloud_that_is_shifted_and_misnamed(room):
    truth, count = true_points(room, 8.0), 1000
    points = truth.points[:: len(truth.points) // count]
    labels = truth.labels[:: len(truth.points) // count].astype(np.uint16)

    def score(points, labels):
        n = len(points)
        return score_cloud(Cloud(points.astype(np.float32), np.zeros((n, 3), np.uint8), labels, np.zeros(n, np.uint8)),
                           np.eye(4), truth, LABELS)

    right = score(points, labels)
    assert right["accuracy"] == right["miou"] == right["label_accuracy"] == 1 and right["accuracy_m"] < 1e-4
    assert right["completeness"] < .6 and right["floor_m"] == pytest.approx(0, abs=.01)
    lifted = score(points + (0, 0, 10), labels)
    assert lifted["accuracy"] == 0 and lifted["accuracy_m"] > 7
    half = labels.copy()
    half[::2] = LABELS.index("bed")
    assert score(points, half)["label_accuracy"] == pytest.approx(.5, abs=.02)
    assert score(np.empty((0, 3)), labels[:0]) == {"points": 0}


def test_what_somebody_left_in_the_map_is_a_ghost(room):
    among = replace(room, moving=room.instances == 1)           # as if the table walked
    truth, everything = true_points(among, 8.0), true_points(room, 8.0)
    assert not (truth.instances == 1).any() and len(truth.points) < len(everything.points)
    away = cKDTree(truth.points).query(everything.points)[0] > .2
    S_map_world = sim3(np.eye(3), np.array([1.0, 2, 3]), 2.0)

    def score(points, label="wall"):
        n = len(points)
        cloud = Cloud(transform(S_map_world, points).astype(np.float32), np.zeros((n, 3), np.uint8),
                      np.full(n, LABELS.index(label), np.uint16), np.zeros(n, np.uint8))
        back = np.linalg.inv(S_map_world)
        return score_cloud(cloud, back, truth, LABELS) | score_ghosts(cloud, back, among, truth, 8.0)

    whole = score(everything.points)
    assert whole["ghosts"] == pytest.approx(away.sum(), rel=.02) and whole["ghosts"] > 100
    assert whole["astray"] == pytest.approx(away.mean(), rel=.02) and whole["person_points"] == 0
    assert whole["in_view"] == (room.instances == 1).any(axis=(1, 2)).mean() > .2
    still = score(truth.points, "person")
    assert still["ghosts"] == still["astray"] == 0 and still["person_points"] == still["points"]
    nowhere = score(truth.points + (0, 0, 10))
    assert nowhere["astray"] == 1 and nowhere["ghosts"] == 0          # wrong, but nobody's fault
    assert score(np.empty((0, 3))) == {"points": 0, "ghosts": 0, "in_view": whole["in_view"]}


def test_a_map_that_stands_still_has_no_ghosts(room):
    lines = [map_walk(walk, exact(room), LABELS, progress=False)
             for walk in (room, replace(room, moving=np.zeros(room.depth.shape, bool)))]
    assert lines[1] == pytest.approx(lines[0] | {"ghosts": 0, "in_view": 0,
                                                 "seconds_per_keyframe": lines[1]["seconds_per_keyframe"]})


def test_boxes_overlap_as_their_volumes_do():
    a = Box(0, np.array([100.0, 50, .5]), np.array([2.0, 1, 1]), 0.0)
    assert overlap(a, a) == pytest.approx(1, abs=1e-5)
    assert overlap(a, replace(a, yaw=np.pi)) == pytest.approx(1, abs=1e-5)
    assert overlap(a, replace(a, center=a.center + (1, 0, 0))) == pytest.approx(1 / 3, abs=1e-5)
    assert overlap(a, replace(a, center=a.center + (0, 0, .5))) == pytest.approx(1 / 3, abs=1e-5)
    assert overlap(a, replace(a, yaw=np.pi / 2)) == pytest.approx(1 / 3, abs=1e-5)      # a cross: 1 of 2 + 2 - 1
    assert overlap(a, replace(a, center=a.center + (2.1, 0, 0))) == 0
    assert overlap(a, replace(a, center=a.center + (0, 0, 1))) == 0


def test_objects_are_counted_by_box_and_class(room):
    truth = true_points(room, 8.0)
    boxes = true_boxes(truth, LABELS, .05)
    assert sorted(LABELS.names[box.label] for box in boxes) == sorted(NAMES)
    S_map_world = sim3(exp_so3(np.array([0, 0, .4])), np.array([1.0, 2, 3]), 2.0)

    def score(boxes):
        things = [MapObject(i, box.label, "", transform(S_map_world, box.center[None])[0], 2 * box.size, box.yaw + .4,
                            1.0, 100) for i, box in enumerate(boxes)]
        line = score_objects(things, np.linalg.inv(S_map_world), truth, LABELS, .05)
        return line["object_precision"], line["object_recall"]

    assert score(boxes) == (1, 1)
    assert score(boxes[:2]) == (1, .5)
    assert score(boxes + [replace(boxes[0], center=boxes[0].center + 5)]) == (.8, 1)
    assert score([replace(box, label=LABELS.index("bed")) for box in boxes]) == (0, 0)
    assert score([boxes[0], boxes[0]]) == (.5, .25)                     # found twice counts once


def test_other_labels_need_no_floor_and_make_no_object_of_what_they_do_not_name(room):
    few = LabelSet.from_entries([{"name": "chair"}, {"name": "table"}])
    truth = true_points(replace(room, labels=walks.in_labels(room.labels, few)), 8.0)
    assert [few.names[box.label] for box in true_boxes(truth, few, .05)] == ["table"] * NAMES.count("table")
    n = len(truth.points)
    line = score_cloud(Cloud(truth.points, np.zeros((n, 3), np.uint8), np.ones(n, np.uint16), np.zeros(n, np.uint8)),
                       np.eye(4), truth, few)
    assert line["label_accuracy"] == 1 and "floor_m" not in line


def test_a_speck_is_no_true_object():
    boxes = []
    for side in (.1, .3):                                               # 8 voxels and 216
        edge = np.arange(.01, side, .02)
        points = np.stack(np.meshgrid(edge, edge, edge, indexing="ij"), axis=-1).reshape(-1, 3).astype(np.float32)
        label = np.full(len(points), LABELS.index("box"))
        boxes.append(len(true_boxes(TruePoints(points, label, np.ones_like(label)), LABELS, .05)))
    assert boxes == [0, 1]


def test_what_is_thinner_than_a_voxel_does_not_count():
    side = np.arange(0, .6, .02)
    sheet = np.stack([*np.meshgrid(side, 1.0, side, indexing="ij")], axis=-1).reshape(-1, 3)      # at y = 1
    block = np.stack([*np.meshgrid(side, side, side, indexing="ij")], axis=-1).reshape(-1, 3) + (3.0, 0, 0)
    picture, box = LABELS.index("picture"), LABELS.index("box")
    counts = [len(sheet), len(block)]
    truth = TruePoints(np.concatenate([sheet, block]).astype(np.float32), np.repeat([picture, box], counts),
                       np.repeat([1, 2], counts))

    def score(*found):
        things = [MapObject(0, label, "", np.array(center), np.array([.6, .3, .6]), 0.0, 1.0, 100)
                  for label, center in found]
        line = score_objects(things, np.eye(4), truth, LABELS, .05)
        return line["objects"], line["objects_true"], line["object_precision"], line["object_recall"]

    there, cube = (picture, (.3, 1.1, .3)), (box, (3.3, .3, .3))
    assert score(there) == (0, 1, None, 0)
    assert score(there, cube) == (1, 1, 1, 1)
    assert score(there, there, cube) == (2, 1, .5, 1)                   # one of them is there, the other nowhere
    assert score((picture, (.3, 2.1, .3)), cube) == (2, 1, .5, 1)
    assert score((box, (.3, 1.1, .3)), cube) == (2, 1, .5, 1)


def test_loops_are_right_by_what_they_say():
    lap = room_walk(90, 3.0)                  # laps of 7 m: after two of them, at 60, 0 is seen again
    count, T = 90, lap.T_world_cam.copy()
    edges = np.array([(0, 1), (0, 60), (5, 65), (0, 15)])
    loop = np.array([False, True, True, True])
    said = np.linalg.inv(T[edges[:, 0]]) @ T[edges[:, 1]]

    def score(loop, said, metre=1.0, T_map_cam=T):
        found = FoundLoops()
        for k in range(count):
            known = (edges <= k).all(axis=1)
            found.look(k, k, GraphPicture(list(range(k + 1)), T_map_cam[:k + 1], edges[known], loop[known],
                                          said[known]))
        return score_loops(lap, found.T_i_j, found.frames.values(), metre)

    bent = T.copy()
    bent[60:, :3, 3] += (1, 0, 0)
    line = score(loop, said, T_map_cam=bent)
    assert line["loops"] == 3 and 30 <= line["revisits"] <= 45
    assert shared(lap.depth, lap.K, T, 0, [60, 15]) == [pytest.approx(.84, abs=.05), 0]
    assert line["loop_precision"] == 1        # although the map does not fulfil them
    long = said.copy()
    long[:, :3, 3] *= 3
    assert score(loop, long, metre=3.0)["loop_precision"] == 1
    assert score(loop, long)["loop_precision"] < 1
    said[2, :3, 3] += (1, 0, 0)
    wrong = score(loop, said)
    assert wrong["loop_precision"] == pytest.approx(2 / 3)
    said[3, :3, :3] = said[3, :3, :3] @ exp_so3(np.array([0, 0, np.radians(20)]))
    assert score(loop, said)["loop_precision"] == pytest.approx(1 / 3)
    assert 0 <= wrong["loop_recall"] <= 2 / wrong["revisits"]
    gap = replace(lap, T_world_cam=T.copy())
    gap.T_world_cam[3] = np.nan               # what has no true pose counts for nothing
    found = score_loops(gap, {(3, 63): said[1], (0, 60): said[1]}, range(count))
    assert found["loops"] == 1 and found["loop_precision"] == 1
    assert abs(found["revisits"] - line["revisits"]) <= 1
    none = score(loop & False, said)
    assert none["loops"] == 0 and none["loop_precision"] is None and none["loop_recall"] == 0


def test_a_place_is_recalled_by_who_comes_back_to_it():
    """Three laps, of which the second finds nothing: that the third does is no merit of it."""
    laps = room_walk(150, 5.0)
    T = laps.T_world_cam
    loops = {(k, k + 60): np.linalg.inv(T[k]) @ T[k + 60] for k in range(62, 90)}
    line = score_loops(laps, loops, range(150))
    assert line["loop_precision"] == 1 and line["loop_recall"] == pytest.approx(28 / line["revisits"])
    assert line["revisits"] > 70


def test_loops_count_as_found_though_the_map_forgets_them_and_not_when_handed_on():
    def picture(ids, *loops):
        edges = np.array(loops, int).reshape(-1, 2)
        return GraphPicture(ids, np.tile(np.eye(4), (len(ids), 1, 1)), edges, np.ones(len(edges), bool),
                            np.tile(np.eye(4), (len(edges), 1, 1)))

    found, ids = FoundLoops(), list(range(100, 140))
    for n, keyframe_id in enumerate(ids):
        found.look(keyframe_id, 2 * n, picture(ids[:n + 1], *[(3, 39)] * (n == 39)))
    ids = [*ids[10:], 140]                                            # one end of the loop is forgotten,
    found.look(140, 80, picture(ids, (0, 2), (1, 30)))                # and two turn up, one of them of the newest
    found.look(141, 82, picture([*ids, 141], (0, 2), (1, 30), (1, 10)))      # and a third, without forgetting
    assert set(found.T_i_j) == {(6, 78), (22, 80), (22, 40)}


def test_a_rendered_walk_comes_from_its_file_the_second_time(tmp_path, monkeypatch):
    options = {"length_m": .6, "cache": tmp_path, "size": (64, 48)}
    first = rendered_walk("apartment", 5, **options)
    file, = tmp_path.iterdir()
    changed = file.stat().st_mtime_ns
    again = rendered_walk("apartment", 5, odometry=True, mount=True, **options)
    assert file.stat().st_mtime_ns == changed and len(again.frames) == len(first.frames)
    assert first.frames[0].T_odom_cam is None and first.frames[0].up_cam is None
    frame = again.frames[0]
    assert frame.T_odom_cam[2, 3] == pytest.approx(frame.height_m) == pytest.approx(again.T_world_cam[0, 2, 3])
    assert again.T_world_cam[0, :3, :3] @ frame.up_cam == pytest.approx([0, 0, 1], abs=1e-6)
    with pytest.raises(InputError, match="-3"):
        rendered_walk("apartment", -3)
    monkeypatch.setattr(walks, "digest_of_code", lambda *rooms: f"another {rooms}")
    rendered_walk("apartment", 5, **options)
    assert len(list(tmp_path.iterdir())) == 2, "another renderer makes other pictures"


def test_a_walk_from_another_height_has_a_file_and_a_name_of_its_own(tmp_path):
    options = {"length_m": .6, "cache": tmp_path, "size": (64, 48), "mount": True}
    high, low = (rendered_walk("apartment", 5, height_m=height_m, **options) for height_m in (None, .1))
    assert len(list(tmp_path.iterdir())) == 2 and len(list(tmp_path.glob("*_0.1high_*"))) == 1
    assert (high.name, low.name) == ("apartment 5", "apartment 5, from 10 cm")
    assert low.frames[0].height_m == pytest.approx(.1) == pytest.approx(low.T_world_cam[0, 2, 3])
    assert low.frames[0].up_cam == pytest.approx([0, -1, 0])


def test_a_walk_among_people_has_a_file_of_its_own(tmp_path):
    options = {"length_m": .8, "cache": tmp_path, "size": (64, 48)}
    alone, among = (rendered_walk("apartment", 5, people=people, **options) for people in (0, 1))
    assert len(list(tmp_path.iterdir())) == 2 and len(list(tmp_path.glob("*_1people_*"))) == 1
    assert (alone.name, among.name) == ("apartment 5", "apartment 5, 1 people")
    assert alone.moving is None and among.moving.any() and among.moving.shape == among.depth.shape
    names = among.labels[among.moving]
    assert (names == LABELS.index("person")).all()
    again = rendered_walk("apartment", 5, people=1, **options)
    assert np.array_equal(again.moving, among.moving) and len(list(tmp_path.iterdir())) == 2
    assert all(np.array_equal(a.image, b.image) for a, b in zip(again.frames, among.frames, strict=True))
    half = walks.without(among, 1, 2, "half")
    assert np.array_equal(half.moving, among.moving[::2])


def test_people_and_what_is_kept_of_them_are_asked_for(folder, known_config):
    assert known_config("walks", "--people", "2", "--keep-moving") == (False, ["apartment 3000000058, 2 people",
                                                                               "home 3000000010, 2 people"])
    assert known_config("walks", "--walks", "1") == (True, ["apartment 3000000058"])
    kept = MapperConfig(leave_out_moving=False)
    assert walks.titled("room", False, kept) == "room, moving kept"
    assert walks.titled("room", True, kept) == "room, moving kept, chained"
    with pytest.raises(ConfigError, match="--people"):
        known_config("walk", str(folder), "--people", "1")
    assert known_config("walks", "--walks", "1", "--height", "0.12")[1] == ["apartment 3000000058, from 12 cm"]
    with pytest.raises(ConfigError, match="--height 2"):
        known_config("walks", "--height", "2")
    with pytest.raises(ConfigError, match="--height"):
        known_config("walk", str(folder), "--height", "0.2")


def test_a_page_gets_a_row_a_walk(tmp_path, monkeypatch):
    """It got the table of windows, which is empty for walks, in the place of what it held."""
    page = tmp_path / "page.md"
    page.write_text("<!-- scoreboard -->\nold\n<!-- /scoreboard -->\n")
    monkeypatch.setattr(benchmark, "NetworkPredictor", lambda config: None)
    monkeypatch.setattr(walks, "score_walks", lambda *_, **__: [{"set": "room", "intrinsics": False, "path_m": 31.0}])
    benchmark.main(["walk", str(tmp_path), "--markdown", str(page)])
    assert "| walk | path, m |" in page.read_text() and "| room | 31" in page.read_text()


@pytest.fixture
def known_config(monkeypatch):
    """What `lsm eval` asks of the mapper, whether it leaves out what moves, and the names of the walks."""
    asked = []
    monkeypatch.setattr(benchmark, "NetworkPredictor", lambda config: None)
    monkeypatch.setattr(walks, "score_walks", lambda _, orders, config, **options: asked.append(
        (config.leave_out_moving, [order.name for order in orders])) or [])

    def ask(*arguments):
        benchmark.main(arguments)
        return asked[-1]

    return ask


def test_a_change_of_the_ray_caster_is_noticed(tmp_path, monkeypatch):
    def told():
        return walks.digest_of_code("world"), walks.Kept(tmp_path, "")._file(walks.Order(None, "room"), "room")

    before, read = told(), walks.digest
    assert told() == before
    monkeypatch.setattr(walks, "digest", lambda file: "another" if file.name == "raycast.cu" else read(file))
    assert told()[0] != before[0] and told()[1] != before[1]


def test_a_change_of_the_compiled_loops_is_noticed(monkeypatch):
    before, read = walks.digest_of_code("mapping"), walks.digest
    monkeypatch.setattr(walks, "digest", lambda file: "another" if file.name.startswith("_kernels") else read(file))
    assert walks.digest_of_code("mapping") != before


def test_a_folder_is_a_walk(folder):
    found = folder_walk(folder)
    assert len(found.frames) == 12 and np.isnan(found.T_world_cam[7]).all() and found.depth.shape[1:] == walks.GRID
    assert found.labels is None and found.frames[0].K is not None
    with pytest.raises(InputError, match="nowhere"):
        folder_walk(folder / "nowhere")
    depth = folder / "depth/000003.png"
    depth.write_bytes(depth.read_bytes()[:-30])
    with pytest.raises(InputError, match="000003.png: compressed image is truncated"):
        folder_walk(folder)
    (folder / "intrinsics.txt").unlink()
    with pytest.raises(InputError, match="intrinsics.txt"):
        folder_walk(folder)


@pytest.mark.parametrize("part", ["pose", "depth"])
def test_a_folder_without_truth_is_no_walk(folder, part):
    for file in (folder / part).iterdir():
        file.unlink()
    with pytest.raises(InputError, match=f"has no {part}"):
        folder_walk(folder)


def test_a_turned_camera_of_a_folder_is_at_the_same_places_and_knows_its_up(folder):
    plain, turned = (folder_walk(folder, quarters, mount=True) for quarters in (0, 3))
    assert turned.depth.shape[1:] == walks.GRID[::-1] and turned.K[0, 2] == plain.K[1, 2]
    np.testing.assert_allclose(turned.T_world_cam[:7, :3, 3], plain.T_world_cam[:7, :3, 3])
    for found in (plain, turned):
        assert found.frames[7].up_cam is None                               # whose pose is unknown
        up = [T[:3, :3] @ frame.up_cam for frame, T in zip(found.frames[:7], found.T_world_cam, strict=False)]
        np.testing.assert_allclose(up, np.tile(up[0], (7, 1)), atol=1e-9)
        np.testing.assert_allclose(up[0], up_of(plain.T_world_cam), atol=1e-9)
    np.testing.assert_allclose(turn(3)[:3, :3] @ turned.frames[0].up_cam, plain.frames[0].up_cam, atol=1e-9)


def test_up_is_what_cameras_turn_about_on_the_side_of_their_tops():
    rng, up = np.random.default_rng(0), np.array([0.6, 0.0, 0.8])
    T = np.tile(np.eye(4), (60, 1, 1))
    for each in T:                                                          # any heading and pitch, next to no roll
        z = rng.normal(size=3)
        x = np.cross(z, up) / np.linalg.norm(np.cross(z, up))
        z /= np.linalg.norm(z)
        each[:3, :3] = np.stack([x, np.cross(z, x), z], axis=1) @ exp_so3(np.array([0, 0, rng.normal() * 0.05]))
    T[5] = np.nan
    assert up_of(T) @ up > np.cos(np.radians(2))


def test_finished_walks_are_kept_for_the_same_question(room, tmp_path):
    short = replace(room, **{name: getattr(room, name)[:10] for name in ("frames", "T_world_cam", "depth", "labels",
                                                                         "instances")})
    network = exact(room)
    network.labels, network.describe, network.reset = LABELS, None, lambda: None

    def score(*asked, weights="", chain=False):
        made = []
        order = walks.Order(lambda: made.append(1) or short, "room", asked)
        lines = walks.score_walks(network, iter([order]), chain=chain, kept=walks.Kept(tmp_path, weights),
                                  progress=False)
        return len(made), lines

    first, again, chained = score(30.0), score(30.0), score(30.0, chain=True)
    assert (first[0], again[0], chained[0]) == (1, 0, 1) and again[1] == first[1] == chained[1][:1]
    assert [line["set"] for line in chained[1]] == ["room", "room, chained"]
    assert score(60.0)[0] == 1 and score(30.0, chain=True)[0] == 0 and len(list(tmp_path.glob("*.json"))) == 3
    other = tmp_path / "other.safetensors"
    other.write_bytes(SHIPPED.read_bytes())
    assert score(30.0, weights=other)[0] == 0                                # the same, elsewhere
    save_file({}, other, metadata={"format": FORMAT, "sha256": "of others"})
    assert score(30.0, weights=other)[0] == 1


def test_what_is_kept_knows_its_files(tmp_path):
    file, folder = tmp_path / "a.npz", tmp_path / "tiles"
    folder.mkdir()
    file.write_bytes(b"one")
    (folder / "a.jpg").write_bytes(b"one")
    before = walks.digest(file), walks.digest(folder)
    file.write_bytes(b"two")
    (folder / "b.jpg").write_bytes(b"two")
    assert walks.digest(file) != before[0] and walks.digest(folder) != before[1]
    np.savetxt(folder / "pose.txt", np.eye(4))
    before = walks.digest(folder)
    np.savetxt(folder / "pose.txt", 2 * np.eye(4))
    assert walks.digest(folder) != before                    # though it is as long
    with pytest.raises(InputError, match="nothing.npz"):
        walks.digest(tmp_path / "nothing.npz")


def test_a_sequence_is_asked_for_by_what_is_in_it_and_in_which_words(folder, tmp_path):
    def asked(labels="", turned=0):
        order, = walks.walks_of(argparse.Namespace(target="walk", folder=str(folder), labels=labels, omit=0,
                                                     turned=turned, mount=False, people=0, height=None))
        return order.asked

    before, words = asked(), tmp_path / "words.yaml"
    words.write_text("labels: [floor, table]")
    assert asked() == before != asked(str(words)) and asked(turned=90) != before
    (folder / "pose/000003.txt").unlink()
    assert asked() != before


def test_a_sequence_is_mapped_again_without_some_of_its_frames(folder):
    given = argparse.Namespace(target="walk", folder=str(folder), labels="", omit=4, turned=0, mount=False, people=0,
                               height=None)
    orders = list(walks.walks_of(given))
    whole, *others = (order.make() for order in orders)
    assert [order.name.replace(whole.name, "") for order in orders] == [
        "", *(f" without {k} of 4" for k in range(1, 5))] and len({order.name for order in orders}) == 5
    stamps = [frame.stamp_ns for frame in whole.frames]
    for k, other in enumerate(others):
        left = [i for i in range(len(stamps)) if i % 4 != k]
        assert [frame.stamp_ns for frame in other.frames] == [stamps[i] for i in left]
        assert np.array_equal(other.T_world_cam, whole.T_world_cam[left], equal_nan=True) and len(other.depth) == 9


def test_medians_and_the_table():
    lines = [{"set": "a", "intrinsics": True, "ate_m": .1, "miou": .5}, {"set": "b", "intrinsics": True, "ate_m": .3},
             {"set": "c", "intrinsics": True, "ate_m": .2, "miou": None}]
    middle = median_line(lines, "median")
    assert middle["ate_m"] == pytest.approx(.2) and middle["miou"] == .5
    text = walks_markdown([*lines, middle])
    assert "| ATE, Sim(3), m | 0.100 | 0.300 | 0.200 | 0.200 |" in text and "| mIoU | 0.500 |  |  | 0.500 |" in text
    assert "loop" not in text
    assert "| walk | mIoU |" in overview_markdown(lines) and "| c |  |" in overview_markdown(lines)


def test_what_the_command_refuses():
    assert read_seed("office:12") == ("office", 12)
    for bad in ("12", "office:", "office:x"):
        with pytest.raises(ConfigError, match=bad):
            read_seed(bad)
    with pytest.raises(ConfigError, match="FOLDER"):
        benchmark.main(["walk"])
    with pytest.raises(ConfigError, match="--walks 99"):
        benchmark.main(["walks", "--walks", "99"])
    for length in ("-5", "0.1", "nan", "inf"):
        with pytest.raises(ConfigError, match=f"--length {length}"):
            benchmark.main(["walks", "--length", length])
    with pytest.raises(ConfigError, match="--odometry goes with"):
        benchmark.main(["walk", ".", "--odometry"])
    with pytest.raises(ConfigError, match="second folder my_walk goes with `walk`, not with 'walks'"):
        benchmark.main(["walks", "my_walk"])
    with pytest.raises(ConfigError, match="--omit 1"):
        benchmark.main(["walk", ".", "--omit", "1"])
    with pytest.raises(ConfigError, match="--omit"):
        benchmark.main(["walks", "--omit", "4"])
