"""Which places of two views show the same point: the truth, and the loss of the descriptors. Letters as in losses.py.

For Q points of each view the descriptors of one other view are asked whether they are in it and where (cross-entropy
over all of its cells, as in MASt3R, Leroy et al., 2024). That they are in no place of it, hidden or outside the image,
has a logit of its own, as the dustbin of SuperGlue (Sarlin et al., 2020).

Where two views share little, few points drawn at random are in both. So up to half of those that are asked for are, and
"where" is learned from all of them alike; "whether" weighs them by how often they are met, or the odds of a match would
be wrong.
"""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lsm_ros.model.network import NetworkOutput
from lsm_ros.training.losses import Targets

CELL = 4                    # pixels of the image in a cell of the descriptors
HIDDEN = 0.03               # a point that lies deeper than what the other view sees there by more than this share
REACH = 2                   # cells around the right one in which the place between cells is read off
QUERIES = 256               # points of each view that are asked for, every step others
CANDIDATES = 4              # times as many are looked at, to find those that are in both views


def matching_loss(output: NetworkOutput, targets: Targets, shift: int, queries: int = QUERIES) -> dict[str, Tensor]:
    """Asks view s for its points in view s + `shift` (counted round) of its window.

    Returns the parts "match" (nats), "place" (cells: how far off the place is that the descriptors give among the
    cells next to the right one) and, for the log, "hit" (share of visible points whose best cell is at most one off).
    """
    B, S, h, w = targets.depth.shape
    drawn = torch.randint(h * w, (B, S, CANDIDATES * queries), device=targets.depth.device)
    start, place, visible, hidden = correspondences(targets, drawn, shift)
    sound = targets.valid[:, None, None] > 0
    visible, hidden = (part & sound for part in (visible, hidden))
    chosen, weight_of = choose(visible, hidden, queries)
    start, place = (part.gather(2, chosen[..., None].expand(-1, -1, -1, 2)) for part in (start, place))
    visible, hidden = (part.gather(2, chosen).flatten(0, 1) for part in (visible, hidden))
    weight_of = weight_of.flatten(0, 1)

    descriptors = output.descriptors
    rows, columns = descriptors.shape[-2:]
    grid = torch.stack([start[..., 0] / (columns * CELL), start[..., 1] / (rows * CELL)], dim=-1) * 2 - 1
    grid = grid.flatten(0, 1)[:, None]                                                       # (N, 1, Q, 2)
    asked = F.grid_sample(descriptors.flatten(0, 1), grid, padding_mode="border", align_corners=False)[:, :, 0]
    other = descriptors.roll(-shift, dims=1).flatten(0, 1).flatten(2)                        # (N, M, cells)
    logits = torch.einsum("nmq,nmc->nqc", asked, other)
    anywhere = logits.logsumexp(-1)
    total = torch.logaddexp(anywhere, output.unmatched)

    place = place.flatten(0, 1) / CELL - 0.5                                                 # in cells from the first
    corners, weight = (torch.stack(part, dim=-1) for part in zip(*neighbours(place, rows, columns)))
    steps = torch.arange(-REACH, REACH + 1, device=place.device)
    around = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), dim=-1).flatten(0, 1)  # (R, 2)
    cells = place.round()[:, :, None] + around                                               # (N, Q, R, 2)
    inside = (cells >= 0).all(-1) & (cells[..., 0] < columns) & (cells[..., 1] < rows)
    local = torch.where(inside, cells[..., 1] * columns + cells[..., 0], 0).long()
    # One gather: the gradient of each is as large as all logits, a gigabyte in a step.
    target, local = logits.gather(-1, torch.cat([corners, local], dim=-1)).split([4, len(around)], dim=-1)
    target = (weight * target).sum(-1)
    asked_for = (visible | hidden).sum().clamp_min(1)
    whether = torch.where(visible, total - anywhere, 0.0) + torch.where(hidden, total - output.unmatched, 0.0)
    whether = (weight_of * whether).sum() / weight_of.sum().clamp_min(1)
    where = torch.where(visible, anywhere - target, 0.0).sum() / asked_for

    local = local.masked_fill(~inside, -1e4).softmax(-1)
    read = (local[..., None] * cells).sum(2)
    place_error = torch.where(visible, (read - place).norm(dim=-1), 0.0).sum() / visible.sum().clamp_min(1)

    with torch.no_grad():
        highest, best = logits.max(-1)
        best = torch.stack([best % columns, best // columns], dim=-1)
        hit = ((best - place).abs().amax(-1) <= 1) & visible & (highest > output.unmatched)
        hit = (weight_of * hit).sum() / (weight_of * visible).sum().clamp_min(1)
    return {"match": whether + where, "place": place_error, "hit": hit}


def choose(visible: Tensor, hidden: Tensor, queries: int) -> tuple[Tensor, Tensor]:
    """Some of N points each, at random: half of them visible, or as many as there are.

    Args:
        visible, hidden: (..., N) bool.

    Returns:
        chosen (..., queries) indices into N, and how many of the N each stands for: 0 where it is neither.
    """
    kinds = visible.float(), hidden.float()
    rarity = sum(kind / kind.sum(-1, keepdim=True).clamp_min(1) for kind in kinds)
    # Without replacement, by weight (Efraimidis and Spirakis, 2006); the last are those of no kind.
    order = torch.rand_like(rarity).clamp_min(1e-12).log() / rarity.clamp_min(1e-12)
    chosen = order.topk(queries, dim=-1).indices
    stands_for = torch.zeros_like(chosen, dtype=torch.float32)
    for kind in kinds:
        mine = kind.gather(-1, chosen)
        stands_for += mine * kind.sum(-1, keepdim=True) / mine.sum(-1, keepdim=True).clamp_min(1)
    return chosen, stands_for


def correspondences(targets: Targets, chosen: Tensor, shift: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Where dense pixels are in another view of their window.

    Args:
        chosen: (B, S, Q) indices into the h * w dense pixels of each view.
        shift: view s is asked for in view s + shift, counted round.

    Returns:
        start (B, S, Q, 2), place (B, S, Q, 2): u, v in pixels of the image, in the view and in the other one;
        visible, hidden (B, S, Q) bool: it is seen there, it is not; neither where depth does not tell. What has moved
        is not, wherever it is by now: a match is a place of the world that stands still.
    """
    t = targets
    h, w = t.depth.shape[-2:]

    def gather(values: Tensor) -> Tensor:
        values = values.flatten(2, 3)
        index = chosen if values.dim() == 3 else chosen[..., None].expand(-1, -1, -1, values.shape[-1])
        return values.gather(2, index)

    def project(rays: Tensor, K: Tensor) -> Tensor:
        return rays * torch.stack([K[..., 0, 0], K[..., 1, 1]], -1)[:, :, None] + K[..., :2, 2][:, :, None]

    start = project(gather(t.rays), t.K)
    R, shift_t, K = (part.roll(-shift, dims=1) for part in (t.rotation, t.translation, t.K))
    points = torch.einsum("bsij,bsqi->bsqj", R, gather(t.points) - shift_t[:, :, None])     # in the other camera
    z = points[..., 2]
    place = project(points[..., :2] / z.clamp_min(1e-4)[..., None], K)
    inside = (z > 1e-3) & (place >= 0).all(-1) & (place[..., 0] < 2 * w) & (place[..., 1] < 2 * h)

    first = project(t.rays.roll(-shift, dims=1)[:, :, 0, :1], K)                             # centre of dense pixel 0
    depth, known = t.depth.roll(-shift, dims=1).flatten(2), t.mask.roll(-shift, dims=1).flatten(2)
    seen, told = torch.zeros_like(inside), torch.zeros_like(inside)
    for index, weight in neighbours((place - first) / 2, h, w):
        there = depth.gather(2, index)
        seen |= (there / z - 1).abs() < HIDDEN
        told |= known.gather(2, index) & (weight > 0)
    mine = gather(t.mask)
    S = t.depth.shape[1]
    other = (torch.arange(S, device=depth.device) + shift) % S
    gone = t.moved[:, torch.arange(S, device=depth.device), other].gather(2, gather(t.body))
    seen = seen & ~gone
    return start, place, mine & inside & seen & told, mine & (~inside | gone | (told & ~seen))


def neighbours(place: Tensor, rows: int, columns: int) -> list[tuple[Tensor, Tensor]]:
    """The four cells around (..., 2) places (column, row), as flat indices, each with its bilinear weight."""
    place = torch.stack([place[..., 0].clamp(0, columns - 1), place[..., 1].clamp(0, rows - 1)], dim=-1)
    low = place.floor()
    part = place - low
    found = []
    for right in (0, 1):
        for down in (0, 1):
            column = (low[..., 0] + right).clamp(max=columns - 1)
            row = (low[..., 1] + down).clamp(max=rows - 1)
            weight = (part[..., 0] if right else 1 - part[..., 0]) * (part[..., 1] if down else 1 - part[..., 1])
            found.append(((row * columns + column).long(), weight))
    return found
