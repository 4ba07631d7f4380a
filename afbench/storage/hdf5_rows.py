"""Rows of HDF5 shards: those of a benchmark, which hold images and masks, and those of an archive, which holds residuals."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from afbench.core import AfbenchError
from afbench.images import encode_image

from .archive import attacked_image, open_checked
from .hdf5 import CHECKED, format_of, hdf5_file_bytes
from .hdf5_read import Hdf5Shard
from .manifests import CLEAN
from .schema import check_row
from .shard_format import config_of_path, split_of_path


def hdf5_bytes(config: str, split: str, rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Build the shard of a benchmark; rows carry ``image`` and ``mask`` as encoded bytes."""
    pictures, masks = [row["image"] for row in rows], [row["mask"] for row in rows]
    image_format = format_of(pictures, [(row["height"], row["width"]) for row in rows])
    return hdf5_file_bytes(
        config,
        split,
        rows,
        content="images",
        image_format=image_format,
        pictures=pictures,
        masks=masks,
        version=CHECKED,
    )


def read_hdf5_rows(folder: Path, path: str, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
    """Yield the rows of a shard as Parquet would give them; pictures are read only where their columns are among ``columns``.

    Raises:
        AfbenchError: if the shard is refused or is of another config or split than its path, a row names what is no name, or pictures are asked for and the archive has no
            originals.
    """
    with closing(open_checked(folder, path, config_of_path(path), split_of_path(path))) as shard:
        columns_to_read = set(columns) if columns else {*shard.columns, "image", "mask"}
        pictures = columns_to_read & {"image", "mask"}
        # only what is asked for: thirty columns take longer to gather than a small picture to read
        rows = (shard.scalars(number, {*columns_to_read, "sample_id"}) for number in range(len(shard)))
        for row in _with_pictures(folder, path, shard, rows, pictures) if pictures else rows:
            check_row(row)
            yield {name: value for name, value in row.items() if name in columns_to_read}


def _with_pictures(
    folder: Path, path: str, shard: Hdf5Shard, rows: Iterable[dict[str, Any]], pictures: set[str]
) -> Iterator[dict[str, Any]]:
    if shard.content == "residuals":
        yield from _with_originals(folder, path, shard, rows, pictures)
        return
    if not shard.has_masks:
        raise _without_originals(folder)
    for number, row in enumerate(rows):
        if "image" in pictures:
            row["image"] = shard.encoded(number)
        if "mask" in pictures:
            row["mask"] = shard.encoded(number, "mask_data")
        yield row


def _with_originals(
    folder: Path, path: str, shard: Hdf5Shard, rows: Iterable[dict[str, Any]], pictures: set[str]
) -> Iterator[dict[str, Any]]:
    """Put images together from residuals and the originals next to them."""
    # shard k of every config holds the same samples, under the same name
    base = open_checked(folder, f"data/{CLEAN}/{Path(path).name}", CLEAN, shard.split)
    try:
        if not base.has_masks:
            raise _without_originals(folder)
        rows_by_id = {raw.decode(): number for number, raw in enumerate(base.columns["sample_id"])}
        for number, row in enumerate(rows):
            original_row = rows_by_id.get(row["sample_id"])
            if original_row is None:
                raise AfbenchError(f"{row['sample_id']} of '{path}' has no original in the archive")
            if "image" in pictures:
                image = attacked_image(shard, number, base.picture(original_row))
                row["image"] = encode_image(image, "png" if shard.image_format == "png" else "webp")
            if "mask" in pictures:
                row["mask"] = base.encoded(original_row, "mask_data")
            yield row
    finally:
        base.close()


def _without_originals(folder: Path) -> AfbenchError:
    return AfbenchError(f"'{folder}' is an archive without originals; `afbench restore` puts images together")
