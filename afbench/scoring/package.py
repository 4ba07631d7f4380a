"""Read a submission file by file from a folder, .zip or .tar(.gz); nothing is ever extracted."""

from __future__ import annotations

import os
import re
import stat
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from afbench.core import UsageError

from .containers import ArchiveEntry, Container, open_tar, open_zip
from .problems import Problems, Refusal

MANIFEST = "manifest.json"
BEGUN = "begun.json"
"""Stands in for the manifest until every mask is there."""
RATIO = 200
"""A member of more than ``SMALL`` bytes may unfold to this many times what it takes in its archive."""
SMALL = 64 * 1024
PREDICTIONS = (".png", ".parquet")
"""How files of predictions end."""
HDF5 = b"\x89HDF\r\n\x1a\n"

_ODD_KINDS = {"link": "is a link", "other": "is no plain file"}
_PLAIN = re.compile(r"[A-Za-z0-9._-]{1,255}")
_CHUNK = 1 << 16


@dataclass(frozen=True)
class Member:
    """A file of a submission: its path within it, the size it claims, and a way to read it up to a limit.

    ``read`` raises ``Refusal``: AF008 for damage, AF011 above the limit.
    """

    path: str
    size: int
    read: Callable[[int], bytes]


@dataclass(frozen=True)
class Package:
    """The readable files of a submission; ``walk`` yields them in the order that is cheap to read.

    ``names`` holds the names of all files, ``refused_names`` those that a problem was noted for: a refused file is
    not reported as missing as well.
    """

    sizes: dict[str, int]
    names: frozenset[str]
    refused_names: frozenset[str]
    walk: Callable[[], Iterator[Member]]


def open_package(
    path: Path,
    problems: Problems,
    *,
    is_sample: Callable[[str], bool],
    max_members: int,
    max_bytes: int,
) -> Package:
    """List a submission; unsafe, doubled and oversized members are noted in ``problems`` and left out.

    A single folder around all files is ignored, so ``zip -r s.zip submission`` works.

    Args:
        path: folder, .zip, .tar or .tar.gz; told apart by content.
        problems: noted here.
        is_sample: whether a path is one of the benchmark's, so that two names it holds itself may differ by case only.
        max_members: entries allowed.
        max_bytes: bytes that all members together may claim.
    Raises:
        UsageError: if there is nothing at ``path``.
    """
    if not (path.is_dir() or path.is_file()):
        raise UsageError(f"submission '{path}' does not exist; give a folder, a .zip or a .tar(.gz)")
    try:
        container = _open_folder if path.is_dir() else _recognise(path)
        entries = _list_entries(container(path), max_members)
    except Refusal as problem:
        problems.add(problem.code, path.name, problem.message)
        return Package({}, frozenset(), frozenset(), lambda: iter(()))
    accepted, refused_names = _accept(entries, problems)
    prefix = _prefix(accepted)
    sizes = {name.removeprefix(prefix): size for name, size in accepted.items()}
    names = [_plain(entry.name).removeprefix(prefix) for entry in entries]
    refused_names = {name.removeprefix(prefix) for name in refused_names}
    refused_names |= _refuse_doubles(names, sizes, problems, is_sample)
    if (total := sum(sizes.values())) > max_bytes:
        problems.add(
            "AF011", path.name, f"members claim {total} bytes together; this benchmark takes {max_bytes}"
        )
        return Package({}, frozenset(), frozenset(), lambda: iter(()))
    # the container is opened again to read the members: a tar can only be read in order
    return Package(
        sizes, frozenset(names), frozenset(refused_names), lambda: _walk(container(path), sizes, prefix)
    )


def _list_entries(container: Container, max_members: int) -> list[ArchiveEntry]:
    entries = []
    for entry in container:
        entries.append(entry)
        if len(entries) > max_members:
            raise Refusal("AF011", f"more than {max_members} members")
    return entries


def _walk(container: Container, sizes: dict[str, int], prefix: str) -> Iterator[Member]:
    read_names = set()
    for entry in container:
        name = _plain(entry.name).removeprefix(prefix)
        if name in sizes and entry.kind == "file" and name not in read_names:
            read_names.add(name)
            yield Member(name, entry.size, _reader(entry))


def _reader(entry: ArchiveEntry) -> Callable[[int], bytes]:
    def read(limit: int) -> bytes:
        if entry.size > limit:
            raise Refusal("AF011", f"{entry.size} bytes, at most {limit} are needed")
        content = bytearray()
        try:
            with entry.open() as stream:
                while chunk := stream.read(_CHUNK):
                    content += chunk
                    # checked on the way, so that a false size costs no memory
                    if len(content) > max(entry.size, 0):
                        raise Refusal("AF011", f"streams more than the {entry.size} bytes it claims")
        except Refusal:
            raise
        except Exception as error:  # a stranger's bytes make the libraries raise almost anything
            raise Refusal("AF008", f"cannot be read from the archive ({type(error).__name__})") from None
        if len(content) != entry.size:
            raise Refusal("AF008", f"ends after {len(content)} of {entry.size} bytes")
        return bytes(content)

    return read


def _recognise(path: Path) -> Callable[[Path], Container]:
    with path.open("rb") as stream:
        head = stream.read(512)
    if head.startswith(HDF5) or path.suffix.lower() in (".h5", ".hdf5", ".hdf"):
        raise Refusal("AF013", "external storage can read local files; send PNG in a folder, .zip or .tar")
    if head[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return open_zip
    if head[:2] == b"\x1f\x8b" or head[257:262] == b"ustar":
        return open_tar
    raise Refusal("AF008", "is neither a folder nor a .zip, .tar or .tar.gz")


def _open_folder(root: Path) -> Container:
    pending_folders = [root]
    while pending_folders:
        try:
            children = sorted(os.scandir(pending_folders.pop()), key=lambda child: child.name)
        except OSError as error:
            raise Refusal("AF008", f"a folder in it cannot be listed: {error.strerror}") from None
        for child in children:
            # a link may lead out of the submission
            status, path = child.stat(follow_symlinks=False), Path(child.path)
            kind = "file" if stat.S_ISREG(status.st_mode) else "link" if child.is_symlink() else "other"
            if stat.S_ISDIR(status.st_mode):
                pending_folders.append(path)
                kind = "folder"
            yield ArchiveEntry(
                path.relative_to(root).as_posix(), status.st_size, status.st_size, kind, _opener(path)
            )


def _opener(path: Path) -> Callable[[], Any]:
    # O_NOFOLLOW and O_NONBLOCK: what was a file when it was listed may be a link or a pipe by now
    return lambda: os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb")


def _plain(name: str) -> str:
    while name.startswith("./"):
        name = name[2:]
    return name.rstrip("/")


def _accept(entries: list[ArchiveEntry], problems: Problems) -> tuple[dict[str, int], set[str]]:
    """Return the sizes of the files that may be read, and the names that a problem was noted for."""
    accepted: dict[str, int] = {}
    refused_names: set[str] = set()
    for entry in entries:
        name = _plain(entry.name)
        if entry.kind == "folder" and name in ("", "."):
            continue
        if problem := _problem(entry, name):
            problems.add(problem.code, entry.name, problem.message)
            refused_names.add(name)
        elif entry.kind == "file":
            accepted[name] = entry.size
    return accepted, refused_names


def _problem(entry: ArchiveEntry, name: str) -> Refusal | None:
    if reason := _unsafe(name, entry.kind):
        return Refusal("AF010", reason)
    if entry.kind not in ("file", "folder"):
        return Refusal("AF008", entry.kind)
    # small texts may compress by more than RATIO without any intent
    if entry.size > SMALL and entry.size > RATIO * entry.packed:
        return Refusal("AF011", f"{entry.packed} bytes claim to unfold to {entry.size}")
    return None


def _unsafe(name: str, kind: str) -> str | None:
    parts = name.split("/")
    if reason := _ODD_KINDS.get(kind):
        return reason
    if kind == "folder" and name.lower().endswith(PREDICTIONS):
        return "is a folder where a file belongs"
    if name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", name):
        return "is absolute or names a drive"
    if ".." in parts or ".." in name.split("\\"):
        return "leaves the submission"
    if len(name) > 1024 or not all(_PLAIN.fullmatch(part) and part != "." for part in parts):
        return "is an odd name; letters, digits, dot, dash and underscore are allowed"
    return None


def _prefix(accepted: dict[str, int]) -> str:
    """Return the single folder around all files, if there is one and the manifest is in it; else an empty text."""
    tops = {name.split("/")[0] for name in accepted}
    top = f"{next(iter(tops))}/" if len(tops) == 1 else ""
    return top if top and MANIFEST not in accepted and f"{top}{MANIFEST}" in accepted else ""


def _refuse_doubles(
    names: list[str], sizes: dict[str, int], problems: Problems, is_sample: Callable[[str], bool]
) -> set[str]:
    """Remove names from ``sizes`` that some file systems take for the same, and return them."""
    refused_names: set[str] = set()
    groups: dict[str, list[str]] = {}
    files = set(sizes)
    for name in names:
        if name in files or not name.isascii():
            groups.setdefault(unicodedata.normalize("NFC", name).casefold(), []).append(name)
    for group in groups.values():
        if len(group) > 1 and not (len(set(group)) == len(group) and all(map(is_sample, group))):
            for name in sorted(group)[1:]:
                problems.add("AF005", name, f"is there {len(group)} times, but for case or Unicode form")
            for name in set(group):
                # which of them would be scored must not depend on the order in the archive
                sizes.pop(name, None)
            refused_names |= set(group)
    return refused_names
