"""The compiled normal equations against dense ones."""
import gc

import numpy as np
import pytest

from lsm_ros.mapping.equations import Equations
from lsm_ros.memory import give_back, memory_mb


def random_ties(rng, nodes, ties):
    """Ends with some that stand still, some of one node twice, and some that tie nothing; every node has its own."""
    ends = np.concatenate([rng.integers(-1, nodes, (ties, 2)), np.stack([np.arange(nodes), np.full(nodes, -1)], 1)])
    J_i, J_j = rng.normal(size=(2, len(ends), 7, 7)) * (rng.random((2, len(ends), 7, 7)) < 0.5)
    J_i[-nodes:] = np.eye(7)
    return ends, J_i, J_j, rng.uniform(0.1, 2, (len(ends), 7)), rng.normal(size=(len(ends), 7))


def dense(nodes, ends, J_i, J_j, weights, residuals):
    """J^T W J (7 N, 7 N) and J^T W r (N, 7)."""
    J = np.zeros((len(ends), 7, nodes + 1, 7))                       # what stands still is the last column
    for tie, (i, j) in enumerate(ends):
        J[tie, :, i] += J_i[tie]
        J[tie, :, j] += J_j[tie]
    J = J[:, :, :nodes].reshape(-1, 7 * nodes)
    return J.T @ (weights.reshape(-1, 1) * J), (J.T @ (weights * residuals).ravel()).reshape(nodes, 7)


@pytest.mark.parametrize("nodes, ties", [(1, 0), (2, 3), (13, 20), (30, 45), (12, 200)])
def test_they_are_those_of_dense_matrices(nodes, ties):
    rng = np.random.default_rng(ties)
    ends, *values = random_ties(rng, nodes, ties)
    equations = Equations(nodes, ends)
    for _ in range(2):                                               # nothing is left of those before
        values = [values[0], values[1], *rng.uniform(0.1, 2, (2, *values[2].shape))]
        A, gradient = dense(nodes, ends, *values)
        np.testing.assert_allclose(equations.decompose(*values), gradient, atol=1e-10)
        b = rng.normal(size=(nodes, 7))
        np.testing.assert_allclose(equations.solve(b).ravel(), np.linalg.solve(A, b.ravel()), rtol=1e-8, atol=1e-10)
        last = slice(7 * nodes - 7, 7 * nodes)
        np.testing.assert_allclose(equations.covariance(nodes - 1), np.linalg.inv(A)[last, last], rtol=1e-8, atol=1e-10)


def test_nodes_that_are_not_determined_are_an_error():
    ends, J_i, J_j, weights, residuals = random_ties(np.random.default_rng(0), 5, 6)
    equations = Equations(5, ends)
    weights[-1], J_i[:-5][ends[:-5, 0] == 4], J_j[:-5][ends[:-5, 1] == 4] = 0, 0, 0
    with pytest.raises(np.linalg.LinAlgError):
        equations.decompose(J_i, J_j, weights, residuals)
    J_i[0], weights[-1] = np.nan, 1
    with pytest.raises(np.linalg.LinAlgError):
        equations.decompose(J_i, J_j, weights, residuals)


def test_what_reaches_beyond_the_arrays_is_refused():
    for ends in ([[0, 3]], [[-2, 0]], [[0, 1, 2]]):
        with pytest.raises(ValueError):
            Equations(3, np.array(ends))
    equations = Equations(3, np.array([[0, 1]]))
    with pytest.raises(ValueError, match="J_j"):
        equations.decompose(np.zeros((1, 7, 7)), np.zeros((2, 7, 7)), np.zeros((1, 7)), np.zeros((1, 7)))
    with pytest.raises(ValueError, match="b has shape"):
        equations.solve(np.zeros((4, 7)))


def test_they_give_their_memory_back():
    ends = np.stack(np.triu_indices(200, 1), 1)                      # 8 MB of blocks
    Equations(200, ends)
    gc.collect()
    give_back()
    before = memory_mb()["resident_mb"]
    for _ in range(30):
        Equations(200, ends)
    gc.collect()
    give_back()
    assert memory_mb()["resident_mb"] - before < 40
