"""Threads wait as they do in the product, and most tests' networks are so small that more than one would only wait."""
from __future__ import annotations

import lsm_ros.threads  # noqa: F401  isort: skip  (before numpy and torch)

import pytest
import torch

THREADS = torch.get_num_threads()


@pytest.fixture(autouse=True)
def threads(request) -> None:
    """One thread for torch, all of them for slow tests, which run the shipped network."""
    torch.set_num_threads(THREADS if request.node.get_closest_marker("slow") else 1)
