"""The inner loops of the map that numpy cannot run at the machine's pace, compiled from src/*.cpp.

`pip install` and `colcon build` build them into one plain library beside this file: C functions over numpy's arrays, so
that it depends on no Python, no numpy and no ROS 2 of a certain version. ctypes drops Python's lock while they run.
"""
from __future__ import annotations

import ctypes
import sysconfig
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np

COUNT, NUMBER, HANDLE = ctypes.c_int64, ctypes.c_double, ctypes.c_void_p
NAMES = [f"_kernels{sysconfig.get_config_var('EXT_SUFFIX')}", "_kernels.so"]      # as pip and colcon call it


def array(dtype: type, dimensions: int) -> type:
    """The type of an argument that is an array without gaps; ctypes.ArgumentError for another one."""
    return np.ctypeslib.ndpointer(dtype, dimensions, flags="C_CONTIGUOUS,ALIGNED")


def check_shapes(**arrays: tuple[np.ndarray, tuple[int, ...]]) -> None:
    """name = (array, shape that it must have). Raises ValueError: a kernel reads as far as it is told."""
    for name, (values, shape) in arrays.items():
        if values.shape != shape:
            raise ValueError(f"{name} has shape {values.shape}; it must be {shape}")


def kernel(name: str, result: type | None, *arguments: type) -> Callable:
    """The C function `name`, found when it is first called."""
    @cache
    def found():
        function = _library()[name]
        function.restype, function.argtypes = result, arguments
        return function
    return lambda *values: found()(*values)


@cache
def _library() -> ctypes.CDLL:
    folder = Path(__file__).parent
    for name in NAMES:
        if (folder / name).is_file():
            return ctypes.CDLL(str(folder / name))
    raise ImportError(f"{folder / NAMES[-1]} is missing: pip and colcon build it as they install lsm_ros; a source "
                      "tree alone takes `python setup.py build_ext --inplace`")
