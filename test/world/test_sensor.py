"""The camera's part: exposure, colour, blur, noise and JPEG against numbers known beforehand."""
from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from lsm_ros.world.sensor import LUMINANCE, Look, blur, develop, jpeg, luminance, sharpen

SIZE = (48, 64)


def plain_look(windows: int = 1, views: int = 2) -> Look:
    """A camera that exposes to 0.25 and does nothing else but take the square root."""
    def full(value, *shape):
        return np.full((windows, *shape), value, np.float32)
    return Look(key=full(0.25, 1), drift=full(1, views), balance=full(1, views, 3), vignette=full(0),
                defocus=full(0, views), motion=full(0, views, 2), shot=full(0), read=full(0), shoulder=full(1e6),
                gamma=full(0.5, views), contrast=full(0), saturation=full(1), quality=full(0), sharpening=full(0),
                metering=full(0), whitening=full(0), veil=full(0), veiled=full(0))


def smooth_pictures(windows: int, views: int, size=SIZE) -> torch.Tensor:
    coarse = torch.rand(windows * views, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(coarse, size, mode="bilinear").view(windows, views, 3, *size)


def test_exposure_brings_any_light_to_the_key():
    radiance = torch.full((2, 2, 3, *SIZE), 3.0)
    radiance[1] = 0.02
    image = develop(radiance, plain_look(2))
    assert torch.allclose(image, torch.full_like(image, 128 / 255))      # sqrt(0.25) is 127.5 levels


def test_drift_and_balance_scale_views_and_channels():
    look = replace(plain_look(), drift=np.array([[1, 0.25]], np.float32),
                   balance=np.array([[[1, 0.64, 1]]], np.float32))
    image = develop(torch.ones(1, 2, 3, *SIZE), look)[0, :, :, 0, 0]
    assert image.mul(255).round().tolist() == [[128, 102, 128], [64, 51, 64]]


def test_a_camera_that_meters_each_view_gives_them_one_tone_and_white_balance_takes_their_casts():
    light = torch.ones(1, 2, 3, *SIZE) * torch.tensor([[[1, 1, 1], [0.36, 0.16, 0.04]]])[..., None, None]
    cameras = {name: replace(plain_look(), **{part: np.ones(1, np.float32) for part in name.split()})
               for name in ("metering", "whitening", "metering whitening")}
    views = {name: develop(light, look)[0, :, :, 0, 0] for name, look in cameras.items()}
    plain = develop(light, plain_look())[0, :, :, 0, 0]
    tone = torch.tensor(LUMINANCE)
    bright = {name: (colour.square().clamp_min(1e-4).log() @ tone) for name, colour in views.items() | {("", plain)}}
    assert bright[""].diff().abs() > 1.5
    assert bright["metering"].diff().abs() < 0.05 and bright["whitening"].diff() == pytest.approx(
        bright[""].diff(), abs=0.05)
    ratio = {name: (colour[:, 2] / colour[:, 0]).log() for name, colour in views.items() | {("", plain)}}
    assert ratio["metering"].diff() == pytest.approx(ratio[""].diff(), abs=0.05) and ratio[""].diff().abs() > 1
    assert ratio["whitening"].diff().abs() < 0.05 and ratio["metering whitening"].diff().abs() < 0.05
    half = develop(light, replace(plain_look(), metering=np.full(1, 0.5, np.float32)))[0, :, :, 0, 0]
    assert (half.square().log() @ tone).diff() == pytest.approx(bright[""].diff() / 2, abs=0.05)


def test_automatic_cameras_are_a_share_of_all_and_the_others_stay_as_they_are():
    plain = Look.random(np.random.default_rng(0), 400, 4)
    some, none = (plain.automatic(np.random.default_rng(1), share) for share in (0.5, 0.0))
    for name in Look.__dataclass_fields__:
        assert np.array_equal(getattr(none, name), getattr(plain, name)) and getattr(some, name).dtype == np.float32
        assert getattr(some, name).shape == getattr(plain, name).shape
    changed = some.metering > 0
    assert 0.4 < changed.mean() < 0.6
    assert np.array_equal(changed, some.whitening > 0)
    assert np.array_equal(changed, (some.gamma != plain.gamma).any(axis=1))
    assert np.array_equal(changed, (some.balance != plain.balance).any(axis=(1, 2)))
    assert np.array_equal(some.drift[~changed], plain.drift[~changed])
    spread = np.log(some.gamma[changed]).std(axis=1)
    assert 0.1 < spread.mean() < 0.25 and np.log(plain.gamma).std(axis=1).max() < 1e-6


def test_flat_cameras_are_a_share_of_all_and_the_others_stay_as_they_are():
    plain = Look.random(np.random.default_rng(0), 400, 4)
    some, none = (plain.flat(np.random.default_rng(1), share) for share in (0.5, 0.0))
    assert not none.veil.any() and np.array_equal(none.saturation, plain.saturation)
    chosen, grey = some.veil > 0, some.saturation < plain.saturation
    assert 0.4 < chosen.mean() < 0.6 and 0.2 < grey[chosen].mean() < 0.4 and not grey[~chosen].any()
    assert not some.saturation[grey].any() and some.veil.max() < 0.5
    for name in set(Look.__dataclass_fields__) - {"veil", "veiled", "saturation"}:
        assert np.array_equal(getattr(some, name), getattr(plain, name)) and getattr(some, name).dtype == np.float32


def test_a_veil_brings_all_tones_nearer_to_its_own():
    pictures = smooth_pictures(2, 2)
    look = replace(plain_look(2), veil=np.array([0.25, 0.25], np.float32), veiled=np.array([0, 1], np.float32))
    clear, veiled = develop(pictures, plain_look(2)), develop(pictures, look)
    assert torch.allclose(veiled[0], 0.75 * clear[0], atol=0.004)
    assert torch.allclose(veiled[1], 0.25 + 0.75 * clear[1], atol=0.004)


def test_levels_range_and_saturation():
    look = replace(Look.random(np.random.default_rng(0), 6, 3), saturation=np.zeros(6, np.float32),
                   quality=np.zeros(6, np.float32))
    image = develop(smooth_pictures(6, 3), look, torch.Generator().manual_seed(1))
    assert image.shape == (6, 3, 3, *SIZE) and 0 <= image.min() and image.max() <= 1
    assert torch.equal((image * 255).round() / 255, image)
    assert torch.equal(image[:, :, 0], image[:, :, 1]) and torch.equal(image[:, :, 0], image[:, :, 2])


def test_vignette_darkens_the_corners_alone():
    image = develop(torch.ones(1, 2, 3, *SIZE), replace(plain_look(), vignette=np.array([0.5], np.float32)))[0, 0, 0]
    assert image[24, 32] == pytest.approx(0.5, abs=0.01)
    assert image[0, 0] == pytest.approx((0.25 * 0.5) ** 0.5, abs=0.02)


def test_noise_has_the_variance_that_the_look_says():
    look = replace(plain_look(), shot=np.array([0.004], np.float32), read=np.array([0.02], np.float32),
                   gamma=np.ones((1, 2), np.float32))
    image = develop(torch.ones(1, 2, 3, 128, 128), look, torch.Generator().manual_seed(3))
    assert image.var().item() == pytest.approx(0.004 * 0.25 + 0.02 ** 2, rel=0.05)
    assert image.mean().item() == pytest.approx(0.25, abs=0.002)


def test_blur_keeps_light_and_spreads_along_the_motion():
    light = torch.zeros(2, 1, 3, 9, 9)
    light[:, :, :, 4, 4] = 1
    look = replace(plain_look(2, 1), defocus=np.array([[0.5], [0]], np.float32),
                   motion=np.array([[[3, 0]], [[3, 0]]], np.float32))
    spread = blur(light, look)
    assert torch.allclose(spread.sum(dim=(3, 4)), torch.ones(2, 1, 3))
    assert torch.equal(spread[1], light[1])                              # that window's look is sharp
    assert spread[0, 0, 0, 4, 5] > 5 * spread[0, 0, 0, 5, 4]
    assert torch.allclose(spread[0], spread[0].flip(-1), atol=1e-6)


def test_sharpening_makes_halos_along_edges_and_leaves_flat_parts_and_colour_alone():
    image = torch.full((2, 1, 3, 8, 12), 100 / 255)
    image[..., 6:] = 150 / 255
    image[:, :, 2] *= 0.5
    sharp = sharpen(image, np.array([1.0, 0], np.float32))
    assert torch.equal(sharp[1], image[1])
    assert torch.equal(sharp[0, ..., :5], image[0, ..., :5]) and torch.equal(sharp[0, ..., 7:], image[0, ..., 7:])
    edge = 50 / 4 * (1 - LUMINANCE[2] / 2)                 # the step beside it weighs a quarter
    for side, sign in ((5, -1), (6, 1)):
        change = (sharp - image)[0, 0, :, :, side] * 255
        assert torch.allclose(change, torch.full_like(change, sign * edge), atol=1.01)   # rounded twice


@pytest.mark.parametrize("quality", [30, 60, 90])
def test_jpeg_loses_as_much_as_a_real_encoder(quality):
    image = (smooth_pictures(1, 1) + 0.1 * torch.randn(1, 1, 3, *SIZE, generator=torch.Generator().manual_seed(2)))
    image = (image.clamp(0, 1) * 255).round() / 255
    array, buffer = (image[0, 0].permute(1, 2, 0) * 255).byte().numpy(), io.BytesIO()
    Image.fromarray(array).save(buffer, "JPEG", quality=quality, subsampling=0)
    real = np.asarray(Image.open(buffer), np.float32) / 255
    ours = jpeg(image, np.array([quality], np.float32))[0, 0].permute(1, 2, 0).numpy()
    original = array / 255
    assert np.abs(ours - original).mean() == pytest.approx(np.abs(real - original).mean(), rel=0.05)
    assert np.abs(ours - real).mean() < 0.4 * np.abs(real - original).mean()     # and the same things


def test_jpeg_takes_sizes_that_are_no_multiple_of_eight():
    image = smooth_pictures(2, 2, (45, 61))
    treated = jpeg(image, np.array([0, 95], np.float32))
    assert torch.equal(treated[0], image[0]) and not torch.equal(treated[1], image[1])
    assert (treated - image).abs().max() < 0.05


def test_looks_are_repeatable_and_joined():
    a, b = (Look.random(np.random.default_rng(seed), 1, 4) for seed in (1, 2))
    both, again = Look.joined([a, b]), Look.random(np.random.default_rng(1), 1, 4)
    assert len(both) == 2 and np.array_equal(both.motion[:1], again.motion) and np.array_equal(both.key[1:], b.key)
    assert all(getattr(again, name).dtype == np.float32 for name in Look.__dataclass_fields__)


def test_luminance_of_white_is_one():
    assert torch.allclose(luminance(torch.ones(1, 1, 3, 2, 2)), torch.ones(1, 1, 2, 2))
