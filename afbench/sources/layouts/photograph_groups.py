"""Group the samples that share a photograph, so that a split by group has no photograph on both sides."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def group_photographs(links: Iterable[Sequence[str]]) -> dict[str, str]:
    """Name the group of every photograph: the first name of all photographs that are linked, directly or through others.

    A splice links its two photographs. If a group held only one of them, the other could be on both sides of a split.
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
