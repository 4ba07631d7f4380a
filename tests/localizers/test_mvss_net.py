"""MVSS-Net against golden numbers of the released network under deterministic weights."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from fill import fill
from tiled import undrawn_network
from torch import Tensor
from torch.nn import functional as F

from afbench.localizers.nets.mvss_net import ChannelAttention, ConstrainedConv, MvssNet, PositionAttention

GOLDEN = Path(__file__).parent / "golden"
PUBLISHED = json.loads((GOLDEN / "mvss.state.json").read_text())
"""Entry name: shape, dtype, and the sum of its values under the deterministic weights."""


class Result(NamedTuple):
    """What one golden input gives."""

    probability: Tensor
    gradient: Tensor


class Filled(NamedTuple):
    """The network in float64 (exact: the weights are float32 numbers), and its entries before it was widened."""

    network: MvssNet
    state: dict[str, list]


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN / "mvss.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def filled():
    network = fill(undrawn_network("mvss"), "mvss")
    state = {
        name: [
            list(value.shape),
            str(value.dtype).removeprefix("torch."),
            value.sum(dtype=torch.float64).item(),
        ]
        for name, value in network.state_dict().items()
    }
    return Filled(network.double(), state)


@pytest.fixture(scope="module")
def network(filled):
    return filled.network


@pytest.fixture
def unfrozen_network(network):
    """The shared network, given its own noise filters back afterwards."""
    own = network.constrain_conv
    yield network
    network.constrain_conv = own


def probability_and_gradient(network, golden, dtype):
    shape = tuple(golden["shape"])
    drawn = np.random.Generator(np.random.PCG64(int(golden["x_seed"]))).random(shape)
    chance = np.random.Generator(np.random.PCG64(int(golden["target_seed"]))).random(
        (shape[0], 1, *shape[2:])
    )
    image = torch.from_numpy(drawn).to(dtype).requires_grad_()
    probability = torch.sigmoid(network(image))
    loss = F.binary_cross_entropy(probability, torch.from_numpy(chance > 0.5).to(dtype))
    (gradient,) = torch.autograd.grad(loss, image)
    return Result(probability.detach(), gradient)


def noise_image(*shape, dtype=torch.float64, seed=0):
    return torch.rand(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def distance(found, expected):
    """Largest difference of probability, and relative L2 distance of the gradient."""
    probability, gradient = torch.from_numpy(expected["prob"]), torch.from_numpy(expected["grad"])
    apart = (found.gradient - gradient).norm() / gradient.norm()
    return (found.probability - probability).abs().max().item(), apart.item()


def test_names_shapes_and_dtypes_are_the_published_ones_in_their_order(filled):
    assert list(filled.state) == list(PUBLISHED)
    assert {name: entry[:2] for name, entry in filled.state.items()} == {
        name: entry[:2] for name, entry in PUBLISHED.items()
    }


def test_the_deterministic_weights_have_the_published_sums(filled):
    for name, (*_, total) in PUBLISHED.items():
        assert filled.state[name][2] == pytest.approx(total, rel=1e-9, abs=1e-6), name


def test_float64_agrees_with_the_released_network(network, golden):
    probability, gradient = distance(probability_and_gradient(network, golden, torch.float64), golden)
    assert probability < 1e-5 and gradient < 1e-5


def test_an_image_does_not_depend_on_its_batch(network):
    image = noise_image(2, 3, 33, 50)
    with torch.no_grad():
        together = network(image)
        for row in range(2):
            torch.testing.assert_close(network(image[row : row + 1])[0], together[row], rtol=0, atol=1e-9)


@pytest.mark.parametrize("size", [(16, 16), (17, 61), (60, 40)])
def test_any_size_of_16_and_more_has_a_logit_for_each_pixel(network, size):
    with torch.no_grad():
        logits = network(noise_image(1, 3, *size))
    assert logits.shape == (1, 1, *size) and logits.dtype == torch.float64
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize("shape", [(1, 3, 15, 64), (1, 3, 64, 15), (1, 1, 64, 64), (3, 64, 64)])
def test_other_shapes_are_refused_with_what_was_found(network, shape):
    with pytest.raises(ValueError, match=r"\(N, 3, H, W\) with H and W of 16 at least; found \(") as problem:
        network(torch.zeros(shape, dtype=torch.float64))
    assert str(shape) in str(problem.value)


def test_a_forward_and_backward_pass_changes_nothing(network):
    before = fingerprints(network)
    image = noise_image(1, 3, 32, 32).requires_grad_()
    kept = image.detach().clone()
    first = network(image)
    torch.autograd.grad(first.sum(), image)
    assert torch.equal(image, kept)
    assert fingerprints(network) == before
    assert torch.equal(network(image), first)


def fingerprints(network):
    """Sums, since a copy of the state would take another gigabyte, and how often torch has written to each entry."""
    return {name: (value.sum().item(), value._version) for name, value in network.state_dict().items()}


def test_the_gradient_has_a_gradient(network):
    image = noise_image(1, 3, 16, 16).requires_grad_()
    (slope,) = torch.autograd.grad(network(image).sum(), image, create_graph=True)
    (bend,) = torch.autograd.grad(slope.square().sum(), image)
    assert torch.isfinite(bend).all() and bend.abs().sum() > 0


def test_frozen_noise_filters_give_the_same_answer(unfrozen_network):
    image = noise_image(1, 3, 48, 32)
    kernel = unfrozen_network.constrain_conv.kernel.clone()
    with torch.no_grad():
        expected = unfrozen_network(image)
        unfrozen_network.freeze_bayar()
        assert torch.equal(unfrozen_network(image), expected)
    frozen = unfrozen_network.constrain_conv
    assert torch.equal(frozen.kernel, kernel) and not (
        frozen.kernel.requires_grad or frozen.weight.requires_grad
    )
    assert unfrozen_network.state_dict().keys() == PUBLISHED.keys()
    filters = frozen.weight.view(3, 25)
    assert (filters[:, 12] == -1).all()
    taps = torch.cat([filters[:, :12], filters[:, 13:]], dim=1)
    torch.testing.assert_close(taps, kernel[0] / kernel[0].sum(dim=1, keepdim=True))
    unfrozen_network.freeze_bayar()
    assert unfrozen_network.constrain_conv is frozen


@pytest.mark.parametrize("taps", [[0.0] * 24, [0.1, 0.2, -0.3] * 8, [float("nan")] + [1.0] * 23])
def test_filters_that_cannot_be_normalised_are_refused(unfrozen_network, taps):
    unfrozen_network.constrain_conv = unsound = ConstrainedConv()
    with torch.no_grad():
        unsound.kernel[0, 1] = torch.tensor(taps)
    with pytest.raises(ValueError, match="24 taps of filter 1 must have a finite sum other than zero"):
        unfrozen_network.freeze_bayar()
    assert unfrozen_network.constrain_conv is unsound


def test_freezing_draws_no_random_numbers():
    unfrozen = ConstrainedConv()
    state = torch.get_rng_state()
    unfrozen.frozen()
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("attention", [PositionAttention(32, 8), ChannelAttention()])
def test_attention_does_not_overflow_in_half_precision(attention, dtype):
    features = (300 * noise_image(1, 32, 6, 5, dtype=torch.float32)).to(dtype)
    with torch.no_grad():
        for weight in attention.parameters():
            weight.fill_(0.5)
        seen = attention.to(dtype)(features)
    assert seen.dtype == dtype and torch.isfinite(seen).all() and not torch.equal(seen, features)
