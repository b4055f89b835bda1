"""How much memory a process has, and how the C library keeps it while the process runs for long."""
import ctypes
import platform
import sys
from pathlib import Path

MMAP_THRESHOLD, TRIM_THRESHOLD, ARENA_MAX = -3, -1, -8      # of glibc's mallopt.h


def tune_allocator() -> bool:
    """Lets all threads of the process take memory from the same place, which keeps what they free. False where there is
    no glibc. To be called before threads are started.

    By default each thread fills an arena of its own, and what one of them frees the others cannot use: after five
    minutes of mapping the node held 767 MB and went on growing, with one arena 660 MB from the first minute on. And
    arrays of some megabytes go back to the system as they are freed, to be mapped and cleared page by page in the next
    window: a million faults in 136 windows, and 14 ms of each; .2 million where they are kept.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    # 32 MB is the most that glibc takes, and where it arrives by itself once an array of that size was freed.
    settings = ((ARENA_MAX, 1), (MMAP_THRESHOLD, 32 << 20), (TRIM_THRESHOLD, 128 << 20))
    return all([mallopt(parameter, value) == 1 for parameter, value in settings])


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
