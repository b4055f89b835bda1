"""Weights on disk: one safetensors file, tensors only, 8 bits a weight, with a card and a checksum in its header.

A matrix is stored as int8 with one float16 scale for each group of 64 inputs of an output (as in Dettmers et al.,
2022); vectors are stored as float16. The header says which network it is, what it was trained on and how it scored.
"""
from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, fields
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from lsm_ros.data.files import replacing
from lsm_ros.errors import WeightsError
from lsm_ros.model.network import Network, NetworkConfig

FORMAT = "lsm_ros weights 1"
SHIPPED = Path(__file__).parents[1] / "weights" / "lsm_small.safetensors"
GROUP = 64
ABSENT = {"descriptor": 0, "priors": False, "moving": False}      # parts that files of earlier versions do not have
LIMITS = {"width": (1, 4096), "heads": (1, 64), "encoder": (0, 64), "registers": (0, 64), "stem": (2, 1024),
          "embedding": (1, 1024), "descriptor": (0, 1024)}
MOST_BLOCKS = 64         # of the decoder
MOST_NUMBERS = 1 << 30   # weights of a network that gets memory because a header says so


def save_weights(path: str | Path, network: Network, state: dict[str, Tensor], card: dict) -> None:
    """Writes `state` (a state dict of `network`) with its `card` (what JSON takes), replacing an old file at once.

    Raises OSError where the file cannot be written.
    """
    tensors = {}
    for name, value in state.items():
        value = value.detach().float().cpu()
        if value.dim() >= 2:
            tensors[name], tensors[f"{name}.scale"] = quantize(value)
        else:
            tensors[name] = value.half()
    header = {"format": FORMAT, "config": json.dumps(asdict(network.config)), "card": json.dumps(card),
              "sha256": checksum(tensors)}
    replace_file(path, save(tensors, header))


def load_network(path: str | Path | None = None, *, grow: bool = False) -> tuple[Network, dict]:
    """The network with its weights, on the CPU and in float32, and its card.

    With `grow` the parts that the file does not have keep their initial values, for training to go on with a network
    that has more of them. Raises WeightsError, naming the file and what is wrong with it, if it is missing, damaged or
    of another network.
    """
    path = Path(path) if path else SHIPPED
    if not path.is_file():
        raise WeightsError(f"no weights file at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"{path} is no readable safetensors file: {error}") from error
    if header.get("format") != FORMAT:
        raise WeightsError(f"{path} has format {header.get('format')!r}; this version reads {FORMAT!r}")
    if checksum(tensors) != header.get("sha256"):
        raise WeightsError(f"{path} is damaged: its tensors do not have the checksum {header.get('sha256')}")
    config = read_config(path, header, grow)
    try:
        check_kinds(tensors)
        state = {name: dequantize(value, tensors[f"{name}.scale"]) if f"{name}.scale" in tensors else value.float()
                 for name, value in tensors.items() if not name.endswith(".scale")}
        if not all(value.isfinite().all() for value in state.values()):
            raise RuntimeError("it holds weights that are not finite")
        empty = check_shapes(config, state, grow)
        if grow:
            network = Network(config)
            network.load_state_dict(network.state_dict() | state)
        else:       # without a second copy of all weights, and without drawing numbers that would be replaced at once
            network = empty
            network.load_state_dict(state, assign=True)
    except RuntimeError as error:
        raise WeightsError(f"{path} belongs to another network: {error}") from error
    return network.eval(), _card(path, header)


def read_card(path: str | Path) -> dict:
    """The card of a weights file, without its tensors. Raises WeightsError as load_network does."""
    return _card(path, read_header(Path(path))[0]["__metadata__"])


def _card(path: str | Path, header: dict[str, str]) -> dict:
    try:
        card = json.loads(header.get("card", "{}"))
    except (ValueError, TypeError, RecursionError) as error:
        raise WeightsError(f"{path} has a card that cannot be read: {error}") from error
    if not isinstance(card, dict):
        raise WeightsError(f"{path} has a card that is a {type(card).__name__}; it must be a dict")
    return card


def update_card(path: str | Path, changes: dict) -> None:
    """Changes keys of a file's card and replaces the file at once; the tensors stay as they are, byte for byte."""
    path = Path(path)
    header, start = read_header(path)
    header["__metadata__"]["card"] = json.dumps(_card(path, header["__metadata__"]) | changes)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)                              # the tensors begin at a multiple of 8
    replace_file(path, len(text).to_bytes(8, "little") + text + path.read_bytes()[start:])


def replace_file(path: str | Path, content: bytes) -> None:
    """Writes a file at once, for all to read: safetensors' own save_file makes one that is its owner's alone. Raises
    OSError, and leaves nothing half-written then."""
    with replacing(path) as part:
        part.write_bytes(content)


def read_header(path: Path) -> tuple[dict, int]:
    """The header of a safetensors file (its length in 8 bytes, then JSON) and where the tensors begin."""
    if not path.is_file():
        raise WeightsError(f"no weights file at {path}")
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > path.stat().st_size:
                raise ValueError(f"its header claims {length} bytes")
            header = json.loads(file.read(length))
        if header["__metadata__"].get("format") != FORMAT:
            raise ValueError(f"its format is {header['__metadata__'].get('format')!r}, not {FORMAT!r}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise WeightsError(f"{path} is no weights file: {error}") from error
    return header, 8 + length


def read_config(path: Path, header: dict[str, str], grow: bool) -> NetworkConfig:
    """The network's shape from the header; WeightsError where this version does not know it."""
    try:
        values = ({} if grow else ABSENT) | json.loads(header["config"])
        unknown = set(values) - {field.name for field in fields(NetworkConfig)}
        if unknown:
            raise ValueError(f"unknown keys {sorted(unknown)}")
        for item in fields(NetworkConfig):
            value = values.get(item.name, item.default)
            low, high = LIMITS.get(item.name, (-math.inf, math.inf))
            if type(value) is not type(item.default) or item.name in LIMITS and not low <= value <= high:
                raise ValueError(f"{item.name} = {value!r}")
        config = NetworkConfig(**values)
        # Rotary positions take the channels of a head by fours.
        if config.width % (4 * config.heads) or set(config.decoder) - {"a", "f"} or len(config.decoder) > MOST_BLOCKS:
            raise ValueError(f"width {config.width}, heads {config.heads}, decoder {config.decoder[:MOST_BLOCKS]!r}")
        return config
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise WeightsError(f"{path} describes a network that this version cannot build: {error}") from error


def check_kinds(tensors: dict[str, Tensor]) -> None:
    """Raises RuntimeError where `tensors` are not as save_weights writes them: codes with their scales, or float16.

    Scales of another shape would be spread over the codes, and give other weights without a word.
    """
    for name, value in tensors.items():
        if name.endswith(".scale"):
            codes = tensors.get(name.removesuffix(".scale"))
            if codes is None or codes.dim() < 2:
                raise RuntimeError(f"{name} belongs to no matrix")
            wanted = (len(codes), -(-codes[0].numel() // GROUP))
            if value.dtype != torch.float16 or tuple(value.shape) != wanted:
                raise RuntimeError(f"{name} is {value.dtype} {tuple(value.shape)}, not torch.float16 {wanted}")
        else:
            wanted = torch.int8 if f"{name}.scale" in tensors else torch.float16
            if value.dtype != wanted:
                raise RuntimeError(f"{name} is {value.dtype}, not {wanted}")


def check_shapes(config: NetworkConfig, state: dict[str, Tensor], grow: bool) -> Network:
    """The network of `config`, without memory for its weights. Raises RuntimeError where they are not those of `state`.
    """
    with torch.device("meta"):
        network = Network(config)
    wanted = {name: value.shape for name, value in network.state_dict().items()}
    if sum(shape.numel() for shape in wanted.values()) > MOST_NUMBERS:
        raise RuntimeError(f"its header describes one of more than {MOST_NUMBERS} weights")
    told = {name: value.shape for name, value in state.items()}
    wrong = [name for name, shape in told.items() if wanted.get(name) != shape]
    missing = [] if grow else [name for name in wanted if name not in told]
    if wrong or missing:
        raise RuntimeError(f"by its header it has no {', '.join(wrong[:3]) or 'others'} of that shape, and it lacks "
                           f"{', '.join(missing[:3]) or 'nothing'}")
    return network


def quantize(weight: Tensor) -> tuple[Tensor, Tensor]:
    """(O, ...) float -> int8 of the same shape and float16 scales (O, groups)."""
    rows = weight.flatten(1)
    padded = F.pad(rows, (0, -rows.shape[1] % GROUP)).unflatten(1, (-1, GROUP))
    scale = (padded.abs().amax(2) / 127).clamp_min(1e-7).half()
    codes = (padded / scale.float().clamp_min(1e-7)[..., None]).round().clamp(-127, 127).to(torch.int8)
    return codes.flatten(1)[:, :rows.shape[1]].reshape(weight.shape).contiguous(), scale


def dequantize(codes: Tensor, scale: Tensor) -> Tensor:
    """Inverse of `quantize`."""
    rows = codes.flatten(1).float()
    return (rows * scale.float().repeat_interleave(GROUP, dim=1)[:, :rows.shape[1]]).reshape(codes.shape)


def checksum(tensors: dict[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())    # numpy has no bfloat16
    return digest.hexdigest()
