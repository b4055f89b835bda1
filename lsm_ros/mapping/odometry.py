"""What a robot's odometry says of its camera's way, and when it is not believed."""
from __future__ import annotations

import numpy as np

from lsm_ros.contracts import Keyframe
from lsm_ros.geometry.sim3 import inverse, log, rigid_of, scale_of, scaling
from lsm_ros.mapping.graph import Edge, Travel

# m/s and rad/s, and m and rad: odometry that moves by more than that, or off the speed that it had, has begun anew.
FASTEST, SLACK = (2.0, 4.0), (0.1, 0.2)
FAST_FOR_S = 1.0           # a speed that odometry keeps for so long is a robot's, whatever it is
UNWATCHED_S = 5.0          # odometry that was unknown for longer may have begun anew, and no speed tells
TRAVEL_SIGMA = (0.05, 0.01)            # of odometry's translation: share of the way, and metres
TURN_SIGMA = (0.05, 0.02, 0.005)       # of its rotation: share of the turn, radians a metre, and radians
GATE = 4.0                 # sigmas of odometry beyond which an edge is not believed
SCALE_DOUBT = 0.1          # of the way: the scale of an edge is not known better


class OdometryWatch:
    """Whether what odometry tells goes on from what it told before."""

    def __init__(self):
        self.unwatched = False         # whether it was unknown for long since `watched_again`, and may have begun anew
        self._newest: tuple[int, np.ndarray] | None = None      # when it was last known, and T_odom_cam then
        self._speed = np.zeros(6)      # of the camera in its own axes, m/s (3) and rad/s (3), between two frames
        self._since_ns: int | None = None      # when it was first as fast, if so far only a jump explains it

    def hear(self, stamp_ns: int, T_odom_cam: np.ndarray) -> bool:
        """Of a frame after those heard before. Whether it has begun anew: it is where no robot can have come to."""
        before, self._newest = self._newest, (stamp_ns, T_odom_cam)
        if before is None:
            return False
        elapsed_s = 1e-9 * (stamp_ns - before[0])
        self.unwatched |= elapsed_s > UNWATCHED_S
        step = log(inverse(before[1]) @ T_odom_cam)[:6]
        slow, steady = within_reach(step, elapsed_s), within_reach(step - elapsed_s * self._speed, elapsed_s)
        self._speed = step / elapsed_s
        if slow:
            self._since_ns = None
        elif not steady:               # between transforms before and after a jump TF tells a speed, too, for a while
            self._since_ns = stamp_ns
        elif self._since_ns is not None and stamp_ns - self._since_ns >= 1e9 * FAST_FOR_S:
            self._since_ns = None
        return self._since_ns is not None

    def watched_again(self) -> None:
        """A keyframe has its place, so whatever begins anew from here on is seen."""
        self.unwatched = False

    def step_back(self, stamp_ns: int) -> None:
        """Frames go on from this stamp; what was heard of later ones was wrong."""
        if self._newest and self._newest[0] > stamp_ns:
            self._newest, self._since_ns = None, None
            self._speed = np.zeros(6)


def within_reach(step: np.ndarray, elapsed_s: float) -> bool:
    """Whether a robot does a step (6,), m (3) and rad (3), in that time; else a driver started again, or a filter was
    set."""
    return bool(np.linalg.norm(step[:3]) <= FASTEST[0] * elapsed_s + SLACK[0]
                and np.linalg.norm(step[3:]) <= FASTEST[1] * elapsed_s + SLACK[1])


def travelled(a: Keyframe, b: Keyframe) -> Travel | None:
    """What odometry says of the way from a to b, if it knows both."""
    T_odom_a, T_odom_b = a.frame.T_odom_cam, b.frame.T_odom_cam
    if T_odom_a is None or T_odom_b is None:
        return None
    T_a_b = inverse(T_odom_a) @ T_odom_b
    way, turn = (float(np.linalg.norm(part)) for part in np.split(log(T_a_b)[:6], 2))
    sigma = np.repeat([TRAVEL_SIGMA[0] * way + TRAVEL_SIGMA[1],
                       TURN_SIGMA[0] * turn + TURN_SIGMA[1] * way + TURN_SIGMA[2]], 3)
    return Travel(a.id, b.id, T_a_b, sigma)


def contradicts(edge: Edge, travel: Travel, S_map_i: np.ndarray, S_map_j: np.ndarray) -> bool:
    """Whether an edge between the two keyframes of a travel, whose units S_map_i and S_map_j tell, says something that
    no wheels would have done: false matches are far off, and odometry over a short way is not."""
    T_i_j = rigid_of(scaling(scale_of(S_map_i)) @ edge.S_i_j @ scaling(1 / scale_of(S_map_j)))
    off = log(inverse(travel.T_i_j) @ T_i_j)[:6]
    way = float(np.linalg.norm(travel.T_i_j[:3, 3]))
    sigma = travel.sigma + np.repeat([SCALE_DOUBT * way, 0.0], 3)
    return bool(np.linalg.norm(off[:3]) > GATE * sigma[0] or np.linalg.norm(off[3:]) > GATE * sigma[3])
