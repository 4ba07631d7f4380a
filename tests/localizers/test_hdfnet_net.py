"""HDF-Net against what the published network gives for the same weights and images."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from fill import fill
from torch.nn import functional as F

from afbench.localizers.nets.hdfnet_net import HdfNet

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="module")
def network():
    return fill(HdfNet(), "hdfnet").double()


@pytest.fixture(scope="module")
def network32(network):
    return copy.deepcopy(network).float()  # the filled values are float32, so nothing is lost


@pytest.fixture(scope="module")
def published():
    """Of every entry its shape, type and, once filled, sum."""
    return json.loads((GOLDEN / "hdfnet.state.json").read_text())


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN / "hdfnet.npz") as stored:
        return dict(stored)


def random_array(seed, shape):
    return np.random.Generator(np.random.PCG64(int(seed))).random(tuple(shape))


def random_image(*shape, dtype=torch.float64):
    return torch.rand(*shape, dtype=dtype, generator=torch.Generator().manual_seed(0))


def probability_and_gradient(network, golden, dtype):
    """Of the golden image, and of its cross-entropy with the golden target."""
    image = random_array(golden["x_seed"], golden["shape"])
    np.testing.assert_array_equal(image.ravel()[:8], golden["x_first8"])
    target = torch.from_numpy(random_array(golden["target_seed"], golden["prob"].shape) > 0.5).to(dtype)
    leaf = torch.from_numpy(image).to(dtype).requires_grad_()
    probability = torch.sigmoid(network(leaf))
    (gradient,) = torch.autograd.grad(F.binary_cross_entropy(probability, target), leaf)
    return probability.detach().double().numpy(), gradient.double().numpy()


def relative_distance(found, expected):
    return np.linalg.norm(found - expected.astype(np.float64)) / np.linalg.norm(expected)


def test_entries_have_the_published_names_shapes_and_types_in_order(network32, published):
    found = [
        (key, [list(value.shape), str(value.dtype).removeprefix("torch.")])
        for key, value in network32.state_dict().items()
    ]
    assert found == [(key, row[:2]) for key, row in published.items()]


def test_filled_entries_have_the_published_sums(network, published):
    sums = {key: value.double().sum().item() for key, value in network.state_dict().items()}
    assert sums == pytest.approx({key: row[2] for key, row in published.items()}, rel=1e-9, abs=1e-9)


def test_double_precision_gives_the_published_probability_and_gradient(network, golden):
    probability, gradient = probability_and_gradient(network, golden, torch.float64)
    np.testing.assert_allclose(probability, golden["prob"], rtol=0, atol=1e-5)
    assert relative_distance(gradient, golden["grad"]) < 1e-5


def test_both_images_of_a_batch_come_out_as_the_published_network_gives_them_alone(network, golden):
    expected = golden["b2_prob_single"]
    image = torch.from_numpy(random_array(golden["b2_seed"], (2, 3, *expected.shape[2:])))
    with torch.no_grad():
        probability = torch.sigmoid(network(image)).numpy()
    np.testing.assert_allclose(probability, expected, rtol=0, atol=1e-5)


def test_an_image_does_not_depend_on_its_batch(network):
    image = random_image(2, 3, 96, 96)
    with torch.no_grad():
        together = network(image)
        for row in range(2):
            torch.testing.assert_close(network(image[row : row + 1])[0], together[row], rtol=0, atol=1e-9)


def test_the_gradient_of_an_image_does_not_reach_its_neighbour(network):
    leaf = random_image(2, 3, 64, 64).requires_grad_()
    (slope,) = torch.autograd.grad(network(leaf)[0].sum(), leaf)
    assert slope[0].abs().sum() > 0
    assert not slope[1].any()


@pytest.mark.parametrize("side", [32, 256])
def test_the_smallest_and_the_largest_square_give_logits_of_their_size(network32, side):
    with torch.no_grad():
        logits = network32(random_image(1, 3, side, side, dtype=torch.float32))
    assert logits.shape == (1, 1, side, side)
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize("size", [(288, 288), (512, 512), (48, 48), (0, 0), (64, 256), (512, 128), (96, 64)])
def test_other_sizes_are_refused(network32, size):
    told = rf"multiple of 32, from 32 to 256 pixels; found height {size[0]}, width {size[1]}; resize"
    with pytest.raises(ValueError, match=told):
        network32(torch.zeros(1, 3, *size))


def test_a_forward_pass_changes_neither_the_network_nor_the_image(network32):
    before = {key: value.clone() for key, value in network32.state_dict().items()}
    image = random_image(1, 3, 64, 64, dtype=torch.float32)
    kept = image.clone()
    first = network32(image)
    assert torch.equal(network32(image), first)
    assert torch.equal(image, kept)
    assert all(torch.equal(value, before[key]) for key, value in network32.state_dict().items())


def test_all_weights_but_those_of_the_two_coarser_heads_reach_the_logit(network32):
    loose = copy.deepcopy(network32).requires_grad_(True)
    loose(random_image(1, 3, 64, 64, dtype=torch.float32)).sum().backward()
    idle = {name for name, weight in loose.named_parameters() if weight.grad is None}
    assert idle == {"head_2.weight", "head_2.bias", "head_3.weight", "head_3.bias"}


@pytest.mark.parametrize("index", [0, 1])
def test_a_block_saturates_at_six(network32, index):
    """The golden activations stay below 2, so they cannot tell."""
    block = copy.deepcopy(network32.bkbone.layer2[index])
    found = []
    for name in ("bn1", "bn2", "bn3"):
        getattr(block, name).weight.mul_(1000)
    for convolution in (block.conv2, block.conv3):
        convolution.register_forward_pre_hook(lambda _, inputs: found.append(inputs[0].clone()))
    with torch.no_grad():
        found.append(block(random_image(1, block.conv1.in_channels, 8, 8, dtype=torch.float32)))
    assert [(features.min().item(), features.max().item()) for features in found] == [(0, 6)] * 3


def test_the_dilated_convolutions_have_the_published_rates(network32):
    """A golden image is too small for them to reach beyond their centre."""
    *local, _ = network32.aspp.convs
    assert [conv[0].dilation for conv in local] == [(1, 1), (6, 6), (12, 12), (18, 18)]


def test_the_second_derivative_agrees_with_differences_of_the_gradient(network):
    image, direction = random_image(1, 3, 64, 64), random_image(1, 3, 64, 64).flip(3) - 0.5

    def gradient(at, **options):
        leaf = at.detach().requires_grad_()
        (slope,) = torch.autograd.grad(torch.sigmoid(network(leaf)).mean(), leaf, **options)
        return leaf, slope

    leaf, slope = gradient(image, create_graph=True)
    (curvature,) = torch.autograd.grad((slope * direction).sum(), leaf)
    ahead, behind = (gradient(image + step * direction)[1] for step in (1e-6, -1e-6))
    difference = ((ahead - behind) / 2e-6).numpy()
    assert relative_distance(curvature.numpy(), difference) < 1e-5


def test_mixed_precision_stays_near_single_precision(network32):
    image = random_image(1, 3, 64, 64, dtype=torch.float32)
    with torch.no_grad():
        exact = torch.sigmoid(network32(image))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mixed = torch.sigmoid(network32(image))
    assert (mixed.float() - exact).abs().mean() < 0.01
