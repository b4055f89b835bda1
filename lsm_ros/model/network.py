"""The network on one page: 1 to 8 unposed views in; cameras, depth, confidence and semantics out.

Each frame is encoded alone, so its tokens are computed once and serve every window that the frame is in. A decoder that
looks at one frame and at all frames in turn (Wang et al., VGGT, 2025) lets the views find each other; light heads read
the result. After LSM (Fan et al., 2024) geometry, cameras and semantics come from one forward pass.

Letters: B windows, S views, N = B * S frames, H W image pixels (multiples of 16), P patches, D width, E embedding,
M descriptor.
"""
from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lsm_ros.model.backbone import STRIDE_16_CHANNELS, STRIDE_32_CHANNELS, Backbone
from lsm_ros.model.blocks import Block, rotary_angles
from lsm_ros.model.heads import CameraHead, Cameras, DenseHead, MatchHead, MotionHead, silent

PATCH = 16
MAX_VIEWS = 8


@dataclass(frozen=True)
class NetworkConfig:
    """The shape of the network; it is stored with the weights."""
    width: int = 384
    heads: int = 6
    encoder: int = 7             # blocks that see one frame, expansion 4
    decoder: str = "aafaa"       # a: all frames of the window, f: one frame; expansion 2
    registers: int = 3           # tokens without a place in the image (Darcet et al., 2023)
    stem: int = 64               # channels at stride 4
    embedding: int = 64          # channels of the label space
    descriptor: int = 32         # channels in which views are matched; 0 for a network that does not match
    priors: bool = True          # whether it takes what is known beforehand of motion and depth
    moving: bool = True          # whether it tells what moves


@dataclass
class FrameTokens:
    """What the encoder knows of N frames; all of it can be kept and reused."""
    tokens: Tensor      # (N, 1 + registers + P, D)
    stride_8: Tensor    # (N, 40, H/8, W/8) backbone features
    stride_4: Tensor    # (N, stem, H/4, W/4) stem features
    place: Tensor       # (N, 320) unit vectors, alike for images of one place: the mean of the backbone's last features


@dataclass
class Priors:
    """What is known of B windows before they are looked at, in metres; each part may be missing."""
    motion: Tensor | None = None         # (B, S, 4, 4) camera -> first camera, by odometry, say
    motion_known: Tensor | None = None   # (B, S) bool: which of them to use
    depth: Tensor | None = None          # (B, S, H/16, W/16) z depth of some point in each patch, 0 where unknown


@dataclass
class NetworkOutput:
    """Depth and translation are in units of the window: the mean distance of its points from the first camera."""
    cameras: Cameras
    log_depth: Tensor        # (B, S, H/2, W/2)
    log_confidence: Tensor   # (B, S, H/2, W/2), weight of a pixel in the loss: higher is better
    semantics: Tensor        # (B, S, E, H/4, W/4), unit length
    descriptors: Tensor | None = None   # (B, S, M, H/4, W/4); the product of two: logit that they show the same point
    unmatched: Tensor | None = None     # () logit that a point is in no place of another view
    moving: Tensor | None = None        # (B, S, H/4, W/4) logit that a pixel shows what is elsewhere in another view


class Network(nn.Module):
    def __init__(self, config: NetworkConfig = NetworkConfig()):
        super().__init__()
        self.config = c = config
        self.stem = nn.Sequential(nn.Conv2d(3, c.stem // 2, 3, 2, 1), nn.GELU(),
                                  nn.Conv2d(c.stem // 2, c.stem, 3, 2, 1), nn.GELU())
        self.patches = nn.Conv2d(c.stem, c.width, 4, 4)
        self.backbone = Backbone()
        self.photo_16 = nn.Conv2d(STRIDE_16_CHANNELS, c.width, 1)
        self.photo_32 = nn.Conv2d(STRIDE_32_CHANNELS, c.width, 1)
        self.rays = nn.Linear(4, c.width)
        self.special = nn.Parameter(noise(1 + c.registers, c.width))
        self.encoder = nn.ModuleList(Block(c.width, c.heads, 4) for _ in range(c.encoder))
        self.role = nn.Parameter(noise(2, 1 + c.registers, c.width))   # first view, other views
        self.motion = silent(nn.Linear(10, c.width, bias=False)) if c.priors else None
        self.sparse_depth = silent(nn.Linear(2, c.width, bias=False)) if c.priors else None
        self.decoder = nn.ModuleList(Block(c.width, c.heads, 2) for _ in c.decoder)
        self.norm = nn.LayerNorm(c.width)
        self.camera_head = CameraHead(c.width)
        self.dense_head = DenseHead(c.width, c.stem, c.embedding)
        self.match_head = MatchHead(c.width, c.descriptor) if c.descriptor else None
        self.motion_head = MotionHead(c.width) if c.moving else None
        self.one_path = 0.0          # in training: share of the frames whose tokens begin with one of two paths alone

    def forward(self, images: Tensor, K: Tensor, K_known: Tensor, priors: Priors | None = None) -> NetworkOutput:
        """images (B, S, 3, H, W) in 0..1, K (B, S, 3, 3) in pixels, K_known (B, S) bool: false where K is ignored."""
        frames = self.encode(images.flatten(0, 1), K.flatten(0, 1), K_known.flatten(0, 1))
        return self.decode(frames, images.shape[1], priors)

    def encode(self, images: Tensor, K: Tensor, K_known: Tensor) -> FrameTokens:
        """images (N, 3, H, W) in 0..1, K (N, 3, 3), K_known (N,) -> tokens of each frame alone."""
        rows, columns = images.shape[-2] // PATCH, images.shape[-1] // PATCH
        with torch.no_grad():
            stride_8, stride_16, stride_32 = self.backbone(images)
        stride_4 = self.stem(normalised(images))
        pixels = self.patches(stride_4)
        photo = self.photo_16(stride_16) + upsample(self.photo_32(stride_32), rows, columns)
        if self.training and self.one_path:
            pixels, photo = leave_one_out(pixels, photo, self.one_path)
        x = (pixels + photo).flatten(2).transpose(1, 2) + self.rays(token_rays(K, K_known, rows, columns))
        x = torch.cat([self.special.to(x.dtype).expand(len(x), -1, -1), x], dim=1)
        rotary = self.rotary(rows, columns, x.device)
        for block in self.encoder:
            x = block(x, rotary)
        return FrameTokens(x, stride_8, stride_4, F.normalize(stride_32.mean(dim=(2, 3)), dim=1))

    def decode(self, frames: FrameTokens, views: int, priors: Priors | None = None) -> NetworkOutput:
        """Tokens of B windows of `views` frames each, window by window, the reference view first."""
        N, count, D = frames.tokens.shape
        rows, columns = frames.stride_8.shape[-2] // 2, frames.stride_8.shape[-1] // 2
        rotary = self.rotary(rows, columns, frames.tokens.device)
        role = torch.cat([self.role[:1], self.role[1:].expand(views - 1, -1, -1)]).repeat(N // views, 1, 1)
        x = frames.tokens + F.pad(role, (0, 0, 0, rows * columns)).to(frames.tokens.dtype)
        if priors is not None and self.motion is not None:
            x = x + self.embed_priors(priors, N, rows, columns).to(x.dtype)
        for kind, block in zip(self.config.decoder, self.decoder):
            if kind == "a":
                x = block(x.reshape(N // views, views * count, D), rotary.repeat(1, views, 1)).reshape(N, count, D)
            else:
                x = block(x, rotary)
        x = self.norm(x)
        cameras = self.camera_head(x[:, 0].unflatten(0, (-1, views)))
        patches = torch.cat([frames.tokens, x], dim=-1)[:, 1 + self.config.registers:].unflatten(1, (rows, columns))
        *dense, x_8, x_4 = self.dense_head(patches, frames.stride_8, frames.stride_4)
        output = NetworkOutput(cameras, *(field.unflatten(0, (-1, views)) for field in dense))
        if self.match_head is not None:
            output.descriptors = self.match_head(patches, x_8, x_4).unflatten(0, (-1, views))
            output.unmatched = self.match_head.unmatched.float()
        if self.motion_head is not None:
            output.moving = self.motion_head(patches[..., self.config.width:], x_4).unflatten(0, (-1, views))
        return output

    def embed_priors(self, priors: Priors, N: int, rows: int, columns: int) -> Tensor:
        """(N, 1 + registers + P, D), zeros where nothing is known: motion for the camera's token, depth for patches."""
        camera = self.role.new_zeros(N, 1, self.config.width)
        patches = self.role.new_zeros(N, rows * columns, self.config.width)
        if priors.motion is not None:
            T, known = priors.motion.flatten(0, 1), priors.motion_known.flatten(0, 1)[:, None]
            turn = (T[:, :3, :2] - torch.eye(3, 2, device=T.device)).flatten(1)
            values = torch.cat([T[:, :3, 3], turn, torch.ones_like(T[:, :1, 0])], dim=1)
            camera = self.motion(values.masked_fill(~known, 0.0))[:, None]
        if priors.depth is not None:
            depth = priors.depth.flatten(0, 1).flatten(1)
            known = depth > 0
            values = torch.stack([depth.masked_fill(~known, 1.0).log(), known.to(depth.dtype)], dim=-1)
            patches = self.sparse_depth(values)
        return torch.cat([camera, camera.new_zeros(N, self.config.registers, camera.shape[2]), patches], dim=1)

    def rotary(self, rows: int, columns: int, device) -> Tensor:
        c = self.config
        return rotary_angles(rows, columns, c.width // c.heads, 1 + c.registers, device)


def noise(*shape: int) -> Tensor:
    """Initial values of standard deviation .02; none for a network that is asked for its shapes alone (torch's "meta").

    There torch draws normal numbers in Python, by functions that import its compiler and SymPy: 70 MB and a second at
    the start of each process that loads weights.
    """
    empty = torch.empty(shape)
    return empty if empty.is_meta else empty.normal_(std=0.02)


def token_rays(K: Tensor, K_known: Tensor, rows: int, columns: int) -> Tensor:
    """(N, 3, 3), (N,) -> (N, P, 4): direction x/z, y/z of each patch's centre, log focal / width, and 1.

    Zeros where K is not known.
    """
    v, u = torch.meshgrid(torch.arange(rows, device=K.device), torch.arange(columns, device=K.device), indexing="ij")
    u, v = (PATCH * (grid.reshape(1, -1) + 0.5) for grid in (u, v))
    fx, fy, cx, cy = (K[:, i, j, None] for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))
    log_focal = torch.log(fx / (PATCH * columns)).expand(-1, rows * columns)
    rays = torch.stack([(u - cx) / fx, (v - cy) / fy, log_focal, torch.ones_like(log_focal)], dim=-1)
    return torch.where(K_known[:, None, None], rays, torch.zeros_like(rays))


def normalised(images: Tensor) -> Tensor:
    """Images in 0..1 as the stem takes them."""
    return (images - 0.45) / 0.25


def leave_one_out(first: Tensor, second: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Two maps (N, D, h, w); of a share of the N one of them, either as likely, becomes the mean of all its tokens.

    So each of the two learns to do without the other, and an image that is strange to one of them is not lost.
    """
    lot = torch.rand(len(first), 1, 1, 1, device=first.device) / share
    return (torch.where(lot < 0.5, first.mean(dim=(0, 2, 3), keepdim=True), first),
            torch.where((lot >= 0.5) & (lot < 1.0), second.mean(dim=(0, 2, 3), keepdim=True), second))


def upsample(x: Tensor, rows: int, columns: int) -> Tensor:
    """Doubles a map of stride 32; an odd number of patches leaves a row or column over, which is cut off."""
    return F.interpolate(x, scale_factor=2, mode="nearest")[..., :rows, :columns]
