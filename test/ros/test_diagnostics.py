"""The DiagnosticArray, without a node."""
from __future__ import annotations

import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from std_msgs.msg import Header

from lsm_ros.mapping.mapper import Counters
from lsm_ros.ros.diagnostics import Health, diagnostic_array


@pytest.mark.parametrize("state, matches, level, told", [
    ("tracking", 140, DiagnosticStatus.OK, "140"),
    ("weak", 0, DiagnosticStatus.WARN, "0"),
    ("tracking", None, DiagnosticStatus.OK, None),       # the first view has nothing to match with
])
def test_a_window_without_matches_is_a_warning(state, matches, level, told):
    counters = Counters(unsupported_windows=3)
    array = diagnostic_array(Header(), "lsm/lsm", Health(None), counters, state, {}, None, matches)
    [mapping] = [status for status in array.status if status.name == "lsm/lsm: mapping"]
    values = {pair.key: pair.value for pair in mapping.values}
    assert (mapping.level, mapping.message) == (level, state)
    assert values.get("window_matches") == told
    assert values["mapper.unsupported_windows"] == "3"
