"""``verify --repair``: make damaged shards again, byte for byte, and refuse what would come out differently."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from afbench.core import AfbenchError, UsageError
from afbench.storage.commit import json_bytes
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
from .regenerate import Shard, attempt, make_attacked, make_originals
from .replay import Loader, Recipe, localizers_of, together

_TEXTS = ("README.md", "LICENSE.md")


@dataclass(frozen=True)
class Repaired:
    """Files that were made again, and why others were not, by path."""

    made: Sequence[str] = ()
    refused: Mapping[str, str] = field(default_factory=dict)


def repair(
    folder: Path,
    *,
    sources: Mapping[str, str | None] | None = None,
    recipe: Recipe = Recipe(),  # noqa: B008 - frozen
    start: Callable[[int], None] = lambda files: None,
    advance: Callable[[int], None] = lambda files: None,
) -> Repaired:
    """Make every damaged, missing or swapped shard of a benchmark again, and its README, LICENSE and list of files.

    A file replaces another only if it has the bytes that the manifests record. Nothing else is touched, and files
    that do not belong there are left to the user.

    Args:
        folder: a benchmark that no run is unfinished in.
        sources: roots of the sources by name, for damaged originals; embedded ones need none.
        recipe: where the localizer comes from if the folder cannot know.
        start: told how many files are damaged.
        advance: told of each that was looked after.
    Raises:
        UsageError: if the folder is no benchmark, or holds an unfinished run.
        PartialError: if another process writes to it.
    """
    if not (folder / "manifests").is_dir():
        raise UsageError(f"'{folder}' is no benchmark: it has no manifests")
    with locked(folder):
        try:
            return _repair(folder, sources or {}, recipe, start, advance)
        finally:
            with suppress(OSError):  # made by the lock; what an unfinished run put there stays
                (folder / WORK).rmdir()


def _repair(
    folder: Path,
    sources: Mapping[str, str | None],
    recipe: Recipe,
    start: Callable[[int], None],
    advance: Callable[[int], None],
) -> Repaired:
    made = _relist(folder)
    listing = read_json(folder / TOP)["files"]
    damaged = {problem.path for problem in check_files(folder, listing)}
    if any(path.split("/")[0] == WORK for path in damaged):
        raise UsageError(
            f"a run in '{folder}' is not finished; run the same `afbench generate` again, then repair"
        )
    damaged &= listing.keys()
    refused = {
        path: "says how the rest is made and cannot be made from it; take it from a copy"
        for path in sorted(damaged)
        if path.startswith("manifests/")
    }
    if refused:  # nothing that such a manifest says can be trusted
        return Repaired(made, refused)
    benchmark = open_benchmark(folder)
    start(len(damaged))
    load = localizers_of(recipe)
    shards = {path: shard for path, shard in _shards(benchmark).items() if path in damaged}
    lost = {(one.split, one.number) for one in shards.values() if one.config == CLEAN}
    for path, shard in shards.items():
        if shard.config in ORIGINALS:
            problem = attempt(partial(make_originals, benchmark, shard, sources, load))
            if problem:
                refused[path] = problem
            else:
                made.append(path)
                lost.discard((shard.split, shard.number))
            advance(1)
    left = {path: shard for path, shard in shards.items() if shard.config not in ORIGINALS}
    while left:
        path, first = next(iter(left.items()))
        alike = {path: first}
        if (first.split, first.number) in lost:
            refused[path] = "its originals are damaged, and were not made again"
        else:
            run = _attempt_list(benchmark, first)
            alike = {key: one for key, one in left.items() if one[1:] == first[1:] and one.config in run}
            failed = _attempt_all(benchmark, alike, run, load, recipe.device)
            refused.update(failed)
            made += [key for key in alike if key not in failed]
        for key in alike:
            del left[key]
            advance(1)
    made += _rewrite_texts(folder, damaged)
    if stale := list(stale_derived(folder)):
        write_derived(folder)
        made += stale
    return Repaired(sorted(made), refused)


def _relist(folder: Path) -> list[str]:
    """Write the list of files again where it is lost or damaged, from the manifests of the configs."""
    with suppress(AfbenchError, KeyError, TypeError, AttributeError):
        files = {
            path: {"bytes": one["bytes"], "sha256": one["sha256"]}
            for path, one in read_json(folder / TOP)["files"].items()
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


def _shards(benchmark: Benchmark) -> dict[str, Shard]:
    return {
        shard.path: Shard(config, split, number)
        for config, manifest in benchmark.configs.items()
        for split, part in manifest.splits.items()
        for number, shard in enumerate(part.shards)
    }


def _attempt_list(benchmark: Benchmark, shard: Shard) -> list[str]:
    try:
        return together(benchmark, *shard)
    except AfbenchError:
        return [shard.config]


def _attempt_all(
    benchmark: Benchmark, shards: Mapping[str, Shard], run: Sequence[str], load: Loader, device: str | None
) -> dict[str, str]:
    """Make shards of one launch again; returns why not, by path."""
    failed: dict[str, str] = {}
    problem = attempt(partial(make_attacked, benchmark, shards, run, load, device, failed))
    return dict.fromkeys(shards, problem) if problem else failed
