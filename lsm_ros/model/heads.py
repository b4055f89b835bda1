"""From tokens to what is asked for: one head a file would be too much air, so all stand here."""
from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lsm_ros.model.backbone import STRIDE_8_CHANNELS


@dataclass
class Cameras:
    """Cameras of B windows of S views, in units of the window (mean distance of its points from the first camera)."""
    rotation: Tensor      # (B, S, 3, 3) camera -> first view's camera, OpenCV axes
    translation: Tensor   # (B, S, 3)
    log_focal: Tensor     # (B,) log of focal length / image width, one camera a window
    log_scale: Tensor     # (B,) log of metres per unit
    log_error: Tensor     # (B, S) the network's own guess of the log of its pose error, see training/losses.py


class CameraHead(nn.Module):
    """Camera token to pose, focal length, metric scale and expected pose error."""

    def __init__(self, width: int):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, 3 + 6 + 1 + 1 + 1))

    def forward(self, token: Tensor) -> Cameras:
        """token (B, S, D)."""
        translation, rotation, log_focal, log_scale, log_error = self.mlp(token).float().split([3, 6, 1, 1, 1], dim=-1)
        return Cameras(rotation_from_6d(rotation), translation, log_focal.mean((1, 2)), log_scale.mean((1, 2)),
                       log_error[..., 0])


def rotation_from_6d(values: Tensor) -> Tensor:
    """(..., 6) -> (..., 3, 3): Gram-Schmidt of two columns (Zhou et al., 2019). Zeros give the identity."""
    axes = torch.eye(2, 3, dtype=values.dtype, device=values.device)       # made there: a copy would wait for the GPU
    x = F.normalize(values[..., :3] + axes[0], dim=-1)
    y = values[..., 3:] + axes[1]
    y = F.normalize(y - (x * y).sum(-1, keepdim=True) * x, dim=-1)
    return torch.stack([x, y, torch.linalg.cross(x, y)], dim=-1)


def silent(layer: nn.Linear | nn.Conv2d) -> nn.Linear | nn.Conv2d:
    """`layer` with zeros, whose output is added to another's: a network that gets it later starts as it was."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class DenseHead(nn.Module):
    """Tokens to depth and confidence at half, and semantics at a quarter of the image's resolution.

    Sharp edges come from two skips: the backbone's features at stride 8 and the stem's at stride 4. Depth is corrected
    once more where its pixels lie side by side: before, the four pixels of a feature do not know their neighbours.
    """

    def __init__(self, width: int, stem_channels: int, embedding: int):
        super().__init__()
        self.fuse = nn.Linear(2 * width, 256)
        self.up_8 = nn.Sequential(nn.Conv2d(256, 4 * 128, 1), nn.PixelShuffle(2))
        self.skip_8 = nn.Conv2d(STRIDE_8_CHANNELS, 128, 1)
        self.mix_8 = nn.Conv2d(128, 128, 3, padding=1)
        self.up_4 = nn.Sequential(nn.Conv2d(128, 4 * 64, 1), nn.PixelShuffle(2))
        self.skip_4 = nn.Conv2d(stem_channels, 64, 1)
        self.mix_4 = nn.Conv2d(64, 64, 3, padding=1)
        self.geometry = nn.Sequential(nn.Conv2d(64, 64, 3, padding=1), nn.GELU(), nn.Conv2d(64, 2 * 4, 1),
                                      nn.PixelShuffle(2))
        self.correction = nn.Sequential(nn.Conv2d(64, 4 * 16, 1), nn.PixelShuffle(2), nn.GELU(),
                                        silent(nn.Conv2d(16, 2, 3, padding=1)))
        self.semantics = nn.Sequential(nn.Conv2d(64, 64, 3, padding=1), nn.GELU(), nn.Conv2d(64, embedding, 1))

    def forward(self, tokens: Tensor, stride_8: Tensor, stride_4: Tensor) -> tuple[Tensor, ...]:
        """tokens (N, H/16, W/16, 2D), of encoder and decoder, and the two skips -> log depth, log confidence
        (N, H/2, W/2), semantics (N, E, H/4, W/4) of unit length, and the features behind them (N, 128, H/8, W/8),
        (N, 64, H/4, W/4).
        """
        x = self.fuse(tokens).movedim(-1, 1)
        x = self.up_8(x) + self.skip_8(stride_8)
        x_8 = x + self.mix_8(F.gelu(x))
        x = self.up_4(x_8) + self.skip_4(stride_4)
        x_4 = F.gelu(x + self.mix_4(F.gelu(x)))
        geometry = (self.geometry(x_4) + self.correction(x_4)).float()
        return geometry[:, 0], geometry[:, 1], F.normalize(self.semantics(x_4).float(), dim=1), x_8, x_4


class MatchHead(nn.Module):
    """Tokens and the dense head's features to descriptors, which say which places of two views show the same point.

    After MASt3R (Leroy et al., 2024). Their length is learned, so that the product of two is a logit; `unmatched` is
    the logit of the answer that a point is nowhere in the other view (Sarlin et al., SuperGlue, 2020).
    """

    def __init__(self, width: int, descriptor: int):
        super().__init__()
        self.tokens = nn.Sequential(nn.Linear(2 * width, 512), nn.GELU(), silent(nn.Linear(512, 16 * 64)))
        self.mix_8 = nn.Sequential(nn.Conv2d(128, 4 * 64, 1), nn.PixelShuffle(2))
        self.mix_4 = nn.Conv2d(64, 64, 1)
        self.mix = silent(nn.Conv2d(64, 64, 3, padding=1))
        self.out = nn.Conv2d(64, descriptor, 1)
        self.log_length = nn.Parameter(torch.tensor(1.5))        # products of unit vectors times 20
        self.unmatched = nn.Parameter(torch.tensor(10.0))

    def forward(self, tokens: Tensor, x_8: Tensor, x_4: Tensor) -> Tensor:
        """tokens (N, H/16, W/16, 2D), (N, 128, H/8, W/8), (N, 64, H/4, W/4) -> (N, M, H/4, W/4)."""
        x = F.pixel_shuffle(self.tokens(tokens).movedim(-1, 1), 4) + self.mix_8(F.gelu(x_8)) + self.mix_4(x_4)
        x = F.gelu(x + self.mix(F.gelu(x)))
        return F.normalize(self.out(x).float(), dim=1) * self.log_length.exp()


class MotionHead(nn.Module):
    """The decoder's tokens, which have looked at the other views, and the dense head's features to what moves."""

    def __init__(self, width: int):
        super().__init__()
        self.tokens = nn.Sequential(nn.Linear(width, 96), nn.GELU(), nn.Linear(96, 16 * 16))
        self.mix_4 = nn.Conv2d(64, 16, 1)
        self.out = nn.Sequential(nn.GELU(), nn.Conv2d(16, 16, 3, padding=1), nn.GELU(), nn.Conv2d(16, 1, 1))
        nn.init.constant_(self.out[-1].bias, -4.0)               # most of the world stands still

    def forward(self, tokens: Tensor, x_4: Tensor) -> Tensor:
        """tokens (N, H/16, W/16, D), (N, 64, H/4, W/4) -> (N, H/4, W/4) logits."""
        x = F.pixel_shuffle(self.tokens(tokens).movedim(-1, 1), 4) + self.mix_4(x_4)
        return self.out(x).float()[:, 0]
