"""The answer to "where is that?": the service's response, and the places as a cloud."""
from __future__ import annotations

from geometry_msgs.msg import Point, Vector3
from rclpy.node import Node
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Header

from lsm_ros.mapping.query import QueryResult
from lsm_ros.ros.conversions import cloud_message, header
from lsm_ros.ros.publishers import NO_POINTS
from lsm_ros.ros.qos import LATCHED
from lsm_ros.srv import Query


class QueryPublisher:
    """The points of the last answer, latched; a question that nothing fits leaves an empty cloud, and so does another
    map than the one that was asked."""

    def __init__(self, node: Node):
        self._node = node
        self._publisher = node.create_publisher(PointCloud2, "query_cloud", LATCHED)
        self._shown: Header | None = None               # of the answer that has points

    def publish(self, result: QueryResult, stamp: int, map_frame: str) -> None:
        at = header(stamp, map_frame)
        self._publisher.publish(cloud_message(result.cloud, at))
        self._shown = at if len(result.cloud) else None

    def forget(self) -> None:
        """The map is another one, and its frame lies elsewhere: the answer's points would be shown in its midst."""
        if self._shown is not None:
            self._publisher.publish(cloud_message(NO_POINTS, self._shown))
            self._shown = None

    def destroy(self) -> None:
        self._node.destroy_publisher(self._publisher)


def fill(response: Query.Response, result: QueryResult) -> str:
    """Writes the places into the response; returns its message."""
    response.scores = result.scores.tolist()
    response.centers = [Point(x=x, y=y, z=z) for x, y, z in result.centers.tolist()]
    response.sizes = [Vector3(x=x, y=y, z=z) for x, y, z in result.sizes.tolist()]
    return f"{len(result.scores)} places, {len(result.cloud)} points"
