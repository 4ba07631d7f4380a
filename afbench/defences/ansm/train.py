"""Algorithm 1: train the module against a frozen localizer, so that a run that was stopped goes on bit by bit."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from afbench.core import AfbenchError, Localizer

from .batches import (
    Attack,
    Batch,
    Pairs,
    Parts,
    attacked_anew,
    epochs_of,
    shows_attacks,
    split_by_group,
    steps_of,
    steps_of_stage,
    training_batches,
    validation_batches,
)
from .checkpoint import BEST, LAST
from .parts import build_module, trained_part
from .processes import Processes
from .settings import PLATEAU_FACTOR, PLATEAU_PATIENCE, AnsmStage, Settings
from .state import Commit, Progress, RunFiles
from .steps import all_finite, blend, full_precision, layer_shapes, stage_loss


@dataclass(frozen=True)
class Hooks:
    """Where a caller listens: ``start(images, done)`` once, ``advance(images)``, ``say(line)``; main process only."""

    start: Callable[[int, int], None] = lambda total, done: None
    advance: Callable[[int], None] = lambda images: None
    say: Callable[[str], None] = lambda line: None


@dataclass
class _Run:
    """What a training holds while it runs; ``average`` is empty without a running average.

    ``part`` is what the present stage trains of ``network``, ``wrapped`` the same as training calls it.
    """

    settings: Settings
    localizer: Localizer
    processes: Processes
    network: nn.Module
    average: list[Tensor]
    parts: Parts
    data: Pairs
    files: RunFiles
    progress: Progress
    hooks: Hooks
    workers: int
    save_every: int
    attack: Attack | None
    part: nn.Module = field(init=False)
    wrapped: Callable[..., Any] = field(init=False)
    optimiser: torch.optim.AdamW = field(init=False)
    plateau: torch.optim.lr_scheduler.ReduceLROnPlateau = field(init=False)


def train(
    data: Pairs,
    localizer: Localizer,
    settings: Settings,
    out: Path,
    *,
    facts: Mapping[str, Any],
    commit: Commit,
    processes: Processes,
    hooks: Hooks | None = None,
    workers: int = 0,
    save_every: int = 200,
    attack: Attack | None = None,
) -> dict[str, Any]:
    """Train a module, or go on with a training that was stopped.

    ``out`` gets ``best.safetensors`` (the lowest validation loss of the last stage) and ``last.safetensors``, each with a
    JSON of the same name beside it, ``log.csv``, TensorBoard's events where it is installed, and while the
    training runs ``state.safetensors``, which it goes on from.

    Args:
        data: pairs of originals and attacked images.
        localizer: frozen; on the device of ``processes``. Gradients flow through it, none are taken to its weights.
        settings: what decides the result.
        out: folder.
        facts: what checkpoints say beside the settings: ``localizer`` and ``data``, and whatever else; plain JSON.
        commit: writes a file atomically.
        processes: the devices; every one calls this function with the same arguments.
        workers: processes that read images, for each device.
        save_every: steps between two savings of the state; each epoch's end is one too.
        attack: what makes the attacked images anew at every step, where ``settings.attack`` names one. Validation
            takes the benchmark's own.
    Returns:
        The card of the best checkpoint.
    Raises:
        UsageError: if ``out`` holds something else, or another training.
        AfbenchError: if the loss is no number; what was saved before is kept.
    Source: the ANSM paper, Algorithm 1 and Table II.
    """
    hooks = hooks or Hooks()
    files = RunFiles(out, {**facts, "settings": settings.as_json()}, commit, processes)
    done = files.finished()
    if done is not None:
        return done
    with full_precision(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network = build_module(settings.as_json(), settings.encoder_weights)
        network.to(device=processes.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        average = [value.clone() for value in network.state_dict().values()] if settings.average else []
        parts = split_by_group(data.groups, settings.validation, settings.seed)
        aligns = any(stage.loss == "ffa" for stage in settings.stages)
        layers = layer_shapes(localizer, settings, processes.device) if aligns else []
        files.card.update(
            {"layers": layers, "images": {name: len(one) for name, one in parts._asdict().items()}}
        )
        run = _Run(
            settings,
            localizer,
            processes,
            network,
            average,
            parts,
            data,
            files,
            Progress(),
            hooks,
            workers,
            save_every,
            attack,
        )
        _begin_stage(run, settings.stages[0])
        last = len(settings.stages) - 1
        files.restore(
            run.progress, network, average, lambda stage: _optimise(run, settings.stages[min(stage, last)])
        )
        if processes.main:
            hooks.start(*_work(run))
        while run.progress.stage < len(settings.stages):
            _train_stage(run, settings.stages[run.progress.stage])
        return files.finish()


def _work(run: _Run) -> tuple[int, int]:
    """Images of the whole training, and how many of them were done before."""
    images, now = len(run.parts.train), run.progress
    steps = [steps_of_stage(images, run.settings, stage) for stage in range(len(run.settings.stages))]
    done_steps = sum(steps[: now.stage]) + now.step
    done_steps += sum(steps_of(images, run.settings, now.stage, epoch) for epoch in range(now.epoch))
    return sum(steps) * _images_a_step(run), done_steps * _images_a_step(run)


def _images_a_step(run: _Run) -> int:
    return min(run.settings.batch, len(run.parts.train))


def _optimise(run: _Run, stage: AnsmStage) -> tuple[torch.optim.AdamW, Any]:
    """A new optimiser and scheduler: each stage begins with its own, as Algorithm 1 does."""
    run.part = trained_part(run.network, stage.loss)
    run.wrapped = run.processes.wrap(run.part)
    run.optimiser = torch.optim.AdamW(
        run.part.parameters(), lr=stage.lr, weight_decay=run.settings.weight_decay
    )
    run.plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
        run.optimiser, factor=PLATEAU_FACTOR, patience=PLATEAU_PATIENCE
    )
    return run.optimiser, run.plateau


def _begin_stage(run: _Run, stage: AnsmStage) -> None:
    _optimise(run, stage)
    run.progress.best = math.inf


def _train_stage(run: _Run, stage: AnsmStage) -> None:
    now, number = run.progress, run.progress.stage
    epochs = epochs_of(len(run.parts.train), run.settings, number)
    while now.stage == number:
        _train_epoch(run, stage)
        loss = now.loss_sum / max(1, now.loss_count)
        judged = _validated(run, stage) if run.parts.validation else loss
        if not math.isfinite(judged) or not all_finite(run.network):
            _stop(run, stage, judged)
        rate = run.optimiser.param_groups[0]["lr"]
        if run.settings.schedule == "plateau":
            run.plateau.step(judged)
        better = judged < now.best or not run.parts.validation
        now.best = min(now.best, judged)
        now.epoch, now.step, now.loss_sum, now.loss_count = now.epoch + 1, 0, 0.0, 0
        row = {"stage": stage.loss, "epoch": now.epoch, "lr": rate, "loss": loss, "validation": judged}
        now.history.append(row)
        kept = _kept_weights(run)
        told = {"stage": stage.loss, "epoch": now.epoch, "validation_loss": judged}
        if better:
            run.files.save_module(BEST, kept, told)
        run.files.save_module(LAST, kept, told)
        if now.epoch == epochs_of(len(run.parts.train), run.settings, number):
            _end_stage(run)
        _save(run)
        run.files.log(now.history)
        if run.processes.main:
            run.hooks.say(f"{stage.loss} {row['epoch']}/{epochs}: loss {loss:.3g}, validation {judged:.3g}")


def _end_stage(run: _Run) -> None:
    """Go over to the next stage, from the averaged weights where there are any."""
    now = run.progress
    now.stage, now.epoch = now.stage + 1, 0
    if run.average:
        run.network.load_state_dict(_kept_weights(run))
    if now.stage < len(run.settings.stages):
        _begin_stage(run, run.settings.stages[now.stage])


def _train_epoch(run: _Run, stage: AnsmStage) -> None:
    now, settings = run.progress, run.settings
    images = len(run.parts.train)
    steps, steps_before = (
        steps_of(images, settings, now.stage, now.epoch),
        sum(steps_of(images, settings, now.stage, epoch) for epoch in range(now.epoch)),
    )
    steps_in_all = steps_of_stage(images, settings, now.stage)
    batches = training_batches(
        run.data,
        run.parts.train,
        settings,
        stage=now.stage,
        epoch=now.epoch,
        share=run.processes.share,
        first=now.step,
        workers=run.workers,
    )
    run.network.eval()
    run.part.train()
    for batch in batches:
        step = steps_before + now.step
        _set_rate(run, stage, step / steps_in_all, step)
        loss = _step(run, stage, batch, attacks=shows_attacks(settings, images, now.stage, step))
        if not math.isfinite(loss):
            _stop(run, stage, loss)
        now.step += 1
        now.loss_sum, now.loss_count = now.loss_sum + loss, now.loss_count + 1
        if run.processes.main:
            run.hooks.advance(_images_a_step(run))
        if now.step % run.save_every == 0 and now.step < steps and all_finite(run.network):
            _save(run)


def _set_rate(run: _Run, stage: AnsmStage, share: float, step: int) -> None:
    """The learning rate of a step, the given share of the way through its stage; a plateau's is left as it is."""
    settings = run.settings
    rising = min(1.0, (step + 1) / settings.warmup) if settings.warmup else 1.0
    if settings.schedule == "cosine":
        for group in run.optimiser.param_groups:
            group["lr"] = stage.lr * rising * 0.5 * (1 + math.cos(math.pi * share))


def _step(run: _Run, stage: AnsmStage, batch: Batch, *, attacks: bool) -> float:
    """Take one step of the optimiser and return its loss, the mean over all processes."""
    moved = Batch(*(_to(one, run.processes.device) for one in batch))
    if run.attack is not None:
        now = run.progress
        when = (now.stage, now.epoch, now.step)
        moved = attacked_anew(moved, run.attack, run.settings, stage.loss, when, attacks=attacks)
    loss = stage_loss(stage.loss, run.wrapped, run.localizer, moved, run.settings).mean()
    run.optimiser.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    if run.settings.clip:
        torch.nn.utils.clip_grad_norm_(run.part.parameters(), run.settings.clip)
    told = run.processes.mean(loss.detach())
    if not math.isfinite(told):
        return told
    run.optimiser.step()
    if run.average:
        state = list(run.network.state_dict().values())
        seen = int(run.optimiser.state[run.optimiser.param_groups[0]["params"][0]]["step"])
        # an average of few steps would be mostly the start
        blend(run.average, state, min(run.settings.average, (seen + 1) / (seen + 10)))
    return told


def _validated(run: _Run, stage: AnsmStage) -> float:
    """The loss on the images put aside, over all processes, of the weights that would be kept."""
    network = copy.deepcopy(run.network)
    network.load_state_dict(_kept_weights(run))
    run.processes.share_weights(network)
    network.eval()
    total, count = 0.0, 0
    batches = validation_batches(
        run.data,
        run.parts.validation,
        run.settings,
        stage=run.progress.stage,
        share=run.processes.share,
        workers=run.workers,
    )
    with torch.no_grad():
        for batch in batches:
            moved = Batch(*(_to(one, run.processes.device) for one in batch))
            losses = stage_loss(
                stage.loss, trained_part(network, stage.loss), run.localizer, moved, run.settings
            )
            total, count = total + float(losses.double().sum()), count + len(losses)
    return run.processes.ratio(total, count)


def _kept_weights(run: _Run) -> dict[str, Tensor]:
    state: dict[str, Tensor] = run.network.state_dict()
    return dict(zip(state, run.average, strict=True)) if run.average else state


def _save(run: _Run) -> None:
    run.files.save_state(run.progress, run.network, run.average, run.optimiser, run.plateau)


def _stop(run: _Run, stage: AnsmStage, loss: float) -> None:
    now = run.progress
    rate = run.optimiser.param_groups[0]["lr"]
    epochs = epochs_of(len(run.parts.train), run.settings, now.stage)
    raise AfbenchError(
        f"the loss is {loss} in stage {stage.loss}, epoch {now.epoch + 1} of {epochs}, step {now.step + 1} (learning "
        f"rate {rate:.3g}); {run.files.last_good()}; try a lower --lr or another --seed in a new folder"
    )


def _to(image: Tensor, device: torch.device) -> Tensor:
    return image.to(device).contiguous(memory_format=torch.channels_last)
