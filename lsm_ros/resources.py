"""Finds the files that are shared beside the code: config/..., recordings/..."""
from __future__ import annotations

from pathlib import Path

from lsm_ros.errors import InputError

PACKAGE = "lsm_ros"


def resource(relative: str) -> Path:
    """The absolute path of a shared file or folder, e.g. resource("config/labels/indoor.yaml").

    A source tree holds it beside the package. An installed package holds it in share/lsm_ros of its own prefix, which
    pip, colcon and Debian put at different heights above the code, so every prefix above it is tried.
    Raises InputError, which names the file and the folders that were searched.
    """
    above = Path(__file__).absolute().parents        # not resolve(): colcon's --symlink-install links single files
    folders = [above[1]] if (above[1] / "package.xml").is_file() else [prefix / "share" / PACKAGE for prefix in above]
    for folder in folders:
        if (folder / relative).exists():
            return folder / relative
    searched = [str(folder) for folder in folders if folder.is_dir()] or [str(folders[-1])]
    raise InputError(f"{relative!r} is not among the files of {PACKAGE}; searched: {', '.join(searched)}")
