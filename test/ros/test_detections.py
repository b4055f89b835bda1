"""Objects and class names as vision_msgs, made with the real messages where they are installed."""
from __future__ import annotations

import importlib
import importlib.util
import sys
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from geometry_msgs.msg import PoseWithCovariance, Quaternion
from std_msgs.msg import Header

from lsm_ros.contracts import MapObject
from lsm_ros.labels import LabelSet

STAMP = 1_700_000_000_123_456_789


@dataclass
class VisionClass:
    class_id: int = 0
    class_name: str = ""


@dataclass
class LabelInfo:
    header: Header = field(default_factory=Header)
    class_map: list[VisionClass] = field(default_factory=list)
    threshold: float = 0.0


@dataclass
class ObjectHypothesisWithPose:
    hypothesis: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(class_id="", score=0.0))
    pose: PoseWithCovariance = field(default_factory=PoseWithCovariance)


@dataclass
class Detection3D:
    header: Header = field(default_factory=Header)
    results: list[ObjectHypothesisWithPose] = field(default_factory=list)
    bbox: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(center=None, size=None))
    id: str = ""


@dataclass
class Detection3DArray:
    header: Header = field(default_factory=Header)
    detections: list[Detection3D] = field(default_factory=list)


@pytest.fixture
def detections(monkeypatch) -> ModuleType:
    """The module, as it is on a machine that has vision_msgs."""
    if importlib.util.find_spec("vision_msgs") is None:
        stand_in = ModuleType("vision_msgs.msg")
        for kind in (VisionClass, LabelInfo, ObjectHypothesisWithPose, Detection3D, Detection3DArray):
            setattr(stand_in, kind.__name__, kind)
        monkeypatch.setitem(sys.modules, "vision_msgs", ModuleType("vision_msgs"))
        monkeypatch.setitem(sys.modules, "vision_msgs.msg", stand_in)
    monkeypatch.delitem(sys.modules, "lsm_ros.ros.detections", raising=False)
    return importlib.import_module("lsm_ros.ros.detections")


def test_objects_keep_their_id_class_and_box(detections):
    chair = MapObject(id=7, label=13, name="chair", center=np.array([1.0, 2.0, 0.5]), size=np.array([0.5, 0.6, 1.0]),
                      yaw=np.pi / 2, confidence=0.9, points=40)
    message = detections.detection_array([chair], STAMP, "lsm_map")
    assert (message.header.frame_id, message.header.stamp.nanosec) == ("lsm_map", 123_456_789)
    [found] = message.detections
    assert (found.id, found.header.frame_id) == ("7", "lsm_map")
    [result] = found.results
    assert (result.hypothesis.class_id, result.hypothesis.score) == ("13", 0.9)
    turn = Quaternion(z=float(np.sin(np.pi / 4)), w=float(np.cos(np.pi / 4)))
    for pose in (result.pose.pose, found.bbox.center):
        assert (pose.position.x, pose.position.y, pose.position.z) == (1.0, 2.0, 0.5)
        assert pose.orientation == turn
    assert (found.bbox.size.x, found.bbox.size.y, found.bbox.size.z) == (0.5, 0.6, 1.0)


def test_class_numbers_have_names(detections):
    labels = LabelSet.load()
    message = detections.label_info(labels, STAMP)
    assert [(item.class_id, item.class_name) for item in message.class_map] == list(enumerate(labels.names))
    assert message.header.stamp.sec == 1_700_000_000
