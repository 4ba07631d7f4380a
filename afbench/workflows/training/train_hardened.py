"""Train a localizer's own weights, or a classifier's, so that attacks find it harder."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from afbench.core import Setting, UsageError
from afbench.defences.hardening.hardening_loss import NONE, Hardening
from afbench.defences.training.single_stage import Schedule, train_single_stage
from afbench.defences.training.stage import TrainingOptions
from afbench.localizers.trainable import load_trainable
from afbench.work_progress import Progress

from ..attacked_localizer import require_attacked
from .image_sizes import sized_for
from .online_attack import attack_name, loss_under_attack
from .train_classifier import train_classifier
from .training_data import open_training, training_files

FORMAT = "afbench-hardened-1"


def train_hardened(
    data: Path,
    out: Path,
    settings: Hardening,
    schedule: Schedule,
    *,
    localizer: str,
    config: str | None = None,
    checkpoint: str | None = None,
    attack: Setting | None = None,
    device: str = "cpu",
    workers: int = 0,
    hooks: Progress | None = None,
) -> dict[str, Any]:
    """Train a localizer, or a classifier, to withstand attacks; other arguments and errors as ``train_ansm``.

    ``out/best.safetensors`` is a checkpoint that ``load_localizer`` takes for the same localizer, or of a classifier.

    Args:
        settings: what is hardened, and how; ``settings.attack`` is set from ``attack``.
        schedule: for how long, and on what.
        localizer: whose configs are read; with the task ``localize``, also what is trained.
        checkpoint: what training starts from: weights of the localizer if they are neither embedded nor registered, or a
            classifier (omitted for a new one).
        attack: what attacks the weights in training anew at every step, instead of the benchmark's images.
    Returns:
        The card of the best checkpoint; of a classifier also its ``accuracy`` before and after.
    """
    # before a benchmark is read, which may take long
    if attack is not None and not settings.on_attacked:
        raise UsageError(
            f"--attack goes with method at or both; method {settings.method} sees no attacked image"
        )
    settings = replace(settings, attack=attack_name(attack))
    training = open_training(data, localizer, config, device)
    options = TrainingOptions(hooks or Progress(), workers)
    if settings.task == "classify":
        return train_classifier(training, data, out, settings, schedule, options, checkpoint, attack)
    if settings.method == NONE:
        raise UsageError(
            "method none is for --task classify; a localizer without hardening is the localizer itself"
        )
    start = load_trainable(
        localizer, training.weights_to_load(checkpoint), device=str(training.processes.device)
    )
    require_attacked(start.localizer, training.attacked, data)
    schedule = sized_for(schedule, start.localizer)
    card = {
        **training.card(start.localizer.weights_sha256, start.localizer.threshold),
        "format": FORMAT,
        "settings": {**asdict(settings), **asdict(schedule)},
    }
    loss = loss_under_attack(start.localizer, settings, attack, schedule.seed)
    with training_files(out, card, training.processes) as files:
        return train_single_stage(
            training.pairs, start.network, loss, schedule, files, options, name=settings.method
        )
