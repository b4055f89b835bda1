"""Every kind of source, made small on the spot, and what happens with damaged ones."""
import cv2
import numpy as np
import pytest

from lsm_ros.data.calibration import from_opencv, to_opencv
from lsm_ros.data.recording import RecordingWriter
from lsm_ros.data.sequences import open_sequence
from lsm_ros.errors import InputError

K = np.array([[50.0, 0, 31.5], [0, 50, 23.5], [0, 0, 1]])


def picture(index):
    """(48, 64, 3) RGB whose red tells the index."""
    image = np.full((48, 64, 3), 60, np.uint8)
    image[..., 0] = 20 * index
    return image


def write_folder(folder, count=4, suffix=".png"):
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        cv2.imwrite(str(folder / f"frame{index}{suffix}"), picture(index)[..., ::-1])
    return folder


@pytest.fixture
def truth(tmp_path):
    """A folder of the truth layout with 3 frames."""
    write_folder(tmp_path / "color", 3)
    for kind in ("depth", "pose", "label"):
        (tmp_path / kind).mkdir()
    np.savetxt(tmp_path / "intrinsics.txt", K)
    for index in range(3):
        pose = np.eye(4)
        pose[0, 3] = index
        np.savetxt(tmp_path / f"pose/frame{index}.txt", pose)
        cv2.imwrite(str(tmp_path / f"depth/frame{index}.png"), np.array([[0, 1000 + index] * 32] * 48, np.uint16))
        cv2.imwrite(str(tmp_path / f"label/frame{index}.png"), np.full((24, 32), index, np.uint8))
    return tmp_path


def test_truth_layout(truth):
    sequence = open_sequence(truth)
    frames = list(sequence)
    assert (sequence.length, len(sequence), sequence.skipped) == (3, 3, 0)
    last = frames[2]
    assert last.frame.stamp_ns == 200_000_000
    np.testing.assert_array_equal(last.frame.image, picture(2))
    np.testing.assert_allclose(last.frame.K[:2, 2], [32, 24])       # OpenCV's pixel centres are whole numbers
    assert np.isnan(last.depth[0, 0]) and last.depth[0, 1] == np.float32(1.002)
    assert last.T_world_cam[0, 3] == 2
    assert last.labels.dtype == np.uint16 and (last.labels == 2).all()


def test_stride_and_intrinsics_are_the_callers_choice(truth):
    frames = list(open_sequence(truth, stride=2, intrinsics=None))
    assert [frame.frame.stamp_ns for frame in frames] == [0, 200_000_000]
    assert frames[0].frame.K is None
    assert open_sequence(truth, intrinsics=K + np.diag([50, 50, 0]))[1].frame.K[0, 0] == 100
    assert open_sequence(truth, intrinsics=K.tolist())[0].frame.K[0, 2] == K[0, 2] + 0.5
    with pytest.raises(InputError, match="stride 0"):
        open_sequence(truth, stride=0)
    with pytest.raises(InputError, match="intrinsics 'none'"):      # of the command line; it meant "source" here
        open_sequence(truth, intrinsics="none")
    with pytest.raises(InputError, match="camera -1"):
        open_sequence(-1)
    for rate_hz in (0, -1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match=f"rate_hz {rate_hz} "):
            open_sequence(truth, rate_hz=rate_hz)


@pytest.mark.parametrize(("times", "named"), [(30, r"\(960, 720\)"), (2, r"\(64, 48\)"), (1.5, r"\(48, 36\)"),
                                              (0.5, r"\(16, 12\)")])
@pytest.mark.parametrize("kind", ["images", "video", "bag", "camera"])
def test_intrinsics_of_another_size_are_told(tmp_path, monkeypatch, kind, times, named):
    source = tmp_path / "source.avi"
    if kind == "images":
        write_folder(source)
    elif kind == "video":
        write_video(source, map(picture, range(3)))
    elif kind == "bag":
        with RecordingWriter(source) as writer:
            writer.write_image(1, picture(0))
    else:
        source = 0
        monkeypatch.setattr(cv2, "VideoCapture", FakeCapture)
    of_another = to_opencv(np.diag([times, times, 1]) @ from_opencv(K))
    with pytest.raises(InputError, match=f"principal point {named} of the intrinsics .* 64x48 image"):
        list(open_sequence(source, intrinsics=of_another))


def test_a_recorded_image_of_another_size_does_not_end_a_sequence_of_asked_intrinsics(tmp_path):
    """The mapper leaves it out."""
    with RecordingWriter(tmp_path / "bag") as writer:
        for index in range(3):
            writer.write_image(1 + index, np.tile(picture(index), (1 + index % 2, 1 + index % 2, 1)))
    frames = [item.frame for item in open_sequence(tmp_path / "bag", intrinsics=K)]
    assert [frame.image.shape[1] for frame in frames] == [64, 128, 64]
    assert all(frame.K[0, 2] == K[0, 2] + 0.5 for frame in frames)


def test_intrinsics_of_twice_the_images_size_are_told_with_their_file(truth):
    np.savetxt(truth / "intrinsics.txt", np.diag([2.0, 2, 1]) @ K)
    said = r"principal point \(63.5, 47.5\) of .*/intrinsics.txt lies outside of the middle of the 64x48 image"
    with pytest.raises(InputError, match=said):
        list(open_sequence(truth))
    with pytest.raises(InputError, match=said):
        open_sequence(truth)[1]
    assert len(list(open_sequence(truth, intrinsics=None))) == 3


def test_a_focal_length_in_millimetres_is_told(truth):
    lens = K.copy()
    lens[0, 0] = lens[1, 1] = 2.8
    with pytest.raises(InputError, match=r"focal lengths \(2.8, 2.8\) of the intrinsics are no lens of a 64x48 image"):
        list(open_sequence(truth, intrinsics=lens))


@pytest.mark.parametrize("pose", [np.zeros((4, 4)), 2 * np.eye(4), np.diag([1.0, 1, -1, 1]), np.eye(4) + np.eye(4)[3]])
def test_poses_that_are_none_are_told(truth, caplog, pose):
    np.savetxt(truth / "pose/frame1.txt", pose)
    with pytest.raises(InputError, match="pose/frame1.txt is no pose"):
        open_sequence(truth)[1]
    assert [item.T_world_cam is None for item in open_sequence(truth)] == [False, True, False]
    assert "pose/frame1.txt is no pose" in caplog.text


def test_poses_of_three_digits_are_poses(truth):
    turned = np.eye(4)
    turned[:3, :3] = cv2.Rodrigues(np.array([0.5, -0.7, 0.3]))[0]
    np.savetxt(truth / "pose/frame1.txt", turned, fmt="%.2f")
    np.testing.assert_allclose(open_sequence(truth)[1].T_world_cam, turned, atol=0.01)


def test_images_are_in_natural_order(tmp_path):
    write_folder(tmp_path, 12)
    reds = [item.frame.image[0, 0, 0] for item in open_sequence(tmp_path)]
    assert reds == [20 * index for index in range(12)]
    assert open_sequence(tmp_path, rate_hz=20)[3].frame.stamp_ns == 150_000_000


@pytest.mark.parametrize(("names", "stamps"), [
    (["1305031102.175304", "1305031102.211214"], [1305031102175304000, 1305031102211214000]),
    (["1403636579763555584", "1403636579813555456"], [1403636579763555584, 1403636579813555456]),
    (["1305031102.075304", "1305031102.1753", "1305031102.9", "1305031103.25"],        # as Python prints them
     [1305031102075304000, 1305031102175300000, 1305031102900000000, 1305031103250000000]),
    (["1403636579763", "1403636579813"], [1403636579763000000, 1403636579813000000]),
    (["1403636579763555", "1403636579813555"], [1403636579763555000, 1403636579813555000]),
    (["000007", "000009"], [0, 100_000_000]),
    (["12²1", "12²3"], [0, 100_000_000]),
    (["1.1", "1.2", "1.10"], [0, 100_000_000, 200_000_000]),         # chapters, not seconds: 1.1 and 1.10 would be one
    (["1403636579763", "1403636579813555"], [0, 100_000_000]),
    (["14036365797635", "14036365798135"], [0, 100_000_000]),
])
def test_stamps_come_from_names_that_are_times(tmp_path, caplog, names, stamps):
    for index, name in enumerate(names):
        cv2.imwrite(str(tmp_path / f"{name}.png"), picture(index)[..., ::-1])
    sequence = list(open_sequence(tmp_path))
    assert [item.frame.stamp_ns for item in sequence] == stamps
    assert [item.frame.image[0, 0, 0] for item in sequence] == [20 * index for index in range(len(names))]
    told = "the names of its images are no times; their stamps are made at 10 Hz"
    assert caplog.text.count(told) == (stamps[0] == 0)


def test_images_of_a_12_bit_camera_are_as_bright_as_those_of_8(tmp_path):
    for index, value in enumerate((4080, 1600)):
        cv2.imwrite(str(tmp_path / f"{index}.png"), np.full((48, 64), value, np.uint16))
    sequence = open_sequence(tmp_path)
    assert [frame.frame.image.max() for frame in sequence] == [255, 100]
    assert sequence[1].frame.image.max() == 100


def test_every_iteration_gives_the_same_images(tmp_path):
    for index, value in enumerate((1000, 60000)):
        cv2.imwrite(str(tmp_path / f"{index}.png"), np.full((48, 64), value, np.uint16))
    sequence = open_sequence(tmp_path)
    first, second = ([frame.frame.image.max() for frame in sequence] for _ in range(2))
    assert first == second == [250, 234]


def test_hidden_files_are_no_images(tmp_path):
    for second in (7, 9):
        cv2.imwrite(str(tmp_path / f"130503110{second}.5.jpg"), picture(0))
        (tmp_path / f"._130503110{second}.5.jpg").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X")
    sequence = open_sequence(tmp_path)
    assert [item.frame.stamp_ns for item in sequence] == [1305031107500000000, 1305031109500000000]
    assert sequence.skipped == 0


def test_images_of_kinds_that_are_not_read_are_told(tmp_path, caplog):
    write_folder(tmp_path, 2)
    assert open_sequence(tmp_path).length == 2 and "left out" not in caplog.text
    for name in ("IMG_1.HEIC", "IMG_2.HEIC", "notes.txt"):
        (tmp_path / name).touch()
    assert open_sequence(tmp_path).length == 2
    assert "2 images of kinds that can't be read are left out, such as IMG_1.HEIC" in caplog.text


def test_a_truncated_image_is_skipped_and_counted(tmp_path):
    write_folder(tmp_path, 3, ".jpg")
    damaged = tmp_path / "frame1.jpg"
    damaged.write_bytes(damaged.read_bytes()[:-40])
    sequence = open_sequence(tmp_path)
    assert [item.frame.stamp_ns for item in sequence] == [0, 200_000_000]
    assert sequence.skipped == 1
    assert [item.frame.stamp_ns for item in sequence] == [0, 200_000_000] and sequence.skipped == 1      # again


def test_a_folder_of_damaged_images_is_an_error(tmp_path):
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"not an image")
    with pytest.raises(InputError, match="none of the 2 images .*a.png: compressed image of 12 bytes"):
        list(open_sequence(tmp_path))


@pytest.mark.parametrize(("kind", "plane", "said"), [
    ("depth", np.zeros((48, 48), np.uint16), "depth/frame0.png is 48x48.* 64x48 image"),
    ("depth", np.zeros((48, 64), np.uint8), "depth/frame0.png: .* stored in 16 bits; this image has uint8"),
    ("label", np.zeros((64, 48), np.uint8), "label/frame0.png is 48x64"),
    ("label", np.zeros((48, 64, 3), np.uint8), "this one has 3"),
])
def test_truth_that_does_not_fit_is_an_error(truth, kind, plane, said):
    cv2.imwrite(str(truth / kind / "frame0.png"), plane)
    with pytest.raises(InputError, match=said):
        open_sequence(truth)[0]


@pytest.mark.parametrize(("kind", "name"), [("depth", "frame{}.png"), ("label", "frame{}.png"),
                                            ("pose", "frame{}.txt")])
def test_an_image_whose_truth_is_damaged_is_given_without_it(truth, caplog, kind, name):
    for index in (0, 2):
        (truth / kind / name.format(index)).write_bytes(b"damaged")
    sequence = open_sequence(truth)
    for _ in range(2):
        caplog.clear()
        items = list(sequence)
        assert [item.frame.image[0, 0, 0] for item in items] == [0, 20, 40] and sequence.skipped == 0
        assert [(item.depth is None, item.T_world_cam is None, item.labels is None) for item in items] == [
            (True,) * 3, (False,) * 3, (True,) * 3]
        (told,) = caplog.messages
        assert f"{kind}/{name.format(0)}" in told and "without truth" in told
    with pytest.raises(InputError, match=name.format(2)):
        sequence[2]


def test_poses_and_intrinsics_are_checked(truth):
    (truth / "pose/frame0.txt").write_text("-inf -inf -inf -inf\n" * 4)
    assert open_sequence(truth)[0].T_world_cam is None
    (truth / "pose/frame0.txt").write_text("1 0 0\n0 1 0\n0 0 1\n")
    with pytest.raises(InputError, match=r"frame0.txt is no 4x4 matrix.*\(3, 3\)"):
        open_sequence(truth)[0]
    (truth / "intrinsics.txt").write_text("nan 0 1\n0 1 1\n0 0 1\n")
    with pytest.raises(InputError, match="not finite"):
        open_sequence(truth)


def test_empty_folder_and_missing_path(tmp_path):
    with pytest.raises(InputError, match="no images in .* nothing"):
        open_sequence(tmp_path)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match="no images in .* notes.txt"):
        open_sequence(tmp_path)
    with pytest.raises(InputError, match="nowhere does not exist"):
        open_sequence(tmp_path / "nowhere")
    (tmp_path / "old.bag").touch()
    with pytest.raises(InputError, match="ROS 1 bag; `rosbags-convert"):
        open_sequence(tmp_path / "old.bag")


def write_video(path, frames):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 20.0, (64, 48))
    for frame in frames:
        writer.write(frame[..., ::-1])
    writer.release()
    return path


def test_video(tmp_path):
    sequence = open_sequence(write_video(tmp_path / "walk.avi", map(picture, range(10))), stride=3)
    frames = list(sequence)
    assert sequence.length == len(frames) == 4
    assert [frame.frame.stamp_ns for frame in frames] == [0, 150_000_000, 300_000_000, 450_000_000]
    assert all(abs(int(frame.frame.image[24, 32, 0]) - 60 * index) < 12 for index, frame in enumerate(frames))
    assert frames[0].frame.K is None and frames[0].T_world_cam is None


def test_a_video_that_ends_early_says_how_much_is_lost(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (40, 48, 64, 3), dtype=np.uint8)
    video = write_video(tmp_path / "walk.avi", noise)
    video.write_bytes(video.read_bytes()[:video.stat().st_size // 2])
    sequence = open_sequence(video)
    given = len(list(sequence))
    assert 0 < given < 40 and given + sequence.skipped == 40


def test_unreadable_video(tmp_path):
    path = tmp_path / "walk.mp4"
    path.write_bytes(bytes(1000))
    with pytest.raises(InputError, match=r"walk.mp4 can't be opened as a video \(1000 bytes\)"):
        open_sequence(path)


class FakeCapture:
    """Three frames of a camera, then none."""

    def __init__(self, device):
        self.device, self.left = device, 3

    def set(self, key, value):
        pass

    def isOpened(self):
        return self.device == 0

    def grab(self):
        self.left -= 1
        return self.left >= 0

    def retrieve(self):
        return True, picture(1)[..., ::-1]

    def release(self):
        pass


def test_camera(monkeypatch):
    monkeypatch.setattr(cv2, "VideoCapture", FakeCapture)
    sequence, frames = open_sequence("0"), []
    assert sequence.length is None
    with pytest.raises(InputError, match="camera 0 stopped giving frames after 3"):
        frames.extend(iter(sequence))
    stream = iter(open_sequence(0))
    np.testing.assert_array_equal(next(stream).frame.image, picture(1))
    with pytest.raises(InputError, match="camera 7 can't be opened"):
        next(iter(open_sequence("7")))
