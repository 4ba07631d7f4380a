"""Train any network on a benchmark's pairs in one stage, so that a run that was stopped goes on bit by bit."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from afbench.core import AfbenchError, UsageError
from afbench.defences.ansm.batches import (
    Batch,
    Pairs,
    split_by_group,
    steps_of,
    training_batches,
    validation_batches,
)
from afbench.defences.ansm.checkpoint import BEST, LAST
from afbench.defences.ansm.processes import Processes
from afbench.defences.ansm.state import Commit, Progress, RunFiles
from afbench.defences.ansm.steps import all_finite, full_precision
from afbench.defences.ansm.train import Hooks

from .settings import Schedule

_VALIDATION = 2**32
"""In place of an epoch: every validation draws the same."""


@dataclass(frozen=True)
class Job:
    """What is trained.

    Attributes:
        name: of the stage, in logs and errors.
        network: on its device; its parameters that take gradients are trained.
        loss: a batch and a generator on the CPU to one number per pair, ``(N,)``; lowered. The generator depends on seed,
            epoch and step alone, or in validation on the batch.
        batch_statistics: whether batch norm takes the batch's statistics and learns them, as a new network needs;
            else the network stays in evaluation mode, and what it was normalised by stays as it was.
    """

    name: str
    network: nn.Module
    loss: Callable[[Batch, torch.Generator], Tensor]
    batch_statistics: bool = False


@dataclass
class _Run:
    """What a training holds while it runs."""

    job: Job
    schedule: Schedule
    files: RunFiles
    progress: Progress
    optimiser: torch.optim.AdamW
    falling: torch.optim.lr_scheduler.CosineAnnealingLR
    device: torch.device
    hooks: Hooks

    @property
    def weights(self) -> list[nn.Parameter]:
        return [one for one in self.job.network.parameters() if one.requires_grad]


def fit(
    data: Pairs,
    job: Job,
    schedule: Schedule,
    out: Path,
    *,
    facts: Mapping[str, Any],
    commit: Commit,
    processes: Processes,
    hooks: Hooks | None = None,
    workers: int = 0,
    save_every: int = 200,
) -> dict[str, Any]:
    """Train, or go on with a training that was stopped; ``out`` gets the files that ``afbench train ansm`` writes.

    Args:
        data: pairs of originals and attacked images.
        job: what is trained, in place.
        schedule: for how long, and on what part of each image.
        out: folder; ``best.safetensors`` is of the lowest validation loss.
        facts: what checkpoints say: ``format``, ``settings`` and whatever else; plain JSON.
        commit: writes a file atomically.
        processes: must be one.
        workers: processes that read images.
        save_every: steps between two savings of the state; each epoch's end is one too.
    Returns:
        The card of the best checkpoint.
    Raises:
        UsageError: if ``out`` holds something else, or another training, or there are several processes.
        AfbenchError: if the loss is no number; what was saved before is kept.
    """
    if processes.share.of > 1:
        raise UsageError("this training runs on one device; start it without `accelerate launch`")
    cut, hooks = schedule.cut(), hooks or Hooks()
    files = RunFiles(out, facts, commit, processes)
    done = files.finished()
    if done is not None:
        return done
    parts = split_by_group(data.groups, schedule.validation, schedule.seed)
    files.card["images"] = {name: len(one) for name, one in parts._asdict().items()}
    steps = steps_of(len(parts.train), cut, stage=0, epoch=0)
    with full_precision(), torch.random.fork_rng(devices=[]):
        run = _Run(
            job, schedule, files, Progress(), *_optimise(job, schedule, steps), processes.device, hooks
        )
        files.restore(run.progress, job.network, [], lambda stage: (run.optimiser, run.falling))
        now = run.progress
        size = min(schedule.batch, len(parts.train))
        hooks.start(size * steps * schedule.epochs, size * (steps * now.epoch + now.step))
        while now.epoch < schedule.epochs:
            batches = training_batches(
                data,
                parts.train,
                cut,
                stage=0,
                epoch=now.epoch,
                share=processes.share,
                first=now.step,
                workers=workers,
            )
            job.network.train(job.batch_statistics)
            for batch in batches:
                _step(run, batch)
                hooks.advance(size)
                if now.step % save_every == 0 and now.step < steps and all_finite(job.network):
                    _save(run)
            judged = now.loss_sum / max(1, now.loss_count)
            if parts.validation:
                aside = validation_batches(
                    data, parts.validation, cut, stage=0, share=processes.share, workers=workers
                )
                judged = _validated(run, aside)
            _end_epoch(run, judged, keep=not parts.validation)
        return files.finish()


def generator(seed: int, *when: int) -> torch.Generator:
    """Random numbers of their own for a seed and a moment, whatever was drawn before."""
    drawn = np.random.default_rng([seed, 4, *when]).integers(0, 2**63)
    return torch.Generator().manual_seed(int(drawn))


def _optimise(
    job: Job, schedule: Schedule, steps: int
) -> tuple[torch.optim.AdamW, torch.optim.lr_scheduler.CosineAnnealingLR]:
    weights = [one for one in job.network.parameters() if one.requires_grad]
    optimiser = torch.optim.AdamW(weights, lr=schedule.lr, weight_decay=schedule.weight_decay)
    return optimiser, torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps * schedule.epochs)


def _step(run: _Run, batch: Batch) -> None:
    now = run.progress
    losses = run.job.loss(_moved(run, batch), generator(run.schedule.seed, now.epoch, now.step))
    mean = losses.mean()
    loss = float(mean.detach())
    if not math.isfinite(loss):
        _stop(run, loss)
    slopes = torch.autograd.grad(mean, run.weights, allow_unused=True)  # a branch no loss reads has none
    for weight, slope in zip(run.weights, slopes, strict=True):
        weight.grad = slope
    if run.schedule.clip:
        torch.nn.utils.clip_grad_norm_(run.weights, run.schedule.clip)
    run.optimiser.step()
    run.optimiser.zero_grad(set_to_none=True)
    run.falling.step()
    now.step += 1
    now.loss_sum, now.loss_count = now.loss_sum + loss, now.loss_count + 1


def _validated(run: _Run, batches: Any) -> float:
    run.job.network.eval()
    total, count = 0.0, 0
    for number, batch in enumerate(batches):
        with torch.no_grad():
            losses = run.job.loss(_moved(run, batch), generator(run.schedule.seed, _VALIDATION, number))
        total, count = total + float(losses.detach().double().sum()), count + len(losses)
    return total / max(1, count)


def _end_epoch(run: _Run, judged: float, *, keep: bool) -> None:
    now, name, network = run.progress, run.job.name, run.job.network
    if not math.isfinite(judged) or not all_finite(network):
        _stop(run, judged)
    loss, rate = now.loss_sum / max(1, now.loss_count), run.optimiser.param_groups[0]["lr"]
    better = keep or judged < now.best
    now.best = min(now.best, judged)
    now.epoch, now.step, now.loss_sum, now.loss_count = now.epoch + 1, 0, 0.0, 0
    now.history.append({"stage": name, "epoch": now.epoch, "lr": rate, "loss": loss, "validation": judged})
    told = {"stage": name, "epoch": now.epoch, "validation_loss": judged}
    for file in (BEST, LAST) if better else (LAST,):
        run.files.save_module(file, network.state_dict(), told)
    _save(run)
    run.files.log(now.history)
    run.hooks.say(f"{name} {now.epoch}/{run.schedule.epochs}: loss {loss:.3g}, validation {judged:.3g}")


def _save(run: _Run) -> None:
    # of the network its state dict alone is asked for
    run.files.save_state(run.progress, run.job.network, [], run.optimiser, run.falling)


def _stop(run: _Run, loss: float) -> None:
    now = run.progress
    raise AfbenchError(
        f"the loss is {loss} in {run.job.name}, epoch {now.epoch + 1} of {run.schedule.epochs}, step {now.step + 1} "
        f"(learning rate {run.optimiser.param_groups[0]['lr']:.3g}); {run.files.last_good()}; try a lower --lr or another "
        "--seed in a new folder"
    )


def _moved(run: _Run, batch: Batch) -> Batch:
    return Batch(*(one.to(run.device).contiguous(memory_format=torch.channels_last) for one in batch))
