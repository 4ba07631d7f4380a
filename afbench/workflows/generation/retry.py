"""``generate --retry-failed``: give samples whose attack failed another try."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from afbench.engine import FAILURES
from afbench.storage.commit import commit_json
from afbench.storage.config_manifest import ShardRecord
from afbench.storage.locks import locked
from afbench.storage.manifests import read_configs
from afbench.storage.run_folder import commit_header, commit_record, failed_records


def reopen_failed(out: Path, wanted: Collection[tuple[str, str]]) -> int:
    """Make unfinished again the (config, split) pairs that lack failed samples; only the shards that lack them are redone.

    Nothing is touched where nothing failed. A kill in here leaves what the next run completes.

    Returns:
        How many shards will be made anew.
    Raises:
        PartialError: if another process writes to the folder.
    """
    if not _published(out, wanted) and not failed_records(out, wanted, FAILURES):
        return 0
    with locked(out):
        records = failed_records(out, wanted, FAILURES)
        for path in records:
            path.unlink()
        return len(records) + sum(
            _reopen(out, *pair, failed) for pair, failed in _published(out, wanted).items()
        )


def _published(out: Path, wanted: Collection[tuple[str, str]]) -> dict[tuple[str, str], list[int]]:
    """The numbers of published shards that lack failed samples, by config and split."""
    found: dict[tuple[str, str], list[int]] = {}
    for config, manifest in read_configs(out).items():
        for split, part in manifest.splits.items():
            if (config, split) in wanted:
                failed = [number for number, shard in enumerate(part.shards) if _has_failed(shard)]
                if failed:
                    found[config, split] = failed
    return found


def _has_failed(shard: ShardRecord) -> bool:
    return any(sample["reason"] in FAILURES for sample in shard.excluded)


def _reopen(out: Path, config: str, split: str, failed: list[int]) -> int:
    manifest = read_configs(out)[config]
    part = manifest.splits[split]
    commit_header(out, config, manifest.as_header(part.software))
    for number, shard in enumerate(part.shards):
        if number not in failed:
            commit_record(out, config, split, number, shard)
    # last: as long as a split is published, its records do not count
    path = out / "manifests" / f"{config}.json"
    remaining = {name: one for name, one in manifest.splits.items() if name != split}
    if remaining:
        commit_json(path, replace(manifest, splits=remaining).as_json())
    else:
        path.unlink()
    return len(failed)
