"""A localizer behind a defence as one network, which adaptive attacks attack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from afbench.core import Localizer
from afbench.images import resize

from .purifier import Purifier

LOCALIZER_TRAITS = frozenset(
    {"resolution", "logit", "logit_threshold", "untrained", "side", "canvas", "resize", "fit"}
)
"""Attributes of a localizer beyond its protocol that nothing put around it changes."""


@dataclass(frozen=True)
class DefendedLocalizer:
    """A localizer behind a defence, as one network with gradients: exact ones, or the defence's stand-ins (BPDA).

    Behind a random defence ``logits`` average the localizer's logits over the defence's fixed draws (EOT). ``probability``,
    which is scored, uses the draw that every evaluation makes: the attack knows the defence's distribution, not its
    dice. Logits are averaged, not losses, so that an attack can use any loss.

    Differs: Athalye et al. 2018, arXiv 1802.00420, draw anew in every step and average the loss; fixed draws make an attack
    a function of its seed, whatever the batch.
    """

    inner: Localizer
    defence: Purifier

    @property
    def name(self) -> str:
        return self.inner.name

    @property
    def threshold(self) -> float:
        return self.inner.threshold

    @property
    def weights_sha256(self) -> str:
        return self.inner.weights_sha256

    @property
    def kib_per_pixel(self) -> float:
        """Memory of one gradient: every draw holds a pass of its own, and a trained defence needs about one more or what it says."""
        own_passes = 0 if self.defence.network is None else int(getattr(self.defence.network, "passes", 1))
        passes = self.defence.draws + own_passes
        return passes * float(getattr(self.inner, "kib_per_pixel", 4.0))

    def logits(self, image: Tensor) -> Tensor:
        """Return what an attack differentiates, ``(N, 1, H, W)``, of images ``(N, 3, H, W)``."""
        size = image.shape[-2:]  # the defence may bring images to the localizer's size
        if self.defence.deterministic:
            return resize(self.inner.logits(self.defence.through(image)), size)
        draws = [self.inner.logits(self.defence.through(image, draw)) for draw in range(self.defence.draws)]
        return resize(torch.stack(draws).mean(dim=0), size)

    def probability(self, image: Tensor) -> Tensor:
        """Return ``(N, 1, H, W)`` in [0, 1] for images ``(N, 3, H, W)`` once they are purified."""
        return resize(self.inner.probability(self.defence.apply(image)), image.shape[-2:])

    def probability_and_logits(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return both; from one pass where nothing is random and the localizer offers that."""
        one_pass = getattr(self.inner, "probability_and_logits", None)
        if one_pass is None or not self.defence.deterministic:
            return self.probability(image), self.logits(image)
        probability, logits = one_pass(self.defence.apply(image))
        return resize(probability, image.shape[-2:]), resize(logits, image.shape[-2:])

    def __getattr__(self, name: str) -> Any:
        if name in LOCALIZER_TRAITS:
            return getattr(self.inner, name)
        raise AttributeError(name)


def undefended(localizer: Localizer) -> Localizer:
    """Return the localizer without its defence, if it stands behind one."""
    return localizer.inner if isinstance(localizer, DefendedLocalizer) else localizer


def defence_of(localizer: Localizer) -> Purifier | None:
    """Return the defence a localizer stands behind, if any."""
    return localizer.defence if isinstance(localizer, DefendedLocalizer) else None
