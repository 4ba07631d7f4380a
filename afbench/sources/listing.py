"""What lies below a root, by names alone: files, and the entries that a layout makes of them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from afbench.core import BadSample, UsageError

from .entry import Entry
from .layouts import load_layout
from .layouts.lists import entries_of, open_list
from .reading import read_bytes

MAX_TEXT_BYTES = 2**26
"""Largest list or table a release is described by."""


class Found(NamedTuple):
    """The entries of a release, forged and authentic, in order of ids, and the folder their paths begin in."""

    root: Path
    entries: list[Entry]


def list_files(root: Path) -> list[str]:
    """Every file below a root, relative with forward slashes, sorted; nothing hidden, and no folder that is a link.

    Raises:
        OSError: if a folder cannot be listed.
    """
    found: list[str] = []
    base = os.fspath(root)
    for folder, folders, files in os.walk(base, onerror=_raise):
        folders[:] = [name for name in folders if not name.startswith(".") and name != "__MACOSX"]
        below = os.path.relpath(folder, base).replace(os.sep, "/")
        prefix = "" if below == "." else f"{below}/"
        found += [prefix + name for name in files if not name.startswith(".")]
    return sorted(found)


def _raise(error: OSError) -> None:
    raise error


def find_entries(name: str, root: Path) -> Found:
    """List a release below a root, or what a list file names; opens no image.

    Raises:
        UsageError: if the root is no folder, or holds nothing of this release.
    """
    layout = load_layout(name)
    if name == "list" and root.is_file():
        text = _read_text(name, root.parent, root.name)
        base, list_path, paths = open_list(root, text)
        entries = entries_of(list_path, paths, lambda _: text)
    else:
        base, paths = root, _list_root(name, root, layout.EXPECTS)
        entries = layout.entries(paths, partial(_read_text, name, root))
    found = f"expected {layout.EXPECTS}; found {_seen(base)}"
    if not any(entry.image for entry in entries):
        raise UsageError(f"source {name}: nothing of it in '{root}'; {found}")
    forged = [entry for entry in entries if entry.label == "forged"]
    if forged and not any(entry.masks for entry in forged):
        raise UsageError(f"source {name}: {len(forged)} forged images in '{root}' and no mask; {found}")
    return Found(base, _one_of_each(entries))


def _list_root(name: str, root: Path, expects: str) -> list[str]:
    if not root.is_dir():
        what = "a file, no folder" if root.exists() else "no folder"
        raise UsageError(f"source {name}: '{root}' is {what}; expected {expects}")
    try:
        return list_files(root)
    except OSError as error:
        told = f"'{error.filename}' cannot be listed: {error.strerror or error}"
        raise UsageError(f"source {name}: {told}") from None


def _read_text(name: str, root: Path, path: str) -> str:
    try:
        return read_bytes(root, path, limit=MAX_TEXT_BYTES).decode("utf-8-sig", "surrogateescape")
    except BadSample as problem:
        told = f"{path!a} cannot be read: {problem.detail or problem.reason}"
        raise UsageError(f"source {name}: {told}") from None


def _seen(root: Path) -> str:
    names = sorted(path.name for path in root.iterdir() if not path.name.startswith("."))
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(map(ascii, names[:5])) + more if names else "an empty folder"


def _one_of_each(entries: Sequence[Entry]) -> list[Entry]:
    """Sort by id, and let entries of one id be one: nobody can tell which is meant."""
    found: dict[str, Entry] = {}
    for entry in entries:
        before = found.setdefault(entry.sample_id, entry)
        if before is not entry:
            told = f"also {entry.image or entry.masks[:1]!a}"
            found[entry.sample_id] = replace(before, problem="ambiguous_name", detail=told)
    return [found[name] for name in sorted(found)]
