"""Imports point down the house: a room imports from the floors below it and from itself, never up or sideways."""
from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "lsm_ros"
MODULES = sorted(PACKAGE.rglob("*.py"))

FLOORS = [                                  # from the roof to the cellar
    {"cli"},
    {"bench"},
    {"ros", "training", "viewing"},
    {"evaluation"},
    {"mapping", "model", "world"},          # strangers: the mapper is handed its network
    {"data"},
    {"contracts", "labels", "arguments"},
    {"geometry", "config", "resources", "text"},
    {"errors", "threads", "memory"},
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
GENERATED = {"msg", "srv"}                  # what ROS builds into lsm_ros
ROS_PACKAGES = ("rclpy", "rcl_interfaces", "rosidl", "ament", "tf2", "builtin_interfaces", "launch", "cv_bridge")


def imported(source: str) -> list[str]:
    """The full names of the modules that a source imports, functions included: 'lsm_ros.geometry.sim3'."""
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import hides where it leads"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def breaches(room: str, source: str) -> list[str]:
    """What a module of `room` imports and must not."""
    found = []
    for name in imported(source):
        top, *rest = name.split(".")
        if top == "lsm_ros" and rest:
            other = rest[0]
            allowed = room == "ros" if other in GENERATED else other == room or FLOOR[other] > FLOOR[room]
        else:
            is_ros = top.startswith(ROS_PACKAGES) or top.endswith(("_msgs", "_srvs"))
            allowed = room == "ros" or not is_ros
        if not allowed:
            found.append(name)
    return found


def room_of(module: Path) -> str:
    return module.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("module", [m for m in MODULES if m.name != "__init__.py"],
                         ids=lambda module: str(module.relative_to(PACKAGE)))
def test_imports_point_down(module):
    assert breaches(room_of(module), module.read_text()) == []


def test_every_room_has_a_floor():
    assert {room_of(module) for module in MODULES} - {"__init__"} == set(FLOOR)


def test_rooms_open_with_an_empty_init():
    # The messages' generator writes an empty lsm_ros/__init__.py of its own to the same place.
    assert [str(m) for m in MODULES if m.name == "__init__.py" and m.read_text().strip()] == []
    assert not (PACKAGE / "msg").exists() and not (PACKAGE / "srv").exists(), "they would hide the generated ones"


@pytest.mark.parametrize("room, source", [
    ("mapping", "from lsm_ros.model.engine import NetworkPredictor"),
    ("geometry", "def late():\n    import lsm_ros.contracts"),
    ("data", "from lsm_ros import evaluation"),
    ("evaluation", "from rclpy.node import Node"),
    ("cli", "from lsm_ros.msg import LabelLegend"),
    ("world", "from sensor_msgs.msg import Image"),
])
def test_a_breach_is_seen(room, source):
    assert len(breaches(room, source)) == 1


@pytest.mark.parametrize("room, source", [
    ("ros", "from lsm_ros.srv import SaveMap\nfrom std_srvs.srv import Trigger\nimport rclpy"),
    ("mapping", "from lsm_ros.geometry.sim3 import invert\nfrom lsm_ros.mapping.graph import Graph"),
    ("cli", "from lsm_ros.ros.demo import main"),
])
def test_what_is_allowed_passes(room, source):
    assert breaches(room, source) == []
