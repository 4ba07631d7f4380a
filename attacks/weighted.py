"""PGD on a loss whose pixels are weighted anew in every step: SegPGD and CosPGD.

Both weights are functions of the cross-entropy of a pixel alone: what the localizer gives to the pixel's true
class is ``exp(-loss)``, and it is right where that is above one half.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from attacks.gradient import LossFn
from attacks.sign import climb

PixelLossFn = Callable[[Tensor], Tensor]
"""``(N, 3, H, W)`` to the cross-entropy of every pixel ``(N, 1, H, W)``, at least 0."""
Weigh = Callable[[Tensor], Tensor]
"""Pixel losses, detached, to weights of the same shape."""


def segpgd(
    losses: PixelLossFn, image: Tensor, *, start: Tensor, phi: Tensor, alpha: Tensor, steps: int
) -> Tensor:
    """Step as ``pgd`` does, first on pixels that are still right, later on right and wrong ones nearly alike.

    In step t of T wrong pixels weigh ``(t - 1) / 2T`` and right ones the rest of 1.

    Args:
        losses: the cross-entropy of every pixel ``(N, 1, H, W)``; its weighted mean per image is raised.
        image: float ``(N, 3, H, W)``, RGB in [0, 1].
        start: ``(N, 3, H, W)`` in [-1, 1), the starting point in units of ``phi``.
        phi: ``(N, 1, 1, 1)``, L-inf radius in units of the [0, 1] range.
        alpha: ``(N, 1, 1, 1)``, step size in the same units; should scale with ``phi``.
        steps: number of gradients, at least 1.
    Returns:
        Same shape and range as ``image``; not yet quantised.
    Raises:
        ValueError: if ``image`` leaves [0, 1], a tensor has the wrong shape, or ``steps`` is below 1.
    Source: Gu et al. 2022, arXiv 2207.12391, Algorithm 1.
    Differs: right means more than one half for the true one of two classes, whatever the localizer's threshold.
    """

    def weigh_at(step: int) -> Weigh:
        wrong = step / (2 * steps)
        return lambda pixels: wrong + (1 - 2 * wrong) * (pixels < math.log(2)).to(pixels)

    return climb(
        lambda step: _weighted(losses, weigh_at(step)), image, start=start, phi=phi, alpha=alpha, steps=steps
    )


def cospgd(
    losses: PixelLossFn, image: Tensor, *, start: Tensor, phi: Tensor, alpha: Tensor, steps: int
) -> Tensor:
    """Step as ``pgd`` does, on pixels weighted by how well prediction and mask agree.

    The weight is the cosine of the two class probabilities ``(1 - P, P)`` and the mask as ``(1 - M, M)``; it is no
    part of the gradient.

    Args:
        losses: the cross-entropy of every pixel ``(N, 1, H, W)``; its weighted mean per image is raised.
        image: float ``(N, 3, H, W)``, RGB in [0, 1].
        start: ``(N, 3, H, W)`` in [-1, 1), the starting point in units of ``phi``.
        phi: ``(N, 1, 1, 1)``, L-inf radius in units of the [0, 1] range.
        alpha: ``(N, 1, 1, 1)``, step size in the same units; should scale with ``phi``.
        steps: number of gradients, at least 1.
    Returns:
        Same shape and range as ``image``; not yet quantised.
    Raises:
        ValueError: if ``image`` leaves [0, 1], a tensor has the wrong shape, or ``steps`` is below 1.
    Source: Agnihotri et al. 2024, arXiv 2302.02213.
    Differs: a localizer gives one number per pixel, which stands for two class probabilities.
    """
    return climb(
        lambda step: _weighted(losses, _agreement), image, start=start, phi=phi, alpha=alpha, steps=steps
    )


def _agreement(pixels: Tensor) -> Tensor:
    truth = torch.exp(-pixels)
    return truth / torch.hypot(truth, 1 - truth)


def _weighted(losses: PixelLossFn, weigh: Weigh) -> LossFn:
    def loss(image: Tensor) -> Tensor:
        pixels = losses(image)
        if pixels.ndim != 4 or pixels.shape[:2] != (len(image), 1):
            raise ValueError(
                f"losses must give one number per pixel, shape ({len(image)}, 1, H, W); found {tuple(pixels.shape)}"
            )
        return (weigh(pixels.detach()) * pixels).mean(dim=(1, 2, 3))

    return loss
