"""Whatever a user starts, numpy and torch hear how their threads shall wait before they are loaded."""
import os
import platform
import subprocess
import sys

import pytest

SPY = """
import os, sys

class Spy:
    def find_spec(self, name, *_):
        if name in ("numpy", "torch"):
            print(name, *map(os.environ.get, ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OPENBLAS_NUM_THREADS")))

sys.meta_path.insert(0, Spy())
"""


def heard(module, **environment):
    clean = {name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT",
                                                                               "OPENBLAS_NUM_THREADS")}
    done = subprocess.run([sys.executable, "-P" if sys.version_info >= (3, 11) else "-I", "-c",
                           f"{SPY}\nimport {module}"], env=clean | environment, capture_output=True, text=True,
                          check=True)
    return {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines()}


@pytest.mark.parametrize("module", ["lsm_ros.cli", "lsm_ros.model.engine", "lsm_ros.ros.node"])
def test_numpy_and_torch_are_told_before_they_load(module):
    if module == "lsm_ros.ros.node":
        pytest.importorskip("rclpy")
    threads = "1" if platform.machine() == "x86_64" else "None"
    assert set(map(tuple, heard(module).values())) == {("PASSIVE", "1000", threads)}


def test_what_the_user_says_stays():
    told = heard("lsm_ros.cli", OMP_WAIT_POLICY="ACTIVE", OPENBLAS_NUM_THREADS="3")
    assert told["numpy"] == ["ACTIVE", "None", "3"]
