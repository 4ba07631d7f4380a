"""List the files below a root and the entries that a layout makes of them, by names alone."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from afbench.core import BadSample, UsageError

from .entry_reader import read_bytes, resolve_below
from .layouts import hf, load_layout
from .layouts.lists import entries as in_folder
from .layouts.lists import entries_of, open_list
from .layouts.picture_files import quoted_names, settle
from .sample_names import sample_id, without_copies
from .source_entry import SourceEntry
from .table_cells import scan_table

MAX_TEXT_BYTES = 2**26
"""Largest list or table of a release that is read."""


class ReleaseEntries(NamedTuple):
    """The entries of a release in the order of their ids, forged and authentic, and the folder their paths begin in."""

    root: Path
    entries: list[SourceEntry]


class RootListing(NamedTuple):
    """Sorted relative paths: the files below a root, and the folders that are links, which are not followed."""

    files: list[str]
    links: list[str]


_OF_SYSTEMS = ("__MACOSX", "@eaDir", "lost+found", "System Volume Information", "$RECYCLE.BIN")
"""Folders that operating systems create; some of them may not be listed."""


def list_files(root: Path) -> list[str]:
    """List the files below a root, sorted, as relative paths with forward slashes; skip hidden ones and links to folders.

    Raises:
        OSError: if a folder cannot be listed.
    """
    return list_root(root).files


def list_root(root: Path) -> RootListing:
    """List files like ``list_files``, and the folders it skips because they are links.

    Raises:
        OSError: if a folder cannot be listed.
    """
    listing = RootListing([], [])
    open_folders = [""]
    while open_folders:  # folders may lie deeper than calls can
        prefix = open_folders.pop()
        with os.scandir(Path(root, prefix)) as children:
            for child in children:
                if child.name.startswith("."):
                    continue
                if not _is_folder(child):
                    listing.files.append(prefix + child.name)
                elif child.name not in _OF_SYSTEMS and child.is_symlink():
                    listing.links.append(prefix + child.name)
                elif child.name not in _OF_SYSTEMS:
                    open_folders.append(f"{prefix}{child.name}/")
    return RootListing(sorted(listing.files), sorted(listing.links))


def _is_folder(child: os.DirEntry[str]) -> bool:
    try:
        return child.is_dir()
    except OSError:  # a link to itself
        return False


def find_entries(name: str, root: Path) -> ReleaseEntries:
    """List the entries of a release below a root, or of a list file; open no image.

    Raises:
        UsageError: if the root is no folder, or holds nothing of this release.
    """
    layout = load_layout(name)
    links: list[str] = []
    if name == "hf":
        base, entries = _table_entries(str(root))
    elif name == "list" and root.is_file():
        text = _read_text(name, root.parent, root.name)
        base, list_path, paths = open_list(root, text)
        entries = entries_of(list_path, paths, lambda _: text, root=base)
    else:
        base, (paths, links) = root, _list_root(name, root, layout.EXPECTS)
        read_text = partial(_read_text, name, root)
        entries = (
            in_folder(paths, read_text, root=root)
            if name == "list"
            else layout.entries(without_copies(paths), read_text)
        )
    if not any(entry.image for entry in entries):
        raise UsageError(
            f"source {name}: nothing of it in '{root}'; {_expected_and_found(layout.EXPECTS, base, links)}"
        )
    forged = [entry for entry in entries if entry.label == "forged"]
    if forged and all(entry.problem == "missing_mask" for entry in forged):
        problem = f"{len(forged)} forged images in '{root}' and no mask"
        raise UsageError(f"source {name}: {problem}; {_expected_and_found(layout.EXPECTS, base, links)}")
    # any folder may give a group its name
    legal = [replace(entry, group=sample_id(entry.group)) if entry.group else entry for entry in entries]
    return ReleaseEntries(base, settle(legal))


def _table_entries(root: str) -> tuple[Path, list[SourceEntry]]:
    columns = hf.parse_root(root)
    folder = Path(columns.folder)
    listing = _list_root("hf", folder, hf.EXPECTS)
    entries: list[SourceEntry] = []
    for file in hf.table_files(listing.files, partial(_read_text, "hf", folder)):
        try:
            table = scan_table(resolve_below(folder, file), columns.mask, columns.label)
        except BadSample as problem:
            raise UsageError(
                f"source hf: {file!a} cannot be read: {problem.detail or problem.reason}"
            ) from None
        entries += hf.table_entries(file, table, columns)
    return folder, entries


def _expected_and_found(expects: str, base: Path, links: Sequence[str]) -> str:
    link_note = f"; folders that are links are not followed: {quoted_names(links)}" if links else ""
    return f"expected {expects}; found {_folder_contents(base)}{link_note}"


def _list_root(name: str, root: Path, expects: str) -> RootListing:
    if not root.is_dir():
        kind = "a file, no folder" if root.exists() else "no folder"
        raise UsageError(f"source {name}: '{root}' is {kind}; expected {expects}")
    try:
        return list_root(root)
    except OSError as error:
        problem = f"'{error.filename}' cannot be listed: {error.strerror or error}"
        raise UsageError(f"source {name}: {problem}") from None


def _read_text(name: str, root: Path, path: str) -> str:
    try:
        return read_bytes(root, path, limit=MAX_TEXT_BYTES).decode("utf-8-sig", "surrogateescape")
    except BadSample as problem:
        detail = f"{path!a} cannot be read: {problem.detail or problem.reason}"
        raise UsageError(f"source {name}: {detail}") from None


def _folder_contents(root: Path) -> str:
    names = sorted(path.name for path in root.iterdir() if not path.name.startswith("."))
    remainder = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(map(ascii, names[:5])) + remainder if names else "an empty folder"
