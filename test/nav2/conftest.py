"""Robots in a rendered home need rclpy's messages and the installed package, as test/ros does."""
from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

HERE = Path(__file__).parent
READY = importlib.util.find_spec("rclpy") is not None and importlib.util.find_spec("lsm_ros.msg") is not None

if READY:
    sys.path[:0] = [str(HERE), str(HERE.parent / "ros")]
    from harness import isolate

    isolate()

collect_ignore_glob = [] if READY else ["test_*.py"]
