"""Matches are read from descriptors where two views share something, and nowhere else."""
import numpy as np
import pytest
import torch

from lsm_ros.model import matching
from lsm_ros.model.matching import find_places, to_matches

ROWS, COLUMNS = 24, 32


def wall(seed=0, rows=ROWS, columns=3 * COLUMNS):
    """Descriptors (M, rows, columns) of a wall: smooth noise, so that neighbours are alike and far places are not."""
    noise = torch.randn(1, 64, rows // 2, columns // 2, generator=torch.Generator().manual_seed(seed))
    smooth = torch.nn.functional.interpolate(noise, (rows, columns), mode="bicubic", align_corners=False)[0]
    return 6 * torch.nn.functional.normalize(smooth, dim=0)


def window(wall, *starts):
    return torch.stack([wall[:, :, start:start + COLUMNS] for start in starts])


@torch.inference_mode()
def match_views(descriptors, unmatched):
    """The matches, and the overlap (S, S)."""
    found = {name: value.numpy() for name, value in find_places(descriptors, unmatched).items()}
    return to_matches(found, descriptors.shape[2:]), found["overlap"]


def test_places_of_a_shifted_view():
    matches, overlap = match_views(window(wall(), 20, 28), torch.tensor(25.0))
    forth = matches.a == 0
    assert forth.sum() > 0.6 * (ROWS / 2) * (COLUMNS / 2) * 0.75             # of the points that both views show
    moved = (matches.shares_b - matches.shares_a) * (COLUMNS, ROWS)
    assert np.median(np.abs(moved[forth] - (-8, 0)), axis=0) == pytest.approx([0, 0], abs=0.2)
    assert np.median(np.abs(moved[~forth] - (8, 0)), axis=0) == pytest.approx([0, 0], abs=0.2)
    assert overlap[0, 1] == pytest.approx(0.75, abs=0.12)
    assert overlap[1, 0] == pytest.approx(0.75, abs=0.12)
    assert overlap.diagonal().tolist() == [1, 1]


def test_views_that_share_nothing_say_so():
    matches, overlap = match_views(torch.cat([window(wall(0), 0), window(wall(1), 0)]), torch.tensor(25.0))
    assert len(matches.a) < 10
    assert overlap[0, 1] < 0.1


def test_each_pair_of_a_window_is_matched_both_ways():
    matches, overlap = match_views(window(wall(), 20, 24, 28), torch.tensor(25.0))
    assert {(a, b) for a, b in zip(matches.a.tolist(), matches.b.tolist())} == \
        {(a, b) for a in range(3) for b in range(3) if a != b}
    assert overlap[0, 1] > overlap[0, 2]


def test_one_view_has_no_matches():
    matches, overlap = match_views(window(wall(), 0), torch.tensor(25.0))
    assert len(matches.a) == len(matches.shares_a) == 0
    assert overlap.tolist() == [[1]]


def test_points_are_looked_for_a_few_at_a_time_and_nothing_changes(monkeypatch):
    views = window(wall(), 20, 28, 30)
    whole, overlap = match_views(views, torch.tensor(25.0))
    monkeypatch.setattr(matching, "ROWS", 37)
    parts, overlap_of_parts = match_views(views, torch.tensor(25.0))
    for name, values in vars(whole).items():
        np.testing.assert_allclose(getattr(parts, name), values, rtol=1e-4)
    np.testing.assert_allclose(overlap_of_parts, overlap, rtol=1e-4)
