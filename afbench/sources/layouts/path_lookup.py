"""Look up the paths that a table or a list names among the files below a root; no path may lead out of it."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable


def path_below_root(base: str, name: str) -> str | None:
    """Return a path that is named relative to the folder ``base`` as a path relative to the root.

    Args:
        base: a folder, relative to the root.
        name: the path as a table or a list names it.
    Returns:
        None if the path leaves the root, or is absolute on any system.
    """
    path = name.replace("\\", "/")
    if not path or path.startswith("/") or re.match(r"[A-Za-z]:", path) or "\0" in path:
        return None
    joined = posixpath.normpath(posixpath.join(base, path))
    return None if joined in (".", "..") or joined.startswith("../") else joined


class PathLookup:
    """Files to look up by path, first in the same case, then in any; or by file name alone."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._exact = frozenset(paths)
        self._folded: dict[str, list[str]] = {}
        self._by_name: dict[str, list[str]] = {}
        for path in sorted(self._exact):
            self._folded.setdefault(path.lower(), []).append(path)
            self._by_name.setdefault(_last(path), []).append(path)

    def find(self, path: str) -> list[str]:
        """Return the file of this path, or else those whose path differs in case only."""
        return [path] if path in self._exact else self._folded.get(path.lower(), [])

    def find_by_name(self, path: str) -> list[str]:
        """Return the files in any folder that have this path's file name, in any case."""
        return self._by_name.get(_last(path), [])


def _last(path: str) -> str:
    return path.rpartition("/")[2].lower()
