"""Transformer blocks with two-dimensional rotary positions. Letters: B batch, N tokens, D width, C channels."""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SCORES = 1_800_000         # of attention at a time on a CPU: 3.6 MB


class Attention(nn.Module):
    """Multi-head self-attention with normalised queries and keys (Henry et al., 2020) and rotary positions."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.query_norm = nn.LayerNorm(width // heads)
        self.key_norm = nn.LayerNorm(width // heads)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, rotary: Tensor) -> Tensor:
        """x (B, N, D), rotary (2, N, D / heads) -> (B, N, D)."""
        B, N, D = x.shape
        q, k, v = self.qkv(x).view(B, N, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)
        q = rotate(self.query_norm(q), rotary).to(v.dtype)
        k = rotate(self.key_norm(k), rotary).to(v.dtype)
        return self.out(attend(q, k, v).transpose(1, 2).reshape(B, N, D))


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(C)) v, all (B, heads, N, C).

    torch's own attention is slow in bfloat16 on a CPU: in plain products it takes .65 of the time for four frames by
    themselves, .55 for four views together and .46 for eight, as long as the scores stay in the cache.
    """
    B, heads, N, C = q.shape
    if q.device.type != "cpu" or q.dtype != torch.bfloat16 or torch.is_grad_enabled():
        return F.scaled_dot_product_attention(q, k, v)
    q, k, v = (x.reshape(B * heads, N, C) for x in (q * C ** -0.5, k, v))
    out, step = torch.empty_like(q), max(1, SCORES // N ** 2)
    for i in range(0, B * heads, step):
        scores = torch.bmm(q[i:i + step], k[i:i + step].mT)
        torch.bmm(scores.softmax(-1), v[i:i + step], out=out[i:i + step])
    return out.view(B, heads, N, C)


class Block(nn.Module):
    """Pre-norm transformer block with layer scale (Touvron et al., 2021)."""

    def __init__(self, width: int, heads: int, expansion: int):
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.attention_scale = nn.Parameter(torch.full((width,), 0.1))
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, expansion * width), nn.GELU(), nn.Linear(expansion * width, width))
        self.mlp_scale = nn.Parameter(torch.full((width,), 0.1))

    def forward(self, x: Tensor, rotary: Tensor) -> Tensor:
        """x (B, N, D), rotary (2, N, D / heads) -> (B, N, D)."""
        x = torch.addcmul(x, self.attention_scale, self.attention(self.attention_norm(x), rotary))
        return torch.addcmul(x, self.mlp_scale, self.mlp(self.mlp_norm(x)))


def rotary_angles(rows: int, columns: int, channels: int, special: int, device=None) -> Tensor:
    """Cosines and sines of the rotary positions of a grid of patches (Su et al., 2021; in 2-D, Heo et al., 2024).

    Half of the frequencies turn with the column, half with the row. The `special` tokens (camera, registers) come
    first and are not turned, so they have no place in the image.

    Returns: (2, special + rows * columns, channels), as `rotate` takes them.
    """
    frequencies = 100.0 ** -(torch.arange(channels // 4, device=device) / (channels // 4))
    row, column = torch.meshgrid(torch.arange(rows, device=device), torch.arange(columns, device=device), indexing="ij")
    angles = torch.cat([column.reshape(-1, 1) * frequencies, row.reshape(-1, 1) * frequencies], dim=1)
    angles = torch.cat([angles.new_zeros(special, channels // 2), angles])
    cos, sin = angles.cos(), angles.sin()
    return torch.stack([torch.cat([cos, cos], dim=1), torch.cat([-sin, sin], dim=1)])


def rotate(x: Tensor, rotary: Tensor) -> Tensor:
    """Turns the channels (i, i + C/2) of x (..., N, C) by the angles of `rotary` (2, N, C): cosines, and sines with the
    minus of the first half."""
    cos, sin = rotary.to(x.dtype)
    first, second = x.chunk(2, dim=-1)
    return torch.cat([second, first], dim=-1).mul_(sin).addcmul_(x, cos)
