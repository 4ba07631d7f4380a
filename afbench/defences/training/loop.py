"""Train stage by stage, so that a run that was stopped goes on bit by bit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from afbench.safe_convolutions import full_precision

from .arithmetic import all_finite, blend
from .batches import training_batches, validation_batches
from .pairs import Batch, Pairs, Parts
from .run_files import RunFiles
from .saved_state import restore_state, save_state
from .stage import VALIDATION, Moment, TrainingOptions, TrainingStage
from .training_run import TrainingRun, begin_stage, end_stage, kept_weights, kept_weights_in_place, stop
from .weights_file import BEST, LAST


def train_stages(
    data: Pairs,
    parts: Parts,
    network: nn.Module,
    stages: Sequence[TrainingStage],
    files: RunFiles,
    options: TrainingOptions,
    average: float = 0.0,
    frozen: Sequence[object] = (),
) -> dict[str, Any]:
    """Train a network, or go on with a training that was stopped.

    Args:
        data: pairs of originals and attacked images.
        parts: which of them are trained on, and which judge.
        network: on the device of the files' processes; trained in place.
        stages: what is trained, in order; their parts lie in ``network``.
        files: of this training, which is not finished.
        options: readers and listeners.
        average: decay of a running average of the weights, which is then what is validated and kept; 0 for none.
        frozen: networks that the losses run beside the trained one, or localizers that hold them.
    Returns:
        The card of the best checkpoint.
    Raises:
        UsageError: if the saved state is damaged.
        AfbenchError: if the loss is no number; what was saved before is kept.
    """
    files.card["images"] = {name: len(indices) for name, indices in parts._asdict().items()}
    with full_precision(network, *frozen), torch.random.fork_rng(devices=[]):
        averaged = [value.clone() for value in network.state_dict().values()] if average else []
        run = TrainingRun(
            data=data,
            parts=parts,
            network=network,
            stages=stages,
            files=files,
            options=options,
            average=average,
            averaged=averaged,
        )
        begin_stage(run)
        restore_state(run)
        if files.processes.main:
            options.hooks.start(*_count_images(run))
        while run.progress.stage < len(stages):
            _train_stage(run)
        return files.finish()


def _count_images(run: TrainingRun) -> tuple[int, int]:
    """Count the images of the whole training, and those of it that are done."""
    images, stage = run.images, run.progress.stage
    by_stage = [stage.rules.step_count(images) * stage.rules.step_size(images) for stage in run.stages]
    return sum(by_stage), sum(by_stage[:stage]) + run.step_in_stage * run.stage.rules.step_size(images)


def _train_stage(run: TrainingRun) -> None:
    progress, number = run.progress, run.progress.stage
    epochs = run.stage.rules.epoch_count(run.images)
    while progress.stage == number and progress.epoch < epochs:
        _train_epoch(run)
        _end_epoch(run, epochs)
    # earlier versions saved the last epoch of a single stage without going over to the next stage
    if progress.stage == number:
        end_stage(run)


def _train_epoch(run: TrainingRun) -> None:
    progress, stage, rules = run.progress, run.stage, run.stage.rules
    steps = rules.steps_of_epoch(run.images, progress.epoch)
    run.network.eval()  # what the stage leaves alone keeps its statistics
    stage.part.train(stage.batch_statistics)
    batches = training_batches(
        run.data,
        run.parts.train,
        rules,
        epoch=progress.epoch,
        share=run.files.processes.share,
        first=progress.step,
        workers=run.options.workers,
    )
    for batch in batches:
        run.rate.before_step(run.step_in_stage)
        loss = _take_step(run, batch)
        if not math.isfinite(loss):
            stop(run, loss)
        progress.step += 1
        progress.loss_sum, progress.loss_count = progress.loss_sum + loss, progress.loss_count + 1
        if run.files.processes.main:
            run.options.hooks.advance(rules.step_size(run.images))
        # a state that is no number is of no use
        if progress.step % run.options.save_every == 0 and progress.step < steps and all_finite(run.network):
            save_state(run)


def _take_step(run: TrainingRun, batch: Batch) -> float:
    """Take one step of the optimiser; return the mean loss of all processes."""
    processes, stage, progress = run.files.processes, run.stage, run.progress
    shows_attacks = stage.rules.shows_attacks_at(run.images, run.step_in_stage)
    moment = Moment(progress.stage, progress.epoch, progress.step, shows_attacks)
    mean = stage.loss(run.called_part, processes.move(batch), moment).mean()
    run.optimiser.zero_grad(set_to_none=True)
    stage.take_gradients(mean, run.weights)
    if stage.clip:
        torch.nn.utils.clip_grad_norm_(run.weights, stage.clip)
    loss = processes.mean(mean.detach())
    if not math.isfinite(loss):
        return loss  # the weights stay as they were
    run.optimiser.step()
    run.rate.after_step()
    if run.averaged:
        steps = int(run.optimiser.state[run.weights[0]]["step"])
        # an average of few steps would be mostly the start
        decay = min(run.average, (steps + 1) / (steps + 10))
        blend(run.averaged, list(run.network.state_dict().values()), decay)
    return loss


def _end_epoch(run: TrainingRun, epochs: int) -> None:
    """Judge an epoch, keep its weights, and go over to the next epoch or stage."""
    progress, name, files = run.progress, run.stage.name, run.files
    loss = progress.loss_sum / max(1, progress.loss_count)
    validation_loss = _validate(run) if run.parts.validation else loss
    if not math.isfinite(validation_loss) or not all_finite(run.network):
        stop(run, validation_loss)
    lr = run.optimiser.param_groups[0]["lr"]  # of this epoch: a plateau may lower it now
    run.rate.after_epoch(validation_loss)
    better = validation_loss < progress.best or not run.parts.validation
    progress.best = min(progress.best, validation_loss)
    progress.epoch = epoch = progress.epoch + 1
    progress.step, progress.loss_sum, progress.loss_count = 0, 0.0, 0
    row = {"stage": name, "epoch": epoch, "lr": lr, "loss": loss, "validation": validation_loss}
    progress.history.append(row)
    results = {"stage": name, "epoch": epoch, "validation_loss": validation_loss}
    for file_name in (BEST, LAST) if better else (LAST,):
        files.save_module(file_name, kept_weights(run), results)
    if epoch == epochs:
        end_stage(run)
    save_state(run)  # after the checkpoints: a run that stops between them judges this epoch again
    files.log(progress.history)
    if files.processes.main:
        run.options.hooks.say(f"{name} {epoch}/{epochs}: loss {loss:.3g}, validation {validation_loss:.3g}")


def _validate(run: TrainingRun) -> float:
    """Return the loss on the images put aside, over all processes, of the weights that would be kept."""
    stage, processes, total, count = run.stage, run.files.processes, 0.0, 0
    batches = validation_batches(
        run.data, run.parts.validation, stage.rules, share=processes.share, workers=run.options.workers
    )
    with kept_weights_in_place(run), torch.no_grad():
        run.network.eval()
        for number, batch in enumerate(batches):
            moment = Moment(run.progress.stage, VALIDATION, number)
            losses = stage.loss(stage.part, processes.move(batch), moment)
            total, count = total + float(losses.detach().double().sum()), count + len(losses)
    return processes.ratio(total, count)
