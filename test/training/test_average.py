"""The mean of two weights files."""
from dataclasses import replace

import pytest
import torch

from lsm_ros.errors import WeightsError
from lsm_ros.model.network import Network, NetworkConfig, normalised
from lsm_ros.model.weights import load_network, save_weights
from lsm_ros.training.average import average, main, quieten

SMALL = NetworkConfig(width=48, heads=2, encoder=1, decoder="a", stem=16)


def write(path, seed: int, config: NetworkConfig = SMALL):
    torch.manual_seed(seed)
    network = Network(config)
    save_weights(path, network, network.state_dict(), {"steps": seed, "scoreboard": [seed], "scoreboard_worlds": {}})
    return path


def test_the_mean_lies_between_and_says_what_it_is_made_of(tmp_path):
    files = [write(tmp_path / f"{seed}.safetensors", seed) for seed in (1, 2)]
    mean = tmp_path / "mean.safetensors"
    main([*map(str, files), str(mean), "--share", "0.25"])
    one, other, between = (load_network(path)[0].state_dict() for path in (*files, mean))
    for name, value in between.items():
        expected = 0.75 * one[name] + 0.25 * other[name]
        assert (value - expected).abs().max() <= 0.01 * expected.abs().max() + 1e-3, name      # of 8 bits
    card = load_network(mean)[1]
    assert card == {"steps": 2, "mean_with": {"steps": 1}, "share": 0.25}


def test_a_part_that_came_with_the_training_is_that_of_the_later_weights(tmp_path):
    before = write(tmp_path / "before.safetensors", 1, replace(SMALL, moving=False))
    after = write(tmp_path / "after.safetensors", 2)
    average(before, after, tmp_path / "mean.safetensors")
    later, mean = (load_network(path)[0] for path in (after, tmp_path / "mean.safetensors"))
    assert mean.config == SMALL
    for one, other in zip(mean.motion_head.parameters(), later.motion_head.parameters(), strict=True):
        assert (one - other).abs().max() <= 0.01 * other.abs().max() + 1e-3       # of 8 bits, twice
    assert not torch.allclose(mean.special, later.special, atol=1e-2)
    with pytest.raises(WeightsError, match="two kinds"):
        average(after, before, tmp_path / "shrunk.safetensors")


def test_pixels_may_tell_less_and_then_all_images_look_more_alike(tmp_path):
    torch.manual_seed(0)
    network, images = Network(SMALL).eval(), torch.rand(6, 3, 32, 48)
    with torch.no_grad():
        before = network.patches(network.stem(normalised(images)))
        quieten(network, images, 0.25)
        after = network.patches(network.stem(normalised(images)))
    mean = before.mean(dim=(0, 2, 3), keepdim=True)
    torch.testing.assert_close(after, mean + 0.25 * (before - mean))


def test_the_program_makes_pixels_tell_less(tmp_path, capsys, monkeypatch):
    one, mean = write(tmp_path / "one.safetensors", 1), tmp_path / "mean.safetensors"
    monkeypatch.setattr("lsm_ros.training.average.WORLDS", range(2))
    main([str(one), str(one), str(mean), "--pixels", "0.5"])
    (before, _), (after, card) = load_network(one), load_network(mean)
    assert card["pixels"] == 0.5 and not torch.equal(before.patches.bias, after.patches.bias)
    torch.testing.assert_close(after.patches.weight, before.patches.weight / 2, rtol=0.05, atol=1e-3)     # of 8 bits
    with pytest.raises(SystemExit, match="2"):
        main([str(one), str(one), str(mean), "--pixels", "1.5"])
    assert "pixels = 1.5; it must lie in 0..1" in capsys.readouterr().err


def test_what_has_no_mean_is_refused(tmp_path):
    one = write(tmp_path / "one.safetensors", 1)
    wide = write(tmp_path / "wide.safetensors", 1, NetworkConfig(width=96, heads=2, encoder=1, decoder="a", stem=16))
    with pytest.raises(WeightsError, match="two kinds.*width=48.*width=96"):
        average(one, wide, tmp_path / "mean.safetensors")
    with pytest.raises(ValueError, match="share = 1.5"):
        average(one, one, tmp_path / "mean.safetensors", 1.5)
    assert not (tmp_path / "mean.safetensors").exists()


def test_the_program_says_in_a_line_what_it_refuses(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main([str(tmp_path / "none.safetensors")] * 3)
    assert capsys.readouterr().err.rstrip().endswith(f"no weights file at {tmp_path / 'none.safetensors'}")


def test_a_mean_that_cannot_be_written_is_an_error_of_the_command(tmp_path, capsys):
    file = str(write(tmp_path / "1.safetensors", 1))
    with pytest.raises(SystemExit):
        main([file, file, str(tmp_path / "nowhere" / "mean.safetensors")])
    assert "nowhere/mean.safetensors" in capsys.readouterr().err
