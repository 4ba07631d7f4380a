"""What was learnt of files that have not changed since, kept in the user's cache folder."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import PIL

from afbench import images, signatures
from afbench.folders import cache_folder
from afbench.version import __version__

from . import check, masks, reading
from .entry import Entry, SourceOptions
from .facts import SampleFacts, sample_from_json, sample_json

RACY_NS = 2_000_000_000
"""A file this young may change again without its time showing it: times are coarse on some file systems."""

Stamps = list[list[int]]
"""Of every file of an entry: size, time its content last changed and time anything of it last changed, in ns.

The last of them no program can set: permissions and a file moved into the place of another show there alone.
"""


class Kept(NamedTuple):
    """Facts of an entry, and what they hold for."""

    entry: str
    stamps: Stamps
    facts: SampleFacts


def cache_path(name: str, root: Path, options: SourceOptions) -> Path | None:
    """Where the facts of a root are kept; None where the user has no home.

    Where the code that reads a file is another, or its decoder, all is read anew.
    """
    code = hashlib.sha256()
    for module in (images, signatures, masks, reading, check):
        code.update(Path(str(module.__file__)).read_bytes())
    told = [name, os.fsencode(root).hex(), asdict(options), __version__, PIL.__version__]
    key = hashlib.sha256(json.dumps([*told, code.hexdigest()]).encode()).hexdigest()
    try:
        return cache_folder() / "index" / f"{key[:32]}.json"
    except RuntimeError:
        return None


def stamps_of(root: Path, entry: Entry) -> Stamps | None:
    """Stamps of an entry's files; None if there is nothing to read or a file cannot be found."""
    if entry.problem or entry.image is None:
        return None
    try:
        found = [(root / path).stat() for path in (entry.image, *entry.masks)]
    except (OSError, ValueError):
        return None
    return [[one.st_size, one.st_mtime_ns, one.st_ctime_ns] for one in found]


def read_kept(path: Path | None) -> dict[str, Kept]:
    """What is kept, by sample id; nothing if the file is not there or not whole."""
    try:
        digest, _, body = path.read_bytes().partition(b"\n") if path else (b"", b"", b"")
        if hashlib.sha256(body).hexdigest().encode() != digest:
            return {}
        rows: list[dict[str, Any]] = json.loads(body)
        return {
            row["facts"]["id"]: Kept(row["entry"], row["stamps"], sample_from_json(row["facts"]))
            for row in rows
        }
    except (OSError, ValueError, LookupError, TypeError):
        return {}


def reusable(
    kept: Mapping[str, Kept], entries: Iterable[Entry], stamps: Mapping[str, Stamps | None]
) -> dict[str, SampleFacts]:
    """Facts that still hold, by sample id."""
    found = {}
    for entry in entries:
        one = kept.get(entry.sample_id)
        if one and one.stamps == stamps[entry.sample_id] and one.entry == entry_key(entry):
            found[entry.sample_id] = one.facts
    return found


def entry_key(entry: Entry) -> str:
    """What an entry was when it was read: a layout may come to pair a file otherwise."""
    return hashlib.sha256(json.dumps(vars(entry), sort_keys=True).encode()).hexdigest()[:32]


def keep(path: Path | None, kept: Iterable[Kept], started_ns: int) -> None:
    """Replace what is kept, all at once; files changed about when they were read are left out.

    A cache that cannot be written is no error: the next index only takes longer.
    """
    if path is None:
        return
    rows = [
        {"entry": one.entry, "stamps": one.stamps, "facts": sample_json(one.facts)}
        for one in kept
        if all(changed < started_ns - RACY_NS for _, changed, _ in one.stamps)
    ]
    body = json.dumps(rows, separators=(",", ":")).encode()
    whole = hashlib.sha256(body).hexdigest().encode() + b"\n" + body
    if not rows or _holds(path, whole):
        return
    temporary = path.with_name(f"{path.name}.tmp.{os.getpid()}.{time.monotonic_ns()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(whole)
        os.replace(temporary, path)
    except OSError:
        pass
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _holds(path: Path, whole: bytes) -> bool:
    try:
        return path.read_bytes() == whole
    except OSError:
        return False
