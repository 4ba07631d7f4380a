"""Which samples a picture of a benchmark shows, and their rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from afbench.core import UsageError
from afbench.naming import did_you_mean
from afbench.storage.manifests import CLEAN, Benchmark, shard_paths
from afbench.storage.shards import read_rows


class Shown(NamedTuple):
    """Samples of one split, in the order they are drawn."""

    split: str
    ids: Sequence[str]


def choose_samples(
    benchmark: Benchmark,
    configs: Sequence[str],
    *,
    names: Sequence[str] = (),
    split: str | None = None,
    count: int = 1,
) -> Shown:
    """Take the samples that were named, else ``count`` that are spread over the F1 of the originals, lowest first.

    Args:
        benchmark: a finished one.
        configs: attacked ones that are drawn; the first that has the split says what F1 its originals have.
        names: sample ids; all of one split.
        split: a source id; None for the one that has the samples, or the first.
        count: samples to take where none is named; one is the median.
    Raises:
        UsageError: if a split or sample is not there.
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
        for row in _facts(benchmark, name, split, ("sample_id", "f1_clean"))
    ] or [{**row, "f1_clean": None} for row in _facts(benchmark, CLEAN, split, ("sample_id",))]
    rows = [row for row in rows if row["f1_clean"] is not None] or rows
    ranked = [
        row["sample_id"] for row in sorted(rows, key=lambda row: (row["f1_clean"] or 0, row["sample_id"]))
    ]
    return Shown(split, _spread(ranked, count))


def _named(benchmark: Benchmark, names: Sequence[str], splits: Sequence[str]) -> Shown:
    ids = {
        split: [row["sample_id"] for row in _facts(benchmark, CLEAN, split, ("sample_id",))]
        for split in splits
    }
    for split, names_there in ids.items():
        if {*names} <= {*names_there}:
            return Shown(split, names)
    everything = [name for names_there in ids.values() for name in names_there]
    if missing := [name for name in names if name not in everything]:
        meant = did_you_mean("sample", missing[0], everything)
        where = f"split '{splits[0]}' of " if len(splits) == 1 else ""
        raise UsageError(
            f"--sample '{missing[0]}' is not in {where}'{benchmark.folder}'; {meant}"
            f"it begins with {', '.join(everything[:3])}"
        )
    homes = [f"'{name}' is of {next(split for split in splits if name in ids[split])}" for name in names]
    raise UsageError(f"--sample takes samples of one split; {', '.join(homes[:4])}")


def _spread(ranked: Sequence[str], count: int) -> list[str]:
    """``count`` of a list at even distances, both ends among them; the middle one for one."""
    if count == 1:
        return list(ranked[len(ranked) // 2 :][:1])
    last = len(ranked) - 1
    return [
        ranked[place] for place in sorted({round(number * last / (count - 1)) for number in range(count)})
    ]


def rows_of(benchmark: Benchmark, config: str, shown: Shown) -> Mapping[str, Mapping[str, Any]]:
    """The whole rows of samples in a config, by id; one that was excluded there is missing."""
    manifest = benchmark.configs[config]
    if shown.split not in manifest.splits:
        return {}
    by_id = {}
    for path in shard_paths(manifest, shown.split):
        ids = {row["sample_id"] for row in read_rows(benchmark.folder, [path], ("sample_id",))}
        if ids & {*shown.ids}:  # images are read of these shards alone
            rows = read_rows(benchmark.folder, [path])
            by_id.update({row["sample_id"]: row for row in rows if row["sample_id"] in shown.ids})
    return {name: by_id[name] for name in shown.ids if name in by_id}


def _facts(benchmark: Benchmark, config: str, split: str, columns: Sequence[str]) -> list[dict[str, Any]]:
    return list(read_rows(benchmark.folder, shard_paths(benchmark.configs[config], split), columns))
