"""torch.compile for the network's parts, in training and, where the machine has compilers, in the engine."""
from __future__ import annotations

import logging

import torch

from lsm_ros.model.network import Network

logger = logging.getLogger(__name__)


def compile_parts(network: Network, dynamic: bool | None = None) -> None:
    """Compiles the parts instead of the whole, and lays convolutions out as a GPU likes them: 2.2 times the samples a
    second in training.

    A compiled block serves all blocks of its kind; `dynamic` says whether it serves all lengths, too (torch.compile's
    argument). The convolutional parts get a graph for each image size (half a minute each): one graph for all sizes
    took torch 2.11 minutes to make.
    """
    torch._dynamo.config.cache_size_limit = 64
    network.to(memory_format=torch.channels_last)
    for block in (*network.encoder, *network.decoder):
        block.compile(dynamic=dynamic)
    for part in (network.backbone, network.dense_head, network.match_head, network.motion_head):
        if part is not None:
            part.compile(dynamic=False)


def why_not_compile(device: torch.device) -> str:
    """Why torch.compile does not work for `device` here, as the log is told too; "" where it does. It needs a C++
    compiler for a CPU; for a GPU Triton and a C compiler."""
    try:
        torch.compile(lambda x: x.sin() + 1, dynamic=False)(torch.ones(8, device=device))
    except Exception as error:      # noqa: BLE001 torch raises a dozen kinds
        reason = f"{type(error).__name__}: {str(error).strip()}".splitlines()[0]
        logger.warning("the network is not compiled, it runs slower: %s", reason)
        return reason
    return ""
