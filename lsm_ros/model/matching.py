"""Reads from the descriptors of a window which places of its views show the same point. Letters as in network.py."""
from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor

from lsm_ros.contracts import Matches

STRIDE = 2             # cells between the points of a view that are looked for in the others
REACH = 2              # cells around the best one whose mean is the place, as in training/matching.py
MIN_CONFIDENCE = 0.1
CYCLE = 2.5            # cells; a match whose way back ends farther from its start is dropped
ROWS = 384             # points looked for at a time on a CPU: their logits, 5 MB, stay in its cache
LOGITS = 1 << 25       # on a GPU: 128 MB, all of a window of four views


def find_places(descriptors: Tensor, unmatched: Tensor) -> dict[str, Tensor]:
    """Where the views of one window show each other's points, and how much of each view the others see.

    Points on a grid of every second cell are looked for in each of the other views: the probability of a cell is the
    softmax over all of them and the answer "nowhere", the place is the mean over the cells around the best one. To be
    called in inference mode.

    Args:
        descriptors: (S, M, rows, columns).
        unmatched: () logit of "nowhere".

    Returns:
        Of the same shapes whatever the values, so that a CUDA graph can hold it: place (S, S, Q, 2) float32, [a, b] are
        the cells (column, row) where b shows the Q points of a's grid; sure (S, S, Q) float32, the probability that it
        does; sound (S, S, Q) bool: it is a match; overlap (S, S) float32, the expected share of a's points that b sees.
    """
    S, _, rows, columns = descriptors.shape
    device, first = descriptors.device, STRIDE // 2
    grid = descriptors[:, :, first::STRIDE, first::STRIDE]
    down, across = grid.shape[2:]
    start = cell_grid(torch.arange(across, device=device), torch.arange(down, device=device)) * STRIDE + first  # (Q, 2)
    step = torch.arange(-REACH, REACH + 1, device=device)
    around = cell_grid(step, step)                                                         # (R, 2)

    place = torch.zeros(S, S, len(start), 2, device=device)
    sure = torch.zeros(S, S, len(start), device=device)
    overlap = torch.eye(S, device=device)
    if S > 1:
        views = torch.arange(S, device=device)[:, None]
        others = (views.T + (views.T >= views))[:, :-1]                                    # (S, S - 1): all but b
        wanted = grid.flatten(2).transpose(1, 2)[others].flatten(1, 2)                     # (S, (S - 1) * Q, M)
        count = wanted.shape[1]
        together, most = (1, ROWS) if device.type == "cpu" else (max(1, LOGITS // (count * rows * columns)), count)
        parts = [look_for(wanted[b:b + together, n:n + most], descriptors[b:b + together], unmatched, around)
                 for b in range(0, S, together) for n in range(0, count, most)]
        found, there, seen = (torch.cat([each.flatten(0, 1) for each in part]).unflatten(0, (S, S - 1, -1))
                              for part in zip(*parts, strict=True))                        # (S, S - 1, Q, ...)
        place[others, views], sure[others, views], overlap[others, views] = found, there, seen.mean(-1)

    # The way back leads through the point of b's own grid that is nearest to the place.
    near = ((place - first) / STRIDE).round().long()
    near = near[..., 1].clamp(0, down - 1) * across + near[..., 0].clamp(0, across - 1)
    back = place.transpose(0, 1).gather(2, near[..., None].expand(-1, -1, -1, 2)) + place - start[near]
    sound = (sure > MIN_CONFIDENCE) & ((back - start).norm(dim=-1) < CYCLE)
    return {"place": place, "sure": sure, "sound": sound, "overlap": overlap}


def to_matches(found: dict[str, np.ndarray], shape: Sequence[int]) -> Matches:
    """The matches among what `find_places` found on descriptors of `shape` (rows, columns)."""
    rows, columns = shape
    S, _, count = found["sound"].shape
    index = np.flatnonzero(found["sound"])
    ab, q = np.divmod(index, count)
    across = len(range(STRIDE // 2, columns, STRIDE))
    size = np.array([columns, rows], np.float32)
    cell = np.stack(np.divmod(np.arange(count), across)[::-1], axis=1) * STRIDE + STRIDE // 2
    start = (cell + 0.5).astype(np.float32) / size
    return Matches(ab // S, ab % S, start.take(q, 0),
                   (found["place"].reshape(-1, 2).take(index, 0) + np.float32(0.5)) / size, found["sure"].take(index))


def look_for(points: Tensor, cells: Tensor, unmatched: Tensor, around: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Where each of G views shows N points of its own.

    Args:
        points: (G, N, M) descriptors.
        cells: (G, M, rows, columns) descriptors of the views.
        unmatched: () logit of "nowhere".
        around: (R, 2) steps to the cells about the best one.

    Returns:
        place (G, N, 2) in cells, the probability (G, N) that it is there, and that the point is in the view at all.
    """
    _, _, rows, columns = cells.shape
    top, best, weight, anywhere = weigh(points @ cells.flatten(2))                         # (G, N, cells)
    total = anywhere + (unmatched - top).exp() * weight.gather(2, best[..., None])[..., 0]
    near = torch.stack([best % columns, best // columns], dim=-1)[:, :, None] + around     # (G, N, R, 2)
    inside = (near >= 0).all(-1) & (near[..., 0] < columns) & (near[..., 1] < rows)
    index = (near[..., 1] * columns + near[..., 0]).masked_fill(~inside, 0)
    local = weight.gather(2, index).masked_fill_(~inside, 0)
    there = local.sum(2)
    return (local[..., None] * near).sum(2) / there[..., None], there / total, anywhere / total


def weigh(logits: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(G, N, C), overwritten -> the largest (G, N), its cell (G, N), exponentials up to a factor (G, N, C), their sum
    (G, N)."""
    if logits.device.type != "cpu":
        top, best = logits.max(2)
        return top, best, logits.softmax(2), torch.ones_like(top)       # two passes: memory is what they wait for
    # numpy's argmax is ten times as fast as torch's on a CPU, and OpenCV's exponential takes a third of the time.
    best = torch.from_numpy(logits.numpy().argmax(2))
    top = logits.gather(2, best[..., None])
    weight = logits.sub_(top)
    cv2.exp(weight.numpy(), weight.numpy())
    return top[..., 0], best, weight, weight.sum(2)


def cell_grid(columns: Tensor, rows: Tensor) -> Tensor:
    """(rows * columns, 2): all pairs column, row, row by row."""
    return torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1).flatten(0, 1)
