"""Say what is to be made of each shard, and what of it is committed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from afbench.core import Localizer, Setting, UsageError
from afbench.plans import config_name, settings_by_group
from afbench.plans.effort import Effort
from afbench.storage.config_manifest import ShardRecord
from afbench.storage.manifests import ids_sha256
from afbench.storage.run_folder import read_record

from .splits import Split


@dataclass(frozen=True)
class Task:
    """The settings of one localizer on one split; ``name`` is its name in configs, ``effort`` the time one image takes."""

    localizer: Localizer
    name: str
    split: Split
    settings: Sequence[Setting]
    effort: Effort

    def configs(self) -> dict[Setting, str]:
        """Return the config name of each setting."""
        return {setting: config_name(self.name, setting) for setting in self.settings}

    def without(self, published: Mapping[tuple[str, str], int], number: int) -> Task:
        """Return the task of shard ``number`` without published configs; ``published`` counts shards by config and split."""
        remaining = [
            setting
            for setting, config in self.configs().items()
            # a config that is to grow has its first shards published and the later ones not
            if published.get((config, self.split.name), 0) <= number
        ]
        return replace(self, settings=remaining)


def stored_record(out: Path, config: str, split: Split, number: int) -> ShardRecord | None:
    """Return the record of a committed shard, or None if the shard is missing.

    Raises:
        UsageError: if it holds other samples, because a process that shares no lock cuts the split elsewhere.
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
    """Return how long the missing files of a shard will take, by the cost model."""
    groups = [(task, group) for task in tasks for group in missing_groups(out, task, number)]
    # a localizer judges the originals of a shard once, however many of its groups are missing
    forward_seconds = {task.name: task.effort.forward for task, _ in groups}
    seconds_per_image = sum(forward_seconds.values()) + sum(
        task.effort.of_group(group) for task, group in groups
    )
    if not originals_published and stored_record(out, split.originals, split, number) is None:
        seconds_per_image += split.keep_seconds
    return len(split.shards[number]) * seconds_per_image


def is_made(
    out: Path, split: Split, number: int, tasks: Sequence[Task], *, originals_published: bool
) -> bool:
    """Say whether ``run_shard`` would find nothing to do."""
    stored = originals_published or stored_record(out, split.originals, split, number) is not None
    return stored and not any(missing_groups(out, task, number) for task in tasks)


def files_made(
    out: Path, split: Split, number: int, tasks: Sequence[Task], *, originals_published: bool
) -> int:
    """Count the committed files of a shard."""
    configs = [config for task in tasks for config in task.configs().values()]
    expected_configs = [*configs, *([] if originals_published else [split.originals])]
    return sum(stored_record(out, config, split, number) is not None for config in expected_configs)


def missing_groups(out: Path, task: Task, number: int) -> list[list[Setting]]:
    """List the sharing groups with a file to write. A group runs as a whole, so that a resumed run makes the same batches."""
    configs = task.configs()
    return [
        group
        for group in settings_by_group(task.settings).values()
        if any(stored_record(out, configs[setting], task.split, number) is None for setting in group)
    ]
