"""The topics of one window: its newest view, in the camera's frame and with the image's stamp.

Nav2 takes the origin of a cloud's frame for the sensor, and clears from there: hence the frame of the image.
"""
from __future__ import annotations

import numpy as np
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_msgs.msg import Header

from lsm_ros.contracts import MapUpdate
from lsm_ros.mapping.obstacles import Robot, free_ends, obstacles, organised, thinned
from lsm_ros.ros.conversions import camera_info, cloud_message, depth_message, header, mono8_message, xyz_message
from lsm_ros.ros.parameters import NodeOptions
from lsm_ros.ros.qos import STREAM, Topics, is_read

MONO8_CLASSES = 256         # a mask's pixel tells no more apart


class WindowTopics:
    """Clouds of points, obstacles, ground and free ways; the labelled grid of a semantic costmap layer; the depth."""

    def __init__(self, topics: Topics):
        self._cloud = topics.add(PointCloud2, "semantic_cloud", STREAM)
        self._obstacles = topics.add(PointCloud2, "obstacle_cloud", STREAM)
        self._ground = topics.add(PointCloud2, "ground_cloud", STREAM)
        self._free = topics.add(PointCloud2, "free_cloud", STREAM)
        self._points = topics.add(PointCloud2, "segmentation/points", STREAM)
        self._mask = topics.add(Image, "segmentation/mask", STREAM)
        self._confidence = topics.add(Image, "segmentation/confidence", STREAM)
        self._moving = topics.add(Image, "segmentation/moving", STREAM)
        self._depth = topics.add(Image, "depth/image", STREAM)
        self._depth_info = topics.add(CameraInfo, "depth/camera_info", STREAM)

    def publish(self, update: MapUpdate, image_frame: str, robot: Robot, options: NodeOptions) -> None:
        """Those that are read.

        Args:
            image_frame: frame_id of the image.
        """
        at, most = header(update.stamp_ns, image_frame), options.node.costmap_points
        if is_read(self._cloud):
            self._cloud.publish(cloud_message(update.window_cloud, at))
        if is_read(self._obstacles) or is_read(self._ground):
            ground, obstacle = obstacles(update, robot, options.mapper.max_depth_m)
            for publisher, points in ((self._ground, ground), (self._obstacles, obstacle)):
                if is_read(publisher):
                    publisher.publish(xyz_message(thinned(points, most), at))
        if is_read(self._free):
            self._free.publish(xyz_message(thinned(free_ends(update, options.mapper.max_depth_m), most), at))
        grids = self._points, self._mask, self._confidence, self._moving
        if len(robot.ground) <= MONO8_CLASSES and any(map(is_read, grids)):
            self._publish_segmentation(update, at, options)
        if is_read(self._depth):
            seen = np.where(update.confidence > 0, update.depth, np.float32(np.nan))    # not what a border hides
            self._depth.publish(depth_message(seen, at))
        if is_read(self._depth_info):
            self._depth_info.publish(camera_info(update.K, update.depth.shape, at))

    def _publish_segmentation(self, update: MapUpdate, at: Header, options: NodeOptions) -> None:
        points, labels, confidence, moving = organised(update, options.mapper.max_depth_m, options.node.costmap_points)
        if is_read(self._points):
            self._points.publish(xyz_message(points, at))
        if is_read(self._mask):
            self._mask.publish(mono8_message(labels.astype(np.uint8), at))
        if is_read(self._confidence):
            self._confidence.publish(mono8_message(confidence, at))
        if is_read(self._moving):
            self._moving.publish(mono8_message(moving, at))
