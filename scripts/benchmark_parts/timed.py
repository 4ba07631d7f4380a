"""The reference localizer with a stopwatch: how long its forward and backward passes take inside a whole run."""

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
        """``(N, 3, H, W)`` to ``(N, 1, H, W)``; the backward pass is timed from here to the image's gradient."""
        if not image.requires_grad:
            return self.probability_and_logits(image)[1]
        started = self._now()
        marks = [started]
        # before the attack's own hook, which comes after it: only the network lies in between
        image.register_hook(lambda gradient: self._stop(marks))  # type: ignore[no-untyped-call]
        logits = self.inner.logits(image)
        WATCH.gradients += self._now() - started
        logits.register_hook(lambda gradient: self._mark(marks))  # type: ignore[no-untyped-call]
        return logits

    def probability(self, image: Tensor) -> Tensor:
        """``(N, 3, H, W)`` to ``(N, 1, H, W)`` in [0, 1]."""
        return self.probability_and_logits(image)[0]

    def probability_and_logits(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Both in one pass."""
        started = self._now()
        logits = self.inner.logits(image)
        WATCH.looks += self._now() - started
        return torch.sigmoid(logits), logits

    def _now(self) -> float:
        WATCH.clock.wait()
        return WATCH.clock.now()

    def _mark(self, marks: list[float]) -> None:
        marks[0] = self._now()

    def _stop(self, marks: list[float]) -> None:
        WATCH.gradients += self._now() - marks[0]


def build(checkpoint: str | None, device: str) -> TimedLocalizer:
    """For ``--localizer benchmark_parts.timed:build``."""
    inner = load_localizer("reference", checkpoint, device=device)
    return TimedLocalizer(inner, inner.weights_sha256)
