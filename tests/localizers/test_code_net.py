"""CoDE's network against numbers of the official one (golden/code.*), and what attacks need of it."""

import copy
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fill import fill
from torch.nn import functional as F

from afbench.localizers.nets.code_net import CodeNet

GOLDEN = Path(__file__).parent / "golden"
STATE = json.loads((GOLDEN / "code.state.json").read_text())
"""``{entry: [shape, dtype, sum of the filled weights]}``."""


@pytest.fixture(scope="module")
def network():
    return fill(CodeNet(), "code").double()


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN / "code.npz") as stored:
        return {key: torch.from_numpy(stored[key]) for key in stored.files}


@pytest.fixture(scope="module")
def golden_pass(network, golden):
    """One pass over the golden image: its map, and what each step saw and said."""
    image, target = golden_input(golden)
    masks, means = [], []
    hooks = [
        network.p_mask_out.register_forward_pre_hook(lambda _, seen: masks.append(seen[0].detach())),
        network.mu.register_forward_hook(lambda _, __, said: means.append(said.detach())),
    ]
    probability, gradient = probability_and_gradient(network, image, target)
    for hook in hooks:
        hook.remove()
    return SimpleNamespace(
        image=image, target=target, probability=probability, gradient=gradient, masks=masks, means=means
    )


def golden_input(golden):
    shape = tuple(golden["shape"].tolist())
    image = torch.from_numpy(random_array(golden["x_seed"], shape))
    target = torch.from_numpy(random_array(golden["target_seed"], (shape[0], 1, *shape[2:])) > 0.5)
    assert torch.equal(image.flatten()[:8], golden["x_first8"])
    return image, target


def random_array(seed, shape):
    return np.random.Generator(np.random.PCG64(int(seed))).random(shape)


def probability_and_gradient(network, image, target):
    """Probability, and the gradient of its binary cross-entropy with respect to the image."""
    leaf = image.clone().requires_grad_()
    probability = network(leaf)
    loss = F.binary_cross_entropy(probability.clamp(1e-6, 1 - 1e-6), target.to(image.dtype))
    return probability.detach(), torch.autograd.grad(loss, leaf)[0]


def gradient_of_sum(function, image):
    """The gradient of the sum of ``function(image)``."""
    leaf = image.clone().requires_grad_()
    return torch.autograd.grad(function(leaf).sum(), leaf)[0]


def relative(found, expected):
    return ((found - expected).norm() / expected.norm()).item()


def with_constant_mean(network, mean):
    """A copy whose every step says ``mean`` at every pixel, whatever the image."""
    changed = copy.deepcopy(network)
    changed.mu[7].weight.zero_()
    changed.mu[7].bias.fill_(mean / (1 - abs(mean)))  # the inverse of softsign
    return changed


@pytest.fixture(scope="module")
def clipping_network(network):
    """A copy that clips at both ends; the golden map never reaches 1."""
    changed = copy.deepcopy(network)
    changed.mu[7].weight.mul_(8)
    changed.mu[7].bias.add_(1)
    return changed


@pytest.fixture(scope="module")
def small_images():
    return torch.from_numpy(random_array(7, (2, 3, 32, 32)))


@pytest.fixture(scope="module")
def small_image(small_images):
    return small_images[:1]


def test_names_shapes_and_dtypes_are_those_of_the_published_checkpoint():
    found = {
        key: [list(value.shape), str(value.dtype).removeprefix("torch.")]
        for key, value in CodeNet().state_dict().items()
    }
    assert found == {key: row[:2] for key, row in STATE.items()}
    assert list(found) == list(STATE)


def test_the_fill_is_the_one_of_the_golden_run(network):
    for key, value in network.state_dict().items():
        assert value.double().sum().item() == pytest.approx(STATE[key][2], rel=1e-9, abs=1e-9), key


def test_the_map_and_its_gradient_are_the_official_ones_in_float64(golden_pass, golden):
    torch.testing.assert_close(golden_pass.probability, golden["prob"].double(), rtol=0, atol=1e-5)
    assert relative(golden_pass.gradient, golden["grad"].double()) < 1e-5


def test_each_step_sees_and_says_what_the_official_one_does(golden_pass, golden):
    assert len(golden_pass.masks) == len(golden_pass.means) == 3
    assert not golden_pass.masks[0].any()
    for step in range(3):
        torch.testing.assert_close(golden_pass.means[step], golden[f"mu_{step}"].double(), rtol=0, atol=1e-6)
    for step in range(2):
        torch.testing.assert_close(
            golden_pass.masks[step + 1], golden[f"mask_{step}"].double(), rtol=0, atol=1e-6
        )


@pytest.mark.parametrize("method", ["forward", "running_sum"])
def test_an_image_does_not_depend_on_its_batch(network, small_images, method):
    function = getattr(network, method)
    with torch.no_grad():
        together = function(small_images)
        assert together.shape == (2, 1, 32, 32)
        for row in range(2):
            alone = function(small_images[row : row + 1])
            torch.testing.assert_close(alone[0], together[row], rtol=0, atol=1e-9)


@pytest.mark.parametrize("size", [(100, 128), (128, 380), (510, 510), (16, 32), (0, 32)])
@pytest.mark.parametrize("method", ["forward", "running_sum"])
def test_sides_that_are_no_multiple_of_32_are_refused(network, size, method):
    with pytest.raises(ValueError, match=f"multiples of 32; found {size[0]} x {size[1]}"):
        getattr(network, method)(torch.zeros(1, 3, *size, dtype=torch.float64))


def test_a_forward_pass_changes_nothing(network, small_image):
    before = {key: value.clone() for key, value in network.state_dict().items()}
    image = small_image.clone()
    with torch.no_grad():
        first = network(image)
        network.running_sum(image)
        assert torch.equal(network(image), first)
    assert torch.equal(image, small_image)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_the_critic_and_sigma_are_never_computed(network, small_image):
    touched = []
    hooks = [
        module.register_forward_hook(lambda *_, name=name: touched.append(name))
        for name, module in network.named_modules()
    ]
    with torch.no_grad():
        network(small_image)
    for hook in hooks:
        hook.remove()
    assert not [name for name in touched if name.startswith(("sigma", "v_"))]
    assert [touched.count(name) for name in ("down4", "p_merge4", "p_mask_out", "mu")] == [1, 1, 3, 3]


def test_the_running_sum_clipped_is_the_map_exactly(network, clipping_network, golden_pass, small_image):
    cases = [
        (network, golden_pass.image),
        (clipping_network, small_image),
        (copy.deepcopy(clipping_network).float(), small_image.float()),
    ]
    for one, image in cases:
        with torch.no_grad():
            total, published = one.running_sum(image), one(image)
        assert torch.equal(total.clamp(0, 1), published)
        for threshold in (0.0, 0.2, 0.5, 0.999):
            assert torch.equal(total > threshold, published > threshold)


def test_pixels_never_clipped_have_the_same_value_in_both_forms(network, golden_pass):
    with torch.no_grad():
        total = network.running_sum(golden_pass.image)
    after = [mask + 0.5 * mean for mask, mean in zip(golden_pass.masks, golden_pass.means, strict=True)]
    free = torch.stack([(each > 0) & (each < 1) for each in after]).all(dim=0)
    assert 0.05 < free.double().mean() < 0.95
    assert torch.equal(total[free], golden_pass.probability[free])


@pytest.mark.parametrize("side", ["below 0", "above 1"])
def test_clipped_pixels_have_a_gradient_in_the_running_sum_only(clipping_network, small_image, side):
    with torch.no_grad():
        total = clipping_network.running_sum(small_image)
    clipped = total < 0 if side == "below 0" else total > 1
    assert 0.05 < clipped.double().mean() < 0.95
    assert not gradient_of_sum(lambda image: clipping_network(image)[clipped], small_image).any()
    assert (
        gradient_of_sum(lambda image: clipping_network.running_sum(image)[clipped], small_image).abs().sum()
        > 0
    )


def test_without_clipping_both_forms_have_the_same_gradient(network, small_image):
    quiet = with_constant_mean(network, 0.3)
    quiet.mu[7].weight.copy_(0.05 * network.mu[7].weight)
    total = quiet.running_sum(small_image)
    assert total.min() > 0 and total.max() < 1 and total.std() > 1e-3
    torch.testing.assert_close(
        gradient_of_sum(quiet, small_image),
        gradient_of_sum(quiet.running_sum, small_image),
        rtol=1e-9,
        atol=0,
    )


@pytest.mark.parametrize(("mean", "total", "published"), [(-0.9, -0.45, 0.0), (0.9, 1.35, 1.0)])
def test_every_step_moves_the_sum_though_its_value_is_clipped(network, small_image, mean, total, published):
    """With one constant mean, the sum's slope in that mean is 3 steps of 0.5, and the clipped map's is 0."""
    steady = with_constant_mean(network, mean)
    said = []
    steady.mu.register_forward_hook(lambda _, __, mu: said.append(mu.requires_grad_()))
    found = steady.running_sum(small_image)
    torch.testing.assert_close(found, torch.full_like(found, total))
    slopes = torch.autograd.grad(found.sum(), said)
    assert all(torch.equal(each, torch.full_like(each, 0.5)) for each in slopes)
    said.clear()
    found = steady(small_image)
    assert torch.equal(found, torch.full_like(found, published))
    assert not any(each.any() for each in torch.autograd.grad(found.sum(), said))


def test_the_gradient_can_be_differentiated_again(network, small_image):
    leaf = small_image[:1].clone().requires_grad_()
    (first,) = torch.autograd.grad(network.running_sum(leaf).square().sum(), leaf, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), leaf)
    assert torch.isfinite(second).all() and second.any()


def test_it_runs_under_autocast(network, small_image):
    single, image = copy.deepcopy(network).float(), small_image[:1].float()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        total, published = single.running_sum(image), single(image)
    assert torch.equal(total.clamp(0, 1), published)
    assert (published - single(image)).abs().mean() < 0.1
