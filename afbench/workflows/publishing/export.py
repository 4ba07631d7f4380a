"""Export a benchmark, or some of its configs, as an archive to publish or keep, or as files that other tools read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from afbench.core import AfbenchError, ByteImage, UsageError
from afbench.files import commit_if_changed, sha256_file
from afbench.storage.config_manifest import ShardRecord
from afbench.storage.delivery import Delivery, deliver, delivering, finish, publish
from afbench.storage.derived import write_derived
from afbench.storage.export_card import export_card
from afbench.storage.hdf5 import Content, scalar_columns
from afbench.storage.manifests import (
    CLEAN,
    ORIGINALS,
    TOP,
    Benchmark,
    count_rows,
    is_archive,
    open_benchmark,
)
from afbench.storage.rights import ALLOWED, FORBIDDEN, RESIDUAL_LEVELS, UNCLEAR, revealing
from afbench.storage.shard_format import format_of_path, path_in_format
from afbench.storage.shards import read_shards, shard_bytes
from afbench.storage.stored_pixels import stored_picture

from ..generation.finalise import finalise
from .formats import (
    BENCHMARKS,
    FORMATS,
    ExportShard,
    archive_manifest,
    benchmark_manifest,
    folder_tables,
    hdf5_files,
    imagefolder_files,
    samples_read,
    webdataset_files,
)

if TYPE_CHECKING:
    import pandas as pd

EXPORT_RULES = {"hdf5": 1, "hdf5-benchmark": 1, "parquet": 1, "imagefolder": 1, "webdataset": 2}
"""Version of each format's writer; raised whenever the same shard would give other bytes."""


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What the export's folder now holds; ``written_shards`` counts those that this call wrote.

    ``restricted`` maps each source whose pixels may not be shared to ``forbidden``, or to ``unclear`` if its terms don't
    say. ``withheld`` lists the sources whose originals were left out.
    """

    folder: Path
    configs: Sequence[str]
    images: int
    files: int
    bytes: int
    restricted: Mapping[str, str]
    withheld: Sequence[str]
    written_shards: int

    def to_pandas(self) -> pd.DataFrame:
        """Return a table of one row."""
        import pandas as pd

        return pd.DataFrame([vars(self)])


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
    """Write a benchmark, or some of its configs, in another format; the same call goes on after an interruption.

    Args:
        data: a finished benchmark.
        out: a folder that is new, empty, or of the same unfinished or finished export.
        to: ``hdf5`` (an archive), ``hdf5-benchmark``, ``parquet``, ``imagefolder`` or ``webdataset``.
        configs: to take; none for all. ``clean`` always comes along.
        with_originals: of ``hdf5``, whether ``clean`` holds pictures; None leaves those out that may not be shared.
        start: called once with the number of images.
        advance: called with the number of images just done.
    Raises:
        UsageError: if there is no such benchmark, config or format, or the folder holds something else.
        AfbenchError: if the benchmark is damaged, or a file cannot be written.
    """
    benchmark = _open_configs(data, configs)
    if to not in FORMATS:
        raise UsageError(f"--to '{to}' is unknown; known forms: {', '.join(FORMATS)}")
    if with_originals is False and to != "hdf5":
        raise UsageError(f"--residuals-only goes with --to hdf5; a {to} holds the attacked images themselves")
    restricted = _restricted(benchmark)
    withheld = _withheld(benchmark, to, with_originals)
    _refuse_revealing(benchmark, [source for source in withheld if restricted.get(source) == FORBIDDEN])
    request = {
        "command": "export",
        # so that files of two versions of the writer never lie in one export
        "rule": EXPORT_RULES[to],
        "benchmark": sha256_file(data / TOP),
        "to": to,
        "configs": list(benchmark.configs),
        "withheld": withheld,
    }
    images = sum(map(count_rows, benchmark.configs.values()))
    with delivering(out, request) as delivery:
        written_shards = 0
        if not delivery.finished:
            start(images)
            written_shards = _write(delivery, benchmark, to, withheld, advance)
            _close(delivery, benchmark, to, withheld)
            finish(delivery)
        files = [
            file_record for record in delivery.units.values() for file_record in record["files"].values()
        ]
    return Exported(
        folder=out,
        configs=list(benchmark.configs),
        images=images,
        files=len(files),
        bytes=sum(file_record["bytes"] for file_record in files),
        restricted=restricted,
        withheld=withheld,
        written_shards=written_shards,
    )


def _open_configs(data: Path, configs: Sequence[str]) -> Benchmark:
    benchmark = open_benchmark(data)
    if is_archive(benchmark.configs[CLEAN]):
        raise UsageError(f"'{data}' is an archive; `afbench restore` makes a benchmark of it")
    if unknown := [name for name in configs if name not in benchmark.configs]:
        raise UsageError(
            f"config '{unknown[0]}' is not in '{data}'; its configs: {', '.join(benchmark.configs)}"
        )
    kept_configs = {
        name: manifest
        for name, manifest in benchmark.configs.items()
        if not configs or name in (CLEAN, *configs)
    }
    return Benchmark(data, kept_configs)


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
        other_configs = [
            name for name in benchmark.attacked if name not in {revealed.config for revealed in above}
        ]
        advice = (
            f"take others with {' '.join(f'--config {name}' for name in other_configs[:3])}"
            if other_configs
            else "take others"
        )
        raise UsageError(
            f"{first.config} changes pixels of {first.source}, which may not be shared, by up to {first.levels} levels: above "
            f"{RESIDUAL_LEVELS} residuals show the originals themselves; {advice}, or keep the archive at home --with-originals"
        )


def _write(
    delivery: Delivery,
    benchmark: Benchmark,
    to: str,
    withheld: Sequence[str],
    advance: Callable[[int], None],
) -> int:
    written_shards = 0
    for split in sorted({name for manifest in benchmark.configs.values() for name in manifest.splits}):
        parts = {
            name: manifest.splits[split].shards
            for name, manifest in benchmark.configs.items()
            if split in manifest.splits
        }
        # shard k of every config holds the same samples: their originals are decoded once
        for number in range(max(map(len, parts.values()))):
            originals: dict[str, ByteImage] | None = None
            for config, shards in parts.items():
                if number >= len(shards):
                    continue
                name = shard_key(config, split, number)
                if name not in delivery.units:
                    if originals is None and to in ("hdf5", "webdataset"):
                        originals = _originals(benchmark, split, number)
                    record = shards[number]
                    files = _files(benchmark, to, config, split, record, originals or {}, withheld)
                    deliver(delivery, name, files)
                    written_shards += 1
                advance(shards[number].rows)
    return written_shards


def shard_key(config: str, split: str, number: int) -> str:
    """Return the name under which a delivery records a shard."""
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
        # a damaged shard must not travel on under a new hash that is right
        if sha256_file(path) != record.sha256:
            raise AfbenchError(f"'{path}' is damaged: it has another sha256; see `afbench verify`")
        if format_of_path(record.path) == BENCHMARKS.get(to):
            return {record.path: path.read_bytes()}
    except OSError as error:
        raise AfbenchError(f"'{path}' cannot be read: {error.strerror}; see `afbench verify`") from None
    rows = list(read_shards(benchmark.folder, [record]))
    if to in BENCHMARKS:
        new_path = path_in_format(record.path, BENCHMARKS[to])
        return {new_path: shard_bytes(new_path, config, rows)}
    shard = ExportShard(config, split, record, rows, originals)
    if to == "hdf5":
        return hdf5_files(shard, content_of(config, split, withheld))
    return imagefolder_files(shard) if to == "imagefolder" else webdataset_files(shard)


def content_of(config: str, split: str, withheld: Sequence[str]) -> Content:
    """Say what the HDF5 shards of a config and split hold."""
    if config not in ORIGINALS:
        return "residuals"
    return "none" if split in withheld else "images"


def _originals(benchmark: Benchmark, split: str, number: int) -> dict[str, ByteImage]:
    record = benchmark.configs[CLEAN].splits[split].shards[number]
    columns = ("sample_id", "image", "height", "width")
    rows = read_shards(benchmark.folder, [record], columns)
    return {row["sample_id"]: stored_picture(benchmark.folder, row) for row in rows}


def _close(delivery: Delivery, benchmark: Benchmark, to: str, withheld: Sequence[str]) -> None:
    """Write manifests, card and licence, then MANIFEST.json, then the BagIt and Croissant files that are derived from it."""
    folder, closing = delivery.folder, dict[str, bytes]()
    if to in BENCHMARKS:
        records = _files_by_shard(delivery, benchmark)
        for name, manifest in benchmark.configs.items():
            closing[f"manifests/{name}.json"] = benchmark_manifest(manifest, BENCHMARKS[to], records)
    elif to == "hdf5":
        records = _files_by_shard(delivery, benchmark)
        for name, manifest in benchmark.configs.items():
            contents = {split: content_of(name, split, withheld) for split in manifest.splits}
            closing[f"manifests/{name}.json"] = archive_manifest(manifest, contents, records)
    else:
        # a folder without shards must not look like a benchmark, so its manifests lie elsewhere
        for name in benchmark.configs:
            closing[f"provenance/{name}.json"] = (benchmark.folder / f"manifests/{name}.json").read_bytes()
    if to == "imagefolder":
        closing |= _tables(benchmark)
    if to == "webdataset":
        _check_read(delivery, benchmark)
    if to not in BENCHMARKS:
        closing["README.md"] = export_card(to, benchmark.configs, withheld).encode()
    closing["LICENSE.md"] = (benchmark.folder / "LICENSE.md").read_bytes()
    if to in BENCHMARKS:
        for path, data in closing.items():
            commit_if_changed(folder / path, data)
        # published as `generate` does
        finalise(folder)
    else:
        publish(delivery, closing)
    write_derived(folder)


def _files_by_shard(delivery: Delivery, benchmark: Benchmark) -> dict[str, dict[str, Any]]:
    """Return path, bytes and sha256 of the exported file, by the path of the shard it was made of."""
    files = {}
    for config, manifest in benchmark.configs.items():
        for split, part in manifest.splits.items():
            for number, shard in enumerate(part.shards):
                ((path, file_record),) = delivery.units[shard_key(config, split, number)]["files"].items()
                files[shard.path] = {"path": path, **file_record}
    return files


def _check_read(delivery: Delivery, benchmark: Benchmark) -> None:
    """Raise if ``datasets`` doesn't find all rows of a shard in its tar."""
    files = _files_by_shard(delivery, benchmark)
    for manifest in benchmark.configs.values():
        for shard in manifest.shards:
            path = delivery.folder / files[shard.path]["path"]
            read = samples_read(path) if shard.rows else 0
            if read != shard.rows:
                raise AfbenchError(
                    f"'{path}' holds {shard.rows} samples, of which `datasets` reads {read}: a name of one of them is "
                    "not taken for one; please report it, and export to parquet or imagefolder"
                )


def _tables(benchmark: Benchmark) -> dict[str, bytes]:
    """Tabulate attacked and authentic images; each row also names its original. ``clean`` gets rows only if it is alone."""
    configs = {
        name: manifest for name, manifest in benchmark.configs.items() if name != CLEAN
    } or benchmark.configs
    columns = {name: kind for config in configs for name, kind in scalar_columns(config).items()}
    rows = {}
    for config, manifest in configs.items():
        for split, part in manifest.splits.items():
            rows[config, split] = list(
                read_shards(benchmark.folder, part.shards, list(scalar_columns(config)))
            )
    return folder_tables(rows, columns)
