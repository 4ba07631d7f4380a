"""The fixed list of samples of every source, cut into shards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from afbench.core import Source, UsageError
from afbench.plan import RunPlan
from afbench.sources import open_source
from afbench.storage.folder import has_records, read_header
from afbench.storage.manifests import ids_sha256, read_configs

from .provenance import difference

DEFAULT_SHARD_SIZE = 64


@dataclass(frozen=True)
class Split:
    """A source's samples in shards; ``shard_size`` is the number of ids in all but the last."""

    source: Source
    shard_size: int

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def shards(self) -> list[Sequence[str]]:
        ids, size = self.source.ids, self.shard_size
        return [ids[first : first + size] for first in range(0, len(ids), size)]

    def identity(self) -> dict[str, Any]:
        """What must not change as long as a folder holds this split."""
        return {
            "source_sha256": self.source.sha256,
            "ids_sha256": ids_sha256(self.source.ids),
            "samples": len(self.source.ids),
            "shard_size": self.shard_size,
            "terms": self.source.terms,
        }


def open_splits(plan: RunPlan, out: Path, shard_size: int | None) -> dict[str, Split]:
    """Open every source of a plan, cut as the folder has it already where it does.

    Raises:
        UsageError: if a source cannot be opened.
    """
    roots = {source.name: source.root for block in plan.blocks for source in block.sources}
    found = {}
    for name, root in roots.items():
        source = open_source(name, root, seed=plan.seed, limit=plan.limit)
        before = _held(out, name)
        found[name] = Split(
            source, shard_size or (int(before["shard_size"]) if before else DEFAULT_SHARD_SIZE)
        )
    return found


def check_splits(out: Path, splits: Mapping[str, Split]) -> None:
    """Refuse originals that differ from what the folder holds.

    Raises:
        UsageError: with the difference.
    """
    for name, split in splits.items():
        before = _held(out, name)
        if before:
            changed = difference({key: before.get(key) for key in split.identity()}, split.identity())
            if changed:
                raise UsageError(
                    f"'{out}' holds other originals of '{name}' ({'; '.join(changed)}); "
                    "use the same --limit, --seed, --shard-size and files, or another --out"
                )


def _held(out: Path, name: str) -> Mapping[str, Any] | None:
    """What the folder has fixed of a split: published, or begun."""
    published: Mapping[str, Any] | None = read_configs(out).get("clean", {}).get("splits", {}).get(name)
    return published or (read_header(out, f"clean.{name}") if has_records(out, split=name) else None)
