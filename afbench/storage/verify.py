"""Check a benchmark against what its manifests promise; changes nothing.

``fast`` looks at sizes, counts and the closed list of files; ``default`` hashes every file too; ``deep`` decodes every image
and computes again all that a row says of it without the localizer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from afbench.core import AfbenchError, ShardFormat, UsageError
from afbench.files import json_bytes, sha256_file
from afbench.plans import canonical_json
from afbench.plans.ensemble import ENSEMBLE
from afbench.schemas import schema_problem

from .agreement import disagreements
from .config_manifest import SCHEMA_VERSION
from .derived import may_be_unlisted, stale_derived
from .manifests import (
    CLEAN,
    LOG,
    TOP,
    WORK,
    Benchmark,
    count_rows,
    holds_rows,
    is_archive,
    open_benchmark,
    read_json,
    require_benchmark,
    safe_path,
    shard_paths,
)
from .pixels import check_pixels
from .probe import probe_shards
from .problem import Problem
from .shard_format import LABELS, format_of_path

__all__ = [
    "LEVELS",
    "Checked",
    "Level",
    "Problem",
    "check_benchmark",
    "check_files",
    "rows_to_check",
    "verify",
]

Level = Literal["fast", "default", "deep"]
LEVELS: tuple[Level, ...] = ("fast", "default", "deep")


class Checked(NamedTuple):
    """What was looked at: files of the closed list, rows in them (with ``deep`` the rows that were decoded), and what is wrong."""

    problems: list[Problem]
    files: int
    rows: int


def verify(
    folder: Path, advance: Callable[[int], None] = lambda rows: None, *, level: Level = "default"
) -> list[Problem]:
    """Return the problems that ``check_benchmark`` finds."""
    return check_benchmark(folder, advance, level=level).problems


def check_benchmark(
    folder: Path, advance: Callable[[int], None] = lambda rows: None, *, level: Level = "default"
) -> Checked:
    """Check a benchmark, as thoroughly as asked; a later step is left out where an earlier one found something.

    Args:
        folder: a benchmark.
        advance: told how many rows were just checked.
        level: ``fast``, ``default`` or ``deep``.
    Raises:
        UsageError: if the folder is no benchmark, or ``deep`` is asked of one exported as plain pictures.
    """
    require_benchmark(folder)
    rowless = not holds_rows(folder)
    if rowless and level == "deep":
        raise UsageError(
            f"'{folder}' holds plain pictures and no rows to check them by; check the benchmark it was exported from"
        )
    rows = _rows_if_readable(folder)
    files: list[str] = []
    decoded: list[int] = []

    def look_at(path: str) -> None:
        if (folder / path).is_file():
            files.append(path)
        if level != "deep":
            advance(1 if rowless else rows.get(path, 0))

    def decode(number: int) -> None:
        decoded.append(number)
        advance(number)

    try:
        stored = read_json(folder / TOP)
        problems = list(_check_schema(TOP, "manifest", stored))
        if not problems:
            listing = stored["files"]
            problems = list(check_files(folder, listing, hashed=level != "fast", advance=look_at))
        # each step trusts what the one before it has checked
        if not problems:
            problems = list(_check_config_schemas(folder, listing))
        if not problems and not rowless:
            problems = list(_check_contents(folder, listing, decode if level == "deep" else None))
    except AfbenchError as error:
        problems = [Problem(TOP, f"it, or a file that it lists, is damaged: {error}")]
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        problems = [Problem(TOP, f"it, or a file that it lists, is damaged: {type(error).__name__}: {error}")]
    return Checked(problems, len(files), sum(decoded) or sum(rows.get(path, 0) for path in files))


def _check_config_schemas(folder: Path, listing: Iterable[str]) -> Iterator[Problem]:
    """Check every config's manifest; where a folder holds plain pictures, they lie in ``provenance/``."""
    for path in listing:
        if path.startswith(("manifests/", "provenance/")):
            yield from _check_schema(path, "config", read_json(folder / path))


def _check_schema(path: str, schema: str, stored: object) -> Iterator[Problem]:
    if message := schema_problem(schema, stored):
        yield Problem(path, f"does not follow its schema: {message}")


def _check_contents(
    folder: Path, listing: Mapping[str, Any], decode: Callable[[int], None] | None
) -> Iterator[Problem]:
    """Check what manifests and shards say of each other, then, where nothing is wrong and ``decode`` is given, every image."""
    benchmark = open_benchmark(folder)
    problems = list(_check_configs(benchmark, listing))
    problems += [Problem(name, f"is not what follows from {TOP}") for name in stale_derived(folder)]
    problems += probe_shards(folder, _rows_by_path(folder), decode=decode is not None)
    yield from problems
    if problems:
        return
    # configs that disagree are no less whole: their pixels are looked at all the same
    yield from _check_agreement(benchmark)
    if decode is not None:
        yield from check_pixels(benchmark, decode)


def check_files(
    folder: Path,
    listing: Mapping[str, Mapping[str, Any]],
    *,
    hashed: bool = True,
    advance: Callable[[str], None] = lambda path: None,
) -> Iterator[Problem]:
    """Compare the files of a folder with the closed list: by size, and by sha256 if ``hashed``; call ``advance`` with each path.

    Raises:
        AfbenchError: if the list names a path outside of the folder.
        KeyError, TypeError: if it is damaged.
    """
    files = {path: {"bytes": entry["bytes"], "sha256": entry["sha256"]} for path, entry in listing.items()}
    # compared as bytes, so that an edit shows in any part of the list
    if (folder / TOP).read_bytes() != json_bytes({"schema_version": SCHEMA_VERSION, "files": files}):
        yield Problem(TOP, f"was edited, or is not of schema_version {SCHEMA_VERSION}")
    for path, expected in listing.items():
        file = folder / safe_path(path)
        if not file.is_file():
            yield Problem(path, "is missing")
        elif file.stat().st_size != expected["bytes"]:
            yield Problem(path, f"has {file.stat().st_size} bytes, expected {expected['bytes']}")
        elif hashed and sha256_file(file) != expected["sha256"]:
            yield Problem(path, "has another sha256: its bytes changed")
        advance(path)
    for file in sorted(folder.rglob("*")):
        path = file.relative_to(folder).as_posix()
        if file.is_dir() or path == TOP or path.split("/")[0] == LOG or path in listing:
            continue
        if may_be_unlisted(path):
            continue
        # one line for all records of an unfinished run
        if path.split("/")[0] == WORK:
            yield Problem(path, "belongs to a run that is not finished; run `afbench generate` again")
            return
        yield Problem(path, f"is not listed in {TOP}")


def _check_configs(benchmark: Benchmark, listing: Mapping[str, Any]) -> Iterator[Problem]:
    shards = {
        shard.path: {"bytes": shard.bytes, "sha256": shard.sha256}
        for manifest in benchmark.configs.values()
        for shard in manifest.shards
    }
    named = {"README.md", "LICENSE.md", *shards, *(f"manifests/{name}.json" for name in benchmark.configs)}
    for path in sorted(named ^ listing.keys()):
        yield Problem(path, f"stands in only one of {TOP} and the config manifests")
    for path in sorted(shards.keys() & listing.keys()):
        if shards[path] != listing[path]:
            yield Problem(path, f"has another size or sha256 in its config's manifest than in {TOP}")
    if not is_archive(benchmark.configs[CLEAN]):
        yield from _check_formats(benchmark)
    for name, manifest in benchmark.attacked.items():
        if hashlib.sha256(canonical_json(manifest.provenance).encode()).hexdigest() != manifest.config_hash:
            yield Problem(f"manifests/{name}.json", "says another 'how' than its config_hash is of")
        is_ensemble = ENSEMBLE in manifest.provenance["params"]
        for shard in manifest.shards:
            expected = shard.rows if is_ensemble else 0
            if len(shard.members) != expected:
                message = f"says of {len(shard.members)} images which member made them, expected {expected}"
                yield Problem(shard.path, f"{message}, in manifests/{name}.json")


def _check_formats(benchmark: Benchmark) -> Iterator[Problem]:
    """Check that every shard of a benchmark has the format that its originals are recorded with."""
    for split, part in benchmark.configs[CLEAN].splits.items():
        recorded: ShardFormat = "hdf5" if part.format == "hdf5" else "parquet"
        for manifest in benchmark.configs.values():
            for path in shard_paths(manifest, split):
                if format_of_path(path) != recorded:
                    yield Problem(
                        path, f"is no {LABELS[recorded]} shard, as manifests/clean.json says of {split}"
                    )


def _check_agreement(benchmark: Benchmark) -> Iterator[Problem]:
    for disagreement in disagreements(
        {name: manifest.provenance for name, manifest in benchmark.attacked.items()}
    ):
        yield Problem(
            f"manifests/{disagreement.config}.json",
            f"disagrees: {disagreement}; part them with `afbench export --to parquet --config NAME`",
        )


def _rows_by_path(folder: Path) -> dict[str, int]:
    return {
        shard.path: shard.rows
        for manifest in open_benchmark(folder).configs.values()
        for shard in manifest.shards
    }


def _rows_if_readable(folder: Path) -> dict[str, int]:
    try:
        return _rows_by_path(folder)
    except (AfbenchError, KeyError, TypeError, ValueError, AttributeError, ArithmeticError):
        return {}  # what is wrong is found by who reads on


def rows_to_check(folder: Path) -> int:
    """Count the rows that ``verify`` will look at, or the files where there are no rows."""
    require_benchmark(folder)
    try:
        if not holds_rows(folder):
            return len(read_json(folder / TOP)["files"])
        return sum(count_rows(manifest) for manifest in open_benchmark(folder).configs.values())
    except (AfbenchError, KeyError, TypeError):
        return 0
