"""``verify --repair``: make damaged shards again, byte for byte, and refuse what would come out differently."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from afbench.core import AfbenchError, UsageError
from afbench.files import json_bytes
from afbench.storage.config_manifest import SCHEMA_VERSION
from afbench.storage.derived import stale_derived, write_derived
from afbench.storage.locks import locked
from afbench.storage.manifests import (
    CLEAN,
    ORIGINALS,
    TOP,
    WORK,
    Benchmark,
    open_benchmark,
    read_json,
)
from afbench.storage.verify import check_files

from ..generation.finalise import finalise
from .recorded_run import Loader, LocalizerSource, batch_configs, localizer_loader
from .regenerate import ShardKey, error_of, regenerate_attacked, regenerate_originals

_TEXTS = ("README.md", "LICENSE.md")


@dataclass(frozen=True)
class Repaired:
    """Files that were regenerated, and by path why a file was not."""

    repaired: Sequence[str] = ()
    not_repaired: Mapping[str, str] = field(default_factory=dict)


def repair(
    folder: Path,
    *,
    sources: Mapping[str, str | None] | None = None,
    localizer_source: LocalizerSource = LocalizerSource(),  # noqa: B008 - frozen
    start: Callable[[int], None] = lambda files: None,
    advance: Callable[[int], None] = lambda files: None,
) -> Repaired:
    """Regenerate every damaged, missing or swapped shard of a benchmark, and its README, LICENSE and list of files.

    A regenerated file replaces the stored one only if it has the bytes that the manifests record. No other file
    changes: files that don't belong to the benchmark are left to the user.

    Args:
        folder: a benchmark without an unfinished run.
        sources: roots of the sources by name, for damaged originals; embedded ones need none.
        localizer_source: where the localizer comes from if the folder can't tell.
        start: called with the number of damaged files.
        advance: called with 1 for each damaged file, repaired or not.
    Raises:
        UsageError: if the folder is no benchmark, or holds an unfinished run.
        PartialError: if another process writes to it.
    """
    if not (folder / "manifests").is_dir():
        raise UsageError(f"'{folder}' is no benchmark: it has no manifests")
    with locked(folder):
        try:
            return _repair(folder, sources or {}, localizer_source, start, advance)
        finally:
            with suppress(OSError):  # made by the lock; what an unfinished run put there stays
                (folder / WORK).rmdir()


def _repair(
    folder: Path,
    sources: Mapping[str, str | None],
    localizer_source: LocalizerSource,
    start: Callable[[int], None],
    advance: Callable[[int], None],
) -> Repaired:
    repaired = _relist(folder)
    listing = read_json(folder / TOP)["files"]
    damaged = {problem.path for problem in check_files(folder, listing)}
    if any(path.split("/")[0] == WORK for path in damaged):
        raise UsageError(
            f"a run in '{folder}' is not finished; run the same `afbench generate` again, then repair"
        )
    damaged &= listing.keys()
    not_repaired = {
        path: "says how the rest is made and cannot be made from it; take it from a copy"
        for path in sorted(damaged)
        if path.startswith("manifests/")
    }
    if not_repaired:  # nothing that such a manifest says can be trusted
        return Repaired(repaired, not_repaired)
    benchmark = open_benchmark(folder)
    start(len(damaged))
    load = localizer_loader(localizer_source)
    shards = {path: shard for path, shard in _shards(benchmark).items() if path in damaged}
    damaged_originals = {(key.split, key.number) for key in shards.values() if key.config == CLEAN}
    for path, shard in shards.items():
        if shard.config in ORIGINALS:
            problem = error_of(partial(regenerate_originals, benchmark, shard, sources, load))
            if problem:
                not_repaired[path] = problem
            else:
                repaired.append(path)
                damaged_originals.discard((shard.split, shard.number))
            advance(1)
    remaining = {path: shard for path, shard in shards.items() if shard.config not in ORIGINALS}
    while remaining:
        path, first = next(iter(remaining.items()))
        batch_shards = {path: first}
        if (first.split, first.number) in damaged_originals:
            not_repaired[path] = "its originals are damaged, and were not made again"
        else:
            # shards that shared their batches are made together, for one needs the run of all
            names = _batch_configs(benchmark, first)
            batch_shards = {
                path: key for path, key in remaining.items() if key[1:] == first[1:] and key.config in names
            }
            problems = _regenerate_batch(benchmark, batch_shards, names, load, localizer_source)
            not_repaired.update(problems)
            repaired += [path for path in batch_shards if path not in problems]
        for path in batch_shards:
            del remaining[path]
            advance(1)
    repaired += _rewrite_texts(folder, damaged)
    if stale := list(stale_derived(folder)):
        write_derived(folder)
        repaired += stale
    return Repaired(sorted(repaired), not_repaired)


def _relist(folder: Path) -> list[str]:
    """Write the list of files again from the manifests of the configs, if it is lost or damaged."""
    with suppress(AfbenchError, KeyError, TypeError, AttributeError):
        files = {
            path: {"bytes": entry["bytes"], "sha256": entry["sha256"]}
            for path, entry in read_json(folder / TOP)["files"].items()
        }
        if (folder / TOP).read_bytes() == json_bytes({"schema_version": SCHEMA_VERSION, "files": files}):
            return []
    if (folder / WORK).is_dir() and any((folder / WORK).iterdir()):
        raise UsageError(
            f"a run in '{folder}' is not finished; run the same `afbench generate` again, then repair"
        )
    finalise(folder)
    (folder / WORK).mkdir(exist_ok=True)
    return [TOP]


def _rewrite_texts(folder: Path, damaged: set[str]) -> list[str]:
    texts = [path for path in _TEXTS if path in damaged]
    if texts:
        finalise(folder)
    return texts


def _shards(benchmark: Benchmark) -> dict[str, ShardKey]:
    return {
        shard.path: ShardKey(config, split, number)
        for config, manifest in benchmark.configs.items()
        for split, part in manifest.splits.items()
        for number, shard in enumerate(part.shards)
    }


def _batch_configs(benchmark: Benchmark, shard: ShardKey) -> list[str]:
    try:
        return batch_configs(benchmark, *shard)
    except AfbenchError:
        return [shard.config]


def _regenerate_batch(
    benchmark: Benchmark,
    shards: Mapping[str, ShardKey],
    names: Sequence[str],
    load: Loader,
    localizer_source: LocalizerSource,
) -> dict[str, str]:
    """Regenerate shards that shared their batches; return by path why one could not be."""
    problems: dict[str, str] = {}
    problem = error_of(
        partial(regenerate_attacked, benchmark, shards, names, load, localizer_source, problems)
    )
    return dict.fromkeys(shards, problem) if problem else problems
