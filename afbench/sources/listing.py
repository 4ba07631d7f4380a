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
from .layouts.files import settle, some
from .layouts.lists import entries as in_folder
from .layouts.lists import entries_of, open_list
from .names import sample_id, without_copies
from .reading import read_bytes

MAX_TEXT_BYTES = 2**26
"""Largest list or table a release is described by."""


class Found(NamedTuple):
    """The entries of a release, forged and authentic, in order of ids, and the folder their paths begin in."""

    root: Path
    entries: list[Entry]


class Listed(NamedTuple):
    """Files below a root, and folders that are links, which are not followed; relative, sorted."""

    files: list[str]
    links: list[str]


_OF_SYSTEMS = ("__MACOSX", "@eaDir", "lost+found", "System Volume Information", "$RECYCLE.BIN")
"""Folders that systems leave behind, some of them for nobody to list."""


def list_files(root: Path) -> list[str]:
    """Every file below a root, relative with forward slashes, sorted; nothing hidden, and no folder that is a link.

    Raises:
        OSError: if a folder cannot be listed.
    """
    return list_root(root).files


def list_root(root: Path) -> Listed:
    """``list_files``, and the folders it leaves out because they are links.

    Raises:
        OSError: if a folder cannot be listed.
    """
    listed = Listed([], [])
    open_folders = [""]
    while open_folders:  # folders may lie deeper than calls can
        prefix = open_folders.pop()
        with os.scandir(Path(root, prefix)) as found:
            for one in found:
                if one.name.startswith("."):
                    continue
                if not _is_folder(one):
                    listed.files.append(prefix + one.name)
                elif one.name not in _OF_SYSTEMS and one.is_symlink():
                    listed.links.append(prefix + one.name)
                elif one.name not in _OF_SYSTEMS:
                    open_folders.append(f"{prefix}{one.name}/")
    return Listed(sorted(listed.files), sorted(listed.links))


def _is_folder(one: os.DirEntry[str]) -> bool:
    try:
        return one.is_dir()
    except OSError:  # a link to itself
        return False


def find_entries(name: str, root: Path) -> Found:
    """List a release below a root, or what a list file names; opens no image.

    Raises:
        UsageError: if the root is no folder, or holds nothing of this release.
    """
    layout = load_layout(name)
    if name == "list" and root.is_file():
        text = _read_text(name, root.parent, root.name)
        base, list_path, paths = open_list(root, text)
        links: list[str] = []
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
        raise UsageError(f"source {name}: nothing of it in '{root}'; {_told(layout.EXPECTS, base, links)}")
    forged = [entry for entry in entries if entry.label == "forged"]
    if forged and all(entry.problem == "missing_mask" for entry in forged):
        told = f"{len(forged)} forged images in '{root}' and no mask"
        raise UsageError(f"source {name}: {told}; {_told(layout.EXPECTS, base, links)}")
    # any folder may give a group its name
    legal = [replace(entry, group=sample_id(entry.group)) if entry.group else entry for entry in entries]
    return Found(base, settle(legal))


def _told(expects: str, base: Path, links: Sequence[str]) -> str:
    more = f"; folders that are links are not followed: {some(links)}" if links else ""
    return f"expected {expects}; found {_seen(base)}{more}"


def _list_root(name: str, root: Path, expects: str) -> Listed:
    if not root.is_dir():
        what = "a file, no folder" if root.exists() else "no folder"
        raise UsageError(f"source {name}: '{root}' is {what}; expected {expects}")
    try:
        return list_root(root)
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
