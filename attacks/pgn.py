"""PGN: climb towards flat regions by averaging gradients around random neighbours."""

from collections.abc import Callable

import torch
from torch import Tensor

from attacks.gradient import LossFn, check_image, check_shape, check_steps, input_gradient
from attacks.sign import ball, l1_unit, per_image, stepped


def pgn(
    loss: LossFn,
    image: Tensor,
    *,
    noise: Callable[[int], Tensor],
    phi: Tensor,
    alpha: Tensor,
    steps: int,
    zeta: float = 3.0,
    delta: float = 0.5,
    mu: float = 1.0,
    chunk: int | None = None,
) -> Tensor:
    """Step as ``mifgsm`` does, along a gradient averaged over random neighbours, with a penalty on its norm.

    Args:
        loss: one number per image; raised. Is given ``k N`` images laid out as ``image.repeat(k, 1, 1, 1)``,
            which leave [0, 1], and must give ``(k N,)``.
        image: float ``(N, 3, H, W)``, RGB in [0, 1].
        noise: step number to ``(K, N, 3, H, W)`` in [-1, 1), one draw for each of K neighbours.
        phi: ``(N, 1, 1, 1)``, L-inf radius in units of the [0, 1] range.
        alpha: ``(N, 1, 1, 1)``, step size in the same units; the paper takes ``phi / steps``.
        steps: number of steps, at least 1; each costs 2 K gradients.
        zeta: neighbours lie within ``zeta * phi``.
        delta: weight of the second gradient, in [0, 1].
        mu: decay of the running sum.
        chunk: neighbours per batch, at least 1; changes memory and speed, never the sum. All K when omitted.
    Returns:
        Same shape and range as ``image``; not yet quantised.
    Raises:
        ValueError: if ``image`` leaves [0, 1], a tensor has the wrong shape, or ``steps``, ``chunk`` or the
            number of neighbours is below 1.
    Source: Ge et al. 2023, arXiv 2306.05225, Algorithm 1.
    Differs: the inner step is divided by the mean of |g|, as in the authors' release; by the sum, as printed,
        it is too small to change the second gradient. A zero gradient adds nothing instead of dividing by
        zero.
    """
    check_steps(steps)
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk must be at least 1 neighbour per launch; found {chunk}")
    x = check_image(image)
    phi, alpha = per_image("phi", phi, x), per_image("alpha", alpha, x)
    allowed = ball(x, phi)
    momentum = torch.zeros_like(x)
    for step in range(steps):
        draws = noise(step)
        if not len(draws):
            raise ValueError(f"noise(step) must hold at least 1 neighbour; found shape {tuple(draws.shape)}")
        offsets = zeta * phi * check_shape("noise(step)", draws, (len(draws), *x.shape), x)
        g = _flat_gradient(loss, x, offsets, alpha=alpha, delta=delta, chunk=chunk or len(draws))
        momentum.mul_(mu).add_(l1_unit(g))
        x = stepped(x, momentum, alpha, allowed)
    return x


def _flat_gradient(
    loss: LossFn, image: Tensor, offsets: Tensor, *, alpha: Tensor, delta: float, chunk: int
) -> Tensor:
    """Average ``(1 - delta) g(near) + delta g(far)`` over the neighbours ``image + offsets``."""
    total = torch.zeros_like(image)
    values_per_image = image.shape[1:].numel()
    for first in range(0, len(offsets), chunk):
        part = offsets[first : first + chunk]
        near = (image + part).flatten(0, 1)
        g_near = input_gradient(loss, near)
        # g / mean|g|, in this order because the mean of a tiny gradient can underflow to 0.
        far = near - alpha.repeat(len(part), 1, 1, 1) * (l1_unit(g_near) * values_per_image)
        mixed = ((1 - delta) * g_near).add_(delta * input_gradient(loss, far))
        # One neighbour after the other, not part by part: the order of a sum must not depend on the chunk.
        for gradient in mixed.reshape(part.shape).unbind():
            total += gradient
    return total / len(offsets)
