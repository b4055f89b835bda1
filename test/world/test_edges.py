"""Borders around training images: what they hide, how they look, and that the mapper's finder knows them."""
from __future__ import annotations

import numpy as np
import torch

from lsm_ros.data.borders import Borders
from lsm_ros.world.edges import BANK, Edges, random_edge, seen_inside
from lsm_ros.world.renderer import NO_INSTANCE, NO_LABEL

B, V, H, W = 24, 2, 48, 64


def batch():
    generator = torch.Generator().manual_seed(0)
    shape = B, V, H, W
    return (torch.rand(B, V, 3, H, W, generator=generator) * .6 + .2, torch.full(shape, 2.0),
            torch.full(shape, 5, dtype=torch.uint8), torch.full(shape, 3, dtype=torch.int16))


def test_what_a_border_hides_is_unknown_and_the_rest_stays():
    plain, (image, depth, label, instance) = batch()[0], batch()
    edges = Edges.random(np.random.default_rng(2), B, 0.6)
    edges.put_around(image, depth, label, instance)
    with_edge = edges.number >= 0
    assert 8 < with_edge.sum() < 20 and 0 < edges.filled[with_edge].sum() < with_edge.sum()
    hidden = depth == 0
    assert (hidden.flatten(1).any(1).numpy() == with_edge).all() and torch.equal(hidden[:, 0], hidden[:, 1])
    assert torch.equal(label == NO_LABEL, hidden) and torch.equal(instance == NO_INSTANCE, hidden)
    same = (image == plain).all(dim=2)
    assert same[~hidden].all() and not same[hidden].any()
    for window in np.flatnonzero(with_edge):
        there = image[window, 0].permute(1, 2, 0)[hidden[window, 0]].numpy()
        if edges.filled[window]:
            seen = plain[window, 0].permute(1, 2, 0)[~hidden[window, 0]].numpy()
            assert {row.tobytes() for row in there} <= {row.tobytes() for row in seen}
        else:
            assert (there == edges.color[window]).all()


def test_without_a_share_nothing_changes():
    plain, changed = batch(), batch()
    Edges.random(np.random.default_rng(2), B, 0.0).put_around(*changed)
    assert all(torch.equal(one, other) for one, other in zip(plain, changed, strict=True))


def test_the_finder_of_borders_knows_most_of_them():
    rng, found = np.random.default_rng(5), []
    for _ in range(BANK):
        seen = random_edge(rng, 96, 128)
        assert .45 < seen.mean() < 1
        images = rng.integers(40, 220, (2, 96, 128, 3), np.uint8)
        images[:, ~seen] = 0
        share = Borders.of(images).share
        found.append(share >= (~seen).mean() - .01)
    assert np.mean(found) > .9


def test_how_far_a_border_reaches_in():
    assert seen_inside(40, 60).all()
    framed = seen_inside(100, 200, wide=(.1, .2))
    assert framed[10:-10, 10:-10].all() and framed.sum() == 80 * 180
    bowed = ~seen_inside(101, 201, wide=(.025, .045), bow=(.1, .2))
    assert bowed[50].sum() == bowed[:, 100].sum() == 2 * 13         # in the middle of the sides
    assert bowed[15].sum() == bowed[:, 30].sum() == 2 * 8           # nearer to their ends
    dark = ~seen_inside(101, 101, corners=(1, 1.25))                # a circle through (1, .5)
    assert dark[0, :25].all() and dark[:25, -1].all() and not dark[0, 26:-26].any() and not dark[50].any()
    assert dark[::100, ::100].all()
