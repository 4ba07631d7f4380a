"""Known faults of a release: names corrected later, photographs that are there twice, images without a usable mask."""

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
    """A sample that is unusable in the release itself: the reason for its exclusion, and a detail."""

    reason: str
    detail: str


@lru_cache(maxsize=32)
def renames(source: str) -> Mapping[str, str]:
    """Return corrected stems by released stem in lower case; {} for a source without any."""
    return MappingProxyType({row["original"].lower(): row["corrected"] for row in _rows(source, "renames")})


@lru_cache(maxsize=32)
def duplicates(source: str) -> Mapping[str, str]:
    """Return the first stem of a photograph that is there twice by its second stem, both in lower case."""
    return MappingProxyType(
        {row["second"].lower(): row["first"].lower() for row in _rows(source, "duplicates")}
    )


@lru_cache(maxsize=32)
def known_exclusions(source: str) -> Mapping[str, ReleaseFault]:
    """Return the samples that any copy of a release excludes, by sample id; a repaired copy may include them."""
    return MappingProxyType(
        {row["sample_id"]: ReleaseFault(row["reason"], row["detail"]) for row in _rows(source, "known")}
    )


def explain_known_exclusions(samples: Iterable[IndexRecord], source: str) -> list[IndexRecord]:
    """Mark the exclusions that are faults of the release, so that nobody looks for them in their own copy."""
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
