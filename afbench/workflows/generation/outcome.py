"""Summarise a run that has ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from afbench.core import AfbenchError
from afbench.reports.tables import stats_rows
from afbench.reports.weak import weak_configs
from afbench.storage.config_manifest import ConfigManifest
from afbench.storage.manifests import (
    CLEAN,
    ORIGINALS,
    TOP,
    excluded_samples,
    open_benchmark,
    read_configs,
    read_json,
)

from .prepare import PreparedPlan, published_shards
from .splits import Split

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run did: the configs of its plan, shards it wrote, gradients it took, and how many samples were excluded, by reason.

    ``restricted`` holds the terms of sources whose pixels may not be shared. ``warnings`` say where a localizer finds
    nothing in the originals, and which shards were damaged since. ``shorter`` lists the configs that cover only the first samples, since the benchmark has grown
    without them. If ``shards_left`` is not zero, other parts are unfinished and nothing is published yet; then
    ``excluded_counts``, ``warnings`` and ``shorter`` are empty.
    """

    folder: Path
    configs: Sequence[str]
    shards_written: int
    gradients: int
    excluded_counts: Mapping[str, int]
    restricted: Mapping[str, str]
    shards_left: int = 0
    warnings: Sequence[str] = ()
    shorter: Sequence[str] = ()

    def to_pandas(self) -> pd.DataFrame:
        """Return the figures of these configs, one row per config and source, as ``afbench.stats`` does.

        Raises:
            UsageError: if parts of the run are missing, so that nothing is published.
        """
        import pandas as pd

        configs = open_benchmark(self.folder).configs
        return pd.DataFrame(stats_rows({name: configs[name] for name in self.configs}))


def summarise_run(
    out: Path, prepared: PreparedPlan, *, shards: int, gradients: int, unmade: int = 0
) -> Outcome:
    """Collect the outcome of a run from its folder; ``unmade`` is how many shards other parts have yet to make.

    Raises:
        AfbenchError: if a source or config was published without a single sample.
    """
    # while other parts have work nothing is published, so the manifests don't cover this plan yet
    if not unmade:
        _refuse_empty(out, prepared.splits, prepared.headers)
    restricted = {
        name: split.source.terms
        for name, split in prepared.splits.items()
        if split.source.redistribution == "forbidden"
    }
    excluded_counts = {} if unmade else _count_excluded(out, prepared.headers)
    manifests = {} if unmade else read_configs(out)
    requested = {name: manifest for name, manifest in manifests.items() if name in prepared.headers}
    originals = {name: manifest for name, manifest in manifests.items() if name in ORIGINALS}
    shorter = [] if unmade else _shorter_configs(out, prepared)
    if not unmade:
        read_json(out / TOP)  # a finished run does not write it again
    return Outcome(
        folder=out,
        configs=list(prepared.headers),
        shards_written=shards,
        gradients=gradients,
        excluded_counts=excluded_counts,
        restricted=restricted,
        shards_left=unmade,
        warnings=[*weak_configs(requested), *_damaged_shards(out, originals | requested)],
        shorter=shorter,
    )


def _damaged_shards(out: Path, manifests: Mapping[str, ConfigManifest]) -> list[str]:
    """Warn of shards that were cut or lost after they were published: a finished run does not open them."""
    shards = [shard for manifest in manifests.values() for shard in manifest.shards]
    damaged = [shard.path for shard in shards if not _has_size(out / shard.path, shard.bytes)]
    if not damaged:
        return []
    return [
        f"{len(damaged)} of {len(shards)} shards are missing or have another size than when they were made (first: {damaged[0]}); "
        f"`afbench verify {out} --repair` makes them again"
    ]


def _has_size(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except OSError:
        return False


def _shorter_configs(out: Path, prepared: PreparedPlan) -> list[str]:
    shards = published_shards(out)
    return sorted(
        config
        for (config, split), count in shards.items()
        if config not in ORIGINALS and split in prepared.splits and count < shards[CLEAN, split]
    )


def _refuse_empty(out: Path, splits: Mapping[str, Split], configs: Iterable[str]) -> None:
    """Fail if every sample of a source was excluded, from the originals or from an attacked config."""
    manifests = read_configs(out)
    for config in (CLEAN, *configs):
        for name in splits.keys() & manifests[config].splits.keys():
            shards = manifests[config].splits[name].shards
            if not any(shard.rows for shard in shards):
                reasons = Counter(sample["reason"] for shard in shards for sample in shard.excluded)
                counts_text = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
                in_config = "" if config == CLEAN else f" in config {config}"
                raise AfbenchError(
                    f"source '{name}' has no usable sample{in_config} ({counts_text}); '{out}/README.md' says why"
                )


def _count_excluded(out: Path, configs: Mapping[str, Any]) -> dict[str, int]:
    """Count the samples excluded from any of the configs, each once per reason."""
    manifests = read_configs(out)
    # a set: an original that cannot be read is missing in every config
    reasons = {
        (sample["sample_id"], sample["reason"])
        for name in (CLEAN, *configs)
        for sample in excluded_samples(manifests[name])
    }
    counts: dict[str, int] = {}
    for _, reason in sorted(reasons):
        counts[reason] = counts.get(reason, 0) + 1
    return counts
