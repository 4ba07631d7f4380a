"""Train the ANSM on a benchmark."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from afbench.core import Setting
from afbench.defences.ansm.checkpoint import FORMAT
from afbench.defences.ansm.presets import preset
from afbench.defences.ansm.settings import Settings, complete_settings, replace_settings
from afbench.defences.ansm.train import train
from afbench.defences.training.batch_rules import CROP
from afbench.defences.training.stage import TrainingOptions
from afbench.localizers import load_localizer
from afbench.work_progress import Progress

from ..attacked_localizer import require_attacked
from ..request import config_localizer
from .image_sizes import fit_and_side, sized_for
from .online_attack import attack_name, attacker
from .training_data import open_training, training_files


def train_ansm(
    data: Path,
    out: Path,
    settings: Settings,
    *,
    localizer: str,
    config: str | None = None,
    checkpoint: str | None = None,
    resolution: str = "official",
    attack: Setting | None = None,
    device: str = "cpu",
    workers: int = 0,
    hooks: Progress | None = None,
) -> dict[str, Any]:
    """Train the ANSM for a localizer on what a benchmark holds of it; goes on with a run that was stopped.

    Args:
        data: a finished benchmark or its archive, with originals.
        out: folder of the training.
        settings: what decides the result.
        localizer: what the benchmark's configs call it, or a user's own ``my_package.my_module:build``.
        config: what to train on, as ``afbench.load`` takes it; omitted, the localizer's FGSM at 3/255 (the paper's
            setting), or else its first config.
        checkpoint: weights of the localizer, if they are neither embedded nor registered.
        resolution: as ``load_localizer`` takes it.
        attack: what attacks the localizer anew at every step, instead of the benchmark's images.
        device: ``cpu``, ``cuda``, ``cuda:1``; several processes are started by ``accelerate launch``.
        workers: processes that read images.
        hooks: where to listen.
    Returns:
        The card of the best checkpoint.
    Raises:
        UsageError: if the data, the localizer, the settings or the folder do not fit together.
        PartialError: if another process trains into ``out``.
        AfbenchError: if the loss is no number.
    """
    training = open_training(data, localizer, config, device)
    network = load_localizer(
        localizer,
        training.weights_to_load(checkpoint),
        resolution=resolution,
        device=str(training.processes.device),
    )
    require_attacked(network, training.attacked, data)
    # the attack is part of the settings, so that a folder of another one is refused
    settings = sized_for(replace(settings, attack=attack_name(attack), turned=attack is None), network)
    card = {
        "format": FORMAT,
        **training.card(network.weights_sha256, network.threshold, resolution),
        "settings": settings.as_json(),
    }
    if attack is not None:  # what is attacked anew has the size that the module sees
        card["attack_at"] = "native" if settings.fit == CROP else "model"
    online_attack = None if attack is None else attacker(network, attack, settings.seed)
    options = TrainingOptions(hooks or Progress(), workers)
    with training_files(out, card, training.processes, complete_settings) as files:
        return train(training.pairs, network, settings, files, options, online_attack)


def ansm_settings(
    name: str,
    localizer: str,
    *,
    recipe: str | None = None,
    crop: int | None = None,
    resize: int | None = None,
    **options: Any,
) -> Settings:
    """Return a preset, of another recipe where one is given, with those of its values replaced that are given (not None).

    Raises:
        UsageError: for a value that cannot be, or crop and resize together.
    """
    base = preset(name, config_localizer(localizer), recipe)
    return replace_settings(base, {**options, **fit_and_side(crop, resize)})
