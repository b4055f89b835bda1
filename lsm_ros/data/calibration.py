"""CameraInfo to the intrinsics of the image as it comes, and images freed from lens distortion.

The messages of rclpy and of rosbags have the same fields, so the node and the reader of recordings both use this.
K of a CameraInfo belongs to the full, unbinned sensor (sensor_msgs/CameraInfo): its region of interest is shifted out
first, then its binning divided out.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from lsm_ros.errors import InputError
from lsm_ros.geometry.camera import check_intrinsics, crop_intrinsics

SHORTEST, LONGEST = 0.05, 50.0    # focal length in sides of the image: fields of view of 169 and 1.1 degrees
FARTHEST = 20.0                   # principal point from the image's corner, in sides: not every region holds it
FISHEYE = ("equidistant", "fisheye")
BROWN = ("plumb_bob", "rational_polynomial", "")
# Shares of the sides between which the principal point of a whole image lies: cameras have it within a tenth of the
# middle. Intrinsics of half the image's size have it at 0.25, those of 1.5 times it at 0.75, of twice it at 1.
MIDDLE = 0.3, 0.7


@dataclass(frozen=True)
class Calibration:
    """Intrinsics of the image as it comes (binned, cut), and its distortion."""
    width: int                  # pixels of the image; 0 where the message doesn't say
    height: int
    K: np.ndarray               # (3, 3) float64, pixels, in the convention of geometry/camera
    model: str
    D: np.ndarray               # (n,) float64, all zero or empty for a rectified image

    @property
    def distorted(self) -> bool:
        return bool(np.any(self.D))


def calibration(info: Any, rectified: bool = False) -> Calibration | None:
    """The camera of a CameraInfo message; None for an uncalibrated one (K[0] = 0, as the message defines it).

    `rectified` is for images that are rectified already: then P is their camera and D is done with.
    Raises InputError naming the value for NaN, a focal length that can't be, an unknown distortion, or a P of zeros
    beside a K that is none.
    """
    K = np.array(info.p, np.float64).reshape(3, 4)[:, :3] if rectified else np.array(info.k, np.float64).reshape(3, 3)
    D = np.zeros(0) if rectified else np.array(info.d, np.float64)
    if K[0, 0] == 0:
        if rectified and info.k[0]:
            raise InputError("camera_info's P is zero although K is not; of a rectified image P is the camera")
        return None
    K = from_opencv(K)
    if not np.isfinite(D).all():
        raise InputError(f"camera_info holds a distortion that is not finite: {D.tolist()}")
    needed = (4,) if info.distortion_model in FISHEYE else (4, 5, 8, 12, 14)
    if D.any() and (info.distortion_model not in FISHEYE + BROWN or D.size not in needed):
        raise InputError(f"camera_info distortion_model {info.distortion_model!r} with {D.size} numbers is not "
                         f"supported; plumb_bob and rational_polynomial (4, 5, 8, 12 or 14) and equidistant (4) are")
    if info.width and info.height and not _holds_axis(K, info.width, info.height):
        raise InputError(f"camera_info's principal point ({K[0, 2]:.1f}, {K[1, 2]:.1f}) lies outside of the "
                         f"{info.width}x{info.height} sensor")
    roi, binning = info.roi, np.array([max(info.binning_x, 1), max(info.binning_y, 1), 1])
    K = crop_intrinsics(K, roi.x_offset, roi.y_offset) / binning[:, None]
    width, height = (roi.width or info.width) // binning[0], (roi.height or info.height) // binning[1]
    return Calibration(int(width), int(height), K, info.distortion_model, D)


def from_opencv(K: np.ndarray) -> np.ndarray:
    """(3, 3) of an OpenCV or ROS calibration, whose first pixel has its centre at (0, 0), in ours: at (0.5, 0.5)."""
    return crop_intrinsics(check_intrinsics(K), -0.5, -0.5)


def to_opencv(K: np.ndarray) -> np.ndarray:
    """The inverse of from_opencv."""
    return crop_intrinsics(K, 0.5, 0.5)


def check_size(K: np.ndarray | None, image: np.ndarray, source: str = "the intrinsics") -> None:
    """Raises InputError, which names `source`, where the principal point of K (3, 3) is not about in the middle of the
    image (H, W, 3) that K is said to be of: then K is of an image of another size. So it does where the focal length is
    none in pixels of that image. None is fine.

    It is for intrinsics that tell no size, where nothing else shows a wrong one. A CameraInfo tells it, and the
    Rectifier compares; there the principal point may lie anywhere on the sensor, for drivers that cut the image by
    hand give its size and fill in no region of interest.
    """
    height, width = image.shape[:2]
    if K is not None and not _holds_axis(K, width, height, *MIDDLE):
        raise InputError(f"the principal point ({K[0, 2]:g}, {K[1, 2]:g}) of {source} lies outside of the middle of "
                         f"the {width}x{height} image ({MIDDLE[0]} to {MIDDLE[1]} of its sides); the calibration is of "
                         "another size, or the image was cut out of a larger one")
    if K is not None:
        check_lens(K, (width, height), source)


def _holds_axis(K: np.ndarray, width: int, height: int, least: float = 0.0, most: float = 1.0) -> bool:
    """Whether the principal point of K (3, 3) lies between these shares of the sides of an image of that size."""
    return bool(least * width <= K[0, 2] <= most * width and least * height <= K[1, 2] <= most * height)


class Rectifier:
    """Takes the distortion out of images; the maps are made once for an image size."""

    def __init__(self, camera: Calibration):
        self.camera = camera
        self._maps: tuple[np.ndarray, np.ndarray] | None = None
        self._K = camera.K
        self._size = (0, 0)

    def __call__(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(H, W, 3) uint8 to the undistorted image of the same size, cut to what the lens saw, and its K.

        Raises InputError if the image has another size than the calibration says, or no lens is like that.
        """
        size, camera = (image.shape[1], image.shape[0]), self.camera
        if (camera.width, camera.height) not in (size, (0, 0)):
            raise InputError(f"camera_info is of a {camera.width}x{camera.height} image, but the image is "
                             f"{size[0]}x{size[1]}")
        if size != self._size:
            self._prepare(size)
        if self._maps is None:
            return image, self._K
        return cv2.remap(image, *self._maps, cv2.INTER_LINEAR), self._K

    def depth(self, depth: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """(h, w) z depth of any size, registered to an image of `size` (width, height), freed from distortion like it.

        No pixel is blended with its neighbours, which may be far behind it. Raises InputError as for the image.
        """
        if size != self._size:
            self._prepare(size)
        if self._maps is None:
            return depth
        return cv2.remap(cv2.resize(depth, size, interpolation=cv2.INTER_NEAREST), *self._maps, cv2.INTER_NEAREST,
                         borderValue=float("nan"))

    def _prepare(self, size: tuple[int, int]) -> None:
        K, maps = self.camera.K, None
        check_lens(K, size)
        if self.camera.distorted:
            try:
                K_cv, maps = _maps(self.camera, size)
            except cv2.error as error:
                raise InputError(f"camera_info's distortion {self.camera.D.tolist()} can't be undone: "
                                 f"{error}") from error
            K = from_opencv(K_cv)
            check_lens(K, size)
        self._K, self._maps, self._size = K, maps, size


def check_lens(K: np.ndarray, size: tuple[int, int], source: str = "camera_info") -> None:
    """Raises InputError, which names `source`, where K (3, 3) is no camera that anybody builds of images of `size`
    (width, height): it is in other units, shares or millimetres, or its numbers would only overflow further on."""
    focal = np.array([K[0, 0], K[1, 1]]) / size
    if not (SHORTEST < focal.min() and focal.max() < LONGEST):
        raise InputError(f"the focal lengths ({K[0, 0]:g}, {K[1, 1]:g}) of {source} are no lens of a "
                         f"{size[0]}x{size[1]} image; they count in its pixels")
    if not (np.abs(K[:2, 2]) <= FARTHEST * np.array(size)).all():
        raise InputError(f"the principal point ({K[0, 2]:g}, {K[1, 2]:g}) of {source} is far outside of the "
                         f"{size[0]}x{size[1]} image")
    if not abs(K[0, 1]) + abs(K[1, 0]) < K[0, 0]:
        raise InputError(f"the pixels of {source} are skewed by {K[0, 1]:g}, {K[1, 0]:g}")


def _maps(camera: Calibration, size: tuple[int, int]) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    K, D = to_opencv(camera.K), camera.D
    if camera.model in FISHEYE:
        K_new = cv2.fisheye.estimateNewCameraMatrixForUndistortRectify(K, D, size, np.eye(3), balance=0.0)
        return K_new, cv2.fisheye.initUndistortRectifyMap(K, D, np.eye(3), K_new, size, cv2.CV_16SC2)
    K_new, _ = cv2.getOptimalNewCameraMatrix(K, D, size, alpha=0.0)
    return K_new, cv2.initUndistortRectifyMap(K, D, None, K_new, size, cv2.CV_16SC2)
