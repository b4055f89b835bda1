"""One training leg: rendered worlds in, weights with a scoreboard out.

    lsm train --no-muon --steps 60 --paths 1 ...                # on a CPU; docs/training.md says which loss to expect
    torchrun --nproc_per_node=4 -m lsm_ros.training.train ...   # the same on the GPUs of one machine

Everything that happens in a step stands in `run_leg`; it is one loop.
"""
from __future__ import annotations

import argparse
import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.parallel import DistributedDataParallel
from torch.utils.flop_counter import FlopCounterMode

from lsm_ros.arguments import add_options, exit_code, read_options
from lsm_ros.config import Options, option
from lsm_ros.data.files import replacing
from lsm_ros.errors import ConfigError, InputError, OutputError, WeightsError
from lsm_ros.labels import LabelSet, embed
from lsm_ros.model.compiling import compile_parts
from lsm_ros.model.network import MAX_VIEWS, PATCH, Network, NetworkConfig
from lsm_ros.model.weights import load_network, read_card, save_weights, update_card
from lsm_ros.training.losses import loss, make_priors, make_targets
from lsm_ros.training.matching import matching_loss
from lsm_ros.training.muon import Muon
from lsm_ros.world.renderer import staged
from lsm_ros.world.stream import ViewBatch, WorldStream

SIZES = ((192, 256), (192, 256), (192, 256), (160, 288), (256, 192))   # (H, W), each as likely as it is listed
VIEWS = (4, 4, 4, 4, 4, 2, 2, 8, 8, 1)                      # views of the windows in a step, likewise
MATCH_WEIGHT, PLACE_WEIGHT = 0.2, 0.1                       # of training/matching.py's parts, beside losses.py's
PEAK_FLOPS = {"A100": 312e12, "H100": 989e12, "H200": 989e12}   # dense bfloat16, by what the GPU's name holds
MAX_SEED = 10 ** 11                                         # torch takes 63 bits, a step's seed is 64 million times it
PROFILED = range(300, 303)                                  # steps of which `profile` tells where their time goes


@dataclass(frozen=True)
class TrainingConfig(Options):
    """The knobs of a leg. The defaults are those of the last leg on GPUs."""
    out: str = option("training", "Folder for checkpoint, log and weights.")
    minutes: float = option(0.0, "Length of the leg; 0 lets `steps` decide.", minimum=0)
    steps: int = option(0, "Length of the leg in steps; 0 lets `minutes` decide.", minimum=0)
    paths: int = option(96, "Camera paths of 8 views in a step, for each process; 96 take 70 GB of a GPU.", minimum=1)
    learning_rate: float = option(1e-3, "Peak of the schedule: warm-up, then a half cosine down to `final_rate`.",
                                  minimum=0)
    final_rate: float = option(0.2, "Share of the peak that is left at the end.", minimum=0, maximum=1)
    warmup: int = option(300, "Steps of linear warm-up.", minimum=1)
    weight_decay: float = option(0.05, "Of matrices.", minimum=0)
    muon: bool = option(True, "Muon for the matrices between tokens; it costs a CPU seconds a step. AdamW if not.")
    ema: float = option(0.999, "Decay of the averaged weights, which are the ones that are kept.", minimum=0, maximum=1)
    mean_from: float = option(0.15, "Share of the leg after which the weights of all steps go into a plain mean, kept "
                                   "beside the averaged ones as mean.safetensors.", minimum=0, maximum=1)
    weights: str = option("", "Weights to start from; empty starts from nothing but `backbone`.")
    backbone: str = option("", "Photo features from training/import_backbone.py, for a start from nothing.")
    textures: str = option("", "Packed photo textures (world/materials.py); empty for procedural surfaces only.")
    meshes: str = option("", "Furniture models (world/import_meshes.py); empty for furniture of simple shapes only.")
    automatic: float = option(0.7, "Share of the windows whose camera sets exposure, white balance and tones anew for "
                                   "each view.", minimum=0, maximum=1)
    edges: float = option(0.1, "Share of the windows whose images have a border that shows nothing, as rectified ones.",
                          minimum=0, maximum=1)
    rolled: float = option(0.1, "Share of the windows whose camera leans, by up to 50 degrees.",
                           minimum=0, maximum=1)
    flat: float = option(0.15, "Share of the windows whose camera shows little contrast, or no colour.",
                         minimum=0, maximum=1)
    moving: float = option(0.2, "Share of the windows in which somebody walks or something is moved.",
                           minimum=0, maximum=1)
    low: float = option(0.2, "Share of the camera paths that are those of small robots, a hand or two above the "
                              "floor.", minimum=0, maximum=1)
    data: str = option("", "Folder with real sequences for the scoreboard; empty scores rendered worlds only.")
    one_path: float = option(0.3, "Share of the frames whose tokens begin with the pixels' own features or the photo "
                                  "features alone, not with both.", minimum=0, maximum=1)
    seed: int = option(0, "Seed of this leg; another one draws other worlds.", minimum=0, maximum=MAX_SEED)
    workers: int = option(2, "Processes that furnish rooms, for each training process; 5 keep up with "
                         "an H200, and 14 took so much of the CPU that training ran at half its speed.", minimum=1)
    single_words: float = option(0.0, "Share of the labels that go by one of their words in a step, a name or a "
                                 "synonym, instead of by the mean of them.", minimum=0, maximum=1)
    height: int = option(0, f"Image height, a multiple of {PATCH}, with `width`; 0 takes the sizes of SIZES in turn.",
                         minimum=0)
    width: int = option(0, f"Image width, a multiple of {PATCH}, with `height`.", minimum=0)
    worlds: int = option(64, "Held-out worlds of the scoreboard at the end; 0 leaves it to `lsm eval`.", minimum=0)
    save_every: float = option(120.0, "Seconds between checkpoints.", minimum=0)
    log_every: int = option(100, "Steps between lines of the log.", minimum=1)
    profile: bool = option(False, f"Write to profile.txt where the time of steps {PROFILED[0]} to {PROFILED[-1]} goes.")


def train(config: TrainingConfig, open_stream: Callable[..., WorldStream] = WorldStream) -> dict:
    """Runs a leg, or goes on with the one whose checkpoint lies in `config.out`; returns the last line of its log.

    SIGINT or SIGTERM ends it after the step of then, with a checkpoint, by SystemExit; the second one ends it at once.
    """
    with closing(StopSignal()) as stop:
        return run_leg(config, open_stream, stop)


def run_leg(config: TrainingConfig, open_stream: Callable[..., WorldStream], stop: StopSignal) -> dict:
    """As `train`."""
    if not (config.minutes or config.steps):
        raise ConfigError("minutes = 0 and steps = 0; one of them must say how long to train")
    if bool(config.height) != bool(config.width) or config.height % PATCH or config.width % PATCH:
        raise ConfigError(f"height = {config.height}, width = {config.width}; both are multiples of {PATCH}, or both 0")
    if config.data and config.worlds:
        from lsm_ros.evaluation.benchmark import find_sequences
        find_sequences(config.data)               # what the leg is to be scored on is wanted at its end
    rank, world, device = join_processes()
    folder = Path(config.out)
    folder.mkdir(parents=True, exist_ok=True)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.manual_seed(config.seed)

    labels = LabelSet.load()
    text = LabelText(labels, device)
    network = start_network(config).to(device)
    network.backbone.requires_grad_(False)
    network.one_path = config.one_path
    if device.type == "cuda":
        compile_parts(network)
    averages = Averages(network)
    optimizers = make_optimizers(network, config)
    step, elapsed_before = resume(folder, network, averages, optimizers, device)
    stream = open_stream(size=SIZES[0], views=MAX_VIEWS, batch=config.paths, device=device, workers=config.workers,
                         bank=4096 if device.type == "cuda" else 64,      # a CPU would take minutes for thousands
                         seed=(config.seed * 1_000_000 + step) * 64 + rank, textures=config.textures or None,
                         meshes=config.meshes or None, automatic=config.automatic, edges=config.edges,
                         rolled=config.rolled, flat=config.flat, moving=config.moving,
                         low=config.low)
    parallel = DistributedDataParallel(network) if world > 1 else network
    autocast = torch.autocast("cuda", torch.bfloat16) if device.type == "cuda" else nullcontext()

    start = saved = logged = time.monotonic()
    first_step = logged_step = step
    peak = peak_samples(network, device) * world
    profiler = None
    trace: list[dict] = []
    while True:
        elapsed = elapsed_before + time.monotonic() - start
        share = max(step / config.steps if config.steps else 0.0,
                    elapsed / 60 / config.minutes if config.minutes else 0.0)
        progress = share_from_first(-stop.number or share, world)       # below 0: a signal
        if not 0 <= progress < 1:
            break
        choose = random.Random(config.seed * 1_000_003 + step)    # the same on every process, and after a resume
        torch.manual_seed((config.seed * 1_000_000 + step) * 64 + rank)       # another one on each, the same after one
        if config.profile and rank == 0 and step == PROFILED[0]:
            profiler = torch.profiler.profile()
            profiler.start()
        size = (config.height, config.width) if config.height else choose.choice(SIZES)
        views, offset = choose.choice(VIEWS), (choose.randrange(4), choose.randrange(4))
        shift = choose.randrange(1, max(views, 2))                # which other view each one is matched with
        rate = learning_rate(config, step, progress)
        for group in (group for optimizer in optimizers for group in optimizer.param_groups):
            group["lr"] = rate

        batch = split_windows(stream.next(size), views, choose)
        targets = make_targets(batch.depth, batch.label, batch.K, batch.T_world_cam, batch.valid, offset, batch.body,
                               batch.displaced)
        K_known = (torch.rand(len(batch.image), 1, device=device) < 0.5).expand(-1, views)
        with autocast:
            output = parallel(batch.image, batch.K, K_known, make_priors(targets))
        total, parts = loss(output, targets, text.draw(choose, config.single_words), labels.logit_scale)
        matched = matching_loss(output, targets, shift)
        total = total + MATCH_WEIGHT * matched["match"] + PLACE_WEIGHT * matched["place"]
        parts |= matched
        network.zero_grad(set_to_none=True)
        total.backward()
        norm = torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        for optimizer in optimizers:
            hold_if_not_finite(optimizer, norm)
            optimizer.step()
        averages.update(network, min(config.ema, (1 + step) / (10 + step)), progress >= config.mean_from)
        step += 1

        if profiler and step > PROFILED[-1]:
            profiler.stop()
            sort = "self_cuda_time_total" if device.type == "cuda" else "self_cpu_time_total"
            (folder / "profile.txt").write_text(profiler.key_averages().table(sort, row_limit=60), "utf8")
            profiler = None
        if step % config.log_every == 0 and rank == 0:
            now = time.monotonic()
            samples = (step - logged_step) * config.paths * MAX_VIEWS / 4 * world / (now - logged)
            logged, logged_step = now, step
            trace.append({"step": step, "minutes": round(elapsed / 60, 2), "views": views, "rate": rate,
                          "samples_per_s": round(samples, 1), "peak_share": round(samples / peak, 3),
                          "loss": total.item(), "gradient_norm": norm.item(),
                          **{name: part.item() for name, part in parts.items()}})
            write_log(folder, trace[-1])
        if rank == 0 and time.monotonic() - saved > config.save_every:
            save_checkpoint(folder, network, averages, optimizers, step, elapsed)
            saved = time.monotonic()

    stop.close()                                # scoring has nothing to keep
    stream.close()
    if progress < 0:
        if rank == 0:
            save_checkpoint(folder, network, averages, optimizers, step, elapsed)
            print(f"stopped after {step} steps, which are kept in {folder / 'checkpoint.pt'}; the same command goes on "
                  "from there", flush=True)
        leave_processes(world)
        raise SystemExit(128 - int(progress))
    written = folder / "weights.safetensors"
    summary = read_card(written) if rank == 0 and step == first_step and written.exists() else {}
    if summary.get("step") == step:             # over before; what its weights scored since then stands in their card
        print(f"the leg in {folder} is over after {step} steps; a new one needs a new folder", flush=True)
    elif rank == 0:
        save_checkpoint(folder, network, averages, optimizers, step, elapsed)
        seconds = time.monotonic() - start
        summary = {"step": step, "steps": step - first_step, "minutes": seconds / 60, "processes": world,
                   "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
                   "samples_per_s": (step - first_step) * config.paths * MAX_VIEWS / 4 * world / seconds,
                   "config": asdict(config), "revision": revision(), "loss": trace[-1]["loss"] if trace else None}
        if averages.steps:
            save_weights(folder / "mean.safetensors", network, averages.mean, summary | {"mean_of": averages.steps})
        save_weights(written, network, averages.ema, card=summary)
    if rank == 0:
        if config.worlds and "scoreboard" not in summary:
            summary["scoreboard"] = score(written, config)
            update_card(written, summary)
        write_log(folder, summary)
    leave_processes(world)
    return summary


class StopSignal:
    """The first SIGINT or SIGTERM leaves its number here, else 0; the second does what it always did. So it is until
    `close`."""

    def __init__(self):
        self.number = 0
        self._before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}

    def _on_signal(self, number: int, _) -> None:
        self.number = number
        self.close()

    def close(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


class LabelText:
    """The embeddings that the semantics of a step are compared with."""

    def __init__(self, labels: LabelSet, device: torch.device):
        self.mean = torch.from_numpy(labels.embeddings).to(device)
        single = np.concatenate([[embed([word]) for word in words] for words in labels.words])
        self.single = torch.from_numpy(single.astype(np.float32)).to(device)
        ends = np.cumsum([len(words) for words in labels.words])
        self.of_class = [range(end - len(words), end) for end, words in zip(ends, labels.words, strict=True)]

    def draw(self, choose: random.Random, single: float) -> Tensor:
        """(C, E): the mean of a label's words or, with the probability `single`, one of them."""
        if not single:
            return self.mean
        table = torch.cat([self.mean, self.single])
        rows = [len(self.mean) + choose.choice(words) if choose.random() < single else label
                for label, words in enumerate(self.of_class)]
        return table[staged(np.array(rows), table.device).to(table.device, non_blocking=True)]


def split_windows(batch: ViewBatch, views: int, choose: random.Random) -> ViewBatch:
    """Paths of 8 views -> more windows of `views` views: every k-th view of a path or neighbouring ones, shuffled.

    So a step always holds the same number of images, and a window's baseline varies by more than the paths do.
    """
    order = list(range(MAX_VIEWS))
    if choose.random() < 0.5:                                     # neighbours, or spread over the whole path
        windows = MAX_VIEWS // views
        order = [first + windows * view for first in range(windows) for view in range(views)]
    groups = [order[i:i + views] for i in range(0, MAX_VIEWS, views)]
    if choose.random() < 0.5:
        for group in groups:
            choose.shuffle(group)
    device = batch.image.device
    index = staged(np.array(groups), device).to(device, non_blocking=True)

    def split(values: Tensor) -> Tensor:
        return values[:, index].flatten(0, 1)

    return ViewBatch(image=split(batch.image), depth=split(batch.depth), label=split(batch.label),
                     instance=split(batch.instance), K=split(batch.K), T_world_cam=split(batch.T_world_cam),
                     valid=batch.valid.repeat_interleave(MAX_VIEWS // views),
                     body=None if batch.body is None else split(batch.body),
                     displaced=None if batch.displaced is None else
                     batch.displaced[:, index[:, :, None], index[:, None]].flatten(0, 1))


def join_processes() -> tuple[int, int, torch.device]:
    """(rank, number of processes, device) under torchrun or alone."""
    rank, world = int(os.environ.get("LOCAL_RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    device = torch.device("cuda", rank) if torch.cuda.is_available() else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if world > 1:
        dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    return rank, world, device


def leave_processes(world: int) -> None:
    """Once all of them are here: the first one writes what the others have no part in."""
    if world > 1:
        dist.barrier()
        dist.destroy_process_group()


def peak_samples(network: Network, device: torch.device) -> float:
    """Four-view samples a second that a GPU's peak would train, three times the forward pass each; inf if unknown."""
    peak = next((flops for name, flops in PEAK_FLOPS.items()
                 if device.type == "cuda" and name in torch.cuda.get_device_name(device)), math.inf)
    with torch.device("meta"), torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        type(network)(network.config)(torch.empty(1, 4, 3, *SIZES[0]), torch.empty(1, 4, 3, 3),
                                      torch.empty(1, 4, dtype=torch.bool))     # fused attention would not be counted
    return peak / (3 * counter.get_total_flops())


def share_from_first(value: float, world: int) -> float:
    """The first process's value on all of them, over the CPU, so that no GPU has to wait for it."""
    if world == 1:
        return value
    shared = torch.tensor([value], dtype=torch.float64)
    dist.broadcast(shared, 0)
    return shared.item()


def start_network(config: TrainingConfig) -> Network:
    """From weights, or from nothing with the photo features in place. Raises WeightsError for a file of neither."""
    if config.weights:
        network = load_network(config.weights, grow=True)[0].train()
        shape, wanted = network.config, NetworkConfig()
        if shape.embedding != wanted.embedding or not shape.descriptor:
            raise WeightsError(f"weights = {config.weights!r} have {shape.embedding} numbers a label and "
                               f"{shape.descriptor} a match; training wants {wanted.embedding}, and some")
        return network
    network = Network()
    if config.backbone:
        try:
            network.backbone.load_state_dict(load_file(config.backbone))
        except (SafetensorError, RuntimeError) as error:
            raise WeightsError(f"backbone = {config.backbone!r} is no file of training/import_backbone.py: "
                               f"{first_line(error)}") from error
    return network


def make_optimizers(network: Network, config: TrainingConfig) -> list[torch.optim.Optimizer]:
    """AdamW, and with `muon` Muon for the matrices between tokens; biases, norms and tokens are not decayed."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    inside = [parameter for part in (*network.encoder, *network.decoder, network.match_head.tokens)
              for parameter in part.parameters() if parameter.dim() == 2] if config.muon else []
    others = set(trained) - set(inside)
    groups = [{"params": [p for p in trained if p in others and p.dim() >= 2], "weight_decay": config.weight_decay},
              {"params": [p for p in trained if p.dim() < 2], "weight_decay": 0.0}]
    optimizers = [torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.95), fused=True)]
    if inside:
        optimizers.append(Muon(inside, lr=0.0, weight_decay=config.weight_decay, adjust_lr_fn="match_rms_adamw"))
    return optimizers


def hold_if_not_finite(optimizer: torch.optim.Optimizer, norm: Tensor) -> None:
    """A gradient that is not finite counts for nothing: AdamW leaves its step out, Muon goes on as it was going. All
    that without making the CPU wait for the GPU."""
    finite = norm.isfinite()
    if isinstance(optimizer, torch.optim.AdamW):
        optimizer.found_inf = (~finite).float()
    else:
        for parameter in (parameter for group in optimizer.param_groups for parameter in group["params"]):
            parameter.grad = torch.where(finite, parameter.grad, 0.0)


def learning_rate(config: TrainingConfig, step: int, progress: float) -> float:
    warmup = min(1.0, (step + 1) / config.warmup)
    falling = (1 + math.cos(math.pi * progress)) / 2
    return config.learning_rate * warmup * (config.final_rate + (1 - config.final_rate) * falling)


class Averages:
    """Of the weights of a leg: the exponential one `ema`, which follows them, and the plain `mean` of the `steps` that
    it is told to count. By name, as a state dict.

    A plain mean over a long part of a leg lies in flatter ground than its end, and loses less on images of another kind
    than the training's (Cha et al., SWAD, 2021).
    """

    def __init__(self, network: Network):
        self.ema, self.mean = ({name: value.detach().clone() for name, value in network.state_dict().items()}
                               for _ in range(2))
        self.steps = 0

    @torch.no_grad()
    def update(self, network: Network, decay: float, counts: bool) -> None:
        """Takes the weights in: into `ema` with this decay; into `mean` if the step `counts`."""
        names, values = zip(*((name, value) for name, value in network.named_parameters() if value.requires_grad),
                            strict=True)
        torch._foreach_lerp_([self.ema[name] for name in names], values, 1 - decay)
        if counts:
            self.steps += 1
            torch._foreach_lerp_([self.mean[name] for name in names], values, 1 / self.steps)

    def state_dict(self) -> dict[str, Any]:
        return vars(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.steps = state["steps"]
        for mine, saved in ((self.ema, state["ema"]), (self.mean, state["mean"])):
            for name, value in saved.items():
                mine[name].copy_(value)


def save_checkpoint(folder: Path, network: Network, averages: Averages, optimizers, step: int, elapsed: float
                    ) -> None:
    """Replaces the checkpoint at once. Raises OutputError where it cannot be written; the one before is whole then."""
    state = {"network": network.state_dict(), "averages": averages.state_dict(), "step": step,
             "optimizers": [optimizer.state_dict() for optimizer in optimizers],
             "elapsed": elapsed}
    path = folder / "checkpoint.pt"
    try:
        with replacing(path) as part:
            torch.save(state, part)
    except (OSError, RuntimeError) as error:        # torch's writer has a RuntimeError for a full disk
        raise OutputError(f"{path} cannot be written: {error}") from error


def resume(folder: Path, network: Network, averages: Averages, optimizers, device) -> tuple[int, float]:
    """(step, seconds trained) of the checkpoint in `folder`, which is loaded; (0, 0.0) where there is none.

    Raises InputError where it cannot be read, or is of a leg with another network or other optimizers.
    """
    path = folder / "checkpoint.pt"
    if not path.exists():
        return 0, 0.0
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:      # noqa: BLE001 torch has half a dozen types for a damaged file
        raise InputError(f"the checkpoint {path} cannot be read: {first_line(error)}") from error
    try:
        network.load_state_dict(state["network"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        averages.load_state_dict(state["averages"])
        return state["step"], state["elapsed"]
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"the checkpoint {path} is of a leg with another network or `muon`; a new leg needs a new "
                         f"folder: {first_line(error)}") from error


def first_line(error: Exception) -> str:
    """What torch says before it goes on for pages."""
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]


def score(weights: Path, config: TrainingConfig) -> list[dict]:
    """The scoreboard of the averaged weights as they lie on disk."""
    from lsm_ros.evaluation.benchmark import scoreboard
    return scoreboard(weights, data=config.data or None, worlds=config.worlds, textures=config.textures or None,
                      meshes=config.meshes or None)


def revision() -> str:
    """The git revision, from LSM_REVISION where the tree travels without its history."""
    try:
        return os.environ.get("LSM_REVISION") or subprocess.run(
            ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=True,
            cwd=Path(__file__).parent).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def write_log(folder: Path, line: dict) -> None:
    """One JSON line to log.jsonl and the same, shorter, to the screen."""
    with open(folder / "log.jsonl", "a") as file:
        file.write(json.dumps(line) + "\n")
    print("  ".join(f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
                    for key, value in line.items() if not isinstance(value, dict)), flush=True)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="lsm train", description=__doc__.splitlines()[0])
    add_options(parser, TrainingConfig, "training")
    train(read_options(parser.parse_args(arguments), TrainingConfig))


if __name__ == "__main__":
    sys.exit(exit_code(main))
