"""The reference localizer with room for two images at once, where no GPU's memory can be made to run out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from afbench import load_localizer
from afbench.core import Localizer

MAX_IMAGES = 2


@dataclass(frozen=True)
class CrampedLocalizer:
    """Does what ``inner`` does, for at most ``MAX_IMAGES`` images."""

    inner: Localizer
    weights_sha256: str
    name: str = "cramped"
    threshold: float = 0.5

    def logits(self, image: Tensor) -> Tensor:
        """Compute ``(N, 3, H, W)`` to ``(N, 1, H, W)``.

        Raises:
            torch.OutOfMemoryError: for more images than there is room for.
        """
        if len(image) > MAX_IMAGES:
            raise torch.OutOfMemoryError(f"out of memory: room for {MAX_IMAGES} images")
        return self.inner.logits(image)

    def probability(self, image: Tensor) -> Tensor:
        """Compute the probability at the same size, in [0, 1]."""
        return torch.sigmoid(self.logits(image))


def build(checkpoint: str | None, device: str) -> CrampedLocalizer:
    """Build the localizer of ``--localizer gpu_parts.cramped:build``."""
    inner = load_localizer("reference", checkpoint, device=device)
    return CrampedLocalizer(inner, inner.weights_sha256)
