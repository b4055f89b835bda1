"""The mean of two weights files, the second of which was trained on from the first.

    python -m lsm_ros.training.average before.safetensors after.safetensors mean.safetensors --pixels .5 --textures ...

Weights that lie in one valley may be averaged, and the mean is often as good as the better one on every set, where each
of the two has its lucky ones (Wortsman et al., Model soups, 2022). `lsm eval all --card` then says whether it is.

With --pixels the network goes by photo features more than by pixels. The latter were learned from rendered images only,
and what they say of real ones is where rendered and real images differ most (docs/training-log.md, leg 27).
"""
from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from lsm_ros.errors import LsmError, WeightsError
from lsm_ros.model.network import Network, normalised
from lsm_ros.model.weights import ABSENT, load_network, save_weights
from lsm_ros.world.stream import fixed_batch

WORLDS = range(100)        # seeds of those that `rendered_images` shows


def average(before: str | Path, after: str | Path, out: str | Path, share: float = 0.5, pixels: float = 1.0,
            textures: str | None = None, meshes: str | None = None) -> None:
    """Writes (1 - share) x `before` + share x `after`, with the card of `after`, in which that of `before` stands as
    `mean_with`; without their scoreboards, which are not its own. Parts that came with the training, and which `before`
    does not have, are those of `after`. With `pixels` below 1 the mean is quietened to that share, by worlds with these
    textures and meshes.

    Raises WeightsError for files that cannot be read or hold networks of two kinds, ValueError for a `share` or
    `pixels` beside 0 to 1.
    """
    for name, value in (("share", share), ("pixels", pixels)):
        if not 0 <= value <= 1:
            raise ValueError(f"{name} = {value}; it must lie in 0..1")
    (first, first_card), (second, second_card) = load_network(before), load_network(after)
    grown = {name: getattr(second.config, name) for name, absent in ABSENT.items()
             if getattr(first.config, name) == absent}
    if replace(first.config, **grown) != second.config:
        raise WeightsError(f"{before} and {after} hold networks of two kinds: {first.config}, {second.config}")
    one, other = first.state_dict(), second.state_dict()
    card_before, card = ({key: value for key, value in card.items() if not key.startswith("scoreboard")}
                         for card in (first_card, second_card))
    mean = {name: one[name].lerp(value, share) if name in one else value for name, value in other.items()}
    card |= {"mean_with": card_before, "share": share}
    second.load_state_dict(mean)
    if pixels < 1:
        quieten(second, rendered_images(textures, meshes), pixels)
        card |= {"pixels": pixels}
    save_weights(out, second, second.state_dict(), card)


@torch.no_grad()
def quieten(network: Network, images: Tensor, share: float) -> None:
    """Leaves a `share` of what the pixels' own features tell the tokens, and for the rest their mean over all tokens of
    `images` (N, 3, H, W) in 0..1. It is for a network that was trained to do without them (`lsm train --one-path`), and
    costs nothing later: it is the same layer with other numbers."""
    total = sum(network.patches(network.stem(normalised(image[None]))).mean(dim=(0, 2, 3)) for image in images)
    mean = total / len(images)
    network.patches.weight.mul_(share)
    network.patches.bias.lerp_(mean, 1 - share)


def rendered_images(textures: str | None, meshes: str | None) -> Tensor:
    """(N, 3, 192, 256) images of WORLDS, which take half a minute on a CPU."""
    batch = fixed_batch(WORLDS, (192, 256), 1, "cpu", textures=textures, meshes=meshes)
    return batch.image[batch.valid].flatten(0, 1)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m lsm_ros.training.average", description=__doc__.splitlines()[0])
    parser.add_argument("before")
    parser.add_argument("after")
    parser.add_argument("out")
    parser.add_argument("--share", type=float, default=0.5, help="of the second file in the mean (default 0.5)")
    parser.add_argument("--pixels", type=float, default=1.0, help="share that is left of what the pixels' own features "
                                                                  "tell the tokens (default 1: all)")
    parser.add_argument("--textures", help="photo textures of the worlds that --pixels looks at, as for `lsm train`")
    parser.add_argument("--meshes", help="furniture models of these, likewise")
    given = parser.parse_args(arguments)
    try:
        average(given.before, given.after, given.out, given.share, given.pixels, given.textures, given.meshes)
    except (LsmError, ValueError, OSError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
