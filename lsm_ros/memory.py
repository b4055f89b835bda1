"""How the C library keeps the memory of a process that runs for long."""
import ctypes
import platform

ARENA_MAX = -8      # of glibc's mallopt.h


def share_one_arena() -> bool:
    """Lets all threads of the process take memory from the same place. False where there is no glibc.

    By default each thread fills an arena of its own, and what one of them frees the others cannot use: after five
    minutes of mapping the node held 767 MB and went on growing, with one arena 660 MB from the first minute on.
    To be called before threads are started.
    """
    return platform.libc_ver()[0] == "glibc" and ctypes.CDLL(None).mallopt(ARENA_MAX, 1) == 1
