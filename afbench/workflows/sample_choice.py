"""Choose the samples that a picture of a benchmark shows, and read their rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from afbench.core import UsageError
from afbench.naming import did_you_mean
from afbench.storage.manifests import CLEAN, Benchmark, shards_of
from afbench.storage.shards import read_shards


class SampleChoice(NamedTuple):
    """Samples of one split, in the order the picture shows them."""

    split: str
    ids: Sequence[str]


def choose_samples(
    benchmark: Benchmark,
    configs: Sequence[str],
    *,
    names: Sequence[str] = (),
    split: str | None = None,
    count: int = 1,
) -> SampleChoice:
    """Choose the named samples, or ``count`` samples spread over the F1 of the originals, lowest first.

    Args:
        benchmark: a finished one.
        configs: attacked configs that the picture shows; the first one's rows have the F1 of the originals.
        names: sample ids; all of one split.
        split: a source id; None for the one that has the samples, or the first.
        count: samples to choose if none is named; 1 chooses the median.
    Raises:
        UsageError: if the benchmark doesn't have the split or a sample.
    """
    splits = list(benchmark.configs[CLEAN].splits)
    if split is not None and split not in splits:
        raise UsageError(f"split '{split}' is not in '{benchmark.folder}'; its splits: {', '.join(splits)}")
    if names:
        return _named(benchmark, list(dict.fromkeys(names)), [split] if split else splits)
    split = split or splits[0]
    rows = [
        row
        for name in configs[:1]
        if split in benchmark.configs[name].splits
        for row in _read_columns(benchmark, name, split, ("sample_id", "f1_clean"))
    ] or [{**row, "f1_clean": None} for row in _read_columns(benchmark, CLEAN, split, ("sample_id",))]
    # without an attacked config no original has an F1, and the ids alone sort
    rows = [row for row in rows if row["f1_clean"] is not None] or rows
    sorted_ids = [
        row["sample_id"] for row in sorted(rows, key=lambda row: (row["f1_clean"] or 0, row["sample_id"]))
    ]
    return SampleChoice(split, _spread(sorted_ids, count))


def _named(benchmark: Benchmark, names: Sequence[str], splits: Sequence[str]) -> SampleChoice:
    ids = {
        split: [row["sample_id"] for row in _read_columns(benchmark, CLEAN, split, ("sample_id",))]
        for split in splits
    }
    for split, split_ids in ids.items():
        if {*names} <= {*split_ids}:
            return SampleChoice(split, names)
    all_ids = [name for split_ids in ids.values() for name in split_ids]
    if missing := [name for name in names if name not in all_ids]:
        suggestion = did_you_mean("sample", missing[0], all_ids)
        scope = f"split '{splits[0]}' of " if len(splits) == 1 else ""
        raise UsageError(
            f"--sample '{missing[0]}' is not in {scope}'{benchmark.folder}'; {suggestion}"
            f"it begins with {', '.join(all_ids[:3])}"
        )
    name_splits = [
        f"'{name}' is of {next(split for split in splits if name in ids[split])}" for name in names
    ]
    raise UsageError(f"--sample takes samples of one split; {', '.join(name_splits[:4])}")


def _spread(sorted_ids: Sequence[str], count: int) -> list[str]:
    """Take ``count`` ids at even distances, from the first to the last; if ``count`` is 1, the middle one."""
    if count == 1:
        return list(sorted_ids[len(sorted_ids) // 2 :][:1])
    last = len(sorted_ids) - 1
    return [
        sorted_ids[index] for index in sorted({round(number * last / (count - 1)) for number in range(count)})
    ]


def read_chosen_rows(
    benchmark: Benchmark, config: str, choice: SampleChoice
) -> Mapping[str, Mapping[str, Any]]:
    """Read the full rows of the chosen samples in a config, by id; a sample that the config excludes is missing."""
    manifest = benchmark.configs[config]
    if choice.split not in manifest.splits:
        return {}
    rows_by_id = {}
    for shard in shards_of(manifest, choice.split):
        ids = {row["sample_id"] for row in read_shards(benchmark.folder, [shard], ("sample_id",))}
        if ids & {*choice.ids}:  # images are large: read those of a shard only if it has a chosen sample
            rows = read_shards(benchmark.folder, [shard])
            rows_by_id.update({row["sample_id"]: row for row in rows if row["sample_id"] in choice.ids})
    return {name: rows_by_id[name] for name in choice.ids if name in rows_by_id}


def _read_columns(
    benchmark: Benchmark, config: str, split: str, columns: Sequence[str]
) -> list[dict[str, Any]]:
    return list(read_shards(benchmark.folder, shards_of(benchmark.configs[config], split), columns))
