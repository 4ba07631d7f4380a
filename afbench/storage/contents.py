"""Say what a benchmark holds: an overview, one config, or one row. No torch here."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from afbench.core import UsageError

from .config_manifest import ConfigManifest, ShardRecord
from .manifests import (
    CLEAN,
    ORIGINALS,
    TOP,
    Benchmark,
    count_rows,
    excluded_samples,
    open_benchmark,
    promised_levels,
)
from .shards import read_shards


class StoredRow(NamedTuple):
    """A stored row with its shard; ``row`` has the encoded image and mask."""

    config: str
    split: str
    number: int
    shard: ShardRecord
    row: dict[str, Any]


def find_row(benchmark: Benchmark, name: str) -> StoredRow:
    """Find ``CONFIG/SPLIT/SAMPLE_ID``.

    Raises:
        UsageError: if there is none, with what there is.
        AfbenchError: if its shard is damaged.
    """
    config, _, rest = name.partition("/")
    split, _, sample_id = rest.partition("/")
    if not sample_id:
        raise UsageError(f"a row is named CONFIG/SPLIT/SAMPLE_ID; found '{name}'")
    part = manifest_of(benchmark, config).splits.get(split)
    if part is None:
        split_names = ", ".join(benchmark.configs[config].splits)
        raise UsageError(f"config {config} has no split '{split}'; its splits: {split_names}")
    for number, shard in enumerate(part.shards):
        for sample in shard.excluded:
            if sample["sample_id"] == sample_id:
                raise UsageError(f"'{sample_id}' was left out: {sample['reason']} ({sample['detail']})")
        # names first: the images of a shard are large
        ids = [row["sample_id"] for row in read_shards(benchmark.folder, [shard], ["sample_id"])]
        if sample_id in ids:
            rows = read_shards(benchmark.folder, [shard])
            return StoredRow(
                config, split, number, shard, next(row for row in rows if row["sample_id"] == sample_id)
            )
    raise UsageError(
        f"config {config} has no sample '{sample_id}' in split '{split}'; {_first_ids(benchmark, config, split)}"
    )


def _first_ids(benchmark: Benchmark, config: str, split: str | None = None) -> str:
    """Say which samples a config has, or one of its splits: the first and the last of each shard, as manifests record them."""
    splits = benchmark.configs[config].splits
    shards = [shard for name in splits if split in (None, name) for shard in splits[name].shards]
    ranges = [f"{shard.first_id} to {shard.last_id}" for shard in shards if shard.first_id is not None]
    return f"its samples: {', '.join(ranges[:3])}{', ...' * (len(ranges) > 3)}"


def manifest_of(benchmark: Benchmark, config: str) -> ConfigManifest:
    """Return the manifest of a config.

    Raises:
        UsageError: if there is none, with those there are.
    """
    if config not in benchmark.configs:
        raise UsageError(
            f"'{benchmark.folder}' has no config '{config}'; it has {', '.join(benchmark.configs)}"
        )
    return benchmark.configs[config]


def inspect(folder: Path, *, config: str | None = None, sample_id: str | None = None) -> dict[str, Any]:
    """Say what a folder holds: all of it, one config, or the whole provenance of one sample's rows.

    Args:
        folder: a benchmark.
        config: to look into; with ``sample_id`` None stands for every config that has it.
        sample_id: whose rows to show, without their pixels.
    Raises:
        UsageError: if the folder is no benchmark or there is no such config or sample.
    """
    benchmark = open_benchmark(folder)
    if config is not None:
        manifest_of(benchmark, config)
    if sample_id is not None:
        return _of_sample(benchmark, config, sample_id)
    if config is not None:
        return benchmark.configs[config].as_json()
    return {
        "folder": str(folder),
        "splits": {
            name: {key: value for key, value in part.as_json().items() if key != "shards"}
            for name, part in benchmark.configs[CLEAN].splits.items()
        },
        "configs": {name: _of_config(manifest) for name, manifest in benchmark.configs.items()},
    }


def _of_config(manifest: ConfigManifest) -> dict[str, Any]:
    shards = list(manifest.shards)
    levels = promised_levels(manifest)
    return {
        "images": count_rows(manifest),
        "shards": len(shards),
        "bytes": sum(shard.bytes for shard in shards),
        "excluded": dict(Counter(sample["reason"] for sample in excluded_samples(manifest))),
        "splits": list(manifest.splits),
        "config_hash": manifest.config_hash or None,
        **({"determinism": ", ".join(levels)} if levels else {}),
    }


def _of_sample(benchmark: Benchmark, config: str | None, sample_id: str) -> dict[str, Any]:
    rows = {}
    for name in [config] if config else benchmark.configs:
        for split in benchmark.configs[name].splits:
            try:
                stored_row = find_row(benchmark, f"{name}/{split}/{sample_id}")
            except UsageError:
                continue
            rows[f"{name}/{split}/{sample_id}"] = _provenance(benchmark, stored_row)
    if not rows:
        label = f"config {config}" if config else f"'{benchmark.folder}'"
        raise UsageError(f"{label} has no sample '{sample_id}'; {_first_ids(benchmark, config or CLEAN)}")
    return {"rows": rows}


def _provenance(benchmark: Benchmark, stored_row: StoredRow) -> dict[str, Any]:
    manifest = benchmark.configs[stored_row.config]
    original = benchmark.configs[CLEAN if stored_row.config not in ORIGINALS else stored_row.config].splits[
        stored_row.split
    ]
    part = manifest.splits[stored_row.split]
    of_other_samples = ("excluded", "files", "members")
    shard = {key: value for key, value in stored_row.shard.as_json().items() if key not in of_other_samples}
    sample_id = stored_row.row["sample_id"]
    member = stored_row.shard.members.get(sample_id)
    file = next((shard.files[sample_id] for shard in original.shards if sample_id in shard.files), None)
    provenance: dict[str, Any] = {
        "row": {key: value for key, value in stored_row.row.items() if key not in ("image", "mask")},
        "bytes": {key: len(stored_row.row[key]) for key in ("image", "mask") if stored_row.row.get(key)},
        "shard": shard,
        **({"file": file} if file else {}),
        **({"member": member} if member else {}),
        "source": {key: value for key, value in original.as_json().items() if key != "shards"},
        "listed_in": TOP,
    }
    if stored_row.config not in ORIGINALS:
        provenance |= {
            "config_hash": manifest.config_hash,
            "how": manifest.provenance,
            "software": part.software,
        }
    return provenance
