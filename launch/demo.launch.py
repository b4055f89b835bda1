"""A recording, the node and RViz: ros2 launch lsm_ros demo.launch.py [source:=<rosbag2, folder of images or video>]

A rosbag2 whose images are not on /camera/image_raw/compressed needs image_topic and image_transport, too.
"""
import os
from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, SetEnvironmentVariable
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

SHARE = Path(get_package_share_directory("lsm_ros"))

# Fast DDS loses most raw images at its defaults. Fast DDS 2 (up to Jazzy) and 3 read profiles by different names.
PROFILES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")


def generate_launch_description() -> LaunchDescription:
    chosen = any(name in os.environ for name in PROFILES)
    return LaunchDescription([
        *(SetEnvironmentVariable(name, str(SHARE / "config" / "fastdds_large_messages.xml"))
          for name in PROFILES if not chosen),
        DeclareLaunchArgument("source", default_value=str(SHARE / "recordings" / "apartment"),
                              description="What is played: a rosbag2, a folder of images or a video"),
        DeclareLaunchArgument("image_topic", default_value="/camera/image_raw",
                              description="The camera of a rosbag2; where the images of a folder or a video are sent"),
        DeclareLaunchArgument("image_transport", default_value="compressed",
                              description="raw: images on image_topic; compressed: on <image_topic>/compressed"),
        DeclareLaunchArgument("namespace", default_value="lsm",
                              description="Namespace of the node and the player, and so of a relative image_topic"),
        DeclareLaunchArgument("rviz", default_value="true", description="Start RViz"),
        IncludeLaunchDescription(
            PythonLaunchDescriptionSource(str(SHARE / "launch" / "lsm.launch.py")),
            launch_arguments={name: LaunchConfiguration(name)
                              for name in ("image_topic", "image_transport", "namespace", "rviz")}.items()),
        Node(package="lsm_ros", executable="lsm_player", name="lsm_player", output="screen",
             namespace=LaunchConfiguration("namespace"),
             parameters=[{name: ParameterValue(LaunchConfiguration(name), value_type=str)
                          for name in ("source", "image_topic", "image_transport")}]),
    ])
