"""Check a benchmark against what its manifests promise; changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from afbench.core import AfbenchError, BadSample, ByteImage
from afbench.images import decode_stored, pixel_sha256
from afbench.plan import max_levels

from .commit import json_bytes, sha256_file
from .manifests import (
    AUTHENTIC,
    CLEAN,
    LOG,
    ORIGINALS,
    SCHEMA_VERSION,
    TOP,
    WORK,
    Benchmark,
    count_rows,
    open_benchmark,
    read_json,
    require_benchmark,
    safe_path,
)
from .shards import read_rows


@dataclass(frozen=True)
class Problem:
    """Something that is not as the manifests say: where, and what."""

    path: str
    message: str


def verify(folder: Path, advance: Callable[[int], None] = lambda rows: None) -> list[Problem]:
    """Check every file's size and hash, every row's pixels, and the L-inf bound in whole levels.

    Args:
        folder: a benchmark.
        advance: told how many rows were just checked.
    Raises:
        UsageError: if the folder is no benchmark.
    """
    require_benchmark(folder)
    try:
        listing = read_json(folder / TOP)["files"]
        if problems := list(_check_files(folder, listing)):
            return problems
        benchmark = open_benchmark(folder)
        return [*_check_configs(benchmark, listing), *_check_pixels(benchmark, advance)]
    except (AfbenchError, KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        return [Problem(TOP, f"or what it lists is damaged: {type(error).__name__}: {error}")]


def _check_files(folder: Path, listing: Mapping[str, Mapping[str, Any]]) -> Iterator[Problem]:
    files = {path: {"bytes": one["bytes"], "sha256": one["sha256"]} for path, one in listing.items()}
    if (folder / TOP).read_bytes() != json_bytes({"schema_version": SCHEMA_VERSION, "files": files}):
        yield Problem(TOP, f"was edited, or is not of schema_version {SCHEMA_VERSION}")
    for path, expected in listing.items():
        file = folder / safe_path(path)
        if not file.is_file():
            yield Problem(path, "is missing")
        elif file.stat().st_size != expected["bytes"]:
            yield Problem(path, f"has {file.stat().st_size} bytes, expected {expected['bytes']}")
        elif sha256_file(file) != expected["sha256"]:
            yield Problem(path, "has another sha256: its bytes changed")
    for file in sorted(folder.rglob("*")):
        path = file.relative_to(folder).as_posix()
        if file.is_dir() or path == TOP or path.split("/")[0] == LOG or path in listing:
            continue
        if path.split("/")[0] == WORK:
            yield Problem(path, "belongs to a run that is not finished; run `afbench generate` again")
            return
        yield Problem(path, f"is not listed in {TOP}")


def _check_configs(benchmark: Benchmark, listing: Mapping[str, Any]) -> Iterator[Problem]:
    shards = {
        shard["path"]: {"bytes": shard["bytes"], "sha256": shard["sha256"]}
        for manifest in benchmark.configs.values()
        for part in manifest["splits"].values()
        for shard in part["shards"]
    }
    named = {"README.md", "LICENSE.md", *shards, *(f"manifests/{name}.json" for name in benchmark.configs)}
    for path in sorted(named ^ listing.keys()):
        yield Problem(path, f"stands in only one of {TOP} and the config manifests")
    for path in sorted(shards.keys() & listing.keys()):
        if shards[path] != listing[path]:
            yield Problem(path, f"has another size or sha256 in its config's manifest than in {TOP}")


def _check_pixels(benchmark: Benchmark, advance: Callable[[int], None]) -> Iterator[Problem]:
    for config in (one for one in ORIGINALS if one in benchmark.configs):
        for split in benchmark.configs[config]["splits"]:
            originals = {}
            for path, row, image, mask in _decoded(benchmark, config, split):
                advance(1)
                if isinstance(image, Problem):
                    yield image
                    continue
                originals[row["sample_id"]] = (row["image"], row["mask_sha256"])
                yield from _check_hashes(path, row, image, mask)
                if config == AUTHENTIC and mask.any():
                    yield Problem(path, f"{row['sample_id']}: an authentic image has a mask")
            for name in benchmark.attacked if config == CLEAN else ():
                yield from _check_attacked(benchmark, name, split, originals, advance)


def _decoded(
    benchmark: Benchmark, config: str, split: str
) -> Iterator[tuple[str, dict[str, Any], ByteImage | Problem, ByteImage]]:
    manifest = benchmark.configs[config]
    for shard in manifest["splits"].get(split, {"shards": []})["shards"]:
        rows = 0
        empty = np.zeros((1, 1), np.uint8)
        try:
            for row in read_rows(benchmark.folder, [shard["path"]]):
                rows += 1
                try:
                    yield shard["path"], row, decode_stored(row["image"]), decode_stored(row["mask"])
                except BadSample as problem:
                    yield shard["path"], row, Problem(shard["path"], f"{row['sample_id']}: {problem}"), empty
            if rows != shard["rows"]:
                yield (
                    shard["path"],
                    {},
                    Problem(shard["path"], f"holds {rows} rows, expected {shard['rows']}"),
                    empty,
                )
        except AfbenchError as error:
            yield shard["path"], {}, Problem(shard["path"], str(error)), empty


def _check_hashes(path: str, row: Mapping[str, Any], image: ByteImage, mask: ByteImage) -> Iterator[Problem]:
    for name, pixels in (("image", image), ("mask", mask)):
        if pixel_sha256(pixels) != row[f"{name}_sha256"]:
            yield Problem(path, f"{row['sample_id']}: decoded {name} does not match its sha256")
    if image.shape[:2] != (row["height"], row["width"]) or mask.shape != image.shape[:2]:
        yield Problem(path, f"{row['sample_id']}: image and mask do not have the stated size")


def _check_attacked(
    benchmark: Benchmark,
    name: str,
    split: str,
    originals: Mapping[str, tuple[bytes, str]],
    advance: Callable[[int], None],
) -> Iterator[Problem]:
    phi = benchmark.configs[name]["how"]["phi"]
    bound = max_levels(None if phi is None else Fraction(phi))
    for path, row, image, mask in _decoded(benchmark, name, split):
        advance(1)
        if isinstance(image, Problem):
            yield image
            continue
        yield from _check_hashes(path, row, image, mask)
        if row["sample_id"] not in originals:
            yield Problem(path, f"{row['sample_id']}: its original is not in config clean")
            continue
        data, mask_sha256 = originals[row["sample_id"]]
        original = decode_stored(data)
        if pixel_sha256(original) != row["original_sha256"] or mask_sha256 != row["mask_sha256"]:
            yield Problem(
                path, f"{row['sample_id']}: made from another original or mask than config clean holds"
            )
        elif image.shape == original.shape:
            linf = int(np.abs(image.astype(np.int16) - original.astype(np.int16)).max())
            if linf != row["linf"] or (bound is not None and linf > bound):
                yield Problem(
                    path,
                    f"{row['sample_id']}: differs by up to {linf} levels; stated {row['linf']}, bound {bound}",
                )


def rows_to_check(folder: Path) -> int:
    """How many rows ``verify`` will look at."""
    require_benchmark(folder)
    try:
        return sum(count_rows(manifest) for manifest in open_benchmark(folder).configs.values())
    except AfbenchError:
        return 0
