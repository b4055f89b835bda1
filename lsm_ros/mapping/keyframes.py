"""Which frames the map takes, and which it keeps: those whose image has moved, by sparse optical flow."""
from __future__ import annotations

from dataclasses import replace
from enum import Enum, auto

import cv2
import numpy as np

from lsm_ros.contracts import Frame
from lsm_ros.data.frames import check_same_shape
from lsm_ros.data.images import FARTHEST_M
from lsm_ros.errors import InputError
from lsm_ros.geometry.camera import scale_intrinsics
from lsm_ros.geometry.sim3 import is_pose

KEPT_WIDTH = 320           # wider images are reduced when kept: 0.2 MB a keyframe, and the network sees fewer pixels
WORK_WIDTH = 320           # flow is measured on an image of this width: a tenth of it is 32 pixels, and VGA costs 3 ms
CORNERS = 200
MIN_CORNERS = 12           # below it there is nothing to track, and brightness alone decides
DARK_MEAN, FLAT_STD = 10.0, 3.0      # grey levels: a covered lens, a black or an empty image
MISMATCH_LEVELS = 25.0     # mean difference of the patches before and after: beyond it they are not the same corner
UNIT_TOLERANCE = 0.05      # of the length of a direction that a frame tells: of rounded poses, say
CHANGED_LEVELS = 12.0      # mean change of brightness that makes a keyframe where there is nothing to track


def narrowed(image: np.ndarray, width: int) -> np.ndarray:
    """An image (H, W) or (H, W, 3) at most so many pixels wide, in its own shape; itself if it is no wider."""
    h, w = image.shape[:2]
    if w <= width:
        return image
    return cv2.resize(image, (width, max(1, round(h * width / w))), interpolation=cv2.INTER_AREA)


def reduced(frame: Frame) -> Frame:
    """The frame as it is kept: at most KEPT_WIDTH wide, K scaled with it; of a measured depth as many pixels."""
    if frame.depth is not None and (step := -(-frame.depth.shape[1] // KEPT_WIDTH)) > 1:
        frame = replace(frame, depth=frame.depth[step // 2::step, step // 2::step].copy())
    image = narrowed(frame.image, KEPT_WIDTH)
    if image is frame.image:
        return frame
    old, new = frame.image.shape[1::-1], image.shape[1::-1]
    return replace(frame, image=image, K=None if frame.K is None else scale_intrinsics(frame.K, old, new))


def owned(frame: Frame) -> Frame:
    """With arrays of its own: whoever pushes frames may write the next image, or pose, over the last one."""
    told = {name: getattr(frame, name) for name in ("image", "K", "T_odom_cam", "depth", "up_cam")}
    return replace(frame, **{name: np.array(value) for name, value in told.items() if value is not None})


def check_priors(frame: Frame) -> None:
    """Raises InputError, naming the value, for what a frame tells beside its image and can't be: one NaN among the
    poses is a map of NaN."""
    T, depth, up, height_m = frame.T_odom_cam, frame.depth, frame.up_cam, frame.height_m
    if T is not None and not (np.shape(T) == (4, 4) and isinstance(T, np.ndarray) and is_pose(T)):
        raise InputError(f"T_odom_cam is no pose, a (4, 4) array: {np.asarray(T).tolist()}")
    if depth is not None:
        if not isinstance(depth, np.ndarray) or depth.dtype.kind != "f" or depth.ndim != 2 or not depth.size:
            what = f"{depth.dtype} {depth.shape}" if isinstance(depth, np.ndarray) else type(depth).__name__
            raise InputError(f"depth is {what}; it must be float32 (h, w), in metres")
        check_same_shape(depth, frame.image, "depth")
        known = depth[::8, ::8]         # all of it, for each frame, would take a millisecond
        known = known[np.isfinite(known) & (known > 0)]
        if known.size and known.min() > FARTHEST_M:
            raise InputError(f"depth is {known.min():g} to {known.max():g} m; it must be in metres")
    if up is not None and not (np.shape(up) == (3,) and abs(np.linalg.norm(up) - 1) < UNIT_TOLERANCE):
        raise InputError(f"up_cam is {np.asarray(up).tolist()}; it must be a unit vector (3,)")
    if height_m is not None and not 0 < height_m < np.inf:
        raise InputError(f"height_m is {height_m:g}; it must be positive")


class Verdict(Enum):
    """What becomes of a frame."""
    KEYFRAME = auto()
    STATIC = auto()        # the view is still the last keyframe's
    DARK = auto()          # nothing to see


class KeyframeSelector:
    """Compares each image with the last keyframe by pyramidal Lucas-Kanade flow (Bouguet 2001) of Shi-Tomasi corners.

    The corners are followed from frame to frame for the sake of large motions, but the motion that counts is the one
    since the keyframe, so a camera that trembles on the spot makes no keyframes.
    """

    def __init__(self, motion: float, tracks: float):
        """A keyframe is due at a mean motion of `motion` widths, or when a share below `tracks` of corners is left."""
        self.configure(motion, tracks)
        self.reset()

    def configure(self, motion: float, tracks: float) -> None:
        """Other thresholds from the next image on."""
        self._motion, self._tracks = motion, tracks

    def reset(self) -> None:
        """The next image that shows anything is a keyframe."""
        self._grey: np.ndarray | None = None           # the last image
        self._keyframe_grey: np.ndarray | None = None
        self._corners = np.empty((0, 2), np.float32)   # of the keyframe, those still tracked
        self._points = np.empty((0, 2), np.float32)    # the same in the last image
        self._found = 0                                # corners when the keyframe was made

    def judge(self, image: np.ndarray) -> Verdict:
        """`image` (H, W, 3) uint8 RGB; all of one size until `reset`."""
        grey = cv2.cvtColor(narrowed(image, WORK_WIDTH), cv2.COLOR_RGB2GRAY)
        if grey.mean() < DARK_MEAN or grey.std() < FLAT_STD:
            return Verdict.DARK
        if self._grey is not None:
            self._follow(grey)
            if not self._moved(grey):
                self._grey = grey
                return Verdict.STATIC
        self._start(grey)
        return Verdict.KEYFRAME

    def _start(self, grey: np.ndarray) -> None:
        corners = cv2.goodFeaturesToTrack(grey, CORNERS, qualityLevel=0.01, minDistance=grey.shape[1] / 40)
        self._corners = np.empty((0, 2), np.float32) if corners is None else corners.reshape(-1, 2)
        self._points, self._found = self._corners, len(self._corners)
        self._grey = self._keyframe_grey = grey

    def _follow(self, grey: np.ndarray) -> None:
        if not len(self._points):
            return
        points, status, mismatch = cv2.calcOpticalFlowPyrLK(self._grey, grey, self._points[:, None], None,
                                                     winSize=(15, 15), maxLevel=3)
        points = points.reshape(-1, 2)
        inside = ((points >= 0) & (points < (grey.shape[1], grey.shape[0]))).all(axis=1)
        kept = (status.ravel() == 1) & (mismatch.ravel() < MISMATCH_LEVELS) & inside
        self._points, self._corners = points[kept], self._corners[kept]

    def _moved(self, grey: np.ndarray) -> bool:
        if self._found < MIN_CORNERS:
            return float(cv2.absdiff(grey, self._keyframe_grey).mean()) > CHANGED_LEVELS
        if len(self._points) < self._tracks * self._found or not len(self._points):
            return True
        motion = np.linalg.norm(self._points - self._corners, axis=1).mean()
        return bool(motion > self._motion * grey.shape[1])
