"""Recordings, written by us and read by others, and the other way round."""
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from mcap_ros2.reader import read_ros2_messages
from rosbags.rosbag2 import StoragePlugin, Writer

from lsm_ros.data import recording as recording_module
from lsm_ros.data.messages import LEGEND_FIELDS
from lsm_ros.data.recording import RecordingWriter, read_messages, ros_types
from lsm_ros.data.sequences import open_sequence
from lsm_ros.data.topics import is_rectified
from lsm_ros.errors import InputError, OutputError
from lsm_ros.geometry.sim3 import exp

K = np.array([[50.0, 0, 32], [0, 50, 24], [0, 0, 1]])
T_WORLD_CAM = exp(np.array([1.0, -2.0, 0.5, 0.3, -0.2, 2.0]))


def picture(index=0):
    image = np.full((48, 64, 3), 60, np.uint8)
    image[..., 0] = 20 * index
    return image


@pytest.fixture
def bag(tmp_path):
    """Four images with the truth of the second one written after it, and of the third one before it."""
    depth = np.full((24, 32), 1.2345, np.float32)
    depth[0, 0] = np.nan
    with RecordingWriter(tmp_path / "walk") as writer:
        writer.write_camera_info(0, K, 64, 48)
        for index in range(4):
            stamp_ns = 1_700_000_000_123_456_789 + index * 50_000_000
            if index == 2:
                writer.write_truth_labels(stamp_ns, np.full((24, 32), 39, np.uint16))
            writer.write_image(stamp_ns, picture(index), quality=95)
            if index == 1:
                writer.write_truth_pose(stamp_ns, T_WORLD_CAM)
                writer.write_truth_depth(stamp_ns, depth)
    return tmp_path / "walk"


def test_depth_that_is_none_is_unknown(tmp_path):
    with RecordingWriter(tmp_path / "bag") as writer:
        writer.write_image(1, np.zeros((48, 64, 3), np.uint8))
        writer.write_truth_depth(1, np.tile([2.0, -1, np.nan, np.inf, -np.inf, 0, 66, 65.5], (48, 8)))
    (frame,) = open_sequence(tmp_path / "bag")
    np.testing.assert_array_equal(frame.depth[0, :8], np.float32([2, *[np.nan] * 6, 65.5]))


def test_written_and_read(bag):
    sequence = open_sequence(bag)
    frames = list(sequence)
    assert sequence.length == len(frames) == 4 and sequence.skipped == 0
    assert frames[0].frame.stamp_ns == 1_700_000_000_123_456_789
    np.testing.assert_allclose(frames[0].frame.K, K)
    assert np.abs(frames[3].frame.image.astype(int) - picture(3)).max() < 8
    np.testing.assert_allclose(frames[1].T_world_cam, T_WORLD_CAM, atol=1e-12)
    assert np.isnan(frames[1].depth[0, 0]) and np.nanmax(np.abs(frames[1].depth - 1.2345)) < 0.0006
    assert (frames[2].labels == 39).all() and frames[1].labels is None
    assert frames[0].depth is None and frames[2].T_world_cam is None


@pytest.mark.parametrize("source", ["walk", "walk/walk.mcap"])
def test_stride_and_single_files(bag, source):
    stamps = [item.frame.stamp_ns for item in open_sequence(bag.parent / source, stride=2, intrinsics=None)]
    assert len(stamps) == 2 and stamps[1] - stamps[0] == 100_000_000


def test_another_reader_understands_it(bag):
    messages = list(read_ros2_messages(str(bag / "walk.mcap")))
    pose = next(m.ros_msg for m in messages if m.channel.topic == "/truth/pose")
    assert pose.header.frame_id == "truth_map" and pose.pose.position.x == T_WORLD_CAM[0, 3]
    info = next(m.ros_msg for m in messages if m.channel.topic == "/camera/camera_info")
    assert (info.width, info.k[2], info.p[6]) == (64, 31.5, 23.5)      # ROS counts pixel centres from 0
    images = [m.ros_msg for m in messages if m.channel.topic == "/camera/image_raw/compressed"]
    assert len(images) == 4 and images[1].format == "jpeg" and images[1].header.stamp.nanosec == 173_456_789


def test_metadata_is_what_ros2_bag_reads(bag):
    told = yaml.safe_load((bag / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    assert (told["version"], told["storage_identifier"], told["relative_file_paths"]) == (8, "mcap", ["walk.mcap"])
    topics = {item["topic_metadata"]["name"]: item for item in told["topics_with_message_count"]}
    assert topics["/camera/image_raw/compressed"]["message_count"] == 4
    assert isinstance(topics["/truth/pose"]["topic_metadata"]["offered_qos_profiles"], str)


def test_the_legend_is_read_by_our_own_definition():
    text = (Path(__file__).parents[2] / "msg/LabelLegend.msg").read_text()
    assert [line for line in text.splitlines() if line and not line.startswith("#")] == LEGEND_FIELDS.splitlines()


def test_a_definition_that_a_recording_brings_along_is_not_used(tmp_path):
    with RecordingWriter(tmp_path / "out") as writer:
        writer.register_type("some_msgs/msg/Other", "uint16[] ids\n")
        writer._write_message("/other", "some_msgs/msg/Other", 5, writer._types.types["some_msgs/msg/Other"](
            np.array([3], np.uint16)))
    with pytest.raises(InputError, match="some_msgs/msg/Other"):
        list(read_messages(tmp_path / "out", ["/other"]))


def test_messages_of_our_own_and_latched_topics(tmp_path):
    with RecordingWriter(tmp_path / "out") as writer:
        writer.register_type("lsm_ros/msg/Tiny", "uint16[] ids\nstring[] names\nstd_msgs/ColorRGBA[] colors\n")
        writer.add_topic("/lsm/legend", "lsm_ros/msg/Tiny", latched=True)
        store = writer._types
        tiny = store.types["lsm_ros/msg/Tiny"](np.array([3], np.uint16), ["door"], [])
        writer.write("/lsm/legend", 5, bytes(store.serialize_cdr(tiny, "lsm_ros/msg/Tiny")))
    (read,) = read_ros2_messages(str(tmp_path / "out/out.mcap"))
    assert list(read.ros_msg.ids) == [3] and read.ros_msg.names == ["door"]
    told = yaml.safe_load((tmp_path / "out/metadata.yaml").read_text())["rosbag2_bagfile_information"]
    qos = yaml.safe_load(told["topics_with_message_count"][0]["topic_metadata"]["offered_qos_profiles"])
    assert qos[0]["durability"] == 1        # RMW_QOS_POLICY_DURABILITY_TRANSIENT_LOCAL


def test_an_interrupted_recording_is_whole(tmp_path):
    with pytest.raises(KeyboardInterrupt), RecordingWriter(tmp_path / "cut") as writer:
        writer.write_image(1, picture(1))
        raise KeyboardInterrupt
    assert len(list(open_sequence(tmp_path / "cut"))) == 1


def test_writer_says_what_is_wrong(bag, tmp_path):
    with pytest.raises(OutputError, match="exists already"):
        RecordingWriter(bag)
    with RecordingWriter(tmp_path / "new") as writer:
        with pytest.raises(OutputError, match="'lsm_ros/msg/Unknown'"):
            writer.add_topic("/x", "lsm_ros/msg/Unknown")
        with pytest.raises(OutputError, match="label 300"):
            writer.write_truth_labels(0, np.full((2, 2), 300))
        writer.write_image(0, picture())


def write_raw(folder: Path, topics: list[str] | dict[str, str], encoding="bgr8", step=192, k=K, width=64):
    """A SQLite bag by rosbags itself: sensor_msgs/Image on every topic, and a CameraInfo with distortion.

    `topics` may tell the frame_id of each.
    """
    store = ros_types()
    kinds = store.types
    roi = kinds["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
    with Writer(folder, version=9, storage_plugin=StoragePlugin.SQLITE3) as writer:
        for topic in topics:
            frame_id = topics[topic] if isinstance(topics, dict) else "cam"
            header = kinds["std_msgs/msg/Header"](kinds["builtin_interfaces/msg/Time"](7, 8), frame_id)
            info = kinds["sensor_msgs/msg/CameraInfo"](
                header, 48, width, "plumb_bob", np.array([0.2, 0, 0, 0, 0]), k.ravel(), np.eye(3).ravel(),
                np.zeros(12), 0, 0, roi)
            kind = "sensor_msgs/msg/CameraInfo" if topic.endswith("camera_info") else "sensor_msgs/msg/Image"
            message = info if kind.endswith("Info") else kinds[kind](header, 48, 64, encoding, 0, step,
                                                                     picture(2)[..., ::-1].ravel())
            writer.write(writer.add_connection(topic, kind, typestore=store), 9,
                         bytes(store.serialize_cdr(message, kind)))
    return folder


def test_raw_images_of_a_sqlite_bag_are_rectified(tmp_path):
    (item,) = open_sequence(write_raw(tmp_path / "raw", ["/cam/image_raw", "/cam/camera_info"]))
    assert item.frame.stamp_ns == 7_000_000_008
    np.testing.assert_array_equal(item.frame.image, picture(2))
    assert not np.allclose(item.frame.K, K)             # the camera without its distortion is another one


@pytest.mark.parametrize(("topic", "told", "changes"), [
    ("/cam/image_rect", "P is zero", {}),
    ("/cam/image_raw", "not finite", {"k": K * np.nan}), ("/cam/image_raw", "of a 128x48 image", {"width": 128})])
def test_a_camera_info_that_cannot_be_used_is_told_once_and_its_images_are_read(tmp_path, caplog, topic, told, changes):
    sequence = open_sequence(write_raw(tmp_path / "raw", [topic, "/cam/camera_info"], **changes))
    (item,) = sequence
    assert item.frame.K is None
    np.testing.assert_array_equal(item.frame.image, picture(2))
    assert caplog.text.count(told) == 1 and "intrinsics are taken for unknown" in caplog.text


@pytest.mark.parametrize(("topic", "rectified"), [
    ("/director/image_raw", False), ("/cam/image_rect", True), ("/cam/image_rect_color/compressed", True),
    ("/zed/rgb/rect/image", True)])
def test_the_name_tells_rectified_images(topic, rectified):
    assert is_rectified(topic) == rectified


def test_the_image_topic_is_chosen_or_asked_for(tmp_path):
    bag = write_raw(tmp_path / "stereo", ["/left/image", "/right/image", "/left/depth/image", "/right/camera_info"])
    with pytest.raises(InputError, match="choose one of /left/image, /right/image; its topics: .*CameraInfo"):
        open_sequence(bag)
    with pytest.raises(InputError, match="no image topic '/up'"):
        open_sequence(bag, image_topic="/up")
    assert open_sequence(bag, image_topic="/right/image").length == 1
    assert open_sequence(bag, image_topic="right/image").image_topic == "/right/image"
    with pytest.raises(InputError, match="no image topic 'image'; its topics: /left/depth/image .*, /left/image "):
        open_sequence(bag, image_topic="image")
    with pytest.raises(InputError, match="no image topic in .*its topics: /cam/camera_info"):
        open_sequence(write_raw(tmp_path / "blind", ["/cam/camera_info"]))
    oak = write_raw(tmp_path / "oak", ["/depthai/rgb/image"])
    with pytest.raises(InputError, match="is surely a camera's, choose one of /depthai/rgb/image; its topics"):
        open_sequence(oak)
    assert open_sequence(oak, image_topic="/depthai/rgb/image").length == 1
    of_the_node = write_raw(tmp_path / "demo", ["/cam/image", "/lsm/segmentation/mask", "/lsm/segmentation/confidence",
                                                "/lsm/segmentation/moving"])
    assert open_sequence(of_the_node).image_topic == "/cam/image"


@pytest.mark.parametrize("other", ["image_raw/compressedDepth", "image_raw/zstd", "image_raw/theora",
                                   "image_raw/ffmpeg", "Depth/image"])
def test_other_transports_of_an_image_are_no_second_camera(tmp_path, other):
    with RecordingWriter(tmp_path / "all") as writer:
        for topic in ("/camera/image_raw/compressed", f"/camera/{other}"):
            writer.write_image(1, picture(), topic=topic)
    assert open_sequence(tmp_path / "all").image_topic == "/camera/image_raw/compressed"


@pytest.mark.parametrize(("sent", "silent"), [("/left/image/compressed", "/right/image/compressed"),
                                              ("/cam/image", "/cam/image/compressed"),
                                              ("/cam/image/compressed", "/cam/image")])
def test_a_topic_without_messages_is_no_second_camera(tmp_path, sent, silent):
    """As `ros2 bag record -a` leaves them of a camera that offers more than it sends."""
    with RecordingWriter(tmp_path / "all") as writer:
        writer.add_topic(silent, recording_module.COMPRESSED_IMAGE)
        writer.write_image(1, picture(), topic=sent)
    sequence = open_sequence(tmp_path / "all")
    assert (sequence.image_topic, sequence.length) == (sent, 1)


@pytest.mark.parametrize(("topics", "calibrated", "told"), [
    ({"/front/image": "front", "/rear/camera_info": "rear"}, False, "there are /rear/camera_info"),
    ({"/front/image": "", "/rear/camera_info": ""}, False, "there are /rear/camera_info"),
    ({"/cam/image": "cam", "/lsm/depth/camera_info": "cam"}, False, ""),
    ({"/image": "front", "/front/camera_info": "front", "/rear/camera_info": "rear"}, True, ""),
    ({"/cam/image": "cam", "/cam/camera_info": "", "/other/camera_info": "cam"}, True, "")])
def test_the_camera_info_is_of_the_same_camera(tmp_path, caplog, topics, calibrated, told):
    (item,) = open_sequence(write_raw(tmp_path / "bag", topics))
    assert (item.frame.K is not None) == calibrated
    assert told in caplog.text and bool(told) == bool(caplog.text)


def test_bad_encoding_is_named(tmp_path):
    with pytest.raises(InputError, match="none of the 1 images on /cam/image .*'nv21'"):
        list(open_sequence(write_raw(tmp_path / "nv", ["/cam/image"], encoding="nv21")))


def test_a_compressed_mosaic_is_in_colour(tmp_path):
    mosaic = np.full((48, 64), 40, np.uint8)
    mosaic[::2, ::2] = 200                              # red, in rggb
    png = recording_module.encode_image(".png", mosaic)
    with RecordingWriter(tmp_path / "walk") as writer:
        writer._write_compressed(recording_module.IMAGE_TOPIC, 1, png, "bayer_rggb8; png compressed ")
    (item,) = open_sequence(tmp_path / "walk")
    assert (item.frame.image == (200, 40, 40)).all()


def test_a_topic_without_images_is_named(tmp_path):
    with RecordingWriter(tmp_path / "walk") as writer:
        writer.add_topic("/cam/image", recording_module.IMAGE)
    with pytest.raises(InputError, match="no image was recorded on /cam/image of .*walk$"):
        list(open_sequence(tmp_path / "walk"))


@pytest.mark.parametrize("name", ["walk #1", "what?", "100%41"])
def test_a_path_that_sqlite_takes_for_a_query_is_told(tmp_path, name):
    write_raw(tmp_path / "plain", ["/cam/image"]).rename(tmp_path / name)
    for path in (tmp_path / name, tmp_path / name / "plain.db3"):
        with pytest.raises(InputError, match="no .db3 file whose path holds #, [?] or %"):
            open_sequence(path)


def test_a_damaged_image_is_skipped(tmp_path):
    jpeg = cv2.imencode(".jpg", picture(1))[1].tobytes()
    with RecordingWriter(tmp_path / "walk") as writer:
        for stamp_ns, data in ((1, jpeg), (2, jpeg[:-30]), (3, jpeg)):
            writer.write_image_jpeg(stamp_ns, data)
    sequence = open_sequence(tmp_path / "walk")
    assert [item.frame.stamp_ns for item in sequence] == [1, 3] and sequence.skipped == 1


def test_an_image_whose_truth_is_damaged_is_given_without_it(tmp_path, caplog):
    with RecordingWriter(tmp_path / "walk") as writer:
        for stamp_ns in (1, 2, 3):
            writer.write_image(stamp_ns, picture(1))
            writer.write_truth_pose(stamp_ns, T_WORLD_CAM)
            depth = recording_module.encode_image(".png", np.full((48, 64), 1000, np.uint16))
            writer._write_compressed(recording_module.TRUTH_DEPTH_TOPIC, stamp_ns,
                                     depth if stamp_ns == 2 else depth[:-30], "png")
    items = list(open_sequence(tmp_path / "walk"))
    assert [item.frame.stamp_ns for item in items] == [1, 2, 3]
    known = [(item.depth is not None, item.T_world_cam is not None) for item in items]
    assert known == [(False, False), (True, True), (False, False)]
    (told,) = caplog.messages
    assert "walk: truth of the image at 1 ns: compressed image is truncated" in told


def test_damaged_files(bag):
    file = bag / "walk.mcap"
    whole = file.read_bytes()
    file.write_bytes(whole[:len(whole) // 2])
    with pytest.raises(InputError, match="can't be read: .*mcap recover"):
        open_sequence(file)
    file.write_bytes(b"")
    with pytest.raises(InputError, match="can't be read"):
        open_sequence(bag)
    (bag / "metadata.yaml").unlink()
    (bag / "more.mcap").touch()
    with pytest.raises(InputError, match="2 files and no metadata.yaml; `ros2 bag reindex"):
        open_sequence(bag)


def test_a_message_of_zeros_is_damage(bag):
    file = bag / "walk.mcap"
    whole = bytearray(file.read_bytes())
    start = whole.index(b"jpeg\0")
    whole[start - 40:start + 20] = bytes(60)
    file.write_bytes(whole)
    with pytest.raises(InputError, match="is damaged|none of"):
        frames = list(open_sequence(bag))
        assert len(frames) < 4, "a recording with zeros in it was read as if it were whole"
        raise InputError("none of")


def test_no_space_left(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    with RecordingWriter(tmp_path / "out") as writer:
        writer.write_image(0, picture())
        monkeypatch.setattr(recording_module.Writer, "write", full)
        with pytest.raises(OutputError, match="No space left"):
            writer.write_image(1, picture())
        monkeypatch.undo()


def test_a_recording_of_a_12_bit_camera_is_as_bright_as_one_of_8(tmp_path):
    store = ros_types()
    kinds = store.types
    header = kinds["std_msgs/msg/Header"](kinds["builtin_interfaces/msg/Time"](7, 8), "cam")
    with RecordingWriter(tmp_path / "bag") as writer:
        for value in (4080, 1600):
            data = np.full((48, 64), value, "<u2").ravel().view(np.uint8)
            writer._write_message("/cam/image_raw", recording_module.IMAGE, 9, kinds[recording_module.IMAGE](
                header, 48, 64, "mono16", 0, 128, data))
    assert [item.frame.image.max() for item in open_sequence(tmp_path / "bag")] == [255, 100]
