"""What the module is trained for: forensic features of the original (FFA), its mask (MgR), or its pixels (PwR)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

ALPHA = 1e-8
BCE_SHARE = 0.3
SMOOTHING = 1.0
"""Added to both sides of the dice coefficient, in pixels: an empty mask that is found empty has loss 0."""


def spatial_softmax(features: Tensor) -> Tensor:
    """Turn each channel ``(N, C, H, W)`` into a distribution over its positions, ``(N, C, H * W)``; always float32.

    Source: the ANSM paper, Eq. 9-10.
    """
    return torch.softmax(features.float().flatten(2), dim=2)


def divergence(first: Tensor, second: Tensor, *, alpha: float = ALPHA) -> Tensor:
    """Compute KL(first || second) of distributions ``(N, C, P)``, over positions and averaged over channels: ``(N,)``.

    Source: the ANSM paper, Eq. 11-12, with alpha in both logarithms' arguments. ``F.kl_div`` would take its
    arguments in the other order and no alpha.
    """
    ratio = torch.log((first + alpha) / (second + alpha))
    return (first * ratio).mean(dim=(1, 2))


def ffa_loss(purified: Sequence[Tensor], original: Sequence[Tensor], *, reverse: bool = False) -> Tensor:
    """Compute the forensic feature alignment loss of each image, ``(N,)``.

    Args:
        purified: feature maps of the frozen localizer for purified images, each ``(N, C, H, W)``.
        original: the same for their originals.
        reverse: KL(original || purified) instead of what the paper writes, KL(purified || original).
    Source: the ANSM paper, Eq. 13: the mean over layers.
    """
    terms = []
    for purified_map, original_map in zip(purified, original, strict=True):
        pair = spatial_softmax(purified_map), spatial_softmax(original_map)
        terms.append(divergence(*(reversed(pair) if reverse else pair)))
    return torch.stack(terms).mean(dim=0)


def mask_loss(logits: Tensor, mask: Tensor, *, squares: bool = False) -> Tensor:
    """Compute 0.3 BCE + 0.7 (1 - dice) of each image, ``(N,)``; ``logits`` and ``mask`` (0 or 1) are ``(N, 1, H, W)``.

    Args:
        logits: of the localizer.
        mask: what they should say.
        squares: which dice, see ``dice``.
    Source: the ANSM paper, Eq. 14-16.
    Differs: 1 - dice; Eq. 15 prints the coefficient itself, and lowering that drives F1 to 0.
    """
    entropy = F.binary_cross_entropy_with_logits(logits, mask, reduction="none").mean(dim=(1, 2, 3))
    return BCE_SHARE * entropy + (1 - BCE_SHARE) * (1 - dice(torch.sigmoid(logits), mask, squares=squares))


def dice(probability: Tensor, mask: Tensor, *, squares: bool = False) -> Tensor:
    """Compute the dice coefficient of each image, ``(N,)``, in (0, 1].

    With ``squares`` the denominator is the sum of P^2 and M^2, as Eq. 15 prints it; else that of P and M.

    Differs: smoothed on both sides, which the paper doesn't print; without it an empty mask has 0 / 0.
    """
    overlap = (probability * mask).sum(dim=(1, 2, 3))
    if squares:
        probability, mask = probability.square(), mask.square()
    total = probability.sum(dim=(1, 2, 3)) + mask.sum(dim=(1, 2, 3))
    return (2 * overlap + SMOOTHING) / (total + SMOOTHING)


def pixel_loss(purified: Tensor, original: Tensor) -> Tensor:
    """Compute the mean absolute difference of each image, ``(N,)``: pixel-wise restoration, the paper's ablation.

    Source: the ANSM paper, Table V.
    """
    return (purified - original).abs().mean(dim=(1, 2, 3))
