"""Warn where a localizer finds nothing in the originals: then the F1 that an attack leaves says nothing about the attack."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from afbench.storage.agreement import bare_name
from afbench.storage.config_manifest import ConfigManifest
from afbench.storage.summary import finds_nothing

from .tables import figure

if TYPE_CHECKING:
    import pandas as pd


def weak_configs(configs: Mapping[str, ConfigManifest]) -> list[str]:
    """Write a line for each localizer of a benchmark and source in whose originals it finds nothing."""
    lines: dict[tuple[str, str], str] = {}
    for manifest in configs.values():
        for source, split in manifest.splits.items():
            summary = split.summary  # of attacked configs alone
            if summary is None:
                continue
            key = bare_name(manifest.provenance), source
            f1, chance = summary["f1_clean"], summary.get("f1_all_ones")
            if finds_nothing(f1, chance):
                lines.setdefault(key, _line(*key, f1, chance))
    return list(lines.values())


def weak_images(per_image: pd.DataFrame) -> list[str]:
    """Write the same lines for the images of a score or an evaluation; authentic ones hold nothing to find."""
    return list(_weak_images(per_image))


def _weak_images(per_image: pd.DataFrame) -> Iterator[str]:
    forged = per_image["tp"] + per_image["fn"]
    rows = per_image.assign(all_ones=2 * forged / (2 * forged + per_image["fp"] + per_image["tn"]))
    rows = rows[(forged > 0) & rows["f1_original"].notna()]
    rows = rows.drop_duplicates(["localizer", "source", "sample_id"])
    means = rows.groupby(["localizer", "source"])[["f1_original", "all_ones"]].mean()
    for (localizer, source), mean in means.iterrows():
        f1, chance = float(mean["f1_original"]), float(mean["all_ones"])
        if finds_nothing(f1, chance):
            yield _line(str(localizer), str(source), f1, chance)


def _line(localizer: str, source: str, f1: float, chance: float | None) -> str:
    return (
        f"{localizer} on {source}: F1 on originals {figure(f1, 3)}, of an all-ones mask {figure(chance, 3)}: "
        "it finds nothing here: check weights, masks, polarity"
    )
