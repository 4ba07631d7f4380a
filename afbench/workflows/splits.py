"""The fixed list of samples of every source, cut into shards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from afbench.core import Localizer, Source, UsageError
from afbench.plan import RunPlan, SourceSpec, settings_by_group
from afbench.plan.cost import KEEP_SECONDS, localizer_cost
from afbench.plan.effort import CORES, effort_of, shard_size
from afbench.plan.estimate import expected_source
from afbench.sources import SourceOptions, open_source
from afbench.storage.folder import has_records, read_header
from afbench.storage.manifests import AUTHENTIC, CLEAN, ids_sha256, read_configs
from afbench.storage.shards import cut_ids

from .fitting import fit_source
from .provenance import difference
from .request import AttackAt, OnIndex, Options


@dataclass(frozen=True)
class Split:
    """A source's samples, cut into shards of at most ``shard_size`` ids and at most 500 MB.

    ``originals`` is the config that holds them as they are: ``clean``, or ``authentic`` for those nobody forged. ``side`` is
    that of the square they are resized to before they are attacked, if they are.
    """

    source: Source
    shard_size: int
    attack_at: AttackAt
    originals: str = CLEAN
    side: int | None = None

    @property
    def name(self) -> str:
        return self.source.name

    @cached_property
    def shards(self) -> list[Sequence[str]]:
        return cut_ids(self.source.ids, self.shard_size, self.source.pixels)

    @cached_property
    def pixels(self) -> int:
        """Of an image, on average; what is published or usual where nobody looked."""
        if self.side:
            return self.side**2
        known = [self.source.pixels[one] for one in self.source.ids if self.source.pixels.get(one)]
        if known:
            return sum(known) // len(known)
        return (expected_source(SourceSpec(self.name), None, {}) or (0, 512 * 512))[1]

    @property
    def keep_seconds(self) -> float:
        """What it takes to encode one image and decode it again, by the cost model."""
        return self.pixels * KEEP_SECONDS / CORES

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
            # absent, not empty, where there is none: so what was recorded before there was one stays as it was
            **({"layout": self.source.layout} if self.source.layout else {}),
            **({"read": read} if (read := self.source.read_options.as_json()) else {}),
        }


def open_splits(
    plan: RunPlan,
    out: Path,
    options: Options,
    localizers: Mapping[str, Localizer],
    on_index: OnIndex,
    made_on: str,
) -> dict[str, Split]:
    """Open every source of a plan, cut as the folder has it already where it does.

    Else shards are cut so that about two minutes are at stake where they are ``made_on``: "cpu", "cuda" or such.
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
            options=SourceOptions(authentic=options.authentic, read=spec.read),
            layout=spec.layout,
            terms=spec.terms,
            on_progress=on_index,
        )
        side = None
        if options.attack_at == "model":
            source = fit_source(source, list(localizers.values()))
            side = next((getattr(one, "side", None) for one in localizers.values()), None)
        size = options.shard_size or _size_in_folder(out, source)
        split = Split(source, size or 1, options.attack_at, side=side)
        found[name] = split if size else replace(split, shard_size=_size_of(plan, split, made_on))
    return found


def _size_in_folder(out: Path, source: Source) -> int | None:
    """How a folder cuts a source already, or is about to: whoever comes second must do as the first."""
    fixed = _held(out, source.name, CLEAN)
    begun = read_header(out, f"{CLEAN}.{source.name}")
    if fixed is None and begun and begun.get("ids_sha256") == ids_sha256(source.ids):
        fixed = begun
    return int(fixed["shard_size"]) if fixed else None


def _size_of(plan: RunPlan, split: Split, made_on: str) -> int:
    """By the sharing group that takes longest: each is committed by itself."""
    seconds = [
        effort_of(localizer_cost(name), split.pixels, made_on).of_group(group)
        for block in plan.blocks
        if split.name in [source.name for source in block.sources]
        for name in block.localizers
        for group in settings_by_group(block.settings).values()
    ]
    return shard_size(max(seconds, default=0.0), len(split.source.ids))


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
            now = split.identity()
            keys = {*now, "layout", "read"} & {*now, *before}
            changed = difference({key: before.get(key) for key in keys}, now)
            if changed:
                raise UsageError(
                    f"'{out}' holds other originals of '{name}' ({'; '.join(changed)}); "
                    "use the same --limit, --seed, --shard-size, --attack-at, --terms, --mask-... options and files, or "
                    "another --out"
                )


def _held(out: Path, name: str, originals: str) -> Mapping[str, Any] | None:
    """What the folder has fixed of a split: published, or begun."""
    published: Mapping[str, Any] | None = read_configs(out).get(originals, {}).get("splits", {}).get(name)
    # of forged images an attack's shard may be there before that of the originals
    begun = has_records(out, split=name, config=AUTHENTIC if originals == AUTHENTIC else "*")
    return published or (read_header(out, f"{originals}.{name}") if begun else None)
