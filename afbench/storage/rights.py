"""Whose pixels a folder holds, and who may have them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from .manifests import ORIGINALS

ALLOWED, UNCLEAR, FORBIDDEN = "allowed", "unclear", "forbidden"


class Rights(NamedTuple):
    """Sources whose pixels a folder holds and that do not plainly allow sharing them, each with its terms."""

    forbidden: Mapping[str, str]
    unclear: Mapping[str, str]


def pixel_rights(configs: Mapping[str, Mapping[str, Any]]) -> Rights:
    """Find the restricted sources of a folder's configs; what says nothing of itself is unclear.

    An archive of residuals without originals holds nobody's pixels, and therefore has none.
    """
    found: dict[str, dict[str, str]] = {FORBIDDEN: {}, UNCLEAR: {}}
    for name in ORIGINALS:
        for source, split in configs.get(name, {"splits": {}})["splits"].items():
            said = split.get("redistribution", UNCLEAR)
            if said != ALLOWED and not _without_pixels(configs, name, source):
                found[FORBIDDEN if said == FORBIDDEN else UNCLEAR][source] = str(
                    split.get("terms", "unknown")
                )
    return Rights(found[FORBIDDEN], found[UNCLEAR])


def _without_pixels(configs: Mapping[str, Mapping[str, Any]], originals: str, source: str) -> bool:
    if _content(configs[originals]["splits"][source]) != "none":
        return False
    attacked = [
        manifest["splits"][source]
        for name, manifest in configs.items()
        if name not in ORIGINALS and source in manifest["splits"]
    ]
    return all(_content(split) == "residuals" for split in attacked)


def _content(split: Mapping[str, Any]) -> str | None:
    """What the shards of an archive hold; None of a benchmark, whose shards hold images."""
    found = split.get("archive")
    return str(found.get("content")) if isinstance(found, Mapping) else None
