"""The main job: attack, store, resume, finalise."""

from __future__ import annotations

import hashlib
import os
import platform
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from afbench.core import AfbenchError, Stopped, UsageError
from afbench.engine import compute_precision
from afbench.engine.beside import default_threads
from afbench.engine.grid import SEED_RULE
from afbench.localizers import load_localizer
from afbench.localizers.compiled import compile_forward
from afbench.plan import RunPlan, canonical_json
from afbench.plan.cost import localizer_cost
from afbench.plan.effort import effort_of
from afbench.report.weak import weak_configs
from afbench.storage.agreement import disagreements
from afbench.storage.commit import sweep
from afbench.storage.folder import commit_header, free_bytes, has_records, log_event, read_header
from afbench.storage.locks import at_work, locked
from afbench.storage.manifests import AUTHENTIC, CLEAN, ORIGINALS, TOP, WORK, excluded_samples, read_configs

from .adaptive import behind, called, defence_of
from .finalise import finalise
from .headway import Headway
from .provenance import config_hash, describe_config, difference, software
from .request import Hooks, Options, Part, check_request, config_localizer, localizer_names
from .retry import reopen_failed
from .splits import Split, authentic_splits, check_splits, open_splits
from .units import Unit, run_units
from .work import Run, Task, stamp

GOES_ON = "the same command goes on from there"


@dataclass(frozen=True)
class Outcome:
    """What a run did: configs asked for, shards it wrote, gradients it took, excluded samples by reason.

    ``restricted`` are the terms of sources that forbid sharing their pixels, which the folder holds. ``warnings`` say where
    a localizer finds nothing in the originals. ``shards_left`` is not zero where other parts have not made theirs: then
    nothing is published yet, and nothing known of ``excluded`` or ``warnings``.
    """

    folder: Path
    configs: Sequence[str]
    shards_written: int
    gradients: int
    excluded: Mapping[str, int]
    restricted: Mapping[str, str]
    shards_left: int = 0
    warnings: Sequence[str] = ()


@dataclass(frozen=True)
class Ready:
    """A plan whose localizers and sources are open, and which the folder has room for."""

    tasks: Sequence[Task]
    splits: Mapping[str, Split]
    authentic: Mapping[str, Split]
    headers: Mapping[str, Mapping[str, Any]]

    @property
    def every_split(self) -> list[Split]:
        return [*self.splits.values(), *self.authentic.values()]


def generate(
    plan: RunPlan, out: Path, options: Options, hooks: Hooks | None = None, part: Part | None = None
) -> Outcome:
    """Make the configs of a plan in a folder, or the part of them that is missing.

    Every shard is committed by itself; a run that was interrupted goes on where it stopped and ends with the
    same bytes. Other configs may be there already, and other processes may make shards of the same plan at the same time.
    Of a ``part`` only its own shards are made, and no lock is relied on; whoever ends last publishes.

    Raises:
        UsageError: before anything is written, if the folder, a localizer or a source cannot be used, or a
            config exists that was made differently.
        PartialError: if another process writes to the folder.
        AfbenchError: if a shard cannot be written.
    """
    hooks = hooks or Hooks()
    check_request(plan, out, options)
    ready = prepare(plan, out, options, hooks)
    run = Run(
        out,
        plan.seed,
        options.device,
        options.batch_size,
        options.image_format,
        headway(ready, hooks),
        hooks.say,
        default_threads() if options.image_threads is None else options.image_threads,
        options.deterministic,
        options.compile,
    )
    if options.retry_failed:
        retry(out, ready)
    if not options.ignore_disk:
        check_disk(out, ready)
    left, loose = 0, part is not None
    if not is_finished(out, ready):
        same_plan = fingerprint(ready, options)
        with ExitStack() as stack:
            with locked(out, same_plan, loose=loose):
                # again: another process may have written while this one waited
                _check_folder(out, ready)
                units = _begin(run, ready)
                ours = units[part.index :: part.count] if part else units
                hooks.start(work_left(out, ready, ours))
                stack.enter_context(at_work(out, same_plan, loose=loose))
            try:
                with compute_precision(
                    options.precision, options.device, deterministic=options.deterministic
                ):
                    run_units(run, ours, loose=loose)
            except KeyboardInterrupt:
                lost = f"{run.gradients - run.kept} gradients of unfinished ones are lost"
                raise Stopped(f"{files_kept(out, ours)}, {lost}; {GOES_ON}") from None
            log_event(out, event="end", process=os.getpid(), gradients=run.gradients, shards=run.shards)
            # by each that was at work: what the first has published is not touched
            with locked(out, same_plan, loose=loose):
                left = _publish(run, units, part)
    return outcome(out, ready, shards=run.shards, gradients=run.gradients, left=left)


def headway(ready: Ready, hooks: Hooks) -> Headway:
    """Counts work in gradients of the first localizer on the first source."""
    return Headway(ready.tasks[0].effort.gradient, hooks.advance)


def work_left(out: Path, ready: Ready, units: Sequence[Unit]) -> int:
    """What units still take, as ``headway`` counts it."""
    return int(sum(unit.seconds_left(out) for unit in units) / ready.tasks[0].effort.gradient)


def files_kept(out: Path, units: Sequence[Unit]) -> str:
    """How many shards of a run that was stopped are there, in words."""
    made, wanted = sum(unit.files_made(out) for unit in units), sum(unit.files for unit in units)
    return f"{made} of {wanted} shards are committed and kept"


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
        name: behind(bare, name, options.through_defence, device=options.device, seed=plan.seed)
        for name, bare in localizers.items()
    }
    made_on = made_on or options.device
    splits = open_splits(plan, out, options, localizers, hooks.index, made_on)
    tasks = [
        Task(
            attacked[name],
            called(options.localizer_name or config_localizer(name), attacked[name]),
            splits[source.name],
            block.settings,
            effort_of(localizer_cost(name), splits[source.name].pixels, made_on),
        )
        for block in plan.blocks
        for name in block.localizers
        for source in block.sources
    ]
    ready = Ready(tasks, splits, authentic_splits(splits), _headers(tasks, plan.seed, options))
    _check_folder(out, ready)
    for split in splits.values():
        for note in split.source.notes:
            hooks.warn(f"source {split.name}: {note}")
    return ready


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


def retry(out: Path, ready: Ready) -> None:
    """Make samples whose attack failed missing again."""
    reopen_failed(
        out, {(config, task.split.name) for task in ready.tasks for config in task.configs().values()}
    )


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
    return Outcome(
        out, list(ready.headers), shards, gradients, excluded, restricted, left, weak_configs(asked)
    )


def _publish(run: Run, units: Sequence[Unit], part: Part | None) -> int:
    """Publish, but of parts only all together; returns how many shards other parts have yet to make."""
    if part is None:
        finalise(run.out)
        return 0
    left = 0 if run.is_published() else sum(not one.is_made(run.out) for one in units)
    # asked again: while these looked at records another part may have published, and removed them
    if run.is_published():
        return 0
    if not left:
        try:
            finalise(run.out, overtaken=run.is_published)
        except AfbenchError:
            if not run.is_published():
                raise
        sweep(run.out)
    return left


def _check_folder(out: Path, ready: Ready) -> None:
    check_splits(out, ready.splits)
    check_splits(out, ready.authentic)
    _check_configs(out, ready.headers)


def _refuse_empty(out: Path, splits: Mapping[str, Split], configs: Iterable[str]) -> None:
    """Fail where nothing is left: of a source, or of it under an attack."""
    manifests = read_configs(out)
    for config in (CLEAN, *configs):
        for name in splits.keys() & manifests[config]["splits"].keys():
            shards = manifests[config]["splits"][name]["shards"]
            if not any(shard["rows"] for shard in shards):
                reasons = Counter(one["reason"] for shard in shards for one in shard["excluded"])
                told = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
                where = "" if config == CLEAN else f" in config {config}"
                raise AfbenchError(
                    f"source '{name}' has no usable sample{where} ({told}); '{out}/README.md' says why"
                )


def _headers(tasks: Sequence[Task], seed: int, options: Options) -> dict[str, dict[str, Any]]:
    headers: dict[str, dict[str, Any]] = {}
    for task in tasks:
        for setting, config in task.configs().items():
            how = describe_config(
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
            header = {"config": config, "config_hash": config_hash(how), "how": how}
            if headers.setdefault(config, header) != header:
                changed = "; ".join(difference(headers[config]["how"], how))
                raise UsageError(f"the plan makes config {config} in two ways ({changed}); keep one of them")
    return headers


def _check_configs(out: Path, headers: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse configs that the folder holds made differently, and those that do not fit beside what it holds."""
    present = _begun_configs(out) | {
        name: manifest for name, manifest in read_configs(out).items() if name not in ORIGINALS
    }
    for config, header in headers.items():
        before = present.get(config)
        if before and before["config_hash"] != header["config_hash"]:
            changed = "; ".join(difference(before["how"], header["how"]))
            raise UsageError(
                f"'{out}' holds config {config} made differently ({changed}); give another --out or --localizer-name"
            )
    hows = {name: header["how"] for name, header in (present | dict(headers)).items()}
    # what is there already stays usable, whatever it disagrees on
    unfit = next((each for each in disagreements(hows) if each.config not in present), None)
    if unfit:
        raise UsageError(f"'{out}' cannot hold config {unfit.config}: {unfit}; {unfit.remedy}")


def _begun_configs(out: Path) -> dict[str, Mapping[str, Any]]:
    """Headers of configs of which a shard is committed and which are not published."""
    names = sorted(path.parent.name for path in (out / WORK).glob("*/header.json"))
    headers = {name: read_header(out, name) for name in names if has_records(out, config=name)}
    return {name: header for name, header in headers.items() if header and "how" in header}


def is_finished(out: Path, ready: Ready) -> bool:
    """True if everything asked for is published and nothing is half-way: then no file is touched."""
    if (out / WORK).exists() or not (out / TOP).exists():
        return False
    finished = _published(out)
    return all(
        (config, task.split.name) in finished
        for task in ready.tasks
        for config in (CLEAN, *task.configs().values())
    ) and all((AUTHENTIC, name) in finished for name in ready.authentic)


def _published(out: Path) -> set[tuple[str, str]]:
    return {(name, split) for name, manifest in read_configs(out).items() for split in manifest["splits"]}


def fingerprint(ready: Ready, options: Options) -> str:
    """Tells processes that may share a folder: the same configs of the same samples, in the same batches."""
    asked = {
        "configs": {config: header["config_hash"] for config, header in ready.headers.items()},
        "splits": {f"{split.originals}.{split.name}": split.identity() for split in ready.every_split},
        "batch_size": options.batch_size,
        "image_format": options.image_format,
    }
    return hashlib.sha256(canonical_json(asked).encode()).hexdigest()


def _begin(run: Run, ready: Ready) -> list[Unit]:
    """Fix how everything is made, and list the shards to look at, split by split."""
    run.published_at = stamp(run.out)
    told = software()
    commit_headers(run.out, ready)
    published = _published(run.out)
    for task in ready.tasks:
        for config in task.without(published).configs().values():
            if not has_records(run.out, config=config):
                commit_header(run.out, config, {**ready.headers[config], "software": told})
    log_event(
        run.out,
        event="start",
        process=os.getpid(),
        host=platform.node(),
        device=run.device,
        batch_size=run.batch_size,
        threads=torch.get_num_threads(),
    )
    return list_units(run.out, ready)


def commit_headers(out: Path, ready: Ready) -> None:
    """Fix what the splits are, and where their shards are cut."""
    for split in ready.every_split:
        commit_header(out, f"{split.originals}.{split.name}", split.identity())


def list_units(out: Path, ready: Ready) -> list[Unit]:
    """Every shard of a plan, split by split, with what is not published of it; the same list in every process."""
    published = _published(out)
    tasks = [task.without(published) for task in ready.tasks]
    return [
        Unit(
            split,
            number,
            [task for task in tasks if task.split is split],
            (split.originals, split.name) in published,
        )
        for split in ready.every_split
        for number in range(len(split.shards))
    ]


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
