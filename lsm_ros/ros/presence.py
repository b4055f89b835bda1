"""Whether there is a ROS 2: whatever may run without one asks before it imports from this room."""
from __future__ import annotations

import importlib.util

from lsm_ros.errors import ConfigError


def check_ros(what: str) -> None:
    """Raises ConfigError where this Python has no ROS 2 with our messages."""
    missing = next((name for name in ("rclpy", "lsm_ros.msg") if importlib.util.find_spec(name) is None), None)
    if missing:
        raise ConfigError(f"{what} the ROS 2 node, and this Python has no {missing}: source a ROS 2 workspace "
                          f"that holds lsm_ros, or install the package with its ROS wheels; `lsm map` needs neither")
