"""Parquet shards: write one, read columns of many."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from afbench.core import AfbenchError
from afbench.files import commit_bytes
from afbench.untrusted import require_name

from .config_manifest import ShardRecord
from .guard import refuse_bomb
from .schema import DICTIONARY_COLUMNS, arrow_schema, columns_of

MAX_SHARD_BYTES = 500_000_000
MAX_GROUP_BYTES = 100_000_000
MAX_GROUP_ROWS = 100
NAMES = frozenset({"sample_id", "source", "localizer"})
"""Columns that hold names: they become paths, keys and lines."""
_BYTES_PER_PIXEL = 4
"""More than an encoded image (3 values a pixel that may not compress) and its mask ever take."""


def shard_path(config: str, split: str, number: int, count: int) -> str:
    """Return ``data/<config>/<split>-00000-of-00004.parquet``."""
    return f"data/{config}/{split}-{number:05d}-of-{count:05d}.parquet"


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


def group_rows(sizes: Sequence[int]) -> list[int]:
    """Count the rows of each row group: equal parts of at most 100 rows, cut again where one would pass 100 MB.

    Equal, so that the last is no smaller than a reader likes (32 rows). ``sizes`` are the encoded bytes of each row; a
    row above 100 MB by itself is a group by itself.
    """
    parts = -(-len(sizes) // MAX_GROUP_ROWS)
    ends = [len(sizes) * part // parts for part in range(1, parts + 1)]
    groups: list[int] = []
    rows = group_bytes = 0
    for position, size in enumerate(sizes):
        if rows and (position in ends or group_bytes + size > MAX_GROUP_BYTES):
            groups.append(rows)
            rows = group_bytes = 0
        rows, group_bytes = rows + 1, group_bytes + size
    return [*groups, rows] if rows else groups


def write_shard(
    folder: Path,
    path: str,
    config: str,
    rows: Sequence[Mapping[str, Any]],
    *,
    ids_sha256: str,
    excluded: Sequence[Mapping[str, str]],
) -> ShardRecord:
    """Commit one shard; rows carry ``image`` and ``mask`` as encoded bytes.

    Raises:
        AfbenchError: if it cannot be written.
    """
    columns = columns_of(config)
    arrays = [_column(rows, name, kind) for name, kind in columns.items()]
    schema = arrow_schema(columns)
    table = pa.Table.from_arrays(
        [array.cast(field.type) for array, field in zip(arrays, schema, strict=True)], schema=schema
    )
    stream = io.BytesIO()
    with pq.ParquetWriter(
        stream,
        schema,
        # images are encoded already and hardly shrink again
        compression="none",
        use_dictionary=[name for name in DICTIONARY_COLUMNS if name in columns],
        write_page_index=True,
        # readers can check pages while they stream, without the hash of the whole file
        write_page_checksum=True,
    ) as writer:
        first = 0
        # none for no rows: `datasets` cannot read an empty row group
        for count in group_rows([len(row["image"]) + len(row["mask"]) for row in rows]):
            writer.write_table(table.slice(first, count), row_group_size=count)
            first += count
    data = stream.getvalue()
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


def _column(rows: Sequence[Mapping[str, Any]], name: str, kind: str) -> pa.Array:
    values = [row[name] for row in rows]
    if kind in ("image", "mask"):
        schema_type = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        return pa.array([{"bytes": value, "path": None} for value in values], type=schema_type)
    if kind == "float64":
        values = [None if value is None or not math.isfinite(value) else value for value in values]
    return pa.array(values)


def read_rows(
    folder: Path, paths: Sequence[str], columns: Sequence[str] | None = None
) -> Iterator[dict[str, Any]]:
    """Yield rows of shards in order; images come as encoded bytes.

    Raises:
        AfbenchError: if a shard is missing or damaged, or a row names what is no name.
    """
    for path in paths:
        if path.endswith(".h5"):
            from .archive import read_archive_rows

            yield from read_archive_rows(folder, path, columns)
        else:
            yield from _parquet_rows(folder, path, columns)


def check_row(row: Mapping[str, Any]) -> None:
    """Refuse a row whose sample, source or localizer is no name.

    Raises:
        AfbenchError: with the first of it.
    """
    for name in NAMES.intersection(row):
        require_name(name, row[name])


def _parquet_rows(folder: Path, path: str, columns: Sequence[str] | None) -> Iterator[dict[str, Any]]:
    try:
        with pq.ParquetFile(folder / path, pre_buffer=False, page_checksum_verification=True) as shard:
            refuse_bomb(shard, (folder / path).stat().st_size)
            column_names = list(columns) if columns else None
            for batch in shard.iter_batches(batch_size=16, columns=column_names, use_threads=False):
                for row in batch.to_pylist():
                    for name in ("image", "mask"):
                        if name in row:
                            row[name] = row[name]["bytes"]
                    check_row(row)
                    yield row
    except (OSError, pa.ArrowException, KeyError, TypeError, AfbenchError) as error:
        raise AfbenchError(
            f"shard '{path}' cannot be read ({' '.join(str(error).split())[:120]}); `afbench verify` says what is damaged"
        ) from None
