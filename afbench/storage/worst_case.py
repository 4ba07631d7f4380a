"""Find the lowest F1 that any stored attack left of each image."""

from __future__ import annotations

from statistics import fmean
from typing import Any

from .manifests import Benchmark, shards_of
from .shards import read_shards

_COLUMNS = ("sample_id", "f1_clean", "f1_adv")


def worst_cases(benchmark: Benchmark) -> list[dict[str, Any]]:
    """Average the lowest F1 of each image over all attacked configs, one row per localizer and source.

    Random noise is no attack, and images whose F1 is undefined are left out.

    Raises:
        AfbenchError: if a shard cannot be read.
    """
    lowest: dict[tuple[str, str], dict[str, tuple[float, float]]] = {}
    configs: dict[tuple[str, str], int] = {}
    f1_all_ones: dict[tuple[str, str], float | None] = {}
    for manifest in benchmark.attacked.values():
        if manifest.provenance["attack"] == "noise":
            continue
        for source in manifest.splits:
            key = manifest.localizer_name, source
            images = lowest.setdefault(key, {})
            configs[key] = configs.get(key, 0) + 1
            f1_all_ones.setdefault(key, (manifest.splits[source].summary or {}).get("f1_all_ones"))
            for row in read_shards(benchmark.folder, shards_of(manifest, source), _COLUMNS):
                if row["f1_clean"] is not None and row["f1_adv"] is not None:
                    name = str(row["sample_id"])
                    least = images.get(name, (row["f1_clean"], row["f1_adv"]))[1]
                    images[name] = row["f1_clean"], min(least, row["f1_adv"])
    rows = []
    for key, images in sorted(lowest.items()):
        if images:
            f1_clean, f1_worst = (fmean(column) for column in zip(*images.values(), strict=True))
            rows.append(
                {
                    "localizer": key[0],
                    "source": key[1],
                    "configs": configs[key],
                    "n": len(images),
                    "f1_clean": f1_clean,
                    "f1_worst": f1_worst,
                    "rp": 100 * f1_worst / f1_clean if f1_clean else None,
                    "f1_all_ones": f1_all_ones[key],
                }
            )
    return rows
