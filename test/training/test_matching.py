"""The truth of which places show the same point, and the loss that asks for it."""
import pytest
import torch
import torch.nn.functional as F

from lsm_ros.model.heads import Cameras
from lsm_ros.model.network import NetworkOutput
from lsm_ros.training.losses import make_targets
from lsm_ros.training.matching import CELL, choose, correspondences, matching_loss, neighbours
from lsm_ros.world.stream import fixed_batch


def wall(shift_px=8.0, H=64, W=96, hidden=False):
    """Two views of a wall at 4 m; the second camera sees it `shift_px` further left. A near post may hide a part."""
    depth = torch.full((1, 2, H, W), 4.0)
    if hidden:
        depth[0, 1, :, 40:56] = 1.0
    K = torch.tensor([[80.0, 0, W / 2], [0, 80, H / 2], [0, 0, 1]]).expand(1, 2, 3, 3)
    T = torch.eye(4).repeat(1, 2, 1, 1)
    T[0, 1, 0, 3] = shift_px * 4 / 80
    label = torch.zeros(1, 2, H, W, dtype=torch.uint8)
    return make_targets(depth, label, K, T, torch.ones(1, dtype=torch.bool), offset=(0, 1))


def output_of(descriptors, unmatched=0.0):
    cameras = Cameras(*(torch.zeros(1) for _ in range(5)))
    return NetworkOutput(cameras, *(torch.zeros(1) for _ in range(3)), descriptors, torch.tensor(unmatched))


def wall_descriptors(shift_px, sharpness=4.0, H=64, W=96):
    """Logits -sharpness |difference|^2 / 2 of where the cells lie on the wall, as products of two vectors."""
    v, u = torch.meshgrid(torch.arange(H // CELL) + 0.5, torch.arange(W // CELL) + 0.5, indexing="ij")
    views = []
    for moved in (0.0, shift_px / CELL):
        x, y = u + moved - W / CELL / 2, v - H / CELL / 2
        views.append(torch.stack([x, y, -(x ** 2 + y ** 2) / 2, torch.ones_like(x)]))
    first, second = (view * torch.tensor([1.0, 1, 0, 1])[:, None, None] for view in views)
    first[2], first[3] = 1.0, views[0][2]
    second[2], second[3] = views[1][2], 1.0
    return sharpness ** 0.5 * torch.stack([first, second])[None]


def test_points_of_a_wall_move_as_the_camera_says():
    targets = wall()
    chosen = torch.arange(32 * 48).expand(1, 2, -1)
    start, place, visible, hidden = correspondences(targets, chosen, shift=1)
    assert torch.allclose(place[0, 0], start[0, 0] - torch.tensor([8.0, 0]), atol=1e-3)
    assert torch.allclose(place[0, 1], start[0, 1] + torch.tensor([8.0, 0]), atol=1e-3)
    assert torch.equal(visible[0, 0], place[0, 0, :, 0] >= 0)
    assert torch.equal(visible, ~hidden)


def test_what_a_post_hides_is_not_visible_and_the_unknown_is_neither():
    targets = wall(hidden=True)
    chosen = torch.arange(32 * 48).expand(1, 2, -1)
    _, place, visible, hidden = correspondences(targets, chosen, shift=1)
    behind = (place[0, 0, :, 0] > 42) & (place[0, 0, :, 0] < 54)
    assert behind.any() and hidden[0, 0, behind].all() and not visible[0, 0, behind].any()
    targets.mask[:] = False
    _, _, visible, hidden = correspondences(targets, chosen, shift=1)
    assert not visible.any() and not hidden.any()


def test_of_a_thin_overlap_most_is_asked_for_and_weighed_by_what_it_stands_for():
    visible, hidden = torch.zeros(2, 1000, dtype=torch.bool), torch.zeros(2, 1000, dtype=torch.bool)
    visible[0, 100:150], hidden[0, 200:] = True, True        # 50 visible, 800 hidden, 150 unknown
    hidden[1, :30] = True                                    # hardly anything is known
    chosen, stands_for = choose(visible, hidden, 200)
    assert all(len(row.unique()) == 200 for row in chosen)
    seen, unseen = visible.gather(1, chosen), hidden.gather(1, chosen)
    assert 40 <= seen[0].sum() <= 50 and seen[0].sum() + unseen[0].sum() == 200
    assert torch.isclose(stands_for[0][seen[0]].sum(), torch.tensor(50.0))
    assert torch.isclose(stands_for[0][unseen[0]].sum(), torch.tensor(800.0))
    assert unseen[1].sum() == 30 and (stands_for[1][unseen[1]] == 1).all()
    assert stands_for[1].sum() == 30 and not seen[1].any()


def test_matching_views_share_the_same_things_in_rendered_rooms():
    """An independent witness: a point and its match belong to the same object."""
    batch = fixed_batch([3, 4], (96, 128), 3, "cpu")
    targets = make_targets(batch.depth, batch.label, batch.K, batch.T_world_cam, batch.valid, (0, 0))
    halved = batch.instance[:, :, ::2, ::2]
    around = F.max_pool2d(halved.float(), 3, 1, 1), -F.max_pool2d(-halved.float(), 3, 1, 1)
    inside = (around[0] == around[1]).flatten(2)         # a place is a pixel off at most, which tells on an outline
    instance = halved.flatten(2)
    chosen = torch.randint(instance.shape[-1], (2, 3, 500))
    _, place, visible, _ = correspondences(targets, chosen, shift=1)
    column, row = (place / 2).long().unbind(-1)
    there = (row.clamp(0, 47) * 64 + column.clamp(0, 63))
    same = instance.gather(2, chosen) == instance.roll(-1, dims=1).gather(2, there)
    told = visible & inside.gather(2, chosen) & inside.roll(-1, dims=1).gather(2, there)
    assert told.sum() > 200
    assert same[told].float().mean() > 0.99


def test_descriptors_that_know_the_wall_have_little_loss_and_others_much():
    targets = wall()
    good = matching_loss(output_of(wall_descriptors(8.0), unmatched=-6.0), targets, shift=1)
    assert good["hit"] > 0.99
    assert good["place"] < 0.15
    wrong = matching_loss(output_of(wall_descriptors(-8.0), unmatched=-6.0), targets, shift=1)
    assert wrong["hit"] < 0.05
    assert wrong["match"] > good["match"] + 5
    assert wrong["place"] > 1


def test_an_invalid_window_has_no_loss():
    targets = wall()
    targets.valid[:] = 0
    parts = matching_loss(output_of(wall_descriptors(-8.0)), targets, shift=1)
    assert all(part == 0 for part in parts.values())


def test_neighbours_weigh_as_bilinear_interpolation():
    image = torch.arange(12.0).view(1, 12)                                   # value = 4 row + column
    found = neighbours(torch.tensor([1.25, 0.5]), 3, 4)
    value = sum(image[0, index] * weight for index, weight in found)
    assert value.item() == pytest.approx(4 * 0.5 + 1.25)


def test_what_has_moved_is_matched_nowhere_and_what_stands_still_is():
    """The right half of a wall may be a thing that is carried away, and another just like it put there."""
    depth = torch.full((1, 2, 64, 96), 4.0)
    K = torch.tensor([[80.0, 0, 48], [0, 80, 32], [0, 0, 1]]).expand(1, 2, 3, 3)
    body = torch.zeros(1, 2, 64, 96, dtype=torch.uint8)
    body[..., 48:] = 2
    chosen = torch.arange(32 * 48).expand(1, 2, -1)
    column = chosen[0, 0] % 48
    for metres in (0.02, 0.5):
        displaced = torch.zeros(1, 2, 2, 4)
        displaced[:, 0, 1, 2] = displaced[:, 1, 0, 2] = metres
        targets = make_targets(depth, torch.zeros(1, 2, 64, 96, dtype=torch.uint8), K, torch.eye(4).repeat(1, 2, 1, 1),
                               torch.ones(1, dtype=torch.bool), (2, 3), body, displaced)
        _, _, visible, hidden = correspondences(targets, chosen, shift=1)
        gone = (column >= 24) & (metres > 0.1)
        assert torch.equal(visible[0, 0], ~gone) and torch.equal(hidden[0, 0], gone)
        assert torch.equal(targets.moving[0, 0], ((torch.arange(24) >= 12) & (metres > 0.1)).expand(16, 24))
