"""Everything the node publishes of the map. Nothing is built for a topic that nobody reads."""
from __future__ import annotations

from nav_msgs.msg import Odometry, Path
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import PointCloud2
from visualization_msgs.msg import MarkerArray

from lsm_ros.contracts import MapUpdate
from lsm_ros.labels import LabelSet
from lsm_ros.mapping.mapper import Mapper
from lsm_ros.msg import LabelLegend
from lsm_ros.ros.conversions import cloud_message, header, label_legend, object_markers, odometry, path
from lsm_ros.ros.detections import Detection3DArray, LabelInfo, detection_array, label_info
from lsm_ros.ros.parameters import NodeConfig
from lsm_ros.ros.transforms import TransformPublisher

# Reliable and volatile fits Nav2's best-effort readers and RViz's reliable ones; maps and legends also reach whoever
# comes late (REP 2003).
STREAM = QoSProfile(depth=2, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.VOLATILE)
LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class Publishers:
    """Made when the node is configured; used by the worker's thread alone, after that."""

    def __init__(self, node: Node, labels: LabelSet):
        self._node = node
        self._labels = labels
        self._transforms = TransformPublisher(node)
        self._cloud = node.create_publisher(PointCloud2, "semantic_cloud", STREAM)
        self._odometry = node.create_publisher(Odometry, "odometry", STREAM)
        self._map = node.create_publisher(PointCloud2, "map_cloud", LATCHED)
        self._path = node.create_publisher(Path, "path", LATCHED)
        self._markers = node.create_publisher(MarkerArray, "label_markers", LATCHED)
        self._legend = node.create_publisher(LabelLegend, "label_legend", LATCHED)
        self._whole_map = {self._map, self._path, self._markers}
        self._shown: set[int] = set()                   # ids of the objects that have markers
        self._stale: set[Publisher] = set()             # map topics that the newest map hasn't been published on
        self._map_stamp = 0
        now = node.get_clock().now().nanoseconds
        self._legend.publish(label_legend(labels, now))
        self._detections = self._label_info = None
        if LabelInfo is not None:
            self._detections = node.create_publisher(Detection3DArray, "objects", LATCHED)
            self._whole_map.add(self._detections)
            self._label_info = node.create_publisher(LabelInfo, "label_info", LATCHED)
            self._label_info.publish(label_info(labels, now))

    def publish_update(self, update: MapUpdate, image_frame: str, config: NodeConfig) -> None:
        """What belongs to one window, with the stamp of its newest image.

        Args:
            image_frame: frame_id of the image; the window's cloud is in that frame, so that Nav2 takes the camera as
                the origin of its rays.
        """
        self._transforms.publish(update, image_frame, config)
        if _read(self._odometry):
            self._odometry.publish(odometry(update.T_map_cam, update.stamp_ns, config.map_frame, config.camera_frame))
        if _read(self._cloud):
            self._cloud.publish(cloud_message(update.window_cloud, header(update.stamp_ns, image_frame)))

    def map_changed(self, stamp: int) -> None:
        """The map is another one since the image of this stamp (nanoseconds)."""
        self._map_stamp = stamp
        self._stale = set(self._whole_map)

    def map_is_wanted(self) -> bool:
        """True if somebody reads a map topic on which the newest map hasn't been published."""
        return any(_read(publisher) for publisher in tuple(self._stale))

    def publish_map(self, mapper: Mapper, config: NodeConfig) -> None:
        """The whole map, on those of its topics that are read."""
        due = {publisher for publisher in self._stale if _read(publisher)}
        self._stale -= due
        stamp, frame = self._map_stamp, config.map_frame
        if self._map in due:
            self._map.publish(cloud_message(mapper.map_cloud(), header(stamp, frame)))
        if self._path in due:
            self._path.publish(path(mapper.trajectory(), stamp, frame))
        objects = mapper.objects() if {self._markers, self._detections} & due else []
        if self._detections in due:
            self._detections.publish(detection_array(objects, stamp, frame))
        if self._markers in due:
            ids = {item.id for item in objects}
            self._markers.publish(object_markers(objects, self._shown - ids, self._labels.colors, stamp, frame))
            self._shown = ids

    def destroy(self) -> None:
        for publisher in (self._cloud, self._odometry, self._legend, self._label_info, *self._whole_map):
            if publisher is not None:
                self._node.destroy_publisher(publisher)
        self._transforms.destroy()


def _read(publisher: Publisher) -> bool:
    return publisher.get_subscription_count() > 0
