"""How the learning rate moves over a stage."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from torch.optim import AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR, ReduceLROnPlateau

PLATEAU_FACTOR, PLATEAU_PATIENCE = 0.9, 10


class Rate(NamedTuple):
    """The learning rate of one stage, and when it moves.

    Attributes:
        scheduler: torch's, whose state is saved with the training's.
        before_step: gets the number of the step in its stage.
        after_step: moves the rate by a step.
        after_epoch: gets the loss that the epoch is judged by.
    """

    scheduler: Any
    before_step: Callable[[int], None] = lambda step: None
    after_step: Callable[[], None] = lambda: None
    after_epoch: Callable[[float], None] = lambda loss: None


RateSchedule = Callable[[AdamW, int], Rate]
"""An optimiser and the steps of its stage to the rate."""


def plateau(optimiser: AdamW, steps: int) -> Rate:
    """Lower the rate by a tenth after ten epochs without progress."""
    scheduler = _plateau(optimiser)
    return Rate(scheduler, after_epoch=scheduler.step)


def warm_cosine(optimiser: AdamW, steps: int, *, warmup: int) -> Rate:
    """Let the rate rise from 0 over ``warmup`` steps, and fall to 0 along a cosine over the stage."""
    peak = optimiser.defaults["lr"]

    def before_step(step: int) -> None:
        rising = min(1.0, (step + 1) / warmup) if warmup else 1.0
        for group in optimiser.param_groups:
            group["lr"] = peak * rising * 0.5 * (1 + math.cos(math.pi * (step / steps)))

    # the rate follows from the step alone; a scheduler is saved because the format of states has one
    return Rate(_plateau(optimiser), before_step=before_step)


def annealing(optimiser: AdamW, steps: int) -> Rate:
    """Let the rate fall to 0 along a cosine, as torch computes it: from the last rate, so other bits than the formula's."""
    scheduler = CosineAnnealingLR(optimiser, steps)
    return Rate(scheduler, after_step=scheduler.step)


def _plateau(optimiser: AdamW) -> ReduceLROnPlateau:
    return ReduceLROnPlateau(optimiser, factor=PLATEAU_FACTOR, patience=PLATEAU_PATIENCE)
