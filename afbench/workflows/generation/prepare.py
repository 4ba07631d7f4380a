"""A plan whose localizers and sources are open: what it makes, what of it is there, and whether the folder can take it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from afbench.core import UsageError
from afbench.defences.defended_localizer import defence_of
from afbench.engine.grid import SEED_RULE
from afbench.localizers import load_localizer
from afbench.localizers.compiled import compile_forward
from afbench.plan import RunPlan, canonical_json
from afbench.plan.cost import localizer_cost
from afbench.plan.effort import effort_of
from afbench.storage.agreement import disagreements
from afbench.storage.config_manifest import ConfigManifest
from afbench.storage.manifests import AUTHENTIC, CLEAN, ORIGINALS, TOP, WORK, read_configs
from afbench.storage.run_folder import commit_header, free_bytes, has_records, read_header

from ..adaptive import name_in_configs, put_behind_defence
from ..provenance import config_hash, describe_config, difference
from ..request import Hooks, Options, config_localizer, localizer_names
from .shard_jobs import Unit
from .splits import Split, authentic_splits, check_splits, open_splits
from .tasks import Task


@dataclass(frozen=True)
class Ready:
    """A plan whose localizers and sources are open, and which the folder has room for."""

    tasks: Sequence[Task]
    splits: Mapping[str, Split]
    authentic: Mapping[str, Split]
    headers: Mapping[str, ConfigManifest]

    @property
    def every_split(self) -> list[Split]:
        return [*self.splits.values(), *self.authentic.values()]


def prepare(plan: RunPlan, out: Path, options: Options, hooks: Hooks, made_on: str | None = None) -> Ready:
    """Open the localizers and sources of a plan that ``check_request`` let pass; nothing is written into the folder.

    ``made_on`` is the device that shards are cut for, where it is not the one of the options.

    Raises:
        UsageError: as ``generate`` does.
    """
    names = localizer_names(plan)
    localizers = {name: load_localizer(name, options.checkpoint, device=options.device) for name in names}
    for bare in localizers.values() if options.compile else ():
        compile_forward(bare)
    attacked = {
        name: put_behind_defence(bare, name, options.through_defence, device=options.device, seed=plan.seed)
        for name, bare in localizers.items()
    }
    here = made_on is None  # else workers read the samples
    made_on = made_on or options.device
    splits = open_splits(plan, out, options, localizers, hooks.index, made_on, keep_pixels=here)
    tasks = [
        Task(
            attacked[name],
            name_in_configs(options.localizer_name or config_localizer(name), attacked[name]),
            splits[source.name],
            block.settings,
            effort_of(localizer_cost(name), splits[source.name].pixels, made_on),
        )
        for block in plan.blocks
        for name in block.localizers
        for source in block.sources
    ]
    ready = Ready(tasks, splits, authentic_splits(out, splits), _headers(tasks, plan.seed, options))
    check_folder(out, ready)
    for split in splits.values():
        for note in split.source.notes:
            hooks.warn(f"source {split.name}: {note}")
    return ready


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
            if headers.setdefault(config, header) != header:
                changed = "; ".join(difference(headers[config].provenance, provenance))
                raise UsageError(f"the plan makes config {config} in two ways ({changed}); keep one of them")
    return headers


def check_folder(out: Path, ready: Ready) -> None:
    check_splits(out, ready.splits)
    check_splits(out, ready.authentic)
    _check_configs(out, ready.headers)


def _check_configs(out: Path, headers: Mapping[str, ConfigManifest]) -> None:
    """Refuse configs that the folder holds made differently, and those that do not fit beside what it holds."""
    present = _begun_configs(out) | {
        name: manifest for name, manifest in read_configs(out).items() if name not in ORIGINALS
    }
    for config, header in headers.items():
        before = present.get(config)
        if before and before.config_hash != header.config_hash:
            changed = "; ".join(difference(before.provenance, header.provenance))
            raise UsageError(
                f"'{out}' holds config {config} made differently ({changed}); give another --out or --localizer-name"
            )
    hows = {name: header.provenance for name, header in (present | dict(headers)).items()}
    # what is there already stays usable, whatever it disagrees on
    unfit = next((each for each in disagreements(hows) if each.config not in present), None)
    if unfit:
        raise UsageError(f"'{out}' cannot hold config {unfit.config}: {unfit}; {unfit.remedy}")


def _begun_configs(out: Path) -> dict[str, ConfigManifest]:
    """Headers of configs of which a shard is committed and which are not published."""
    names = sorted(path.parent.name for path in (out / WORK).glob("*/header.json"))
    headers = {name: read_header(out, name) for name in names if has_records(out, config=name)}
    return {
        name: ConfigManifest.from_header(header)
        for name, header in headers.items()
        if header and "how" in header
    }


def check_disk(out: Path, ready: Ready) -> None:
    """Refuse a run of which not even the least that such images take fits on the disk.

    Raises:
        UsageError: with both figures.
    """
    missing = sum(unit.bytes_left(out) for unit in list_units(out, ready))
    free = free_bytes(out)
    if missing > free:
        raise UsageError(
            f"'{out}' needs at least {missing / 1e6:,.1f} MB more, and {free / 1e6:,.1f} MB are free there; free some, give "
            "another --out, --limit or fewer attacks, or --ignore-disk to begin all the same"
        )


def is_finished(out: Path, ready: Ready) -> bool:
    """True if everything asked for is published and nothing is half-way: then no file is touched."""
    if (out / WORK).exists() or not (out / TOP).exists():
        return False
    finished = published_shards(out)
    return all(
        finished.get((config, task.split.name), 0) >= len(task.split.cuts)
        for task in ready.tasks
        for config in (CLEAN, *task.configs().values())
    ) and all(
        finished.get((AUTHENTIC, name), 0) >= len(split.cuts) for name, split in ready.authentic.items()
    )


def published_shards(out: Path) -> dict[tuple[str, str], int]:
    """How many shards of each config and split the manifests list."""
    return {
        (name, split): len(part.shards)
        for name, manifest in read_configs(out).items()
        for split, part in manifest.splits.items()
    }


def list_units(out: Path, ready: Ready) -> list[Unit]:
    """Every shard of a plan, split by split, with what is not published of it; the same list in every process."""
    published = published_shards(out)
    return [
        Unit(
            split,
            number,
            [task.without(published, number) for task in ready.tasks if task.split is split],
            published.get((split.originals, split.name), 0) > number,
        )
        for split in ready.every_split
        for number in range(len(split.cuts))
    ]


def commit_headers(out: Path, ready: Ready) -> None:
    """Fix what the splits are, and where their shards are cut."""
    for split in ready.every_split:
        header = {**split.identity(), "shards": len(split.cuts)}
        commit_header(out, f"{split.originals}.{split.name}", header)


def fingerprint(ready: Ready, options: Options) -> str:
    """Tells processes that may share a folder: the same configs of the same samples, in the same batches."""
    asked = {
        "configs": {config: header.config_hash for config, header in ready.headers.items()},
        "splits": {f"{split.originals}.{split.name}": split.identity() for split in ready.every_split},
        "batch_size": options.batch_size,
        "image_format": options.image_format,
    }
    return hashlib.sha256(canonical_json(asked).encode()).hexdigest()
