"""Losses against torch, closed forms and float64."""

import math

import pytest
import torch
from torch.nn import functional as F

from afbench.losses import binary_cross_entropy, forged_excess, saturating_sigmoid


@pytest.fixture
def logits():
    return torch.randn(3, 1, 5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 8


@pytest.fixture
def mask():
    return (torch.rand(3, 1, 5, 7, generator=torch.Generator().manual_seed(1)) > 0.6).double()


def gradient(loss, logits, **options):
    leaf = logits.clone().requires_grad_()
    return torch.autograd.grad(loss(leaf, **options).sum(), leaf)[0]


def test_cross_entropy_is_torchs_own_averaged_over_each_image(logits, mask):
    expected = F.binary_cross_entropy_with_logits(logits, mask, reduction="none").mean(dim=(1, 2, 3))
    found = binary_cross_entropy(logits, mask)
    assert found.shape == (3,)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)  # torch's softplus is linear above 20


def test_cross_entropy_of_an_image_does_not_depend_on_its_batch(logits, mask):
    together = binary_cross_entropy(logits, mask)
    for row in range(3):
        alone = binary_cross_entropy(logits[row : row + 1], mask[row : row + 1])
        assert torch.equal(alone[0], together[row])


@pytest.mark.parametrize("logit", [17.0, 30.0, -30.0, 80.0])
def test_cross_entropy_of_a_sure_and_right_pixel_still_has_a_gradient(logit):
    z = torch.full((1, 1, 1, 1), logit)
    truth = (z > 0).float()
    slope = gradient(lambda leaf: binary_cross_entropy(leaf, truth), z).item()
    assert slope == pytest.approx(-math.copysign(math.exp(-abs(logit)), logit), rel=1e-5)
    assert slope != 0


def test_excess_counts_twice_what_stands_above_the_threshold():
    probability = torch.tensor([0.9, 0.6, 0.5, 0.2], dtype=torch.float64)
    z = torch.logit(probability).view(1, 1, 2, 2)
    assert forged_excess(z, threshold=0.5).item() == pytest.approx(2 * (0.4 + 0.1))
    assert forged_excess(z, threshold=0.5, hinge=False).item() == pytest.approx(2 * (0.4 + 0.1 - 0.3))
    assert forged_excess(z, threshold=0.8).item() == pytest.approx(2 * 0.1)


def test_excess_in_logits_is_zero_where_the_probability_is_at_the_threshold():
    for threshold in (0.3, 0.5, 0.84):
        z = torch.logit(torch.tensor([threshold, 0.95], dtype=torch.float64)).view(2, 1, 1, 1)
        found = forged_excess(z, threshold=threshold, objective="logit")
        assert found[0].item() == pytest.approx(0, abs=1e-12)
        assert found[1].item() == pytest.approx(2 * (z[1].item() - math.log(threshold / (1 - threshold))))


def test_excess_is_zero_exactly_when_no_pixel_is_called_forged(logits):
    for objective in ("probability", "logit"):
        for threshold in (0.4, 0.5, 0.9):
            low = logits.clamp(max=math.log(threshold / (1 - threshold)) - 1e-6)
            assert (forged_excess(low, threshold=threshold, objective=objective) == 0).all()
            assert (forged_excess(logits, threshold=threshold, objective=objective) > 0).all()


def test_the_hinge_leaves_pixels_below_the_threshold_alone(logits):
    slope = gradient(forged_excess, logits, threshold=0.5)
    assert (slope[logits < 0] == 0).all() and (slope[logits > 0] > 0).all()
    assert (gradient(forged_excess, logits, threshold=0.5, hinge=False) > 0).all()


@pytest.mark.parametrize("logit", [20.0, 40.0])
def test_a_saturated_probability_keeps_the_gradient_float64_gives_it(logit):
    z = torch.full((1, 1, 1, 1), logit)
    exact = torch.tensor(logit, dtype=torch.float64)
    closed_form = 2 * (torch.sigmoid(exact) * torch.sigmoid(-exact)).item()
    assert gradient(forged_excess, z, threshold=0.5).item() == pytest.approx(closed_form, rel=1e-5)
    leaf = z.clone().requires_grad_()
    assert torch.autograd.grad(torch.sigmoid(leaf).sum(), leaf)[0].item() == 0  # why it is needed


def test_the_saturating_sigmoid_is_the_sigmoid(logits):
    assert torch.equal(saturating_sigmoid(logits), torch.sigmoid(logits))
    assert torch.autograd.gradcheck(saturating_sigmoid, (logits[:1].clone().requires_grad_(),))


def test_losses_keep_dtype_and_do_not_touch_their_arguments(logits, mask):
    for dtype in (torch.float32, torch.float64):
        z, m = logits.to(dtype), mask.to(dtype)
        before = z.clone(), m.clone()
        assert binary_cross_entropy(z, m).dtype == dtype
        assert forged_excess(z, threshold=0.5).dtype == dtype
        assert torch.equal(z, before[0]) and torch.equal(m, before[1])
