"""Turn the records of finished shards into manifests, a card and the closed list of files."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from afbench.files import commit_if_changed, json_bytes
from afbench.resources import resource_path
from afbench.sources.synthesis import attribution
from afbench.storage.card import dataset_card
from afbench.storage.config_manifest import SCHEMA_VERSION, ConfigManifest, ShardRecord, SplitManifest
from afbench.storage.locks import SHARD_LOCKS
from afbench.storage.manifests import (
    CLEAN,
    ORIGINALS,
    TOP,
    WORK,
    config_order,
    read_configs,
    splits_of,
)
from afbench.storage.run_folder import parse_record, read_header, read_split_header
from afbench.storage.shards import read_shards
from afbench.storage.summary import SUMMARY_COLUMNS, summarise
from afbench.untrusted import require_name


def finalise(out: Path, overtaken: Callable[[], bool] = lambda: False) -> dict[str, ConfigManifest]:
    """Publish every config and split whose shards are all committed; leave the others for a later run.

    Idempotent: the same records give the same bytes, and a file with these bytes already is not touched.

    Args:
        overtaken: asked where no lock prevents a second publisher; True if another process has published. Records are
            removed only after publishing, so a process that was not overtaken has read all of them.
    Returns:
        The manifests of the folder, by config name.
    """
    configs = read_configs(out)
    for config, split, records in _complete_splits(out, configs):
        manifest = configs.get(config) or _config_manifest(out, config)
        part = _split_manifest(out, config, split, records, manifest.splits.get(split))
        configs[config] = replace(manifest, splits={**manifest.splits, split: part})
    if CLEAN not in configs or overtaken():
        return configs
    # sorted, so that the bytes don't depend on which run added what
    configs = {
        name: replace(manifest, splits=dict(sorted(manifest.splits.items())))
        for name, manifest in sorted(configs.items(), key=lambda item: config_order(item[1]))
    }
    files: dict[str, dict[str, Any]] = {}
    for name, manifest in configs.items():
        _commit_file(out, f"manifests/{name}.json", json_bytes(manifest.as_json()), files)
        for shard in manifest.shards:
            files[shard.path] = {"bytes": shard.bytes, "sha256": shard.sha256}
    _commit_file(out, "README.md", dataset_card(configs).encode(), files)
    _commit_file(out, "LICENSE.md", _license_text(configs[CLEAN].splits).encode(), files)
    listing = {"schema_version": SCHEMA_VERSION, "files": dict(sorted(files.items()))}
    # last: readers take the folder for a finished benchmark as soon as it has this list
    commit_if_changed(out / TOP, json_bytes(listing))
    # only now: until the list is there, a killed run goes on from the records
    _remove_published_records(out, configs)
    return configs


def _complete_splits(
    out: Path, configs: Mapping[str, ConfigManifest]
) -> list[tuple[str, str, list[ShardRecord]]]:
    """List (config, split, records in order) of every split that has all its shards, the published ones included."""
    complete_splits = []
    for folder in sorted(path for path in (out / WORK).glob("*") if path.is_dir()):
        new_records: dict[str, list[ShardRecord]] = {}
        for path, split, number in _record_paths(folder):
            if number >= len(_published(configs, folder.name, split)):
                new_records.setdefault(split, []).append(parse_record(path))
        for split, records in new_records.items():
            all_records = [
                *_published(configs, folder.name, split),
                *_with_software(out, folder.name, split, configs, records),
            ]
            if len(all_records) == _expected_shards(out, folder.name, split, all_records):
                require_name("config", folder.name)
                require_name("split", split)
                complete_splits.append((folder.name, split, all_records))
    return complete_splits


def _published(configs: Mapping[str, ConfigManifest], config: str, split: str) -> Sequence[ShardRecord]:
    part = splits_of(configs, config).get(split)
    return part.shards if part else ()


def _expected_shards(out: Path, config: str, split: str, records: Sequence[ShardRecord]) -> int:
    """Return how many shards a split is to have."""
    originals = config if config in ORIGINALS else CLEAN
    header = read_header(out, f"{originals}.{split}") or {}
    # headers of folders that an earlier version began lack the number; the file names have it
    return int(header.get("shards") or records[-1].path.rsplit("-of-", 1)[1].split(".")[0])


def _with_software(
    out: Path,
    config: str,
    split: str,
    configs: Mapping[str, ConfigManifest],
    records: Sequence[ShardRecord],
) -> Sequence[ShardRecord]:
    """Note in the records of added shards which versions made them, if these are not those of the published shards."""
    part = splits_of(configs, config).get(split)
    previous_versions = part.software if part else None
    current_versions = (read_header(out, config) or {}).get("software")
    return (
        records
        if previous_versions in (None, current_versions)
        else [replace(record, software=current_versions) for record in records]
    )


def _record_paths(folder: Path) -> list[tuple[Path, str, int]]:
    """List the record files in a config's folder in the order of shards, each with its split and shard number."""
    paths = sorted(folder.glob("*-[0-9][0-9][0-9][0-9][0-9].json"))
    return [(path, *_split_and_number(path)) for path in paths]


def _split_and_number(path: Path) -> tuple[str, int]:
    split, _, number = path.stem.rpartition("-")
    return split, int(number)


def _config_manifest(out: Path, config: str) -> ConfigManifest:
    header = {"config": config} if config in ORIGINALS else (read_header(out, config) or {"config": config})
    return ConfigManifest.from_header(header)


def _split_manifest(
    out: Path, config: str, split: str, records: list[ShardRecord], previous: SplitManifest | None
) -> SplitManifest:
    """Build the manifest of a split; ``previous`` is its published one, if the split has grown."""
    if config in ORIGINALS:
        header = read_split_header(out, f"{config}.{split}") or SplitManifest()
        return replace(header, shards=records)
    software = (previous.software if previous else None) or (read_header(out, config) or {}).get("software")
    summary = summarise(read_shards(out, records, SUMMARY_COLUMNS))
    return SplitManifest(shards=records, software=software, summary=summary)


def _license_text(splits: Mapping[str, Any]) -> str:
    """Return the licence text; it names the authors of the shipped photographs if the benchmark has any."""
    text = resource_path("manifests/LICENSE_OF_BENCHMARKS.md").read_text(encoding="utf-8")
    return f"{text}\n{attribution()}" if {"demo", "synthetic"} & splits.keys() else text


def _commit_file(out: Path, path: str, data: bytes, files: dict[str, dict[str, Any]]) -> None:
    commit_if_changed(out / path, data)
    files[path] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _remove_published_records(out: Path, configs: Mapping[str, ConfigManifest]) -> None:
    """Remove the records of published shards, also those that a kill in here left; unfinished splits keep theirs."""
    work = out / WORK
    for name in configs:
        unfinished = False
        for path, split, number in _record_paths(work / name):
            if number < len(_published(configs, name, split)):
                path.unlink(missing_ok=True)
            else:
                unfinished = True
        if not unfinished:
            shutil.rmtree(work / name, ignore_errors=True)
    remaining_names = (path.name for path in work.glob("*") if path.name != SHARD_LOCKS)
    if all(name.partition(".")[0] in ORIGINALS and "." in name for name in remaining_names):
        shutil.rmtree(work, ignore_errors=True)
