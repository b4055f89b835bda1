"""Everything the node publishes of the map. Nothing is built for a topic that nobody reads."""
from __future__ import annotations

import numpy as np
from geometry_msgs.msg import TransformStamped
from nav_msgs.msg import OccupancyGrid, Odometry, Path
from rclpy.node import Node
from rclpy.publisher import Publisher
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Header
from visualization_msgs.msg import MarkerArray

from lsm_ros.contracts import Cloud, MapUpdate
from lsm_ros.errors import ConfigError, InputError
from lsm_ros.labels import LabelSet
from lsm_ros.mapping.mapper import Mapper
from lsm_ros.mapping.obstacles import GROUND, IGNORED, Robot, chosen
from lsm_ros.mapping.occupancy import keepout, occupancy
from lsm_ros.mapping.semantic_map import Changes
from lsm_ros.msg import LabelLegend
from lsm_ros.ros.conversions import (
    cloud_message,
    graph_markers,
    grid_message,
    header,
    label_legend,
    object_markers,
    odometry,
    path,
)
from lsm_ros.ros.detections import Detection3DArray, LabelInfo, detection_array, label_info
from lsm_ros.ros.parameters import NodeConfig, NodeOptions
from lsm_ros.ros.qos import INCREMENTS, LATCHED, STREAM, Latched, Topics, is_read
from lsm_ros.ros.transforms import TransformPublisher
from lsm_ros.ros.window_topics import MONO8_CLASSES, WindowTopics

NO_POINTS = Cloud(points=np.empty((0, 3), np.float32), colors=np.empty((0, 3), np.uint8),
                  labels=np.empty(0, np.uint16), confidence=np.empty(0, np.uint8))


class Publishers:
    """Made when the node is configured; used by the worker's thread alone, after that, but for `map_is_wanted`,
    `begin_anew` and `is_foreign`, which the executor calls.

    Raises ConfigError for a list of labels that names one that is not there.
    """

    def __init__(self, node: Node, labels: LabelSet, config: NodeConfig):
        self._node, self._config = node, config
        topics = self._topics = Topics(node)
        self._take_labels(labels)
        self._transforms = TransformPublisher(node)
        self._window = WindowTopics(topics)
        self._odometry = topics.add(Odometry, "odometry", STREAM)
        self._map = topics.add(PointCloud2, "map_cloud", LATCHED)
        self._changes = topics.add(PointCloud2, "map_cloud_updates", INCREMENTS)
        self._path = topics.add(Path, "path", LATCHED)
        self._graph = topics.add(MarkerArray, "pose_graph", LATCHED)
        self._markers = topics.add(MarkerArray, "label_markers", LATCHED)
        self._occupancy = topics.add(OccupancyGrid, "occupancy", LATCHED)
        self._legend = topics.add(LabelLegend, "label_legend", LATCHED)
        self._whole_map = {self._map, self._changes, self._path, self._graph, self._markers, self._occupancy}
        self._keepout = None
        if config.keepout_labels:
            self._keepout = topics.add(OccupancyGrid, "keepout_mask", LATCHED)
            self._whole_map.add(self._keepout)
        self._stale: set[Publisher | Latched] = set()   # map topics that the newest map hasn't been published on
        self._overgrown: set[Latched] = set()           # the newest map is too large for these
        self._served = 0                                # readers of the changes who have had the whole map
        self._map_stamp = 0
        self._newest: MapUpdate | None = None
        self._detections = None
        self._names: list[Latched] = []                 # of LabelInfo
        if LabelInfo is not None:
            self._detections = topics.add(Detection3DArray, "objects", LATCHED)
            self._whole_map.add(self._detections)
            self._names = [topics.add(LabelInfo, "label_info", LATCHED),
                           topics.add(LabelInfo, "segmentation/label_info", LATCHED)]
        self._publish_names()

    def relabel(self, labels: LabelSet) -> None:
        """The classes are others from now on. Raises ConfigError as the constructor does, and they stay as they are."""
        self._take_labels(labels)
        self._publish_names()

    def _take_labels(self, labels: LabelSet) -> None:
        config, roles = self._config, []
        for name, default in (("ground_labels", GROUND), ("ignored_labels", IGNORED), ("keepout_labels", ())):
            try:
                roles.append(chosen(labels, getattr(config, name), default))
            except ConfigError as error:                # who calls set_classes has not written that list
                raise ConfigError(f"{name}: {error}") from error
        self._labels, (self._ground, self._ignored, self._kept_out) = labels, roles

    def _publish_names(self) -> None:
        now = self._node.get_clock().now().nanoseconds
        self._legend.publish(label_legend(self._labels, now))
        for publisher in self._names:
            publisher.publish(label_info(self._labels, now))
        if len(self._labels) > MONO8_CLASSES:
            self._node.get_logger().warning(f"segmentation/* stays silent: a mono8 mask tells {MONO8_CLASSES} labels "
                                            f"apart, and there are {len(self._labels)}")

    def is_foreign(self, edge: TransformStamped) -> bool:
        """Whether somebody else's TF places the camera, or in the mode `leaf` the map, as ours does."""
        return self._transforms.is_foreign(edge)

    def publish_update(self, update: MapUpdate, image_frame: str, options: NodeOptions) -> None:
        """What belongs to one window, with the stamp of its newest image.

        Args:
            image_frame: frame_id of the image.
        """
        self._newest, config = update, options.node
        self._transforms.publish(update, image_frame, config)
        if is_read(self._odometry):
            self._odometry.publish(odometry(update, config.map_frame, config.camera_frame))
        self._window.publish(update, image_frame, self._robot(config), options)

    def map_changed(self, stamp: int | None, anew: bool = False) -> None:
        """The map has changed with the image of this stamp (nanoseconds), or since the last one where there was none
        yet (None); or it was begun `anew`, without a view."""
        self._map_stamp = self._map_stamp if stamp is None else stamp
        if anew:
            self._newest = None
        self._stale = set(self._whole_map)

    def begin_anew(self) -> None:
        """Nobody has watched who reads since the last call of `map_is_wanted`."""
        self._served = 0

    def map_is_wanted(self) -> bool:
        """True if somebody reads a map topic on which the newest map hasn't been published, or begins to read what
        changes in it. To be asked steadily: so long can a reader go and another come unnoticed. Where nobody reads, an
        older map is taken back: a reader that wants one message (a map saver) would get that and go. So is a grid of
        before the map outgrew it."""
        readers = self._changes.get_subscription_count()
        self._served = min(self._served, readers)       # one has gone: the next who comes is another
        due = False
        for publisher in tuple(self._stale):
            if is_read(publisher):
                due = True
            elif isinstance(publisher, Latched):
                publisher.forget()
        for publisher in tuple(self._overgrown):
            publisher.forget()
        return readers > self._served or due

    def publish_map(self, mapper: Mapper, options: NodeOptions) -> None:
        """The map, on those of its topics that are read."""
        due = {publisher for publisher in self._stale if is_read(publisher)}
        self._stale -= due
        stamp, frame = self._map_stamp, options.node.map_frame
        readers = self._changes.get_subscription_count()
        newcomers = readers > self._served
        if newcomers or self._changes in due:
            # All readers begin anew with one who has come: another topic may be overtaken, and stamps can be equal.
            self._publish_changes(mapper.take_changes(newcomers), header(stamp, frame))
            self._served = min(readers, self._changes.get_subscription_count())
        if self._path in due:
            self._path.publish(path(mapper.trajectory(), stamp, frame))
        if self._graph in due:
            self._graph.publish(graph_markers(mapper.pose_graph(), stamp, frame))
        objects = mapper.objects() if {self._markers, self._detections} & due else []
        if self._detections in due:
            self._detections.publish(detection_array(objects, stamp, frame))
        if self._markers in due:
            camera_map = None if self._newest is None else self._newest.T_map_cam[:3, 3]
            self._markers.publish(object_markers(objects, self._labels.colors, camera_map, stamp, frame))
        if {self._map, self._occupancy, self._keepout} & due:
            self._publish_voxels(mapper.map_cloud(), mapper.on_floor, due, options)

    def _publish_changes(self, changes: Changes, at: Header) -> None:
        """An empty cloud says that the map begins anew; then comes what it has."""
        if changes.anew:
            self._changes.publish(cloud_message(NO_POINTS, at))
        if len(changes.cloud):
            self._changes.publish(cloud_message(changes.cloud, at))

    def _publish_voxels(self, cloud: Cloud, on_floor: bool, due: set[Publisher | Latched], options: NodeOptions
                        ) -> None:
        """The whole map and what is drawn from above of it. Raises InputError for a grid that is too large."""
        stamp, config, robot = self._map_stamp, options.node, self._robot(options.node)
        cell_m = max(config.occupancy_resolution_m, options.mapper.voxel_size_m)
        if self._map in due:
            self._map.publish(cloud_message(cloud, header(stamp, config.map_frame)))
        too_large = []
        for name, publisher, draw in (
                ("occupancy", self._occupancy, lambda: occupancy(cloud, robot, on_floor, cell_m)),
                ("keepout_mask", self._keepout, lambda: keepout(cloud, self._kept_out, robot, on_floor,
                                                                config.keepout_margin_m, cell_m))):
            if publisher not in due:
                continue
            self._overgrown.discard(publisher)
            try:
                publisher.publish(grid_message(draw(), stamp, config.map_frame))
            except InputError as error:
                self._overgrown.add(publisher)
                too_large.append(f"{name} is published no longer, for {error}")
        if too_large:
            raise InputError("; ".join(too_large))

    def _robot(self, config: NodeConfig) -> Robot:
        return Robot(self._ground, self._ignored, config.obstacle_min_height_m, config.obstacle_max_height_m)

    def destroy(self) -> None:
        self._topics.destroy()
        self._transforms.destroy()
