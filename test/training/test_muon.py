"""torch's own Muon says what is right."""
import pytest
import torch

from lsm_ros.training.muon import Muon

SHAPES = ((24, 8), (24, 8), (8, 8), (8, 24), (8, 8))


@pytest.mark.parametrize("options", [{}, {"adjust_lr_fn": "match_rms_adamw", "weight_decay": 0.3}, {"nesterov": False}])
def test_it_steps_as_torch_does(options):
    torch.manual_seed(0)
    start = [torch.randn(shape) for shape in SHAPES]
    both = []
    for kind in (torch.optim.Muon, Muon):
        matrices = [torch.nn.Parameter(matrix.clone()) for matrix in start]
        optimizer = kind(matrices, lr=0.1, **options)
        random = torch.Generator().manual_seed(1)
        for step in range(3):
            for k, matrix in enumerate(matrices):
                gradient = torch.randn(matrix.shape, generator=random)
                matrix.grad = None if (k, step) == (1, 1) else gradient         # one that was not used in that step
            optimizer.step()
        both.append((matrices, optimizer))
    for theirs, ours, was in zip(both[0][0], both[1][0], start, strict=True):
        assert (theirs - was).norm() > 0.05
        assert torch.allclose(theirs, ours, atol=0.02 * (theirs - was).norm().item())
    state, expected = both[1][1].state_dict(), both[0][1].state_dict()
    assert state["param_groups"] == expected["param_groups"]
    for k, values in expected["state"].items():
        assert torch.allclose(values["momentum_buffer"], state["state"][k]["momentum_buffer"], atol=1e-6)


def test_a_closure_is_refused():
    with pytest.raises(ValueError, match="closure"):
        Muon([torch.nn.Parameter(torch.eye(2))]).step(lambda: 0.0)
