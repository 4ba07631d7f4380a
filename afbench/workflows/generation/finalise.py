"""Turn the records of finished shards into manifests, a card and the closed list of files."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from afbench.resources import resource_path
from afbench.sources.synthesis import attribution
from afbench.storage.card import dataset_card
from afbench.storage.commit import commit_if_changed, json_bytes
from afbench.storage.config_manifest import SCHEMA_VERSION, ConfigManifest, ShardRecord, SplitManifest
from afbench.storage.locks import UNITS
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
from afbench.storage.shards import read_rows
from afbench.storage.summary import SUMMARY_COLUMNS, summarise
from afbench.untrusted import require_name


def finalise(out: Path, overtaken: Callable[[], bool] = lambda: False) -> dict[str, ConfigManifest]:
    """Publish every config and split whose shards are all there; leave the others for a later run.

    Idempotent: the same records give the same bytes, and files that hold them already are not touched.
    Where no lock keeps others from publishing too, ``overtaken`` says that one has: records are removed only after that,
    so whoever has read them before has read all, and would write the same bytes.

    Returns:
        The manifests now in the folder, by config name.
    """
    configs = read_configs(out)
    for config, split, records in _complete(out, configs):
        manifest = configs.get(config) or _manifest(out, config)
        part = _split(out, config, split, records, manifest.splits.get(split))
        configs[config] = replace(manifest, splits={**manifest.splits, split: part})
    if CLEAN not in configs or overtaken():
        return configs
    configs = {
        name: replace(manifest, splits=dict(sorted(manifest.splits.items())))
        for name, manifest in sorted(configs.items(), key=lambda item: config_order(item[1]))
    }
    files: dict[str, dict[str, Any]] = {}
    for name, manifest in configs.items():
        _publish(out, f"manifests/{name}.json", json_bytes(manifest.as_json()), files)
        for shard in manifest.shards:
            files[shard.path] = {"bytes": shard.bytes, "sha256": shard.sha256}
    _publish(out, "README.md", dataset_card(configs).encode(), files)
    _publish(out, "LICENSE.md", _terms(configs[CLEAN].splits).encode(), files)
    listing = {"schema_version": SCHEMA_VERSION, "files": dict(sorted(files.items()))}
    commit_if_changed(out / TOP, json_bytes(listing))
    _forget(out, configs)
    return configs


def _complete(out: Path, configs: Mapping[str, ConfigManifest]) -> list[tuple[str, str, list[ShardRecord]]]:
    """(config, split, records in order) of everything that lacks no shard, with those that are published already."""
    found = []
    for folder in sorted(path for path in (out / WORK).glob("*") if path.is_dir()):
        fresh: dict[str, list[ShardRecord]] = {}
        for path, split, number in _records(folder):
            if number >= len(_published(configs, folder.name, split)):
                fresh.setdefault(split, []).append(parse_record(path))
        for split, records in fresh.items():
            whole = [
                *_published(configs, folder.name, split),
                *_with_software(out, folder.name, split, configs, records),
            ]
            if len(whole) == _wanted(out, folder.name, split, whole):
                require_name("config", folder.name)
                require_name("split", split)
                found.append((folder.name, split, whole))
    return found


def _published(configs: Mapping[str, ConfigManifest], config: str, split: str) -> Sequence[ShardRecord]:
    part = splits_of(configs, config).get(split)
    return part.shards if part else ()


def _wanted(out: Path, config: str, split: str, records: Sequence[ShardRecord]) -> int:
    """How many shards a split has."""
    originals = config if config in ORIGINALS else CLEAN
    header = read_header(out, f"{originals}.{split}") or {}
    # a folder that an earlier version began: there the names tell
    return int(header.get("shards") or records[-1].path.rsplit("-of-", 1)[1].split(".")[0])


def _with_software(
    out: Path,
    config: str,
    split: str,
    configs: Mapping[str, ConfigManifest],
    records: Sequence[ShardRecord],
) -> Sequence[ShardRecord]:
    """Records of shards that came when a config grew say which versions made them, where these are others by now."""
    part = splits_of(configs, config).get(split)
    before = part.software if part else None
    now = (read_header(out, config) or {}).get("software")
    return records if before in (None, now) else [replace(record, software=now) for record in records]


def _records(folder: Path) -> list[tuple[Path, str, int]]:
    """The records in a config's folder, in order of shards, each with its split and number."""
    found = sorted(folder.glob("*-[0-9][0-9][0-9][0-9][0-9].json"))
    return [(path, *_split_and_number(path)) for path in found]


def _split_and_number(path: Path) -> tuple[str, int]:
    split, _, number = path.stem.rpartition("-")
    return split, int(number)


def _manifest(out: Path, config: str) -> ConfigManifest:
    header = {"config": config} if config in ORIGINALS else (read_header(out, config) or {"config": config})
    return ConfigManifest.from_header(header)


def _split(
    out: Path, config: str, split: str, records: list[ShardRecord], before: SplitManifest | None
) -> SplitManifest:
    """What a manifest says of a split; ``before`` is what it said, where it has grown."""
    if config in ORIGINALS:
        header = read_split_header(out, f"{config}.{split}") or SplitManifest()
        return replace(header, shards=records)
    software = (before.software if before else None) or (read_header(out, config) or {}).get("software")
    summary = summarise(read_rows(out, [record.path for record in records], SUMMARY_COLUMNS))
    return SplitManifest(shards=records, software=software, summary=summary)


def _terms(splits: Mapping[str, Any]) -> str:
    """Whose the images are; a benchmark that shows the shipped photographs names their authors itself."""
    text = resource_path("manifests/LICENSE_OF_BENCHMARKS.md").read_text(encoding="utf-8")
    return f"{text}\n{attribution()}" if {"demo", "synthetic"} & splits.keys() else text


def _publish(out: Path, path: str, data: bytes, files: dict[str, dict[str, Any]]) -> None:
    commit_if_changed(out / path, data)
    files[path] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _forget(out: Path, configs: Mapping[str, ConfigManifest]) -> None:
    """Drop the records of what is published, also what a kill in here left; what is unfinished keeps its own."""
    work = out / WORK
    for name in configs:
        unfinished = False
        for path, split, number in _records(work / name):
            if number < len(_published(configs, name, split)):
                path.unlink(missing_ok=True)
            else:
                unfinished = True
        if not unfinished:
            shutil.rmtree(work / name, ignore_errors=True)
    left = (path.name for path in work.glob("*") if path.name != UNITS)
    if all(name.partition(".")[0] in ORIGINALS and "." in name for name in left):
        shutil.rmtree(work, ignore_errors=True)
