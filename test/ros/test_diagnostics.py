"""The DiagnosticArray, without a node."""
from __future__ import annotations

from types import SimpleNamespace

import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from std_msgs.msg import Header

from lsm_ros.contracts import MetricScale
from lsm_ros.mapping.counters import Counters
from lsm_ros.ros.diagnostics import Health, diagnostic_array, map_values


def array(counters=None, state="tracking", **others):
    return diagnostic_array(Header(), "lsm/lsm", Health(None), counters, state, {}, None, **others)


@pytest.mark.parametrize("state, matches, level, told", [
    ("tracking", 140, DiagnosticStatus.OK, "140"),
    ("weak", 0, DiagnosticStatus.WARN, "0"),
    ("tracking", None, DiagnosticStatus.OK, None),       # the first view has nothing to match with
])
def test_a_window_without_matches_is_a_warning(state, matches, level, told):
    statuses = array(Counters(unsupported_windows=3), state, matches=matches).status
    [mapping] = [status for status in statuses if status.name == "lsm/lsm: mapping"]
    values = {pair.key: pair.value for pair in mapping.values}
    assert (mapping.level, mapping.message) == (level, state)
    assert values.get("window_matches") == told
    assert values["mapper.unsupported_windows"] == "3"


def test_the_map_tells_its_metre_and_whether_it_has_a_floor():
    world = map_values(SimpleNamespace(metric=MetricScale(1.12, 0.034, "odometry", 40), map_id=2, loops=3,
                                       on_floor=True, keyframes=50, voxels=70000))
    [shown] = [status for status in array(world=world).status if status.name == "lsm/lsm: map"]
    assert shown.message == "map 2 of 50 keyframes, its metre from odometry (1 sigma 3%), z = 0 is the floor"
    assert {pair.key: pair.value for pair in shown.values} == {
        "map_id": "2", "keyframes": "50", "voxels": "70000", "scale": "1.120", "scale_source": "odometry",
        "scale_sigma": "0.034", "scale_samples": "40", "loops": "3", "on_floor": "True"}
    [nothing] = [status for status in array().status if status.name == "lsm/lsm: map"]
    assert (nothing.message, nothing.values) == ("no map yet", [])
