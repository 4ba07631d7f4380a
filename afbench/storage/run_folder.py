"""The folder of a benchmark while it is being made: what is done, what remains."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from afbench.core import AfbenchError, ShardFormat, UsageError
from afbench.files import commit_json

from .config_manifest import ShardRecord, SplitManifest
from .manifests import (
    CLEAN,
    LOG,
    TOP,
    WORK,
    check_shard,
    is_archive,
    read_configs,
    read_json,
    refuse_inside_benchmark,
    stored_format,
)
from .shard_format import format_of_path


def check_folder(folder: Path) -> None:
    """Refuse, before anything is written, a folder that cannot become or grow a benchmark.

    Raises:
        UsageError: if it is a file, holds something else, or cannot be written.
    """
    if is_pattern(folder) and not (folder.is_dir() and _is_benchmark(folder)):
        raise UsageError(
            f"--out '{folder.absolute()}': a path with * ? [ ] or :: is a pattern to `datasets`, which would find nothing there, or "
            "the rows of other folders too; give another folder"
        )
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--out '{folder}' is a file; give a folder")
    if not _is_benchmark(folder):  # one that is there already may go on
        refuse_inside_benchmark(folder)
    if folder.is_dir() and any(folder.iterdir()) and not _is_benchmark(folder):
        raise UsageError(f"--out '{folder}' holds something that is no benchmark; give a new or empty folder")
    nearest = folder
    while not nearest.exists():
        nearest = nearest.parent
    if not nearest.is_dir():
        raise UsageError(f"--out '{folder}' lies below a file, '{nearest}'; give another folder")
    if not os.access(nearest, os.W_OK | os.X_OK) or os.statvfs(nearest).f_flag & os.ST_RDONLY:
        raise UsageError(f"--out '{folder}' cannot be written: no permission in '{nearest}'")


def is_pattern(folder: Path) -> bool:
    """Return whether ``datasets.load_dataset`` takes the path of a folder for a pattern, or for two."""
    return bool(re.search(r"[*?\[\]]|::", str(folder.absolute())))


def folder_format(folder: Path) -> ShardFormat | None:
    """Return the format of the shards that a folder holds, finished or not; None if it holds none.

    Raises:
        UsageError: if it is an archive, whose shards are none of a benchmark.
        AfbenchError: if a manifest is damaged.
    """
    record_path = next((folder / WORK).glob("*/*-[0-9][0-9][0-9][0-9][0-9].json"), None)
    begun_format = None
    if record_path is not None:
        with suppress(AfbenchError):
            begun_format = format_of_path(parse_record(record_path).path)
    # read last: another process may publish meanwhile, and removes its records after that
    configs = read_configs(folder)
    if CLEAN not in configs:
        return begun_format
    if is_archive(configs[CLEAN]):
        raise UsageError(
            f"'{folder}' is an archive, which cannot grow; `afbench restore` makes a benchmark of it"
        )
    return stored_format(configs)


def free_bytes(folder: Path) -> int:
    """Return the free bytes of the disk that a folder lies on, or will lie on once it is made."""
    nearest = folder.absolute()
    while not nearest.exists():
        nearest = nearest.parent
    return shutil.disk_usage(nearest).free


def _is_benchmark(folder: Path) -> bool:
    """Return whether a folder is a benchmark, finished or not; a MANIFEST.json of another tool does not make it one."""
    if not (folder / TOP).is_file():
        return (folder / WORK).is_dir()
    try:
        listing = read_json(folder / TOP)
    except AfbenchError:
        return (folder / "manifests").is_dir() and (folder / "data").is_dir()
    return "schema_version" in listing and isinstance(listing.get("files"), dict)


def _record_path(folder: Path, config: str, split: str, number: int) -> Path:
    return folder / WORK / config / f"{split}-{number:05d}.json"


def commit_record(folder: Path, config: str, split: str, number: int, record: ShardRecord) -> None:
    """Commit the record of a shard, after the shard itself."""
    commit_json(_record_path(folder, config, split, number), record.as_json())


def read_record(folder: Path, config: str, split: str, number: int) -> ShardRecord | None:
    """Read the record of a committed shard; None if the shard is to be made, since its file is missing or not complete."""
    path = _record_path(folder, config, split, number)
    if not path.is_file():
        return None
    record = parse_record(path)
    # the size tells a lost or cut file at no cost; `verify` compares the hash
    shard = folder / record.path
    return record if shard.is_file() and shard.stat().st_size == record.bytes else None


def parse_record(path: Path) -> ShardRecord:
    """Read the record of a shard.

    Raises:
        AfbenchError: if it is none, or names a path outside the folder.
    """
    stored = read_json(path)
    try:
        record = ShardRecord.from_json(stored)
        check_shard(record)
    except (KeyError, TypeError, AttributeError):
        raise AfbenchError(f"'{path}' is no record of a shard") from None
    return record


def commit_header(folder: Path, config: str, header: Mapping[str, Any]) -> None:
    """Fix how a config is made, before its first shard."""
    commit_json(folder / WORK / config / "header.json", header)


def read_header(folder: Path, config: str) -> dict[str, Any] | None:
    """Read how an unfinished config is made, or None."""
    path = folder / WORK / config / "header.json"
    return read_json(path) if path.is_file() else None


def read_split_header(folder: Path, name: str) -> SplitManifest | None:
    """Read what an unfinished split of originals is fixed to, as the manifest of a split without its shards, or None.

    Raises:
        AfbenchError: if the header is damaged.
    """
    header = read_header(folder, name)
    try:
        return None if header is None else SplitManifest.from_json({**header, "shards": []})
    except (TypeError, AttributeError):
        raise AfbenchError(f"'{folder / WORK / name / 'header.json'}' is no header of a split") from None


def has_records(folder: Path, *, config: str = "*", split: str = "*") -> bool:
    """Return whether any shard of a config or split is committed; a header without one does not bind."""
    return any((folder / WORK).glob(f"{config}/{split}-[0-9][0-9][0-9][0-9][0-9].json"))


def failed_records(folder: Path, splits: Collection[tuple[str, str]], reasons: Collection[str]) -> list[Path]:
    """Find the records of shards of these configs and splits that lack a sample for one of these reasons."""
    return [
        path
        for config, split in sorted(splits)
        for path in sorted((folder / WORK / config).glob(f"{split}-[0-9][0-9][0-9][0-9][0-9].json"))
        if any(sample["reason"] in reasons for sample in parse_record(path).excluded)
    ]


def log_event(folder: Path, **entry: Any) -> None:
    """Append one JSON line to the log, which is outside everything that is hashed."""
    line = json.dumps({"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), **entry})
    with (folder / LOG / "run.jsonl").open("a", encoding="utf-8") as stream:
        stream.write(line + "\n")
