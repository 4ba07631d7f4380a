"""PSCC-Net against golden numbers of the released network under deterministic weights."""

import copy
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from fill import fill
from tiled import distances, small_result, tiled_network
from torch import Tensor
from torch.nn import functional as F

from afbench.localizers.nets import pscc_net
from afbench.localizers.nets.pscc_net import PsccNet, published_probability

GOLDEN = Path(__file__).parent / "golden"
PUBLISHED = json.loads((GOLDEN / "pscc.state.json").read_text())
"""Entry name: shape, dtype, and the sum of its values under the deterministic weights."""


class Result(NamedTuple):
    """What one golden input gives."""

    probability: Tensor
    gradient: Tensor


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN / "pscc.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def network():
    """In float64, which changes no value: the weights are float32 numbers."""
    return fill(PsccNet(), "pscc").double()


def probability_and_gradient(network, golden, dtype):
    shape = tuple(golden["shape"])
    drawn = np.random.Generator(np.random.PCG64(int(golden["x_seed"]))).random(shape)
    chance = np.random.Generator(np.random.PCG64(int(golden["target_seed"]))).random(
        (shape[0], 1, *shape[2:])
    )
    image = torch.from_numpy(drawn).to(dtype).requires_grad_()
    probability = published_probability(network(image), *shape[2:])
    loss = F.binary_cross_entropy(probability, torch.from_numpy(chance > 0.5).to(dtype))
    (gradient,) = torch.autograd.grad(loss, image)
    return Result(probability.detach(), gradient)


def random(*shape, dtype=torch.float64):
    return torch.rand(*shape, dtype=dtype, generator=torch.Generator().manual_seed(0))


def distance(found, expected):
    """Largest difference of probability, and relative L2 distance of the gradient."""
    probability, gradient = torch.from_numpy(expected["prob"]), torch.from_numpy(expected["grad"])
    apart = (found.gradient - gradient).norm() / gradient.norm()
    return (found.probability - probability).abs().max().item(), apart.item()


def test_names_shapes_and_dtypes_are_the_published_ones_in_their_order():
    state = PsccNet().state_dict()
    assert list(state) == list(PUBLISHED)
    for name, value in state.items():
        assert [list(value.shape), str(value.dtype).removeprefix("torch.")] == PUBLISHED[name][:2], name


def test_the_deterministic_weights_have_the_published_sums(network):
    for name, value in network.state_dict().items():
        assert value.sum(dtype=torch.float64).item() == pytest.approx(PUBLISHED[name][2], abs=1e-6), name


@pytest.mark.slow
def test_float64_agrees_with_the_released_network(network, golden):
    probability, gradient = distance(probability_and_gradient(network, golden, torch.float64), golden)
    assert probability < 1e-5 and gradient < 1e-5


@pytest.fixture
def small_grids(monkeypatch):
    """Masks of a quarter of their sides: attention and its gradient over 64 x 64 and more take seconds."""
    monkeypatch.setattr(pscc_net, "GRIDS", tuple(side // 4 for side in pscc_net.GRIDS))


def test_a_small_image_gets_the_numbers_of_the_network_that_is_the_released_one(small_grids):
    network = tiled_network("pscc").double()
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    assert max(distances(small_result(network, "pscc"), "pscc")) < 1e-9
    assert list(network.state_dict()) == list(weights)
    assert all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())


def test_an_image_of_any_size_does_not_depend_on_its_batch(network, small_grids):
    image = random(2, 3, 17, 45)
    image[1] /= 4  # so that a statistic of the whole batch would show
    with torch.no_grad():
        together = network(image)
        assert together.shape == (2, 1, 64, 64)
        for row in range(2):
            torch.testing.assert_close(network(image[row : row + 1])[0], together[row], rtol=0, atol=1e-9)


def test_the_finest_mask_has_256_pixels_a_side_whatever_the_image(network):
    with torch.no_grad():
        logits = copy.deepcopy(network).float()(random(1, 3, 17, 45, dtype=torch.float32))
    assert logits.shape == (1, 1, 256, 256) and torch.isfinite(logits).all()


@pytest.mark.parametrize("shape", [(1, 3, 15, 64), (1, 3, 64, 15), (1, 1, 64, 64), (3, 64, 64)])
def test_other_shapes_are_refused_with_what_was_found(network, shape):
    with pytest.raises(ValueError, match=r"\(N, 3, H, W\) with H and W of 16 or more; found \(") as problem:
        network(torch.zeros(shape, dtype=torch.float64))
    assert str(shape) in str(problem.value)


def test_the_published_map_is_the_sigmoid_drawn_from_corner_to_corner():
    logit = 8 * random(2, 1, 256, 256) - 4
    probability = published_probability(logit, 31, 52)
    assert probability.shape == (2, 1, 31, 52)
    assert probability.min() > 0 and probability.max() < 1
    corners = torch.sigmoid(logit)[..., [0, 0, -1, -1], [0, -1, 0, -1]]
    torch.testing.assert_close(probability[..., [0, 0, -1, -1], [0, -1, 0, -1]], corners)
    assert torch.equal(published_probability(logit, 256, 256), torch.sigmoid(logit))


def test_the_encoder_and_the_attention_have_second_derivatives(network):
    image = random(1, 3, 16, 16).requires_grad_()
    scale = sum(one.square().mean() for one in network.HRNet(image))
    (slope,) = torch.autograd.grad(scale, image, create_graph=True)
    (bend,) = torch.autograd.grad(slope.square().sum(), image)
    assert torch.isfinite(bend).all() and bend.abs().sum() > 0
    features = random(3, 1, 4, 6).requires_grad_()
    assert torch.autograd.gradgradcheck(pscc_net._correlated, tuple(random(3, 2, 3, 5).requires_grad_()))
    assert torch.autograd.gradgradcheck(lambda one: published_probability(one, 3, 5), (features,))


def test_attention_weights_are_those_of_a_softmax_without_the_denormal_ones():
    scores = 300 * random(2, 64, 64, dtype=torch.float32)
    weights = pscc_net._weights(scores.clone())
    assert torch.equal(weights, weights * (weights > torch.finfo(torch.float32).tiny))
    torch.testing.assert_close(weights, torch.softmax(scores, dim=-1), rtol=0, atol=1e-17)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_attention_does_not_overflow_in_half_precision(dtype):
    value, theta, phi = (300 * random(3, 1, 8, 30, dtype=torch.float32)).to(dtype)
    for autocast in (False, True):
        with torch.autocast("cpu", dtype=dtype, enabled=autocast):
            for found in pscc_net._correlated(value, theta, phi):
                assert found.dtype == dtype and torch.isfinite(found).all()
