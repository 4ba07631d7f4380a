"""The reference localizer with a stopwatch: how long forward and backward passes take inside a whole run."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from afbench import load_localizer
from afbench.core import Localizer

from .clock import Clock


@dataclass
class Stopwatch:
    """Seconds inside the localizer so far: of passes that are differentiated, and of those that only look."""

    clock: Clock = field(default_factory=Clock)
    gradients: float = 0.0
    looks: float = 0.0


WATCH = Stopwatch()


@dataclass(frozen=True)
class TimedLocalizer:
    """Does what ``inner`` does, and adds its time to ``WATCH``."""

    inner: Localizer
    weights_sha256: str
    name: str = "timed"
    threshold: float = 0.5

    def logits(self, image: Tensor) -> Tensor:
        """Compute ``(N, 3, H, W)`` to ``(N, 1, H, W)``; time a gradient from here to the image: forward, loss, backward."""
        if not image.requires_grad:
            return self.probability_and_logits(image)[1]
        start = self._now()
        image.register_hook(lambda gradient: self._stop(start))  # type: ignore[no-untyped-call]
        return self.inner.logits(image)

    def probability(self, image: Tensor) -> Tensor:
        """Compute ``(N, 3, H, W)`` to ``(N, 1, H, W)`` in [0, 1]."""
        return self.probability_and_logits(image)[0]

    def probability_and_logits(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Compute both in one pass."""
        start = self._now()
        logits = self.inner.logits(image)
        WATCH.looks += self._now() - start
        return torch.sigmoid(logits), logits

    def _now(self) -> float:
        WATCH.clock.wait()
        return WATCH.clock.now()

    def _stop(self, start: float) -> None:
        WATCH.gradients += self._now() - start


def build(checkpoint: str | None, device: str) -> TimedLocalizer:
    """Build the localizer of ``--localizer benchmark_parts.timed:build``."""
    inner = load_localizer("reference", checkpoint, device=device)
    return TimedLocalizer(inner, inner.weights_sha256)
