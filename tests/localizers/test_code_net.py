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

pytestmark = pytest.mark.xdist_group("code")

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
def ran(network, golden):
    """One pass over the golden image: its map, and what each step saw and said."""
    image, target = golden_input(golden)
    masks, means = [], []
    hooks = [
        network.p_mask_out.register_forward_pre_hook(lambda _, seen: masks.append(seen[0].detach())),
        network.mu.register_forward_hook(lambda _, __, said: means.append(said.detach())),
    ]
    probability, gradient = measured(network, image, target)
    for hook in hooks:
        hook.remove()
    return SimpleNamespace(
        image=image, target=target, probability=probability, gradient=gradient, masks=masks, means=means
    )


def golden_input(golden):
    shape = tuple(golden["shape"].tolist())
    image = torch.from_numpy(drawn(golden["x_seed"], shape))
    target = torch.from_numpy(drawn(golden["target_seed"], (shape[0], 1, *shape[2:])) > 0.5)
    assert torch.equal(image.flatten()[:8], golden["x_first8"])
    return image, target


def drawn(seed, shape):
    return np.random.Generator(np.random.PCG64(int(seed))).random(shape)


def measured(network, image, target):
    """Probability, and the gradient of its binary cross-entropy with respect to the image."""
    leaf = image.clone().requires_grad_()
    probability = network(leaf)
    loss = F.binary_cross_entropy(probability.clamp(1e-6, 1 - 1e-6), target.to(image.dtype))
    return probability.detach(), torch.autograd.grad(loss, leaf)[0]


def slope(function, image):
    """The gradient of the sum of ``function(image)``."""
    leaf = image.clone().requires_grad_()
    return torch.autograd.grad(function(leaf).sum(), leaf)[0]


def relative(found, expected):
    return ((found - expected).norm() / expected.norm()).item()


def constant(network, mean):
    """A copy whose every step says ``mean`` at every pixel, whatever the image."""
    changed = copy.deepcopy(network)
    changed.mu[7].weight.zero_()
    changed.mu[7].bias.fill_(mean / (1 - abs(mean)))  # the inverse of softsign
    return changed


@pytest.fixture(scope="module")
def bold(network):
    """A copy that clips at both ends; the golden map never reaches 1."""
    changed = copy.deepcopy(network)
    changed.mu[7].weight.mul_(8)
    changed.mu[7].bias.add_(1)
    return changed


@pytest.fixture(scope="module")
def small():
    return torch.from_numpy(drawn(7, (2, 3, 64, 32)))


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


def test_the_map_and_its_gradient_are_the_official_ones_in_float64(ran, golden):
    torch.testing.assert_close(ran.probability, golden["prob"].double(), rtol=0, atol=1e-5)
    assert relative(ran.gradient, golden["grad"].double()) < 1e-5


def test_each_step_sees_and_says_what_the_official_one_does(ran, golden):
    assert len(ran.masks) == len(ran.means) == 3
    assert not ran.masks[0].any()
    for step in range(3):
        torch.testing.assert_close(ran.means[step], golden[f"mu_{step}"].double(), rtol=0, atol=1e-6)
    for step in range(2):
        torch.testing.assert_close(ran.masks[step + 1], golden[f"mask_{step}"].double(), rtol=0, atol=1e-6)


def test_the_map_and_its_gradient_are_close_in_float32(network, ran, golden):
    single = copy.deepcopy(network).float()  # lossless: the fill is rounded to float32
    probability, gradient = measured(single, ran.image.float(), ran.target)
    assert probability.dtype == gradient.dtype == torch.float32
    torch.testing.assert_close(probability, golden["prob"], rtol=0, atol=2e-5)
    assert relative(gradient, golden["grad"]) < 2e-2
    assert (gradient.sign() != golden["grad"].sign()).double().mean() < 1e-3


@pytest.mark.parametrize("method", ["forward", "running_sum"])
def test_an_image_does_not_depend_on_its_batch(network, small, method):
    function = getattr(network, method)
    with torch.no_grad():
        together = function(small)
        assert together.shape == (2, 1, 64, 32)
        for row in range(2):
            alone = function(small[row : row + 1])
            torch.testing.assert_close(alone[0], together[row], rtol=0, atol=1e-9)


@pytest.mark.parametrize("size", [(100, 128), (128, 380), (510, 510), (16, 32), (0, 32)])
@pytest.mark.parametrize("method", ["forward", "running_sum"])
def test_sides_that_are_no_multiple_of_32_are_refused(network, size, method):
    with pytest.raises(ValueError, match=f"multiples of 32; found {size[0]} x {size[1]}"):
        getattr(network, method)(torch.zeros(1, 3, *size, dtype=torch.float64))


def test_a_forward_pass_changes_nothing(network, small):
    before = {key: value.clone() for key, value in network.state_dict().items()}
    image = small.clone()
    with torch.no_grad():
        first = network(image)
        network.running_sum(image)
        assert torch.equal(network(image), first)
    assert torch.equal(image, small)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_the_critic_and_sigma_are_never_computed(network, small):
    touched = []
    hooks = [
        module.register_forward_hook(lambda *_, name=name: touched.append(name))
        for name, module in network.named_modules()
    ]
    with torch.no_grad():
        network(small)
    for hook in hooks:
        hook.remove()
    assert not [name for name in touched if name.startswith(("sigma", "v_"))]
    assert [touched.count(name) for name in ("down4", "p_merge4", "p_mask_out", "mu")] == [1, 1, 3, 3]


def test_the_running_sum_clipped_is_the_map_exactly(network, bold, ran, small):
    cases = [(network, ran.image), (bold, small), (copy.deepcopy(bold).float(), small.float())]
    for one, image in cases:
        with torch.no_grad():
            total, published = one.running_sum(image), one(image)
        assert torch.equal(total.clamp(0, 1), published)
        for threshold in (0.0, 0.2, 0.5, 0.999):
            assert torch.equal(total > threshold, published > threshold)


def test_pixels_never_clipped_have_the_same_value_in_both_forms(network, ran):
    with torch.no_grad():
        total = network.running_sum(ran.image)
    after = [mask + 0.5 * mean for mask, mean in zip(ran.masks, ran.means, strict=True)]
    free = torch.stack([(each > 0) & (each < 1) for each in after]).all(dim=0)
    assert 0.05 < free.double().mean() < 0.95
    assert torch.equal(total[free], ran.probability[free])


@pytest.mark.parametrize("side", ["below 0", "above 1"])
def test_clipped_pixels_have_a_gradient_in_the_running_sum_only(bold, small, side):
    with torch.no_grad():
        total = bold.running_sum(small)
    clipped = total < 0 if side == "below 0" else total > 1
    assert 0.05 < clipped.double().mean() < 0.95
    assert not slope(lambda image: bold(image)[clipped], small).any()
    assert slope(lambda image: bold.running_sum(image)[clipped], small).abs().sum() > 0


def test_without_clipping_both_forms_have_the_same_gradient(network, small):
    quiet = constant(network, 0.3)
    quiet.mu[7].weight.copy_(0.05 * network.mu[7].weight)
    total = quiet.running_sum(small)
    assert total.min() > 0 and total.max() < 1 and total.std() > 1e-3
    torch.testing.assert_close(slope(quiet, small), slope(quiet.running_sum, small), rtol=1e-9, atol=0)


@pytest.mark.parametrize(("mean", "total", "published"), [(-0.9, -0.45, 0.0), (0.9, 1.35, 1.0)])
def test_every_step_moves_the_sum_though_its_value_is_clipped(network, small, mean, total, published):
    """With one constant mean, the sum's slope in that mean is 3 steps of 0.5, and the clipped map's is 0."""
    steady = constant(network, mean)
    said = []
    steady.mu.register_forward_hook(lambda _, __, mu: said.append(mu.requires_grad_()))
    found = steady.running_sum(small)
    torch.testing.assert_close(found, torch.full_like(found, total))
    slopes = torch.autograd.grad(found.sum(), said)
    assert all(torch.equal(each, torch.full_like(each, 0.5)) for each in slopes)
    said.clear()
    found = steady(small)
    assert torch.equal(found, torch.full_like(found, published))
    assert not any(each.any() for each in torch.autograd.grad(found.sum(), said))


def test_the_gradient_can_be_differentiated_again(network, small):
    leaf = small[:1].clone().requires_grad_()
    (first,) = torch.autograd.grad(network.running_sum(leaf).square().sum(), leaf, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), leaf)
    assert torch.isfinite(second).all() and second.any()


def test_it_runs_under_autocast(network, small):
    single, image = copy.deepcopy(network).float(), small.float()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        total, published = single.running_sum(image), single(image)
    assert torch.equal(total.clamp(0, 1), published)
    assert (published - single(image)).abs().mean() < 0.1
