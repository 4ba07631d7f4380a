"""Cut a split into shards and name their files, also for a folder that has grown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from afbench.core import ShardFormat
from afbench.storage.config_manifest import SplitManifest
from afbench.storage.shards import cut_ids, shard_path


class GrowthStage(NamedTuple):
    """A size the split had before it grew: its first ``samples``, in shards of ``shard_size``."""

    samples: int
    shard_size: int


class Cut(NamedTuple):
    """The sample ids of one shard, the growth stage it came in, and its ``number`` among the ``shards`` of that stage."""

    ids: Sequence[str]
    stage: int
    number: int
    shards: int


def cut_stages(ids: Sequence[str], stages: Sequence[GrowthStage], pixels: Mapping[str, int]) -> list[Cut]:
    """Cut each stage by itself, so that shards of earlier stages do not change; the last stage ends with all ``ids``."""
    cuts: list[Cut] = []
    first = 0
    for number, stage in enumerate(stages):
        shards = cut_ids(ids[first : stage.samples], stage.shard_size, pixels)
        cuts += [Cut(shard, number, position, len(shards)) for position, shard in enumerate(shards)]
        first = stage.samples
    return cuts


def cut_path(config: str, split: str, cut: Cut, shard_format: ShardFormat) -> str:
    """Return ``data/<config>/<split>-00000-of-00001.parquet``, or ``<split>.grown1-...`` for shards of its first growth.

    Shards of a growth have another name because readers find files by ``<split>-*`` until the list of files includes them.
    """
    name = f"{split}.grown{cut.stage}" if cut.stage else split
    return shard_path(config, name, cut.number, cut.shards, shard_format)


def stages_of(split_manifest: SplitManifest) -> list[GrowthStage]:
    """Return the growth stages of a split as the folder has them; the last stage is the whole split."""
    earlier = [
        GrowthStage(int(stage["samples"]), int(stage["shard_size"])) for stage in split_manifest.grown_from
    ]
    return [*earlier, GrowthStage(split_manifest.samples, split_manifest.shard_size)]
