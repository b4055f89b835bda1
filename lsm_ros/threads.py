"""How the threads of the libraries below wait for each other. Imported before numpy and torch, which read it once.

Threads that spin while they wait take the cores of those that they wait for. On a machine with nothing else to do that
is harmless; on a robot a window of half a second was seen to take 15, by OpenMP's threads in torch, and a refinement
seven times its processor time, by OpenBLAS's in numpy. Some microseconds of spinning spare a thousand wake-ups a
window: in the node a third of the network's time. Beside a process that takes a core for good they cost a quarter of it
(docs/performance.md).
"""
import os
import platform

if "OMP_WAIT_POLICY" not in os.environ:
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")     # of GNU's OpenMP, which PyTorch's own wheels come with
if platform.machine() in ("x86_64", "AMD64"):      # elsewhere torch's own products may be OpenBLAS's, too
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")      # numpy's products are small here
