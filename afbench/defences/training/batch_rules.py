"""Which images the steps of a stage see and how they are cut, as one value. Needs no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from .pairs import Batch

CROP, RESIZE, ANTIALIASED = "crop", "resize", "resize-antialiased"
FITS = (CROP, RESIZE, ANTIALIASED)
SMALLER_SHARE = 0.75
"""Of a stage's steps, the first ones, have the smaller crops of ``first_side``."""


@dataclass(frozen=True, kw_only=True)
class BatchRules:
    """What decides a stage's batches, apart from the images.

    Attributes:
        seed: of every random draw.
        stage: number of the stage; its draws follow from it, too.
        batch: images a step, of all processes together.
        epochs: passes over the data.
        fit: how images come to ``side`` x ``side`` pixels: a ``crop``, ``resize`` (bilinear) or ``resize-antialiased``.
        side: of the squares.
        steps: steps instead of whole passes; 0 for ``epochs``.
        first_side: side of the crops in the first three quarters of the steps; None for ``side``.
        attacks_from: share of the steps after which attacked images are shown.
        flip: flip and transpose at random.
        vary: changes the attacked image of one cut pair at random, told whether its step shows attacked images; None leaves
            it. Readers pickle it.
    """

    seed: int
    stage: int
    batch: int
    epochs: int
    fit: str
    side: int
    steps: int = 0
    first_side: int | None = None
    attacks_from: float = 0.0
    flip: bool = False
    vary: Callable[[Batch, np.random.Generator, bool], Batch] | None = None

    def step_size(self, images: int) -> int:
        """Count the images of one step."""
        return min(self.batch, images)

    def steps_of_pass(self, images: int) -> int:
        """Count the steps of a whole pass; a last short batch is dropped."""
        return max(1, images // self.batch)  # fewer images than a batch still make one

    def epoch_count(self, images: int) -> int:
        """Count the passes over the data; the last may be cut short."""
        return -(-self.steps // self.steps_of_pass(images)) if self.steps else self.epochs

    def step_count(self, images: int) -> int:
        """Count the steps of the whole stage."""
        return self.steps or self.epochs * self.steps_of_pass(images)

    def steps_of_epoch(self, images: int, epoch: int) -> int:
        """Count the steps of one epoch: those of a pass, or the last ones of the stage."""
        steps_of_pass = self.steps_of_pass(images)
        return min(steps_of_pass, self.step_count(images) - epoch * steps_of_pass)

    def side_at(self, images: int, step: int | None) -> int:
        """Return the side of the squares that a step of the stage sees; for step None, of those of validation."""
        early = step is not None and step < SMALLER_SHARE * self.step_count(images)
        return self.first_side if early and self.first_side else self.side

    def shows_attacks_at(self, images: int, step: int) -> bool:
        """Say whether a step of the stage shows attacked images."""
        return step >= self.attacks_from * self.step_count(images)
