"""The normal equations of a graph: nodes of seven unknowns each, tied in pairs. Compiled, src/equations.cpp."""
from __future__ import annotations

import weakref

import numpy as np

from lsm_ros.mapping.kernels import COUNT, HANDLE, array, check_shapes, kernel

_new = kernel("equations_new", HANDLE, COUNT, COUNT, array(np.int64, 2))
_delete = kernel("equations_delete", None, HANDLE)
_decompose = kernel("equations_decompose", COUNT, HANDLE, *[array(np.float64, 3)] * 2, *[array(np.float64, 2)] * 3)
_solve = kernel("equations_solve", None, HANDLE, array(np.float64, 2))


class Equations:
    """J^T W J x = b of N nodes and E ties, whose `ends` (E, 2) int64 are nodes, or -1: something that stands still."""

    def __init__(self, nodes: int, ends: np.ndarray):
        check_shapes(ends=(ends, (len(ends), 2)))
        if len(ends) and not -1 <= ends.min() <= ends.max() < nodes:
            raise ValueError(f"ties between {ends.min()} and {ends.max()}; there are {nodes} nodes")
        self._nodes, self._ties = nodes, len(ends)
        self._handle = _new(nodes, len(ends), ends)
        weakref.finalize(self, _delete, self._handle)

    def decompose(self, J_i: np.ndarray, J_j: np.ndarray, weights: np.ndarray, residuals: np.ndarray) -> np.ndarray:
        """Takes the ties as they are now, and returns the gradient J^T W r (N, 7). Raises np.linalg.LinAlgError where
        they do not determine all nodes.

        Args:
            J_i, J_j: (E, 7, 7), the Jacobians of the residuals by the steps of either end.
            weights, residuals: (E, 7).
        """
        E, gradient = self._ties, np.empty((self._nodes, 7))
        check_shapes(J_i=(J_i, (E, 7, 7)), J_j=(J_j, (E, 7, 7)), weights=(weights, (E, 7)),
                     residuals=(residuals, (E, 7)))
        if not _decompose(self._handle, J_i, J_j, weights, residuals, gradient):
            raise np.linalg.LinAlgError("the normal equations are singular")
        return gradient

    def solve(self, b: np.ndarray) -> np.ndarray:
        """x (N, 7) for b (N, 7), with the ties as they were decomposed last."""
        check_shapes(b=(b, (self._nodes, 7)))
        x = b.copy()
        _solve(self._handle, x)
        return x

    def covariance(self, node: int) -> np.ndarray:
        """(7, 7) of a node: its block of the inverse of J^T W J."""
        units = np.zeros((7, self._nodes, 7))
        units[range(7), node, range(7)] = 1
        return np.stack([self.solve(unit)[node] for unit in units])
