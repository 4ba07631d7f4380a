"""Open Parquet and HDF5 files of strangers in a process with little memory and time; run as a module.

JSON comes in on stdin; for each file that was examined a line goes out: its path and what is wrong with it, or nothing.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from afbench.core import AfbenchError
from afbench.sandbox import TOO_MUCH, lacks_memory, limit
from afbench.untrusted import require_name

from .guard import refuse_bomb
from .schema import arrow_schema, columns_of
from .shard_format import LABELS, format_of_path

_UNFOLDED_LATER = ("dictionary<", "_view", "run_end_encoded<")
"""Types whose values may share bytes that a later reader copies."""


def main() -> None:
    request = json.load(sys.stdin)
    for path, number in request["files"].items():
        limit(memory=request["memory"], seconds=request["seconds"])
        message = _problem(Path(request["folder"]), path, number, request)
        print(json.dumps([path, message]), flush=True)


def _problem(folder: Path, path: str, number: int, request: dict[str, Any]) -> str:
    try:
        if format_of_path(path) == "hdf5":
            return _hdf5_claim(folder, path, rows=number, decode=request["decode"])
        with pq.ParquetFile(folder / path, pre_buffer=False, page_checksum_verification=True) as file:
            if "batch_rows" in request:
                return _oversize(file, request["columns"], request["batch_rows"], largest=number)
            return _claim(file, folder, path, rows=number, decode=request["decode"])
    except AfbenchError as error:
        return str(error)
    except Exception as error:  # a stranger's bytes make the library raise almost anything
        message = " ".join(str(error).split())[:120]
        return (
            TOO_MUCH if lacks_memory(error) else f"is no readable {LABELS[format_of_path(path)]} ({message})"
        )


def _claim(file: Any, folder: Path, path: str, *, rows: int, decode: bool) -> str:
    refuse_bomb(file, (folder / path).stat().st_size)
    if not file.schema_arrow.equals(arrow_schema(columns_of(path.split("/")[1]))):
        return "has other columns than a shard of its config"
    if file.metadata.num_rows != rows:
        return f"holds {file.metadata.num_rows} rows, expected {rows}"
    for batch in file.iter_batches(batch_size=1024, columns=["sample_id"], use_threads=False):
        for (name,) in zip(*batch.to_pydict().values(), strict=True):
            require_name("sample", name)
    # as many at once as readers take, so that what is read here is read there
    for _ in file.iter_batches(batch_size=16, use_threads=False) if decode else ():
        pass
    return ""


def _hdf5_claim(folder: Path, path: str, *, rows: int, decode: bool) -> str:
    # imported late: most folders have no HDF5, and address space is short here
    from .hdf5 import pictures_of
    from .hdf5_read import reading_shard

    with reading_shard(folder / path) as shard:
        config = path.split("/")[1]
        if shard.config != config:
            return f"is a shard of config {shard.config}, expected {config}"
        if len(shard) != rows:
            return f"holds {len(shard)} rows, expected {rows}"
        for number in range(rows if decode else 0):
            for name in pictures_of(shard.content):
                shard.encoded(number, name)
    return ""


def _oversize(file: Any, columns: list[str] | None, batch_rows: int, *, largest: int) -> str:
    """Decode a file of any packing; say so if its values take more than ``largest`` bytes in a reader's memory."""
    total = 0
    for batch in file.iter_batches(batch_size=batch_rows, columns=columns, use_threads=False):
        total += sum(map(_unfolded_bytes, batch.columns))
        if total > largest:
            return TOO_MUCH
    return ""


def _unfolded_bytes(column: Any) -> int:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if any(kind in str(column.type) for kind in _UNFOLDED_LATER):
        raise AfbenchError(f"holds values of type {str(column.type)[:60]}")
    return int(column.nbytes)


if __name__ == "__main__":
    main()
