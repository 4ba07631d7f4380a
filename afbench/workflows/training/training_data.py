"""What every training begins with: a benchmark's pairs, the localizer they attacked, and a schedule."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from afbench.core import Localizer, UsageError
from afbench.defences.ansm.processes import Processes, join_processes
from afbench.defences.hardening.settings import Schedule, replace_values
from afbench.reading.dataset import PairDataset
from afbench.reading.load_pairs import load, open_store

from ..request import config_localizer
from .train_ansm import default_config, require_owner, training_facts


class Opened(NamedTuple):
    """A benchmark's pairs, the localizer they attacked as manifests tell it, and what checkpoints say of both."""

    dataset: PairDataset
    how: Mapping[str, Any]
    facts: Callable[[Localizer], dict[str, Any]]
    processes: Processes
    name: str


def open_training(data: Path, localizer: str, config: str | None, device: str) -> Opened:
    """Read a benchmark's facts, and join the processes of the training; no image is read yet.

    Raises:
        UsageError: if it is no benchmark, lacks originals, was made against another localizer, or the device cannot be used.
    """
    name = config_localizer(localizer)
    configs = open_store(data).configs
    chosen = config or default_config(configs, name, data)
    dataset = load(data, chosen)
    used = sorted(set(dataset.configs))
    how = require_owner(configs, used, name, data)
    processes = join_processes(device)

    def facts(network: Localizer) -> dict[str, Any]:
        return training_facts(network, name, "official", dataset, chosen, configs, used, processes)

    return Opened(dataset, how, facts, processes, name)


def weights_to_load(opened: Opened, checkpoint: str | None) -> str | None:
    """What to load a localizer from: untrained weights where the benchmark attacked those."""
    return checkpoint or ("random" if opened.how["untrained"] else None)


def schedule_of(given: Mapping[str, Any]) -> Schedule:
    """A schedule with those of its values replace_values that are given; ``crop`` and ``resize`` are ``fit`` and ``side``.

    Raises:
        UsageError: for a value that cannot be, or crop and resize together.
    """
    crop, resize = given.get("crop"), given.get("resize")
    if crop is not None and resize is not None:
        raise UsageError("--crop and --resize exclude one another; give one")
    fit_ = None if resize is None else "resize"
    return replace_values(Schedule(), {**given, "fit": fit_, "side": crop if crop is not None else resize})
