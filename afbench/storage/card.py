"""The README of a benchmark: a dataset card that ``datasets`` reads its configs from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import yaml

from afbench.core import ShardFormat
from afbench.untrusted import visible

from .card_text import card_text, figures_table
from .config_manifest import ConfigManifest, ShardRecord
from .manifests import CLEAN, ORIGINALS, count_rows, file_patterns, stored_format
from .rights import pixel_rights
from .schema import columns_of, yaml_features

__all__ = ["dataset_card", "figures_table"]

_SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
    (100_000_000, "10M<n<100M"),
)
"""The Hub's own words for how many rows there are."""
_GATE = (
    "The images are copies of images of {sources}, whose terms hold for them. By asking for access you say that you "
    "have read LICENSE.md, may use those images, and will not pass them on."
)


def dataset_card(configs: Mapping[str, ConfigManifest]) -> str:
    """Write the card: YAML with every config's files, features and counts, then DATASET_CARD.md filled in."""
    return visible(f"---\n{_front_matter(configs)}---\n\n{card_text(configs, _default(configs))}")


def _default(configs: Mapping[str, ConfigManifest]) -> str:
    return next((name for name in configs if name not in ORIGINALS), CLEAN)


def _groups(configs: Mapping[str, ConfigManifest]) -> dict[str, list[str]]:
    """Group the configs: each by itself, then ``<localizer>-<attack>`` for all its settings, and ``all``."""
    groups = {name: [name] for name in configs}
    attacked = [name for name in configs if name not in ORIGINALS]
    families: dict[str, list[str]] = {}
    for name in attacked:
        provenance = configs[name].provenance
        families.setdefault(f"{provenance['localizer']['name']}-{provenance['attack']}", []).append(name)
    for family, members in families.items():
        # a config that has the name of a family keeps it
        groups.setdefault(family, members)
    if attacked:
        groups.setdefault("all", attacked)
    return groups


def _front_matter(configs: Mapping[str, ConfigManifest]) -> str:
    groups = _groups(configs)
    rows = sum(map(count_rows, configs.values()))
    rights = pixel_rights(configs)
    restricted = sorted({*rights.forbidden, *rights.unclear})
    # one list for all configs of the same columns: YAML says it once, and 80 configs are read in half the time
    features = {
        name in ORIGINALS: yaml_features(_loaded_columns(name, stored_format(configs)))
        for name in (CLEAN, "attacked")
    }
    content = {
        "pretty_name": _pretty_name(configs),
        "license": "other",
        "license_name": "see-license-md",
        "license_link": "LICENSE.md",
        "task_categories": ["image-segmentation"],
        "tags": ["image-forensics", "forgery-localization", "adversarial-examples", "benchmark", "afbench"],
        "size_categories": [next((label for limit, label in _SIZES if rows < limit), "100M<n<1B")],
        **({"extra_gated_prompt": _GATE.format(sources=", ".join(restricted))} if restricted else {}),
        "configs": [_config_entry(name, members, configs) for name, members in groups.items()],
        "dataset_info": [_info_entry(name, members, configs, features) for name, members in groups.items()],
    }
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)


def _loaded_columns(config: str, shard_format: ShardFormat) -> dict[str, str]:
    """Return the columns that ``datasets`` is to load; its reader of HDF5 cannot make pictures of parts of an array."""
    skipped_kinds = ("image", "mask") if shard_format == "hdf5" else ()
    return {name: kind for name, kind in columns_of(config).items() if kind not in skipped_kinds}


def _pretty_name(configs: Mapping[str, ConfigManifest]) -> str:
    provenances = [configs[name].provenance for name in configs if name not in ORIGINALS]
    localizers = ", ".join(dict.fromkeys(provenance["localizer"]["name"] for provenance in provenances))
    sources = ", ".join(sorted({source for manifest in configs.values() for source in manifest.splits}))
    return f"Adversarial forgeries of {sources}" + (f" against {localizers}" if provenances else "")


def _shards(manifest: ConfigManifest, split: str | None = None) -> list[ShardRecord]:
    return [shard for name, part in manifest.splits.items() if split in (None, name) for shard in part.shards]


def _splits(members: list[str], configs: Mapping[str, ConfigManifest]) -> list[str]:
    return sorted({split for name in members for split in configs[name].splits})


def _config_entry(name: str, members: list[str], configs: Mapping[str, ConfigManifest]) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "config_name": name,
        "data_files": [
            {
                "split": split,
                # config by config: a glob over a family would also catch the shards of an unfinished run
                "path": [
                    pattern
                    for member in members
                    if split in configs[member].splits
                    for pattern in file_patterns(configs[member], member, split)
                ],
            }
            for split in _splits(members, configs)
        ],
    }
    if name == _default(configs):
        entry["default"] = True
    # `datasets` finds its cache by this card, not by the files: other shards of the same size must change it
    shards = "".join(shard.sha256 for member in members for shard in _shards(configs[member]))
    entry["description"] = f"shards {hashlib.sha256(shards.encode()).hexdigest()[:16]}"
    return entry


def _info_entry(
    name: str,
    members: list[str],
    configs: Mapping[str, ConfigManifest],
    features: Mapping[bool, list[dict[str, Any]]],
) -> dict[str, Any]:
    splits: list[dict[str, Any]] = []
    for split in _splits(members, configs):
        shards = [shard for member in members for shard in _shards(configs[member], split)]
        splits.append(
            {
                "name": split,
                "num_bytes": sum(shard.bytes for shard in shards),
                "num_examples": sum(shard.rows for shard in shards),
            }
        )
    size = sum(split["num_bytes"] for split in splits)
    return {
        "config_name": name,
        "features": features[members[0] in ORIGINALS],
        "splits": splits,
        "download_size": size,
        "dataset_size": size,
    }
