"""Train a purifier in feature space."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from afbench.defences.ansm.module import Ansm
from afbench.defences.ansm.stage_loss import aligned_features
from afbench.defences.nrp import FORMAT, OF_LOCALIZER, NrpSettings, check_nrp, nrp_loss, timm_features
from afbench.defences.setting_checks import from_options
from afbench.defences.training.pairs import Batch
from afbench.defences.training.single_stage import Schedule, train_single_stage
from afbench.defences.training.stage import TrainingOptions
from afbench.localizers import load_localizer
from afbench.work_progress import Progress

from ..attacked_localizer import require_attacked
from .image_sizes import sized_for
from .training_data import open_training, training_files


def train_nrp(
    data: Path,
    out: Path,
    settings: NrpSettings,
    schedule: Schedule,
    *,
    localizer: str,
    config: str | None = None,
    checkpoint: str | None = None,
    device: str = "cpu",
    workers: int = 0,
    hooks: Progress | None = None,
) -> dict[str, Any]:
    """Train a feature-space purifier; arguments, returns and errors as ``train_ansm``."""
    training = open_training(data, localizer, config, device)
    torch_device = training.processes.device
    network = load_localizer(localizer, training.weights_to_load(checkpoint), device=str(torch_device))
    require_attacked(network, training.attacked, data)
    schedule = sized_for(schedule, network)
    if settings.features == OF_LOCALIZER:
        features = lambda image: aligned_features(network, image, settings.depth)  # noqa: E731
    else:
        features = timm_features(settings, torch_device)  # type: ignore[assignment]
    # the first weights follow from the seed, and a caller's own draws go on as they were
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(schedule.seed)
        purifier = Ansm("small")
    purifier.to(device=torch_device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def loss(batch: Batch, draws: torch.Generator) -> Tensor:
        return nrp_loss(purifier, features, batch, settings, draws)

    card = {
        **training.card(network.weights_sha256, network.threshold),
        "format": FORMAT,
        "settings": {**settings.as_json(), **asdict(schedule)},
    }
    options = TrainingOptions(hooks or Progress(), workers)
    with training_files(out, card, training.processes) as files:
        return train_single_stage(
            training.pairs,
            purifier,
            loss,
            schedule,
            files,
            options,
            name="nrp",
            batch_statistics=True,
            frozen=[network],
        )


def nrp_settings(**options: Any) -> NrpSettings:
    """Return a purifier's settings with those of its values replaced that are given (not None).

    Raises:
        UsageError: for a value that cannot be.
    """
    return check_nrp(from_options(NrpSettings, options))
