"""Random access to the images of Parquet shards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from afbench.core import AfbenchError, BadSample, ByteImage
from afbench.images import decode_stored
from afbench.storage.manifests import ORIGINALS, open_benchmark

from .rows import FACTS, Row, make_row

Ranges: TypeAlias = list[tuple[int, int]]
"""Offset in the file and length of every value."""


class ParquetStore:
    """A benchmark's folder. Keeps no file open: once a row group was read, it is known where in the file each image lies."""

    def __init__(self, folder: Path) -> None:
        """Read the manifests.

        Raises:
            UsageError: if the folder is no finished benchmark.
            AfbenchError: if it is damaged.
        """
        self.folder = folder
        self.configs: Mapping[str, Mapping[str, Any]] = open_benchmark(folder).configs
        self._ranges: dict[tuple[str, int, str], Ranges | None] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_ranges": {}}

    def holds_images(self, config: str, split: str) -> bool:
        return split in self.configs[config]["splits"]

    def rows(self, config: str, split: str) -> Sequence[Row]:
        """What is known of a config's images of one split, in order, without reading one.

        Raises:
            AfbenchError: if a shard is missing, damaged or holds another number of rows than its manifest says.
        """
        found: list[Row] = []
        names = [*FACTS, *([] if config in ORIGINALS else ["original_sha256"])]
        for shard in self.configs[config]["splits"].get(split, {"shards": ()})["shards"]:
            path = shard["path"]
            try:
                file = pq.ParquetFile(self.folder / path, pre_buffer=False, page_checksum_verification=True)
                with file:
                    held = file.metadata.num_rows
                    for group in range(file.num_row_groups if held == shard["rows"] else 0):
                        table = file.read_row_group(group, columns=names, use_threads=False).to_pylist()
                        found += [
                            make_row(facts, config, (path, group, row)) for row, facts in enumerate(table)
                        ]
            except (OSError, pa.ArrowException, KeyError, TypeError, AfbenchError) as error:
                raise _damaged(self.folder, path, error) from None
            if held != shard["rows"]:
                raise _damaged(self.folder, path, f"{held} rows, expected {shard['rows']}")
        return found

    def image(self, row: Row, original: ByteImage | None = None) -> ByteImage:
        """uint8 RGB ``(H, W, 3)``.

        Raises:
            AfbenchError: if it cannot be read or is not of the size its row says.
        """
        return self._decoded(row, "image", (row.height, row.width, 3))

    def mask(self, row: Row) -> ByteImage:
        """uint8 ``(H, W)``, 255 where forged.

        Raises:
            AfbenchError: as ``image``.
        """
        return self._decoded(row, "mask", (row.height, row.width))

    def _decoded(self, row: Row, column: str, shape: tuple[int, int] | tuple[int, int, int]) -> ByteImage:
        path = row.place[0]
        try:
            pixels = decode_stored(self._encoded(row, column), shape[:2])
        except BadSample as problem:
            raise _damaged(self.folder, path, f"{row.sample_id}: {problem}") from None
        except (OSError, pa.ArrowException, KeyError, TypeError) as error:
            raise _damaged(self.folder, path, error) from None
        if pixels.shape != shape:
            raise _damaged(self.folder, path, f"{row.sample_id}: {column} is of another kind of picture")
        return pixels

    def _encoded(self, row: Row, column: str) -> bytes:
        path, group, number = row.place
        key = path, group, column
        if key not in self._ranges:
            values, ranges = _locate(self.folder / path, group, column)
            self._ranges[key] = ranges
            return values[number]
        known = self._ranges[key]
        if known is None:  # packed in a way that afbench does not write: right, if slow
            return _locate(self.folder / path, group, column)[0][number]
        offset, length = known[number]
        with (self.folder / path).open("rb") as file:
            file.seek(offset)
            return file.read(length)


def _locate(path: Path, group: int, column: str) -> tuple[list[bytes], Ranges | None]:
    """The values of a row group, and where they lie in the file, if they lie there as they are."""
    with pq.ParquetFile(path, pre_buffer=False, page_checksum_verification=True) as file:
        table = file.read_row_group(group, columns=[f"{column}.bytes"], use_threads=False)
        values: list[bytes] = [one["bytes"] for one in table.column(column).to_pylist()]
        held = file.metadata.row_group(group)
        chunks = [held.column(number) for number in range(held.num_columns)]
        (chunk,) = (one for one in chunks if one.path_in_schema == f"{column}.bytes")
    with path.open("rb") as stream:
        stream.seek(chunk.data_page_offset)
        data = stream.read(chunk.total_compressed_size)
    ranges, end = [], 0
    for value in values:
        # the very bytes, wherever they are found: a copy that the page's header holds would be as good
        start = data.find(value, end)
        if start < 0:
            return values, None
        end = start + len(value)
        ranges.append((chunk.data_page_offset + start, len(value)))
    return values, ranges


def _damaged(folder: Path, path: str, problem: object) -> AfbenchError:
    told = " ".join(str(problem).split())[:160]
    return AfbenchError(
        f"shard '{path}' cannot be read ({told}); `afbench verify {folder}` says what is damaged"
    )
