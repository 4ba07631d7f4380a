"""APGD: signed steps with momentum whose size halves where they no longer help; the best point is kept."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from attacks.gradient import (
    LossFn,
    check_image,
    check_steps,
    loss_and_gradient,
)
from attacks.sign import Ball, ball, per_image, started, stepped

MOMENTUM = 0.75
"""Weight of the new step beside the last move."""
ENOUGH = 0.75
"""Share of the steps between two checkpoints that must raise the loss, or the step size halves."""


class _Point(NamedTuple):
    """Images, the loss of each, and its gradient there."""

    image: Tensor
    loss: Tensor
    gradient: Tensor


def apgd(loss: LossFn, image: Tensor, *, phi: Tensor, steps: int, start: Tensor | None = None) -> Tensor:
    """Step with momentum along the sign of the gradient, with a step size of its own for each image.

    The size begins at ``2 phi``. At checkpoints it halves, and the image goes back to its best point, where fewer than
    three quarters of the steps raised the loss, or where neither the size nor the best loss has changed.

    Args:
        loss: one number per image ``(N,)``; raised. Its values decide which point is kept.
        image: float ``(N, 3, H, W)``, RGB in [0, 1].
        phi: ``(N, 1, 1, 1)``, L-inf radius in units of the [0, 1] range.
        steps: number of gradients, at least 1; the loss of the last point takes one more pass without a gradient.
        start: ``(N, 3, H, W)`` in [-1, 1), the starting point in units of ``phi``; the image itself when omitted.
    Returns:
        Same shape and range as ``image``, not yet quantised: of all points, the one with the highest loss.
    Raises:
        ValueError: if ``image`` leaves [0, 1], a tensor has the wrong shape, or ``steps`` is below 1.
    Source: Croce & Hein 2020, arXiv 2003.01690, Algorithm 1.
    Differs: a checkpoint is looked at after its own step, as in the authors' release, not after the next.
    """
    check_steps(steps)
    x = check_image(image)
    phi = per_image("phi", phi, x)
    allowed = ball(x, phi)
    if start is not None:
        x = started(x, start, phi, allowed)
    return best_point(loss, x, allowed=allowed, phi=phi, steps=steps)


def best_point(loss: LossFn, start: Tensor, *, allowed: Ball, phi: Tensor, steps: int) -> Tensor:
    """Run the loop of ``apgd`` from images that lie in the ball ``allowed``; arguments as there, and checked."""
    current = best = _Point(start, *loss_and_gradient(loss, start))
    previous, size = start, 2 * phi
    size_then, best_then = size, best.loss
    rises = torch.zeros_like(best.loss)
    # a loss that is not a number is never the best: it must spoil the image all the same
    broken = 0 * current.loss
    checked, due = 0, checkpoints(steps)
    for step in range(1, steps + 1):
        target = stepped(current.image, current.gradient, size, allowed)
        if step > 1:
            target = MOMENTUM * target + (1 - MOMENTUM) * (2 * current.image - previous)
        moved = torch.clamp(target, *allowed)
        new = _Point(moved, *_look(loss, moved, current.gradient, with_gradient=step < steps))
        rises, broken = rises + (new.loss > current.loss), broken + 0 * new.loss
        previous, current = current.image, new
        best = _chosen(new.loss > best.loss, new, best)
        if step in due:
            stuck = (size == size_then).flatten() & (best.loss == best_then)
            halved = (rises < ENOUGH * (step - checked)) | stuck
            size_then, best_then = size, best.loss
            size = torch.where(halved.view(-1, 1, 1, 1), size / 2, size)
            current = _chosen(halved, best, current)
            rises, checked = torch.zeros_like(rises), step
    return best.image + broken.view(-1, 1, 1, 1).to(start)


def checkpoints(steps: int) -> frozenset[int]:
    """List the steps after which the step size may halve: at 22 % of all, then ever closer, at least 6 % apart."""
    share, distance, result = 0.0, 0.22, set()
    while share + distance <= 1:
        share += distance
        result.add(math.ceil(share * steps - 1e-9))
        distance = max(distance - 0.03, 0.06)
    return frozenset(result)


def _look(loss: LossFn, image: Tensor, gradient: Tensor, *, with_gradient: bool) -> tuple[Tensor, Tensor]:
    """Take loss and gradient at an image; of the last one the loss alone, beside a gradient nobody will use."""
    if with_gradient:
        return loss_and_gradient(loss, image)
    with torch.no_grad():
        return loss(image), gradient


def _chosen(first: Tensor, yes: _Point, no: _Point) -> _Point:
    """Take from ``yes`` the images where ``first`` is true, and from ``no`` the others."""
    pixels = first.view(-1, 1, 1, 1)
    return _Point(
        torch.where(pixels, yes.image, no.image),
        torch.where(first, yes.loss, no.loss),
        torch.where(pixels, yes.gradient, no.gradient),
    )
