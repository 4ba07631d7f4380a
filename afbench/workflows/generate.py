"""The main job: attack, store, resume, finalise."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from afbench.core import AfbenchError, UsageError
from afbench.engine import compute_precision
from afbench.engine.grid import SEED_RULE
from afbench.localizers import load_localizer
from afbench.plan import RunPlan
from afbench.storage.folder import commit_header, has_records, locked, log_event, read_header
from afbench.storage.manifests import TOP, WORK, excluded_samples, read_configs

from .finalise import finalise
from .provenance import config_hash, describe_config, difference, software
from .request import Hooks, Options, check_request, localizer_names
from .splits import Split, check_splits, open_splits
from .work import Run, Task, gradients_left, run_shard


@dataclass(frozen=True)
class Outcome:
    """What a run did: configs asked for, shards it wrote, gradients it took, excluded samples by reason."""

    folder: Path
    configs: Sequence[str]
    shards_written: int
    gradients: int
    excluded: Mapping[str, int]


def generate(plan: RunPlan, out: Path, options: Options, hooks: Hooks | None = None) -> Outcome:
    """Make the configs of a plan in a folder, or the part of them that is missing.

    Every shard is committed by itself; a run that was interrupted goes on where it stopped and ends with the
    same bytes. Other configs may be there already.

    Raises:
        UsageError: before anything is written, if the folder, a localizer or a source cannot be used, or a
            config exists that was made differently.
        PartialError: if another process writes to the folder.
        AfbenchError: if a shard cannot be written.
    """
    hooks = hooks or Hooks()
    check_request(plan, out, options)
    names = localizer_names(plan)
    splits = open_splits(plan, out, options.shard_size)
    localizers = {name: load_localizer(name, options.checkpoint, device=options.device) for name in names}
    tasks = [
        Task(localizers[name], options.localizer_name or name, splits[source.name], block.settings)
        for block in plan.blocks
        for name in block.localizers
        for source in block.sources
    ]
    headers = _headers(tasks, plan.seed, options.precision)
    check_splits(out, splits)
    _check_configs(out, headers)
    run = Run(
        out, plan.seed, options.device, options.batch_size, options.image_format, hooks.advance, hooks.say
    )
    if not _is_finished(out, tasks):
        with locked(out), compute_precision(options.precision, options.device):
            check_splits(out, splits)  # again: another process may have written while this one waited
            _check_configs(out, headers)
            _run(run, tasks, splits, headers, hooks)
            finalise(out)
    _refuse_empty(out, splits)
    return Outcome(out, list(headers), run.shards, run.gradients, _excluded(out, headers))


def _refuse_empty(out: Path, splits: Mapping[str, Split]) -> None:
    clean = read_configs(out)["clean"]
    for name in splits:
        part = clean["splits"][name]
        if not any(shard["rows"] for shard in part["shards"]):
            reasons = Counter(one["reason"] for shard in part["shards"] for one in shard["excluded"])
            told = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
            raise AfbenchError(f"source '{name}' has no usable sample ({told}); '{out}/README.md' says why")


def _headers(tasks: Sequence[Task], seed: int, precision: str) -> dict[str, dict[str, Any]]:
    headers: dict[str, dict[str, Any]] = {}
    for task in tasks:
        for setting, config in task.configs().items():
            how = describe_config(
                task.localizer, task.name, setting, seed=seed, seed_rule=SEED_RULE, precision=precision
            )
            header = {"config": config, "config_hash": config_hash(how), "how": how}
            if headers.setdefault(config, header) != header:
                changed = "; ".join(difference(headers[config]["how"], how))
                raise UsageError(f"the plan makes config {config} in two ways ({changed}); keep one of them")
    return headers


def _check_configs(out: Path, headers: Mapping[str, Mapping[str, Any]]) -> None:
    finished = read_configs(out)
    for config, header in headers.items():
        begun = read_header(out, config) if has_records(out, config=config) else None
        before = finished.get(config) or begun
        if before and before["config_hash"] != header["config_hash"]:
            changed = "; ".join(difference(before["how"], header["how"]))
            raise UsageError(
                f"'{out}' holds config {config} made differently ({changed}); give another --out or --localizer-name"
            )


def _is_finished(out: Path, tasks: Sequence[Task]) -> bool:
    """True if everything asked for is published and nothing is half-way: then no file is touched."""
    if (out / WORK).exists() or not (out / TOP).exists():
        return False
    finished = _published(out)
    return all(
        (config, task.split.name) in finished
        for task in tasks
        for config in ("clean", *task.configs().values())
    )


def _published(out: Path) -> set[tuple[str, str]]:
    return {(name, split) for name, manifest in read_configs(out).items() for split in manifest["splits"]}


def _run(
    run: Run,
    tasks: Sequence[Task],
    splits: Mapping[str, Split],
    headers: Mapping[str, Mapping[str, Any]],
    hooks: Hooks,
) -> None:
    """Do every shard that is missing, split by split."""
    published = _published(run.out)
    tasks = [task.without(published) for task in tasks]
    told = software()
    for split in splits.values():
        commit_header(run.out, f"clean.{split.name}", split.identity())
    for task in tasks:
        for config in task.configs().values():
            if not has_records(run.out, config=config):
                commit_header(run.out, config, {**headers[config], "software": told})
    log_event(
        run.out,
        event="start",
        host=platform.node(),
        device=run.device,
        batch_size=run.batch_size,
        threads=torch.get_num_threads(),
    )
    hooks.start(sum(gradients_left(run.out, task) for task in tasks))
    for split in splits.values():
        mine = [task for task in tasks if task.split is split]
        for number in range(len(split.shards)):
            run_shard(run, split, number, mine, clean_published=("clean", split.name) in published)
    log_event(run.out, event="end", gradients=run.gradients, shards=run.shards)


def _excluded(out: Path, configs: Mapping[str, Any]) -> dict[str, int]:
    """Samples left out of any of the configs, each counted once per reason."""
    manifests = read_configs(out)
    reasons = {
        (one["sample_id"], one["reason"])
        for name in ("clean", *configs)
        for one in excluded_samples(manifests[name])
    }
    counts: dict[str, int] = {}
    for _, reason in sorted(reasons):
        counts[reason] = counts.get(reason, 0) + 1
    return counts
