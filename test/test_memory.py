"""The memory of the node's process, and its allocator."""
import platform
import resource
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from lsm_ros.memory import memory_mb

ARENAS = """
import ctypes
import sys
import threading

if "share" in sys.argv:
    from lsm_ros.memory import tune_allocator
    assert tune_allocator()
meet = threading.Barrier(4)

def take():
    block = bytearray(100_000)
    meet.wait()

threads = [threading.Thread(target=take) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
c = ctypes.CDLL(None)
out = ctypes.c_void_p.in_dll(c, "stdout")
c.malloc_info(0, out)
c.fflush(out)
"""


def arenas(*options: str) -> int:
    told = subprocess.run([sys.executable, "-I", "-c", ARENAS, *options], capture_output=True, text=True, check=True)
    return told.stdout.count("<heap nr=")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator is what it sets")
def test_threads_tune_allocator():
    assert arenas() > 1
    assert arenas("share") == 1


FAULTS = """
import resource
import sys

from lsm_ros.memory import tune_allocator

if "tuned" in sys.argv:
    assert tune_allocator()
for _ in range(20):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [bytearray(16 << 20) for _ in range(4)]       # 16,384 pages
    del blocks
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(*options: str) -> int:
    told = subprocess.run([sys.executable, "-I", "-c", FAULTS, *options], capture_output=True, text=True, check=True)
    return int(told.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator is what it sets")
def test_what_a_window_frees_is_kept_for_the_next_one():
    assert faults() > 1000
    assert faults("tuned") < 100


@pytest.mark.skipif(platform.system() != "Linux", reason="elsewhere the peak of who started it counts too")
def test_the_peak_is_the_process_own():
    ours = np.ones(400 << 20, np.uint8)                 # getrusage would tell it of the child, too
    ask = "from lsm_ros.memory import memory_mb; print(*memory_mb().values())"
    told = subprocess.run([sys.executable, "-I", "-c", ask], capture_output=True, text=True, check=True)
    resident, peak = map(float, told.stdout.split())
    assert 1 < resident <= peak < 200 and len(ours)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator is what gives back")
def test_what_is_freed_is_given_back():
    """A block that stays keeps what was taken before it from going back by itself."""
    ask = """
from lsm_ros.memory import give_back, memory_mb, tune_allocator
tune_allocator()
blocks = [bytearray(100_000) for _ in range(1000)]
keeper = bytearray(100_000)
del blocks
before = memory_mb()["resident_mb"]
give_back()
print(before - memory_mb()["resident_mb"])
"""
    told = subprocess.run([sys.executable, "-I", "-c", ask], capture_output=True, text=True, check=True)
    assert float(told.stdout) > 80


@pytest.mark.parametrize(("system", "told"), [("darwin", 500 << 20), ("freebsd", 500 << 10)])
def test_systems_that_tell_the_peak_alone_tell_it_in_units_of_their_own(tmp_path, monkeypatch, system, told):
    monkeypatch.setattr(Path, "read_text", lambda path: (tmp_path / "none").read_bytes())
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(resource, "getrusage", lambda who: SimpleNamespace(ru_maxrss=told))
    assert memory_mb() == {"resident_mb": 500, "peak_mb": 500}


def test_the_network_needs_no_module_of_unix():
    code = "import sys; sys.modules['resource'] = None; import lsm_ros.model.engine"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_network_brings_no_compiler_along():
    """It and SymPy, which some of torch's functions import as they are called, would be 70 MB of the node."""
    code = """
import sys
import numpy as np
from lsm_ros.contracts import Frame, Keyframe, Window
from lsm_ros.model.engine import NetworkPredictor

before = set(sys.modules)
predictor = NetworkPredictor()
predictor(Window(tuple(Keyframe(i, Frame(i, np.full((96, 128, 3), 50 * i, np.uint8), None)) for i in range(2))))
print(*set(sys.modules) - before)
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"sympy", "torch._dynamo", "torch._inductor", "torch.onnx"} & set(told.stdout.split())
