"""Which images a submission is of: a hash per config and source, and the version that these make.

A benchmark grows: configs and sources are added to it, and its MANIFEST.json is another file then. What was there before is as it
was, so a submission stays valid for the configs that it covers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from itertools import combinations
from typing import Any, TypeAlias

from afbench.plan import canonical_json
from afbench.storage.card import dataset_card
from afbench.storage.commit import json_bytes
from afbench.storage.manifests import AUTHENTIC, ORIGINALS, TOP, Benchmark, read_json

Parts: TypeAlias = Mapping[str, Mapping[str, str]]
"""A hash by config and source."""
_MOST_GROUPS = 8


def part_hashes(benchmark: Benchmark) -> dict[str, dict[str, str]]:
    """Hash every config of a benchmark, source by source."""
    return {
        config: {source: part_sha256(manifest, source) for source in manifest["splits"]}
        for config, manifest in benchmark.configs.items()
    }


def part_sha256(manifest: Mapping[str, Any], source: str) -> str:
    """Hash what decides the images of a config and source: ``config_hash`` (none for originals), then its shards' hashes, by line."""
    shards = [str(shard["sha256"]) for shard in manifest["splits"][source]["shards"]]
    return hashlib.sha256("\n".join([str(manifest.get("config_hash", "")), *shards]).encode()).hexdigest()


def version_of(parts: Parts) -> str:
    """Twelve digits that name these configs and sources; authentic images, which are optional and never ranked, do not count."""
    counted = {config: dict(sources) for config, sources in parts.items() if config != AUTHENTIC}
    return hashlib.sha256(canonical_json(counted).encode()).hexdigest()[:12]


def dataset_version(parts: Mapping[str, Parts]) -> str:
    """The version that a score is of, by localizer: the localizer's own where there is one."""
    versions = {localizer: version_of(covered) for localizer, covered in parts.items()}
    if len(versions) == 1:
        return next(iter(versions.values()))
    return hashlib.sha256(canonical_json(versions).encode()).hexdigest()[:12]


def changed_parts(recorded: Parts, now: Parts) -> Iterator[str]:
    """Say of each recorded config and source that is not in a benchmark, or holds other images there."""
    for config, sources in sorted(recorded.items()):
        for source, digest in sorted(sources.items()):
            if config in now and source not in now[config]:
                yield f"config '{config}' has no source '{source}' in this benchmark"
            elif config in now and now[config][source] != digest:
                yield f"config '{config}' holds other images of source '{source}' than this was made from, or more of them"


def difference(first: Parts, second: Parts, one: str = "the first", other: str = "the second") -> str:
    """What two lots of configs, called so, differ by, in one line; empty if by nothing that counts."""
    ours, theirs = (
        {(config, source): digest for config, sources in parts.items() for source, digest in sources.items()}
        for parts in (first, second)
    )
    shared = ours.keys() & theirs.keys()
    differences = [
        (f"only {one} covers", ours.keys() - theirs.keys()),
        (f"only {other} covers", theirs.keys() - ours.keys()),
        ("other images have", {key for key in shared if ours[key] != theirs[key]}),
    ]
    return "; ".join(
        f"{label} {named(f'{config} on {source}' for config, source in keys if config != AUTHENTIC)}"
        for label, keys in differences
        if any(config != AUTHENTIC for config, _ in keys)
    )


def named(names: Iterator[str] | Collection[str], most: int = 3) -> str:
    """Names in one line, in order: the first few, and how many more."""
    every = sorted(names)
    rest = f" and {len(every) - most} more" if len(every) > most else ""
    return ", ".join(every[:most]) + rest


def parts_then(
    benchmark: Benchmark, top_sha256: str, *, configs: Collection[str], sources: Collection[str]
) -> Parts | None:
    """What of a benchmark was there when its MANIFEST.json had this hash, if it has only grown since; None if that cannot be shown.

    The file follows from the configs it lists, so that of an earlier state is made anew and hashed: of these configs and sources,
    alone and with those of other localizers.

    Args:
        benchmark: as it is now.
        top_sha256: of the MANIFEST.json of then.
        configs: that were there then for certain.
        sources: the same.
    """
    listing = read_json(benchmark.folder / TOP)
    manifests = {config: _with_sources(manifest, sources) for config, manifest in benchmark.configs.items()}
    groups: dict[str, list[str]] = {}
    for config, manifest in manifests.items():
        if config not in configs and manifest["splits"]:
            group = config if config in ORIGINALS else str(manifest["how"]["localizer"]["name"])
            groups.setdefault(group, []).append(config)
    if len(groups) > _MOST_GROUPS:
        return None
    for count in range(len(groups) + 1):
        for chosen in combinations(groups.values(), count):
            there = {*configs, *(config for group in chosen for config in group)}
            then = {config: manifest for config, manifest in manifests.items() if config in there}
            if _top_sha256(then, listing) == top_sha256:
                return part_hashes(Benchmark(benchmark.folder, then))
    return None


def _with_sources(manifest: Mapping[str, Any], sources: Collection[str]) -> dict[str, Any]:
    splits = {source: part for source, part in manifest["splits"].items() if source in sources}
    return {**manifest, "splits": splits}


def _top_sha256(configs: Mapping[str, Mapping[str, Any]], listing: Mapping[str, Any]) -> str:
    """The hash of the MANIFEST.json of these configs; the terms of their images are those of now."""
    contents = {f"manifests/{config}.json": json_bytes(manifest) for config, manifest in configs.items()}
    contents["README.md"] = dataset_card(configs).encode()
    files = {
        path: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for path, data in contents.items()
    }
    for manifest in configs.values():
        for part in manifest["splits"].values():
            for shard in part["shards"]:
                files[shard["path"]] = {"bytes": shard["bytes"], "sha256": shard["sha256"]}
    files["LICENSE.md"] = listing["files"]["LICENSE.md"]
    return hashlib.sha256(json_bytes({**listing, "files": files})).hexdigest()
