"""From linear light to a camera's picture: exposure, colour, lens, noise, tone curve, sharpening, JPEG, 8 bits.

A `Look` says how the camera of each window behaves; it is drawn on the CPU, so it is the same on every device.
`develop` applies it to whole batches without a loop over samples.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lsm_ros.world.renderer import staged

BLUR_SHARE, SHARPENED_SHARE, JPEG_SHARE = 0.5, 0.5, 0.4     # of the windows
AUTO_GAIN, AUTO_GAMMA, AUTO_CAST = 0.6, 0.3, 0.2      # of automatic cameras: deviation of the logarithms from view to
                                      # view, at most; some .6 of it is what a HoloLens does
FLAT, GREY_SHARE = 0.5, 0.3           # of cameras that print otherwise: the thickest veil, and how many see no colour
BLUR_TAPS = 5                         # width of the blur kernel, pixels
LUMINANCE = (0.299, 0.587, 0.114)     # ITU-R BT.601

JPEG_LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61), (12, 12, 14, 19, 26, 58, 60, 55), (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62), (18, 22, 37, 56, 68, 109, 103, 77), (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101), (72, 92, 95, 98, 112, 100, 103, 99))
JPEG_CHROMINANCE = (
    (17, 18, 24, 47, 99, 99, 99, 99), (18, 21, 26, 66, 99, 99, 99, 99), (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99)) + 4 * ((99,) * 8,)
"""Quantisation steps at quality 50 (ITU-T T.81, tables K.1 and K.2)."""


@dataclass(frozen=True)
class Look:
    """How the cameras of B windows turn light into numbers. Float32; B first, then V where views differ."""
    key: np.ndarray           # (B, 1) linear value to which the window's mean tone is exposed
    drift: np.ndarray         # (B, V) factor of one view's exposure over its window's
    balance: np.ndarray       # (B, V, 3) gains of red, green, blue
    vignette: np.ndarray      # (B,) share of the light that is lost in the corners
    defocus: np.ndarray       # (B, V) standard deviation of the blur, pixels; 0 where the picture is left sharp
    motion: np.ndarray        # (B, V, 2) path of a point while the shutter is open, pixels
    shot: np.ndarray          # (B,) variance of the noise per unit of light
    read: np.ndarray          # (B,) standard deviation of the noise in the dark
    shoulder: np.ndarray      # (B,) how early highlights are compressed: x (1 + s) / (x + s)
    gamma: np.ndarray         # (B, V) exponent of the tone curve, about 1 / 2.2
    contrast: np.ndarray      # (B,) share of an S curve
    saturation: np.ndarray    # (B,) 0 grey, 1 as it is
    quality: np.ndarray       # (B,) JPEG quality 1..100; 0 for none
    sharpening: np.ndarray    # (B,) how much of the picture's fine detail is added to it once more
    metering: np.ndarray      # (B,) 0: one exposure for the window, 1: each view is exposed to its own mean tone
    whitening: np.ndarray     # (B,) share of each view's own cast that white balance takes away, as it differs from the
                              # window's
    veil: np.ndarray          # (B,) share of all tones that stray light has taken the place of
    veiled: np.ndarray        # (B,) tone of that light, 0..1

    def __len__(self) -> int:
        return len(self.key)

    @classmethod
    def random(cls, rng: np.random.Generator, windows: int, views: int) -> Look:
        """Cameras as different as those of robots, phones and headsets; `automatic` lets some of them follow what they
        see."""
        def uniform(low, high, *shape):
            return rng.uniform(low, high, (windows, *shape))

        def chance(share):
            return rng.random(windows) < share
        unsteady = np.where(chance(0.25), 0.25, 0.04)[:, None]
        blurred = chance(BLUR_SHARE)[:, None]
        swept = np.where(chance(0.5), uniform(0, 1.5), 0)[:, None]
        direction = uniform(0, np.pi)[:, None] + rng.normal(0, 0.4, (windows, views))
        length = swept * np.abs(rng.normal(0, 1, (windows, views)))
        noisy = np.exp(uniform(np.log(0.03), np.log(1.0)))
        values = cls(
            key=np.exp(uniform(np.log(0.04), np.log(0.28), 1)),
            drift=np.exp(unsteady * rng.normal(0, 1, (windows, views))),
            balance=np.exp(rng.normal(0, 0.09, (windows, 1, 3))).repeat(views, axis=1),
            vignette=uniform(0, 0.45) * chance(0.6),
            defocus=np.where(blurred, uniform(0.3, 1.1, 1) * uniform(0.8, 1.2, views), 0),
            motion=np.where(blurred, length, 0)[..., None] * np.stack([np.cos(direction), np.sin(direction)], axis=-1),
            shot=0.0015 * noisy, read=0.012 * noisy * uniform(0.2, 1), shoulder=np.exp(uniform(np.log(0.5), np.log(8))),
            gamma=(1 / uniform(1.8, 2.5))[:, None].repeat(views, axis=1), contrast=uniform(-0.2, 1.0),
            saturation=uniform(0.4, 1.6) * ~chance(0.03),
            quality=np.where(chance(JPEG_SHARE), uniform(25, 95), 0),
            sharpening=np.where(chance(SHARPENED_SHARE), np.exp(uniform(np.log(0.3), np.log(2.5))), 0),
            metering=np.zeros(windows), whitening=np.zeros(windows), veil=np.zeros(windows),
            veiled=np.zeros(windows))
        return values._single()

    def automatic(self, rng: np.random.Generator, share: float) -> Look:
        """The same, but a share of the cameras sets exposure, white balance and tone curve anew for each view."""
        shape = self.drift.shape
        free = rng.random(len(self)) < share
        reach = (free * rng.uniform(0.2, 1, len(self)))[:, None]
        changed = replace(self, metering=free * rng.uniform(0, 1, len(self)),
                          whitening=free * rng.uniform(0, 1, len(self)),
                          drift=self.drift * np.exp(reach * rng.normal(0, AUTO_GAIN, shape)),
                          gamma=self.gamma * np.exp(reach * rng.normal(0, AUTO_GAMMA, shape)),
                          balance=self.balance * np.exp(reach[..., None] * rng.normal(0, AUTO_CAST, (*shape, 3))))
        return changed._single()

    def flat(self, rng: np.random.Generator, share: float) -> Look:
        """The same, but a share of the cameras shows little contrast, as through haze, a dirty lens or a screen, or
        with blacks that are none; and some of these see no colour, as infrared ones."""
        chosen = rng.random(len(self)) < share
        grey = chosen & (rng.random(len(self)) < GREY_SHARE)
        changed = replace(self, veil=chosen * rng.uniform(0, FLAT, len(self)), veiled=rng.uniform(0, 1, len(self)),
                          saturation=self.saturation * ~grey)
        return changed._single()

    def _single(self) -> Look:
        return Look(*(getattr(self, field.name).astype(np.float32) for field in fields(Look)))

    @classmethod
    def joined(cls, looks: Sequence[Look]) -> Look:
        return cls(*(np.concatenate([getattr(look, field.name) for look in looks]) for field in fields(cls)))


def develop(radiance: Tensor, look: Look, generator: torch.Generator | None = None) -> Tensor:
    """(B, V, 3, H, W) linear light -> pictures in 0..1 with 256 levels, on the same device.

    `generator` belongs to the device and makes the pixel noise.
    """
    device = radiance.device
    gain = _on(device, look.key * look.drift) / mean_tone(radiance)[:, None]
    gain = gain[:, :, None] * _on(device, look.balance)
    if look.metering.any() or look.whitening.any():
        gain = gain * automatic_gain(radiance, _on(device, look.metering), _on(device, look.whitening))
    light = _fused(_expose, device)(radiance, gain, _on(device, look.vignette))
    light = blur(light, look)
    noise = torch.randn(light.shape, generator=generator, device=device)
    tones = np.stack([np.broadcast_to(tone.reshape(len(tone), -1), look.gamma.shape) for tone in
                      (look.shot, look.read, look.shoulder, look.gamma, look.contrast, look.saturation, look.veil,
                       look.veiled)])
    image = _fused(_print, device)(light, noise, _on(device, tones))
    return jpeg(sharpen(image, look.sharpening), look.quality)


def sharpen(image: Tensor, amount: np.ndarray) -> Tensor:
    """Unsharp masking of the luminance by `amount` (B,), which phones and headsets do: halos along every edge."""
    if not amount.any():
        return image
    bright = luminance(image)
    smooth = F.pad(bright, (1, 1, 1, 1), mode="replicate")
    smooth = smooth[..., :-2] + 2 * smooth[..., 1:-1] + smooth[..., 2:]
    smooth = (smooth[..., :-2, :] + 2 * smooth[..., 1:-1, :] + smooth[..., 2:, :]) / 16
    detail = _on(image.device, amount)[:, None, None, None] * (bright - smooth)
    return ((image + detail[:, :, None]).clamp(0, 1) * 255).round() / 255


def mean_tone(radiance: Tensor) -> Tensor:
    """(B,) geometric mean of a window's luminance, from every fourth pixel: lamps in view count little."""
    thin = radiance[..., 1::4, 1::4]
    return luminance(thin).clamp_min(1e-4).log().mean(dim=(1, 2, 3)).exp()


def automatic_gain(radiance: Tensor, metering: Tensor, whitening: Tensor) -> Tensor:
    """(B, V, 3) what a camera that meters and whitens each view by itself multiplies its channels by, over one that
    does so for the window; `metering` and `whitening` (B,) are the shares of that which it does."""
    color = radiance[..., 1::4, 1::4].clamp_min(1e-4).log().mean(dim=(3, 4), keepdim=True)   # (B, V, 3, 1, 1)
    tone = luminance(color).unsqueeze(2)                                                     # (B, V, 1, 1, 1)
    cast = color - tone
    tone, cast = (each - each.mean(dim=1, keepdim=True) for each in (tone, cast))            # against the window's
    return (-metering[:, None, None] * tone[..., 0, 0] - whitening[:, None, None] * cast[..., 0, 0]).exp()


def luminance(image: Tensor) -> Tensor:
    """(B, V, 3, H, W) -> (B, V, H, W)."""
    r, g, b = image.unbind(dim=2)
    return LUMINANCE[0] * r + LUMINANCE[1] * g + LUMINANCE[2] * b


def blur(light: Tensor, look: Look) -> Tensor:
    """Defocus and the camera's motion: a Gaussian drawn along a short line, for the windows whose look asks for it."""
    chosen = np.flatnonzero(look.defocus.max(axis=1) > 0)
    if len(chosen) == 0:
        return light
    device = light.device
    index = _on(device, chosen)
    sigma, motion = _on(device, look.defocus[chosen].reshape(-1, 1, 1)), _on(device, look.motion[chosen].reshape(-1, 2))
    taps = torch.arange(BLUR_TAPS, device=device) - BLUR_TAPS // 2
    place = torch.stack(torch.meshgrid(taps, taps, indexing="xy"), dim=-1).float()            # (5, 5, 2) x, y
    length2 = motion.square().sum(-1)[:, None, None].clamp_min(1e-6)
    along = torch.einsum("ijk,nk->nij", place, motion) / length2
    nearest = along.clamp(-0.5, 0.5)[..., None] * motion[:, None, None]
    kernel = torch.exp(-(place - nearest).square().sum(-1) / (2 * sigma.square().clamp_min(0.04)))
    kernel = (kernel / kernel.sum(dim=(1, 2), keepdim=True)).repeat_interleave(3, dim=0)[:, None]
    part = light[index]
    padded = F.pad(part.flatten(0, 1), (BLUR_TAPS // 2,) * 4, mode="replicate").flatten(0, 1)[None]
    return light.index_copy(0, index, F.conv2d(padded, kernel, groups=len(kernel)).view_as(part))


def jpeg(image: Tensor, quality: np.ndarray) -> Tensor:
    """What JPEG at each window's quality (B,) leaves of it, at full colour resolution; 0 leaves it alone."""
    chosen = np.flatnonzero(quality > 0)
    if len(chosen) == 0:
        return image
    device = image.device
    q = np.clip(quality[chosen], 1, 100)
    scale = np.where(q < 50, 50 / q, 2 - q / 50).astype(np.float32)     # the usual reading of "quality" (libjpeg)
    index, scale = _on(device, chosen), _on(device, scale)
    part = image[index]
    H, W = part.shape[-2:]
    pixels = part.flatten(0, 1)
    if H % 8 or W % 8:
        pixels = F.pad(pixels, (0, -W % 8, 0, -H % 8), mode="replicate")
    to_ycc, from_ycc, dct, steps = _jpeg_tables(device)
    steps = (steps * scale[:, None, None]).round().clamp(1, 255).repeat_interleave(part.shape[1], dim=0)
    blocks = F.conv2d(pixels * 255, to_ycc).unflatten(3, (-1, 8)).unflatten(2, (-1, 8)).transpose(3, 4)
    down, across = blocks.shape[2:4]
    frequencies = blocks.reshape(len(pixels), 3, -1, 64) @ dct.T
    blocks = _fused(_quantise, device)(frequencies, steps[:, :, None]) @ dct
    planes = blocks.unflatten(3, (8, 8)).unflatten(2, (down, across)).transpose(3, 4).flatten(4, 5).flatten(2, 3)
    treated = F.conv2d(planes, from_ycc).round().clamp(0, 255)[..., :H, :W] / 255
    return image.index_copy(0, index, treated.view_as(part))


@cache
def _jpeg_tables(device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """RGB -> YCbCr and back as 1x1 convolutions (ITU-T T.871, no offsets), a block's DCT (64, 64), steps (3, 64)."""
    r, g, b = LUMINANCE
    to_ycc = np.array([[r, g, b], [-r / (2 - 2 * b), -g / (2 - 2 * b), 0.5], [0.5, -g / (2 - 2 * r), -b / (2 - 2 * r)]])
    k, n = np.mgrid[:8, :8]
    dct = np.cos(np.pi * (2 * n + 1) * k / 16) * np.where(k == 0, np.sqrt(1 / 8), 0.5)
    steps = np.array([JPEG_LUMINANCE, JPEG_CHROMINANCE, JPEG_CHROMINANCE]).reshape(3, 64)
    return tuple(torch.tensor(table, dtype=torch.float32, device=device) for table in
                 (to_ycc[:, :, None, None], np.linalg.inv(to_ycc)[:, :, None, None], np.kron(dct, dct), steps))


def _quantise(value: Tensor, step: Tensor) -> Tensor:
    return (value / step).round() * step


def _expose(radiance: Tensor, gain: Tensor, vignette: Tensor) -> Tensor:
    """gain (B, V, 3), vignette (B,)."""
    H, W = radiance.shape[-2:]
    y = (torch.arange(H, device=radiance.device) + 0.5) / H * 2 - 1
    x = (torch.arange(W, device=radiance.device) + 0.5) / W * 2 - 1
    corner = 0.5 * (x.square()[None, :] + y.square()[:, None])
    return radiance * gain[..., None, None] * (1 - vignette[:, None, None, None, None] * corner.square())


def _print(light: Tensor, noise: Tensor, tones: Tensor) -> Tensor:
    """Noise, tone curve, veil, saturation and 256 levels; tones are (8, B, V)."""
    shot, read, shoulder, gamma, contrast, saturation, veil, veiled = tones[..., None, None, None]
    light = (light + noise * (shot * light.clamp_min(0) + read.square()).sqrt()).clamp(0, 8)
    tone = (light * (1 + shoulder) / (light + shoulder)).clamp(0, 1) ** gamma
    tone = tone + contrast * (tone * tone * (3 - 2 * tone) - tone)
    tone = tone + veil * (veiled - tone)
    grey = luminance(tone).unsqueeze(2)
    return ((grey + saturation * (tone - grey)).clamp(0, 1) * 255).round() / 255


def _on(device: torch.device, array: np.ndarray) -> Tensor:
    return staged(array, device).to(device, non_blocking=True)


@cache
def _fused(function, device: torch.device):
    """One pass over memory instead of one an operation, where there is a GPU to fuse for."""
    return torch.compile(function, dynamic=True) if device.type == "cuda" else function
