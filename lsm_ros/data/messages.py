"""How the node packs its clouds and markers: for the room that publishes them, and for who reads them without ROS."""
from __future__ import annotations

from typing import Any

import numpy as np

from lsm_ros.contracts import Cloud
from lsm_ros.errors import InputError

# A point of every cloud: 20 bytes, read by RViz, PCL, Nav2 and Open3D alike. `rgb` are the bits 0x00RRGGBB in a float,
# as PCL packs them; with an alpha of 255 every colour with red >= 128 would be a NaN.
POINT = np.dtype([("xyz", "<f4", 3), ("rgb", "<u4"), ("label", "<u2"), ("confidence", "u1"), ("pad", "u1")])
CLOUD_FIELDS = ["x", "y", "z", "rgb", "label", "confidence"]
LEGEND_TYPE = "lsm_ros/msg/LabelLegend"
LEGEND_FIELDS = "std_msgs/Header header\nuint16[] ids\nstring[] names\nstd_msgs/ColorRGBA[] colors\n"     # its .msg
BOX, NAME = "box", "name"           # the two namespaces of the label markers
KEYFRAMES, EDGES, LOOPS = "keyframes", "edges", "loops"         # those of the pose graph's markers


def cloud(message: Any) -> Cloud:
    """A PointCloud2 of `POINT`s, of rclpy or of rosbags. Raises InputError for a cloud of another layout."""
    if message.point_step != POINT.itemsize or [field.name for field in message.fields] != CLOUD_FIELDS:
        raise InputError(f"a cloud of {message.point_step} bytes a point with the fields "
                         f"{', '.join(field.name for field in message.fields)} is none of this node's")
    points = np.frombuffer(message.data, POINT)
    rgb = points["rgb"]
    return Cloud(points=points["xyz"], colors=np.stack([rgb >> 16, rgb >> 8, rgb], axis=1).astype(np.uint8),
                 labels=points["label"], confidence=points["confidence"])
