"""Opens whatever holds images: a folder, a video, a recording, a camera."""
from __future__ import annotations

import logging
import re
import time
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from lsm_ros.contracts import Frame
from lsm_ros.data.calibration import check_size, from_opencv
from lsm_ros.data.frames import DEFAULT_RATE_HZ, Sequence, SequenceFrame, check_same_shape
from lsm_ros.data.images import Levels, decode_compressed, decode_compressed_depth, decode_compressed_plane
from lsm_ros.data.recording import RecordingSequence, is_recording
from lsm_ros.errors import InputError
from lsm_ros.geometry.sim3 import is_pose

MOST_FRAMES = 1e9           # a video's header may claim any number
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".webp")
UNREAD_SUFFIXES = (".heic", ".heif", ".avif", ".dng")       # of phones and cameras; OpenCV opens none of them

logger = logging.getLogger(__name__)

Intrinsics = np.ndarray | Literal["source"] | None


def open_sequence(source: str | Path | int, *, stride: int = 1, intrinsics: Intrinsics = "source",
                  image_topic: str | None = None, rate_hz: float = DEFAULT_RATE_HZ) -> Sequence:
    """The frames of a folder, a video, a rosbag2, a camera or a stream.

    Args:
        source: a folder of images; a folder of the truth layout (color/, depth/, pose/, label/, intrinsics.txt); a
            rosbag2 folder or its .mcap or .db3 file; a video file; a camera's number or device; a URL such as rtsp://.
        stride: every stride-th image is given.
        intrinsics: a (3, 3) matrix for every image as OpenCV's calibration gives it (the first pixel's centre is 0, 0),
            None to withhold what the source knows, "source" to use that.
        image_topic: the topic to take from a recording that has several.
        rate_hz: the rate that stamps are made with where the images of a folder have none.

    Raises InputError naming what can't be opened.
    """
    if stride < 1:
        raise InputError(f"stride {stride} is below 1")
    if not 0 < rate_hz < np.inf:
        raise InputError(f"rate_hz {rate_hz} is no positive number")
    if isinstance(source, int) and source < 0:      # OpenCV would end the process
        raise InputError(f"camera {source}; the first one is 0")
    if isinstance(intrinsics, str):
        if intrinsics != "source":
            raise InputError(f"intrinsics {intrinsics!r} are neither a matrix nor None nor 'source'")
    elif intrinsics is not None:
        intrinsics = from_opencv(intrinsics)
    if isinstance(source, int) or (str(source).isdecimal() and not Path(source).exists()):
        return CameraSequence(int(source), stride, intrinsics)
    if "://" in str(source):
        return CameraSequence(str(source), stride, intrinsics)
    path = Path(source)
    if not path.exists():
        raise InputError(f"{path} does not exist")
    if path.is_char_device():
        return CameraSequence(str(path), stride, intrinsics)
    if is_recording(path):
        return RecordingSequence(path, stride, intrinsics, image_topic)
    if path.suffix == ".bag":
        raise InputError(f"{path} is a ROS 1 bag; `rosbags-convert --src {path} --dst {path.stem}` makes a rosbag2")
    if path.is_dir():
        sequence = FolderSequence(path, stride, intrinsics, rate_hz)
        if not sequence.timed:
            logger.warning("%s: the names of its images are no times; their stamps are made at %g Hz", path, rate_hz)
        return sequence
    return VideoSequence(path, stride, intrinsics)


class FolderSequence:
    """Images of a folder in the order of their stamps, with the truth that lies beside them.

    Layout: color/*.jpg, depth/NAME.png (16 bits, millimetres, 0 = none), pose/NAME.txt (camera to world, OpenCV axes),
    label/NAME.png (class index), intrinsics.txt; or the images alone. A stamp is the name where that is a time, as in
    the TUM and EuRoC data sets (`timed`), else the place in the natural order of the names (2 before 10) at `rate_hz`.
    An iteration skips an image that can't be read, and gives one whose truth can't be read without it, which is told
    once; for single frames both are errors.
    """

    def __init__(self, folder: Path, stride: int = 1, intrinsics: Intrinsics = "source",
                 rate_hz: float = DEFAULT_RATE_HZ):
        self.name, self.folder, self.skipped = folder.name, folder, 0
        color = folder / "color" if (folder / "color").is_dir() else folder
        images = sorted((path for path in color.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES
                         and not path.name.startswith(".")), key=_natural)       # ._a.jpg is a note of macOS on a.jpg
        if not images:
            found = ", ".join(sorted(path.name for path in color.iterdir())[:6]) or "nothing"
            raise InputError(f"no images in {color}; it holds {found}")
        if unread := [path.name for path in sorted(color.iterdir()) if path.suffix.lower() in UNREAD_SUFFIXES]:
            logger.warning("%s: %d images of kinds that can't be read are left out, such as %s; convert them to JPEG",
                           color, len(unread), unread[0])
        times = _times(images)
        self.timed = times is not None
        stamps = times or [round(index * 1e9 / rate_hz) for index in range(len(images))]
        # Digits behind a point are no whole number: 7.5 comes after 7.25.
        images, stamps = zip(*sorted(zip(images, stamps, strict=True), key=lambda pair: pair[1]), strict=True)
        self.images, self.stamps = list(images[::stride]), list(stamps[::stride])
        self.length = len(self.images)
        self._levels = Levels()
        K_file = folder / "intrinsics.txt"
        self.K = None if isinstance(intrinsics, str) else intrinsics
        self._K_source = "the intrinsics"
        if isinstance(intrinsics, str) and K_file.exists():
            self._K_source = str(K_file)
            try:
                self.K = from_opencv(_matrix(K_file)[:3, :3])
            except InputError as error:
                raise InputError(f"{K_file}: {error}") from error

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> SequenceFrame:
        """Reads one frame. Raises InputError naming the file that is damaged or doesn't fit its image."""
        image = self._image(self.images[index], self._levels)
        check_size(self.K, image, self._K_source)
        return self._with_truth(index, image)

    def __iter__(self) -> Iterator[SequenceFrame]:
        self.skipped, first_error, told = 0, None, False
        levels = Levels()                           # so that every iteration gives the same images
        for index, path in enumerate(self.images):
            try:
                image = self._image(path, levels)
            except InputError as error:
                self.skipped, first_error = self.skipped + 1, first_error or error
                continue
            if index == self.skipped:               # the first; another size later on is the mapper's business
                check_size(self.K, image, self._K_source)
            try:
                item = self._with_truth(index, image)
            except InputError as error:
                if not told:
                    logger.warning("%s; its image is given without truth, as are others whose truth can't be read",
                                   error)
                told = True
                item = SequenceFrame(Frame(self.stamps[index], image, self.K))
            yield item
        if self.skipped == self.length:
            raise InputError(f"none of the {self.length} images in {self.folder} can be read; {first_error}")

    @staticmethod
    def _image(path: Path, levels: Levels) -> np.ndarray:
        return _read(path, partial(decode_compressed, levels=levels))

    def _with_truth(self, index: int, image: np.ndarray) -> SequenceFrame:
        stem = self.images[index].stem
        depth_file, pose_file, label_file = (self.folder / f"{kind}/{stem}{suffix}" for kind, suffix in
                                             (("depth", ".png"), ("pose", ".txt"), ("label", ".png")))
        depth = labels = T_world_cam = None
        if depth_file.exists():
            depth = _read(depth_file, decode_compressed_depth)
            check_same_shape(depth, image, str(depth_file))
        if label_file.exists():
            labels = _read(label_file, decode_compressed_plane).astype(np.uint16)
            check_same_shape(labels, image, str(label_file))
        if pose_file.exists():
            T_world_cam = _matrix(pose_file)
            if T_world_cam.shape != (4, 4):
                raise InputError(f"{pose_file} is no 4x4 matrix: its shape is {T_world_cam.shape}")
            if not np.isfinite(T_world_cam).all():      # ScanNet writes -inf where tracking was lost
                T_world_cam = None
            elif not is_pose(T_world_cam):
                raise InputError(f"{pose_file} is no pose: its axes are not at right angles and of length 1, or its "
                                 "last row is not 0 0 0 1")
        return SequenceFrame(Frame(self.stamps[index], image, self.K), depth, T_world_cam, labels)


class VideoSequence:
    """The frames of a video file. `skipped` counts those that a damaged end has lost."""

    def __init__(self, path: Path, stride: int = 1, intrinsics: Intrinsics = "source"):
        self.name, self.path, self.stride, self.skipped = path.stem, path, stride, 0
        self.K = None if isinstance(intrinsics, str) else intrinsics
        video = self._open()
        frames = video.get(cv2.CAP_PROP_FRAME_COUNT)
        self.length = -(-int(frames) // stride) if 0 < frames < MOST_FRAMES else None
        self.rate_hz = video.get(cv2.CAP_PROP_FPS)
        video.release()

    def __iter__(self) -> Iterator[SequenceFrame]:
        self.skipped, index, stamp_ns = 0, -1, -1
        # Containers without usable times say 0, NaN or repeat themselves; the frame rate fills in for those.
        period_ns = round(1e9 / self.rate_hz) if 0 < self.rate_hz < 1000 else round(1e9 / DEFAULT_RATE_HZ)
        video = self._open()
        try:
            while video.grab():
                index += 1
                told_ms = video.get(cv2.CAP_PROP_POS_MSEC)
                told_ns = round(told_ms * 1e6) if 0 < told_ms < 1e12 else 0
                stamp_ns = told_ns if told_ns > stamp_ns else stamp_ns + period_ns
                if index % self.stride:
                    continue
                good, image = video.retrieve()
                if not good:
                    self.skipped += 1
                    continue
                if index // self.stride == self.skipped:
                    check_size(self.K, image)
                yield SequenceFrame(Frame(stamp_ns, cv2.cvtColor(image, cv2.COLOR_BGR2RGB), self.K))
        finally:
            video.release()
        if index < 0:
            raise InputError(f"{self.path} has no frame that can be read")
        given = index // self.stride + 1
        if self.length and given < 0.9 * self.length:      # the count of a container is an estimate
            self.skipped += self.length - given

    def _open(self) -> cv2.VideoCapture:
        video = cv2.VideoCapture(str(self.path))
        if not video.isOpened():
            raise InputError(f"{self.path} can't be opened as a video ({self.path.stat().st_size} bytes)")
        return video


class CameraSequence:
    """A camera or a stream, live, until the iteration is left. Stamps are the wall clock at the grab.

    The iteration raises InputError where no more frames come: OpenCV doesn't tell a stream's end from a fault.
    """
    length = None

    def __init__(self, device: int | str, stride: int = 1, intrinsics: Intrinsics = "source"):
        self.name, self.device, self.stride, self.skipped = f"camera {device}", device, stride, 0
        self.K = None if isinstance(intrinsics, str) else intrinsics

    def __iter__(self) -> Iterator[SequenceFrame]:
        camera = cv2.VideoCapture(self.device)
        camera.set(cv2.CAP_PROP_BUFFERSIZE, 1)      # an old frame is worth less than a missed one
        try:
            if not camera.isOpened():
                raise InputError(f"{self.name} can't be opened")
            index = -1
            while camera.grab():
                stamp_ns, index = time.time_ns(), index + 1
                if index % self.stride:
                    continue
                good, image = camera.retrieve()
                if good:
                    check_size(self.K, image)
                    yield SequenceFrame(Frame(stamp_ns, cv2.cvtColor(image, cv2.COLOR_BGR2RGB), self.K))
                else:
                    self.skipped += 1
        finally:
            camera.release()
        raise InputError(f"{self.name} stopped giving frames after {index + 1}")


def _natural(path: Path) -> list:
    """A sort key that puts frame2 before frame10."""
    return [(1, int(part), "") if part.isdecimal() else (0, 0, part) for part in re.split(r"(\d+)", path.name)]


def _times(images: list[Path]) -> list[int] | None:
    """Nanoseconds, from names like 1305031102.175304 (seconds) or 1403636579763 (milliseconds since 1970; three digits
    more are microseconds, six more nanoseconds); None where not all are like that, or two names are the same
    time: 1.1 and 1.10 are the numbers of a place and a picture."""
    stems = [path.stem for path in images]
    times = _read_times(stems)
    return times if times is not None and len(set(times)) == len(set(stems)) else None


def _read_times(stems: list[str]) -> list[int] | None:
    for digits, unit_ns in ((13, 10**6), (16, 10**3), (19, 1)):
        if all(re.fullmatch(rf"[1-8]\d{{{digits - 1}}}", stem) for stem in stems):
            return [int(stem) * unit_ns for stem in stems]
    if all(re.fullmatch(r"(\d{1,9}|[1-8]\d{9})\.\d{1,9}", stem) for stem in stems):
        return [int(sec) * 10**9 + int(part.ljust(9, "0")) for sec, part in (stem.split(".") for stem in stems)]
    return None


def _read(path: Path, decode) -> np.ndarray:
    """Raises InputError, which names the file."""
    try:
        return decode(path.read_bytes())
    except (InputError, OSError) as error:
        raise InputError(f"{path}: {error}") from error


def _matrix(path: Path) -> np.ndarray:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)        # of an empty file; its shape says that too
            return np.loadtxt(path, dtype=np.float64, ndmin=2)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is no matrix: {error}") from error
