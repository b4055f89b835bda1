"""What the network is asked for. Letters as in model/network.py; h w is the dense grid, half of the image."""
from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lsm_ros.model.network import PATCH, NetworkOutput, Priors
from lsm_ros.world.movers import MOVED_M
from lsm_ros.world.renderer import NO_LABEL

CONFIDENCE_PRICE = 0.2   # of claiming confidence, in units of the error that it weighs (Wang et al., DUSt3R, 2024)
PRIOR_SHARE = 0.3        # of the windows get odometry, and as many get depth; with .15, leg 2 hardly learned to look
ODOMETRY_ERROR = 0.03    # of the way, of all of it and of each view's
POSE_FLOOR = 0.05        # expected error of a pose below which it does not count for more
MOVING_WEIGHT = 4.0      # of a pixel that moves, for they are few
MAX_DEPTH_M = 40.0       # beyond it (the sky outside a window) depth is not asked for


@dataclass
class Targets:
    """The truth of B windows of S views, in units of the window like the network's output."""
    rotation: Tensor      # (B, S, 3, 3) camera -> first camera
    translation: Tensor   # (B, S, 3)
    depth: Tensor         # (B, S, h, w)
    rays: Tensor          # (B, S, h, w, 2) x/z and y/z of the pixels
    points: Tensor        # (B, S, h, w, 3) in the first camera
    mask: Tensor          # (B, S, h, w) bool: depth is known
    label: Tensor         # (B, S, h/2, w/2) int64, NO_LABEL where there is nothing
    K: Tensor             # (B, S, 3, 3) pixels of the full image
    focal: Tensor         # (B,) focal length / image width
    scale: Tensor         # (B,) metres per unit
    valid: Tensor         # (B,) float, 0 for a window that is not to be learned from
    body: Tensor          # (B, S, h, w) int64: which of what moves in its window, 0 none
    moved: Tensor         # (B, S, S, 1 + bodies) bool: which are elsewhere in one view than in another
    moving: Tensor        # (B, S, h/2, w/2) bool: what is elsewhere in any other view


def make_targets(depth: Tensor, label: Tensor, K: Tensor, T_world_cam: Tensor, valid: Tensor,
                 offset: tuple[int, int], body: Tensor | None = None, displaced: Tensor | None = None) -> Targets:
    """From rendered views: depth (B, S, H, W) z metres, label (B, S, H, W), K (B, S, 3, 3), T_world_cam (B, S, 4, 4);
    where something moves, `body` and `displaced` as in ViewBatch.

    `offset` (row, column) of 0 to 3 says which of the 4x4 pixels under a label is taken, and which of the 2x2 under a
    dense pixel; drawn anew each step, it makes the prediction stand for all of them, and nothing is ever averaged over
    an edge.
    """
    width = depth.shape[-1]
    B, S = depth.shape[:2]
    if body is None or displaced is None:
        body, displaced = torch.zeros_like(label), depth.new_zeros(B, S, S, 1)
    body, moved = body[..., offset[0] % 2::2, offset[1] % 2::2].long(), displaced > MOVED_M
    coarse = body[..., offset[0] // 2::2, offset[1] // 2::2]
    moving = moved.any(dim=2).gather(2, coarse.flatten(2)).view_as(coarse)
    label = label[..., offset[0]::4, offset[1]::4]
    row, column = offset[0] % 2, offset[1] % 2
    depth = depth[..., row::2, column::2]
    v = torch.arange(depth.shape[-2], device=depth.device)[:, None] * 2 + row + 0.5
    u = torch.arange(depth.shape[-1], device=depth.device) * 2 + column + 0.5
    fx, fy, cx, cy = (K[..., i, j, None, None] for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))
    rays = torch.stack([((u - cx) / fx).expand_as(depth), ((v - cy) / fy).expand_as(depth)], dim=-1)
    R_world_cam, t_world_cam = T_world_cam[..., :3, :3], T_world_cam[..., :3, 3]
    R_first_world = R_world_cam[:, :1].transpose(-1, -2)
    rotation = R_first_world @ R_world_cam
    translation = (R_first_world @ (t_world_cam - t_world_cam[:, :1]).unsqueeze(-1)).squeeze(-1)
    points = to_points(depth, rays, rotation, translation)
    mask = (depth > 0.05) & (depth < MAX_DEPTH_M)
    distance = torch.where(mask, points.norm(dim=-1), 0.0)
    scale = distance.sum((1, 2, 3)) / mask.sum((1, 2, 3)).clamp_min(1)
    valid = valid & (mask.float().mean((1, 2, 3)) > 0.3) & (scale > 0.1)
    scale = torch.where(valid, scale, torch.ones_like(scale))
    unit = scale[:, None, None, None]
    return Targets(rotation, translation / scale[:, None, None], depth / unit, rays, points / unit[..., None], mask,
                   label.long(), K, K[:, 0, 0, 0] / width, scale, valid.float(), body, moved, moving)


def to_points(depth: Tensor, rays: Tensor, rotation: Tensor, translation: Tensor) -> Tensor:
    """Pixels in the first camera's frame, (B, S, h, w, 3)."""
    points = torch.cat([rays, torch.ones_like(rays[..., :1])], dim=-1) * depth[..., None]
    return torch.einsum("bsij,bshwj->bshwi", rotation, points) + translation[:, :, None, None]


def make_priors(targets: Targets, share: float = PRIOR_SHARE) -> Priors:
    """What a robot may know beforehand, with its errors: for a `share` of the windows odometry between all views, for
    another the depth of some patches (from 2 % of them to all)."""
    t = targets
    B, S, h, w = t.depth.shape
    device, unit = t.depth.device, t.scale[:, None, None]
    motion = torch.eye(4, device=device).repeat(B, S, 1, 1)
    slip = 1 + ODOMETRY_ERROR * torch.randn(B, 1, 1, device=device)
    shake = ODOMETRY_ERROR * t.translation.norm(dim=-1, keepdim=True) * unit + 0.003
    motion[..., :3, 3] = t.translation * unit * slip + shake * torch.randn_like(t.translation)
    turn = torch.eye(3, device=device) + hat(0.01 * torch.randn(B, S, 3, device=device))     # small: half a degree
    motion[..., :3, :3] = t.rotation @ turn
    motion[:, 0] = torch.eye(4, device=device)
    known = (torch.rand(B, 1, device=device) < share).expand(B, S)

    row, column = (int(torch.randint(PATCH // 2, ())) for _ in range(2))
    depth = torch.where(t.mask, t.depth, 0.0)[..., row::PATCH // 2, column::PATCH // 2] * unit[..., None]
    density = torch.exp(math.log(0.02) * torch.rand(B, 1, 1, 1, device=device))
    keep = (torch.rand(B, 1, 1, 1, device=device) < share) & (torch.rand_like(depth) < density)
    depth = torch.where(keep, depth * (1 + 0.02 * torch.randn_like(depth)), 0.0)
    return Priors(motion, known, depth)


def hat(v: Tensor) -> Tensor:
    """(..., 3) -> (..., 3, 3): the matrix of the cross product."""
    x, y, z = v.unbind(-1)
    o = torch.zeros_like(x)
    return torch.stack([o, -z, y, z, o, -x, -y, x, o], dim=-1).unflatten(-1, (3, 3))


def loss(output: NetworkOutput, targets: Targets, text: Tensor, logit_scale: float) -> tuple[Tensor, dict[str, Tensor]]:
    """The training loss and its parts; `text` (C, E) are the labels' embeddings.

    Confidence-weighted error of log depth and of the points in the first camera's frame (Wang et al., DUSt3R, 2024),
    depth gradients at two distances, pose, focal length, metric scale, and cross-entropy of the labels. Poses weigh by
    the inverse of the error that the network expects of them (after Kendall and Gal, 2017): a view that shares nothing
    with the first one teaches little but would be heard most.
    """
    cameras, t, valid = output.cameras, targets, targets.valid
    windows = valid.sum().clamp_min(1)
    pixels = t.mask.float() * valid[:, None, None, None]

    def mean(error: Tensor) -> Tensor:
        """Over the pixels whose depth is known."""
        return (error * pixels).sum() / pixels.sum().clamp_min(1)

    def mean_window(error: Tensor) -> Tensor:
        """Over the windows; error (B,)."""
        return (error * valid).sum() / windows

    log_error = output.log_depth - t.depth.clamp_min(1e-4).log()
    depth = log_error.abs()
    focal_ratio = (t.focal.log() - cameras.log_focal).exp().clamp(0.2, 5.0)   # true / predicted: rays of our own focal
    rays = t.rays * focal_ratio[:, None, None, None, None]
    points = to_points(output.log_depth.clamp(-6, 6).exp(), rays, cameras.rotation, cameras.translation)
    point = (points - t.points).norm(dim=-1) / (t.points.norm(dim=-1) + 0.3)
    confidence = 1 + output.log_confidence.clamp(-8, 6).exp()
    geometry = mean(confidence * (depth + point) - CONFIDENCE_PRICE * confidence.log())
    gradient = sum(mean_gradient(log_error, pixels, step) for step in (1, 4))

    translation = (cameras.translation - t.translation).norm(dim=-1)          # (B, S)
    rotation = (cameras.rotation - t.rotation).flatten(-2).norm(dim=-1)
    pose = translation.detach() + rotation.detach()
    pose_error = (cameras.log_error - (pose + 1e-3).log()).abs()
    trust = 1 / (cameras.log_error.detach().exp() + POSE_FLOOR)
    focal = (cameras.log_focal - t.focal.log()).abs()
    scale = (cameras.log_scale - t.scale.log()).abs()

    logits = logit_scale * torch.einsum("bsehw,ce->bschw", output.semantics, text)
    weight = class_weights(t.label, len(text))
    semantic = F.cross_entropy(logits.flatten(0, 1), t.label.flatten(0, 1), weight, ignore_index=NO_LABEL,
                               reduction="none")
    semantic = semantic.unflatten(0, t.label.shape[:2]).mean((1, 2, 3))
    views = max(t.label.shape[1] - 1, 1)                                      # the first view's pose is given

    def mean_view(error: Tensor) -> Tensor:
        """Over the views but the first of each window; error (B, S)."""
        return mean_window(error[:, 1:].sum(1) / views)

    poses = mean_view((2 * translation + rotation) * trust) / mean_view(trust).clamp_min(1e-6)
    motion = geometry.new_zeros(())
    if output.moving is not None:
        several = t.label.shape[1] > 1                                        # a single view does not tell
        known = (t.label != NO_LABEL) * valid[:, None, None, None] * several
        weight = known * (1 + (MOVING_WEIGHT - 1) * t.moving)
        motion = F.binary_cross_entropy_with_logits(output.moving, t.moving.float(), weight, reduction="sum")
        motion = motion / known.sum().clamp_min(1)
    parts = {"geometry": geometry, "gradient": gradient, "poses": poses, "pose_error": mean_view(pose_error),
             "focal": mean_window(focal), "scale": mean_window(scale), "semantic": mean_window(semantic),
             "moving": motion}
    weights = {"geometry": 1.0, "gradient": 0.5, "poses": 1.0, "pose_error": 0.05, "focal": 0.5, "scale": 0.2,
               "semantic": 0.3, "moving": 0.5}
    total = sum(weights[name] * part for name, part in parts.items())
    return total, parts | {"depth": mean(depth), "point": mean(point), "translation": mean_view(translation),
                           "rotation": mean_view(rotation)}


def mean_gradient(error: Tensor, pixels: Tensor, step: int) -> Tensor:
    """Mean absolute difference between the errors of pixels `step` apart, where both are known."""
    total = 0.0
    for dim in (-1, -2):
        size = error.shape[dim] - step
        both = pixels.narrow(dim, step, size) * pixels.narrow(dim, 0, size)
        difference = (error.narrow(dim, step, size) - error.narrow(dim, 0, size)).abs()
        total = total + (difference * both).sum() / both.sum().clamp_min(1)
    return total


def class_weights(label: Tensor, classes: int) -> Tensor:
    """(C,) rare classes weigh more, with the third root of their rarity; the mean pixel weighs 1."""
    count = torch.zeros(NO_LABEL + 1, device=label.device)           # not bincount, which makes the CPU wait for a GPU
    share = count.scatter_add_(0, label.flatten(), torch.ones_like(label.flatten(), dtype=count.dtype))[:classes]
    share = share / label.numel()
    weight = (share + 1e-4) ** (-1 / 3)
    return weight / (weight * share).sum()
