"""EfficientNet-Lite0: the stream of features that have seen photographs.

Rendered worlds teach geometry but look like no photograph; a small classifier that was trained on ImageNet carries what
furniture looks like over to real images. It is frozen while we train. Architecture: Tan and Le, 2019, in the "lite"
variant (no squeeze-excitation, ReLU6) of Liu, 2020; weights: see NOTICE. Batch norms are folded into the convolutions
when the weights are imported (`lsm_ros/training/import_backbone.py`), so this file holds plain convolutions.
"""
from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

# kernel, stride, expansion, channels out, repeats
STAGES = ((3, 1, 1, 16, 1), (3, 2, 6, 24, 2), (5, 2, 6, 40, 2), (3, 2, 6, 80, 3), (5, 1, 6, 112, 3), (5, 2, 6, 192, 4),
          (3, 1, 6, 320, 1))
STRIDE_8_CHANNELS, STRIDE_16_CHANNELS, STRIDE_32_CHANNELS = 40, 112, 320


class Backbone(nn.Module):
    """Images to feature maps at strides 8, 16 and 32 (40, 112 and 320 channels)."""

    def __init__(self):
        super().__init__()
        self.stem = SameConv(3, 32, 3, stride=2)
        self.blocks = nn.ModuleList()
        channels = 32
        for kernel, stride, expansion, out, repeats in STAGES:
            for repeat in range(repeats):
                self.blocks.append(InvertedResidual(channels, out, kernel, stride if repeat == 0 else 1, expansion))
                channels = out

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """images (B, 3, H, W) in 0..1 -> (B, 40, H/8, W/8), (B, 112, H/16, W/16), (B, 320, H/32, W/32)."""
        x = F.relu6(self.stem((images - 127 / 255) * (255 / 128)))
        maps = []
        for block in self.blocks:
            x = block(x)
            maps.append(x)
        return maps[4], maps[10], maps[15]


class InvertedResidual(nn.Module):
    """Expand, filter each channel, project; with a skip where the shapes allow it (Sandler et al., 2018)."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int, expansion: int):
        super().__init__()
        hidden = channels * expansion
        self.expand = SameConv(channels, hidden, 1) if expansion > 1 else None
        self.depthwise = SameConv(hidden, hidden, kernel, stride=stride, groups=hidden)
        self.project = SameConv(hidden, out, 1)
        self.skip = stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        hidden = x if self.expand is None else F.relu6(self.expand(x))
        out = self.project(F.relu6(self.depthwise(hidden)))
        return x + out if self.skip else out


class SameConv(nn.Conv2d):
    """Convolution padded as TensorFlow pads "same": the odd pixel goes to the right and the bottom."""

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        total = [max((-(-size // stride) - 1) * stride + kernel - size, 0) for size in x.shape[-2:]]
        if total[0] == total[1] and total[0] % 2 == 0:
            return F.conv2d(x, self.weight, self.bias, self.stride, total[0] // 2, groups=self.groups)
        (top, left) = (total[0] // 2, total[1] // 2)
        x = F.pad(x, (left, total[1] - left, top, total[0] - top))
        return F.conv2d(x, self.weight, self.bias, self.stride, groups=self.groups)
