"""The allocator of the node's process."""
import platform
import subprocess
import sys

import pytest

ARENAS = """
import ctypes
import sys
import threading

if "share" in sys.argv:
    from lsm_ros.memory import share_one_arena
    assert share_one_arena()
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
def test_threads_share_one_arena():
    assert arenas() > 1
    assert arenas("share") == 1
