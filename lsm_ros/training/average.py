"""The mean of two weights files, the second of which was trained on from the first.

    python -m lsm_ros.training.average before.safetensors after.safetensors mean.safetensors

Weights that lie in one valley may be averaged, and the mean is often as good as the better one on every set, where each
of the two has its lucky ones (Wortsman et al., Model soups, 2022). `lsm eval all --card` then says whether it is.
"""
from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from lsm_ros.errors import WeightsError
from lsm_ros.model.weights import ABSENT, load_network, save_weights


def average(before: str | Path, after: str | Path, out: str | Path, share: float = 0.5) -> None:
    """Writes (1 - share) x `before` + share x `after`, with the card of `after`, in which that of `before` stands as
    `mean_with`; without their scoreboards, which are not its own. Parts that came with the training, and which `before`
    does not have, are those of `after`.

    Raises WeightsError for files that cannot be read or hold networks of two kinds, ValueError for another `share`
    than 0 to 1.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share = {share}; it must lie in 0..1")
    (first, first_card), (second, second_card) = load_network(before), load_network(after)
    grown = {name: getattr(second.config, name) for name, absent in ABSENT.items()
             if getattr(first.config, name) == absent}
    if replace(first.config, **grown) != second.config:
        raise WeightsError(f"{before} and {after} hold networks of two kinds: {first.config}, {second.config}")
    one, other = first.state_dict(), second.state_dict()
    card_before, card = ({key: value for key, value in card.items() if not key.startswith("scoreboard")}
                         for card in (first_card, second_card))
    mean = {name: one[name].lerp(value, share) if name in one else value for name, value in other.items()}
    save_weights(out, second, mean, card | {"mean_with": card_before, "share": share})


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m lsm_ros.training.average", description=__doc__.splitlines()[0])
    parser.add_argument("before")
    parser.add_argument("after")
    parser.add_argument("out")
    parser.add_argument("--share", type=float, default=0.5, help="of the second file in the mean (default 0.5)")
    given = parser.parse_args(arguments)
    try:
        average(given.before, given.after, given.out, given.share)
    except (WeightsError, ValueError, OSError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
