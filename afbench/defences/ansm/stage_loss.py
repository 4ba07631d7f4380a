"""The loss of one step: what is compared with what in each stage."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from afbench.core import Localizer, UsageError
from afbench.defences.training.pairs import Batch

from .find_write import FinderOutput
from .restoration_losses import ffa_loss, mask_loss, pixel_loss
from .settings import Settings

MAX_LAYERS = 5
ATTACKED_SHARE = 0.1
"""Weight of the finder's answer for the whole image beside its mask."""


def stage_loss(
    loss: str, network: Callable[..., Any], localizer: Localizer, batch: Batch, settings: Settings
) -> Tensor:
    """Compute the loss of each pair, ``(N,)``, in one pass through what the stage trains: the module, its finder or its writer.

    Source: the ANSM paper, Algorithm 1; ``find`` and ``write`` are ours.
    """
    original, attacked, mask = batch
    if loss == "find":
        return _find(network(attacked), batch, settings)
    if loss == "pwr":
        return pixel_loss(network(attacked), original)
    if loss == "ffa":
        return _ffa(network(attacked), localizer, batch, settings)
    if settings.mgr_mask == "predicted":
        with torch.no_grad():
            mask = (localizer.probability(original) > localizer.threshold).to(original.dtype)
    # one pass for both halves: a process group counts passes, and batch norm sees what it will see in use
    stacked = torch.cat([original, attacked])
    if loss == "write":
        purified = stacked + settings.bound * network(stacked, torch.cat([mask, mask]))
        stacked_logits = localizer.logits(purified.clamp(0.0, 1.0))
    else:
        stacked_logits = localizer.logits(network(stacked))
    return sum(_mask_loss(logits, mask, settings) for logits in stacked_logits.chunk(2))  # type: ignore[return-value]


def _find(findings: FinderOutput, batch: Batch, settings: Settings) -> Tensor:
    """Compute the true mask's loss, and a little of the answer whether anything was added to the original."""
    touched = (batch.attacked != batch.original).flatten(1).any(dim=1).to(findings.attacked.dtype)
    attacked = F.binary_cross_entropy_with_logits(findings.attacked, touched, reduction="none")
    return _mask_loss(findings.forged, batch.mask, settings) + ATTACKED_SHARE * attacked


def _ffa(purified: Tensor, localizer: Localizer, batch: Batch, settings: Settings) -> Tensor:
    """Compute FFA, and with ``ffa_mask`` add the mask loss of the attacked image.

    Differs: the paper has FFA alone here. A short training goes further with both, since features of a third of the
    localizer say little about where its mask will be.
    """
    if not settings.ffa_mask:
        with torch.no_grad():
            targets = aligned_features(localizer, batch.original, settings.depth)
        features = aligned_features(localizer, purified, settings.depth)
        return ffa_loss(features, targets, reverse=settings.reverse)
    with torch.no_grad():
        targets, original_logits = _features_and_logits(localizer, batch.original, settings.depth)
        mask = batch.mask
        if settings.mgr_mask == "predicted":
            mask = (torch.sigmoid(original_logits) > localizer.threshold).to(purified.dtype)
    features, logits = _features_and_logits(localizer, purified, settings.depth)
    return ffa_loss(features, targets, reverse=settings.reverse) + settings.ffa_mask * _mask_loss(
        logits, mask, settings
    )


def _mask_loss(logits: Tensor, mask: Tensor, settings: Settings) -> Tensor:
    return mask_loss(logits, mask, squares=settings.dice == "squares")


def _features_and_logits(localizer: Localizer, image: Tensor, depth: str) -> tuple[list[Tensor], Tensor]:
    features_and_logits = getattr(localizer, "features_and_logits", None)
    if features_and_logits is None:
        return aligned_features(localizer, image, depth), localizer.logits(image)
    features, logits = features_and_logits(image, depth)
    return [features[index] for index in evenly(len(features), MAX_LAYERS)], logits


def aligned_features(localizer: Localizer, image: Tensor, depth: str) -> list[Tensor]:
    """Return at most five evenly spaced feature maps of one third of a localizer.

    Raises:
        UsageError: if the localizer shows no features.
    """
    features = getattr(localizer, "features", None)
    if features is None:
        raise UsageError(
            f"localizer '{localizer.name}' shows no features for FFA; give it features(image, third), or train with "
            "--loss mgr"
        )
    maps: list[Tensor] = features(image, depth)
    return [maps[index] for index in evenly(len(maps), MAX_LAYERS)]


def evenly(count: int, limit: int) -> list[int]:
    """Return at most ``limit`` of ``count`` indices, evenly spaced, the first and the last among them."""
    if count <= limit:
        return list(range(count))
    return [round(step * (count - 1) / (limit - 1)) for step in range(limit)]


def layer_shapes(localizer: Localizer, settings: Settings, device: torch.device) -> list[list[int]]:
    """Return channels, height and width of the layers that FFA aligns, at the training size, as checkpoints record them."""
    image = torch.full((1, 3, settings.side, settings.side), 0.5, device=device)
    with torch.no_grad():
        return [list(features.shape[1:]) for features in aligned_features(localizer, image, settings.depth)]
