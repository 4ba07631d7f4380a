"""``verify --deep``: run the localizers over what is stored, and compare with the scores the rows carry."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from afbench.core import AfbenchError, Localizer, UsageError
from afbench.defences.defended_localizer import undefended
from afbench.engine import judge
from afbench.images import decode_stored
from afbench.metrics import Counts, f1, iou
from afbench.plan import canonical_json
from afbench.storage.manifests import Benchmark, open_benchmark
from afbench.storage.problem import Problem
from afbench.storage.shards import read_rows

from .replay import (
    Recipe,
    computing_like,
    localizers_of,
    read_launch,
    same_surroundings,
    stored_samples,
)

_SLACK = 1000
"""One in so many pixels may fall on the other side of the threshold under other versions, threads or devices."""


@dataclass
class _Cache:
    """What the localizer says of the originals that were looked at last; the configs of a shard share them."""

    key: str = ""
    counts: Sequence[Counts] = ()


@dataclass(frozen=True)
class Rescored:
    """What re-scoring found: problems, rows looked at, and configs left out with the reason."""

    problems: list[Problem] = field(default_factory=list)
    rows: int = 0
    left_out: Mapping[str, str] = field(default_factory=dict)


def rescore(
    folder: Path,
    *,
    recipe: Recipe = Recipe(),  # noqa: B008 - frozen
    advance: Callable[[int], None] = lambda rows: None,
) -> Rescored:
    """Score every stored image again and compare tp, fp, fn, tn, and F1 and IoU of the originals, with its row.

    Where the same versions run with the threads of the log the numbers must be equal; elsewhere one pixel in 1000
    may differ. Configs whose localizer is not at hand are left out by name.

    Args:
        folder: a benchmark whose pixels were checked.
        recipe: where a localizer comes from if the folder cannot know.
        advance: told how many rows were just scored.
    """
    benchmark = open_benchmark(folder)
    problems: list[Problem] = []
    left_out: dict[str, str] = {}
    rows = 0
    load, cache = localizers_of(recipe), _Cache()
    localizers: dict[str, Localizer] = {}
    for config, manifest in benchmark.attacked.items():
        try:
            localizers[config] = load(config, manifest.provenance, recipe.device or "cpu")
        except UsageError as error:
            left_out[config] = str(error)
    shards = [
        (split, number, config, shard.rows)
        for config in localizers
        for split, part in benchmark.attacked[config].splits.items()
        for number, shard in enumerate(part.shards)
    ]
    # shard by shard, so that the configs of one share what is said of its originals
    for split, number, config, count in sorted(shards, key=lambda one: one[:2]):
        rows += count
        problems += _check_shard(benchmark, config, split, number, localizers[config], recipe, cache)
        advance(count)
    return Rescored(problems, rows, left_out)


def _check_shard(
    benchmark: Benchmark,
    config: str,
    split: str,
    number: int,
    localizer: Localizer,
    recipe: Recipe,
    cache: _Cache,
) -> Iterator[Problem]:
    manifest = benchmark.attacked[config]
    part = manifest.splits[split]
    shard = part.shards[number]
    path = shard.path
    launch = read_launch(benchmark.folder, config, split, number)
    exact = same_surroundings(part, shard, launch) and launch.device == (recipe.device or "cpu")
    exact = exact and shard.determinism != "L2"
    launch = replace(launch, device=recipe.device or "cpu")
    rows = list(read_rows(benchmark.folder, [path]))
    samples = {sample.sample_id: sample for sample in stored_samples(benchmark, split, number)}
    chosen = [samples[row["sample_id"]] for row in rows]
    masks = [sample.mask for sample in chosen]
    settings: dict[str, Any] = {"batch_size": launch.batch_size, "device": launch.device}
    try:
        with computing_like(manifest.provenance, launch):
            about = (
                manifest.provenance["localizer"],
                manifest.provenance["precision"],
                manifest.provenance.get("compile"),
                split,
                number,
                launch.threads,
            )
            key = canonical_json([*about, launch.batch_size])
            if cache.key != key:
                # in the company the originals were judged in: the samples an attack failed on too
                every = list(samples.values())
                judged = judge(
                    undefended(localizer),
                    [one.image for one in every],
                    [one.mask for one in every],
                    **settings,
                )
                cache.key, cache.counts = key, [one.counts for one in judged]
            after = judge(localizer, [decode_stored(row["image"]) for row in rows], masks, **settings)
    except AfbenchError as error:
        yield Problem(path, f"cannot be scored again: {error}")
        return
    before = dict(zip(samples, cache.counts, strict=True))
    for row, now in zip(rows, after, strict=True):
        slack = 0 if exact else now.predicted.size // _SLACK + 1
        for key, value in now.counts._asdict().items():
            if abs(row[key] - value) > slack:
                yield Problem(path, f"{row['sample_id']}: {key} is {row[key]}; scored again it is {value}")
        counts = before[row["sample_id"]]
        for key, figure in (("f1_clean", f1(counts)), ("iou_clean", iou(counts))):
            if not _close(row[key], figure, 0.0 if exact else 0.01):
                yield Problem(path, f"{row['sample_id']}: {key} is {row[key]}; scored again it is {figure}")


def _close(stored: float | None, value: float, slack: float) -> bool:
    if stored is None or math.isnan(value):  # where nothing is forged
        return stored is None and math.isnan(value)
    return abs(stored - value) <= slack
