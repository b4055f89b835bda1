"""Muon in batches."""
from __future__ import annotations

import math

import torch
import torch.distributed as dist
from torch import Tensor


class Muon(torch.optim.Muon):
    """torch's Muon (Jordan et al., 2024), matrices of one shape at once; its state and its options are torch's.

    A network of this size has 48 matrices in its blocks. One by one they take a thousand small kernels a step, and a
    fast GPU waits for the CPU that launches them: leg 4 trained a fifth slower for it (docs/training-log.md). Where
    several processes train, each makes its part of them orthogonal and the others take that over: all by itself a
    process spent a twelfth of a step of leg 7 on it.
    """

    @torch.no_grad()
    def step(self, closure=None) -> None:
        """One step. `closure` is not supported."""
        if closure is not None:
            raise ValueError("closure is given; this optimizer takes none")
        for group in self.param_groups:
            shapes: dict[torch.Size, list[Tensor]] = {}
            for matrix in group["params"]:
                if matrix.grad is not None:
                    shapes.setdefault(matrix.shape, []).append(matrix)
            for (rows, columns), matrices in shapes.items():
                gradients = [matrix.grad for matrix in matrices]
                for matrix in matrices:
                    if not self.state[matrix]:
                        self.state[matrix]["momentum_buffer"] = torch.zeros_like(matrix)
                averages = [self.state[matrix]["momentum_buffer"] for matrix in matrices]
                torch._foreach_lerp_(averages, gradients, 1 - group["momentum"])
                ahead = torch._foreach_lerp(gradients, averages, group["momentum"]) if group["nesterov"] else averages
                step = shared_orthogonal(ahead, group["ns_coefficients"], group["ns_steps"], group["eps"])
                # steps as large as AdamW's (Liu et al., 2025), or as in the original
                size = 0.2 * max(rows, columns) ** 0.5 if group["adjust_lr_fn"] == "match_rms_adamw" \
                    else max(1.0, rows / columns) ** 0.5
                torch._foreach_mul_(matrices, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_add_(matrices, step.to(matrices[0].dtype).unbind(), alpha=-group["lr"] * size)


def shared_orthogonal(matrices: list[Tensor], coefficients: tuple[float, float, float], steps: int, eps: float
                      ) -> Tensor:
    """`orthogonal` of N matrices that are the same in all processes, whose work is shared among them."""
    if not dist.is_initialized():
        return orthogonal(torch.stack(matrices), coefficients, steps, eps)
    world, rank = dist.get_world_size(), dist.get_rank()
    each = math.ceil(len(matrices) / world)
    mine = [matrices[min(k, len(matrices) - 1)] for k in range(rank * each, (rank + 1) * each)]  # the last fills up
    part = orthogonal(torch.stack(mine), coefficients, steps, eps)
    whole = part.new_empty(world * each, *part.shape[1:])
    dist.all_gather_into_tensor(whole, part)
    return whole[:len(matrices)]


def orthogonal(matrices: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float) -> Tensor:
    """(N, R, C) -> (N, R, C): the nearest matrices whose singular values are all about 1.

    By the iteration of Newton and Schulz, on a GPU in bfloat16: exact enough, but most CPUs can only emulate it.
    """
    a, b, c = coefficients
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.bfloat16() if matrices.is_cuda else matrices
    x = x.mT.contiguous() if tall else x
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp_min(eps)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT.contiguous() if tall else x
