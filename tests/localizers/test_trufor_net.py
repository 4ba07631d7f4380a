"""Parts of TruFor's network against the plain form that they replace, and what of the release it never runs."""

import math

import numpy as np
import pytest
import torch
from fill import fill
from torch import nn

from afbench import load_localizer
from afbench.localizers.nets.trufor_net import TruForNet, _noise_layers, _Noiseprint, _statistics

OFFICIAL_LOGIT = 2.434523582458496
"""Of the detection of the official network under the weights of ``fill``, on the image of its golden vectors, in float32."""


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


def test_statistics_of_a_map_are_soft_extremes_mean_and_mean_square_under_weights():
    values = torch.tensor([[1.0, 2.0, 5.0]], dtype=torch.float64).reshape(1, 1, 1, 3)
    # shares of 1/8, 1/8 and 3/4
    low, high, mean, square = _statistics(values, torch.log(torch.tensor([[2.0, 2, 12]]).double())).tolist()[
        0
    ]
    shares = (0.125, 0.125, 0.75)
    assert mean == pytest.approx(0.125 + 0.25 + 3.75) and square == pytest.approx(0.125 + 0.5 + 18.75)
    assert low == pytest.approx(
        -math.log(sum(s * math.exp(-v) for s, v in zip(shares, (1, 2, 5), strict=True)))
    )
    assert high == pytest.approx(
        math.log(sum(s * math.exp(v) for s, v in zip(shares, (1, 2, 5), strict=True)))
    )


@pytest.mark.slow
def test_the_score_of_an_image_is_the_official_networks():
    with torch.device("meta"):
        network = TruForNet()
    network = fill(network, "trufor").double()
    image = torch.from_numpy(np.random.Generator(np.random.PCG64(101)).random((1, 3, 128, 128)))
    assert network.image_logit(image).item() == pytest.approx(OFFICIAL_LOGIT, abs=1e-6)


def test_an_image_has_one_score_that_does_not_depend_on_its_batch():
    localizer = load_localizer("trufor", "random")
    images = torch.rand(2, 3, 20, 40, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        scores = localizer.image_score(images)
        alone = torch.cat([localizer.image_score(image[None]) for image in images])
    assert scores.shape == (2,) and bool(((scores > 0) & (scores < 1)).all())
    torch.testing.assert_close(scores, alone, rtol=0, atol=1e-5)


def test_the_map_does_not_depend_on_the_heads_of_confidence_and_detection():
    with torch.device("meta"):
        network = TruForNet().eval()
    ran = []
    for name, module in network.named_modules():
        module.register_forward_hook(lambda *_, name=name: ran.append(name))
    logit = network(torch.rand(1, 3, 29, 40, device="meta"))
    assert logit.shape == (1, 1, 29, 40) and "decode_head.linear_pred" in ran
    assert not [name for name in ran if name.startswith(("decode_head_conf", "detection"))]
