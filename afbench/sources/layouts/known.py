"""What is known to be wrong in a release: names corrected later, doubled photographs, images without a usable mask."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

from afbench.shipped import shipped, shipped_json
from afbench.sources.entry import Entry


class Known(NamedTuple):
    """A sample that its own release spoils: the reason for its exclusion, and what was found."""

    reason: str
    detail: str


@lru_cache(maxsize=32)
def renames(source: str) -> Mapping[str, str]:
    """Corrected stems by released stem, in lower case; {} for a source without any."""
    return MappingProxyType({row["original"].lower(): row["corrected"] for row in _rows(source, "renames")})


@lru_cache(maxsize=32)
def duplicates(source: str) -> Mapping[str, str]:
    """The stem under which a photograph comes first by the one under which it comes again, in lower case."""
    return MappingProxyType(
        {row["second"].lower(): row["first"].lower() for row in _rows(source, "duplicates")}
    )


@lru_cache(maxsize=32)
def known_exclusions(source: str) -> Mapping[str, Known]:
    """What anyone's copy of a release is expected to exclude, by sample id; a repaired copy may not."""
    return MappingProxyType(
        {row["sample_id"]: Known(row["reason"], row["detail"]) for row in _rows(source, "known")}
    )


def explain(entries: Iterable[Entry], source: str) -> list[Entry]:
    """Add to a problem of the release itself that it is known, so that nobody searches their own copy."""
    known = known_exclusions(source)
    return [
        replace(entry, detail=f"known of this release: {known[entry.sample_id].detail}")
        if entry.sample_id in known and known[entry.sample_id].reason == entry.problem
        else entry
        for entry in entries
    ]


def _rows(source: str, table: str) -> list[dict[str, str]]:
    name = shipped_json("sources").get(source, {}).get(table)
    if not name:
        return []
    with shipped(f"manifests/sources/{name}").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))
