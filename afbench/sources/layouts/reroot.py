"""Absolute paths that a list brought from another machine, read below this machine's root where their tails are there."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

ABSOLUTE = re.compile(r"[/\\]|[A-Za-z]:[/\\]")
MAX_LOOKED_AT = 200
"""Names of a list that decide; they are spread over all of it."""


def foreign_prefix(names: Sequence[str], is_file: Callable[[str], bool]) -> str:
    """What to take off the absolute ones of some names so that as many as can be are files below the root.

    One prefix for all of them, so that no name finds another's file by its last part alone; the shortest of several.

    Returns:
        The prefix as written, with its last slash, or "" where no tail is there.
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
    """A name as a path below the root if it begins with the prefix, else as it is."""
    forward = _forward(name)
    return forward[len(prefix) :] if prefix and forward.startswith(prefix) else name


def _forward(name: str) -> str:
    return name.replace("\\", "/")


def _prefixes(names: Sequence[str]) -> list[str]:
    """Every folder above any of the names, the shortest first."""
    folders = {
        name[: position + 1] for name in names for position, letter in enumerate(name) if letter == "/"
    }
    return sorted(folders, key=lambda folder: (len(folder), folder))
