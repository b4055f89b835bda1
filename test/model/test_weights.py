"""Weights survive the disk, and a bad file says what is wrong with it."""
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from lsm_ros.config import PredictorConfig
from lsm_ros.errors import WeightsError
from lsm_ros.model.engine import NetworkPredictor
from lsm_ros.model.network import Network, NetworkConfig
from lsm_ros.model.weights import (
    SHIPPED,
    checksum,
    dequantize,
    load_network,
    quantize,
    read_card,
    save_weights,
    update_card,
)

SMALL = NetworkConfig(width=48, heads=2, encoder=1, decoder="a", stem=16, embedding=8)


@pytest.fixture
def saved(tmp_path):
    network = Network(SMALL)
    save_weights(tmp_path / "small.safetensors", network, network.state_dict(), card={"steps": 3})
    return network, tmp_path / "small.safetensors"


@pytest.mark.parametrize("shape", [(7, 130), (5, 1, 3, 3), (4, 64)])
def test_eight_bits_are_close(shape):
    weight = torch.randn(shape)
    codes, scale = quantize(weight)
    assert codes.dtype == torch.int8
    error = (dequantize(codes, scale) - weight).abs().flatten(1)
    assert (error.amax(1) <= weight.abs().flatten(1).amax(1) / 127 * 0.51).all()


def test_round_trip(saved):
    network, path = saved
    loaded, card = load_network(path)
    assert card == {"steps": 3}
    assert loaded.config == SMALL
    for name, value in network.state_dict().items():
        assert (loaded.state_dict()[name] - value).abs().max() <= value.abs().max() / 127 * 0.51 + 1e-6, name


def test_others_may_read_what_is_written(saved):
    """A robot's user reads the weights that root has installed."""
    _, path = saved
    (path.parent / "any").touch()
    assert path.stat().st_mode == (path.parent / "any").stat().st_mode


def test_a_file_that_cannot_be_written_leaves_nothing(saved):
    network, path = saved
    (path.parent / "folder").mkdir()
    before = sorted(path.parent.rglob("*"))
    for out in (path.parent / "nowhere" / "x", path.parent / "folder"):
        with pytest.raises(OSError, match=out.name):
            save_weights(out, network, network.state_dict(), card={})
    assert sorted(path.parent.rglob("*")) == before


def test_missing_file(tmp_path):
    with pytest.raises(WeightsError, match="nowhere.safetensors"):
        load_network(tmp_path / "nowhere.safetensors")


def test_truncated_file(saved):
    _, path = saved
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(WeightsError, match="small.safetensors"):
        load_network(path)


def test_one_flipped_byte(saved):
    _, path = saved
    data = bytearray(path.read_bytes())
    data[-1000] ^= 1
    path.write_bytes(data)
    with pytest.raises(WeightsError, match="damaged"):
        load_network(path)


def test_foreign_file(tmp_path):
    path = tmp_path / "foreign.safetensors"
    save_file({"x": torch.zeros(3)}, path)
    with pytest.raises(WeightsError, match="format None"):
        load_network(path)
    path.write_bytes(b"\x80\x04pickle, perhaps")
    with pytest.raises(WeightsError, match="foreign"):
        load_network(path)


def test_weights_of_another_network(tmp_path):
    network = Network(SMALL)
    state = network.state_dict()
    del state["norm.weight"]
    save_weights(tmp_path / "other.safetensors", network, state, card={})
    with pytest.raises(WeightsError, match=r"norm\.weight"):
        load_network(tmp_path / "other.safetensors")


@pytest.mark.parametrize(("name", "other", "told"), [
    ("camera_head.mlp.0.weight.scale", lambda scale: scale[:1], r"scale is torch.float16 \(1, 1\), not .* \(48, 1\)"),
    ("camera_head.mlp.0.weight.scale", lambda scale: scale[:, 0], r"scale is torch.float16 \(48,\), not .* \(48, 1\)"),
    ("camera_head.mlp.0.weight.scale", lambda scale: scale.float(), "scale is torch.float32 "),
    ("camera_head.mlp.0.weight", lambda codes: codes[0, 0], "scale belongs to no matrix"),
    ("camera_head.mlp.0.weight", lambda codes: codes.half(), "weight is torch.float16, not torch.int8"),
    ("norm.weight", lambda vector: vector.bfloat16(), "norm.weight is torch.bfloat16, not torch.float16"),
])
def test_tensors_that_no_weights_file_holds(saved, name, other, told):
    """Their checksum is right: somebody else wrote the file. Scales of another shape would be spread over the codes."""
    _, path = saved
    with safe_open(path, framework="pt") as file:
        header, tensors = file.metadata(), load_file(path)
    tensors[name] = other(tensors[name]).clone()
    save_file(tensors, path, metadata=header | {"sha256": checksum(tensors)})
    with pytest.raises(WeightsError, match=f"small.safetensors .*{told}"):
        load_network(path)


@pytest.mark.parametrize(("config", "told"), [({"heads": 8}, "heads 8"), ({"embedding": 8}, "8 numbers")])
def test_a_network_that_could_read_no_window_is_refused_when_it_is_loaded(tmp_path, config, told):
    network = Network(NetworkConfig(width=48, encoder=1, decoder="a", stem=16, **{"heads": 2} | config))
    path = tmp_path / "other.safetensors"
    save_weights(path, network, network.state_dict(), card={})
    with pytest.raises(WeightsError, match=told):
        NetworkPredictor(PredictorConfig(device="cpu", weights=str(path)))


def test_a_network_grows_without_forgetting(tmp_path):
    """Parts that came later are found missing, and where they are let grow they say nothing at first."""
    network = Network(SMALL).eval()
    later = ("dense_head.correction.", "match_head.tokens.", "match_head.mix.")
    old = {name: value for name, value in network.state_dict().items() if not name.startswith(later)}
    save_weights(tmp_path / "old.safetensors", network, old, card={})
    with pytest.raises(WeightsError, match="lacks .*correction"):
        load_network(tmp_path / "old.safetensors")
    grown, _ = load_network(tmp_path / "old.safetensors", grow=True)
    inputs = torch.rand(1, 2, 3, 64, 96), torch.eye(3).expand(1, 2, 3, 3), torch.zeros(1, 2, dtype=torch.bool)
    with torch.no_grad():
        first = grown(*inputs)
        for part in (grown.dense_head.correction, grown.match_head.tokens):
            torch.nn.init.normal_(part[0].weight)                       # the last layer of each is still 0
        again = grown(*inputs)
    assert torch.equal(first.log_depth, again.log_depth)
    assert torch.equal(first.descriptors, again.descriptors)


@pytest.mark.skipif(not SHIPPED.exists(), reason="no shipped weights in this tree")
def test_shipped_weights():
    network, card = load_network()
    assert SHIPPED.stat().st_size < 32e6
    assert sum(parameter.numel() for parameter in network.parameters()) < 30e6
    assert card["steps"] > 0
    assert card["scoreboard"]
    assert all(value.dtype in (torch.int8, torch.float16) for value in load_file(SHIPPED).values())


def test_the_card_changes_and_the_tensors_do_not(saved):
    _, path = saved
    before, tensors = path.read_bytes(), load_file(path)
    update_card(path, {"scoreboard": [{"set": "Räume", "auc30": 0.5}]})
    assert read_card(path) == load_network(path)[1] == {"steps": 3, "scoreboard": [{"set": "Räume", "auc30": 0.5}]}
    data = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    assert path.read_bytes()[-data:] == before[-data:] and len(path.read_bytes()) % 8 == len(before) % 8
    update_card(path, {"scoreboard": []})
    assert read_card(path) == {"steps": 3, "scoreboard": []}
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("content", [b"", b"text, not weights", (2**60).to_bytes(8, "little") + b"{}"])
def test_card_of_something_else(tmp_path, content):
    (tmp_path / "other.safetensors").write_bytes(content)
    for card in (read_card, lambda path: update_card(path, {})):
        with pytest.raises(WeightsError, match="other.safetensors"):
            card(tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match="nowhere"):
        read_card(tmp_path / "nowhere")
