"""Identify the images of a submission: a hash per config and source, and the version that these make.

When configs and sources are added to a benchmark, its MANIFEST.json changes, but the earlier configs stay as they
were. So a submission stays valid for the configs that it covers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from itertools import combinations
from typing import Any, TypeAlias

from afbench.files import json_bytes
from afbench.plans import canonical_json
from afbench.storage.card import dataset_card
from afbench.storage.config_manifest import ConfigManifest
from afbench.storage.manifests import AUTHENTIC, ORIGINALS, TOP, Benchmark, read_json

Parts: TypeAlias = Mapping[str, Mapping[str, str]]
"""A hash by config and source."""
_MOST_GROUPS = 8


def part_hashes(benchmark: Benchmark) -> dict[str, dict[str, str]]:
    """Hash every config of a benchmark, source by source."""
    return {
        config: {source: part_sha256(manifest, source) for source in manifest.splits}
        for config, manifest in benchmark.configs.items()
    }


def part_sha256(manifest: ConfigManifest, source: str) -> str:
    """Hash what decides the images of a config and source: its ``config_hash`` (originals have none) and its shards' hashes."""
    shards = [shard.sha256 for shard in manifest.splits[source].shards]
    return hashlib.sha256("\n".join([manifest.config_hash, *shards]).encode()).hexdigest()


def version_of(parts: Parts) -> str:
    """Return twelve digits that name these configs and sources, without authentic images: they are optional and unranked."""
    counted = {config: dict(sources) for config, sources in parts.items() if config != AUTHENTIC}
    return hashlib.sha256(canonical_json(counted).encode()).hexdigest()[:12]


def dataset_version(parts: Mapping[str, Parts]) -> str:
    """Return the version of a score: the localizer's own where there is only one."""
    versions = {localizer: version_of(covered) for localizer, covered in parts.items()}
    if len(versions) == 1:
        return next(iter(versions.values()))
    return hashlib.sha256(canonical_json(versions).encode()).hexdigest()[:12]


def changed_parts(recorded: Parts, current: Parts) -> Iterator[str]:
    """Describe each recorded config and source that the benchmark lacks, or that holds other images there."""
    for config, sources in sorted(recorded.items()):
        for source, digest in sorted(sources.items()):
            if config in current and source not in current[config]:
                yield f"config '{config}' has no source '{source}' in this benchmark"
            elif config in current and current[config][source] != digest:
                yield f"config '{config}' holds other images of source '{source}' than this was made from, or more of them"


def difference(
    first: Parts, second: Parts, first_label: str = "the first", second_label: str = "the second"
) -> str:
    """Describe in one line how two collections of configs differ; empty if they do not differ in ranked images."""
    first_hashes, second_hashes = (
        {(config, source): digest for config, sources in parts.items() for source, digest in sources.items()}
        for parts in (first, second)
    )
    shared = first_hashes.keys() & second_hashes.keys()
    differences = [
        (f"only {first_label} covers", first_hashes.keys() - second_hashes.keys()),
        (f"only {second_label} covers", second_hashes.keys() - first_hashes.keys()),
        ("other images have", {key for key in shared if first_hashes[key] != second_hashes[key]}),
    ]
    return "; ".join(
        f"{label} {named(f'{config} on {source}' for config, source in keys if config != AUTHENTIC)}"
        for label, keys in differences
        if any(config != AUTHENTIC for config, _ in keys)
    )


def named(names: Iterator[str] | Collection[str], limit: int = 3) -> str:
    """List names in one line, in order: the first few, and how many more."""
    ordered = sorted(names)
    rest = f" and {len(ordered) - limit} more" if len(ordered) > limit else ""
    return ", ".join(ordered[:limit]) + rest


def earlier_parts(
    benchmark: Benchmark, top_sha256: str, *, configs: Collection[str], sources: Collection[str]
) -> Parts | None:
    """Return the parts a benchmark had when its MANIFEST.json had this hash, if it only grew since; None if unproven.

    The file follows from the configs it lists, so the file of an earlier state is built again and hashed: of these
    configs and sources, alone and with those of other localizers.

    Args:
        benchmark: in its current state.
        top_sha256: of the earlier MANIFEST.json.
        configs: that the earlier state had for certain.
        sources: the same.
    """
    listing = read_json(benchmark.folder / TOP)
    manifests = {config: _with_sources(manifest, sources) for config, manifest in benchmark.configs.items()}
    groups: dict[str, list[str]] = {}
    for config, manifest in manifests.items():
        if config not in configs and manifest.splits:
            group = config if config in ORIGINALS else manifest.localizer_name
            groups.setdefault(group, []).append(config)
    # every group doubles the number of earlier states to try
    if len(groups) > _MOST_GROUPS:
        return None
    for count in range(len(groups) + 1):
        for added_groups in combinations(groups.values(), count):
            config_names = {*configs, *(config for group in added_groups for config in group)}
            earlier = {config: manifest for config, manifest in manifests.items() if config in config_names}
            if _top_sha256(earlier, listing) == top_sha256:
                return part_hashes(Benchmark(benchmark.folder, earlier))
    return None


def _with_sources(manifest: ConfigManifest, sources: Collection[str]) -> ConfigManifest:
    splits = {source: part for source, part in manifest.splits.items() if source in sources}
    return replace(manifest, splits=splits)


def _top_sha256(configs: Mapping[str, ConfigManifest], listing: Mapping[str, Any]) -> str:
    """Hash the MANIFEST.json of these configs, with the present terms of their images."""
    contents = {
        f"manifests/{config}.json": json_bytes(manifest.as_json()) for config, manifest in configs.items()
    }
    contents["README.md"] = dataset_card(configs).encode()
    files = {
        path: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for path, data in contents.items()
    }
    for manifest in configs.values():
        for shard in manifest.shards:
            files[shard.path] = {"bytes": shard.bytes, "sha256": shard.sha256}
    # it does not follow from the manifests, so the present one has to do
    files["LICENSE.md"] = listing["files"]["LICENSE.md"]
    return hashlib.sha256(json_bytes({**listing, "files": files})).hexdigest()
