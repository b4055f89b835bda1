"""How the threads of the libraries below wait for each other. Imported before numpy and torch, which read it once.

Threads that spin while they wait take the cores of those that they wait for. On a machine with nothing else to do that
is harmless; on a robot a window of half a second was seen to take 15, by OpenMP's threads in torch, and a refinement
seven times its processor time, by OpenBLAS's in numpy.
"""
import os
import platform

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
if platform.machine() in ("x86_64", "AMD64"):      # elsewhere torch's own products may be OpenBLAS's, too
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")      # numpy's products are small here
