"""Read one submitted Parquet file, in a process of its own with little memory and time; run as a module.

The file comes in on stdin and the masks go out on stdout, as frames of two lengths and two byte strings. A first length of
2**32 - 1 marks a problem: its code and what was found.
"""

from __future__ import annotations

import io
import struct
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from afbench.sandbox import TOO_MUCH, lacks_memory, limit

SECONDS = 120
PROBLEM = 2**32 - 1
FRAME = struct.Struct("<II")
_COLUMNS = {"sample_id", "mask"}


class Bad(Exception):
    """A problem to report: its code and what was found."""


def main() -> None:
    data = sys.stdin.buffer.read()
    max_rows, memory = map(int, sys.argv[1:])
    limit(memory=memory, seconds=SECONDS)
    out = sys.stdout.buffer
    try:
        for name, mask in _rows(data, max_rows):
            out.write(FRAME.pack(len(name), len(mask)) + name + mask)
    except Bad as problem:
        _report(out, *problem.args)
    except Exception as error:  # a stranger's bytes make the library raise almost anything
        if lacks_memory(error):
            _report(out, "AF011", TOO_MUCH)
        else:
            _report(out, "AF008", f"no readable Parquet ({type(error).__name__})")
    out.flush()


def _report(out: Any, code: str, message: str) -> None:
    encoded = message.encode()
    out.write(FRAME.pack(PROBLEM, len(encoded)) + code.encode() + encoded)


def _rows(data: bytes, max_rows: int) -> Iterator[tuple[bytes, bytes]]:
    with pq.ParquetFile(io.BytesIO(data), pre_buffer=False, page_checksum_verification=True) as file:
        if file.metadata.num_rows > max_rows:
            raise Bad("AF011", f"claims {file.metadata.num_rows} rows, at most {max_rows} are needed")
        schema = file.schema_arrow
        _check_columns(file, schema)
        # one row at a time: a dictionary lets thousands of rows share one large value
        for batch in file.iter_batches(batch_size=1, columns=["sample_id", "mask"], use_threads=False):
            (row,) = batch.to_pylist()
            name, mask = row["sample_id"], row["mask"]
            if isinstance(mask, dict):
                mask = mask.get("bytes")
            if not isinstance(name, str) or not isinstance(mask, bytes):
                raise Bad("AF007", "a row has no sample_id or no mask")
            yield name.encode("utf-8", "backslashreplace"), mask


def _check_columns(file: Any, schema: Any) -> None:
    floats = [field.name for field in schema if _is_float(field.type)]
    if floats:
        _refuse_floats(file, floats)
    if set(schema.names) != _COLUMNS or len(schema.names) != 2:
        raise Bad("AF007", f"has columns {', '.join(schema.names)[:200]}; expected sample_id and mask")
    kind = schema.field("mask").type
    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:  # as `datasets` stores an image
        kind = kind.field("bytes").type
    if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
        raise Bad("AF007", f"column mask is {str(kind)[:60]}; expected the bytes of a PNG")


def _is_float(kind: Any) -> bool:
    while pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        kind = kind.value_type
    return bool(pa.types.is_floating(kind))


def _flat(values: Any) -> Any:
    return _flat(values.flatten()) if values.type.num_fields else values


def _refuse_floats(file: Any, names: list[str]) -> None:
    """Refuse floats, and name bad values before the wrong type."""
    for batch in file.iter_batches(batch_size=64, columns=names, use_threads=False):
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            numbers = _flat(column).drop_null().to_numpy(zero_copy_only=False)
            if numbers.size and not (
                np.isfinite(numbers).all() and numbers.min() >= 0 and numbers.max() <= 1
            ):
                raise Bad("AF009", f"column {name[:60]} holds NaN, infinite values or values outside [0, 1]")
    raise Bad("AF007", f"column {names[0][:60]} holds floats; send masks as the bytes of a PNG")


if __name__ == "__main__":
    main()
