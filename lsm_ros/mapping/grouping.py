"""Equal values side by side, for sums over groups."""
from __future__ import annotations

import numpy as np


def grouped(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Integers (N,), none negative -> their order (N,), smallest first and equal ones as they came, and where in it
    each of the K groups of equal ones begins (K,)."""
    order = np.argsort(values, kind="stable")
    return order, np.flatnonzero(np.diff(values[order], prepend=-1))
