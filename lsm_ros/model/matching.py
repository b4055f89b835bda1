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
ROWS = 256             # points looked for at a time on a CPU: their logits, 3 MB, stay in its cache


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
    points = grid.flatten(2).transpose(1, 2)                                               # (S, Q, M)
    for b in range(S if S > 1 else 0):
        wanted = torch.cat([points[:b], points[b + 1:]]).flatten(0, 1)
        parts = [look_for(part, descriptors[b], unmatched, around)
                 for part in wanted.split(ROWS if device.type == "cpu" else len(wanted))]
        found, there, seen = (torch.cat(part).unflatten(0, (S - 1, -1)) for part in zip(*parts, strict=True))
        for others, mine in ((slice(b), slice(b)), (slice(b + 1, S), slice(b, S))):         # all but b
            place[others, b], sure[others, b], overlap[others, b] = found[mine], there[mine], seen[mine].mean(-1)

    # The way back leads through the point of b's own grid that is nearest to the place.
    near = ((place - first) / STRIDE).round().long()
    near = near[..., 1].clamp(0, down - 1) * across + near[..., 0].clamp(0, across - 1)
    back = place.transpose(0, 1).gather(2, near[..., None].expand(-1, -1, -1, 2)) + place - start[near]
    sound = (sure > MIN_CONFIDENCE) & ((back - start).norm(dim=-1) < CYCLE)
    return {"place": place, "sure": sure, "sound": sound, "overlap": overlap}


def to_matches(found: dict[str, np.ndarray], shape: Sequence[int]) -> Matches:
    """The matches among what `find_places` found on descriptors of `shape` (rows, columns)."""
    rows, columns = shape
    a, b, q = found["sound"].nonzero()
    across = len(range(STRIDE // 2, columns, STRIDE))
    start = np.stack([q % across, q // across], axis=1) * STRIDE + STRIDE // 2
    size = np.array([columns, rows])
    return Matches(a, b, ((start + 0.5) / size).astype(np.float32),
                   ((found["place"][a, b, q] + 0.5) / size).astype(np.float32), found["sure"][a, b, q])


def look_for(points: Tensor, cells: Tensor, unmatched: Tensor, around: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Where a view shows each of N points.

    Args:
        points: (N, M) descriptors.
        cells: (M, rows, columns) descriptors of the view.
        unmatched: () logit of "nowhere".
        around: (R, 2) steps to the cells about the best one.

    Returns:
        place (N, 2) in cells, the probability (N,) that it is there, and that the point is in the view at all.
    """
    _, rows, columns = cells.shape
    weight = points @ cells.flatten(1)                                                     # (N, cells), logits as yet
    best = argmax(weight)
    top = weight.gather(1, best[:, None])
    exp_(weight.sub_(top))
    anywhere = weight.sum(1)
    total = anywhere + (unmatched - top[:, 0]).exp()
    near = torch.stack([best % columns, best // columns], dim=-1)[:, None] + around        # (N, R, 2)
    inside = (near >= 0).all(-1) & (near[..., 0] < columns) & (near[..., 1] < rows)
    index = (near[..., 1] * columns + near[..., 0]).masked_fill(~inside, 0)
    local = weight.gather(1, index).masked_fill_(~inside, 0)
    there = local.sum(1)
    return (local[..., None] * near).sum(1) / there[:, None], there / total, anywhere / total


def argmax(values: Tensor) -> Tensor:
    """(N, C) -> (N,). numpy's is ten times as fast as torch's on a CPU."""
    return torch.from_numpy(values.numpy().argmax(1)) if values.device.type == "cpu" else values.argmax(1)


def exp_(values: Tensor) -> None:
    """In place. OpenCV's takes a third of torch's time on a CPU."""
    if values.device.type == "cpu":
        cv2.exp(values.numpy(), values.numpy())
    else:
        values.exp_()


def cell_grid(columns: Tensor, rows: Tensor) -> Tensor:
    """(rows * columns, 2): all pairs column, row, row by row."""
    return torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1).flatten(0, 1)
