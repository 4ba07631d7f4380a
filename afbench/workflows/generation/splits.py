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
from afbench.storage.config_manifest import SplitManifest
from afbench.storage.manifests import AUTHENTIC, CLEAN, ids_sha256, read_configs, splits_of
from afbench.storage.run_folder import has_records, read_split_header

from ..provenance import difference
from ..request import AttackAt, OnIndex, Options
from .cuts import Cut, Stage, cut_path, cut_stages, stages_of
from .model_size import fit_source


@dataclass(frozen=True)
class Split:
    """A source's samples, cut into shards of at most ``shard_size`` ids and at most 500 MB.

    ``originals`` is the config that holds them as they are: ``clean``, or ``authentic`` for those nobody forged. ``side`` is
    that of the square they are resized to before they are attacked, if they are. ``grown_from`` are the stages in which the folder
    came to hold as many samples.
    """

    source: Source
    shard_size: int
    attack_at: AttackAt
    originals: str = CLEAN
    side: int | None = None
    grown_from: tuple[Stage, ...] = ()

    @property
    def name(self) -> str:
        return self.source.name

    @cached_property
    def cuts(self) -> list[Cut]:
        stages = [*self.grown_from, Stage(len(self.source.ids), self.shard_size)]
        return cut_stages(self.source.ids, stages, self.source.pixels)

    @property
    def shards(self) -> list[Sequence[str]]:
        return [cut.ids for cut in self.cuts]

    def path(self, config: str, number: int) -> str:
        """Where a shard of a config lies."""
        return cut_path(config, self.name, self.cuts[number])

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
            **({"grown_from": [stage._asdict() for stage in self.grown_from]} if self.grown_from else {}),
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
    *,
    keep_pixels: bool = False,
) -> dict[str, Split]:
    """Open every source of a plan, cut as the folder has it already where it does.

    Else shards are cut so that about two minutes are at stake where they are ``made_on``: "cpu", "cuda" or such.
    ``on_index`` is told how many files of a source have been read for the first time, of how many. ``keep_pixels`` is for a
    process that reads the samples itself.

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
            keep_pixels=keep_pixels,
        )
        side = None
        if options.attack_at == "model":
            source = fit_source(source, list(localizers.values()))
            side = next((getattr(one, "side", None) for one in localizers.values()), None)
        split = Split(source, options.shard_size or 1, options.attack_at, side=side)
        found[name] = _cut_as_in_folder(out, plan, split, options, made_on)
    return found


def _cut_as_in_folder(out: Path, plan: RunPlan, split: Split, options: Options, made_on: str) -> Split:
    """Cut as the folder does, or is about to: whoever comes second must do as the first. What it lacks is a stage of its own."""
    fixed = _announced(out, split.source, CLEAN)
    stages = stages_of(fixed) if fixed else []
    if stages and stages[-1].samples >= len(split.source.ids):
        size = options.shard_size or stages[-1].shard_size
        return replace(split, shard_size=size, grown_from=tuple(stages[:-1]))
    fresh = len(split.source.ids) - (stages[-1].samples if stages else 0)
    size = options.shard_size or _size_of(plan, split, fresh, made_on)
    return replace(split, shard_size=size, grown_from=tuple(stages))


def _size_of(plan: RunPlan, split: Split, samples: int, made_on: str) -> int:
    """By the sharing group that takes longest: each is committed by itself."""
    seconds = [
        effort_of(localizer_cost(name), split.pixels, made_on).of_group(group)
        for block in plan.blocks
        if split.name in [source.name for source in block.sources]
        for name in block.localizers
        for group in settings_by_group(block.settings).values()
    ]
    return shard_size(max(seconds, default=0.0), samples)


def authentic_splits(out: Path, splits: Mapping[str, Split]) -> dict[str, Split]:
    """The images nobody forged, of the sources that have any."""
    return {name: _authentic(out, split) for name, split in splits.items() if split.source.authentic}


def _authentic(out: Path, split: Split) -> Split:
    source = replace(
        split.source,
        ids=split.source.authentic,
        sha256=split.source.authentic_sha256,
        sha256_of=split.source.authentic_sha256_of,
    )
    fixed = _announced(out, source, AUTHENTIC)
    stages = stages_of(fixed) if fixed else []
    size = split.shard_size
    if stages and stages[-1].samples >= len(source.ids):
        size = stages.pop().shard_size  # they need not have grown where the forged ones did
    return replace(split, source=source, shard_size=size, originals=AUTHENTIC, grown_from=tuple(stages))


def check_splits(out: Path, splits: Mapping[str, Split]) -> None:
    """Refuse originals that differ from what the folder holds; more of the same are none.

    Raises:
        UsageError: with the difference.
    """
    for split in splits.values():
        before = _held(out, split.source, split.originals)
        if before is not None:
            _refuse_fewer(out, split, before)
            wanted = _identity_of_first(split, before)
            stated = before.as_json()
            keys = {*wanted, "layout", "read"} & {*wanted, *stated}
            changed = difference({key: stated.get(key) for key in keys}, wanted)
            if changed:
                raise UsageError(
                    f"'{out}' holds other originals of '{split.name}' ({'; '.join(changed)}); "
                    "use the same --seed, --shard-size, --attack-at, --terms, --mask-... options and files, or another --out"
                )


def _refuse_fewer(out: Path, split: Split, before: SplitManifest) -> None:
    asked, there = len(split.source.ids), before.samples
    if asked < there:
        raise UsageError(
            f"'{out}' holds {there} samples of '{split.name}', and {asked} are asked for; a benchmark can grow and not "
            "shrink: give no lower --limit than before and the same files, or another --out"
        )


def _identity_of_first(split: Split, before: SplitManifest) -> dict[str, Any]:
    """What a split would be if it had only the samples that the folder holds; itself where it has no more."""
    count, source = before.samples, split.source
    if count == len(source.ids):
        return split.identity()
    stages = stages_of(before)
    first = replace(
        split,
        source=replace(
            source,
            ids=source.ids[:count],
            sha256=source.sha256_of(count) if source.sha256_of else source.sha256,
        ),
        shard_size=stages[-1].shard_size,
        grown_from=tuple(stages[:-1]),
    )
    return first.identity()


def _held(out: Path, source: Source, originals: str) -> SplitManifest | None:
    """What the folder has fixed of a split: begun, which may be to grow, or published."""
    published = splits_of(read_configs(out), originals).get(source.name)
    # of forged images an attack's shard may be there before that of the originals
    begun = has_records(out, split=source.name, config=AUTHENTIC if originals == AUTHENTIC else "*")
    header = read_split_header(out, f"{originals}.{source.name}") if begun else None
    return header if _has_grown(header, published) else published


def _announced(out: Path, source: Source, originals: str) -> SplitManifest | None:
    """The same, or what another process is about to make of these very samples."""
    held, header = _held(out, source, originals), read_split_header(out, f"{originals}.{source.name}")
    same = header is not None and header.ids_sha256 == ids_sha256(source.ids)
    return header if same and _has_grown(header, held) else held


def _has_grown(header: SplitManifest | None, before: SplitManifest | None) -> bool:
    """Whether a header is of as many samples as there were before, or more."""
    return header is not None and (before is None or header.samples >= before.samples)
