"""Find whose pixels a folder holds, and whether they may be shared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from .config_manifest import ConfigManifest, SplitManifest
from .manifests import ORIGINALS, shards_of, splits_of
from .shards import read_shards

ALLOWED, UNCLEAR, FORBIDDEN = "allowed", "unclear", "forbidden"


RESIDUAL_LEVELS = 16
"""Largest change of a pixel, in levels, of residuals that do not give their originals away (measured: docs/storage.md)."""


class Revealing(NamedTuple):
    """Residuals of a source whose changes are so large that they show its pixels."""

    source: str
    config: str
    levels: int


def revealing(folder: Path, configs: Mapping[str, ConfigManifest], sources: Iterable[str]) -> list[Revealing]:
    """Find the attacked configs whose rows of some sources were changed by more than ``RESIDUAL_LEVELS``.

    The rows decide, not the settings: C&W and attacks of other libraries have no phi.
    """
    configs_above = []
    for source in sorted(sources):
        for name, manifest in configs.items():
            if name not in ORIGINALS and source in manifest.splits:
                rows = read_shards(folder, shards_of(manifest, source), ("linf",))
                levels = max((row["linf"] or 0 for row in rows), default=0)
                if levels > RESIDUAL_LEVELS:
                    configs_above.append(Revealing(source, name, levels))
    return configs_above


def hidden_sources(configs: Mapping[str, ConfigManifest]) -> dict[str, str]:
    """Find the sources of an archive that do not plainly allow sharing and whose originals it lacks, each with its word."""
    return {
        source: (split.redistribution or UNCLEAR)
        for name in ORIGINALS
        for source, split in splits_of(configs, name).items()
        if (split.redistribution or UNCLEAR) != ALLOWED and _without_pixels(configs, name, source)
    }


class Rights(NamedTuple):
    """Sources whose pixels a folder holds and that do not plainly allow sharing them, each with its terms."""

    forbidden: Mapping[str, str]
    unclear: Mapping[str, str]


def pixel_rights(configs: Mapping[str, ConfigManifest]) -> Rights:
    """Find the restricted sources of a folder's configs; a source without a word on sharing is unclear.

    An archive of residuals without originals holds nobody's pixels, and therefore has none.
    """
    terms_by_word: dict[str, dict[str, str]] = {FORBIDDEN: {}, UNCLEAR: {}}
    for name in ORIGINALS:
        for source, split in splits_of(configs, name).items():
            word = split.redistribution or UNCLEAR
            if word != ALLOWED and not _without_pixels(configs, name, source):
                terms_by_word[FORBIDDEN if word == FORBIDDEN else UNCLEAR][source] = str(
                    "unknown" if split.terms is None else split.terms
                )
    return Rights(terms_by_word[FORBIDDEN], terms_by_word[UNCLEAR])


def _without_pixels(configs: Mapping[str, ConfigManifest], originals: str, source: str) -> bool:
    if _content(configs[originals].splits[source]) != "none":
        return False
    # attacked images are copies of their originals, so they hold the pixels too
    attacked = [
        manifest.splits[source]
        for name, manifest in configs.items()
        if name not in ORIGINALS and source in manifest.splits
    ]
    return all(_content(split) == "residuals" for split in attacked)


def _content(split: SplitManifest) -> str | None:
    """Return what the shards of an archive hold; None for a benchmark, whose shards hold images."""
    return None if split.archive is None else str(split.archive.get("content"))
