"""What every training begins with: a benchmark's pairs, the localizer they attacked, and the folder of the training."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from filelock import FileLock, Timeout

from afbench.core import PartialError, UsageError
from afbench.defences.training.processes import Processes, join_processes
from afbench.defences.training.run_files import RunFiles
from afbench.files import commit_bytes
from afbench.localizers.untrained import recorded_checkpoint
from afbench.reading.dataset import PairDataset
from afbench.reading.load_pairs import load, open_store
from afbench.storage.config_manifest import ConfigManifest
from afbench.storage.manifests import ORIGINALS, refuse_inside_benchmark
from afbench.version import __version__

from ..request import config_localizer

_LIBRARIES = ("torch", "numpy", "timm", "accelerate", "safetensors")


class TrainingData(NamedTuple):
    """A benchmark's pairs, and who trains on them.

    Attributes:
        pairs: originals and attacked images; none is read yet.
        localizer: what configs call the localizer that was attacked.
        attacked: what manifests tell of it.
        data_card: what checkpoints say of the data.
        processes: of the training.
        attack_at: at which size the images were attacked, ``native`` or ``model``.
    """

    pairs: PairDataset
    localizer: str
    attacked: Mapping[str, Any]
    data_card: Mapping[str, Any]
    processes: Processes
    attack_at: str = "native"

    def weights_to_load(self, checkpoint: str | None) -> str | None:
        """Return what to load the localizer from: untrained weights where the benchmark attacked those."""
        return recorded_checkpoint(self.attacked, checkpoint)

    def card(self, weights_sha256: str, threshold: float, resolution: str = "official") -> dict[str, Any]:
        """Return what checkpoints say of the localizer, the data and the machine."""
        return {
            "localizer": {
                "name": self.localizer,
                "weights_sha256": weights_sha256,
                "threshold": threshold,
                "resolution": resolution,
            },
            "data": self.data_card,
            # beside the data, which older trainings recorded without it and must be found equal to
            "attack_at": self.attack_at,
            "processes": self.processes.share.of,
            # for a reader; decides nothing
            "made_with": {
                "afbench": __version__,
                "python": platform.python_version(),
                "device": str(self.processes.device),
                "threads": torch.get_num_threads(),
                **{library: _version(library) for library in _LIBRARIES},
            },
        }


def open_training(data: Path, localizer: str, config: str | None, device: str) -> TrainingData:
    """Read what manifests tell of a benchmark, and join the processes of the training.

    Raises:
        UsageError: if it is no benchmark, lacks originals, was made against another localizer, or the device cannot be used.
    """
    name = config_localizer(localizer)
    manifests = open_store(data).configs
    config = config or _default_config(manifests, name, data)
    pairs = load(data, config)
    config_names = sorted(set(pairs.configs))
    attacked = _require_owner(manifests, config_names, name, data)
    # names and counts may be those of another benchmark, its manifests are not
    text = json.dumps(
        {config_name: manifests[config_name].as_json() for config_name in config_names},
        sort_keys=True,
        default=str,
    )
    data_card = {
        "config": config,
        "configs": config_names,
        "sources": sorted(set(pairs.sources)),
        "pairs": len(pairs),
        "fingerprint": hashlib.sha256(text.encode()).hexdigest(),
    }
    attack_at = str(manifests[config_names[0]].provenance.get("attack_at", "native"))  # a benchmark has one
    return TrainingData(pairs, name, attacked, data_card, join_processes(device), attack_at)


@contextmanager
def training_files(
    out: Path,
    card: Mapping[str, Any],
    processes: Processes,
    complete_settings: Callable[[Any], Any] = lambda settings: settings,
) -> Iterator[RunFiles]:
    """Hold the lock of a training's folder, and open its files as ``RunFiles`` does.

    Raises:
        UsageError: if the folder cannot be, or holds something else.
        PartialError: if another process trains into it.
    """
    with ExitStack() as stack:
        if processes.main:  # the others of the same training wait in RunFiles
            if out.parent.is_file() or out.is_file():
                raise UsageError(f"--out '{out}' is a file or lies below one; give a folder")
            refuse_inside_benchmark(out, as_folder=True)
            out.parent.mkdir(parents=True, exist_ok=True)
            try:
                stack.enter_context(FileLock(f"{out}.lock", timeout=0))
            except Timeout:
                raise PartialError(f"another process trains into '{out}'") from None
        yield RunFiles(out, card, commit_bytes, processes, complete_settings)


def _default_config(manifests: Mapping[str, ConfigManifest], localizer: str, data: Path) -> str:
    """Return the localizer's FGSM at 3/255, the paper's setting, or else its first config."""
    config_names = [name for name, manifest in manifests.items() if _owner(manifest) == localizer]
    if not config_names:
        owners = ", ".join(sorted({_owner(manifest) for manifest in manifests.values()} - {""}))
        raise UsageError(
            f"'{data}' was not made against '{localizer}' but against {owners or 'nothing'}; give its own benchmark"
        )
    paper = f"{localizer}-fgsm-3"
    return paper if paper in config_names else config_names[0]


def _owner(manifest: ConfigManifest) -> str:
    return "" if manifest.config in ORIGINALS else manifest.localizer_name


def _require_owner(
    manifests: Mapping[str, ConfigManifest], config_names: Sequence[str], localizer: str, data: Path
) -> Mapping[str, Any]:
    """Return what manifests tell of the localizer that the configs attacked, which must be this one."""
    if not config_names:
        raise UsageError(f"'{data}' holds no image to train on")
    # a pattern such as reference-fgsm may name several
    for name in config_names:
        owner = _owner(manifests[name])
        if owner != localizer:
            history = f"attacked '{owner}'" if owner else "was not attacked"
            raise UsageError(
                f"config '{name}' of '{data}' {history}, expected '{localizer}'; give --config of that localizer"
            )
    attacked: Mapping[str, Any] = manifests[config_names[0]].provenance["localizer"]
    return attacked


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "none"
