"""Whose pixels a folder holds, and who may have them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from .manifests import ORIGINALS, shard_paths
from .shards import read_rows

ALLOWED, UNCLEAR, FORBIDDEN = "allowed", "unclear", "forbidden"


RESIDUAL_LEVELS = 16
"""Largest change of a pixel, in levels, of residuals that do not give their originals away (measured: docs/storage.md)."""


class Revealing(NamedTuple):
    """Residuals of a source whose changes are so large that they show its pixels."""

    source: str
    config: str
    levels: int


def revealing(
    folder: Path, configs: Mapping[str, Mapping[str, Any]], sources: Iterable[str]
) -> list[Revealing]:
    """Find the attacked configs whose rows of some sources were changed by more than ``RESIDUAL_LEVELS``.

    The rows decide, not the settings: C&W and attacks of other libraries have no phi.
    """
    configs_above = []
    for source in sorted(sources):
        for name, manifest in configs.items():
            if name not in ORIGINALS and source in manifest["splits"]:
                rows = read_rows(folder, shard_paths(manifest, source), ("linf",))
                levels = max((row["linf"] or 0 for row in rows), default=0)
                if levels > RESIDUAL_LEVELS:
                    configs_above.append(Revealing(source, name, levels))
    return configs_above


def hidden_sources(configs: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Sources of an archive that do not plainly allow sharing and whose originals it lacks, each with its word."""
    return {
        source: split.get("redistribution", UNCLEAR)
        for name in ORIGINALS
        for source, split in configs.get(name, {"splits": {}})["splits"].items()
        if split.get("redistribution", UNCLEAR) != ALLOWED and _without_pixels(configs, name, source)
    }


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
