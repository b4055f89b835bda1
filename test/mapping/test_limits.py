import numpy as np

from lsm_ros.config import MapperConfig
from lsm_ros.mapping.limits import NEVER_FORGOTTEN, REDUNDANT_M, beyond_limits


def poses(x, yaw=0.0):
    """S_map_cam (N, 4, 4) along a line, the optical axis turned by `yaw` about z."""
    S = np.tile(np.eye(4), (len(x), 1, 1))
    S[:, :3, 2] = np.stack([np.cos(yaw) * np.ones(len(x)), np.sin(yaw) * np.ones(len(x)), np.zeros(len(x))], axis=1)
    S[:, :3, 1] = (0, 0, -1)
    S[:, :3, 0] = np.cross(S[:, :3, 1], S[:, :3, 2])
    S[:, 0, 3] = x
    return S


def left(S, **options):
    """The indices of the keyframes that stay after each came in its turn."""
    config = MapperConfig(**options)
    ids = []
    for n in range(len(S)):
        ids.append(n)
        gone = beyond_limits(ids, S[ids], config)
        ids = [i for i in ids if i not in gone]
    return np.array(ids)


def test_the_redundant_go_first_and_no_place_with_them():
    there = np.arange(0, 20, 0.2)
    S = poses(np.concatenate([there, there[::-1], there]))              # a corridor, three times
    for forget, covered in (("redundant", 1.0), ("farthest", 0.7), ("oldest", 0.7)):
        ids = left(S, max_keyframes=60, forget=forget)
        assert len(ids) <= 60 and set(range(300 - NEVER_FORGOTTEN, 300)) <= set(ids)
        seen = np.abs(there[:, None] - S[ids, 0, 3]).min(axis=1) < 0.6
        assert (seen.mean() == 1) == (covered == 1) and seen.mean() <= covered, forget


def test_who_looks_elsewhere_is_not_redundant():
    x = np.arange(0, 8, 0.2)
    S = poses(np.concatenate([x, x[::-1], x]), np.repeat([0.0, np.pi, 0.0], len(x)))
    ids = left(S, max_keyframes=60)
    back = (ids >= 40) & (ids < 80)
    assert 15 <= back.sum() <= 30                                      # one way back, two ways there


def test_where_none_is_redundant_the_farthest_go():
    S = poses(np.arange(100) * 1.2 * REDUNDANT_M)
    np.testing.assert_array_equal(left(S, max_keyframes=40), left(S, max_keyframes=40, forget="farthest"))


def test_the_radius_holds_beside():
    S = poses(np.tile(np.arange(0, 10, 0.2), 3))
    ids = left(S, max_keyframes=60, map_radius_m=4.0)
    settled = ids[:-NEVER_FORGOTTEN]
    assert (np.abs(S[settled, 0, 3] - S[-1, 0, 3]) <= 4).all() and len(ids) <= 60
