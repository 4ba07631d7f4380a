"""``generate --retry-failed``: give samples whose attack failed another try."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from afbench.engine import FAILURES
from afbench.storage.commit import commit_json
from afbench.storage.folder import commit_header, commit_record, failed_records
from afbench.storage.locks import locked
from afbench.storage.manifests import read_configs
from afbench.storage.shards import ShardRecord


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
        for split, part in manifest["splits"].items():
            if (config, split) in wanted:
                failed = [number for number, shard in enumerate(part["shards"]) if _has_failed(shard)]
                if failed:
                    found[config, split] = failed
    return found


def _has_failed(shard: Mapping[str, Any]) -> bool:
    return any(one["reason"] in FAILURES for one in shard["excluded"])


def _reopen(out: Path, config: str, split: str, failed: list[int]) -> int:
    manifest = read_configs(out)[config]
    part = manifest["splits"].pop(split)
    header = {key: manifest[key] for key in ("config", "config_hash", "how")}
    commit_header(out, config, {**header, "software": part.get("software")})
    for number, shard in enumerate(part["shards"]):
        if number not in failed:
            commit_record(out, config, split, number, ShardRecord(**shard))
    # last: as long as a split is published, its records do not count
    path = out / "manifests" / f"{config}.json"
    if manifest["splits"]:
        commit_json(path, manifest)
    else:
        path.unlink()
    return len(failed)
