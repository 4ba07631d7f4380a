"""Refuse Parquet files that are small on the disk and large in memory; no shard of ours is like that."""

from __future__ import annotations

from typing import Any

from afbench.core import AfbenchError

from .schema import DICTIONARY_COLUMNS

_WORDS = 1 << 20
"""More bytes than the few words of a dictionary column take, beside 16 a row."""


def refuse_bomb(file: Any, size: int) -> None:
    """Look at the footer of an open ``ParquetFile`` of ``size`` bytes before anything of it is decoded.

    Raises:
        AfbenchError: if it says that a column is compressed, larger than the file, or a dictionary that is no words.
    """
    metadata = file.metadata
    for group in range(metadata.num_row_groups):
        rows = metadata.row_group(group).num_rows
        for number in range(metadata.num_columns):
            column = metadata.row_group(group).column(number)
            name = str(column.path_in_schema)[:60]
            if column.compression != "UNCOMPRESSED":
                raise AfbenchError(f"column {name} is {column.compression}-compressed, as no shard is")
            if not 0 <= column.total_uncompressed_size <= size:
                raise AfbenchError(f"column {name} claims more bytes than the file has")
            # a short page of codes can unfold to gigabytes of one long word
            coded = any("DICT" in encoding for encoding in column.encodings)
            if coded and name not in DICTIONARY_COLUMNS:
                raise AfbenchError(f"column {name} is a dictionary, as in no shard")
            if coded and column.total_uncompressed_size > _WORDS + 16 * rows:
                raise AfbenchError(f"the dictionary of column {name} is larger than words are")
