"""Train a localizer's own weights, or a classifier's, so that attacks find it harder."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from afbench.core import Setting, UsageError
from afbench.defences.ansm.train import Hooks
from afbench.defences.hardening.fit import Job, fit
from afbench.defences.hardening.settings import NONE, Hardening, Schedule
from afbench.files import commit_bytes
from afbench.localizers.trainable import load_trainable

from ..attacked_localizer import require_attacked
from .online_attack import attack_name, loss_of, make_attack
from .train_ansm import lock_training, sized_for
from .train_classifier import classify
from .training_data import open_training, schedule_of, weights_to_load

__all__ = ["Hooks", "make_attack", "schedule_of", "train_hardened"]
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
    hooks: Hooks | None = None,
) -> dict[str, Any]:
    """Train a localizer, or a classifier, to withstand attacks; goes on with a run that was stopped.

    ``out/best.safetensors`` is a checkpoint that ``load_localizer`` takes for the same localizer, or of a classifier.

    Args:
        data: a finished benchmark or its archive, with originals.
        out: folder of the training.
        settings: what is hardened, and how; ``settings.attack`` is set from ``attack``.
        schedule: for how long, and on what.
        localizer: whose configs are read; with the task ``localize``, also what is trained.
        config: what to train on, as ``afbench.load`` takes it; omitted, as ``train_ansm`` chooses.
        checkpoint: what training starts from: weights of the localizer if they are neither embedded nor registered, or a
            classifier (omitted for a new one).
        attack: what attacks the weights in training anew at every step, instead of the benchmark's images.
        device: ``cpu``, ``cuda``, ``cuda:1``.
        workers: processes that read images.
        hooks: where to listen.
    Returns:
        The card of the best checkpoint; of a classifier also its ``accuracy`` before and after.
    Raises:
        UsageError: if the data, the localizer, the settings or the folder do not fit together.
        PartialError: if another process trains into ``out``.
        AfbenchError: if the loss is no number.
    """
    if attack is not None and not settings.on_attacked:
        raise UsageError(
            f"--attack goes with method at or both; method {settings.method} sees no attacked image"
        )
    settings = Hardening(**{**asdict(settings), "attack": attack_name(attack)})
    opened = open_training(data, localizer, config, device)
    if settings.task == "classify":
        return classify(data, out, settings, schedule, opened, checkpoint, attack, workers, hooks)
    if settings.method == NONE:
        raise UsageError(
            "method none is for --task classify; a localizer without hardening is the localizer itself"
        )
    start = load_trainable(
        localizer, weights_to_load(opened, checkpoint), device=str(opened.processes.device)
    )
    require_attacked(start.localizer, opened.how, data)
    schedule = sized_for(schedule, start.localizer)
    facts = {
        **opened.facts(start.localizer),
        "format": FORMAT,
        "settings": {**asdict(settings), **asdict(schedule)},
    }
    loss = loss_of(start.localizer, settings, attack, schedule.seed)
    with ExitStack() as stack:
        lock_training(stack, out)
        job = Job(settings.method, start.network, loss)
        return fit(
            opened.dataset,
            job,
            schedule,
            out,
            facts=facts,
            commit=commit_bytes,
            processes=opened.processes,
            hooks=hooks,
            workers=workers,
        )
