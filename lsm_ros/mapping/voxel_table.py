"""The rows of voxels, by the keys of their cells. What finds them is compiled (src/voxels.cpp), the rows are numpy's.

Rows lie in blocks as they came; a hash table finds them by cubes of 8 x 8 x 8 cells (Niessner et al., 2013). Nothing is
ever moved or sorted as the map grows, so a keyframe costs what it shows, however large the map.
"""
from __future__ import annotations

import weakref
from dataclasses import dataclass

import numpy as np

from lsm_ros.mapping.kernels import COUNT, HANDLE, array, check_shapes, kernel

_new = kernel("voxels_new", HANDLE, COUNT, COUNT)
_delete = kernel("voxels_delete", None, HANDLE)
_add_block = kernel("voxels_add_block", None, HANDLE, array(np.float32, 2), array(np.int64, 1), array(bool, 1),
                    array(bool, 1), array(bool, 1))
_used = kernel("voxels_used", COUNT, HANDLE)
_room = kernel("voxels_room", COUNT, HANDLE)
_add = kernel("voxels_add", None, HANDLE, COUNT, array(np.int64, 1), array(np.float32, 2), COUNT)
_clear = kernel("voxels_clear", None, HANDLE, COUNT, array(np.int64, 1), array(np.int32, 1), COUNT)
_told_as_gone = kernel("voxels_told_as_gone", None, HANDLE, COUNT, array(np.int64, 1))
_reclaim = kernel("voxels_reclaim", None, HANDLE)


@dataclass(frozen=True)
class Block:
    """R rows of voxels and what is noted of each."""
    rows: np.ndarray               # (R, columns) float32; semantic_map.py names the columns
    keys: np.ndarray               # (R,) int64
    changed: np.ndarray            # (R,) bool, since the last `SemanticMap.take_changes`
    taken: np.ndarray              # (R,) bool, was in the map when that was last called
    stale: np.ndarray              # (R,) bool, since the next two were last right
    labels: np.ndarray             # (R,) uint16, the most likely class
    certainty: np.ndarray          # (R,) float32, its probability in a typical sighting


class VoxelTable:
    """Rows of `columns` numbers, in blocks of `block_rows`."""

    def __init__(self, columns: int, block_rows: int):
        self._columns, self._block_rows = columns, block_rows
        self._handle = _new(columns, block_rows)
        weakref.finalize(self, _delete, self._handle)
        self.blocks: list[Block] = []
        self._add_block()

    def __len__(self) -> int:
        """Rows that are given to a voxel."""
        return _used(self._handle)

    def add(self, keys: np.ndarray, sums: np.ndarray, sign: int) -> None:
        """Adds `sign` times sums (n, columns) to the rows of n distinct keys, which get a row if they have none."""
        check_shapes(sums=(sums, (len(keys), self._columns)))
        while _room(self._handle) < len(keys):
            self._add_block()
        _add(self._handle, len(keys), keys, sums, sign)

    def clear(self, keys: np.ndarray, weights: np.ndarray, sign: int) -> None:
        """Adds `sign` times int32 weights (n,) to those of who sees through n distinct cells, with or without a row."""
        check_shapes(weights=(weights, (len(keys),)))
        _clear(self._handle, len(keys), keys, weights, sign)

    def told_as_gone(self, rows: np.ndarray) -> None:
        """Of int64 rows (n,), no reader of the changes has those any more that no keyframe sees."""
        _told_as_gone(self._handle, len(rows), rows)

    def reclaim(self) -> None:
        """Gives rows without a sighting back that no reader of the changes has."""
        _reclaim(self._handle)

    def _add_block(self) -> None:
        R = self._block_rows
        block = Block(np.zeros((R, self._columns), np.float32), np.zeros(R, np.int64), *np.zeros((3, R), bool),
                      np.zeros(R, np.uint16), np.zeros(R, np.float32))
        self.blocks.append(block)
        _add_block(self._handle, block.rows, block.keys, block.changed, block.taken, block.stale)
