"""A training while it runs: where it is, the stage in progress, and the weights that would be kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from afbench.core import AfbenchError

from .cuda_graphs import replayed
from .learning_rate import Rate
from .pairs import Pairs, Parts
from .run_files import RunFiles
from .stage import TrainingOptions, TrainingStage


@dataclass(kw_only=True)
class TrainingPosition:
    """Where a training is: stage and epoch in progress, steps of it that are done, and what it has seen."""

    stage: int = 0
    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    loss_count: int = 0
    best: float = math.inf
    history: list[dict[str, Any]] = field(default_factory=list)


@dataclass(kw_only=True)
class TrainingRun:
    """What a training holds while it runs; ``averaged`` is empty without a running average.

    ``called_part`` is what the present stage trains, as training calls it, and ``weights`` its parameters.
    """

    data: Pairs
    parts: Parts
    network: nn.Module
    stages: Sequence[TrainingStage]
    files: RunFiles
    options: TrainingOptions
    average: float
    averaged: list[Tensor]
    progress: TrainingPosition = field(default_factory=TrainingPosition)
    called_part: Callable[..., Any] = field(init=False)
    weights: list[nn.Parameter] = field(init=False)
    optimiser: torch.optim.AdamW = field(init=False)
    rate: Rate = field(init=False)

    @property
    def stage(self) -> TrainingStage:
        """Return the stage in progress, or the last one of a training that is complete."""
        return self.stages[min(self.progress.stage, len(self.stages) - 1)]

    @property
    def images(self) -> int:
        """Count the images that are trained on."""
        return len(self.parts.train)

    @property
    def step_in_stage(self) -> int:
        """Return the number of the next step within its stage."""
        return self.progress.epoch * self.stage.rules.steps_of_pass(self.images) + self.progress.step


def begin_stage(run: TrainingRun) -> None:
    """Make the optimiser and the rate anew: each stage begins with its own, as Algorithm 1 of the ANSM paper does."""
    stage = run.stage
    processes = run.files.processes
    # a recorded pass leaves out what averages gradients over processes
    alone = processes.share.of == 1
    run.called_part = replayed(stage.part) if run.options.replay and alone else processes.wrap(stage.part)
    # fixed filters of a localizer are parameters that take no gradient
    run.weights = [weight for weight in stage.part.parameters() if weight.requires_grad]
    run.optimiser = torch.optim.AdamW(run.weights, lr=stage.lr, weight_decay=stage.weight_decay)
    run.rate = stage.schedule(run.optimiser, stage.rules.step_count(run.images))


def end_stage(run: TrainingRun) -> None:
    """Go over to the next stage, from the averaged weights where there are any."""
    progress = run.progress
    progress.stage, progress.epoch = progress.stage + 1, 0
    if run.averaged:
        run.network.load_state_dict(kept_weights(run))
    if progress.stage < len(run.stages):
        progress.best = math.inf  # the next stage's losses are of another kind
        begin_stage(run)


def kept_weights(run: TrainingRun) -> dict[str, Tensor]:
    """Return the weights that a checkpoint gets: the averaged ones, or those that are trained."""
    state: dict[str, Tensor] = run.network.state_dict()
    return dict(zip(state, run.averaged, strict=True)) if run.averaged else state


@contextmanager
def kept_weights_in_place(run: TrainingRun) -> Iterator[None]:
    """Let the network have the weights that would be kept, and take back those that are trained."""
    # copies, since loading writes into the very tensors of a state dict
    trained_weights = {name: value.clone() for name, value in run.network.state_dict().items()}
    run.network.load_state_dict(kept_weights(run))
    run.files.processes.share_weights(run.network)  # each process judges a share of the images
    try:
        yield
    finally:
        run.network.load_state_dict(trained_weights)


def stop(run: TrainingRun, loss: float) -> NoReturn:
    """Give up at a loss or weights that are no numbers.

    Raises:
        AfbenchError: saying where, and which checkpoint is good.
    """
    progress, stage = run.progress, run.stage
    lr = run.optimiser.param_groups[0]["lr"]
    epochs = stage.rules.epoch_count(run.images)
    raise AfbenchError(
        f"the loss is {loss} in stage {stage.name}, epoch {progress.epoch + 1} of {epochs}, step {progress.step + 1} "
        f"(learning rate {lr:.3g}); {run.files.last_good()}; try a lower --lr or another --seed in a new folder"
    )
