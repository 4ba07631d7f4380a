"""What a training is made of: stages, each with the part of the network that it trains, a loss and its batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor, nn

from afbench.work_progress import Progress

from .arithmetic import accumulate_gradients
from .batch_rules import BatchRules
from .learning_rate import RateSchedule
from .pairs import Batch

VALIDATION = 2**32  # beyond any epoch
"""In place of an epoch: every validation draws the same."""


class Moment(NamedTuple):
    """When a loss is asked for; random draws follow from it.

    Attributes:
        stage: its number.
        epoch: its number, or ``VALIDATION``.
        step: number of the batch within its epoch.
        shows_attacks: whether the batch may show attacked images.
    """

    stage: int
    epoch: int
    step: int
    shows_attacks: bool = True


StageLoss = Callable[[Callable[..., Any], Batch, Moment], Tensor]
"""The trained part as it is to be called, a batch and the moment to one number per pair, ``(N,)``; lowered."""


@dataclass(frozen=True, kw_only=True)
class TrainingStage:
    """One stage of a training.

    Attributes:
        name: in logs and errors.
        loss: what is lowered.
        part: what is trained of the network, or all of it: its parameters that take gradients.
        lr: first learning rate of AdamW.
        weight_decay: of AdamW.
        clip: largest gradient norm; 0 for no limit.
        schedule: how the rate moves.
        rules: which images the steps see, and for how long.
        batch_statistics: whether the part's batch norm takes the batch's statistics and learns them, as a new network
            needs; else the part stays in evaluation mode, and what it was normalised by stays as it was.
        take_gradients: puts the loss's gradients into the weights; several processes need ``accumulate_gradients``.
    """

    name: str
    loss: StageLoss
    part: nn.Module
    lr: float
    weight_decay: float
    clip: float
    schedule: RateSchedule
    rules: BatchRules
    batch_statistics: bool = True
    take_gradients: Callable[[Tensor, Sequence[nn.Parameter]], None] = accumulate_gradients


@dataclass(frozen=True)
class TrainingOptions:
    """How a training runs; nothing here but ``replay`` changes its result.

    Attributes:
        hooks: where the main process listens, in images.
        workers: processes that read images, for each device.
        save_every: steps between two savings of the state; each epoch's end is one too.
        replay: record the passes of what is trained as CUDA graphs, on one GPU: other rounding, and each recording, so also a
            training that goes on, moves the averages of batch norm a little.
    """

    hooks: Progress = Progress()  # noqa: RUF009 - immutable
    workers: int = 0
    save_every: int = 200
    replay: bool = False
