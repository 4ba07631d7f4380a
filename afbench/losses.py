"""Pixel losses: logits and mask to one number per image, ``(N,)``."""

from __future__ import annotations

import math
from typing import Any, Literal, cast

import torch
from torch import Tensor
from torch.nn import functional as F

Objective = Literal["probability", "logit"]


def binary_cross_entropy(logits: Tensor, mask: Tensor) -> Tensor:
    """Average the cross-entropy of each image over its own pixels.

    Computed as ``softplus((1 - 2 M) z)``: from probabilities the float32 gradient is exactly 0 once z >= 17,
    and a mean over the batch would make one image's attack depend on the others.

    Args:
        logits: ``(N, 1, H, W)``.
        mask: ``(N, 1, H, W)`` of 0 and 1.
    Returns:
        ``(N,)``.
    Source: the loss J of ANSM Eq. 3, which the paper does not name; cross-entropy is what the localizers train on.
    """
    return pixel_cross_entropy(logits, mask).mean(dim=(1, 2, 3))


def pixel_cross_entropy(logits: Tensor, mask: Tensor) -> Tensor:
    """Compute the cross-entropy of every pixel, ``(N, 1, H, W)``."""
    return F.softplus((1 - 2 * mask) * logits)


def forged_excess(
    logits: Tensor, *, threshold: float, hinge: bool = True, objective: Objective = "probability"
) -> Tensor:
    """Sum how far the forged pixels stand above the threshold: what C&W lowers to get an all-zero mask.

    ``sum_pixels max(0, 2 (P - delta))``; a sum, because with the mean the square norm of the perturbation
    outweighs it and 8-bit rounding erases the result.

    Args:
        logits: ``(N, 1, H, W)``.
        threshold: delta, the localizer's own threshold in (0, 1).
        hinge: stop pushing pixels that are already below the threshold.
        objective: measure the excess in probability, or in logits (which do not saturate).
    Returns:
        ``(N,)``.
    Source: ANSM Eq. 4-5 after Carlini & Wagner 2017, arXiv 1608.04644, with k = delta - (1 - delta).
    """
    if objective == "logit":
        excess = logits - math.log(threshold / (1 - threshold))
    else:
        excess = saturating_sigmoid(logits) - threshold
    margin = 2 * excess
    return (margin.clamp(min=0) if hinge else margin).sum(dim=(1, 2, 3))


class _Sigmoid(torch.autograd.Function):
    """Sigmoid whose gradient is sigmoid(z) sigmoid(-z): autograd's p (1 - p) is exactly 0 in float32 at z >= 17."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor) -> Tensor:
        ctx.save_for_backward(logits)
        return torch.sigmoid(logits)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        (logits,) = ctx.saved_tensors
        return grad_outputs[0] * torch.sigmoid(logits) * torch.sigmoid(-logits)


def saturating_sigmoid(logits: Tensor) -> Tensor:
    """Turn logits into probabilities, with a gradient that survives saturation."""
    return cast(Tensor, _Sigmoid.apply(logits))
