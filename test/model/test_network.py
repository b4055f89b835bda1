"""The network's shapes, its cost, and what must not depend on what."""
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from lsm_ros.model import blocks
from lsm_ros.model.blocks import attend, rotary_angles, rotate
from lsm_ros.model.heads import rotation_from_6d
from lsm_ros.model.network import Network, Priors, leave_one_out, token_rays


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return Network().eval()


def views(count, height=96, width=128, known=True):
    K = torch.tensor([[0.8 * width, 0, width / 2], [0, 0.8 * width, height / 2], [0, 0, 1]]).expand(1, count, 3, 3)
    return torch.rand(1, count, 3, height, width), K, torch.full((1, count), known)


@pytest.mark.parametrize("count", [1, 2, 8])
@pytest.mark.parametrize("size", [(96, 128), (80, 144), (144, 80)])
@torch.no_grad()
def test_shapes(network, count, size):
    output = network(*views(count, *size))
    height, width = size
    assert output.log_depth.shape == output.log_confidence.shape == (1, count, height // 2, width // 2)
    assert output.semantics.shape == (1, count, 64, height // 4, width // 4)
    assert torch.allclose(output.semantics.norm(dim=2), torch.ones(()), atol=1e-4)
    assert output.cameras.rotation.shape == (1, count, 3, 3)
    assert output.cameras.log_focal.shape == output.cameras.log_scale.shape == (1,)


def test_cost_stays_within_its_budget(network):
    """What the network was designed for: 30 M parameters, 46 GFLOP for four views, 27.2 for one new keyframe."""
    assert sum(parameter.numel() for parameter in network.parameters()) < 30e6
    inputs = views(4, 192, 256)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):    # the fused CPU attention is not counted
        with FlopCounterMode(display=False) as encoder:
            frames = network.encode(*(value[0] for value in inputs))
        with FlopCounterMode(display=False) as decoder:
            network.decode(frames, 4)
    encoder, decoder = encoder.get_total_flops() / 1e9, decoder.get_total_flops() / 1e9
    assert encoder + decoder < 46
    assert encoder / 4 + decoder < 27.2


@torch.no_grad()
def test_a_frame_is_encoded_alone(network):
    images, K, known = (value[0] for value in views(3))
    together = network.encode(images, K, known)
    alone = network.encode(images[1:2], K[1:2], known[1:2])
    assert torch.allclose(together.tokens[1:2], alone.tokens, atol=1e-4)


@torch.no_grad()
def test_other_views_may_come_in_any_order(network):
    images, K, known = views(4)
    output = network(images, K, known)
    order = [0, 3, 1, 2]
    shuffled = network(images[:, order], K[:, order], known)
    assert torch.allclose(shuffled.cameras.translation, output.cameras.translation[:, order], atol=1e-4)
    assert torch.allclose(shuffled.log_depth, output.log_depth[:, order], atol=1e-3)


@torch.no_grad()
def test_unknown_intrinsics_are_not_looked_at(network):
    images, K, unknown = views(2, known=False)
    first, second = network(images, K, unknown), network(images, torch.full_like(K, float("nan")), unknown)
    assert torch.equal(first.log_depth, second.log_depth)
    known = network(images, K, ~unknown)
    assert not torch.allclose(first.log_depth, known.log_depth, atol=1e-4)


@torch.no_grad()
def test_priors_are_used_where_they_are_known_and_only_there(network):
    images, K, known = views(3)
    plain = network(images, K, known)
    torch.nn.init.normal_(network.motion.weight, std=0.1)              # a new network has zeros there
    torch.nn.init.normal_(network.sparse_depth.weight, std=0.1)
    motion, depth = torch.eye(4).repeat(1, 3, 1, 1), torch.zeros(1, 3, 6, 8)
    motion[0, 1, 0, 3] = torch.nan
    nothing = network(images, K, known, Priors(motion, torch.zeros(1, 3, dtype=torch.bool), depth))
    assert torch.equal(nothing.log_depth, plain.log_depth)
    motion[0, 1, 0, 3] = 0.5
    moved = network(images, K, known, Priors(motion=motion, motion_known=torch.ones(1, 3, dtype=torch.bool)))
    assert not torch.allclose(moved.cameras.translation, plain.cameras.translation, atol=1e-4)
    depth[0, 2, 3, 4] = 2.0
    measured = network(images, K, known, Priors(depth=depth))
    assert not torch.allclose(measured.log_depth[0, 2], plain.log_depth[0, 2], atol=1e-5)
    torch.nn.init.zeros_(network.motion.weight)
    torch.nn.init.zeros_(network.sparse_depth.weight)


def test_token_rays_point_at_the_patches():
    K = torch.tensor([[[100.0, 0, 32], [0, 50, 16], [0, 0, 1]]])
    rays = token_rays(K, torch.tensor([True]), rows=2, columns=4)
    assert torch.allclose(rays[0, 0], torch.tensor([(8 - 32) / 100, (8 - 16) / 50, torch.tensor(100 / 64).log(), 1]))
    assert torch.allclose(rays[0, -1, :2], torch.tensor([(56 - 32) / 100, (24 - 16) / 50]))


def test_rotary_attention_depends_on_offsets_alone():
    angles = rotary_angles(rows=4, columns=4, channels=16, special=1)
    query, key = torch.randn(16), torch.randn(16)

    def product(i, j):
        return rotate(query, angles[:, i]) @ rotate(key, angles[:, j])

    at = lambda row, column: 1 + 4 * row + column    # noqa: E731
    assert torch.allclose(product(at(0, 0), at(1, 2)), product(at(2, 1), at(3, 3)), atol=1e-5)
    assert torch.equal(rotate(query, angles[:, 0]), query)


@torch.inference_mode()
@pytest.mark.parametrize("scores", [1, 5000, 10**9])                # a head at a time, some, all
def test_attention_in_products_is_attention(monkeypatch, scores):
    monkeypatch.setattr(blocks, "SCORES", scores)
    torch.manual_seed(0)
    q, k, v = torch.randn(2, 40, 3, 5, 16, dtype=torch.bfloat16).permute(2, 0, 3, 1, 4)
    exact = torch.nn.functional.scaled_dot_product_attention(q.double(), k.double(), v.double())
    torch.testing.assert_close(attend(q, k, v).double(), exact, atol=0.02, rtol=0.02)
    torch.testing.assert_close(attend(q.float(), k.float(), v.float()).double(), exact, atol=1e-5, rtol=1e-5)


def test_rotations_are_rotations():
    rotation = rotation_from_6d(torch.randn(100, 6))
    assert torch.allclose(rotation @ rotation.transpose(-1, -2), torch.eye(3).expand(100, 3, 3), atol=1e-5)
    assert torch.allclose(torch.linalg.det(rotation), torch.ones(100), atol=1e-5)
    assert torch.equal(rotation_from_6d(torch.zeros(6)), torch.eye(3))


def test_of_a_share_of_the_frames_one_of_two_paths_says_nothing():
    torch.manual_seed(0)
    first, second = torch.randn(400, 8, 2, 3), torch.randn(400, 8, 2, 3)
    left, right = leave_one_out(first, second, 0.3)
    kept = torch.stack([(left == first).all(dim=(1, 2, 3)), (right == second).all(dim=(1, 2, 3))])
    assert kept.any(dim=0).all()                                  # never both
    assert 0.08 < (~kept[0]).float().mean() < 0.22 and 0.08 < (~kept[1]).float().mean() < 0.22
    assert left[~kept[0]].std(dim=(0, 2, 3)).max() < 1e-6         # nothing of the image is left of it


def test_frames_keep_both_paths_outside_of_training(network):
    images, K = torch.rand(4, 3, 64, 64), torch.eye(3).expand(4, 3, 3)
    plain = network.encode(images, K, torch.zeros(4, dtype=torch.bool)).tokens
    network.one_path = 1.0
    try:
        assert torch.equal(network.encode(images, K, torch.zeros(4, dtype=torch.bool)).tokens, plain)
    finally:
        network.one_path = 0.0
