"""The loss is nought where the prediction is the truth, and its targets are the truth."""
import pytest
import torch

from lsm_ros.model.heads import Cameras
from lsm_ros.model.network import NetworkOutput
from lsm_ros.training.losses import class_weights, loss, make_priors, make_targets
from lsm_ros.world.renderer import NO_LABEL


@pytest.fixture
def truth():
    """Two windows of three views of a wall at z = 4 m, moving sideways and turning about the optical axis."""
    torch.manual_seed(0)
    B, S, H, W = 2, 3, 32, 48
    depth = torch.full((B, S, H, W), 4.0)
    label = torch.randint(0, 5, (B, S, H, W), dtype=torch.uint8)
    K = torch.tensor([[40.0, 0, 24], [0, 40, 16], [0, 0, 1]]).expand(B, S, 3, 3)
    T_world_cam = torch.eye(4).repeat(B, S, 1, 1)
    T_world_cam[:, :, 0, 3] = torch.tensor([5.0, 5.5, 6.0])
    cos, sin = torch.tensor(0.1).cos(), torch.tensor(0.1).sin()
    T_world_cam[:, 2, :2, :2] = torch.tensor([[cos, -sin], [sin, cos]])
    return depth, label, K, T_world_cam, torch.ones(B, dtype=torch.bool)


def perfect(targets, text):
    cameras = Cameras(targets.rotation, targets.translation, targets.focal.log(), targets.scale.log(),
                      torch.full(targets.translation.shape[:2], 1e-3).log())
    depth = targets.depth.log()
    return NetworkOutput(cameras, depth, torch.full_like(depth, -8), text[targets.label].movedim(-1, 2))


def test_targets(truth):
    t = make_targets(*truth, offset=(1, 0))
    assert t.depth.shape == (2, 3, 16, 24)
    assert t.label.shape == (2, 3, 8, 12)
    assert torch.equal(t.label, truth[1][:, :, 1::4, 0::4].long())
    assert torch.equal(make_targets(*truth, offset=(3, 2)).label, truth[1][:, :, 3::4, 2::4].long())
    assert torch.equal(make_targets(*truth, offset=(3, 2)).depth, t.depth)
    assert torch.allclose(t.translation[0] * t.scale[0], torch.tensor([[0.0, 0, 0], [0.5, 0, 0], [1, 0, 0]]), atol=1e-6)
    assert torch.allclose(t.points[:, :, :, :, 2] * t.scale[:, None, None, None], torch.tensor(4.0))
    assert torch.allclose((t.points.norm(dim=-1)).mean((1, 2, 3)), torch.ones(2))   # the unit of a window
    assert t.focal[0] == pytest.approx(40 / 48)
    assert torch.allclose(t.rays[0, 0, 3, 5], torch.tensor([(10.5 - 24) / 40, (7.5 - 16) / 40]))


def test_the_truth_has_no_loss(truth):
    targets = make_targets(*truth, offset=(0, 1))
    text = torch.eye(5)
    total, parts = loss(perfect(targets, text), targets, text, logit_scale=50.0)
    assert total < 1e-2
    assert all(part < 1e-2 for part in parts.values())


@pytest.mark.parametrize("part", ["translation", "rotation", "focal", "scale", "depth", "semantic"])
def test_each_error_is_felt(truth, part):
    targets = make_targets(*truth, offset=(0, 0))
    text = torch.eye(5)
    output = perfect(targets, text)
    if part == "translation":
        output.cameras.translation = output.cameras.translation + 0.1
    elif part == "rotation":
        output.cameras.rotation = torch.eye(3).expand_as(output.cameras.rotation)
    elif part == "focal":
        output.cameras.log_focal = output.cameras.log_focal + 0.2
    elif part == "scale":
        output.cameras.log_scale = output.cameras.log_scale + 0.2
    elif part == "depth":
        output.log_depth = output.log_depth + 0.2
    else:
        output.semantics = output.semantics.flip(2)
    total, parts = loss(output, targets, text, logit_scale=50.0)
    assert parts[part] > 0.03
    assert total > 0.03


def test_views_whose_pose_is_hardly_known_weigh_less(truth):
    targets = make_targets(*truth, offset=(0, 0))
    text = torch.eye(5)
    gradients = []
    for doubt in (0.0, 1.0):                             # of the second of three views
        output = perfect(targets, text)
        output.cameras.log_error = torch.tensor([0.1, 0.1 + doubt, 0.1]).log().expand(2, 3)
        moved = (targets.translation + 0.2).requires_grad_()
        output.cameras.translation = moved
        output.log_confidence[:] = -100.0
        loss(output, targets, text, logit_scale=50.0)[1]["poses"].backward()
        gradients.append(moved.grad[0].norm(dim=-1))
    assert gradients[0][1] == pytest.approx(gradients[0][2].item())
    assert gradients[1][1] == pytest.approx(gradients[1][2].item() * 0.15 / 1.15)
    assert gradients[1][1:].sum() == pytest.approx(gradients[0][1:].sum().item())


def test_invalid_windows_and_unknown_depth_do_not_count(truth):
    depth, label, K, T_world_cam, valid = truth
    depth = depth.clone()
    depth[0, :, :4] = 0.0                              # no depth
    valid = torch.tensor([True, False])
    targets = make_targets(depth, label, K, T_world_cam, valid, offset=(0, 0))
    text = torch.eye(5)
    output = perfect(targets, text)
    output.log_depth = output.log_depth.clone()
    output.log_depth[1] += 1.0                         # an error in the window that is not valid
    output.log_depth[0, :, :2] = 3.0                   # and where depth is not known
    total, _ = loss(output, targets, text, logit_scale=50.0)
    assert total < 1e-2


def test_priors_are_the_truth_in_metres_with_small_errors(truth):
    torch.manual_seed(1)
    targets = make_targets(*truth, offset=(0, 0))
    priors = make_priors(targets, share=1.0)
    assert priors.motion_known.all()
    assert torch.allclose(priors.motion[:, 2, :3, 3], torch.tensor([1.0, 0, 0]), atol=0.2)
    assert not torch.allclose(priors.motion[:, 2, :3, 3], torch.tensor([1.0, 0, 0]), atol=1e-4)
    assert torch.allclose(priors.motion[..., :3, :3], targets.rotation, atol=0.06)
    assert priors.depth.shape == (2, 3, 2, 3)                           # a value a patch
    assert torch.allclose(priors.depth[priors.depth > 0], torch.tensor(4.0), atol=0.4)
    none = make_priors(targets, share=0.0)
    assert not none.motion_known.any() and not none.depth.any()


def test_rare_classes_weigh_more():
    label = torch.tensor([0] * 96 + [1] * 4)
    weight = class_weights(label, 3)
    assert weight[1] > 2 * weight[0]
    assert weight[label].mean() == pytest.approx(1, abs=1e-3)


def test_what_moves_is_asked_for_where_several_views_tell(truth):
    depth, label, *others = truth
    label[0, :, :8] = NO_LABEL                                                 # a border tells nothing
    body = (torch.arange(48) >= 24).to(torch.uint8).expand(2, 3, 32, 48)
    displaced = torch.zeros(2, 3, 3, 2)
    displaced[0, 0, 1:, 1] = displaced[0, 1:, 0, 1] = 0.3          # in the first window, after its first view
    targets = make_targets(depth, label, *others, (0, 0), body, displaced)
    assert targets.moving[0, :, :, 6:].all() and not targets.moving[0, :, :, :6].any() and not targets.moving[1].any()
    output = perfect(targets, torch.eye(256))

    def motion(logits):
        output.moving = logits
        return loss(output, targets, torch.eye(256), logit_scale=50.0)[1]["moving"]

    right = torch.where(targets.moving, 20.0, -20.0)
    unknown = targets.label == NO_LABEL
    assert motion(right) < 1e-6
    assert motion(torch.where(unknown, -right, right)) < 1e-6
    missed, false = (torch.where(where, -right, right) for where in (targets.moving, ~targets.moving))
    share = (targets.moving & ~unknown).sum() / (~unknown).sum()
    assert motion(missed) == pytest.approx(float(4 * 20 * share), rel=1e-4)
    assert motion(false) == pytest.approx(float(20 * (1 - share)), rel=1e-4)
    alone = make_targets(*(part[:, :1] for part in (depth, label, *others[:2])), others[2], (0, 0))
    output = perfect(alone, torch.eye(256))
    output.moving = torch.full(alone.label.shape, 20.0, requires_grad=True)
    assert loss(output, alone, torch.eye(256), logit_scale=50.0)[1]["moving"] == 0
