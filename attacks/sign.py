"""Steps along the sign of a gradient inside an L-inf ball: FGSM, BIM, PGD, MI-FGSM, and a noise control.

``phi`` and ``alpha`` are per-image tensors ``(N, 1, 1, 1)``, so several settings are one larger batch with
the same results. Where a gradient is not finite the result is NaN: nothing is hidden.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from attacks.gradient import LossFn, check_image, check_shape, check_steps, input_gradient


class Ball(NamedTuple):
    """The lowest and highest value each pixel may take."""

    low: Tensor
    high: Tensor


def fgsm(loss: LossFn, image: Tensor, *, phi: Tensor, gradient: Tensor | None = None) -> Tensor:
    """Take one step of size ``phi`` along the sign of the gradient.

    Args:
        loss: one number per image ``(N,)``; raised.
        image: float ``(N, 3, H, W)``, RGB in [0, 1].
        phi: ``(N, 1, 1, 1)``, L-inf radius in units of the [0, 1] range.
        gradient: the gradient of ``loss`` already computed at ``image``; saves the backward pass.
    Returns:
        Same shape and range as ``image``; not yet quantised.
    Raises:
        ValueError: if ``image`` leaves [0, 1] or a tensor has the wrong shape.
    Source: Goodfellow et al. 2014, arXiv 1412.6572, section 4.
    """
    x = check_image(image)
    phi = per_image("phi", phi, x)
    g = first_gradient(loss, x, gradient)
    return stepped(x, g, phi, ball(x, phi))


def bim(
    loss: LossFn, image: Tensor, *, phi: Tensor, alpha: Tensor, steps: int, gradient: Tensor | None = None
) -> Tensor:
    """Take ``steps`` signed gradient steps of size ``alpha`` inside the ``phi`` ball.

    Args:
        loss: one number per image ``(N,)``; raised.
        image: float ``(N, 3, H, W)``, RGB in [0, 1].
        phi: ``(N, 1, 1, 1)``, L-inf radius in units of the [0, 1] range.
        alpha: ``(N, 1, 1, 1)``, step size in the same units; should scale with ``phi``.
        steps: number of gradients, at least 1.
        gradient: the gradient of ``loss`` already computed at ``image``; saves the first backward pass.
    Returns:
        Same shape and range as ``image``; not yet quantised.
    Raises:
        ValueError: if ``image`` leaves [0, 1], a tensor has the wrong shape, or ``steps`` is below 1.
    Source: Kurakin et al. 2017, arXiv 1607.02533, Eq. 2.
    """
    check_steps(steps)
    x = check_image(image)
    phi, alpha = per_image("phi", phi, x), per_image("alpha", alpha, x)
    allowed = ball(x, phi)
    for step in range(steps):
        g = input_gradient(loss, x) if step else first_gradient(loss, x, gradient)
        x = stepped(x, g, alpha, allowed)
    return x


def pgd(loss: LossFn, image: Tensor, *, start: Tensor, phi: Tensor, alpha: Tensor, steps: int) -> Tensor:
    """Step as ``bim`` does, from a random point of the ``phi`` ball.

    Args:
        loss: one number per image ``(N,)``; raised.
        image: float ``(N, 3, H, W)``, RGB in [0, 1].
        start: ``(N, 3, H, W)`` in [-1, 1), the starting point in units of ``phi``.
        phi: ``(N, 1, 1, 1)``, L-inf radius in units of the [0, 1] range.
        alpha: ``(N, 1, 1, 1)``, step size in the same units; should scale with ``phi``.
        steps: number of gradients, at least 1.
    Returns:
        Same shape and range as ``image``; not yet quantised.
    Raises:
        ValueError: if ``image`` leaves [0, 1], a tensor has the wrong shape, or ``steps`` is below 1.
    Source: Madry et al. 2018, arXiv 1706.06083, section 2.1.
    """
    return climb(lambda step: loss, image, start=start, phi=phi, alpha=alpha, steps=steps)


def climb(
    loss_at: Callable[[int], LossFn], image: Tensor, *, start: Tensor, phi: Tensor, alpha: Tensor, steps: int
) -> Tensor:
    """Run the loop of ``pgd`` with a loss of its own for each step, counted from 0; arguments as there."""
    check_steps(steps)
    x = check_image(image)
    phi, alpha = per_image("phi", phi, x), per_image("alpha", alpha, x)
    allowed = ball(x, phi)
    x = started(x, start, phi, allowed)
    for step in range(steps):
        x = stepped(x, input_gradient(loss_at(step), x), alpha, allowed)
    return x


def mifgsm(
    loss: LossFn,
    image: Tensor,
    *,
    phi: Tensor,
    alpha: Tensor,
    steps: int,
    mu: float = 1.0,
    gradient: Tensor | None = None,
) -> Tensor:
    """Step along the sign of a running sum of normalised gradients inside the ``phi`` ball.

    Args:
        loss: one number per image ``(N,)``; raised.
        image: float ``(N, 3, H, W)``, RGB in [0, 1].
        phi: ``(N, 1, 1, 1)``, L-inf radius in units of the [0, 1] range.
        alpha: ``(N, 1, 1, 1)``, step size in the same units; the paper takes ``phi / steps``.
        steps: number of gradients, at least 1.
        mu: decay of the running sum; 0 is ``bim``.
        gradient: the gradient of ``loss`` already computed at ``image``; saves the first backward pass.
    Returns:
        Same shape and range as ``image``; not yet quantised.
    Raises:
        ValueError: if ``image`` leaves [0, 1], a tensor has the wrong shape, or ``steps`` is below 1.
    Source: Dong et al. 2018, arXiv 1710.06081, Eq. 6-7.
    Differs: the paper divides zero by zero where a gradient vanishes; here it adds nothing, and the image can
        move later.
    """
    check_steps(steps)
    x = check_image(image)
    phi, alpha = per_image("phi", phi, x), per_image("alpha", alpha, x)
    allowed = ball(x, phi)
    momentum = torch.zeros_like(x)
    for step in range(steps):
        # at step 0 the image is still the original, whose gradient may have been handed in
        g = input_gradient(loss, x) if step else first_gradient(loss, x, gradient)
        momentum.mul_(mu).add_(l1_unit(g))
        x = stepped(x, momentum, alpha, allowed)
    return x


def noise(image: Tensor, *, signs: Tensor, phi: Tensor) -> Tensor:
    """Move every value by ``phi`` along a random sign: the control an attack must beat.

    Args:
        image: float ``(N, 3, H, W)``, RGB in [0, 1].
        signs: ``(N, 3, H, W)`` of -1 and +1.
        phi: ``(N, 1, 1, 1)``, L-inf radius in units of the [0, 1] range.
    Returns:
        Same shape and range as ``image``; not yet quantised.
    Raises:
        ValueError: if ``image`` leaves [0, 1] or a tensor has the wrong shape.
    """
    x = check_image(image)
    phi = per_image("phi", phi, x)
    return torch.clamp(x + phi * check_shape("signs", signs, tuple(x.shape), x), *ball(x, phi))


def ball(image: Tensor, phi: Tensor) -> Ball:
    """Intersect the ``phi`` ball around ``image`` with [0, 1]."""
    return Ball((image - phi).clamp(min=0), (image + phi).clamp(max=1))


def started(image: Tensor, start: Tensor, phi: Tensor, allowed: Ball) -> Tensor:
    """Move images to their starts, ``(N, 3, H, W)`` in [-1, 1) in units of ``phi``, inside the ball."""
    return torch.clamp(image + phi * check_shape("start", start, tuple(image.shape), image), *allowed)


def per_image(name: str, value: Tensor, image: Tensor) -> Tensor:
    """Check a setting that is one number per image, ``(N, 1, 1, 1)``."""
    return check_shape(name, value, (image.shape[0], 1, 1, 1), image)


def first_gradient(loss: LossFn, image: Tensor, gradient: Tensor | None) -> Tensor:
    """Take the gradient that was handed in, or compute it."""
    if gradient is None:
        return input_gradient(loss, image)
    return check_shape("gradient", gradient, tuple(image.shape), image)


def stepped(image: Tensor, gradient: Tensor, alpha: Tensor, allowed: Ball) -> Tensor:
    """Move every value by ``alpha`` along the sign of its gradient, inside the ball; NaN where that is not finite.

    Works in one tensor: a new one for each operation took 3 % of an attack's time on a CPU.
    """
    # sign alone turns NaN into 0, and infinite values into 1; zero times them is NaN
    way = gradient.sign().add_(gradient, alpha=0)
    return way.mul_(alpha).add_(image).clamp_(*allowed)


def l1_unit(gradient: Tensor) -> Tensor:
    """Divide each image's gradient by its L1 norm; a zero gradient stays zero.

    One axis at a time: over all axes at once torch splits a lone image, but not a batch, between threads, and
    the sum would depend on the batch.
    """
    norm = gradient.abs().sum(3, keepdim=True).sum(2, keepdim=True).sum(1, keepdim=True)
    return gradient / torch.where(norm > 0, norm, 1)
