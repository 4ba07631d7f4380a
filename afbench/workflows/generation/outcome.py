"""What to tell of a run that ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from afbench.core import AfbenchError
from afbench.report.weak import weak_configs
from afbench.storage.manifests import CLEAN, ORIGINALS, excluded_samples, read_configs

from .prepare import Ready, published_shards
from .splits import Split


@dataclass(frozen=True)
class Outcome:
    """What a run did: configs asked for, shards it wrote, gradients it took, excluded samples by reason.

    ``restricted`` are the terms of sources that forbid sharing their pixels, which the folder holds. ``warnings`` say where
    a localizer finds nothing in the originals. ``shorter`` are configs that a benchmark held before it grew and nobody asked
    for since: they cover the first samples only. ``shards_left`` is not zero where other parts have not made theirs: then
    nothing is published yet, and nothing known of ``excluded``, ``warnings`` or ``shorter``.
    """

    folder: Path
    configs: Sequence[str]
    shards_written: int
    gradients: int
    excluded: Mapping[str, int]
    restricted: Mapping[str, str]
    shards_left: int = 0
    warnings: Sequence[str] = ()
    shorter: Sequence[str] = ()


def outcome(out: Path, ready: Ready, *, shards: int, gradients: int, left: int = 0) -> Outcome:
    """What to tell of a run.

    Raises:
        AfbenchError: if a source or config was published without a single sample.
    """
    if not left:
        _refuse_empty(out, ready.splits, ready.headers)
    restricted = {
        name: split.source.terms
        for name, split in ready.splits.items()
        if split.source.redistribution == "forbidden"
    }
    excluded = {} if left else _excluded(out, ready.headers)
    asked = (
        {} if left else {name: config for name, config in read_configs(out).items() if name in ready.headers}
    )
    shorter = [] if left else _shorter(out, ready)
    return Outcome(
        out, list(ready.headers), shards, gradients, excluded, restricted, left, weak_configs(asked), shorter
    )


def _shorter(out: Path, ready: Ready) -> list[str]:
    shards = published_shards(out)
    return sorted(
        config
        for (config, split), count in shards.items()
        if config not in ORIGINALS and split in ready.splits and count < shards[CLEAN, split]
    )


def _refuse_empty(out: Path, splits: Mapping[str, Split], configs: Iterable[str]) -> None:
    """Fail where nothing is left: of a source, or of it under an attack."""
    manifests = read_configs(out)
    for config in (CLEAN, *configs):
        for name in splits.keys() & manifests[config].splits.keys():
            shards = manifests[config].splits[name].shards
            if not any(shard.rows for shard in shards):
                reasons = Counter(one["reason"] for shard in shards for one in shard.excluded)
                told = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
                where = "" if config == CLEAN else f" in config {config}"
                raise AfbenchError(
                    f"source '{name}' has no usable sample{where} ({told}); '{out}/README.md' says why"
                )


def _excluded(out: Path, configs: Mapping[str, Any]) -> dict[str, int]:
    """Samples left out of any of the configs, each counted once per reason."""
    manifests = read_configs(out)
    reasons = {
        (one["sample_id"], one["reason"])
        for name in (CLEAN, *configs)
        for one in excluded_samples(manifests[name])
    }
    counts: dict[str, int] = {}
    for _, reason in sorted(reasons):
        counts[reason] = counts.get(reason, 0) + 1
    return counts
