"""Losses against torch, closed forms and float64."""

import math

import pytest
import torch
from torch.nn import functional as F

from afbench.losses import (
    ATTACK_LOSSES,
    HINGE_MARGIN,
    balanced_cross_entropy,
    binary_cross_entropy,
    forged_excess,
    hinge,
    jensen_shannon,
    masked_cross_entropy,
    saturating_sigmoid,
    soft_f1,
)
from afbench.plans.params import LOSSES

every_loss = pytest.mark.parametrize("name", ATTACK_LOSSES)


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


def test_plans_know_the_losses_that_there_are():
    assert tuple(ATTACK_LOSSES) == LOSSES


@every_loss
def test_a_loss_gives_the_gradient_that_small_changes_show(name, logits, mask):
    # in the middle of the range, where differences of 1e-6 are larger than what rounding leaves of a mean
    z = (logits / 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda leaf: ATTACK_LOSSES[name](leaf, mask), (z,))


@every_loss
@pytest.mark.parametrize("forged", ["some", "none", "all"])
def test_a_loss_and_its_gradient_are_finite_for_extreme_logits_and_one_sided_masks(name, forged):
    z = torch.tensor([-1e4, -90.0, -1.0, 0.0, 1.0, 90.0, 1e4]).repeat(4, 1).view(2, 1, 2, 7)
    for values in (z, torch.full_like(z, 1e4), torch.full_like(z, -1e4), torch.zeros_like(z)):
        mask = torch.zeros_like(values) if forged == "none" else torch.ones_like(values)
        if forged == "some":
            mask[..., ::2] = 0
        slope = gradient(lambda leaf, truth=mask: ATTACK_LOSSES[name](leaf, truth), values)
        assert ATTACK_LOSSES[name](values, mask).isfinite().all() and slope.isfinite().all()


@every_loss
def test_a_loss_rises_where_pixels_become_wrong(name, logits, mask):
    """Raised far enough, it has turned every forged pixel to authentic."""
    z = logits.abs().clamp(max=3) * (2 * mask - 1)
    first = ATTACK_LOSSES[name](z, mask)
    for _ in range(300):
        z = z + 0.05 * gradient(lambda leaf: ATTACK_LOSSES[name](leaf, mask), z).sign()
    assert (ATTACK_LOSSES[name](z, mask) > first).all()
    assert (z[mask > 0] < 0).all()


@every_loss
def test_a_loss_of_an_image_does_not_depend_on_its_batch(name):
    # a multiple of 16 pixels: torch rounds what its vector loops leave over otherwise
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(3, 1, 4, 8, generator=generator, dtype=torch.float64) * 8
    mask = (torch.rand(3, 1, 4, 8, generator=generator) > 0.6).double()
    measure = ATTACK_LOSSES[name]
    slopes = gradient(measure, logits, mask=mask)
    for row in range(3):
        part = slice(row, row + 1)
        assert torch.equal(measure(logits[part], mask[part]), measure(logits, mask)[part])
        assert torch.equal(gradient(measure, logits[part], mask=mask[part]), slopes[part])


@every_loss
def test_a_loss_keeps_dtype_and_does_not_touch_its_arguments(name, logits, mask):
    for dtype in (torch.float32, torch.float64):
        z, m = logits.to(dtype), mask.to(dtype)
        copies = z.clone(), m.clone()
        assert ATTACK_LOSSES[name](z, m).dtype == dtype
        assert torch.equal(z, copies[0]) and torch.equal(m, copies[1])


def test_the_attacks_cross_entropy_has_the_gradient_of_the_judges(logits, mask):
    z, m = logits.float(), mask.float()
    measure = ATTACK_LOSSES["bce"]
    torch.testing.assert_close(measure(z, m), binary_cross_entropy(z, m))
    assert torch.equal(gradient(measure, z, mask=m), gradient(binary_cross_entropy, z, mask=m))


def test_soft_f1_is_minus_the_logarithm_of_f1_of_probabilities(logits, mask):
    p = torch.sigmoid(logits)
    f1 = 2 * (p * mask).sum((1, 2, 3)) / (p + mask).sum((1, 2, 3))
    torch.testing.assert_close(soft_f1(logits, mask), -f1.log())
    torch.testing.assert_close(soft_f1(logits, torch.zeros_like(mask)), (1 + p.sum((1, 2, 3))).log())


def test_soft_f1_of_sure_decisions_is_that_of_f1():
    z = torch.tensor([1e4, 1e4, -1e4, -1e4]).view(1, 1, 2, 2)
    truth = torch.tensor([1.0, 0, 1, 0]).view(1, 1, 2, 2)
    assert soft_f1(z, truth).item() == pytest.approx(-math.log(0.5))
    assert soft_f1((2 * truth - 1) * 1e4, truth).item() == pytest.approx(0)


def test_soft_f1_keeps_a_gradient_where_every_probability_underflows():
    z = torch.full((1, 1, 1, 2), -200.0)
    truth = torch.tensor([[[[1.0, 0.0]]]])
    slope = gradient(soft_f1, z, mask=truth).flatten()
    assert slope[0].item() == pytest.approx(-1) and slope[1].item() == 0


def test_jensen_shannon_is_its_definition_for_two_classes(logits, mask):
    p = torch.sigmoid(logits / 4)
    classes, truth = torch.cat([1 - p, p], 1), torch.cat([1 - mask, mask], 1)
    middle = (classes + truth) / 2

    def kl(first, second):
        return (torch.xlogy(first, first) - first * second.log()).sum(1, keepdim=True)

    expected = ((kl(classes, middle) + kl(truth, middle)) / 2).mean((1, 2, 3))
    torch.testing.assert_close(jensen_shannon(logits / 4, mask), expected)
    wrong = (1 - 2 * mask) * 1e4
    assert jensen_shannon(wrong, mask).tolist() == pytest.approx([math.log(2)] * 3)
    assert jensen_shannon(-wrong, mask).tolist() == pytest.approx([0] * 3, abs=1e-12)


def test_masked_cross_entropy_counts_right_pixels_alone():
    z = torch.tensor([2.0, -1, 3, -4]).view(1, 1, 2, 2)
    truth = torch.tensor([1.0, 1, 0, 0]).view(1, 1, 2, 2)
    right = math.log1p(math.exp(-2)) + math.log1p(math.exp(-4))
    assert masked_cross_entropy(z, truth).item() == pytest.approx((right + 2 * math.log(2)) / 4)
    slope = gradient(masked_cross_entropy, z, mask=truth).flatten()
    assert slope[1] == slope[2] == 0 and slope[0] < 0 < slope[3]
    at_threshold = torch.zeros(1, 1, 1, 1)  # called authentic, as in every score
    assert gradient(masked_cross_entropy, at_threshold, mask=torch.ones_like(at_threshold)).item() == 0


def test_balanced_cross_entropy_gives_both_classes_one_half():
    z = torch.tensor([2.0, 5, 5, 5]).view(1, 1, 2, 2)
    truth = torch.tensor([1.0, 0, 0, 0]).view(1, 1, 2, 2)
    expected = (math.log1p(math.exp(-2)) + math.log1p(math.exp(5))) / 2
    assert balanced_cross_entropy(z, truth).item() == pytest.approx(expected)
    assert balanced_cross_entropy(z, torch.zeros_like(z)).item() == pytest.approx(
        (math.log1p(math.exp(2)) + 3 * math.log1p(math.exp(5))) / 8
    )


def test_the_hinge_of_forged_pixels_ends_a_margin_beyond_the_threshold():
    z = torch.tensor([2.0, -HINGE_MARGIN / 2, -3, 9]).view(1, 1, 2, 2)
    truth = torch.tensor([1.0, 1, 1, 0]).view(1, 1, 2, 2)
    assert hinge(z, truth).item() == pytest.approx(-(2 + HINGE_MARGIN + HINGE_MARGIN / 2) / 3)
    assert gradient(hinge, z, mask=truth).flatten().tolist() == pytest.approx([-1 / 3, -1 / 3, 0, 0])
    # of an authentic image: until every pixel is called forged
    slope = gradient(hinge, z, mask=torch.zeros_like(z)).flatten()
    assert slope.tolist() == pytest.approx([0, 0.25, 0.25, 0])
