"""Train a defence on a benchmark."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

import torch
from filelock import FileLock, Timeout

from afbench.core import Localizer, PartialError, Setting, UsageError
from afbench.defences.ansm.processes import Processes, join_processes
from afbench.defences.ansm.settings import ANTIALIASED, CROP, RESIZE, Settings, preset, replace_settings
from afbench.defences.ansm.train import Hooks, train
from afbench.defences.hardening.settings import Schedule
from afbench.files import commit_bytes
from afbench.localizers import load_localizer
from afbench.reading.dataset import PairDataset
from afbench.reading.load_pairs import load, open_store
from afbench.storage.config_manifest import ConfigManifest
from afbench.storage.manifests import ORIGINALS
from afbench.version import __version__

from ..attacked_localizer import require_attacked
from ..request import config_localizer
from .online_attack import attack_name, attacker, make_attack

__all__ = ["Hooks", "ansm_settings", "make_attack", "train_ansm"]
_LIBRARIES = ("torch", "numpy", "timm", "accelerate", "safetensors")


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
    hooks: Hooks | None = None,
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
    name = config_localizer(localizer)
    configs = open_store(data).configs
    chosen = config or default_config(configs, name, data)
    dataset = load(data, chosen)
    used = sorted(set(dataset.configs))
    how = require_owner(configs, used, name, data)
    processes = join_processes(device)
    network = load_localizer(
        localizer,
        checkpoint or ("random" if how["untrained"] else None),
        resolution=resolution,
        device=str(processes.device),
    )
    require_attacked(network, how, data)
    settings = sized_for(replace(settings, attack=attack_name(attack)), network)
    with ExitStack() as stack:
        if processes.main:
            lock_training(stack, out)
        return train(
            dataset,
            network,
            settings,
            out,
            facts=training_facts(network, name, resolution, dataset, chosen, configs, used, processes),
            commit=commit_bytes,
            processes=processes,
            hooks=hooks,
            workers=workers,
            attack=None if attack is None else attacker(network, attack, settings.seed),
        )


Fitted = TypeVar("Fitted", Settings, Schedule)


def sized_for(settings: Fitted, network: Localizer) -> Fitted:
    """Settings whose resized images are those that the localizer sees: its own size, and antialiased as it does.

    Raises:
        UsageError: if they are of another size, which the localizer would resize once more.
    """
    if settings.fit == CROP:
        return settings
    side = getattr(network, "side", None)
    if side not in (None, settings.side):
        raise UsageError(
            f"images of {settings.side}x{settings.side} are not what '{network.name}' sees: it would resize them once more, to "
            f"{side}x{side}; give --resize {side}, or --crop N to train at the images' own size"
        )
    return replace(settings, fit=ANTIALIASED if getattr(network, "antialias", False) else RESIZE)


def default_config(configs: Mapping[str, ConfigManifest], name: str, data: Path) -> str:
    mine = [one for one, manifest in configs.items() if _owner(manifest) == name]
    if not mine:
        owners = sorted({_owner(manifest) for manifest in configs.values()} - {""})
        raise UsageError(
            f"'{data}' was not made against '{name}' but against {', '.join(owners) or 'nothing'}; give its own benchmark"
        )
    return f"{name}-fgsm-3" if f"{name}-fgsm-3" in mine else mine[0]


def _owner(manifest: ConfigManifest) -> str:
    return "" if manifest.config in ORIGINALS else manifest.localizer_name


def require_owner(
    configs: Mapping[str, ConfigManifest], used: Sequence[str], name: str, data: Path
) -> Mapping[str, Any]:
    """The localizer that the configs attacked, which must be this one."""
    if not used:
        raise UsageError(f"'{data}' holds no image to train on")
    for config in used:
        owner = _owner(configs[config])
        if owner != name:
            told = f"attacked '{owner}'" if owner else "was not attacked"
            raise UsageError(
                f"config '{config}' of '{data}' {told}, expected '{name}'; give --config of that localizer"
            )
    found: Mapping[str, Any] = configs[used[0]].provenance["localizer"]
    return found


def training_facts(
    network: Localizer,
    name: str,
    resolution: str,
    dataset: PairDataset,
    chosen: str,
    configs: Mapping[str, ConfigManifest],
    used: Sequence[str],
    processes: Processes,
) -> dict[str, Any]:
    told = json.dumps({one: configs[one].as_json() for one in used}, sort_keys=True, default=str)
    return {
        "localizer": {
            "name": name,
            "weights_sha256": network.weights_sha256,
            "threshold": network.threshold,
            "resolution": resolution,
        },
        "data": {
            "config": chosen,
            "configs": list(used),
            "sources": sorted(set(dataset.sources)),
            "pairs": len(dataset),
            "fingerprint": hashlib.sha256(told.encode()).hexdigest(),
        },
        "processes": processes.share.of,
        "made_with": {
            "afbench": __version__,
            "python": platform.python_version(),
            "device": str(processes.device),
            "threads": torch.get_num_threads(),
            **{one: _version(one) for one in _LIBRARIES},
        },
    }


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "none"


def lock_training(stack: ExitStack, out: Path) -> None:
    if out.parent.is_file() or out.is_file():
        raise UsageError(f"--out '{out}' is a file or lies below one; give a folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        stack.enter_context(FileLock(f"{out}.lock", timeout=0))
    except Timeout:
        raise PartialError(f"another process trains into '{out}'") from None


def ansm_settings(
    name: str,
    localizer: str,
    *,
    recipe: str | None = None,
    crop: int | None = None,
    resize: int | None = None,
    **given: Any,
) -> Settings:
    """A preset, of another recipe where one is given, with those of its values replaced that are given (not None).

    Raises:
        UsageError: for a value that cannot be, or crop and resize together.
    """
    if crop is not None and resize is not None:
        raise UsageError("--crop and --resize exclude one another; give one")
    fit = "crop" if crop is not None else "resize" if resize is not None else None
    side = crop if crop is not None else resize
    return replace_settings(
        preset(name, config_localizer(localizer), recipe), {**given, "fit": fit, "side": side}
    )
