"""torch's own Muon says what is right."""
import subprocess
import sys

import pytest
import torch
import torch.distributed as dist

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


def stepped() -> list[torch.Tensor]:
    """What three of a shape, more than there are processes, and one of another become in two steps."""
    random = torch.Generator().manual_seed(0)
    matrices = [torch.nn.Parameter(torch.randn(shape, generator=random)) for shape in SHAPES[:2] + SHAPES[1:3]]
    optimizer = Muon(matrices, lr=0.1)
    for _ in range(2):
        for matrix in matrices:
            matrix.grad = torch.randn(matrix.shape, generator=random)
        optimizer.step()
    return [matrix.detach() for matrix in matrices]


def test_processes_share_the_work(tmp_path):
    both = [subprocess.Popen([sys.executable, __file__, str(rank), tmp_path]) for rank in range(2)]
    assert [process.wait(120) for process in both] == [0, 0]
    for rank in range(2):
        for ours, alone in zip(torch.load(tmp_path / f"{rank}.pt"), stepped(), strict=True):
            assert torch.allclose(ours, alone, atol=1e-6)


def test_a_closure_is_refused():
    with pytest.raises(ValueError, match="closure"):
        Muon([torch.nn.Parameter(torch.eye(2))]).step(lambda: 0.0)


if __name__ == "__main__":              # one of the processes of test_processes_share_the_work
    rank, folder = sys.argv[1:]
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=int(rank), world_size=2)
    torch.save(stepped(), f"{folder}/{rank}.pt")
    dist.barrier()                      # who leaves while the other still talks makes it abort
    dist.destroy_process_group()
