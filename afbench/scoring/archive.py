"""A submission as members to read, whether it is a folder, a .zip or a .tar(.gz); nothing is ever extracted."""

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

from .containers import Container, Entry, open_tar, open_zip
from .problems import Problems, Refused

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

    ``read`` raises ``Refused``: AF008 for damage, AF011 above the limit.
    """

    path: str
    size: int
    read: Callable[[int], bytes]


@dataclass(frozen=True)
class Package:
    """What can be read of a submission; ``walk`` yields the members in the order that is cheap to read.

    ``names`` has all that is there, also what was refused. ``refused`` are the names that a problem was noted for: what is
    refused is not missing as well.
    """

    sizes: dict[str, int]
    names: frozenset[str]
    refused: frozenset[str]
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

    A single folder around everything is looked through, so ``zip -r s.zip submission`` works.

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
        entries = _listed(container(path), max_members)
    except Refused as problem:
        problems.add(problem.code, path.name, problem.what)
        return Package({}, frozenset(), frozenset(), lambda: iter(()))
    accepted, refused = _accept(entries, problems)
    prefix = _prefix(accepted)
    sizes = {name.removeprefix(prefix): size for name, size in accepted.items()}
    names = [_plain(one.name).removeprefix(prefix) for one in entries]
    refused = {name.removeprefix(prefix) for name in refused}
    refused |= _refuse_doubles(names, sizes, problems, is_sample)
    if (total := sum(sizes.values())) > max_bytes:
        problems.add(
            "AF011", path.name, f"members claim {total} bytes together; this benchmark takes {max_bytes}"
        )
        return Package({}, frozenset(), frozenset(), lambda: iter(()))
    return Package(sizes, frozenset(names), frozenset(refused), lambda: _walk(container(path), sizes, prefix))


def _listed(container: Container, max_members: int) -> list[Entry]:
    entries = []
    for entry in container:
        entries.append(entry)
        if len(entries) > max_members:
            raise Refused("AF011", f"more than {max_members} members")
    return entries


def _walk(container: Container, sizes: dict[str, int], prefix: str) -> Iterator[Member]:
    seen = set()
    for entry in container:
        name = _plain(entry.name).removeprefix(prefix)
        if name in sizes and entry.kind == "file" and name not in seen:
            seen.add(name)
            yield Member(name, entry.size, _reader(entry))


def _reader(entry: Entry) -> Callable[[int], bytes]:
    def read(limit: int) -> bytes:
        if entry.size > limit:
            raise Refused("AF011", f"{entry.size} bytes, at most {limit} are needed")
        found = bytearray()
        try:
            with entry.open() as stream:
                while chunk := stream.read(_CHUNK):
                    found += chunk
                    if len(found) > max(entry.size, 0):
                        raise Refused("AF011", f"streams more than the {entry.size} bytes it claims")
        except Refused:
            raise
        except Exception as error:  # a stranger's bytes make the libraries raise almost anything
            raise Refused("AF008", f"cannot be read from the archive ({type(error).__name__})") from None
        if len(found) != entry.size:
            raise Refused("AF008", f"ends after {len(found)} of {entry.size} bytes")
        return bytes(found)

    return read


def _recognise(path: Path) -> Callable[[Path], Container]:
    with path.open("rb") as stream:
        head = stream.read(512)
    if head.startswith(HDF5) or path.suffix.lower() in (".h5", ".hdf5", ".hdf"):
        raise Refused("AF013", "external storage can read local files; send PNG in a folder, .zip or .tar")
    if head[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return open_zip
    if head[:2] == b"\x1f\x8b" or head[257:262] == b"ustar":
        return open_tar
    raise Refused("AF008", "is neither a folder nor a .zip, .tar or .tar.gz")


def _open_folder(root: Path) -> Container:
    waiting = [root]
    while waiting:
        try:
            found = sorted(os.scandir(waiting.pop()), key=lambda one: one.name)
        except OSError as error:
            raise Refused("AF008", f"a folder in it cannot be listed: {error.strerror}") from None
        for one in found:
            status, path = one.stat(follow_symlinks=False), Path(one.path)
            kind = "file" if stat.S_ISREG(status.st_mode) else "link" if one.is_symlink() else "other"
            if stat.S_ISDIR(status.st_mode):
                waiting.append(path)
                kind = "folder"
            yield Entry(
                path.relative_to(root).as_posix(), status.st_size, status.st_size, kind, _opener(path)
            )


def _opener(path: Path) -> Callable[[], Any]:
    # O_NOFOLLOW and O_NONBLOCK: what was a file when it was listed may be a link or a pipe by now
    return lambda: os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb")


def _plain(name: str) -> str:
    while name.startswith("./"):
        name = name[2:]
    return name.rstrip("/")


def _accept(entries: list[Entry], problems: Problems) -> tuple[dict[str, int], set[str]]:
    """Sizes of the files that may be read, and the names of what a problem was noted for."""
    accepted: dict[str, int] = {}
    refused: set[str] = set()
    for entry in entries:
        name = _plain(entry.name)
        if entry.kind == "folder" and name in ("", "."):
            continue
        if problem := _problem(entry, name):
            problems.add(problem.code, entry.name, problem.what)
            refused.add(name)
        elif entry.kind == "file":
            accepted[name] = entry.size
    return accepted, refused


def _problem(entry: Entry, name: str) -> Refused | None:
    if reason := _unsafe(name, entry.kind):
        return Refused("AF010", reason)
    if entry.kind not in ("file", "folder"):
        return Refused("AF008", entry.kind)
    if entry.size > SMALL and entry.size > RATIO * entry.packed:
        return Refused("AF011", f"{entry.packed} bytes claim to unfold to {entry.size}")
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
    """The single folder around everything, if there is one and the manifest is in it."""
    tops = {name.split("/")[0] for name in accepted}
    top = f"{next(iter(tops))}/" if len(tops) == 1 else ""
    return top if top and MANIFEST not in accepted and f"{top}{MANIFEST}" in accepted else ""


def _refuse_doubles(
    names: list[str], sizes: dict[str, int], problems: Problems, is_sample: Callable[[str], bool]
) -> set[str]:
    """Take names that are one on some file systems out of ``sizes`` and return them; folders count by their files."""
    refused: set[str] = set()
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
            refused |= set(group)
    return refused
