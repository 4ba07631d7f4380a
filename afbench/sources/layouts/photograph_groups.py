"""Which samples share a photograph, so that a split by group leaks none from one side to the other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def group_photographs(links: Iterable[Sequence[str]]) -> dict[str, str]:
    """Name the group of every photograph: the first in order of names of all that are linked, however far apart.

    A splice links its two photographs; a group named after one of them alone would leave the other on both sides.
    """
    parent: dict[str, str] = {}

    def first(name: str) -> str:
        while parent.setdefault(name, name) != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for link in links:
        for name in link:
            low, high = sorted((first(link[0]), first(name)))
            parent[high] = low
    return {name: first(name) for name in sorted(parent)}
