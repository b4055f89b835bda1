"""Two threads beside the caller's, for numpy's and OpenCV's longer work: it needs little of Python's lock.

Beside the network they fill the cores that it leaves idle; while it rests they take pairs of views in turns.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

THREADS = 2
POOL = ThreadPoolExecutor(THREADS, "mapping")       # they begin with the first work and stay: none a window

Item, Result = TypeVar("Item"), TypeVar("Result")


def at_once(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """`function` of each item, in their order. It may not wait for the pool itself."""
    return list(POOL.map(function, items))
