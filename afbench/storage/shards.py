"""Shards of a benchmark, in Parquet or HDF5: their names and cuts; write one, read rows of many.

The suffix of a shard's path says its format. Nothing above this file needs to know it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from afbench.core import AfbenchError, ShardFormat
from afbench.files import commit_bytes

from .config_manifest import ShardRecord
from .parquet_shard import parquet_bytes, read_parquet_rows
from .shard_format import SUFFIXES, format_of_path, split_of_path

MAX_SHARD_BYTES = 500_000_000
_BYTES_PER_PIXEL = 4
"""More than an encoded image (3 values a pixel that may not compress) and its mask ever take."""


def shard_path(
    config: str, split: str, number: int, count: int, shard_format: ShardFormat = "parquet"
) -> str:
    """Return ``data/<config>/<split>-00000-of-00004.parquet``, or ``.h5``."""
    return f"data/{config}/{split}-{number:05d}-of-{count:05d}{SUFFIXES[shard_format]}"


def cut_ids(ids: Sequence[str], shard_size: int, pixels: Mapping[str, int]) -> list[Sequence[str]]:
    """Cut a list of sample ids into shards: at most ``shard_size`` ids, and never above 500 MB whatever they compress to.

    ``pixels`` says how many each image has; one that it does not name counts as none. An image alone is always taken.
    """
    shards: list[Sequence[str]] = []
    first = size = 0
    for position, sample_id in enumerate(ids):
        image_bytes = _BYTES_PER_PIXEL * pixels.get(sample_id, 0)
        if position > first and (position - first == shard_size or size + image_bytes > MAX_SHARD_BYTES):
            shards.append(ids[first:position])
            first, size = position, 0
        size += image_bytes
    return [*shards, ids[first:]] if first < len(ids) else shards


def shard_bytes(path: str, config: str, rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Build one shard in the format of its path; rows carry ``image`` and ``mask`` as encoded bytes.

    The same rows give the same bytes.
    """
    if format_of_path(path) == "parquet":
        return parquet_bytes(config, rows)
    # imported late: h5py takes as long to load as the rest of a small command
    from .hdf5_rows import hdf5_bytes

    return hdf5_bytes(config, split_of_path(path), rows)


def write_shard(
    folder: Path,
    path: str,
    config: str,
    rows: Sequence[Mapping[str, Any]],
    *,
    ids_sha256: str,
    excluded: Sequence[Mapping[str, str]],
) -> ShardRecord:
    """Commit one shard in the format of its path; rows carry ``image`` and ``mask`` as encoded bytes.

    Raises:
        AfbenchError: if it cannot be written.
    """
    data = shard_bytes(path, config, rows)
    sha256 = commit_bytes(folder / path, data)
    ids = [str(row["sample_id"]) for row in rows]
    return ShardRecord(
        path=path,
        rows=len(rows),
        bytes=len(data),
        sha256=sha256,
        ids_sha256=ids_sha256,
        first_id=ids[0] if ids else None,
        last_id=ids[-1] if ids else None,
        excluded=list(excluded),
    )


def read_rows(
    folder: Path, paths: Sequence[str], columns: Sequence[str] | None = None
) -> Iterator[dict[str, Any]]:
    """Yield rows of shards in order; images come as encoded bytes.

    Raises:
        AfbenchError: if a shard is missing or damaged, or a row names what is no name.
    """
    for path in paths:
        if format_of_path(path) == "parquet":
            yield from read_parquet_rows(folder, path, columns)
        else:
            from .hdf5_rows import read_hdf5_rows

            yield from read_hdf5_rows(folder, path, columns)


def read_shards(
    folder: Path, shards: Sequence[ShardRecord], columns: Sequence[str] | None = None
) -> Iterator[dict[str, Any]]:
    """Yield rows of the shards that manifests record, as ``read_rows``, where they are those of their config.

    Raises:
        AfbenchError: as ``read_rows``, or if a shard is another config's.
    """
    for shard in shards:
        # a shard in HDF5 says itself whose it is
        if format_of_path(shard.path) == "parquet":
            require_size(folder, shard)
        yield from read_rows(folder, [shard.path], columns)


def require_size(folder: Path, shard: ShardRecord) -> None:
    """Refuse a Parquet shard of another size than its manifest records: it may be whole, and another config's.

    Its rows don't name their config, and a hash would read the whole file; two shards of images hardly ever have one size.

    Raises:
        AfbenchError: if it is missing or of another size.
    """
    try:
        size = (folder / shard.path).stat().st_size
    except OSError as error:
        raise AfbenchError(
            f"shard '{shard.path}' cannot be read ({error.strerror}); `afbench verify {folder}` says what is damaged"
        ) from None
    if size != shard.bytes:
        raise AfbenchError(
            f"shard '{shard.path}' has {size} bytes, its manifest records {shard.bytes}: it is damaged, or another config's; "
            f"`afbench verify {folder}` says what is damaged"
        )
