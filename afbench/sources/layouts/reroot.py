"""Read absolute paths of another machine below this machine's root, by removing their first folders."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

ABSOLUTE = re.compile(r"[/\\]|[A-Za-z]:[/\\]")
MAX_LOOKED_AT = 200
"""Names of a list that are tried; they are spread evenly over it."""


def foreign_prefix(names: Sequence[str], is_file: Callable[[str], bool]) -> str:
    """Find the prefix without which most absolute names are files below the root; of several, the shortest.

    All names get the same prefix, so that no name finds the file of another by its last part alone.

    Returns:
        The prefix with its last slash, or "" if no name is a file that way.
    """
    absolute = [_forward(name) for name in names if ABSOLUTE.match(name)]
    sampled = absolute[:: max(1, len(absolute) // MAX_LOOKED_AT)]
    best_prefix, most_hits = "", 0
    for prefix in _prefixes(sampled):
        hits = sum(name.startswith(prefix) and is_file(name[len(prefix) :]) for name in sampled)
        if hits > most_hits:
            best_prefix, most_hits = prefix, hits
    return best_prefix


def without_prefix(name: str, prefix: str) -> str:
    """Remove a prefix from a name that begins with it; return other names as they are."""
    forward = _forward(name)
    return forward[len(prefix) :] if prefix and forward.startswith(prefix) else name


def _forward(name: str) -> str:
    return name.replace("\\", "/")


def _prefixes(names: Sequence[str]) -> list[str]:
    """List the folders above the names, the shortest first."""
    folders = {
        name[: position + 1] for name in names for position, letter in enumerate(name) if letter == "/"
    }
    return sorted(folders, key=lambda folder: (len(folder), folder))
