"""The objects and the names of the classes as vision_msgs, for those who read these; made where they are installed."""
from __future__ import annotations

from geometry_msgs.msg import Point, Pose, Vector3

from lsm_ros.contracts import MapObject
from lsm_ros.labels import LabelSet
from lsm_ros.ros.conversions import header, turned

try:
    from vision_msgs.msg import Detection3D, Detection3DArray, LabelInfo, ObjectHypothesisWithPose, VisionClass
except ImportError:
    Detection3DArray = LabelInfo = None         # nothing below is called then


def label_info(labels: LabelSet, stamp: int) -> LabelInfo:
    """Class number -> name. (LabelLegend has the colours as well.)"""
    return LabelInfo(header=header(stamp, ""), class_map=[VisionClass(class_id=number, class_name=name)
                                                          for number, name in enumerate(labels.names)])


def detection_array(objects: list[MapObject], stamp: int, map_frame: str) -> Detection3DArray:
    """An object under its own id, with its class number as LabelInfo has it, its confidence and its upright box."""
    at = header(stamp, map_frame)
    detections = []
    for item in objects:
        x, y, z = map(float, item.center)
        hypothesis = ObjectHypothesisWithPose()
        hypothesis.hypothesis.class_id = str(item.label)
        hypothesis.hypothesis.score = float(item.confidence)
        hypothesis.pose.pose = Pose(position=Point(x=x, y=y, z=z), orientation=turned(item.yaw))
        detection = Detection3D(header=at, id=str(item.id), results=[hypothesis])
        detection.bbox.center = hypothesis.pose.pose
        detection.bbox.size = Vector3(**dict(zip("xyz", map(float, item.size), strict=True)))
        detections.append(detection)
    return Detection3DArray(header=at, detections=detections)
