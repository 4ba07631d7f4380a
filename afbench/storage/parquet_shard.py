"""Parquet shards: the bytes of one, and its rows."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from afbench.core import AfbenchError

from .guard import refuse_bomb
from .schema import DICTIONARY_COLUMNS, arrow_schema, check_row, columns_of
from .shard_format import config_of_path

MAX_GROUP_BYTES = 100_000_000
MAX_GROUP_ROWS = 100


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


def parquet_bytes(config: str, rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Build one shard; rows carry ``image`` and ``mask`` as encoded bytes."""
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
    return stream.getvalue()


def _column(rows: Sequence[Mapping[str, Any]], name: str, kind: str) -> pa.Array:
    values = [row[name] for row in rows]
    if kind in ("image", "mask"):
        schema_type = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        return pa.array([{"bytes": value, "path": None} for value in values], type=schema_type)
    if kind == "float64":
        values = [None if value is None or not math.isfinite(value) else value for value in values]
    return pa.array(values)


def read_parquet_rows(
    folder: Path, path: str, columns: Sequence[str] | None = None
) -> Iterator[dict[str, Any]]:
    """Yield the rows of a shard; images come as encoded bytes.

    Raises:
        AfbenchError: if it is missing or damaged, or a row names what is no name.
    """
    try:
        with pq.ParquetFile(folder / path, pre_buffer=False, page_checksum_verification=True) as shard:
            refuse_bomb(shard, (folder / path).stat().st_size)
            column_names = list(columns) if columns else None
            # columns that are not there are left out without a word
            expected = columns_of(config_of_path(path)).keys() & set(column_names or ())
            if absent := expected - set(shard.schema_arrow.names):
                raise AfbenchError(f"it has no column {min(absent)!a}, which a shard of its config has")
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
