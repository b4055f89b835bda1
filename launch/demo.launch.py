"""A recording, the node and RViz: ros2 launch lsm_ros demo.launch.py [source:=<rosbag2, folder of images or video>]"""
from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

SHARE = Path(get_package_share_directory("lsm_ros"))


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription([
        DeclareLaunchArgument("source", default_value=str(SHARE / "recordings" / "apartment"),
                              description="What is played: a rosbag2, a folder of images or a video"),
        DeclareLaunchArgument("rviz", default_value="true", description="Start RViz"),
        IncludeLaunchDescription(
            PythonLaunchDescriptionSource(str(SHARE / "launch" / "lsm.launch.py")),
            launch_arguments={"image_topic": "/camera/image_raw", "image_transport": "compressed",
                              "rviz": LaunchConfiguration("rviz")}.items()),
        Node(package="lsm_ros", executable="lsm_player", name="lsm_player", output="screen",
             parameters=[{"source": ParameterValue(LaunchConfiguration("source"), value_type=str)}]),
    ])
