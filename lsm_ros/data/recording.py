"""Recordings, written and read: rosbag2 folders in MCAP, without a ROS installation (by `rosbags`)."""
from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rosbags.interfaces import Connection, Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import Reader, StoragePlugin, Writer
from rosbags.rosbag2.errors import WriterError
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from lsm_ros.contracts import Frame
from lsm_ros.data.calibration import Rectifier, calibration, check_size, to_opencv
from lsm_ros.data.frames import SequenceFrame, check_same_shape
from lsm_ros.data.images import (
    Levels,
    decode_compressed,
    decode_compressed_depth,
    decode_compressed_plane,
    decode_image,
)
from lsm_ros.data.messages import LEGEND_FIELDS, LEGEND_TYPE
from lsm_ros.data.topics import info_topic, is_rectified
from lsm_ros.errors import InputError, OutputError
from lsm_ros.geometry.sim3 import matrix_from_quaternion, quaternion_from_matrix, sim3

IMAGE_TOPIC = "/camera/image_raw/compressed"
CAMERA_INFO_TOPIC = "/camera/camera_info"
TRUTH_POSE_TOPIC = "/truth/pose"            # PoseStamped of the camera (OpenCV axes) in `truth_map` (z up)
TRUTH_DEPTH_TOPIC = "/truth/depth"          # CompressedImage, PNG of 16-bit millimetres, 0 where none
TRUTH_LABELS_TOPIC = "/truth/labels"        # CompressedImage, PNG of 8-bit class indices
CAMERA_FRAME = "camera_optical_frame"
TRUTH_FRAME = "truth_map"

# Of the node itself, in a recording of it.
PUBLISHED_IMAGES = ("/segmentation/mask", "/segmentation/confidence", "/segmentation/moving")

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
POSE_STAMPED = "geometry_msgs/msg/PoseStamped"
TRUTH_TOPICS = {TRUTH_POSE_TOPIC: POSE_STAMPED, TRUTH_DEPTH_TOPIC: COMPRESSED_IMAGE,
                TRUTH_LABELS_TOPIC: COMPRESSED_IMAGE}
# Sub-topics of an image that image_transport's plugins may send as CompressedImage, and that are not decoded here.
OTHER_TRANSPORTS = ("compressedDepth", "ffmpeg", "theora", "zstd")
STORAGE_SUFFIXES = (".mcap", ".db3")

logger = logging.getLogger(__name__)

# The metadata of version 8 is read by the rosbag2 of Humble as well as by that of Jazzy; version 9 only by the latter.
METADATA_VERSION = 8


def ros_types() -> Typestore:
    """The message types of Jazzy."""
    return get_typestore(Stores.ROS2_JAZZY)


class RecordingWriter:
    """Writes a rosbag2 folder: <folder>/metadata.yaml and <folder>/<folder>.mcap, for `ros2 bag play`.

    A context manager. The index is written at the end even if the block is left by an error or Ctrl-C, so what was
    recorded stays readable; after a crash of the process whole chunks of 1 MB are left, which `mcap recover` rescues.
    Images are stored as they are (JPEG, PNG), so nothing is compressed twice.
    """

    def __init__(self, folder: str | Path):
        """Raises OutputError if `folder` exists already."""
        self.folder = Path(folder)
        self.messages = 0
        self._types = ros_types()
        self._connections: dict[str, object] = {}
        try:
            self._writer = Writer(self.folder, version=METADATA_VERSION, storage_plugin=StoragePlugin.MCAP)
        except WriterError as error:
            raise OutputError(f"recording {self.folder}: {error}") from error

    def __enter__(self) -> RecordingWriter:     # noqa: PYI034 Self needs Python 3.11
        try:
            self._writer.open()
        except (WriterError, OSError) as error:
            raise OutputError(f"recording {self.folder} can't be made: {error}") from error
        return self

    def __exit__(self, kind, value, traceback) -> None:
        try:
            self._writer.close()
        except OSError as error:
            self._writer.abort()
            raise OutputError(f"recording {self.folder} can't be finished: {error}") from error

    def knows(self, type_name: str) -> bool:
        """Whether topics of this message type (pkg/msg/Name) can be added."""
        return type_name in self._types.fielddefs

    def register_type(self, name: str, definition: str) -> None:
        """Makes a message type known that ROS does not ship: its name (pkg/msg/Name) and the text of its .msg file."""
        self._types.register({key: fields for key, fields in get_types_from_msg(definition, name).items()
                              if key not in self._types.fielddefs})

    def add_topic(self, topic: str, type_name: str, *, latched: bool = False) -> None:
        """Declares a topic; `latched` is transient local, so that a player repeats it for late subscribers.

        Raises OutputError for a topic that exists already or a type that is not registered.
        """
        if topic in self._connections:
            raise OutputError(f"topic {topic!r} is in the recording {self.folder} already")
        if not self.knows(type_name):
            raise OutputError(f"message type {type_name!r} of topic {topic!r} is unknown; register_type tells it")
        self._connections[topic] = self._writer.add_connection(
            topic, type_name, typestore=self._types, offered_qos_profiles=[_reliable(latched)])

    def write(self, topic: str, stamp_ns: int, data: bytes) -> None:
        """Appends a serialized message (CDR) to a topic that add_topic declared, in the order of the stamps."""
        try:
            self._writer.write(self._connections[topic], stamp_ns, data)
        except OSError as error:
            raise OutputError(f"recording {self.folder}: {error}") from error
        self.messages += 1

    def write_image_jpeg(self, stamp_ns: int, jpeg: bytes, topic: str = IMAGE_TOPIC) -> None:
        """Appends a JPEG file as a CompressedImage."""
        self._write_compressed(topic, stamp_ns, jpeg, "jpeg")

    def write_image(self, stamp_ns: int, image: np.ndarray, quality: int = 90, topic: str = IMAGE_TOPIC) -> None:
        """Appends an (H, W, 3) uint8 RGB image as JPEG."""
        jpeg = encode_image(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
        self.write_image_jpeg(stamp_ns, jpeg, topic)

    def write_camera_info(self, stamp_ns: int, K: np.ndarray, width: int, height: int,
                          topic: str = CAMERA_INFO_TOPIC) -> None:
        """Appends the CameraInfo of a pinhole camera without distortion; K in the convention of geometry/camera."""
        roi = self._types.types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
        K = to_opencv(K)
        message = self._types.types[CAMERA_INFO](
            header=self._header(stamp_ns, CAMERA_FRAME), height=height, width=width, distortion_model="plumb_bob",
            d=np.zeros(5), k=K.reshape(9), r=np.eye(3).reshape(9), p=np.c_[K, np.zeros(3)].reshape(12),
            binning_x=0, binning_y=0, roi=roi)
        self._write_message(topic, CAMERA_INFO, stamp_ns, message)

    def write_truth_pose(self, stamp_ns: int, T_world_cam: np.ndarray) -> None:
        """Appends the (4, 4) true pose of the camera; world z up, OpenCV camera axes, metres."""
        types = self._types.types
        x, y, z, w = quaternion_from_matrix(T_world_cam[:3, :3])
        pose = types["geometry_msgs/msg/Pose"](types["geometry_msgs/msg/Point"](*map(float, T_world_cam[:3, 3])),
                                               types["geometry_msgs/msg/Quaternion"](*map(float, (x, y, z, w))))
        self._write_message(TRUTH_POSE_TOPIC, POSE_STAMPED, stamp_ns,
                            types[POSE_STAMPED](self._header(stamp_ns, TRUTH_FRAME), pose))

    def write_truth_depth(self, stamp_ns: int, depth_m: np.ndarray) -> None:
        """Appends (H, W) float depth in metres, NaN or below 0 where none; stored in millimetres up to 65.5 m."""
        millimetres = np.rint(np.asarray(depth_m, np.float64) * 1000)
        known = (millimetres > 0) & (millimetres <= 65535)
        png = encode_image(".png", np.where(known, millimetres, 0).astype(np.uint16))
        self._write_compressed(TRUTH_DEPTH_TOPIC, stamp_ns, png, "png")

    def write_truth_labels(self, stamp_ns: int, labels: np.ndarray) -> None:
        """Appends (H, W) class indices below 256."""
        if labels.max() > 255:
            raise OutputError(f"label {labels.max()} does not fit into the 8 bits of {TRUTH_LABELS_TOPIC}")
        self._write_compressed(TRUTH_LABELS_TOPIC, stamp_ns, encode_image(".png", labels.astype(np.uint8)), "png")

    def _write_compressed(self, topic: str, stamp_ns: int, data: bytes, form: str) -> None:
        message = self._types.types[COMPRESSED_IMAGE](
            header=self._header(stamp_ns, CAMERA_FRAME), format=form, data=np.frombuffer(data, np.uint8))
        self._write_message(topic, COMPRESSED_IMAGE, stamp_ns, message)

    def _write_message(self, topic: str, type_name: str, stamp_ns: int, message) -> None:
        if topic not in self._connections:
            self.add_topic(topic, type_name)
        self.write(topic, stamp_ns, self._types.serialize_cdr(message, type_name))

    def _header(self, stamp_ns: int, frame_id: str):
        types = self._types.types
        sec, nanosec = divmod(int(stamp_ns), 1_000_000_000)
        return types["std_msgs/msg/Header"](types["builtin_interfaces/msg/Time"](sec, nanosec), frame_id)


class RecordingSequence:
    """The images of a rosbag2 with their CameraInfo, and the truth of the same stamp where /truth topics hold it.

    Images are decoded one by one, and freed from lens distortion by the recording's first CameraInfo that can be used;
    where there is none, or it is of another image, that is told once, and K is unknown. One that can't be decoded is
    skipped; one whose truth can't be decoded is given without it, which is told once. `image_topic` is needed only
    where several topics could be meant.
    """

    def __init__(self, path: Path, stride: int = 1, intrinsics: np.ndarray | None | str = "source",
                 image_topic: str | None = None):
        self.name, self.stride, self.skipped = path.stem, stride, 0
        self.path = _storage(path)
        self.intrinsics = intrinsics
        self._types = ros_types()
        with _opened(self.path) as reader:
            self.topics = {connection.topic: connection.msgtype for connection in reader.connections}
            counts = Counter()
            for connection in reader.connections:
                counts[connection.topic] += connection.msgcount
        self.image_topic = choose_image_topic(self.topics, counts, image_topic, path)
        self.length = -(-counts[self.image_topic] // stride)

    def __iter__(self) -> Iterator[SequenceFrame]:
        self.skipped, first_error, levels, told = 0, None, Levels(), False
        with _opened(self.path) as reader:
            rectify = self._rectifier(reader)
            for stamp_ns, message, truth in self._paired(reader):
                try:
                    image = _decode(message, levels)
                except InputError as error:
                    self.skipped, first_error = self.skipped + 1, first_error or error
                    continue
                with _named(self.path):
                    image, K = rectify(image)
                try:
                    known = _decode_truth(truth, image)
                except InputError as error:
                    if not told:
                        logger.warning("%s: truth of the image at %d ns: %s; it is given without truth, as are others "
                                       "whose truth can't be decoded", self.path, stamp_ns, error)
                    known, told = {}, True
                yield SequenceFrame(Frame(stamp_ns, image, K), **known)
        if not self.length:
            raise InputError(f"no image was recorded on {self.image_topic} of {self.path}")
        if self.skipped == self.length:
            raise InputError(f"none of the {self.length} images on {self.image_topic} of {self.path} can be read; "
                             f"{first_error}")

    def _paired(self, reader: Reader) -> Iterator[tuple[int, Any, dict[str, Any]]]:
        """(stamp_ns, image message, truth messages of that stamp by topic) of every stride-th image.

        Truth may be recorded before or after its image, so an image waits until the next one comes.
        """
        waiting, truth, images = None, {}, 0
        for topic, stamp_ns, message in self._messages(reader, self.image_topic, *TRUTH_TOPICS):
            if topic != self.image_topic:
                truth.setdefault(stamp_ns, {})[topic] = message
                continue
            if waiting is not None:
                yield *waiting, truth.get(waiting[0], {})
            truth = {stamp: messages for stamp, messages in truth.items() if stamp >= stamp_ns}
            waiting = (stamp_ns, message) if images % self.stride == 0 else None
            images += 1
        if waiting is not None:
            yield *waiting, truth.get(waiting[0], {})

    def _rectifier(self, reader: Reader) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray | None]]:
        """image -> image without distortion, its K; by the first CameraInfo, or by what the caller asked for."""
        if not isinstance(self.intrinsics, str):
            return self._as_asked(self.intrinsics)
        refusal = None
        for _, _, info in self._messages(reader, *self._info_topics(reader)):
            try:
                camera = calibration(info, rectified=is_rectified(self.image_topic))
            except InputError as error:
                refusal = refusal or error
                continue
            if camera is not None:
                return self._as_told(Rectifier(camera))
        if refusal:
            self._tell_unknown(refusal)
        return lambda image: (image, None)

    def _as_told(self, rectify: Rectifier) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray | None]]:
        """As the Rectifier does, but an image that it refuses stays as it is, as in the node."""
        told = set()

        def rectified(image: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
            try:
                return rectify(image)
            except InputError as error:
                if str(error) not in told:
                    self._tell_unknown(error)
                told.add(str(error))
                return image, None

        return rectified

    def _tell_unknown(self, why: InputError) -> None:
        logger.warning("%s: %s; the intrinsics are taken for unknown", self.path, why)

    @staticmethod
    def _as_asked(K: np.ndarray | None) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray | None]]:
        """That K for all images; of another size than the first, which it must fit, they are the mapper's business."""
        checked = False

        def unchanged(image: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
            nonlocal checked
            if not checked:
                check_size(K, image)
            checked = True
            return image, K

        return unchanged

    def _info_topics(self, reader: Reader) -> list[str]:
        """camera_info beside the image, or else the only one of the image's frame; or none.

        A depth camera_info, such as the node's own, may have that frame, but it is of a smaller image.
        """
        beside = info_topic(self.image_topic)
        if self.topics.get(beside) == CAMERA_INFO:
            return [beside]
        infos = [topic for topic, kind in self.topics.items() if kind == CAMERA_INFO and "depth" not in topic]
        frame_id = self._frame_id(reader, self.image_topic)
        same = [topic for topic in infos if frame_id and self._frame_id(reader, topic) == frame_id]
        if len(same) == 1:
            return same
        if infos:
            logger.warning("%s: no camera_info is sure to be that of %s, so its intrinsics are unknown; there are %s",
                           self.path, self.image_topic, ", ".join(infos))
        return []

    def _frame_id(self, reader: Reader, topic: str) -> str:
        """That of the topic's first message; empty where there is none."""
        return next((message.header.frame_id for _, _, message in self._messages(reader, topic)), "")

    def _messages(self, reader: Reader, *topics: str) -> Iterator[tuple[str, int, Any]]:
        """(topic, header stamp in ns, message) in the order of recording, of those that have the type they should have.

        Raises InputError for a damaged file.
        """
        meant = [topic for topic in topics if self.topics.get(topic) == TRUTH_TOPICS.get(topic, self.topics.get(topic))]
        return _messages(reader, self._types, self.path, meant)


def recording_topics(path: Path) -> dict[str, str]:
    """topic -> message type (pkg/msg/Name) of a recording. Raises InputError where it can't be read."""
    with _opened(_storage(path)) as reader:
        return {connection.topic: connection.msgtype for connection in reader.connections}


def read_messages(path: Path, topics: Collection[str]) -> Iterator[tuple[str, int, Any]]:
    """(topic, stamp in ns, message) in the order of recording, of ROS's own types and of our LabelLegend.

    Definitions that a recording brings along are not used: rosbags makes Python code of them.

    The stamp is the header's, that of the first marker in a MarkerArray, else when it was recorded. Raises InputError
    for a damaged file.
    """
    types = ros_types()
    types.register(get_types_from_msg(LEGEND_FIELDS, LEGEND_TYPE))
    with _opened(_storage(path)) as reader:
        yield from _messages(reader, types, path, topics)


def serialized_messages(path: Path, topics: Collection[str]) -> Iterator[tuple[str, int, bytes]]:
    """(topic, when it was recorded in ns, message as CDR) in that order. Raises InputError for a damaged file."""
    with _opened(_storage(path)) as reader:
        for connection, logged_ns, data in _stream(reader, path, topics):
            yield connection.topic, logged_ns, data


def _messages(reader: Reader, types: Typestore, path: Path,
              topics: Collection[str]) -> Iterator[tuple[str, int, Any]]:
    for connection, logged_ns, data in _stream(reader, path, topics):
        try:
            message = types.deserialize_cdr(data, connection.msgtype)
        except Exception as error:      # as in _stream
            raise InputError(f"{path} is damaged: {error or type(error).__name__}") from error
        stamped = message.markers[0] if getattr(message, "markers", ()) else message
        stamp = stamped.header.stamp if hasattr(stamped, "header") else None
        yield connection.topic, stamp and stamp.sec * 1_000_000_000 + stamp.nanosec or logged_ns, message


def _stream(reader: Reader, path: Path, topics: Collection[str]) -> Iterator[tuple[Connection, int, bytes]]:
    """(connection, when it was recorded in ns, message as CDR). Raises InputError for a damaged file."""
    wanted = [connection for connection in reader.connections if connection.topic in topics]
    stream = reader.messages(wanted) if wanted else iter(())
    while True:
        try:
            item = next(stream)
        except StopIteration:
            return
        except Exception as error:      # a damaged file surfaces as any of a dozen types, from struct to apsw
            raise InputError(f"{path} is damaged: {error or type(error).__name__}") from error
        yield item


def is_recording(path: Path) -> bool:
    """True for an .mcap or .db3 file, or a folder that holds one."""
    if path.is_file():
        return path.suffix in STORAGE_SUFFIXES
    return (path / "metadata.yaml").exists() or bool(_files(path))


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise InputError(f"{folder} does not exist")
    return sorted(file for file in folder.iterdir() if file.suffix in STORAGE_SUFFIXES)


def _storage(path: Path) -> Path:
    """What to hand to rosbags: a folder with metadata, or the one file of a recording whose end was never written."""
    if path.is_file() or (path / "metadata.yaml").exists():
        return path
    files = _files(path)
    if not files:
        raise InputError(f"{path} holds no {' or '.join(STORAGE_SUFFIXES)} file")
    if len(files) > 1:
        raise InputError(f"{path} holds {len(files)} files and no metadata.yaml; `ros2 bag reindex {path}` makes it")
    return files[0]


@contextmanager
def _opened(path: Path) -> Iterator[Reader]:
    try:
        reader = Reader(path)
        reader.open()
    except Exception as error:              # as above: the types of a damaged file's errors can't be listed
        advice = "; `mcap recover` may rescue it" if path.suffix == ".mcap" else ""
        sqlite = any(file.suffix == ".db3" for file in (path, *path.glob("*.db3")))
        if sqlite and set("#?%") & set(str(path.absolute())):
            advice = "; rosbags finds no .db3 file whose path holds #, ? or %"
        raise InputError(f"recording {path} can't be read: {error or type(error).__name__}{advice}") from error
    try:
        yield reader
    finally:
        reader.close()


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Puts the file's name before what is wrong in it."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def camera_topics(topics: dict[str, str]) -> list[str]:
    """Those of colour images that are neither truth nor the node's own."""
    colour = [topic for topic, kind in topics.items() if kind in (IMAGE, COMPRESSED_IMAGE)
              and "depth" not in topic.lower() and topic.rpartition("/")[2] not in OTHER_TRANSPORTS
              and topic not in TRUTH_TOPICS and not topic.endswith(PUBLISHED_IMAGES)]
    return [topic for topic in colour if f"{topic}/compressed" not in colour]     # the same image twice


def choose_image_topic(topics: dict[str, str], counts: Mapping[str, int], asked: str | None, path: Path) -> str:
    """The topic asked for, or the only one that can be meant; one without messages is not where another has some.

    A relative name that is asked for is one in the root, as for a ROS node without a namespace. `topics` tells their
    types, `counts` how many messages. Raises InputError, which lists what there is.
    """
    images = [topic for topic, kind in topics.items() if kind in (IMAGE, COMPRESSED_IMAGE)]
    listing = ", ".join(f"{topic} ({kind})" for topic, kind in sorted(topics.items())) or "none"
    if asked is not None:
        for topic in (asked, f"/{asked}"):
            if topic in images:
                return topic
        raise InputError(f"{path} has no image topic {asked!r}; its topics: {listing}")
    colour = camera_topics({topic: kind for topic, kind in topics.items() if counts[topic]}) or camera_topics(topics)
    if len(colour) == 1:
        return colour[0]
    trouble = f"several image topics in {path}, choose one of {', '.join(colour)}" if colour else \
        f"no image topic in {path} is surely a camera's, choose one of {', '.join(images)}" if images else \
        f"no image topic in {path}"
    raise InputError(f"{trouble}; its topics: {listing}")


def _decode(message: Any, levels: Levels) -> np.ndarray:
    if hasattr(message, "format"):
        return decode_compressed(message.data, levels, message.format)
    return decode_image(message.data, message.encoding, message.width, message.height, message.step,
                        bool(message.is_bigendian), levels)


def _decode_truth(truth: dict[str, Any], image: np.ndarray) -> dict[str, np.ndarray]:
    """The fields of a SequenceFrame beside the frame."""
    known = {}
    if TRUTH_POSE_TOPIC in truth:
        T_world_cam = pose_matrix(truth[TRUTH_POSE_TOPIC].pose)
        if np.isfinite(T_world_cam).all():
            known["T_world_cam"] = T_world_cam
    if TRUTH_DEPTH_TOPIC in truth:
        known["depth"] = decode_compressed_depth(truth[TRUTH_DEPTH_TOPIC].data)
        check_same_shape(known["depth"], image, TRUTH_DEPTH_TOPIC)
    if TRUTH_LABELS_TOPIC in truth:
        known["labels"] = decode_compressed_plane(truth[TRUTH_LABELS_TOPIC].data).astype(np.uint16)
        check_same_shape(known["labels"], image, TRUTH_LABELS_TOPIC)
    return known


def pose_matrix(pose: Any) -> np.ndarray:
    """(4, 4) of a geometry_msgs/Pose."""
    p, q = pose.position, pose.orientation
    return sim3(matrix_from_quaternion(np.array([q.x, q.y, q.z, q.w])), np.array([p.x, p.y, p.z]))


def encode_image(suffix: str, pixels: np.ndarray, parameters: list[int] | None = None) -> bytes:
    """The bytes of an image file (".jpg", ".png") of `pixels`, in OpenCV's channel order."""
    good, data = cv2.imencode(suffix, pixels, parameters or [])
    if not good:
        raise OutputError(f"an image of shape {pixels.shape} and type {pixels.dtype} can't be written as {suffix}")
    return data.tobytes()


def _reliable(latched: bool) -> Qos:
    durability = QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE
    never = QosTime(9223372036, 854775807)
    return Qos(history=QosHistory.KEEP_LAST, depth=1 if latched else 10, reliability=QosReliability.RELIABLE,
               durability=durability, deadline=never, lifespan=never, liveliness=QosLiveliness.AUTOMATIC,
               liveliness_lease_duration=never, avoid_ros_namespace_conventions=False)
