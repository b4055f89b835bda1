"""What rectification, letterboxes and lenses put around training images: the borders that data/borders.py finds.

Most are filled as it fills those that it finds, some stay, for not every border is one. What they hide is unknown.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from lsm_ros.data.borders import nearest_seen
from lsm_ros.world.renderer import NO_INSTANCE, NO_LABEL, staged

BANK = 64                      # borders of each size of images that windows draw from
FILLED_SHARE = 0.7
BLACK_SHARE = 0.8              # of those that stay; the others have any colour, white for the most part

BORDER_KINDS = {               # one of each, as `seen_inside` takes it
    "frame": {"wide": (.06, .06)},                      # 3 % of width and height on each side
    "bars": {"wide": (0, .3)},                          # 15 % of the height above and below
    "bowed": {"wide": (.02, .02), "bow": (.1, .1)},     # 1 % at the ends of each side, 6 % in its middle
    "corners": {"corners": (1, 1.5)},                   # dark along 15 % of both their sides
}


@dataclass(frozen=True)
class Edges:
    """The borders of B windows, each the same in all its views."""
    number: np.ndarray         # (B,) int64 in the bank of borders, -1 for none
    filled: np.ndarray         # (B,) bool
    color: np.ndarray          # (B, 3) float32 in 0..1, of those that are not

    @classmethod
    def random(cls, rng: np.random.Generator, windows: int, share: float) -> Edges:
        number = np.where(rng.random(windows) < share, rng.integers(0, BANK, windows), -1)
        colored = rng.random((windows, 1)) > BLACK_SHARE
        color = np.where(rng.random((windows, 1)) < .6, 1.0, rng.random((windows, 3)))
        return cls(number, rng.random(windows) < FILLED_SHARE, (colored * color).astype(np.float32))

    def put_around(self, image: Tensor, depth: Tensor, label: Tensor, instance: Tensor) -> None:
        """Changes image (B, V, 3, H, W), depth, label and instance (B, V, H, W) in place."""
        chosen = np.flatnonzero(self.number >= 0)
        if not len(chosen):
            return
        device, (_, V, _, H, W) = image.device, image.shape

        def put(array: np.ndarray) -> Tensor:
            return staged(array, device).to(device, non_blocking=True)
        window, number = put(chosen), put(self.number[chosen])
        seen, nearest = (part[number] for part in _bank(H, W, device))
        before = image[window]
        filled = before.flatten(3).gather(3, nearest.long()[:, None, None].expand(-1, V, 3, -1)).view_as(before)
        kept = torch.where(seen[:, None, None], before, put(self.color[chosen])[:, None, :, None, None])
        image[window] = torch.where(put(self.filled[chosen])[:, None, None, None, None], filled, kept)
        hidden = ~seen[:, None]
        depth[window] = depth[window].masked_fill(hidden, 0.0)
        label[window] = label[window].masked_fill(hidden, NO_LABEL)
        instance[window] = instance[window].masked_fill(hidden, NO_INSTANCE)


@lru_cache(maxsize=16)
def _bank(H: int, W: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """(BANK, H, W) bool, what is seen, and (BANK, H W) int32, the nearest seen pixel of each."""
    rng = np.random.default_rng((H, W))
    seen = np.stack([random_edge(rng, H, W) for _ in range(BANK)])
    nearest = np.tile(np.arange(H * W, dtype=np.int32), (BANK, 1))
    for row, mask in zip(nearest, seen, strict=True):
        row[~mask.ravel()] = nearest_seen(~mask)
    return torch.from_numpy(seen).to(device), torch.from_numpy(nearest).to(device)


def random_edge(rng: np.random.Generator, H: int, W: int) -> np.ndarray:
    """(H, W) bool: what is seen inside of a thin frame, bars, the bowed sides of a rectified lens, or dark corners."""
    kind = rng.choice(list(BORDER_KINDS), p=(.35, .2, .3, .15))
    if kind == "frame":
        return seen_inside(H, W, wide=rng.uniform(.01, .1, 2))
    if kind == "bars":
        above, wide = rng.random() < .7, rng.uniform(.04, .3)
        return seen_inside(H, W, wide=(0, wide) if above else (wide, 0))
    if kind == "bowed":
        return seen_inside(H, W, wide=rng.uniform(.01, .06, 2), bow=rng.uniform(.03, .16, 2))
    return seen_inside(H, W, corners=rng.uniform((.8, 1.3), (1.2, 1.8)))


def seen_inside(H: int, W: int, wide: Sequence[float] = (0, 0), bow: Sequence[float] = (0, 0),
                corners: Sequence[float] = (1, np.inf)) -> np.ndarray:
    """(H, W) bool: what a border leaves of an image. Places u, v go from -1 to 1 over its width and height.

    Args:
        wide: how far the border reaches in from the sides left and right, and from those above and below.
        bow: how much farther it does in the middle of these sides than at their ends.
        corners: a and c: where u^2 + a v^2 is c or more it is dark.
    """
    u, v = np.linspace(-1, 1, W), np.linspace(-1, 1, H)[:, None]
    sides = [abs(across) <= 1 - w - b * (1 - along ** 2)
             for across, along, w, b in zip((u, v), (v, u), wide, bow, strict=True)]
    return sides[0] & sides[1] & (u ** 2 + corners[0] * v ** 2 < corners[1])
