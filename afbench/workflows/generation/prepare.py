"""Open the localizers and sources of a plan; say what it makes, what the folder has of it, and whether both agree."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from afbench.core import UsageError
from afbench.defences.defended_localizer import defence_of
from afbench.engine.grid import SEED_RULE
from afbench.localizers import load_localizer
from afbench.localizers.compiled import compile_forward
from afbench.plans import RunPlan, canonical_json
from afbench.plans.cost import localizer_cost
from afbench.plans.effort import effort_of
from afbench.storage.agreement import disagreements
from afbench.storage.config_manifest import ConfigManifest
from afbench.storage.manifests import AUTHENTIC, CLEAN, ORIGINALS, TOP, WORK, read_configs
from afbench.storage.run_folder import commit_header, free_bytes, has_records, read_header

from ..adaptive import name_in_configs, put_behind_defence
from ..provenance import config_hash, describe_config, difference
from ..request import GenerateHooks, Options, config_localizer, localizer_names
from .shard_jobs import ShardJob
from .splits import Split, authentic_splits, check_splits, open_splits
from .tasks import Task


@dataclass(frozen=True)
class PreparedPlan:
    """A plan whose localizers and sources are open, and which agrees with what the folder holds."""

    tasks: Sequence[Task]
    splits: Mapping[str, Split]
    authentic: Mapping[str, Split]
    headers: Mapping[str, ConfigManifest]

    @property
    def all_splits(self) -> list[Split]:
        return [*self.splits.values(), *self.authentic.values()]


def prepare(
    plan: RunPlan, out: Path, options: Options, hooks: GenerateHooks, shard_device: str | None = None
) -> PreparedPlan:
    """Open the localizers and sources of a plan that passed ``check_request``; write nothing into the folder.

    Args:
        shard_device: the device whose speed decides the size of shards, if workers make them; else that of the options.
    Raises:
        UsageError: as ``generate`` does.
    """
    names = localizer_names(plan)
    localizers = {name: load_localizer(name, options.checkpoint, device=options.device) for name in names}
    for localizer in localizers.values() if options.compile else ():
        compile_forward(localizer)
    attacked = {
        name: put_behind_defence(
            localizer, name, options.through_defence, device=options.device, seed=plan.seed
        )
        for name, localizer in localizers.items()
    }
    reads_samples = shard_device is None  # with a device for workers given, they read the samples
    shard_device = shard_device or options.device
    splits = open_splits(plan, out, options, localizers, hooks.index, shard_device, keep_pixels=reads_samples)
    tasks = [
        Task(
            attacked[name],
            name_in_configs(options.localizer_name or config_localizer(name), attacked[name]),
            splits[source.name],
            block.settings,
            effort_of(localizer_cost(name), splits[source.name].pixels, shard_device),
        )
        for block in plan.blocks
        for name in block.localizers
        for source in block.sources
    ]
    prepared = PreparedPlan(tasks, splits, authentic_splits(out, splits), _headers(tasks, plan.seed, options))
    check_folder(out, prepared)
    for split in splits.values():
        for note in split.source.notes:
            hooks.warn(f"source {split.name}: {note}")
    for line in _growth_notes(out, splits):
        hooks.warn(line)
    return prepared


def _growth_notes(out: Path, splits: Mapping[str, Split]) -> Iterator[str]:
    """Say of a published benchmark that it grows, before the work begins: a forgotten --limit looks the same."""
    published = read_configs(out).get(CLEAN, ConfigManifest(CLEAN, {})).splits
    for name, split in splits.items():
        count = len(split.source.ids)
        if name in published and published[name].samples < count:
            size = published[name].samples
            yield f"'{out}' holds {size} samples of {name}, and grows to {count}; with --limit {size} it keeps its size"


def _headers(tasks: Sequence[Task], seed: int, options: Options) -> dict[str, ConfigManifest]:
    headers: dict[str, ConfigManifest] = {}
    for task in tasks:
        for setting, config in task.configs().items():
            provenance = describe_config(
                task.localizer,
                task.name,
                setting,
                seed=seed,
                seed_rule=SEED_RULE,
                precision=options.precision,
                attack_at=options.attack_at,
                defence=defence_of(task.localizer),
                compiled=options.compile,
            )
            header = ConfigManifest(config, {}, provenance, config_hash(provenance))
            # two blocks may name the same config, but a config has one manifest
            if headers.setdefault(config, header) != header:
                differences = "; ".join(difference(headers[config].provenance, provenance))
                raise UsageError(
                    f"the plan makes config {config} in two ways ({differences}); keep one of them"
                )
    return headers


def check_folder(out: Path, prepared: PreparedPlan) -> None:
    """Refuse a plan whose originals or configs differ from what the folder holds."""
    check_splits(out, prepared.splits)
    check_splits(out, prepared.authentic)
    _check_configs(out, prepared.headers)


def _check_configs(out: Path, headers: Mapping[str, ConfigManifest]) -> None:
    """Refuse configs that the folder holds made differently, or that disagree with its other configs."""
    existing_configs = _begun_configs(out) | {
        name: manifest for name, manifest in read_configs(out).items() if name not in ORIGINALS
    }
    for config, header in headers.items():
        existing = existing_configs.get(config)
        if existing and existing.config_hash != header.config_hash:
            differences = "; ".join(difference(existing.provenance, header.provenance))
            raise UsageError(
                f"'{out}' holds config {config} made differently ({differences}); give another --out or --localizer-name"
            )
    provenances = {name: header.provenance for name, header in (existing_configs | dict(headers)).items()}
    # configs of the folder stay usable even if they disagree among themselves
    unfit = next(
        (
            disagreement
            for disagreement in disagreements(provenances)
            if disagreement.config not in existing_configs
        ),
        None,
    )
    if unfit:
        raise UsageError(f"'{out}' cannot hold config {unfit.config}: {unfit}; {unfit.remedy}")


def _begun_configs(out: Path) -> dict[str, ConfigManifest]:
    """Return the headers of configs that have committed shards and are not published yet."""
    names = sorted(path.parent.name for path in (out / WORK).glob("*/header.json"))
    headers = {name: read_header(out, name) for name in names if has_records(out, config=name)}
    return {
        name: ConfigManifest.from_header(header)
        for name, header in headers.items()
        if header and "how" in header
    }


def check_disk(out: Path, prepared: PreparedPlan) -> None:
    """Refuse a run if even a low estimate of its missing shards exceeds the free disk space.

    Raises:
        UsageError: with both figures.
    """
    missing = sum(shard_job.bytes_left(out) for shard_job in list_shard_jobs(out, prepared))
    free = free_bytes(out)
    if missing > free:
        raise UsageError(
            f"'{out}' needs at least {missing / 1e6:,.1f} MB more, and {free / 1e6:,.1f} MB are free there; free some, give "
            "another --out, --limit or fewer attacks, or --ignore-disk to begin all the same"
        )


def is_finished(out: Path, prepared: PreparedPlan) -> bool:
    """Say whether all of the plan is published and no work is under way; then no file is touched."""
    # a record in there may wait to be published, even if this plan has no part in it
    if (out / WORK).exists() or not (out / TOP).exists():
        return False
    finished = published_shards(out)
    return all(
        finished.get((config, task.split.name), 0) >= len(task.split.cuts)
        for task in prepared.tasks
        for config in (CLEAN, *task.configs().values())
    ) and all(
        finished.get((AUTHENTIC, name), 0) >= len(split.cuts) for name, split in prepared.authentic.items()
    )


def published_shards(out: Path) -> dict[tuple[str, str], int]:
    """Return how many shards the manifests list, by config and split."""
    return {
        (name, split): len(part.shards)
        for name, manifest in read_configs(out).items()
        for split, part in manifest.splits.items()
    }


def list_shard_jobs(out: Path, prepared: PreparedPlan) -> list[ShardJob]:
    """List every shard of a plan, split by split, with the tasks not yet published; every process gets the same list."""
    published = published_shards(out)
    return [
        ShardJob(
            split,
            number,
            [task.without(published, number) for task in prepared.tasks if task.split is split],
            published.get((split.originals, split.name), 0) > number,
        )
        for split in prepared.all_splits
        for number in range(len(split.cuts))
    ]


def commit_headers(out: Path, prepared: PreparedPlan) -> None:
    """Commit what the splits hold and where their shards are cut."""
    for split in prepared.all_splits:
        # processes that start later cut their shards as this header says
        header = {**split.identity(), "shards": len(split.cuts)}
        commit_header(out, f"{split.originals}.{split.name}", header)


def fingerprint(prepared: PreparedPlan, options: Options) -> str:
    """Hash what processes must have in common to share a folder: configs, samples and batches."""
    # the device is left out: workers on different devices may share a folder
    identity = {
        "configs": {config: header.config_hash for config, header in prepared.headers.items()},
        "splits": {f"{split.originals}.{split.name}": split.identity() for split in prepared.all_splits},
        "batch_size": options.batch_size,
        "image_format": options.image_format,
    }
    return hashlib.sha256(canonical_json(identity).encode()).hexdigest()
