"""Random access to the images of Parquet shards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from afbench.core import AfbenchError, BadSample, ByteImage
from afbench.images import decode_stored
from afbench.sandbox import memory_for
from afbench.storage.config_manifest import ConfigManifest, ShardRecord, SplitManifest
from afbench.storage.guard import refuse_bomb
from afbench.storage.manifests import ORIGINALS, open_benchmark
from afbench.storage.probe import probe_tables
from afbench.storage.shards import require_size

from .store import ROW_COLUMNS, Row, make_row

Ranges: TypeAlias = list[tuple[int, int]]
"""Offset in the file and length of every value."""


class ParquetStore:
    """Reads a benchmark's folder. Keeps no file open: once it has read a row group, it knows where each image lies."""

    def __init__(self, folder: Path) -> None:
        """Read the manifests.

        Raises:
            UsageError: if the folder is no finished benchmark.
            AfbenchError: if it is damaged.
        """
        self.folder = folder
        self.configs: Mapping[str, ConfigManifest] = open_benchmark(folder).configs
        self._ranges: dict[tuple[str, int, str], Ranges | None] = {}

    def __getstate__(self) -> dict[str, Any]:
        # the ranges of a large benchmark are many; each process finds those it needs
        return {**self.__dict__, "_ranges": {}}

    def holds_images(self, config: str, split: str) -> bool:
        return split in self.configs[config].splits

    def rows(self, config: str, split: str) -> Sequence[Row]:
        """List a config's images of one split, in order, without reading one.

        Raises:
            AfbenchError: if a shard is missing, damaged or of another size, or holds another number of rows, than its manifest says.
        """
        rows: list[Row] = []
        names = [*ROW_COLUMNS, *([] if config in ORIGINALS else ["original_sha256"])]
        shards = self.configs[config].splits.get(split, SplitManifest()).shards
        self._refuse_others(shards)
        for shard in shards:
            path = shard.path
            try:
                file = pq.ParquetFile(self.folder / path, pre_buffer=False, page_checksum_verification=True)
                with file:
                    row_count = file.metadata.num_rows
                    for group in range(file.num_row_groups if row_count == shard.rows else 0):
                        table = file.read_row_group(group, columns=names, use_threads=False).to_pylist()
                        rows += [
                            make_row(columns, config, (path, group, row)) for row, columns in enumerate(table)
                        ]
            except (OSError, pa.ArrowException, KeyError, TypeError, AfbenchError) as error:
                raise _damaged(self.folder, path, error) from None
            if row_count != shard.rows:
                raise _damaged(self.folder, path, f"{row_count} rows, expected {shard.rows}")
        return rows

    def _refuse_others(self, shards: Sequence[ShardRecord]) -> None:
        """Refuse shards of another size than recorded; those packed in another way than afbench's are decoded to know whether they
        would take much memory.
        """
        packed: dict[str, int] = {}
        for shard in shards:
            path = shard.path
            try:
                size = (self.folder / path).stat().st_size
                with pq.ParquetFile(self.folder / path, pre_buffer=False) as file:
                    refuse_bomb(file, size)
            except (OSError, pa.ArrowException) as error:
                raise _damaged(self.folder, path, error) from None
            except AfbenchError:
                packed[path] = memory_for(size)
            else:
                require_size(self.folder, shard)
        for problem in probe_tables(self.folder, packed, batch_rows=16):
            raise _damaged(self.folder, problem.path, problem.message)

    def image(self, row: Row, original: ByteImage | None = None) -> ByteImage:
        """Read an image, uint8 RGB ``(H, W, 3)``.

        Raises:
            AfbenchError: if it cannot be read or is not of the size its row says.
        """
        return self._decoded(row, "image", (row.height, row.width, 3))

    def mask(self, row: Row) -> ByteImage:
        """Read a mask, uint8 ``(H, W)``, 255 where forged.

        Raises:
            AfbenchError: as ``image``.
        """
        return self._decoded(row, "mask", (row.height, row.width))

    def _decoded(self, row: Row, column: str, shape: tuple[int, int] | tuple[int, int, int]) -> ByteImage:
        path = row.location[0]
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
        path, group, number = row.location
        key = path, group, column
        if key not in self._ranges:
            values, new_ranges = _locate(self.folder / path, group, column)
            self._ranges[key] = new_ranges
            return values[number]
        ranges = self._ranges[key]
        if ranges is None:  # packed in a way that afbench does not write: right, if slow
            return _locate(self.folder / path, group, column)[0][number]
        offset, length = ranges[number]
        with (self.folder / path).open("rb") as file:
            file.seek(offset)
            return file.read(length)


def _locate(path: Path, group: int, column: str) -> tuple[list[bytes], Ranges | None]:
    """Read the values of a row group, and find where they lie in the file, if they lie there uncompressed."""
    with pq.ParquetFile(path, pre_buffer=False, page_checksum_verification=True) as file:
        table = file.read_row_group(group, columns=[f"{column}.bytes"], use_threads=False)
        values: list[bytes] = [cell["bytes"] for cell in table.column(column).to_pylist()]
        group_metadata = file.metadata.row_group(group)
        chunks = [group_metadata.column(number) for number in range(group_metadata.num_columns)]
        (data_chunk,) = (chunk for chunk in chunks if chunk.path_in_schema == f"{column}.bytes")
    with path.open("rb") as stream:
        stream.seek(data_chunk.data_page_offset)
        data = stream.read(data_chunk.total_compressed_size)
    ranges, end = [], 0
    for value in values:
        # searching is safe: wherever these bytes are found, they are the image; even a copy in the page's header would do
        start = data.find(value, end)
        if start < 0:
            return values, None
        end = start + len(value)
        ranges.append((data_chunk.data_page_offset + start, len(value)))
    return values, ranges


def _damaged(folder: Path, path: str, problem: object) -> AfbenchError:
    detail = " ".join(str(problem).split())[:160]
    return AfbenchError(
        f"shard '{path}' cannot be read ({detail}); `afbench verify {folder}` says what is damaged"
    )
