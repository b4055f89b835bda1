"""Tests of the node need rclpy and the installed package: a source tree hides the generated lsm_ros.msg."""
from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
READY = importlib.util.find_spec("rclpy") is not None and importlib.util.find_spec("lsm_ros.msg") is not None

if READY:
    sys.path[:0] = [str(HERE), str(HERE.parent / "mapping")]
    from harness import CAMERA, Process, isolate, node_command, ros
    from room import walk

    isolate()

collect_ignore_glob = [] if READY else ["test_*.py"]


def pytest_report_header() -> str | None:
    return None if READY else "test/ros is left out: it needs rclpy and the installed lsm_ros (make test)"


@pytest.fixture(scope="module")
def camera():
    """A camera in the room, which also reads what the nodes say."""
    with ros(walk(60)) as node:
        yield node


@pytest.fixture
def start(tmp_path, camera):
    """start("name:=value", ...) -> a running node; each is stopped at the end of the test."""
    running: list[Process] = []

    def run(*parameters: str, remap=(CAMERA,), fake: bool = True) -> Process:
        running.append(Process(node_command(*parameters, remap=remap, fake=fake), tmp_path / f"node{len(running)}.log"))
        return running[-1]

    yield run
    for process in running:
        process.stop()
    camera.diagnostics.clear()
    camera.levels.clear()
