"""The README of a benchmark: a dataset card that ``datasets`` reads its configs from."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from typing import Any

import yaml

from afbench.shipped import shipped

from .manifests import AUTHENTIC, CLEAN, ORIGINALS
from .schema import columns_of, yaml_features

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def dataset_card(configs: Mapping[str, Mapping[str, Any]]) -> str:
    """Write the card: YAML with every config's files, features and counts, then DATASET_CARD.md filled in."""
    body = shipped("DATASET_CARD.md").read_text(encoding="utf-8")
    first = _default(configs)
    split = next(iter(configs[first]["splits"]), "demo")
    for marker, text in {
        "<!-- afbench:example -->": f'load_dataset("PATH/TO/THIS/FOLDER", "{first}", split="{split}")',
        "<!-- afbench:table -->": figures_table(configs),
        "<!-- afbench:sources -->": _sources(configs),
        "<!-- afbench:excluded -->": _excluded(configs),
    }.items():
        body = body.replace(marker, text)
    return f"---\n{_front_matter(configs)}---\n\n{body}"


def figures_table(configs: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown: one row per config and source."""
    lines = [
        "| config | source | images | F1 original | F1 attacked | RP % | F1 all-ones | PSNR dB | SSIM | max level |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, manifest in configs.items():
        for source, split in manifest["splits"].items():
            if "summary" in split:
                shown = name + " (untrained)" * manifest["how"]["localizer"]["untrained"]
                lines.append("| " + " | ".join([shown, source, *_cells(split["summary"])]) + " |")
    return "\n".join(lines)


def _cells(summary: Mapping[str, Any]) -> list[str]:
    return [
        str(summary["n"]),
        *(
            _figure(summary[key], digits)
            for key, digits in (("f1_clean", 3), ("f1_adv", 3), ("rp", 1), ("f1_all_ones", 3))
        ),
        _figure(summary["psnr"], 1),
        _figure(summary["ssim"], 4),
        str(summary["linf"]),
    ]


def _figure(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _default(configs: Mapping[str, Any]) -> str:
    return next((name for name in configs if name not in ORIGINALS), CLEAN)


def _groups(configs: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    """Each config by itself, then ``<localizer>-<attack>`` for all its settings, and ``all``."""
    groups = {name: [name] for name in configs}
    attacked = [name for name in configs if name not in ORIGINALS]
    families: dict[str, list[str]] = {}
    for name in attacked:
        how = configs[name]["how"]
        families.setdefault(f"{how['localizer']['name']}-{how['attack']}", []).append(name)
    for family, members in families.items():
        groups.setdefault(family, members)
    if attacked:
        groups.setdefault("all", attacked)
    return groups


def _front_matter(configs: Mapping[str, Mapping[str, Any]]) -> str:
    groups = _groups(configs)
    rows = sum(part["rows"] for name in configs if name not in ORIGINALS for part in _shards(configs[name]))
    content = {
        "pretty_name": "Adversarial forgery-localization benchmark made with afbench",
        "license": "other",
        "license_name": "see-license-md",
        "license_link": "LICENSE.md",
        "task_categories": ["image-segmentation"],
        "tags": ["image-forensics", "forgery-localization", "adversarial-examples", "benchmark", "afbench"],
        "size_categories": [next((label for most, label in _SIZES if rows < most), "n>1M")],
        "configs": [_config_entry(name, members, configs) for name, members in groups.items()],
        "dataset_info": [_info_entry(name, members, configs) for name, members in groups.items()],
    }
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)


def _shards(manifest: Mapping[str, Any], split: str | None = None) -> list[Mapping[str, Any]]:
    return [
        shard
        for name, part in manifest["splits"].items()
        if split in (None, name)
        for shard in part["shards"]
    ]


def _splits(members: list[str], configs: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return sorted({split for name in members for split in configs[name]["splits"]})


def _config_entry(name: str, members: list[str], configs: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "config_name": name,
        "data_files": [
            {
                "split": split,
                # config by config: a glob over a family would also catch the shards of an unfinished run
                "path": [
                    f"data/{one}/{split}-*.parquet" for one in members if split in configs[one]["splits"]
                ],
            }
            for split in _splits(members, configs)
        ],
    }
    if name == _default(configs):
        entry["default"] = True
    # `datasets` finds its cache by this card, not by the files: other shards of the same size must change it
    shards = "".join(shard["sha256"] for one in members for shard in _shards(configs[one]))
    entry["description"] = f"shards {hashlib.sha256(shards.encode()).hexdigest()[:16]}"
    return entry


def _info_entry(name: str, members: list[str], configs: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    splits = []
    for split in _splits(members, configs):
        shards = [shard for one in members for shard in _shards(configs[one], split)]
        splits.append(
            {
                "name": split,
                "num_bytes": sum(shard["bytes"] for shard in shards),
                "num_examples": sum(shard["rows"] for shard in shards),
            }
        )
    size = sum(split["num_bytes"] for split in splits)
    return {
        "config_name": name,
        "features": yaml_features(columns_of(members[0])),
        "splits": splits,
        "download_size": size,
        "dataset_size": size,
    }


def _sources(configs: Mapping[str, Mapping[str, Any]]) -> str:
    return "\n".join(
        f"- `{name}`: {split['samples']} {'authentic ' * (config == AUTHENTIC)}samples asked for; terms: {split['terms']}"
        for config in ORIGINALS
        for name, split in configs.get(config, {"splits": {}})["splits"].items()
    )


def _excluded(configs: Mapping[str, Mapping[str, Any]]) -> str:
    reasons = Counter(
        reason
        for _, reason in {
            (one["sample_id"], one["reason"])
            for manifest in configs.values()
            for shard in _shards(manifest)
            for one in shard["excluded"]
        }
    )
    if not reasons:
        return "None."
    return "\n".join(f"- {reason}: {count}" for reason, count in sorted(reasons.items()))
