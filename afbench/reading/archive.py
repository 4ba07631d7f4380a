"""Random access to the images of an HDF5 archive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from afbench.core import AfbenchError, BadSample, ByteImage
from afbench.images import decode_stored
from afbench.storage.archive import ARCHIVE, open_checked
from afbench.storage.hdf5 import PICTURES
from afbench.storage.manifests import ORIGINALS, open_benchmark
from afbench.storage.residual import add_residual

from .rows import Row, make_row


class ArchiveStore:
    """An archive's folder. Keeps no file open: the checked shards say where in the file each picture lies."""

    def __init__(self, folder: Path) -> None:
        """Read the manifests.

        Raises:
            UsageError: if the folder is no finished archive.
            AfbenchError: if it is damaged.
        """
        self.folder = folder
        self.configs: Mapping[str, Mapping[str, Any]] = open_benchmark(folder).configs

    def holds_images(self, config: str, split: str) -> bool:
        """True if the images can be had without originals from elsewhere."""
        part = self.configs[config]["splits"].get(split, {})
        return bool(part) and part[ARCHIVE]["content"] == "images"

    def rows(self, config: str, split: str) -> Sequence[Row]:
        """What is known of a config's images of one split, in order, without decoding one.

        Raises:
            AfbenchError: if a shard is refused or holds another number of rows than its manifest says.
        """
        found: list[Row] = []
        for shard in self.configs[config]["splits"].get(split, {"shards": ()})["shards"]:
            path = shard["path"]
            held = open_checked(self.folder, path, config, split)
            try:
                if len(held) != shard["rows"]:
                    raise AfbenchError(f"'{path}' holds {len(held)} rows, expected {shard['rows']}")
                for row in range(len(held)):
                    places = [held.place(row, name) for name in PICTURES]
                    found.append(make_row(held.scalars(row), config, (path, *places[0]), places[1]))
            finally:
                held.close()
        return found

    def image(self, row: Row, original: ByteImage | None = None) -> ByteImage:
        """uint8 RGB ``(H, W, 3)``: of a residual, the image it makes of ``original``.

        Raises:
            AfbenchError: if it cannot be read, or an original is needed and not given.
        """
        stored = self._picture(row, row.place[1:], 3)
        if row.config in ORIGINALS:
            return stored
        if original is None:
            raise AfbenchError(f"{row.sample_id} of config {row.config} is a residual and needs its original")
        try:
            return add_residual(stored, original)
        except ValueError as problem:
            raise AfbenchError(f"{row.sample_id} of config {row.config}: {problem}") from None

    def mask(self, row: Row) -> ByteImage:
        """uint8 ``(H, W)``, 255 where forged; only the originals have it.

        Raises:
            AfbenchError: as ``image``.
        """
        return self._picture(row, row.mask_place, 2)

    def _picture(self, row: Row, place: tuple[int, int], dimensions: int) -> ByteImage:
        offset, length = place
        path = self.folder / row.place[0]
        try:
            with path.open("rb") as file:
                file.seek(offset)
                pixels = decode_stored(file.read(length), (row.height, row.width))
        except (OSError, BadSample) as problem:
            raise AfbenchError(f"'{path}' is damaged: {row.sample_id}: {problem}") from None
        if pixels.ndim != dimensions:
            raise AfbenchError(f"'{path}' is damaged: {row.sample_id} is of another kind of picture")
        return pixels
