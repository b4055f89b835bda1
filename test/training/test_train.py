"""The loop: it learns, it goes on where it stopped, and its windows are the ones it says."""
import json
import random
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from lsm_ros.errors import ConfigError, InputError, OutputError, WeightsError
from lsm_ros.labels import LabelSet, embed
from lsm_ros.model.network import Network, NetworkConfig
from lsm_ros.model.weights import read_card, save_weights, update_card
from lsm_ros.training import train as training
from lsm_ros.training.train import LabelText, TrainingConfig, learning_rate, split_windows, train
from lsm_ros.world.stream import ViewBatch


class FixedWorlds:
    """A stream whose n-th batch is always the same; `seen` counts on where an interrupted leg stopped."""
    seen = 0

    def __init__(self, batch, views, device, **_):
        self.batch, self.views, self.device = batch, views, device

    def next(self, size):
        FixedWorlds.seen += 1
        random = torch.Generator().manual_seed(FixedWorlds.seen)
        B, V, (H, W) = self.batch, self.views, size
        T = torch.eye(4).repeat(B, V, 1, 1)
        T[:, :, 0, 3] = torch.arange(V) * 0.2
        K = torch.tensor([[0.8 * W, 0, W / 2], [0, 0.8 * W, H / 2], [0, 0, 1.0]]).expand(B, V, 3, 3)
        return ViewBatch(image=torch.rand(B, V, 3, H, W, generator=random),
                         depth=1 + torch.rand(B, V, H, W, generator=random),
                         label=torch.randint(0, 40, (B, V, H, W), generator=random, dtype=torch.uint8),
                         instance=torch.zeros(B, V, H, W, dtype=torch.int16), K=K, T_world_cam=T,
                         valid=torch.ones(B, dtype=torch.bool))

    def close(self):
        pass


@pytest.fixture(autouse=True)
def small(monkeypatch):
    FixedWorlds.seen = 0
    monkeypatch.setattr(training, "Network", lambda: Network(NetworkConfig(width=48, heads=2, encoder=1, decoder="af",
                                                                           stem=16)))
    monkeypatch.setattr(training, "score", lambda weights, config: {"scored": True})


def config(folder, **values):
    return TrainingConfig(**{"out": str(folder), "paths": 1, "height": 32, "width": 32, "warmup": 2, "log_every": 1,
                             "save_every": 0.0, "steps": 6, **values})


def test_a_leg_that_was_cut_equals_one_that_was_not(tmp_path):
    train(config(tmp_path / "whole", steps=4), FixedWorlds)
    whole = torch.load(tmp_path / "whole" / "checkpoint.pt", weights_only=True)

    FixedWorlds.seen = 0

    class Cut(FixedWorlds):
        def next(self, size):
            if FixedWorlds.seen == 2:
                raise KeyboardInterrupt
            return super().next(size)

    with pytest.raises(KeyboardInterrupt):
        train(config(tmp_path / "cut", steps=4), Cut)
    train(config(tmp_path / "cut", steps=4), FixedWorlds)
    cut = torch.load(tmp_path / "cut" / "checkpoint.pt", weights_only=True)

    assert cut["step"] == whole["step"] == 4
    assert cut["averages"].pop("steps") == whole["averages"].pop("steps") == 3
    for before, after in [(whole["network"], cut["network"]), *((whole["averages"][part], cut["averages"][part])
                                                              for part in ("ema", "mean"))]:
        for name, value in before.items():
            assert torch.equal(value, after[name]), name


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_leg_that_is_stopped_keeps_what_it_has_learned(tmp_path, capsys, number, status):
    before = signal.getsignal(number)

    class Stopped(FixedWorlds):
        def next(self, size):
            if FixedWorlds.seen == 2:
                signal.raise_signal(number)
            return super().next(size)

    with pytest.raises(SystemExit) as ended:
        train(config(tmp_path, steps=4, save_every=1e9), Stopped)
    assert ended.value.code == status and signal.getsignal(number) is before
    assert f"stopped after 3 steps, which are kept in {tmp_path / 'checkpoint.pt'}" in capsys.readouterr().out
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == FixedWorlds.seen == 3
    assert not (tmp_path / "weights.safetensors").exists()
    assert train(config(tmp_path, steps=4), FixedWorlds)["steps"] == 1


def test_the_second_ctrl_c_ends_a_leg_at_once(tmp_path, request):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)       # who runs in the background ignores it
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))

    class Stopped(FixedWorlds):
        def next(self, size):
            for _ in range(2):
                signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(config(tmp_path), Stopped)


@pytest.mark.parametrize(("change", "told"), [
    (lambda path: path.write_bytes(path.read_bytes()[:5000]), "checkpoint.pt cannot be read: "),
    (lambda path: path.write_bytes(b"text, no checkpoint"), "checkpoint.pt cannot be read: "),
    (lambda path: path.write_bytes(b""), "checkpoint.pt cannot be read: "),
    (lambda path: torch.save({"step": 3}, path), "checkpoint.pt is of a leg with another .*'network'"),
])
def test_a_checkpoint_that_cannot_be_gone_on_from_is_named(tmp_path, change, told):
    train(config(tmp_path, steps=1), FixedWorlds)
    change(tmp_path / "checkpoint.pt")
    with pytest.raises(InputError, match=told):
        train(config(tmp_path, steps=2), FixedWorlds)


def test_a_leg_does_not_go_on_with_another_optimizer(tmp_path):
    train(config(tmp_path, steps=1), FixedWorlds)
    with pytest.raises(InputError, match="checkpoint.pt is of a leg with another network or `muon`"):
        train(config(tmp_path, steps=2, muon=False), FixedWorlds)


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    train(config(tmp_path, steps=1), FixedWorlds)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.name != "log.jsonl"}

    def save(state, path):
        path.write_bytes(b"half of it")
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0")    # torch's word

    monkeypatch.setattr(training.torch, "save", save)
    with pytest.raises(OutputError, match="checkpoint.pt cannot be written: .*unexpected pos"):
        train(config(tmp_path, steps=2), FixedWorlds)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.name != "log.jsonl"} == before


@pytest.mark.parametrize(("shape", "told"), [({"embedding": 32}, "32 numbers a label"), ({"descriptor": 0}, "and 0 a")])
def test_weights_of_a_network_that_cannot_be_trained_are_named(tmp_path, shape, told):
    network = Network(NetworkConfig(**{"width": 48, "heads": 2, "encoder": 1, "decoder": "af", "stem": 16} | shape))
    save_weights(tmp_path / "other.safetensors", network, network.state_dict(), card={})
    with pytest.raises(WeightsError, match=f"other.safetensors' .*{told}"):
        train(config(tmp_path / "leg", weights=str(tmp_path / "other.safetensors")), FixedWorlds)
    assert FixedWorlds.seen == 0


@pytest.mark.parametrize("write", [lambda path: path.write_bytes(b"text, no weights"),
                                   lambda path: save_file({"stem.weight": torch.zeros(3)}, path)])
def test_a_backbone_that_is_none_is_named(tmp_path, write):
    path = tmp_path / "photo.safetensors"
    write(path)
    with pytest.raises(WeightsError, match="backbone = '.*photo.safetensors' is no file of training/import_"):
        train(config(tmp_path, backbone=str(path)), FixedWorlds)


def test_a_leg_leaves_weights_with_a_card_and_a_log(tmp_path):
    summary = train(config(tmp_path), FixedWorlds)
    _, card = training.load_network(tmp_path / "weights.safetensors")
    assert card["steps"] == 6
    assert card["scoreboard"] == {"scored": True}
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6, 6]
    assert lines[-1] == json.loads(json.dumps(summary))


def test_a_leg_that_is_over_keeps_what_its_weights_scored(tmp_path, capsys):
    train(config(tmp_path, steps=2, worlds=0), FixedWorlds)
    weights = tmp_path / "weights.safetensors"
    update_card(weights, {"scoreboard": ["of lsm eval --card"]})
    before = weights.read_bytes()
    assert train(config(tmp_path, steps=2), FixedWorlds)["steps"] == 2
    assert weights.read_bytes() == before and FixedWorlds.seen == 2
    assert f"the leg in {tmp_path} is over after 2 steps" in capsys.readouterr().out


def test_a_leg_whose_scoring_was_cut_is_scored_by_the_same_command(tmp_path, monkeypatch):
    def cut(weights, config):
        raise KeyboardInterrupt

    scored = training.score
    monkeypatch.setattr(training, "score", cut)
    with pytest.raises(KeyboardInterrupt):
        train(config(tmp_path, steps=2), FixedWorlds)
    monkeypatch.setattr(training, "score", scored)
    train(config(tmp_path, steps=2), FixedWorlds)
    card = read_card(tmp_path / "weights.safetensors")
    assert card["steps"] == 2 and card["scoreboard"] == {"scored": True} and FixedWorlds.seen == 2


def test_the_next_leg_starts_from_the_weights(tmp_path):
    train(config(tmp_path / "first", steps=2), FixedWorlds)
    start = str(tmp_path / "first" / "weights.safetensors")
    train(config(tmp_path / "second", weights=start, steps=1, learning_rate=0.0, ema=0.0), FixedWorlds)
    first, _ = training.load_network(start)
    second, _ = training.load_network(tmp_path / "second" / "weights.safetensors")
    for name, value in first.state_dict().items():
        assert torch.allclose(value, second.state_dict()[name], atol=1e-3), name


def test_the_mean_is_that_of_the_steps_that_count():
    network, seen = torch.nn.Linear(3, 2), []
    averages = training.Averages(network)
    for counts in (False, True, True, False, True):
        with torch.no_grad():
            network.weight.add_(torch.rand(2, 3))
        averages.update(network, 0.5, counts)
        seen += [network.weight.detach().clone()] * counts
    assert averages.steps == 3
    torch.testing.assert_close(averages.mean["weight"], torch.stack(seen).mean(dim=0))
    assert not torch.equal(averages.ema["weight"], averages.mean["weight"])


@pytest.mark.parametrize(("mean_from", "counted"), [(0.0, 3), (0.5, 1), (1.0, 0)])
def test_the_mean_of_a_leg_is_kept_beside_its_end(tmp_path, mean_from, counted):
    train(config(tmp_path, steps=3, mean_from=mean_from), FixedWorlds)
    mean, end = tmp_path / "mean.safetensors", tmp_path / "weights.safetensors"
    assert mean.exists() == bool(counted) and "mean_of" not in read_card(end)
    if counted:
        network, card = training.load_network(mean)
        assert card["mean_of"] == counted and card["steps"] == 3
        last, _ = training.load_network(end)
        assert any(not torch.equal(value, last.state_dict()[name]) for name, value in network.state_dict().items())


def test_a_leg_without_a_length_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="minutes = 0 and steps = 0"):
        train(config(tmp_path, steps=0), FixedWorlds)


def test_a_seed_is_one_that_torch_takes(tmp_path):
    with pytest.raises(ConfigError, match="seed = 20261128233000 is above its maximum"):
        config(tmp_path, seed=20261128233000)
    train(config(tmp_path, seed=training.MAX_SEED, steps=1), FixedWorlds)


@pytest.mark.parametrize("launcher", [[], ["torch.distributed.run", "--nproc_per_node=1", "-m"]])
def test_what_is_wrong_is_told_in_one_line(tmp_path, launcher):
    """As `lsm train` does; torchrun adds that a process failed."""
    command = [sys.executable, "-m", *launcher, "lsm_ros.training.train", "--steps=1", "--height=40", "--width=32"]
    ended = subprocess.run([*command, "--out", str(tmp_path)], capture_output=True, text=True, timeout=120)
    assert ended.returncode == (1 if launcher else 2)           # torchrun's own
    told, = (line for line in ended.stderr.splitlines() if "multiples" in line)
    assert told.startswith("lsm: height = 40, width = 32; ")
    assert launcher or ended.stderr.splitlines() == [told]


@pytest.mark.parametrize("size", [{"width": 0}, {"height": 0}, {"height": 40}])
def test_a_size_that_no_network_sees_is_refused(tmp_path, size):
    asked = {"height": 32, "width": 32} | size
    with pytest.raises(ConfigError, match=f"height = {asked['height']}, width = {asked['width']}; both are multiples"):
        train(config(tmp_path, **asked), FixedWorlds)


def test_a_folder_without_sequences_is_known_before_the_leg(tmp_path):
    with pytest.raises(InputError, match="nowhere holds no sequence"):
        train(config(tmp_path / "leg", data=str(tmp_path / "nowhere")), FixedWorlds)
    assert FixedWorlds.seen == 0


@pytest.mark.parametrize("muon", [False, True])
def test_a_gradient_that_is_not_finite_changes_nothing(tmp_path, muon):
    network = training.Network()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    optimizers = training.make_optimizers(network, config(tmp_path, muon=muon, weight_decay=0.0))
    trained = [p for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]]
    assert len(trained) == len({id(p) for p in trained}) == sum(1 for p in network.parameters())
    for value, moves in ((float("nan"), False), (1.0, True)):
        for parameter in trained:
            parameter.grad = torch.full_like(parameter, value)
        norm = torch.nn.utils.get_total_norm([parameter.grad for parameter in trained])
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = 1e-3
            training.hold_if_not_finite(optimizer, norm)
            optimizer.step()
        assert all(torch.equal(before[name], value) != moves for name, value in network.named_parameters())


def test_schedule():
    c = TrainingConfig(steps=1000, warmup=10, learning_rate=1.0)
    assert learning_rate(c, 0, 0.0) == pytest.approx(0.1)
    assert learning_rate(c, 9, 0.0) == pytest.approx(1.0)
    assert learning_rate(c, 999, 1.0) == pytest.approx(0.2)
    assert learning_rate(replace(c, final_rate=0.5), 999, 1.0) == pytest.approx(0.5)


def test_labels_go_by_their_words_as_often_as_asked():
    labels = LabelSet.load()
    text = LabelText(labels, torch.device("cpu"))
    assert torch.equal(text.draw(random.Random(0), 0.0), torch.from_numpy(labels.embeddings))
    sofa = labels.index("sofa")
    drawn = [text.draw(random.Random(seed), 0.5)[sofa] for seed in range(60)]
    assert text.draw(random.Random(0), 1.0).shape == labels.embeddings.shape
    kinds = {"mean": embed(["sofa", "couch"]), "sofa": embed(["sofa"]), "couch": embed(["couch"])}
    counts = {name: sum(np.allclose(row, vector, atol=1e-5) for row in drawn) for name, vector in kinds.items()}
    assert sum(counts.values()) == 60
    assert 20 < counts["mean"] < 40 and min(counts["sofa"], counts["couch"]) > 5


@pytest.mark.parametrize("views", [1, 2, 4, 8])
def test_split_windows_keeps_every_view_once(views):
    batch = FixedWorlds(3, 8, "cpu").next((16, 16))
    batch.valid[1] = False
    for seed in range(8):
        windows = split_windows(batch, views, random.Random(seed))
        count = 8 // views
        assert windows.image.shape == (3 * count, views, 3, 16, 16)
        assert windows.valid.tolist() == [True] * count + [False] * count + [True] * count
        x = windows.T_world_cam[:count, :, 0, 3].flatten().sort().values
        assert torch.allclose(x, torch.arange(8) * 0.2)


@pytest.mark.parametrize("views", [1, 2, 4])
def test_split_windows_knows_what_moves_between_their_views(views):
    batch = FixedWorlds(2, 8, "cpu").next((16, 16))
    place = torch.arange(8) * 0.2                                   # a body that goes along with the camera, and one
    displaced = torch.zeros(2, 8, 8, 3)                             # that nobody moves
    displaced[..., 1] = (place[:, None] - place).abs()
    body = torch.arange(8, dtype=torch.uint8)[:, None, None].expand(2, 8, 16, 16)
    batch = replace(batch, displaced=displaced, body=body)
    for seed in range(8):
        windows = split_windows(batch, views, random.Random(seed))
        x = windows.T_world_cam[:, :, 0, 3]
        assert torch.allclose(windows.displaced[..., 1], (x[:, :, None] - x[:, None]).abs(), atol=1e-6)
        assert not windows.displaced[..., [0, 2]].any()
        assert torch.allclose(windows.body[:, :, 0, 0] * 0.2, x)
