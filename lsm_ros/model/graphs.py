"""CUDA graphs: what a function does with inputs of one shape is recorded once, and afterwards launched in one go.

A window takes some thousand small kernels. A GPU runs them in less time than Python needs to ask for them one by one.
"""
from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

MOST = 32        # recordings that are kept: 8 numbers of views with each combination of what is known beforehand
WARM_UP = 3      # calls before one is recorded: libraries choose their kernels in the first

Output = TypeVar("Output")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recording:
    inputs: tuple[Tensor | None, ...]
    output: object                       # tensors, in whatever the function returns; every replay writes into them
    replay: Callable[[], None]


class Graphs:
    """Calls functions of tensors, each recorded at its first call with inputs of a new shape.

    The tensors that a call returns are overwritten by the next call of that name: whoever keeps them makes a copy. A
    function must neither wait for the GPU nor look at the values of its tensors. Where one can't be recorded, all are
    called plainly from then on, and the log says so. To be used in inference mode, by one thread at a time.
    """

    def __init__(self, device: torch.device):
        self._device = device
        self._recordings: OrderedDict[Hashable, Recording] = OrderedDict()      # the least recently used first
        # Only what lives within a replay shares memory, as every recording holds on to its output; and one runs at a
        # time. So their order does not matter.
        self._pool = None
        self.failure = ""                # why nothing is recorded any more

    def __call__(self, name: Hashable, function: Callable[..., Output], *inputs: Tensor | None) -> Output:
        """function(*inputs). Raises torch.cuda.OutOfMemoryError; the memory of all recordings is free then."""
        key = (name, *(None if each is None else (tuple(each.shape), each.dtype) for each in inputs))
        if self.failure:
            return function(*inputs)
        try:
            if key not in self._recordings:
                self._recordings[key] = self._record(function, inputs)
        except torch.cuda.OutOfMemoryError:
            self.clear()
            raise
        except RuntimeError as error:
            self.clear()
            self.failure = str(error).splitlines()[0]
            logger.warning("no CUDA graphs, the network runs slower without them: %s", self.failure)
            return function(*inputs)
        recording = self._recordings[key]
        self._recordings.move_to_end(key)
        if len(self._recordings) > MOST:
            self._recordings.popitem(last=False)
        for mine, given in zip(recording.inputs, inputs, strict=True):
            if given is not None:
                mine.copy_(given)
        recording.replay()
        return recording.output

    def clear(self) -> None:
        """Forgets all recordings; what they returned must not be read any more."""
        self._recordings.clear()
        self._pool = None

    def _record(self, function: Callable[..., Output], inputs: tuple[Tensor | None, ...]) -> Recording:
        own = tuple(None if each is None else each.clone() for each in inputs)
        with torch.cuda.device(self._device):
            self._pool = self._pool or torch.cuda.graph_pool_handle()
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(WARM_UP):
                    function(*own)
            torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._pool, stream=stream, capture_error_mode="thread_local"):
                output = function(*own)
        return Recording(own, output, graph.replay)
