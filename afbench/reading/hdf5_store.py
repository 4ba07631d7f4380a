"""Random access to the images of HDF5 shards, of a benchmark or an archive."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from afbench.core import AfbenchError, BadSample, ByteImage
from afbench.images import decode_stored
from afbench.storage.archive import open_checked
from afbench.storage.config_manifest import ConfigManifest, SplitManifest
from afbench.storage.hdf5 import PICTURES
from afbench.storage.manifests import open_benchmark
from afbench.storage.residual import add_residual

from .store import Row, make_row


class Hdf5Store:
    """Reads the folder of a benchmark or archive. Keeps no file open: the checked shards say where in the file each picture lies."""

    def __init__(self, folder: Path) -> None:
        """Read the manifests.

        Raises:
            UsageError: if the folder is no finished benchmark or archive.
            AfbenchError: if it is damaged.
        """
        self.folder = folder
        self.configs: Mapping[str, ConfigManifest] = open_benchmark(folder).configs

    def holds_images(self, config: str, split: str) -> bool:
        """Return whether the images can be read without originals from elsewhere."""
        part = self.configs[config].splits.get(split)
        return part is not None and (part.archive is None or part.archive["content"] == "images")

    def rows(self, config: str, split: str) -> Sequence[Row]:
        """List a config's images of one split, in order, without decoding one.

        Raises:
            AfbenchError: if a shard is refused or holds another number of rows than its manifest says.
        """
        rows: list[Row] = []
        for shard in self.configs[config].splits.get(split, SplitManifest()).shards:
            path = shard.path
            shard_file = open_checked(self.folder, path, config, split)
            try:
                if len(shard_file) != shard.rows:
                    raise AfbenchError(f"'{path}' holds {len(shard_file)} rows, expected {shard.rows}")
                for row in range(len(shard_file)):
                    locations = [shard_file.place(row, name) for name in PICTURES]
                    image_sum, mask_sum = (shard_file.checksum(row, name) for name in PICTURES)
                    rows.append(
                        make_row(
                            shard_file.scalars(row),
                            config,
                            (path, *locations[0]),
                            locations[1],
                            residual=shard_file.content == "residuals",
                            checksums=(image_sum, mask_sum),
                        )
                    )
            finally:
                shard_file.close()
        return rows

    def image(self, row: Row, original: ByteImage | None = None) -> ByteImage:
        """Read an image, uint8 RGB ``(H, W, 3)``; of a residual, the image it makes of ``original``.

        Raises:
            AfbenchError: if it cannot be read, or it needs an original and ``original`` is None.
        """
        stored = self._picture(row, row.location[1:], 3, row.checksums[0])
        if not row.residual:
            return stored
        if original is None:
            raise AfbenchError(f"{row.sample_id} of config {row.config} is a residual and needs its original")
        try:
            return add_residual(stored, original)
        except ValueError as problem:
            raise AfbenchError(f"{row.sample_id} of config {row.config}: {problem}") from None

    def mask(self, row: Row) -> ByteImage:
        """Read a mask, uint8 ``(H, W)``, 255 where forged; in an archive only the originals have one.

        Raises:
            AfbenchError: as ``image``.
        """
        return self._picture(row, row.mask_location, 2, row.checksums[1])

    def _picture(
        self, row: Row, location: tuple[int, int], dimensions: int, checksum: int | None
    ) -> ByteImage:
        offset, length = location
        path = self.folder / row.location[0]
        try:
            # without HDF5: an open file of it cannot go to other processes, and the shard was checked when it was listed
            with path.open("rb") as file:
                file.seek(offset)
                data = file.read(length)
            if checksum not in (None, zlib.crc32(data)):
                raise BadSample("other_bytes", "its checksum is another")
            pixels = decode_stored(data, (row.height, row.width))
        except (OSError, BadSample) as problem:
            raise AfbenchError(f"'{path}' is damaged: {row.sample_id}: {problem}") from None
        if pixels.ndim != dimensions:
            raise AfbenchError(f"'{path}' is damaged: {row.sample_id} is of another kind of picture")
        return pixels
