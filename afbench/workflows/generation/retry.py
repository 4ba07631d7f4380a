"""Try samples again whose attack failed: ``generate --retry-failed``."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from afbench.engine import FAILURES
from afbench.files import commit_json
from afbench.storage.config_manifest import ShardRecord
from afbench.storage.locks import locked
from afbench.storage.manifests import read_configs
from afbench.storage.run_folder import commit_header, commit_record, failed_records


def reopen_failed(out: Path, config_splits: Collection[tuple[str, str]]) -> int:
    """Reopen the shards with failed samples among the given (config, split) pairs, so that a run makes them again.

    Other shards stay as they are. If this is killed, the next run completes what it began.

    Returns:
        How many shards will be made again.
    Raises:
        PartialError: if another process writes to the folder.
    """
    if not _published(out, config_splits) and not failed_records(out, config_splits, FAILURES):
        return 0
    with locked(out):
        records = failed_records(out, config_splits, FAILURES)
        for path in records:
            path.unlink()
        return len(records) + sum(
            _reopen(out, *pair, numbers) for pair, numbers in _published(out, config_splits).items()
        )


def _published(out: Path, config_splits: Collection[tuple[str, str]]) -> dict[tuple[str, str], list[int]]:
    """Return the numbers of the published shards with failed samples, by config and split."""
    numbers_by_split: dict[tuple[str, str], list[int]] = {}
    for config, manifest in read_configs(out).items():
        for split, part in manifest.splits.items():
            if (config, split) in config_splits:
                numbers = [number for number, shard in enumerate(part.shards) if _has_failed(shard)]
                if numbers:
                    numbers_by_split[config, split] = numbers
    return numbers_by_split


def _has_failed(shard: ShardRecord) -> bool:
    return any(sample["reason"] in FAILURES for sample in shard.excluded)


def _reopen(out: Path, config: str, split: str, failed_numbers: list[int]) -> int:
    manifest = read_configs(out)[config]
    part = manifest.splits[split]
    commit_header(out, config, manifest.as_header(part.software))
    for number, shard in enumerate(part.shards):
        if number not in failed_numbers:
            commit_record(out, config, split, number, shard)
    # last: as long as a split is published, its records do not count
    path = out / "manifests" / f"{config}.json"
    remaining = {name: split_manifest for name, split_manifest in manifest.splits.items() if name != split}
    if remaining:
        commit_json(path, replace(manifest, splits=remaining).as_json())
    else:
        path.unlink()
    return len(failed_numbers)
