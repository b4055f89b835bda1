"""What every source of images gives: frames, with the truth beside them where it is known."""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from lsm_ros.contracts import Frame
from lsm_ros.errors import InputError

DEFAULT_RATE_HZ = 10.0      # of images that come without a time


@dataclass(frozen=True)
class SequenceFrame:
    """A frame and what is known of it. Depth and labels may be smaller than the image, never of another shape."""
    frame: Frame
    depth: np.ndarray | None = None         # (H, W) float32 z depth in metres, NaN where none
    T_world_cam: np.ndarray | None = None   # (4, 4) float64 true pose, metres, OpenCV camera axes
    labels: np.ndarray | None = None        # (H, W) uint16 class index


class Sequence(Protocol):
    """A source of frames in the order of their stamps. Images are read as the iteration reaches them."""
    name: str               # what to call it in tables and titles
    length: int | None      # frames that an iteration will give (an estimate for a video), None where it has no end
    skipped: int            # images of the current or last iteration that could not be read

    def __iter__(self) -> Iterator[SequenceFrame]: ...


def check_same_shape(plane: np.ndarray, image: np.ndarray, source: str) -> None:
    """Raises InputError naming both sizes where `plane` (H', W') has not the aspect ratio of `image` (H, W, 3)."""
    (h, w), (H, W) = plane.shape, image.shape[:2]
    # A pixel of rounding is allowed, and a hundredth: ScanNet has colour of 1296 x 968 and depth of 640 x 480.
    if abs(h * W - w * H) > max(H, W, .01 * h * W):
        raise InputError(f"{source} is {w}x{h}, which is not the shape of its {W}x{H} image")
