"""A localizer behind a defence: what it predicts, and the gradients an attack gets through the defence."""

from dataclasses import replace

import pytest
import torch

from afbench.defences import load_defence
from afbench.defences.defended_localizer import DefendedLocalizer
from afbench.localizers import load_localizer


@pytest.fixture(scope="module")
def bare():
    return load_localizer("reference")


@pytest.fixture
def image():
    return torch.rand(2, 3, 48, 32, generator=torch.Generator().manual_seed(0))


def test_a_defended_localizer_is_the_localizer_of_the_purified_image(bare, image):
    defence = load_defence("jpeg")
    defended = DefendedLocalizer(bare, defence)
    assert torch.equal(defended.logits(image), bare.logits(defence.apply(image)))
    assert torch.equal(defended.probability(image), bare.probability(defence.apply(image)))
    probability, logits = defended.probability_and_logits(image)
    assert torch.equal(probability, defended.probability(image)) and torch.equal(
        logits, defended.logits(image)
    )
    assert (defended.name, defended.threshold, defended.weights_sha256) == (
        "reference",
        0.5,
        bare.weights_sha256,
    )
    assert defended.untrained is False and not hasattr(defended, "side") and not hasattr(defended, "resize")


def test_bpda_hands_the_localizers_gradient_at_the_purified_image_back(bare, image):
    defence = load_defence("bit-depth:3")
    attacked, purified = image.clone().requires_grad_(), defence.apply(image).requires_grad_()
    (gradient,) = torch.autograd.grad(DefendedLocalizer(bare, defence).logits(attacked).sum(), attacked)
    (expected,) = torch.autograd.grad(bare.logits(purified).sum(), purified)
    assert torch.equal(gradient, expected) and gradient.abs().max() > 0


def test_eot_averages_the_logits_of_its_fixed_draws(bare, image):
    defence = replace(load_defence("gaussian-noise:8/255"), draws=3)
    draws = [bare.logits(defence.through(image, number)) for number in range(3)]
    defended = DefendedLocalizer(bare, defence)
    torch.testing.assert_close(defended.logits(image), torch.stack(draws).mean(dim=0))
    assert not torch.equal(draws[0], draws[1])
    # what is scored is behind a draw no attack has seen
    assert not any(torch.allclose(bare.logits(defence.apply(image)), draw, atol=1e-3) for draw in draws)
