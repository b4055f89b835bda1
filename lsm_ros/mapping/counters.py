"""What became of the frames, and where the time went."""
from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass
class Counters:
    """What became of the frames. Every frame is a keyframe or counted under exactly one cause."""
    frames: int = 0
    keyframes: int = 0             # frames that the network was asked about
    static_frames: int = 0         # too little image motion since the last keyframe
    dark_frames: int = 0           # black, or nothing to see
    bad_images: int = 0            # InputError: no (H, W, 3) uint8 image, or a strip
    bad_intrinsics: int = 0        # InputError: K is no pinhole matrix in pixels of the image
    bad_priors: int = 0            # InputError: odometry, depth, up or height that can't be
    bad_resolutions: int = 0       # InputError: another size than the frames before
    bad_stamps: int = 0            # InputError: not later than the frame before, or no whole number
    windows: int = 0               # keyframes that became part of the map
    unsupported_windows: int = 0   # those of them whose pose no match backs: it is merely predicted, and may be wrong
    carried_windows: int = 0       # those of them that odometry alone placed: nothing else did, or it contradicted
    odometry_jumps: int = 0        # times that odometry began anew; what it told before was left out
    refused_windows: int = 0       # keyframes whose window could not be aligned, and was left out
    refused_views: int = 0         # earlier keyframes that a good window contradicted; they got no edge from it
    recognitions: int = 0          # windows that recognised a place of long before
    loops: int = 0                 # of those the ones that were believed
    unsolved_graphs: int = 0       # optimisations that gave no answer: the poses stayed as they were
    restarts: int = 0              # maps of a few keyframes that nothing could be aligned with, and that were given up
    new_maps: int = 0              # begun because the camera stayed lost, or was turned; the map before waits
    turns: int = 0                 # times that the network, not an IMU, told that the camera is held otherwise
    joined_maps: int = 0           # waiting maps that the camera came back to
    forgotten_keyframes: int = 0   # because of max_keyframes or map_radius_m


class Stopwatch:
    """Seconds of each stage."""

    def __init__(self):
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._last
        self._last = now
