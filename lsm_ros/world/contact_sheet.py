"""A sheet of views of rendered worlds, to look at them.

    python -m lsm_ros.world.contact_sheet docs/worlds.jpg --textures TEXTURES --meshes MODELS
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from lsm_ros.errors import LsmError
from lsm_ros.world.rooms import KINDS
from lsm_ros.world.stream import fixed_batch


def contact_sheet(textures: Path | None = None, meshes: Path | None = None, kind: str | None = None, columns: int = 10,
                  rows: int = 6, size: tuple[int, int] = (120, 160), first: int = 1000) -> np.ndarray:
    """(rows * H, columns * W, 3) uint8: one view of each world of as many seeds from `first` on."""
    seeds, tiles = range(first, first + 4 * columns * rows), []
    for start in range(0, len(seeds), 12):
        batch = fixed_batch(seeds[start:start + 12], size, 1, "cpu", textures, meshes, kind)
        tiles.extend((batch.image[batch.valid, 0].permute(0, 2, 3, 1) * 255).round().byte().numpy())
        if len(tiles) >= columns * rows:
            break
    tiles = np.stack(tiles[:columns * rows]).reshape(rows, columns, *size, 3)
    return tiles.transpose(0, 2, 1, 3, 4).reshape(rows * size[0], columns * size[1], 3)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m lsm_ros.world.contact_sheet", description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="the picture to write")
    parser.add_argument("--textures", type=Path, help="folder or packed file of photo textures")
    parser.add_argument("--meshes", type=Path, help="file of furniture models")
    parser.add_argument("--kind", choices=KINDS, help="of the worlds; any without it")
    parser.add_argument("--first", type=int, default=1000, help="seed of the first world (default %(default)s)")
    parser.add_argument("--size", type=int, nargs=2, default=(120, 160), metavar=("H", "W"), help="of a view")
    parser.add_argument("--grid", type=int, nargs=2, default=(6, 10), metavar=("ROWS", "COLUMNS"))
    options = parser.parse_args()
    try:
        sheet = contact_sheet(options.textures, options.meshes, options.kind, options.grid[1], options.grid[0],
                              tuple(options.size), options.first)
    except LsmError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    Image.fromarray(sheet).save(options.out, quality=82)
    return 0


if __name__ == "__main__":
    sys.exit(main())
