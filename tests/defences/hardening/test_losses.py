"""The penalty and the losses of hardening against what they are by hand."""

import pytest
import torch

from afbench.core import UsageError
from afbench.defences.ansm.restoration_losses import mask_loss
from afbench.defences.hardening.classifier import ForgeryClassifier, ImageLevel, Joined, image_level
from afbench.defences.hardening.hardening_loss import (
    Hardening,
    check_hardening,
    gradient_norm,
    hardening_loss,
    penalised_loss,
)
from afbench.defences.setting_checks import from_options
from afbench.defences.training.pairs import Batch
from afbench.defences.training.single_stage import Schedule, check_schedule
from afbench.losses import binary_cross_entropy


def drawn(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_penalty_of_a_linear_loss_is_the_norm_of_its_weights():
    weights, image = drawn(3, 4, 5), drawn(2, 3, 4, 5, seed=1).requires_grad_()
    found = gradient_norm(
        (image * weights * torch.tensor([1.0, 2.0])[:, None, None, None]).sum((1, 2, 3)), image
    )
    wanted = weights.norm()
    torch.testing.assert_close(found, torch.stack([wanted, 2 * wanted]))


def test_the_penalty_of_a_linear_model_has_the_slope_of_its_weights_norm():
    weights = drawn(3, 4, 5).requires_grad_()
    image = drawn(1, 3, 4, 5, seed=1).requires_grad_()
    gradient_norm((image * weights).sum((1, 2, 3)), image).sum().backward()
    torch.testing.assert_close(weights.grad, (weights / weights.norm()).detach())


def linear(weight):
    """Each pixel's logit is ``weight`` times its red value."""
    return lambda image: weight * image[:, :1]


def test_a_penalised_cross_entropy_is_that_of_a_logistic_model_by_hand():
    weight, value = torch.tensor(3.0, dtype=torch.float64), 0.5
    image = torch.full((1, 3, 1, 1), value, dtype=torch.float64)
    mask = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    z = weight * value
    wanted = torch.log1p(torch.exp(-z)) + 0.7 * weight * torch.sigmoid(-z)
    found = penalised_loss(linear(weight), image, mask, binary_cross_entropy, 0.7)
    torch.testing.assert_close(found, wanted[None])


def test_the_penalty_does_not_depend_on_the_batch_and_works_where_gradients_are_off():
    image, mask = drawn(3, 3, 6, 6), (drawn(3, 1, 6, 6, seed=2) > 0.5).double()
    with torch.no_grad():
        together = penalised_loss(linear(2.0), image, mask, mask_loss, 1.0)
        alone = penalised_loss(linear(2.0), image[1:2], mask[1:2], mask_loss, 1.0)
    torch.testing.assert_close(together[1:2], alone)
    assert (together > mask_loss(linear(2.0)(image), mask)).all()


@pytest.fixture
def batch():
    original = drawn(2, 3, 8, 8)
    mask = (drawn(2, 1, 8, 8, seed=3) > 0.6).double()
    return Batch(original, (original + 0.2).clamp(0, 1), mask)


def test_methods_differ_in_what_they_see_and_in_the_penalty(batch):
    def loss(method, images=None, penalty=2.0):
        seen = images or batch
        return hardening_loss(linear(3.0), seen, Hardening(method=method, penalty=penalty))

    plain = [mask_loss(linear(3.0)(image), batch.mask) for image in batch[:2]]
    torch.testing.assert_close(loss("none"), plain[0])
    torch.testing.assert_close(loss("at"), (plain[0] + plain[1]) / 2)
    swapped = Batch(batch.attacked, batch.attacked, batch.mask)
    both = (loss("gradient-penalty") + loss("gradient-penalty", swapped)) / 2
    torch.testing.assert_close(loss("both"), both)
    torch.testing.assert_close(loss("both", penalty=0.0), loss("at"))
    assert (loss("gradient-penalty") > plain[0]).all()


def test_a_classifier_is_judged_by_the_cross_entropy_of_one_answer(batch):
    batch = batch._replace(mask=image_level(batch.mask))
    answer = torch.tensor([[1.0], [-2.0]], dtype=torch.float64)
    model = ImageLevel(lambda image: answer, "0" * 64)
    found = hardening_loss(model.logits, batch, Hardening(task="classify", method="none"))
    torch.testing.assert_close(found, torch.nn.functional.softplus(-answer[:, 0]))


def test_an_image_is_forged_if_any_of_its_pixels_is():
    mask = torch.zeros(2, 1, 4, 4)
    mask[1, 0, 2, 3] = 1
    assert image_level(mask).flatten(1).unique(dim=1).tolist() == [[0.0], [1.0]]
    assert image_level(mask).shape == mask.shape


def test_a_classifier_takes_any_size_and_hands_a_gradient_to_every_image():
    network = ForgeryClassifier().eval()
    image = torch.rand(2, 3, 33, 50, requires_grad=True)
    answer = network(image)
    (slope,) = torch.autograd.grad(answer.sum(), image)
    assert answer.shape == (2, 1) and (slope.abs().sum((1, 2, 3)) > 0).all()


def test_joined_pairs_come_in_order_and_end():
    class Part(list):
        groups = ("a", "b")

    joined = Joined([Part([0, 1]), Part([2, 3])])
    assert list(joined) == [0, 1, 2, 3] and list(joined.groups) == ["a", "b", "a", "b"] and len(joined) == 4


@pytest.mark.parametrize(
    ("kind", "check", "given", "message"),
    [
        (Hardening, check_hardening, {"method": "prayer"}, "method must be one of none, at"),
        (Hardening, check_hardening, {"task": "prayer"}, "task must be one of localize, classify"),
        (Hardening, check_hardening, {"penalty": -1.0}, "penalty cannot be -1.0"),
        (Hardening, check_hardening, {"penalty": float("nan")}, "penalty cannot be nan"),
        (Schedule, check_schedule, {"lr": 2.0}, "lr cannot be 2.0"),
        (Schedule, check_schedule, {"side": 8}, "side cannot be 8"),
        (Schedule, check_schedule, {"epochs": 0}, "epochs cannot be 0"),
    ],
)
def test_values_that_cannot_be_are_refused(kind, check, given, message):
    with pytest.raises(UsageError, match=message):
        check(from_options(kind, given))
