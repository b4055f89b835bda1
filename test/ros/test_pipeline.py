"""What the worker's thread does with images and services, with a stand-in for the node and for all that it hears."""
from __future__ import annotations

import time
from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from harness import FRAME_ID
from room import FakeNetwork, frames, walk
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from test_publishers import StandIn
from test_topics import apply

from lsm_ros.config import MapperConfig
from lsm_ros.contracts import Frame
from lsm_ros.errors import AlignmentError, InputError
from lsm_ros.geometry.sim3 import UP_CV, sim3
from lsm_ros.labels import LabelSet
from lsm_ros.mapping import mapper as mapper_module
from lsm_ros.mapping import odometry as odometry_module
from lsm_ros.mapping.saved_map import FILE, write_map
from lsm_ros.ros.conversions import cloud_message, compressed_message, image_message
from lsm_ros.ros.conversions import time as ros_time
from lsm_ros.ros.diagnostics import Health
from lsm_ros.ros.intake import Work
from lsm_ros.ros.parameters import NodeConfig, NodeOptions
from lsm_ros.ros.pipeline import Pipeline
from lsm_ros.ros.publishers import Publishers
from lsm_ros.ros.queries import QueryPublisher

LABELS = LabelSet.load()
POSES = walk(60)
FILM = frames(POSES)


class Robot:
    """A pipeline and what it says: the topics `readers` are read, the next images have odometry where `wheels` is set.

    `told` is what the sender of map -> odom is told: "forget", "odometry" or "none" of a window.
    """

    def __init__(self, *readers: str):
        self.network = network = FakeNetwork(POSES, LABELS, scale=0.02, depth=0.005, pose=0.002, outliers=0.0)
        network.labels, network.reset = LABELS, lambda: None
        self.node, self.wheels, self.up_cam, self.told = StandIn(*readers), False, None, []
        self.T_odom_room = np.eye(4)
        self.warnings: list[str] = []
        self.health = Health(SimpleNamespace(warning=self.warnings.append))
        self.options = NodeOptions(NodeConfig(tf_mode="none"), MapperConfig(min_observations=1))
        inputs = SimpleNamespace(complete=self._complete, shown={})
        map_odom = SimpleNamespace(
            forget=lambda: self.told.append("forget"), begin=lambda *_: self.told.append("begin"),
            correct=lambda _, T_odom_cam: self.told.append("none" if T_odom_cam is None else "odometry"))
        self.pipeline = Pipeline(network, inputs, Publishers(self.node, LABELS, self.options.node), map_odom,
                                 QueryPublisher(self.node), self.health, self.node.get_clock(), self.options)

    def _complete(self, frame: Frame, *_) -> Frame:
        frame = replace(frame, up_cam=self.up_cam)
        pose = POSES[min(frame.stamp_ns // 100_000_000, len(POSES) - 1)]
        return replace(frame, T_odom_cam=self.T_odom_room @ pose) if self.wheels else frame

    def see(self, film, small: bool = False, frame_id: str = FRAME_ID) -> None:
        for frame in film:
            image = frame.image[::2, ::2].copy() if small else frame.image
            message = image_message(image, Header(stamp=ros_time(frame.stamp_ns), frame_id=frame_id))
            self.pipeline.handle(Work(message, None, time.perf_counter()))

    def published(self, topic: str) -> list:
        self.pipeline.publish_map()
        return self.node.said[topic]

    def counts(self) -> dict[str, int]:
        return self.health.snapshot()["counts"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> str:
    """The folder of a map of 160 x 120 images."""
    robot = Robot()
    robot.see(FILM[:12])
    return robot.pipeline.save(str(tmp_path_factory.mktemp("saved")))


def test_a_map_of_another_image_size_is_refused_with_both_sizes_and_the_present_one_stays(saved):
    robot = Robot()
    robot.see(FILM[:12], small=True)
    robot.pipeline.reset()                              # the camera is the same one
    robot.see(FILM[12:20], small=True)
    before = robot.pipeline.mapper.trajectory()
    with pytest.raises(InputError, match="the map's images are 160x120, the camera's 80x60"):
        robot.pipeline.load(saved)
    assert before and [stamp for stamp, _ in robot.pipeline.mapper.trajectory()] == [stamp for stamp, _ in before]
    robot.pipeline.reset()
    with pytest.raises(InputError, match="80x60"):
        robot.pipeline.load(saved)


@pytest.mark.parametrize("compressed", [False, True])
def test_images_of_a_12_bit_camera_are_as_bright_as_those_of_8(monkeypatch, compressed):
    robot, seen = Robot(), []
    monkeypatch.setattr(robot.pipeline._inputs, "complete", lambda frame, *_: seen.append(frame.image.max()) or frame)
    for stamp, value in enumerate((4080, 1600)):
        at, pixels = Header(stamp=ros_time(stamp), frame_id=FRAME_ID), np.full((120, 160), value, "<u2")
        message = compressed_message(cv2.imencode(".png", pixels)[1], "mono16; png compressed", at) if compressed else \
            Image(header=at, width=160, height=120, step=320, encoding="mono16", data=pixels.tobytes())
        robot.pipeline.handle(Work(message, None, time.perf_counter()))
    assert seen == [255, 100]


def test_a_wide_border_is_told_of_and_a_narrow_one_only_shown():
    for rows, told in ((4, False), (12, True)):
        film = []
        for frame in FILM[:6]:
            image = frame.image.copy()
            image[:rows] = image[-rows:] = 0
            film.append(replace(frame, image=image))
        robot = Robot()
        robot.see(film)
        share = round(100 * robot.pipeline.mapper.border)
        assert robot.pipeline.camera["border"] == f"{share}% of the image" and 100 * 2 * rows / 120 <= share
        assert [f"fills {share}% of the images" in warning for warning in robot.warnings] == [True] * told
        assert ("borders" in robot.counts()) == told
    plain = Robot()
    plain.see(FILM[:6])
    assert plain.pipeline.mapper.border == 0 and "border" not in plain.pipeline.camera


def test_a_camera_that_hangs_upside_down_is_told_of_and_the_network_sees_its_images_upright():
    robot = Robot()
    robot.see(FILM[:1])
    assert "turned" not in robot.pipeline.camera
    robot.up_cam = -UP_CV
    robot.see(FILM[1:8])
    assert robot.pipeline.camera["turned"].startswith("180 degrees clockwise")
    shown = robot.network.calls[-1].keyframes[-1].frame
    came = FILM[shown.stamp_ns // 100_000_000].image
    np.testing.assert_array_equal(shown.image, came[::-1, ::-1])
    np.testing.assert_array_equal(shown.up_cam, UP_CV)


def test_a_camera_of_another_size_than_a_map_that_was_loaded_before_it_came_begins_a_new_one_and_says_so(saved):
    robot = Robot()
    robot.pipeline.load(saved)
    robot.see(FILM[:12], small=True)
    assert robot.counts()["resolution_changes"] == robot.counts()["images_refused"] == 1
    assert robot.warnings == [
        "images_refused (1 so far): the images changed from 160x120 to 80x60; the image is left out, and the map "
        "starts again if the next one says so too",
        "resolution_changes (1 so far): the images changed from 160x120 to 80x60; the map starts again, and a saved "
        "one stays in its folder"]
    assert len(robot.pipeline.mapper.trajectory()) > 3
    same = Robot()
    same.pipeline.load(saved)
    same.see(FILM[12:20])
    assert not same.warnings and not same.pipeline.mapper.lost


def of_size(frame: Frame, height: int, width: int, stamp_ns: int | None = None) -> Frame:
    return replace(frame, image=cv2.resize(frame.image, (width, height)), stamp_ns=stamp_ns or frame.stamp_ns)


def at(stamp_s: float) -> Frame:
    return replace(FILM[20], stamp_ns=round(stamp_s * 1e9))


HOURS = 3 * 3600.0


@pytest.mark.parametrize("odd", [
    [at(0.0)], [at(0.5)], [at(HOURS)], [of_size(FILM[20], 60, 80)],
    [at(0.0), at(0.0)],                                             # a driver that has lost its clock
    [at(0.5), at(HOURS), of_size(FILM[20], 60, 80)],                # no two of them agree
    [of_size(FILM[20], 40, 400), of_size(FILM[21], 40, 400)],       # strips are mapped by nobody
    [of_size(FILM[20], 40, 400, 1), of_size(FILM[21], 40, 400, 2)]])
def test_an_odd_image_costs_itself_alone(odd):
    robot = Robot()
    robot.see(FILM[10:20])
    before = [stamp for stamp, _ in robot.pipeline.mapper.trajectory()]
    for image in odd:
        robot.see([image])
    robot.see(FILM[22:30])
    after = [stamp for stamp, _ in robot.pipeline.mapper.trajectory()]
    assert len(before) > 3 and after[:len(before)] == before and len(after) > len(before)
    assert robot.counts()["images_refused"] == len(odd) and robot.pipeline.mapper.map_id == 0
    assert not {"time_jumps_back", "resolution_changes"} & set(robot.counts())


@pytest.mark.parametrize("ahead_s", [2.0, 1800.0])
def test_a_stamp_that_strays_ahead_costs_no_map(ahead_s):
    """It may be that of the first image after a pause, so the image counts; what comes next tells."""
    robot = Robot()
    stray = FILM[20].stamp_ns * 1e-9 + ahead_s
    robot.network._poses = {n: POSES[n] for n in range(len(POSES))} | {round(10 * stray): POSES[20]}
    robot.see(FILM[10:20])
    before = [stamp for stamp, _ in robot.pipeline.mapper.trajectory()]
    robot.see([at(stray)])
    robot.see(FILM[21:30])
    after = [stamp for stamp, _ in robot.pipeline.mapper.trajectory()]
    assert len(before) > 3 and after[:len(before)] == before and after[-1] > FILM[24].stamp_ns
    assert robot.counts() == {"stray_stamps": 1} and robot.pipeline.mapper.counters.bad_stamps == 0
    robot.see(FILM[:2])
    assert robot.counts()["time_jumps_back"] == 1, "what goes back farther is another stream all the same"


@pytest.mark.parametrize(("film", "counter"), [
    (FILM[:8], "time_jumps_back"), ([of_size(frame, 60, 80) for frame in FILM[20:28]], "resolution_changes"),
    ([of_size(frame, 60, 80) for frame in FILM[:8]], "resolution_changes")])        # another recording altogether
def test_the_second_image_of_another_stream_begins_the_map_anew(film, counter):
    robot = Robot()
    robot.see(FILM[10:20])
    robot.see(film[:1])
    assert len(robot.pipeline.mapper.trajectory()) > 3 and counter not in robot.counts()
    robot.see(film[1:2])
    assert [stamp for stamp, _ in robot.pipeline.mapper.trajectory()] == [film[1].stamp_ns]
    robot.see(film[2:])
    assert robot.counts()[counter] == robot.counts()["images_refused"] == 1
    assert len(robot.pipeline.mapper.trajectory()) > 2


def test_after_a_long_pause_the_map_goes_on_with_the_second_image():
    robot = Robot()
    robot.see(FILM[10:20])
    before = len(robot.pipeline.mapper.trajectory())
    robot.see([at(HOURS), at(HOURS + 0.1), replace(FILM[22], stamp_ns=at(HOURS + 0.2).stamp_ns)])
    assert robot.counts()["images_refused"] == 1 and robot.pipeline.mapper.map_id == 0
    assert len(robot.pipeline.mapper.trajectory()) >= before and robot.pipeline.mapper.counters.frames == 12


def test_a_strip_as_the_first_image_decides_no_size():
    robot = Robot()
    robot.see([of_size(FILM[0], 40, 400)])
    robot.see(FILM[1:9])
    assert robot.counts()["images_refused"] == robot.pipeline.mapper.counters.bad_images == 1
    assert robot.pipeline.mapper.counters.frames == 9


def test_the_increments_are_the_map_whatever_the_parameters():
    robot = Robot("map_cloud", "map_cloud_updates")
    robot.see(FILM[:20])
    cells, sizes = {}, []
    for sightings in (1, 3, 2, 1):
        wanted = replace(robot.options.mapper, min_observations=sightings)
        robot.pipeline.configure(replace(robot.options, mapper=wanted))
        increments = robot.published("map_cloud_updates")
        for message in increments:
            apply(cells, message)
        increments.clear()
        whole = {}
        apply(whole, robot.node.said["map_cloud"][-1])
        assert cells == whole
        sizes.append(len(whole))
    assert sizes[1] < sizes[2] < sizes[3] == sizes[0]


def test_who_comes_later_has_the_map_by_the_increments_alone():
    robot = Robot("map_cloud_updates")
    publishers, increments, voxels = robot.pipeline._publishers, robot.node.said["map_cloud_updates"], {}

    def hear() -> None:
        increments.clear()
        for message in robot.published("map_cloud_updates"):
            apply(voxels, message)
        whole = {}
        apply(whole, cloud_message(robot.pipeline.mapper.map_cloud(), Header()))
        assert voxels == whole and len(whole) > 500

    robot.see(FILM[:10])
    hear()
    assert not publishers.map_is_wanted()
    voxels = {}
    robot.node.readers *= 2                             # another one comes, while the camera stands
    assert publishers.map_is_wanted()
    hear()
    assert not publishers.map_is_wanted()
    robot.see(FILM[10:14])
    hear()
    assert all(message.width for message in increments), "both have the map"
    robot.pipeline.set_classes(["floor", "wall", "sofa"])
    hear()
    robot.pipeline.mapper.settle()
    publishers.map_changed(None)                        # the stamp of before, as after save_map
    hear()
    robot.node.readers.pop()
    assert not publishers.map_is_wanted()
    voxels = {}
    robot.node.readers *= 2
    robot.see(FILM[14:18])
    hear()


def test_a_reader_is_served_when_nobody_watched_him_come_and_when_the_map_could_not_be_made(monkeypatch):
    robot = Robot("map_cloud_updates")
    publishers = robot.pipeline._publishers
    robot.see(FILM[:10])
    with monkeypatch.context() as patch:
        patch.setattr(robot.pipeline.mapper, "take_changes", lambda anew: np.zeros(-1))
        robot.pipeline.publish_map()
    assert robot.counts()["worker_exceptions"] == 1 and publishers.map_is_wanted()
    assert robot.published("map_cloud_updates")[-1].width and not publishers.map_is_wanted()
    publishers.begin_anew()                             # the node was inactive: another may have come for who went
    assert publishers.map_is_wanted()



def test_another_map_forgets_the_transform_of_the_one_before(monkeypatch):
    """The first window of the other one has no odometry to replace it."""
    monkeypatch.setattr(mapper_module, "GIVE_UP_AFTER", 4)
    robot = Robot()
    robot.wheels = True
    robot.see(FILM[:16])
    assert robot.told[0] == "forget" and {"odometry"} <= set(robot.told[1:]) <= {"odometry", "begin"}
    robot.told.clear()
    robot.wheels, robot.network._nonsense = False, range(10_000)
    for number in range(16, 60):
        if not robot.pipeline.mapper.counters.new_maps:
            robot.see(FILM[number:number + 1])
    robot.network._nonsense = ()
    robot.see(FILM[number:])
    assert robot.pipeline.mapper.counters.new_maps == 1
    assert robot.told[:2] == ["forget", "none"]


def test_odometry_that_begins_anew_under_a_robot_that_stands_moves_it_nowhere():
    """map -> odom of before would put it as far off as the odometry has jumped, until it moves and makes a window."""
    robot = Robot()
    robot.wheels = True
    robot.see(FILM)
    rest = [replace(FILM[-1], stamp_ns=FILM[-1].stamp_ns + n * 100_000_000) for n in range(1, 6)]
    robot.see(rest[:2])
    assert robot.pipeline.state == "still"
    robot.told.clear()
    robot.T_odom_room = sim3(np.eye(3), np.array([-7.0, 3.0, 0.0]))
    robot.see(rest[2:])
    assert robot.pipeline.mapper.counters.odometry_jumps == 1 and robot.pipeline.state == "still"
    assert robot.told == ["odometry", "begin", "begin"]
    assert robot.counts()["odometry_jumps"] == 1 and "more than 2 m/s or 4 rad/s" in robot.warnings[-1]
    robot.told.clear()
    robot.T_odom_room = np.eye(4)               # in a pause of ten seconds, after which no speed tells
    robot.see([replace(frame, stamp_ns=frame.stamp_ns + 10**10) for frame in rest[2:]])
    assert robot.pipeline.state == "still" and robot.told == ["odometry", "begin", "begin"]


def test_a_fast_robot_keeps_its_place_by_odometry_while_windows_fit_nowhere(monkeypatch):
    """Of limits that its ordinary way of 1 m/s is beyond, as one of 3 m/s is beyond the real ones."""
    monkeypatch.setattr(odometry_module, "FASTEST", (0.5, 4.0))
    monkeypatch.setattr(odometry_module, "SLACK", (0.02, 0.2))
    robot = Robot()
    robot.wheels = True
    robot.see(FILM[:20])
    assert robot.pipeline.mapper.counters.odometry_jumps > 5, "it is first heard of in full way"
    robot.told.clear()
    jumps = robot.pipeline.mapper.counters.odometry_jumps
    robot.network._nonsense = range(10_000)
    robot.see(FILM[20:24])
    counters = robot.pipeline.mapper.counters
    assert counters.carried_windows and counters.odometry_jumps == jumps and "forget" not in robot.told


@pytest.mark.parametrize("dark", [False, True])
def test_odometry_that_begins_anew_where_no_window_is_mapped_has_no_place_in_the_map(dark):
    robot = Robot()
    robot.wheels = True
    robot.see(FILM[:12])
    robot.told.clear()
    robot.T_odom_room = sim3(np.eye(3), np.array([-7.0, 3.0, 0.0]))
    robot.network._nonsense = range(10_000)
    unseen = [replace(frame, image=np.zeros_like(frame.image)) for frame in FILM[12:15]] if dark else FILM[12:13]
    robot.see(unseen)
    assert robot.pipeline.state == ("dark" if dark else "refused") and robot.told == ["forget"]
    robot.network._nonsense = ()
    robot.see(FILM[15:24])
    assert robot.told[-1] == "odometry" and robot.told.count("forget") == 1


def test_a_map_that_is_given_up_is_not_shown_any_longer(monkeypatch):
    monkeypatch.setattr(mapper_module, "GIVE_UP_AFTER", 4)
    robot = Robot("map_cloud")
    robot.see(FILM[:16])
    assert robot.published("map_cloud")[-1].width and robot.pipeline.world["keyframes"]
    robot.told.clear()
    robot.network._nonsense = range(10_000)
    film = iter(FILM[16:])
    while not robot.pipeline.mapper.counters.new_maps:
        robot.see([next(film)])
    assert robot.published("map_cloud")[-1].width == 0 and robot.pipeline.world == {} and robot.told == ["forget"]


def test_a_loaded_map_is_told_of_before_the_camera_has_found_itself_in_it(saved):
    robot = Robot()
    robot.pipeline.load(saved)
    assert robot.pipeline.world["keyframes"] == robot.pipeline.mapper.keyframes > 5 and robot.pipeline.world["on_floor"]
    assert robot.pipeline.world["map_id"] == robot.pipeline.mapper.map_id
    robot.pipeline.reset()
    assert robot.pipeline.world == {}


def test_a_map_that_lies_beyond_all_voxels_is_refused_and_the_present_one_stays(tmp_path):
    robot = Robot("map_cloud")
    robot.see(FILM[:14])
    mapper = robot.pipeline.mapper
    before, width = mapper.trajectory(), robot.published("map_cloud")[-1].width
    far, state = np.eye(4), mapper.state()
    far[0, 3] = 60e3                                    # metres; a key has room for 52 km
    graph = state.graph.copy()
    graph.move(far)
    write_map(tmp_path / FILE, replace(state, graph=graph))
    with pytest.raises(AlignmentError, match="voxels from the map's origin"):
        robot.pipeline.load(str(tmp_path))
    assert [stamp for stamp, _ in mapper.trajectory()] == [stamp for stamp, _ in before]
    assert len(mapper.map_cloud()) == width and robot.pipeline.state != "waiting" and robot.pipeline.world
    robot.see(FILM[14:20])
    assert mapper.keyframes > len(before) and mapper.counters.refused_windows == 0


def test_who_loads_a_map_of_more_keyframes_than_are_kept_is_told(tmp_path):
    robot = Robot()
    robot.see(FILM)
    folder, count = robot.pipeline.save(str(tmp_path)), robot.pipeline.mapper.keyframes
    assert robot.pipeline.load(folder).endswith(f" voxels, {len(LABELS)} labels")
    robot.pipeline.configure(replace(robot.options, mapper=replace(robot.options.mapper, max_keyframes=20)))
    answer = robot.pipeline.load(folder)
    assert answer.startswith(f"{count} keyframes") and "all but mapper.max_keyframes = 20 of them are forgott" in answer
    robot.see(FILM[:4])
    assert robot.pipeline.mapper.keyframes <= 20 < count


def test_what_was_mapped_before_the_camera_was_given_up_is_saved_until_another_map_begins(tmp_path):
    robot = Robot("map_cloud")
    robot.see(FILM[:12])
    mapper = robot.pipeline.mapper
    before = mapper.keyframes
    mapper._atlas.put_away(mapper.map_id, mapper.state())                   # as after 25 refused windows
    mapper._begin()
    assert not mapper.keyframes
    robot.pipeline.save(str(tmp_path / "first"))
    assert mapper.keyframes == before and robot.pipeline.state == "lost" and not robot.warnings
    assert robot.pipeline.world["keyframes"] == before and robot.published("map_cloud")
    other = Robot()
    other.pipeline.load(str(tmp_path / "first"))
    assert other.pipeline.mapper.keyframes == before

    mapper._atlas.put_away(mapper.map_id, mapper.state())
    mapper._begin()
    robot.see(FILM[20:23])
    assert 0 < mapper.keyframes < before
    robot.pipeline.save(str(tmp_path / "second"))
    assert f"{mapper.keyframes} keyframes; one of {before} is not" in robot.warnings[-1]
    assert robot.counts()["maps_unsaved"] == 1


def test_a_camera_that_is_lost_and_stands_is_lost(monkeypatch, saved):
    robot = Robot()
    robot.pipeline.load(saved)
    with monkeypatch.context() as standing:
        standing.setattr(robot.pipeline.mapper, "_keep", lambda frame: None)
        robot.see(FILM[:2])
    assert robot.pipeline.state == "lost"
    robot.see(FILM[2:8])                                # found again
    robot.see([replace(FILM[7], stamp_ns=FILM[8].stamp_ns)])
    assert robot.pipeline.state == "still"


def test_an_image_that_is_refused_does_not_keep_the_transform_of_a_robot_at_rest_from_beginning():
    robot = Robot()
    robot.see(FILM[:1])
    rest = replace(FILM[0], stamp_ns=FILM[0].stamp_ns + 20_000_000)
    robot.told.clear()
    robot.see([rest, rest, replace(rest, stamp_ns=rest.stamp_ns + 20_000_000)])         # one of them twice
    assert robot.told == ["begin", "begin"] and robot.counts()["images_refused"] == 1


def test_the_answer_to_a_query_has_the_stamp_of_the_newest_image_or_of_a_loaded_map(saved):
    robot, stamps = Robot(), []
    robot.pipeline._answers = SimpleNamespace(publish=lambda result, stamp, frame: stamps.append(stamp),
                                              forget=lambda: None)
    robot.pipeline.load(saved)
    newest = robot.pipeline.mapper.trajectory()[-1][0]
    robot.pipeline.query("floor", 0.0)
    robot.see(FILM[12:20])
    robot.pipeline.query("floor", 0.0)
    assert 0 < newest <= FILM[11].stamp_ns and stamps == [newest, FILM[19].stamp_ns]


def test_the_answer_to_a_query_goes_with_the_map_that_was_asked(monkeypatch, saved):
    robot = Robot()
    widths = robot.node.said["query_cloud"]

    def asked() -> None:
        robot.pipeline.query("floor", 0.0)
        assert widths[-1].width > 100

    robot.see(FILM[:12])
    asked()
    robot.see(FILM[12:16])
    robot.pipeline.set_classes(["floor", "wall"])
    assert len(widths) == 1, "the map is the same one"
    robot.pipeline.reset()
    assert [message.width for message in widths[1:]] == [0]
    robot.pipeline.reset()
    assert len(widths) == 2, "nobody has asked since"
    robot.pipeline.load(saved)
    asked()
    robot.pipeline.load(saved)
    assert widths[-1].width == 0
    asked()
    mapper = robot.pipeline.mapper
    known = mapper.keyframes
    robot.see(FILM[12:20])
    assert mapper.keyframes > known and widths[-1].width, "the camera has found itself in the map that was asked"
    monkeypatch.setattr(mapper, "map_id", mapper.map_id + 1)                # as of maps that are joined
    robot.see(FILM[20:26])
    assert widths[-1].width == 0


def test_images_without_a_frame_are_mapped_and_told():
    """Their clouds have none, either, and Nav2 drops those without a word."""
    robot = Robot("obstacle_cloud")
    robot.see(FILM[:4], frame_id="")
    assert len(robot.node.said["obstacle_cloud"]) == robot.counts()["frame_ids_missing"] > 0
    assert "no frame_id" in robot.warnings[0]
    named = Robot()
    named.see(FILM[:4])
    assert "frame_ids_missing" not in named.counts()


def test_a_frame_with_a_leading_slash_is_sent_without():
    """ROS 1 and some drivers write it so; tf2 throws it out, so nobody could use the clouds or the TF."""
    robot = Robot("obstacle_cloud", "/tf")
    robot.pipeline.configure(replace(robot.options, node=replace(robot.options.node, tf_mode="leaf")))
    robot.see(FILM[:4], frame_id=f"/{FRAME_ID}")
    assert {cloud.header.frame_id for cloud in robot.node.said["obstacle_cloud"]} == {FRAME_ID}
    assert {edge.header.frame_id for message in robot.node.said["/tf"] for edge in message.transforms} == {FRAME_ID}
    assert robot.pipeline.camera["frame_id"] == FRAME_ID


def test_other_words_keep_the_distances_of_objects():
    robot = Robot("label_markers")
    robot.see(FILM[:20])
    for words in ([], [name for name in LABELS.names if name != "bed"]):
        robot.pipeline.set_classes(words)
        names = [marker.text for marker in robot.published("label_markers")[-1].markers if marker.text]
        assert names and all(name.endswith(" m") for name in names), "labels have changed, the camera has not moved"
