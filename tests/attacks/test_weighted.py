"""SegPGD and CosPGD: against loops written with masks and probabilities, and what their weights do."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from attacks import cospgd, input_gradient, pgd, segpgd, uniform
from attacks.lab import AttackProblem, problem, shape_of

PHI = 3


def settings(lab: AttackProblem, steps: int) -> dict:
    start = uniform(lab.keys, shape_of(lab.image), 0).double()
    return {"start": start, "phi": lab.phi(PHI), "alpha": lab.phi(PHI) / 4, "steps": steps}


def by_hand(lab: AttackProblem, weigh, steps: int) -> Tensor:
    """PGD on a loss whose pixels are weighted by ``weigh(logits, step)``, step from 1."""
    phi, given = lab.phi(PHI), settings(lab, steps)
    low, high = (lab.image - phi).clamp(min=0), (lab.image + phi).clamp(max=1)
    x = torch.clamp(lab.image + phi * given["start"], low, high)
    for step in range(1, steps + 1):
        leaf = x.clone().requires_grad_()
        logits = lab.localizer(leaf)
        losses = F.binary_cross_entropy_with_logits(logits, lab.mask, reduction="none")
        (losses * weigh(logits.detach(), step)).mean((1, 2, 3)).sum().backward()
        x = torch.clamp(x + phi / 4 * leaf.grad.sign(), low, high)
    return x


def test_segpgd_equals_a_loop_over_right_and_wrong_pixels() -> None:
    lab, steps = problem(), 8

    def weigh(logits: Tensor, step: int) -> Tensor:
        wrong = (logits > 0) != lab.mask.bool()
        share = (step - 1) / (2 * steps)
        return torch.where(wrong, share, 1 - share)

    expected = by_hand(lab, weigh, steps)
    assert torch.equal(segpgd(lab.losses, lab.image, **settings(lab, steps)), expected)
    assert not torch.equal(pgd(lab.loss, lab.image, **settings(lab, steps)), expected)


def test_cospgd_equals_a_loop_over_the_cosine_of_two_classes() -> None:
    lab, steps = problem(), 8
    truth = torch.cat([1 - lab.mask, lab.mask], 1)

    def weigh(logits: Tensor, step: int) -> Tensor:
        forged = torch.sigmoid(logits)
        return F.cosine_similarity(torch.cat([1 - forged, forged], 1), truth, dim=1)[:, None]

    expected = by_hand(lab, weigh, steps)
    assert torch.equal(cospgd(lab.losses, lab.image, **settings(lab, steps)), expected)
    assert not torch.equal(pgd(lab.loss, lab.image, **settings(lab, steps)), expected)


def test_segpgd_lets_go_of_wrong_pixels_first_and_comes_back_to_them() -> None:
    # Pixels stand apart; those of the first row are wrong from the start, and the others always right.
    image = torch.full((1, 3, 2, 4), 0.5, dtype=torch.float64)
    level = torch.tensor([[5.0], [0.1]], dtype=torch.float64).expand(2, 4)
    given = {"start": torch.zeros_like(image), "phi": torch.full((1, 1, 1, 1), 0.1, dtype=torch.float64)}

    def losses(x: Tensor) -> Tensor:
        return (x - 0.5).sum(1, keepdim=True) / 100 + level

    one = segpgd(losses, image, **given, alpha=given["phi"] / 4, steps=1)
    assert torch.equal(one[:, :, 0], image[:, :, 0]) and (one[:, :, 1] > 0.5).all()
    two = segpgd(losses, image, **given, alpha=given["phi"] / 4, steps=2)
    assert (two[:, :, 0] > 0.5).all() and torch.allclose(two[:, :, 1], two[:, :, 0] + 0.025)


def test_cospgd_weighs_a_pixel_by_what_it_gives_to_the_truth() -> None:
    # Of two pixels that pull one input value in opposite directions the one closer to the truth wins.
    image = torch.full((1, 3, 1, 1), 0.5, dtype=torch.float64)
    phi = torch.full((1, 1, 1, 1), 0.1, dtype=torch.float64)
    for right, pull in ((0, 1.0), (1, -1.0)):
        base = torch.tensor([0.05, 3.0] if right == 0 else [3.0, 0.05], dtype=torch.float64)

        def losses(x: Tensor, base: Tensor = base) -> Tensor:
            moved = (x - 0.5).sum((1, 2, 3))[:, None] * x.new_tensor([1.0, -1.0])
            return (moved + base)[:, None, None, :]

        moved = cospgd(losses, image, start=torch.zeros_like(image), phi=phi, alpha=phi, steps=1)
        assert torch.allclose(moved - image, pull * phi.expand_as(image))


@pytest.mark.parametrize("attack", [segpgd, cospgd])
def test_saturated_logits_leave_a_gradient_in_float32(attack) -> None:
    image = torch.full((1, 3, 2, 2), 0.5)
    phi = torch.full((1, 1, 1, 1), 1 / 255)

    def losses(x: Tensor) -> Tensor:
        return F.softplus(-(40 * x.sum(1, keepdim=True)))

    moved = attack(losses, image, start=torch.zeros_like(image), phi=phi, alpha=phi, steps=1)
    assert torch.allclose(moved, image - 1 / 255)
    assert input_gradient(lambda x: losses(x).mean((1, 2, 3)), image).abs().max() < 1e-20


@pytest.mark.parametrize("attack", [segpgd, cospgd])
@pytest.mark.parametrize("reduce", [lambda pixels: pixels.mean((1, 2, 3)), lambda pixels: pixels[:, 0]])
def test_losses_that_are_not_one_number_per_pixel_are_refused(attack, reduce) -> None:
    lab = problem(2)
    with pytest.raises(
        ValueError, match=r"losses must give one number per pixel, shape \(2, 1, H, W\); found"
    ):
        attack(lambda x: reduce(lab.losses(x)), lab.image, **settings(lab, 1))
