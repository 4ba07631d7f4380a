"""Train a purifier in feature space."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from afbench.defences.ansm.module import Ansm
from afbench.defences.ansm.steps import aligned_features
from afbench.defences.ansm.train import Hooks
from afbench.defences.hardening.fit import Job, fit
from afbench.defences.hardening.settings import Schedule
from afbench.defences.nrp import FORMAT, OF_LOCALIZER, NrpSettings, check_nrp, nrp_loss, timm_features
from afbench.files import commit_bytes
from afbench.localizers import load_localizer

from ..attacked_localizer import require_attacked
from .train_ansm import lock_training, sized_for
from .training_data import open_training, schedule_of, weights_to_load

__all__ = ["Hooks", "nrp_settings", "schedule_of", "train_nrp"]


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
    hooks: Hooks | None = None,
) -> dict[str, Any]:
    """Train a feature-space purifier; arguments, returns and errors as ``train_hardened``."""
    opened = open_training(data, localizer, config, device)
    where = opened.processes.device
    network = load_localizer(localizer, weights_to_load(opened, checkpoint), device=str(where))
    require_attacked(network, opened.how, data)
    schedule = sized_for(schedule, network)
    if settings.features == OF_LOCALIZER:
        features = lambda image: aligned_features(network, image, settings.depth)  # noqa: E731
    else:
        features = timm_features(settings, where)  # type: ignore[assignment]
    with ExitStack() as stack:
        lock_training(stack, out)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(schedule.seed)
            purifier = Ansm("small")
        purifier.to(device=where, memory_format=torch.channels_last)  # type: ignore[call-overload]
        job = Job(
            "nrp",
            purifier,
            lambda batch, draws: nrp_loss(purifier, features, batch, settings, draws),
            batch_statistics=True,
        )
        facts = {
            **opened.facts(network),
            "format": FORMAT,
            "settings": {**settings.as_json(), **asdict(schedule)},
        }
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


def nrp_settings(given: Mapping[str, Any]) -> NrpSettings:
    """The same for a purifier.

    Raises:
        UsageError: for a value that cannot be.
    """
    names = NrpSettings.__dataclass_fields__
    return check_nrp(
        NrpSettings(**{name: value for name, value in given.items() if name in names and value is not None})
    )
