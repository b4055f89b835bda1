"""Decoding, against bytes written by hand."""
import cv2
import numpy as np
import pytest

from lsm_ros.data.images import (
    Levels,
    decode_compressed,
    decode_compressed_plane,
    decode_depth,
    decode_image,
    millimetres,
)
from lsm_ros.errors import InputError

RED_GREEN = np.array([[[255, 0, 0], [0, 255, 0]]], np.uint8)      # one row of two pixels


@pytest.mark.parametrize(("encoding", "data"), [
    ("rgb8", [255, 0, 0, 0, 255, 0]),
    ("bgr8", [0, 0, 255, 0, 255, 0]),
    ("8UC3", [0, 0, 255, 0, 255, 0]),
    ("rgba8", [255, 0, 0, 7, 0, 255, 0, 7]),
    ("bgra8", [0, 0, 255, 7, 0, 255, 0, 7]),
])
def test_colour_encodings(encoding, data):
    np.testing.assert_array_equal(decode_image(bytes(data), encoding, 2, 1, len(data)), RED_GREEN)


def test_rows_may_be_padded_and_the_last_one_cut_short():
    data = bytes([1, 2, 99, 99, 3, 4])
    np.testing.assert_array_equal(decode_image(data, "mono8", 2, 2, 4)[..., 0], [[1, 2], [3, 4]])


@pytest.mark.parametrize(("big", "data"), [(True, [0x12, 0x34]), (False, [0x34, 0x12])])
def test_16_bit_images_keep_their_high_byte(big, data):
    assert decode_image(bytes(data), "mono16", 1, 1, 2, big).tolist() == [[[0x12] * 3]]


@pytest.mark.parametrize(("encoding", "order"), [("uyvy", (0, 1, 2, 3)), ("yuv422", (0, 1, 2, 3)),
                                                 ("yuyv", (1, 0, 3, 2)), ("yuv422_yuy2", (1, 0, 3, 2))])
def test_yuv(encoding, order):
    red = np.array([90, 81, 240, 81], np.uint8)[list(order)]      # U Y V Y of pure red, ITU-R BT.601
    assert np.abs(decode_image(red.tobytes(), encoding, 2, 1, 4).astype(int) - (255, 0, 0)).max() <= 2


@pytest.mark.parametrize(("encoding", "kind", "shift"), [("bayer_rggb8", "u1", 0), ("bayer_rggb16", "<u2", 8)])
def test_bayer_is_named_by_its_first_two_by_two_pixels(encoding, kind, shift):
    mosaic = np.full((8, 8), 100 << shift, kind)
    mosaic[::2, ::2], mosaic[1::2, 1::2] = 255 << shift, 0
    assert decode_image(mosaic.tobytes(), encoding, 8, 8, mosaic.strides[0])[4, 4].tolist() == [255, 100, 0]


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_the_bits_that_a_camera_uses_are_found_and_an_image_that_is_darker_stays_so(bits):
    levels = Levels()

    def shown(value):
        return decode_image(np.array([value, 0], "<u2").tobytes(), "mono16", 2, 1, 4, levels=levels)[0, 0, 0]

    assert shown(2 ** bits - 1) == 255 and levels.bits == bits
    assert shown(2 ** bits // 8) == 32


@pytest.mark.parametrize(("arguments", "said"), [
    ((b"123", "yuv420", 1, 1, 3), "'yuv420' is not supported"),
    ((b"", "rgb8", 0, 480, 0), "0x480"),
    ((b"12345", "rgb8", 2, 1, 6), "5 bytes is too short for 2x1 rgb8"),
    ((b"123456", "rgb8", 2, 1, 5), "step 5 is less than a row of 2 rgb8 pixels"),
    ((b"123456", "uyvy", 3, 1, 6), "even width"),
])
def test_bad_fields_are_named(arguments, said):
    with pytest.raises(InputError, match=said):
        decode_image(*arguments)


def test_depth_is_metres_with_nan_where_none():
    np.testing.assert_array_equal(millimetres(np.array([[0, 1500]], np.uint16)), np.float32([[np.nan, 1.5]]))
    with pytest.raises(InputError, match="uint8"):
        millimetres(np.zeros((2, 2), np.uint8))


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_compressed_is_rgb_and_a_cut_file_is_an_error(suffix):
    image = np.zeros((32, 48, 3), np.uint8)
    image[...] = (200, 100, 50)
    data = cv2.imencode(suffix, image[..., ::-1])[1].tobytes()
    assert np.abs(decode_compressed(data).astype(int) - image).max() <= 2
    with pytest.raises(InputError, match=f"truncated after {len(data) // 2} bytes"):
        decode_compressed(data[:len(data) // 2])


def test_compressed_images_of_16_bits_are_those_of_raw_ones():
    pixels = np.random.default_rng(0).integers(200, 4000, (32, 48, 3), np.uint16)
    for encoding, image in (("mono16", pixels[..., 0].copy()), ("bgr16", pixels)):
        data = cv2.imencode(".png", image)[1].tobytes()
        for levels in (Levels, lambda: None):
            raw = decode_image(image.tobytes(), encoding, 48, 32, image.strides[0], levels=levels())
            np.testing.assert_array_equal(decode_compressed(data, levels()), raw)
    with pytest.raises(InputError, match="8 or 16 bits was expected; this one has int16"):
        decode_compressed(cv2.imencode(".tiff", np.zeros((4, 4), np.int16))[1].tobytes())


@pytest.mark.parametrize(("format", "is_mosaic"), [
    ("bayer_rggb8; png compressed ", True), ("bayer_rggb8; jpeg compressed bayer_rggb8", True), ("bayer_rggb8", True),
    ("bayer_rggb8; jpeg compressed mono8", False), ("mono8; png compressed ", False), ("png", False), ("", False),
    ("bayer_cmyk8; png compressed ", False)])
def test_a_compressed_mosaic_is_as_colourful_as_a_raw_one(format, is_mosaic):
    mosaic = np.random.default_rng(0).integers(0, 255, (32, 48), np.uint8)
    data = cv2.imencode(".png", mosaic)[1].tobytes()
    expected = decode_image(mosaic.tobytes(), "bayer_rggb8" if is_mosaic else "mono8", 48, 32, 48)
    np.testing.assert_array_equal(decode_compressed(data, format=format), expected)


def test_a_compressed_mosaic_of_12_bits_is_as_bright_as_a_raw_one():
    mosaic = np.random.default_rng(0).integers(0, 4095, (32, 48), np.uint16)
    np.testing.assert_array_equal(
        decode_compressed(cv2.imencode(".png", mosaic)[1].tobytes(), Levels(), "bayer_grbg16; png compressed "),
        decode_image(mosaic.tobytes(), "bayer_grbg16", 48, 32, 96, levels=Levels()))


@pytest.mark.parametrize("format", ["bayer_rggb8; jpeg compressed bgr8", "bayer_rggb8; jpeg compressed "])
def test_a_compressed_image_of_a_mosaic_that_is_in_colour_stays_so(format):
    image = np.random.default_rng(0).integers(0, 255, (32, 48, 3), np.uint8)
    data = cv2.imencode(".png", image[..., ::-1])[1].tobytes()
    np.testing.assert_array_equal(decode_compressed(data, format=format), image)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_what_phones_append_to_an_image_is_no_damage(suffix):
    image = np.random.default_rng(0).integers(0, 255, (32, 48, 3), np.uint8)
    data = cv2.imencode(suffix, image)[1].tobytes()
    film = b"\0\0\0\x18ftypmp42" + bytes(5000)
    np.testing.assert_array_equal(decode_compressed(data + film), decode_compressed(data))


def test_the_end_of_a_thumbnail_is_not_that_of_the_image():
    data = cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8))[1].tobytes()
    thumbnail = b"Exif\0\0" + cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
    whole = data[:2] + b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail + data[2:]
    assert decode_compressed(whole).shape == (64, 96, 3)
    with pytest.raises(InputError, match="truncated"):
        decode_compressed(whole[:-500])


def test_what_is_no_image_is_an_error():
    with pytest.raises(InputError, match="0 bytes"):
        decode_compressed(b"")
    with pytest.raises(InputError, match="starts with 68 65 6c 6c"):
        decode_compressed(b"hello world")
    colour = cv2.imencode(".png", np.zeros((2, 2, 3), np.uint8))[1].tobytes()
    with pytest.raises(InputError, match="this one has 3"):
        decode_compressed_plane(colour)


@pytest.mark.parametrize(("encoding", "values"), [
    ("16UC1", np.array([[1500, 0]], "<u2")),
    ("32FC1", np.array([[1.5, np.inf]], "<f4")),
    ("32FC1", np.array([[1.5, -1.0]], "<f4"))])
def test_measured_depth_is_in_metres_and_nan_where_there_is_none(encoding, values):
    depth = decode_depth(values.tobytes(), encoding, 2, 1, values.nbytes)
    assert depth.dtype == np.float32
    np.testing.assert_array_equal(depth, [[1.5, np.nan]])


def test_depth_of_the_other_byte_order():
    assert decode_depth(np.array([[1500]], ">u2").tobytes(), "16UC1", 1, 1, 2, True)[0, 0] == 1.5


def test_depth_in_an_unknown_encoding_is_named():
    with pytest.raises(InputError, match="depth encoding 'rgb8' is not supported; supported: 16UC1, mono16, 32FC1"):
        decode_depth(bytes(3), "rgb8", 1, 1, 3)
