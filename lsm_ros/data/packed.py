"""Writes .npz files, and reads them so that a damaged one costs no memory and no exception but InputError."""
from __future__ import annotations

import math
import zipfile
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from lsm_ros.data.files import replacing
from lsm_ros.errors import InputError, OutputError


def read_npz(path: str | Path) -> dict[str, np.ndarray]:
    """name -> array of all that `np.savez` wrote; nothing is unpickled. Raises InputError, naming the file.

    The size that each array claims is compared with that of its member before it gets any memory.
    """
    try:
        with zipfile.ZipFile(path) as packed:
            for member in packed.infolist():
                with packed.open(member) as file:
                    version = npy.read_magic(file)
                    read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
                    shape, _, dtype = read_header(file)
                    claimed = file.tell() + math.prod(shape) * dtype.itemsize
                if claimed != member.file_size:
                    raise InputError(f"{path} is damaged: {member.filename} claims {claimed} bytes and has "
                                     f"{member.file_size}")
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except InputError:
        raise
    except Exception as error:          # zipfile, zlib, numpy and the header's parser raise a dozen types
        raise InputError(f"{path} cannot be read: {error or type(error).__name__}") from error


def write_npz(path: str | Path, arrays: dict[str, np.ndarray], *, compressed: bool = False) -> None:
    """Writes `arrays` under the very name that is given, where np.savez adds a suffix, replacing an old file at once.

    Raises OutputError where the file cannot be written; nothing is left of it then.
    """
    try:
        with replacing(path) as part, part.open("wb") as file:
            (np.savez_compressed if compressed else np.savez)(file, **arrays)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error}") from error
