"""What is known to be wrong in a release: names corrected later, doubled photographs, images without a usable mask."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from afbench.resources import resource_json, resource_path

if TYPE_CHECKING:
    from afbench.sources.index_records import IndexRecord


class ReleaseFault(NamedTuple):
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
def known_exclusions(source: str) -> Mapping[str, ReleaseFault]:
    """What anyone's copy of a release is expected to exclude, by sample id; a repaired copy may not."""
    return MappingProxyType(
        {row["sample_id"]: ReleaseFault(row["reason"], row["detail"]) for row in _rows(source, "known")}
    )


def explain_known_exclusions(samples: Iterable[IndexRecord], source: str) -> list[IndexRecord]:
    """Say of an exclusion by the release's own fault that it is known, so that nobody searches their own copy."""
    exclusions = known_exclusions(source)
    return [
        replace(sample, detail=f"known of this release: {exclusions[sample.id].detail}")
        if sample.id in exclusions and exclusions[sample.id].reason == sample.reason
        else sample
        for sample in samples
    ]


def _rows(source: str, table: str) -> list[dict[str, str]]:
    name = resource_json("sources").get(source, {}).get(table)
    if not name:
        return []
    with resource_path(f"manifests/sources/{name}").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))
