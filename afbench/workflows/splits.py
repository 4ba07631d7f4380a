"""The fixed list of samples of every source, cut into shards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from afbench.core import Localizer, Source, UsageError
from afbench.plan import RunPlan
from afbench.sources import SourceOptions, open_source
from afbench.storage.folder import has_records, read_header
from afbench.storage.manifests import AUTHENTIC, CLEAN, ids_sha256, read_configs
from afbench.storage.shards import cut_ids

from .fitting import fit_source
from .provenance import difference
from .request import AttackAt, OnIndex, Options

DEFAULT_SHARD_SIZE = 64


@dataclass(frozen=True)
class Split:
    """A source's samples, cut into shards of at most ``shard_size`` ids and at most 500 MB.

    ``originals`` is the config that holds them as they are: ``clean``, or ``authentic`` for those nobody forged.
    """

    source: Source
    shard_size: int
    attack_at: AttackAt
    originals: str = CLEAN

    @property
    def name(self) -> str:
        return self.source.name

    @cached_property
    def shards(self) -> list[Sequence[str]]:
        return cut_ids(self.source.ids, self.shard_size, self.source.pixels)

    def identity(self) -> dict[str, Any]:
        """What must not change as long as a folder holds this split."""
        return {
            "source_sha256": self.source.sha256,
            "ids_sha256": ids_sha256(self.source.ids),
            "samples": len(self.source.ids),
            "attack_at": self.attack_at,
            "shard_size": self.shard_size,
            "terms": self.source.terms,
            "redistribution": self.source.redistribution,
        }


def open_splits(
    plan: RunPlan, out: Path, options: Options, localizers: Mapping[str, Localizer], on_index: OnIndex
) -> dict[str, Split]:
    """Open every source of a plan, cut as the folder has it already where it does.

    ``on_index`` is told how many files of a source have been read for the first time, of how many.

    Raises:
        UsageError: if a source cannot be opened, or cannot be brought to one size for all localizers.
    """
    specs = {source.name: source for block in plan.blocks for source in block.sources}
    found = {}
    for name, spec in specs.items():
        source = open_source(
            name,
            spec.root,
            pin=spec.sha256,
            seed=plan.seed,
            limit=plan.limit,
            options=SourceOptions(authentic=options.authentic),
            on_progress=on_index,
        )
        if options.attack_at == "model":
            source = fit_source(source, list(localizers.values()))
        before = _held(out, name, CLEAN)
        size = options.shard_size or (int(before["shard_size"]) if before else DEFAULT_SHARD_SIZE)
        found[name] = Split(source, size, options.attack_at)
    return found


def authentic_splits(splits: Mapping[str, Split]) -> dict[str, Split]:
    """The images nobody forged, of the sources that have any."""
    return {
        name: replace(split, source=_authentic(split.source), originals=AUTHENTIC)
        for name, split in splits.items()
        if split.source.authentic
    }


def _authentic(source: Source) -> Source:
    return replace(source, ids=source.authentic, sha256=source.authentic_sha256)


def check_splits(out: Path, splits: Mapping[str, Split]) -> None:
    """Refuse originals that differ from what the folder holds.

    Raises:
        UsageError: with the difference.
    """
    for name, split in splits.items():
        before = _held(out, name, split.originals)
        if before:
            changed = difference({key: before.get(key) for key in split.identity()}, split.identity())
            if changed:
                raise UsageError(
                    f"'{out}' holds other originals of '{name}' ({'; '.join(changed)}); "
                    "use the same --limit, --seed, --shard-size, --attack-at and files, or another --out"
                )


def _held(out: Path, name: str, originals: str) -> Mapping[str, Any] | None:
    """What the folder has fixed of a split: published, or begun."""
    published: Mapping[str, Any] | None = read_configs(out).get(originals, {}).get("splits", {}).get(name)
    # of forged images an attack's shard may be there before that of the originals
    begun = has_records(out, split=name, config=AUTHENTIC if originals == AUTHENTIC else "*")
    return published or (read_header(out, f"{originals}.{name}") if begun else None)
