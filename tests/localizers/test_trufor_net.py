"""Parts of TruFor's network against the plain form that they replace, and what of the release it never runs."""

import pytest
import torch
from torch import nn

from afbench.localizers.nets.trufor_net import TruForNet, _noise_layers, _Noiseprint


@pytest.fixture
def noiseprint():
    torch.manual_seed(0)
    module = _Noiseprint(*_noise_layers()).double().eval().requires_grad_(False)
    for norm in (part for part in module if isinstance(part, nn.BatchNorm2d)):
        norm.running_mean.uniform_(-1, 1)
        norm.running_var.uniform_(0.5, 2)
        norm.weight.uniform_(0.5, 2)
        norm.bias.uniform_(-1, 1)
    return module


def test_norms_inside_convolutions_are_those_after_them(noiseprint):
    image = torch.rand(2, 3, 9, 11, dtype=torch.float64)
    plain = nn.Sequential(*noiseprint)
    torch.testing.assert_close(noiseprint(image), plain(image), rtol=0, atol=1e-12)
    noiseprint.train()  # there the norms depend on the images
    assert not torch.allclose(noiseprint(image), noiseprint.eval()(image))


def test_norms_inside_convolutions_halve_what_a_gradient_keeps(noiseprint):
    image = torch.rand(1, 3, 32, 32, dtype=torch.float64, requires_grad=True)
    kept = []
    for module in (noiseprint, nn.Sequential(*noiseprint)):
        saved = {}
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor, saved=saved: saved.setdefault(tensor.data_ptr(), tensor), lambda tensor: tensor
        ):
            module(image)
        kept.append(sum(tensor.shape[-2:] == (32, 32) for tensor in saved.values()))
    # the image and 16 maps; 15 inputs of norms come on top
    assert kept == [17, 32]


def test_the_map_does_not_depend_on_the_heads_of_confidence_and_detection():
    with torch.device("meta"):
        network = TruForNet().eval()
    ran = []
    for name, module in network.named_modules():
        module.register_forward_hook(lambda *_, name=name: ran.append(name))
    logit = network(torch.rand(1, 3, 29, 40, device="meta"))
    assert logit.shape == (1, 1, 29, 40) and "decode_head.linear_pred" in ran
    assert not [name for name in ran if name.startswith(("decode_head_conf", "detection"))]
