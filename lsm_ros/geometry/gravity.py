"""Which way is up, of an IMU: the gyroscope carries the direction along, the accelerometer pulls it right."""
from __future__ import annotations

from bisect import bisect_left
from collections import deque

import numpy as np

from lsm_ros.errors import InputError
from lsm_ros.geometry.sim3 import exp_so3, matrix_from_quaternion

STANDARD_GRAVITY = 9.80665      # m/s^2
TOLERANCE = 1.0                 # m/s^2: an acceleration whose length is farther from gravity's is motion
FOLLOW_S = 1.0                  # time constant: motion that averages out over this long does no harm
GAP_S = 0.5                     # after a longer gap, or a jump back, the direction is found anew
HISTORY = 2000                  # samples: five seconds of a fast IMU
FASTEST = 100.0                 # rad/s: no gyroscope says more
NEAR_NS = 200_000_000           # a sample this far from the moment asked for is no answer


class GravityFilter:
    """A complementary filter of the up direction in the IMU's frame (Mahony et al. 2008, without the bias)."""

    def __init__(self):
        self._up: np.ndarray | None = None          # (3,) unit vector in the IMU at the newest sample
        self._samples: deque[tuple[int, np.ndarray]] = deque(maxlen=HISTORY)

    def add(self, stamp_ns: int, acceleration: np.ndarray, turn_rate: np.ndarray | None = None,
            orientation: np.ndarray | None = None) -> bool:
        """One sample; False where its acceleration was left out, as of motion.

        Args:
            acceleration: (3,) m/s^2 as an accelerometer feels it: +9.81 upwards at rest.
            turn_rate: (3,) rad/s about the IMU's axes, where there is a gyroscope.
            orientation: (4,) x y z w of the IMU in a frame whose z is up, where the IMU estimates it: taken as it is.

        Raises InputError for an acceleration that isn't gravity while the direction isn't known yet, and for numbers
        that none of these can be; the sample is left out then.
        """
        if not np.isfinite(acceleration).all():
            raise InputError(f"an acceleration of {acceleration.tolist()} m/s^2")
        if turn_rate is not None and not np.abs(turn_rate).max() <= FASTEST:
            raise InputError(f"a turn rate of {turn_rate.tolist()} rad/s")
        if orientation is not None and not abs(np.linalg.norm(orientation) - 1) < 0.1:
            raise InputError(f"an orientation of {orientation.tolist()}, which is no unit quaternion")
        elapsed_s = (stamp_ns - self._samples[-1][0]) * 1e-9 if self._samples else np.inf
        if not 0 <= elapsed_s <= GAP_S:
            self._samples.clear()
            self._up = None
        if orientation is not None:
            self._up, used = matrix_from_quaternion(orientation)[2], True
        else:
            used = self._follow(elapsed_s, acceleration, turn_rate)
        self._samples.append((stamp_ns, self._up))
        return used

    def at(self, stamp_ns: int) -> np.ndarray | None:
        """(3,) unit vector up in the IMU at the sample nearest to a moment; None where there is none nearby."""
        if not self._samples:
            return None
        after = bisect_left(self._samples, stamp_ns, key=lambda sample: sample[0])
        nearest = min((self._samples[i] for i in (after - 1, after) if 0 <= i < len(self._samples)),
                      key=lambda sample: abs(sample[0] - stamp_ns))
        return nearest[1] if abs(nearest[0] - stamp_ns) <= NEAR_NS else None

    def _follow(self, elapsed_s: float, acceleration: np.ndarray, turn_rate: np.ndarray | None) -> bool:
        length = np.linalg.norm(acceleration)
        is_gravity = abs(length - STANDARD_GRAVITY) <= TOLERANCE
        if self._up is None:
            if not is_gravity:
                raise InputError(f"an acceleration of {length:.2f} m/s^2 is not gravity's "
                                 f"{STANDARD_GRAVITY:.2f} +- {TOLERANCE:.1f}")
            self._up = acceleration / length
            return True
        up = self._up if turn_rate is None else exp_so3(-turn_rate * elapsed_s) @ self._up
        if is_gravity:
            up = up + elapsed_s / (FOLLOW_S + elapsed_s) * (acceleration / length - up)
        self._up = up / np.linalg.norm(up)
        return is_gravity
