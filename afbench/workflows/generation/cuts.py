"""Where a split is cut into shards, and what their files are called, also where a folder grew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from afbench.storage.config_manifest import SplitManifest
from afbench.storage.shards import cut_ids, shard_path


class Stage(NamedTuple):
    """The first ``samples`` of a split, as the folder held them before it grew, in shards of ``shard_size``."""

    samples: int
    shard_size: int


class Cut(NamedTuple):
    """The sample ids of one shard, and where it stands: in which stage, at which place ``of`` how many."""

    ids: Sequence[str]
    stage: int
    number: int
    of: int


def cut_stages(ids: Sequence[str], stages: Sequence[Stage], pixels: Mapping[str, int]) -> list[Cut]:
    """Cut every stage by itself, so that the shards of an earlier one stay what they are; the last one is all ``ids``."""
    cuts: list[Cut] = []
    first = 0
    for number, stage in enumerate(stages):
        shards = cut_ids(ids[first : stage.samples], stage.shard_size, pixels)
        cuts += [Cut(shard, number, place, len(shards)) for place, shard in enumerate(shards)]
        first = stage.samples
    return cuts


def cut_path(config: str, split: str, cut: Cut) -> str:
    """``data/<config>/<split>-00000-of-00001.parquet``, and ``<split>.grown1-...`` of what came when it first grew.

    Another name, for readers of the folder find its files by ``<split>-*`` until the list of files says that it has grown.
    """
    name = f"{split}.grown{cut.stage}" if cut.stage else split
    return shard_path(config, name, cut.number, cut.of)


def stages_of(fixed: SplitManifest) -> list[Stage]:
    """Every stage of a split, from what a folder has fixed of it; the last is the split itself."""
    earlier = [Stage(int(one["samples"]), int(one["shard_size"])) for one in fixed.grown_from]
    return [*earlier, Stage(fixed.samples, fixed.shard_size)]
