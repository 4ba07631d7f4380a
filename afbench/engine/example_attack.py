"""An attack in the form of a user's own, to be copied: ``--attack afbench.engine.example_attack:build``."""

from __future__ import annotations

from torch import Tensor

from afbench.plans import Attack
from afbench.plans.own_attack import as_attack
from attacks import LossFn, input_gradient


def halving(loss: LossFn, image: Tensor, *, phi: Tensor, steps: int = 4) -> Tensor:
    """Take signed steps of phi, phi/2, phi/4, ... inside the ball, NaN where a gradient is not finite."""
    attacked = image
    for step in range(steps):
        gradient = input_gradient(loss, attacked)
        attacked = attacked + phi / 2**step * (gradient.sign() + 0 * gradient)
        attacked = attacked.clamp(image - phi, image + phi).clamp(0, 1)
    return attacked


def build() -> Attack:
    """Describe it to afbench, with what it costs."""
    return as_attack(halving, name="halving", gradients=lambda steps: steps)
