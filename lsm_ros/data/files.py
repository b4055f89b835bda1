"""Files that are written whole or not at all."""
from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lsm_ros.errors import OutputError


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A name beside `path` to write to; what lies there takes its place at the end. Where the block raises nothing is
    left of it, and an old file stays."""
    part = Path(f"{path}.part")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def check_folder(path: str | Path, what: str) -> None:
    """Raises OutputError where `path` has no folder for `what` to be written to, or is one: before the minutes that its
    content takes."""
    path = Path(path)
    if path.is_dir():
        raise OutputError(f"{what} cannot be written to {path}: it is a folder")
    if not path.absolute().parent.is_dir():
        raise OutputError(f"{what} cannot be written to {path}: there is no folder {path.parent}")
