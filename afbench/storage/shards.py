"""Parquet shards: write one, read columns of many."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from afbench.core import AfbenchError

from .commit import commit_bytes
from .schema import DICTIONARY_COLUMNS, arrow_schema, columns_of

ROW_GROUP = 64


@dataclass(frozen=True)
class ShardRecord:
    """What a manifest says of one committed shard; ``path`` is relative to the benchmark's folder."""

    path: str
    rows: int
    bytes: int
    sha256: str
    ids_sha256: str
    first_id: str | None
    last_id: str | None
    excluded: Sequence[Mapping[str, str]]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def shard_path(config: str, split: str, number: int, count: int) -> str:
    """``data/<config>/<split>-00000-of-00004.parquet``."""
    return f"data/{config}/{split}-{number:05d}-of-{count:05d}.parquet"


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
        compression="none",
        use_dictionary=[name for name in DICTIONARY_COLUMNS if name in columns],
        write_page_index=True,
        write_page_checksum=True,
    ) as writer:
        if rows:  # `datasets` cannot read a row group of no rows
            writer.write_table(table, row_group_size=ROW_GROUP)
    data = stream.getvalue()
    sha256 = commit_bytes(folder / path, data)
    ids = [str(row["sample_id"]) for row in rows]
    return ShardRecord(
        path,
        len(rows),
        len(data),
        sha256,
        ids_sha256,
        ids[0] if ids else None,
        ids[-1] if ids else None,
        list(excluded),
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
        AfbenchError: if a shard is missing or damaged.
    """
    for path in paths:
        try:
            with pq.ParquetFile(folder / path, pre_buffer=False, page_checksum_verification=True) as shard:
                wanted = list(columns) if columns else None
                for batch in shard.iter_batches(batch_size=16, columns=wanted, use_threads=False):
                    for row in batch.to_pylist():
                        for name in ("image", "mask"):
                            if name in row:
                                row[name] = row[name]["bytes"]
                        yield row
        except (OSError, pa.ArrowException, KeyError, TypeError) as error:
            raise AfbenchError(
                f"shard '{path}' cannot be read ({' '.join(str(error).split())[:120]}); `afbench verify` says what is damaged"
            ) from None
