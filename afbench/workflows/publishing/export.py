"""A benchmark in another form: an archive to publish or keep, a part of it, or files that other tools read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from afbench.core import AfbenchError, BadSample, ByteImage, UsageError
from afbench.images import decode_stored
from afbench.storage.archive import is_archive
from afbench.storage.commit import commit_if_changed, sha256_file
from afbench.storage.config_manifest import ShardRecord
from afbench.storage.delivery import Delivery, deliver, delivering, finish, publish
from afbench.storage.derived import write_derived
from afbench.storage.export_card import export_card
from afbench.storage.hdf5 import Content, scalar_columns
from afbench.storage.manifests import CLEAN, ORIGINALS, TOP, Benchmark, count_rows, open_benchmark
from afbench.storage.rights import ALLOWED, FORBIDDEN, RESIDUAL_LEVELS, UNCLEAR, revealing
from afbench.storage.shards import read_rows

from ..generation.finalise import finalise
from .formats import (
    FORMS,
    Shard,
    archive_manifest,
    folder_tables,
    hdf5_files,
    imagefolder_files,
    samples_read,
    webdataset_files,
)

EXPORT_RULES = {"hdf5": 1, "parquet": 1, "imagefolder": 1, "webdataset": 2}
"""Of each form; changes whenever a shard of the same benchmark would give other bytes."""


@dataclass(frozen=True)
class Exported:
    """What lies in the folder now. ``restricted`` are the sources whose pixels may not (``forbidden``) or perhaps not
    (``unclear``) be shared, with that word; ``withheld`` those whose originals were left out."""

    folder: Path
    configs: Sequence[str]
    images: int
    files: int
    bytes: int
    restricted: Mapping[str, str]
    withheld: Sequence[str]
    written: int


def export(
    data: Path,
    out: Path,
    to: str,
    *,
    configs: Sequence[str] = (),
    with_originals: bool | None = None,
    start: Callable[[int], None] = lambda images: None,
    advance: Callable[[int], None] = lambda images: None,
) -> Exported:
    """Write a benchmark, or some of its configs, in another form; the same command goes on after an interruption.

    Args:
        data: a finished benchmark.
        out: a folder that is new, empty, or of the same unfinished or finished export.
        to: ``hdf5``, ``parquet``, ``imagefolder`` or ``webdataset``.
        configs: to take; none for all. ``clean`` always comes along.
        with_originals: of ``hdf5``, whether ``clean`` holds pictures; None leaves those out that may not be shared.
        start: told how many images there are.
        advance: told how many were just done.
    Raises:
        UsageError: if there is no such benchmark, config or form, or the folder holds something else.
        AfbenchError: if the benchmark is damaged, or a file cannot be written.
    """
    benchmark = _chosen(data, configs)
    if to not in FORMS:
        raise UsageError(f"--to '{to}' is unknown; known forms: {', '.join(FORMS)}")
    if with_originals is False and to != "hdf5":
        raise UsageError(f"--residuals-only goes with --to hdf5; a {to} holds the attacked images themselves")
    restricted = _restricted(benchmark)
    withheld = _withheld(benchmark, to, with_originals)
    _refuse_revealing(benchmark, [source for source in withheld if restricted.get(source) == FORBIDDEN])
    request = {
        "command": "export",
        "rule": EXPORT_RULES[to],
        "benchmark": sha256_file(data / TOP),
        "to": to,
        "configs": list(benchmark.configs),
        "withheld": withheld,
    }
    images = sum(map(count_rows, benchmark.configs.values()))
    with delivering(out, request) as delivery:
        written = 0
        if not delivery.finished:
            start(images)
            written = _write(delivery, benchmark, to, withheld, advance)
            _close(delivery, benchmark, to, withheld)
            finish(delivery)
        files = [one for record in delivery.units.values() for one in record["files"].values()]
    return Exported(
        out,
        list(benchmark.configs),
        images,
        len(files),
        sum(one["bytes"] for one in files),
        restricted,
        withheld,
        written,
    )


def _chosen(data: Path, configs: Sequence[str]) -> Benchmark:
    benchmark = open_benchmark(data)
    if is_archive(benchmark.configs[CLEAN]):
        raise UsageError(f"'{data}' is an archive; `afbench restore` makes a benchmark of it")
    if unknown := [name for name in configs if name not in benchmark.configs]:
        raise UsageError(
            f"config '{unknown[0]}' is not in '{data}'; its configs: {', '.join(benchmark.configs)}"
        )
    kept = {name: one for name, one in benchmark.configs.items() if not configs or name in (CLEAN, *configs)}
    return Benchmark(data, kept)


def _restricted(benchmark: Benchmark) -> dict[str, str]:
    splits = benchmark.configs[CLEAN].splits
    return {
        name: part.redistribution or UNCLEAR
        for name, part in splits.items()
        if (part.redistribution or UNCLEAR) != ALLOWED
    }


def _withheld(benchmark: Benchmark, to: str, with_originals: bool | None) -> list[str]:
    if to != "hdf5" or with_originals:
        return []
    splits = benchmark.configs[CLEAN].splits
    if with_originals is False:
        return sorted(splits)
    return sorted(name for name, word in _restricted(benchmark).items() if word == "forbidden")


def _refuse_revealing(benchmark: Benchmark, sources: Sequence[str]) -> None:
    if above := revealing(benchmark.folder, benchmark.configs, sources):
        first = above[0]
        others = [name for name in benchmark.attacked if name not in {revealed.config for revealed in above}]
        take = (
            f"take others with {' '.join(f'--config {name}' for name in others[:3])}"
            if others
            else "take others"
        )
        raise UsageError(
            f"{first.config} changes pixels of {first.source}, which may not be shared, by up to {first.levels} levels: above "
            f"{RESIDUAL_LEVELS} residuals show the originals themselves; {take}, or keep the archive at home --with-originals"
        )


def _write(
    delivery: Delivery,
    benchmark: Benchmark,
    to: str,
    withheld: Sequence[str],
    advance: Callable[[int], None],
) -> int:
    written = 0
    for split in sorted({name for one in benchmark.configs.values() for name in one.splits}):
        parts = {
            name: one.splits[split].shards for name, one in benchmark.configs.items() if split in one.splits
        }
        # shard k of every config holds the same samples: their originals are decoded once
        for number in range(max(map(len, parts.values()))):
            originals: dict[str, ByteImage] | None = None
            for config, shards in parts.items():
                if number >= len(shards):
                    continue
                name = unit_name(config, split, number)
                if name not in delivery.units:
                    if originals is None and to in ("hdf5", "webdataset"):
                        originals = _originals(benchmark, split, number)
                    record = shards[number]
                    files = _files(benchmark, to, config, split, record, originals or {}, withheld)
                    deliver(delivery, name, files)
                    written += 1
                advance(shards[number].rows)
    return written


def unit_name(config: str, split: str, number: int) -> str:
    """What the record of a shard is called."""
    return f"{config}/{split}/{number:05d}"


def _files(
    benchmark: Benchmark,
    to: str,
    config: str,
    split: str,
    record: ShardRecord,
    originals: Mapping[str, ByteImage],
    withheld: Sequence[str],
) -> dict[str, bytes]:
    path = benchmark.folder / record.path
    try:
        if sha256_file(path) != record.sha256:
            raise AfbenchError(f"'{path}' is damaged: it has another sha256; see `afbench verify`")
        if to == "parquet":
            return {record.path: path.read_bytes()}
    except OSError as error:
        raise AfbenchError(f"'{path}' cannot be read: {error.strerror}; see `afbench verify`") from None
    shard = Shard(config, split, record, list(read_rows(benchmark.folder, [record.path])), originals)
    if to == "hdf5":
        return hdf5_files(shard, content_of(config, split, withheld))
    return imagefolder_files(shard) if to == "imagefolder" else webdataset_files(shard)


def content_of(config: str, split: str, withheld: Sequence[str]) -> Content:
    """What the HDF5 shards of a config and split hold."""
    if config not in ORIGINALS:
        return "residuals"
    return "none" if split in withheld else "images"


def _originals(benchmark: Benchmark, split: str, number: int) -> dict[str, ByteImage]:
    record = benchmark.configs[CLEAN].splits[split].shards[number]
    wanted = ("sample_id", "image", "height", "width")
    found = {}
    for row in read_rows(benchmark.folder, [record.path], wanted):
        try:
            found[row["sample_id"]] = decode_stored(row["image"], (row["height"], row["width"]))
        except BadSample as problem:
            raise AfbenchError(
                f"'{record.path}', {row['sample_id']}: {problem}; see `afbench verify`"
            ) from None
    return found


def _close(delivery: Delivery, benchmark: Benchmark, to: str, withheld: Sequence[str]) -> None:
    """Write what describes the whole, MANIFEST.json, and from it the bag and Croissant files."""
    folder, closing = delivery.folder, dict[str, bytes]()
    if to == "hdf5":
        records = _written(delivery, benchmark)
        for name, manifest in benchmark.configs.items():
            contents = {split: content_of(name, split, withheld) for split in manifest.splits}
            closing[f"manifests/{name}.json"] = archive_manifest(manifest, contents, records)
    else:
        # as they are; where no Parquet is, out of the way of those who look for it
        place = "manifests" if to == "parquet" else "provenance"
        for name in benchmark.configs:
            closing[f"{place}/{name}.json"] = (benchmark.folder / f"manifests/{name}.json").read_bytes()
    if to == "imagefolder":
        closing |= _tables(benchmark)
    if to == "webdataset":
        _check_read(delivery, benchmark)
    if to != "parquet":
        closing["README.md"] = export_card(to, benchmark.configs, withheld).encode()
    closing["LICENSE.md"] = (benchmark.folder / "LICENSE.md").read_bytes()
    if to == "parquet":
        for path, data in closing.items():
            commit_if_changed(folder / path, data)
        finalise(folder)
    else:
        publish(delivery, closing)
    write_derived(folder)


def _written(delivery: Delivery, benchmark: Benchmark) -> dict[str, dict[str, Any]]:
    """The file that stands for each Parquet shard."""
    found = {}
    for config, manifest in benchmark.configs.items():
        for split, part in manifest.splits.items():
            for number, shard in enumerate(part.shards):
                ((path, facts),) = delivery.units[unit_name(config, split, number)]["files"].items()
                found[shard.path] = {"path": path, **facts}
    return found


def _check_read(delivery: Delivery, benchmark: Benchmark) -> None:
    """Raise if ``datasets`` finds other than the rows of a shard in the tar that was made of it."""
    written = _written(delivery, benchmark)
    for manifest in benchmark.configs.values():
        for shard in manifest.shards:
            path = delivery.folder / written[shard.path]["path"]
            read = samples_read(path) if shard.rows else 0
            if read != shard.rows:
                raise AfbenchError(
                    f"'{path}' holds {shard.rows} samples, of which `datasets` reads {read}: a name of one of them is "
                    "not taken for one; please report it, and export to parquet or imagefolder"
                )


def _tables(benchmark: Benchmark) -> dict[str, bytes]:
    """The rows of everything attacked, and of authentic images; originals stand beside those made from them."""
    listed = {name: one for name, one in benchmark.configs.items() if name != CLEAN} or benchmark.configs
    columns = {name: kind for config in listed for name, kind in scalar_columns(config).items()}
    rows = {}
    for config, manifest in listed.items():
        for split, part in manifest.splits.items():
            paths = [shard.path for shard in part.shards]
            rows[config, split] = list(read_rows(benchmark.folder, paths, list(scalar_columns(config))))
    return folder_tables(rows, columns)
