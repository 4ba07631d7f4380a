"""Fix the list of samples of every source, and cut it into shards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from afbench.core import Localizer, ShardFormat, Source, UsageError
from afbench.plans import RunPlan, SourceSpec, settings_by_group
from afbench.plans.cost import KEEP_SECONDS, localizer_cost
from afbench.plans.effort import CORES, effort_of, shard_size
from afbench.plans.estimate import expected_source
from afbench.sources import SourceOptions, open_source
from afbench.storage.config_manifest import SplitManifest
from afbench.storage.manifests import AUTHENTIC, CLEAN, ids_sha256, read_configs, splits_of
from afbench.storage.run_folder import has_records, read_split_header

from ..provenance import difference
from ..request import AttackAt, OnIndex, Options, choose_format
from .cuts import Cut, GrowthStage, cut_path, cut_stages, stages_of
from .model_size import fit_source


@dataclass(frozen=True)
class Split:
    """A source's samples, cut into shards of at most ``shard_size`` ids and at most 500 MB.

    ``originals`` is the config of the unattacked images: ``clean``, or ``authentic`` for those without a forgery. ``side`` is
    the side of the square that images are resized to before the attack, if they are. ``grown_from`` lists the earlier sizes of
    a split that has grown.
    """

    source: Source
    shard_size: int
    attack_at: AttackAt
    originals: str = CLEAN
    side: int | None = None
    grown_from: tuple[GrowthStage, ...] = ()
    shard_format: ShardFormat = "parquet"

    @property
    def name(self) -> str:
        return self.source.name

    @cached_property
    def cuts(self) -> list[Cut]:
        stages = [*self.grown_from, GrowthStage(len(self.source.ids), self.shard_size)]
        return cut_stages(self.source.ids, stages, self.source.pixels)

    @property
    def shards(self) -> list[Sequence[str]]:
        return [cut.ids for cut in self.cuts]

    def path(self, config: str, number: int) -> str:
        """Return the path of a shard of a config."""
        return cut_path(config, self.name, self.cuts[number], self.shard_format)

    @cached_property
    def pixels(self) -> int:
        """Average pixels per image; if no file was read, the published or usual number."""
        if self.side:
            return self.side**2
        known_pixels = [
            self.source.pixels[sample_id]
            for sample_id in self.source.ids
            if self.source.pixels.get(sample_id)
        ]
        if known_pixels:
            return sum(known_pixels) // len(known_pixels)
        return (expected_source(SourceSpec(self.name), None, {}) or (0, 512 * 512))[1]

    @property
    def keep_seconds(self) -> float:
        """How long it takes to encode one image and decode it again, by the cost model."""
        return self.pixels * KEEP_SECONDS / CORES

    def identity(self) -> dict[str, Any]:
        """Return what must not change while a folder holds this split."""
        return {
            "source_sha256": self.source.sha256,
            "ids_sha256": ids_sha256(self.source.ids),
            "samples": len(self.source.ids),
            "attack_at": self.attack_at,
            "shard_size": self.shard_size,
            **({"grown_from": [stage._asdict() for stage in self.grown_from]} if self.grown_from else {}),
            "terms": self.source.terms,
            "redistribution": self.source.redistribution,
            # keys are absent where nothing is unusual, as in folders made before they were recorded
            **({"layout": self.source.layout} if self.source.layout else {}),
            **({"format": self.shard_format} if self.shard_format != "parquet" else {}),
            **({"read": read} if (read := self.source.read_options.as_json()) else {}),
        }


def open_splits(
    plan: RunPlan,
    out: Path,
    options: Options,
    localizers: Mapping[str, Localizer],
    on_index: OnIndex,
    shard_device: str,
    *,
    keep_pixels: bool = False,
) -> dict[str, Split]:
    """Open every source of a plan, and cut it into shards as the folder has it, if it has.

    Args:
        on_index: called with how many files of a source have been indexed, and how many there are.
        shard_device: "cpu", "cuda" or the like; new shards are sized to take about two minutes there, which is what a kill costs.
        keep_pixels: keep the pixels that indexing decodes, for a process that reads the samples itself.
    Raises:
        UsageError: if a source cannot be opened, or cannot be brought to one size for all localizers.
    """
    shard_format = choose_format(plan, out, options)
    specs = {source.name: source for block in plan.blocks for source in block.sources}
    splits = {}
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
            side = next((getattr(localizer, "side", None) for localizer in localizers.values()), None)
        # 1 is a placeholder: the next line decides the size
        split = Split(
            source, options.shard_size or 1, options.attack_at, side=side, shard_format=shard_format
        )
        splits[name] = _cut_as_in_folder(out, plan, split, options, shard_device)
    return splits


def _cut_as_in_folder(out: Path, plan: RunPlan, split: Split, options: Options, shard_device: str) -> Split:
    """Cut a split as the folder does or is about to, as all processes must agree; samples it lacks are a growth stage."""
    fixed = _fixed_or_announced(out, split.source, CLEAN)
    stages = stages_of(fixed) if fixed else []
    # nothing to add; check_splits refuses fewer samples than the folder holds
    if stages and stages[-1].samples >= len(split.source.ids):
        size = options.shard_size or stages[-1].shard_size
        return replace(split, shard_size=size, grown_from=tuple(stages[:-1]))
    new_samples = len(split.source.ids) - (stages[-1].samples if stages else 0)
    size = options.shard_size or _size_of(plan, split, new_samples, shard_device)
    return replace(split, shard_size=size, grown_from=tuple(stages))


def _size_of(plan: RunPlan, split: Split, samples: int, shard_device: str) -> int:
    """Choose a shard size for the sharing group that takes longest, since each group is committed by itself."""
    seconds = [
        effort_of(localizer_cost(name), split.pixels, shard_device).of_group(group)
        for block in plan.blocks
        if split.name in [source.name for source in block.sources]
        for name in block.localizers
        for group in settings_by_group(block.settings).values()
    ]
    return shard_size(max(seconds, default=0.0), samples)


def authentic_splits(out: Path, splits: Mapping[str, Split]) -> dict[str, Split]:
    """Return the splits of authentic images, for the sources that have any."""
    return {name: _authentic(out, split) for name, split in splits.items() if split.source.authentic}


def _authentic(out: Path, split: Split) -> Split:
    source = replace(
        split.source,
        ids=split.source.authentic,
        sha256=split.source.authentic_sha256,
        sha256_of=split.source.authentic_sha256_of,
    )
    fixed = _fixed_or_announced(out, source, AUTHENTIC)
    stages = stages_of(fixed) if fixed else []
    size = split.shard_size
    if stages and stages[-1].samples >= len(source.ids):
        size = stages.pop().shard_size  # authentic images may have grown at other times than forged ones
    return replace(split, source=source, shard_size=size, originals=AUTHENTIC, grown_from=tuple(stages))


def check_splits(out: Path, splits: Mapping[str, Split]) -> None:
    """Refuse originals that differ from those of the folder; additional samples are no difference.

    Raises:
        UsageError: with the difference.
    """
    for split in splits.values():
        fixed = _fixed_in_folder(out, split.source, split.originals)
        if fixed is not None:
            _refuse_fewer(out, split, fixed)
            expected = _identity_of_first(split, fixed)
            recorded = fixed.as_json()
            keys = {*expected, "layout", "format", "read"} & {*expected, *recorded}
            differences = difference({key: recorded.get(key) for key in keys}, expected)
            if differences:
                raise UsageError(
                    f"'{out}' holds other originals of '{split.name}' ({'; '.join(differences)}); "
                    "use the same --seed, --shard-size, --attack-at, --terms, --mask-... options and files, or another --out"
                )


def _refuse_fewer(out: Path, split: Split, fixed: SplitManifest) -> None:
    requested, existing = len(split.source.ids), fixed.samples
    if requested < existing:
        raise UsageError(
            f"'{out}' holds {existing} samples of '{split.name}', and {requested} are asked for; a benchmark can grow and not "
            "shrink: give no lower --limit than before and the same files, or another --out"
        )


def _identity_of_first(split: Split, fixed: SplitManifest) -> dict[str, Any]:
    """Return the identity of the first samples of a split, as many as the folder holds."""
    count, source = fixed.samples, split.source
    if count == len(source.ids):
        return split.identity()
    stages = stages_of(fixed)
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


def _fixed_in_folder(out: Path, source: Source, originals: str) -> SplitManifest | None:
    """Return the folder's manifest of a split: of the run that began it or began to grow it, else the published one."""
    published = splits_of(read_configs(out), originals).get(source.name)
    # a shard of an attack may be committed before that of its forged originals
    begun = has_records(out, split=source.name, config=AUTHENTIC if originals == AUTHENTIC else "*")
    header = read_split_header(out, f"{originals}.{source.name}") if begun else None
    return header if _has_grown(header, published) else published


def _fixed_or_announced(out: Path, source: Source, originals: str) -> SplitManifest | None:
    """Return the folder's manifest of a split, or that of another process about to make the very same samples."""
    fixed, header = (
        _fixed_in_folder(out, source, originals),
        read_split_header(out, f"{originals}.{source.name}"),
    )
    is_same = header is not None and header.ids_sha256 == ids_sha256(source.ids)
    return header if is_same and _has_grown(header, fixed) else fixed


def _has_grown(header: SplitManifest | None, previous: SplitManifest | None) -> bool:
    """Say whether a header covers at least as many samples as the previous manifest."""
    return header is not None and (previous is None or header.samples >= previous.samples)
