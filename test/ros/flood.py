"""A peer that sends what it can: images that are none, another camera_info each time, TF of ever new frames, IMU."""
from __future__ import annotations

import sys
import time

import rclpy
from geometry_msgs.msg import TransformStamped
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image, Imu
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage

rclpy.init()
node = Node("flood")
publish = {kind: node.create_publisher(kind, topic, 100).publish for kind, topic in (
    (Image, "/camera/image_raw"), (CameraInfo, "/camera/camera_info"), (TFMessage, "/tf"), (Imu, "/imu"))}
end, sent = time.monotonic() + float(sys.argv[1]), 0
while time.monotonic() < end:
    at = Header(stamp=node.get_clock().now().to_msg(), frame_id=f"frame {sent}")
    publish[Image](Image(header=at, width=10_000, height=10_000, step=3, encoding="rgb8", data=bytes(1000)))
    publish[CameraInfo](CameraInfo(header=at, k=[float(sent)] * 9))
    publish[TFMessage](TFMessage(transforms=[TransformStamped(header=at, child_frame_id=f"child {sent} {n}")
                                             for n in range(20)]))
    publish[Imu](Imu(header=at))
    sent += 1
print(sent)
node.destroy_node()
rclpy.shutdown()
