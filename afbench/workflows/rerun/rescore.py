"""``verify --deep``: run the localizers over the stored images, and compare with the scores in the rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from afbench.core import AfbenchError, Localizer, UsageError
from afbench.defences.defended_localizer import undefended
from afbench.engine import judge, judge_samples
from afbench.metrics import Counts, f1, iou
from afbench.plans import canonical_json
from afbench.storage.manifests import Benchmark, open_benchmark
from afbench.storage.problem import Problem
from afbench.storage.shards import read_shards
from afbench.storage.stored_pixels import stored_picture

from .recorded_run import (
    LocalizerSource,
    computing_like,
    has_same_software,
    localizer_loader,
    read_recorded_run,
    stored_samples,
)

_PIXELS_PER_CHANGE = 1000
"""Other versions, threads or devices may move one pixel in this many across the threshold."""


@dataclass
class _OriginalCounts:
    """The counts of the originals that were scored last: the configs of a shard share their originals."""

    key: str = ""
    counts: Sequence[Counts] = ()


@dataclass(frozen=True)
class Rescored:
    """What scoring again found: problems, rows scored, and by config the reason why it was left out."""

    problems: list[Problem] = field(default_factory=list)
    rows: int = 0
    left_out: Mapping[str, str] = field(default_factory=dict)


def rescore(
    folder: Path,
    *,
    localizer_source: LocalizerSource = LocalizerSource(),  # noqa: B008 - frozen
    advance: Callable[[int], None] = lambda rows: None,
) -> Rescored:
    """Score every stored image again and compare tp, fp, fn, tn, and F1 and IoU of the originals, with its row.

    The numbers must be equal if the same versions run with the threads of the log; otherwise one pixel in 1000 may
    differ. Configs whose localizer is not available are left out, and the result names them.

    Args:
        folder: a benchmark whose pixels were checked.
        localizer_source: where a localizer comes from if the folder can't tell.
        advance: called with the number of rows just scored.
    """
    benchmark = open_benchmark(folder)
    problems: list[Problem] = []
    left_out: dict[str, str] = {}
    rows = 0
    load, cache = localizer_loader(localizer_source), _OriginalCounts()
    localizers: dict[str, Localizer] = {}
    for config, manifest in benchmark.attacked.items():
        try:
            localizers[config] = load(config, manifest.provenance, localizer_source.device or "cpu")
        except UsageError as error:
            left_out[config] = str(error)
    shards = [
        (split, number, config, shard.rows)
        for config in localizers
        for split, part in benchmark.attacked[config].splits.items()
        for number, shard in enumerate(part.shards)
    ]
    # shard by shard, so that all configs of a shard use one scoring of its originals
    for split, number, config, count in sorted(shards, key=lambda key: key[:2]):
        rows += count
        problems += _check_shard(
            benchmark, config, split, number, localizers[config], localizer_source, cache
        )
        advance(count)
    return Rescored(problems, rows, left_out)


def _check_shard(
    benchmark: Benchmark,
    config: str,
    split: str,
    number: int,
    localizer: Localizer,
    localizer_source: LocalizerSource,
    cache: _OriginalCounts,
) -> Iterator[Problem]:
    manifest = benchmark.attacked[config]
    part = manifest.splits[split]
    shard = part.shards[number]
    path = shard.path
    recorded_run = read_recorded_run(benchmark.folder, config, split, number)
    is_exact = has_same_software(part, shard, recorded_run) and recorded_run.device == (
        localizer_source.device or "cpu"
    )
    # level L2 promises no equal bytes, and so no equal counts
    is_exact = is_exact and shard.determinism != "L2"
    recorded_run = replace(recorded_run, device=localizer_source.device or "cpu")
    rows = list(read_shards(benchmark.folder, [shard]))
    samples = {sample.sample_id: sample for sample in stored_samples(benchmark, split, number)}
    attacked_samples = [samples[row["sample_id"]] for row in rows]
    masks = [sample.mask for sample in attacked_samples]
    settings: dict[str, Any] = {"batch_size": recorded_run.batch_size, "device": recorded_run.device}
    try:
        with computing_like(manifest.provenance, recorded_run):
            key_parts = (
                manifest.provenance["localizer"],
                manifest.provenance["precision"],
                manifest.provenance.get("compile"),
                split,
                number,
                recorded_run.threads,
            )
            key = canonical_json([*key_parts, recorded_run.batch_size])
            if cache.key != key:
                # all originals, also those an attack failed on: the batch composition may move a float32 result
                originals = list(samples.values())
                results = judge_samples(undefended(localizer), originals, **settings)
                cache.key, cache.counts = key, [sample.counts for sample in results]
            attacked_results = judge(
                localizer, [stored_picture(benchmark.folder, row) for row in rows], masks, **settings
            )
    except AfbenchError as error:
        yield Problem(path, f"cannot be scored again: {error}")
        return
    counts_by_id = dict(zip(samples, cache.counts, strict=True))
    for row, result in zip(rows, attacked_results, strict=True):
        tolerance = 0 if is_exact else result.predicted.size // _PIXELS_PER_CHANGE + 1
        for key, value in result.counts._asdict().items():
            if abs(row[key] - value) > tolerance:
                yield Problem(path, f"{row['sample_id']}: {key} is {row[key]}; scored again it is {value}")
        counts = counts_by_id[row["sample_id"]]
        for key, figure in (("f1_clean", f1(counts)), ("iou_clean", iou(counts))):
            if not _close(row[key], figure, 0.0 if is_exact else 0.01):
                yield Problem(path, f"{row['sample_id']}: {key} is {row[key]}; scored again it is {figure}")


def _close(stored: float | None, value: float, tolerance: float) -> bool:
    if stored is None or math.isnan(value):  # where nothing is forged
        return stored is None and math.isnan(value)
    return abs(stored - value) <= tolerance
