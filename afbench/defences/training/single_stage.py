"""Train any network on a benchmark's pairs in one stage of a schedule."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from afbench.core import UsageError
from afbench.defences.setting_checks import require_choice, require_limits

from .arithmetic import assign_gradients
from .batch_rules import FITS, BatchRules
from .learning_rate import annealing
from .loop import train_stages
from .pairs import Batch, Pairs, split_by_group
from .run_files import RunFiles
from .stage import Moment, TrainingOptions, TrainingStage


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """One stage of AdamW whose learning rate falls to 0 along a cosine.

    Attributes:
        fit: how images come to ``side`` x ``side`` pixels: a random ``crop``, or ``resize`` (bilinear).
        batch: images a step; of each the original and the attacked one.
        clip: largest gradient norm; 0 for no limit.
        flip: flip and transpose at random.
        validation: share of the images, by whole groups, that is never trained on.
        seed: of every random draw.
    """

    epochs: int = 10
    lr: float = 2e-4
    batch: int = 8
    fit: str = "crop"
    side: int = 128
    weight_decay: float = 1e-4
    clip: float = 1.0
    flip: bool = True
    validation: float = 0.1
    seed: int = 0

    def rules(self) -> BatchRules:
        """Return which images the steps see."""
        return BatchRules(
            seed=self.seed,
            stage=0,
            batch=self.batch,
            epochs=self.epochs,
            fit=self.fit,
            side=self.side,
            flip=self.flip,
        )


def check_schedule(schedule: Schedule) -> Schedule:
    """Refuse a value that cannot be.

    Raises:
        UsageError: naming it.
    """
    require_choice(schedule, "fit", FITS)
    limits = {
        "side": (schedule.side >= 32, "32 pixels or more"),
        "batch": (schedule.batch >= 1, "1 image or more"),
        "epochs": (schedule.epochs >= 1, "1 epoch or more"),
        "lr": (0 < schedule.lr < 1, "a number between 0 and 1"),
        "weight_decay": (schedule.weight_decay >= 0, "a number from 0"),
        "clip": (schedule.clip >= 0, "a number from 0"),
        "validation": (0 <= schedule.validation < 1, "a number from 0, below 1"),
        "seed": (schedule.seed >= 0, "a whole number from 0"),
    }
    require_limits(schedule, limits)
    return schedule


def train_single_stage(
    data: Pairs,
    network: nn.Module,
    loss: Callable[[Batch, torch.Generator], Tensor],
    schedule: Schedule,
    files: RunFiles,
    options: TrainingOptions,
    *,
    name: str,
    batch_statistics: bool = False,
    frozen: Sequence[object] = (),
) -> dict[str, Any]:
    """Train on one device; other arguments, returns and errors as ``train_stages`` and ``TrainingStage`` have them.

    Args:
        loss: a batch and random numbers on the CPU to one number per pair, ``(N,)``; lowered. The random numbers depend on
            seed, epoch and step alone, or in validation on the batch.
    Raises:
        UsageError: also if there are several processes.
    """
    # assign_gradients passes by what averages gradients over processes
    if files.processes.share.of > 1:
        raise UsageError("this training runs on one device; start it without `accelerate launch`")
    check_schedule(schedule)
    finished_card = files.finished()
    if finished_card is not None:
        return finished_card
    stage = TrainingStage(
        name=name,
        loss=lambda part, batch, moment: loss(batch, generator(schedule.seed, moment)),
        part=network,
        lr=schedule.lr,
        weight_decay=schedule.weight_decay,
        clip=schedule.clip,
        schedule=annealing,
        rules=schedule.rules(),
        batch_statistics=batch_statistics,
        take_gradients=assign_gradients,
    )
    parts = split_by_group(data.groups, schedule.validation, schedule.seed)
    return train_stages(data, parts, network, [stage], files, options, frozen=frozen)


def generator(seed: int, moment: Moment) -> torch.Generator:
    """Return random numbers of their own for a seed and a moment of a single stage, whatever was drawn before."""
    # 1 to 3 draw parts, orders and crops, 5 varies noise: each use has a stream of its own
    draw = np.random.default_rng([seed, 4, moment.epoch, moment.step]).integers(0, 2**63)
    return torch.Generator().manual_seed(int(draw))
