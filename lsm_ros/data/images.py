"""Bytes to pixels: raw ROS encodings, and JPEG or PNG. The folder, the recording and the node decode through here."""
from __future__ import annotations

import io

import cv2
import numpy as np
from PIL import Image

from lsm_ros.errors import InputError

MOST_PIXELS = 1 << 26         # 8192 x 8192: a file of some bytes may claim any size, and would get the memory

# Encoding -> (element type, channels, how OpenCV turns it into RGB; None where it is RGB already).
# The names are those of sensor_msgs/image_encodings.hpp. An 8UC3 image says nothing of its order; OpenCV's is BGR.
ENCODINGS: dict[str, tuple[str, int, int | None]] = {
    "rgb8": ("u1", 3, None),
    "bgr8": ("u1", 3, cv2.COLOR_BGR2RGB),
    "rgba8": ("u1", 4, cv2.COLOR_RGBA2RGB),
    "bgra8": ("u1", 4, cv2.COLOR_BGRA2RGB),
    "mono8": ("u1", 1, cv2.COLOR_GRAY2RGB),
    "8UC1": ("u1", 1, cv2.COLOR_GRAY2RGB),
    "8UC3": ("u1", 3, cv2.COLOR_BGR2RGB),
    "8UC4": ("u1", 4, cv2.COLOR_BGRA2RGB),
    "rgb16": ("u2", 3, None),
    "bgr16": ("u2", 3, cv2.COLOR_BGR2RGB),
    "mono16": ("u2", 1, cv2.COLOR_GRAY2RGB),
    "yuv422": ("u1", 2, cv2.COLOR_YUV2RGB_UYVY),
    "uyvy": ("u1", 2, cv2.COLOR_YUV2RGB_UYVY),
    "yuv422_yuy2": ("u1", 2, cv2.COLOR_YUV2RGB_YUYV),
    "yuyv": ("u1", 2, cv2.COLOR_YUV2RGB_YUYV),
    "bayer_rggb8": ("u1", 1, cv2.COLOR_BayerRGGB2RGB),
    "bayer_bggr8": ("u1", 1, cv2.COLOR_BayerBGGR2RGB),
    "bayer_gbrg8": ("u1", 1, cv2.COLOR_BayerGBRG2RGB),
    "bayer_grbg8": ("u1", 1, cv2.COLOR_BayerGRBG2RGB),
    "bayer_rggb16": ("u2", 1, cv2.COLOR_BayerRGGB2RGB),
    "bayer_bggr16": ("u2", 1, cv2.COLOR_BayerBGGR2RGB),
    "bayer_gbrg16": ("u2", 1, cv2.COLOR_BayerGBRG2RGB),
    "bayer_grbg16": ("u2", 1, cv2.COLOR_BayerGRBG2RGB),
}


class Levels:
    """How many of their bits the 16-bit images of one camera use, which no message says: sensors have 10, 12 or 14.

    As many as the brightest value so far needs, in steps of two, so that brightness hardly ever changes, and never
    back. That an image is darker than the ones before does not make it brighter.
    """

    def __init__(self):
        self.bits = 8

    def narrow(self, values: np.ndarray) -> np.ndarray:
        """uint16 of any shape to the highest 8 of the bits in use."""
        needed = int(values.max()).bit_length()
        self.bits = max(self.bits, needed + needed % 2)
        return (values >> (self.bits - 8)).astype(np.uint8)


def decode_image(data, encoding: str, width: int, height: int, step: int, is_bigendian: bool = False,
                 levels: Levels | None = None) -> np.ndarray:
    """The fields of a sensor_msgs/Image to (H, W, 3) uint8 RGB; rows may be padded (`step` bytes a row).

    16-bit images keep the high byte of what their camera's `levels` say is in use, or of all. Raises InputError naming
    the encoding or the size that doesn't fit.
    """
    if encoding not in ENCODINGS:
        raise InputError(f"image encoding {encoding!r} is not supported; supported: {', '.join(ENCODINGS)}")
    kind, channels, conversion = ENCODINGS[encoding]
    pixels = _rows(data, np.dtype(kind), channels, encoding, width, height, step, is_bigendian)
    pixels = _eight_bits(pixels, levels)
    if encoding in ("yuv422", "uyvy", "yuv422_yuy2", "yuyv") and width % 2:
        raise InputError(f"a {encoding} image has an even width; this one is {width}x{height}")
    if conversion is None:
        return np.array(pixels)
    return cv2.cvtColor(np.ascontiguousarray(pixels), conversion)


# What a depth image may say, metres; farther is nothing mapped, and 32FC1 that holds millimetres is soon beyond it.
NEAREST_M, FARTHEST_M = 1e-3, 200.0
DEPTH_ENCODINGS = {"16UC1": "u2", "mono16": "u2", "32FC1": "f4"}     # whole millimetres twice, metres (REP 118)


def decode_depth(data, encoding: str, width: int, height: int, step: int, is_bigendian: bool = False) -> np.ndarray:
    """The fields of a sensor_msgs/Image of depth to (H, W) float32 metres, NaN where nothing was measured.

    Raises InputError naming the encoding or the size that doesn't fit.
    """
    if encoding not in DEPTH_ENCODINGS:
        raise InputError(f"depth encoding {encoding!r} is not supported; supported: {', '.join(DEPTH_ENCODINGS)}")
    depth = _rows(data, np.dtype(DEPTH_ENCODINGS[encoding]), 1, encoding, width, height, step, is_bigendian)[..., 0]
    if depth.dtype == np.uint16:
        return millimetres(depth)
    with np.errstate(invalid="ignore"):         # of a signalling NaN
        return np.where((depth >= NEAREST_M) & (depth <= FARTHEST_M), depth, np.float32(np.nan))


def decode_compressed(data, levels: Levels | None = None, format: str = "") -> np.ndarray:
    """A whole JPEG, PNG or other image file in memory to (H, W, 3) uint8 RGB; 16 bits as `decode_image` has them.

    `format` is that of a sensor_msgs/CompressedImage, which may say that the file holds a Bayer mosaic. Raises
    InputError if it is damaged.
    """
    mosaic = _mosaic(format)
    pixels = _decode_file(data, (cv2.IMREAD_ANYCOLOR if mosaic else cv2.IMREAD_COLOR) | cv2.IMREAD_ANYDEPTH)
    if pixels.dtype not in (np.uint8, np.uint16):           # TIFF has others
        raise InputError(f"an image of 8 or 16 bits was expected; this one has {pixels.dtype}")
    conversion = ENCODINGS[mosaic][2] if mosaic and pixels.ndim == 2 else cv2.COLOR_BGR2RGB
    return cv2.cvtColor(_eight_bits(pixels, levels), conversion)


def _mosaic(format: str) -> str:
    """The Bayer encoding of the mosaic that an image file of one channel holds, or "".

    image_transport says what the image was, and behind "compressed" what it was turned into for the file, or nothing:
    "bayer_rggb8; png compressed " and "bayer_rggb8; jpeg compressed bayer_rggb8" are mosaics, and what ROS 2 sends for
    a Bayer image unless it is told otherwise, "bayer_rggb8; jpeg compressed mono8", is grey.
    """
    encoding, held = format.partition(";")[0].strip(), format.rpartition("compressed")[2].strip()
    return encoding if encoding.startswith("bayer_") and encoding in ENCODINGS and held in ("", encoding) else ""


def decode_compressed_plane(data) -> np.ndarray:
    """A PNG of one channel, 8 or 16 bits, to (H, W) as it is stored, such as labels."""
    plane = _decode_file(data, cv2.IMREAD_UNCHANGED)
    if plane.ndim != 2:
        raise InputError(f"an image of one channel was expected; this one has {plane.shape[2]}")
    return plane


def decode_compressed_depth(data) -> np.ndarray:
    """A PNG of one channel, 16 bits, millimetres, to depth as `millimetres` has it. Raises InputError if it is none."""
    return millimetres(decode_compressed_plane(data))


def millimetres(depth_mm: np.ndarray) -> np.ndarray:
    """(H, W) uint16 millimetres, 0 where none, to float32 metres, NaN where none."""
    if depth_mm.dtype != np.uint16:
        raise InputError(f"depth in millimetres is stored in 16 bits; this image has {depth_mm.dtype}")
    return np.where(depth_mm > 0, depth_mm.astype(np.float32) / 1000, np.float32(np.nan))


def _eight_bits(pixels: np.ndarray, levels: Levels | None) -> np.ndarray:
    """uint8, of uint8 or uint16; `levels` None takes the high byte of all."""
    if pixels.dtype == np.uint8:
        return pixels
    return levels.narrow(pixels) if levels else (pixels >> 8).astype(np.uint8)


def _rows(data, kind: np.dtype, channels: int, encoding: str, width: int, height: int, step: int,
          is_bigendian: bool) -> np.ndarray:
    """(H, W, channels) view of the bytes, without the rows' padding, in the machine's byte order."""
    if width <= 0 or height <= 0:
        raise InputError(f"image of size {width}x{height}")
    row = width * channels * kind.itemsize
    if step < row:
        raise InputError(f"image step {step} is less than a row of {width} {encoding} pixels ({row} bytes)")
    buffer = np.frombuffer(data, np.uint8)
    if buffer.size < step * (height - 1) + row:
        raise InputError(f"image data of {buffer.size} bytes is too short for {width}x{height} {encoding} "
                         f"with step {step} ({step * height} bytes)")
    rows = np.lib.stride_tricks.as_strided(buffer, (height, row), (step, 1), writeable=False)
    pixels = np.ascontiguousarray(rows).view(kind.newbyteorder(">" if is_bigendian else "<"))
    return pixels.astype(kind, copy=False).reshape(height, width, channels)


def _decode_file(data, flags: int) -> np.ndarray:
    buffer = np.frombuffer(data, np.uint8)
    if buffer.size == 0:
        raise InputError("compressed image of 0 bytes")
    if _truncated(buffer):
        raise InputError(f"compressed image is truncated after {buffer.size} bytes")
    width, height = _claimed_size(buffer)
    if not 0 < width * height <= MOST_PIXELS:
        raise InputError(f"compressed image of {width}x{height} pixels; 1 to {MOST_PIXELS} are read")
    try:
        pixels = cv2.imdecode(buffer, flags)
    except (cv2.error, MemoryError) as error:
        raise InputError(f"compressed image of {buffer.size} bytes can't be decoded: {error}") from error
    if pixels is None:
        raise InputError(_undecodable(buffer))
    return pixels


def _undecodable(buffer: np.ndarray) -> str:
    return f"compressed image of {buffer.size} bytes can't be decoded; it starts with {bytes(buffer[:4]).hex(' ')}"


def _claimed_size(buffer: np.ndarray) -> tuple[int, int]:
    """(width, height) that an image file claims, before anything is decoded."""
    try:
        with Image.open(io.BytesIO(buffer)) as picture:
            return picture.size
    except Image.DecompressionBombError as error:
        raise InputError(f"compressed image: {error}") from error
    except Exception as error:      # noqa: BLE001 a damaged header surfaces as any of a dozen types
        raise InputError(_undecodable(buffer)) from error


def _truncated(buffer: np.ndarray) -> bool:
    """True for a JPEG or PNG without its end marker: OpenCV would fill the missing rows with grey and say nothing.

    Something may follow the marker: phones append the film of a motion photo, and notes of their own.
    """
    head, tail = buffer[:8].tobytes(), buffer[-64:].tobytes()
    if head.startswith(b"\xff\xd8"):
        return b"\xff\xd9" not in tail and not _jpeg_ends(buffer.tobytes())
    if head.startswith(b"\x89PNG"):
        return b"IEND" not in tail and not _png_ends(buffer.tobytes())
    return False


def _jpeg_ends(data: bytes) -> bool:
    """Whether the end marker stands behind the pixels. The one of a thumbnail in the header says nothing; within the
    pixels a 0xFF is always followed by 0x00 or a restart marker (ITU-T T.81, B.1.1.5)."""
    at = 2
    while data[at:at + 1] == b"\xff":
        if data[at + 1:at + 2] == b"\xff":              # a fill byte
            at += 1
            continue
        if data[at + 1:at + 2] == b"\xda":              # start of scan
            return data.find(b"\xff\xd9", at) >= 0
        at += 2 + max(int.from_bytes(data[at + 2:at + 4], "big"), 2)
    return False


def _png_ends(data: bytes) -> bool:
    """Whether its last chunk is there, by the chunks' lengths."""
    at = 8
    while at + 12 <= len(data):
        if data[at + 4:at + 8] == b"IEND":
            return True
        at += 12 + int.from_bytes(data[at:at + 4], "big")
    return False
