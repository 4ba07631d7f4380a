"""The settings of one localizer on one split, and what of them is made, shard by shard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from afbench.core import Localizer, Setting, UsageError
from afbench.plan import config_name, settings_by_group
from afbench.plan.effort import Effort
from afbench.storage.config_manifest import ShardRecord
from afbench.storage.manifests import ids_sha256
from afbench.storage.run_folder import read_record

from .splits import Split


@dataclass(frozen=True)
class Task:
    """Settings of one localizer on one split; ``name`` is what configs call the localizer, ``effort`` what an image takes."""

    localizer: Localizer
    name: str
    split: Split
    settings: Sequence[Setting]
    effort: Effort

    def configs(self) -> dict[Setting, str]:
        return {setting: config_name(self.name, setting) for setting in self.settings}

    def without(self, published: Mapping[tuple[str, str], int], number: int) -> Task:
        """What is left of a shard, where so many shards of a config and split are published."""
        left = [
            setting
            for setting, config in self.configs().items()
            if published.get((config, self.split.name), 0) <= number
        ]
        return replace(self, settings=left)


def stored_record(out: Path, config: str, split: Split, number: int) -> ShardRecord | None:
    """The record of a committed shard, or None if it is to be made.

    Raises:
        UsageError: if it holds other samples, since a process that no lock reaches cuts the split elsewhere.
    """
    record = read_record(out, config, split.name, number)
    if record and record.ids_sha256 != ids_sha256(split.shards[number]):
        raise UsageError(
            f"'{out}' holds other samples in '{record.path}' than this process would put there: another one cuts "
            f"shards elsewhere; give all of them the same --shard-size"
        )
    return record


def seconds_left(
    out: Path, split: Split, number: int, tasks: Sequence[Task], *, originals_published: bool
) -> float:
    """What is missing of a shard takes, by the cost model."""
    groups = [(task, group) for task in tasks for group in missing_groups(out, task, number)]
    judged = {task.name: task.effort.forward for task, _ in groups}
    each = sum(judged.values()) + sum(task.effort.of_group(group) for task, group in groups)
    if not originals_published and stored_record(out, split.originals, split, number) is None:
        each += split.keep_seconds
    return len(split.shards[number]) * each


def is_made(
    out: Path, split: Split, number: int, tasks: Sequence[Task], *, originals_published: bool
) -> bool:
    """True if ``run_shard`` would find nothing to do."""
    stored = originals_published or stored_record(out, split.originals, split, number) is not None
    return stored and not any(missing_groups(out, task, number) for task in tasks)


def files_made(
    out: Path, split: Split, number: int, tasks: Sequence[Task], *, originals_published: bool
) -> int:
    """How many of the files of a shard are committed."""
    configs = [config for task in tasks for config in task.configs().values()]
    wanted = [*configs, *([] if originals_published else [split.originals])]
    return sum(stored_record(out, config, split, number) is not None for config in wanted)


def missing_groups(out: Path, task: Task, number: int) -> list[list[Setting]]:
    """Sharing groups with a shard to write. A group runs whole, so that a resumed run launches the same batches."""
    configs = task.configs()
    return [
        group
        for group in settings_by_group(task.settings).values()
        if any(stored_record(out, configs[setting], task.split, number) is None for setting in group)
    ]
