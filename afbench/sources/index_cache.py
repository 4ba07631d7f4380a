"""Keep index records in the user's cache folder, to be used again while their files do not change."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import PIL

from afbench import images, signatures
from afbench.core import AfbenchError
from afbench.files import commit_bytes
from afbench.folders import cache_folder
from afbench.version import __version__

from . import check, drawn_masks, entry_reader, mask_rules, table_cells, table_child
from .index_records import IndexRecord, sample_from_json, sample_json
from .source_entry import SourceEntry, SourceOptions
from .table_cells import file_of

RACY_NS = 2_000_000_000
"""A file this young may change again without its time showing it: times are coarse on some file systems."""

Stamps = list[list[int]]
"""For each file of an entry: its size, and when its content and its inode last changed, in ns.

No program can set the last of them, so it alone shows changed permissions, or a file moved over another.
"""


class CachedRecord(NamedTuple):
    """The index record of an entry, with the entry's key and the stamps of the files it was read from."""

    entry: str
    stamps: Stamps
    record: IndexRecord


def cache_path(name: str, root: Path, options: SourceOptions) -> Path | None:
    """Return the cache file of a root; None where the user has no home folder.

    Other versions of the decoder and of the code that reads files have other paths, so that everything is read again.
    """
    code = hashlib.sha256()
    # an edited copy of afbench may keep its version, so that the code itself decides
    for module in (
        images,
        signatures,
        drawn_masks,
        mask_rules,
        entry_reader,
        check,
        table_cells,
        table_child,
    ):
        code.update(Path(str(module.__file__)).read_bytes())
    parts = [name, os.fsencode(root).hex(), asdict(options), __version__, PIL.__version__]
    key = hashlib.sha256(json.dumps([*parts, code.hexdigest()]).encode()).hexdigest()
    try:
        return cache_folder() / "index" / f"{key[:32]}.json"
    except RuntimeError:
        return None


def stamps_of(root: Path, entry: SourceEntry) -> Stamps | None:
    """Return the stamps of an entry's files; None if there is nothing to read or a file is missing."""
    if entry.problem or entry.image is None:
        return None
    try:
        statuses = [(root / file_of(path)).stat() for path in (entry.image, *entry.masks)]
    except (OSError, ValueError):
        return None
    return [[status.st_size, status.st_mtime_ns, status.st_ctime_ns] for status in statuses]


def read_cached(path: Path | None) -> dict[str, CachedRecord]:
    """Read the cached records by sample id; none if the file is missing or damaged."""
    try:
        digest, _, body = path.read_bytes().partition(b"\n") if path else (b"", b"", b"")
        if hashlib.sha256(body).hexdigest().encode() != digest:
            return {}
        rows: list[dict[str, Any]] = json.loads(body)
        return {
            row["facts"]["id"]: CachedRecord(row["entry"], row["stamps"], sample_from_json(row["facts"]))
            for row in rows
        }
    except (OSError, ValueError, LookupError, TypeError):
        return {}


def reusable(
    cache: Mapping[str, CachedRecord], entries: Iterable[SourceEntry], stamps: Mapping[str, Stamps | None]
) -> dict[str, IndexRecord]:
    """Return the cached records whose entry and files have not changed, by sample id."""
    records = {}
    for entry in entries:
        cached = cache.get(entry.sample_id)
        if cached and cached.stamps == stamps[entry.sample_id] and cached.entry == entry_key(entry):
            records[entry.sample_id] = cached.record
    return records


def entry_key(entry: SourceEntry) -> str:
    """Hash an entry: a later version of a layout may pair the same files in another way."""
    return hashlib.sha256(json.dumps(vars(entry), sort_keys=True).encode()).hexdigest()[:32]


def write_cached(path: Path | None, cached: Iterable[CachedRecord], started_ns: int) -> None:
    """Replace the cache file in one step, without the files that may have changed while they were read.

    A cache that cannot be written is no error: the next index only takes longer.
    """
    if path is None:
        return
    rows = [
        {"entry": row.entry, "stamps": row.stamps, "facts": sample_json(row.record)}
        for row in cached
        # a younger file may have changed after it was read, within one tick of the file system's clock
        if all(changed_ns < started_ns - RACY_NS for _, changed_ns, _ in row.stamps)
    ]
    body = json.dumps(rows, separators=(",", ":")).encode()
    content = hashlib.sha256(body).hexdigest().encode() + b"\n" + body
    if not rows or _holds(path, content):
        return
    with suppress(AfbenchError):
        commit_bytes(path, content, durable=False)


def _holds(path: Path, content: bytes) -> bool:
    try:
        return path.read_bytes() == content
    except OSError:
        return False
