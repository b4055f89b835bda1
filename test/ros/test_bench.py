"""What `lsm bench` measures over DDS."""
import multiprocessing

import pytest

from lsm_ros.config import PredictorConfig
from lsm_ros.ros import bench


def test_an_image_from_process_to_process():
    times = bench.hop(bench.LARGE, 8)
    assert 1 <= len(times) <= 8 and all(0 < seconds < 5 for seconds in times)
    assert not multiprocessing.active_children()


@pytest.mark.slow
def test_the_node_as_it_maps_the_recording():
    told = bench.node(None, PredictorConfig(device="cpu"))
    assert 0 < told["windows"] < told["received"] <= told["sent"]
    assert told["stamp_to_cloud_ms"] > told["mapper_ms"] > told["network_ms"] > 0
    assert told["of_network"] == told["stamp_to_cloud_ms"] / told["network_ms"]
    assert 200 < told["peak_mb"] < 3000
