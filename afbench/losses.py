"""Pixel losses: logits and mask to one number per image, ``(N,)``."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, cast

import torch
from torch import Tensor
from torch.nn import functional as F

Objective = Literal["probability", "logit"]
MapLoss = Callable[[Tensor, Tensor], Tensor]
"""Logits and masks ``(N, 1, H, W)`` to one number per image ``(N,)``, which an attack raises."""
HINGE_MARGIN = 1.0
"""How far beyond the threshold, in logits, ``hinge`` pushes a pixel: one that rests at it comes back with 8-bit rounding."""
_NOTHING = -1e30
"""The logarithm of nothing, in a form that float32 can subtract from itself."""


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
    logits: Tensor,
    *,
    threshold: float,
    hinge: bool = True,
    objective: Objective = "probability",
    kappa: float = 0.0,
) -> Tensor:
    """Sum how far the forged pixels stand above the threshold: what C&W lowers to get an all-zero mask.

    ``sum_pixels max(0, 2 (P - delta))``; a sum, because with the mean the square norm of the perturbation
    outweighs it and 8-bit rounding erases the result.

    Args:
        logits: ``(N, 1, H, W)``.
        threshold: delta, the localizer's own threshold in (0, 1).
        hinge: stop pushing pixels that are already below the threshold.
        objective: measure the excess in probability, or in logits (which do not saturate).
        kappa: confidence: with ``hinge`` pixels are pushed until they lie this far below, in units of the sum's terms.
    Returns:
        ``(N,)``.
    Source: ANSM Eq. 4-5 after Carlini & Wagner 2017, arXiv 1608.04644, with k = delta - (1 - delta).
    """
    if objective == "logit":
        excess = logits - math.log(threshold / (1 - threshold))
    else:
        excess = saturating_sigmoid(logits) - threshold
    margin = 2 * excess
    return (margin.clamp(min=-kappa) if hinge else margin).sum(dim=(1, 2, 3))


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


def cross_entropy(logits: Tensor, mask: Tensor) -> Tensor:
    """Compute ``binary_cross_entropy`` with a sum that no batch changes: attacks also compare its values."""
    return _mean(pixel_cross_entropy(logits, mask))


def soft_f1(logits: Tensor, mask: Tensor) -> Tensor:
    """Compute ``-log`` of F1 with probabilities P instead of decisions: ``-log(2 sum PM / (sum P + sum M))``.

    Saturated pixels weigh next to nothing, so that large logits hide no gradient of the others. Without a forged pixel
    it is ``log(1 + sum P)``, which false pixels raise.

    Args:
        logits: ``(N, 1, H, W)``.
        mask: ``(N, 1, H, W)`` of 0 and 1.
    Returns:
        ``(N,)``.
    Source: the Dice loss of Milletari et al. 2016, arXiv 1606.04797, without its squares, as a logarithm.
    """
    forged = _sum(mask)
    marked = _sum(saturating_sigmoid(logits))
    # in logarithms: a sum of probabilities that underflow would have neither a logarithm nor a gradient
    inside = F.logsigmoid(logits).masked_fill(mask == 0, _NOTHING)
    highest = inside.detach().amax(dim=(1, 2, 3), keepdim=True)
    log_overlap = _sum((inside - highest).exp()).log() + highest.flatten()
    is_empty = forged == 0
    return (marked + forged + is_empty).log() - torch.where(is_empty, 0.0, math.log(2) + log_overlap)


def jensen_shannon(logits: Tensor, mask: Tensor) -> Tensor:
    """Average the Jensen-Shannon divergence between each pixel's two class probabilities and its true class.

    At most log 2 a pixel, so that pixels already wrong do not draw the attack away from the others.

    Args:
        logits: ``(N, 1, H, W)``.
        mask: ``(N, 1, H, W)`` of 0 and 1.
    Returns:
        ``(N,)``.
    Source: Croce et al. 2024 (SEA), arXiv 2306.12941, section 3; in closed form for two classes.
    """
    toward_truth = (2 * mask - 1) * logits
    truth = saturating_sigmoid(toward_truth)
    return math.log(2) + _mean(truth * F.logsigmoid(toward_truth) - (1 + truth) * torch.log1p(truth)) / 2


def masked_cross_entropy(logits: Tensor, mask: Tensor) -> Tensor:
    """Average the cross-entropy over all pixels, where those already wrong have no gradient.

    They count as log 2, what a pixel has at the threshold, so that the loss rises with each of them.

    Args:
        logits: ``(N, 1, H, W)``; a pixel is called forged above 0.
        mask: ``(N, 1, H, W)`` of 0 and 1.
    Returns:
        ``(N,)``.
    Source: Croce et al. 2024 (SEA), arXiv 2306.12941, section 3.
    Differs: there wrong pixels count as 0, which is the same gradient, but a loss that falls when a pixel becomes wrong.
    """
    right = (logits > 0) == (mask > 0)
    return _mean(torch.where(right, pixel_cross_entropy(logits, mask), math.log(2)))


def balanced_cross_entropy(logits: Tensor, mask: Tensor) -> Tensor:
    """Average the cross-entropy over the forged and over the authentic pixels, and halve the sum of both.

    A class without pixels adds 0.

    Args:
        logits: ``(N, 1, H, W)``.
        mask: ``(N, 1, H, W)`` of 0 and 1.
    Returns:
        ``(N,)``.
    Source: Xie & Tu 2015, arXiv 1504.06375, Eq. 2, with the classes of each image.
    """
    losses = pixel_cross_entropy(logits, mask)
    forged, authentic = (_sum(part * losses) / _sum(part).clamp(min=1) for part in (mask, 1 - mask))
    return (forged + authentic) / 2


def hinge(logits: Tensor, mask: Tensor) -> Tensor:
    """Average over the forged pixels ``-max(0, z + margin)``: raised until all are called authentic by the margin.

    Without a forged pixel it is the same of authentic ones, which are then to be called forged.

    Args:
        logits: ``(N, 1, H, W)``; a pixel is called forged above 0.
        mask: ``(N, 1, H, W)`` of 0 and 1.
    Returns:
        ``(N,)``.
    Source: Carlini & Wagner 2017, arXiv 1608.04644, objective f6 with its margin.
    """
    forged = _sum(mask)
    counted = torch.where(forged.view(-1, 1, 1, 1) > 0, mask, torch.ones_like(mask))
    still_right = ((2 * mask - 1) * logits + HINGE_MARGIN).clamp(min=0)
    return -_sum(counted * still_right) / _sum(counted)


ATTACK_LOSSES: Mapping[str, MapLoss] = {
    "bce": cross_entropy,
    "soft-f1": soft_f1,
    "js": jensen_shannon,
    "masked-ce": masked_cross_entropy,
    "balanced-ce": balanced_cross_entropy,
    "hinge": hinge,
}
"""What an attack may raise, by the name a user gives it. All but ``bce`` are given logits counted from the threshold."""


def _sum(pixels: Tensor) -> Tensor:
    """Sum each image's pixels, one axis at a time: over all at once torch splits a lone image, but not a batch,
    between threads, and the sum would depend on the batch."""
    return pixels.sum(dim=3).sum(dim=2).sum(dim=1)


def _mean(pixels: Tensor) -> Tensor:
    return _sum(pixels) / pixels[0].numel()
