"""The node, and RViz if asked for: ros2 launch lsm_ros lsm.launch.py image_topic:=/camera/image_raw"""
import posixpath
from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch_ros.actions import Node

SHARE = Path(get_package_share_directory("lsm_ros"))

# Launch argument -> parameter. Left empty, the value of params_file stands, or else the node's own default.
PARAMETERS = {
    "image_topic": ("image_topic", "The camera's images; with image_transport:=compressed <image_topic>/compressed"),
    "image_transport": ("image_transport", "raw or compressed"),
    "camera_info_topic": ("camera_info_topic", "Default: the camera_info beside image_topic"),
    "tf_mode": ("tf_mode", "estimates, leaf, map_odom (as a localiser; needs odometry) or none"),
    "map_frame": ("map_frame", "Frame of the map; map for Nav2. RViz knows it only if given here, not in params_file"),
    "camera_frame": ("camera_frame", "Frame of the estimated camera; one a robot where several share TF"),
    "odom_frame": ("odom_frame", "Frame of the odometry"),
    "base_frame": ("base_frame", "Frame of the robot whose z axis is up"),
    "floor_frame": ("floor_frame", "Frame of the robot that lies on the floor"),
    "imu_topic": ("imu_topic", "sensor_msgs/Imu, for a camera that is not on a level robot"),
    "depth_topic": ("depth_topic", "Measured depth, registered to the image"),
    "device": ("predictor.device", "Where the network runs: auto, cpu, cuda or cuda:N"),
}
SWITCHES = {
    "autostart": "false leaves the transitions to a lifecycle manager",
    "use_sim_time": "true takes the time from /clock",
}
TRUTH = ["true", "false", "True", "False"]
TOPICS = ("map_cloud", "semantic_cloud", "path", "odometry", "label_markers", "obstacle_cloud", "ground_cloud",
          "segmentation/mask", "depth/image", "map_cloud_updates", "occupancy", "keepout_mask",
          "pose_graph")         # those of lsm.rviz


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription([
        *(DeclareLaunchArgument(name, default_value="", description=text) for name, (_, text) in PARAMETERS.items()),
        DeclareLaunchArgument("params_file", default_value=str(SHARE / "config" / "lsm.yaml"),
                              description="YAML file of the node's parameters"),
        DeclareLaunchArgument("namespace", default_value="lsm", description="Namespace of the node and its topics"),
        *(DeclareLaunchArgument(name, default_value="", choices=["", *TRUTH], description=text)
          for name, text in SWITCHES.items()),
        DeclareLaunchArgument("rviz", default_value="false", choices=TRUTH, description="Start RViz"),
        OpaqueFunction(function=nodes),
    ])


def nodes(context: LaunchContext) -> list[Node]:
    """The nodes, with the arguments as they were given."""
    given = context.launch_configurations
    if given["params_file"] and not Path(given["params_file"]).is_file():       # launch_ros only warns, and goes on
        raise FileNotFoundError(f"params_file {given['params_file']!r} is no file")
    # Below that of a PushRosNamespace, unless it begins with a slash; launch_ros does so for Node, but not for topics.
    namespace = posixpath.join("/", given.get("ros_namespace", ""), given["namespace"]).rstrip("/") or "/"
    parameters = {parameter: given[name] for name, (parameter, _) in PARAMETERS.items() if given[name]}
    parameters |= {name: given[name].lower() == "true" for name in SWITCHES if given[name]}
    started = [Node(package="lsm_ros", executable="lsm_node", name="lsm", namespace=namespace, output="screen",
                    parameters=[given["params_file"], parameters])]
    if given["rviz"].lower() == "true":
        fixed = ["-f", given["map_frame"]] if given["map_frame"] else []        # else that of lsm.rviz
        started.append(Node(package="rviz2", executable="rviz2", name="rviz2", output="log",
                            arguments=["-d", str(SHARE / "config" / "rviz" / "lsm.rviz"), *fixed],
                            parameters=[{"use_sim_time": given["use_sim_time"].lower() == "true"}],
                            remappings=[(f"/lsm/{topic}", posixpath.join(namespace, topic)) for topic in TOPICS]))
    return started
