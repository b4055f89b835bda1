"""How much memory a process has, and how the C library keeps it while the process runs for long."""
import ctypes
import platform
import sys
from pathlib import Path

ARENA_MAX = -8      # of glibc's mallopt.h


def share_one_arena() -> bool:
    """Lets all threads of the process take memory from the same place. False where there is no glibc.

    By default each thread fills an arena of its own, and what one of them frees the others cannot use: after five
    minutes of mapping the node held 767 MB and went on growing, with one arena 660 MB from the first minute on.
    To be called before threads are started.
    """
    return platform.libc_ver()[0] == "glibc" and ctypes.CDLL(None).mallopt(ARENA_MAX, 1) == 1


def give_back() -> None:
    """Memory that is freed but kept by the C library goes back to the system, where there is a glibc."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def memory_mb() -> dict[str, float]:
    """Memory of this process in MB: `resident_mb` now, and `peak_mb`; NaN where the system tells neither (Windows).

    getrusage is for other systems than Linux, where its peak is no less than that of the process that started this one.
    """
    try:
        status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        resident, peak = (int(status[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))
    except (OSError, KeyError, ValueError):
        resident = peak = _peak_mb()
    return {"resident_mb": resident, "peak_mb": max(peak, resident)}        # Linux writes the peak down a little late


def _peak_mb() -> float:
    try:
        import resource
    except ModuleNotFoundError:
        return float("nan")
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss       # in kB; macOS tells bytes
    return most / (1 << 20 if sys.platform == "darwin" else 1024)
