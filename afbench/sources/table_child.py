"""Read Parquet and Arrow tables of strangers in a process with little memory and time; run as a module.

Each line on stdin is a JSON request, and each answer a JSON line on stdout, for a cell with its bytes behind it. Every size in such a
file is a claim, and Arrow's buffers are used as they lie there: whatever goes wrong goes wrong here.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from afbench import sandbox

MAX_GROUP_BYTES = 2**30
"""Largest row group that is unpacked for one of its rows."""
SCANNED_ROWS = 64
SECONDS = 120
"""Of one core, for one request."""
IMAGE = "image"
"""Called the type of a column of the class ``Image`` of ``datasets``: bytes of a file, and its path."""


_Stamp: TypeAlias = tuple[int, int, int, int]


class BadTable(Exception):
    """What is wrong with a table, in one line."""


def main() -> None:
    # the process that asks handles Ctrl-C, and this one ends with its pipe
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for line in sys.stdin:
        request = json.loads(line)
        sandbox.limit(memory=int(sys.argv[1]), seconds=SECONDS)
        data = b""
        try:
            if "row" in request:
                cell = _cell(request["path"], request["column"], request["row"])
                answer: dict[str, Any] = {"length": None if cell is None else len(cell)}
                data = cell or b""
            else:
                answer = _scan(request["path"], request["mask"], request["label"])
        except BadTable as error:
            answer = {"error": str(error)}
        except Exception as error:  # a stranger's bytes make the library raise almost anything
            message = " ".join(ascii(str(error))[1:-1].split())[:120]
            answer = {
                "error": sandbox.TOO_MUCH if sandbox.lacks_memory(error) else f"no readable table ({message})"
            }
        sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n" + data)
        sys.stdout.buffer.flush()


def _scan(path: str, mask: str, label: str | None) -> dict[str, Any]:
    """Return the columns with their types and, where those asked for are there, of each row whether it has a mask, and its label."""
    schema = _schema(path)
    columns = {field.name: _type_name(field.type) for field in schema}
    answer: dict[str, Any] = {"columns": columns, "label_names": _label_names(schema, label)}
    wanted = [name for name in (mask, label) if name is not None]
    if set(wanted) <= columns.keys() and columns[mask] in (IMAGE, "binary"):
        has_mask: list[bool] = []
        labels: list[Any] = []
        for batch in _batches(path, wanted):
            has_mask += [_content(value) is not None for value in batch.column(mask).to_pylist()]
            if label is not None:
                labels += batch.column(label).to_pylist()
        if not all(isinstance(value, int | str | None) for value in labels):
            raise BadTable(f"its column {label!a} holds neither numbers nor names")
        answer |= {"has_mask": has_mask, "labels": labels}
    return answer


def _schema(path: str) -> pa.Schema:
    if path.lower().endswith(".parquet"):
        return pq.read_schema(path)
    return _arrow_table(path, _stamp(path)).schema


def _batches(path: str, columns: list[str]) -> Iterator[pa.RecordBatch]:
    if path.lower().endswith(".parquet"):
        with pq.ParquetFile(path, pre_buffer=False) as file:
            yield from file.iter_batches(batch_size=SCANNED_ROWS, columns=columns, use_threads=False)
    else:
        yield from _arrow_table(path, _stamp(path)).select(columns).to_batches(max_chunksize=SCANNED_ROWS)


def _cell(path: str, column: str, row: int) -> bytes | None:
    stamp = _stamp(path)
    if path.lower().endswith(".parquet"):
        group, first = _row_group_of(path, stamp, row)
        values = _row_group(path, stamp, column, group)
    else:
        values, first = _arrow_table(path, stamp).column(column), 0
    value = values[row - first].as_py()
    if isinstance(value, dict) and value.get("bytes") is None and value.get("path"):
        raise BadTable(f"the bytes of {str(value['path'])[-80:]!a} are not in the table, only its path")
    return _content(value)


def _content(value: Any) -> bytes | None:
    data = value.get("bytes") if isinstance(value, dict) else value
    if isinstance(value, dict) and data is None and value.get("path"):
        return b""  # there is one, though not in here
    return data if isinstance(data, bytes) else None


def _stamp(path: str) -> _Stamp:
    """Return what changes with a file's content: this process outlives a table that is written again at the same path."""
    status = Path(path).stat()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


@lru_cache(maxsize=4)
def _arrow_table(path: str, stamp: _Stamp) -> pa.Table:
    """Map a table of ``Dataset.save_to_disk`` into memory, and check every offset in it before any is used."""
    source = pa.memory_map(path)
    try:
        reader = pa.ipc.open_stream(source)
    except pa.ArrowInvalid:
        reader = pa.ipc.open_file(source)
    table = reader.read_all()
    table.validate(full=True)
    return table


def _row_group_of(path: str, stamp: _Stamp, row: int) -> tuple[int, int]:
    """Return the row group of a row, and the number of the first row in it."""
    first = 0
    metadata = _parquet_metadata(path, stamp)
    for group in range(metadata.num_row_groups):
        rows = metadata.row_group(group).num_rows
        if row < first + rows:
            if metadata.row_group(group).total_byte_size > MAX_GROUP_BYTES:
                megabytes = metadata.row_group(group).total_byte_size >> 20
                raise BadTable(
                    f"its row groups have {megabytes} MiB, at most {MAX_GROUP_BYTES >> 20} are unpacked; write it with a "
                    "smaller row_group_size"
                )
            return group, first
        first += rows
    raise BadTable(f"it has no row {row}")


@lru_cache(maxsize=4)
def _parquet_metadata(path: str, stamp: _Stamp) -> Any:
    return pq.read_metadata(path)


@lru_cache(maxsize=2)  # the image's and the mask's
def _row_group(path: str, stamp: _Stamp, column: str, group: int) -> pa.ChunkedArray:
    with pq.ParquetFile(path, pre_buffer=False) as file:
        return file.read_row_group(group, columns=[column], use_threads=False).column(column)


def _type_name(kind: pa.DataType) -> str:
    if pa.types.is_struct(kind) and {kind.field(number).name for number in range(kind.num_fields)} >= {
        "bytes"
    }:
        return IMAGE
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return "binary"
    return str(kind)[:40]


def _label_names(schema: pa.Schema, label: str | None) -> list[str] | None:
    """Return the names of the numbers in a column of the class ``ClassLabel``, which ``datasets`` keeps in the schema."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        names = features[label]["names"]
        return [str(name)[:80] for name in names]
    except (KeyError, TypeError, ValueError, RecursionError):
        return None


if __name__ == "__main__":
    main()
